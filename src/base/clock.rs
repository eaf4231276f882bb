//! Time as a value.
//!
//! Below the dispatcher nobody asks the system for the time: an instant is handed in, so that a test or a simulation
//! decides what time it is. [`Clock`] is what the server asks, once per batch of requests.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub i64);

impl Millis {
    /// This instant and `milliseconds` more, saturating.
    pub fn plus(self, milliseconds: i64) -> Millis {
        Millis(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this instant; negative when it lies after.
    pub fn since(self, earlier: Millis) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// Where the server gets the time from: the system, or a hand that a test moves.
#[derive(Debug)]
pub struct Clock {
    /// `SYSTEM`, or the instant that a test set. Written by tests only, read by all; it guards nothing, so relaxed.
    fixed: AtomicI64,
}

const SYSTEM: i64 = i64::MIN;

impl Clock {
    /// The system's clock.
    pub const fn system() -> Clock {
        Clock {
            fixed: AtomicI64::new(SYSTEM),
        }
    }

    /// A clock that stands still until it is moved.
    pub const fn manual(start: Millis) -> Clock {
        Clock {
            fixed: AtomicI64::new(start.0),
        }
    }

    /// Moves a manual clock forward.
    pub fn advance(&self, by: Duration) {
        self.fixed
            .fetch_add(by.as_millis() as i64, Ordering::Relaxed);
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        match self.fixed.load(Ordering::Relaxed) {
            SYSTEM => Millis(since_epoch().as_millis() as i64),
            fixed => Millis(fixed),
        }
    }

    /// Microseconds since the Unix epoch, for what shows them to clients (TIME, MONITOR).
    pub fn micros(&self) -> i64 {
        match self.fixed.load(Ordering::Relaxed) {
            SYSTEM => since_epoch().as_micros() as i64,
            fixed => fixed.saturating_mul(1000),
        }
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
