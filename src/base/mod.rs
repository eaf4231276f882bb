//! Ground floor of the crate: small things that know nothing of commands, keys or the network.

pub mod split;
