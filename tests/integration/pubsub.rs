//! Messages and keyspace events among many connections.

use std::thread;

use crate::support::{Server, Value, eventually};

fn message(channel: &str, text: &str) -> Value {
    Value::Push(["message", channel, text].map(Value::bulk).to_vec())
}

#[test]
fn every_subscriber_sees_one_order() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 500;
    let server = Server::start(&[]);
    let mut subscribers: Vec<_> = (0..4).map(|_| server.client_in(3)).collect();
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        // A pattern's messages stand in the order of the channel too.
        match number % 2 {
            0 => subscriber.line("SUBSCRIBE c"),
            _ => subscriber.line("PSUBSCRIBE c*"),
        };
    }
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let mut client = server.client();
            scope.spawn(move || {
                for number in 0..EACH {
                    let sent = client.line(&format!("PUBLISH c {publisher}:{number}"));
                    assert_eq!(sent, Value::Int(4));
                }
            });
        }
    });
    let orders: Vec<Vec<String>> = subscribers
        .iter_mut()
        .map(|subscriber| {
            let read = |_| {
                subscriber
                    .read()
                    .value
                    .items()
                    .pop()
                    .expect("a text")
                    .text()
            };
            (0..PUBLISHERS * EACH).map(read).collect()
        })
        .collect();
    for order in &orders {
        assert!(order == &orders[0], "two subscribers saw different orders");
    }
    for publisher in 0..PUBLISHERS {
        let own = format!("{publisher}:");
        let seen: Vec<&String> = orders[0]
            .iter()
            .filter(|text| text.starts_with(&own))
            .collect();
        let sent: Vec<String> = (0..EACH).map(|number| format!("{own}{number}")).collect();
        assert!(seen.into_iter().eq(&sent), "not in the order of PUBLISH");
    }
}

/// Whatever a client is told of a channel stands between the confirmations of its subscription, in every pipeline.
#[test]
fn nothing_comes_after_the_end_of_a_subscription() {
    let server = Server::start(&[]);
    thread::scope(|scope| {
        let mut publisher = server.client();
        let mut subscriber = server.client_in(3);
        scope.spawn(move || {
            for number in 0..3000 {
                publisher.line(&format!("PUBLISH c {number}"));
            }
        });
        for _ in 0..300 {
            subscriber.send(&["SUBSCRIBE", "c"]);
            subscriber.send(&["PING"]);
            subscriber.send(&["UNSUBSCRIBE", "c"]);
            subscriber.send(&["ECHO", "end"]);
            let mut kinds = Vec::new();
            loop {
                match subscriber.read().value {
                    Value::Push(items) => kinds.push(items[0].text()),
                    Value::Bulk(_) => break,
                    pong => assert_eq!(pong, Value::simple("PONG")),
                }
            }
            assert_eq!(kinds.first().map(String::as_str), Some("subscribe"));
            assert_eq!(kinds.last().map(String::as_str), Some("unsubscribe"));
            let between = &kinds[1..kinds.len() - 1];
            assert!(between.iter().all(|kind| kind == "message"), "{kinds:?}");
        }
    });
}

#[test]
fn messages_come_while_a_client_waits_and_replies_are_off() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.client_in(3), server.client());
    one.line("SUBSCRIBE c");
    one.send(&["BLPOP", "k", "0"]);
    eventually("it waits", || {
        (other.info_field("clients", "blocked_clients")? == "1").then_some(())
    });
    assert_eq!(other.line("PUBLISH c x"), Value::Int(1));
    assert_eq!(one.read().value, message("c", "x"));
    other.line("RPUSH k v");
    assert_eq!(
        one.read().value,
        Value::Array(vec![Value::bulk("k"), Value::bulk("v")])
    );
    one.send(&["CLIENT", "REPLY", "OFF"]);
    one.send(&["GET", "k"]);
    one.send(&["SUBSCRIBE", "d"]);
    one.send(&["PUBLISH", "d", "own"]);
    one.send(&["UNSUBSCRIBE", "d"]);
    one.send(&["CLIENT", "REPLY", "ON"]);
    assert_eq!(one.read().value.items()[0], Value::bulk("subscribe"));
    assert_eq!(one.read().value, message("d", "own"));
    assert_eq!(one.read().value.items()[0], Value::bulk("unsubscribe"));
    assert_eq!(one.read().value, Value::ok());
}

/// Found by design: a message that waits in the outbox was made for the protocol before.
#[test]
fn messages_are_in_the_protocol_of_their_time() {
    let server = Server::start(&[]);
    let mut one = server.client_in(3);
    one.line("SUBSCRIBE c");
    let mut pipeline = Vec::new();
    for request in [
        &["PUBLISH", "c", "x"][..],
        &["HELLO", "2"],
        &["PUBLISH", "c", "y"],
    ] {
        pipeline.extend(crate::support::client::encode(request));
    }
    one.send_raw(&pipeline);
    assert_eq!(one.read().value, message("c", "x"));
    assert_eq!(one.read().value, Value::Int(1));
    assert_eq!(one.read().value.items().len(), 14);
    let refusal = one.read().value;
    assert!(
        refusal.text().starts_with("ERR Can't execute 'publish'"),
        "{refusal:?}"
    );
    let mut other = server.client();
    assert_eq!(other.line("PUBLISH c z"), Value::Int(1));
    let expected = ["message", "c", "z"].map(Value::bulk).to_vec();
    assert_eq!(one.read().value, Value::Array(expected));
}

#[test]
fn a_subscriber_that_does_not_read_is_dropped() {
    let server = Server::start(&["--client-output-buffer-limit", "pubsub", "1mb", "0", "0"]);
    let (mut slow, mut good, mut publisher) = (server.client(), server.client(), server.client());
    slow.line("SUBSCRIBE c");
    good.line("SUBSCRIBE c");
    publisher.line("CONFIG RESETSTAT");
    let payload = "x".repeat(100_000);
    let mut sent = 0;
    eventually("the slow one is dropped", || {
        let subscribers = publisher.run(&["PUBLISH", "c", &payload]).int();
        sent += 1;
        let read = good.read().value.items();
        assert_eq!(read[2].bytes().len(), payload.len());
        (subscribers == 1).then_some(())
    });
    let field = "client_output_buffer_limit_disconnections";
    assert_eq!(publisher.info_field("stats", field).as_deref(), Some("1"));
    assert!(sent >= 10, "{sent} messages are within the limit");
    eventually("a line of the log", || {
        let is_told = server.log().contains("over client-output-buffer-limit");
        is_told.then_some(())
    });
    assert_eq!(publisher.line("PUBSUB NUMSUB c").items()[1], Value::Int(1));
}

#[test]
fn the_soft_limit_drops_after_its_time() {
    let server = Server::start(&["--client-output-buffer-limit", "pubsub", "0", "1mb", "1"]);
    let (mut slow, mut publisher) = (server.client(), server.client());
    slow.line("SUBSCRIBE c");
    let payload = "x".repeat(1_000_000);
    // More than the socket's buffers take, then nothing: time alone ends it.
    for _ in 0..30 {
        publisher.run(&["PUBLISH", "c", &payload]);
    }
    eventually("the slow one is dropped", || {
        (publisher.line("PUBLISH c x") == Value::Int(0)).then_some(())
    });
}

#[test]
fn keys_that_nobody_touches_tell_that_they_expired() {
    let server = Server::start(&["--notify-keyspace-events", "Ex"]);
    let (mut one, mut other) = (server.client_in(3), server.client());
    one.line("PSUBSCRIBE __key*");
    other.line("SET short 1 PX 1");
    other.line("SET long 1 EX 100");
    other.line("HSET h f 1 g 1");
    other.line("HPEXPIRE h 1 FIELDS 1 f");
    let items = one.read().value.items();
    assert_eq!(
        items[2..],
        ["__keyevent@0__:expired", "short"].map(Value::bulk)
    );
    assert_eq!(
        other.line("CONFIG SET notify-keyspace-events Kh"),
        Value::ok()
    );
    other.line("HSET h f 1");
    let mut expected = vec!["hset", "hexpire", "hexpired"].into_iter();
    other.line("HPEXPIRE h 1 FIELDS 1 f");
    let mut next = || one.read().value.items()[3].text();
    let mut seen = next();
    // The field of before may expire only now.
    if seen == "hexpired" {
        seen = next();
    }
    assert_eq!(Some(seen.as_str()), expected.next());
    assert_eq!(Some(next().as_str()), expected.next());
    assert_eq!(Some(next().as_str()), expected.next());
}

#[test]
fn evicted_keys_are_told() {
    let server = Server::start(&["--notify-keyspace-events", "Ee"]);
    let (mut one, mut other) = (server.client_in(3), server.client());
    one.line("PSUBSCRIBE __key*");
    other.line("CONFIG SET maxmemory-policy allkeys-random");
    other.line("SET k 1");
    other.line("CONFIG SET maxmemory 1");
    let items = one.read().value.items();
    assert_eq!(items[2..], ["__keyevent@0__:evicted", "k"].map(Value::bulk));
}

#[test]
fn what_others_see_of_a_subscriber() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.client(), server.client());
    one.send(&["SUBSCRIBE", "a", "b"]);
    one.send(&["PSUBSCRIBE", "p*"]);
    one.send(&["SSUBSCRIBE", "s"]);
    for _ in 0..4 {
        one.read();
    }
    let list = other.line("CLIENT LIST TYPE pubsub").text();
    assert!(
        list.contains(" flags=P db=0 sub=2 psub=1 ssub=1 "),
        "{list}"
    );
    for (field, expected) in [
        ("pubsub_channels", "2"),
        ("pubsub_patterns", "1"),
        ("pubsubshard_channels", "1"),
    ] {
        assert_eq!(
            other.info_field("stats", field).as_deref(),
            Some(expected),
            "{field}"
        );
    }
    assert_eq!(
        other.info_field("clients", "pubsub_clients").as_deref(),
        Some("1")
    );
    one.line("RESET");
    assert_eq!(other.line("CLIENT LIST TYPE pubsub").text(), "");
    assert_eq!(
        other.info_field("clients", "pubsub_clients").as_deref(),
        Some("0")
    );
    assert_eq!(
        other.info_field("stats", "pubsub_patterns").as_deref(),
        Some("0")
    );
}
