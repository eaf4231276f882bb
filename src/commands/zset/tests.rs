//! Replies, records and events of the commands on sorted sets. What both encodings must answer alike runs in both.

use crate::commands::testing::{World, run, run_parts};
use crate::data::zset::Limits;
use crate::resp::reply::Protocol;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";

/// Runs requests and compares their replies, which are given without headers: see [`plain`].
fn script(world: &World, cases: &[(&str, &str)]) {
    for (request, reply) in cases {
        assert_eq!(plain(&run(world, request)), *reply, "{request}");
    }
}

/// A reply as text: `[a 1 [b 2]]`, doubles as `,1.5`, integers as `:1`, nothing as `nil`, errors as they are.
fn plain(reply: &str) -> String {
    let mut lines = reply.split("\r\n");
    let text = value(&mut lines);
    assert_eq!(lines.next(), Some(""), "one reply: {reply:?}");
    text
}

fn value<'a>(lines: &mut impl Iterator<Item = &'a str>) -> String {
    let line = lines.next().expect("a reply is complete");
    match line.split_at(1) {
        ("$", "-1") | ("_", "") => "nil".to_owned(),
        ("*", "-1") => "nil-array".to_owned(),
        ("$", _) => lines.next().expect("a bulk is complete").to_owned(),
        ("*", count) => {
            let count: usize = count.parse().expect("a count");
            let items: Vec<String> = (0..count).map(|_| value(lines)).collect();
            format!("[{}]", items.join(" "))
        }
        ("-", error) => error.to_owned(),
        _ => line.to_owned(),
    }
}

/// Worlds with sets of both encodings, and both protocols.
fn worlds() -> impl Iterator<Item = World> {
    [128, 0].into_iter().map(|entries| {
        let mut world = World::new();
        world.rules.zset = Limits { entries, value: 64 };
        world
    })
}

fn heard(world: &World) -> Vec<String> {
    let mut events = world.events();
    events.retain(|event| !event.starts_with("keymiss"));
    events
}

#[test]
fn zadd_obeys_its_options() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD z 1 a 2 b", ":2"),
                ("ZADD z 1 a 3 b 0.5 c", ":1"),
                ("ZADD z CH 1 a 2.5 b 7 d", ":2"),
                ("ZADD z NX 9 a 9 e", ":1"),
                ("ZADD z xx 9 f", ":0"),
                ("ZADD z XX CH 0.25 a 9 g", ":1"),
                ("ZADD z GT CH 0 a 8 d", ":1"),
                ("ZADD z LT CH 0 a 9 d 5 h", ":2"),
                ("ZADD z GT XX CH 1 i", ":0"),
                ("ZADD z INCR 1.5 a", "1.5"),
                ("ZADD z NX INCR 1.5 a", "nil"),
                ("ZADD z GT INCR -1 a", "nil"),
                ("ZADD z XX INCR 1 nobody", "nil"),
                ("ZADD z INCR 4 new", "4"),
                ("ZADD missing XX 1 a", ":0"),
                ("ZADD missing XX INCR 1 a", "nil"),
                ("EXISTS missing", ":0"),
                (
                    "ZRANGE z 0 -1 WITHSCORES",
                    "[c 0.5 a 1.5 b 2.5 new 4 h 5 d 8 e 9]",
                ),
                (
                    "ZADD z NX XX 1 a",
                    "ERR XX and NX options at the same time are not compatible",
                ),
                (
                    "ZADD z NX GT 1 a",
                    "ERR GT, LT, and/or NX options at the same time are not compatible",
                ),
                (
                    "ZADD z GT LT 1 a",
                    "ERR GT, LT, and/or NX options at the same time are not compatible",
                ),
                (
                    "ZADD z INCR 1 a 2 b",
                    "ERR INCR option supports a single increment-element pair",
                ),
                ("ZADD z INCR 1 a 2", "ERR syntax error"),
                ("ZADD z NX CH", "ERR syntax error"),
                ("ZADD z 1 a x b", "ERR value is not a valid float"),
                ("ZADD z nan a", "ERR value is not a valid float"),
                ("ZADD z 1 a", ":0"),
                (
                    "ZADD z 1",
                    "ERR wrong number of arguments for 'zadd' command",
                ),
                ("ZSCORE z a", "1"),
            ],
        );
    }
}

#[test]
fn sums_of_opposite_infinities_are_refused() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD z inf a -inf b", ":2"),
                (
                    "ZINCRBY z -inf a",
                    "ERR resulting score is not a number (NaN)",
                ),
                (
                    "ZADD z INCR +inf b",
                    "ERR resulting score is not a number (NaN)",
                ),
                ("ZRANGE z 0 -1 WITHSCORES", "[b -inf a inf]"),
                ("ZINCRBY z 5 a", "inf"),
            ],
        );
    }
}

#[test]
fn zincrby_is_a_zadd() {
    let world = World::new();
    script(
        &world,
        &[
            ("ZINCRBY z 1.5 a", "1.5"),
            ("ZINCRBY z -3 a", "-1.5"),
            ("ZINCRBY z x a", "ERR value is not a valid float"),
            // As in Redis, which looks for options here too.
            ("ZINCRBY z NX 1", "ERR syntax error"),
        ],
    );
    assert_eq!(world.records(), ["ZINCRBY z 1.5 a", "ZINCRBY z -3 a"]);
    assert_eq!(heard(&world), ["new z", "zincr z", "zincr z"]);
}

#[test]
fn changes_are_told() {
    for world in worlds() {
        let lines = [
            "ZADD z 1 a 2 b 3 c 4 d 5 e",
            "ZADD z 1 a",
            "ZADD z NX 9 a",
            "ZADD z INCR 0 a",
            "ZREM z x",
            "ZREM z a x a",
            "ZREMRANGEBYRANK z 0 0",
            "ZREMRANGEBYSCORE z (3 4",
            "ZREMRANGEBYLEX z (c [d",
            "ZREMRANGEBYRANK z 5 9",
            "ZPOPMIN z",
            "ZRANGESTORE y z 0 -1",
            "ZPOPMAX z 5",
            "ZPOPMIN z",
            "ZRANGESTORE y missing 0 -1",
            "ZRANGESTORE y missing 0 -1",
        ];
        for line in lines {
            run(&world, line);
        }
        let told = [
            "ZADD z 1 a 2 b 3 c 4 d 5 e",
            "ZREM z a x a",
            "ZREMRANGEBYRANK z 0 0",
            "ZREMRANGEBYSCORE z (3 4",
            "ZPOPMIN z",
            "ZRANGESTORE y z 0 -1",
            "ZPOPMAX z 5",
            "ZRANGESTORE y missing 0 -1",
        ];
        assert_eq!(world.records(), told);
        let events = [
            "new z",
            "zadd z",
            "zrem z",
            "zremrangebyrank z",
            "zremrangebyscore z",
            "zpopmin z",
            "new y",
            "zrangestore y",
            "zpopmax z",
            "del z",
            "del y",
        ];
        assert_eq!(heard(&world), events);
    }
}

#[test]
fn a_set_that_is_emptied_is_gone() {
    for world in worlds() {
        for emptied in [
            "ZREM z a b",
            "ZPOPMIN z 2",
            "ZPOPMAX z 9",
            "ZREMRANGEBYRANK z 0 -1",
            "ZREMRANGEBYSCORE z -inf inf",
            "ZREMRANGEBYLEX z - +",
            "ZMPOP 1 z MIN COUNT 2",
        ] {
            run(&world, "ZADD z 1 a 1 b");
            world.events();
            let reply = run(&world, emptied);
            assert!(!reply.starts_with('-'), "{emptied}: {reply}");
            assert_eq!(run(&world, "EXISTS z"), ":0\r\n", "{emptied}");
            let events = heard(&world);
            assert_eq!(events.len(), 2, "{events:?}");
            assert_eq!(events[1], "del z");
        }
    }
}

#[test]
fn members_are_read() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD z 1 a 2 b 2 c 1e20 12", ":4"),
                ("ZCARD z", ":4"),
                ("ZCARD missing", ":0"),
                ("ZSCORE z 12", "1e+20"),
                ("ZSCORE z x", "nil"),
                ("ZSCORE missing x", "nil"),
                ("ZMSCORE z a x c", "[1 nil 2]"),
                ("ZMSCORE missing a b", "[nil nil]"),
                ("ZRANK z a", ":0"),
                ("ZRANK z c", ":2"),
                ("ZREVRANK z c", ":1"),
                ("ZRANK z x", "nil"),
                ("ZRANK missing x", "nil"),
                ("ZRANK z c WITHSCORE", "[:2 2]"),
                ("ZREVRANK z 12 withscore", "[:0 1e+20]"),
                ("ZRANK z x WITHSCORE", "nil-array"),
                ("ZRANK z a WITHSCORES", "ERR syntax error"),
                (
                    "ZRANK z a WITHSCORE 1",
                    "ERR wrong number of arguments for 'zrank' command",
                ),
                (
                    "ZREVRANK z a WITHSCORE 1",
                    "ERR wrong number of arguments for 'zrevrank' command",
                ),
                ("ZCOUNT z 1 2", ":3"),
                ("ZCOUNT z (1 (1e20", ":2"),
                ("ZCOUNT z 2 1", ":0"),
                ("ZCOUNT missing 1 2", ":0"),
                ("ZCOUNT z '' 1", ":1"),
                ("ZCOUNT z x 1", "ERR min or max is not a float"),
                (
                    "ZLEXCOUNT z a c",
                    "ERR min or max not valid string range item",
                ),
                ("ZLEXCOUNT missing - +", ":0"),
            ],
        );
    }
}

#[test]
fn doubles_and_pairs_of_resp3() {
    let world = World::new();
    world.protocol.set(Protocol::Resp3);
    script(
        &world,
        &[
            ("ZADD z 1 a 2.5 b 3 c", ":3"),
            ("ZSCORE z b", ",2.5"),
            ("ZMSCORE z a x", "[,1 nil]"),
            ("ZINCRBY z 1 a", ",2"),
            ("ZADD z INCR 1 a", ",3"),
            ("ZRANK z b WITHSCORE", "[:0 ,2.5]"),
            ("ZRANK z x WITHSCORE", "nil"),
            ("ZRANGE z 0 0 WITHSCORES", "[[b ,2.5]]"),
            ("ZRANGE z 0 0", "[b]"),
            ("ZRANGEBYSCORE z 3 3 WITHSCORES", "[[a ,3] [c ,3]]"),
            ("ZUNION 1 z WITHSCORES", "[[b ,2.5] [a ,3] [c ,3]]"),
            ("ZDIFF 1 z", "[b a c]"),
            ("ZRANDMEMBER z 9 WITHSCORES", "[[c ,3] [a ,3] [b ,2.5]]"),
            ("ZSCAN z 0 MATCH b", "[0 [b 2.5]]"),
            ("ZPOPMIN z", "[b ,2.5]"),
            ("ZPOPMIN z 1", "[[a ,3]]"),
            ("ZADD z 1 a", ":1"),
            ("ZMPOP 1 z MIN", "[z [[a ,1]]]"),
            ("BZPOPMAX z 0", "[z c ,3]"),
            ("ZADD z 1 a", ":1"),
            ("BZMPOP 0 1 z MAX", "[z [[a ,1]]]"),
            ("ZMPOP 1 z MIN", "nil"),
            ("BZPOPMIN z 0", "nil"),
        ],
    );
}

#[test]
fn ranges_of_ranks_and_scores() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD z 1 a 2 b 2 c 3 d 4 e", ":5"),
                ("ZRANGE z 1 -2", "[b c d]"),
                ("ZRANGE z 1 -2 REV WITHSCORES", "[d 3 c 2 b 2]"),
                ("ZREVRANGE z 0 1 WITHSCORES", "[e 4 d 3]"),
                ("ZRANGE z 3 1", "[]"),
                ("ZRANGE z -100 100", "[a b c d e]"),
                ("ZRANGE z 9223372036854775807 -9223372036854775808", "[]"),
                ("ZRANGE z (1 3 BYSCORE", "[b c d]"),
                ("ZRANGE z 3 (1 BYSCORE REV LIMIT 1 5", "[c b]"),
                (
                    "ZRANGE z -inf +inf BYSCORE LIMIT 1 2 WITHSCORES",
                    "[b 2 c 2]",
                ),
                ("ZRANGE z -inf +inf BYSCORE LIMIT 1 -5", "[b c d e]"),
                ("ZRANGE z -inf +inf BYSCORE LIMIT -1 2", "[]"),
                ("ZRANGEBYSCORE z 2 3 LIMIT 0 0", "[]"),
                ("ZRANGEBYSCORE z 2 (2", "[]"),
                ("ZREVRANGEBYSCORE z +inf (2 WITHSCORES", "[e 4 d 3]"),
                ("ZRANGE missing 0 -1 WITHSCORES", "[]"),
                (
                    "ZRANGE z 0 -1 LIMIT 0 1",
                    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
                ),
                ("ZRANGE z 0 -1 LIMIT 3 -1", "[a b c d e]"),
                (
                    "ZRANGE z - + BYLEX WITHSCORES",
                    "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
                ),
                (
                    "ZRANGE z x 1",
                    "ERR value is not an integer or out of range",
                ),
                ("ZRANGE z 0 1 BYSCORE BYLEX", "ERR syntax error"),
                ("ZRANGE z 0 1 REV REV", "ERR syntax error"),
                ("ZRANGE z 0 1 BYSCORE LIMIT 1", "ERR syntax error"),
                (
                    "ZRANGE z 0 1 BYSCORE LIMIT x 1",
                    "ERR value is not an integer or out of range",
                ),
                ("ZREVRANGE z 0 1 REV", "ERR syntax error"),
                ("ZRANGEBYSCORE z 0 1 BYSCORE", "ERR syntax error"),
                ("ZRANGEBYSCORE z x 1", "ERR min or max is not a float"),
                ("ZRANGE z x 1 BYSCORE FOO", "ERR syntax error"),
                ("ZREMRANGEBYSCORE z x 1", "ERR min or max is not a float"),
                (
                    "ZREMRANGEBYRANK z x 1",
                    "ERR value is not an integer or out of range",
                ),
                (
                    "ZREMRANGEBYLEX z x +",
                    "ERR min or max not valid string range item",
                ),
                ("ZREMRANGEBYRANK missing 0 1", ":0"),
                ("ZREMRANGEBYRANK z -2 -1", ":2"),
                ("ZREMRANGEBYSCORE z 2 2", ":2"),
                ("ZRANGE z 0 -1", "[a]"),
            ],
        );
    }
}

#[test]
fn ranges_of_bytes() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD z 0 a 0 b 0 bb 0 c 0 10 0 9", ":6"),
                ("ZRANGEBYLEX z - +", "[10 9 a b bb c]"),
                ("ZRANGEBYLEX z [b (c", "[b bb]"),
                ("ZRANGEBYLEX z (9 + LIMIT 1 2", "[b bb]"),
                ("ZREVRANGEBYLEX z [bb [10", "[bb b a 9 10]"),
                ("ZRANGE z + (a BYLEX REV LIMIT 0 1", "[c]"),
                ("ZRANGEBYLEX z + -", "[]"),
                (
                    "ZRANGEBYLEX z [a WITHSCORES",
                    "ERR min or max not valid string range item",
                ),
                (
                    "ZRANGEBYLEX z [a + WITHSCORES",
                    "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
                ),
                ("ZLEXCOUNT z [10 (bb", ":4"),
                ("ZREMRANGEBYLEX z (a [bb", ":2"),
                ("ZRANGE z 0 -1", "[10 9 a c]"),
            ],
        );
    }
}

#[test]
fn zrangestore_stores_what_zrange_shows() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD z 1 a 2 b 3 c", ":3"),
                ("ZRANGESTORE d z 0 -1", ":3"),
                ("EXPIRE d 100", ":1"),
                ("ZRANGESTORE d z (1 +inf BYSCORE LIMIT 0 1", ":1"),
                ("ZRANGE d 0 -1 WITHSCORES", "[b 2]"),
                ("TTL d", ":-1"),
                ("ZRANGESTORE d z 0 0 REV", ":1"),
                ("ZRANGE d 0 -1 WITHSCORES", "[c 3]"),
                ("ZRANGESTORE z z 1 2", ":2"),
                ("ZRANGE z 0 -1", "[b c]"),
                ("ZRANGESTORE d z 0 -1 WITHSCORES", "ERR syntax error"),
                (
                    "ZRANGESTORE d z 0 -1 LIMIT 0 1",
                    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
                ),
                (
                    "ZRANGESTORE d z x y",
                    "ERR value is not an integer or out of range",
                ),
                ("SET s v", "+OK"),
                ("ZRANGESTORE s z 0 -1", ":2"),
                ("TYPE s", "+zset"),
                ("ZRANGESTORE s z 5 9", ":0"),
                ("EXISTS s", ":0"),
            ],
        );
    }
}

#[test]
fn members_are_taken_from_either_end() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f", ":6"),
                ("ZPOPMIN z", "[a 1]"),
                ("ZPOPMAX z 2", "[f 6 e 5]"),
                ("ZPOPMIN z 0", "[]"),
                ("ZPOPMIN missing", "[]"),
                ("ZPOPMIN missing 3", "[]"),
                (
                    "ZPOPMIN z -1",
                    "ERR value is out of range, must be positive",
                ),
                ("ZPOPMIN z x", "ERR value is out of range, must be positive"),
                ("ZPOPMIN z 1 2", "ERR syntax error"),
                ("ZMPOP 2 missing z MAX", "[z [[d 4]]]"),
                ("ZMPOP 2 missing other MAX", "nil-array"),
                ("ZMPOP 1 z MIN COUNT 9", "[z [[b 2] [c 3]]]"),
                ("ZMPOP 0 z MIN", "ERR numkeys should be greater than 0"),
                ("ZMPOP x z MIN", "ERR numkeys should be greater than 0"),
                ("ZMPOP 2 z MIN", "ERR syntax error"),
                ("ZMPOP 3 z MIN", "ERR syntax error"),
                ("ZMPOP 1 z FOO", "ERR syntax error"),
                (
                    "ZMPOP 1 z MIN COUNT 0",
                    "ERR count should be greater than 0",
                ),
                ("ZMPOP 1 z MIN COUNT", "ERR syntax error"),
                ("ZMPOP 1 z MIN COUNT 1 COUNT 1", "ERR syntax error"),
                ("BZPOPMIN z x", "ERR timeout is not a float or out of range"),
                ("BZPOPMIN z -1", "ERR timeout is negative"),
                (
                    "BZMPOP x 1 z MIN",
                    "ERR timeout is not a float or out of range",
                ),
                ("BZMPOP x 0 z MIN", "ERR numkeys should be greater than 0"),
                ("BZPOPMIN z y 0", "nil-array"),
                ("ZADD y 1 a 2 b 3 c", ":3"),
                ("BZPOPMAX z y 0", "[y c 3]"),
                ("BZMPOP 0 2 z y MIN COUNT 5", "[y [[a 1] [b 2]]]"),
            ],
        );
    }
}

/// Followers are told what was done, not what was asked.
#[test]
fn pops_are_told_as_zpopmin_and_zpopmax() {
    let world = World::new();
    run(&world, "ZADD z 1 a 2 b 3 c 4 d 5 e");
    world.take_records();
    for line in [
        "ZMPOP 2 missing z MAX",
        "ZMPOP 1 missing MAX",
        "BZPOPMIN missing z 0",
        "BZPOPMAX z 0",
        "BZMPOP 0 2 missing z MIN COUNT 100",
        "BZPOPMAX z 0",
    ] {
        run(&world, line);
    }
    let told = ["ZPOPMAX z 1", "ZPOPMIN z", "ZPOPMAX z", "ZPOPMIN z 2"];
    assert_eq!(world.records(), told);
}

#[test]
fn samples_are_members() {
    for world in worlds() {
        run(&world, "ZADD z 1 a 2 b 3 c 4 d");
        script(
            &world,
            &[
                ("ZRANDMEMBER z 4", "[d c b a]"),
                ("ZRANDMEMBER z 9 WITHSCORES", "[d 4 c 3 b 2 a 1]"),
                ("ZRANDMEMBER z 0", "[]"),
                ("ZRANDMEMBER missing", "nil"),
                ("ZRANDMEMBER missing 5", "[]"),
                ("ZRANDMEMBER missing -5 WITHSCORES", "[]"),
                (
                    "ZRANDMEMBER z x",
                    "ERR value is not an integer or out of range",
                ),
                ("ZRANDMEMBER z 1 FOO", "ERR syntax error"),
                ("ZRANDMEMBER z 1 WITHSCORES 2", "ERR syntax error"),
                (
                    "ZRANDMEMBER z -9223372036854775808",
                    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                ),
                (
                    "ZRANDMEMBER z 9223372036854775807 WITHSCORES",
                    "ERR value is out of range",
                ),
                (
                    "ZRANDMEMBER z -9223372036854775807",
                    "ERR value is out of range",
                ),
            ],
        );
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            seen.insert(plain(&run(&world, "ZRANDMEMBER z")));
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
        let repeated = plain(&run(&world, "ZRANDMEMBER z -100 WITHSCORES"));
        assert_eq!(repeated.split(' ').count(), 200);
    }
}

/// Few of many members, and many of them: different ones, both ways.
#[test]
fn samples_of_large_sets_are_of_different_members() {
    let world = World::new();
    let mut request = vec!["ZADD".to_owned(), "z".to_owned()];
    for number in 0..1000 {
        request.extend([number.to_string(), format!("m{number}")]);
    }
    run_parts(&world, &request);
    for count in [1, 50, 125, 126, 500, 999, 1000] {
        let reply = plain(&run(&world, &format!("ZRANDMEMBER z {count}")));
        let members = reply.trim_matches(['[', ']']).split(' ');
        let members: std::collections::BTreeSet<_> = members.collect();
        assert_eq!(members.len(), count);
    }
}

#[test]
fn a_sample_has_an_end() {
    let mut world = World::new();
    world.rules.max_string_bytes = 1000;
    run(&world, "ZADD z 1 member:of:some:length");
    let reply = run(&world, "ZRANDMEMBER z -100");
    assert_eq!(reply, "-ERR value is out of range\r\n");
    assert!(run(&world, "ZRANDMEMBER z -20").starts_with("*20\r\n"));
}

#[test]
fn scans_show_all_members() {
    for world in worlds() {
        let mut expected = std::collections::BTreeSet::new();
        for number in 0..50 {
            run(&world, &format!("ZADD z {number} m{number}"));
            expected.insert(format!("m{number} {number}"));
        }
        let mut cursor = "0".to_owned();
        let mut found = std::collections::BTreeSet::new();
        loop {
            let reply = plain(&run(&world, &format!("ZSCAN z {cursor} COUNT 7")));
            let words: Vec<&str> = reply.split([' ', '[', ']']).collect();
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            cursor = words[0].to_owned();
            let pairs = words[1..].chunks(2);
            found.extend(pairs.map(|pair| format!("{} {}", pair[0], pair[1])));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found, expected);
        script(
            &world,
            &[
                ("ZSCAN z 0 MATCH m7 COUNT 1000", "[0 [m7 7]]"),
                ("ZSCAN z x", "ERR invalid cursor"),
                ("ZSCAN z 0 COUNT 0", "ERR syntax error"),
                (
                    "ZSCAN z 0 COUNT x",
                    "ERR value is not an integer or out of range",
                ),
                ("ZSCAN z 0 TYPE zset", "ERR syntax error"),
                ("ZSCAN missing 0 FOO", "[0 []]"),
            ],
        );
    }
}

/// Redis prints them by `%.17g` where the set is a skiplist, and in short where it is a listpack.
#[test]
fn scans_show_scores_as_redis_does() {
    let shown = ["[0 [a 0.1]]", "[0 [a 0.10000000000000001]]"];
    for (world, shown) in worlds().zip(shown) {
        run(&world, "ZADD z 0.1 a");
        script(&world, &[("ZSCAN z 0", shown), ("ZSCORE z a", "0.1")]);
    }
}

#[test]
fn unions_intersections_and_differences() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD x 1 a 2 b 3 c", ":3"),
                ("ZADD y 10 b 20 c 30 d", ":3"),
                ("SADD s c d e", ":3"),
                ("ZUNION 2 x y WITHSCORES", "[a 1 b 12 c 23 d 30]"),
                ("ZUNION 3 x y s", "[a e b c d]"),
                (
                    "ZUNION 2 x y WEIGHTS 2 -1 AGGREGATE MAX WITHSCORES",
                    "[d -30 a 2 b 4 c 6]",
                ),
                ("ZUNION 2 x x WITHSCORES", "[a 2 b 4 c 6]"),
                ("ZINTER 2 x y WITHSCORES", "[b 12 c 23]"),
                ("ZINTER 2 x y AGGREGATE min WITHSCORES", "[b 2 c 3]"),
                ("ZINTER 3 x y s WEIGHTS 1 1 0.5 WITHSCORES", "[c 23.5]"),
                ("ZINTER 2 x missing", "[]"),
                ("ZDIFF 2 x y WITHSCORES", "[a 1]"),
                ("ZDIFF 3 y x s", "[]"),
                ("ZDIFF 2 missing x", "[]"),
                ("ZDIFF 2 x missing", "[a b c]"),
                ("ZINTERCARD 2 x y", ":2"),
                ("ZINTERCARD 2 x y LIMIT 1", ":1"),
                ("ZINTERCARD 2 x y LIMIT 0", ":2"),
                ("ZINTERCARD 2 x missing", ":0"),
                ("ZUNIONSTORE d 2 x y", ":4"),
                ("ZRANGE d 0 -1 WITHSCORES", "[a 1 b 12 c 23 d 30]"),
                ("EXPIRE d 100", ":1"),
                ("ZINTERSTORE d 2 d y AGGREGATE MAX", ":3"),
                ("TTL d", ":-1"),
                ("ZRANGE d 0 -1 WITHSCORES", "[b 12 c 23 d 30]"),
                ("ZDIFFSTORE d 2 d s", ":1"),
                ("ZRANGE d 0 -1", "[b]"),
                ("ZINTERSTORE d 2 x missing", ":0"),
                ("EXISTS d", ":0"),
            ],
        );
        world.take_records();
        world.events();
        run(&world, "ZINTERSTORE d 2 x missing");
        assert!(world.records().is_empty());
        run(&world, "ZUNIONSTORE d 1 s WEIGHTS 2");
        run(&world, "ZINTERSTORE d 1 x");
        run(&world, "ZDIFFSTORE d 1 x");
        run(&world, "ZDIFFSTORE d 1 missing");
        let told = [
            "ZUNIONSTORE d 1 s WEIGHTS 2",
            "ZINTERSTORE d 1 x",
            "ZDIFFSTORE d 1 x",
            "ZDIFFSTORE d 1 missing",
        ];
        assert_eq!(world.records(), told);
        let events = [
            "new d",
            "zunionstore d",
            "zinterstore d",
            "zdiffstore d",
            "del d",
        ];
        assert_eq!(heard(&world), events);
    }
}

#[test]
fn what_algebra_refuses() {
    let world = World::new();
    script(
        &world,
        &[
            ("ZADD x 1 a", ":1"),
            ("SET str v", "+OK"),
            (
                "ZUNION 0 x",
                "ERR at least 1 input key is needed for 'zunion' command",
            ),
            (
                "ZINTERCARD -1 x",
                "ERR at least 1 input key is needed for 'zintercard' command",
            ),
            (
                "ZDIFFSTORE d 0 x",
                "ERR at least 1 input key is needed for 'zdiffstore' command",
            ),
            ("ZUNION x x", "ERR value is not an integer or out of range"),
            ("ZUNION 2 x", "ERR syntax error"),
            ("ZUNION 9223372036854775807 x", "ERR syntax error"),
            ("ZUNION 1 x WEIGHTS", "ERR syntax error"),
            ("ZUNION 1 x WEIGHTS x", "ERR weight value is not a float"),
            ("ZUNION 1 x WEIGHTS 1 2", "ERR syntax error"),
            ("ZUNION 1 x AGGREGATE foo", "ERR syntax error"),
            ("ZUNION 1 x AGGREGATE", "ERR syntax error"),
            ("ZUNIONSTORE d 1 x WITHSCORES", "ERR syntax error"),
            ("ZDIFF 1 x WEIGHTS 1", "ERR syntax error"),
            ("ZINTERCARD 1 x WITHSCORES", "ERR syntax error"),
            ("ZINTERCARD 1 x LIMIT -1", "ERR LIMIT can't be negative"),
            ("ZINTERCARD 1 x LIMIT x", "ERR LIMIT can't be negative"),
            ("ZINTERCARD 1 x LIMIT", "ERR syntax error"),
            // Types come before options.
            (
                "ZUNION 2 x str FOO",
                "WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ],
    );
}

/// As in Redis, where the order of the additions follows from the sizes of the sets.
#[test]
fn scores_are_joined_from_the_smallest_set_on() {
    let world = World::new();
    script(
        &world,
        &[
            ("ZADD large 0.1 a 1 b 1 c", ":3"),
            ("ZADD middle 0.2 a 1 b", ":2"),
            ("ZADD small 0.3 a", ":1"),
            ("ZINTER 3 large middle small WITHSCORES", "[a 0.6]"),
            ("ZADD small 0.1 a", ":0"),
            ("ZADD large 0.3 a", ":0"),
            (
                "ZINTER 3 large middle small WITHSCORES",
                "[a 0.6000000000000001]",
            ),
            (
                "ZUNION 3 large middle small WEIGHTS 1 1 1 WITHSCORES",
                "[a 0.6000000000000001 c 1 b 2]",
            ),
        ],
    );
}

#[test]
fn infinities_that_cancel_each_other_out_are_zero() {
    for world in worlds() {
        script(
            &world,
            &[
                ("ZADD x inf a", ":1"),
                ("ZADD y -inf a", ":1"),
                ("ZUNION 2 x y WITHSCORES", "[a 0]"),
                ("ZINTER 2 x y WITHSCORES", "[a 0]"),
                ("ZUNION 2 x y WEIGHTS 0 1 WITHSCORES", "[a -inf]"),
                ("ZINTER 2 x y WEIGHTS 0 1 WITHSCORES", "[a -inf]"),
                // The second product is no number: so is the sum, which becomes 0.
                ("ZINTER 2 x y WEIGHTS 1 0 WITHSCORES", "[a 0]"),
                ("ZUNION 2 x y WEIGHTS 1 0 WITHSCORES", "[a inf]"),
            ],
        );
    }
}

/// Which scores of -0 lose their sign is decided by the order of insertion: found beside redis-server.
#[test]
fn zrangestore_inserts_in_the_order_of_its_range() {
    let mut world = World::new();
    world.rules.zset = Limits {
        entries: 128,
        value: 2,
    };
    script(
        &world,
        &[
            ("ZADD z -1 long -0 a 5 b", ":3"),
            ("ZRANGE z 0 -1 WITHSCORES", "[long -1 a -0 b 5]"),
            ("ZRANGESTORE up z 0 -1", ":3"),
            ("ZSCORE up a", "-0"),
            ("ZRANGESTORE down z 0 -1 REV", ":3"),
            ("ZSCORE down a", "0"),
            ("OBJECT ENCODING down", "skiplist"),
        ],
    );
}

#[test]
fn encodings_follow_the_limits() {
    let mut world = World::new();
    world.rules.zset = Limits {
        entries: 3,
        value: 5,
    };
    script(
        &world,
        &[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("OBJECT ENCODING z", "listpack"),
            ("ZADD z 4 d", ":1"),
            ("OBJECT ENCODING z", "skiplist"),
            ("ZREM z a b c", ":3"),
            ("OBJECT ENCODING z", "skiplist"),
            ("ZUNIONSTORE u 1 z", ":1"),
            ("OBJECT ENCODING u", "listpack"),
            ("ZADD u 1 longer", ":1"),
            ("OBJECT ENCODING u", "skiplist"),
            ("ZRANGESTORE u u 0 -1", ":2"),
            ("OBJECT ENCODING u", "skiplist"),
            ("ZRANGESTORE u z 0 -1", ":1"),
            ("OBJECT ENCODING u", "listpack"),
        ],
    );
}

#[test]
fn other_types_are_refused() {
    let world = World::new();
    run(&world, "SET k v");
    world.take_records();
    for line in [
        "ZADD k 1 a",
        "ZADD k XX 1 a",
        "ZINCRBY k 1 a",
        "ZREM k a",
        "ZCARD k",
        "ZSCORE k a",
        "ZMSCORE k a",
        "ZRANK k a",
        "ZREVRANK k a",
        "ZCOUNT k 1 2",
        "ZLEXCOUNT k - +",
        "ZRANGE k 0 1",
        "ZREVRANGE k 0 1",
        "ZRANGEBYSCORE k 0 1",
        "ZREVRANGEBYSCORE k 0 1",
        "ZRANGEBYLEX k - +",
        "ZREVRANGEBYLEX k + -",
        "ZRANGESTORE d k 0 1",
        "ZREMRANGEBYRANK k 0 1",
        "ZREMRANGEBYSCORE k 0 1",
        "ZREMRANGEBYLEX k - +",
        "ZPOPMIN k",
        "ZPOPMAX k 0",
        "ZMPOP 2 missing k MIN",
        "BZPOPMIN missing k 0",
        "BZPOPMAX k 0",
        "BZMPOP 0 1 k MIN",
        "ZRANDMEMBER k",
        "ZRANDMEMBER k 0",
        "ZSCAN k 0",
        "ZUNION 1 k",
        "ZINTER 2 missing k",
        "ZDIFF 2 missing k",
        "ZUNIONSTORE d 1 k",
        "ZINTERSTORE d 1 k",
        "ZDIFFSTORE d 1 k",
        "ZINTERCARD 2 k missing",
    ] {
        assert_eq!(run(&world, line), WRONG_TYPE, "{line}");
    }
    // What is wrong with the arguments is told first.
    assert_eq!(
        run(&world, "ZADD k x a"),
        "-ERR value is not a valid float\r\n"
    );
    assert_eq!(run(&world, "ZRANGE k x y"), NOT_AN_INTEGER);
    assert_eq!(run(&world, "ZPOPMIN k 1 2"), SYNTAX);
    assert!(world.records().is_empty());
}

/// What is much work is done after release, on snapshots: the reply is the same.
#[test]
fn algebra_of_large_sets() {
    let world = World::new();
    let fill = |key: &str, numbers: std::ops::Range<u32>| {
        let mut request = vec!["ZADD".to_owned(), key.to_owned()];
        for number in numbers {
            request.extend([number.to_string(), format!("m{number}")]);
        }
        run_parts(&world, &request);
    };
    fill("a", 0..6_000);
    fill("b", 3_000..9_000);
    run(&world, "SADD s m2999 m5000");
    let count = |line: &str| plain(&run(&world, line)).split(' ').count();
    assert_eq!(count("ZUNION 2 a b"), 9_000);
    assert_eq!(count("ZINTER 2 a b"), 3_000);
    assert_eq!(count("ZDIFF 2 a b WITHSCORES"), 6_000);
    let shown = plain(&run(&world, "ZUNION 3 a b s WEIGHTS 1 2 1 WITHSCORES"));
    assert!(shown.contains(" m2999 3000 "), "{shown}");
    assert!(shown.ends_with(" m8999 17998]"), "{shown}");
    script(
        &world,
        &[
            ("ZINTER 3 a b s WITHSCORES", "[m5000 10001]"),
            ("ZINTERCARD 2 a b", ":3000"),
            ("ZINTERCARD 2 a b LIMIT 2500", ":2500"),
            ("ZUNIONSTORE d 2 a b", ":9000"),
            ("ZSCORE d m4000", "8000"),
            ("ZRANK d m2999", ":2999"),
            ("ZINTERSTORE d 2 d s", ":2"),
            ("OBJECT ENCODING d", "listpack"),
        ],
    );
}

/// Ranges of many members come from a snapshot, removals of most members from making the rest anew.
#[test]
fn large_sets() {
    let world = World::new();
    let mut request = vec!["ZADD".to_owned(), "z".to_owned()];
    for number in 0..20_000 {
        request.extend([number.to_string(), format!("m{number}")]);
    }
    assert_eq!(run_parts(&world, &request), b":20000\r\n");
    let all = plain(&run(&world, "ZRANGE z 0 -1"));
    let members: Vec<String> = (0..20_000).map(|number| format!("m{number}")).collect();
    assert_eq!(all, format!("[{}]", members.join(" ")));
    let back = plain(&run(&world, "ZREVRANGEBYSCORE z +inf 1"));
    let mut members: Vec<String> = members.into_iter().skip(1).collect();
    members.reverse();
    assert_eq!(back, format!("[{}]", members.join(" ")));
    script(
        &world,
        &[
            ("ZREMRANGEBYSCORE z 10 19989", ":19980"),
            ("ZCARD z", ":20"),
            ("ZRANK z m19990", ":10"),
            ("ZUNIONSTORE u 2 z z", ":20"),
            ("ZSCORE u m19999", "39998"),
        ],
    );
    run_parts(&world, &request);
    let popped = plain(&run(&world, "ZPOPMAX z 19999"));
    assert_eq!(popped.split(' ').count(), 2 * 19_999);
    assert_eq!(run(&world, "ZRANGE z 0 -1"), "*1\r\n$2\r\nm0\r\n");
}
