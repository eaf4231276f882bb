//! What it costs many nodes to agree: messages, bytes and time of forming a ring, of nothing, of a join and a death, and of as many
//! nodes again as there are.
//!
//! The nodes are in one process, on paused time, in a network that takes 0.1 to 3 ms for each way; everything follows from
//! a seed. It counts what the agreement sends; keys are not moved, a slot goes over as soon as it is to be elsewhere. The time is that of
//! the simulated ring, whose node timeout is 5 s; `took` is what the simulation took. The last column is what has to stay
//! level: messages in relation to N log N.
//!
//! `cargo bench --bench agree` takes rings of 10, 32 and 100 nodes; `QUOIT_BENCH_NODES=100,1000` takes these: 1,000 are a few
//! minutes and some gigabytes of memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quoit::cluster::agree::disk::{Memory, Place};
use quoit::cluster::agree::{
    Agreement, Later, Options, ProposeError, Sink, Standing, Store, Transport,
};
use quoit::cluster::bus::{CallError, Kind};
use quoit::cluster::map::{Change, Map};
use quoit::cluster::node::{Node, NodeId, NodeState};
use quoit::cluster::slots::Pins;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// cluster-node-timeout.
const T: Duration = Duration::from_secs(5);
/// How often the ring is looked at.
const STEP: Duration = Duration::from_millis(20);
/// Longer than any change may take.
const LIMIT: Duration = Duration::from_secs(3600);

/// The network, and what went through it.
#[derive(Default)]
struct Wires {
    nodes: HashMap<String, Arc<Agreement>>,
    chance: fastrand::Rng,
    messages: u64,
    bytes: u64,
}

/// One node's end of it.
struct Wire(Arc<Mutex<Wires>>);

impl Wire {
    /// Sends so many bytes: how long that takes.
    fn way(&self, bytes: usize) -> Duration {
        way(&self.0, bytes)
    }
}

fn way(wires: &Mutex<Wires>, bytes: usize) -> Duration {
    let mut wires = wires.lock();
    wires.messages += 1;
    wires.bytes += bytes as u64;
    Duration::from_micros(wires.chance.u64(100..3000))
}

impl Transport for Wire {
    fn call(
        &self,
        address: &str,
        kind: Kind,
        payload: Vec<u8>,
        long: Duration,
    ) -> Later<Result<Bytes, CallError>> {
        let deadline = Instant::now() + long;
        let (there, wires) = (self.way(payload.len()), Arc::clone(&self.0));
        let address = address.to_owned();
        Box::pin(async move {
            sleep(there).await;
            let node = wires.lock().nodes.get(&address).cloned();
            let Some(node) = node else {
                sleep_until(deadline).await;
                return Err(CallError::Broken);
            };
            let answer = tokio::spawn(async move { node.handle(kind, payload.into()).await });
            let Ok(Ok(answer)) = timeout_at(deadline, answer).await else {
                return Err(CallError::Broken);
            };
            sleep(way(&wires, answer.len())).await;
            Ok(answer)
        })
    }
}

/// What a node was told last.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Option<Arc<Map>>>>);

impl Sink for Ear {
    fn install(&self, map: Arc<Map>) {
        *self.0.lock() = Some(map);
    }

    fn renew_lease(&self, _: Instant) {}
}

struct Member {
    address: String,
    agreement: Arc<Agreement>,
    ear: Ear,
    mover: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Ring {
    wires: Arc<Mutex<Wires>>,
    members: BTreeMap<NodeId, Member>,
    started: usize,
}

fn address(number: usize) -> String {
    format!("10.0.{}.{}:17000", number / 250, number % 250 + 1)
}

impl Ring {
    async fn start(&mut self) {
        let number = self.started;
        self.started += 1;
        let seed = number as u64 + 1;
        let place = Place::Memory(Memory::default());
        let store = Store::open(place, "bench", seed).await;
        let store = store.expect("memory can be opened");
        let address = address(number);
        let options = Options {
            node: Node {
                id: store.id(),
                bus: address.clone(),
                host: format!("node-{number}"),
                hostname: String::new(),
                port: 7000,
                cluster_port: 7000,
                weight: Node::DEFAULT_WEIGHT,
                state: NodeState::Up,
                incarnation: 0,
            },
            seeds: (0..3).map(self::address).collect(),
            node_timeout: T,
            pins: Pins::default(),
            seed,
        };
        let ear = Ear::default();
        let wire = Arc::new(Wire(Arc::clone(&self.wires)));
        let agreement = Agreement::start(options, store, wire, Arc::new(ear.clone())).await;
        let agreement = agreement.expect("it starts");
        let mut wires = self.wires.lock();
        wires.nodes.insert(address.clone(), Arc::clone(&agreement));
        let member = Member {
            address,
            agreement: Arc::clone(&agreement),
            ear,
            mover: None,
        };
        self.members.insert(agreement.id(), member);
    }

    /// Ends a node that does not lead, without a word to anybody.
    async fn kill(&mut self) {
        let leads = |member: &&Member| member.agreement.leader() == Some(member.agreement.id());
        let follower = self.members.values().rev().find(|member| !leads(member));
        let id = follower.expect("there are several").agreement.id();
        let member = self.members.remove(&id).expect("it is there");
        self.wires.lock().nodes.remove(&member.address);
        member.agreement.shutdown().await;
    }

    async fn shutdown(self) {
        for member in self.members.values() {
            member.agreement.shutdown().await;
        }
    }

    fn latest(&self) -> Option<Arc<Map>> {
        let maps = self.members.values();
        let maps = maps.filter_map(|member| member.ear.0.lock().clone());
        maps.max_by_key(|map| map.epoch)
    }

    /// Hands over what should be elsewhere: to one other node at a time, as the movers of keys do.
    fn move_slots(&mut self, map: &Map) {
        if map.owners == map.targets {
            return;
        }
        let mut moves: BTreeMap<u16, (u16, Vec<u16>)> = BTreeMap::new();
        for (slot, (owner, target)) in map.owners.iter().zip(&map.targets).enumerate() {
            let is_known = usize::from(*target) < map.nodes.len();
            if owner == target || !is_known || usize::from(*owner) >= map.nodes.len() {
                continue;
            }
            let (to, slots) = moves.entry(*owner).or_insert((*target, Vec::new()));
            if to == target {
                slots.push(slot as u16);
            }
        }
        for (owner, (target, slots)) in moves {
            let from = map.nodes[usize::from(owner)].id;
            let Some(member) = self.members.get_mut(&from) else {
                continue;
            };
            if member
                .mover
                .as_ref()
                .is_some_and(|mover| !mover.is_finished())
            {
                continue;
            }
            let agreement = Arc::clone(&member.agreement);
            let to = map.nodes[usize::from(target)].id;
            let change = Change::Moved { slots, from, to };
            member.mover = Some(tokio::spawn(async move {
                while let Err(ProposeError::Unavailable) = agreement.propose(change.clone()).await {
                }
            }));
        }
    }

    /// Whether all have one map, in which they are up and nobody else is, and all slots are where they should be.
    fn is_whole(&self, map: &Map) -> bool {
        let up = map.nodes.iter().filter(|node| node.state == NodeState::Up);
        map.owners == map.targets
            && up.count() == self.members.len()
            && self.members.values().all(|member| {
                let own = member.ear.0.lock();
                own.as_ref().is_some_and(|own| own.epoch == map.epoch)
                    && member.agreement.status().standing == Standing::Member
            })
    }

    async fn settle(&mut self) {
        let limit = Instant::now() + LIMIT;
        loop {
            sleep(STEP).await;
            if let Some(map) = self.latest() {
                if self.is_whole(&map) {
                    return;
                }
                // Those who join at once find no slot moving: a ring that forms moves each slot once.
                if map.nodes.len() >= self.members.len() {
                    self.move_slots(&map);
                }
            }
            assert!(Instant::now() < limit, "the ring does not become whole");
        }
    }
}

/// What was counted, and when.
struct Mark {
    messages: u64,
    bytes: u64,
    epoch: u64,
    at: Instant,
    took: std::time::Instant,
}

impl Mark {
    fn of(ring: &Ring) -> Mark {
        let wires = ring.wires.lock();
        Mark {
            messages: wires.messages,
            bytes: wires.bytes,
            epoch: ring.latest().map_or(0, |map| map.epoch),
            at: Instant::now(),
            took: std::time::Instant::now(),
        }
    }

    /// Prints a line of the table: what came since.
    fn print(&self, ring: &Ring, what: &str) {
        let now = Mark::of(ring);
        let nodes = ring.members.len() as f64;
        let messages = (now.messages - self.messages) as f64;
        println!(
            "{nodes:>5} | {what:<9} | {:>9.2} | {:>8} | {messages:>10} | {:>10.1} | {:>9.1} | {:>8.1} | {:>12.1}",
            (now.at - self.at).as_secs_f64(),
            now.epoch - self.epoch,
            messages / nodes,
            (now.bytes - self.bytes) as f64 / 1e6,
            (now.took - self.took).as_secs_f64(),
            messages / (nodes * nodes.log2()),
        );
    }
}

/// A ring of nodes that all start at once.
async fn form(nodes: usize) -> Ring {
    let mut ring = Ring::default();
    ring.wires.lock().chance = fastrand::Rng::with_seed(nodes as u64);
    for _ in 0..nodes {
        ring.start().await;
    }
    ring.settle().await;
    ring
}

async fn measure(nodes: usize) {
    let mark = Mark::of(&Ring::default());
    let mut ring = form(nodes).await;
    mark.print(&ring, "form");
    let mark = Mark::of(&ring);
    sleep(T).await;
    mark.print(&ring, "5 s idle");
    let mark = Mark::of(&ring);
    ring.start().await;
    ring.settle().await;
    mark.print(&ring, "join");
    let mark = Mark::of(&ring);
    ring.kill().await;
    ring.settle().await;
    mark.print(&ring, "death");
    ring.shutdown().await;
}

/// A ring of half of them, to which the other half comes at once.
async fn measure_growth(nodes: usize) {
    let mut ring = form(nodes / 2).await;
    let mark = Mark::of(&ring);
    for _ in nodes / 2..nodes {
        ring.start().await;
    }
    ring.settle().await;
    mark.print(&ring, "double");
    ring.shutdown().await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("there is a runtime")
}

fn main() {
    let sizes = std::env::var("QUOIT_BENCH_NODES").unwrap_or_else(|_| "10,32,100".to_owned());
    println!(
        "nodes | what      |    time/s |  changes |   messages |   per node |        MB |   took/s | per N log2 N"
    );
    for size in sizes.split(',') {
        let nodes = size.trim().parse().expect("QUOIT_BENCH_NODES is numbers");
        runtime().block_on(measure(nodes));
        runtime().block_on(measure_growth(nodes));
    }
}
