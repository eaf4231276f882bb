//! HRANDFIELD: fields chosen by chance.
//!
//! Expired fields that nobody has removed yet must not be drawn. Where there are any, a draw is repeated until it meets a
//! field that is there; when most are expired, those that are there are gathered first.

use super::read;
use crate::base::clock::Millis;
use crate::base::rng::Rng;
use crate::commands::Done;
use crate::commands::{BULK_BYTES, COUNT_OUT_OF_RANGE, LATER_ELEMENTS, LOWEST_COUNT};
use crate::data::hash::HashRef;
use crate::data::packed::Item;
use crate::keyspace::hash::KeyHasher;
use crate::keyspace::view::View;
use crate::resp::reply::{Protocol, Reply};
use crate::table::{Args, CommandError};

/// Draws that meet an expired field before those that are there are gathered.
const DRAWS: usize = 32;

type Field<'a> = (Item<'a>, Item<'a>);

/// One field, or several: different ones for a positive count, any for a negative one.
pub(super) fn hrandfield(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (now, hasher) = (view.now(), view.hasher());
    if args.is_empty() {
        let hash = view.hash(key)?;
        let drawn = hash.and_then(|hash| Draws::new(hash, now, hasher).next(view.rng()));
        match drawn {
            Some((field, _)) => reply.item(field),
            None => reply.null(),
        }
        return Ok(());
    }
    let (count, values) = wanted(args)?;
    let hash = view.hash(key)?;
    let Some(hash) = hash.filter(|_| count != 0) else {
        reply.array(0);
        return Ok(());
    };
    // The work may go on after release, where the server's own chance is not at hand.
    let rng = Rng::seeded(view.rng().bits());
    let number = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count > 0 {
        read(view, hash, reply, move |hash, hasher, reply| {
            different(hash, number, values, (now, hasher, &rng), reply);
        });
        return Ok(());
    }
    check_repeated(
        hash,
        count.unsigned_abs(),
        values,
        view.rules().max_string_bytes,
    )?;
    let draw = move |hash: HashRef<'_>, hasher: &KeyHasher, reply: &mut Reply<'_>| {
        let mut draws = Draws::new(hash, now, hasher);
        let mut drawn = (0..number).map_while(|_| draws.next(&rng)).peekable();
        let is_empty = drawn.peek().is_none();
        begin(if is_empty { 0 } else { number }, values, reply);
        drawn.for_each(|field| reply_one(field, values, reply));
    };
    if number < LATER_ELEMENTS {
        draw(hash, hasher, reply);
    } else {
        let (hash, hasher) = (hash.snapshot(), hasher.clone());
        view.after_release(Box::new(move |reply| draw(hash.view(), &hasher, reply)));
    }
    Ok(())
}

/// `count [WITHVALUES]`
fn wanted(args: &mut Args<'_>) -> Result<(i64, bool), CommandError> {
    let count = args.integer()?;
    if count == i64::MIN {
        return Err(LOWEST_COUNT);
    }
    let values = args.keyword("WITHVALUES");
    args.end()?;
    if values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(COUNT_OUT_OF_RANGE);
    }
    Ok((count, values))
}

/// Refuses a number of draws whose reply would be longer than the longest string: Redis would write it until memory ends.
fn check_repeated(
    hash: HashRef<'_>,
    count: u64,
    values: bool,
    limit: usize,
) -> Result<(), CommandError> {
    let bulks = if values { 2 } else { 1 };
    let average = hash.average_bytes() as u64 + bulks * BULK_BYTES as u64;
    let is_allowed = count.saturating_mul(average) <= limit as u64;
    is_allowed.then_some(()).ok_or(COUNT_OUT_OF_RANGE)
}

fn different(
    hash: HashRef<'_>,
    count: usize,
    values: bool,
    (now, hasher, rng): (Millis, &KeyHasher, &Rng),
    reply: &mut Reply<'_>,
) {
    if hash.is_all_live(now) {
        begin(count.min(hash.len()), values, reply);
        hash.sample(count, rng, |field, value| {
            reply_one((field, value), values, reply);
        });
        return;
    }
    let mut live: Vec<Field<'_>> = hash.live(now, hasher).collect();
    let count = count.min(live.len());
    // As far as is needed, it is shuffled.
    for index in 0..count {
        let other = index + rng.below((live.len() - index) as u64) as usize;
        live.swap(index, other);
    }
    live.truncate(count);
    begin(count, values, reply);
    for field in live {
        reply_one(field, values, reply);
    }
}

/// Draws fields that have not expired, each time any of them with the same chance.
struct Draws<'a, 'h> {
    hash: HashRef<'a>,
    now: Millis,
    hasher: &'h KeyHasher,
    all_live: bool,
    /// Those that are there, once most draws meet others.
    gathered: Option<Vec<Field<'a>>>,
}

impl<'a, 'h> Draws<'a, 'h> {
    fn new(hash: HashRef<'a>, now: Millis, hasher: &'h KeyHasher) -> Draws<'a, 'h> {
        Draws {
            hash,
            now,
            hasher,
            all_live: hash.is_all_live(now),
            gathered: None,
        }
    }

    fn next(&mut self, rng: &Rng) -> Option<Field<'a>> {
        if self.all_live {
            return self.hash.random(rng);
        }
        if self.gathered.is_none() {
            let is_live = |(field, _): &Field<'_>| {
                let mut buffer = itoa::Buffer::new();
                self.hash
                    .contains(field.text(&mut buffer), self.now, self.hasher)
            };
            let mut draws = (0..DRAWS).filter_map(|_| self.hash.random(rng));
            if let Some(drawn) = draws.find(is_live) {
                return Some(drawn);
            }
        }
        let live = || self.hash.live(self.now, self.hasher).collect();
        let gathered = self.gathered.get_or_insert_with(live);
        let number = rng.below(gathered.len().max(1) as u64) as usize;
        gathered.get(number).copied()
    }
}

/// The header: fields and values alternate in RESP2, and are pairs in RESP3.
fn begin(count: usize, values: bool, reply: &mut Reply<'_>) {
    let is_flat = values && reply.protocol() == Protocol::Resp2;
    reply.array(if is_flat { 2 * count } else { count });
}

fn reply_one((field, value): Field<'_>, values: bool, reply: &mut Reply<'_>) {
    if values && reply.protocol() != Protocol::Resp2 {
        reply.array(2);
    }
    reply.item(field);
    if values {
        reply.item(value);
    }
}
