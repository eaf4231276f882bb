//! Results and errors of redis-server, and random formats.

use mlua::{Function, Lua, LuaString, MultiValue, Table, Value};

use super::super::bounds::{Bounds, Over};
use super::super::raise::text_of;
use super::super::testing;

#[test]
fn as_redis_does() {
    testing::compare(include_str!("cases.txt"));
}

#[test]
fn cve_2018_11219_sizes() {
    // Aim: a size that overflows an int is refused, in each function and for each option that has one.
    let lua = testing::machine();
    for format in [
        "i4294967300",
        "I18446744073709551617",
        "c2147483648",
        "!4294967296",
    ] {
        for call in ["pack('F', 'a')", "unpack('F', 'abcdefgh')", "size('F')"] {
            let script = format!("return struct.{}", call.replace('F', format));
            let error = "user_script:1: integral size overflow";
            assert_eq!(testing::run(&lua, &script), error, "{script}");
        }
    }
}

#[test]
fn cve_2020_14147_positions() {
    // Aim: no position, alone or with a size, leads out of the data.
    let lua = testing::machine();
    for position in [
        "2^31", "2^32 + 1", "2^62", "2^63", "-1", "-2^31", "-2^62", "-2^63",
    ] {
        for format in ["b", "l", "c2147483647", "s", "Bc0", "x", "!l"] {
            let script = format!("return struct.unpack('{format}', ('a'):rep(16), {position})");
            let error = "user_script:1: bad argument #2 to 'unpack' (data string too short)";
            assert_eq!(testing::run(&lua, &script), error, "{script}");
        }
    }
}

fn function(lua: &Lua, name: &str) -> Function {
    let library: Table = lua.globals().get("struct").expect("it is installed");
    library.get(name).expect("there is such a function")
}

fn seed() -> u64 {
    let seed = std::env::var("QUOIT_TEST_SEED");
    let seed = seed.ok().and_then(|seed| seed.parse().ok()).unwrap_or(13);
    println!("QUOIT_TEST_SEED={seed}");
    seed
}

#[test]
fn what_was_packed_is_unpacked() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let lua = testing::machine();
    let [pack, unpack, size] = ["pack", "unpack", "size"].map(|name| function(&lua, name));
    for _ in 0..500 {
        let (mut format, mut values) = (String::new(), Vec::new());
        for _ in 0..rng.usize(1..12) {
            match rng.usize(..8) {
                0 => format.push_str(rng.choice(["<", ">", "!", "!2", "!16", " "]).expect("some")),
                1 => format.push('x'),
                2 => {
                    format.push('d');
                    values.push(Value::Number(rng.f64() + 0.5));
                }
                3 => {
                    let text: String = (0..rng.usize(1..9)).map(|_| rng.alphabetic()).collect();
                    format.push_str(&format!("c{}", text.len()));
                    values.push(Value::String(lua.create_string(text).expect("memory")));
                }
                _ => {
                    let bytes = rng.u32(1..=6);
                    format.push_str(&format!("i{bytes}"));
                    let half = 1 << (bytes * 8 - 1);
                    values.push(Value::Integer(rng.i64(-half..half)));
                }
            }
        }
        let arguments = values.iter().cloned();
        let format = Value::String(lua.create_string(&format).expect("there is memory"));
        let arguments: MultiValue = std::iter::once(format.clone()).chain(arguments).collect();
        let packed: LuaString = pack.call(arguments).expect("the values fit");
        let len = packed.as_bytes().len();
        let sized: usize = size.call(format.clone()).expect("all sizes are fixed");
        assert_eq!(sized, len, "{format:?}");

        let found: MultiValue = unpack.call((&format, &packed)).expect("it was packed");
        values.push(Value::Integer(len as i64 + 1));
        let found: Vec<Value> = found.into_iter().collect();
        assert_eq!(found, values, "{format:?}");
        if len > 0 {
            let cut = lua
                .create_string(&packed.as_bytes()[..len - 1])
                .expect("memory");
            let error = unpack
                .call::<MultiValue>((&format, cut))
                .expect_err("it is cut");
            let text = b"bad argument #2 to '?' (data string too short)";
            assert_eq!(text_of(&error), text, "{format:?}");
        }
    }
}

#[test]
fn random_formats_are_followed_or_refused() {
    const ERRORS: [&str; 9] = [
        "invalid format option",
        "too short",
        "unfinished string",
        "needs a previous size",
        "must be 1 or greater",
        "integral size",
        "is not a power of 2",
        "has no fixed size",
        "expected, got",
    ];
    let mut rng = fastrand::Rng::with_seed(seed());
    let lua = testing::machine();
    let functions = ["pack", "unpack", "size"].map(|name| function(&lua, name));
    let mut done = 0;
    for _ in 0..10_000 {
        let text = |rng: &mut fastrand::Rng, from: &[u8], most: usize| {
            let bytes = (0..rng.usize(..most)).map(|_| rng.choice(from).copied().unwrap_or(0));
            lua.create_string(bytes.collect::<Vec<u8>>())
                .expect("there is memory")
        };
        let format = text(&mut rng, b"bBhHiIlLTfdxsc0123456789<>! =z\xff", 12);
        let data = text(&mut rng, b"\0\x01\x02\x03\xff1", 40);
        let position = rng.i64(-20..60);
        let called = rng.choice(&functions).expect("there are three");
        let result = called.call::<MultiValue>((format.clone(), data, position, 3, 4, 5));
        match result {
            Ok(_) => done += 1,
            Err(error) => {
                let text = String::from_utf8_lossy(&text_of(&error)).into_owned();
                let is_known = ERRORS.iter().any(|known| text.contains(known));
                assert!(is_known, "{format:?}: {text}");
            }
        }
    }
    assert!(done > 500, "only {done} were followed");
}

#[test]
fn one_string_packed_often_does_not_fill_the_memory() {
    let lua = testing::machine();
    lua.set_app_data(Bounds {
        is_over: Box::new(|| false),
        buffer_bytes: 1024 * 1024,
    });
    let script = "local s = ('a'):rep(1000) local t = {} for i = 1, 2000 do t[i] = s end \
                  return struct.pack(('c0'):rep(2000), unpack(t))";
    assert_eq!(testing::run(&lua, script), "not enough memory");
}

#[test]
fn a_script_that_is_to_end_ends_in_a_long_format() {
    let lua = testing::machine();
    lua.set_app_data(Bounds {
        is_over: Box::new(|| true),
        buffer_bytes: 1024 * 1024,
    });
    for call in ["pack(x)", "unpack(x, x)", "size(x)"] {
        let script = format!("local x = ('x'):rep(100000) return struct.{call}");
        assert_eq!(testing::run(&lua, &script), Over.to_string(), "{call}");
    }
}
