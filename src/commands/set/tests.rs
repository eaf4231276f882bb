//! Replies, records and events of the commands on sets.

use std::collections::BTreeSet;

use super::*;
use crate::commands::testing::{World, run, run_parts};
use crate::resp::reply::Protocol;

/// Runs requests and compares their replies.
fn script(world: &World, cases: &[(&str, &str)]) {
    for (request, reply) in cases {
        assert_eq!(run(world, request), *reply, "{request}");
    }
}

/// The bulks of a reply of one level.
fn bulks(reply: &str) -> BTreeSet<String> {
    let mut lines = reply.split("\r\n").skip(1);
    let mut found = BTreeSet::new();
    while let (Some(head), Some(text)) = (lines.next(), lines.next()) {
        assert!(head.starts_with('$'), "{reply}");
        assert!(found.insert(text.to_owned()), "{text} twice in {reply}");
    }
    found
}

fn fill(world: &World, key: &str, numbers: std::ops::Range<u32>) {
    let mut request = vec!["SADD".to_owned(), key.to_owned()];
    request.extend(numbers.map(|number| format!("m{number}")));
    run_parts(world, &request);
    world.take_records();
    world.events();
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";

#[test]
fn members_come_and_go() {
    let world = World::new();
    script(
        &world,
        &[
            ("SADD s a b a 7", ":3\r\n"),
            ("SADD s a c", ":1\r\n"),
            ("SCARD s", ":4\r\n"),
            ("SCARD missing", ":0\r\n"),
            ("SISMEMBER s 7", ":1\r\n"),
            ("SISMEMBER s 07", ":0\r\n"),
            ("SISMEMBER missing a", ":0\r\n"),
            ("SMISMEMBER s a x 7", "*3\r\n:1\r\n:0\r\n:1\r\n"),
            ("SMISMEMBER missing a b", "*2\r\n:0\r\n:0\r\n"),
            (
                "SMEMBERS s",
                "*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\n7\r\n$1\r\nc\r\n",
            ),
            ("SMEMBERS missing", "*0\r\n"),
            ("SREM s a x b", ":2\r\n"),
            ("SREM s 7 c a", ":2\r\n"),
            ("EXISTS s", ":0\r\n"),
            ("SREM s a", ":0\r\n"),
        ],
    );
    assert_eq!(
        world.records(),
        [
            "SADD s a b a 7",
            "SADD s a c",
            "SREM s a x b",
            "SREM s 7 c a"
        ]
    );
    let events: Vec<_> = world.events();
    let events: Vec<_> = events
        .iter()
        .filter(|event| !event.starts_with("keymiss"))
        .collect();
    assert_eq!(
        events,
        ["new s", "sadd s", "sadd s", "srem s", "srem s", "del s"]
    );
}

#[test]
fn a_key_of_another_type_is_refused_and_stays() {
    let world = World::new();
    run(&world, "SET str v");
    run(&world, "SADD s a");
    world.records();
    for request in [
        "SADD str a",
        "SREM str a",
        "SCARD str",
        "SISMEMBER str a",
        "SMISMEMBER str a",
        "SMEMBERS str",
        "SPOP str",
        "SPOP str 0",
        "SRANDMEMBER str",
        "SRANDMEMBER str 0",
        "SMOVE str s a",
        "SMOVE s str a",
        "SMOVE s str x",
        "SINTER missing str",
        "SUNION s str",
        "SDIFF missing str",
        "SINTERCARD 2 missing str",
        "SINTERSTORE d missing str",
        "SUNIONSTORE d s str",
        "SDIFFSTORE d missing str",
        "SSCAN str 0 FOO",
    ] {
        assert_eq!(run(&world, request), WRONG_TYPE, "{request}");
    }
    assert_eq!(run(&world, "SMOVE missing str a"), ":0\r\n");
    assert_eq!(run(&world, "EXISTS d"), ":0\r\n");
    assert_eq!(run(&world, "SCARD s"), ":1\r\n");
    assert!(world.records().is_empty());
}

#[test]
fn a_move_is_one_change_of_two_sets() {
    let world = World::new();
    run(&world, "SADD a 1 x");
    run(&world, "SADD b x");
    world.take_records();
    world.events();
    script(
        &world,
        &[
            ("SMOVE a b y", ":0\r\n"),
            ("SMOVE a a x", ":1\r\n"),
            ("SMOVE a a y", ":0\r\n"),
            ("SMOVE missing b x", ":0\r\n"),
            ("SMOVE a b x", ":1\r\n"),
            ("SMOVE a c 1", ":1\r\n"),
            ("EXISTS a", ":0\r\n"),
            ("OBJECT ENCODING c", "$6\r\nintset\r\n"),
            ("SMEMBERS b", "*1\r\n$1\r\nx\r\n"),
        ],
    );
    assert_eq!(world.records(), ["SMOVE a b x", "SMOVE a c 1"]);
    assert_eq!(
        world
            .events()
            .into_iter()
            .filter(|event| !event.starts_with("keymiss"))
            .collect::<Vec<_>>(),
        ["srem a", "srem a", "del a", "new c", "sadd c"]
    );
}

#[test]
fn pops_tell_followers_what_was_taken() {
    let world = World::new();
    run(&world, "SADD s only");
    world.take_records();
    world.events();
    assert_eq!(run(&world, "SPOP s"), "$4\r\nonly\r\n");
    assert_eq!(run(&world, "SPOP s"), "$-1\r\n");
    assert_eq!(world.records(), ["SREM s only"]);
    assert_eq!(world.events(), ["spop s", "del s"]);
    script(
        &world,
        &[
            ("SPOP s 3", "*0\r\n"),
            ("SADD s a", ":1\r\n"),
            ("SPOP s 0", "*0\r\n"),
            (
                "SPOP s -1",
                "-ERR value is out of range, must be positive\r\n",
            ),
            (
                "SPOP s x",
                "-ERR value is out of range, must be positive\r\n",
            ),
            ("SPOP s x y", SYNTAX),
        ],
    );
    world.take_records();
    world.events();
    // All members: the key goes.
    let dirty = world.keyspace.dirty();
    run(&world, "SADD s b c");
    assert_eq!(bulks(&run(&world, "SPOP s 7")).len(), 3);
    assert_eq!(world.keyspace.dirty() - dirty, 5);
    assert_eq!(world.records(), ["SADD s b c", "DEL s"]);
    assert_eq!(world.events(), ["sadd s", "spop s", "del s"]);
}

#[test]
fn some_are_popped_in_records_of_bounded_length() {
    let world = World::new();
    for count in [1, 50, 1500, 2999] {
        fill(&world, "s", 0..3000);
        let popped = bulks(&run(&world, &format!("SPOP s {count}")));
        assert_eq!(popped.len(), count);
        let mut told = BTreeSet::new();
        for record in world.take_records() {
            assert_eq!(record.command[..2], [b"SREM".to_vec(), b"s".to_vec()]);
            assert!(record.command.len() <= 2 + 1024);
            told.extend(
                record.command[2..]
                    .iter()
                    .map(|text| String::from_utf8_lossy(text).into_owned()),
            );
        }
        assert_eq!(popped, told);
        assert_eq!(run(&world, "SCARD s"), format!(":{}\r\n", 3000 - count));
    }
}

#[test]
fn draws_of_members() {
    let world = World::new();
    run(&world, "SADD s a b c");
    script(
        &world,
        &[
            ("SRANDMEMBER missing", "$-1\r\n"),
            ("SRANDMEMBER missing 5", "*0\r\n"),
            ("SRANDMEMBER s 0", "*0\r\n"),
            (
                "SRANDMEMBER s 9223372036854775807",
                "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
            ),
            ("SRANDMEMBER s 1 2", SYNTAX),
            ("SRANDMEMBER s x y", SYNTAX),
            (
                "SRANDMEMBER s x",
                "-ERR value is not an integer or out of range\r\n",
            ),
            (
                "SRANDMEMBER s -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807\r\n",
            ),
            (
                "SRANDMEMBER s -9223372036854775807",
                "-ERR value is out of range\r\n",
            ),
            ("SRANDMEMBER s -100000000", "-ERR value is out of range\r\n"),
            ("SRANDMEMBER missing -9223372036854775807", "*0\r\n"),
        ],
    );
    for _ in 0..20 {
        assert!(
            ["$1\r\na\r\n", "$1\r\nb\r\n", "$1\r\nc\r\n"].contains(&&*run(&world, "SRANDMEMBER s"))
        );
        assert_eq!(bulks(&run(&world, "SRANDMEMBER s 2")).len(), 2);
    }
    assert!(run(&world, "SRANDMEMBER s -5").starts_with("*5\r\n"));
    assert!(world.records().len() == 1, "the SADD alone");
}

/// What is done after release: the reply is the same, and what changes meanwhile does not show.
#[test]
fn large_sets_are_read_after_release() {
    let world = World::new();
    fill(&world, "a", 0..3000);
    fill(&world, "b", 1000..4000);
    let all = |numbers: std::ops::Range<u32>| -> BTreeSet<String> {
        numbers.map(|number| format!("m{number}")).collect()
    };
    assert_eq!(bulks(&run(&world, "SMEMBERS a")), all(0..3000));
    assert_eq!(bulks(&run(&world, "SINTER a b")), all(1000..3000));
    assert_eq!(bulks(&run(&world, "SUNION a b")), all(0..4000));
    assert_eq!(bulks(&run(&world, "SDIFF a b")), all(0..1000));
    assert_eq!(run(&world, "SINTERCARD 2 a b"), ":2000\r\n");
    assert_eq!(run(&world, "SINTERCARD 2 a b LIMIT 7"), ":7\r\n");
    assert_eq!(bulks(&run(&world, "SRANDMEMBER a 2500")).len(), 2500);
    let drawn = run(&world, "SRANDMEMBER a -2500");
    assert_eq!(drawn.matches("$").count(), 2500);
    assert_eq!(run(&world, "SDIFFSTORE d a b"), ":1000\r\n");
    assert_eq!(bulks(&run(&world, "SPOP a 3000")), all(0..3000));
    assert_eq!(run(&world, "EXISTS a"), ":0\r\n");
    assert_eq!(bulks(&run(&world, "SMEMBERS d")), all(0..1000));
}

#[test]
fn operations_on_several_sets() {
    let world = World::new();
    script(
        &world,
        &[
            ("SADD a 1 2 3 x", ":4\r\n"),
            ("SADD b 2 3 4", ":3\r\n"),
            ("SINTER a b", "*2\r\n$1\r\n2\r\n$1\r\n3\r\n"),
            (
                "SINTER a a",
                "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\nx\r\n",
            ),
            ("SINTER a missing", "*0\r\n"),
            (
                "SUNION b missing a",
                "*5\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n1\r\n$1\r\nx\r\n",
            ),
            ("SUNION missing", "*0\r\n"),
            ("SDIFF a b missing", "*2\r\n$1\r\n1\r\n$1\r\nx\r\n"),
            ("SDIFF missing a", "*0\r\n"),
            ("SDIFF a a", "*0\r\n"),
            ("SINTERCARD 2 a b", ":2\r\n"),
            ("SINTERCARD 2 a b LIMIT 1", ":1\r\n"),
            ("SINTERCARD 2 a b LIMIT 0", ":2\r\n"),
            ("SINTERCARD 2 a b LIMIT 1 LIMIT 5", ":2\r\n"),
            ("SINTERCARD 2 a missing", ":0\r\n"),
            (
                "SINTERCARD 0 a",
                "-ERR numkeys should be greater than 0\r\n",
            ),
            (
                "SINTERCARD x a",
                "-ERR numkeys should be greater than 0\r\n",
            ),
            (
                "SINTERCARD 2 a",
                "-ERR Number of keys can't be greater than number of args\r\n",
            ),
            (
                "SINTERCARD 9223372036854775807 a",
                "-ERR Number of keys can't be greater than number of args\r\n",
            ),
            ("SINTERCARD 1 a LIMIT", SYNTAX),
            ("SINTERCARD 1 a b", SYNTAX),
            (
                "SINTERCARD 1 a LIMIT -1",
                "-ERR LIMIT can't be negative\r\n",
            ),
            ("SINTERCARD 1 a LIMIT x", "-ERR LIMIT can't be negative\r\n"),
        ],
    );
    world.protocol.set(Protocol::Resp3);
    script(
        &world,
        &[
            ("SINTER a b", "~2\r\n$1\r\n2\r\n$1\r\n3\r\n"),
            ("SDIFF missing", "~0\r\n"),
            ("SMEMBERS b", "~3\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n"),
            ("SPOP missing 1", "~0\r\n"),
            ("SPOP missing", "_\r\n"),
            ("SRANDMEMBER b 5", "*3\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n"),
            (
                "SSCAN b 0",
                "*2\r\n$1\r\n0\r\n*3\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n",
            ),
            ("SPOP b 5", "~3\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n"),
        ],
    );
}

#[test]
fn results_are_stored() {
    let world = World::new();
    run(&world, "SADD a 1 2 x");
    run(&world, "SADD b 2 1");
    run(&world, "SET d old EX 100");
    world.take_records();
    world.events();
    script(
        &world,
        &[
            ("SUNIONSTORE d a b", ":3\r\n"),
            ("TTL d", ":-1\r\n"),
            ("OBJECT ENCODING d", "$8\r\nlistpack\r\n"),
            ("SINTERSTORE d a b", ":2\r\n"),
            ("OBJECT ENCODING d", "$6\r\nintset\r\n"),
            ("SDIFFSTORE a a b", ":1\r\n"),
            ("SMEMBERS a", "*1\r\n$1\r\nx\r\n"),
            ("SINTERSTORE d a b", ":0\r\n"),
            ("EXISTS d", ":0\r\n"),
            ("SINTERSTORE d a b", ":0\r\n"),
        ],
    );
    assert_eq!(
        world.records(),
        [
            "SUNIONSTORE d a b",
            "SINTERSTORE d a b",
            "SDIFFSTORE a a b",
            "SINTERSTORE d a b"
        ]
    );
    let events = world.events();
    let events: Vec<_> = events
        .iter()
        .filter(|event| !event.starts_with("keymiss"))
        .collect();
    assert_eq!(
        events,
        ["sunionstore d", "sinterstore d", "sdiffstore a", "del d"]
    );
}

#[test]
fn a_scan_sees_every_member() {
    let world = World::new();
    script(
        &world,
        &[
            ("SSCAN missing 0 FOO", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SSCAN missing x", "-ERR invalid cursor\r\n"),
            ("SADD s a b 12 c", ":4\r\n"),
            (
                "SSCAN s 0 COUNT 1",
                "*2\r\n$1\r\n0\r\n*4\r\n$1\r\na\r\n$1\r\nb\r\n$2\r\n12\r\n$1\r\nc\r\n",
            ),
            ("SSCAN s 5 MATCH 1*", "*2\r\n$1\r\n0\r\n*1\r\n$2\r\n12\r\n"),
            (
                "SSCAN s 0 MATCH a MATCH b",
                "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nb\r\n",
            ),
            ("SSCAN s 0 COUNT 0", SYNTAX),
            (
                "SSCAN s 0 COUNT x",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("SSCAN s 0 MATCH", SYNTAX),
            ("SSCAN s 0 NOVALUES", SYNTAX),
        ],
    );
    fill(&world, "large", 0..20_000);
    let (mut cursor, mut seen, mut calls) = ("0".to_owned(), BTreeSet::new(), 0);
    loop {
        let reply = run(&world, &format!("SSCAN large {cursor} COUNT 1000"));
        let mut lines = reply.split("\r\n").skip(2);
        cursor = lines.next().expect("a cursor").to_owned();
        lines.next();
        seen.extend(lines.skip(1).step_by(2).map(str::to_owned));
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 20_000);
    assert!((15..100).contains(&calls), "{calls}");
}

#[test]
fn encodings_follow_the_rules() {
    let mut world = World::new();
    world.rules.set = SetLimits {
        max_intset_entries: 3,
        max_listpack_entries: 4,
        max_listpack_value: 5,
    };
    script(
        &world,
        &[
            ("SADD ints 1 2 3", ":3\r\n"),
            ("OBJECT ENCODING ints", "$6\r\nintset\r\n"),
            ("SADD ints 4", ":1\r\n"),
            ("OBJECT ENCODING ints", "$9\r\nhashtable\r\n"),
            ("SADD texts a b c d", ":4\r\n"),
            ("OBJECT ENCODING texts", "$8\r\nlistpack\r\n"),
            ("SADD texts e", ":1\r\n"),
            ("OBJECT ENCODING texts", "$9\r\nhashtable\r\n"),
            ("SADD long abcdef", ":1\r\n"),
            ("OBJECT ENCODING long", "$9\r\nhashtable\r\n"),
            ("SADD mixed 1 2", ":2\r\n"),
            ("SADD mixed abcde", ":1\r\n"),
            ("OBJECT ENCODING mixed", "$8\r\nlistpack\r\n"),
            ("SUNIONSTORE u ints texts", ":9\r\n"),
            ("OBJECT ENCODING u", "$9\r\nhashtable\r\n"),
            ("SDIFFSTORE u u texts", ":4\r\n"),
            ("SREM ints 4", ":1\r\n"),
            ("OBJECT ENCODING ints", "$9\r\nhashtable\r\n"),
            ("SUNIONSTORE u ints", ":3\r\n"),
            ("OBJECT ENCODING u", "$6\r\nintset\r\n"),
        ],
    );
}
