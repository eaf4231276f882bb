//! Replies of commands as Lua values.
//!
//! The bytes are our own, but nothing here trusts them: a length is believed as far as there are bytes, and nesting is
//! bounded. Integers are numbers, bulks strings, nulls of RESP2 false, arrays tables; `{ok=}`, `{err=}`, and of RESP3
//! `{map=}`, `{set=}`, `{double=}`, `{big_number=}`, `{verbatim_string=}`, booleans and nil.

use std::cell::Cell;

use mlua::{Either, IntoLua, Lua, Value};

use super::raise::ErrorReply;
use crate::data::number::{parse_f64, parse_i64};

/// Aggregates within aggregates. No command nests as deep.
const MAX_DEPTH: usize = 64;

/// What a reply may take in Lua for each of its elements: a table with one field.
const ELEMENT_BYTES: usize = 160;

/// An upper bound of the memory that a reply takes as Lua values.
pub fn lua_bytes(reply: &[u8]) -> usize {
    let elements = match reply.first() {
        // The payload is not looked through.
        Some(b'$' | b'+' | b':') => 1,
        _ => memchr::memchr_iter(b'\r', reply).count(),
    };
    reply.len() + elements * ELEMENT_BYTES
}

/// The value of a complete reply.
pub fn to_lua(lua: &Lua, reply: &[u8]) -> mlua::Result<Value> {
    Reader {
        rest: Cell::new(reply),
        depth: Cell::new(0),
    }
    .read(lua)
}

/// A table with one field.
pub fn field(lua: &Lua, name: &str, value: impl IntoLua) -> mlua::Result<Value> {
    Ok(Value::Table(lua.create_table_from([(name, value)])?))
}

/// The table that stands for an error.
pub fn error_table(lua: &Lua, error: &ErrorReply) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("err", text_value(&error.text))?;
    if error.is_counted {
        table.raw_set("ignore_error_stats_update", true)?;
    }
    Ok(Value::Table(table))
}

/// Bytes as a Lua string.
struct Text<'a>(&'a [u8]);

impl IntoLua for Text<'_> {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        Ok(Value::String(lua.create_string(self.0)?))
    }
}

/// A string for Lua: valid UTF-8, as most are, goes to Lua's stack without a reference.
pub fn text_value(bytes: &[u8]) -> impl IntoLua + '_ {
    match str::from_utf8(bytes) {
        Ok(text) => Either::Left(text),
        Err(_) => Either::Right(Text(bytes)),
    }
}

/// What is still to be read. Elements of an array are read while mlua fills the table, hence the cells.
struct Reader<'a> {
    rest: Cell<&'a [u8]>,
    depth: Cell<usize>,
}

/// The next element of a reader.
struct Element<'a, 'r>(&'r Reader<'a>);

impl IntoLua for Element<'_, '_> {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        self.0.read(lua)
    }
}

impl<'a> Reader<'a> {
    fn read(&self, lua: &Lua) -> mlua::Result<Value> {
        let (kind, line) = self.line()?;
        Ok(match kind {
            b':' => number(parse_i64(line).ok_or_else(malformed)?),
            b'$' => match self.payload(line)? {
                Some(bytes) => Value::String(lua.create_string(bytes)?),
                None => Value::Boolean(false),
            },
            b'*' | b'>' if line == b"-1" => Value::Boolean(false),
            b'*' | b'>' => self.array(lua, line)?,
            b'+' => field(lua, "ok", text_value(line))?,
            b'-' => error_table(lua, &ErrorReply::from_line(line, true))?,
            b'_' => Value::Nil,
            b'#' => Value::Boolean(line == b"t"),
            b',' => field(lua, "double", double(line)?)?,
            b'(' => field(lua, "big_number", text_value(line))?,
            b'=' => self.verbatim(lua, line)?,
            b'%' => self.map(lua, line)?,
            b'~' => self.set(lua, line)?,
            b'|' => self.nested(|| {
                for _ in 0..self.count(line)? * 2 {
                    self.read(lua)?;
                }
                self.read(lua)
            })?,
            _ => return Err(malformed()),
        })
    }

    /// The type of the next element, and its line without line end.
    fn line(&self) -> mlua::Result<(u8, &'a [u8])> {
        let rest = self.rest.get();
        let end = memchr::memchr(b'\r', rest).ok_or_else(malformed)?;
        self.rest.set(rest.get(end + 2..).ok_or_else(malformed)?);
        let (kind, line) = rest[..end].split_first().ok_or_else(malformed)?;
        Ok((*kind, line))
    }

    /// The bytes that a length announces; none for a null.
    fn payload(&self, length: &[u8]) -> mlua::Result<Option<&'a [u8]>> {
        if length == b"-1" {
            return Ok(None);
        }
        let rest = self.rest.get();
        let length = parse_i64(length).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= rest.len());
        let (bytes, rest) = rest.split_at(length.ok_or_else(malformed)?);
        self.rest.set(rest.get(2..).ok_or_else(malformed)?);
        Ok(Some(bytes))
    }

    /// A number of elements, of which each takes three bytes.
    fn count(&self, line: &[u8]) -> mlua::Result<usize> {
        let count = parse_i64(line).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| *count <= self.rest.get().len() / 3);
        count.ok_or_else(malformed)
    }

    /// Reads elements within an element.
    fn nested<T>(&self, read: impl FnOnce() -> mlua::Result<T>) -> mlua::Result<T> {
        if self.depth.get() == MAX_DEPTH {
            return Err(malformed());
        }
        self.depth.set(self.depth.get() + 1);
        let read = read();
        self.depth.set(self.depth.get() - 1);
        read
    }

    fn array(&self, lua: &Lua, line: &[u8]) -> mlua::Result<Value> {
        let count = self.count(line)?;
        self.nested(|| {
            let elements = (0..count).map(|_| self.element());
            Ok(Value::Table(lua.create_sequence_from(elements)?))
        })
    }

    /// The next element of an array: text is taken here, all else when it is converted.
    fn element(&self) -> Either<&'a str, Element<'a, '_>> {
        let before = self.rest.get();
        if before.first() == Some(&b'$')
            && let Ok((_, line)) = self.line()
            && let Ok(Some(bytes)) = self.payload(line)
            && let Ok(text) = str::from_utf8(bytes)
        {
            return Either::Left(text);
        }
        self.rest.set(before);
        Either::Right(Element(self))
    }

    fn map(&self, lua: &Lua, line: &[u8]) -> mlua::Result<Value> {
        let count = self.count(line)?;
        self.nested(|| {
            let map = lua.create_table_with_capacity(0, count)?;
            for _ in 0..count {
                let key = self.read(lua)?;
                map.raw_set(key, self.read(lua)?)?;
            }
            field(lua, "map", map)
        })
    }

    fn set(&self, lua: &Lua, line: &[u8]) -> mlua::Result<Value> {
        let count = self.count(line)?;
        self.nested(|| {
            let set = lua.create_table_with_capacity(0, count)?;
            for _ in 0..count {
                set.raw_set(self.read(lua)?, true)?;
            }
            field(lua, "set", set)
        })
    }

    fn verbatim(&self, lua: &Lua, length: &[u8]) -> mlua::Result<Value> {
        let bytes = self.payload(length)?.ok_or_else(malformed)?;
        let (format, text) = match bytes {
            [format @ .., b':'] if format.len() == 3 => (format, b"".as_slice()),
            [a, b, c, b':', text @ ..] => (&[*a, *b, *c][..], text),
            _ => return Err(malformed()),
        };
        let verbatim = lua.create_table_with_capacity(0, 2)?;
        verbatim.raw_set("string", text_value(text))?;
        verbatim.raw_set("format", text_value(format))?;
        field(lua, "verbatim_string", verbatim)
    }
}

/// An integer as Lua has it: a double.
fn number(value: i64) -> Value {
    Value::Number(value as f64)
}

fn double(text: &[u8]) -> mlua::Result<f64> {
    match text {
        b"nan" | b"-nan" => Ok(f64::NAN),
        text => parse_f64(text).ok_or_else(malformed),
    }
}

/// A reply that is none: our own mistake, which ends the script but not the server.
fn malformed() -> mlua::Error {
    ErrorReply::of("the reply of a command could not be read").into()
}
