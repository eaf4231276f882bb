//! From a key to its slot: CRC16 with hash tags, as Redis Cluster's, and pins.
//!
//! ```text
//!     user:1            CRC16 of the whole key, of which the lower 14 bits are the slot
//!     {user:1}:friends  CRC16 of `user:1`: what stands between the first `{` and the first `}` after it, unless that is nothing
//!     queue:mail        with `cluster-pin queue:`, the slot of the key `queue:`, whatever follows
//!     any key           of database 1 with `cluster-pin 1`, the slot of the key `db1`
//! ```
//!
//! A slot depends on the key alone, not on its database, except for pins. All of that is known to clients: CLUSTER KEYSLOT
//! of a pin's text says where its keys are.
//!
//! Cost: 7 to 13 ns for keys of 8 to 31 bytes, to the owner 1 to 2 more (benches/route.rs). The CRC takes 16 bytes at a
//! time, of which the first may be padded on the left: the register begins at zero, so zeros before the key change nothing.
//! One byte at a time it is three times as slow at 16 bytes and ten times at 64; a table of our own that takes 8 at a time
//! is no faster.

use std::fmt;

use crc::{CRC_16_XMODEM, Crc, Table};
use memchr::memchr;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Slots of a ring.
pub const SLOTS: usize = 16384;

/// How many bytes the CRC takes at a time.
const BLOCK: usize = 16;

static CHECKSUM: Crc<u16, Table<BLOCK>> = Crc::<u16, Table<BLOCK>>::new(&CRC_16_XMODEM);

/// The slot of a key that no pin concerns: below [`SLOTS`].
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    checksum(hashed_part(key)) % SLOTS as u16
}

/// What stands between the first `{` and the first `}` after it; the whole key if there are no such two, or nothing is
/// between them.
#[inline]
fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = memchr(b'{', key) else {
        return key;
    };
    let rest = &key[open + 1..];
    match memchr(b'}', rest) {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

#[inline]
fn checksum(text: &[u8]) -> u16 {
    let (head, blocks) = text.split_at(text.len() % BLOCK);
    if head.is_empty() {
        return CHECKSUM.checksum(blocks);
    }
    let mut padded = [0; BLOCK];
    padded[BLOCK - head.len()..].copy_from_slice(head);
    let first = CHECKSUM.checksum(&padded);
    if blocks.is_empty() {
        return first;
    }
    // The algorithm reflects nothing and inverts nothing: what it ends with is what it can begin with.
    let mut digest = CHECKSUM.digest_with_initial(first);
    digest.update(blocks);
    digest.finalize()
}

/// Which keys share a slot whatever their names are (cluster-pin).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// Databases all of whose keys share a slot, in ascending order.
    pub databases: Vec<u32>,
    /// Prefixes whose keys share a slot, the longest first.
    pub prefixes: Vec<Vec<u8>>,
}

impl Pins {
    /// How many pins there may be: each key is compared with every prefix.
    pub const MAX: usize = 64;

    /// Reads the words of `cluster-pin`: one of digits alone is a database, any other a prefix. Words that come twice count
    /// once. Whether a database exists is the caller's to know. A prefix of digits alone cannot be pinned.
    pub fn parse<W: AsRef<[u8]>>(words: &[W]) -> Result<Pins, BadPin> {
        let mut pins = Pins::default();
        for word in words {
            let word = word.as_ref();
            if word.is_empty() {
                return Err(BadPin::Empty);
            } else if word.iter().all(u8::is_ascii_digit) {
                pins.databases.push(database(word)?);
            } else {
                pins.prefixes.push(word.to_vec());
            }
        }
        pins.databases.sort_unstable();
        pins.databases.dedup();
        // The longest first, so that the pin that says the most of a key is the one that counts.
        pins.prefixes
            .sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        pins.prefixes.dedup();
        if pins.databases.len() + pins.prefixes.len() > Pins::MAX {
            return Err(BadPin::TooMany);
        }
        Ok(pins)
    }

    /// Whether nothing is pinned.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.prefixes.is_empty()
    }

    /// The slot of a key of this database. A pinned database comes first: all its keys share a slot, also those with a
    /// pinned prefix. Then the longest pinned prefix, also of keys with a hash tag.
    #[inline]
    pub fn slot(&self, database: u32, key: &[u8]) -> u16 {
        if self.is_empty() {
            return slot_of(key);
        }
        self.slot_with_pins(database, key)
    }

    fn slot_with_pins(&self, database: u32, key: &[u8]) -> u16 {
        if self.databases.binary_search(&database).is_ok() {
            return Pins::database_slot(database);
        }
        let prefix = self.prefixes.iter().find(|prefix| key.starts_with(prefix));
        slot_of(prefix.map_or(key, Vec::as_slice))
    }

    /// The slot of a pinned database's keys: that of the key `db<number>`.
    pub fn database_slot(database: u32) -> u16 {
        let mut text = SmallVec::<[u8; 12]>::from_slice(b"db");
        text.extend_from_slice(itoa::Buffer::new().format(database).as_bytes());
        slot_of(&text)
    }
}

fn database(digits: &[u8]) -> Result<u32, BadPin> {
    digits.iter().try_fold(0u32, |number, digit| {
        number
            .checked_mul(10)
            .and_then(|number| number.checked_add(u32::from(digit - b'0')))
            .ok_or(BadPin::Database)
    })
}

/// Why `cluster-pin` is refused; its text is for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPin {
    /// A word of nothing would pin every key.
    Empty,
    /// A number beyond that of any database.
    Database,
    /// More than [`Pins::MAX`].
    TooMany,
}

impl fmt::Display for BadPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPin::Empty => f.write_str("an empty prefix would pin every key to one slot"),
            BadPin::Database => f.write_str("a pinned database has a number that no database has"),
            BadPin::TooMany => write!(f, "more than {} databases and prefixes", Pins::MAX),
        }
    }
}

impl std::error::Error for BadPin {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_slots() {
        // What `CLUSTER KEYSLOT` of redis-server 7.0.15 says.
        for (key, slot) in [
            (&b""[..], 0),
            (b"123456789", 12739),
            (b"foo", 12182),
            (b"bar", 5061),
            (b"user:1", 10778),
            (b"{user:1}:friends", 10778),
        ] {
            assert_eq!(slot_of(key), slot, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn the_hash_tag_is_the_first_that_is_not_empty() {
        for (key, hashed) in [
            ("{a}b", "a"),
            ("x{a}{b}", "a"),
            ("{}{a}", "{}{a}"),
            ("a{}", "a{}"),
            ("{{a}}", "{a"),
            ("}{a}", "a"),
            ("{a", "{a"),
            ("a}", "a}"),
            ("a}b{", "a}b{"),
            ("{", "{"),
            ("{}", "{}"),
            ("{a}}", "a"),
            ("", ""),
        ] {
            assert_eq!(hashed_part(key.as_bytes()), hashed.as_bytes(), "{key}");
        }
    }

    #[test]
    fn blocks_and_their_padding_change_nothing() {
        // Aim: every length is the same as bit by bit.
        fn bit_by_bit(text: &[u8]) -> u16 {
            text.iter().fold(0, |crc, byte| {
                (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
                    (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
                })
            })
        }
        let text: Vec<u8> = (0..200u32).map(|n| (n * n + 7 * n + 3) as u8).collect();
        for begin in 0..BLOCK {
            for end in begin..text.len() {
                let part = &text[begin..end];
                assert_eq!(checksum(part), bit_by_bit(part), "{begin}..{end}");
            }
        }
        assert_eq!(checksum(&[0; 40]), 0);
    }

    #[test]
    fn pins_are_read() {
        let pins = Pins::parse(&["queue:", "12", "q", "1", "queue:", "01", "7up"]).unwrap();
        assert_eq!(pins.databases, [1, 12]);
        assert_eq!(
            pins.prefixes,
            [b"queue:".to_vec(), b"7up".to_vec(), b"q".to_vec()]
        );
        assert_eq!(Pins::parse::<&str>(&[]), Ok(Pins::default()));
        assert_eq!(Pins::parse(&["a", ""]), Err(BadPin::Empty));
        assert_eq!(Pins::parse(&["4294967296"]), Err(BadPin::Database));
        assert_eq!(
            Pins::parse(&["4294967295"]).unwrap().databases,
            [4_294_967_295]
        );
        let words: Vec<String> = (0..=Pins::MAX).map(|n| n.to_string()).collect();
        assert_eq!(Pins::parse(&words), Err(BadPin::TooMany));
        assert!(Pins::parse(&words[1..]).is_ok());
    }

    #[test]
    fn pinned_keys_share_the_slot_of_their_pin() {
        let pins = Pins::parse(&["1", "queue:", "queue:{high}:", "que"]).unwrap();
        // A database comes before a prefix.
        for key in ["a", "queue:a", "{x}", ""] {
            assert_eq!(pins.slot(1, key.as_bytes()), slot_of(b"db1"), "{key}");
        }
        // The longest prefix, with its own hash tag; that of the key does not count.
        assert_eq!(pins.slot(0, b"queue:a"), slot_of(b"queue:"));
        assert_eq!(pins.slot(0, b"queue:{a}"), slot_of(b"queue:"));
        assert_eq!(pins.slot(0, b"queue:"), slot_of(b"queue:"));
        assert_eq!(pins.slot(0, b"queue:{high}:a"), slot_of(b"high"));
        assert_eq!(pins.slot(0, b"queue"), slot_of(b"que"));
        // Others are where they were.
        assert_eq!(pins.slot(0, b"qu{a}"), slot_of(b"a"));
        assert_eq!(Pins::default().slot(1, b"qu{a}"), slot_of(b"a"));
    }
}
