//! Commands written by hand: few keys, so that values and expiries collide; numbers at the edges; options in any order.
//!
//! Relative expiries are hundreds of seconds at least and never twice the same, so that neither a slow machine nor two
//! requests within one millisecond change an answer. What has to expire is expired by a step of its own.

use crate::pair::{DATABASES, Step};
use crate::{geo, hashes, hyperloglog, lists, sets, streams, zsets};

/// A request.
pub type Request = Vec<Vec<u8>>;

/// Keys of the growing kind; binary and empty ones among them.
const KEYS: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"key:{1}",
    b"",
    b"\x00\xff\r\n",
];
/// Keys whose strings stay short: LCS needs the product of two lengths.
const SHORT_KEYS: &[&[u8]] = &[b"s1", b"s2", b"s3"];

const INTEGERS: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "9223372036854775806",
    "4294967295",
    "4294967296",
    "4294967297",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "8388607",
    "8388608",
    "1048576",
    "1048575",
    "1048577",
    "536870911",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
];
const NOT_INTEGERS: &[&str] = &[
    "x", "", "+1", "01", "1.0", "-0", " 1", "1 ", "-", "--1", "0x10", "1e3", "nan", "00", "-01",
    "1\0",
];
const FLOATS: &[&str] = &[
    "1.5",
    "-0.1",
    "1e5",
    "1e400",
    "inf",
    "-inf",
    "nan",
    "3.0",
    "1e-17",
    "0.1",
    "5.0e3",
    "1e4000",
    "-1e4000",
    "0x10",
    "0x1p3",
    "99999999999999999999.5",
    "1e-400",
    "1e-5000",
    "+1.5",
    ".5",
    "5.",
    "infinity",
    "1.7976931348623157e308",
    "1e17",
    "1e18",
    "123456789012345678",
    "0.000000000000000001",
    "-0",
    "-0.0",
    "1,5",
    "1.5 ",
    " 1.5",
    "1_0",
    "NaN",
    "INF",
    "1e",
    "e1",
];
const EXPIRIES: &[&str] = &[
    "0",
    "-1",
    "-100",
    "x",
    "9223372036854775807",
    "9223372036854775",
    "9223372036854776",
    "-9223372036854775808",
    "-9223372036854775",
    "-9223372036854776",
    "9223372036854775808",
    "",
    "1.5",
    "9223372036854775806",
    "+5",
];
const PATTERNS: &[&str] = &[
    "*", "?", "a*", "[a-c]", "[^a]", "[c-a]", "\\a", "**", "*?*", "", "key:*", "*{1}", "[", "[a",
    "[]", "[^", "\\", "a\\", "[\\a]", "s?", "[a-", "*[", "?*?", "[^a-c]*", "[!a]", "[--a]",
];

/// Relative expiries below this, in either unit, might be over before the other server is asked.
const NEAR: std::ops::Range<i64> = 1..400_000;

/// Moves expiries that damage has brought near into the distance.
pub fn put_off_expiry(request: &mut Request) {
    let is_one_of = |word: &[u8], names: &[&str]| {
        names
            .iter()
            .any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    let takes_third = is_one_of(&request[0], &["SETEX", "PSETEX", "EXPIRE", "PEXPIRE"]);
    for at in 1..request.len() {
        let is_expiry = takes_third && at == 2 || is_one_of(&request[at - 1], &["EX", "PX"]);
        let number = std::str::from_utf8(&request[at])
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        if is_expiry && number.is_some_and(|number| NEAR.contains(&number)) {
            // Still different numbers for different ones.
            request[at].extend_from_slice(b"000000");
        }
    }
    bound_draws(request);
    lists::bound_waits(request);
    // Redis reads the footer of this payload for the value that is missing.
    let footer = [0; 10];
    if request[0].to_ascii_uppercase().starts_with(b"RESTORE") {
        request.retain(|argument| argument != &footer);
    }
    streams::make_repeatable(request);
}

/// Numbers of draws that redis-server would serve until memory ends become small ones.
fn bound_draws(request: &mut Request) {
    let draws = [&b"SRANDMEMBER"[..], b"HRANDFIELD", b"ZRANDMEMBER"];
    if !draws
        .iter()
        .any(|name| request[0].eq_ignore_ascii_case(name))
    {
        return;
    }
    for argument in &mut request[1..] {
        let number = std::str::from_utf8(argument)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        if number.is_some_and(|number| number != i64::MIN && number < -1_000) {
            *argument = b"-1000".to_vec();
        }
    }
}

/// Makes commands.
pub struct Generator {
    pub rng: fastrand::Rng,
}

impl Generator {
    /// A sequence of this many commands, the keyspace compared in between.
    pub fn sequence(&mut self, length: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        for number in 1..=length {
            steps.push(self.step());
            if number % 25 == 0 {
                steps.push(Step::Compare);
            }
        }
        steps.push(Step::Compare);
        steps
    }

    fn step(&mut self) -> Step {
        match self.rng.u32(0..1000) {
            0..20 => Step::Expire(self.key()),
            20..30 => Step::Scan(self.scan_options()),
            30..34 => Step::Size,
            34..44 => sets::step(self),
            44..48 => hashes::step(self),
            _ => {
                let request = self.request();
                Step::Run(self.damaged(request))
            }
        }
    }

    /// A command of any kind.
    pub fn request(&mut self) -> Request {
        let total: u32 = WEIGHTS.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.u32(0..total);
        for (weight, make) in WEIGHTS {
            if at < *weight {
                return make(self);
            }
            at -= weight;
        }
        unreachable!("the weights add up")
    }

    /// Now and then an argument too few, too many, or another.
    fn damaged(&mut self, mut request: Request) -> Request {
        match self.rng.u8(0..100) {
            0 => request.truncate(self.rng.usize(1..=request.len())),
            1 => request.push(self.garbage()),
            2 => {
                let at = self.rng.usize(0..request.len());
                if at > 0 {
                    request[at] = self.garbage();
                }
            }
            3 => {
                request[0] = request[0]
                    .iter()
                    .map(|byte| {
                        if self.rng.bool() {
                            byte.to_ascii_uppercase()
                        } else {
                            byte.to_ascii_lowercase()
                        }
                    })
                    .collect()
            }
            4 if request.len() > 2 => {
                let (one, other) = (
                    self.rng.usize(1..request.len()),
                    self.rng.usize(1..request.len()),
                );
                request.swap(one, other);
            }
            _ => {}
        }
        put_off_expiry(&mut request);
        request
    }

    /// Words that fit nowhere in particular.
    pub fn garbage(&mut self) -> Vec<u8> {
        match self.rng.u8(0..6) {
            0 => self.integer(),
            1 => self.value(),
            2 => self.key(),
            _ => self.pick(&[
                "NX", "XX", "GT", "LT", "GET", "EX", "PX", "EXAT", "PXAT", "KEEPTTL", "PERSIST",
                "REPLACE", "DB", "foo", "", "LEN", "BIT", "BYTE", "\u{e4}",
            ]),
        }
    }

    /// One of some words.
    pub fn pick(&mut self, words: &[&str]) -> Vec<u8> {
        let word = words[self.rng.usize(0..words.len())];
        let word = if self.rng.u8(0..4) == 0 {
            word.to_ascii_lowercase()
        } else {
            word.to_owned()
        };
        word.into_bytes()
    }

    /// Whether something happens that does so once in `times`.
    pub fn once_in(&mut self, times: u32) -> bool {
        self.rng.u32(0..times) == 0
    }

    /// A key whose string may be of any length.
    pub fn key(&mut self) -> Vec<u8> {
        KEYS[self.rng.usize(0..KEYS.len())].to_vec()
    }

    /// A key that LCS may read.
    pub fn short_key(&mut self) -> Vec<u8> {
        SHORT_KEYS[self.rng.usize(0..SHORT_KEYS.len())].to_vec()
    }

    /// A string to be stored.
    pub fn value(&mut self) -> Vec<u8> {
        match self.rng.u8(0..16) {
            0 => Vec::new(),
            1 => b"12".to_vec(),
            2 => self.integer(),
            3 => self.pick(INTEGERS),
            4 => self.pick(FLOATS),
            5 => self.pick(NOT_INTEGERS),
            6 => (0..self.rng.usize(0..40))
                .map(|_| self.rng.u8(..))
                .collect(),
            7 => vec![0xff; self.rng.usize(0..20)],
            8 => vec![0; self.rng.usize(0..20)],
            // The border of the embedded encoding.
            9 => vec![b'e'; self.rng.usize(42..48)],
            10 if self.once_in(8) => {
                let length = self.rng.usize(15_000..40_000);
                (0..length).map(|_| self.rng.u8(b'a'..b'd')).collect()
            }
            11 => b"a string that is a good deal longer than forty-four bytes".to_vec(),
            _ => (0..self.rng.usize(0..60))
                .map(|_| self.rng.u8(b'a'..b'd'))
                .collect(),
        }
    }

    /// An integer, small or at an edge, or no integer.
    pub fn integer(&mut self) -> Vec<u8> {
        match self.rng.u8(0..12) {
            0..=5 => self.rng.i64(-20..60).to_string().into_bytes(),
            6 => self.rng.i64(-500..500).to_string().into_bytes(),
            7 => self.rng.i64(..).to_string().into_bytes(),
            8 => self.pick(&["0", "1", "-1"]),
            9 | 10 => self.pick(INTEGERS),
            _ => self.pick(NOT_INTEGERS),
        }
    }

    /// A double, or none.
    pub fn float(&mut self) -> Vec<u8> {
        match self.rng.u8(0..4) {
            0 => self.integer(),
            1 => self.pick(FLOATS),
            2 => format!("{}", (self.rng.f64() - 0.5) * 1000.0).into_bytes(),
            _ => format!("{}.{}", self.rng.i64(-100..100), self.rng.u32(0..100)).into_bytes(),
        }
    }

    /// A relative expiry, far enough for the slowest machine, in a unit that counts `per_second`.
    fn far(&mut self, per_second: i64) -> Vec<u8> {
        (self.rng.i64(1_000_000..100_000_000) * per_second / 1000 * 1000 / 1000)
            .to_string()
            .into_bytes()
    }

    /// An instant: long past or far ahead.
    fn instant(&mut self, per_second: i64) -> Vec<u8> {
        match self.rng.u8(0..4) {
            0 => self.pick(&["1", "2", "1000"]),
            _ => (self.rng.i64(10_000_000_000..90_000_000_000) * per_second
                + self.rng.i64(0..per_second))
            .to_string()
            .into_bytes(),
        }
    }

    /// What stands after EX and the like, or after the key of EXPIRE and the like.
    fn expiry(&mut self, unit: &str) -> Vec<u8> {
        if self.once_in(6) {
            return self.pick(EXPIRIES);
        }
        match unit {
            "EX" => self.far(1),
            "PX" => self.far(1000),
            "EXAT" => self.instant(1),
            _ => self.instant(1000),
        }
    }

    fn expiry_option(&mut self, request: &mut Request) {
        let unit = ["EX", "PX", "EXAT", "PXAT"][self.rng.usize(0..4)];
        request.push(self.pick(&[unit]));
        if !self.once_in(20) {
            request.push(self.expiry(unit));
        }
    }

    fn bit_offset(&mut self) -> Vec<u8> {
        match self.rng.u8(0..12) {
            0 => self.integer(),
            1 => self.pick(&[
                "8388607",
                "8388608",
                "4294967295",
                "4294967296",
                "-1",
                "#0",
                "#",
                "#-1",
                "#1048576",
            ]),
            2..=4 => format!("#{}", self.rng.u32(0..40)).into_bytes(),
            _ => self.rng.u32(0..300).to_string().into_bytes(),
        }
    }

    fn field(&mut self) -> Vec<u8> {
        match self.rng.u8(0..15) {
            0 => self.pick(&[
                "u64", "i65", "u0", "i0", "i", "x8", "", "u63", "i64", "u1", "i1", "u08", "u-1",
                "u 8", "8",
            ]),
            _ => format!(
                "{}{}",
                if self.rng.bool() { "i" } else { "u" },
                self.rng.u8(1..64)
            )
            .into_bytes(),
        }
    }

    fn database(&mut self) -> Vec<u8> {
        match self.rng.u8(0..20) {
            0 => self.pick(&[
                "15",
                "16",
                "-1",
                "x",
                "",
                "2147483648",
                "9223372036854775808",
                "1.0",
                "+1",
                "01",
            ]),
            _ => self.rng.usize(0..DATABASES).to_string().into_bytes(),
        }
    }

    fn scan_options(&mut self) -> Request {
        let mut options = Request::new();
        for _ in 0..self.rng.usize(0..3) {
            match self.rng.u8(0..3) {
                0 => options.extend([self.pick(&["MATCH"]), self.pick(PATTERNS)]),
                1 => options.extend([
                    self.pick(&["COUNT"]),
                    self.pick(&["1", "2", "10", "100", "100000"]),
                ]),
                _ => options.extend([
                    self.pick(&["TYPE"]),
                    self.pick(&["string", "STRING", "list", "foo", ""]),
                ]),
            }
        }
        options
    }

    fn ranges(&mut self, request: &mut Request) {
        if self.once_in(4) {
            return;
        }
        request.push(self.integer());
        if self.once_in(6) {
            return;
        }
        request.push(self.integer());
        match self.rng.u8(0..5) {
            0 => request.push(self.pick(&["BYTE"])),
            1 | 2 => request.push(self.pick(&["BIT"])),
            _ => {}
        }
        if self.once_in(20) {
            request.push(self.garbage());
        }
    }

    fn of(&self, name: &str) -> Request {
        vec![name.as_bytes().to_vec()]
    }

    /// A name and a key.
    fn on(&mut self, names: &[&str]) -> Request {
        vec![self.pick(names), self.key()]
    }
}

type Make = fn(&mut Generator) -> Request;

/// How often which kind of command comes.
const WEIGHTS: &[(u32, Make)] = &[
    (60, set),
    (30, |g| g.on(&["GET", "GETDEL", "STRLEN", "INCR", "DECR"])),
    (20, one_value),
    (20, getex),
    (15, setex),
    (15, mset),
    (10, |g| keys_of(g, &["MGET", "EXISTS", "TOUCH"])),
    (6, |g| keys_of(g, &["DEL", "UNLINK"])),
    (15, |g| {
        let mut request = g.on(&["GETRANGE", "SUBSTR"]);
        request.extend([g.integer(), g.integer()]);
        request
    }),
    (15, setrange),
    (25, |g| {
        let mut request = g.on(&["INCRBY", "DECRBY"]);
        request.push(g.integer());
        request
    }),
    (20, |g| {
        let mut request = g.on(&["INCRBYFLOAT"]);
        request.push(g.float());
        request
    }),
    (10, short_values),
    (15, lcs),
    (20, setbit),
    (10, |g| {
        let mut request = g.on(&["GETBIT"]);
        request.push(g.bit_offset());
        request
    }),
    (20, |g| {
        let mut request = g.on(&["BITCOUNT"]);
        g.ranges(&mut request);
        request
    }),
    (20, |g| {
        let mut request = g.on(&["BITPOS"]);
        request.push(if g.once_in(10) {
            g.integer()
        } else {
            g.pick(&["0", "1"])
        });
        g.ranges(&mut request);
        request
    }),
    (20, bitop),
    (30, bitfield),
    (30, expire),
    (20, |g| {
        g.on(&[
            "TTL",
            "PTTL",
            "EXPIRETIME",
            "PEXPIRETIME",
            "PERSIST",
            "TYPE",
        ])
    }),
    (10, |g| {
        let mut request = g.of("OBJECT");
        request.extend([
            g.pick(&["ENCODING", "IDLETIME", "REFCOUNT", "FREQ", "foo"]),
            g.key(),
        ]);
        request
    }),
    (15, |g| {
        let mut request = g.on(&["RENAME", "RENAMENX"]);
        request.push(g.key());
        request
    }),
    (15, copy),
    (10, |g| {
        let mut request = g.on(&["MOVE"]);
        request.push(g.database());
        request
    }),
    (6, |g| {
        let mut request = g.of("SELECT");
        request.push(g.database());
        request
    }),
    (2, |g| {
        let mut request = g.of("SWAPDB");
        request.extend([g.database(), g.database()]);
        request
    }),
    (2, |g| {
        let mut request = vec![g.pick(&["FLUSHDB", "FLUSHALL"])];
        if g.rng.bool() {
            request.push(g.pick(&["ASYNC", "SYNC", "foo"]));
        }
        request
    }),
    (8, |g| {
        let mut request = g.of("KEYS");
        request.push(g.pick(PATTERNS));
        request
    }),
    (5, |g| vec![g.pick(&["RANDOMKEY", "PING"])]),
    (10, scan),
    (60, sets::request),
    (60, zsets::request),
    (60, hashes::request),
    (60, lists::request),
    (25, hyperloglog::request),
    (40, geo::request),
    (60, streams::request),
    (4, |g| {
        let mut request = g.of("ECHO");
        request.push(g.value());
        request
    }),
];

fn set(g: &mut Generator) -> Request {
    let mut request = g.on(&["SET"]);
    request.push(g.value());
    if g.rng.bool() {
        return request;
    }
    for _ in 0..g.rng.usize(1..4) {
        match g.rng.u8(0..7) {
            0 => request.push(g.pick(&["NX"])),
            1 => request.push(g.pick(&["XX"])),
            2 => request.push(g.pick(&["GET"])),
            3 => request.push(g.pick(&["KEEPTTL"])),
            4 | 5 => g.expiry_option(&mut request),
            _ if g.once_in(5) => request.push(g.garbage()),
            _ => {}
        }
    }
    request
}

fn one_value(g: &mut Generator) -> Request {
    let mut request = g.on(&["GETSET", "SETNX", "APPEND"]);
    request.push(g.value());
    request
}

fn getex(g: &mut Generator) -> Request {
    let mut request = g.on(&["GETEX"]);
    for _ in 0..g.rng.usize(0..3) {
        match g.rng.u8(0..6) {
            0 | 1 => request.push(g.pick(&["PERSIST"])),
            2..=4 => g.expiry_option(&mut request),
            _ if g.once_in(3) => request.push(g.garbage()),
            _ => {}
        }
    }
    request
}

fn setex(g: &mut Generator) -> Request {
    let (name, unit) = if g.rng.bool() {
        ("SETEX", "EX")
    } else {
        ("PSETEX", "PX")
    };
    let mut request = g.on(&[name]);
    request.extend([g.expiry(unit), g.value()]);
    request
}

fn mset(g: &mut Generator) -> Request {
    let mut request = vec![g.pick(&["MSET", "MSETNX"])];
    for _ in 0..g.rng.usize(1..4) {
        request.extend([g.key(), g.value()]);
    }
    if g.once_in(8) {
        request.push(g.key());
    }
    request
}

fn keys_of(g: &mut Generator, names: &[&str]) -> Request {
    let mut request = vec![g.pick(names)];
    for _ in 0..g.rng.usize(1..5) {
        request.push(g.key());
    }
    request
}

fn setrange(g: &mut Generator) -> Request {
    let mut request = g.on(&["SETRANGE"]);
    request.extend([g.integer(), g.value()]);
    request
}

/// Fills the keys of LCS.
fn short_values(g: &mut Generator) -> Request {
    let mut request = vec![g.pick(&["SET", "APPEND"]), g.short_key()];
    request.push(
        (0..g.rng.usize(0..40))
            .map(|_| g.rng.u8(b'a'..b'e'))
            .collect(),
    );
    request
}

fn lcs(g: &mut Generator) -> Request {
    let mut request = g.of("LCS");
    request.extend([g.short_key(), g.short_key()]);
    for _ in 0..g.rng.usize(0..4) {
        match g.rng.u8(0..7) {
            0 => request.push(g.pick(&["LEN"])),
            1 | 2 => request.push(g.pick(&["IDX"])),
            3 => request.push(g.pick(&["WITHMATCHLEN"])),
            4 => request.extend([g.pick(&["MINMATCHLEN"]), g.integer()]),
            5 => request.extend([
                g.pick(&["MINMATCHLEN"]),
                g.rng.u8(0..6).to_string().into_bytes(),
            ]),
            _ if g.once_in(4) => request.push(g.garbage()),
            _ => {}
        }
    }
    request
}

fn setbit(g: &mut Generator) -> Request {
    let mut request = g.on(&["SETBIT"]);
    let offset = g.bit_offset();
    request.push(offset);
    request.push(if g.once_in(8) {
        g.integer()
    } else {
        g.pick(&["0", "1"])
    });
    request
}

fn bitop(g: &mut Generator) -> Request {
    let mut request = g.of("BITOP");
    request.push(g.pick(&["AND", "OR", "XOR", "NOT", "AND", "foo"]));
    for _ in 0..g.rng.usize(2..6) {
        request.push(g.key());
    }
    request
}

fn bitfield(g: &mut Generator) -> Request {
    let writes = !g.once_in(4);
    let mut request = g.on(&[if writes { "BITFIELD" } else { "BITFIELD_RO" }]);
    for _ in 0..g.rng.usize(0..5) {
        match g.rng.u8(0..10) {
            0..=2 => request.extend([g.pick(&["GET"]), g.field(), g.bit_offset()]),
            3..=5 if writes || g.once_in(6) => {
                request.extend([g.pick(&["SET"]), g.field(), g.bit_offset(), g.integer()])
            }
            6 | 7 if writes || g.once_in(6) => {
                request.extend([g.pick(&["INCRBY"]), g.field(), g.bit_offset(), g.integer()])
            }
            8 => request.extend([
                g.pick(&["OVERFLOW"]),
                g.pick(&["WRAP", "SAT", "FAIL", "foo"]),
            ]),
            _ if g.once_in(8) => request.push(g.pick(&["foo", "GET", "SET", "OVERFLOW", "INCRBY"])),
            _ => {}
        }
    }
    request
}

fn expire(g: &mut Generator) -> Request {
    let (name, unit) = [
        ("EXPIRE", "EX"),
        ("PEXPIRE", "PX"),
        ("EXPIREAT", "EXAT"),
        ("PEXPIREAT", "PXAT"),
    ][g.rng.usize(0..4)];
    let mut request = g.on(&[name]);
    request.push(g.expiry(unit));
    for _ in 0..g.rng.usize(0..3) {
        request.push(if g.once_in(10) {
            g.garbage()
        } else {
            g.pick(&["NX", "XX", "GT", "LT"])
        });
    }
    request
}

fn copy(g: &mut Generator) -> Request {
    let mut request = g.on(&["COPY"]);
    request.push(g.key());
    for _ in 0..g.rng.usize(0..3) {
        match g.rng.u8(0..5) {
            0 | 1 => request.push(g.pick(&["REPLACE"])),
            2 | 3 => request.extend([g.pick(&["DB"]), g.database()]),
            _ => request.push(g.garbage()),
        }
    }
    request
}

fn scan(g: &mut Generator) -> Request {
    let mut request = g.of("SCAN");
    request.push(g.pick(&[
        "0",
        "0",
        "0",
        "x",
        "-1",
        "",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "+1",
        " 1",
        "0x1",
        "1 ",
    ]));
    for _ in 0..g.rng.usize(0..3) {
        match g.rng.u8(0..4) {
            0 => request.extend([g.pick(&["MATCH"]), g.pick(PATTERNS)]),
            1 => request.extend([g.pick(&["COUNT"]), g.integer()]),
            2 => request.extend([g.pick(&["TYPE"]), g.pick(&["string", "foo", ""])]),
            _ => request.push(g.garbage()),
        }
    }
    request
}
