//! Commands over whole databases, partition by partition: other clients are served between any two visits.
//!
//! What one of them sees is therefore not one instant. A key that is there all the while is seen; one that comes or goes
//! meanwhile may or may not be. FLUSHDB, FLUSHALL and SWAPDB are one instant (keyspace/whole.rs).
//!
//! # SCAN's cursor
//!
//! ```text
//!     63 ............ 42 41 ................ 10 9 ......... 0
//!     | 0             | block of the partition | partition  |
//! ```
//!
//! Partitions are gone through in order, the blocks of each in the reverse-binary order of `Partition::scan`, which visits
//! every key that stays although the table grows or shrinks between calls. Cursors stay below 2^63: some clients keep them
//! in signed numbers. A cursor is 0 only at the start and the end, and any number a client makes up leads to the end.

use super::Handler;
use super::scan::{self, Options, Pattern};
use crate::base::worker::give_worker_away;
use crate::data::number;
use crate::keyspace::effects::Effects;
use crate::keyspace::entry::{Entry, Garbage};
use crate::keyspace::lock::{Locked, Place};
use crate::keyspace::partition::{Counters, Detached, Partition};
use crate::keyspace::sweep::{Scene, Sweep};
use crate::keyspace::whole::Flushed;
use crate::keyspace::{Database, Foreign, PARTITIONS};
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::{Deferred, Output, Reply};
use crate::table::args::Taken;
use crate::table::{
    Across, Args, Category, Command, CommandError, Family, Flags, Merge, Row, Scope,
};

/// What begins a sweep.
type Begun = Result<Box<dyn Sweep>, CommandError>;

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "dbsize",
            family: Family::Server,
            since: "1.0.0",
            summary: "Counts the keys of the database.",
            complexity: "O(1)",
            flags: Flags::READONLY.union(Flags::FAST),
            categories: Category::KEYSPACE,
            scope: Scope::Sweep,
            across: Across::Broadcast,
            tips: &["request_policy:all_shards", "response_policy:agg_sum"],
            ..Command::NEW
        },
        Handler::Sweep(dbsize),
    ),
    Row::new(
        Command {
            name: "flushall",
            family: Family::Server,
            since: "1.0.0",
            summary: "Removes all keys of all databases.",
            complexity: "O(1), and O(N) in the number of keys in the background",
            usage: "async:[ASYNC@4.0.0|SYNC@6.2.0]",
            flags: Flags::WRITE,
            categories: Category::KEYSPACE.union(Category::DANGEROUS),
            scope: Scope::Sweep,
            across: Across::Broadcast,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            history: &[("4.0.0", "Takes ASYNC."), ("6.2.0", "Takes SYNC.")],
            ..Command::NEW
        },
        Handler::Sweep(flushall),
    ),
    Row::new(
        Command {
            name: "flushdb",
            family: Family::Server,
            since: "1.0.0",
            summary: "Removes all keys of the database.",
            complexity: "O(1), and O(N) in the number of keys in the background",
            usage: "async:[ASYNC@4.0.0|SYNC@6.2.0]",
            flags: Flags::WRITE,
            categories: Category::KEYSPACE.union(Category::DANGEROUS),
            scope: Scope::Sweep,
            across: Across::Broadcast,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            history: &[("4.0.0", "Takes ASYNC."), ("6.2.0", "Takes SYNC.")],
            ..Command::NEW
        },
        Handler::Sweep(flushdb),
    ),
    Row::new(
        Command {
            name: "keys",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Lists the keys that match a pattern.",
            complexity: "O(N) in the number of keys, other clients being served meanwhile",
            usage: "pattern:pattern",
            flags: Flags::READONLY.union(Flags::TOUCHES_ARBITRARY_KEYS),
            categories: Category::DANGEROUS,
            scope: Scope::Sweep,
            across: Across::Broadcast,
            tips: &["request_policy:all_shards", "nondeterministic_output_order"],
            ..Command::NEW
        },
        Handler::Sweep(keys),
    ),
    Row::new(
        Command {
            name: "randomkey",
            family: Family::Generic,
            since: "1.0.0",
            summary: "Returns a key chosen by chance.",
            complexity: "O(1)",
            flags: Flags::READONLY.union(Flags::TOUCHES_ARBITRARY_KEYS),
            scope: Scope::Sweep,
            across: Across::Broadcast,
            merge: Some(Merge::AnyOf),
            tips: &["request_policy:all_shards", "nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Sweep(randomkey),
    ),
    Row::new(
        Command {
            name: "scan",
            family: Family::Generic,
            since: "2.8.0",
            summary: "Goes through the keys of a database, some at each call.",
            complexity: "O(COUNT) per call, O(N) for all",
            usage: "cursor:int [MATCH pattern:pattern] [COUNT count:int] [TYPE type@6.0.0]",
            flags: Flags::READONLY.union(Flags::TOUCHES_ARBITRARY_KEYS),
            scope: Scope::Sweep,
            tips: &["nondeterministic_output", "request_policy:special"],
            history: &[("6.0.0", "Takes TYPE.")],
            ..Command::NEW
        },
        Handler::Sweep(scan),
    ),
    Row::new(
        Command {
            name: "swapdb",
            family: Family::Server,
            since: "4.0.0",
            summary: "Exchanges two databases for all clients.",
            complexity: "O(1)",
            usage: "index1:int index2:int",
            flags: Flags::WRITE.union(Flags::FAST),
            categories: Category::KEYSPACE.union(Category::DANGEROUS),
            scope: Scope::Sweep,
            across: Across::BroadcastUnlessPinned,
            merge: Some(Merge::First),
            ..Command::NEW
        },
        Handler::Sweep(swapdb),
    ),
];

/// Keys, expired ones that nobody has met yet included.
fn dbsize(_args: &mut Args<'_>, scene: &Scene<'_>) -> Begun {
    Ok(Box::new(Dbsize {
        counts: scene.keyspace.foreign().is_some(),
        partition: 0,
        count: 0,
    }))
}

/// The counters know how many keys there are; how many of them nobody may see is found by looking at all.
struct Dbsize {
    counts: bool,
    /// Visited next.
    partition: usize,
    count: usize,
}

impl Sweep for Dbsize {
    fn next(&mut self, scene: &Scene<'_>) -> Option<Place> {
        if !self.counts {
            return None;
        }
        let at = next_with(scene, self.partition, |counters| counters.len() > 0)?;
        self.partition = at + 1;
        Some(Place {
            database: scene.database,
            partition: at as u32,
        })
    }

    fn visit(
        &mut self,
        place: Place,
        partition: &mut Partition<'_>,
        scene: &Scene<'_>,
        _effects: &mut Effects,
        _reply: &mut Reply<'_>,
    ) {
        let visible = Visible::of(scene, place);
        self.count += partition
            .iter()
            .filter(|entry| visible.shows(entry))
            .count();
    }

    fn finish(self: Box<Self>, scene: &Scene<'_>, _effects: &mut Effects, reply: &mut Reply<'_>) {
        let count = match self.counts {
            true => self.count,
            false => scene.own().map_or(0, Database::len),
        };
        reply.integer(count as i64);
    }
}

/// Which keys of a database may be seen: a node of a ring may have some that are not its own.
struct Visible<'s> {
    foreign: Option<&'s dyn Foreign>,
    database: u32,
}

impl<'s> Visible<'s> {
    fn of(scene: &Scene<'s>, place: Place) -> Visible<'s> {
        Visible {
            foreign: scene.keyspace.foreign(),
            database: place.database,
        }
    }

    #[inline]
    fn shows(&self, entry: &Entry) -> bool {
        let foreign = self.foreign;
        foreign.is_none_or(|foreign| !foreign.is_foreign(self.database, entry.key()))
    }
}

fn keys(args: &mut Args<'_>, _scene: &Scene<'_>) -> Begun {
    Ok(Box::new(Keys {
        pattern: Pattern::new(args.bytes()?),
        partition: 0,
        begun: None,
        count: 0,
    }))
}

struct Keys {
    pattern: Pattern,
    /// Visited next.
    partition: usize,
    begun: Option<Deferred>,
    count: usize,
}

impl Sweep for Keys {
    fn next(&mut self, scene: &Scene<'_>) -> Option<Place> {
        let at = next_with(scene, self.partition, |counters| counters.len() > 0)?;
        self.partition = at + 1;
        Some(Place {
            database: scene.database,
            partition: at as u32,
        })
    }

    fn visit(
        &mut self,
        place: Place,
        partition: &mut Partition<'_>,
        scene: &Scene<'_>,
        _effects: &mut Effects,
        reply: &mut Reply<'_>,
    ) {
        let visible = Visible::of(scene, place);
        self.begun.get_or_insert_with(|| reply.deferred());
        for entry in partition
            .iter()
            .filter(|entry| !entry.is_expired(scene.run.now))
        {
            if self.pattern.matches(entry.key()) && visible.shows(entry) {
                reply.bulk(entry.key());
                self.count += 1;
            }
        }
    }

    fn finish(self: Box<Self>, _scene: &Scene<'_>, _effects: &mut Effects, reply: &mut Reply<'_>) {
        match self.begun {
            Some(begun) => reply.set_array(begun, self.count),
            None => reply.array(0),
        }
    }
}

/// The first partition from `from` on whose counters are `wanted`.
fn next_with(scene: &Scene<'_>, from: usize, wanted: impl Fn(&Counters) -> bool) -> Option<usize> {
    let database = scene.own()?;
    (from..PARTITIONS).find(|number| wanted(database.counters(*number)))
}

/// One call of SCAN: about COUNT keys are looked at, some blocks at each visit.
fn scan(args: &mut Args<'_>, scene: &Scene<'_>) -> Begun {
    let cursor = Cursor::of(scan::cursor(args)?);
    let mut scan = Scan {
        cursor: Some(cursor).filter(|cursor| cursor.block < BLOCK_LIMIT),
        options: Options::default(),
        type_name: None,
        looked_at: 0,
        blocks: 0,
        keys: Output::new(),
        matched: 0,
    };
    while !args.is_empty() {
        scan.take_option(args)?;
    }
    scan.skip_empty(scene);
    Ok(Box::new(scan))
}

struct Scan {
    /// Where to go on; `None` at the end.
    cursor: Option<Cursor>,
    options: Options,
    /// Only keys of this type, named in any case.
    type_name: Option<Vec<u8>>,
    /// Keys looked at so far, whether they matched or not.
    looked_at: u64,
    /// Blocks visited so far.
    blocks: u64,
    /// The keys, kept apart because the new cursor stands before them.
    keys: Output,
    matched: usize,
}

/// Blocks looked at while a partition is held: some hundred keys.
const BLOCKS_PER_VISIT: usize = 32;
/// No table has this many blocks: such a cursor is not ours.
const BLOCK_LIMIT: u64 = 1 << 32;
const PARTITION_BITS: u32 = PARTITIONS.trailing_zeros();

impl Scan {
    fn take_option(&mut self, args: &mut Args<'_>) -> Taken<()> {
        if self.options.take(args)? {
            return Ok(());
        }
        if !args.keyword("TYPE") {
            return Err(CommandError::Syntax);
        }
        self.type_name = Some(args.bytes()?.to_vec());
        Ok(())
    }

    /// Moves on to a partition that has keys: a load of a counter for each that has none.
    fn skip_empty(&mut self, scene: &Scene<'_>) {
        let Some(cursor) = self.cursor else { return };
        self.cursor =
            next_with(scene, cursor.partition, |counters| counters.len() > 0).map(|partition| {
                let block = if partition == cursor.partition {
                    cursor.block
                } else {
                    0
                };
                Cursor { partition, block }
            });
    }

    fn is_done(&self) -> bool {
        self.looked_at >= self.options.count || self.blocks >= self.options.count
    }

    fn wants(&self, entry: &Entry) -> bool {
        self.type_name
            .as_ref()
            .is_none_or(|name| name.eq_ignore_ascii_case(entry.kind().name().as_bytes()))
            && self.options.pattern.matches(entry.key())
    }
}

impl Sweep for Scan {
    fn next(&mut self, scene: &Scene<'_>) -> Option<Place> {
        self.skip_empty(scene);
        if self.is_done() {
            return None;
        }
        self.cursor.map(|cursor| Place {
            database: scene.database,
            partition: cursor.partition as u32,
        })
    }

    fn visit(
        &mut self,
        place: Place,
        partition: &mut Partition<'_>,
        scene: &Scene<'_>,
        effects: &mut Effects,
        reply: &mut Reply<'_>,
    ) {
        let Some(mut cursor) = self.cursor else {
            return;
        };
        let mut expired = Vec::new();
        let (mut keys, mut matched) = (std::mem::take(&mut self.keys), 0);
        let mut found = Reply::new(&mut keys, reply.protocol());
        let visible = Visible::of(scene, place);
        for _ in 0..BLOCKS_PER_VISIT {
            let mut looked_at = 0;
            cursor.block = partition.scan(cursor.block, |entry| {
                looked_at += 1;
                if !visible.shows(entry) {
                    // As if it were not there.
                } else if entry.is_expired(scene.run.now) {
                    expired.push(entry.key().to_vec());
                } else if self.wants(entry) {
                    found.bulk(entry.key());
                    matched += 1;
                }
            });
            self.looked_at += looked_at;
            self.blocks += 1;
            if cursor.block == 0 || self.is_done() {
                break;
            }
        }
        self.cursor = if cursor.block == 0 {
            cursor.next_partition()
        } else {
            Some(cursor)
        };
        self.keys = keys;
        self.matched += matched;
        expired
            .iter()
            .for_each(|key| expire(place, partition, key, scene, effects));
    }

    fn finish(self: Box<Self>, _scene: &Scene<'_>, _effects: &mut Effects, reply: &mut Reply<'_>) {
        reply.array(2);
        let cursor = self.cursor.map_or(0, Cursor::number);
        reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
        reply.array(self.matched);
        reply.output().append(self.keys);
    }
}

/// Where SCAN goes on.
#[derive(Clone, Copy)]
struct Cursor {
    partition: usize,
    block: u64,
}

impl Cursor {
    fn of(number: u64) -> Cursor {
        Cursor {
            partition: number as usize % PARTITIONS,
            block: number >> PARTITION_BITS,
        }
    }

    fn number(self) -> u64 {
        self.block << PARTITION_BITS | self.partition as u64
    }

    fn next_partition(self) -> Option<Cursor> {
        let partition = self.partition + 1;
        (partition < PARTITIONS).then_some(Cursor {
            partition,
            block: 0,
        })
    }
}

/// Removes a key that was met expired.
fn expire(
    place: Place,
    partition: &mut Partition<'_>,
    key: &[u8],
    scene: &Scene<'_>,
    effects: &mut Effects,
) {
    if let Some(entry) = partition.remove(scene.keyspace.hasher().hash(key), key) {
        effects.expire(place.database, entry);
    }
}

/// Some key; null when there is none.
fn randomkey(_args: &mut Args<'_>, _scene: &Scene<'_>) -> Begun {
    Ok(Box::new(Randomkey {
        draws: 0,
        partition: 0,
        found: None,
    }))
}

/// Draws partitions by their share of the keys, and in each an entry. Expired ones are removed and drawn again; when
/// that goes on, every partition is asked for any key that is alive, so that null means that there was none.
struct Randomkey {
    draws: usize,
    /// Asked next, after the draws.
    partition: usize,
    found: Option<Vec<u8>>,
}

/// Partitions drawn before they are asked one by one.
const PARTITION_DRAWS: usize = 16;
/// Entries drawn in one partition.
const ENTRY_DRAWS: usize = 16;

impl Sweep for Randomkey {
    fn next(&mut self, scene: &Scene<'_>) -> Option<Place> {
        if self.found.is_some() {
            return None;
        }
        let number = if self.draws < PARTITION_DRAWS {
            self.draws += 1;
            scene.own()?.random_partition(scene.run.rng)?
        } else {
            let number = next_with(scene, self.partition, |counters| counters.len() > 0)?;
            self.partition = number + 1;
            number
        };
        Some(Place {
            database: scene.database,
            partition: number as u32,
        })
    }

    fn visit(
        &mut self,
        place: Place,
        partition: &mut Partition<'_>,
        scene: &Scene<'_>,
        effects: &mut Effects,
        _reply: &mut Reply<'_>,
    ) {
        let visible = Visible::of(scene, place);
        for _ in 0..ENTRY_DRAWS {
            let Some(entry) = partition.random(scene.run.rng) else {
                return;
            };
            if !visible.shows(entry) {
                continue;
            }
            let key = entry.key().to_vec();
            if !entry.is_expired(scene.run.now) {
                self.found = Some(key);
                return;
            }
            expire(place, partition, &key, scene, effects);
        }
        let alive = partition
            .iter()
            .find(|entry| !entry.is_expired(scene.run.now) && visible.shows(entry));
        self.found = alive.map(|entry| entry.key().to_vec());
    }

    fn finish(self: Box<Self>, _scene: &Scene<'_>, _effects: &mut Effects, reply: &mut Reply<'_>) {
        match self.found {
            Some(key) => reply.bulk(&key),
            None => reply.null(),
        }
    }
}

fn flushdb(args: &mut Args<'_>, _scene: &Scene<'_>) -> Begun {
    Flush::begin(args, false)
}

fn flushall(args: &mut Args<'_>, _scene: &Scene<'_>) -> Begun {
    Flush::begin(args, true)
}

/// Empties one database or all at one instant. With SYNC as with ASYNC, what was in them is freed in the background, as DEL
/// frees as UNLINK does: the account of memory is settled at once.
struct Flush {
    request: OwnedArguments,
    is_of_all: bool,
}

impl Flush {
    fn begin(args: &mut Args<'_>, is_of_all: bool) -> Begun {
        if !args.keyword("ASYNC") {
            args.keyword("SYNC");
        }
        args.end()?;
        let request = args.all().to_owned();
        Ok(Box::new(Flush { request, is_of_all }))
    }
}

impl Sweep for Flush {
    fn finish(self: Box<Self>, scene: &Scene<'_>, effects: &mut Effects, reply: &mut Reply<'_>) {
        let command: Vec<&[u8]> = self.request.as_arguments().iter().collect();
        // Waits for every partition.
        let content = give_worker_away(|| {
            if self.is_of_all {
                scene.keyspace.flush_all(scene.database, &command, effects)
            } else {
                scene.keyspace.flush(scene.database, &command, effects)
            }
        });
        discard(content, effects);
        reply.ok();
    }

    fn finish_within<'k>(
        self: Box<Self>,
        scene: &Scene<'k>,
        everything: &mut Locked<'k>,
        effects: &mut Effects,
        reply: &mut Reply<'_>,
    ) {
        let command: Vec<&[u8]> = self.request.as_arguments().iter().collect();
        let asker = scene.database;
        let which = if self.is_of_all {
            Flushed::All { asker }
        } else {
            Flushed::One(asker)
        };
        let content = scene
            .keyspace
            .flush_within(which, everything, &command, effects);
        discard(content, effects);
        reply.ok();
    }
}

fn discard(content: Vec<Detached>, effects: &mut Effects) {
    if !content.is_empty() {
        effects.discard(Some(Garbage::Tables(content)));
    }
}

fn swapdb(args: &mut Args<'_>, scene: &Scene<'_>) -> Begun {
    let first = database_number(args.bytes()?, "ERR invalid first DB index")?;
    let second = database_number(args.bytes()?, "ERR invalid second DB index")?;
    let exists = |number: i32| {
        u32::try_from(number)
            .ok()
            .filter(|number| (*number as usize) < scene.keyspace.database_count())
    };
    match (exists(first), exists(second)) {
        (Some(first), Some(second)) => Ok(Box::new(Swapdb { first, second })),
        _ => Err(CommandError::DatabaseOutOfRange),
    }
}

fn database_number(text: &[u8], refusal: &'static str) -> Taken<i32> {
    let number = number::parse_i64(text).and_then(|number| i32::try_from(number).ok());
    number.ok_or(CommandError::fixed(refusal))
}

struct Swapdb {
    first: u32,
    second: u32,
}

impl Sweep for Swapdb {
    fn finish(self: Box<Self>, scene: &Scene<'_>, effects: &mut Effects, reply: &mut Reply<'_>) {
        give_worker_away(|| scene.keyspace.swap(self.first, self.second, effects));
        reply.ok();
    }

    fn finish_within<'k>(
        self: Box<Self>,
        scene: &Scene<'k>,
        everything: &mut Locked<'k>,
        effects: &mut Effects,
        reply: &mut Reply<'_>,
    ) {
        scene
            .keyspace
            .swap_within(self.first, self.second, everything, effects);
        reply.ok();
    }
}

#[cfg(test)]
mod tests;
