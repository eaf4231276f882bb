//! What a leader does beside answering: finds nodes failed, and chooses who votes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::{ChangeMembers, ServerState};
use tokio::time::{Instant, interval};

use super::super::member::voters::{self, Plan};
use super::super::member::{Leader, Ledger, Times};
use super::super::types::{Asked, Command, Vote};
use super::Driver;
use crate::cluster::map::{Change, Map};
use crate::cluster::node::NodeId;

/// One leadership of this node, in this process.
pub struct Session {
    vote: Vote,
    pub(super) ledger: Ledger,
    caught_up: bool,
    /// Nodes whose failure or removal is being proposed.
    pub(super) proposed: BTreeSet<NodeId>,
    /// Others that are being let in.
    joining: usize,
    /// Whether it has asked to be the first node of the ring.
    founds: bool,
    /// Whether the members of the log are being changed.
    changing: bool,
}

impl Session {
    fn new(vote: Vote, times: Times) -> Session {
        Session {
            vote,
            ledger: Ledger::new(times),
            caught_up: false,
            proposed: BTreeSet::new(),
            joining: 0,
            founds: false,
            changing: false,
        }
    }

    pub(super) fn vote(&self) -> Vote {
        self.vote
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Whether this node is, or will be with the next entry, in the map.
    pub(super) fn founds(&self) -> bool {
        self.founds
    }
}

impl Driver {
    /// A task: see the file.
    pub(super) async fn lead(self: Arc<Self>) {
        let mut ticks = interval(self.times.heartbeat());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.lead_once();
        }
    }

    fn lead_once(self: &Arc<Self>) {
        let Some(vote) = self.leading_vote() else {
            *self.leading.lock() = None;
            return;
        };
        let now = Instant::now();
        let is_new = {
            let mut leading = self.leading.lock();
            let is_new = leading.as_ref().is_none_or(|session| session.vote != vote);
            if is_new {
                *leading = Some(Session::new(vote, self.times));
            }
            is_new
        };
        if is_new {
            tracing::info!(
                term = vote.leader_id.term,
                "cluster: this node leads the ring"
            );
            self.spawn(|driver| driver.catch_up(vote));
        }
        let quorum = self.quorum(&vote, now);
        let map = self.map();
        let (gone, plan) = {
            let mut leading = self.leading.lock();
            let Some(session) = leading.as_mut() else {
                return;
            };
            let caught_up = session.caught_up;
            let gone = session.ledger.look(now, Leader { caught_up, quorum }, &map);
            let plan = (caught_up && !session.changing)
                .then(|| self.plan(&vote, &map, now))
                .flatten();
            session.changing |= plan.is_some();
            if !caught_up {
                return;
            }
            (gone, plan)
        };
        for (id, incarnation) in gone {
            self.propose_failed(vote, id, incarnation);
        }
        if let Some(plan) = plan {
            self.spawn(|driver| driver.change_members(vote, plan));
        }
    }

    /// The vote by which this node leads, if it does.
    fn leading_vote(&self) -> Option<Vote> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leads = metrics.state == ServerState::Leader
            && metrics.vote.committed
            && metrics.vote.leader_id.node_id == self.id;
        leads.then_some(metrics.vote)
    }

    /// Runs something on the session of that vote, if it goes on.
    pub(super) fn in_session<T>(
        &self,
        vote: &Vote,
        run: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        let mut leading = self.leading.lock();
        let session = leading.as_mut().filter(|session| session.vote == *vote);
        session.map(run)
    }

    /// Rule 1 (a): what is in the log when the leadership begins is applied when this is.
    async fn catch_up(self: Arc<Self>, vote: Vote) {
        while self.in_session(&vote, |_| ()).is_some() {
            if self.raft.client_write(Command::Barrier).await.is_ok() {
                self.in_session(&vote, |session| session.caught_up = true);
                return;
            }
            tokio::time::sleep(self.times.heartbeat()).await;
        }
    }

    /// When the leader of this vote, this node, sent the last message that a quorum has acknowledged.
    pub(super) fn quorum(&self, vote: &Vote, now: Instant) -> Option<Instant> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let configs = metrics.membership_config.membership().get_joint_config();
        let of = |voters: &BTreeSet<NodeId>| {
            let mut sent: Vec<Instant> = voters
                .iter()
                .filter_map(|id| match *id == self.id {
                    true => Some(now),
                    false => self.network.heard.since(*id, vote),
                })
                .collect();
            sent.sort_unstable_by(|a, b| b.cmp(a));
            sent.get(voters.len() / 2).copied()
        };
        let all: Option<Vec<Instant>> = configs.iter().map(of).collect();
        all?.into_iter().min()
    }

    fn plan(&self, vote: &Vote, map: &Map, now: Instant) -> Option<Plan> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let heard = |id: NodeId| {
            let sent = self.network.heard.since(id, vote);
            sent.is_some_and(|sent| now.saturating_duration_since(sent) < self.times.lease())
        };
        voters::plan(map, &metrics.membership_config, self.id, &heard)
    }

    /// Proposes that a node has failed, once at a time for each.
    fn propose_failed(self: &Arc<Self>, vote: Vote, id: NodeId, incarnation: u64) {
        let is_first = self.in_session(&vote, |session| session.proposed.insert(id));
        if is_first != Some(true) {
            return;
        }
        tracing::warn!(node = %id, "cluster: a node was not heard of for long: its lease is over");
        let number = self.open_proposal();
        let asked = Asked {
            origin: self.origin(number),
            change: Change::Failed(id, incarnation),
            finder: Some(vote.leader_id),
        };
        let written = self.gathering.add(asked, Duration::ZERO);
        self.spawn(|driver| async move {
            // While the leadership lasts the node is barred, and found again if nothing came of this.
            if written.await.is_err() {
                tracing::debug!(node = %id, "cluster: that it has failed was not written");
            }
            driver.proposals.lock().open.remove(&number);
            driver.in_session(&vote, |session| session.proposed.remove(&id));
        });
    }

    async fn change_members(self: Arc<Self>, vote: Vote, plan: Plan) {
        let changed = match plan.clone() {
            Plan::Add(nodes) => {
                let change = ChangeMembers::AddNodes(nodes);
                self.raft.change_membership(change, true).await
            }
            Plan::Vote(voters) => {
                let change = ChangeMembers::ReplaceAllVoters(voters);
                self.raft.change_membership(change, true).await
            }
            Plan::Remove(ids) => {
                let change = ChangeMembers::RemoveNodes(ids);
                self.raft.change_membership(change, true).await
            }
        };
        match changed {
            Ok(_) => tracing::info!(%plan, "cluster: members of the log changed"),
            Err(error) => tracing::debug!(%error, %plan, "cluster: members of the log not changed"),
        }
        self.in_session(&vote, |session| session.changing = false);
    }

    /// Whether nobody else could own a slot or lead: see [`super::super::member`].
    pub(super) fn is_alone(&self, session: &Session, map: &Map) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let configs = metrics.membership_config.membership().get_joint_config();
        session.caught_up
            && session.joining == 0
            && super::seek::is_only(map, self.id)
            && matches!(configs.as_slice(), [voters] if voters.iter().eq([&self.id]))
    }

    /// Before a node is let in: this one is not alone from now on. None if it does not lead.
    pub(super) fn begin_join(&self, is_other: bool) -> Option<Vote> {
        let mut leading = self.leading.lock();
        let session = leading.as_mut()?;
        if !is_other {
            session.founds = true;
        } else {
            session.joining += 1;
            let soon = Instant::now() + self.times.lease();
            if self.lease.lock().is_some_and(|until| until > soon) {
                self.set_lease(soon);
            }
        }
        Some(session.vote)
    }

    /// After it was let in. What may still be let in keeps this node from being alone.
    pub(super) fn end_join(&self, vote: &Vote, is_done: bool) {
        if is_done {
            self.in_session(vote, |session| session.joining -= 1);
        }
    }
}
