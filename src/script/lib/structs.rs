//! `struct`: numbers and strings laid out as C does it, as lua-struct 0.2 has it.
//!
//! A format is a string of options, up to its first NUL:
//!
//! | | |
//! |---|---|
//! | `<` `>` | little endian, which is the default, or big endian, from here on |
//! | `!n` | alignment of at most n, 8 without it, from here on; at first 1 |
//! | `b` `h` `i` `in` `l` | signed integers of 1, 2, 4, n and 8 bytes; capitals: unsigned; `T` as `L` |
//! | `f` `d` | floats of 4 and 8 bytes |
//! | `x` | a byte without meaning |
//! | `cn` | n bytes, 1 without it; `c0`: the whole string, or so many as the number read before says |
//! | `s` | a string and a NUL after it |
//! | space | nothing |
//!
//! Sizes are checked when they are read from the format (CVE-2018-11219), positions before they are used
//! (CVE-2020-14147); sums of them wrap as in C, where a script that counts on it finds the same.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::bounds::Steps;
use super::call::{Call, STACK_SLOTS, integer_of};

/// The largest integer, in bytes. Those beyond eight are zero, and are not read.
const MAX_INTEGER_BYTES: usize = 32;

/// The alignment that `!` alone asks for.
const DEFAULT_ALIGNMENT: usize = 8;

/// The table `struct`.
pub fn open(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    table.raw_set("size", lua.create_function(size)?)?;
    Ok(table)
}

/// pack(format, values): a string.
fn pack(lua: &Lua, mut values: MultiValue) -> Result<Value> {
    if !values.is_empty() {
        // The library marks the end of the arguments so: the first that is missing is nil.
        values.push_back(Value::Nil);
    }
    let call = &Call::new(lua, values);
    let format = call.string(1)?;
    let mut format = Format::new(call, &format.as_bytes());
    let mut steps = Steps::new(lua);
    let mut out = Vec::new();
    let mut argument = 2;
    while let Some(option) = format.option() {
        steps.count(1)?;
        let size = format.size(option)?;
        out.resize(out.len() + format.padding(out.len(), option, size), 0);
        steps.check_size(out.len())?;
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let bits = bits_of(call.number(argument)?);
                format.put(&mut out, &integer_bytes(bits)[..size]);
            }
            b'f' => {
                let value = call.number(argument)? as f32;
                format.put(&mut out, &value.to_le_bytes());
            }
            b'd' => format.put(&mut out, &call.number(argument)?.to_le_bytes()),
            b'x' => out.push(0),
            b'c' | b's' => {
                let text = call.string(argument)?;
                let text = text.as_bytes();
                let size = if size == 0 { text.len() } else { size };
                let Some(text) = text.get(..size) else {
                    // The library has gone on to the next argument when it says that.
                    return Err(call.argument_error(argument + 1, "string too short"));
                };
                steps.count(size / BYTES_OF_A_STEP)?;
                steps.check_size(out.len().saturating_add(size))?;
                out.extend_from_slice(text);
                if option == b's' {
                    out.push(0);
                }
            }
            _ => format.control(option)?,
        }
        argument += usize::from(!matches!(option, b'x' | b' ' | b'<' | b'>' | b'!'));
    }
    lua.create_string(out).map(Value::String)
}

/// So many bytes are copied in a step.
const BYTES_OF_A_STEP: usize = 64;

/// unpack(format, data, position): the values, and the position behind them. Positions are from 1.
fn unpack(lua: &Lua, values: MultiValue) -> Result<MultiValue> {
    let call = &Call::new(lua, values);
    let format = call.string(1)?;
    let mut format = Format::new(call, &format.as_bytes());
    let data = call.string(2)?;
    let data = &data.as_bytes()[..];
    let mut at = match call.integer_or(3, 1)? {
        0 => return Err(call.argument_error(3, "offset must be 1 or greater")),
        // A negative one is beyond all data.
        position => (position as usize).wrapping_sub(1),
    };
    let mut steps = Steps::new(lua);
    let mut results = MultiValue::new();
    let too_short = || call.argument_error(2, "data string too short");
    while let Some(option) = format.option() {
        steps.count(1)?;
        let mut size = format.size(option)?;
        at = at.wrapping_add(format.padding(at, option, size));
        let mut bytes = part(data, at, size).ok_or_else(too_short)?;
        if call.count() + results.len() + 2 > STACK_SLOTS {
            return Err(call.stack_overflow(TOO_MANY_RESULTS));
        }
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let value = format.integer(bytes, option.is_ascii_lowercase());
                results.push_back(Value::Number(value));
            }
            b'f' => {
                let value = f32::from_le_bytes(format.array(bytes));
                results.push_back(Value::Number(f64::from(value)));
            }
            b'd' => {
                let value = f64::from_le_bytes(format.array(bytes));
                results.push_back(Value::Number(value));
            }
            b'x' => {}
            b'c' => {
                if size == 0 {
                    size = format.length(results.pop_back())?;
                    bytes = part(data, at, size).ok_or_else(too_short)?;
                }
                steps.count(size / BYTES_OF_A_STEP)?;
                let text = call.held(lua.create_string(bytes), TOO_MANY_RESULTS)?;
                results.push_back(Value::String(text));
            }
            b's' => {
                let rest = data.get(at..).unwrap_or_default();
                let len = memchr::memchr(0, rest)
                    .ok_or_else(|| call.error("unfinished string in data"))?;
                steps.count(len / BYTES_OF_A_STEP)?;
                size = len + 1;
                let text = call.held(lua.create_string(&rest[..len]), TOO_MANY_RESULTS)?;
                results.push_back(Value::String(text));
            }
            _ => format.control(option)?,
        }
        at = at.wrapping_add(size);
    }
    results.push_back(Value::Integer(at.wrapping_add(1) as i64));
    Ok(results)
}

const TOO_MANY_RESULTS: &str = "too many results";

/// `size` bytes of the data, if it has them.
fn part(data: &[u8], at: usize, size: usize) -> Option<&[u8]> {
    data.get(at..at.checked_add(size)?)
}

/// size(format): of what such a format packs, in bytes.
fn size(lua: &Lua, values: MultiValue) -> Result<Value> {
    let call = &Call::new(lua, values);
    let format = call.string(1)?;
    let mut format = Format::new(call, &format.as_bytes());
    let mut steps = Steps::new(lua);
    let mut total = 0_usize;
    while let Some(option) = format.option() {
        steps.count(1)?;
        let size = format.size(option)?;
        total = total.wrapping_add(format.padding(total, option, size));
        match option {
            b's' => return Err(call.argument_error(1, "option 's' has no fixed size")),
            b'c' if size == 0 => {
                return Err(call.argument_error(1, "option 'c0' has no fixed size"));
            }
            // Letters that are no options are passed over.
            _ if option.is_ascii_alphanumeric() => {}
            _ => format.control(option)?,
        }
        total = total.wrapping_add(size);
    }
    Ok(Value::Integer(total as i64))
}

/// A format as far as it has been read, and what it has set.
struct Format<'a> {
    call: &'a Call<'a>,
    rest: Vec<u8>,
    next: usize,
    is_big_endian: bool,
    alignment: usize,
}

impl<'a> Format<'a> {
    fn new(call: &'a Call<'a>, text: &[u8]) -> Format<'a> {
        let len = memchr::memchr(0, text).unwrap_or(text.len());
        Format {
            call,
            rest: text[..len].to_vec(),
            next: 0,
            is_big_endian: false,
            alignment: 1,
        }
    }

    fn option(&mut self) -> Option<u8> {
        let option = *self.rest.get(self.next)?;
        self.next += 1;
        Some(option)
    }

    /// The number that follows, or `default`.
    fn number(&mut self, default: usize) -> Result<usize> {
        let Some(b'0'..=b'9') = self.rest.get(self.next) else {
            return Ok(default);
        };
        let mut number = 0_i32;
        while let Some(digit @ b'0'..=b'9') = self.rest.get(self.next) {
            number = number
                .checked_mul(10)
                .and_then(|number| number.checked_add(i32::from(digit - b'0')))
                .ok_or_else(|| self.call.error("integral size overflow"))?;
            self.next += 1;
        }
        Ok(number as usize)
    }

    /// What an option takes, in bytes; 0 if only its value tells.
    fn size(&mut self, option: u8) -> Result<usize> {
        match option {
            b'b' | b'B' | b'x' => Ok(1),
            b'h' | b'H' => Ok(2),
            b'f' => Ok(4),
            b'l' | b'L' | b'T' | b'd' => Ok(8),
            b'c' => self.number(1),
            b'i' | b'I' => match self.number(4)? {
                size if size > MAX_INTEGER_BYTES => Err(self.call.error(format!(
                    "integral size {size} is larger than limit of {MAX_INTEGER_BYTES}"
                ))),
                size => Ok(size),
            },
            _ => Ok(0),
        }
    }

    /// Bytes until an option of this size is aligned.
    fn padding(&self, at: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.alignment);
        // Sizes that are no powers of two give what they give in C.
        (size - (at & (size - 1))) & (size - 1)
    }

    fn control(&mut self, option: u8) -> Result<()> {
        match option {
            b' ' => {}
            b'<' => self.is_big_endian = false,
            b'>' => self.is_big_endian = true,
            b'!' => {
                self.alignment = self.number(DEFAULT_ALIGNMENT)?;
                if !self.alignment.is_power_of_two() {
                    let text = format!("alignment {} is not a power of 2", self.alignment);
                    return Err(self.call.error(text));
                }
            }
            _ => {
                let text = [b"invalid format option '", &[option][..], b"'"].concat();
                return Err(self.call.argument_error(1, text));
            }
        }
        Ok(())
    }

    /// Appends the bytes of a number, given in little endian.
    fn put(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self.is_big_endian {
            true => out.extend(bytes.iter().rev()),
            false => out.extend_from_slice(bytes),
        }
    }

    /// The bytes of a number in little endian, its lower ones.
    fn array<const N: usize>(&self, bytes: &[u8]) -> [u8; N] {
        let mut array = [0; N];
        let place = |index: usize| match self.is_big_endian {
            true => bytes.len() - 1 - index,
            false => index,
        };
        for (index, byte) in array.iter_mut().take(bytes.len()).enumerate() {
            *byte = bytes[place(index)];
        }
        array
    }

    fn integer(&self, bytes: &[u8], is_signed: bool) -> f64 {
        let value = u64::from_le_bytes(self.array(bytes));
        if !is_signed {
            return value as f64;
        }
        // Shifted as the processor does it where the size is beyond eight bytes, or none.
        let mask = u64::MAX.wrapping_shl((bytes.len() as u32 * 8).wrapping_sub(1));
        match value & mask {
            0 => value as i64 as f64,
            _ => (value | mask) as i64 as f64,
        }
    }

    /// How many bytes `c0` takes: the result before it, which is none then.
    fn length(&self, result: Option<Value>) -> Result<usize> {
        let number = match result {
            Some(Value::Number(number)) => Some(number),
            Some(text @ Value::String(_)) => self.call.lua.coerce_number(text)?,
            _ => None,
        };
        let number = number.ok_or_else(|| self.call.error("format 'c0' needs a previous size"))?;
        Ok(bits_of(number) as usize)
    }
}

/// A number as C casts it to an unsigned integer, a negative one through a signed one.
fn bits_of(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    match number >= HALF {
        true => (integer_of(number - HALF) as u64) ^ (1 << 63),
        false => integer_of(number) as u64,
    }
}

fn integer_bytes(bits: u64) -> [u8; MAX_INTEGER_BYTES] {
    let mut bytes = [0; MAX_INTEGER_BYTES];
    bytes[..8].copy_from_slice(&bits.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests;
