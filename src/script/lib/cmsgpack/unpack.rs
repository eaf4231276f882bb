//! cmsgpack.unpack, unpack_one, unpack_limit.
//!
//! A list of open arrays and maps instead of recursion. The original keeps all that is not finished, and all results, on
//! Lua's stack, and refuses what does not fit there.

use mlua::{Error, MultiValue, Result, Table, Value};

use super::super::bounds::Steps;
use super::super::call::Call;
use super::super::raise;

/// The slots of its stack that Lua lets a C function have.
const STACK_SLOTS: usize = 8000;

const TOO_MANY: &str = "too many return values at once; use unpack_one or unpack_limit instead.";

/// All values of a text.
pub(super) fn unpack(call: &Call<'_>) -> Result<MultiValue> {
    unpack_some(call, 0, 0, call.count())
}

/// The value at an offset, behind the offset of the next.
pub(super) fn unpack_one(call: &Call<'_>) -> Result<MultiValue> {
    let offset = call.integer_or(2, 0)?;
    unpack_some(call, 1, offset, 1)
}

/// So many values at most from an offset on, behind the offset of the next.
pub(super) fn unpack_limit(call: &Call<'_>) -> Result<MultiValue> {
    let limit = call.integer(2)?;
    let offset = call.integer_or(3, 0)?;
    unpack_some(call, limit, offset, 1)
}

/// No limit and no offset mean all values. `slots` are in use on the original's stack.
fn unpack_some(call: &Call<'_>, limit: i64, offset: i64, slots: usize) -> Result<MultiValue> {
    let text = call.string(1)?;
    let text = text.as_bytes();
    if offset < 0 || limit < 0 {
        // The length stands where the limit should.
        return Err(call.error(format!(
            "Invalid request to unpack with offset of {} and limit of {}.",
            offset as i32,
            text.len()
        )));
    }
    let Some(rest) = usize::try_from(offset)
        .ok()
        .and_then(|offset| text.get(offset..))
    else {
        return Err(call.error(format!(
            "Start offset {} greater than input length {}.",
            offset as i32,
            text.len()
        )));
    };
    let takes_all = limit == 0 && offset == 0;
    let mut unpacker = Unpacker {
        call,
        steps: Steps::new(call.lua),
        rest,
        levels: Vec::new(),
        slots,
    };
    let mut values = Vec::new();
    while !unpacker.rest.is_empty() && (takes_all || (values.len() as i64) < limit) {
        let value = unpacker.value();
        values.push(value.map_err(|fault| fault.raise(call))?);
    }
    if takes_all {
        return Ok(MultiValue::from_vec(values));
    }
    if unpacker.slots + 1 > STACK_SLOTS {
        return Err(overflow(call, "in function mp_unpack_full"));
    }
    let next = match unpacker.rest.len() {
        0 => -1,
        left => (text.len() - left) as i64,
    };
    let mut all = MultiValue::from_vec(values);
    all.push_front(Value::Integer(next));
    Ok(all)
}

fn overflow(call: &Call<'_>, reason: &str) -> Error {
    call.error(format!("stack overflow ({reason})"))
}

/// Why a text cannot be unpacked.
enum Fault {
    /// It ends within a value.
    Missing,
    /// A byte that begins no value.
    Bad,
    /// Too deep, or too many values.
    Overflow(&'static str),
    Other(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::StackError => Fault::Overflow(TOO_MANY),
            other => Fault::Other(other),
        }
    }
}

impl Fault {
    fn raise(self, call: &Call<'_>) -> Error {
        match self {
            Fault::Missing => call.error("Missing bytes in input."),
            Fault::Bad => call.error("Bad data format in input."),
            Fault::Overflow(reason) => overflow(call, reason),
            Fault::Other(error) => error,
        }
    }
}

type Found<T> = std::result::Result<T, Fault>;

struct Unpacker<'a> {
    call: &'a Call<'a>,
    steps: Steps<'a>,
    rest: &'a [u8],
    /// The arrays and maps that wait for values, outermost first.
    levels: Vec<Level>,
    /// The slots of its stack that the original would have in use.
    slots: usize,
}

/// An array or a map.
struct Level {
    table: Table,
    /// The values of it that are still to come: two for each pair.
    left: u64,
    kind: Kind,
}

enum Kind {
    /// With the index of the next item.
    Array(usize),
    /// With the key that waits for its value.
    Map(Option<Value>),
}

/// A value, or how many values an array or a map begins with.
enum Begun {
    Value(Value),
    Array(u64),
    Map(u64),
}

impl Unpacker<'_> {
    /// The next value with all that is in it.
    fn value(&mut self) -> Found<Value> {
        loop {
            let mut complete = match self.begin()? {
                Begun::Value(value) => {
                    self.slots += 1;
                    Some(value)
                }
                Begun::Array(len) => {
                    self.open(len, Kind::Array(1))?;
                    // There must be a slot for an index, even if there is no item.
                    self.check_slot("in function mp_decode_to_lua_array")?;
                    self.slots += usize::from(len > 0);
                    None
                }
                Begun::Map(len) => {
                    self.open(2 * len, Kind::Map(None))?;
                    None
                }
            };
            while let Some(value) = complete.take().or_else(|| self.close()) {
                match self.levels.last_mut() {
                    Some(level) => {
                        level.put(value, &mut self.slots)?;
                    }
                    None => return Ok(value),
                }
            }
        }
    }

    fn open(&mut self, left: u64, kind: Kind) -> Found<()> {
        let table = self.call.lua.create_table()?;
        self.slots += 1;
        self.levels.push(Level { table, left, kind });
        Ok(())
    }

    /// The innermost array or map, if it has all its values.
    fn close(&mut self) -> Option<Value> {
        let level = self.levels.pop_if(|level| level.left == 0)?;
        Some(Value::Table(level.table))
    }

    fn check_slot(&self, reason: &'static str) -> Found<()> {
        match self.slots + 1 > STACK_SLOTS {
            true => Err(Fault::Overflow(reason)),
            false => Ok(()),
        }
    }

    fn begin(&mut self) -> Found<Begun> {
        let Some((kind, _)) = self.rest.split_first() else {
            return Err(Fault::Missing);
        };
        let kind = *kind;
        self.check_slot(TOO_MANY)?;
        self.steps.count(1)?;
        Ok(match kind {
            0..=0x7f => self.fixed(1, Value::Integer(i64::from(kind)))?,
            0x80..=0x8f => Begun::Map(self.short_len(kind & 15)),
            0x90..=0x9f => Begun::Array(self.short_len(kind & 15)),
            0xa0..=0xbf => self.string(1, u64::from(kind & 31))?,
            0xc0 => self.fixed(1, Value::Nil)?,
            0xc2 | 0xc3 => self.fixed(1, Value::Boolean(kind == 0xc3))?,
            0xca => {
                let bits = self.number(4)? as u32;
                self.fixed(5, Value::Number(f64::from(f32::from_bits(bits))))?
            }
            0xcb => {
                let bits = self.number(8)?;
                self.fixed(9, Value::Number(f64::from_bits(bits)))?
            }
            0xcc..=0xcf => {
                let len = 1 << (kind - 0xcc);
                // The largest turn negative: they go through a signed integer.
                let value = self.number(len)? as i64;
                self.fixed(1 + len, Value::Integer(value))?
            }
            0xd0..=0xd3 => {
                let len = 1 << (kind - 0xd0);
                let unused = 64 - 8 * len as u32;
                let value = ((self.number(len)? << unused) as i64) >> unused;
                self.fixed(1 + len, Value::Integer(value))?
            }
            0xd9..=0xdb => {
                let len = 1 << (kind - 0xd9);
                let bytes = self.number(len)?;
                self.string(1 + len, bytes)?
            }
            0xdc | 0xdd => Begun::Array(self.long_len(kind - 0xdc)?),
            0xde | 0xdf => Begun::Map(self.long_len(kind - 0xde)?),
            0xe0..=0xff => self.fixed(1, Value::Integer(i64::from(kind as i8)))?,
            _ => return Err(Fault::Bad),
        })
    }

    /// The unsigned number of so many bytes behind the type.
    fn number(&self, len: usize) -> Found<u64> {
        let bytes = self.rest.get(1..1 + len).ok_or(Fault::Missing)?;
        let value = bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok(value)
    }

    /// A value that takes so many bytes, which are there.
    fn fixed(&mut self, len: usize, value: Value) -> Found<Begun> {
        self.rest = self.rest.get(len..).ok_or(Fault::Missing)?;
        Ok(Begun::Value(value))
    }

    /// A string behind a head of so many bytes.
    fn string(&mut self, head: usize, bytes: u64) -> Found<Begun> {
        let bytes = usize::try_from(bytes).map_err(|_| Fault::Missing)?;
        let text = self.rest[head..].get(..bytes).ok_or(Fault::Missing)?;
        self.steps.count(bytes / 64)?;
        let value = Value::String(self.call.lua.create_string(text)?);
        self.fixed(head + bytes, value)
    }

    fn short_len(&mut self, len: u8) -> u64 {
        self.rest = &self.rest[1..];
        u64::from(len)
    }

    /// A length of two bytes, or of four.
    fn long_len(&mut self, size: u8) -> Found<u64> {
        let bytes = 2 << size;
        let len = self.number(bytes)?;
        self.rest = &self.rest[1 + bytes..];
        Ok(len)
    }
}

impl Level {
    /// Takes the next value.
    fn put(&mut self, value: Value, slots: &mut usize) -> Found<()> {
        self.left -= 1;
        match &mut self.kind {
            Kind::Array(index) => {
                self.table.raw_set(*index, value)?;
                *index += 1;
                // The slots of the index and the value; then that of the next index.
                *slots -= 2;
                *slots += usize::from(self.left > 0);
            }
            Kind::Map(waiting) => match waiting.take() {
                None => *waiting = Some(value),
                Some(key) => {
                    check_key(&key)?;
                    self.table.raw_set(key, value)?;
                    *slots -= 2;
                }
            },
        }
        Ok(())
    }
}

/// Refuses what Lua takes for no key.
fn check_key(key: &Value) -> Found<()> {
    match key {
        Value::Nil => Err(Fault::Other(raise::bare("table index is nil"))),
        Value::Number(key) if key.is_nan() => Err(Fault::Other(raise::bare("table index is NaN"))),
        _ => Ok(()),
    }
}
