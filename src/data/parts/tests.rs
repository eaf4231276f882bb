//! Values cut into parts and put together again are what they were.

use super::*;
use crate::data::list::Limits;
use crate::data::stream::{self, Id, Stream};
use crate::data::testing::{rounds, seeded, text, value_parts};

const NOW: Millis = Millis(1_000_000);

fn hasher() -> KeyHasher {
    KeyHasher::with_key(1, 2)
}

fn rules(hasher: &KeyHasher) -> Rules<'_> {
    Rules {
        list: Limits::from_parameter(-2),
        set: set::SetLimits::default(),
        hash: crate::data::hash::HashLimits::default(),
        zset: zset::Limits {
            entries: 128,
            value: 64,
        },
        hasher,
    }
}

fn moved(whole: &Whole, size: usize, rules: &Rules<'_>) -> Result<Dumped, Malformed> {
    let mut assembler = Assembler::new(whole.kind(), whole.len(), 1 << 20, rules);
    let mut cutter = whole.cut(NOW, rules.hasher);
    loop {
        let part = cutter.next(size);
        if part.is_empty() {
            return assembler.finish(rules);
        }
        assert!(part.len() <= size);
        assembler.add(&part, rules)?;
    }
}

fn parts_of(whole: &Whole, hasher: &KeyHasher) -> Vec<Vec<u8>> {
    match whole {
        Whole::Text(text) => vec![text.to_vec()],
        Whole::Collection(collection) => value_parts(collection.view(), hasher),
    }
}

fn some_value(rng: &mut fastrand::Rng, rules: &Rules<'_>) -> Whole {
    let count = rng.usize(1..400);
    let mut texts: Vec<Vec<u8>> = (0..count).map(|_| text(rng, 100)).collect();
    Whole::Collection(match rng.u8(..6) {
        0 => return Whole::Text(texts.concat().into()),
        1 => {
            let mut list = List::new();
            for text in &texts {
                list.push(End::Tail, list::Text::Copy(text), rules.list);
            }
            Value::List(list)
        }
        2 => {
            let mut set = Set::new();
            for text in &texts {
                set.add(Item::new(text), &rules.set, rules.hasher);
            }
            Value::Set(set)
        }
        3 => {
            let mut zset = ZSet::expecting(1000, rules.zset);
            // One that could be small would become so, and its -0 become 0, as when it is restored.
            texts.push(vec![b'x'; 100]);
            for text in &texts {
                let score = [-0.0, 0.0, f64::INFINITY, rng.f64() * 100.0][rng.usize(..4)];
                zset.add(text, score, AddRules::default(), rules.zset);
            }
            Value::ZSet(zset)
        }
        4 => {
            let mut hash = Hash::new();
            for text in &mut texts {
                let clear = crate::data::hash::Expiry::Clear;
                hash.set(text, b"v", clear, &rules.hash, rules.hasher);
                if rng.bool() {
                    let at = Some(NOW.plus(rng.i64(0..5000)));
                    hash.set_expiry(text, at, rules.hasher);
                }
            }
            Value::Hash(hash)
        }
        _ => {
            let mut stream = Stream::default();
            let limits = stream::Limits {
                max_bytes: 4096,
                max_entries: 100,
            };
            for (at, text) in texts.iter().enumerate() {
                let id = Id {
                    ms: 1 + at as u64,
                    seq: rng.u64(..9),
                };
                let fields = [(&b"f"[..], &text[..])].into_iter();
                let bytes = stream::text_bytes(fields.clone()).expect("short");
                stream.append(id, fields, bytes, limits);
            }
            Value::Stream(Box::new(stream))
        }
    })
}

#[test]
fn a_value_is_put_together_as_it_was_cut() {
    let mut rng = seeded();
    let hasher = hasher();
    let rules = rules(&hasher);
    for _ in 0..rounds(200) {
        let whole = some_value(&mut rng, &rules);
        let size = rng.usize(1..3000);
        let again = match moved(&whole, size, &rules) {
            Ok(Dumped::String(text)) => Whole::Text(text.into()),
            Ok(Dumped::Collection(value)) => Whole::Collection(value),
            Err(Malformed) => panic!("refused: {whole:?} in parts of {size}"),
        };
        assert_eq!(parts_of(&again, &hasher), parts_of(&whole, &hasher));
    }
}

#[test]
fn expired_fields_stay_behind() {
    let hasher = hasher();
    let rules = rules(&hasher);
    let mut hash = Hash::new();
    for field in [&b"gone"[..], b"stays"] {
        let clear = crate::data::hash::Expiry::Clear;
        hash.set(field, b"v", clear, &rules.hash, &hasher);
    }
    hash.set_expiry(b"gone", Some(NOW.plus(-1)), &hasher);
    let moved = moved(&Whole::Collection(hash.into()), 10, &rules);
    let Ok(Dumped::Collection(Value::Hash(hash))) = moved else {
        panic!("a hash")
    };
    assert_eq!(hash.len(), 1);
    assert!(hash.view().contains(b"stays", NOW, &hasher));
}

#[test]
fn what_is_no_value_is_refused() {
    let hasher = hasher();
    let rules = rules(&hasher);
    let refused = |kind, bytes: &[u8]| {
        let mut assembler = Assembler::new(kind, 3, 100, &rules);
        match assembler.add(bytes, &rules) {
            Ok(()) => assembler.finish(&rules).is_err(),
            Err(Malformed) => true,
        }
    };
    let text = |text: &[u8]| [&(text.len() as u32).to_le_bytes()[..], text].concat();
    let (a, nan, one) = (text(b"a"), f64::NAN.to_le_bytes(), 1f64.to_le_bytes());
    assert!(!refused(Type::List, &a));
    assert!(!refused(Type::Set, &a));
    assert!(refused(Type::Set, &[&a[..], &a].concat()), "twice");
    assert!(!refused(Type::ZSet, &[&one[..], &a].concat()));
    assert!(refused(Type::ZSet, &[&nan[..], &a].concat()));
    assert!(refused(Type::ZSet, &[&one[..], &a, &one, &a].concat()));
    let none = NO_EXPIRY.to_le_bytes();
    assert!(!refused(Type::Hash, &[&none[..], &a, &a].concat()));
    assert!(refused(Type::Hash, &[&none[..], &a].concat()));
    for kind in [Type::List, Type::Set, Type::ZSet, Type::Hash, Type::Stream] {
        assert!(refused(kind, b""), "nothing: {kind:?}");
        assert!(refused(kind, &[255; 12]), "a length that lies: {kind:?}");
    }
    assert!(refused(Type::List, &[&a[..], &[1]].concat()), "left over");
    // Longer than a text may be.
    assert!(refused(Type::String, &[b'x'; 101]));
    assert!(!refused(Type::String, &[b'x'; 100]));
    let long = [&1000u32.to_le_bytes()[..], &[b'x'; 300]].concat();
    assert!(refused(Type::List, &long));
}
