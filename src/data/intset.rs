//! A small set of integers: sorted, in 2, 4 or 8 bytes each, as wide as the widest needs; Redis's intset.
//!
//! Found by binary search; insertion and removal move what is behind. The width never shrinks, as in Redis.

use super::dense::{reserve, vec_bytes};

/// The set.
#[derive(Clone, Debug)]
pub enum IntSet {
    /// All fit 16 bits.
    Two(Vec<i16>),
    /// All fit 32 bits.
    Four(Vec<i32>),
    /// Any.
    Eight(Vec<i64>),
}

/// Runs the same code for each width.
macro_rules! each {
    ($set:expr, $members:ident => $run:expr) => {
        match $set {
            IntSet::Two($members) => $run,
            IntSet::Four($members) => $run,
            IntSet::Eight($members) => $run,
        }
    };
}

impl Default for IntSet {
    fn default() -> Self {
        IntSet::Two(Vec::new())
    }
}

#[expect(
    clippy::useless_conversion,
    reason = "the same code for each width, the widest included"
)]
impl IntSet {
    /// An empty set; takes nothing from the allocator.
    pub fn new() -> IntSet {
        IntSet::default()
    }

    /// How many members.
    #[inline]
    pub fn len(&self) -> usize {
        each!(self, members => members.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of one member.
    pub fn width(&self) -> usize {
        each!(self, members => size_of_val(&members[..]).checked_div(members.len()).unwrap_or(2))
    }

    /// What it takes from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        each!(self, members => vec_bytes(members))
    }

    /// The member at `index`, in ascending order.
    #[inline]
    pub fn get(&self, index: usize) -> Option<i64> {
        each!(self, members => members.get(index).map(|&member| i64::from(member)))
    }

    /// Whether `value` is a member.
    pub fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// Adds a member. Whether it was not there.
    pub fn insert(&mut self, value: i64) -> bool {
        self.widen(value);
        let Err(index) = self.search(value) else {
            return false;
        };
        each!(self, members => {
            reserve(members, 1);
            members.insert(index, value.try_into().expect("widened"));
        });
        true
    }

    /// Removes a member. Whether it was there.
    pub fn remove(&mut self, value: i64) -> bool {
        let found = self.search(value);
        if let Ok(index) = found {
            self.remove_at(index);
        }
        found.is_ok()
    }

    /// Removes the member at `index`, which must be there.
    pub fn remove_at(&mut self, index: usize) {
        each!(self, members => {
            members.remove(index);
            if members.len() <= members.capacity() / 2 {
                members.shrink_to_fit();
                // To the end of the class.
                reserve(members, 0);
            }
        });
    }

    /// All members in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + '_ {
        (0..self.len()).map(|index| self.get(index).expect("below the length"))
    }

    #[inline]
    fn search(&self, value: i64) -> Result<usize, usize> {
        each!(self, members => members.binary_search_by(|&member| i64::from(member).cmp(&value)))
    }

    /// Makes all members as wide as `value` needs.
    fn widen(&mut self, value: i64) {
        let two = i16::try_from(value).is_ok();
        let four = i32::try_from(value).is_ok();
        *self = match self {
            IntSet::Two(members) if !two && four => IntSet::Four(widened(members)),
            IntSet::Two(members) if !two => IntSet::Eight(widened(members)),
            IntSet::Four(members) if !four => IntSet::Eight(widened(members)),
            _ => return,
        };
    }
}

fn widened<F: Copy + Into<T>, T>(members: &[F]) -> Vec<T> {
    let mut wide = Vec::new();
    // With room for the member that is too wide.
    reserve(&mut wide, members.len() + 1);
    wide.extend(members.iter().map(|&member| member.into()));
    wide
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
        assert_eq!((set.width(), set.allocated_bytes()), (2, 0));
        for (value, width) in [(32_767, 2), (-32_769, 4), (7, 4), (i64::MIN, 8)] {
            assert!(set.insert(value));
            assert!(!set.insert(value));
            assert_eq!(set.width(), width, "{value}");
        }
        assert!(set.remove(i64::MIN));
        assert_eq!(set.width(), 8, "never narrower again");
        assert!(set.iter().eq([-32_769, 7, 32_767]));
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
                assert_eq!(set.contains(value), model.contains(&value));
                assert_eq!(set.len(), model.len());
                let content = set.len() * set.width();
                assert!(set.allocated_bytes() <= good_size(content.max(1)) * 2 + 8);
            }
            assert!(set.iter().eq(model.iter().copied()));
            assert!(set.iter().rev().eq(model.iter().rev().copied()));
            assert_eq!(set.get(model.len()), None);
        }
    }
}
