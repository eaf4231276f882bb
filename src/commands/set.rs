//! Sets: texts without order or repetition.
//!
//! What large sets are read for (SMEMBERS, SINTER, ..) is done after release, on snapshots that share the parts of their
//! tables: a client that changes such a set meanwhile copies the parts it changes, and nobody waits. The *STORE commands are
//! one instant; they hold their keys, and give the worker's other connections away.
//!
//! A command on several sets looks at the types of all of them before it does anything, wherever they lie.

use super::scan::{self, Options};
use super::{BULK_BYTES, COUNT_OUT_OF_RANGE, LATER_ELEMENTS, LOWEST_COUNT};
use super::{Done, Handler};
use crate::base::hash::KeyHasher;
use crate::base::rng::Rng;
use crate::data::number;
use crate::data::packed::Item;
use crate::data::set::{Algebra, Operation, Set, SetLimits, SetRef};
use crate::data::value::{Value, ValueRef};
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::{EventClass, Interest};
use crate::keyspace::view::{Ttl, View};
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope};

/// Members of one record: one of a million would be a single allocation for every follower.
const RECORD_MEMBERS: usize = 1_024;
/// The longest reply that a negative count may ask for, in bytes. Redis has no limit but its memory.
const REPEATED_BYTES: u64 = 512 * 1024 * 1024;

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "sadd",
            family: Family::Set,
            since: "1.0.0",
            summary: "Adds members to a set, which is created when it is missing.",
            complexity: "O(N) in the number of members given",
            usage: "key member [member ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            member: 2,
            scope: Scope::Keys,
            history: &[("2.4.0", "Takes more than one member.")],
            ..Command::NEW
        },
        Handler::Write(sadd),
    ),
    Row::new(
        Command {
            name: "scard",
            family: Family::Set,
            since: "1.0.0",
            summary: "Counts the members of a set.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(scard),
    ),
    Row::new(
        Command {
            name: "sdiff",
            family: Family::Set,
            since: "1.0.0",
            summary: "Returns what is in the first set and in none of the others.",
            complexity: "O(N*M), N the members of the first set, M the number of sets",
            usage: "key [key ...]",
            flags: Flags::READONLY,
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        },
        Handler::Read(sdiff),
    ),
    Row::new(
        Command {
            name: "sdiffstore",
            family: Family::Set,
            since: "1.0.0",
            summary: "Stores what is in the first set and in none of the others.",
            complexity: "O(N*M), N the members of the first set, M the number of sets",
            usage: "destination:key key [key ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::OW_UPDATE),
                KeySpec::range(2, -1, 1, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(sdiffstore),
    ),
    Row::new(
        Command {
            name: "sinter",
            family: Family::Set,
            since: "1.0.0",
            summary: "Returns what is in all of the sets.",
            complexity: "O(N*M), N the members of the smallest set, M the number of sets",
            usage: "key [key ...]",
            flags: Flags::READONLY,
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        },
        Handler::Read(sinter),
    ),
    Row::new(
        Command {
            name: "sintercard",
            family: Family::Set,
            since: "7.0.0",
            summary: "Counts what is in all of the sets.",
            complexity: "O(N*M), N the members of the smallest set, M the number of sets",
            usage: "numkeys:int key [key ...] [LIMIT limit:int]",
            flags: Flags::READONLY,
            keys: &[KeySpec::counted(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(sintercard),
    ),
    Row::new(
        Command {
            name: "sinterstore",
            family: Family::Set,
            since: "1.0.0",
            summary: "Stores what is in all of the sets.",
            complexity: "O(N*M), N the members of the smallest set, M the number of sets",
            usage: "destination:key key [key ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_UPDATE),
                KeySpec::range(2, -1, 1, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(sinterstore),
    ),
    Row::new(
        Command {
            name: "sismember",
            family: Family::Set,
            since: "1.0.0",
            summary: "Tells whether a set has a member.",
            complexity: "O(1)",
            usage: "key member",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            member: 2,
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(sismember),
    ),
    Row::new(
        Command {
            name: "smembers",
            family: Family::Set,
            since: "1.0.0",
            summary: "Returns the members of a set.",
            complexity: "O(N) in the number of members",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        },
        Handler::Read(smembers),
    ),
    Row::new(
        Command {
            name: "smismember",
            family: Family::Set,
            since: "6.2.0",
            summary: "Tells for each of several texts whether a set has it.",
            complexity: "O(N) in the number of texts",
            usage: "key member [member ...]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(smismember),
    ),
    Row::new(
        Command {
            name: "smove",
            family: Family::Set,
            since: "1.0.0",
            summary: "Moves a member from one set to another.",
            complexity: "O(1)",
            usage: "source:key destination:key member",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE),
                KeySpec::one(2, KeyAccess::RW_INSERT),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(smove),
    ),
    Row::new(
        Command {
            name: "spop",
            family: Family::Set,
            since: "1.0.0",
            summary: "Takes members chosen by chance out of a set.",
            complexity: "O(N) in the number of members taken",
            usage: "key [count:int@3.2.0]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[("3.2.0", "Takes a count.")],
            ..Command::NEW
        },
        Handler::Write(spop),
    ),
    Row::new(
        Command {
            name: "srandmember",
            family: Family::Set,
            since: "1.0.0",
            summary: "Returns members of a set chosen by chance.",
            complexity: "O(N) in the number of members returned",
            usage: "key [count:int@2.6.0]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[("2.6.0", "Takes a count.")],
            ..Command::NEW
        },
        Handler::Read(srandmember),
    ),
    Row::new(
        Command {
            name: "srem",
            family: Family::Set,
            since: "1.0.0",
            summary: "Removes members from a set, and the key with the last of them.",
            complexity: "O(N) in the number of members given",
            usage: "key member [member ...]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            member: 2,
            scope: Scope::Keys,
            history: &[("2.4.0", "Takes more than one member.")],
            ..Command::NEW
        },
        Handler::Write(srem),
    ),
    Row::new(
        Command {
            name: "sscan",
            family: Family::Set,
            since: "2.8.0",
            summary: "Goes through the members of a set, some at each call.",
            complexity: "O(COUNT) per call, O(N) for all",
            usage: "key cursor:int [MATCH pattern:pattern] [COUNT count:int]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(sscan),
    ),
    Row::new(
        Command {
            name: "sunion",
            family: Family::Set,
            since: "1.0.0",
            summary: "Returns what is in any of the sets.",
            complexity: "O(N) in the number of members of all sets",
            usage: "key [key ...]",
            flags: Flags::READONLY,
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        },
        Handler::Read(sunion),
    ),
    Row::new(
        Command {
            name: "sunionstore",
            family: Family::Set,
            since: "1.0.0",
            summary: "Stores what is in any of the sets.",
            complexity: "O(N) in the number of members of all sets",
            usage: "destination:key key [key ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::OW_UPDATE),
                KeySpec::range(2, -1, 1, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(sunionstore),
    ),
];

/// The number of members that were not there.
fn sadd(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (limits, hasher) = (view.rules().set, view.hasher());
    let expected = args.remaining();
    let first = Item::new(args.peek().ok_or(CommandError::Syntax)?);
    let added = view.edit_set(key, Missing::Create, |set| {
        prepare(set, first, expected, &limits, hasher);
        args.rest()
            .filter(|member| set.add(Item::new(member), &limits, hasher))
            .count()
    })?;
    let added = added.unwrap_or(0);
    if added > 0 {
        view.effects.dirty += added as u64;
        view.notify(EventClass::SET, "sadd", key);
    }
    reply.integer(added as i64);
    Ok(())
}

/// Chooses an encoding for what is about to come, as Redis does: before it is known whether all of it is new.
fn prepare(
    set: &mut Set,
    first: Item<'_>,
    expected: usize,
    limits: &SetLimits,
    hasher: &KeyHasher,
) {
    if set.is_empty() {
        *set = Set::expecting(first, expected, limits);
    } else {
        set.expect_more(expected, limits, hasher);
    }
}

/// The number of members that were there.
fn srem(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let hasher = view.hasher();
    let removed = view.edit_set(key, Missing::Skip, |set| {
        args.rest()
            .filter(|member| set.remove(Item::new(member), hasher))
            .count()
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        view.effects.dirty += removed as u64;
        view.notify(EventClass::SET, "srem", key);
    }
    reply.integer(removed as i64);
    Ok(())
}

/// 1 when the member was moved; 0 when the source does not have it. Without a source the type of the destination is of no
/// interest.
fn smove(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (source, destination) = (args.bytes()?, args.bytes()?);
    let member = Item::new(args.bytes()?);
    let (limits, hasher) = (view.rules().set, view.hasher());
    let Some(set) = view.set_for_write(source)? else {
        reply.integer(0);
        return Ok(());
    };
    let is_there = set.contains(member, hasher);
    let is_known = contains(view.set_for_write(destination)?, member, hasher);
    if is_there && source != destination {
        view.edit_set(source, Missing::Skip, |set| set.remove(member, hasher))?;
        view.effects.dirty += 1;
        view.notify(EventClass::SET, "srem", source);
        view.remove_emptied(source);
        // What has the member already is not changed, and those who watch it are not told.
        if !is_known {
            view.edit_set(destination, Missing::Create, |set| {
                prepare(set, member, 1, &limits, hasher);
                set.add(member, &limits, hasher)
            })?;
            view.effects.dirty += 1;
            view.notify(EventClass::SET, "sadd", destination);
        }
    }
    reply.integer(i64::from(is_there));
    Ok(())
}

fn scard(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let set = view.set_members(args.bytes()?)?;
    reply.integer(set.map_or(0, SetRef::len) as i64);
    Ok(())
}

fn sismember(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let set = view.set_members(args.bytes()?)?;
    let member = Item::new(args.bytes()?);
    reply.integer(i64::from(contains(set, member, view.hasher())));
    Ok(())
}

fn smismember(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let set = view.set_members(args.bytes()?)?;
    reply.array(args.remaining());
    for member in args.rest().map(Item::new) {
        reply.integer(i64::from(contains(set, member, view.hasher())));
    }
    Ok(())
}

fn contains(set: Option<SetRef<'_>>, member: Item<'_>, hasher: &KeyHasher) -> bool {
    set.is_some_and(|set| set.contains(member, hasher))
}

fn smembers(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    match view.set_members(args.bytes()?)? {
        Some(set) => read(view, set.len(), vec![set], reply, |sets, _, reply| {
            reply_set(sets[0], reply);
        }),
        None => reply.set(0),
    }
    Ok(())
}

/// A member chosen by chance, or several: different ones for a positive count, any for a negative one.
fn srandmember(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    if args.is_empty() {
        let set = view.set_members(key)?;
        match set.and_then(|set| set.random(view.rng())) {
            Some(member) => reply.item(member),
            None => reply.null(),
        }
        return Ok(());
    }
    if args.remaining() > 1 {
        return Err(CommandError::Syntax);
    }
    let count = args.integer()?;
    if count == i64::MIN {
        return Err(LOWEST_COUNT);
    }
    let Some(set) = view.set_members(key)?.filter(|_| count != 0) else {
        reply.array(0);
        return Ok(());
    };
    let drawn = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count > 0 {
        let rng = Rng::seeded(view.rng().bits());
        let drawn = drawn.min(set.len());
        read(view, drawn, vec![set], reply, move |sets, _, reply| {
            reply.array(drawn);
            sets[0].sample(drawn, &rng, |member| reply.item(member));
        });
        return Ok(());
    }
    check_repeated(set, count.unsigned_abs())?;
    let rng = Rng::seeded(view.rng().bits());
    read(view, drawn, vec![set], reply, move |sets, _, reply| {
        reply.array(drawn);
        for member in (0..drawn).filter_map(|_| sets[0].random(&rng)) {
            reply.item(member);
        }
    });
    Ok(())
}

/// Refuses a number of draws whose reply would be too long: Redis would write it until memory ends.
fn check_repeated(set: SetRef<'_>, count: u64) -> Result<(), CommandError> {
    let bytes = match set {
        SetRef::Table(table) => table.allocated_bytes(),
        small => small.iter().map(Item::text_len).sum(),
    };
    let average = bytes as u64 / set.len().max(1) as u64;
    let is_allowed = count.saturating_mul(average + BULK_BYTES as u64) <= REPEATED_BYTES;
    is_allowed.then_some(()).ok_or(COUNT_OUT_OF_RANGE)
}

/// One member, or up to `count` of them, which are then no longer in the set.
fn spop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let Some(count) = args.peek() else {
        return pop_one(key, view, reply);
    };
    if args.remaining() > 1 {
        return Err(CommandError::Syntax);
    }
    let count = number::parse_i64(count)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(CommandError::NotPositive)?;
    let length = view.set_for_write(key)?.map_or(0, SetRef::len);
    if count == 0 || length == 0 {
        reply.set(0);
    } else if count < length {
        view.heavy(count, |view| pop_some(key, count, view, reply))?;
    } else {
        pop_all(key, length, view, reply);
    }
    Ok(())
}

fn pop_one(key: &[u8], view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (rng, hasher) = (view.rng(), view.hasher());
    let mut popped = None;
    view.edit_set(key, Missing::Skip, |set| {
        set.pop(rng, hasher, |member| popped = Some(member.to_vec()))
    })?;
    match popped {
        Some(member) => {
            view.effects.dirty += 1;
            view.notify(EventClass::SET, "spop", key);
            view.propagate(&[b"SREM", key, &member]);
            reply.bulk(&member);
        }
        None => reply.null(),
    }
    Ok(())
}

/// Takes out fewer members than there are.
fn pop_some(key: &[u8], count: usize, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (rng, hasher) = (view.rng(), view.hasher());
    let is_followed = view.effects.wants(Interest::JOURNAL);
    let mut popped = Vec::new();
    view.edit_set(key, Missing::Skip, |set| {
        reply.set(count);
        set.pop_many(count, rng, hasher, |member| {
            reply.item(member);
            if is_followed {
                popped.push(member.to_vec());
            }
        });
    })?;
    view.effects.dirty += count as u64;
    view.notify(EventClass::SET, "spop", key);
    for members in popped.chunks(RECORD_MEMBERS) {
        let mut record: Vec<&[u8]> = vec![b"SREM", key];
        record.extend(members.iter().map(Vec::as_slice));
        view.propagate(&record);
    }
    Ok(())
}

/// Takes out all members: the key itself, which is read after release when it is large.
fn pop_all(key: &[u8], length: usize, view: &mut View<'_>, reply: &mut Reply<'_>) {
    view.notify(EventClass::SET, "spop", key);
    let Some(entry) = view.take(key) else { return };
    // The removal counted one change.
    view.effects.dirty += length as u64 - 1;
    view.notify(EventClass::GENERIC, "del", key);
    view.propagate(&[b"DEL", key]);
    let write = move |reply: &mut Reply<'_>| match entry.value() {
        ValueRef::Set(set) => reply_set(set, reply),
        _ => reply.set(0),
    };
    if length < LATER_ELEMENTS {
        write(reply);
    } else {
        view.after_release(Box::new(write));
    }
}

fn sinter(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    combine(Operation::Intersection, args, view, reply)
}

fn sunion(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    combine(Operation::Union, args, view, reply)
}

fn sdiff(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    combine(Operation::Difference, args, view, reply)
}

fn combine(
    operation: Operation,
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let sets = sets_of(operation, view, args.rest())?;
    let members = operation.work(&sets);
    read(view, members, sets, reply, move |sets, hasher, reply| {
        let begun = reply.deferred();
        let mut count = 0;
        if !sets.is_empty() {
            operation.visit(sets, hasher, |member| {
                reply.item(member);
                count += 1;
            });
        }
        reply.set_set(begun, count);
    });
    Ok(())
}

/// The number of members of the intersection, or the limit when there are more.
fn sintercard(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let numkeys = number::parse_i64(args.bytes()?)
        .and_then(|numkeys| usize::try_from(numkeys).ok())
        .filter(|numkeys| *numkeys > 0)
        .ok_or(CommandError::fixed("ERR numkeys should be greater than 0"))?;
    if numkeys > args.remaining() {
        return Err(CommandError::fixed(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let keys = args.rest().take(numkeys);
    for _ in 0..numkeys {
        args.bytes()?;
    }
    let limit = take_limit(args)?;
    let sets = sets_of(Operation::Intersection, view, keys)?;
    let members = Operation::Intersection.work(&sets);
    read(view, members, sets, reply, move |sets, hasher, reply| {
        reply.integer(count_common(sets, limit, hasher) as i64);
    });
    Ok(())
}

/// `[LIMIT limit]`, as often as a client likes; 0 is none.
fn take_limit(args: &mut Args<'_>) -> Taken<usize> {
    let mut limit = 0;
    while !args.is_empty() {
        if !args.keyword("LIMIT") {
            return Err(CommandError::Syntax);
        }
        limit = number::parse_i64(args.bytes()?)
            .and_then(|limit| usize::try_from(limit).ok())
            .ok_or(CommandError::fixed("ERR LIMIT can't be negative"))?;
    }
    Ok(if limit == 0 { usize::MAX } else { limit })
}

fn count_common(sets: &[SetRef<'_>], limit: usize, hasher: &KeyHasher) -> usize {
    if sets.is_empty() {
        return 0;
    }
    let mut algebra = Algebra::new(Operation::Intersection, sets.to_vec());
    let mut count = 0;
    while count < limit && !algebra.step(limit - count, hasher, |_| count += 1) {}
    count
}

fn sinterstore(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    store(Operation::Intersection, "sinterstore", args, view, reply)
}

fn sunionstore(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    store(Operation::Union, "sunionstore", args, view, reply)
}

fn sdiffstore(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    store(Operation::Difference, "sdiffstore", args, view, reply)
}

/// Puts the result of an operation in the place of whatever the destination holds, and replies with its length; without a
/// result the destination is removed.
fn store(
    operation: Operation,
    event: &'static str,
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let destination = args.bytes()?;
    let (limits, hasher) = (view.rules().set, view.hasher());
    let sets = sets_of(operation, view, args.rest())?;
    let result = view.heavy_read(operation.work(&sets), || {
        if sets.is_empty() {
            Set::new()
        } else {
            operation.result(&sets, &limits, hasher)
        }
    });
    let length = result.len();
    let was_there = view.peek(destination).is_some();
    if view.store(destination, Value::Set(result), Ttl::Clear) {
        view.notify(EventClass::SET, event, destination);
    } else if was_there {
        view.notify(EventClass::GENERIC, "del", destination);
    }
    reply.integer(length as i64);
    Ok(())
}

/// A missing key ends the reading of the arguments, as in Redis.
fn sscan(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let cursor = scan::cursor(args)?;
    let Some(set) = view.set_members(key)? else {
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let options = Options::parse(args)?;
    let members = options.limit().min(set.len());
    read(view, members, vec![set], reply, move |sets, _, reply| {
        let mut found = Vec::new();
        let next = sets[0].scan(cursor, options.limit(), |member| {
            let text = &mut itoa::Buffer::new();
            if options.pattern.matches(member.text(text)) {
                found.push(member);
            }
        });
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        reply.array(found.len());
        for member in found {
            reply.item(member);
        }
    });
    Ok(())
}

/// The sets of several keys, all of which must be sets. A missing key is an empty set; where it makes the result empty, the
/// list is.
fn sets_of<'v, 'a>(
    operation: Operation,
    view: &'v View<'_>,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<SetRef<'v>>, CommandError> {
    let mut sets = Vec::with_capacity(keys.size_hint().0);
    let mut is_empty = false;
    for (index, key) in keys.enumerate() {
        match view.set_members(key)? {
            Some(set) => sets.push(set),
            None => {
                is_empty |= operation == Operation::Intersection
                    || operation == Operation::Difference && index == 0;
            }
        }
    }
    if is_empty {
        sets.clear();
    }
    Ok(sets)
}

/// Reads about so many members of sets and writes the reply: at once, or after release when they are many.
fn read(
    view: &View<'_>,
    members: usize,
    sets: Vec<SetRef<'_>>,
    reply: &mut Reply<'_>,
    work: impl FnOnce(&[SetRef<'_>], &KeyHasher, &mut Reply<'_>) + Send + 'static,
) {
    if members < LATER_ELEMENTS {
        return work(&sets, view.hasher(), reply);
    }
    let sets: Vec<Set> = sets.into_iter().map(SetRef::snapshot).collect();
    let hasher = view.hasher().clone();
    view.after_release(Box::new(move |reply| {
        let sets: Vec<SetRef<'_>> = sets.iter().map(Set::view).collect();
        work(&sets, &hasher, reply);
    }));
}

fn reply_set(set: SetRef<'_>, reply: &mut Reply<'_>) {
    reply.set(set.len());
    for member in set {
        reply.item(member);
    }
}

#[cfg(test)]
mod tests;
