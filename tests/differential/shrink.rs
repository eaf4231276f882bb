//! Makes a failing sequence short: drops steps as long as some difference stays.

use std::time::{Duration, Instant};

use crate::pair::{Mismatch, Pair, Step};

/// After this the shortest sequence so far is good enough.
const LIMIT: Duration = Duration::from_secs(20);

/// The shortest failing sequence found, with its difference.
pub fn shrink(
    pair: &Pair,
    protocol: u8,
    steps: Vec<Step>,
    mismatch: Mismatch,
) -> (Vec<Step>, Mismatch) {
    let begun = Instant::now();
    let (mut steps, mut found) = (steps, mismatch);
    steps.truncate(found.step + 1);
    let mut chunk = steps.len().div_ceil(2);
    while chunk > 0 && begun.elapsed() < LIMIT {
        let before = steps.len();
        let mut at = 0;
        while at < steps.len() && begun.elapsed() < LIMIT {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + chunk).min(steps.len()));
            match pair.replay(protocol, &fewer) {
                Some(mismatch) => {
                    fewer.truncate(mismatch.step + 1);
                    (steps, found) = (fewer, mismatch);
                }
                None => at += chunk,
            }
        }
        if steps.len() == before || chunk > 1 {
            chunk /= 2;
        }
    }
    for at in 0..steps.len() {
        (steps, found) = shrink_pipeline(pair, protocol, steps, found, at, begun);
    }
    (steps, found)
}

/// Drops requests of the pipeline at a step.
fn shrink_pipeline(
    pair: &Pair,
    protocol: u8,
    steps: Vec<Step>,
    mismatch: Mismatch,
    at: usize,
    begun: Instant,
) -> (Vec<Step>, Mismatch) {
    let (mut steps, mut found) = (steps, mismatch);
    let mut request = 0;
    while begun.elapsed() < LIMIT {
        let mut fewer = steps.clone();
        match fewer.get_mut(at) {
            Some(Step::Pipeline(requests, _)) if request < requests.len() => {
                drop(requests.remove(request))
            }
            _ => break,
        }
        match pair.replay(protocol, &fewer) {
            Some(mismatch) => (steps, found) = (fewer, mismatch),
            None => request += 1,
        }
    }
    (steps, found)
}
