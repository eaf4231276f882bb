//! Where Quoit answers otherwise than redis-server 7.0.15 on purpose: the one list, each with its reason.
//!
//! Rule 1 of the project is Redis 7.2's behaviour to the byte, and the oracle is 7.0.15: most entries are what 7.2 and later
//! changed. An entry is narrow: it names the request and both replies, so that any third reply is still a failure.

use super::client::{Reply, Value};

/// A request with both replies, which differ.
pub struct Case<'a> {
    /// As it was sent.
    pub request: &'a [Vec<u8>],
    /// What redis-server said.
    pub redis: &'a Reply,
    /// What Quoit said.
    pub quoit: &'a Reply,
}

impl Case<'_> {
    /// Whether this is a request of that command, or of that `container subcommand`.
    pub fn is(&self, name: &str) -> bool {
        let mut words = self.request.iter();
        name.split(' ').all(|word| {
            words
                .next()
                .is_some_and(|given| given.eq_ignore_ascii_case(word.as_bytes()))
        })
    }

    /// Whether this is a request of one of these commands.
    pub fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    /// Whether both replies are errors, these ones.
    pub fn errors(&self, redis: &str, quoit: &str) -> bool {
        self.redis.value == Value::error(redis) && self.quoit.value == Value::error(quoit)
    }

    /// Whether an argument has these bytes in any case.
    pub fn has(&self, word: &str) -> bool {
        self.request
            .iter()
            .any(|given| given.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// The commands that wait for keys, with a timeout in seconds.
const BLOCKING: &[&str] = &[
    "BLPOP",
    "BRPOP",
    "BLMOVE",
    "BRPOPLPUSH",
    "BLMPOP",
    "BZPOPMIN",
    "BZPOPMAX",
    "BZMPOP",
];

/// A difference that is meant.
pub struct Difference {
    /// What it is.
    pub name: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Whether a case is an instance of it.
    pub covers: fn(&Case<'_>) -> bool,
}

/// The list.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "BITCOUNT and BITPOS refuse bad options of a missing key, or of another type",
        reason: "7.2 parses all arguments before it looks at the key; 7.0 answers 0 or -1 for a missing key unread",
        covers: |case| {
            let wrong_type =
                Value::error("WRONGTYPE Operation against a key holding the wrong kind of value");
            (case.is("BITCOUNT") || case.is("BITPOS"))
                && (matches!(case.redis.value, Value::Int(0 | -1))
                    || case.redis.value == wrong_type)
                && case.quoit.value.is_error()
        },
    },
    Difference {
        name: "DUMP of a value that Redis compresses, or keeps in an order of its own",
        reason: "payloads are not compressed here; that each server restores the other's is tested apart",
        covers: |case| {
            case.is("DUMP")
                && matches!(case.redis.value, Value::Bulk(_))
                && matches!(case.quoit.value, Value::Bulk(_))
        },
    },
    Difference {
        name: "OBJECT ENCODING of an integer that INCRBYFLOAT made",
        reason: "the encoding follows from the bytes here, whereas Redis remembers that it did not try; nothing else shows it",
        covers: |case| {
            case.is("OBJECT ENCODING")
                && case.redis.value == Value::bulk("embstr")
                && case.quoit.value == Value::bulk("int")
        },
    },
    Difference {
        name: "OBJECT REFCOUNT of a small integer",
        reason: "Redis shares the objects of 0 to 9999 between keys and reports a constant for them; here a value belongs to one key",
        covers: |case| {
            case.is("OBJECT REFCOUNT")
                && case.redis.value == Value::Int(2_147_483_647)
                && case.quoit.value == Value::Int(1)
        },
    },
    Difference {
        name: "OBJECT IDLETIME of a small integer",
        reason: "the objects of 0 to 9999, which keys share in Redis, share their clocks too: theirs may be long idle",
        covers: |case| {
            let (Value::Int(redis), Value::Int(quoit)) = (&case.redis.value, &case.quoit.value)
            else {
                return false;
            };
            case.is("OBJECT IDLETIME") && redis > quoit
        },
    },
    Difference {
        name: "a SCAN cursor with a NUL",
        reason: "Redis reads cursors as C strings, which end there; here such a cursor is no number",
        covers: |case| {
            let place = if case.is("SCAN") { 1 } else { 2 };
            let names = ["SCAN", "SSCAN", "HSCAN", "ZSCAN"];
            names.iter().any(|name| case.is(name))
                && case
                    .request
                    .get(place)
                    .is_some_and(|cursor| cursor.contains(&0))
                && case.quoit.value == Value::error("ERR invalid cursor")
        },
    },
    Difference {
        name: "OBJECT ENCODING of a sorted set that was sorted",
        reason: "SORT only reads here; Redis converts the set before, and it stays so",
        covers: |case| {
            case.is("OBJECT ENCODING")
                && case.redis.value == Value::bulk("skiplist")
                && case.quoit.value == Value::bulk("listpack")
                && case
                    .request
                    .get(2)
                    .is_some_and(|key| !key.starts_with(b"zset:"))
        },
    },
    Difference {
        name: "OBJECT ENCODING of a small set of texts",
        reason: "7.2 keeps small sets in a listpack; 7.0 knows no such sets, and makes a table at the first text",
        covers: |case| {
            case.is("OBJECT ENCODING")
                && case.request[2].starts_with(b"set:")
                && case.redis.value == Value::bulk("hashtable")
                && case.quoit.value == Value::bulk("listpack")
        },
    },
    Difference {
        name: "OBJECT ENCODING of a small list",
        reason: "7.2 keeps small lists in a listpack; 7.0 knows quicklists alone",
        covers: |case| {
            case.is("OBJECT ENCODING")
                && case.redis.value == Value::bulk("quicklist")
                && case.quoit.value == Value::bulk("listpack")
        },
    },
    Difference {
        name: "COMMAND GETKEYS where the number of keys is none",
        reason: "7.0 falls back on C's atoi, which takes the beginning of a text, of 32 bits, for the number; the command itself \
                 refuses it",
        covers: |case| {
            let is_odd = |argument: &Vec<u8>| {
                let text = String::from_utf8_lossy(argument);
                let digits = text.trim_start_matches([' ', '+', '-']);
                digits.starts_with(|first: char| first.is_ascii_digit())
                    && text.parse::<i32>().ok().map(|number| number.to_string())
                        != Some(text.into())
            };
            // The keys of scripts are optional.
            let has_none = case.quoit.value == Value::Array(Vec::new())
                || case.quoit.value == Value::error("ERR Invalid arguments specified for command");
            (case.is("COMMAND GETKEYS") || case.is("COMMAND GETKEYSANDFLAGS"))
                && has_none
                && !case.redis.value.is_error()
                && case.request.iter().skip(3).any(is_odd)
        },
    },
    Difference {
        name: "OBJECT ENCODING of a small sorted set that SORT has read",
        reason: "SORT makes a table of it in Redis; here a read changes nothing",
        covers: |case| {
            case.is("OBJECT ENCODING")
                && !case.request[2].starts_with(b"zset:")
                && case.redis.value == Value::bulk("skiplist")
                && case.quoit.value == Value::bulk("listpack")
        },
    },
    Difference {
        name: "SORT after a number out of range",
        reason: "Redis looks at the errno that an earlier command's strtod left behind, and takes good weights for bad ones",
        covers: |case| {
            (case.is("SORT") || case.is("SORT_RO"))
                && !case.quoit.value.is_error()
                && case.redis.value
                    == Value::error("ERR One or more scores can't be converted into double")
        },
    },
    Difference {
        name: "LPOS with the lowest RANK",
        reason: "7.2 refuses it; 7.0 negates it, which changes nothing, and searches from the end",
        covers: |case| {
            case.is("LPOS")
                && case.has("-9223372036854775808")
                && case.quoit.value
                    == Value::error(
                        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                    )
        },
    },
    Difference {
        name: "a wait beyond the end of time",
        reason: "7.2 says so; 7.0 lets the number overflow, and calls it negative",
        covers: |case| {
            case.is_one_of(BLOCKING)
                && case.errors("ERR timeout is negative", "ERR timeout is out of range")
        },
    },
    Difference {
        name: "HELLO before authentication",
        reason: "7.2 names the protocol in its advice",
        covers: |case| {
            let advice = |option: &str| {
                format!(
                    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO {option} <user> <pass> \
                     option can be used to authenticate the client and select the RESP protocol version at the same time"
                )
            };
            case.is("HELLO") && case.errors(&advice("AUTH"), &advice("<proto> AUTH"))
        },
    },
    Difference {
        name: "a timeout beyond the end of time",
        reason: "7.2 refuses it; 7.0 lets the sum overflow",
        covers: |case| {
            (case.is("CLIENT PAUSE") || case.is("WAIT"))
                && case.has("9223372036854775807")
                && case.quoit.value == Value::error("ERR timeout is out of range")
        },
    },
    Difference {
        name: "scores in their shortest form",
        reason: "7.2 prints the shortest digits that read back to the same double, 7.0 seventeen of them",
        covers: |case| {
            case.request.first().is_some_and(|name| {
                name.len() > 3 && b"zZ".contains(&name[0]) || case.is("BZPOPMIN")
            }) && same_but_for_doubles(&case.redis.value, &case.quoit.value)
        },
    },
    Difference {
        name: "ZRANK and ZREVRANK with three arguments",
        reason: "7.2 takes WITHSCORE there, and refuses anything else",
        covers: |case| {
            let names = [&b"ZRANK"[..], b"ZREVRANK"];
            let place = if case.is("COMMAND") { 2 } else { 0 };
            let is_named =
                |word: &Vec<u8>| names.iter().any(|name| word.eq_ignore_ascii_case(name));
            case.request.get(place).is_some_and(is_named)
                && case.request.len() == place + 4
                && case.redis.value.is_error()
                && case.redis.value.text().contains("number of arguments")
        },
    },
    Difference {
        name: "the keys of GEORADIUS with STORE more than once",
        reason: "Redis names the first, and writes to the last; here that is named, too, since what is not named is not locked",
        covers: |case| {
            let is_radius = case.has("GEORADIUS") || case.has("GEORADIUSBYMEMBER");
            let is_asked = case.is("COMMAND GETKEYS") || case.is("COMMAND GETKEYSANDFLAGS");
            let more = match (&case.redis.value, &case.quoit.value) {
                (Value::Array(redis), Value::Array(quoit)) => quoit.starts_with(redis),
                _ => false,
            };
            is_radius && is_asked && more
        },
    },
    Difference {
        name: "a memory value beyond 64 bits",
        reason: "Redis takes the largest number there is, which nobody meant",
        covers: |case| {
            case.is("CONFIG SET maxmemory")
                && case.redis.value == Value::ok()
                && case
                    .quoit
                    .value
                    .text()
                    .ends_with("argument must be a memory value")
        },
    },
    Difference {
        name: "XINFO tells since when a consumer is active",
        reason: "7.2 tells apart when a consumer was heard of and when it was given something; the times themselves differ",
        covers: |case| {
            case.is("XINFO") && timeless(&case.redis.value) == timeless(&case.quoit.value)
        },
    },
    Difference {
        name: "streams without ids",
        reason: "7.2 names the command in the refusal, and `>` where it is what is missing",
        covers: |case| {
            let refusal = |command: &str, id: &str| {
                format!(
                    "ERR Unbalanced {command} list of streams: for each stream key an ID or '{id}' must be specified."
                )
            };
            let redis = refusal("XREAD", "$");
            case.is("XREAD") && case.errors(&redis, &refusal("'xread'", "$"))
                || case.is("XREADGROUP") && case.errors(&redis, &refusal("'xreadgroup'", ">"))
        },
    },
    Difference {
        name: "XREAD with +",
        reason: "7.4 reads the last entry",
        covers: |case| {
            (case.is("XREAD") || case.is("XREADGROUP"))
                && case.has("+")
                && case.redis.value
                    == Value::error("ERR Invalid stream ID specified as stream command argument")
        },
    },
];

/// A reply of XINFO without times, and without what 7.2 added.
fn timeless(value: &Value) -> Value {
    let is_newer = |name: &Value| [&b"active-time"[..], b"inactive"].contains(&name.bytes());
    let is_time = |name: &Value| [&b"seen-time"[..], b"idle"].contains(&name.bytes());
    let item = |name: Option<&Value>, value: &Value| match value {
        Value::Int(_) if name.is_some_and(is_time) => Value::Int(0),
        // When something was delivered.
        Value::Int(at) if *at > 100_000_000_000 => Value::Int(0),
        value => timeless(value),
    };
    match value {
        Value::Array(items) => {
            let mut kept: Vec<Value> = Vec::new();
            let mut rest = items.iter();
            while let Some(value) = rest.next() {
                if matches!(value, Value::Bulk(_)) && is_newer(value) {
                    rest.next();
                    continue;
                }
                let name = kept.last().filter(|last| matches!(last, Value::Bulk(_)));
                kept.push(item(name, value));
            }
            Value::Array(kept)
        }
        Value::Map(pairs) => {
            let pairs = pairs.iter().filter(|(name, _)| !is_newer(name));
            let pairs = pairs.map(|(name, value)| (name.clone(), item(Some(name), value)));
            Value::Map(pairs.collect())
        }
        other => other.clone(),
    }
}

/// Whether two replies differ in the texts of doubles alone: each two read as the same one.
fn same_but_for_doubles(redis: &Value, quoit: &Value) -> bool {
    let double = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
    match (redis, quoit) {
        (Value::Bulk(redis), Value::Bulk(quoit)) | (Value::Double(redis), Value::Double(quoit)) => {
            redis == quoit || double(redis).is_some_and(|redis| Some(redis) == double(quoit))
        }
        (Value::Array(redis), Value::Array(quoit)) => {
            redis.len() == quoit.len()
                && (redis.iter().zip(quoit))
                    .all(|(redis, quoit)| same_but_for_doubles(redis, quoit))
        }
        _ => redis == quoit,
    }
}

/// A difference in what is said to bytes on the wire.
pub struct WireDifference {
    /// What it is.
    pub name: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Whether these bytes and what both servers said to them are an instance of it.
    pub covers: fn(input: &[u8], redis: &[u8], quoit: &[u8]) -> bool,
}

/// The list for the wire.
pub const WIRE_DIFFERENCES: &[WireDifference] = &[WireDifference {
    name: "a NUL in a line",
    reason: "Redis looks for the end of a line with C's strchr, does not see it behind a NUL, and waits for ever; here the line \
             is read or refused",
    covers: |input, redis, quoit| {
        input.contains(&0) && redis.len() < quoit.len() && quoit.starts_with(redis)
    },
}];

/// The entry that covers what was said to some bytes.
pub fn known_on_wire(input: &[u8], redis: &[u8], quoit: &[u8]) -> Option<&'static WireDifference> {
    WIRE_DIFFERENCES
        .iter()
        .find(|difference| (difference.covers)(input, redis, quoit))
}

/// The entry that covers a case.
pub fn known(case: &Case<'_>) -> Option<&'static Difference> {
    DIFFERENCES
        .iter()
        .find(|difference| (difference.covers)(case))
}
