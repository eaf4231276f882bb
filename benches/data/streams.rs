//! Streams: what one entry costs to add, to find, to read and to trim.
//!
//! They do not show the parser, the reply and the lookup of the key. The bytes of large streams are printed, not measured.

use std::hint::black_box;

use criterion::Criterion;
use quoit::data::remains::Remains;
use quoit::data::stream::{Bound, Id, Limits, Pending, References, Stream, Trim};

const LIMITS: Limits = Limits {
    max_bytes: 4096,
    max_entries: 100,
};

fn add(stream: &mut Stream, number: u64, value: &[u8]) {
    let id = Id::new(1_700_000_000_000 + number / 4, number % 4);
    let fields = [(&b"field"[..], value)];
    assert!(stream.append(id, fields.into_iter(), 5 + value.len(), LIMITS));
}

fn stream_of(count: u64, length: usize) -> Stream {
    let mut stream = Stream::new();
    let value = vec![b'x'; length];
    for number in 0..count {
        add(&mut stream, number, &value);
    }
    stream
}

pub fn streams(c: &mut Criterion) {
    for length in [8, 64] {
        let value = vec![b'x'; length];
        let mut stream = stream_of(1_000_000, length);
        let bytes = stream.allocated_bytes() as f64 / 1e6;
        println!("stream/bytes_per_entry/{length}: {bytes:.1}");
        let mut number = 1_000_000;
        c.bench_function(&format!("stream/append_and_trim/{length}"), |b| {
            b.iter(|| {
                add(&mut stream, number, black_box(&value));
                number += 1;
                let trim = Trim {
                    bound: Bound::MaxLen(1_000_000),
                    approximate: true,
                    limit: 10_000,
                    references: References::Keep,
                };
                stream.trim(trim, &mut Remains::default())
            })
        });
        let mut rng = fastrand::Rng::with_seed(1);
        c.bench_function(&format!("stream/get/{length}"), |b| {
            b.iter(|| {
                let number = number - 1 - rng.u64(..900_000);
                stream
                    .get(Id::new(1_700_000_000_000 + number / 4, number % 4))
                    .is_some()
            })
        });
        c.bench_function(&format!("stream/range_of_100/{length}"), |b| {
            b.iter(|| {
                let start = Id::new(1_700_000_000_000 + (number - rng.u64(..900_000)) / 4, 0);
                let entries = stream.range(start, Id::MAX).take(100);
                let mut buffer = itoa::Buffer::new();
                let mut length = 0;
                for entry in entries {
                    for (name, value) in entry.fields() {
                        length += name.text(&mut buffer).len() + value.text(&mut buffer).len();
                    }
                }
                length
            })
        });
        c.bench_function(&format!("stream/last/{length}"), |b| {
            b.iter(|| stream.last().map(|entry| entry.id))
        });
    }
    let mut stream = Stream::new();
    stream.create_group(b"group", Id::ZERO, Some(0));
    let mut next = 0;
    let deliver = |stream: &mut Stream, number: u64| {
        stream.edit_group(b"group", |group| {
            let consumer = group
                .find(b"consumer")
                .unwrap_or_else(|| group.add_consumer(b"consumer", 0));
            group.assign(Pending {
                id: Id::new(number, 0),
                delivered_at: 0,
                count: 1,
                consumer,
            });
        })
    };
    while next < 100_000 {
        deliver(&mut stream, next);
        next += 1;
    }
    let bytes = stream.allocated_bytes() as f64 / 1e5;
    println!("stream/bytes_per_pending: {bytes:.1}");
    c.bench_function("stream/deliver_and_acknowledge/100000", |b| {
        b.iter(|| {
            deliver(&mut stream, next);
            next += 1;
            stream.edit_group(b"group", |group| {
                group.acknowledge(Id::new(next - 100_000, 0))
            })
        })
    });
}
