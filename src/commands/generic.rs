//! Keys whatever they hold: removing, renaming, copying, expiring, and looking into them.
//!
//! What these share: an expired key is absent, whether or not somebody has removed it already; an expiry in the past
//! removes the key; and what is propagated is absolute (`PEXPIREAT key milliseconds`, `DEL key`), so that a journal read
//! later means the same. TTL, TYPE, EXISTS and OBJECT leave the access clock alone, as in Redis.
//!
//! MOVE and COPY work in two databases. Their rows name the second one, so that both partitions are locked before the
//! handler runs; a number that is out of range locks nothing and is refused here.

use super::{Done, Handler};
use crate::base::clock::Millis;
use crate::data::number;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::Entry;
use crate::keyspace::view::View;
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{
    Across, Args, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope,
};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "copy",
            family: Family::Generic,
            since: "6.2.0",
            summary: "Copies the value and expiry of a key to another key.",
            complexity: "O(N) in the length of the value; a large one is shared, O(1)",
            usage: "source:key destination:key [DB destination-db:int] [REPLACE]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::RO_ACCESS),
                KeySpec::one(2, KeyAccess::OW_UPDATE),
            ],
            scope: Scope::KeysAndDatabase(copy_database),
            ..Command::NEW
        },
        Handler::Write(copy),
    ),
    Row::new(
        Command {
            name: "del",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Removes keys.",
            complexity: "O(N) in the number of keys",
            usage: "key [key ...]",
            flags: Flags::WRITE,
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RM_DELETE)],
            scope: Scope::Keys,
            across: Across::Split,
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..Command::NEW
        },
        Handler::Write(del),
    ),
    Row::new(
        Command {
            name: "exists",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Counts how many of the given keys there are.",
            complexity: "O(N) in the number of keys",
            usage: "key [key ...]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO)],
            scope: Scope::Keys,
            across: Across::Split,
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            history: &[("3.0.3", "Takes more than one key.")],
            ..Command::NEW
        },
        Handler::Read(exists),
    ),
    Row::new(
        Command {
            name: "expire",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Sets when a key expires, in seconds from now.",
            complexity: "O(1)",
            usage: "key seconds:int condition:[NX|XX|GT|LT]@7.0.0",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            history: &[("7.0.0", "Takes the conditions NX, XX, GT and LT.")],
            ..Command::NEW
        },
        Handler::Write(expire),
    ),
    Row::new(
        Command {
            name: "expireat",
            family: Family::Generic,
            since: "1.2.0",
            summary: "Sets when a key expires, as a Unix time in seconds.",
            complexity: "O(1)",
            usage: "key unix-time-seconds:unix-time condition:[NX|XX|GT|LT]@7.0.0",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            history: &[("7.0.0", "Takes the conditions NX, XX, GT and LT.")],
            ..Command::NEW
        },
        Handler::Write(expireat),
    ),
    Row::new(
        Command {
            name: "expiretime",
            family: Family::Generic,
            since: "7.0.0",
            summary: "Tells when a key expires, as a Unix time in seconds.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(expiretime),
    ),
    Row {
        command: Command {
            name: "memory",
            family: Family::Server,
            since: "4.0.0",
            summary: "Shows what memory is used for.",
            complexity: "",
            ..Command::NEW
        },
        handler: Handler::Container,
        // The others look at the server: admin/memory.rs.
        subcommands: MEMORY,
    },
    Row::new(
        Command {
            name: "move",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Moves a key to another database.",
            complexity: "O(1)",
            usage: "key db:int",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::KeysAndDatabase(move_database),
            ..Command::NEW
        },
        Handler::Write(r#move),
    ),
    Row {
        command: Command {
            name: "object",
            family: Family::Generic,
            since: "2.2.3",
            summary: "Looks into how a value is kept.",
            complexity: "",
            ..Command::NEW
        },
        handler: Handler::Container,
        subcommands: OBJECT,
    },
    Row::new(
        Command {
            name: "persist",
            family: Family::Generic,
            since: "2.2.0",
            summary: "Removes the expiry of a key.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(persist),
    ),
    Row::new(
        Command {
            name: "pexpire",
            family: Family::Generic,
            since: "2.6.0",
            summary: "Sets when a key expires, in milliseconds from now.",
            complexity: "O(1)",
            usage: "key milliseconds:int condition:[NX|XX|GT|LT]@7.0.0",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            history: &[("7.0.0", "Takes the conditions NX, XX, GT and LT.")],
            ..Command::NEW
        },
        Handler::Write(pexpire),
    ),
    Row::new(
        Command {
            name: "pexpireat",
            family: Family::Generic,
            since: "2.6.0",
            summary: "Sets when a key expires, as a Unix time in milliseconds.",
            complexity: "O(1)",
            usage: "key unix-time-milliseconds:unix-time condition:[NX|XX|GT|LT]@7.0.0",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            history: &[("7.0.0", "Takes the conditions NX, XX, GT and LT.")],
            ..Command::NEW
        },
        Handler::Write(pexpireat),
    ),
    Row::new(
        Command {
            name: "pexpiretime",
            family: Family::Generic,
            since: "7.0.0",
            summary: "Tells when a key expires, as a Unix time in milliseconds.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(pexpiretime),
    ),
    Row::new(
        Command {
            name: "pttl",
            family: Family::Generic,
            since: "2.6.0",
            summary: "Tells how many milliseconds a key has left.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[(
                "2.8.0",
                "Tells a missing key (-2) from one that never expires (-1).",
            )],
            ..Command::NEW
        },
        Handler::Read(pttl),
    ),
    Row::new(
        Command {
            name: "rename",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Gives a key another name, replacing what had it.",
            complexity: "O(1)",
            usage: "key newkey:key",
            flags: Flags::WRITE,
            keys: &[
                KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE),
                KeySpec::one(2, KeyAccess::OW_UPDATE),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(rename),
    ),
    Row::new(
        Command {
            name: "renamenx",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Gives a key another name unless that is taken.",
            complexity: "O(1)",
            usage: "key newkey:key",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE),
                KeySpec::one(2, KeyAccess::OW_INSERT),
            ],
            scope: Scope::Keys,
            history: &[("3.2.0", "Renaming a key to its own name is no error.")],
            ..Command::NEW
        },
        Handler::Write(renamenx),
    ),
    Row::new(
        Command {
            name: "touch",
            family: Family::Generic,
            since: "3.2.1",
            summary: "Marks keys as just used and counts those there are.",
            complexity: "O(N) in the number of keys",
            usage: "key [key ...]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO)],
            scope: Scope::Keys,
            across: Across::Split,
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..Command::NEW
        },
        Handler::Read(touch),
    ),
    Row::new(
        Command {
            name: "ttl",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Tells how many seconds a key has left.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[(
                "2.8.0",
                "Tells a missing key (-2) from one that never expires (-1).",
            )],
            ..Command::NEW
        },
        Handler::Read(ttl),
    ),
    Row::new(
        Command {
            name: "type",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Names the type of the value at a key.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(r#type),
    ),
    Row::new(
        Command {
            name: "unlink",
            family: Family::Generic,
            since: "4.0.0",
            summary: "Removes keys and frees their values in the background.",
            complexity: "O(N) in the number of keys",
            usage: "key [key ...]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RM_DELETE)],
            scope: Scope::Keys,
            across: Across::Split,
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..Command::NEW
        },
        Handler::Write(unlink),
    ),
];

const MEMORY: &[Row<Handler>] = &[Row::new(
    Command {
        name: "usage",
        family: Family::Server,
        since: "4.0.0",
        summary: "Tells how many bytes a key and its value take.",
        complexity: "O(N) in the number of sampled values",
        usage: "key [SAMPLES count:int]",
        flags: Flags::READONLY,
        keys: &[KeySpec::one(2, KeyAccess::RO)],
        scope: Scope::Keys,
        ..Command::NEW
    },
    Handler::Read(memory_usage),
)];

const OBJECT: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "encoding",
            family: Family::Generic,
            since: "2.2.3",
            summary: "Names the encoding of a value.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyAccess::RO)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(object_encoding),
    ),
    Row::new(
        Command {
            name: "freq",
            family: Family::Generic,
            since: "4.0.0",
            summary: "Returns the access counter of a key under an LFU policy.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyAccess::RO)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(object_freq),
    ),
    Row::new(
        Command {
            name: "help",
            family: Family::Generic,
            since: "6.2.0",
            summary: "Lists the subcommands of OBJECT.",
            complexity: "O(1)",
            flags: Flags::LOADING.union(Flags::STALE),
            ..Command::NEW
        },
        Handler::Read(object_help),
    ),
    Row::new(
        Command {
            name: "idletime",
            family: Family::Generic,
            since: "2.2.3",
            summary: "Returns the seconds since a key was last used.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyAccess::RO)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(object_idletime),
    ),
    Row::new(
        Command {
            name: "refcount",
            family: Family::Generic,
            since: "2.2.3",
            summary: "Returns how many references a value has.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyAccess::RO)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(object_refcount),
    ),
];

/// The number of removed keys; a key given twice is removed once.
fn del(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let mut removed = 0;
    for key in args.rest() {
        if view.remove(key) {
            view.notify(EventClass::GENERIC, "del", key);
            removed += 1;
        }
    }
    reply.integer(removed);
    Ok(())
}

/// As DEL: large values are always freed off the request's path.
fn unlink(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    del(args, view, reply)
}

/// The number of arguments that are keys; one given twice counts twice.
fn exists(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let found = args
        .rest()
        .filter(|key| view.lookup_untouched(key).is_some())
        .count();
    reply.integer(found as i64);
    Ok(())
}

/// As EXISTS, and moves the access clocks, also for a client that otherwise leaves them alone.
fn touch(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let found = args
        .rest()
        .filter(|key| view.lookup_and_touch(key).is_some())
        .count();
    reply.integer(found as i64);
    Ok(())
}

fn r#type(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let name = |entry: &Entry| entry.kind().name();
    reply.simple(view.lookup_untouched(key).map_or("none", name));
    Ok(())
}

/// How a command of the EXPIRE family states a time.
struct Timing {
    /// For its error text.
    command: &'static str,
    unit_ms: i64,
    /// From now, or since the epoch.
    relative: bool,
}

fn expire(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    set_expiry(
        &Timing {
            command: "expire",
            unit_ms: 1000,
            relative: true,
        },
        args,
        view,
        reply,
    )
}

fn expireat(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    set_expiry(
        &Timing {
            command: "expireat",
            unit_ms: 1000,
            relative: false,
        },
        args,
        view,
        reply,
    )
}

fn pexpire(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    set_expiry(
        &Timing {
            command: "pexpire",
            unit_ms: 1,
            relative: true,
        },
        args,
        view,
        reply,
    )
}

fn pexpireat(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    set_expiry(
        &Timing {
            command: "pexpireat",
            unit_ms: 1,
            relative: false,
        },
        args,
        view,
        reply,
    )
}

/// 1 when the expiry was set (or, lying in the past, the key removed); 0 when there is no key or the condition fails.
fn set_expiry(
    timing: &Timing,
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let key = args.bytes()?;
    let number = args.bytes()?;
    // Redis complains of an option before it looks at the number.
    let condition = Condition::parse(args)?;
    let at = timing.instant(number, view.now())?;
    let allowed = view
        .lookup_for_write(key)
        .is_some_and(|entry| condition.allows(entry.expiry(), at));
    if allowed {
        expire_at(view, key, at);
    }
    reply.integer(i64::from(allowed));
    Ok(())
}

/// Sets the expiry of a key that is there; removes the key when that is not in the future.
fn expire_at(view: &mut View<'_>, key: &[u8], at: Millis) {
    if at <= view.now() {
        view.remove(key);
        view.propagate(&[b"DEL", key]);
        view.notify(EventClass::GENERIC, "del", key);
        return;
    }
    view.set_expiry(key, Some(at));
    view.propagate(&[
        b"PEXPIREAT",
        key,
        itoa::Buffer::new().format(at.0).as_bytes(),
    ]);
    view.notify(EventClass::GENERIC, "expire", key);
}

impl Timing {
    /// The instant that `number` states. It may lie in the past, even before the epoch.
    fn instant(&self, number: &[u8], now: Millis) -> Taken<Millis> {
        let number = number::parse_i64(number).ok_or(CommandError::NotInteger)?;
        let base = if self.relative { now.0 } else { 0 };
        let at = number
            .checked_mul(self.unit_ms)
            .and_then(|ms| ms.checked_add(base));
        at.map(Millis)
            .ok_or(CommandError::InvalidExpire(self.command))
    }
}

/// When an expiry may be set. A key without an expiry counts as never expiring.
#[derive(Default)]
struct Condition {
    /// NX: only if it has none.
    without: bool,
    /// XX: only if it has one.
    with: bool,
    /// GT: only if the new one is later.
    later: bool,
    /// LT: only if the new one is sooner.
    sooner: bool,
}

impl Condition {
    fn parse(args: &mut Args<'_>) -> Taken<Condition> {
        let mut condition = Condition::default();
        while let Some(word) = args.peek() {
            if args.keyword("NX") {
                condition.without = true;
            } else if args.keyword("XX") {
                condition.with = true;
            } else if args.keyword("GT") {
                condition.later = true;
            } else if args.keyword("LT") {
                condition.sooner = true;
            } else {
                return Err(CommandError::quoting("Unsupported option ", word, ""));
            }
        }
        condition.checked()
    }

    fn checked(self) -> Taken<Condition> {
        if self.without && (self.with || self.later || self.sooner) {
            return Err(CommandError::fixed(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if self.later && self.sooner {
            return Err(CommandError::fixed(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(self)
    }

    fn allows(&self, current: Option<Millis>, at: Millis) -> bool {
        !(self.without && current.is_some()
            || self.with && current.is_none()
            || self.later && current.is_none_or(|current| at <= current)
            || self.sooner && current.is_some_and(|current| at >= current))
    }
}

fn persist(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let expires = view
        .lookup_for_write(key)
        .is_some_and(|entry| entry.expiry().is_some());
    if expires {
        view.set_expiry(key, None);
        view.notify(EventClass::GENERIC, "persist", key);
    }
    reply.integer(i64::from(expires));
    Ok(())
}

fn ttl(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    expiry_of(args, view, reply, |at| {
        rounded_seconds(at.since(view.now()))
    })
}

fn pttl(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    expiry_of(args, view, reply, |at| at.since(view.now()))
}

fn expiretime(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    expiry_of(args, view, reply, |at| rounded_seconds(at.0))
}

fn pexpiretime(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    expiry_of(args, view, reply, |at| at.0)
}

/// Writes a key's expiry as `shown`; -1 when it never expires, -2 when there is no key.
fn expiry_of(
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
    shown: impl Fn(Millis) -> i64,
) -> Done {
    let key = args.bytes()?;
    reply.integer(match view.lookup_untouched(key).map(Entry::expiry) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => shown(at),
    });
    Ok(())
}

/// Milliseconds as seconds, rounded to the nearest.
fn rounded_seconds(milliseconds: i64) -> i64 {
    milliseconds.saturating_add(500) / 1000
}

fn rename(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, new) = (args.bytes()?, args.bytes()?);
    view.lookup_for_write(key).ok_or(CommandError::NoSuchKey)?;
    if key != new {
        give_name(view, key, new);
    }
    reply.ok();
    Ok(())
}

/// 0 when the new name is taken; its own name always is.
fn renamenx(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, new) = (args.bytes()?, args.bytes()?);
    view.lookup_for_write(key).ok_or(CommandError::NoSuchKey)?;
    let free = key != new && view.lookup_for_write(new).is_none();
    if free {
        give_name(view, key, new);
    }
    reply.integer(i64::from(free));
    Ok(())
}

/// Moves a key that is there to another name, with its expiry and access clock, over whatever had that name.
fn give_name(view: &mut View<'_>, key: &[u8], new: &[u8]) {
    as_one_change(view, |view| {
        let entry = view.take(key);
        view.remove(new);
        if let Some(entry) = entry {
            view.put(new, entry);
        }
    });
    view.notify(EventClass::GENERIC, "rename_from", key);
    view.notify(EventClass::GENERIC, "rename_to", new);
}

/// Does what takes several steps but counts as one change.
fn as_one_change(view: &mut View<'_>, work: impl FnOnce(&mut View<'_>)) {
    let before = view.effects.dirty;
    work(view);
    view.effects.dirty = before + 1;
}

/// The database that MOVE goes to, to be locked with the client's own.
fn move_database(request: &Arguments<'_>) -> Result<Option<usize>, CommandError> {
    Ok(request.get(2).and_then(number_of_database))
}

fn r#move(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, database) = (args.bytes()?, existing_database(args.bytes()?, view)?);
    if database == view.database() {
        return Err(CommandError::SameObject);
    }
    let free = view.lookup_for_write(key).is_some()
        && view.within(database, |view| view.lookup_for_write(key).is_none());
    if free {
        as_one_change(view, |view| {
            if let Some(entry) = view.take(key) {
                view.within(database, |view| view.put(key, entry));
            }
        });
        view.notify(EventClass::GENERIC, "move_from", key);
        view.within(database, |view| {
            view.notify(EventClass::GENERIC, "move_to", key)
        });
    }
    reply.integer(i64::from(free));
    Ok(())
}

/// The database that COPY goes to, to be locked with the client's own. The handler finds what is wrong with the options;
/// what matters here is that it gets the database it will work in.
fn copy_database(request: &Arguments<'_>) -> Result<Option<usize>, CommandError> {
    let mut args = Args::new(*request, 3);
    let mut database = None;
    while let Ok(option) = CopyOption::take(&mut args) {
        match option {
            None => break,
            Some(CopyOption::Database(number)) => database = number_of_database(number),
            Some(CopyOption::Replace) => {}
        }
    }
    Ok(database)
}

enum CopyOption<'a> {
    Replace,
    /// As the client wrote it.
    Database(&'a [u8]),
}

impl<'a> CopyOption<'a> {
    /// The next option, `None` after the last one.
    fn take(args: &mut Args<'a>) -> Taken<Option<CopyOption<'a>>> {
        if args.is_empty() {
            return Ok(None);
        }
        if args.keyword("REPLACE") {
            return Ok(Some(CopyOption::Replace));
        }
        if args.keyword("DB") {
            return Ok(Some(CopyOption::Database(args.bytes()?)));
        }
        Err(CommandError::Syntax)
    }
}

fn copy(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, new) = (args.bytes()?, args.bytes()?);
    let (mut replace, mut database) = (false, view.database());
    while let Some(option) = CopyOption::take(args)? {
        match option {
            CopyOption::Replace => replace = true,
            CopyOption::Database(number) => database = existing_database(number, view)?,
        }
    }
    if database == view.database() && key == new {
        return Err(CommandError::SameObject);
    }
    let copied = copy_to(view, key, database, new, replace);
    reply.integer(i64::from(copied));
    Ok(())
}

/// Copies a key over a key of a database. `false` when there is nothing to copy, or the other is there and may not go.
fn copy_to(view: &mut View<'_>, key: &[u8], database: u32, new: &[u8], replace: bool) -> bool {
    let (now, rules) = (view.now(), view.rules());
    let Some(entry) = view.lookup(key) else {
        return false;
    };
    let fresh = entry.copied(new, entry.expiry());
    fresh.set_access(rules.first_access(now));
    view.within(database, |view| {
        if !replace && view.lookup_for_write(new).is_some() {
            return false;
        }
        as_one_change(view, |view| {
            view.remove(new);
            view.put(new, fresh);
        });
        view.notify(EventClass::GENERIC, "copy_to", new);
        true
    })
}

/// The number of a database that may be locked: not beyond what a client can name at all.
fn number_of_database(number: &[u8]) -> Option<usize> {
    i32::try_from(number::parse_i64(number)?)
        .ok()?
        .try_into()
        .ok()
}

/// The database that a client names, which must be there.
fn existing_database(number: &[u8], view: &View<'_>) -> Taken<u32> {
    let number = number::parse_i64(number).ok_or(CommandError::NotInteger)?;
    if i32::try_from(number).is_err() {
        let text = "ERR value is out of range, value must between -2147483648 and 2147483647";
        return Err(CommandError::fixed(text));
    }
    let exists = (0..view.database_count() as i64).contains(&number);
    if exists {
        Ok(number as u32)
    } else {
        Err(CommandError::DatabaseOutOfRange)
    }
}

fn object_encoding(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    match view.lookup_quietly(key) {
        Some(entry) => reply.bulk(encoding_name(entry).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

/// The encoding that Redis would report.
pub fn encoding_name(entry: &Entry) -> &'static str {
    if let Some(name) = entry.value().encoding() {
        return name;
    }
    let bytes = entry.bytes();
    if entry.is_raw() || bytes.len() > EMBEDDED_MAX {
        "raw"
    } else if number::parse_i64(bytes).is_some() {
        "int"
    } else {
        "embstr"
    }
}

/// The longest string that Redis keeps in one allocation with its header.
const EMBEDDED_MAX: usize = 44;

fn object_freq(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let Some(entry) = view.lookup_quietly(key) else {
        reply.null();
        return Ok(());
    };
    if !view.rules().policy.is_lfu() {
        return Err(CommandError::fixed(NOT_LFU));
    }
    reply.integer(i64::from(
        view.rules().frequency(entry.access(), view.now()),
    ));
    Ok(())
}

fn object_idletime(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let Some(entry) = view.lookup_quietly(key) else {
        reply.null();
        return Ok(());
    };
    if view.rules().policy.is_lfu() {
        return Err(CommandError::fixed(NOT_LRU));
    }
    reply.integer((view.rules().idle_ms(entry.access(), view.now()) / 1000) as i64);
    Ok(())
}

const NOT_LFU: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
     switching between policies at runtime LRU and LFU data will take some time to adjust.";
const NOT_LRU: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
     between policies at runtime LRU and LFU data will take some time to adjust.";

/// Always 1: a value belongs to one key here (Redis reports 2147483647 for the small integers it shares).
fn object_refcount(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    match view.lookup_quietly(key) {
        Some(_) => reply.integer(1),
        None => reply.null(),
    }
    Ok(())
}

/// What the key's entry takes from the allocator, its value included; its place in the table (about 14 bytes) is not its
/// own. SAMPLES is for values that hold others.
fn memory_usage(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    while !args.is_empty() {
        if !args.keyword("SAMPLES") || args.is_empty() || args.integer()? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    match view.peek(key) {
        None => reply.null(),
        Some(entry) => reply.integer(entry.allocated_bytes() as i64),
    }
    Ok(())
}

fn object_help(_args: &mut Args<'_>, _view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    reply.array(OBJECT_HELP.len());
    OBJECT_HELP.iter().for_each(|line| reply.simple(line));
    Ok(())
}

const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Name how the value at <key> is kept.",
    "FREQ <key>",
    "    Show the access counter of <key>, which grows with the logarithm of its uses",
    "    (LFU policies only).",
    "IDLETIME <key>",
    "    Show for how many seconds <key> was not used (not with LFU policies).",
    "REFCOUNT <key>",
    "    Show how many references there are to the value at <key>.",
    "HELP",
    "    Print this help.",
];

#[cfg(test)]
mod tests;
