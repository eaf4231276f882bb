//! Which keys change while they are being moved to another node: they are sent again.
//!
//! Names are collected, not values: what a key holds is read when it is sent. Runs note the keys that they changed, or found
//! expired, or evicted, while their partitions are locked ([`Effects::settle_changes`](super::effects::Effects)); whoever
//! reads a key later, with its partition locked, sees at least what the note tells of.
//!
//! The set is bounded. At the bound it is given up: the names so far are forgotten, and so are all that come until
//! [`Departing::begin`] is called anew, by who begins again with all keys. So it is when whole databases are emptied or
//! exchanged.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Whether a key of a database is moved.
pub type Leaving = Arc<dyn Fn(u32, &[u8]) -> bool + Send + Sync>;

/// A key, and the database that it is in as clients number it.
pub type Name = (u32, Box<[u8]>);

/// What a name takes beside its bytes: its place in a table that is between half and 7/8 full, and the rounding of its bytes.
const NAME_BYTES: usize = size_of::<Name>() * 3 / 2 + 16;

/// The keys that change while they are moved.
#[derive(Default)]
pub struct Departing {
    /// `None` while nothing is moved. A leaf lock.
    collecting: Mutex<Option<Collecting>>,
}

struct Collecting {
    leaving: Leaving,
    changed: HashSet<Name>,
    bytes: usize,
    limit_bytes: usize,
    is_lost: bool,
}

/// Too much has changed to know what: all keys have to be sent anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Departing {
    pub(super) fn begin(&self, leaving: Leaving, limit_bytes: usize) {
        *self.collecting.lock() = Some(Collecting {
            leaving,
            changed: HashSet::new(),
            bytes: 0,
            limit_bytes,
            is_lost: false,
        });
    }

    pub(super) fn end(&self) {
        let ended = self.collecting.lock().take();
        drop(ended);
    }

    /// Notes keys that were changed; their partitions are locked.
    pub(super) fn note<'k>(&self, keys: impl Iterator<Item = (u32, &'k [u8])>) {
        let mut collecting = self.collecting.lock();
        let Some(collecting) = &mut *collecting else {
            return;
        };
        for (database, key) in keys {
            collecting.note(database, key);
        }
    }

    /// Notes that nobody knows what was changed.
    pub(super) fn lose(&self) {
        if let Some(collecting) = &mut *self.collecting.lock() {
            collecting.lose();
        }
    }

    /// How many names wait to be taken.
    pub fn len(&self) -> usize {
        let collecting = self.collecting.lock();
        collecting.as_ref().map_or(0, |one| one.changed.len())
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether names take half of what they may.
    pub fn is_half_full(&self) -> bool {
        let collecting = self.collecting.lock();
        let collecting = collecting.as_ref();
        collecting.is_some_and(|one| one.is_lost || one.bytes > one.limit_bytes / 2)
    }

    /// Takes up to `most` names, in no order.
    pub fn take(&self, most: usize) -> Result<Vec<Name>, Lost> {
        let mut collecting = self.collecting.lock();
        let Some(collecting) = &mut *collecting else {
            return Ok(Vec::new());
        };
        if collecting.is_lost {
            return Err(Lost);
        }
        if collecting.changed.len() <= most {
            collecting.bytes = 0;
            return Ok(std::mem::take(&mut collecting.changed)
                .into_iter()
                .collect());
        }
        let names: Vec<Name> = collecting.changed.iter().take(most).cloned().collect();
        for name in &names {
            collecting.changed.remove(name);
            collecting.bytes -= NAME_BYTES + name.1.len();
        }
        Ok(names)
    }

    /// Takes names back that were taken and not used.
    pub fn give_back(&self, names: impl Iterator<Item = Name>) {
        if let Some(collecting) = &mut *self.collecting.lock() {
            names.for_each(|(database, key)| collecting.note(database, &key));
        }
    }
}

impl Collecting {
    fn note(&mut self, database: u32, key: &[u8]) {
        if self.is_lost || !(self.leaving)(database, key) {
            return;
        }
        if !self.changed.insert((database, key.into())) {
            return;
        }
        self.bytes += NAME_BYTES + key.len();
        if self.bytes > self.limit_bytes {
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.is_lost = true;
        self.changed = HashSet::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(departing: &Departing, database: u32, key: &[u8]) {
        departing.note([(database, key)].into_iter());
    }

    #[test]
    fn names_are_collected_once_and_only_of_what_leaves() {
        let departing = Departing::default();
        note(&departing, 0, b"a");
        assert_eq!(departing.take(9), Ok(Vec::new()), "nothing is moved");
        departing.begin(Arc::new(|database, key| database == 1 && key != b"b"), 1000);
        for key in [b"a", b"b", b"c", b"a"] {
            note(&departing, 1, key);
            note(&departing, 0, key);
        }
        assert_eq!(departing.len(), 2);
        let mut names = departing.take(1).expect("there is room");
        assert_eq!(names.len(), 1);
        names.extend(departing.take(9).expect("there is room"));
        names.sort_unstable();
        assert_eq!(names, [(1, (*b"a").into()), (1, (*b"c").into())]);
        assert_eq!(departing.take(9), Ok(Vec::new()));
        departing.give_back(names.clone().into_iter());
        assert_eq!(departing.take(9).map(|names| names.len()), Ok(2));
        departing.end();
        note(&departing, 1, b"a");
        assert!(departing.is_empty());
    }

    #[test]
    fn at_its_bound_the_set_is_given_up() {
        // Aim: memory stays below the bound whatever is written, and who asks is told that names are missing.
        let departing = Departing::default();
        let limit = 10 * (NAME_BYTES + 4);
        departing.begin(Arc::new(|_, _| true), limit);
        for number in 0..10u32 {
            assert_eq!(departing.is_half_full(), number > 5);
            note(&departing, 0, &number.to_le_bytes());
        }
        assert_eq!(departing.take(4).map(|names| names.len()), Ok(4));
        for number in 10..14u32 {
            note(&departing, 0, &number.to_le_bytes());
        }
        assert_eq!(departing.len(), 10, "what was taken made room");
        note(&departing, 0, b"more");
        assert_eq!((departing.take(1), departing.len()), (Err(Lost), 0));
        for number in 0..1000u32 {
            note(&departing, 0, &number.to_le_bytes());
        }
        assert_eq!((departing.take(1), departing.len()), (Err(Lost), 0));
        departing.begin(Arc::new(|_, _| true), limit);
        note(&departing, 0, b"more");
        assert_eq!(departing.take(9).map(|names| names.len()), Ok(1));
        departing.lose();
        assert_eq!(departing.take(9), Err(Lost));
    }
}
