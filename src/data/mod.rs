//! Values: bytes in, bytes out; no keys, no clock, no network.
//!
//! `number` reads and prints numbers as the protocol does, `glob` matches patterns.

pub mod glob;
pub mod number;
