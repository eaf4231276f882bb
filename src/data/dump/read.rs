//! A cursor over the bytes of a payload: lengths, strings, numbers.
//!
//! ```text
//! 00llllll                        a length of 6 bits
//! 01llllll llllllll               of 14 bits
//! 10000000 4 bytes big-endian     of 32 bits
//! 10000001 8 bytes big-endian     of 64 bits
//! 110000ee                        no length, but a string in another form: an integer of 1, 2 or 4 bytes, or LZF
//! ```

use std::borrow::Cow;

use super::lzf;
use super::text::Text;
use crate::data::number;

/// A payload that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a read gives.
pub(super) type Taken<T> = Result<T, Malformed>;

/// The cursor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

enum Prefix {
    Length(u64),
    Encoding(u8),
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Bytes that are left: no more elements than this can follow.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Taken<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Taken<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Taken<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A length, or a number written like one.
    pub(super) fn number(&mut self) -> Taken<u64> {
        match self.prefix()? {
            Prefix::Length(length) => Ok(length),
            Prefix::Encoding(_) => Err(Malformed),
        }
    }

    /// The number of elements that follow, at least one and no more than there are bytes.
    pub(super) fn count(&mut self) -> Taken<usize> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        if count == 0 || count > self.remaining() {
            return Err(Malformed);
        }
        Ok(count)
    }

    pub(super) fn string(&mut self) -> Taken<Text<'a>> {
        let encoding = match self.prefix()? {
            Prefix::Length(length) => {
                let bytes = self.bytes(length.try_into().map_err(|_| Malformed)?)?;
                return Ok(Text::Bytes(Cow::Borrowed(bytes)));
            }
            Prefix::Encoding(encoding) => encoding,
        };
        match encoding {
            0 => Ok(Text::Int(i8::from_le_bytes(self.array()?).into())),
            1 => Ok(Text::Int(i16::from_le_bytes(self.array()?).into())),
            2 => Ok(Text::Int(i32::from_le_bytes(self.array()?).into())),
            3 => {
                let compressed = self.number()?.try_into().map_err(|_| Malformed)?;
                let length = self.number()?.try_into().map_err(|_| Malformed)?;
                let text = lzf::decompress(self.bytes(compressed)?, length)?;
                Ok(Text::Bytes(Cow::Owned(text)))
            }
            _ => Err(Malformed),
        }
    }

    /// A score of eight bytes.
    pub(super) fn double(&mut self) -> Taken<f64> {
        let score = f64::from_le_bytes(self.array()?);
        if score.is_nan() {
            return Err(Malformed);
        }
        Ok(score)
    }

    /// A score as text behind its length, which three lengths replace.
    pub(super) fn text_double(&mut self) -> Taken<f64> {
        match self.byte()? {
            253 => Err(Malformed),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            length => number::parse_f64(self.bytes(length.into())?).ok_or(Malformed),
        }
    }

    fn prefix(&mut self) -> Taken<Prefix> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match (first >> 6, first) {
            (0, _) => Prefix::Length(low.into()),
            (1, _) => Prefix::Length(u16::from_be_bytes([low, self.byte()?]).into()),
            (3, _) => Prefix::Encoding(low),
            (_, 0x80) => Prefix::Length(u32::from_be_bytes(self.array()?).into()),
            (_, 0x81) => Prefix::Length(u64::from_be_bytes(self.array()?)),
            _ => return Err(Malformed),
        })
    }
}
