//! One partition: a shard of dashmap's table, used single-threaded under its lock.
//!
//! The only file that names dashmap's shards. Everything above works with [`Partition`] and does not care what the table
//! is. The table holds 8 B per key (an [`Entry`]) and finds it by the key's hash; the counters of a partition stand beside
//! it as atomics that are written under its lock and may be read without.
//!
//! # Hash bits
//! The table takes its tag from the upper 7 bits of the hash and the home bucket from the lowest, so the partition is
//! chosen from 32 bits between ([`partition_of`](super::hash::partition_of)).
//!
//! # Why the partitions differ in size
//! A table doubles when it is 7/8 full. With equal shares all partitions would do so at about the same number of keys: a
//! spike, and 9 to 21 B per key depending on where between two doublings one happens to be. The shares are therefore spread
//! over one octave: at any number of keys the tables are between 7/16 and 7/8 full, evenly, about 14 B per key.
//!
//! # Order for SCAN
//! An open-addressing table moves entries when it grows, but an entry's home bucket is always `hash & mask`, and it stands
//! at most [`Counters::reach`] probe steps behind it. Sixteen homes make a block; block `b` of a table becomes blocks `b` and
//! `b + count` when it doubles. So blocks behave as the buckets of a chained table do, and the order of Pieter Noordhuis'
//! reverse-binary cursor (redis `dict.c`, `dictScan`) visits every key that is there throughout at least once.
//!
//! `unsafe` stands here for hashbrown's raw buckets: reading them by index is the only way to that order.

#![expect(unsafe_code, reason = "raw buckets of the table; see the file's head")]

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};

use dashmap::{RwLockWriteGuard, SharedValue};
use hashbrown::raw::{RawIntoIter, RawTable};

use super::entry::{Entry, TAG_PERIOD, TAG_UNIT_MS};
use super::hash::KeyHasher;
use crate::base::allocator::good_size;
use crate::base::clock::Millis;
use crate::base::rng::Rng;
use crate::data::value::{Collection, Type};

/// What dashmap's shards hold: the entry is the key and there is no value.
pub type Slot = (Entry, SharedValue<()>);

/// A table taken out of its partition, to be dropped elsewhere.
pub struct Detached(RawIntoIter<Slot>);

impl Detached {
    /// How many entries it still holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Detached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached")
            .field("len", &self.len())
            .finish()
    }
}

/// The probe sequence of the table advances by one more group of this many buckets at each step.
const GROUP: usize = 16;
/// The reach of a table that was rebuilt since it was last known.
const REACH_UNKNOWN: u32 = u32::MAX;
/// Buckets drawn for a random entry before the next full one is taken.
const RANDOM_DRAWS: usize = 64;
/// A table below this many buckets is never shrunk.
const SHRINK_MIN_BUCKETS: usize = 64;

/// Counters of one partition. Written under the partition's lock by plain load and store; read by anyone, for sums that
/// need no common instant. Relaxed, since they guard nothing.
#[derive(Debug)]
#[repr(align(64))]
pub struct Counters {
    /// Keys, expired ones included.
    len: AtomicU32,
    /// Keys with an expiry.
    expires: AtomicU32,
    /// Hashes with fields that expire.
    hashes: AtomicU32,
    /// Bytes of entries and table, by size class.
    bytes: AtomicI64,
    /// When active expiry last went through it, in milliseconds since the epoch.
    swept: AtomicI64,
    /// Longest probe of any entry, in steps; see the file's head.
    reach: AtomicU32,
    /// Address of the table's tags, and its bucket mask: where to fetch from ahead of a run. Never dereferenced.
    tags: AtomicUsize,
    mask: AtomicUsize,
}

impl Counters {
    /// Counters of an empty partition born at `now`.
    pub fn new(now: Millis) -> Counters {
        Counters {
            len: AtomicU32::new(0),
            expires: AtomicU32::new(0),
            hashes: AtomicU32::new(0),
            bytes: AtomicI64::new(0),
            swept: AtomicI64::new(now.0),
            reach: AtomicU32::new(0),
            tags: AtomicUsize::new(0),
            mask: AtomicUsize::new(0),
        }
    }

    /// Fetches into the cache where the table keeps a hash: its home's tags and slots.
    #[inline]
    pub(super) fn prefetch_home(&self, hash: u64) {
        let tags = self.tags.load(Ordering::Relaxed);
        let home = hash as usize & self.mask.load(Ordering::Relaxed);
        prefetch(tags.wrapping_add(home));
        prefetch(tags.wrapping_sub((home + 1) * size_of::<Slot>()));
    }

    /// Keys, expired ones that nobody has met yet included.
    #[expect(clippy::len_without_is_empty, reason = "a count, not a collection")]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Keys with an expiry.
    pub fn expires(&self) -> usize {
        self.expires.load(Ordering::Relaxed) as usize
    }

    /// Hashes with fields that expire.
    pub fn expiring_hashes(&self) -> usize {
        self.hashes.load(Ordering::Relaxed) as usize
    }

    /// Whether active expiry has anything to do.
    pub fn has_expiries(&self) -> bool {
        self.expires() + self.expiring_hashes() > 0
    }

    /// Bytes of entries and table.
    pub fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the table without the entries.
    pub fn table_bytes(&self) -> i64 {
        let buckets = self.mask.load(Ordering::Relaxed) + 1;
        if buckets == 1 {
            return 0;
        }
        // Slots, then a tag for each and for one group more (hashbrown's layout).
        let slots = (size_of::<Slot>() * buckets).next_multiple_of(GROUP);
        good_size(slots + buckets + GROUP) as i64
    }

    /// When active expiry last went through.
    pub fn swept(&self) -> Millis {
        Millis(self.swept.load(Ordering::Relaxed))
    }
}

/// A locked partition.
pub struct Partition<'a> {
    table: RwLockWriteGuard<'a, RawTable<Slot>>,
    counters: &'a Counters,
    hasher: &'a KeyHasher,
    /// Change of bytes since it was locked.
    bytes: i64,
}

impl<'a> Partition<'a> {
    pub(super) fn new(
        table: RwLockWriteGuard<'a, RawTable<Slot>>,
        counters: &'a Counters,
        hasher: &'a KeyHasher,
    ) -> Partition<'a> {
        Partition {
            table,
            counters,
            hasher,
            bytes: 0,
        }
    }

    /// Change of allocated bytes since the last call.
    pub fn take_bytes(&mut self) -> i64 {
        std::mem::take(&mut self.bytes)
    }

    /// The entry of a key, expired or not.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        let matches = |slot: &Slot| {
            // A short value ends here: it comes with the key instead of after it.
            prefetch(slot.0.address() + CACHE_LINE);
            slot.0.key() == key
        };
        self.table.get(hash, matches).map(|slot| &slot.0)
    }

    /// Fetches the entry of a hash into the cache, as far as it is nearly always read.
    #[inline]
    pub(super) fn prefetch_entry(&self, hash: u64) {
        // SAFETY: the iterator borrows the guard's table, which does not change meanwhile; it yields full buckets.
        for bucket in unsafe { self.table.iter_hash(hash) } {
            // SAFETY: as above.
            let address = unsafe { bucket.as_ref().0.address() };
            prefetch(address);
            prefetch(address + CACHE_LINE);
        }
    }

    /// Changes the entry of a key by `change`, with the accounts kept. `None` when there is no such key.
    #[inline]
    pub fn update<T>(
        &mut self,
        hash: u64,
        key: &[u8],
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        self.update_unless(hash, key, |_| None, change)
    }

    /// As [`Partition::update`], but what `settle` can do by itself needs no `change`: it changes neither what the entry takes
    /// nor whether it expires.
    #[inline]
    pub fn update_unless<T>(
        &mut self,
        hash: u64,
        key: &[u8],
        settle: impl FnOnce(&mut Entry) -> Option<T>,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let slot = self.table.get_mut(hash, |slot| slot.0.key() == key)?;
        if let Some(result) = settle(&mut slot.0) {
            due(self.counters, &slot.0);
            return Some(result);
        }
        let before = Share::of(&slot.0);
        let result = change(&mut slot.0);
        let after = Share::of(&slot.0);
        due(self.counters, &slot.0);
        self.changed(before, after);
        Some(result)
    }

    /// Lets `change` work on a key's collection, after `touch` has seen the entry, with the accounts kept. `None` when there is
    /// no such key; else what `change` gave and whether the collection is empty now, or `WrongType`.
    #[inline]
    pub fn edit<C: Collection, T>(
        &mut self,
        hash: u64,
        key: &[u8],
        touch: impl FnOnce(&Entry),
        change: impl FnOnce(&mut C) -> T,
    ) -> Option<Result<(T, bool), WrongType>> {
        let slot = self.table.get_mut(hash, |slot| slot.0.key() == key)?;
        let entry = &mut slot.0;
        if entry.kind() != C::TYPE {
            return Some(Err(WrongType));
        }
        touch(entry);
        // Nearly always a large collection is changed that was large before and stays so, and nothing expires: then
        // nothing but its own size is to be looked at.
        if entry.tag() == 0
            && let Some(collection) = entry.boxed_collection::<C>()
        {
            let before = collection.allocated_bytes();
            let result = change(collection);
            let after = collection.allocated_bytes();
            let (is_empty, is_small) = (collection.has_none(), collection.has_compact());
            if is_small || C::TYPE == Type::Hash && entry.next_field_expiry().is_some() {
                let unsettled = Share::of(entry);
                entry.settle_collection();
                let settled = Share::of(entry);
                due(self.counters, entry);
                self.changed(unsettled, settled);
            }
            if before != after {
                self.account(after as i64 - before as i64);
            }
            return Some(Ok((result, is_empty)));
        }
        let before = Share::of(entry);
        let result = entry.edit_collection(|value| C::of(value).map(change));
        let (is_empty, after) = (entry.value().is_empty(), Share::of(entry));
        due(self.counters, entry);
        self.changed(before, after);
        Some(
            result
                .flatten()
                .map(|result| (result, is_empty))
                .ok_or(WrongType),
        )
    }

    /// Adds an entry whose key is not there.
    pub fn insert(&mut self, hash: u64, entry: Entry) {
        debug_assert!(self.find(hash, entry.key()).is_none());
        let share = Share::of(&entry);
        due(self.counters, &entry);
        let rebuilt = Cell::new(false);
        let table_before = table_bytes(&self.table);
        let hasher = self.hasher;
        let bucket = self
            .table
            .insert(hash, (entry, SharedValue::new(())), |slot| {
                rebuilt.set(true);
                hasher.hash(slot.0.key())
            });
        // SAFETY: the bucket was just returned by this table.
        let index = unsafe { self.table.bucket_index(&bucket) };
        if rebuilt.get() {
            self.counters.reach.store(REACH_UNKNOWN, Ordering::Relaxed);
        } else {
            let steps = probe_steps(hash, index, self.table.buckets());
            if steps > self.counters.reach.load(Ordering::Relaxed) {
                self.counters.reach.store(steps, Ordering::Relaxed);
            }
        }
        self.moved();
        self.account(table_bytes(&self.table) - table_before);
        add(&self.counters.len, 1);
        self.changed(Share::default(), share);
    }

    /// Takes a key's entry out.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let (entry, _) = self.table.remove_entry(hash, |slot| slot.0.key() == key)?;
        self.removed(&entry);
        self.shrink();
        Some(entry)
    }

    /// Takes out the entry with this hash, whatever its key, if it is `eligible`.
    pub fn remove_by_hash(
        &mut self,
        hash: u64,
        eligible: impl Fn(&Entry) -> bool,
    ) -> Option<Entry> {
        let hasher = self.hasher;
        let matches = |slot: &Slot| hasher.hash(slot.0.key()) == hash && eligible(&slot.0);
        let (entry, _) = self.table.remove_entry(hash, matches)?;
        self.removed(&entry);
        self.shrink();
        Some(entry)
    }

    /// How many entries there are, expired ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// How many of them have an expiry.
    #[inline]
    pub fn expires(&self) -> usize {
        self.counters.expires()
    }

    /// How many hashes have fields that expire.
    #[inline]
    pub fn expiring_hashes(&self) -> usize {
        self.counters.expiring_hashes()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        // SAFETY: the iterator borrows the guard, so the table outlives it and does not change.
        unsafe { self.table.iter() }.map(|bucket| {
            // SAFETY: as above; the iterator yields full buckets only.
            unsafe { &bucket.as_ref().0 }
        })
    }

    /// Entries from a random place on, each once, at most `buckets` places looked at.
    pub fn from_random(&self, draw: u64, buckets: usize) -> impl Iterator<Item = &Entry> {
        let mask = self.table.buckets() - 1;
        let start = draw as usize & mask;
        let count = if self.table.is_empty() {
            0
        } else {
            buckets.min(mask + 1)
        };
        (0..count).filter_map(move |ahead| self.bucket((start + ahead) & mask))
    }

    /// An entry drawn evenly, expired or not; `None` when there is none.
    pub fn random(&self, rng: &Rng) -> Option<&Entry> {
        let mask = self.table.buckets() as u64 - 1;
        let drawn = (0..RANDOM_DRAWS).find_map(|_| self.bucket((rng.bits() & mask) as usize));
        // A table is at least an eighth full, or small: coming here is rare, and the bias of the first in line small.
        drawn.or_else(|| self.from_random(rng.bits(), usize::MAX).next())
    }

    /// Whether it has a table at all, with entries or without.
    pub(super) fn has_table(&self) -> bool {
        self.counters.bytes() != 0
    }

    /// Empties it at once; the content is the caller's to drop.
    pub fn detach(&mut self) -> Detached {
        self.account(-self.counters.bytes());
        self.counters.len.store(0, Ordering::Relaxed);
        self.counters.expires.store(0, Ordering::Relaxed);
        self.counters.hashes.store(0, Ordering::Relaxed);
        self.counters.reach.store(0, Ordering::Relaxed);
        let table = std::mem::replace(&mut *self.table, RawTable::new());
        self.moved();
        Detached(table.into_iter())
    }

    /// Calls `found` for every entry of the block that `cursor` names, and gives the next cursor; 0 after the last.
    ///
    /// `cursor` counts blocks in reverse-binary order; any value is safe.
    pub fn scan(&self, cursor: u64, mut found: impl FnMut(&Entry)) -> u64 {
        let buckets = self.table.buckets();
        if self.table.is_empty() {
            return 0;
        }
        let mask = buckets - 1;
        let block_mask = (buckets / GROUP).max(1) as u64 - 1;
        let block = cursor & block_mask;
        let reach = self.reach() as usize;
        let span = (2 * GROUP - 1 + GROUP * reach * (reach + 1) / 2).min(buckets);
        let first = block as usize * GROUP;
        for ahead in 0..span {
            if let Some(entry) = self.bucket((first + ahead) & mask) {
                let home = self.hasher.hash(entry.key()) as usize & mask;
                if block_mask == 0 || (home / GROUP) as u64 == block {
                    found(entry);
                }
            }
        }
        next_reversed(cursor, block_mask)
    }

    /// Removes what expired by `now`, at most `limit` keys and fields; each goes to `expired`. `true` when nothing is left
    /// over.
    ///
    /// Only entries whose coarse expiry lies between the last sweep and now are touched.
    pub fn sweep(
        &mut self,
        now: Millis,
        limit: usize,
        mut expired: impl FnMut(Expired<'_>),
    ) -> bool {
        if self.counters.has_expiries() {
            let due = DueTags::between(self.counters.swept(), now);
            let mut removed = 0;
            // SAFETY: the table is not resized while iterating; erasing a bucket that was already yielded is allowed
            // (it is how hashbrown's own retain works).
            for bucket in unsafe { self.table.iter() } {
                // SAFETY: the iterator yields full buckets; nothing else refers to this one.
                let entry = unsafe { &mut bucket.as_mut().0 };
                if !due.holds(entry.tag()) || entry.first_expiry().is_none_or(|at| at >= now) {
                    continue;
                }
                if removed == limit {
                    return false;
                }
                let is_expired = entry.is_expired(now);
                if is_expired {
                    removed += 1;
                } else {
                    let before = Share::of(entry);
                    let fields = entry.take_expired_fields(now, limit - removed, self.hasher);
                    removed += fields.len();
                    expired(Expired::Fields(entry.key(), &fields));
                    let is_left_over = entry.next_field_expiry().is_some_and(|at| at < now);
                    let (is_emptied, after) = (entry.value().is_empty(), Share::of(entry));
                    self.changed(before, after);
                    if is_left_over {
                        return false;
                    }
                    if !is_emptied {
                        continue;
                    }
                }
                // SAFETY: the bucket is full and belongs to this table.
                let ((entry, _), _) = unsafe { self.table.remove(bucket) };
                self.removed(&entry);
                expired(if is_expired {
                    Expired::Key(entry)
                } else {
                    Expired::Emptied(entry)
                });
            }
            self.shrink();
        }
        self.counters.swept.store(now.0, Ordering::Relaxed);
        true
    }

    fn bucket(&self, index: usize) -> Option<&Entry> {
        debug_assert!(index < self.table.buckets());
        // SAFETY: the index is below the number of buckets, and a full bucket is initialised.
        unsafe {
            self.table
                .is_bucket_full(index)
                .then(|| &self.table.bucket(index).as_ref().0)
        }
    }

    /// The longest probe; counted anew when the table was rebuilt.
    fn reach(&self) -> u32 {
        let known = self.counters.reach.load(Ordering::Relaxed);
        if known != REACH_UNKNOWN {
            return known;
        }
        let buckets = self.table.buckets();
        let reach = (0..buckets)
            .filter_map(|index| {
                Some(probe_steps(
                    self.hasher.hash(self.bucket(index)?.key()),
                    index,
                    buckets,
                ))
            })
            .max()
            .unwrap_or(0);
        self.counters.reach.store(reach, Ordering::Relaxed);
        reach
    }

    fn removed(&mut self, entry: &Entry) {
        add(&self.counters.len, -1);
        self.changed(Share::of(entry), Share::default());
    }

    /// Keeps the accounts of an entry that was one thing and is another.
    #[inline]
    fn changed(&mut self, before: Share, after: Share) {
        if before.bytes != after.bytes {
            self.account(after.bytes - before.bytes);
        }
        if before.hashes != after.hashes {
            add(&self.counters.hashes, after.hashes - before.hashes);
        }
        if before.expires != after.expires {
            add(&self.counters.expires, after.expires - before.expires);
        }
    }

    /// Gives memory back when an eighth or less of the buckets is in use.
    fn shrink(&mut self) {
        if self.table.buckets() < SHRINK_MIN_BUCKETS || self.table.len() * 8 > self.table.buckets()
        {
            return;
        }
        let before = table_bytes(&self.table);
        let hasher = self.hasher;
        let target = self.table.len() * 2;
        self.table
            .shrink_to(target, |slot| hasher.hash(slot.0.key()));
        self.counters.reach.store(REACH_UNKNOWN, Ordering::Relaxed);
        self.moved();
        self.account(table_bytes(&self.table) - before);
    }

    /// Tells where the table is, if it was moved.
    #[inline]
    fn moved(&self) {
        let tags = self.table.data_end().as_ptr().addr();
        if self.counters.tags.load(Ordering::Relaxed) != tags {
            self.counters.tags.store(tags, Ordering::Relaxed);
            self.counters
                .mask
                .store(self.table.buckets() - 1, Ordering::Relaxed);
        }
    }

    fn account(&mut self, bytes: i64) {
        self.bytes += bytes;
        self.counters
            .bytes
            .store(self.counters.bytes() + bytes, Ordering::Relaxed);
    }
}

/// What a sweep removed.
#[derive(Debug)]
pub enum Expired<'a> {
    /// A key.
    Key(Entry),
    /// Fields of the hash under this key.
    Fields(&'a [u8], &'a [Vec<u8>]),
    /// A hash whose last fields these were.
    Emptied(Entry),
}

/// The value of the key is no collection of the type that was to be changed.
#[derive(Clone, Copy, Debug)]
pub struct WrongType;

/// What an entry has in the accounts of its partition.
#[derive(Clone, Copy, Default)]
struct Share {
    bytes: i64,
    /// 1 or 0, as are the others.
    expires: i32,
    hashes: i32,
}

impl Share {
    #[inline]
    fn of(entry: &Entry) -> Share {
        Share {
            bytes: entry.allocated_bytes() as i64,
            expires: i32::from(entry.is_volatile()),
            hashes: i32::from(entry.tag() != 0 && entry.next_field_expiry().is_some()),
        }
    }
}

/// The coarse expiries that fell due between two instants.
struct DueTags {
    first: i64,
    steps: i64,
}

impl DueTags {
    fn between(from: Millis, to: Millis) -> DueTags {
        let first = from.0.div_euclid(TAG_UNIT_MS);
        let steps = to.0.div_euclid(TAG_UNIT_MS) - first;
        DueTags {
            first: first.rem_euclid(TAG_PERIOD),
            steps,
        }
    }

    fn holds(&self, tag: u16) -> bool {
        tag != 0 && (i64::from(tag) - 1 - self.first).rem_euclid(TAG_PERIOD) <= self.steps
    }
}

/// Bytes that the processor fetches at once.
pub(super) const CACHE_LINE: usize = 64;

/// Asks the processor to fetch a line into its cache. Any address is safe: nothing is read.
#[inline]
pub(super) fn prefetch(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch faults on no address and changes nothing but the cache.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) }
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = address;
}

fn table_bytes(table: &RawTable<Slot>) -> i64 {
    let (_, layout) = table.allocation_info();
    if layout.size() == 0 {
        0
    } else {
        good_size(layout.size()) as i64
    }
}

fn add(counter: &AtomicU32, change: i32) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add_signed(change),
        Ordering::Relaxed,
    );
}

/// Lets the next sweep look back as far as an entry that is due already (SET with a past EXAT, a sweep whose clock was
/// ahead of the run's): it looks only at what fell due since the last one, and would meet such an entry hours later.
#[inline]
fn due(counters: &Counters, entry: &Entry) {
    if entry.tag() != 0
        && let Some(at) = entry.first_expiry().filter(|at| *at < counters.swept())
    {
        counters.swept.store(at.0, Ordering::Relaxed);
    }
}

/// How many groups behind its home an entry stands.
fn probe_steps(hash: u64, index: usize, buckets: usize) -> u32 {
    let mask = buckets - 1;
    let distance = index.wrapping_sub(hash as usize) & mask;
    if distance < GROUP || buckets <= GROUP {
        return 0;
    }
    let mut steps = 0;
    let mut offset = 0;
    while steps <= buckets / GROUP {
        if distance.wrapping_sub(offset) & mask < GROUP {
            return steps as u32;
        }
        steps += 1;
        offset = offset.wrapping_add(steps * GROUP);
    }
    (buckets / GROUP) as u32
}

/// The cursor after `cursor` in reverse-binary order under `mask`; 0 after the last.
fn next_reversed(cursor: u64, mask: u64) -> u64 {
    ((cursor | !mask).reverse_bits().wrapping_add(1)).reverse_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_visits_every_block_once_and_ends_at_zero() {
        let mut cursor = 0;
        let mut seen = Vec::new();
        loop {
            seen.push(cursor);
            cursor = next_reversed(cursor, 7);
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen, [0, 4, 2, 6, 1, 5, 3, 7]);
    }

    #[test]
    fn the_bytes_of_a_table_are_known_from_outside() {
        let hasher = KeyHasher::with_key(1, 2);
        let counters = Counters::new(Millis(0));
        let table = dashmap::RwLock::new(RawTable::new());
        let mut partition = Partition::new(table.write(), &counters, &hasher);
        assert_eq!(counters.table_bytes(), 0);
        for number in 0..1000u32 {
            let key = number.to_le_bytes();
            let entry = Entry::new(&key, super::super::entry::NewValue::Copy(b""), None, false);
            partition.insert(hasher.hash(&key), entry);
            assert_eq!(counters.table_bytes(), table_bytes(&partition.table));
        }
        drop(partition.detach());
        assert_eq!(counters.table_bytes(), 0);
    }

    #[test]
    fn due_tags_hold_what_expires_between_and_little_else() {
        let start = Millis(1_700_000_000_000);
        let due = DueTags::between(start, start.plus(1000));
        for offset in 0..=1000 {
            assert!(due.holds(super::super::entry::expiry_tag(start.plus(offset))));
        }
        assert!(!due.holds(super::super::entry::expiry_tag(
            start.plus(1000 + 2 * TAG_UNIT_MS)
        )));
        assert!(!due.holds(super::super::entry::expiry_tag(
            start.plus(-2 * TAG_UNIT_MS)
        )));
        assert!(!due.holds(0));
        let long = DueTags::between(start, start.plus(TAG_UNIT_MS * TAG_PERIOD));
        assert!((1..=u16::MAX).all(|tag| long.holds(tag)));
    }
}

#[cfg(test)]
mod properties;
