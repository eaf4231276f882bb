//! SORT and SORT_RO: sources of each type, weights and values at other keys, some of them missing or of the wrong type.
//!
//! Left out is what has no order in Redis: members of sets that are not sorted, members of either kind of set that have equal
//! texts for weights; and elements of equal texts with LIMIT, where Redis chooses another way to sort.

use crate::generate::{Generator, Request};
use crate::pair::{Pair, Step};

const LISTS: &[&str] = &["sort:list", "sort:long", "sort:words", "sort:stored"];
const ZSETS: &[&str] = &["sort:zset", "sort:manymembers"];
const SETS: &[&str] = &["sort:ints", "sort:set"];
const OTHERS: &[&str] = &["sort:string", "sort:hash", "sort:missing"];

const PATTERNS: &[&str] = &[
    "w_*", "t_*", "o_*->f", "o_*->g", "o_*", "w_*->f", "o_*->", "*", "*_*", "nothing*",
];

/// Sources and what their elements name, then requests.
pub fn sequence(_: &Pair, g: &mut Generator) -> Vec<Step> {
    let mut steps: Vec<Request> = Vec::new();
    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
    for number in 0..40 {
        let element = number.to_string();
        if g.rng.u8(..4) > 0 {
            let weight = ["7", "1.5", "-3", "inf", "", " 12", "0x1f", "7"][g.rng.usize(..8)];
            steps.push(words(&["SET", &format!("w_{element}"), weight]));
        }
        if g.rng.bool() {
            let text = ["a", "b", "ab", "zz", "0"][g.rng.usize(..5)];
            steps.push(words(&["SET", &format!("t_{element}"), text]));
        }
        let field = ["f", "g"][g.rng.usize(..2)];
        let value = g.rng.i8(..).to_string();
        steps.push(words(&["HSET", &format!("o_{element}"), field, &value]));
    }
    for (command, key, count) in [
        ("RPUSH", "sort:list", 12),
        ("RPUSH", "sort:long", 3_000),
        ("SADD", "sort:ints", 30),
        ("SADD", "sort:set", 800),
        ("ZADD", "sort:zset", 20),
        ("ZADD", "sort:manymembers", 300),
    ] {
        let mut request: Request = words(&[command, key]);
        for _ in 0..count {
            if command == "ZADD" {
                request.push(g.rng.i8(..).to_string().into_bytes());
            }
            let most = if count > 100 { 100_000 } else { 40 };
            request.push(g.rng.i32(0..most).to_string().into_bytes());
        }
        steps.push(request);
    }
    steps.push(words(&[
        "RPUSH",
        "sort:words",
        "b",
        "a",
        "",
        "1",
        "c",
        "ab",
        "-0",
        "1e2",
    ]));
    steps.push(words(&["SET", "sort:string", "x"]));
    steps.push(words(&["HSET", "sort:hash", "f", "v"]));
    let mut steps: Vec<Step> = steps.into_iter().map(Step::Run).collect();
    for number in 1..=150 {
        steps.push(Step::Run(request(g)));
        if number % 30 == 0 {
            steps.push(Step::Compare);
        }
    }
    steps
}

fn request(g: &mut Generator) -> Request {
    let source = match g.rng.u8(..12) {
        0..6 => LISTS,
        6..8 => ZSETS,
        8..11 => SETS,
        _ => OTHERS,
    };
    let name = g.pick(&["SORT", "SORT", "SORT_RO"]);
    let mut request = vec![name, g.pick(source)];
    let is_set = source == SETS;
    let has_no_order = is_set || source == ZSETS;
    let alpha = g.rng.bool();
    let by = match g.rng.u8(..6) {
        0 if is_set => None,
        0 => Some("nosort"),
        1..4 if !(alpha && has_no_order) => Some(PATTERNS[g.rng.usize(..PATTERNS.len())]),
        _ => None,
    };
    let may_limit = by.is_none_or(|by| by == "nosort" || !alpha);
    let mut options: Vec<Request> = Vec::new();
    options.extend(by.map(|by| vec![b"BY".to_vec(), by.into()]));
    options.extend(alpha.then(|| vec![b"ALPHA".to_vec()]));
    if may_limit && g.rng.bool() {
        let (offset, count) = (g.rng.i32(-2..40), g.rng.i32(-2..40));
        options.push(vec![
            b"LIMIT".to_vec(),
            offset.to_string().into(),
            count.to_string().into(),
        ]);
    }
    if g.rng.bool() {
        options.push(vec![g.pick(&["ASC", "DESC", "desc"])]);
    }
    for _ in 0..g.rng.usize(..3) {
        let pattern = match g.rng.u8(..4) {
            0 => g.pick(&["#", "nostar", "##"]),
            _ => g.pick(PATTERNS),
        };
        options.push(vec![b"GET".to_vec(), pattern]);
    }
    if request[0] == b"SORT" && g.once_in(4) {
        options.push(vec![
            b"STORE".to_vec(),
            g.pick(&["sort:stored", "sort:list"]),
        ]);
    }
    if g.once_in(20) {
        options.push(vec![g.garbage()]);
    }
    g.rng.shuffle(&mut options);
    request.extend(options.into_iter().flatten());
    request
}
