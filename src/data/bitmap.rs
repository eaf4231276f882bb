//! Strings as arrays of bits and of small integers. Bit 0 is the most significant bit of the first byte.
//!
//! Counting and searching go through words of 64 bits; combining is written so that the compiler makes vector code of it.

use std::ops::Range;

/// The bit at `offset`; bits behind the end are zero.
pub fn bit(bytes: &[u8], offset: usize) -> bool {
    bytes
        .get(offset / 8)
        .is_some_and(|byte| byte >> (7 - offset % 8) & 1 == 1)
}

/// Sets the bit at `offset`, which must lie within.
pub fn set_bit(bytes: &mut [u8], offset: usize, on: bool) {
    let mask = 0x80 >> (offset % 8);
    let byte = &mut bytes[offset / 8];
    *byte = if on { *byte | mask } else { *byte & !mask };
}

/// How many of `bits` are set. The range must lie within.
pub fn count(bytes: &[u8], bits: Range<usize>) -> u64 {
    let (head, body, tail) = split(bytes, bits);
    let edge = |(byte, mask): (u8, u8)| u64::from((byte & mask).count_ones());
    head.map_or(0, edge) + count_bytes(body) + tail.map_or(0, edge)
}

fn count_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()))
        .sum();
    in_words
        + rest
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum::<u64>()
}

/// The first of `bits` that is `wanted`, counted from the first bit of the string. The range must lie within.
pub fn position(bytes: &[u8], wanted: bool, bits: Range<usize>) -> Option<usize> {
    let start = bits.start - bits.start % 8;
    let (head, body, tail) = split(bytes, bits);
    // Bits outside the mask never match.
    let in_edge = |(byte, mask): (u8, u8)| {
        let found = (if wanted { byte } else { !byte }) & mask;
        (found != 0).then(|| found.leading_zeros() as usize)
    };
    if let Some(found) = head.and_then(in_edge) {
        return Some(start + found);
    }
    let body_start = start + if head.is_some() { 8 } else { 0 };
    if let Some(found) = position_in_bytes(body, wanted) {
        return Some(body_start + found);
    }
    tail.and_then(in_edge)
        .map(|found| body_start + body.len() * 8 + found)
}

fn position_in_bytes(bytes: &[u8], wanted: bool) -> Option<usize> {
    let skipped = if wanted { 0 } else { u64::MAX };
    let (words, rest) = bytes.as_chunks::<8>();
    let in_word = words
        .iter()
        .position(|word| u64::from_ne_bytes(*word) != skipped);
    if let Some(index) = in_word {
        let word = u64::from_be_bytes(words[index]) ^ skipped;
        return Some(index * 64 + word.leading_zeros() as usize);
    }
    let index = rest.iter().position(|byte| *byte != skipped as u8)?;
    Some(words.len() * 64 + index * 8 + (rest[index] ^ skipped as u8).leading_zeros() as usize)
}

/// A byte that belongs to a range of bits in part, and the mask of its bits that do.
type Edge = Option<(u8, u8)>;

/// A range of bits: its first byte if that is not a whole one, whole bytes, its last byte if that is not.
fn split(bytes: &[u8], bits: Range<usize>) -> (Edge, &[u8], Edge) {
    if bits.is_empty() {
        return (None, &[], None);
    }
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    let head_mask = 0xff >> (bits.start % 8);
    let tail_mask = 0xff << (7 - (bits.end - 1) % 8);
    if first == last {
        let mask = head_mask & tail_mask;
        return match mask {
            0xff => (None, &bytes[first..=first], None),
            mask => (Some((bytes[first], mask)), &[], None),
        };
    }
    let head = (head_mask != 0xff).then(|| (bytes[first], head_mask));
    let tail = (tail_mask != 0xff).then(|| (bytes[last], tail_mask));
    let body_first = first + usize::from(head.is_some());
    let body_end = last + usize::from(tail.is_none());
    (head, &bytes[body_first..body_end], tail)
}

/// What BITOP does with its sources, each thought to be padded with zeros to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// Set in all.
    And,
    /// Set in any.
    Or,
    /// Set in an odd number.
    Xor,
    /// Not set in the first, which is the only one.
    Not,
    /// Set in the first and in none of the others.
    Diff,
    /// Set in any of the others and not in the first.
    Diff1,
    /// Set in the first and in any of the others.
    AndOr,
    /// Set in exactly one.
    One,
}

/// The combination of all sources; as long as the longest, empty without sources.
pub fn combine(combination: Combination, sources: &[&[u8]]) -> Vec<u8> {
    let Some((first, others)) = sources.split_first() else {
        return Vec::new();
    };
    let length = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    match combination {
        Combination::And => {
            // What is beyond the shortest is zero.
            let shortest = sources.iter().map(|source| source.len()).min().unwrap_or(0);
            let mut result = padded(&first[..shortest], length);
            others
                .iter()
                .for_each(|other| zip(&mut result[..shortest], other, |a, b| a & b));
            result
        }
        Combination::Or => fold(padded(first, length), others, |a, b| a | b),
        Combination::Xor => fold(padded(first, length), others, |a, b| a ^ b),
        Combination::Not => first.iter().map(|byte| !byte).collect(),
        Combination::Diff => first_and_others(first, others, length, |first, any| first & !any),
        Combination::Diff1 => first_and_others(first, others, length, |first, any| !first & any),
        Combination::AndOr => first_and_others(first, others, length, |first, any| first & any),
        Combination::One => exactly_one(first, others, length),
    }
}

fn padded(source: &[u8], length: usize) -> Vec<u8> {
    let mut result = vec![0; length];
    result[..source.len()].copy_from_slice(source);
    result
}

fn zip(result: &mut [u8], source: &[u8], with: impl Fn(u8, u8) -> u8) {
    for (byte, other) in result.iter_mut().zip(source) {
        *byte = with(*byte, *other);
    }
}

fn fold(mut result: Vec<u8>, others: &[&[u8]], with: impl Fn(u8, u8) -> u8) -> Vec<u8> {
    others
        .iter()
        .for_each(|other| zip(&mut result, other, &with));
    result
}

fn first_and_others(
    first: &[u8],
    others: &[&[u8]],
    length: usize,
    with: impl Fn(u8, u8) -> u8,
) -> Vec<u8> {
    let mut any = fold(vec![0; length], others, |a, b| a | b);
    zip(&mut any, first, |any, first| with(first, any));
    // Behind its end the first has zeros.
    zip_zeros(&mut any[first.len()..], with);
    any
}

fn zip_zeros(result: &mut [u8], with: impl Fn(u8, u8) -> u8) {
    result.iter_mut().for_each(|byte| *byte = with(0, *byte));
}

fn exactly_one(first: &[u8], others: &[&[u8]], length: usize) -> Vec<u8> {
    let mut any = padded(first, length);
    let mut several = vec![0; length];
    for other in others {
        for ((any, several), byte) in any.iter_mut().zip(&mut several).zip(*other) {
            *several |= *any & byte;
            *any |= byte;
        }
    }
    zip(&mut any, &several, |any, several| any & !several);
    any
}

/// The type of an integer in a string: `i5`, `u63`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Whether it has a sign.
    pub signed: bool,
    /// Its bits: 1 to 64 with a sign, 1 to 63 without.
    pub width: u32,
}

/// What happens to a value that a field cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Its upper bits are lost.
    Wrap,
    /// It becomes the nearest that fits.
    Saturate,
    /// It is not written.
    Fail,
}

impl Field {
    /// Reads `i1` to `i64` and `u1` to `u63`.
    pub fn parse(text: &[u8]) -> Option<Field> {
        let (kind, digits) = text.split_first()?;
        let signed = match kind {
            b'i' => true,
            b'u' => false,
            _ => return None,
        };
        let width = u32::try_from(super::number::parse_u64(digits)?).ok()?;
        (1..=63 + u32::from(signed))
            .contains(&width)
            .then_some(Field { signed, width })
    }

    /// The value at a bit offset; bits behind the end are zero.
    pub fn read(self, bytes: &[u8], offset: usize) -> i64 {
        let bits = (window(bytes, offset) << (offset % 8)) >> (128 - self.width);
        self.extend(bits as u64)
    }

    /// Writes the low bits of a value at a bit offset; the field must lie within.
    pub fn write(self, bytes: &mut [u8], offset: usize, value: i64) {
        let shift = 128 - self.width - (offset % 8) as u32;
        let mask = (u128::MAX >> (128 - self.width)) << shift;
        let merged = (window(bytes, offset) & !mask) | ((value as u64 as u128) << shift & mask);
        let from = offset / 8;
        let length = (bytes.len() - from).min(WINDOW_BYTES);
        bytes[from..from + length].copy_from_slice(&merged.to_be_bytes()[..length]);
    }

    /// What SET writes for `value`; `None` when it does not fit and must fail. For a field without sign a negative value
    /// counts as a large one.
    pub fn fit(self, value: i64, overflow: Overflow) -> Option<i64> {
        if !self.signed {
            return self.limit(i128::from(value as u64), overflow);
        }
        // Redis takes the distance to the most in 64 bits: a number so low that it wraps saturates at the most.
        let most = (1i128 << (self.width - 1)) - 1;
        let wraps = self.width < 64 && most - i128::from(value) > i128::from(i64::MAX);
        if wraps && matches!(overflow, Overflow::Saturate) {
            return Some(most as i64);
        }
        self.limit(i128::from(value), overflow)
    }

    /// The sum of a value of this field and `increment`; `None` when it does not fit and must fail.
    pub fn add(self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        self.limit(i128::from(value) + i128::from(increment), overflow)
    }

    fn limit(self, exact: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = match self.signed {
            true => (
                -(1i128 << (self.width - 1)),
                (1i128 << (self.width - 1)) - 1,
            ),
            false => (0, (1i128 << self.width) - 1),
        };
        match overflow {
            _ if (least..=most).contains(&exact) => Some(exact as i64),
            Overflow::Wrap => Some(self.extend(exact as u64)),
            Overflow::Saturate => Some(exact.clamp(least, most) as i64),
            Overflow::Fail => None,
        }
    }

    /// The value of the low bits.
    fn extend(self, bits: u64) -> i64 {
        let unused = 64 - self.width;
        let top = bits << unused;
        if self.signed {
            top as i64 >> unused
        } else {
            (top >> unused) as i64
        }
    }
}

/// A field of 64 bits touches at most so many bytes.
const WINDOW_BYTES: usize = 9;

/// The bytes from the one at a bit offset on, at the upper end of the number; zeros behind the end of the string.
fn window(bytes: &[u8], offset: usize) -> u128 {
    let mut window = [0; 16];
    let rest = bytes.get(offset / 8..).unwrap_or(&[]);
    let length = rest.len().min(WINDOW_BYTES);
    window[..length].copy_from_slice(&rest[..length]);
    u128::from_be_bytes(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng() -> fastrand::Rng {
        let seed = std::env::var("QUOIT_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(7);
        println!("seed {seed}");
        fastrand::Rng::with_seed(seed)
    }

    fn random_bytes(rng: &mut fastrand::Rng) -> Vec<u8> {
        let length = rng.choice([0, 1, 2, 7, 8, 9, 16, 40]).unwrap_or(0);
        // Runs of equal bytes, so that searches go far.
        let fill = rng.choice([0u8, 0xff]).unwrap_or(0);
        (0..length)
            .map(|_| if rng.u8(0..8) == 0 { rng.u8(..) } else { fill })
            .collect()
    }

    fn bits_of(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() * 8)
            .map(|offset| bit(bytes, offset))
            .collect()
    }

    /// Counting and searching against one bit after another, over random ranges.
    #[test]
    fn counts_and_positions_agree_with_single_bits() {
        let mut rng = rng();
        for _ in 0..20_000 {
            let bytes = random_bytes(&mut rng);
            let bits = bits_of(&bytes);
            let start = rng.usize(0..=bits.len());
            let end = rng.usize(start..=bits.len());
            let inside = &bits[start..end];
            assert_eq!(
                count(&bytes, start..end),
                inside.iter().filter(|bit| **bit).count() as u64,
                "{bytes:?} {start}..{end}"
            );
            for wanted in [false, true] {
                let expected = inside
                    .iter()
                    .position(|bit| *bit == wanted)
                    .map(|found| start + found);
                assert_eq!(
                    position(&bytes, wanted, start..end),
                    expected,
                    "{bytes:?} {wanted} {start}..{end}"
                );
            }
        }
    }

    /// Each combination against its definition, bit by bit.
    #[test]
    fn combinations_agree_with_their_definitions() {
        let mut rng = rng();
        let all = [
            Combination::And,
            Combination::Or,
            Combination::Xor,
            Combination::Diff,
            Combination::Diff1,
            Combination::AndOr,
            Combination::One,
        ];
        for _ in 0..2000 {
            let sources: Vec<Vec<u8>> = (0..rng.usize(1..5))
                .map(|_| random_bytes(&mut rng))
                .collect();
            let slices: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let length = slices.iter().map(|source| source.len()).max().unwrap_or(0);
            for combination in all {
                let result = combine(combination, &slices);
                assert_eq!(result.len(), length);
                for offset in 0..length * 8 {
                    let first = bit(slices[0], offset);
                    let others = slices[1..].iter().any(|source| bit(source, offset));
                    let set = slices.iter().filter(|source| bit(source, offset)).count();
                    let expected = match combination {
                        Combination::And => set == slices.len(),
                        Combination::Or => set > 0,
                        Combination::Xor => set % 2 == 1,
                        Combination::Not => !first,
                        Combination::Diff => first && !others,
                        Combination::Diff1 => !first && others,
                        Combination::AndOr => first && others,
                        Combination::One => set == 1,
                    };
                    assert_eq!(
                        bit(&result, offset),
                        expected,
                        "{combination:?} {sources:?} at {offset}"
                    );
                }
            }
            assert_eq!(
                combine(Combination::Not, &slices[..1]),
                slices[0].iter().map(|byte| !byte).collect::<Vec<_>>()
            );
        }
        assert!(combine(Combination::And, &[]).is_empty());
    }

    /// Fields against a list of bits: reading, writing, and that nothing beside them changes.
    #[test]
    fn fields_agree_with_single_bits() {
        let mut rng = rng();
        for _ in 0..20_000 {
            let signed = rng.bool();
            let field = Field {
                signed,
                width: rng.u32(1..=63 + u32::from(signed)),
            };
            let width = field.width as usize;
            let mut bytes: Vec<u8> = (0..rng.usize(0..20)).map(|_| rng.u8(..)).collect();
            let offset = rng.usize(0..200);
            let value_of = |bits: &[bool]| {
                let bits = bits
                    .iter()
                    .fold(0u64, |value, bit| value << 1 | u64::from(*bit));
                field.extend(bits)
            };
            let mut bits = bits_of(&bytes);
            bits.resize(bits.len().max(offset + width), false);
            assert_eq!(
                field.read(&bytes, offset),
                value_of(&bits[offset..offset + width])
            );
            let value = rng.i64(..);
            bytes.resize(bytes.len().max((offset + width).div_ceil(8)), 0);
            bits.resize(bytes.len() * 8, false);
            field.write(&mut bytes, offset, value);
            for (place, bit) in bits[offset..offset + width].iter_mut().rev().enumerate() {
                *bit = value >> place & 1 == 1;
            }
            assert_eq!(bits_of(&bytes), bits, "{field:?} {offset} {value}");
        }
    }

    /// Found by the differential test: SET of a number near the least of 64 bits saturates at the wrong end in Redis.
    #[test]
    fn saturation_far_below_goes_up_as_in_redis() {
        let i8 = Field {
            signed: true,
            width: 8,
        };
        let edge = 127 - i64::MAX;
        assert_eq!(i8.fit(edge, Overflow::Saturate), Some(-128));
        assert_eq!(i8.fit(edge - 1, Overflow::Saturate), Some(127));
        assert_eq!(i8.fit(i64::MIN, Overflow::Wrap), Some(0));
        assert_eq!(i8.fit(i64::MIN, Overflow::Fail), None);
    }

    /// The ends of the ranges, and what each way of overflowing gives there.
    #[test]
    fn overflows() {
        let (i8, u8) = (
            Field {
                signed: true,
                width: 8,
            },
            Field {
                signed: false,
                width: 8,
            },
        );
        let i64 = Field {
            signed: true,
            width: 64,
        };
        assert_eq!(i8.add(127, 1, Overflow::Wrap), Some(-128));
        assert_eq!(i8.add(-128, -1, Overflow::Saturate), Some(-128));
        assert_eq!(i8.add(100, 28, Overflow::Fail), None);
        assert_eq!(u8.add(0, -1, Overflow::Wrap), Some(255));
        assert_eq!(u8.add(0, i64::MIN, Overflow::Saturate), Some(0));
        assert_eq!(u8.fit(-1, Overflow::Saturate), Some(255));
        assert_eq!(u8.fit(300, Overflow::Wrap), Some(44));
        assert_eq!(i8.fit(-300, Overflow::Saturate), Some(-128));
        assert_eq!(i64.add(i64::MAX, 1, Overflow::Wrap), Some(i64::MIN));
        assert_eq!(
            i64.add(i64::MIN, i64::MIN, Overflow::Saturate),
            Some(i64::MIN)
        );
    }

    /// Names of types, and what is none.
    #[test]
    fn types() {
        assert_eq!(
            Field::parse(b"i64"),
            Some(Field {
                signed: true,
                width: 64
            })
        );
        assert_eq!(
            Field::parse(b"u63"),
            Some(Field {
                signed: false,
                width: 63
            })
        );
        for bad in [
            "",
            "i",
            "u",
            "u64",
            "i65",
            "i0",
            "u-1",
            "I8",
            "i08",
            "i8 ",
            "u99999999999999999999",
        ] {
            assert_eq!(Field::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
