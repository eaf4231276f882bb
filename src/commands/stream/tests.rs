//! Replies, records and events of the commands on streams. What redis-server answers too stands in tests/compat/scripts.
//!
//! Replies stand here with a blank for each line end: `*2 $1 a :1`.

use crate::commands::testing::{World, run};
use crate::data::stream::Limits;
use crate::resp::reply::Protocol;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

fn ask(world: &World, request: &str) -> String {
    run(world, request).trim_end().replace("\r\n", " ")
}

/// Runs requests and compares their replies.
fn script(world: &World, cases: &[(&str, &str)]) {
    for (request, reply) in cases {
        assert_eq!(ask(world, request), *reply, "{request}");
    }
}

/// What a request reported, misses aside.
fn events(world: &World, request: &str) -> Vec<String> {
    world.events();
    run(world, request);
    let mut events = world.events();
    events.retain(|event| !event.starts_with("keymiss"));
    events
}

/// What a request propagated.
fn records(world: &World, request: &str) -> Vec<String> {
    world.records();
    run(world, request);
    world.records()
}

#[test]
fn ids_come_from_the_clock_and_never_go_back() {
    let world = World::new();
    let now = world.now().0;
    let bulk = |id: String| format!("${} {id}", id.len());
    assert_eq!(ask(&world, "XADD s * a b"), bulk(format!("{now}-0")));
    assert_eq!(ask(&world, "XADD s * a b"), bulk(format!("{now}-1")));
    world.advance_ms(-5);
    assert_eq!(ask(&world, "XADD s * a b"), bulk(format!("{now}-2")));
    world.advance_ms(6);
    let id = format!("{}-0", now + 1);
    assert_eq!(ask(&world, "XADD s * a b"), bulk(id));
}

#[test]
fn an_entry_is_propagated_under_its_id() {
    let world = World::new();
    let now = world.now().0;
    assert_eq!(
        records(&world, "XADD s * a b c d"),
        [format!("XADD s {now}-0 a b c d")]
    );
    assert_eq!(records(&world, "XADD t 5-* a b"), ["XADD t 5-0 a b"]);
    assert_eq!(records(&world, "XADD t 5-* a b"), ["XADD t 5-1 a b"]);
    assert_eq!(
        records(&world, "XADD t NOMKSTREAM 6 a b"),
        ["XADD t NOMKSTREAM 6 a b"]
    );
    assert!(records(&world, "XADD t 6 a b").is_empty());
    assert!(records(&world, "XADD u NOMKSTREAM * a b").is_empty());
}

#[test]
fn approximate_trimming_is_propagated_as_what_was_done() {
    let mut world = World::new();
    world.rules.stream = Limits {
        max_bytes: 0,
        max_entries: 2,
    };
    for ms in 1..=6 {
        run(&world, &format!("XADD s {ms} a b"));
    }
    assert_eq!(
        records(&world, "XTRIM s MAXLEN ~ 3"),
        ["XTRIM s MAXLEN = 4"]
    );
    assert!(records(&world, "XTRIM s MAXLEN ~ 3").is_empty());
    assert_eq!(
        records(&world, "XTRIM s MINID ~ 6 LIMIT 5"),
        ["XTRIM s MINID = 5-0"]
    );
    assert_eq!(
        records(&world, "XADD s MAXLEN ~ 2 7 a b"),
        ["XADD s MAXLEN = 3 7-0 a b"]
    );
    assert_eq!(
        records(&world, "XADD s MINID ~ 7 DELREF 8 a b"),
        ["XADD s MINID = 7-0 DELREF 8-0 a b"]
    );
    assert_eq!(
        records(&world, "XADD s MAXLEN 1 9-* a b"),
        ["XADD s MAXLEN = 1 9-0 a b"]
    );
    assert_eq!(records(&world, "XTRIM s MAXLEN 0"), ["XTRIM s MAXLEN 0"]);
}

#[test]
fn reading_for_a_group_is_propagated_entry_by_entry() {
    let world = World::new();
    let now = world.now().0;
    script(
        &world,
        &[
            ("XADD s 1 a b", "$3 1-0"),
            ("XADD s 2 a b", "$3 2-0"),
            ("XGROUP CREATE s g 0", "+OK"),
        ],
    );
    let claim = |id: &str, consumer: &str, at: i64, count: u32| {
        format!("XCLAIM s g {consumer} 0 {id} TIME {at} RETRYCOUNT {count} FORCE JUSTID LASTID 2-0")
    };
    assert_eq!(
        records(&world, "XREADGROUP GROUP g c STREAMS s >"),
        [
            "XGROUP CREATECONSUMER s g c".to_owned(),
            claim("1-0", "c", now, 1),
            claim("2-0", "c", now, 1),
            "XGROUP SETID s g 2-0 ENTRIESREAD 2".to_owned(),
        ]
    );
    assert!(records(&world, "XREADGROUP GROUP g c STREAMS s >").is_empty());
    world.advance_ms(7);
    assert_eq!(
        records(&world, "XREADGROUP GROUP g c COUNT 1 STREAMS s 0"),
        [claim("1-0", "c", now + 7, 2)]
    );
    assert_eq!(
        records(&world, "XCLAIM s g d 0 2 9"),
        [claim("2-0", "d", now + 7, 2)]
    );
    assert_eq!(
        records(&world, "XCLAIM s g d 0 9 LASTID 3"),
        ["XGROUP SETID s g 3-0 ENTRIESREAD 2"]
    );
    run(&world, "XGROUP SETID s g 2 ENTRIESREAD 2");
    run(&world, "XDEL s 1");
    assert_eq!(
        records(&world, "XAUTOCLAIM s g d 0 - JUSTID"),
        [claim("1-0", "c", now + 7, 2), claim("2-0", "d", now + 7, 2)]
    );
    assert_eq!(
        records(&world, "XREADGROUP GROUP g e NOACK STREAMS s >"),
        [""; 0],
        "nothing to read, nobody created"
    );
    run(&world, "XADD s 4 a b");
    assert_eq!(
        records(&world, "XREADGROUP GROUP g e NOACK STREAMS s >"),
        [
            "XGROUP CREATECONSUMER s g e",
            "XGROUP SETID s g 4-0 ENTRIESREAD 3"
        ]
    );
    assert_eq!(records(&world, "XACK s g 2"), ["XACK s g 2"]);
    assert!(records(&world, "XACK s g 2").is_empty());
}

#[test]
fn events_are_those_of_redis() {
    let world = World::new();
    for (request, wanted) in [
        ("XADD s 1 a b", &["new s", "xadd s"][..]),
        ("XADD s MAXLEN 1 2 a b", &["xadd s", "xtrim s"]),
        ("XADD s MAXLEN 5 3 a b", &["xadd s"]),
        ("XADD s 3 a b", &[]),
        ("XTRIM s MAXLEN 1", &["xtrim s"]),
        ("XTRIM s MAXLEN 1", &[]),
        ("XDEL s 1", &[]),
        ("XDEL s 3", &["xdel s"]),
        ("XSETID s 5", &["xsetid s"]),
        ("XGROUP CREATE s g 0", &["xgroup-create s"]),
        (
            "XGROUP CREATE t g 0 MKSTREAM",
            &["new t", "xgroup-create t"],
        ),
        ("XGROUP SETID s g 0", &["xgroup-setid s"]),
        ("XGROUP CREATECONSUMER s g c", &["xgroup-createconsumer s"]),
        ("XGROUP CREATECONSUMER s g c", &[]),
        ("XGROUP DELCONSUMER s g c", &["xgroup-delconsumer s"]),
        ("XGROUP DELCONSUMER s g c", &[]),
        ("XADD s 6 a b", &["xadd s"]),
        (
            "XREADGROUP GROUP g c STREAMS s >",
            &["xgroup-createconsumer s"],
        ),
        ("XCLAIM s g d 0 6", &["xgroup-createconsumer s"]),
        ("XAUTOCLAIM s g e 0 0", &["xgroup-createconsumer s"]),
        ("XACK s g 6", &[]),
        ("XDELEX s IDS 1 6", &["xdel s"]),
        ("XGROUP DESTROY s g", &["xgroup-destroy s"]),
        ("XGROUP DESTROY s g", &[]),
    ] {
        assert_eq!(events(&world, request), wanted, "{request}");
    }
}

#[test]
fn errors_change_nothing() {
    let world = World::new();
    script(
        &world,
        &[
            ("SET text v", "+OK"),
            ("XADD s 5 a b", "$3 5-0"),
            ("XGROUP CREATE s g 0", "+OK"),
        ],
    );
    world.records();
    for request in [
        "XADD text * a b",
        "XADD text 0-0 a b",
        "XADD text NOMKSTREAM * a b",
        "XTRIM text MAXLEN 1",
        "XDEL text x",
        "XDELEX text IDS 1 1",
        "XACKDEL text g IDS 1 1",
        "XSETID text 1",
        "XGROUP CREATE text g $ MKSTREAM",
        "XGROUP DESTROY text g",
        "XREADGROUP GROUP g c STREAMS s text > >",
        "XREADGROUP GROUP g c STREAMS s s > x",
        "XCLAIM text g c 0 1",
        "XAUTOCLAIM text g c 0 1",
        "XADD new 0-0 a b",
        "XADD s 5 a b",
        "XADD s 4-* a b",
        "XCLAIM s g c 0 5 FORCE LASTID 7 FOO",
    ] {
        let reply = ask(&world, request);
        assert!(reply.starts_with('-'), "{request}: {reply}");
        assert!(world.records().is_empty(), "{request}");
    }
    assert_eq!(ask(&world, "XADD text * a b"), WRONG_TYPE);
    assert_eq!(ask(&world, "EXISTS new"), ":0");
    assert_eq!(ask(&world, "XLEN s"), ":1");
    assert_eq!(ask(&world, "XPENDING s g"), "*4 :0 $-1 $-1 *-1");
}

#[test]
fn the_last_id_of_all_ends_a_stream() {
    let world = World::new();
    let most = u64::MAX;
    script(
        &world,
        &[
            (
                &format!("XADD s {most}-{} a b", most - 1),
                &format!("$41 {most}-{}", most - 1),
            ),
            ("XADD s * a b", &format!("$41 {most}-{most}")),
            (
                "XADD s * a b",
                "-ERR The stream has exhausted the last possible ID, unable to add more items",
            ),
            (&format!("XREAD STREAMS s {most}-{most}"), "*-1"),
            ("XLEN s", ":2"),
        ],
    );
    let full = format!("XADD t 7-{most} a b");
    run(&world, &full);
    assert_eq!(
        ask(&world, "XADD t 7-* a b"),
        "-ERR The ID specified in XADD is equal or smaller than the target stream top item"
    );
    assert_eq!(ask(&world, "XADD t 8-* a b"), "$3 8-0");
}

/// XSETID may go back behind entries that were removed; what comes then is found among what is left of them.
#[test]
fn ids_may_go_back_behind_removed_entries() {
    let world = World::new();
    for request in [
        "XADD s 5 a b",
        "XADD s 9 a b",
        "XDEL s 9",
        "XSETID s 6",
        "XADD s 7 c d",
        "XADD s 9 e f",
    ] {
        let reply = ask(&world, request);
        assert!(!reply.starts_with('-'), "{request}: {reply}");
    }
    script(
        &world,
        &[
            ("XRANGE s 7 7", "*1 *2 $3 7-0 *2 $1 c $1 d"),
            ("XRANGE s 9 9", "*1 *2 $3 9-0 *2 $1 e $1 f"),
            ("XREVRANGE s 8 6", "*1 *2 $3 7-0 *2 $1 c $1 d"),
            ("XDEL s 7 9 5", ":3"),
            ("XADD t 8 a b", "$3 8-0"),
            ("XADD t 9 a b", "$3 9-0"),
            ("XDEL t 9", ":1"),
            // A block stays that has no entries.
            ("XTRIM t MINID 9", ":1"),
            ("XSETID t 3", "+OK"),
            ("XADD t 4 a b", "$3 4-0"),
            ("XRANGE t - +", "*1 *2 $3 4-0 *2 $1 a $1 b"),
            ("XREVRANGE t + -", "*1 *2 $3 4-0 *2 $1 a $1 b"),
        ],
    );
}

#[test]
fn times_of_consumers_are_told() {
    let world = World::new();
    script(
        &world,
        &[
            ("XADD s 1 a b", "$3 1-0"),
            ("XGROUP CREATE s g 0", "+OK"),
            ("XGROUP CREATECONSUMER s g c", ":1"),
        ],
    );
    world.advance_ms(10);
    assert_eq!(
        ask(&world, "XINFO CONSUMERS s g"),
        "*1 *8 $4 name $1 c $7 pending :0 $4 idle :10 $8 inactive :-1"
    );
    run(&world, "XREADGROUP GROUP g c STREAMS s >");
    world.advance_ms(5);
    world.protocol.set(Protocol::Resp3);
    assert_eq!(
        ask(&world, "XINFO CONSUMERS s g"),
        "*1 %4 $4 name $1 c $7 pending :1 $4 idle :5 $8 inactive :5"
    );
    assert_eq!(ask(&world, "XPENDING s g - + 1"), "*1 *4 $3 1-0 $1 c :5 :1");
    assert_eq!(ask(&world, "XPENDING s g IDLE 6 - + 1"), "*0");
    assert_eq!(ask(&world, "XCLAIM s g d 6 1"), "*0");
    assert_eq!(ask(&world, "XCLAIM s g d 5 1 JUSTID"), "*1 $3 1-0");
    assert_eq!(ask(&world, "XPENDING s g - + 1"), "*1 *4 $3 1-0 $1 d :0 :1");
}

/// A key that expired in between is a new stream.
#[test]
fn an_expired_stream_is_gone() {
    let world = World::new();
    run(&world, "XADD s 5 a b");
    run(&world, "PEXPIRE s 10");
    world.advance_ms(11);
    assert_eq!(ask(&world, "XLEN s"), ":0");
    assert_eq!(ask(&world, "XADD s 1 a b"), "$3 1-0");
    assert_eq!(ask(&world, "PTTL s"), ":-1");
}
