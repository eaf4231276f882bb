//! Numbers, patterns, compact sequences, hashes and sets.
//!
//! They do not show what a mix of inputs costs in mispredicted branches: every bench of numbers and patterns repeats one
//! input. Nor what memory does that other work has taken out of the caches: a collection here is the only one there is.

#[path = "data/geo.rs"]
mod geo;
#[path = "data/ordered.rs"]
mod ordered;
#[path = "data/streams.rs"]
mod streams;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quoit::base::clock::Millis;
use quoit::base::hash::KeyHasher;
use quoit::base::rng::Rng;
use quoit::data::glob::glob_match;
use quoit::data::hash::{Expiry, Hash, HashLimits};
use quoit::data::number::{LongDouble, format_f64, parse_f64, parse_i64};
use quoit::data::packed::{Item, Packed, PackedRef};
use quoit::data::set::{Algebra, Operation, Set, SetLimits};

fn numbers(c: &mut Criterion) {
    for text in ["7", "12345", "-9223372036854775808"] {
        c.bench_function(&format!("number/parse_i64/{}", text.len()), |b| {
            b.iter(|| parse_i64(black_box(text.as_bytes())))
        });
    }
    for text in ["3", "3.14159", "2.2250738585072014e-308"] {
        c.bench_function(&format!("number/parse_f64/{}", text.len()), |b| {
            b.iter(|| parse_f64(black_box(text.as_bytes())))
        });
    }
    for (name, value) in [("integer", 42.0), ("short", 0.1), ("long", 1.0 / 3.0)] {
        c.bench_function(&format!("number/format_f64/{name}"), |b| {
            b.iter(|| format_f64(black_box(value)))
        });
    }
    c.bench_function("number/incrbyfloat/short", |b| {
        b.iter(|| {
            let old = LongDouble::parse(black_box(b"10.5"))?;
            let by = LongDouble::parse(black_box(b"0.1"))?;
            Some(old.add(by).format())
        })
    });
}

fn globs(c: &mut Criterion) {
    let long = "a".repeat(1000);
    let cases = [
        ("prefix", "user:*", "user:1234567"),
        ("middle", "user:*:name", "user:1234567:name"),
        ("class", "user:[0-9]*", "user:1234567"),
        ("hostile", "*a*a*a*a*a*a*ab", &long),
    ];
    for (name, pattern, text) in cases {
        c.bench_function(&format!("glob/{name}/{}", text.len()), |b| {
            b.iter(|| {
                glob_match(
                    black_box(pattern.as_bytes()),
                    black_box(text.as_bytes()),
                    false,
                )
            })
        });
    }
}

fn packed(c: &mut Criterion) {
    for count in [8, 128] {
        let members: Vec<_> = (0..count).map(|n| format!("member:{n:03}")).collect();
        let mut packed = Packed::new();
        for member in &members {
            packed.push_back(member.as_bytes());
        }
        let absent = b"member:999";
        c.bench_function(&format!("packed/find_absent/{count}"), |b| {
            b.iter(|| packed.view().find(black_box(&absent[..]), 1))
        });
        let mut compact = Vec::new();
        let shape = packed.view().write_compact(&mut compact);
        c.bench_function(&format!("packed/find_absent_compact/{count}"), |b| {
            b.iter(|| PackedRef::from_compact(black_box(&compact), shape).find(&absent[..], 1))
        });
        c.bench_function(&format!("packed/get_middle/{count}"), |b| {
            b.iter(|| packed.get(black_box(count / 2)))
        });
        c.bench_function(&format!("packed/push_and_remove_front/{count}"), |b| {
            b.iter(|| {
                packed.push_front(black_box(&absent[..]));
                packed.remove(0..1);
            })
        });
        c.bench_function(&format!("packed/push_and_remove_back/{count}"), |b| {
            b.iter(|| {
                packed.push_back(black_box(&absent[..]));
                packed.remove(count..count + 1);
            })
        });
    }
}

fn member(number: u64) -> String {
    // Spread, so that what is inserted one after another does not stand together.
    format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn set_of(numbers: std::ops::Range<u64>, hasher: &KeyHasher) -> Set {
    let mut set = Set::new();
    for number in numbers {
        let member = member(number);
        set.add(Item::new(member.as_bytes()), &SetLimits::default(), hasher);
    }
    set
}

fn sets(c: &mut Criterion) {
    let hasher = KeyHasher::with_key(1, 2);
    let (limits, rng) = (SetLimits::default(), Rng::seeded(3));
    for count in [8, 100, 10_000, 1_000_000] {
        let mut set = set_of(0..count, &hasher);
        let members: Vec<_> = (0..1024).map(|n| member(n * 977 % count)).collect();
        let absent: Vec<_> = (0..1024).map(|n| member(count + n)).collect();
        let mut turn = 0;
        let mut next = || {
            turn = (turn + 1) % 1024;
            turn
        };
        c.bench_function(&format!("set/contains/{count}"), |b| {
            b.iter(|| {
                set.view()
                    .contains(Item::new(members[next()].as_bytes()), &hasher)
            })
        });
        c.bench_function(&format!("set/add_and_remove/{count}"), |b| {
            b.iter(|| {
                let member = Item::new(absent[next()].as_bytes());
                set.add(member, &limits, &hasher) && set.remove(member, &hasher)
            })
        });
        c.bench_function(&format!("set/random/{count}"), |b| {
            b.iter(|| set.view().random(&rng).map(Item::text_len))
        });
        c.bench_function(&format!("set/iterate/{count}"), |b| {
            b.iter(|| set.view().iter().map(Item::text_len).sum::<usize>())
        });
        c.bench_function(&format!("set/snapshot/{count}"), |b| b.iter(|| set.clone()));
    }
    c.bench_function("set/fill/100000", |b| {
        b.iter(|| set_of(0..100_000, &hasher).len())
    });
    let (left, right) = (
        set_of(0..100_000, &hasher),
        set_of(50_000..150_000, &hasher),
    );
    for operation in [
        Operation::Intersection,
        Operation::Union,
        Operation::Difference,
    ] {
        c.bench_function(&format!("set/{operation:?}/2x100000"), |b| {
            b.iter(|| {
                let mut bytes = 0;
                Algebra::new(operation, vec![left.view(), right.view()]).step(
                    usize::MAX,
                    &hasher,
                    |member| {
                        bytes += member.text_len();
                    },
                );
                bytes
            })
        });
    }
}

fn hashes(c: &mut Criterion) {
    let hasher = KeyHasher::with_key(1, 2);
    let (limits, now) = (HashLimits::default(), Millis(1_700_000_000_000));
    for count in [8, 100, 1_000_000] {
        let mut hash = Hash::new();
        for number in 0..count {
            let field = member(number);
            hash.set(
                field.as_bytes(),
                b"12345678",
                Expiry::Clear,
                &limits,
                &hasher,
            );
        }
        let fields: Vec<_> = (0..1024).map(|n| member(n * 977 % count)).collect();
        let mut turn = 0;
        let mut next = || {
            turn = (turn + 1) % 1024;
            turn
        };
        c.bench_function(&format!("hash/get/{count}"), |b| {
            b.iter(|| {
                hash.view()
                    .get(fields[next()].as_bytes(), now, &hasher)
                    .is_some()
            })
        });
        c.bench_function(&format!("hash/set_same_length/{count}"), |b| {
            b.iter(|| {
                let field = fields[next()].as_bytes();
                hash.set(
                    field,
                    black_box(b"87654321"),
                    Expiry::Clear,
                    &limits,
                    &hasher,
                )
            })
        });
        c.bench_function(&format!("hash/set_expiry/{count}"), |b| {
            let mut copy = hash.clone();
            b.iter(|| {
                let place = next();
                let at = now.plus(place as i64 * 7 % 1000);
                copy.set_expiry(fields[place].as_bytes(), Some(at), &hasher)
            })
        });
    }
}

criterion_group!(
    benches,
    numbers,
    globs,
    geo::searches,
    geo::hyperloglogs,
    packed,
    sets,
    hashes,
    ordered::zsets,
    ordered::lists,
    streams::streams
);
criterion_main!(benches);
