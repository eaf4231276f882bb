//! What servers tell of what was done: statistics of commands, MONITOR, the slow log, the list of clients, parameters.

use std::collections::BTreeMap;

use crate::generate::Generator;
use crate::pair::Pair;
use crate::support::elsewhere::{RingDiffers, ring_differs, tests_ring};
use crate::support::{Client, Server, Value, seed, show};

/// Lines `name:value` of a section, the time that commands took left out.
fn counted(client: &mut Client, section: &str) -> BTreeMap<String, String> {
    let text = client.info(section);
    let lines = text.split("\r\n").filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| {
            let fields = value.split(',').filter(|field| !field.starts_with("usec"));
            (name.to_owned(), fields.collect::<Vec<_>>().join(","))
        })
        .collect()
}

/// The entries of both maps that are not the same.
fn unequal(redis: &BTreeMap<String, String>, quoit: &BTreeMap<String, String>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = redis.keys().chain(quoit.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|name| redis.get(*name) != quoit.get(*name));
    differ
        .map(|name| {
            format!(
                "{name}\n  redis: {:?}\n  quoit: {:?}",
                redis.get(name),
                quoit.get(name)
            )
        })
        .collect()
}

/// SCAN with TYPE counts a hit for each key that it looks at in Redis, which says nothing of the cache; BITCOUNT and BITPOS of
/// missing keys are refused here where 7.0 does not read their options (see the list of differences); LCS looks its keys up
/// before it refuses its options there; LPOS takes the lowest rank there, XREAD no `+`, ZRANK and ZREVRANK no third argument, and
/// cursors end at a NUL there.
fn is_counted_otherwise(request: &[Vec<u8>]) -> bool {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    is(&request[0], "SCAN") && request.iter().any(|word| is(word, "TYPE"))
        || [
            "BITCOUNT",
            "BITPOS",
            "LCS",
            "XREAD",
            "XREADGROUP",
            "ZRANK",
            "ZREVRANK",
        ]
        .iter()
        .any(|name| is(&request[0], name))
        || request[0].to_ascii_uppercase().ends_with(b"SCAN")
            && request.iter().any(|word| word.contains(&0))
        || is(&request[0], "LPOS") && request.iter().any(|word| is(word, "-9223372036854775808"))
}

/// Calls, failures and refusals per command, errors per kind, hits and misses, after the same random requests.
#[test]
fn statistics() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let Some(pair) = Pair::start("statistics") else {
        return;
    };
    let seed = seed();
    let mut generator = Generator {
        rng: fastrand::Rng::with_seed(seed),
    };
    let mut requests: Vec<_> = (0..3_000).map(|_| generator.request()).collect();
    requests.retain(|request| !is_counted_otherwise(request));
    let mut all = [&pair.redis, &pair.quoit].map(|server| {
        let mut client = server.client();
        client.run(&["CONFIG", "RESETSTAT"]);
        for request in &requests {
            client.run(request);
        }
        let stats = [
            "keyspace_hits",
            "keyspace_misses",
            "total_error_replies",
            "expired_keys",
        ];
        let mut counted_all = counted(&mut client, "commandstats");
        counted_all.extend(counted(&mut client, "errorstats"));
        let rest = counted(&mut client, "stats");
        counted_all.extend(
            rest.into_iter()
                .filter(|(name, _)| stats.contains(&name.as_str())),
        );
        counted_all
    });
    // The oracle finds keys whose time is over on its way, or does not.
    all.iter_mut()
        .for_each(|counted| drop(counted.remove("expired_keys")));
    let found = unequal(&all[0], &all[1]);
    assert!(
        found.is_empty(),
        "seed {seed}: {} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// A line of MONITOR without its time and its port.
fn monitored(line: &Value) -> String {
    let line = line.text();
    let (_, rest) = line.split_once(' ').expect("a time comes first");
    let (database, rest) = rest.split_once(" 127.0.0.1:").expect("an address follows");
    let (_, request) = rest.split_once(']').expect("the address ends");
    format!("{database} {request}")
}

/// What is shown to MONITOR, and how: order, databases, quoting, secrets, what is not shown at all.
#[test]
fn monitor() {
    let Some(pair) = Pair::start("monitor") else {
        return;
    };
    let seed = seed();
    let mut generator = Generator {
        rng: fastrand::Rng::with_seed(seed),
    };
    let mut requests: Vec<Vec<Vec<u8>>> = (0..500).map(|_| generator.request()).collect();
    let more = [
        "AUTH secret",
        "AUTH default secret",
        "HELLO 3",
        "HELLO 2 AUTH default x",
        "CONFIG GET maxmemory",
        "CONFIG SET maxmemory 0",
        "CONFIG NOTHING",
        "CLIENT GETNAME",
        "CLIENT LIST ID 99999",
        "COMMAND COUNT",
        "DEBUG SLEEP 0",
        "INFO nothing",
        "SLOWLOG LEN",
        "LATENCY LATEST",
        "MEMORY PURGE",
        "ROLE",
        "TIME",
        "WAIT 0 0",
        "RESET",
        "PING",
        "NOTHING",
        "GET",
        "ECHO x",
        "SELECT 1",
        "SELECT 99",
        "LOLWUT",
        "CONFIG RESETSTAT",
        "SWAPDB 0 1",
        "FLUSHALL",
        "DBSIZE",
        "KEYS *",
        "SCAN 0",
    ];
    // A ring refuses it before it is shown.
    let is_shown = |line: &str| !tests_ring() || !line.starts_with("SWAPDB");
    requests.retain(|request| is_shown(&String::from_utf8_lossy(&request[0]).to_uppercase()));
    requests.extend(
        more.into_iter()
            .filter(|line| is_shown(line))
            .map(|line| crate::support::words(line).expect("no quotes")),
    );
    let [redis, quoit] = [&pair.redis, &pair.quoit].map(|server| {
        let mut monitor = server.client();
        assert_eq!(monitor.run(&["MONITOR"]), Value::ok());
        let mut client = server.client();
        for request in &requests {
            client.run(request);
        }
        client.run(&["ECHO", "the last"]);
        let mut lines = Vec::new();
        while !lines
            .last()
            .is_some_and(|line: &String| line.ends_with("\"the last\""))
        {
            lines.push(monitored(&monitor.read().value));
        }
        lines
    });
    let first = redis
        .iter()
        .zip(&quoit)
        .position(|(redis, quoit)| redis != quoit);
    let at = first.unwrap_or(redis.len().min(quoit.len()));
    let around =
        |lines: &[String]| lines[at.saturating_sub(2)..(at + 3).min(lines.len())].join("\n    ");
    assert!(
        redis == quoit,
        "seed {seed}: line {at}:\n  redis:\n    {}\n  quoit:\n    {}",
        around(&redis),
        around(&quoit)
    );
}

/// How requests stand in the slow log: long arguments and long lists are cut.
#[test]
fn slow_log() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let Some(pair) = Pair::start("slow_log") else {
        return;
    };
    let many: Vec<String> = (0..40).map(|number| format!("key{number}")).collect();
    let [redis, quoit] = [&pair.redis, &pair.quoit].map(|server| {
        let mut client = server.client();
        client.run(&["CLIENT", "SETNAME", "worker"]);
        client.run(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
        client.run(&["SLOWLOG", "RESET"]);
        client.run(&["SET", "k", &"x".repeat(128)]);
        client.run(&["SET", "k", &"x".repeat(129)]);
        client.run(&["SET", "k", &"x".repeat(1000)]);
        client.run(&[&b"SET"[..], b"k", b"\x00\xff\r\n"]);
        for count in [30, 31, 32, 33, 40] {
            let mut request = vec!["MGET"];
            request.extend(many[..count].iter().map(String::as_str));
            client.run(&request);
        }
        client.run(&["NOTHING"]);
        client.run(&["GET"]);
        client.run(&["INCR", "k"]);
        client.run(&["AUTH", "secret"]);
        client.run(&["CONFIG", "SET", "requirepass", "secret"]);
        client.run(&["CONFIG", "SET", "requirepass", ""]);
        client.run(&["PING"]);
        let entries = client.run(&["SLOWLOG", "GET", "-1"]).items();
        let shown = entries.iter().map(|entry| {
            let fields = entry.items();
            format!("{} {}", show(&fields[3]), show(&fields[5]))
        });
        shown.collect::<Vec<_>>()
    });
    let found: Vec<String> = redis
        .iter()
        .zip(&quoit)
        .filter(|(redis, quoit)| redis != quoit)
        .map(|(redis, quoit)| format!("{redis}\n{quoit}"))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(redis.len(), quoit.len());
}

/// Every field of a client's line is there, and they come in the same order.
#[test]
fn fields_of_clients() {
    let Some(pair) = Pair::start("fields_of_clients") else {
        return;
    };
    let [redis, quoit] = [&pair.redis, &pair.quoit].map(|server| {
        let line = server.client().run(&["CLIENT", "INFO"]).text();
        line.split_whitespace()
            .filter_map(|field| field.split_once('='))
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    });
    let shared: Vec<&String> = quoit.iter().filter(|name| redis.contains(name)).collect();
    assert_eq!(shared, redis.iter().collect::<Vec<_>>());
}

/// Parameters of the oracle: those that are here have the same default, the others stand in the list.
#[test]
fn parameters() {
    if ring_differs(RingDiffers::IsOne) {
        return;
    }
    let Some(redis) = crate::support::oracle("parameters") else {
        return;
    };
    let quoit = Server::quoit(&[]);
    let read = |server: &Server| -> BTreeMap<String, String> {
        let flat = server.client().run(&["CONFIG", "GET", "*"]).items();
        flat.chunks_exact(2)
            .map(|pair| (pair[0].text(), pair[1].text()))
            .collect()
    };
    let (redis, quoit) = (read(&redis), read(&quoit));
    let is_own = |name: &str| OWN_DEFAULTS.iter().any(|(own, _)| *own == name);
    let found: Vec<String> = redis
        .iter()
        .filter(|(name, _)| !is_own(name))
        .filter(|(name, value)| quoit.get(*name) != Some(value))
        .map(|(name, value)| format!("{name}\n  redis: {value:?}\n  quoit: {:?}", quoit.get(name)))
        .collect();
    assert!(
        found.is_empty(),
        "{} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Parameters whose value is not the oracle's, with the reason.
const OWN_DEFAULTS: &[(&str, &str)] = &[
    ("port", "free ports"),
    ("dir", "directories of their own"),
    ("cluster-node-timeout", "keys are back sooner"),
];
