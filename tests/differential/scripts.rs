//! Scripts on both servers: their replies, errors to the byte, and every function of the libraries.
//!
//! `scripts.txt` holds scripts with what they need; the lists of the libraries' own unit tests are run too, each shown by a
//! function in Lua that tells types, bytes and the order of keys. Then come random arguments for the functions that read
//! bytes: JSON, MessagePack, formats, patterns, whole ones and damaged ones. `QUOIT_TEST_SEED` replays, and
//! `QUOIT_TEST_STEPS` says how many.

use crate::pair::{Pair, Sides};
use crate::support::{scaled, seed};

const SHOW: &str = include_str!("../../src/script/lib/show.lua");

/// The lists of the unit tests: `> ` begins a script.
const LISTS: [&str; 5] = [
    include_str!("../../src/script/lib/bits/cases.txt"),
    include_str!("../../src/script/lib/cjson/cases.txt"),
    include_str!("../../src/script/lib/cmsgpack/cases.txt"),
    include_str!("../../src/script/lib/patterns/cases.txt"),
    include_str!("../../src/script/lib/structs/cases.txt"),
];

/// Scripts that return something else on purpose, or that nobody writes, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "return {pcall(pcall)}",
        "Redis's own pcall takes its result for a function",
    ),
    (
        "return {pcall(table.insert, nil, 1)}",
        "the function is known by a name here, where Lua has none",
    ),
    (
        "return {pcall(unpack, {}, 0, 2^31)}",
        "CVE-2025-46817: the overflow is refused, as since 7.0.16",
    ),
];

fn scripts(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.strip_prefix("> "))
}

/// A script that returns what the given one does, as text.
fn shown(script: &str) -> String {
    format!("local function script() {script}\nend {SHOW} return show(script())")
}

fn eval(script: &str, arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let head = [b"EVAL".to_vec(), script.as_bytes().to_vec()];
    let arguments = arguments.iter().map(|argument| argument.to_vec());
    head.into_iter().chain(arguments).collect()
}

/// Sends each request to both, after the last one's keys are gone, and tells all that differ.
fn compare(test: &str, protocol: u8, requests: impl IntoIterator<Item = Vec<Vec<u8>>>) {
    let Some(pair) = Pair::start(test) else {
        return;
    };
    let mut sides = Sides::connect(&pair, protocol);
    let (mut found, mut count) = (Vec::new(), 0);
    for request in requests {
        count += 1;
        let flushed = sides.run(&[b"FLUSHALL".to_vec()]);
        assert!(flushed.is_none(), "{flushed:?}");
        let script = String::from_utf8_lossy(&request[1]).into_owned();
        if DIFFERENCES.iter().any(|(known, _)| script == *known) {
            continue;
        }
        if let Some(mismatch) = sides.run(&request) {
            found.push(format!(
                "{}\n  redis: {}\n  quoit: {}",
                mismatch.request, mismatch.redis, mismatch.quoit
            ));
        }
    }
    assert!(count > 0, "there are scripts");
    assert!(
        found.is_empty(),
        "RESP{protocol}: {} of {count} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn written() -> impl Iterator<Item = Vec<Vec<u8>>> {
    scripts(include_str!("scripts.txt")).map(|line| {
        let (script, arguments) = line.split_once(" @@ ").unwrap_or((line, "0"));
        let arguments: Vec<&[u8]> = arguments.split(' ').map(str::as_bytes).collect();
        eval(script, &arguments)
    })
}

#[test]
fn scripts_resp2() {
    compare("scripts_resp2", 2, written());
}

#[test]
fn scripts_resp3() {
    compare("scripts_resp3", 3, written());
}

#[test]
fn library_functions() {
    let all = LISTS.into_iter().flat_map(scripts);
    compare(
        "library_functions",
        3,
        all.map(|script| eval(&shown(script), &[b"0"])),
    );
}

/// Random requests, one of `make` each.
fn compare_random(test: &str, make: impl Fn(&mut fastrand::Rng) -> Vec<Vec<u8>>) {
    let seed = seed();
    let count = scaled("QUOIT_TEST_STEPS", 12_000) / 10;
    let mut rng = fastrand::Rng::with_seed(seed);
    let requests: Vec<_> = (0..count).map(|_| make(&mut rng)).collect();
    compare(test, 2, requests);
}

fn pick<'a>(rng: &mut fastrand::Rng, words: &[&'a str]) -> &'a str {
    words[rng.usize(..words.len())]
}

/// Cuts, doubles or changes some bytes, one time in four.
fn damage(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() || rng.u8(..4) > 0 {
        return;
    }
    let at = rng.usize(..bytes.len());
    match rng.u8(..4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, rng.u8(..)),
        2 => bytes[at] = rng.u8(..),
        _ => {
            bytes.remove(at);
        }
    }
}

fn json(rng: &mut fastrand::Rng, out: &mut String, depth: usize) {
    out.push_str(pick(rng, &["", "", "", " ", "\n\t", "\r"]));
    match rng.u8(..if depth == 0 { 5 } else { 9 }) {
        0 => out.push_str(&rng.i32(-1000..1000).to_string()),
        1 => out.push_str(pick(
            rng,
            &[
                "0.1",
                "-1.5e3",
                "1E-7",
                "123456789012345678",
                "1e400",
                "-0",
                "0x1F",
                "inf",
                "-nan",
                "1.",
                "-.5",
                "01",
                "1e",
                "+1",
                "99999999999999",
                "2.5e-320",
                "Infinity",
                "nan(1)",
                "-",
                "0x",
                "1e+",
                "0x.8p1",
            ],
        )),
        2 => out.push_str(pick(rng, &["true", "false", "null", "null", "nul", "True"])),
        3 | 4 => json_string(rng, out),
        5 | 6 => {
            out.push('[');
            for index in 0..rng.usize(..4) {
                out.push_str(if index > 0 { "," } else { "" });
                json(rng, out, depth - 1);
            }
            out.push(']');
        }
        _ => {
            out.push('{');
            for index in 0..rng.usize(..5) {
                out.push_str(if index > 0 { "," } else { "" });
                json_string(rng, out);
                out.push(':');
                json(rng, out, depth - 1);
            }
            out.push('}');
        }
    }
    out.push_str(pick(rng, &["", "", "", " "]));
}

fn json_string(rng: &mut fastrand::Rng, out: &mut String) {
    out.push('"');
    for _ in 0..rng.usize(..5) {
        out.push_str(pick(
            rng,
            &[
                "a",
                "bc",
                "é",
                "\\n",
                "\\\"",
                "\\\\",
                "\\/",
                "\\u00e9",
                "\\ud83d\\ude00",
                "\\u0000",
                "/",
                "\u{7f}",
                "\u{1}",
                "d",
                "e",
                "f",
                "\\ud800",
                "\\u12",
                "\\x",
            ],
        ));
    }
    out.push('"');
}

#[test]
fn random_json() {
    let script = shown(
        "local ok, v = pcall(cjson.decode, ARGV[1]) return {ok, v, {pcall(cjson.encode, v)}}",
    );
    compare_random("random_json", |rng| {
        let mut text = String::new();
        let depth = rng.usize(..5);
        json(rng, &mut text, depth);
        let mut text = text.into_bytes();
        damage(rng, &mut text);
        eval(&script, &[b"0", &text])
    });
}

fn message(rng: &mut fastrand::Rng, out: &mut Vec<u8>, depth: usize) {
    match rng.u8(..if depth == 0 { 8 } else { 12 }) {
        0 | 1 => out.push(rng.u8(..128)),
        2 => out.push(rng.u8(224..)),
        3 => {
            let kind = pick(
                rng,
                &[
                    "\u{4c}", "\u{4d}", "\u{4e}", "\u{4f}", "\u{50}", "\u{51}", "\u{52}", "\u{53}",
                ],
            );
            let kind = kind.as_bytes()[0] | 0x80;
            out.push(kind);
            out.extend((0..1 << (kind & 3)).map(|_| rng.u8(..)));
        }
        4 => {
            out.push(0xcb);
            out.extend(((rng.f64() - 0.5) * 1e6).to_be_bytes());
        }
        5 => out.push([0xc0, 0xc2, 0xc3][rng.usize(..3)]),
        6 | 7 => message_string(rng, out),
        8 | 9 => {
            let count = rng.u8(..5);
            match rng.bool() {
                true => out.push(0x90 | count),
                false => out.extend([0xdc, 0, count]),
            }
            (0..count).for_each(|_| message(rng, out, depth - 1));
        }
        _ => {
            let count = rng.u8(..5);
            match rng.bool() {
                true => out.push(0x80 | count),
                false => out.extend([0xde, 0, count]),
            }
            for _ in 0..count {
                message_string(rng, out);
                message(rng, out, depth - 1);
            }
        }
    }
}

fn message_string(rng: &mut fastrand::Rng, out: &mut Vec<u8>) {
    let len = rng.u8(..6);
    match rng.u8(..4) {
        0 => out.extend([0xd9, len]),
        1 => out.extend([0xda, 0, len]),
        2 => out.extend([0xdb, 0, 0, 0, len]),
        _ => out.push(0xa0 | len),
    }
    out.extend((0..len).map(|_| rng.u8(b'a'..=b'd')));
}

#[test]
fn random_messages() {
    // Damage can make a table a key: the place of such a key is that of the table in memory.
    let known = "local function is_odd(v) if type(v) ~= 'table' then return false end \
         for k, i in pairs(v) do if type(k) == 'table' or is_odd(i) then return true end end return false end \
         if is_odd(t) then return 'a table is a key' end ";
    let whole = shown(&format!(
        "local t = {{pcall(cmsgpack.unpack, ARGV[1])}} {known} return {{t, {{pcall(cmsgpack.pack, t[2], t[3])}}}}"
    ));
    let part = shown(&format!(
        "local t = {{{{pcall(cmsgpack.unpack_one, ARGV[1], ARGV[2])}}, \
         {{pcall(cmsgpack.unpack_limit, ARGV[1], ARGV[3], ARGV[2])}}}} {known} return t"
    ));
    compare_random("random_messages", |rng| {
        let mut bytes = Vec::new();
        let depth = rng.usize(..5);
        (0..rng.usize(1..4)).for_each(|_| message(rng, &mut bytes, depth));
        damage(rng, &mut bytes);
        let (offset, limit) = (rng.i32(-1..6).to_string(), rng.i32(-1..4).to_string());
        match rng.bool() {
            true => eval(&whole, &[b"0", &bytes]),
            false => eval(&part, &[b"0", &bytes, offset.as_bytes(), limit.as_bytes()]),
        }
    });
}

#[test]
fn random_formats() {
    let unpack = shown(
        "return {{pcall(struct.unpack, ARGV[1], ARGV[2], ARGV[3])}, {pcall(struct.size, ARGV[1])}}",
    );
    let pack = shown("return {pcall(struct.pack, unpack(ARGV))}");
    let letters = [
        "b",
        "B",
        "h",
        "H",
        "l",
        "L",
        "T",
        "i",
        "I",
        "f",
        "d",
        "x",
        "s",
        "c",
        "c0",
        "c3",
        "i3",
        "I5",
        "i8",
        "i9",
        "i16",
        "i33",
        "i0",
        "<",
        ">",
        "!",
        "!2",
        "!4",
        "!3",
        " ",
        "bc0",
        "z",
        "c2147483648",
        "c2147483647",
    ];
    let values = [
        "0",
        "1",
        "-1",
        "127",
        "255",
        "-129",
        "65536",
        "4294967296",
        "9007199254740993",
        "1e300",
        "-1e300",
        "1.5",
        "0.1",
        "abc",
        "hello",
        "9223372036854775808",
        "18446744073709551616",
        "inf",
    ];
    compare_random("random_formats", |rng| {
        let format: String = (0..rng.usize(..6)).map(|_| pick(rng, &letters)).collect();
        if rng.bool() {
            let data: Vec<u8> = (0..rng.usize(..40))
                .map(|_| [0, 1, 2, 255, b'A'][rng.usize(..5)])
                .collect();
            let position = rng.i32(-1..9).to_string();
            return eval(
                &unpack,
                &[b"0", format.as_bytes(), &data, position.as_bytes()],
            );
        }
        let mut arguments = vec![b"0".as_slice(), format.as_bytes()];
        arguments.extend((0..rng.usize(3..7)).map(|_| pick(rng, &values).as_bytes()));
        eval(&pack, &arguments)
    });
}

#[test]
fn random_patterns() {
    let script = shown(
        "local s, p, r = ARGV[1], ARGV[2], ARGV[3] local t = {} \
         local ok, e = pcall(function() for a, b in string.gmatch(s, p) do t[#t + 1] = {a, b} if #t > 30 then break end end end) \
         return {{pcall(string.find, s, p)}, {pcall(string.match, s, p, 2)}, {pcall(string.gsub, s, p, r)}, \
         {pcall(string.gsub, s, p, function(a, b) return b or '<' .. tostring(a) .. '>' end)}, \
         {pcall(string.gsub, s, p, {a = 'A', b = false, ['1'] = 7})}, ok, e, t}",
    );
    let items = [
        "a", "b", "c", ".", "%a", "%d", "%s", "%w", "%A", "%z", "%.", "%%", "[abc]", "[^a]",
        "[a-c]", "[]a]", "[a-]", "x", "1", "(", ")", "()", "(a", "b)", "%1", "%b()", "%bab",
        "%f[%w]", "^", "$", "*", "+", "-", "?", "*", "+", "-", "?", "[", "%",
    ];
    let replacements = ["x", "%0", "%1", "%2", "%%", "%", ""];
    compare_random("random_patterns", |rng| {
        let source: String = (0..rng.usize(..14))
            .map(|_| {
                pick(
                    rng,
                    &["a", "a", "b", "b", "c", ".", "1", " ", "(", ")", "\0"],
                )
            })
            .collect();
        let pattern: String = (0..rng.usize(..8)).map(|_| pick(rng, &items)).collect();
        let replacement: String = (0..rng.usize(..3))
            .map(|_| pick(rng, &replacements))
            .collect();
        eval(
            &script,
            &[
                b"0",
                source.as_bytes(),
                pattern.as_bytes(),
                replacement.as_bytes(),
            ],
        )
    });
}
