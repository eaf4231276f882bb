//! Quoit: an in-memory cache that speaks the Redis protocol, uses every core and spreads its keys over peers.
pub mod admin;
pub mod base;
pub mod commands;
pub mod config;
pub mod data;
pub mod dispatch;
pub mod keyspace;
pub mod resp;
pub mod server;
pub mod state;
pub mod table;
