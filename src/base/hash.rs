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

    /// A hasher with bits from the operating system.
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
