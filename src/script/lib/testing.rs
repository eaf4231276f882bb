//! A machine with the libraries, for tests, and lists of scripts with what redis-server's returned.
//!
//! In a list, `> ` begins a script, `= ` what it returned, as `show.lua` shows it; other lines are remarks.

use mlua::{Lua, Result, Table, Value};

use super::{patterns, raise, tables};

/// A machine as scripts find it, as far as the libraries go.
pub(super) fn machine() -> Lua {
    let lua = Lua::new();
    install(&lua).expect("there is memory");
    lua
}

/// Puts the libraries among the globals, and functions that stop errors in the place of Lua's own, as the prelude does.
fn install(lua: &Lua) -> Result<()> {
    let globals = lua.globals();
    for (name, table) in tables(lua)? {
        globals.raw_set(name, table)?;
    }
    patterns::replace(lua, &globals.raw_get("string")?)?;
    let plain = lua.create_function(|lua, error| match error {
        Value::Error(error) => lua.create_string(raise::text_of(&error)).map(Value::String),
        other => Ok(other),
    })?;
    let catch = super::compile(lua, include_str!("catch.lua"))?;
    catch.call((&globals, globals.raw_get::<Table>("coroutine")?, plain))
}

/// What the script returns, or its error, as text.
pub(super) fn run(lua: &Lua, script: &str) -> String {
    let text = format!(
        "local function script() {script}\nend {} return show(script())",
        include_str!("show.lua")
    );
    let result = lua
        .load(text)
        .set_name("@user_script")
        .call::<mlua::LuaString>(());
    match result {
        Ok(shown) => shown.to_string_lossy(),
        Err(error) => String::from_utf8_lossy(&raise::text_of(&error)).into_owned(),
    }
}

/// Runs each script of a list, all in one machine, and compares what it returns with what it returned in redis-server.
#[track_caller]
pub(super) fn compare(list: &str) {
    let lua = machine();
    let mut found = String::new();
    let mut script = "";
    let mut count = 0;
    for line in list.lines() {
        if let Some(text) = line.strip_prefix("> ") {
            script = text;
        } else if let Some(expected) = line.strip_prefix("= ") {
            count += 1;
            let result = run(&lua, script);
            if result != expected {
                found.push_str(&format!(
                    "{script}\n  redis: {expected}\n  quoit: {result}\n"
                ));
            }
        }
    }
    assert!(count > 0, "the list has no scripts");
    assert!(found.is_empty(), "these differ:\n{found}");
}

/// A machine whose functions are to end when they have asked so often, and may gather so many bytes.
pub(super) fn bounded(asked: usize, buffer_bytes: usize) -> Lua {
    let lua = machine();
    let left = std::cell::Cell::new(asked);
    lua.set_app_data(super::bounds::Bounds {
        is_over: Box::new(move || match left.get() {
            0 => true,
            more => {
                left.set(more - 1);
                false
            }
        }),
        buffer_bytes,
    });
    lua
}
