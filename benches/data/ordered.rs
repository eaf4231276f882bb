//! Lists and sorted sets.
//!
//! Those of sorted sets take members at random, so that they meet the memory as a server does; they do not show the parser,
//! the reply and the lookup of the key. The bytes of large collections are printed, not measured.

use std::hint::black_box;

use criterion::Criterion;
use quoit::data::list::{self, End, List};
use quoit::data::zset::{self, AddRules, Extreme, ScoreBound, ZSet};

const ZSET_LIMITS: zset::Limits = zset::Limits {
    entries: 128,
    value: 64,
};

fn member(number: u32, length: usize) -> Vec<u8> {
    format!("{number:0length$}").into_bytes()
}

fn zset_of(count: u32, length: usize, rng: &mut fastrand::Rng) -> ZSet {
    let mut set = ZSet::new();
    for number in 0..count {
        let score = rng.f64() * 1e6;
        set.add(
            &member(number, length),
            score,
            AddRules::default(),
            ZSET_LIMITS,
        );
    }
    set
}

pub fn zsets(c: &mut Criterion) {
    let mut rng = fastrand::Rng::with_seed(1);
    for length in [8, 12, 16, 36] {
        let bytes = zset_of(1_000_000, length, &mut rng).allocated_bytes();
        println!("zset/bytes_per_member/{length}: {:.1}", bytes as f64 / 1e6);
    }
    for count in [100, 1_000, 1_000_000] {
        let mut set = zset_of(count, 12, &mut rng);
        let texts: Vec<Vec<u8>> = (0..count).map(|number| member(number, 12)).collect();
        let mut picks = fastrand::Rng::with_seed(2);
        let mut pick = || &texts[picks.usize(..texts.len())];
        c.bench_function(&format!("zset/score/{count}"), |b| {
            b.iter(|| set.view().score(pick()))
        });
        c.bench_function(&format!("zset/rank/{count}"), |b| {
            b.iter(|| set.view().rank(pick()))
        });
        c.bench_function(&format!("zset/score_range_of_100/{count}"), |b| {
            b.iter(|| {
                let bound = |score| ScoreBound {
                    score,
                    exclusive: false,
                };
                let min = rng.f64() * 1e6;
                let width = 1e8 / f64::from(count);
                let ranks = set.view().score_range(bound(min), bound(min + width));
                let held = set.view().range(ranks);
                held.map(|(member, score)| member.text_len() as f64 + score)
                    .sum::<f64>()
            })
        });
        c.bench_function(&format!("zset/update/{count}"), |b| {
            b.iter(|| set.add(pick(), rng.f64() * 1e6, AddRules::default(), ZSET_LIMITS))
        });
        c.bench_function(&format!("zset/pop_min_and_add/{count}"), |b| {
            b.iter(|| {
                let mut first = Vec::new();
                set.pop(Extreme::Min, 1, |member, _| first = member.to_vec());
                set.add(&first, rng.f64() * 1e6, AddRules::default(), ZSET_LIMITS)
            })
        });
    }
    c.bench_function("zset/add/1000000", |b| {
        let mut set = ZSet::new();
        let mut number = 0;
        b.iter(|| {
            if number == 1_000_000 {
                set = ZSet::new();
                number = 0;
            }
            number += 1;
            set.add(
                &member(number, 12),
                rng.f64(),
                AddRules::default(),
                ZSET_LIMITS,
            )
        })
    });
}

pub fn lists(c: &mut Criterion) {
    let limits = list::Limits::from_parameter(-2);
    for length in [8, 64] {
        let text = vec![b'x'; length];
        let mut list = List::new();
        for _ in 0..1_000_000 {
            list.push(End::Head, text.as_slice(), limits);
        }
        let bytes = list.allocated_bytes() as f64 / 1e6;
        println!("list/bytes_per_element/{length}: {bytes:.1}");
        c.bench_function(&format!("list/push_and_pop/{length}"), |b| {
            b.iter(|| {
                list.push(End::Head, black_box(text.as_slice()), limits);
                list.pop(End::Tail, limits);
            })
        });
        c.bench_function(&format!("list/range_of_100/{length}"), |b| {
            b.iter(|| {
                let held = list.view().range(black_box(0)..100);
                let mut buffer = itoa::Buffer::new();
                held.map(|element| element.text(&mut buffer).len())
                    .sum::<usize>()
            })
        });
        c.bench_function(&format!("list/index_of_the_middle/{length}"), |b| {
            b.iter(|| list.view().get(black_box(500_000)).is_some())
        });
        let mut small = List::new();
        c.bench_function(&format!("list/push_and_pop_small/{length}"), |b| {
            b.iter(|| {
                small.push(End::Head, black_box(text.as_slice()), limits);
                small.push(End::Head, black_box(text.as_slice()), limits);
                small.pop(End::Tail, limits);
                small.pop(End::Tail, limits);
            })
        });
    }
}
