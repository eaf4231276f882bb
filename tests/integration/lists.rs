//! Lists among many connections: what moves is in one list at any time, each element is popped once, whoever waits.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::concurrency::{Reader, Writer, race, rounds};
use crate::support::{Client, Server, Value, scaled, seed};

/// Aim: LMOVE locks both lists: the only element is in one of eight at any time, and EXISTS sees one of them.
#[test]
fn an_element_that_moves_is_in_one_list() {
    let server = Server::start(&[]);
    let keys: Vec<String> = (0..8).map(|number| format!("move:{number}")).collect();
    server.client().run(&["RPUSH", &keys[0], "the only one"]);
    let writers = (0..3).map(|writer| {
        let keys = keys.clone();
        Box::new(move |mut client: Client| {
            let mut rng = fastrand::Rng::with_seed(writer);
            for _ in 0..rounds(2_000) {
                let mut key = || keys[rng.usize(..keys.len())].clone();
                let (from, to) = (key(), key());
                client.run(&["LMOVE", &from, &to, "LEFT", "RIGHT"]);
            }
        }) as Writer
    });
    let mut exists = vec!["EXISTS".to_owned()];
    exists.extend(keys.iter().rev().cloned());
    let reader: Reader = Box::new(move |client| {
        assert_eq!(client.run(&exists), Value::Int(1), "torn");
    });
    assert!(race(&server, writers.collect(), vec![reader]) > 0);
}

/// Aim: a loop of BRPOPLPUSH consumers loses and doubles nothing, whether elements wait for them or they for elements.
#[test]
fn consumers_lose_nothing() {
    const CONSUMERS: usize = 6;
    let server = Server::start(&[]);
    let total = scaled("QUOIT_TEST_ELEMENTS", 20_000);
    let (sent, received) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let seen = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for consumer in 0..CONSUMERS {
            let (mut client, received, seen) = (server.client(), &received, &seen);
            scope.spawn(move || {
                loop {
                    let request: &[&str] = match consumer % 3 {
                        0 => &["BRPOPLPUSH", "jobs", "done", "0"],
                        1 => &["BLMOVE", "jobs", "done", "RIGHT", "LEFT", "0"],
                        _ => &["BRPOP", "none", "jobs", "0"],
                    };
                    let reply = client.run(request);
                    let job = match &reply {
                        Value::Array(pair) => pair[1].text(),
                        _ => reply.text(),
                    };
                    if job == "end" {
                        return;
                    }
                    received.fetch_add(1, Ordering::Relaxed);
                    let mut seen = seen.lock().expect("no consumer fails");
                    assert!(seen.insert(job.clone()), "{job} twice");
                }
            });
        }
        let (sent, received, server) = (&sent, &received, &server);
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut rng = fastrand::Rng::with_seed(producer);
                    while sent.load(Ordering::Relaxed) < total {
                        let jobs = rng.usize(1..40);
                        let first = sent.fetch_add(jobs, Ordering::Relaxed);
                        let mut request = vec!["LPUSH".to_owned(), "jobs".to_owned()];
                        request.extend((first..first + jobs).map(|job| job.to_string()));
                        client.run(&request);
                        // Now and then the consumers catch up, and wait.
                        let caught_up =
                            || received.load(Ordering::Relaxed) >= sent.load(Ordering::Relaxed);
                        let mut patience = 200;
                        while rng.u8(..4) == 0 && patience > 0 && !caught_up() {
                            std::thread::yield_now();
                            patience -= 1;
                        }
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.join().expect("a producer");
        }
        let mut client = server.client();
        for _ in 0..CONSUMERS {
            client.run(&["LPUSH", "jobs", "end"]);
        }
    });
    let sent = sent.into_inner();
    assert_eq!(received.into_inner(), sent);
    let seen = seen.into_inner().expect("no consumer fails");
    assert_eq!(seen.len(), sent);
    let mut client = server.client();
    assert_eq!(client.run(&["EXISTS", "jobs"]), Value::Int(0));
    let done = client.run(&["LRANGE", "done", "0", "-1"]).items();
    let moved: BTreeSet<String> = done.iter().map(Value::text).collect();
    assert!(moved.iter().all(|job| job == "end" || seen.contains(job)));
    assert_eq!(
        client.info_field("clients", "blocked_clients").as_deref(),
        Some("0")
    );
}

/// Aim: an element that comes when a wait is over, or is ended by CLIENT UNBLOCK, is either answered or still there.
#[test]
fn waits_that_end_lose_nothing() {
    const WAITERS: usize = 4;
    let server = Server::start(&[]);
    let (pushed, popped) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let seed = seed();
    std::thread::scope(|scope| {
        let (server, pushed, popped) = (&server, &pushed, &popped);
        // Counts what it gets until that is its end.
        let is_end = |element: &Value| {
            popped.fetch_add(1, Ordering::Relaxed);
            element.text() == "end"
        };
        for waiter in 0..WAITERS {
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(waiter as u64));
                let mut client = server.client();
                loop {
                    let timeout = ["0.001", "0.002", "0.003"][rng.usize(..3)];
                    if let Value::Array(pair) = client.run(&["BLPOP", "jobs", timeout])
                        && is_end(&pair[1])
                    {
                        return;
                    }
                }
            });
        }
        scope.spawn(move || {
            let (mut waiting, mut other) = (server.client(), server.client());
            let id = waiting.run(&["CLIENT", "ID"]).int().to_string();
            loop {
                waiting.send(&["BLMPOP", "0", "1", "jobs", "LEFT"]);
                other.run(&["CLIENT", "UNBLOCK", &id]);
                // It may not have been blocked yet.
                other.run(&["RPUSH", "jobs", "more"]);
                pushed.fetch_add(1, Ordering::Relaxed);
                if let Value::Array(pair) = waiting.read().value
                    && is_end(&pair[1].items()[0])
                {
                    return;
                }
            }
        });
        let mut client = server.client();
        for number in 0..rounds(3_000) {
            client.run(&["RPUSH", "jobs", &number.to_string()]);
            pushed.fetch_add(1, Ordering::Relaxed);
        }
        for _ in 0..=WAITERS {
            client.run(&["RPUSH", "jobs", "end"]);
            pushed.fetch_add(1, Ordering::Relaxed);
        }
    });
    let left = server.client().run(&["LLEN", "jobs"]).int() as usize;
    assert_eq!(popped.into_inner() + left, pushed.into_inner());
}
