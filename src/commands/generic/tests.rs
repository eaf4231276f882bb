//! Each command against what redis-server 7.0.15 replies; the traps by name.

use super::*;
use crate::commands::testing::{World, run, run_parts};
use crate::keyspace::entry::NewValue;
use crate::keyspace::evict::Policy;
use crate::keyspace::lock::{PATIENCE, lock_one};
use crate::table::check::check_row;

/// Puts a key into a database as if it had been there for long.
fn put(world: &World, database: u32, key: &str, value: &[u8], expiry: Option<Millis>) {
    let hash = world.keyspace.hasher().hash(key.as_bytes());
    let mut held = lock_one(
        &world.keyspace,
        world.keyspace.place(database, hash),
        PATIENCE,
    )
    .expect("a patient taker waits");
    held.partition.remove(hash, key.as_bytes());
    held.partition.insert(
        hash,
        Entry::new(key.as_bytes(), NewValue::Copy(value), expiry, false),
    );
    world.keyspace.account(held.partition.take_bytes());
}

/// What stands at a key: value, expiry and access clock.
fn at(world: &World, database: u32, key: &str) -> Option<(Vec<u8>, Option<Millis>, u32)> {
    let hash = world.keyspace.hasher().hash(key.as_bytes());
    let held = lock_one(
        &world.keyspace,
        world.keyspace.place(database, hash),
        PATIENCE,
    )
    .expect("a patient taker waits");
    let entry = held.partition.find(hash, key.as_bytes())?;
    Some((entry.bytes().to_vec(), entry.expiry(), entry.access()))
}

fn integer(value: i64) -> String {
    format!(":{value}\r\n")
}

fn seconds(world: &World) -> u32 {
    world.now().seconds() as u32 & 0xff_ffff
}

/// Every row holds together.
#[test]
fn rows_pass_their_check() {
    for row in ROWS.iter().chain(OBJECT) {
        assert_eq!(check_row(&row.command), Ok(()));
    }
}

/// A key given twice is removed once, but exists twice.
#[test]
fn del_exists_touch_unlink_count_as_redis() {
    let world = World::new();
    for key in ["a", "b", "c"] {
        put(&world, 0, key, b"1", None);
    }
    put(&world, 0, "gone", b"1", Some(Millis(5)));
    assert_eq!(run(&world, "EXISTS a a zz gone"), integer(2));
    assert_eq!(world.hits.get(), (2, 2));
    assert_eq!(world.records(), ["DEL gone"]);
    assert_eq!(
        world.events(),
        ["keymiss zz", "keymiss gone", "expired gone"]
    );
    assert_eq!(run(&world, "TOUCH a a zz"), integer(2));
    assert_eq!(run(&world, "DEL a a zz"), integer(1));
    assert_eq!(run(&world, "UNLINK b c b"), integer(2));
    assert_eq!(world.records(), ["DEL a a zz", "UNLINK b c b"]);
    assert_eq!(world.events(), ["keymiss zz", "del a", "del b", "del c"]);
    assert_eq!(run(&world, "DEL a"), integer(0));
    assert!(world.records().is_empty() && world.events().is_empty());
    assert_eq!(world.keyspace.dirty(), 3);
}

/// A key met expired by DEL was not there.
#[test]
fn del_of_an_expired_key_removes_nothing() {
    let world = World::new();
    put(&world, 0, "k", b"1", Some(world.now().plus(10)));
    world.advance_ms(11);
    assert_eq!(run(&world, "DEL k"), integer(0));
    assert_eq!(
        (world.records(), world.events()),
        (vec!["DEL k".into()], vec!["expired k".into()])
    );
    assert_eq!(world.keyspace.dirty(), 0);
}

/// Only what reads or writes the value moves the access clock.
#[test]
fn looking_does_not_touch_but_touch_does() {
    let world = World::new();
    put(&world, 0, "k", b"1", Some(Millis(i64::MAX)));
    let looks = [
        "TTL k",
        "PTTL k",
        "EXPIRETIME k",
        "TYPE k",
        "EXISTS k",
        "OBJECT ENCODING k",
        "OBJECT IDLETIME k",
    ];
    for look in looks {
        run(&world, look);
        assert_eq!(at(&world, 0, "k").unwrap().2, 0, "{look}");
    }
    run(&world, "TOUCH k");
    assert_eq!(at(&world, 0, "k").unwrap().2, seconds(&world));
}

/// The four ways of stating a time, and the four of asking for it.
#[test]
fn expire_and_ttl_families() {
    let world = World::new();
    let now = world.now().0;
    put(&world, 0, "k", b"1", None);
    assert_eq!(run(&world, "TTL k"), integer(-1));
    assert_eq!(run(&world, "PEXPIRETIME zz"), integer(-2));
    assert_eq!(world.events(), ["keymiss zz"]);
    let cases = [
        ("EXPIRE k 10".into(), now + 10_000),
        ("PEXPIRE k 1500".into(), now + 1500),
        (format!("EXPIREAT k {}", now / 1000 + 7), now + 7000),
        (format!("PEXPIREAT k {}", now + 2499), now + 2499),
    ];
    for (request, expiry) in cases {
        assert_eq!(run(&world, &request), integer(1));
        assert_eq!(
            at(&world, 0, "k").unwrap().1,
            Some(Millis(expiry)),
            "{request}"
        );
        assert_eq!(world.records(), [format!("PEXPIREAT k {expiry}")]);
        assert_eq!(world.events(), ["expire k"]);
    }
    assert_eq!(run(&world, "PTTL k"), integer(2499));
    assert_eq!(run(&world, "TTL k"), integer(2));
    assert_eq!(
        run(&world, "EXPIRETIME k"),
        integer((now + 2499 + 500) / 1000)
    );
    assert_eq!(run(&world, "PEXPIRETIME k"), integer(now + 2499));
    assert_eq!(run(&world, "EXPIRE zz 10"), integer(0));
    assert_eq!(run(&world, "PERSIST k"), integer(1));
    assert_eq!(
        (world.records(), world.events()),
        (vec!["PERSIST k".into()], vec!["persist k".into()])
    );
    assert_eq!(run(&world, "PERSIST k"), integer(0));
    assert_eq!(run(&world, "PERSIST zz"), integer(0));
}

/// An expiry that is not in the future removes the key, and is told as DEL.
#[test]
fn an_expiry_in_the_past_removes_the_key() {
    let world = World::new();
    for request in [
        "EXPIRE k -1",
        "EXPIRE k 0",
        "PEXPIREAT k 0",
        "EXPIREAT k -5",
        "PEXPIRE k -9223372036854775808",
    ] {
        put(&world, 0, "k", b"1", None);
        assert_eq!(run(&world, request), integer(1), "{request}");
        assert_eq!(at(&world, 0, "k"), None);
        assert_eq!(
            (world.records(), world.events()),
            (vec!["DEL k".into()], vec!["del k".into()])
        );
    }
}

/// NX, XX, GT and LT; no expiry counts as never.
#[test]
fn expire_conditions() {
    let world = World::new();
    let cases = [
        (None, "NX", 1),
        (None, "XX", 0),
        (None, "GT", 0),
        (None, "lt", 1),
        (Some(50), "NX", 0),
        (Some(50), "xx", 1),
        (Some(50), "GT", 1),
        (Some(50), "LT", 0),
        (Some(100), "GT", 0),
        (Some(100), "LT", 0),
        (Some(150), "LT", 1),
        (Some(150), "XX GT", 0),
        (Some(150), "XX LT", 1),
        (None, "XX LT", 0),
    ];
    for (current, condition, reply) in cases {
        put(
            &world,
            0,
            "k",
            b"1",
            current.map(|seconds: i64| world.now().plus(seconds * 1000)),
        );
        assert_eq!(
            run(&world, &format!("EXPIRE k 100 {condition}")),
            integer(reply),
            "{current:?} {condition}"
        );
    }
    // The condition is looked at before the past is.
    put(&world, 0, "k", b"1", None);
    assert_eq!(run(&world, "EXPIRE k -1 XX"), integer(0));
    assert!(at(&world, 0, "k").is_some());
}

/// Texts and their precedence, as the oracle has them.
#[test]
fn expire_refusals() {
    let world = World::new();
    put(&world, 0, "a", b"1", None);
    let incompatible = "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n";
    let cases = [
        ("EXPIRE a 10 FOO", "-ERR Unsupported option FOO\r\n"),
        ("EXPIRE a abc FOO", "-ERR Unsupported option FOO\r\n"),
        ("EXPIRE a 10 NX XX", incompatible),
        ("EXPIRE a abc NX GT", incompatible),
        (
            "EXPIRE a 10 GT LT",
            "-ERR GT and LT options at the same time are not compatible\r\n",
        ),
        (
            "EXPIRE a abc",
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "EXPIRE a 9223372036854775807",
            "-ERR invalid expire time in 'expire' command\r\n",
        ),
        (
            "EXPIRE nokey 9223372036854775807",
            "-ERR invalid expire time in 'expire' command\r\n",
        ),
        (
            "EXPIRE a -9223372036854775807",
            "-ERR invalid expire time in 'expire' command\r\n",
        ),
        (
            "PEXPIRE a 9223372036854775807",
            "-ERR invalid expire time in 'pexpire' command\r\n",
        ),
        (
            "EXPIREAT a 9223372036854775807",
            "-ERR invalid expire time in 'expireat' command\r\n",
        ),
    ];
    for (request, reply) in cases {
        assert_eq!(run(&world, request), reply, "{request}");
    }
    assert_eq!(run(&world, "PEXPIREAT a 9223372036854775807"), integer(1));
    assert_eq!(run(&world, "PEXPIRETIME a"), integer(i64::MAX));
    assert_eq!(run(&world, "PTTL a"), integer(i64::MAX - world.now().0));
    run(&world, "EXPIRETIME a");
}

/// RENAME takes value, expiry and access clock along, over what was there.
#[test]
fn rename_moves_everything() {
    let world = World::new();
    let later = world.now().plus(5000);
    put(&world, 0, "a", b"value", Some(later));
    put(&world, 0, "b", &[7; 40_000], None);
    assert_eq!(run(&world, "RENAME a b"), "+OK\r\n");
    assert_eq!(at(&world, 0, "a"), None);
    assert_eq!(
        at(&world, 0, "b"),
        Some((b"value".to_vec(), Some(later), seconds(&world)))
    );
    assert_eq!(world.records(), ["RENAME a b"]);
    assert_eq!(world.events(), ["new b", "rename_from a", "rename_to b"]);
    assert_eq!(world.keyspace.dirty(), 1);
    assert_eq!(
        world.keyspace.used_bytes(),
        world.keyspace.database(0).bytes()
    );
    put(&world, 0, "c", b"", None);
    assert_eq!(run(&world, "RENAMENX b c"), integer(0));
    assert_eq!(run(&world, "RENAMENX b d"), integer(1));
    assert_eq!(world.records(), ["RENAMENX b d"]);
}

/// Renaming a key to itself, a missing key, an expired key, and over an expired key.
#[test]
fn rename_traps() {
    let world = World::new();
    let missing = "-ERR no such key\r\n";
    for request in ["RENAME zz zz", "RENAME zz b", "RENAMENX zz zz"] {
        assert_eq!(run(&world, request), missing);
    }
    put(&world, 0, "a", b"1", None);
    assert_eq!(run(&world, "RENAME a a"), "+OK\r\n");
    assert_eq!(run(&world, "RENAMENX a a"), integer(0));
    assert!(world.records().is_empty() && world.events().is_empty());
    put(&world, 0, "old", b"1", Some(world.now().plus(-1)));
    assert_eq!(run(&world, "RENAME old a"), missing);
    assert!(at(&world, 0, "a").is_some());
    assert_eq!(world.records(), ["DEL old"]);
    world.events();
    put(&world, 0, "old", b"1", Some(world.now().plus(-1)));
    assert_eq!(run(&world, "RENAMENX a old"), integer(1));
    assert_eq!(at(&world, 0, "old").unwrap().1, None);
    assert_eq!(world.records(), ["DEL old", "RENAMENX a old"]);
    assert_eq!(
        world.events(),
        ["expired old", "new old", "rename_from a", "rename_to old"]
    );
    assert_eq!(world.keyspace.database(0).len(), 1);
}

#[test]
fn move_takes_a_key_to_another_database() {
    let world = World::new();
    let later = world.now().plus(5000);
    put(&world, 0, "a", b"1", Some(later));
    put(&world, 0, "b", b"0", None);
    put(&world, 1, "b", b"1", None);
    put(&world, 1, "a", b"expired", Some(world.now().plus(-1)));
    assert_eq!(run(&world, "MOVE a 1"), integer(1));
    assert_eq!(at(&world, 0, "a"), None);
    assert_eq!(
        at(&world, 1, "a"),
        Some((b"1".to_vec(), Some(later), seconds(&world)))
    );
    assert_eq!(world.records(), ["DEL a", "MOVE a 1"]);
    assert_eq!(
        world.events(),
        ["expired a", "new a", "move_from a", "move_to a"]
    );
    assert_eq!(
        (
            world.keyspace.database(0).len(),
            world.keyspace.database(1).len()
        ),
        (1, 2)
    );
    assert_eq!(world.keyspace.dirty(), 1);
    assert_eq!(run(&world, "MOVE b 1"), integer(0));
    assert_eq!(at(&world, 0, "b").unwrap().0, b"0");
    let integers = "-ERR value is not an integer or out of range\r\n";
    let cases = [
        ("MOVE b abc", integers),
        ("MOVE b 9223372036854775808", integers),
        (
            "MOVE b 3000000000",
            "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
        ),
        ("MOVE b 99", "-ERR DB index is out of range\r\n"),
        ("MOVE b 2147483647", "-ERR DB index is out of range\r\n"),
        ("MOVE b -1", "-ERR DB index is out of range\r\n"),
        ("MOVE zz 99", "-ERR DB index is out of range\r\n"),
        (
            "MOVE b 0",
            "-ERR source and destination objects are the same\r\n",
        ),
        (
            "MOVE zz 0",
            "-ERR source and destination objects are the same\r\n",
        ),
        ("MOVE zz 1", ":0\r\n"),
    ];
    for (request, reply) in cases {
        assert_eq!(run(&world, request), reply, "{request}");
    }
}

#[test]
fn copy_between_keys_and_databases() {
    let world = World::new();
    let later = world.now().plus(5000);
    put(&world, 0, "a", b"1", Some(later));
    put(&world, 0, "big", &[7; 40_000], None);
    put(&world, 0, "old", b"1", Some(world.now().plus(-1)));
    assert_eq!(run(&world, "COPY a b"), integer(1));
    assert_eq!(
        at(&world, 0, "b"),
        Some((b"1".to_vec(), Some(later), seconds(&world)))
    );
    assert_eq!(world.records(), ["COPY a b"]);
    assert_eq!(world.events(), ["new b", "copy_to b"]);
    assert_eq!(run(&world, "COPY big a"), integer(0));
    assert_eq!(run(&world, "COPY big a REPLACE"), integer(1));
    assert_eq!(
        at(&world, 0, "a"),
        Some((vec![7; 40_000], None, seconds(&world)))
    );
    assert_eq!(run(&world, "COPY a a db 1"), integer(1));
    assert_eq!(run(&world, "COPY a a DB 1"), integer(0));
    assert_eq!(run(&world, "COPY a a replace DB 2 db 1"), integer(1));
    assert_eq!(at(&world, 1, "a").unwrap().0.len(), 40_000);
    assert_eq!(run(&world, "COPY b old"), integer(1));
    assert_eq!(world.keyspace.database(0).len(), 4);
    assert_eq!(run(&world, "COPY zz b"), integer(0));
    assert_eq!(world.keyspace.dirty(), 5);
    let sum: i64 = world
        .keyspace
        .built()
        .map(|(_, database)| database.bytes())
        .sum();
    assert_eq!(world.keyspace.used_bytes(), sum);
    let same = "-ERR source and destination objects are the same\r\n";
    let cases = [
        ("COPY a a", same),
        ("COPY zz zz", same),
        ("COPY a a DB 0", same),
        ("COPY a a DB", "-ERR syntax error\r\n"),
        ("COPY a b BAD DB 99", "-ERR syntax error\r\n"),
        ("COPY a b DB 1 BAD", "-ERR syntax error\r\n"),
        ("COPY a b DB 99", "-ERR DB index is out of range\r\n"),
        ("COPY a b DB 99 BAD", "-ERR DB index is out of range\r\n"),
        ("COPY a b DB 99 DB 1", "-ERR DB index is out of range\r\n"),
        ("COPY a b DB -1", "-ERR DB index is out of range\r\n"),
        (
            "COPY a b DB abc",
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "COPY a b db 3000000000",
            "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
        ),
    ];
    for (request, reply) in cases {
        assert_eq!(run(&world, request), reply, "{request}");
    }
}

/// A copy of a shared value does not change with it.
#[test]
fn a_copy_is_apart_from_what_was_copied() {
    let world = World::new();
    put(&world, 0, "a", &[7; 40_000], None);
    run(&world, "COPY a b");
    let hash = world.keyspace.hasher().hash(b"a");
    let mut held = lock_one(&world.keyspace, world.keyspace.place(0, hash), PATIENCE)
        .expect("a patient taker waits");
    held.partition
        .update(hash, b"a", |entry| entry.edit(0, |bytes| bytes[0] = 9));
    drop(held);
    assert_eq!(at(&world, 0, "b").unwrap().0[0], 7);
}

#[test]
fn type_and_object() {
    let world = World::new();
    let values: [(&str, &[u8], &str); 7] = [
        ("i", b"-12", "int"),
        ("max", b"9223372036854775807", "int"),
        ("over", b"9223372036854775808", "embstr"),
        ("zero", b"007", "embstr"),
        ("empty", b"", "embstr"),
        ("e", &[b'x'; 44], "embstr"),
        ("r", &[b'x'; 45], "raw"),
    ];
    for (key, value, encoding) in values {
        put(&world, 0, key, value, None);
        assert_eq!(
            run(&world, &format!("OBJECT ENCODING {key}")),
            format!("${}\r\n{encoding}\r\n", encoding.len())
        );
    }
    let hash = world.keyspace.hasher().hash(b"i");
    let mut held = lock_one(&world.keyspace, world.keyspace.place(0, hash), PATIENCE)
        .expect("a patient taker waits");
    held.partition
        .update(hash, b"i", |entry| entry.edit(0, |_| ()));
    drop(held);
    assert_eq!(run(&world, "OBJECT ENCODING i"), "$3\r\nraw\r\n");
    assert_eq!(run(&world, "TYPE i"), "+string\r\n");
    assert_eq!(run(&world, "TYPE zz"), "+none\r\n");
    assert_eq!(run(&world, "OBJECT REFCOUNT i"), integer(1));
    for missing in [
        "OBJECT ENCODING zz",
        "OBJECT FREQ zz",
        "OBJECT IDLETIME zz",
        "OBJECT REFCOUNT zz",
    ] {
        assert_eq!(run(&world, missing), "$-1\r\n");
    }
    assert_eq!(
        world.events(),
        ["keymiss zz"],
        "OBJECT reports no misses, TYPE does"
    );
    assert!(run(&world, "OBJECT HELP").starts_with("*12\r\n+OBJECT <subcommand>"));
    assert!(
        run(&world, "OBJECT ENCODING")
            .starts_with("-ERR wrong number of arguments for 'object|encoding' command")
    );
}

/// Idle times under LRU, counters under LFU, and each refused under the other.
#[test]
fn object_freq_and_idletime_follow_the_policy() {
    let mut world = World::new();
    put(&world, 0, "k", b"1", None);
    run(&world, "TOUCH k");
    world.advance_ms(42_000);
    assert_eq!(run(&world, "OBJECT IDLETIME k"), integer(42));
    assert!(run(&world, "OBJECT FREQ k").starts_with(
        "-ERR An LFU maxmemory policy is not selected, access frequency not tracked."
    ));
    world.rules.policy = Policy::AllKeysLfu;
    assert!(
        run(&world, "OBJECT IDLETIME k")
            .starts_with("-ERR An LFU maxmemory policy is selected, idle time not tracked.")
    );
    run(&world, "COPY k fresh");
    assert_eq!(run(&world, "OBJECT FREQ fresh"), integer(5));
}

/// A RESP3 client gets its own null; binary keys work.
#[test]
fn other_protocol_and_binary_keys() {
    let world = World::new();
    world.protocol.set(crate::resp::reply::Protocol::Resp3);
    assert_eq!(run(&world, "OBJECT ENCODING zz"), "_\r\n");
    put(&world, 0, "", b"empty key", None);
    assert_eq!(
        run_parts(&world, &[&b"RENAME"[..], b"", b"\0\xff"]),
        b"+OK\r\n"
    );
    assert_eq!(run_parts(&world, &[&b"DEL"[..], b"\0\xff"]), b":1\r\n");
    assert_eq!(
        world.keyspace.used_bytes(),
        world.keyspace.database(0).bytes()
    );
}

#[test]
fn memory_usage_is_that_of_the_entry() {
    let world = World::new();
    run(&world, "SET k v");
    world.hits.set((0, 0));
    assert_eq!(run(&world, "MEMORY USAGE k"), ":16\r\n");
    assert_eq!(run(&world, "MEMORY USAGE k samples 5"), ":16\r\n");
    assert_eq!(run(&world, "MEMORY USAGE k SAMPLES 1 SAMPLES 0"), ":16\r\n");
    // Three years ahead: a nearer expiry may take no memory.
    run(&world, "SET k v PX 100000000000");
    assert_eq!(run(&world, "MEMORY USAGE k"), ":24\r\n");
    assert_eq!(world.hits.get(), (0, 0), "looking is no use of the key");
    world.advance_ms(100_000_000_001);
    assert_eq!(run(&world, "MEMORY USAGE k"), "$-1\r\n");
    run(&world, "SETRANGE big 99999 x");
    // The entry, the shared buffer and its handle, each by its size class.
    assert_eq!(
        run(&world, "MEMORY USAGE big"),
        format!(":{}\r\n", 24 + 32 + 114_688)
    );
    for refused in ["SAMPLES", "SAMPLES -1", "FOO 1", "SAMPLES 1 FOO"] {
        let request = format!("MEMORY USAGE big {refused}");
        assert_eq!(run(&world, &request), "-ERR syntax error\r\n", "{refused}");
    }
    let integer = "-ERR value is not an integer or out of range\r\n";
    assert_eq!(run(&world, "MEMORY USAGE big SAMPLES x"), integer);
}

/// A client with NO-TOUCH leaves access clocks alone, but for TOUCH.
#[test]
fn no_touch() {
    let world = World::new();
    run(&world, "SET k v");
    world.advance_ms(30_000);
    world.touch.set(false);
    assert_eq!(run(&world, "GET k"), "$1\r\nv\r\n");
    assert_eq!(run(&world, "OBJECT IDLETIME k"), ":30\r\n");
    assert_eq!(run(&world, "TOUCH k nosuch"), ":1\r\n");
    assert_eq!(run(&world, "OBJECT IDLETIME k"), ":0\r\n");
    world.advance_ms(30_000);
    world.touch.set(true);
    run(&world, "GET k");
    assert_eq!(run(&world, "OBJECT IDLETIME k"), ":0\r\n");
}
