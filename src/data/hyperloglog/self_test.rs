//! PFSELFTEST: whether registers keep what is written, and whether estimates are as near as they should be.

use super::{
    DENSE_BYTES, Encoding, Mark, REGISTER_MASK, REGISTERS, Sketch, cardinality, dense_register,
    raise_dense, set_dense_register,
};
use crate::base::rng::Rng;

/// How much is tried.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Times that all registers are written and read.
    pub cycles: usize,
    /// Elements that are added.
    pub elements: u64,
}

impl Extent {
    /// As much as Redis tries: half a second of work.
    pub const FULL: Extent = Extent {
        cycles: 1000,
        elements: 10_000_000,
    };
}

/// Runs the test; the text says what failed.
pub fn self_test(rng: &Rng, extent: Extent, sparse_max: usize) -> Result<(), String> {
    registers_keep_values(rng, extent.cycles)?;
    estimates_are_near(rng, extent.elements, sparse_max)
}

fn registers_keep_values(rng: &Rng, cycles: usize) -> Result<(), String> {
    let mut value = vec![0; DENSE_BYTES];
    let mut expected = vec![0; REGISTERS];
    for _ in 0..cycles {
        for (index, count) in expected.iter_mut().enumerate() {
            *count = rng.bits() as u8 & REGISTER_MASK;
            set_dense_register(&mut value, index, *count);
        }
        for (index, &count) in expected.iter().enumerate() {
            let found = dense_register(&value, index);
            if found != count {
                return Err(format!("Register {index} should be {count} but is {found}"));
            }
        }
    }
    Ok(())
}

/// Adds elements to a dense value and to one that begins as sparse. At every power of ten both must give the same estimate,
/// six standard errors off at most.
fn estimates_are_near(rng: &Rng, elements: u64, sparse_max: usize) -> Result<(), String> {
    let corrupted = |_| "corrupted value".to_owned();
    let seed = rng.bits();
    let mut growing = Sketch::default();
    let mut dense = Sketch::default();
    dense.make_dense().map_err(corrupted)?;
    let mut checkpoint = 1;
    for number in 1..=elements {
        let mark = Mark::of(&(number ^ seed).to_le_bytes());
        raise_dense(&mut dense.bytes, mark);
        growing.raise(mark, sparse_max).map_err(corrupted)?;
        if number < checkpoint {
            continue;
        }
        checkpoint *= 10;
        let is_sparse = Encoding::of(&growing.bytes) == Some(Encoding::Sparse);
        if number < sparse_max as u64 / 2 && !is_sparse {
            return Err("sparse encoding not used".to_owned());
        }
        let estimate = cardinality(&dense.bytes).map_err(corrupted)?;
        if cardinality(&growing.bytes) != Ok(estimate) {
            return Err("dense/sparse disagree".to_owned());
        }
        let error = estimate.abs_diff(number);
        if error > largest_error(number) {
            return Err(format!("Too big error. card:{number} abserr:{error}"));
        }
    }
    Ok(())
}

fn largest_error(elements: u64) -> u64 {
    let standard = 1.04 / (REGISTERS as f64).sqrt();
    // Of few elements two may share a register, which is far more than six standard errors.
    match elements {
        10 => 1,
        _ => (standard * 6.0 * elements as f64).ceil() as u64,
    }
}
