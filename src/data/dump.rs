//! DUMP payloads: one value as bytes that any Redis restores.
//!
//! ```text
//! [ type | value in the encodings of an RDB file | version (2 bytes) | CRC-64 of all before (8 bytes) ]
//! ```
//!
//! `read` and `text` know the lengths and strings of which everything else is made, `lzf` their compression; `listpack`
//! and `ziplist` the sequences in which Redis holds small collections; `decode` and `encode` the types.
//!
//! Written is what Redis 7.0 restores: version 10, small collections as listpacks and integer sets, large ones element by
//! element, nothing compressed. Only a hash whose fields expire needs an encoding of Redis 7.4, and the version that keeps
//! older servers from reading it. Read is every encoding of Redis 2.6 to 7.4.
//!
//! A payload comes from a client. It is read once from its start to its end, nothing is allocated from a count or length
//! that it declares before as many bytes have been seen, and everything is checked whatever `sanitize-dump-payload` says:
//! lengths, totals and back references of sequences, order of integers, members that come twice, scores that are no
//! numbers. What does not hold is refused; what was built until then is dropped.

use crc::{CRC_64_REDIS, Crc, Table};

use super::hash::HashLimits;
use super::list;
use super::set::SetLimits;
use super::value::Value;
use super::zset;
use crate::base::hash::KeyHasher;

mod decode;
mod encode;
mod listpack;
mod lzf;
mod read;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod types;
mod ziplist;

pub use self::encode::write;

/// The version that is written, of Redis 7.0, unless the value needs a later one.
const VERSION: u16 = 10;
/// The version of encodings that Redis 7.4 introduced, and the last that is read.
const LAST_VERSION: u16 = 12;
const FOOTER_BYTES: usize = 2 + CHECKSUM_BYTES;
const CHECKSUM_BYTES: usize = 8;

static CHECKSUM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Why a payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too short, of a later version, or damaged.
    Footer,
    /// The value in it is none.
    Format,
}

/// A value out of a payload.
pub enum Dumped {
    /// A string.
    String(Vec<u8>),
    /// Any other.
    Collection(Value),
}

/// The small forms that values out of payloads get.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Of lists.
    pub list: list::Limits,
    /// Of sets.
    pub set: SetLimits,
    /// Of hashes.
    pub hash: HashLimits,
    /// Of sorted sets.
    pub zset: zset::Limits,
    /// The hasher of sets and hashes.
    pub hasher: &'a KeyHasher,
}

/// The value of a payload.
pub fn read(payload: &[u8], rules: &Rules<'_>) -> Result<Dumped, Refused> {
    let value = checked(payload).ok_or(Refused::Footer)?;
    decode::value(value, rules).map_err(|read::Malformed| Refused::Format)
}

/// The opcode before a library's text.
const LIBRARY: u8 = 245;

/// A payload of libraries, in the form of FUNCTION DUMP.
pub fn write_libraries<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut payload = Vec::new();
    for text in texts {
        payload.push(LIBRARY);
        encode::write_length(&mut payload, text.len() as u64);
        payload.extend_from_slice(text);
    }
    seal(&mut payload, VERSION);
    payload
}

/// The texts of the libraries of a payload.
pub fn read_libraries(payload: &[u8]) -> Result<Vec<Vec<u8>>, Refused> {
    let mut reader = read::Reader::new(checked(payload).ok_or(Refused::Footer)?);
    let mut texts = Vec::new();
    while reader.remaining() > 0 {
        let text = reader.byte().and_then(|opcode| match opcode {
            LIBRARY => reader.string(),
            _ => Err(read::Malformed),
        });
        let text = text.map_err(|read::Malformed| Refused::Format)?;
        texts.push(text.into_vec());
    }
    Ok(texts)
}

/// Whether version and checksum of a payload are right.
pub fn is_intact(payload: &[u8]) -> bool {
    checked(payload).is_some()
}

/// The payload without its footer, if that is right.
fn checked(payload: &[u8]) -> Option<&[u8]> {
    let (value, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER_BYTES)?)?;
    let (version, checksum) = footer.split_first_chunk::<2>()?;
    let version = u16::from_le_bytes(*version);
    let sum = CHECKSUM.checksum(&payload[..payload.len() - CHECKSUM_BYTES]);
    (version <= LAST_VERSION && sum.to_le_bytes() == checksum).then_some(value)
}

/// Appends version and checksum to what stands in `payload`.
fn seal(payload: &mut Vec<u8>, version: u16) {
    payload.extend_from_slice(&version.to_le_bytes());
    let sum = CHECKSUM.checksum(payload);
    payload.extend_from_slice(&sum.to_le_bytes());
}
