//! Databases, expiry, the memory limit, and SCAN's promise.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::script::{in_both, in_both_with};
use crate::support::client::encode;
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::{Client, Server, Value, eventually};

const MIB: i64 = 1024 * 1024;

#[test]
fn sixteen_databases() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for database in 0..16 {
        assert_eq!(client.run(&["SELECT", &database.to_string()]), Value::ok());
        assert_eq!(client.line("EXISTS k"), Value::Int(0));
        client.run(&["SET", "k", &database.to_string()]);
    }
    for database in 0..16 {
        client.run(&["SELECT", &database.to_string()]);
        assert_eq!(client.line("GET k"), Value::bulk(database.to_string()));
    }
    assert_eq!(client.line("FLUSHDB"), Value::ok());
    assert_eq!(client.line("DBSIZE"), Value::Int(0));
    assert_eq!(client.line("SELECT 3"), Value::ok());
    assert_eq!(client.line("DBSIZE"), Value::Int(1));
    let keyspace = client.info("keyspace");
    assert_eq!(
        keyspace
            .lines()
            .filter(|line| line.starts_with("db"))
            .count(),
        15,
        "{keyspace}"
    );
    assert!(
        keyspace.contains("db3:keys=1,expires=0,avg_ttl=0"),
        "{keyspace}"
    );
    assert_eq!(client.line("FLUSHALL"), Value::ok());
    assert_eq!(
        client
            .info("keyspace")
            .lines()
            .filter(|line| line.starts_with("db"))
            .count(),
        0
    );
}

#[test]
fn keys_go_from_one_database_to_another() {
    if ring_differs(RingDiffers::Swaps) {
        return;
    }
    in_both(
        r#"
        SELECT 16                   => -ERR DB index is out of range
        SELECT x                    => -ERR value is not an integer or out of range
        SELECT                      => -ERR wrong number of arguments for 'select' command
        SET k v EX 1000             => +OK
        MOVE k 0                    => -ERR source and destination objects are the same
        MOVE k 16                   => -ERR DB index is out of range
        MOVE k x                    => -ERR value is not an integer or out of range
        MOVE missing 1              => :0
        MOVE k 1                    => :1
        EXISTS k                    => :0
        SELECT 1                    => +OK
        TTL k                       => :1000
        COPY k k DB 0               => :1
        COPY k k DB 0               => :0
        COPY k k DB 0 REPLACE       => :1
        MOVE k 0                    => :0
        SELECT 0                    => +OK
        TTL k                       => :1000
        SET own 1                   => +OK
        SWAPDB 0 1                  => +OK
        EXISTS own                  => :0
        DBSIZE                      => :1
        SWAPDB 1 1                  => +OK
        SELECT 1                    => +OK
        DBSIZE                      => :2
        SWAPDB 0 16                 => -ERR DB index is out of range
        SWAPDB x 1                  => -ERR invalid first DB index
        SWAPDB 0 x                  => -ERR invalid second DB index
        FLUSHDB SYNC                => +OK
        DBSIZE                      => :0
        SELECT 0                    => +OK
        DBSIZE                      => :1
        FLUSHALL ASYNC              => +OK
        DBSIZE                      => :0
        FLUSHALL NOPE               => -ERR syntax error
        FLUSHDB ASYNC SYNC          => -ERR syntax error
        "#,
    );
    in_both_with(
        &["--databases", "2"],
        "SELECT 1 => +OK\nSELECT 2 => -ERR DB index is out of range\nSELECT 0 => +OK",
    );
}

#[test]
fn swapdb_is_for_all_clients() {
    if ring_differs(RingDiffers::Swaps) {
        return;
    }
    let server = Server::start(&[]);
    let mut first = server.client();
    let mut second = server.client();
    second.line("SELECT 1");
    first.line("SET k zero");
    second.line("SET k one");
    assert_eq!(first.line("SWAPDB 0 1"), Value::ok());
    assert_eq!(first.line("GET k"), Value::bulk("one"));
    assert_eq!(second.line("GET k"), Value::bulk("zero"));
}

#[test]
fn expired_keys_are_absent_before_they_are_removed() {
    // Aim: without the active cycle: a key that is over its time is absent to every command, and goes when it is met.
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.line("DEBUG SET-ACTIVE-EXPIRE 0"), Value::ok());
    client.line("SET k v PX 1");
    client.line("SET other v PX 1");
    client.line("SET stays v PX 600000");
    eventually("the keys to expire", || {
        (client.line("TTL k") == Value::Int(-2)).then_some(())
    });
    eventually("the other key to expire", || {
        client
            .line("GETRANGE other 0 -1")
            .bytes()
            .is_empty()
            .then_some(())
    });
    crate::script::run(
        &server,
        &mut client,
        2,
        r#"
        GET k               => nil
        EXISTS k            => :0
        TYPE k              => +none
        RENAME k x          => -ERR no such key
        SET k v XX          => nil
        PERSIST k           => :0
        OBJECT ENCODING k   => nil
        KEYS *              => ["stays"]
        RANDOMKEY           => "stays"
        DBSIZE              => :1
        APPEND k w          => :1
        TTL k               => :-1
        "#,
    );
}

#[test]
fn expired_keys_are_removed_without_being_met() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let server = Server::start(&[]);
    let mut client = server.client();
    let count = 20_000;
    client.send_raw(
        &(0..count)
            .flat_map(|index| encode(&["SET", &format!("brief:{index}"), "v", "PX", "100"]))
            .collect::<Vec<u8>>(),
    );
    (0..count).for_each(|_| assert_eq!(client.read().value, Value::ok()));
    client.line("SET stays v");
    let mut worst = Duration::ZERO;
    eventually("all to be gone", || {
        let begun = Instant::now();
        let size = client.line("DBSIZE");
        worst = worst.max(begun.elapsed());
        (size == Value::Int(1)).then_some(())
    });
    assert!(
        worst < Duration::from_secs(1),
        "a round trip took {worst:?}"
    );
    assert_eq!(
        client.info_field("stats", "expired_keys"),
        Some(count.to_string())
    );
    assert!(
        client.info("keyspace").contains("db0:keys=1,expires=0"),
        "{}",
        client.info("keyspace")
    );
}

#[test]
fn scan_returns_what_stays_while_the_table_grows_and_shrinks() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let stable: BTreeSet<String> = (0..1000).map(|index| format!("stable:{index}")).collect();
    for key in &stable {
        client.run(&["SET", key, "v"]);
    }
    for count in ["1", "10", "1000"] {
        let (mut cursor, mut seen, mut calls) = ("0".to_owned(), BTreeSet::new(), 0);
        loop {
            let page = client.run(&["SCAN", &cursor, "COUNT", count]).items();
            seen.extend(page[1].items().iter().map(Value::text));
            cursor = page[0].text();
            assert!(
                cursor.parse::<u64>().is_ok_and(|cursor| cursor < 1 << 63),
                "{cursor}"
            );
            if cursor == "0" {
                break;
            }
            calls += 1;
            // Grows for a while, then shrinks.
            let command = if calls < 200 { "SET" } else { "DEL" };
            for index in 0..20 {
                let key = format!("passing:{}", calls % 200 * 20 + index);
                client.run(
                    if command == "SET" {
                        vec!["SET", &key, "v"]
                    } else {
                        vec!["DEL", &key]
                    }
                    .as_slice(),
                );
            }
        }
        assert!(
            stable.is_subset(&seen),
            "COUNT {count}: {} were missed",
            stable.difference(&seen).count()
        );
    }
    let matched = client.line("SCAN 0 MATCH stable:1 COUNT 100000").items();
    assert_eq!(matched[1].items(), [Value::bulk("stable:1")]);
}

fn used(client: &mut Client) -> i64 {
    client
        .info_field("memory", "used_memory")
        .and_then(|text| text.parse().ok())
        .expect("a number")
}

fn evicted(client: &mut Client) -> i64 {
    client
        .info_field("stats", "evicted_keys")
        .and_then(|text| text.parse().ok())
        .expect("a number")
}

/// Leaves room for so many bytes.
fn set_limit(client: &mut Client, bytes: i64) -> i64 {
    let limit = used(client) + bytes;
    assert_eq!(
        client.run(&["CONFIG", "SET", "maxmemory", &limit.to_string()]),
        Value::ok()
    );
    limit
}

/// Sends SETs of 1 KiB in batches; how many were refused for want of memory. Looks at the memory after each batch.
fn fill(
    client: &mut Client,
    limit: i64,
    names: impl Iterator<Item = String>,
    options: &[&str],
) -> usize {
    let names: Vec<String> = names.collect();
    let value = "v".repeat(1024);
    let mut refused = 0;
    for batch in names.chunks(100) {
        let requests = batch
            .iter()
            .flat_map(|name| encode(&[&["SET", name.as_str(), &value], options].concat()));
        client.send_raw(&requests.collect::<Vec<u8>>());
        for name in batch {
            match client.read().value {
                Value::Error(text) => {
                    assert_eq!(
                        text, b"OOM command not allowed when used memory > 'maxmemory'.",
                        "{name}"
                    );
                    refused += 1;
                }
                reply => assert_eq!(reply, Value::ok()),
            }
        }
        let used = used(client);
        assert!(
            used < limit + MIB,
            "{used} bytes are used, {limit} are allowed"
        );
    }
    refused
}

#[test]
fn policies_of_all_keys_make_room() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        let server = Server::start(&["--maxmemory-policy", policy]);
        let mut client = server.client();
        let limit = set_limit(&mut client, 4 * MIB);
        let refused = fill(
            &mut client,
            limit,
            (0..12_000).map(|index| format!("k:{index}")),
            &[],
        );
        assert_eq!(refused, 0, "{policy}");
        assert!(evicted(&mut client) > 5000, "{policy}");
        let left = client.line("DBSIZE").int();
        assert!((1500..5000).contains(&left), "{policy} left {left} keys");
    }
}

#[test]
fn volatile_policies_spare_keys_without_expiry() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    for policy in [
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        let server = Server::start(&["--maxmemory-policy", policy]);
        let mut client = server.client();
        for index in 0..500 {
            client.run(&["SET", &format!("lasting:{index}"), &"v".repeat(100)]);
        }
        let limit = set_limit(&mut client, 4 * MIB);
        let refused = fill(
            &mut client,
            limit,
            (0..12_000).map(|index| format!("k:{index}")),
            &["EX", "1000"],
        );
        assert_eq!(refused, 0, "{policy}");
        assert!(evicted(&mut client) > 5000, "{policy}");
        for index in 0..500 {
            assert_eq!(
                client.run(&["EXISTS", &format!("lasting:{index}")]),
                Value::Int(1),
                "{policy}"
            );
        }
        // When only lasting keys are left, nothing may go.
        let refused = fill(
            &mut client,
            limit,
            (0..6000).map(|index| format!("also lasting:{index}")),
            &[],
        );
        assert!(refused > 1000, "{policy} refused {refused}");
        let info = client.info("keyspace");
        assert!(
            info.contains(",expires=0,"),
            "{policy} refused while keys could go: {info}"
        );
    }
}

#[test]
fn volatile_ttl_takes_what_expires_first() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let server = Server::start(&["--maxmemory-policy", "volatile-ttl"]);
    let mut client = server.client();
    let limit = set_limit(&mut client, 4 * MIB);
    fill(
        &mut client,
        limit,
        (0..1500).map(|index| format!("late:{index}")),
        &["EX", "100000"],
    );
    fill(
        &mut client,
        limit,
        (0..1500).map(|index| format!("soon:{index}")),
        &["EX", "1000"],
    );
    fill(
        &mut client,
        limit,
        (0..1300).map(|index| format!("late too:{index}")),
        &["EX", "100000"],
    );
    let late = client.line("KEYS late*").items().len();
    let soon = client.line("KEYS soon:*").items().len();
    let evicted = evicted(&mut client);
    assert!(evicted > 200, "{late} {soon}");
    // Sampling errs now and then.
    let late_evicted = 2800 - late as i64;
    assert!(
        late_evicted * 4 < evicted,
        "{evicted} keys were evicted, {late_evicted} of them late ones"
    );
}

#[test]
fn lfu_keeps_what_is_asked_for() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "1"]);
    let mut client = server.client();
    let limit = set_limit(&mut client, 4 * MIB);
    fill(
        &mut client,
        limit,
        (0..300).map(|index| format!("hot:{index}")),
        &[],
    );
    let all: Vec<String> = std::iter::once("MGET".to_owned())
        .chain((0..300).map(|index| format!("hot:{index}")))
        .collect();
    for _ in 0..30 {
        client.run(&all);
    }
    fill(
        &mut client,
        limit,
        (0..8000).map(|index| format!("cold:{index}")),
        &[],
    );
    let hot = client.line("KEYS hot:*").items().len();
    assert!(hot > 270, "{hot} of 300 keys in use are left");
}

#[test]
fn oom_is_said_to_commands_that_need_memory_and_to_no_other() {
    if ring_differs(RingDiffers::Swaps) {
        return;
    }
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let mut client = server.client();
    crate::script::run(
        &server,
        &mut client,
        2,
        "MSET a 1 b 2 s text => +OK\nSET t v EX 1000 => +OK",
    );
    assert_eq!(client.line("CONFIG SET maxmemory 1"), Value::ok());
    let oom = Value::error("OOM command not allowed when used memory > 'maxmemory'.");
    let samples = [
        "SET k v",
        "SETNX k v",
        "SETEX k 10 v",
        "PSETEX k 10 v",
        "GETSET a v",
        "MSET k v",
        "MSETNX k v",
        "APPEND s x",
        "SETRANGE s 1 x",
        "INCR a",
        "DECR a",
        "INCRBY a 1",
        "DECRBY a 1",
        "INCRBYFLOAT a 1",
        "SETBIT s 1 1",
        "BITOP NOT k s",
        "BITFIELD s SET u8 0 1",
        "COPY a k",
        "GET a",
        "MGET a b",
        "STRLEN s",
        "GETRANGE s 0 1",
        "SUBSTR s 0 1",
        "GETBIT s 1",
        "BITCOUNT s",
        "BITPOS s 1",
        "BITFIELD_RO s GET u8 0",
        "LCS a b",
        "EXISTS a",
        "TYPE a",
        "TTL a",
        "PTTL a",
        "EXPIRETIME a",
        "PEXPIRETIME a",
        "TOUCH a",
        "OBJECT ENCODING a",
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "DBSIZE",
        "EXPIRE a 1000",
        "PEXPIRE a 100000",
        "EXPIREAT a 4000000000",
        "PEXPIREAT a 4000000000000",
        "PERSIST a",
        "GETEX a",
        "RENAME a aa",
        "RENAMENX aa a",
        "MOVE a 1",
        "SWAPDB 0 1",
        "SWAPDB 0 1",
        "DEL b",
        "UNLINK s",
        "GETDEL t",
        "PING",
        "ECHO x",
        "TIME",
        "INFO",
        "CONFIG GET maxmemory",
        "COMMAND COUNT",
        "CLIENT ID",
        "SELECT 0",
        "FLUSHDB",
        "FLUSHALL",
    ];
    for line in samples {
        let words = crate::support::words(line).expect("no quotes");
        let info = client
            .run(&[b"COMMAND".as_slice(), b"INFO", &words[0]])
            .items();
        let flags = info[0].items()[2].items();
        let needs_memory = flags.iter().any(|flag| flag.text() == "denyoom");
        let reply = client.run(&words);
        assert_eq!(reply == oom, needs_memory, "{line}: {reply:?}");
        assert!(needs_memory || !reply.is_error(), "{line}: {reply:?}");
    }
    assert_eq!(client.line("SET k v"), oom);
    assert_eq!(client.line("CONFIG SET maxmemory 0"), Value::ok());
    assert_eq!(client.line("SET k v"), Value::ok());
}

#[test]
fn a_limit_below_what_is_used_is_reached_by_eviction_alone() {
    // Aim: nobody writes; the background brings memory down to a limit that was lowered.
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.client();
    let empty = used(&mut client);
    let limit = set_limit(&mut client, 100 * MIB);
    fill(
        &mut client,
        limit,
        (0..8000).map(|index| format!("k:{index}")),
        &[],
    );
    client.run(&["CONFIG", "SET", "maxmemory", &(empty + 3 * MIB).to_string()]);
    eventually("memory to come down", || {
        (used(&mut client) < empty + 4 * MIB).then_some(())
    });
    assert!(client.line("DBSIZE").int() > 1000);
}

#[test]
fn large_values_over_small_keys_stay_near_the_limit() {
    // Aim: one write brings what a thousand keys free: the bound on the work of each command must not let memory run away.
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.client();
    let limit = set_limit(&mut client, 16 * MIB);
    let small = (0..100_000).flat_map(|index| encode(&["SET", &format!("small:{index}"), "v"]));
    client.send_raw(&small.collect::<Vec<u8>>());
    (0..100_000).for_each(|_| assert_eq!(client.read().value, Value::ok()));
    let value = "v".repeat(256 * 1024);
    let mut most = 0;
    for index in 0..400 {
        assert_eq!(
            client.run(&["SET", &format!("large:{index}"), &value]),
            Value::ok()
        );
        most = most.max(used(&mut client));
    }
    assert!(
        most < limit + 8 * MIB,
        "{most} bytes were used, {limit} are allowed"
    );
    assert!(client.line("EXISTS large:399") == Value::Int(1));
}
