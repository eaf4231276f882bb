//! CLIENT PAUSE: commands that wait until a moment, or until UNPAUSE.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::clock::Millis;

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PauseMode {
    /// None.
    Off = 0,
    /// Those that may write.
    Write = 1,
    /// All.
    All = 2,
}

/// The pause in force.
#[derive(Debug, Default)]
pub struct Pause {
    /// The mode as a number. Written with the lock of `until` held, read before every command: a command that misses a fresh pause
    /// counts as having come before it.
    mode: AtomicU8,
    /// End of the pause. A leaf lock.
    until: Mutex<Millis>,
    ended: Notify,
}

impl Pause {
    /// Which commands wait at present, by the mode alone; [`Pause::left_ms`] tells whether the time is over.
    #[inline]
    pub fn mode(&self) -> PauseMode {
        match self.mode.load(Ordering::Relaxed) {
            0 => PauseMode::Off,
            1 => PauseMode::Write,
            _ => PauseMode::All,
        }
    }

    /// Begins a pause, or lengthens and strengthens the one in force, as Redis does.
    pub fn begin(&self, mode: PauseMode, until: Millis, now: Millis) {
        let mut end = self.until.lock();
        let active = self.mode() != PauseMode::Off && *end > now;
        let stronger = if active { self.mode().max(mode) } else { mode };
        *end = if active { until.max(*end) } else { until };
        self.mode.store(stronger as u8, Ordering::Relaxed);
    }

    /// Ends it.
    pub fn end(&self) {
        let _until = self.until.lock();
        self.end_locked();
    }

    fn end_locked(&self) {
        self.mode.store(PauseMode::Off as u8, Ordering::Relaxed);
        self.ended.notify_waiters();
    }

    /// Milliseconds until it ends by itself; 0 when it is over, which also ends it.
    pub fn left_ms(&self, now: Millis) -> u64 {
        if self.mode() == PauseMode::Off {
            return 0;
        }
        // Held to the end: a pause that begins meanwhile must not be ended in place of the one that is over.
        let until = self.until.lock();
        let left = until.since(now);
        if left <= 0 {
            self.end_locked();
            return 0;
        }
        left as u64
    }

    /// Waits for UNPAUSE. The caller bounds it by [`Pause::left_ms`].
    pub async fn ended(&self) {
        let notified = self.ended.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.mode() != PauseMode::Off {
            notified.await;
        }
    }
}
