//! `cmsgpack`: MessagePack to Lua values and back, as lua-cmsgpack 0.4.0 in Redis does it.
//!
//! Integers take their smallest form, other numbers four bytes if these hold them exactly, strings the raw types; a table is
//! an array if its keys are 1 to their number, so an empty one is an array. Tables deeper than 16 are written as nil, and so
//! is what has no form: functions, userdata.

use mlua::{Lua, Result, Table};

use super::call::Call;

mod pack;
mod unpack;

/// The table `cmsgpack`.
pub fn open(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let pack = |lua: &Lua, values| pack::pack(&Call::new(lua, values));
    table.raw_set("pack", lua.create_function(pack)?)?;
    let unpack = |lua: &Lua, values| unpack::unpack(&Call::new(lua, values));
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    let unpack_one = |lua: &Lua, values| unpack::unpack_one(&Call::new(lua, values));
    table.raw_set("unpack_one", lua.create_function(unpack_one)?)?;
    let unpack_limit = |lua: &Lua, values| unpack::unpack_limit(&Call::new(lua, values));
    table.raw_set("unpack_limit", lua.create_function(unpack_limit)?)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(table)
}

#[cfg(test)]
mod tests;
