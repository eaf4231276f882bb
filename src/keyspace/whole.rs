//! What happens to whole databases at one instant: FLUSHDB, FLUSHALL, SWAPDB.
//!
//! All partitions of the databases are held together, about 20 ns for each, and what is done to each is a few words: a
//! table is taken out, or a number is exchanged. Done partition by partition instead, half of a database would be seen
//! emptied, a SWAPDB in between would bring the other half of another database before the flush, and no place in the
//! journal would be right: a write to a partition behind the flush comes after it, one to a partition before it is lost.
//! The record is appended while all are held, so the journal has it where it happened for every key.

use std::sync::atomic::Ordering;

use super::effects::Effects;
use super::lock::lock_whole;
use super::partition::Detached;
use super::{Database, Keyspace};

impl Keyspace {
    /// Empties a database. The content is the caller's to drop; followers are told `command`.
    pub fn flush(&self, database: u32, command: &[&[u8]], effects: &mut Effects) -> Vec<Detached> {
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
        let mut partitions = lock_whole(self, databases);
        let mut content = Vec::new();
        for partition in &mut partitions {
            // A table without entries takes memory too.
            if partition.has_table() {
                let detached = partition.detach();
                effects.dirty += detached.len() as u64;
                effects.bytes += partition.take_bytes();
                content.push(detached);
            }
        }
        // Told even when nothing was there: a follower may hold keys that we do not.
        effects.propagate(number, command);
        effects.append(&self.listeners);
        content
    }

    /// Exchanges two databases for all clients, and tells followers so. Runs that hold partitions end before.
    pub fn swap(&self, first: u32, second: u32, effects: &mut Effects) {
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
        let _partitions = lock_whole(self, built);
        self.version.fetch_add(1, Ordering::SeqCst);
        self.mapping[first as usize].store(b as u32, Ordering::SeqCst);
        self.mapping[second as usize].store(a as u32, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
        effects.dirty += 1;
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
        effects.append(&self.listeners);
    }
}

#[cfg(test)]
mod tests;
