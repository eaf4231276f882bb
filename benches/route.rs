//! From a key to its node, and what a change of the ring costs each node.
//!
//! `slot` is the CRC with its search for a hash tag; `owner` adds the pins and the map. `place` is the placement of all
//! slots from nothing, as when a ring forms; `join`, `fail` and `moved` are changes as
//! the log has them, on a ring of so many nodes in which all slots are where they should be. What it does not show: the
//! messages that lead to a change, and the moving of keys that follows.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quoit::base::rng::Rng;
use quoit::cluster::map::{Change, Map};
use quoit::cluster::node::{Node, NodeId, NodeState};
use quoit::cluster::ring::place;
use quoit::cluster::slots::{Pins, slot_of};

const KEYS: usize = 1024;
const SIZES: [usize; 5] = [3, 10, 32, 100, 1000];

fn keys(length: usize) -> Vec<Vec<u8>> {
    let key = |number| {
        format!("{number:08}:a key of a realistic kind, as long as anybody may want it to be")
            .into_bytes()
    };
    (0..KEYS)
        .map(|number| key(number)[..length].to_vec())
        .collect()
}

fn node(rng: &Rng) -> Node {
    Node {
        id: NodeId(std::array::from_fn(|_| rng.bits() as u8)),
        bus: "10.0.0.1:17000".to_owned(),
        host: "10.0.0.1".to_owned(),
        hostname: String::new(),
        port: 7000,
        cluster_port: 7000,
        weight: Node::DEFAULT_WEIGHT,
        state: NodeState::Up,
        incarnation: 1,
    }
}

/// A ring whose slots are where they should be.
fn settled(count: usize) -> Map {
    let mut map = Map::new(Pins::default());
    let rng = Rng::seeded(1);
    map.nodes = (0..count).map(|_| node(&rng)).collect();
    map.nodes.sort_by_key(|node| node.id);
    map.targets = place(&map.nodes);
    map.owners = map.targets.clone();
    map
}

fn slots(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/slot");
    group.throughput(Throughput::Elements(KEYS as u64));
    for length in [8, 16, 64] {
        let keys = keys(length);
        group.bench_function(BenchmarkId::from_parameter(length), |b| {
            b.iter(|| {
                keys.iter()
                    .fold(0, |all, key| all ^ slot_of(black_box(key)))
            });
        });
    }
    let tagged: Vec<Vec<u8>> = (0..KEYS)
        .map(|n| format!("{{user:{n:08}}}:friends").into_bytes())
        .collect();
    group.bench_function("tag of 13", |b| {
        b.iter(|| {
            tagged
                .iter()
                .fold(0, |all, key| all ^ slot_of(black_box(key)))
        });
    });
}

fn owners(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/owner");
    group.throughput(Throughput::Elements(KEYS as u64));
    let keys = keys(16);
    for (name, pins) in [
        ("16", &[][..]),
        ("16, a pin", &["queue:"]),
        (
            "16, 8 pins",
            &["1", "2", "a:", "b:", "c:", "d:", "e:", "f:"],
        ),
    ] {
        let mut map = settled(32);
        map.pins = Pins::parse(pins).expect("they are pins");
        group.bench_function(name, |b| {
            b.iter(|| {
                let port = |key: &Vec<u8>| {
                    map.owner(map.pins.slot(0, black_box(key)))
                        .map_or(0, |node| node.port)
                };
                keys.iter().fold(0, |all, key| all ^ port(key))
            });
        });
    }
}

fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/change");
    group.sample_size(10);
    for count in SIZES {
        let map = settled(count);
        group.bench_function(BenchmarkId::new("place", count), |b| {
            b.iter(|| place(black_box(&map.nodes)));
        });
        let newcomer = node(&Rng::seeded(2));
        let mut joined = map.clone();
        joined.apply(&Change::Join(newcomer.clone()));
        let (from, slots) = (0..count)
            .map(|index| map.nodes[index].id)
            .find_map(|id| joined.moves_from(id).pop().map(|(_, slots)| (id, slots)))
            .expect("the newcomer gets something");
        let moved = Change::Moved {
            slots,
            from,
            to: newcomer.id,
        };
        for (name, map, change) in [
            ("join", &map, Change::Join(newcomer)),
            ("fail", &map, Change::Failed(map.nodes[count / 2].id, 1)),
            ("moved", &joined, moved),
        ] {
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter_batched(
                    || map.clone(),
                    |mut map| {
                        assert!(map.apply(black_box(&change)));
                        map
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

criterion_group!(benches, slots, owners, changes);
criterion_main!(benches);
