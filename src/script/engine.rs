//! One Lua 5.1 machine: it compiles scripts and libraries, keeps them, and runs them.

use std::sync::Arc;

use bytes::Bytes;

use super::{Host, Interrupt, Script, ScriptFlags};
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::error::CommandError;

/// How an engine is built.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// The most its Lua values may take, in bytes.
    pub memory_limit: usize,
    /// Called about every millisecond that a script has run, after the first: dispatch gives the worker away there.
    pub breathe: fn(),
    /// What redis.REDIS_VERSION says: three numbers with dots.
    pub redis_version: &'static str,
}

/// What a run needs of its surroundings.
pub struct ScriptRun<'a> {
    /// The server.
    pub host: &'a mut dyn Host,
    /// How the run can be ended from outside.
    pub interrupt: &'a Arc<Interrupt>,
}

/// A library of functions, its header parsed.
#[derive(Clone, Debug)]
pub struct LibraryText {
    /// Its name: letters, digits and underscores.
    pub name: String,
    /// All of its text, the `#!` line included.
    pub text: Bytes,
    /// Differs between any two calls of `parse`: engines know by it whether they have this version.
    version: u64,
}

impl LibraryText {
    /// Reads the header, `#!lua name=...`.
    ///
    /// # Errors
    /// Those of FUNCTION LOAD for a header that is missing or wrong.
    pub fn parse(text: Bytes) -> Result<LibraryText, CommandError> {
        let _ = text;
        Err(not_yet())
    }

    /// The number of this version, never given twice.
    pub fn version(&self) -> u64 {
        self.version
    }
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

/// A Lua machine. It belongs to one thread.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
}

impl Engine {
    /// A machine with nothing compiled in it.
    pub fn new(options: EngineOptions) -> Engine {
        Engine { options }
    }

    /// Runs a script and writes its result. An error is returned, then nothing is written.
    pub fn eval(
        &mut self,
        script: &Script,
        keys: Arguments<'_>,
        values: Arguments<'_>,
        run: ScriptRun<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let _ = (script, keys, values, run, reply);
        Err(not_yet())
    }

    /// Compiles a script and keeps it.
    ///
    /// # Errors
    /// The text is no Lua.
    pub fn compile(&mut self, script: &Script) -> Result<(), CommandError> {
        let _ = script;
        Err(not_yet())
    }

    /// Runs a library's code, which registers its functions, and keeps them. Returns them in the order of registration.
    ///
    /// # Errors
    /// Those of FUNCTION LOAD: then nothing is kept.
    pub fn load_library(
        &mut self,
        library: &LibraryText,
        run: ScriptRun<'_>,
    ) -> Result<Vec<FunctionSpec>, CommandError> {
        let _ = (library, run);
        Err(not_yet())
    }

    /// Runs a function; its library is loaded first, if this engine does not have this version of it.
    pub fn call_function(
        &mut self,
        library: &LibraryText,
        name: &str,
        keys: Arguments<'_>,
        values: Arguments<'_>,
        run: ScriptRun<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let _ = (library, name, keys, values, run, reply);
        Err(not_yet())
    }

    /// Forgets all compiled scripts and libraries.
    pub fn flush(&mut self) {}

    /// The memory of all its Lua values, in bytes.
    pub fn used_memory(&self) -> usize {
        self.options.memory_limit.min(0)
    }

    /// Whether the engine must not be used again: it has met its memory limit outside of a script.
    pub fn is_spoiled(&self) -> bool {
        false
    }
}

fn not_yet() -> CommandError {
    CommandError::fixed("ERR the Lua engine is not built yet")
}
