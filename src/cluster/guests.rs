//! Keys that are here although this node does not own their slots: on their way to it, or left over.
//!
//! ```text
//!     not owned, no keys here  --- begins to be sent here --->  arriving  --- all is sent --->  complete
//!             ^                                                    |                               |
//!             |                                              given up, or its owner changed        | becomes ours
//!             | swept                                              v                               v
//!             '------------------------------------------------  dead  <--- lost ---  owned and served
//!                                                                  | becomes ours before it is swept
//!                                                                  v
//!                                                             owned, held --- swept --> owned and served
//! ```
//!
//! A slot that becomes ours brings its keys only if they are complete: then whoever owned it has held it since, and they are
//! what it held. Else its owner has failed, and the slot begins empty. A slot is hidden from clients while it is arriving or
//! dead; the keys of dead slots are removed in the background (server/moving). All of this changes with the view, at once.

use std::sync::Arc;

use super::SlotSet;
use super::map::{Map, NOBODY};
use super::node::NodeId;
use super::slots::SLOTS;

/// What [`super::Cluster`] knows of such keys.
#[derive(Clone, Default)]
pub(super) struct Guests {
    /// Not owned; there may be keys.
    present: SlotSet,
    /// Those of `present` that are being sent here.
    arriving: SlotSet,
    /// Those of `arriving` of which nothing is missing.
    complete: SlotSet,
    /// Owned, and to be emptied before they are served.
    unready: SlotSet,
}

/// Why keys of these slots cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotExpected {
    /// They are not the sender's, or they are ours.
    Owner,
    /// What is left of them from before has to go first.
    LeftOvers,
}

impl Guests {
    /// Takes a new map over. Gives the slots that are ours now and have to be held until they are swept.
    pub fn follow(&mut self, me: NodeId, before: &Map, after: &Map) -> &SlotSet {
        let index = |map: &Map| map.index(me).unwrap_or(NOBODY);
        let (was, is) = (index(before), index(after));
        // Who came back after it had failed owned nothing meanwhile, even if it has not seen that map.
        let life = |map: &Map| map.node(me).map(|node| node.incarnation);
        let is_same_life = life(before) == life(after);
        for slot in 0..SLOTS {
            let number = slot as u16;
            let was_ours = was != NOBODY && before.owners[slot] == was;
            let is_ours = is != NOBODY && after.owners[slot] == is;
            if was_ours && (!is_ours || !is_same_life) {
                self.lose(number);
            }
            if is_ours && (!was_ours || !is_same_life) {
                self.gain(number);
            }
            let is_elsewhere = || {
                let owner = |map: &Map| map.owner(number).map(|node| (node.id, node.incarnation));
                owner(before) != owner(after)
            };
            if self.arriving.contains(number) && is_elsewhere() {
                self.arriving.remove(number);
                self.complete.remove(number);
            }
        }
        &self.unready
    }

    fn lose(&mut self, slot: u16) {
        self.unready.remove(slot);
        self.present.insert(slot);
    }

    fn gain(&mut self, slot: u16) {
        if self.present.contains(slot) && !self.complete.contains(slot) {
            self.unready.insert(slot);
        }
        self.present.remove(slot);
        self.arriving.remove(slot);
        self.complete.remove(slot);
    }

    /// Keys of these slots will come from this node.
    pub fn expect(&mut self, map: &Map, from: NodeId, slots: &SlotSet) -> Result<(), NotExpected> {
        let owner = map.index(from).ok_or(NotExpected::Owner)?;
        if slots
            .iter()
            .any(|slot| map.owners[usize::from(slot)] != owner)
        {
            return Err(NotExpected::Owner);
        }
        if slots.iter().any(|slot| self.present.contains(slot)) {
            return Err(NotExpected::LeftOvers);
        }
        for slot in slots.iter() {
            self.present.insert(slot);
            self.arriving.insert(slot);
        }
        Ok(())
    }

    /// All keys of these slots are here.
    pub fn complete(&mut self, slots: &SlotSet) {
        let arriving = slots.iter().filter(|slot| self.arriving.contains(*slot));
        for slot in arriving {
            self.complete.insert(slot);
        }
    }

    /// Whether all keys of a slot are here that is not ours yet.
    pub fn is_complete(&self, slot: u16) -> bool {
        self.complete.contains(slot)
    }

    /// No more keys of these slots will come, and those that came are worth nothing.
    pub fn abandon(&mut self, slots: &SlotSet) {
        for slot in slots.iter() {
            self.arriving.remove(slot);
            self.complete.remove(slot);
        }
    }

    /// There is no key of these slots, which were dead when the search began. Gives those that need no hold any more.
    pub fn emptied(&mut self, slots: &SlotSet) -> SlotSet {
        let mut ready = SlotSet::default();
        for slot in slots.iter() {
            if self.unready.contains(slot) {
                self.unready.remove(slot);
                ready.insert(slot);
            }
            if !self.arriving.contains(slot) {
                self.present.remove(slot);
            }
        }
        ready
    }

    /// Slots whose keys clients must not see.
    pub fn hidden(&self) -> Option<Arc<SlotSet>> {
        let slots = union(&self.present, &self.unready);
        (!slots.is_empty()).then(|| Arc::new(slots))
    }

    /// Slots whose keys are to be removed.
    pub fn dead(&self) -> Option<Arc<SlotSet>> {
        let mut slots = union(&self.present, &self.unready);
        self.arriving.iter().for_each(|slot| slots.remove(slot));
        (!slots.is_empty()).then(|| Arc::new(slots))
    }
}

fn union(a: &SlotSet, b: &SlotSet) -> SlotSet {
    let mut union = a.clone();
    b.iter().for_each(|slot| union.insert(slot));
    union
}
