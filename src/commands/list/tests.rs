//! Each command against what redis-server 7.0.15 replies, propagates and reports; the traps by name.

use crate::commands::testing::{World, run, run_parts};
use crate::data::list::Limits;
use crate::resp::reply::Protocol;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";
const NOT_POSITIVE: &str = "-ERR value is out of range, must be positive\r\n";

/// A world with a list of seven, a string, and nothing told yet.
fn world() -> World {
    let world = World::new();
    run(&world, "RPUSH l a b c a b c a");
    run(&world, "SET str v");
    forget(&world);
    world
}

fn forget(world: &World) {
    world.take_records();
    world.events();
}

/// Runs a request and returns the reply, a blank for each line end.
fn shown(world: &World, request: &str) -> String {
    run(world, request)
        .replace("\r\n", " ")
        .trim_end()
        .to_owned()
}

fn elements(world: &World, key: &str) -> String {
    let reply = run(world, &format!("LRANGE {key} 0 -1"));
    let lines: Vec<&str> = reply
        .lines()
        .filter(|line| !line.starts_with(['*', '$']))
        .collect();
    lines.join(" ")
}

/// Replies of requests, each in a world of its own: RESP2, and RESP3 where it differs.
fn each(cases: &[(&str, &str)]) {
    for (request, expected) in cases {
        let (second, third) = expected.split_once(" || ").unwrap_or((expected, expected));
        for (protocol, expected) in [(Protocol::Resp2, second), (Protocol::Resp3, third)] {
            let world = world();
            world.protocol.set(protocol);
            let reply = run(&world, request);
            let reply = reply.strip_suffix("\r\n").expect("a whole reply");
            assert_eq!(reply.replace("\r\n", " "), expected, "{request}");
            if reply.starts_with('-') {
                assert_eq!(elements(&world, "l"), "a b c a b c a", "{request}");
                assert!(world.records().is_empty() && world.events().is_empty());
            }
        }
    }
}

fn trimmed(error: &str) -> &str {
    error.trim_end()
}

#[test]
fn elements_go_in_and_out_at_both_ends() {
    let world = World::new();
    assert_eq!(shown(&world, "RPUSH l a b"), ":2");
    assert_eq!(shown(&world, "LPUSH l c d"), ":4");
    assert_eq!(elements(&world, "l"), "d c a b");
    assert_eq!(shown(&world, "LPUSHX l e"), ":5");
    assert_eq!(shown(&world, "RPUSHX l f 7"), ":7");
    assert_eq!(shown(&world, "LPOP l"), "$1 e");
    assert_eq!(shown(&world, "RPOP l"), "$1 7");
    assert_eq!(shown(&world, "RPOP l 2"), "*2 $1 f $1 b");
    assert_eq!(shown(&world, "LPOP l 100"), "*3 $1 d $1 c $1 a");
    assert_eq!(shown(&world, "EXISTS l"), ":0");
    assert_eq!(
        world.events(),
        [
            "new l",
            "rpush l",
            "lpush l",
            "lpush l",
            "rpush l",
            "lpop l",
            "rpop l",
            "rpop l",
            "lpop l",
            "del l",
            "keymiss l"
        ]
    );
    let records = world.records();
    assert_eq!(records.len(), 8);
    assert_eq!(records[7], "LPOP l 100");
}

#[test]
fn pushes_refuse_and_skip() {
    each(&[
        ("LPUSH str a", trimmed(WRONG_TYPE)),
        ("RPUSHX str a", trimmed(WRONG_TYPE)),
        ("LPUSHX none a", ":0"),
        ("RPUSHX none a b", ":0"),
    ]);
    let world = world();
    run(&world, "LPUSHX none a");
    assert!(world.records().is_empty() && world.events().is_empty());
    assert_eq!(shown(&world, "EXISTS none"), ":0");
}

#[test]
fn pops_look_at_the_count_before_the_key() {
    each(&[
        (
            "LPOP l 1 2",
            "-ERR wrong number of arguments for 'lpop' command",
        ),
        (
            "RPOP l 1 2",
            "-ERR wrong number of arguments for 'rpop' command",
        ),
        ("LPOP none x", trimmed(NOT_POSITIVE)),
        ("LPOP none -1", trimmed(NOT_POSITIVE)),
        ("LPOP str -1", trimmed(NOT_POSITIVE)),
        ("RPOP l -9223372036854775808", trimmed(NOT_POSITIVE)),
        ("LPOP l 9223372036854775808", trimmed(NOT_POSITIVE)),
        ("LPOP str", trimmed(WRONG_TYPE)),
        ("LPOP str 0", trimmed(WRONG_TYPE)),
        ("LPOP none", "$-1 || _"),
        ("LPOP none 0", "*-1 || _"),
        ("LPOP none 2", "*-1 || _"),
        ("LPOP l 0", "*0"),
        ("LPOP l 1", "*1 $1 a"),
        (
            "RPOP l 9223372036854775807",
            "*7 $1 a $1 c $1 b $1 a $1 c $1 b $1 a",
        ),
    ]);
    let world = world();
    run(&world, "LPOP l 0");
    assert!(world.records().is_empty() && world.events().is_empty());
}

#[test]
fn reads_find_their_place_from_either_end() {
    each(&[
        ("LLEN l", ":7"),
        ("LLEN none", ":0"),
        ("LLEN str", trimmed(WRONG_TYPE)),
        ("LINDEX l 0", "$1 a"),
        ("LINDEX l 6", "$1 a"),
        ("LINDEX l 7", "$-1 || _"),
        ("LINDEX l -7", "$1 a"),
        ("LINDEX l -2", "$1 c"),
        ("LINDEX l -8", "$-1 || _"),
        ("LINDEX l -9223372036854775808", "$-1 || _"),
        ("LINDEX l 9223372036854775807", "$-1 || _"),
        // The index is looked at when there is a list.
        ("LINDEX none x", "$-1 || _"),
        ("LINDEX str x", trimmed(WRONG_TYPE)),
        ("LINDEX l x", trimmed(NOT_INTEGER)),
        // Here first.
        ("LRANGE str x 1", trimmed(NOT_INTEGER)),
        ("LRANGE none 0 x", trimmed(NOT_INTEGER)),
        ("LRANGE str 0 1", trimmed(WRONG_TYPE)),
        ("LRANGE none 0 1", "*0"),
        ("LRANGE l 1 2", "*2 $1 b $1 c"),
        ("LRANGE l 5 1", "*0"),
        ("LRANGE l 7 8", "*0"),
        ("LRANGE l -3 -2", "*2 $1 b $1 c"),
        ("LRANGE l -100 -6", "*2 $1 a $1 b"),
        ("LRANGE l -100 -8", "*0"),
        (
            "LRANGE l -9223372036854775808 9223372036854775807",
            "*7 $1 a $1 b $1 c $1 a $1 b $1 c $1 a",
        ),
    ]);
}

#[test]
fn lset_replaces_within_the_list() {
    let out_of_range = "-ERR index out of range";
    each(&[
        ("LSET none x v", "-ERR no such key"),
        ("LSET str x v", trimmed(WRONG_TYPE)),
        ("LSET l x v", trimmed(NOT_INTEGER)),
        ("LSET l 7 v", out_of_range),
        ("LSET l -8 v", out_of_range),
        ("LSET l -9223372036854775808 v", out_of_range),
        ("LSET l 0 v", "+OK"),
    ]);
    let world = world();
    run(&world, "LSET l -1 99");
    run(&world, "LSET l 1 99");
    assert_eq!(elements(&world, "l"), "a 99 c a b c 99");
    assert_eq!(world.events(), ["lset l", "lset l"]);
    assert_eq!(world.records(), ["LSET l -1 99", "LSET l 1 99"]);
}

#[test]
fn linsert_puts_beside_the_first_equal_element() {
    each(&[
        ("LINSERT none x a b", trimmed(SYNTAX)),
        ("LINSERT none BEFORE a b", ":0"),
        ("LINSERT str BEFORE a b", trimmed(WRONG_TYPE)),
        ("LINSERT l BEFORE zz b", ":-1"),
    ]);
    let world = world();
    assert_eq!(shown(&world, "LINSERT l before b x"), ":8");
    assert_eq!(shown(&world, "LINSERT l AFTER c y"), ":9");
    assert_eq!(shown(&world, "LINSERT l AFTER none y"), ":-1");
    assert_eq!(elements(&world, "l"), "a x b c y a b c a");
    assert_eq!(world.events(), ["linsert l", "linsert l"]);
    assert_eq!(world.records().len(), 2);
}

#[test]
fn lrem_counts_from_an_end() {
    each(&[
        ("LREM none x a", trimmed(NOT_INTEGER)),
        ("LREM str x a", trimmed(NOT_INTEGER)),
        ("LREM str 0 a", trimmed(WRONG_TYPE)),
        ("LREM none 0 a", ":0"),
        ("LREM l 0 zz", ":0"),
        ("LREM l 0 a", ":3"),
        ("LREM l -9223372036854775808 a", ":3"),
        ("LREM l -9223372036854775807 a", ":3"),
        ("LREM l 9223372036854775807 a", ":3"),
    ]);
    let world = world();
    assert_eq!(shown(&world, "LREM l 1 b"), ":1");
    assert_eq!(elements(&world, "l"), "a c a b c a");
    assert_eq!(shown(&world, "LREM l -2 a"), ":2");
    assert_eq!(elements(&world, "l"), "a c b c");
    assert_eq!(shown(&world, "LREM l 0 none"), ":0");
    assert_eq!(world.events(), ["lrem l", "lrem l"]);
    for element in ["a", "b", "c"] {
        run(&world, &format!("LREM l 0 {element}"));
    }
    assert_eq!(world.events(), ["lrem l", "lrem l", "lrem l", "del l"]);
    assert_eq!(world.records().len(), 5);
}

#[test]
fn ltrim_reports_itself_even_when_nothing_goes() {
    each(&[
        ("LTRIM none x 1", trimmed(NOT_INTEGER)),
        ("LTRIM str 0 1", trimmed(WRONG_TYPE)),
        ("LTRIM none 0 1", "+OK"),
    ]);
    let world = world();
    assert_eq!(shown(&world, "LTRIM l 0 -1"), "+OK");
    assert_eq!((world.events().len(), world.records().len()), (1, 0));
    assert_eq!(shown(&world, "LTRIM l 1 -3"), "+OK");
    assert_eq!(elements(&world, "l"), "b c a b");
    assert_eq!(shown(&world, "LTRIM l -2 9223372036854775807"), "+OK");
    assert_eq!(elements(&world, "l"), "a b");
    assert_eq!(shown(&world, "LTRIM l 5 1"), "+OK");
    assert_eq!(shown(&world, "EXISTS l"), ":0");
    assert_eq!(
        world.events(),
        ["ltrim l", "ltrim l", "ltrim l", "del l", "keymiss l"]
    );
    assert_eq!(world.records().len(), 3);
}

#[test]
fn lpos_takes_rank_count_and_maxlen() {
    let zero = "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start \
                from the end of the list";
    each(&[
        ("LPOS l a", ":0"),
        ("LPOS l zz", "$-1 || _"),
        ("LPOS l zz COUNT 1", "*0"),
        ("LPOS none a", "$-1 || _"),
        ("LPOS none a COUNT 0", "*0"),
        ("LPOS str a", trimmed(WRONG_TYPE)),
        ("LPOS str a COUNT -1", "-ERR COUNT can't be negative"),
        ("LPOS l a COUNT x", "-ERR COUNT can't be negative"),
        ("LPOS l a MAXLEN x", "-ERR MAXLEN can't be negative"),
        (
            "LPOS l a MAXLEN -9223372036854775808",
            "-ERR MAXLEN can't be negative",
        ),
        ("LPOS none a RANK 0", zero),
        ("LPOS l a RANK x", trimmed(NOT_INTEGER)),
        // As 7.2; 7.0 negates it, and finds the last one.
        (
            "LPOS l a RANK -9223372036854775808",
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        ("LPOS l a RANK", trimmed(SYNTAX)),
        ("LPOS l a NIX 1", trimmed(SYNTAX)),
        ("LPOS l a rank 2 Rank 3", ":6"),
        ("LPOS l a RANK -1", ":6"),
        ("LPOS l a RANK -9223372036854775807", "$-1 || _"),
        ("LPOS l a RANK 9223372036854775807 COUNT 0", "*0"),
        ("LPOS l a COUNT 0", "*3 :0 :3 :6"),
        ("LPOS l a COUNT 2", "*2 :0 :3"),
        ("LPOS l a RANK 2 COUNT 9", "*2 :3 :6"),
        ("LPOS l a COUNT 0 MAXLEN 4", "*2 :0 :3"),
        ("LPOS l a RANK -1 COUNT 0", "*3 :6 :3 :0"),
        ("LPOS l a RANK -2 COUNT 0 MAXLEN 5", "*1 :3"),
        ("LPOS l b MAXLEN 1", "$-1 || _"),
        ("LPOS l b MAXLEN 0", ":1"),
    ]);
}

#[test]
fn lmove_looks_at_the_destination_when_there_is_a_source() {
    each(&[
        ("LMOVE none str LEFT x", trimmed(SYNTAX)),
        ("LMOVE none str LEFT RIGHT", "$-1 || _"),
        ("LMOVE l str LEFT RIGHT", trimmed(WRONG_TYPE)),
        ("LMOVE str l LEFT RIGHT", trimmed(WRONG_TYPE)),
        ("RPOPLPUSH none str", "$-1 || _"),
        ("RPOPLPUSH l str", trimmed(WRONG_TYPE)),
    ]);
    let world = World::new();
    run(&world, "RPUSH l a b c");
    forget(&world);
    assert_eq!(shown(&world, "LMOVE l m left right"), "$1 a");
    assert_eq!(world.events(), ["new m", "rpush m", "lpop l"]);
    assert_eq!(shown(&world, "LMOVE m l LEFT LEFT"), "$1 a");
    assert_eq!(world.events(), ["lpush l", "lpop m", "del m"]);
    assert_eq!(shown(&world, "LMOVE l l LEFT RIGHT"), "$1 a");
    assert_eq!(world.events(), ["rpush l", "lpop l"]);
    assert_eq!(shown(&world, "RPOPLPUSH l l"), "$1 a");
    assert_eq!(world.events(), ["lpush l", "rpop l"]);
    assert_eq!(elements(&world, "l"), "a b c");
    assert_eq!(
        world.records(),
        [
            "LMOVE l m left right",
            "LMOVE m l LEFT LEFT",
            "LMOVE l l LEFT RIGHT",
            "RPOPLPUSH l l"
        ]
    );
}

/// The only element of a list that is moved to itself: the list was never gone, and keeps its expiry.
#[test]
fn a_list_of_one_is_moved_to_itself() {
    let world = World::new();
    run(&world, "RPUSH l a");
    run(&world, "EXPIRE l 100");
    forget(&world);
    assert_eq!(shown(&world, "LMOVE l l RIGHT LEFT"), "$1 a");
    assert_eq!(shown(&world, "TTL l"), ":100");
    assert_eq!(world.events(), ["lpush l", "rpop l"]);
}

#[test]
fn lmpop_takes_from_the_first_list_that_is_there() {
    let numkeys = "-ERR numkeys should be greater than 0";
    let count = "-ERR count should be greater than 0";
    each(&[
        ("LMPOP 0 l LEFT", numkeys),
        ("LMPOP x l LEFT", numkeys),
        ("LMPOP -9223372036854775808 l LEFT", numkeys),
        ("LMPOP 2 l LEFT", trimmed(SYNTAX)),
        ("LMPOP 9223372036854775807 l LEFT", trimmed(SYNTAX)),
        ("LMPOP 1 l x", trimmed(SYNTAX)),
        ("LMPOP 1 l LEFT COUNT", trimmed(SYNTAX)),
        ("LMPOP 1 l LEFT COUNT 0", count),
        ("LMPOP 1 l LEFT COUNT x", count),
        ("LMPOP 1 str LEFT COUNT 0", count),
        ("LMPOP 1 l LEFT COUNT 1 2", trimmed(SYNTAX)),
        ("LMPOP 1 l LEFT COUNT 1 COUNT 2", trimmed(SYNTAX)),
        ("LMPOP 1 l LEFT NIX 1", trimmed(SYNTAX)),
        ("LMPOP 2 none str LEFT", trimmed(WRONG_TYPE)),
        ("LMPOP 2 none nil LEFT", "*-1 || _"),
        ("LMPOP 2 none l left", "*2 $1 l *1 $1 a"),
        ("LMPOP 2 l str RIGHT COUNT 2", "*2 $1 l *2 $1 a $1 c"),
    ]);
    let world = world();
    run(&world, "LMPOP 2 none l RIGHT COUNT 2");
    run(&world, "LMPOP 1 l LEFT COUNT 100");
    assert_eq!(world.events(), ["rpop l", "lpop l", "del l"]);
    assert_eq!(world.records(), ["RPOP l 2", "LPOP l 5"]);
}

/// What a blocking command does when it need not wait, and what it says when it may not (as in a transaction).
#[test]
fn blocking_commands_try_first() {
    let not_a_float = "-ERR timeout is not a float or out of range";
    let negative = "-ERR timeout is negative";
    each(&[
        ("BLPOP l x", not_a_float),
        ("BLPOP str x", not_a_float),
        ("BLPOP l -1", negative),
        ("BLPOP str 0", trimmed(WRONG_TYPE)),
        ("BLPOP none str 0", trimmed(WRONG_TYPE)),
        ("BLPOP none 0", "*-1 || _"),
        ("BLPOP none l str 0", "*2 $1 l $1 a"),
        ("BRPOP none l 1.5", "*2 $1 l $1 a"),
        ("BLMOVE l m LEFT x y", trimmed(SYNTAX)),
        ("BLMOVE l m LEFT RIGHT x", not_a_float),
        ("BLMOVE str m LEFT RIGHT 1", trimmed(WRONG_TYPE)),
        ("BLMOVE l str LEFT RIGHT 1", trimmed(WRONG_TYPE)),
        ("BLMOVE none str LEFT RIGHT 1", "$-1 || _"),
        ("BRPOPLPUSH none str 1", "$-1 || _"),
        ("BLMOVE l m RIGHT LEFT 0", "$1 a"),
        ("BRPOPLPUSH l str x", not_a_float),
        ("BRPOPLPUSH l m 0", "$1 a"),
        ("BLMPOP x 1 l LEFT", not_a_float),
        ("BLMPOP -1 1 l LEFT", negative),
        ("BLMPOP 1 0 l LEFT", "-ERR numkeys should be greater than 0"),
        ("BLMPOP x x l LEFT", "-ERR numkeys should be greater than 0"),
        ("BLMPOP x 1 l x", trimmed(SYNTAX)),
        ("BLMPOP 0 2 none l LEFT COUNT 2", "*2 $1 l *2 $1 a $1 b"),
        ("BLMPOP 0 1 none LEFT", "*-1 || _"),
    ]);
}

/// Followers hear of what was done.
#[test]
fn blocking_commands_are_propagated_as_those_that_do_not_wait() {
    let world = world();
    for (request, record) in [
        ("BLPOP none l 0", "LPOP l"),
        ("BRPOP none l 0", "RPOP l"),
        ("BLMOVE l m left right 0", "LMOVE l m LEFT RIGHT"),
        ("BRPOPLPUSH l m 0", "RPOPLPUSH l m"),
        ("BLMPOP 0 2 none l LEFT COUNT 2", "LPOP l 2"),
    ] {
        run(&world, request);
        assert_eq!(world.records(), [record], "{request}");
    }
    assert_eq!(elements(&world, "m"), "c b");
    run(&world, "BLPOP none 0");
    assert!(world.records().is_empty());
}

/// Elements of any size through every form of a list.
#[test]
fn large_elements_and_long_lists_come_back() {
    let mut world = World::new();
    world.rules.list = Limits::from_parameter(-1);
    for length in [0, 500, 4000, 5000, 70_000] {
        let text = vec![b'x'; length];
        run_parts(&world, &[b"RPUSH", &b"l"[..], &text]);
        let index = run(&world, "LLEN l");
        assert!(index.starts_with(':'));
        let expected = [format!("${length}\r\n").as_bytes(), &text, b"\r\n"].concat();
        assert_eq!(run_parts(&world, &["LINDEX", "l", "-1"]), expected);
        assert_eq!(
            run_parts(&world, &["LMOVE", "l", "m", "RIGHT", "LEFT"]),
            expected
        );
        assert_eq!(run_parts(&world, &["RPOPLPUSH", "m", "l"]), expected);
    }
    assert_eq!(run(&world, "LLEN l"), ":5\r\n");
}

/// What is written after release is what was there when the command ran.
#[test]
fn a_long_range_is_a_snapshot() {
    let world = World::new();
    let numbers: Vec<String> = (0..50_000).map(|number| number.to_string()).collect();
    let mut push = vec!["RPUSH", "l"];
    push.extend(numbers.iter().map(String::as_str));
    run_parts(&world, &push);
    let mut expected = b"*50000\r\n".to_vec();
    for number in &numbers {
        expected.extend_from_slice(format!("${}\r\n{number}\r\n", number.len()).as_bytes());
    }
    assert!(run_parts(&world, &["LRANGE", "l", "0", "-1"]) == expected);
    assert_eq!(run(&world, "LPOS l 49999"), ":49999\r\n");
    assert_eq!(run(&world, "LPOS l 7 RANK -1 COUNT 0"), "*1\r\n:7\r\n");
    assert_eq!(run(&world, "LTRIM l 1 -2"), "+OK\r\n");
    assert_eq!(run(&world, "LLEN l"), ":49998\r\n");
    let popped = run_parts(&world, &["RPOP", "l", "49990"]);
    assert!(popped.starts_with(b"*49990\r\n$5\r\n49998\r\n$5\r\n49997\r\n"));
    assert_eq!(run(&world, "LLEN l"), ":8\r\n");
}

/// The thresholds are those of list-max-listpack-size.
#[test]
fn encodings_follow_the_parameter() {
    let mut world = World::new();
    let encoding = |world: &World| shown(world, "OBJECT ENCODING l");
    world.rules.list = Limits::from_parameter(4);
    run(&world, "RPUSH l a b c d");
    assert_eq!(encoding(&world), "$8 listpack");
    run(&world, "RPUSH l e");
    assert_eq!(encoding(&world), "$9 quicklist");
    run(&world, "LTRIM l 0 2");
    assert_eq!(encoding(&world), "$9 quicklist");
    run(&world, "LPOP l");
    assert_eq!(encoding(&world), "$8 listpack");
    world.rules.list = Limits::from_parameter(-2);
    run_parts(&world, &[b"RPUSH", &b"l"[..], &[b'x'; 9000]]);
    assert_eq!(encoding(&world), "$9 quicklist");
    run(&world, "RPOP l");
    assert_eq!(encoding(&world), "$8 listpack");
}
