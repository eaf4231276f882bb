//! The commands that change lists and never wait.
//!
//! What pops one list of several is propagated as the pop that it was (`LMPOP 2 a b LEFT` as `LPOP b 1`).

use bytes::Bytes;
use smallvec::SmallVec;

use super::end;
use super::read::{place, range, write, write_range};
use crate::commands::Done;
use crate::data::list::{Element, End, List, ListRef, Text};
use crate::data::remains::Remains;
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::Garbage;
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

pub(super) fn lpush(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    push(args, view, reply, End::Head, Missing::Create)
}

pub(super) fn rpush(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    push(args, view, reply, End::Tail, Missing::Create)
}

pub(super) fn lpushx(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    push(args, view, reply, End::Head, Missing::Skip)
}

pub(super) fn rpushx(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    push(args, view, reply, End::Tail, Missing::Skip)
}

fn push(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
    end: End,
    missing: Missing,
) -> Done {
    let key = args.bytes()?;
    let count = args.remaining();
    let limits = view.rules().list;
    let pushed = view.heavy(count, |view| {
        view.edit_list(key, missing, |list| {
            if count > 1 {
                list.prepare(args.rest().map(<[u8]>::len).sum(), count, limits);
            }
            while let Ok(element) = text(args) {
                list.push(end, element, limits);
            }
            list.len()
        })
    })?;
    if pushed.is_some() {
        view.effects.dirty += count as u64;
        view.notify(EventClass::LIST, pushed_event(end), key);
    }
    reply.integer(pushed.unwrap_or(0) as i64);
    Ok(())
}

pub(super) fn lpop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    pop(args, view, reply, End::Head, "lpop")
}

pub(super) fn rpop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    pop(args, view, reply, End::Tail, "rpop")
}

fn pop(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
    end: End,
    name: &'static str,
) -> Done {
    let key = args.bytes()?;
    match args.remaining() {
        0 => {
            if !pop_one(view, reply, key, end)? {
                reply.null();
            }
        }
        1 => {
            // Whatever is wrong with the count gets this refusal.
            let count = args.integer().ok();
            let count = count.and_then(|count| usize::try_from(count).ok());
            let count = count.ok_or(CommandError::NotPositive)?;
            if pop_many(view, reply, key, end, count)?.is_none() {
                reply.null_array();
            }
        }
        _ => return Err(CommandError::Arity(name.into())),
    }
    Ok(())
}

/// Pops an element and writes it. Whether there was one.
pub(super) fn pop_one(
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
    key: &[u8],
    end: End,
) -> Taken<bool> {
    let limits = view.rules().list;
    let popped = view.edit_list(key, Missing::Skip, |list| {
        let element = list.view().peek(end);
        let is_there = element.map(|element| write(reply, element)).is_some();
        list.pop(end, limits);
        is_there
    })?;
    let is_there = popped.unwrap_or(false);
    if is_there {
        view.effects.dirty += 1;
        view.notify(EventClass::LIST, popped_event(end), key);
    }
    Ok(is_there)
}

/// Pops up to `count` elements and writes them as an array. How many; `None`, with nothing written, when there is no list.
pub(super) fn pop_many(
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
    key: &[u8],
    end: End,
    count: usize,
) -> Taken<Option<usize>> {
    let Some(length) = view.list_for_write(key)?.map(ListRef::len) else {
        return Ok(None);
    };
    let count = count.min(length);
    if count == 0 {
        reply.array(0);
        return Ok(Some(0));
    }
    let limits = view.rules().list;
    let gone = match end {
        End::Head => 0..count,
        End::Tail => length - count..length,
    };
    let remains = view.heavy(count, |view| {
        view.edit_list(key, Missing::Skip, |list| {
            match end {
                End::Head => write_range(reply, list.view(), gone.clone()),
                End::Tail => {
                    reply.array(count);
                    let elements = list.view().range_back(gone.clone());
                    elements.for_each(|element| write(reply, element));
                }
            }
            list.remove_range(gone, limits)
        })
    })?;
    discard(view, remains);
    view.effects.dirty += count as u64;
    view.notify(EventClass::LIST, popped_event(end), key);
    Ok(Some(count))
}

pub(super) fn lmpop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let pops = Pops::parse(args)?;
    if !pops.run(view, reply)? {
        reply.null_array();
    }
    Ok(())
}

/// What LMPOP and BLMPOP ask for.
pub(super) struct Pops<'a> {
    pub(super) keys: SmallVec<[&'a [u8]; 4]>,
    pub(super) end: End,
    pub(super) count: usize,
}

impl<'a> Pops<'a> {
    pub(super) fn parse(args: &mut Args<'a>) -> Taken<Pops<'a>> {
        let key_count = positive(args, "ERR numkeys should be greater than 0")?;
        // The keys and where to pop.
        if key_count >= args.remaining() {
            return Err(CommandError::Syntax);
        }
        let keys = (0..key_count).map(|_| args.bytes());
        let keys = keys.collect::<Taken<_>>()?;
        let end = end(args)?;
        let mut count = None;
        while !args.is_empty() {
            if count.is_some() || args.remaining() < 2 || !args.keyword("COUNT") {
                return Err(CommandError::Syntax);
            }
            count = Some(positive(args, "ERR count should be greater than 0")?);
        }
        let count = count.unwrap_or(1);
        Ok(Pops { keys, end, count })
    }

    /// Pops from the first list there is. Whether there was one.
    pub(super) fn run(&self, view: &mut View<'_>, reply: &mut Reply<'_>) -> Taken<bool> {
        for key in &self.keys {
            if view.list_for_write(key)?.is_none() {
                continue;
            }
            reply.array(2);
            reply.bulk(key);
            if let Some(count) = pop_many(view, reply, key, self.end, self.count)? {
                let count = itoa::Buffer::new().format(count).to_owned();
                view.propagate(&[pop_name(self.end), key, count.as_bytes()]);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Takes a number above zero; whatever is wrong with it gets the same refusal.
fn positive(args: &mut Args<'_>, refusal: &'static str) -> Taken<usize> {
    let number = args.integer().ok();
    let number = number.and_then(|number| usize::try_from(number).ok());
    number
        .filter(|&number| number > 0)
        .ok_or(CommandError::fixed(refusal))
}

pub(super) fn lmove(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let route = Route::parse(args)?;
    if !route.run(view, reply)? {
        reply.null();
    }
    Ok(())
}

pub(super) fn rpoplpush(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let route = Route::parse_tail_to_head(args)?;
    if !route.run(view, reply)? {
        reply.null();
    }
    Ok(())
}

/// From where to where an element moves.
pub(super) struct Route<'a> {
    pub(super) source: &'a [u8],
    pub(super) destination: &'a [u8],
    pub(super) from: End,
    pub(super) to: End,
}

impl<'a> Route<'a> {
    pub(super) fn parse(args: &mut Args<'a>) -> Taken<Route<'a>> {
        Ok(Route {
            source: args.bytes()?,
            destination: args.bytes()?,
            from: end(args)?,
            to: end(args)?,
        })
    }

    pub(super) fn parse_tail_to_head(args: &mut Args<'a>) -> Taken<Route<'a>> {
        Ok(Route {
            source: args.bytes()?,
            destination: args.bytes()?,
            from: End::Tail,
            to: End::Head,
        })
    }

    /// Moves the element and writes it. Whether there was one.
    pub(super) fn run(&self, view: &mut View<'_>, reply: &mut Reply<'_>) -> Taken<bool> {
        let limits = view.rules().list;
        // The destination's type matters only when there is something to move.
        if view.list_for_write(self.source)?.is_none() {
            return Ok(false);
        }
        view.list_for_write(self.destination)?;
        if self.source == self.destination {
            view.edit_list(self.source, Missing::Skip, |list| {
                if let Some(moved) = Moved::pop(list, self.from, limits) {
                    moved.write(reply);
                    list.push(self.to, moved.as_text(), limits);
                }
            })?;
        } else {
            // Who holds copies is told of the destination first, as in Redis.
            view.effects.touch(view.database(), self.destination);
            let moved = view.edit_list(self.source, Missing::Skip, |list| {
                Moved::pop(list, self.from, limits)
            })?;
            let Some(moved) = moved.flatten() else {
                return Ok(false);
            };
            moved.write(reply);
            view.edit_list(self.destination, Missing::Create, |list| {
                list.push(self.to, moved.as_text(), limits);
            })?;
        }
        view.effects.dirty += 1;
        view.notify(EventClass::LIST, pushed_event(self.to), self.destination);
        view.notify(EventClass::LIST, popped_event(self.from), self.source);
        Ok(true)
    }
}

/// An element between two lists.
enum Moved {
    Small(SmallVec<[u8; 128]>),
    Large(Bytes),
}

impl Moved {
    fn pop(list: &mut List, end: End, limits: crate::data::list::Limits) -> Option<Moved> {
        let moved = match list.view().peek(end)? {
            Element::Item(item) => {
                let mut buffer = itoa::Buffer::new();
                Moved::Small(SmallVec::from_slice(item.text(&mut buffer)))
            }
            Element::Large(text) => Moved::Large(text.clone()),
        };
        list.pop(end, limits);
        Some(moved)
    }

    fn write(&self, reply: &mut Reply<'_>) {
        match self {
            Moved::Small(text) => reply.bulk(text),
            Moved::Large(text) => reply.bulk_shared(text.clone()),
        }
    }

    fn as_text(&self) -> Text<'_> {
        match self {
            Moved::Small(text) => Text::Copy(text),
            Moved::Large(text) => Text::Shared(text.clone()),
        }
    }
}

pub(super) fn lset(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let length = view.list_for_write(key)?.map(ListRef::len);
    // The index of a missing list is not looked at.
    let length = length.ok_or(CommandError::NoSuchKey)?;
    let index = place(args.integer()?, length).ok_or(CommandError::IndexOutOfRange)?;
    let element = text(args)?;
    let limits = view.rules().list;
    view.edit_list(key, Missing::Skip, |list| list.set(index, element, limits))?;
    view.effects.dirty += 1;
    view.notify(EventClass::LIST, "lset", key);
    reply.ok();
    Ok(())
}

pub(super) fn linsert(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let behind = if args.keyword("BEFORE") {
        0
    } else if args.keyword("AFTER") {
        1
    } else {
        return Err(CommandError::Syntax);
    };
    let (pivot, element) = (args.bytes()?, text(args)?);
    let limits = view.rules().list;
    let Some(length) = view.list_for_write(key)?.map(ListRef::len) else {
        reply.integer(0);
        return Ok(());
    };
    let inserted = view.heavy(length, |view| {
        view.edit_list(key, Missing::Skip, |list| {
            let mut place = None;
            list.view()
                .positions(pivot, End::Head, usize::MAX, |index| {
                    place = Some(index + behind);
                    false
                });
            list.insert(place?, element, limits);
            Some(list.len())
        })
    })?;
    match inserted.flatten() {
        Some(length) => {
            view.effects.dirty += 1;
            view.notify(EventClass::LIST, "linsert", key);
            reply.integer(length as i64);
        }
        None => reply.integer(-1),
    }
    Ok(())
}

pub(super) fn lrem(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let count = args.integer()?;
    let element = args.bytes()?;
    let end = if count < 0 { End::Tail } else { End::Head };
    let count = match count.unsigned_abs() {
        0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let limits = view.rules().list;
    let length = view.list_for_write(key)?.map_or(0, ListRef::len);
    let removed = view.heavy(length, |view| {
        view.edit_list(key, Missing::Skip, |list| {
            list.remove_equal(element, count, end, limits)
        })
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        view.effects.dirty += removed as u64;
        view.notify(EventClass::LIST, "lrem", key);
    }
    reply.integer(removed as i64);
    Ok(())
}

pub(super) fn ltrim(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (start, stop) = (args.integer()?, args.integer()?);
    if let Some(length) = view.list_for_write(key)?.map(ListRef::len) {
        let kept = range(start, stop, length);
        let gone = length - kept.len();
        let limits = view.rules().list;
        let remains = view.heavy(gone, |view| {
            view.edit_list(key, Missing::Skip, |list| list.trim(kept, limits))
        })?;
        discard(view, remains);
        // Told even when nothing went, as Redis does; followers need not hear of that.
        view.effects.dirty += gone as u64;
        view.notify(EventClass::LIST, "ltrim", key);
    }
    reply.ok();
    Ok(())
}

/// Takes an element; one that was received apart is kept in its buffer.
fn text<'a>(args: &mut Args<'a>) -> Taken<Text<'a>> {
    let (text, shared) = args.value()?;
    Ok(match shared {
        Some(shared) => Text::Shared(shared.clone()),
        None => Text::Copy(text),
    })
}

/// Leaves what a large list lost to be freed after release.
fn discard(view: &mut View<'_>, remains: Option<Remains>) {
    let remains = remains.filter(|remains| !remains.is_empty());
    view.effects.discard(remains.map(Garbage::Remains));
}

/// The command that pops from an end.
pub(super) fn pop_name(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

fn popped_event(end: End) -> &'static str {
    match end {
        End::Head => "lpop",
        End::Tail => "rpop",
    }
}

fn pushed_event(end: End) -> &'static str {
    match end {
        End::Head => "lpush",
        End::Tail => "rpush",
    }
}
