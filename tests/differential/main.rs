//! Quoit beside redis-server 7.0.15: the same bytes go to both, and every reply is compared byte for byte.
//!
//! - [`random`]: seeded sequences of commands, written by hand and made from the usage lines of the table; the whole
//!   keyspace is compared every few steps; a sequence that shows a difference is shrunk before it is printed.
//! - [`refusals`]: arity, unknown commands and subcommands, for every command that both know.
//! - [`wire`]: malformed requests, inline commands, bytes split anywhere.
//! - [`admin`]: requests about connections and the server, one by one.
//! - [`cluster`]: CLUSTER and its kin without a ring; slots of keys.
//! - [`observed`]: what servers tell of what was done: statistics, MONITOR, the slow log, the list of clients.
//! - [`tracking`]: what clients that keep copies are told, message by message.
//! - [`scripts`]: scripts, and every function of their libraries.
//! - [`dump`]: payloads of each restored by the other.
//! - [`rows`]: what COMMAND says of the commands that both know.
//!
//! What is random or about the time is normalised in [`compare`]; differences that are meant stand, with their reasons, in
//! `tests/support/differences.rs`. Without redis-server the tests pass and say loudly that they were skipped.
//!
//! `QUOIT_TEST_SEED` replays a failure, `QUOIT_TEST_STEPS` makes the run longer.

#[path = "../support/differences.rs"]
mod differences;
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod cluster;
mod compare;
mod dump;
mod generate;
mod geo;
mod hashes;
mod hyperloglog;
mod lists;
mod observed;
mod pair;
mod random;
mod refusals;
mod rows;
mod scripts;
mod sets;
mod shrink;
mod sort;
mod streams;
mod tracking;
mod transactions;
mod usage;
mod wire;
mod zsets;

use support::client;
