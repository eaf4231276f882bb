//! Values: bytes in, bytes out; no keys, no clock, no network.
//!
//! `number` reads and prints numbers as the protocol does, `glob` matches patterns; `string` and `bitmap` are operations on
//! the bytes of strings.

pub mod bitmap;
pub mod dense;
pub mod glob;
pub mod number;
pub mod packed;
pub mod remains;
pub mod string;
#[cfg(test)]
mod testing;
