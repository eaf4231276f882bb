//! Scripts beside each other and beside everything else: what is atomic, what waits for whom, what can be ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::concurrency::{Reader, Writer, race, rounds};
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::{Client, Server, Value, seed};

/// Moves one from one key to another, both named as they are asked for: `declared` of them by KEYS.
const MOVE: &str = "local from, to = ARGV[1], ARGV[2]
    redis.call('DECR', from)
    redis.call('INCR', to)
    return redis.call('MGET', from, to)";

const KEYS: usize = 8;

fn key(number: usize) -> String {
    format!("account:{number}")
}

/// What a script of two keys declares: both, one, or none, so that it reaches for the rest while it runs.
fn moving(from: usize, to: usize, declared: usize) -> Vec<String> {
    let (from, to) = (key(from), key(to));
    let mut request = vec!["EVAL".to_owned(), MOVE.to_owned(), declared.to_string()];
    request.extend([from.clone(), to.clone()].into_iter().take(declared));
    request.extend([from, to]);
    request
}

fn sum(values: &Value) -> i64 {
    let of = |value: &Value| value.text().parse::<i64>().expect("accounts are numbers");
    values.items().iter().map(of).sum()
}

/// 8 connections run scripts that declare all, some or none of their keys, in any order, beside transactions and MSETs of
/// the same keys: nobody waits for ever, and nobody sees half of a script.
#[test]
fn scripts_with_declared_and_undeclared_keys_neither_tear_nor_deadlock() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let all: Vec<String> = (0..KEYS).map(key).collect();
    for key in &all {
        assert_eq!(client.run(&["SET", key, "0"]), Value::ok());
    }
    let seed = seed();
    let done = Arc::new(AtomicU32::new(0));
    let writers = (0..8).map(|writer| {
        let done = Arc::clone(&done);
        Box::new(move |mut client: Client| {
            let mut rng = fastrand::Rng::with_seed(seed + writer);
            let mut chance = |below: usize| rng.usize(..below);
            for _ in 0..rounds(600) {
                let (from, to) = (chance(KEYS), chance(KEYS));
                if from == to {
                    continue;
                }
                let reply = match chance(5) {
                    4 => {
                        assert_eq!(client.line("MULTI"), Value::ok());
                        client.run(&["DECR", &key(from)]);
                        client.run(&moving(from, to, chance(3)));
                        client.run(&["INCR", &key(to)]);
                        client.line("EXEC")
                    }
                    declared => client.run(&moving(from, to, declared.min(2))),
                };
                assert!(!reply.is_error(), "{reply:?}");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }) as Writer
    });
    let look = all.clone();
    let reader = Box::new(move |client: &mut Client| {
        let mut request = vec!["MGET".to_owned()];
        request.extend(look.iter().cloned());
        assert_eq!(sum(&client.run(&request)), 0, "half of a script was seen");
    }) as Reader;
    let look = all.clone();
    let script = Box::new(move |client: &mut Client| {
        let text = "local sum = 0 for _, key in ipairs(ARGV) do sum = sum + redis.call('GET', key) end return sum";
        let mut request = vec!["EVAL_RO".to_owned(), text.to_owned(), "0".to_owned()];
        request.extend(look.iter().cloned());
        assert_eq!(
            client.run(&request),
            Value::Int(0),
            "half of a script was seen"
        );
    }) as Reader;
    race(&server, writers.collect(), vec![reader, script]);
    let mut request = vec!["MGET".to_owned()];
    request.extend(all);
    assert_eq!(sum(&client.run(&request)), 0);
    assert!(done.load(Ordering::Relaxed) > 100);
}

/// What a script has done that has to begin again is taken back: values, types, expiries, new keys, emptied collections.
#[test]
fn what_a_script_did_before_it_began_again_is_not_seen() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let text = "redis.call('APPEND', KEYS[1], 'x')
        redis.call('RPUSH', KEYS[2], 'a')
        redis.call('LPOP', KEYS[3])
        redis.call('INCR', ARGV[1])
        redis.call('PEXPIRE', KEYS[1], 100000)
        return redis.call('STRLEN', KEYS[1])";
    let sha1 = client.run(&["SCRIPT", "LOAD", text]).text();
    let writers = (0..4).map(|writer| {
        let sha1 = sha1.clone();
        Box::new(move |mut client: Client| {
            let own = |name: &str| format!("{name}:{writer}");
            for round in 1..=rounds(300) as i64 {
                client.run(&["RPUSH", &own("popped"), "one"]);
                let reply = client.run(&[
                    "EVALSHA",
                    &sha1,
                    "3",
                    &own("text"),
                    &own("list"),
                    &own("popped"),
                    "shared",
                ]);
                assert_eq!(reply, Value::Int(round));
                assert_eq!(client.run(&["LLEN", &own("list")]), Value::Int(round));
                assert_eq!(client.run(&["EXISTS", &own("popped")]), Value::Int(0));
            }
        }) as Writer
    });
    race(&server, writers.collect(), Vec::new());
    assert_eq!(
        client.line("GET shared").text(),
        (4 * rounds(300)).to_string()
    );
}

/// Begins a script that runs until it is ended, and waits until it holds its keys.
fn begin_endless(server: &Server, keys: &[&str], before: &str) -> Client {
    let mut client = server.client();
    let text = format!("{before} while true do end");
    let count = keys.len().to_string();
    let mut request = vec!["EVAL", &text, &count];
    request.extend(keys);
    client.send(&request);
    let mut other = server.client();
    let begun = Instant::now();
    // It is under way when it is shown.
    while other.line("FUNCTION STATS").items()[1].is_nil() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it has not begun"
        );
    }
    client
}

/// Ends the scripts that run; those that are too young for it get older.
fn kill(client: &mut Client) {
    let begun = Instant::now();
    while client.line("SCRIPT KILL") != Value::ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it is not killed"
        );
    }
}

#[test]
fn a_script_that_runs_for_long_stops_nobody_who_does_not_want_its_keys() {
    let server = Server::start(&["--io-threads", "2"]);
    let mut endless = begin_endless(&server, &["held"], "");
    let mut client = server.client();
    for round in 0..100 {
        let key = format!("free:{round}");
        // One in a thousand keys shares its partition with the one that is held.
        client.send(&["SET", &key, "1"]);
    }
    for _ in 0..100 {
        client.read();
    }
    // Other scripts too.
    assert_eq!(
        client.run(&["EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "other"]),
        Value::ok()
    );
    kill(&mut client);
    let ended = endless.read();
    assert!(
        format!("{ended:?}").contains("Script killed by user"),
        "{ended:?}"
    );
    assert_eq!(client.line("SET held 1"), Value::ok());
}

#[test]
fn who_wants_the_keys_of_an_endless_script_is_told_that_it_is_busy() {
    let server = Server::start(&["--busy-reply-threshold", "100"]);
    let mut endless = begin_endless(&server, &["held"], "");
    let mut client = server.client();
    let busy =
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    assert_eq!(client.line("GET held"), Value::error(busy));
    assert_eq!(client.line("DBSIZE"), Value::Int(0));
    assert_eq!(client.line("MULTI"), Value::ok());
    assert_eq!(client.line("SET held 1"), Value::simple("QUEUED"));
    assert!(client.line("EXEC").text().contains("BUSY"));
    kill(&mut client);
    let ended = format!("{:?}", endless.read());
    assert!(ended.contains("Script killed by user"), "{ended}");
    assert_eq!(client.line("GET held"), Value::NilBulk);
}

#[test]
fn a_script_that_wrote_is_not_ended() {
    let mut server = Server::start(&["--busy-reply-threshold", "50"]);
    let _endless = begin_endless(&server, &["held"], "redis.call('SET', KEYS[1], 1)");
    let mut client = server.client();
    let begun = Instant::now();
    let mut refused = client.line("SCRIPT KILL");
    while refused.text().starts_with("NOTBUSY") && begun.elapsed() < Duration::from_secs(20) {
        refused = client.line("SCRIPT KILL");
    }
    assert!(refused.text().starts_with("UNKILLABLE "), "{refused:?}");
    assert!(client.line("FUNCTION KILL").text().starts_with("BUSY "));
    // It can be left all the same.
    client.send(&["SHUTDOWN", "NOSAVE"]);
    assert!(server.exited(Duration::from_secs(30)).success());
}

/// A killed script cannot live on by catching its end.
#[test]
fn a_script_that_catches_its_end_dies_all_the_same() {
    let server = Server::start(&["--busy-reply-threshold", "50"]);
    for text in [
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(redis.call, 'PING') end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "local f = coroutine.wrap(function() while true do end end) while true do pcall(f) end",
        "string.find(string.rep('a', 100000), string.rep('a?', 100000) .. string.rep('a', 100000))",
    ] {
        let mut endless = begin_endless(&server, &[], text);
        kill(&mut server.client());
        assert!(endless.read().value.is_error(), "{text}");
        assert_eq!(server.client().line("PING"), Value::simple("PONG"));
    }
}

/// An error of a command is counted where it happened, and not once more as the script's own.
#[test]
fn errors_are_counted_once() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let server = Server::start(&[]);
    let mut client = server.client();
    client.line("SET k v");
    client.line("EVAL \"return redis.call('INCR', 'k')\" 0");
    client.line("EVAL \"return redis.pcall('INCR', 'k')\" 0");
    client.line("EVAL \"redis.pcall('INCR', 'k') return 1\" 0");
    client.line("EVAL \"error('x')\" 0");
    client.line("EVAL \"return redis.error_reply('MY own')\" 0");
    let field = |client: &mut Client, section, name| client.info_field(section, name);
    let errors = field(&mut client, "errorstats", "errorstat_ERR");
    assert_eq!(errors.as_deref(), Some("count=4"));
    let errors = field(&mut client, "errorstats", "errorstat_MY");
    assert_eq!(errors.as_deref(), Some("count=1"));
    let eval = field(&mut client, "commandstats", "cmdstat_eval").unwrap_or_default();
    assert!(eval.starts_with("calls=5,"), "{eval}");
    assert!(eval.ends_with("failed_calls=4"), "{eval}");
    let incr = field(&mut client, "commandstats", "cmdstat_incr").unwrap_or_default();
    assert!(incr.starts_with("calls=3,"), "{incr}");
}

#[test]
fn scripts_are_shown_and_subcommands_are_explained() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let sha1 = client.run(&["SCRIPT", "LOAD", "return 1"]).text();
    assert_eq!(
        client.run(&["SCRIPT", "SHOW", &sha1]),
        Value::bulk("return 1")
    );
    let unknown = "0".repeat(40);
    assert_eq!(
        client.run(&["SCRIPT", "SHOW", &unknown]),
        Value::error("NOSCRIPT No matching script. Please use EVAL.")
    );
    for (request, subcommand) in [("SCRIPT HELP", "SHOW <sha1>"), ("FUNCTION HELP", "STATS")] {
        let lines = client.line(request).items();
        let texts: Vec<String> = lines.iter().map(Value::text).collect();
        assert!(texts.iter().any(|line| line == subcommand), "{texts:?}");
    }
}
