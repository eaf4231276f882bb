//! LATENCY: what is recorded, and how it is told.

use super::*;
use crate::admin::testing::{Connection, Host};
use crate::base::stats::Histogram;
use crate::resp::reply::Protocol;
use std::time::Duration;

const EACH: Duration = Duration::from_millis(5);

/// An event that many seconds after the host's start.
fn note(host: &Host, event: LatencyEvent, millis: u64, second: i64) {
    let at = host.server.started.plus(second * 1000);
    let took = Duration::from_millis(millis);
    host.server.latency.note(event, took, EACH, at);
}

/// Asks in RESP3.
fn run3(client: &mut Connection, line: &str) -> String {
    client.session.protocol = Protocol::Resp3;
    let reply = client.run(line);
    client.session.protocol = Protocol::Resp2;
    reply
}

fn id(host: &Host, name: &str) -> u16 {
    let entry = host.server.commands.find_full(name.as_bytes());
    entry.expect("the command is in the table").id
}

fn distribution(durations: &[(u64, u64)]) -> Distribution {
    let histogram = Histogram::default();
    for (nanos, count) in durations {
        histogram.add(Histogram::bucket(*nanos), *count);
    }
    let mut sums = Distribution::default();
    histogram.collect(&mut sums);
    sums
}

#[test]
fn buckets_are_powers_of_two_and_cumulative() {
    assert_eq!(cumulative(&distribution(&[])), []);
    assert_eq!(cumulative(&distribution(&[(900, 2)])), [(1, 2)]);
    let spread = [(500, 1), (1_500, 1), (3_000, 2), (20_000, 1), (900_000, 3)];
    assert_eq!(
        cumulative(&distribution(&spread)),
        [(1, 1), (2, 2), (4, 4), (33, 5), (1056, 8)]
    );
    // The names as redis-server 7.0.15 prints them.
    let doubling: Vec<(u64, u64)> = (0..20).map(|doubling| (900 << doubling, 1)).collect();
    let names: Vec<u64> = cumulative(&distribution(&doubling))
        .iter()
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(
        names,
        [
            1, 2, 4, 8, 16, 33, 66, 132, 264, 528, 1056, 2113, 4227, 8454, 16908, 33816, 67633,
            135_266, 270_532, 541_065
        ]
    );
}

#[test]
fn what_takes_more_than_a_second_counts_in_the_last_bucket() {
    // Aim: nothing is lost, and the last name is that of redis-server (CONFIG SET of 2.7 s there).
    let long = distribution(&[(2_700_000_000, 1), (u64::MAX, 1)]);
    assert_eq!(cumulative(&long), [(1_073_741, 2)]);
    assert_eq!(
        cumulative(&distribution(&[(1_000_000_000, 1)])),
        [(1_073_741, 1)]
    );
}

#[test]
fn histograms_in_both_protocols() {
    let host = Host::new();
    let mut client = host.client();
    let get = host.server.stats.command(id(&host, "get"));
    get.histogram.add(Histogram::bucket(900), 2);
    let sub = host.server.stats.command(id(&host, "slowlog|len"));
    sub.histogram.add(Histogram::bucket(1_500), 1);
    let len = "$11\r\nslowlog|len\r\n*4\r\n$5\r\ncalls\r\n:1\r\n$14\r\nhistogram_usec\r\n*2\r\n:2\r\n:1\r\n";
    let get = "$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n*2\r\n:1\r\n:2\r\n";
    assert_eq!(client.run("LATENCY HISTOGRAM"), format!("*4\r\n{get}{len}"));
    assert_eq!(
        client.run("LATENCY HISTOGRAM SLOWLOG nosuch slowlog|LEN set"),
        format!("*4\r\n{len}{len}")
    );
    assert_eq!(
        run3(&mut client, "LATENCY HISTOGRAM get"),
        "%1\r\n$3\r\nget\r\n%2\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n%1\r\n:1\r\n:2\r\n"
    );
    assert_eq!(run3(&mut client, "LATENCY HISTOGRAM nosuch"), "%0\r\n");
}

#[test]
fn samples_are_listed_and_forgotten() {
    let host = Host::new();
    let mut client = host.client();
    assert_eq!(client.run("LATENCY LATEST"), "*0\r\n");
    note(&host, LatencyEvent::Command, 30, 0);
    note(&host, LatencyEvent::Command, 20, 1);
    note(&host, LatencyEvent::ExpireCycle, 7, 1);
    assert_eq!(
        client.run("LATENCY LATEST"),
        "*2\r\n*4\r\n$7\r\ncommand\r\n:1700000001\r\n:20\r\n:30\r\n\
         *4\r\n$12\r\nexpire-cycle\r\n:1700000001\r\n:7\r\n:7\r\n"
    );
    assert_eq!(
        client.run("LATENCY HISTORY command"),
        "*2\r\n*2\r\n:1700000000\r\n:30\r\n*2\r\n:1700000001\r\n:20\r\n"
    );
    assert_eq!(client.run("LATENCY HISTORY COMMAND"), "*0\r\n");
    assert_eq!(client.run("LATENCY RESET nosuch command command"), ":1\r\n");
    assert_eq!(client.run("LATENCY HISTORY command"), "*0\r\n");
    assert_eq!(client.run("LATENCY RESET"), ":1\r\n");
}

#[test]
fn graphs() {
    let host = Host::new();
    let mut client = host.client();
    for (second, millis) in [14, 20, 60, 5, 40].into_iter().enumerate() {
        note(&host, LatencyEvent::Command, millis, second as i64);
    }
    host.server.clock.advance(Duration::from_secs(62));
    let dashes = "-".repeat(80);
    let graph = format!(
        "command - high 60 ms, low 5 ms (all time high 60 ms)\n{dashes}\n  #  \n  | o\n _| |\no||_|\n     \n11155\nmmm98\n   ss\n"
    );
    assert_eq!(
        client.run("LATENCY GRAPH command"),
        format!("${}\r\n{graph}\r\n", graph.len())
    );
    let refusal = "-ERR No samples available for event 'Command'\r\n";
    assert_eq!(client.run("LATENCY GRAPH Command"), refusal);
}

#[test]
fn ages() {
    let ages = [-5, 0, 59, 60, 3599, 3600, 86_399, 86_400, 900_000].map(age);
    let expected = ["0s", "0s", "59s", "1m", "59m", "1h", "23h", "1d", "10d"];
    assert_eq!(ages, expected);
}

#[test]
fn the_doctor() {
    // Aim: off, well, and ill with advice that fits the parameters.
    assert!(diagnosis(&Host::new()).contains("latency monitor is off"));
    let threshold = ("latency-monitor-threshold", "5");
    assert!(diagnosis(&Host::with(&[threshold])).contains("No latency spikes"));
    let ill = |slowlog: &str| {
        let host = Host::with(&[threshold, ("slowlog-log-slower-than", slowlog)]);
        note(&host, LatencyEvent::Command, 10, 0);
        note(&host, LatencyEvent::Command, 20, 2);
        note(&host, LatencyEvent::EvictionCycle, 6, 3);
        host.server.clock.advance(Duration::from_secs(4));
        diagnosis(&host)
    };
    let report = ill("-1");
    for part in [
        "=",
        "txt:Latency spikes were observed",
        "1. command: 2 latency spikes (average 15ms, mean deviation 5ms, period 2.00 sec). Worst all time event 20ms.\n",
        "2. eviction-cycle: 1 latency spikes (average 6ms, mean deviation 0ms, period 1.00 sec). Worst all time event 6ms.\n",
        "The slow log is off",
        "raise maxmemory",
    ] {
        assert!(report.contains(part), "{part} is not in {report}");
    }
    assert!(ill("5001").contains("Lower slowlog-log-slower-than"));
    assert!(ill("5000").contains("SLOWLOG GET names"));
}

fn diagnosis(host: &Host) -> String {
    run3(&mut host.client(), "LATENCY DOCTOR")
}
