//! What a run must cause besides its reply.
//!
//! A view records effects while its partitions are locked. Dispatch appends the journal records before it unlocks, so that
//! the order of the journal is the order of every key, and does the rest (events, woken clients, garbage) afterwards.
//! When nobody listens nothing is recorded: the cost is one relaxed load per command.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::departing::{Departing, Leaving};
use super::entry::{Entry, Garbage};
use super::hash::KeyHasher;
use super::tracking::{Change, Invalidation, TrackingTable};
use super::watching::{Watch, Watched};
use crate::resp::reply::Reply;

bitflags::bitflags! {
    /// What somebody listens to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Interest: u32 {
        /// Canonical commands, in the order of every key.
        const JOURNAL = 1;
        /// Changes of watched keys.
        const WATCHES = 1 << 1;
        /// Changes of keys that clients have read (CLIENT TRACKING).
        const TRACKING = 1 << 2;
        /// Changes of keys with certain prefixes (CLIENT TRACKING BCAST).
        const BROADCAST = 1 << 3;
        /// Changes of keys that are being moved to another node.
        const MOVES = 1 << 4;
        /// What notes the keys that are changed.
        const CHANGES = 15 << 1;
        /// Keyspace events: a bit for each class, so that a run notes those alone that somebody wants.
        const EVENTS = !0 << EVENT_SHIFT;
    }
}

/// Where the classes of events begin in [`Interest`].
const EVENT_SHIFT: u32 = 8;

impl Interest {
    /// The interest in these classes of events.
    pub const fn of_events(classes: EventClass) -> Interest {
        Interest::from_bits_retain(classes.bits() << EVENT_SHIFT)
    }
}

bitflags::bitflags! {
    /// Classes of keyspace events (the letters of notify-keyspace-events).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EventClass: u32 {
        /// `g`: DEL, EXPIRE, RENAME, ...
        const GENERIC = 1;
        /// `$`
        const STRING = 1 << 1;
        /// `x`: a key expired.
        const EXPIRED = 1 << 2;
        /// `e`: a key was evicted.
        const EVICTED = 1 << 3;
        /// `n`: a key was created.
        const NEW = 1 << 4;
        /// `m`: a key was asked for that does not exist.
        const KEY_MISS = 1 << 5;
        /// `l`
        const LIST = 1 << 6;
        /// `s`
        const SET = 1 << 7;
        /// `h`
        const HASH = 1 << 8;
        /// `z`
        const ZSET = 1 << 9;
        /// `t`
        const STREAM = 1 << 10;
    }
}

/// One write in canonical form: what was done, with absolute expiries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The database as clients number it.
    pub database: u32,
    /// The command and its arguments.
    pub command: Vec<Vec<u8>>,
}

impl Record {
    fn new(database: u32, command: &[&[u8]]) -> Record {
        Record {
            database,
            command: command.iter().map(|part| part.to_vec()).collect(),
        }
    }
}

/// A keyspace event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its class.
    pub class: EventClass,
    /// Its name: `set`, `expired`, ...
    pub name: &'static str,
    /// The database as clients number it.
    pub database: u32,
    /// The key.
    pub key: Vec<u8>,
}

/// Somebody who follows the effects: a journal, replicas, publishers of keyspace events.
pub trait Listener: Send + Sync {
    /// What it wants to be told.
    fn interest(&self) -> Interest;
    /// Takes records in the order of every key. Called with partitions locked: it must only append to memory.
    fn append(&self, records: &[Record]);
    /// Takes events, after the partitions were released.
    fn publish(&self, events: &[Event]);
    /// Takes what clients must forget, after the partitions were released.
    fn invalidate(&self, _invalidated: &[Invalidation]) {}
    /// Takes what changed since the last time, without locks.
    fn broadcast(&self, _changes: &[Change]) {}
}

/// The listeners of a keyspace.
pub struct Listeners {
    all: ArcSwap<Vec<Arc<dyn Listener>>>,
    /// The union of their interests. Written by `add` and `renew`, read once per command; a run that misses a fresh listener counts
    /// as having come before it, so relaxed.
    interest: AtomicU32,
    /// A leaf lock. While it is empty, nobody is interested in [`Interest::WATCHES`].
    watched: Mutex<Watched>,
    /// What changes while it is moved. While nothing is, nobody is interested in [`Interest::MOVES`].
    pub departing: Departing,
    /// Who has read which key. Each of its locks is a leaf.
    pub tracking: Arc<TrackingTable>,
}

impl Listeners {
    /// None yet. `hasher` is that of the keyspace.
    pub fn new(hasher: KeyHasher) -> Listeners {
        Listeners {
            all: ArcSwap::from_pointee(Vec::new()),
            interest: AtomicU32::new(0),
            watched: Mutex::default(),
            departing: Departing::default(),
            tracking: Arc::new(TrackingTable::new(hasher)),
        }
    }

    /// Adds one, for good.
    pub fn add(&self, listener: Arc<dyn Listener>) {
        self.interest
            .fetch_or(listener.interest().bits(), Ordering::Relaxed);
        self.all.rcu(|all| {
            all.iter()
                .cloned()
                .chain([listener.clone()])
                .collect::<Vec<_>>()
        });
    }

    /// Asks all what they want now: called when one has changed its mind.
    pub fn renew(&self) {
        // With the lock of those who watch, whose part of the interest stays.
        let _watched = self.watched.lock();
        let all = self.all.load();
        let union = all.iter().fold(Interest::empty(), |union, listener| {
            union | listener.interest()
        });
        let others = self.interest() & (Interest::WATCHES | Interest::MOVES);
        self.interest
            .store((union | others).bits(), Ordering::Relaxed);
    }

    /// What somebody listens to.
    #[inline]
    pub fn interest(&self) -> Interest {
        Interest::from_bits_retain(self.interest.load(Ordering::Relaxed))
    }

    /// Lets a client watch a key, whose partition is locked.
    pub fn watch(&self, database: u32, key: &[u8], watch: &Arc<Watch>, was_expired: bool) {
        let mut watched = self.watched.lock();
        watched.add(database, key, watch, was_expired);
        self.interest
            .fetch_or(Interest::WATCHES.bits(), Ordering::Relaxed);
    }

    /// Ends it.
    pub fn unwatch<'a>(&self, keys: impl Iterator<Item = (u32, &'a [u8])>, watch: &Arc<Watch>) {
        let mut watched = self.watched.lock();
        for (database, key) in keys {
            watched.remove(database, key, watch);
        }
        if watched.is_empty() {
            self.interest
                .fetch_and(!Interest::WATCHES.bits(), Ordering::Relaxed);
        }
    }

    /// Begins to collect the keys that change of those that a transfer of this number moves, in place of what was collected for
    /// it before; at most `limit_bytes` of them. What changes in a partition is collected from the next time on that it is locked.
    pub fn begin_moving(&self, number: u64, leaving: Leaving, limit_bytes: usize) {
        let _watched = self.watched.lock();
        self.departing.begin(number, leaving, limit_bytes);
        self.interest
            .fetch_or(Interest::MOVES.bits(), Ordering::Relaxed);
    }

    /// Ends it.
    pub fn end_moving(&self, number: u64) {
        let _watched = self.watched.lock();
        if self.departing.end(number) {
            self.interest
                .fetch_and(!Interest::MOVES.bits(), Ordering::Relaxed);
        }
    }

    /// Tells those who watch one of the keys that `is_changed` says; either the partitions of all of these are locked, or
    /// nobody runs commands on them.
    pub fn touch_those(&self, is_changed: impl Fn(u32, &[u8]) -> bool) {
        self.watched.lock().touch_those(is_changed);
    }

    fn each(&self, interest: Interest, tell: impl Fn(&dyn Listener)) {
        for listener in self
            .all
            .load()
            .iter()
            .filter(|listener| listener.interest().intersects(interest))
        {
            tell(&**listener);
        }
    }
}

/// Work on a shared value that goes on after its partition was released, and completes the reply.
pub type Later = Box<dyn FnOnce(&mut Reply<'_>) + Send>;

/// Garbage that one run may leave before the rest is freed at once: bounds what waits for the background.
const GARBAGE_MAX: usize = 1024;

/// How far the effects of a run went at some time.
#[derive(Default)]
pub struct Mark {
    dirty: u64,
    hits: u64,
    misses: u64,
    records: usize,
    events: usize,
    ready: usize,
}

/// A key that was changed.
struct Touched {
    database: u32,
    key: Vec<u8>,
    cause: Cause,
}

/// Why a key was changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// By a command.
    Command,
    /// Its time, or that of a part of it, was over.
    Expiry,
    /// It was evicted.
    Eviction,
}

/// The effects of one run. Reused from run to run.
#[derive(Default)]
pub struct Effects {
    /// Interest at the start of the run.
    interest: Cell<u32>,
    /// Changes of keys, as Redis counts them (`rdb_changes_since_last_save`).
    pub dirty: u64,
    /// Reads that found their key.
    pub hits: Cell<u64>,
    /// Reads that did not.
    pub misses: Cell<u64>,
    /// Keys found expired and removed.
    pub expired: u64,
    /// Fields of hashes found expired and removed.
    pub expired_fields: u64,
    /// Change of allocated bytes.
    pub bytes: i64,
    /// Whether the handler said itself what to propagate.
    rewritten: bool,
    /// The keys and fields found expired. They were gone before the run did anything, and stand before its records.
    gone: Vec<Record>,
    records: Vec<Record>,
    events: RefCell<Vec<Event>>,
    garbage: Vec<Garbage>,
    /// The client for which it runs, by its id; 0 is none.
    pub writer: u64,
    /// Keys that were changed by the command that runs.
    touched: Vec<Touched>,
    /// Whether whole databases were emptied by it.
    flushed: bool,
    /// What clients must forget.
    invalidated: Vec<Invalidation>,
    /// What is to be told to those who follow prefixes, at the end of the batch.
    changes: Vec<Change>,
    /// Keys that somebody may wait for and that may be what they wait for.
    ready: Vec<(u32, Vec<u8>)>,
    later: RefCell<Option<Later>>,
}

impl Effects {
    /// Begins a run.
    pub fn begin(&mut self, interest: Interest) {
        self.interest.set(interest.bits());
        self.rewritten = false;
    }

    /// Whether somebody listens to this.
    #[inline]
    pub fn wants(&self, interest: Interest) -> bool {
        self.interest.get() & interest.bits() != 0
    }

    /// Records a command for the journal, instead of the one that the client sent.
    pub fn propagate(&mut self, database: u32, command: &[&[u8]]) {
        self.rewritten = true;
        self.record(database, command);
    }

    /// The client's command does not stand for what was done; other records do, if there are any.
    pub fn propagate_nothing(&mut self) {
        self.rewritten = true;
    }

    /// Records a command beside the one that the client sent (a key evicted).
    pub fn record(&mut self, database: u32, command: &[&[u8]]) {
        if self.wants(Interest::JOURNAL) {
            self.records.push(Record::new(database, command));
        }
    }

    /// Whether the client's command itself stands for what was done.
    pub fn is_verbatim(&self) -> bool {
        !self.rewritten
    }

    /// Records an event.
    #[inline]
    pub fn event(&self, class: EventClass, name: &'static str, database: u32, key: &[u8]) {
        if self.wants(Interest::of_events(class)) {
            self.events.borrow_mut().push(Event {
                class,
                name,
                database,
                key: key.to_vec(),
            });
        }
    }

    /// Notes that a key was changed, for those who watch it or hold a copy.
    #[inline]
    pub fn touch(&mut self, database: u32, key: &[u8]) {
        self.touch_for(Cause::Command, database, key);
    }

    /// The same of a key that was evicted.
    pub fn touch_evicted(&mut self, database: u32, key: &[u8]) {
        self.touch_for(Cause::Eviction, database, key);
    }

    #[inline]
    fn touch_for(&mut self, cause: Cause, database: u32, key: &[u8]) {
        if self.wants(Interest::CHANGES) {
            self.touched.push(Touched {
                database,
                key: key.to_vec(),
                cause,
            });
        }
    }

    /// Forgets what was noted of changes: there was none in the end.
    pub fn forget_touched(&mut self) {
        self.touched
            .retain(|touched| touched.cause != Cause::Command);
    }

    /// Notes that whole databases were emptied, while they are locked: who holds copies must forget all of them.
    pub fn flush(&mut self) {
        self.flushed = true;
    }

    /// Takes an entry that was found expired and removed: tells followers, and keeps what is large for later.
    pub fn expire(&mut self, database: u32, entry: Entry) {
        self.expired += 1;
        if self.wants(Interest::JOURNAL) {
            self.gone
                .push(Record::new(database, &[b"DEL", entry.key()]));
        }
        self.event(EventClass::EXPIRED, "expired", database, entry.key());
        self.touch_for(Cause::Expiry, database, entry.key());
        self.discard(entry.into_garbage());
    }

    /// Takes note of fields of a hash that were found expired and removed: tells followers.
    pub fn expire_fields(&mut self, database: u32, key: &[u8], fields: &[Vec<u8>]) {
        if fields.is_empty() {
            return;
        }
        self.expired_fields += fields.len() as u64;
        if self.wants(Interest::JOURNAL) {
            let names = fields.iter().map(Vec::as_slice);
            let command: Vec<&[u8]> = [&b"HDEL"[..], key].into_iter().chain(names).collect();
            self.gone.push(Record::new(database, &command));
        }
        self.event(EventClass::HASH, "hexpired", database, key);
        self.touch_for(Cause::Expiry, database, key);
    }

    /// Takes the entry of a collection that was left empty and removed; followers know from what left it so.
    pub fn empty(&mut self, database: u32, entry: Entry) {
        self.event(EventClass::GENERIC, "del", database, entry.key());
        self.discard(entry.into_garbage());
    }

    /// Keeps a large value to be freed after release.
    pub fn discard(&mut self, garbage: Option<Garbage>) {
        if let Some(garbage) = garbage
            && self.garbage.len() < GARBAGE_MAX
        {
            self.garbage.push(garbage);
        }
    }

    /// Where the effects stand now.
    pub fn mark(&mut self) -> Mark {
        Mark {
            dirty: self.dirty,
            hits: self.hits.get(),
            misses: self.misses.get(),
            records: self.records.len(),
            events: self.events.get_mut().len(),
            ready: self.ready.len(),
        }
    }

    /// Forgets what was noted since, but what was found expired and its events.
    pub fn rewind(&mut self, mark: &Mark) {
        self.dirty = mark.dirty;
        self.hits.set(mark.hits);
        self.misses.set(mark.misses);
        self.records.truncate(mark.records);
        let events = self.events.get_mut();
        let since = events.split_off(mark.events);
        let is_expired = |event: &Event| event.class == EventClass::EXPIRED;
        events.extend(since.into_iter().filter(is_expired));
        self.ready.truncate(mark.ready);
        self.later.get_mut().take();
        self.forget_touched();
    }

    /// Forgets the records since: followers are not to be told.
    pub fn forget_records(&mut self, mark: &Mark) {
        self.records.truncate(mark.records);
    }

    /// Notes that a key may be what somebody waits for.
    pub fn ready(&mut self, database: u32, key: &[u8]) {
        let known =
            |(its_database, its_key): &(u32, Vec<u8>)| *its_database == database && its_key == key;
        if !self.ready.iter().any(known) {
            self.ready.push((database, key.to_vec()));
        }
    }

    /// Whether a key became ready.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the keys that became ready, in that order.
    #[inline]
    pub fn take_ready(&mut self) -> Vec<(u32, Vec<u8>)> {
        std::mem::take(&mut self.ready)
    }

    /// Leaves the rest of the work, and the reply, for after release.
    pub fn after_release(&self, later: Later) {
        *self.later.borrow_mut() = Some(later);
    }

    /// Takes the work that was left.
    #[inline]
    pub fn take_later(&mut self) -> Option<Later> {
        self.later.get_mut().take()
    }

    /// Takes the large values to be freed.
    #[inline]
    pub fn take_garbage(&mut self) -> Option<Vec<Garbage>> {
        if self.garbage.is_empty() {
            None
        } else {
            Some(std::mem::take(&mut self.garbage))
        }
    }

    /// Makes the records one unit for followers, when there are several.
    pub fn wrap_records(&mut self, database: u32) {
        if self.records.len() > 1 {
            self.records.insert(0, Record::new(database, &[b"MULTI"]));
            self.records.push(Record::new(database, &[b"EXEC"]));
        }
    }

    /// Ends a command, while its keys are locked: tells those who watch what it changed, and takes note of the copies that
    /// clients must forget.
    #[inline]
    pub fn settle_changes(&mut self, listeners: &Listeners) {
        if !self.touched.is_empty() || self.flushed {
            self.settle_all_changes(listeners);
        }
    }

    #[cold]
    fn settle_all_changes(&mut self, listeners: &Listeners) {
        if std::mem::take(&mut self.flushed) {
            listeners.departing.lose();
            listeners.tracking.forget_all();
            self.invalidated.push(Invalidation::Everything);
        }
        if self.wants(Interest::WATCHES) {
            let watched = listeners.watched.lock();
            for touched in &self.touched {
                let by_expiry = touched.cause == Cause::Expiry;
                watched.touch(touched.database, &touched.key, by_expiry);
            }
        }
        if self.wants(Interest::MOVES) {
            let touched = self.touched.iter();
            listeners
                .departing
                .note(touched.map(|touched| (touched.database, &touched.key[..])));
        }
        let interest = Interest::from_bits_retain(self.interest.get());
        for Touched { key, cause, .. } in self.touched.drain(..) {
            if interest.contains(Interest::TRACKING)
                && let Some(readers) = listeners.tracking.take(&key)
            {
                let is_evicted = cause == Cause::Eviction;
                self.invalidated.push(Invalidation::Key {
                    key: key.clone().into(),
                    readers,
                    writer: if is_evicted { 0 } else { self.writer },
                });
            }
            if interest.contains(Interest::BROADCAST) {
                let by_command = cause == Cause::Command;
                let writer = if by_command { self.writer } else { 0 };
                self.changes.push(Change { key, writer });
            }
        }
    }

    /// Notes that clients must forget a key although it was not changed.
    pub fn invalidate(&mut self, invalidation: Invalidation) {
        self.invalidated.push(invalidation);
    }

    /// Appends the records, and ends what [`Effects::settle_changes`] ends. Called while the run's partitions are locked.
    #[inline]
    pub fn append(&mut self, listeners: &Listeners) {
        self.settle_changes(listeners);
        if !self.gone.is_empty() {
            self.gone.append(&mut self.records);
            std::mem::swap(&mut self.gone, &mut self.records);
        }
        if !self.records.is_empty() {
            listeners.each(Interest::JOURNAL, |listener| listener.append(&self.records));
            self.records.clear();
        }
    }

    /// Tells clients what to forget, and publishes the events. Called after release.
    #[inline]
    pub fn publish(&mut self, listeners: &Listeners) {
        if self.events.get_mut().len() | self.invalidated.len() != 0 {
            self.publish_all(listeners);
        }
    }

    #[cold]
    fn publish_all(&mut self, listeners: &Listeners) {
        if !self.invalidated.is_empty() {
            let invalidated = std::mem::take(&mut self.invalidated);
            let interest = Interest::TRACKING | Interest::BROADCAST;
            listeners.each(interest, |listener| {
                listener.invalidate(&invalidated);
            });
        }
        if !self.events.get_mut().is_empty() {
            let events = std::mem::take(self.events.get_mut());
            listeners.each(Interest::EVENTS, |listener| listener.publish(&events));
        }
    }

    /// Tells those who follow prefixes what was changed since the last time. Called without locks.
    #[inline]
    pub fn broadcast(&mut self, listeners: &Listeners) {
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            listeners.each(Interest::BROADCAST, |listener| listener.broadcast(&changes));
        }
    }
}
