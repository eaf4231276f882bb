//! `bit`: operations on the bits of numbers, as Lua BitOp 1.0.2 does them.
//!
//! Arguments are taken modulo 2^32, results are signed 32-bit integers. A number is rounded to an integer by adding 2^52 +
//! 2^51 and taking the low half of the sum's representation: what is too large for that gives bits of no meaning, the same
//! ones as in C.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::call::Call;

/// The table `bit`.
pub fn open(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let one: [(&str, fn(u32) -> u32); 3] = [
        ("tobit", |bits| bits),
        ("bnot", |bits| !bits),
        ("bswap", u32::swap_bytes),
    ];
    for (name, change) in one {
        let function = lua.create_function(move |lua, values: MultiValue| {
            let call = Call::new(lua, values);
            Ok(result(change(bits(&call, 1)?)))
        })?;
        table.raw_set(name, function)?;
    }
    let many: [(&str, fn(u32, u32) -> u32); 3] = [
        ("band", |a, b| a & b),
        ("bor", |a, b| a | b),
        ("bxor", |a, b| a ^ b),
    ];
    for (name, join) in many {
        let function = lua.create_function(move |lua, values: MultiValue| {
            let call = Call::new(lua, values);
            let mut joined = bits(&call, 1)?;
            // From the last to the second: of several wrong arguments the first after #1 that is told is the last.
            for number in (2..=call.count()).rev() {
                joined = join(joined, bits(&call, number)?);
            }
            Ok(result(joined))
        })?;
        table.raw_set(name, function)?;
    }
    let shifts: [(&str, fn(u32, u32) -> u32); 5] = [
        ("lshift", |bits, by| bits << by),
        ("rshift", |bits, by| bits >> by),
        ("arshift", |bits, by| ((bits as i32) >> by) as u32),
        ("rol", u32::rotate_left),
        ("ror", u32::rotate_right),
    ];
    for (name, shift) in shifts {
        let function = lua.create_function(move |lua, values: MultiValue| {
            let call = Call::new(lua, values);
            let value = bits(&call, 1)?;
            Ok(result(shift(value, bits(&call, 2)? & 31)))
        })?;
        table.raw_set(name, function)?;
    }
    table.raw_set("tohex", lua.create_function(tohex)?)?;
    Ok(table)
}

fn result(bits: u32) -> Value {
    Value::Integer(i64::from(bits as i32))
}

fn bits(call: &Call<'_>, number: usize) -> Result<u32> {
    let value = match call.get(number) {
        Value::Integer(value) => *value as f64,
        _ => call.number(number)?,
    };
    Ok((value + 6_755_399_441_055_744.0).to_bits() as u32)
}

/// The last digits of a number in hexadecimal: so many as the second argument says, at most 8, in capitals if it is negative.
fn tohex(lua: &Lua, values: MultiValue) -> Result<Value> {
    let call = Call::new(lua, values);
    let value = bits(&call, 1)?;
    let digits = match call.count() {
        0 | 1 => 8,
        _ => bits(&call, 2)? as i32,
    };
    let all = match digits < 0 {
        true => format!("{value:08X}"),
        false => format!("{value:08x}"),
    };
    // The smallest integer has no magnitude of its type: Redis before 7.4.0 wrote beyond its buffer here.
    let count = digits.unsigned_abs().min(8) as usize;
    lua.create_string(&all[8 - count..]).map(Value::String)
}

#[cfg(test)]
mod tests;
