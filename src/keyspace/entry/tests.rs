//! Layouts, and random changes against plain models.

use super::*;
use crate::base::hash::KeyHasher;
use crate::data::hash::{Expiry, Hash, HashLimits};
use crate::data::list::{End, List};
use crate::data::packed::Item;
use crate::data::set::{Set, SetLimits};
use crate::data::value::Collection;
use crate::data::zset::{self, AddRules, ZSet};

/// The epoch of near expiries: that of the test which was the first to need one.
pub(super) fn epoch() -> Millis {
    count_from(Millis(1_700_000_000_000));
    near::epoch()
}

const DAY: i64 = 86_400_000;

/// No expiry, one that needs no word for some lengths or for all, one that does.
fn random_expiry(rng: &mut fastrand::Rng) -> Option<Millis> {
    match rng.u8(0..4) {
        0 => None,
        1 => Some(epoch().plus(rng.i64(0..49 * DAY))),
        2 => Some(epoch().plus(rng.i64(0..397 * DAY))),
        _ => Some(Millis(rng.i64(0..1 << 40))),
    }
}

/// What the figures of memory with a TTL are made of.
#[test]
fn a_near_expiry_takes_no_memory() {
    let key = b"key:000000000001";
    let near = epoch().plus(100_000_123);
    let far = epoch().plus(1000 * DAY);
    for (length, plain, with_word) in [(8, 32, 40), (64, 88, 96), (512, 544, 544)] {
        let value = vec![7; length];
        let mut entry = Entry::new(key, NewValue::Copy(&value), Some(near), false);
        assert_eq!(entry.allocated_bytes(), plain, "{length}");
        let place = entry.address();
        for expiry in [None, Some(near), Some(near.plus(1)), None, Some(near)] {
            entry.set_expiry(expiry);
            assert_eq!((entry.expiry(), entry.bytes()), (expiry, &value[..]));
            assert_eq!(entry.is_volatile(), expiry.is_some());
        }
        assert_eq!(entry.address(), place, "all of it in place");
        entry.set_value(NewValue::Copy(&value), true);
        assert!(entry.is_raw() && entry.expiry() == Some(near));
        entry.set_expiry(Some(far));
        assert_eq!(entry.allocated_bytes(), with_word, "{length}");
        assert_eq!((entry.expiry(), entry.bytes()), (Some(far), &value[..]));
        entry.set_expiry(None);
        assert_eq!(entry.allocated_bytes(), plain, "{length}");
    }
}

#[test]
fn a_small_entry_is_one_allocation_of_header_key_and_value() {
    let entry = Entry::new(
        b"key:000000000001",
        NewValue::Copy(b"12345678"),
        None,
        false,
    );
    assert_eq!(entry.allocated_bytes(), 32);
    assert_eq!(entry.key(), b"key:000000000001");
    assert_eq!(entry.bytes(), b"12345678");
    assert_eq!(entry.expiry(), None);
    assert_eq!(entry.tag(), 0);
}

#[test]
fn a_value_of_1024_bytes_is_boxed_because_the_classes_make_it_smaller() {
    let entry = Entry::new(b"key:000000000001", NewValue::Copy(&[7; 1024]), None, false);
    assert_eq!(entry.allocated_bytes(), 32 + 1024);
    assert_eq!(entry.bytes(), &[7; 1024]);
}

/// Found by review: a value that APPEND made longer took up to twice what maxmemory counted for it.
#[test]
fn a_growing_value_has_the_room_of_its_size_class() {
    let mut bytes = Bytes::from(vec![1; SHARED_MIN]);
    for step in [1, 1000, 1, 50_000, 7, 300_000] {
        let length = bytes.len() + step;
        bytes = grown(bytes, length);
        assert_eq!(bytes.len(), length);
        let unique = bytes.try_into_mut().expect("nobody else holds it");
        assert_eq!(unique.capacity(), good_size(length));
        bytes = unique.freeze();
    }
}

/// Random changes against a plain model: value, expiry, length, key, access clock.
#[test]
fn random_changes_agree_with_a_model() {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let lengths = [
        0,
        1,
        7,
        8,
        9,
        40,
        100,
        127,
        128,
        257,
        300,
        512,
        600,
        1023,
        1024,
        4096,
        SHARED_MIN - 1,
        SHARED_MIN,
        SHARED_MIN + 5,
    ];
    let rounds = if cfg!(miri) { 20 } else { 500 };
    for _ in 0..rounds {
        let mut key = vec![
            rng.u8(..);
            rng.choice([0, 1, 16, 63, 64, 300, KEY_MAX, KEY_MAX + 1])
                .unwrap_or(3)
        ];
        let mut value = vec![rng.u8(..); rng.choice(lengths).unwrap_or(0)];
        let mut expiry = random_expiry(&mut rng);
        let mut entry = Entry::new(&key, NewValue::Copy(&value), expiry, false);
        let clock = rng.u32(0..1 << 24);
        entry.set_access(clock);
        for _ in 0..8 {
            match rng.u8(0..5) {
                0 => {
                    value = vec![rng.u8(..); rng.choice(lengths).unwrap_or(0)];
                    let new = NewValue::Shared(Bytes::from(value.clone()));
                    entry.set_value(
                        if rng.bool() {
                            new
                        } else {
                            NewValue::Copy(&value)
                        },
                        false,
                    );
                }
                1 => {
                    expiry = random_expiry(&mut rng);
                    entry.set_expiry(expiry);
                }
                2 => {
                    let held = entry.shared().cloned();
                    let before = held.clone().map(|held| held.to_vec());
                    let length = rng.choice(lengths).unwrap_or(0);
                    value.resize(value.len().max(length), 0);
                    entry.edit(length, |bytes| {
                        if let (Some(last), Some(mine)) = (bytes.last_mut(), value.last_mut()) {
                            *last = 9;
                            *mine = 9;
                        }
                    });
                    assert_eq!(
                        held.map(|held| held.to_vec()),
                        before,
                        "a held reply does not change"
                    );
                    assert!(entry.is_raw());
                }
                3 => {
                    key = vec![rng.u8(..); rng.choice([0, 5, 63, KEY_MAX + 2]).unwrap_or(3)];
                    entry = entry.renamed(&key, expiry);
                }
                _ => drop(entry.shared().cloned()),
            }
            assert_eq!(entry.key(), key);
            assert_eq!(entry.bytes(), value);
            assert_eq!(entry.expiry(), expiry);
            assert_eq!(entry.tag(), expiry.map_or(0, expiry_tag));
            assert_eq!(entry.access(), clock);
        }
    }
}

/// A list or set of the model's elements, as long as it is: packed behind its key, then in a box, and back.
#[test]
fn collections_change_their_form_with_their_size() {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let limits = crate::data::list::Limits::from_parameter(-2);
    let rounds = if cfg!(miri) { 3 } else { 100 };
    for _ in 0..rounds {
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut key = vec![7; rng.usize(0..40)];
        let mut expiry = None;
        let mut entry = Entry::collection(&key, List::new().into(), None);
        let clock = rng.u32(0..1 << 24);
        entry.set_access(clock);
        let mut snapshots = Vec::new();
        for _ in 0..rng.usize(1..120) {
            match rng.u8(0..12) {
                0 => {
                    key = vec![rng.u8(..); rng.usize(0..40)];
                    entry = entry.renamed(&key, expiry);
                }
                1 => {
                    expiry = random_expiry(&mut rng);
                    entry.set_expiry(expiry);
                }
                2 => {
                    let value = entry.snapshot().expect("a list");
                    snapshots.push((value, model.clone()));
                }
                3 => {
                    entry = {
                        let copy = entry.copied(&key, expiry);
                        copy.set_access(clock);
                        copy
                    }
                }
                4..=7 if !model.is_empty() => {
                    let count = rng.usize(0..=model.len());
                    model.drain(..count);
                    entry.edit_collection(|value| {
                        let list = List::of(value).expect("a list");
                        list.remove_range(0..count, limits);
                    });
                }
                _ => {
                    let element = vec![rng.u8(..); rng.usize(0..60)];
                    entry.edit_collection(|value| {
                        let list = List::of(value).expect("a list");
                        list.push(End::Tail, &element[..], limits);
                    });
                    model.push(element);
                }
            }
            assert_eq!(entry.kind(), Type::List);
            assert_eq!(entry.key(), key);
            assert_eq!(entry.expiry(), expiry);
            assert_eq!(entry.access(), clock);
            assert_eq!(elements(entry.value()), model);
            assert!(!entry.is_raw());
        }
        for (value, model) in snapshots {
            assert_eq!(elements(value.view()), model);
        }
        let is_large = entry.bytes().is_empty();
        let garbage = entry.set_value(NewValue::Copy(b"a string"), false);
        assert!(garbage.is_none() || is_large);
        assert_eq!(
            (entry.kind(), entry.bytes()),
            (Type::String, &b"a string"[..])
        );
        assert_eq!(entry.access(), clock);
    }
}

fn elements(value: ValueRef<'_>) -> Vec<Vec<u8>> {
    let ValueRef::List(list) = value else {
        panic!("a list");
    };
    let all = list.range(0..list.len());
    all.map(|element| element.to_vec()).collect()
}

/// Eight members of eight bytes behind a key of sixteen: the figures of the README.
#[test]
fn small_collections_take_the_class_that_they_should() {
    let hasher = KeyHasher::with_key(1, 2);
    let key = b"key:000000000001";
    let members: Vec<_> = (0..8).map(|number| format!("{number}abcdefg")).collect();
    let (mut hash, mut zset) = (Hash::new(), ZSet::new());
    let (mut set, mut list) = (Set::new(), List::new());
    for (number, member) in members.iter().enumerate() {
        let (field, member) = (format!("f{number}"), member.as_bytes());
        hash.set(
            field.as_bytes(),
            member,
            Expiry::Clear,
            &HashLimits::default(),
            &hasher,
        );
        let limits = zset::Limits {
            entries: 128,
            value: 64,
        };
        let score = 6_999_993.0 + number as f64;
        zset.add(member, score, AddRules::default(), limits);
        set.add(Item::new(member), &SetLimits::default(), &hasher);
        list.push(
            End::Tail,
            member,
            crate::data::list::Limits::from_parameter(-2),
        );
    }
    let values = [Value::from(hash), zset.into(), set.into(), list.into()];
    let taken = values.map(|value| Entry::collection(key, value, None).allocated_bytes());
    assert_eq!(taken, [112, 112, 96, 96]);
    assert_eq!(size_of::<Value>(), 40);
}

/// A set of integers keeps its form through the compact one, and becomes texts when one comes.
#[test]
fn a_set_of_integers_is_packed_as_such() {
    let hasher = KeyHasher::with_key(1, 2);
    let limits = SetLimits::default();
    let mut entry = Entry::collection(b"k", Set::new().into(), None);
    let add = |entry: &mut Entry, member: &[u8]| {
        entry.edit_collection(|value| {
            let set = Set::of(value).expect("a set");
            set.add(Item::new(member), &limits, &hasher)
        })
    };
    for number in 0..20 {
        assert_eq!(add(&mut entry, number.to_string().as_bytes()), Some(true));
        assert_eq!(entry.value().encoding(), Some("intset"));
    }
    assert_eq!(add(&mut entry, b"7"), Some(false));
    assert_eq!(entry.allocated_bytes(), 56, "20 integers of two bytes");
    assert_eq!(add(&mut entry, b"seven"), Some(true));
    assert_eq!(entry.value().encoding(), Some("listpack"));
    assert_eq!(entry.value().len(), 21);
    let string = Entry::new(b"k", NewValue::Copy(b"1"), None, true);
    assert!(string.is_raw() && string.snapshot().is_none());
}
