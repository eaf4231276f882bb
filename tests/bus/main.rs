//! The cluster bus over its sockets: calls and answers between two nodes, links that break, and what strangers may do.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod hostile;
mod peers;
