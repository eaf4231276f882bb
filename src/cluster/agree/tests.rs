//! Rings of several nodes in one process, on paused time: a simulated network, state in memory, every step looked at.
//!
//! What happens follows from a seed, which is printed: delays, names of nodes, election times.

mod faults;
mod forming;
mod log;
mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::disk::{Memory, Place};
use super::*;
use crate::cluster::node::NodeState;
use crate::cluster::slots::SLOTS;

/// cluster-node-timeout in all of them.
const T: Duration = Duration::from_secs(5);
/// How often all nodes are looked at.
const STEP: Duration = Duration::from_millis(10);

/// The network: who is there, and who reaches whom.
#[derive(Default)]
struct Wires {
    nodes: BTreeMap<String, Arc<Agreement>>,
    /// The side on which an address is; those on different sides do not reach each other.
    sides: BTreeMap<String, u32>,
    names: BTreeMap<String, Vec<String>>,
    /// Messages in a thousand that are lost.
    loss: u32,
    chance: fastrand::Rng,
    /// Bytes of answers and questions, by kind.
    sent: [usize; 2],
    /// The largest.
    largest: usize,
}

#[derive(Clone, Default)]
struct Net(Arc<Mutex<Wires>>);

impl Net {
    fn seeded(seed: u64) -> Net {
        println!("seed {seed}");
        let net = Net::default();
        net.0.lock().chance = fastrand::Rng::with_seed(seed);
        net
    }

    /// A way of one message: how long it takes; None if it is lost.
    fn way(&self, from: &str, to: &str) -> Option<Duration> {
        let mut wires = self.0.lock();
        let side = |address: &str| wires.sides.get(address).copied().unwrap_or(0);
        if side(from) != side(to) {
            return None;
        }
        let loss = wires.loss;
        if wires.chance.u32(0..1000) < loss {
            return None;
        }
        Some(Duration::from_micros(wires.chance.u64(100..3000)))
    }

    fn set_side(&self, address: &str, side: u32) {
        self.0.lock().sides.insert(address.to_owned(), side);
    }

    fn heal(&self) {
        self.0.lock().sides.clear();
    }
}

/// One node's end of it.
struct Wire {
    net: Net,
    from: String,
}

impl Transport for Wire {
    fn call(
        &self,
        address: &str,
        kind: Kind,
        payload: Vec<u8>,
        long: Duration,
    ) -> Later<Result<Bytes, CallError>> {
        let (net, from, to) = (self.net.clone(), self.from.clone(), address.to_owned());
        {
            let mut wires = net.0.lock();
            wires.sent[usize::from(kind == Kind::Member)] += 1;
            wires.largest = wires.largest.max(payload.len());
        }
        Box::pin(async move {
            let deadline = Instant::now() + long;
            let way = net.way(&from, &to);
            let node = net.0.lock().nodes.get(&to).cloned();
            let (Some(way), true) = (way, net.0.lock().nodes.contains_key(&from)) else {
                tokio::time::sleep_until(deadline).await;
                return Err(CallError::Broken);
            };
            sleep(way).await;
            let Some(node) = node else {
                return Err(CallError::NotConnected);
            };
            // It goes on there, whatever becomes of who asked.
            let answer = tokio::spawn(async move { node.handle(kind, payload.into()).await });
            let answer = match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => answer,
                _ => return Err(CallError::Broken),
            };
            match net.way(&to, &from) {
                Some(way) => {
                    sleep(way).await;
                    Ok(answer)
                }
                None => {
                    tokio::time::sleep_until(deadline).await;
                    Err(CallError::Broken)
                }
            }
        })
    }

    fn resolve(&self, seed: &str) -> Later<Vec<String>> {
        let known = self.net.0.lock().names.get(seed).cloned();
        Box::pin(async move { known.unwrap_or_default() })
    }
}

/// What a node was told.
#[derive(Default)]
struct Told {
    maps: Vec<Arc<Map>>,
    lease: Option<Instant>,
    /// Whether a lease was ended before its time.
    is_cut_short: bool,
}

#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Told>>);

impl Sink for Ear {
    fn install(&self, map: Arc<Map>) {
        let mut told = self.0.lock();
        if let Some(last) = told.maps.last() {
            assert!(last.epoch < map.epoch, "maps come in order");
        }
        told.maps.push(map);
    }

    fn renew_lease(&self, until: Instant) {
        let mut told = self.0.lock();
        told.is_cut_short |= told.lease.is_some_and(|lease| until < lease);
        told.lease = Some(until);
    }
}

/// A node, and what it keeps while it does not run.
struct Peer {
    address: String,
    disk: Memory,
    ear: Ear,
    agreement: Option<Arc<Agreement>>,
    /// Slots that it holds: it does not serve them.
    held: BTreeSet<u16>,
    /// Hands them over.
    mover: Option<tokio::task::JoinHandle<()>>,
}

impl Peer {
    fn id(&self) -> NodeId {
        self.agreement.as_ref().expect("it runs").id()
    }

    fn map(&self) -> Option<Arc<Map>> {
        self.ear.0.lock().maps.last().cloned()
    }

    fn lease(&self) -> Option<Instant> {
        self.ear.0.lock().lease
    }

    fn serves(&self) -> bool {
        self.agreement.is_some() && self.lease().is_some_and(|until| until > Instant::now())
    }

    fn status(&self) -> Status {
        self.agreement.as_ref().expect("it runs").status()
    }

    /// How many slots it owns by its own map.
    fn owned(&self) -> usize {
        let (Some(map), id) = (self.map(), self.id()) else {
            return 0;
        };
        let index = map.index(id);
        map.owners
            .iter()
            .filter(|owner| Some(**owner) == index)
            .count()
    }
}

/// Some nodes and their network.
struct Ring {
    net: Net,
    seed: u64,
    seeds: Vec<String>,
    peers: Vec<Peer>,
    started: u64,
    moving: bool,
    /// What nodes pin that start from now on.
    pins: Pins,
    /// All maps seen, by their epochs.
    maps: BTreeMap<u64, Arc<Map>>,
}

fn no_two_owners(one: &Peer, map: &Map, other: &Peer, others: &Map) {
    let (Some(mine), Some(theirs)) = (map.index(one.id()), others.index(other.id())) else {
        return;
    };
    for (slot, (owner, also)) in map.owners.iter().zip(&others.owners).enumerate() {
        if *owner == mine && *also == theirs {
            let slot = slot as u16;
            let both = !one.held.contains(&slot) && !other.held.contains(&slot);
            assert!(
                !both,
                "slot {slot} is served by {} and {}",
                one.id(),
                other.id()
            );
        }
    }
}

fn address(index: usize) -> String {
    format!("10.0.0.{}:17000", index + 1)
}

/// A whole ring of three seeds.
async fn of_three(seed: u64) -> Ring {
    Ring::started(3, 3, seed).await
}

impl Ring {
    /// A whole ring; the first `seeds` of its nodes are seeds.
    async fn started(nodes: usize, seeds: usize, seed: u64) -> Ring {
        let mut ring = Ring::of(nodes, seeds, seed);
        ring.start_all(0..nodes).await;
        ring
    }

    /// Starts some at once, and waits until the ring is whole: how long that took.
    async fn start_all(&mut self, indexes: impl IntoIterator<Item = usize>) -> Duration {
        for index in indexes {
            self.start(index).await;
        }
        self.whole().await
    }

    /// Nodes that do not run yet; the first `seeds` of them are seeds.
    fn of(nodes: usize, seeds: usize, seed: u64) -> Ring {
        let peer = |index| Peer {
            address: address(index),
            disk: Memory::default(),
            ear: Ear::default(),
            agreement: None,
            held: BTreeSet::new(),
            mover: None,
        };
        Ring {
            net: Net::seeded(seed),
            seed,
            seeds: (0..seeds).map(address).collect(),
            peers: (0..nodes).map(peer).collect(),
            started: 0,
            moving: true,
            pins: Pins {
                databases: vec![1],
                prefixes: Vec::new(),
            },
            maps: BTreeMap::new(),
        }
    }

    async fn start(&mut self, index: usize) {
        self.try_start(index).await.expect("it starts");
    }

    async fn try_start(&mut self, index: usize) -> Result<(), StartError> {
        self.started += 1;
        let seed = self.seed.wrapping_mul(1000) + self.started;
        let peer = &mut self.peers[index];
        let place = Place::Memory(peer.disk.clone());
        let store = Store::open(place, "test", seed)
            .await
            .map_err(StartError::Store)?;
        let id = store.id();
        let options = Options {
            node: Node {
                id,
                bus: peer.address.clone(),
                host: format!("node-{index}"),
                hostname: String::new(),
                port: 7000,
                cluster_port: 7000,
                weight: Node::DEFAULT_WEIGHT,
                state: NodeState::Up,
                incarnation: 0,
            },
            seeds: self.seeds.clone(),
            node_timeout: T,
            pins: self.pins.clone(),
            seed,
        };
        let wire = Arc::new(Wire {
            net: self.net.clone(),
            from: peer.address.clone(),
        });
        peer.ear = Ear::default();
        let ear = Arc::new(peer.ear.clone());
        let agreement = Agreement::start(options, store, wire, ear).await?;
        let mut wires = self.net.0.lock();
        wires.nodes.insert(peer.address.clone(), agreement.clone());
        drop(wires);
        peer.agreement = Some(agreement);
        peer.held.clear();
        peer.mover = None;
        Ok(())
    }

    /// Ends a node without a word to anybody; its disk is what it was at that moment.
    async fn kill(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        self.net.0.lock().nodes.remove(&peer.address);
        let kept = peer.disk.bytes();
        if let Some(agreement) = peer.agreement.take() {
            agreement.shutdown().await;
        }
        peer.disk.set(kept);
    }

    /// Has a node leave, and ends it.
    async fn leave(&mut self, index: usize) -> Result<Left, ProposeError> {
        let agreement = self.peers[index].agreement.clone().expect("it runs");
        let leave = tokio::spawn(async move { agreement.leave().await });
        self.until("it has left", T * 6, |_| leave.is_finished())
            .await;
        self.kill(index).await;
        leave.await.expect("it ends")
    }

    fn running(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.agreement.is_some())
    }

    fn leader(&self) -> usize {
        let leads =
            |peer: &Peer| peer.agreement.is_some() && peer.status().leader == Some(peer.id());
        let found: Vec<usize> = (0..self.peers.len())
            .filter(|index| leads(&self.peers[*index]))
            .collect();
        assert_eq!(found.len(), 1, "one leads: {found:?}");
        found[0]
    }

    /// What must hold at every moment: no slot has two nodes that serve it, and no epoch has two maps.
    fn check(&mut self) {
        for peer in &self.peers {
            let Some(map) = peer.map() else {
                continue;
            };
            let same = self.maps.entry(map.epoch).or_insert_with(|| map.clone());
            if !Arc::ptr_eq(same, &map) {
                assert!(**same == *map, "one map in each epoch");
                // Of equal ones all have the same from now on: they are compared once.
                *peer.ear.0.lock().maps.last_mut().expect("there is one") = same.clone();
            }
        }
        let serving: Vec<(&Peer, Arc<Map>)> = self
            .running()
            .filter(|peer| peer.serves())
            .filter_map(|peer| peer.map().map(|map| (peer, map)))
            .collect();
        for (number, (one, map)) in serving.iter().enumerate() {
            for (other, others) in &serving[number + 1..] {
                if !Arc::ptr_eq(map, others) {
                    no_two_owners(one, map, other, others);
                }
            }
        }
    }

    /// Lets time pass, and looks at everybody after each step.
    async fn run(&mut self, long: Duration) {
        let end = Instant::now() + long;
        while Instant::now() < end {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        sleep(STEP).await;
        self.check();
        if self.moving {
            self.move_slots().await;
        }
    }

    /// Does what the movers of keys do: hands over what should be elsewhere.
    async fn move_slots(&mut self) {
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            let (Some(agreement), Some(map)) = (
                peer.agreement.clone(),
                peer.ear.0.lock().maps.last().cloned(),
            ) else {
                continue;
            };
            let mine = map.index(agreement.id());
            match &peer.mover {
                Some(mover) if !mover.is_finished() => continue,
                // It is settled: they have gone, or stay.
                _ => peer.held.clear(),
            }
            if map.owners == map.targets {
                continue;
            }
            let Some(mine) =
                mine.filter(|_| peer.lease().is_some_and(|until| until > Instant::now()))
            else {
                continue;
            };
            let mut parts: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
            for slot in 0..SLOTS as u16 {
                let (owner, target) = (
                    map.owners[usize::from(slot)],
                    map.targets[usize::from(slot)],
                );
                if owner == mine && target != mine && usize::from(target) < map.nodes.len() {
                    parts.entry(target).or_default().push(slot);
                }
            }
            let Some((target, slots)) = parts.into_iter().next() else {
                continue;
            };
            peer.held = slots.iter().copied().collect();
            let change = Change::Moved {
                slots,
                from: agreement.id(),
                to: map.nodes[usize::from(target)].id,
            };
            peer.mover = Some(tokio::spawn(async move {
                while let Err(ProposeError::Unavailable) = agreement.propose(change.clone()).await {
                }
            }));
        }
    }

    /// Lets time pass until that holds; panics if it does not in time.
    async fn until(
        &mut self,
        what: &str,
        long: Duration,
        holds: impl Fn(&Ring) -> bool,
    ) -> Duration {
        let begin = Instant::now();
        while !holds(self) {
            if begin.elapsed() > long {
                self.print();
                panic!("not within {long:?}: {what}");
            }
            self.step().await;
        }
        begin.elapsed()
    }

    fn print(&self) {
        for peer in self.running() {
            let map = peer.map();
            println!(
                "{} {}: {:?} owns {} serves {} epoch {:?}",
                peer.address,
                peer.id(),
                peer.status(),
                peer.owned(),
                peer.serves(),
                map.as_ref().map(|map| map.epoch)
            );
            for node in map.iter().flat_map(|map| &map.nodes) {
                println!("    {} {:?} {}", node.id, node.state, node.incarnation);
            }
        }
    }

    /// Whether all that run have the same map, in which they are up and nobody else is, serve, and own all slots evenly.
    fn is_whole(&self) -> bool {
        let number = self.running().count();
        let all_serve = self.running().all(Peer::serves);
        let first = self
            .running()
            .next()
            .and_then(Peer::map)
            .filter(|_| all_serve);
        let Some(map) = first else {
            return false;
        };
        let up = map
            .nodes
            .iter()
            .filter(|node| node.state == NodeState::Up)
            .count();
        up == number
            && map.owners == map.targets
            && self.running().all(|peer| {
                peer.map().is_some_and(|own| own.epoch == map.epoch)
                    && map
                        .node(peer.id())
                        .is_some_and(|node| node.state == NodeState::Up)
                    && peer.owned() > 0
            })
            && self.running().map(Peer::owned).sum::<usize>() == SLOTS
    }

    /// Waits until the ring is whole and as many vote as should.
    async fn whole(&mut self) -> Duration {
        let number = self.running().count();
        let voters = number.min(7) - (number.min(7) + 1) % 2;
        self.until("the ring is whole", T * 6, |ring| {
            ring.is_whole()
                && ring
                    .running()
                    .all(|peer| peer.status().voters.len() == voters)
        })
        .await
    }

    async fn shutdown(self) {
        for peer in &self.peers {
            if let Some(agreement) = &peer.agreement {
                agreement.shutdown().await;
            }
        }
    }
}
