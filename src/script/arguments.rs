//! The arguments of redis.call, from Lua's stack straight into the form that commands take.
//!
//! mlua converts a callback's arguments one after the other, in order, by way of their types. [`First`] and [`Next`] do not
//! keep what they are given but append it to the request of this thread, so that no argument holds one of mlua's
//! references (of which there are 8,000), and none is copied twice. Those beyond the eighth, which few calls have, come
//! as [`MultiValue`].

use std::cell::RefCell;

use mlua::{FromLua, Lua, LuaString, MultiValue, Value};

use super::raise::{ErrorReply, write_number};
use crate::resp::decode::OwnedArguments;

thread_local! {
    static REQUEST: RefCell<Request> = RefCell::default();
}

/// A request as far as it is gathered.
#[derive(Default)]
struct Request {
    arguments: Box<OwnedArguments>,
    /// The storage for the next request while this one's is in use.
    spare: Option<Box<OwnedArguments>>,
    names: Names,
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

    /// Adds the name of the command.
    fn add_name(&mut self, value: Value) {
        let Value::String(text) = value else {
            return self.add(&value);
        };
        self.count += 1;
        let address = text.to_pointer().addr();
        if let Some(known) = self.names.known(address) {
            self.room_bytes = self.room_bytes.saturating_sub(known.len());
            return self.arguments.push(known);
        }
        let bytes = text.as_bytes();
        self.add_text(&bytes);
        let name = Name::of(&bytes);
        drop(bytes);
        if let Some((bytes, len)) = name {
            self.names.all[Names::place(address)] = Some(Name {
                address,
                _text: text,
                bytes,
                len,
            });
        }
    }

    fn add_number(&mut self, value: f64) {
        self.number.clear();
        write_number(&mut self.number, value);
        self.arguments.push(&self.number);
    }
}

/// Names of commands that the machine's scripts have used lately. A script has its names as constants, and Lua has each
/// string once: the string's address tells what it is, as long as it is kept from the collector. To look at its bytes costs
/// more, since mlua counts who looks.
struct Names {
    /// The number of the machine.
    machine: u64,
    all: [Option<Name>; KNOWN_NAMES],
}

impl Default for Names {
    fn default() -> Names {
        Names::of(0)
    }
}

/// Strings of one length lie about as far apart as they are long, so few of them fall on one place.
const KNOWN_NAMES: usize = 64;

/// The longest name that is kept.
const NAME_BYTES: usize = 32;

struct Name {
    address: usize,
    /// Keeps the string from the collector.
    _text: LuaString,
    bytes: [u8; NAME_BYTES],
    len: usize,
}

impl Names {
    fn of(machine: u64) -> Names {
        let all = [const { None }; KNOWN_NAMES];
        Names { machine, all }
    }

    fn place(address: usize) -> usize {
        address / 32 % KNOWN_NAMES
    }

    fn known(&self, address: usize) -> Option<&[u8]> {
        let name = self.all[Names::place(address)].as_ref()?;
        (name.address == address).then(|| &name.bytes[..name.len])
    }
}

impl Name {
    fn of(text: &[u8]) -> Option<([u8; NAME_BYTES], usize)> {
        let mut bytes = [0; NAME_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some((bytes, text.len()))
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
            request.add_name(value);
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
pub fn take_request(gathered: &Gathered) -> Result<Box<OwnedArguments>, ErrorReply> {
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
        let next = request.spare.take().unwrap_or_default();
        Ok(std::mem::replace(&mut request.arguments, next))
    })
}

/// Before a script runs on this thread: in which machine, by its number, and how long its requests may be: as long as its
/// memory allows, though its arguments may name one long string thousands of times.
pub fn begin_requests(machine: u64, max_bytes: usize) {
    REQUEST.with_borrow_mut(|request| {
        request.max_bytes = max_bytes;
        if request.names.machine != machine {
            request.names = Names::of(machine);
        }
    });
}

/// Returns the storage of a request for the next one, unless it is large.
pub fn give_back(arguments: Box<OwnedArguments>) {
    if arguments.memory_bytes() <= KEPT_BYTES {
        REQUEST.with_borrow_mut(|request| request.spare = Some(arguments));
    }
}

const KEPT_BYTES: usize = 64 * 1024;
