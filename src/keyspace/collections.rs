//! What a [`View`] does with collections: typed reads, changes in place, whole results.
//!
//! A change is a closure on the collection, so that a small one can be unpacked before it and packed again after it. A
//! collection that a change leaves empty reads as absent from then on; the key goes at the end of the command, or where the
//! handler says ([`View::remove_emptied`]), so that its `del` event comes after the event of the change.

use std::sync::Arc;

use super::effects::EventClass;
use super::entry::Entry;
use super::partition::WrongType;
use super::view::{Ttl, View};
use super::waiting::Waiter;
use crate::base::clock::Millis;
use crate::base::worker::give_worker_away;
use crate::data::hash::{Hash, HashRef};
use crate::data::list::{List, ListRef};
use crate::data::set::{Set, SetRef};
use crate::data::stream::Stream;
use crate::data::value::{Collection, Type, Value};
use crate::data::zset::{ZSet, ZSetRef};
use crate::table::CommandError;

/// Elements from which the worker's other connections are given away first: about 50 us of work.
const HEAVY_ELEMENTS: usize = 2_000;

/// Expired fields that a change removes beside those that it names; the rest is left to active expiry.
const FIELDS_PER_CHANGE: usize = 128;

/// What a change does about a key that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Works on an empty collection, which becomes the key's unless it is left empty.
    Create,
    /// Nothing.
    Skip,
}

type Found<T> = Result<Option<T>, CommandError>;

impl View<'_> {
    /// A key's list, counted and touched. `None` when there is no such key; so do the others.
    #[inline]
    pub fn list(&self, key: &[u8]) -> Found<ListRef<'_>> {
        typed::<List>(self.lookup(key))
    }

    /// A key's set.
    #[inline]
    pub fn set_members(&self, key: &[u8]) -> Found<SetRef<'_>> {
        typed::<Set>(self.lookup(key))
    }

    /// A key's sorted set.
    #[inline]
    pub fn zset(&self, key: &[u8]) -> Found<ZSetRef<'_>> {
        typed::<ZSet>(self.lookup(key))
    }

    /// A key's hash.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Found<HashRef<'_>> {
        typed::<Hash>(self.lookup(key))
    }

    /// A key's stream.
    #[inline]
    pub fn stream(&self, key: &[u8]) -> Found<&Stream> {
        typed::<Stream>(self.lookup(key))
    }

    /// A key's list before a change: neither counted nor touched, which the change does. So are the others.
    #[inline]
    pub fn list_for_write(&self, key: &[u8]) -> Found<ListRef<'_>> {
        typed::<List>(self.peek(key))
    }

    /// A key's set before a change.
    #[inline]
    pub fn set_for_write(&self, key: &[u8]) -> Found<SetRef<'_>> {
        typed::<Set>(self.peek(key))
    }

    /// A key's sorted set before a change.
    #[inline]
    pub fn zset_for_write(&self, key: &[u8]) -> Found<ZSetRef<'_>> {
        typed::<ZSet>(self.peek(key))
    }

    /// A key's hash before a change.
    #[inline]
    pub fn hash_for_write(&self, key: &[u8]) -> Found<HashRef<'_>> {
        typed::<Hash>(self.peek(key))
    }

    /// A key's stream before a change.
    #[inline]
    pub fn stream_for_write(&self, key: &[u8]) -> Found<&Stream> {
        typed::<Stream>(self.peek(key))
    }

    /// Lets `change` work on a key's list. `None` when the key is missing and was not to be created. The handler counts the
    /// changes (`effects.dirty`) and reports the events; so it is with the others.
    #[inline]
    pub fn edit_list<T>(
        &mut self,
        key: &[u8],
        missing: Missing,
        change: impl FnOnce(&mut List) -> T,
    ) -> Found<T> {
        self.edit_collection(key, missing, change)
    }

    /// Lets `change` work on a key's set.
    #[inline]
    pub fn edit_set<T>(
        &mut self,
        key: &[u8],
        missing: Missing,
        change: impl FnOnce(&mut Set) -> T,
    ) -> Found<T> {
        self.edit_collection(key, missing, change)
    }

    /// Lets `change` work on a key's sorted set.
    #[inline]
    pub fn edit_zset<T>(
        &mut self,
        key: &[u8],
        missing: Missing,
        change: impl FnOnce(&mut ZSet) -> T,
    ) -> Found<T> {
        self.edit_collection(key, missing, change)
    }

    /// Lets `change` work on a key's hash.
    #[inline]
    pub fn edit_hash<T>(
        &mut self,
        key: &[u8],
        missing: Missing,
        change: impl FnOnce(&mut Hash) -> T,
    ) -> Found<T> {
        self.edit_collection(key, missing, change)
    }

    /// Lets `change` work on a key's stream, which stays when it has no entries. Who waits for it is told by
    /// [`View::tell_readers`].
    #[inline]
    pub fn edit_stream<T>(
        &mut self,
        key: &[u8],
        missing: Missing,
        change: impl FnOnce(&mut Stream) -> T,
    ) -> Found<T> {
        self.edit_collection(key, missing, change)
    }

    /// Tells those who wait for a stream that it has new entries, or lost a group.
    #[inline]
    pub fn tell_readers(&mut self, key: &[u8]) {
        self.ready(Type::Stream, key);
    }

    fn edit_collection<C: Collection, T>(
        &mut self,
        key: &[u8],
        missing: Missing,
        change: impl FnOnce(&mut C) -> T,
    ) -> Found<T> {
        let hash = self.hash_of(key);
        if self.emptied.is_empty() || self.emptied(hash, key).is_none() {
            self.purge(hash, key);
        }
        let run = self.run;
        let Some(partition) = self.partition_mut(hash) else {
            return Ok(None);
        };
        // Only one of the two calls below takes it.
        let mut change = Some(change);
        let touch = |entry: &Entry| {
            if run.touch {
                run.move_access(entry);
            }
        };
        let edited = partition.edit(hash, key, touch, |collection| {
            change.take().map(|change| change(collection))
        });
        match edited {
            Some(Err(WrongType)) => Err(CommandError::WrongType),
            Some(Ok((result, is_empty))) => {
                if is_empty || !self.emptied.is_empty() {
                    self.note_emptied(hash, key, is_empty);
                }
                self.effects.touch(self.database, key);
                Ok(result)
            }
            None if missing == Missing::Skip => Ok(None),
            None => {
                let mut fresh = C::default();
                let result = change.take().map(|change| change(&mut fresh));
                let value = fresh.into_value();
                if !value.is_empty() {
                    self.insert_collection(hash, key, value, None);
                }
                Ok(result)
            }
        }
    }

    /// Removes fields of a hash that have expired, as a change does first: those that are named, and some of the others. A
    /// hash left empty goes at once. What else is wrong with the key is not looked at.
    pub fn expire_fields<'f>(
        &mut self,
        key: &[u8],
        named: impl Iterator<Item = &'f [u8]>,
    ) -> Result<(), CommandError> {
        let partition = self.partition(self.hash_of(key));
        if partition.is_none_or(|partition| partition.expiring_hashes() == 0) {
            return Ok(());
        }
        let (now, hasher) = (self.now(), self.hasher());
        let has_expired = |at: Option<Millis>| at.is_some_and(|at| at < now);
        let next = self.peek(key).and_then(Entry::next_field_expiry);
        if !has_expired(next) {
            return Ok(());
        }
        let removed = self.edit_hash(key, Missing::Skip, |hash| {
            let mut removed = Vec::new();
            hash.take_expired(now, FIELDS_PER_CHANGE, hasher, |field| {
                removed.push(field.to_vec());
            });
            for field in named {
                if has_expired(hash.view().expiry(field, hasher).flatten()) {
                    hash.remove(field, hasher);
                    removed.push(field.to_vec());
                }
            }
            removed
        })?;
        let removed = removed.unwrap_or_default();
        self.effects.expire_fields(self.database(), key, &removed);
        self.remove_emptied(key);
        Ok(())
    }

    /// Sets a key to a collection, whatever was there. An empty one is not stored: the key is removed. Counts one change.
    /// Returns whether the key is there now.
    pub fn store(&mut self, key: &[u8], value: Value, ttl: Ttl) -> bool {
        if value.is_empty() {
            self.remove(key);
            return false;
        }
        let hash = self.hash_of(key);
        self.purge(hash, key);
        self.effects.dirty += 1;
        let run = self.run;
        self.effects.touch(self.database, key);
        let kind = value.kind();
        let Some(partition) = self.partition_mut(hash) else {
            return false;
        };
        let mut value = Some(value);
        let mut replaced = kind;
        let updated = partition.update(hash, key, |entry| {
            replaced = entry.kind();
            run.move_access(entry);
            match ttl {
                Ttl::Keep => {}
                Ttl::Clear => entry.set_expiry(None),
                Ttl::At(at) => entry.set_expiry(Some(at)),
            }
            value.take().and_then(|value| entry.set_collection(value))
        });
        match (updated, value) {
            (None, Some(value)) => {
                let expiry = if let Ttl::At(at) = ttl {
                    Some(at)
                } else {
                    None
                };
                self.insert_collection(hash, key, value, expiry);
            }
            (garbage, _) => {
                self.effects.discard(garbage.flatten());
                self.gone(replaced, key);
                self.ready(kind, key);
            }
        }
        true
    }

    /// Removes a key whose collection a change left empty, and reports it.
    pub fn remove_emptied(&mut self, key: &[u8]) {
        let hash = self.hash_of(key);
        if let Some(index) = self.emptied(hash, key) {
            let (database, ..) = self.emptied.swap_remove(index);
            self.within(database, |view| view.drop_emptied(hash, key));
        }
    }

    /// Lets a client wait for its keys, which are locked.
    pub fn wait_for(&self, waiter: Waiter) -> Arc<Waiter> {
        let waiter = Arc::new(waiter);
        self.keyspace.waiting.add(&waiter);
        waiter
    }

    /// Does what takes long with a collection of so many elements: the worker's other connections go to another worker
    /// first. The partitions stay locked.
    pub fn heavy<T>(&mut self, elements: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        if elements > HEAVY_ELEMENTS {
            give_worker_away(|| work(self))
        } else {
            work(self)
        }
    }

    /// As [`View::heavy`], for what only reads.
    pub fn heavy_read<T>(&self, elements: usize, work: impl FnOnce() -> T) -> T {
        if elements > HEAVY_ELEMENTS {
            give_worker_away(work)
        } else {
            work()
        }
    }

    pub(super) fn remove_all_emptied(&mut self) {
        for (database, hash, key) in std::mem::take(&mut self.emptied) {
            self.within(database, |view| view.drop_emptied(hash, &key));
        }
    }

    /// The place of a key among those that were left empty.
    pub(super) fn emptied(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.emptied
            .iter()
            .position(|(database, its_hash, its_key)| {
                *database == self.database && *its_hash == hash && its_key == key
            })
    }

    /// Tells those who wait for a key that it may be what they wait for.
    #[inline]
    pub(super) fn ready(&mut self, kind: Type, key: &[u8]) {
        if kind.can_be_waited_for() && self.keyspace.waiting.any() {
            self.effects.ready(self.database, key);
        }
    }

    /// Tells readers of a stream that it is gone: they are refused.
    #[inline]
    pub(super) fn gone(&mut self, kind: Type, key: &[u8]) {
        if kind == Type::Stream {
            self.ready(kind, key);
        }
    }

    fn insert_collection(&mut self, hash: u64, key: &[u8], value: Value, expiry: Option<Millis>) {
        self.effects.touch(self.database, key);
        let kind = value.kind();
        let entry = Entry::collection(key, value, expiry);
        entry.set_access(self.run.rules.first_access(self.run.now));
        if let Some(partition) = self.partition_mut(hash) {
            partition.insert(hash, entry);
        }
        self.notify(EventClass::NEW, "new", key);
        self.ready(kind, key);
    }

    fn note_emptied(&mut self, hash: u64, key: &[u8], is_empty: bool) {
        match self.emptied(hash, key) {
            None if is_empty => self.emptied.push((self.database, hash, key.to_vec())),
            Some(index) if !is_empty => {
                self.emptied.swap_remove(index);
            }
            _ => {}
        }
    }

    fn drop_emptied(&mut self, hash: u64, key: &[u8]) {
        let removed = self
            .partition_mut(hash)
            .and_then(|partition| partition.remove(hash, key));
        if let Some(entry) = removed {
            debug_assert!(entry.value().is_empty());
            self.effects.empty(self.database(), entry);
        }
    }
}

#[inline]
fn typed<C: Collection>(found: Option<&Entry>) -> Found<C::Ref<'_>> {
    let Some(entry) = found else {
        return Ok(None);
    };
    if entry.kind() != C::TYPE {
        return Err(CommandError::WrongType);
    }
    Ok(C::of_ref(entry.value()))
}
