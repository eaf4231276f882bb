//! A node's way into a ring: greets the seeds, helps to form a ring or joins one, and joins again when it has to.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::BasicNode;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::Standing;
use super::super::member::forming::{self, Seed, Step};
use super::super::message::{Answer, Ask, Hello};
use super::super::store::{Ballot, Identity};
use super::Driver;
use crate::cluster::map::Map;
use crate::cluster::node::{NodeId, NodeState};

impl Driver {
    /// A task: see the file.
    pub(super) async fn seek(self: Arc<Self>) {
        let mut tries = 0u32;
        while !self.is_out() {
            let settled = if self.is_formed() {
                self.stay().await
            } else {
                tries += 1;
                if tries.is_multiple_of(100) {
                    self.tell_why_not();
                }
                self.look_for_ring().await;
                false
            };
            if settled {
                tries = 0;
                self.wait_for_news().await;
            } else {
                sleep(self.jittered(self.times.heartbeat())).await;
            }
        }
    }

    /// What an operator has to know of a node that finds no ring.
    fn tell_why_not(&self) {
        match self.store.ballot().voted.filter(|(id, _)| *id != self.id) {
            Some((candidate, _)) => tracing::warn!(
                %candidate,
                "cluster: no ring found; this node has voted for another one to form it, and waits for that or its ring"
            ),
            None => {
                tracing::warn!("cluster: no ring found, and not enough seeds answer to form one")
            }
        }
    }

    /// Until the map changes, or it is time to look after the leader.
    async fn wait_for_news(&self) {
        let mut applied = self.applied.clone();
        applied.mark_unchanged();
        let changed = timeout(self.times.renewal(), applied.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            sleep(self.times.renewal()).await;
        }
    }

    /// In a ring: sees to it that the ring knows this node as it is. Whether it does.
    async fn stay(self: &Arc<Self>) -> bool {
        self.tell_leader();
        if self.leader().is_none() {
            // All others may have come back with other addresses.
            self.greet().await;
        }
        let map = self.map();
        let identity = self.identity();
        match map.node(self.id) {
            Some(node) if node.incarnation > identity.incarnation => {
                self.drop_out(Standing::Superseded);
                true
            }
            Some(node) if node.incarnation == identity.incarnation => {
                self.seen.store(true, Ordering::Relaxed);
                let is_leaving = node.state == NodeState::Leaving;
                self.leaving.store(is_leaving, Ordering::Relaxed);
                if node.state != NodeState::Failed {
                    self.note_joined(identity).await;
                    self.stand(Standing::Member);
                    return true;
                }
                self.come_back(identity).await;
                false
            }
            Some(node) => {
                let is_leaving = node.state == NodeState::Leaving;
                self.leaving.store(is_leaving, Ordering::Relaxed);
                self.join().await;
                false
            }
            None if self.seen.load(Ordering::Relaxed) => {
                self.removed().await;
                true
            }
            None => {
                self.join().await;
                false
            }
        }
    }

    /// Tells when another one leads, or nobody.
    fn tell_leader(&self) {
        let leader = self.leader();
        let before = std::mem::replace(&mut *self.told_leader.lock(), leader);
        match leader {
            Some(leader) if before != Some(leader) => {
                tracing::info!(%leader, term = self.status().term, "cluster: a leader is known");
            }
            None if before.is_some() => tracing::warn!("cluster: no leader is known"),
            _ => {}
        }
    }

    /// The ring took this node for failed: it begins anew (rule 3 of the proof).
    async fn come_back(self: &Arc<Self>, identity: Identity) {
        tracing::warn!("cluster: the others took this node for failed; it joins again, empty");
        *self.lease.lock() = None;
        self.sink.renew_lease(tokio::time::Instant::now());
        let next = identity.incarnation + 1;
        if self.keep_identity(move |one| one.incarnation = next).await {
            self.join().await;
        }
    }

    /// The ring does not know this node any more. Where that was its own wish it may come back, as a new one.
    pub(super) async fn removed(&self) {
        // It may be removed before it has seen that it leaves.
        let was_leaving =
            self.leaving.load(Ordering::Relaxed) || self.wants_to_leave.load(Ordering::Relaxed);
        if !was_leaving {
            return self.drop_out(Standing::Forgotten);
        }
        let map = self.map();
        let others = map.nodes.iter().filter(|node| node.id != self.id);
        let kept = self
            .store
            .set_former(others.map(|node| node.bus.clone()).collect());
        self.report(kept.await);
        self.keep_identity(|one| one.left = true).await;
        self.drop_out(Standing::Left);
    }

    /// Whether this node, started again, had begun to leave before: the ring may have removed it when it was gone, by its own
    /// wish, and lets it in as any other.
    pub(super) fn may_join_anew(&self, identity: &Identity) -> bool {
        identity.leaves
            && !self.seen.load(Ordering::Relaxed)
            && !self.wants_to_leave.load(Ordering::Relaxed)
    }

    /// Keeps that the ring knows this node, and whether it wants to leave.
    async fn note_joined(&self, identity: Identity) {
        let leaves = self.wants_to_leave.load(Ordering::Relaxed);
        if identity.joined && identity.leaves == leaves {
            return;
        }
        self.keep_identity(move |one| {
            one.joined = true;
            one.leaves = leaves;
        })
        .await;
    }

    /// Keeps a change of who this node is. Whether it could.
    pub(super) async fn keep_identity(
        &self,
        change: impl FnOnce(&mut Identity) + Send + 'static,
    ) -> bool {
        self.report(self.store.change_identity(change).await)
    }

    /// Whether something was kept; if not, the operator is told.
    fn report(&self, kept: io::Result<()>) -> bool {
        if let Err(error) = &kept {
            tracing::error!(%error, "cluster: the state file cannot be written");
        }
        kept.is_ok()
    }

    /// Asks the leader to be let in.
    async fn join(self: &Arc<Self>) {
        // Told before it looks: either this or `leave` sees the other.
        self.has_asked.store(true, Ordering::SeqCst);
        if self.wants_to_leave.load(Ordering::SeqCst) {
            return sleep(self.times.renewal()).await;
        }
        let identity = self.identity();
        let ask = Ask::Join {
            node: self.node(),
            ring: identity.ring.clone(),
            pins: self.options.pins.clone(),
            returns: identity.joined && !self.may_join_anew(&identity),
        };
        match self.ask_leader(ask, self.times.timeout).await {
            Some(Answer::Granted) => self.note_joined(identity).await,
            Some(Answer::Forgotten) => self.removed().await,
            Some(Answer::Refused(why)) => {
                tracing::warn!(why, "cluster: the ring does not let this node in");
                sleep(self.times.timeout).await;
            }
            _ => {}
        }
    }

    /// In no ring: one step towards one.
    async fn look_for_ring(self: &Arc<Self>) {
        let (seeds, is_stable) = self.greet().await;
        let is_found = self.greet_former().await;
        let guard = self.forming.lock().await;
        if self.is_formed() {
            return;
        }
        let ballot = self.store.ballot();
        let step = match is_found {
            true => Step::Join,
            false => forming::step(self.id, ballot, &seeds),
        };
        // Whoever was let in somewhere does not form another ring.
        let may_form = is_stable && !self.identity().joined;
        match step {
            Step::Wait => {}
            Step::Join => {
                drop(guard);
                self.join().await;
            }
            Step::Withdraw(ballot) => {
                self.keep(ballot).await;
            }
            Step::AskBack { candidate, round } => {
                drop(guard);
                self.ask_back(candidate, round).await;
            }
            Step::Stand {
                ballot: next,
                others,
                needed,
            } if may_form => {
                if next != ballot && !self.keep(next).await {
                    return;
                }
                drop(guard);
                let votes = self.ask_votes(next, others).await;
                let _guard = self.forming.lock().await;
                // It may have given votes back meanwhile.
                if votes + 1 >= needed && self.store.ballot() == next && !self.is_formed() {
                    self.form().await;
                }
            }
            Step::Stand { .. } => {}
        }
    }

    async fn keep(&self, ballot: Ballot) -> bool {
        self.report(self.store.set_ballot(ballot).await)
    }

    async fn ask_back(&self, candidate: NodeId, round: u64) {
        let ask = Ask::Release {
            voter: self.id,
            round,
        };
        let answer = match self.address(candidate) {
            Some(address) => self.ask(&address, &ask, self.times.question()).await,
            None => None,
        };
        if !matches!(answer, Some(Answer::Released)) {
            return;
        }
        let _guard = self.forming.lock().await;
        let ballot = self.store.ballot();
        if ballot.voted == Some((candidate, round)) {
            self.keep(Ballot {
                voted: None,
                ..ballot
            })
            .await;
        }
    }

    /// How many of them vote for this node.
    async fn ask_votes(self: &Arc<Self>, ballot: Ballot, others: Vec<NodeId>) -> usize {
        let mut asked = JoinSet::new();
        for address in others.into_iter().filter_map(|id| self.address(id)) {
            let driver = self.clone();
            let ask = Ask::Vote {
                ring: self.identity().ring,
                candidate: self.id,
                round: ballot.round,
            };
            asked.spawn(async move { driver.ask(&address, &ask, driver.times.question()).await });
        }
        let answers = asked.join_all().await;
        let votes = answers
            .iter()
            .filter(|answer| matches!(answer, Some(Answer::Voted)));
        votes.count()
    }

    /// Begins the log, with this node as its only voter.
    async fn form(&self) {
        let address = BasicNode::new(&self.options.node.bus);
        match self
            .raft
            .initialize(BTreeMap::from([(self.id, address)]))
            .await
        {
            Ok(()) => {
                self.formed.store(true, Ordering::Relaxed);
                tracing::info!(node = %self.id, "cluster: this node forms the ring");
            }
            Err(error) => tracing::error!(%error, "cluster: the ring cannot be formed"),
        }
    }

    /// Asks all seeds who they are. The second is whether their names resolve to what they did last time.
    pub(super) async fn greet(self: &Arc<Self>) -> (Vec<Seed>, bool) {
        let mut resolved = Vec::new();
        for seed in &self.options.seeds {
            let mut addresses = match seed.parse::<SocketAddr>() {
                Ok(_) => vec![seed.clone()],
                Err(_) => self.network.transport.resolve(seed).await,
            };
            addresses.sort();
            addresses.dedup();
            resolved.push(addresses);
        }
        let before = std::mem::replace(&mut *self.resolved.lock(), resolved.clone());
        let is_by_name = |seed: &String| seed.parse::<SocketAddr>().is_err();
        let is_stable = before == resolved || !self.options.seeds.iter().any(is_by_name);
        let mut seeds: Vec<Seed> = resolved
            .iter()
            .map(|addresses| Seed {
                expected: expected(addresses),
                answers: Vec::new(),
            })
            .collect();
        let all = resolved.into_iter().enumerate();
        let all = all.flat_map(|(index, some)| some.into_iter().map(move |one| (index, one)));
        for (index, hello) in self.greet_all(all).await {
            seeds[index].answers.push(hello);
        }
        self.learn(&mut seeds);
        (seeds, is_stable)
    }

    /// Asks those who were in the ring with this node when it left, all seeds may have left as well: whether one of them is in
    /// it. They have no part in forming a ring.
    async fn greet_former(self: &Arc<Self>) -> bool {
        let former = self.store.former().into_iter().map(|address| ((), address));
        let mut is_found = false;
        for ((), hello) in self.greet_all(former).await {
            if hello.formed && hello.id != self.id && hello.ring == self.identity().ring {
                self.learn_of(&hello);
                is_found = true;
            }
        }
        is_found
    }

    /// Asks all at these addresses who they are: what those say who answer.
    async fn greet_all<T: Send + 'static>(
        self: &Arc<Self>,
        addresses: impl Iterator<Item = (T, String)>,
    ) -> Vec<(T, Hello)> {
        let mut asked = JoinSet::new();
        for (at, address) in addresses {
            let driver = self.clone();
            asked.spawn(async move {
                match driver.greet_one(&address).await {
                    Some(Answer::Hello(hello)) => Some((at, hello)),
                    _ => None,
                }
            });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    async fn greet_one(&self, address: &str) -> Option<Answer> {
        if address == self.options.node.bus {
            return Some(Answer::Hello(self.hello()));
        }
        let ask = Ask::Hello(self.hello());
        self.ask(address, &ask, self.times.question()).await
    }

    /// Takes from their answers what is of use later.
    fn learn(&self, seeds: &mut [Seed]) {
        let ring = self.identity().ring;
        let mut lowest = None;
        for seed in seeds {
            // Another ring's nodes count as if nobody had answered.
            seed.answers.retain(|hello| hello.ring == ring);
            seed.answers.sort_by_key(|hello| hello.id);
            for hello in &seed.answers {
                lowest = lowest.into_iter().chain([hello.id]).min();
                if hello.id != self.id {
                    self.learn_of(hello);
                }
            }
        }
        *self.lowest.lock() = lowest;
    }

    /// Another one, and whom to ask for the leader.
    fn learn_of(&self, hello: &Hello) {
        self.network
            .book
            .learn(hello.id, hello.incarnation, &hello.bus);
        if let Some((leader, address)) = &hello.leader {
            *self.hint.lock() = Some((*leader, address.clone()));
        } else if hello.formed && self.hint.lock().is_none() {
            *self.hint.lock() = Some((hello.id, hello.bus.clone()));
        }
    }
}

/// How many nodes these addresses stand for at least: one node may have one of each family.
fn expected(addresses: &[String]) -> usize {
    let is_v6 = |address: &&String| matches!(address.parse(), Ok(SocketAddr::V6(_)));
    let v6 = addresses.iter().filter(is_v6).count();
    v6.max(addresses.len() - v6).max(1)
}

/// Whether the map has this node as the only one.
pub(super) fn is_only(map: &Map, id: NodeId) -> bool {
    matches!(map.nodes.as_slice(), [node] if node.id == id)
}
