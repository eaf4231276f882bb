//! Quoit: an in-memory cache that speaks the Redis protocol, uses every core and spreads its keys over peers.
//!
//! # The life of a request
//!
//! A client sends `SET user:1 Ann EX 60`.
//!
//! 1. [`server::listener`] accepted its connection; one task, [`server::connection`], reads the socket into a buffer.
//! 2. [`resp::decode`] finds the complete requests in that buffer: places of their arguments, nothing copied. Those of a
//!    pipeline are decoded ahead, and what their keys need is fetched into the cache together.
//! 3. [`dispatch`] asks the [`table`] for the row `set`: its shape (how many arguments, which are keys), flags, handler.
//!    Whoever may refuse the request does so now (`dispatch/checks.rs`): authentication, memory, CLIENT PAUSE.
//! 4. The row's key specs say that argument 1 is the key. Its hash names a partition of the client's database; dispatch
//!    locks it ([`keyspace::lock`]), and several in order when there are several keys. If somebody else holds it, the task
//!    yields and comes back.
//! 5. The handler, `set` in [`commands::string`], is a plain function of the arguments, a [`keyspace::view::View`] of what
//!    was locked, and the [`resp::reply::Reply`]. It parses its options, changes the view, writes `+OK`. An error that it
//!    returns replaces whatever it wrote.
//! 6. What else the change must cause, the view noted as [`keyspace::effects`]: records for followers are appended before
//!    the lock is released; events, large values to be freed and statistics come after.
//! 7. When all requests of the buffer have run, the connection sends their replies in one write.
//!
//! Commands about the server and its clients have their rows and handlers in [`admin`]; they see a
//! [`state::session::Session`] and the [`state::Server`] instead of a view. Commands that go through all keys are
//! [`keyspace::sweep`]s: dispatch visits one partition at a time and lets others have their turn in between.
//!
//! A blocking command (BLPOP) that finds nothing leaves a [`keyspace::waiting::Waiter`] in the queues of its keys. Whoever
//! makes a key ready runs the waiters' commands after its own, in the order in which they came (`dispatch/blocking.rs`).
//! Between MULTI and EXEC commands are queued in the session; EXEC locks the keys of all of them and runs one after the
//! other on that (`dispatch/transaction.rs`). A [`script`] runs on the keys that it declares, and may lock more while it
//! runs (`dispatch/script.rs`).
//!
//! # To add a command
//!
//! Write its row and its function in the family's file under [`commands`] (or [`admin`]), and a test in the family's
//! tests. The row says everything that others need to know: COMMAND, ACL categories, arity, keys and locks come from it,
//! and `table/check.rs` tells what does not fit together.
//!
//! # The layers
//!
//! A module may use those above it in this list, never one below; `tests/tidy.rs` holds it to that.
//!
//! | | |
//! |---|---|
//! | [`base`] | clock, chance, counters, the allocator |
//! | [`config`] | one row per parameter; file, arguments, environment, CONFIG |
//! | [`data`] | values: numbers, patterns, bits, strings, collections; their form in DUMP |
//! | [`resp`] | the wire: requests in, replies out |
//! | [`table`] | what a command is; knows none |
//! | [`script`] | the Lua engine; knows no keyspace |
//! | [`keyspace`] | databases, partitions, entries, locks, expiry, eviction |
//! | [`commands`] | the data families |
//! | [`cluster`] | the ring: who owns which key, how nodes agree and speak |
//! | [`state`] | the shared parts of a running server; sessions |
//! | [`admin`] | the families about the server and its clients |
//! | [`dispatch`] | joins all rows; checks, locks, runs, counts |
//! | [`server`] | sockets, connections, background work, shutdown |

pub mod admin;
pub mod base;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod data;
pub mod dispatch;
pub mod keyspace;
pub mod resp;
pub mod script;
pub mod server;
pub mod state;
pub mod table;
