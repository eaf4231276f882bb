//! Values as payloads: DUMP writes one, RESTORE makes a key of one. The format is `data::dump`'s.
//!
//! A large value is written after its partition is released, from a snapshot. RESTORE has to know the value before it
//! changes anything, so that a payload which is refused leaves the key as it was.

use bytes::Bytes;

use super::{Done, Handler};
use crate::base::clock::Millis;
use crate::data::dump::{self, Dumped, Refused};
use crate::data::number;
use crate::data::value::ValueRef;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::NewValue;
use crate::keyspace::evict::Rules;
use crate::keyspace::view::{Ttl, View};
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{
    Args, Category, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope,
};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "dump",
            family: Family::Generic,
            since: "2.6.0",
            summary: "Returns the value of a key as bytes that RESTORE takes.",
            complexity: "O(N) in the size of the value",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(dump),
    ),
    Row::new(
        Command {
            name: "restore",
            family: Family::Generic,
            since: "2.6.0",
            summary: "Sets a key to a value that DUMP returned.",
            complexity: "O(N) in the size of the value; O(N*log(N)) for a sorted set",
            usage: "key ttl:int serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] [IDLETIME seconds:int@5.0.0] [FREQ frequency:int@5.0.0]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            categories: Category::DANGEROUS,
            keys: &[KeySpec::one(1, KeyAccess::OW_UPDATE)],
            scope: Scope::Keys,
            history: &[
                ("3.0.0", "Takes REPLACE."),
                ("5.0.0", "Takes ABSTTL."),
                ("5.0.0", "Takes IDLETIME and FREQ."),
            ],
            ..Command::NEW
        },
        Handler::Write(restore),
    ),
];

/// Elements, or bytes of a string, from which a payload is written after the partition is released.
const LATER_MIN: usize = 16 * 1024;
/// Bytes of a payload that take about as long to read as one element of a collection takes elsewhere.
const BYTES_PER_ELEMENT: usize = 16;

fn dump(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let Some(entry) = view.lookup(key) else {
        reply.null();
        return Ok(());
    };
    let (now, value) = (view.now(), entry.value());
    if let ValueRef::Hash(hash) = value
        && hash.live(now, view.hasher()).next().is_none()
    {
        reply.null();
        return Ok(());
    }
    if value.len() < LATER_MIN {
        reply.bulk_shared(dump::write(value, now, view.hasher()).into());
        return Ok(());
    }
    let hasher = view.hasher().clone();
    match (entry.snapshot(), entry.shared().cloned()) {
        (Some(collection), _) => view.after_release(Box::new(move |reply| {
            reply.bulk_shared(dump::write(collection.view(), now, &hasher).into());
        })),
        (None, Some(text)) => view.after_release(Box::new(move |reply| {
            reply.bulk_shared(dump::write(ValueRef::String(&text), now, &hasher).into());
        })),
        (None, None) => reply.bulk_shared(dump::write(value, now, &hasher).into()),
    }
    Ok(())
}

/// RESTORE's options.
#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    /// ABSTTL: the expiry is a time, not a duration.
    absolute: bool,
    /// IDLETIME, in seconds.
    idle: Option<u64>,
    /// FREQ.
    frequency: Option<u8>,
}

impl RestoreOptions {
    fn parse(args: &mut Args<'_>) -> Taken<RestoreOptions> {
        let mut options = RestoreOptions::default();
        while !args.is_empty() {
            if args.keyword("REPLACE") {
                options.replace = true;
            } else if args.keyword("ABSTTL") {
                options.absolute = true;
            } else if args.remaining() > 1
                && options.frequency.is_none()
                && args.keyword("IDLETIME")
            {
                let idle = u64::try_from(args.integer()?);
                options.idle = Some(idle.map_err(|_| INVALID_IDLETIME)?);
            } else if args.remaining() > 1 && options.idle.is_none() && args.keyword("FREQ") {
                let frequency = u8::try_from(args.integer()?);
                options.frequency = Some(frequency.map_err(|_| INVALID_FREQ)?);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// The access clock that the key gets; `None` for that of a new key.
    fn access(&self, rules: &Rules, now: Millis) -> Option<u32> {
        if rules.policy.is_lfu() {
            let frequency = self.frequency?;
            Some(rules.access_with_frequency(frequency, now))
        } else {
            Some(rules.access_idle_for(self.idle?, now))
        }
    }
}

const INVALID_IDLETIME: CommandError =
    CommandError::fixed("ERR Invalid IDLETIME value, must be >= 0");
const INVALID_FREQ: CommandError =
    CommandError::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255");

fn restore(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, ttl, payload) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let options = RestoreOptions::parse(args)?;
    if !options.replace && view.peek(key).is_some() {
        return Err(CommandError::fixed(
            "BUSYKEY Target key name already exists.",
        ));
    }
    let expiry = expiry(ttl, options.absolute, view.now())?;
    let value = read(payload, view)?;

    let before = view.effects.dirty;
    let removed = options.replace && view.remove(key);
    if expiry.is_some_and(|expiry| expiry <= view.now()) {
        if removed {
            view.propagate(&[b"DEL", key]);
            view.notify(EventClass::GENERIC, "del", key);
        }
        view.effects.dirty = before + u64::from(removed);
        reply.ok();
        return Ok(());
    }
    let ttl = expiry.map_or(Ttl::Clear, Ttl::At);
    match value {
        Dumped::String(text) => _ = view.set(key, NewValue::Shared(Bytes::from(text)), ttl),
        Dumped::Collection(value) => _ = view.store(key, value, ttl),
    }
    if let Some(access) = options.access(view.rules(), view.now()) {
        view.set_access(key, access);
    }
    view.effects.dirty = before + 1;
    if let Some(expiry) = expiry
        && !options.absolute
    {
        propagate(args, view, expiry);
    }
    view.notify(EventClass::GENERIC, "restore", key);
    reply.ok();
    Ok(())
}

/// When the key expires; `None` for 0.
fn expiry(ttl: &[u8], absolute: bool, now: Millis) -> Taken<Option<Millis>> {
    let ttl = number::parse_i64(ttl).ok_or(CommandError::NotInteger)?;
    match ttl {
        ..0 => Err(CommandError::fixed("ERR Invalid TTL value, must be >= 0")),
        0 => Ok(None),
        _ if absolute => Ok(Some(Millis(ttl))),
        // Beyond the last instant it begins anew, in the past, as in Redis: the key is not created.
        _ => Ok(Some(Millis(now.0.wrapping_add(ttl)))),
    }
}

fn read(payload: &[u8], view: &mut View<'_>) -> Taken<Dumped> {
    let rules = view.rules();
    let rules = dump::Rules {
        list: rules.list,
        set: rules.set,
        hash: rules.hash,
        zset: rules.zset,
        hasher: view.hasher(),
    };
    let elements = payload.len() / BYTES_PER_ELEMENT;
    let value = view.heavy_read(elements, || dump::read(payload, &rules));
    value.map_err(|refused| match refused {
        Refused::Footer => CommandError::fixed("ERR DUMP payload version or checksum are wrong"),
        Refused::Format => CommandError::fixed("ERR Bad data format"),
    })
}

/// Tells followers the same request with the expiry as a time.
fn propagate(args: &Args<'_>, view: &mut View<'_>, expiry: Millis) {
    let text = &mut itoa::Buffer::new();
    let mut request: Vec<&[u8]> = args.all().iter().collect();
    request[2] = text.format(expiry.0).as_bytes();
    request.push(b"ABSTTL");
    view.propagate(&request);
}

#[cfg(test)]
mod tests;
