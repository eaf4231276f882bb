//! What a view needs to take back its changes: a script may have to begin again with more locks.
//!
//! Before the first change of a key its entry is copied; what it shares with others (large values) stays shared. To take
//! the changes back is to put the copies in place of what is there, and to forget the effects noted since. What was found
//! expired stays removed.

use super::effects::Mark;
use super::entry::Entry;
use super::view::View;
use crate::data::value::{Type, ValueRef};

/// Keys from which it is dearer to keep copies than to begin again.
const MOST_KEYS: usize = 64;
/// Bytes of an entry from which a copy is too dear: some microseconds.
const HEAVY_BYTES: usize = 16 * 1024;
/// The same for a collection, in elements.
const HEAVY_ELEMENTS: usize = 256;

/// The entries as they were. Empty, its memory serves the next view.
#[derive(Default)]
pub struct Undo {
    saved: Vec<Saved>,
    effects: Mark,
}

struct Saved {
    database: u32,
    hash: u64,
    was: Was,
}

/// What there was of a key.
enum Was {
    /// Its entry.
    There(Entry),
    /// No such key.
    Missing(Vec<u8>),
}

impl Saved {
    fn key(&self) -> &[u8] {
        match &self.was {
            Was::There(entry) => entry.key(),
            Was::Missing(key) => key,
        }
    }
}

impl View<'_> {
    /// Keeps from here on what [`View::undo`] needs, in `empty`.
    pub fn keep_undo(&mut self, mut empty: Box<Undo>) {
        debug_assert!(empty.saved.is_empty());
        empty.effects = self.effects.mark();
        self.undo = Some(empty);
    }

    /// Keeps nothing any more: there will be no [`View::undo`]. Returns what it was kept in, empty.
    pub fn forget_undo(&mut self) -> Option<Box<Undo>> {
        let mut undo = self.undo.take()?;
        undo.saved.clear();
        Some(undo)
    }

    /// Whether what is done may be taken back.
    pub fn keeps_undo(&self) -> bool {
        self.undo.is_some()
    }

    /// Whether it would be dear to keep a copy of this key too, which is about to be changed.
    pub fn is_dear_to_undo(&self, hash: u64, key: &[u8]) -> bool {
        let Some(undo) = &self.undo else {
            return false;
        };
        if undo.has(self.database, hash, key) {
            return false;
        }
        let found = self
            .partition(hash)
            .and_then(|partition| partition.find(hash, key));
        undo.saved.len() >= MOST_KEYS || found.is_some_and(is_heavy)
    }

    /// Takes back all changes since [`View::keep_undo`].
    pub fn undo(&mut self) {
        let Some(undo) = self.undo.take() else {
            return;
        };
        for saved in undo.saved {
            self.within(saved.database, |view| {
                let Some(partition) = view.partition_mut(saved.hash) else {
                    return;
                };
                let changed = partition.remove(saved.hash, saved.key());
                if let Was::There(entry) = saved.was {
                    partition.insert(saved.hash, entry);
                }
                let garbage = changed.and_then(Entry::into_garbage);
                view.effects.discard(garbage);
            });
        }
        self.emptied.clear();
        self.effects.rewind(&undo.effects);
        self.finish();
    }

    /// Copies a key's entry, unless that was done.
    #[cold]
    pub(super) fn save(&mut self, hash: u64, key: &[u8]) {
        let database = self.database;
        if self
            .undo
            .as_ref()
            .is_none_or(|undo| undo.has(database, hash, key))
        {
            return;
        }
        let found = self
            .partition(hash)
            .and_then(|partition| partition.find(hash, key));
        let was = match found {
            Some(entry) => {
                let copy = entry.copied(key, entry.expiry());
                copy.set_access(entry.access());
                Was::There(copy)
            }
            None => Was::Missing(key.to_vec()),
        };
        if let Some(undo) = &mut self.undo {
            undo.saved.push(Saved {
                database,
                hash,
                was,
            });
        }
    }
}

impl Undo {
    fn has(&self, database: u32, hash: u64, key: &[u8]) -> bool {
        let is =
            |saved: &Saved| saved.hash == hash && saved.database == database && saved.key() == key;
        self.saved.iter().any(is)
    }
}

fn is_heavy(entry: &Entry) -> bool {
    if entry.kind() == Type::String {
        return entry.shared().is_none() && entry.bytes().len() > HEAVY_BYTES;
    }
    match entry.value() {
        ValueRef::Stream(_) => true,
        value => value.len() > HEAVY_ELEMENTS || entry.allocated_bytes() > HEAVY_BYTES,
    }
}
