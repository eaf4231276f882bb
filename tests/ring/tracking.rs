//! CLIENT TRACKING of keys at other nodes.

use std::collections::HashMap;

use crate::nodes::Ring;
use crate::support::client::encode;
use crate::support::{Client, Value, eventually, seed};

fn push(what: Value) -> Value {
    Value::Push(vec![Value::bulk("invalidate"), what])
}

/// The message of RESP3 that these keys are to be forgotten.
fn forget(keys: &[&str]) -> Value {
    push(Value::Array(keys.iter().map(Value::bulk).collect()))
}

fn forget_all() -> Value {
    push(Value::Null)
}

/// Reads what must come next.
#[track_caller]
fn comes(client: &mut Client, expected: &Value) {
    assert_eq!(&client.read().value, expected);
}

/// Whatever was on its way to a client has come, and it was nothing.
#[track_caller]
fn nothing_comes(ring: &Ring, client: &mut Client) {
    // Each node answers once more, by the way that its pushes take.
    client.line("DBSIZE");
    for node in 0..ring.nodes.len() {
        ring.client(node).line("PING");
    }
    assert_eq!(client.line("PING"), Value::simple("PONG"));
}

fn tracking_client(ring: &Ring, node: usize, options: &str) -> Client {
    let mut client = ring.client_in_3(node);
    let request = format!("CLIENT TRACKING ON {options}");
    assert_eq!(client.line(request.trim_end()), Value::ok());
    client
}

/// Keys that lie on each of the nodes, so many each: those with `here` are on the first.
fn spread_keys(ring: &Ring, count: usize) -> Vec<Vec<String>> {
    let mut keys = vec![Vec::new(); ring.nodes.len()];
    // Each has its share, and keeps it.
    ring.is_balanced();
    let owners = ring.owners();
    let mut client = ring.client(0);
    for number in 0.. {
        let key = format!("key:{number}");
        let slot = client.line(&format!("CLUSTER KEYSLOT {key}")).int();
        let owner = owners(slot as u16);
        if keys[owner].len() < count {
            keys[owner].push(key);
        }
        if keys.iter().all(|keys| keys.len() == count) {
            break;
        }
    }
    keys
}

/// Aim: who has read a key, here or there, is told once of its change, whoever makes it wherever; who has not is not.
#[test]
fn changes_anywhere_are_told() {
    let ring = Ring::of(3);
    let keys = spread_keys(&ring, 1);
    for writer in 0..3 {
        let mut writer = ring.client(writer);
        for key in keys.iter().flatten() {
            let mut readers: Vec<Client> = (0..3)
                .map(|node| tracking_client(&ring, node, ""))
                .collect();
            let mut idle = tracking_client(&ring, 0, "");
            writer.line(&format!("SET {key} 1"));
            for reader in &mut readers {
                assert_eq!(reader.line(&format!("GET {key}")), Value::bulk("1"));
            }
            writer.line(&format!("SET {key} 2"));
            writer.line(&format!("SET {key} 3"));
            for reader in &mut readers {
                comes(reader, &forget(&[key]));
                nothing_comes(&ring, reader);
            }
            nothing_comes(&ring, &mut idle);
        }
    }
}

/// Aim: own changes come behind their reply, and not at all with NOLOOP; in a pipeline they are not lost.
#[test]
fn own_changes() {
    let ring = Ring::of(2);
    let keys = spread_keys(&ring, 1);
    for key in keys.iter().flatten() {
        let mut one = tracking_client(&ring, 0, "");
        one.line(&format!("GET {key}"));
        assert_eq!(one.line(&format!("SET {key} 1")), Value::ok());
        comes(&mut one, &forget(&[key]));
        let mut quiet = tracking_client(&ring, 0, "NOLOOP");
        quiet.line(&format!("GET {key}"));
        assert_eq!(quiet.line(&format!("SET {key} 2")), Value::ok());
        nothing_comes(&ring, &mut quiet);
        // The key is read again in the same batch as it is written.
        let batch = ["GET", "SET", "GET"].map(|word| match word {
            "SET" => encode(&["SET", key, "3"]),
            word => encode(&[word, key]),
        });
        quiet.send_raw(&batch.concat());
        for expected in [Value::bulk("2"), Value::ok(), Value::bulk("3")] {
            comes(&mut quiet, &expected);
        }
        ring.client(1).line(&format!("SET {key} 4"));
        comes(&mut quiet, &forget(&[key]));
    }
}

/// Aim: what a request reads at several nodes is remembered at each of them.
#[test]
fn requests_that_are_cut() {
    let ring = Ring::of(3);
    let keys = spread_keys(&ring, 2).concat();
    let all = keys.join(" ");
    let mut one = tracking_client(&ring, 0, "");
    let mut opts = tracking_client(&ring, 1, "OPTIN");
    opts.line(&format!("MGET {all}"));
    one.line(&format!("MGET {all}"));
    let mut writer = ring.client(2);
    for key in &keys {
        writer.line(&format!("SET {key} 1"));
        comes(&mut one, &forget(&[key]));
    }
    nothing_comes(&ring, &mut opts);
    assert_eq!(opts.line("CLIENT CACHING YES"), Value::ok());
    opts.line(&format!("MGET {all}"));
    opts.line(&format!("EXISTS {all}"));
    for key in &keys {
        writer.line(&format!("DEL {key}"));
        comes(&mut opts, &forget(&[key]));
    }
    // Own changes by a request that is cut come behind its reply.
    one.line(&format!("MGET {all}"));
    let pairs: Vec<String> = keys.iter().map(|key| format!("{key} 2")).collect();
    assert_eq!(one.line(&format!("MSET {}", pairs.join(" "))), Value::ok());
    let mut told: Vec<Value> = keys.iter().map(|_| one.read().value).collect();
    let mut expected: Vec<Value> = keys.iter().map(|key| forget(&[key])).collect();
    let text = |value: &Value| format!("{value:?}");
    told.sort_by_key(text);
    expected.sort_by_key(text);
    assert_eq!(told, expected);
}

/// Aim: CLIENT CACHING counts for one command, elsewhere as here, in a transaction too.
#[test]
fn options_of_single_commands() {
    let ring = Ring::of(2);
    let keys = spread_keys(&ring, 2);
    let mut writer = ring.client(1);
    for pair in &keys {
        let (key, other) = (&pair[0], &pair[1]);
        let mut one = tracking_client(&ring, 0, "OPTIN");
        one.line(&format!("GET {key}"));
        one.line("CLIENT CACHING YES");
        one.line(&format!("GET {other}"));
        one.line(&format!("GET {key}"));
        writer.line(&format!("SET {key} 1"));
        writer.line(&format!("SET {other} 1"));
        comes(&mut one, &forget(&[other]));
        one.line("CLIENT CACHING YES");
        one.line("MULTI");
        one.line(&format!("GET {key}"));
        one.line("EXEC");
        writer.line(&format!("SET {key} 2"));
        comes(&mut one, &forget(&[key]));
        let mut two = tracking_client(&ring, 0, "OPTOUT");
        two.line("CLIENT CACHING NO");
        two.line(&format!("GET {key}"));
        two.line(&format!("GET {other}"));
        writer.line(&format!("SET {key} 3"));
        writer.line(&format!("SET {other} 3"));
        comes(&mut two, &forget(&[other]));
        two.line("CLIENT TRACKING OFF");
        two.line(&format!("GET {key}"));
        writer.line(&format!("SET {key} 4"));
        nothing_comes(&ring, &mut two);
    }
}

/// Aim: who speaks RESP2 is told by another connection.
#[test]
fn redirection() {
    let ring = Ring::of(2);
    let keys = spread_keys(&ring, 1);
    let (mut one, mut ear) = (ring.client(0), ring.client(0));
    let id = ear.line("CLIENT ID").int();
    ear.line("SUBSCRIBE __redis__:invalidate");
    assert_eq!(
        one.line(&format!("CLIENT TRACKING ON REDIRECT {id}")),
        Value::ok()
    );
    let message = |what: Value| {
        let channel = ["message", "__redis__:invalidate"].map(Value::bulk);
        Value::Array([&channel[..], &[what]].concat())
    };
    for key in keys.iter().flatten() {
        one.line(&format!("GET {key}"));
        ring.client(1).line(&format!("SET {key} 1"));
        comes(&mut ear, &message(Value::Array(vec![Value::bulk(key)])));
    }
    ring.client(1).line("FLUSHALL");
    comes(&mut ear, &message(Value::NilBulk));
}

/// Aim: what nobody writes is told too: expiry, and the table's bound.
#[test]
fn keys_that_go() {
    let ring = Ring::with(2, &["--tracking-table-max-keys", "10"]);
    let keys = spread_keys(&ring, 20);
    let mut writer = ring.client(1);
    for keys in &keys {
        let mut one = tracking_client(&ring, 0, "");
        writer.line(&format!("SET {} 1 PX 500", keys[0]));
        one.line(&format!("GET {}", keys[0]));
        comes(&mut one, &forget(&[&keys[0]]));
        // Messages from elsewhere may come between any two replies.
        let (mut replies, mut told) = (0, 0);
        let reads: Vec<u8> = keys.iter().flat_map(|key| encode(&["GET", key])).collect();
        one.send_raw(&reads);
        while replies < keys.len() || told < 10 {
            match one.read().value {
                Value::Null => replies += 1,
                // A ring that has just changed may tell its clients to forget everything.
                message if message == forget_all() => told = keys.len(),
                message => {
                    let key = message.items()[1].items()[0].text();
                    assert!(keys.contains(&key), "{message:?}");
                    assert_eq!(message, forget(&[&key]));
                    told += 1;
                }
            }
        }
        // Those that are left go, too, before the next client's.
        writer.line("FLUSHALL");
        comes(&mut one, &forget_all());
    }
}

/// Aim: FLUSHALL is told once, whoever asks for it; and again when there is something new to forget.
#[test]
fn everything_goes() {
    let ring = Ring::of(3);
    let keys = spread_keys(&ring, 1).concat();
    let mut one = tracking_client(&ring, 0, "");
    let mut follower = tracking_client(&ring, 1, "BCAST PREFIX key:");
    for node in 0..3 {
        let mut flusher = ring.client(node);
        one.line(&format!("MGET {}", keys.join(" ")));
        follower.line("PING");
        assert_eq!(flusher.line("FLUSHALL"), Value::ok());
        for client in [&mut one, &mut follower] {
            comes(client, &forget_all());
        }
        eventually("nodes to have told each other", || {
            let tracked = (0..3).map(|node| {
                let mut client = ring.client(node);
                client.info_field("stats", "tracking_total_keys")
            });
            tracked.flatten().all(|keys| keys == "0").then_some(())
        });
    }
    // Own ones come behind the reply.
    assert_eq!(one.line("FLUSHDB"), Value::ok());
    comes(&mut one, &forget_all());
}

/// Aim: with BCAST all changes of keys with a prefix are told wherever they are made, at once after the client was told that
/// it tracks; not others, and with NOLOOP not its own.
#[test]
fn prefixes() {
    let ring = Ring::of(3);
    let keys = spread_keys(&ring, 1).concat();
    let mut writers: Vec<Client> = (0..3).map(|node| ring.client(node)).collect();
    for (node, writer) in writers.iter_mut().enumerate() {
        let mut one = tracking_client(&ring, node, "BCAST PREFIX key: PREFIX other:");
        let mut quiet = tracking_client(&ring, node, "BCAST NOLOOP");
        for key in &keys {
            assert_eq!(quiet.line(&format!("SET {key} 0")), Value::ok());
            comes(&mut one, &forget(&[key]));
            assert_eq!(writer.line(&format!("SET {key} 1")), Value::ok());
            comes(&mut one, &forget(&[key]));
            comes(&mut quiet, &forget(&[key]));
            writer.line(&format!("SET x{key} 1"));
            comes(&mut quiet, &forget(&[&format!("x{key}")]));
        }
        one.line("CLIENT TRACKING OFF");
        writer.line(&format!("SET {} 1", keys[0]));
        comes(&mut quiet, &forget(&[&keys[0]]));
        nothing_comes(&ring, &mut one);
    }
}

/// Aim: who has copies of keys of a node that is gone forgets everything.
#[test]
fn a_node_is_lost() {
    let mut ring = Ring::with(3, &["--cluster-node-timeout", "5000"]);
    let keys = spread_keys(&ring, 1);
    let mut one = tracking_client(&ring, 0, "");
    let mut follower = tracking_client(&ring, 0, "BCAST PREFIX key:");
    one.line(&format!("GET {}", keys[2][0]));
    // It leaves without a word.
    ring.nodes[2].signal(rustix::process::Signal::KILL);
    ring.nodes.pop();
    comes(&mut one, &forget_all());
    comes(&mut follower, &forget_all());
}

/// Aim: with clients that read and write at random at all nodes and keep what they read until they are told, no copy
/// differs from the value once all is quiet.
#[test]
fn no_copy_is_stale() {
    const KEYS: usize = 12;
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let ring = Ring::of(3);
    struct Keeper {
        client: Client,
        copies: HashMap<String, Value>,
        is_broadcast: bool,
    }
    impl Keeper {
        fn take(&mut self, message: &Value) {
            match &message.items()[1] {
                Value::Array(keys) => {
                    for key in keys {
                        self.copies.remove(&key.text());
                    }
                }
                _ => self.copies.clear(),
            }
        }

        /// The next reply; what comes before it is taken in.
        fn reply(&mut self) -> Value {
            loop {
                let value = self.client.read().value;
                match value {
                    Value::Push(_) => self.take(&value),
                    reply => return reply,
                }
            }
        }
    }
    let options = ["", "NOLOOP", "BCAST PREFIX k"];
    let mut keepers: Vec<Keeper> = (0..9)
        .map(|number| Keeper {
            client: tracking_client(&ring, number % 3, options[number / 3]),
            copies: HashMap::new(),
            is_broadcast: number / 3 == 2,
        })
        .collect();
    let mut writers: Vec<Client> = (0..3).map(|node| ring.client(node)).collect();
    for turn in 0..3000 {
        let key = format!("k{}", random.usize(..KEYS));
        let keeper = &mut keepers[random.usize(..9)];
        match random.usize(..10) {
            0..4 => {
                // Read by several in one batch.
                let keys: Vec<String> = (0..random.usize(1..4))
                    .map(|_| format!("k{}", random.usize(..KEYS)))
                    .collect();
                for key in &keys {
                    keeper.client.send(&["GET", key]);
                }
                for key in keys {
                    let value = keeper.reply();
                    keeper.copies.insert(key, value);
                }
            }
            4 => {
                let keys: Vec<String> = (0..KEYS).map(|number| format!("k{number}")).collect();
                let request: Vec<&str> = ["MGET"]
                    .into_iter()
                    .chain(keys.iter().map(String::as_str))
                    .collect();
                keeper.client.send(&request);
                let values = keeper.reply().items();
                keeper.copies.extend(keys.iter().cloned().zip(values));
            }
            5 if !keeper.is_broadcast => {
                // What it writes it knows.
                keeper.client.send(&["SET", &key, &turn.to_string()]);
                keeper.reply();
                keeper.copies.remove(&key);
            }
            6 if turn % 50 == 0 => {
                writers[random.usize(..3)].line("FLUSHALL");
            }
            7 => {
                let request = format!("SET {key} {turn} PX {}", random.usize(1..20));
                writers[random.usize(..3)].line(&request);
            }
            _ => {
                writers[random.usize(..3)].line(&format!("SET {key} {turn}"));
            }
        }
    }
    eventually("all keys with a time to be gone", || {
        let mut left = (0..KEYS).map(|number| writers[0].line(&format!("PTTL k{number}")).int());
        left.all(|left| left < 0).then_some(())
    });
    let keys: Vec<String> = (0..KEYS).map(|number| format!("k{number}")).collect();
    let values: HashMap<&String, Value> = keys
        .iter()
        .map(|key| {
            let value = writers[1].line(&format!("GET {key}"));
            (key, value)
        })
        .collect();
    for (number, keeper) in keepers.iter_mut().enumerate() {
        eventually("the copies to be those of the values", || {
            keeper.client.send(&["PING"]);
            keeper.reply();
            let stale = keeper.copies.iter().find(|(key, copy)| {
                let value = &values[key];
                copy.is_nil() != value.is_nil() || !copy.is_nil() && *copy != value
            });
            match stale {
                None => Some(()),
                Some((key, copy)) => {
                    eprintln!("seed {seed}, client {number}: {key} is {copy:?}");
                    None
                }
            }
        });
    }
}
