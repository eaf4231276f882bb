//! The receiving side: keys are put where they belong, below everything that serves clients.
//!
//! No check of routing, no event, no record: they are nobody's yet. A key goes in while its slot is expected from that sender
//! ([`Cluster::expect`]), which is looked at again with its partition locked; so when the slot has become this node's, or dead,
//! nothing comes behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::TURN;
use crate::base::clock::Millis;
use crate::base::rng::Rng;
use crate::base::worker::give_worker_away;
use crate::cluster::node::NodeId;
use crate::cluster::slots::SLOTS;
use crate::cluster::transfer::{Answer, Item, Key, Life, Part, Request, Verdict, What};
use crate::cluster::{Cluster, NotExpected, SlotSet, View};
use crate::data::dump::{self, Dumped};
use crate::data::parts::Assembler;
use crate::keyspace::effects::Effects;
use crate::keyspace::entry::{Entry, NewValue};
use crate::keyspace::evict::{self, Policy, Pressure, Rules};
use crate::keyspace::lock::{Contended, PATIENCE, lock_one};
use crate::server::background;
use crate::server::connection::rest;
use crate::state::Server;

/// How long nothing may come of a transfer before what came is forgotten.
pub const PATIENCE_FOR_MORE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const TEND: Duration = Duration::from_secs(5);
/// How long a sender of a later epoch, or this node's lease, is waited for.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How long the removal of left-overs may take before a transfer that waits for it is refused.
const CLEAN_UP: Duration = Duration::from_secs(20);
/// Keys evicted for a request at most, as when a client writes.
const EVICT_ROUNDS: usize = 4096;

/// Takes keys from other nodes.
pub struct Importer {
    server: Arc<Server>,
    cluster: Arc<Cluster>,
    /// One for each node that has sent. A leaf lock.
    sessions: Mutex<HashMap<NodeId, Arc<tokio::sync::Mutex<Session>>>>,
    /// The transfer that brings, or last brought, each slot: a session remembers its slots when they have long become this
    /// node's, or are on their way from another one. Held while slots begin to be expected, or are given up.
    bringing: Mutex<Vec<u64>>,
}

/// What one node sends.
struct Session {
    /// Of the transfer; 0 is none.
    number: u64,
    slots: SlotSet,
    /// The view by which the slots were looked at last.
    version: u64,
    staged: Option<Staged>,
    is_complete: bool,
    heard: Instant,
}

/// A large value that has not come to its end.
struct Staged {
    key: Key,
    life: Life,
    raw: bool,
    assembler: Assembler,
}

impl Default for Session {
    fn default() -> Session {
        Session {
            number: 0,
            slots: SlotSet::default(),
            version: 0,
            staged: None,
            is_complete: false,
            heard: Instant::now(),
        }
    }
}

impl Importer {
    /// For the keys of a server.
    pub fn new(server: Arc<Server>, cluster: Arc<Cluster>) -> Importer {
        Importer {
            server,
            cluster,
            sessions: Mutex::default(),
            bringing: Mutex::new(vec![0; SLOTS]),
        }
    }

    /// Does what a node asks, and writes the answer. Requests of a node are to be handled one after the other.
    pub async fn handle(&self, from: NodeId, request: Bytes, answer: &mut BytesMut) {
        let session = Arc::clone(self.sessions.lock().entry(from).or_default());
        let mut session = session.lock().await;
        session.heard = Instant::now();
        let verdict = match Request::read(request) {
            Ok(request) => self.run(from, &mut session, request).await,
            Err(_) => Verdict::Malformed,
        };
        if verdict == Verdict::Malformed {
            tracing::warn!(%from, "keys that were sent here could not be read");
        }
        let epoch = self.cluster.view().map.epoch;
        Answer { epoch, verdict }.write(answer);
    }

    async fn run(&self, from: NodeId, session: &mut Session, request: Request) -> Verdict {
        if let What::Begin { epoch, slots } = request.what {
            let slots = slots.into_iter().collect();
            return self
                .begin(from, session, request.number, epoch, slots)
                .await;
        }
        if request.number != session.number {
            return Verdict::Unknown;
        }
        let done = match request.what {
            What::Begin { .. } => Ok(()),
            What::Keys(_) | What::Part(_) if session.is_complete => Err(Verdict::Unknown),
            What::Keys(items) => {
                let mut done = self.make_room();
                let mut begun = Instant::now();
                for item in items {
                    if done.is_err() {
                        break;
                    }
                    done = match item {
                        Ok(item) => self.item(session, item).await,
                        Err(_) => Err(Verdict::Malformed),
                    };
                    // The sender keeps to its share; this keeps others from waiting.
                    if begun.elapsed() >= TURN {
                        tokio::task::yield_now().await;
                        begun = Instant::now();
                    }
                }
                done
            }
            What::Part(part) => self.part(session, part).await,
            What::Complete => self.complete(session),
            What::Abandon { epoch } => {
                // With an older map it might give up what has become its own.
                if self.catches_up(epoch).await || !session.is_complete {
                    self.give_up(session);
                    *session = Session::default();
                    Ok(())
                } else {
                    Err(Verdict::Unknown)
                }
            }
        };
        done.err().unwrap_or(Verdict::Done)
    }

    /// Begins anew, with nothing of these slots. Not before this node may serve them: one that was let in just now has no lease
    /// yet, and clients that are sent to it were told that the cluster is down.
    async fn begin(
        &self,
        from: NodeId,
        session: &mut Session,
        number: u64,
        epoch: u64,
        slots: SlotSet,
    ) -> Verdict {
        let cluster = &self.cluster;
        // With an older map the transfer before would be given up although it has come to its end.
        if !self.catches_up(epoch).await && session.is_complete {
            return Verdict::Unknown;
        }
        if !cluster.wait_for_lease(CATCH_UP).await {
            return Verdict::Unknown;
        }
        self.give_up(session);
        *session = Session::default();
        let is_dead = |view: &View| view.dead.as_ref().is_some_and(|dead| dead.meets(&slots));
        loop {
            match self.expect(from, number, &slots) {
                Ok(()) => break,
                Err(NotExpected::Owner) => return Verdict::Unknown,
                Err(NotExpected::LeftOvers) if is_dead(&cluster.view()) => {
                    if !cluster.wait_for(CLEAN_UP, |view| !is_dead(view)).await {
                        return Verdict::Unknown;
                    }
                }
                // A transfer that this one takes the place of.
                Err(NotExpected::LeftOvers) => cluster.abandon(&slots),
            }
        }
        session.number = number;
        session.slots = slots;
        Verdict::Done
    }

    fn expect(&self, from: NodeId, number: u64, slots: &SlotSet) -> Result<(), NotExpected> {
        let mut bringing = self.bringing.lock();
        self.cluster.expect(from, slots)?;
        slots
            .iter()
            .for_each(|slot| bringing[usize::from(slot)] = number);
        Ok(())
    }

    /// Forgets the keys that a transfer brought, but for those of slots that come from elsewhere by now.
    fn give_up(&self, session: &Session) {
        let bringing = self.bringing.lock();
        let is_its = |slot: &u16| bringing[usize::from(*slot)] == session.number;
        let slots: SlotSet = session.slots.iter().filter(is_its).collect();
        if !slots.is_empty() {
            self.cluster.abandon(&slots);
        }
    }

    /// Waits until this node knows of this epoch. Whether it does.
    async fn catches_up(&self, epoch: u64) -> bool {
        self.cluster
            .wait_for(CATCH_UP, |view| view.map.epoch >= epoch)
            .await
    }

    fn complete(&self, session: &mut Session) -> Result<(), Verdict> {
        if session.staged.is_some() {
            return Err(Verdict::Malformed);
        }
        self.check(session)?;
        self.cluster.complete(&session.slots);
        session.is_complete = true;
        Ok(())
    }

    /// Whether the slots are still expected. To be asked again with a partition locked, by [`Importer::is_current`].
    fn check(&self, session: &mut Session) -> Result<(), Verdict> {
        let view = self.cluster.view();
        if session.version == view.version {
            return Ok(());
        }
        let bringing = self.bringing.lock();
        let is_its = |slot: u16| bringing[usize::from(slot)] == session.number;
        let mut slots = session.slots.iter();
        if !slots.all(|slot| view.arrives(slot) && is_its(slot)) {
            return Err(Verdict::Unknown);
        }
        session.version = view.version;
        Ok(())
    }

    fn is_current(&self, session: &Session) -> bool {
        self.cluster.version() == session.version
    }

    /// Makes room as a client's write would.
    fn make_room(&self) -> Result<(), Verdict> {
        let server = &self.server;
        let rules = server.rules.load();
        if rules.maxmemory == 0 {
            return Ok(());
        }
        let rng = Rng::from_system();
        let pressure = Pressure {
            rules: &rules,
            base_bytes: server.base_bytes.load(Ordering::Relaxed),
            now: server.clock.now(),
            rng: &rng,
            watch: None,
        };
        if !pressure.is_over(&server.keyspace, 0) {
            return Ok(());
        }
        if rules.policy == Policy::NoEviction {
            return Err(Verdict::NoRoom);
        }
        let mut effects = Effects::default();
        effects.begin(server.keyspace.listeners.interest());
        let (outcome, evicted) = give_worker_away(|| {
            evict::evict(&server.keyspace, &pressure, EVICT_ROUNDS, &mut effects)
        });
        server.stats.mine().evicted.add(evicted as u64);
        background::settle(server, &mut effects);
        match outcome {
            evict::Outcome::Exhausted => Err(Verdict::NoRoom),
            _ => Ok(()),
        }
    }

    async fn item(&self, session: &mut Session, item: Item) -> Result<(), Verdict> {
        self.check_key(session, item.key())?;
        let (rules, now) = (self.server.rules.load_full(), self.server.clock.now());
        let (key, entry) = match item {
            Item::Gone(key) => (key, None),
            Item::Text {
                key,
                life,
                raw,
                text,
            } => {
                let entry = self.text(&key, life, raw, &text, &rules, now);
                (key, entry)
            }
            Item::Value { key, life, payload } => {
                let dumped = dump::read(&payload, &self.dump_rules(&rules));
                let dumped = dumped.map_err(|_| Verdict::Malformed)?;
                let entry = self.entry(&key, life, false, dumped, &rules, now);
                (key, entry)
            }
        };
        self.put(session, &key, entry).await
    }

    async fn part(&self, session: &mut Session, part: Part) -> Result<(), Verdict> {
        self.check_key(session, &part.key)?;
        let rules = self.server.rules.load_full();
        let dump_rules = self.dump_rules(&rules);
        if part.is_first {
            self.make_room()?;
            let elements = usize::try_from(part.elements).map_err(|_| Verdict::Malformed)?;
            let limit = rules.max_string_bytes;
            let assembler = Assembler::new(part.kind, elements, limit, &dump_rules);
            // A copy of the name: the frame that it came with is as long as the part.
            let name = Bytes::copy_from_slice(&part.key.name);
            session.staged = Some(Staged {
                key: Key { name, ..part.key },
                life: part.life,
                raw: part.raw,
                assembler,
            });
        } else if session
            .staged
            .as_ref()
            .is_none_or(|staged| staged.key != part.key)
        {
            return Err(Verdict::Malformed);
        }
        let Some(staged) = &mut session.staged else {
            return Err(Verdict::Malformed);
        };
        let added = give_worker_away(|| staged.assembler.add(&part.bytes, &dump_rules));
        added.map_err(|_| Verdict::Malformed)?;
        if !part.is_last {
            return Ok(());
        }
        let Some(staged) = session.staged.take() else {
            return Err(Verdict::Malformed);
        };
        let whole = give_worker_away(|| staged.assembler.finish(&dump_rules));
        let whole = whole.map_err(|_| Verdict::Malformed)?;
        let now = self.server.clock.now();
        let entry = self.entry(&staged.key, staged.life, staged.raw, whole, &rules, now);
        self.put(session, &staged.key, entry).await
    }

    fn dump_rules<'a>(&'a self, rules: &Rules) -> dump::Rules<'a> {
        dump::Rules {
            list: rules.list,
            set: rules.set,
            hash: rules.hash,
            zset: rules.zset,
            hasher: self.server.keyspace.hasher(),
        }
    }

    fn check_key(&self, session: &Session, key: &Key) -> Result<(), Verdict> {
        let slot = self.cluster.view().map.pins.slot(key.database, &key.name);
        let is_known = (key.database as usize) < self.server.keyspace.database_count();
        match is_known && session.slots.contains(slot) {
            true => Ok(()),
            false => Err(Verdict::Malformed),
        }
    }

    /// The entry of a value; none if its time is over, or nothing is in it.
    fn entry(
        &self,
        key: &Key,
        life: Life,
        raw: bool,
        dumped: Dumped,
        rules: &Rules,
        now: Millis,
    ) -> Option<Entry> {
        let value = match dumped {
            Dumped::String(text) if text.len() < crate::keyspace::entry::SHARED_MIN => {
                return self.text(key, life, raw, &text, rules, now);
            }
            Dumped::String(text) => {
                let value = NewValue::Shared(text.into());
                let entry = Entry::new(&key.name, value, life.expiry, raw);
                return alive(entry, life, rules, now);
            }
            Dumped::Collection(value) => value,
        };
        if value.is_empty() {
            return None;
        }
        let entry = Entry::collection(&key.name, value, life.expiry);
        alive(entry, life, rules, now)
    }

    fn text(
        &self,
        key: &Key,
        life: Life,
        raw: bool,
        text: &[u8],
        rules: &Rules,
        now: Millis,
    ) -> Option<Entry> {
        // Copied, whatever its length: kept, it would keep all that came with it.
        let entry = Entry::new(&key.name, NewValue::Copy(text), life.expiry, raw);
        alive(entry, life, rules, now)
    }

    /// Puts an entry in the place of what is there, or removes that.
    async fn put(
        &self,
        session: &mut Session,
        key: &Key,
        entry: Option<Entry>,
    ) -> Result<(), Verdict> {
        let keyspace = &self.server.keyspace;
        let hash = keyspace.hasher().hash(&key.name);
        let place = keyspace.place(key.database, hash);
        let mut entry = Some(entry);
        let mut round = 0;
        loop {
            self.check(session)?;
            let done = match lock_one(keyspace, place, round) {
                Ok(mut held) if self.is_current(session) => {
                    let before = held.partition.remove(hash, &key.name);
                    if let Some(entry) = entry.take().flatten() {
                        held.partition.insert(hash, entry);
                    }
                    keyspace.account(held.partition.take_bytes());
                    Some(before)
                }
                Ok(_) => continue,
                Err(Contended) => None,
            };
            match done {
                Some(before) => {
                    self.cluster.moved.received.add(1);
                    if let Some(garbage) = before.and_then(Entry::into_garbage) {
                        self.server.discard(vec![garbage]);
                    }
                    return Ok(());
                }
                None => {
                    rest(&self.server, round).await;
                    round = (round + 1).min(PATIENCE - 1);
                }
            }
        }
    }

    /// Forgets what has not come to its end, again and again.
    pub async fn tend(&self) {
        loop {
            tokio::time::sleep(TEND).await;
            self.forget_idle();
        }
    }

    /// Forgets what has not come to its end and of which nothing was heard for [`PATIENCE_FOR_MORE`]. What is complete waits for
    /// the map: its owner holds it.
    pub fn forget_idle(&self) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            let Ok(mut session) = session.try_lock() else {
                continue;
            };
            if session.number == 0 || session.heard.elapsed() < PATIENCE_FOR_MORE {
                continue;
            }
            let is_over = self.check(&mut session).is_err();
            if !session.is_complete && !is_over {
                self.give_up(&session);
            }
            if !session.is_complete || is_over {
                *session = Session::default();
            }
        }
    }
}

/// The entry with its use, unless its time is over.
fn alive(entry: Entry, life: Life, rules: &Rules, now: Millis) -> Option<Entry> {
    entry.set_access(life.usage.access(rules, now));
    (!entry.is_expired(now)).then_some(entry)
}
