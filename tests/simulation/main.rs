//! Rings of whole servers in a simulated network, with clients that write: `cargo test --features simulation --test simulation`.
//!
//! Everything of a run follows from its seed: who starts when, joins, leaves, dies, comes back, is cut off or slow, which
//! messages are lost, and what the clients do. [`world`] is the ring and what must hold at every moment, [`schedule`] what
//! happens to it, [`clients`] who uses it meanwhile, [`history`] what they may see.
//!
//! `QUOIT_TEST_SEEDS=5000` runs so many seeds of each kind, `QUOIT_TEST_SEED=7` that one alone, both so many from that one on. Of a seed that fails the schedule
//! is printed and the servers' logs are kept in a file, at the level `QUOIT_TEST_LOG` (debug if not given).
//!
//! **What is not from the seed**: tokio's choice among the ready branches of a `select!`, in our code and in openraft's core. Built
//! with `RUSTFLAGS="--cfg tokio_unstable"` it is, too (turmoil seeds the runtimes then), and a replay is exact. Without it a
//! replay has the same schedule, which a failure prints, but may differ by an interleaving.

#[path = "../support/history.rs"]
mod history;
#[path = "../support/mod.rs"]
mod support;

mod clients;
mod runs;
mod schedule;
mod world;
