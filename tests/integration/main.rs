//! The server over its sockets: one binary, a module per family.

#[path = "../support/mod.rs"]
mod support;

mod bitmaps;
mod concurrency;
mod config;
mod connections;
mod generic;
mod hashes;
mod hostile;
mod keyspace;
mod lists;
mod migrate;
mod protocol;
mod pubsub;
mod script;
mod scripting;
mod server;
mod sets;
mod streams;
mod strings;
mod tracking;
mod transactions;
mod zsets;
