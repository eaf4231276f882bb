//! A large value in parts: bytes that are cut anywhere, and put together again.
//!
//! ```text
//!     string   its bytes
//!     list     length u32, text | ...                            from the head on
//!     set      length u32, text | ...
//!     zset     score f64, length u32, text | ...                 from the lowest on
//!     hash     expiry i64, length u32, text, length u32, text | ...   no expiry: the smallest number
//!     stream   its DUMP payload
//! ```
//!
//! Numbers are little endian. A [`Cutter`] reads a value that nobody changes meanwhile (a copy that shares its pieces with the
//! key's) and never holds more than one element and one part beside it; an [`Assembler`] holds the value that comes to be and the
//! last element as far as it has come. Only a stream is written as a whole and read as a whole: it is cut as a DUMP payload.
//!
//! What is put together may come from anybody: lengths allocate nothing before as many bytes have come, and members that come
//! twice, scores that are no numbers and bytes that are left over are refused.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::dump::{self, Dumped, Rules};
use super::hash::Hash;
use super::list::{self, End, List};
use super::packed::Item;
use super::set::{self, Set};
use super::value::{Type, Value, ValueRef};
use super::zset::{self, AddRules, Added, ZSet};
use crate::base::clock::Millis;
use crate::base::hash::KeyHasher;

/// Of a field without an expiry.
const NO_EXPIRY: i64 = i64::MIN;

/// A value that is to be cut: nothing changes it.
#[derive(Debug)]
pub enum Whole {
    /// A string.
    Text(Bytes),
    /// Any other.
    Collection(Value),
}

impl Whole {
    /// Its type.
    pub fn kind(&self) -> Type {
        match self {
            Whole::Text(_) => Type::String,
            Whole::Collection(value) => value.kind(),
        }
    }

    /// Its bytes if it is a string, else its elements.
    pub fn len(&self) -> usize {
        match self {
            Whole::Text(text) => text.len(),
            Whole::Collection(value) => value.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins to cut it. The fields of a hash that expired by `now` are left out.
    pub fn cut<'a>(&'a self, now: Millis, hasher: &'a KeyHasher) -> Cutter<'a> {
        let rest = match self {
            Whole::Text(text) => Rest::Bytes(text.clone()),
            Whole::Collection(value) => match value.view() {
                ValueRef::String(text) => Rest::Bytes(Bytes::copy_from_slice(text)),
                ValueRef::List(list) => Rest::List(list.range(0..usize::MAX)),
                ValueRef::Set(set) => Rest::Set(set.iter()),
                ValueRef::ZSet(zset) => Rest::ZSet(zset.range(0..usize::MAX)),
                ValueRef::Hash(hash) => {
                    let is_live = move |at: Option<Millis>| at.is_none_or(|at| at >= now);
                    let fields = hash.entries(hasher).filter(move |(_, _, at)| is_live(*at));
                    Rest::Hash(Box::new(fields))
                }
                ValueRef::Stream(_) => Rest::Bytes(dump::write(value.view(), now, hasher).into()),
            },
        };
        Cutter {
            rest,
            ready: BytesMut::new(),
        }
    }
}

/// Cuts a value.
pub struct Cutter<'a> {
    rest: Rest<'a>,
    /// What was written and not handed out yet.
    ready: BytesMut,
}

type Fields<'a> = Box<dyn Iterator<Item = (Item<'a>, Item<'a>, Option<Millis>)> + Send + 'a>;

enum Rest<'a> {
    Bytes(Bytes),
    List(list::Iter<'a>),
    Set(set::Members<'a>),
    ZSet(zset::Iter<'a>),
    Hash(Fields<'a>),
}

impl Cutter<'_> {
    /// The next part, of `limit` bytes unless it is the last; empty after that.
    pub fn next(&mut self, limit: usize) -> Bytes {
        if let Rest::Bytes(bytes) = &mut self.rest {
            return bytes.split_to(limit.min(bytes.len()));
        }
        while self.ready.len() < limit && self.write_one() {}
        self.ready.split_to(limit.min(self.ready.len())).freeze()
    }

    fn write_one(&mut self) -> bool {
        let text = &mut itoa::Buffer::new();
        let ready = &mut self.ready;
        match &mut self.rest {
            Rest::Bytes(_) => return false,
            Rest::List(elements) => match elements.next() {
                Some(element) => write_text(element.text(text), ready),
                None => return false,
            },
            Rest::Set(members) => match members.next() {
                Some(member) => write_text(member.text(text), ready),
                None => return false,
            },
            Rest::ZSet(members) => match members.next() {
                Some((member, score)) => {
                    ready.put_f64_le(score);
                    write_text(member.text(text), ready);
                }
                None => return false,
            },
            Rest::Hash(fields) => match fields.next() {
                Some((field, value, expiry)) => {
                    ready.put_i64_le(expiry.map_or(NO_EXPIRY, |expiry| expiry.0));
                    write_text(field.text(text), ready);
                    write_text(value.text(text), ready);
                }
                None => return false,
            },
        }
        true
    }
}

fn write_text(text: &[u8], ready: &mut BytesMut) {
    ready.put_u32_le(text.len() as u32);
    ready.put_slice(text);
}

/// The parts are not those of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Puts a value together.
pub struct Assembler {
    form: Form,
    /// An element that has not come to its end, and of a string or a stream all that has come.
    rest: Vec<u8>,
    limit: usize,
}

enum Form {
    String,
    Stream,
    List(List),
    Set(Option<Set>, usize),
    ZSet(ZSet),
    Hash(Hash),
}

/// How many times longer than a text a stream's payload may be.
const STREAM_FACTOR: usize = 8;
/// Of expected elements, as many as room is made for at once.
const MOST_EXPECTED: usize = 1 << 20;

impl Assembler {
    /// For a value of this type with so many elements, or bytes of a string; `limit` is how long a text may be.
    pub fn new(kind: Type, expected: usize, limit: usize, rules: &Rules<'_>) -> Assembler {
        let expected = expected.min(MOST_EXPECTED);
        let form = match kind {
            Type::String => Form::String,
            Type::Stream => Form::Stream,
            Type::List => Form::List(List::new()),
            Type::Set => Form::Set(None, expected),
            // Large, even if it is not: in a small one -0 becomes 0.
            Type::ZSet => {
                let large = rules.zset.entries.saturating_add(1);
                Form::ZSet(ZSet::expecting(expected.max(large), rules.zset))
            }
            Type::Hash => {
                let mut hash = Hash::new();
                hash.expect_more(expected, &rules.hash, rules.hasher);
                Form::Hash(hash)
            }
        };
        Assembler {
            form,
            rest: Vec::new(),
            limit,
        }
    }

    /// Adds a part.
    pub fn add(&mut self, part: &[u8], rules: &Rules<'_>) -> Result<(), Malformed> {
        let most = match self.form {
            Form::String => self.limit,
            Form::Stream => self.limit.saturating_mul(STREAM_FACTOR),
            // A field, its value, and what stands before them, but for the last byte.
            _ => self.limit.saturating_mul(2).saturating_add(16),
        };
        if matches!(self.form, Form::String | Form::Stream) {
            self.rest.extend_from_slice(part);
            return match self.rest.len() <= most {
                true => Ok(()),
                false => Err(Malformed),
            };
        }
        // Nearly always what was left is a few bytes, and the part begins behind them.
        let mut held = std::mem::take(&mut self.rest);
        held.extend_from_slice(part);
        let mut left = &held[..];
        while let Some(after) = self.take_one(left, rules)? {
            left = after;
        }
        let done = held.len() - left.len();
        held.drain(..done);
        self.rest = held;
        match self.rest.len() <= most {
            true => Ok(()),
            false => Err(Malformed),
        }
    }

    /// Takes an element from the front. `None`: it has not come to its end.
    fn take_one<'b>(
        &mut self,
        bytes: &'b [u8],
        rules: &Rules<'_>,
    ) -> Result<Option<&'b [u8]>, Malformed> {
        let mut bytes = bytes;
        match &mut self.form {
            Form::String | Form::Stream => return Ok(None),
            Form::List(list) => {
                let Some(text) = read_text(&mut bytes) else {
                    return Ok(None);
                };
                list.push(End::Tail, list::Text::Copy(text), rules.list);
            }
            Form::Set(set, expected) => {
                let Some(text) = read_text(&mut bytes) else {
                    return Ok(None);
                };
                let member = Item::new(text);
                let set = set.get_or_insert_with(|| Set::expecting(member, *expected, &rules.set));
                if !set.add(member, &rules.set, rules.hasher) {
                    return Err(Malformed);
                }
            }
            Form::ZSet(zset) => {
                if bytes.len() < 8 {
                    return Ok(None);
                }
                let score = bytes.get_f64_le();
                let Some(text) = read_text(&mut bytes) else {
                    return Ok(None);
                };
                let added = zset.add(text, score, AddRules::default(), rules.zset);
                if !matches!(added, Added::Inserted(_)) {
                    return Err(Malformed);
                }
            }
            Form::Hash(hash) => {
                if bytes.len() < 8 {
                    return Ok(None);
                }
                let expiry = match bytes.get_i64_le() {
                    NO_EXPIRY => None,
                    at => Some(Millis(at)),
                };
                let (Some(field), Some(value)) = (read_text(&mut bytes), read_text(&mut bytes))
                else {
                    return Ok(None);
                };
                let clear = crate::data::hash::Expiry::Clear;
                if !hash.set(field, value, clear, &rules.hash, rules.hasher) {
                    return Err(Malformed);
                }
                if expiry.is_some() {
                    hash.set_expiry(field, expiry, rules.hasher);
                }
            }
        }
        Ok(Some(bytes))
    }

    /// The value. A collection of nothing is none.
    pub fn finish(self, rules: &Rules<'_>) -> Result<Dumped, Malformed> {
        let is_whole = self.rest.is_empty();
        let collection = match self.form {
            Form::String => return Ok(Dumped::String(self.rest)),
            Form::Stream => {
                let read = dump::read(&self.rest, rules).map_err(|_| Malformed)?;
                return match read {
                    Dumped::Collection(Value::Stream(_)) => Ok(read),
                    _ => Err(Malformed),
                };
            }
            Form::List(list) => Value::List(list),
            Form::Set(set, _) => Value::Set(set.unwrap_or_default()),
            Form::ZSet(mut zset) => {
                zset.settle(rules.zset);
                Value::ZSet(zset)
            }
            Form::Hash(hash) => Value::Hash(hash),
        };
        if !is_whole || collection.is_empty() {
            return Err(Malformed);
        }
        Ok(Dumped::Collection(collection))
    }
}

fn read_text<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(text)
}

#[cfg(test)]
mod tests;
