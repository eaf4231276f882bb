//! Entries: XADD, XTRIM, XDEL, XDELEX, XLEN, XRANGE, XREVRANGE, XSETID.

use super::parse::{self, NewId, Options};
use crate::commands::Done;
use crate::data::remains::Remains;
use crate::data::stream::{Bound, Entry, Id, References, Stream, Trim, text_bytes};
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::Garbage;
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// What XADD did.
struct Added {
    id: Id,
    trimmed: u64,
    /// How followers trim in its place.
    canonical: Option<Canonical>,
}

pub(super) fn xadd(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (options, id) = Options::of_add(args)?;
    let all = args.all();
    let first = all.len() - args.remaining();
    let count = args.remaining() / 2;
    let Some(id) = id.filter(|_| count > 0 && args.remaining().is_multiple_of(2)) else {
        return Err(CommandError::Arity("xadd".into()));
    };
    if id == NewId::Given(Id::ZERO) {
        return Err(CommandError::fixed(
            "ERR The ID specified in XADD must be greater than 0-0",
        ));
    }
    let fields = (0..count).map(move |pair| {
        let part = |place: usize| all.get(first + 2 * pair + place).unwrap_or_default();
        (part(0), part(1))
    });
    if options.only_existing && view.stream_for_write(key)?.is_none() {
        reply.null();
        return Ok(());
    }
    let Some(text) = text_bytes(fields.clone()) else {
        // Of another type, it is refused for that.
        view.stream_for_write(key)?;
        return Err(CommandError::fixed(
            "ERR Elements are too large to be stored",
        ));
    };
    let limits = view.rules().stream;
    let trim = options.trim(limits);
    let now_ms = view.now().0.max(0) as u64;
    let mut remains = Remains::default();
    let added = view.edit_stream(key, Missing::Create, |stream| {
        let id = new_id(stream, id, now_ms)?;
        if !stream.append(id, fields.clone(), text, limits) {
            return Err(CommandError::fixed(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item",
            ));
        }
        let trimmed = trim.map_or(0, |trim| stream.trim(trim, &mut remains));
        let canonical = trim.map(|trim| Canonical::of(trim, stream));
        Ok(Added {
            id,
            trimmed,
            canonical,
        })
    })?;
    // A key of the plan is there or is created.
    let Some(added) = added.transpose()? else {
        return Ok(());
    };
    view.effects.dirty += 1;
    view.notify(EventClass::STREAM, "xadd", key);
    if added.trimmed > 0 {
        view.notify(EventClass::STREAM, "xtrim", key);
    }
    discard(view, remains);
    let id_text = added.id.text();
    let is_approximate = trim.is_some_and(|trim| trim.approximate);
    let is_verbatim = matches!(id, NewId::Given(_)) && !is_approximate;
    if !is_verbatim && view.has_followers() {
        propagate_with(view, added.canonical, |view, words| {
            let mut command = vec![&b"XADD"[..], key];
            command.extend(words);
            command.push(&id_text);
            command.extend(fields.flat_map(|(name, value)| [name, value]));
            view.propagate(&command);
        });
    }
    view.tell_readers(key);
    reply.bulk(&id_text);
    Ok(())
}

/// The id that a new entry gets.
fn new_id(stream: &Stream, id: NewId, now_ms: u64) -> Taken<Id> {
    let last = stream.last_id();
    if last == Id::MAX {
        return Err(CommandError::fixed(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    Ok(match id {
        NewId::Auto => stream.next_id(now_ms),
        // Behind the last number of all there is none: the last id itself is refused.
        NewId::Within(ms) if ms == last.ms => {
            last.next().filter(|next| next.ms == ms).unwrap_or(last)
        }
        NewId::Within(ms) => Id::new(ms, 0),
        NewId::Given(id) => id,
    })
}

/// How followers trim, so that they do what was done: exactly.
struct Canonical {
    bound: Bound,
    references: References,
}

impl Canonical {
    /// What leaves a stream as it is now, after `trim`.
    fn of(trim: Trim, stream: &Stream) -> Canonical {
        let bound = match trim.bound {
            bound if !trim.approximate => bound,
            // What was not acknowledged stayed among what went: only the number says how far.
            Bound::MinId(_) if trim.references != References::Acked && !stream.is_empty() => {
                Bound::MinId(stream.first_id())
            }
            _ => Bound::MaxLen(stream.len()),
        };
        Canonical {
            bound,
            references: trim.references,
        }
    }
}

/// Hands the words of canonical trimming to what propagates them.
fn propagate_with(
    view: &mut View<'_>,
    canonical: Option<Canonical>,
    propagate: impl FnOnce(&mut View<'_>, &[&[u8]]),
) {
    let Some(canonical) = canonical else {
        return propagate(view, &[]);
    };
    let mut digits = itoa::Buffer::new();
    let id;
    let (strategy, threshold) = match canonical.bound {
        Bound::MaxLen(most) => (&b"MAXLEN"[..], digits.format(most).as_bytes()),
        Bound::MinId(least) => {
            id = least.text();
            (&b"MINID"[..], &*id)
        }
    };
    let mut words = vec![strategy, b"=", threshold];
    match canonical.references {
        References::Keep => {}
        References::Delete => words.push(b"DELREF"),
        References::Acked => words.push(b"ACKED"),
    }
    propagate(view, &words);
}

/// Frees what is left of a large part of a stream off the request's path.
pub(super) fn discard(view: &mut View<'_>, remains: Remains) {
    if !remains.is_empty() {
        view.effects.discard(Some(Garbage::Remains(remains)));
    }
}

pub(super) fn xtrim(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let options = Options::of_trim(args)?;
    // A strategy is there: `of_trim` asks for one.
    let Some(trim) = options.trim(view.rules().stream) else {
        return Err(CommandError::Syntax);
    };
    // Whole blocks go at once.
    let entries = view.stream_for_write(key)?.map_or(0, Stream::block_count);
    let mut remains = Remains::default();
    let trimmed = view.heavy(entries, |view| {
        view.edit_stream(key, Missing::Skip, |stream| {
            let trimmed = stream.trim(trim, &mut remains);
            (trimmed, Canonical::of(trim, stream))
        })
    })?;
    let Some((trimmed, canonical)) = trimmed else {
        reply.integer(0);
        return Ok(());
    };
    if trimmed > 0 {
        view.effects.dirty += trimmed;
        view.notify(EventClass::STREAM, "xtrim", key);
        discard(view, remains);
        if trim.approximate {
            propagate_with(view, Some(canonical), |view, words| {
                view.propagate(&[&[b"XTRIM", key], words].concat());
            });
        }
    }
    reply.integer(trimmed as i64);
    Ok(())
}

pub(super) fn xdel(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    if view.stream_for_write(key)?.is_none() {
        reply.integer(0);
        return Ok(());
    }
    let ids = parse::ids(args)?;
    let deleted = view.edit_stream(key, Missing::Skip, |stream| {
        ids.into_iter().filter(|id| stream.delete(*id)).count()
    })?;
    let deleted = deleted.unwrap_or(0);
    note_deleted(view, key, deleted);
    reply.integer(deleted as i64);
    Ok(())
}

/// Counts and reports entries that were deleted.
pub(super) fn note_deleted(view: &mut View<'_>, key: &[u8], deleted: usize) {
    if deleted > 0 {
        view.effects.dirty += deleted as u64;
        view.notify(EventClass::STREAM, "xdel", key);
    }
}

/// `[KEEPREF|DELREF|ACKED] IDS numids id ..`: what XDELEX and XACKDEL end with.
pub(super) fn policy_and_ids(args: &mut Args<'_>) -> Taken<(References, Vec<Id>)> {
    let mut policy = None;
    let mut ids = None;
    while !args.is_empty() {
        if let Some(references) = parse::references(args) {
            if policy.replace(references).is_some() {
                return Err(CommandError::Syntax);
            }
        } else if args.remaining() > 1 && ids.is_none() && args.keyword("ids") {
            ids = Some(counted_ids(args)?);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok((policy.unwrap_or_default(), ids.ok_or(CommandError::Syntax)?))
}

fn counted_ids(args: &mut Args<'_>) -> Taken<Vec<Id>> {
    let count = args
        .integer()
        .ok()
        .and_then(|count| usize::try_from(count).ok());
    let Some(count) = count.filter(|count| *count > 0) else {
        return Err(CommandError::fixed(
            "ERR Number of IDs must be a positive integer",
        ));
    };
    if count > args.remaining() {
        return Err(CommandError::fixed(
            "ERR The `numids` parameter must match the number of arguments",
        ));
    }
    (0..count).map(|_| parse::id(args.bytes()?, 0)).collect()
}

pub(super) fn xdelex(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (references, ids) = policy_and_ids(args)?;
    let ends = view.edit_stream(key, Missing::Skip, |stream| {
        ids.iter()
            .map(|id| stream.delete_referenced(*id, references))
            .collect::<Vec<_>>()
    })?;
    let ends = ends.unwrap_or_else(|| vec![None; ids.len()]);
    note_deleted(
        view,
        key,
        ends.iter().filter(|end| **end == Some(true)).count(),
    );
    write_ends(&ends, reply);
    Ok(())
}

/// What became of each id: not found, deleted, or kept.
pub(super) fn write_ends(ends: &[Option<bool>], reply: &mut Reply<'_>) {
    reply.array(ends.len());
    for end in ends {
        reply.integer(match end {
            None => -1,
            Some(true) => 1,
            Some(false) => 2,
        });
    }
}

pub(super) fn xlen(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let stream = view.stream(args.bytes()?)?;
    reply.integer(stream.map_or(0, Stream::len) as i64);
    Ok(())
}

pub(super) fn xrange(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let start = parse::start(args.bytes()?)?;
    let end = parse::end(args.bytes()?)?;
    let count = parse::count(args)?;
    reply_range(
        key,
        (start, end),
        count,
        view,
        reply,
        |stream, most, reply| write_entries(stream.range(start, end).take(most), reply),
    )
}

pub(super) fn xrevrange(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    // In this order: of two bad ids the start is refused, as in Redis.
    let (end, start) = (args.bytes()?, args.bytes()?);
    let start = parse::start(start)?;
    let end = parse::end(end)?;
    let count = parse::count(args)?;
    reply_range(
        key,
        (start, end),
        count,
        view,
        reply,
        |stream, most, reply| write_entries(stream.range_back(start, end).take(most), reply),
    )
}

fn reply_range(
    key: &[u8],
    (start, end): (Id, Id),
    count: Option<u64>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
    write: impl FnOnce(&Stream, usize, &mut Reply<'_>),
) -> Done {
    let Some(stream) = view.stream(key)? else {
        reply.array(0);
        return Ok(());
    };
    if count == Some(0) {
        reply.null_array();
        return Ok(());
    }
    let most = count.map_or(usize::MAX, |count| count.try_into().unwrap_or(usize::MAX));
    let entries = stream.about_between(start, end).min(most);
    view.heavy_read(entries, || write(stream, most, reply));
    Ok(())
}

/// An array of entries.
pub(super) fn write_entries<'a>(entries: impl Iterator<Item = Entry<'a>>, reply: &mut Reply<'_>) {
    let begun = reply.deferred();
    let mut count = 0;
    for entry in entries {
        write_entry(&entry, reply);
        count += 1;
    }
    reply.set_array(begun, count);
}

/// An entry: its id, and names and values in turn.
pub(super) fn write_entry(entry: &Entry<'_>, reply: &mut Reply<'_>) {
    reply.array(2);
    reply.bulk(&entry.id.text());
    reply.array(entry.len() * 2);
    let mut buffer = itoa::Buffer::new();
    for (name, value) in entry.fields() {
        reply.bulk(name.text(&mut buffer));
        reply.bulk(value.text(&mut buffer));
    }
}

pub(super) fn xsetid(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let last = parse::id(args.bytes()?, 0)?;
    let (mut added, mut max_deleted) = (None, None);
    while !args.is_empty() {
        if args.remaining() < 2 {
            return Err(CommandError::Syntax);
        } else if args.keyword("entriesadded") {
            let count = u64::try_from(args.integer()?)
                .map_err(|_| CommandError::fixed("ERR entries_added must be positive"))?;
            added = Some(count);
        } else if args.keyword("maxdeletedid") {
            let id = parse::id(args.bytes()?, 0)?;
            if last < id {
                return Err(CommandError::fixed(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            max_deleted = Some(id);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let stream = view.stream_for_write(key)?.ok_or(CommandError::NoSuchKey)?;
    check_set_id(stream, last, added)?;
    view.edit_stream(key, Missing::Skip, |stream| {
        // 0-0 is as good as none, as in Redis.
        let max_deleted = max_deleted.filter(|id| *id != Id::ZERO);
        stream.set_id(last, added, max_deleted);
    })?;
    view.effects.dirty += 1;
    view.notify(EventClass::STREAM, "xsetid", key);
    reply.ok();
    Ok(())
}

fn check_set_id(stream: &Stream, last: Id, added: Option<u64>) -> Done {
    if stream.last().is_some_and(|entry| last < entry.id) {
        return Err(CommandError::fixed(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    if !stream.is_empty() && added.is_some_and(|added| added < stream.len()) {
        return Err(CommandError::fixed(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    Ok(())
}
