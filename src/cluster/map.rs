//! Who owns which slot: the state that all nodes agree on.
//!
//! A [`Map`] is what the replicated log has led to; it changes by [`Change`]s alone, one after the other, and every node that
//! applies the same changes has the same map. Each change that does something makes a new epoch; changes that are made together
//! ([`Map::stage`]) make one. Nothing here waits, reads a clock or draws lots.
//!
//! The owner of a slot changes in two ways: the old owner says that it has handed it over ([`Change::Moved`]), or the old
//! owner is gone ([`Change::Failed`], [`Change::Forget`]). Where slots should be is [`Map::targets`], which the ring computes from
//! the nodes that are up and from where slots should have been before; an owner that is not the target of one of its slots moves
//! it there.
//!
//! What always holds, whatever changes come in whatever order:
//!
//! - Every slot has an owner and a target if a node is up. Targets are nodes that are up; only if none is, those that leave.
//! - A node that has failed owns nothing. One that leaves owns something, or it is not there any more.
//! - `nodes` are in the order of their names, each name once; all indexes point into it.
//!
//! Cost: 0.1 to 0.6 ms for a change of nodes or weights, be they 3 or 1,000; some microseconds for one of owners
//! (benches/route.rs). As bytes a map has 33 kB, with 1,000 nodes 105.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::node::{Node, NodeId, NodeState};
use super::ring;
use super::slots::{Pins, SLOTS};

/// No node.
pub const NOBODY: u16 = u16::MAX;

/// The most nodes of a ring.
pub const MAX_NODES: usize = 1024;

/// The state that all nodes agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Counts the changes.
    pub epoch: u64,
    /// The nodes, in the order of their names.
    pub nodes: Vec<Node>,
    /// For each slot the index of its owner in `nodes`, or [`NOBODY`].
    pub owners: Vec<u16>,
    /// For each slot where it should be, in the same way.
    pub targets: Vec<u16>,
    /// Which keys share a slot whatever their names are.
    pub pins: Pins,
}

/// An entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A node joins, comes back, or has other addresses or another weight. The first one gets all slots. One that comes back
    /// with a new incarnation while it owns slots keeps them: they are empty; if it was leaving, it stays now. What an
    /// earlier incarnation said comes too late and is ignored.
    ///
    /// A node that had failed comes back with a greater incarnation than it had, whatever it says itself: whoever finds
    /// its lease over a second time means the one before. It reads in the map which it has.
    ///
    /// A newcomer takes the place of a node that failed at the same address, and has lost its name with its disk. Beyond
    /// [`MAX_NODES`] it takes that of any node that has failed; else it is refused.
    Join(Node),
    /// A node wants to go: its slots are to be moved, and it is removed when it has none. The last one that is up cannot.
    Leave(NodeId),
    /// The lease of a node with this incarnation is over: others own its slots now, empty. If it was leaving, it is gone.
    Failed(NodeId, u64),
    /// A node is not wanted any more, and removed; what it owns is lost if it was not moved before. Only right for a node
    /// whose lease is over: nothing keeps one that is alive from answering until it learns of this.
    Forget(NodeId),
    /// A node's share changes.
    Weight(NodeId, u32),
    /// Slots were handed over. Those that `from` does not own (any more), or that should be elsewhere by now, stay.
    Moved {
        /// The slots.
        slots: Vec<u16>,
        /// Who owned them until now.
        from: NodeId,
        /// Who has their keys.
        to: NodeId,
    },
}

/// What changes that are made together have left to do: see [`Map::stage`].
#[derive(Debug, Default)]
pub struct Staged {
    has_changed: bool,
    /// Whether slots are to be placed anew.
    is_due: bool,
    /// Whether slots were handed over: who did so may have none any more.
    has_handed_over: bool,
    /// Nodes whose share may have grown.
    shares: Vec<NodeId>,
    numbers: Numbers,
}

/// For each node the index by which the slots still name it, if any: when many nodes come and go the slots are looked at once.
/// None: they name all nodes by the indexes that they have.
#[derive(Debug, Default)]
struct Numbers(Option<Vec<u16>>);

impl Numbers {
    fn of(&mut self, nodes: &[Node]) -> &mut Vec<u16> {
        self.0
            .get_or_insert_with(|| (0..).take(nodes.len()).collect())
    }
}

/// What a change means for where slots should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It did nothing at all.
    Nothing,
    /// They should be where they were.
    Nowhere,
    /// So they should, and some have come there.
    HandOver,
    /// Some should be elsewhere.
    Away,
    /// The same, and this node may have more.
    Share(NodeId),
}

impl Map {
    /// A ring without nodes.
    pub fn new(pins: Pins) -> Map {
        Map {
            epoch: 0,
            nodes: Vec::new(),
            owners: vec![NOBODY; SLOTS],
            targets: vec![NOBODY; SLOTS],
            pins,
        }
    }

    /// The node of this name.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.index(id).map(|index| &self.nodes[usize::from(index)])
    }

    /// Where it stands in `nodes`.
    pub fn index(&self, id: NodeId) -> Option<u16> {
        self.place_of(id).ok().map(|index| index as u16)
    }

    /// The owner of a slot.
    #[inline]
    pub fn owner(&self, slot: u16) -> Option<&Node> {
        self.nodes.get(usize::from(self.owners[usize::from(slot)]))
    }

    /// Whether every slot has an owner that has not failed.
    pub fn is_covered(&self) -> bool {
        self.owners.iter().all(|owner| {
            let node = self.nodes.get(usize::from(*owner));
            node.is_some_and(|node| node.state != NodeState::Failed)
        })
    }

    /// The order in which SCAN goes through the nodes: a number from 1 on that depends on the node's name (two nodes with
    /// the same number are rare, and then the second has the next), and the node's index. Ascending, below 2^21.
    pub fn scan_tags(&self) -> Vec<(u64, u16)> {
        let number = |node: &Node| {
            let [a, b, c, ..] = node.id.0;
            (u64::from(a) << 12 | u64::from(b) << 4 | u64::from(c) >> 4) + 1
        };
        let here = self.nodes.iter().enumerate();
        let here = here.filter(|(_, node)| node.state != NodeState::Failed);
        let mut tags: Vec<(u64, u16)> = here
            .map(|(index, node)| (number(node), index as u16))
            .collect();
        tags.sort_unstable();
        for at in 1..tags.len() {
            tags[at].0 = tags[at].0.max(tags[at - 1].0 + 1);
        }
        tags
    }

    /// The slots that a node owns, as ranges with both ends, in ascending order.
    pub fn ranges(&self, id: NodeId) -> Vec<(u16, u16)> {
        let Some(index) = self.index(id) else {
            return Vec::new();
        };
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for slot in slots_of(&self.owners, index) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }

    /// How many slots the node of an index owns; of [`NOBODY`] none.
    pub fn owned(&self, index: u16) -> usize {
        match index {
            NOBODY => 0,
            _ => slots_of(&self.owners, index).count(),
        }
    }

    /// What a node still has to move: for each other that should have some of its slots these slots, in ascending order.
    pub fn moves_from(&self, id: NodeId) -> Vec<(NodeId, Vec<u16>)> {
        let Some(index) = self.index(id) else {
            return Vec::new();
        };
        let mut moves: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        for slot in slots_of(&self.owners, index) {
            let target = self.targets[usize::from(slot)];
            if target != index && target != NOBODY {
                moves.entry(target).or_default().push(slot);
            }
        }
        let named = |(target, slots)| (self.nodes[usize::from(target)].id, slots);
        moves.into_iter().map(named).collect()
    }

    /// Whether a map that was read from a disk or a peer is one that changes can have led to, as far as others rely on it:
    /// without this, indexes may point anywhere.
    pub fn is_sound(&self) -> bool {
        let is_known = |index: &u16| *index == NOBODY || usize::from(*index) < self.nodes.len();
        let are_known = |indexes: &[u16]| indexes.len() == SLOTS && indexes.iter().all(is_known);
        are_known(&self.owners)
            && are_known(&self.targets)
            && self.nodes.len() <= MAX_NODES
            && self.nodes.is_sorted_by(|a, b| a.id < b.id)
            && self.pins.databases.len() + self.pins.prefixes.len() <= Pins::MAX
            && self.pins.databases.is_sorted()
            && !self.pins.prefixes.iter().any(Vec::is_empty)
    }

    /// What a change does. False: nothing, and the epoch is what it was.
    pub fn apply(&mut self, change: &Change) -> bool {
        let mut staged = Staged::default();
        self.stage(change, &mut staged);
        self.settle(staged)
    }

    /// What a change does, but for where slots should be then: [`Map::settle`] says so after the last one of those that are
    /// made together. False: nothing.
    ///
    /// Changes that are made together lead to what they lead to one by one, but for where slots should be, which is said once
    /// after all of them; those that nobody owns go there. Nodes that join a ring without nodes thus have their slots at once.
    pub fn stage(&mut self, change: &Change, staged: &mut Staged) -> bool {
        let effect = match change {
            Change::Join(node) => self.join(node, &mut staged.numbers),
            Change::Leave(id) => self.leave(*id, &mut staged.numbers),
            Change::Failed(id, incarnation) => self.failed(*id, *incarnation, &mut staged.numbers),
            Change::Forget(id) => self.forget(*id, &mut staged.numbers),
            Change::Weight(id, weight) => self.weight(*id, *weight),
            Change::Moved { slots, from, to } => {
                // It goes by the targets.
                self.place_staged(staged);
                self.moved(slots, *from, *to)
            }
        };
        match effect {
            Effect::Nothing => return false,
            Effect::Nowhere => {}
            Effect::HandOver => staged.has_handed_over = true,
            Effect::Away => staged.is_due = true,
            Effect::Share(id) => {
                staged.is_due = true;
                staged.shares.push(id);
            }
        }
        staged.has_changed = true;
        true
    }

    /// After changes that were staged: a new epoch, if any of them did something. Whether one did.
    pub fn settle(&mut self, mut staged: Staged) -> bool {
        self.place_staged(&mut staged);
        if staged.has_handed_over {
            self.remove_those_who_left();
        }
        let changes = staged.has_changed;
        self.epoch = self.epoch.saturating_add(u64::from(changes));
        changes
    }

    fn place_staged(&mut self, staged: &mut Staged) {
        self.renumber(&mut staged.numbers);
        let shares = std::mem::take(&mut staged.shares);
        if std::mem::take(&mut staged.is_due) {
            self.place_slots(&shares);
        }
    }

    fn join(&mut self, node: &Node, numbers: &mut Numbers) -> Effect {
        match self.place_of(node.id) {
            Ok(index) => self.come_back(index, node),
            Err(_) => self.join_first_time(node, numbers),
        }
    }

    fn come_back(&mut self, index: usize, node: &Node) -> Effect {
        let known = &self.nodes[index];
        if node.incarnation < known.incarnation && known.state != NodeState::Failed {
            return Effect::Nothing;
        }
        let is_restarted = node.incarnation > known.incarnation;
        let (state, incarnation) = match known.state {
            NodeState::Leaving if !is_restarted => (NodeState::Leaving, node.incarnation),
            NodeState::Failed => {
                let next = known.incarnation.saturating_add(1);
                (NodeState::Up, node.incarnation.max(next))
            }
            NodeState::Up | NodeState::Leaving => (NodeState::Up, node.incarnation),
        };
        let next = Node {
            state,
            incarnation,
            ..node.clone()
        };
        if next == *known {
            return Effect::Nothing;
        }
        let keeps_share = next.state == known.state && next.weight == known.weight;
        self.nodes[index] = next;
        match keeps_share {
            true => Effect::Nowhere,
            false => Effect::Share(node.id),
        }
    }

    fn join_first_time(&mut self, node: &Node, numbers: &mut Numbers) -> Effect {
        let is_failed = |known: &Node| known.state == NodeState::Failed;
        let is_same_place = |known: &Node| is_failed(known) && known.bus == node.bus;
        while let Some(index) = self.nodes.iter().position(is_same_place) {
            self.remove(index, numbers);
        }
        if self.nodes.len() >= MAX_NODES {
            let Some(index) = self.nodes.iter().position(is_failed) else {
                return Effect::Nothing;
            };
            self.remove(index, numbers);
        }
        let index = self.place_of(node.id).unwrap_or_else(|index| index);
        self.insert(index, node.clone(), numbers);
        self.nodes[index].state = NodeState::Up;
        Effect::Share(node.id)
    }

    fn leave(&mut self, id: NodeId, numbers: &mut Numbers) -> Effect {
        let Ok(index) = self.place_of(id) else {
            return Effect::Nothing;
        };
        let is_other_up = |(other, node): (usize, &Node)| other != index && node.is_up();
        match self.nodes[index].state {
            NodeState::Up if self.nodes.iter().enumerate().any(is_other_up) => {
                self.nodes[index].state = NodeState::Leaving;
                Effect::Away
            }
            NodeState::Up | NodeState::Leaving => Effect::Nothing,
            NodeState::Failed => {
                self.remove(index, numbers);
                Effect::Nowhere
            }
        }
    }

    fn failed(&mut self, id: NodeId, incarnation: u64, numbers: &mut Numbers) -> Effect {
        let Ok(index) = self.place_of(id) else {
            return Effect::Nothing;
        };
        let node = &mut self.nodes[index];
        if node.incarnation != incarnation {
            return Effect::Nothing;
        }
        match node.state {
            NodeState::Failed => return Effect::Nothing,
            NodeState::Leaving => self.remove(index, numbers),
            NodeState::Up => {
                node.state = NodeState::Failed;
                self.renumber(numbers);
                for owner in &mut self.owners {
                    if usize::from(*owner) == index {
                        *owner = NOBODY;
                    }
                }
            }
        }
        Effect::Away
    }

    fn forget(&mut self, id: NodeId, numbers: &mut Numbers) -> Effect {
        let Ok(index) = self.place_of(id) else {
            return Effect::Nothing;
        };
        self.remove(index, numbers);
        Effect::Away
    }

    fn weight(&mut self, id: NodeId, weight: u32) -> Effect {
        let Ok(index) = self.place_of(id) else {
            return Effect::Nothing;
        };
        if self.nodes[index].weight == weight {
            return Effect::Nothing;
        }
        self.nodes[index].weight = weight;
        Effect::Share(id)
    }

    fn moved(&mut self, slots: &[u16], from: NodeId, to: NodeId) -> Effect {
        let (Some(from), Some(to)) = (self.index(from), self.index(to)) else {
            return Effect::Nothing;
        };
        let mut effect = Effect::Nothing;
        for slot in slots.iter().map(|slot| usize::from(*slot)) {
            let is_due = slot < SLOTS && self.owners[slot] == from && self.targets[slot] == to;
            if from != to && is_due {
                self.owners[slot] = to;
                effect = Effect::HandOver;
            }
        }
        effect
    }

    /// To be called when states or weights have changed: says where slots should be, and gives those that nobody owns to whom
    /// they should be with. `shares`: nodes that may have more than before.
    fn place_slots(&mut self, shares: &[NodeId]) {
        let shares: Vec<usize> = shares
            .iter()
            .filter_map(|id| self.place_of(*id).ok())
            .collect();
        ring::place_again(&self.nodes, &mut self.targets, &shares);
        for (owner, target) in self.owners.iter_mut().zip(&self.targets) {
            if *owner == NOBODY {
                *owner = *target;
            }
        }
        // Targets leave only if nobody is up.
        if self.remove_those_who_left() && self.targets.contains(&NOBODY) {
            ring::place_again(&self.nodes, &mut self.targets, &[]);
        }
    }

    /// Removes those who leave and own nothing. Whether there were any.
    fn remove_those_who_left(&mut self) -> bool {
        let leaves = |node: &Node| node.state == NodeState::Leaving;
        if !self.nodes.iter().any(leaves) {
            return false;
        }
        let mut owns = vec![false; self.nodes.len()];
        for owner in &self.owners {
            if let Some(owns) = owns.get_mut(usize::from(*owner)) {
                *owns = true;
            }
        }
        let mut numbers = Numbers::default();
        for index in (0..self.nodes.len()).rev() {
            if leaves(&self.nodes[index]) && !owns[index] {
                self.remove(index, &mut numbers);
            }
        }
        self.renumber(&mut numbers)
    }

    fn place_of(&self, id: NodeId) -> Result<usize, usize> {
        self.nodes.binary_search_by_key(&id, |node| node.id)
    }

    fn insert(&mut self, index: usize, node: Node, numbers: &mut Numbers) {
        numbers.of(&self.nodes).insert(index, NOBODY);
        self.nodes.insert(index, node);
    }

    /// What it owned is nobody's.
    fn remove(&mut self, index: usize, numbers: &mut Numbers) {
        numbers.of(&self.nodes).remove(index);
        self.nodes.remove(index);
    }

    /// Has the slots name nodes by the indexes that they have now. Whether they have others than before.
    fn renumber(&mut self, numbers: &mut Numbers) -> bool {
        let Some(before) = numbers.0.take() else {
            return false;
        };
        let most = before.iter().filter(|known| **known != NOBODY).max();
        let mut now = vec![NOBODY; most.map_or(0, |most| usize::from(*most) + 1)];
        for (index, known) in (0..).zip(before) {
            if known != NOBODY {
                now[usize::from(known)] = index;
            }
        }
        for known in self.owners.iter_mut().chain(&mut self.targets) {
            *known = now.get(usize::from(*known)).copied().unwrap_or(NOBODY);
        }
        true
    }
}

fn slots_of(owners: &[u16], index: u16) -> impl Iterator<Item = u16> {
    let owned = move |(slot, owner): (u16, &u16)| (*owner == index).then_some(slot);
    (0..).zip(owners).filter_map(owned)
}

#[cfg(test)]
mod tests;
