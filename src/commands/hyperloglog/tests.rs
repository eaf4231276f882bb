//! HyperLogLog commands against what redis-server 7.0.15 replies.

use crate::commands::testing::{World, run, run_parts};

/// Runs requests and compares their replies.
fn script(world: &World, steps: &[(&str, &str)]) {
    for (request, reply) in steps {
        assert_eq!(run(world, request), *reply, "{request}");
    }
}

const WRONG: &str = "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n";
const CORRUPTED: &str = "-INVALIDOBJ Corrupted HLL object detected\r\n";
const HEADER: &str = r"HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80";

/// PFADD creates, says whether a register was raised, and tells followers only then.
#[test]
fn pfadd_and_pfcount() {
    let world = World::new();
    script(
        &world,
        &[
            ("PFADD k", ":1\r\n"),
            ("PFADD k", ":0\r\n"),
            ("PFCOUNT k", ":0\r\n"),
            ("PFADD k a b c", ":1\r\n"),
            ("PFADD k a b c", ":0\r\n"),
            ("PFCOUNT k", ":3\r\n"),
            ("PFCOUNT k", ":3\r\n"),
            ("PFADD k c", ":0\r\n"),
            ("PFCOUNT none", ":0\r\n"),
            ("PFADD other c d", ":1\r\n"),
            ("PFCOUNT k other none", ":4\r\n"),
            ("OBJECT ENCODING k", "$3\r\nraw\r\n"),
        ],
    );
    assert_eq!(
        world.records(),
        [
            "PFADD k",
            "PFCOUNT k",
            "PFADD k a b c",
            "PFCOUNT k",
            "PFADD other c d"
        ]
    );
    assert_eq!(
        world.events(),
        [
            "new k",
            "pfadd k",
            "pfadd k",
            "keymiss none",
            "new other",
            "pfadd other",
            "keymiss none"
        ]
    );
    assert_eq!(world.hits.get(), (6, 2));
}

/// The estimate is kept in the value until a register is raised, in both encodings; a key keeps its expiry.
#[test]
fn estimates_are_kept() {
    for dense in [false, true] {
        let world = World::new();
        run(&world, "PFADD k a b c");
        run(&world, "EXPIRE k 100");
        if dense {
            run(&world, "PFDEBUG TODENSE k");
        }
        script(
            &world,
            &[
                ("GETRANGE k 8 15", "$8\r\n\0\0\0\0\0\0\0\u{fffd}\r\n"),
                ("PFCOUNT k", ":3\r\n"),
                ("GETRANGE k 8 15", "$8\r\n\u{3}\0\0\0\0\0\0\0\r\n"),
                // What is kept is believed.
                (
                    "SETRANGE k 8 z",
                    if dense { ":12304\r\n" } else { ":27\r\n" },
                ),
                ("PFCOUNT k", ":122\r\n"),
                ("PFADD k a", ":0\r\n"),
                ("PFCOUNT k", ":122\r\n"),
                ("PFADD k d", ":1\r\n"),
                ("PFCOUNT k", ":4\r\n"),
                ("TTL k", ":100\r\n"),
            ],
        );
    }
}

/// PFMERGE: into a missing key, into one of its sources, and into the encoding of the widest source.
#[test]
fn pfmerge() {
    let world = World::new();
    run(&world, "PFADD a 1 2 3");
    run(&world, "PFADD b 3 4 5");
    script(
        &world,
        &[
            ("PFMERGE none", "+OK\r\n"),
            ("PFCOUNT none", ":0\r\n"),
            ("PFMERGE d a b", "+OK\r\n"),
            ("PFCOUNT d", ":5\r\n"),
            ("PFDEBUG ENCODING d", "+sparse\r\n"),
            ("PFMERGE a a b", "+OK\r\n"),
            ("PFCOUNT a", ":5\r\n"),
            ("PFDEBUG TODENSE b", ":1\r\n"),
            ("PFDEBUG TODENSE b", ":0\r\n"),
            ("PFMERGE a b", "+OK\r\n"),
            ("PFDEBUG ENCODING a", "+dense\r\n"),
            ("PFCOUNT a b d", ":5\r\n"),
            ("SET s x", "+OK\r\n"),
            ("PFMERGE s a", WRONG),
            ("PFMERGE d s", WRONG),
            ("PFMERGE fresh a s", WRONG),
            ("EXISTS fresh", ":0\r\n"),
        ],
    );
    assert!(world.records().contains(&"PFMERGE a a b".to_owned()));
    assert!(world.events().contains(&"pfadd d".to_owned()));
}

/// hll-sparse-max-bytes says when a value becomes dense.
#[test]
fn the_limit_of_sparse_values() {
    let mut world = World::new();
    world.rules.hll_sparse_max_bytes = 21;
    script(
        &world,
        &[
            ("PFADD k a", ":1\r\n"),
            ("STRLEN k", ":21\r\n"),
            ("PFADD k b", ":1\r\n"),
            ("STRLEN k", ":12304\r\n"),
        ],
    );
    world.rules.hll_sparse_max_bytes = 0;
    run(&world, "PFADD dense a");
    assert_eq!(run(&world, "STRLEN dense"), ":12304\r\n");
}

/// Strings that are no HyperLogLog, and such that say they are: refused, unchanged.
#[test]
fn bad_values() {
    let world = World::new();
    for value in [
        "12",
        "x",
        "HYLL",
        r"HYLL\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff",
    ] {
        run(&world, &format!("SET k \"{value}\""));
        for request in [
            "PFADD k",
            "PFADD k a",
            "PFCOUNT k",
            "PFCOUNT none k",
            "PFMERGE d k",
            "PFMERGE k",
            "PFDEBUG DECODE k",
        ] {
            assert_eq!(run(&world, request), WRONG, "{request} of {value}");
        }
    }
    // Cut off, too few registers, too many, and far too long.
    let long = "\\x00".repeat(40_000);
    for runs in [
        r"\x7f",
        r"\x7f\xfe",
        r"\x7f\xff\x7f\xff",
        r"\x7f\xff\x84",
        "",
        &long,
    ] {
        run(&world, &format!("SET k \"{HEADER}{runs}\""));
        let before = run(&world, "GET k");
        for request in [
            "PFCOUNT k",
            "PFCOUNT none k",
            "PFMERGE d k",
            "PFMERGE k",
            "PFDEBUG TODENSE k",
            "PFDEBUG GETREG k",
        ] {
            assert_eq!(run(&world, request), CORRUPTED, "{request} of {runs:.20}");
        }
        assert_eq!(run(&world, "PFADD k"), ":0\r\n");
        assert_eq!(run(&world, "GET k"), before);
    }
    assert_eq!(run(&world, "PFADD k a"), CORRUPTED);
    assert_eq!(run(&world, "PFDEBUG DECODE k"), CORRUPTED);
    assert_eq!(run(&world, "EXISTS d"), ":0\r\n");
    assert!(
        world
            .records()
            .iter()
            .all(|record| record.starts_with("SET "))
    );
}

/// A refusal in the middle of the elements changes nothing, where Redis keeps those before it.
#[test]
fn an_addition_is_whole_or_none() {
    let world = World::new();
    run(&world, &format!("SET k \"{HEADER}\\x7f\\x00\""));
    let before = run(&world, "GET k");
    let all: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(
        run(&world, &format!("PFADD k {}", all.join(" "))),
        CORRUPTED
    );
    assert_eq!(run(&world, "GET k"), before);
}

/// A value that came by SET is reported as raw once it was looked at, as in Redis.
#[test]
fn encodings_of_strings() {
    for request in [
        "PFADD k",
        "PFADD k x",
        "PFCOUNT k",
        "PFDEBUG ENCODING k",
        "PFMERGE k",
    ] {
        let world = World::new();
        run_parts(
            &world,
            &[b"SET", &b"k"[..], b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"],
        );
        assert_eq!(run(&world, "OBJECT ENCODING k"), "$6\r\nembstr\r\n");
        run(&world, request);
        assert_eq!(
            run(&world, "OBJECT ENCODING k"),
            "$3\r\nraw\r\n",
            "{request}"
        );
    }
    assert_eq!(run(&World::new(), "PFCOUNT k"), ":0\r\n");
}

/// PFDEBUG, and its refusals in Redis's order.
#[test]
fn pfdebug() {
    let world = World::new();
    script(
        &world,
        &[
            (
                "PFDEBUG NONE k",
                "-ERR The specified key does not exist\r\n",
            ),
            ("PFADD k a", ":1\r\n"),
            (
                "PFDEBUG NONE k",
                "-ERR Unknown PFDEBUG subcommand 'NONE'\r\n",
            ),
            ("PFDEBUG encoding k", "+sparse\r\n"),
            ("PFDEBUG decode k", "$20\r\nZ:12711 v:2,1 Z:3672\r\n"),
            ("PFDEBUG todense k", ":1\r\n"),
            ("PFDEBUG decode k", "-ERR HLL encoding is not sparse\r\n"),
            ("PFDEBUG ENCODING k", "+dense\r\n"),
            ("PFCOUNT k", ":1\r\n"),
        ],
    );
    let registers = run(&world, "PFDEBUG GETREG k");
    assert!(registers.starts_with("*16384\r\n:0\r\n"));
    let set: Vec<usize> = registers
        .lines()
        .enumerate()
        .filter(|(_, line)| *line == ":2")
        .map(|(at, _)| at - 1)
        .collect();
    assert_eq!(set, [12711]);
}
