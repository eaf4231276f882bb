//! Glob patterns, as KEYS, SCAN, PSUBSCRIBE, CONFIG GET and ACLs match them.
//!
//! The language is that of Redis's `stringmatchlen`, to the byte: `*`, `?`, `[a-c]`, `[^a]`, backslash; a class that is not
//! closed ends with the pattern, a range may be reversed and compares signed bytes, an empty text matches only the empty
//! pattern (not `*`). Redis's function recurses once per `*`, which has been a denial of service twice; this one does not
//! recurse.
//!
//! Every element but `*` takes exactly one byte, so between two `*` stands a run of fixed length, and it is enough to
//! find each run at its first place: only the last `*` is ever tried again. `scan` does this on the pattern itself,
//! without an allocation, and is all that ordinary patterns see. A hostile pattern makes it use up its budget of steps;
//! then `compile` turns the pattern into runs of byte sets, and `compiled` searches them: short runs place by place, long
//! ones 64 elements per step (shift-and). The worst case is pattern times text divided by 64: 50,000 of each take less
//! than a tenth of a second.

/// Whether `text` matches `pattern`. With `nocase`, ASCII letters match both their cases.
pub fn glob_match(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    match scan(pattern, text, nocase, BUDGET) {
        Some(matches) => matches,
        None => compile(pattern, nocase, text.len()).is_some_and(|runs| compiled(&runs, text)),
    }
}

/// Steps before a pattern is compiled: about a millisecond.
const BUDGET: usize = 200_000;

/// Matches without preparation; none if that takes more than `budget` steps.
fn scan(pattern: &[u8], text: &[u8], nocase: bool, mut budget: usize) -> Option<bool> {
    // Redis looks at no element of the pattern when there is no text.
    if text.is_empty() {
        return Some(pattern.is_empty());
    }
    let (mut at, mut place) = (0, 0);
    // The element after the last `*`, and the first byte not yet tried for it.
    let mut retry = None;
    while place < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            if at == pattern.len() {
                return Some(true);
            }
            retry = Some((at, place));
            continue;
        }
        let (matches, len) = match pattern.get(at) {
            Some(_) => element(&pattern[at..], text[place], nocase),
            None => (false, 1),
        };
        budget = budget.checked_sub(len)?;
        if matches {
            (at, place) = (at + len, place + 1);
            continue;
        }
        let Some((run, tried)) = retry else {
            return Some(false);
        };
        retry = Some((run, tried + 1));
        (at, place) = (run, tried + 1);
    }
    Some(pattern[at..].iter().all(|byte| *byte == b'*'))
}

/// Whether the first element of `pattern`, which is not `*`, takes `byte`; and how long that element is.
#[inline]
fn element(pattern: &[u8], byte: u8, nocase: bool) -> (bool, usize) {
    match pattern {
        [b'?', ..] => (true, 1),
        [b'[', class @ ..] => {
            let (matches, len) = class_matches(class, byte, nocase);
            (matches, len + 1)
        }
        [b'\\', literal, ..] => (same(*literal, byte, nocase), 2),
        [literal, ..] => (same(*literal, byte, nocase), 1),
        [] => (false, 0),
    }
}

/// Whether a class, given from behind its `[`, contains `byte`; and how long it is with its `]`.
fn class_matches(class: &[u8], byte: u8, nocase: bool) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        at += match &class[at..] {
            // Case counts for an escaped byte even with nocase, as in Redis.
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                2
            }
            [b']', ..] => return (found != negated, at + 1),
            [] => return (found != negated, at),
            [first, b'-', last, ..] => {
                found |= range_contains(*first, *last, byte, nocase);
                3
            }
            [literal, ..] => {
                found |= same(*literal, byte, nocase);
                1
            }
        };
    }
}

fn range_contains(first: u8, last: u8, byte: u8, nocase: bool) -> bool {
    let (first, last) = range(first, last, nocase);
    (first..=last).contains(&lower(byte as i8, nocase))
}

/// Signed bytes, ordered before they are lowered: so compares Redis, whose `char` is signed.
fn range(first: u8, last: u8, nocase: bool) -> (i8, i8) {
    let (first, last) = (first as i8, last as i8);
    (
        lower(first.min(last), nocase),
        lower(first.max(last), nocase),
    )
}

fn lower(byte: i8, nocase: bool) -> i8 {
    match nocase {
        true => (byte as u8).to_ascii_lowercase() as i8,
        false => byte,
    }
}

#[inline]
fn same(literal: u8, byte: u8, nocase: bool) -> bool {
    literal == byte || (nocase && literal.eq_ignore_ascii_case(&byte))
}

/// The bytes an element takes.
type ByteSet = [u64; 4];
const FULL: ByteSet = [u64::MAX; 4];

fn contains(set: &ByteSet, byte: u8) -> bool {
    set[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
}

/// The runs between the `*` of a pattern; there is one more of them than of `*`, and any may be empty. None when they take
/// more than `limit` bytes together: such a pattern matches no shorter text, and 32 bytes for each of its elements would
/// make a pattern of some megabytes fill the memory.
fn compile(pattern: &[u8], nocase: bool, limit: usize) -> Option<Vec<Vec<ByteSet>>> {
    let mut runs = vec![Vec::new()];
    let mut rest = pattern;
    let mut elements = 0;
    while let [first, tail @ ..] = rest {
        if *first == b'*' {
            // Two in a row are as good as one.
            if elements == 0 && runs.len() == 1 || runs.last().is_some_and(|run| !run.is_empty()) {
                runs.push(Vec::new());
            }
            rest = tail;
            continue;
        }
        elements += 1;
        if elements > limit {
            return None;
        }
        let (set, len) = compile_element(rest, nocase);
        runs.last_mut().expect("there is always a run").push(set);
        rest = &rest[len..];
    }
    Some(runs)
}

fn compile_element(pattern: &[u8], nocase: bool) -> (ByteSet, usize) {
    let one = |byte: u8| {
        let mut set = ByteSet::default();
        insert(&mut set, byte, nocase);
        set
    };
    match pattern {
        [b'?', ..] => (FULL, 1),
        [b'[', class @ ..] => {
            let (set, len) = class_set(class, nocase);
            (set, len + 1)
        }
        [b'\\', literal, ..] => (one(*literal), 2),
        [literal, ..] => (one(*literal), 1),
        [] => (ByteSet::default(), 0),
    }
}

fn insert(set: &mut ByteSet, byte: u8, nocase: bool) {
    set[usize::from(byte >> 6)] |= 1 << (byte & 63);
    if nocase && byte.is_ascii_alphabetic() {
        insert(set, byte ^ 0x20, false);
    }
}

/// The bytes that [`class_matches`] finds, in one pass: a class that is not closed is as long as its pattern.
fn class_set(class: &[u8], nocase: bool) -> (ByteSet, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut set = ByteSet::default();
    // How many more ranges hold a byte than hold the one below it.
    let mut begun = [0i64; 257];
    let len = loop {
        at += match &class[at..] {
            [b'\\', literal, ..] => {
                insert(&mut set, *literal, false);
                2
            }
            [b']', ..] => break at + 1,
            [] => break at,
            [first, b'-', last, ..] => {
                let (first, last) = range(*first, *last, nocase);
                if first <= last {
                    begun[order(first)] += 1;
                    begun[order(last) + 1] -= 1;
                }
                3
            }
            [literal, ..] => {
                insert(&mut set, *literal, nocase);
                1
            }
        };
    };
    let mut open = 0;
    for (byte, begun) in (i8::MIN..=i8::MAX).zip(begun) {
        open += begun;
        // A range holds the lower case of what it takes.
        if open > 0 && lower(byte, nocase) == byte {
            insert(&mut set, byte as u8, nocase);
        }
    }
    if negated {
        set.iter_mut().for_each(|word| *word = !*word);
    }
    (set, len)
}

/// The place of a signed byte among all.
fn order(byte: i8) -> usize {
    (i16::from(byte) - i16::from(i8::MIN)) as usize
}

/// Matches a text that is not empty.
fn compiled(runs: &[Vec<ByteSet>], text: &[u8]) -> bool {
    let [first, middle @ .., last] = runs else {
        return runs.len() == 1 && runs[0].len() == text.len() && run_at(&runs[0], text);
    };
    // What all runs take: a text shorter than that needs no search.
    if runs.iter().map(Vec::len).sum::<usize>() > text.len() {
        return false;
    }
    let (head, rest) = text.split_at(first.len());
    let (mut rest, end) = rest.split_at(rest.len() - last.len());
    if !run_at(first, head) || !run_at(last, end) {
        return false;
    }
    for run in middle {
        match find_run(run, rest) {
            Some(place) => rest = &rest[place + run.len()..],
            None => return false,
        }
    }
    true
}

fn run_at(run: &[ByteSet], text: &[u8]) -> bool {
    run.iter().zip(text).all(|(set, byte)| contains(set, *byte))
}

/// The first place in `text` that a run matches.
fn find_run(run: &[ByteSet], text: &[u8]) -> Option<usize> {
    match run.len() {
        0..=64 => text
            .windows(run.len().max(1))
            .position(|window| run_at(run, window))
            .or(run.is_empty().then_some(0)),
        _ => find_long_run(run, text),
    }
}

/// Shift-and: bit i of `state` says that the first i + 1 elements match what ends at the current byte.
fn find_long_run(run: &[ByteSet], text: &[u8]) -> Option<usize> {
    let words = run.len().div_ceil(64);
    // For each byte, the elements that take it.
    let mut takes = vec![0u64; 256 * words];
    for (index, set) in run.iter().enumerate() {
        for byte in 0..=255u8 {
            let word = usize::from(byte) * words + index / 64;
            takes[word] |= u64::from(contains(set, byte)) << (index % 64);
        }
    }
    let mut state = vec![0u64; words];
    let last_bit = 1 << ((run.len() - 1) % 64);
    for (place, byte) in text.iter().enumerate() {
        let row = &takes[usize::from(*byte) * words..][..words];
        let mut carry = 1;
        for (word, takes) in state.iter_mut().zip(row) {
            let shifted = *word << 1 | carry;
            carry = *word >> 63;
            *word = shifted & takes;
        }
        if state[words - 1] & last_bit != 0 {
            return Some(place + 1 - run.len());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        glob_match(pattern.as_bytes(), text.as_bytes(), false)
    }

    #[test]
    fn the_language() {
        for (pattern, text) in [
            ("", ""),
            ("*", "a"),
            ("a*", "a"),
            ("a***", "a"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            (r"h\*llo", "h*llo"),
            (r"[\]]", "]"),
            ("[a", "a"),
            ("[^", "x"),
            (r"[a\", r"\"),
            (r"\", r"\"),
            ("[a-]", "_"),
            ("[a-", "-"),
            ("*a*b*c*", "xxaxxbxxcxx"),
            ("[^]", "x"),
            ("*[ab]", "cb"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("*", ""),
            ("**", ""),
            ("", "a"),
            ("[", "["),
            ("[]", "]"),
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("a", "A"),
            ("*a", "b"),
            ("a*b", "a"),
            ("[^a", "a"),
            ("a?", "a"),
            ("?*?", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(glob_match(b"HeL[m-J]O*", b"hELlo", true));
        // The ends are put in order before they are lowered: this range is empty.
        assert!(!glob_match(b"[k-M]", b"l", true));
        assert!(!glob_match(br"[\A]", b"a", true));
        assert!(glob_match(b"[a-\xff]", b"\xff", false));
        assert!(glob_match(b"[a-\xff]", b"A", false));
        assert!(!glob_match(b"[a-\xff]", b"z", false));
    }

    #[test]
    fn hostile_patterns_end_quickly() {
        let n = 50_000;
        let text = vec![b'a'; n];
        let tail =
            |unit: &str, times: usize| [unit.repeat(times).into_bytes(), b"b".to_vec()].concat();
        let half_run = [b"*".to_vec(), vec![b'a'; n / 2], b"b*".to_vec()].concat();
        let long_class = [b"*[".to_vec(), vec![b'c'; n - 10], b"]b*".to_vec()].concat();
        let long_unclosed = [b"*?[".to_vec(), vec![b'c'; n - 10]].concat();
        let patterns = [
            tail("*?", n),
            tail("*?", n / 2),
            tail("a*", n),
            tail("a*", n / 2),
            tail("*a", n / 3),
            tail("*[a]", n / 4),
            half_run,
            long_class,
            long_unclosed,
            tail("*aaaaaaaaa", n / 20),
        ];
        for pattern in patterns {
            for nocase in [false, true] {
                let start = Instant::now();
                assert!(!glob_match(&pattern, &text, nocase));
                let limit = Duration::from_millis(if cfg!(debug_assertions) { 5000 } else { 500 });
                assert!(start.elapsed() < limit, "{:?}", start.elapsed());
            }
        }
        assert!(glob_match("*?".repeat(n).as_bytes(), &text, false));
    }

    #[test]
    fn hostile_patterns_cost_little_for_each_of_many_keys() {
        // Aim: KEYS *[a-*[a-.. compiled its one class of 40,000 bytes byte by byte, for each key anew.
        let patterns = [
            "*[a-".repeat(10_000),
            "*[^b".repeat(10_000),
            "*[\\]".repeat(10_000),
        ];
        for pattern in patterns {
            for nocase in [false, true] {
                let start = Instant::now();
                for key in 0..200 {
                    glob_match(
                        pattern.as_bytes(),
                        format!("witness:{key}").as_bytes(),
                        nocase,
                    );
                }
                let limit =
                    Duration::from_millis(if cfg!(debug_assertions) { 10_000 } else { 1000 });
                assert!(start.elapsed() < limit, "{:?}", start.elapsed());
            }
        }
    }

    #[test]
    fn compiled_patterns_are_no_longer_than_their_text() {
        // Aim: a pattern of megabytes must not become 32 bytes for each of its elements.
        assert!(compile(&b"*a".repeat(1000), false, 999).is_none());
        let stars = compile(&b"*".repeat(1000), false, 0).expect("it has no elements");
        assert_eq!(stars.len(), 2);
    }

    /// Redis's function, as it is written: the definition of what is right.
    fn reference(mut pattern: &[u8], mut text: &[u8], nocase: bool) -> bool {
        while !pattern.is_empty() && !text.is_empty() {
            if pattern[0] == b'*' {
                while pattern.get(1) == Some(&b'*') {
                    pattern = &pattern[1..];
                }
                if pattern.len() == 1 {
                    return true;
                }
                return (0..text.len()).any(|skip| reference(&pattern[1..], &text[skip..], nocase));
            }
            let (taken, len) = reference_element(pattern, text[0], nocase);
            if !taken {
                return false;
            }
            (pattern, text) = (&pattern[len..], &text[1..]);
            if text.is_empty() {
                while pattern.first() == Some(&b'*') {
                    pattern = &pattern[1..];
                }
            }
        }
        pattern.is_empty() && text.is_empty()
    }

    fn reference_element(pattern: &[u8], byte: u8, nocase: bool) -> (bool, usize) {
        let low = |byte: u8| {
            if nocase {
                byte.to_ascii_lowercase()
            } else {
                byte
            }
        };
        let end = pattern.len();
        match pattern[0] {
            b'?' => (true, 1),
            b'[' => {
                let mut at = 1;
                let not = pattern.get(at) == Some(&b'^');
                at += usize::from(not);
                let mut found = false;
                loop {
                    if end - at >= 2 && pattern[at] == b'\\' {
                        at += 1;
                        found |= pattern[at] == byte;
                    } else if at < end && pattern[at] == b']' {
                        at += 1;
                        break;
                    } else if at == end {
                        break;
                    } else if end - at >= 3 && pattern[at + 1] == b'-' {
                        let (mut first, mut last) = (pattern[at] as i8, pattern[at + 2] as i8);
                        if first > last {
                            (first, last) = (last, first);
                        }
                        at += 2;
                        let byte = low(byte) as i8;
                        found |= byte >= low(first as u8) as i8 && byte <= low(last as u8) as i8;
                    } else {
                        found |= low(pattern[at]) == low(byte);
                    }
                    at += 1;
                }
                (found != not, at)
            }
            b'\\' if end >= 2 => (low(pattern[1]) == low(byte), 2),
            other => (low(other) == low(byte), 1),
        }
    }

    fn soup(letters: &'static str, longest: usize) -> impl Strategy<Value = Vec<u8>> {
        let bytes: Vec<u8> = letters.bytes().chain([0xff]).collect();
        prop::collection::vec(prop::sample::select(bytes), 0..longest)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn both_matchers_agree_with_the_reference(
            pattern in soup("aAbc***??[]^-\\", 14),
            text in soup("aAbc]-\\", 9),
            nocase: bool,
        ) {
            let right = reference(&pattern, &text, nocase);
            prop_assert_eq!(scan(&pattern, &text, nocase, usize::MAX), Some(right));
            if !text.is_empty() {
                let found = compile(&pattern, nocase, text.len());
                prop_assert_eq!(found.is_some_and(|runs| compiled(&runs, &text)), right);
            }
        }

        #[test]
        fn long_runs_are_found(
            run in prop::collection::vec(prop::sample::select(&b"ab?"[..]), 65..200),
            before in soup("ab", 100),
            after in soup("ab", 100),
        ) {
            let filled = run.iter().map(|byte| if *byte == b'?' { b'a' } else { *byte });
            let text: Vec<u8> = before.iter().copied().chain(filled).chain(after).collect();
            let sets = compile(&run, false, run.len()).expect("it fits").remove(0);
            let place = find_long_run(&sets, &text).expect("it was put there");
            prop_assert!(run_at(&sets, &text[place..place + run.len()]));
            prop_assert!((0..place).all(|earlier| !run_at(&sets, &text[earlier..earlier + run.len()])));
        }
    }
}
