//! What nodes decide, without doing any of it: events and time in, decisions out.
//!
//! [`forming`] decides how a ring comes to be, [`voters`] who votes in it. This file decides who may serve: leases, and when a
//! silent node has failed.
//!
//! # Never two owners
//!
//! T is the node timeout. A node *serves* a slot while its own map says that it owns it and its lease is not over. In the log
//! there is at most one owner of each slot; what has to be shown is that no node serves by an old map while another one
//! serves by a newer one.
//!
//! 1. **Grant.** The leader grants a lease to the incarnation i of a node n at time g only if (a) it has applied all that
//!    was in its log when it began to lead, (b) its map has n with incarnation i, and not failed, (c) it has not barred n
//!    (rule 4), (d) a quorum has acknowledged a message that it sent at most [`Times::fresh`] = T/8 before g.
//! 2. **Use.** n counts the lease from when it *sent* its request, s <= g, until s + [`Times::lease`] = s + T/2, and uses it
//!    only if its own map has n with the incarnation i that it asked for. It clears what it kept of a lease when it takes a
//!    new incarnation.
//! 3. **Incarnations.** A node that finds itself failed takes a new incarnation, on disk, before it joins again. So does one
//!    that starts. Within one incarnation a node's slots are taken from it by rule 4, or given away by itself by rule 5.
//! 4. **Taking.** Slots are taken from (n, i) only by Failed(n, i) and Forget(n), which only a leader proposes, and only when
//!    it has barred n: from then on it grants n nothing. It does so no sooner than [`Times::silence`] = 9/10 T after it last
//!    granted to (n, i), and no sooner than [`Times::patience`] = 3/4 T after it became able to grant (rule 1 a and d), without
//!    a break since. What it found holds for its own leadership: in an entry of any other it is void (machine.rs).
//! 5. **Giving.** Moved is made only if the one who asked is the owner, in the incarnation that the map has, not failed, and
//!    each proposal is made at most once, in spite of being sent again (machine.rs). The owner holds the slots (serves
//!    none of them) from before it proposes until the change is applied on it, or can no more be.
//!
//! *Same leader.* Let it grant at g and propose Failed at f. By 4, f >= g + 9/10 T, and by 2 the lease ends before g + T/2.
//!
//! *Another leader.* Let L grant at g, and L' be a leader of a later vote that was elected at e. By 1 (d) a quorum acknowledged
//! a message that L sent at a >= g - T/8. The quorum that elected L' shares a member with it (configurations follow one
//! another by joint consensus), which acknowledged L before it voted for L' and not after: a <= e. So g <= e + T/8, and the
//! lease ends before e + T/8 + T/2 = e + 5/8 T, while L' proposes Failed no sooner than e + 3/4 T.
//!
//! *Entries of others.* A Failed that a leader proposed and did not see applied may be applied under a later one, or under
//! itself after a restart, but then it is in the log with which that one begins: by 1 (a) it is applied before anything is
//! granted, and then 1 (b) refuses.
//!
//! *Old maps.* n may lag behind. A lease for i is used only with a map that knows i (2), so later than whatever was taken from
//! earlier incarnations (3); and what is taken from i is taken after its lease (4), or held (5).
//!
//! Clocks need not agree, but a second may not be more than a fifth longer on one node than on another (5/8 against 3/4). A
//! process that was stopped finds its lease over when it runs again, since the clock went on.
//!
//! *Alone.* While the only voter is the only node of the map, no other leader and no other owner can be, so its lease need not
//! end ([`Times::ALONE`]). It cuts it back to T/2 before it proposes that anybody joins.

pub mod forming;
pub mod voters;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::map::Map;
use crate::cluster::node::{Node, NodeId, NodeState};

/// How long things take, as fractions of cluster-node-timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The node timeout.
    pub timeout: Duration,
}

impl Times {
    /// How long the lease of a node that is alone is: for ever, as far as anybody can tell.
    pub const ALONE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

    /// At least a tenth of a second: below that its fractions are shorter than timers are exact.
    pub fn new(timeout: Duration) -> Times {
        Times {
            timeout: timeout.max(Duration::from_millis(100)),
        }
    }

    /// Between two heartbeats of a leader, and two looks at anything.
    pub fn heartbeat(self) -> Duration {
        self.timeout / 25
    }

    /// Between two entries of the log at least: what comes meanwhile goes together.
    pub fn pace(self) -> Duration {
        self.timeout / 1000
    }

    /// Between two requests for the lease.
    pub fn renewal(self) -> Duration {
        self.timeout / 10
    }

    /// How long a lease is.
    pub fn lease(self) -> Duration {
        self.timeout / 2
    }

    /// How old the proof may be by which a leader grants.
    pub fn fresh(self) -> Duration {
        self.timeout / 8
    }

    /// How long after its last lease a node has failed.
    pub fn silence(self) -> Duration {
        self.timeout * 9 / 10
    }

    /// How long a leader waits before it finds anybody failed.
    pub fn patience(self) -> Duration {
        self.timeout * 3 / 4
    }

    /// How long a follower hears nothing before it stands for election: half of it is openraft's lease, half its timeout. By
    /// `chance`, from 0 to 1, between T/5 and T/2.5.
    pub fn election(self, chance: f64) -> Duration {
        self.timeout.mul_f64(0.1 + 0.1 * chance.clamp(0.0, 1.0))
    }

    /// How long a question to another node may take.
    pub fn question(self) -> Duration {
        self.timeout / 5
    }

    /// How long a snapshot may take.
    pub fn snapshot(self) -> Duration {
        self.timeout * 2
    }

    /// How long a change is proposed again before one gives up.
    pub fn proposal(self) -> Duration {
        self.timeout * 2
    }
}

/// The leader's answer to a request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has it.
    Granted,
    /// Not now: the leader is not sure enough of itself, or has barred the node.
    NotNow,
    /// The ring does not know this incarnation as one that is up: it has to join.
    Rejoin,
    /// The ring does not know the node.
    Unknown,
}

/// What a leader has to know of itself to judge others.
#[derive(Clone, Copy, Debug)]
pub struct Leader {
    /// It has applied all that was in its log when it began to lead.
    pub caught_up: bool,
    /// When it sent the last message that a quorum has acknowledged.
    pub quorum: Option<Instant>,
}

/// What a leader knows of a node's lease.
#[derive(Clone, Copy, Debug)]
struct Held {
    incarnation: u64,
    /// When it was last granted, or when the leader first saw that it might be.
    since: Instant,
    barred: bool,
}

/// The leases that a leader has granted. Begins empty with each leadership.
#[derive(Debug)]
pub struct Ledger {
    times: Times,
    /// Since when it could have granted at any time.
    able: Option<Instant>,
    looked: Option<Instant>,
    held: BTreeMap<NodeId, Held>,
    /// Nodes that are about to be forgotten: barred in any incarnation, and not found failed meanwhile.
    unwanted: BTreeSet<NodeId>,
}

/// Whether a node of this state may serve.
fn may_serve(node: &Node) -> bool {
    matches!(node.state, NodeState::Up | NodeState::Leaving)
}

impl Ledger {
    /// Of a leader that has just begun.
    pub fn new(times: Times) -> Ledger {
        Ledger {
            times,
            able: None,
            looked: None,
            held: BTreeMap::new(),
            unwanted: BTreeSet::new(),
        }
    }

    fn is_able(&self, now: Instant, leader: Leader) -> bool {
        let proof = leader
            .quorum
            .map(|sent| now.saturating_duration_since(sent));
        leader.caught_up && proof.is_some_and(|age| age <= self.times.fresh())
    }

    /// Looks at the clock; to be called every [`Times::heartbeat`]. Returns the nodes that have failed, and bars them; those
    /// barred before are among them until the map says so.
    ///
    /// A leader that did not look for a while (it was stopped) has not heard others either: they get all their time anew.
    pub fn look(&mut self, now: Instant, leader: Leader, map: &Map) -> Vec<(NodeId, u64)> {
        let slept = self
            .looked
            .is_some_and(|last| now.saturating_duration_since(last) > self.times.timeout / 4);
        self.looked = Some(now);
        if !self.is_able(now, leader) {
            self.able = None;
        } else if slept || self.able.is_none() {
            self.able = Some(now);
        }
        let present = |id: &NodeId| map.node(*id).is_some_and(may_serve);
        self.held.retain(|id, _| present(id));
        for node in map.nodes.iter().filter(|node| may_serve(node)) {
            self.held_by(node, now);
        }
        let mut failed = Vec::new();
        self.unwanted.retain(|id| map.node(*id).is_some());
        for (id, held) in &mut self.held {
            if !self.unwanted.contains(id) && is_over(self.times, self.able, held.since, now) {
                held.barred = true;
                failed.push((*id, held.incarnation));
            }
        }
        failed
    }

    /// What is noted of a node that may serve; of an incarnation not seen before, from now on.
    fn held_by(&mut self, node: &Node, now: Instant) -> &mut Held {
        let fresh = Held {
            incarnation: node.incarnation,
            since: now,
            barred: false,
        };
        let held = self.held.entry(node.id).or_insert(fresh);
        if held.incarnation != node.incarnation {
            *held = fresh;
        }
        held
    }

    /// Whether this incarnation of a node gets a lease that it asked for before now (rule 1).
    pub fn grant(
        &mut self,
        now: Instant,
        leader: Leader,
        map: &Map,
        id: NodeId,
        incarnation: u64,
    ) -> Verdict {
        if !self.is_able(now, leader) {
            return Verdict::NotNow;
        }
        let Some(node) = map.node(id) else {
            return Verdict::Unknown;
        };
        if node.incarnation != incarnation || !may_serve(node) {
            return Verdict::Rejoin;
        }
        let is_unwanted = self.unwanted.contains(&id);
        let held = self.held_by(node, now);
        if held.barred || is_unwanted {
            return Verdict::NotNow;
        }
        held.since = now;
        Verdict::Granted
    }

    /// Bars a node that shall be forgotten, until it is. True when its lease is surely over, so that this may be proposed; to
    /// be asked again until then.
    pub fn bar(&mut self, now: Instant, map: &Map, id: NodeId) -> bool {
        let Some(node) = map.node(id) else {
            return true;
        };
        self.unwanted.insert(id);
        if !may_serve(node) {
            return true;
        }
        let since = self.held_by(node, now).since;
        is_over(self.times, self.able, since, now)
    }
}

/// Whether a lease granted then is over for sure (rule 4).
fn is_over(times: Times, able: Option<Instant>, since: Instant, now: Instant) -> bool {
    let past = |from: Instant, long: Duration| now.saturating_duration_since(from) >= long;
    past(since, times.silence()) && able.is_some_and(|able| past(able, times.patience()))
}

#[cfg(test)]
mod tests;
