//! The parts of MIGRATE before and after the wait; the wait itself is tested over sockets.

use super::*;
use crate::commands::testing::{World, run};
use crate::resp::decode::OwnedArguments;

fn positions(request: &str) -> Option<Vec<usize>> {
    let words: Vec<&[u8]> = request
        .split(' ')
        .map(|word| if word == "''" { b"" } else { word.as_bytes() })
        .collect();
    let owned = OwnedArguments::from(&words[..]);
    let mut keys = Vec::new();
    migrate_keys(&owned.as_arguments(), &mut keys)
        .then(|| keys.iter().map(|(position, _)| *position).collect())
}

/// The one key; those behind KEYS, unless that is the password.
#[test]
fn keys_of_requests() {
    for (request, keys) in [
        ("migrate h 1 a 0 100", &[3][..]),
        ("migrate h 1 '' 0 100", &[3]),
        ("migrate h 1 '' 0 100 keys", &[3]),
        ("migrate h 1 '' 0 100 copy keys b c", &[8, 9]),
        ("migrate h 1 '' 0 100 auth keys keys b", &[9]),
        ("migrate h 1 '' 0 100 AUTH2 keys keys KEYS b", &[10]),
    ] {
        assert_eq!(positions(request).as_deref(), Some(keys), "{request}");
    }
    assert_eq!(positions("migrate h 1 a 0 100 KEYS b"), None);
}

#[test]
fn secrets_are_hidden() {
    let row = &ROWS[0].command;
    for (request, hidden) in [
        ("MIGRATE h 1 a 0 100 AUTH pw REPLACE", &[7][..]),
        ("MIGRATE h 1 a 0 100 auth2 user pw COPY", &[7, 8]),
        ("MIGRATE h auth a 0 100 COPY", &[]),
    ] {
        let words: Vec<&str> = request.split(' ').collect();
        let owned = OwnedArguments::from(&words[..]);
        let found = (0..words.len()).filter(|at| row.hides(&owned.as_arguments(), *at));
        assert_eq!(found.collect::<Vec<_>>(), hidden, "{request}");
    }
}

/// What is wrong with the request is told before anything is sent.
#[test]
fn refusals() {
    let world = World::new();
    run(&world, "SET a 1");
    let syntax = "-ERR syntax error\r\n";
    let integer = "-ERR value is not an integer or out of range\r\n";
    let both =
        "-ERR When using MIGRATE KEYS option, the key argument must be set to the empty string\r\n";
    for (request, refusal) in [
        ("MIGRATE h 1 a 0 100 FOO", syntax),
        ("MIGRATE h 1 a 0 100 AUTH", syntax),
        ("MIGRATE h 1 a 0 100 AUTH2 user", syntax),
        ("MIGRATE h 1 a x 100", integer),
        ("MIGRATE h 1 a 0 x", integer),
        ("MIGRATE h 1 a 0 100 KEYS b", both),
        ("MIGRATE h 1 a x 100 FOO", syntax),
        ("MIGRATE h 1 nokey 0 100", "+NOKEY\r\n"),
        ("MIGRATE h 1 \"\" 0 100", "+NOKEY\r\n"),
        ("MIGRATE h 1 \"\" 0 100 KEYS", "+NOKEY\r\n"),
        ("MIGRATE h 1 \"\" 0 100 KEYS b c", "+NOKEY\r\n"),
    ] {
        assert_eq!(run(&world, request), refusal, "{request}");
    }
    assert_eq!(run(&world, "EXISTS a"), ":1\r\n");
}

/// What arrived is removed, and told to followers as that.
#[test]
fn keys_that_arrived_are_removed() {
    let world = World::new();
    for key in ["a", "b", "c"] {
        run(&world, &format!("SET {key} 1"));
    }
    world.take_records();
    world.events();
    assert_eq!(run(&world, "MIGRATE h 1 a 0 100 COPY"), "+OK\r\n");
    assert_eq!(world.records(), [""; 0]);
    let moved = run(&world, "MIGRATE h 1 \"\" 0 100 KEYS a nokey b a");
    assert_eq!(moved, "+OK\r\n");
    assert_eq!(world.records(), ["DEL a b"]);
    let events: Vec<String> = world.events();
    assert_eq!(events, ["keymiss nokey", "del a", "del b"]);
    assert_eq!(run(&world, "EXISTS a b c"), ":1\r\n");
}
