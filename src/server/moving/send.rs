//! The sending side: one portion of slots from its first key to its new owner.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::sweep::Walk;
use super::{Moving, Outcome, Pace};
use crate::base::clock::Millis;
use crate::base::worker::{Work, give_worker_away};
use crate::cluster::agree::Later;
use crate::cluster::bus::CallError;
use crate::cluster::map::Change;
use crate::cluster::node::Node;
use crate::cluster::transfer::{
    self, Answer, CHUNK, Chunk, Key, LARGE, Life, Part, Usage, Verdict,
};
use crate::cluster::{Cluster, Owner, SlotSet};
use crate::data::dump;
use crate::data::parts::Whole;
use crate::data::value::Type;
use crate::keyspace::departing::{Leaving, Lost, Name};
use crate::keyspace::effects::Effects;
use crate::keyspace::entry::Entry;
use crate::keyspace::evict::Rules;
use crate::keyspace::lock::{PATIENCE, lock_in, lock_one};
use crate::keyspace::{Keyspace, PARTITIONS};
use crate::server::connection::rest;
use crate::state::Server;

/// Requests on their way to the receiver.
pub const WINDOW: usize = 16;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Names taken at once of those that changed.
const BATCH: usize = 256;
/// So much work may be left for the hold.
const LITTLE: Duration = Duration::from_millis(8);
/// Batches of changes after which there is more hurry.
const HURRY_EVERY: usize = 8;
/// Batches of changes after which an eighth less must be left than so many before; else it is too much.
const PROGRESS_EVERY: usize = 32;
/// How long those who are inside when a hold begins may take to leave.
const LEAVE: Duration = Duration::from_millis(15);
/// How long the last changes may take.
const LAST: Duration = Duration::from_millis(30);
/// How long the receiver may take to say that it has all. Beyond what the hold should last: all that is left is to have the
/// change made, and to begin anew would hold the slots once more.
const SAY_SO: Duration = Duration::from_millis(200);
/// Holds that may come to nothing before fewer slots are tried.
const HOLDS: usize = 8;
/// The hold from which the last resort takes its time.
const PATIENT_FROM: usize = 2;
/// Between two of them.
const BETWEEN_HOLDS: Duration = Duration::from_millis(50);
/// Before a change whose fate is unknown is proposed again.
const PROPOSE_AGAIN: Duration = Duration::from_millis(100);
/// The names of changed keys may take that part of all memory, or this.
const NAMES_SHARE: i64 = 64;
const NAMES_MIN: usize = 1 << 20;

/// Why slots did not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// More was written than could be sent.
    TooMuch,
    /// The receiver has no room.
    NoRoom,
    /// The receiver, or the ring, does not want it so (any more).
    Refused,
    /// The receiver could not be reached, or did not answer.
    Broken,
    /// The receiver did not answer in the time that slots may be held.
    Slow,
    /// Something here runs for too long to be waited for.
    Busy,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::TooMuch => "more is written than can be sent",
            Failure::NoRoom => "the receiver has no room: see its maxmemory and maxmemory-policy",
            Failure::Refused => "refused, the map has changed",
            Failure::Broken => "the receiver cannot be reached",
            Failure::Slow => "the receiver takes too long to answer",
            Failure::Busy => "a command runs for too long",
        })
    }
}

impl From<Lost> for Failure {
    fn from(Lost: Lost) -> Failure {
        Failure::TooMuch
    }
}

/// What has moved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    /// Slots.
    pub slots: usize,
    /// Keys that were sent, those that changed meanwhile each time.
    pub keys: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// For how long the slots were held.
    pub held: Duration,
    /// How much of that the ring took to agree on the change.
    pub agreed: Duration,
}

/// One portion on its way.
pub struct Transfer<'m> {
    moving: &'m Moving,
    to: Node,
    slots: Arc<SlotSet>,
    leaving: Leaving,
    number: u64,
    chunk: Chunk,
    in_flight: VecDeque<Later<Result<Bytes, CallError>>>,
    pace: Pace,
    /// The view by which it was known last that this is wanted.
    version: u64,
    /// What the batch under way has cost.
    worked: Duration,
    /// Nobody rests while slots are held.
    is_held: bool,
    moved: Moved,
    hot: SlotSet,
}

/// What is to be done with a key that was looked at.
enum Look {
    /// It is in the chunk.
    Written,
    /// It goes in parts.
    Large(Box<Large>),
    /// Somebody else has its partition.
    Contended,
}

/// A large value as it was when it was looked at.
struct Large {
    whole: Whole,
    life: Life,
    raw: bool,
}

impl<'m> Transfer<'m> {
    /// Of slots that this node owns, to one that should have them.
    pub fn new(moving: &'m Moving, to: Node, slots: SlotSet, pace: Pace) -> Transfer<'m> {
        let slots = Arc::new(slots);
        let pins = moving.cluster.view().map.pins.clone();
        let its = Arc::clone(&slots);
        // 0 is none.
        let number = fastrand::u64(1..);
        Transfer {
            moving,
            to,
            slots,
            leaving: Arc::new(move |database, key| its.contains(pins.slot(database, key))),
            number,
            chunk: Chunk::new(number),
            in_flight: VecDeque::new(),
            pace,
            version: 0,
            worked: Duration::ZERO,
            is_held: false,
            moved: Moved::default(),
            hot: SlotSet::default(),
        }
    }

    /// The slots with large values that changed again and again, so that a hold would have taken too long.
    pub fn hot(&self) -> &SlotSet {
        &self.hot
    }

    /// Moves them. `is_last_resort`: the hold may take as long as it does. What fails has changed nothing.
    pub async fn run(&mut self, is_last_resort: bool) -> Result<Moved, Failure> {
        let collecting = Collecting::begin(self);
        let done = self.try_run(is_last_resort).await;
        if done.is_err() {
            self.abandon();
        }
        drop(collecting);
        done.map(|()| std::mem::take(&mut self.moved))
    }

    async fn try_run(&mut self, is_last_resort: bool) -> Result<(), Failure> {
        let epoch = self.cluster().view().map.epoch;
        let begin = transfer::write_begin(self.number, epoch, self.slots.iter());
        self.call(begin).await?;
        self.sweep().await?;
        let mut failure = Failure::TooMuch;
        for attempt in 0..HOLDS {
            let is_caught_up = self.catch_up().await?;
            let is_patient = is_last_resort && attempt >= PATIENT_FROM;
            if !is_caught_up && !is_patient {
                return Err(Failure::TooMuch);
            }
            match self.hand_over(is_patient).await {
                // To others than these slots nothing stands in the way.
                Err(Failure::TooMuch) if !is_last_resort && !self.hot.is_empty() => break,
                Err(why @ (Failure::Busy | Failure::TooMuch)) => failure = why,
                done => return done,
            }
            tokio::time::sleep(BETWEEN_HOLDS).await;
        }
        Err(failure)
    }

    fn server(&self) -> &'m Arc<Server> {
        &self.moving.server
    }

    fn keyspace(&self) -> &'m Keyspace {
        &self.moving.server.keyspace
    }

    fn cluster(&self) -> &'m Arc<Cluster> {
        &self.moving.cluster
    }

    /// Sends each key once. What changes behind it is noted: who locks a partition after it was visited knows that it is to
    /// be noted.
    async fn sweep(&mut self) -> Result<(), Failure> {
        let keyspace = self.keyspace();
        let mut walk = Walk::default();
        let mut rest_of_visit: Vec<Name> = Vec::new();
        let mut round = 0;
        while let Some(place) = walk.place(keyspace) {
            let begun = Work::begin();
            let (rules, now) = (self.server().rules.load_full(), self.server().clock.now());
            let is_visited = match lock_one(keyspace, place, round) {
                Ok(held) => {
                    let (chunk, leaving) = (&mut self.chunk, &self.leaving);
                    let pace = &mut self.pace;
                    walk.visit(&held.partition, |entry| {
                        pace.looked_at(1);
                        if !leaving(place.database, entry.key()) || entry.is_expired(now) {
                            return;
                        }
                        if chunk.is_full() || is_large(entry) {
                            rest_of_visit.push((place.database, entry.key().into()));
                        } else {
                            write(chunk, place.database, entry, keyspace, &rules, now);
                        }
                    });
                    true
                }
                Err(_) => false,
            };
            if !is_visited {
                rest(self.server(), round).await;
                round = (round + 1).min(PATIENCE - 1);
                continue;
            }
            round = 0;
            self.pace.worked(begun.took()).await;
            if self.chunk.is_full() {
                self.flush().await?;
            }
            for name in rest_of_visit.drain(..) {
                self.send_one(&name).await?;
            }
            // Else the set has room for what comes: a key that changes often is sent once more, not each time.
            let departing = &keyspace.listeners.departing;
            if departing.is_half_full(self.number) {
                for name in departing.take(self.number, BATCH)? {
                    self.send_one(&name).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends what has changed until little is left. `false`: it does not become little.
    async fn catch_up(&mut self) -> Result<bool, Failure> {
        let departing = &self.keyspace().listeners.departing;
        let mut before = usize::MAX;
        for batch in 1.. {
            let names = departing.take(self.number, BATCH)?;
            let count = names.len();
            self.worked = Duration::ZERO;
            for name in names {
                self.send_one(&name).await?;
            }
            // What the hold will take, if it goes on like this.
            let left = departing.count(self.number);
            let worked = self.worked;
            let is_little = |left: usize| {
                let cost = worked.div_f32(count.max(1) as f32);
                left <= BATCH || cost.saturating_mul(left as u32) <= LITTLE
            };
            if count < BATCH || is_little(left) {
                self.flush().await?;
                self.all_answered().await?;
                if is_little(departing.count(self.number)) {
                    self.pace.calm();
                    return Ok(true);
                }
            }
            if batch % HURRY_EVERY == 0 {
                self.pace.hurry();
            }
            if batch % PROGRESS_EVERY == 0 {
                if left >= before / 8 * 7 {
                    break;
                }
                before = left;
            }
        }
        self.pace.calm();
        Ok(false)
    }

    /// Sends a key as it is now.
    async fn send_one(&mut self, name: &Name) -> Result<(), Failure> {
        let (begun, work) = (Instant::now(), Work::begin());
        let mut round = 0;
        let large = loop {
            match self.look(name, round) {
                Look::Written => break None,
                Look::Large(large) => break Some(large),
                Look::Contended => {
                    rest(self.server(), round).await;
                    round = (round + 1).min(PATIENCE - 1);
                }
            }
        };
        self.worked += begun.elapsed();
        let took = work.took();
        if let Some(large) = large {
            self.flush().await?;
            return self.send_parts(name, *large).await;
        }
        if self.chunk.is_full() {
            self.flush().await?;
        }
        self.pace.worked(took).await;
        Ok(())
    }

    fn look(&mut self, (database, key): &Name, round: u32) -> Look {
        let keyspace = self.keyspace();
        let (rules, now) = (self.server().rules.load_full(), self.server().clock.now());
        let hash = keyspace.hasher().hash(key);
        let Ok(held) = lock_one(keyspace, keyspace.place(*database, hash), round) else {
            return Look::Contended;
        };
        let found = held.partition.find(hash, key);
        match found.filter(|entry| !entry.is_expired(now)) {
            None => self.chunk.gone(*database, key),
            Some(entry) if is_large(entry) => {
                return Look::Large(Box::new(Large {
                    life: life(entry, &rules, now),
                    raw: entry.is_raw(),
                    whole: match (entry.snapshot(), entry.shared()) {
                        (Some(collection), _) => Whole::Collection(collection),
                        (None, Some(text)) => Whole::Text(text.clone()),
                        (None, None) => Whole::Text(Bytes::copy_from_slice(entry.bytes())),
                    },
                }));
            }
            Some(entry) => write(&mut self.chunk, *database, entry, keyspace, &rules, now),
        }
        Look::Written
    }

    /// Sends a large value. What changes it meanwhile is noted, and it is sent again.
    async fn send_parts(&mut self, (database, key): &Name, large: Large) -> Result<(), Failure> {
        let Large { whole, life, raw } = large;
        let now = self.server().clock.now();
        let hasher = self.keyspace().hasher();
        let begun = Work::begin();
        let mut cutter = give_worker_away(|| whole.cut(now, hasher));
        let mut bytes = cutter.next(CHUNK);
        if bytes.is_empty() {
            self.chunk.gone(*database, key);
            return Ok(());
        }
        let name = Bytes::copy_from_slice(key);
        let mut took = begun.took();
        let mut is_first = true;
        while !bytes.is_empty() {
            let begun = Work::begin();
            let next = cutter.next(CHUNK);
            let part = Part {
                key: Key {
                    database: *database,
                    name: name.clone(),
                },
                life,
                kind: whole.kind(),
                raw,
                elements: whole.len() as u64,
                is_first: std::mem::take(&mut is_first),
                is_last: next.is_empty(),
                bytes,
            };
            self.push(transfer::write_part(self.number, &part)).await?;
            took += begun.took();
            if !self.is_held {
                self.pace.worked(std::mem::take(&mut took)).await;
            }
            bytes = next;
        }
        self.moved.keys += 1;
        self.cluster().moved.sent.add(1);
        Ok(())
    }

    /// Holds the slots, sends what is left, and has the map changed.
    async fn hand_over(&mut self, is_patient: bool) -> Result<(), Failure> {
        // Without a lease there may be nobody who could agree on the change.
        if self.server().scripts.has_long_runs() || !self.cluster().has_lease() {
            return Err(Failure::Busy);
        }
        let hold = Hold::begin(self.cluster(), &self.slots);
        self.is_held = true;
        let done = self.hand_over_held(is_patient, &hold).await;
        self.is_held = false;
        self.moved.held = hold.begun.elapsed();
        done
    }

    async fn hand_over_held(&mut self, is_patient: bool, hold: &Hold<'_>) -> Result<(), Failure> {
        let_all_leave(self.server(), hold.begun + LEAVE).await?;
        // From here on nothing changes them but expiry and eviction. Who waits for them, or watches them, does so here no more.
        let leaving = Arc::clone(&self.leaving);
        self.keyspace().waiting.send_away(&*leaving);
        self.keyspace().listeners.touch_those(&*leaving);
        let limit = match is_patient {
            true => ANSWER,
            false => LAST,
        };
        let until = hold.begun + limit;
        self.send_last(until).await?;
        let done = self.complete(until).await;
        if done.is_err() {
            // It must not take what it has for complete once the hold is over.
            self.abandon();
        }
        done?;
        self.tell_readers();
        Ok(())
    }

    /// Sends the changes that are left. What it cannot send in time goes back to those that changed: nothing is lost.
    async fn send_last(&mut self, until: Instant) -> Result<(), Failure> {
        let departing = &self.keyspace().listeners.departing;
        loop {
            let mut names = departing.take(self.number, BATCH)?.into_iter();
            if names.len() == 0 {
                break;
            }
            while let Some(name) = names.next() {
                if self.send_in_hold(&name, until).await? {
                    continue;
                }
                departing.give_back(self.number, [name].into_iter().chain(names));
                return Err(Failure::TooMuch);
            }
        }
        self.answered_down_to(WINDOW - 1, until).await?;
        self.flush().await?;
        self.answered_down_to(0, until).await
    }

    /// Waits until no more than `most` requests are on their way.
    async fn answered_down_to(&mut self, most: usize, until: Instant) -> Result<(), Failure> {
        while self.in_flight.len() > most {
            let left = until.saturating_duration_since(Instant::now());
            if !self.one_answered(left).await? {
                return Err(Failure::TooMuch);
            }
        }
        Ok(())
    }

    /// Sends a key as it is now, unless there is no time for it.
    async fn send_in_hold(&mut self, name: &Name, until: Instant) -> Result<bool, Failure> {
        let is_in_time = || Instant::now() <= until;
        let mut round = 0;
        while is_in_time() {
            match self.look(name, round) {
                // Else the chunk becomes longer than it should be, by what a batch holds at most.
                Look::Written if self.chunk.is_full() && self.in_flight.len() < WINDOW => {
                    return self.flush().await.map(|()| true);
                }
                Look::Written => return Ok(true),
                // Only who has all the time there is.
                Look::Large(large) if until > Instant::now() + LAST => {
                    self.flush().await?;
                    return self.send_parts(name, *large).await.map(|()| true);
                }
                Look::Large(_) => {
                    let pins = &self.cluster().view().map.pins;
                    self.hot.insert(pins.slot(name.0, &name.1));
                    return Ok(false);
                }
                Look::Contended => {
                    rest(self.server(), round).await;
                    round = (round + 1).min(PATIENCE - 1);
                }
            }
        }
        Ok(false)
    }

    async fn complete(&mut self, until: Instant) -> Result<(), Failure> {
        self.push(transfer::write_complete(self.number)).await?;
        let until = until.max(Instant::now() + SAY_SO);
        let done = self.answered_down_to(0, until).await;
        done.map_err(|why| match why {
            Failure::TooMuch => Failure::Slow,
            other => other,
        })?;
        let change = Change::Moved {
            slots: self.slots.iter().collect(),
            from: self.cluster().me,
            to: self.to.id,
        };
        let mut is_known = true;
        let begun = Instant::now();
        loop {
            match self.moving.peers.propose(change.clone()).await {
                Outcome::Made => break,
                Outcome::NotMade => return Err(Failure::Refused),
                Outcome::Unknown if self.count_mine() == 0 => break,
                Outcome::Unknown => {
                    if std::mem::take(&mut is_known) {
                        tracing::warn!(to = %self.to.id, "nobody can tell whether slots were moved: they are held until it is known");
                    }
                    tokio::time::sleep(PROPOSE_AGAIN).await;
                }
            }
        }
        self.moved.agreed = begun.elapsed();
        let left = self.count_mine();
        self.moved.slots = self.slots.len() - left;
        if left > 0 {
            // The map has changed its mind on some: these go on here.
            self.abandon();
        }
        Ok(())
    }

    /// How many of the slots are this node's.
    fn count_mine(&self) -> usize {
        let view = self.cluster().view();
        let is_mine = |slot: &u16| matches!(view.owner(*slot), Owner::Here | Owner::Held);
        self.slots.iter().filter(is_mine).count()
    }

    /// Tells clients that hold copies of keys that have left (CLIENT TRACKING) to forget them: the new owner does not know of
    /// them.
    fn tell_readers(&self) {
        let listeners = &self.keyspace().listeners;
        if listeners.tracking.clients() == 0 {
            return;
        }
        let pins = self.cluster().view().map.pins.clone();
        // Who reads a key is remembered whatever its database.
        let pinned = pins.databases.iter().copied();
        let databases: Vec<u32> = pinned.chain([u32::MAX]).collect();
        let mut effects = Effects::default();
        effects.begin(listeners.interest());
        let leaves = |key: &[u8]| {
            let mut databases = databases.iter();
            databases.any(|database| (self.leaving)(*database, key))
        };
        listeners
            .tracking
            .take_those(leaves, |invalidation| effects.invalidate(invalidation));
        effects.publish(listeners);
    }

    /// Whether there is still something to be moved there: the map may have changed its mind.
    fn check_wanted(&mut self) -> Result<(), Failure> {
        let view = self.cluster().view();
        if view.version == self.version {
            return Ok(());
        }
        self.version = view.version;
        if self.moving.ends.get().is_some() {
            self.pace.hasten();
        }
        let to = view.map.index(self.to.id).ok_or(Failure::Refused)?;
        let is_wanted = |slot: u16| {
            let slot = usize::from(slot);
            view.map.owners[slot] == view.mine && view.map.targets[slot] == to
        };
        match self.slots.iter().any(is_wanted) {
            true => Ok(()),
            false => Err(Failure::Refused),
        }
    }

    /// Sends the chunk.
    async fn flush(&mut self) -> Result<(), Failure> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.check_wanted()?;
        let chunk = std::mem::replace(&mut self.chunk, Chunk::new(self.number));
        self.moved.keys += chunk.len() as u64;
        self.cluster().moved.sent.add(chunk.len() as u64);
        self.push(chunk.finish()).await
    }

    /// Sends a request, when there is room for one more on the way.
    async fn push(&mut self, request: Bytes) -> Result<(), Failure> {
        while self.in_flight.len() >= WINDOW {
            self.must_answer().await?;
        }
        self.moved.bytes += request.len() as u64;
        self.in_flight
            .push_back(self.moving.peers.call(&self.to, request));
        Ok(())
    }

    /// Sends a request behind all others, and waits for its answer.
    async fn call(&mut self, request: Bytes) -> Result<(), Failure> {
        self.push(request).await?;
        self.all_answered().await
    }

    async fn all_answered(&mut self) -> Result<(), Failure> {
        while !self.in_flight.is_empty() {
            self.must_answer().await?;
        }
        Ok(())
    }

    async fn must_answer(&mut self) -> Result<(), Failure> {
        match self.one_answered(ANSWER).await? {
            true => Ok(()),
            false => Err(Failure::Broken),
        }
    }

    /// Waits for the next answer. `false`: it has not come in time, and is still to come.
    async fn one_answered(&mut self, limit: Duration) -> Result<bool, Failure> {
        let Some(call) = self.in_flight.front_mut() else {
            return Ok(true);
        };
        let Ok(answer) = tokio::time::timeout(limit, call).await else {
            return Ok(false);
        };
        self.in_flight.pop_front();
        let answer = answer.map_err(|_| Failure::Broken)?;
        match Answer::read(answer).map(|answer| answer.verdict) {
            Ok(Verdict::Done) => Ok(true),
            Ok(Verdict::NoRoom) => Err(Failure::NoRoom),
            Ok(Verdict::Unknown) => Err(Failure::Refused),
            Ok(Verdict::Malformed) | Err(_) => {
                tracing::error!(to = %self.to.id, "the receiver of keys does not understand this node");
                Err(Failure::Refused)
            }
        }
    }

    /// Tells the receiver to forget what has come. It hears that behind all that is on its way, and before anything that is
    /// said later; that it has heard it is not waited for. If the connection breaks it finds out by itself.
    fn abandon(&mut self) {
        self.in_flight.clear();
        // It may know less of what was agreed on than this node: what has become its own is not to be forgotten.
        let epoch = self.moving.cluster.view().map.epoch;
        let request = transfer::write_abandon(self.number, epoch);
        let told = self.moving.peers.call(&self.to, request);
        tokio::spawn(tokio::time::timeout(ANSWER, told));
    }
}

/// Waits until each partition was free once: who was inside when the hold began has left.
async fn let_all_leave(server: &Server, until: Instant) -> Result<(), Failure> {
    let keyspace = &server.keyspace;
    for (_, database) in keyspace.built() {
        for number in 0..PARTITIONS {
            let mut round = 0;
            while lock_in(keyspace, database, number, 0).is_err() {
                if Instant::now() > until {
                    return Err(Failure::Busy);
                }
                rest(server, round).await;
                round += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn is_large(entry: &Entry) -> bool {
    entry.allocated_bytes() >= LARGE
}

fn life(entry: &Entry, rules: &Rules, now: Millis) -> Life {
    Life {
        expiry: entry.expiry(),
        usage: Usage::of(entry.access(), rules, now),
    }
}

fn write(
    chunk: &mut Chunk,
    database: u32,
    entry: &Entry,
    keyspace: &Keyspace,
    rules: &Rules,
    now: Millis,
) {
    let life = life(entry, rules, now);
    if entry.kind() == Type::String {
        return chunk.text(database, entry.key(), life, entry.is_raw(), entry.bytes());
    }
    let dumped = dump::write(entry.value(), now, keyspace.hasher());
    chunk.value(database, entry.key(), life, &dumped);
}

/// While changes are collected.
struct Collecting<'m> {
    server: &'m Server,
    number: u64,
}

impl<'m> Collecting<'m> {
    fn begin(transfer: &Transfer<'m>) -> Collecting<'m> {
        let keyspace = transfer.keyspace();
        let share = usize::try_from(keyspace.used_bytes() / NAMES_SHARE).unwrap_or(0);
        let limit = share.max(NAMES_MIN);
        keyspace
            .listeners
            .begin_moving(transfer.number, Arc::clone(&transfer.leaving), limit);
        Collecting {
            server: &transfer.moving.server,
            number: transfer.number,
        }
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        self.server.keyspace.listeners.end_moving(self.number);
    }
}

/// While slots are held. What is this node's at its end is served again.
struct Hold<'m> {
    cluster: &'m Cluster,
    slots: Arc<SlotSet>,
    begun: Instant,
}

impl<'m> Hold<'m> {
    fn begin(cluster: &'m Cluster, slots: &Arc<SlotSet>) -> Hold<'m> {
        cluster.hold(slots);
        Hold {
            cluster,
            slots: Arc::clone(slots),
            begun: Instant::now(),
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.cluster.release(&self.slots);
    }
}
