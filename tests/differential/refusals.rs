//! Refusals by name and by count of arguments.

use crate::pair::{Pair, Sides};
use crate::support::seed;
use crate::usage::{known_to_redis, table};

/// Runs requests on both; all differences at once.
fn compare(pair: &Pair, requests: impl IntoIterator<Item = Vec<Vec<u8>>>) {
    let mut sides = Sides::connect(pair, 2);
    let mut differences = Vec::new();
    let mut count = 0;
    for request in requests {
        count += 1;
        if let Some(found) = sides.run(&request) {
            differences.push(format!(
                "{}\n  redis: {}\n  quoit: {}",
                found.request, found.redis, found.quoit
            ));
            sides = Sides::connect(pair, 2);
        }
    }
    assert!(count > 0, "nothing was compared");
    assert!(
        differences.is_empty(),
        "{} of {count} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

fn bytes(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// Every command that both know refuses one argument too few and one too many with the same words.
#[test]
fn arity() {
    let Some(pair) = Pair::start("arity") else {
        return;
    };
    let known = known_to_redis(&pair);
    let table = table();
    let mut requests = Vec::new();
    for entry in table
        .entries()
        .iter()
        .filter(|entry| known.contains(&entry.full_name))
    {
        let names: Vec<&str> = entry.full_name.split('|').collect();
        let least = entry.arity.unsigned_abs() as usize;
        let mut counts: Vec<usize> = (names.len()..least).collect();
        if entry.arity > 0 {
            counts.extend([least + 1, least + 2]);
        }
        for count in counts {
            for upper in [false, true] {
                let mut request = bytes(&names);
                request.resize(count, b"x".to_vec());
                request
                    .iter_mut()
                    .filter(|_| upper)
                    .for_each(|word| word.make_ascii_uppercase());
                requests.push(request);
            }
        }
    }
    compare(&pair, requests);
}

/// Names that nobody knows, with arguments of all lengths: the text is cut where Redis cuts it.
#[test]
fn unknown_commands() {
    let Some(pair) = Pair::start("unknown_commands") else {
        return;
    };
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut requests: Vec<Vec<Vec<u8>>> = [
        &["foo"][..],
        &["FOO", "bar"],
        &["", "a"],
        &["foo", ""],
        &["foo", "a", "", "b"],
        &["foo\r\nbar", "x\r\ny"],
        &["fo'o", "b'ar"],
        &["get|set", "a"],
        &["config|get", "a"],
        &["GET ", "a"],
        &["\u{e4}", "\u{f6}"],
        &["foo", "a\0b"],
    ]
    .iter()
    .map(|words| bytes(words))
    .collect();
    for _ in 0..400 {
        let mut request = vec![vec![b'n'; rng.usize(1..160)]];
        for _ in 0..rng.usize(0..6) {
            let length = if rng.bool() {
                rng.usize(0..20)
            } else {
                rng.usize(100..160)
            };
            request.push((0..length).map(|_| rng.u8(33..127)).collect());
        }
        requests.push(request);
    }
    compare(&pair, requests);
}

/// Containers refuse subcommands that they do not have.
#[test]
fn unknown_subcommands() {
    let Some(pair) = Pair::start("unknown_subcommands") else {
        return;
    };
    let known = known_to_redis(&pair);
    let table = table();
    let mut requests = Vec::new();
    for entry in table
        .entries()
        .iter()
        .filter(|entry| entry.is_container() && known.contains(&entry.full_name))
    {
        for word in [
            "foo",
            "",
            "FOO",
            "get|x",
            "a\r\nb",
            "\u{e4}",
            &"x".repeat(140),
        ] {
            requests.push(bytes(&[&entry.full_name, word]));
            requests.push(bytes(&[
                &entry.full_name.to_ascii_uppercase(),
                word,
                "more",
            ]));
        }
    }
    compare(&pair, requests);
}
