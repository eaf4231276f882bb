//! What happens to whole databases at one instant: FLUSHDB, FLUSHALL, SWAPDB.
//!
//! All partitions of the databases are held together, about 20 ns for each, and what is done to each is a few words: a
//! table is taken out, or a number is exchanged. Done partition by partition instead, half of a database would be seen
//! emptied, a SWAPDB in between would bring the other half of another database before the flush, and no place in the
//! journal would be right: a write to a partition behind the flush comes after it, one to a partition before it is lost.
//! The record is appended while all are held, so the journal has it where it happened for every key.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::effects::Effects;
use super::hash::partition_of;
use super::lock::{Held, Leave, Locked, Place, lock_more, lock_whole, position};
use super::partition::{Detached, Partition};
use super::{Database, Keyspace, PARTITIONS};

impl Keyspace {
    /// Empties a database. The content is the caller's to drop; followers are told `command`.
    pub fn flush(&self, database: u32, command: &[&[u8]], effects: &mut Effects) -> Vec<Detached> {
        let _leave = self.wait_for_leave();
        let _mapping = self.mapping_lock.lock();
        self.flush_those(
            database,
            self.database_if_built(database).into_iter(),
            command,
            effects,
        )
    }

    /// Empties all databases, as [`Keyspace::flush`] does one. `database` is the one of the client.
    pub fn flush_all(
        &self,
        database: u32,
        command: &[&[u8]],
        effects: &mut Effects,
    ) -> Vec<Detached> {
        let _leave = self.wait_for_leave();
        let _mapping = self.mapping_lock.lock();
        let built = self.databases.iter().filter_map(|one| one.get());
        self.flush_those(database, built, command, effects)
    }

    fn flush_those<'k>(
        &'k self,
        number: u32,
        databases: impl Iterator<Item = &'k Database>,
        command: &[&[u8]],
        effects: &mut Effects,
    ) -> Vec<Detached> {
        let databases: Vec<_> = databases.collect();
        let mut partitions = lock_whole(self, databases.iter().copied());
        self.listeners.touch_those(|database, key| {
            let hash = self.hasher.hash(key);
            let place = partition_of(hash, PARTITIONS);
            let own = self.database_if_built(database);
            let index =
                own.and_then(|own| databases.iter().position(|one| std::ptr::eq(*one, own)));
            index.is_some_and(|index| {
                partitions[index * PARTITIONS + place]
                    .find(hash, key)
                    .is_some()
            })
        });
        let content = detach_all(partitions.iter_mut(), effects);
        self.tell_all_readers(
            |waited| databases.iter().any(|one| self.is_built_as(waited, one)),
            effects,
        );
        effects.flush();
        // Told even when nothing was there: a follower may hold keys that we do not.
        effects.propagate(number, command);
        effects.append(&self.listeners);
        content
    }

    /// Exchanges two databases for all clients, and tells followers so. Runs that hold partitions end before.
    pub fn swap(&self, first: u32, second: u32, effects: &mut Effects) {
        let _leave = self.wait_for_leave();
        let _mapping = self.mapping_lock.lock();
        let (a, b) = (self.physical(first), self.physical(second));
        let order = if a == b {
            vec![a]
        } else {
            vec![a.min(b), a.max(b)]
        };
        // What is not built yet holds no key, and is not built while the mapping is held.
        let built = order
            .iter()
            .filter_map(|number| self.databases[*number].get());
        let databases: Vec<_> = built.collect();
        let partitions = lock_whole(self, databases.iter().copied());
        // Who watches a key of either is told when one of them has it.
        self.listeners.touch_those(|database, key| {
            let hash = self.hasher.hash(key);
            let place = partition_of(hash, PARTITIONS);
            (database == first || database == second)
                && (0..databases.len()).any(|index| {
                    partitions[index * PARTITIONS + place]
                        .find(hash, key)
                        .is_some()
                })
        });
        self.exchange(first, second, effects);
        effects.append(&self.listeners);
    }

    /// The same while everything is locked by the caller.
    pub fn swap_within<'k>(
        &'k self,
        first: u32,
        second: u32,
        everything: &mut Locked<'k>,
        effects: &mut Effects,
    ) {
        // What comes after it in the transaction may need either.
        for number in [first, second] {
            self.build_locked(number, everything);
        }
        self.listeners.touch_those(|database, key| {
            (database == first || database == second)
                && [first, second]
                    .iter()
                    .any(|number| self.has(everything, *number, key))
        });
        self.exchange(first, second, effects);
        for held in everything.iter_mut() {
            held.place.database = match held.place.database {
                number if number == first => second,
                number if number == second => first,
                other => other,
            };
        }
        everything.sort_unstable_by_key(|held| held.place);
    }

    /// Builds a database unless it is there, and locks it beside everything else, which is locked by the caller.
    fn build_locked<'k>(&'k self, number: u32, everything: &mut Locked<'k>) {
        if self.database_if_built(number).is_some() {
            return;
        }
        let database = self.build_within(self.physical(number));
        let partitions = lock_whole(self, [database].into_iter());
        everything.extend((0..).zip(partitions).map(|(place, partition)| Held {
            place: Place {
                database: number,
                partition: place,
            },
            partition,
        }));
        everything.sort_unstable_by_key(|held| held.place);
    }

    /// Empties a database, or all of them, while everything is locked by the caller.
    pub fn flush_within(
        &self,
        which: Flushed,
        everything: &mut Locked<'_>,
        command: &[&[u8]],
        effects: &mut Effects,
    ) -> Vec<Detached> {
        let is_flushed = |number: u32| match which {
            Flushed::One(one) => one == number,
            Flushed::All { .. } => true,
        };
        self.listeners.touch_those(|database, key| {
            is_flushed(database) && self.has(everything, database, key)
        });
        let partitions = everything
            .iter_mut()
            .filter(|held| is_flushed(held.place.database))
            .map(|held| &mut held.partition);
        let content = detach_all(partitions, effects);
        self.tell_all_readers(is_flushed, effects);
        effects.flush();
        let (Flushed::One(number) | Flushed::All { asker: number }) = which;
        effects.propagate(number, command);
        content
    }

    /// Lets those who wait for keys of some databases look again: readers of groups are refused when their stream is gone.
    fn tell_all_readers(&self, is_flushed: impl Fn(u32) -> bool, effects: &mut Effects) {
        if !self.waiting.any() {
            return;
        }
        let all = 0..self.databases.len() as u32;
        for database in all.filter(|number| is_flushed(*number)) {
            for key in self.waiting.keys_of(database) {
                effects.ready(database, &key);
            }
        }
    }

    /// Whether a number stands for this database.
    fn is_built_as(&self, number: u32, database: &Database) -> bool {
        let own = self.database_if_built(number);
        own.is_some_and(|own| std::ptr::eq(own, database))
    }

    /// Keeps databases from being built and exchanged. Partitions may be held: while somebody has the leave, nobody else
    /// holds the mapping and waits for a partition.
    pub fn hold_mapping(&self, _leave: &Leave<'_>) -> Mapping<'_> {
        Mapping(self.mapping_lock.lock())
    }

    /// Locks all partitions of all databases there are, beside those that are held.
    pub fn lock_rest<'k>(
        &'k self,
        locked: &mut Locked<'k>,
        leave: &Leave<'_>,
        mapping: &Mapping<'_>,
    ) {
        let places: Vec<Place> = self
            .built()
            .flat_map(|(database, _)| {
                (0..PARTITIONS as u32).map(move |partition| Place {
                    database,
                    partition,
                })
            })
            .collect();
        lock_more(self, locked, places.into_iter(), leave, Some(mapping));
    }

    fn has(&self, everything: &Locked<'_>, database: u32, key: &[u8]) -> bool {
        let hash = self.hasher.hash(key);
        let place = self.place(database, hash);
        let found = position(everything, place);
        found.is_some_and(|index| everything[index].partition.find(hash, key).is_some())
    }

    /// The exchange itself: the mapping and all partitions of both are held.
    fn exchange(&self, first: u32, second: u32, effects: &mut Effects) {
        let (a, b) = (self.physical(first), self.physical(second));
        self.version.fetch_add(1, Ordering::SeqCst);
        self.mapping[first as usize].store(b as u32, Ordering::SeqCst);
        self.mapping[second as usize].store(a as u32, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
        effects.dirty += 1;
        self.listeners.departing.lose();
        for database in [first, second] {
            for key in self.waiting.keys_of(database) {
                effects.ready(database, &key);
            }
        }
        let mut digits = (itoa::Buffer::new(), itoa::Buffer::new());
        effects.propagate(
            0,
            &[
                b"SWAPDB",
                digits.0.format(first).as_bytes(),
                digits.1.format(second).as_bytes(),
            ],
        );
    }
}

/// The mapping of databases, held.
pub struct Mapping<'k>(
    #[expect(dead_code, reason = "what it is worth is to be held")] MutexGuard<'k, ()>,
);

/// What a flush inside a transaction empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// This database.
    One(u32),
    /// All of them.
    All {
        /// The database of the client that asks.
        asker: u32,
    },
}

/// Takes the content out of partitions.
fn detach_all<'p, 'k: 'p>(
    partitions: impl Iterator<Item = &'p mut Partition<'k>>,
    effects: &mut Effects,
) -> Vec<Detached> {
    let mut content = Vec::new();
    for partition in partitions {
        // A table without entries takes memory too.
        if partition.has_table() {
            let detached = partition.detach();
            effects.dirty += detached.len() as u64;
            effects.bytes += partition.take_bytes();
            content.push(detached);
        }
    }
    content
}

#[cfg(test)]
mod tests;
