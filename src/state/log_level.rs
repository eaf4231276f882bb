//! How much is logged: one number for the process, since the log is the process's own.

use std::sync::atomic::{AtomicU8, Ordering};

use tracing::Level;

use crate::config::LogLevel;

/// The level in force, as a number that grows with detail. Written by the start and CONFIG SET, read before each event: a
/// late view costs a line at most, so relaxed.
static LEVEL: AtomicU8 = AtomicU8::new(2);

/// Changes the level.
pub fn set(level: LogLevel) {
    let number = match level {
        LogLevel::Warning => 2,
        LogLevel::Notice => 3,
        LogLevel::Verbose | LogLevel::Debug => 4,
    };
    LEVEL.store(number, Ordering::Relaxed);
}

/// Whether events of this level are logged.
pub fn allows(level: Level) -> bool {
    number(level) <= LEVEL.load(Ordering::Relaxed)
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
