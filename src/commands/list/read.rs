//! LLEN, LINDEX, LRANGE, LPOS.

use crate::commands::LOWEST_COUNT;
use std::ops::Range;

use crate::commands::Done;
use crate::data::list::{Element, End, ListRef};
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// From what cost ([`ListRef::writing_cost`]) on the reply is written after release: about 50 us of work.
const LATER_BYTES: usize = 256 * 1024;

/// Elements from which a search goes on after release: about 50 us of work.
const LATER_ELEMENTS: usize = 16 * 1024;

pub(super) fn llen(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let length = view.list(args.bytes()?)?.map_or(0, ListRef::len);
    reply.integer(length as i64);
    Ok(())
}

pub(super) fn lindex(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let Some(list) = view.list(args.bytes()?)? else {
        reply.null();
        return Ok(());
    };
    // The index of a missing list is not looked at.
    let index = place(args.integer()?, list.len());
    match index.and_then(|index| list.get(index)) {
        Some(element) => write(reply, element),
        None => reply.null(),
    }
    Ok(())
}

pub(super) fn lrange(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (start, stop) = (args.integer()?, args.integer()?);
    let Some(list) = view.list(key)? else {
        reply.array(0);
        return Ok(());
    };
    let range = range(start, stop, list.len());
    if list.writing_cost(range.len()) >= LATER_BYTES {
        let snapshot = list.snapshot();
        view.after_release(Box::new(move |reply| {
            write_range(reply, snapshot.view(), range);
        }));
    } else {
        write_range(reply, list, range);
    }
    Ok(())
}

/// What LPOS looks for.
#[derive(Clone, Copy)]
struct Search {
    /// From which end it goes.
    from: End,
    /// Matches to be passed over.
    skip: u64,
    /// How many are told; without COUNT one, and not as an array.
    count: Option<usize>,
    /// How many elements are looked at.
    limit: usize,
}

impl Search {
    fn parse(args: &mut Args<'_>) -> Taken<Search> {
        let mut search = Search {
            from: End::Head,
            skip: 0,
            count: None,
            limit: usize::MAX,
        };
        while !args.is_empty() {
            // An option without its value is as unknown as any.
            let has_value = args.remaining() > 1;
            if has_value && args.keyword("RANK") {
                let rank = args.integer()?;
                search.from = if rank < 0 { End::Tail } else { End::Head };
                search.skip = match rank {
                    0 => return Err(RANK_ZERO),
                    i64::MIN => return Err(LOWEST_COUNT),
                    _ => rank.unsigned_abs() - 1,
                };
            } else if has_value && args.keyword("COUNT") {
                let count = not_negative(args, NEGATIVE_COUNT)?;
                search.count = Some(if count == 0 { usize::MAX } else { count });
            } else if has_value && args.keyword("MAXLEN") {
                let limit = not_negative(args, NEGATIVE_MAXLEN)?;
                search.limit = if limit == 0 { usize::MAX } else { limit };
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(search)
    }

    fn nothing(self, reply: &mut Reply<'_>) {
        match self.count {
            Some(_) => reply.array(0),
            None => reply.null(),
        }
    }

    fn run(self, list: ListRef<'_>, element: &[u8], reply: &mut Reply<'_>) {
        let mut skip = self.skip;
        let mut is_match = move || {
            let wanted = skip == 0;
            skip = skip.saturating_sub(1);
            wanted
        };
        let Some(count) = self.count else {
            let mut first = None;
            list.positions(element, self.from, self.limit, |index| {
                first = is_match().then_some(index);
                first.is_none()
            });
            return match first {
                Some(index) => reply.integer(index as i64),
                None => reply.null(),
            };
        };
        let begun = reply.deferred();
        let mut found = 0;
        list.positions(element, self.from, self.limit, |index| {
            if is_match() {
                reply.integer(index as i64);
                found += 1;
            }
            found < count
        });
        reply.set_array(begun, found);
    }
}

const RANK_ZERO: CommandError = CommandError::fixed(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end \
     of the list",
);
const NEGATIVE_COUNT: CommandError = CommandError::fixed("ERR COUNT can't be negative");
const NEGATIVE_MAXLEN: CommandError = CommandError::fixed("ERR MAXLEN can't be negative");

/// Takes a number that is not negative; whatever is wrong with it gets the same refusal.
fn not_negative(args: &mut Args<'_>, refusal: CommandError) -> Taken<usize> {
    let number = args.integer().ok();
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or(refusal)
}

pub(super) fn lpos(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, element) = (args.bytes()?, args.bytes()?);
    let search = Search::parse(args)?;
    let Some(list) = view.list(key)? else {
        search.nothing(reply);
        return Ok(());
    };
    if list.len().min(search.limit) >= LATER_ELEMENTS {
        let (snapshot, element) = (list.snapshot(), element.to_vec());
        view.after_release(Box::new(move |reply| {
            search.run(snapshot.view(), &element, reply);
        }));
    } else {
        search.run(list, element, reply);
    }
    Ok(())
}

/// The place that an index means in a list of so many elements: a negative one counts from the end.
pub(super) fn place(index: i64, length: usize) -> Option<usize> {
    let place = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    (place < length).then_some(place)
}

/// The places from one index to another, both included, as far as they are within a list of so many elements.
pub(super) fn range(start: i64, stop: i64, length: usize) -> Range<usize> {
    let place = |index: i64| match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    };
    let start = place(start).unwrap_or(0);
    let end = place(stop).map_or(0, |stop| length.min(stop.saturating_add(1)));
    if start < end { start..end } else { 0..0 }
}

/// Writes an element; a large one is shared.
#[inline]
pub(super) fn write(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Item(item) => reply.bulk(item.text(&mut itoa::Buffer::new())),
        Element::Large(text) => reply.bulk_shared(text.clone()),
    }
}

/// Writes the elements of a range as an array.
pub(super) fn write_range(reply: &mut Reply<'_>, list: ListRef<'_>, range: Range<usize>) {
    reply.array(range.len());
    list.range(range).for_each(|element| write(reply, element));
}
