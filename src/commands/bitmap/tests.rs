//! Bitmap commands against what redis-server 7.0.15 replies.

use super::*;
use crate::commands::testing::{World, run, run_parts};
use crate::resp::decode::OwnedArguments;

/// Runs requests and compares their replies.
fn script(world: &World, steps: &[(&str, &str)]) {
    for (request, reply) in steps {
        assert_eq!(run(world, request), *reply, "{request}");
    }
}

const SYNTAX: &str = "-ERR syntax error\r\n";
const BAD_OFFSET: &str = "-ERR bit offset is not an integer or out of range\r\n";

/// Single bits, and offsets that no string can have.
#[test]
fn bits() {
    let world = World::new();
    script(
        &world,
        &[
            ("SETBIT k 9 1", ":0\r\n"),
            ("SETBIT k 9 1", ":1\r\n"),
            ("STRLEN k", ":2\r\n"),
            ("GETBIT k 9", ":1\r\n"),
            ("GETBIT k 4294967295", ":0\r\n"),
            ("GETBIT none 0", ":0\r\n"),
            ("SETBIT k 4294967296 1", BAD_OFFSET),
            ("SETBIT k 9223372036854775807 1", BAD_OFFSET),
            ("SETBIT k -1 1", BAD_OFFSET),
            ("SETBIT k #1 1", BAD_OFFSET),
            ("GETBIT k -9223372036854775808", BAD_OFFSET),
            (
                "SETBIT k 0 2",
                "-ERR bit is not an integer or out of range\r\n",
            ),
            ("SETBIT k x 2", BAD_OFFSET),
        ],
    );
    assert_eq!(world.records(), ["SETBIT k 9 1"]);
    assert_eq!(world.events(), ["new k", "setbit k", "keymiss none"]);
}

/// BITCOUNT in bytes and bits, with extreme indexes; arguments are looked at even when there is no key, as since Redis 7.2.
#[test]
fn counts() {
    let world = World::new();
    script(
        &world,
        &[
            ("SET k foobar", "+OK\r\n"),
            ("BITCOUNT k", ":26\r\n"),
            ("BITCOUNT k 0 0", ":4\r\n"),
            ("BITCOUNT k 1 1 BYTE", ":6\r\n"),
            ("BITCOUNT k 5 30 BIT", ":17\r\n"),
            (
                "BITCOUNT k -9223372036854775808 9223372036854775807 bit",
                ":26\r\n",
            ),
            (
                "BITCOUNT k 9223372036854775807 -9223372036854775808 bit",
                ":0\r\n",
            ),
            ("BITCOUNT k -1 -2", ":0\r\n"),
            ("BITCOUNT k 0", SYNTAX),
            ("BITCOUNT k 0 1 x", SYNTAX),
            ("BITCOUNT k 0 1 bit x", SYNTAX),
            ("BITCOUNT none 0", SYNTAX),
            ("BITCOUNT none", ":0\r\n"),
        ],
    );
}

/// BITPOS: zeros follow a string unless an end is given.
#[test]
fn positions() {
    let world = World::new();
    run_parts(&world, &[b"SET", &b"k"[..], b"\xff\xf0\x00"]);
    run_parts(&world, &[b"SET", &b"ones"[..], b"\xff\xff"]);
    script(
        &world,
        &[
            ("BITPOS k 0", ":12\r\n"),
            ("BITPOS k 1 2", ":-1\r\n"),
            ("BITPOS k 1 1", ":8\r\n"),
            ("BITPOS k 0 13 15 BIT", ":13\r\n"),
            ("BITPOS k 1 7 15 BIT", ":7\r\n"),
            ("BITPOS k 0 0 7 BIT", ":-1\r\n"),
            ("BITPOS ones 0", ":16\r\n"),
            ("BITPOS ones 0 1", ":16\r\n"),
            ("BITPOS ones 0 0 -1", ":-1\r\n"),
            ("BITPOS ones 0 5", ":-1\r\n"),
            ("BITPOS none 0", ":0\r\n"),
            ("BITPOS none 1", ":-1\r\n"),
            (
                "BITPOS k 1 -9223372036854775808 9223372036854775807 BIT",
                ":0\r\n",
            ),
            ("BITPOS k 2", "-ERR The bit argument must be 1 or 0.\r\n"),
            ("BITPOS k 0 0 x y", SYNTAX),
            (
                "BITPOS k 0 x y z",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("BITPOS k 0 0 1 bit x", SYNTAX),
        ],
    );
}

/// BITOP with all names, sources of different lengths, and nothing to store.
#[test]
fn combinations() {
    let world = World::new();
    run(&world, "MSET a ab b `");
    script(
        &world,
        &[
            ("BITOP AND d a b", ":2\r\n"),
            ("GET d", "$2\r\n`\0\r\n"),
            ("BITOP or d a none", ":2\r\n"),
            ("GET d", "$2\r\nab\r\n"),
            ("BITOP DIFF d a b", ":2\r\n"),
            ("GET d", "$2\r\n\u{1}b\r\n"),
            ("BITOP DIFF1 d b a", ":2\r\n"),
            ("GET d", "$2\r\n\u{1}b\r\n"),
            ("BITOP ANDOR d a b", ":2\r\n"),
            ("GET d", "$2\r\n`\0\r\n"),
            ("BITOP ONE d a b", ":2\r\n"),
            ("GET d", "$2\r\n\u{1}b\r\n"),
            ("BITOP XOR a a a", ":2\r\n"),
            ("GET a", "$2\r\n\0\0\r\n"),
            (
                "BITOP NOT d a b",
                "-ERR BITOP NOT must be called with a single source key.\r\n",
            ),
            (
                "BITOP diff1 d a",
                "-ERR BITOP DIFF1 must be called with at least two source keys.\r\n",
            ),
            ("BITOP NAND d a", SYNTAX),
        ],
    );
    world.events();
    assert_eq!(run(&world, "BITOP AND d none"), ":0\r\n");
    assert_eq!(world.events(), ["keymiss none", "del d"]);
    assert_eq!(run(&world, "GET d"), "$-1\r\n");
}

/// BITFIELD: values, overflows, and the reply of a failure.
#[test]
fn fields() {
    let world = World::new();
    script(
        &world,
        &[
            ("BITFIELD k INCRBY i5 100 1 GET u4 0", "*2\r\n:1\r\n:0\r\n"),
            ("BITFIELD k SET u8 #1 255 GET u8 #1", "*2\r\n:0\r\n:255\r\n"),
            ("BITFIELD k INCRBY u8 8 10", "*1\r\n:9\r\n"),
            (
                "BITFIELD k OVERFLOW SAT INCRBY u8 8 300 OVERFLOW FAIL INCRBY u8 8 1 GET u8 8",
                "*3\r\n:255\r\n$-1\r\n:255\r\n",
            ),
            ("BITFIELD k OVERFLOW SAT SET i8 8 -300", "*1\r\n:-1\r\n"),
            ("BITFIELD_RO k GET i8 8", "*1\r\n:-128\r\n"),
            ("BITFIELD k", "*0\r\n"),
            (
                "BITFIELD_RO k SET u8 0 1",
                "-ERR BITFIELD_RO only supports the GET subcommand\r\n",
            ),
            (
                "BITFIELD k OVERFLOW NONE",
                "-ERR Invalid OVERFLOW type specified\r\n",
            ),
            ("BITFIELD k GET u8", SYNTAX),
            ("BITFIELD k GET i64 9223372036854775800", BAD_OFFSET),
            ("BITFIELD k GET i64 #9223372036854775807", BAD_OFFSET),
            ("BITFIELD k GET i64 #-9223372036854775808", BAD_OFFSET),
            ("BITFIELD k SET u8 4294967296 1", BAD_OFFSET),
            (
                "BITFIELD k SET u8 0 x",
                "-ERR value is not an integer or out of range\r\n",
            ),
            (
                "BITFIELD k GET u64 0",
                "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.\r\n",
            ),
        ],
    );
}

/// A large value is counted and searched after release.
#[test]
fn large_values() {
    let world = World::new();
    assert_eq!(
        run_parts(&world, &[b"SET", &b"k"[..], &vec![0xff; 2 << 20]]),
        b"+OK\r\n"
    );
    assert_eq!(run(&world, "BITCOUNT k"), ":16777216\r\n");
    assert_eq!(run(&world, "BITPOS k 0"), ":16777216\r\n");
    assert_eq!(run(&world, "BITPOS k 0 0 -1"), ":-1\r\n");
}

/// BITFIELD only reads when all of it is GET.
#[test]
fn key_access() {
    let access = |request: &str| {
        let words: Vec<&str> = request.split(' ').collect();
        let mut keys = Vec::new();
        assert!(bitfield_keys(
            &OwnedArguments::from(&words[..]).as_arguments(),
            &mut keys
        ));
        keys[0].1
    };
    assert_eq!(access("BITFIELD k GET u8 0 GET u8 1"), KeyAccess::RO_ACCESS);
    assert_eq!(
        access("BITFIELD k OVERFLOW SAT GET u8 0"),
        KeyAccess::RO_ACCESS
    );
    // Found by the differential test: a GET without its arguments counted as a read.
    assert_eq!(
        access("BITFIELD k GET u8 0 GET u8"),
        KeyAccess::RW_ACCESS_UPDATE
    );
    assert_eq!(
        access("BITFIELD k GET u8 0 SET u8 1 1"),
        KeyAccess::RW_ACCESS_UPDATE
    );
    assert_eq!(access("BITFIELD k FOO"), KeyAccess::RW_ACCESS_UPDATE);
}
