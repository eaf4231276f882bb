//! Lists: on a few keys of their own, and now and then on those of other types.
//!
//! The elements are few, so that LREM, LPOS and LINSERT find some; a few are too large for a node. Blocking commands wait a
//! millisecond: what happens to a client that waits while others come is for the scripts of scenarios.

use crate::generate::{Generator, Request};
use crate::pair::{Pair, Step};
use crate::support::Value;

const KEYS: &[&str] = &["list:1", "list:2", "list:3", "list:4"];

/// Timeouts that are refused, by both or by later versions.
const BAD_TIMEOUTS: &[&str] = &[
    "x", "", "nan", "-1", "-0.5", "-inf", "inf", "1e400", " 1", "1e5000", "1,5", "--1",
];

/// A command on lists.
pub fn request(g: &mut Generator) -> Request {
    on(g, key)
}

/// How a key is chosen.
type Key = fn(&mut Generator) -> Vec<u8>;

fn on(g: &mut Generator, key: Key) -> Request {
    match g.rng.u8(0..40) {
        0..9 => {
            let name = g.pick(&["LPUSH", "RPUSH", "LPUSH", "RPUSH", "LPUSHX", "RPUSHX"]);
            let mut request = vec![name, key(g)];
            for _ in 0..g.rng.usize(1..=6) {
                request.push(element(g));
            }
            request
        }
        9..14 => {
            let mut request = vec![g.pick(&["LPOP", "RPOP"]), key(g)];
            if g.rng.bool() {
                request.push(count(g));
            }
            request
        }
        14 => vec![g.pick(&["LLEN", "TYPE"]), key(g)],
        15 => vec![g.pick(&["LINDEX"]), key(g), index(g)],
        16..18 => vec![g.pick(&["LRANGE"]), key(g), index(g), index(g)],
        18..20 => vec![g.pick(&["LSET"]), key(g), index(g), element(g)],
        20..22 => {
            let place = g.pick(&["BEFORE", "AFTER"]);
            vec![g.pick(&["LINSERT"]), key(g), place, element(g), element(g)]
        }
        22..24 => vec![g.pick(&["LREM"]), key(g), index(g), element(g)],
        24 => vec![g.pick(&["LTRIM"]), key(g), index(g), index(g)],
        25..28 => lpos(g, key),
        28..31 => {
            let (from, to) = (end(g), end(g));
            vec![g.pick(&["LMOVE"]), key(g), key(g), from, to]
        }
        31 => vec![g.pick(&["RPOPLPUSH"]), key(g), key(g)],
        32..34 => lmpop(g, key),
        34..37 => blocking(g, key),
        37 => vec![g.pick(&["OBJECT"]), b"ENCODING".to_vec(), key(g)],
        38 => vec![g.pick(&["COPY", "RENAME", "RENAMENX"]), key(g), key(g)],
        _ if g.once_in(4) => vec![g.pick(&["SET"]), own_key(g), element(g)],
        _ => vec![g.pick(&["DEL", "PERSIST", "PTTL", "TOUCH"]), key(g)],
    }
}

/// Lists alone, with nodes of various sizes.
pub fn between_thresholds(pair: &Pair, g: &mut Generator) -> Vec<Step> {
    let size = ["1", "2", "5", "-1", "-2", "-5", "128"][g.rng.usize(0..7)];
    for server in [&pair.redis, &pair.quoit] {
        let mut client = server.client();
        let set = client.run(&["CONFIG", "SET", "list-max-listpack-size", size]);
        assert_eq!(set, Value::ok());
    }
    let mut steps = Vec::new();
    for number in 1..=300 {
        steps.push(Step::Run(on(g, own_key)));
        if number % 20 == 0 {
            steps.push(Step::Compare);
        }
    }
    steps
}

/// Waits that would be longer than a moment become that short.
pub fn bound_waits(request: &mut Request) {
    let is = |names: &[&str]| {
        names
            .iter()
            .any(|name| request[0].eq_ignore_ascii_case(name.as_bytes()))
    };
    let place = if is(&["BLMPOP", "BZMPOP"]) {
        1
    } else if is(&[
        "BLPOP",
        "BRPOP",
        "BLMOVE",
        "BRPOPLPUSH",
        "BZPOPMIN",
        "BZPOPMAX",
    ]) {
        request.len() - 1
    } else {
        return;
    };
    let Some(timeout) = request.get_mut(place).filter(|_| place > 0) else {
        return;
    };
    if !BAD_TIMEOUTS.iter().any(|bad| timeout == bad.as_bytes()) {
        *timeout = b"0.001".to_vec();
    }
}

fn own_key(g: &mut Generator) -> Vec<u8> {
    KEYS[g.rng.usize(0..KEYS.len())].into()
}

fn key(g: &mut Generator) -> Vec<u8> {
    if g.once_in(15) { g.key() } else { own_key(g) }
}

fn element(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..40) {
        0 | 1 => g.value(),
        2 => vec![b'x'; g.rng.usize(3_000..20_000)],
        3..6 => vec![b'y'; g.rng.usize(60..300)],
        6..20 => vec![g.rng.u8(b'a'..b'f')],
        20 => g.rng.i64(..).to_string().into_bytes(),
        _ => g.rng.i64(-2..5).to_string().into_bytes(),
    }
}

fn index(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..12) {
        0 => g.integer(),
        1 => g.pick(&[
            "9223372036854775807",
            "-9223372036854775808",
            "-9223372036854775807",
        ]),
        _ => g.rng.i64(-12..12).to_string().into_bytes(),
    }
}

fn count(g: &mut Generator) -> Vec<u8> {
    if g.once_in(6) {
        g.integer()
    } else {
        g.rng.u8(0..6).to_string().into_bytes()
    }
}

fn end(g: &mut Generator) -> Vec<u8> {
    if g.once_in(20) {
        return g.garbage();
    }
    g.pick(&["LEFT", "RIGHT"])
}

fn lpos(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![g.pick(&["LPOS"]), key(g), element(g)];
    for _ in 0..g.rng.usize(0..4) {
        let option = g.pick(&["RANK", "COUNT", "MAXLEN"]);
        let number = if option.eq_ignore_ascii_case(b"RANK") {
            index(g)
        } else {
            count(g)
        };
        request.extend([option, number]);
    }
    request
}

fn lmpop(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![g.pick(&["LMPOP"])];
    pops(g, key, &mut request);
    request
}

fn pops(g: &mut Generator, key: Key, request: &mut Request) {
    let keys = g.rng.usize(1..4);
    request.push(if g.once_in(10) {
        g.integer()
    } else {
        keys.to_string().into_bytes()
    });
    for _ in 0..keys {
        request.push(key(g));
    }
    request.push(end(g));
    if g.rng.bool() {
        request.extend([g.pick(&["COUNT"]), count(g)]);
    }
}

fn blocking(g: &mut Generator, key: Key) -> Request {
    let timeout = if g.once_in(8) {
        BAD_TIMEOUTS[g.rng.usize(0..BAD_TIMEOUTS.len())].into()
    } else {
        g.pick(&["0.001", "1e-3", "0.0001", "0x.004"])
    };
    let mut request = vec![g.pick(&["BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP"])];
    let name = request[0].to_ascii_uppercase();
    match &*name {
        b"BLMPOP" => {
            request.push(timeout);
            pops(g, key, &mut request);
        }
        b"BLMOVE" => request.extend([key(g), key(g), end(g), end(g), timeout]),
        b"BRPOPLPUSH" => request.extend([key(g), key(g), timeout]),
        _ => {
            for _ in 0..g.rng.usize(1..4) {
                request.push(key(g));
            }
            request.push(timeout);
        }
    }
    request
}
