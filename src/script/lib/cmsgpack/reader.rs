//! The bytes of MessagePack as items. What is later than the format's first version (binary, extensions) is none of them.

use mlua::Value;

/// What an item begins.
pub(super) enum Item<'a> {
    /// A value without anything more.
    Plain(Value),
    Text(&'a [u8]),
    /// So many values follow.
    Array(usize),
    /// So many keys follow, each with its value.
    Map(usize),
}

/// Why there is no item.
pub(super) enum Fault {
    Missing,
    BadFormat,
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Reader<'a> {
        Reader { rest: input }
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn item(&mut self) -> Result<Item<'a>, Fault> {
        let [tag] = self.bytes()?;
        let integer = |value: i64| Ok(Item::Plain(Value::Integer(value)));
        let float = |value: f64| Ok(Item::Plain(Value::Number(value)));
        match tag {
            0x00..=0x7f => integer(i64::from(tag)),
            0x80..=0x8f => Ok(Item::Map(usize::from(tag & 0x0f))),
            0x90..=0x9f => Ok(Item::Array(usize::from(tag & 0x0f))),
            0xa0..=0xbf => self.text(usize::from(tag & 0x1f)),
            0xc0 => Ok(Item::Plain(Value::Nil)),
            0xc2 | 0xc3 => Ok(Item::Plain(Value::Boolean(tag == 0xc3))),
            0xca => float(f64::from(f32::from_be_bytes(self.bytes()?))),
            0xcb => float(f64::from_be_bytes(self.bytes()?)),
            0xcc => integer(i64::from(u8::from_be_bytes(self.bytes()?))),
            0xcd => integer(i64::from(u16::from_be_bytes(self.bytes()?))),
            0xce => integer(i64::from(u32::from_be_bytes(self.bytes()?))),
            // The largest are negative: Lua's integers are signed.
            0xcf => integer(i64::from_be_bytes(self.bytes()?)),
            0xd0 => integer(i64::from(i8::from_be_bytes(self.bytes()?))),
            0xd1 => integer(i64::from(i16::from_be_bytes(self.bytes()?))),
            0xd2 => integer(i64::from(i32::from_be_bytes(self.bytes()?))),
            0xd3 => integer(i64::from_be_bytes(self.bytes()?)),
            0xd9 => {
                let [len] = self.bytes()?;
                self.text(usize::from(len))
            }
            0xda => {
                let len = self.length_16()?;
                self.text(len)
            }
            0xdb => {
                let len = self.length_32()?;
                self.text(len)
            }
            0xdc => Ok(Item::Array(self.length_16()?)),
            0xdd => Ok(Item::Array(self.length_32()?)),
            0xde => Ok(Item::Map(self.length_16()?)),
            0xdf => Ok(Item::Map(self.length_32()?)),
            0xe0..=0xff => integer(i64::from(tag as i8)),
            0xc1 | 0xc4..=0xc9 | 0xd4..=0xd8 => Err(Fault::BadFormat),
        }
    }

    fn length_16(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(u16::from_be_bytes(self.bytes()?)))
    }

    fn length_32(&mut self) -> Result<usize, Fault> {
        Ok(u32::from_be_bytes(self.bytes()?) as usize)
    }

    fn text(&mut self, len: usize) -> Result<Item<'a>, Fault> {
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Fault::Missing)?;
        self.rest = rest;
        Ok(Item::Text(text))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Fault::Missing)?;
        self.rest = rest;
        Ok(*bytes)
    }
}
