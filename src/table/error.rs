//! Every refusal a client can get, with its wire text.
//!
//! Texts are Redis's to the byte: clients branch on the first word and on some whole texts. A variant says when it
//! occurs; [`CommandError::text`] is what follows the `-` on the wire.

use std::borrow::Cow;

/// A refusal of one command. The keyspace is unchanged when a handler returns one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The value of a key is of another type than the command works on.
    WrongType,
    /// An option is unknown, misplaced or contradicts another.
    Syntax,
    /// A number does not parse as a 64-bit signed integer.
    NotInteger,
    /// A number does not parse as a finite double.
    NotFloat,
    /// A result would leave the range of 64-bit integers.
    IncrementOverflow,
    /// A result would be NaN or infinite.
    IncrementNan,
    /// The key does not exist where it must.
    NoSuchKey,
    /// An index or offset is out of range.
    IndexOutOfRange,
    /// A string would grow beyond proto-max-bulk-len.
    StringTooLong,
    /// A database number is out of range.
    DatabaseOutOfRange,
    /// A value that must be positive is not.
    NotPositive,
    /// Source and destination are the same.
    SameObject,
    /// An expiry is not positive or overflows; carries the command's name.
    InvalidExpire(&'static str),
    /// Too few or too many arguments; carries the full name of the command (`config|get`).
    Arity(Cow<'static, str>),
    /// Memory is over maxmemory and nothing may be evicted.
    OutOfMemory,
    /// Not authenticated.
    NoAuth,
    /// Any other text, complete with its first word: `ERR ...`.
    Text(Cow<'static, str>),
    /// A text that quotes bytes of the request as they are, complete with its first word.
    Quoting(Vec<u8>),
}

impl CommandError {
    /// A refusal with a fixed text, first word included.
    pub const fn fixed(text: &'static str) -> CommandError {
        CommandError::Text(Cow::Borrowed(text))
    }

    /// A refusal with a composed text, first word included.
    pub fn text_of(text: impl Into<String>) -> CommandError {
        CommandError::Text(Cow::Owned(text.into()))
    }

    /// `ERR `, then `before`, then the client's bytes as far as Redis shows them, then `after`.
    pub fn quoting(before: &str, quoted: &[u8], after: &str) -> CommandError {
        CommandError::Quoting(
            [b"ERR ", before.as_bytes(), shown(quoted), after.as_bytes()].concat(),
        )
    }

    /// The refusal of a container's own syntax check, where its rows let a subcommand and its arguments pass.
    pub fn subcommand_syntax(container: &str, name: &[u8]) -> CommandError {
        let name = shown(name);
        CommandError::quoting(
            "unknown subcommand or wrong number of arguments for '",
            &name[..name.len().min(128)],
            &format!("'. Try {container} HELP."),
        )
    }

    /// What follows the `-` on the wire, byte for byte.
    pub fn wire(&self) -> Cow<'_, [u8]> {
        match self {
            CommandError::Quoting(text) => Cow::Borrowed(text),
            _ => match self.text() {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
        }
    }

    /// The text for people and counters; [`wire`](CommandError::wire) is what clients get. May hold bytes of the request; the reply writer replaces line ends.
    pub fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            CommandError::WrongType => {
                "WRONGTYPE Operation against a key holding the wrong kind of value"
            }
            CommandError::Syntax => "ERR syntax error",
            CommandError::NotInteger => "ERR value is not an integer or out of range",
            CommandError::NotFloat => "ERR value is not a valid float",
            CommandError::IncrementOverflow => "ERR increment or decrement would overflow",
            CommandError::IncrementNan => "ERR increment would produce NaN or Infinity",
            CommandError::NoSuchKey => "ERR no such key",
            CommandError::IndexOutOfRange => "ERR index out of range",
            CommandError::StringTooLong => {
                "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
            }
            CommandError::DatabaseOutOfRange => "ERR DB index is out of range",
            CommandError::NotPositive => "ERR value is out of range, must be positive",
            CommandError::SameObject => "ERR source and destination objects are the same",
            CommandError::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            CommandError::NoAuth => "NOAUTH Authentication required.",
            CommandError::InvalidExpire(command) => {
                return Cow::Owned(format!("ERR invalid expire time in '{command}' command"));
            }
            CommandError::Arity(name) => {
                return Cow::Owned(format!(
                    "ERR wrong number of arguments for '{name}' command"
                ));
            }
            CommandError::Text(text) => return Cow::Borrowed(text),
            CommandError::Quoting(text) => return String::from_utf8_lossy(text),
        })
    }

    /// The first word of the text: what errorstats counts by.
    pub fn prefix(&self) -> String {
        self.text().split(' ').next().unwrap_or("ERR").to_owned()
    }
}

/// The part of an argument that errors show: Redis prints arguments as C strings, which end at a NUL.
pub fn shown(argument: &[u8]) -> &[u8] {
    let end = argument.iter().position(|&byte| byte == 0);
    &argument[..end.unwrap_or(argument.len())]
}
