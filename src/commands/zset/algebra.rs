//! What several sorted sets have together, in common, or alone. Plain sets take part; their members have the score 1.
//!
//! As in Redis scores are joined in the order of the sets' sizes, the smallest first, since a sum of doubles depends on the
//! order: sets of equal size keep that of the arguments.

use smallvec::SmallVec;

use super::range::store;
use super::{Shown, is_for_later};
use crate::base::hash::KeyHasher;
use crate::commands::Done;
use crate::data::number;
use crate::data::packed::Item;
use crate::data::set::SetRef;
use crate::data::value::{Value, ValueRef};
use crate::data::zset::{Aggregate, Collect, ZSetRef, weighted};
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// What is asked of the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// Where the result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Into the reply.
    Show,
    /// To a key.
    Store,
    /// Its length into the reply.
    Count,
}

/// What a key holds.
#[derive(Clone, Copy)]
enum Source<'a> {
    Nothing,
    Plain(SetRef<'a>),
    Scored(ZSetRef<'a>),
}

/// A set that takes part, with its weight.
#[derive(Clone, Copy)]
struct Input<'a> {
    source: Source<'a>,
    weight: f64,
}

/// The inputs and options of a command.
struct Query<'a> {
    inputs: SmallVec<[Input<'a>; 4]>,
    aggregate: Aggregate,
    shown: Shown,
    /// Where ZINTERCARD stops counting.
    limit: usize,
}

impl<'a> Source<'a> {
    fn of(key: &[u8], view: &'a View<'_>) -> Taken<Source<'a>> {
        match view.lookup(key).map(|entry| entry.value()) {
            None => Ok(Source::Nothing),
            Some(ValueRef::Set(set)) => Ok(Source::Plain(set)),
            Some(ValueRef::ZSet(set)) => Ok(Source::Scored(set)),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    fn of_value(value: Option<&'a Value>) -> Source<'a> {
        match value {
            Some(Value::Set(set)) => Source::Plain(set.view()),
            Some(Value::ZSet(set)) => Source::Scored(set.view()),
            _ => Source::Nothing,
        }
    }

    fn snapshot(self) -> Option<Value> {
        match self {
            Source::Nothing => None,
            Source::Plain(set) => Some(Value::Set(set.snapshot())),
            Source::Scored(set) => Some(Value::ZSet(set.snapshot())),
        }
    }

    fn len(self) -> usize {
        match self {
            Source::Nothing => 0,
            Source::Plain(set) => set.len(),
            Source::Scored(set) => set.len(),
        }
    }

    fn score(self, member: Item<'_>, hasher: &KeyHasher) -> Option<f64> {
        match self {
            Source::Nothing => None,
            Source::Plain(set) => set.contains(member, hasher).then_some(1.0),
            Source::Scored(set) => set.score(member.text(&mut itoa::Buffer::new())),
        }
    }

    /// Visits all members until `visit` says no.
    fn all(self, mut visit: impl FnMut(Item<'a>, f64) -> bool) {
        match self {
            Source::Nothing => {}
            Source::Plain(set) => {
                set.iter().all(|member| visit(member, 1.0));
            }
            Source::Scored(set) => {
                let mut members = set.range(0..set.len());
                members.all(|(member, score)| visit(member, score));
            }
        }
    }
}

impl<'a> Query<'a> {
    /// Takes `numkeys key ..` and the options. Keys of other types come first in what is refused, as in Redis.
    fn parse(
        args: &mut Args<'_>,
        view: &'a View<'_>,
        command: &str,
        operation: Operation,
        form: Form,
    ) -> Taken<Query<'a>> {
        let count = args.integer()?;
        if count < 1 {
            return Err(CommandError::text_of(format!(
                "ERR at least 1 input key is needed for '{command}' command"
            )));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > args.remaining() {
            return Err(CommandError::Syntax);
        }
        let mut query = Query {
            inputs: SmallVec::with_capacity(count),
            aggregate: Aggregate::Sum,
            shown: Shown::Members,
            limit: usize::MAX,
        };
        for _ in 0..count {
            query.inputs.push(Input {
                source: Source::of(args.bytes()?, view)?,
                weight: 1.0,
            });
        }
        while !args.is_empty() {
            query.option(args, operation, form)?;
        }
        if operation != Operation::Difference {
            query.inputs.sort_by_key(|input| input.source.len());
        }
        Ok(query)
    }

    fn option(&mut self, args: &mut Args<'_>, operation: Operation, form: Form) -> Taken<()> {
        let joins_scores = operation != Operation::Difference && form != Form::Count;
        if joins_scores && args.remaining() > self.inputs.len() && args.keyword("WEIGHTS") {
            const NOT_A_FLOAT: CommandError =
                CommandError::fixed("ERR weight value is not a float");
            for input in &mut self.inputs {
                input.weight = number::parse_f64(args.bytes()?).ok_or(NOT_A_FLOAT)?;
            }
        } else if joins_scores && args.remaining() > 1 && args.keyword("AGGREGATE") {
            self.aggregate = match () {
                () if args.keyword("SUM") => Aggregate::Sum,
                () if args.keyword("MIN") => Aggregate::Min,
                () if args.keyword("MAX") => Aggregate::Max,
                () => return Err(CommandError::Syntax),
            };
        } else if form == Form::Show && args.keyword("WITHSCORES") {
            self.shown = Shown::WithScores;
        } else if form == Form::Count && args.remaining() > 1 && args.keyword("LIMIT") {
            const NEGATIVE: CommandError = CommandError::fixed("ERR LIMIT can't be negative");
            let limit = number::parse_i64(args.bytes()?);
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            self.limit = match limit.ok_or(NEGATIVE)? {
                0 => usize::MAX,
                limit => limit,
            };
        } else {
            return Err(CommandError::Syntax);
        }
        Ok(())
    }

    /// Members of all inputs together.
    fn len(&self) -> usize {
        let lengths = self.inputs.iter().map(|input| input.source.len());
        lengths.fold(0, usize::saturating_add)
    }

    /// How many members are visited or looked up.
    fn work(&self, operation: Operation) -> usize {
        match operation {
            Operation::Union => self.len(),
            Operation::Intersection | Operation::Difference => {
                let first = self.inputs.first();
                first.map_or(0, |first| {
                    first.source.len().saturating_mul(self.inputs.len())
                })
            }
        }
    }

    fn collect(&self, operation: Operation, hasher: &KeyHasher) -> Taken<Collect> {
        let mut result = Collect::new();
        let mut buffer = itoa::Buffer::new();
        let mut has_room = true;
        match operation {
            Operation::Union => {
                for Input { source, weight } in &self.inputs {
                    source.all(|member, score| {
                        let (text, score) = (member.text(&mut buffer), weighted(score, *weight));
                        has_room &= result.combine(text, score, self.aggregate);
                        has_room
                    });
                }
            }
            Operation::Intersection => self.intersect(hasher, |member, score| {
                has_room &= result.insert(member.text(&mut buffer), score);
                has_room
            }),
            Operation::Difference => self.subtract(hasher, |member, score| {
                has_room &= result.insert(member.text(&mut buffer), score);
                has_room
            }),
        }
        match has_room {
            true => Ok(result),
            false => Err(CommandError::fixed(
                "ERR the result has more members than a sorted set has room for",
            )),
        }
    }

    /// Visits the members that all inputs have, with their joined scores, until `visit` says no.
    fn intersect(&self, hasher: &KeyHasher, mut visit: impl FnMut(Item<'a>, f64) -> bool) {
        let Some((smallest, others)) = self.inputs.split_first() else {
            return;
        };
        smallest.source.all(|member, score| {
            let mut joined = weighted(score, smallest.weight);
            for Input { source, weight } in others {
                let Some(score) = source.score(member, hasher) else {
                    return true;
                };
                // Not `weighted`: a product that is no number makes the sum one too, which then is 0.
                joined = self.aggregate.apply(joined, score * weight);
            }
            visit(member, joined)
        });
    }

    /// Visits the members of the first input that no other has, until `visit` says no.
    fn subtract(&self, hasher: &KeyHasher, mut visit: impl FnMut(Item<'a>, f64) -> bool) {
        let Some((first, others)) = self.inputs.split_first() else {
            return;
        };
        first.source.all(|member, score| {
            let has = |input: &Input<'_>| input.source.score(member, hasher).is_some();
            others.iter().any(has) || visit(member, score)
        });
    }
}

/// Writes the reply that `write` makes of a query: at once, or after release when it is much work.
fn answer(
    query: Query<'_>,
    operation: Operation,
    view: &View<'_>,
    reply: &mut Reply<'_>,
    write: impl FnOnce(&Query<'_>, &KeyHasher, &mut Reply<'_>) + Send + 'static,
) {
    let work = query.work(operation);
    if !is_for_later(work, query.len()) {
        return view.heavy_read(work, || write(&query, view.hasher(), reply));
    }
    let hasher = view.hasher().clone();
    let Query {
        inputs,
        aggregate,
        shown,
        limit,
    } = query;
    let held: Vec<(Option<Value>, f64)> = inputs
        .into_iter()
        .map(|input| (input.source.snapshot(), input.weight))
        .collect();
    view.after_release(Box::new(move |reply| {
        let inputs = held.iter().map(|(value, weight)| Input {
            source: Source::of_value(value.as_ref()),
            weight: *weight,
        });
        let query = Query {
            inputs: inputs.collect(),
            aggregate,
            shown,
            limit,
        };
        write(&query, &hasher, reply);
    }));
}

fn show(
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
    command: &str,
    operation: Operation,
) -> Done {
    let query = Query::parse(args, view, command, operation, Form::Show)?;
    answer(
        query,
        operation,
        view,
        reply,
        move |query, hasher, reply| {
            let result = match query.collect(operation, hasher) {
                Ok(result) => result.sorted(),
                Err(error) => return reply.error(&error.text()),
            };
            let members = result.iter();
            query.shown.header(members.len(), reply);
            members.for_each(|(member, score)| {
                query.shown.member(Item::Bytes(member), score, reply);
            });
        },
    );
    Ok(())
}

fn store_result(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
    command: &'static str,
    operation: Operation,
) -> Done {
    let destination = args.bytes()?;
    let limits = view.rules().zset;
    let result = {
        let query = Query::parse(args, view, command, operation, Form::Store)?;
        view.heavy_read(query.work(operation), || {
            let result = query.collect(operation, view.hasher())?;
            Ok::<_, CommandError>(result.finish(limits))
        })?
    };
    store(destination, result, command, view, reply);
    Ok(())
}

pub(super) fn zunion(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    show(args, view, reply, "zunion", Operation::Union)
}

pub(super) fn zinter(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    show(args, view, reply, "zinter", Operation::Intersection)
}

pub(super) fn zdiff(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    show(args, view, reply, "zdiff", Operation::Difference)
}

pub(super) fn zunionstore(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    store_result(args, view, reply, "zunionstore", Operation::Union)
}

pub(super) fn zinterstore(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    store_result(args, view, reply, "zinterstore", Operation::Intersection)
}

pub(super) fn zdiffstore(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    store_result(args, view, reply, "zdiffstore", Operation::Difference)
}

pub(super) fn zintercard(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let operation = Operation::Intersection;
    let query = Query::parse(args, view, "zintercard", operation, Form::Count)?;
    answer(query, operation, view, reply, |query, hasher, reply| {
        let mut count = 0;
        query.intersect(hasher, |_, _| {
            count += 1;
            count < query.limit
        });
        reply.integer(count as i64);
    });
    Ok(())
}
