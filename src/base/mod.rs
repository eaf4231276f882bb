//! What everything else may use: time as a value, chance as a value, counters.
pub mod clock;
pub mod rng;
pub mod split;
