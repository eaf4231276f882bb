//! A client whose keys are at another node: what it leaves behind there, and values that are longer than a frame.

use crate::nodes::Ring;
use crate::support::{Client, Value, eventually};

/// A ring of two nodes and a key of the second, for a client of the first.
fn ring() -> (Ring, String) {
    let ring = Ring::of(2);
    ring.is_balanced();
    let key = far_key(&ring);
    (ring, key)
}

fn far_key(ring: &Ring) -> String {
    let owners = ring.owners();
    let mut keys = (0..).map(|number| format!("key{number}"));
    let is_far = |key: &String| owners(quoit::cluster::slots::slot_of(key.as_bytes())) == 1;
    keys.find(is_far).expect("the second node owns slots")
}

fn blocked(client: &mut Client, count: usize) {
    eventually("the number of blocked clients", || {
        let blocked = client.info_field("clients", "blocked_clients")?;
        (blocked == count.to_string()).then_some(())
    });
}

/// Aim: who waits for a key of another node is blocked at its own, and CLIENT UNBLOCK and CLIENT KILL there end the wait.
#[test]
fn waits_are_ended_at_the_entry() {
    let (ring, key) = ring();
    let mut admin = ring.client(0);
    let mut waiting = ring.client(0);
    let id = waiting.line("CLIENT ID").int().to_string();
    for (reason, expected) in [
        (&[][..], Value::NilArray),
        (&["TIMEOUT"], Value::NilArray),
        (
            &["ERROR"],
            Value::error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        ),
    ] {
        waiting.send(&["BLPOP", &key, "0"]);
        blocked(&mut admin, 1);
        let list = admin.run(&["CLIENT", "LIST", "ID", &id]).text();
        assert!(list.contains(" flags=b "), "{list}");
        // It is a client of the first node only.
        let mut other = ring.client(1);
        blocked(&mut other, 0);
        let unblock = [&["CLIENT", "UNBLOCK", &id], reason].concat();
        assert_eq!(admin.run(&unblock), Value::Int(1));
        assert_eq!(waiting.read().value, expected);
        blocked(&mut admin, 0);
        assert_eq!(admin.run(&unblock), Value::Int(0));
    }
    // What was sent before comes before, and no element is taken for nobody.
    waiting.send(&["XREAD", "BLOCK", "0", "STREAMS", &key, "$"]);
    blocked(&mut admin, 1);
    admin.send(&["XADD", &key, "1-1", "f", "v"]);
    admin.send(&["CLIENT", "UNBLOCK", &id]);
    assert_eq!(admin.read().value.text(), "1-1");
    assert_eq!(admin.read().value, Value::Int(0));
    assert_eq!(waiting.read().value.items().len(), 1);
    admin.run(&["DEL", &key]);
    // Without a reply, and in a transaction, where nobody waits for the peer.
    waiting.send(&["BRPOP", &key, "0"]);
    blocked(&mut admin, 1);
    admin.send(&["CLIENT", "REPLY", "SKIP"]);
    admin.send(&["CLIENT", "UNBLOCK", &id]);
    admin.send(&["PING"]);
    assert_eq!(admin.read().value, Value::Simple(b"PONG".to_vec()));
    assert_eq!(waiting.read().value, Value::NilArray);
    waiting.send(&["BRPOP", &key, "0"]);
    blocked(&mut admin, 1);
    admin.line("MULTI");
    admin.run(&["CLIENT", "UNBLOCK", &id]);
    assert_eq!(admin.line("EXEC"), Value::Array(vec![Value::Int(1)]));
    assert_eq!(waiting.read().value, Value::NilArray);
    waiting.send(&["BRPOP", &key, "0"]);
    blocked(&mut admin, 1);
    assert_eq!(admin.run(&["CLIENT", "KILL", "ID", &id]), Value::Int(1));
    assert_eq!(admin.run(&["RPUSH", &key, "kept"]), Value::Int(1));
    assert_eq!(admin.run(&["LLEN", &key]), Value::Int(1));
    assert!(waiting.is_closed());
    blocked(&mut admin, 0);
}

/// Aim: CLIENT UNBLOCK in a transaction says what came of it as elsewhere: who waits at a peer is unblocked once. So it is with a
/// transaction of keys that are here, and one of keys that are there; and CLIENT KILL ends a wait, too.
#[test]
fn a_wait_is_ended_once_by_a_transaction() {
    let (ring, key) = ring();
    let owners = ring.owners();
    let mut here = (0..).map(|number| format!("here{number}"));
    let is_here = |key: &String| owners(quoit::cluster::slots::slot_of(key.as_bytes())) == 0;
    let here = here.find(is_here).expect("the first node owns slots");
    let there = format!("{{{key}}}other");
    let mut admin = ring.client(0);
    for other in [&here, &there] {
        let mut waiting = ring.client(0);
        let id = waiting.line("CLIENT ID").int().to_string();
        waiting.send(&["BLPOP", &key, "0"]);
        blocked(&mut admin, 1);
        admin.line("MULTI");
        admin.run(&["SET", other, "v"]);
        for _ in 0..2 {
            admin.run(&["CLIENT", "UNBLOCK", &id]);
        }
        admin.run(&["GET", other]);
        admin.run(&["CLIENT", "UNBLOCK", "1000000"]);
        let [none, one] = [Value::Int(0), Value::Int(1)];
        assert_eq!(
            admin.line("EXEC").items(),
            [Value::ok(), one, none.clone(), Value::bulk("v"), none],
            "{other}"
        );
        assert_eq!(waiting.read().value, Value::NilArray);
        waiting.send(&["BLPOP", &key, "0"]);
        blocked(&mut admin, 1);
        // Without replies.
        admin.send(&["CLIENT", "REPLY", "OFF"]);
        admin.send(&["MULTI"]);
        admin.send(&["GET", other]);
        admin.send(&["CLIENT", "UNBLOCK", &id, "ERROR"]);
        admin.send(&["EXEC"]);
        assert_eq!(admin.run(&["CLIENT", "REPLY", "ON"]), Value::ok());
        assert!(waiting.read().value.text().starts_with("UNBLOCKED "));
        blocked(&mut admin, 0);
    }
}

/// Aim: what a transaction of another node's keys does to its connection, it does to the client's own; what does not run
/// does nothing.
#[test]
fn a_transaction_is_run_by_its_client() {
    let (ring, key) = ring();
    for protocol in [2, 3] {
        let mut client = ring.nodes[0].client_in(protocol);
        let id = client.line("CLIENT ID");
        let mut run = |lines: &[&str]| {
            assert_eq!(client.line("MULTI"), Value::ok());
            for line in lines {
                assert_eq!(client.line(line), Value::simple("QUEUED"), "{line}");
            }
            let replies = client.line("EXEC");
            (replies, client.line("CLIENT GETNAME"))
        };
        let set = format!("SET {key} v");
        let get = format!("GET {key}");
        let (replies, name) = run(&[
            &set,
            "CLIENT SETNAME one",
            "CLIENT GETNAME",
            "CLIENT ID",
            &get,
        ]);
        let v = Value::bulk("v");
        assert_eq!(
            replies.items(),
            [Value::ok(), Value::ok(), Value::bulk("one"), id, v.clone()]
        );
        assert_eq!(name, Value::bulk("one"));
        // In its order, errors in their places.
        let (replies, name) = run(&[
            "CLIENT SETNAME a",
            "CLIENT SETNAME \"a b\"",
            &get,
            "CLIENT SETNAME c",
        ]);
        let replies = replies.items();
        assert_eq!(replies[0], Value::ok());
        assert_eq!(
            replies[1].text(),
            "ERR Client names cannot contain spaces, newlines or special characters."
        );
        assert_eq!((&replies[2], &replies[3]), (&v, &Value::ok()));
        assert_eq!(name, Value::bulk("c"));
        // The database goes with it, the configuration is that of this node.
        let (replies, _) = run(&[
            "SELECT 3",
            &get,
            "CONFIG SET maxmemory-samples 7",
            "SELECT 0",
            &get,
        ]);
        let replies = replies.items();
        assert!(replies[1].is_nil());
        assert_eq!(replies[4], v);
        let samples = |node| ring.client(node).shown("CONFIG GET maxmemory-samples");
        assert_eq!(samples(0), r#"["maxmemory-samples", "7"]"#);
        assert_eq!(samples(1), r#"["maxmemory-samples", "5"]"#);
        // A watched key has changed.
        let mut client = ring.nodes[0].client_in(protocol);
        client.run(&["WATCH", &key]);
        ring.client(1).run(&["APPEND", &key, "w"]);
        client.line("MULTI");
        client.line("CLIENT SETNAME never");
        client.run(&["GET", &key]);
        assert!(client.line("EXEC").is_nil());
        assert!(client.line("CLIENT GETNAME").is_nil());
        client.run(&["WATCH", &key]);
        client.line("MULTI");
        client.line("CLIENT SETNAME now");
        client.run(&["GET", &key]);
        assert_eq!(
            client.line("EXEC").items(),
            [Value::ok(), Value::bulk("vw")]
        );
        assert_eq!(client.line("CLIENT GETNAME"), Value::bulk("now"));
        assert_eq!(client.run(&["GET", &key]), Value::bulk("vw"));
    }
}

/// Aim: CLIENT NO-TOUCH holds wherever the keys are, also for what goes by a connection of its own.
#[test]
fn what_must_not_touch_does_not_touch_elsewhere() {
    let ring = Ring::with(2, &["--maxmemory-policy", "allkeys-lfu"]);
    ring.is_balanced();
    let key = far_key(&ring);
    let mut client = ring.client(0);
    // New keys count 5, and the first use counts for sure.
    let frequency = |key: &str| ring.client(1).run(&["OBJECT", "FREQ", key]);
    let watched = |client: &mut Client| {
        client.run(&["WATCH", &key]);
        client.line("MULTI");
        client.run(&["GET", &key]);
        assert_eq!(client.line("EXEC").items(), [Value::bulk("v")]);
    };
    let ways: [&dyn Fn(&mut Client); 3] = [
        &|client| assert_eq!(client.run(&["GET", &key]), Value::bulk("v")),
        &|client| {
            client.line("MULTI");
            client.run(&["GET", &key]);
            assert_eq!(client.line("EXEC").items(), [Value::bulk("v")]);
        },
        &watched,
    ];
    for way in ways {
        client.run(&["DEL", &key]);
        client.run(&["SET", &key, "v"]);
        assert_eq!(frequency(&key), Value::Int(5));
        assert_eq!(client.line("CLIENT NO-TOUCH ON"), Value::ok());
        way(&mut client);
        assert_eq!(frequency(&key), Value::Int(5));
        assert_eq!(client.line("CLIENT NO-TOUCH OFF"), Value::ok());
        way(&mut client);
        assert!(frequency(&key).int() > 5);
    }
}

/// Aim: of a wait that is ended while elements come, either the client has the element or the list, and the reply to CLIENT
/// UNBLOCK says which.
#[test]
fn no_element_is_lost_by_unblocking() {
    let (ring, key) = ring();
    let (mut admin, mut pusher, mut waiting) = (ring.client(0), ring.client(1), ring.client(0));
    let id = waiting.line("CLIENT ID").int().to_string();
    for round in 0..100 {
        waiting.send(&["BLPOP", &key, "0"]);
        blocked(&mut admin, 1);
        pusher.send(&["RPUSH", &key, "x"]);
        admin.send(&["CLIENT", "UNBLOCK", &id]);
        let unblocked = admin.read().value;
        assert!(!pusher.read().value.is_error());
        let popped = waiting.read().value;
        let left = admin.run(&["DEL", &key]);
        assert_eq!(
            (unblocked == Value::Int(1), left == Value::Int(1)),
            (popped.is_nil(), popped.is_nil()),
            "in round {round}: {unblocked:?} {popped:?} {left:?}"
        );
        blocked(&mut admin, 0);
    }
}

/// Aim: values longer than a frame are written, read and taken at another node, in a transaction and through a tunnel, and what
/// stands beside them in a pipeline is answered in its order.
#[test]
fn long_values() {
    let (ring, key) = ring();
    let mut client = ring.client(0);
    client.set_patience(std::time::Duration::from_secs(120));
    let value = vec![b'v'; 70 << 20];
    client.send(&[b"INCR", key.as_bytes()]);
    client.send(&[b"SET", key.as_bytes(), &value]);
    client.send(&["STRLEN", &key]);
    let replies = [(); 3].map(|()| client.read().value);
    let length = Value::Int(value.len() as i64);
    assert_eq!(replies, [Value::Int(1), Value::ok(), length.clone()]);
    client.send(&["STRLEN", &key]);
    client.send(&["GET", &key]);
    client.send(&["PING"]);
    assert_eq!(client.read().value, length);
    assert!(client.read().value.bytes() == value);
    assert_eq!(client.read().value, Value::Simple(b"PONG".to_vec()));
    // Through the tunnel of a transaction with a watched key.
    assert_eq!(client.run(&["WATCH", &key]), Value::ok());
    client.line("MULTI");
    client.run(&[b"APPEND", key.as_bytes(), b"x"]);
    client.run(&["GETDEL", &key]);
    client.run(&[b"RPUSH", key.as_bytes(), &value]);
    let replies = client.line("EXEC").items();
    assert_eq!(replies[0], Value::Int(value.len() as i64 + 1));
    assert!(replies[1].bytes().strip_suffix(b"x") == Some(&value));
    assert_eq!(replies[2], Value::Int(1));
    let popped = client.run(&["BLPOP", &key, "0"]).items();
    assert!(popped[1].bytes() == value);
    assert_eq!(client.run(&["EXISTS", &key]), Value::Int(0));
}
