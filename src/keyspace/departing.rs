//! Which keys change while they are being moved to another node: they are sent again.
//!
//! Names are collected, not values: what a key holds is read when it is sent. Runs note the keys that they changed, or found
//! expired, or evicted, while their partitions are locked ([`Effects::settle_changes`](super::effects::Effects)); whoever
//! reads a key later, with its partition locked, sees at least what the note tells of.
//!
//! There is a set for each transfer under way, by its number: a node that leaves sends to several at once. Each is bounded. At
//! the bound it is given up: the names so far are forgotten, and so are all that come until [`Departing::begin`] is called
//! anew, by who begins again with all keys. So it is when whole databases are emptied or exchanged.

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
    /// Empty while nothing is moved. A leaf lock.
    collecting: Mutex<Vec<Collecting>>,
}

struct Collecting {
    /// Of the transfer.
    number: u64,
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
    pub(super) fn begin(&self, number: u64, leaving: Leaving, limit_bytes: usize) {
        let mut collecting = self.collecting.lock();
        collecting.retain(|one| one.number != number);
        collecting.push(Collecting {
            number,
            leaving,
            changed: HashSet::new(),
            bytes: 0,
            limit_bytes,
            is_lost: false,
        });
    }

    /// Whether nothing is collected any more.
    pub(super) fn end(&self, number: u64) -> bool {
        let mut collecting = self.collecting.lock();
        let at = collecting.iter().position(|one| one.number == number);
        let ended = at.map(|at| collecting.swap_remove(at));
        let is_none = collecting.is_empty();
        drop(collecting);
        drop(ended);
        is_none
    }

    /// Notes keys that were changed; their partitions are locked.
    pub(super) fn note<'k>(&self, keys: impl Iterator<Item = (u32, &'k [u8])>) {
        let mut collecting = self.collecting.lock();
        if collecting.is_empty() {
            return;
        }
        for (database, key) in keys {
            collecting
                .iter_mut()
                .for_each(|one| one.note(database, key));
        }
    }

    /// Notes that nobody knows what was changed.
    pub(super) fn lose(&self) {
        self.collecting.lock().iter_mut().for_each(Collecting::lose);
    }

    /// Runs something on the set of a transfer, if there is one.
    fn on<T>(&self, number: u64, run: impl FnOnce(&mut Collecting) -> T) -> Option<T> {
        let mut collecting = self.collecting.lock();
        let one = collecting.iter_mut().find(|one| one.number == number);
        one.map(run)
    }

    /// How many names wait to be taken by a transfer.
    pub fn count(&self, number: u64) -> usize {
        self.on(number, |one| one.changed.len()).unwrap_or(0)
    }

    /// Whether names of a transfer take half of what they may.
    pub fn is_half_full(&self, number: u64) -> bool {
        self.on(number, |one| one.is_lost || one.bytes > one.limit_bytes / 2)
            .unwrap_or(false)
    }

    /// Takes up to `most` names of a transfer, in no order.
    pub fn take(&self, number: u64, most: usize) -> Result<Vec<Name>, Lost> {
        self.on(number, |one| one.take(most))
            .unwrap_or(Ok(Vec::new()))
    }

    /// Takes names back that were taken and not used.
    pub fn give_back(&self, number: u64, names: impl Iterator<Item = Name>) {
        self.on(number, |one| {
            names.for_each(|(database, key)| one.note(database, &key));
        });
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

    fn take(&mut self, most: usize) -> Result<Vec<Name>, Lost> {
        if self.is_lost {
            return Err(Lost);
        }
        if self.changed.len() <= most {
            self.bytes = 0;
            return Ok(std::mem::take(&mut self.changed).into_iter().collect());
        }
        let names: Vec<Name> = self.changed.iter().take(most).cloned().collect();
        for name in &names {
            self.changed.remove(name);
            self.bytes -= NAME_BYTES + name.1.len();
        }
        Ok(names)
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

    /// The number of a transfer.
    const ONE: u64 = 7;

    fn note(departing: &Departing, database: u32, key: &[u8]) {
        departing.note([(database, key)].into_iter());
    }

    #[test]
    fn names_are_collected_once_and_only_of_what_leaves() {
        let departing = Departing::default();
        note(&departing, 0, b"a");
        assert_eq!(departing.take(ONE, 9), Ok(Vec::new()), "nothing is moved");
        departing.begin(
            ONE,
            Arc::new(|database, key| database == 1 && key != b"b"),
            1000,
        );
        for key in [b"a", b"b", b"c", b"a"] {
            note(&departing, 1, key);
            note(&departing, 0, key);
        }
        assert_eq!(departing.count(ONE), 2);
        let mut names = departing.take(ONE, 1).expect("there is room");
        assert_eq!(names.len(), 1);
        names.extend(departing.take(ONE, 9).expect("there is room"));
        names.sort_unstable();
        assert_eq!(names, [(1, (*b"a").into()), (1, (*b"c").into())]);
        assert_eq!(departing.take(ONE, 9), Ok(Vec::new()));
        departing.give_back(ONE, names.clone().into_iter());
        assert_eq!(departing.take(ONE, 9).map(|names| names.len()), Ok(2));
        assert!(departing.end(ONE));
        note(&departing, 1, b"a");
        assert_eq!(departing.count(ONE), 0);
    }

    #[test]
    fn each_transfer_has_its_own() {
        let departing = Departing::default();
        let other = ONE + 1;
        departing.begin(ONE, Arc::new(|_, key| key != b"b"), 1000);
        departing.begin(other, Arc::new(|_, key| key != b"a"), NAME_BYTES + 1);
        for key in [b"a", b"b"] {
            note(&departing, 0, key);
        }
        assert_eq!(departing.take(other, 9), Ok(vec![(0, (*b"b").into())]));
        assert_eq!(departing.take(ONE, 9), Ok(vec![(0, (*b"a").into())]));
        // The bound of one is no bound of the other.
        for key in [b"a", b"b", b"c"] {
            note(&departing, 0, key);
        }
        assert_eq!(departing.take(other, 9), Err(Lost));
        assert_eq!(departing.take(ONE, 9).map(|names| names.len()), Ok(2));
        assert!(!departing.end(other), "one goes on");
        note(&departing, 0, b"a");
        assert_eq!(departing.count(ONE), 1);
        departing.lose();
        assert_eq!(departing.take(ONE, 9), Err(Lost));
        assert!(departing.end(ONE));
    }

    #[test]
    fn at_its_bound_the_set_is_given_up() {
        // Aim: memory stays below the bound whatever is written, and who asks is told that names are missing.
        let departing = Departing::default();
        let limit = 10 * (NAME_BYTES + 4);
        departing.begin(ONE, Arc::new(|_, _| true), limit);
        for number in 0..10u32 {
            assert_eq!(departing.is_half_full(ONE), number > 5);
            note(&departing, 0, &number.to_le_bytes());
        }
        assert_eq!(departing.take(ONE, 4).map(|names| names.len()), Ok(4));
        for number in 10..14u32 {
            note(&departing, 0, &number.to_le_bytes());
        }
        assert_eq!(departing.count(ONE), 10, "what was taken made room");
        note(&departing, 0, b"more");
        assert_eq!(
            (departing.take(ONE, 1), departing.count(ONE)),
            (Err(Lost), 0)
        );
        for number in 0..1000u32 {
            note(&departing, 0, &number.to_le_bytes());
        }
        assert_eq!(
            (departing.take(ONE, 1), departing.count(ONE)),
            (Err(Lost), 0)
        );
        departing.begin(ONE, Arc::new(|_, _| true), limit);
        note(&departing, 0, b"more");
        assert_eq!(departing.take(ONE, 9).map(|names| names.len()), Ok(1));
        departing.lose();
        assert_eq!(departing.take(ONE, 9), Err(Lost));
    }
}
