//! HyperLogLog: estimates of how many different elements were added, in strings of Redis's own format.
//!
//! A value is a string like any other, which GET and SET move between servers; whatever a client wrote there is read with
//! suspicion (`data/hyperloglog.rs`). PFCOUNT is a reading command by its flags, and yet keeps its result in the value.

use super::{Done, Handler};
use crate::base::worker::give_worker_away;
use crate::data::hyperloglog::{
    self, Corrupted, Encoding, Extent, Mark, REGISTERS, Registers, Sketch, cached_cardinality,
    cardinality, raise_dense, raises_dense, self_test,
};
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::{Entry, NewValue};
use crate::keyspace::view::{Ttl, View};
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::{Args, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "pfadd",
            family: Family::HyperLogLog,
            since: "2.8.9",
            summary: "Adds elements to a HyperLogLog, which is created when it is missing.",
            complexity: "O(1) for each element",
            usage: "key [element ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pfadd),
    ),
    Row::new(
        Command {
            name: "pfcount",
            family: Family::HyperLogLog,
            since: "2.8.9",
            summary: "Estimates how many different elements were added to one or more HyperLogLogs together.",
            complexity: "O(1) for one key, O(N) for N keys, each a pass over 16384 registers",
            usage: "key [key ...]",
            flags: Flags::READONLY.union(Flags::MAY_REPLICATE),
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RW_ACCESS)
                .noted("RW since the estimate is kept in the value, which is told to replicas")],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pfcount),
    ),
    Row::new(
        Command {
            name: "pfdebug",
            family: Family::HyperLogLog,
            since: "2.8.9",
            summary: "Shows the inside of a HyperLogLog, for the tests of servers.",
            complexity: "O(N) in the registers",
            usage: "subcommand key",
            flags: Flags::WRITE
                .union(Flags::DENYOOM)
                .union(Flags::ADMIN)
                .union(Flags::SYSTEM),
            keys: &[KeySpec::one(2, KeyAccess::RW_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pfdebug),
    ),
    Row::new(
        Command {
            name: "pfmerge",
            family: Family::HyperLogLog,
            since: "2.8.9",
            summary: "Merges HyperLogLogs into one that stands for the elements of all of them.",
            complexity: "O(N) in the keys, each a pass over 16384 registers",
            usage: "<-2> destkey:key sourcekey:key [sourcekey ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_ACCESS_INSERT),
                KeySpec::range(2, -1, 1, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pfmerge),
    ),
    Row::new(
        Command {
            name: "pfselftest",
            family: Family::HyperLogLog,
            since: "2.8.9",
            summary: "Tests registers and estimates of HyperLogLogs; takes a second or so.",
            complexity: "O(1), ten million elements",
            flags: Flags::ADMIN.union(Flags::SYSTEM),
            ..Command::NEW
        },
        Handler::Read(pfselftest),
    ),
];

const NOT_HYPERLOGLOG: CommandError =
    CommandError::fixed("WRONGTYPE Key is not a valid HyperLogLog string value.");

fn corrupted(_: Corrupted) -> CommandError {
    CommandError::fixed("INVALIDOBJ Corrupted HLL object detected")
}

fn encoding_of(entry: &Entry) -> Result<Encoding, CommandError> {
    Encoding::of(entry.bytes()).ok_or(NOT_HYPERLOGLOG)
}

fn pfadd(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let elements = args.clone();
    let added = match view.string_for_write(key)? {
        None => {
            let mut sketch = Sketch::default();
            let raised = raise_all(&mut sketch, elements, view)?;
            sketch.mark_stale();
            store(view, key, sketch);
            raised + 1
        }
        Some(entry) => match encoding_of(entry)? {
            Encoding::Dense => add_to_dense(view, key, elements),
            Encoding::Sparse => add_to_sparse(view, key, elements)?,
        },
    };
    if added > 0 {
        view.notify(EventClass::STRING, "pfadd", key);
    }
    reply.integer(i64::from(added > 0));
    Ok(())
}

/// Adds elements to a dense value that is there, in place. Returns how many raised a register.
fn add_to_dense(view: &mut View<'_>, key: &[u8], mut elements: Args<'_>) -> u64 {
    let Some(entry) = view.peek(key) else {
        return 0;
    };
    // Most elements of most values were seen before: those cost no write.
    while let Some(element) = elements.peek() {
        if raises_dense(entry.bytes(), Mark::of(element)) {
            break;
        }
        let _ = elements.bytes();
    }
    if elements.is_empty() {
        make_raw(view, key);
        return 0;
    }
    let dirty = view.effects.dirty;
    let raised = view.edit(key, 0, |value| {
        let mut raised = 0;
        while let Ok(element) = elements.bytes() {
            raised += u64::from(raise_dense(value, Mark::of(element)));
        }
        raised
    });
    view.effects.dirty = dirty + raised.unwrap_or(0);
    raised.unwrap_or(0)
}

/// As [`add_to_dense`], for a sparse value; it may become dense.
fn add_to_sparse(view: &mut View<'_>, key: &[u8], elements: Args<'_>) -> Result<u64, CommandError> {
    let Some(entry) = view.peek(key).filter(|_| !elements.is_empty()) else {
        make_raw(view, key);
        return Ok(0);
    };
    let mut sketch = Sketch::of(entry.bytes()).map_err(corrupted)?;
    let raised = raise_all(&mut sketch, elements, view)?;
    if raised > 0 {
        store(view, key, sketch);
        view.effects.dirty += raised - 1;
    } else {
        make_raw(view, key);
    }
    Ok(raised)
}

fn raise_all(
    sketch: &mut Sketch,
    mut elements: Args<'_>,
    view: &View<'_>,
) -> Result<u64, CommandError> {
    let sparse_max = view.rules().hll_sparse_max_bytes;
    let mut raised = 0;
    while let Ok(element) = elements.bytes() {
        let is_raised = sketch.raise(Mark::of(element), sparse_max);
        raised += u64::from(is_raised.map_err(corrupted)?);
    }
    Ok(raised)
}

/// Keeps a value; counts as one change.
fn store(view: &mut View<'_>, key: &[u8], sketch: Sketch) {
    view.set_raw(key, NewValue::Copy(&sketch.into_bytes()), Ttl::Keep);
}

/// What every look of these commands does in Redis: a string that was stored in one piece is reported as raw from now on.
fn make_raw(view: &mut View<'_>, key: &[u8]) {
    if view.peek(key).is_some_and(|entry| !entry.is_raw()) {
        let dirty = view.effects.dirty;
        view.edit(key, 0, |_| ());
        view.effects.dirty = dirty;
    }
}

fn pfcount(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let count = if args.is_empty() {
        count_one(view, key)?
    } else {
        merged(&args.all(), view)?.0.cardinality()
    };
    reply.integer(count as i64);
    Ok(())
}

/// The estimate of one key, which is kept in its value.
fn count_one(view: &mut View<'_>, key: &[u8]) -> Result<u64, CommandError> {
    let Some(entry) = view.string(key)? else {
        return Ok(0);
    };
    encoding_of(entry)?;
    if let Some(cached) = cached_cardinality(entry.bytes()) {
        make_raw(view, key);
        return Ok(cached);
    }
    let count = cardinality(entry.bytes()).map_err(corrupted)?;
    view.edit(key, 0, |value| hyperloglog::cache_cardinality(value, count));
    Ok(count)
}

/// What a key's registers cost, in elements of a collection.
const MERGE_WORK: usize = 200;

/// The registers of all keys of a request together, and whether one of them is dense.
fn merged(request: &Arguments<'_>, view: &View<'_>) -> Result<(Registers, bool), CommandError> {
    let mut registers = Registers::default();
    let mut is_dense = false;
    view.heavy_read(request.len() * MERGE_WORK, || {
        for key in request.iter().skip(1) {
            if let Some(entry) = view.string(key)? {
                is_dense |= encoding_of(entry)? == Encoding::Dense;
                registers.merge(entry.bytes()).map_err(corrupted)?;
            }
        }
        Ok((registers, is_dense))
    })
}

fn pfmerge(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (registers, is_dense) = merged(&args.all(), view)?;
    let mut sketch = match view.string_for_write(key)? {
        Some(entry) => Sketch::of(entry.bytes()).map_err(corrupted)?,
        None => Sketch::default(),
    };
    if is_dense {
        sketch.make_dense().map_err(corrupted)?;
    }
    let sparse_max = view.rules().hll_sparse_max_bytes;
    for mark in registers.marks() {
        sketch.raise(mark, sparse_max).map_err(corrupted)?;
    }
    sketch.mark_stale();
    store(view, key, sketch);
    view.notify(EventClass::STRING, "pfadd", key);
    reply.ok();
    Ok(())
}

fn pfdebug(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let subcommand = args.bytes()?;
    let key = args.bytes()?;
    let Some(entry) = view.string_for_write(key)? else {
        return Err(CommandError::fixed("ERR The specified key does not exist"));
    };
    let encoding = encoding_of(entry)?;
    match subcommand {
        _ if subcommand.eq_ignore_ascii_case(b"GETREG") => {
            let mut registers = Registers::default();
            registers.merge(entry.bytes()).map_err(corrupted)?;
            become_dense(view, key, encoding)?;
            reply.array(REGISTERS);
            for count in registers.iter() {
                reply.integer(i64::from(count));
            }
        }
        _ if subcommand.eq_ignore_ascii_case(b"DECODE") => {
            if encoding == Encoding::Dense {
                return Err(CommandError::fixed("ERR HLL encoding is not sparse"));
            }
            let runs = hyperloglog::describe_runs(entry.bytes()).map_err(corrupted)?;
            make_raw(view, key);
            reply.bulk(runs.as_bytes());
        }
        _ if subcommand.eq_ignore_ascii_case(b"ENCODING") => {
            make_raw(view, key);
            reply.simple(encoding.name());
        }
        _ if subcommand.eq_ignore_ascii_case(b"TODENSE") => {
            become_dense(view, key, encoding)?;
            reply.integer(i64::from(encoding == Encoding::Sparse));
        }
        _ => {
            return Err(CommandError::quoting(
                "Unknown PFDEBUG subcommand '",
                subcommand,
                "'",
            ));
        }
    }
    Ok(())
}

/// Makes a sparse value dense. Its cardinality stays, and stays as valid as it was.
fn become_dense(view: &mut View<'_>, key: &[u8], encoding: Encoding) -> Done {
    let Some(entry) = view.peek(key).filter(|_| encoding == Encoding::Sparse) else {
        make_raw(view, key);
        return Ok(());
    };
    let dense = hyperloglog::to_dense(entry.bytes()).map_err(corrupted)?;
    view.set_raw(key, NewValue::Copy(&dense), Ttl::Keep);
    Ok(())
}

fn pfselftest(_: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let sparse_max = view.rules().hll_sparse_max_bytes;
    give_worker_away(|| self_test(view.rng(), Extent::FULL, sparse_max))
        .map_err(|problem| CommandError::text_of(format!("ERR TESTFAILED {problem}")))?;
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests;
