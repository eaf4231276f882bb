use super::*;
use crate::admin::testing::{NOW, World};
use crate::base::stats::Histogram;
use std::time::Duration;

const EACH: Duration = Duration::from_millis(5);

fn note(world: &World, event: LatencyEvent, millis: u64, second: i64) {
    let at = NOW.plus(second * 1000);
    let took = Duration::from_millis(millis);
    world.server.latency.note(event, took, EACH, at);
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
    let mut world = World::new();
    let get = world.server.stats.command(world.id("get"));
    get.histogram.add(Histogram::bucket(900), 2);
    let sub = world.server.stats.command(world.id("slowlog|len"));
    sub.histogram.add(Histogram::bucket(1_500), 1);
    let len = "$11\r\nslowlog|len\r\n*4\r\n$5\r\ncalls\r\n:1\r\n$14\r\nhistogram_usec\r\n*2\r\n:2\r\n:1\r\n";
    let get = "$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n*2\r\n:1\r\n:2\r\n";
    assert_eq!(world.ask("LATENCY HISTOGRAM"), format!("*4\r\n{get}{len}"));
    assert_eq!(
        world.ask("LATENCY HISTOGRAM SLOWLOG nosuch slowlog|LEN set"),
        format!("*4\r\n{len}{len}")
    );
    assert_eq!(
        world.ask3("LATENCY HISTOGRAM get"),
        "%1\r\n$3\r\nget\r\n%2\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n%1\r\n:1\r\n:2\r\n"
    );
    assert_eq!(world.ask3("LATENCY HISTOGRAM nosuch"), "%0\r\n");
}

#[test]
fn samples_are_listed_and_forgotten() {
    let mut world = World::new();
    assert_eq!(world.ask("LATENCY LATEST"), "*0\r\n");
    note(&world, LatencyEvent::Command, 30, 0);
    note(&world, LatencyEvent::Command, 20, 1);
    note(&world, LatencyEvent::ExpireCycle, 7, 1);
    assert_eq!(
        world.ask("LATENCY LATEST"),
        "*2\r\n*4\r\n$7\r\ncommand\r\n:1700000001\r\n:20\r\n:30\r\n\
         *4\r\n$12\r\nexpire-cycle\r\n:1700000001\r\n:7\r\n:7\r\n"
    );
    assert_eq!(
        world.ask("LATENCY HISTORY command"),
        "*2\r\n*2\r\n:1700000000\r\n:30\r\n*2\r\n:1700000001\r\n:20\r\n"
    );
    assert_eq!(world.ask("LATENCY HISTORY COMMAND"), "*0\r\n");
    assert_eq!(world.ask("LATENCY RESET nosuch command command"), ":1\r\n");
    assert_eq!(world.ask("LATENCY HISTORY command"), "*0\r\n");
    assert_eq!(world.ask("LATENCY RESET"), ":1\r\n");
}

#[test]
fn graphs() {
    let mut world = World::new();
    for (second, millis) in [14, 20, 60, 5, 40].into_iter().enumerate() {
        note(&world, LatencyEvent::Command, millis, second as i64);
    }
    world.server.clock.advance(Duration::from_secs(62));
    let dashes = "-".repeat(80);
    let graph = format!(
        "command - high 60 ms, low 5 ms (all time high 60 ms)\n{dashes}\n  #  \n  | o\n _| |\no||_|\n     \n11155\nmmm98\n   ss\n"
    );
    assert_eq!(
        world.ask("LATENCY GRAPH command"),
        format!("${}\r\n{graph}\r\n", graph.len())
    );
    let refusal = "-ERR No samples available for event 'Command'\r\n";
    assert_eq!(world.ask("LATENCY GRAPH Command"), refusal);
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
    let mut world = World::new();
    assert!(
        world
            .ask("LATENCY DOCTOR")
            .contains("latency monitor is off")
    );
    world.set(&[
        ("latency-monitor-threshold", "5"),
        ("slowlog-log-slower-than", "-1"),
    ]);
    assert!(world.ask("LATENCY DOCTOR").contains("No latency spikes"));
    note(&world, LatencyEvent::Command, 10, 0);
    note(&world, LatencyEvent::Command, 20, 2);
    note(&world, LatencyEvent::EvictionCycle, 6, 3);
    world.server.clock.advance(Duration::from_secs(4));
    let report = world.ask3("LATENCY DOCTOR");
    assert!(report.contains("txt:"), "{report}");
    for part in [
        "1. command: 2 latency spikes (average 15ms, mean deviation 5ms, period 2.00 sec). Worst all time event 20ms.\n",
        "2. eviction-cycle: 1 latency spikes (average 6ms, mean deviation 0ms, period 1.00 sec). Worst all time event 6ms.\n",
        "The slow log is off",
        "raise maxmemory",
    ] {
        assert!(report.contains(part), "{part} is not in {report}");
    }
    world.set(&[("slowlog-log-slower-than", "5001")]);
    assert!(
        world
            .ask("LATENCY DOCTOR")
            .contains("Lower slowlog-log-slower-than")
    );
    world.set(&[("slowlog-log-slower-than", "5000")]);
    assert!(world.ask("LATENCY DOCTOR").contains("SLOWLOG GET names"));
}
