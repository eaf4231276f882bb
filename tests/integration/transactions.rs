//! Transactions among many connections.

use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::{Client, Server, Value, eventually};

/// The reply of EXEC when a watched key was changed.
const ABORTED: Value = Value::NilArray;

#[test]
fn watch_sees_every_kind_of_change_by_others() {
    if ring_differs(RingDiffers::Swaps) {
        return;
    }
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.client(), server.client());
    let changes = [
        "SET k 2",
        "APPEND k x",
        "SETRANGE k 0 z",
        "SETBIT k 0 1",
        "DEL k",
        "UNLINK k",
        "EXPIRE k 100",
        "PERSIST t",
        "RENAME k z",
        "RENAME z k",
        "COPY z k REPLACE",
        "MOVE k 1",
        "MSET z 1 k 2",
        "GETDEL k",
        "GETEX k EX 10",
        "PEXPIREAT k 1",
        "FLUSHDB",
        "SWAPDB 0 1",
        "SADD s 2",
        "SREM s 1",
        "SMOVE s other 1",
        "SINTERSTORE s s s",
    ];
    for change in changes {
        assert_eq!(one.line("FLUSHALL"), Value::ok());
        assert_eq!(one.line("MSET k 1 z 1"), Value::ok());
        assert_eq!(one.line("SET t 1 EX 100"), Value::ok());
        assert_eq!(one.line("SADD s 1"), Value::Int(1));
        assert_eq!(one.line("WATCH k t s"), Value::ok());
        other.line(change);
        assert_eq!(one.line("MULTI"), Value::ok());
        one.line("SET done 1");
        assert_eq!(one.line("EXEC"), ABORTED, "{change}");
        assert_eq!(one.line("EXISTS done"), Value::Int(0));
    }
}

/// Found by reading: a command that changes nothing made those before it in the same transaction forgotten.
#[test]
fn watch_sees_what_a_transaction_changes_before_it_reads() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.client(), server.client());
    one.line("WATCH k");
    for request in ["MULTI", "SET k 1", "GET other", "DEL none", "EXEC"] {
        other.line(request);
    }
    one.line("MULTI");
    one.line("SET done 1");
    assert_eq!(one.line("EXEC"), Value::NilArray);
}

#[test]
fn watch_sees_nothing_else() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.client(), server.client());
    // So many that every partition has some.
    let noise: Vec<String> = (0..3000).map(|number| format!("noise:{number}")).collect();
    for change in [
        "GET k",
        "SADD s 1",
        "SREM s none",
        "EXPIRE none 10",
        "SETNX k 2",
    ] {
        one.line("FLUSHALL");
        one.line("SET k 1");
        one.line("SADD s 1");
        one.line("WATCH k s none");
        other.line(change);
        for key in &noise {
            other.run(&["SET", key, "v"]);
        }
        assert_eq!(other.line("SELECT 1"), Value::ok());
        other.line("SET k 2");
        other.line("SELECT 0");
        one.line("MULTI");
        one.line("SET done 1");
        assert_eq!(
            one.line("EXEC"),
            Value::Array(vec![Value::ok()]),
            "{change}"
        );
    }
}

/// A key that expires between WATCH and EXEC was changed; one whose time was over before WATCH was not.
#[test]
fn watch_and_expiry() {
    let server = Server::start(&[]);
    let mut one = server.client();
    one.line("DEBUG SET-ACTIVE-EXPIRE 0");
    one.line("SET k v PX 1");
    eventually("the key expires", || {
        (one.line("PTTL k") == Value::Int(-2)).then_some(())
    });
    one.line("WATCH k");
    one.line("MULTI");
    assert_eq!(one.line("EXEC"), Value::Array(vec![]));
    one.line("SET k v PX 500");
    one.line("WATCH k");
    let mut other = server.client();
    eventually("the key expires", || {
        (other.line("PTTL k") == Value::Int(-2)).then_some(())
    });
    one.line("MULTI");
    assert_eq!(one.line("EXEC"), ABORTED);
}

/// Two counters that are always raised together are never seen apart, neither by readers nor by other transactions.
#[test]
fn exec_is_atomic_to_everyone() {
    if ring_differs(RingDiffers::AllNodes) {
        return;
    }
    let server = Server::start(&[]);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for round in 0..300 {
                    client.line("MULTI");
                    client.line("INCR a");
                    client.line("MGET a b");
                    client.line("INCR b");
                    let whole = round % 50 == 0;
                    client.line(if whole { "DBSIZE" } else { "MGET b a" });
                    client.line("MGET b a");
                    let reply = client.line("EXEC");
                    let items = reply.items();
                    assert_eq!(items[0], items[2], "writer {writer}: {items:?}");
                    let pair = items[4].items();
                    assert_eq!(pair[0], pair[1], "writer {writer}: {items:?}");
                }
            });
        }
        let server = &server;
        scope.spawn(move || {
            let mut client = server.client();
            for _ in 0..600 {
                let reply = client.line("MGET a b");
                assert_eq!(reply.items()[0], reply.items()[1]);
            }
        });
    });
    assert_eq!(
        server.client().line("MGET a b").items()[0],
        Value::bulk("900")
    );
}

/// A loop of WATCH, GET, MULTI, SET, EXEC counts every success exactly once.
#[test]
fn optimistic_locking_loses_no_update() {
    let server = Server::start(&[]);
    server.client().line("SET n 0");
    let done: i64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut done = 0;
                    for _ in 0..200 {
                        client.line("WATCH n");
                        let text = client.line("GET n");
                        let number: i64 = std::str::from_utf8(text.bytes())
                            .expect("digits")
                            .parse()
                            .expect("a number");
                        client.line("MULTI");
                        client.line(&format!("SET n {}", number + 1));
                        done += i64::from(!client.line("EXEC").is_nil());
                    }
                    done
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .sum()
    });
    assert!(done >= 200);
    assert_eq!(server.client().line("GET n"), Value::bulk(done.to_string()));
}

#[test]
fn client_list_shows_queued_commands_and_watched_keys() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.client(), server.client());
    let id = one.line("CLIENT ID").int();
    let shown = |other: &mut Client| {
        let list = other.line(&format!("CLIENT LIST ID {id}"));
        let text = String::from_utf8_lossy(list.bytes()).into_owned();
        let line = text.lines().next().expect("a line").to_owned();
        let fields = line.split(' ').filter(|field| {
            ["flags=", "multi=", "watch="]
                .iter()
                .any(|name| field.starts_with(name))
        });
        fields.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(&mut other), "flags=N multi=-1 watch=0");
    one.line("WATCH a b");
    one.line("MULTI");
    one.line("GET a");
    assert_eq!(shown(&mut other), "flags=x multi=1 watch=2");
    assert_eq!(one.line("EXEC"), Value::Array(vec![Value::NilBulk]));
    // Found by review: who had watched keys was shown to watch them still.
    assert_eq!(shown(&mut other), "flags=N multi=-1 watch=0");
    one.line("WATCH a b");
    one.line("MULTI");
    one.line("RESET");
    assert_eq!(shown(&mut other), "flags=N multi=-1 watch=0");
}
