//! LATENCY: what was slow, second by second (the latency monitor), and how long each command takes (the histograms).

mod sparkline;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use super::{Caller, Done, Handler, help};
use crate::base::clock::Millis;
use crate::base::stats::Distribution;
use crate::config::Settings;
use crate::resp::reply::Reply;
use crate::state::Server;
use crate::state::latency::{LatencyEvent, Series};
use crate::table::lookup::Entry;
use crate::table::{Args, Command, CommandError, Family, Flags, Row};

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row {
    command: Command {
        name: "latency",
        family: Family::Server,
        since: "2.8.13",
        summary: "Shows what was slow and how long commands take.",
        complexity: "",
        ..Command::NEW
    },
    handler: Handler::Container,
    subcommands: &[
        Row::new(
            Command {
                name: "doctor",
                summary: "Describes the latency spikes that were seen and what to do about them.",
                ..SUBCOMMAND
            },
            Handler::Admin(latency_doctor),
        ),
        Row::new(
            Command {
                name: "graph",
                summary: "Draws the latency of an event over time.",
                usage: "event",
                ..SUBCOMMAND
            },
            Handler::Admin(latency_graph),
        ),
        Row::new(
            Command {
                name: "help",
                summary: "Lists the subcommands of LATENCY.",
                flags: Flags::LOADING.union(Flags::STALE),
                tips: &[],
                ..SUBCOMMAND
            },
            Handler::Admin(latency_help),
        ),
        Row::new(
            Command {
                name: "histogram",
                since: "7.0.0",
                summary: "Counts how often commands took how long, cumulatively.",
                complexity: "O(N) in the number of commands with a histogram",
                usage: "[command ...]",
                ..SUBCOMMAND
            },
            Handler::Admin(latency_histogram),
        ),
        Row::new(
            Command {
                name: "history",
                summary: "Lists the samples of an event with their times.",
                usage: "event",
                ..SUBCOMMAND
            },
            Handler::Admin(latency_history),
        ),
        Row::new(
            Command {
                name: "latest",
                summary: "Lists the latest sample of every event.",
                ..SUBCOMMAND
            },
            Handler::Admin(latency_latest),
        ),
        Row::new(
            Command {
                name: "reset",
                summary: "Forgets the samples of some events, or of all.",
                usage: "[event ...]",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SUBCOMMAND
            },
            Handler::Admin(latency_reset),
        ),
    ],
}];

const SUBCOMMAND: Command = Command {
    family: Family::Server,
    since: "2.8.13",
    flags: Flags::ADMIN
        .union(Flags::NOSCRIPT)
        .union(Flags::LOADING)
        .union(Flags::STALE),
    tips: &[
        "nondeterministic_output",
        "request_policy:all_nodes",
        "response_policy:special",
    ],
    ..Command::NEW
};

/// Columns of LATENCY GRAPH.
const GRAPH_COLUMNS: usize = 80;

fn latency_latest(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let events = caller.server.latency.all();
    reply.array(events.len());
    for (event, series) in events {
        let latest = series.latest();
        reply.array(4);
        reply.bulk(event.name().as_bytes());
        reply.integer(latest.map_or(0, |sample| sample.second));
        reply.integer(latest.map_or(0, |sample| sample.millis) as i64);
        reply.integer(series.worst() as i64);
    }
    Ok(())
}

fn latency_history(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let series = caller.server.latency.series(args.bytes()?);
    let series = series.unwrap_or_default();
    reply.array(series.samples().len());
    for sample in series.samples() {
        reply.array(2);
        reply.integer(sample.second);
        reply.integer(sample.millis as i64);
    }
    Ok(())
}

fn latency_reset(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let monitor = &caller.server.latency;
    let forgotten = if args.is_empty() {
        monitor.reset_all()
    } else {
        args.rest().filter(|name| monitor.reset(name)).count()
    };
    reply.integer(forgotten as i64);
    Ok(())
}

fn latency_graph(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let name = args.bytes()?;
    let shown = String::from_utf8_lossy(name);
    let Some(series) = caller.server.latency.series(name) else {
        return Err(CommandError::text_of(format!(
            "ERR No samples available for event '{shown}'"
        )));
    };
    reply.verbatim("txt", graph(&shown, &series, caller.now).as_bytes());
    Ok(())
}

fn graph(name: &str, series: &Series, now: Millis) -> String {
    let (least, most) = series
        .summary(now)
        .map_or((0, 0), |summary| (summary.least, summary.most));
    let samples: Vec<(u64, String)> = series
        .samples()
        .map(|sample| (sample.millis, age(now.seconds() - sample.second)))
        .collect();
    format!(
        "{name} - high {most} ms, low {least} ms (all time high {} ms)\n{}\n{}",
        series.worst(),
        "-".repeat(GRAPH_COLUMNS),
        sparkline::render(&samples, GRAPH_COLUMNS)
    )
}

/// `59s`, `3m`, `2h`, `5d`.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ ..3600 => format!("{}m", seconds / 60),
        seconds @ ..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn latency_doctor(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let settings = caller.server.config.settings();
    let text = report(&caller.server.latency.all(), &settings, caller.now);
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// What the doctor says of these events.
fn report(events: &[(LatencyEvent, Series)], settings: &Settings, now: Millis) -> String {
    if events.is_empty() {
        return if settings.latency_monitor_threshold.is_zero() {
            "The latency monitor is off: nothing is recorded. Turn it on with CONFIG SET latency-monitor-threshold \
             <milliseconds>; a good start is the longest delay that your application can bear.\n"
        } else {
            "No latency spikes: nothing took as long as latency-monitor-threshold since it was set or reset.\n"
        }
        .to_owned();
    }
    let mut text = String::from("Latency spikes were observed:\n\n");
    let mut advice: Vec<&str> = Vec::new();
    for (number, (event, series)) in events.iter().enumerate() {
        let Some(summary) = series.summary(now) else {
            continue;
        };
        writeln!(
            text,
            "{}. {}: {} latency spikes (average {}ms, mean deviation {}ms, period {:.2} sec). Worst all time event {}ms.",
            number + 1,
            event.name(),
            summary.count,
            summary.average,
            summary.mean_deviation,
            summary.period,
            series.worst(),
        )
        .expect("writing to a String cannot fail");
        for line in advice_on(*event, settings) {
            if !advice.contains(&line) {
                advice.push(line);
            }
        }
    }
    text.push_str("\nWhat may help:\n\n");
    for line in advice {
        writeln!(text, "- {line}").expect("writing to a String cannot fail");
    }
    text
}

/// What may help against an event.
fn advice_on(event: LatencyEvent, settings: &Settings) -> Vec<&'static str> {
    match event {
        LatencyEvent::Command | LatencyEvent::FastCommand => {
            let threshold = settings.latency_monitor_threshold;
            let slowlog = settings.slowlog_log_slower_than_us;
            let mut lines = Vec::new();
            if slowlog < 0 {
                lines.push("The slow log is off: CONFIG SET slowlog-log-slower-than makes it name the commands.");
            } else if slowlog as u128 > threshold.as_micros() {
                lines.push("Lower slowlog-log-slower-than to latency-monitor-threshold: the slow log misses some of these.");
            } else {
                lines.push("SLOWLOG GET names the commands that took so long.");
            }
            if event == LatencyEvent::FastCommand {
                lines.push("Fast commands that are slow point at the machine: look for swapping, a processor quota that is used up, or more threads than cores.");
            } else {
                lines.push("Work on large values takes long: keep them in smaller pieces.");
            }
            lines
        }
        LatencyEvent::ExpireCycle => {
            vec![
                "Lower active-expire-effort, or spread expiries over time: very many keys fall due at once.",
            ]
        }
        LatencyEvent::EvictionCycle => vec![
            "Memory is at its limit and new data pushes old data out: raise maxmemory, or store less, or let it expire earlier.",
        ],
        LatencyEvent::EvictionDel => {
            vec![
                "Evicted values are large: keep them in smaller pieces, which are freed in less time.",
            ]
        }
    }
}

fn latency_histogram(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let table = &caller.server.commands;
    let begun = reply.deferred();
    let mut shown = 0;
    let mut show = |entry: &Entry<()>| shown += usize::from(histogram(caller.server, entry, reply));
    if args.is_empty() {
        table.entries().iter().for_each(&mut show);
    } else {
        // Unknown names are skipped; a container stands for its subcommands.
        for entry in args.rest().filter_map(|name| table.find_full(name)) {
            show(entry);
            table.subcommands(entry).for_each(&mut show);
        }
    }
    reply.set_map(begun, shown);
    Ok(())
}

/// Writes a command's name and its histogram. `false` when it never ran, and nothing is written.
fn histogram(server: &Server, entry: &Entry<()>, reply: &mut Reply<'_>) -> bool {
    let durations = server.stats.command_sums(entry.id).durations;
    let calls = durations.count();
    if calls == 0 {
        return false;
    }
    let buckets = cumulative(&durations);
    reply.bulk(entry.full_name.as_bytes());
    reply.map(2);
    reply.bulk(b"calls");
    reply.integer(calls as i64);
    reply.bulk(b"histogram_usec");
    reply.map(buckets.len());
    for (micros, count) in buckets {
        reply.integer(micros as i64);
        reply.integer(count as i64);
    }
    true
}

/// Doublings from about a microsecond to about a second.
const DOUBLINGS: u32 = 20;

/// The counts of the durations up to 1, 2, 4, 8, 16, 33, 66, ... microseconds, where they grow. The last one, of about a
/// second, counts all that are longer too.
///
/// The bounds are 1024 ns times powers of two. Redis names one by the upper end of the HDR histogram's bucket that begins
/// there, which is 8/1024 higher; the last by the end of its range.
fn cumulative(durations: &Distribution) -> Vec<(u64, u64)> {
    let bounds = (0..=DOUBLINGS).map(|doubling| {
        if doubling == DOUBLINGS {
            return (((1u64 << 30) - 1) / 1000, durations.count());
        }
        let name = ((1032u64 << doubling) - 1) / 1000;
        (name, durations.up_to((1024u64 << doubling) - 1))
    });
    let mut before = 0;
    bounds
        .filter(|(_, count)| std::mem::replace(&mut before, *count) < *count)
        .collect()
}

fn latency_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(
        reply,
        "LATENCY",
        &[
            "DOCTOR",
            "    Describe the latency spikes that were seen, and what may help.",
            "GRAPH <event>",
            "    Draw the samples of <event>.",
            "HISTORY <event>",
            "    List the samples of <event>: Unix time and milliseconds.",
            "LATEST",
            "    List the latest sample of every event.",
            "RESET [<event> ...]",
            "    Forget the samples of these events (all events unless given).",
            "HISTOGRAM [<command> ...]",
            "    Count how often these commands (all unless given) took how many microseconds,",
            "    cumulatively.",
        ],
    );
    Ok(())
}
