//! The first byte of a payload: the type of the value and its encoding. Numbers that are missing belong to modules and to
//! encodings that only unfinished versions of Redis wrote.

pub(super) const STRING: u8 = 0;
pub(super) const LIST: u8 = 1;
pub(super) const SET: u8 = 2;
/// Scores as text.
pub(super) const ZSET: u8 = 3;
pub(super) const HASH: u8 = 4;
/// Scores as eight bytes.
pub(super) const ZSET_2: u8 = 5;
pub(super) const HASH_ZIPMAP: u8 = 9;
pub(super) const LIST_ZIPLIST: u8 = 10;
pub(super) const SET_INTSET: u8 = 11;
pub(super) const ZSET_ZIPLIST: u8 = 12;
pub(super) const HASH_ZIPLIST: u8 = 13;
/// Nodes are ziplists.
pub(super) const LIST_QUICKLIST: u8 = 14;
pub(super) const HASH_LISTPACK: u8 = 16;
pub(super) const ZSET_LISTPACK: u8 = 17;
/// Nodes are listpacks, or one element each.
pub(super) const LIST_QUICKLIST_2: u8 = 18;
/// Nodes are listpacks of entries.
pub(super) const STREAM: u8 = 15;
/// With the ids and counts of Redis 7.0.
pub(super) const STREAM_2: u8 = 19;
/// With the times of Redis 7.2.
pub(super) const STREAM_3: u8 = 21;
pub(super) const SET_LISTPACK: u8 = 20;
/// Fields with expiries.
pub(super) const HASH_METADATA: u8 = 24;
/// The same as a listpack of triples.
pub(super) const HASH_LISTPACK_EX: u8 = 25;

/// A node of a `LIST_QUICKLIST_2` that is one element.
pub(super) const PLAIN_NODE: u64 = 1;
/// A node of a `LIST_QUICKLIST_2` that is a listpack.
pub(super) const PACKED_NODE: u64 = 2;
