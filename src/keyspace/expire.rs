//! Active expiry: keys and fields of hashes that nobody touches vanish too.
//!
//! Every partition is swept once per [`CYCLE`]. A sweep reads the coarse expiries in the table (8 B per key, in order, about
//! a nanosecond each) and touches only entries that fell due since the last sweep, so its cost does not depend on how many
//! keys have an expiry, and what stays behind is younger than a cycle. A hash is found by the expiry of its next field, which
//! stands in the table as that of a key does. Partitions without an expiry are skipped by their counter. A step holds one partition for at most [`STEP_KEYS`] removals; the driver yields between steps and keeps
//! within its share of time, so a million keys that expire in one second are a second of background work and no pause.

use std::time::Duration;

use super::effects::Effects;
use super::lock::{Place, lock_one};
use super::partition::Expired;
use super::{Keyspace, PARTITIONS};
use crate::base::clock::Millis;

/// How often every partition is swept.
pub const CYCLE: Duration = Duration::from_millis(1000);
/// Keys and fields removed while one partition is held.
pub const STEP_KEYS: usize = 512;

/// Where active expiry has got to.
#[derive(Debug, Default)]
pub struct Sweeper {
    database: u32,
    partition: usize,
}

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Keys removed.
    pub expired: usize,
    /// Whether the last partition of the last database was done: a cycle is complete.
    pub cycle_done: bool,
}

impl Sweeper {
    /// Sweeps the next partition that has keys with an expiry. The driver begins a cycle every [`CYCLE`].
    pub fn step(&mut self, keyspace: &Keyspace, now: Millis, effects: &mut Effects) -> Step {
        while (self.database as usize) < keyspace.database_count() {
            let Some(database) = keyspace.database_if_built(self.database) else {
                self.next_database();
                continue;
            };
            while self.partition < PARTITIONS {
                if !database.counters(self.partition).has_expiries() {
                    self.partition += 1;
                    continue;
                }
                let place = Place {
                    database: self.database,
                    partition: self.partition as u32,
                };
                let (expired, done) = sweep_partition(keyspace, place, now, effects);
                self.partition += usize::from(done);
                return Step {
                    expired,
                    cycle_done: false,
                };
            }
            self.next_database();
        }
        self.database = 0;
        Step {
            expired: 0,
            cycle_done: true,
        }
    }

    fn next_database(&mut self) {
        self.database += 1;
        self.partition = 0;
    }
}

/// Sweeps one partition. Returns the removals and whether nothing is left over.
fn sweep_partition(
    keyspace: &Keyspace,
    place: Place,
    now: Millis,
    effects: &mut Effects,
) -> (usize, bool) {
    // By the database's number, so that the records name the database that the keys are in, whatever SWAPDB does.
    // A script may hold it for long. It is looked at again in the next cycle.
    let Ok(mut held) = lock_one(keyspace, place, 0) else {
        return (0, true);
    };
    effects.begin(keyspace.listeners.interest());
    let mut expired = 0;
    // What nobody may see is removed in silence: it expires where it is seen, too.
    let foreign = keyspace.foreign();
    let is_foreign =
        |key: &[u8]| foreign.is_some_and(|foreign| foreign.is_foreign(place.database, key));
    let done = held.partition.sweep(now, STEP_KEYS, |what| match what {
        Expired::Key(entry) | Expired::Emptied(entry) if is_foreign(entry.key()) => {
            effects.discard(entry.into_garbage());
        }
        Expired::Fields(key, _) if is_foreign(key) => {}
        Expired::Key(entry) => {
            expired += 1;
            effects.expire(place.database, entry);
        }
        Expired::Fields(key, fields) => effects.expire_fields(place.database, key, fields),
        Expired::Emptied(entry) => effects.empty(place.database, entry),
    });
    effects.bytes += held.partition.take_bytes();
    effects.append(&keyspace.listeners);
    (expired, done)
}
