//! Sets among many connections: what moves is in one set at any time, results are whole, each member is popped once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::concurrency::{Reader, Writer, race, rounds};
use crate::support::{Client, Server, Value};

/// `command key member ..`, the members numbered.
fn with_members(command: &str, key: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    let members = numbers.map(|number| format!("m{number}"));
    [command.to_owned(), key.to_owned()]
        .into_iter()
        .chain(members)
        .collect()
}

/// Aim: SMOVE locks both sets, and SUNION all of them, whether it answers at once or from snapshots.
#[test]
fn a_member_that_moves_is_in_one_set() {
    for members in [60, 3_000] {
        let server = Server::start(&[]);
        let keys: Vec<String> = (0..8).map(|number| format!("move:{number}")).collect();
        server
            .client()
            .run(&with_members("SADD", &keys[0], 0..members));
        let writers = (0..3).map(|writer| {
            let keys = keys.clone();
            Box::new(move |mut client: Client| {
                let mut rng = fastrand::Rng::with_seed(writer);
                for _ in 0..rounds(2_000) {
                    let (from, to) = (rng.usize(..keys.len()), rng.usize(..keys.len()));
                    let member = format!("m{}", rng.usize(..members));
                    client.run(&["SMOVE", &keys[from], &keys[to], &member]);
                }
            }) as Writer
        });
        let mut union = vec!["SUNION".to_owned()];
        union.extend(keys.iter().rev().cloned());
        let reader: Reader = Box::new(move |client| {
            assert_eq!(client.run(&union).items().len(), members, "torn");
        });
        assert!(race(&server, writers.collect(), vec![reader]) > 0);
        let mut client = server.client();
        let lengths = keys.iter().map(|key| client.run(&["SCARD", key]).int());
        assert_eq!(lengths.sum::<i64>(), members as i64, "in two sets");
    }
}

/// Aim: a stored result replaces another at one instant, and what is read of it after release is one of the two.
#[test]
fn a_result_is_stored_at_one_instant() {
    for half in [40, 3_000] {
        let server = Server::start(&[]);
        let mut client = server.client();
        client.run(&with_members("SADD", "low", 0..half));
        client.run(&with_members("SADD", "high", half..2 * half));
        client.run(&["SUNIONSTORE", "result", "low"]);
        let writers = ["low", "high"].map(|source| {
            Box::new(move |mut client: Client| {
                for round in 0..rounds(200) {
                    // Adding to a result must not change the set that it shares its parts with.
                    let command = ["SUNIONSTORE", "SDIFFSTORE", "SINTERSTORE"][round % 3];
                    let stored = client.run(&[command, "result", source]);
                    assert_eq!(stored, Value::Int(half as i64));
                    client.run(&["SADD", "copy", "own"]);
                    client.run(&["SUNIONSTORE", "copy", source, "copy"]);
                    client.run(&["SREM", "copy", "m0", "own"]);
                }
            }) as Writer
        });
        let reader: Reader = Box::new(move |client| {
            let members = client.run(&["SMEMBERS", "result"]).items();
            assert_eq!(members.len(), half);
            let is_low = |member: &Value| {
                let number = member.text()[1..].parse::<usize>();
                number.expect("a number behind the m") < half
            };
            let low = members.iter().filter(|member| is_low(member)).count();
            assert!(low == 0 || low == half, "torn: {low} of {half}");
        });
        assert!(race(&server, writers.into(), vec![reader]) > 0);
        for source in ["low", "high"] {
            assert_eq!(client.run(&["SCARD", source]), Value::Int(half as i64));
            assert_eq!(client.run(&["SISMEMBER", source, "own"]), Value::Int(0));
        }
    }
}

/// Aim: however many take members at the same time, each goes to one of them, and all are taken.
#[test]
fn every_member_is_popped_once() {
    let server = Server::start(&[]);
    let members = 20_000;
    for from in (0..members).step_by(5_000) {
        server
            .client()
            .run(&with_members("SADD", "jobs", from..from + 5_000));
    }
    let taken = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (mut client, taken) = (server.client(), &taken);
            scope.spawn(move || {
                loop {
                    let popped = match worker % 2 {
                        0 => match client.run(&["SPOP", "jobs"]) {
                            reply if reply.is_nil() => return,
                            reply => vec![reply],
                        },
                        _ => client.run(&["SPOP", "jobs", "7"]).items(),
                    };
                    if popped.is_empty() {
                        return;
                    }
                    let mut taken = taken.lock().expect("no worker fails");
                    for member in popped {
                        assert!(taken.insert(member.bytes().to_vec()), "{member:?} twice");
                    }
                }
            });
        }
    });
    assert_eq!(taken.into_inner().expect("no worker fails").len(), members);
    assert_eq!(server.client().run(&["EXISTS", "jobs"]), Value::Int(0));
}
/// Aim: a set that has the member already is not changed by SMOVE, and those who watch it are not told.
#[test]
fn a_move_to_a_set_that_has_the_member_changes_one() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.client(), server.client());
    for (watched, answer) in [
        ("to", Value::Array(vec![Value::simple("PONG")])),
        ("from", Value::NilArray),
    ] {
        one.line("SADD from x y");
        one.line("SADD to x");
        one.line(&format!("WATCH {watched}"));
        assert_eq!(other.line("SMOVE from to x"), Value::Int(1));
        one.line("MULTI");
        one.line("PING");
        assert_eq!(one.line("EXEC"), answer, "{watched}");
    }
}
