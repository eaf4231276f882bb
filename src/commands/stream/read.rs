//! XREAD and XREADGROUP: entries beyond an id, or those that a group has yet to deliver, waited for if there are none.
//!
//! Who waits is woken by additions to any of the streams, and runs the same handler on that one: ids that depend on the
//! moment, `$` and `+`, were read before. What XREADGROUP did is propagated entry by entry: XCLAIM for each that is pending
//! now, XGROUP SETID for how far the group has read.

use super::entries::write_entry;
use super::parse;
use super::pending::Claims;
use crate::base::clock::Millis;
use crate::data::stream::{Group, Id, Number, Pending, Stream};
use crate::data::value::Type;
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::view::View;
use crate::keyspace::waiting::{Nothing, Outcome, Wait};
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::{Protocol, Reply};
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// Entries that a client gets at most when it had to wait and gave no COUNT, as in Redis.
const COUNT_AFTER_WAIT: u64 = 1_000;

/// What was asked.
struct Request<'a> {
    /// Entries of each stream; 0 is no limit.
    count: u64,
    /// Milliseconds to wait, 0 for ever.
    block: Option<i64>,
    /// Group and consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    noack: bool,
    /// Keys with what stands for the id.
    streams: Vec<(&'a [u8], &'a [u8])>,
}

/// From where a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// Beyond this id.
    After(Id),
    /// `>`: what the group has not delivered.
    New,
}

pub(super) fn xread(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Result<Outcome, CommandError> {
    let now = view.now();
    let request = Request::parse(args, false, now)?;
    let mut from = Vec::with_capacity(request.streams.len());
    for (key, id) in &request.streams {
        from.push(After::of_reader(view.stream(key)?, id)?);
    }
    let begun = reply.deferred();
    let mut served = 0;
    for ((key, _), &after) in request.streams.iter().zip(&from) {
        // Looked up again, and counted again, as in Redis.
        let Some(stream) = view.stream(key)? else {
            continue;
        };
        // Nothing follows the last id of all.
        let Some(start) = after.next().filter(|_| stream.last_id() > after) else {
            continue;
        };
        let mut entries = stream
            .range(start, Id::MAX)
            .take(request.limit())
            .peekable();
        if entries.peek().is_none() {
            continue;
        }
        served += 1;
        begin_stream(key, reply);
        let work = stream.about_between(start, Id::MAX).min(request.limit());
        view.heavy_read(work, || super::entries::write_entries(entries, reply));
    }
    if served > 0 {
        end_streams(begun, served, reply);
        return Ok(Outcome::Served);
    }
    let ids = from.into_iter().map(From::After);
    Ok(request.nothing(ids, now, reply))
}

/// The id beyond which is read.
struct After;

impl After {
    fn of_reader(stream: Option<&Stream>, id: &[u8]) -> Taken<Id> {
        match id {
            b"$" => Ok(stream.map_or(Id::ZERO, Stream::last_id)),
            b"+" => {
                // The last entry itself is read: from before it.
                let last = stream.and_then(Stream::last);
                Ok(last
                    .and_then(|entry| entry.id.previous())
                    .unwrap_or(Id::ZERO))
            }
            b">" => Err(CommandError::fixed(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            )),
            id => parse::id(id, 0),
        }
    }

    fn of_group(id: &[u8]) -> Taken<From> {
        match id {
            b"$" => Err(CommandError::fixed(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
                 specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
            )),
            b"+" => Err(CommandError::fixed(
                "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
                 specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.",
            )),
            b">" => Ok(From::New),
            // Redis keeps `>` as the last id of all.
            id => Ok(match parse::id(id, 0)? {
                Id::MAX => From::New,
                id => From::After(id),
            }),
        }
    }
}

pub(super) fn xreadgroup(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Result<Outcome, CommandError> {
    let now = view.now();
    let request = Request::parse(args, true, now)?;
    let Some((group, consumer)) = request.group else {
        return Err(CommandError::fixed(
            "ERR Missing GROUP option for XREADGROUP",
        ));
    };
    let mut from = Vec::with_capacity(request.streams.len());
    for (key, id) in &request.streams {
        check_group(view, key, group)?;
        from.push(After::of_group(id)?);
    }
    let begun = reply.deferred();
    let mut served = 0;
    let has_followers = view.has_followers();
    for ((key, _), &from) in request.streams.iter().zip(&from) {
        let mut read = Read {
            group,
            consumer,
            now: now.0,
            noack: request.noack,
            most: request.limit(),
            claims: has_followers.then(Claims::default),
        };
        let work = match view.stream(key)? {
            Some(stream) => read.about(stream, from).min(request.limit()),
            None => continue,
        };
        let done = view.heavy(work, |view| {
            view.edit_stream(key, Missing::Skip, |stream| {
                read.run(stream, from, reply, |reply| begin_stream(key, reply))
            })
        })?;
        let Some(Done {
            was_created,
            last_moved,
        }) = done.flatten()
        else {
            continue;
        };
        if was_created {
            view.effects.dirty += 1;
            view.notify(EventClass::STREAM, "xgroup-createconsumer", key);
            view.propagate(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
        }
        view.effects.dirty += 1;
        served += 1;
        if let Some(claims) = read.claims {
            claims.propagate(view, key, group);
        }
        if last_moved {
            super::pending::propagate_last_id(view, key, group)?;
        }
        // Even when nothing was said: reading is not repeated by followers.
        view.propagate_nothing();
    }
    if served > 0 {
        end_streams(begun, served, reply);
        return Ok(Outcome::Served);
    }
    Ok(request.nothing(from.into_iter(), now, reply))
}

/// Refuses what has no such group.
fn check_group(view: &View<'_>, key: &[u8], group: &[u8]) -> Taken<()> {
    if view.is_woken() {
        let stream = view.stream(key).ok().flatten();
        return match stream.map(|stream| stream.group(group)) {
            Some(Some(_)) => Ok(()),
            Some(None) => Err(CommandError::fixed(
                "NOGROUP the consumer group this client was blocked on no longer exists",
            )),
            None => Err(CommandError::fixed(
                "UNBLOCKED the stream key no longer exists",
            )),
        };
    }
    match view.stream(key)?.and_then(|stream| stream.group(group)) {
        Some(_) => Ok(()),
        None => Err(parse::no_group(
            "No such key '",
            key,
            "' or consumer group '",
            group,
            "' in XREADGROUP with GROUP option",
        )),
    }
}

/// What XREADGROUP did with a stream that it served.
struct Done {
    was_created: bool,
    /// The group has read further.
    last_moved: bool,
}

/// What XREADGROUP does with a stream.
struct Read<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    now: i64,
    noack: bool,
    most: usize,
    claims: Option<Claims>,
}

impl Read<'_> {
    /// How much work it is.
    fn about(&self, stream: &Stream, from: From) -> usize {
        let Some(group) = stream.group(self.group) else {
            return 0;
        };
        match from {
            From::New => stream.about_between(group.last_id, Id::MAX),
            From::After(_) => {
                let consumer = group.find(self.consumer);
                consumer.map_or(0, |consumer| group.consumer(consumer).pending().len())
            }
        }
    }

    fn run(
        &mut self,
        stream: &mut Stream,
        from: From,
        reply: &mut Reply<'_>,
        begin: impl FnOnce(&mut Reply<'_>),
    ) -> Option<Done> {
        let last = stream.group(self.group)?.last_id;
        let start = match from {
            From::After(_) => None,
            From::New => {
                let start = last.next().filter(|_| stream.last_id() > last)?;
                stream.range(start, Id::MAX).next()?;
                Some(start)
            }
        };
        // As in 7.0, who finds nothing is not made a consumer.
        let (number, was_created) = stream.edit_group(self.group, |group| {
            let found = group.find(self.consumer);
            let number = found.unwrap_or_else(|| group.add_consumer(self.consumer, self.now));
            group.saw(number, self.now);
            (number, found.is_none())
        })?;
        begin(reply);
        match (from, start) {
            (From::After(id), _) => self.history(stream, number, id, reply),
            (From::New, Some(start)) => self.deliver(stream, number, start, reply),
            (From::New, None) => {}
        }
        Some(Done {
            was_created,
            last_moved: start.is_some(),
        })
    }

    /// New entries.
    fn deliver(&mut self, stream: &mut Stream, number: Number, start: Id, reply: &mut Reply<'_>) {
        let Some(group) = stream.group(self.group) else {
            return;
        };
        let mut read = group.entries_read;
        let mut ids = Vec::new();
        let begun = reply.deferred();
        for entry in stream.range(start, Id::MAX).take(self.most) {
            write_entry(&entry, reply);
            ids.push(entry.id);
            read = entries_read(stream, read, entry.id);
        }
        reply.set_array(begun, ids.len());
        stream.edit_group(self.group, |group| {
            group.last_id = ids.last().copied().unwrap_or(group.last_id);
            group.entries_read = read;
            group.is_active(number, self.now);
            if self.noack {
                return;
            }
            for id in ids {
                self.assign(
                    group,
                    Pending {
                        id,
                        delivered_at: self.now,
                        count: 1,
                        consumer: number,
                    },
                );
            }
        });
    }

    /// Entries that the consumer was given before and has not acknowledged. Of those that are gone the id alone is told.
    fn history(&mut self, stream: &mut Stream, number: Number, after: Id, reply: &mut Reply<'_>) {
        let Some(group) = stream.group(self.group) else {
            return;
        };
        let Some(start) = after.next() else {
            reply.array(0);
            return;
        };
        let mut ids = Vec::new();
        let mut told = 0;
        let begun = reply.deferred();
        for &id in group
            .consumer(number)
            .pending()
            .range(start)
            .take(self.most)
        {
            told += 1;
            match stream.get(id) {
                Some(entry) => {
                    write_entry(&entry, reply);
                    ids.push(id);
                }
                None => {
                    reply.array(2);
                    reply.bulk(&id.text());
                    reply.null_array();
                }
            }
        }
        reply.set_array(begun, told);
        stream.edit_group(self.group, |group| {
            for id in ids {
                if let Some(&pending) = group.pending().get(id) {
                    self.assign(
                        group,
                        Pending {
                            delivered_at: self.now,
                            count: pending.count.saturating_add(1),
                            ..pending
                        },
                    );
                }
            }
        });
    }

    fn assign(&mut self, group: &mut Group, pending: Pending) {
        group.assign(pending);
        if let Some(claims) = &mut self.claims {
            claims.note(group, pending);
        }
    }
}

/// How many entries a group has read that has just read this one.
fn entries_read(stream: &Stream, before: Option<u64>, id: Id) -> Option<u64> {
    match before {
        Some(before) if !stream.has_tombstones_from(id) => Some(before.saturating_add(1)),
        before if stream.entries_added() == 0 => before,
        _ => stream.entries_until(id),
    }
}

/// A key, before its entries.
fn begin_stream(key: &[u8], reply: &mut Reply<'_>) {
    if reply.protocol() == Protocol::Resp2 {
        reply.array(2);
    }
    reply.bulk(key);
}

fn end_streams(begun: crate::resp::reply::Deferred, count: usize, reply: &mut Reply<'_>) {
    match reply.protocol() {
        Protocol::Resp2 => reply.set_array(begun, count),
        Protocol::Resp3 => reply.set_map(begun, count),
    }
}

impl<'a> Request<'a> {
    fn parse(args: &mut Args<'a>, is_group: bool, now: Millis) -> Taken<Request<'a>> {
        let mut request = Request {
            count: 0,
            block: None,
            group: None,
            noack: false,
            streams: Vec::new(),
        };
        while !args.is_empty() {
            let more = args.remaining() - 1;
            if more >= 1 && args.keyword("block") {
                request.block = Some(block_ms(args, now)?);
            } else if more >= 1 && args.keyword("count") {
                request.count = args.integer()?.max(0) as u64;
            } else if more >= 1 && args.keyword("streams") {
                request.streams = streams(args, is_group)?;
                break;
            } else if more >= 2 && args.keyword("group") {
                if !is_group {
                    return Err(CommandError::fixed(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                request.group = Some((args.bytes()?, args.bytes()?));
            } else if args.keyword("noack") {
                if !is_group {
                    return Err(CommandError::fixed(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                request.noack = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if request.streams.is_empty() {
            return Err(CommandError::Syntax);
        }
        Ok(request)
    }

    /// Entries of each stream at most.
    fn limit(&self) -> usize {
        match self.count {
            0 => usize::MAX,
            count => count.try_into().unwrap_or(usize::MAX),
        }
    }

    /// What to do when there is nothing to read: wait, or say so.
    fn nothing(
        &self,
        from: impl Iterator<Item = From>,
        now: Millis,
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let Some(block) = self.block else {
            reply.null_array();
            return Outcome::Served;
        };
        let keys = self.streams.iter().zip(from);
        Outcome::Wait(Wait {
            keys: keys
                .map(|((key, _), from)| (key.to_vec(), self.for_one(key, from)))
                .collect(),
            kind: Type::Stream,
            until: (block > 0).then(|| now.plus(block)),
            nothing: Nothing::NullArray,
            is_reader: true,
            minds_removal: self.group.is_some(),
        })
    }

    /// The request that serves one stream when it has new entries.
    fn for_one(&self, key: &[u8], from: From) -> OwnedArguments {
        let count = match self.count {
            0 => COUNT_AFTER_WAIT,
            count => count,
        };
        let mut words = OwnedArguments::default();
        let mut push = |word: &[u8]| words.push(word);
        match self.group {
            Some((group, consumer)) => {
                [b"XREADGROUP", &b"GROUP"[..], group, consumer]
                    .into_iter()
                    .for_each(&mut push);
                if self.noack {
                    push(b"NOACK");
                }
            }
            None => push(b"XREAD"),
        }
        push(b"COUNT");
        push(itoa::Buffer::new().format(count).as_bytes());
        // If there is nothing after all, it waits on.
        push(b"BLOCK");
        push(b"0");
        push(b"STREAMS");
        push(key);
        match from {
            From::New => push(b">"),
            From::After(id) => push(&id.text()),
        }
        words
    }
}

fn block_ms(args: &mut Args<'_>, now: Millis) -> Taken<i64> {
    let block = args
        .integer()
        .map_err(|_| CommandError::fixed("ERR timeout is not an integer or out of range"))?;
    if block < 0 {
        return Err(CommandError::fixed("ERR timeout is negative"));
    }
    // The end must not be beyond the end of time; 7.0 lets it overflow.
    if block > i64::MAX - now.0 {
        return Err(CommandError::fixed("ERR timeout is out of range"));
    }
    Ok(block)
}

fn streams<'a>(args: &mut Args<'a>, is_group: bool) -> Taken<Vec<(&'a [u8], &'a [u8])>> {
    let count = args.remaining();
    if !count.is_multiple_of(2) {
        return Err(CommandError::fixed(if is_group {
            "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified."
        } else {
            "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified."
        }));
    }
    let words: Vec<&[u8]> = args.rest().collect();
    let (keys, ids) = words.split_at(count / 2);
    Ok(keys.iter().copied().zip(ids.iter().copied()).collect())
}
