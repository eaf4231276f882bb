//! HyperLogLog against redis-server 7.0.15's values, a naive model, and made-up strings.

use super::*;
use crate::base::rng::Rng;
use crate::data::string::digest;

const SPARSE_MAX: usize = 3000;

fn seed() -> u64 {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("seed {seed}");
    seed
}

/// A value to which the numbers up to `count` were added.
fn numbers(count: u32) -> Sketch {
    let mut sketch = Sketch::default();
    for number in 0..count {
        let mark = Mark::of(number.to_string().as_bytes());
        sketch.raise(mark, SPARSE_MAX).expect("it is sound");
    }
    sketch
}

fn header(encoding: u8) -> Vec<u8> {
    [
        b"HYLL",
        &[encoding, 0, 0, 0][..],
        &[0, 0, 0, 0, 0, 0, 0, STALE],
    ]
    .concat()
}

fn sparse(runs: &[u8]) -> Vec<u8> {
    [&header(SPARSE), runs].concat()
}

/// Values of redis-server 7.0.15 after `PFADD k 0 1 2 ..`, to the byte, and its estimates.
#[test]
fn values_are_those_of_redis() {
    let ten = sparse(
        b"\x41\xee\x84\x48\x23\x80\x53\x51\x80\x4c\xe0\x80\x40\x92\x80\x48\xca\x8c\x43\x73\x80\x42\xd7\x80\x42\x12\
          \x8c\x40\xcf\x84\x43\x22",
    );
    assert_eq!(numbers(10).into_bytes(), ten);
    assert_eq!(cardinality(&ten), Ok(10));
    for (count, estimate, length, expected) in [
        (500, 503, 1061, b"f92f7df747bde669"),
        (2000, 2007, DENSE_BYTES, b"fccdad8f88877dfc"),
        (100_000, 99_565, DENSE_BYTES, b"b851f4db34c9ece4"),
    ] {
        let mut value = numbers(count).into_bytes();
        assert_eq!(cardinality(&value), Ok(estimate), "{count}");
        assert_eq!(value.len(), length, "{count}");
        // The digests were taken of values that had been counted.
        cache_cardinality(&mut value, estimate);
        assert_eq!(cached_cardinality(&value), Some(estimate));
        let counted = match count {
            500 => b"664c8e2909f1e806",
            2000 => b"d450689a9bf1a304",
            _ => b"eafd18a9dc5f55de",
        };
        assert_eq!(&digest(&value), counted, "{count}");
        mark_stale(&mut value);
        let mut zeroed = value.clone();
        zeroed[CARDINALITY_AT..HEADER_BYTES].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, STALE]);
        assert_eq!(&digest(&zeroed), expected, "{count}");
    }
}

/// A sparse value is dense once it would be longer than allowed, or a register does not fit a run.
#[test]
fn a_value_becomes_dense() {
    let mut sketch = Sketch::default();
    let mark = |index, count| Mark { index, count };
    assert_eq!(sketch.raise(mark(100, 3), 23), Ok(true));
    assert_eq!(sketch.bytes.len(), 21);
    assert_eq!(sketch.raise(mark(200, 3), 23), Ok(true));
    assert_eq!(sketch.bytes.len(), DENSE_BYTES);
    assert_eq!(dense_register(&sketch.bytes, 200), 3);

    let mut sketch = Sketch::default();
    assert_eq!(sketch.raise(mark(7, 32), 100), Ok(true));
    assert_eq!(Encoding::of(&sketch.bytes), Some(Encoding::Sparse));
    assert_eq!(sketch.raise(mark(7, 33), 100), Ok(true));
    assert_eq!(Encoding::of(&sketch.bytes), Some(Encoding::Dense));
    assert_eq!(sketch.raise(mark(7, 33), 100), Ok(false));
}

/// Registers raised in any order: the same registers as a plain table of them has, in both encodings, and runs that are sound.
#[test]
fn registers_against_a_table() {
    let mut rng = fastrand::Rng::with_seed(seed());
    for round in 0..60 {
        let mut table = vec![0u8; REGISTERS];
        let mut sketch = Sketch::default();
        let spread = [8, 300, REGISTERS][round % 3];
        let sparse_max = [60, SPARSE_MAX, SPARSE_BYTES_MAX][round / 3 % 3];
        for _ in 0..400 {
            let mark = Mark {
                index: rng.usize(0..spread) * (REGISTERS / spread),
                count: rng.u8(1..if round < 30 { 4 } else { 34 }),
            };
            let raised = sketch.raise(mark, sparse_max);
            assert_eq!(raised, Ok(table[mark.index] < mark.count), "round {round}");
            table[mark.index] = table[mark.index].max(mark.count);
        }
        let mut registers = Registers::default();
        registers.merge(&sketch.bytes).expect("it is sound");
        assert!(registers.iter().eq(table.iter().copied()), "round {round}");
        let dense = to_dense(&sketch.bytes).expect("it is sound");
        assert_eq!(cardinality(&dense), Ok(registers.cardinality()));
        assert_eq!(cardinality(&sketch.bytes), Ok(registers.cardinality()));
        let mut again = Registers::default();
        again.merge(&dense).expect("it is dense");
        assert_eq!(again.0, registers.0);
        // Upwards, as PFMERGE goes, searches begin in the middle.
        let mut upwards = Sketch::default();
        let mut from_front = Sketch::default();
        for mark in registers.marks() {
            assert_eq!(upwards.raise(mark, sparse_max), Ok(true));
            from_front.start = Start::FRONT;
            assert_eq!(from_front.raise(mark, sparse_max), Ok(true));
        }
        assert_eq!(upwards.bytes, from_front.bytes, "round {round}");
    }
}

/// Strings that are none, and such whose runs do not cover the registers, or are cut off.
#[test]
fn bad_values_are_told() {
    for none in [
        &b""[..],
        b"HYLL",
        &header(SPARSE)[..15],
        &header(2),
        &[&header(DENSE), &vec![0; DENSE_BYTES - 17][..]].concat(),
        &[&header(DENSE), &vec![0; DENSE_BYTES - 15][..]].concat(),
        b"HYLx\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff",
    ] {
        assert_eq!(Encoding::of(none), None);
        assert_eq!(cardinality(none), Err(Corrupted));
        assert_eq!(Registers::default().merge(none), Err(Corrupted));
    }
    for runs in [
        &b""[..],
        b"\x7f",
        b"\x7f\xfe",
        b"\x7f\xff\x00",
        b"\x7f\xff\x7f\xff",
        b"\x7f\xfe\x83",
        b"\x40\xfe\x7f",
        &[0x7f; 1000],
        &[0x80; 16_385],
        &[0xff; 4097],
    ] {
        let value = sparse(runs);
        assert_eq!(Encoding::of(&value), Some(Encoding::Sparse));
        assert_eq!(cardinality(&value), Err(Corrupted), "{runs:x?}");
        assert_eq!(Registers::default().merge(&value), Err(Corrupted));
        assert_eq!(to_dense(&value), Err(Corrupted));
    }
    assert_eq!(
        cardinality(&sparse(&[0x80; REGISTERS])),
        cardinality(&to_dense(&sparse(&[0x83; 4096])).expect("it is sound"))
    );
    assert!(Sketch::of(&sparse(&vec![0; 2 * REGISTERS + 1])).is_err());
    assert_eq!(
        describe_runs(&sparse(&vec![0; 2 * REGISTERS + 1])),
        Err(Corrupted)
    );
    assert_eq!(
        describe_runs(&sparse(b"\x3f\x41\x00\x8a")).as_deref(),
        Ok("z:64 Z:257 v:3,3")
    );
    assert_eq!(describe_runs(&sparse(b"\x40")), Err(Corrupted));
}

/// Registers that no element gives: the number that Redis answers, which is kept as stale.
#[test]
fn an_impossible_value_has_the_answer_of_redis() {
    let mut value = [&header(DENSE), &[0xff; DENSE_BYTES - HEADER_BYTES][..]].concat();
    assert_eq!(cardinality(&value), Ok(1 << 63));
    cache_cardinality(&mut value, 1 << 63);
    assert_eq!(cached_cardinality(&value), None);
}

/// Whatever a string holds, every operation ends, and what was sound stays so.
#[test]
fn made_up_values_do_no_harm() {
    let mut rng = fastrand::Rng::with_seed(seed());
    for _ in 0..3000 {
        let mut value = match rng.u8(0..4) {
            0 => numbers(rng.u32(0..300)).into_bytes(),
            1 => [
                &header(DENSE),
                &vec![rng.u8(..); DENSE_BYTES - HEADER_BYTES][..],
            ]
            .concat(),
            _ => {
                let length = rng.usize(0..200);
                sparse(&(0..length).map(|_| rng.u8(..)).collect::<Vec<_>>())
            }
        };
        for _ in 0..rng.usize(0..3) {
            let at = rng.usize(0..value.len());
            value[at] = rng.u8(..);
        }
        if rng.u8(0..4) == 0 {
            value.truncate(rng.usize(0..=value.len()));
        }
        let was_sound = cardinality(&value).is_ok();
        let _ = (describe_runs(&value), to_dense(&value));
        let mut registers = Registers::default();
        assert_eq!(registers.merge(&value).is_ok(), was_sound);
        let mut sketch = Sketch::of(&value).expect("it is short");
        for _ in 0..20 {
            let mark = Mark {
                index: rng.usize(0..REGISTERS),
                count: rng.u8(1..=51),
            };
            let raised = sketch.raise(mark, [0, 100, SPARSE_BYTES_MAX][rng.usize(0..3)]);
            assert!(!was_sound || raised.is_ok());
        }
        assert!(!was_sound || cardinality(&sketch.into_bytes()).is_ok());
    }
}

/// A small run of the self-test passes.
#[test]
fn the_self_test() {
    let extent = Extent {
        cycles: 2,
        elements: 20_000,
    };
    let rng = Rng::seeded(seed());
    assert_eq!(self_test(&rng, extent, SPARSE_MAX), Ok(()));
}
