//! Sweeps over one database and all of them, and SCAN's promise under random changes.

use std::collections::HashSet;

use super::*;
use crate::base::clock::Millis;
use crate::commands::testing::{World, run, run_parts};
use crate::keyspace::entry::NewValue;
use crate::keyspace::lock::{PATIENCE, lock_one};
use crate::table::check::check_row;

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

fn delete(world: &World, key: &str) {
    let hash = world.keyspace.hasher().hash(key.as_bytes());
    let mut held = lock_one(&world.keyspace, world.keyspace.place(0, hash), PATIENCE)
        .expect("a patient taker waits");
    held.partition.remove(hash, key.as_bytes());
    world.keyspace.account(held.partition.take_bytes());
}

/// The cursor and the keys of one call.
fn scan_once(world: &World, rest: &str) -> (u64, Vec<String>) {
    let reply = run(world, &format!("SCAN {rest}"));
    let bulks: Vec<&str> = reply
        .split("\r\n")
        .filter(|line| !line.is_empty() && !line.starts_with(['*', '$']))
        .collect();
    let (cursor, keys) = bulks.split_first().expect("there is a cursor");
    (
        cursor.parse().expect("a number"),
        keys.iter().map(|key| (*key).to_owned()).collect(),
    )
}

/// All keys of a full iteration.
fn scan_all(world: &World, options: &str) -> Vec<String> {
    let (mut cursor, mut all) = (0, Vec::new());
    loop {
        let (next, keys) = scan_once(world, &format!("{cursor} {options}"));
        all.extend(keys);
        cursor = next;
        if cursor == 0 {
            return all;
        }
    }
}

#[test]
fn rows_pass_their_check() {
    for row in ROWS {
        assert_eq!(check_row(&row.command), Ok(()));
    }
}

/// A key that is there throughout is returned, whatever happens around it, and every iteration ends.
#[test]
fn scan_returns_every_key_that_stays() {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("QUOIT_TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..6 {
        let world = World::new();
        let mut others: Vec<String> = Vec::new();
        let stays: HashSet<String> = (0..rng.usize(1..6000))
            .map(|number| format!("stays:{number}"))
            .collect();
        stays.iter().for_each(|key| put(&world, 0, key, b"", None));
        let (mut cursor, mut calls, mut seen) = (0, 0, HashSet::new());
        let mut grows = true;
        loop {
            let count = rng.choice([1, 10, 100, 2000]).unwrap_or(10);
            let (next, keys) = scan_once(&world, &format!("{cursor} COUNT {count}"));
            assert!(next < 1 << 63);
            seen.extend(keys);
            calls += 1;
            if next == 0 {
                break;
            }
            assert!(calls < 100_000, "it does not end");
            cursor = next;
            // Tables double and halve several times while the iteration goes through them.
            if rng.u8(..) < 8 {
                grows = !grows;
            }
            for _ in 0..rng.usize(0..400) {
                if grows && others.len() < 100_000 {
                    let key = format!("other:{}", rng.u64(..));
                    put(&world, 0, &key, b"", None);
                    others.push(key);
                } else if !others.is_empty() {
                    delete(&world, &others.swap_remove(rng.usize(..others.len())));
                }
            }
        }
        let missing = stays.difference(&seen).count();
        assert_eq!(missing, 0, "of {} keys, {calls} calls", stays.len());
    }
}

/// Without changes every key comes exactly once, and COUNT bounds what one call looks at.
#[test]
fn scan_of_a_quiet_database_has_no_duplicates() {
    let world = World::new();
    for number in 0..30_000 {
        put(&world, 0, &format!("k{number}"), b"", None);
    }
    for count in [1, 10, 1000, i64::MAX] {
        let all = scan_all(&world, &format!("COUNT {count}"));
        assert_eq!(all.len(), 30_000);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 30_000);
    }
    let (_, keys) = scan_once(&world, "0 COUNT 10");
    assert!((1..60).contains(&keys.len()), "{}", keys.len());
    assert_eq!(scan_all(&world, "MATCH k1234?").len(), 10);
    assert_eq!(scan_all(&world, "MATCH * TYPE String").len(), 30_000);
    assert_eq!(scan_all(&world, "TYPE nope").len(), 0);
}

/// Few keys in many partitions: one call looks at about COUNT keys and passes what is empty.
#[test]
fn scan_passes_empty_partitions() {
    let world = World::new();
    assert_eq!(scan_once(&world, "0"), (0, vec![]));
    put(&world, 0, "only", b"", None);
    assert_eq!(scan_once(&world, "0"), (0, vec!["only".to_owned()]));
    (0..100).for_each(|number| put(&world, 0, &format!("k{number}"), b"", None));
    let (cursor, keys) = scan_once(&world, "0");
    assert!(
        cursor != 0 && (8..20).contains(&keys.len()),
        "{}",
        keys.len()
    );
    assert_eq!(scan_all(&world, "").len(), 101);
    world.database.set(1);
    assert_eq!(scan_once(&world, "0"), (0, vec![]));
}

/// Any cursor is safe, and from any cursor an iteration ends.
#[test]
fn scan_takes_any_cursor() {
    let world = World::new();
    (0..20_000).for_each(|number| put(&world, 0, &format!("k{number}"), b"", None));
    let mut rng = fastrand::Rng::with_seed(3);
    let made_up = (0..300).map(|_| rng.u64(..) >> rng.u32(0..64)).chain([
        u64::MAX,
        1 << 63,
        (1 << 42) - 1,
        1 << 42,
        1023,
    ]);
    for start in made_up {
        let (mut cursor, mut calls) = (start, 0);
        loop {
            (cursor, _) = scan_once(&world, &format!("{cursor} COUNT 500"));
            calls += 1;
            assert!(calls < 3000, "from {start}");
            if cursor == 0 {
                break;
            }
        }
    }
    assert_eq!(scan_once(&world, "-1").0, 0);
    assert_eq!(scan_once(&world, "18446744073709551615"), (0, vec![]));
    let invalid = "-ERR invalid cursor\r\n";
    for cursor in [
        "abc",
        "' 5'",
        "18446744073709551616",
        "-18446744073709551616",
        "5x",
        "-",
        "+",
        "0x10",
        "--1",
        "5,0",
    ] {
        assert_eq!(run(&world, &format!("SCAN {cursor}")), invalid, "{cursor}");
    }
    for (cursor, same) in [
        ("+5", "5"),
        ("''", "0"),
        ("000", "0"),
        ("007", "7"),
        ("-18446744073709551615", "1"),
        ("-0", "0"),
    ] {
        assert_eq!(
            scan_once(&world, cursor),
            scan_once(&world, same),
            "{cursor}"
        );
    }
}

#[test]
fn scan_refusals() {
    let world = World::new();
    let (syntax, integer) = (
        "-ERR syntax error\r\n",
        "-ERR value is not an integer or out of range\r\n",
    );
    let cases = [
        ("SCAN 0 COUNT 0", syntax),
        ("SCAN 0 COUNT -1", syntax),
        ("SCAN 0 COUNT abc", integer),
        ("SCAN 0 COUNT 9223372036854775808", integer),
        ("SCAN 0 MATCH", syntax),
        ("SCAN 0 foo bar", syntax),
        ("SCAN 0 count 3 count 0 match a", syntax),
        ("SCAN abc foo", "-ERR invalid cursor\r\n"),
    ];
    for (request, reply) in cases {
        assert_eq!(run(&world, request), reply, "{request}");
    }
}

/// Expired keys are not returned: SCAN and RANDOMKEY remove them, KEYS leaves them.
#[test]
fn expired_keys_do_not_show() {
    let world = World::new();
    for number in 0..200 {
        put(
            &world,
            0,
            &format!("dead{number}"),
            b"",
            Some(world.now().plus(10)),
        );
    }
    put(&world, 0, "alive", b"", Some(world.now().plus(20)));
    world.advance_ms(11);
    assert_eq!(run(&world, "KEYS *"), "*1\r\n$5\r\nalive\r\n");
    assert_eq!(run(&world, "DBSIZE"), ":201\r\n");
    assert_eq!(run(&world, "RANDOMKEY"), "$5\r\nalive\r\n");
    assert_eq!(scan_all(&world, ""), ["alive"]);
    assert_eq!(run(&world, "DBSIZE"), ":1\r\n");
    let (records, events) = (world.records(), world.events());
    assert_eq!((records.len(), events.len()), (200, 200));
    assert!(records[0].starts_with("DEL dead") && events[0].starts_with("expired dead"));
    assert_eq!(
        world.keyspace.used_bytes(),
        world.keyspace.database(0).bytes()
    );
}

#[test]
fn keys_matches_patterns() {
    let world = World::new();
    assert_eq!(run(&world, "KEYS *"), "*0\r\n");
    for number in 0..3000 {
        put(&world, 0, &format!("k{number}"), b"", None);
    }
    let count = |pattern: &str| {
        run(&world, &format!("KEYS {pattern}"))
            .split("\r\n")
            .next()
            .map(str::to_owned)
    };
    assert_eq!(count("*").as_deref(), Some("*3000"));
    assert_eq!(count("k1?").as_deref(), Some("*10"));
    assert_eq!(count("k12").as_deref(), Some("*1"));
    assert_eq!(count("x*").as_deref(), Some("*0"));
    assert_eq!(count("''").as_deref(), Some("*0"));
    assert_eq!(run_parts(&world, &["KEYS", "k[7]"]), b"*1\r\n$2\r\nk7\r\n");
}

/// Every key has its chance, and an empty database has none.
#[test]
fn randomkey_is_about_even() {
    let world = World::new();
    assert_eq!(run(&world, "RANDOMKEY"), "$-1\r\n");
    (0..50).for_each(|number| put(&world, 0, &format!("k{number:02}"), b"", None));
    let mut drawn = std::collections::HashMap::new();
    (0..5000).for_each(|_| *drawn.entry(run(&world, "RANDOMKEY")).or_insert(0) += 1);
    assert_eq!(drawn.len(), 50);
    assert!(
        drawn.values().all(|times| (50..170).contains(times)),
        "{drawn:?}"
    );
}

/// Flushing removes all, in every way of asking for it, and the accounts return to nothing.
#[test]
fn flush_returns_the_accounts_to_zero() {
    for how in ["", " SYNC", " async"] {
        let world = World::new();
        for number in 0..5000 {
            put(
                &world,
                number % 3,
                &format!("k{number}"),
                &vec![1; (number % 700) as usize],
                Some(Millis(i64::MAX)),
            );
        }
        put(&world, 0, "big", &[1; 100_000], None);
        assert_eq!(run(&world, &format!("FLUSHDB{how}")), "+OK\r\n");
        assert_eq!(run(&world, "DBSIZE"), ":0\r\n");
        assert_eq!(world.keyspace.dirty(), 1668);
        let (first, second) = (world.keyspace.database(0), world.keyspace.database(1));
        assert_eq!((first.bytes(), first.expires(), second.len()), (0, 0, 1667));
        assert_eq!(world.records(), [format!("FLUSHDB{how}")]);
        assert_eq!(run(&world, &format!("FLUSHALL{how}")), "+OK\r\n");
        assert_eq!(world.keyspace.dirty(), 5001);
        assert_eq!(world.keyspace.used_bytes(), 0);
        assert!(
            world
                .keyspace
                .built()
                .all(|(_, database)| database.is_empty() && database.bytes() == 0)
        );
        assert_eq!(world.records(), [format!("FLUSHALL{how}")]);
        assert_eq!(run(&world, "FLUSHALL"), "+OK\r\n");
        assert_eq!(
            world.records(),
            ["FLUSHALL"],
            "told although nothing was there"
        );
        put(&world, 0, "again", b"", None);
        assert_eq!(scan_all(&world, ""), ["again"]);
    }
    let world = World::new();
    for request in ["FLUSHDB foo", "FLUSHALL SYNC ASYNC", "FLUSHALL ASYNC SYNC"] {
        assert_eq!(run(&world, request), "-ERR syntax error\r\n");
    }
}

#[test]
fn swapdb_exchanges_databases() {
    let world = World::new();
    put(&world, 0, "a", b"", None);
    assert_eq!(run(&world, "SWAPDB 0 1"), "+OK\r\n");
    assert_eq!(run(&world, "KEYS *"), "*0\r\n");
    world.database.set(1);
    assert_eq!(run(&world, "KEYS *"), "*1\r\n$1\r\na\r\n");
    assert_eq!(world.records(), ["SWAPDB 0 1"]);
    assert_eq!(run(&world, "SWAPDB 1 1"), "+OK\r\n");
    assert_eq!(world.keyspace.dirty(), 2);
    let (first, second) = (
        "-ERR invalid first DB index\r\n",
        "-ERR invalid second DB index\r\n",
    );
    let range = "-ERR DB index is out of range\r\n";
    let cases = [
        ("SWAPDB a 1", first),
        ("SWAPDB 0 b", second),
        ("SWAPDB a b", first),
        ("SWAPDB 99 b", second),
        ("SWAPDB 0 99", range),
        ("SWAPDB 0 -1", range),
        ("SWAPDB 3000000000 0", first),
        ("SWAPDB 0 3000000000", second),
        ("SWAPDB 9223372036854775808 0", first),
    ];
    for (request, reply) in cases {
        assert_eq!(run(&world, request), reply, "{request}");
    }
    assert_eq!(run(&world, "KEYS *"), "*1\r\n$1\r\na\r\n");
}
