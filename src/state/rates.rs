//! What happens per second at present: the average of the last sixteen samples, a tenth of a second apart.
//!
//! The background task gives the totals, INFO asks for the averages. The time is an argument. Until there were sixteen
//! samples the missing ones count as nothing, as in Redis (`getInstantaneousMetric`).

use parking_lot::Mutex;

/// Samples averaged (redis `STATS_METRIC_SAMPLES`).
pub const SAMPLES: usize = 16;

/// What is counted, as totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Commands run.
    pub commands: u64,
    /// Bytes received.
    pub net_in: u64,
    /// Bytes sent.
    pub net_out: u64,
}

/// Averages per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerSecond {
    /// Commands run.
    pub commands: u64,
    /// Bytes received.
    pub net_in: u64,
    /// Bytes sent.
    pub net_out: u64,
}

/// The samples. A leaf lock: taken ten times a second and by INFO.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    /// Time in microseconds and totals of the sample before; none at the start and after a reset.
    before: Option<(u64, Totals)>,
    ring: [PerSecond; SAMPLES],
    next: usize,
}

impl Rates {
    /// Takes a sample; `at_us` is any clock of microseconds that never goes back.
    pub fn sample(&self, at_us: u64, totals: Totals) {
        let mut samples = self.0.lock();
        if let Some((before_us, before)) = samples.before.replace((at_us, totals)) {
            let elapsed = at_us.saturating_sub(before_us);
            let next = samples.next;
            // A CONFIG RESETSTAT in between makes totals smaller: that interval counts as nothing.
            let rate = |now: u64, before: u64| match elapsed {
                0 => 0,
                _ => {
                    (u128::from(now.saturating_sub(before)) * 1_000_000 / u128::from(elapsed))
                        as u64
                }
            };
            samples.ring[next] = PerSecond {
                commands: rate(totals.commands, before.commands),
                net_in: rate(totals.net_in, before.net_in),
                net_out: rate(totals.net_out, before.net_out),
            };
            samples.next = (next + 1) % SAMPLES;
        }
    }

    /// The averages.
    pub fn per_second(&self) -> PerSecond {
        let samples = self.0.lock();
        let mean = |rate: fn(&PerSecond) -> u64| {
            let sum: u128 = samples
                .ring
                .iter()
                .map(|sample| u128::from(rate(sample)))
                .sum();
            (sum / SAMPLES as u128) as u64
        };
        PerSecond {
            commands: mean(|sample| sample.commands),
            net_in: mean(|sample| sample.net_in),
            net_out: mean(|sample| sample.net_out),
        }
    }

    /// Forgets all samples (CONFIG RESETSTAT).
    pub fn reset(&self) {
        *self.0.lock() = Samples::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(count: u64) -> Totals {
        Totals {
            commands: count,
            net_in: count * 1024,
            net_out: 0,
        }
    }

    #[test]
    fn sixteen_samples_are_averaged() {
        let rates = Rates::default();
        for step in 0..=16u64 {
            rates.sample(step * 100_000, totals(step * 10));
        }
        let steady = PerSecond {
            commands: 100,
            net_in: 102_400,
            net_out: 0,
        };
        assert_eq!(rates.per_second(), steady);
        // Half of the samples are replaced by an idle time.
        for step in 17..=24u64 {
            rates.sample(step * 100_000, totals(160));
        }
        assert_eq!(rates.per_second().commands, 50);
        rates.reset();
        assert_eq!(rates.per_second(), PerSecond::default());
    }

    #[test]
    fn the_first_sample_is_a_beginning_only() {
        let rates = Rates::default();
        rates.sample(5, totals(1_000_000));
        assert_eq!(rates.per_second(), PerSecond::default());
        rates.sample(5, totals(2_000_000));
        assert_eq!(
            rates.per_second(),
            PerSecond::default(),
            "no time has passed"
        );
        rates.sample(1_000_005, totals(2_000_016));
        assert_eq!(rates.per_second().commands, 1);
        rates.sample(2_000_005, totals(0));
        assert_eq!(rates.per_second().commands, 1, "totals that were reset");
    }
}
