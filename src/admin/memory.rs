//! MEMORY: what memory is used for, as far as the server knows. MEMORY USAGE, which looks at a key, stands with the
//! commands on keys (commands/generic.rs).

#[cfg(test)]
mod tests;

use std::fmt::Write;

use super::{Caller, Done, Handler, help};
use crate::base::allocator;
use crate::base::worker::give_worker_away;
use crate::resp::reply::Reply;
use crate::state::memory::{Memory, ratio};
use crate::table::{Args, Command, CommandError, Family, Flags, Row};

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row {
    command: Command {
        name: "memory",
        family: Family::Server,
        since: "4.0.0",
        summary: "Shows what memory is used for.",
        complexity: "",
        ..Command::NEW
    },
    handler: Handler::Container,
    subcommands: &[
        Row::new(
            Command {
                name: "doctor",
                summary: "Describes what is unusual about memory and what to do about it.",
                ..SUBCOMMAND
            },
            Handler::Admin(memory_doctor),
        ),
        Row::new(
            Command {
                name: "help",
                summary: "Lists the subcommands of MEMORY.",
                flags: Flags::LOADING.union(Flags::STALE),
                tips: &[],
                ..SUBCOMMAND
            },
            Handler::Admin(memory_help),
        ),
        Row::new(
            Command {
                name: "malloc-stats",
                summary: "Prints the allocator's own report.",
                complexity: "O(N) in the number of size classes",
                ..SUBCOMMAND
            },
            Handler::Admin(memory_malloc_stats),
        ),
        Row::new(
            Command {
                name: "purge",
                summary: "Gives memory that holds nothing back to the system.",
                complexity: "O(N) in the number of unused pages",
                tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
                ..SUBCOMMAND
            },
            Handler::Admin(memory_purge),
        ),
        Row::new(
            Command {
                name: "stats",
                summary: "Lists what memory is used for.",
                ..SUBCOMMAND
            },
            Handler::Admin(memory_stats),
        ),
    ],
}];

const SUBCOMMAND: Command = Command {
    family: Family::Server,
    since: "4.0.0",
    tips: &[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ],
    ..Command::NEW
};

fn memory_stats(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let memory = Memory::measure(caller.server, caller.now);
    write_stats(&memory, reply);
    Ok(())
}

/// One value of MEMORY STATS.
enum Figure {
    Whole(i64),
    Fraction(f64),
    Database { main: u64, expires: u64 },
}

fn write_stats(memory: &Memory, reply: &mut Reply<'_>) {
    let figures = figures(memory);
    reply.map(figures.len());
    for (name, figure) in figures {
        reply.bulk(name.as_bytes());
        match figure {
            Figure::Whole(value) => reply.integer(value),
            Figure::Fraction(value) => reply.double(value),
            Figure::Database { main, expires } => {
                reply.map(2);
                reply.bulk(b"overhead.hashtable.main");
                reply.integer(main as i64);
                reply.bulk(b"overhead.hashtable.expires");
                reply.integer(expires as i64);
            }
        }
    }
}

/// Names and values in Redis's order (7.4). What is not built takes no memory.
fn figures(memory: &Memory) -> Vec<(String, Figure)> {
    let whole = |name: &str, value: u64| (name.to_owned(), Figure::Whole(value as i64));
    let fraction = |name: &str, value: f64| (name.to_owned(), Figure::Fraction(value));
    let tables = memory.databases.iter().map(|one| one.tables).sum();
    let fragmentation = memory.fragmentation();
    let mut figures = vec![
        whole("peak.allocated", memory.peak),
        whole("total.allocated", memory.used),
        whole("startup.allocated", memory.startup),
        whole("replication.backlog", 0),
        whole("clients.slaves", memory.clients_replicas),
        whole("clients.normal", memory.clients_normal),
        whole("cluster.links", 0),
        whole("aof.buffer", 0),
        whole("lua.caches", 0),
        whole("functions.caches", 0),
    ];
    figures.extend(memory.databases.iter().map(|one| {
        let (main, expires) = (one.main, one.expires);
        (
            format!("db.{}", one.number),
            Figure::Database { main, expires },
        )
    }));
    figures.extend([
        whole("overhead.db.hashtable.lut", tables),
        whole("overhead.db.hashtable.rehashing", 0),
        whole("overhead.total", memory.overhead()),
        whole("db.dict.rehashing.count", 0),
        whole("keys.count", memory.keys),
        whole("keys.bytes-per-key", memory.bytes_per_key()),
        whole("dataset.bytes", memory.dataset()),
        fraction("dataset.percentage", memory.dataset_percent()),
        fraction("peak.percentage", memory.peak_percent()),
        whole("allocator.allocated", memory.allocator.allocated),
        whole("allocator.active", memory.allocator.active),
        whole("allocator.resident", memory.allocator.resident),
        whole("allocator.muzzy", memory.allocator.muzzy),
    ]);
    for (ratio, bytes, excess) in [
        (
            "allocator-fragmentation.ratio",
            "allocator-fragmentation.bytes",
            fragmentation.allocator,
        ),
        (
            "allocator-rss.ratio",
            "allocator-rss.bytes",
            fragmentation.allocator_resident,
        ),
        (
            "rss-overhead.ratio",
            "rss-overhead.bytes",
            fragmentation.process,
        ),
        ("fragmentation", "fragmentation.bytes", fragmentation.total),
    ] {
        figures.push(fraction(ratio, excess.ratio));
        figures.push((bytes.to_owned(), Figure::Whole(excess.bytes)));
    }
    figures
}

fn memory_doctor(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let memory = Memory::measure(caller.server, caller.now);
    let text = report(&memory, caller.server.clients.len() as u64);
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Below this the server itself weighs more than the data, and ratios say nothing (redis's bounds, here and below).
const SMALL_BYTES: u64 = 5 * 1024 * 1024;
/// Excess that is worth a word.
const EXCESS_BYTES: i64 = 10 * 1024 * 1024;
/// Buffers per client that are worth a word.
const CLIENT_BYTES: u64 = 200 * 1024;

/// What is unusual about memory.
fn report(memory: &Memory, clients: u64) -> String {
    if memory.used < SMALL_BYTES {
        return "There is too little data to say anything about memory: come back with more than 5 MB of it.\n".to_owned();
    }
    let fragmentation = memory.fragmentation();
    let findings = [
        (
            ratio(memory.peak, memory.used) > 1.5,
            "Peak: more than 1.5 times the present memory was used once, and the allocator may still hold some of it. \
             MEMORY PURGE gives back what it can.",
        ),
        (
            fragmentation.total.ratio > 1.4 && fragmentation.total.bytes > EXCESS_BYTES,
            "Resident memory: the process takes more than 1.4 times what the data needs. Either it was larger once, \
             or clients' buffers and fragmentation take the rest; the following lines tell which.",
        ),
        (
            fragmentation.allocator.ratio > 1.1 && fragmentation.allocator.bytes > EXCESS_BYTES,
            "Fragmentation: more than a tenth of the allocator's pages is lost to gaps between values. It falls as values \
             come and go; values of few sizes help.",
        ),
        (
            fragmentation.allocator_resident.ratio > 1.1
                && fragmentation.allocator_resident.bytes > EXCESS_BYTES,
            "Unused pages: the allocator keeps more than a tenth of its memory for later. MEMORY PURGE gives it back.",
        ),
        (
            fragmentation.process.ratio > 1.1 && fragmentation.process.bytes > EXCESS_BYTES,
            "Beside the allocator: the process holds more than a tenth beyond it, in code, stacks and buffers of the system.",
        ),
        (
            memory.clients_normal > clients.saturating_mul(CLIENT_BYTES),
            "Clients: their buffers take more than 200 KB each on average. CLIENT LIST shows which do not read their \
             replies; client-output-buffer-limit ends them.",
        ),
    ];
    let mut text = String::new();
    for (_, finding) in findings.iter().filter(|(found, _)| *found) {
        writeln!(text, " * {finding}\n").expect("writing to a String cannot fail");
    }
    if text.is_empty() {
        return "Nothing about memory is unusual.\n".to_owned();
    }
    format!("What is unusual about memory:\n\n{text}")
}

fn memory_malloc_stats(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    match give_worker_away(allocator::report) {
        Some(report) => reply.verbatim("txt", &report),
        None => reply.bulk(b"Stats not supported for the current allocator"),
    }
    Ok(())
}

fn memory_purge(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if cfg!(feature = "jemalloc") && !give_worker_away(allocator::purge) {
        return Err(CommandError::fixed("ERR Error purging dirty pages"));
    }
    reply.ok();
    Ok(())
}

fn memory_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(
        reply,
        "MEMORY",
        &[
            "DOCTOR",
            "    Describe what is unusual about memory, and what may help.",
            "MALLOC-STATS",
            "    Print the allocator's own report.",
            "PURGE",
            "    Give memory that holds nothing back to the system.",
            "STATS",
            "    List what memory is used for.",
            "USAGE <key> [SAMPLES <count>]",
            "    Tell how many bytes <key> and its value take. Of a value that holds others,",
            "    <count> are looked at (5 unless given, 0 for all).",
        ],
    );
    Ok(())
}
