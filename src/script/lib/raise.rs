//! Errors as the libraries of Lua raise them: strings that begin with the place of the caller.
//!
//! mlua hands the error of a Rust function to Lua as a userdatum, which a script would see in `pcall`. So the functions of
//! the libraries raise a [`Raised`], which knows the string that C code would have raised, and whoever stops an error on its
//! way, the engine's prelude, gives the script that string.
//!
//! The other way, a Lua function around each Rust function that calls `error`, was rejected: `return cjson.decode(x)` is a
//! tail call of such a wrapper, and the place of the error, which belongs to its text, is gone by then. A call of a C
//! function, which a Rust function is to Lua, always leaves its caller on the stack.

use std::fmt;

use mlua::{Error, Lua};

/// The error of a library function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// What the script sees, its place before it.
    pub text: Vec<u8>,
    /// Who called the function: the source of its chunk, such as `@user_script`, and the line.
    pub place: Option<Place>,
}

/// A line of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The chunk, as it was named to the compiler: `@user_script`.
    pub source: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

impl std::error::Error for Raised {}

/// An error with this text, the place of the caller before it. `level` is that of the raising function on the stack of
/// calls: 0 in a function that scripts call themselves, 1 in one that they reach through a Lua function of ours.
pub fn error(lua: &Lua, level: usize, text: impl AsRef<[u8]>) -> Error {
    let caller = lua.inspect_stack(level + 1, |caller| {
        let line = caller.current_line().filter(|line| *line > 0)?;
        let names = caller.source();
        let short = names.short_src.unwrap_or_default().into_owned();
        let source = names.source.unwrap_or_default().into_owned();
        Some((short, Place { source, line }))
    });
    let (mut message, place) = match caller.flatten() {
        Some((short, place)) => (
            format!("{short}:{}: ", place.line).into_bytes(),
            Some(place),
        ),
        None => (Vec::new(), None),
    };
    message.extend_from_slice(text.as_ref());
    Error::external(Raised {
        text: message,
        place,
    })
}

/// An error with this text and no place: what the machine itself raises.
pub fn bare(text: &str) -> Error {
    Error::external(Raised {
        text: text.as_bytes().to_vec(),
        place: None,
    })
}

/// What Lua raises when it has no memory left.
pub fn out_of_memory() -> Error {
    bare(OUT_OF_MEMORY)
}

const OUT_OF_MEMORY: &str = "not enough memory";

/// The text of an error without mlua's trace.
pub fn text_of(error: &Error) -> Vec<u8> {
    match error {
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => text_of(cause),
        Error::MemoryError(_) => OUT_OF_MEMORY.as_bytes().to_vec(),
        Error::StackError => b"stack overflow".to_vec(),
        Error::RuntimeError(text) => text.as_bytes().to_vec(),
        other => match other.downcast_ref::<Raised>() {
            Some(raised) => raised.text.clone(),
            None => other.to_string().into_bytes(),
        },
    }
}
