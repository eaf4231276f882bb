//! A compact sequence of byte strings in one allocation: small hashes, sets and sorted sets, and the pieces of lists.
//!
//! ```text
//! [ slack | bodies of the elements, in order | slack | heads, last element first | count ]
//! 0       start                             end                                  capacity
//!
//! head      body
//! 0..=199   so many bytes
//! 200..=246 none: the integers 0 to 46
//! 247..=254 an integer of 1 to 8 bytes, little-endian
//! 255       length (4 bytes), the bytes, length again
//! ```
//!
//! An element costs one byte beyond its text (Redis's listpack takes two), and integers take less than their text. What is
//! a canonical decimal `i64` is always held as an integer, so two elements are equal exactly when head and body are.
//! The heads stand apart from the bodies: the sequence is walked in either direction without a length behind every body, a
//! search looks at bodies of the right length only, and elements are counted off by reading one byte each.
//!
//! Both ends grow in place: bodies have slack before and behind, and to move the heads is to move a byte per element. The
//! capacity is always a size class of the allocator, the smallest that holds what is there; it shrinks when half is unused.
//!
//! The compact form ([`compact`]) has no slack, and often neither count nor heads: for a value that stands in the same
//! allocation as its key.
//!
//! Cost: get, insert and remove pass over the heads from the nearer end, about half a nanosecond each; a search passes
//! over all of them.

use std::iter::FusedIterator;
use std::ops::Range;

pub use self::compact::Shape;
use self::heads::Heads;
pub use self::item::{Element, Item};
pub(in crate::data) use self::item::{decode, int_width, size_at_front};
use self::item::{length_bytes, size_at_back};
use crate::base::allocator::good_size;

mod compact;
mod heads;
mod item;

/// What a sequence may take before its owner must convert or divide it, as Redis's listpack (`LISTPACK_MAX_SAFETY_LIMIT`).
/// One element more of up to the longest string still fits the 32-bit offsets.
pub const MAX_BYTES: usize = 1 << 30;

/// What a sequence takes besides [`Packed::used_bytes`].
pub(in crate::data) const COUNT_BYTES: usize = 4;

/// The sequence; see the head of the file.
#[derive(Clone, Default)]
pub struct Packed {
    buffer: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Packed {
    /// An empty sequence; takes nothing from the allocator.
    pub fn new() -> Packed {
        Packed::default()
    }

    /// A copy of the elements of `view`, in the smallest allocation that holds them.
    pub fn copy_of(view: PackedRef<'_>) -> Packed {
        let (bodies, count) = (view.bodies, view.len());
        if count == 0 {
            return Packed::new();
        }
        let mut buffer = vec![0; good_size(bodies.len() + count + COUNT_BYTES)];
        buffer[..bodies.len()].copy_from_slice(bodies);
        let heads_end = buffer.len() - COUNT_BYTES;
        view.heads.write(&mut buffer[heads_end - count..heads_end]);
        buffer[heads_end..].copy_from_slice(&length_bytes(count));
        Packed {
            buffer: buffer.into_boxed_slice(),
            start: 0,
            end: bodies.len() as u32,
        }
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> PackedRef<'_> {
        let Some(heads_end) = self.buffer.len().checked_sub(COUNT_BYTES) else {
            return PackedRef::default();
        };
        PackedRef {
            bodies: &self.buffer[self.start as usize..self.end as usize],
            heads: Heads::Each(&self.buffer[heads_end - self.len()..heads_end]),
        }
    }

    /// How many elements.
    #[inline]
    pub fn len(&self) -> usize {
        let count = self.buffer.last_chunk::<COUNT_BYTES>();
        count.map_or(0, |count| u32::from_le_bytes(*count) as usize)
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements and their heads: what Redis's limits in bytes are compared with.
    pub fn used_bytes(&self) -> usize {
        self.bodies_len() + self.len()
    }

    /// What it takes from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        // Always a size class.
        self.buffer.len()
    }

    /// Whether `size` more bytes of elements ([`Element::size`]) keep it within [`MAX_BYTES`].
    pub fn has_room(&self, size: usize) -> bool {
        self.used_bytes().saturating_add(size) <= MAX_BYTES
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        self.view().get(index)
    }

    /// All elements in order, from either end.
    pub fn iter(&self) -> Iter<'_> {
        self.view().iter()
    }

    /// Puts an element before all others.
    pub fn push_front<'a>(&mut self, element: impl Into<Element<'a>>) {
        self.insert_at(0, 0, element.into());
    }

    /// Puts an element behind all others.
    pub fn push_back<'a>(&mut self, element: impl Into<Element<'a>>) {
        self.insert_at(self.len(), self.bodies_len(), element.into());
    }

    /// Puts an element before the one at `index`, or behind all when `index` is the length.
    pub fn insert<'a>(&mut self, index: usize, element: impl Into<Element<'a>>) {
        self.insert_at(index, self.view().offset(index), element.into());
    }

    /// Puts another element in the place of the one at `index`, which must be there.
    pub fn replace<'a>(&mut self, index: usize, element: impl Into<Element<'a>>) {
        let element = element.into();
        let (offset, old) = self.view().place(index);
        let new = element.body_size();
        if new > old {
            self.open_gap(offset + old, new - old, 0);
        } else if new < old {
            self.close_gap(offset + new, old - new);
        }
        let head = self.head_place(index);
        self.buffer[head] = element.head;
        self.write(offset, new, &element);
        self.shrink();
    }

    /// Removes the elements of `range`, all of which must be there.
    pub fn remove(&mut self, range: Range<usize>) {
        let count = self.len();
        assert!(range.start <= range.end && range.end <= count, "range");
        if range.is_empty() {
            return;
        }
        let view = self.view();
        let from = view.offset(range.start);
        let to = if range.len() == 1 {
            from + view.place_at(range.start, from)
        } else {
            view.offset(range.end)
        };
        if from < to {
            self.close_gap(from, to - from);
        }
        if range.end < count {
            let heads_end = self.heads_end();
            self.buffer.copy_within(
                heads_end - count..heads_end - range.end,
                heads_end - count + range.len(),
            );
        }
        self.set_len(count - range.len());
        self.shrink();
    }

    /// Takes the elements from `index` on out into a sequence of their own.
    pub fn split_off(&mut self, index: usize) -> Packed {
        let tail = Packed::copy_of(self.view().range(index..self.len()));
        self.remove(index..self.len());
        tail
    }

    /// Puts the elements of another sequence behind all others.
    pub fn append(&mut self, other: PackedRef<'_>) {
        if other.is_empty() {
            return;
        }
        let (count, added) = (self.len(), other.len());
        let offset = self.bodies_len();
        self.open_gap(offset, other.bodies.len(), added);
        let place = self.start as usize + offset;
        self.buffer[place..][..other.bodies.len()].copy_from_slice(other.bodies);
        let heads_start = self.heads_end() - count - added;
        other.heads.write(&mut self.buffer[heads_start..][..added]);
        self.set_len(count + added);
    }

    /// Removes all and gives the memory back.
    pub fn clear(&mut self) {
        *self = Packed::default();
    }

    fn insert_at(&mut self, index: usize, offset: usize, element: Element<'_>) {
        let (count, size) = (self.len(), element.body_size());
        self.open_gap(offset, size, 1);
        let heads_end = self.heads_end();
        if index < count {
            let later = heads_end - count..heads_end - index;
            self.buffer.copy_within(later.clone(), later.start - 1);
        }
        self.set_len(count + 1);
        let head = self.head_place(index);
        self.buffer[head] = element.head;
        self.write(offset, size, &element);
    }

    fn write(&mut self, offset: usize, size: usize, element: &Element<'_>) {
        let place = self.start as usize + offset;
        element.write_body(&mut self.buffer[place..place + size]);
    }

    /// Makes a gap of `bytes` at `offset` of the bodies, and room for `heads` more heads behind them.
    fn open_gap(&mut self, offset: usize, bytes: usize, heads: usize) {
        let (start, end) = (self.start as usize, self.end as usize);
        let behind = (self.heads_start().max(end)) - end;
        let front_is_shorter = offset < end - start - offset;
        if front_is_shorter && start >= bytes && behind >= heads {
            if offset > 0 {
                self.buffer
                    .copy_within(start..start + offset, start - bytes);
            }
            self.start -= bytes as u32;
        } else if behind >= bytes + heads {
            if start + offset < end {
                self.buffer
                    .copy_within(start + offset..end, start + offset + bytes);
            }
            self.end += bytes as u32;
        } else {
            self.relocate(offset, bytes, heads);
        }
    }

    /// As `open_gap`, when neither side has the room: moves everything, to a larger allocation if need be.
    fn relocate(&mut self, offset: usize, bytes: usize, heads: usize) {
        let (count, length) = (self.len(), self.bodies_len());
        let needed = length + bytes + count + heads + COUNT_BYTES;
        assert!(u32::try_from(needed).is_ok(), "the owner keeps MAX_BYTES");
        let capacity = self.buffer.len();
        // With little slack left, a queue would move all its bytes for every few elements.
        let crowded = capacity > CROWDED_MIN && capacity - capacity / 16 < needed;
        let mut fresh = if needed > capacity || crowded {
            vec![0; good_size(needed.max(capacity + 1))]
        } else {
            vec![0; capacity]
        };
        let slack = fresh.len() - needed;
        // Who puts elements in front will go on doing so; an eighth stays for their heads.
        let start = if offset < length - offset {
            slack - slack / 8
        } else {
            0
        };
        let view = self.view();
        fresh[start..][..offset].copy_from_slice(&view.bodies[..offset]);
        fresh[start + offset + bytes..][..length - offset].copy_from_slice(&view.bodies[offset..]);
        let heads_end = fresh.len() - COUNT_BYTES;
        view.heads.write(&mut fresh[heads_end - count..heads_end]);
        fresh[heads_end..].copy_from_slice(&length_bytes(count));
        self.buffer = fresh.into_boxed_slice();
        self.start = start as u32;
        self.end = (start + length + bytes) as u32;
    }

    fn close_gap(&mut self, offset: usize, bytes: usize) {
        let (start, end) = (self.start as usize, self.end as usize);
        let gap = start + offset;
        if offset < end - gap - bytes {
            if offset > 0 {
                self.buffer.copy_within(start..gap, start + bytes);
            }
            self.start += bytes as u32;
        } else {
            if gap + bytes < end {
                self.buffer.copy_within(gap + bytes..end, gap);
            }
            self.end -= bytes as u32;
        }
    }

    /// Gives memory back when less than half is used, or a smaller class would do for a small one.
    fn shrink(&mut self) {
        let needed = self.used_bytes() + COUNT_BYTES;
        if self.is_empty() {
            self.clear();
        } else if needed * 2 <= self.buffer.len()
            || (self.buffer.len() <= EXACT_MAX && good_size(needed) < self.buffer.len())
        {
            *self = Packed::copy_of(self.view());
        }
    }

    fn bodies_len(&self) -> usize {
        (self.end - self.start) as usize
    }

    fn heads_end(&self) -> usize {
        self.buffer.len() - COUNT_BYTES
    }

    fn heads_start(&self) -> usize {
        self.buffer.len().saturating_sub(COUNT_BYTES + self.len())
    }

    fn head_place(&self, index: usize) -> usize {
        self.heads_end() - 1 - index
    }

    fn set_len(&mut self, count: usize) {
        let place = self.heads_end();
        self.buffer[place..].copy_from_slice(&length_bytes(count));
    }
}

/// Up to this capacity a sequence is always in the smallest class that holds it.
const EXACT_MAX: usize = 128;
/// Up to this capacity it is cheaper to move everything than to grow early.
const CROWDED_MIN: usize = 512;

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Packed {
    type Item = Item<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// A sequence to be read: of a [`Packed`], of its compact form, or a part of either.
#[derive(Clone, Copy, Default, Debug)]
pub struct PackedRef<'a> {
    bodies: &'a [u8],
    heads: Heads<'a>,
}

impl<'a> PackedRef<'a> {
    /// How many elements.
    #[inline]
    pub fn len(self) -> usize {
        self.heads.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The element at `index`.
    pub fn get(self, index: usize) -> Option<Item<'a>> {
        (index < self.len()).then(|| {
            let (offset, size) = self.place(index);
            decode(self.heads.get(index), &self.bodies[offset..offset + size])
        })
    }

    /// All elements in order, from either end.
    #[inline]
    pub fn iter(self) -> Iter<'a> {
        Iter(self)
    }

    /// All elements two by two: fields with values, members with scores.
    #[inline]
    pub fn pairs(self) -> Pairs<'a> {
        Pairs(self.iter())
    }

    /// The elements of `range`, all of which must be there.
    pub fn range(self, range: Range<usize>) -> PackedRef<'a> {
        if range == (0..self.len()) {
            return self;
        }
        let (from, to) = (self.offset(range.start), self.offset(range.end));
        PackedRef {
            bodies: &self.bodies[from..to],
            heads: self.heads.range(range),
        }
    }

    /// The index of the first element equal to `element` among those at `0, step, 2 * step, ..`.
    pub fn find<'e>(self, element: impl Into<Element<'e>>, step: usize) -> Option<usize> {
        self.iter().seek(&element.into(), step)
    }

    /// Where the body of the element at `index` begins; the end for the length.
    fn offset(self, index: usize) -> usize {
        let mut rest = self.iter();
        if index <= self.len() / 2 {
            rest.skip_front(index);
            self.bodies.len() - rest.0.bodies.len()
        } else {
            rest.skip_back(self.len() - index);
            rest.0.bodies.len()
        }
    }

    /// Where the body of the element at `index` begins and how long it is.
    fn place(self, index: usize) -> (usize, usize) {
        let offset = self.offset(index);
        (offset, self.place_at(index, offset))
    }

    fn place_at(self, index: usize, offset: usize) -> usize {
        size_at_front(self.heads.get(index), &self.bodies[offset..])
    }
}

impl<'a> IntoIterator for PackedRef<'a> {
    type Item = Item<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Elements in order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(PackedRef<'a>);

impl<'a> Iter<'a> {
    /// What is still to come.
    pub fn rest(&self) -> PackedRef<'a> {
        self.0
    }

    /// Goes behind the first element equal to `element` among those at `0, step, 2 * step, ..` from here, and says how many
    /// stood before it; at the end or wherever it was seen that there is none, `None`.
    pub fn seek(&mut self, element: &Element<'_>, step: usize) -> Option<usize> {
        let bodies = self.0.bodies;
        let (index, end) = match self.0.heads {
            Heads::Each(heads) => {
                let (mut end, mut until_next) = (0, 0);
                let index = heads.iter().rev().position(|&head| {
                    let start = end;
                    end += size_at_front(head, &bodies[start..]);
                    if until_next > 0 {
                        until_next -= 1;
                        return false;
                    }
                    until_next = step - 1;
                    head == element.head && element.has_body(&bodies[start..end])
                })?;
                (index, end)
            }
            Heads::Alternating(heads) => {
                let index = heads.seek(bodies, element, step)?;
                (index, heads.offset(index + 1))
            }
        };
        let count = self.0.len();
        self.0 = PackedRef {
            bodies: &bodies[end..],
            heads: self.0.heads.range(index + 1..count),
        };
        Some(index)
    }

    /// Goes over the next `count` elements, or to the end.
    pub fn skip_front(&mut self, count: usize) {
        let PackedRef { mut bodies, heads } = self.0;
        let count = count.min(heads.len());
        let (skipped, rest) = heads.split(count);
        match skipped {
            Heads::Each(heads) => {
                for &head in heads.iter().rev() {
                    bodies = &bodies[size_at_front(head, bodies)..];
                }
            }
            Heads::Alternating(heads) => bodies = &bodies[heads.offset(count)..],
        }
        self.0 = PackedRef {
            bodies,
            heads: rest,
        };
    }

    /// Leaves out the last `count` elements, or all.
    pub fn skip_back(&mut self, count: usize) {
        let PackedRef { mut bodies, heads } = self.0;
        let left = heads.len().saturating_sub(count);
        match heads {
            Heads::Each(heads) => {
                for &head in &heads[..heads.len() - left] {
                    bodies = &bodies[..bodies.len() - size_at_back(head, bodies)];
                }
            }
            Heads::Alternating(heads) => bodies = &bodies[..heads.offset(left)],
        }
        self.0 = PackedRef {
            bodies,
            heads: heads.split(left).0,
        };
    }

    #[inline]
    fn take_front(&mut self) -> Option<(u8, &'a [u8])> {
        let head = self.0.heads.take_front()?;
        let (body, bodies) = self.0.bodies.split_at(size_at_front(head, self.0.bodies));
        self.0.bodies = bodies;
        Some((head, body))
    }

    #[inline]
    fn take_back(&mut self) -> Option<(u8, &'a [u8])> {
        let head = self.0.heads.take_back()?;
        let start = self.0.bodies.len() - size_at_back(head, self.0.bodies);
        let (bodies, body) = self.0.bodies.split_at(start);
        self.0.bodies = bodies;
        Some((head, body))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        self.take_front().map(|(head, body)| decode(head, body))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }

    fn nth(&mut self, count: usize) -> Option<Item<'a>> {
        self.skip_front(count);
        self.next()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take_back().map(|(head, body)| decode(head, body))
    }

    fn nth_back(&mut self, count: usize) -> Option<Self::Item> {
        self.skip_back(count);
        self.next_back()
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

/// Elements two by two.
#[derive(Clone, Debug)]
pub struct Pairs<'a>(Iter<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let pairs = self.0.len() / 2;
        (pairs, Some(pairs))
    }

    fn nth(&mut self, count: usize) -> Option<Self::Item> {
        self.0.skip_front(count.saturating_mul(2));
        self.next()
    }
}

impl DoubleEndedIterator for Pairs<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let second = self.0.next_back()?;
        Some((self.0.next_back()?, second))
    }
}

impl ExactSizeIterator for Pairs<'_> {}
impl FusedIterator for Pairs<'_> {}

#[cfg(test)]
mod tests;
