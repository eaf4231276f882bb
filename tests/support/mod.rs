//! What all test binaries share: servers on free ports, a small client, words and replies as text.
//!
//! A server is a child process that dies with its value; what it wrote to stderr is shown when the test fails, and a line
//! of a panic fails the test. Nothing sleeps to wait: [`eventually`] polls with a deadline.
//!
//! With `QUOIT_TEST_SERVER=redis` every test that does not ask for Quoit by name runs against redis-server: so the suites
//! themselves are checked against the oracle. With `QUOIT_TEST_RING=1` Quoit is a node of a ring without keys: see
//! [`elsewhere`].
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]

pub mod client;
pub mod elsewhere;
pub mod server;
pub mod text;

use std::time::{Duration, Instant};

pub use client::{Client, Reply, Value};
pub use server::{Server, TempDir, free_port, oracle, oracle_with};
pub use text::{show, words};

/// The longest anything may take before a test calls it hung. Generous: CI machines are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `look` finds something.
///
/// # Panics
///
/// When it does not within [`PATIENCE`], with `what` was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// As [`eventually`], with a deadline that is itself the claim under test.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(limit, look).unwrap_or_else(|| panic!("waited {limit:?} in vain for: {what}"))
}

/// Polls until `look` finds something or the time is over. The only place of the tests that sleeps.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The seed of a random test: `QUOIT_TEST_SEED`, or a new one. Printed, so that a failure can be replayed.
pub fn seed() -> u64 {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .map(|text| text.parse().expect("QUOIT_TEST_SEED is a number"));
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed} (replay with QUOIT_TEST_SEED={seed})");
    seed
}

/// A number from the environment, for scaling tests up.
pub fn scaled(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}
