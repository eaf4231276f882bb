//! Scripts and functions over the nodes of a ring.

use std::time::{Duration, Instant};

use crate::nodes::Ring;
use crate::support::{Client, Value, eventually};

const INCREMENT: &str = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
const LIBRARY: &str = "#!lua name=counts\nredis.register_function('count', function(keys, args) \
    return redis.call('INCRBY', keys[1], args[1]) end)";

fn sha1(client: &mut Client, text: &str) -> String {
    client.run(&["SCRIPT", "LOAD", text]).text()
}

/// Aim: who has run a script by its text at one node may name it by its SHA-1 there, wherever the keys are; in a pipeline
/// what stands behind sees what it did.
#[test]
fn a_text_seen_once_is_known_for_all_keys() {
    let ring = Ring::of(3);
    ring.is_balanced();
    // Known by another server, so that this ring does not know it.
    let name = sha1(&mut crate::support::Server::quoit(&[]).client(), INCREMENT);
    for node in 0..3 {
        let mut client = ring.client(node);
        let by_name = ["EVALSHA", &name, "1", "{unknown}", "1"];
        let unknown = Value::error("NOSCRIPT No matching script. Please use EVAL.");
        if node == 0 {
            assert_eq!(client.run(&by_name), unknown);
        }
        // One key of each node, so that this node has seen the text whoever owns the first.
        let first = format!("{node}-first");
        assert_eq!(
            client.run(&["EVAL", INCREMENT, "1", &first, "1"]),
            Value::Int(1)
        );
        let keys: Vec<String> = (0..30).map(|number| format!("{node}-{number}")).collect();
        for key in &keys {
            client.send(&["EVALSHA", &name, "1", key, "5"]);
            client.send(&["GET", key]);
            client.send(&["EVALSHA_RO", &name, "1", key, "5"]);
        }
        for _ in &keys {
            assert_eq!(client.read().value, Value::Int(5));
            assert_eq!(client.read().value, Value::bulk("5"));
            assert!(
                client
                    .read()
                    .value
                    .text()
                    .contains("Write commands are not allowed")
            );
        }
    }
}

#[test]
fn transactions_carry_the_text() {
    let ring = Ring::of(2);
    ring.is_balanced();
    let mut client = ring.client(0);
    assert_eq!(
        client.run(&["EVAL", INCREMENT, "1", "first", "1"]),
        Value::Int(1)
    );
    let name = sha1(&mut crate::support::Server::quoit(&[]).client(), INCREMENT);
    for number in 0..20 {
        let key = format!("k{number}");
        assert_eq!(client.line("MULTI"), Value::ok());
        client.run(&["SET", &key, "1"]);
        client.run(&["EVALSHA", &name, "1", &key, "2"]);
        assert_eq!(
            client.line("EXEC"),
            Value::Array(vec![Value::ok(), Value::Int(3)])
        );
    }
}

/// Aim: what is loaded at one node is known at all, also at one that comes later, and forgotten at all.
#[test]
fn loaded_scripts_are_everywhere() {
    let mut ring = Ring::of(2);
    let name = sha1(&mut ring.client(1), INCREMENT);
    let exists = |client: &mut Client| client.run(&["SCRIPT", "EXISTS", &name]);
    for node in 0..2 {
        assert_eq!(
            exists(&mut ring.client(node)),
            Value::Array(vec![Value::Int(1)])
        );
    }
    ring.add(&[]);
    let mut late = ring.client(2);
    // All nodes are asked: 1 when all know it.
    eventually("the new node to know the script", || {
        (exists(&mut late) == Value::Array(vec![Value::Int(1)])).then_some(())
    });
    for number in 0..10 {
        let key = format!("k{number}");
        assert_eq!(late.run(&["EVALSHA", &name, "1", &key, "1"]), Value::Int(1));
    }
    assert_eq!(late.line("SCRIPT FLUSH"), Value::ok());
    assert_eq!(
        exists(&mut ring.client(0)),
        Value::Array(vec![Value::Int(0)])
    );
}

/// Aim: the same of libraries, and a deletion is one.
#[test]
fn libraries_are_everywhere() {
    let mut ring = Ring::of(2);
    ring.is_balanced();
    let mut client = ring.client(0);
    assert_eq!(
        client.run(&["FUNCTION", "LOAD", LIBRARY]),
        Value::bulk("counts")
    );
    for node in 0..2 {
        let mut client = ring.client(node);
        for number in 0..10 {
            let key = format!("{node}-{number}");
            assert_eq!(
                client.run(&["FCALL", "count", "1", &key, "2"]),
                Value::Int(2)
            );
        }
    }
    ring.add(&[]);
    let mut late = ring.client(2);
    let listed = |client: &mut Client| client.line("FUNCTION LIST").items().len();
    eventually("the new node to know the library", || {
        (listed(&mut late) == 1).then_some(())
    });
    assert_eq!(late.line("FUNCTION DELETE counts"), Value::ok());
    for node in 0..3 {
        assert_eq!(listed(&mut ring.client(node)), 0);
    }
    assert_eq!(
        late.line("FUNCTION DELETE counts"),
        Value::error("ERR Library not found")
    );
}

/// Aim: a script that runs at the node of its keys is seen from any node, and by name; in a transaction nobody else is asked.
#[test]
fn a_script_that_runs_elsewhere_is_seen() {
    let ring = Ring::of(2);
    ring.is_balanced();
    let owners = ring.owners();
    let mut client = ring.client(0);
    let running = |client: &mut Client| client.line("FUNCTION STATS").items()[1].clone();
    assert_eq!(running(&mut client), Value::NilBulk);
    for node in 0..2 {
        let mut keys = (0..).map(|number| format!("key{number}"));
        let is_its = |key: &String| owners(quoit::cluster::slots::slot_of(key.as_bytes())) == node;
        let key = keys.find(is_its).expect("each owns slots");
        let mut endless = ring.client(1 - node);
        endless.send(&["EVAL", "while true do end", "1", &key]);
        for asked in 0..2 {
            let mut client = ring.client(asked);
            eventually("the script to be seen", || {
                (running(&mut client) != Value::NilBulk).then_some(())
            });
            let run = running(&mut client).items();
            let command = ["EVAL", "while true do end", "1", &key];
            assert_eq!(run[3], Value::Array(command.map(Value::bulk).to_vec()));
        }
        eventually("the script to be old enough to be killed", || {
            (client.line("SCRIPT KILL") == Value::ok()).then_some(())
        });
        assert!(endless.read().value.is_error());
        eventually("the script to be gone", || {
            (running(&mut client) == Value::NilBulk).then_some(())
        });
    }
    assert_eq!(client.line("MULTI"), Value::ok());
    client.line("FUNCTION STATS");
    let replies = client.line("EXEC").items();
    assert_eq!(replies[0].items()[1], Value::NilBulk);
}

/// Found by the tests of endless scripts against a ring: one that ran at the owner of its keys ran on the task that reads the
/// link. All requests behind it waited, and the link was given up as one to a node that is gone.
#[test]
fn an_endless_script_elsewhere_holds_up_nobody() {
    let ring = Ring::with(
        2,
        &[
            "--cluster-node-timeout",
            "4000",
            "--busy-reply-threshold",
            "100",
        ],
    );
    ring.is_balanced();
    let owners = ring.owners();
    let keys = (0..).map(|number| format!("key{number}"));
    let is_far = |key: &String| owners(quoit::cluster::slots::slot_of(key.as_bytes())) == 1;
    // One in a thousand shares its partition with another.
    let keys: Vec<String> = keys.filter(is_far).take(9).collect();
    let (held, others) = keys.split_first().expect("there are some");
    let text = "while true do end";
    for is_in_transaction in [false, true] {
        let mut endless = ring.client(0);
        if is_in_transaction {
            endless.line("MULTI");
            endless.run(&["EVAL", text, "1", held]);
            endless.send(&["EXEC"]);
        } else {
            endless.send(&["EVAL", text, "1", held]);
        }
        // More of them than there are links.
        let mut clients: Vec<Client> = others.iter().map(|_| ring.client(0)).collect();
        eventually("the script to be under way", || {
            (!clients[0].line("FUNCTION STATS").items()[1].is_nil()).then_some(())
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(6) {
            for (client, key) in clients.iter_mut().zip(others) {
                assert_eq!(client.run(&["SET", key, "v"]), Value::ok());
                let add = "return redis.call('STRLEN', KEYS[1])";
                assert_eq!(client.run(&["EVAL", add, "1", key]), Value::Int(1));
            }
        }
        assert_eq!(clients[0].line("SCRIPT KILL"), Value::ok());
        let ended = format!("{:?}", endless.read().value);
        assert!(ended.contains("Script killed by user"), "{ended}");
    }
}
