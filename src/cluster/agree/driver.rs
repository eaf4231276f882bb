//! Runs the agreement: tasks that ask, answer and wait. What they do about it, [`super::member`] decides.
//!
//! Four tasks run for the whole life of a node: `seek` brings it into a ring and back into it, `renew` keeps its lease; while this
//! node leads, `lead` does what a leader has to, and `write` puts into the log what it was asked for.

mod answer;
mod gather;
mod lead;
mod seek;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::{Config, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::gather::Gathering;
use self::lead::Session;
use super::machine::{Applied, Machine};
use super::member::Times;
use super::message::{Answer, Ask, Hello, decode, encode};
use super::network::{Book, Heard, Network};
use super::store::{Identity, Store};
use super::types::{Origin, Raft};
use super::{Left, Options, ProposeError, Sink, Standing, StartError, Status, Transport};
use crate::cluster::bus::Kind;
use crate::cluster::map::{Change, Map};
use crate::cluster::node::{Node, NodeId, NodeState};

/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 500;
/// Entries that are kept beside the snapshot that holds them: whoever lags by less needs no snapshot.
const KEPT_ENTRIES: u64 = 100;
/// Entries in one message.
const MAX_ENTRIES: u64 = 64;
/// Nodes asked before a question for the leader is given up for now.
const MOST_ASKED: usize = 4;

/// This node's part. See the file.
pub struct Driver {
    options: Options,
    times: Times,
    id: NodeId,
    store: Store,
    raft: Raft,
    network: Arc<Network>,
    sink: Arc<dyn Sink>,
    applied: watch::Receiver<Applied>,
    chance: Mutex<fastrand::Rng>,
    standing: watch::Sender<Standing>,
    /// Taken for every decision by which the ring may form.
    forming: tokio::sync::Mutex<()>,
    /// The lowest name among the seeds that answered last.
    lowest: Mutex<Option<NodeId>>,
    /// What the seeds resolved to last.
    resolved: Mutex<Vec<Vec<String>>>,
    /// Who was said to lead.
    hint: Mutex<Option<(NodeId, String)>>,
    /// Counts questions, so that they go to others in turn.
    turn: Mutex<usize>,
    /// Whether there is a log that this node takes part in.
    formed: AtomicBool,
    /// Whether this process has seen itself in the map.
    seen: AtomicBool,
    /// Whether this process has asked to be let in.
    has_asked: AtomicBool,
    /// Whether it wants to leave.
    wants_to_leave: AtomicBool,
    /// Whether the map said last that this node is leaving.
    leaving: AtomicBool,
    /// Who was told to lead, in the log.
    told_leader: Mutex<Option<NodeId>>,
    leading: Mutex<Option<Session>>,
    gathering: Gathering,
    lease: Mutex<Option<Instant>>,
    proposals: Mutex<Proposals>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

/// What this node has proposed.
#[derive(Debug, Default)]
struct Proposals {
    last: u64,
    /// What is still waited for.
    open: BTreeSet<u64>,
}

impl Driver {
    /// See [`super::Agreement::start`].
    pub async fn start(
        options: Options,
        store: Store,
        transport: Arc<dyn Transport>,
        sink: Arc<dyn Sink>,
    ) -> Result<Arc<Driver>, StartError> {
        let times = Times::new(options.node_timeout);
        let id = store.id();
        let mut chance = fastrand::Rng::with_seed(options.seed);
        let network = Arc::new(Network {
            transport,
            book: Arc::new(Book::default()),
            heard: Arc::new(Heard::default()),
            times,
        });
        let config = raft_config(&store.identity().ring, times, &mut chance);
        let (machine, applied) = Machine::open(store.clone(), sink.clone(), network.book.clone())
            .map_err(StartError::Log)?;
        let raft = Raft::new(
            id,
            Arc::new(config),
            network.clone(),
            store.clone(),
            machine,
        )
        .await
        .map_err(|error| StartError::Log(error.to_string()))?;
        // Asked of the log itself: what it publishes begins empty.
        let formed = raft
            .is_initialized()
            .await
            .map_err(|error| StartError::Log(error.to_string()))?;
        let driver = Arc::new(Driver {
            times,
            id,
            store,
            raft,
            network,
            sink,
            applied,
            chance: Mutex::new(chance),
            standing: watch::Sender::new(Standing::Seeking),
            forming: tokio::sync::Mutex::new(()),
            lowest: Mutex::new(None),
            resolved: Mutex::new(Vec::new()),
            hint: Mutex::new(None),
            turn: Mutex::new(0),
            formed: AtomicBool::new(formed),
            seen: AtomicBool::new(false),
            has_asked: AtomicBool::new(false),
            wants_to_leave: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            told_leader: Mutex::new(None),
            leading: Mutex::new(None),
            gathering: Gathering::default(),
            lease: Mutex::new(None),
            proposals: Mutex::new(Proposals::default()),
            stop: watch::Sender::new(false),
            tasks: Mutex::new(JoinSet::new()),
            options,
        });
        driver.spawn(|driver| driver.seek());
        driver.spawn(|driver| driver.renew());
        driver.spawn(|driver| driver.lead());
        driver.spawn(|driver| driver.write());
        Ok(driver)
    }

    /// Runs a task until it ends or this node stops.
    fn spawn<F>(self: &Arc<Self>, task: impl FnOnce(Arc<Driver>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stop = self.stop.subscribe();
        let task = task(self.clone());
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            tokio::select! {
                // An error means that the driver is gone.
                _ = stop.wait_for(|stopped| *stopped) => {}
                () = task => {}
            }
        });
    }

    /// See [`super::Agreement::shutdown`].
    pub async fn shutdown(&self) {
        self.stop();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "cluster: the log did not end as it should");
        }
        self.store.close().await;
    }

    /// Has all tasks end soon.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// This node's name.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The map that was applied last.
    pub fn map(&self) -> Arc<Map> {
        self.applied.borrow().map.clone()
    }

    /// Who leads.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow().current_leader
    }

    /// See [`Status`].
    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        Status {
            standing: *self.standing.borrow(),
            leader: metrics.current_leader,
            term: metrics.current_term,
            voters: voters.into_iter().collect(),
            learners: membership.learner_ids().collect(),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            incarnation: self.store.identity().incarnation,
        }
    }

    fn identity(&self) -> Identity {
        self.store.identity()
    }

    /// What this node says of itself now.
    fn node(&self) -> Node {
        Node {
            id: self.id,
            incarnation: self.identity().incarnation,
            state: NodeState::Up,
            ..self.options.node.clone()
        }
    }

    /// Whether there is a log that this node takes part in.
    fn is_formed(&self) -> bool {
        if !self.formed.load(Ordering::Relaxed) {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let has_voters = metrics.membership_config.voter_ids().next().is_some();
            self.formed.store(has_voters, Ordering::Relaxed);
        }
        self.formed.load(Ordering::Relaxed)
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|now| {
            let changed = *now != standing;
            *now = standing;
            changed
        });
    }

    fn is_out(&self) -> bool {
        let standing = *self.standing.borrow();
        matches!(
            standing,
            Standing::Forgotten | Standing::Left | Standing::Superseded
        )
    }

    /// See [`super::Agreement::ended`].
    pub async fn ended(&self) {
        let mut standing = self.standing.subscribe();
        while !self.is_out() {
            // The sender is this driver's own.
            let _ = standing.changed().await;
        }
    }

    /// The end of this node's part in the ring.
    fn drop_out(&self, standing: Standing) {
        if self.is_out() {
            return;
        }
        self.stand(standing);
        *self.lease.lock() = None;
        // Who has handed its slots over, and knows it, may tell clients what it has done for them before; nobody else may.
        let has_handed_over = standing == Standing::Left && self.map().node(self.id).is_none();
        if !has_handed_over {
            self.sink.renew_lease(Instant::now());
        }
        match standing {
            Standing::Superseded => tracing::error!(
                "cluster: another process has this node's name and a later incarnation: this one serves nothing any more"
            ),
            Standing::Left => tracing::info!(
                "cluster: this node is not in the ring any more; when it is started again it joins as a new one"
            ),
            _ => tracing::warn!(
                "cluster: the ring has removed this node; to come back as a new one it has to be started with an empty state"
            ),
        }
    }

    fn hello(&self) -> Hello {
        let identity = self.identity();
        let leader = self.leader();
        Hello {
            ring: identity.ring,
            id: self.id,
            incarnation: identity.incarnation,
            bus: self.options.node.bus.clone(),
            formed: self.is_formed(),
            leader: leader.and_then(|id| self.address(id).map(|address| (id, address))),
        }
    }

    fn address(&self, id: NodeId) -> Option<String> {
        if id == self.id {
            return Some(self.options.node.bus.clone());
        }
        self.network.book.address(id)
    }

    /// Asks the node at this address.
    async fn ask(&self, address: &str, ask: &Ask, long: Duration) -> Option<Answer> {
        let transport = &self.network.transport;
        let call = transport.call(address, Kind::Member, encode(ask), long);
        match timeout(long, call).await {
            Ok(Ok(bytes)) => decode(&bytes),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Asks the leader, wherever it is: nobody else's answer is given back. None if it could not be found, or did not answer.
    async fn ask_leader(self: &Arc<Self>, ask: Ask, long: Duration) -> Option<Answer> {
        let mut asked: BTreeSet<String> = BTreeSet::new();
        let mut next: Vec<(NodeId, String)> = self.whom_to_ask();
        while let Some((id, address)) = next.pop() {
            if asked.len() == MOST_ASKED || !asked.insert(address.clone()) {
                continue;
            }
            let answer = if id == self.id {
                Some(self.answer(ask.clone()).await)
            } else {
                self.ask(&address, &ask, long).await
            };
            match answer {
                Some(Answer::NotLeader(leader)) => next.extend(leader),
                Some(answer) => {
                    *self.hint.lock() = Some((id, address));
                    return Some(answer);
                }
                None => {}
            }
        }
        None
    }

    /// Who may know the leader; the likeliest last.
    fn whom_to_ask(&self) -> Vec<(NodeId, String)> {
        let start = {
            let mut turn = self.turn.lock();
            *turn = turn.wrapping_add(1);
            *turn
        };
        let mut some = self.network.book.some(self.id, start, MOST_ASKED);
        some.extend(self.hint.lock().clone());
        let leader = self.leader();
        some.extend(leader.and_then(|id| self.address(id).map(|address| (id, address))));
        some
    }

    /// A task that keeps this node's lease.
    async fn renew(self: Arc<Self>) {
        let mut was_valid = false;
        let mut news = self.applied.clone();
        loop {
            news.mark_unchanged();
            if self.is_formed() && !self.is_out() {
                self.renew_once().await;
            }
            let is_valid = self
                .lease
                .lock()
                .is_some_and(|until| until > Instant::now());
            if was_valid != is_valid && !self.is_out() {
                match is_valid {
                    true => tracing::info!("cluster: this node has a lease and serves its slots"),
                    false => tracing::warn!(
                        "cluster: this node's lease is over: the leader cannot be reached, or has no majority; no slot is served"
                    ),
                }
            }
            was_valid = is_valid;
            if is_valid {
                sleep(self.times.renewal()).await;
            } else {
                // Who has just been let in asks at once: until it has a lease nobody hands slots over to it.
                let changed = timeout(self.times.renewal(), news.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    sleep(self.times.renewal()).await;
                }
            }
        }
    }

    async fn renew_once(self: &Arc<Self>) {
        let identity = self.identity();
        let sent = Instant::now();
        let ask = Ask::Lease {
            node: self.id,
            incarnation: identity.incarnation,
        };
        let long = self.times.question();
        let Ok(Some(answer)) = timeout(long, self.ask_leader(ask, long / 2)).await else {
            return;
        };
        match answer {
            Answer::Granted => self.lease_granted(sent, identity.incarnation),
            Answer::Forgotten if identity.joined && !self.may_join_anew(&identity) => {
                self.removed().await;
            }
            _ => {}
        }
    }

    /// Rule 2 of [`super::member`].
    fn lease_granted(&self, sent: Instant, incarnation: u64) {
        // Held while the lease is set: a leader that is about to let somebody in cuts its own.
        let leading = self.leading.lock();
        let map = self.map();
        let is_mine = map.node(self.id).is_some_and(|node| {
            node.incarnation == incarnation
                && matches!(node.state, NodeState::Up | NodeState::Leaving)
        });
        if !is_mine || self.identity().incarnation != incarnation || self.is_out() {
            return;
        }
        let is_alone = leading
            .as_ref()
            .is_some_and(|session| self.is_alone(session, &map));
        let long = if is_alone {
            Times::ALONE
        } else {
            self.times.lease()
        };
        self.set_lease(sent + long);
    }

    fn set_lease(&self, until: Instant) {
        *self.lease.lock() = Some(until);
        self.sink.renew_lease(until);
    }

    /// See [`super::Agreement::propose`].
    pub async fn propose(self: &Arc<Self>, change: Change) -> Result<u64, ProposeError> {
        if matches!(change, Change::Failed(..)) {
            let why = "only the leader finds nodes failed".to_owned();
            return Err(ProposeError::Refused(why));
        }
        let number = self.open_proposal();
        let result = timeout(
            self.times.proposal(),
            self.propose_until_done(number, change),
        )
        .await;
        self.proposals.lock().open.remove(&number);
        result.unwrap_or(Err(ProposeError::Unavailable))
    }

    fn open_proposal(&self) -> u64 {
        let mut proposals = self.proposals.lock();
        proposals.last += 1;
        let number = proposals.last;
        proposals.open.insert(number);
        number
    }

    pub(super) fn origin(&self, number: u64) -> Origin {
        let floor = self.proposals.lock().open.first().copied();
        let incarnation = self.identity().incarnation;
        // Its join is number 0. Who leads on after a quick restart may find others failed, or itself, before that is made: it
        // must not be void then, or the node would never come back.
        let map = self.map();
        let known = map.node(self.id);
        let has_joined = known.is_some_and(|node| node.incarnation >= incarnation);
        Origin {
            node: self.id,
            incarnation,
            number,
            floor: match has_joined {
                true => floor.unwrap_or(number),
                false => 0,
            },
        }
    }

    async fn propose_until_done(
        self: &Arc<Self>,
        number: u64,
        change: Change,
    ) -> Result<u64, ProposeError> {
        // What was asked for as one incarnation is not asked for again as another.
        let incarnation = self.identity().incarnation;
        loop {
            let origin = self.origin(number);
            if self.is_out() || *self.stop.borrow() || origin.incarnation != incarnation {
                return Err(ProposeError::NotInRing);
            }
            let ask = Ask::Propose(origin, change.clone());
            match self.ask_leader(ask, self.times.timeout).await {
                Some(Answer::Done {
                    index,
                    epoch,
                    changed,
                }) => {
                    self.wait_applied(index).await?;
                    return changed.then_some(epoch).ok_or(ProposeError::NoEffect);
                }
                Some(Answer::Refused(why)) => return Err(ProposeError::Refused(why)),
                _ => sleep(self.jittered(self.times.heartbeat())).await,
            }
        }
    }

    async fn wait_applied(&self, index: u64) -> Result<(), ProposeError> {
        let mut applied = self.applied.clone();
        let waited = applied.wait_for(|applied| applied.index >= index).await;
        waited.map(|_| ()).map_err(|_| ProposeError::NotInRing)
    }

    /// Half to three halves of it.
    fn jittered(&self, long: Duration) -> Duration {
        long.mul_f64(0.5 + self.chance.lock().f64())
    }

    /// See [`super::Agreement::leave`].
    pub async fn leave(self: &Arc<Self>) -> Result<Left, ProposeError> {
        self.wants_to_leave.store(true, Ordering::SeqCst);
        let mut applied = self.applied.clone();
        let mut standing = self.standing.subscribe();
        let returned_by = Instant::now() + self.times.timeout;
        let has_heirs = |map: &Map| {
            let mut nodes = map.nodes.iter();
            nodes.any(|node| node.id != self.id && node.state == NodeState::Up)
        };
        loop {
            let map = self.map();
            let Some(node) = map.node(self.id).filter(|_| !self.is_out()) else {
                // Who was asked to let it in may do so yet, and would have a member that is gone.
                let may_be_let_in = self.has_asked.load(Ordering::SeqCst)
                    && !self.seen.load(Ordering::Relaxed)
                    && !self.is_out();
                if may_be_let_in && timeout(self.times.timeout, applied.changed()).await.is_ok() {
                    continue;
                }
                self.leave_voters().await;
                return Ok(Left::Removed);
            };
            let mut stop = self.stop.subscribe();
            if !has_heirs(&map) {
                let is_failed = |one: &Node| one.state == NodeState::Failed && one.id != self.id;
                if !map.nodes.iter().any(is_failed) {
                    return Ok(Left::Alone);
                }
                // They may have been cut off, and come back any moment. With who ends now all keys end, and who has the only vote.
                tokio::select! {
                    _ = applied.changed() => continue,
                    _ = standing.changed() => continue,
                    _ = stop.wait_for(|stopped| *stopped) => return Err(ProposeError::NotInRing),
                    () = tokio::time::sleep_until(returned_by) => return Ok(Left::Alone),
                }
            }
            if node.state == NodeState::Up {
                // Before anybody else can know: it may end at any time from now on.
                self.keep_identity(|one| one.leaves = true).await;
                match self.propose(Change::Leave(self.id)).await {
                    Ok(_) | Err(ProposeError::NoEffect | ProposeError::NotInRing) => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            tokio::select! {
                _ = applied.changed() => {}
                _ = standing.changed() => {}
                _ = stop.wait_for(|stopped| *stopped) => return Err(ProposeError::NotInRing),
            }
        }
    }

    /// After it was removed: others are to vote in its place before it goes. Whoever cannot hear of that any more waits for
    /// a node timeout; the majority of the others then decides without it.
    async fn leave_voters(&self) {
        let mut metrics = self.raft.metrics();
        let id = self.id;
        let replaced = metrics.wait_for(|metrics| {
            let mut voters = metrics.membership_config.voter_ids();
            !voters.any(|voter| voter == id)
        });
        let _ = timeout(self.times.timeout, replaced).await;
        // Whoever notices it first keeps that it has left; it must be kept before this process ends.
        let mut standing = self.standing.subscribe();
        let noticed = standing.wait_for(|standing| *standing == Standing::Left);
        let _ = timeout(self.times.timeout, noticed).await;
    }

    /// See [`super::Agreement::handle`].
    pub async fn handle(self: &Arc<Self>, kind: Kind, payload: Bytes) -> Bytes {
        let answer = match kind {
            Kind::Raft => match decode(&payload) {
                Some(ask) => encode(&self.answer_raft(ask).await),
                None => Vec::new(),
            },
            Kind::Member => match decode(&payload) {
                Some(ask) => encode(&self.answer(ask).await),
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        Bytes::from(answer)
    }

    fn is_leader(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }
}

/// openraft's times and bounds. It draws the time to an election once; drawing it here makes it depend on the seed alone.
fn raft_config(ring: &str, times: Times, chance: &mut fastrand::Rng) -> Config {
    let millis = |long: Duration| (long.as_millis() as u64).max(1);
    let heartbeat_interval = millis(times.heartbeat());
    let election = millis(times.election(chance.f64())).max(heartbeat_interval + 1);
    Config {
        cluster_name: ring.to_owned(),
        heartbeat_interval,
        election_timeout_min: election,
        election_timeout_max: election + 1,
        install_snapshot_timeout: millis(times.snapshot()),
        max_payload_entries: MAX_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        replication_lag_threshold: SNAPSHOT_EVERY * 2,
        ..Config::default()
    }
}
