//! What the server counts: per command and overall. A thread adds to its own copy; INFO adds the copies up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::rates::{Rates, Totals};
use crate::base::clock::Millis;
use crate::base::stats::{Counter, Distribution, Histogram, Sharded};

/// Counts of one command.
#[derive(Debug, Default)]
pub struct CommandCounts {
    /// Runs.
    pub calls: Counter,
    /// Time spent running, in nanoseconds.
    pub nanos: Counter,
    /// Refused before they ran.
    pub rejected: Counter,
    /// Ran and failed.
    pub failed: Counter,
    /// Durations.
    pub histogram: Histogram,
}

/// One thread's copy.
#[derive(Debug, Default)]
pub struct Shard {
    /// By number in the table.
    commands: std::sync::OnceLock<Box<[CommandCounts]>>,
    /// Commands processed.
    pub total_commands: Counter,
    /// Bytes read from sockets.
    pub net_in: Counter,
    /// Bytes written to sockets.
    pub net_out: Counter,
    /// Reads that found their key.
    pub hits: Counter,
    /// Reads that did not.
    pub misses: Counter,
    /// Keys that expired.
    pub expired: Counter,
    /// Fields of hashes that expired.
    pub expired_fields: Counter,
    /// Keys that were evicted.
    pub evicted: Counter,
    /// Read events processed.
    pub reads: Counter,
    /// Write events processed.
    pub writes: Counter,
}

/// Error prefixes that errorstats counts at most; further ones are not counted (redis stops at 128 too).
const ERROR_PREFIXES: usize = 128;

/// All counts.
#[derive(Debug)]
pub struct Stats {
    shards: Sharded<Shard>,
    commands: usize,
    /// Connections ever accepted.
    pub connections: Counter,
    /// Connections refused by maxclients.
    pub rejected_connections: Counter,
    /// Clients closed for their output buffer.
    pub output_limit_disconnections: Arc<Counter>,
    /// Clients closed for their query buffer.
    pub query_limit_disconnections: Counter,
    /// Clients closed by maxmemory-clients.
    pub evicted_clients: Counter,
    /// Error replies.
    pub errors: Counter,
    /// Failed authentications.
    pub auth_failures: Counter,
    /// What happens per second.
    pub rates: Rates,
    /// Active expiry.
    pub expiry: ExpiryCounts,
    /// How long memory was over its limit.
    pub over_limit: OverLimit,
    /// Large values freed off the request's path.
    pub lazy_freed: Counter,
    /// Error replies by first word. A leaf lock.
    error_counts: Mutex<BTreeMap<String, u64>>,
}

/// What active expiry did.
#[derive(Debug, Default)]
pub struct ExpiryCounts {
    /// Microseconds it worked.
    pub micros: Counter,
    /// Times it had to rest with work left.
    pub cap_reached: Counter,
    /// Share of the keys with an expiry that a cycle found expired, smoothed; the bits of an `f64`. Written by the expiry
    /// task and by a reset, read by INFO.
    stale: AtomicU64,
}

impl ExpiryCounts {
    /// Takes a cycle that found `expired` of `looked_at` keys expired. One cycle weighs 5 % (redis, `expire.c`).
    pub fn cycle(&self, expired: u64, looked_at: u64) {
        let share = match looked_at {
            0 => 0.0,
            _ => expired as f64 / looked_at as f64,
        };
        let smoothed = share * 0.05 + self.stale_share() * 0.95;
        self.stale.store(smoothed.to_bits(), Ordering::Relaxed);
    }

    /// The share of keys with an expiry that are expired and still there, from 0 to 1.
    pub fn stale_share(&self) -> f64 {
        f64::from_bits(self.stale.load(Ordering::Relaxed))
    }

    fn reset(&self) {
        self.micros.reset();
        self.cap_reached.reset();
        self.stale.store(0, Ordering::Relaxed);
    }
}

/// How long memory was over maxmemory, as the eviction task sees it. Written by that task and by a reset, read by INFO.
#[derive(Debug)]
pub struct OverLimit {
    /// Since when it is; [`NEVER`] when it is not.
    since: AtomicI64,
    /// Milliseconds of the times that are over.
    past_ms: AtomicU64,
}

const NEVER: i64 = i64::MIN;

impl Default for OverLimit {
    fn default() -> Self {
        OverLimit {
            since: AtomicI64::new(NEVER),
            past_ms: AtomicU64::new(0),
        }
    }
}

impl OverLimit {
    /// Takes what memory is at `now`.
    pub fn observe(&self, is_over: bool, now: Millis) {
        let since = self.since.load(Ordering::Relaxed);
        if is_over && since == NEVER {
            self.since.store(now.0, Ordering::Relaxed);
        } else if !is_over && since != NEVER {
            self.past_ms
                .fetch_add(self.current_ms(now), Ordering::Relaxed);
            self.since.store(NEVER, Ordering::Relaxed);
        }
    }

    /// Milliseconds since it went over, 0 when it is not.
    pub fn current_ms(&self, now: Millis) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            NEVER => 0,
            since => now.since(Millis(since)).max(0) as u64,
        }
    }

    /// Milliseconds altogether.
    pub fn total_ms(&self, now: Millis) -> u64 {
        self.past_ms.load(Ordering::Relaxed) + self.current_ms(now)
    }

    fn reset(&self) {
        self.since.store(NEVER, Ordering::Relaxed);
        self.past_ms.store(0, Ordering::Relaxed);
    }
}

/// The sums of one command.
#[derive(Debug, Default)]
pub struct CommandSums {
    /// Runs.
    pub calls: u64,
    /// Nanoseconds spent running.
    pub nanos: u64,
    /// Refused before they ran.
    pub rejected: u64,
    /// Ran and failed.
    pub failed: u64,
    /// Durations.
    pub durations: Distribution,
}

impl Stats {
    /// Counts for `commands` rows, counted by about `threads` threads.
    pub fn new(commands: usize, threads: usize) -> Stats {
        Stats {
            shards: Sharded::new(threads),
            commands,
            connections: Counter::default(),
            rejected_connections: Counter::default(),
            output_limit_disconnections: Arc::default(),
            query_limit_disconnections: Counter::default(),
            evicted_clients: Counter::default(),
            errors: Counter::default(),
            auth_failures: Counter::default(),
            rates: Rates::default(),
            expiry: ExpiryCounts::default(),
            over_limit: OverLimit::default(),
            lazy_freed: Counter::default(),
            error_counts: Mutex::default(),
        }
    }

    /// The calling thread's copy.
    #[inline]
    pub fn mine(&self) -> &Shard {
        self.shards.mine()
    }

    /// The calling thread's counts of a command.
    #[inline]
    pub fn command(&self, id: u16) -> &CommandCounts {
        let commands = self.mine().commands.get_or_init(|| {
            (0..self.commands)
                .map(|_| CommandCounts::default())
                .collect()
        });
        &commands[usize::from(id)]
    }

    /// Counts an error reply by its first word.
    pub fn count_error(&self, prefix: &str) {
        self.errors.add(1);
        let mut counts = self.error_counts.lock();
        if let Some(count) = counts.get_mut(prefix) {
            *count += 1;
        } else if counts.len() < ERROR_PREFIXES {
            counts.insert(prefix.to_owned(), 1);
        }
    }

    /// Error replies by first word.
    pub fn error_counts(&self) -> BTreeMap<String, u64> {
        self.error_counts.lock().clone()
    }

    /// The sums of a command.
    pub fn command_sums(&self, id: u16) -> CommandSums {
        let mut sums = CommandSums::default();
        for counts in self
            .shards
            .all()
            .filter_map(|shard| shard.commands.get())
            .map(|all| &all[usize::from(id)])
        {
            sums.calls += counts.calls.value();
            sums.nanos += counts.nanos.value();
            sums.rejected += counts.rejected.value();
            sums.failed += counts.failed.value();
            counts.histogram.collect(&mut sums.durations);
        }
        sums
    }

    /// The sum of one counter over all threads.
    pub fn sum(&self, counter: impl Fn(&Shard) -> &Counter) -> u64 {
        self.shards.all().map(|shard| counter(shard).value()).sum()
    }

    /// What the rates are taken from.
    pub fn totals(&self) -> Totals {
        Totals {
            commands: self.sum(|shard| &shard.total_commands),
            net_in: self.sum(|shard| &shard.net_in),
            net_out: self.sum(|shard| &shard.net_out),
        }
    }

    /// CONFIG RESETSTAT: all counters, histograms, rates and error counts. The peak of memory, the slow log and the latency
    /// monitor stay, as in Redis.
    pub fn reset(&self) {
        for shard in self.shards.all() {
            let plain = [
                &shard.total_commands,
                &shard.net_in,
                &shard.net_out,
                &shard.hits,
                &shard.misses,
                &shard.expired,
                &shard.expired_fields,
                &shard.evicted,
                &shard.reads,
                &shard.writes,
            ];
            plain.into_iter().for_each(Counter::reset);
            for counts in shard.commands.get().into_iter().flatten() {
                [
                    &counts.calls,
                    &counts.nanos,
                    &counts.rejected,
                    &counts.failed,
                ]
                .into_iter()
                .for_each(Counter::reset);
                counts.histogram.reset();
            }
        }
        let plain = [
            &self.connections,
            &self.rejected_connections,
            &*self.output_limit_disconnections,
            &self.query_limit_disconnections,
            &self.evicted_clients,
            &self.errors,
            &self.auth_failures,
            &self.lazy_freed,
        ];
        plain.into_iter().for_each(Counter::reset);
        self.rates.reset();
        self.expiry.reset();
        self.over_limit.reset();
        self.error_counts.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stale_share_follows_slowly() {
        let expiry = ExpiryCounts::default();
        expiry.cycle(0, 0);
        assert_eq!(expiry.stale_share(), 0.0);
        expiry.cycle(10, 10);
        assert!((expiry.stale_share() - 0.05).abs() < 1e-9);
        (0..200).for_each(|_| expiry.cycle(5, 10));
        assert!((expiry.stale_share() - 0.5).abs() < 1e-4);
        expiry.reset();
        assert_eq!(expiry.stale_share(), 0.0);
    }

    #[test]
    fn time_over_the_limit_adds_up() {
        let over = OverLimit::default();
        over.observe(false, Millis(0));
        over.observe(true, Millis(10));
        over.observe(true, Millis(20));
        assert_eq!(
            (over.current_ms(Millis(30)), over.total_ms(Millis(30))),
            (20, 20)
        );
        over.observe(false, Millis(40));
        assert_eq!(
            (over.current_ms(Millis(50)), over.total_ms(Millis(50))),
            (0, 30)
        );
        over.observe(true, Millis(100));
        assert_eq!(
            (over.current_ms(Millis(105)), over.total_ms(Millis(105))),
            (5, 35)
        );
        over.reset();
        assert_eq!(over.total_ms(Millis(200)), 0);
    }

    #[test]
    fn a_reset_forgets_everything() {
        let stats = Stats::new(3, 2);
        stats.mine().total_commands.add(1);
        stats.mine().hits.add(1);
        stats.command(2).calls.add(4);
        stats.command(2).histogram.add(Histogram::bucket(5000), 4);
        stats.count_error("WRONGTYPE");
        stats.lazy_freed.add(1);
        assert_eq!(stats.command_sums(2).durations.count(), 4);
        stats.reset();
        assert_eq!(stats.totals(), Totals::default());
        assert_eq!(stats.sum(|shard| &shard.hits), 0);
        let sums = stats.command_sums(2);
        assert_eq!((sums.calls, sums.durations.count()), (0, 0));
        assert_eq!((stats.errors.value(), stats.lazy_freed.value()), (0, 0));
        assert!(stats.error_counts().is_empty());
    }
}
