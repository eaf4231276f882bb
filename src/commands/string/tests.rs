//! String commands against what redis-server 7.0.15 replies; the traps by name.

use super::*;
use crate::commands::testing::{World, run, run_parts};
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::Protocol;

/// Runs requests and compares their replies.
fn script(world: &World, steps: &[(&str, &str)]) {
    for (request, reply) in steps {
        assert_eq!(run(world, request), *reply, "{request}");
    }
}

const SYNTAX: &str = "-ERR syntax error\r\n";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";

/// SET with each option, and which of them may stand together.
#[test]
fn set_options() {
    let world = World::new();
    script(
        &world,
        &[
            ("SET k v", "+OK\r\n"),
            ("SET k w NX", "$-1\r\n"),
            ("SET k w XX", "+OK\r\n"),
            ("SET none w XX", "$-1\r\n"),
            ("SET k x GET", "$1\r\nw\r\n"),
            ("SET none x GET XX", "$-1\r\n"),
            ("SET k y NX GET", "$1\r\nx\r\n"),
            ("GET k", "$1\r\nx\r\n"),
            ("SET k v NX XX", SYNTAX),
            ("SET k v EX 10 PX 10", SYNTAX),
            ("SET k v EX 10 KEEPTTL", SYNTAX),
            ("SET k v EX", SYNTAX),
            ("SET k v PERSIST", SYNTAX),
            ("SET k v EX a PX b", SYNTAX),
            ("SET k v EX a", NOT_INTEGER),
            (
                "SET k v EX 0",
                "-ERR invalid expire time in 'set' command\r\n",
            ),
            (
                "SET k v EX 9223372036854775807",
                "-ERR invalid expire time in 'set' command\r\n",
            ),
            (
                "SET k v PX 9223372036854775807",
                "-ERR invalid expire time in 'set' command\r\n",
            ),
            ("GET k", "$1\r\nx\r\n"),
            ("SET k v EX 10 EX 20", "+OK\r\n"),
        ],
    );
    world.advance_ms(20_000);
    assert_eq!(run(&world, "SET k w KEEPTTL"), "+OK\r\n");
    world.advance_ms(1);
    assert_eq!(run(&world, "GET k"), "$-1\r\n");
}

/// What followers are told is canonical, and only what happened.
#[test]
fn set_is_propagated_with_instants_and_without_conditions() {
    let world = World::new();
    let now = world.now().0;
    let steps = [
        ("SET k v", "SET k v".to_owned()),
        ("SET k v XX", "SET k v".to_owned()),
        (
            "SET k v EX 10 GET",
            format!("SET k v PXAT {}", now + 10_000),
        ),
        ("SET k v PX 10", format!("SET k v PXAT {}", now + 10)),
        (
            "SET k v EXAT 99999999999",
            "SET k v PXAT 99999999999000".to_owned(),
        ),
        ("SET k v KEEPTTL", "SET k v KEEPTTL".to_owned()),
        ("SETEX k 10 v", format!("SET k v PXAT {}", now + 10_000)),
        ("PSETEX k 10 v", format!("SET k v PXAT {}", now + 10)),
        ("GETEX k EX 5", format!("PEXPIREAT k {}", now + 5000)),
        ("GETEX k PERSIST", "PERSIST k".to_owned()),
        ("GETSET k w", "SET k w".to_owned()),
        ("GETDEL k", "DEL k".to_owned()),
        ("INCRBYFLOAT f 0.5", "SET f 0.5 KEEPTTL".to_owned()),
        ("INCR n", "INCR n".to_owned()),
        ("MSET a 1 b 2", "MSET a 1 b 2".to_owned()),
        ("DELEX a IFEQ 1", "DEL a".to_owned()),
        ("DELIFEQ b 2", "DEL b".to_owned()),
    ];
    for (request, record) in steps {
        run(&world, request);
        assert_eq!(world.records(), [record], "{request}");
    }
    for request in [
        "SET k v XX",
        "GETEX k PERSIST",
        "GETDEL k",
        "GETEX n",
        "GETEX n PERSIST",
        "SETNX n 1",
        "MSETNX n 1 o 2",
    ] {
        run(&world, request);
        assert_eq!(world.records(), [""; 0], "{request}");
    }
}

/// An instant that has passed removes the key, and says so to followers.
#[test]
fn set_in_the_past_deletes() {
    let world = World::new();
    run(&world, "SET k v");
    world.records();
    world.events();
    assert_eq!(run(&world, "SET k w PXAT 1"), "+OK\r\n");
    assert_eq!(world.records(), ["DEL k"]);
    assert_eq!(world.events(), ["del k"]);
    assert_eq!(run(&world, "GET k"), "$-1\r\n");
    assert_eq!(run(&world, "SET k w EXAT 1"), "+OK\r\n");
    assert_eq!(world.records(), [""; 0]);
    run(&world, "SET k v");
    assert_eq!(run(&world, "SET k w PXAT 1 GET"), "$1\r\nv\r\n");
    run(&world, "SET k v");
    assert_eq!(run(&world, "GETEX k PXAT 1"), "$1\r\nv\r\n");
    assert_eq!(run(&world, "GET k"), "$-1\r\n");
}

/// IFEQ, IFNE, IFDEQ and IFDNE of Redis 8.4 on SET.
#[test]
fn set_compares() {
    let world = World::new();
    script(
        &world,
        &[
            ("SET k hello", "+OK\r\n"),
            ("DIGEST k", "$16\r\n9555e8555c62dcfd\r\n"),
            ("SET k a IFEQ other", "$-1\r\n"),
            ("SET k a IFEQ hello", "+OK\r\n"),
            ("SET k hello IFNE a", "$-1\r\n"),
            ("SET k hello ifne b", "+OK\r\n"),
            ("SET k a IFDNE 9555e8555c62dcfd", "$-1\r\n"),
            ("SET k b IFDEQ 9555E8555C62DCFD GET", "$5\r\nhello\r\n"),
            ("SET k c IFEQ x GET", "$1\r\nb\r\n"),
            ("GET k", "$1\r\nb\r\n"),
            (
                "SET k c IFDEQ 12",
                "-ERR The digest must be exactly 16 hexadecimal characters\r\n",
            ),
            ("SET k c IFEQ b NX", SYNTAX),
            ("SET k c IFEQ b IFNE c", SYNTAX),
            ("SET k c IFEQ", SYNTAX),
            // A missing key equals nothing, and nothing is compared.
            ("SET none v IFEQ v", "$-1\r\n"),
            ("SET none v IFDEQ 12", "$-1\r\n"),
            ("SET none v IFDNE 12", "+OK\r\n"),
            ("SET nine v IFNE v", "+OK\r\n"),
            ("DIGEST nowhere", "$-1\r\n"),
        ],
    );
}

/// DELEX of Redis and DELIFEQ of Valkey.
#[test]
fn delex_and_delifeq() {
    let world = World::new();
    script(
        &world,
        &[
            ("MSET k hello l hello m hello", "+OK\r\n"),
            ("DELEX k IFEQ other", ":0\r\n"),
            ("DELEX k IFNE hello", ":0\r\n"),
            (
                "DELEX k IFDEQ 0",
                "-ERR The digest must be exactly 16 hexadecimal characters\r\n",
            ),
            (
                "DELEX k FOO hello",
                "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE\r\n",
            ),
            ("DELEX none FOO hello", ":0\r\n"),
            (
                "DELEX k IFEQ",
                "-ERR wrong number of arguments for 'delex' command\r\n",
            ),
            (
                "DELEX k IFEQ hello x",
                "-ERR wrong number of arguments for 'delex' command\r\n",
            ),
            ("DELEX k IFDEQ 9555e8555c62dcfd", ":1\r\n"),
            ("DELEX k", ":0\r\n"),
            ("DELEX l", ":1\r\n"),
            ("DELIFEQ m other", ":0\r\n"),
            ("DELIFEQ m hello", ":1\r\n"),
            ("MGET k l m", "*3\r\n$-1\r\n$-1\r\n$-1\r\n"),
        ],
    );
}

/// MSETEX: all or nothing, one expiry, and counts that lie.
#[test]
fn msetex_sets_all_or_none() {
    let world = World::new();
    script(
        &world,
        &[
            ("MSETEX 2 a 1 b 2 EX 10", ":1\r\n"),
            ("MSETEX 2 b 3 c 3 NX", ":0\r\n"),
            ("MSETEX 2 b 3 c 3 XX KEEPTTL", ":0\r\n"),
            ("MSETEX 2 a 5 b 6 XX KEEPTTL", ":1\r\n"),
            ("MGET a b c", "*3\r\n$1\r\n5\r\n$1\r\n6\r\n$-1\r\n"),
            ("MSETEX 0 a 1", "-ERR invalid numkeys value\r\n"),
            ("MSETEX x a 1", "-ERR invalid numkeys value\r\n"),
            ("MSETEX 2147483648 a 1", "-ERR invalid numkeys value\r\n"),
            (
                "MSETEX 2147483647 a 1",
                "-ERR wrong number of key-value pairs\r\n",
            ),
            ("MSETEX 2 a 1 b", "-ERR wrong number of key-value pairs\r\n"),
            ("MSETEX 1 a 1 b", SYNTAX),
            ("MSETEX 1 a 1 NX XX", SYNTAX),
            ("MSETEX 1 a 1 EX 1 PX 1", SYNTAX),
            ("MSETEX 1 a 1 IFEQ 1", SYNTAX),
            (
                "MSETEX 1 a 1 EX 0",
                "-ERR invalid expire time in 'msetex' command\r\n",
            ),
        ],
    );
    let at = world.now().0 + 10_000;
    assert_eq!(
        world.records()[..2],
        [format!("SET a 1 PXAT {at}"), format!("SET b 2 PXAT {at}")]
    );
    world.advance_ms(10_001);
    assert_eq!(run(&world, "MGET a b"), "*2\r\n$-1\r\n$-1\r\n");
}

/// One key twice in a request: the last value counts, and a condition is looked at once.
#[test]
fn the_same_key_twice() {
    let world = World::new();
    script(
        &world,
        &[
            ("MSET k a k b", "+OK\r\n"),
            ("MSETNX l a l b", ":1\r\n"),
            ("MSETNX m a l c", ":0\r\n"),
            ("MSETEX 2 n a n b NX", ":1\r\n"),
            (
                "MGET k k l m n",
                "*5\r\n$1\r\nb\r\n$1\r\nb\r\n$1\r\nb\r\n$-1\r\n$1\r\nb\r\n",
            ),
            ("LCS k k LEN", ":1\r\n"),
        ],
    );
}

/// Counters: canonical integers only, and no sum beyond 64 bits.
#[test]
fn counters() {
    let world = World::new();
    script(
        &world,
        &[
            ("INCR n", ":1\r\n"),
            ("DECRBY n 11", ":-10\r\n"),
            ("INCRBY n 9223372036854775807", ":9223372036854775797\r\n"),
            (
                "INCRBY n 11",
                "-ERR increment or decrement would overflow\r\n",
            ),
            (
                "DECRBY n -9223372036854775808",
                "-ERR decrement would overflow\r\n",
            ),
            ("SET n ' 1'", "+OK\r\n"),
            ("INCR n", NOT_INTEGER),
            ("SET n 010", "+OK\r\n"),
            ("DECR n", NOT_INTEGER),
            ("INCRBYFLOAT f 10.5", "$4\r\n10.5\r\n"),
            ("INCRBYFLOAT f -10.5", "$1\r\n0\r\n"),
            (
                "INCRBYFLOAT f inf",
                "-ERR increment would produce NaN or Infinity\r\n",
            ),
            ("INCRBYFLOAT f nan", "-ERR value is not a valid float\r\n"),
            ("SET n 5 EX 10", "+OK\r\n"),
            ("INCR n", ":6\r\n"),
        ],
    );
    world.advance_ms(10_001);
    assert_eq!(run(&world, "GET n"), "$-1\r\n");
}

/// Ranges are cut from strings and written into them; nothing beyond the longest string is begun.
#[test]
fn ranges() {
    let world = World::new();
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    script(
        &world,
        &[
            ("SETRANGE k 5 ''", ":0\r\n"),
            ("GET k", "$-1\r\n"),
            ("SETRANGE k 2 ab", ":4\r\n"),
            ("GET k", "$4\r\n\0\0ab\r\n"),
            ("SETRANGE k 0 xy", ":4\r\n"),
            ("SETRANGE k -1 a", "-ERR offset is out of range\r\n"),
            ("SETRANGE k 9223372036854775807 A", too_long),
            ("SETRANGE none 536870912 A", too_long),
            ("APPEND k cd", ":6\r\n"),
            ("APPEND l ''", ":0\r\n"),
            ("GET l", "$0\r\n\r\n"),
            ("GETRANGE k 2 -1", "$4\r\nabcd\r\n"),
            ("GETRANGE k -100 -200", "$0\r\n\r\n"),
            ("SUBSTR k 0 -9223372036854775808", "$1\r\nx\r\n"),
            ("STRLEN k", ":6\r\n"),
        ],
    );
}

/// Events by name, in the order of Redis.
#[test]
fn events() {
    let world = World::new();
    run(&world, "SET k v EX 10");
    assert_eq!(world.events(), ["new k", "set k", "expire k"]);
    for (request, events) in [
        ("APPEND k v", "append k"),
        ("SETRANGE k 0 v", "setrange k"),
        ("GETEX k EX 10", "expire k"),
        ("GETEX k PERSIST", "persist k"),
        ("SET k 1", "set k"),
        ("DECR k", "incrby k"),
        ("INCRBYFLOAT k 1", "incrbyfloat k"),
        ("GETDEL k", "del k"),
        ("GET k", "keymiss k"),
    ] {
        run(&world, request);
        assert_eq!(world.events(), [events], "{request}");
    }
}

/// A value that came in a buffer of its own is stored, returned and cut without being copied.
#[test]
fn large_values_are_shared() {
    let world = World::new();
    let value = Bytes::from(vec![b'x'; 2 << 20]);
    let mut request = OwnedArguments::from(&[b"SET", &b"big"[..]]);
    request.push_shared(value.clone());
    assert_eq!(world.run(&request.as_arguments()), b"+OK\r\n");
    assert!(!value.is_unique(), "the keyspace holds the buffer itself");
    let reply = world.run(&OwnedArguments::from(&["GET", "big"]).as_arguments());
    assert_eq!(reply.len(), "$2097152\r\n\r\n".len() + value.len());
    assert_eq!(run(&world, "GETRANGE big 1 3"), "$3\r\nxxx\r\n");
    // Read after release.
    let expected = String::from_utf8_lossy(&string::digest(&value)).into_owned();
    assert_eq!(run(&world, "DIGEST big"), format!("$16\r\n{expected}\r\n"));
    assert_eq!(run(&world, "LCS big none LEN"), ":0\r\n");
    // Written to while it is held elsewhere.
    assert_eq!(run(&world, "SETRANGE big 0 y"), ":2097152\r\n");
    assert_eq!(value[0], b'x');
}

/// LCS in all forms; the indexes as the manual of Redis shows them.
#[test]
fn lcs_forms() {
    let world = World::new();
    script(
        &world,
        &[
            ("MSET k ohmytext l mynewtext", "+OK\r\n"),
            ("LCS k l", "$6\r\nmytext\r\n"),
            ("LCS k l LEN", ":6\r\n"),
            ("LCS k none", "$0\r\n\r\n"),
            (
                "LCS k l IDX MINMATCHLEN 4 WITHMATCHLEN",
                "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n",
            ),
            (
                "LCS k l LEN IDX",
                "-ERR If you want both the length and indexes, please just use IDX.\r\n",
            ),
            ("LCS k l MINMATCHLEN", SYNTAX),
            ("LCS k l MINMATCHLEN x", NOT_INTEGER),
        ],
    );
    world.protocol.set(Protocol::Resp3);
    assert_eq!(
        run(&world, "LCS k none IDX"),
        "%2\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n"
    );
}

/// The table of LCS is bounded, and a large one is worked on after release.
#[test]
fn lcs_limits() {
    let world = World::new();
    let long = vec![b'a'; 1500];
    assert_eq!(run_parts(&world, &[b"SET", &b"k"[..], &long]), b"+OK\r\n");
    assert_eq!(run(&world, "LCS k k LEN"), ":1500\r\n");
    let longer = vec![b'a'; 20_000];
    assert_eq!(run_parts(&world, &[b"SET", &b"l"[..], &longer]), b"+OK\r\n");
    let refusal =
        "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n";
    assert_eq!(run(&world, "LCS l l"), refusal);
}

/// How keys are used follows from the options.
#[test]
fn key_functions() {
    let keys_of = |function: crate::table::KeyFunction, request: &str| {
        let words: Vec<&str> = request.split(' ').collect();
        let mut keys = Vec::new();
        function(&OwnedArguments::from(&words[..]).as_arguments(), &mut keys).then_some(keys)
    };
    assert_eq!(
        keys_of(set_keys, "SET k v EX 1"),
        Some(vec![(1, KeyAccess::OW_UPDATE)])
    );
    assert_eq!(
        keys_of(set_keys, "SET k v get"),
        Some(vec![(1, KeyAccess::RW_ACCESS_UPDATE)])
    );
    assert_eq!(
        keys_of(delex_keys, "DELEX k"),
        Some(vec![(1, KeyAccess::RM_DELETE)])
    );
    let positions = |request| {
        keys_of(msetex_keys, request).map(|keys| keys.iter().map(|key| key.0).collect::<Vec<_>>())
    };
    assert_eq!(positions("MSETEX 2 a 1 b 2 EX 1"), Some(vec![2, 4]));
    assert_eq!(positions("MSETEX 3 a 1 b 2 EX"), None);
    assert_eq!(positions("MSETEX 18446744073709551615 a 1"), None);
    assert_eq!(positions("MSETEX 2147483647 a 1"), None);
}

/// Found by replaying the journal: the key that had expired was told to be gone after the SET that replaced it, and a
/// follower lost the new value.
#[test]
fn a_key_found_expired_is_gone_before_it_is_set() {
    let world = World::new();
    for request in ["SET k w PX 100", "SET k w PX 100 NX", "MSETEX 1 k w PX 100"] {
        run(&world, "SET k v PX 10");
        world.advance_ms(11);
        world.records();
        run(&world, request);
        let set = format!("SET k w PXAT {}", world.now().0 + 100);
        assert_eq!(world.records(), ["DEL k".to_owned(), set], "{request}");
    }
}

/// Found by review: with proto-max-bulk-len beyond the memory there is, one request ended the process.
#[test]
fn a_string_beyond_the_memory_there_is_is_refused() {
    let mut world = World::new();
    world.rules.max_string_bytes = 1 << 60;
    let refusal = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    run(&world, "SET k v");
    for request in [
        "SETRANGE k 1125899906842624 x",
        "SETRANGE none 1125899906842624 x",
        "SETBIT k 9007199254740992 1",
        "BITFIELD k SET u8 9007199254740992 1",
    ] {
        assert_eq!(run(&world, request), refusal, "{request}");
    }
    assert_eq!(run(&world, "GET k"), "$1\r\nv\r\n");
    assert_eq!(run(&world, "EXISTS none"), ":0\r\n");
}
