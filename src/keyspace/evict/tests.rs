//! What goes, compared with what ought to go; what must not go; and when it ends.

use std::cell::Cell;
use std::collections::HashSet;

use super::*;
use crate::keyspace::entry::NewValue;
use crate::keyspace::hash::KeyHasher;
use crate::keyspace::lock::{PATIENCE, lock_one};

const NOW: Millis = Millis(1_700_000_000_000);

struct World {
    keyspace: Keyspace,
    rules: Rules,
    rng: Rng,
}

impl World {
    fn new(policy: Policy) -> World {
        let seed = std::env::var("QUOIT_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| fastrand::u64(..));
        println!("QUOIT_TEST_SEED={seed}");
        let keyspace = Keyspace::new(4, KeyHasher::with_key(1, 2), NOW);
        World {
            keyspace,
            rules: Rules {
                policy,
                ..Rules::default()
            },
            rng: Rng::seeded(seed),
        }
    }

    fn put(&self, database: u32, number: u32, access: u32, expiry: Option<Millis>) {
        let key = number.to_be_bytes();
        let hash = self.keyspace.hasher().hash(&key);
        let mut held = lock_one(
            &self.keyspace,
            self.keyspace.place(database, hash),
            PATIENCE,
        )
        .expect("a patient taker waits");
        let entry = Entry::new(&key, NewValue::Copy(&[0; 100]), expiry, false);
        entry.set_access(access);
        held.partition.insert(hash, entry);
        self.keyspace.account(held.partition.take_bytes());
    }

    /// The keys that are left.
    fn numbers(&self, database: u32) -> HashSet<u32> {
        let mut left = HashSet::new();
        let counted = self.keyspace.database(database);
        for number in 0..super::super::PARTITIONS {
            let held =
                lock_in(&self.keyspace, counted, number, PATIENCE).expect("a patient taker waits");
            left.extend(
                held.iter()
                    .map(|entry| u32::from_be_bytes(entry.key().try_into().expect("four bytes"))),
            );
        }
        left
    }

    /// Evicts with this much memory too many.
    fn evict(&mut self, excess: i64, rounds: usize) -> (Outcome, usize) {
        self.rules.maxmemory = (self.keyspace.used_bytes() - excess).max(1) as u64;
        let removals = Cell::new(0);
        let watch = |_| removals.set(removals.get() + 1);
        let pressure = Pressure {
            rules: &self.rules,
            base_bytes: 0,
            now: NOW,
            rng: &self.rng,
            watch: Some(&watch),
        };
        let mut effects = Effects::default();
        let result = evict(&self.keyspace, &pressure, rounds, &mut effects);
        assert_eq!(
            removals.get(),
            result.1,
            "every removal is told, and no other"
        );
        self.keyspace.account(effects.bytes);
        let sum: i64 = self
            .keyspace
            .built()
            .map(|(_, database)| database.bytes())
            .sum();
        assert_eq!(self.keyspace.used_bytes(), sum);
        result
    }

    /// Evicts a fifth of the keys and returns the mean rank of those that went: 0 is who should go first, 1 who last,
    /// when keys are numbered in the order in which they should go.
    fn mean_rank_of_a_fifth(&mut self, keys: u32) -> f64 {
        let count = keys as usize / 5;
        let (_, evicted) = self.evict(i64::MAX / 2, count);
        assert_eq!(evicted, count);
        let left = self.numbers(0);
        assert_eq!(left.len(), keys as usize - count);
        let gone = (0..keys).filter(|number| !left.contains(number));
        gone.map(|number| f64::from(number) / f64::from(keys))
            .sum::<f64>()
            / count as f64
    }
}

fn seconds_ago(seconds: i64) -> u32 {
    Rules::default().first_access(NOW.plus(-1000 * seconds))
}

/// Evicting a fifth perfectly gives a mean rank of 0.1, evicting blindly one of 0.5. Small and large data sets.
#[test]
fn those_who_should_go_first_go_first() {
    let policies = [
        Policy::AllKeysLru,
        Policy::VolatileLru,
        Policy::AllKeysLfu,
        Policy::VolatileLfu,
        Policy::VolatileTtl,
    ];
    for (policy, keys) in policies
        .into_iter()
        .flat_map(|policy| [(policy, 500), (policy, 5000), (policy, 50_000)])
    {
        let mut world = World::new(policy);
        for number in 0..keys {
            let expiry = if policy.is_volatile() {
                Some(NOW.plus(1000 + i64::from(number) * 1000))
            } else {
                None
            };
            let access = if policy.is_lfu() {
                (minutes(NOW) << 8) | (number * 255 / keys)
            } else if policy == Policy::VolatileTtl {
                seconds_ago(1)
            } else {
                seconds_ago(i64::from(keys - number))
            };
            world.put(0, number, access, expiry);
        }
        let rank = world.mean_rank_of_a_fifth(keys);
        println!("{policy:?} {keys}: {rank:.3}");
        assert!(rank < 0.20, "{policy:?}, {keys} keys: {rank}");
    }
}

/// The random policies have no favourites.
#[test]
fn random_is_random() {
    for policy in [Policy::AllKeysRandom, Policy::VolatileRandom] {
        let mut world = World::new(policy);
        for number in 0..5000 {
            world.put(
                0,
                number,
                seconds_ago(i64::from(number)),
                Some(NOW.plus(i64::from(number) * 1000)),
            );
        }
        let rank = world.mean_rank_of_a_fifth(5000);
        assert!((0.44..0.56).contains(&rank), "{policy:?}: {rank}");
    }
}

/// Volatile policies take every key with an expiry, if they must, and never one without.
#[test]
fn volatile_policies_spare_keys_without_an_expiry() {
    for policy in [
        Policy::VolatileLru,
        Policy::VolatileLfu,
        Policy::VolatileRandom,
        Policy::VolatileTtl,
    ] {
        let mut world = World::new(policy);
        for number in 0..2000 {
            world.put(
                number % 2,
                number,
                seconds_ago(0),
                (number % 20 == 0).then(|| NOW.plus(1000)),
            );
        }
        assert_eq!(
            world.evict(i64::MAX / 2, usize::MAX),
            (Outcome::Exhausted, 100),
            "{policy:?}"
        );
        let left: HashSet<u32> = world.numbers(0).union(&world.numbers(1)).copied().collect();
        assert_eq!(left, (0..2000).filter(|number| number % 20 != 0).collect());
    }
}

/// One volatile key among many others in its partition is found at once.
#[test]
fn a_lone_volatile_key_is_found() {
    for seed in 0..5 {
        let mut world = World::new(Policy::VolatileLru);
        world.rng = Rng::seeded(seed);
        (0..100_000).for_each(|number| world.put(0, number, 0, (number == 77_777).then_some(NOW)));
        assert_eq!(world.evict(1, 10), (Outcome::Within, 1));
        assert!(!world.numbers(0).contains(&77_777));
    }
}

/// A candidate that lost its expiry meanwhile, or went, or was put in another database's place, does no harm.
#[test]
fn stale_candidates_are_passed_over() {
    let mut world = World::new(Policy::VolatileTtl);
    (0..50).for_each(|number| world.put(0, number, 0, Some(NOW.plus(i64::from(number)))));
    // Fills the pool.
    assert_eq!(world.evict(1, 10).0, Outcome::Within);
    let hasher = world.keyspace.hasher().clone();
    for number in world.numbers(0) {
        let key = number.to_be_bytes();
        let hash = hasher.hash(&key);
        let mut held = lock_one(&world.keyspace, world.keyspace.place(0, hash), PATIENCE)
            .expect("a patient taker waits");
        if number % 2 == 0 {
            held.partition
                .update(hash, &key, |entry| entry.set_expiry(None));
        } else {
            held.partition.remove(hash, &key);
        }
        world.keyspace.account(held.partition.take_bytes());
    }
    let before = world.numbers(0);
    assert_eq!(world.evict(1, 10), (Outcome::Exhausted, 0));
    assert_eq!(world.numbers(0), before);
    // Scores of another policy do not count: the key idle for longest goes, not the survivors of the old pool.
    let mut world = World::new(Policy::VolatileTtl);
    (0..50).for_each(|number| world.put(0, number, seconds_ago(0), Some(NOW.plus(1))));
    world.evict(1, 1);
    world.rules.policy = Policy::AllKeysLru;
    world.put(0, 1000, seconds_ago(100_000), None);
    world.evict(i64::MAX / 2, 40);
    assert!(!world.numbers(0).contains(&1000));
}

/// Every database gives its share.
#[test]
fn all_databases_are_looked_at() {
    let mut world = World::new(Policy::AllKeysLru);
    (0..1000).for_each(|number| world.put(number % 4, number, seconds_ago(10), None));
    world.put(3, 5000, seconds_ago(90_000), None);
    world.evict(i64::MAX / 2, 700);
    assert!(!world.numbers(3).contains(&5000));
    assert!((0..4).all(|database| world.numbers(database).len() < 250));
}

/// How an eviction may end.
#[test]
fn the_rounds_are_bounded() {
    let mut world = World::new(Policy::AllKeysLru);
    (0..1000).for_each(|number| world.put(0, number, 0, None));
    assert_eq!(world.evict(i64::MAX / 2, 3), (Outcome::Unfinished, 3));
    assert_eq!(world.evict(-1, 3), (Outcome::Within, 0));
    let (outcome, evicted) = world.evict(1000, 64);
    assert_eq!(outcome, Outcome::Within);
    assert!((1..=10).contains(&evicted), "{evicted}");
    world.rules.policy = Policy::NoEviction;
    assert_eq!(world.evict(1, 64), (Outcome::Exhausted, 0));
    assert_eq!(world.evict(0, 64), (Outcome::Within, 0));
    world.rules.policy = Policy::AllKeysRandom;
    let (outcome, _) = world.evict(i64::MAX / 2, usize::MAX);
    assert_eq!(
        (outcome, world.keyspace.database(0).len()),
        (Outcome::Exhausted, 0)
    );
    // A limit beyond 2^63 is no limit.
    world.put(0, 1, 0, None);
    world.rules.maxmemory = u64::MAX;
    let pressure = Pressure {
        rules: &world.rules,
        base_bytes: 0,
        now: NOW,
        rng: &world.rng,
        watch: None,
    };
    assert!(!pressure.is_over(&world.keyspace, 0));
}

/// The counter grows with the logarithm of the hits and fades with the minutes; clocks may wrap.
#[test]
fn access_clocks() {
    let rng = Rng::seeded(1);
    let mut rules = Rules {
        policy: Policy::AllKeysLfu,
        ..Rules::default()
    };
    let mut access = rules.first_access(NOW);
    assert_eq!(rules.frequency(access, NOW), LFU_START);
    for _ in 0..1000 {
        access = rules.next_access(access, NOW, &rng);
    }
    let after_1000 = rules.frequency(access, NOW);
    assert!(
        (12..28).contains(&after_1000),
        "redis documents 18 for 1,000 hits: {after_1000}"
    );
    assert_eq!(
        rules.frequency(access, NOW.plus(3 * 60_000)),
        after_1000 - 3
    );
    assert_eq!(rules.frequency(access, NOW.plus(600 * 60_000)), 0);
    rules.lfu_decay_minutes = 0;
    assert_eq!(rules.frequency(access, NOW.plus(600 * 60_000)), after_1000);
    rules.lfu_log_factor = u32::MAX;
    assert!(rules.next_access(access, Millis(i64::MAX), &rng) <= CLOCK_MASK);
    rules.policy = Policy::AllKeysLru;
    for idle in [0, 1, 1000, u64::from(CLOCK_MASK)] {
        assert_eq!(
            rules.idle_ms(rules.access_idle_for(idle, NOW), NOW),
            idle * 1000
        );
    }
    assert!(rules.first_access(Millis(i64::MAX)) <= CLOCK_MASK);
    assert!(rules.first_access(Millis(-1)) <= CLOCK_MASK);
}
