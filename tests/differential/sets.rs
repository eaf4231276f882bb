//! Sets: on a few keys of their own, and now and then on those of other types.
//!
//! The members are few, so that sets have some in common: integers of every width, texts that look like integers, texts on
//! both sides of `set-max-listpack-value`. Which member SPOP takes is a matter of chance; it is a step of its own, which puts
//! back what was taken.

use crate::generate::{Generator, Request};
use crate::pair::{Pair, Step};
use crate::support::Value;

const KEYS: &[&str] = &["set:1", "set:2", "set:3", "set:4"];
const MEMBERS: &[&str] = &[
    "32767",
    "32768",
    "-32768",
    "-32769",
    "2147483647",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "01",
    "+1",
    "-0",
    "1.0",
    "",
    "a",
    "b",
    "c",
    "\u{e4}",
];

/// A command on sets.
pub fn request(g: &mut Generator) -> Request {
    on(g, key)
}

/// How a key is chosen.
type Key = fn(&mut Generator) -> Vec<u8>;

fn on(g: &mut Generator, key: Key) -> Request {
    match g.rng.u8(0..40) {
        0..9 => {
            let mut request = vec![g.pick(&["SADD"]), key(g)];
            members(g, &mut request, 6);
            request
        }
        9..13 => {
            let mut request = vec![g.pick(&["SREM", "SMISMEMBER"]), key(g)];
            members(g, &mut request, 4);
            request
        }
        13 | 14 => vec![g.pick(&["SISMEMBER"]), key(g), member(g)],
        15..18 => vec![g.pick(&["SMOVE"]), key(g), key(g), member(g)],
        18 => vec![g.pick(&["SCARD", "SMEMBERS", "TYPE"]), key(g)],
        19..25 => keys(g, key, &["SINTER", "SUNION", "SDIFF"], 0),
        25..31 => keys(g, key, &["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"], 1),
        31..33 => sintercard(g, key),
        33..35 => srandmember(g, key),
        35 => sscan(g, key),
        36 => vec![g.pick(&["OBJECT"]), b"ENCODING".to_vec(), key(g)],
        37 => vec![g.pick(&["COPY", "RENAME", "RENAMENX"]), key(g), key(g)],
        38 => vec![g.pick(&["DEL", "PERSIST", "PTTL", "TOUCH"]), key(g)],
        _ => vec![g.pick(&["SET"]), own_key(g), member(g)],
    }
}

/// What is not a request alone.
pub fn step(g: &mut Generator) -> Step {
    step_on(g, key)
}

fn step_on(g: &mut Generator, key: Key) -> Step {
    if g.once_in(3) {
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
        return Step::ScanOf(vec![b"SSCAN".to_vec(), key(g)], options);
    }
    let count = match g.rng.u8(0..6) {
        0 => Some(g.pick(&["1000000", "9223372036854775807"])),
        1 => Some(g.pick(&["-1", "x", "", "9223372036854775808", "0"])),
        // Few: with more, redis-server 7.0 builds what is left anew, and may choose another encoding.
        2 | 3 => Some(g.pick(&["1", "2", "3"])),
        _ => None,
    };
    Step::Pop(key(g), count)
}

/// Sets alone, between thresholds that are low enough to be crossed. Few members are added at once: Redis 7.2 looks at
/// their number before it knows how many of them are new.
pub fn between_thresholds(pair: &Pair, g: &mut Generator) -> Vec<Step> {
    let set = |server: &crate::support::Server, name: &str, value: &str| {
        let set = server.client().run(&["CONFIG", "SET", name, value]);
        assert_eq!(set, Value::ok());
    };
    let entries = ["0", "3", "6", "512"][g.rng.usize(0..4)];
    set(&pair.redis, "set-max-intset-entries", entries);
    set(&pair.quoit, "set-max-intset-entries", entries);
    for (name, values) in [
        ("set-max-listpack-entries", ["0", "4", "9", "128"]),
        ("set-max-listpack-value", ["0", "1", "5", "64"]),
    ] {
        set(&pair.quoit, name, values[g.rng.usize(0..4)]);
    }
    let mut steps = Vec::new();
    for number in 1..=300 {
        steps.push(match g.rng.u8(0..30) {
            0..13 => {
                let mut request = vec![b"SADD".to_vec(), own_key(g)];
                members(g, &mut request, 3);
                Step::Run(request)
            }
            13 => step_on(g, own_key),
            _ => Step::Run(on(g, own_key)),
        });
        if number % 20 == 0 {
            steps.push(Step::Compare);
        }
    }
    steps.retain(|step| match step {
        Step::Run(request) => !is_long_addition(request),
        _ => true,
    });
    steps
}

fn is_long_addition(request: &Request) -> bool {
    request[0].eq_ignore_ascii_case(b"SADD") && request.len() > 5
}

fn own_key(g: &mut Generator) -> Vec<u8> {
    KEYS[g.rng.usize(0..KEYS.len())].into()
}

fn key(g: &mut Generator) -> Vec<u8> {
    if g.once_in(15) { g.key() } else { own_key(g) }
}

fn member(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..20) {
        0 => g.value(),
        1 => vec![b'l'; g.rng.usize(62..67)],
        2..5 => MEMBERS[g.rng.usize(0..MEMBERS.len())].into(),
        5 => g.rng.i64(..).to_string().into_bytes(),
        6..9 => vec![g.rng.u8(b'a'..b'k')],
        _ => g.rng.i64(-5..20).to_string().into_bytes(),
    }
}

fn members(g: &mut Generator, request: &mut Request, most: usize) {
    for _ in 0..g.rng.usize(1..=most) {
        request.push(member(g));
    }
}

fn keys(g: &mut Generator, key: Key, names: &[&str], more: usize) -> Request {
    let mut request = vec![g.pick(names)];
    for _ in 0..g.rng.usize(1..4) + more {
        request.push(key(g));
    }
    request
}

fn sintercard(g: &mut Generator, key: Key) -> Request {
    let count = g.rng.usize(1..4);
    let mut request = vec![g.pick(&["SINTERCARD"])];
    request.push(if g.once_in(10) {
        g.integer()
    } else {
        count.to_string().into_bytes()
    });
    for _ in 0..count {
        request.push(key(g));
    }
    for _ in 0..g.rng.usize(0..2) {
        let limit = if g.once_in(5) {
            g.integer()
        } else {
            g.rng.u8(0..4).to_string().into_bytes()
        };
        request.extend([g.pick(&["LIMIT"]), limit]);
    }
    request
}

fn srandmember(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![g.pick(&["SRANDMEMBER"]), key(g)];
    match g.rng.u8(0..6) {
        0 => {}
        1 => request.push(g.pick(&[
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "x",
            "",
        ])),
        _ => request.push(g.rng.i64(-30..30).to_string().into_bytes()),
    }
    request
}

fn sscan(g: &mut Generator, key: Key) -> Request {
    let cursor = if g.rng.bool() {
        b"0".to_vec()
    } else {
        g.integer()
    };
    let mut request = vec![g.pick(&["SSCAN"]), key(g), cursor];
    for _ in 0..g.rng.usize(0..3) {
        match g.rng.u8(0..3) {
            0 => request.extend([g.pick(&["MATCH"]), g.pick(&["*", "a*", "["])]),
            1 => request.extend([g.pick(&["COUNT"]), g.integer()]),
            _ => request.push(g.garbage()),
        }
    }
    request
}
