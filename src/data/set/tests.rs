//! Encodings as Redis 7.2 chooses them; random operations against a plain set, in every encoding.

use std::collections::BTreeSet;

use super::*;
use crate::data::testing;

const LIMITS: SetLimits = SetLimits {
    max_intset_entries: 8,
    max_listpack_entries: 10,
    max_listpack_value: 12,
};

fn hasher() -> KeyHasher {
    KeyHasher::with_key(3, 4)
}

fn set_of(members: &[&str]) -> Set {
    let mut set = Set::new();
    for member in members {
        set.add(Item::new(member.as_bytes()), &LIMITS, &hasher());
    }
    set
}

fn texts(set: &Set) -> Vec<String> {
    let text = |item: Item<'_>| String::from_utf8(item.to_vec()).expect("the tests add ASCII");
    set.view().iter().map(text).collect()
}

#[test]
fn it_is_as_small_as_a_box_of_value_can_take() {
    assert!(size_of::<Set>() <= 32, "{}", size_of::<Set>());
    assert_eq!(Set::new().allocated_bytes(), 0);
}

#[test]
fn the_encoding_follows_the_limits() {
    let encoding = |members: &[&str]| set_of(members).view().encoding();
    assert_eq!(encoding(&["1", "2"]), "intset");
    assert_eq!(encoding(&["1", "2", "x"]), "listpack");
    let ints: Vec<_> = (0..12).map(|n| n.to_string()).collect();
    let ints: Vec<_> = ints.iter().map(String::as_str).collect();
    assert_eq!(encoding(&ints[..8]), "intset");
    assert_eq!(encoding(&ints[..9]), "hashtable", "one more than the limit");
    let mut eight = ints[..8].to_vec();
    eight.push("x");
    assert_eq!(encoding(&eight), "listpack");
    assert_eq!(encoding(&["x", "123456789012"]), "listpack");
    assert_eq!(
        encoding(&["x", "1234567890123"]),
        "hashtable",
        "a long integer"
    );
    assert_eq!(
        encoding(&["-123456789012", "x"]),
        "hashtable",
        "the same the other way"
    );
    let mut texts = vec!["x"];
    texts.extend(&ints[..9]);
    assert_eq!(encoding(&texts), "listpack");
    texts.push("y");
    assert_eq!(encoding(&texts), "hashtable");
    let mut set = set_of(&["1", "x"]);
    set.remove(Item::new(b"x"), &hasher());
    assert_eq!(set.view().encoding(), "listpack", "never back");
}

#[test]
fn what_is_expected_decides_as_well() {
    let encoding = |first: &str, expected| {
        let set = Set::expecting(Item::new(first.as_bytes()), expected, &LIMITS);
        set.view().encoding()
    };
    assert_eq!(encoding("1", 8), "intset");
    assert_eq!(encoding("1", 9), "listpack");
    assert_eq!(encoding("x", 10), "listpack");
    assert_eq!(encoding("x", 11), "hashtable");
    let mut set = set_of(&["1", "2"]);
    set.expect_more(8, &LIMITS, &hasher());
    assert_eq!(set.view().encoding(), "intset");
    set.expect_more(9, &LIMITS, &hasher());
    assert_eq!((set.view().encoding(), set.len()), ("hashtable", 2));
}

#[test]
fn small_sets_answer_in_order() {
    assert_eq!(texts(&set_of(&["3", "-1", "2"])), ["-1", "2", "3"]);
    let mut set = set_of(&["c", "a", "7", "b"]);
    assert_eq!(texts(&set), ["c", "a", "7", "b"]);
    assert!(set.remove(Item::new(b"a"), &hasher()));
    assert!(set.add(Item::new(b"a"), &LIMITS, &hasher()));
    assert_eq!(texts(&set), ["c", "7", "b", "a"]);
    let mut seen = Vec::new();
    assert_eq!(set.view().scan(99, 1, |item| seen.push(item.to_vec())), 0);
    assert_eq!(seen.len(), 4, "whole, whatever the cursor and count");
}

/// The same operations in each encoding, which the width of the members and the limits decide.
#[test]
fn it_is_a_set_of_texts() {
    let mut rng = testing::seeded();
    let chance = Rng::seeded(rng.u64(..));
    let hasher = hasher();
    for round in 0..testing::rounds(60) {
        let (mut set, mut model) = (Set::new(), BTreeSet::<Vec<u8>>::new());
        let limits = SetLimits {
            max_intset_entries: [0, 8, 1000][round % 3],
            max_listpack_entries: [1000, 20, 0][round / 3 % 3],
            max_listpack_value: 64,
        };
        let only_ints = rng.bool();
        for _ in 0..500 {
            let text = if only_ints {
                rng.i64(-40..60).to_string().into_bytes()
            } else {
                testing::text(&mut rng, 2)
            };
            let item = Item::new(&text);
            assert_eq!(set.view().contains(item, &hasher), model.contains(&text));
            match rng.u8(..9) {
                0..4 => {
                    let snapshot = set.clone();
                    assert_eq!(set.add(item, &limits, &hasher), model.insert(text.clone()));
                    assert!(snapshot.len() <= set.len());
                }
                4..7 => assert_eq!(set.remove(item, &hasher), model.remove(&text)),
                7 => {
                    let popped = set.pop(&chance, &hasher, |item| {
                        assert!(model.remove(&item.to_vec()), "{item:?}");
                    });
                    assert!(popped || model.is_empty());
                }
                _ => {
                    let count = rng.usize(..4);
                    let left = model.len().saturating_sub(count);
                    set.pop_many(count, &chance, &hasher, |item| {
                        assert!(model.remove(&item.to_vec()), "{item:?}");
                    });
                    assert_eq!(model.len(), left);
                }
            }
            assert_eq!(set.len(), model.len());
        }
        let mut compact = Vec::new();
        let copy = match set.small() {
            Some(Small::Ints(ints)) => {
                ints.write_compact(&mut compact);
                let view = IntSetRef::from_compact(&compact);
                assert!(SetRef::Ints(view).iter().eq(set.view()));
                Set::from(IntSet::from(view))
            }
            Some(Small::Packed(packed)) => {
                let shape = packed.view().write_compact(&mut compact);
                let view = PackedRef::from_compact(&compact, shape);
                assert!(SetRef::Packed(view).iter().eq(set.view()));
                Set::from(Packed::copy_of(view))
            }
            Some(Small::Scored(_)) => panic!("a set has no scores"),
            None => set.clone(),
        };
        assert_eq!(copy.view().encoding(), set.view().encoding());
        assert!(copy.view().iter().eq(set.view()));
        let all: BTreeSet<_> = set.view().iter().map(Item::to_vec).collect();
        assert_eq!(all, model);
        assert_eq!(set.view().iter().len(), model.len());
        assert_eq!(set.view().random(&chance).is_none(), model.is_empty());
        for count in [0, 1, model.len() / 4, model.len() / 2, model.len() + 5] {
            let mut drawn = BTreeSet::new();
            set.view()
                .sample(count, &chance, |item| assert!(drawn.insert(item.to_vec())));
            assert_eq!(drawn.len(), count.min(model.len()));
            assert!(drawn.is_subset(&model));
        }
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            cursor = set
                .view()
                .scan(cursor, 7, |item| _ = seen.insert(item.to_vec()));
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen, model);
    }
}

#[test]
fn operations_on_sets_are_those_of_sets() {
    let mut rng = testing::seeded();
    let hasher = hasher();
    for _ in 0..testing::rounds(40) {
        let mut sets = Vec::new();
        let mut models = Vec::new();
        for _ in 0..rng.usize(1..5) {
            let (mut set, mut model) = (Set::new(), BTreeSet::new());
            let ints = rng.bool();
            // Now and then one that is taken away from, rather than looked through.
            let (adds, numbers) = if rng.u8(..4) == 0 {
                (900, 400)
            } else {
                (60, 30)
            };
            for _ in 0..rng.usize(..adds) {
                let number = rng.u32(..numbers).to_string();
                let text = if ints { number } else { format!("m{number}") };
                set.add(Item::new(text.as_bytes()), &LIMITS, &hasher);
                model.insert(text.into_bytes());
            }
            sets.push(set);
            models.push(model);
        }
        let (first, others) = models.split_first().expect("at least one");
        let in_others =
            |text: &&Vec<u8>| others.iter().filter(|model| model.contains(*text)).count();
        let expected = [
            (
                Operation::Intersection,
                first
                    .iter()
                    .filter(|text| in_others(text) == others.len())
                    .cloned()
                    .collect(),
            ),
            (Operation::Union, models.iter().flatten().cloned().collect()),
            (
                Operation::Difference,
                first
                    .iter()
                    .filter(|text| in_others(text) == 0)
                    .cloned()
                    .collect(),
            ),
        ];
        for (operation, expected) in expected {
            let mut algebra = Algebra::new(operation, sets.iter().map(Set::view).collect());
            let mut result = BTreeSet::<Vec<u8>>::new();
            let mut steps = 0;
            let mut fresh = Set::new();
            while !algebra.step(7, &hasher, |item| {
                assert!(result.insert(item.to_vec()));
                fresh.add(item, &LIMITS, &hasher);
            }) {
                steps += 1;
            }
            assert_eq!(result, expected, "{operation:?}");
            let views: Vec<_> = sets.iter().map(Set::view).collect();
            let mut shown = BTreeSet::new();
            operation.visit(&views, &hasher, |item| assert!(shown.insert(item.to_vec())));
            assert_eq!(shown, expected, "{operation:?}");
            let stored = operation.result(&views, &LIMITS, &hasher);
            assert_eq!(
                stored
                    .view()
                    .iter()
                    .map(Item::to_vec)
                    .collect::<BTreeSet<_>>(),
                expected
            );
            if !expected.is_empty() {
                assert_eq!(
                    stored.view().encoding(),
                    fresh.view().encoding(),
                    "{operation:?}"
                );
            }
            assert!(steps <= models.iter().map(BTreeSet::len).sum::<usize>() / 7 + 1);
        }
    }
}

#[test]
fn a_table_is_freed_in_steps() {
    let mut set = Set::new();
    assert!(set.clone().into_remains().is_none());
    for value in 0..50_000 {
        set.add(Item::Int(value), &LIMITS, &hasher());
    }
    let snapshot = set.clone();
    let mut remains = set.into_remains().expect("a table");
    let mut steps = 0;
    while !remains.free(1000) {
        steps += 1;
    }
    assert!(steps >= 30, "{steps}");
    assert_eq!(
        snapshot.view().iter().count(),
        50_000,
        "a snapshot keeps what it holds"
    );
}
