//! What is pending in a group: XACK, XACKDEL, XPENDING, XCLAIM, XAUTOCLAIM.
//!
//! Followers are told of each entry that changed hands by an XCLAIM with the outcome: who holds it, since when, how often it
//! was delivered, and how far the group has read.

use super::entries::{note_deleted, policy_and_ids, write_ends, write_entry};
use super::parse;
use crate::commands::Done;
use crate::data::stream::{Group, Id, Number, Pending, Stream};
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// What followers are told of pending entries.
#[derive(Default)]
pub(super) struct Claims(Vec<(Vec<u8>, Pending)>);

impl Claims {
    /// Adds an entry as it is now.
    pub(super) fn note(&mut self, group: &Group, pending: Pending) {
        let consumer = group.consumer(pending.consumer).name().to_vec();
        self.0.push((consumer, pending));
    }

    /// Tells them.
    pub(super) fn propagate(self, view: &mut View<'_>, key: &[u8], group: &[u8]) {
        let stream = view.stream_for_write(key).ok().flatten();
        let last = stream.and_then(|stream| Some(stream.group(group)?.last_id));
        let last = last.unwrap_or_default().text();
        let (mut at, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
        for (consumer, pending) in self.0 {
            view.propagate(&[
                b"XCLAIM",
                key,
                group,
                &consumer,
                b"0",
                &pending.id.text(),
                b"TIME",
                at.format(pending.delivered_at).as_bytes(),
                b"RETRYCOUNT",
                count.format(pending.count).as_bytes(),
                b"FORCE",
                b"JUSTID",
                b"LASTID",
                &last,
            ]);
        }
    }
}

/// Tells followers how far a group has read.
pub(super) fn propagate_last_id(view: &mut View<'_>, key: &[u8], group: &[u8]) -> Done {
    let stream = view.stream_for_write(key)?;
    let Some(found) = stream.and_then(|stream| stream.group(group)) else {
        return Ok(());
    };
    let last = found.last_id.text();
    let mut digits = itoa::Buffer::new();
    let read = match found.entries_read {
        Some(read) => digits.format(read),
        None => "-1",
    };
    let command = [
        &b"XGROUP"[..],
        b"SETID",
        key,
        group,
        &last,
        b"ENTRIESREAD",
        read.as_bytes(),
    ];
    view.propagate(&command);
    Ok(())
}

pub(super) fn xack(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, group) = (args.bytes()?, args.bytes()?);
    if view
        .stream(key)?
        .and_then(|stream| stream.group(group))
        .is_none()
    {
        reply.integer(0);
        return Ok(());
    }
    let ids = parse::ids(args)?;
    let acknowledged = view.edit_stream(key, Missing::Skip, |stream| {
        stream.edit_group(group, |group| {
            ids.into_iter().filter(|id| group.acknowledge(*id)).count()
        })
    })?;
    let acknowledged = acknowledged.flatten().unwrap_or(0);
    view.effects.dirty += acknowledged as u64;
    reply.integer(acknowledged as i64);
    Ok(())
}

pub(super) fn xackdel(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, group) = (args.bytes()?, args.bytes()?);
    let (references, ids) = policy_and_ids(args)?;
    let (mut acknowledged, mut deleted) = (0, 0);
    let ends = view.edit_stream(key, Missing::Skip, |stream| {
        let mut end = |id: Id| {
            if stream.edit_group(group, |group| group.acknowledge(id)) != Some(true) {
                return None;
            }
            acknowledged += 1;
            // What was removed before is as good as removed now.
            let end = stream.delete_referenced(id, references);
            deleted += usize::from(end == Some(true));
            Some(end.unwrap_or(true))
        };
        ids.iter().map(|id| end(*id)).collect::<Vec<_>>()
    })?;
    let ends = ends.unwrap_or_else(|| vec![None; ids.len()]);
    view.effects.dirty += acknowledged;
    note_deleted(view, key, deleted);
    write_ends(&ends, reply);
    Ok(())
}

/// What XPENDING lists.
struct Filter<'a> {
    min_idle: i64,
    start: Id,
    end: Id,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    /// `None` when a summary was asked for.
    fn parse(args: &mut Args<'a>) -> Taken<Option<Filter<'a>>> {
        let words = args.remaining();
        if words == 0 {
            return Ok(None);
        }
        if !(3..=6).contains(&words) {
            return Err(CommandError::Syntax);
        }
        let mut min_idle = 0;
        if args.keyword("idle") {
            min_idle = args.integer()?;
            if args.remaining() < 3 {
                return Err(CommandError::Syntax);
            }
        }
        // Of several that are wrong Redis refuses the count first.
        let (start, end) = (args.bytes()?, args.bytes()?);
        let count = usize::try_from(args.integer()?).unwrap_or(0);
        let filter = Filter {
            min_idle,
            start: parse::start(start)?,
            end: parse::end(end)?,
            count,
            consumer: args.bytes().ok(),
        };
        // Redis reads no further.
        Ok(Some(filter))
    }
}

pub(super) fn xpending(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, name) = (args.bytes()?, args.bytes()?);
    let filter = Filter::parse(args)?;
    let group = view.stream(key)?.and_then(|stream| stream.group(name));
    let Some(group) = group else {
        return Err(parse::no_key_or_group(key, name));
    };
    match filter {
        None => write_summary(group, reply),
        Some(filter) => {
            let most = filter.count.min(group.pending().len());
            view.heavy_read(most, || write_pending(group, &filter, view.now().0, reply));
        }
    }
    Ok(())
}

fn write_summary(group: &Group, reply: &mut Reply<'_>) {
    reply.array(4);
    let pending = group.pending();
    reply.integer(pending.len() as i64);
    let (Some(first), Some(last)) = (pending.first(), pending.last()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply.bulk(&first.id.text());
    reply.bulk(&last.id.text());
    let begun = reply.deferred();
    let mut count = 0;
    for consumer in group
        .consumers()
        .filter(|consumer| !consumer.pending().is_empty())
    {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.integer_bulk(consumer.pending().len() as i64);
        count += 1;
    }
    reply.set_array(begun, count);
}

fn write_pending(group: &Group, filter: &Filter<'_>, now: i64, reply: &mut Reply<'_>) {
    let held: Box<dyn Iterator<Item = &Pending>> = match filter.consumer {
        None => Box::new(group.pending().range(filter.start)),
        Some(name) => {
            let ids = group
                .find(name)
                .map(|number| group.consumer(number).pending());
            let ids = ids.into_iter().flat_map(|ids| ids.range(filter.start));
            Box::new(ids.filter_map(|id| group.pending().get(*id)))
        }
    };
    let idle = |pending: &Pending| now.saturating_sub(pending.delivered_at);
    let chosen = held
        .take_while(|pending| pending.id <= filter.end)
        .filter(|pending| filter.min_idle == 0 || idle(pending) >= filter.min_idle)
        .take(filter.count);
    let begun = reply.deferred();
    let mut count = 0;
    for pending in chosen {
        count += 1;
        reply.array(4);
        reply.bulk(&pending.id.text());
        reply.bulk(group.consumer(pending.consumer).name());
        reply.integer(idle(pending).max(0));
        reply.integer(pending.count as i64);
    }
    reply.set_array(begun, count);
}

/// The options of XCLAIM.
#[derive(Default)]
struct ClaimOptions {
    delivered_at: Option<i64>,
    count: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: Id,
}

impl ClaimOptions {
    fn parse(args: &mut Args<'_>, now: i64) -> Taken<ClaimOptions> {
        let mut options = ClaimOptions::default();
        while !args.is_empty() {
            let more = args.remaining() > 1;
            if args.keyword("force") {
                options.force = true;
            } else if args.keyword("justid") {
                options.just_id = true;
            } else if more && args.keyword("idle") {
                let idle = integer(args, "ERR Invalid IDLE option argument for XCLAIM")?;
                options.delivered_at = Some(now.wrapping_sub(idle));
            } else if more && args.keyword("time") {
                let at = integer(args, "ERR Invalid TIME option argument for XCLAIM")?;
                options.delivered_at = Some(at);
            } else if more && args.keyword("retrycount") {
                let count = integer(args, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                options.count = u64::try_from(count).ok();
            } else if more && args.keyword("lastid") {
                options.last_id = parse::id(args.bytes()?, 0)?;
            } else {
                let option = args.bytes()?;
                return Err(CommandError::quoting(
                    "Unrecognized XCLAIM option '",
                    option,
                    "'",
                ));
            }
        }
        // What makes no sense is taken as now: clients' clocks differ. In the form in which claims are propagated the time
        // is that of the leader's clock, which a follower's may be behind.
        let is_record = options.force && options.just_id && options.count.is_some();
        let latest = if is_record { i64::MAX } else { now };
        options.delivered_at = options.delivered_at.filter(|at| (0..=latest).contains(at));
        Ok(options)
    }
}

fn integer(args: &mut Args<'_>, refusal: &'static str) -> Taken<i64> {
    args.integer().map_err(|_| CommandError::fixed(refusal))
}

/// What XCLAIM and XAUTOCLAIM do to one entry after another.
struct Claimer<'a> {
    group: &'a [u8],
    name: &'a [u8],
    now: i64,
    /// The consumer, once it is known to be needed.
    consumer: Option<Number>,
    was_created: bool,
    /// Entries that were claimed or dropped.
    changes: u64,
    claims: Option<Claims>,
}

impl<'a> Claimer<'a> {
    fn new(view: &View<'_>, group: &'a [u8], name: &'a [u8]) -> Claimer<'a> {
        Claimer {
            group,
            name,
            now: view.now().0,
            consumer: None,
            was_created: false,
            changes: 0,
            claims: view.has_followers().then(Claims::default),
        }
    }

    /// A pending entry that the stream no longer has.
    fn drop_pending(&mut self, stream: &mut Stream, pending: Pending) {
        self.changes += 1;
        stream.edit_group(self.group, |group| {
            if let Some(claims) = &mut self.claims {
                claims.note(group, pending);
            }
            group.acknowledge(pending.id);
        });
    }

    /// Gives an entry to the consumer, which is created for its first one.
    fn claim(&mut self, stream: &mut Stream, id: Id, delivered_at: i64, count: u64) {
        self.changes += 1;
        stream.edit_group(self.group, |group| {
            let consumer = *self.consumer.get_or_insert_with(|| {
                group.find(self.name).unwrap_or_else(|| {
                    self.was_created = true;
                    group.add_consumer(self.name, self.now)
                })
            });
            group.saw(consumer, self.now);
            group.is_active(consumer, self.now);
            let pending = Pending {
                id,
                delivered_at,
                count,
                consumer,
            };
            group.assign(pending);
            if let Some(claims) = &mut self.claims {
                claims.note(group, pending);
            }
        });
    }

    /// Counts, reports and propagates. Whether anything was said to followers.
    fn finish(self, view: &mut View<'_>, key: &[u8]) {
        view.effects.dirty += self.changes;
        if self.was_created {
            view.effects.dirty += 1;
            view.notify(EventClass::STREAM, "xgroup-createconsumer", key);
        }
        view.propagate_nothing();
        if let Some(claims) = self.claims {
            claims.propagate(view, key, self.group);
        }
    }
}

pub(super) fn xclaim(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, group, name) = (args.bytes()?, args.bytes()?, args.bytes()?);
    if view
        .stream(key)?
        .and_then(|stream| stream.group(group))
        .is_none()
    {
        return Err(parse::no_key_or_group(key, group));
    }
    let min_idle = integer(args, "ERR Invalid min-idle-time argument for XCLAIM")?.max(0);
    let mut ids = Vec::new();
    while let Some(id) = args.peek().and_then(|text| parse::id(text, 0).ok()) {
        args.bytes()?;
        ids.push(id);
    }
    let mut claimer = Claimer::new(view, group, name);
    let now = claimer.now;
    let options = ClaimOptions::parse(args, now)?;
    let last_moved = view.edit_stream(key, Missing::Skip, |stream| {
        let last_moved = stream.edit_group(group, |group| {
            let moves = options.last_id > group.last_id;
            group.last_id = group.last_id.max(options.last_id);
            moves
        });
        let begun = reply.deferred();
        let mut claimed = 0;
        for id in ids {
            let pending = stream
                .group(group)
                .and_then(|group| group.pending().get(id))
                .copied();
            let Some(entry) = stream.get(id) else {
                if let Some(pending) = pending {
                    claimer.drop_pending(stream, pending);
                }
                continue;
            };
            let before = match pending {
                Some(pending)
                    if min_idle > 0 && now.saturating_sub(pending.delivered_at) < min_idle =>
                {
                    continue;
                }
                Some(pending) => pending.count,
                None if options.force => 1,
                None => continue,
            };
            claimed += 1;
            if options.just_id {
                reply.bulk(&id.text());
            } else {
                write_entry(&entry, reply);
            }
            let again = u64::from(!options.just_id);
            let count = options.count.unwrap_or(before.saturating_add(again));
            claimer.claim(stream, id, options.delivered_at.unwrap_or(now), count);
        }
        reply.set_array(begun, claimed);
        last_moved == Some(true)
    })?;
    let has_changes = claimer.changes > 0;
    claimer.finish(view, key);
    // An XCLAIM says it too.
    if last_moved == Some(true) && !has_changes {
        view.effects.dirty += 1;
        propagate_last_id(view, key, group)?;
    }
    Ok(())
}

pub(super) fn xautoclaim(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, group, name) = (args.bytes()?, args.bytes()?, args.bytes()?);
    // Counted before anything is refused, as in Redis.
    view.lookup(key);
    let min_idle = integer(args, "ERR Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
    let start = parse::start(args.bytes()?)?;
    let (mut count, mut just_id) = (100, false);
    while !args.is_empty() {
        if args.remaining() > 1 && args.keyword("count") {
            count = auto_count(args)?;
        } else if args.keyword("justid") {
            just_id = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let found = view
        .stream_for_write(key)?
        .and_then(|stream| stream.group(group));
    let Some(work) = found.map(|group| group.pending().len().min(count)) else {
        return Err(parse::no_key_or_group(key, group));
    };
    let mut claimer = Claimer::new(view, group, name);
    view.heavy(work, |view| {
        view.edit_stream(key, Missing::Skip, |stream| {
            let auto = AutoClaim {
                min_idle,
                just_id,
                count,
            };
            let (next, claimed, dropped) = auto.run(stream, start, &mut claimer);
            reply.array(3);
            reply.bulk(&next.text());
            reply.array(claimed.len());
            for id in claimed {
                match stream.get(id).filter(|_| !just_id) {
                    Some(entry) => write_entry(&entry, reply),
                    None => reply.bulk(&id.text()),
                }
            }
            reply.array(dropped.len());
            dropped.iter().for_each(|id| reply.bulk(&id.text()));
        })
    })?;
    claimer.finish(view, key);
    Ok(())
}

fn auto_count(args: &mut Args<'_>) -> Taken<usize> {
    // What Redis can allocate sixteen bytes each for.
    const MOST: i64 = i64::MAX / 16;
    let refusal = "ERR COUNT must be > 0";
    let count = integer(args, refusal)?;
    if !(1..=MOST).contains(&count) {
        return Err(CommandError::fixed(refusal));
    }
    Ok(count as usize)
}

struct AutoClaim {
    min_idle: i64,
    just_id: bool,
    count: usize,
}

impl AutoClaim {
    /// Claims what has been pending for long enough. From where to go on, what was claimed, and what the stream no longer
    /// has.
    fn run(
        &self,
        stream: &mut Stream,
        start: Id,
        claimer: &mut Claimer<'_>,
    ) -> (Id, Vec<Id>, Vec<Id>) {
        let (mut claimed, mut dropped) = (Vec::new(), Vec::new());
        // Entries looked at, as in Redis.
        let mut attempts = self.count.saturating_mul(10);
        let mut at = Some(start);
        let group = claimer.group;
        let next = |stream: &Stream, at: Option<Id>| {
            stream.group(group)?.pending().range(at?).next().copied()
        };
        while attempts > 0 && claimed.len() + dropped.len() < self.count {
            let Some(pending) = next(stream, at) else {
                break;
            };
            attempts -= 1;
            at = pending.id.next();
            if !stream.contains(pending.id) {
                claimer.drop_pending(stream, pending);
                dropped.push(pending.id);
            } else if claimer.now.saturating_sub(pending.delivered_at) >= self.min_idle
                || self.min_idle == 0
            {
                let count = pending.count.saturating_add(u64::from(!self.just_id));
                claimer.claim(stream, pending.id, claimer.now, count);
                claimed.push(pending.id);
            }
        }
        let next = next(stream, at).map_or(Id::ZERO, |pending| pending.id);
        (next, claimed, dropped)
    }
}
