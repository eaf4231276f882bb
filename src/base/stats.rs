//! Counters and histograms that many threads add to and few read.
//!
//! A [`Sharded`] value has one copy per slot; a thread always uses the same slot, so that two cores rarely share a cache
//! line. Readers add the copies up. All are statistics: relaxed, no common instant.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Numbers threads as they first count something. Written by `fetch_add` only.
static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

/// One copy of `T` per slot, on cache lines of its own.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: Box<[Padded<T>]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Sharded<T> {
    /// Copies for `slots` threads; more threads share them.
    pub fn new(slots: usize) -> Sharded<T> {
        Sharded {
            shards: (0..slots.max(1)).map(|_| Padded::default()).collect(),
        }
    }

    /// The copy of the calling thread.
    #[inline]
    pub fn mine(&self) -> &T {
        let slot = SLOT.with(|slot| {
            if slot.get() == usize::MAX {
                slot.set(NEXT_SLOT.fetch_add(1, Ordering::Relaxed));
            }
            slot.get()
        });
        &self.shards[slot % self.shards.len()].0
    }

    /// All copies.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|shard| &shard.0)
    }
}

/// A counter; wraps around after 2^64.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    #[inline]
    pub fn add(&self, count: u64) {
        if count != 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What was added so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Starts again from zero.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Buckets per doubling: values are known to 1/16.
const SUB_BITS: u32 = 4;
const SUB: usize = 1 << SUB_BITS;
/// Buckets for values up to 2^40 (18 minutes in nanoseconds); larger ones count as that.
const BUCKETS: usize = (40 - SUB_BITS as usize + 1) * SUB;

/// A histogram of durations in nanoseconds, with sixteen buckets per doubling. Allocated when first used.
#[derive(Debug, Default)]
pub struct Histogram(OnceLock<Box<[AtomicU64]>>);

impl Histogram {
    /// The bucket of a value.
    #[inline]
    pub fn bucket(nanos: u64) -> usize {
        if nanos < SUB as u64 {
            return nanos as usize;
        }
        let exponent = 63 - nanos.leading_zeros();
        let sub = (nanos >> (exponent - SUB_BITS)) as usize & (SUB - 1);
        ((exponent - SUB_BITS + 1) as usize * SUB + sub).min(BUCKETS - 1)
    }

    /// The largest value of a bucket.
    pub fn upper(bucket: usize) -> u64 {
        if bucket < SUB {
            return bucket as u64;
        }
        let exponent = (bucket / SUB) as u32 - 1;
        (((SUB + bucket % SUB + 1) as u64) << exponent) - 1
    }

    /// Counts `count` values of a bucket.
    #[inline]
    pub fn add(&self, bucket: usize, count: u64) {
        let buckets = self
            .0
            .get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect());
        buckets[bucket].fetch_add(count, Ordering::Relaxed);
    }

    /// Adds this histogram's counts to `sums`.
    pub fn collect(&self, sums: &mut Distribution) {
        if let Some(buckets) = self.0.get() {
            sums.0.resize(BUCKETS, 0);
            buckets
                .iter()
                .zip(&mut sums.0)
                .for_each(|(bucket, sum)| *sum += bucket.load(Ordering::Relaxed));
        }
    }

    /// Starts again from nothing.
    pub fn reset(&self) {
        self.0
            .get()
            .into_iter()
            .flatten()
            .for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }
}

/// The counts of one or more histograms, added up.
#[derive(Debug, Default, Clone)]
pub struct Distribution(Vec<u64>);

impl Distribution {
    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The value that `percent` of all values do not exceed, in nanoseconds (to 1/16); 0 when there is none.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = (self.count() as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Histogram::upper(bucket);
            }
        }
        0
    }

    /// How many values are at most `nanos`.
    pub fn up_to(&self, nanos: u64) -> u64 {
        let counted = self
            .0
            .iter()
            .enumerate()
            .take_while(|(bucket, _)| Histogram::upper(*bucket) <= nanos);
        counted.map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_values_up_to_its_upper_end() {
        for nanos in [0, 1, 15, 16, 17, 31, 32, 33, 1000, 123_456, 10_000_000_000] {
            let bucket = Histogram::bucket(nanos);
            assert!(Histogram::upper(bucket) >= nanos, "{nanos}");
            assert!(
                bucket == 0 || Histogram::upper(bucket - 1) < nanos,
                "{nanos}"
            );
        }
    }

    #[test]
    fn percentiles_come_from_the_counts() {
        let histogram = Histogram::default();
        (1..=1000u64).for_each(|nanos| histogram.add(Histogram::bucket(nanos), 1));
        let mut sums = Distribution::default();
        histogram.collect(&mut sums);
        assert_eq!(sums.count(), 1000);
        let median = sums.percentile(50.0);
        assert!((500..=532).contains(&median), "{median}");
    }
}
