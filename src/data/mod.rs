//! Values: bytes in, bytes out; no keys, no clock, no network.
//!
//! `number` reads and prints numbers as the protocol does, `glob` matches patterns; `string` and `bitmap` are operations on
//! the bytes of strings. `hash` and `set` are made of `packed` and `intset` while they are small and of `dense` when they
//! are large; `list` is made of `packed`; `zset` of `packed`, or of `members` and `ordered`; `stream` is blocks of entries,
//! and groups. What is left of a large value is `remains`. `dump` is a value as checked bytes, `parts` a large one in parts.

pub mod bitmap;
pub mod dense;
pub mod dump;
pub mod fixed;
pub mod geo;
pub mod glob;
pub mod hash;
pub mod hyperloglog;
pub mod index;
pub mod intset;
pub mod list;
pub mod members;
pub mod number;
pub mod ordered;
pub mod packed;
pub mod partial_sort;
pub mod parts;
pub mod remains;
pub mod sample;
pub mod set;
pub mod stream;
pub mod string;
#[cfg(test)]
pub(crate) mod testing;
pub mod value;
pub mod zset;
