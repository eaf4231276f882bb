//! SORT against what redis-server 7.0.15 replies.

use super::*;
use crate::commands::testing::{World, run, run_parts};

/// The elements of an array, `nil` for none.
fn list(world: &World, request: &str) -> String {
    let reply = run(world, request);
    let mut lines = reply.split("\r\n");
    let mut elements = Vec::new();
    let first = lines.next().unwrap_or_default();
    if !first.starts_with('*') {
        return reply;
    }
    while let Some(line) = lines.next().filter(|line| !line.is_empty()) {
        match line {
            "$-1" => elements.push("nil"),
            _ => elements.extend(lines.next()),
        }
    }
    assert_eq!(first, format!("*{}", elements.len()));
    elements.join(" ")
}

/// Puts a list, set or sorted set at a key.
fn put(world: &World, kind: &str, key: &str, elements: &[&str]) {
    use crate::data::dump;
    use crate::data::set::Set;
    use crate::data::value::{Type, Value};
    use crate::data::zset::{AddRules, ZSet};
    let rules = &world.rules;
    let hasher = world.keyspace.hasher();
    let value = match kind {
        "list" => {
            let mut list = List::new();
            for element in elements {
                list.push(End::Tail, element.as_bytes(), rules.list);
            }
            Value::List(list)
        }
        "set" => {
            let mut set = Set::new();
            for element in elements {
                set.add(Item::Bytes(element.as_bytes()), &rules.set, hasher);
            }
            Value::Set(set)
        }
        _ => {
            let mut zset = ZSet::new();
            for (score, element) in elements.iter().enumerate() {
                let (element, score) = (element.as_bytes(), score as f64);
                zset.add(element, score, AddRules::default(), rules.zset);
            }
            Value::ZSet(zset)
        }
    };
    assert_ne!(value.kind(), Type::Hash);
    let payload = dump::write(value.view(), world.now(), hasher);
    let request: [&[u8]; 5] = [b"RESTORE", key.as_bytes(), b"0", &payload, b"REPLACE"];
    assert_eq!(run_parts(world, &request), b"+OK\r\n");
}

fn hash(world: &World, key: &str, field: &str, value: &str) {
    use crate::data::dump;
    use crate::data::hash::{Expiry, Hash};
    let hasher = world.keyspace.hasher();
    let (mut hash, limits) = (Hash::new(), &world.rules.hash);
    hash.set(
        field.as_bytes(),
        value.as_bytes(),
        Expiry::Clear,
        limits,
        hasher,
    );
    let payload = dump::write(ValueRef::Hash(hash.view()), world.now(), hasher);
    let request: [&[u8]; 5] = [b"RESTORE", key.as_bytes(), b"0", &payload, b"REPLACE"];
    assert_eq!(run_parts(world, &request), b"+OK\r\n");
}

fn world() -> World {
    let world = World::new();
    put(&world, "list", "l", &["3", "1", "2", "10"]);
    put(&world, "set", "s", &["c", "a", "b"]);
    put(&world, "zset", "z", &["c", "b", "a"]);
    for (key, value) in [("w_3", "x"), ("w_1", "z"), ("w_10", "y"), ("str", "x")] {
        run(&world, &format!("SET {key} {value}"));
    }
    for (key, value) in [("o_3", "5"), ("o_1", "7"), ("o_10", "6")] {
        hash(&world, key, "n", value);
    }
    world.records();
    world.events();
    world
}

#[test]
fn elements_in_order() {
    let world = world();
    for (request, elements) in [
        ("SORT l", "1 2 3 10"),
        ("SORT l DESC", "10 3 2 1"),
        ("SORT l ASC DESC ASC", "1 2 3 10"),
        ("SORT l ALPHA", "1 10 2 3"),
        ("SORT_RO l ALPHA DESC", "3 2 10 1"),
        ("SORT s ALPHA", "a b c"),
        ("SORT z ALPHA DESC", "c b a"),
        ("SORT nokey", ""),
        ("SORT nokey BY a*", ""),
        ("SORT l LIMIT 1 2", "2 3"),
        ("SORT l LIMIT -5 -1", "1 2 3 10"),
        ("SORT l LIMIT 2 -2", "3 10"),
        ("SORT l LIMIT 100 1", ""),
        ("SORT l LIMIT 0 0", ""),
        ("SORT l LIMIT 9223372036854775807 9223372036854775807", ""),
        ("SORT l DESC LIMIT 3 1", "1"),
        ("SORT l GET # GET #", "1 1 2 2 3 3 10 10"),
    ] {
        assert_eq!(list(&world, request), elements, "{request}");
    }
}

/// Without sorting, lists and sorted sets keep their order, either way; LIMIT counts from the end that comes first.
#[test]
fn a_pattern_of_nothing_sorts_nothing() {
    let world = world();
    put(&world, "set", "ints", &["3", "1", "2"]);
    for (request, elements) in [
        ("SORT l BY nosort", "3 1 2 10"),
        ("SORT l BY nosort DESC", "10 2 1 3"),
        ("SORT l BY nosort LIMIT 1 2", "1 2"),
        ("SORT l BY nosort DESC LIMIT 1 2", "2 1"),
        ("SORT z BY nosort", "c b a"),
        ("SORT z BY nosort DESC LIMIT 0 1", "a"),
        ("SORT z BY nosort LIMIT 1 5", "b a"),
        ("SORT ints BY nosort LIMIT 1 1", "2"),
        ("SORT l BY nosort BY w_* GET w_*", "x z nil y"),
    ] {
        assert_eq!(list(&world, request), elements, "{request}");
    }
}

#[test]
fn weights_and_values_of_other_keys() {
    let world = world();
    for (request, elements) in [
        ("SORT l BY w_* ALPHA", "2 3 10 1"),
        ("SORT l BY w_* ALPHA DESC", "1 10 3 2"),
        ("SORT l BY w_* ALPHA LIMIT 1 2", "3 10"),
        ("SORT l BY o_*->n", "2 3 10 1"),
        ("SORT l BY o_*->n DESC", "1 10 3 2"),
        ("SORT l BY o_*->other", "1 10 2 3"),
        (
            "SORT l BY o_*->n GET # GET o_*->n GET w_* GET nothing GET o_* GET w_*->n",
            "2 nil nil nil nil nil 3 5 x nil nil nil 10 6 y nil nil nil 1 7 z nil nil nil",
        ),
        // An arrow with nothing behind it belongs to the key.
        ("SORT l GET o_*->", "nil nil nil nil"),
    ] {
        assert_eq!(list(&world, request), elements, "{request}");
    }
    assert_eq!(run(&world, "SORT l BY w_*"), NOT_SCORES);
    world.hits.set((0, 0));
    list(&world, "SORT l BY w_* GET o_*->n GET w_* ALPHA");
    assert_eq!(world.hits.get(), (10, 3));
}

const NOT_SCORES: &str = "-ERR One or more scores can't be converted into double\r\n";

/// Numbers as strtod reads them.
#[test]
fn what_is_a_weight() {
    let world = World::new();
    for (elements, sorted) in [
        (&["0x10", "", "inf", " 1", "-inf"][..], "-inf   1 0x10 inf"),
        (
            &["1e300", "-0", "9223372036854775807"],
            "-0 9223372036854775807 1e300",
        ),
        (&["1 ", "2"], NOT_SCORES),
        (&["nan"], NOT_SCORES),
        (&["  "], NOT_SCORES),
        (&["a"], NOT_SCORES),
        (&["1e-400"], NOT_SCORES),
    ] {
        put(&world, "list", "l", elements);
        assert_eq!(list(&world, "SORT l"), sorted, "{elements:?}");
    }
}

#[test]
fn refusals() {
    const SYNTAX: &str = "-ERR syntax error\r\n";
    const INTEGER: &str = "-ERR value is not an integer or out of range\r\n";
    const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let world = world();
    for (request, refusal) in [
        ("SORT str", WRONG),
        ("SORT o_3", WRONG),
        ("SORT str foo", SYNTAX),
        ("SORT l foo LIMIT x y", SYNTAX),
        ("SORT l LIMIT x 2", INTEGER),
        ("SORT l LIMIT x y foo", INTEGER),
        ("SORT l LIMIT 1", SYNTAX),
        ("SORT l STORE", SYNTAX),
        ("SORT l GET", SYNTAX),
        ("SORT l BY", SYNTAX),
        ("SORT_RO l STORE d", SYNTAX),
        ("SORT s STORE d", NOT_SCORES),
    ] {
        assert_eq!(run(&world, request), refusal, "{request}");
    }
}

#[test]
fn a_result_is_stored_as_a_list() {
    let world = world();
    let stored = |request: &str| {
        let reply = run(&world, request);
        (reply, list(&world, "SORT d BY nosort"))
    };
    run(&world, "SET d x EX 100");
    assert_eq!(
        stored("SORT l STORE d"),
        (":4\r\n".into(), "1 2 3 10".into())
    );
    assert_eq!(run(&world, "TTL d"), ":-1\r\n");
    world.take_records();
    world.events();
    let two = stored("SORT l GET w_* GET # STORE d");
    assert_eq!(two, (":8\r\n".into(), "z 1  2 x 3 y 10".into()));
    assert_eq!(world.records(), ["SORT l GET w_* GET # STORE d"]);
    assert_eq!(world.events(), ["keymiss w_2", "sortstore d"]);
    // The members of a set have no order to be kept, so they are sorted.
    assert_eq!(stored("SORT s BY nosort DESC STORE d").1, "c b a");
    // Onto itself, and the last destination counts.
    assert_eq!(run(&world, "SORT l STORE x STORE l"), ":4\r\n");
    assert_eq!(list(&world, "SORT l BY nosort"), "1 2 3 10");
    assert_eq!(run(&world, "EXISTS x"), ":0\r\n");
    world.take_records();
    world.events();
    assert_eq!(
        stored("SORT nokey STORE d"),
        (":0\r\n".into(), String::new())
    );
    assert_eq!(run(&world, "SORT nokey STORE d"), ":0\r\n");
    assert_eq!(world.records(), ["SORT nokey STORE d"]);
    assert!(world.events().contains(&"del d".to_owned()));
}

/// Large collections take another way: from a snapshot, after release; the result is the same.
#[test]
fn large_collections() {
    let world = World::new();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut numbers: Vec<String> = (0..5_000).map(|_| rng.i16(..).to_string()).collect();
    let unsorted = numbers.clone();
    let texts: Vec<&str> = unsorted.iter().map(String::as_str).collect();
    put(&world, "list", "l", &texts);
    let sorted = |numbers: &[String]| numbers.join(" ");
    numbers.sort_by_key(|text| text.parse::<i64>().expect("an integer"));
    assert_eq!(list(&world, "SORT l"), sorted(&numbers));
    assert_eq!(
        list(&world, "SORT l LIMIT 100 7"),
        sorted(&numbers[100..107])
    );
    let by_key = list(&world, "SORT l BY w_* GET # LIMIT 4990 100");
    run(&world, "SORT l STORE d");
    assert_eq!(list(&world, "SORT d BY nosort"), sorted(&numbers));
    numbers.sort();
    // Without weights all are equal, and the texts decide.
    assert_eq!(by_key, sorted(&numbers[4990..]));
    assert_eq!(list(&world, "SORT l ALPHA"), sorted(&numbers));
    numbers.reverse();
    assert_eq!(
        list(&world, "SORT l ALPHA DESC LIMIT 0 3000"),
        sorted(&numbers[..3000])
    );
    numbers.dedup();
    put(&world, "set", "s", &texts);
    assert_eq!(list(&world, "SORT s ALPHA DESC"), sorted(&numbers));
    put(&world, "list", "l", &[&texts[..], &["x"]].concat());
    assert_eq!(run(&world, "SORT l"), NOT_SCORES);
}

/// Positions as Redis finds them, which does not read the options in their order.
#[test]
fn keys_of_requests() {
    let world = World::new();
    let keys = |request: &str| {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let owned = crate::resp::decode::OwnedArguments::from(&words[..]);
        let mut keys = Vec::new();
        assert!(sort_keys(&owned.as_arguments(), &mut keys));
        keys.iter()
            .map(|(position, _)| *position)
            .collect::<Vec<_>>()
    };
    for (request, positions) in [
        ("sort a", &[1][..]),
        ("sort a store b get c", &[1, 3]),
        ("sort a store get store d", &[1, 3]),
        ("sort a limit store x y", &[1]),
        ("sort a store", &[1]),
        ("sort a store b store c", &[1, 5]),
    ] {
        assert_eq!(keys(request), positions, "{request}");
    }
    // What the keys miss, the command reaches for.
    put(&world, "list", "a", &["1"]);
    assert_eq!(run(&world, "SORT a STORE get STORE d"), ":1\r\n");
    assert_eq!(run(&world, "EXISTS get d"), ":1\r\n");
}
