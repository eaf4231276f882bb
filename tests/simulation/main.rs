//! Rings of whole servers in a simulated network, with clients that write: `cargo test --features simulation --test simulation`.
//!
//! Everything of a run follows from its seed: who starts when, joins, leaves, dies, comes back, is cut off or slow, which
//! messages are lost, and what the clients do. [`world`] is the ring and what must hold at every moment, [`schedule`] what
//! happens to it, [`clients`] who uses it meanwhile, [`history`] what they may see.
//!
//! `QUOIT_TEST_SEEDS=5000` runs so many seeds of each kind, `QUOIT_TEST_SEED=7` that one alone, both so many from that one
//! on. Of a seed that fails the schedule is printed and the servers' logs are kept in a file, at the level `QUOIT_TEST_LOG` (debug if not given).
//!
//! **What is not from the seed**: tokio's choice among the ready branches of a `select!`, in our code and in openraft's core,
//! and the order of the standard library's hash maps. A replay has the same schedule, and nearly always the same course
//! (the trace of two runs, printed, is then the same), but not by necessity: that is why a failure keeps its logs. Built with
//! `RUSTFLAGS="--cfg tokio_unstable"` the choices of `select!` are from the seed, too: turmoil seeds the runtimes then.
//! Nothing that a server does takes time here; where it measures its own work to let others have their turn, chance decides.

#[path = "../support/history.rs"]
mod history;
#[path = "../support/mod.rs"]
mod support;

mod clients;
mod runs;
mod schedule;
mod world;
