//! Sorted sets: on a few keys of their own, now and then on plain sets and on those of other types.
//!
//! Ranges of bytes are asked of keys whose scores are all equal: of others redis-server answers what its walk meets, and in
//! a skiplist that is a matter of chance. Commands that block are asked only where they find something, or with a timeout
//! that is refused.

use crate::generate::{Generator, Request};
use crate::pair::{Pair, Step};
use crate::support::Value;

const KEYS: &[&str] = &["zset:1", "zset:2", "zset:3", "zset:4"];
/// All scores of this one are 0.
const LEX_KEY: &str = "zset:lex";
/// Ends of ranges and scores that one server might read otherwise.
const ODD_SCORES: &[&str] = &[
    "inf",
    "-inf",
    "+inf",
    "Infinity",
    "nan",
    "x",
    "",
    "1e400",
    "-1e400",
    "1e-400",
    "0x10",
    ".5",
    "5.",
    "-0",
    " 1",
    "1 ",
    "1e3",
    "9007199254740993",
    "-9007199254740993",
    "123456789012345678",
    "1e17",
    "1e300",
    "5e-324",
    "1\0",
];

/// A command on sorted sets.
pub fn request(g: &mut Generator) -> Request {
    Maker {
        foreign: true,
        wide: true,
    }
    .request(g)
}

/// Sorted sets alone, around thresholds that are low enough to be crossed.
pub fn between_thresholds(pair: &Pair, g: &mut Generator) -> Vec<Step> {
    for (name, values) in [
        ("zset-max-listpack-entries", ["0", "4", "9", "128"]),
        ("zset-max-listpack-value", ["0", "2", "5", "64"]),
    ] {
        let value = values[g.rng.usize(0..4)];
        for server in [&pair.redis, &pair.quoit] {
            let set = server.client().run(&["CONFIG", "SET", name, value]);
            assert_eq!(set, Value::ok());
        }
    }
    let maker = Maker {
        foreign: false,
        wide: false,
    };
    let mut steps = Vec::new();
    for number in 1..=300 {
        steps.push(match g.rng.u8(0..30) {
            0..8 => Step::Run(maker.zadd(g)),
            8 => Step::ScanOf(vec![b"ZSCAN".to_vec(), maker.key(g)], maker.scan_options(g)),
            _ => Step::Run(maker.request(g)),
        });
        if number % 20 == 0 {
            steps.push(Step::Compare);
        }
    }
    steps
}

/// What requests are made of.
struct Maker {
    /// Keys of other types among the keys.
    foreign: bool,
    /// Scores that the servers print differently among the scores.
    wide: bool,
}

impl Maker {
    fn request(&self, g: &mut Generator) -> Request {
        match g.rng.u8(0..60) {
            0..12 => self.zadd(g),
            12 => self.lex_members(g),
            13 => vec![g.pick(&["ZINCRBY"]), self.key(g), self.score(g), member(g)],
            14 | 15 => self.members_of(g, &["ZREM", "ZMSCORE"]),
            16..19 => {
                let names = &["ZSCORE", "ZRANK", "ZREVRANK"];
                vec![g.pick(names), self.key(g), member(g)]
            }
            19 => vec![g.pick(&["ZCARD", "TYPE", "PERSIST", "DEL"]), self.key(g)],
            20 => vec![b"OBJECT".to_vec(), b"ENCODING".to_vec(), self.key(g)],
            21 | 22 => vec![
                g.pick(&["ZCOUNT"]),
                self.key(g),
                self.bound(g),
                self.bound(g),
            ],
            23..28 => self.zrange(g, &["ZRANGE"], false),
            28..31 => self.zrange(g, &["ZRANGESTORE"], true),
            31 => {
                let mut request = vec![
                    g.pick(&["ZREVRANGE"]),
                    self.key(g),
                    g.integer(),
                    g.integer(),
                ];
                self.with_scores(g, &mut request);
                request
            }
            32..35 => {
                let names = &["ZRANGEBYSCORE", "ZREVRANGEBYSCORE"];
                let mut request = vec![g.pick(names), self.key(g), self.bound(g), self.bound(g)];
                self.with_scores(g, &mut request);
                limit(g, &mut request);
                request
            }
            35..38 => {
                let names = &["ZRANGEBYLEX", "ZREVRANGEBYLEX"];
                let mut request = vec![g.pick(names), lex_key(g), lex_bound(g), lex_bound(g)];
                limit(g, &mut request);
                request
            }
            38 => vec![
                g.pick(&["ZLEXCOUNT"]),
                lex_key(g),
                lex_bound(g),
                lex_bound(g),
            ],
            39 => vec![
                g.pick(&["ZREMRANGEBYLEX"]),
                lex_key(g),
                lex_bound(g),
                lex_bound(g),
            ],
            40 => vec![
                g.pick(&["ZREMRANGEBYRANK"]),
                self.key(g),
                g.integer(),
                g.integer(),
            ],
            41 => vec![
                g.pick(&["ZREMRANGEBYSCORE"]),
                self.key(g),
                self.bound(g),
                self.bound(g),
            ],
            42 | 43 => {
                let mut request = vec![g.pick(&["ZPOPMIN", "ZPOPMAX"]), self.key(g)];
                if g.rng.bool() {
                    request.push(g.integer());
                }
                request
            }
            44 => self.zmpop(g),
            45 => blocking(g),
            46..48 => self.zrandmember(g),
            48 => {
                let cursor = g.pick(&["0", "0", "x", "7", "-1", ""]);
                let mut request = vec![g.pick(&["ZSCAN"]), self.key(g), cursor];
                request.extend(self.scan_options(g));
                request
            }
            49..52 => self.algebra(g, &["ZUNION", "ZINTER"], 0, true),
            52..55 => self.algebra(g, &["ZUNIONSTORE", "ZINTERSTORE"], 1, true),
            55 => self.algebra(g, &["ZDIFF"], 0, false),
            56 => self.algebra(g, &["ZDIFFSTORE"], 1, false),
            57 => {
                let mut request = self.algebra(g, &["ZINTERCARD"], 0, false);
                request.retain(|word| !word.eq_ignore_ascii_case(b"WITHSCORES"));
                if g.rng.bool() {
                    request.extend([g.pick(&["LIMIT"]), small(g)]);
                }
                request
            }
            58 => vec![b"EXPIRE".to_vec(), self.key(g), b"1000000".to_vec()],
            _ => vec![
                g.pick(&["SADD"]),
                b"zset:plain".to_vec(),
                member(g),
                member(g),
            ],
        }
    }

    fn zadd(&self, g: &mut Generator) -> Request {
        let mut request = vec![g.pick(&["ZADD"]), self.key(g)];
        for option in ["NX", "XX", "GT", "LT", "CH", "INCR"] {
            if g.once_in(9) {
                request.push(g.pick(&[option]));
            }
        }
        let most = if g.rng.bool() { 2 } else { 7 };
        for _ in 0..g.rng.usize(1..most) {
            request.extend([self.score(g), member(g)]);
        }
        request
    }

    fn lex_members(&self, g: &mut Generator) -> Request {
        let mut request = vec![b"ZADD".to_vec(), LEX_KEY.into()];
        for _ in 0..g.rng.usize(1..5) {
            request.extend([b"0".to_vec(), member(g)]);
        }
        request
    }

    fn members_of(&self, g: &mut Generator, names: &[&str]) -> Request {
        let mut request = vec![g.pick(names), self.key(g)];
        request.extend((0..g.rng.usize(1..4)).map(|_| member(g)));
        request
    }

    fn zrange(&self, g: &mut Generator, names: &[&str], stores: bool) -> Request {
        let mut request = vec![g.pick(names)];
        if stores {
            request.push(self.key(g));
        }
        let by = g.rng.u8(0..3);
        match by {
            0 => request.extend([self.key(g), g.integer(), g.integer()]),
            1 => request.extend([
                self.key(g),
                self.bound(g),
                self.bound(g),
                g.pick(&["BYSCORE"]),
            ]),
            _ => request.extend([lex_key(g), lex_bound(g), lex_bound(g), g.pick(&["BYLEX"])]),
        }
        if g.once_in(3) {
            request.push(g.pick(&["REV"]));
        }
        if by > 0 || g.once_in(10) {
            limit(g, &mut request);
        }
        if by < 2 || g.once_in(10) {
            self.with_scores(g, &mut request);
        }
        if g.once_in(25) {
            // Nothing that would make it a range of bytes among different scores.
            request.push(g.pick(&["REV", "BYSCORE", "LIMIT", "foo"]));
        }
        request
    }

    fn zmpop(&self, g: &mut Generator) -> Request {
        let mut request = vec![g.pick(&["ZMPOP"])];
        self.keys(g, &mut request);
        request.push(g.pick(&["MIN", "MAX", "MIN", "MAX", "foo"]));
        if g.rng.bool() {
            request.extend([g.pick(&["COUNT"]), small(g)]);
        }
        request
    }

    /// Redis's choice is not ours: whole sets, and replies of the same length.
    fn zrandmember(&self, g: &mut Generator) -> Request {
        let mut request = vec![g.pick(&["ZRANDMEMBER"]), self.key(g)];
        match g.rng.u8(0..6) {
            0 => {}
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
        self.with_scores(g, &mut request);
        request
    }

    fn algebra(&self, g: &mut Generator, names: &[&str], more: usize, joins: bool) -> Request {
        let mut request = vec![g.pick(names)];
        if more > 0 {
            request.push(self.key(g));
        }
        let count = self.keys(g, &mut request);
        if joins && g.once_in(3) {
            request.push(g.pick(&["WEIGHTS"]));
            for _ in 0..count {
                request.push(g.pick(&["1", "2", "-1", "0", "0.5", "3", "inf", "-inf"]));
            }
        }
        if joins && g.once_in(3) {
            request.push(g.pick(&["AGGREGATE"]));
            request.push(g.pick(&["SUM", "MIN", "MAX", "MIN", "MAX", "foo"]));
        }
        if more == 0 || g.once_in(20) {
            self.with_scores(g, &mut request);
        }
        request
    }

    /// A number of keys, most often the right one, and the keys.
    fn keys(&self, g: &mut Generator, request: &mut Request) -> usize {
        let count = g.rng.usize(1..4);
        request.push(match g.rng.u8(0..25) {
            0 => g.integer(),
            _ => count.to_string().into_bytes(),
        });
        for _ in 0..count {
            let key = if g.once_in(8) {
                b"zset:plain".to_vec()
            } else {
                self.key(g)
            };
            request.push(key);
        }
        count
    }

    fn scan_options(&self, g: &mut Generator) -> Request {
        let mut options = Request::new();
        if g.rng.bool() {
            options.extend([g.pick(&["COUNT"]), g.pick(&["1", "3", "100"])]);
        }
        if g.once_in(3) {
            options.extend([
                g.pick(&["MATCH"]),
                g.pick(&["*", "?", "[a-b]", "*1*", "m*"]),
            ]);
        }
        options
    }

    fn with_scores(&self, g: &mut Generator, request: &mut Request) {
        if g.rng.bool() {
            request.push(g.pick(&["WITHSCORES"]));
        }
    }

    fn key(&self, g: &mut Generator) -> Vec<u8> {
        match g.rng.u8(0..40) {
            0 if self.foreign => g.key(),
            1 if self.foreign => b"zset:plain".to_vec(),
            2 => b"zset:missing".to_vec(),
            _ => KEYS[g.rng.usize(0..KEYS.len())].into(),
        }
    }

    fn score(&self, g: &mut Generator) -> Vec<u8> {
        match g.rng.u8(0..20) {
            0 if self.wide => g.float(),
            1 if self.wide => g.pick(ODD_SCORES),
            0 => g.pick(&["inf", "-inf", "x", "nan", "-0"]),
            1..6 => format!("{}", g.rng.f64().mul_add(80.0, -40.0).round() / 8.0).into_bytes(),
            _ => g.rng.i64(-6..12).to_string().into_bytes(),
        }
    }

    fn bound(&self, g: &mut Generator) -> Vec<u8> {
        let mut bound = match g.rng.u8(0..3) {
            0 => b"(".to_vec(),
            _ => Vec::new(),
        };
        bound.extend(match g.rng.u8(0..12) {
            0..3 => g.pick(&["-inf", "+inf", "inf"]),
            3 => g.pick(ODD_SCORES),
            _ => self.score(g),
        });
        bound
    }
}

/// Finds something at once, or is refused.
fn blocking(g: &mut Generator) -> Request {
    let timeout = g.pick(&["x", "-1", "nan", "-inf", "", " 1"]);
    match g.rng.bool() {
        true => vec![
            g.pick(&["BZPOPMIN", "BZPOPMAX"]),
            KEYS[0].into(),
            KEYS[1].into(),
            timeout,
        ],
        false => {
            let end = g.pick(&["MIN", "MAX", "foo"]);
            vec![
                g.pick(&["BZMPOP"]),
                timeout,
                b"1".to_vec(),
                KEYS[0].into(),
                end,
            ]
        }
    }
}

fn limit(g: &mut Generator, request: &mut Request) {
    if g.once_in(3) {
        request.extend([g.pick(&["LIMIT"]), small(g), small(g)]);
    }
}

/// A small number most often.
fn small(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..12) {
        0 => g.integer(),
        _ => g.rng.i64(-1..7).to_string().into_bytes(),
    }
}

fn lex_key(g: &mut Generator) -> Vec<u8> {
    let key = if g.once_in(12) { "zset:none" } else { LEX_KEY };
    key.into()
}

fn lex_bound(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..12) {
        0..3 => b"-".to_vec(),
        3..6 => b"+".to_vec(),
        6 => g.pick(&["", "a", "-x", "+x", "[", "(", "+\0", "\0"]),
        _ => {
            let mut bound = g.pick(&["[", "("]);
            bound.extend(member(g));
            bound
        }
    }
}

fn member(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..24) {
        0 => g.value(),
        1 => vec![b'l'; g.rng.usize(62..67)],
        2 => g.pick(&["", "01", "-0", "1.0", "\u{e4}", "9223372036854775807"]),
        3..6 => vec![g.rng.u8(b'a'..b'h')],
        6..9 => g.rng.i64(-3..12).to_string().into_bytes(),
        _ => format!("m{}", g.rng.u8(0..16)).into_bytes(),
    }
}
