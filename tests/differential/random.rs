//! Random sequences against both servers.

use crate::generate::Generator;
use crate::pair::{Pair, Step};
use crate::shrink::shrink;
use crate::support::{scaled, seed};
use crate::usage::{forms, known_to_redis, table};

/// Commands of one sequence: long enough for states to build up, short enough to be shrunk quickly.
const SEQUENCE: usize = 250;

/// Runs sequences until all steps are spent; a difference ends the test with a short sequence that shows it.
fn run(test: &str, protocol: u8, mut sequence: impl FnMut(&Pair, &mut Generator) -> Vec<Step>) {
    let Some(pair) = Pair::start(test) else {
        return;
    };
    let seed = seed();
    let total = scaled("QUOIT_TEST_STEPS", 12_000);
    for number in 0..total.div_ceil(SEQUENCE) as u64 {
        let mut generator = Generator {
            rng: fastrand::Rng::with_seed(seed.wrapping_add(number)),
        };
        let steps = sequence(&pair, &mut generator);
        if let Some(mismatch) = pair.replay(protocol, &steps) {
            let first = mismatch.step;
            let (steps, found) = shrink(&pair, protocol, steps, mismatch);
            let shown: Vec<String> = steps.iter().map(Step::show).collect();
            panic!(
                "{test}: seed {} step {first}: {}\n  {}\n  redis: {}\n  quoit: {}\nshortest sequence (RESP{protocol}):\n  {}\n",
                seed.wrapping_add(number),
                found.problem,
                found.request,
                found.redis,
                found.quoit,
                shown.join("\n  ")
            );
        }
    }
}

fn by_hand(_: &Pair, generator: &mut Generator) -> Vec<Step> {
    generator.sequence(SEQUENCE)
}

fn by_usage(pair: &Pair, generator: &mut Generator) -> Vec<Step> {
    let table = table();
    let known = known_to_redis(pair);
    let forms = forms(&table, |entry| known.contains(&entry.full_name));
    assert!(
        forms.len() > 30,
        "few commands that both know: {}",
        forms.len()
    );
    let mut steps = Vec::new();
    for number in 1..=SEQUENCE {
        let form = &forms[generator.rng.usize(0..forms.len())];
        steps.push(Step::Run(form.make(generator)));
        if number % 25 == 0 {
            steps.push(Step::Compare);
        }
    }
    steps
}

#[test]
fn sequences_by_hand_resp2() {
    run("sequences_by_hand_resp2", 2, by_hand);
}

#[test]
fn sequences_by_hand_resp3() {
    run("sequences_by_hand_resp3", 3, by_hand);
}

#[test]
fn sequences_by_usage_resp2() {
    run("sequences_by_usage_resp2", 2, by_usage);
}

#[test]
fn sequences_by_usage_resp3() {
    run("sequences_by_usage_resp3", 3, by_usage);
}
