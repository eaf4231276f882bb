//! HyperLogLog: how many different elements were added, in 12 KiB at most, about 0.8 % off; Redis's format to the byte.
//!
//! An element's hash names one of 16,384 registers by its low 14 bits; the register keeps the longest run of zeros seen in
//! the other 50, plus one. From how many registers have which value the cardinality is estimated (Ertl, "New cardinality
//! estimation algorithms for HyperLogLog sketches", 2017).
//!
//! ```text
//! 0      4          5          8             16
//! | HYLL | encoding | reserved | cardinality | registers ..
//!          0 dense, 1 sparse     little endian; highest bit set: to be computed again
//!
//! dense:  6 bits for each register from the lowest bit on, 12,288 bytes
//! sparse: a row of runs that covers all registers
//!         00llllll           l + 1 registers (1..=64) are 0
//!         01llllll llllllll  l + 1 registers (1..=16384) are 0
//!         1vvvvvll           l + 1 registers (1..=4) are v + 1 (1..=32)
//! ```
//!
//! Equal bytes after equal commands demand Redis's steps, not only its format: where a run is cut, which neighbours are
//! joined afterwards, and when a sparse value becomes dense follow its `hllSparseSet`.
//!
//! A value is a string that clients write as they like. Whatever it holds is [`Corrupted`] at worst: runs are read by one
//! checked function, and no length in a value sizes anything.

pub use self_test::{Extent, self_test};

/// How many registers there are.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Length of a dense value.
pub const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS / 4 * 3;

const INDEX_BITS: u32 = 14;
/// Bits of the hash whose zeros are counted.
const COUNTED_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_MASK: u8 = 63;
const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const CARDINALITY_AT: usize = 8;
const HEADER_BYTES: usize = 16;
const STALE: u8 = 0x80;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// No sound sparse value is longer: every register a run of its own, in the longer form.
const SPARSE_BYTES_MAX: usize = HEADER_BYTES + 2 * REGISTERS;
const HASH_SEED: u64 = 0xadc8_3b19;

const SHORT_ZEROS_MAX: usize = 64;
const VALUES_MAX: usize = 4;
/// Largest register of a sparse value.
const SPARSE_COUNT_MAX: u8 = 32;
/// Runs looked at when neighbours are joined after a change.
const JOIN_WINDOW: usize = 5;

/// The runs of a sparse value do not cover the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted;

/// How the registers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Six bits each.
    Dense,
    /// As runs.
    Sparse,
}

impl Encoding {
    /// That of a string; `None` when it is no HyperLogLog. A sparse one may still be [`Corrupted`].
    pub fn of(value: &[u8]) -> Option<Encoding> {
        if value.len() < HEADER_BYTES || !value.starts_with(MAGIC) {
            return None;
        }
        match value[ENCODING_AT] {
            DENSE => (value.len() == DENSE_BYTES).then_some(Encoding::Dense),
            SPARSE => Some(Encoding::Sparse),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        }
    }
}

/// What an element does: the register it belongs to and the least value it gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    index: usize,
    count: u8,
}

impl Mark {
    /// That of an element.
    pub fn of(element: &[u8]) -> Mark {
        let hash = murmur64(element);
        // The bit behind the counted ones ends a run of zeros only.
        let counted = hash >> INDEX_BITS | 1 << COUNTED_BITS;
        Mark {
            index: hash as usize % REGISTERS,
            count: counted.trailing_zeros() as u8 + 1,
        }
    }
}

/// The cardinality that a value keeps, unless it is stale.
pub fn cached_cardinality(value: &[u8]) -> Option<u64> {
    let bytes = value.get(CARDINALITY_AT..HEADER_BYTES)?;
    let cardinality = u64::from_le_bytes(bytes.try_into().ok()?);
    (cardinality >> 63 == 0).then_some(cardinality)
}

/// Writes the cardinality into a value. One of 2^63 or more, which only made-up registers give, stays stale, as in Redis.
pub fn cache_cardinality(value: &mut [u8], cardinality: u64) {
    value[CARDINALITY_AT..HEADER_BYTES].copy_from_slice(&cardinality.to_le_bytes());
}

fn mark_stale(value: &mut [u8]) {
    value[HEADER_BYTES - 1] |= STALE;
}

/// Estimates the cardinality of a value.
pub fn cardinality(value: &[u8]) -> Result<u64, Corrupted> {
    let mut histogram = Histogram::default();
    match Encoding::of(value).ok_or(Corrupted)? {
        Encoding::Dense => each_dense(value, |_, count| histogram.add(count, 1)),
        Encoding::Sparse => each_run(value, |_, run| histogram.add(run.count, run.length))?,
    }
    Ok(histogram.cardinality())
}

/// Whether a dense value's register is less than the mark.
pub fn raises_dense(value: &[u8], mark: Mark) -> bool {
    dense_register(value, mark.index) < mark.count
}

/// Raises a dense value's register. Returns whether it was less.
pub fn raise_dense(value: &mut [u8], mark: Mark) -> bool {
    let is_raised = raises_dense(value, mark);
    if is_raised {
        set_dense_register(value, mark.index, mark.count);
        mark_stale(value);
    }
    is_raised
}

/// The dense form of a value.
pub fn to_dense(value: &[u8]) -> Result<Vec<u8>, Corrupted> {
    if Encoding::of(value) == Some(Encoding::Dense) {
        return Ok(value.to_vec());
    }
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEADER_BYTES].copy_from_slice(value.get(..HEADER_BYTES).ok_or(Corrupted)?);
    dense[ENCODING_AT] = DENSE;
    each_run(value, |first, run| {
        if run.count > 0 {
            for index in first..first + run.length {
                set_dense_register(&mut dense, index, run.count);
            }
        }
    })?;
    Ok(dense)
}

/// The runs of a sparse value in the notation of PFDEBUG DECODE. They need not cover the registers.
pub fn describe_runs(value: &[u8]) -> Result<String, Corrupted> {
    if value.len() > SPARSE_BYTES_MAX {
        return Err(Corrupted);
    }
    let mut words = Vec::new();
    let mut at = HEADER_BYTES;
    while at < value.len() {
        let run = Run::read(value, at).ok_or(Corrupted)?;
        words.push(match run.kind {
            RunKind::ShortZeros => format!("z:{}", run.length),
            RunKind::LongZeros => format!("Z:{}", run.length),
            RunKind::Values => format!("v:{},{}", run.count, run.length),
        });
        at += run.bytes();
    }
    Ok(words.join(" "))
}

/// All registers of a value, a byte each.
#[derive(Clone)]
pub struct Registers(Vec<u8>);

impl Default for Registers {
    fn default() -> Self {
        Registers(vec![0; REGISTERS])
    }
}

impl Registers {
    /// Raises each register to that of a value.
    pub fn merge(&mut self, value: &[u8]) -> Result<(), Corrupted> {
        match Encoding::of(value).ok_or(Corrupted)? {
            Encoding::Dense => {
                each_dense(value, |index, count| {
                    self.0[index] = self.0[index].max(count);
                });
                Ok(())
            }
            Encoding::Sparse => each_run(value, |first, run| {
                if run.count > 0 {
                    for register in &mut self.0[first..first + run.length] {
                        *register = run.count.max(*register);
                    }
                }
            }),
        }
    }

    /// Estimates the cardinality.
    pub fn cardinality(&self) -> u64 {
        let mut histogram = Histogram::default();
        for &count in &self.0 {
            histogram.add(count, 1);
        }
        histogram.cardinality()
    }

    /// The registers that are not 0, in order.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        let marks = self
            .0
            .iter()
            .enumerate()
            .map(|(index, &count)| Mark { index, count });
        marks.filter(|mark| mark.count > 0)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u8> {
        self.0.iter().copied()
    }
}

/// A value that is being changed.
pub struct Sketch {
    bytes: Vec<u8>,
    /// A run where the next search may begin.
    start: Start,
}

/// A run, for a search that begins there.
#[derive(Clone, Copy)]
struct Start {
    at: usize,
    /// The first register of the run.
    first: usize,
    /// The run before.
    previous: Option<usize>,
}

impl Start {
    const FRONT: Start = Start {
        at: HEADER_BYTES,
        first: 0,
        previous: None,
    };
}

impl Default for Sketch {
    /// An empty one: sparse, its cardinality known to be 0.
    fn default() -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[ENCODING_AT] = SPARSE;
        push_zeros(&mut bytes, REGISTERS);
        Sketch {
            bytes,
            start: Start::FRONT,
        }
    }
}

impl Sketch {
    /// A copy of a value; [`Corrupted`] when it is longer than any sound one.
    pub fn of(value: &[u8]) -> Result<Sketch, Corrupted> {
        if value.len() > SPARSE_BYTES_MAX {
            return Err(Corrupted);
        }
        Ok(Sketch {
            bytes: value.to_vec(),
            start: Start::FRONT,
        })
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Says that the cardinality has to be computed again.
    pub fn mark_stale(&mut self) {
        mark_stale(&mut self.bytes);
    }

    /// Makes it dense.
    pub fn make_dense(&mut self) -> Result<(), Corrupted> {
        self.bytes = to_dense(&self.bytes)?;
        Ok(())
    }

    /// Raises a register. Returns whether it was less. A sparse value becomes dense when the register does not fit a run, or
    /// when it would grow beyond `sparse_max` bytes.
    pub fn raise(&mut self, mark: Mark, sparse_max: usize) -> Result<bool, Corrupted> {
        match Encoding::of(&self.bytes).ok_or(Corrupted)? {
            Encoding::Dense => Ok(raise_dense(&mut self.bytes, mark)),
            Encoding::Sparse if mark.count > SPARSE_COUNT_MAX => self.raise_as_dense(mark),
            Encoding::Sparse => self.raise_sparse(mark, sparse_max),
        }
    }

    fn raise_as_dense(&mut self, mark: Mark) -> Result<bool, Corrupted> {
        self.make_dense()?;
        Ok(raise_dense(&mut self.bytes, mark))
    }

    fn raise_sparse(&mut self, mark: Mark, sparse_max: usize) -> Result<bool, Corrupted> {
        let Mark { index, count } = mark;
        let (found, run) = self.find(index)?;
        if run.count >= count {
            return Ok(false);
        }
        let mut pieces = Pieces::default();
        pieces.push(run.count, index - found.first);
        pieces.push(count, 1);
        pieces.push(run.count, found.first + run.length - 1 - index);
        let length = self.bytes.len() - run.bytes() + pieces.as_slice().len();
        if length > self.bytes.len() && length > sparse_max {
            return self.raise_as_dense(mark);
        }
        self.bytes.splice(
            found.at..found.at + run.bytes(),
            pieces.as_slice().iter().copied(),
        );
        self.join(found.previous.unwrap_or(HEADER_BYTES));
        mark_stale(&mut self.bytes);
        Ok(true)
    }

    /// The run that covers a register. The next search may begin at the run before it: the change that follows leaves that
    /// one's place alone, and PFMERGE, which goes up the registers, need not begin at the front each time.
    fn find(&mut self, index: usize) -> Result<(Start, Run), Corrupted> {
        let mut found = self.start;
        loop {
            let run = Run::read(&self.bytes, found.at).ok_or(Corrupted)?;
            let is_covered = index < found.first + run.length;
            // A change of the very run where searches begin may join it to the one before.
            if is_covered && found.at == self.start.at && found.previous.is_some() {
                self.start = Start::FRONT;
                found = self.start;
            } else if is_covered {
                return Ok((found, run));
            } else {
                self.start = found;
                found = Start {
                    at: found.at + run.bytes(),
                    first: found.first + run.length,
                    previous: Some(found.at),
                };
            }
        }
    }

    /// Joins neighbours of equal value among a few runs.
    fn join(&mut self, mut at: usize) {
        for _ in 0..JOIN_WINDOW {
            let Some(run) = Run::read(&self.bytes, at) else {
                return;
            };
            let next = Run::read(&self.bytes, at + run.bytes());
            let joined = next.filter(|next| {
                run.count > 0 && next.count == run.count && next.length + run.length <= VALUES_MAX
            });
            match joined {
                Some(next) => {
                    self.bytes.remove(at);
                    self.bytes[at] = values(run.count, run.length + next.length);
                }
                None => at += run.bytes(),
            }
        }
    }
}

/// What takes the place of a run: at most two long runs of zeros and one of values between them.
#[derive(Default)]
struct Pieces {
    bytes: [u8; 5],
    length: usize,
}

impl Pieces {
    fn push(&mut self, count: u8, length: usize) {
        let mut add = |byte| {
            self.bytes[self.length] = byte;
            self.length += 1;
        };
        match length {
            0 => {}
            _ if count > 0 => add(values(count, length)),
            _ => zeros(length, add),
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn push_zeros(bytes: &mut Vec<u8>, length: usize) {
    zeros(length, |byte| bytes.push(byte));
}

/// The bytes of a run of zeros.
fn zeros(length: usize, mut add: impl FnMut(u8)) {
    debug_assert!((1..=REGISTERS).contains(&length));
    let written = length - 1;
    if length > SHORT_ZEROS_MAX {
        add((written >> 8) as u8 | 0b0100_0000);
    }
    add(written as u8);
}

/// The byte of a run of values.
fn values(count: u8, length: usize) -> u8 {
    debug_assert!((1..=SPARSE_COUNT_MAX).contains(&count) && (1..=VALUES_MAX).contains(&length));
    0b1000_0000 | (count - 1) << 2 | (length - 1) as u8
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RunKind {
    ShortZeros,
    LongZeros,
    Values,
}

/// Registers in a row that have the same value.
#[derive(Clone, Copy)]
struct Run {
    kind: RunKind,
    count: u8,
    length: usize,
}

impl Run {
    /// The run that begins at this byte; `None` when the value ends there, or within the run.
    fn read(value: &[u8], at: usize) -> Option<Run> {
        let byte = *value.get(at)?;
        let (kind, count, length) = match byte >> 6 {
            0 => (RunKind::ShortZeros, 0, usize::from(byte) + 1),
            1 => {
                let low = *value.get(at + 1)?;
                let length = usize::from(byte & 0b0011_1111) << 8 | usize::from(low);
                (RunKind::LongZeros, 0, length + 1)
            }
            _ => {
                let count = (byte >> 2 & 0b0001_1111) + 1;
                (RunKind::Values, count, usize::from(byte & 0b11) + 1)
            }
        };
        Some(Run {
            kind,
            count,
            length,
        })
    }

    fn bytes(self) -> usize {
        1 + usize::from(self.kind == RunKind::LongZeros)
    }
}

/// Calls `each` with every run of a sparse value and its first register. Runs beyond the registers, or too few of them, are
/// an error, then `each` may have seen some.
fn each_run(value: &[u8], mut each: impl FnMut(usize, Run)) -> Result<(), Corrupted> {
    let (mut at, mut first) = (HEADER_BYTES, 0);
    while at < value.len() {
        let run = Run::read(value, at).ok_or(Corrupted)?;
        if first + run.length > REGISTERS {
            return Err(Corrupted);
        }
        each(first, run);
        at += run.bytes();
        first += run.length;
    }
    (first == REGISTERS).then_some(()).ok_or(Corrupted)
}

/// Calls `each` with every register of a dense value.
fn each_dense(value: &[u8], mut each: impl FnMut(usize, u8)) {
    for (four, bytes) in value[HEADER_BYTES..].chunks_exact(3).enumerate() {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        for place in 0..4 {
            each(
                four * 4 + place,
                (word >> (6 * place)) as u8 & REGISTER_MASK,
            );
        }
    }
}

/// The three bytes that hold a register, and how far from their lowest bit it stands.
fn dense_place(index: usize) -> (usize, usize) {
    (HEADER_BYTES + index / 4 * 3, index % 4 * 6)
}

fn dense_register(value: &[u8], index: usize) -> u8 {
    let (at, shift) = dense_place(index);
    let word = u32::from_le_bytes([value[at], value[at + 1], value[at + 2], 0]);
    (word >> shift) as u8 & REGISTER_MASK
}

fn set_dense_register(value: &mut [u8], index: usize, count: u8) {
    let (at, shift) = dense_place(index);
    let word = u32::from_le_bytes([value[at], value[at + 1], value[at + 2], 0]);
    let cleared = word & !(u32::from(REGISTER_MASK) << shift);
    let bytes = (cleared | u32::from(count) << shift).to_le_bytes();
    value[at..at + 3].copy_from_slice(&bytes[..3]);
}

/// How many registers have which value.
struct Histogram([u32; 64]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([0; 64])
    }
}

impl Histogram {
    fn add(&mut self, count: u8, registers: usize) {
        self.0[usize::from(count & REGISTER_MASK)] += registers as u32;
    }

    /// The estimate. The order of the operations is Redis's, so that the rounding is.
    fn cardinality(&self) -> u64 {
        let registers = REGISTERS as f64;
        let counted = COUNTED_BITS as usize;
        let full = f64::from(self.0[counted + 1]);
        let mut z = registers * tau((registers - full) / registers);
        for &some in self.0[1..=counted].iter().rev() {
            z += f64::from(some);
            z *= 0.5;
        }
        z += registers * sigma(f64::from(self.0[0]) / registers);
        let estimate = (ALPHA * registers * registers / z).round();
        // Registers that no element gives (all of them 51 or more): Redis converts infinity to the least integer.
        if estimate < i64::MAX as f64 {
            estimate as u64
        } else {
            1 << 63
        }
    }
}

/// 1 / (2 ln 2).
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// What registers at 0 contribute.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

/// What registers at their greatest value contribute.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

/// MurmurHash2 in its 64-bit form for 64-bit machines, little endian, with the seed that Redis's values are made with.
fn murmur64(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = HASH_SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut mixed = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        mixed ^= mixed >> SHIFT;
        hash = (hash ^ mixed.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    }
    hash ^= hash >> SHIFT;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ hash >> SHIFT
}

mod self_test;
#[cfg(test)]
mod tests;
