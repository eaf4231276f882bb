//! Sorted sets against a sorted vector, in both representations.

use super::super::testing::{rounds, seeded};
use super::*;

const USUAL: Limits = Limits {
    entries: 128,
    value: 64,
};
const ALWAYS_FULL: Limits = Limits {
    entries: 0,
    value: 0,
};

/// A set as Redis's definition has it.
#[derive(Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn score(&self, member: &[u8]) -> Option<f64> {
        let pair = self.0.iter().find(|pair| pair.1 == member)?;
        Some(pair.0)
    }

    fn set(&mut self, member: &[u8], score: f64) {
        self.remove(member);
        let pair = (score, member.to_vec());
        let place = self
            .0
            .partition_point(|other| other.0 < pair.0 || other.0 == pair.0 && other.1 < pair.1);
        self.0.insert(place, pair);
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let place = self.0.iter().position(|pair| pair.1 == member)?;
        Some(self.0.remove(place).0)
    }

    fn add(&mut self, member: &[u8], score: f64, rules: AddRules) -> Added {
        let old = self.score(member);
        if old.is_some() && rules.only_new || old.is_none() && rules.only_known {
            return Added::Refused;
        }
        let new = match old {
            Some(old) if rules.increment => old + score,
            _ => score,
        };
        if new.is_nan() {
            return Added::NotANumber;
        }
        let Some(old) = old else {
            self.set(member, new);
            return Added::Inserted(new);
        };
        if rules.only_greater && new <= old || rules.only_less && new >= old {
            return Added::Refused;
        }
        if new == old {
            return Added::Unchanged(old);
        }
        self.set(member, new);
        Added::Updated(new)
    }

    fn pairs(&self, ranks: Range<usize>) -> Vec<(Vec<u8>, f64)> {
        let pairs = self.0[ranks].iter();
        pairs
            .map(|(score, member)| (member.clone(), *score))
            .collect()
    }
}

fn collect(iter: Iter<'_>) -> Vec<(Vec<u8>, f64)> {
    let length = iter.len();
    let pairs: Vec<_> = iter
        .map(|(member, score)| (member.to_vec(), score))
        .collect();
    assert_eq!(pairs.len(), length);
    pairs
}

fn all(set: &ZSet) -> Vec<(Vec<u8>, f64)> {
    collect(set.view().range(0..usize::MAX))
}

fn score(rng: &mut fastrand::Rng) -> f64 {
    match rng.u8(..12) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        3 => 9_007_199_254_740_993.0,
        4 => -1e300,
        5 => 0.1 + f64::from(rng.u8(..4)),
        6..9 => f64::from(rng.i8(..)),
        _ => rng.f64() * 1e6,
    }
}

fn member(rng: &mut fastrand::Rng, universe: u32) -> Vec<u8> {
    let number = rng.u32(..universe);
    match number % 5 {
        0 => format!("{number}"),
        1 => format!("-{number}"),
        2 => format!("member:{number:09}"),
        3 => format!("{number:036}"),
        _ => format!("{:1$}", number, (number % 150) as usize),
    }
    .into_bytes()
}

fn rules(rng: &mut fastrand::Rng) -> AddRules {
    let mut rules = AddRules::default();
    match rng.u8(..8) {
        0 => rules.only_new = true,
        1 => rules.only_known = true,
        2 => rules.only_greater = true,
        3 => rules.only_less = true,
        4 => (rules.only_known, rules.only_greater) = (true, true),
        _ => {}
    }
    rules.increment = rng.u8(..4) == 0;
    rules
}

#[test]
fn random_changes_agree_with_a_sorted_vector() {
    let mut rng = seeded();
    for round in 0..rounds(12) {
        let limits = [USUAL, ALWAYS_FULL][round % 2];
        let universe = [40, 300, 3_000][round / 2 % 3];
        let mut set = ZSet::new();
        let mut model = Model::default();
        let mut snapshot = (ZSet::new(), Vec::new());
        for step in 0..3_000 {
            let member = member(&mut rng, universe);
            match rng.u8(..10) {
                0 => assert_eq!(set.remove(&member), model.remove(&member)),
                1 if rng.bool() => {
                    let start = rng.usize(..=set.len());
                    let end = (start + rng.usize(..4)).min(set.len());
                    let left = set.remove_range(start..end + usize::from(end == set.len()));
                    assert!(left.is_none(), "few members go one by one");
                    model.0.drain(start..end);
                }
                2 => {
                    let (end, place) = match rng.bool() {
                        true => (Extreme::Min, 0),
                        false => (Extreme::Max, model.0.len().saturating_sub(1)),
                    };
                    let mut popped = None;
                    set.pop(end, 1, |member, score| {
                        popped = Some((score, member.to_vec()))
                    });
                    assert_eq!(popped, model.0.get(place).cloned());
                    popped.map(|_| model.0.remove(place));
                    let (count, mut popped) = (rng.usize(..4), Vec::new());
                    set.pop(end, count, |member, score| {
                        popped.push((score, member.to_vec()))
                    });
                    let count = count.min(model.0.len());
                    let expected: Vec<_> = match end {
                        Extreme::Min => model.0.drain(..count).collect(),
                        Extreme::Max => model.0.drain(model.0.len() - count..).rev().collect(),
                    };
                    assert_eq!(popped, expected);
                }
                1 if step % 100 == 0 => {
                    set.settle(USUAL);
                    let packed = set.view().encoding() == "listpack";
                    let longest = model.0.iter().map(|pair| pair.1.len()).max();
                    assert_eq!(
                        packed,
                        model.0.len() <= USUAL.entries && longest.unwrap_or(0) <= USUAL.value
                    );
                }
                _ => {
                    let (score, rules) = (score(&mut rng), rules(&mut rng));
                    let added = set.add(&member, score, rules, limits);
                    assert_eq!(added, model.add(&member, score, rules));
                }
            }
            assert_eq!(set.len(), model.0.len());
            assert_eq!(set.view().score(&member), model.score(&member));
            if step % 50 == 0 {
                compare_reads(&mut rng, &set, &model, universe);
                assert_eq!(all(&snapshot.0), snapshot.1);
                snapshot = (set.clone(), all(&set));
            }
        }
        compare_reads(&mut rng, &set, &model, universe);
    }
}

fn compare_reads(rng: &mut fastrand::Rng, set: &ZSet, model: &Model, universe: u32) {
    let view = set.view();
    assert_eq!(all(set), model.pairs(0..model.0.len()));
    let start = rng.usize(..=model.0.len());
    let end = rng.usize(start..=model.0.len());
    assert_eq!(collect(view.range(start..end)), model.pairs(start..end));
    let mut back = model.pairs(start..end);
    back.reverse();
    assert_eq!(collect(view.range_back(start..end)), back);
    let at = view
        .at(start)
        .map(|(member, score)| (member.to_vec(), score));
    assert_eq!(at, model.pairs(0..model.0.len()).get(start).cloned());
    let member = member(rng, universe);
    let rank = model.0.iter().position(|pair| pair.1 == member);
    let expected = rank.map(|rank| (rank, model.0[rank].0));
    assert_eq!(view.rank(&member), expected);
    let bounds = [(); 2].map(|()| ScoreBound {
        score: score(rng),
        exclusive: rng.bool(),
    });
    let inside = |score: f64| {
        let [min, max] = bounds;
        (score > min.score || !min.exclusive && score == min.score)
            && (score < max.score || !max.exclusive && score == max.score)
    };
    let expected: Vec<_> = model.pairs(0..model.0.len());
    let expected: Vec<_> = expected.into_iter().filter(|pair| inside(pair.1)).collect();
    let ranks = view.score_range(bounds[0], bounds[1]);
    assert_eq!(collect(view.range(ranks)), expected);
    let mut seen = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = view.scan(cursor, 7, |member, score| {
            seen.push((member.to_vec(), score))
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), model.0.len());
    for (member, held) in seen {
        assert_eq!(model.score(&member), Some(held));
    }
}

#[test]
fn ranges_in_the_order_of_bytes_agree_with_a_sorted_vector() {
    let mut rng = seeded();
    for limits in [USUAL, ALWAYS_FULL] {
        let mut set = ZSet::new();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for _ in 0..120 {
            let length = rng.usize(..4);
            let member: Vec<u8> = (0..length)
                .map(|_| rng.choice(*b"09a\xff\0").unwrap_or(0))
                .collect();
            if set.add(&member, 0.0, AddRules::default(), limits) == Added::Inserted(0.0) {
                model.push(member);
            }
        }
        model.sort();
        let texts: Vec<Vec<u8>> = (0..40)
            .map(|_| {
                let length = rng.usize(..4);
                (0..length)
                    .map(|_| rng.choice(*b"09a\xff\0").unwrap_or(0))
                    .collect()
            })
            .collect();
        for min in &texts {
            for max in &texts {
                for exclusive in [false, true] {
                    let bound = |text| match exclusive {
                        true => LexBound::Exclusive(text),
                        false => LexBound::Inclusive(text),
                    };
                    let ranks = set.view().lex_range(bound(min), bound(max), false);
                    let back = set.view().lex_range(bound(min), bound(max), true);
                    assert!(ranks == back || ranks.is_empty() && back.is_empty());
                    let expected: Vec<_> = model
                        .iter()
                        .filter(|member| match exclusive {
                            true => *member > min && *member < max,
                            false => *member >= min && *member <= max,
                        })
                        .collect();
                    let found = collect(set.view().range(ranks));
                    assert!(found.iter().map(|pair| &pair.0).eq(expected));
                }
            }
        }
        let view = set.view();
        assert_eq!(
            view.lex_range(LexBound::First, LexBound::Last, false),
            0..set.len()
        );
        let none = view.lex_range(LexBound::Last, LexBound::First, false);
        assert!(none.is_empty());
    }
}

/// What redis-server 7.0.15 answers for the members b, a, d, c in the order of their scores.
#[test]
fn a_range_of_bytes_among_different_scores_is_what_the_walk_meets() {
    let mut set = ZSet::new();
    for (score, member) in [b"b", b"a", b"d", b"c"].into_iter().enumerate() {
        set.add(member, score as f64, AddRules::default(), USUAL);
    }
    let of = |min, max, back| set.view().lex_range(min, max, back);
    use LexBound::{Exclusive, First, Inclusive, Last};
    assert_eq!(of(Inclusive(b"b"), Last, false), 0..4);
    assert_eq!(of(Inclusive(b"b"), Last, true), 2..4);
    assert_eq!(of(First, Inclusive(b"c"), false), 0..2);
    assert_eq!(of(First, Inclusive(b"c"), true), 0..4);
    // The last member is below the range, so nothing is thought to be in it.
    assert_eq!(of(Inclusive(b"d"), Last, false), 0..0);
    assert_eq!(of(First, Exclusive(b"b"), true), 0..0);
}

#[test]
fn most_of_a_large_set_is_removed_by_making_the_rest_anew() {
    for (len, ranks) in [(5_000, 0..4_000), (5_000, 500..9_000), (3_000, 1..2_999)] {
        let mut set = ZSet::new();
        let mut model = Model::default();
        for number in 0..len {
            let (member, score) = (format!("m{number}").into_bytes(), f64::from(number));
            set.add(&member, score, AddRules::default(), USUAL);
            model.0.push((score, member));
        }
        let left = set
            .remove_range(ranks.clone())
            .expect("the old set is left");
        assert!(left.len() >= len as usize);
        model.0.drain(ranks.start..ranks.end.min(len as usize));
        assert_eq!(all(&set), model.pairs(0..model.0.len()));
        assert_eq!(set.view().encoding(), "skiplist");
        for (score, member) in &model.0 {
            assert_eq!(set.view().score(member), Some(*score));
        }
    }
}

#[test]
fn a_set_is_converted_where_redis_converts_it() {
    let limits = Limits {
        entries: 3,
        value: 5,
    };
    let mut set = ZSet::new();
    for member in [&b"a"[..], b"b", b"12345"] {
        set.add(member, 1.0, AddRules::default(), limits);
        assert_eq!(set.view().encoding(), "listpack");
    }
    set.add(b"a", 2.0, AddRules::default(), limits);
    assert_eq!(set.view().encoding(), "listpack");
    set.add(b"c", 1.0, AddRules::default(), limits);
    assert_eq!(set.view().encoding(), "skiplist");
    set.remove(b"c");
    assert_eq!(set.view().encoding(), "skiplist");
    set.settle(limits);
    assert_eq!(set.view().encoding(), "listpack");
    set.add(b"123456", 1.0, AddRules::default(), limits);
    assert_eq!(set.view().encoding(), "skiplist");
}

#[test]
fn negative_zero_is_kept_where_redis_keeps_it() {
    for (limits, negative) in [(USUAL, false), (ALWAYS_FULL, true)] {
        let mut set = ZSet::new();
        set.add(b"a", -0.0, AddRules::default(), limits);
        let held = set.view().score(b"a").unwrap();
        assert_eq!(held.is_sign_negative(), negative);
        let again = set.add(b"a", 0.0, AddRules::default(), limits);
        assert_eq!(again, Added::Unchanged(0.0));
    }
}

#[test]
fn sums_that_are_no_numbers_are_refused_and_change_nothing() {
    for limits in [USUAL, ALWAYS_FULL] {
        let mut set = ZSet::new();
        let increment = AddRules {
            increment: true,
            ..AddRules::default()
        };
        set.add(b"a", f64::INFINITY, AddRules::default(), limits);
        assert_eq!(
            set.add(b"a", f64::NEG_INFINITY, increment, limits),
            Added::NotANumber
        );
        assert_eq!(
            set.add(b"b", f64::NAN, AddRules::default(), limits),
            Added::NotANumber
        );
        assert_eq!(all(&set), [(b"a".to_vec(), f64::INFINITY)]);
    }
}

#[test]
fn the_bytes_follow_every_change() {
    let mut rng = seeded();
    let mut set = ZSet::new();
    for step in 0..20_000 {
        let member = member(&mut rng, 5_000);
        if rng.u8(..) < 130 {
            set.add(&member, score(&mut rng), AddRules::default(), USUAL);
        } else {
            set.remove(&member);
        }
        if step % 500 == 0
            && let ZSet::Full(full) = &set
        {
            let counted = full.members.allocated_bytes() + full.order.allocated_bytes();
            assert_eq!(
                set.allocated_bytes(),
                counted + good_size(size_of::<Full>())
            );
        }
    }
    drop(set.remove_range(0..usize::MAX));
    assert!(set.is_empty());
    assert!(set.allocated_bytes() < 4_000, "{}", set.allocated_bytes());
}

#[test]
fn collected_sets_agree_with_a_model() {
    let mut rng = seeded();
    for aggregate in [Aggregate::Sum, Aggregate::Min, Aggregate::Max] {
        for limits in [USUAL, ALWAYS_FULL] {
            let mut collected = Collect::new();
            let mut model = Model::default();
            for _ in 0..3 {
                let mut set = ZSet::new();
                for _ in 0..100 {
                    let member = member(&mut rng, 120);
                    set.add(&member, score(&mut rng), AddRules::default(), limits);
                }
                let weight = rng.choice([1.0, 0.0, -2.0]).unwrap_or(1.0);
                let mut from = 0;
                while from < set.len() {
                    from = collected
                        .union(set.view(), from, 7, weight, aggregate)
                        .unwrap();
                }
                for (member, score) in all(&set) {
                    let score = weighted(score, weight);
                    let joined = match model.score(&member) {
                        Some(old) => aggregate.apply(old, score),
                        None => score,
                    };
                    model.set(&member, joined);
                }
            }
            for _ in 0..30 {
                let member = member(&mut rng, 120);
                assert_eq!(collected.remove(&member), model.remove(&member).is_some());
            }
            assert_eq!(collected.len(), model.0.len());
            let mut other = Collect::new();
            for (member, score) in model.pairs(0..model.0.len()) {
                assert!(other.insert(&member, score));
            }
            let sorted = other.sorted();
            let sorted = sorted
                .iter()
                .map(|(member, score)| (member.to_vec(), score));
            assert!(sorted.eq(model.pairs(0..model.0.len())));
            let set = collected.finish(limits);
            assert_eq!(all(&set), model.pairs(0..model.0.len()));
        }
    }
}

#[test]
fn opposite_infinities_and_zero_weights_make_zero() {
    assert_eq!(Aggregate::Sum.apply(f64::INFINITY, f64::NEG_INFINITY), 0.0);
    assert_eq!(weighted(f64::INFINITY, 0.0), 0.0);
    assert_eq!(Aggregate::Min.apply(1.0, 2.0), 1.0);
    assert_eq!(Aggregate::Max.apply(1.0, 2.0), 2.0);
}

#[test]
fn a_large_set_is_freed_in_pieces() {
    let mut set = ZSet::new();
    for number in 0..20_000 {
        let member = format!("member:{number}");
        set.add(
            member.as_bytes(),
            f64::from(number),
            AddRules::default(),
            USUAL,
        );
    }
    let mut remains = set.into_remains().unwrap();
    let mut pieces = 1;
    while !remains.free(1_000) {
        pieces += 1;
    }
    assert!(pieces > 3, "{pieces}");
    assert!(ZSet::new().into_remains().is_none());
}

/// What a packed set holds of scores, and what its compact form does, is what was put in; only -0 becomes 0.
#[test]
fn every_score_survives_the_packed_forms() {
    const WHOLE: f64 = (1u64 << 53) as f64;
    let mut rng = seeded();
    // The last one's bytes read as an integer; it came back as 12345678 once.
    let digits = f64::from_le_bytes(*b"12345678");
    let scores = [
        0.0,
        1.0,
        -1.0,
        46.0,
        127.0,
        -129.0,
        0.5,
        1e300,
        -1e-300,
        WHOLE,
        -WHOLE,
        WHOLE - 1.0,
        1.0 - WHOLE,
        1_700_000_000_000.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        digits,
    ];
    for _ in 0..rounds(200) {
        let mut expected = scores.to_vec();
        rng.shuffle(&mut expected);
        expected.truncate(rng.usize(1..=scores.len()));
        let mut set = ZSet::new();
        for (number, &score) in expected.iter().enumerate() {
            let member = format!("member:{number}");
            let added = set.add(member.as_bytes(), score, AddRules::default(), USUAL);
            assert_eq!(added, Added::Inserted(score));
        }
        let ZSet::Packed(scored) = &set else {
            panic!("a small set");
        };
        let mut compact = Vec::new();
        let shape = scored.view().write_compact(&mut compact);
        assert_eq!(compact.len(), scored.view().compact_len());
        let view = ScoredRef::from_compact(&compact, shape);
        let copy = ZSet::from(Scored::copy_of(view));
        for set in [set.view(), ZSetRef::Packed(view), copy.view()] {
            for (number, &score) in expected.iter().enumerate() {
                let member = format!("member:{number}");
                let held = set.score(member.as_bytes());
                assert_eq!(held.map(f64::to_bits), Some(score.to_bits()), "{score}");
            }
            let sorted: Vec<_> = set.range(0..set.len()).map(|(_, score)| score).collect();
            assert!(sorted.is_sorted());
        }
    }
    let mut set = ZSet::new();
    set.add(b"m", -0.0, AddRules::default(), USUAL);
    assert_eq!(set.view().score(b"m").map(f64::to_bits), Some(0));
}

/// Scores that are near each other take a byte or two, however large they are.
#[test]
fn integers_are_held_as_distances() {
    let mut set = ZSet::new();
    for number in 0..8 {
        let score = 1_700_000_000_000.0 + 100.0 * f64::from(number);
        set.add(
            format!("{number}abcdefg").as_bytes(),
            score,
            AddRules::default(),
            USUAL,
        );
    }
    let ZSet::Packed(scored) = &set else {
        panic!("a small set");
    };
    // Bodies, heads, and the base: the first distance takes no byte, the next one byte, the others two.
    let distances = 1 + 6 * 2;
    let base = 6 + 1;
    assert_eq!(
        scored.view().compact_len(),
        8 * 8 + distances + 8 * 2 + base
    );
}
