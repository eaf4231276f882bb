//! Ranges of ranks, scores and bytes: shown, stored, removed.

use std::ops::Range;

use super::{Shown, bounds, read_set};
use crate::commands::Done;
use crate::data::zset::{AddRules, Iter, LexBound, Limits, ScoreBound, ZSet, ZSetRef};
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::Garbage;
use crate::keyspace::view::{Ttl, View};
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

const LIMIT_OF_RANKS: CommandError = CommandError::fixed(
    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
);
const SCORES_BY_LEX: CommandError =
    CommandError::fixed("ERR syntax error, WITHSCORES not supported in combination with BYLEX");

/// What ends of a range mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// What a command of the family leaves to its options.
#[derive(Clone, Copy, Default)]
struct Form {
    by: Option<By>,
    reverse: Option<bool>,
    stores: bool,
}

/// Both ends of a range.
#[derive(Clone, Copy)]
enum Ends<'a> {
    Ranks(i64, i64),
    Scores(ScoreBound, ScoreBound),
    Texts(LexBound<'a>, LexBound<'a>),
}

/// A range as a client asks for it.
#[derive(Clone, Copy)]
struct Query<'a> {
    ends: Ends<'a>,
    reverse: bool,
    /// LIMIT.
    offset: i64,
    count: i64,
    shown: Shown,
}

impl<'a> Query<'a> {
    /// Takes the ends and the options. The options come first in what is refused, as in Redis.
    fn parse(args: &mut Args<'a>, form: Form) -> Taken<Query<'a>> {
        let (start, stop) = (args.bytes()?, args.bytes()?);
        let Form {
            mut by,
            mut reverse,
            stores,
        } = form;
        let (mut offset, mut count, mut with_scores) = (0, -1, false);
        while !args.is_empty() {
            if !stores && args.keyword("WITHSCORES") {
                with_scores = true;
            } else if args.remaining() > 2 && args.keyword("LIMIT") {
                (offset, count) = (args.integer()?, args.integer()?);
            } else if reverse.is_none() && args.keyword("REV") {
                reverse = Some(true);
            } else if by.is_none() && args.keyword("BYLEX") {
                by = Some(By::Lex);
            } else if by.is_none() && args.keyword("BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if count != -1 && by == By::Rank {
            return Err(LIMIT_OF_RANKS);
        }
        if with_scores && by == By::Lex {
            return Err(SCORES_BY_LEX);
        }
        Ok(Query {
            ends: Ends::parse(by, reverse, start, stop)?,
            reverse,
            offset,
            count,
            shown: Shown::with_scores(with_scores),
        })
    }

    /// The ranks of the members of a set that are in the range, upwards.
    fn ranks(&self, set: ZSetRef<'_>) -> Range<usize> {
        let ranks = self.ends.ranks(set, self.reverse);
        match self.ends {
            Ends::Ranks(..) => ranks,
            _ => bounds::limited(ranks, self.offset, self.count, self.reverse),
        }
    }

    /// Shows members of a set: when they are many, of a snapshot and after release.
    fn show(&self, set: ZSetRef<'_>, view: &View<'_>, reply: &mut Reply<'_>) {
        let ranks = self.ranks(set);
        let (reverse, shown) = (self.reverse, self.shown);
        read_set(set, ranks.len(), view, reply, move |set, reply| {
            shown.all(members(set, ranks, reverse), reply);
        });
    }
}

impl<'a> Ends<'a> {
    /// `reverse` names the upper end first, where ends are not ranks.
    fn parse(by: By, reverse: bool, start: &'a [u8], stop: &'a [u8]) -> Taken<Ends<'a>> {
        let (min, max) = if reverse {
            (stop, start)
        } else {
            (start, stop)
        };
        Ok(match by {
            By::Rank => Ends::Ranks(integer(start)?, integer(stop)?),
            By::Score => {
                let (min, max) = bounds::scores(min, max)?;
                Ends::Scores(min, max)
            }
            By::Lex => {
                let (min, max) = bounds::texts(min, max)?;
                Ends::Texts(min, max)
            }
        })
    }

    fn ranks(&self, set: ZSetRef<'_>, reverse: bool) -> Range<usize> {
        match *self {
            Ends::Ranks(start, stop) => {
                let ranks = bounds::ranks(start, stop, set.len());
                match reverse {
                    true => bounds::mirrored(ranks, set.len()),
                    false => ranks,
                }
            }
            Ends::Scores(min, max) => set.score_range(min, max),
            Ends::Texts(min, max) => set.lex_range(min, max, reverse),
        }
    }
}

fn integer(text: &[u8]) -> Taken<i64> {
    crate::data::number::parse_i64(text).ok_or(CommandError::NotInteger)
}

/// The members in a range of ranks, from its upper end when `reverse`.
fn members(set: ZSetRef<'_>, ranks: Range<usize>, reverse: bool) -> Iter<'_> {
    match reverse {
        true => set.range_back(ranks),
        false => set.range(ranks),
    }
}

fn show_range(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>, form: Form) -> Done {
    let key = args.bytes()?;
    let query = Query::parse(args, form)?;
    match view.zset(key)? {
        Some(set) => query.show(set, view, reply),
        None => reply.array(0),
    }
    Ok(())
}

const fn form(by: By, reverse: bool) -> Form {
    Form {
        by: Some(by),
        reverse: Some(reverse),
        stores: false,
    }
}

pub(super) fn zrange(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    show_range(args, view, reply, Form::default())
}

pub(super) fn zrevrange(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    show_range(args, view, reply, form(By::Rank, true))
}

pub(super) fn zrangebyscore(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    show_range(args, view, reply, form(By::Score, false))
}

pub(super) fn zrevrangebyscore(
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    show_range(args, view, reply, form(By::Score, true))
}

pub(super) fn zrangebylex(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    show_range(args, view, reply, form(By::Lex, false))
}

pub(super) fn zrevrangebylex(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    show_range(args, view, reply, form(By::Lex, true))
}

pub(super) fn zrangestore(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let (destination, source) = (args.bytes()?, args.bytes()?);
    let form = Form {
        stores: true,
        ..Form::default()
    };
    let query = Query::parse(args, form)?;
    let limits = view.rules().zset;
    let result = match view.zset(source)? {
        None => ZSet::new(),
        Some(set) => {
            let ranks = query.ranks(set);
            // As in Redis, where only the number of ranks is known before.
            let result = match query.ends {
                Ends::Ranks(..) => ZSet::expecting(ranks.len(), limits),
                _ => ZSet::new(),
            };
            let members = members(set, ranks, query.reverse);
            view.heavy_read(members.len(), || with_members(result, members, limits))
        }
    };
    store(destination, result, "zrangestore", view, reply);
    Ok(())
}

/// An empty set that gets the members of another in the order in which that shows them: where it stops being packed decides
/// which scores of -0 become 0.
fn with_members(mut part: ZSet, members: Iter<'_>, limits: Limits) -> ZSet {
    let mut buffer = itoa::Buffer::new();
    for (member, score) in members {
        part.add(member.text(&mut buffer), score, AddRules::default(), limits);
    }
    part
}

/// Puts a result in the place of what is at a key, and replies with its length.
pub(super) fn store(
    key: &[u8],
    result: ZSet,
    event: &'static str,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) {
    let len = result.len();
    if len == 0 {
        if view.remove(key) {
            view.notify(EventClass::GENERIC, "del", key);
        }
    } else {
        view.store(key, result.into(), Ttl::Clear);
        view.notify(EventClass::ZSET, event, key);
    }
    reply.integer(len as i64);
}

fn remove_range(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
    by: By,
    event: &'static str,
) -> Done {
    let (key, start, stop) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let ends = Ends::parse(by, false, start, stop)?;
    let set = view.zset_for_write(key)?;
    let ranks = set.map_or(0..0, |set| ends.ranks(set, false));
    let removed = ranks.len();
    if removed > 0 {
        let remains = view.heavy(removed, |view| {
            view.edit_zset(key, Missing::Skip, |set| set.remove_range(ranks))
        })?;
        view.effects
            .discard(remains.flatten().map(Garbage::Remains));
        view.effects.dirty += removed as u64;
        view.notify(EventClass::ZSET, event, key);
    }
    reply.integer(removed as i64);
    Ok(())
}

pub(super) fn zremrangebyrank(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    remove_range(args, view, reply, By::Rank, "zremrangebyrank")
}

pub(super) fn zremrangebyscore(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    remove_range(args, view, reply, By::Score, "zremrangebyscore")
}

pub(super) fn zremrangebylex(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    remove_range(args, view, reply, By::Lex, "zremrangebylex")
}
