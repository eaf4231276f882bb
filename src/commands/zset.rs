//! Sorted sets: members with scores, by rank, by score, by name, and what several sets have in common.
//!
//! | | |
//! |---|---|
//! | `edit` | ZADD and ZINCRBY, ZREM |
//! | `read` | one set read by member, counted, sampled, scanned |
//! | `range` | ranges of ranks, scores and bytes: shown, stored, removed |
//! | `pop` | members taken from either end, waiting for them |
//! | `algebra` | unions, intersections, differences |
//! | `bounds` | the ends of ranges as clients write them |
//!
//! Scores are shown as Redis 7.2 prints doubles. Members of large ranges are written from a snapshot after the partition is
//! released.

mod algebra;
mod bounds;
mod edit;
mod pop;
mod range;
mod read;
#[cfg(test)]
mod tests;

use super::Handler;
use super::LATER_ELEMENTS;
use crate::data::packed::Item;
use crate::data::zset::{Iter, ZSetRef};
use crate::keyspace::view::View;
use crate::resp::reply::{Protocol, Reply};
use crate::table::{Command, Family, Flags, KeyAccess, KeySpec, Row, Scope};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "bzmpop",
            family: Family::SortedSet,
            since: "7.0.0",
            summary: "Takes out members of one of several sorted sets, or waits until one can be had.",
            complexity: "O(K+M*log(N)) with K keys and M members taken",
            usage: "timeout:double numkeys:int key [key ...] where:(MIN|MAX) [COUNT count:int]",
            flags: Flags::WRITE.union(Flags::BLOCKING),
            keys: &[KeySpec::counted(2, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Block(pop::bzmpop),
    ),
    Row::new(
        Command {
            name: "bzpopmax",
            family: Family::SortedSet,
            since: "5.0.0",
            summary: "Takes out the member with the highest score of the first sorted set that has any, or waits for one.",
            complexity: "O(log(N))",
            usage: "key [key ...] timeout:double",
            flags: Flags::WRITE
                .union(Flags::NOSCRIPT)
                .union(Flags::BLOCKING)
                .union(Flags::FAST),
            keys: &[KeySpec::range(1, -2, 1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            history: &[("6.0.0", "The timeout may have a fraction.")],
            ..Command::NEW
        },
        Handler::Block(pop::bzpopmax),
    ),
    Row::new(
        Command {
            name: "bzpopmin",
            family: Family::SortedSet,
            since: "5.0.0",
            summary: "Takes out the member with the lowest score of the first sorted set that has any, or waits for one.",
            complexity: "O(log(N))",
            usage: "key [key ...] timeout:double",
            flags: Flags::WRITE
                .union(Flags::NOSCRIPT)
                .union(Flags::BLOCKING)
                .union(Flags::FAST),
            keys: &[KeySpec::range(1, -2, 1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            history: &[("6.0.0", "The timeout may have a fraction.")],
            ..Command::NEW
        },
        Handler::Block(pop::bzpopmin),
    ),
    Row::new(
        Command {
            name: "zadd",
            family: Family::SortedSet,
            since: "1.2.0",
            summary: "Gives members of a sorted set their scores, adding those that are not there.",
            complexity: "O(log(N)) for each member",
            usage: "key condition:[NX|XX]@3.0.2 comparison:[GT|LT]@6.2.0 [change=CH@3.0.2] [increment=INCR@3.0.2] score:double member [score member ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            member: 3,
            scope: Scope::Keys,
            history: &[
                ("2.4.0", "Takes more than one member."),
                ("3.0.2", "Takes the options XX, NX, CH and INCR."),
                ("6.2.0", "Takes the options GT and LT."),
            ],
            ..Command::NEW
        },
        Handler::Write(edit::zadd),
    ),
    Row::new(
        Command {
            name: "zcard",
            family: Family::SortedSet,
            since: "1.2.0",
            summary: "Counts the members of a sorted set.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::zcard),
    ),
    Row::new(
        Command {
            name: "zcount",
            family: Family::SortedSet,
            since: "2.0.0",
            summary: "Counts the members with scores in a range.",
            complexity: "O(log(N))",
            usage: "key min:double max:double",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::zcount),
    ),
    Row::new(
        Command {
            name: "zdiff",
            family: Family::SortedSet,
            since: "6.2.0",
            summary: "Shows the members of the first sorted set that are in none of the others.",
            complexity: "O(L*K+(N-L)*log(N)) with L members of the first and K others",
            usage: "numkeys:int key [key ...] [WITHSCORES]",
            flags: Flags::READONLY,
            keys: &[KeySpec::counted(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(algebra::zdiff),
    ),
    Row::new(
        Command {
            name: "zdiffstore",
            family: Family::SortedSet,
            since: "6.2.0",
            summary: "Stores the members of the first sorted set that are in none of the others.",
            complexity: "O(L*K+(N-L)*log(N)) with L members of the first and K others",
            usage: "destination:key numkeys:int key [key ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::OW_UPDATE),
                KeySpec::counted(2, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(algebra::zdiffstore),
    ),
    Row::new(
        Command {
            name: "zincrby",
            family: Family::SortedSet,
            since: "1.2.0",
            summary: "Adds to the score of a member, which counts as 0 when it is not there.",
            complexity: "O(log(N))",
            usage: "key increment:int member",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            member: 3,
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(edit::zincrby),
    ),
    Row::new(
        Command {
            name: "zinter",
            family: Family::SortedSet,
            since: "6.2.0",
            summary: "Shows the members that all of several sorted sets have.",
            complexity: "O(N*K+M*log(M)) with N members of the smallest of K and M results",
            usage: "numkeys:int key [key ...] [WEIGHTS weight:int [weight ...]] [AGGREGATE aggregate:(SUM|MIN|MAX)] [WITHSCORES]",
            flags: Flags::READONLY,
            keys: &[KeySpec::counted(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(algebra::zinter),
    ),
    Row::new(
        Command {
            name: "zintercard",
            family: Family::SortedSet,
            since: "7.0.0",
            summary: "Counts the members that all of several sorted sets have.",
            complexity: "O(N*K) with N members of the smallest of K",
            usage: "numkeys:int key [key ...] [LIMIT limit:int]",
            flags: Flags::READONLY,
            keys: &[KeySpec::counted(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(algebra::zintercard),
    ),
    Row::new(
        Command {
            name: "zinterstore",
            family: Family::SortedSet,
            since: "2.0.0",
            summary: "Stores the members that all of several sorted sets have.",
            complexity: "O(N*K+M*log(M)) with N members of the smallest of K and M results",
            usage: "destination:key numkeys:int key [key ...] [WEIGHTS weight:int [weight ...]] [AGGREGATE aggregate:(SUM|MIN|MAX)]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::OW_UPDATE),
                KeySpec::counted(2, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(algebra::zinterstore),
    ),
    Row::new(
        Command {
            name: "zlexcount",
            family: Family::SortedSet,
            since: "2.8.9",
            summary: "Counts the members in a range of bytes, all scores being equal.",
            complexity: "O(log(N))",
            usage: "key min max",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::zlexcount),
    ),
    Row::new(
        Command {
            name: "zmpop",
            family: Family::SortedSet,
            since: "7.0.0",
            summary: "Takes out members with the lowest or highest scores of the first sorted set that has any.",
            complexity: "O(K+M*log(N)) with K keys and M members taken",
            usage: "numkeys:int key [key ...] where:(MIN|MAX) [COUNT count:int]",
            flags: Flags::WRITE,
            keys: &[KeySpec::counted(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pop::zmpop),
    ),
    Row::new(
        Command {
            name: "zmscore",
            family: Family::SortedSet,
            since: "6.2.0",
            summary: "Shows the scores of members.",
            complexity: "O(N) in the members asked for",
            usage: "key member [member ...]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::zmscore),
    ),
    Row::new(
        Command {
            name: "zpopmax",
            family: Family::SortedSet,
            since: "5.0.0",
            summary: "Takes out the members with the highest scores.",
            complexity: "O(log(N)*M) with M members taken",
            usage: "key [count:int]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pop::zpopmax),
    ),
    Row::new(
        Command {
            name: "zpopmin",
            family: Family::SortedSet,
            since: "5.0.0",
            summary: "Takes out the members with the lowest scores.",
            complexity: "O(log(N)*M) with M members taken",
            usage: "key [count:int]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pop::zpopmin),
    ),
    Row::new(
        Command {
            name: "zrandmember",
            family: Family::SortedSet,
            since: "6.2.0",
            summary: "Shows members chosen by chance.",
            complexity: "O(M*log(N)) with M members shown, at most O(N) for different ones",
            usage: "key options:[count:int [WITHSCORES]]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(read::zrandmember),
    ),
    Row::new(
        Command {
            name: "zrange",
            family: Family::SortedSet,
            since: "1.2.0",
            summary: "Shows the members in a range of ranks, scores or bytes.",
            complexity: "O(log(N)+M) with M members shown",
            usage: "key start stop sortby:[BYSCORE|BYLEX]@6.2.0 [REV@6.2.0] [LIMIT (offset:int count:int)@6.2.0] [WITHSCORES]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[("6.2.0", "Takes the options REV, BYSCORE, BYLEX and LIMIT.")],
            ..Command::NEW
        },
        Handler::Read(range::zrange),
    ),
    Row::new(
        Command {
            name: "zrangebylex",
            family: Family::SortedSet,
            since: "2.8.9",
            summary: "Shows the members in a range of bytes, all scores being equal.",
            complexity: "O(log(N)+M) with M members shown",
            usage: "key min max [LIMIT (offset:int count:int)]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`ZRANGE` with `BYLEX`")),
            ..Command::NEW
        },
        Handler::Read(range::zrangebylex),
    ),
    Row::new(
        Command {
            name: "zrangebyscore",
            family: Family::SortedSet,
            since: "1.0.5",
            summary: "Shows the members with scores in a range.",
            complexity: "O(log(N)+M) with M members shown",
            usage: "key min:double max:double [WITHSCORES@2.0.0] [LIMIT (offset:int count:int)]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`ZRANGE` with `BYSCORE`")),
            history: &[("2.0.0", "Takes the option WITHSCORES.")],
            ..Command::NEW
        },
        Handler::Read(range::zrangebyscore),
    ),
    Row::new(
        Command {
            name: "zrangestore",
            family: Family::SortedSet,
            since: "6.2.0",
            summary: "Stores the members in a range of ranks, scores or bytes.",
            complexity: "O(log(N)+M*log(M)) with M members stored",
            usage: "dst:key src:key min max sortby:[BYSCORE|BYLEX] [REV] [LIMIT (offset:int count:int)]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::OW_UPDATE),
                KeySpec::one(2, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(range::zrangestore),
    ),
    Row::new(
        Command {
            name: "zrank",
            family: Family::SortedSet,
            since: "2.0.0",
            summary: "Tells the place of a member, from the lowest score.",
            complexity: "O(log(N))",
            usage: "key member [WITHSCORE@7.2.0]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            member: 2,
            scope: Scope::Keys,
            history: &[("7.2.0", "Takes the option WITHSCORE.")],
            ..Command::NEW
        },
        Handler::Read(read::zrank),
    ),
    Row::new(
        Command {
            name: "zrem",
            family: Family::SortedSet,
            since: "1.2.0",
            summary: "Removes members of a sorted set.",
            complexity: "O(M*log(N)) with M members removed",
            usage: "key member [member ...]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            member: 2,
            scope: Scope::Keys,
            history: &[("2.4.0", "Takes more than one member.")],
            ..Command::NEW
        },
        Handler::Write(edit::zrem),
    ),
    Row::new(
        Command {
            name: "zremrangebylex",
            family: Family::SortedSet,
            since: "2.8.9",
            summary: "Removes the members in a range of bytes, all scores being equal.",
            complexity: "O(log(N)+M*log(N)) with M members removed",
            usage: "key min max",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(range::zremrangebylex),
    ),
    Row::new(
        Command {
            name: "zremrangebyrank",
            family: Family::SortedSet,
            since: "2.0.0",
            summary: "Removes the members in a range of ranks.",
            complexity: "O(log(N)+M*log(N)) with M members removed",
            usage: "key start:int stop:int",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(range::zremrangebyrank),
    ),
    Row::new(
        Command {
            name: "zremrangebyscore",
            family: Family::SortedSet,
            since: "1.2.0",
            summary: "Removes the members with scores in a range.",
            complexity: "O(log(N)+M*log(N)) with M members removed",
            usage: "key min:double max:double",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(range::zremrangebyscore),
    ),
    Row::new(
        Command {
            name: "zrevrange",
            family: Family::SortedSet,
            since: "1.2.0",
            summary: "Shows the members in a range of ranks, from the highest score.",
            complexity: "O(log(N)+M) with M members shown",
            usage: "key start:int stop:int [WITHSCORES]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`ZRANGE` with `REV`")),
            ..Command::NEW
        },
        Handler::Read(range::zrevrange),
    ),
    Row::new(
        Command {
            name: "zrevrangebylex",
            family: Family::SortedSet,
            since: "2.8.9",
            summary: "Shows the members in a range of bytes from the last one, all scores being equal.",
            complexity: "O(log(N)+M) with M members shown",
            usage: "key max min [LIMIT (offset:int count:int)]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`ZRANGE` with `REV` and `BYLEX`")),
            ..Command::NEW
        },
        Handler::Read(range::zrevrangebylex),
    ),
    Row::new(
        Command {
            name: "zrevrangebyscore",
            family: Family::SortedSet,
            since: "2.2.0",
            summary: "Shows the members with scores in a range, from the highest.",
            complexity: "O(log(N)+M) with M members shown",
            usage: "key max:double min:double [WITHSCORES] [LIMIT (offset:int count:int)]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`ZRANGE` with `REV` and `BYSCORE`")),
            history: &[("2.1.6", "`min` and `max` may be exclusive.")],
            ..Command::NEW
        },
        Handler::Read(range::zrevrangebyscore),
    ),
    Row::new(
        Command {
            name: "zrevrank",
            family: Family::SortedSet,
            since: "2.0.0",
            summary: "Tells the place of a member, from the highest score.",
            complexity: "O(log(N))",
            usage: "key member [WITHSCORE@7.2.0]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            member: 2,
            scope: Scope::Keys,
            history: &[("7.2.0", "Takes the option WITHSCORE.")],
            ..Command::NEW
        },
        Handler::Read(read::zrevrank),
    ),
    Row::new(
        Command {
            name: "zscan",
            family: Family::SortedSet,
            since: "2.8.0",
            summary: "Goes through the members of a sorted set in steps.",
            complexity: "O(1) for each step, O(N) for the whole set",
            usage: "key cursor:int [MATCH pattern:pattern] [COUNT count:int]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Read(read::zscan),
    ),
    Row::new(
        Command {
            name: "zscore",
            family: Family::SortedSet,
            since: "1.2.0",
            summary: "Shows the score of a member.",
            complexity: "O(1)",
            usage: "key member",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            member: 2,
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::zscore),
    ),
    Row::new(
        Command {
            name: "zunion",
            family: Family::SortedSet,
            since: "6.2.0",
            summary: "Shows the members that any of several sorted sets has.",
            complexity: "O(N+M*log(M)) with N members in all and M results",
            usage: "numkeys:int key [key ...] [WEIGHTS weight:int [weight ...]] [AGGREGATE aggregate:(SUM|MIN|MAX)] [WITHSCORES]",
            flags: Flags::READONLY,
            keys: &[KeySpec::counted(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(algebra::zunion),
    ),
    Row::new(
        Command {
            name: "zunionstore",
            family: Family::SortedSet,
            since: "2.0.0",
            summary: "Stores the members that any of several sorted sets has.",
            complexity: "O(N+M*log(M)) with N members in all and M results",
            usage: "destination:key numkeys:int key [key ...] [WEIGHTS weight:int [weight ...]] [AGGREGATE aggregate:(SUM|MIN|MAX)]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::OW_UPDATE),
                KeySpec::counted(2, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(algebra::zunionstore),
    ),
];

/// A snapshot counts its pages, which costs as much as to show one of so many members.
const SNAPSHOT_SHARE: usize = 256;

/// Whether so many members out of sets that have so many are worth a snapshot.
fn is_for_later(members: usize, all: usize) -> bool {
    members >= LATER_ELEMENTS && members >= all / SNAPSHOT_SHARE
}

/// Writes the reply that `write` makes of a set by work on so many members: at once, or, when they are many, after release.
fn read_set(
    set: ZSetRef<'_>,
    members: usize,
    view: &View<'_>,
    reply: &mut Reply<'_>,
    write: impl FnOnce(ZSetRef<'_>, &mut Reply<'_>) + Send + 'static,
) {
    if is_for_later(members, set.len()) {
        let set = set.snapshot();
        view.after_release(Box::new(move |reply| write(set.view(), reply)));
    } else {
        view.heavy_read(members, || write(set, reply));
    }
}

/// How members are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Alone.
    Members,
    /// With their scores: one array in RESP2, pairs in RESP3.
    WithScores,
}

impl Shown {
    /// `WithScores` when the option was given.
    fn with_scores(given: bool) -> Shown {
        if given {
            Shown::WithScores
        } else {
            Shown::Members
        }
    }

    /// The header of an array of so many members.
    fn header(self, count: usize, reply: &mut Reply<'_>) {
        reply.array(match (self, reply.protocol()) {
            (Shown::WithScores, Protocol::Resp2) => count * 2,
            _ => count,
        });
    }

    /// One member.
    #[inline]
    fn member(self, member: Item<'_>, score: f64, reply: &mut Reply<'_>) {
        if self == Shown::Members {
            return reply.item(member);
        }
        if reply.protocol() == Protocol::Resp3 {
            reply.array(2);
        }
        reply.item(member);
        reply.double(score);
    }

    /// All of some members.
    fn all(self, members: Iter<'_>, reply: &mut Reply<'_>) {
        self.header(members.len(), reply);
        members.for_each(|(member, score)| self.member(member, score, reply));
    }
}
