//! Operations on strings: ranges by possibly negative indexes, the digest, the longest common subsequence.
//!
//! # The longest common subsequence
//! Redis fills a table of `(|a|+1) * (|b|+1)` lengths and walks it backwards from the corner. Clients see which of several
//! equally long subsequences it finds, so the walk here takes the same turns, but the table holds one bit per cell, and 64
//! cells are computed by a few instructions (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004):
//!
//! ```text
//! row[i] = bits over b; bit j is 0 where the length grows from column j to column j + 1
//! row[0] = all ones;  u = row[i] & equal(a[i]);  row[i+1] = (row[i] + u) | (row[i] & !u)
//! ```
//!
//! At a mismatch Redis goes up when the cell above is longer than the cell to the left. The cell itself is the longer of
//! both: so it goes up exactly where the length grows from the left cell to this one, which is the bit.
//!
//! Memory: one bit per cell with rows rounded to bytes, and one bit per byte of `b` for each distinct byte of `a`; the
//! caller bounds the cells. About 1 ns per 64 cells.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

/// The part of `length` units that `start..=end` names, where negative indexes count from the end; `None` when it is empty.
/// Indexes before the first unit mean the first one, so `0..=-100` is the first unit, as in GETRANGE.
pub fn range(start: i64, end: i64, length: usize) -> Option<Range<usize>> {
    let absolute = |index: i64| match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => {
            length.saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX))
        }
    };
    let (first, last) = (absolute(start), absolute(end).min(length.checked_sub(1)?));
    (first <= last).then(|| first..last + 1)
}

/// As [`range`], but a range of two negative indexes in the wrong order is empty even where both lie before the first unit.
pub fn strict_range(start: i64, end: i64, length: usize) -> Option<Range<usize>> {
    if start < 0 && end < 0 && start > end {
        None
    } else {
        range(start, end, length)
    }
}

/// The digest of DIGEST and IFDEQ: XXH3 of 64 bits in 16 lower-case hexadecimal digits.
pub fn digest(value: &[u8]) -> [u8; 16] {
    let hash = xxh3_64(value);
    std::array::from_fn(|place| b"0123456789abcdef"[(hash >> (60 - 4 * place)) as usize & 15])
}

/// A run of bytes that both strings have, as part of their longest common subsequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where it starts in the first string.
    pub first: usize,
    /// Where it starts in the second.
    pub second: usize,
    /// How long it is.
    pub len: usize,
}

/// The length of the longest common subsequence.
pub fn lcs_len(a: &[u8], b: &[u8]) -> usize {
    let mut sweep = Sweep::new(a, b);
    for &byte in a {
        sweep.advance(byte);
    }
    sweep.len(b.len())
}

/// The longest common subsequence that Redis finds, as runs from the last to the first, and its length.
pub fn lcs_matches(a: &[u8], b: &[u8]) -> (usize, Vec<Match>) {
    let mut sweep = Sweep::new(a, b);
    let row_bytes = b.len().div_ceil(8);
    let mut rows = Vec::with_capacity(a.len() * row_bytes);
    for &byte in a {
        sweep.advance(byte);
        let bytes = sweep.row.iter().flat_map(|word| word.to_le_bytes());
        rows.extend(bytes.take(row_bytes));
    }
    // Whether the length grows from column j to j + 1 in the row after a[i].
    let grows = |i: usize, j: usize| rows[i * row_bytes + j / 8] & 1 << (j % 8) == 0;
    let mut matches: Vec<Match> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            match matches.last_mut() {
                Some(run) if run.first == i && run.second == j => {
                    *run = Match {
                        first: i - 1,
                        second: j - 1,
                        len: run.len + 1,
                    };
                }
                _ => matches.push(Match {
                    first: i - 1,
                    second: j - 1,
                    len: 1,
                }),
            }
            (i, j) = (i - 1, j - 1);
        } else if grows(i - 1, j - 1) {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    (sweep.len(b.len()), matches)
}

/// The longest common subsequence itself.
pub fn lcs(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (len, matches) = lcs_matches(a, b);
    let mut found = Vec::with_capacity(len);
    for run in matches.iter().rev() {
        found.extend_from_slice(&a[run.first..run.first + run.len]);
    }
    found
}

/// One row of the table, and where in `b` each byte of `a` stands.
struct Sweep {
    row: Vec<u64>,
    /// Bit masks over `b`, one after another, for the bytes that `a` has.
    equal: Vec<u64>,
    /// Which of the masks belongs to a byte.
    mask_of: [u16; 256],
}

impl Sweep {
    fn new(a: &[u8], b: &[u8]) -> Sweep {
        const NONE: u16 = u16::MAX;
        let words = b.len().div_ceil(64);
        let mut mask_of = [NONE; 256];
        let mut count = 0;
        for &byte in a {
            if mask_of[usize::from(byte)] == NONE {
                mask_of[usize::from(byte)] = count;
                count += 1;
            }
        }
        let mut equal = vec![0; words * usize::from(count)];
        for (at, &byte) in b.iter().enumerate() {
            let mask = mask_of[usize::from(byte)];
            if mask != NONE {
                equal[usize::from(mask) * words + at / 64] |= 1 << (at % 64);
            }
        }
        Sweep {
            row: vec![u64::MAX; words],
            equal,
            mask_of,
        }
    }

    /// Goes on to the next row, with a byte of `a`.
    fn advance(&mut self, byte: u8) {
        let words = self.row.len();
        let mask = usize::from(self.mask_of[usize::from(byte)]) * words;
        let mut carry = false;
        for (word, equal) in self.row.iter_mut().zip(&self.equal[mask..mask + words]) {
            let matched = *word & equal;
            let (sum, over) = word.overflowing_add(matched);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            carry = over || over_again;
            *word = sum | (*word & !matched);
        }
    }

    /// The length in this row's last column: the zeros among its `columns` bits.
    fn len(&self, columns: usize) -> usize {
        let ones = |index: usize, word: &u64| {
            let unused = (64 * (index + 1)).saturating_sub(columns);
            (word & u64::MAX >> unused).count_ones() as usize
        };
        columns
            - self
                .row
                .iter()
                .enumerate()
                .map(|(index, word)| ones(index, word))
                .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> u64 {
        let seed = std::env::var("QUOIT_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(7);
        println!("seed {seed}");
        seed
    }

    /// The table of lengths and the walk as the manual of LCS describes them.
    fn naive(a: &[u8], b: &[u8]) -> (usize, Vec<u8>) {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        let (mut i, mut j, mut found) = (a.len(), b.len(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                found.push(a[i - 1]);
                (i, j) = (i - 1, j - 1);
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        found.reverse();
        (table[a.len()][b.len()], found)
    }

    /// Random strings over small alphabets, around the word size.
    #[test]
    fn the_subsequence_is_that_of_the_table_of_lengths() {
        let mut rng = fastrand::Rng::with_seed(seed());
        for _ in 0..2000 {
            let letters = rng.u8(1..5);
            let mut word = || {
                let len = rng
                    .choice([0, 1, 7, 8, 9, 30, 63, 64, 65, 130])
                    .unwrap_or(0);
                (0..len).map(|_| rng.u8(0..letters)).collect::<Vec<u8>>()
            };
            let (a, b) = (word(), word());
            let (len, found) = naive(&a, &b);
            assert_eq!(lcs_len(&a, &b), len, "{a:?} {b:?}");
            assert_eq!(lcs(&a, &b), found, "{a:?} {b:?}");
            let (same_len, matches) = lcs_matches(&a, &b);
            assert_eq!(same_len, len);
            for run in matches {
                assert_eq!(
                    a[run.first..run.first + run.len],
                    b[run.second..run.second + run.len]
                );
            }
        }
    }

    /// Extreme indexes neither overflow nor leave the string.
    #[test]
    fn ranges() {
        assert_eq!(range(0, -1, 5), Some(0..5));
        assert_eq!(range(-3, 100, 5), Some(2..5));
        assert_eq!(range(0, -100, 5), Some(0..1));
        assert_eq!(range(5, 9, 5), None);
        assert_eq!(range(0, -1, 0), None);
        assert_eq!(range(i64::MIN, i64::MAX, 5), Some(0..5));
        assert_eq!(range(i64::MAX, i64::MIN, 5), None);
        assert_eq!(range(-100, -200, 5), Some(0..1));
        assert_eq!(strict_range(-100, -200, 5), None);
        assert_eq!(strict_range(-200, -100, 5), Some(0..1));
    }

    /// The values that Redis 8.4 is known to give; the last keeps its leading zero.
    #[test]
    fn digests() {
        assert_eq!(&digest(b"hello"), b"9555e8555c62dcfd");
        assert_eq!(&digest(b""), b"2d06800538d394c2");
        assert_eq!(&digest(b"v8"), b"0cc76dbb41381419");
    }
}
