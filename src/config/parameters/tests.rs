//! The rows, one by one: names, defaults, refusals.

use super::*;
use crate::config::testing::MACHINE;

/// The list names rows, each once.
#[test]
fn rows_without_effect_are_rows() {
    for (index, name) in WITHOUT_EFFECT.iter().enumerate() {
        let (row, _) = Row::find(name).expect(name);
        assert!(!row.has_effect());
        assert!(!WITHOUT_EFFECT[..index].contains(name), "{name}");
    }
    assert!(Row::find("maxmemory").is_some_and(|(row, _)| row.has_effect()));
    assert!(Row::find("appendonly").is_some_and(|(row, _)| !row.has_effect()));
}

fn changed(name: &str, value: &str) -> Result<String, String> {
    let mut settings = Settings::new(MACHINE);
    let (row, _) = Row::find(name).expect("the parameter exists");
    row.set_text(&mut settings, value)
        .map(|()| row.value(&settings))
}

#[test]
fn names_are_unique() {
    // Aim: one row per name, aliases included, in either list; lower case, as lookups expect.
    let names: Vec<_> = Row::all().flat_map(Row::names).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
}

#[test]
fn defaults_are_good_values() {
    // Aim: every default is accepted, and shown as it is documented, save those that depend on the machine or change their form.
    let settings = Settings::new(MACHINE);
    let other = [
        "proto-max-bulk-len",
        "client-query-buffer-limit",
        "client-output-buffer-limit",
        "maxmemory",
        "dir",
    ];
    for row in PARAMETERS {
        assert!(
            row.doc.ends_with('.') && row.doc.len() < 160,
            "{}",
            row.name
        );
        if !other.contains(&row.name) {
            assert_eq!((row.get)(&settings), row.default, "{}", row.name);
        }
    }
    for row in IGNORED {
        if row.change != Change::Directive {
            assert_eq!(
                changed(row.name, row.default),
                Ok(row.default.into()),
                "{}",
                row.name
            );
        }
    }
    assert!(settings.ignored.is_empty());
}

#[test]
fn defaults_of_redis() {
    // Aim: what redis-server 7.0.15 answers for a few that are written in another form.
    let settings = Settings::new(MACHINE);
    for (name, value) in [
        ("proto-max-bulk-len", "536870912"),
        ("client-query-buffer-limit", "1073741824"),
        (
            "client-output-buffer-limit",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        ),
        ("save", ""),
        ("appendonly", "no"),
        ("maxmemory", "0"),
    ] {
        assert_eq!(
            Row::find(name).expect(name).0.value(&settings),
            value,
            "{name}"
        );
    }
}

#[test]
fn refusals_in_the_words_of_redis() {
    // Aim: texts compared with redis-server 7.0.15, one of each kind.
    for (name, value, why) in [
        (
            "port",
            "99999",
            "argument must be between 0 and 65535 inclusive",
        ),
        ("port", "7k", "argument couldn't be parsed into an integer"),
        (
            "timeout",
            "-1",
            "argument must be between 0 and 2147483647 inclusive",
        ),
        (
            "maxclients",
            "0",
            "argument must be between 1 and 4294967295 inclusive",
        ),
        (
            "slowlog-log-slower-than",
            "-2",
            "argument must be between -1 and 9223372036854775807 inclusive",
        ),
        (
            "active-expire-effort",
            "11",
            "argument must be between 1 and 10 inclusive",
        ),
        (
            "proto-max-bulk-len",
            "1000",
            "argument must be between 1048576 and 9223372036854775807 inclusive",
        ),
        ("maxmemory", "abc", "argument must be a memory value"),
        (
            "maxmemory",
            "101%",
            "percentage argument must be less or equal to 100",
        ),
        (
            "maxmemory-clients",
            "abc",
            "argument must be a memory or percent value",
        ),
        ("appendonly", "maybe", "argument must be 'yes' or 'no'"),
        (
            "loglevel",
            "x",
            "argument(s) must be one of the following: debug, verbose, notice, warning",
        ),
        (
            "enable-debug-command",
            "x",
            "argument(s) must be one of the following: no, yes, local",
        ),
        (
            "client-output-buffer-limit",
            "normal 1 2",
            "Wrong number of arguments in buffer limit configuration.",
        ),
        (
            "client-output-buffer-limit",
            "foo 1 2 3",
            "Invalid client class specified in buffer limit configuration.",
        ),
        (
            "client-output-buffer-limit",
            "normal 1 2 x",
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ),
        (
            "latency-tracking-info-percentiles",
            "50 x",
            "Invalid latency-tracking-info-percentiles parameters",
        ),
        (
            "latency-tracking-info-percentiles",
            "101",
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ),
        (
            "bind",
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
            "Too many bind addresses specified.",
        ),
        (
            "unixsocketperm",
            "888",
            "argument couldn't be parsed as an octal number",
        ),
        (
            "dbfilename",
            "a/b",
            "dbfilename can't be a path, just a filename",
        ),
        ("save", "100 1 200", "Invalid save parameters"),
        ("save", "0 1", "Invalid save parameters"),
        (
            "tls-port",
            "99999",
            "argument must be between 0 and 65535 inclusive",
        ),
    ] {
        assert_eq!(changed(name, value), Err(why.into()), "{name} {value}");
    }
    let text = changed("maxmemory-policy", "lru").expect_err("there is no such policy");
    assert!(text.ends_with("volatile-lru, volatile-lfu, volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction"));
}

#[test]
fn values_and_how_they_are_shown() {
    for (name, value, shown) in [
        ("MaxMemory", "100MB", "104857600"),
        ("maxmemory-policy", "ALLKEYS-LRU", "allkeys-lru"),
        ("maxmemory-clients", "60%", "60%"),
        ("hz", "1000", "500"),
        ("hz", "0", "1"),
        ("bind", "127.0.0.1 -::1", "127.0.0.1 -::1"),
        ("bind", "", ""),
        ("bind", "[::1]", "::1"),
        ("unixsocketperm", "700", "700"),
        (
            "client-output-buffer-limit",
            "SLAVE 1mb 2kb 3",
            "normal 0 0 0 slave 1048576 2048 3 pubsub 33554432 8388608 60",
        ),
        (
            "client-output-buffer-limit",
            "",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        ),
        (
            "latency-tracking-info-percentiles",
            "1 2.5 99.99",
            "1 2.5 99.99",
        ),
        ("latency-tracking-info-percentiles", "", ""),
        ("list-max-ziplist-size", "-6", "-6"),
        ("save", "100 1 200 2", "100 1 200 2"),
        ("auto-aof-rewrite-min-size", "64mb", "67108864"),
        ("notify-keyspace-events", "KEA", "AKE"),
    ] {
        assert_eq!(changed(name, value), Ok(shown.into()), "{name} {value}");
    }
}

#[test]
fn refused_rather_than_ignored() {
    for (name, value) in [
        ("tls-port", "6380"),
        ("replicaof", "host 1"),
        ("slaveof", "host 1"),
        ("aclfile", "/x"),
        ("user", "default on"),
        ("user", ""),
        ("loadmodule", "x"),
    ] {
        assert!(changed(name, value).is_err(), "{name}");
    }
}

#[test]
fn memory_of_a_container() {
    // Aim: the default is three quarters of a limit, nothing without; percentages are of the limit, else of the machine.
    let boxed = Machine {
        memory_limit_bytes: Some(64 << 20),
        memory_total_bytes: 8 << 30,
        cpu_count: 2,
    };
    let mut settings = Settings::new(boxed);
    assert_eq!(
        (settings.maxmemory_bytes(), settings.worker_threads()),
        (48 << 20, 2)
    );
    assert_eq!(Settings::new(MACHINE).maxmemory_bytes(), 0);
    let set = |settings: &mut Settings, value: &str| {
        Row::find("maxmemory")
            .expect("it exists")
            .0
            .set_text(settings, value)
    };
    set(&mut settings, "50%").expect("the value is good");
    assert_eq!(settings.maxmemory_bytes(), 32 << 20);
    settings.maxmemory_clients = Memory::Percent(10);
    assert_eq!(settings.maxmemory_clients_bytes(), (32 << 20) / 10);
    set(&mut settings, "0").expect("the value is good");
    assert_eq!(
        (
            settings.maxmemory_bytes(),
            settings.maxmemory_clients_bytes()
        ),
        (0, 0)
    );
    set(&mut settings, "Auto").expect("the value is good");
    assert_eq!(settings.maxmemory_bytes(), 48 << 20);
    let unknown = Machine {
        memory_limit_bytes: None,
        memory_total_bytes: 0,
        cpu_count: 1,
    };
    assert!(set(&mut Settings::new(unknown), "50%").is_err());
}
