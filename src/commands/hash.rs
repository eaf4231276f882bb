//! Hashes: fields with values under one key.
//!
//! A field that has expired is absent from that moment on: reads pass over it, and a change first removes it (followers are
//! told HDEL), so that what is set under its name is a new field. What nobody touches goes with active expiry. HLEN alone
//! counts expired fields until they are removed, as in Redis.
//!
//! Who reads a large hash works on a snapshot after its partition was released, so that nobody waits meanwhile.

mod expiry;
mod random;
#[cfg(test)]
mod tests;

use self::expiry::{
    hexpire, hexpireat, hexpiretime, hgetdel, hgetex, hpersist, hpexpire, hpexpireat, hpexpiretime,
    hpttl, hsetex, httl,
};
use self::random::hrandfield;
use super::LATER_ELEMENTS;
use super::scan::{self, Options};
use super::{Done, Handler};
use crate::data::dense::Content;
use crate::data::hash::{Expiry, Hash, HashRef};
use crate::data::number::LongDouble;
use crate::data::packed::Item;
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::SHARED_MIN;
use crate::keyspace::hash::KeyHasher;
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::{Args, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "hdel",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Removes fields of a hash; the key goes with the last one.",
            complexity: "O(N) in the fields given",
            usage: "key field [field ...]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            member: 2,
            scope: Scope::Keys,
            history: &[("2.4.0", "Takes more than one field.")],
            ..Command::NEW
        },
        Handler::Write(hdel),
    ),
    Row::new(
        Command {
            name: "hexists",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Tells whether a hash has a field.",
            complexity: "O(1)",
            usage: "key field",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            member: 2,
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(hexists),
    ),
    Row::new(
        Command {
            name: "hexpire",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Sets when fields of a hash expire, in seconds from now.",
            complexity: "O(N) in the fields given",
            usage: "key seconds:int condition:[NX|XX|GT|LT] FIELDS fields:(numfields:int field...)",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hexpire),
    ),
    Row::new(
        Command {
            name: "hexpireat",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Sets when fields of a hash expire, as a Unix time in seconds.",
            complexity: "O(N) in the fields given",
            usage: "key unix-time-seconds:unix-time condition:[NX|XX|GT|LT] FIELDS fields:(numfields:int field...)",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hexpireat),
    ),
    Row::new(
        Command {
            name: "hexpiretime",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Tells when fields of a hash expire, as a Unix time in seconds.",
            complexity: "O(N) in the fields given",
            usage: "key FIELDS fields:(numfields:int field...)",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(hexpiretime),
    ),
    Row::new(
        Command {
            name: "hget",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Returns the value of a field of a hash.",
            complexity: "O(1)",
            usage: "key field",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            member: 2,
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(hget),
    ),
    Row::new(
        Command {
            name: "hgetall",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Returns all fields of a hash with their values.",
            complexity: "O(N) in the fields of the hash",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        },
        Handler::Read(hgetall),
    ),
    Row::new(
        Command {
            name: "hgetdel",
            family: Family::Hash,
            since: "8.0.0",
            summary: "Returns the values of fields of a hash and removes the fields.",
            complexity: "O(N) in the fields given",
            usage: "key FIELDS fields:(numfields:int field...)",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hgetdel),
    ),
    Row::new(
        Command {
            name: "hgetex",
            family: Family::Hash,
            since: "8.0.0",
            summary: "Returns the values of fields of a hash and changes when they expire.",
            complexity: "O(N) in the fields given",
            usage: "key expiration:[EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|PERSIST] FIELDS fields:(numfields:int field...)",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)
                .noted("RW and UPDATE because it changes when fields expire")],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hgetex),
    ),
    Row::new(
        Command {
            name: "hincrby",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Adds to the integer in a field of a hash; a missing one is 0.",
            complexity: "O(1)",
            usage: "key field increment:int",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            member: 2,
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hincrby),
    ),
    Row::new(
        Command {
            name: "hincrbyfloat",
            family: Family::Hash,
            since: "2.6.0",
            summary: "Adds to the number in a field of a hash; a missing one is 0.",
            complexity: "O(1)",
            usage: "key field increment:double",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hincrbyfloat),
    ),
    Row::new(
        Command {
            name: "hkeys",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Returns all fields of a hash.",
            complexity: "O(N) in the fields of the hash",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        },
        Handler::Read(hkeys),
    ),
    Row::new(
        Command {
            name: "hlen",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Returns how many fields a hash has.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(hlen),
    ),
    Row::new(
        Command {
            name: "hmget",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Returns the values of fields of a hash.",
            complexity: "O(N) in the fields given",
            usage: "key field [field ...]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(hmget),
    ),
    Row::new(
        Command {
            name: "hmset",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Sets fields of a hash; HSET by its old name.",
            complexity: "O(N) in the fields given",
            usage: "key field value [field value ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            deprecated: Some(("4.0.0", "`HSET`")),
            ..Command::NEW
        },
        Handler::Write(hmset),
    ),
    Row::new(
        Command {
            name: "hpersist",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Removes the expiry of fields of a hash.",
            complexity: "O(N) in the fields given",
            usage: "key FIELDS fields:(numfields:int field...)",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hpersist),
    ),
    Row::new(
        Command {
            name: "hpexpire",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Sets when fields of a hash expire, in milliseconds from now.",
            complexity: "O(N) in the fields given",
            usage: "key milliseconds:int condition:[NX|XX|GT|LT] FIELDS fields:(numfields:int field...)",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hpexpire),
    ),
    Row::new(
        Command {
            name: "hpexpireat",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Sets when fields of a hash expire, as a Unix time in milliseconds.",
            complexity: "O(N) in the fields given",
            usage: "key unix-time-milliseconds:unix-time condition:[NX|XX|GT|LT] FIELDS fields:(numfields:int field...)",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hpexpireat),
    ),
    Row::new(
        Command {
            name: "hpexpiretime",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Tells when fields of a hash expire, as a Unix time in milliseconds.",
            complexity: "O(N) in the fields given",
            usage: "key FIELDS fields:(numfields:int field...)",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(hpexpiretime),
    ),
    Row::new(
        Command {
            name: "hpttl",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Tells how many milliseconds fields of a hash have left.",
            complexity: "O(N) in the fields given",
            usage: "key FIELDS fields:(numfields:int field...)",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(hpttl),
    ),
    Row::new(
        Command {
            name: "hrandfield",
            family: Family::Hash,
            since: "6.2.0",
            summary: "Returns fields of a hash chosen by chance, with their values if asked for.",
            complexity: "O(N) in the fields returned",
            usage: "key options:[count:int [WITHVALUES]]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(hrandfield),
    ),
    Row::new(
        Command {
            name: "hscan",
            family: Family::Hash,
            since: "2.8.0",
            summary: "Goes through the fields of a hash, some at each call.",
            complexity: "O(1) for each call, O(N) in the fields of the hash for a whole sweep",
            usage: "key cursor:int [MATCH pattern:pattern] [COUNT count:int] [NOVALUES@7.4.0]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[("7.4.0", "`NOVALUES` came in.")],
            ..Command::NEW
        },
        Handler::Read(hscan),
    ),
    Row::new(
        Command {
            name: "hset",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Sets fields of a hash and returns how many of them are new.",
            complexity: "O(N) in the fields given",
            usage: "key field value [field value ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            member: 2,
            scope: Scope::Keys,
            history: &[("4.0.0", "Takes more than one field.")],
            ..Command::NEW
        },
        Handler::Write(hset),
    ),
    Row::new(
        Command {
            name: "hsetex",
            family: Family::Hash,
            since: "8.0.0",
            summary: "Sets fields of a hash and when they expire.",
            complexity: "O(N) in the fields given",
            usage: "key condition:[FNX|FXX] expiration:[EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|KEEPTTL] FIELDS fields:(numfields:int data:(field value)...)",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hsetex),
    ),
    Row::new(
        Command {
            name: "hsetnx",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Sets a field of a hash, if it is not there.",
            complexity: "O(1)",
            usage: "key field value",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            member: 2,
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(hsetnx),
    ),
    Row::new(
        Command {
            name: "hstrlen",
            family: Family::Hash,
            since: "3.2.0",
            summary: "Returns the length of the value of a field of a hash, in bytes.",
            complexity: "O(1)",
            usage: "key field",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(hstrlen),
    ),
    Row::new(
        Command {
            name: "httl",
            family: Family::Hash,
            since: "7.4.0",
            summary: "Tells how many seconds fields of a hash have left.",
            complexity: "O(N) in the fields given",
            usage: "key FIELDS fields:(numfields:int field...)",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(httl),
    ),
    Row::new(
        Command {
            name: "hvals",
            family: Family::Hash,
            since: "2.0.0",
            summary: "Returns all values of a hash.",
            complexity: "O(N) in the fields of the hash",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        },
        Handler::Read(hvals),
    ),
];

fn hset(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let added = set_pairs("hset", args, view)?;
    reply.integer(added as i64);
    Ok(())
}

fn hmset(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    set_pairs("hmset", args, view)?;
    reply.ok();
    Ok(())
}

/// Sets the fields that are left in the arguments; how many of them are new.
fn set_pairs(
    command: &'static str,
    args: &mut Args<'_>,
    view: &mut View<'_>,
) -> Result<usize, CommandError> {
    let key = args.bytes()?;
    if !args.remaining().is_multiple_of(2) {
        return Err(CommandError::Arity(command.into()));
    }
    let count = args.remaining() / 2;
    view.expire_fields(key, args.rest().step_by(2))?;
    let (limits, hasher) = (view.rules().hash, view.hasher());
    let pairs = pairs(args);
    let added = view.heavy(count, |view| {
        view.edit_hash(key, Missing::Create, |hash| {
            hash.expect_more(count, &limits, hasher);
            let set = |(field, value): (&[u8], Content<'_>)| {
                usize::from(hash.set_content(field, value, Expiry::Clear, &limits, hasher))
            };
            pairs.map(set).sum()
        })
    })?;
    view.effects.dirty += count as u64;
    view.notify(EventClass::HASH, "hset", key);
    Ok(added.unwrap_or_default())
}

/// The fields that are left in the arguments, each with its value.
fn pairs<'a>(args: &Args<'a>) -> impl Iterator<Item = (&'a [u8], Content<'a>)> + use<'a> {
    let mut args = args.clone();
    std::iter::from_fn(move || Some((args.bytes().ok()?, content(&mut args).ok()?)))
}

fn content<'a>(args: &mut Args<'a>) -> Result<Content<'a>, CommandError> {
    let (bytes, shared) = args.value()?;
    Ok(shared.map_or(Content::Copy(bytes), Content::Shared))
}

fn hsetnx(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, field) = (args.bytes()?, args.bytes()?);
    let value = content(args)?;
    view.expire_fields(key, std::iter::once(field))?;
    let (limits, hasher, now) = (view.rules().hash, view.hasher(), view.now());
    let added = view.edit_hash(key, Missing::Create, |hash| {
        !hash.view().contains(field, now, hasher)
            && hash.set_content(field, value, Expiry::Clear, &limits, hasher)
    })?;
    let added = added.unwrap_or_default();
    if added {
        view.effects.dirty += 1;
        view.notify(EventClass::HASH, "hset", key);
    }
    reply.integer(i64::from(added));
    Ok(())
}

fn hdel(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let fields = args.rest();
    view.expire_fields(key, args.rest())?;
    let hasher = view.hasher();
    let removed = view.heavy(args.remaining(), |view| {
        view.edit_hash(key, Missing::Skip, |hash| {
            fields.filter(|field| hash.remove(field, hasher)).count()
        })
    })?;
    let removed = removed.unwrap_or_default();
    if removed > 0 {
        view.effects.dirty += removed as u64;
        view.notify(EventClass::HASH, "hdel", key);
    }
    reply.integer(removed as i64);
    Ok(())
}

fn hincrby(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, field) = (args.bytes()?, args.bytes()?);
    let by = args.integer()?;
    view.expire_fields(key, std::iter::once(field))?;
    let (limits, hasher, now) = (view.rules().hash, view.hasher(), view.now());
    let sum = view.edit_hash(key, Missing::Create, |hash| {
        let old = match hash.view().get(field, now, hasher) {
            Some(item) => item.int().ok_or(NOT_AN_INTEGER)?,
            None => 0,
        };
        let sum = old.checked_add(by).ok_or(CommandError::IncrementOverflow)?;
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(sum).as_bytes();
        hash.set(field, text, Expiry::Keep, &limits, hasher);
        Ok::<i64, CommandError>(sum)
    })?;
    let sum = sum.unwrap_or(Ok(by))?;
    view.effects.dirty += 1;
    view.notify(EventClass::HASH, "hincrby", key);
    reply.integer(sum);
    Ok(())
}

fn hincrbyfloat(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, field) = (args.bytes()?, args.bytes()?);
    let by = LongDouble::parse(args.bytes()?).ok_or(CommandError::NotFloat)?;
    if by.is_nan() || by.is_infinite() {
        return Err(CommandError::fixed("ERR value is NaN or Infinity"));
    }
    view.expire_fields(key, std::iter::once(field))?;
    let (limits, hasher, now) = (view.rules().hash, view.hasher(), view.now());
    let changed = view.edit_hash(key, Missing::Create, |hash| {
        let old = match hash.view().get(field, now, hasher) {
            Some(item) => LongDouble::parse(item.text(&mut itoa::Buffer::new())),
            // Not the number alone: 0 plus a negative zero is 0.
            None => LongDouble::parse(b"0"),
        };
        let sum = old.ok_or(NOT_A_FLOAT)?.add(by);
        if sum.is_nan() || sum.is_infinite() {
            return Err(CommandError::IncrementNan);
        }
        let text = sum.format();
        hash.set(field, &text, Expiry::Keep, &limits, hasher);
        let expires = hash.view().expiry(field, hasher).flatten().is_some();
        Ok((text, expires))
    })?;
    let (text, expires) = changed.unwrap_or(Err(NOT_A_FLOAT))?;
    view.effects.dirty += 1;
    // The number itself, so that no follower rounds otherwise. HSET would take the field's expiry away, but is what older
    // followers know.
    if expires {
        view.propagate(&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"1", field, &text]);
    } else {
        view.propagate(&[b"HSET", key, field, &text]);
    }
    view.notify(EventClass::HASH, "hincrbyfloat", key);
    reply.bulk(&text);
    Ok(())
}

const NOT_AN_INTEGER: CommandError = CommandError::fixed("ERR hash value is not an integer");
const NOT_A_FLOAT: CommandError = CommandError::fixed("ERR hash value is not a float");

fn hget(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let hash = view.hash(args.bytes()?)?;
    reply_field(hash, args.bytes()?, view, reply);
    Ok(())
}

fn hmget(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let hash = view.hash(args.bytes()?)?;
    reply.array(args.remaining());
    for field in args.rest() {
        reply_field(hash, field, view, reply);
    }
    Ok(())
}

fn hexists(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let hash = view.hash(args.bytes()?)?;
    let field = args.bytes()?;
    let found = hash.is_some_and(|hash| hash.contains(field, view.now(), view.hasher()));
    reply.integer(i64::from(found));
    Ok(())
}

fn hstrlen(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let hash = view.hash(args.bytes()?)?;
    let field = args.bytes()?;
    let value = hash.and_then(|hash| hash.get(field, view.now(), view.hasher()));
    reply.integer(value.map_or(0, Item::text_len) as i64);
    Ok(())
}

fn hlen(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let hash = view.hash(args.bytes()?)?;
    reply.integer(hash.map_or(0, HashRef::len) as i64);
    Ok(())
}

/// What of each field a reply has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    Fields,
    Values,
    Both,
}

fn hkeys(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    reply_all(Parts::Fields, args, view, reply)
}

fn hvals(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    reply_all(Parts::Values, args, view, reply)
}

fn hgetall(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    reply_all(Parts::Both, args, view, reply)
}

fn reply_all(parts: Parts, args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let Some(hash) = view.hash(args.bytes()?)? else {
        match parts {
            Parts::Both => reply.map(0),
            Parts::Fields | Parts::Values => reply.array(0),
        }
        return Ok(());
    };
    let now = view.now();
    read(view, hash, reply, move |hash, hasher, reply| {
        let count = if hash.is_all_live(now) {
            hash.len()
        } else {
            hash.live(now, hasher).count()
        };
        match parts {
            Parts::Both => reply.map(count),
            Parts::Fields | Parts::Values => reply.array(count),
        }
        for (field, value) in hash.live(now, hasher) {
            if parts != Parts::Values {
                reply.item(field);
            }
            if parts != Parts::Fields {
                reply.item(value);
            }
        }
    });
    Ok(())
}

fn hscan(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let cursor = scan::cursor(args)?;
    let Some(hash) = view.hash(key)? else {
        // As in Redis: of a missing key nobody asks what the options are.
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let (mut options, mut values) = (Options::default(), true);
    while !args.is_empty() {
        if args.keyword("NOVALUES") {
            values = false;
        } else if !options.take(args)? {
            return Err(CommandError::Syntax);
        }
    }
    let (limit, mut found) = (options.limit(), Vec::new());
    let next = view.heavy_read(limit.min(hash.len()), || {
        hash.scan(cursor, limit, view.now(), view.hasher(), |field, value| {
            if options
                .pattern
                .matches(field.text(&mut itoa::Buffer::new()))
            {
                found.push((field, value));
            }
        })
    });
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(found.len() * if values { 2 } else { 1 });
    for (field, value) in found {
        reply.item(field);
        if values {
            reply.item(value);
        }
    }
    Ok(())
}

/// Reads a hash and writes the reply: at once, or after release when it is large.
fn read(
    view: &View<'_>,
    hash: HashRef<'_>,
    reply: &mut Reply<'_>,
    work: impl FnOnce(HashRef<'_>, &KeyHasher, &mut Reply<'_>) + Send + 'static,
) {
    if hash.len() < LATER_ELEMENTS {
        return work(hash, view.hasher(), reply);
    }
    let (hash, hasher): (Hash, KeyHasher) = (hash.snapshot(), view.hasher().clone());
    view.after_release(Box::new(move |reply| work(hash.view(), &hasher, reply)));
}

/// The value of a field, or null; a long one is shared with the reply.
fn reply_field(hash: Option<HashRef<'_>>, field: &[u8], view: &View<'_>, reply: &mut Reply<'_>) {
    let (now, hasher) = (view.now(), view.hasher());
    let Some(value) = hash.and_then(|hash| hash.get(field, now, hasher)) else {
        return reply.null();
    };
    let shared = hash
        .filter(|_| value.text_len() >= SHARED_MIN)
        .and_then(|hash| hash.shared_value(field, now, hasher));
    match shared {
        Some(bytes) => reply.bulk_shared(bytes),
        None => reply.item(value),
    }
}
