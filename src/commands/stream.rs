//! Streams: entries by id, groups that read them, and what the groups' consumers have pending.
//!
//! Ids and options are read before anything is changed. What depends on the moment is propagated as it came out: an entry
//! under the id that it got, trimming with `~` as the exact trimming that it was, and what a group delivered as XCLAIM and
//! XGROUP SETID (`read`, `pending`).
//!
//! A stream is not removed with its last entry: its last id and its groups live on.

mod entries;
mod group;
mod info;
mod parse;
mod pending;
mod read;
mod rows;

pub use rows::ROWS;

#[cfg(test)]
mod tests;
