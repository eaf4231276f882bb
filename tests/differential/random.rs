//! Random sequences against both servers.

use crate::generate::{Generator, Request};
use crate::pair::{Pair, Step};
use crate::shrink::shrink;
use crate::support::elsewhere::tests_ring;
use crate::support::{scaled, seed};
use crate::usage::{forms, known_to_redis, table};
use crate::{hashes, lists, sets, sort, streams, transactions, zsets};

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
        let mut steps = sequence(&pair, &mut generator);
        if tests_ring() {
            leave_out(&mut steps);
        }
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

/// What a ring refuses, or answers as a ring ([`RingDiffers`](crate::support::elsewhere::RingDiffers)).
const OF_A_RING: [&str; 2] = ["CLUSTER", "SWAPDB"];
/// What it refuses within a transaction.
const FOR_ALL: [&str; 9] = [
    "FLUSHALL",
    "FLUSHDB",
    "DBSIZE",
    "KEYS",
    "SCAN",
    "RANDOMKEY",
    "SCRIPT",
    "FUNCTION",
    // Those of the transactions' sequences go through databases.
    "EVAL",
];

/// Takes out what is otherwise in a ring.
fn leave_out(steps: &mut Vec<Step>) {
    let is = |request: &Request, name: &str| request[0].eq_ignore_ascii_case(name.as_bytes());
    let has_transactions = steps.iter().any(|step| match step {
        Step::Run(request) => is(request, "MULTI"),
        Step::Pipeline(requests, _) => requests.iter().any(|request| is(request, "MULTI")),
        _ => false,
    });
    let stays = |request: &Request| {
        let is_for_all = has_transactions && FOR_ALL.iter().any(|name| is(request, name));
        !is_for_all && !OF_A_RING.iter().any(|name| is(request, name))
    };
    steps.retain_mut(|step| match step {
        Step::Run(request) => stays(request),
        Step::Pipeline(requests, _) => {
            requests.retain(stays);
            !requests.is_empty()
        }
        _ => true,
    });
}

fn by_hand(_: &Pair, generator: &mut Generator) -> Vec<Step> {
    generator.sequence(SEQUENCE)
}

/// Requests of all forms that both know.
pub fn requests_by_usage(pair: &Pair, generator: &mut Generator, count: usize) -> Vec<Request> {
    let known = known_to_redis(pair);
    let forms = forms(&table(), |entry| known.contains(&entry.full_name));
    assert!(
        forms.len() > 30,
        "few commands that both know: {}",
        forms.len()
    );
    (0..count)
        .map(|_| forms[generator.rng.usize(0..forms.len())].make(generator))
        .collect()
}

fn by_usage(pair: &Pair, generator: &mut Generator) -> Vec<Step> {
    let mut steps = Vec::new();
    for request in requests_by_usage(pair, generator, SEQUENCE) {
        steps.push(Step::Run(request));
        if steps.len() % 26 == 25 {
            steps.push(Step::Compare);
        }
    }
    steps
}

/// The same in pipelines of any depth, cut anywhere.
fn in_pipelines(pair: &Pair, generator: &mut Generator) -> Vec<Step> {
    let mut requests = requests_by_usage(pair, generator, SEQUENCE / 2);
    requests.extend((0..SEQUENCE / 2).map(|_| generator.request()));
    generator.rng.shuffle(&mut requests);
    let mut steps = Vec::new();
    while !requests.is_empty() {
        let depth = generator.rng.usize(1..60).min(requests.len());
        let piece = match generator.rng.u8(0..4) {
            0 => generator.rng.usize(1..40),
            1 => generator.rng.usize(40..4_000),
            _ => usize::MAX,
        };
        steps.push(Step::Pipeline(
            requests.split_off(requests.len() - depth),
            piece,
        ));
    }
    steps.push(Step::Compare);
    steps
}

/// What COMMAND finds in requests, right and wrong ones.
fn keys_of_requests(pair: &Pair, generator: &mut Generator) -> Vec<Step> {
    let requests = requests_by_usage(pair, generator, SEQUENCE);
    let asked = requests.into_iter().map(|request| {
        let word: &[u8] = if generator.rng.bool() {
            b"GETKEYS"
        } else {
            b"GETKEYSANDFLAGS"
        };
        Step::Run([vec![b"COMMAND".to_vec(), word.to_vec()], request].concat())
    });
    asked.collect()
}

/// Some keys, then no memory for more: what is refused, and what still runs.
fn out_of_memory(pair: &Pair, generator: &mut Generator) -> Vec<Step> {
    let limit = |bytes: &str| {
        Step::Run(
            ["CONFIG", "SET", "maxmemory", bytes]
                .map(Vec::from)
                .to_vec(),
        )
    };
    let mut steps: Vec<Step> = (0..30).map(|_| Step::Run(generator.request())).collect();
    steps.push(limit("1"));
    steps.extend(
        requests_by_usage(pair, generator, SEQUENCE)
            .into_iter()
            .map(Step::Run),
    );
    steps.extend((0..SEQUENCE).map(|_| Step::Run(generator.request())));
    steps.push(Step::Compare);
    steps.push(limit("0"));
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
fn hashes_between_thresholds() {
    run("hashes_between_thresholds", 2, hashes::between_thresholds);
}

#[test]
fn sets_between_thresholds() {
    run("sets_between_thresholds", 3, sets::between_thresholds);
}

#[test]
fn streams_between_limits_resp2() {
    run("streams_between_limits_resp2", 2, streams::between_limits);
}

#[test]
fn streams_between_limits_resp3() {
    run("streams_between_limits_resp3", 3, streams::between_limits);
}

#[test]
fn lists_between_thresholds() {
    run("lists_between_thresholds", 2, lists::between_thresholds);
}

#[test]
fn zsets_between_thresholds_resp2() {
    run(
        "zsets_between_thresholds_resp2",
        2,
        zsets::between_thresholds,
    );
}

#[test]
fn zsets_between_thresholds_resp3() {
    run(
        "zsets_between_thresholds_resp3",
        3,
        zsets::between_thresholds,
    );
}

#[test]
fn sorts_resp2() {
    run("sorts_resp2", 2, sort::sequence);
}

#[test]
fn sorts_resp3() {
    run("sorts_resp3", 3, sort::sequence);
}

#[test]
fn transactions_resp2() {
    run("transactions_resp2", 2, transactions::sequence);
}

#[test]
fn transactions_resp3() {
    run("transactions_resp3", 3, transactions::sequence);
}

#[test]
fn sequences_by_usage_resp2() {
    run("sequences_by_usage_resp2", 2, by_usage);
}

#[test]
fn sequences_by_usage_resp3() {
    run("sequences_by_usage_resp3", 3, by_usage);
}

#[test]
fn pipelines_resp2() {
    run("pipelines_resp2", 2, in_pipelines);
}

#[test]
fn pipelines_resp3() {
    run("pipelines_resp3", 3, in_pipelines);
}

#[test]
fn keys_of_requests_resp2() {
    run("keys_of_requests_resp2", 2, keys_of_requests);
}

#[test]
fn keys_of_requests_resp3() {
    run("keys_of_requests_resp3", 3, keys_of_requests);
}

#[test]
fn writes_over_the_memory_limit() {
    run("writes_over_the_memory_limit", 2, out_of_memory);
}
