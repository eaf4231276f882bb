//! One Lua 5.1 machine: it compiles scripts and libraries, keeps them, and runs them.
//!
//! ```text
//!     eval -> compiled before? -> KEYS and ARGV as tables -> prelude: xpcall(script) -> result as a reply
//!                                                              | redis.call
//!                                                              v
//!                                    api -> Host -> the bytes of a reply -> Lua values
//! ```
//!
//! Limits. Memory: an allocation beyond the limit fails inside of Lua ("not enough memory"), which ends the script unless it
//! catches that. Time: a hook every thousand instructions looks for SCRIPT KILL and breathes. Compiled scripts: 512, of
//! together 8 MiB of text; libraries: 256; the least recently used is dropped and compiled again when it is needed.
//!
//! mlua keeps the Lua values that Rust holds in a stack of 8,000 slots, which redis.call needs for its arguments. Compiled
//! scripts therefore lie in a Lua table, not in Rust.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mlua::{Either, Function, IntoLua, Lua, Table, Value, Variadic};

pub use super::header::{FunctionSpec, LibraryText};

use super::api::{HOST, Loading, Shared};
use super::arguments::begin_requests;
use super::globals::{Prelude, machine};
use super::header::body;
use super::lib;
use super::raise::{ErrorReply, Failure, OUT_OF_MEMORY, Raised, c_text, text_of};
use super::to_lua::text_value;
use super::to_reply::{Conversion, TooLong, error_of, one_line};
use super::{Host, Interrupt, Script, ScriptName};
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::error::CommandError;

/// How an engine is built.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// The most its Lua values may take, in bytes. A machine without scripts takes about 100 KiB.
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

/// A Lua machine. It belongs to one thread.
pub struct Engine {
    /// No other machine of the process has it, nor had it.
    number: u64,
    prelude: Prelude,
    json: Option<lib::cjson::Global>,
    /// Compiled scripts and the functions of libraries, by slot.
    kept: Table,
    lua: Lua,
    shared: Rc<Shared>,
    scripts: Cache<ScriptName>,
    libraries: Cache<u64>,
    slots: Slots,
    /// With more memory in use after a run the collector goes through all of it.
    collect_above: usize,
    is_error_counted: bool,
    is_spoiled: bool,
}

/// How many there were in this process.
static MACHINES: AtomicU64 = AtomicU64::new(0);

/// The most scripts that are kept compiled, and the most text of theirs.
const MAX_SCRIPTS: usize = 512;
const MAX_SCRIPT_BYTES: usize = 8 * 1024 * 1024;

/// The most libraries that are kept loaded.
const MAX_LIBRARIES: usize = 256;
const MAX_LIBRARY_BYTES: usize = 64 * 1024 * 1024;

/// Garbage of up to this much is left to Lua's own collector, which works while scripts allocate.
const COLLECT_ABOVE: usize = 4 * 1024 * 1024;

/// Texts from this length on take long enough to compile that others are let through first.
const LONG_TEXT: usize = 32 * 1024;

/// More arguments than these come to Lua as a table.
const FEW_VALUES: usize = 16;

/// The slot of a script that is too long to be kept.
const UNKEPT: usize = 0;

/// What a Lua string takes beside its bytes, with its place in a table.
const ARGUMENT_BYTES: usize = 64;

impl Engine {
    /// A machine with nothing compiled in it.
    ///
    /// # Panics
    /// There is no memory for it.
    pub fn new(options: EngineOptions) -> Engine {
        let shared = Rc::new(Shared::new(options.memory_limit, options.breathe));
        let built = machine(&shared, options.redis_version);
        let (lua, prelude, kept) = built.expect("the prelude is sound, without a limit of memory");
        Engine {
            number: MACHINES.fetch_add(1, Ordering::Relaxed) + 1,
            json: lib::cjson::Global::of(&lua),
            prelude,
            kept,
            lua,
            shared,
            scripts: Cache::new(MAX_SCRIPTS, MAX_SCRIPT_BYTES),
            libraries: Cache::new(MAX_LIBRARIES, MAX_LIBRARY_BYTES),
            slots: Slots::default(),
            collect_above: COLLECT_ABOVE.min(options.memory_limit / 2),
            is_error_counted: false,
            is_spoiled: false,
        }
    }

    /// Runs a script and writes its result.
    ///
    /// # Errors
    /// The script does not compile, has failed, was killed, or returned an error. Nothing is written then.
    pub fn eval(
        &mut self,
        script: &Script,
        keys: Arguments<'_>,
        values: Arguments<'_>,
        run: ScriptRun<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        self.is_error_counted = false;
        let slot = self.script(script)?;
        let called = Called::Script(script);
        let done = self.run(called, slot, (keys, values), run, reply);
        self.forget_unkept(slot);
        done
    }

    /// Compiles a script and keeps it.
    ///
    /// # Errors
    /// The text is no Lua.
    pub fn compile(&mut self, script: &Script) -> Result<(), CommandError> {
        self.script(script).map(|slot| self.forget_unkept(slot))
    }

    fn forget_unkept(&mut self, slot: usize) {
        if slot == UNKEPT {
            self.is_spoiled |= self.kept.raw_set(slot, Value::Nil).is_err();
        }
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
        self.is_error_counted = false;
        let compiled = self.compile_text(&library.text, CompiledAs::Library);
        let code = compiled.map_err(|reason| failed("ERR Error compiling function: ", &reason))?;
        let loaded = self.run_library(code, run);
        let loaded = loaded.unwrap_or_else(|error| Err(self.fault(&error)));
        self.clean_up();
        let loading = loaded.map_err(|text| failed("ERR Error registering functions: ", &text))?;
        if loading.specs.is_empty() {
            return Err(CommandError::fixed("ERR No functions registered"));
        }
        let bytes = library.text.len();
        if let Some(slot) = self.libraries.remove(&library.version()) {
            self.slots.free.push(slot);
        }
        let functions = Value::Table(loading.functions);
        self.keep(
            functions,
            |engine| &mut engine.libraries,
            library.version(),
            bytes,
        )
        .map_err(|error| failed("ERR Error registering functions: ERR ", &self.fault(&error)))?;
        Ok(loading.specs)
    }

    /// Runs a function and writes its result; its library is loaded first, if this engine does not have this version of it.
    ///
    /// # Errors
    /// There is no such function, it has failed, was killed, or returned an error. Nothing is written then.
    pub fn call_function(
        &mut self,
        library: &LibraryText,
        name: &str,
        keys: Arguments<'_>,
        values: Arguments<'_>,
        run: ScriptRun<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        self.is_error_counted = false;
        let ScriptRun { host, interrupt } = run;
        if self.libraries.get(&library.version()).is_none() {
            let host = &mut *host;
            self.load_library(library, ScriptRun { host, interrupt })?;
        }
        let slot = self.libraries.get(&library.version());
        let slot = slot.ok_or(NO_FUNCTION)?;
        let run = ScriptRun { host, interrupt };
        self.run(Called::Function(name), slot, (keys, values), run, reply)
    }

    /// Forgets all compiled scripts and libraries.
    pub fn flush(&mut self) {
        self.scripts.clear();
        self.libraries.clear();
        self.slots = Slots::default();
        self.is_spoiled |= self.kept.clear().is_err();
        self.collect();
    }

    /// The memory of all its Lua values, in bytes.
    pub fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// Whether the engine should not be used again: what scripts and libraries have left behind leaves too little of its
    /// memory, or it has failed itself.
    pub fn is_spoiled(&self) -> bool {
        self.is_spoiled
    }

    /// Whether the error that the last run ended with is one that [`Host::call`] has written: it is counted already.
    pub fn is_error_counted(&self) -> bool {
        self.is_error_counted
    }

    /// The slot of the compiled script.
    fn script(&mut self, script: &Script) -> Result<usize, CommandError> {
        let name = ScriptName(script.sha1);
        if let Some(slot) = self.scripts.get(&name) {
            return Ok(slot);
        }
        let compiled = self.compile_text(&script.text, CompiledAs::Script);
        let context = "ERR Error compiling script (new function): ";
        let function = compiled.map_err(|reason| failed(context, &reason))?;
        let bytes = script.text.len();
        let value = Value::Function(function);
        let kept = if bytes <= MAX_SCRIPT_BYTES {
            self.keep(value, |engine| &mut engine.scripts, name, bytes)
        } else {
            self.kept.raw_set(UNKEPT, value).map(|()| UNKEPT)
        };
        kept.map_err(|error| failed(context, &self.fault(&error)))
    }

    fn compile_text(&self, text: &[u8], kind: CompiledAs) -> Result<Function, Vec<u8>> {
        if text.len() >= LONG_TEXT {
            self.shared.breathe();
        }
        let (compiler, name) = match kind {
            CompiledAs::Script => (&self.prelude.compile_script, "@user_script"),
            CompiledAs::Library => (&self.prelude.compile_library, "@user_function"),
        };
        let compiled = self.limited(|| {
            let text = self.lua.create_string(body(text))?;
            compiler.call::<(Option<Function>, Value)>((text, name))
        });
        match compiled {
            Ok((Some(function), _)) => Ok(function),
            Ok((None, reason)) => Err(text_of(&self.lua, &reason).unwrap_or_default()),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Puts a value into a slot, which it returns, and notes that in the cache, which may push others out.
    fn keep<K: Hash + Eq + Copy>(
        &mut self,
        value: Value,
        cache: impl Fn(&mut Engine) -> &mut Cache<K>,
        key: K,
        bytes: usize,
    ) -> mlua::Result<usize> {
        while let Some(slot) = cache(self).push_out(bytes) {
            self.kept.raw_set(slot, Value::Nil)?;
            self.slots.free.push(slot);
        }
        let slot = self.slots.take();
        self.kept.raw_set(slot, value)?;
        cache(self).insert(key, slot, bytes);
        Ok(slot)
    }

    /// Runs what is compiled in a slot and writes its result.
    fn run(
        &mut self,
        called: Called<'_>,
        slot: usize,
        arguments: (Arguments<'_>, Arguments<'_>),
        run: ScriptRun<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        self.shared.begin(run.interrupt);
        begin_requests(self.number, self.shared.memory_limit);
        // Other threads have other machines: what a script chose would hold for some of the next ones.
        if let Some(json) = &self.json {
            json.reset();
        }
        let ran = HOST.set(run.host, || self.call(called, slot, arguments));
        let failure = self.shared.failure.borrow_mut().take();
        let written = match ran {
            Ok((None, _)) => Err(NO_FUNCTION),
            Ok((Some(true), value)) => match error_of(&value) {
                Some((text, is_counted)) => {
                    self.is_error_counted = is_counted;
                    Err(CommandError::Quoting(text))
                }
                None => self.write(value, called, reply),
            },
            Ok((Some(false), reason)) => match failure {
                Some(failure) => Err(self.failed(called, failure)),
                None => Err(called.broken(&text_of(&self.lua, &reason).unwrap_or_default())),
            },
            // A killed script ends the prelude's function around it, too.
            Err(error) => match failure {
                Some(failure) => Err(self.failed(called, failure)),
                None => Err(called.broken(&self.fault(&error))),
            },
        };
        self.clean_up();
        written
    }

    /// Calls the prelude, which calls what is compiled in a slot. Whether that succeeded, and its result; `None`: there is
    /// no such function.
    fn call(
        &self,
        called: Called<'_>,
        slot: usize,
        (keys, values): (Arguments<'_>, Arguments<'_>),
    ) -> mlua::Result<(Option<bool>, Value)> {
        let bytes: usize = keys.iter().chain(values.iter()).map(<[u8]>::len).sum();
        let bytes = bytes + (keys.len() + values.len()) * ARGUMENT_BYTES;
        if self.lua.used_memory() + bytes > self.shared.memory_limit {
            return Err(mlua::Error::MemoryError(String::new()));
        }
        let (name, one) = match called {
            Called::Script(script) if script.is_plain => (None, &self.prelude.run_plain),
            Called::Script(_) => (None, &self.prelude.run_one),
            Called::Function(name) => (Some(name), &self.prelude.run_one),
        };
        // The limit of memory holds from the last argument on: below one mlua guards each string by a protected call.
        let limit = Limit(self.shared.memory_limit);
        let result = match (name, keys.len(), values.len()) {
            (None, 1, 0..=2) => call_one(one, slot, &keys[0], values, limit),
            (_, count, 0..=FEW_VALUES) if count < self.prelude.run_few.len() => {
                let all = keys.iter().chain(values.iter());
                let all = all.map(|text| Either::Left(text_value(text)));
                let all: Variadic<_> = all.chain([Either::Right(limit)]).collect();
                self.prelude.run_few[count].call((slot, name, all))
            }
            _ => {
                let table =
                    |all: Arguments<'_>| self.lua.create_sequence_from(all.iter().map(text_value));
                let (keys, values) = (table(keys)?, table(values)?);
                self.prelude.run.call((slot, name, keys, values, limit))
            }
        };
        self.lua.set_memory_limit(0)?;
        result
    }

    /// Writes a result, or nothing if it is too long.
    fn write(
        &self,
        value: Value,
        called: Called<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let mark = reply.mark();
        let conversion = Conversion {
            script_protocol: self.shared.protocol.get(),
            next: &self.prelude.next,
            max_bytes: self.shared.memory_limit,
        };
        conversion.write(value, reply).map_err(|TooLong| {
            reply.truncate(mark);
            called.broken(OUT_OF_MEMORY)
        })
    }

    fn failed(&mut self, called: Called<'_>, failure: Failure) -> CommandError {
        self.is_error_counted = failure.is_counted;
        called.failure(failure)
    }

    /// Runs the code of a library. The error is what it failed with, code first.
    fn run_library(
        &self,
        code: Function,
        run: ScriptRun<'_>,
    ) -> mlua::Result<Result<Loading, Vec<u8>>> {
        self.shared.begin(run.interrupt);
        *self.shared.loading.borrow_mut() = Some(Loading::begin(self.lua.create_table()?));
        let ran = HOST.set(run.host, || {
            self.limited(|| self.prelude.run_library.call::<bool>(code))
        });
        let loading = self.shared.loading.borrow_mut().take();
        let failure = self.shared.failure.borrow_mut().take();
        Ok(match (ran, loading, failure) {
            (Ok(true), Some(loading), _) => Ok(loading),
            (_, _, Some(failure)) => Err(failure.text),
            (Err(error), _, None) => return Err(error),
            _ => Err(ErrorReply::of("not enough memory").text),
        })
    }

    /// Runs Lua code under the limit of memory.
    fn limited<T>(&self, run: impl FnOnce() -> mlua::Result<T>) -> mlua::Result<T> {
        self.lua.set_memory_limit(self.shared.memory_limit)?;
        let result = run();
        self.lua.set_memory_limit(0)?;
        result
    }

    /// The text of an error that has left Lua.
    fn fault(&self, error: &mlua::Error) -> Vec<u8> {
        match Raised::from_error(error) {
            Raised::Text(text) => text,
            Raised::Reply(reply) => reply.text,
            raised => raised.to_string().into_bytes(),
        }
    }

    /// After a run: the hook is the ordinary one again, and what a large run has left is collected.
    fn clean_up(&mut self) {
        if self.shared.end() && self.shared.set_hook(&self.lua).is_err() {
            self.is_spoiled = true;
        }
        if self.lua.used_memory() > self.collect_above {
            self.collect();
        }
    }

    fn collect(&mut self) {
        let forgotten = self.prelude.forget_run.call::<()>(());
        if forgotten.and_then(|()| self.lua.gc_collect()).is_err() {
            self.is_spoiled = true;
        }
        let used = self.lua.used_memory();
        let limit = self.shared.memory_limit;
        self.collect_above = (used * 2).max(COLLECT_ABOVE).min(limit / 2);
        self.is_spoiled |= used > limit / 2;
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("used_memory", &self.used_memory())
            .field("scripts", &self.scripts.entries.len())
            .field("libraries", &self.libraries.entries.len())
            .finish_non_exhaustive()
    }
}

/// Calls a script with one key and up to two arguments, by the function for their number: nothing is allocated on the way.
fn call_one(
    [none, one, two]: &[Function; 3],
    slot: usize,
    key: &[u8],
    values: Arguments<'_>,
    limit: Limit,
) -> mlua::Result<(Option<bool>, Value)> {
    let key = text_value(key);
    match (values.get(0), values.get(1)) {
        (None, _) => none.call((slot, key, limit)),
        (Some(a), None) => one.call((slot, key, text_value(a), limit)),
        (Some(a), Some(b)) => two.call((slot, key, text_value(a), text_value(b), limit)),
    }
}

enum CompiledAs {
    Script,
    Library,
}

/// What is called, by the name that errors give it.
#[derive(Clone, Copy)]
enum Called<'a> {
    Script(&'a Script),
    Function(&'a str),
}

impl Called<'_> {
    fn name(&self) -> &[u8] {
        match self {
            Called::Script(script) => &script.sha1[..],
            Called::Function(name) => name.as_bytes(),
        }
    }

    /// The error of a script that has failed in Lua.
    fn failure(&self, failure: Failure) -> CommandError {
        let mut text = failure.text;
        if let Some((source, line)) = failure.place {
            text.extend_from_slice(b" script: ");
            text.extend_from_slice(self.name());
            text.extend_from_slice(format!(", on {source}:{line}.").as_bytes());
        }
        CommandError::Quoting(one_line(&text))
    }

    /// The error of a script that could not be run, or that not even its error handler could look at.
    fn broken(&self, reason: &[u8]) -> CommandError {
        let reason = &reason[..reason.len().min(100)];
        let text = [b"ERR Error running script ", self.name(), b", ", reason].concat();
        CommandError::Quoting(one_line(&text))
    }
}

fn failed(context: &str, reason: &[u8]) -> CommandError {
    CommandError::Quoting(one_line(&[context.as_bytes(), c_text(reason)].concat()))
}

const NO_FUNCTION: CommandError = CommandError::fixed("ERR Function not found");

/// Nothing in Lua. The limit of memory holds when it has come there.
struct Limit(usize);

impl IntoLua for Limit {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.set_memory_limit(self.0)?;
        Ok(Value::Nil)
    }
}

/// Numbers of places in the table of what is kept, from 1 on.
#[derive(Debug, Default)]
struct Slots {
    last: usize,
    free: Vec<usize>,
}

impl Slots {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }
}

/// Which slots are in use, for what, and since when.
#[derive(Debug)]
struct Cache<K> {
    entries: HashMap<K, Entry, BuildHasherDefault<ShortHash>>,
    max_entries: usize,
    max_bytes: usize,
    bytes: usize,
    /// Counts uses: the clock by which the least recent one is known.
    uses: u64,
}

/// A hash of a few words. It is not keyed: the few hundred entries of a [`Cache`] are soon searched whatever they are.
#[derive(Default)]
struct ShortHash(u64);

impl Hasher for ShortHash {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[derive(Debug)]
struct Entry {
    slot: usize,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Copy> Cache<K> {
    fn new(max_entries: usize, max_bytes: usize) -> Cache<K> {
        Cache {
            entries: HashMap::default(),
            max_entries,
            max_bytes,
            bytes: 0,
            uses: 0,
        }
    }

    fn get(&mut self, key: &K) -> Option<usize> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        Some(entry.slot)
    }

    /// Takes the least recently used entry out if there is no room for another one of `bytes`, and returns its slot.
    fn push_out(&mut self, bytes: usize) -> Option<usize> {
        if self.entries.len() < self.max_entries && self.bytes + bytes <= self.max_bytes {
            return None;
        }
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
        let key = *oldest?.0;
        self.remove(&key)
    }

    fn insert(&mut self, key: K, slot: usize, bytes: usize) {
        let used = self.uses;
        self.bytes += bytes;
        self.entries.insert(key, Entry { slot, bytes, used });
    }

    fn remove(&mut self, key: &K) -> Option<usize> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        Some(entry.slot)
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}
