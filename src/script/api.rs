//! `redis`, as scripts, functions and libraries being loaded find it; math.random; and what the prelude asks of Rust.
//!
//! The functions live as long as their Lua machine, the server that they talk to only as long as one run. It is lent to
//! them through a variable of the thread, set by the engine around each run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, HookTriggers, Lua, MultiValue, Table, Value, VmState};
use scoped_tls_hkt::scoped_thread_local;

use super::arguments::{Gathered, give_back, take_request};
use super::fence;
use super::header::{FLAG_NAMES, FunctionSpec, WRONG_NAME, checked_name, sha1_hex};
use super::lib::bounds::Over;
use super::raise::{
    ErrorReply, Failure, Raised, argument_error, c_text, examine, number_argument, place, raise,
    text_of, to_int, without_prelude_place,
};
use super::random::Random;
use super::to_lua::{error_table, field, lua_bytes, to_lua};
use super::{Host, Interrupt, ScriptFlags};
use crate::resp::reply::{Output, Protocol};

scoped_thread_local!(
    /// The server of the script that runs on this thread.
    pub static mut HOST: for<'a> &'a mut (dyn Host + 'a)
);

/// How many instructions of Lua pass between two looks at the clock and at SCRIPT KILL. Most take nanoseconds, but one can
/// copy megabytes.
const HOOKED_INSTRUCTIONS: u32 = 1_000;

/// How long a script computes before it breathes.
const BREATH: Duration = Duration::from_millis(1);

/// How long the code of a library may run while it is loaded.
const LOAD_TIME: Duration = Duration::from_millis(500);

/// What the functions of one machine share with its engine.
pub struct Shared {
    /// The most its Lua values may take, in bytes.
    pub memory_limit: usize,
    breathe: fn(),
    created: Instant,
    /// The protocol that the running script has chosen (redis.setresp).
    pub protocol: Cell<Protocol>,
    /// That of the last run: most runs of a machine have the same.
    interrupt: RefCell<Option<Arc<Interrupt>>>,
    /// Whether a run is under way.
    runs: Cell<bool>,
    /// Whether the running script has seen that it is killed.
    is_killed: Cell<bool>,
    last_breath: Cell<Option<Instant>>,
    /// Why the last run failed.
    pub failure: RefCell<Option<Failure>>,
    /// The library that is being loaded.
    pub loading: RefCell<Option<Loading>>,
    random: Cell<Random>,
    output: RefCell<Output>,
}

/// A library that is being loaded.
pub struct Loading {
    /// What it has registered.
    pub specs: Vec<FunctionSpec>,
    /// Its functions by name.
    pub functions: Table,
    /// When it must be through.
    pub deadline: Instant,
}

impl Loading {
    /// A library that begins to load now.
    pub fn begin(functions: Table) -> Loading {
        Loading {
            specs: Vec::new(),
            functions,
            deadline: Instant::now() + LOAD_TIME,
        }
    }
}

impl Shared {
    /// For a new machine.
    pub fn new(memory_limit: usize, breathe: fn()) -> Shared {
        Shared {
            memory_limit,
            breathe,
            created: Instant::now(),
            protocol: Cell::new(Protocol::Resp2),
            interrupt: RefCell::default(),
            runs: Cell::new(false),
            is_killed: Cell::new(false),
            last_breath: Cell::new(None),
            failure: RefCell::default(),
            loading: RefCell::default(),
            random: Cell::default(),
            output: RefCell::default(),
        }
    }

    /// Lets others have the worker.
    pub fn breathe(&self) {
        (self.breathe)();
    }

    /// Before a run.
    pub fn begin(&self, interrupt: &Arc<Interrupt>) {
        self.protocol.set(Protocol::Resp2);
        let mut known = self.interrupt.borrow_mut();
        if !known
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, interrupt))
        {
            *known = Some(Arc::clone(interrupt));
        }
        drop(known);
        self.runs.set(true);
        self.last_breath.set(None);
        *self.failure.borrow_mut() = None;
    }

    /// After a run. Returns whether it was killed: the hook is another one then.
    pub fn end(&self) -> bool {
        self.runs.set(false);
        *self.loading.borrow_mut() = None;
        self.is_killed.replace(false)
    }

    /// Why the script must end, if it must; if not, it breathes.
    pub fn end_reason(&self) -> Option<Raised> {
        if self.is_killed.get() || self.runs.get() && self.is_interrupted() {
            return Some(Raised::Killed);
        }
        let now = Instant::now();
        let loading = self.loading.borrow();
        if loading
            .as_ref()
            .is_some_and(|loading| now > loading.deadline)
        {
            return Some(Raised::LoadTimeout);
        }
        drop(loading);
        match self.last_breath.get() {
            None => self.last_breath.set(Some(now)),
            Some(last) if now - last >= BREATH => {
                (self.breathe)();
                self.last_breath.set(Some(Instant::now()));
            }
            Some(_) => {}
        }
        None
    }

    fn is_interrupted(&self) -> bool {
        let asked = self.interrupt.borrow();
        asked.as_ref().is_some_and(|asked| asked.is_killed())
    }

    /// Looks whether the script must end, and breathes.
    fn tick(self: &Rc<Self>, lua: &Lua) -> mlua::Result<()> {
        match self.end_reason() {
            Some(Raised::Killed) => Err(self.kill(lua)),
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }

    /// The error, or, of a library function that saw that the script must end, why it must.
    fn explained(self: &Rc<Self>, lua: &Lua, error: Value) -> Value {
        match &error {
            Value::Error(of_rust) if of_rust.downcast_ref::<Over>().is_some() => {
                match self.tick(lua) {
                    Err(reason) => Value::Error(Box::new(reason)),
                    Ok(()) => error,
                }
            }
            _ => error,
        }
    }

    /// From now on every line and instruction fails.
    fn kill(self: &Rc<Self>, lua: &Lua) -> mlua::Error {
        self.is_killed.set(true);
        let always = HookTriggers::EVERY_LINE.every_nth_instruction(1);
        match lua.set_global_hook(always, |_, _| Err(Raised::Killed.into())) {
            Ok(()) => Raised::Killed.into(),
            Err(error) => error,
        }
    }

    /// Makes the machine look up regularly from what it runs.
    pub fn set_hook(self: &Rc<Self>, lua: &Lua) -> mlua::Result<()> {
        let shared = Rc::clone(self);
        let triggers = HookTriggers::new().every_nth_instruction(HOOKED_INSTRUCTIONS);
        lua.set_global_hook(triggers, move |lua, _| {
            shared.tick(lua)?;
            Ok(VmState::Continue)
        })
    }

    /// Runs something that allocates in Lua about as much as `bytes`. With a limit set mlua would guard each allocation
    /// by a protected call, so the limit is lifted when there is room.
    fn with_room<T>(
        &self,
        lua: &Lua,
        bytes: usize,
        run: impl FnOnce() -> mlua::Result<T>,
    ) -> mlua::Result<T> {
        if lua.used_memory().saturating_add(bytes) > self.memory_limit {
            return Err(mlua::Error::MemoryError(String::new()));
        }
        lua.set_memory_limit(0)?;
        let result = run();
        lua.set_memory_limit(self.memory_limit)?;
        result
    }
}

/// The largest thing that the functions here create beside replies.
const SMALL_BYTES: usize = 4096;

/// Adds the functions of one machine to tables.
struct Api<'a> {
    lua: &'a Lua,
    shared: &'a Rc<Shared>,
}

/// What the prelude is given: its own helpers, and `redis` in its three forms.
pub fn native(lua: &Lua, shared: &Rc<Shared>, version: &str) -> mlua::Result<Table> {
    let api = Api { lua, shared };
    let native = lua.create_table()?;
    api.helpers(&native)?;
    native.set("script_server", api.script_server(version)?)?;
    native.set("function_server", api.function_server(version)?)?;
    native.set("load_server", api.load_server(version)?)?;
    Ok(native)
}

impl Api<'_> {
    /// A function of (Lua, what is shared, arguments).
    fn function<A, R>(
        &self,
        run: impl Fn(&Lua, &Rc<Shared>, A) -> mlua::Result<R> + 'static,
    ) -> mlua::Result<Function>
    where
        A: mlua::FromLuaMulti,
        R: mlua::IntoLuaMulti,
    {
        let shared = Rc::clone(self.shared);
        self.lua
            .create_function(move |lua, arguments: A| run(lua, &shared, arguments))
    }

    fn helpers(&self, native: &Table) -> mlua::Result<()> {
        native.set("tick", self.function(|lua, shared, ()| shared.tick(lua))?)?;
        native.set("caught", self.function(caught)?)?;
        native.set("failed", self.function(failed)?)?;
        native.set("missing", self.function(missing)?)?;
        native.set(
            "read_only",
            self.function(|lua, _, ()| -> mlua::Result<()> {
                Err(raise(lua, "Attempt to modify a readonly table"))
            })?,
        )?;
        native.set(
            "refusal",
            self.function(|_, _, text: mlua::LuaString| Ok(fence::refusal(&text.as_bytes())))?,
        )?;
        native.set(
            "position",
            self.function(|lua, _, ()| Ok(mlua::BString::from(place(lua))))?,
        )?;
        Ok(())
    }

    fn function_server(&self, version: &str) -> mlua::Result<Table> {
        let server = self.lua.create_table()?;
        self.add_log(&server)?;
        self.add_version(&server, version)?;
        server.set(
            "call",
            self.function(|lua, shared, gathered: Gathered| call(lua, shared, gathered, true))?,
        )?;
        server.set(
            "pcall",
            self.function(|lua, shared, gathered: Gathered| call(lua, shared, gathered, false))?,
        )?;
        server.set("acl_check_cmd", self.function(acl_check_cmd)?)?;
        server.set("error_reply", self.function(error_reply)?)?;
        server.set("status_reply", self.function(status_reply)?)?;
        server.set("sha1hex", self.function(sha1hex)?)?;
        server.set("setresp", self.function(setresp)?)?;
        server.set("set_repl", self.function(set_repl)?)?;
        for (name, value) in [
            ("REPL_NONE", 0),
            ("REPL_AOF", 1),
            ("REPL_SLAVE", 2),
            ("REPL_REPLICA", 2),
            ("REPL_ALL", 3),
        ] {
            server.set(name, value)?;
        }
        Ok(server)
    }

    fn script_server(&self, version: &str) -> mlua::Result<Table> {
        let server = self.function_server(version)?;
        // There is no debugger: they do what they do in Redis when none is attached.
        let ignored = |value: Option<bool>| self.function(move |_, _, _: MultiValue| Ok(value));
        server.set("breakpoint", ignored(Some(false))?)?;
        server.set("debug", ignored(None)?)?;
        server.set("replicate_commands", ignored(Some(true))?)?;
        Ok(server)
    }

    fn load_server(&self, version: &str) -> mlua::Result<Table> {
        let server = self.lua.create_table()?;
        self.add_log(&server)?;
        self.add_version(&server, version)?;
        server.set("register_function", self.function(register_function)?)?;
        Ok(server)
    }

    fn add_log(&self, server: &Table) -> mlua::Result<()> {
        server.set("log", self.function(log)?)?;
        for (level, name) in ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"]
            .into_iter()
            .enumerate()
        {
            server.set(name, level)?;
        }
        Ok(())
    }

    fn add_version(&self, server: &Table, version: &str) -> mlua::Result<()> {
        server.set("REDIS_VERSION", version)?;
        let numbers = version.split('.').map(|part| part.parse::<u32>());
        let number = numbers.fold(0, |all, part| all << 8 | part.unwrap_or(0));
        server.set("REDIS_VERSION_NUM", number)
    }
}

/// Adds math.random, math.randomseed and os.clock.
pub fn add_to_libraries(
    lua: &Lua,
    shared: &Rc<Shared>,
    math: &Table,
    os: &Table,
) -> mlua::Result<()> {
    let api = Api { lua, shared };
    math.set("random", api.function(random)?)?;
    math.set("randomseed", api.function(randomseed)?)?;
    os.set(
        "clock",
        api.function(|_, shared, _: MultiValue| Ok(shared.created.elapsed().as_secs_f64()))?,
    )
}

/// The error that pcall and the like have caught, as scripts see it. `is_flat`: of a table with `err` only that.
fn caught(lua: &Lua, shared: &Rc<Shared>, (error, is_flat): (Value, bool)) -> mlua::Result<Value> {
    let error = shared.explained(lua, error);
    if shared.is_killed.get() {
        return Err(Raised::Killed.into());
    }
    match (Raised::from_value(&error), &error) {
        (Some(Raised::Text(text)), _) => Ok(Value::String(lua.create_string(text)?)),
        (Some(Raised::Reply(reply)), _) if is_flat => {
            Ok(Value::String(lua.create_string(reply.text)?))
        }
        (Some(Raised::Reply(reply)), _) => error_table(lua, &reply),
        (Some(raised @ (Raised::Killed | Raised::LoadTimeout)), _) => Err(raised.into()),
        (None, Value::Table(table)) if is_flat => match table.raw_get::<Value>("err")? {
            text @ (Value::String(_) | Value::Integer(_) | Value::Number(_)) => Ok(text),
            _ => Ok(error),
        },
        (None, Value::String(text)) => match without_prelude_place(&text.as_bytes()) {
            Some(rest) => Ok(Value::String(lua.create_string(rest)?)),
            None => Ok(error),
        },
        (None, _) => Ok(error),
    }
}

/// The error handler of each run.
fn failed(lua: &Lua, shared: &Rc<Shared>, error: Value) -> mlua::Result<()> {
    let failure = examine(lua, &shared.explained(lua, error));
    *shared.failure.borrow_mut() = Some(failure);
    Ok(())
}

/// A global variable that does not exist is read: (table, name).
fn missing(lua: &Lua, _: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<()> {
    if arguments.len() != 2 {
        let text = "Wrong number of arguments to luaProtectedTableError";
        return Err(raise(lua, text));
    }
    let Some(name) = text_of(lua, &arguments[1]) else {
        let text = "Second argument to luaProtectedTableError must be a string or number";
        return Err(raise(lua, text));
    };
    let text = b"Script attempted to access nonexistent global variable '";
    Err(Raised::Text([&place(lua), &text[..], c_text(&name), b"'"].concat()).into())
}

fn call(
    lua: &Lua,
    shared: &Rc<Shared>,
    gathered: Gathered,
    is_raising: bool,
) -> mlua::Result<Value> {
    let refused = |error: ErrorReply| match is_raising {
        true => Err(error.into()),
        false => shared.with_room(lua, SMALL_BYTES, || error_table(lua, &error)),
    };
    let request = match take_request(&gathered) {
        Ok(request) => request,
        Err(error) => return refused(error),
    };
    let mut output = shared.output.borrow_mut();
    if !HOST.is_set() {
        let text = "redis.call/pcall can only be called inside a script invocation";
        return Err(ErrorReply::of(text).into());
    }
    let protocol = shared.protocol.get();
    HOST.with(|host| host.call(request.as_arguments(), protocol, &mut output));
    give_back(request);
    let whole;
    let reply = match output.only_chunk() {
        Some(chunk) => chunk,
        None => {
            whole = gathered_chunks(&output);
            &whole
        }
    };
    let result = match reply {
        [b'-', ..] if is_raising => {
            let end = memchr::memchr(b'\r', reply).unwrap_or(reply.len());
            Err(ErrorReply::from_line(&reply[1..end], true).into())
        }
        reply => shared.with_room(lua, lua_bytes(reply), || to_lua(lua, reply)),
    };
    let written = output.len_bytes();
    output.advance(written);
    output.shrink();
    result
}

/// All that is in an output, as one piece.
fn gathered_chunks(output: &Output) -> Vec<u8> {
    use bytes::Buf;
    let mut slices = vec![std::io::IoSlice::new(&[]); 64];
    let mut whole = Vec::with_capacity(output.remaining());
    let mut count = output.fill(&mut slices);
    while count == slices.len() {
        slices = vec![std::io::IoSlice::new(&[]); slices.len() * 2];
        count = output.fill(&mut slices);
    }
    slices[..count]
        .iter()
        .for_each(|slice| whole.extend_from_slice(slice));
    whole
}

fn acl_check_cmd(_: &Lua, _: &Rc<Shared>, gathered: Gathered) -> mlua::Result<bool> {
    let request = take_request(&gathered)?;
    if !HOST.is_set() {
        let text = "redis.acl_check_cmd can only be called inside a script invocation";
        return Err(ErrorReply::of(text).into());
    }
    let allowed = HOST.with(|host| host.may_run(request.as_arguments()));
    give_back(request);
    let text = "Invalid command passed to redis.acl_check_cmd()";
    allowed.ok_or_else(|| ErrorReply::of(text).into())
}

/// The only argument, if it is a string.
fn only_string(arguments: &MultiValue) -> Option<mlua::LuaString> {
    match arguments.front() {
        Some(Value::String(text)) if arguments.len() == 1 => Some(text.clone()),
        _ => None,
    }
}

const WRONG_ARGUMENTS: &str = "wrong number or type of arguments";

fn error_reply(lua: &Lua, _: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<Value> {
    let error = match only_string(&arguments) {
        Some(text) => {
            let text = text.as_bytes();
            ErrorReply::from_line(text.strip_prefix(b"-").unwrap_or(&text), false)
        }
        None => ErrorReply::of(WRONG_ARGUMENTS),
    };
    error_table(lua, &error)
}

fn status_reply(lua: &Lua, _: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<Value> {
    match only_string(&arguments) {
        Some(text) => field(lua, "ok", text),
        None => error_table(lua, &ErrorReply::of(WRONG_ARGUMENTS)),
    }
}

fn sha1hex(lua: &Lua, _: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<Value> {
    if arguments.len() != 1 {
        return Err(ErrorReply::of("wrong number of arguments").into());
    }
    let text = text_of(lua, &arguments[0]).unwrap_or_default();
    Ok(Value::String(lua.create_string(sha1_hex(&text))?))
}

/// A number as `lua_tonumber` has it: 0 for what is none.
fn loose_number(lua: &Lua, value: &Value) -> f64 {
    match value {
        Value::Integer(_) | Value::Number(_) | Value::String(_) => lua
            .coerce_number(value.clone())
            .ok()
            .flatten()
            .unwrap_or(0.0),
        _ => 0.0,
    }
}

fn is_number(lua: &Lua, value: &Value) -> bool {
    match value {
        Value::Integer(_) | Value::Number(_) => true,
        Value::String(_) => matches!(lua.coerce_number(value.clone()), Ok(Some(_))),
        _ => false,
    }
}

fn setresp(lua: &Lua, shared: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<()> {
    if arguments.len() != 1 {
        return Err(ErrorReply::of("redis.setresp() requires one argument.").into());
    }
    let protocol = match to_int(loose_number(lua, &arguments[0])) {
        2 => Protocol::Resp2,
        3 => Protocol::Resp3,
        _ => return Err(ErrorReply::of("RESP version must be 2 or 3.").into()),
    };
    shared.protocol.set(protocol);
    Ok(())
}

fn set_repl(lua: &Lua, _: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<()> {
    if arguments.len() != 1 {
        return Err(ErrorReply::of("redis.set_repl() requires two arguments.").into());
    }
    let targets = to_int(loose_number(lua, &arguments[0]));
    let Ok(targets @ 0..=3) = u8::try_from(targets) else {
        let text = "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
        return Err(ErrorReply::of(text).into());
    };
    if HOST.is_set() {
        HOST.with(|host| host.set_replication(targets));
    }
    Ok(())
}

/// The longest message that is logged whole.
const MAX_LOGGED_BYTES: usize = 64 * 1024;

fn log(lua: &Lua, _: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<()> {
    if arguments.len() < 2 {
        return Err(ErrorReply::of("redis.log() requires two arguments or more.").into());
    }
    if !is_number(lua, &arguments[0]) {
        return Err(ErrorReply::of("First argument must be a number (log level).").into());
    }
    let level = to_int(loose_number(lua, &arguments[0]));
    let Ok(level @ 0..=3) = u8::try_from(level) else {
        return Err(ErrorReply::of("Invalid debug level.").into());
    };
    let mut message = Vec::new();
    for (index, value) in arguments.iter().skip(1).enumerate() {
        if let Some(text) = text_of(lua, value) {
            if index > 0 {
                message.push(b' ');
            }
            let room = MAX_LOGGED_BYTES.saturating_sub(message.len());
            message.extend_from_slice(&text[..text.len().min(room)]);
        }
    }
    if HOST.is_set() {
        HOST.with(|host| host.log(level, &message));
    }
    Ok(())
}

fn random(lua: &Lua, shared: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<f64> {
    let mut state = shared.random.get();
    let chance = state.next();
    shared.random.set(state);
    let (low, high) = match arguments.len() {
        0 => return Ok(chance),
        1 => (1, to_int(number_argument(lua, &arguments, 1)?)),
        2 => (
            to_int(number_argument(lua, &arguments, 1)?),
            to_int(number_argument(lua, &arguments, 2)?),
        ),
        _ => return Err(raise(lua, "wrong number of arguments")),
    };
    if low > high {
        return Err(argument_error(lua, arguments.len(), "interval is empty"));
    }
    // The size of the interval is computed in an int, as in Redis.
    let size = high.wrapping_sub(low).wrapping_add(1);
    Ok((chance * f64::from(size)).floor() + f64::from(low))
}

fn randomseed(lua: &Lua, shared: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<()> {
    let seed = to_int(number_argument(lua, &arguments, 1)?);
    shared.random.set(Random::seeded(seed));
    Ok(())
}

/// A function as register_function is given it.
#[derive(Default)]
struct Registered {
    name: Option<Vec<u8>>,
    description: Option<Vec<u8>>,
    callback: Option<Function>,
    flags: ScriptFlags,
}

fn register_function(lua: &Lua, shared: &Rc<Shared>, arguments: MultiValue) -> mlua::Result<()> {
    let mut loading = shared.loading.borrow_mut();
    let Some(loading) = loading.as_mut() else {
        let text = "redis.register_function can only be called on FUNCTION LOAD command";
        return Err(ErrorReply::of(text).into());
    };
    let registered = match arguments.len() {
        1 => named_arguments(lua, &arguments[0]),
        2 => positional_arguments(lua, &arguments[0], &arguments[1]),
        _ => Err("wrong number of arguments to redis.register_function"),
    };
    let registered = registered.map_err(ErrorReply::of)?;
    let name = registered.name.as_deref().and_then(checked_name);
    let name = name.ok_or_else(|| ErrorReply::of(WRONG_NAME.trim_start_matches("ERR ")))?;
    if loading.functions.contains_key(name.as_str())? {
        return Err(ErrorReply::of("Function already exists in the library").into());
    }
    loading
        .functions
        .raw_set(name.as_str(), registered.callback)?;
    loading.specs.push(FunctionSpec {
        name,
        description: registered.description.map(Into::into),
        flags: registered.flags,
    });
    Ok(())
}

fn positional_arguments(
    lua: &Lua,
    name: &Value,
    callback: &Value,
) -> Result<Registered, &'static str> {
    let name = text_of(lua, name);
    let name = name.ok_or("first argument to redis.register_function must be a string")?;
    let Value::Function(callback) = callback else {
        return Err("second argument to redis.register_function must be a function");
    };
    Ok(Registered {
        name: Some(name),
        callback: Some(callback.clone()),
        ..Registered::default()
    })
}

fn named_arguments(lua: &Lua, arguments: &Value) -> Result<Registered, &'static str> {
    let Value::Table(arguments) = arguments else {
        return Err(
            "calling redis.register_function with a single argument is only applicable to Lua table \
            (representing named arguments).",
        );
    };
    let mut registered = Registered::default();
    for pair in arguments.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|_| "not enough memory")?;
        let key = text_of(lua, &key);
        let key =
            key.ok_or("named argument key given to redis.register_function is not a string")?;
        registered.set(lua, &key.to_ascii_lowercase(), value)?;
    }
    if registered.name.is_none() {
        return Err("redis.register_function must get a function name argument");
    }
    if registered.callback.is_none() {
        return Err("redis.register_function must get a callback argument");
    }
    Ok(registered)
}

impl Registered {
    fn set(&mut self, lua: &Lua, key: &[u8], value: Value) -> Result<(), &'static str> {
        match key {
            b"function_name" => {
                let text =
                    "function_name argument given to redis.register_function must be a string";
                self.name = Some(text_of(lua, &value).ok_or(text)?);
            }
            b"description" => {
                let text = "description argument given to redis.register_function must be a string";
                self.description = Some(text_of(lua, &value).ok_or(text)?);
            }
            b"callback" => {
                let Value::Function(callback) = value else {
                    return Err(
                        "callback argument given to redis.register_function must be a function",
                    );
                };
                self.callback = Some(callback);
            }
            b"flags" => {
                let Value::Table(flags) = value else {
                    return Err(
                        "flags argument to redis.register_function must be a table representing function \
                        flags",
                    );
                };
                self.flags = flags_of(lua, &flags).ok_or("unknown flag given")?;
            }
            _ => return Err("unknown argument given to redis.register_function"),
        }
        Ok(())
    }
}

/// The flags named by the elements of a table; none if one of them does not exist.
fn flags_of(lua: &Lua, names: &Table) -> Option<ScriptFlags> {
    let mut flags = ScriptFlags::empty();
    for index in 1.. {
        let name = names.raw_get::<Value>(index).ok()?;
        if name.is_nil() {
            break;
        }
        let name = text_of(lua, &name)?;
        let known = FLAG_NAMES
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(&name))?;
        flags |= known.1;
    }
    Some(flags)
}
