//! Random operations on one partition against a plain map: its accounts, its sweep, and the order of its scan.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::data::hash::{Expiry as FieldExpiry, Hash, HashLimits};
use crate::data::value::Collection;
use crate::keyspace::Keyspace;
use crate::keyspace::entry::{NewValue, SHARED_MIN};
use crate::keyspace::lock::{PATIENCE, lock_in};

const START: Millis = Millis(1_700_000_000_000);
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

fn seeded() -> fastrand::Rng {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("QUOIT_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn keyspace() -> Keyspace {
    Keyspace::new(1, KeyHasher::with_key(1, 2), START)
}

/// Any partition will do: it takes the keys it is given.
fn lock(keyspace: &Keyspace) -> Partition<'_> {
    lock_in(keyspace, keyspace.database(0), 0, PATIENCE).expect("a patient taker waits")
}

fn insert(partition: &mut Partition<'_>, key: &[u8], value: &[u8], expiry: Option<Millis>) {
    let hash = partition.hasher.hash(key);
    partition.insert(hash, Entry::new(key, NewValue::Copy(value), expiry, false));
}

fn remove(partition: &mut Partition<'_>, key: &[u8]) -> bool {
    partition.remove(partition.hasher.hash(key), key).is_some()
}

/// The accounts are what the entries and the table add up to, and the entries are the model's.
fn check(partition: &Partition<'_>, taken: i64, model: &HashMap<Vec<u8>, (usize, Option<Millis>)>) {
    let sum: usize = partition.iter().map(Entry::allocated_bytes).sum();
    assert_eq!(
        partition.counters.bytes(),
        sum as i64 + table_bytes(&partition.table)
    );
    assert_eq!(
        partition.counters.bytes(),
        taken,
        "what was handed on is what is there"
    );
    assert_eq!(partition.counters.len(), model.len());
    assert_eq!(partition.len(), model.len());
    assert_eq!(
        partition.expires(),
        model
            .values()
            .filter(|(_, expiry)| expiry.is_some())
            .count()
    );
    for entry in partition.iter() {
        assert_eq!(
            model.get(entry.key()),
            Some(&(entry.bytes().len(), entry.expiry()))
        );
    }
}

#[test]
fn the_accounts_add_up_after_random_operations() {
    let mut rng = seeded();
    let lengths = [
        0,
        8,
        100,
        257,
        600,
        5000,
        SHARED_MIN - 1,
        SHARED_MIN,
        20_000,
    ];
    for _ in 0..if cfg!(miri) { 1 } else { 20 } {
        let keyspace = keyspace();
        let mut partition = lock(&keyspace);
        let mut model = HashMap::new();
        let mut taken = 0;
        for step in 0..if cfg!(miri) { 200 } else { 2000 } {
            let key = format!("key:{}", rng.u32(0..400)).into_bytes();
            let hash = partition.hasher.hash(&key);
            let length = rng.choice(lengths).unwrap_or(0);
            let expiry = rng.bool().then(|| START.plus(rng.i64(-YEAR_MS..YEAR_MS)));
            match rng.u8(0..20) {
                0..8 if !model.contains_key(&key) => {
                    insert(&mut partition, &key, &vec![1; length], expiry);
                    model.insert(key, (length, expiry));
                }
                0..3 => {
                    partition.update(hash, &key, |entry| {
                        entry.set_value(NewValue::Copy(&vec![2; length]), false)
                    });
                    model.get_mut(&key).expect("it is there").0 = length;
                }
                3..6 => {
                    partition.update(hash, &key, |entry| entry.set_expiry(expiry));
                    model.get_mut(&key).expect("it is there").1 = expiry;
                }
                6..8 => {
                    let bytes = partition
                        .update(hash, &key, |entry| entry.edit(length, |bytes| bytes.len()))
                        .expect("it is there");
                    model.get_mut(&key).expect("it is there").0 = bytes;
                }
                8..16 => assert_eq!(
                    partition.remove(hash, &key).is_some(),
                    model.remove(&key).is_some()
                ),
                16..19 => {
                    let removed = partition.remove_by_hash(hash, Entry::is_volatile);
                    let volatile = model.get(&key).is_some_and(|(_, expiry)| expiry.is_some());
                    assert_eq!(removed.is_some(), volatile);
                    if volatile {
                        model.remove(&key);
                    }
                }
                _ if rng.u8(..) < 16 => {
                    assert_eq!(partition.detach().len(), model.len());
                    model.clear();
                }
                _ => {}
            }
            taken += partition.take_bytes();
            if step % 16 == 0 {
                check(&partition, taken, &model);
            }
        }
        model
            .keys()
            .for_each(|key| assert!(remove(&mut partition, key)));
        model.clear();
        taken += partition.take_bytes();
        check(&partition, taken, &model);
        drop(partition.detach());
        assert_eq!(
            (taken + partition.take_bytes(), partition.counters.bytes()),
            (0, 0)
        );
    }
}

/// A sweep removes what is expired, all of it and nothing else, however the clock goes and however long a key lives.
#[test]
fn a_sweep_removes_exactly_what_is_expired() {
    let mut rng = seeded();
    let spans = [
        1,
        100,
        128,
        1000,
        60_000,
        HOUR_MS,
        TAG_UNIT_MS * TAG_PERIOD,
        24 * HOUR_MS,
        YEAR_MS,
        80 * YEAR_MS,
    ];
    for _ in 0..if cfg!(miri) { 1 } else { 40 } {
        let keyspace = keyspace();
        let mut partition = lock(&keyspace);
        let mut model: HashMap<Vec<u8>, Option<Millis>> = HashMap::new();
        let mut now = START;
        for _ in 0..if cfg!(miri) { 20 } else { 200 } {
            for _ in 0..rng.usize(0..40) {
                let key = format!("key:{}", rng.u32(0..300)).into_bytes();
                let span = rng.choice(spans).unwrap_or(1);
                // Some are due when they come: a run's clock may stand behind the sweep's.
                let expiry = (rng.u8(..) < 200).then(|| now.plus(rng.i64(-span / 8..=span)));
                if model.insert(key.clone(), expiry).is_none() {
                    insert(&mut partition, &key, b"", expiry);
                } else {
                    partition.update(partition.hasher.hash(&key), &key, |entry| {
                        entry.set_expiry(expiry)
                    });
                }
            }
            let span = rng.choice(spans).unwrap_or(1);
            now = now.plus(rng.i64(-span / 16..=span));
            let (limit, mut removed) = (rng.usize(1..20), HashSet::new());
            loop {
                let before = removed.len();
                let done = partition.sweep(now, limit, |what| match what {
                    Expired::Key(entry) => assert!(removed.insert(entry.key().to_vec())),
                    other => panic!("there are no hashes: {other:?}"),
                });
                assert!(removed.len() - before <= limit);
                if done {
                    break;
                }
            }
            // A clock that was set back takes back no removal, and keys that were due stay due.
            let due = |expiry: &Option<Millis>| expiry.is_some_and(|at| now > at);
            let expected: HashSet<_> = model
                .iter()
                .filter(|(_, expiry)| due(expiry))
                .map(|(key, _)| key.clone())
                .collect();
            assert_eq!(removed, expected, "at {now:?}");
            model.retain(|_, expiry| !due(expiry));
            assert_eq!(partition.len(), model.len());
        }
    }
}

/// A key, when it expires, and when its fields do.
type Hashes = HashMap<Vec<u8>, (Option<Millis>, HashMap<Vec<u8>, Option<Millis>>)>;

/// Fields go as keys do, whatever their hash's own expiry; a hash goes with its last field.
#[test]
fn a_sweep_removes_fields_that_expired() {
    let mut rng = seeded();
    let limits = HashLimits::default();
    for _ in 0..if cfg!(miri) { 1 } else { 60 } {
        let keyspace = keyspace();
        let mut partition = lock(&keyspace);
        let hasher = partition.hasher;
        let (mut model, mut now) = (Hashes::new(), START);
        let (mut gone, mut emptied) = (0, 0);
        for _ in 0..60 {
            for _ in 0..rng.usize(0..20) {
                let key = format!("key:{}", rng.u32(0..20)).into_bytes();
                let field = format!("field:{}", rng.u32(0..6)).into_bytes();
                let at = (rng.u8(..4) > 0).then(|| now.plus(rng.i64(-200..5_000)));
                let (own, fields) = model.entry(key.clone()).or_insert_with(|| {
                    let value = Hash::new().into();
                    partition.insert(hasher.hash(&key), Entry::collection(&key, value, None));
                    (None, HashMap::new())
                });
                let changed = partition.update(hasher.hash(&key), &key, |entry| {
                    if rng.u8(..8) == 0 {
                        *own = at;
                        entry.set_expiry(at);
                    }
                    entry.edit_collection(|value| {
                        let hash = Hash::of(value).expect("it is a hash");
                        hash.set(&field, b"v", FieldExpiry::Clear, &limits, hasher);
                        hash.set_expiry(&field, at, hasher);
                    });
                });
                assert!(changed.is_some());
                fields.insert(field, at);
            }
            now = now.plus(rng.i64(0..1_000));
            let limit = rng.usize(1..20);
            loop {
                let mut removed = 0;
                let done = partition.sweep(now, limit, |what| match what {
                    Expired::Key(entry) => {
                        removed += 1;
                        let (own, _) = model.remove(entry.key()).expect("it was there");
                        assert!(own.is_some_and(|at| at < now));
                    }
                    Expired::Fields(key, names) => {
                        removed += names.len();
                        gone += names.len();
                        let (_, fields) = model.get_mut(key).expect("it was there");
                        for name in names {
                            let at = fields.remove(name).expect("it was there");
                            assert!(at.is_some_and(|at| at < now));
                        }
                    }
                    Expired::Emptied(entry) => {
                        emptied += 1;
                        let (_, fields) = model.remove(entry.key()).expect("it was there");
                        assert!(fields.is_empty());
                    }
                });
                assert!(removed <= limit);
                if done {
                    break;
                }
            }
            let is_due = |at: &Option<Millis>| at.is_some_and(|at| at < now);
            for (own, fields) in model.values() {
                assert!(!is_due(own) && !fields.values().any(is_due));
                assert!(!fields.is_empty());
            }
            let sum: usize = partition.iter().map(Entry::allocated_bytes).sum();
            let bytes = sum as i64 + table_bytes(&partition.table);
            assert_eq!(partition.counters.bytes(), bytes);
            assert_eq!(partition.len(), model.len());
            let with_expiry = model.values().filter(|(own, _)| own.is_some());
            assert_eq!(partition.expires(), with_expiry.count());
            let fields_expire = |(_, fields): &&(Option<Millis>, HashMap<_, Option<Millis>>)| {
                fields.values().any(Option::is_some)
            };
            let hashes = model.values().filter(fields_expire).count();
            assert_eq!(partition.expiring_hashes(), hashes);
        }
        assert!(gone > 0 && emptied > 0, "{gone} {emptied}");
    }
}

/// Extremes of the clock and of expiries end in no panic, and in the right answer.
#[test]
fn sweeps_at_the_ends_of_time() {
    let keyspace = keyspace();
    let mut partition = lock(&keyspace);
    for (number, at) in [i64::MIN, -1, 0, 1, i64::MAX - 1, i64::MAX]
        .into_iter()
        .enumerate()
    {
        insert(&mut partition, &[number as u8], b"", Some(Millis(at)));
    }
    for (now, left) in [
        (i64::MIN, 6),
        (0, 4),
        (START.0, 2),
        (i64::MAX, 1),
        (0, 1),
        (i64::MAX, 1),
    ] {
        assert!(partition.sweep(Millis(now), 100, |_| {}), "{now}");
        assert_eq!(partition.len(), left, "{now}");
    }
}

/// What stays is found, although the table grows and shrinks between any two blocks; and iterations end.
#[test]
fn a_scan_meets_every_entry_that_stays() {
    let mut rng = seeded();
    for _ in 0..if cfg!(miri) { 2 } else { 60 } {
        let keyspace = keyspace();
        let mut partition = lock(&keyspace);
        let limit = if cfg!(miri) {
            100
        } else {
            rng.choice([10, 100, 1000, 3000]).unwrap_or(10)
        };
        let stays: HashSet<Vec<u8>> = (0..rng.u32(1..limit))
            .map(|number| format!("stays:{number}").into_bytes())
            .collect();
        stays
            .iter()
            .for_each(|key| insert(&mut partition, key, b"", None));
        let mut others: Vec<Vec<u8>> = Vec::new();
        let (mut cursor, mut steps, mut seen) = (0, 0, HashSet::new());
        loop {
            cursor = partition.scan(cursor, |entry| {
                seen.insert(entry.key().to_vec());
            });
            steps += 1;
            assert!(steps < 100_000, "it does not end");
            assert!(cursor < 1 << 32);
            if cursor == 0 {
                break;
            }
            match rng.u8(0..10) {
                0 => {
                    for _ in 0..rng.u32(0..limit) {
                        let key = format!("other:{}", rng.u64(..)).into_bytes();
                        insert(&mut partition, &key, b"", None);
                        others.push(key);
                    }
                }
                // Tombstones, and a rehash in place.
                1..4 if !others.is_empty() => {
                    for _ in 0..rng.usize(0..others.len()) {
                        let index = rng.usize(..others.len());
                        assert!(remove(&mut partition, &others[index]));
                        others[index] = format!("other:{}", rng.u64(..)).into_bytes();
                        insert(&mut partition, &others[index], b"", None);
                    }
                    for key in others.drain(..rng.usize(0..others.len())) {
                        assert!(remove(&mut partition, &key));
                    }
                }
                4 => others
                    .drain(..)
                    .for_each(|key| assert!(remove(&mut partition, &key))),
                _ => {}
            }
            if others.len() > 4 * limit as usize {
                others
                    .drain(..)
                    .for_each(|key| assert!(remove(&mut partition, &key)));
            }
        }
        let missing = stays.difference(&seen).count();
        assert_eq!(
            missing,
            0,
            "of {}, {steps} steps, {} buckets",
            stays.len(),
            partition.table.buckets()
        );
    }
}

/// While the table stays as it is, each entry comes once, and each block holds a few.
#[test]
fn a_scan_of_a_quiet_table_meets_each_entry_once() {
    let keyspace = keyspace();
    let mut partition = lock(&keyspace);
    // 7/8 of the buckets: as full as a table gets.
    let buckets: u32 = if cfg!(miri) { 256 } else { 4096 };
    let count = buckets / 8 * 7;
    for number in 0..count {
        insert(&mut partition, &number.to_le_bytes(), b"", None);
    }
    assert_eq!(partition.table.buckets(), buckets as usize);
    let (mut cursor, mut seen, mut blocks) = (0, HashSet::new(), 0);
    loop {
        let before = seen.len();
        cursor = partition.scan(cursor, |entry| {
            assert!(seen.insert(entry.key().to_vec()), "met twice")
        });
        assert!(seen.len() - before < 40);
        blocks += 1;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(
        (seen.len(), blocks),
        (count as usize, buckets as usize / GROUP)
    );
}

/// Draws reach every entry about as often, in full tables and in sparse ones.
#[test]
fn random_entries_are_drawn_evenly() {
    let rng = Rng::seeded(5);
    let keyspace = keyspace();
    let mut partition = lock(&keyspace);
    assert!(partition.random(&rng).is_none());
    for number in 0..100u8 {
        insert(&mut partition, &[number], b"", None);
    }
    (20..100).for_each(|number: u8| assert!(remove(&mut partition, &[number])));
    let mut times = [0; 20];
    for _ in 0..4000 {
        times[usize::from(partition.random(&rng).expect("there are some").key()[0])] += 1;
    }
    assert!(
        times.iter().all(|times| (120..300).contains(times)),
        "{times:?}"
    );
}
