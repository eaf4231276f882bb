//! Handles by hash: finds the record of a member among up to 2^32.
//!
//! The index holds handles (`u32`) alone; records and their hashes stand elsewhere, and the caller brings the comparison.
//! It costs 5 bytes a bucket (handle and tag), 8 bytes an element on average.
//!
//! Up to [`SPLIT`] elements it is one table. Beyond, it is 256, among which the hash chooses, so that the step that doubles a
//! table meets a few thousand elements when there are a million. The shares of the tables differ by up to a factor of two
//! ([`partition_of`]): they double one after the other, and the whole is always about 0.65 full,
//! where equal tables would all be 0.45 full at a million.
//! They are reference-counted: a clone is a snapshot, and who changes a table that a clone holds copies it.

use std::sync::Arc;

use hashbrown::raw::RawTable;

use super::remains::Remains;
use crate::base::allocator::good_size;
use crate::base::hash::partition_of;

/// Elements beyond which the table is divided.
const SPLIT: usize = 16 * 1024;
/// Elements below which it is one again.
const JOIN: usize = 4 * 1024;
const PARTS: usize = 256;
/// The directory of the parts, and what each takes besides its slots.
const PART_BYTES: usize = good_size(PARTS * size_of::<usize>())
    + PARTS * good_size(2 * size_of::<usize>() + size_of::<RawTable<u32>>());

/// Handles by hash. See the file's head.
#[derive(Clone, Default)]
pub struct Index {
    /// One table in place, or `PARTS`.
    one: RawTable<u32>,
    parts: Vec<Arc<RawTable<u32>>>,
    len: usize,
    bytes: usize,
}

impl Index {
    /// An empty index.
    pub fn new() -> Index {
        Index::default()
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it takes from the allocator besides itself, in bytes.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes
    }

    /// The handle with a hash for which `is_it` holds.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let part = match self.parts.is_empty() {
            true => &self.one,
            false => &self.parts[part_of(hash)],
        };
        part.get(hash, |&handle| is_it(handle)).copied()
    }

    /// Adds a handle that is not there. `rehash` tells the hash of any handle in the index.
    pub fn insert(&mut self, hash: u64, handle: u32, rehash: impl Fn(u32) -> u64) {
        if self.parts.is_empty() && self.len == SPLIT {
            self.split(&rehash);
        }
        let part = self.part(hash);
        let before = table_bytes(part);
        part.insert(hash, handle, |&handle| rehash(handle));
        let after = table_bytes(part);
        self.bytes = self.bytes + after - before;
        self.len += 1;
    }

    /// Removes a handle; nothing when it is not there.
    pub fn remove(&mut self, hash: u64, handle: u32, rehash: impl Fn(u32) -> u64) {
        let part = self.part(hash);
        if part.remove_entry(hash, |&other| other == handle).is_none() {
            debug_assert!(false, "a handle that is not in the index");
            return;
        }
        // An eighth full: half as large as what would grow to be as full again is enough.
        if part.buckets() > 16 && part.len() * 8 < part.buckets() {
            let before = table_bytes(part);
            part.shrink_to(part.len() * 2, |&handle| rehash(handle));
            let after = table_bytes(part);
            self.bytes = self.bytes + after - before;
        }
        self.len -= 1;
        if self.len == JOIN && !self.parts.is_empty() {
            self.join(&rehash);
        }
    }

    /// Gives a record another handle.
    pub fn replace(&mut self, hash: u64, old: u32, new: u32) {
        if let Some(handle) = self.part(hash).get_mut(hash, |&handle| handle == old) {
            *handle = new;
        }
    }

    /// The tables, to be freed piece by piece.
    pub fn move_to(self, remains: &mut Remains) {
        for part in self.parts {
            let elements = part.len();
            remains.push(part, elements);
        }
    }

    fn part(&mut self, hash: u64) -> &mut RawTable<u32> {
        match self.parts.is_empty() {
            true => &mut self.one,
            false => Arc::make_mut(&mut self.parts[part_of(hash)]),
        }
    }

    fn split(&mut self, rehash: &impl Fn(u32) -> u64) {
        let mut parts: Vec<RawTable<u32>> = (0..PARTS).map(|_| RawTable::new()).collect();
        for handle in std::mem::take(&mut self.one) {
            let hash = rehash(handle);
            parts[part_of(hash)].insert(hash, handle, |&handle| rehash(handle));
        }
        self.parts = parts.into_iter().map(Arc::new).collect();
        self.bytes = self.counted_bytes();
    }

    fn join(&mut self, rehash: &impl Fn(u32) -> u64) {
        let mut one = RawTable::with_capacity(self.len);
        for handle in (self.parts.drain(..)).flat_map(Arc::unwrap_or_clone) {
            one.insert(rehash(handle), handle, |&handle| rehash(handle));
        }
        self.parts = Vec::new();
        self.one = one;
        self.bytes = self.counted_bytes();
    }

    fn counted_bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| table_bytes(part)).sum();
        let directory = if self.parts.is_empty() { 0 } else { PART_BYTES };
        table_bytes(&self.one) + parts + directory
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("len", &self.len).finish()
    }
}

fn table_bytes(table: &RawTable<u32>) -> usize {
    match table.allocation_info().1.size() {
        0 => 0,
        bytes => good_size(bytes),
    }
}

#[inline]
fn part_of(hash: u64) -> usize {
    partition_of(hash, PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(handle: u32) -> u64 {
        // SplitMix64's finisher: any spread will do.
        let mut x = u64::from(handle).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn check(index: &Index) {
        assert_eq!(index.allocated_bytes(), index.counted_bytes());
    }

    #[test]
    fn it_finds_what_it_holds_through_growth_division_and_shrinking() {
        let mut index = Index::new();
        let count = 40_000;
        for handle in 0..count {
            index.insert(hash(handle), handle, hash);
            if handle % 1000 == 0 {
                check(&index);
            }
        }
        assert_eq!(index.parts.len(), PARTS);
        assert!(index.allocated_bytes() < count as usize * 11 + PART_BYTES);
        for handle in 0..count {
            assert_eq!(
                index.find(hash(handle), |other| other == handle),
                Some(handle)
            );
            let absent = handle + count;
            assert_eq!(index.find(hash(absent), |other| other == absent), None);
        }
        index.replace(hash(7), 7, 1_000_000);
        assert_eq!(
            index.find(hash(7), |other| other == 1_000_000),
            Some(1_000_000)
        );
        index.replace(hash(7), 1_000_000, 7);
        for handle in 0..count - 100 {
            index.remove(hash(handle), handle, hash);
            if handle % 1000 == 0 {
                check(&index);
            }
        }
        assert_eq!(index.len(), 100);
        assert!(index.parts.is_empty());
        assert!(
            index.allocated_bytes() < 10_000,
            "{}",
            index.allocated_bytes()
        );
        for handle in count - 100..count {
            assert_eq!(
                index.find(hash(handle), |other| other == handle),
                Some(handle)
            );
        }
    }

    #[test]
    fn it_is_freed_in_pieces() {
        let mut index = Index::new();
        for handle in 0..100_000 {
            index.insert(hash(handle), handle, hash);
        }
        let mut remains = Remains::default();
        index.move_to(&mut remains);
        assert_eq!(remains.len(), 100_000);
        let mut pieces = 1;
        while !remains.free(100) {
            pieces += 1;
        }
        assert_eq!(pieces, PARTS);
    }
}
