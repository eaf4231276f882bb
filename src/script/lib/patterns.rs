//! The functions of `string` that take patterns, and `rep`: those of Lua 5.1, which a script could use to run or to grow
//! without end, and no hook of the machine would see it.
//!
//! find, match and gsub's search are here in Rust. gsub and gmatch themselves are Lua (`patterns.lua`), because they call
//! functions of the script or are kept by it. Two things tell: `error(text, 2)` in a replacement function names a line of
//! `[C]`, and such a function may yield.

use mlua::{Error, Function, Lua, LuaString, MultiValue, Result, Table, Value};

use super::bounds::Steps;
use super::call::{Call, type_name};
use super::raise;
use matcher::{Captured, Fault, Matcher};

mod matcher;

/// Puts find, match, gmatch (and gfind, its old name), gsub and rep into the table `string`, in place of Lua's own.
pub fn replace(lua: &Lua, string: &Table) -> Result<()> {
    let find = |is_find| {
        move |lua: &Lua, values: MultiValue| find_or_match(&Call::new(lua, values), is_find)
    };
    string.raw_set("find", lua.create_function(find(true))?)?;
    string.raw_set("match", lua.create_function(find(false))?)?;
    string.raw_set("rep", lua.create_function(rep)?)?;

    let rust = lua.create_table()?;
    rust.raw_set("begin_gmatch", lua.create_function(begin_gmatch)?)?;
    rust.raw_set("begin_gsub", lua.create_function(begin_gsub)?)?;
    rust.raw_set("step", lua.create_function(step)?)?;
    rust.raw_set("captures", lua.create_function(captures)?)?;
    rust.raw_set("invalid_value", lua.create_function(invalid_value)?)?;
    let make: Function = super::compile(lua, include_str!("patterns.lua"))?;
    let (gmatch, gsub): (Function, Function) = make.call((lua.globals(), rust))?;
    string.raw_set("gmatch", &gmatch)?;
    string.raw_set("gfind", gmatch)?;
    string.raw_set("gsub", gsub)
}

impl Fault {
    fn raise(self, call: &Call<'_>) -> Error {
        match self {
            Fault::Pattern(text) => call.error(text),
            Fault::Over(error) => error,
        }
    }
}

/// string.find and string.match.
fn find_or_match(call: &Call<'_>, is_find: bool) -> Result<MultiValue> {
    let (source, pattern) = (call.string(1)?, call.string(2)?);
    let init = call.integer_or(3, 1)?;
    let (source, pattern) = (source.as_bytes(), pattern.as_bytes());
    let start = start_of(init, source.len());
    let is_plain = !matches!(call.get(4), Value::Nil | Value::Boolean(false));
    if is_find && (is_plain || !has_specials(&pattern)) {
        let found = memchr::memmem::find(&source[start..], &pattern);
        return Ok(match found {
            Some(at) => [start + at + 1, start + at + pattern.len()]
                .into_iter()
                .map(integer)
                .collect(),
            None => MultiValue::from_vec(vec![Value::Nil]),
        });
    }
    let (pattern, anchored) = without_anchor(&pattern);
    let mut matcher = Matcher::new(&source, pattern, Steps::new(call.lua));
    let found = matcher.search(start, anchored);
    let Some(whole) = found.map_err(|fault| fault.raise(call))? else {
        return Ok(MultiValue::from_vec(vec![Value::Nil]));
    };
    let count = matcher.capture_count();
    let mut values = Vec::with_capacity(count + 2);
    if is_find {
        values.extend([integer(whole.0 + 1), integer(whole.1)]);
    }
    // Only match gives the whole match where there is no capture.
    for number in 0..count.max(usize::from(!is_find)) {
        values.push(captured(call, &matcher, number, whole)?);
    }
    Ok(MultiValue::from_vec(values))
}

fn captured(
    call: &Call<'_>,
    matcher: &Matcher<'_>,
    number: usize,
    whole: (usize, usize),
) -> Result<Value> {
    match matcher.capture(number, whole) {
        Ok(Captured::Text(text)) => call.lua.create_string(text).map(Value::String),
        Ok(Captured::Position(at)) => Ok(integer(at)),
        Err(fault) => Err(fault.raise(call)),
    }
}

fn integer(value: usize) -> Value {
    Value::Integer(value as i64)
}

/// Where a search begins that was given this position: from 1, from the end if it is negative, within the source.
fn start_of(init: i64, len: usize) -> usize {
    let len = len as i64;
    let init = if init < 0 {
        init.saturating_add(len + 1)
    } else {
        init
    };
    (init.max(1) - 1).min(len) as usize
}

/// Whether a pattern has a byte with a meaning, before its first NUL.
fn has_specials(pattern: &[u8]) -> bool {
    pattern
        .iter()
        .take_while(|byte| **byte != 0)
        .any(|byte| b"^$*+?.([%-".contains(byte))
}

fn without_anchor(pattern: &[u8]) -> (&[u8], bool) {
    match pattern {
        [b'^', rest @ ..] => (rest, true),
        pattern => (pattern, false),
    }
}

/// string.rep. The length is known before anything is allocated.
fn rep(lua: &Lua, values: MultiValue) -> Result<Value> {
    let call = Call::new(lua, values);
    let text = call.string(1)?;
    // Lua takes the number for a C int.
    let count = call.integer(2)? as i32;
    let text = text.as_bytes();
    let len = text.len().saturating_mul(count.max(0) as usize);
    Steps::new(lua).check_size(len)?;
    lua.create_string(text.repeat(count.max(0) as usize))
        .map(Value::String)
}

/// Checks the arguments of gmatch: the source and the pattern.
fn begin_gmatch(lua: &Lua, values: MultiValue) -> Result<(LuaString, LuaString)> {
    let call = Call::passed_on(lua, values);
    Ok((call.string(1)?, call.string(2)?))
}

/// Checks the arguments of gsub. If the replacement is a text, the result and the number of replacements; else nil, the
/// source, the pattern without its anchor, whether it had one, the most replacements, the replacement.
fn begin_gsub(lua: &Lua, values: MultiValue) -> Result<(Value, Value, Value, Value, Value, Value)> {
    let mut call = Call::passed_on(lua, values);
    let (source, pattern) = (call.string(1)?, call.string(2)?);
    let most = match call.get(4) {
        Value::Nil => source.as_bytes().len() as i64 + 1,
        _ => call.integer(4)?,
    };
    // Lua takes it for a C int.
    let most = i64::from(most as i32);
    match call.get(3) {
        Value::String(_) | Value::Integer(_) | Value::Number(_) => {
            let (text, count) = substitute(&call, &source, &pattern, most)?;
            let text = Value::String(lua.create_string(text)?);
            let rest = Value::Nil;
            Ok((
                text,
                integer(count),
                rest.clone(),
                rest.clone(),
                rest.clone(),
                rest,
            ))
        }
        Value::Function(_) | Value::Table(_) => {
            let bytes = pattern.as_bytes();
            let (rest, anchored) = without_anchor(&bytes);
            let pattern = match anchored {
                true => lua.create_string(rest)?,
                false => pattern.clone(),
            };
            let (source, pattern) = (Value::String(source), Value::String(pattern));
            let (anchored, most) = (Value::Boolean(anchored), Value::Integer(most));
            Ok((Value::Nil, source, pattern, anchored, most, call.take(3)))
        }
        _ => Err(call.argument_error(3, "string/function/table expected")),
    }
}

/// gsub with a text as replacement.
fn substitute(
    call: &Call<'_>,
    source: &LuaString,
    pattern: &LuaString,
    most: i64,
) -> Result<(Vec<u8>, usize)> {
    let replacement = call.string(3)?;
    let (source, pattern) = (source.as_bytes(), pattern.as_bytes());
    let (pattern, anchored) = without_anchor(&pattern);
    let mut matcher = Matcher::new(&source, pattern, Steps::new(call.lua));
    let mut result = Vec::new();
    let (mut count, mut copied, mut start) = (0, 0, 0);
    while (count as i64) < most {
        let found = matcher.search(start, anchored);
        let Some(whole) = found.map_err(|fault| fault.raise(call))? else {
            break;
        };
        count += 1;
        result.extend_from_slice(&source[copied..whole.0]);
        add_replacement(
            call,
            &mut matcher,
            &replacement.as_bytes(),
            whole,
            &mut result,
        )?;
        copied = whole.1;
        start = whole.1 + usize::from(whole.0 == whole.1);
        if anchored || start > source.len() {
            break;
        }
    }
    matcher.check_size(result.len() + source.len() - copied)?;
    result.extend_from_slice(&source[copied..]);
    Ok((result, count))
}

/// Adds a replacement, in which `%1` is a capture, `%0` the whole match, and `%` before another byte is that byte.
fn add_replacement(
    call: &Call<'_>,
    matcher: &mut Matcher<'_>,
    replacement: &[u8],
    whole: (usize, usize),
    result: &mut Vec<u8>,
) -> Result<()> {
    matcher.check_size(result.len() + replacement.len())?;
    let mut rest = replacement;
    while let Some(escape) = memchr::memchr(b'%', rest) {
        result.extend_from_slice(&rest[..escape]);
        // A `%` at the end stands before the NUL that ends every string.
        let escaped = rest.get(escape + 1).copied().unwrap_or(0);
        let number = match escaped {
            b'0' => Some(None),
            b'1'..=b'9' => Some(Some(usize::from(escaped - b'1'))),
            _ => None,
        };
        match number {
            None => result.push(escaped),
            Some(number) => add_capture(call, matcher, number, whole, result)?,
        }
        rest = rest.get(escape + 2..).unwrap_or_default();
    }
    result.extend_from_slice(rest);
    Ok(())
}

/// Adds a capture, or the whole match.
fn add_capture(
    call: &Call<'_>,
    matcher: &mut Matcher<'_>,
    number: Option<usize>,
    whole: (usize, usize),
    result: &mut Vec<u8>,
) -> Result<()> {
    let captured = match number {
        Some(number) => matcher.capture(number, whole),
        None => Ok(matcher.whole(whole)),
    };
    match captured.map_err(|fault| fault.raise(call))? {
        Captured::Text(text) => {
            matcher.check_size(result.len() + text.len())?;
            result.extend_from_slice(text);
        }
        Captured::Position(at) => {
            result.extend_from_slice(itoa::Buffer::new().format(at).as_bytes());
        }
    }
    Ok(())
}

/// The most captures that [`step`] returns: more come from [`captures`].
const FEW: usize = 4;

/// The next match from a place: the number of captures, its begin and end, and the captures if they are few. Nil if there
/// is none. Who wants only the first capture is not told that another is unfinished.
#[expect(clippy::type_complexity, reason = "a list for Lua, not a type of ours")]
fn step(
    lua: &Lua,
    (source, pattern, start, anchored, only_first): (LuaString, LuaString, usize, bool, bool),
) -> Result<(Value, Value, Value, Value, Value, Value, Value)> {
    let call = Call::passed_on(lua, MultiValue::new());
    let (source, pattern) = (source.as_bytes(), pattern.as_bytes());
    let mut matcher = Matcher::new(&source, &pattern, Steps::new(lua));
    let found = matcher.search(start, anchored);
    let mut values = [const { Value::Nil }; FEW];
    let Some(whole) = found.map_err(|fault| fault.raise(&call))? else {
        let [a, b, c, d] = values;
        return Ok((Value::Nil, Value::Nil, Value::Nil, a, b, c, d));
    };
    let count = match only_first {
        true => 1,
        false => matcher.capture_count().max(1),
    };
    if count <= FEW {
        for (number, value) in values[..count].iter_mut().enumerate() {
            *value = captured(&call, &matcher, number, whole)?;
        }
    }
    let [a, b, c, d] = values;
    let (begin, end) = (integer(whole.0), integer(whole.1));
    Ok((integer(count), begin, end, a, b, c, d))
}

/// All captures of the match that [`step`] has found.
fn captures(
    lua: &Lua,
    (source, pattern, start, anchored): (LuaString, LuaString, usize, bool),
) -> Result<MultiValue> {
    let call = Call::passed_on(lua, MultiValue::new());
    let (source, pattern) = (source.as_bytes(), pattern.as_bytes());
    let mut matcher = Matcher::new(&source, &pattern, Steps::new(lua));
    let found = matcher.search(start, anchored);
    let Some(whole) = found.map_err(|fault| fault.raise(&call))? else {
        return Ok(MultiValue::new());
    };
    (0..matcher.capture_count().max(1))
        .map(|number| captured(&call, &matcher, number, whole))
        .collect()
}

/// Raises the error that a replacement is no text.
fn invalid_value(lua: &Lua, value: Value) -> Result<()> {
    let kind = type_name(&value);
    Err(raise::error(
        lua,
        1,
        format!("invalid replacement value (a {kind})"),
    ))
}

#[cfg(test)]
mod tests;
