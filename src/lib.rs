//! Quoit: an in-memory cache that speaks the Redis protocol.
pub mod base;
pub mod config;
pub mod resp;
pub mod data;
pub mod keyspace;
pub mod table;
pub mod commands;
pub mod state;
pub mod admin;
pub mod dispatch;
pub mod server;
