//! Values: bytes in, bytes out; no keys, no clock, no network.
//!
//! `number` reads and prints numbers as the protocol does, `glob` matches patterns; `string` and `bitmap` are operations on
//! the bytes of strings.

pub mod bitmap;
pub mod glob;
pub mod index;
pub mod list;
pub mod members;
pub mod number;
pub mod ordered;
pub mod packed;
pub mod string;
#[cfg(test)]
mod testing;
pub mod zset;
