//! A small set of integers: sorted, in 2, 4 or 8 bytes each, as wide as the widest needs; Redis's intset.
//!
//! Found by binary search; insertion and removal move what is behind. The width never shrinks, as in Redis.
//!
//! The members stand little-endian in bytes, so that the compact form ([`IntSet::write_compact`]: the members, then a byte
//! for their width) is read where it stands: for a value in the same allocation as its key.

use std::cmp::Ordering;

use super::dense::{reserve, vec_bytes};

/// Bytes of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    #[default]
    Two = 2,
    Four = 4,
    Eight = 8,
}

impl Width {
    fn of(value: i64) -> Width {
        if i16::try_from(value).is_ok() {
            Width::Two
        } else if i32::try_from(value).is_ok() {
            Width::Four
        } else {
            Width::Eight
        }
    }

    const fn bytes(self) -> usize {
        self as usize
    }
}

/// The set.
#[derive(Clone, Debug, Default)]
pub struct IntSet {
    members: Vec<u8>,
    width: Width,
}

impl IntSet {
    /// An empty set; takes nothing from the allocator.
    pub fn new() -> IntSet {
        IntSet::default()
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> IntSetRef<'_> {
        IntSetRef {
            members: &self.members,
            width: self.width,
        }
    }

    /// How many members.
    #[inline]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What it takes from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        vec_bytes(&self.members)
    }

    /// Adds a member. Whether it was not there.
    pub fn insert(&mut self, value: i64) -> bool {
        self.widen(Width::of(value));
        let Err(index) = self.view().search(value) else {
            return false;
        };
        let (place, width) = (index * self.width.bytes(), self.width.bytes());
        reserve(&mut self.members, width);
        let end = self.members.len();
        self.members.resize(end + width, 0);
        self.members.copy_within(place..end, place + width);
        // The lower bytes of a wider integer are the narrower one.
        self.members[place..place + width].copy_from_slice(&value.to_le_bytes()[..width]);
        true
    }

    /// Removes a member. Whether it was there.
    pub fn remove(&mut self, value: i64) -> bool {
        let found = self.view().search(value);
        if let Ok(index) = found {
            self.remove_at(index);
        }
        found.is_ok()
    }

    /// Removes the member at `index`, which must be there.
    pub fn remove_at(&mut self, index: usize) {
        let (place, width) = (index * self.width.bytes(), self.width.bytes());
        self.members.drain(place..place + width);
        if self.members.len() <= self.members.capacity() / 2 {
            self.members.shrink_to_fit();
            // To the end of the class.
            reserve(&mut self.members, 0);
        }
    }

    /// Appends the compact form, which [`IntSetRef::from_compact`] reads.
    pub fn write_compact(&self, out: &mut Vec<u8>) {
        out.reserve_exact(self.compact_len());
        out.extend_from_slice(&self.members);
        out.push(self.width as u8);
    }

    /// The length of the compact form.
    pub fn compact_len(&self) -> usize {
        self.members.len() + 1
    }

    /// Makes all members at least so wide.
    fn widen(&mut self, width: Width) {
        if width <= self.width {
            return;
        }
        let mut wide = Vec::new();
        // With room for the member that is too wide.
        reserve(&mut wide, (self.len() + 1) * width.bytes());
        for value in self.view().iter() {
            wide.extend_from_slice(&value.to_le_bytes()[..width.bytes()]);
        }
        *self = IntSet {
            members: wide,
            width,
        };
    }
}

impl From<IntSetRef<'_>> for IntSet {
    fn from(view: IntSetRef<'_>) -> IntSet {
        let mut members = Vec::new();
        reserve(&mut members, view.members.len());
        members.extend_from_slice(view.members);
        IntSet {
            members,
            width: view.width,
        }
    }
}

/// A set to be read: an [`IntSet`] or its compact form.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntSetRef<'a> {
    members: &'a [u8],
    width: Width,
}

impl<'a> IntSetRef<'a> {
    /// Reads what [`IntSet::write_compact`] wrote.
    pub fn from_compact(bytes: &'a [u8]) -> IntSetRef<'a> {
        let (&width, members) = bytes.split_last().expect("a compact form has a width");
        let width = match width {
            2 => Width::Two,
            4 => Width::Four,
            _ => Width::Eight,
        };
        IntSetRef { members, width }
    }

    /// How many members.
    #[inline]
    pub fn len(self) -> usize {
        self.members.len() / self.width.bytes()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.members.is_empty()
    }

    /// Bytes of one member.
    pub fn width(self) -> usize {
        self.width.bytes()
    }

    /// The member at `index`, in ascending order.
    #[inline]
    pub fn get(self, index: usize) -> Option<i64> {
        let rest = self.members.get(index * self.width.bytes()..)?;
        Some(match self.width {
            Width::Two => i16::from_le_bytes(*rest.first_chunk()?).into(),
            Width::Four => i32::from_le_bytes(*rest.first_chunk()?).into(),
            Width::Eight => i64::from_le_bytes(*rest.first_chunk()?),
        })
    }

    /// Whether `value` is a member.
    pub fn contains(self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// All members in ascending order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + 'a {
        (0..self.len()).map(move |index| self.get(index).expect("below the length"))
    }

    /// The index of a member, or the one it would get.
    #[inline]
    fn search(self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let member = self.get(middle).expect("below the length");
            match member.cmp(&value) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::allocator::good_size;
    use crate::data::testing;

    #[test]
    fn members_are_as_wide_as_the_widest_needs() {
        let mut set = IntSet::new();
        assert_eq!((set.view().width(), set.allocated_bytes()), (2, 0));
        for (value, width) in [(32_767, 2), (-32_769, 4), (7, 4), (i64::MIN, 8)] {
            assert!(set.insert(value));
            assert!(!set.insert(value));
            assert_eq!(set.view().width(), width, "{value}");
        }
        assert!(set.remove(i64::MIN));
        assert_eq!(set.view().width(), 8, "never narrower again");
        assert!(set.view().iter().eq([-32_769, 7, 32_767]));
    }

    #[test]
    fn it_is_a_sorted_set_of_integers() {
        let mut rng = testing::seeded();
        for _ in 0..testing::rounds(50) {
            let (mut set, mut model) = (IntSet::new(), BTreeSet::new());
            let shift = [60, 45, 20, 1][rng.usize(..4)];
            for step in 0..600 {
                let value = rng.i64(..) >> shift;
                if rng.u8(..4) > u8::from(step > 300) * 2 {
                    assert_eq!(set.insert(value), model.insert(value));
                } else {
                    let near = model.range(value..).next().copied().unwrap_or(value);
                    assert_eq!(set.remove(near), model.remove(&near));
                }
                assert_eq!(set.view().contains(value), model.contains(&value));
                assert_eq!(set.len(), model.len());
                let content = set.len() * set.view().width();
                assert!(set.allocated_bytes() <= good_size(content.max(1)) * 2 + 8);
            }
            assert!(set.view().iter().eq(model.iter().copied()));
            assert!(set.view().iter().rev().eq(model.iter().rev().copied()));
            assert_eq!(set.view().get(model.len()), None);
            let mut compact = b"key".to_vec();
            set.write_compact(&mut compact);
            assert_eq!(compact.len(), 3 + set.compact_len());
            let view = IntSetRef::from_compact(&compact[3..]);
            assert!(view.iter().eq(model.iter().copied()));
            let copy = IntSet::from(view);
            assert_eq!(copy.view().width(), set.view().width());
            assert!(copy.view().iter().eq(model.iter().copied()));
        }
    }
}
