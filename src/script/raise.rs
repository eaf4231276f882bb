//! Errors inside of Lua: how the engine's functions raise them, where they were raised, and what a client is told.
//!
//! mlua raises an error of a Rust function as an opaque object. Scripts must find what they find in Redis, a string or a
//! table with `err`, so every place that catches (all of them are in the prelude) lets [`Raised::from_value`] translate.
//! The texts of Lua's own errors begin with the place of the caller; as the prelude's functions stand where Lua's stand
//! in Redis, their frames count for nothing.

use std::fmt;

use mlua::{Lua, MultiValue, Value};

use super::lib;
use crate::data::number::format_f64_17;

/// The name under which Lua code of ours is compiled, the one that functions in C have: to scripts it is C.
pub const PRELUDE: &str = "=[C]";

/// What Lua puts before its texts when the prelude called it. Functions in C have no place.
const PRELUDE_PLACE: &[u8] = b"[C]:";

/// How far down the stack the place of an error is looked for.
const SEARCHED_FRAMES: usize = 24;

/// What ends a script whose memory is at its limit.
pub const OUT_OF_MEMORY: &[u8] = b"not enough memory";

/// An error that the engine raises.
#[derive(Clone, Debug)]
pub enum Raised {
    /// A string for scripts.
    Text(Vec<u8>),
    /// A table with `err` for scripts.
    Reply(ErrorReply),
    /// The script was asked to end. It cannot be caught.
    Killed,
    /// A library runs for too long while it is loaded. It cannot be caught.
    LoadTimeout,
}

/// An error as redis.call raises it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// Its text, code first.
    pub text: Vec<u8>,
    /// Whether the server has counted it already.
    pub is_counted: bool,
}

impl ErrorReply {
    /// An error of the engine itself: `ERR` and the text.
    pub fn of(text: &str) -> ErrorReply {
        ErrorReply {
            text: format!("ERR {text}").into_bytes(),
            is_counted: false,
        }
    }

    /// From an error line without its `-`: a code, a blank, a text. Without a blank the line is the text of an `ERR`.
    pub fn from_line(line: &[u8], is_counted: bool) -> ErrorReply {
        let line = c_text(line);
        let (code, text) = match memchr::memchr(b' ', line) {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (b"ERR".as_slice(), line),
        };
        ErrorReply {
            text: [code, b" ", trim_breaks(text)].concat(),
            is_counted,
        }
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raised::Text(text) => write!(f, "{}", text.escape_ascii()),
            Raised::Reply(reply) => write!(f, "{}", reply.text.escape_ascii()),
            Raised::Killed => f.write_str("killed"),
            Raised::LoadTimeout => f.write_str("load timeout"),
        }
    }
}

impl std::error::Error for Raised {}

impl From<Raised> for mlua::Error {
    fn from(raised: Raised) -> Self {
        mlua::Error::external(raised)
    }
}

impl From<ErrorReply> for mlua::Error {
    fn from(reply: ErrorReply) -> Self {
        Raised::Reply(reply).into()
    }
}

impl Raised {
    /// What an error value is that is not Lua's own: none for strings, tables and so on.
    pub fn from_value(value: &Value) -> Option<Raised> {
        match value {
            Value::Error(error) => Some(Raised::from_error(error)),
            _ => None,
        }
    }

    /// What an error of mlua is to a script.
    pub fn from_error(error: &mlua::Error) -> Raised {
        if let Some(raised) = error.downcast_ref::<Raised>() {
            return raised.clone();
        }
        if let Some(raised) = error.downcast_ref::<lib::raise::Raised>() {
            // A function of the prelude in C's stead is no place.
            let text = without_prelude_place(&raised.text).unwrap_or(&raised.text);
            return Raised::Text(text.to_vec());
        }
        match error {
            mlua::Error::CallbackError { cause, .. } => Raised::from_error(cause),
            mlua::Error::MemoryError(_) => Raised::Text(OUT_OF_MEMORY.to_vec()),
            mlua::Error::RuntimeError(text) => Raised::Text(text.clone().into_bytes()),
            mlua::Error::StackError => Raised::Text(b"stack overflow".to_vec()),
            other => Raised::Text(other.to_string().into_bytes()),
        }
    }
}

/// An error with a text that begins with the caller's place, as those of Lua's libraries.
pub fn raise(lua: &Lua, text: &str) -> mlua::Error {
    Raised::Text([&place(lua), text.as_bytes()].concat()).into()
}

/// `bad argument #1 to 'name' (reason)`.
pub fn argument_error(lua: &Lua, position: usize, reason: &str) -> mlua::Error {
    let called = lua.inspect_stack(0, |frame| {
        let names = frame.names();
        let is_method = names.name_what == Some("method");
        (names.name.map(|name| name.into_owned()), is_method)
    });
    let (name, is_method) = called.unwrap_or((None, false));
    let name = name.unwrap_or_else(|| "?".to_owned());
    match position - usize::from(is_method) {
        0 => raise(lua, &format!("calling '{name}' on bad self ({reason})")),
        position => raise(
            lua,
            &format!("bad argument #{position} to '{name}' ({reason})"),
        ),
    }
}

/// `bad argument #1 to 'name' (number expected, got nil)`; positions begin with 1.
pub fn type_error(
    lua: &Lua,
    arguments: &MultiValue,
    position: usize,
    expected: &str,
) -> mlua::Error {
    let got = match arguments.get(position - 1) {
        Some(value) => lua_type_name(value),
        None => "no value",
    };
    argument_error(lua, position, &format!("{expected} expected, got {got}"))
}

/// A number argument as Lua's libraries take it: strings of numbers too.
pub fn number_argument(lua: &Lua, arguments: &MultiValue, position: usize) -> mlua::Result<f64> {
    let number = match arguments.get(position - 1) {
        Some(value @ (Value::Integer(_) | Value::Number(_) | Value::String(_))) => {
            lua.coerce_number(value.clone())?
        }
        _ => None,
    };
    number.ok_or_else(|| type_error(lua, arguments, position, "number"))
}

/// What Lua calls the type of a value.
pub fn lua_type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        Value::LightUserData(_) => "userdata",
        value => value.type_name(),
    }
}

/// A double as C's `int` on this kind of machine: through 64 bits, the upper half dropped.
pub fn to_int(number: f64) -> i32 {
    to_integer(number) as i32
}

/// A double as a 64-bit integer, truncated; the smallest one for all that do not fit, as the x86-64 has it.
pub fn to_integer(number: f64) -> i64 {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if (-BEYOND..BEYOND).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}

/// The bytes of a string, or of a number as Lua prints it; none for other values.
pub fn text_of(lua: &Lua, value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(_) | Value::Number(_) => {
            let text = lua.coerce_string(value.clone()).ok()??;
            Some(text.as_bytes().to_vec())
        }
        _ => None,
    }
}

/// A number as an argument of a command: `%.17g`.
pub fn write_number(out: &mut Vec<u8>, number: f64) {
    if number.is_nan() {
        let text: &[u8] = match number.is_sign_negative() {
            true => b"-nan",
            false => b"nan",
        };
        return out.extend_from_slice(text);
    }
    out.extend_from_slice(&format_f64_17(number));
}

/// The text up to its first NUL: what is left of it where Redis has a C string.
pub fn c_text(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// Without the line ends at both ends.
fn trim_breaks(text: &[u8]) -> &[u8] {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = text.iter().take_while(|byte| is_break(byte)).count();
    let end = text[start..].iter().rev();
    let end = end.take_while(|byte| is_break(byte)).count();
    &text[start..text.len() - end]
}

/// One call in the stack.
struct Frame {
    kind: FrameKind,
    source: String,
    short_source: String,
    line: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    /// A function of the user.
    Lua,
    /// A function of the prelude.
    Prelude,
    /// A function in C or Rust, or one that was left by a tail call.
    Other,
}

fn frame(lua: &Lua, level: usize) -> Option<Frame> {
    lua.inspect_stack(level, |frame| {
        let line = frame.current_line();
        let source = frame.source();
        let text = source.source.map(|source| source.into_owned());
        let text = text.unwrap_or_default();
        Frame {
            kind: match source.what {
                "C" | "tail" => FrameKind::Other,
                _ if text == PRELUDE => FrameKind::Prelude,
                _ => FrameKind::Lua,
            },
            source: text,
            short_source: source.short_src.unwrap_or_default().into_owned(),
            line,
        }
    })
}

/// The first frame from `level` on that is not the prelude's.
fn below_prelude(lua: &Lua, mut level: usize) -> Option<(usize, Frame)> {
    loop {
        let frame = frame(lua, level)?;
        if frame.kind != FrameKind::Prelude {
            return Some((level, frame));
        }
        level += 1;
    }
}

fn place_of(frame: &Frame) -> Vec<u8> {
    match frame.line {
        Some(line) if frame.kind == FrameKind::Lua => {
            format!("{}:{line}: ", frame.short_source).into_bytes()
        }
        _ => Vec::new(),
    }
}

/// `user_script:1: `, the place from which the running engine function was called; empty when that is no Lua code.
pub fn place(lua: &Lua) -> Vec<u8> {
    below_prelude(lua, 1).map_or(Vec::new(), |(_, frame)| place_of(&frame))
}

/// What a client is told of a script that has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The text, code first.
    pub text: Vec<u8>,
    /// The chunk, with the sign that Lua puts before it, and the line.
    pub place: Option<(String, i64)>,
    /// Whether the server has counted the error already.
    pub is_counted: bool,
}

/// Looks at an error where it was raised: runs as Lua's error handler, with the failed function still in the stack.
pub fn examine(lua: &Lua, error: &Value) -> Failure {
    // Level 0 is the handler. A function in C that raises, and the prelude's function that called it, stand for one.
    let raising = frame(lua, 1);
    let is_in_c = raising.is_some_and(|frame| frame.kind == FrameKind::Other);
    let (text, is_counted) = describe(lua, error, 1 + usize::from(is_in_c));
    Failure {
        text,
        place: failed_place(lua, 1 + usize::from(is_in_c)),
        is_counted,
    }
}

/// The error's text with its code, and whether it is counted. `level` is that of the function to blame, or above it.
fn describe(lua: &Lua, error: &Value, level: usize) -> (Vec<u8>, bool) {
    let with_code = |text: &[u8]| [b"ERR ", c_text(text)].concat();
    match Raised::from_value(error) {
        Some(Raised::Text(text)) => return (with_code(&text), false),
        Some(Raised::Reply(reply)) => return (c_text(&reply.text).to_vec(), reply.is_counted),
        Some(Raised::Killed) => {
            return (
                b"ERR Script killed by user with SCRIPT KILL...".to_vec(),
                false,
            );
        }
        Some(Raised::LoadTimeout) => return (b"ERR FUNCTION LOAD timeout".to_vec(), false),
        None => {}
    }
    match error {
        Value::Table(table) => {
            let text = table.raw_get::<Value>("err").ok();
            let text = text.and_then(|text| text_of(lua, &text));
            let counted = table.raw_get::<Value>("ignore_error_stats_update").ok();
            (
                text.map_or(b"ERR unknown error".to_vec(), |text| c_text(&text).to_vec()),
                matches!(counted, Some(Value::Boolean(true))),
            )
        }
        Value::String(text) => {
            let text = text.as_bytes();
            let Some(rest) = without_prelude_place(&text) else {
                return (with_code(&text), false);
            };
            let place = below_prelude(lua, level).map_or(Vec::new(), |(_, frame)| place_of(&frame));
            (with_code(&[&place, rest].concat()), false)
        }
        other => {
            let text = text_of(lua, other);
            let text = text.or_else(|| other.to_string().ok().map(String::into_bytes));
            (with_code(&text.unwrap_or_default()), false)
        }
    }
}

/// The text of one of Lua's errors that names the prelude as its place, without that place.
pub fn without_prelude_place(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(PRELUDE_PLACE)?;
    let at = memchr::memmem::find(rest, b": ")?;
    Some(&rest[at + 2..])
}

fn failed_place(lua: &Lua, level: usize) -> Option<(String, i64)> {
    let (level, found) = below_prelude(lua, level)?;
    if found.kind == FrameKind::Lua {
        return Some((found.source, found.line.map_or(-1, |line| line as i64)));
    }
    // Below the script there are only the engine's own frames, which Redis does not have.
    let is_script_below = (level..level + SEARCHED_FRAMES)
        .map_while(|level| frame(lua, level))
        .any(|frame| frame.kind == FrameKind::Lua);
    is_script_below.then_some((found.source, -1))
}
