//! The latency monitor: what took longer than latency-monitor-threshold, second by second.
//!
//! Each kind of event keeps its last 160 samples, at most one per second, the worst of it, and the worst of all time
//! (redis `latency.c`). Adding is rare by its nature: only what is over the threshold comes here.

use std::time::Duration;

use parking_lot::Mutex;

use crate::base::clock::Millis;

/// Samples kept of an event (redis `LATENCY_TS_LEN`).
pub const SAMPLES: usize = 160;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyEvent {
    /// A command.
    Command,
    /// A command that should be fast (flag `fast`).
    FastCommand,
    /// Active expiry between two turns of the clients.
    ExpireCycle,
    /// Eviction before one command, or between two turns of the clients.
    EvictionCycle,
    /// The removal of one key by eviction.
    EvictionDel,
}

impl LatencyEvent {
    /// All of them, in the order they are listed.
    pub const ALL: [LatencyEvent; 5] = [
        LatencyEvent::Command,
        LatencyEvent::FastCommand,
        LatencyEvent::ExpireCycle,
        LatencyEvent::EvictionCycle,
        LatencyEvent::EvictionDel,
    ];

    /// What clients call it.
    pub fn name(self) -> &'static str {
        match self {
            LatencyEvent::Command => "command",
            LatencyEvent::FastCommand => "fast-command",
            LatencyEvent::ExpireCycle => "expire-cycle",
            LatencyEvent::EvictionCycle => "eviction-cycle",
            LatencyEvent::EvictionDel => "eviction-del",
        }
    }
}

/// The worst of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since the epoch.
    pub second: i64,
    /// Milliseconds it took.
    pub millis: u64,
}

/// The samples of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Oldest first, never empty once there is an event.
    samples: std::collections::VecDeque<Sample>,
    /// The worst of all time in milliseconds.
    worst: u64,
}

impl Series {
    fn add(&mut self, sample: Sample) {
        self.worst = self.worst.max(sample.millis);
        match self.samples.back_mut() {
            Some(last) if last.second == sample.second => {
                last.millis = last.millis.max(sample.millis);
            }
            _ => {
                if self.samples.len() == SAMPLES {
                    self.samples.pop_front();
                }
                self.samples.push_back(sample);
            }
        }
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = Sample> + '_ {
        self.samples.iter().copied()
    }

    /// The newest sample.
    pub fn latest(&self) -> Option<Sample> {
        self.samples.back().copied()
    }

    /// The worst of all time in milliseconds.
    pub fn worst(&self) -> u64 {
        self.worst
    }

    /// What the samples say together; `None` without any.
    pub fn summary(&self, now: Millis) -> Option<Summary> {
        let first = self.samples.front()?;
        let count = self.samples.len() as u64;
        let sum: u64 = self.samples().map(|sample| sample.millis).sum();
        let average = sum / count;
        let deviations: u64 = self
            .samples()
            .map(|sample| sample.millis.abs_diff(average))
            .sum();
        let span = now.seconds().saturating_sub(first.second).max(1);
        Some(Summary {
            count,
            average,
            mean_deviation: deviations / count,
            period: span as f64 / count as f64,
            least: self
                .samples()
                .map(|sample| sample.millis)
                .min()
                .unwrap_or(0),
            most: self
                .samples()
                .map(|sample| sample.millis)
                .max()
                .unwrap_or(0),
        })
    }
}

/// What the samples of an event say together, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Samples.
    pub count: u64,
    /// Their mean.
    pub average: u64,
    /// How far they lie from it on average.
    pub mean_deviation: u64,
    /// Seconds from one to the next on average.
    pub period: f64,
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
}

/// The series of all events.
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    /// By number in [`LatencyEvent`]. A leaf lock: taken by what is over the threshold, and by LATENCY.
    series: Mutex<[Series; LatencyEvent::ALL.len()]>,
}

impl LatencyMonitor {
    /// Adds an event that ended at `now`, unless `threshold` is zero or it was shorter. Whole milliseconds count.
    pub fn note(&self, event: LatencyEvent, took: Duration, threshold: Duration, now: Millis) {
        let millis = took.as_millis() as u64;
        if threshold.is_zero() || u128::from(millis) < threshold.as_millis() {
            return;
        }
        let second = now.seconds();
        self.series.lock()[event as usize].add(Sample { second, millis });
    }

    /// The series of an event by its name; `None` when it never happened.
    pub fn series(&self, name: &[u8]) -> Option<Series> {
        let event = find(name)?;
        let series = self.series.lock()[event as usize].clone();
        series.latest().is_some().then_some(series)
    }

    /// The events that happened, with their series.
    pub fn all(&self) -> Vec<(LatencyEvent, Series)> {
        let series = self.series.lock().clone();
        LatencyEvent::ALL
            .into_iter()
            .zip(series)
            .filter(|(_, series)| series.latest().is_some())
            .collect()
    }

    /// Forgets an event. Whether there was something to forget.
    pub fn reset(&self, name: &[u8]) -> bool {
        find(name).is_some_and(|event| {
            let old = std::mem::take(&mut self.series.lock()[event as usize]);
            old.latest().is_some()
        })
    }

    /// Forgets all events. How many there were.
    pub fn reset_all(&self) -> usize {
        let old = std::mem::take(&mut *self.series.lock());
        old.iter()
            .filter(|series| series.latest().is_some())
            .count()
    }
}

fn find(name: &[u8]) -> Option<LatencyEvent> {
    LatencyEvent::ALL
        .into_iter()
        .find(|event| event.name().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Duration = Duration::from_millis(5);

    fn note(monitor: &LatencyMonitor, millis: u64, now_ms: i64) {
        let took = Duration::from_micros(millis * 1000 + 999);
        monitor.note(LatencyEvent::Command, took, EACH, Millis(now_ms));
    }

    fn samples(monitor: &LatencyMonitor) -> Vec<(i64, u64)> {
        let series = monitor.series(b"command").unwrap_or_default();
        series
            .samples()
            .map(|sample| (sample.second, sample.millis))
            .collect()
    }

    #[test]
    fn the_worst_of_a_second_is_kept() {
        let monitor = LatencyMonitor::default();
        note(&monitor, 4, 1_000);
        assert_eq!(monitor.series(b"command"), None, "below the threshold");
        for (millis, now) in [(5, 1_000), (9, 1_500), (7, 1_999), (6, 2_000)] {
            note(&monitor, millis, now);
        }
        assert_eq!(samples(&monitor), [(1, 9), (2, 6)]);
        let series = monitor.series(b"command").unwrap();
        assert_eq!(series.worst(), 9);
        assert_eq!(
            series.latest(),
            Some(Sample {
                second: 2,
                millis: 6
            })
        );
    }

    #[test]
    fn a_threshold_of_zero_is_off() {
        let monitor = LatencyMonitor::default();
        monitor.note(LatencyEvent::Command, EACH, Duration::ZERO, Millis(0));
        assert!(monitor.all().is_empty());
    }

    #[test]
    fn the_oldest_of_160_goes_and_the_worst_stays() {
        let monitor = LatencyMonitor::default();
        note(&monitor, 500, 0);
        (1..=160).for_each(|second| note(&monitor, 10, second * 1000));
        let kept = samples(&monitor);
        assert_eq!((kept.len(), kept[0], kept[159]), (160, (1, 10), (160, 10)));
        assert_eq!(monitor.series(b"command").unwrap().worst(), 500);
    }

    #[test]
    fn events_are_forgotten_by_name_or_all() {
        let monitor = LatencyMonitor::default();
        note(&monitor, 5, 0);
        monitor.note(LatencyEvent::EvictionDel, EACH, EACH, Millis(0));
        let names: Vec<&str> = monitor
            .all()
            .iter()
            .map(|(event, _)| event.name())
            .collect();
        assert_eq!(names, ["command", "eviction-del"]);
        assert!(!monitor.reset(b"COMMAND") && !monitor.reset(b"expire-cycle"));
        assert!(monitor.reset(b"command") && !monitor.reset(b"command"));
        note(&monitor, 5, 0);
        assert_eq!(monitor.reset_all(), 2);
        assert_eq!(monitor.reset_all(), 0);
    }

    #[test]
    fn summaries() {
        let monitor = LatencyMonitor::default();
        [(10, 1_000), (20, 2_000), (33, 4_000)]
            .into_iter()
            .for_each(|(millis, now)| note(&monitor, millis, now));
        let summary = monitor.series(b"command").unwrap().summary(Millis(7_000));
        let expected = Summary {
            count: 3,
            average: 21,
            mean_deviation: 8,
            period: 2.0,
            least: 10,
            most: 33,
        };
        assert_eq!(summary, Some(expected));
        assert_eq!(Series::default().summary(Millis(0)), None);
    }
}
