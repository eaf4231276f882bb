//! Members taken from either end: ZPOPMIN and its kin, with waiting for members to come.
//!
//! What followers are told is ZPOPMIN or ZPOPMAX of the key that was found, whatever the client sent.

use crate::commands::{Done, timeout};
use crate::data::number;
use crate::data::value::Type;
use crate::data::zset::Extreme;
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::Garbage;
use crate::keyspace::view::View;
use crate::keyspace::waiting::{Nothing, Outcome, Wait};
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::{Protocol, Reply};
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// What is taken.
#[derive(Clone, Copy)]
struct Wanted {
    end: Extreme,
    count: usize,
}

impl Wanted {
    fn one(end: Extreme) -> Wanted {
        Wanted { end, count: 1 }
    }

    /// The command that takes it, and its event.
    fn names(self) -> (&'static [u8], &'static str) {
        match self.end {
            Extreme::Min => (b"ZPOPMIN", "zpopmin"),
            Extreme::Max => (b"ZPOPMAX", "zpopmax"),
        }
    }
}

/// How what was taken is shown.
#[derive(Clone, Copy)]
enum Layout {
    /// Members and scores in one array.
    Flat,
    /// Pairs.
    Nested,
    /// The key, the member, the score.
    WithKey,
    /// The key, and pairs.
    NestedWithKey,
}

impl Layout {
    fn begin(self, key: &[u8], count: usize, reply: &mut Reply<'_>) {
        match self {
            Layout::Flat => reply.array(count * 2),
            Layout::Nested => reply.array(count),
            Layout::WithKey => {
                reply.array(count * 2 + 1);
                reply.bulk(key);
            }
            Layout::NestedWithKey => {
                reply.array(2);
                reply.bulk(key);
                reply.array(count);
            }
        }
    }

    fn pairs(self) -> bool {
        matches!(self, Layout::Nested | Layout::NestedWithKey)
    }
}

/// Takes members of a set, replies with them, and reports. How many they were; `None` when there is no such key.
fn take(
    key: &[u8],
    wanted: Wanted,
    layout: Layout,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Taken<Option<usize>> {
    let taken = view.heavy(wanted.count, |view| {
        view.edit_zset(key, Missing::Skip, |set| {
            let count = wanted.count.min(set.len());
            layout.begin(key, count, reply);
            let remains = set.pop(wanted.end, count, |member, score| {
                if layout.pairs() {
                    reply.array(2);
                }
                reply.item(member);
                reply.double(score);
            });
            (count, remains)
        })
    })?;
    let Some((count, remains)) = taken else {
        return Ok(None);
    };
    view.effects.discard(remains.map(Garbage::Remains));
    view.effects.dirty += count as u64;
    view.notify(EventClass::ZSET, wanted.names().1, key);
    Ok(Some(count))
}

/// The first key that has members; keys of another type before it are refused.
fn first_with_members<'k>(
    keys: impl Iterator<Item = &'k [u8]>,
    view: &View<'_>,
) -> Taken<Option<&'k [u8]>> {
    for key in keys {
        if view.zset_for_write(key)?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

pub(super) fn zpopmin(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    pop(args, view, reply, Extreme::Min)
}

pub(super) fn zpopmax(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    pop(args, view, reply, Extreme::Max)
}

fn pop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>, end: Extreme) -> Done {
    let key = args.bytes()?;
    if args.remaining() > 1 {
        return Err(CommandError::Syntax);
    }
    let count = args.peek().map(not_negative).transpose()?;
    let layout = match count.is_some() && reply.protocol() == Protocol::Resp3 {
        true => Layout::Nested,
        false => Layout::Flat,
    };
    let taken = match count.unwrap_or(1) {
        0 => {
            // A key of another type is refused all the same.
            view.zset_for_write(key)?;
            None
        }
        count => take(key, Wanted { end, count }, layout, view, reply)?,
    };
    if taken.is_none() {
        reply.array(0);
    }
    Ok(())
}

fn not_negative(text: &[u8]) -> Taken<usize> {
    let number = number::parse_i64(text).and_then(|number| usize::try_from(number).ok());
    number.ok_or(CommandError::NotPositive)
}

/// What ZMPOP and BZMPOP have in common: `numkeys key .. MIN|MAX [COUNT count]`.
struct Several<'a> {
    keys: Vec<&'a [u8]>,
    wanted: Wanted,
}

impl<'a> Several<'a> {
    fn parse(args: &mut Args<'a>) -> Taken<Several<'a>> {
        let count = positive(args.bytes()?, "ERR numkeys should be greater than 0")?;
        if count >= args.remaining() {
            return Err(CommandError::Syntax);
        }
        let keys = args.rest().take(count).collect();
        for _ in 0..count {
            args.bytes()?;
        }
        let end = match () {
            () if args.keyword("MIN") => Extreme::Min,
            () if args.keyword("MAX") => Extreme::Max,
            () => return Err(CommandError::Syntax),
        };
        let mut wanted = Wanted::one(end);
        if args.remaining() > 1 && args.keyword("COUNT") {
            wanted.count = positive(args.bytes()?, "ERR count should be greater than 0")?;
        }
        args.end()?;
        Ok(Several { keys, wanted })
    }

    /// Takes from the first key that has members. Whether there was one.
    fn take(&self, view: &mut View<'_>, reply: &mut Reply<'_>) -> Taken<bool> {
        let Some(key) = first_with_members(self.keys.iter().copied(), view)? else {
            return Ok(false);
        };
        let taken = take(key, self.wanted, Layout::NestedWithKey, view, reply)?;
        if let Some(count) = taken {
            let (command, _) = self.wanted.names();
            let mut digits = itoa::Buffer::new();
            view.propagate(&[command, key, digits.format(count).as_bytes()]);
        }
        Ok(taken.is_some())
    }
}

fn positive(text: &[u8], refused: &'static str) -> Taken<usize> {
    let number = number::parse_i64(text).and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| *number > 0)
        .ok_or(CommandError::fixed(refused))
}

pub(super) fn zmpop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    if !Several::parse(args)?.take(view, reply)? {
        reply.null_array();
    }
    Ok(())
}

pub(super) fn bzmpop(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Taken<Outcome> {
    let timeout = args.bytes()?;
    let several = Several::parse(args)?;
    let until = timeout::until(timeout, view.now())?;
    if several.take(view, reply)? {
        return Ok(Outcome::Served);
    }
    let end: &[u8] = match several.wanted.end {
        Extreme::Min => b"MIN",
        Extreme::Max => b"MAX",
    };
    let mut count = itoa::Buffer::new();
    let count = count.format(several.wanted.count).as_bytes();
    let request = |key| vec![b"BZMPOP", &b"0"[..], b"1", key, end, b"COUNT", count];
    Ok(wait(several.keys.iter().copied(), until, request))
}

pub(super) fn bzpopmin(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Taken<Outcome> {
    pop_or_wait(args, view, reply, b"BZPOPMIN", Extreme::Min)
}

pub(super) fn bzpopmax(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Taken<Outcome> {
    pop_or_wait(args, view, reply, b"BZPOPMAX", Extreme::Max)
}

fn pop_or_wait(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
    command: &'static [u8],
    end: Extreme,
) -> Taken<Outcome> {
    let key_count = args.remaining().saturating_sub(1);
    let timeout = args.rest().last().unwrap_or_default();
    let until = timeout::until(timeout, view.now())?;
    let keys = || args.rest().take(key_count);
    let Some(key) = first_with_members(keys(), view)? else {
        return Ok(wait(keys(), until, |key| vec![command, key, b"0"]));
    };
    let wanted = Wanted::one(end);
    take(key, wanted, Layout::WithKey, view, reply)?;
    view.propagate(&[wanted.names().0, key]);
    Ok(Outcome::Served)
}

/// Waits for any of the keys to become a sorted set; `request` is what is run then.
fn wait<'a, 'r>(
    keys: impl Iterator<Item = &'a [u8]>,
    until: Option<crate::base::clock::Millis>,
    request: impl Fn(&'a [u8]) -> Vec<&'r [u8]>,
) -> Outcome
where
    'a: 'r,
{
    let narrowed = |key: &'a [u8]| {
        let request = OwnedArguments::from(request(key).as_slice());
        (key.to_vec(), request)
    };
    Outcome::Wait(Wait {
        keys: keys.map(narrowed).collect(),
        kind: Type::ZSet,
        until,
        nothing: Nothing::NullArray,
        is_reader: false,
        minds_removal: false,
    })
}
