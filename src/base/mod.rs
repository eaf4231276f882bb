//! What everything else may use: time as a value, chance as a value, hashes, counters, words of a line, figures of the process, wakers.

pub mod allocator;
pub mod clock;
pub mod hash;
pub mod process;
pub mod rng;
pub mod split;
pub mod stats;
pub mod version;
pub mod wakers;
pub mod worker;
