//! What the server counts: per command and overall. A thread adds to its own copy; INFO adds the copies up.

use std::collections::BTreeMap;

use parking_lot::Mutex;

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
    pub output_limit_disconnections: Counter,
    /// Clients closed for their query buffer.
    pub query_limit_disconnections: Counter,
    /// Error replies.
    pub errors: Counter,
    /// Failed authentications.
    pub auth_failures: Counter,
    /// Error replies by first word. A leaf lock.
    error_counts: Mutex<BTreeMap<String, u64>>,
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
            output_limit_disconnections: Counter::default(),
            query_limit_disconnections: Counter::default(),
            errors: Counter::default(),
            auth_failures: Counter::default(),
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

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        for shard in self.shards.all() {
            let plain = [
                &shard.total_commands,
                &shard.net_in,
                &shard.net_out,
                &shard.hits,
                &shard.misses,
                &shard.expired,
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
            &self.output_limit_disconnections,
            &self.query_limit_disconnections,
            &self.errors,
            &self.auth_failures,
        ];
        plain.into_iter().for_each(Counter::reset);
        self.error_counts.lock().clear();
    }

    /// LATENCY RESET of the histograms of one command.
    pub fn reset_histogram(&self, id: u16) {
        for counts in self.shards.all().filter_map(|shard| shard.commands.get()) {
            counts[usize::from(id)].histogram.reset();
        }
    }
}
