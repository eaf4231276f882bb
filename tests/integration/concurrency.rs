//! Many connections at once: no write is seen by halves, nothing is lost, nothing waits for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::encode;
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::{Client, Server, Value, scaled, seed};

/// Works on a connection of its own to its end.
pub type Writer = Box<dyn FnOnce(Client) + Send>;
/// Looks once, on a connection of its own.
pub type Reader = Box<dyn FnMut(&mut Client) + Send>;

/// Rounds of each writer; more for longer runs.
pub fn rounds(default: usize) -> usize {
    default * scaled("QUOIT_TEST_ROUNDS", 1)
}

/// Runs `writers` to their end, and `readers` again and again until then. How often readers ran.
pub fn race(server: &Server, writers: Vec<Writer>, readers: Vec<Reader>) -> usize {
    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let readers: Vec<_> = readers
            .into_iter()
            .map(|mut read| {
                let (done, reads) = (Arc::clone(&done), Arc::clone(&reads));
                let mut client = server.client();
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        read(&mut client);
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let writers: Vec<_> = writers
            .into_iter()
            .map(|write| {
                let client = server.client();
                scope.spawn(move || write(client))
            })
            .collect();
        let failed: Vec<_> = writers
            .into_iter()
            .filter_map(|writer| writer.join().err())
            .collect();
        done.store(true, Ordering::Relaxed);
        let failed: Vec<_> = failed
            .into_iter()
            .chain(readers.into_iter().filter_map(|reader| reader.join().err()))
            .collect();
        assert!(failed.is_empty(), "a client saw what must not be");
    });
    reads.load(Ordering::Relaxed)
}

/// A command over `keys`.
fn over(command: &str, keys: &[String]) -> Vec<String> {
    std::iter::once(command.to_owned())
        .chain(keys.iter().cloned())
        .collect()
}

fn mset(keys: &[String], value: &str) -> Vec<String> {
    std::iter::once("MSET".to_owned())
        .chain(keys.iter().flat_map(|key| [key.clone(), value.to_owned()]))
        .collect()
}

#[track_caller]
fn assert_all_same(values: &Value) {
    let values = values.items();
    assert!(
        values.windows(2).all(|pair| pair[0] == pair[1]),
        "torn: {values:?}"
    );
}

#[test]
fn mset_is_never_seen_by_halves() {
    let server = Server::start(&[]);
    // More keys than fit in one partition, read in another order than they are written in.
    let keys: Vec<String> = (0..100).map(|index| format!("torn:{index}")).collect();
    server.client().run(&mset(&keys, "start"));
    let mut reversed = keys.clone();
    reversed.reverse();
    let writers = (0..3).map(|writer| {
        let keys = keys.clone();
        Box::new(move |mut client: Client| {
            for round in 0..rounds(300) {
                // Short and long values: inline, embedded and shared.
                let value = format!("{writer}:{round}:").repeat(1 + round % 3 * 10);
                assert_eq!(client.run(&mset(&keys, &value)), Value::ok());
            }
        }) as Writer
    });
    let readers = [keys.clone(), reversed].map(|keys| {
        Box::new(move |client: &mut Client| assert_all_same(&client.run(&over("MGET", &keys))))
            as Reader
    });
    assert!(race(&server, writers.collect(), readers.into()) > 0);
}

#[test]
fn msetnx_sets_all_or_none() {
    let server = Server::start(&[]);
    let keys: Vec<String> = (0..20).map(|index| format!("nx:{index}")).collect();
    let writers = (0..3).map(|writer| {
        let mut request = mset(&keys, &format!("writer {writer}"));
        request[0] = "MSETNX".to_owned();
        let delete = over("DEL", &keys);
        Box::new(move |mut client: Client| {
            for _ in 0..rounds(300) {
                let set = client.run(&request).int();
                if set == 1 {
                    assert_eq!(
                        client.run(&delete),
                        Value::Int(20),
                        "all are ours to delete"
                    );
                }
            }
        }) as Writer
    });
    let all = over("MGET", &keys);
    let reader = Box::new(move |client: &mut Client| assert_all_same(&client.run(&all)));
    assert!(race(&server, writers.collect(), vec![reader]) > 0);
    assert_eq!(server.client().line("DBSIZE"), Value::Int(0));
}

#[test]
fn rename_copy_and_bitop_are_atomic() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.line("SET here 1");
    client.line("MSET copy:a 0 copy:b 0 bit:a 0 bit:b 0");
    let turn = |from: &'static str, to: &'static str| {
        Box::new(move |mut client: Client| {
            for _ in 0..rounds(500) {
                // Somebody else may have been first.
                let reply = client.run(&["RENAME", from, to]);
                assert!(
                    reply == Value::ok() || reply == Value::error("ERR no such key"),
                    "{reply:?}"
                );
            }
        }) as Writer
    };
    let pairs = Box::new(|mut client: Client| {
        for round in 0..rounds(500) {
            let value = format!("{round:08}").repeat(1 + round % 20);
            client.run(&["MSET", "copy:a", &value, "copy:b", &value]);
            client.run(&["MSET", "bit:a", &value, "bit:b", &value]);
        }
    });
    let copier = Box::new(|mut client: Client| {
        for _ in 0..rounds(500) {
            assert_eq!(client.line("COPY copy:a copy:b REPLACE"), Value::Int(1));
        }
    });
    let writers = vec![turn("here", "there"), turn("there", "here"), pairs, copier];
    let one_place = Box::new(|client: &mut Client| {
        assert_eq!(client.line("EXISTS here there"), Value::Int(1));
        let places = client.line("MGET here there").items();
        assert_eq!(
            places.iter().filter(|value| value.is_nil()).count(),
            1,
            "{places:?}"
        );
    });
    let copies =
        Box::new(|client: &mut Client| assert_all_same(&client.line("MGET copy:a copy:b")));
    let bits = Box::new(|client: &mut Client| {
        client.line("BITOP XOR bit:x bit:a bit:b");
        assert_eq!(
            client.line("BITCOUNT bit:x"),
            Value::Int(0),
            "two halves of different writes"
        );
    });
    assert!(race(&server, writers, vec![one_place, copies, bits]) > 0);
}

#[test]
fn swapdb_is_seen_whole() {
    if ring_differs(RingDiffers::Swaps) {
        return;
    }
    let server = Server::start(&[]);
    let keys: Vec<String> = (0..60).map(|index| format!("swap:{index}")).collect();
    let mut client = server.client();
    client.run(&mset(&keys, "first"));
    client.line("SELECT 1");
    client.run(&mset(&keys, "second"));
    let swapper = Box::new(|mut client: Client| {
        for _ in 0..rounds(1000) {
            assert_eq!(client.line("SWAPDB 0 1"), Value::ok());
        }
    });
    let writer = {
        let keys = keys.clone();
        Box::new(move |mut client: Client| {
            for round in 0..rounds(300) {
                assert_eq!(client.run(&mset(&keys, &round.to_string())), Value::ok());
            }
        })
    };
    let all = over("MGET", &keys);
    let readers = (0..2).map(|database| {
        let all = all.clone();
        let mut selected = false;
        Box::new(move |client: &mut Client| {
            if !selected {
                client.run(&["SELECT", if database == 0 { "0" } else { "1" }]);
                selected = true;
            }
            assert_all_same(&client.run(&all));
        }) as Reader
    });
    assert!(race(&server, vec![swapper, writer], readers.collect()) > 0);
    assert_eq!(client.line("DBSIZE"), Value::Int(60));
    client.line("SELECT 0");
    assert_eq!(client.line("DBSIZE"), Value::Int(60));
}

#[test]
fn move_loses_and_doubles_nothing() {
    // Aim: keys wander between databases that are exchanged meanwhile; at the end each is in one place.
    let server = Server::start(&[]);
    let mut client = server.client();
    let keys: Vec<String> = (0..20).map(|index| format!("wander:{index}")).collect();
    client.run(&mset(&keys, "1"));
    let mut writers: Vec<Writer> = Vec::new();
    for from in 0..3 {
        let keys = keys.clone();
        writers.push(Box::new(move |mut client: Client| {
            client.run(&["SELECT", &from.to_string()]);
            for round in 0..rounds(600) {
                let to = (from + 1 + round % 2) % 3;
                client.run(&["MOVE", &keys[round % keys.len()], &to.to_string()]);
            }
        }));
    }
    writers.push(Box::new(|mut client: Client| {
        for round in 0..rounds(300) {
            client.run(&[
                "SWAPDB",
                &(round % 3).to_string(),
                &((round + 1) % 3).to_string(),
            ]);
        }
    }));
    race(&server, writers, Vec::new());
    let mut found = Vec::new();
    for database in 0..3 {
        client.run(&["SELECT", &database.to_string()]);
        found.extend(client.line("KEYS *").items().iter().map(Value::text));
    }
    found.sort();
    let mut expected = keys;
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn counters_lose_nothing() {
    let server = Server::start(&[]);
    let per_client = rounds(400);
    let writers = (0..6).map(|writer| {
        Box::new(move |mut client: Client| {
            let mut batch = Vec::new();
            for round in 0..per_client {
                batch.extend(encode(&["INCR", &format!("count:{}", round % 3)]));
                batch.extend(encode(&["APPEND", "text", "x"]));
                batch.extend(encode(&[
                    "SETBIT",
                    "bits",
                    &(writer * per_client + round).to_string(),
                    "1",
                ]));
                batch.extend(encode(&["INCRBYFLOAT", "float", "0.5"]));
                batch.extend(encode(&[
                    "SET",
                    &format!("winner:{round}"),
                    &writer.to_string(),
                    "NX",
                ]));
            }
            client.send_raw(&batch);
            for _ in 0..per_client * 5 {
                assert!(!client.read().value.is_error());
            }
        }) as Writer
    });
    race(&server, writers.collect(), Vec::new());
    let mut client = server.client();
    let total: i64 = (0..3)
        .map(|index| {
            client
                .run(&["GET", &format!("count:{index}")])
                .text()
                .parse::<i64>()
                .expect("a number")
        })
        .sum();
    assert_eq!(total, 6 * per_client as i64);
    assert_eq!(
        client.line("STRLEN text"),
        Value::Int(6 * per_client as i64)
    );
    assert_eq!(
        client.line("BITCOUNT bits"),
        Value::Int(6 * per_client as i64)
    );
    assert_eq!(
        client.line("GET float"),
        Value::bulk((3 * per_client).to_string())
    );
}

#[test]
fn nothing_waits_for_ever() {
    // Aim: commands over the same few keys, in any order, from many connections, pipelined: a deadlock would show as time.
    let server = Server::start(&[]);
    let seed = seed();
    let begun = Instant::now();
    let writers = (0..8).map(|writer| {
        Box::new(move |mut client: Client| {
            let mut rng = fastrand::Rng::with_seed(seed ^ writer);
            client.run(&["SELECT", &(writer % 2).to_string()]);
            for _ in 0..rounds(40) {
                let mut batch = Vec::new();
                for _ in 0..25 {
                    batch.extend(encode(&any_command(&mut rng)));
                }
                client.send_raw(&batch);
                for _ in 0..25 {
                    client.read();
                }
            }
        }) as Writer
    });
    race(&server, writers.collect(), Vec::new());
    assert!(
        begun.elapsed() < Duration::from_secs(50),
        "{:?}",
        begun.elapsed()
    );
}

/// A command over several of six keys.
fn any_command(rng: &mut fastrand::Rng) -> Vec<String> {
    let mut key = || format!("dead:{}", rng.u8(0..6));
    let (a, b, c, d) = (key(), key(), key(), key());
    let database = rng.u8(0..2).to_string();
    let words: Vec<&str> = match rng.u8(0..14) {
        0 => vec!["MSET", &a, "1", &b, "2", &c, "3"],
        1 => vec!["MSETNX", &d, "1", &a, "2"],
        2 => vec!["MGET", &c, &b, &a, &d],
        3 => vec!["RENAME", &a, &b],
        4 => vec!["RENAMENX", &b, &a],
        5 => vec!["COPY", &a, &b, "DB", &database, "REPLACE"],
        6 => vec!["MOVE", &a, &database],
        7 => vec!["BITOP", "OR", &a, &b, &c],
        8 => vec!["DEL", &d, &c, &b],
        9 => vec!["UNLINK", &a, &d],
        10 => vec!["LCS", &a, &b],
        11 => vec!["TOUCH", &a, &b, &c, &d],
        12 => vec!["EXISTS", &d, &a],
        _ => vec!["SWAPDB", "0", "1"],
    };
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn scan_and_keys_keep_their_promise_among_writers() {
    // Aim: a key that is there all the while is seen by every KEYS and every full SCAN, while others come and go in such
    // numbers that tables grow and shrink.
    let server = Server::start(&[]);
    let stable: Vec<String> = (0..2000).map(|index| format!("stable:{index}")).collect();
    server.client().run(&mset(&stable, "v"));
    let writers = (0..2).map(|writer| {
        Box::new(move |mut client: Client| {
            for wave in 0..rounds(6) {
                let mut batch = Vec::new();
                for index in 0..4000 {
                    batch.extend(encode(&["SET", &format!("passing:{writer}:{index}"), "v"]));
                }
                for index in 0..4000 {
                    batch.extend(encode(&["DEL", &format!("passing:{writer}:{index}")]));
                }
                client.send_raw(&batch);
                for index in 0..8000 {
                    let reply = client.read().value;
                    assert!(!reply.is_error(), "wave {wave}, reply {index}: {reply:?}");
                }
            }
        }) as Writer
    });
    let expected: BTreeSet<String> = stable.into_iter().collect();
    let of_scan = expected.clone();
    let scanner = Box::new(move |client: &mut Client| {
        let (mut cursor, mut seen) = ("0".to_owned(), BTreeSet::new());
        loop {
            let page = client.run(&["SCAN", &cursor, "COUNT", "100"]).items();
            seen.extend(page[1].items().iter().map(Value::text));
            cursor = page[0].text();
            if cursor == "0" {
                break;
            }
        }
        assert!(
            of_scan.is_subset(&seen),
            "{} keys were missed",
            of_scan.difference(&seen).count()
        );
    });
    let lister = Box::new(move |client: &mut Client| {
        let seen: BTreeSet<String> = client
            .line("KEYS stable:*")
            .items()
            .iter()
            .map(Value::text)
            .collect();
        assert_eq!(seen.len(), expected.len());
    });
    assert!(race(&server, writers.collect(), vec![scanner, lister]) > 0);
    assert_eq!(server.client().line("DBSIZE"), Value::Int(2000));
}

#[test]
fn flushes_among_writers() {
    let server = Server::start(&[]);
    let writers = (0..3).map(|writer| {
        Box::new(move |mut client: Client| {
            client.run(&["SELECT", &(writer % 2).to_string()]);
            for round in 0..rounds(300) {
                let key = format!("own:{writer}:{round}");
                assert_eq!(
                    client.run(&["SET", &key, &key, "PX", "600000"]),
                    Value::ok()
                );
                let read = client.run(&["GET", &key]);
                assert!(read == Value::bulk(&key) || read.is_nil(), "{read:?}");
            }
        }) as Writer
    });
    let flusher = Box::new(|mut client: Client| {
        for round in 0..rounds(100) {
            let line = ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "FLUSHDB SYNC"][round % 4];
            assert_eq!(client.line(line), Value::ok());
        }
    });
    let reader = Box::new(|client: &mut Client| {
        client.line("SCAN 0 COUNT 1000").items();
        client.line("KEYS own:*").items();
        let key = client.line("RANDOMKEY");
        assert!(key.is_nil() || key.text().starts_with("own:"), "{key:?}");
        client.line("DBSIZE").int();
    });
    let writers = writers.chain([flusher as Writer]).collect();
    assert!(race(&server, writers, vec![reader]) > 0);
    let mut client = server.client();
    assert_eq!(client.line("FLUSHALL"), Value::ok());
    for database in 0..2 {
        client.run(&["SELECT", &database.to_string()]);
        assert_eq!(client.line("DBSIZE"), Value::Int(0));
        assert_eq!(client.line("KEYS *"), Value::Array(Vec::new()));
    }
}

#[test]
fn eviction_under_load() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    // Aim: four writers bring five times what fits; no write is refused, memory stays at the limit, values are whole.
    const MIB: i64 = 1024 * 1024;
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.client();
    let used = |client: &mut Client| {
        client
            .info_field("memory", "used_memory")
            .and_then(|text| text.parse::<i64>().ok())
            .expect("a number")
    };
    let limit = used(&mut client) + 8 * MIB;
    assert_eq!(
        client.run(&["CONFIG", "SET", "maxmemory", &limit.to_string()]),
        Value::ok()
    );
    let value = |key: &str| key.repeat(1000 / key.len());
    let writers = (0..4).map(|writer| {
        Box::new(move |mut client: Client| {
            for round in 0..rounds(200) {
                let keys: Vec<String> = (0..50)
                    .map(|index| format!("load:{writer}:{}", round * 50 + index))
                    .collect();
                client.send_raw(
                    &keys
                        .iter()
                        .flat_map(|key| encode(&["SET", key, &value(key)]))
                        .collect::<Vec<u8>>(),
                );
                for key in &keys {
                    assert_eq!(client.read().value, Value::ok(), "{key}");
                }
                let found = client.run(&["GET", &keys[0]]);
                assert!(
                    found.is_nil() || found == Value::bulk(value(&keys[0])),
                    "{found:?}"
                );
            }
        }) as Writer
    });
    let most = Arc::new(AtomicUsize::new(0));
    let watcher = {
        let most = Arc::clone(&most);
        Box::new(move |client: &mut Client| {
            most.fetch_max(used(client) as usize, Ordering::Relaxed);
        })
    };
    race(&server, writers.collect(), vec![watcher]);
    let most = most.load(Ordering::Relaxed) as i64;
    assert!(
        most < limit + 2 * MIB,
        "{most} bytes were used, {limit} are allowed"
    );
    let evicted: i64 = client
        .info_field("stats", "evicted_keys")
        .and_then(|text| text.parse().ok())
        .expect("a number");
    assert!(evicted > 10_000, "{evicted} keys were evicted");
    for key in client.line("KEYS load:*").items().iter().take(500) {
        let found = client.run(&[b"GET".as_slice(), key.bytes()]);
        assert!(
            found.is_nil() || found == Value::bulk(value(&key.text())),
            "{key:?}"
        );
    }
}
