//! The libraries that scripts find: cjson, cmsgpack, struct, bit, and the functions of `string` that match patterns.
//!
//! Redis has them in C, and most holes of its scripting were in them. These are written against mlua's safe interface: no
//! recursion, no allocation from a length that a script or its data claims, every long loop counted ([`bounds`]). Results,
//! error texts and the order of keys are those of redis-server 7.0.15.
//!
//! | | |
//! |---|---|
//! | [`raise`] | errors: strings with the place of the caller |
//! | `call` | arguments as Lua's own libraries read them |
//! | [`bounds`] | when a function must end, how much it may gather |
//! | [`bits`] | `bit` |
//! | [`cjson`] | `cjson` |
//! | [`cmsgpack`] | `cmsgpack` |
//! | [`structs`] | `struct` |
//! | [`patterns`] | find, match, gmatch, gsub, rep of `string` |

pub mod bits;
pub mod bounds;
mod call;
pub mod cjson;
pub mod cmsgpack;
pub mod patterns;
pub mod raise;
pub mod structs;

use mlua::{Function, Lua, Result, Table};

/// The libraries that are tables of their own, by the names of their globals.
pub fn tables(lua: &Lua) -> Result<[(&'static str, Table); 4]> {
    Ok([
        ("bit", bits::open(lua)?),
        ("cjson", cjson::open(lua)?),
        ("cmsgpack", cmsgpack::open(lua)?),
        ("struct", structs::open(lua)?),
    ])
}

/// Compiles Lua of ours. To scripts it is C, as far as errors say.
fn compile(lua: &Lua, text: &str) -> Result<Function> {
    lua.load(text).set_name("=[C]").into_function()
}

#[cfg(test)]
mod testing;
