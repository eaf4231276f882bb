//! Whether two replies to one request are the same, or differ only in what is random or about the time.

use crate::differences::{self, Case};
use crate::support::{Reply, Value};

/// Seconds by which two answers about time may differ: the machine may stall between the two requests.
const TOLERANCE_S: i64 = 3;

/// Why two replies differ; `None` when they do not.
pub fn difference(request: &[Vec<u8>], redis: &Reply, quoit: &Reply) -> Option<&'static str> {
    if redis.raw == quoit.raw || is_same_kind(request, &redis.value, &quoit.value) {
        return None;
    }
    let case = Case {
        request,
        redis,
        quoit,
    };
    differences::known(&case)
        .is_none()
        .then_some("the replies differ")
}

/// Requests whose answers are unordered, random or about the time.
fn is_same_kind(request: &[Vec<u8>], redis: &Value, quoit: &Value) -> bool {
    let name = request
        .first()
        .map(|name| name.to_ascii_uppercase())
        .unwrap_or_default();
    match (name.as_slice(), redis, quoit) {
        (b"TTL" | b"EXPIRETIME", Value::Int(redis), Value::Int(quoit)) => {
            is_near(*redis, *quoit, TOLERANCE_S)
        }
        (b"PTTL" | b"PEXPIRETIME", Value::Int(redis), Value::Int(quoit)) => {
            is_near(*redis, *quoit, TOLERANCE_S * 1000)
        }
        (b"OBJECT", Value::Int(redis), Value::Int(quoit)) if is_idletime(request) => {
            is_near(*redis, *quoit, TOLERANCE_S)
        }
        (b"KEYS", Value::Array(redis), Value::Array(quoit)) => sorted(redis) == sorted(quoit),
        (b"RANDOMKEY", Value::Bulk(_), Value::Bulk(_)) => true,
        (
            b"SMEMBERS" | b"SINTER" | b"SUNION" | b"SDIFF",
            Value::Array(redis),
            Value::Array(quoit),
        )
        | (b"SMEMBERS" | b"SINTER" | b"SUNION" | b"SDIFF", Value::Set(redis), Value::Set(quoit)) => {
            sorted(redis) == sorted(quoit)
        }
        (b"HKEYS" | b"HVALS", Value::Array(redis), Value::Array(quoit)) => {
            sorted(redis) == sorted(quoit)
        }
        (b"HGETALL", Value::Array(_), Value::Array(_))
        | (b"HGETALL", Value::Map(_), Value::Map(_)) => sorted_pairs(redis) == sorted_pairs(quoit),
        (b"SRANDMEMBER" | b"HRANDFIELD" | b"ZRANDMEMBER", Value::Bulk(_), Value::Bulk(_)) => true,
        (
            b"SRANDMEMBER" | b"HRANDFIELD" | b"ZRANDMEMBER",
            Value::Array(redis),
            Value::Array(quoit),
        ) => redis.len() == quoit.len(),
        (b"SCAN" | b"SSCAN" | b"HSCAN" | b"ZSCAN", Value::Array(redis), Value::Array(quoit)) => {
            is_scan_reply(redis) && is_scan_reply(quoit)
        }
        (b"HELLO", redis, quoit) if !redis.is_error() && !quoit.is_error() => {
            without_own(redis) == without_own(quoit)
        }
        (b"XPENDING", Value::Array(redis), Value::Array(quoit)) => {
            without_idle(redis) == without_idle(quoit)
        }
        (b"TIME", Value::Array(redis), Value::Array(quoit)) => redis.len() == 2 && quoit.len() == 2,
        _ => false,
    }
}

/// Fields with their values, whatever the order of the fields.
fn sorted_pairs(reply: &Value) -> Vec<Vec<Vec<u8>>> {
    let items = reply.items();
    let mut pairs: Vec<Vec<Vec<u8>>> = items
        .chunks(2)
        .map(|pair| pair.iter().map(|item| item.bytes().to_vec()).collect())
        .collect();
    pairs.sort();
    pairs
}

/// What HELLO says of the connection and not of the process: all but the version and the client's number.
fn without_own(reply: &Value) -> Vec<Value> {
    let is_own = |name: &Value| [b"version".as_slice(), b"id"].contains(&name.bytes());
    let items = reply.items();
    items
        .chunks_exact(2)
        .filter(|pair| !is_own(&pair[0]))
        .flatten()
        .cloned()
        .collect()
}

/// Pending entries without the milliseconds since they were delivered.
fn without_idle(entries: &[Value]) -> Vec<Value> {
    let without = |entry: &Value| match entry {
        Value::Array(fields) if fields.len() == 4 => {
            let kept = [0, 1, 3].map(|index| fields[index].clone());
            Value::Array(kept.to_vec())
        }
        other => other.clone(),
    };
    entries.iter().map(without).collect()
}

/// Two times: none of the answers -1 and -2, which must be equal.
fn is_near(redis: i64, quoit: i64, tolerance: i64) -> bool {
    redis >= 0 && quoit >= 0 && redis.abs_diff(quoit) <= tolerance.unsigned_abs()
}

fn is_idletime(request: &[Vec<u8>]) -> bool {
    request
        .get(1)
        .is_some_and(|word| word.eq_ignore_ascii_case(b"IDLETIME"))
}

fn is_scan_reply(items: &[Value]) -> bool {
    matches!(items, [Value::Bulk(cursor), Value::Array(_)] if !cursor.is_empty() && cursor.iter().all(u8::is_ascii_digit))
}

/// The items in the order of their bytes.
pub fn sorted(items: &[Value]) -> Vec<Vec<u8>> {
    let mut items: Vec<Vec<u8>> = items.iter().map(|item| item.bytes().to_vec()).collect();
    items.sort();
    items
}

/// The lists of differences say what and why, each once.
#[test]
fn differences_have_reasons() {
    let meant = differences::DIFFERENCES
        .iter()
        .map(|difference| (difference.name, difference.reason));
    let wire = differences::WIRE_DIFFERENCES
        .iter()
        .map(|difference| (difference.name, difference.reason));
    let mut names = std::collections::BTreeSet::new();
    for (name, reason) in meant.chain(wire) {
        assert!(!reason.is_empty(), "{name}");
        assert!(names.insert(name), "{name} stands there twice");
    }
}
