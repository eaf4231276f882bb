//! What goes to all nodes of a ring and comes back as one reply.

use crate::nodes::Ring;
use crate::support::{Client, Value, eventually};

const KEYS: usize = 300;

fn fill(client: &mut Client) {
    for number in 0..KEYS {
        client.send(&["SET", &format!("k{number}"), "v"]);
    }
    for _ in 0..KEYS {
        assert_eq!(client.read().value, Value::ok());
    }
}

fn keyspace(client: &mut Client) -> Vec<String> {
    let info = client.info("keyspace");
    info.lines().skip(1).map(str::to_owned).collect()
}

/// Aim: every node answers for all of them.
#[test]
fn each_node_tells_of_all_keys() {
    let ring = Ring::of(3);
    ring.is_balanced();
    fill(&mut ring.client(0));
    for node in 0..3 {
        let mut client = ring.client(node);
        assert_eq!(client.line("DBSIZE"), Value::Int(KEYS as i64));
        let mut keys: Vec<String> = client
            .line("KEYS *")
            .items()
            .iter()
            .map(Value::text)
            .collect();
        keys.sort();
        let mut all: Vec<String> = (0..KEYS).map(|number| format!("k{number}")).collect();
        all.sort();
        assert_eq!(keys, all);
        let mut scanned = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = client.run(&["SCAN", &cursor, "COUNT", "20"]).items();
            scanned.extend(reply[1].items().iter().map(Value::text));
            cursor = reply[0].text();
            if cursor == "0" {
                break;
            }
        }
        scanned.sort();
        assert_eq!(scanned, all);
        assert!(client.line("RANDOMKEY").text().starts_with('k'));
        assert_eq!(
            keyspace(&mut client),
            [format!("db0:keys={KEYS},expires=0,avg_ttl=0,subexpiry=0")]
        );
        // What does not tell keys asks nobody.
        assert!(client.info("server").contains("redis_version"));
    }
    let mut client = ring.client(1);
    client.line("SELECT 3");
    client.line("SET other v EX 1000");
    let lines = keyspace(&mut client);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[1].starts_with("db3:keys=1,expires=1,avg_ttl="),
        "{}",
        lines[1]
    );
    assert_eq!(client.line("SWAPDB 0 3"), Value::ok());
    assert_eq!(ring.client(2).line("DBSIZE"), Value::Int(1));
    assert_eq!(client.line("FLUSHDB"), Value::ok());
    assert_eq!(client.line("DBSIZE"), Value::Int(0));
    assert_eq!(ring.client(0).line("FLUSHALL"), Value::ok());
    assert_eq!(ring.client(1).line("DBSIZE"), Value::Int(0));
    assert_eq!(client.line("RANDOMKEY"), Value::NilBulk);
}

/// Aim: what a node says of itself it says alone, and within a transaction nothing goes to all.
#[test]
fn what_stays_here() {
    let ring = Ring::of(2);
    let mut client = ring.client(1);
    assert_eq!(client.line("PING"), Value::simple("PONG"));
    assert_eq!(client.line("CONFIG SET maxmemory-samples 7"), Value::ok());
    assert_eq!(
        ring.client(0).shown("CONFIG GET maxmemory-samples"),
        r#"["maxmemory-samples", "5"]"#
    );
    assert_eq!(client.line("WAIT 0 0"), Value::Int(0));
    assert_eq!(client.line("MULTI"), Value::ok());
    assert!(client.line("DBSIZE").is_error());
    assert_eq!(
        client.line("EXEC").text(),
        "EXECABORT Transaction discarded because of previous errors."
    );
}

/// Aim: databases that are pinned are not exchanged: their keys would stand on the wrong nodes.
#[test]
fn pinned_databases_stay() {
    let ring = Ring::with(2, &["--cluster-pin", "1"]);
    let mut client = ring.client(0);
    assert_eq!(
        client.line("SWAPDB 0 2").text(),
        "ERR databases cannot be exchanged while one of them is pinned to a slot (cluster-pin)"
    );
    for (request, error) in [
        ("SWAPDB x 2", "ERR invalid first DB index"),
        ("SWAPDB 0 x", "ERR invalid second DB index"),
        ("SWAPDB 0 16", "ERR DB index is out of range"),
        (
            "SWAPDB 0",
            "ERR wrong number of arguments for 'swapdb' command",
        ),
    ] {
        assert_eq!(client.line(request).text(), error, "{request}");
    }
}

/// Aim: a key does not leave its node by MOVE, to or from a pinned database; on one node it goes.
#[test]
fn a_key_moves_into_a_pinned_database_on_its_node_only() {
    let ring = Ring::with(2, &["--cluster-pin", "1"]);
    ring.is_balanced();
    let mut client = ring.client(0);
    let owners = ring.owners();
    client.line("SELECT 1");
    let database = owners(client.line("CLUSTER KEYSLOT any").int() as u16);
    client.line("SELECT 0");
    let mut moved = [0, 0];
    for number in 0..20 {
        let key = format!("key:{number}");
        let slot = client.line(&format!("CLUSTER KEYSLOT {key}")).int();
        client.line(&format!("SET {key} 1"));
        let reply = client.line(&format!("MOVE {key} 1"));
        let is_there = owners(slot as u16) == database;
        let expected = match is_there {
            true => Value::Int(1),
            false => Value::error("CROSSSLOT Keys in request don't hash to the same slot"),
        };
        assert_eq!(reply, expected, "{key}");
        moved[usize::from(is_there)] += 1;
    }
    assert!(moved.iter().all(|count| *count > 0), "{moved:?}");
}

/// Aim: only commands whose parts are worth something alone are cut by their keys.
#[test]
fn what_is_all_or_nothing_is_not_cut() {
    let ring = Ring::of(2);
    ring.is_balanced();
    let mut client = ring.client(0);
    let pairs: Vec<String> = (0..20).map(|number| format!("key:{number} v")).collect();
    assert_eq!(
        client.line(&format!("MSETNX {}", pairs.join(" "))),
        Value::error("CROSSSLOT Keys in request don't hash to the same slot")
    );
    assert_eq!(client.line("DBSIZE"), Value::Int(0));
    assert_eq!(
        client.line(&format!("MSET {}", pairs.join(" "))),
        Value::ok()
    );
    assert_eq!(client.line("DBSIZE"), Value::Int(20));
}

/// Aim: a node that does not answer costs INFO a moment, and is told of.
#[test]
fn who_does_not_answer_is_missing() {
    use rustix::process::Signal;
    let ring = Ring::with(2, &["--cluster-node-timeout", "60000"]);
    ring.is_balanced();
    fill(&mut ring.client(0));
    ring.nodes[1].signal(Signal::STOP);
    let mut client = ring.client(0);
    // It may answer once more before it stops.
    let lines = eventually("it to be missing", || {
        let lines = keyspace(&mut client);
        (lines.len() == 2).then_some(lines)
    });
    ring.nodes[1].signal(Signal::CONT);
    assert_eq!(lines[1], "keyspace_missing_nodes:1");
    let keys = lines[0]
        .strip_prefix("db0:keys=")
        .expect("the line of database 0");
    let keys: usize = keys
        .split(',')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    assert!((1..KEYS).contains(&keys), "{keys}");
    eventually("it to be there again", || {
        (keyspace(&mut client).len() == 1).then_some(())
    });
}

/// Aim: what waits at a node holds up nobody else who asks that node: messages, counts, the end of what it waits for.
#[test]
fn who_waits_holds_up_nobody() {
    let ring = Ring::with(2, &["--busy-reply-threshold", "60000"]);
    ring.is_balanced();
    fill(&mut ring.client(0));
    // A script without end at each node.
    let mut running: Vec<Client> = (0..2).map(|node| ring.client(node)).collect();
    let endless = "redis.call('GET', KEYS[1]) while true do end";
    let stats = |client: &mut Client| client.line("FUNCTION STATS").items()[1].clone();
    for (node, client) in running.iter_mut().enumerate() {
        // One of the keys of this node: then it runs here.
        let key = (0..KEYS).map(|number| format!("k{number}")).find(|key| {
            let slot = client.line(&format!("CLUSTER KEYSLOT {key}")).int();
            ring.owns(node, slot)
        });
        client.send(&["EVAL", endless, "1", &key.expect("it owns slots")]);
        let mut other = ring.client(node);
        eventually("the script to run", || {
            (!stats(&mut other).is_nil()).then_some(())
        });
    }
    let mut waiting: Vec<Client> = (0..40).map(|number| ring.client(number % 2)).collect();
    for client in &mut waiting {
        client.send(&["KEYS", "*"]);
    }
    let mut subscriber = ring.client_in_3(1);
    subscriber.send(&["SUBSCRIBE", "c"]);
    subscriber.read();
    let mut client = ring.client(0);
    for _ in 0..10 {
        assert_eq!(client.line("PUBLISH c x"), Value::Int(1));
        subscriber.read();
        assert_eq!(
            keyspace(&mut client),
            [format!("db0:keys={KEYS},expires=0,avg_ttl=0,subexpiry=0")]
        );
    }
    // Both nodes are asked. A script that has not run for long yet is not ended.
    let mut others: Vec<Client> = (0..2).map(|node| ring.client(node)).collect();
    eventually("both scripts to end", || {
        client.line("SCRIPT KILL");
        let have_ended = others.iter_mut().all(|other| stats(other).is_nil());
        have_ended.then_some(())
    });
    for client in &mut running {
        assert!(client.read().value.text().contains("Script killed by user"));
    }
    for client in &mut waiting {
        assert_eq!(client.read().value.items().len(), KEYS);
    }
}
