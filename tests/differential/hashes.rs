//! Hashes: on a few keys of their own, and now and then on those of other types.
//!
//! Fields that expire are newer than the oracle; they have tests of their own.

use crate::generate::{Generator, Request};
use crate::pair::{Pair, Step};
use crate::support::{Server, Value};

const KEYS: &[&str] = &["hash:1", "hash:2", "hash:3"];
const FIELDS: &[&str] = &[
    "",
    "0",
    "-1",
    "+1",
    "01",
    "9223372036854775807",
    "9223372036854775808",
    "a",
    "A",
    "\u{e4}",
];

/// A command on hashes.
pub fn request(g: &mut Generator) -> Request {
    on(g, key)
}

/// How a key is chosen.
type Key = fn(&mut Generator) -> Vec<u8>;

fn on(g: &mut Generator, key: Key) -> Request {
    match g.rng.u8(0..40) {
        0..9 => {
            let mut request = vec![g.pick(&["HSET", "HSET", "HMSET"]), key(g)];
            for _ in 0..g.rng.usize(1..4) {
                request.extend([field(g), value(g)]);
            }
            request
        }
        9..11 => vec![g.pick(&["HSETNX"]), key(g), field(g), value(g)],
        11..16 => {
            let mut request = vec![g.pick(&["HDEL", "HMGET"]), key(g)];
            for _ in 0..g.rng.usize(1..5) {
                request.push(field(g));
            }
            request
        }
        16..19 => vec![g.pick(&["HGET", "HEXISTS", "HSTRLEN"]), key(g), field(g)],
        19..21 => vec![
            g.pick(&["HLEN", "HGETALL", "HKEYS", "HVALS", "TYPE"]),
            key(g),
        ],
        21..26 => vec![g.pick(&["HINCRBY"]), key(g), field(g), g.integer()],
        26..32 => vec![g.pick(&["HINCRBYFLOAT"]), key(g), field(g), g.float()],
        32..34 => hrandfield(g, key),
        34 => hscan(g, key),
        35 | 36 => vec![g.pick(&["OBJECT"]), b"ENCODING".to_vec(), key(g)],
        37 => vec![g.pick(&["COPY", "RENAME", "RENAMENX"]), key(g), key(g)],
        38 => vec![g.pick(&["DEL", "PERSIST", "PTTL", "TOUCH"]), key(g)],
        _ => vec![g.pick(&["SET"]), own_key(g), value(g)],
    }
}

/// What is not a request alone.
pub fn step(g: &mut Generator) -> Step {
    step_on(g, key)
}

fn step_on(g: &mut Generator, key: Key) -> Step {
    let mut options = Request::new();
    if g.rng.bool() {
        options.extend([g.pick(&["COUNT"]), g.pick(&["1", "3", "100"])]);
    }
    if g.once_in(3) {
        options.extend([
            g.pick(&["MATCH"]),
            g.pick(&["*", "?", "[a-b]", "*1*", "-*"]),
        ]);
    }
    Step::ScanOf(vec![b"HSCAN".to_vec(), key(g)], options)
}

/// Hashes alone, between thresholds that are low enough to be crossed.
pub fn between_thresholds(pair: &Pair, g: &mut Generator) -> Vec<Step> {
    let set = |server: &Server, name: &str, value: &str| {
        let set = server.client().run(&["CONFIG", "SET", name, value]);
        assert_eq!(set, Value::ok());
    };
    for (names, values) in [
        (
            ["hash-max-listpack-entries", "hash-max-ziplist-entries"],
            ["0", "3", "6", "512"],
        ),
        (
            ["hash-max-listpack-value", "hash-max-ziplist-value"],
            ["0", "1", "5", "64"],
        ),
    ] {
        let (name, value) = (names[g.rng.usize(0..2)], values[g.rng.usize(0..4)]);
        set(&pair.redis, name, value);
        set(&pair.quoit, name, value);
    }
    let mut steps = Vec::new();
    for number in 1..=300 {
        steps.push(match g.rng.u8(0..30) {
            0 => step_on(g, own_key),
            _ => Step::Run(on(g, own_key)),
        });
        if number % 20 == 0 {
            steps.push(Step::Compare);
        }
    }
    steps
}

fn own_key(g: &mut Generator) -> Vec<u8> {
    KEYS[g.rng.usize(0..KEYS.len())].into()
}

fn key(g: &mut Generator) -> Vec<u8> {
    if g.once_in(15) { g.key() } else { own_key(g) }
}

fn field(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..20) {
        0 => g.value(),
        1 => vec![b'f'; g.rng.usize(62..67)],
        2..5 => FIELDS[g.rng.usize(0..FIELDS.len())].into(),
        5 => g.rng.i64(..).to_string().into_bytes(),
        6..10 => g.rng.i64(0..5).to_string().into_bytes(),
        _ => vec![g.rng.u8(b'a'..b'h')],
    }
}

fn value(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..8) {
        0 => vec![b'v'; g.rng.usize(62..67)],
        1 => g.float(),
        2..5 => g.integer(),
        5 => vec![b'v'; g.rng.usize(0..7)],
        _ => g.value(),
    }
}

fn hrandfield(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![g.pick(&["HRANDFIELD"]), key(g)];
    match g.rng.u8(0..6) {
        0 => return request,
        1 => request.push(g.pick(&[
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "4611686018427387904",
            "x",
            "",
        ])),
        _ => request.push(g.rng.i64(-30..30).to_string().into_bytes()),
    }
    match g.rng.u8(0..6) {
        0 => request.push(g.garbage()),
        1..4 => request.push(g.pick(&["WITHVALUES"])),
        _ => {}
    }
    request
}

fn hscan(g: &mut Generator, key: Key) -> Request {
    let cursor = if g.rng.bool() {
        b"0".to_vec()
    } else {
        g.integer()
    };
    let mut request = vec![g.pick(&["HSCAN"]), key(g), cursor];
    for _ in 0..g.rng.usize(0..3) {
        match g.rng.u8(0..3) {
            0 => request.extend([g.pick(&["MATCH"]), g.pick(&["*", "a*", "["])]),
            1 => request.extend([g.pick(&["COUNT"]), g.integer()]),
            _ => request.push(g.garbage()),
        }
    }
    request
}
