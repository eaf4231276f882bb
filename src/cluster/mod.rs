//! The ring: which node owns which key, how nodes agree on that, and how they speak with each other.
//!
//! ```text
//!     key -> slot (slots.rs) -> owner (map.rs, agreed on in a replicated log) -> here, or a peer (bus.rs)
//! ```
//!
//! [`Cluster`] is what the rest of the server sees of it. Who may run a command on a key is decided by three things, all of
//! which can end at any moment: the installed map says that this node owns the key's slot; the slot is not held (it is
//! while its last changes are handed over); the lease, which the ring's leader renews, is not over. How a run relies on them:
//!
//! 1. It routes by one [`View`], map and held slots together, and remembers its version.
//! 2. When it has locked its partitions it compares the version with [`Cluster::version`], and routes again if they differ.
//! 3. Whoever changes the view makes the version count up first, and then, if the keys of a slot are to stand still, locks
//!    every partition once: who was inside with the old version has left by then, who comes later sees the new one.
//! 4. The lease is looked at before a batch runs and again before its replies are sent; replies of a node whose lease
//!    ended in between are never sent.

pub mod agree;
pub mod ask;
pub mod bus;
pub mod copies;
pub mod forward;
mod guests;
pub mod map;
pub mod node;
pub mod publish;
pub mod ring;
pub mod route;
pub mod slots;
pub mod transfer;
pub mod tunnel;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use agree::Agreement;
use bus::{Link, Links};
use guests::Guests;
pub use guests::NotExpected;
use map::{Map, NOBODY};
use node::{Node, NodeId};
use slots::{Pins, SLOTS};
use tunnel::Tunnels;

use crate::keyspace::Foreign;

/// What a client is told whose request nobody may run: this node has no contact with the others, or slots have no owner.
pub const DOWN: &str = "CLUSTERDOWN The cluster is down";
/// How often it is looked whether there is a lease.
const LEASE_POLL: Duration = Duration::from_millis(5);

/// What a client is told whose key nobody has.
pub const NOT_SERVED: &str = "CLUSTERDOWN Hash slot not served";

/// A set of slots, a bit each.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; SLOTS / 64]>);

impl Default for SlotSet {
    fn default() -> SlotSet {
        SlotSet(Box::new([0; SLOTS / 64]))
    }
}

impl SlotSet {
    /// Whether it is in the set.
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        self.0[usize::from(slot) / 64] >> (slot % 64) & 1 == 1
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: u16) {
        self.0[usize::from(slot) / 64] |= 1 << (slot % 64);
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: u16) {
        self.0[usize::from(slot) / 64] &= !(1 << (slot % 64));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether it has a slot that the other has too.
    pub fn meets(&self, other: &SlotSet) -> bool {
        let mut both = self.0.iter().zip(other.0.iter());
        both.any(|(a, b)| a & b != 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0..SLOTS as u16).filter(|slot| self.contains(*slot))
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> SlotSet {
        let mut set = SlotSet::default();
        set.extend(slots);
        set
    }
}

impl Extend<u16> for SlotSet {
    fn extend<I: IntoIterator<Item = u16>>(&mut self, slots: I) {
        slots.into_iter().for_each(|slot| self.insert(slot));
    }
}

/// What a run routes by: nothing in it changes.
pub struct View {
    /// Of this view; another one has another.
    pub version: u64,
    /// Who owns what.
    pub map: Arc<Map>,
    /// Where this node stands in the map, or [`NOBODY`].
    pub mine: u16,
    /// Slots of this node whose keys stand still.
    pub held: Option<SlotSet>,
    /// Slots of which there may be keys here that clients must not see: see [`guests`].
    pub hidden: Option<Arc<SlotSet>>,
    /// Those of the hidden slots whose keys are to be removed.
    pub dead: Option<Arc<SlotSet>>,
    /// Whether every slot has a living owner.
    pub is_covered: bool,
}

/// Where the keys of a slot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Here.
    Here,
    /// Here, but about to go: in a moment there will be an answer.
    Held,
    /// At the node of this index in the map.
    Peer(u16),
    /// Nowhere.
    Nobody,
}

impl View {
    /// Where the keys of a slot are.
    #[inline]
    pub fn owner(&self, slot: u16) -> Owner {
        let owner = self.map.owners[usize::from(slot)];
        if owner == NOBODY {
            return Owner::Nobody;
        }
        if owner != self.mine {
            return Owner::Peer(owner);
        }
        match &self.held {
            Some(held) if held.contains(slot) => Owner::Held,
            _ => Owner::Here,
        }
    }

    /// Whether keys of this slot are being sent here.
    pub fn arrives(&self, slot: u16) -> bool {
        let has = |slots: &Option<Arc<SlotSet>>| {
            let slots = slots.as_ref();
            slots.is_some_and(|slots| slots.contains(slot))
        };
        has(&self.hidden) && !has(&self.dead)
    }
}

/// The ring as this node sees it.
pub struct Cluster {
    /// This node.
    pub me: NodeId,
    /// Connections to the peers.
    pub links: Links,
    /// Clients' connections that go on at peers.
    pub tunnels: Arc<Tunnels>,
    /// What has moved.
    pub moved: transfer::Counts,
    /// What the nodes agree by. Set once by the start, which also owns it: it has this object, in its turn.
    pub agreement: OnceLock<Weak<Agreement>>,
    /// Connections to each peer: a client keeps to one of them, which keeps its order.
    lanes: usize,
    view: ArcSwap<View>,
    /// The version of `view`. Counted up after the view was stored, by who changes it under `changes`; read by every run
    /// after it has locked its partitions. The partitions' locks order it: see the rules above.
    version: AtomicU64,
    /// Held by who changes the view. A leaf lock.
    changes: Mutex<Guests>,
    /// Tells that the view has changed.
    changed: Notify,
    /// When the lease ends, in microseconds after `origin`. Written by the driver of the agreement, read before and after
    /// each batch: release and acquire, so that who sees a lease sees the map that came with it.
    lease_us: AtomicU64,
    origin: Instant,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A node that belongs to no ring yet. `links` tells `tunnels` what comes back; `lanes` is how many connections are made
    /// to each peer.
    pub fn new(
        me: NodeId,
        pins: Pins,
        links: Links,
        tunnels: Arc<Tunnels>,
        lanes: usize,
    ) -> Cluster {
        let map = Arc::new(Map::new(pins));
        Cluster {
            me,
            links,
            tunnels,
            moved: transfer::Counts::default(),
            agreement: OnceLock::new(),
            lanes: lanes.max(1),
            view: ArcSwap::from_pointee(View {
                version: 1,
                is_covered: false,
                mine: NOBODY,
                held: None,
                hidden: None,
                dead: None,
                map,
            }),
            version: AtomicU64::new(1),
            changes: Mutex::default(),
            changed: Notify::new(),
            lease_us: AtomicU64::new(0),
            origin: Instant::now(),
        }
    }

    /// The link that a client's requests to a node take.
    pub fn link(&self, node: &Node, client: u64) -> Arc<Link> {
        self.link_to(node.id, &node.bus, client)
    }

    /// The same by the node's name and the address of its bus.
    pub fn link_to(&self, id: NodeId, address: &str, client: u64) -> Arc<Link> {
        self.links.link(id, address, self.lane(client))
    }

    /// Which of the connections to a peer a client uses.
    pub fn lane(&self, client: u64) -> usize {
        copies::lane_of(client, self.lanes)
    }

    /// The link for what concerns no client of this node alone: questions to all nodes, publish/subscribe. Nothing that a client
    /// asks for holds it up.
    pub fn link_for_all(&self, node: &Node) -> Arc<Link> {
        self.links.link(node.id, &node.bus, self.lanes)
    }

    /// What to route by.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The version of the present view.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Takes over a map. An older one than that which is there is ignored. Slots that are this node's now, and of which there
    /// are keys that are worth nothing, are held until those are removed ([`Cluster::emptied`]).
    pub fn install(&self, map: Arc<Map>) {
        self.change(|view, guests| {
            if map.epoch < view.map.epoch {
                return None;
            }
            let mine = map.index(self.me).unwrap_or(NOBODY);
            // What was held and is not ours any more needs no hold.
            let held = view.held.iter().flat_map(SlotSet::iter);
            let mut held: SlotSet = held
                .filter(|slot| map.owners[usize::from(*slot)] == mine)
                .collect();
            let unready = guests.follow(self.me, &view.map, &map);
            unready.iter().for_each(|slot| held.insert(slot));
            Some((Arc::clone(&map), some(held)))
        });
    }

    /// Holds slots: from the return on no run begins on their keys. Those that have begun end when each partition was
    /// locked once.
    pub fn hold(&self, slots: &SlotSet) {
        self.change(|view, _| {
            let mut held = view.held.clone().unwrap_or_default();
            slots.iter().for_each(|slot| held.insert(slot));
            Some((Arc::clone(&view.map), Some(held)))
        });
    }

    /// Ends a hold.
    pub fn release(&self, slots: &SlotSet) {
        self.change(|view, _| {
            let mut held = view.held.clone()?;
            slots.iter().for_each(|slot| held.remove(slot));
            Some((Arc::clone(&view.map), some(held)))
        });
    }

    /// Prepares for keys of slots that a node owns and sends here: clients do not see them.
    pub fn expect(&self, from: NodeId, slots: &SlotSet) -> Result<(), NotExpected> {
        let mut expected = Ok(());
        self.change(|view, guests| {
            expected = guests.expect(&view.map, from, slots);
            expected.ok()?;
            Some((Arc::clone(&view.map), view.held.clone()))
        });
        expected
    }

    /// All keys of slots that were expected are here, and their owner changes them no more: when they become this node's, it
    /// has them.
    pub fn complete(&self, slots: &SlotSet) {
        self.changes.lock().complete(slots);
    }

    /// Whether a slot that is another's by this view is about to be this node's, because all its keys have come here: whoever
    /// owned it has given it away, or will in a moment. Also if there is a later view by now, which has to be asked instead.
    pub fn may_own(&self, view: &View, slot: u16) -> bool {
        // Who changes the view forgets what was complete before it is seen, both under the lock.
        let is_complete = view.arrives(slot) && self.changes.lock().is_complete(slot);
        is_complete || self.version() != view.version
    }

    /// The keys of slots that were expected, as far as they have come, are worth nothing.
    pub fn abandon(&self, slots: &SlotSet) {
        self.change(|view, guests| {
            guests.abandon(slots);
            Some((Arc::clone(&view.map), view.held.clone()))
        });
    }

    /// There are no keys of slots that were [`View::dead`] before each partition was locked once.
    pub fn emptied(&self, slots: &SlotSet) {
        self.change(|view, guests| {
            let ready = guests.emptied(slots);
            let mut held = view.held.clone().unwrap_or_default();
            ready.iter().for_each(|slot| held.remove(slot));
            Some((Arc::clone(&view.map), some(held)))
        });
    }

    fn change(&self, next: impl FnOnce(&View, &mut Guests) -> Option<(Arc<Map>, Option<SlotSet>)>) {
        let mut guests = self.changes.lock();
        let view = self.view.load();
        let Some((map, held)) = next(&view, &mut guests) else {
            return;
        };
        let version = view.version + 1;
        self.view.store(Arc::new(View {
            version,
            is_covered: map.is_covered(),
            mine: map.index(self.me).unwrap_or(NOBODY),
            held,
            hidden: guests.hidden(),
            dead: guests.dead(),
            map,
        }));
        self.version.store(version, Ordering::Release);
        drop(guests);
        self.changed.notify_waiters();
    }

    /// Waits until `is_so` holds of the view, at most `limit`. Whether it does.
    pub async fn wait_for(&self, limit: Duration, is_so: impl Fn(&View) -> bool) -> bool {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if is_so(&self.view.load()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, waiting).await.is_ok()
    }

    /// Waits until this node has a lease, for as long as that. Whether it has.
    pub async fn wait_for_lease(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.has_lease() {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LEASE_POLL).await;
        }
        true
    }

    /// The lease runs until then; it may come nearer, too.
    pub fn set_lease(&self, until: Instant) {
        let until = until.saturating_duration_since(self.origin).as_micros() as u64;
        self.lease_us.store(until, Ordering::Release);
    }

    /// Whether this node may answer for its slots now.
    pub fn has_lease(&self) -> bool {
        let until = self.lease_us.load(Ordering::Acquire);
        (self.origin.elapsed().as_micros() as u64) < until
    }

    /// Whether this node has a lease, or had one that long ago.
    pub fn had_lease_within(&self, time: Duration) -> bool {
        let until = self.lease_us.load(Ordering::Acquire);
        let past = self.origin.elapsed().saturating_sub(time);
        (past.as_micros() as u64) < until
    }
}

impl Foreign for Cluster {
    fn any(&self) -> bool {
        self.view.load().hidden.is_some()
    }

    fn is_foreign(&self, database: u32, key: &[u8]) -> bool {
        let view = self.view.load();
        let hidden = view.hidden.as_ref();
        hidden.is_some_and(|hidden| hidden.contains(view.map.pins.slot(database, key)))
    }

    fn is_whole(&self, database: u32) -> bool {
        self.view.load().map.pins.databases.contains(&database)
    }
}

/// The set, unless there is nothing in it.
fn some(slots: SlotSet) -> Option<SlotSet> {
    (!slots.is_empty()).then_some(slots)
}

#[cfg(test)]
mod tests;
