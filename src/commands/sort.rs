//! SORT and SORT_RO: the elements of a list, set or sorted set in order, or what their keys hold.
//!
//! BY and GET name keys by patterns: `weight_*` is a string for each element, `object_*->field` a field of a hash. Which
//! keys these are depends on the elements, so they are not in the request: [`reach`] tells dispatch what else has to be
//! locked once the source is, until all of it is held at one instant.
//!
//! Two things keep others from waiting. A large collection that is sorted by its own elements is sorted after its partition
//! is released, from a snapshot. And with LIMIT only the part that is asked for is put in order.
//!
//! Elements of equal weight come in the order of their bytes where weights are numbers, as in Redis. Where weights are texts
//! they stay as they were in the source, as there without LIMIT; those of a set, which has no order, are put in that of
//! their bytes, so that followers that run the same request store the same list.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use super::{Done, Handler};
use crate::data::list::{End, List, Text};
use crate::data::number;
use crate::data::packed::Item;
use crate::data::value::ValueRef;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::Entry;
use crate::keyspace::lock::Plan;
use crate::keyspace::view::{Ttl, View};
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::error::shown;
use crate::table::{
    Args, Category, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope,
};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "sort",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Sorts the elements of a list, set or sorted set; returns or stores them, or what their keys hold.",
            complexity: "O(N+M*log(M)) for M of N elements in order; O(N) without sorting",
            usage: "key [BY pattern:pattern#1] [LIMIT (offset:int count:int)] [GET pattern:pattern#1 ...] order:[ASC|DESC] [sorting=ALPHA] [STORE destination:key#2]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            categories: CATEGORIES,
            keys: &[
                KeySpec::one(1, KeyAccess::RO_ACCESS),
                KeySpec::unknown(KeyAccess::RO_ACCESS).noted(BY_ELEMENTS),
                KeySpec::unknown(KeyAccess::OW_UPDATE)
                    .noted("The destination follows STORE, wherever that stands."),
            ],
            key_function: Some(sort_keys),
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Reach(reach, sort),
    ),
    Row::new(
        Command {
            name: "sort_ro",
            family: Family::Generic,
            since: "7.0.0",
            summary: "Sorts the elements of a list, set or sorted set; returns them, or what their keys hold.",
            complexity: "O(N+M*log(M)) for M of N elements in order; O(N) without sorting",
            usage: "key [BY pattern:pattern#1] [LIMIT (offset:int count:int)] [GET pattern:pattern#1 ...] order:[ASC|DESC] [sorting=ALPHA]",
            flags: Flags::READONLY,
            categories: CATEGORIES,
            keys: &[
                KeySpec::one(1, KeyAccess::RO_ACCESS),
                KeySpec::unknown(KeyAccess::RO_ACCESS).noted(BY_ELEMENTS),
            ],
            key_function: Some(sort_ro_keys),
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Reach(reach_ro, sort_ro),
    ),
];

const CATEGORIES: Category = Category::SET
    .union(Category::SORTEDSET)
    .union(Category::LIST)
    .union(Category::DANGEROUS);
const BY_ELEMENTS: &str = "The keys of BY and GET are named by the elements that are sorted.";

/// Elements from which a collection is sorted after release.
const LATER_MIN: usize = 1_000;

/// Finds the source and the destination as Redis does, which reads options without their order: a destination that is
/// called as an option hides what follows.
fn sort_keys(arguments: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    keys.push((1, KeyAccess::RO_ACCESS));
    let mut store = None;
    let mut position = 2;
    while let Some(word) = arguments.get(position) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        position += match () {
            () if is("LIMIT") => 3,
            () if is("GET") || is("BY") => 2,
            () if is("STORE") && position + 1 < arguments.len() => {
                store = Some(position + 1);
                1
            }
            () => 1,
        };
    }
    keys.extend(store.map(|position| (position, KeyAccess::OW_UPDATE)));
    true
}

fn sort_ro_keys(_: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    keys.push((1, KeyAccess::RO_ACCESS));
    true
}

/// What SORT is asked for.
struct Query<'a> {
    key: &'a [u8],
    by: By<'a>,
    gets: Vec<Get<'a>>,
    offset: i64,
    /// Negative is all.
    count: i64,
    descending: bool,
    /// ALPHA: as texts, not as numbers.
    alpha: bool,
    store: Option<&'a [u8]>,
}

/// What elements are compared by.
enum By<'a> {
    /// Themselves.
    Element,
    /// What their keys hold.
    Pattern(Pattern<'a>),
    /// Nothing: a pattern without a place for the element.
    Nothing,
}

/// What is returned of an element.
enum Get<'a> {
    /// Itself.
    Element,
    /// What its key holds.
    Pattern(Pattern<'a>),
    /// Nothing: a pattern without a place for the element.
    Nothing,
}

/// The name of a key with a place for the element, and maybe of a field.
struct Pattern<'a> {
    before: &'a [u8],
    after: &'a [u8],
    field: Option<&'a [u8]>,
}

impl<'a> Query<'a> {
    fn parse(args: &mut Args<'a>, stores: bool) -> Taken<Query<'a>> {
        let mut query = Query {
            key: args.bytes()?,
            by: By::Element,
            gets: Vec::new(),
            offset: 0,
            count: -1,
            descending: false,
            alpha: false,
            store: None,
        };
        while !args.is_empty() {
            let left = args.remaining();
            if args.keyword("ASC") {
                query.descending = false;
            } else if args.keyword("DESC") {
                query.descending = true;
            } else if args.keyword("ALPHA") {
                query.alpha = true;
            } else if left > 2 && args.keyword("LIMIT") {
                (query.offset, query.count) = (args.integer()?, args.integer()?);
            } else if left > 1 && stores && args.keyword("STORE") {
                query.store = Some(args.bytes()?);
            } else if left > 1 && args.keyword("BY") {
                query.by = match Pattern::parse(args.bytes()?) {
                    // Once there was a pattern of nothing, nothing is sorted.
                    _ if matches!(query.by, By::Nothing) => By::Nothing,
                    Some(pattern) => By::Pattern(pattern),
                    None => By::Nothing,
                };
            } else if left > 1 && args.keyword("GET") {
                query.gets.push(Get::parse(args.bytes()?));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(query)
    }

    /// Refuses patterns where the keys that they make may lie on other nodes.
    fn check_partial(&self, view: &View<'_>) -> Taken<()> {
        if !view.is_partial() {
            return Ok(());
        }
        if matches!(self.by, By::Pattern(_)) {
            return Err(CommandError::fixed(
                "ERR BY option of SORT denied in Cluster mode.",
            ));
        }
        if self.gets.iter().any(|get| matches!(get, Get::Pattern(_))) {
            return Err(CommandError::fixed(
                "ERR GET option of SORT denied in Cluster mode.",
            ));
        }
        Ok(())
    }

    /// Settles what depends on the source: the members of a set have no order that could be stored.
    fn settle(&mut self, source: ValueRef<'_>) {
        if let (ValueRef::Set(_), By::Nothing, Some(_)) = (source, &self.by, self.store) {
            self.by = By::Element;
            self.alpha = true;
        }
    }

    /// The part of `length` elements that LIMIT leaves.
    fn range(&self, length: usize) -> Range<usize> {
        let start = usize::try_from(self.offset.max(0)).map_or(length, |start| start.min(length));
        let most = usize::try_from(self.count).unwrap_or(usize::MAX);
        start..start + most.min(length - start)
    }

    fn is_sorted(&self) -> bool {
        !matches!(self.by, By::Nothing)
    }

    /// The patterns of keys.
    fn patterns(&self) -> impl Iterator<Item = &Pattern<'a>> {
        let by = match &self.by {
            By::Pattern(pattern) => Some(pattern),
            _ => None,
        };
        let gets = self.gets.iter().filter_map(|get| match get {
            Get::Pattern(pattern) => Some(pattern),
            _ => None,
        });
        by.into_iter().chain(gets)
    }

    /// The elements that matter: all in any order, or where nothing is sorted those of the result, in its order.
    fn elements<'v>(&self, source: ValueRef<'v>) -> Box<dyn Iterator<Item = Item<'v>> + 'v> {
        let range = match self.is_sorted() {
            true => 0..source.len(),
            false => self.range(source.len()),
        };
        let backwards = !self.is_sorted() && self.descending;
        let length = source.len();
        let from_behind = length - range.end..length - range.start;
        match source {
            ValueRef::List(list) if backwards => {
                Box::new(list.range_back(from_behind).map(element))
            }
            ValueRef::List(list) => Box::new(list.range(range).map(element)),
            ValueRef::ZSet(zset) if backwards => {
                Box::new(zset.range_back(from_behind).map(|(member, _)| member))
            }
            ValueRef::ZSet(zset) => Box::new(zset.range(range).map(|(member, _)| member)),
            ValueRef::Set(set) => Box::new(set.iter().skip(range.start).take(range.len())),
            ValueRef::String(_) | ValueRef::Hash(_) | ValueRef::Stream(_) => {
                Box::new(std::iter::empty())
            }
        }
    }
}

fn element(element: crate::data::list::Element<'_>) -> Item<'_> {
    match element {
        crate::data::list::Element::Item(item) => item,
        crate::data::list::Element::Large(text) => Item::Bytes(text),
    }
}

impl<'a> Get<'a> {
    fn parse(text: &'a [u8]) -> Get<'a> {
        if text == b"#" {
            return Get::Element;
        }
        Pattern::parse(text).map_or(Get::Nothing, Get::Pattern)
    }
}

impl<'a> Pattern<'a> {
    /// `None` when there is no place for the element.
    fn parse(text: &'a [u8]) -> Option<Pattern<'a>> {
        let place = text.iter().position(|&byte| byte == b'*')?;
        let (before, after) = (&text[..place], &text[place + 1..]);
        let arrow = after.windows(2).position(|pair| pair == b"->");
        // An arrow without a field behind it belongs to the key.
        let split = arrow.filter(|arrow| arrow + 2 < after.len());
        let (after, field) = match split {
            Some(arrow) => (&after[..arrow], Some(&after[arrow + 2..])),
            None => (after, None),
        };
        Some(Pattern {
            before,
            after,
            field,
        })
    }

    /// Writes the key of an element.
    fn key<'b>(&self, element: Item<'_>, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        buffer.clear();
        buffer.extend_from_slice(self.before);
        element.write_to(buffer);
        buffer.extend_from_slice(self.after);
        buffer
    }

    /// What the key of an element holds, or its field.
    fn find<'v>(
        &self,
        element: Item<'_>,
        view: &'v View<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<Item<'v>> {
        let entry = view.lookup(self.key(element, buffer))?;
        match (self.field, entry.value()) {
            (None, ValueRef::String(text)) => Some(Item::Bytes(text)),
            (Some(field), ValueRef::Hash(hash)) => hash.get(field, view.now(), view.hasher()),
            _ => None,
        }
    }
}

fn reach(args: &mut Args<'_>, view: &View<'_>, plan: &mut Plan) {
    reach_for(args, view, plan, true);
}

fn reach_ro(args: &mut Args<'_>, view: &View<'_>, plan: &mut Plan) {
    reach_for(args, view, plan, false);
}

/// Adds the places of the keys that the handler will look up; of all partitions when these are nearly all anyway.
fn reach_for(args: &mut Args<'_>, view: &View<'_>, plan: &mut Plan, stores: bool) {
    let Ok(mut query) = Query::parse(args, stores) else {
        return;
    };
    // The key function may take another argument for the destination.
    plan.extend(query.store.map(|key| view.place(key)));
    let Ok(Some(source)) = sortable(view.peek(query.key)) else {
        return;
    };
    query.settle(source);
    if query.patterns().next().is_none() {
        return;
    }
    let buffer = &mut Vec::new();
    let mut places = view.places();
    for element in query.elements(source) {
        for pattern in query.patterns() {
            places.add(view.place(pattern.key(element, buffer)));
        }
        if places.are_all() {
            break;
        }
    }
    plan.extend(places.iter());
}

/// The elements of an entry that can be sorted.
fn sortable(entry: Option<&Entry>) -> Taken<Option<ValueRef<'_>>> {
    match entry.map(Entry::value) {
        Some(ValueRef::String(_) | ValueRef::Hash(_) | ValueRef::Stream(_)) => {
            Err(CommandError::WrongType)
        }
        source => Ok(source),
    }
}

fn sort(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let mut query = Query::parse(args, true)?;
    query.check_partial(view)?;
    let Some(destination) = query.store else {
        return answer(&mut query, view, reply);
    };
    let list = sorted_list(&mut query, view)?;
    if list.is_empty() {
        if view.remove(destination) {
            view.notify(EventClass::GENERIC, "del", destination);
        }
        reply.integer(0);
        return Ok(());
    }
    let length = list.len();
    let before = view.effects.dirty;
    view.store(destination, list.into(), Ttl::Clear);
    view.effects.dirty = before + length as u64;
    view.notify(EventClass::LIST, "sortstore", destination);
    reply.integer(length as i64);
    Ok(())
}

fn sort_ro(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let mut query = Query::parse(args, false)?;
    query.check_partial(view)?;
    answer(&mut query, view, reply)
}

/// Replies with the result.
fn answer(query: &mut Query<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let entry = view.lookup(query.key);
    let Some(source) = sortable(entry)? else {
        reply.array(0);
        return Ok(());
    };
    query.settle(source);
    let is_plain =
        matches!(query.by, By::Element) && query.gets.iter().all(|get| matches!(get, Get::Element));
    if is_plain
        && source.len() >= LATER_MIN
        && let Some(snapshot) = entry.and_then(Entry::snapshot)
    {
        return answer_later(query, source, snapshot, view);
    }
    view.heavy_read(source.len(), || {
        let items = sorted(query, source, view)?;
        reply.array(items.len() * query.gets.len().max(1));
        let buffer = &mut Vec::new();
        for item in items {
            if query.gets.is_empty() {
                reply.item(item);
            }
            for get in &query.gets {
                match got(get, item, view, buffer) {
                    Some(value) => reply.item(value),
                    None => reply.null(),
                }
            }
        }
        Ok(())
    })
}

/// Sorts a snapshot by its own elements after the partition is released. What can be refused is refused before.
fn answer_later(
    query: &Query<'_>,
    source: ValueRef<'_>,
    snapshot: crate::data::value::Value,
    view: &View<'_>,
) -> Done {
    let range = query.range(source.len());
    let (alpha, descending) = (query.alpha, query.descending);
    let copies = query.gets.len().max(1);
    let scores = match alpha {
        true => Vec::new(),
        false => view.heavy_read(source.len(), || {
            let scores = query.elements(source).map(score);
            scores.collect::<Taken<Vec<f64>>>()
        })?,
    };
    view.after_release(Box::new(move |reply| {
        // The order of a snapshot is that of its source.
        let items = everything(snapshot.view());
        let items = match alpha {
            true => by_text(items.collect(), range, descending),
            false => by_score(scores.into_iter().zip(items).collect(), range, descending),
        };
        reply.array(items.len() * copies);
        for item in items {
            (0..copies).for_each(|_| reply.item(item));
        }
    }));
    Ok(())
}

fn everything<'v>(source: ValueRef<'v>) -> Box<dyn Iterator<Item = Item<'v>> + 'v> {
    match source {
        ValueRef::List(list) => Box::new(list.range(0..list.len()).map(element)),
        ValueRef::ZSet(zset) => Box::new(zset.range(0..zset.len()).map(|(member, _)| member)),
        ValueRef::Set(set) => Box::new(set.iter()),
        ValueRef::String(_) | ValueRef::Hash(_) | ValueRef::Stream(_) => {
            Box::new(std::iter::empty())
        }
    }
}

/// The result as a list.
fn sorted_list(query: &mut Query<'_>, view: &View<'_>) -> Taken<List> {
    let mut list = List::new();
    let Some(source) = sortable(view.lookup(query.key))? else {
        return Ok(list);
    };
    query.settle(source);
    let limits = view.rules().list;
    view.heavy_read(source.len(), || {
        let (text, key) = (&mut itoa::Buffer::new(), &mut Vec::new());
        let mut push = |item: Item<'_>| list.push(End::Tail, Text::Copy(item.text(text)), limits);
        for item in sorted(query, source, view)? {
            if query.gets.is_empty() {
                push(item);
            }
            for get in &query.gets {
                push(got(get, item, view, key).unwrap_or(Item::Bytes(b"")));
            }
        }
        Ok(list)
    })
}

fn got<'v>(
    get: &Get<'_>,
    item: Item<'v>,
    view: &'v View<'_>,
    buffer: &mut Vec<u8>,
) -> Option<Item<'v>> {
    match get {
        Get::Element => Some(item),
        Get::Pattern(pattern) => pattern.find(item, view, buffer),
        Get::Nothing => None,
    }
}

/// The part of the elements that LIMIT leaves, in order.
fn sorted<'v>(query: &Query<'_>, source: ValueRef<'v>, view: &'v View<'_>) -> Taken<Vec<Item<'v>>> {
    let range = query.range(source.len());
    let buffer = &mut Vec::new();
    let items = query.elements(source);
    let descending = query.descending;
    Ok(match (&query.by, query.alpha) {
        (By::Nothing, _) => items.collect(),
        (By::Element, true) => by_text(items.collect(), range, descending),
        (By::Element, false) => {
            let scored = items.map(|item| Ok((score(item)?, item)));
            by_score(scored.collect::<Taken<_>>()?, range, descending)
        }
        (By::Pattern(pattern), false) => {
            let scored = items.map(|item| {
                // Without a weight it counts as 0.
                let weight = pattern.find(item, view, buffer).map_or(Ok(0.0), score)?;
                Ok((weight, item))
            });
            by_score(scored.collect::<Taken<_>>()?, range, descending)
        }
        (By::Pattern(pattern), true) => {
            let weighed = items.map(|item| {
                let weight = pattern.find(item, view, buffer);
                (weight.map(text_of), item)
            });
            let has_no_order = matches!(source, ValueRef::Set(_));
            by_weight(weighed.collect(), range, descending, has_no_order)
        }
    })
}

/// What a text weighs as a number, as `strtod` reads it: up to a NUL, an empty one 0, spaces before the number ignored.
fn score(item: Item<'_>) -> Taken<f64> {
    const NOT_A_SCORE: CommandError =
        CommandError::fixed("ERR One or more scores can't be converted into double");
    let text = match item {
        Item::Int(value) => return Ok(value as f64),
        Item::Bytes(text) => shown(text),
    };
    if text.is_empty() {
        return Ok(0.0);
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().take_while(|byte| is_space(byte)).count();
    number::parse_f64(&text[start..]).ok_or(NOT_A_SCORE)
}

fn text_of(item: Item<'_>) -> Cow<'_, [u8]> {
    match item {
        Item::Bytes(text) => Cow::Borrowed(text),
        Item::Int(_) => Cow::Owned(item.to_vec()),
    }
}

fn compare_texts(left: Item<'_>, right: Item<'_>) -> Ordering {
    match (left, right) {
        (Item::Bytes(left), Item::Bytes(right)) => return left.cmp(right),
        (Item::Int(left), Item::Int(right)) if left == right => return Ordering::Equal,
        _ => {}
    }
    let (mut one, mut other) = (itoa::Buffer::new(), itoa::Buffer::new());
    left.text(&mut one).cmp(right.text(&mut other))
}

fn by_text(mut items: Vec<Item<'_>>, range: Range<usize>, descending: bool) -> Vec<Item<'_>> {
    let part = select(&mut items, range, |left, right| {
        directed(compare_texts(*left, *right), descending)
    });
    items[part].to_vec()
}

fn by_score(
    mut scored: Vec<(f64, Item<'_>)>,
    range: Range<usize>,
    descending: bool,
) -> Vec<Item<'_>> {
    let part = select(&mut scored, range, |left, right| {
        let order = left.0.partial_cmp(&right.0).unwrap_or(Ordering::Equal);
        let order = order.then_with(|| compare_texts(left.1, right.1));
        directed(order, descending)
    });
    scored[part].iter().map(|(_, item)| *item).collect()
}

/// Elements by texts; those without one come first. Of equal ones the first stays first.
fn by_weight<'v>(
    mut weighed: Vec<(Option<Cow<'v, [u8]>>, Item<'v>)>,
    range: Range<usize>,
    descending: bool,
    has_no_order: bool,
) -> Vec<Item<'v>> {
    weighed.sort_by(|left, right| {
        let order = left.0.cmp(&right.0);
        let ties = || match has_no_order {
            true => compare_texts(left.1, right.1),
            false => Ordering::Equal,
        };
        directed(order.then_with(ties), descending)
    });
    weighed[range].iter().map(|(_, item)| *item).collect()
}

fn directed(order: Ordering, descending: bool) -> Ordering {
    if descending { order.reverse() } else { order }
}

/// Puts the part `range` of the sorted order in its place: all in order, or that part alone. Returns the part.
fn select<T>(
    items: &mut [T],
    range: Range<usize>,
    mut compare: impl FnMut(&T, &T) -> Ordering,
) -> Range<usize> {
    let length = items.len();
    if range.is_empty() {
        return range;
    }
    if range.start > 0 {
        items.select_nth_unstable_by(range.start, &mut compare);
    }
    if range.end < length {
        let behind = &mut items[range.start..];
        behind.select_nth_unstable_by(range.len() - 1, &mut compare);
    }
    items[range.clone()].sort_unstable_by(compare);
    range
}

#[cfg(test)]
mod tests;
