//! Ziplists and zipmaps: what listpacks were before Redis 7, and what ziplists of hashes were before Redis 2.6.
//!
//! ```text
//! ziplist   [ bytes in all (4) | place of the last entry (4) | entries (2; 65535: many) | entry .. | 255 ]
//!
//! entry     length of the one before, encoding, content
//! length    1 byte below 254, or 254 and 4 bytes
//! encoding  00llllll                      l bytes
//!           01llllll llllllll             l bytes
//!           10------ 4 bytes big-endian   so many bytes
//!           11000000 11010000 11100000    an integer of 2, 4, 8 bytes
//!           11110000 11111110             of 3 bytes, of 1 byte
//!           1111xxxx                      the integers 0 to 12 for 1 to 13
//!
//! zipmap    [ pairs (254, 255: many) | length, field, length, unused bytes, value, unused .. | 255 ]
//! ```

use super::read::{Malformed, Reader, Taken};
use crate::data::packed::Item;

const END: u8 = 0xff;
/// The first byte of a length of five bytes.
const LONG: u8 = 0xfe;
const HEADER_BYTES: usize = 10;
/// The count of a ziplist that has this many entries or more.
const MANY: u16 = u16::MAX;

/// The entries of a ziplist, each checked as it comes.
#[derive(Clone, Debug)]
pub(super) struct Ziplist<'a> {
    bytes: &'a [u8],
    /// Where the next entry begins, and the one before.
    next: usize,
    previous: usize,
    /// Where the last entry begins, as the ziplist says.
    last: usize,
    /// Entries that are still to come, if their number is known.
    left: Option<u16>,
}

impl<'a> Ziplist<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Taken<Ziplist<'a>> {
        let mut header = Reader::new(bytes);
        let total = u32::from_le_bytes(header.array()?) as usize;
        let last = u32::from_le_bytes(header.array()?) as usize;
        let count = u16::from_le_bytes(header.array()?);
        if total != bytes.len() || header.remaining() == 0 || bytes.last() != Some(&END) {
            return Err(Malformed);
        }
        Ok(Ziplist {
            bytes,
            next: HEADER_BYTES,
            previous: HEADER_BYTES,
            last,
            left: (count != MANY).then_some(count),
        })
    }

    /// Entries at most, for sizes in advance.
    pub(super) fn most(&self) -> usize {
        // An entry takes two bytes at least.
        let fit = (self.bytes.len() - self.next) / 2;
        self.left.map_or(fit, |left| fit.min(left.into()))
    }

    /// The next entry; `None` at the end.
    pub(super) fn next(&mut self) -> Taken<Option<Item<'a>>> {
        let end = self.bytes.len() - 1;
        if self.next == end {
            let holds = self.left.unwrap_or(0) == 0 && self.previous == self.last;
            return if holds { Ok(None) } else { Err(Malformed) };
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Malformed)?;
        }
        let mut entry = Reader::new(&self.bytes[self.next..end]);
        let before = match entry.byte()? {
            END => return Err(Malformed),
            LONG => u32::from_le_bytes(entry.array()?) as usize,
            short => short.into(),
        };
        if before != self.next - self.previous {
            return Err(Malformed);
        }
        let item = content(&mut entry)?;
        self.previous = self.next;
        self.next = end - entry.remaining();
        Ok(Some(item))
    }
}

/// Reads encoding and content of an entry.
fn content<'a>(entry: &mut Reader<'a>) -> Taken<Item<'a>> {
    let encoding = entry.byte()?;
    let low = encoding & 0x3f;
    let length = match encoding {
        0..0x40 => low.into(),
        0x40..0x80 => u16::from_be_bytes([low, entry.byte()?]).into(),
        0x80..0xc0 => u32::from_be_bytes(entry.array()?) as usize,
        _ => return integer(encoding, entry).map(Item::Int),
    };
    entry.bytes(length).map(Item::Bytes)
}

fn integer(encoding: u8, entry: &mut Reader<'_>) -> Taken<i64> {
    Ok(match encoding {
        0xc0 => i16::from_le_bytes(entry.array()?).into(),
        0xd0 => i32::from_le_bytes(entry.array()?).into(),
        0xe0 => i64::from_le_bytes(entry.array()?),
        0xf0 => {
            let [low, middle, high] = entry.array()?;
            (i32::from_le_bytes([0, low, middle, high]) >> 8).into()
        }
        0xfe => i8::from_le_bytes(entry.array()?).into(),
        0xf1..=0xfd => i64::from(encoding & 0x0f) - 1,
        _ => return Err(Malformed),
    })
}

/// The fields and values of a zipmap.
#[derive(Clone, Debug)]
pub(super) struct Zipmap<'a> {
    rest: Reader<'a>,
    /// Pairs that are still to come, if their number is known.
    left: Option<u8>,
}

impl<'a> Zipmap<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Taken<Zipmap<'a>> {
        let mut rest = Reader::new(bytes);
        let count = rest.byte()?;
        let left = (count < LONG).then_some(count);
        Ok(Zipmap { rest, left })
    }

    /// Pairs at most, for sizes in advance.
    pub(super) fn most(&self) -> usize {
        // A pair takes three bytes at least.
        self.rest.remaining() / 3
    }

    /// The next field with its value; `None` at the end.
    pub(super) fn next(&mut self) -> Taken<Option<(Item<'a>, Item<'a>)>> {
        let Some(length) = self.length()? else {
            let holds = self.left.unwrap_or(0) == 0 && self.rest.remaining() == 0;
            return if holds { Ok(None) } else { Err(Malformed) };
        };
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Malformed)?;
        }
        let field = self.rest.bytes(length)?;
        let length = self.length()?.ok_or(Malformed)?;
        let unused = self.rest.byte()?;
        let value = self.rest.bytes(length)?;
        self.rest.bytes(unused.into())?;
        Ok(Some((Item::Bytes(field), Item::Bytes(value))))
    }

    /// A length; `None` at the end.
    fn length(&mut self) -> Taken<Option<usize>> {
        Ok(match self.rest.byte()? {
            END => None,
            LONG => Some(u32::from_le_bytes(self.rest.array()?) as usize),
            short => Some(short.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(bytes: &[u8]) -> Taken<Vec<Item<'_>>> {
        let (mut ziplist, mut items) = (Ziplist::new(bytes)?, Vec::new());
        while let Some(item) = ziplist.next()? {
            items.push(item);
        }
        Ok(items)
    }

    /// A ziplist of entries that are given without the length of the one before.
    fn ziplist(entries: &[&[u8]]) -> Vec<u8> {
        let (mut bytes, mut last) = (vec![0; HEADER_BYTES], HEADER_BYTES);
        for &entry in entries {
            let before = bytes.len() - last;
            last = bytes.len();
            match u8::try_from(before) {
                Ok(before) if before < LONG => bytes.push(before),
                _ => {
                    bytes.push(LONG);
                    bytes.extend_from_slice(&(before as u32).to_le_bytes());
                }
            }
            bytes.extend_from_slice(entry);
        }
        bytes.push(END);
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        bytes[4..8].copy_from_slice(&(last as u32).to_le_bytes());
        bytes[8..10].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        bytes
    }

    #[test]
    fn every_encoding_of_ziplists() {
        let middle = [&[0x41, 0x2c][..], &[b'm'; 300]].concat();
        let long = [&[0x80, 0, 0, 0x40, 0][..], &[b'l'; 0x4000]].concat();
        let bytes = ziplist(&[
            b"\x02ab",
            &middle,
            &long,
            b"\x00",
            b"\xc0\xff\x7f",
            b"\xd0\x00\x00\x00\x80",
            b"\xe0\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\xf0\x00\x00\x80",
            b"\xfe\x80",
            b"\xf1",
            b"\xfd",
        ]);
        let items = [
            Item::Bytes(b"ab"),
            Item::Bytes(&[b'm'; 300]),
            Item::Bytes(&[b'l'; 0x4000]),
            Item::Bytes(b""),
            Item::Int(32_767),
            Item::Int(i32::MIN.into()),
            Item::Int(i64::MAX),
            Item::Int(-8_388_608),
            Item::Int(-128),
            Item::Int(0),
            Item::Int(12),
        ];
        assert_eq!(entries(&bytes), Ok(items.to_vec()));
        assert_eq!(entries(&ziplist(&[])), Ok(Vec::new()));
    }

    #[test]
    fn ziplists_that_do_not_hold_are_refused() {
        let good = ziplist(&[b"\x02ab", b"\xf3"]);
        assert!(entries(&good).is_ok());
        for length in 0..good.len() {
            assert_eq!(entries(&good[..length]), Err(Malformed), "{length} bytes");
        }
        for (place, byte) in [
            (0, 99),    // another length
            (4, 10),    // another last entry
            (8, 1),     // fewer entries
            (8, 3),     // more entries
            (10, 1),    // something before the first
            (11, 9),    // a longer text
            (14, 5),    // another length of the one before
            (15, 0xff), // no encoding
            (16, 0),    // no end
        ] {
            let mut bytes = good.clone();
            bytes[place] = byte;
            assert_eq!(entries(&bytes), Err(Malformed), "{place} {byte}");
        }
    }

    fn pairs(bytes: &[u8]) -> Taken<Vec<(Item<'_>, Item<'_>)>> {
        let (mut zipmap, mut pairs) = (Zipmap::new(bytes)?, Vec::new());
        while let Some(pair) = zipmap.next()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }

    #[test]
    fn zipmaps() {
        let good = b"\x02\x01a\x02\x00bc\x01d\x01\x02e..\xff";
        let items = |texts: [&'static [u8]; 2]| (Item::Bytes(texts[0]), Item::Bytes(texts[1]));
        let expected = vec![items([b"a", b"bc"]), items([b"d", b"e"])];
        assert_eq!(pairs(good), Ok(expected.clone()));
        let mut uncounted = good.to_vec();
        uncounted[0] = 254;
        assert_eq!(pairs(&uncounted), Ok(expected));
        for length in 0..good.len() {
            assert_eq!(pairs(&good[..length]), Err(Malformed), "{length} bytes");
        }
        for bad in [
            &b"\x01\x01a\x02\x00bc\x01d\x01\x02e..\xff"[..],
            b"\x03\x01a\x02\x00bc\x01d\x01\x02e..\xff",
            b"\x01\x01a\xff",
            b"\x01\x01a\xfe\xff\xff\xff\xff\x00b\xff",
            b"\x01\x01a\x01\x00b\xff\xff",
        ] {
            assert_eq!(pairs(bad), Err(Malformed), "{bad:?}");
        }
    }
}
