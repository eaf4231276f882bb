//! Sorted sets among connections: who waits is served in order, whatever makes the set, and each member is taken once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::text::show;
use crate::support::{Client, Server, Value, scaled};

/// A client that has sent a request and is blocked: the server counts one more than before.
fn blocked(server: &Server, request: &[&str]) -> Client {
    let mut admin = server.client();
    let mut count = || {
        let count = admin.info_field("clients", "blocked_clients");
        count.and_then(|count| count.parse::<usize>().ok())
    };
    let before = count();
    let mut client = server.client();
    client.send(request);
    while count() == before {
        std::thread::yield_now();
    }
    client
}

/// Aim: every command that makes a sorted set serves who waits for it.
#[test]
fn whatever_makes_a_set_serves_who_waits() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.run(&["ZADD", "source", "1", "m", "2", "n"]);
    client.run(&["SADD", "plain", "p"]);
    client.run(&["ZADD", "renamed", "3", "r"]);
    for (request, served) in [
        ("ZADD z 5 a", r#"["z", "a", "5"]"#),
        ("ZINCRBY z 1.5 a", r#"["z", "a", "1.5"]"#),
        ("ZUNIONSTORE z 1 plain", r#"["z", "p", "1"]"#),
        ("ZINTERSTORE z 1 plain WEIGHTS 7", r#"["z", "p", "7"]"#),
        ("ZDIFFSTORE z 1 plain", r#"["z", "p", "1"]"#),
        ("ZRANGESTORE z source 0 0", r#"["z", "m", "1"]"#),
        ("COPY source z", r#"["z", "m", "1"]"#),
        ("RENAME renamed z", r#"["z", "r", "3"]"#),
    ] {
        client.run(&["DEL", "z"]);
        let mut waiting = blocked(&server, &["BZPOPMIN", "missing", "z", "0"]);
        let reply = client.line(request);
        assert!(!reply.is_error(), "{request}: {}", show(&reply));
        assert_eq!(show(&waiting.read().value), served, "{request}");
    }
    client.run(&["DEL", "z"]);
    let mut waiting = blocked(
        &server,
        &["BZMPOP", "0", "2", "missing", "z", "MAX", "COUNT", "2"],
    );
    client.line("SET z v");
    client.line("DEL z");
    client.line("ZADD z 1 a 2 b 3 c");
    let served = r#"["z", [["c", "3"], ["b", "2"]]]"#;
    assert_eq!(show(&waiting.read().value), served);
}

/// Aim: first come, first served; a member goes to one client.
#[test]
fn who_waits_is_served_in_order() {
    let server = Server::start(&[]);
    let mut waiting: Vec<Client> = (0..5)
        .map(|number| {
            let end = if number % 2 == 0 {
                "BZPOPMIN"
            } else {
                "BZPOPMAX"
            };
            blocked(&server, &[end, "z", "other", "0"])
        })
        .collect();
    let mut client = server.client();
    assert_eq!(client.line("ZADD z 1 a 2 b 3 c"), Value::Int(3));
    assert_eq!(client.line("ZADD other 1 x 2 y 3 z"), Value::Int(3));
    let served: Vec<String> = (waiting.iter_mut())
        .map(|client| client.read().value.items()[1].text())
        .collect();
    assert_eq!(served, ["a", "c", "b", "z", "x"]);
    assert_eq!(show(&client.line("ZRANGE other 0 -1")), r#"["y"]"#);
    assert_eq!(client.line("EXISTS z"), Value::Int(0));
}

/// Aim: consumers of a queue by priority lose and double nothing, whether members wait for them or they for members.
#[test]
fn consumers_take_each_member_once() {
    const CONSUMERS: usize = 6;
    let server = Server::start(&[]);
    let total = scaled("QUOIT_TEST_ELEMENTS", 10_000);
    let taken = Mutex::new(BTreeSet::new());
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for consumer in 0..CONSUMERS {
            let (mut client, taken) = (server.client(), &taken);
            scope.spawn(move || {
                loop {
                    let request: &[&str] = match consumer % 3 {
                        0 => &["BZPOPMIN", "jobs", "0"],
                        1 => &["BZPOPMAX", "none", "jobs", "0"],
                        _ => &["BZMPOP", "0", "2", "none", "jobs", "MIN", "COUNT", "3"],
                    };
                    let reply = client.run(request).items();
                    let members: Vec<String> = match &reply[1] {
                        Value::Array(pairs) => {
                            pairs.iter().map(|pair| pair.items()[0].text()).collect()
                        }
                        member => vec![member.text()],
                    };
                    let (ends, jobs): (Vec<_>, Vec<_>) = members
                        .into_iter()
                        .partition(|member| member.starts_with("end"));
                    for job in jobs {
                        let mut taken = taken.lock().expect("no consumer fails");
                        assert!(taken.insert(job.clone()), "{job} twice");
                    }
                    // One end is for this consumer, more of them are for others.
                    for end in ends.iter().skip(1) {
                        client.run(&["ZADD", "jobs", "0", end]);
                    }
                    if !ends.is_empty() {
                        return;
                    }
                }
            });
        }
        let (server, sent) = (&server, &sent);
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut rng = fastrand::Rng::with_seed(producer);
                    while sent.load(Ordering::Relaxed) < total {
                        let jobs = rng.usize(1..40);
                        let first = sent.fetch_add(jobs, Ordering::Relaxed);
                        let mut request = vec!["ZADD".to_owned(), "jobs".to_owned()];
                        for job in first..first + jobs {
                            request.extend([rng.i32(-9..9).to_string(), job.to_string()]);
                        }
                        assert_eq!(client.run(&request), Value::Int(jobs as i64));
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.join().expect("a producer");
        }
        // Behind all jobs for some consumers, before them for others: what is left is taken all the same.
        let mut client = server.client();
        while client.run(&["ZCARD", "jobs"]) != Value::Int(0) {
            std::thread::yield_now();
        }
        for number in 0..CONSUMERS {
            client.run(&["ZADD", "jobs", "0", &format!("end{number}")]);
        }
    });
    let taken = taken.into_inner().expect("no consumer fails");
    assert_eq!(taken.len(), sent.into_inner());
    let mut client = server.client();
    assert_eq!(client.run(&["EXISTS", "jobs"]), Value::Int(0));
    let left = client.info_field("clients", "blocked_clients");
    assert_eq!(left.as_deref(), Some("0"));
}
