//! What this node answers when others ask.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::super::member::forming;
use super::super::member::{Leader, Verdict};
use super::super::message::{Answer, Ask, Hello, RaftAnswer, RaftAsk, RaftCall};
use super::super::store::as_snapshot;
use super::super::types::{Asked, Origin};
use super::Driver;
use super::gather::Written;
use super::lead::Session;
use crate::cluster::map::{Change, MAX_NODES, Map};
use crate::cluster::node::{Node, NodeId, NodeState};
use crate::cluster::slots::Pins;

impl Driver {
    /// To a message of openraft.
    pub(super) async fn answer_raft(&self, ask: RaftAsk) -> RaftAnswer {
        if ask.to != self.id {
            return RaftAnswer::NotMe;
        }
        let answer = match ask.call {
            RaftCall::Append(request) => {
                let answer = self.raft.append_entries(request).await;
                answer.map(RaftAnswer::Append).ok()
            }
            RaftCall::Vote(request) => self.raft.vote(request).await.map(RaftAnswer::Vote).ok(),
            RaftCall::Snapshot(vote, meta, data) => {
                let snapshot = as_snapshot(meta, data);
                let answer = self.raft.install_full_snapshot(vote, snapshot).await;
                answer.map(|answer| RaftAnswer::Snapshot(answer.vote)).ok()
            }
        };
        answer.unwrap_or(RaftAnswer::Stopped)
    }

    /// To any other.
    pub(super) async fn answer(self: &Arc<Self>, ask: Ask) -> Answer {
        match ask {
            Ask::Hello(hello) => self.answer_hello(&hello),
            Ask::Vote {
                ring,
                candidate,
                round,
            } => self.answer_vote(&ring, candidate, round).await,
            Ask::Release { voter, round } => self.answer_release(voter, round).await,
            Ask::Join {
                node,
                ring,
                pins,
                returns,
            } => self.answer_join(node, &ring, &pins, returns).await,
            Ask::Lease { node, incarnation } => match self.answer_lease(node, incarnation) {
                Answer::Forgotten => self.answer_forgotten(node).await,
                answer => answer,
            },
            Ask::Propose(origin, change) => self.answer_propose(origin, change).await,
        }
    }

    fn answer_hello(&self, hello: &Hello) -> Answer {
        if hello.ring == self.identity().ring && hello.id != self.id {
            self.network
                .book
                .learn(hello.id, hello.incarnation, &hello.bus);
        }
        Answer::Hello(self.hello())
    }

    async fn answer_vote(&self, ring: &str, candidate: NodeId, round: u64) -> Answer {
        let _guard = self.forming.lock().await;
        let identity = self.identity();
        if self.is_formed() || identity.joined || identity.ring != ring {
            return Answer::NotVoted;
        }
        let ballot = self.store.ballot();
        let lowest = *self.lowest.lock();
        match forming::vote(ballot, candidate, round, lowest) {
            Some(next) if next == ballot || self.store.set_ballot(next).await.is_ok() => {
                Answer::Voted
            }
            _ => Answer::NotVoted,
        }
    }

    async fn answer_release(&self, voter: NodeId, round: u64) -> Answer {
        let _guard = self.forming.lock().await;
        if self.is_formed() {
            return Answer::Kept;
        }
        let ballot = self.store.ballot();
        let lowest = *self.lowest.lock();
        match forming::release(self.id, ballot, round, lowest) {
            Some(next) if next == ballot || self.store.set_ballot(next).await.is_ok() => {
                tracing::info!(%voter, "cluster: a vote is given back, a node with a lower name is there");
                Answer::Released
            }
            _ => Answer::Kept,
        }
    }

    fn not_leader(&self) -> Answer {
        let leader = self.leader().filter(|id| *id != self.id);
        Answer::NotLeader(leader.and_then(|id| self.address(id).map(|address| (id, address))))
    }

    /// What this node knows of itself as a leader.
    fn leader_of(&self, session: &Session, now: Instant) -> Leader {
        Leader {
            caught_up: session.is_caught_up(),
            quorum: self.quorum(&session.vote(), now),
        }
    }

    fn answer_lease(&self, id: NodeId, incarnation: u64) -> Answer {
        // Held throughout: what bars a node takes it too.
        let mut leading = self.leading.lock();
        let Some(session) = leading.as_mut() else {
            return self.not_leader();
        };
        let now = Instant::now();
        let leader = self.leader_of(session, now);
        let map = self.map();
        match session.ledger.grant(now, leader, &map, id, incarnation) {
            Verdict::Granted => Answer::Granted,
            Verdict::NotNow => Answer::NotNow,
            Verdict::Rejoin => Answer::Rejoin,
            Verdict::Unknown => Answer::Forgotten,
        }
    }

    async fn answer_join(
        self: &Arc<Self>,
        node: Node,
        ring: &str,
        pins: &Pins,
        returns: bool,
    ) -> Answer {
        if ring != self.identity().ring {
            return Answer::Refused("this is another ring".to_owned());
        }
        let of_session = |session: &Session| (session.is_caught_up(), session.founds());
        let found = self.leading.lock().as_ref().map(of_session);
        let founds = match found {
            Some((true, founds)) if self.is_leader() => founds,
            // It does not know yet who is in the ring.
            Some(_) => return Answer::NotNow,
            None => return self.not_leader(),
        };
        let map = self.map();
        if map.nodes.is_empty() && node.id != self.id && !founds {
            // Whoever forms the ring is its first node.
            return Answer::NotNow;
        }
        let ring_pins = match map.epoch {
            0 => &self.options.pins,
            _ => &map.pins,
        };
        if ring_pins != pins {
            let why = "its cluster-pin is not that of the ring: it has to be the same on all nodes";
            return Answer::Refused(why.to_owned());
        }
        match map.node(node.id) {
            Some(known) if known.incarnation > node.incarnation => {
                return Answer::Refused("a later incarnation has joined".to_owned());
            }
            Some(known) if *known == node => return Answer::Granted,
            // It does not know yet that it has failed, and that it needs another incarnation.
            Some(known)
                if known.incarnation == node.incarnation && known.state == NodeState::Failed =>
            {
                return Answer::NotNow;
            }
            None if returns => return self.answer_forgotten(node.id).await,
            None if map.nodes.len() >= MAX_NODES => {
                return Answer::Refused("the ring is full".to_owned());
            }
            _ => {}
        }
        self.network
            .book
            .learn(node.id, node.incarnation, &node.bus);
        let is_other = node.id != self.id;
        let Some(vote) = self.begin_join(is_other) else {
            return self.not_leader();
        };
        let id = node.id;
        let patience = self.patience(&map, &node);
        let asked = Asked {
            origin: Origin {
                node: id,
                incarnation: node.incarnation,
                // The first of its incarnation; the same each time that it asks.
                number: 0,
                floor: 0,
            },
            change: Change::Join(node),
            finder: None,
        };
        let written = self.gathering.add(asked, patience).await;
        if is_other {
            self.end_join(&vote, written.is_ok());
        }
        match written {
            Ok(_) if self.map().node(id).is_some() => Answer::Granted,
            // Others that joined together with it may have taken the last places.
            Ok(_) => Answer::NotNow,
            Err(_) => self.not_written(),
        }
    }

    /// Whether the ring knows a node no more. Only who leads it still can tell: one in whose place others have chosen another,
    /// and that has not heard of it, does not know whom that one has let in since. So a quorum has to acknowledge something that
    /// was sent after the question came.
    async fn answer_forgotten(&self, id: NodeId) -> Answer {
        let asked = Instant::now();
        let Some(vote) = self.leading.lock().as_ref().map(Session::vote) else {
            return self.not_leader();
        };
        let is_sure = |now| self.quorum(&vote, now).is_some_and(|sent| sent >= asked);
        while !is_sure(Instant::now()) {
            if asked.elapsed() > self.times.question() {
                return Answer::NotNow;
            }
            sleep(self.times.heartbeat() / 4).await;
        }
        match self.in_session(&vote, |_| self.map().node(id).is_none()) {
            Some(true) => Answer::Forgotten,
            Some(false) => Answer::NotNow,
            None => self.not_leader(),
        }
    }

    /// How long a node that joins can wait for others to join with it.
    fn patience(&self, map: &Map, node: &Node) -> Duration {
        let is_other = |seed: &String| *seed != self.options.node.bus;
        if map.nodes.is_empty() {
            // All of those who waited for the ring ask within a heartbeat and a half, see `seek`. They get their slots at
            // once, while those who come later get them from others.
            return match self.options.seeds.iter().any(is_other) {
                true => self.times.heartbeat() * 2,
                false => Duration::ZERO,
            };
        }
        match map.node(node.id) {
            // It may own slots, of which nobody has anything meanwhile.
            Some(_) => self.times.heartbeat() / 4,
            None => self.times.heartbeat(),
        }
    }

    /// What is answered if nobody can tell whether a change was made.
    fn not_written(&self) -> Answer {
        match self.is_leader() {
            true => Answer::NotNow,
            false => self.not_leader(),
        }
    }

    async fn answer_propose(self: &Arc<Self>, origin: Origin, change: Change) -> Answer {
        if !self.is_leader() {
            return self.not_leader();
        }
        if let Err(why) = self.admit(&origin, &change, &self.map()) {
            return Answer::Refused(why);
        }
        let written = if let Change::Forget(id) = change {
            match self.take_away(id, origin) {
                Some(written) => written,
                None => return Answer::NotNow,
            }
        } else {
            let asked = Asked {
                origin,
                change,
                finder: None,
            };
            self.gathering.add(asked, Duration::ZERO)
        };
        match timeout(self.times.proposal(), written).await {
            Ok(Ok((index, outcome))) => Answer::Done {
                index,
                epoch: outcome.epoch,
                changed: outcome.changed,
            },
            Ok(Err(_)) => self.not_written(),
            Err(_) => Answer::NotNow,
        }
    }

    /// Has a node forgotten as soon as it can have no lease any more (rule 4). Once begun it goes on as long as this node
    /// leads, whoever waits for it: the node is barred. None if it has begun before, or this node does not lead.
    fn take_away(self: &Arc<Self>, id: NodeId, origin: Origin) -> Option<Written> {
        let mut leading = self.leading.lock();
        let session = leading.as_mut()?;
        if !session.proposed.insert(id) {
            return None;
        }
        let vote = session.vote();
        drop(leading);
        let (done, written) = oneshot::channel();
        self.spawn(|driver| async move {
            let is_over = || {
                let map = driver.map();
                driver.in_session(&vote, |session| {
                    session.ledger.bar(Instant::now(), &map, id)
                })
            };
            while is_over() == Some(false) {
                sleep(driver.times.heartbeat()).await;
            }
            let asked = Asked {
                origin,
                change: Change::Forget(id),
                finder: Some(vote.leader_id),
            };
            let made = driver.gathering.add(asked, Duration::ZERO).await;
            driver.in_session(&vote, |session| session.proposed.remove(&id));
            if let Ok(made) = made {
                // Nobody may wait for it any more.
                let _ = done.send(made);
            }
        });
        Some(written)
    }

    /// What a leader does not even propose.
    fn admit(&self, origin: &Origin, change: &Change, map: &Map) -> Result<(), String> {
        match change {
            Change::Failed(..) => Err("only the leader finds nodes failed".to_owned()),
            Change::Join(_) => Err("a node joins by itself".to_owned()),
            Change::Moved { from, .. } if *from != origin.node => {
                Err("only the owner gives slots away".to_owned())
            }
            Change::Forget(id) if *id == self.id && super::seek::is_only(map, *id) => {
                Err("it is the only node".to_owned())
            }
            _ => Ok(()),
        }
    }
}
