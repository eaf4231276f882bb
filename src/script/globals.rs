//! A new Lua machine: libraries opened, the prelude run.

use std::rc::Rc;

use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};

use super::api::{Shared, add_to_libraries, native};
use super::lib::{self, bounds::Bounds};
use super::raise::PRELUDE;

/// What the engine calls of the prelude.
#[derive(Debug)]
pub struct Prelude {
    /// (text, chunk name) to a function, or to nil and why there is none.
    pub compile_script: Function,
    /// The same for the code of a library.
    pub compile_library: Function,
    /// (slot, name of the function or nil for a script, keys, arguments) to whether it succeeded, and its result; to nil when
    /// there is no such function.
    pub run: Function,
    /// For each number of keys up to [`FEW_KEYS`]: (slot, name, keys and arguments one by one, nil) to the same.
    pub run_few: Vec<Function>,
    /// For each number of arguments of a script with one key, up to two: (slot, key and arguments one by one, nil) to the
    /// same.
    pub run_one: [Function; 3],
    /// As these, for scripts that are plain.
    pub run_plain: [Function; 3],
    /// (function) to whether it succeeded.
    pub run_library: Function,
    /// Drops what the last run has left reachable.
    pub forget_run: Function,
    /// Lua's `next`.
    pub next: Function,
}

/// How many keys may come to Lua one by one.
const FEW_KEYS: usize = 4;

/// Builds a machine. The table holds what the engine keeps, by slot.
///
/// # Errors
/// None but for a fault of ours.
pub fn machine(shared: &Rc<Shared>, version: &str) -> mlua::Result<(Lua, Prelude, Table)> {
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
    let lua = Lua::new_with(libraries, LuaOptions::new())?;
    let next = lua.globals().get("next")?;
    let native = native(&lua, shared, version)?;
    let opened = open_libraries(&lua, shared)?;
    let prelude = lua.load(include_str!("prelude.lua")).set_name(PRELUDE);
    let kept = lua.create_table()?;
    let prelude: Table = prelude.call((native, opened, &kept))?;
    let run_few: Table = prelude.get("run_few")?;
    let by_values = |name| {
        let functions: Table = prelude.get(name)?;
        mlua::Result::Ok([functions.get(0)?, functions.get(1)?, functions.get(2)?])
    };
    let prelude = Prelude {
        compile_script: prelude.get("compile_script")?,
        compile_library: prelude.get("compile_library")?,
        run: prelude.get("run")?,
        run_few: (0..=FEW_KEYS)
            .map(|keys| run_few.get(keys))
            .collect::<mlua::Result<_>>()?,
        run_one: by_values("run_one")?,
        run_plain: by_values("run_plain")?,
        run_library: prelude.get("run_library")?,
        forget_run: prelude.get("forget_run")?,
        next,
    };
    shared.set_hook(&lua)?;
    Ok((lua, prelude, kept))
}

/// The libraries that scripts see, by name.
fn open_libraries(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Table> {
    let opened = lua.create_table()?;
    for name in ["string", "table", "math", "coroutine"] {
        opened.set(name, lua.globals().get::<Value>(name)?)?;
    }
    let os = lua.create_table()?;
    add_to_libraries(lua, shared, &opened.get("math")?, &os)?;
    opened.set("os", os)?;
    lib::patterns::replace(lua, &opened.get("string")?)?;
    for (name, library) in lib::tables(lua)? {
        opened.set(name, library)?;
    }
    let asked = Rc::clone(shared);
    lua.set_app_data(Bounds {
        is_over: Box::new(move || asked.end_reason().is_some()),
        buffer_bytes: shared.memory_limit,
    });
    Ok(opened)
}
