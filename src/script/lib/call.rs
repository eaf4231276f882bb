//! The arguments of a call from Lua, read by the rules of Lua's own libraries (lauxlib): numbers where strings are asked
//! for and the other way round, and the texts that say which argument of which function is wrong.

use mlua::{Error, Lua, LuaString, MultiValue, Result, Value};

use super::raise;

/// The slots of Lua's stack that one call may take.
pub(super) const STACK_SLOTS: usize = 8_000;

/// One call of a library function.
pub(super) struct Call<'a> {
    pub(super) lua: &'a Lua,
    /// The arguments.
    pub(super) values: MultiValue,
    level: usize,
}

impl<'a> Call<'a> {
    /// A call that a script has made itself.
    pub(super) fn new(lua: &'a Lua, values: MultiValue) -> Call<'a> {
        Call {
            lua,
            values,
            level: 0,
        }
    }

    /// A call that a Lua function of ours has passed on: names and places are those of that function's call.
    pub(super) fn passed_on(lua: &'a Lua, values: MultiValue) -> Call<'a> {
        Call {
            lua,
            values,
            level: 1,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// The argument with this number, from 1; nil if it was not given.
    pub(super) fn get(&self, number: usize) -> &Value {
        self.values.get(number - 1).unwrap_or(&Value::Nil)
    }

    /// Takes the argument out; nil stays.
    pub(super) fn take(&mut self, number: usize) -> Value {
        self.values
            .get_mut(number - 1)
            .map(|value| std::mem::replace(value, Value::Nil))
            .unwrap_or(Value::Nil)
    }

    /// A string, or a number as one.
    pub(super) fn string(&self, number: usize) -> Result<LuaString> {
        match self.get(number) {
            Value::String(text) => Ok(text.clone()),
            value @ (Value::Integer(_) | Value::Number(_)) => {
                let text = self.lua.coerce_string(value.clone())?;
                text.ok_or_else(|| self.type_error(number, "string"))
            }
            _ => Err(self.type_error(number, "string")),
        }
    }

    /// A number, or a string that reads as one.
    pub(super) fn number(&self, number: usize) -> Result<f64> {
        self.try_number(number)?
            .ok_or_else(|| self.type_error(number, "number"))
    }

    fn try_number(&self, number: usize) -> Result<Option<f64>> {
        match self.get(number) {
            Value::Integer(value) => Ok(Some(*value as f64)),
            Value::Number(value) => Ok(Some(*value)),
            value @ Value::String(_) => self.lua.coerce_number(value.clone()),
            _ => Ok(None),
        }
    }

    /// A number cut to an integer.
    pub(super) fn integer(&self, number: usize) -> Result<i64> {
        self.number(number).map(integer_of)
    }

    /// An integer, or `default` instead of nil or nothing.
    pub(super) fn integer_or(&self, number: usize, default: i64) -> Result<i64> {
        match self.get(number) {
            Value::Nil => Ok(default),
            _ => self.integer(number),
        }
    }

    /// The error that Lua's stack has no slot left for a function, which says what for.
    pub(super) fn stack_overflow(&self, what_for: &str) -> Error {
        self.error(format!("stack overflow ({what_for})"))
    }

    /// A new value, or [`Call::stack_overflow`] if mlua has no more references, of which it has about as many as slots.
    pub(super) fn held<T>(&self, made: Result<T>, what_for: &str) -> Result<T> {
        made.map_err(|error| match error {
            Error::StackError => self.stack_overflow(what_for),
            error => error,
        })
    }

    /// The error that an argument has the wrong type.
    pub(super) fn type_error(&self, number: usize, expected: &str) -> Error {
        let actual = match self.values.get(number - 1) {
            Some(value) => type_name(value),
            None => "no value",
        };
        self.argument_error(number, format!("{expected} expected, got {actual}"))
    }

    /// The error that something is wrong with an argument.
    pub(super) fn argument_error(&self, number: usize, text: impl AsRef<[u8]>) -> Error {
        let called = self.lua.inspect_stack(self.level, |called| {
            let names = called.names();
            let name = names.name.map(|name| name.into_owned());
            (name, names.name_what == Some("method"))
        });
        let (name, is_method) = called.unwrap_or((None, false));
        let name = name.unwrap_or_else(|| "?".to_owned());
        let head = match number.wrapping_sub(usize::from(is_method)) {
            0 if is_method => format!("calling '{name}' on bad self ("),
            number => format!("bad argument #{number} to '{name}' ("),
        };
        self.error([head.as_bytes(), text.as_ref(), b")"].concat())
    }

    /// An error with the place of the call before it.
    pub(super) fn error(&self, text: impl AsRef<[u8]>) -> Error {
        raise::error(self.lua, self.level, text)
    }
}

/// The name of a value's type, as Lua's `type` says it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        _ => "userdata",
    }
}

/// A double as C casts it to a 64-bit integer on x86: what does not fit is the smallest.
pub(super) fn integer_of(value: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if (-END..END).contains(&value) {
        value as i64
    } else {
        i64::MIN
    }
}
