//! Who watches which key (WATCH).
//!
//! A [`Watch`] is one client's; it is told when one of its keys was changed: while the key's partition is locked, so that an
//! EXEC that holds the same partition sees all that came before it. While nobody watches, `Interest::WATCHES` is not set
//! and runs note nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What one client watches.
#[derive(Debug, Default)]
pub struct Watch {
    /// Written with the partition of the changed key locked, and read so: relaxed.
    is_touched: AtomicBool,
}

impl Watch {
    /// Whether one of its keys was changed since it is watched.
    pub fn is_touched(&self) -> bool {
        self.is_touched.load(Ordering::Relaxed)
    }

    /// Says that one was.
    pub fn touch(&self) {
        self.is_touched.store(true, Ordering::Relaxed);
    }
}

/// A client's interest in a key.
#[derive(Debug)]
struct Interested {
    watch: Arc<Watch>,
    /// Whether the key had expired and was still there when it began: its removal is no change then.
    was_expired: bool,
}

/// All watched keys, by database and name.
#[derive(Debug, Default)]
pub(super) struct Watched(HashMap<(u32, Vec<u8>), Vec<Interested>>);

impl Watched {
    /// Adds a key, unless the client watches it already.
    pub fn add(&mut self, database: u32, key: &[u8], watch: &Arc<Watch>, was_expired: bool) {
        let interested = self.0.entry((database, key.to_vec())).or_default();
        if !interested.iter().any(|one| Arc::ptr_eq(&one.watch, watch)) {
            interested.push(Interested {
                watch: Arc::clone(watch),
                was_expired,
            });
        }
    }

    /// Ends a client's interest in a key.
    pub fn remove(&mut self, database: u32, key: &[u8], watch: &Arc<Watch>) {
        let place = (database, key.to_vec());
        if let Some(interested) = self.0.get_mut(&place) {
            interested.retain(|one| !Arc::ptr_eq(&one.watch, watch));
            if interested.is_empty() {
                self.0.remove(&place);
            }
        }
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells those who watch a key that it was changed, or that it expired.
    pub fn touch(&self, database: u32, key: &[u8], by_expiry: bool) {
        for one in self.0.get(&(database, key.to_vec())).into_iter().flatten() {
            if !(by_expiry && one.was_expired) {
                one.watch.touch();
            }
        }
    }

    /// Tells those who watch one of the keys that `is_changed` says.
    pub fn touch_those(&self, is_changed: impl Fn(u32, &[u8]) -> bool) {
        for ((database, key), interested) in &self.0 {
            if is_changed(*database, key) {
                interested.iter().for_each(|one| one.watch.touch());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_watch_are_told() {
        let mut watched = Watched::default();
        let (one, two) = (Arc::new(Watch::default()), Arc::new(Watch::default()));
        watched.add(0, b"a", &one, false);
        watched.add(0, b"a", &one, false);
        watched.add(0, b"b", &two, true);
        watched.touch(1, b"a", false);
        watched.touch(0, b"c", false);
        watched.touch(0, b"b", true);
        assert_eq!((one.is_touched(), two.is_touched()), (false, false));
        watched.touch(0, b"a", true);
        watched.touch(0, b"b", false);
        assert_eq!((one.is_touched(), two.is_touched()), (true, true));
        watched.remove(0, b"a", &one);
        watched.remove(0, b"a", &one);
        assert!(!watched.is_empty());
        watched.remove(0, b"b", &two);
        assert!(watched.is_empty());
        let three = Arc::new(Watch::default());
        watched.add(0, b"a", &three, false);
        watched.add(1, b"a", &three, false);
        watched.touch_those(|database, key| (database, key) == (2, b"a"));
        assert!(!three.is_touched());
        watched.touch_those(|database, key| (database, key) == (1, b"a"));
        assert!(three.is_touched());
    }
}
