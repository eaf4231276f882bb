//! CLIENT TRACKING among many connections: what is told, when, and that no change is missed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::client::encode;
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::{Client, Server, Value, eventually, seed};

fn push(kind: &str, what: Value) -> Value {
    Value::Push(vec![Value::bulk(kind), what])
}

/// The message of RESP3 that these keys are to be forgotten.
fn forget(keys: &[&str]) -> Value {
    let keys = keys.iter().map(Value::bulk).collect();
    push("invalidate", Value::Array(keys))
}

fn forget_all() -> Value {
    push("invalidate", Value::Null)
}

/// All that a client is told before the answer to a PING.
fn told(client: &mut Client) -> Vec<Value> {
    client.send(&["PING"]);
    let told = std::iter::from_fn(|| {
        let value = client.read().value;
        (value != Value::simple("PONG")).then_some(value)
    });
    told.collect()
}

fn tracking_client(server: &Server, options: &str) -> Client {
    let mut client = server.client_in(3);
    let request = format!("CLIENT TRACKING ON {options}");
    assert_eq!(client.line(request.trim_end()), Value::ok());
    client
}

fn long_name(number: usize, bytes: usize) -> String {
    format!("{number}:{}", "x".repeat(bytes))
}

#[test]
fn a_change_is_told_once_to_all_who_have_read() {
    let server = Server::start(&[]);
    let mut readers: Vec<Client> = (0..5).map(|_| tracking_client(&server, "")).collect();
    let mut other = server.client();
    for reader in &mut readers[..4] {
        assert!(reader.line("GET k").is_nil());
    }
    other.line("SET k 1");
    other.line("SET k 2");
    for reader in &mut readers[..4] {
        assert_eq!(told(reader), [forget(&["k"])]);
    }
    assert_eq!(told(&mut readers[4]), []);
}

#[test]
fn redirection() {
    let server = Server::start(&[]);
    let (mut one, mut ear, mut other) = (server.client(), server.client(), server.client());
    let id = ear.line("CLIENT ID").int();
    assert_eq!(
        one.line(&format!("CLIENT TRACKING ON REDIRECT {id}")),
        Value::ok()
    );
    assert_eq!(one.line("CLIENT GETREDIR"), Value::Int(id));
    one.line("GET a");
    // Nobody hears this: the other end speaks RESP2 and is not subscribed.
    other.line("SET a 1");
    ear.line("SUBSCRIBE __redis__:invalidate");
    let message = |what: Value| {
        let channel = ["message", "__redis__:invalidate"].map(Value::bulk);
        Value::Array([&channel[..], &[what]].concat())
    };
    one.line("MGET a b");
    other.line("SET a 2");
    let key = |key: &str| message(Value::Array(vec![Value::bulk(key)]));
    assert_eq!(ear.read().value, key("a"));
    one.line("SET b 2");
    assert_eq!(ear.read().value, key("b"));
    other.line("FLUSHALL");
    assert_eq!(ear.read().value, message(Value::NilBulk));
    // In RESP3 it is a push, subscribed or not.
    ear.line("RESET");
    ear.hello(3);
    one.line("GET a");
    other.line("SET a 1");
    assert_eq!(told(&mut ear), [forget(&["a"])]);
    drop(ear);
    one.hello(3);
    let list = format!("CLIENT LIST ID {id}");
    eventually("the server to know that it has left", || {
        other.line(&list).bytes().is_empty().then_some(())
    });
    one.line("GET a");
    other.line("SET a 1");
    let broken = push("tracking-redir-broken", Value::Int(id));
    assert_eq!(told(&mut one), [broken]);
    let flags = one.line("CLIENT TRACKINGINFO").field("flags");
    let flags = flags.expect("the flags");
    assert_eq!(
        flags,
        Value::Set(["on", "broken_redirect"].map(Value::bulk).to_vec())
    );
    let info = one.line("CLIENT INFO").text();
    assert!(
        info.contains(" flags=tR ") && info.contains(&format!(" redir={id} ")),
        "{info}"
    );
}

#[test]
fn prefixes_and_batches() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let server = Server::start(&[]);
    let mut some = tracking_client(&server, "BCAST PREFIX user: PREFIX item:");
    let mut all = tracking_client(&server, "BCAST NOLOOP");
    let mut other = server.client();
    let info = some.line("CLIENT INFO").text();
    assert!(
        info.contains(" flags=tB ") && info.contains(" redir=0 "),
        "{info}"
    );
    // Nothing that BCAST tells has to be read first.
    other.line("MSET user:2 x user:1 x thing:1 x item:1 x user:2 y");
    assert_eq!(
        told(&mut some),
        [forget(&["item:1"]), forget(&["user:1", "user:2"])]
    );
    assert_eq!(
        told(&mut all),
        [forget(&["item:1", "thing:1", "user:1", "user:2"])]
    );
    all.line("SET user:1 own");
    assert_eq!(told(&mut some), [forget(&["user:1"])]);
    assert_eq!(told(&mut all), []);
    assert_eq!(
        other
            .info_field("stats", "tracking_total_prefixes")
            .as_deref(),
        Some("3")
    );
    some.line("CLIENT TRACKING OFF");
    other.line("SET user:1 x");
    assert_eq!(told(&mut some), []);
    drop(all);
    eventually("the prefixes of who has left are gone", || {
        let prefixes = other.info_field("stats", "tracking_total_prefixes");
        (prefixes.as_deref() == Some("0")).then_some(())
    });
}

#[test]
fn what_was_changed_before_a_pause_is_told_before_it() {
    let server = Server::start(&[]);
    let mut all = tracking_client(&server, "BCAST");
    let (mut other, mut judge) = (server.client(), server.client());
    let requests = [
        encode(&["SET", "k", "1"]),
        encode(&["CLIENT", "PAUSE", "100000", "WRITE"]),
        encode(&["SET", "k", "2"]),
    ];
    other.send_raw(&requests.concat());
    assert_eq!(all.read().value, forget(&["k"]));
    // The requests may have been run in two batches: the pause may begin only now.
    eventually("the second change waits", || {
        let list = judge.line("CLIENT LIST").text();
        list.contains(" flags=b ").then_some(())
    });
    all.line("CLIENT UNPAUSE");
    assert_eq!(all.read().value, forget(&["k"]));
}

#[test]
fn expired_keys_and_fields() {
    let server = Server::start(&[]);
    let mut one = tracking_client(&server, "");
    let mut all = tracking_client(&server, "BCAST NOLOOP");
    let mut other = server.client();
    other.line("SET k 1 PX 1000");
    other.line("HSET h f 1 g 1");
    other.line("HPEXPIRE h 1000 FIELDS 1 f");
    one.line("MGET k h");
    // Nobody touches them.
    let mut keys: Vec<String> = (0..2)
        .map(|_| one.read().value.items()[1].items()[0].text())
        .collect();
    keys.sort();
    assert_eq!(keys, ["h", "k"]);
    let mut keys = Vec::new();
    while keys.len() < 5 {
        let message = all.read().value.items()[1].items();
        keys.extend(message.iter().map(Value::text));
    }
    keys.sort();
    assert_eq!(keys, ["h", "h", "h", "k", "k"]);
    // Who finds a key expired is told, too, and remembered as a reader of what is there now.
    other.line("DEBUG SET-ACTIVE-EXPIRE 0");
    other.line("SET k 1 PX 1");
    one.line("GET k");
    eventually("it is expired", || {
        one.send(&["GET", "k"]);
        let mut value = one.read().value;
        let mut pushes = Vec::new();
        while let Value::Push(_) = value {
            pushes.push(value);
            value = one.read().value;
        }
        value.is_nil().then_some(())
    });
    other.line("SET k 1");
    let told = told(&mut one);
    assert_eq!(told.last(), Some(&forget(&["k"])), "{told:?}");
}

#[test]
fn evicted_keys() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (tracking_client(&server, "NOLOOP"), server.client());
    other.line("SET k 1");
    other.line("SET l 1");
    one.line("MGET k l");
    other.line("CONFIG SET maxmemory-policy allkeys-random");
    other.line("CONFIG SET maxmemory 1");
    let mut keys: Vec<String> = (0..2)
        .map(|_| one.read().value.items()[1].items()[0].text())
        .collect();
    keys.sort();
    assert_eq!(keys, ["k", "l"]);
}

#[test]
fn keys_that_go_to_another_server() {
    let (server, target) = (Server::start(&[]), Server::start(&[]));
    let (mut one, mut other) = (tracking_client(&server, ""), server.client());
    other.line("MSET k 1 l 1");
    one.line("MGET k l none");
    let migrate = format!(
        "MIGRATE 127.0.0.1 {} \"\" 0 10000 KEYS k l none",
        target.port
    );
    assert_eq!(other.line(&migrate), Value::ok());
    assert_eq!(told(&mut one), [forget(&["k"]), forget(&["l"])]);
    // What comes there was not there before.
    let mut there = tracking_client(&target, "");
    there.line("MGET k none");
    other.line("SET none 1");
    let migrate = format!("MIGRATE 127.0.0.1 {} none 0 10000", target.port);
    assert_eq!(other.line(&migrate), Value::ok());
    assert_eq!(told(&mut there), [forget(&["none"])]);
}

#[test]
fn flushes() {
    if ring_differs(RingDiffers::AllNodes) {
        return;
    }
    let server = Server::start(&[]);
    let mut clients =
        ["", "OPTIN", "BCAST PREFIX x", "NOLOOP"].map(|options| tracking_client(&server, options));
    let mut other = server.client();
    for request in ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC"] {
        other.line(request);
        for client in &mut clients {
            assert_eq!(told(client), [forget_all()]);
        }
    }
    let own = &mut clients[3];
    for request in ["MULTI", "GET a", "FLUSHALL", "GET b"] {
        own.line(request);
    }
    assert_eq!(own.line("EXEC").items().len(), 3);
    assert_eq!(told(own), [forget_all()]);
    // What was read behind the flush is remembered.
    other.line("MSET a 1 b 1");
    assert_eq!(told(own), [forget(&["b"])]);
    // A SWAPDB is not told, as in Redis.
    other.line("SWAPDB 0 1");
    assert_eq!(told(own), []);
}

#[test]
fn the_table_is_bounded() {
    if ring_differs(RingDiffers::Readers) {
        return;
    }
    let server = Server::start(&["--tracking-table-max-keys", "100"]);
    // That its own reads drive its keys out is told with NOLOOP, too: others may change them then.
    let (mut one, mut other) = (tracking_client(&server, "NOLOOP"), server.client());
    let keys = |other: &mut Client| other.info_field("stats", "tracking_total_keys");
    let mut forgotten = Vec::new();
    for number in 0..1000 {
        one.send(&["GET", &format!("key:{number}")]);
        while let Value::Push(items) = one.read().value {
            forgotten.push(items[1].items()[0].text());
        }
    }
    let messages = told(&mut one);
    forgotten.extend(
        messages
            .iter()
            .map(|message| message.items()[1].items()[0].text()),
    );
    assert_eq!(forgotten.len(), 900);
    forgotten.sort();
    forgotten.dedup();
    assert_eq!(forgotten.len(), 900);
    assert_eq!(keys(&mut other).as_deref(), Some("100"));
    let items = other.info_field("stats", "tracking_total_items");
    assert_eq!(items.as_deref(), Some("100"));
    // A lower bound is reached although nobody reads.
    other.line("CONFIG SET tracking-table-max-keys 10");
    eventually("the bound is reached", || {
        (keys(&mut other).as_deref() == Some("10")).then_some(())
    });
    assert_eq!(told(&mut one).len(), 90);
    drop(one);
    eventually("nothing is remembered for those who have left", || {
        (keys(&mut other).as_deref() == Some("0")).then_some(())
    });
}

/// Names of half a megabyte: the bound in bytes holds where that of keys does not.
#[test]
fn the_table_is_bounded_in_bytes() {
    if ring_differs(RingDiffers::Readers) {
        return;
    }
    let server = Server::start(&["--tracking-table-max-keys", "10000"]);
    let (mut one, mut other) = (tracking_client(&server, ""), server.client());
    for number in 0..40 {
        one.send(&["GET", &long_name(number, 500_000)]);
        while let Value::Push(_) = one.read().value {}
    }
    let keys = other.info_field("stats", "tracking_total_keys");
    assert_eq!(keys.as_deref(), Some("7"));
}

#[test]
fn what_others_see() {
    if ring_differs(RingDiffers::Readers) {
        return;
    }
    let server = Server::start(&[]);
    let (mut one, mut other) = (tracking_client(&server, ""), server.client());
    let count = |other: &mut Client| {
        let count = other.info_field("clients", "tracking_clients");
        count.expect("INFO has it")
    };
    one.line("MGET a b c");
    let mut two = tracking_client(&server, "");
    two.line("MGET a b");
    assert_eq!(count(&mut other), "2");
    for (field, expected) in [("tracking_total_keys", "3"), ("tracking_total_items", "5")] {
        let found = other.info_field("stats", field);
        assert_eq!(found.as_deref(), Some(expected), "{field}");
    }
    let info = one.line("CLIENT INFO").text();
    assert!(
        info.contains(" flags=t ") && info.contains(" redir=0 "),
        "{info}"
    );
    two.line("RESET");
    assert_eq!(count(&mut other), "1");
    one.line("CLIENT TRACKING OFF");
    assert_eq!(count(&mut other), "0");
    let info = one.line("CLIENT INFO").text();
    assert!(
        info.contains(" flags=N ") && info.contains(" redir=-1 "),
        "{info}"
    );
    other.line("SET a 1");
    assert_eq!(told(&mut one), []);
}

#[test]
fn reads_of_blocked_clients() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let server = Server::start(&[]);
    let (mut one, mut other) = (tracking_client(&server, ""), server.client());
    let blocked = |other: &mut Client| {
        eventually("it waits", || {
            (other.info_field("clients", "blocked_clients")? == "1").then_some(())
        });
    };
    one.send(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]);
    blocked(&mut other);
    other.line("XADD s 1-1 f v");
    // It was told of the change that serves it, before or after the reply.
    let (mut replies, mut pushes) = (0, 0);
    while replies + pushes < 2 {
        match one.read().value {
            Value::Push(_) => pushes += 1,
            _ => replies += 1,
        }
    }
    assert_eq!((replies, pushes), (1, 1));
    // What it was given is a read, too.
    other.line("XADD s 1-2 f v");
    assert_eq!(told(&mut one), [forget(&["s"])]);
    // Messages come while it waits.
    one.line("GET k");
    one.send(&["BLPOP", "l", "0"]);
    blocked(&mut other);
    other.line("SET k 1");
    assert_eq!(one.read().value, forget(&["k"]));
    other.line("RPUSH l x");
    assert_eq!(
        one.read().value,
        Value::Array(["l", "x"].map(Value::bulk).to_vec())
    );
}

/// Found by reading: the reply of a blocked command was cut off at a place that had been sent meanwhile, and the connection
/// ended with a panic.
#[test]
fn messages_to_a_blocked_client_whose_replies_are_off() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (tracking_client(&server, ""), server.client());
    one.line("GET k");
    one.send(&["CLIENT", "REPLY", "OFF"]);
    one.send(&["BLPOP", "l", "0"]);
    eventually("it waits", || {
        (other.info_field("clients", "blocked_clients")? == "1").then_some(())
    });
    other.line("SET k 1");
    assert_eq!(one.read().value, forget(&["k"]));
    other.line("RPUSH l x");
    one.send(&["CLIENT", "REPLY", "ON"]);
    assert_eq!(one.read().value, Value::ok());
    assert_eq!(told(&mut one), []);
}

/// Who does not read is not told without end: at the end it is told to forget everything.
#[test]
fn who_does_not_read_is_told_to_forget_everything() {
    if ring_differs(RingDiffers::Readers) {
        return;
    }
    let mut server = Server::start(&[]);
    let (mut slow, mut other) = (tracking_client(&server, "BCAST"), server.client());
    const KEY_BYTES: usize = 1024 * 1024;
    for number in 0..200 {
        other.run(&["SET", &long_name(number, KEY_BYTES), "x"]);
    }
    let list = other.line("CLIENT LIST").text();
    let pending: usize = list
        .lines()
        .find(|line| line.contains(" flags=tB "))
        .and_then(|line| line.split(" omem=").nth(1)?.split(' ').next()?.parse().ok())
        .expect("the length of its output");
    assert!(pending < 68 * KEY_BYTES, "{pending} bytes are held for it");
    let mut keys = 0;
    loop {
        let message = slow.read().value;
        if message == forget_all() {
            break;
        }
        keys += message.items()[1].items().len();
    }
    assert!((60..200).contains(&keys), "{keys} keys were told of");
    // From here on it is told again.
    other.line("SET k 1");
    assert_eq!(told(&mut slow), [forget(&["k"])]);
    server.assert_well();
}

#[test]
fn who_does_not_read_is_closed_where_a_limit_says_so() {
    let server = Server::start(&["--client-output-buffer-limit", "normal", "1mb", "0", "0"]);
    let (slow, mut other) = (tracking_client(&server, "BCAST"), server.client());
    let key = "x".repeat(100_000);
    eventually("it is closed", || {
        for _ in 0..100 {
            other.run(&["SET", &key, "x"]);
        }
        let clients = other.info_field("clients", "tracking_clients")?;
        (clients == "0").then_some(())
    });
    drop(slow);
    let field = "client_output_buffer_limit_disconnections";
    assert_eq!(other.info_field("stats", field).as_deref(), Some("1"));
}

/// A client with its own copies of values, as libraries keep them.
struct Cache {
    client: Client,
    copies: HashMap<String, Value>,
    /// How many copies were ever kept.
    kept: usize,
    before: Option<&'static str>,
}

impl Cache {
    fn new(server: &Server, options: &str) -> Cache {
        Cache {
            client: tracking_client(server, options),
            copies: HashMap::new(),
            kept: 0,
            before: options.contains("OPTIN").then_some("CLIENT CACHING YES"),
        }
    }

    fn forget(&mut self, push: &Value) {
        match &push.items()[1] {
            Value::Null => self.copies.clear(),
            keys => keys
                .items()
                .iter()
                .for_each(|key| drop(self.copies.remove(&key.text()))),
        }
    }

    /// The next reply; what is to be forgotten before it is forgotten.
    fn reply(&mut self) -> Value {
        loop {
            match self.client.read().value {
                push @ Value::Push(_) => self.forget(&push),
                reply => return reply,
            }
        }
    }

    /// Reads these keys in one pipeline, but for those of which there are copies.
    fn read(&mut self, keys: &[String]) {
        let missing: Vec<&String> = keys
            .iter()
            .filter(|key| !self.copies.contains_key(*key))
            .collect();
        let mut pipeline = Vec::new();
        for key in &missing {
            if let Some(before) = self.before {
                let words: Vec<&str> = before.split(' ').collect();
                pipeline.extend(crate::support::client::encode(&words));
            }
            pipeline.extend(crate::support::client::encode(&["GET", key]));
        }
        self.client.send_raw(&pipeline);
        for key in missing {
            if self.before.is_some() {
                assert_eq!(self.reply(), Value::ok());
            }
            let value = self.reply();
            self.copies.insert(key.clone(), value);
            self.kept += 1;
        }
    }

    fn fence(&mut self) {
        self.client.send(&["PING"]);
        assert_eq!(self.reply(), Value::simple("PONG"));
    }
}

/// While others write, and delete, and run transactions, readers keep copies; whenever all writers have their replies and the
/// readers have read what was sent to them, every copy is what the server has.
#[test]
fn no_change_is_missed() {
    const ROUNDS: usize = 25;
    const WRITES: usize = 60;
    const KEYS: u8 = 6;
    let server = Server::start(&["--maxmemory", "0"]);
    let seed = seed();
    let key = |number: u8| format!("k{number}");
    let all: Vec<String> = (0..KEYS).map(key).collect();
    let options = ["", "NOLOOP", "OPTIN", "BCAST", "BCAST PREFIX k", ""];
    let mut caches: Vec<Cache> = options
        .iter()
        .map(|options| Cache::new(&server, options))
        .collect();
    let mut writers: Vec<Client> = (0..3).map(|_| server.client()).collect();
    let mut judge = server.client();
    // What the background removes is told at a moment of its own: here whoever asks removes it.
    judge.line("DEBUG SET-ACTIVE-EXPIRE 0");
    for round in 0..ROUNDS {
        let writing = AtomicUsize::new(writers.len());
        thread::scope(|scope| {
            for (writer, number) in writers.iter_mut().zip(0u64..) {
                let (writing, seed) = (&writing, seed.wrapping_add(round as u64 * 100 + number));
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    for _ in 0..WRITES {
                        let key = key(rng.u8(0..KEYS));
                        let lines = match rng.u8(0..8) {
                            0 => vec![format!("DEL {key}")],
                            1 => vec![
                                "MULTI".to_owned(),
                                format!("SET {key} 5"),
                                format!("INCR {key}"),
                                "EXEC".to_owned(),
                            ],
                            2 => vec![format!("SET {key} 7 PX {}", rng.u8(1..4))],
                            3 => vec![format!("RENAME {key} k0")],
                            4 => vec![format!("INCR {key}"), format!("INCR {key}")],
                            _ => vec![format!("INCR {key}")],
                        };
                        lines.iter().for_each(|line| writer.send(&words(line)));
                        lines.iter().for_each(|_| drop(writer.read()));
                    }
                    writing.fetch_sub(1, Ordering::SeqCst);
                });
            }
            for (cache, number) in caches.iter_mut().zip(10u64..) {
                let (all, writing) = (&all, &writing);
                let seed = seed.wrapping_add(round as u64 * 100 + number);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    while writing.load(Ordering::SeqCst) > 0 {
                        let from = rng.usize(..all.len());
                        cache.read(&all[from..rng.usize(from..all.len()) + 1]);
                    }
                });
            }
        });
        // What is to expire expires: it is no change that somebody waits for the reply of.
        for key in &all {
            judge.line(&format!("PERSIST {key}"));
        }
        let truth: HashMap<&String, Value> = all
            .iter()
            .map(|key| (key, judge.line(&format!("GET {key}"))))
            .collect();
        for (number, cache) in caches.iter_mut().enumerate() {
            cache.fence();
            for (key, copy) in &cache.copies {
                let real = &truth[key];
                let same = copy.is_nil() && real.is_nil() || copy == real;
                assert!(
                    same,
                    "seed {seed} round {round}: reader {number} has {copy:?} of {key}, which is {real:?}"
                );
            }
        }
    }
    let kept: Vec<usize> = caches.iter().map(|cache| cache.kept).collect();
    assert!(
        kept.iter().all(|kept| *kept > 0),
        "every reader has kept copies, so that there was something to miss: {kept:?}"
    );
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
