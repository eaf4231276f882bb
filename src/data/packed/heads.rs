//! The heads of a sequence that is read: each of them, or two that stand for all in turn.

use std::ops::Range;

use super::item::{Element, short_size};

/// The heads of a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heads<'a> {
    /// The last element's first.
    Each(&'a [u8]),
    /// Of a compact form whose heads alternate.
    Alternating(Alternating),
}

/// Two heads in turn. Neither is of a long body, so that all sizes are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alternating {
    /// How many elements.
    pub(super) count: u32,
    /// The head of the first element.
    pub(super) first: u8,
    /// The head of the next one.
    pub(super) second: u8,
}

impl Default for Heads<'_> {
    fn default() -> Self {
        Heads::Each(&[])
    }
}

impl<'a> Heads<'a> {
    /// How many.
    #[inline]
    pub(super) fn len(self) -> usize {
        match self {
            Heads::Each(heads) => heads.len(),
            Heads::Alternating(heads) => heads.count as usize,
        }
    }

    /// The head of the element at `index`, which must be there.
    #[inline]
    pub(super) fn get(self, index: usize) -> u8 {
        match self {
            Heads::Each(heads) => heads[heads.len() - 1 - index],
            Heads::Alternating(heads) => heads.get(index),
        }
    }

    /// The heads of a range of elements, all of which must be there.
    #[inline]
    pub(super) fn range(self, range: Range<usize>) -> Heads<'a> {
        self.split(range.end).0.split(range.start).1
    }

    /// The first `index` heads, and those behind them; all must be there.
    #[inline]
    pub(super) fn split(self, index: usize) -> (Heads<'a>, Heads<'a>) {
        match self {
            Heads::Each(heads) => {
                let (behind, first) = heads.split_at(heads.len() - index);
                (Heads::Each(first), Heads::Each(behind))
            }
            Heads::Alternating(heads) => {
                let first = Alternating {
                    count: index as u32,
                    ..heads
                };
                let behind = Alternating {
                    count: heads.count - index as u32,
                    first: heads.get(index),
                    second: heads.get(index + 1),
                };
                (Heads::Alternating(first), Heads::Alternating(behind))
            }
        }
    }

    #[inline]
    pub(super) fn take_front(&mut self) -> Option<u8> {
        match self {
            Heads::Each(heads) => {
                let (&head, rest) = heads.split_last()?;
                *heads = rest;
                Some(head)
            }
            Heads::Alternating(heads) => {
                heads.count = heads.count.checked_sub(1)?;
                std::mem::swap(&mut heads.first, &mut heads.second);
                // The one that was the first.
                Some(heads.second)
            }
        }
    }

    #[inline]
    pub(super) fn take_back(&mut self) -> Option<u8> {
        match self {
            Heads::Each(heads) => {
                let (&head, rest) = heads.split_first()?;
                *heads = rest;
                Some(head)
            }
            Heads::Alternating(heads) => {
                heads.count = heads.count.checked_sub(1)?;
                Some(heads.get(heads.count as usize))
            }
        }
    }

    /// Writes each of them, the last element's first.
    pub(super) fn write(self, out: &mut [u8]) {
        let heads = match self {
            Heads::Each(heads) => return out.copy_from_slice(heads),
            Heads::Alternating(heads) => heads,
        };
        assert_eq!(out.len(), heads.count as usize, "a place for each");
        let last = heads.get(out.len().wrapping_sub(1));
        let before = heads.get(out.len());
        let mut pieces = out.chunks_exact_mut(8);
        for piece in pieces.by_ref() {
            piece.copy_from_slice(&[last, before, last, before, last, before, last, before]);
        }
        for (index, head) in pieces.into_remainder().iter_mut().enumerate() {
            *head = if index % 2 == 0 { last } else { before };
        }
    }
}

impl Alternating {
    #[inline]
    pub(super) fn get(self, index: usize) -> u8 {
        if index.is_multiple_of(2) {
            self.first
        } else {
            self.second
        }
    }

    /// Where the body of the element at `index` begins.
    #[inline]
    pub(super) fn offset(self, index: usize) -> usize {
        let (first, second) = (short_size(self.first), short_size(self.second));
        (first + second) * (index / 2) + if index.is_multiple_of(2) { 0 } else { first }
    }

    /// The index of the first of the elements at `0, step, 2 * step, ..` that is equal to `element`.
    #[inline]
    pub(super) fn seek(self, bodies: &[u8], element: &Element<'_>, step: usize) -> Option<usize> {
        let stride = self.offset(step);
        if self.get(step) == self.first && stride > 0 {
            if element.head != self.first {
                return None;
            }
            let size = short_size(self.first);
            let mut candidates = bodies.chunks(stride);
            return Some(step * candidates.position(|body| element.has_body(&body[..size]))?);
        }
        let size = element.body_size();
        (0..self.count as usize).step_by(step).find(|&index| {
            let start = self.offset(index);
            self.get(index) == element.head && element.has_body(&bodies[start..start + size])
        })
    }
}
