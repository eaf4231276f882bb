//! The server over its sockets: one binary, a module per family.

#[path = "../support/mod.rs"]
mod support;

mod strings;
