//! A client whose keys are at another node: what it leaves behind there, and values that are longer than a frame.

use crate::nodes::Ring;
use crate::support::{Client, Value, eventually};

/// A ring of two nodes and a key of the second, for a client of the first.
fn ring() -> (Ring, String) {
    let ring = Ring::of(2);
    ring.is_balanced();
    ring.settle();
    let owners = ring.owners();
    let mut keys = (0..).map(|number| format!("key{number}"));
    let is_far = |key: &String| owners(quoit::cluster::slots::slot_of(key.as_bytes())) == 1;
    let key = keys.find(is_far).expect("the second node owns slots");
    (ring, key)
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
