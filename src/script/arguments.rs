//! The arguments of redis.call, from Lua's stack straight into the form that commands take.
//!
//! mlua converts a callback's arguments one after the other, in order, by way of their types. [`First`] and [`Next`] do not
//! keep what they are given but append it to the request of this thread, so that no argument holds one of mlua's
//! references (of which there are 8,000), and none is copied twice. Those beyond the eighth, which few calls have, come
//! as [`MultiValue`].

use std::cell::RefCell;

use mlua::{FromLua, Lua, MultiValue, Value};

use super::raise::{ErrorReply, write_number};
use crate::resp::decode::OwnedArguments;

thread_local! {
    static REQUEST: RefCell<Request> = RefCell::default();
}

/// A request as far as it is gathered.
#[derive(Default)]
struct Request {
    arguments: OwnedArguments,
    count: usize,
    /// One of the arguments is neither a string nor a number.
    is_wrong: bool,
    /// How much more it may hold.
    room_bytes: usize,
    /// How much any may hold.
    max_bytes: usize,
    is_too_large: bool,
    number: Vec<u8>,
}

impl Request {
    fn begin(&mut self) {
        self.arguments.clear();
        self.count = 0;
        self.is_wrong = false;
        self.is_too_large = false;
        self.room_bytes = self.max_bytes;
    }

    fn add_text(&mut self, text: &[u8]) {
        match self.room_bytes.checked_sub(text.len()) {
            Some(room_bytes) => {
                self.room_bytes = room_bytes;
                self.arguments.push(text);
            }
            None => self.is_too_large = true,
        }
    }

    fn add(&mut self, value: &Value) {
        self.count += 1;
        match value {
            Value::String(text) => self.add_text(&text.as_bytes()),
            // %.17g prints as many digits in full.
            Value::Integer(value) if value.unsigned_abs() < 100_000_000_000_000_000 => {
                let mut digits = itoa::Buffer::new();
                self.arguments.push(digits.format(*value).as_bytes());
            }
            Value::Integer(value) => self.add_number(*value as f64),
            Value::Number(value) => self.add_number(*value),
            _ => self.is_wrong = true,
        }
    }

    fn add_number(&mut self, value: f64) {
        self.number.clear();
        write_number(&mut self.number, value);
        self.arguments.push(&self.number);
    }
}

/// The first argument: it begins a request.
pub struct First;

/// Another argument.
pub struct Next;

impl FromLua for First {
    fn from_lua(value: Value, _lua: &Lua) -> mlua::Result<Self> {
        REQUEST.with_borrow_mut(|request| {
            request.begin();
            request.add(&value);
        });
        Ok(First)
    }

    // Called for what is not there, and only for that.
    fn from_lua_arg(_: Value, _: usize, _: Option<&str>, _: &Lua) -> mlua::Result<Self> {
        REQUEST.with_borrow_mut(Request::begin);
        Ok(First)
    }
}

impl FromLua for Next {
    fn from_lua(value: Value, _lua: &Lua) -> mlua::Result<Self> {
        REQUEST.with_borrow_mut(|request| request.add(&value));
        Ok(Next)
    }

    fn from_lua_arg(_: Value, _: usize, _: Option<&str>, _: &Lua) -> mlua::Result<Self> {
        Ok(Next)
    }
}

/// The types of all arguments of a call.
pub type Gathered = (First, Next, Next, Next, Next, Next, Next, Next, MultiValue);

/// The request that the arguments make. Its storage comes back with [`give_back`].
///
/// # Errors
/// There are none, some are neither strings nor numbers, or they are too long together.
pub fn take_request(gathered: &Gathered) -> Result<OwnedArguments, ErrorReply> {
    REQUEST.with_borrow_mut(|request| {
        gathered.8.iter().for_each(|value| request.add(value));
        if request.count == 0 {
            let text = "Please specify at least one argument for this redis lib call";
            return Err(ErrorReply::of(text));
        }
        if request.is_wrong {
            let text = "Lua redis lib command arguments must be strings or integers";
            return Err(ErrorReply::of(text));
        }
        if request.is_too_large {
            return Err(ErrorReply::of(
                "the arguments of a redis lib call are too long",
            ));
        }
        Ok(std::mem::take(&mut request.arguments))
    })
}

/// How long the requests of the script may be that runs next on this thread: as long as its memory allows, though its
/// arguments may name one long string thousands of times.
pub fn limit_requests(max_bytes: usize) {
    REQUEST.with_borrow_mut(|request| request.max_bytes = max_bytes);
}

/// Returns the storage of a request for the next one, unless it is large.
pub fn give_back(arguments: OwnedArguments) {
    if arguments.memory_bytes() <= KEPT_BYTES {
        REQUEST.with_borrow_mut(|request| request.arguments = arguments);
    }
}

const KEPT_BYTES: usize = 64 * 1024;
