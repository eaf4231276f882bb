//! Listpacks: the sequences in which Redis 7 holds small collections, nodes of lists and of streams.
//!
//! ```text
//! [ bytes in all (4) | elements (2; 65535: many) | element .. | 255 ]
//!
//! element   encoding, content                                 and the length of both, to be read from behind
//! encoding  0xxxxxxx                      the integers 0 to 127
//!           10llllll                      l bytes
//!           110xxxxx xxxxxxxx             an integer of 13 bits
//!           1110llll llllllll             l bytes
//!           11110000 4 bytes              so many bytes
//!           11110001 .. 11110100          an integer of 2, 3, 4, 8 bytes
//! ```
//!
//! The length behind an element has seven bits in each byte, the lowest in the last one; all bytes but the first have the
//! highest bit set.

use super::read::{Malformed, Taken};
use crate::data::packed::Item;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;
/// The count of a listpack that has this many elements or more.
const MANY: u16 = u16::MAX;

/// The elements of a listpack, each checked as it comes.
#[derive(Clone, Debug)]
pub(super) struct Listpack<'a> {
    /// Elements, and the end.
    rest: &'a [u8],
    /// Elements that are still to come, if their number is known.
    left: Option<u16>,
}

impl<'a> Listpack<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Taken<Listpack<'a>> {
        let (total, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
        let (count, rest) = rest.split_first_chunk().ok_or(Malformed)?;
        let count = u16::from_le_bytes(*count);
        if u32::from_le_bytes(*total) as usize != bytes.len() || rest.last() != Some(&END) {
            return Err(Malformed);
        }
        let left = (count != MANY).then_some(count);
        Ok(Listpack { rest, left })
    }

    /// Elements at most, for sizes in advance.
    pub(super) fn most(&self) -> usize {
        // An element takes two bytes at least.
        let fit = self.rest.len() / 2;
        self.left.map_or(fit, |left| fit.min(left.into()))
    }

    /// The next element; `None` at the end.
    pub(super) fn next(&mut self) -> Taken<Option<Item<'a>>> {
        if self.rest == [END] {
            return if self.left.unwrap_or(0) == 0 {
                Ok(None)
            } else {
                Err(Malformed)
            };
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Malformed)?;
        }
        let (item, length) = element(self.rest).ok_or(Malformed)?;
        let mut buffer = [0; MOST_BACK_BYTES];
        let back = back_length(length, &mut buffer);
        let behind = self.rest[length..].strip_prefix(back).ok_or(Malformed)?;
        // The end is not an element's, or `rest` would not be found to be the end alone.
        if behind.is_empty() {
            return Err(Malformed);
        }
        self.rest = behind;
        Ok(Some(item))
    }

    /// The next element, which must be there.
    pub(super) fn item(&mut self) -> Taken<Item<'a>> {
        self.next()?.ok_or(Malformed)
    }
}

/// The first element of `bytes`, and the length of its encoding and content.
fn element(bytes: &[u8]) -> Option<(Item<'_>, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let text = |length: usize, start: usize| {
        let text = bytes.get(start..start.checked_add(length)?)?;
        Some((Item::Bytes(text), start + length))
    };
    let integer = |width: usize| {
        let mut value = [0; 8];
        value[..width].copy_from_slice(rest.get(..width)?);
        let unused = 64 - 8 * width;
        let value = i64::from_le_bytes(value) << unused >> unused;
        Some((Item::Int(value), 1 + width))
    };
    match first {
        0..0x80 => Some((Item::Int(first.into()), 1)),
        0x80..0xc0 => text((first & 0x3f).into(), 1),
        0xc0..0xe0 => {
            let value = u16::from_be_bytes([first & 0x1f, *rest.first()?]);
            // The 13th bit is the sign.
            Some((Item::Int((i64::from(value) ^ 0x1000) - 0x1000), 2))
        }
        0xe0..0xf0 => {
            let length = u16::from_be_bytes([first & 0x0f, *rest.first()?]);
            text(length.into(), 2)
        }
        0xf0 => text(u32::from_le_bytes(*rest.first_chunk()?) as usize, 5),
        0xf1 => integer(2),
        0xf2 => integer(3),
        0xf3 => integer(4),
        0xf4 => integer(8),
        _ => None,
    }
}

const MOST_BACK_BYTES: usize = 5;

/// What stands behind an element of this length.
fn back_length(length: usize, buffer: &mut [u8; MOST_BACK_BYTES]) -> &[u8] {
    // Redis takes the larger form from one byte below what would fit.
    let count = match length {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    for (place, byte) in buffer[..count].iter_mut().rev().enumerate() {
        *byte = (length >> (7 * place)) as u8 & 0x7f | 0x80;
    }
    buffer[0] &= 0x7f;
    &buffer[..count]
}

/// A listpack that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    count: usize,
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer {
            bytes: vec![0; HEADER_BYTES],
            count: 0,
        }
    }

    /// How long it would be with another element.
    pub(super) fn length_with(&self, item: Item<'_>) -> usize {
        self.bytes.len() + item.text_len() + 5 + MOST_BACK_BYTES + 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds an element.
    pub(super) fn push(&mut self, item: Item<'_>) {
        let start = self.bytes.len();
        match item.canonical() {
            Item::Int(value) => self.push_int(value),
            Item::Bytes(text) => self.push_text(text),
        }
        let mut buffer = [0; MOST_BACK_BYTES];
        let back = back_length(self.bytes.len() - start, &mut buffer);
        self.bytes.extend_from_slice(back);
        self.count += 1;
    }

    /// The listpack; the writer is as new.
    pub(super) fn finish(&mut self, take: impl FnOnce(&[u8])) {
        self.bytes.push(END);
        let total = u32::try_from(self.bytes.len()).expect("the caller looks at its length");
        let count = u16::try_from(self.count).unwrap_or(MANY);
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        self.bytes[4..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
        take(&self.bytes);
        self.bytes.truncate(HEADER_BYTES);
        self.count = 0;
    }

    fn push_int(&mut self, value: i64) {
        match value {
            0..=127 => self.bytes.push(value as u8),
            -4096..=4095 => {
                let bits = value as u16 & 0x1fff | 0xc000;
                self.bytes.extend_from_slice(&bits.to_be_bytes());
            }
            _ => {
                // One bit more than the magnitude of what the sign leaves.
                let bits = u64::BITS - (value ^ (value >> 63)).leading_zeros() + 1;
                let (encoding, width) = match bits {
                    ..=16 => (0xf1, 2),
                    17..=24 => (0xf2, 3),
                    25..=32 => (0xf3, 4),
                    _ => (0xf4, 8),
                };
                self.bytes.push(encoding);
                self.bytes.extend_from_slice(&value.to_le_bytes()[..width]);
            }
        }
    }

    fn push_text(&mut self, text: &[u8]) {
        match text.len() {
            length @ 0..64 => self.bytes.push(0x80 | length as u8),
            length @ 64..4096 => {
                let bits = length as u16 | 0xe000;
                self.bytes.extend_from_slice(&bits.to_be_bytes());
            }
            length => {
                let length = u32::try_from(length).expect("the caller looks at its length");
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&length.to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(bytes: &[u8]) -> Taken<Vec<Item<'_>>> {
        let (mut listpack, mut items) = (Listpack::new(bytes)?, Vec::new());
        while let Some(item) = listpack.next()? {
            items.push(item);
        }
        Ok(items)
    }

    fn written(items: &[Item<'_>]) -> Vec<u8> {
        let (mut writer, mut bytes) = (Writer::new(), Vec::new());
        for &item in items {
            writer.push(item);
        }
        writer.finish(|listpack| bytes.extend_from_slice(listpack));
        bytes
    }

    /// Elements at the edges of every encoding and of every length behind one.
    #[test]
    fn every_encoding_reads_back() {
        let edges = [
            0,
            127,
            128,
            4095,
            4096,
            32_767,
            32_768,
            8_388_607,
            8_388_608,
            1 << 31,
            i64::MAX,
        ];
        let long: Vec<Vec<u8>> = [
            0, 1, 63, 64, 125, 126, 127, 4095, 4096, 16_377, 16_378, 16_379, 2_097_145, 2_097_146,
        ]
        .map(|length| vec![b'x'; length])
        .into();
        let mut all: Vec<Item<'_>> = edges.map(Item::Int).into();
        all.extend(edges.map(|edge| Item::Int(!edge)));
        all.extend(long.iter().map(|text| Item::Bytes(text)));
        let bytes = written(&all);
        assert_eq!(items(&bytes), Ok(all));
    }

    /// As Redis wrote them.
    #[test]
    fn known_bytes() {
        let bytes = b"\x0e\x00\x00\x00\x02\x00\x81a\x02\xc1\x00\x02\xff";
        let mut bytes = bytes.to_vec();
        bytes[0] = bytes.len() as u8;
        assert_eq!(written(&[Item::Bytes(b"a"), Item::Int(256)]), bytes);
        assert_eq!(items(&bytes), Ok(vec![Item::Bytes(b"a"), Item::Int(256)]));
    }

    #[test]
    fn what_does_not_hold_is_refused() {
        let good = written(&[Item::Bytes(b"ab"), Item::Int(1000)]);
        for length in 0..good.len() {
            assert_eq!(items(&good[..length]), Err(Malformed), "{length} bytes");
        }
        let with = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            bytes
        };
        for (place, byte) in [
            (0, 15),   // another length
            (4, 1),    // fewer elements
            (4, 3),    // more elements
            (6, 0x83), // a longer text
            (6, 0xf5), // no encoding
            (6, 0xff), // the end
            (9, 4),    // another length behind the first
            (9, 0x83), // that goes on
            (13, 0),   // no end
        ] {
            assert_eq!(items(&with(place, byte)), Err(Malformed), "{place} {byte}");
        }
        let mut more = good.clone();
        more.insert(13, END);
        more[0] += 1;
        assert_eq!(items(&more), Err(Malformed));
        // A count of 65535 says nothing.
        let mut uncounted = good;
        uncounted[4..6].fill(255);
        assert_eq!(items(&uncounted).map(|items| items.len()), Ok(2));
    }
}
