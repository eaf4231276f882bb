//! Keys on their way between the nodes of a ring: sent to where the map says that they should be, taken from others, and
//! removed where they are left over.
//!
//! ```text
//!     owner                                                         receiver
//!       Begin ----------------------------------------------------> forgets what it has of these slots, hides them
//!       goes through all partitions (sweep.rs), sends each key ---> puts it where it belongs (receive.rs)
//!       what is changed meanwhile is sent again, until little is left
//!       holds the slots: no run begins on them, those inside leave
//!       the last changes, Complete -------------------------------> knows that nothing is missing
//!       proposes Change::Moved; the new map makes the slots the receiver's, and clients see them there
//!       removes its keys of these slots (sweep.rs), in silence
//! ```
//!
//! The owner serves its keys until it holds them, and the requests that come while it does wait for the outcome. Slots move in
//! portions, so that what both have at once is a part of what moves, and the owner's memory becomes free as it goes on; not in
//! too small ones, since each portion goes through all keys twice.
//!
//! **What can go wrong.** The receiver forgets the keys of a transfer that does not come to its end: because it is told to, its
//! owner fails, or nothing comes for [`receive::PATIENCE_FOR_MORE`]. The owner ends its hold only when the change was made or will never
//! be; while nobody can tell, the slots stay held, and its lease ends before anybody else may own them. So much may change that
//! it cannot be caught up with: then fewer slots move at once, down to one, which is held for as long as it takes. So it is with
//! a slot of which a large value changes all the time: it moves last, and its hold is as long as that value takes.
//!
//! **Cost.** The owner works for a sixth of the time at most, and for less if all would be done within [`EASY`] then: nobody
//! waits for a node that joins. The receiver has as much to do as it is sent, in small requests, and both do it on a thread
//! that the system lets wait for those of the requests ([`Hands`]). Nobody rests while slots are held, nor while more is written
//! than can be sent at this pace.
//!
//! **A node that leaves** has until [`Ends`], and what it has not handed over by then is lost. It sends to several receivers
//! at once, so that none of them, nor the agreement on a portion, is waited for by the others; it rests only if it has twice
//! the time that it takes; its threads, and those that receive from it, wait for nobody; and a portion is no larger than what
//! it is sure to get done well before the end.

pub mod receive;
pub mod send;
pub mod sweep;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::receive::Importer;
use self::send::{Failure, Transfer};
use crate::cluster::agree::Later;
use crate::cluster::bus::CallError;
use crate::cluster::map::Change;
use crate::cluster::node::{Node, NodeId, NodeState};
use crate::cluster::slots::SLOTS;
use crate::cluster::{Cluster, SlotSet, View};
use crate::keyspace::Keyspace;
use crate::state::Server;

/// Work between two rests, if these are long enough: with 300 us those who waited for a core waited for longer.
pub const WORK: Duration = Duration::from_micros(100);
/// How long a rest is at least, and at most: timers are as coarse as a millisecond.
pub const REST: Duration = Duration::from_micros(1500);
const REST_MAX: Duration = Duration::from_millis(6);
/// How much longer than the work the rests are at least, where there is no end to keep.
const RESTS: f32 = 5.0;
/// Shorter ones are left out, and none is longer.
const RESTS_MIN: f32 = 0.1;
const RESTS_MAX: f32 = 100.0;
/// What can be moved in less time rests for longer.
pub const EASY: Duration = Duration::from_secs(8);
/// What it takes to look at a key, and to send one of a few, about: as long as it was not measured.
const LOOK: Duration = Duration::from_micros(1);
/// The parts of a way through all keys after which the work that is left is told from that before, and after which it is too
/// little to tell.
const TOLD_FROM: f32 = 0.02;
const TOLD_TO: f32 = 0.9;
/// So few keys are not worth resting for.
const FEW: usize = 50_000;
/// Work between two turns of the others.
pub const TURN: Duration = Duration::from_micros(100);

/// A transfer is a portion of what moves to a node: so many in all, if there is much.
const PORTIONS: usize = 8;
/// The same for a node that is to end soon: its memory is of no use afterwards.
const PORTIONS_IN_HASTE: usize = 4;
/// Bytes for which a portion is worth its two ways through all keys.
const PORTION_BYTES: i64 = 8 << 20;
/// Transfers that succeed before twice as much is tried again.
const DOUBLE_AFTER: u32 = 4;
/// Before a transfer that has failed is tried again: at first, and at most.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The same for a node that is to end soon.
const RETRY_MAX_IN_HASTE: Duration = Duration::from_millis(500);
/// Receivers that a node that leaves sends to at once. Each has a few requests of [`CHUNK`](crate::cluster::transfer::CHUNK)
/// bytes on their way, and its own set of names that change.
const AT_ONCE: usize = 4;
/// Bytes that a node can send in a second at least, as long as nothing was measured.
const SURE_BYTES: f32 = 64e6;

/// The threads that keys are moved on.
#[derive(Clone, Debug)]
pub struct Hands {
    /// With a small share of the cores.
    pub calm: Handle,
    /// For what has to be done before a node ends, here or at the other side.
    pub hasty: Handle,
}

/// When a node is to end that leaves; not set before it does.
pub type Ends = OnceLock<Instant>;

/// How a node reaches the others to move its keys.
pub trait Peers: Send + Sync + 'static {
    /// Asks a node for what [`Importer::handle`] does. Requests to a node arrive in the order of the calls: this queues the
    /// request before it returns.
    fn call(&self, to: &Node, request: Bytes) -> Later<Result<Bytes, CallError>>;

    /// Has a change of the map made.
    fn propose(&self, change: Change) -> Later<Outcome>;
}

/// What became of a change that was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made, and this node has the map that it led to.
    Made,
    /// It was not, and never will be.
    NotMade,
    /// Nobody knows; it is to be proposed again.
    Unknown,
}

/// What moves keys.
pub struct Moving {
    server: Arc<Server>,
    cluster: Arc<Cluster>,
    peers: Arc<dyn Peers>,
    ends: Arc<Ends>,
    hands: Hands,
}

/// What is known of a node that slots move to.
struct Plan {
    /// The most slots that were to move there at once.
    total: usize,
    /// Into how many portions it is cut beyond the usual, as a power of two.
    halvings: u32,
    /// Slots that move last, and alone: large values in them change all the time.
    hot: SlotSet,
    /// Transfers that came to their end since one was too much.
    successes: u32,
    /// Transfers that failed, one after the other.
    failures: u32,
    /// Slots that moved in a second, the last time.
    rate: Option<f32>,
    /// Not before.
    next: Instant,
}

/// Runs until it is aborted: sends what should be elsewhere, removes what is left over, and looks after what comes.
pub async fn run(
    server: Arc<Server>,
    cluster: Arc<Cluster>,
    peers: Arc<dyn Peers>,
    importer: Arc<Importer>,
    ends: Arc<Ends>,
    hands: Hands,
) {
    let moving = Arc::new(Moving {
        server: Arc::clone(&server),
        cluster: Arc::clone(&cluster),
        peers,
        ends,
        hands,
    });
    tokio::join!(
        moving.send_all(),
        sweep::clean(&server, &cluster),
        importer.tend()
    );
}

impl Moving {
    async fn send_all(self: Arc<Self>) {
        let mut plans: HashMap<NodeId, Plan> = HashMap::new();
        let mut sending: JoinSet<(NodeId, Plan)> = JoinSet::new();
        // What is on its way to each receiver. No slot is on its way to two: the end of one hold would be the end of the other's.
        let mut under_way: HashMap<NodeId, SlotSet> = HashMap::new();
        loop {
            let me = self.cluster.me;
            let is_there = |view: &View| !view.map.moves_from(me).is_empty();
            if sending.is_empty()
                && (!self.cluster.has_lease()
                    || !self.cluster.wait_for(REST_WITHOUT_WORK, is_there).await)
            {
                // Not before the lease runs (again).
                if !self.cluster.has_lease() {
                    tokio::time::sleep(RETRY).await;
                }
                continue;
            }
            let at_once = self.ends.get().map_or(1, |_| AT_ONCE);
            let view = self.cluster.view();
            let moves = view.map.moves_from(me);
            plans.retain(|id, _| moves.iter().any(|(to, _)| to == id));
            let now = Instant::now();
            for (to, mut slots) in moves {
                if under_way.contains_key(&to) {
                    continue;
                }
                let mut plan = plans.remove(&to).unwrap_or_else(|| Plan::new(now));
                plan.total = plan.total.max(slots.len());
                // The map may have changed its mind on some of them.
                slots.retain(|slot| !under_way.values().any(|portion| portion.contains(*slot)));
                let node = view.map.node(to).filter(|_| !slots.is_empty()).cloned();
                let may_begin = plan.next <= now && sending.len() < at_once;
                let Some(node) = node.filter(|_| may_begin) else {
                    plans.insert(to, plan);
                    continue;
                };
                let portion = self.portion(&view, &slots, &plan);
                under_way.insert(to, portion.clone());
                let moving = Arc::clone(&self);
                let hand = match self.ends.get() {
                    Some(_) => &self.hands.hasty,
                    None => &self.hands.calm,
                };
                let sent = async move {
                    moving
                        .send_portion(node, portion, slots.len(), &mut plan)
                        .await;
                    (to, plan)
                };
                sending.spawn_on(sent, hand);
            }
            // Those that are due wait for the end of another.
            let next = plans.values().map(|plan| plan.next);
            let next = next.filter(|next| *next > now).min().unwrap_or(now + RETRY);
            let is_other = |other: &View| other.map.epoch != view.map.epoch;
            tokio::select! {
                Some(sent) = sending.join_next() => match sent {
                    Ok((to, plan)) => {
                        under_way.remove(&to);
                        plans.insert(to, plan);
                    }
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = tokio::time::sleep_until(next), if sending.len() < at_once => {}
                // There may be others to send to, and it may have become urgent.
                _ = self.cluster.wait_for(REST_WITHOUT_WORK, is_other), if !sending.is_empty() => {}
            }
        }
    }

    /// Whether anything is to be moved to a node.
    fn is_wanted(&self, to: NodeId) -> bool {
        let moves = self.cluster.view().map.moves_from(self.cluster.me);
        moves.iter().any(|(id, _)| *id == to)
    }

    /// Which of the slots that should be at a node are moved first.
    fn portion(&self, view: &View, slots: &[u16], plan: &Plan) -> SlotSet {
        let count = plan.total.div_ceil(self.portions(view, plan.total)) >> plan.halvings;
        let count = count.min(self.can_be_done(view, plan)).max(1);
        let cool = slots.iter().filter(|slot| !plan.hot.contains(**slot));
        let mut portion: SlotSet = cool.take(count).copied().collect();
        if portion.is_empty() {
            portion.extend(slots.first().copied());
        }
        portion
    }

    /// Moves some slots to a node, of so many that should be there.
    async fn send_portion(&self, node: Node, portion: SlotSet, slots: usize, plan: &mut Plan) {
        let (to, count) = (node.id, portion.len());
        let is_last_resort = count == 1;
        let begun = Instant::now();
        let pace = self.pace(&self.cluster.view(), slots, count);
        let mut transfer = Transfer::new(self, node, portion, pace);
        let done = transfer.run(is_last_resort).await;
        match done {
            Ok(moved) => {
                plan.failures = 0;
                plan.successes += 1;
                if plan.successes.is_multiple_of(DOUBLE_AFTER) {
                    plan.halvings = plan.halvings.saturating_sub(1);
                }
                plan.rate = Some(moved.slots as f32 / begun.elapsed().as_secs_f32().max(1e-3));
                tracing::info!(
                    %to,
                    slots = moved.slots,
                    left = slots.saturating_sub(moved.slots),
                    keys = moved.keys,
                    bytes = moved.bytes,
                    took_ms = begun.elapsed().as_millis() as u64,
                    held_ms = moved.held.as_millis() as u64,
                    agreed_ms = moved.agreed.as_millis() as u64,
                    "slots were moved"
                );
            }
            Err(Failure::TooMuch) if !transfer.hot().is_empty() && !is_last_resort => {
                transfer.hot().iter().for_each(|slot| plan.hot.insert(slot));
                plan.next = Instant::now() + RETRY;
                tracing::info!(%to, slots = transfer.hot().len(), "large values are written all the time: their slots move last");
            }
            Err(Failure::TooMuch) => {
                plan.halvings = (plan.halvings + 1).min(16);
                plan.successes = 0;
                plan.next = Instant::now() + RETRY;
                tracing::info!(%to, slots = count, "too much is written to move so many slots at once: fewer next time");
            }
            // The map has changed its mind: nothing is wrong.
            Err(Failure::Refused) if !self.is_wanted(to) => {}
            Err(failure) => {
                plan.failures += 1;
                let rest = RETRY * 2u32.saturating_pow(plan.failures.min(10));
                let most = match self.ends.get() {
                    Some(_) => RETRY_MAX_IN_HASTE,
                    None => RETRY_MAX,
                };
                plan.next = Instant::now() + rest.min(most);
                tracing::warn!(%to, slots = count, %failure, failures = plan.failures, "slots could not be moved");
            }
        }
    }

    /// How a portion of so many slots goes through the keys, of so many that are to move to its node.
    fn pace(&self, view: &View, slots: usize, portion: usize) -> Pace {
        let receivers = view.map.moves_from(self.cluster.me).len();
        let ways = slots.div_ceil(portion.max(1)) * receivers;
        let ways = u32::try_from(ways.max(1)).unwrap_or(u32::MAX);
        if let Some(left) = self.time_left() {
            let at_once = receivers.clamp(1, AT_ONCE) as u32;
            return Pace::before(&self.server.keyspace, ways, left / 2 * at_once);
        }
        let me = view.map.nodes.get(usize::from(view.mine));
        if me.is_some_and(|me| me.state == NodeState::Leaving) {
            return Pace::default();
        }
        Pace::through(&self.server.keyspace, EASY / ways)
    }

    /// How long a node that leaves has.
    fn time_left(&self) -> Option<Duration> {
        let ends = self.ends.get()?;
        Some(ends.saturating_duration_since(Instant::now()))
    }

    /// How many slots are moved for sure in a part of the time that is left: what is under way at the end has not moved.
    fn can_be_done(&self, view: &View, plan: &Plan) -> usize {
        let Some(left) = self.time_left() else {
            return SLOTS;
        };
        let bytes = self.server.keyspace.used_bytes().max(1) as f32;
        let rate = plan
            .rate
            .unwrap_or(SURE_BYTES / bytes * view.map.owned(view.mine).max(1) as f32);
        (rate * left.as_secs_f32() / 2.0) as usize
    }

    /// Into how many portions so many slots are cut.
    fn portions(&self, view: &View, slots: usize) -> usize {
        let owned = view.map.owned(view.mine).max(1);
        let bytes = self.server.keyspace.used_bytes().max(0) / owned as i64 * slots as i64;
        let most = self.ends.get().map_or(PORTIONS, |_| PORTIONS_IN_HASTE);
        ((bytes / PORTION_BYTES) as usize).clamp(1, most)
    }
}

impl Plan {
    fn new(now: Instant) -> Plan {
        Plan {
            total: 0,
            halvings: 0,
            hot: SlotSet::default(),
            successes: 0,
            failures: 0,
            rate: None,
            next: now,
        }
    }
}

/// Turns are at most this power of two longer than usual: three milliseconds.
const HURRY_MAX: u32 = 5;

/// How long nothing is to be moved before the lease is looked at again.
const REST_WITHOUT_WORK: Duration = Duration::from_secs(1);

/// Keeps work that goes on beside the requests within its share.
#[derive(Debug)]
pub struct Pace {
    /// Between two rests.
    work: Duration,
    /// After so much work.
    rest: Duration,
    /// Since the last rest.
    worked: Duration,
    /// Since others had their turn.
    in_turn: Duration,
    /// What the rests so far were longer than they should have been.
    overslept: Duration,
    /// How often it was to hurry.
    hurry: u32,
    /// Whether it knows by when all has to be done.
    has_end: bool,
    /// The way through all keys that it is for.
    way: Option<Way>,
}

/// A way through all keys that is to take its time.
#[derive(Clone, Copy, Debug)]
struct Way {
    keys: usize,
    looked_at: usize,
    worked: Duration,
    ends: Instant,
}

impl Way {
    /// How much longer than the work the rests have to be from here on, if that can be told.
    fn rests(&self) -> Option<f32> {
        let part = self.looked_at as f32 / self.keys as f32;
        if !(TOLD_FROM..TOLD_TO).contains(&part) {
            return None;
        }
        let work = self.worked.mul_f32(1.0 / part - 1.0);
        let time = self.ends.saturating_duration_since(Instant::now());
        Some(time.div_duration_f32(work.max(LOOK)) - 1.0)
    }
}

impl Default for Pace {
    /// As fast as may be beside the requests.
    fn default() -> Pace {
        Pace::resting(RESTS)
    }
}

/// Work, and the rest after it, for rests that are so many times as long as the work.
fn spans(rests: f32) -> (Duration, Duration) {
    // No timer is fine enough for short rests: longer work between them.
    match WORK.mul_f32(rests) {
        short if short < REST => (REST.div_f32(rests), REST),
        rest => (WORK, rest.min(REST_MAX)),
    }
}

impl Pace {
    /// Rests that are so many times as long as the work before them.
    fn resting(rests: f32) -> Pace {
        let (work, rest) = spans(rests);
        Pace {
            work,
            rest,
            worked: Duration::ZERO,
            in_turn: Duration::ZERO,
            overslept: Duration::ZERO,
            hurry: 0,
            has_end: false,
            way: None,
        }
    }

    /// Of one way through all keys, which begins now: if they can be gone through in less, it takes `time`.
    pub fn through(keyspace: &Keyspace, time: Duration) -> Pace {
        let keys = keyspace.built().map(|(_, database)| database.len());
        Pace::over(keys.sum(), time)
    }

    /// The same of so many keys.
    fn over(keys: usize, time: Duration) -> Pace {
        if keys < FEW {
            return Pace::default();
        }
        let work = LOOK.saturating_mul(u32::try_from(keys).unwrap_or(u32::MAX));
        Pace {
            way: Some(Way {
                keys,
                looked_at: 0,
                worked: Duration::ZERO,
                ends: Instant::now() + time,
            }),
            ..Pace::resting(time.div_duration_f32(work).clamp(RESTS, RESTS_MAX))
        }
    }

    /// To be called with how many keys of its way were looked at.
    pub fn looked_at(&mut self, keys: usize) {
        if let Some(way) = &mut self.way {
            way.looked_at += keys;
        }
    }

    /// Of all that is left for one that has to be done in that time: without rests, unless there is time for them. Of several
    /// at once each has the time of all of them.
    pub fn before(keyspace: &Keyspace, ways: u32, time: Duration) -> Pace {
        let keys: usize = keyspace.built().map(|(_, database)| database.len()).sum();
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        // To send a key, and take it away, is more than to look at it. What this is wrong by shows in the time that is left.
        let work = LOOK.saturating_mul(keys.saturating_mul(ways / 4 + 2));
        let rests = time.div_duration_f32(work.max(WORK)) - 1.0;
        let pace = match rests < RESTS_MIN {
            true => Pace {
                rest: Duration::ZERO,
                ..Pace::default()
            },
            false => Pace::resting(rests.min(RESTS_MAX)),
        };
        Pace {
            has_end: true,
            ..pace
        }
    }

    /// All has to be done soon, which was not so when this was chosen.
    pub fn hasten(&mut self) {
        if !self.has_end {
            self.rest = Duration::ZERO;
            self.way = None;
        }
    }

    /// From now on it does not rest, and its turns are longer; each time more so, up to some milliseconds. To catch up with those
    /// who take all turns that there are.
    pub fn hurry(&mut self) {
        self.hurry = (self.hurry + 1).min(HURRY_MAX);
    }

    /// There is no need to hurry any more.
    pub fn calm(&mut self) {
        self.hurry = 0;
    }

    /// To be called after each piece of work with what it took, time spent waiting for a core left out: lets others have their
    /// turn, and rests now and then.
    pub async fn worked(&mut self, took: Duration) {
        // In a simulation nothing takes time: others have their turn by chance.
        #[cfg(feature = "simulation")]
        let took = took + TURN.mul_f32(fastrand::f32());
        self.worked += took;
        self.in_turn += took;
        if let Some(way) = &mut self.way {
            way.worked += took;
        }
        if self.in_turn < TURN * 2u32.pow(self.hurry) {
            return;
        }
        self.in_turn = Duration::ZERO;
        if self.worked < self.work || self.hurry > 0 || self.rest.is_zero() {
            return tokio::task::yield_now().await;
        }
        if let Some(rests) = self.way.and_then(|way| way.rests()) {
            (self.work, self.rest) = spans(rests.clamp(RESTS, RESTS_MAX));
        }
        // Who worked for longer rests for longer; who was woken late, by a coarse timer or a busy machine, for less next time.
        let share = self.worked.div_duration_f32(self.work);
        self.worked = Duration::ZERO;
        let rest = self.rest.mul_f32(share.min(100.0));
        let due = rest.saturating_sub(self.overslept);
        if due.is_zero() {
            self.overslept -= rest;
            return tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        tokio::time::sleep(due).await;
        self.overslept = begun.elapsed().saturating_sub(due).min(REST_MAX);
    }
}

#[cfg(test)]
mod tests;
