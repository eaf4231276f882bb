//! cmsgpack.pack. Recursion is bounded: tables deeper than 16 are nil.

use mlua::{Error, Result, Table, Value};

use super::super::bounds::Steps;
use super::super::call::Call;

/// Tables within so many others are written as nil.
const MAX_NESTING: usize = 16;

/// The slots of its stack that Lua lets a C function have: arguments stand there twice.
const STACK_SLOTS: usize = 8000;

/// The function `pack`: the forms of all arguments, one after the other.
pub(super) fn pack(call: &Call<'_>) -> Result<Value> {
    match call.count() {
        0 => return Err(call.argument_error(0, "MessagePack pack needs input.")),
        count if 2 * count > STACK_SLOTS => {
            return Err(call.argument_error(0, "Too many arguments for MessagePack pack."));
        }
        _ => {}
    }
    let mut packer = Packer {
        call,
        steps: Steps::new(call.lua),
        result: Vec::new(),
    };
    for value in &call.values {
        packer.write(value, 0)?;
    }
    call.lua.create_string(&packer.result).map(Value::String)
}

struct Packer<'a> {
    call: &'a Call<'a>,
    steps: Steps<'a>,
    result: Vec<u8>,
}

impl Packer<'_> {
    fn write(&mut self, value: &Value, level: usize) -> Result<()> {
        self.steps.count(1)?;
        self.steps.check_size(self.result.len() + 16)?;
        match value {
            Value::String(text) => self.write_string(&text.as_bytes())?,
            Value::Boolean(value) => self.result.push(if *value { 0xc3 } else { 0xc2 }),
            Value::Integer(value) => self.write_integer(*value),
            Value::Number(value) => self.write_number(*value),
            Value::Table(table) if level < MAX_NESTING => self.write_table(table, level)?,
            _ => self.result.push(0xc0),
        }
        Ok(())
    }

    fn write_string(&mut self, text: &[u8]) -> Result<()> {
        self.steps.count(text.len() / 64)?;
        self.steps.check_size(self.result.len() + text.len() + 5)?;
        match text.len() {
            len @ 0..=31 => self.result.push(0xa0 | len as u8),
            len @ 32..=0xff => self.result.extend_from_slice(&[0xd9, len as u8]),
            len => self.write_len(len, 0xda),
        }
        self.result.extend_from_slice(text);
        Ok(())
    }

    /// A length of 16 bits behind this type, or of 32 behind the next.
    fn write_len(&mut self, len: usize, kind: u8) {
        match u16::try_from(len) {
            Ok(len) => {
                self.result.push(kind);
                self.result.extend_from_slice(&len.to_be_bytes());
            }
            Err(_) => {
                self.result.push(kind + 1);
                // Longer ones do not fit into memory.
                self.result.extend_from_slice(&(len as u32).to_be_bytes());
            }
        }
    }

    fn write_integer(&mut self, value: i64) {
        // The type of the smallest form, and how many bytes of the value follow it.
        let (kind, len) = match value {
            -32..=127 => return self.result.push(value as u8),
            128..=0xff => (0xcc, 1),
            0x100..=0xffff => (0xcd, 2),
            0x1_0000..=0xffff_ffff => (0xce, 4),
            0x1_0000_0000.. => (0xcf, 8),
            -128..=-33 => (0xd0, 1),
            -32_768..=-129 => (0xd1, 2),
            -2_147_483_648..=-32_769 => (0xd2, 4),
            _ => (0xd3, 8),
        };
        self.result.push(kind);
        self.result
            .extend_from_slice(&value.to_be_bytes()[8 - len..]);
    }

    fn write_number(&mut self, value: f64) {
        let integer = value as i64;
        // 2^63 is cast to the integer below it, which is no double.
        if integer as f64 == value && integer != i64::MAX {
            return self.write_integer(integer);
        }
        let single = value as f32;
        if f64::from(single) == value {
            self.result.push(0xca);
            self.result.extend_from_slice(&single.to_be_bytes());
        } else {
            self.result.push(0xcb);
            self.result.extend_from_slice(&value.to_be_bytes());
        }
    }

    fn write_table(&mut self, table: &Table, level: usize) -> Result<()> {
        let (count, is_array) = self.count(table)?;
        if is_array {
            match count {
                0..=15 => self.result.push(0x90 | count as u8),
                _ => self.write_len(count, 0xdc),
            }
            for index in 1..=count {
                let value: Value = table.raw_get(index)?;
                self.write(&value, level + 1)?;
            }
            return Ok(());
        }
        match count {
            0..=15 => self.result.push(0x80 | count as u8),
            _ => self.write_len(count, 0xde),
        }
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.write(&key, level + 1)?;
            self.write(&value, level + 1)?;
        }
        Ok(())
    }

    /// The number of keys, and whether they are 1 to that number.
    fn count(&mut self, table: &Table) -> Result<(usize, bool)> {
        let (mut count, mut last, mut is_array) = (0, 0, true);
        let steps = &mut self.steps;
        table.for_each(|key: Value, _: bool| {
            steps.count(1)?;
            count += 1;
            match key {
                Value::Integer(index) if (1..=i64::from(i32::MAX)).contains(&index) => {
                    last = last.max(index);
                }
                _ => is_array = false,
            }
            Ok::<(), Error>(())
        })?;
        Ok((count, is_array && last == count as i64))
    }
}
