//! What is noted of a run: counts and durations, the slow log, MONITOR.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::clock::Millis;
use crate::base::stats::Histogram;
use crate::config::Settings;
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::state::Server;
use crate::state::latency::LatencyEvent;
use crate::state::session::{After, Session};
use crate::state::stats::Stats;
use crate::table::{Command, Flags};

/// Counts runs of a batch: those of the command that ran last cost one addition, as do those of the few before it.
pub struct Tally {
    clock: quanta::Clock,
    /// Reading of the clock at the end of the run before.
    last: u64,
    /// Reading at the begin of the batch.
    begun: u64,
    /// Of the command that ran last.
    sums: Sums,
    /// Of others: a script or a transaction runs a few in turn.
    others: [Sums; OTHERS],
    /// Which of the others has to go for another command.
    oldest: usize,
    /// Whether any of the others may have runs.
    has_others: bool,
    /// Nanoseconds from which a run is for the slow log or the latency monitor; `u64::MAX` is never.
    slow_nanos: u64,
    keeps_durations: bool,
}

/// The runs of one command that are not yet in the statistics.
#[derive(Clone, Copy, Default)]
struct Sums {
    id: u16,
    calls: u64,
    nanos: u64,
    bucket: usize,
    bucket_calls: u64,
}

/// Commands beside the last one whose runs are summed up.
const OTHERS: usize = 3;

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Tally {
        // In a simulation nothing takes time: what does would make a run differ from the next.
        #[cfg(feature = "simulation")]
        let (clock, _) = quanta::Clock::mock();
        #[cfg(not(feature = "simulation"))]
        let clock = quanta::Clock::new();
        let last = clock.raw();
        Tally {
            clock,
            last,
            begun: last,
            sums: Sums::default(),
            others: [Sums::default(); OTHERS],
            oldest: 0,
            has_others: false,
            slow_nanos: u64::MAX,
            keeps_durations: true,
        }
    }

    /// Begins a batch: its first run is timed from here.
    pub fn begin(&mut self, settings: &Settings) {
        self.follow(settings);
        self.last = self.clock.raw();
        self.begun = self.last;
    }

    /// From the begin of the batch to the end of its last run.
    #[inline]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.delta_as_nanos(self.begun, self.last))
    }

    /// Takes over changed parameters: a command that changes them is already measured by them.
    pub fn follow(&mut self, settings: &Settings) {
        let threshold = match settings.latency_monitor_threshold {
            Duration::ZERO => u64::MAX,
            threshold => u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX),
        };
        self.slow_nanos = slowlog_nanos(settings).min(threshold);
        self.keeps_durations = settings.latency_tracking;
    }

    /// Counts a run that ends now, or `sleep_nanos` later (DEBUG SLEEP). Its duration, when it was slow.
    #[inline]
    pub fn record(
        &mut self,
        stats: &Stats,
        id: u16,
        failed: bool,
        sleep_nanos: u64,
    ) -> Option<Duration> {
        let end = self.clock.raw();
        let nanos = self.clock.delta_as_nanos(self.last, end) + sleep_nanos;
        self.last = end;
        let bucket = Histogram::bucket(nanos);
        if id != self.sums.id {
            self.change_to(id, stats);
        }
        if bucket != self.sums.bucket {
            self.sums.flush_bucket(stats, self.keeps_durations);
        }
        self.sums.bucket = bucket;
        self.sums.bucket_calls += 1;
        self.sums.calls += 1;
        self.sums.nanos += nanos;
        if failed {
            stats.command(id).failed.add(1);
        }
        (nanos >= self.slow_nanos).then(|| Duration::from_nanos(nanos))
    }

    /// When the command began within which others are to run, each after a [`Tally::skip`].
    pub fn begin_nested(&self) -> u64 {
        self.last
    }

    /// The end of those: the command took as long as all of it.
    pub fn end_nested(&mut self, begun: u64) {
        self.last = begun;
    }

    /// Counts a request that was refused before it ran.
    pub fn rejected(&mut self, stats: &Stats, id: u16) {
        stats.command(id).rejected.add(1);
    }

    /// Leaves out the time since the run before.
    pub fn skip(&mut self) {
        self.last = self.clock.raw();
    }

    /// Goes on with the sums of another command.
    fn change_to(&mut self, id: u16, stats: &Stats) {
        let known = self.others.iter().position(|sums| sums.id == id);
        let place = known.unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % OTHERS;
            self.oldest
        });
        std::mem::swap(&mut self.sums, &mut self.others[place]);
        self.has_others = true;
        if known.is_none() {
            self.sums.flush(stats, self.keeps_durations);
            self.sums.id = id;
        }
    }

    /// Adds what was counted to the statistics.
    pub fn flush(&mut self, stats: &Stats) {
        self.sums.flush(stats, self.keeps_durations);
        if std::mem::take(&mut self.has_others) {
            for sums in &mut self.others {
                sums.flush(stats, self.keeps_durations);
            }
        }
    }
}

impl Sums {
    #[inline]
    fn flush(&mut self, stats: &Stats, keeps_durations: bool) {
        if self.calls == 0 {
            return;
        }
        self.flush_bucket(stats, keeps_durations);
        stats.mine().total_commands.add(self.calls);
        let counts = stats.command(self.id);
        counts.calls.add(std::mem::take(&mut self.calls));
        counts.nanos.add(std::mem::take(&mut self.nanos));
    }

    fn flush_bucket(&mut self, stats: &Stats, keeps_durations: bool) {
        let calls = std::mem::take(&mut self.bucket_calls);
        if calls > 0 && keeps_durations {
            stats.command(self.id).histogram.add(self.bucket, calls);
        }
    }
}

fn slowlog_nanos(settings: &Settings) -> u64 {
    match settings.slowlog_log_slower_than_us {
        micros if micros < 0 => u64::MAX,
        micros => (micros as u64).saturating_mul(1000),
    }
}

/// Notes a run that was slow by one of the thresholds.
#[cold]
pub fn slow(
    server: &Server,
    session: &Session,
    command: &Command,
    arguments: Arguments<'_>,
    now: Millis,
    took: Duration,
) {
    let event = if command.flags.contains(Flags::FAST) {
        LatencyEvent::FastCommand
    } else {
        LatencyEvent::Command
    };
    server.note_latency(event, took);
    if took.as_nanos() >= u128::from(slowlog_nanos(&server.config.settings())) {
        let micros = took.as_micros() as u64;
        slowlog(server, session, command, arguments, now, micros);
    }
}

/// Adds a run to the slow log.
fn slowlog(
    server: &Server,
    session: &Session,
    command: &Command,
    arguments: Arguments<'_>,
    now: Millis,
    micros: u64,
) {
    if command.flags.contains(Flags::SKIP_SLOWLOG) {
        return;
    }
    let redacted;
    let shown = if command.flags.contains(Flags::SENSITIVE) {
        redacted = shown(command, arguments).collect::<OwnedArguments>();
        redacted.as_arguments()
    } else {
        arguments
    };
    let name = session.client.labels.lock().name.clone();
    server
        .slowlog
        .add(now, micros, shown, &session.client.addr, &name);
}

/// The arguments of a request, with a word in place of each secret.
fn shown<'a>(
    command: &'a Command,
    arguments: Arguments<'a>,
) -> impl Iterator<Item = &'a [u8]> + 'a {
    arguments.iter().enumerate().map(move |(index, argument)| {
        if command.hides(&arguments, index) {
            b"(redacted)"
        } else {
            argument
        }
    })
}

/// Shows a request to the clients that watch: `+seconds.micros [db addr] "name" "argument" ...`.
#[cold]
pub fn monitor(
    server: &Arc<Server>,
    session: &Session,
    command: &Command,
    arguments: Arguments<'_>,
) {
    if !command.flags.intersects(Flags::SKIP_MONITOR | Flags::ADMIN) {
        monitor_always(server, session, command, arguments);
    }
}

/// As [`monitor`], whatever the row says.
#[cold]
pub fn monitor_always(
    server: &Arc<Server>,
    session: &Session,
    command: &Command,
    arguments: Arguments<'_>,
) {
    let settings = server.config.settings();
    let micros = server.clock.micros();
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let from = match &settings.unixsocket {
        _ if session.in_script => "lua".to_owned(),
        Some(path) if session.client.is_unix => format!("unix:{}", path.display()),
        _ => session.client.addr.clone(),
    };
    let mut line = format!("+{seconds}.{micros:06} [{} {from}]", session.database).into_bytes();
    for argument in shown(command, arguments) {
        line.push(b' ');
        quote(argument, &mut line);
    }
    line.extend_from_slice(b"\r\n");
    let limit = settings.client_output_buffer_limit.replica.hard_bytes as usize;
    // Who watches and quits gets nothing behind the reply to QUIT.
    let closing = matches!(session.after, After::Close | After::Drop);
    let except = closing.then_some(session.client.id);
    server.monitors.show(&Bytes::from(line), except, limit);
}

/// Bytes in double quotes, as redis's `sdscatrepr` prints them.
pub fn quote(bytes: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for byte in bytes {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', *byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x07 => line.extend_from_slice(b"\\a"),
            0x08 => line.extend_from_slice(b"\\b"),
            0x20..=0x7e => line.push(*byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Host;
    use crate::config::{Config, Machine};
    use crate::dispatch::{Runner, Step};
    use crate::resp::decode::OwnedArguments;
    use crate::resp::reply::Output;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let machine = Machine {
            memory_limit_bytes: None,
            memory_total_bytes: 1 << 30,
            cpu_count: 1,
        };
        let config = Config::new(Settings::new(machine));
        let pairs: Vec<(&[u8], &[u8])> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        config
            .set(&pairs, |_, _| Ok(()))
            .expect("the values are good");
        Settings::clone(&config.settings())
    }

    /// What a run of 20 ms is to these parameters: slow or not.
    fn is_slow(pairs: &[(&str, &str)]) -> bool {
        let stats = Stats::new(2, 1);
        let mut tally = Tally::new();
        tally.begin(&settings(pairs));
        let took = tally.record(&stats, 1, false, 20_000_000);
        assert!(took.is_none_or(|took| took >= Duration::from_millis(20)));
        took.is_some()
    }

    #[test]
    fn either_threshold_makes_a_run_slow() {
        let log = "slowlog-log-slower-than";
        let monitor = "latency-monitor-threshold";
        assert!(is_slow(&[]));
        assert!(is_slow(&[(log, "0")]));
        assert!(!is_slow(&[(log, "-1")]));
        assert!(is_slow(&[(log, "-1"), (monitor, "20")]));
        assert!(!is_slow(&[(log, "600000000"), (monitor, "600000")]));
        assert!(is_slow(&[(log, "20000"), (monitor, "0")]));
    }

    #[test]
    fn runs_are_counted_and_refusals_are_not() {
        let stats = Stats::new(2, 1);
        let mut tally = Tally::new();
        tally.begin(&settings(&[]));
        tally.record(&stats, 1, false, 1_000);
        tally.record(&stats, 1, true, 1_000);
        tally.record(&stats, 0, false, 0);
        tally.skip();
        tally.rejected(&stats, 0);
        tally.flush(&stats);
        assert_eq!(stats.totals().commands, 3);
        let sums = stats.command_sums(1);
        assert_eq!((sums.calls, sums.failed, sums.durations.count()), (2, 1, 2));
        assert!(sums.nanos >= 2_000);
        let sums = stats.command_sums(0);
        assert_eq!((sums.calls, sums.rejected), (1, 1));
    }

    /// A server without sockets, its one client, and what runs the client's requests.
    struct World {
        server: Arc<Server>,
        session: Session,
        runner: Runner,
    }

    impl World {
        fn new(pairs: &[(&str, &str)]) -> World {
            let host = Host::with(pairs);
            World {
                session: host.client().session,
                runner: Runner::new(Arc::clone(&host.server)),
                server: host.server,
            }
        }

        fn run(&mut self, words: &[&str]) {
            let mut output = Output::new();
            let request = OwnedArguments::from(words);
            let request = request.as_arguments();
            self.runner.begin_batch();
            let step = self
                .runner
                .run(&mut self.session, request, &mut output, 0, 0);
            let mut next = match step {
                Step::Sweep(sweeping) => Some(sweeping),
                _ => None,
            };
            while let Some(sweeping) = next {
                let session = &mut self.session;
                next = self
                    .runner
                    .sweep_step(session, sweeping, request, &mut output);
            }
            self.runner.end_batch();
        }
    }

    #[test]
    fn the_slow_log_has_every_kind_of_command() {
        // Aim: reads, writes, refusals by the handler and sweeps are logged as they came; what did not run is not.
        let mut world = World::new(&[("slowlog-log-slower-than", "0")]);
        let ran: [&[&str]; 4] = [
            &["SET", "k", "v"],
            &["get", "k"],
            &["INCR", "k"],
            &["KEYS", "*"],
        ];
        ran.iter().for_each(|words| world.run(words));
        world.run(&["GET"]);
        world.run(&["nosuch", "k"]);
        let logged: Vec<Vec<String>> = world
            .server
            .slowlog
            .newest(10)
            .into_iter()
            .map(|entry| {
                let words = entry.arguments.into_iter();
                words
                    .map(|word| String::from_utf8(word).expect("text"))
                    .collect()
            })
            .rev()
            .collect();
        assert_eq!(logged, ran);
        assert_eq!(world.server.slowlog.newest(1)[0].addr, "127.0.0.1:1001");
        assert_eq!(world.server.stats.totals().commands, 4);
    }

    #[test]
    fn slow_commands_are_events_of_their_speed() {
        let world = World::new(&[
            ("latency-monitor-threshold", "10"),
            ("slowlog-log-slower-than", "-1"),
        ]);
        let note = |name: &str, millis| {
            let entry = world.server.commands.find(name.as_bytes());
            let entry = entry.expect("the command is there");
            let request = OwnedArguments::from(&[name]);
            let took = Duration::from_millis(millis);
            let at = world.server.clock.now();
            let request = request.as_arguments();
            slow(
                &world.server,
                &world.session,
                entry.command,
                request,
                at,
                took,
            );
        };
        note("get", 9);
        assert!(world.server.latency.all().is_empty());
        note("get", 10);
        note("keys", 15);
        let events: Vec<(&str, u64)> = world
            .server
            .latency
            .all()
            .iter()
            .map(|(event, series)| (event.name(), series.worst()))
            .collect();
        assert_eq!(events, [("command", 15), ("fast-command", 10)]);
        assert!(world.server.slowlog.is_empty());
    }

    #[test]
    fn a_wrong_number_of_arguments_is_a_rejected_call() {
        let mut world = World::new(&[]);
        world.run(&["GET"]);
        world.run(&["OBJECT", "FREQ"]);
        world.run(&["OBJECT", "NOSUCH"]);
        world.run(&["NOSUCH"]);
        let stats = &world.server.stats;
        let rejected = |name: &[u8]| {
            let entry = world.server.commands.find_full(name);
            let id = entry.expect("the command is there").id;
            stats.command_sums(id).rejected
        };
        assert_eq!(rejected(b"get"), 1);
        assert_eq!(rejected(b"object|freq"), 1);
        assert_eq!(stats.totals().commands, 0);
        assert_eq!(
            stats.error_counts().into_iter().collect::<Vec<_>>(),
            [("ERR".to_owned(), 4)]
        );
    }
}
