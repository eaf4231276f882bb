//! Results and errors of redis-server, and random input.

use mlua::{Function, Lua, MultiValue, Table};

use super::super::bounds::{Bounds, Over};
use super::super::raise::text_of;
use super::super::testing;

#[test]
fn as_redis_does() {
    testing::compare(include_str!("cases.txt"));
}

fn function(lua: &Lua, name: &str) -> Function {
    let library: Table = lua.globals().get("cmsgpack").expect("it is installed");
    library.get(name).expect("there is such a function")
}

/// A value of at most `depth` levels, as MessagePack. Keys are strings and numbers.
fn random_value(rng: &mut fastrand::Rng, depth: usize, out: &mut Vec<u8>) {
    let kinds = if depth == 0 { 5 } else { 7 };
    match rng.usize(..kinds) {
        0 => out.push(rng.choice([0xc2, 0xc3]).expect("there are two")),
        1 => out.push(rng.u8(..0x80)),
        2 => {
            out.push(0xcb);
            out.extend_from_slice(&(rng.f64() + 0.1).to_be_bytes());
        }
        3 => random_text(rng, out),
        4 => {
            out.push(0xd1);
            out.extend_from_slice(&(-i16::from(rng.u8(..)) - 200).to_be_bytes());
        }
        5 => {
            let len = rng.u8(..6);
            out.push(0x90 | len);
            (0..len).for_each(|_| random_value(rng, depth - 1, out));
        }
        _ => {
            let len = rng.u8(1..6);
            out.push(0x80 | len);
            for _ in 0..len {
                random_text(rng, out);
                random_value(rng, depth - 1, out);
            }
        }
    }
}

fn random_text(rng: &mut fastrand::Rng, out: &mut Vec<u8>) {
    let len = rng.u8(..40);
    match len {
        ..32 => out.push(0xa0 | len),
        _ => out.extend_from_slice(&[0xd9, len]),
    }
    (0..len).for_each(|_| out.push(rng.u8(..)));
}

fn seed() -> u64 {
    let seed = std::env::var("QUOIT_TEST_SEED");
    let seed = seed.ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    println!("QUOIT_TEST_SEED={seed}");
    seed
}

#[test]
fn every_cut_of_a_value_lacks_bytes() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let lua = testing::machine();
    let unpack = function(&lua, "unpack_one");
    for _ in 0..60 {
        let mut whole = Vec::new();
        random_value(&mut rng, 4, &mut whole);
        let read: mlua::Result<(i64, mlua::Value)> =
            unpack.call(lua.create_string(&whole).expect("there is memory"));
        assert_eq!(read.map(|(next, _)| next).expect("it is a value"), -1);
        for end in 1..whole.len() {
            let cut = lua.create_string(&whole[..end]).expect("there is memory");
            let error = unpack.call::<MultiValue>(cut).expect_err("it is cut");
            assert_eq!(text_of(&error), b"Missing bytes in input.", "{end}");
        }
    }
}

#[test]
fn random_bytes_are_values_or_refused() {
    const ERRORS: [&str; 4] = [
        "Missing bytes in input.",
        "Bad data format in input.",
        "table index is nil",
        "table index is NaN",
    ];
    let mut rng = fastrand::Rng::with_seed(seed());
    let lua = testing::machine();
    let (pack, unpack) = (function(&lua, "pack"), function(&lua, "unpack"));
    let mut read = 0;
    for _ in 0..3_000 {
        let mut input = Vec::new();
        if rng.bool() {
            random_value(&mut rng, 3, &mut input);
            for _ in 0..rng.usize(..3) {
                let at = rng.usize(..input.len());
                input[at] = rng.u8(..);
            }
        } else {
            (0..rng.usize(..60)).for_each(|_| input.push(rng.u8(..)));
        }
        let text = lua.create_string(&input).expect("there is memory");
        match unpack.call::<MultiValue>(text) {
            Ok(values) if values.is_empty() => assert!(input.is_empty()),
            Ok(values) => {
                // Once written, it is written the same again: the order of keys may change only once.
                let count = values.len();
                let once: mlua::LuaString = pack.call(values).expect("it nests little");
                let again: MultiValue = unpack.call(once).expect("it was packed");
                assert_eq!(again.len(), count, "{}", input.escape_ascii());
                read += 1;
            }
            Err(error) => {
                let text = String::from_utf8(text_of(&error)).expect("texts are ASCII");
                assert!(ERRORS.contains(&text.as_str()), "{text}");
            }
        }
    }
    assert!(read > 300, "only {read} were read");
}

#[test]
fn a_table_that_is_in_itself_many_times_does_not_fill_the_memory() {
    let lua = testing::machine();
    lua.set_app_data(Bounds {
        is_over: Box::new(|| false),
        buffer_bytes: 1024 * 1024,
    });
    let script = "local t = {} for i = 1, 100 do t[i] = t end return cmsgpack.pack(t)";
    assert_eq!(testing::run(&lua, script), "not enough memory");
}

#[test]
fn a_script_that_is_to_end_ends_while_it_packs_and_unpacks() {
    let lua = testing::machine();
    lua.set_app_data(Bounds {
        is_over: Box::new(|| true),
        buffer_bytes: 1024 * 1024 * 1024,
    });
    let over = Over.to_string();
    let pack = "local t = {} for i = 1, 100 do t[i] = t end return cmsgpack.pack(t)";
    assert_eq!(testing::run(&lua, pack), over);
    let unpack = r#"return cmsgpack.unpack("\221\0\1\0\0" .. ("\192"):rep(65536))"#;
    assert_eq!(testing::run(&lua, unpack), over);
}
