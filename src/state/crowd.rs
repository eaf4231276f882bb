//! Whether a reply waits until the other connections that are ready have run.
//!
//! Whoever sends wakes the process that sleeps for it, and pays: with 50 connections of one process and pipelines of 16 that was
//! an eighth of what EVALSHA and a sixth of what ZADD cost the server. Replies that go out one right behind the other meet a
//! process that the first of them has woken. So a connection that has run what it was sent goes to the end of the worker's
//! queue once, and sends when its turn comes again: all that were ready with it have run. Redis sends at the end of a turn of
//! its loop, too.
//!
//! That is for one worker. Where there are several, a connection in the queue wakes the next one that sleeps, to come and take
//! it, which costs more than it saves (with two, 8 % of the requests per second).
//!
//! A connection without company would wait for nobody and pay for the turn: who was alone tries again after some batches only.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The company that the connections of a worker are to each other. Written and read by connections, of which one at a time
/// runs; exactness does not matter.
#[derive(Debug)]
pub struct Crowd {
    is_for_one_worker: bool,
    /// How many batches have run, and how many connections have had the turn they waited for.
    turns: AtomicU64,
    /// How many of the next batches do not wait.
    alone: AtomicU32,
}

/// How many batches do not wait after one that did so for nobody.
const ALONE_BATCHES: u32 = 31;

impl Crowd {
    /// Of a server with so many workers.
    pub fn new(workers: usize) -> Crowd {
        Crowd {
            is_for_one_worker: workers == 1,
            turns: AtomicU64::new(0),
            alone: AtomicU32::new(0),
        }
    }

    /// A batch has run. If its replies are to wait for a turn: what to tell [`has_waited`](Crowd::has_waited) then.
    #[inline]
    pub fn has_run(&self) -> Option<u64> {
        if !self.is_for_one_worker {
            return None;
        }
        let turns = self.next_turn();
        let alone = self.alone.load(Ordering::Relaxed);
        if alone > 0 {
            self.alone.store(alone - 1, Ordering::Relaxed);
            return None;
        }
        Some(turns)
    }

    /// The turn has come of who has run at `turns`.
    #[inline]
    pub fn has_waited(&self, turns: u64) {
        if self.next_turn() == turns + 1 {
            self.alone.store(ALONE_BATCHES, Ordering::Relaxed);
        }
    }

    fn next_turn(&self) -> u64 {
        let turns = self.turns.load(Ordering::Relaxed) + 1;
        self.turns.store(turns, Ordering::Relaxed);
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Aim: connections wait for each other as long as there are others, and seldom when there are none.
    #[test]
    fn who_was_alone_seldom_waits() {
        let crowd = Crowd::new(1);
        for _ in 0..100 {
            let waiting = [crowd.has_run(), crowd.has_run(), crowd.has_run()];
            for turns in waiting {
                crowd.has_waited(turns.expect("it has company"));
            }
        }
        let waited = (0..3 * (ALONE_BATCHES + 1)).filter(|_| match crowd.has_run() {
            Some(turns) => {
                crowd.has_waited(turns);
                true
            }
            None => false,
        });
        assert_eq!(waited.count(), 3);
    }

    #[test]
    fn several_workers_do_not_wait() {
        assert_eq!(Crowd::new(2).has_run(), None);
    }
}
