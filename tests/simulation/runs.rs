//! Many seeds of each kind, on all cores.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Instant;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;

use crate::schedule::{Failure, Kind, Report, run};
use crate::support::scaled;
use crate::world::note_panics;

/// Failures after which it is enough.
const FAILURES: usize = 5;
/// Polls of whole servers nest deeply in a debug build.
const STACK_BYTES: usize = 32 << 20;

fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(note_panics);
}

/// What the servers of a simulation log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().expect("nobody panics with it");
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time in the simulation.
struct Simulated;

impl FormatTime for Simulated {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        write!(writer, "{:>9.3}", now.as_secs_f64())
    }
}

/// Runs a seed on a thread of its own: what is left behind by one does not meet the next. What its servers log is written to
/// a file if it fails.
fn run_alone(kind: Kind, seed: u64) -> Result<Report, Failure> {
    let log = Log::default();
    let writer = log.clone();
    let level = std::env::var("QUOIT_TEST_LOG").unwrap_or_else(|_| "debug".to_owned());
    let level: tracing::Level = level.parse().expect("QUOIT_TEST_LOG is a level");
    let of_servers = Targets::new()
        .with_target("quoit", level)
        .with_target("openraft", tracing::Level::WARN);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_timer(Simulated)
        .with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(of_servers).with(layer);
    let thread = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || tracing::subscriber::with_default(subscriber, || run(kind, seed)))
        .expect("there is room for a thread");
    let mut done = thread.join().unwrap_or_else(|_| {
        Err(Failure {
            wrong: "the simulation itself panicked".to_owned(),
            story: String::new(),
        })
    });
    if let Err(failure) = &mut done {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{kind:?}-{seed}.log"));
        let log = log.0.lock().expect("nobody panics with it");
        if std::fs::write(&file, &*log).is_ok() {
            failure.wrong += &format!("\nthe logs of its servers: {}", file.display());
        }
    }
    done
}

fn run_many(kind: Kind, default: usize) {
    prepare();
    let only = std::env::var("QUOIT_TEST_SEED").ok();
    let only: Option<u64> = only.map(|text| text.parse().expect("QUOIT_TEST_SEED is a number"));
    let first = only.unwrap_or(1);
    let default = if only.is_some() { 1 } else { default };
    let count = scaled("QUOIT_TEST_SEEDS", default) as u64;
    let (next, failed) = (AtomicU64::new(first), AtomicUsize::new(0));
    let (told, operations) = (Mutex::new(()), AtomicUsize::new(0));
    let begun = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < FAILURES {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let begun = Instant::now();
                    let done = run_alone(kind, seed);
                    let _told = told.lock().expect("nobody panics with it");
                    match done {
                        Ok(report) => {
                            operations.fetch_add(report.operations, Ordering::Relaxed);
                            println!(
                                "{kind:?} seed {seed}: {} operations, {} errors, {} epochs, {} losses, healed in {:?}, trace {:016x}, took {:?}",
                                report.operations, report.errors, report.epochs, report.losses, report.healed, report.trace, begun.elapsed()
                            );
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!(
                                "{kind:?} seed {seed} FAILED (replay with QUOIT_TEST_SEED={seed}):\n{}\n{}\n",
                                failure.story, failure.wrong
                            );
                        }
                    }
                }
            });
        }
    });
    println!(
        "{kind:?}: {} operations, {:?}",
        operations.into_inner(),
        begun.elapsed()
    );
    assert_eq!(failed.into_inner(), 0, "seeds failed; see above");
}

#[test]
fn nodes_come_and_leave_and_no_client_notices() {
    run_many(Kind::Calm, 80);
}

#[test]
fn whatever_fails_nothing_is_lost_but_with_its_owner() {
    run_many(Kind::Storm, 140);
}

#[test]
fn whoever_was_cut_off_comes_back_and_nothing_is_lost_since() {
    run_many(Kind::Cuts, 80);
}
