//! A simulated ring: hosts that run whole servers, and what must hold at every moment.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quoit::base::clock::{Clock, Millis};
use quoit::cluster::agree::disk;
use quoit::cluster::map::{Map, NOBODY};
use quoit::cluster::node::{NodeId, NodeState};
use quoit::cluster::slots::SLOTS;
use quoit::cluster::{Owner, SlotSet, View};
use quoit::config::{BindAddress, Config, Machine, Memory, Secret, Seed, Settings};
use quoit::server::simulated;
use quoit::state::Server;

use crate::history::Loss;

/// cluster-node-timeout.
pub const T: Duration = Duration::from_secs(1);
/// Of clients.
pub const PORT: u16 = 6379;
/// How far time goes before all are looked at.
pub const STEP: Duration = Duration::from_millis(1);
/// How many of the first nodes are seeds.
pub const SEEDS: usize = 3;
/// The time on the wall when a simulation begins.
const EPOCH: Millis = Millis(1_700_000_000_000);
/// How long a server that ends waits for its slots and its clients.
/// Less than passes between the end of a lease and the moment at which others may take the slots (cluster/agree/member.rs).
const A_MOMENT: Duration = Duration::from_millis(T.as_millis() as u64 / 10);
const GRACE: Duration = Duration::from_secs(10);

thread_local! {
    /// A panic in a task is caught by the runtime: here it is not forgotten.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes the panics of a simulation's thread. Once in a process.
pub fn note_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANIC.with(|panic| *panic.borrow_mut() = Some(info.to_string()));
        before(info);
    }));
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has not been started yet.
    Absent,
    /// It runs, or starts.
    Up,
    /// It was asked to end, and hands its slots over.
    Leaving,
    /// It has ended as it was asked to.
    Gone,
    /// It was killed.
    Dead,
}

/// What a node would do for its slots now.
struct Seen {
    version: u64,
    view: Arc<View>,
    has_lease: bool,
    /// When it had one last.
    had_lease: Duration,
    /// The slots it would serve, were its lease running.
    ready: SlotSet,
}

/// A host.
struct Peer {
    name: String,
    ip: IpAddr,
    disk: disk::Memory,
    phase: Cell<Phase>,
    server: RefCell<Option<Arc<Server>>>,
    seen: RefCell<Option<Seen>>,
}

impl Peer {
    fn id(&self) -> Option<NodeId> {
        let server = self.server.borrow();
        let cluster = server.as_ref().and_then(|server| server.cluster.get());
        cluster.map(|cluster| cluster.me)
    }

    fn had_lease_since(&self, time: Duration) -> bool {
        let seen = self.seen.borrow();
        seen.as_ref().is_some_and(|seen| seen.had_lease >= time)
    }
}

/// What the hosts and the one who steps them share.
pub struct Shared {
    peers: RefCell<Vec<Rc<Peer>>>,
    /// Since the last look at all.
    is_dirty: Cell<bool>,
    /// What happened, in words.
    log: RefCell<Vec<String>>,
}

impl Shared {
    /// Adds a line to what happened.
    pub fn note(&self, at: Duration, what: &str) {
        self.log
            .borrow_mut()
            .push(format!("{:>9.3} s  {what}", at.as_secs_f64()));
    }

    /// The addresses of nodes that take clients: those that have been in the ring since they started.
    pub fn open(&self) -> Vec<(usize, IpAddr)> {
        let peers = self.peers.borrow();
        let open = peers.iter().enumerate();
        let has_joined = |peer: &Peer| {
            let seen = peer.seen.borrow();
            seen.as_ref().is_some_and(|seen| !seen.had_lease.is_zero())
        };
        let open = open.filter(|(_, peer)| peer.phase.get() == Phase::Up && has_joined(peer));
        open.map(|(index, peer)| (index, peer.ip)).collect()
    }

    /// Whether a node was still there.
    pub fn is_up(&self, index: usize) -> bool {
        self.peers.borrow()[index].phase.get() == Phase::Up
    }
}

/// The simulation.
pub struct World {
    pub sim: turmoil::Sim<'static>,
    pub shared: Rc<Shared>,
    /// Each map, and when it was first seen.
    maps: BTreeMap<u64, (Duration, Arc<Map>)>,
    /// Nodes that were there, their lease running, when a map was first seen: who has gone with it has given its slots away.
    alive: BTreeMap<u64, Vec<NodeId>>,
    /// Whether all clients had ended at the last step.
    pub clients_ended: bool,
}

/// What went wrong.
pub type Wrong = String;

impl World {
    /// Hosts for `nodes` servers, none of which runs.
    pub fn new(seed: u64, nodes: usize) -> World {
        fastrand::seed(seed);
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(100_000))
            .tick_duration(STEP)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(4))
            .tcp_capacity(100_000)
            .repair_rate(0.05)
            .enable_random_order()
            .build();
        let shared = Rc::new(Shared {
            peers: RefCell::default(),
            is_dirty: Cell::new(false),
            log: RefCell::default(),
        });
        for index in 0..nodes {
            let name = format!("node-{index}");
            let ip = sim.lookup(name.as_str());
            shared.peers.borrow_mut().push(Rc::new(Peer {
                name,
                ip,
                disk: disk::Memory::default(),
                phase: Cell::new(Phase::Absent),
                server: RefCell::default(),
                seen: RefCell::default(),
            }));
        }
        World {
            sim,
            shared,
            maps: BTreeMap::new(),
            alive: BTreeMap::new(),
            clients_ended: false,
        }
    }

    fn peer(&self, index: usize) -> Rc<Peer> {
        Rc::clone(&self.shared.peers.borrow()[index])
    }

    /// All nodes in this phase.
    pub fn in_phase(&self, phase: Phase) -> Vec<usize> {
        let peers = self.shared.peers.borrow();
        let found = peers.iter().enumerate();
        let found = found.filter(|(_, peer)| peer.phase.get() == phase);
        found.map(|(index, _)| index).collect()
    }

    /// Where a node stands.
    pub fn phase(&self, index: usize) -> Phase {
        self.peer(index).phase.get()
    }

    /// The name of a node's host.
    pub fn name(&self, index: usize) -> String {
        self.peer(index).name.clone()
    }

    /// Adds a line to what happened.
    pub fn note(&self, what: &str) {
        self.shared.note(self.sim.elapsed(), what);
    }

    /// Starts a node, with what it has on its disk.
    pub fn start(&mut self, index: usize) {
        let peer = self.peer(index);
        self.note(&format!("{} starts", peer.name));
        let is_new = peer.phase.replace(Phase::Up) == Phase::Absent;
        if !is_new {
            return self.sim.bounce(peer.name.as_str());
        }
        let shared = Rc::clone(&self.shared);
        self.sim
            .host(peer.name.clone(), move || serve(Rc::clone(&shared), index));
    }

    /// Kills a node.
    pub fn kill(&mut self, index: usize) {
        let peer = self.peer(index);
        self.note(&format!("{} is killed", peer.name));
        let kept = peer.disk.bytes();
        peer.phase.set(Phase::Dead);
        self.sim.crash(peer.name.as_str());
        peer.disk.set(kept);
        peer.server.take();
        peer.seen.take();
    }

    /// Asks a node to end, as SIGTERM does.
    pub fn ask_to_leave(&mut self, index: usize) {
        let peer = self.peer(index);
        self.note(&format!("{} is asked to leave", peer.name));
        if let Some(server) = &*peer.server.borrow() {
            peer.phase.set(Phase::Leaving);
            server.shutdown.ask();
        }
    }

    /// Lets time pass, and looks at all after each step.
    pub fn run(&mut self, long: Duration) -> Result<(), Wrong> {
        let end = self.sim.elapsed() + long;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Lets time pass until it is so; how long it took.
    pub fn until(
        &mut self,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&World) -> bool,
    ) -> Result<Duration, Wrong> {
        let begin = self.sim.elapsed();
        loop {
            if is_so(self) {
                return Ok(self.sim.elapsed() - begin);
            }
            if self.sim.elapsed() - begin > limit {
                return Err(format!("not within {limit:?}: {what}\n{}", self.state()));
            }
            self.step()?;
        }
    }

    /// A step of time.
    pub fn step(&mut self) -> Result<(), Wrong> {
        let stepped = self.sim.step();
        if let Some(panic) = PANIC.with(|panic| panic.borrow_mut().take()) {
            return Err(format!("a panic: {panic}"));
        }
        self.clients_ended = stepped.map_err(|error| format!("a host failed: {error}"))?;
        match self.shared.is_dirty.replace(false) {
            true => self.check(),
            false => Ok(()),
        }
    }

    /// What must hold at every moment: a slot is served by one node at most, and an epoch has one map.
    fn check(&mut self) -> Result<(), Wrong> {
        let now = self.sim.elapsed();
        let peers = self.shared.peers.borrow();
        for peer in peers.iter() {
            let seen = peer.seen.borrow();
            let Some(map) = seen.as_ref().map(|seen| &seen.view.map) else {
                continue;
            };
            if map.epoch == 0 {
                continue;
            }
            let (_, same) = self.maps.entry(map.epoch).or_insert_with(|| {
                let alive = peers
                    .iter()
                    .filter(|peer| peer.had_lease_since(now.saturating_sub(A_MOMENT)));
                self.alive
                    .insert(map.epoch, alive.filter_map(|peer| peer.id()).collect());
                (now, Arc::clone(map))
            });
            if !Arc::ptr_eq(same, map) && **same != **map {
                return Err(format!("epoch {} has two maps", map.epoch));
            }
        }
        for (number, one) in peers.iter().enumerate() {
            for other in &peers[number + 1..] {
                let (mine, theirs) = (one.seen.borrow(), other.seen.borrow());
                let (Some(mine), Some(theirs)) = (&*mine, &*theirs) else {
                    continue;
                };
                if mine.has_lease && theirs.has_lease && mine.ready.meets(&theirs.ready) {
                    let mut both = mine
                        .ready
                        .iter()
                        .filter(|slot| theirs.ready.contains(*slot));
                    return Err(format!(
                        "slot {:?} has two owners: {} in epoch {}, {} in epoch {}",
                        both.next(),
                        one.name,
                        mine.view.map.epoch,
                        other.name,
                        theirs.view.map.epoch
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether all that run have one map, in which they and nobody else are up, and serve all slots, each its own.
    pub fn is_whole(&self) -> bool {
        let peers = self.shared.peers.borrow();
        let up = peers.iter().filter(|peer| peer.phase.get() == Phase::Up);
        let (mut count, mut served, mut epoch) = (0, 0, None);
        for peer in up {
            let seen = peer.seen.borrow();
            let Some(seen) = seen.as_ref().filter(|seen| seen.has_lease) else {
                return false;
            };
            let map = &seen.view.map;
            if epoch.is_some_and(|epoch| epoch != map.epoch) || map.owners != map.targets {
                return false;
            }
            epoch = Some(map.epoch);
            count += 1;
            served += seen.ready.len();
        }
        served == SLOTS && epoch.is_some_and(|epoch| members(&self.maps[&epoch].1) == count)
    }

    /// Whether the latest map has a node, in any state.
    pub fn is_member(&self, index: usize) -> bool {
        let bus = format!("{}:{}", self.peer(index).ip, PORT + 10_000);
        let last = self.maps.values().next_back();
        last.is_some_and(|(_, map)| map.nodes.iter().any(|node| node.bus == bus))
    }

    /// How many nodes are up in the latest map.
    pub fn members(&self) -> usize {
        let last = self.maps.values().next_back();
        last.map_or(0, |(_, map)| members(map))
    }

    /// The ends of owners: whose slots were taken from them, and when.
    pub fn losses(&self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for ((_, (_, before)), (epoch, (at, after))) in
            self.maps.iter().zip(self.maps.iter().skip(1))
        {
            for (index, node) in before.nodes.iter().enumerate() {
                let later = after.node(node.id);
                let is_same = later.is_some_and(|later| {
                    later.incarnation == node.incarnation && later.state != NodeState::Failed
                });
                let slots: Vec<bool> = before
                    .owners
                    .iter()
                    .map(|owner| usize::from(*owner) == index)
                    .collect();
                let has_left = later.is_none()
                    && node.state == NodeState::Leaving
                    && self.alive[epoch].contains(&node.id);
                if is_same || has_left || node.state == NodeState::Failed || !slots.contains(&true)
                {
                    continue;
                }
                losses.push(Loss {
                    begin: at.saturating_sub(2 * STEP).as_micros() as u64,
                    end: (*at + 2 * STEP).as_micros() as u64,
                    slots,
                });
            }
        }
        losses
    }

    /// How many maps there have been.
    pub fn epochs(&self) -> usize {
        self.maps.len()
    }

    /// What became of a slot: when each map was first seen in which it had another owner.
    pub fn story_of(&self, slot: u16) -> String {
        let (mut text, mut before) = (String::new(), None);
        for (epoch, (at, map)) in &self.maps {
            let owner = map.owner(slot);
            let owner = owner.map(|node| (node.id, node.incarnation, node.state));
            if before.replace(owner) != Some(owner) {
                text += &format!("  epoch {epoch} at {at:?}: {owner:?}\n");
            }
        }
        text
    }

    /// When each epoch was first seen.
    pub fn times_of_epochs(&self) -> impl Iterator<Item = (u64, Duration)> {
        self.maps.iter().map(|(epoch, (at, _))| (*epoch, *at))
    }

    /// Where all nodes stand.
    pub fn state(&self) -> String {
        let mut text = String::new();
        for peer in self.shared.peers.borrow().iter() {
            text += &format!("{} {:?}", peer.name, peer.phase.get());
            if let Some(seen) = &*peer.seen.borrow() {
                let map = &seen.view.map;
                let others = map.owners.iter().zip(&map.targets);
                text += &format!(
                    ": epoch {}, lease {}, would serve {}, held {}, dead {}, to be moved in the ring {}, owned by nobody {}",
                    map.epoch,
                    seen.has_lease,
                    seen.ready.len(),
                    seen.view.held.as_ref().map_or(0, SlotSet::len),
                    seen.view.dead.as_ref().map_or(0, |dead| dead.len()),
                    others.filter(|(owner, target)| owner != target).count(),
                    map.owners.iter().filter(|owner| **owner == NOBODY).count(),
                );
            }
            if let Some(server) = &*peer.server.borrow()
                && let Some(cluster) = server.cluster.get()
            {
                let agreement = cluster.agreement.get().and_then(std::sync::Weak::upgrade);
                let status = agreement.map(|agreement| agreement.status());
                text += &format!("\n    {}: {status:?}", cluster.me);
            }
            text.push('\n');
        }
        if let Some((_, map)) = self.maps.values().next_back() {
            for node in &map.nodes {
                text += &format!(
                    "    {} {} {:?} incarnation {}\n",
                    node.id, node.bus, node.state, node.incarnation
                );
            }
        }
        text
    }

    /// What happened until now.
    pub fn story(&self) -> String {
        self.shared.log.borrow().join("\n")
    }
}

fn members(map: &Map) -> usize {
    let nodes = map.nodes.iter();
    nodes.filter(|node| node.state == NodeState::Up).count()
}

/// The software of a host: a server, until it is asked to end.
async fn serve(shared: Rc<Shared>, index: usize) -> turmoil::Result {
    let peer = Rc::clone(&shared.peers.borrow()[index]);
    let now = turmoil::sim_elapsed().unwrap_or_default();
    let clock = Clock::manual(EPOCH.plus(now.as_millis() as i64));
    let config = Config::new(settings(&shared, index));
    let running = simulated::start(config, clock, peer.disk.clone()).await?;
    let server = Arc::clone(running.server());
    *peer.server.borrow_mut() = Some(Arc::clone(&server));
    let watch = tokio::task::spawn_local(watch(Rc::clone(&shared), Rc::clone(&peer)));
    running.finished(GRACE).await;
    watch.abort();
    peer.seen.take();
    peer.server.take();
    peer.phase.set(Phase::Gone);
    shared.is_dirty.set(true);
    let at = turmoil::sim_elapsed().unwrap_or_default();
    shared.note(at, &format!("{} has ended", peer.name));
    Ok(())
}

/// Moves the clock of the server and notes what it would serve, at each step.
async fn watch(shared: Rc<Shared>, peer: Rc<Peer>) {
    loop {
        tokio::time::sleep(STEP).await;
        let Some(server) = peer.server.borrow().clone() else {
            return;
        };
        server.clock.advance(STEP);
        let Some(cluster) = server.cluster.get() else {
            continue;
        };
        let (version, has_lease) = (cluster.version(), cluster.has_lease());
        let mut seen = peer.seen.borrow_mut();
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let before = seen.as_ref().map_or(Duration::ZERO, |seen| seen.had_lease);
        let had_lease = if has_lease { now } else { before };
        match &mut *seen {
            Some(seen) if seen.version == version => {
                seen.had_lease = had_lease;
                if seen.has_lease != has_lease {
                    seen.has_lease = has_lease;
                    shared.is_dirty.set(true);
                }
            }
            seen => {
                let view = cluster.view();
                let all = 0..SLOTS as u16;
                *seen = Some(Seen {
                    version,
                    has_lease,
                    had_lease,
                    ready: all
                        .filter(|slot| view.owner(*slot) == Owner::Here)
                        .collect(),
                    view,
                });
                shared.is_dirty.set(true);
            }
        }
    }
}

fn settings(shared: &Shared, index: usize) -> Settings {
    let peers = shared.peers.borrow();
    let seed = |peer: &Rc<Peer>| Seed {
        host: peer.ip.to_string(),
        port: PORT,
        bus_port: PORT + 10_000,
    };
    Settings {
        port: PORT,
        bind: vec![BindAddress {
            host: "*".to_owned(),
            optional: false,
        }],
        maxmemory: Memory::Bytes(0),
        cluster_enabled: true,
        cluster_name: "simulated".to_owned(),
        cluster_secret: Some(Secret("secret".to_owned())),
        cluster_seeds: peers.iter().take(SEEDS).map(seed).collect(),
        cluster_announce_ip: peers[index].ip.to_string(),
        cluster_node_timeout: T,
        ..Settings::new(Machine::probe())
    }
}
