//! Locks of partitions, and THE LOCK ORDER of the whole server.
//!
//! # The order
//! 0. The leave to wait for partitions while others are held ([`Leave`]), never waited for while a partition is held.
//! 1. The mapping of databases (SWAPDB, FLUSHALL, the building of a database), never taken while a partition is held: a
//!    database is built before its first partition is locked.
//! 2. Partitions, ascending by (database, number). A plan is sorted and its duplicates removed before the first lock.
//! 3. The changes of the configuration (CONFIG SET, CONFIG REWRITE), never taken while a partition is held; taking over
//!    changed parameters may take leaves.
//! 4. The leaves: client registry, a client's outbox and labels, slow log, latency log, monitors, the end of a pause, the
//!    replication id, the eviction pool, who watches keys, the tables of client tracking. A leaf is never held while another lock is taken, but
//!    for that of who evicts from the tables of client tracking, which is above those of the tables.
//! 5. The shards of entries' memory (entry/slab.rs), which are below all others, as the allocator's own locks are.
//!
//! # Waiting
//! Nobody blocks a thread for a partition at first: a taker tries, spins for a few microseconds, and then gives up with
//! [`Contended`]; its task yields and comes back. A plan of many partitions that meets a locked one gives back what it
//! holds. After [`PATIENCE`] such rounds it waits in the lock's queue instead, so that it gets its turn; the worker's other
//! tasks are given away meanwhile.
//!
//! Scripts find out what they need while they run, in any order. What keeps them from waiting for each other for ever: who
//! waits for a partition while it holds another has the [`Leave`], of which there is one. All others give back what they
//! hold, or hold but one.
//!
//! Guards are not `Send`: holding one across an `.await` does not compile.

use dashmap::RwLock;
use hashbrown::raw::RawTable;
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::partition::{Partition, Slot};
use super::whole::Mapping;
use super::{Database, Keyspace, PARTITIONS};
use crate::base::worker::give_worker_away;

/// Tries of a lock before its taker yields: about two microseconds.
const SPINS: u32 = 64;
/// Rounds of yielding after which a taker waits for the lock itself.
pub const PATIENCE: u32 = 64;

/// A partition was locked by somebody else for longer than a short spin; nothing is held.
#[derive(Debug)]
pub struct Contended;

/// The leave to wait for partitions while others are held. There is one in a keyspace.
pub struct Leave<'k>(
    #[expect(dead_code, reason = "what it is worth is to be held")] MutexGuard<'k, ()>,
);

impl Keyspace {
    /// Takes the leave, unless somebody has it.
    pub fn try_leave(&self) -> Option<Leave<'_>> {
        self.leave.try_lock().map(Leave)
    }

    /// Takes the leave, and waits for it. No partition may be held.
    pub fn wait_for_leave(&self) -> Leave<'_> {
        self.try_leave()
            .unwrap_or_else(|| give_worker_away(|| Leave(self.leave.lock())))
    }
}

/// A partition of a database, by the numbers of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The database as clients number it.
    pub database: u32,
    /// The partition's number.
    pub partition: u32,
}

/// What one command, transaction or script locks.
pub type Plan = SmallVec<[Place; 2]>;

/// Partitions of one database, each once; all of them when it would be most.
pub struct Places {
    database: u32,
    /// A bit for each partition.
    found: [u64; PARTITIONS / 64],
    count: usize,
}

impl Places {
    /// None so far.
    pub fn new(database: u32) -> Places {
        Places {
            database,
            found: [0; PARTITIONS / 64],
            count: 0,
        }
    }

    /// All of them.
    pub fn all(database: u32) -> Places {
        Places {
            database,
            found: [u64::MAX; PARTITIONS / 64],
            count: PARTITIONS,
        }
    }

    /// Adds one, of this database.
    #[inline]
    pub fn add(&mut self, place: Place) {
        let partition = place.partition as usize;
        let word = &mut self.found[partition / 64];
        let bit = 1 << (partition % 64);
        self.count += usize::from(*word & bit == 0);
        *word |= bit;
        if self.count == MOST {
            *self = Places::all(self.database);
        }
    }

    /// Whether there is nothing left to add.
    #[inline]
    pub fn are_all(&self) -> bool {
        self.count == PARTITIONS
    }

    /// They, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        let partitions = (0..PARTITIONS).filter(|at| self.found[at / 64] >> (at % 64) & 1 == 1);
        partitions.map(|partition| Place {
            database: self.database,
            partition: partition as u32,
        })
    }
}

/// With so many of the partitions, the rest does not matter: who asks for many keys is told sooner.
const MOST: usize = PARTITIONS / 4 * 3;

/// A locked partition and where it is.
pub struct Held<'k> {
    /// Where it is.
    pub place: Place,
    /// The partition itself.
    pub partition: Partition<'k>,
}

/// All partitions of a plan, locked, in order.
pub type Locked<'k> = SmallVec<[Held<'k>; 1]>;

/// Where a place is among what is locked.
#[inline]
pub fn position(locked: &[Held<'_>], place: Place) -> Option<usize> {
    match locked {
        [one] => (one.place == place).then_some(0),
        many => many.binary_search_by_key(&place, |held| held.place).ok(),
    }
}

/// Locks one partition.
#[inline]
pub fn lock_one(keyspace: &Keyspace, place: Place, round: u32) -> Result<Held<'_>, Contended> {
    loop {
        let version = keyspace.mapping_version();
        let held = take(keyspace, keyspace.physical(place.database), place, round)?;
        // SWAPDB may have exchanged the databases between finding this one and locking it.
        if keyspace.mapping_version() == version {
            return Ok(held);
        }
    }
}

/// Locks all partitions of a plan, which is sorted and deduplicated here. Places in databases that do not exist are left
/// out: a handler refuses such a number itself (COPY .. DB 99).
pub fn lock_all<'k>(
    keyspace: &'k Keyspace,
    plan: &mut Plan,
    round: u32,
) -> Result<Locked<'k>, Contended> {
    plan.sort_unstable();
    plan.dedup();
    plan.retain(|place| (place.database as usize) < keyspace.database_count());
    // A patient taker of several waits while it holds some. While somebody else may, it goes on trying.
    let leave = if round >= PATIENCE && plan.len() > 1 {
        keyspace.try_leave()
    } else {
        None
    };
    let round = if plan.len() > 1 && leave.is_none() {
        0
    } else {
        round
    };
    loop {
        let version = keyspace.mapping_version();
        // The order is that of the databases themselves, fixed before the first lock whatever SWAPDB does meanwhile. They
        // are built here: see the order of the locks.
        let mut order: SmallVec<[(usize, Place); 4]> = plan
            .iter()
            .map(|place| {
                let physical = keyspace.physical(place.database);
                keyspace.by_physical(physical);
                (physical, *place)
            })
            .collect();
        // A SWAPDB between two of those lookups would map two numbers to one database, and its partition be taken twice:
        // by a patient taker, for ever.
        if keyspace.mapping_version() != version {
            continue;
        }
        order.sort_unstable_by_key(|(physical, place)| (*physical, place.partition));
        let mut locked = Locked::with_capacity(order.len());
        for (physical, place) in order {
            locked.push(take(keyspace, physical, place, round)?);
        }
        if keyspace.mapping_version() == version {
            // Views search by the client's numbers.
            locked.sort_unstable_by_key(|held| held.place);
            return Ok(locked);
        }
    }
}

/// Locks more partitions beside those that are held, and waits for each. No SWAPDB is under way: it takes the leave too.
/// Who holds the mapping brings it, for the databases that are not built yet.
pub fn lock_more<'k>(
    keyspace: &'k Keyspace,
    locked: &mut Locked<'k>,
    places: impl Iterator<Item = Place>,
    _leave: &Leave<'_>,
    mapping: Option<&Mapping<'_>>,
) {
    for place in places {
        let Err(index) = locked.binary_search_by_key(&place, |held| held.place) else {
            continue;
        };
        let physical = keyspace.physical(place.database);
        if mapping.is_some() {
            keyspace.build_within(physical);
        }
        if let Ok(held) = take(keyspace, physical, place, PATIENCE) {
            locked.insert(index, held);
        }
    }
}

/// Locks a partition of a database that is known already, whatever number clients call it by meanwhile.
pub fn lock_in<'k>(
    keyspace: &'k Keyspace,
    database: &'k Database,
    number: usize,
    round: u32,
) -> Result<Partition<'k>, Contended> {
    let shard = database.shard(number);
    let guard = match acquire(shard, round) {
        Some(guard) => guard,
        None => return Err(Contended),
    };
    Ok(Partition::new(
        guard,
        database.counters(number),
        keyspace.hasher(),
    ))
}

/// Locks all partitions of databases, which are given in their own order: for what must be one instant (FLUSHALL, SWAPDB).
/// Waits for each in the lock's queue, so that it gets all in the end however busy they are. The leave and the mapping must be
/// held.
pub(super) fn lock_whole<'k>(
    keyspace: &'k Keyspace,
    databases: impl Iterator<Item = &'k Database>,
) -> Vec<Partition<'k>> {
    let partition = |database: &'k Database, number| {
        Partition::new(
            wait(database.shard(number)),
            database.counters(number),
            keyspace.hasher(),
        )
    };
    databases
        .flat_map(|database| (0..PARTITIONS).map(move |number| partition(database, number)))
        .collect()
}

/// Locks a partition for a moment's look, unless somebody else has it.
#[inline]
pub(super) fn try_in<'k>(
    keyspace: &'k Keyspace,
    database: &'k Database,
    number: usize,
) -> Option<Partition<'k>> {
    let guard = database.shard(number).try_write()?;
    Some(Partition::new(
        guard,
        database.counters(number),
        keyspace.hasher(),
    ))
}

#[inline]
fn take(
    keyspace: &Keyspace,
    physical: usize,
    place: Place,
    round: u32,
) -> Result<Held<'_>, Contended> {
    let partition = lock_in(
        keyspace,
        keyspace.by_physical(physical),
        place.partition as usize,
        round,
    )?;
    Ok(Held { place, partition })
}

#[inline]
fn acquire(
    shard: &RwLock<RawTable<Slot>>,
    round: u32,
) -> Option<dashmap::RwLockWriteGuard<'_, RawTable<Slot>>> {
    // Readers lock exclusively too: with shared readers this lock starves writers (DESIGN.md, section 2).
    if let Some(guard) = shard.try_write() {
        return Some(guard);
    }
    for _ in 0..SPINS {
        std::hint::spin_loop();
        if let Some(guard) = shard.try_write() {
            return Some(guard);
        }
    }
    (round >= PATIENCE).then(|| wait(shard))
}

/// Waits in the lock's queue. A script may hold it for long.
fn wait(shard: &RwLock<RawTable<Slot>>) -> dashmap::RwLockWriteGuard<'_, RawTable<Slot>> {
    shard
        .try_write()
        .unwrap_or_else(|| give_worker_away(|| shard.write()))
}
