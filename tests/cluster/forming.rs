//! How nodes find each other.

use crate::ring::{Options, Ring};
use crate::support::{Value, seed};

/// Aim: whoever is started first, three nodes that know each other's addresses become one ring; every node answers every key.
#[test]
fn in_any_order() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    rng.shuffle(&mut orders);
    // The last begins together with the others, too.
    for order in &orders[..3] {
        println!("order {order:?}");
        let mut ring = Ring::prepared(3, Options::default());
        for node in order {
            ring.nodes[*node].start();
        }
        ring.whole();
        answers_everywhere(&ring);
    }
}

/// Every node writes keys that every other one reads.
pub fn answers_everywhere(ring: &Ring) {
    let mut clients: Vec<_> = ring.running().map(|node| node.client()).collect();
    let count = clients.len();
    for key in 0..60 {
        let (name, value) = (format!("everywhere:{key}"), key.to_string());
        assert_eq!(
            clients[key % count].run(&["SET", &name, &value]),
            Value::ok()
        );
        for client in &mut clients {
            assert_eq!(client.run(&["GET", &name]), Value::bulk(&value));
        }
    }
    let keys: Vec<String> = (0..60).map(|key| format!("everywhere:{key}")).collect();
    let mut request = vec!["DEL"];
    request.extend(keys.iter().map(String::as_str));
    assert_eq!(clients[0].run(&request), Value::Int(60));
}

/// Aim: one node alone is a ring, and grows node by node.
#[test]
fn one_by_one() {
    let mut ring = Ring::of(1, Options::default());
    answers_everywhere(&ring);
    for _ in 0..3 {
        ring.add();
        ring.whole();
        answers_everywhere(&ring);
    }
}

/// Aim: a node with another ring's name, other pins or another secret is not let in, and the ring does not mind.
#[test]
fn strangers_stay_outside() {
    let secret = ["--cluster-secret", "one"];
    let mut ring = Ring::of(2, Options::default().and(&secret));
    for arguments in [
        &["--cluster-name", "other"][..],
        &["--cluster-secret", "two"],
        &["--cluster-pin", "queue:"],
    ] {
        let stranger = ring.add_with(arguments);
        ring.nodes[stranger].client();
        // It is refused again and again; meanwhile the others work.
        for _ in 0..3 {
            ring.whole_among(&[0, 1], crate::support::PATIENCE);
            let status = ring.nodes[stranger].status();
            assert!(status.is_none_or(|status| !status.is_ok), "{arguments:?}");
        }
        ring.nodes[stranger].kill();
    }
    answers_everywhere(&ring);
}
