//! Streams: on a few keys of their own, and now and then on those of other types.
//!
//! Ids are small, so that entries are met again; `*` would make ids of the servers' clocks and is replaced. How long
//! something has been pending is compared only with thresholds that no stall reaches.

use crate::generate::{Generator, Request};
use crate::pair::{Pair, Step};
use crate::support::{Server, Value};

const KEYS: &[&str] = &["stream:1", "stream:2", "stream:3"];
/// Milliseconds of ids.
const SPAN: u64 = 60;
/// More entries than this at once redis-server may refuse to make room for.
const MOST_CLAIMED: i64 = 1_000_000;

/// A command on streams.
pub fn request(g: &mut Generator) -> Request {
    on(g, key)
}

/// How a key is chosen.
type Key = fn(&mut Generator) -> Vec<u8>;

fn on(g: &mut Generator, key: Key) -> Request {
    let mut request = match g.rng.u8(0..50) {
        0..13 => xadd(g, key),
        13..15 => {
            let mut request = vec![g.pick(&["XTRIM"]), key(g)];
            trim(g, &mut request);
            request
        }
        15..18 => with_ids(g, vec![b"XDEL".to_vec()], key),
        18 => vec![g.pick(&["XLEN", "TYPE", "DEL"]), key(g)],
        19..22 => range(g, key),
        22..25 => read(g, key),
        25..31 => read_group(g, key),
        31..33 => {
            let mut request = vec![b"XACK".to_vec(), key(g), group(g)];
            ids(g, &mut request);
            request
        }
        33..36 => pending(g, key),
        36..39 => claim(g, key),
        39..41 => auto_claim(g, key),
        41..47 => xgroup(g, key),
        47 => set_id(g, key),
        48 => info(g, key),
        _ => vec![g.pick(&["COPY", "RENAME", "RENAMENX"]), key(g), key(g)],
    };
    make_repeatable(&mut request);
    request
}

/// Streams alone, in nodes of few entries.
pub fn between_limits(pair: &Pair, g: &mut Generator) -> Vec<Step> {
    let set = |server: &Server, name: &str, value: &str| {
        let set = server.client().run(&["CONFIG", "SET", name, value]);
        assert_eq!(set, Value::ok());
    };
    for (name, values) in [
        ("stream-node-max-entries", ["0", "1", "5", "100"]),
        ("stream-node-max-bytes", ["0", "60", "300", "4096"]),
    ] {
        let value = values[g.rng.usize(0..4)];
        set(&pair.redis, name, value);
        set(&pair.quoit, name, value);
    }
    let mut steps = Vec::new();
    for number in 1..=300 {
        steps.push(Step::Run(on(g, own_key)));
        if number % 15 == 0 {
            steps.push(Step::Compare);
        }
    }
    steps
}

/// Takes out of a request what would depend on the clocks of the servers, wait, or ask redis-server for gigabytes.
pub fn make_repeatable(request: &mut Request) {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<i64>().ok();
    let name = request[0].clone();
    for at in 1..request.len() {
        if is(&name, "XADD") && request[at] == b"*" {
            request[at] = b"4000000000000-*".to_vec();
        }
        let waits =
            (is(&name, "XREAD") || is(&name, "XREADGROUP")) && is(&request[at - 1], "BLOCK");
        if waits && number(&request[at]).is_some_and(|timeout| timeout >= 0) {
            request[at] = b"1".to_vec();
        }
        if is(&name, "XAUTOCLAIM")
            && number(&request[at])
                .is_some_and(|count| (MOST_CLAIMED..i64::MAX / 16).contains(&count))
        {
            request[at] = MOST_CLAIMED.to_string().into_bytes();
        }
    }
}

/// What stands for an argument of this name.
pub fn argument(name: &str, g: &mut Generator) -> Option<Vec<u8>> {
    Some(match name {
        "id" | "last-id" | "max_deleted_entry_id" | "threshold" => id(g),
        "start" | "end" => end(g),
        "group" | "groupname" => group(g),
        "consumer" | "consumername" => consumer(g),
        "min-idle-time" => min_idle(g),
        _ => return None,
    })
}

fn own_key(g: &mut Generator) -> Vec<u8> {
    KEYS[g.rng.usize(0..KEYS.len())].into()
}

fn key(g: &mut Generator) -> Vec<u8> {
    if g.once_in(20) { g.key() } else { own_key(g) }
}

fn group(g: &mut Generator) -> Vec<u8> {
    g.pick(&["g", "g", "g", "h", "h", "none"])
}

fn consumer(g: &mut Generator) -> Vec<u8> {
    g.pick(&["c", "d", "e", ""])
}

fn min_idle(g: &mut Generator) -> Vec<u8> {
    g.pick(&["0", "0", "0", "0", "-1", "900000000000", "x"])
}

fn id(g: &mut Generator) -> Vec<u8> {
    let ms = g.rng.u64(0..SPAN);
    match g.rng.u8(0..30) {
        0..12 => format!("{ms}-{}", g.rng.u8(0..3)).into_bytes(),
        12..20 => format!("{ms}-0").into_bytes(),
        20..26 => ms.to_string().into_bytes(),
        26 | 27 => g.pick(&["0", "0-0", "$", ">", "-", "+"]),
        28 => g.pick(&[
            "18446744073709551615-18446744073709551615",
            "18446744073709551615",
            "1-18446744073709551615",
            "5-*",
            "5-",
            "-5",
            "(5",
            " 7",
            "+8-+1",
            "08-01",
            "9- -1",
            "x",
            "",
        ]),
        _ => g.garbage(),
    }
}

/// An end of an interval.
fn end(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..8) {
        0..3 => g.pick(&["-", "+"]),
        3 => [b"(".to_vec(), id(g)].concat(),
        _ => id(g),
    }
}

fn ids(g: &mut Generator, request: &mut Request) {
    for _ in 0..g.rng.usize(1..4) {
        request.push(id(g));
    }
}

fn with_ids(g: &mut Generator, mut request: Request, key: Key) -> Request {
    request.push(key(g));
    ids(g, &mut request);
    request
}

fn count(g: &mut Generator, request: &mut Request) {
    if g.rng.bool() {
        request.extend([g.pick(&["COUNT"]), g.pick(&["0", "1", "2", "5", "-1", "x"])]);
    }
}

fn trim(g: &mut Generator, request: &mut Request) {
    let is_length = g.rng.bool();
    request.push(g.pick(if is_length { &["MAXLEN"] } else { &["MINID"] }));
    if g.rng.bool() {
        request.push(g.pick(&["~", "~", "="]));
    }
    request.push(match is_length {
        true => g.rng.i64(-1..25).to_string().into_bytes(),
        false => id(g),
    });
    if g.once_in(3) {
        request.extend([
            g.pick(&["LIMIT"]),
            g.pick(&["0", "3", "7", "100", "-1", "x"]),
        ]);
    }
}

fn xadd(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![b"XADD".to_vec(), key(g)];
    if g.once_in(15) {
        request.push(g.pick(&["NOMKSTREAM"]));
    }
    if g.once_in(5) {
        trim(g, &mut request);
    }
    // Rising as a rule.
    request.push(match g.rng.u8(0..12) {
        0..3 => id(g),
        3..8 => format!("{}-*", SPAN - 1).into_bytes(),
        _ => format!("{}-*", g.rng.u64(0..SPAN)).into_bytes(),
    });
    for _ in 0..g.rng.usize(1..4) {
        request.extend([g.pick(&["f", "g", "12", ""]), g.value()]);
    }
    request
}

fn range(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![g.pick(&["XRANGE", "XREVRANGE"]), key(g), end(g), end(g)];
    count(g, &mut request);
    request
}

fn streams(g: &mut Generator, key: Key, request: &mut Request, id: Key) {
    request.push(g.pick(&["STREAMS"]));
    let count = g.rng.usize(1..3);
    (0..count).for_each(|_| request.push(key(g)));
    (0..count).for_each(|_| request.push(id(g)));
}

fn read(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![b"XREAD".to_vec()];
    count(g, &mut request);
    if g.once_in(20) {
        request.extend([g.pick(&["BLOCK"]), g.pick(&["1", "-1", "x"])]);
    }
    streams(g, key, &mut request, id);
    request
}

fn read_group(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![
        b"XREADGROUP".to_vec(),
        g.pick(&["GROUP"]),
        group(g),
        consumer(g),
    ];
    count(g, &mut request);
    if g.once_in(6) {
        request.push(g.pick(&["NOACK"]));
    }
    let new_or_old = |g: &mut Generator| match g.once_in(4) {
        true => id(g),
        false => b">".to_vec(),
    };
    streams(g, key, &mut request, new_or_old);
    request
}

fn pending(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![b"XPENDING".to_vec(), key(g), group(g)];
    if g.rng.bool() {
        return request;
    }
    if g.once_in(3) {
        request.extend([g.pick(&["IDLE"]), min_idle(g)]);
    }
    request.extend([end(g), end(g), g.pick(&["10", "2", "0", "-1", "x"])]);
    if g.once_in(3) {
        request.push(consumer(g));
    }
    request
}

fn claim(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![
        b"XCLAIM".to_vec(),
        key(g),
        group(g),
        consumer(g),
        min_idle(g),
    ];
    ids(g, &mut request);
    for _ in 0..g.rng.usize(0..3) {
        match g.rng.u8(0..8) {
            0 | 1 => request.push(g.pick(&["FORCE"])),
            2 => request.push(g.pick(&["JUSTID"])),
            3 => request.extend([g.pick(&["RETRYCOUNT"]), g.pick(&["0", "7", "-1", "x"])]),
            4 => request.extend([g.pick(&["TIME"]), g.pick(&["1000", "-1", "x"])]),
            5 => request.extend([g.pick(&["IDLE"]), g.pick(&["0", "-5", "x"])]),
            6 => request.extend([g.pick(&["LASTID"]), id(g)]),
            _ => request.push(g.garbage()),
        }
    }
    request
}

fn auto_claim(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![
        b"XAUTOCLAIM".to_vec(),
        key(g),
        group(g),
        consumer(g),
        min_idle(g),
        end(g),
    ];
    count(g, &mut request);
    if g.once_in(3) {
        request.push(g.pick(&["JUSTID"]));
    }
    request
}

fn xgroup(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![b"XGROUP".to_vec()];
    let position = |g: &mut Generator| match g.rng.u8(0..3) {
        0 => b"$".to_vec(),
        1 => b"0".to_vec(),
        _ => id(g),
    };
    match g.rng.u8(0..12) {
        0..5 => {
            request.extend([g.pick(&["CREATE"]), key(g), group(g), position(g)]);
            if g.rng.bool() {
                request.push(g.pick(&["MKSTREAM"]));
            }
        }
        5..7 => request.extend([g.pick(&["SETID"]), key(g), group(g), position(g)]),
        7 => {
            request.extend([g.pick(&["DESTROY"]), key(g), group(g)]);
            return request;
        }
        _ => {
            let name = g.pick(&["CREATECONSUMER", "CREATECONSUMER", "DELCONSUMER"]);
            request.extend([name, key(g), group(g), consumer(g)]);
            return request;
        }
    }
    if g.once_in(3) {
        request.extend([
            g.pick(&["ENTRIESREAD"]),
            g.pick(&["0", "3", "-1", "-2", "x"]),
        ]);
    }
    request
}

fn set_id(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![b"XSETID".to_vec(), key(g), id(g)];
    if g.rng.bool() {
        request.extend([g.pick(&["ENTRIESADDED"]), g.pick(&["3", "100", "-1", "x"])]);
    }
    if g.once_in(3) {
        request.extend([g.pick(&["MAXDELETEDID"]), id(g)]);
    }
    request
}

fn info(g: &mut Generator, key: Key) -> Request {
    let mut request = vec![b"XINFO".to_vec()];
    match g.rng.u8(0..5) {
        0 => request.extend([g.pick(&["STREAM"]), key(g)]),
        1 => request.extend([g.pick(&["GROUPS"]), key(g)]),
        2 => request.extend([g.pick(&["CONSUMERS"]), key(g), group(g)]),
        _ => {
            request.extend([g.pick(&["STREAM"]), key(g), g.pick(&["FULL"])]);
            count(g, &mut request);
        }
    }
    request
}
