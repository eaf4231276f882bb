//! The seven search commands.
//!
//! Options are read in the order in which they stand, each checked at once, the centre's member looked up where it is named:
//! which of several mistakes is told depends on that, and is told as Redis does. A search over many places is made on a
//! snapshot after the partition is released.

use std::cmp::Ordering;
use std::ops::Range;

use smallvec::SmallVec;

use super::{Done, NO_ROOM, number_or, position, unit_named, write_distance, write_position};
use crate::data::geo::{Position, Reach, Search, Shape, centre_of};
use crate::data::packed::Item;
use crate::data::partial_sort::sort_first;
use crate::data::value::Value;
use crate::data::zset::{Aggregate, Collect, Limits, ScoreBound, ZSet, ZSetRef};
use crate::keyspace::effects::EventClass;
use crate::keyspace::view::{Ttl, View};
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError, KeyAccess};

/// How a command names the centre, and what it may do with what it finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// GEORADIUS, and whether it may store.
    Coordinates { stores: bool },
    /// GEORADIUSBYMEMBER, and whether it may store.
    Member { stores: bool },
    /// GEOSEARCH: the centre and the shape are options.
    Search,
    /// GEOSEARCHSTORE: as GEOSEARCH, and the first key is stored to.
    SearchStore,
}

impl Form {
    fn is_search(self) -> bool {
        matches!(self, Form::Search | Form::SearchStore)
    }

    /// Whether STORE and STOREDIST, each with a key, are options.
    fn stores_by_option(self) -> bool {
        matches!(
            self,
            Form::Coordinates { stores: true } | Form::Member { stores: true }
        )
    }
}

pub(super) fn georadius_keys(request: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    stored_keys(request, 6, keys)
}

pub(super) fn georadiusbymember_keys(
    request: &Arguments<'_>,
    keys: &mut Vec<(usize, KeyAccess)>,
) -> bool {
    stored_keys(request, 5, keys)
}

/// The source; the keys behind the first STORE and the first STOREDIST, which Redis announces; and the last of all, which is
/// the one that is written, where somebody gives the options more than once.
fn stored_keys(request: &Arguments<'_>, from: usize, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    let is = |at: usize, word: &str| request[at].eq_ignore_ascii_case(word.as_bytes());
    let has_key = |at: &usize| at + 1 < request.len();
    let first = |word: &str| {
        (from..request.len())
            .filter(has_key)
            .find(|&at| is(at, word))
    };
    let mut last = None;
    let mut at = from;
    while at < request.len() {
        if has_key(&at) && (is(at, "STORE") || is(at, "STOREDIST")) {
            last = Some(at);
            at += 1;
        }
        at += 1;
    }
    keys.push((1, KeyAccess::RO_ACCESS));
    for keyword in [first("STORE"), first("STOREDIST"), last]
        .into_iter()
        .flatten()
    {
        let key = (keyword + 1, KeyAccess::OW_UPDATE);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    true
}

pub(super) fn georadius(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    search_and_store(Form::Coordinates { stores: true }, args, view, reply)
}

pub(super) fn georadius_ro(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    search(Form::Coordinates { stores: false }, key, args, view, reply)
}

pub(super) fn georadiusbymember(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    search_and_store(Form::Member { stores: true }, args, view, reply)
}

pub(super) fn georadiusbymember_ro(
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let key = args.bytes()?;
    search(Form::Member { stores: false }, key, args, view, reply)
}

pub(super) fn geosearch(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    search(Form::Search, key, args, view, reply)
}

pub(super) fn geosearchstore(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    search_and_store(Form::SearchStore, args, view, reply)
}

fn search(
    form: Form,
    key: &[u8],
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let set = view.zset(key)?;
    let request = parse(form, args, set)?;
    show(&request, set, view, reply);
    Ok(())
}

fn search_and_store(
    form: Form,
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let first = args.bytes()?;
    let (destination, key) = match form {
        Form::SearchStore => (Some(first), args.bytes()?),
        _ => (None, first),
    };
    let set = view.zset(key)?;
    let request = parse(form, args, set)?;
    let Some(target) = destination.or(request.store) else {
        show(&request, set, view, reply);
        return Ok(());
    };
    let stored = match (set, &request.search) {
        (Some(set), Some(search)) => {
            let ranks = ranks_of(set, search);
            let limits = view.rules().zset;
            view.heavy_read(work(search, &ranks), || {
                request.result(set, search, &ranks, limits)
            })?
        }
        _ => ZSet::new(),
    };
    let count = stored.len();
    if count > 0 {
        view.store(target, Value::ZSet(stored), Ttl::Clear);
        view.effects.dirty += count as u64 - 1;
        let event = match form {
            Form::SearchStore => "geosearchstore",
            _ => "georadiusstore",
        };
        view.notify(EventClass::ZSET, event, target);
    } else if view.remove(target) {
        view.notify(EventClass::GENERIC, "del", target);
    }
    reply.integer(count as i64);
    Ok(())
}

/// Replies with what is found: at once, or from a snapshot after release when there is much to look through.
fn show(request: &Request<'_>, set: Option<ZSetRef<'_>>, view: &View<'_>, reply: &mut Reply<'_>) {
    let (Some(set), Some(search)) = (set, &request.search) else {
        reply.array(0);
        return;
    };
    let ranks = ranks_of(set, search);
    let work = work(search, &ranks);
    let options = request.options;
    let snapshot = Some(set).filter(|_| work >= SNAPSHOT_MIN);
    match snapshot.map(ZSetRef::snapshot) {
        None => view.heavy_read(work, || show_found(&options, set, search, &ranks, reply)),
        Some(set) => {
            let search = search.clone();
            view.after_release(Box::new(move |reply| {
                show_found(&options, set.view(), &search, &ranks, reply);
            }));
        }
    }
}

/// Places to test from which a search is made after release: about a millisecond of work.
const SNAPSHOT_MIN: usize = 10_000;

fn show_found(
    options: &Options,
    set: ZSetRef<'_>,
    search: &Search,
    ranks: &Ranks,
    reply: &mut Reply<'_>,
) {
    let found = options.found(set, search, ranks);
    let Show {
        distance,
        score,
        position,
    } = options.show;
    let parts = usize::from(distance) + usize::from(score) + usize::from(position);
    let mut buffer = itoa::Buffer::new();
    reply.array(found.len());
    for place in found {
        if parts > 0 {
            reply.array(1 + parts);
        }
        reply.bulk(place.member.text(&mut buffer));
        if distance {
            write_distance(place.distance / search.unit, reply);
        }
        if score {
            reply.integer(place.score as i64);
        }
        if position {
            write_position(place.position, reply);
        }
    }
}

/// What a client asked for.
struct Request<'a> {
    /// None when the centre is a member and there is no set.
    search: Option<Search>,
    /// The key of STORE or STOREDIST.
    store: Option<&'a [u8]>,
    /// Whether scores of what is stored are distances.
    stores_distances: bool,
    options: Options,
}

/// What becomes of the places that are found.
#[derive(Clone, Copy, Default)]
struct Options {
    order: Option<Order>,
    count: Option<usize>,
    /// Whether any places will do, so that the search ends with the last of them.
    any: bool,
    show: Show,
}

#[derive(Clone, Copy)]
enum Order {
    Nearest,
    Farthest,
}

#[derive(Clone, Copy, Default)]
struct Show {
    distance: bool,
    score: bool,
    position: bool,
}

/// A place that was found.
struct Place<'s> {
    member: Item<'s>,
    score: f64,
    position: Position,
    distance: f64,
}

impl Request<'_> {
    /// The set of what is found.
    fn result(
        &self,
        set: ZSetRef<'_>,
        search: &Search,
        ranks: &Ranks,
        limits: Limits,
    ) -> Taken<ZSet> {
        let mut result = Collect::new();
        let mut buffer = itoa::Buffer::new();
        for place in self.options.found(set, search, ranks) {
            let score = if self.stores_distances {
                place.distance / search.unit
            } else {
                place.score
            };
            let has_room = result.combine(place.member.text(&mut buffer), score, Aggregate::Max);
            if !has_room {
                return Err(NO_ROOM);
            }
        }
        Ok(result.finish(limits))
    }
}

impl Options {
    /// The places that are asked for, in order.
    fn found<'s>(&self, set: ZSetRef<'s>, search: &Search, ranks: &Ranks) -> Vec<Place<'s>> {
        let limit = self.count.filter(|_| self.any).unwrap_or(usize::MAX);
        let mut found = places(set, &search.reach(), ranks, limit);
        let wanted = self.count.unwrap_or(usize::MAX).min(found.len());
        // The nearest are meant when a number of them is asked for, but not when any will do.
        let order = self
            .order
            .or((self.count.is_some() && !self.any).then_some(Order::Nearest));
        match order {
            Some(Order::Nearest) => sort(&mut found, wanted, nearer),
            Some(Order::Farthest) => sort(&mut found, wanted, |a, b| nearer(b, a)),
            None => {}
        }
        found.truncate(wanted);
        found
    }
}

/// Redis sorts all with a sort that keeps the order of equal elements, and some with one that does not.
fn sort(
    found: &mut [Place<'_>],
    wanted: usize,
    compare: impl Fn(&Place<'_>, &Place<'_>) -> Ordering,
) {
    if wanted == found.len() {
        found.sort_by(compare);
    } else {
        sort_first(found, wanted, compare);
    }
}

/// The order of distances; what is no number comes first.
fn nearer(a: &Place<'_>, b: &Place<'_>) -> Ordering {
    let order = a.distance.partial_cmp(&b.distance);
    order.unwrap_or_else(|| b.distance.is_nan().cmp(&a.distance.is_nan()))
}

/// The ranks of the members to look through, in the order in which their places are found.
type Ranks = SmallVec<[Range<usize>; 9]>;

fn ranks_of(set: ZSetRef<'_>, search: &Search) -> Ranks {
    let bound = |score, exclusive| ScoreBound { score, exclusive };
    let ranges = search.ranges().into_iter();
    ranges
        .map(|scores| set.score_range(bound(scores.start, false), bound(scores.end, true)))
        .filter(|ranks| !ranks.is_empty())
        .collect()
}

/// How much work a search is: about as many tests of a place against a circle.
fn work(search: &Search, ranks: &Ranks) -> usize {
    let members: usize = ranks.iter().map(ExactSizeIterator::len).sum();
    members.saturating_mul(search.reach().work())
}

/// The places within the shape, up to `limit`, in the order of the ranges.
fn places<'s>(set: ZSetRef<'s>, reach: &Reach<'_>, ranks: &Ranks, limit: usize) -> Vec<Place<'s>> {
    let mut found = Vec::new();
    for range in ranks {
        for (member, score) in set.range(range.clone()) {
            let position = Position::of_score(score);
            if let Some(distance) = reach.distance(position) {
                found.push(Place {
                    member,
                    score,
                    position,
                    distance,
                });
                if found.len() == limit {
                    return found;
                }
            }
        }
    }
    found
}

/// What is collected while options are read.
#[derive(Default)]
struct Parsed<'a> {
    centre: Option<Position>,
    /// FROMMEMBER was given, or FROMLONLAT; the centre is unknown when there is no set to have the member.
    from_member: bool,
    from_position: bool,
    /// The shape and the metres of its unit.
    shape: Option<(Shape, f64)>,
    store: Option<&'a [u8]>,
    stores_distances: bool,
    options: Options,
}

fn parse<'a>(form: Form, args: &mut Args<'a>, set: Option<ZSetRef<'_>>) -> Taken<Request<'a>> {
    let mut parsed = Parsed::default();
    match form {
        Form::Coordinates { .. } => {
            parsed.centre = Some(position(args)?);
            parsed.shape = Some(circle(args)?);
        }
        Form::Member { .. } => {
            let member = args.bytes()?;
            if let Some(set) = set {
                parsed.centre = Some(place_of(set, member)?);
                parsed.shape = Some(circle(args)?);
            } else {
                // As in Redis nobody looks at the distance from a place that is not there.
                let _ = (args.bytes()?, args.bytes()?);
            }
        }
        Form::Search | Form::SearchStore => {}
    }
    while !args.is_empty() {
        option(form, args, set, &mut parsed)?;
    }
    parsed.checked(form, args)
}

/// Takes the next option with its arguments.
fn option<'a>(
    form: Form,
    args: &mut Args<'a>,
    set: Option<ZSetRef<'_>>,
    parsed: &mut Parsed<'a>,
) -> Taken<()> {
    let left = args.remaining() - 1;
    let has_polygon = matches!(parsed.shape, Some((Shape::Polygon { .. }, _)));
    let has_circle = matches!(parsed.shape, Some((Shape::Circle { .. }, _)));
    let has_box = matches!(parsed.shape, Some((Shape::Box { .. }, _)));
    let is_search = form.is_search();
    match () {
        () if args.keyword("WITHDIST") => parsed.options.show.distance = true,
        () if args.keyword("WITHHASH") => parsed.options.show.score = true,
        () if args.keyword("WITHCOORD") => parsed.options.show.position = true,
        () if args.keyword("ANY") => parsed.options.any = true,
        () if args.keyword("ASC") => parsed.options.order = Some(Order::Nearest),
        () if args.keyword("DESC") => parsed.options.order = Some(Order::Farthest),
        () if left >= 1 && args.keyword("COUNT") => {
            let count = args.integer()?;
            let count = usize::try_from(count).ok().filter(|&count| count > 0);
            parsed.options.count = Some(count.ok_or(CommandError::fixed("ERR COUNT must be > 0"))?);
        }
        () if left >= 1 && form.stores_by_option() && args.keyword("STORE") => {
            parsed.store = Some(args.bytes()?);
            parsed.stores_distances = false;
        }
        () if left >= 1 && form.stores_by_option() && args.keyword("STOREDIST") => {
            parsed.store = Some(args.bytes()?);
            parsed.stores_distances = true;
        }
        () if form == Form::SearchStore && args.keyword("STOREDIST") => {
            parsed.stores_distances = true;
        }
        () if left >= 1
            && is_search
            && !parsed.from_position
            && !has_polygon
            && args.keyword("FROMMEMBER") =>
        {
            let member = args.bytes()?;
            parsed.from_member = true;
            if let Some(set) = set {
                parsed.centre = Some(place_of(set, member)?);
            }
        }
        () if left >= 2
            && is_search
            && !parsed.from_member
            && !has_polygon
            && args.keyword("FROMLONLAT") =>
        {
            parsed.centre = Some(position(args)?);
            parsed.from_position = true;
        }
        () if left >= 2 && is_search && !has_box && !has_polygon && args.keyword("BYRADIUS") => {
            parsed.shape = Some(circle(args)?);
        }
        () if left >= 3 && is_search && !has_circle && !has_polygon && args.keyword("BYBOX") => {
            parsed.shape = Some(rectangle(args)?);
        }
        () if left >= 2
            && is_search
            && !has_circle
            && !has_box
            && !parsed.from_member
            && !parsed.from_position
            && args.keyword("BYPOLYGON") =>
        {
            let corners = corners(args)?;
            parsed.centre = Some(centre_of(&corners));
            parsed.shape = Some((Shape::Polygon { corners }, 1.0));
        }
        () => return Err(CommandError::Syntax),
    }
    Ok(())
}

impl<'a> Parsed<'a> {
    /// The request, if its options go together.
    fn checked(self, form: Form, args: &Args<'a>) -> Taken<Request<'a>> {
        let show = self.options.show;
        let stores = self.store.is_some() || form == Form::SearchStore;
        if stores && (show.distance || show.score || show.position) {
            let name = match form {
                Form::SearchStore => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            return Err(CommandError::text_of(format!(
                "ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let is_polygon = matches!(self.shape, Some((Shape::Polygon { .. }, _)));
        if form.is_search() && !(self.from_member || self.from_position || is_polygon) {
            return Err(missing("FROMMEMBER or FROMLONLAT", args));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(missing("BYRADIUS and BYBOX", args));
        }
        if self.options.any && self.options.count.is_none() {
            return Err(CommandError::fixed(
                "ERR the ANY argument requires COUNT argument",
            ));
        }
        let search = self.centre.zip(self.shape);
        Ok(Request {
            search: search.map(|(centre, (shape, unit))| Search {
                centre,
                shape,
                unit,
            }),
            store: self.store,
            stores_distances: self.stores_distances,
            options: self.options,
        })
    }
}

fn missing(which: &str, args: &Args<'_>) -> CommandError {
    let name = args.all().get(0).unwrap_or_default();
    let before = format!("exactly one of {which} can be specified for ");
    CommandError::quoting(&before, name, "")
}

/// Where a member is.
fn place_of(set: ZSetRef<'_>, member: &[u8]) -> Taken<Position> {
    let score = set.score(member);
    score.map(Position::of_score).ok_or(CommandError::fixed(
        "ERR could not decode requested zset member",
    ))
}

/// Takes a radius and its unit.
fn circle(args: &mut Args<'_>) -> Taken<(Shape, f64)> {
    let radius = number_or(args, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(CommandError::fixed("ERR radius cannot be negative"));
    }
    let unit = unit_named(args.bytes()?)?;
    Ok((Shape::Circle { radius }, unit))
}

/// Takes a width, a height and their unit.
fn rectangle(args: &mut Args<'_>) -> Taken<(Shape, f64)> {
    let width = number_or(args, "ERR need numeric width")?;
    let height = number_or(args, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::fixed(
            "ERR height or width cannot be negative",
        ));
    }
    let unit = unit_named(args.bytes()?)?;
    Ok((Shape::Box { width, height }, unit))
}

/// Takes the number of corners, and the corners.
fn corners(args: &mut Args<'_>) -> Taken<Vec<Position>> {
    let count = crate::data::number::parse_i64(args.bytes()?)
        .filter(|count| i32::try_from(*count).is_ok())
        .ok_or(CommandError::fixed("ERR invalid number of vertices"))?;
    let count = usize::try_from(count).unwrap_or(0);
    if count < 3 || count > args.remaining() / 2 {
        return Err(CommandError::fixed(
            "ERR GEOSEARCH BYPOLYGON must have at least 3 vertices",
        ));
    }
    (0..count).map(|_| position(args)).collect()
}
