//! INFO, section by section.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::admin::testing::Host;
use crate::base::stats::Histogram;
use crate::commands::testing::{self, World};
use crate::resp::reply::Protocol;
use crate::state::clients::{Client, client_flags};

fn info(host: &Host, sections: &[&str]) -> String {
    let wanted: Vec<&[u8]> = sections.iter().map(|name| name.as_bytes()).collect();
    let facts = Facts {
        server: &host.server,
        settings: &host.server.config.settings(),
        now: host.server.clock.now(),
        sees_cluster: false,
        totals: None,
    };
    text(&facts, &wanted)
}

fn value(text: &str, field: &str) -> String {
    let mut found = text
        .split("\r\n")
        .filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = found.next();
    assert_eq!(found.next(), None, "{field} stands twice");
    value
        .unwrap_or_else(|| panic!("no {field} in {text}"))
        .to_owned()
}

fn titles(text: &str) -> Vec<&str> {
    text.split("\r\n")
        .filter_map(|line| line.strip_prefix("# "))
        .collect()
}

#[test]
fn sections_by_name() {
    // Aim: which sections each form shows, once and in one order; names in any case; unknown ones are empty.
    let host = Host::new();
    let default = [
        "Server",
        "Clients",
        "Memory",
        "Persistence",
        "Stats",
        "Replication",
        "CPU",
        "Modules",
        "Errorstats",
        "Cluster",
        "Keyspace",
    ];
    assert_eq!(titles(&info(&host, &[])), default);
    assert_eq!(titles(&info(&host, &["DEFAULT", "nosuch"])), default);
    let all = titles(&info(&host, &["all"])).len();
    assert_eq!(all, SECTIONS.len());
    assert_eq!(titles(&info(&host, &["everything", "cpu"])).len(), all);
    let few = ["keyspace", "modules", "CLUSTER", "cluster"];
    assert_eq!(
        titles(&info(&host, &few)),
        ["Modules", "Cluster", "Keyspace"]
    );
    let extended = info(&host, &["default", "latencystats"]);
    assert_eq!(titles(&extended).len(), default.len() + 1);
    assert_eq!(info(&host, &["nosuch"]), "");
}

#[test]
fn the_reply_is_a_text() {
    let host = Host::new();
    let mut client = host.client();
    let section = "# Modules\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n";
    assert_eq!(
        client.run("INFO cluster modules"),
        format!("$43\r\n{section}\r\n")
    );
    assert_eq!(client.run("INFO nosuch"), "$0\r\n\r\n");
    client.session.protocol = Protocol::Resp3;
    assert_eq!(
        client.run("INFO cluster modules"),
        format!("=47\r\ntxt:{section}\r\n")
    );
    assert_eq!(client.run("INFO nosuch"), "=4\r\ntxt:\r\n");
}

#[test]
fn fields_are_lines_of_their_own() {
    // Aim: every line is a head, a field with a value that needs no escaping, or a blank between sections.
    let host = Host::new();
    let text = info(&host, &["everything"]);
    assert!(text.ends_with("\r\n") && !text.ends_with("\r\n\r\n"));
    let mut names = std::collections::BTreeSet::new();
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        if line.starts_with("# ") {
            continue;
        }
        let (name, _) = line.split_once(':').expect("a field");
        assert!(names.insert(name.to_owned()), "{name} stands twice");
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.|".contains(letter);
        assert!(name.chars().all(plain), "{name}");
    }
}

#[test]
fn the_server_of_itself() {
    let host = Host::with(&[("hz", "50")]);
    host.server
        .clock
        .advance(Duration::from_secs(2 * 86_400 + 5));
    host.server
        .tcp_port
        .store(7001, std::sync::atomic::Ordering::Relaxed);
    let text = info(&host, &["server"]);
    for (field, expected) in [
        ("redis_version", "7.4.0"),
        ("quoit_version", env!("CARGO_PKG_VERSION")),
        ("redis_mode", "standalone"),
        ("uptime_in_seconds", "172805"),
        ("uptime_in_days", "2"),
        ("hz", "50"),
        ("tcp_port", "7001"),
        ("run_id", &host.server.run_id),
        ("process_id", &std::process::id().to_string()),
        ("config_file", ""),
        ("server_time_usec", "1700172805000000"),
        ("listener0", "name=tcp,bind=127.0.0.1,bind=-::1,port=7001"),
    ] {
        assert_eq!(value(&text, field), expected, "{field}");
    }
}

#[test]
fn clients_and_what_they_hold() {
    let host = Host::new();
    for id in 1..=3 {
        let client = Client::new(
            id,
            String::new(),
            String::new(),
            0,
            false,
            host.server.clock.now(),
        );
        client
            .query_bytes
            .store(100 * id as usize, std::sync::atomic::Ordering::Relaxed);
        client
            .output_bytes
            .store(7, std::sync::atomic::Ordering::Relaxed);
        client.set_flag(client_flags::BLOCKED, id == 2);
        assert!(host.server.clients.add(std::sync::Arc::new(client), 10));
    }
    let text = info(&host, &["clients", "memory"]);
    assert_eq!(value(&text, "connected_clients"), "3");
    assert_eq!(value(&text, "blocked_clients"), "1");
    assert_eq!(value(&text, "client_recent_max_input_buffer"), "300");
    assert_eq!(value(&text, "client_recent_max_output_buffer"), "7");
    let normal = 600 + 21 + 3 * size_of::<Client>();
    assert_eq!(value(&text, "mem_clients_normal"), normal.to_string());
    assert_eq!(value(&text, "mem_clients_slaves"), "0");
}

#[test]
fn what_is_used_is_what_maxmemory_limits() {
    let host = Host::with(&[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")]);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    host.server.base_bytes.store(1_000_000, relaxed);
    host.server.keyspace.account(1_500_000);
    let before = info(&host, &["memory"]);
    host.server.keyspace.account(-500_000);
    host.server.clock.advance(Duration::from_secs(60));
    let text = info(&host, &["memory"]);
    assert_eq!(value(&before, "used_memory_peak_perc"), "100.00%");
    for (field, expected) in [
        ("used_memory", "2000000"),
        ("used_memory_human", "1.91M"),
        ("used_memory_peak", "2500000"),
        ("used_memory_peak_human", "2.38M"),
        ("used_memory_peak_time", "1700000000"),
        ("used_memory_peak_perc", "80.00%"),
        ("used_memory_startup", "1000000"),
        ("used_memory_overhead", "1000000"),
        ("used_memory_dataset", "1000000"),
        ("used_memory_dataset_perc", "100.00%"),
        ("maxmemory", "104857600"),
        ("maxmemory_human", "100.00M"),
        ("maxmemory_policy", "allkeys-lru"),
        ("total_system_memory_human", "1.00G"),
    ] {
        assert_eq!(value(&text, field), expected, "{field}");
    }
    let whole = |field| value(&text, field).parse::<i64>().expect("a number");
    assert_eq!(
        whole("mem_fragmentation_bytes"),
        whole("used_memory_rss") - 2_000_000
    );
    assert_eq!(
        whole("allocator_frag_bytes"),
        whole("allocator_active") - whole("allocator_allocated")
    );
}

#[test]
fn counters_show() {
    let host = Host::new();
    let stats = &host.server.stats;
    let mine = stats.mine();
    mine.total_commands.add(12);
    mine.net_in.add(1 << 20);
    mine.hits.add(3);
    mine.misses.add(4);
    mine.expired.add(5);
    mine.expired_fields.add(6);
    mine.evicted.add(6);
    stats.connections.add(7);
    stats.auth_failures.add(8);
    stats.expiry.cycle(1, 2);
    stats.expiry.micros.add(1999);
    stats.rates.sample(0, stats.totals());
    mine.total_commands.add(1600);
    mine.net_in.add(16 * 1024);
    stats.rates.sample(1_000_000, stats.totals());
    stats.over_limit.observe(true, host.server.clock.now());
    host.server.clock.advance(Duration::from_millis(250));
    let text = info(&host, &["stats"]);
    for (field, expected) in [
        ("total_commands_processed", "1612"),
        ("instantaneous_ops_per_sec", "100"),
        ("instantaneous_input_kbps", "1.00"),
        ("total_net_input_bytes", "1064960"),
        ("total_connections_received", "7"),
        ("keyspace_hits", "3"),
        ("keyspace_misses", "4"),
        ("expired_subkeys", "6"),
        ("expired_keys", "5"),
        ("expired_stale_perc", "2.50"),
        ("expire_cycle_cpu_milliseconds", "1"),
        ("evicted_keys", "6"),
        ("total_eviction_exceeded_time", "250"),
        ("current_eviction_exceeded_time", "250"),
        ("acl_access_denied_auth", "8"),
    ] {
        assert_eq!(value(&text, field), expected, "{field}");
    }
    host.server.stats.reset();
    let text = info(&host, &["stats"]);
    for field in [
        "total_commands_processed",
        "keyspace_hits",
        "expired_stale_perc",
    ] {
        assert_eq!(value(&text, field).parse(), Ok(0.0), "{field}");
    }
}

#[test]
fn commands_errors_and_latencies() {
    let host = Host::with(&[("latency-tracking-info-percentiles", "50 99.99 100")]);
    let stats = &host.server.stats;
    let id = |name: &str| {
        let entry = host.server.commands.find_full(name.as_bytes());
        entry.expect("the command is in the table").id
    };
    let get = stats.command(id("get"));
    get.calls.add(3);
    get.nanos.add(4_500);
    get.failed.add(1);
    (0..3).for_each(|_| get.histogram.add(Histogram::bucket(1000), 1));
    stats.command(id("slowlog|get")).rejected.add(2);
    stats.count_error("WRONGTYPE");
    stats.count_error("ERR");
    stats.count_error("ERR");
    stats.count_error("A:B");
    assert_eq!(
        info(&host, &["commandstats", "errorstats", "latencystats"]),
        "# Commandstats\r\n\
         cmdstat_get:calls=3,usec=4,usec_per_call=1.50,rejected_calls=0,failed_calls=1\r\n\
         cmdstat_slowlog|get:calls=0,usec=0,usec_per_call=0.00,rejected_calls=2,failed_calls=0\r\n\
         \r\n# Errorstats\r\n\
         errorstat_A_B:count=1\r\nerrorstat_ERR:count=2\r\nerrorstat_WRONGTYPE:count=1\r\n\
         \r\n# Latencystats\r\n\
         latency_percentiles_usec_get:p50=1.023,p99.99=1.023,p100=1.023\r\n"
    );
    let host = Host::with(&[("latency-tracking", "no")]);
    let stats = &host.server.stats;
    let get = stats.command(id("get"));
    get.histogram.add(Histogram::bucket(1000), 1);
    assert_eq!(info(&host, &["latencystats"]), "# Latencystats\r\n");
}

#[test]
fn databases_with_keys() {
    // Aim: one line per database that has keys; the average is over keys with an expiry.
    let data = World::new();
    for line in ["SET a 1", "SET b 1 PX 1000", "SET c 1 PX 3000"] {
        testing::run(&data, line);
    }
    data.database.set(3);
    testing::run(&data, "SET d 1");
    let mut lines = Lines::default();
    sections::databases(&sections::totals(&data.keyspace, data.now()), &mut lines);
    assert_eq!(
        lines.0,
        "db0:keys=3,expires=2,avg_ttl=2000,subexpiry=0\r\ndb3:keys=1,expires=0,avg_ttl=0,subexpiry=0\r\n"
    );
    data.advance_ms(5000);
    let mut lines = Lines::default();
    sections::databases(&sections::totals(&data.keyspace, data.now()), &mut lines);
    assert!(
        lines.0.starts_with("db0:keys=3,expires=2,avg_ttl=0,"),
        "{}",
        lines.0
    );
}

/// Fields of redis-server 7.0.15 that are not ours, with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

#[test]
fn fields_stand_as_in_redis() {
    // Aim: every section and field that redis-server shows is ours, in its order; ours may have more.
    let Some(theirs) = oracle_info() else {
        return;
    };
    let host = Host::new();
    let ours = names(&info(&host, &["everything"]));
    let mut rest = ours.iter();
    for name in names(&theirs) {
        if EXCEPTIONS.iter().any(|(known, _)| *known == name) {
            assert!(!ours.contains(&name), "{name} is no exception any more");
            continue;
        }
        assert!(
            rest.any(|mine| *mine == name),
            "{name} is missing or stands elsewhere"
        );
    }
}

/// Heads and field names, without fields that are named after what happened to run.
fn names(text: &str) -> Vec<String> {
    let dynamic = ["cmdstat_", "errorstat_", "latency_percentiles_usec_", "db"];
    text.split("\r\n")
        .filter(|line| !line.is_empty())
        .map(|line| line.split(':').next().unwrap_or(line).to_owned())
        .filter(|name| !dynamic.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

/// INFO EVERYTHING of a redis-server of this test's own; `None`, with a message, when there is none on the PATH.
fn oracle_info() -> Option<String> {
    let free = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let spawned = Process::new("redis-server")
        .args([
            "--save",
            "",
            "--port",
            &free.port().to_string(),
            "--bind",
            "127.0.0.1",
        ])
        .stdout(Stdio::null())
        .spawn();
    let Ok(server) = spawned else {
        eprintln!("SKIPPED: redis-server is not on the PATH, nothing was compared");
        return None;
    };
    let _ended = Ended(server);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut stream = loop {
        match TcpStream::connect(free) {
            Ok(stream) => break BufReader::new(stream),
            Err(error) => assert!(
                Instant::now() < deadline,
                "redis-server does not answer: {error}"
            ),
        }
        std::thread::yield_now();
    };
    stream
        .get_mut()
        .write_all(b"INFO EVERYTHING\r\n")
        .expect("the server reads");
    let mut head = String::new();
    stream.read_line(&mut head).expect("the server answers");
    let length = head
        .trim_start_matches('$')
        .trim()
        .parse()
        .expect("a length");
    let mut text = vec![0; length];
    stream.read_exact(&mut text).expect("the server answers");
    Some(String::from_utf8(text).expect("a text"))
}

/// Ends the server, however the test ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
