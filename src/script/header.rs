//! The `#!` line of scripts and libraries.
//!
//! Scripts: `#!lua flags=no-writes,allow-oom`; those without the line behave as before Redis 7. Libraries must have it:
//! `#!lua name=mylib`. Words are taken apart as in a configuration file; both readers cut the line at its first NUL, as
//! Redis does.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::plain::is_plain;
use super::{Script, ScriptFlags};
use crate::base::split::split_args;
use crate::table::error::CommandError;

/// The flags by their names.
pub const FLAG_NAMES: [(&str, ScriptFlags); 5] = [
    ("no-writes", ScriptFlags::NO_WRITES),
    ("allow-oom", ScriptFlags::ALLOW_OOM),
    ("allow-stale", ScriptFlags::ALLOW_STALE),
    ("no-cluster", ScriptFlags::NO_CLUSTER),
    ("allow-cross-slot-keys", ScriptFlags::ALLOW_CROSS_SLOT_KEYS),
];

/// The SHA-1 of a text, in lower-case hexadecimal digits.
pub fn sha1_hex(text: &[u8]) -> [u8; 40] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha1::digest(text);
    let mut hex = [0; 40];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}

/// The first line of a text that begins with `#!`, without its line end; none if it has no end.
fn first_line(text: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr2(b'\n', 0, text)?;
    (text[end] == b'\n').then(|| &text[..end])
}

/// Where Lua's part of a text begins: at the end of its `#!` line, so that lines keep their numbers.
pub fn body(text: &[u8]) -> &[u8] {
    match text.starts_with(b"#!") {
        true => &text[first_line(text).map_or(text.len(), <[u8]>::len)..],
        false => text,
    }
}

/// What the `#!` line of a script says.
fn script_flags(text: &[u8]) -> Result<ScriptFlags, CommandError> {
    if !text.starts_with(b"#!") {
        return Ok(ScriptFlags::COMPATIBILITY);
    }
    let line = first_line(text).ok_or(CommandError::fixed("ERR Invalid script shebang"))?;
    let words = split_args(line).unwrap_or_default();
    let Some((engine, options)) = words.split_first() else {
        return Err(CommandError::fixed("ERR Invalid engine in script shebang"));
    };
    if engine != b"#!lua" {
        let before = "Unexpected engine in script shebang: ";
        return Err(CommandError::quoting(before, engine, ""));
    }
    let mut flags = ScriptFlags::empty();
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            let before = "Unknown lua shebang option: ";
            return Err(CommandError::quoting(before, option, ""));
        };
        if !names.is_empty() {
            flags |= flags_of(names)?;
        }
    }
    Ok(flags)
}

fn flags_of(names: &[u8]) -> Result<ScriptFlags, CommandError> {
    let mut flags = ScriptFlags::empty();
    for name in names.split(|byte| *byte == b',') {
        let known = FLAG_NAMES
            .iter()
            .find(|(known, _)| known.as_bytes() == name);
        let Some((_, flag)) = known else {
            let before = "Unexpected flag in script shebang: ";
            return Err(CommandError::quoting(before, name, ""));
        };
        flags |= *flag;
    }
    Ok(flags)
}

impl Script {
    /// Reads the `#!` line, if there is one, and takes the SHA-1 of the text.
    ///
    /// # Errors
    /// The `#!` line names another engine than lua, or flags that do not exist.
    pub fn new(text: Bytes) -> Result<Script, CommandError> {
        Ok(Script {
            flags: script_flags(&text)?,
            sha1: sha1_hex(&text),
            is_plain: is_plain(body(&text)),
            text,
        })
    }
}

/// A library of functions, its header parsed.
#[derive(Clone, Debug)]
pub struct LibraryText {
    /// Its name: letters, digits and underscores.
    pub name: String,
    /// All of its text, the `#!` line included.
    pub text: Bytes,
    version: u64,
}

impl LibraryText {
    /// Reads the header.
    ///
    /// # Errors
    /// Those of FUNCTION LOAD for a header that is missing or wrong.
    pub fn parse(text: Bytes) -> Result<LibraryText, CommandError> {
        static VERSIONS: AtomicU64 = AtomicU64::new(0);
        if !text.starts_with(b"#!") {
            return Err(CommandError::fixed("ERR Missing library metadata"));
        }
        let invalid = || CommandError::fixed("ERR Invalid library metadata");
        let line = first_line(&text).ok_or_else(invalid)?;
        let words = split_args(line).map_err(|_| invalid())?;
        let (engine, options) = words.split_first().ok_or_else(invalid)?;
        let engine = engine.strip_prefix(b"#!").ok_or_else(invalid)?;
        let name = library_name(options)?;
        if !engine.eq_ignore_ascii_case(b"lua") {
            return Err(CommandError::quoting("Engine '", engine, "' not found"));
        }
        // Only uniqueness matters: relaxed.
        let version = VERSIONS.fetch_add(1, Ordering::Relaxed);
        Ok(LibraryText {
            name,
            text,
            version,
        })
    }

    /// The number of this version, never given twice: engines know by it whether they have loaded it.
    pub fn version(&self) -> u64 {
        self.version
    }
}

fn library_name(options: &[Vec<u8>]) -> Result<String, CommandError> {
    let mut name: Option<&[u8]> = None;
    for option in options {
        let is_name = option
            .get(..5)
            .is_some_and(|key| key.eq_ignore_ascii_case(b"name="));
        if is_name && name.is_some() {
            return Err(CommandError::fixed(
                "ERR Invalid metadata value, name argument was given multiple times",
            ));
        }
        if !is_name {
            let before = "Invalid metadata value given: ";
            return Err(CommandError::quoting(before, option, ""));
        }
        name = Some(&option[5..]);
    }
    let name = name.ok_or(CommandError::fixed("ERR Library name was not given"))?;
    checked_name(name).ok_or(CommandError::fixed(WRONG_NAME))
}

/// What Redis says of the name of a library or a function that it does not allow.
pub const WRONG_NAME: &str = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least \
    one character long";

/// A name of letters, digits and underscores.
pub fn checked_name(name: &[u8]) -> Option<String> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if name.is_empty() || !name.iter().all(is_allowed) {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}

/// A function as its library has registered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSpec {
    /// Its name: letters, digits and underscores.
    pub name: String,
    /// What it is for, as its author says.
    pub description: Option<Bytes>,
    /// What it may do.
    pub flags: ScriptFlags,
}
