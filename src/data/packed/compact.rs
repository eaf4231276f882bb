//! The compact form of a sequence: for a value that stands in the same allocation as its key.
//!
//! ```text
//! [ bodies of the elements, in order | heads, the last element's first | count ]
//!
//! heads   one for each element; where they alternate the first and the second element's only
//! count   none up to 30 elements; one byte below 255; else four bytes and 255
//! ```
//!
//! Heads alternate where all elements are held alike, or all fields and all values: ids, tokens, counters. Whether they do,
//! and a count up to 30, is the [`Shape`], six bits that the owner keeps. So eight fields with values take two bytes beyond
//! their texts, or sixteen when their lengths differ.

use super::heads::{Alternating, Heads};
use super::item::LONG;
use super::{COUNT_BYTES, PackedRef, length_bytes};

/// The count of a compact form is one byte below this, else four bytes and this.
const WIDE_COUNT: u8 = 255;
/// More heads are not looked at whether they alternate: it would be felt at each change of a large sequence.
const ALTERNATING_MAX: usize = 254;

/// What one must know of a compact form to read it, in six bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape(u8);

impl Shape {
    /// How many bits it has.
    pub const BITS: u32 = 6;
    const ALTERNATES: u8 = 1 << 5;
    /// In the place of a count: it stands in the bytes.
    const COUNT_APART: u8 = Shape::ALTERNATES - 1;

    /// As a number of [`Shape::BITS`] bits.
    #[inline]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The shape that [`Shape::bits`] gave.
    #[inline]
    pub fn from_bits(bits: u8) -> Shape {
        Shape(bits)
    }

    #[inline]
    fn of(view: PackedRef<'_>) -> Shape {
        let count = view.len().min(usize::from(Shape::COUNT_APART)) as u8;
        Shape(if view.alternates() {
            count | Shape::ALTERNATES
        } else {
            count
        })
    }

    #[inline]
    fn alternates(self) -> bool {
        self.0 & Shape::ALTERNATES != 0
    }

    /// The count, unless it stands in the bytes.
    #[inline]
    fn count(self) -> Option<usize> {
        let count = self.0 & Shape::COUNT_APART;
        (count != Shape::COUNT_APART).then_some(usize::from(count))
    }

    /// How many heads are there for so many elements.
    #[inline]
    fn heads(self, count: usize) -> usize {
        if self.alternates() { 2 } else { count }
    }
}

impl<'a> PackedRef<'a> {
    /// Reads what [`PackedRef::write_compact`] wrote.
    #[inline]
    pub fn from_compact(bytes: &'a [u8], shape: Shape) -> PackedRef<'a> {
        let (rest, count) = match shape.count() {
            Some(count) => (bytes, count),
            None => split_count(bytes),
        };
        let (bodies, heads) = rest.split_at(rest.len() - shape.heads(count));
        let heads = match heads {
            &[first, second] if shape.alternates() => Heads::Alternating(Alternating {
                count: count as u32,
                first,
                second,
            }),
            _ => Heads::Each(heads),
        };
        PackedRef { bodies, heads }
    }

    /// Appends the compact form, and gives its shape.
    pub fn write_compact(self, out: &mut Vec<u8>) -> Shape {
        let (shape, count) = (Shape::of(self), self.len());
        out.extend_from_slice(self.bodies);
        match self.heads {
            _ if shape.alternates() => out.extend([self.heads.get(0), self.heads.get(1)]),
            Heads::Each(heads) => out.extend_from_slice(heads),
            Heads::Alternating(_) => {
                let heads_at = out.len();
                out.resize(heads_at + count, 0);
                self.heads.write(&mut out[heads_at..]);
            }
        }
        if shape.count().is_none() {
            match u8::try_from(count) {
                Ok(count) if count < WIDE_COUNT => out.push(count),
                _ => {
                    out.extend_from_slice(&length_bytes(count));
                    out.push(WIDE_COUNT);
                }
            }
        }
        shape
    }

    /// The length of the compact form.
    pub fn compact_len(self) -> usize {
        let shape = Shape::of(self);
        let count = match shape.count() {
            Some(_) => 0,
            None if self.len() < usize::from(WIDE_COUNT) => 1,
            None => 1 + COUNT_BYTES,
        };
        self.bodies.len() + shape.heads(self.len()) + count
    }

    /// Whether two heads can stand for all, and take less. Long bodies have their length beside their head.
    fn alternates(self) -> bool {
        let count = self.len();
        match self.heads {
            Heads::Alternating(_) => count > 2,
            Heads::Each(heads) => {
                (3..=ALTERNATING_MAX).contains(&count)
                    && heads[2..] == heads[..count - 2]
                    && !heads[..2].contains(&LONG)
            }
        }
    }
}

/// Takes the count from behind the heads.
fn split_count(bytes: &[u8]) -> (&[u8], usize) {
    let (&last, rest) = bytes.split_last().expect("a compact form has a count");
    if last != WIDE_COUNT {
        return (rest, usize::from(last));
    }
    let (rest, count) = rest.split_last_chunk().expect("a wide count");
    (rest, u32::from_le_bytes(*count) as usize)
}
