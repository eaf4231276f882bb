//! A large hash or set: records found by hash, by index, and in the order of a cursor.
//!
//! ```text
//! parts: 1 or 256, chosen by the hash of the key
//!   part: index    hash -> place             open addressing, 5 bytes a bucket
//!         order    place -> offset           4 bytes; no gaps: the last moves into the place of a removed one
//!         records  [key length][value length] key value ..
//!         large    keys and values of more than 254 bytes, on their own; their record holds a number of 4 bytes
//! ```
//!
//! Keys and values stand one behind another in the records of their part: an allocation for each member would cost 8 bytes
//! for the pointer and up to 15 for the size class. A record that is removed, or replaced by a longer one, leaves a hole;
//! when a quarter is holes, the part is written anew without them. A sweep of the order is a sweep of the elements.
//!
//! # Parts
//! Beyond [`DIVIDE_LEN`] elements or [`DIVIDE_BYTES`] of records it is divided once into 256 parts, so that no step of
//! growth, and no writing anew, touches more than a part: to rehash a million members at once would hold a worker for
//! 100 ms. The parts differ in size by up to an octave ([`partition_of`]), so that they do not all grow at once. Parts are
//! reference-counted: a clone is a snapshot at the cost of 256 counts, and who changes a part that a snapshot holds copies
//! that part alone.
//!
//! # Cursors
//! A cursor names a part and how many of its places are still to come; the last comes first. An element that moves, moves
//! from the last place into an earlier one: from what has been visited into what has not, or within the latter. So what
//! is there throughout is seen, some of it twice. A cursor from before a division, or before the parts were merged
//! again, starts over.
//!
//! Cost (memory, beyond key and value): 1 byte of length each, 4 of order, 5.7 to 11.4 of index, 8 on average for a million;
//! an eighth of the records for their growth.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::raw::RawTable;
use smallvec::SmallVec;

use self::store::{Cell, Store};
use super::remains::Remains;
use crate::base::allocator::good_size;
use crate::base::hash::{KeyHasher, partition_of};
use crate::base::rng::Rng;

/// Keys of [`Dense::warm`] for which nothing is allocated.
pub const WARMED: usize = 32;
/// A table with fewer elements is in the cache as a whole, or nearly so.
pub const WARM_MIN: usize = 4096;
/// With more elements it is divided.
pub const DIVIDE_LEN: usize = 16_384;
/// With more bytes of records it is divided.
pub const DIVIDE_BYTES: usize = 1 << 20;
/// With at most so many elements, and a quarter of the bytes, it is undivided again.
const MERGE_LEN: usize = DIVIDE_LEN / 4;
const MERGE_BYTES: usize = DIVIDE_BYTES / 4;
const PARTS: usize = 256;

/// Keys, and values if `VALUES`. All calls on one table take the same hasher.
#[derive(Clone, Default)]
pub struct Dense<const VALUES: bool> {
    /// None while empty, then 1, or [`PARTS`].
    parts: Vec<Arc<Part<VALUES>>>,
    len: usize,
    bytes: usize,
    /// Bytes of records, all parts together.
    record_bytes: usize,
    /// At least the length of the longest part.
    longest: usize,
}

/// A value to be stored.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Bytes to be copied.
    Copy(&'a [u8]),
    /// A buffer to be kept as it is, when it is long.
    Shared(&'a Bytes),
}

impl<'a> Content<'a> {
    /// The bytes.
    pub fn as_slice(self) -> &'a [u8] {
        match self {
            Content::Copy(bytes) => bytes,
            Content::Shared(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Content<'a> {
    fn from(bytes: &'a [u8]) -> Content<'a> {
        Content::Copy(bytes)
    }
}

/// Where an element stands, until the next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    part: u32,
    place: u32,
}

impl<const VALUES: bool> Dense<VALUES> {
    /// An empty table; takes nothing from the allocator.
    pub fn new() -> Self {
        Dense::default()
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it takes from the allocator, in bytes. What it shares with a clone counts for both.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes
    }

    /// Where a key stands.
    pub fn find(&self, hasher: &KeyHasher, key: &[u8]) -> Option<Spot> {
        self.find_hashed(hasher.hash(key), key)
    }

    #[inline]
    fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<Spot> {
        let part = self.part_of(hash);
        let place = self.parts.get(part)?.find(hash, key)?;
        Some(Spot {
            part: part as u32,
            place,
        })
    }

    /// Reads where these keys stand, all of them side by side: who looks for one after the other then finds it in the cache.
    pub fn warm(&self, hasher: &KeyHasher, keys: &[&[u8]]) {
        if self.len < WARM_MIN {
            return;
        }
        let hashes: SmallVec<[u64; WARMED]> = keys.iter().map(|key| hasher.hash(key)).collect();
        let mut found = SmallVec::<[(&Part<VALUES>, u32); WARMED]>::new();
        for hash in hashes {
            if let Some(part) = self.parts.get(self.part_of(hash)) {
                // None is the one: all that might be are noted.
                let _ = part.index.get(hash, |&place| {
                    found.push((part, place));
                    false
                });
            }
        }
        for (part, place) in found {
            std::hint::black_box(part.store.head(part.order[place as usize]));
        }
    }

    /// The key at a spot.
    pub fn key(&self, spot: Spot) -> &[u8] {
        self.parts[spot.part as usize].key(spot.place)
    }

    /// An element by the hash of its key alone: the first for which `choose` says yes.
    pub fn find_hash(
        &self,
        hasher: &KeyHasher,
        hash: u64,
        mut choose: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Option<Spot> {
        let number = self.part_of(hash);
        let part = self.parts.get(number)?;
        let place = part.index.get(hash, |&place| {
            let key = part.key(place);
            hasher.hash(key) == hash && choose(key, part.value(place))
        });
        Some(Spot {
            part: number as u32,
            place: *place?,
        })
    }

    /// The value at a spot; empty without values.
    pub fn value(&self, spot: Spot) -> &[u8] {
        self.parts[spot.part as usize].value(spot.place)
    }

    /// The value at a spot, when it is held in a buffer that a reply can share.
    pub fn shared_value(&self, spot: Spot) -> Option<&Bytes> {
        let part = &self.parts[spot.part as usize];
        part.store.shared_value(part.order[spot.place as usize])
    }

    /// Adds a key that is not there yet.
    pub fn insert_new(&mut self, hasher: &KeyHasher, key: &[u8], value: &[u8]) {
        self.insert_content(hasher, key, value.into());
    }

    /// As [`Dense::insert_new`].
    pub fn insert_content(&mut self, hasher: &KeyHasher, key: &[u8], value: Content<'_>) {
        self.insert_hashed(hasher, hasher.hash(key), key, value);
    }

    fn insert_hashed(&mut self, hasher: &KeyHasher, hash: u64, key: &[u8], value: Content<'_>) {
        if self.is_empty() {
            // Empty parts that a division left have nothing that would be worth keeping.
            *self = Dense::new();
            self.adopt(vec![Arc::default()]);
        }
        let part = self.part_of(hash);
        self.change(part, |part| {
            part.push(hasher, hash, key.into(), value.into());
        });
        self.longest = self.longest.max(self.parts[part].len());
        if self.parts.len() == 1
            && (self.len > DIVIDE_LEN || self.record_bytes > DIVIDE_BYTES && self.len > PARTS)
        {
            self.redistribute(hasher, PARTS);
        }
    }

    /// Adds a key if it is not there. Whether it was added.
    pub fn insert(&mut self, hasher: &KeyHasher, key: &[u8], value: &[u8]) -> bool {
        let hash = hasher.hash(key);
        let absent = self.find_hashed(hash, key).is_none();
        if absent {
            self.insert_hashed(hasher, hash, key, value.into());
        }
        absent
    }

    /// Gives the element at a spot another value. The spot stays valid.
    pub fn set_value(&mut self, spot: Spot, value: &[u8]) {
        self.set_content(spot, value.into());
    }

    /// As [`Dense::set_value`].
    pub fn set_content(&mut self, spot: Spot, value: Content<'_>) {
        self.change(spot.part as usize, |part| {
            part.set_value(spot.place, value.into())
        });
    }

    /// Removes a key. Whether it was there.
    pub fn remove(&mut self, hasher: &KeyHasher, key: &[u8]) -> bool {
        let found = self.find(hasher, key);
        if let Some(spot) = found {
            self.remove_at(hasher, spot);
        }
        found.is_some()
    }

    /// Removes the element at a spot; another one may move there.
    pub fn remove_at(&mut self, hasher: &KeyHasher, spot: Spot) {
        self.change(spot.part as usize, |part| part.remove(hasher, spot.place));
        if self.is_empty() {
            *self = Dense::new();
        } else if self.parts.len() > 1 && self.len <= MERGE_LEN && self.record_bytes <= MERGE_BYTES
        {
            self.redistribute(hasher, 1);
        }
    }

    /// The element with this number, in the order of [`Dense::iter`].
    pub fn at(&self, number: usize) -> Option<Spot> {
        let mut place = number;
        for (part, held) in self.parts.iter().enumerate() {
            if place < held.len() {
                return Some(Spot {
                    part: part as u32,
                    place: place as u32,
                });
            }
            place -= held.len();
        }
        None
    }

    /// Any element, each with the same chance.
    pub fn random(&self, rng: &Rng) -> Option<Spot> {
        if self.is_empty() {
            return None;
        }
        // A part with the same chance for each, then a place in the longest part: where it is not there, again. The
        // parts differ little, unless many elements were removed; after some attempts they are counted off.
        for _ in 0..8 {
            let part = rng.below(self.parts.len() as u64) as usize;
            let place = rng.below(self.longest as u64) as usize;
            if place < self.parts[part].len() {
                return Some(Spot {
                    part: part as u32,
                    place: place as u32,
                });
            }
        }
        self.at(rng.below(self.len as u64) as usize)
    }

    /// Key and value at a spot.
    pub fn pair(&self, spot: Spot) -> (&[u8], &[u8]) {
        let part = &self.parts[spot.part as usize];
        (part.key(spot.place), part.value(spot.place))
    }

    /// All spots, in the order of [`Dense::iter`].
    pub fn spots(&self) -> impl Iterator<Item = Spot> + '_ {
        self.parts
            .iter()
            .zip(0..)
            .flat_map(|(held, part)| (0..held.len() as u32).map(move |place| Spot { part, place }))
    }

    /// All keys and values, in no order that would mean anything.
    pub fn iter(&self) -> Entries<'_, VALUES> {
        Entries {
            parts: self.parts.iter(),
            store: None,
            offsets: [].iter(),
            left: self.len,
        }
    }

    /// Visits `count` different elements in random order, or all when there are no more, in the order of [`Dense::iter`].
    pub fn sample(&self, count: usize, rng: &Rng, mut visit: impl FnMut(Spot)) {
        if count >= self.len {
            self.spots().for_each(visit);
        } else if count > self.len / 3 {
            // Most draws would meet what was drawn before: shuffle as far as is needed.
            let mut spots: Vec<_> = self.spots().collect();
            for drawn in 0..count {
                let other = drawn + rng.below((spots.len() - drawn) as u64) as usize;
                spots.swap(drawn, other);
                visit(spots[drawn]);
            }
        } else {
            let mut seen = HashSet::with_capacity(count);
            while seen.len() < count {
                let spot = self.random(rng).expect("more than were drawn");
                if seen.insert(spot) {
                    visit(spot);
                }
            }
        }
    }

    /// Visits about `count` elements from `cursor` on (0 to begin) and returns the next cursor, 0 at the end; see the head of
    /// the file for what it promises. Any cursor will do; one that none of ours was starts somewhere.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(&'a [u8], &'a [u8]),
    ) -> u64 {
        let mut cursor = Cursor::read(cursor, self.parts.len());
        let mut left = count.max(1);
        while let Some(part) = self.parts.get(cursor.part) {
            let mut remaining = cursor.remaining.min(part.len());
            while remaining > 0 && left > 0 {
                remaining -= 1;
                left -= 1;
                visit(part.key(remaining as u32), part.value(remaining as u32));
            }
            if remaining > 0 {
                cursor.remaining = remaining;
                return cursor.write(self.parts.len());
            }
            cursor = Cursor {
                part: cursor.part + 1,
                remaining: WHOLE,
            };
            if left == 0 && cursor.part < self.parts.len() {
                return cursor.write(self.parts.len());
            }
        }
        0
    }

    /// The content, to be freed piece by piece.
    pub fn into_remains(self) -> Remains {
        let mut remains = Remains::default();
        for part in self.parts {
            let elements = part.len();
            remains.push(part, elements);
        }
        remains
    }

    #[inline]
    fn part_of(&self, hash: u64) -> usize {
        if self.parts.len() <= 1 {
            0
        } else {
            partition_of(hash, PARTS)
        }
    }

    /// Changes a part, copying it first if a snapshot holds it, and keeps the accounts.
    fn change<T>(&mut self, part: usize, change: impl FnOnce(&mut Part<VALUES>) -> T) -> T {
        let part = &mut self.parts[part];
        let (bytes, len, records) = part.account();
        let part = Arc::make_mut(part);
        let result = change(part);
        let (new_bytes, new_len, new_records) = part.account();
        self.bytes = self.bytes - bytes + new_bytes;
        self.len = self.len - len + new_len;
        self.record_bytes = self.record_bytes - records + new_records;
        result
    }

    /// Takes these parts, all empty, instead of what there is.
    fn adopt(&mut self, parts: Vec<Arc<Part<VALUES>>>) {
        let each: usize = parts.iter().map(|part| part.account().0).sum();
        *self = Dense {
            bytes: good_size(parts.capacity() * size_of::<Arc<Part<VALUES>>>()) + each,
            parts,
            ..Dense::default()
        };
    }

    /// Moves all elements into `count` new parts.
    fn redistribute(&mut self, hasher: &KeyHasher, count: usize) {
        let mut old = std::mem::take(self);
        self.adopt((0..count).map(|_| Arc::default()).collect());
        // An old part is freed before the next is read, so that merging does not hold everything twice.
        for part in old.parts.drain(..) {
            for &offset in &part.order {
                let (key, value) = part.store.cells(offset);
                let hash = hasher.hash(key.as_slice());
                let target = self.part_of(hash);
                self.change(target, |part| {
                    part.push(hasher, hash, key, value);
                });
            }
        }
        self.longest = self.parts.iter().map(|part| part.len()).max().unwrap_or(0);
    }

    /// The same accounts, by adding up.
    #[cfg(test)]
    pub(super) fn recount(&self) -> (usize, usize) {
        let parts = self.parts.iter();
        let spine = size_of::<Arc<Part<VALUES>>>() * self.parts.capacity();
        let spine = if spine == 0 { 0 } else { good_size(spine) };
        (
            spine + parts.clone().map(|part| part.recount()).sum::<usize>(),
            parts.map(|part| part.order.len()).sum(),
        )
    }
}

/// The place of a scan. In a divided table: bit 48, the part from bit 32, the remaining places; else the latter alone.
struct Cursor {
    part: usize,
    remaining: usize,
}

const DIVIDED: u64 = 1 << 48;
/// All places of a part, however many it has.
const WHOLE: usize = u32::MAX as usize;

impl Cursor {
    fn read(cursor: u64, parts: usize) -> Cursor {
        let divided = cursor & DIVIDED != 0;
        if cursor == 0 || divided != (parts > 1) {
            return Cursor {
                part: 0,
                remaining: WHOLE,
            };
        }
        Cursor {
            part: if divided {
                (cursor >> 32 & 0xffff) as usize
            } else {
                0
            },
            remaining: cursor as usize & WHOLE,
        }
    }

    fn write(&self, parts: usize) -> u64 {
        let mark = if parts > 1 { DIVIDED } else { 0 };
        mark | (self.part as u64) << 32 | self.remaining as u64
    }
}

/// Keys and values of a table.
#[derive(Clone)]
pub struct Entries<'a, const VALUES: bool> {
    parts: std::slice::Iter<'a, Arc<Part<VALUES>>>,
    store: Option<&'a Store<VALUES>>,
    offsets: std::slice::Iter<'a, u32>,
    left: usize,
}

impl<'a, const VALUES: bool> Iterator for Entries<'a, VALUES> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(&offset) = self.offsets.next() {
                let store = self.store?;
                self.left -= 1;
                return Some((store.key(offset), store.value(offset)));
            }
            let part = self.parts.next()?;
            self.store = Some(&part.store);
            self.offsets = part.order.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<const VALUES: bool> ExactSizeIterator for Entries<'_, VALUES> {}

#[derive(Clone, Default)]
struct Part<const VALUES: bool> {
    index: RawTable<u32>,
    /// Offsets of records.
    order: Vec<u32>,
    store: Store<VALUES>,
}

impl<const VALUES: bool> Part<VALUES> {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn key(&self, place: u32) -> &[u8] {
        self.store.key(self.order[place as usize])
    }

    fn value(&self, place: u32) -> &[u8] {
        self.store.value(self.order[place as usize])
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let found = self.index.get(hash, |&place| self.key(place) == key);
        found.copied()
    }

    /// Bytes taken from the allocator, elements, bytes of records.
    #[inline]
    fn account(&self) -> (usize, usize, usize) {
        let bytes = good_size(ARC_BYTES + size_of::<Self>())
            + table_bytes(&self.index)
            + vec_bytes(&self.order)
            + self.store.allocated_bytes();
        (bytes, self.order.len(), self.store.records.len())
    }

    fn push(&mut self, hasher: &KeyHasher, hash: u64, key: Cell<'_>, value: Cell<'_>) {
        let place = u32::try_from(self.order.len()).expect("a part has fewer than 2^32 elements");
        self.make_room(Store::<VALUES>::record_len(&key, &value));
        let offset = self.store.append(key, value);
        reserve(&mut self.order, 1);
        self.order.push(offset);
        let Part {
            index,
            order,
            store,
        } = self;
        index.insert_entry(hash, place, |&other| {
            hasher.hash(store.key(order[other as usize]))
        });
    }

    fn set_value(&mut self, place: u32, value: Cell<'_>) {
        let offset = self.order[place as usize];
        if let Some(value) = self.store.replace_value(offset, value) {
            let (key, _) = self.store.cells(offset);
            // The record is written again at the end; its key must be owned, since the records move.
            let key = key.into_owned();
            self.make_room(Store::<VALUES>::record_len(&key, &value));
            let old = self.order[place as usize];
            self.store.release(old);
            self.order[place as usize] = self.store.append(key, value);
        }
        self.tidy();
    }

    fn remove(&mut self, hasher: &KeyHasher, place: u32) {
        let hash = hasher.hash(self.key(place));
        let removed = self.index.remove_entry(hash, |&other| other == place);
        assert!(removed.is_some(), "every place is indexed");
        let last = self.order.len() as u32 - 1;
        if place != last {
            let hash = hasher.hash(self.key(last));
            let moved = self.index.get_mut(hash, |&other| other == last);
            *moved.expect("every place is indexed") = place;
        }
        let offset = self.order.swap_remove(place as usize);
        self.store.release(offset);
        self.tidy();
        self.give_back(hasher);
    }

    /// Room for a record of `bytes`: of holes if there are enough, else of the allocator.
    fn make_room(&mut self, bytes: usize) {
        let records = &self.store.records;
        if records.capacity() - records.len() >= bytes {
            return;
        }
        if self.store.holes > records.len() / 16 {
            self.compact(bytes);
        } else {
            reserve(&mut self.store.records, bytes);
        }
    }

    fn tidy(&mut self) {
        if self.store.holes > HOLES_MIN + self.store.records.len() / 4
            || self.store.large_is_sparse()
        {
            self.compact(0);
        }
    }

    /// Writes all records anew, with room for `bytes` more.
    fn compact(&mut self, bytes: usize) {
        let live = self.store.records.len() - self.store.holes;
        let mut fresh = Store::default();
        if live + bytes > 0 {
            reserve(&mut fresh.records, live + bytes);
        }
        for offset in &mut self.order {
            let (key, value) = self.store.cells(*offset);
            *offset = fresh.append(key, value);
        }
        self.store = fresh;
    }

    /// Gives back what a part that was longer needed.
    fn give_back(&mut self, hasher: &KeyHasher) {
        let len = self.order.len();
        if self.order.capacity() > 16 && len < self.order.capacity() / 2 {
            let capacity = good_size((len + len / 8).max(1) * size_of::<u32>()) / size_of::<u32>();
            self.order.shrink_to(capacity);
        }
        if self.index.buckets() > 16 && len < self.index.buckets() / 4 {
            let Part {
                index,
                order,
                store,
            } = self;
            index.shrink_to(len, |&place| hasher.hash(store.key(order[place as usize])));
        }
    }

    #[cfg(test)]
    fn recount(&self) -> usize {
        let live: usize = self
            .order
            .iter()
            .map(|&offset| self.store.record_size(offset))
            .sum();
        assert_eq!(live + self.store.holes, self.store.records.len(), "holes");
        let large = self.store.large.as_ref().map_or(0, |large| {
            let held: usize = large.slots.iter().map(store::bytes_of).sum();
            assert_eq!(held, large.bytes);
            let cells = self.order.iter().flat_map(|&offset| {
                let (key, value) = self.store.cells(offset);
                [key, value]
            });
            let used = cells.filter(|cell| matches!(cell, Cell::Large(_))).count();
            assert_eq!(used, large.slots.len() - large.free.len(), "slots");
            good_size(size_of::<store::Large>())
                + vec_bytes(&large.slots)
                + vec_bytes(&large.free)
                + held
        });
        good_size(ARC_BYTES + size_of::<Self>())
            + table_bytes(&self.index)
            + vec_bytes(&self.order)
            + vec_bytes(&self.store.records)
            + large
    }
}

/// Holes that are not worth a copy of the rest.
const HOLES_MIN: usize = 64;
/// The two counts of an `Arc`.
const ARC_BYTES: usize = 16;
/// Room for `more` elements, up to the end of the size class: a class is a seventh to a quarter larger than the one before.
pub(super) fn reserve<T>(vector: &mut Vec<T>, more: usize) {
    let needed = vector.len() + more;
    if needed > vector.capacity() {
        let capacity = good_size(needed * size_of::<T>()) / size_of::<T>();
        vector.reserve_exact(capacity - vector.len());
    }
}

/// What a vector takes from the allocator.
pub(super) fn vec_bytes<T>(vector: &Vec<T>) -> usize {
    if vector.capacity() == 0 {
        0
    } else {
        good_size(vector.capacity() * size_of::<T>())
    }
}

fn table_bytes(table: &RawTable<u32>) -> usize {
    match table.allocation_info().1.size() {
        0 => 0,
        bytes => good_size(bytes),
    }
}

mod store;
#[cfg(test)]
mod tests;
