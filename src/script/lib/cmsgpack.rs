//! `cmsgpack`: values as MessagePack and back, as lua-cmsgpack 0.4.0 does it.
//!
//! A number is written as an integer in its shortest form if it is one, else as a float of 32 bits if that is exact, else of
//! 64. A table is an array if its keys are 1 to its size, without holes, else a map. Tables within [`MAX_NESTING`] others,
//! functions and the like are nil.
//!
//! What is read may nest until Lua's stack would have been full: a table takes slots there, and its errors tell which
//! function found none, so the slots are counted though nothing lies in them. A length that the input claims is only
//! counted down, never allocated.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::bounds::Steps;
use super::call::{Call, STACK_SLOTS, integer_of};
use super::raise;
use reader::{Fault, Item, Reader};

mod reader;

/// How deep tables are written.
const MAX_NESTING: usize = 16;

/// The table `cmsgpack`.
pub fn open(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    table.raw_set("unpack_one", lua.create_function(unpack_one)?)?;
    table.raw_set("unpack_limit", lua.create_function(unpack_limit)?)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    let copyright = "Copyright (C) 2012, Salvatore Sanfilippo";
    table.raw_set("_COPYRIGHT", copyright)?;
    let description = "MessagePack C implementation for Lua";
    table.raw_set("_DESCRIPTION", description)?;
    Ok(table)
}

/// All arguments, one after the other.
fn pack(lua: &Lua, values: MultiValue) -> Result<Value> {
    let call = Call::new(lua, values);
    match call.count() {
        0 => return Err(call.argument_error(0, "MessagePack pack needs input.")),
        count if count > STACK_SLOTS / 2 => {
            return Err(call.argument_error(0, "Too many arguments for MessagePack pack."));
        }
        _ => {}
    }
    let mut packer = Packer {
        out: Vec::new(),
        steps: Steps::new(lua),
    };
    for value in &call.values {
        packer.value(value, 0)?;
    }
    lua.create_string(packer.out).map(Value::String)
}

struct Packer<'a> {
    out: Vec<u8>,
    steps: Steps<'a>,
}

impl Packer<'_> {
    /// Appends a value that lies within `depth` tables. It calls itself for tables, to [`MAX_NESTING`].
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        self.steps.count(1)?;
        self.steps.check_size(self.out.len())?;
        match value {
            Value::Boolean(value) => self.out.push(0xc2 + u8::from(*value)),
            Value::Integer(value) => self.number(*value as f64),
            Value::Number(value) => self.number(*value),
            Value::String(text) => self.text(&text.as_bytes())?,
            Value::Table(table) if depth < MAX_NESTING => self.table(table, depth)?,
            _ => self.out.push(0xc0),
        }
        Ok(())
    }

    fn number(&mut self, value: f64) {
        // 2^63 becomes the smallest integer here, which it is not equal to.
        let integer = integer_of(value);
        if integer as f64 == value {
            return self.integer(integer);
        }
        let short = value as f32;
        if f64::from(short) == value {
            self.tagged(0xca, &short.to_be_bytes());
        } else {
            self.tagged(0xcb, &value.to_be_bytes());
        }
    }

    fn integer(&mut self, value: i64) {
        let all = value.to_be_bytes();
        match value {
            -32..=127 => self.out.push(all[7]),
            128..=0xff => self.tagged(0xcc, &all[7..]),
            0x100..=0xffff => self.tagged(0xcd, &all[6..]),
            0x1_0000..=0xffff_ffff => self.tagged(0xce, &all[4..]),
            0x1_0000_0000.. => self.tagged(0xcf, &all),
            -0x80..=-33 => self.tagged(0xd0, &all[7..]),
            -0x8000..=-0x81 => self.tagged(0xd1, &all[6..]),
            -0x8000_0000..=-0x8001 => self.tagged(0xd2, &all[4..]),
            _ => self.tagged(0xd3, &all),
        }
    }

    fn text(&mut self, text: &[u8]) -> Result<()> {
        self.steps.count(text.len() / BYTES_OF_A_STEP)?;
        self.steps
            .check_size(self.out.len().saturating_add(text.len()))?;
        match text.len() {
            len @ ..32 => self.out.push(0xa0 | len as u8),
            len @ ..0x100 => self.tagged(0xd9, &[len as u8]),
            len => self.long_length(len, 0xda),
        }
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<()> {
        if let Some(len) = self.sequence_len(table)? {
            self.aggregate_length(len, 0x90, 0xdc);
            for index in 1..=len {
                self.value(&table.raw_get(index)?, depth + 1)?;
            }
            return Ok(());
        }
        let mut len = 0;
        for pair in table.pairs::<Value, Value>() {
            pair?;
            self.steps.count(1)?;
            len += 1;
        }
        self.aggregate_length(len, 0x80, 0xde);
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.value(&key, depth + 1)?;
            self.value(&value, depth + 1)?;
        }
        Ok(())
    }

    /// The size of a table whose keys are 1 to that size.
    fn sequence_len(&mut self, table: &Table) -> Result<Option<usize>> {
        let (mut count, mut largest) = (0, 0);
        for pair in table.pairs::<Value, Value>() {
            self.steps.count(1)?;
            match pair?.0 {
                Value::Integer(key @ 1..=0x7fff_ffff) => largest = largest.max(key as usize),
                _ => return Ok(None),
            }
            count += 1;
        }
        Ok((count == largest).then_some(count))
    }

    /// The length of an array or a map: within the first byte if it is small.
    fn aggregate_length(&mut self, len: usize, small: u8, long: u8) {
        match len {
            ..16 => self.out.push(small | len as u8),
            _ => self.long_length(len, long),
        }
    }

    /// A length of 16 bits after its tag, or of 32 after the next one.
    fn long_length(&mut self, len: usize, tag: u8) {
        match u16::try_from(len) {
            Ok(len) => self.tagged(tag, &len.to_be_bytes()),
            Err(_) => self.tagged(tag + 1, &(len as u32).to_be_bytes()),
        }
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.out.push(tag);
        self.out.extend_from_slice(bytes);
    }
}

/// So many bytes are copied in a step.
const BYTES_OF_A_STEP: usize = 64;

/// unpack(input): all values.
fn unpack(lua: &Lua, values: MultiValue) -> Result<MultiValue> {
    let slots = values.len();
    unpack_some(&Call::new(lua, values), 0, 0, slots)
}

/// unpack_one(input, offset): where the next value is, or -1, and this one.
fn unpack_one(lua: &Lua, values: MultiValue) -> Result<MultiValue> {
    let call = Call::new(lua, values);
    let offset = call.integer_or(2, 0)?;
    unpack_some(&call, 1, offset, 1)
}

/// unpack_limit(input, limit, offset): where the next value is, or -1, and at most so many values.
fn unpack_limit(lua: &Lua, values: MultiValue) -> Result<MultiValue> {
    let call = Call::new(lua, values);
    let limit = call.integer(2)?;
    let offset = call.integer_or(3, 0)?;
    unpack_some(&call, limit, offset, 1)
}

/// The values from `offset` on, at most `limit`, and before them where the next one is. With both 0, all values, alone.
/// `slots` is what the arguments take of Lua's stack.
fn unpack_some(call: &Call<'_>, limit: i64, offset: i64, slots: usize) -> Result<MultiValue> {
    let input = call.string(1)?;
    let input = input.as_bytes();
    // As C cuts them: the message has the length where it names the limit.
    let (shown_offset, shown_len) = (offset as i32, input.len() as i32);
    if offset < 0 || limit < 0 {
        return Err(call.error(format!(
            "Invalid request to unpack with offset of {shown_offset} and limit of {shown_len}."
        )));
    }
    let Some(rest) = input.get(offset as usize..) else {
        return Err(call.error(format!(
            "Start offset {shown_offset} greater than input length {shown_len}."
        )));
    };
    let is_all = limit == 0 && offset == 0;
    let limit = if is_all { i64::MAX } else { limit };
    let mut unpacker = Unpacker {
        call,
        reader: Reader::new(rest),
        steps: Steps::new(call.lua),
        open: Vec::new(),
        slots,
    };
    let mut results = MultiValue::new();
    while !unpacker.reader.is_at_end() && (results.len() as i64) < limit {
        results.push_back(unpacker.value()?);
        unpacker.slots += 1;
    }
    if !is_all {
        unpacker.need_slot("in function mp_unpack_full")?;
        let next = match unpacker.reader.left() {
            0 => -1,
            left => (input.len() - left) as i64,
        };
        results.push_front(Value::Integer(next));
    }
    Ok(results)
}

struct Unpacker<'a> {
    call: &'a Call<'a>,
    reader: Reader<'a>,
    steps: Steps<'a>,
    /// The tables around the next value, the innermost last.
    open: Vec<Open>,
    /// What Lua's stack would hold.
    slots: usize,
}

/// A table that is being filled.
struct Open {
    table: Table,
    /// Values to come.
    left: usize,
    next: Next,
}

/// What the next value of a table is.
enum Next {
    Element(i64),
    Key,
    Value(Value),
}

impl Unpacker<'_> {
    /// The next value, with all that is in it.
    fn value(&mut self) -> Result<Value> {
        loop {
            self.need_slot(TOO_MANY_VALUES)?;
            let item = self.reader.item().map_err(|fault| {
                self.call.error(match fault {
                    Fault::Missing => "Missing bytes in input.",
                    Fault::BadFormat => "Bad data format in input.",
                })
            })?;
            self.steps.count(1)?;
            let (len, next) = match item {
                Item::Array(len) => (len, Next::Element(1)),
                Item::Map(len) => (len, Next::Key),
                Item::Text(text) => {
                    self.steps.count(text.len() / BYTES_OF_A_STEP)?;
                    let text = self.call.lua.create_string(text);
                    let text = self.call.held(text, TOO_MANY_VALUES)?;
                    match self.close(Value::String(text))? {
                        Some(value) => return Ok(value),
                        None => continue,
                    }
                }
                Item::Plain(value) => match self.close(value)? {
                    Some(value) => return Ok(value),
                    None => continue,
                },
            };
            if let Some(value) = self.begin(len, next)? {
                return Ok(value);
            }
        }
    }

    /// Begins a table. Returns the whole value if that is complete already.
    fn begin(&mut self, len: usize, next: Next) -> Result<Option<Value>> {
        let table = self.call.lua.create_table();
        let table = self.call.held(table, TOO_MANY_VALUES)?;
        if let Next::Element(_) = next {
            self.slots += 1;
            let checked = self.need_slot("in function mp_decode_to_lua_array");
            self.slots -= 1;
            checked?;
        }
        if len == 0 {
            return self.close(Value::Table(table));
        }
        // The table, and the index of an element.
        self.slots += 1 + usize::from(matches!(next, Next::Element(_)));
        let left = len;
        self.open.push(Open { table, left, next });
        Ok(None)
    }

    /// Puts a complete value where it belongs, and so the tables that it completes. Returns the outermost, if that is
    /// complete.
    fn close(&mut self, mut value: Value) -> Result<Option<Value>> {
        loop {
            let Some(open) = self.open.last_mut() else {
                return Ok(Some(value));
            };
            match std::mem::replace(&mut open.next, Next::Key) {
                Next::Element(index) => {
                    open.table.raw_set(index, value)?;
                    open.next = Next::Element(index + 1);
                }
                Next::Key => {
                    open.next = Next::Value(value);
                    self.slots += 1;
                    return Ok(None);
                }
                Next::Value(key) => {
                    set(&open.table, key, value)?;
                    self.slots -= 1;
                }
            }
            open.left -= 1;
            if open.left > 0 {
                return Ok(None);
            }
            let Some(closed) = self.open.pop() else {
                return Ok(None);
            };
            self.slots -= 1 + usize::from(matches!(closed.next, Next::Element(_)));
            value = Value::Table(closed.table);
        }
    }

    /// Makes sure that Lua's stack would have had room for another value.
    fn need_slot(&self, what_for: &str) -> Result<()> {
        match self.slots < STACK_SLOTS {
            true => Ok(()),
            false => Err(self.call.stack_overflow(what_for)),
        }
    }
}

const TOO_MANY_VALUES: &str =
    "too many return values at once; use unpack_one or unpack_limit instead.";

fn set(table: &Table, key: Value, value: Value) -> Result<()> {
    match key {
        Value::Nil => Err(raise::bare("table index is nil")),
        Value::Number(key) if key.is_nan() => Err(raise::bare("table index is NaN")),
        key => table.raw_set(key, value),
    }
}

#[cfg(test)]
mod tests;
