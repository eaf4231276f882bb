//! Quoit: an in-memory cache that speaks the Redis protocol, uses every core and spreads its keys over peers.
pub mod base;
pub mod config;
pub mod data;
pub mod resp;
pub mod table;
pub mod keyspace;
pub mod commands;
pub mod state;
pub mod admin;
pub mod dispatch;
pub mod server;
