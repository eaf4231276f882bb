//! Messages, keyspace events and their counts over the nodes of a ring.

use std::thread;

use crate::nodes::Ring;
use crate::support::{Client, Value, eventually};

fn message(channel: &str, text: &str) -> Value {
    Value::Push(["message", channel, text].map(Value::bulk).to_vec())
}

/// Sends a request without a wait, and reads what comes next.
fn said(client: &mut Client, line: &str) -> Value {
    let words: Vec<&str> = line.split(' ').collect();
    client.send(&words);
    client.read().value
}

/// Aim: from its confirmation on a subscription gets what is published at any node; the count is that of all.
#[test]
fn a_message_reaches_subscribers_of_all_nodes() {
    let ring = Ring::of(3);
    let mut subscribers: Vec<Client> = (0..3).map(|node| ring.client_in_3(node)).collect();
    let mut publishers: Vec<Client> = (0..3).map(|node| ring.client(node)).collect();
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        said(subscriber, "SUBSCRIBE news");
        for publisher in &mut publishers {
            assert_eq!(
                publisher.line("PUBLISH news x"),
                Value::Int(number as i64 + 1)
            );
        }
    }
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        for _ in 0..3 * (3 - number) {
            assert_eq!(subscriber.read().value, message("news", "x"));
        }
    }
    assert_eq!(publishers[0].line("PUBLISH other x"), Value::Int(0));
    // Patterns, and channels of shards.
    said(&mut subscribers[0], "PSUBSCRIBE n*");
    said(&mut subscribers[1], "SSUBSCRIBE news");
    assert_eq!(publishers[2].line("PUBLISH news y"), Value::Int(4));
    assert_eq!(publishers[2].line("SPUBLISH news s"), Value::Int(1));
    for publisher in &mut publishers {
        assert_eq!(
            publisher.shown("PUBSUB NUMSUB news none"),
            r#"["news", :3, "none", :0]"#
        );
        assert_eq!(publisher.line("PUBSUB NUMPAT"), Value::Int(1));
        assert_eq!(
            publisher.line("PUBSUB CHANNELS"),
            Value::Array(vec![Value::bulk("news")])
        );
    }
}

/// Aim: what one client publishes to a channel comes in its order, at every node.
#[test]
fn the_order_of_a_publisher_is_kept() {
    const EACH: usize = 2000;
    let ring = Ring::of(2);
    let mut subscriber = ring.client_in_3(1);
    said(&mut subscriber, "SUBSCRIBE c");
    thread::scope(|scope| {
        for publisher in 0..2 {
            let mut client = ring.client(0);
            scope.spawn(move || {
                let requests =
                    (0..EACH).map(|number| format!("PUBLISH c {publisher}:{number}\r\n"));
                client.send_raw(requests.collect::<String>().as_bytes());
                for _ in 0..EACH {
                    assert_eq!(client.read().value, Value::Int(1));
                }
            });
        }
        let mut next = [0; 2];
        for _ in 0..2 * EACH {
            let text = subscriber.read().value.items()[2].text();
            let (publisher, number) = text.split_once(':').expect("as it was sent");
            let publisher: usize = publisher.parse().expect("a number");
            assert_eq!(number, next[publisher].to_string());
            next[publisher] += 1;
        }
    });
}

/// Aim: a node that comes later is told of the subscriptions that are there, and tells of its own; those of one that is
/// gone do not count.
#[test]
fn nodes_come_and_go() {
    let mut ring = Ring::of(2);
    let mut early = ring.client_in_3(1);
    said(&mut early, "SUBSCRIBE c");
    ring.add(&[]);
    let mut late = ring.client_in_3(2);
    said(&mut late, "SUBSCRIBE c");
    for node in 0..3 {
        let mut publisher = ring.client(node);
        eventually("all to know of each other", || {
            (publisher.line("PUBLISH warm-up x") == Value::Int(0)).then_some(())?;
            (publisher.line("PUBLISH c x") == Value::Int(2)).then_some(())
        });
    }
    ring.nodes.pop();
    let mut publisher = ring.client(0);
    eventually("the node to be gone", || {
        (publisher.line("PUBLISH c x") == Value::Int(1)).then_some(())
    });
}

/// Aim: what happens to a key is told by the node that has it, at every node.
#[test]
fn keyspace_events_reach_all_nodes() {
    let ring = Ring::with(2, &["--notify-keyspace-events", "KEA"]);
    let mut subscribers: Vec<Client> = (0..2).map(|node| ring.client_in_3(node)).collect();
    for subscriber in &mut subscribers {
        said(subscriber, "SUBSCRIBE __keyspace@0__:k __keyevent@0__:del");
        subscriber.read();
    }
    for node in 0..2 {
        let mut client = ring.client(node);
        assert_eq!(client.line("SET k v"), Value::ok());
        assert_eq!(client.line("DEL k"), Value::Int(1));
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.read().value, message("__keyspace@0__:k", "set"));
            assert_eq!(subscriber.read().value, message("__keyspace@0__:k", "del"));
            assert_eq!(subscriber.read().value, message("__keyevent@0__:del", "k"));
        }
    }
}
