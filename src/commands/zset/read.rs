//! One set read: by member, counted, sampled, scanned.

use super::{Shown, bounds, read_set};
use crate::base::rng::Rng;
use crate::commands::{BULK_BYTES, COUNT_OUT_OF_RANGE, LOWEST_COUNT};
use crate::commands::{Done, scan};
use crate::data::number;
use crate::data::sample;
use crate::data::zset::ZSetRef;
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::{Args, CommandError};

pub(super) fn zcard(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let set = view.zset(args.bytes()?)?;
    reply.integer(set.map_or(0, ZSetRef::len) as i64);
    Ok(())
}

pub(super) fn zscore(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let set = view.zset(args.bytes()?)?;
    let member = args.bytes()?;
    write_score(set.and_then(|set| set.score(member)), reply);
    Ok(())
}

pub(super) fn zmscore(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let set = view.zset(args.bytes()?)?;
    reply.array(args.remaining());
    view.heavy_read(args.remaining(), || {
        for member in args.rest() {
            write_score(set.and_then(|set| set.score(member)), reply);
        }
    });
    Ok(())
}

fn write_score(score: Option<f64>, reply: &mut Reply<'_>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

pub(super) fn zrank(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    write_rank("zrank", args, view, reply, |rank, _| rank)
}

pub(super) fn zrevrank(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    write_rank("zrevrank", args, view, reply, |rank, len| len - 1 - rank)
}

fn write_rank(
    command: &'static str,
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
    counted: impl Fn(usize, usize) -> usize,
) -> Done {
    let (key, member) = (args.bytes()?, args.bytes()?);
    if args.remaining() > 1 {
        return Err(CommandError::Arity(command.into()));
    }
    let with_score = args.keyword("WITHSCORE");
    args.end()?;
    let set = view.zset(key)?;
    match set.and_then(|set| Some((set.rank(member)?, set.len()))) {
        Some(((rank, score), len)) => {
            if with_score {
                reply.array(2);
            }
            reply.integer(counted(rank, len) as i64);
            if with_score {
                reply.double(score);
            }
        }
        None if with_score => reply.null_array(),
        None => reply.null(),
    }
    Ok(())
}

pub(super) fn zcount(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (min, max) = bounds::scores(args.bytes()?, args.bytes()?)?;
    let set = view.zset(key)?;
    reply.integer(set.map_or(0, |set| set.score_range(min, max).len()) as i64);
    Ok(())
}

pub(super) fn zlexcount(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (min, max) = bounds::texts(args.bytes()?, args.bytes()?)?;
    let set = view.zset(key)?;
    reply.integer(set.map_or(0, |set| set.lex_range(min, max, false).len()) as i64);
    Ok(())
}

pub(super) fn zrandmember(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    if args.is_empty() {
        let set = view.zset(key)?;
        let rank = set.map(|set| view.rng().below(set.len() as u64) as usize);
        match set.zip(rank).and_then(|(set, rank)| set.at(rank)) {
            Some((member, _)) => reply.item(member),
            None => reply.null(),
        }
        return Ok(());
    }
    let count = args.integer()?;
    if count == i64::MIN {
        return Err(LOWEST_COUNT);
    }
    let with_scores = args.keyword("WITHSCORES");
    args.end()?;
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(COUNT_OUT_OF_RANGE);
    }
    let shown = Shown::with_scores(with_scores);
    let Some(set) = view.zset(key)? else {
        reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    // What is drawn after release is drawn by chance of its own.
    let rng = Rng::seeded(view.rng().bits());
    if count < 0 {
        let limit_bytes = view.rules().max_string_bytes;
        if wanted > limit_bytes / BULK_BYTES {
            return Err(COUNT_OUT_OF_RANGE);
        }
        read_set(set, wanted, view, reply, move |set, reply| {
            repeated(set, wanted, shown, limit_bytes, &rng, reply);
        });
        return Ok(());
    }
    let work = if wanted > set.len() / SPARSE {
        set.len()
    } else {
        wanted
    };
    read_set(set, work, view, reply, move |set, reply| {
        different(set, wanted, shown, &rng, reply);
    });
    Ok(())
}

/// From this part of a set on all its ranks are passed to choose some; below, ranks are drawn until enough of them differ.
const SPARSE: usize = 8;

/// Members that are all different. Redis gives a whole set from its end, and so do we.
fn different(set: ZSetRef<'_>, count: usize, shown: Shown, rng: &Rng, reply: &mut Reply<'_>) {
    if count >= set.len() {
        return shown.all(set.range_back(0..set.len()), reply);
    }
    shown.header(count, reply);
    let mut show = |rank| {
        if let Some((member, score)) = set.at(rank) {
            shown.member(member, score, reply);
        }
    };
    if count > set.len() / SPARSE {
        return sample::ascending(count, set.len(), rng, show);
    }
    let mut drawn = std::collections::HashSet::with_capacity(count);
    while drawn.len() < count {
        let rank = rng.below(set.len() as u64) as usize;
        if drawn.insert(rank) {
            show(rank);
        }
    }
}

/// Members of which some may be the same. Refused when the reply would take more than the longest string may: the client
/// asks for any number, whatever the set's size.
fn repeated(
    set: ZSetRef<'_>,
    count: usize,
    shown: Shown,
    limit_bytes: usize,
    rng: &Rng,
    reply: &mut Reply<'_>,
) {
    let start = reply.mark();
    shown.header(count, reply);
    for _ in 0..count {
        let rank = rng.below(set.len() as u64) as usize;
        if let Some((member, score)) = set.at(rank) {
            shown.member(member, score, reply);
        }
        if reply.bytes_since(start) > limit_bytes {
            reply.truncate(start);
            return reply.error(&COUNT_OUT_OF_RANGE.text());
        }
    }
}

pub(super) fn zscan(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let cursor = scan::cursor(args)?;
    let Some(set) = view.zset(key)? else {
        // Redis looks at the options only when there is something to scan.
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let options = scan::Options::parse(args)?;
    let members = match set {
        ZSetRef::Packed(_) => set.len(),
        ZSetRef::Full(_) => options.limit().min(set.len()),
    };
    read_set(set, members, view, reply, move |set, reply| {
        scan_step(set, cursor, &options, reply);
    });
    Ok(())
}

fn scan_step(set: ZSetRef<'_>, cursor: u64, options: &scan::Options, reply: &mut Reply<'_>) {
    let mut found = Vec::new();
    let mut buffer = itoa::Buffer::new();
    let next = set.scan(cursor, options.limit(), |member, score| {
        if options.pattern.matches(member.text(&mut buffer)) {
            found.push((member, score));
        }
    });
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(found.len() * 2);
    for (member, score) in found {
        reply.item(member);
        // Redis prints the scores of the two encodings by different functions here.
        let text = match set {
            ZSetRef::Packed(_) => number::format_f64(score),
            ZSetRef::Full(_) => number::format_f64_17(score),
        };
        reply.bulk(&text);
    }
}
