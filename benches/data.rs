//! Numbers and patterns.
//!
//! They do not show what a mix of inputs costs in mispredicted branches: every bench repeats one input.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quoit::data::glob::glob_match;
use quoit::data::number::{LongDouble, format_f64, parse_f64, parse_i64};

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

criterion_group!(benches, numbers, globs);
criterion_main!(benches);
