//! cjson.encode.
//!
//! A table is gone through once, its texts written to a buffer of its own; tables in it leave a gap there and wait in a Lua
//! table, so that the depth costs one reference each, and no recursion. Then the buffer is copied to the result, and at
//! each gap the waiting table is begun.

use mlua::{Error, Result, Table, Value};

use super::super::bounds::Steps;
use super::super::call::{Call, type_name};
use super::{DEEPEST, InvalidNumbers, STACK_SLOTS, Settings, check_single, int_of, too_deep};
use crate::data::number;

/// The function `encode`.
pub(super) fn encode(call: &Call<'_>, settings: Settings) -> Result<Value> {
    check_single(call)?;
    let mut encoder = Encoder {
        call,
        settings,
        steps: Steps::new(call.lua),
        result: Vec::new(),
        levels: Vec::new(),
        level_bytes: 0,
        slots: 1,
    };
    encoder.run(call.get(1))?;
    call.lua.create_string(&encoder.result).map(Value::String)
}

struct Encoder<'a> {
    call: &'a Call<'a>,
    settings: Settings,
    steps: Steps<'a>,
    result: Vec<u8>,
    /// The tables that are being written, outermost first.
    levels: Vec<Level>,
    /// The bytes of all their texts.
    level_bytes: usize,
    /// The slots of its stack that the original would have in use.
    slots: usize,
}

/// A table on its way.
struct Level {
    /// What is written of it, all tables in it left out.
    text: Vec<u8>,
    /// How much of that is copied.
    copied: usize,
    /// Where the tables go.
    gaps: Vec<usize>,
    /// Those tables.
    inner: Option<Table>,
    /// How many of them are begun.
    begun: usize,
    /// What is wrong after all of that.
    fault: Option<Fault>,
    /// The slots that the original has in use while it is in one of the inner tables.
    slots: usize,
}

/// What cannot be written; where it is met decides about the text of the error.
enum Fault {
    /// A value of this type, for this reason.
    Value(&'static str, &'static str),
    Other(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Other(error)
    }
}

const BAD_KEY: &str = "table key must be a number or string";
const BAD_NUMBER: &str = "must not be NaN or Inf";
const BAD_TYPE: &str = "type not supported";
const SPARSE: &str = "excessively sparse array";

impl Encoder<'_> {
    fn run(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Table(table) => self.enter(table)?,
            scalar => {
                let mut text = Vec::new();
                let written = self.write_scalar(&mut text, scalar);
                written.map_err(|fault| self.raise(fault))?;
                self.result = text;
                return Ok(());
            }
        }
        while let Some(level) = self.levels.last_mut() {
            let next = level.gaps.get(level.begun).copied();
            let end = next.unwrap_or(level.text.len());
            self.steps
                .check_size(self.result.len() + end - level.copied)?;
            self.result
                .extend_from_slice(&level.text[level.copied..end]);
            level.copied = end;
            if next.is_some() {
                level.begun += 1;
                let inner = level.inner.as_ref().map(|inner| inner.raw_get(level.begun));
                self.slots = level.slots;
                let entered = inner
                    .unwrap_or(Err(Error::StackError))
                    .and_then(|table: Table| self.enter(&table));
                let depth = self.levels.len() + 1;
                entered.map_err(|error| too_deep(error, || self.too_nested(depth)))?;
                continue;
            }
            let done = self.levels.pop();
            if let Some(level) = done {
                self.level_bytes -= level.text.len();
                if let Some(fault) = level.fault {
                    return Err(self.raise(fault));
                }
            }
        }
        Ok(())
    }

    /// Begins a table.
    fn enter(&mut self, table: &Table) -> Result<()> {
        let depth = self.levels.len() + 1;
        let too_many = depth as i64 > i64::from(self.settings.encode_max_depth)
            || depth > DEEPEST
            || self.slots + 3 > STACK_SLOTS;
        if too_many {
            return Err(self.too_nested(depth));
        }
        let len = match self.array_len(table) {
            Ok(len) => len,
            Err(fault) => return Err(self.raise(fault)),
        };
        let mut level = Level {
            text: Vec::new(),
            copied: 0,
            gaps: Vec::new(),
            inner: None,
            begun: 0,
            fault: None,
            slots: self.slots + if len.is_some() { 1 } else { 2 },
        };
        let written = match len {
            Some(len) => self.write_array(&mut level, table, len),
            None => self.write_object(&mut level, table),
        };
        if let Err(fault) = written {
            level.fault = Some(match fault {
                Fault::Other(error) => Fault::Other(too_deep(error, || self.too_nested(depth + 1))),
                fault => fault,
            });
        }
        self.level_bytes += level.text.len();
        self.levels.push(level);
        Ok(())
    }

    /// The last index, if the table is an array that is not too sparse and has any items.
    fn array_len(&mut self, table: &Table) -> std::result::Result<Option<usize>, Fault> {
        let (mut last, mut items, mut is_array) = (0i32, 0i32, true);
        let steps = &mut self.steps;
        let all = table.for_each(|key: Value, _: bool| {
            steps.count(1)?;
            let index = match key {
                Value::Integer(index) if index >= 1 => index as f64,
                Value::Number(index) if index >= 1.0 && index.floor() == index => index,
                _ => {
                    is_array = false;
                    return Err(enough());
                }
            };
            if index > f64::from(last) {
                last = int_of(index);
            }
            items = items.wrapping_add(1);
            Ok(())
        });
        match all {
            Err(_) if !is_array => return Ok(None),
            all => all?,
        }
        let Settings {
            sparse_convert,
            sparse_ratio,
            sparse_safe,
            ..
        } = self.settings;
        if sparse_ratio > 0 && last > items.wrapping_mul(sparse_ratio) && last > sparse_safe {
            return match sparse_convert {
                true => Ok(None),
                false => Err(Fault::Value("table", SPARSE)),
            };
        }
        Ok(usize::try_from(last).ok().filter(|len| *len > 0))
    }

    fn write_array(
        &mut self,
        level: &mut Level,
        table: &Table,
        len: usize,
    ) -> std::result::Result<(), Fault> {
        level.text.push(b'[');
        for index in 1..=len {
            self.steps.count(1)?;
            if index > 1 {
                level.text.push(b',');
            }
            let value: Value = table.raw_get(index)?;
            self.write_value(level, value)?;
        }
        level.text.push(b']');
        Ok(())
    }

    fn write_object(&mut self, level: &mut Level, table: &Table) -> std::result::Result<(), Fault> {
        level.text.push(b'{');
        let mut fault = None;
        let all = table.for_each(|key: Value, value: Value| {
            let written = self.write_pair(level, &key, value);
            written.map_err(|reason| {
                fault = Some(reason);
                enough()
            })
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        all?;
        level.text.push(b'}');
        Ok(())
    }

    fn write_pair(
        &mut self,
        level: &mut Level,
        key: &Value,
        value: Value,
    ) -> std::result::Result<(), Fault> {
        self.steps.count(1)?;
        if level.text.len() > 1 || !level.gaps.is_empty() {
            level.text.push(b',');
        }
        match key {
            Value::String(_) => self.write_scalar(&mut level.text, key)?,
            Value::Integer(_) | Value::Number(_) => {
                level.text.push(b'"');
                self.write_scalar(&mut level.text, key)?;
                level.text.push(b'"');
            }
            other => return Err(Fault::Value(type_name(other), BAD_KEY)),
        }
        level.text.push(b':');
        self.write_value(level, value)
    }

    /// Writes a value, or leaves a gap for a table.
    fn write_value(&mut self, level: &mut Level, value: Value) -> std::result::Result<(), Fault> {
        let bytes = self.result.len() + self.level_bytes + level.text.len();
        self.steps.check_size(bytes)?;
        let Value::Table(table) = value else {
            return self.write_scalar(&mut level.text, &value);
        };
        level.gaps.push(level.text.len());
        let inner = match &mut level.inner {
            Some(inner) => inner,
            none => none.insert(self.call.lua.create_table()?),
        };
        Ok(inner.raw_set(level.gaps.len(), table)?)
    }

    fn write_scalar(
        &mut self,
        text: &mut Vec<u8>,
        value: &Value,
    ) -> std::result::Result<(), Fault> {
        match value {
            Value::String(string) => {
                let string = string.as_bytes();
                self.steps.count(string.len() / 16)?;
                // Each byte may become six.
                self.steps
                    .check_size(self.result.len() + text.len() + string.len().saturating_mul(6))?;
                write_string(text, &string);
            }
            Value::Integer(value) => self.write_number(text, *value as f64)?,
            Value::Number(value) => self.write_number(text, *value)?,
            Value::Boolean(true) => text.extend_from_slice(b"true"),
            Value::Boolean(false) => text.extend_from_slice(b"false"),
            Value::Nil => text.extend_from_slice(b"null"),
            Value::LightUserData(data) if data.0.is_null() => text.extend_from_slice(b"null"),
            other => return Err(Fault::Value(type_name(other), BAD_TYPE)),
        }
        Ok(())
    }

    fn write_number(&self, text: &mut Vec<u8>, value: f64) -> std::result::Result<(), Fault> {
        if !value.is_finite() {
            match self.settings.encode_invalid_numbers {
                InvalidNumbers::Refuse => return Err(Fault::Value("number", BAD_NUMBER)),
                InvalidNumbers::Null => {
                    text.extend_from_slice(b"null");
                    return Ok(());
                }
                InvalidNumbers::Write => {}
            }
        }
        let precision = self.settings.number_precision.clamp(1, 14) as u8;
        text.extend_from_slice(&number::format_f64_g(value, precision));
        Ok(())
    }

    fn raise(&self, fault: Fault) -> Error {
        match fault {
            Fault::Value(kind, reason) => self
                .call
                .error(format!("Cannot serialise {kind}: {reason}")),
            Fault::Other(error) => error,
        }
    }

    fn too_nested(&self, depth: usize) -> Error {
        self.call
            .error(format!("Cannot serialise, excessive nesting ({depth})"))
    }
}

/// Ends a walk through a table before its end. It never leaves this file.
fn enough() -> Error {
    Error::CallbackDestructed
}

/// A string in quotes. Slashes are escaped too, and so is DEL.
fn write_string(text: &mut Vec<u8>, string: &[u8]) {
    text.reserve(string.len() + 2);
    text.push(b'"');
    let mut plain = 0;
    for (at, byte) in string.iter().enumerate() {
        let escape = match byte {
            b'"' | b'\\' | b'/' => *byte,
            8 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            12 => b'f',
            b'\r' => b'r',
            0..=31 | 127 => b'u',
            _ => continue,
        };
        text.extend_from_slice(&string[plain..at]);
        text.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            let digits = b"0123456789abcdef";
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            text.extend_from_slice(&[b'0', b'0', digits[high], digits[low]]);
        }
        plain = at + 1;
    }
    text.extend_from_slice(&string[plain..]);
    text.push(b'"');
}
