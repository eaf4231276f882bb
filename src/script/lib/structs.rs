//! `struct`: values packed as C lays out its structures, by lua-struct 0.2 as Redis has it.
//!
//! A format is a list of letters: `b h i l T` (and capitals, without sign), `f d` numbers, `s` a string with a NUL behind
//! it, `c` so many bytes, `x` a byte of padding; `< >` the order of bytes from there on, `!` the largest alignment. It ends
//! at its first NUL. Sizes in it are checked before they are used: integer overflows of theirs were CVE-2018-11219 and
//! CVE-2020-14147.

use mlua::{Error, Lua, MultiValue, Result, Table, Value};

use super::bounds::Steps;
use super::call::{Call, integer_of};

/// The table `struct`.
pub fn open(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let pack = |lua: &Lua, values| pack(&Call::new(lua, values));
    table.raw_set("pack", lua.create_function(pack)?)?;
    let unpack = |lua: &Lua, values| unpack(&Call::new(lua, values));
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    let size = |lua: &Lua, values| size(&Call::new(lua, values));
    table.raw_set("size", lua.create_function(size)?)?;
    Ok(table)
}

/// The slots of its stack that Lua lets a C function have: results stand there.
const STACK_SLOTS: usize = 8000;

/// The largest size of an integer, in bytes.
const LARGEST_INTEGER: u32 = 32;

/// The alignment of `!` without a number: that of a double.
const NATIVE_ALIGNMENT: u32 = 8;

/// A format that is being read.
struct Format<'a> {
    call: &'a Call<'a>,
    rest: &'a [u8],
    is_big_endian: bool,
    alignment: u64,
}

impl<'a> Format<'a> {
    fn new(call: &'a Call<'a>, text: &'a [u8]) -> Format<'a> {
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        Format {
            call,
            rest: &text[..end],
            is_big_endian: cfg!(target_endian = "big"),
            alignment: 1,
        }
    }

    /// The next letter, and how many bytes it takes if that is fixed.
    fn next(&mut self) -> Result<Option<(u8, u64)>> {
        let Some((letter, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let size = match letter {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'f' => 4,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'c' => self.number(1)?,
            b'I' | b'i' => match self.number(4)? {
                size if size > LARGEST_INTEGER => {
                    return Err(self.call.error(format!(
                        "integral size {size} is larger than limit of {LARGEST_INTEGER}"
                    )));
                }
                size => size,
            },
            _ => 0,
        };
        Ok(Some((*letter, u64::from(size))))
    }

    /// The decimal number that stands next in the format: a C int.
    fn number(&mut self, default: u32) -> Result<u32> {
        let count = self
            .rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        if digits.is_empty() {
            return Ok(default);
        }
        let value = digits.iter().try_fold(0i32, |value, digit| {
            value.checked_mul(10)?.checked_add(i32::from(digit - b'0'))
        });
        match value {
            Some(value) => Ok(value as u32),
            None => Err(self.call.error("integral size overflow")),
        }
    }

    /// The padding before an item at this place.
    fn padding(&self, place: u64, letter: u8, size: u64) -> u64 {
        if size == 0 || letter == b'c' {
            return 0;
        }
        // A size that is no power of two gives what these operations give.
        let size = size.min(self.alignment);
        size.wrapping_sub(place & (size - 1)) & (size - 1)
    }

    /// A letter that stands for no value.
    fn control(&mut self, letter: u8) -> Result<()> {
        match letter {
            b' ' => {}
            b'>' => self.is_big_endian = true,
            b'<' => self.is_big_endian = false,
            b'!' => {
                let alignment = self.number(NATIVE_ALIGNMENT)?;
                if !alignment.is_power_of_two() {
                    return Err(self
                        .call
                        .error(format!("alignment {alignment} is not a power of 2")));
                }
                self.alignment = u64::from(alignment);
            }
            other => {
                let text = [b"invalid format option '".as_slice(), &[other], b"'"].concat();
                return Err(self.call.argument_error(1, text));
            }
        }
        Ok(())
    }

    /// Bytes of this machine's order in that of the format.
    fn ordered<const N: usize>(&self, mut little: [u8; N]) -> [u8; N] {
        if self.is_big_endian {
            little.reverse();
        }
        little
    }
}

fn is_integer(letter: u8) -> bool {
    matches!(
        letter,
        b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I'
    )
}

/// The function `pack`.
fn pack(call: &Call<'_>) -> Result<Value> {
    let text = call.string(1)?;
    let text = text.as_bytes();
    let mut format = Format::new(call, &text);
    let mut steps = Steps::new(call.lua);
    let mut packed = Vec::new();
    let mut number = 2;
    while let Some((letter, size)) = format.next()? {
        steps.count(1)?;
        steps.check_size(packed.len() + 2 * LARGEST_INTEGER as usize)?;
        let padding = format.padding(packed.len() as u64, letter, size);
        packed.resize(packed.len() + padding as usize, 0);
        match letter {
            letter if is_integer(letter) => {
                let value = argument(call, number)?;
                number += 1;
                put_integer(&mut packed, value, size as usize, format.is_big_endian);
            }
            b'x' => packed.push(0),
            b'f' => {
                let value = argument(call, number)? as f32;
                number += 1;
                packed.extend_from_slice(&format.ordered(value.to_le_bytes()));
            }
            b'd' => {
                let value = argument(call, number)?;
                number += 1;
                packed.extend_from_slice(&format.ordered(value.to_le_bytes()));
            }
            b'c' | b's' => {
                let value = string_argument(call, number)?;
                number += 1;
                let value = value.as_bytes();
                let len = match size {
                    0 => value.len(),
                    size => size as usize,
                };
                let Some(part) = value.get(..len) else {
                    // The original has counted on by then.
                    return Err(call.argument_error(number, "string too short"));
                };
                steps.check_size(packed.len() + part.len() + 1)?;
                packed.extend_from_slice(part);
                if letter == b's' {
                    packed.push(0);
                }
            }
            letter => format.control(letter)?,
        }
    }
    call.lua.create_string(&packed).map(Value::String)
}

/// A number to be packed. The original has a nil behind its arguments, and says so.
fn argument(call: &Call<'_>, number: usize) -> Result<f64> {
    check_given(call, number, "number")?;
    call.number(number)
}

fn string_argument(call: &Call<'_>, number: usize) -> Result<mlua::LuaString> {
    check_given(call, number, "string")?;
    call.string(number)
}

fn check_given(call: &Call<'_>, number: usize, expected: &str) -> Result<()> {
    match number > call.count() {
        true => Err(call.argument_error(number, format!("{expected} expected, got nil"))),
        false => Ok(()),
    }
}

/// Adds the low bytes of a number; those beyond 64 bits are 0.
fn put_integer(packed: &mut Vec<u8>, value: f64, size: usize, is_big_endian: bool) {
    let value = match value < 0.0 {
        true => integer_of(value) as u64,
        false => unsigned_of(value),
    };
    let mut bytes = [0; LARGEST_INTEGER as usize];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    let bytes = &mut bytes[..size];
    if is_big_endian {
        bytes.reverse();
    }
    packed.extend_from_slice(bytes);
}

/// A double as C on x86 casts it to an unsigned integer: from 2^63 on in two parts, of which the first may not fit.
fn unsigned_of(value: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    match value >= HALF {
        true => integer_of(value - HALF) as u64 ^ 1 << 63,
        false => integer_of(value) as u64,
    }
}

/// The function `unpack`: the values, and the position behind them.
fn unpack(call: &Call<'_>) -> Result<MultiValue> {
    let text = call.string(1)?;
    let text = text.as_bytes();
    let data = call.string(2)?;
    let data = data.as_bytes();
    // Positions are unsigned: a negative one is far behind the end.
    let mut place = match call.integer_or(3, 1)? {
        0 => return Err(call.argument_error(3, "offset must be 1 or greater")),
        position => (position as u64).wrapping_sub(1),
    };
    let mut format = Format::new(call, &text);
    let mut steps = Steps::new(call.lua);
    let mut values: Vec<Value> = Vec::new();
    while let Some((letter, size)) = format.next()? {
        steps.count(1)?;
        place = place.wrapping_add(format.padding(place, letter, size));
        let mut bytes = range(call, &data, place, size)?;
        if call.count() + values.len() + 2 > STACK_SLOTS {
            return Err(call.error("stack overflow (too many results)"));
        }
        let value = match letter {
            letter if is_integer(letter) => Some(Value::Number(integer(
                bytes,
                format.is_big_endian,
                letter.is_ascii_lowercase(),
            ))),
            b'f' => {
                let bytes = bytes.try_into().unwrap_or_default();
                let value = f32::from_le_bytes(format.ordered(bytes));
                Some(Value::Number(f64::from(value)))
            }
            b'd' => {
                let bytes = bytes.try_into().unwrap_or_default();
                Some(Value::Number(f64::from_le_bytes(format.ordered(bytes))))
            }
            b'c' => {
                if size == 0 {
                    let size = previous_size(call, values.pop())?;
                    bytes = range(call, &data, place, size)?;
                }
                Some(Value::String(new_string(call, bytes)?))
            }
            b's' => {
                let rest = &data[place as usize..];
                let Some(len) = memchr::memchr(0, rest) else {
                    return Err(call.error("unfinished string in data"));
                };
                bytes = &rest[..=len];
                Some(Value::String(new_string(call, &rest[..len])?))
            }
            b'x' => None,
            letter => {
                format.control(letter)?;
                None
            }
        };
        values.extend(value);
        place += bytes.len() as u64;
    }
    values.push(Value::Number(place.wrapping_add(1) as i64 as f64));
    Ok(MultiValue::from_vec(values))
}

fn new_string(call: &Call<'_>, bytes: &[u8]) -> Result<mlua::LuaString> {
    call.lua.create_string(bytes).map_err(|error| match error {
        Error::StackError => call.error("stack overflow (too many results)"),
        other => other,
    })
}

/// So many bytes of the data from a place on.
fn range<'a>(call: &Call<'_>, data: &'a [u8], place: u64, size: u64) -> Result<&'a [u8]> {
    let end = place.checked_add(size);
    let found = end.and_then(|end| {
        let (place, end) = (usize::try_from(place).ok()?, usize::try_from(end).ok()?);
        data.get(place..end)
    });
    found.ok_or_else(|| call.argument_error(2, "data string too short"))
}

/// The size of `c0`: the value before it.
fn previous_size(call: &Call<'_>, previous: Option<Value>) -> Result<u64> {
    let size = previous.map(|value| call.lua.coerce_number(value));
    match size.transpose()?.flatten() {
        Some(size) => Ok(unsigned_of(size)),
        None => Err(call.error("format 'c0' needs a previous size")),
    }
}

/// The number that stands in these bytes: the low 64 bits of it.
fn integer(bytes: &[u8], is_big_endian: bool, is_signed: bool) -> f64 {
    let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let value = match is_big_endian {
        true => bytes.iter().fold(0, join),
        false => bytes.iter().rev().fold(0, join),
    };
    if !is_signed {
        return value as f64;
    }
    // The bit of the sign, and those above it; a size over 8 bytes shifts as x86 does, modulo 64.
    let above = u64::MAX.wrapping_shl((bytes.len() as u32).wrapping_mul(8).wrapping_sub(1));
    let value = match value & above {
        0 => value,
        _ => value | above,
    };
    value as i64 as f64
}

/// The function `size`: how many bytes a format takes.
fn size(call: &Call<'_>) -> Result<Value> {
    let text = call.string(1)?;
    let text = text.as_bytes();
    let mut format = Format::new(call, &text);
    let mut place = 0u64;
    while let Some((letter, size)) = format.next()? {
        place = place.wrapping_add(format.padding(place, letter, size));
        match (letter, size) {
            (b's', _) => return Err(call.argument_error(1, "option 's' has no fixed size")),
            (b'c', 0) => return Err(call.argument_error(1, "option 'c0' has no fixed size")),
            // Letters that mean nothing are passed over, here only.
            (letter, _) if letter.is_ascii_alphanumeric() => {}
            (letter, _) => format.control(letter)?,
        }
        place = place.wrapping_add(size);
    }
    Ok(Value::Number(place as i64 as f64))
}

#[cfg(test)]
mod tests;
