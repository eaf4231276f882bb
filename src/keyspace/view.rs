//! View: all that a data handler sees.
//!
//! The locked partitions of one run, with the time, chance and limits it runs under. An expired key is absent: a read
//! leaves it to [`View::finish`], a write removes it first. A key outside the plan is refused: it reads as absent, cannot be
//! written, and trips an assertion in tests, since it means that a row's key specs are wrong.

use std::cell::RefCell;

use bytes::Bytes;

use super::Keyspace;
use super::effects::{Effects, EventClass, Interest, Later};
use super::entry::{Entry, NewValue};
use super::evict::Rules;
use super::hash::KeyHasher;
use super::lock::{Leave, Locked, Place, Places, Plan, lock_more, position};
use super::partition::Partition;
use super::sweep::Scene;
use super::undo::Undo;
use super::whole::Mapping;
use crate::base::clock::Millis;
use crate::base::rng::Rng;
use crate::base::worker::give_worker_away;
use crate::data::value::Type;
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::CommandError;

/// Length from which reading a whole value is work for after release: about 50 us of it.
const LATER_MIN: usize = 1024 * 1024;

/// Length from which a value that is changed may have to be copied for longer than other connections should wait: it grows
/// out of its class, or a reply still holds it.
const HEAVY_BYTES: usize = 8 * 1024 * 1024;

/// Length from which the system is asked whether it has so much memory.
const PROBED_MIN: usize = 64 * 1024 * 1024;

/// What a run works under.
#[derive(Clone, Copy)]
pub struct Run<'k> {
    /// The time of the run.
    pub now: Millis,
    /// The parameters of the keyspace.
    pub rules: &'k Rules,
    /// Chance.
    pub rng: &'k Rng,
    /// Whether reads move the access clock (CLIENT NO-TOUCH).
    pub touch: bool,
}

impl Run<'_> {
    /// Moves an entry's access clock on.
    #[inline]
    pub(super) fn move_access(&self, entry: &Entry) {
        let access = entry.access();
        let next = self.rules.next_access(access, self.now, self.rng);
        // Accesses of the same second leave the cache line clean.
        if next != access {
            entry.set_access(next);
        }
    }
}

/// What becomes of a key's expiry when its value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// None any more.
    Clear,
    /// As it was.
    Keep,
    /// This instant.
    At(Millis),
}

/// The locked part of the keyspace.
pub struct View<'k> {
    pub(super) keyspace: &'k Keyspace,
    /// The database of the client, by its number.
    pub(super) database: u32,
    locked: Locked<'k>,
    pub(super) run: Run<'k>,
    /// Hash of the run's first key, by the address of its bytes: most runs have one key, hashed once.
    known: Option<(*const u8, usize, u64)>,
    /// What the run causes.
    pub effects: &'k mut Effects,
    /// The changes counted before the command.
    dirty: u64,
    /// Keys that reads found expired, to be removed before release.
    overdue: RefCell<Vec<(u32, u64, Vec<u8>)>>,
    /// Whether a waiter's command is run for it, because something became of its key.
    is_woken: bool,
    /// Keys whose collection was left empty: they read as absent and are removed at the end of the command.
    pub(super) emptied: Vec<(u32, u64, Vec<u8>)>,
    /// The entries as they were, when the changes may have to be taken back.
    pub(super) undo: Option<Box<Undo>>,
}

impl<'k> View<'k> {
    /// Whether other nodes have other keys of the same database: a key that is not here may be there.
    pub fn is_partial(&self) -> bool {
        self.keyspace.is_partial(self.database)
    }

    /// A view of what was locked. `known` is a key of the request whose hash is at hand.
    pub fn new(
        keyspace: &'k Keyspace,
        database: u32,
        locked: Locked<'k>,
        run: Run<'k>,
        known: Option<(&[u8], u64)>,
        effects: &'k mut Effects,
    ) -> View<'k> {
        let known = known.map(|(key, hash)| (key.as_ptr(), key.len(), hash));
        let dirty = effects.dirty;
        View {
            dirty,
            keyspace,
            database,
            locked,
            run,
            known,
            effects,
            overdue: RefCell::new(Vec::new()),
            is_woken: false,
            emptied: Vec::new(),
            undo: None,
        }
    }

    /// The time.
    pub fn now(&self) -> Millis {
        self.run.now
    }

    /// The parameters of the keyspace.
    pub fn rules(&self) -> &'k Rules {
        self.run.rules
    }

    /// Chance.
    pub fn rng(&self) -> &'k Rng {
        self.run.rng
    }

    /// The database the view works on, by the client's number.
    pub fn database(&self) -> u32 {
        self.database
    }

    /// The keyed hash.
    pub fn hasher(&self) -> &'k KeyHasher {
        self.keyspace.hasher()
    }

    /// How many databases there are.
    pub fn database_count(&self) -> usize {
        self.keyspace.database_count()
    }

    /// Says that a waiter's command is run for it.
    pub fn wake(&mut self) {
        self.is_woken = true;
    }

    /// Whether a waiter's command is run for it: what was there when it began to wait may be gone.
    pub fn is_woken(&self) -> bool {
        self.is_woken
    }

    /// Works on another database, whose partitions the plan holds too (MOVE, COPY).
    pub fn within<T>(&mut self, database: u32, work: impl FnOnce(&mut Self) -> T) -> T {
        let own = std::mem::replace(&mut self.database, database);
        let result = work(self);
        self.database = own;
        result
    }

    /// A key's entry, counted as a hit or a miss and with its access clock moved.
    #[inline]
    pub fn lookup(&self, key: &[u8]) -> Option<&Entry> {
        let found = self.lookup_untouched(key);
        if let Some(entry) = found {
            self.touch(entry);
        }
        found
    }

    /// As [`View::lookup`], moving the access clock whatever CLIENT NO-TOUCH says (TOUCH).
    pub fn lookup_and_touch(&self, key: &[u8]) -> Option<&Entry> {
        let found = self.lookup_untouched(key);
        if let Some(entry) = found {
            self.run.move_access(entry);
        }
        found
    }

    /// A key's entry, counted as a hit or a miss; its access clock stays (TTL, TYPE, EXISTS).
    #[inline]
    pub fn lookup_untouched(&self, key: &[u8]) -> Option<&Entry> {
        let found = self.lookup_quietly(key);
        if found.is_none() {
            self.effects
                .event(EventClass::KEY_MISS, "keymiss", self.database, key);
        }
        found
    }

    /// As [`View::lookup_untouched`], without a key-miss event (OBJECT).
    #[inline]
    pub fn lookup_quietly(&self, key: &[u8]) -> Option<&Entry> {
        let found = self.peek(key);
        let count = if found.is_some() {
            &self.effects.hits
        } else {
            &self.effects.misses
        };
        count.set(count.get() + 1);
        found
    }

    /// A key's entry, neither counted nor touched.
    #[inline]
    pub fn peek(&self, key: &[u8]) -> Option<&Entry> {
        let hash = self.hash_of(key);
        let entry = self.partition(hash)?.find(hash, key)?;
        if !self.emptied.is_empty() && self.emptied(hash, key).is_some() {
            return None;
        }
        if entry.is_expired(self.run.now) {
            self.overdue
                .borrow_mut()
                .push((self.database, hash, key.to_vec()));
            return None;
        }
        Some(entry)
    }

    /// A key's string, counted and touched. `None` when there is no such key.
    #[inline]
    pub fn string(&self, key: &[u8]) -> Result<Option<&Entry>, CommandError> {
        only_string(self.lookup(key))
    }

    /// A key's entry for a write: touched, not counted.
    #[inline]
    pub fn lookup_for_write(&self, key: &[u8]) -> Option<&Entry> {
        let found = self.peek(key);
        if let Some(entry) = found {
            self.touch(entry);
        }
        found
    }

    /// A key's string for a write: touched, not counted. `None` when there is no such key.
    #[inline]
    pub fn string_for_write(&self, key: &[u8]) -> Result<Option<&Entry>, CommandError> {
        only_string(self.lookup_for_write(key))
    }

    /// Sets a key to a string, whatever was there. Returns whether the key is new.
    #[inline]
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, ttl: Ttl) -> bool {
        self.set_with_encoding(key, value, ttl, false)
    }

    /// As [`View::set`], for a value that was put together piece by piece: its encoding is reported as raw.
    pub fn set_raw(&mut self, key: &[u8], value: NewValue<'_>, ttl: Ttl) -> bool {
        self.set_with_encoding(key, value, ttl, true)
    }

    fn set_with_encoding(&mut self, key: &[u8], value: NewValue<'_>, ttl: Ttl, raw: bool) -> bool {
        let hash = self.hash_of(key);
        self.purge(hash, key);
        let run = self.run;
        let Some(partition) = self.partition_mut(hash) else {
            return false;
        };
        let mut replaced = Type::String;
        let in_place = |entry: &mut Entry| {
            let expiry = match ttl {
                Ttl::At(at) => Some(at),
                Ttl::Clear | Ttl::Keep => None,
            };
            entry.overwrite(value.as_slice(), raw, expiry).then(|| {
                run.move_access(entry);
                None
            })
        };
        let updated = partition.update_unless(hash, key, in_place, |entry| {
            replaced = entry.kind();
            run.move_access(entry);
            match ttl {
                Ttl::Keep => entry.set_value(value.clone(), raw),
                // With the expiry gone first the value is moved at most once.
                Ttl::Clear => {
                    entry.set_expiry(None);
                    entry.set_value(value.clone(), raw)
                }
                Ttl::At(at) => {
                    entry.set_expiry(Some(at));
                    entry.set_value(value.clone(), raw)
                }
            }
        });
        let is_new = match updated {
            Some(garbage) => {
                self.effects.discard(garbage);
                self.gone(replaced, key);
                false
            }
            None => {
                let expiry = if let Ttl::At(at) = ttl {
                    Some(at)
                } else {
                    None
                };
                let entry = Entry::new(key, value, expiry, raw);
                entry.set_access(run.rules.first_access(run.now));
                if let Some(partition) = self.partition_mut(hash) {
                    partition.insert(hash, entry);
                }
                self.effects
                    .event(EventClass::NEW, "new", self.database, key);
                true
            }
        };
        self.effects.dirty += 1;
        self.effects.touch(self.database, key);
        is_new
    }

    /// Refuses a string that would be longer than proto-max-bulk-len, or than there is memory for: where that limit was raised
    /// beyond the machine's memory, `SETRANGE k 1099511627776 x` must not end the process.
    pub fn check_length(&self, length: usize) -> Result<(), CommandError> {
        let is_allowed = length <= self.run.rules.max_string_bytes
            && (length < PROBED_MIN || Vec::<u8>::new().try_reserve_exact(length).is_ok());
        is_allowed.then_some(()).ok_or(CommandError::StringTooLong)
    }

    /// Lets `change` write into a key's string, at least `length` bytes of it, zeros behind what was there. The key is
    /// created when it is missing, keeps its expiry, and its encoding becomes raw. `None` never happens for a key of the
    /// plan.
    pub fn edit<T>(
        &mut self,
        key: &[u8],
        length: usize,
        change: impl FnOnce(&mut [u8]) -> T,
    ) -> Option<T> {
        let hash = self.hash_of(key);
        self.purge(hash, key);
        self.effects.dirty += 1;
        self.effects.touch(self.database, key);
        if self.peek(key).is_none() {
            self.effects.dirty -= 1;
            self.set_raw(key, zeroed(length), Ttl::Clear);
        }
        let partition = self.partition_mut(hash)?;
        let edit = || partition.update(hash, key, |entry| entry.edit(length, change));
        if length >= HEAVY_BYTES {
            give_worker_away(edit)
        } else {
            edit()
        }
    }

    /// Removes a key. Returns whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.take(key)
            .map(|entry| self.effects.discard(entry.into_garbage()))
            .is_some()
    }

    /// Takes a key's entry out.
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = self.hash_of(key);
        self.purge(hash, key);
        let entry = self.partition_mut(hash)?.remove(hash, key)?;
        self.effects.dirty += 1;
        self.gone(entry.kind(), key);
        self.effects.touch(self.database, key);
        Some(entry)
    }

    /// Puts an entry under a key that is free (or expired), with the expiry and the access clock it has.
    pub fn put(&mut self, key: &[u8], entry: Entry) {
        let hash = self.hash_of(key);
        // What reads as absent may still be there: a second entry of the same key would come to light later.
        self.purge(hash, key);
        let expiry = entry.expiry();
        let entry = if entry.key() == key {
            entry
        } else {
            entry.renamed(key, expiry)
        };
        let kind = entry.kind();
        if let Some(partition) = self.partition_mut(hash) {
            partition.insert(hash, entry);
        }
        self.effects.dirty += 1;
        self.effects.touch(self.database, key);
        self.effects
            .event(EventClass::NEW, "new", self.database, key);
        self.ready(kind, key);
    }

    /// Sets or clears a key's expiry. Returns whether the key is there.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Option<Millis>) -> bool {
        let hash = self.hash_of(key);
        self.purge(hash, key);
        let Some(partition) = self.partition_mut(hash) else {
            return false;
        };
        let changed = partition
            .update(hash, key, |entry| entry.set_expiry(expiry))
            .is_some();
        self.effects.dirty += u64::from(changed);
        self.effects.touch(self.database, key);
        changed
    }

    /// Sets a key's access clock (OBJECT, RESTORE).
    pub fn set_access(&self, key: &[u8], access: u32) {
        if let Some(entry) = self.peek(key) {
            entry.set_access(access);
        }
    }

    /// Tells followers what was done, in place of the command that the client sent.
    pub fn propagate(&mut self, command: &[&[u8]]) {
        if self.effects.wants(Interest::JOURNAL) {
            self.effects.propagate(self.database, command);
        }
    }

    /// Tells followers nothing but what [`View::propagate`] tells them.
    pub fn propagate_nothing(&mut self) {
        self.effects.propagate_nothing();
    }

    /// Whether there are followers to be told: if not, what they would be told need not be put together.
    pub fn has_followers(&self) -> bool {
        self.effects.wants(Interest::JOURNAL)
    }

    /// Reports a keyspace event.
    #[inline]
    pub fn notify(&self, class: EventClass, name: &'static str, key: &[u8]) {
        self.effects.event(class, name, self.database, key);
    }

    /// Works on a value and writes the reply: at once, or after release when the value is shared and at least
    /// [`LATER_MIN`] long, so that nobody waits for the partition meanwhile.
    pub fn work(
        &self,
        entry: &Entry,
        reply: &mut Reply<'_>,
        work: impl FnOnce(&[u8], &mut Reply<'_>) + Send + 'static,
    ) {
        match Self::hold(entry) {
            Some(value) if value.len() >= LATER_MIN => {
                self.after_release(Box::new(move |reply| work(&value, reply)))
            }
            _ => work(entry.bytes(), reply),
        }
    }

    /// Finishes the reply after the partitions are released, with what the work holds of the value.
    pub fn after_release(&self, later: Later) {
        self.effects.after_release(later);
    }

    /// The value to work on after release: a shared buffer is kept, not copied.
    pub fn hold(entry: &Entry) -> Option<Bytes> {
        entry.shared().cloned()
    }

    /// Removes what reads found expired and settles the memory account. The partitions stay locked until the view drops.
    #[inline(always)]
    pub fn finish(&mut self) {
        if self.effects.dirty == self.dirty {
            self.effects.forget_touched();
        }
        if !self.emptied.is_empty() {
            self.remove_all_emptied();
        }
        if !self.overdue.get_mut().is_empty() {
            for (database, hash, key) in std::mem::take(self.overdue.get_mut()) {
                self.within(database, |view| view.purge(hash, &key));
            }
        }
        for held in &mut self.locked {
            self.effects.bytes += held.partition.take_bytes();
        }
    }

    /// Begins the next command of a transaction. `known` is a key of it whose hash is at hand.
    pub fn begin(&mut self, database: u32, touch: bool, known: Option<(&[u8], u64)>) {
        self.database = database;
        self.known = known.map(|(key, hash)| (key.as_ptr(), key.len(), hash));
        self.run.touch = touch;
        self.dirty = self.effects.dirty;
        self.effects.begin(self.keyspace.listeners.interest());
    }

    /// Ends a command: settles what it left, and records the request as it is when nothing else was recorded for it.
    pub fn end(&mut self, request: Arguments<'_>) {
        let is_changed = self.effects.dirty != self.dirty;
        self.finish();
        if is_changed && self.effects.wants(Interest::JOURNAL) && self.effects.is_verbatim() {
            let command: Vec<&[u8]> = request.iter().collect();
            self.effects.record(self.database, &command);
        }
        self.effects.settle_changes(&self.keyspace.listeners);
    }

    /// The scene, the partitions and the effects, for what works on whole partitions.
    pub fn parts(&mut self) -> (Scene<'k>, &mut Locked<'k>, &mut Effects) {
        let scene = Scene {
            keyspace: self.keyspace,
            database: self.database,
            run: self.run,
        };
        (scene, &mut self.locked, self.effects)
    }

    /// Remembers that a client has read a key, which is locked and whose hash this is.
    pub fn remember_reader(&mut self, hash: u64, key: &[u8], client: u64) {
        let tracking = &self.keyspace.listeners.tracking;
        let effects = &mut *self.effects;
        tracking.remember(hash, key, client, self.run.rng, |evicted| {
            effects.invalidate(evicted);
        });
    }

    /// Appends the run's records to the journal; called while the partitions are locked.
    pub fn append(&mut self) {
        self.effects.append(&self.keyspace.listeners);
    }

    #[inline]
    pub(super) fn touch(&self, entry: &Entry) {
        if self.run.touch {
            self.run.move_access(entry);
        }
    }

    /// Removes a key if it is expired, and tells followers; or if its collection was left empty. All changes of a key begin here.
    #[inline]
    pub(super) fn purge(&mut self, hash: u64, key: &[u8]) {
        let now = self.run.now;
        if self.undo.is_some() {
            self.save(hash, key);
        }
        if !self.emptied.is_empty() {
            self.remove_emptied(key);
        }
        let Some(partition) = self.partition_mut(hash) else {
            return;
        };
        if partition.expires() == 0
            || !partition
                .find(hash, key)
                .is_some_and(|entry| entry.is_expired(now))
        {
            return;
        }
        if let Some(entry) = partition.remove(hash, key) {
            self.gone(entry.kind(), key);
            self.effects.expire(self.database, entry);
        }
    }

    #[inline]
    pub(super) fn hash_of(&self, key: &[u8]) -> u64 {
        match self.known {
            Some((at, len, hash)) if at == key.as_ptr() && len == key.len() => hash,
            _ => self.keyspace.hasher().hash(key),
        }
    }

    #[inline]
    fn index(&self, hash: u64) -> Option<usize> {
        let place = self.keyspace.place(self.database, hash);
        let found = position(&self.locked, place);
        debug_assert!(
            found.is_some(),
            "a handler asked for a key outside its plan: {place:?}"
        );
        found
    }

    #[inline]
    pub(super) fn partition(&self, hash: u64) -> Option<&Partition<'k>> {
        self.index(hash).map(|index| &self.locked[index].partition)
    }

    #[inline]
    pub(super) fn partition_mut(&mut self, hash: u64) -> Option<&mut Partition<'k>> {
        self.index(hash)
            .map(|index| &mut self.locked[index].partition)
    }

    /// To collect where keys are kept.
    pub fn places(&self) -> Places {
        Places::new(self.database)
    }

    /// Locks more partitions beside those that it has. The mapping is brought by who holds it.
    pub fn lock_more(
        &mut self,
        places: &[Place],
        leave: &Leave<'_>,
        mapping: Option<&Mapping<'_>>,
    ) {
        let places = places.iter().copied();
        lock_more(self.keyspace, &mut self.locked, places, leave, mapping);
    }

    /// Locks all that it has not.
    pub fn lock_rest(&mut self, leave: &Leave<'_>, mapping: &Mapping<'_>) {
        self.keyspace.lock_rest(&mut self.locked, leave, mapping);
    }

    /// The partitions that are locked.
    pub fn held_places(&self) -> Plan {
        self.locked.iter().map(|held| held.place).collect()
    }

    /// Whether this partition is locked.
    #[inline]
    pub fn holds_place(&self, place: Place) -> bool {
        position(&self.locked, place).is_some()
    }

    /// Whether all of these are locked.
    pub fn holds(&self, places: &[Place]) -> bool {
        let held = |place: &Place| self.locked.binary_search_by_key(place, |held| held.place);
        places.iter().all(|place| held(place).is_ok())
    }

    /// Where a key is kept.
    pub fn place(&self, key: &[u8]) -> Place {
        self.keyspace.place(self.database, self.hash_of(key))
    }
}

fn only_string(found: Option<&Entry>) -> Result<Option<&Entry>, CommandError> {
    match found {
        Some(entry) if entry.kind() != Type::String => Err(CommandError::WrongType),
        found => Ok(found),
    }
}

/// A value of `length` zeros; a large one comes from fresh pages, not from clearing memory.
fn zeroed(length: usize) -> NewValue<'static> {
    NewValue::Shared(Bytes::from(vec![0; length]))
}
