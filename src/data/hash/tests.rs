//! Encodings and order as in Redis 7.4; random operations against a plain map, in every encoding, with expiries.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::times::Heap;
use super::*;
use crate::data::dense::DIVIDE_LEN;
use crate::data::testing;

const LIMITS: HashLimits = HashLimits {
    max_listpack_entries: 4,
    max_listpack_value: 6,
};
const NOW: Millis = Millis(1_700_000_000_000);

fn hasher() -> KeyHasher {
    KeyHasher::with_key(5, 6)
}

fn set(hash: &mut Hash, field: &str, value: &str) -> bool {
    let (field, value) = (field.as_bytes(), value.as_bytes());
    hash.set(field, value, Expiry::Clear, &LIMITS, &hasher())
}

fn hash_of(fields: &[&str]) -> Hash {
    let mut hash = Hash::new();
    for field in fields {
        assert!(set(&mut hash, field, "v"));
    }
    hash
}

fn expire(hash: &mut Hash, field: &str, in_ms: i64) -> bool {
    hash.set_expiry(field.as_bytes(), Some(NOW.plus(in_ms)), &hasher())
}

fn fields(hash: &Hash) -> Vec<String> {
    let text = |(field, _): (Item<'_>, _)| String::from_utf8(field.to_vec()).expect("ASCII");
    hash.view().iter().map(text).collect()
}

#[test]
fn the_encoding_follows_the_limits() {
    assert!(size_of::<Hash>() <= 32, "{}", size_of::<Hash>());
    let mut hash = hash_of(&["a", "b", "c", "4"]);
    assert_eq!(hash.view().encoding(), "listpack");
    assert_eq!(fields(&hash), ["a", "b", "c", "4"]);
    assert!(!set(&mut hash, "b", "123456"));
    assert_eq!(hash.view().encoding(), "listpack");
    assert_eq!(
        hash.view().get(b"b", NOW, &hasher()),
        Some(Item::Int(123_456))
    );
    let mut long = hash.clone();
    assert!(!set(&mut long, "b", "1234567"));
    assert_eq!(long.view().encoding(), "hashtable", "a long value");
    assert_eq!(
        long.view().get(b"b", NOW, &hasher()),
        Some(Item::Bytes(b"1234567"))
    );
    assert!(set(&mut hash, "e", ""));
    assert_eq!(hash.view().encoding(), "hashtable", "one field more");
    assert_eq!(hash.len(), 5);
    let mut expected = Hash::new();
    expected.expect_more(4, &LIMITS, &hasher());
    assert_eq!(expected.view().encoding(), "listpack");
    expected.expect_more(5, &LIMITS, &hasher());
    assert_eq!(expected.view().encoding(), "hashtable");
}

/// Small hashes without expiries stand in entries in their compact form, and are made from it again.
#[test]
fn the_compact_form_reads_as_the_hash() {
    let mut hash = hash_of(&["a", "7", ""]);
    set(&mut hash, "7", "-12");
    let mut bytes = Vec::new();
    let Some(Small::Packed(pairs)) = hash.small() else {
        panic!("nothing expires");
    };
    let shape = pairs.view().write_compact(&mut bytes);
    let view = HashRef::Packed(PackedRef::from_compact(&bytes, shape));
    assert_eq!((view.len(), view.encoding()), (3, "listpack"));
    assert_eq!(view.get(b"7", NOW, &hasher()), Some(Item::Int(-12)));
    assert_eq!(view.expiry(b"", &hasher()), Some(None));
    assert!(!view.contains(b"b", NOW, &hasher()));
    let again = Hash::from(pairs.clone());
    assert!(again.view().live(NOW, &hasher()).eq(view.iter()));
    expire(&mut hash, "a", 5);
    assert!(hash.small().is_none());
}

/// As redis 7.4 keeps a listpackex: by expiry, and those that do not expire at the end.
#[test]
fn small_hashes_with_expiries_stand_by_expiry() {
    let mut hash = hash_of(&["a", "b", "c", "d"]);
    assert!(!expire(&mut hash, "x", 100));
    assert!(hash.set_expiry(b"a", None, &hasher()));
    assert_eq!(hash.view().encoding(), "listpack", "nothing expires");
    assert!(expire(&mut hash, "c", 300));
    assert_eq!(hash.view().encoding(), "listpackex");
    assert!(expire(&mut hash, "a", 100));
    assert!(expire(&mut hash, "d", 300));
    assert_eq!(fields(&hash), ["a", "d", "c", "b"]);
    assert_eq!(hash.view().next_expiry(), Some(NOW.plus(100)));
    let (field, value) = (&b"a"[..], &b"w"[..]);
    assert!(!hash.set(field, value, Expiry::Keep, &LIMITS, &hasher()));
    assert_eq!(fields(&hash), ["a", "d", "c", "b"]);
    assert_eq!(
        hash.view().expiry(b"a", &hasher()),
        Some(Some(NOW.plus(100)))
    );
    assert!(!set(&mut hash, "a", "v"));
    assert_eq!(fields(&hash), ["d", "c", "b", "a"], "a lost its expiry");
    assert_eq!(hash.view().expiry(b"a", &hasher()), Some(None));
    assert_eq!(hash.view().expiry(b"x", &hasher()), None);
    assert!(hash.set_expiry(b"c", None, &hasher()));
    assert_eq!(fields(&hash), ["d", "b", "a", "c"]);
    // Visible in its last millisecond, gone in the next.
    assert!(hash.view().contains(b"d", NOW.plus(300), &hasher()));
    assert!(!hash.view().contains(b"d", NOW.plus(301), &hasher()));
    let live = hash.view().live(NOW.plus(301), &hasher()).count();
    assert_eq!((live, hash.len()), (3, 4));
    let mut taken = Vec::new();
    let count = hash.take_expired(NOW.plus(301), 10, &hasher(), |field| {
        taken.push(field.to_vec());
    });
    assert_eq!((count, taken), (1, vec![b"d".to_vec()]));
    assert_eq!(
        (hash.view().encoding(), hash.view().next_expiry()),
        ("listpackex", None)
    );
    set(&mut hash, "long field", "v");
    assert_eq!(hash.view().encoding(), "hashtable");
}

/// A long value that came in a buffer of its own is kept in it, and given out in it.
#[test]
fn a_buffer_is_kept() {
    let value = bytes::Bytes::from(vec![b'v'; 5_000]);
    let mut hash = hash_of(&["f", "g"]);
    for field in [&b"f"[..], b"new"] {
        let content = Content::Shared(&value);
        hash.set_content(field, content, Expiry::Clear, &LIMITS, &hasher());
        let shared = hash.view().shared_value(field, NOW, &hasher());
        assert_eq!(shared.expect("it is long").as_ptr(), value.as_ptr());
    }
    assert_eq!(hash.allocated_bytes(), recount(&hash));
    let short = bytes::Bytes::from_static(b"12");
    let mut small = hash_of(&["f"]);
    let content = Content::Shared(&short);
    small.set_content(b"f", content, Expiry::Clear, &LIMITS, &hasher());
    assert_eq!(small.view().encoding(), "listpack");
    assert_eq!(small.view().get(b"f", NOW, &hasher()), Some(Item::Int(12)));
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    value: Vec<u8>,
    expiry: Option<Millis>,
}

type Model = BTreeMap<Vec<u8>, Held>;

fn check(hash: &Hash, model: &Model, hasher: &KeyHasher) {
    assert_eq!(hash.len(), model.len());
    let entries = hash.view().entries(hasher);
    let read: Model = entries
        .map(|(field, value, expiry)| {
            let value = value.to_vec();
            (field.to_vec(), Held { value, expiry })
        })
        .collect();
    assert_eq!(&read, model);
    let next = model.values().filter_map(|held| held.expiry).min();
    assert_eq!(hash.view().next_expiry(), next);
}

/// What a table takes, by adding up all its parts.
fn recount(hash: &Hash) -> usize {
    let Form::Table(table) = &hash.0 else {
        return hash.allocated_bytes();
    };
    let times = table.times.as_ref().map_or(0, |times| {
        let heaps = times.heaps.iter().map(|heap| heap.allocated_bytes());
        good_size(size_of::<Times>())
            + times.expiries.recount().0
            + good_size(times.heaps.capacity() * size_of::<Arc<Heap>>())
            + heaps.sum::<usize>()
    });
    good_size(size_of::<Table>()) + table.fields.recount().0 + times
}

/// The same operations in each encoding, which the limits decide.
#[test]
fn it_is_a_map_of_fields_that_expire() {
    let mut rng = testing::seeded();
    let hasher = hasher();
    for round in 0..testing::rounds(60) {
        let limits = HashLimits {
            max_listpack_entries: [1000, 20, 0][round % 3],
            max_listpack_value: 64,
        };
        let expiring = round % 2 == 0;
        let (mut hash, mut model, mut now) = (Hash::new(), Model::new(), NOW);
        let mut expired = 0;
        for _ in 0..600 {
            let field = testing::text(&mut rng, 2);
            let value = testing::text(&mut rng, [5, 60, 300][round / 3 % 3]);
            let live = model.get(&field).filter(|held| is_live(held.expiry, now));
            assert_eq!(
                hash.view().get(&field, now, &hasher).map(Item::to_vec),
                live.map(|held| held.value.clone())
            );
            let expiry = model.get(&field).map(|held| held.expiry);
            assert_eq!(hash.view().expiry(&field, &hasher), expiry);
            match rng.u8(..8) {
                0..3 => {
                    let keep = rng.bool();
                    let what = if keep { Expiry::Keep } else { Expiry::Clear };
                    let added = hash.set(&field, &value, what, &limits, &hasher);
                    assert_eq!(added, expiry.is_none());
                    let expiry = expiry.flatten().filter(|_| keep);
                    model.insert(field, Held { value, expiry });
                }
                3 => {
                    let removed = hash.remove(&field, &hasher);
                    assert_eq!(removed, model.remove(&field).is_some());
                }
                4..7 if expiring => {
                    // Of what is there, as often as not; few instants, so that several expire at the same.
                    let number = rng.usize(..model.len().max(1));
                    let field = model.keys().nth(number).cloned().unwrap_or(field);
                    let at = (rng.u8(..4) > 0).then(|| now.plus(rng.i64(0..20)));
                    let found = hash.set_expiry(&field, at, &hasher);
                    assert_eq!(found, model.contains_key(&field));
                    model.entry(field).and_modify(|held| held.expiry = at);
                }
                _ => {
                    now = now.plus(rng.i64(0..3));
                    let limit = rng.usize(1..5);
                    let due = model.values().filter(|held| !is_live(held.expiry, now));
                    let due = due.count().min(limit);
                    let taken = hash.take_expired(now, limit, &hasher, |field| {
                        let held = model.remove(&field.to_vec()).expect("it was there");
                        assert!(!is_live(held.expiry, now));
                    });
                    assert_eq!(taken, due);
                    expired += taken;
                }
            }
            assert_eq!(hash.allocated_bytes(), recount(&hash));
            check(&hash, &model, &hasher);
        }
        assert!(!expiring || expired > 0);
        let live: Vec<_> = model
            .iter()
            .filter(|(_, held)| is_live(held.expiry, now))
            .collect();
        let mut scanned = BTreeMap::new();
        let mut cursor = 0;
        loop {
            cursor = hash.view().scan(cursor, 5, now, &hasher, |field, value| {
                scanned.insert(field.to_vec(), value.to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        assert!(
            scanned
                .iter()
                .eq(live.iter().map(|(field, held)| (*field, &held.value)))
        );
        assert_eq!(hash.view().live(now, &hasher).count(), live.len());
    }
}

#[test]
fn samples_are_of_the_hash() {
    let mut rng = testing::seeded();
    let chance = Rng::seeded(rng.u64(..));
    let hasher = hasher();
    for (count, expiring) in [(4, false), (4, true), (300, false), (300, true)] {
        let mut hash = Hash::new();
        let limits = HashLimits {
            max_listpack_entries: 10,
            ..LIMITS
        };
        for number in 0..count {
            let text = number.to_string();
            hash.set(
                text.as_bytes(),
                text.as_bytes(),
                Expiry::Clear,
                &limits,
                &hasher,
            );
            if expiring {
                hash.set_expiry(text.as_bytes(), Some(NOW), &hasher);
            }
        }
        for wanted in [0, 1, 3, count / 2, count - 1, count, count * 2] {
            let mut seen = BTreeMap::new();
            hash.view().sample(wanted, &chance, |field, value| {
                assert_eq!(field.to_vec(), value.to_vec());
                assert_eq!(seen.insert(field.to_vec(), ()), None);
            });
            assert_eq!(seen.len(), wanted.min(count));
        }
        let (field, value) = hash.view().random(&chance).expect("there are some");
        assert_eq!(field.to_vec(), value.to_vec());
    }
    assert!(Hash::new().view().random(&chance).is_none());
}

/// Many fields that expire: heaps are divided, renewed, emptied, and freed in steps.
#[test]
fn many_fields_expire_in_order_of_time() {
    let hasher = hasher();
    let mut hash = Hash::new();
    let count = DIVIDE_LEN as i64 + 3000;
    for number in 0..count {
        let field = number.to_le_bytes();
        hash.set(&field, b"v", Expiry::Clear, &LIMITS, &hasher);
        hash.set_expiry(&field, Some(NOW.plus(number % 5000)), &hasher);
        hash.set_expiry(&field, Some(NOW.plus(number % 1000)), &hasher);
    }
    assert_eq!(hash.allocated_bytes(), recount(&hash));
    let mut copy = hash.clone();
    let mut left = count;
    for at in 1..=1000 {
        assert_eq!(hash.view().next_expiry(), Some(NOW.plus(at - 1)));
        left -= hash.take_expired(NOW.plus(at), usize::MAX, &hasher, |_| {}) as i64;
        assert!(
            hash.view()
                .next_expiry()
                .is_none_or(|next| next >= NOW.plus(at))
        );
    }
    assert_eq!((left, hash.len()), (0, 0));
    assert_eq!(copy.take_expired(NOW.plus(9000), 100, &hasher, |_| {}), 100);
    assert_eq!(copy.allocated_bytes(), recount(&copy));
    let mut remains = copy.into_remains().expect("a table");
    let mut steps = 0;
    while !remains.free(500) {
        steps += 1;
    }
    assert!(steps > 30, "{steps}");
}
