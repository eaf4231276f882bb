//! ZADD and ZINCRBY, ZREM: members named by the client get scores, or go.

use smallvec::SmallVec;

use crate::commands::Done;
use crate::data::number;
use crate::data::zset::{AddRules, Added};
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

const NX_AND_XX: CommandError =
    CommandError::fixed("ERR XX and NX options at the same time are not compatible");
const NX_GT_LT: CommandError =
    CommandError::fixed("ERR GT, LT, and/or NX options at the same time are not compatible");
const INCR_OF_MANY: CommandError =
    CommandError::fixed("ERR INCR option supports a single increment-element pair");
const NOT_A_NUMBER: CommandError = CommandError::fixed("ERR resulting score is not a number (NaN)");
/// When a set has some billions of members.
const FULL: CommandError = CommandError::fixed("ERR the sorted set has no room for more members");

pub(super) fn zadd(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    add(args, view, reply, AddRules::default())
}

/// ZADD with INCR, as in Redis to the point that an option in the place of the increment is taken for one.
pub(super) fn zincrby(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let rules = AddRules {
        increment: true,
        ..AddRules::default()
    };
    add(args, view, reply, rules)
}

/// What a ZADD did.
#[derive(Default)]
struct Tally {
    added: u64,
    updated: u64,
    /// The score of the last member that the rules let pass.
    score: Option<f64>,
    error: Option<CommandError>,
}

impl Tally {
    fn count(&mut self, added: Added) {
        match added {
            Added::Refused => {}
            Added::NotANumber => self.error = Some(NOT_A_NUMBER),
            Added::NoRoom => self.error = Some(FULL),
            Added::Unchanged(score) => self.score = Some(score),
            Added::Updated(score) => {
                self.updated += 1;
                self.score = Some(score);
            }
            Added::Inserted(score) => {
                self.added += 1;
                self.score = Some(score);
            }
        }
    }

    fn changes(&self) -> u64 {
        self.added + self.updated
    }
}

fn add(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>, rules: AddRules) -> Done {
    let key = args.bytes()?;
    let (rules, counts_changes) = options(args, rules)?;
    let scores = scores(args)?;
    let limits = view.rules().zset;
    let missing = match rules.only_known {
        true => Missing::Skip,
        false => Missing::Create,
    };
    let members = args.rest().skip(1).step_by(2);
    let tally = view.heavy(scores.len(), |view| {
        view.edit_zset(key, missing, |set| {
            let mut tally = Tally::default();
            for (member, &score) in members.zip(&scores) {
                tally.count(set.add(member, score, rules, limits));
            }
            tally
        })
    })?;
    let mut tally = tally.unwrap_or_default();
    // A sum that is no number can only come of INCR, which changes one member or none.
    if let Some(error) = tally.error.take().filter(|_| tally.changes() == 0) {
        return Err(error);
    }
    if tally.changes() > 0 {
        view.effects.dirty += tally.changes();
        let event = if rules.increment { "zincr" } else { "zadd" };
        view.notify(EventClass::ZSET, event, key);
    }
    match (rules.increment, tally.score) {
        (true, Some(score)) => reply.double(score),
        (true, None) => reply.null(),
        (false, _) if counts_changes => reply.integer(tally.changes() as i64),
        (false, _) => reply.integer(tally.added as i64),
    }
    Ok(())
}

/// Takes the options; the rules, and whether CH was among them. What is left is pairs.
fn options(args: &mut Args<'_>, mut rules: AddRules) -> Taken<(AddRules, bool)> {
    let mut counts_changes = false;
    // A digit, sign or point begins a score: most often there are no options.
    while args
        .peek()
        .is_some_and(|word| word.first().is_some_and(u8::is_ascii_alphabetic))
    {
        let option = match () {
            () if args.keyword("NX") => &mut rules.only_new,
            () if args.keyword("XX") => &mut rules.only_known,
            () if args.keyword("GT") => &mut rules.only_greater,
            () if args.keyword("LT") => &mut rules.only_less,
            () if args.keyword("INCR") => &mut rules.increment,
            () if args.keyword("CH") => &mut counts_changes,
            () => break,
        };
        *option = true;
    }
    let words = args.remaining();
    if words == 0 || !words.is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let AddRules {
        only_new,
        only_known,
        only_greater,
        only_less,
        increment,
    } = rules;
    if only_new && only_known {
        return Err(NX_AND_XX);
    }
    if only_new && (only_greater || only_less) || only_greater && only_less {
        return Err(NX_GT_LT);
    }
    if increment && words > 2 {
        return Err(INCR_OF_MANY);
    }
    Ok((rules, counts_changes))
}

fn scores(args: &Args<'_>) -> Taken<SmallVec<[f64; 4]>> {
    let texts = args.rest().step_by(2);
    texts
        .map(|text| number::parse_f64(text).ok_or(CommandError::NotFloat))
        .collect()
}

pub(super) fn zrem(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let members = args.rest();
    let removed = view.heavy(args.remaining(), |view| {
        view.edit_zset(key, Missing::Skip, |set| {
            let mut removed = 0;
            for member in members {
                removed += u64::from(set.remove(member).is_some());
                if set.is_empty() {
                    break;
                }
            }
            removed
        })
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        view.effects.dirty += removed;
        view.notify(EventClass::ZSET, "zrem", key);
    }
    reply.integer(removed as i64);
    Ok(())
}
