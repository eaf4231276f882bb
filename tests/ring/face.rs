//! The cluster face of real nodes: views that agree, redirections that lead to the owner, changes by CLUSTER FORGET and WEIGHT.

use std::collections::BTreeMap;

use crate::nodes::{Ring, field};
use crate::support::{Client, Value, eventually, show};

/// The owner's port of every slot, by CLUSTER SLOTS.
fn owners(client: &mut Client) -> BTreeMap<i64, i64> {
    let mut owners = BTreeMap::new();
    for row in client.line("CLUSTER SLOTS").items() {
        let row = row.items();
        let port = row[2].items()[1].clone();
        let (Value::Int(first), Value::Int(last), Value::Int(port)) = (&row[0], &row[1], port)
        else {
            panic!("{row:?}");
        };
        for slot in *first..=*last {
            assert_eq!(owners.insert(slot, port), None, "slot {slot} stands twice");
        }
    }
    owners
}

/// The same by CLUSTER NODES.
fn owners_by_nodes(client: &mut Client) -> BTreeMap<i64, i64> {
    let mut owners = BTreeMap::new();
    for line in client.line("CLUSTER NODES").text().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let port = words[1].split([':', '@']).nth(1).expect("there is a port");
        let port: i64 = port.parse().expect("a port is a number");
        for range in &words[8..] {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<i64>().expect("a slot is a number");
            owners.extend((number(first)..=number(last)).map(|slot| (slot, port)));
        }
    }
    owners
}

/// Keys that a ring has, some in slots of each node.
fn filled(ring: &Ring) -> Vec<String> {
    let keys: Vec<String> = (0..200).map(|number| format!("key:{number}")).collect();
    let mut plain = ring.client(0);
    for key in &keys {
        assert_eq!(plain.line(&format!("SET {key} x")), Value::ok());
    }
    keys
}

/// Aim: all nodes tell the same of all slots, in each of the views, once the slots are where they should be.
#[test]
fn views_agree() {
    let ring = Ring::of(3);
    ring.settle();
    let first = owners(&mut ring.aware(0));
    assert_eq!(first.len(), 16384);
    for node in 0..3 {
        let mut client = ring.aware(node);
        assert_eq!(owners(&mut client), first);
        assert_eq!(owners_by_nodes(&mut client), first);
        let mine = i64::from(ring.cluster_port(node));
        let count = first.values().filter(|port| **port == mine).count();
        assert_eq!(field(&mut client, "ring_slots"), count.to_string());
        assert_eq!(field(&mut client, "cluster_size"), "3");
        assert_eq!(client.line("CLUSTER SHARDS").items().len(), 3);
        let me = client.line("CLUSTER MYID").text();
        let nodes = client.line("CLUSTER NODES").text();
        let line = nodes.lines().find(|line| line.starts_with(&me));
        assert!(line.is_some_and(|line| line.contains(" myself,master - ")));
        assert_eq!(nodes.matches("myself").count(), 1);
        assert!(!nodes.contains("disconnected"), "{nodes}");
    }
}

/// Aim: the owner answers, every other node sends there, and the single face of each answers itself.
#[test]
fn redirections_lead_to_the_owner() {
    let ring = Ring::of(3);
    ring.settle();
    let mut aware: Vec<Client> = (0..3).map(|node| ring.aware(node)).collect();
    let mut plain: Vec<Client> = (0..3).map(|node| ring.client(node)).collect();
    let owners = owners(&mut aware[0]);
    for number in 0..60 {
        let key = format!("key:{number}");
        let Value::Int(slot) = aware[0].line(&format!("CLUSTER KEYSLOT {key}")) else {
            panic!("a slot is a number");
        };
        let moved = format!("MOVED {slot} 127.0.0.1:{}", owners[&slot]);
        for (node, client) in aware.iter_mut().enumerate() {
            let expected = if i64::from(ring.cluster_port(node)) == owners[&slot] {
                Value::ok()
            } else {
                Value::error(&moved)
            };
            assert_eq!(client.line(&format!("SET {key} {number}")), expected);
        }
        for client in &mut plain {
            let found = client.line(&format!("GET {key}"));
            assert_eq!(found, Value::bulk(number.to_string()));
        }
    }
    // Each node counts its own; together they are all.
    let sizes = aware.iter_mut().map(|client| client.line("DBSIZE"));
    let sum: i64 = sizes
        .map(|size| match size {
            Value::Int(size) => size,
            other => panic!("{}", show(&other)),
        })
        .sum();
    assert_eq!(sum, 60);
    assert_eq!(
        aware[1].line("MGET key:1 key:2 key:3"),
        Value::error("CROSSSLOT Keys in request don't hash to the same slot")
    );
    // What libraries try on a plain server is refused as by one.
    for line in ["CLUSTER NODES", "CLUSTER INFO", "CLUSTER SLOTS", "READONLY"] {
        let disabled = Value::error("ERR This instance has cluster support disabled");
        assert_eq!(plain[2].line(line), disabled, "{line}");
    }
}

/// Aim: a share follows the weight, a node that is forgotten hands its slots over, and no key is lost on the way.
#[test]
fn weights_and_leaving() {
    let ring = Ring::of(3);
    ring.settle();
    let mut plain = ring.client(0);
    for number in 0..300 {
        assert_eq!(
            plain.line(&format!("SET key:{number} {number}")),
            Value::ok()
        );
    }
    let check = |plain: &mut Client| {
        for number in 0..300 {
            let found = plain.line(&format!("GET key:{number}"));
            assert_eq!(found, Value::bulk(number.to_string()), "key:{number}");
        }
    };
    let slots = |node: usize| -> usize {
        let slots = field(&mut ring.aware(node), "ring_slots");
        slots.parse().expect("it is a number")
    };
    let third = ring.aware(2).line("CLUSTER MYID").text();
    let mut first = ring.aware(0);
    assert_eq!(
        first.line(&format!("CLUSTER WEIGHT 300 {third}")),
        Value::ok()
    );
    ring.settle();
    // Three of five.
    assert!((8_500..11_000).contains(&slots(2)), "{}", slots(2));
    check(&mut plain);
    // The parameter is that of the node that is asked as a node.
    let mut second = ring.aware(1);
    assert_eq!(second.line("CONFIG SET cluster-weight 50"), Value::ok());
    ring.settle();
    assert!((1_000..2_800).contains(&slots(1)), "{}", slots(1));
    let second = ring.aware(1).line("CLUSTER MYID").text();
    assert_eq!(first.line(&format!("CLUSTER FORGET {second}")), Value::ok());
    // Again, as redis-cli sends it to every node.
    let again = ring.aware(2).line(&format!("CLUSTER FORGET {second}"));
    let unknown = Value::error(&format!("ERR Unknown node {second}"));
    assert!(again == Value::ok() || again == unknown, "{}", show(&again));
    eventually("the node to be forgotten", || {
        (field(&mut first, "cluster_known_nodes") == "2").then_some(())
    });
    check(&mut plain);
    assert_eq!(slots(0) + slots(2), 16384);
    assert_eq!(
        first.line(&format!("CLUSTER FORGET {second}")),
        Value::error(&format!("ERR Unknown node {second}"))
    );
}

/// Aim: a node that was killed loses its slots to the others within the node timeout and a little, and the views say so.
#[test]
fn a_dead_node_has_no_slots() {
    let mut ring = Ring::with(3, &["--cluster-node-timeout", "1000"]);
    ring.settle();
    let mut client = ring.aware(0);
    drop(ring.nodes.pop());
    eventually("the slots of the dead node to have other owners", || {
        let owners = owners(&mut client);
        let dead = i64::from(ring.cluster_port(2));
        (owners.len() == 16384 && owners.values().all(|port| *port != dead)).then_some(())
    });
    assert_eq!(field(&mut client, "cluster_state"), "ok");
    let nodes = client.line("CLUSTER NODES").text();
    let failed: Vec<&str> = nodes
        .lines()
        .filter(|line| line.contains("master,fail "))
        .collect();
    assert_eq!(failed.len(), 1, "{nodes}");
    assert!(failed[0].ends_with(" disconnected"), "{nodes}");
    let shards = show(&client.line("CLUSTER SHARDS"));
    assert_eq!(shards.matches("\"fail\"").count(), 1, "{shards}");
}

/// Aim: clients are sent where the operator says, in each form.
#[test]
fn announced_addresses() {
    let ring = Ring::with(2, &["--cluster-announce-hostname", "localhost"]);
    ring.settle();
    let mut aware = [ring.aware(0), ring.aware(1)];
    let owners = owners(&mut aware[0]);
    let other = i64::from(ring.cluster_port(1));
    let key = (0..).map(|number| format!("key:{number}"));
    let mut slot = |key: &str| match aware[0].line(&format!("CLUSTER KEYSLOT {key}")) {
        Value::Int(slot) => slot,
        wrong => panic!("{}", show(&wrong)),
    };
    let (key, slot) = key
        .map(|key| (key.clone(), slot(&key)))
        .find(|(_, slot)| owners[slot] == other)
        .expect("the other node owns something");
    for (kind, host) in [
        ("ip", "127.0.0.1"),
        ("hostname", "localhost"),
        ("unknown-endpoint", ""),
    ] {
        let set = format!("CONFIG SET cluster-preferred-endpoint-type {kind}");
        assert_eq!(aware[0].line(&set), Value::ok());
        assert_eq!(
            aware[0].line(&format!("GET {key}")),
            Value::error(&format!("MOVED {slot} {host}:{other}"))
        );
    }
    let nodes = aware[0].line("CLUSTER NODES").text();
    assert_eq!(nodes.matches(",localhost ").count(), 2, "{nodes}");
}

/// Aim: a node that was removed from the ring and runs on says where the keys are, also those that move after it has gone, of
/// which no log tells it: redis-rs waits for seconds, again and again, when it is told that nobody has them.
#[test]
fn who_was_removed_says_where_the_keys_are() {
    let mut ring = Ring::of(3);
    ring.settle();
    let keys = filled(&ring);
    ring.forget(1);
    let mut first = ring.aware(0);
    let (mut removed, mut plain) = (ring.aware(1), ring.client(1));
    let slots: Vec<i64> = keys
        .iter()
        .map(|key| first.line(&format!("CLUSTER KEYSLOT {key}")).int())
        .collect();
    let mut says_so = |what: &str, first: &mut Client| {
        let owners = owners(first);
        for (key, slot) in keys.iter().zip(&slots) {
            let moved = format!("MOVED {slot} 127.0.0.1:{}", owners[slot]);
            eventually(what, || {
                let reply = removed.line(&format!("GET {key}"));
                (reply == Value::error(&moved)).then_some(())
            });
        }
    };
    says_so("a removed node to know who has its keys", &mut first);
    // A node more: half of the keys move.
    ring.add_to(&[0, 2], &[]);
    eventually("the slots to be where they should be", || {
        (field(&mut first, "ring_slots_misplaced") == "0").then_some(())
    });
    says_so(
        "a removed node to hear of what moved afterwards",
        &mut first,
    );
    assert!(ring.nodes[1].is_alive());
    for key in &keys {
        assert_eq!(plain.line(&format!("GET {key}")), Value::bulk("x"), "{key}");
    }
}

/// Aim: an EXEC whose keys are not all here says so itself, as Redis Cluster does: with EXECABORT before it, redis-rs took a
/// MOVED for an answer that it cannot read. Nothing of it was done, and it is over.
#[test]
fn exec_says_itself_where_its_keys_are() {
    let ring = Ring::of(2);
    ring.settle();
    let mut client = ring.aware(0);
    let mine = (0..1000).map(|number| format!("key:{number}"));
    let mine = mine.filter(|key| client.line(&format!("GET {key}")) == Value::NilBulk);
    let keys: Vec<String> = mine.take(2).collect();
    let [one, other] = &keys[..] else {
        panic!("{keys:?}");
    };
    assert_eq!(client.line("MULTI"), Value::ok());
    for key in [one, other] {
        let queued = client.line(&format!("SET {key} x"));
        assert_eq!(queued, Value::simple("QUEUED"));
    }
    let across = Value::error("CROSSSLOT Keys in request don't hash to the same slot");
    assert_eq!(client.line("EXEC"), across);
    assert_eq!(client.line("EXEC"), Value::error("ERR EXEC without MULTI"));
    assert_eq!(client.line(&format!("GET {one}")), Value::NilBulk);
}

/// Aim: a node that has just been let in serves what clients are sent to it for: it was given slots before it had a lease, and
/// said for half a second that the cluster is down.
#[test]
fn a_newcomer_serves_what_it_is_given() {
    let mut ring = Ring::of(2);
    ring.settle();
    let keys = filled(&ring);
    ring.add(&[]);
    let mut clients: BTreeMap<u16, Client> = BTreeMap::new();
    let mut ask = |port: u16, key: &str| {
        let client = clients.entry(port).or_insert_with(|| Client::connect(port));
        client.line(&format!("GET {key}"))
    };
    let newcomer = ring.cluster_port(2);
    let mut served = 0;
    eventually("the newcomer to have all its slots", || {
        for key in &keys {
            let mut port = ring.cluster_port(0);
            let value = loop {
                let reply = ask(port, key);
                let Value::Error(text) = &reply else {
                    break reply;
                };
                let text = String::from_utf8_lossy(text);
                let to = text
                    .strip_prefix("MOVED ")
                    .and_then(|text| text.rsplit(':').next());
                port = to
                    .and_then(|port| port.parse().ok())
                    .unwrap_or_else(|| panic!("{port} says of {key}: {text}"));
            };
            assert_eq!(value, Value::bulk("x"), "{key}");
            served += usize::from(port == newcomer);
        }
        let mut first = ring.aware(0);
        (field(&mut first, "ring_slots_misplaced") == "0").then_some(())
    });
    assert!(served > 0, "it has none of the keys");
}

/// Aim: channels of shards are asked for where their slots are, as keys.
#[test]
fn channels_of_shards_belong_to_slots() {
    let ring = Ring::of(2);
    ring.settle();
    let mut client = ring.aware(0);
    let owners = owners(&mut client);
    let slot = |client: &mut Client, name: &str| {
        let slot = client.line(&format!("CLUSTER KEYSLOT {name}")).int();
        (slot, owners[&slot])
    };
    let other = i64::from(ring.cluster_port(1));
    let mut names = (0..).map(|number| format!("shard:{number}"));
    let theirs = names.find(|name| slot(&mut client, name).1 == other);
    let theirs = theirs.expect("the other node has some");
    let mut mine = names.filter(|name| slot(&mut client, name).1 != other);
    let (one, two) = (mine.next().expect("some"), mine.next().expect("some"));
    drop(mine);
    let moved = format!("MOVED {} 127.0.0.1:{other}", slot(&mut client, &theirs).0);
    for request in ["SSUBSCRIBE {}", "SPUBLISH {} x"] {
        let reply = client.line(&request.replace("{}", &theirs));
        assert_eq!(reply, Value::error(&moved), "{request}");
    }
    assert_eq!(
        client.line(&format!("SSUBSCRIBE {one} {two}")),
        Value::error("CROSSSLOT Keys in request don't hash to the same slot")
    );
    assert_eq!(client.line(&format!("SPUBLISH {one} x")), Value::Int(0));
    // A plain client asks any node, for any of them.
    let (mut plain, mut other) = (ring.client(0), ring.client(1));
    for (count, name) in (1..).zip([&one, &two, &theirs]) {
        plain.send(&["SSUBSCRIBE", name.as_str()]);
        let confirmed = plain.read().value;
        assert_eq!(
            show(&confirmed),
            format!("[\"ssubscribe\", \"{name}\", :{count}]")
        );
        assert_eq!(other.line(&format!("SPUBLISH {name} x")), Value::Int(1));
        let message = plain.read().value;
        assert_eq!(show(&message), format!("[\"smessage\", \"{name}\", \"x\"]"));
    }
}
