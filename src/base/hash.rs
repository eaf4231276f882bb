//! The hash of what clients choose: keys, fields, members.
//!
//! SipHash-1-3 with a random 128-bit key per process: only a keyed pseudo-random function keeps clients from choosing
//! collisions. The hash never leaves the process; what is persistent or shared between nodes uses the fixed hashes of the
//! ring.

use siphasher::sip::SipHasher13;

/// The keyed hash of this process.
#[derive(Clone)]
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// A hasher with these 128 bits.
    pub fn with_key(low: u64, high: u64) -> KeyHasher {
        KeyHasher(SipHasher13::new_with_keys(low, high))
    }

    /// A hasher with bits from the chance of a simulation, so that it can be run again.
    #[cfg(feature = "simulation")]
    pub fn random() -> KeyHasher {
        KeyHasher::with_key(fastrand::u64(..), fastrand::u64(..))
    }

    /// A hasher with bits from the operating system.
    #[cfg(not(feature = "simulation"))]
    pub fn random() -> KeyHasher {
        use std::hash::{BuildHasher, Hasher};
        let system = std::collections::hash_map::RandomState::new();
        let draw = |salt: u64| {
            let mut hasher = system.build_hasher();
            hasher.write_u64(salt);
            hasher.finish()
        };
        KeyHasher::with_key(draw(1), draw(2))
    }

    /// 64 bits for a key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.0.hash(key)
    }
}

/// Share of the slope that the map from hash to partition gives away: the first partition gets 1.34 times the mean, the
/// last 0.66, close to log2(1 + u) (see keyspace/partition.rs, "Why the
/// partitions differ in size").
const BEND: f64 = 0.34;
/// Where in the hash the partition's 32 bits begin: above the table's bucket bits, below its 7 tag bits.
const PARTITION_SHIFT: u32 = 25;

/// The partition of a hash, among `count`.
#[inline]
pub fn partition_of(hash: u64, count: usize) -> usize {
    const ONE: u64 = 1 << 32;
    const BENT: u64 = (BEND * ONE as f64) as u64;
    let u = (hash >> PARTITION_SHIFT) & (ONE - 1);
    // u + BEND * u * (1 - u), all in units of 2^-32; below 1 for u below 1.
    let bent = u + ((((u * (ONE - u)) >> 32) * BENT) >> 32);
    ((bent * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_in_range_and_spread_over_an_octave() {
        let count = 1024;
        assert_eq!(partition_of(0, count), 0);
        assert!(partition_of(u64::MAX, count) < count);
        let hasher = KeyHasher::with_key(1, 2);
        let mut sizes = vec![0u32; count];
        for key in 0..1_000_000u32 {
            sizes[partition_of(hasher.hash(&key.to_le_bytes()), count)] += 1;
        }
        let mean = |range: std::ops::Range<usize>| {
            sizes[range.clone()].iter().sum::<u32>() as f64
                / range.len() as f64
                / (1_000_000.0 / count as f64)
        };
        // A partition's share is the inverse of the map's slope there.
        let (first, last) = (mean(0..64), mean(count - 64..count));
        assert!(first < 0.80 && first > 0.70, "{first}");
        assert!(last > 1.35 && last < 1.55, "{last}");
    }
}
