//! Streams among many connections: readers that wait, and groups that lose nothing.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::text::{show, words};
use crate::support::{Client, Server, Value, scaled};

/// Clients that sent these requests and wait, in this order.
fn blocked(server: &Server, requests: &[&str]) -> Vec<Client> {
    let mut observer = server.client();
    let mut count = || {
        let field = observer.info_field("clients", "blocked_clients");
        field.and_then(|count| count.parse::<usize>().ok())
    };
    let mut waiting = Vec::new();
    for request in requests {
        let before = count().expect("INFO tells");
        let mut client = server.client();
        client.send(&words(request).expect("quotes close"));
        while count() != Some(before + 1) {
            std::thread::yield_now();
        }
        waiting.push(client);
    }
    waiting
}

fn reply(client: &mut Client) -> String {
    show(&client.read().value)
}

/// Aim: all readers get what is added, each from its own id; readers of a group get it in turn.
#[test]
fn readers_wait_for_entries() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.line("XADD s 1 a b");
    client.line("XGROUP CREATE s g $");
    let mut readers = blocked(
        &server,
        &[
            "XREAD BLOCK 0 STREAMS other s $ $",
            "XREAD BLOCK 0 STREAMS s 5",
            "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
            "XREADGROUP GROUP g d BLOCK 0 STREAMS s >",
        ],
    );
    client.line("XADD s 2 c d");
    let second = r#"[["s", [["2-0", ["c", "d"]]]]]"#;
    assert_eq!(reply(&mut readers[0]), second);
    assert_eq!(reply(&mut readers[2]), second);
    client.line("XADD s 6 e f");
    let third = r#"[["s", [["6-0", ["e", "f"]]]]]"#;
    assert_eq!(reply(&mut readers[1]), third);
    assert_eq!(reply(&mut readers[3]), third);
    assert_eq!(
        client.shown("XPENDING s g"),
        r#"[:2, "2-0", "6-0", [["c", "1"], ["d", "1"]]]"#
    );
}

/// Aim: who reads for a group is refused when stream or group go, however they go; who reads alone waits on.
#[test]
fn readers_of_groups_learn_that_the_stream_is_gone() {
    if ring_differs(RingDiffers::Swaps) {
        return;
    }
    const GONE: &str = "-UNBLOCKED the stream key no longer exists";
    let server = Server::start(&[]);
    let mut client = server.client();
    for (request, answer) in [
        ("DEL s", GONE),
        ("UNLINK s", GONE),
        ("SET s x", GONE),
        ("RENAME s t", GONE),
        ("MOVE s 1", GONE),
        ("EXPIRE s -1", GONE),
        ("SWAPDB 0 1", GONE),
        ("FLUSHDB", GONE),
        ("FLUSHALL", GONE),
        (
            "XGROUP DESTROY s g",
            "-NOGROUP the consumer group this client was blocked on no longer exists",
        ),
    ] {
        client.line("FLUSHALL");
        client.line("XGROUP CREATE s g $ MKSTREAM");
        let mut readers = blocked(
            &server,
            &[
                "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
                "XREAD BLOCK 0 STREAMS s $",
            ],
        );
        assert!(!client.line(request).is_error(), "{request}");
        assert_eq!(reply(&mut readers[0]), answer, "{request}");
        client.line("DEL s");
        client.line("XADD s 9 a b");
        assert_eq!(
            reply(&mut readers[1]),
            r#"[["s", [["9-0", ["a", "b"]]]]]"#,
            "{request}"
        );
    }
}

/// Aim: a wait ends with its time; a key that comes by RENAME or COPY is found.
#[test]
fn waits_end() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.shown("XREAD BLOCK 1 STREAMS s $"), "nil-array");
    client.line("XADD t 1 a b");
    for request in ["RENAME t s", "COPY s u"] {
        let key = request.rsplit(' ').next().expect("it has words");
        let wanted = format!("XREAD BLOCK 0 STREAMS {key} 0");
        let mut readers = blocked(&server, &[&wanted]);
        client.line(request);
        assert_eq!(
            reply(&mut readers[0]),
            format!(r#"[["{key}", [["1-0", ["a", "b"]]]]]"#)
        );
    }
}

/// Aim: consumers of a group get every entry once, whether entries wait for them or they for entries.
#[test]
fn a_group_delivers_each_entry_once() {
    const CONSUMERS: usize = 4;
    let server = Server::start(&[]);
    let total = scaled("QUOIT_TEST_ELEMENTS", 4_000);
    server.client().line("XGROUP CREATE jobs g 0 MKSTREAM");
    let seen = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for consumer in 0..CONSUMERS {
            let (mut client, seen) = (server.client(), &seen);
            scope.spawn(move || {
                let name = format!("consumer {consumer}");
                loop {
                    let request = [
                        "XREADGROUP",
                        "GROUP",
                        "g",
                        &name,
                        "COUNT",
                        "3",
                        "BLOCK",
                        "0",
                        "STREAMS",
                        "jobs",
                        ">",
                    ];
                    let streams = client.run(&request).items();
                    let entries = streams[0].items()[1].items();
                    let mut is_over = false;
                    for entry in entries {
                        let parts = entry.items();
                        let (id, fields) = (parts[0].text(), parts[1].items());
                        is_over |= fields[0].text() == "end";
                        assert_eq!(client.run(&["XACK", "jobs", "g", &id]), Value::Int(1));
                        let mut seen = seen.lock().expect("no consumer fails");
                        assert!(seen.insert(id.clone()), "{id} twice");
                    }
                    if is_over {
                        // The last entry goes from one to the next.
                        client.run(&["XADD", "jobs", "*", "end", ""]);
                        return;
                    }
                }
            });
        }
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                let mut client = server.client();
                scope.spawn(move || {
                    for job in 0..total / 2 {
                        let job = format!("{producer}:{job}");
                        client.run(&["XADD", "jobs", "MAXLEN", "~", "1000000", "*", "job", &job]);
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.join().expect("no producer fails");
        }
        server.client().run(&["XADD", "jobs", "*", "end", ""]);
    });
    let seen = seen.into_inner().expect("no consumer failed");
    let mut client = server.client();
    let group = client.line("XINFO GROUPS jobs").items()[0].clone();
    assert_eq!(group.field("pending"), Some(Value::Int(0)));
    let read = group.field("entries-read").map(|read| read.int());
    assert_eq!(read, Some(seen.len() as i64));
    assert!(seen.len() >= total, "{} of {total}", seen.len());
}
