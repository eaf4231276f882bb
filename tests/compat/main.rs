//! What others rely on: scripts of requests and replies, and real clients.
//!
//! - `scripts/*.txt` holds for redis-server 7.0.15 and for us; `scripts/later/*.txt` is what later versions added. Each runs
//!   in RESP2 and in RESP3. The notation is that of `tests/integration/script.rs`.
//! - [`scenarios`]: several clients, some of which wait, here and at redis-server.
//! - [`handshakes`]: what clients and probes send unasked, byte for byte, in one write.
//! - [`cli`]: redis-cli and redis-benchmark.
//! - [`libraries`]: redis-py and ioredis, driven by the programs of `tests/clients`; [`redis_rs`] from here.
//! - [`cluster`], [`redis_rs_cluster`]: clients that know Redis Cluster, on the cluster face of a ring.
//! - [`frameworks`]: what is built on those: queues of jobs, caches, locks, messages between servers.
//!
//! A client that is not installed is skipped, loudly; with `QUOIT_REQUIRE_CLIENTS=1` its lack is a failure. `.ci/run` installs
//! them below `target/clients`.

#[path = "../ring/nodes.rs"]
#[allow(dead_code, reason = "the ring's own tests use more of it")]
mod nodes;
#[path = "../integration/script.rs"]
mod script;
#[path = "../support/mod.rs"]
mod support;

mod cli;
mod cluster;
mod frameworks;
mod handshakes;
mod libraries;
mod redis_rs;
mod redis_rs_cluster;
mod scenarios;
mod scripts;
