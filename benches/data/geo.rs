//! Searches for places, and HyperLogLogs.
//!
//! The searches do not show what replies cost.

use std::hint::black_box;

use criterion::Criterion;
use quoit::data::geo::{Position, Search, Shape};
use quoit::data::hyperloglog::{Mark, Registers, Sketch, cardinality};
use quoit::data::zset::{AddRules, Limits, ScoreBound, ZSet};

/// A hundred thousand places of ten degrees by ten, and shapes that hold about nine, nine hundred and fourteen thousand.
pub fn searches(c: &mut Criterion) {
    let mut rng = fastrand::Rng::with_seed(3);
    let limits = Limits {
        entries: 128,
        value: 64,
    };
    let mut set = ZSet::new();
    for number in 0..100_000 {
        let place = Position {
            longitude: rng.f64() * 10.0,
            latitude: 40.0 + rng.f64() * 10.0,
        };
        let member = format!("member:{number}");
        set.add(
            member.as_bytes(),
            place.score() as f64,
            AddRules::default(),
            limits,
        );
    }
    let centre = Position {
        longitude: 5.1,
        latitude: 45.1,
    };
    for kilometres in [5.0, 50.0, 200.0] {
        let circle = Shape::Circle { radius: kilometres };
        let rectangle = Shape::Box {
            width: 2.0 * kilometres,
            height: 2.0 * kilometres,
        };
        for (name, shape) in [("circle", circle), ("box", rectangle)] {
            let search = Search {
                centre,
                shape,
                unit: 1000.0,
            };
            c.bench_function(&format!("geo/{name}/{kilometres}km"), |b| {
                b.iter(|| found(&set, black_box(&search)))
            });
        }
    }
}

/// The sum of the distances of what is found.
fn found(set: &ZSet, search: &Search) -> f64 {
    let bound = |score, exclusive| ScoreBound { score, exclusive };
    let (set, reach) = (set.view(), search.reach());
    let ranges = search.ranges().into_iter();
    let ranks =
        ranges.map(|range| set.score_range(bound(range.start, false), bound(range.end, true)));
    ranks
        .flat_map(|ranks| set.range(ranks))
        .filter_map(|(_, score)| reach.distance(Position::of_score(score)))
        .sum()
}

pub fn hyperloglogs(c: &mut Criterion) {
    for elements in [100u32, 1000, 100_000] {
        let mut sketch = Sketch::default();
        for element in 0..elements {
            let raised = sketch.raise(Mark::of(&element.to_le_bytes()), 3000);
            raised.expect("the value is sound");
        }
        let value = sketch.into_bytes();
        c.bench_function(&format!("hyperloglog/count/{elements}"), |b| {
            b.iter(|| cardinality(black_box(&value)))
        });
        c.bench_function(&format!("hyperloglog/merge/{elements}"), |b| {
            let mut registers = Registers::default();
            b.iter(|| registers.merge(black_box(&value)))
        });
        let mut element = elements;
        c.bench_function(&format!("hyperloglog/add/{elements}"), |b| {
            b.iter(|| {
                element = element.wrapping_add(1);
                let mut sketch = Sketch::of(black_box(&value))?;
                sketch.raise(Mark::of(&element.to_le_bytes()), 3000)
            })
        });
    }
}
