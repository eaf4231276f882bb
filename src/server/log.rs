//! Logs: one line per event, with its fields, to stderr or a file, at a level that CONFIG SET can change.

use std::fs::OpenOptions;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogLevel, Settings};

/// The level in force, as a number that grows with detail. Written by the start and CONFIG SET, read before each event: a
/// late view costs a line at most, so relaxed.
static LEVEL: AtomicU8 = AtomicU8::new(2);

/// Begins logging as the parameters say. To be called once, by the program, not by the library.
pub fn start(settings: &Settings) {
    set_level(settings.loglevel);
    let filter = filter_fn(|metadata| number(*metadata.level()) <= LEVEL.load(Ordering::Relaxed))
        .with_max_level_hint(LevelFilter::DEBUG);
    let file = (!settings.logfile.is_empty())
        .then(|| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&settings.logfile)
        })
        .transpose();
    match file {
        Ok(Some(file)) => {
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(Mutex::new(file));
            let _ = tracing_subscriber::registry()
                .with(layer.with_filter(filter))
                .try_init();
        }
        other => {
            let ansi = io::IsTerminal::is_terminal(&io::stderr());
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(ansi)
                .with_writer(io::stderr);
            let _ = tracing_subscriber::registry()
                .with(layer.with_filter(filter))
                .try_init();
            if let Err(error) = other {
                tracing::error!(file = %settings.logfile, %error, "cannot write the log file; logging to stderr");
            }
        }
    }
}

/// Changes the level.
pub fn set_level(level: LogLevel) {
    let number = match level {
        LogLevel::Warning => 2,
        LogLevel::Notice => 3,
        LogLevel::Verbose | LogLevel::Debug => 4,
    };
    LEVEL.store(number, Ordering::Relaxed);
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}
