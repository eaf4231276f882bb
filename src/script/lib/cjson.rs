//! `cjson`: JSON to Lua values and back, as lua-cjson 2.1.0 in Redis does it.
//!
//! Each table that `new` makes has its own settings; those of the global one live as long as the machine, in Redis too, so
//! a script can change them for those after it ([`Global::reset`] undoes that). Numbers are written with 14 digits, objects in the
//! order of `next`; a table is an array if all its keys are positive integers and there are not too many holes, so an
//! empty one is an object; JSON's null is `cjson.null`, a light userdatum.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Error, Lua, MultiValue, Result, Table, Value};

use super::call::{Call, integer_of};

mod decode;
mod encode;

/// The table `cjson`.
pub fn open(lua: &Lua) -> Result<Table> {
    let settings = Rc::new(Cell::new(Settings::default()));
    lua.set_app_data(Global(Rc::clone(&settings)));
    open_with(lua, settings)
}

/// The settings of the table of [`open`].
#[derive(Clone)]
pub struct Global(Rc<Cell<Settings>>);

impl Global {
    /// Those of this machine, if the table is open there.
    pub fn of(lua: &Lua) -> Option<Global> {
        lua.app_data_ref::<Global>().map(|global| global.clone())
    }

    /// Gives the table its first settings again.
    pub fn reset(&self) {
        self.0.set(Settings::default());
    }
}

/// What the functions of one table go by.
#[derive(Clone, Copy, Debug)]
struct Settings {
    /// Whether an array with too many holes is written as an object, or refused.
    sparse_convert: bool,
    /// It has too many if its last index is over so many times the number of its items (0: never) ...
    sparse_ratio: i32,
    /// ... and over this.
    sparse_safe: i32,
    encode_max_depth: i32,
    decode_max_depth: i32,
    number_precision: i32,
    /// Kept for its setter; buffers are made anew for each call.
    keep_buffer: bool,
    encode_invalid_numbers: InvalidNumbers,
    /// Whether decode takes what strtod does: infinities, NaN, hexadecimal.
    decode_invalid_numbers: bool,
}

/// What encode makes of infinities and NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
enum InvalidNumbers {
    Refuse,
    Write,
    Null,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            number_precision: 14,
            keep_buffer: true,
            encode_invalid_numbers: InvalidNumbers::Refuse,
            decode_invalid_numbers: true,
        }
    }
}

/// The slots of its stack that Lua lets a C function have. The original keeps its nested tables there, and refuses depths
/// for which they do not suffice.
const STACK_SLOTS: usize = 8000;

/// Depths that are refused whatever the settings say: each takes one of some 8,000 places that mlua has for references.
const DEEPEST: usize = 4000;

type Setter = fn(&Call<'_>, &mut Settings) -> Result<MultiValue>;

fn open_with(lua: &Lua, settings: Rc<Cell<Settings>>) -> Result<Table> {
    let table = lua.create_table()?;
    let own = Rc::clone(&settings);
    let encode = move |lua: &Lua, values| encode::encode(&Call::new(lua, values), own.get());
    table.raw_set("encode", lua.create_function(encode)?)?;
    let own = Rc::clone(&settings);
    let decode = move |lua: &Lua, values| decode::decode(&Call::new(lua, values), own.get());
    table.raw_set("decode", lua.create_function(decode)?)?;
    let setters: [(&str, usize, Setter); 7] = [
        ("encode_sparse_array", 3, encode_sparse_array),
        ("encode_max_depth", 1, |call, settings| {
            integer_option(call, 1, &mut settings.encode_max_depth, 1, i32::MAX)
        }),
        ("decode_max_depth", 1, |call, settings| {
            integer_option(call, 1, &mut settings.decode_max_depth, 1, i32::MAX)
        }),
        ("encode_number_precision", 1, |call, settings| {
            integer_option(call, 1, &mut settings.number_precision, 1, 14)
        }),
        ("encode_keep_buffer", 1, |call, settings| {
            switch_option(call, &mut settings.keep_buffer)
        }),
        ("encode_invalid_numbers", 1, encode_invalid_numbers),
        ("decode_invalid_numbers", 1, |call, settings| {
            switch_option(call, &mut settings.decode_invalid_numbers)
        }),
    ];
    for (name, most, setter) in setters {
        let settings = Rc::clone(&settings);
        let function = lua.create_function(move |lua, values: MultiValue| {
            let call = Call::new(lua, values);
            if call.count() > most {
                return Err(call.argument_error(most + 1, "found too many arguments"));
            }
            let mut changed = settings.get();
            let result = setter(&call, &mut changed);
            // What was right before a wrong argument stays.
            settings.set(changed);
            result
        })?;
        table.raw_set(name, function)?;
    }
    let new = |lua: &Lua, _: MultiValue| open_with(lua, Rc::default());
    table.raw_set("new", lua.create_function(new)?)?;
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

fn encode_sparse_array(call: &Call<'_>, settings: &mut Settings) -> Result<MultiValue> {
    let mut all = switch_option(call, &mut settings.sparse_convert)?;
    all.extend(integer_option(
        call,
        2,
        &mut settings.sparse_ratio,
        0,
        i32::MAX,
    )?);
    all.extend(integer_option(
        call,
        3,
        &mut settings.sparse_safe,
        0,
        i32::MAX,
    )?);
    Ok(all)
}

/// Sets an integer, unless the argument is nil, and returns what it is then.
fn integer_option(
    call: &Call<'_>,
    number: usize,
    setting: &mut i32,
    least: i32,
    most: i32,
) -> Result<MultiValue> {
    if !matches!(call.get(number), Value::Nil) {
        // A C int: its low half.
        let value = call.integer(number)? as i32;
        if !(least..=most).contains(&value) {
            let text = format!("expected integer between {least} and {most}");
            return Err(call.argument_error(1, text));
        }
        *setting = value;
    }
    Ok(one(Value::Integer(i64::from(*setting))))
}

/// Sets what is on or off.
fn switch_option(call: &Call<'_>, setting: &mut bool) -> Result<MultiValue> {
    match call.get(1) {
        Value::Nil => {}
        Value::Boolean(value) => *setting = *value,
        _ => *setting = option(call, &["off", "on"])? == 1,
    }
    Ok(one(Value::Boolean(*setting)))
}

fn encode_invalid_numbers(call: &Call<'_>, settings: &mut Settings) -> Result<MultiValue> {
    let kinds = [
        InvalidNumbers::Refuse,
        InvalidNumbers::Write,
        InvalidNumbers::Null,
    ];
    match call.get(1) {
        Value::Nil => {}
        Value::Boolean(value) => settings.encode_invalid_numbers = kinds[usize::from(*value)],
        _ => settings.encode_invalid_numbers = kinds[option(call, &["off", "on", "null"])?],
    }
    Ok(one(match settings.encode_invalid_numbers {
        InvalidNumbers::Refuse => Value::Boolean(false),
        InvalidNumbers::Write => Value::Boolean(true),
        InvalidNumbers::Null => Value::String(call.lua.create_string("null")?),
    }))
}

/// Which of these words the first argument is.
fn option(call: &Call<'_>, words: &[&str]) -> Result<usize> {
    let given = call.string(1)?;
    let given = given.as_bytes();
    let given = given.split(|byte| *byte == 0).next().unwrap_or_default();
    let found = words.iter().position(|word| word.as_bytes() == given);
    found.ok_or_else(|| {
        call.argument_error(1, [b"invalid option '".as_slice(), given, b"'"].concat())
    })
}

fn one(value: Value) -> MultiValue {
    MultiValue::from_vec(vec![value])
}

/// Both directions take exactly one argument.
fn check_single(call: &Call<'_>) -> Result<()> {
    match call.count() {
        1 => Ok(()),
        _ => Err(call.argument_error(1, "expected 1 argument")),
    }
}

/// A double as C casts it to an int on x86: what does not fit is the smallest.
fn int_of(value: f64) -> i32 {
    i32::try_from(integer_of(value)).unwrap_or(i32::MIN)
}

/// An error that mlua has no place for another reference is one of depth.
fn too_deep(error: Error, instead: impl FnOnce() -> Error) -> Error {
    match error {
        Error::StackError => instead(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
