//! Who owns which key: databases, their partitions, and the memory account.
//!
//! A [`Keyspace`] holds the databases that clients number from 0. A [`Database`] is built when it is first used: a dashmap
//! whose shards are the partitions, and the counters beside them. Handlers never see any of this: they work on a
//! [`view::View`] of the partitions that dispatch locked for them.

pub mod collections;
pub mod departing;
pub mod effects;
pub mod entry;
pub mod evict;
pub mod expire;
pub mod hash;
pub mod lock;
pub mod partition;
pub mod sweep;
pub mod tracking;
pub mod undo;
pub mod view;
pub mod waiting;
pub mod watching;
pub mod whole;

use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::{DashMap, RwLock};
use hashbrown::raw::RawTable;
use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use crate::base::clock::Millis;
use crate::base::rng::Rng;
use effects::Listeners;
use entry::Entry;
use hash::KeyHasher;
use lock::Place;
use partition::{Counters, Slot};
use waiting::Waiting;

/// Partitions of a database. More make the pause of one that grows shorter (1,024: 3 ms at 8 M keys) and cost memory
/// when empty (160 B each).
pub const PARTITIONS: usize = 1024;

/// A database: dashmap's shards and a set of counters for each.
pub struct Database {
    map: DashMap<Entry, (), BuildHasherDefault<SipHasher13>>,
    counters: Box<[Counters]>,
}

impl Database {
    fn new(now: Millis) -> Database {
        Database {
            map: DashMap::with_capacity_and_hasher_and_shard_amount(
                0,
                BuildHasherDefault::default(),
                PARTITIONS,
            ),
            counters: (0..PARTITIONS).map(|_| Counters::new(now)).collect(),
        }
    }

    pub(super) fn shard(&self, number: usize) -> &RwLock<RawTable<Slot>> {
        &self.map.shards()[number]
    }

    #[inline]
    fn prefetch(&self, number: usize) {
        partition::prefetch((&raw const self.map.shards()[number]).addr());
        partition::prefetch((&raw const self.counters[number]).addr());
    }

    /// The counters of a partition.
    pub fn counters(&self, number: usize) -> &Counters {
        &self.counters[number]
    }

    /// Keys, expired ones that nobody has met yet included.
    pub fn len(&self) -> usize {
        self.counters.iter().map(Counters::len).sum()
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.counters.iter().all(|counters| counters.len() == 0)
    }

    /// Keys with an expiry.
    pub fn expires(&self) -> usize {
        self.counters.iter().map(Counters::expires).sum()
    }

    /// Bytes of its entries and tables.
    pub fn bytes(&self) -> i64 {
        self.counters.iter().map(Counters::bytes).sum()
    }

    /// Bytes of its tables without the entries.
    pub fn table_bytes(&self) -> i64 {
        self.counters.iter().map(Counters::table_bytes).sum()
    }

    /// A partition drawn with the probability of its share of the keys; `None` when there are none.
    pub fn random_partition(&self, rng: &Rng) -> Option<usize> {
        let mut draw = rng.below(self.len() as u64);
        for (number, counters) in self.counters.iter().enumerate() {
            let len = counters.len() as u64;
            if draw < len {
                return Some(number);
            }
            draw -= len;
        }
        // Keys vanished between counting and choosing: any partition that has some will do.
        self.counters.iter().position(|counters| counters.len() > 0)
    }
}

/// Knows keys that are there and that nobody may see: on their way to this node, or left over.
pub trait Foreign: Send + Sync {
    /// Whether there may be any.
    fn any(&self) -> bool;
    /// Whether this is one.
    fn is_foreign(&self, database: u32, key: &[u8]) -> bool;
    /// Whether all keys of a database are on the same node, wherever that is.
    fn is_whole(&self, database: u32) -> bool;
}

/// All databases.
pub struct Keyspace {
    /// Built when first used; their order never changes.
    databases: Box<[OnceLock<Database>]>,
    /// Which of `databases` a client's number means. Written by SWAPDB under `mapping_lock` with all partitions of both held
    /// (whole.rs), read before every lock, and checked again after it by way of `version`.
    mapping: Box<[AtomicU32]>,
    /// Counts SWAPDBs: odd while one is under way. A run that sees the same even version before and after it locked has
    /// locked what its client's number meant. Sequentially consistent with the lock's own acquire.
    version: AtomicU64,
    mapping_lock: Mutex<()>,
    /// See [`lock::Leave`].
    leave: Mutex<()>,
    hasher: KeyHasher,
    /// Bytes of all entries and tables. Added to once per run; read by the memory check.
    used: AtomicI64,
    /// Changes since the start, as Redis counts them.
    dirty: AtomicU64,
    /// Who follows the effects.
    pub listeners: Listeners,
    /// Who waits for keys.
    pub waiting: Waiting,
    pool: Mutex<evict::Pool>,
    /// Set once, by the start of a node that takes part in a ring.
    foreign: OnceLock<Arc<dyn Foreign>>,
    born: Millis,
    /// Whether other nodes have other keys of the same data set. Written once by the start.
    is_partial: AtomicBool,
}

impl Keyspace {
    /// From here on it is a part of a ring's keys.
    pub fn become_partial(&self) {
        self.is_partial.store(true, Ordering::Relaxed);
    }

    /// Whether other nodes have other keys of the same database.
    pub fn is_partial(&self, database: u32) -> bool {
        self.is_partial.load(Ordering::Relaxed)
            && !self
                .foreign
                .get()
                .is_some_and(|foreign| foreign.is_whole(database))
    }

    /// An empty keyspace of `databases` databases.
    pub fn new(databases: usize, hasher: KeyHasher, now: Millis) -> Keyspace {
        entry::count_from(now);
        Keyspace {
            databases: (0..databases.max(1)).map(|_| OnceLock::new()).collect(),
            mapping: (0..databases.max(1) as u32).map(AtomicU32::new).collect(),
            version: AtomicU64::new(0),
            mapping_lock: Mutex::new(()),
            leave: Mutex::new(()),
            listeners: Listeners::new(hasher.clone()),
            hasher,
            used: AtomicI64::new(0),
            dirty: AtomicU64::new(0),
            waiting: Waiting::default(),
            pool: Mutex::new(evict::Pool::default()),
            is_partial: AtomicBool::new(false),
            foreign: OnceLock::new(),
            born: now,
        }
    }

    /// How many databases there are.
    pub fn database_count(&self) -> usize {
        self.databases.len()
    }

    /// The keyed hash.
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// The database that clients call `number`; built when it is not there yet.
    pub fn database(&self, number: u32) -> &Database {
        self.by_physical(self.physical(number))
    }

    #[inline]
    pub(super) fn by_physical(&self, physical: usize) -> &Database {
        match self.databases[physical].get() {
            Some(database) => database,
            None => self.build(physical),
        }
    }

    #[cold]
    fn build(&self, physical: usize) -> &Database {
        // FLUSHALL empties the databases that there are: none must come to be meanwhile.
        let _mapping = self.mapping_lock.lock();
        self.build_within(physical)
    }

    /// Builds a database unless it is there, while the mapping is held by the caller: one at a time can be here, so that
    /// nobody who holds the mapping waits for somebody who builds.
    fn build_within(&self, physical: usize) -> &Database {
        self.databases[physical].get_or_init(|| Database::new(self.born))
    }

    /// The database that clients call `number`, when it was ever used.
    pub fn database_if_built(&self, number: u32) -> Option<&Database> {
        self.databases[self.physical(number)].get()
    }

    /// The databases that were ever used, with the numbers clients call them by.
    pub fn built(&self) -> impl Iterator<Item = (u32, &Database)> {
        (0..self.databases.len() as u32)
            .filter_map(|number| Some((number, self.database_if_built(number)?)))
    }

    /// Where a key of a database is kept, given its hash.
    #[inline]
    pub fn place(&self, database: u32, hash: u64) -> Place {
        Place {
            database,
            partition: hash::partition_of(hash, PARTITIONS) as u32,
        }
    }

    /// Fetches into the cache what runs on these keys are about to read: first where the partitions stand, then where the
    /// tables keep the hashes, then the entries. Each step fetches for all keys before the next one reads for the first,
    /// so that the misses of many keys take the time of one. A hint: nothing is changed, and a partition that is locked
    /// is passed over.
    pub fn prefetch(&self, database: u32, hashes: &[u64]) {
        let Some(database) = self.database_if_built(database) else {
            return;
        };
        let partition = |hash: u64| hash::partition_of(hash, PARTITIONS);
        for &hash in hashes {
            database.prefetch(partition(hash));
        }
        for &hash in hashes {
            database.counters[partition(hash)].prefetch_home(hash);
        }
        for &hash in hashes {
            if let Some(partition) = lock::try_in(self, database, partition(hash)) {
                partition.prefetch_entry(hash);
            }
        }
    }

    /// As [`Keyspace::prefetch`], for requests that all look for a member, or field, in the value of one key.
    pub fn prefetch_members(&self, database: u32, hash: u64, key: &[u8], members: &[&[u8]]) {
        let Some(database) = self.database_if_built(database) else {
            return;
        };
        let place = hash::partition_of(hash, PARTITIONS);
        if let Some(partition) = lock::try_in(self, database, place)
            && let Some(entry) = partition.find(hash, key)
        {
            entry.value().warm(&self.hasher, members);
        }
    }

    /// As [`Keyspace::prefetch`] for one key that is about to be looked up: what can be fetched side by side is.
    #[inline]
    pub fn prefetch_home(&self, database: u32, hash: u64) {
        if let Some(database) = self.database_if_built(database) {
            let partition = hash::partition_of(hash, PARTITIONS);
            database.prefetch(partition);
            database.counters[partition].prefetch_home(hash);
        }
    }

    /// Bytes of all entries and tables.
    #[inline]
    pub fn used_bytes(&self) -> i64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Adds a run's change of bytes to the account.
    #[inline]
    pub fn account(&self, bytes: i64) {
        if bytes != 0 {
            self.used.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// How often databases were exchanged or may just be: who sees the same number before and after has met each key of each
    /// database under one number.
    pub fn exchanges(&self) -> u64 {
        self.mapping_version()
    }

    /// Says who knows which keys nobody may see. Once.
    pub fn hide(&self, foreign: Arc<dyn Foreign>) {
        // A second one is not told apart from the first: a server has one ring.
        let _ = self.foreign.set(foreign);
    }

    /// Who knows which keys nobody may see, while there may be any.
    #[inline]
    pub fn foreign(&self) -> Option<&dyn Foreign> {
        let foreign = self.foreign.get()?;
        foreign.any().then_some(&**foreign)
    }

    /// Changes since the start, as Redis counts them.
    pub fn dirty(&self) -> u64 {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Counts changes.
    #[inline]
    pub fn count_dirty(&self, changes: u64) {
        if changes != 0 {
            self.dirty.fetch_add(changes, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn physical(&self, number: u32) -> usize {
        self.mapping[number as usize].load(Ordering::SeqCst) as usize
    }

    #[inline]
    pub(super) fn mapping_version(&self) -> u64 {
        loop {
            let version = self.version.load(Ordering::SeqCst);
            if version.is_multiple_of(2) {
                return version;
            }
            std::hint::spin_loop();
        }
    }
}
