//! Chance as a value: a seeded generator that can be drawn from behind a shared reference.
//!
//! Eviction, RANDOMKEY and the LFU counter draw from it. Not for secrets.

use std::cell::RefCell;

/// A seeded generator.
#[derive(Debug)]
pub struct Rng(RefCell<fastrand::Rng>);

impl Rng {
    /// The same seed gives the same draws.
    pub fn seeded(seed: u64) -> Rng {
        Rng(RefCell::new(fastrand::Rng::with_seed(seed)))
    }

    /// A generator seeded by the system.
    pub fn from_system() -> Rng {
        Rng(RefCell::new(fastrand::Rng::new()))
    }

    /// Uniform in `0..bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.0.borrow_mut().u64(0..bound)
        }
    }

    /// 64 random bits.
    pub fn bits(&self) -> u64 {
        self.0.borrow_mut().u64(..)
    }

    /// Uniform in `[0, 1)`.
    pub fn fraction(&self) -> f64 {
        self.0.borrow_mut().f64()
    }
}
