//! MEMORY: its figures, and what is made of them.

use super::*;
use crate::admin::testing::Host;
use crate::base::allocator::AllocatorStats;
use crate::base::clock::Millis;
use crate::resp::reply::Protocol;
use crate::state::memory::DatabaseOverhead;

const MB: u64 = 1 << 20;

fn memory() -> Memory {
    Memory {
        used: 100 * MB,
        peak: 100 * MB,
        peak_at: Millis(0),
        startup: MB,
        databases: Vec::new(),
        keys: 0,
        clients_normal: 0,
        clients_replicas: 0,
        max_input: 0,
        max_output: 0,
        allocator: AllocatorStats {
            allocated: 100 * MB,
            active: 100 * MB,
            resident: 100 * MB,
            ..AllocatorStats::default()
        },
        resident: 100 * MB,
    }
}

#[test]
fn the_doctor_names_what_is_unusual() {
    assert!(
        report(
            &Memory {
                used: 5 * MB - 1,
                ..memory()
            },
            1
        )
        .contains("too little data")
    );
    assert_eq!(report(&memory(), 1), "Nothing about memory is unusual.\n");
    type Illness = (fn(&mut Memory), &'static [&'static str]);
    let illnesses: [Illness; 5] = [
        (|memory| memory.peak = 151 * MB, &["Peak:"]),
        (
            |memory| memory.allocator.allocated = 85 * MB,
            &["Fragmentation:"],
        ),
        (
            |memory| {
                memory.allocator.resident = 120 * MB;
                memory.resident = 120 * MB;
            },
            &["Unused pages:"],
        ),
        (
            |memory| memory.resident = 141 * MB,
            &["Resident memory:", "Beside the allocator:"],
        ),
        (
            |memory| memory.clients_normal = 2 * 200 * 1024 + 1,
            &["Clients:"],
        ),
    ];
    for (befall, names) in illnesses {
        let mut memory = memory();
        befall(&mut memory);
        let report = report(&memory, 2);
        let found: Vec<&str> = report
            .lines()
            .filter_map(|line| line.strip_prefix(" * "))
            .collect();
        assert_eq!(found.len(), names.len(), "{report}");
        for (line, name) in found.iter().zip(names) {
            assert!(line.starts_with(name), "{report}");
        }
    }
}

#[test]
fn stats_name_every_part() {
    let figures = figures(&Memory {
        used: 10_000,
        startup: 4_000,
        keys: 10,
        databases: vec![DatabaseOverhead {
            number: 2,
            tables: 300,
            main: 380,
            expires: 20,
        }],
        ..memory()
    });
    let names: Vec<&str> = figures.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        [
            "peak.allocated",
            "total.allocated",
            "startup.allocated",
            "replication.backlog",
            "clients.slaves",
            "clients.normal",
            "cluster.links",
            "aof.buffer",
            "lua.caches",
            "functions.caches",
            "db.2",
            "overhead.db.hashtable.lut",
            "overhead.db.hashtable.rehashing",
            "overhead.total",
            "db.dict.rehashing.count",
            "keys.count",
            "keys.bytes-per-key",
            "dataset.bytes",
            "dataset.percentage",
            "peak.percentage",
            "allocator.allocated",
            "allocator.active",
            "allocator.resident",
            "allocator.muzzy",
            "allocator-fragmentation.ratio",
            "allocator-fragmentation.bytes",
            "allocator-rss.ratio",
            "allocator-rss.bytes",
            "rss-overhead.ratio",
            "rss-overhead.bytes",
            "fragmentation",
            "fragmentation.bytes",
        ]
    );
    let whole = |wanted: &str| {
        figures.iter().find_map(|(name, figure)| match figure {
            Figure::Whole(value) if name == wanted => Some(*value),
            _ => None,
        })
    };
    assert_eq!(whole("overhead.total"), Some(4_400));
    assert_eq!(whole("dataset.bytes"), Some(5_600));
    assert_eq!(whole("keys.bytes-per-key"), Some(600));
    assert_eq!(whole("overhead.db.hashtable.lut"), Some(300));
}

#[test]
fn replies() {
    let host = Host::new();
    let mut client = host.client();
    assert!(
        client
            .run("MEMORY STATS")
            .starts_with("*62\r\n$14\r\npeak.allocated\r\n:")
    );
    assert!(
        client
            .run("MEMORY HELP")
            .starts_with("*14\r\n+MEMORY <subcommand>")
    );
    assert_eq!(client.run("MEMORY PURGE"), "+OK\r\n");
    let arity = "-ERR wrong number of arguments for 'memory|stats' command\r\n";
    assert_eq!(client.run("MEMORY STATS x"), arity);
    let report = client.run("MEMORY MALLOC-STATS");
    if cfg!(feature = "jemalloc") {
        assert!(report.contains("jemalloc statistics"), "{report}");
        assert!(report.len() < 300 * 1024);
    }
    client.session.protocol = Protocol::Resp3;
    assert!(client.run("MEMORY STATS").starts_with("%31\r\n"));
    assert!(client.run("MEMORY DOCTOR").starts_with("="));
}
