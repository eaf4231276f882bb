//! Strings: SET and GET with their relatives, counters, ranges, several keys at once, digests and conditions on them.
//!
//! `SET key value` and `GET key` are most of what a cache does: they allocate nothing here and parse nothing that is not
//! there. Values that arrived in a buffer of their own are stored as that buffer, and long ones leave as the stored one.
//!
//! What followers are told is canonical: expiries as instants, conditions gone, results instead of sums of floats.

use bytes::Bytes;

use super::{Done, Handler};
use crate::base::clock::Millis;
use crate::data::number::{LongDouble, parse_i64, parse_u64};
use crate::data::string;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::{Entry, NewValue, Text};
use crate::keyspace::view::{Ttl, View};
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::{
    Across, Args, Begin, Command, CommandError, Family, Find, Flags, KeyAccess, KeySpec, Row, Scope,
};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "append",
            family: Family::String,
            since: "2.0.0",
            summary: "Appends bytes to a string, which is created when it is missing.",
            complexity: "O(1) amortized for short values: the string grows in steps",
            usage: "key value",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(append),
    ),
    Row::new(
        Command {
            name: "decr",
            family: Family::String,
            since: "1.0.0",
            summary: "Subtracts one from the integer at a key; a missing key counts as 0.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(decr),
    ),
    Row::new(
        Command {
            name: "decrby",
            family: Family::String,
            since: "1.0.0",
            summary: "Subtracts a number from the integer at a key; a missing key counts as 0.",
            complexity: "O(1)",
            usage: "key decrement:int",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(decrby),
    ),
    Row::new(
        Command {
            name: "delex",
            family: Family::String,
            since: "8.4.0",
            summary: "Removes a key, if its string or the digest of it compares as asked.",
            complexity: "O(1); O(N) in the string for the conditions",
            usage: "key condition:[IFEQ ifeq-value|IFNE ifne-value|IFDEQ ifdeq-digest|IFDNE ifdne-digest]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_DELETE.union(KeyAccess::VARIABLE_FLAGS))
                    .noted("RM without a condition"),
            ],
            key_function: Some(delex_keys),
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(delex),
    ),
    Row::new(
        Command {
            name: "delifeq",
            family: Family::String,
            since: "9.0.0",
            summary: "Removes a key, if its string equals a value.",
            complexity: "O(N) in the value",
            usage: "key value",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(
                1,
                KeyAccess::RM
                    .union(KeyAccess::ACCESS)
                    .union(KeyAccess::DELETE),
            )],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(delifeq),
    ),
    Row::new(
        Command {
            name: "digest",
            family: Family::String,
            since: "8.4.0",
            summary: "Returns the XXH3 digest of a string in hexadecimal.",
            complexity: "O(N) in the string",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(digest),
    ),
    Row::new(
        Command {
            name: "get",
            family: Family::String,
            since: "1.0.0",
            summary: "Returns the string at a key.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(get),
    ),
    Row::new(
        Command {
            name: "getdel",
            family: Family::String,
            since: "6.2.0",
            summary: "Returns the string at a key and removes the key.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(getdel),
    ),
    Row::new(
        Command {
            name: "getex",
            family: Family::String,
            since: "6.2.0",
            summary: "Returns the string at a key and sets or clears its expiry.",
            complexity: "O(1)",
            usage: "key expiration:[EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|PERSIST]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)
                .noted("RW although it may only read, since it can change the expiry")],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(getex),
    ),
    Row::new(
        Command {
            name: "getrange",
            family: Family::String,
            since: "2.4.0",
            summary: "Returns the bytes of a string between two indexes.",
            complexity: "O(N) in the bytes returned; long values are shared, not copied",
            usage: "key start:int end:int",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(getrange),
    ),
    Row::new(
        Command {
            name: "getset",
            family: Family::String,
            since: "1.0.0",
            summary: "Sets a string and returns the one that was there.",
            complexity: "O(1)",
            usage: "key value",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`SET` with `GET`")),
            ..Command::NEW
        },
        Handler::Write(getset),
    ),
    Row::new(
        Command {
            name: "incr",
            family: Family::String,
            since: "1.0.0",
            summary: "Adds one to the integer at a key; a missing key counts as 0.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(incr),
    ),
    Row::new(
        Command {
            name: "incrby",
            family: Family::String,
            since: "1.0.0",
            summary: "Adds a number to the integer at a key; a missing key counts as 0.",
            complexity: "O(1)",
            usage: "key increment:int",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(incrby),
    ),
    Row::new(
        Command {
            name: "incrbyfloat",
            family: Family::String,
            since: "2.6.0",
            summary: "Adds a floating-point number to the number at a key; a missing key counts as 0.",
            complexity: "O(1)",
            usage: "key increment:double",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(incrbyfloat),
    ),
    Row::new(
        Command {
            name: "lcs",
            family: Family::String,
            since: "7.0.0",
            summary: "Finds the longest common subsequence of two strings.",
            complexity: "O(N*M) in the lengths of both",
            usage: "key1:key key2:key#0 [LEN] [IDX] [MINMATCHLEN len:int] [WITHMATCHLEN]",
            flags: Flags::READONLY,
            keys: &[KeySpec::range(1, 1, 1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(lcs),
    ),
    Row::new(
        Command {
            name: "mget",
            family: Family::String,
            since: "1.0.0",
            summary: "Returns the strings at several keys.",
            complexity: "O(N) in the keys",
            usage: "key [key ...]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            across: Across::Split,
            tips: &["request_policy:multi_shard"],
            ..Command::NEW
        },
        Handler::Read(mget),
    ),
    Row::new(
        Command {
            name: "mset",
            family: Family::String,
            since: "1.0.1",
            summary: "Sets several strings at once.",
            complexity: "O(N) in the keys",
            usage: "key value [key value ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::range(1, -1, 2, KeyAccess::OW_UPDATE)],
            scope: Scope::Keys,
            across: Across::Split,
            tips: &[
                "request_policy:multi_shard",
                "response_policy:all_succeeded",
            ],
            ..Command::NEW
        },
        Handler::Write(mset),
    ),
    Row::new(
        Command {
            name: "msetex",
            family: Family::String,
            since: "8.4.0",
            summary: "Sets several strings at once with one expiry, if all or none of the keys exist when asked so.",
            complexity: "O(N) in the keys",
            usage: "numkeys:int data:(key value)... condition:[NX|XX] expiration:[EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|KEEPTTL]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[MSETEX_KEYS],
            key_function: Some(msetex_keys),
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(msetex),
    ),
    Row::new(
        Command {
            name: "msetnx",
            family: Family::String,
            since: "1.0.1",
            summary: "Sets several strings at once, if none of the keys exists.",
            complexity: "O(N) in the keys",
            usage: "key value [key value ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::range(1, -1, 2, KeyAccess::OW_INSERT)],
            scope: Scope::Keys,
            tips: &["request_policy:multi_shard", "response_policy:agg_min"],
            ..Command::NEW
        },
        Handler::Write(msetnx),
    ),
    Row::new(
        Command {
            name: "psetex",
            family: Family::String,
            since: "2.6.0",
            summary: "Sets a string with an expiry in milliseconds.",
            complexity: "O(1)",
            usage: "key milliseconds:int value",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(1, KeyAccess::OW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(psetex),
    ),
    Row::new(
        Command {
            name: "set",
            family: Family::String,
            since: "1.0.0",
            summary: "Sets a key to a string, whatever it held; options add conditions and an expiry.",
            complexity: "O(1); O(N) in the old value for the IF conditions",
            usage: "key value condition:[NX|XX|IFEQ ifeq-value@8.4.0|IFNE ifne-value@8.4.0|IFDEQ ifdeq-digest@8.4.0|IFDNE ifdne-digest@8.4.0]@2.6.12 [GET@6.2.0] expiration:[EX seconds:int@2.6.12|PX milliseconds:int@2.6.12|EXAT unix-time-seconds:unix-time@6.2.0|PXAT unix-time-milliseconds:unix-time@6.2.0|KEEPTTL@6.0.0]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(
                1,
                KeyAccess::RW_ACCESS_UPDATE.union(KeyAccess::VARIABLE_FLAGS),
            )
            .noted("RW and ACCESS only with GET or an IF condition, else OW")],
            key_function: Some(set_keys),
            scope: Scope::Keys,
            history: &[
                ("2.6.12", "`EX`, `PX`, `NX` and `XX` came in."),
                ("6.0.0", "`KEEPTTL` came in."),
                ("6.2.0", "`GET`, `EXAT` and `PXAT` came in."),
                ("7.0.0", "`NX` and `GET` may stand together."),
                ("8.4.0", "`IFEQ`, `IFNE`, `IFDEQ` and `IFDNE` came in."),
            ],
            ..Command::NEW
        },
        Handler::Write(set),
    ),
    Row::new(
        Command {
            name: "setex",
            family: Family::String,
            since: "2.0.0",
            summary: "Sets a string with an expiry in seconds.",
            complexity: "O(1)",
            usage: "key seconds:int value",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(1, KeyAccess::OW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(setex),
    ),
    Row::new(
        Command {
            name: "setnx",
            family: Family::String,
            since: "1.0.0",
            summary: "Sets a string, if the key does not exist.",
            complexity: "O(1)",
            usage: "key value",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::OW_INSERT)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(setnx),
    ),
    Row::new(
        Command {
            name: "setrange",
            family: Family::String,
            since: "2.2.0",
            summary: "Overwrites bytes of a string from an offset on, and makes it longer where needed.",
            complexity: "O(M) in the bytes written, plus the zeros filled in",
            usage: "key offset:int value",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(setrange),
    ),
    Row::new(
        Command {
            name: "strlen",
            family: Family::String,
            since: "2.2.0",
            summary: "Returns the length of a string in bytes.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(strlen),
    ),
    Row::new(
        Command {
            name: "substr",
            family: Family::String,
            since: "1.0.0",
            summary: "Returns the bytes of a string between two indexes; GETRANGE by its old name.",
            complexity: "O(N) in the bytes returned",
            usage: "key start:int end:int",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            deprecated: Some(("2.0.0", "`GETRANGE`")),
            ..Command::NEW
        },
        Handler::Read(getrange),
    ),
];

/// The keys of MSETEX stand at every second argument behind their count. The spec says so, but `KeySpec` takes the last key
/// at a distance of one; marked as incomplete, it leaves the keys to the function.
const MSETEX_KEYS: KeySpec = KeySpec {
    begin: Begin::Index(1),
    find: Find::Count {
        count_at: 0,
        first: 1,
        step: 2,
    },
    access: KeyAccess::OW_UPDATE.union(KeyAccess::INCOMPLETE),
    note: "",
};

fn msetex_keys(request: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    let Some(count) = request
        .get(1)
        .and_then(parse_u64)
        .filter(|count| (1..=COUNT_MAX).contains(count))
    else {
        return false;
    };
    let end = 2 + 2 * count as usize;
    keys.extend(
        (2..end.min(request.len()))
            .step_by(2)
            .map(|position| (position, KeyAccess::OW_UPDATE)),
    );
    end <= request.len()
}

fn set_keys(request: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    let looks = |word: &[u8]| {
        [&b"GET"[..], b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"]
            .iter()
            .any(|option| word.eq_ignore_ascii_case(option))
    };
    // A value or digest that reads GET errs on the side of more access.
    let access = if request.iter().skip(3).any(looks) {
        KeyAccess::RW_ACCESS_UPDATE
    } else {
        KeyAccess::OW_UPDATE
    };
    keys.push((1, access));
    true
}

fn delex_keys(request: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    keys.push((
        1,
        if request.len() > 2 {
            KeyAccess::RW_ACCESS_DELETE
        } else {
            KeyAccess::RM_DELETE
        },
    ));
    true
}

fn set(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let value = taken_value(args)?;
    if args.is_empty() {
        view.set(key, value, Ttl::Clear);
        view.notify(EventClass::STRING, "set", key);
        reply.ok();
        return Ok(());
    }
    let options = Options::parse(args, Options::SET)?;
    let ttl = options.ttl(view.now(), "set")?;
    let is_met = {
        let found = match options.condition {
            _ if options.get => view.string(key)?,
            Condition::Always => None,
            Condition::Missing | Condition::Exists => view.lookup_for_write(key),
            _ => view.string_for_write(key)?,
        };
        if options.get {
            value_or_null(found, reply);
        }
        options.condition.is_met(found)?
    };
    if is_met {
        put(key, value, ttl, view);
    }
    match (options.get, is_met) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

fn setnx(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let value = taken_value(args)?;
    let is_free = view.lookup_for_write(key).is_none();
    if is_free {
        view.set(key, value, Ttl::Clear);
        view.notify(EventClass::STRING, "set", key);
    }
    reply.integer(i64::from(is_free));
    Ok(())
}

fn setex(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    set_for(Timing::Seconds, "setex", args, view, reply)
}

fn psetex(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    set_for(Timing::Milliseconds, "psetex", args, view, reply)
}

fn set_for(
    timing: Timing,
    command: &'static str,
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let key = args.bytes()?;
    let duration = args.bytes()?;
    let value = taken_value(args)?;
    let at = timing.instant(duration, view.now(), command)?;
    put(key, value, Ttl::At(at), view);
    reply.ok();
    Ok(())
}

fn get(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    value_or_null(view.string(key)?, reply);
    Ok(())
}

fn getset(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let value = taken_value(args)?;
    value_or_null(view.string(key)?, reply);
    put(key, value, Ttl::Clear, view);
    Ok(())
}

fn getdel(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let found = view.string(key)?;
    value_or_null(found, reply);
    if found.is_some() {
        delete(key, view);
    }
    Ok(())
}

fn getex(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let options = Options::parse(args, Options::GETEX)?;
    let Some(entry) = view.string(key)? else {
        reply.null();
        return Ok(());
    };
    let has_expiry = entry.expiry().is_some();
    // After the lookup, as in Redis: what is wrong with the instant is not told about a missing key.
    let ttl = options.ttl(view.now(), "getex")?;
    write_value(entry, reply);
    match ttl {
        Ttl::At(at) if at <= view.now() => {
            delete(key, view);
        }
        Ttl::At(at) => {
            view.set_expiry(key, Some(at));
            view.propagate(&[
                b"PEXPIREAT",
                key,
                itoa::Buffer::new().format(at.0).as_bytes(),
            ]);
            view.notify(EventClass::GENERIC, "expire", key);
        }
        Ttl::Clear if options.expiration == Expiration::Persist && has_expiry => {
            view.set_expiry(key, None);
            view.propagate(&[b"PERSIST", key]);
            view.notify(EventClass::GENERIC, "persist", key);
        }
        Ttl::Clear | Ttl::Keep => {}
    }
    Ok(())
}

fn strlen(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    reply.integer(
        view.string(key)?
            .map_or(0, |entry| entry.bytes().len() as i64),
    );
    Ok(())
}

/// GETRANGE and SUBSTR.
fn getrange(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (start, end) = (args.integer()?, args.integer()?);
    let Some(entry) = view.string(key)? else {
        reply.bulk(b"");
        return Ok(());
    };
    match (
        string::strict_range(start, end, entry.bytes().len()),
        entry.shared(),
    ) {
        (None, _) => reply.bulk(b""),
        (Some(range), Some(shared)) => reply.bulk_shared(shared.slice(range)),
        (Some(range), None) => reply.bulk(&entry.bytes()[range]),
    }
    Ok(())
}

fn setrange(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let offset = args.integer()?;
    let value = args.bytes()?;
    let offset =
        usize::try_from(offset).map_err(|_| CommandError::fixed("ERR offset is out of range"))?;
    let length = view
        .string_for_write(key)?
        .map_or(0, |entry| entry.bytes().len());
    if value.is_empty() {
        reply.integer(length as i64);
        return Ok(());
    }
    let end = checked_length(offset, value.len(), view)?;
    view.edit(key, end, |bytes| bytes[offset..end].copy_from_slice(value));
    view.notify(EventClass::STRING, "setrange", key);
    reply.integer(length.max(end) as i64);
    Ok(())
}

fn append(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let value = taken_value(args)?;
    let old = view.string_for_write(key)?.map(|entry| entry.bytes().len());
    let length = match old {
        None => {
            let length = bytes_of(&value).len();
            view.set(key, value, Ttl::Clear);
            length
        }
        Some(old) => {
            let value = bytes_of(&value);
            let end = checked_length(old, value.len(), view)?;
            view.edit(key, end, |bytes| bytes[old..end].copy_from_slice(value));
            end
        }
    };
    view.notify(EventClass::STRING, "append", key);
    reply.integer(length as i64);
    Ok(())
}

fn incr(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    increment(key, 1, view, reply)
}

fn decr(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    increment(key, -1, view, reply)
}

fn incrby(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let by = args.integer()?;
    increment(key, by, view, reply)
}

fn decrby(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let by = args
        .integer()?
        .checked_neg()
        .ok_or(CommandError::fixed("ERR decrement would overflow"))?;
    increment(key, by, view, reply)
}

fn increment(key: &[u8], by: i64, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let old = match view.string_for_write(key)? {
        Some(entry) => parse_i64(entry.bytes()).ok_or(CommandError::NotInteger)?,
        None => 0,
    };
    let sum = old.checked_add(by).ok_or(CommandError::IncrementOverflow)?;
    view.set(
        key,
        NewValue::Copy(itoa::Buffer::new().format(sum).as_bytes()),
        Ttl::Keep,
    );
    view.notify(EventClass::STRING, "incrby", key);
    reply.integer(sum);
    Ok(())
}

fn incrbyfloat(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let by = args.bytes()?;
    let number = |text: &[u8]| LongDouble::parse(text).ok_or(CommandError::NotFloat);
    let by = match view.string_for_write(key)? {
        Some(entry) => number(entry.bytes())?.add(number(by)?),
        // Not the number alone: 0 plus a negative zero is 0.
        None => number(b"0")?.add(number(by)?),
    };
    if by.is_nan() || by.is_infinite() {
        return Err(CommandError::IncrementNan);
    }
    let sum = by.format();
    view.set(key, NewValue::Copy(&sum), Ttl::Keep);
    // The sum, not the increment: followers may round otherwise.
    view.propagate(&[b"SET", key, &sum, b"KEEPTTL"]);
    view.notify(EventClass::STRING, "incrbyfloat", key);
    reply.bulk(&sum);
    Ok(())
}

fn mget(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    reply.array(args.remaining());
    for key in args.rest() {
        // A key of another type reads as missing here.
        value_or_null(view.string(key).ok().flatten(), reply);
    }
    Ok(())
}

fn mset(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    check_pairs("mset", args)?;
    set_pairs(args, view)?;
    reply.ok();
    Ok(())
}

fn msetnx(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    check_pairs("msetnx", args)?;
    let is_free = args
        .rest()
        .step_by(2)
        .all(|key| view.lookup_for_write(key).is_none());
    if is_free {
        set_pairs(args, view)?;
    }
    reply.integer(i64::from(is_free));
    Ok(())
}

fn check_pairs(command: &'static str, args: &Args<'_>) -> Done {
    if args.remaining().is_multiple_of(2) {
        Ok(())
    } else {
        Err(CommandError::Arity(command.into()))
    }
}

fn set_pairs(args: &mut Args<'_>, view: &mut View<'_>) -> Done {
    while !args.is_empty() {
        let key = args.bytes()?;
        let value = taken_value(args)?;
        view.set(key, value, Ttl::Clear);
        view.notify(EventClass::STRING, "set", key);
    }
    Ok(())
}

/// The most keys that MSETEX may announce.
const COUNT_MAX: u64 = i32::MAX as u64;

fn msetex(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let count = parse_u64(args.bytes()?).filter(|count| (1..=COUNT_MAX).contains(count));
    let count = count.ok_or(CommandError::fixed("ERR invalid numkeys value"))? as usize;
    if args.remaining() / 2 < count {
        return Err(CommandError::fixed("ERR wrong number of key-value pairs"));
    }
    let mut pairs = args.clone();
    for _ in 0..2 * count {
        args.bytes()?;
    }
    let options = Options::parse(args, Options::MSETEX)?;
    let ttl = options.ttl(view.now(), "msetex")?;
    let mut keys = pairs.rest().step_by(2).take(count);
    let is_met = match options.condition {
        Condition::Missing => keys.all(|key| view.lookup_for_write(key).is_none()),
        Condition::Exists => keys.all(|key| view.lookup_for_write(key).is_some()),
        _ => true,
    };
    for _ in 0..if is_met { count } else { 0 } {
        let key = pairs.bytes()?;
        let value = taken_value(&mut pairs)?;
        put(key, value, ttl, view);
    }
    reply.integer(i64::from(is_met));
    Ok(())
}

fn digest(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    match view.string(key)? {
        Some(entry) => view.work(entry, reply, |value, reply| {
            reply.bulk(&string::digest(value))
        }),
        None => reply.null(),
    }
    Ok(())
}

fn delex(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let condition = match args.remaining() {
        0 => None,
        2 => Some((args.bytes()?, args.bytes()?)),
        _ => return Err(CommandError::Arity("delex".into())),
    };
    let is_met = match condition {
        None => true,
        // As in Redis a missing key ends it before the condition is looked at.
        Some((word, operand)) => match view.string_for_write(key) {
            Ok(None) => false,
            Ok(found) => Condition::comparison(word, operand)
                .ok_or(CommandError::fixed(
                    "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE",
                ))?
                .is_met(found)?,
            Err(_) => {
                return Err(CommandError::fixed(
                    "ERR Key should be of string type if conditions are specified",
                ));
            }
        },
    };
    let is_deleted = is_met && delete(key, view);
    reply.integer(i64::from(is_deleted));
    Ok(())
}

fn delifeq(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let value = args.bytes()?;
    let is_equal = view
        .string_for_write(key)?
        .is_some_and(|entry| entry.bytes() == value);
    let is_deleted = is_equal && delete(key, view);
    reply.integer(i64::from(is_deleted));
    Ok(())
}

/// What LCS replies.
#[derive(Clone, Copy)]
enum LcsReply {
    /// The subsequence.
    Text,
    /// Its length.
    Length,
    /// The runs that are not shorter than `least`, and the length.
    Matches { least: i64, with_len: bool },
}

fn lcs(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let keys = (args.bytes()?, args.bytes()?);
    let wanted = LcsReply::parse(args)?;
    let strings_only = |_| CommandError::fixed("ERR The specified keys must contain string values");
    let first = view.string(keys.0).map_err(strings_only)?;
    let second = view.string(keys.1).map_err(strings_only)?;
    let length_of = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.bytes().len());
    let cells = check_cells(length_of(first), length_of(second), view)?;
    // Below this many cells the work takes less than handing it on.
    if cells < LCS_LATER_CELLS {
        wanted.write(
            first.map_or(&[], Entry::bytes),
            second.map_or(&[], Entry::bytes),
            reply,
        );
        return Ok(());
    }
    let held = |entry: Option<&Entry>| {
        entry.map_or(Bytes::new(), |entry| {
            View::hold(entry).unwrap_or(Bytes::copy_from_slice(entry.bytes()))
        })
    };
    let (first, second) = (held(first), held(second));
    view.after_release(Box::new(move |reply| wanted.write(&first, &second, reply)));
    Ok(())
}

/// About 20 us of work.
const LCS_LATER_CELLS: usize = 1024 * 1024;

/// How many cells the table of LCS has. Redis refuses a table, at four bytes a cell, beyond proto-max-bulk-len.
fn check_cells(first: usize, second: usize, view: &View<'_>) -> Result<usize, CommandError> {
    if first.max(second) >= u32::MAX as usize - 1 {
        return Err(CommandError::fixed("ERR String too long for LCS"));
    }
    let cells = (first + 1)
        .checked_mul(second + 1)
        .filter(|cells| *cells <= view.rules().max_string_bytes / 4);
    let text = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
    cells.ok_or(CommandError::fixed(text))
}

impl LcsReply {
    fn parse(args: &mut Args<'_>) -> Result<LcsReply, CommandError> {
        let (mut len, mut idx, mut with_len, mut least) = (false, false, false, 0);
        while !args.is_empty() {
            if args.keyword("IDX") {
                idx = true;
            } else if args.keyword("LEN") {
                len = true;
            } else if args.keyword("WITHMATCHLEN") {
                with_len = true;
            } else if args.keyword("MINMATCHLEN") {
                least = args.integer()?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        match (len, idx) {
            (true, true) => Err(CommandError::fixed(
                "ERR If you want both the length and indexes, please just use IDX.",
            )),
            (true, false) => Ok(LcsReply::Length),
            (false, true) => Ok(LcsReply::Matches { least, with_len }),
            (false, false) => Ok(LcsReply::Text),
        }
    }

    fn write(self, first: &[u8], second: &[u8], reply: &mut Reply<'_>) {
        match self {
            LcsReply::Text => reply.bulk_shared(string::lcs(first, second).into()),
            LcsReply::Length => reply.integer(string::lcs_len(first, second) as i64),
            LcsReply::Matches { least, with_len } => {
                let (len, mut matches) = string::lcs_matches(first, second);
                matches.retain(|run| run.len as i64 >= least);
                write_matches(len, &matches, with_len, reply);
            }
        }
    }
}

fn write_matches(len: usize, matches: &[string::Match], with_len: bool, reply: &mut Reply<'_>) {
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for run in matches {
        reply.array(2 + usize::from(with_len));
        for start in [run.first, run.second] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + run.len - 1) as i64);
        }
        if with_len {
            reply.integer(run.len as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(len as i64);
}

/// Under which condition a string is written or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition<'a> {
    Always,
    /// NX.
    Missing,
    /// XX.
    Exists,
    /// IFEQ.
    Equal(&'a [u8]),
    /// IFNE; a missing key is not equal.
    NotEqual(&'a [u8]),
    /// IFDEQ.
    SameDigest(&'a [u8]),
    /// IFDNE; a missing key has no digest.
    OtherDigest(&'a [u8]),
}

impl<'a> Condition<'a> {
    /// The condition of this keyword, if it is one that compares.
    fn comparison(word: &[u8], operand: &'a [u8]) -> Option<Condition<'a>> {
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        match word {
            _ if is(b"IFEQ") => Some(Condition::Equal(operand)),
            _ if is(b"IFNE") => Some(Condition::NotEqual(operand)),
            _ if is(b"IFDEQ") => Some(Condition::SameDigest(operand)),
            _ if is(b"IFDNE") => Some(Condition::OtherDigest(operand)),
            _ => None,
        }
    }

    /// Whether it holds for what a key has. An operand that cannot be a digest is refused when there is something to
    /// compare; of such an operand only the length is looked at, as in Redis.
    fn is_met(self, found: Option<&Entry>) -> Result<bool, CommandError> {
        Ok(match (self, found) {
            (Condition::Always, _) => true,
            (Condition::Missing | Condition::NotEqual(_) | Condition::OtherDigest(_), None) => true,
            (Condition::Exists | Condition::Equal(_) | Condition::SameDigest(_), None) => false,
            (Condition::Missing, Some(_)) => false,
            (Condition::Exists, Some(_)) => true,
            (Condition::Equal(value), Some(entry)) => entry.bytes() == value,
            (Condition::NotEqual(value), Some(entry)) => entry.bytes() != value,
            (Condition::SameDigest(digest), Some(entry)) => has_digest(entry, digest)?,
            (Condition::OtherDigest(digest), Some(entry)) => !has_digest(entry, digest)?,
        })
    }

    fn is_same_kind(self, other: Condition<'_>) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

fn has_digest(entry: &Entry, digest: &[u8]) -> Result<bool, CommandError> {
    if digest.len() != 16 {
        return Err(CommandError::fixed(
            "ERR The digest must be exactly 16 hexadecimal characters",
        ));
    }
    Ok(string::digest(entry.bytes()).eq_ignore_ascii_case(digest))
}

/// How an expiry is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timing {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

impl Timing {
    /// The keyword of each.
    const KEYWORDS: [(&'static str, Timing); 4] = [
        ("EX", Timing::Seconds),
        ("PX", Timing::Milliseconds),
        ("EXAT", Timing::UnixSeconds),
        ("PXAT", Timing::UnixMilliseconds),
    ];

    /// The instant that `text` means; refused unless the number is positive and the instant representable.
    fn instant(
        self,
        text: &[u8],
        now: Millis,
        command: &'static str,
    ) -> Result<Millis, CommandError> {
        let number = parse_i64(text).ok_or(CommandError::NotInteger)?;
        let unit_ms = if matches!(self, Timing::Seconds | Timing::UnixSeconds) {
            1000
        } else {
            1
        };
        let start_ms = if matches!(self, Timing::Seconds | Timing::Milliseconds) {
            now.0
        } else {
            0
        };
        let at = (number > 0)
            .then(|| number.checked_mul(unit_ms)?.checked_add(start_ms))
            .flatten();
        at.map(Millis).ok_or(CommandError::InvalidExpire(command))
    }
}

/// What becomes of the expiry, as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiration<'a> {
    Unsaid,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    At(Timing, &'a [u8]),
}

/// The options of SET, GETEX and MSETEX.
#[derive(Clone, Copy)]
struct Options<'a> {
    condition: Condition<'a>,
    get: bool,
    expiration: Expiration<'a>,
}

/// Which options a command has beside the expiries.
#[derive(Clone, Copy)]
struct Allowed {
    /// NX, XX and KEEPTTL.
    write: bool,
    /// GET and the conditions that compare.
    set: bool,
    /// PERSIST.
    persist: bool,
}

impl<'a> Options<'a> {
    const SET: Allowed = Allowed {
        write: true,
        set: true,
        persist: false,
    };
    const MSETEX: Allowed = Allowed {
        write: true,
        set: false,
        persist: false,
    };
    const GETEX: Allowed = Allowed {
        write: false,
        set: false,
        persist: true,
    };

    /// Takes all arguments. An option may stand twice, the last counts, but not beside another of its group. Numbers are
    /// not looked at here: a syntax error anywhere comes before an error in a number.
    fn parse(args: &mut Args<'a>, allowed: Allowed) -> Result<Options<'a>, CommandError> {
        let mut options = Options {
            condition: Condition::Always,
            get: false,
            expiration: Expiration::Unsaid,
        };
        while !args.is_empty() {
            if allowed.set && args.keyword("GET") {
                options.get = true;
            } else if let Some(expiration) = Expiration::take(args, allowed)? {
                options.expiration.change(expiration)?;
            } else if let Some(condition) = take_condition(args, allowed)? {
                if options.condition != Condition::Always
                    && !options.condition.is_same_kind(condition)
                {
                    return Err(CommandError::Syntax);
                }
                options.condition = condition;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    fn ttl(&self, now: Millis, command: &'static str) -> Result<Ttl, CommandError> {
        Ok(match self.expiration {
            Expiration::Keep => Ttl::Keep,
            Expiration::Unsaid | Expiration::Persist => Ttl::Clear,
            Expiration::At(timing, text) => Ttl::At(timing.instant(text, now, command)?),
        })
    }
}

impl<'a> Expiration<'a> {
    fn take(args: &mut Args<'a>, allowed: Allowed) -> Result<Option<Expiration<'a>>, CommandError> {
        if allowed.write && args.keyword("KEEPTTL") {
            return Ok(Some(Expiration::Keep));
        }
        if allowed.persist && args.keyword("PERSIST") {
            return Ok(Some(Expiration::Persist));
        }
        for (keyword, timing) in Timing::KEYWORDS {
            if args.keyword(keyword) {
                return Ok(Some(Expiration::At(timing, args.bytes()?)));
            }
        }
        Ok(None)
    }

    fn change(&mut self, to: Expiration<'a>) -> Done {
        let is_allowed = match (*self, to) {
            (Expiration::Unsaid, _) => true,
            (Expiration::At(timing, _), Expiration::At(other, _)) => timing == other,
            (one, other) => one == other,
        };
        *self = to;
        if is_allowed {
            Ok(())
        } else {
            Err(CommandError::Syntax)
        }
    }
}

fn take_condition<'a>(
    args: &mut Args<'a>,
    allowed: Allowed,
) -> Result<Option<Condition<'a>>, CommandError> {
    if allowed.write && args.keyword("NX") {
        return Ok(Some(Condition::Missing));
    }
    if allowed.write && args.keyword("XX") {
        return Ok(Some(Condition::Exists));
    }
    let (Some(word), Some(operand)) = (args.peek(), args.peek_at(1)) else {
        return Ok(None);
    };
    let condition = Condition::comparison(word, operand).filter(|_| allowed.set);
    if condition.is_some() {
        args.bytes()?;
        args.bytes()?;
    }
    Ok(condition)
}

/// The next argument as a value to be stored: shared when it was received in a buffer of its own.
#[inline]
fn taken_value<'a>(args: &mut Args<'a>) -> Result<NewValue<'a>, CommandError> {
    Ok(match args.value()? {
        (_, Some(shared)) => NewValue::Shared(shared.clone()),
        (bytes, None) => NewValue::Copy(bytes),
    })
}

fn bytes_of<'a>(value: &'a NewValue<'_>) -> &'a [u8] {
    match value {
        NewValue::Copy(bytes) => bytes,
        NewValue::Shared(bytes) => bytes,
    }
}

/// Writes a string with its expiry, and tells followers the canonical SET. An instant that has passed removes the key.
fn put(key: &[u8], value: NewValue<'_>, ttl: Ttl, view: &mut View<'_>) {
    match ttl {
        Ttl::At(at) if at <= view.now() => {
            delete(key, view);
            return;
        }
        Ttl::At(at) => {
            let mut digits = itoa::Buffer::new();
            view.propagate(&[
                b"SET",
                key,
                bytes_of(&value),
                b"PXAT",
                digits.format(at.0).as_bytes(),
            ]);
        }
        Ttl::Keep => view.propagate(&[b"SET", key, bytes_of(&value), b"KEEPTTL"]),
        Ttl::Clear => view.propagate(&[b"SET", key, bytes_of(&value)]),
    }
    view.set(key, value, ttl);
    view.notify(EventClass::STRING, "set", key);
    if matches!(ttl, Ttl::At(_)) {
        view.notify(EventClass::GENERIC, "expire", key);
    }
}

/// Removes a key and tells followers so. Returns whether it was there.
fn delete(key: &[u8], view: &mut View<'_>) -> bool {
    let is_removed = view.remove(key);
    if is_removed {
        view.propagate(&[b"DEL", key]);
        view.notify(EventClass::GENERIC, "del", key);
    }
    is_removed
}

#[inline]
fn write_value(entry: &Entry, reply: &mut Reply<'_>) {
    match entry.text() {
        Text::Plain(bytes) => reply.bulk(bytes),
        Text::Shared(shared) => reply.bulk_shared(shared.clone()),
    }
}

#[inline]
fn value_or_null(found: Option<&Entry>, reply: &mut Reply<'_>) {
    match found {
        Some(entry) => write_value(entry, reply),
        None => reply.null(),
    }
}

/// The length of a string of `length` bytes after `more`, within proto-max-bulk-len.
fn checked_length(length: usize, more: usize, view: &View<'_>) -> Result<usize, CommandError> {
    let sum = length
        .checked_add(more)
        .ok_or(CommandError::StringTooLong)?;
    view.check_length(sum)?;
    Ok(sum)
}

#[cfg(test)]
mod tests;
