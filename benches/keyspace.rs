//! The keyspace without commands: lock and find, prefetched or not, insert and remove, scan, expiry, eviction; and small
//! collections behind their keys.
//!
//! A hundred thousand keys of 16 bytes with values of 64. One thread: what two threads do to each other is in
//! `dispatch.rs`. What it does not show: the cost of misses at sizes far beyond the caches.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quoit::base::clock::Millis;
use quoit::base::rng::Rng;
use quoit::data::hash::{Expiry, Hash, HashLimits};
use quoit::data::value::{Collection, ValueRef};
use quoit::data::zset::{AddRules, Limits, ZSet};
use quoit::keyspace::effects::Effects;
use quoit::keyspace::entry::{Entry, NewValue};
use quoit::keyspace::evict::{Policy, Pressure, Rules, evict};
use quoit::keyspace::expire::Sweeper;
use quoit::keyspace::hash::KeyHasher;
use quoit::keyspace::lock::{Held, PATIENCE, lock_one};
use quoit::keyspace::{Keyspace, PARTITIONS};

const KEYS: u64 = 100_000;
const NOW: Millis = Millis(1_700_000_000_000);

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn locked(keyspace: &Keyspace, hash: u64) -> Held<'_> {
    lock_one(keyspace, keyspace.place(0, hash), PATIENCE).expect("a patient taker waits")
}

fn insert(keyspace: &Keyspace, number: u64, expiry: Option<Millis>) {
    let key = key(number);
    let hash = keyspace.hasher().hash(&key);
    let mut held = locked(keyspace, hash);
    let entry = Entry::new(&key, NewValue::Copy(&[b'v'; 64]), expiry, false);
    held.partition.insert(hash, entry);
    keyspace.account(held.partition.take_bytes());
}

fn filled(keys: u64, expiry: impl Fn(u64) -> Option<Millis>) -> Keyspace {
    let keyspace = Keyspace::new(16, KeyHasher::with_key(1, 2), NOW);
    (0..keys).for_each(|number| insert(&keyspace, number, expiry(number)));
    keyspace
}

fn find(criterion: &mut Criterion) {
    let keyspace = filled(KEYS, |_| None);
    let mut rng = fastrand::Rng::with_seed(1);
    let windows: Vec<Vec<Vec<u8>>> = (0..256)
        .map(|_| (0..32).map(|_| key(rng.u64(0..KEYS))).collect())
        .collect();
    let mut group = criterion.benchmark_group("keyspace");
    group.throughput(Throughput::Elements(32));
    for (name, ahead) in [("find/32", false), ("find_prefetched/32", true)] {
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let window = &windows[next % windows.len()];
                next += 1;
                let hashes = window.iter().map(|key| keyspace.hasher().hash(key));
                let hashes: Vec<u64> = hashes.collect();
                if ahead {
                    keyspace.prefetch(0, &hashes);
                }
                let mut bytes = 0;
                for (key, &hash) in window.iter().zip(&hashes) {
                    let held = locked(&keyspace, hash);
                    bytes += held
                        .partition
                        .find(hash, key)
                        .map_or(0, Entry::allocated_bytes);
                }
                bytes
            });
        });
    }
    group.finish();
}

fn insert_and_remove(criterion: &mut Criterion) {
    let keyspace = filled(KEYS, |_| None);
    let mut number = KEYS;
    criterion.bench_function("keyspace/insert_remove/64", |bencher| {
        bencher.iter(|| {
            number += 1;
            insert(&keyspace, number, None);
            let key = key(number);
            let hash = keyspace.hasher().hash(&key);
            black_box(locked(&keyspace, hash).partition.remove(hash, &key))
        });
    });
}

fn scan(criterion: &mut Criterion) {
    let keyspace = filled(KEYS, |_| None);
    let mut cursor = 0;
    let mut number = 0;
    criterion.bench_function("keyspace/scan/block", |bencher| {
        bencher.iter(|| {
            let place = quoit::keyspace::lock::Place {
                database: 0,
                partition: number % PARTITIONS as u32,
            };
            let held = lock_one(&keyspace, place, PATIENCE).expect("a patient taker waits");
            let mut count = 0;
            cursor = held.partition.scan(cursor, |_| count += 1);
            if cursor == 0 {
                number += 1;
            }
            count
        });
    });
}

fn expire(criterion: &mut Criterion) {
    criterion.bench_function("keyspace/expire/10000", |bencher| {
        bencher.iter_batched(
            || filled(10_000, |number| Some(NOW.plus(1 + number as i64 % 1000))),
            |keyspace| {
                let mut sweeper = Sweeper::default();
                let mut effects = Effects::default();
                while !sweeper
                    .step(&keyspace, NOW.plus(2000), &mut effects)
                    .cycle_done
                {}
                assert_eq!(effects.expired, 10_000);
                keyspace
            },
            BatchSize::LargeInput,
        );
    });
}

fn evict_one(criterion: &mut Criterion) {
    let keyspace = filled(KEYS, |_| None);
    let rng = Rng::seeded(1);
    let rules = Rules {
        maxmemory: keyspace.used_bytes() as u64,
        policy: Policy::AllKeysLru,
        ..Rules::default()
    };
    let mut number = KEYS;
    criterion.bench_function("keyspace/insert_evict/64", |bencher| {
        bencher.iter(|| {
            number += 1;
            insert(&keyspace, number, None);
            let pressure = Pressure {
                rules: &rules,
                base_bytes: 0,
                now: NOW,
                rng: &rng,
                watch: None,
            };
            let mut effects = Effects::default();
            let outcome = evict(&keyspace, &pressure, 64, &mut effects);
            keyspace.account(effects.bytes);
            outcome
        });
    });
}

/// Eight fields or members of eight bytes, packed behind their key.
fn small_collections(criterion: &mut Criterion) {
    let hasher = KeyHasher::with_key(1, 2);
    let limits = HashLimits::default();
    let fields: Vec<_> = (0..8).map(|number| format!("f{number}")).collect();
    let members: Vec<_> = (0..8).map(|number| format!("{number}abcdefg")).collect();
    let mut hash = Entry::collection(&key(1), Hash::new().into(), None);
    let mut set_field = |number: usize| {
        hash.edit_collection(|value| {
            let (field, value_of) = (fields[number].as_bytes(), members[number].as_bytes());
            let hash = Hash::of(value).expect("a hash");
            hash.set(field, value_of, Expiry::Clear, &limits, &hasher)
        })
    };
    (0..8).for_each(|number| _ = set_field(number));
    let mut turn = 0;
    let mut next = || {
        turn = (turn + 1) % 8;
        turn
    };
    criterion.bench_function("keyspace/hash_set/8", |bencher| {
        bencher.iter(|| set_field(next()));
    });
    criterion.bench_function("keyspace/hash_get/8", |bencher| {
        bencher.iter(|| match black_box(&hash).value() {
            ValueRef::Hash(hash) => hash.contains(fields[next()].as_bytes(), NOW, &hasher),
            _ => false,
        });
    });
    let mut zset = Entry::collection(&key(1), ZSet::new().into(), None);
    let limits = Limits {
        entries: 128,
        value: 64,
    };
    let mut clock = 1_700_000_000_000u64;
    criterion.bench_function("keyspace/zset_add/8", |bencher| {
        bencher.iter(|| {
            clock += 1;
            let member = members[next()].as_bytes();
            zset.edit_collection(|value| {
                let zset = ZSet::of(value).expect("a sorted set");
                zset.add(member, clock as f64, AddRules::default(), limits)
            })
        });
    });
    criterion.bench_function("keyspace/zset_score/8", |bencher| {
        bencher.iter(|| match black_box(&zset).value() {
            ValueRef::ZSet(zset) => zset.score(members[next()].as_bytes()),
            _ => None,
        });
    });
}

criterion_group!(
    benches,
    find,
    insert_and_remove,
    scan,
    expire,
    evict_one,
    small_collections
);
criterion_main!(benches);
