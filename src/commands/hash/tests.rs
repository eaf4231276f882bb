//! Replies, records and events of the commands on hashes, in each encoding; fields that expire.
//!
//! Replies stand here with a blank for each line end: `*2 $1 a :1`.

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::testing::{World, run, run_parts};
use crate::data::hash::HashLimits;
use crate::keyspace::effects::Effects;
use crate::keyspace::expire::Sweeper;
use crate::resp::reply::Protocol;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const SYNTAX: &str = "-ERR syntax error";
const NO_FIELDS: &str = "-ERR Mandatory argument FIELDS is missing or not at the right position";
const WRONG_COUNT: &str = "-ERR The `numfields` parameter must match the number of arguments";

fn ask(world: &World, request: &str) -> String {
    run(world, request).trim_end().replace("\r\n", " ")
}

/// Runs requests and compares their replies.
fn script(world: &World, cases: &[(&str, &str)]) {
    for (request, reply) in cases {
        assert_eq!(ask(world, request), *reply, "{request}");
    }
}

/// A world for each encoding: packed, and tables from the first field on.
fn worlds() -> [World; 2] {
    let mut tables = World::new();
    tables.rules.hash.max_listpack_entries = 0;
    [World::new(), tables]
}

/// The bulks of a reply of one level.
fn bulks(reply: &str) -> Vec<&str> {
    let lines: Vec<_> = reply.split("\r\n").skip(1).collect();
    lines.chunks_exact(2).map(|pair| pair[1]).collect()
}

fn without_misses(world: &World) -> Vec<String> {
    let mut events = world.events();
    events.retain(|event| !event.starts_with("keymiss"));
    events
}

/// What the background does in a cycle.
fn sweep(world: &World) -> Effects {
    let mut effects = Effects::default();
    effects.begin(world.keyspace.listeners.interest());
    let mut sweeper = Sweeper::default();
    while !sweeper
        .step(&world.keyspace, world.now(), &mut effects)
        .cycle_done
    {}
    effects.publish(&world.keyspace.listeners);
    world.keyspace.account(effects.bytes);
    effects
}

/// A hash of so many fields, `f0` with `v0` and so on.
fn fill(world: &World, key: &str, count: usize) {
    let pairs = (0..count).flat_map(|number| [format!("f{number}"), format!("v{number}")]);
    let request: Vec<String> = ["HSET".to_owned(), key.to_owned()]
        .into_iter()
        .chain(pairs)
        .collect();
    run_parts(world, &request);
    world.take_records();
    world.events();
}

#[test]
fn fields_come_and_go() {
    for world in worlds() {
        script(
            &world,
            &[
                ("HSET h a 1 b 2 a 3", ":2"),
                ("HSET h b 20 c 30", ":1"),
                ("HGET h a", "$1 3"),
                ("HGET h x", "$-1"),
                ("HGET missing a", "$-1"),
                ("HMGET h c x c", "*3 $2 30 $-1 $2 30"),
                ("HMGET missing a b", "*2 $-1 $-1"),
                ("HEXISTS h a", ":1"),
                ("HEXISTS h x", ":0"),
                ("HEXISTS missing x", ":0"),
                ("HLEN h", ":3"),
                ("HLEN missing", ":0"),
                ("HSTRLEN h b", ":2"),
                ("HSTRLEN h x", ":0"),
                ("HSTRLEN missing x", ":0"),
                ("HSETNX h a 9", ":0"),
                ("HSETNX h d -4", ":1"),
                ("HSTRLEN h d", ":2"),
                ("HMSET h e x", "+OK"),
                ("HDEL h a x b", ":2"),
                ("HDEL missing a", ":0"),
                ("HDEL h c d e c", ":3"),
                ("EXISTS h", ":0"),
            ],
        );
        assert_eq!(
            world.records(),
            [
                "HSET h a 1 b 2 a 3",
                "HSET h b 20 c 30",
                "HSETNX h d -4",
                "HMSET h e x",
                "HDEL h a x b",
                "HDEL h c d e c",
            ]
        );
        assert_eq!(
            without_misses(&world),
            [
                "new h", "hset h", "hset h", "hset h", "hset h", "hdel h", "hdel h", "del h"
            ]
        );
        // Three pairs, two, one, one; two fields and three.
        assert_eq!(world.keyspace.dirty(), 12);
    }
}

/// Small hashes in the order in which their fields came; whole hashes in the shapes of both protocols.
#[test]
fn whole_hashes() {
    let world = World::new();
    script(
        &world,
        &[
            ("HSET h b 1 a 2 7 c", ":3"),
            ("HGETALL h", "*6 $1 b $1 1 $1 a $1 2 $1 7 $1 c"),
            ("HKEYS h", "*3 $1 b $1 a $1 7"),
            ("HVALS h", "*3 $1 1 $1 2 $1 c"),
            ("HGETALL missing", "*0"),
            ("HKEYS missing", "*0"),
            ("HVALS missing", "*0"),
        ],
    );
    world.protocol.set(Protocol::Resp3);
    script(
        &world,
        &[
            ("HGETALL h", "%3 $1 b $1 1 $1 a $1 2 $1 7 $1 c"),
            ("HKEYS h", "*3 $1 b $1 a $1 7"),
            ("HGETALL missing", "%0"),
            ("HVALS missing", "*0"),
            ("HGET missing a", "_"),
            ("HMGET h a x", "*2 $1 2 _"),
        ],
    );
}

#[test]
fn the_limits_decide_the_encoding() {
    let mut world = World::new();
    world.rules.hash = HashLimits {
        max_listpack_entries: 2,
        max_listpack_value: 3,
    };
    let cases = [
        ("HSET h a 1 b 2", "listpack"),
        ("HSET h a 123", "listpack"),
        ("HSET h c 1", "hashtable"),
        ("HDEL h a b", "hashtable"),
        ("HSET i abcd 1", "hashtable"),
        ("HSETNX j a 1234", "hashtable"),
        ("HINCRBY k a 1234", "hashtable"),
        // So many that they would not stay small if they differed.
        ("HSET l a 1 a 1 a 1", "hashtable"),
        ("HSET m a 1", "listpack"),
        ("HEXPIRE m 10 FIELDS 1 a", "listpackex"),
        ("HPERSIST m FIELDS 1 a", "listpackex"),
        ("HSET m b 1 c 1", "hashtable"),
    ];
    for (request, encoding) in cases {
        run(&world, request);
        let key = request.split(' ').nth(1).expect("a key");
        let reply = ask(&world, &format!("OBJECT ENCODING {key}"));
        assert_eq!(
            reply,
            format!("${} {encoding}", encoding.len()),
            "{request}"
        );
    }
}

#[test]
fn a_key_of_another_type_is_refused_and_stays() {
    let world = World::new();
    run(&world, "SET str v");
    world.records();
    for request in [
        "HSET str a b",
        "HSETNX str a b",
        "HMSET str a b",
        "HGET str a",
        "HMGET str a",
        "HDEL str a",
        "HEXISTS str a",
        "HGETALL str",
        "HKEYS str",
        "HVALS str",
        "HLEN str",
        "HSTRLEN str a",
        "HINCRBY str a 1",
        "HINCRBYFLOAT str a 1",
        "HRANDFIELD str",
        "HRANDFIELD str 0",
        "HSCAN str 0 nonsense",
        "HEXPIRE str x y z 1",
        "HTTL str x 1 a",
        "HPERSIST str x 1 a",
        "HGETDEL str x 1 a",
        "HGETEX str x 1 a",
        "HSETEX str FIELDS 1 a b",
    ] {
        assert_eq!(ask(&world, request), WRONG_TYPE, "{request}");
    }
    script(
        &world,
        &[
            // What is wrong with the arguments comes first in these.
            (
                "HINCRBY str a x",
                "-ERR value is not an integer or out of range",
            ),
            ("HINCRBYFLOAT str a x", "-ERR value is not a valid float"),
            (
                "HRANDFIELD str x",
                "-ERR value is not an integer or out of range",
            ),
            ("HRANDFIELD str 1 x", SYNTAX),
            ("HSCAN str x", "-ERR invalid cursor"),
            (
                "HSET str a",
                "-ERR wrong number of arguments for 'hset' command",
            ),
            (
                "HSET str a b c",
                "-ERR wrong number of arguments for 'hset' command",
            ),
            (
                "HMSET str a b c",
                "-ERR wrong number of arguments for 'hmset' command",
            ),
            ("HSETEX str x y z w", "-ERR unknown argument: x"),
            ("GET str", "$1 v"),
        ],
    );
    assert_eq!(world.records(), [""; 0]);
}

#[test]
fn numbers_in_fields() {
    for world in worlds() {
        script(
            &world,
            &[
                ("HINCRBY h n 5", ":5"),
                ("HINCRBY h n -7", ":-2"),
                (
                    "HSET h t abc s ' 5' e '' max 9223372036854775807 min -9223372036854775808",
                    ":5",
                ),
                ("HINCRBY h t 1", "-ERR hash value is not an integer"),
                ("HINCRBY h s 1", "-ERR hash value is not an integer"),
                ("HINCRBY h e 1", "-ERR hash value is not an integer"),
                (
                    "HINCRBY h n 1.5",
                    "-ERR value is not an integer or out of range",
                ),
                (
                    "HINCRBY h max 1",
                    "-ERR increment or decrement would overflow",
                ),
                (
                    "HINCRBY h min -1",
                    "-ERR increment or decrement would overflow",
                ),
                ("HINCRBY h max -1", ":9223372036854775806"),
                ("HGET h n", "$2 -2"),
                ("HGET h t", "$3 abc"),
            ],
        );
        world.take_records();
        without_misses(&world);
        script(
            &world,
            &[
                ("HINCRBYFLOAT h n 0.1", "$4 -1.9"),
                ("HINCRBYFLOAT h new 1e3", "$4 1000"),
                ("HINCRBYFLOAT h zero -0", "$1 0"),
                ("HINCRBYFLOAT h t 1", "-ERR hash value is not a float"),
                ("HINCRBYFLOAT h e 1", "-ERR hash value is not a float"),
                ("HINCRBYFLOAT h n x", "-ERR value is not a valid float"),
                ("HINCRBYFLOAT h n nan", "-ERR value is not a valid float"),
                ("HINCRBYFLOAT h n inf", "-ERR value is NaN or Infinity"),
                ("HINCRBYFLOAT h n -inf", "-ERR value is NaN or Infinity"),
                ("HSET h i inf", ":1"),
                (
                    "HINCRBYFLOAT h i 1",
                    "-ERR increment would produce NaN or Infinity",
                ),
                ("HGET h i", "$3 inf"),
            ],
        );
        assert_eq!(
            world.records(),
            [
                "HSET h n -1.9",
                "HSET h new 1000",
                "HSET h zero 0",
                "HSET h i inf"
            ]
        );
        assert_eq!(
            without_misses(&world),
            [
                "hincrbyfloat h",
                "hincrbyfloat h",
                "hincrbyfloat h",
                "hset h"
            ]
        );
        let missing = [
            "HINCRBY m a x",
            "HINCRBYFLOAT m a x",
            "HINCRBYFLOAT m a inf",
        ];
        missing.iter().for_each(|request| _ = run(&world, request));
        assert_eq!(ask(&world, "EXISTS m"), ":0");
    }
}

#[test]
fn fields_by_chance() {
    for mut world in worlds() {
        script(
            &world,
            &[
                ("HRANDFIELD missing", "$-1"),
                ("HRANDFIELD missing 5", "*0"),
                ("HRANDFIELD missing -5 WITHVALUES", "*0"),
            ],
        );
        fill(&world, "h", 20);
        script(
            &world,
            &[
                ("HRANDFIELD h 0", "*0"),
                ("HRANDFIELD h 1 2", SYNTAX),
                ("HRANDFIELD h 1 WITHVALUES x", SYNTAX),
                (
                    "HRANDFIELD h x WITHVALUES",
                    "-ERR value is not an integer or out of range",
                ),
                (
                    "HRANDFIELD h -9223372036854775808",
                    "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                ),
                (
                    "HRANDFIELD h -9223372036854775807",
                    "-ERR value is out of range",
                ),
                (
                    "HRANDFIELD h 4611686018427387904 WITHVALUES",
                    "-ERR value is out of range",
                ),
                (
                    "HRANDFIELD h -4611686018427387904 WITHVALUES",
                    "-ERR value is out of range",
                ),
            ],
        );
        let one = run(&world, "HRANDFIELD h");
        assert!(
            one.starts_with("$2\r\nf") || one.starts_with("$3\r\nf1"),
            "{one}"
        );
        for (count, expected) in [
            (3, 3),
            (20, 20),
            (21, 20),
            (4_611_686_018_427_387_903_i64, 20),
        ] {
            let reply = run(&world, &format!("HRANDFIELD h {count}"));
            assert!(reply.starts_with(&format!("*{expected}\r\n")), "{reply}");
            let different: BTreeSet<_> = bulks(&reply).into_iter().collect();
            assert_eq!(different.len(), expected);
            let reply = run(&world, &format!("HRANDFIELD h {count} withvalues"));
            assert!(
                reply.starts_with(&format!("*{}\r\n", 2 * expected)),
                "{reply}"
            );
            for pair in bulks(&reply).chunks(2) {
                assert_eq!(pair[0][1..], pair[1][1..]);
            }
        }
        let reply = run(&world, "HRANDFIELD h -200 WITHVALUES");
        assert!(reply.starts_with("*400\r\n"));
        let drawn: BTreeMap<_, _> = bulks(&reply)
            .chunks(2)
            .map(|pair| (pair[0], pair[1]))
            .collect();
        assert!(drawn.len() > 10, "{drawn:?}");
        world.protocol.set(Protocol::Resp3);
        let reply = ask(&world, "HRANDFIELD h -1 WITHVALUES");
        assert!(reply.starts_with("*1 *2 $"), "{reply}");
        assert!(ask(&world, "HRANDFIELD h 2").starts_with("*2 $"));
        assert_eq!(ask(&world, "HRANDFIELD missing"), "_");
        assert_eq!(ask(&world, "HRANDFIELD missing 1"), "*0");
        // A reply may be as long as a string may.
        world.rules.max_string_bytes = 10_000;
        assert!(ask(&world, "HRANDFIELD h -100").starts_with("*100 $"));
        assert_eq!(
            ask(&world, "HRANDFIELD h -10000"),
            "-ERR value is out of range"
        );
    }
}

/// Fields that expired are not drawn, however few are left, and all that are left are.
#[test]
fn expired_fields_are_not_drawn() {
    for world in worlds() {
        fill(&world, "h", 300);
        for number in 0..297 {
            run(&world, &format!("HPEXPIRE h 10 FIELDS 1 f{number}"));
        }
        world.advance_ms(11);
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            seen.insert(ask(&world, "HRANDFIELD h"));
        }
        let left = ["$4 f297", "$4 f298", "$4 f299"].map(str::to_owned);
        assert_eq!(seen, BTreeSet::from(left));
        assert!(ask(&world, "HRANDFIELD h 2").starts_with("*2 $4 f29"));
        let reply = run(&world, "HRANDFIELD h 5 WITHVALUES");
        let mut all = bulks(&reply);
        all.sort_unstable();
        assert_eq!(all, ["f297", "f298", "f299", "v297", "v298", "v299"]);
        let reply = run(&world, "HRANDFIELD h -50");
        let drawn: BTreeSet<_> = bulks(&reply).into_iter().collect();
        assert_eq!(drawn, BTreeSet::from(["f297", "f298", "f299"]));
        run(&world, "HPEXPIRE h 10 FIELDS 3 f297 f298 f299");
        run(&world, "HDEL h x");
        world.advance_ms(11);
        script(
            &world,
            &[
                ("HRANDFIELD h", "$-1"),
                ("HRANDFIELD h 2", "*0"),
                ("HRANDFIELD h -2 WITHVALUES", "*0"),
            ],
        );
    }
}

#[test]
fn a_scan_meets_every_field() {
    for world in worlds() {
        fill(&world, "h", 100);
        for (options, values) in [("", true), (" COUNT 7", true), (" NOVALUES count 3", false)] {
            let (mut cursor, mut seen, mut calls) = ("0".to_owned(), BTreeSet::new(), 0);
            loop {
                let reply = run(&world, &format!("HSCAN h {cursor}{options}"));
                let lines: Vec<&str> = reply.split("\r\n").collect();
                assert_eq!(lines[0], "*2");
                cursor = lines[2].to_owned();
                let fields: Vec<&str> = lines[4..].chunks_exact(2).map(|pair| pair[1]).collect();
                for pair in fields.chunks(if values { 2 } else { 1 }) {
                    assert!(pair.len() == 1 || pair[0][1..] == pair[1][1..]);
                    seen.insert(pair[0].to_owned());
                }
                calls += 1;
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(seen.len(), 100);
            assert_eq!(
                calls > 1,
                ask(&world, "OBJECT ENCODING h") == "$9 hashtable"
            );
        }
        let whole = ask(&world, "HSCAN h 0 COUNT 1000 MATCH *9?");
        assert!(whole.starts_with("*2 $1 0 *20 $3 f9"), "{whole}");
        script(
            &world,
            &[
                ("HSCAN missing 0 nonsense", "*2 $1 0 *0"),
                ("HSCAN missing x", "-ERR invalid cursor"),
                ("HSCAN h 0 MATCH", SYNTAX),
                ("HSCAN h 0 COUNT 0", SYNTAX),
                (
                    "HSCAN h 0 COUNT x",
                    "-ERR value is not an integer or out of range",
                ),
                ("HSCAN h 0 TYPE hash", SYNTAX),
                ("HSCAN h 18446744073709551616", "-ERR invalid cursor"),
                ("HSCAN h 0 MATCH none COUNT 1000", "*2 $1 0 *0"),
            ],
        );
    }
}

/// Large hashes are read from a snapshot, long values are shared with the reply.
#[test]
fn large_hashes_and_values() {
    let world = World::new();
    fill(&world, "h", 5_000);
    assert_eq!(bulks(&run(&world, "HGETALL h")).len(), 10_000);
    let reply = run(&world, "HKEYS h");
    assert_eq!(
        bulks(&reply).into_iter().collect::<BTreeSet<_>>().len(),
        5_000
    );
    let reply = run(&world, "HRANDFIELD h 4000");
    assert_eq!(
        bulks(&reply).into_iter().collect::<BTreeSet<_>>().len(),
        4_000
    );
    assert_eq!(bulks(&run(&world, "HRANDFIELD h -4000")).len(), 4_000);
    let value = "x".repeat(100_000);
    run(&world, &format!("HSET long f {value}"));
    assert_eq!(ask(&world, "HGET long f"), format!("$100000 {value}"));
    assert_eq!(ask(&world, "HSTRLEN long f"), ":100000");
    // Of an entry that is removed the garbage is not freed on the request's path; the account is right all the same.
    run(&world, "DEL h long");
    assert_eq!(
        world.keyspace.used_bytes(),
        world.keyspace.database(0).bytes()
    );
}

#[test]
fn expiries_of_fields() {
    for world in worlds() {
        let now = world.now().0;
        script(
            &world,
            &[
                ("HEXPIRE missing 10 FIELDS 2 a b", "*2 :-2 :-2"),
                ("HTTL missing FIELDS 1 a", "*1 :-2"),
                ("HPERSIST missing FIELDS 1 a", "*1 :-2"),
                ("HSET h a 1 b 2 c 3", ":3"),
                ("HTTL h FIELDS 2 a x", "*2 :-1 :-2"),
                ("HEXPIRE h 10 FIELDS 2 a x", "*2 :1 :-2"),
                ("HPEXPIRE h 5500 FIELDS 1 b", "*1 :1"),
                ("HTTL h FIELDS 3 a b c", "*3 :10 :6 :-1"),
                ("HPTTL h FIELDS 3 a b c", "*3 :10000 :5500 :-1"),
            ],
        );
        let (seconds, millis) = (now / 1000 + 10, now + 5500);
        script(
            &world,
            &[
                (
                    "HEXPIRETIME h FIELDS 2 a b",
                    &format!("*2 :{seconds} :{}", now / 1000 + 6),
                ),
                ("HPEXPIRETIME h FIELDS 1 b", &format!("*1 :{millis}")),
                (&format!("HEXPIREAT h {seconds} FIELDS 1 c"), "*1 :1"),
                (&format!("HPEXPIREAT h {} FIELDS 1 c", now + 5), "*1 :1"),
                ("HPTTL h FIELDS 1 c", "*1 :5"),
                ("HPERSIST h FIELDS 3 c c x", "*3 :1 :-1 :-2"),
                ("HPTTL h FIELDS 1 c", "*1 :-1"),
            ],
        );
        assert_eq!(
            world.records(),
            [
                "HSET h a 1 b 2 c 3".to_owned(),
                format!("HPEXPIREAT h {} FIELDS 1 a", now + 10_000),
                format!("HPEXPIREAT h {millis} FIELDS 1 b"),
                format!("HPEXPIREAT h {} FIELDS 1 c", seconds * 1000),
                format!("HPEXPIREAT h {} FIELDS 1 c", now + 5),
                "HPERSIST h FIELDS 3 c c x".to_owned(),
            ]
        );
        assert_eq!(
            without_misses(&world),
            [
                "new h",
                "hset h",
                "hexpire h",
                "hexpire h",
                "hexpire h",
                "hexpire h",
                "hpersist h"
            ]
        );
        // HSET takes the expiry away, HINCRBY and HINCRBYFLOAT leave it.
        script(
            &world,
            &[
                ("HINCRBY h a 1", ":2"),
                ("HTTL h FIELDS 1 a", "*1 :10"),
                ("HINCRBYFLOAT h a 1", "$1 3"),
                ("HTTL h FIELDS 1 a", "*1 :10"),
                ("HSET h a 1", ":0"),
                ("HTTL h FIELDS 1 a", "*1 :-1"),
            ],
        );
        assert_eq!(
            world.records(),
            [
                "HINCRBY h a 1",
                "HSETEX h KEEPTTL FIELDS 1 a 3",
                "HSET h a 1"
            ]
        );
    }
}

#[test]
fn conditions_of_expiries() {
    for world in worlds() {
        run(&world, "HSET h a 1 b 2");
        script(
            &world,
            &[
                ("HEXPIRE h 10 XX FIELDS 1 a", "*1 :0"),
                ("HEXPIRE h 10 GT FIELDS 1 a", "*1 :0"),
                ("HEXPIRE h 10 NX FIELDS 1 a", "*1 :1"),
                ("HEXPIRE h 20 NX FIELDS 2 a b", "*2 :0 :1"),
                ("HEXPIRE h 15 gt FIELDS 2 a b", "*2 :1 :0"),
                ("HEXPIRE h 15 GT FIELDS 1 a", "*1 :0"),
                ("HEXPIRE h 15 LT FIELDS 2 a b", "*2 :0 :1"),
                ("HPERSIST h FIELDS 1 a", "*1 :1"),
                ("HEXPIRE h 15 LT FIELDS 1 a", "*1 :1"),
                ("HEXPIRE h 30 XX FIELDS 1 a", "*1 :1"),
                ("HTTL h FIELDS 2 a b", "*2 :30 :15"),
                // A condition that fails keeps a field from being removed.
                ("HEXPIRE h 0 NX FIELDS 1 a", "*1 :0"),
                ("HEXPIRE h 0 LT FIELDS 3 a a x", "*3 :2 :-2 :-2"),
                ("HLEN h", ":1"),
            ],
        );
        world.take_records();
        world.events();
        script(
            &world,
            &[
                ("HPEXPIREAT h 1 FIELDS 2 b c", "*2 :2 :-2"),
                ("EXISTS h", ":0"),
            ],
        );
        assert_eq!(world.records(), ["HDEL h b"]);
        assert_eq!(without_misses(&world), ["hdel h", "del h"]);
    }
}

#[test]
fn refusals_of_field_expiries() {
    let world = World::new();
    run(&world, "HSET h a 1");
    world.records();
    let not_positive = "-ERR Parameter `numFields` should be greater than 0";
    let not_a_count = "-ERR Number of fields must be a positive integer";
    script(
        &world,
        &[
            (
                "HEXPIRE h x FIELDS 1 a",
                "-ERR value is not an integer or out of range",
            ),
            (
                "HEXPIRE h -1 FIELDS 1 a",
                "-ERR invalid expire time, must be >= 0",
            ),
            (
                "HEXPIRE h 9223372036854775807 FIELDS 1 a",
                "-ERR invalid expire time in 'hexpire' command",
            ),
            (
                "HPEXPIREAT h 70368744177664 FIELDS 1 a",
                "-ERR invalid expire time in 'hpexpireat' command",
            ),
            (
                "HEXPIREAT h 70368744178 FIELDS 1 a",
                "-ERR invalid expire time in 'hexpireat' command",
            ),
            ("HEXPIRE h 10 FIELD 1 a", NO_FIELDS),
            ("HEXPIRE h 10 NX XX FIELDS 1 a", NO_FIELDS),
            ("HEXPIRE h 10 FIELDS 0 a", not_positive),
            ("HEXPIRE h 10 FIELDS x a", not_positive),
            ("HEXPIRE h 10 FIELDS 2 a", WRONG_COUNT),
            ("HEXPIRE h 10 FIELDS 1 a b", WRONG_COUNT),
            ("HEXPIRE h 10 XX FIELDS 1", WRONG_COUNT),
            ("HEXPIRE missing 10 FIELDS 2 a", WRONG_COUNT),
            ("HTTL h FIELDS -1 a", not_a_count),
            ("HTTL h x 1 a", NO_FIELDS),
            ("HTTL h FIELDS 2 a", WRONG_COUNT),
            ("HPERSIST h FIELDS 9223372036854775807 a", WRONG_COUNT),
            ("HGETDEL h FIELDS 0 a", not_a_count),
            ("HGETDEL h x 1 a", NO_FIELDS),
            (
                "HGETEX h EX x FIELDS 1 a",
                "-ERR value is not an integer or out of range",
            ),
            (
                "HGETEX h EX -1 FIELDS 1 a",
                "-ERR invalid expire time, must be >= 0",
            ),
            (
                "HGETEX h PX 70368744177664 FIELDS 1 a",
                "-ERR invalid expire time in 'hgetex' command",
            ),
            ("HGETEX h EX 10 FIELDS", not_a_count),
            ("HGETEX h KEEPTTL FIELDS 1 a", NO_FIELDS),
            ("HGETEX h PERSIST EX 1 a", NO_FIELDS),
            ("HGETEX h FIELDS 2 a b c", WRONG_COUNT),
            ("HSETEX h FIELDS 0 a 1", "-ERR invalid number of fields"),
            (
                "HSETEX h FIELDS 2147483648 a 1",
                "-ERR invalid number of fields",
            ),
            (
                "HSETEX h FIELDS 2 a 1",
                "-ERR wrong number of arguments for 'hsetex' command",
            ),
            (
                "HSETEX h FIELDS 1 a 1 b",
                "-ERR wrong number of arguments for 'hsetex' command",
            ),
            (
                "HSETEX h EX 10 FIELDS 1",
                "-ERR wrong number of arguments for 'hsetex' command",
            ),
            (
                "HSETEX h FXX FNX FIELDS 1 a 1",
                "-ERR Only one of FXX or FNX arguments can be specified",
            ),
            (
                "HSETEX h EX 10 KEEPTTL FIELDS 1 a 1",
                "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
            ),
            (
                "HSETEX h FXX PX 10 FXX EX",
                "-ERR Only one of FXX or FNX arguments can be specified",
            ),
            (
                "HSETEX h FNX KEEPTTL NX FIELDS",
                "-ERR unknown argument: NX",
            ),
            ("HSETEX h FNX FIELDS 1 a EX", ":0"),
            (
                "HSETEX h PX x FIELDS 1 a 1",
                "-ERR value is not an integer or out of range",
            ),
            (
                "HSETEX h EXAT -1 FIELDS 1 a 1",
                "-ERR invalid expire time, must be >= 0",
            ),
            (
                "HSETEX h EXAT 9223372036854775807 FIELDS 1 a 1",
                "-ERR invalid expire time in 'hsetex' command",
            ),
            ("HGETALL h", "*2 $1 a $1 1"),
        ],
    );
    assert_eq!(world.records(), [""; 0]);
}

#[test]
fn an_expired_field_is_gone_at_once() {
    for world in worlds() {
        run(&world, "HSET h a 1 b 2 c 3");
        run(&world, "HPEXPIRE h 100 FIELDS 2 a b");
        world.advance_ms(100);
        assert_eq!(ask(&world, "HGET h a"), "$1 1", "in its last millisecond");
        world.advance_ms(1);
        script(
            &world,
            &[
                ("HGET h a", "$-1"),
                ("HMGET h a c", "*2 $-1 $1 3"),
                ("HEXISTS h b", ":0"),
                ("HSTRLEN h b", ":0"),
                ("HGETALL h", "*2 $1 c $1 3"),
                ("HKEYS h", "*1 $1 c"),
                ("HVALS h", "*1 $1 3"),
                ("HSCAN h 0", "*2 $1 0 *2 $1 c $1 3"),
                ("HTTL h FIELDS 2 a c", "*2 :-2 :-1"),
                ("HPEXPIRETIME h FIELDS 1 a", "*1 :-2"),
                // Not removed yet, and counted, as in Redis.
                ("HLEN h", ":3"),
            ],
        );
        world.take_records();
        world.events();
        // A change removes what has expired first, and tells it before itself.
        script(&world, &[("HSET h a 9", ":1"), ("HLEN h", ":2")]);
        let records = world.records();
        let mut told: Vec<_> = records[0].split(' ').collect();
        told[2..].sort_unstable();
        assert_eq!(told, ["HDEL", "h", "a", "b"]);
        assert_eq!(records[1..], ["HSET h a 9"]);
        assert_eq!(without_misses(&world), ["hexpired h", "hset h"]);
        assert_eq!(ask(&world, "HTTL h FIELDS 1 a"), "*1 :-1");
    }
}

/// Of many expired fields a change removes those that it names, and a bounded number of others.
#[test]
fn a_change_does_not_stop_for_a_mass_of_expired_fields() {
    let world = World::new();
    fill(&world, "h", 3_000);
    for number in 0..2_900 {
        run(&world, &format!("HPEXPIRE h 10 FIELDS 1 f{number}"));
    }
    world.advance_ms(11);
    world.take_records();
    for number in [7, 1_000, 2_899] {
        assert_eq!(ask(&world, &format!("HSET h f{number} new")), ":1");
    }
    let left: usize = ask(&world, "HLEN h")[1..].parse().expect("a number");
    assert!((2_500..2_900).contains(&left), "{left}");
    assert_eq!(bulks(&run(&world, "HKEYS h")).len(), 103);
    assert_eq!(sweep(&world).expired_fields as usize, left - 103);
    assert_eq!(ask(&world, "HLEN h"), ":103");
    let told = world.records();
    let told = told.iter().filter(|record| record.starts_with("HDEL h "));
    let fields = told.flat_map(|record| record.split(' ').skip(2));
    let fields: BTreeSet<String> = fields.map(str::to_owned).collect();
    assert_eq!(fields.len(), 2_900);
}

/// Nothing of an expired hash lives on in what is made in its place.
#[test]
fn a_hash_whose_fields_have_all_expired_is_begun_anew() {
    for world in worlds() {
        for (request, reply) in [
            ("HSETNX h a 2", ":1"),
            ("HINCRBY h a 2", ":2"),
            ("HSET h a 2", ":1"),
            ("HSETEX h FNX FIELDS 1 a 2", ":1"),
            ("HINCRBYFLOAT h a 2", "$1 2"),
        ] {
            run(&world, "HSET h a 1");
            run(&world, "EXPIRE h 100");
            run(&world, "HPEXPIRE h 1 FIELDS 1 a");
            world.advance_ms(2);
            world.take_records();
            world.events();
            assert_eq!(ask(&world, request), reply);
            assert_eq!(ask(&world, "TTL h"), ":-1", "{request}");
            assert_eq!(world.records()[0], "HDEL h a", "{request}");
            assert_eq!(
                without_misses(&world)[..3],
                ["hexpired h", "del h", "new h"]
            );
            run(&world, "DEL h");
        }
        run(&world, "HSET h a 1");
        run(&world, "HPEXPIRE h 1 FIELDS 1 a");
        world.advance_ms(2);
        script(
            &world,
            &[
                ("HSETEX h FXX FIELDS 1 a 2", ":0"),
                ("EXISTS h", ":0"),
                ("HDEL h a", ":0"),
                ("HPERSIST h FIELDS 1 a", "*1 :-2"),
            ],
        );
    }
}

#[test]
fn the_background_removes_expired_fields() {
    for world in worlds() {
        run(&world, "HSET h a 1 b 2 c 3");
        run(&world, "HSET gone a 1");
        run(&world, "HSET later a 1");
        run(&world, "HPEXPIRE h 100 FIELDS 2 a b");
        run(&world, "HPEXPIRE gone 100 FIELDS 1 a");
        run(&world, "HPEXPIRE later 7000 FIELDS 1 a");
        world.take_records();
        world.events();
        sweep(&world);
        world.advance_ms(101);
        let effects = sweep(&world);
        assert_eq!((effects.expired, effects.expired_fields), (0, 3));
        let mut records: Vec<_> = world.records();
        records.sort();
        assert_eq!(records[0], "HDEL gone a");
        assert!(
            records[1] == "HDEL h a b" || records[1] == "HDEL h b a",
            "{records:?}"
        );
        let mut events = world.events();
        events.sort();
        assert_eq!(events, ["del gone", "hexpired gone", "hexpired h"]);
        script(
            &world,
            &[
                ("HLEN h", ":1"),
                ("EXISTS gone", ":0"),
                ("HLEN later", ":1"),
            ],
        );
        world.advance_ms(7_000);
        assert_eq!(sweep(&world).expired_fields, 1);
        assert_eq!(sweep(&world).expired_fields, 0);
        assert_eq!(ask(&world, "DBSIZE"), ":1");
        assert_eq!(
            world.keyspace.used_bytes(),
            world.keyspace.database(0).bytes()
        );
    }
}

/// Expiries of fields go where their hash goes.
#[test]
fn a_copy_and_a_renamed_hash_keep_the_expiries() {
    for world in worlds() {
        run(&world, "HSET h a 1 b 2");
        run(&world, "HPEXPIRE h 100 FIELDS 1 a");
        script(
            &world,
            &[
                ("COPY h i", ":1"),
                ("RENAME h j", "+OK"),
                ("EXPIRE j 1000", ":1"),
                ("PERSIST j", ":1"),
                ("HPTTL i FIELDS 2 a b", "*2 :100 :-1"),
                ("HPTTL j FIELDS 2 a b", "*2 :100 :-1"),
                ("HPERSIST i FIELDS 1 a", "*1 :1"),
                ("HPTTL j FIELDS 1 a", "*1 :100"),
            ],
        );
        world.advance_ms(101);
        assert_eq!(sweep(&world).expired_fields, 1);
        script(&world, &[("HLEN i", ":2"), ("HLEN j", ":1")]);
    }
}

#[test]
fn hgetdel_returns_and_removes() {
    for world in worlds() {
        run(&world, "HSET h a 1 b 2 c 3");
        world.take_records();
        world.events();
        script(
            &world,
            &[
                ("HGETDEL missing FIELDS 2 a b", "*2 $-1 $-1"),
                ("HGETDEL h FIELDS 1 x", "*1 $-1"),
                ("HGETDEL h FIELDS 4 a x b a", "*4 $1 1 $-1 $1 2 $-1"),
                ("HGETALL h", "*2 $1 c $1 3"),
                ("HGETDEL h FIELDS 1 c", "*1 $1 3"),
                ("EXISTS h", ":0"),
            ],
        );
        assert_eq!(world.records(), ["HDEL h a b", "HDEL h c"]);
        assert_eq!(without_misses(&world), ["hdel h", "hdel h", "del h"]);
    }
}

#[test]
fn hgetex_returns_and_changes_expiries() {
    for world in worlds() {
        let now = world.now().0;
        run(&world, "HSET h a 1 b 2");
        world.take_records();
        world.events();
        script(
            &world,
            &[
                ("HGETEX missing FIELDS 2 a b", "*2 $-1 $-1"),
                ("HGETEX missing EX 10 FIELDS 1 a", "*1 $-1"),
                ("HGETEX h FIELDS 2 a x", "*2 $1 1 $-1"),
                ("HGETEX h EX 10 FIELDS 2 a x", "*2 $1 1 $-1"),
                ("HTTL h FIELDS 2 a b", "*2 :10 :-1"),
                ("HGETEX h PERSIST FIELDS 2 a b", "*2 $1 1 $1 2"),
                ("HGETEX h PERSIST FIELDS 2 a b", "*2 $1 1 $1 2"),
                ("HTTL h FIELDS 1 a", "*1 :-1"),
                ("HGETEX h PXAT 1 FIELDS 2 a a", "*2 $1 1 $-1"),
                ("HGETEX h EXAT 1 FIELDS 1 b", "*1 $1 2"),
                ("EXISTS h", ":0"),
            ],
        );
        assert_eq!(
            world.records(),
            [
                format!("HPEXPIREAT h {} FIELDS 1 a", now + 10_000),
                "HPERSIST h FIELDS 1 a".to_owned(),
                "HDEL h a".to_owned(),
                "HDEL h b".to_owned(),
            ]
        );
        assert_eq!(
            without_misses(&world),
            ["hexpire h", "hpersist h", "hdel h", "hdel h", "del h"]
        );
    }
}

#[test]
fn hsetex_sets_with_an_expiry() {
    for world in worlds() {
        let now = world.now().0;
        script(
            &world,
            &[
                ("HSETEX h FXX FIELDS 1 a 1", ":0"),
                ("HSETEX h FNX PX 500 FIELDS 2 a 1 b 2", ":1"),
                ("HPTTL h FIELDS 2 a b", "*2 :500 :500"),
                ("HSETEX h FNX FIELDS 2 c 1 a 2", ":0"),
                ("HSETEX h FXX FIELDS 2 c 1 a 2", ":0"),
                ("HSETEX h FXX KEEPTTL FIELDS 1 a 3", ":1"),
                ("HPTTL h FIELDS 1 a", "*1 :500"),
                ("HSETEX h FIELDS 1 a 4", ":1"),
                ("HPTTL h FIELDS 1 a", "*1 :-1"),
                ("HSETEX h EX 7 FIELDS 2 a 5 a 6", ":1"),
                ("HMGET h a b c", "*3 $1 6 $1 2 $-1"),
                ("HTTL h FIELDS 1 a", "*1 :7"),
                // Set and at once removed.
                ("HSETEX h EXAT 1 FIELDS 2 a 1 n 1", ":1"),
                ("HGETALL h", "*2 $1 b $1 2"),
                ("HSETEX h PXAT 1 FIELDS 1 b 1", ":1"),
                ("EXISTS h", ":0"),
                ("HSETEX h PXAT 1 FIELDS 1 b 1", ":1"),
                ("EXISTS h", ":0"),
            ],
        );
        assert_eq!(
            world.records(),
            [
                format!("HSETEX h PXAT {} FIELDS 2 a 1 b 2", now + 500),
                "HSETEX h FXX KEEPTTL FIELDS 1 a 3".to_owned(),
                "HSETEX h FIELDS 1 a 4".to_owned(),
                format!("HSETEX h PXAT {} FIELDS 2 a 5 a 6", now + 7_000),
                "HDEL h a n".to_owned(),
                "HDEL h b".to_owned(),
                "HDEL h b".to_owned(),
            ]
        );
        assert_eq!(
            without_misses(&world)[..9],
            [
                "new h",
                "hset h",
                "hexpire h",
                "hset h",
                "hset h",
                "hset h",
                "hexpire h",
                "hset h",
                "hdel h"
            ]
        );
    }
}

/// Under a policy that evicts keys with an expiry, a hash whose fields alone expire stays.
#[test]
fn only_keys_that_expire_are_volatile() {
    let world = World::new();
    run(&world, "HSET h a 1 b 2");
    run(&world, "HPEXPIRE h 100 FIELDS 1 a");
    assert_eq!(world.keyspace.database(0).expires(), 0);
    run(&world, "PEXPIRE h 50");
    assert_eq!(world.keyspace.database(0).expires(), 1);
    run(&world, "PERSIST h");
    assert_eq!(world.keyspace.database(0).expires(), 0);
    world.advance_ms(101);
    assert_eq!(ask(&world, "HLEN h"), ":2");
    assert_eq!(sweep(&world).expired_fields, 1);
}
