//! The memory limit: access clocks, and which key goes when memory is over maxmemory.
//!
//! Redis's approximation: a few keys are sampled, the best candidates are kept in a pool of 16 that survives from one
//! eviction to the next, and the best of the pool goes. The access clock is 24 bits in the entry: for the LRU policies the
//! second of the last access, for the LFU policies 16 bits of minutes and 8 bits of a logarithmic counter
//! (redis `evict.c`). Work per command is bounded by [`ROUNDS_PER_TURN`].

use std::time::{Duration, Instant};

use super::effects::{Effects, EventClass};
use super::entry::Entry;
use super::hash::partition_of;
use super::lock::{PATIENCE, Place, lock_in, lock_one};
use super::partition::Partition;
use super::{Keyspace, PARTITIONS};
use crate::base::clock::Millis;
use crate::base::rng::Rng;
use crate::data::hash::HashLimits;
use crate::data::set::SetLimits;
use crate::data::{list, stream, zset};

/// Counter of a new key under LFU, so that it is not the first to go (redis `LFU_INIT_VAL`).
pub const LFU_START: u32 = 5;
/// Keys evicted at most before other clients have their turn.
pub const ROUNDS_PER_TURN: usize = 64;
/// Candidates kept between evictions (redis `EVPOOL_SIZE`).
const POOL_SIZE: usize = 16;
/// Places of the table looked at for each sample, so that a sparse partition ends the search.
const PLACES_PER_SAMPLE: usize = 16;
/// Partitions looked at for the samples of one database.
const PARTITIONS_PER_GATHER: usize = PARTITIONS / 4;
/// Samples drawn without a candidate before eviction gives up: one key in a database is missed once in 10^8.
const ATTEMPTS: usize = 64;
const CLOCK_MASK: u32 = 0xff_ffff;

/// What goes when memory is over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// Nothing: writes are refused.
    #[default]
    NoEviction,
    /// The least recently used key.
    AllKeysLru,
    /// The least frequently used key.
    AllKeysLfu,
    /// Any key.
    AllKeysRandom,
    /// The least recently used key that has an expiry.
    VolatileLru,
    /// The least frequently used key that has an expiry.
    VolatileLfu,
    /// Any key that has an expiry.
    VolatileRandom,
    /// The key that expires first.
    VolatileTtl,
}

impl Policy {
    /// Whether the access clock counts frequency instead of time.
    pub fn is_lfu(self) -> bool {
        matches!(self, Policy::AllKeysLfu | Policy::VolatileLfu)
    }

    /// Whether only keys with an expiry may go.
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            Policy::VolatileLru
                | Policy::VolatileLfu
                | Policy::VolatileRandom
                | Policy::VolatileTtl
        )
    }
}

/// The parameters that the keyspace works by. A snapshot of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bytes of keys and values; 0 is no limit.
    pub maxmemory: u64,
    /// What goes when there are more.
    pub policy: Policy,
    /// Keys looked at per eviction.
    pub samples: usize,
    /// Hits per step of the LFU counter grow with this.
    pub lfu_log_factor: u32,
    /// Minutes after which the LFU counter loses one; 0 is never.
    pub lfu_decay_minutes: u32,
    /// Longest string.
    pub max_string_bytes: usize,
    /// Longest HyperLogLog that stays sparse.
    pub hll_sparse_max_bytes: usize,
    /// Up to where hashes stay small.
    pub hash: HashLimits,
    /// Up to where sets stay small.
    pub set: SetLimits,
    /// Up to where sorted sets stay small.
    pub zset: zset::Limits,
    /// How large the pieces of lists are.
    pub list: list::Limits,
    /// How large the blocks of streams are.
    pub stream: stream::Limits,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            maxmemory: 0,
            policy: Policy::NoEviction,
            samples: 5,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            max_string_bytes: 512 * 1024 * 1024,
            hll_sparse_max_bytes: 3000,
            hash: HashLimits::default(),
            set: SetLimits::default(),
            zset: zset::Limits {
                entries: 128,
                value: 64,
            },
            list: list::Limits::from_parameter(-2),
            stream: stream::Limits {
                max_bytes: 4096,
                max_entries: 100,
            },
        }
    }
}

impl Rules {
    /// The access clock of a key that is created at `now`.
    pub fn first_access(&self, now: Millis) -> u32 {
        if self.policy.is_lfu() {
            minutes(now) << 8 | LFU_START
        } else {
            seconds(now)
        }
    }

    /// The access clock after one more access.
    #[inline]
    pub fn next_access(&self, access: u32, now: Millis, rng: &Rng) -> u32 {
        if !self.policy.is_lfu() {
            return seconds(now);
        }
        let counter = self.frequency(access, now);
        minutes(now) << 8 | lfu_increment(counter, self.lfu_log_factor, rng)
    }

    /// The LFU counter of an access clock, decayed to `now`.
    pub fn frequency(&self, access: u32, now: Millis) -> u32 {
        let counter = access & 0xff;
        if self.lfu_decay_minutes == 0 {
            return counter;
        }
        let elapsed = minutes(now).wrapping_sub(access >> 8) & 0xffff;
        counter.saturating_sub(elapsed / self.lfu_decay_minutes)
    }

    /// Milliseconds since the last access, in steps of a second; meaningless under LFU.
    pub fn idle_ms(&self, access: u32, now: Millis) -> u64 {
        u64::from(seconds(now).wrapping_sub(access) & CLOCK_MASK) * 1000
    }

    /// The access clock of a key that was idle for `idle_seconds`.
    pub fn access_idle_for(&self, idle_seconds: u64, now: Millis) -> u32 {
        seconds(now).wrapping_sub(idle_seconds as u32) & CLOCK_MASK
    }

    /// The access clock of a key whose LFU counter is `frequency`.
    pub fn access_with_frequency(&self, frequency: u8, now: Millis) -> u32 {
        minutes(now) << 8 | u32::from(frequency)
    }

    /// How much an entry deserves to go: more is sooner.
    fn score(&self, entry: &Entry, now: Millis, rng: &Rng) -> u64 {
        match self.policy {
            Policy::NoEviction => 0,
            Policy::AllKeysLru | Policy::VolatileLru => self.idle_ms(entry.access(), now),
            Policy::AllKeysLfu | Policy::VolatileLfu => {
                255 - u64::from(self.frequency(entry.access(), now))
            }
            Policy::AllKeysRandom | Policy::VolatileRandom => rng.bits(),
            Policy::VolatileTtl => {
                u64::MAX - entry.expiry().map_or(u64::MAX, |at| at.0.max(0) as u64)
            }
        }
    }
}

fn seconds(now: Millis) -> u32 {
    now.seconds() as u32 & CLOCK_MASK
}

fn minutes(now: Millis) -> u32 {
    (now.seconds() / 60) as u32 & 0xffff
}

/// The counter after a hit: it grows with probability 1 / ((counter - 5) * factor + 1) (redis `LFULogIncr`).
fn lfu_increment(counter: u32, factor: u32, rng: &Rng) -> u32 {
    if counter >= 255 {
        return 255;
    }
    let base = f64::from(counter.saturating_sub(LFU_START));
    let probability = 1.0 / (base * f64::from(factor) + 1.0);
    counter + u32::from(rng.fraction() < probability)
}

/// A key that may go, named by its hash.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: u64,
    database: u32,
    partition: u32,
    hash: u64,
}

/// The best candidates met so far, best last. A leaf lock protects it (lock.rs).
#[derive(Default, Debug)]
pub struct Pool {
    best: Vec<Candidate>,
    /// Whose scores they are.
    policy: Policy,
}

impl Pool {
    /// Forgets the scores of another policy: they do not compare.
    fn follow(&mut self, policy: Policy) {
        if self.policy != policy {
            self.best.clear();
            self.policy = policy;
        }
    }

    fn offer(&mut self, candidate: Candidate) {
        if self
            .best
            .iter()
            .any(|known| known.hash == candidate.hash && known.database == candidate.database)
        {
            return;
        }
        let at = self
            .best
            .partition_point(|known| known.score < candidate.score);
        self.best.insert(at, candidate);
        if self.best.len() > POOL_SIZE {
            self.best.remove(0);
        }
    }
}

/// How an attempt to get under the limit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Memory is within the limit.
    Within,
    /// Memory is over the limit, and more can be evicted: go on later.
    Unfinished,
    /// Memory is over the limit and nothing may go.
    Exhausted,
}

/// Who asks for an eviction, and when.
pub struct Pressure<'a> {
    /// The parameters.
    pub rules: &'a Rules,
    /// Bytes that count against maxmemory beside the keys (what the server itself takes).
    pub base_bytes: i64,
    /// The time.
    pub now: Millis,
    /// Chance.
    pub rng: &'a Rng,
    /// Told how long each removal took, when somebody wants to know.
    pub watch: Option<&'a dyn Fn(Duration)>,
}

impl Pressure<'_> {
    /// Whether memory is over the limit.
    #[inline]
    pub fn is_over(&self, keyspace: &Keyspace, pending: i64) -> bool {
        // A limit beyond 2^63 is none.
        let limit = i64::try_from(self.rules.maxmemory).unwrap_or(i64::MAX);
        limit != 0 && keyspace.used_bytes() + pending + self.base_bytes > limit
    }
}

/// Evicts until memory is within the limit, at most `rounds` keys. `effects` takes what followers must know; each evicted
/// key is counted by `evicted`. Holds no partition when called.
pub fn evict(
    keyspace: &Keyspace,
    pressure: &Pressure<'_>,
    rounds: usize,
    effects: &mut Effects,
) -> (Outcome, usize) {
    let mut evicted = 0;
    while pressure.is_over(keyspace, effects.bytes) {
        if pressure.rules.policy == Policy::NoEviction {
            return (Outcome::Exhausted, evicted);
        }
        if evicted == rounds {
            return (Outcome::Unfinished, evicted);
        }
        if !evict_one(keyspace, pressure, effects) {
            return (Outcome::Exhausted, evicted);
        }
        evicted += 1;
    }
    (Outcome::Within, evicted)
}

fn evict_one(keyspace: &Keyspace, pressure: &Pressure<'_>, effects: &mut Effects) -> bool {
    for _ in 0..ATTEMPTS {
        let is_any = gather(keyspace, pressure);
        let Some(candidate) = keyspace.pool.lock().best.pop() else {
            if is_any {
                continue;
            }
            return false;
        };
        if take(keyspace, candidate, pressure, effects) {
            return true;
        }
    }
    false
}

/// Samples every database into the pool, each from a random partition on until there are enough samples: one partition
/// of a small data set has a key or two. Whether there is any key that may go: where there is none, each refused write would
/// search again and again.
fn gather(keyspace: &Keyspace, pressure: &Pressure<'_>) -> bool {
    let volatile = pressure.rules.policy.is_volatile();
    let wanted = pressure.rules.samples.max(1);
    let mut is_any = false;
    for (number, database) in keyspace.built() {
        let mut found = Vec::with_capacity(wanted.min(POOL_SIZE));
        // A hash drawn at random meets the partitions by their shares of the keys.
        let start = partition_of(pressure.rng.bits(), PARTITIONS);
        for partition in (0..PARTITIONS_PER_GATHER).map(|ahead| (start + ahead) % PARTITIONS) {
            let counters = database.counters(partition);
            let candidates = if volatile {
                counters.expires()
            } else {
                counters.len()
            };
            if candidates > 0
                && let Ok(held) = lock_in(keyspace, database, partition, 0)
            {
                let place = (number, partition as u32);
                sample(&held, place, wanted, keyspace, pressure, &mut found);
            }
            if found.len() >= wanted {
                break;
            }
        }
        is_any |= match volatile {
            _ if !found.is_empty() => true,
            true => database.expires() > 0,
            false => !database.is_empty(),
        };
        let mut pool = keyspace.pool.lock();
        pool.follow(pressure.rules.policy);
        found
            .into_iter()
            .for_each(|candidate| pool.offer(candidate));
    }
    is_any
}

/// Draws entries of a locked partition, until there are `wanted` in all.
fn sample(
    held: &Partition<'_>,
    (database, partition): (u32, u32),
    wanted: usize,
    keyspace: &Keyspace,
    pressure: &Pressure<'_>,
    found: &mut Vec<Candidate>,
) {
    let volatile = pressure.rules.policy.is_volatile();
    // One volatile key among thousands must be found: its tag is seen in the table, a nanosecond per place.
    let places = if volatile {
        usize::MAX
    } else {
        wanted.saturating_mul(PLACES_PER_SAMPLE)
    };
    let entries = held
        .from_random(pressure.rng.bits(), places)
        .filter(|entry| !volatile || entry.is_volatile())
        .take(wanted - found.len());
    found.extend(entries.map(|entry| Candidate {
        score: pressure.rules.score(entry, pressure.now, pressure.rng),
        database,
        partition,
        hash: keyspace.hasher.hash(entry.key()),
    }));
}

fn take(
    keyspace: &Keyspace,
    candidate: Candidate,
    pressure: &Pressure<'_>,
    effects: &mut Effects,
) -> bool {
    // By its number, so that the record names the database that the key is in, whatever SWAPDB does.
    let place = Place {
        database: candidate.database,
        partition: candidate.partition,
    };
    let Ok(mut held) = lock_one(keyspace, place, PATIENCE) else {
        return false;
    };
    let begun = pressure.watch.map(|_| Instant::now());
    let Some(entry) = held
        .partition
        .remove_by_hash(candidate.hash, |entry| is_eligible(entry, pressure.rules))
    else {
        return false;
    };
    effects.bytes += held.partition.take_bytes();
    effects.begin(keyspace.listeners.interest());
    effects.record(candidate.database, &[b"DEL", entry.key()]);
    effects.touch_evicted(candidate.database, entry.key());
    effects.append(&keyspace.listeners);
    drop(held);
    effects.event(
        EventClass::EVICTED,
        "evicted",
        candidate.database,
        entry.key(),
    );
    effects.discard(entry.into_garbage());
    if let (Some(watch), Some(begun)) = (pressure.watch, begun) {
        watch(begun.elapsed());
    }
    true
}

fn is_eligible(entry: &Entry, rules: &Rules) -> bool {
    !rules.policy.is_volatile() || entry.is_volatile()
}

#[cfg(test)]
mod tests;
