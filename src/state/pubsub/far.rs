//! Subscribers at other nodes of the ring, and clients there that follow prefixes of keys ([`prefixes`]): what each peer has said that it has subscribers for, and what is said to the peers
//! of our own.
//!
//! ```text
//!     SUBSCRIBE here --> log of names --> a Teller for each peer --> "name: 3 subscribers" --> Ear of that peer --> wanted
//!     PUBLISH here   --> wanted --> the peers that want it, each through its Outlet --> their Ears --> their subscribers
//! ```
//!
//! A peer is sent what it wants and nothing else; it hands a message on to its own subscribers only. What is said of a name
//! is how many are subscribed to it *now*, so a name that changes often is said once, and saying it twice does no harm. A
//! connection begins with everything; so does a teller that has fallen so far behind that the log has forgotten the rest.
//! Messages go out under the lock of their channel's shard, where those to local subscribers do: what one node publishes to a
//! channel is seen in one order everywhere. A message for a peer that is not connected is lost, as in Redis Cluster; nobody
//! who publishes waits.
//!
//! Who subscribes learns it when all connected peers have: [`PubSub::wait_until_told`]. From then on what anybody publishes
//! at any of them reaches it.
//!
//! Locks: a shard or the patterns, or the prefixes of `state::tracking`, then `prefixes` or `log`; a shard, then `wanted` (shared), then a link's queue. Nothing else is held
//! with either.

pub mod prefixes;

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::{HEAVY, Payload, PubSub, Topic};
use crate::base::stats::Counter;
use crate::base::worker::give_worker_away;
use crate::cluster::bus::{CallError, Kind, Link};
use crate::cluster::node::NodeId;
use crate::cluster::publish::{Followed, Malformed, Record};
use crate::data::glob::glob_match;
use prefixes::{Heard, Lengths};

/// Names that one peer may want, and their bytes. Beyond, it is sent everything, and its names are not kept.
const NAMES_MAX: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 64 << 20;
/// Changes that are kept for those who are slow to be told, and the bytes of their names; who needs older ones is told
/// everything anew.
const LOG_MAX: usize = 1 << 16;
const LOG_BYTES_MAX: usize = 16 << 20;
/// Bytes of a payload that says names, before one name more.
const CHUNK_BYTES: usize = 128 * 1024;

/// The way to a peer.
pub trait Outlet: Send + Sync {
    /// Sends a payload that `write` appends. It must not wait; `Err`: it is lost.
    fn send(&self, write: &mut dyn FnMut(&mut BytesMut)) -> Result<(), CallError>;
}

impl Outlet for Link {
    fn send(&self, write: &mut dyn FnMut(&mut BytesMut)) -> Result<(), CallError> {
        self.send_piece(Kind::Publish, |buffer| write(buffer))
    }
}

/// Both directions.
pub(super) struct Far {
    /// Whether there is a ring: without, nothing is logged. Set once by its start.
    is_on: AtomicBool,
    wanted: RwLock<Wanted>,
    /// Names that peers want, and peers that want everything: ordinary ones, those of shards, prefixes. Written with `wanted` locked;
    /// a publisher that misses a fresh one came before it.
    counts: [AtomicUsize; 3],
    /// What our own clients follow, and how many of them. Held while `log` is.
    prefixes: RwLock<HashMap<Bytes, usize>>,
    log: Mutex<Log>,
    /// The log has grown.
    news: Notify,
    /// Somebody was told something, or is not connected any more.
    told: Notify,
    /// Numbers connections and tellers, from 1.
    numbers: AtomicU64,
    /// Messages that peers wanted and were not sent.
    lost: Counter,
}

/// Which peer wants a name, by its place, and for how many subscribers.
type Who = SmallVec<[(u16, u32); 2]>;

/// What peers want.
#[derive(Default)]
struct Wanted {
    places: HashMap<NodeId, u16>,
    peers: Vec<Option<Peer>>,
    names: [HashMap<Bytes, Who>; Followed::COUNT],
    lengths: Lengths,
    /// How many peers want everything.
    wants_all: usize,
}

#[derive(Default)]
struct Peer {
    outlet: Option<Arc<dyn Outlet>>,
    /// The connection by which it speaks; what comes late by an earlier one does not count.
    connection: u64,
    names: usize,
    bytes: usize,
    /// More names than are kept.
    wants_all: bool,
    /// Whether it was not told of a change.
    has_lost: AtomicBool,
}

/// Names whose subscribers have changed.
#[derive(Default)]
struct Log {
    changes: VecDeque<(Followed, Bytes)>,
    /// The position of the first of them.
    begin: u64,
    bytes: usize,
    tellers: Vec<Told>,
}

/// How far a teller has come.
struct Told {
    number: u64,
    is_connected: bool,
    position: u64,
}

impl Log {
    fn end(&self) -> u64 {
        self.begin + self.changes.len() as u64
    }

    fn forget_first(&mut self) {
        if let Some((_, name)) = self.changes.pop_front() {
            self.bytes -= name.len();
            self.begin += 1;
        }
    }

    /// Forgets what all who are connected know.
    fn trim(&mut self) {
        let connected = self.tellers.iter().filter(|told| told.is_connected);
        let known = connected.map(|told| told.position).min();
        while self.begin < known.unwrap_or(u64::MAX) && !self.changes.is_empty() {
            self.forget_first();
        }
    }
}

impl std::fmt::Debug for Far {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Far").finish_non_exhaustive()
    }
}

impl Far {
    pub(super) fn new() -> Far {
        Far {
            is_on: AtomicBool::new(false),
            wanted: RwLock::default(),
            counts: Default::default(),
            prefixes: RwLock::default(),
            log: Mutex::default(),
            news: Notify::new(),
            told: Notify::new(),
            numbers: AtomicU64::new(0),
            lost: Counter::default(),
        }
    }

    /// Whether no peer wants anything that is published to ordinary channels.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.counts[0].load(Ordering::Acquire) == 0
    }

    /// Whether no peer wants anything that is published to shard channels.
    pub(super) fn is_idle_for_shards(&self) -> bool {
        self.counts[1].load(Ordering::Acquire) == 0
    }

    /// Notes that the subscribers of a name have changed; to be called with the lock held that they changed under. Returns the
    /// position up to which peers have to be told.
    pub(super) fn note(&self, what: Followed, name: &Bytes) -> u64 {
        if !self.is_on.load(Ordering::Acquire) {
            return 0;
        }
        let mut log = self.log.lock();
        if log.tellers.is_empty() {
            log.begin += 1;
            return log.end();
        }
        log.bytes += name.len();
        log.changes.push_back((what, name.clone()));
        while log.changes.len() > LOG_MAX || log.bytes > LOG_BYTES_MAX {
            log.forget_first();
        }
        let end = log.end();
        drop(log);
        self.news.notify_waiters();
        end
    }

    /// Whether all connected peers have been told of what stands before this position.
    fn is_told(&self, position: u64) -> bool {
        let log = self.log.lock();
        let mut connected = log.tellers.iter().filter(|told| told.is_connected);
        connected.all(|told| told.position >= position)
    }

    async fn wait_until_told(&self, position: u64, limit: Duration) {
        let told = async {
            loop {
                let mut more = std::pin::pin!(self.told.notified());
                more.as_mut().enable();
                if self.is_told(position) {
                    return;
                }
                more.await;
            }
        };
        if tokio::time::timeout(limit, told).await.is_err() {
            tracing::debug!("a peer is slow to be told of a subscription");
        }
    }

    /// Sends a message to the peers that want it. For how many subscribers they want it.
    pub(super) fn publish(&self, topic: Topic, channel: &[u8], payload: &Payload<'_>) -> usize {
        let wanted = self.wanted.read();
        let message = Record::Message {
            topic,
            channel,
            payload: payload.bytes(),
        };
        let mut sent = 0;
        for (place, count) in wanted.who(topic, channel) {
            let peer = wanted
                .peers
                .get(usize::from(place))
                .and_then(Option::as_ref);
            let outlet = peer.and_then(|peer| peer.outlet.as_ref());
            match outlet.map(|outlet| outlet.send(&mut |buffer| message.write(buffer))) {
                Some(Ok(())) => sent += count as usize,
                _ => self.lost.add(1),
            }
        }
        sent
    }

    fn change_wanted<T>(&self, change: impl FnOnce(&mut Wanted) -> T) -> T {
        let mut wanted = self.wanted.write();
        let done = change(&mut wanted);
        let all = wanted.wants_all;
        let [channels, patterns, shards, prefixes] = wanted.names.each_ref().map(HashMap::len);
        self.counts[0].store(channels + patterns + all, Ordering::Release);
        self.counts[1].store(shards + all, Ordering::Release);
        self.counts[2].store(prefixes + all, Ordering::Release);
        done
    }
}

impl Wanted {
    /// The peers that want a message, each once, with its number of subscribers.
    fn who(&self, topic: Topic, channel: &[u8]) -> SmallVec<[(u16, u32); 8]> {
        let mut found = SmallVec::<[(u16, u32); 8]>::new();
        let mut add = |who: &[(u16, u32)]| {
            for (place, count) in who {
                match found.iter_mut().find(|(known, _)| known == place) {
                    Some((_, sum)) => *sum = sum.saturating_add(*count),
                    None => found.push((*place, *count)),
                }
            }
        };
        if let Some(who) = self.names[topic as usize].get(channel) {
            add(who);
        }
        let patterns = &self.names[Topic::Pattern as usize];
        if topic == Topic::Channel && !patterns.is_empty() {
            let mut match_all = || {
                let matching = patterns
                    .iter()
                    .filter(|(pattern, _)| glob_match(pattern, channel, false));
                matching.for_each(|(_, who)| add(who));
            };
            if patterns.len() > HEAVY {
                give_worker_away(match_all);
            } else {
                match_all();
            }
        }
        let all = self.peers.iter().enumerate().filter(|_| self.wants_all > 0);
        for (place, peer) in all {
            if peer.as_ref().is_some_and(|peer| peer.wants_all) {
                add(&[(place as u16, 0)]);
            }
        }
        found
    }

    fn peer(&mut self, id: NodeId) -> (u16, &mut Peer) {
        let place = match self.places.entry(id) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                let free = self.peers.iter().position(Option::is_none);
                let place = free.unwrap_or_else(|| {
                    self.peers.push(None);
                    self.peers.len() - 1
                });
                *vacant.insert(place as u16)
            }
        };
        let peer = self.peers[usize::from(place)].get_or_insert_default();
        (place, peer)
    }

    /// Whether what comes by a connection counts: there is no newer one.
    fn is_current(&mut self, id: NodeId, connection: u64) -> bool {
        let (_, peer) = self.peer(id);
        peer.connection = peer.connection.max(connection);
        peer.connection == connection
    }

    /// Forgets what the peer of a place wants.
    fn void(&mut self, place: u16) {
        for names in &mut self.names {
            names.retain(|_, who| {
                who.retain(|(its, _)| *its != place);
                !who.is_empty()
            });
        }
        if let Some(peer) = &mut self.peers[usize::from(place)] {
            self.wants_all -= usize::from(peer.wants_all);
            (peer.names, peer.bytes, peer.wants_all) = (0, 0, false);
        }
        self.lengths = Lengths::of(self.names[Followed::Prefix.number()].keys());
    }

    fn note(&mut self, id: NodeId, what: Followed, name: &[u8], count: u32) {
        let (place, peer) = self.peer(id);
        if peer.wants_all {
            return;
        }
        let names = &mut self.names[what.number()];
        if count == 0 {
            let Some(who) = names.get_mut(name) else {
                return;
            };
            let before = who.len();
            who.retain(|(its, _)| *its != place);
            let has_gone = who.len() < before;
            if who.is_empty() {
                names.remove(name);
                if what == Followed::Prefix {
                    self.lengths.remove(name.len());
                }
            }
            if has_gone && let Some(peer) = &mut self.peers[usize::from(place)] {
                peer.names -= 1;
                peer.bytes -= name.len();
            }
            return;
        }
        // Copied, since the name is a piece of a larger buffer.
        let who = match names.get_mut(name) {
            Some(who) => who,
            None => {
                if what == Followed::Prefix {
                    self.lengths.add(name.len());
                }
                names.entry(Bytes::copy_from_slice(name)).or_default()
            }
        };
        if let Some((_, known)) = who.iter_mut().find(|(its, _)| *its == place) {
            *known = count;
            return;
        }
        who.push((place, count));
        let Some(peer) = &mut self.peers[usize::from(place)] else {
            return;
        };
        peer.names += 1;
        peer.bytes += name.len();
        if peer.names > NAMES_MAX || peer.bytes > NAME_BYTES_MAX {
            tracing::warn!(peer = %id, "a peer has subscribers for so many names that it is sent everything");
            self.void(place);
            self.peer(id).1.wants_all = true;
            self.wants_all += 1;
        }
    }
}

/// What concerns the other nodes.
impl PubSub {
    /// This server belongs to a ring: from now on changes are logged for tellers.
    pub fn join_ring(&self) {
        self.far.is_on.store(true, Ordering::Release);
    }

    /// Waits until all connected peers have been told of what a subscription has changed, at most `limit`.
    pub async fn wait_until_told(&self, position: u64, limit: Duration) {
        self.far.wait_until_told(position, limit).await;
    }

    /// Messages that peers wanted and were not sent.
    pub fn lost(&self) -> u64 {
        self.far.lost.value()
    }

    /// The way to a peer from now on.
    pub fn set_outlet(&self, peer: NodeId, outlet: Arc<dyn Outlet>) {
        self.far
            .change_wanted(|wanted| wanted.peer(peer).1.outlet = Some(outlet));
    }

    /// Forgets the peers of which `stays` says that they are not in the ring any more.
    pub fn retain_peers(&self, stays: &dyn Fn(NodeId) -> bool) {
        self.far.change_wanted(|wanted| {
            let gone: Vec<NodeId> = wanted
                .places
                .keys()
                .copied()
                .filter(|id| !stays(*id))
                .collect();
            for id in gone {
                if let Some(place) = wanted.places.remove(&id) {
                    wanted.void(place);
                    wanted.peers[usize::from(place)] = None;
                }
            }
        });
    }

    /// What tells a peer of our subscribers.
    pub fn teller(self: &Arc<Self>) -> Teller {
        let number = self.far.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        self.far.log.lock().tellers.push(Told {
            number,
            is_connected: false,
            position: 0,
        });
        Teller {
            pubsub: Arc::clone(self),
            number,
            position: 0,
            unsaid: Vec::new(),
            is_new: false,
            is_anew: false,
        }
    }

    /// What listens to a peer, by a connection that has just begun.
    pub fn ear(self: &Arc<Self>, peer: NodeId) -> Ear {
        let connection = self.far.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        Ear {
            pubsub: Arc::clone(self),
            peer,
            connection,
            speaks: AtomicBool::new(false),
        }
    }

    /// The names of all that somebody is subscribed to.
    fn all_names(&self) -> Vec<(Followed, Bytes)> {
        let mut all = Vec::new();
        for topic in [Topic::Channel, Topic::Shard] {
            let names = self.channels(topic, None).into_iter();
            all.extend(names.map(|name| (topic.into(), name)));
        }
        let patterns = self.patterns.read();
        let names = patterns.keys().cloned();
        all.extend(names.map(|name| (Topic::Pattern.into(), name)));
        drop(patterns);
        let prefixes = self.far.prefixes.read();
        all.extend(prefixes.keys().map(|name| (Followed::Prefix, name.clone())));
        all
    }
}

/// Tells one peer what this node has subscribers for.
pub struct Teller {
    pubsub: Arc<PubSub>,
    number: u64,
    /// What is in the log before it was said, or is in `unsaid`.
    position: u64,
    unsaid: Vec<(Followed, Bytes)>,
    /// Whether what the peer knows is void.
    is_new: bool,
    /// Whether everything was said since the peer has last heard all.
    is_anew: bool,
}

impl Teller {
    /// A connection has begun: the peer has to be told everything.
    pub fn begin(&mut self) {
        let mut log = self.pubsub.far.log.lock();
        self.position = log.end();
        let number = self.number;
        let mut tellers = log.tellers.iter_mut();
        if let Some(told) = tellers.find(|told| told.number == number) {
            (told.is_connected, told.position) = (true, 0);
        }
        drop(log);
        self.say_everything();
    }

    /// After the position was taken: what changes meanwhile comes once more from the log.
    fn say_everything(&mut self) {
        self.is_new = true;
        self.is_anew = true;
        self.unsaid = self.pubsub.all_names();
    }

    /// The connection is gone: nobody waits for the peer to be told.
    pub fn end(&mut self) {
        let mut log = self.pubsub.far.log.lock();
        let number = self.number;
        let mut tellers = log.tellers.iter_mut();
        if let Some(told) = tellers.find(|told| told.number == number) {
            told.is_connected = false;
        }
        log.trim();
        drop(log);
        self.pubsub.far.told.notify_waiters();
    }

    /// The next thing to say; `None` when all was said. It is to be said before the next one is asked for.
    pub fn say_next(&mut self) -> Option<BytesMut> {
        if self.unsaid.is_empty() && !self.is_new {
            self.catch_up();
        }
        if self.unsaid.is_empty() && !self.is_new {
            return None;
        }
        let mut payload = BytesMut::new();
        if std::mem::take(&mut self.is_new) {
            Record::Reset.write(&mut payload);
        }
        while payload.len() < CHUNK_BYTES
            && let Some((what, name)) = self.unsaid.pop()
        {
            let count = match what {
                Followed::Topic(topic) => self.pubsub.subscriber_count(topic, &name),
                Followed::Prefix => self.pubsub.far.followers(&name),
            };
            Record::Subscribers {
                what,
                name: &name,
                count: u32::try_from(count).unwrap_or(u32::MAX),
            }
            .write(&mut payload);
        }
        Some(payload)
    }

    fn catch_up(&mut self) {
        let log = self.pubsub.far.log.lock();
        let from = self.position.checked_sub(log.begin);
        self.position = log.end();
        match from {
            Some(from) => {
                let new = log.changes.iter().skip(from as usize);
                let new: HashSet<(Followed, Bytes)> = new.cloned().collect();
                self.unsaid = new.into_iter().collect();
            }
            None => {
                drop(log);
                self.say_everything();
            }
        }
    }

    /// The peer has heard all that was said. To be called when [`Teller::say_next`] has nothing more. Whether it was told
    /// everything anew: then it has not told us of changes meanwhile.
    pub fn heard(&mut self) -> bool {
        let mut log = self.pubsub.far.log.lock();
        let mut tellers = log.tellers.iter_mut();
        if let Some(told) = tellers.find(|told| told.number == self.number) {
            told.position = self.position;
        }
        log.trim();
        drop(log);
        self.pubsub.far.told.notify_waiters();
        std::mem::take(&mut self.is_anew)
    }

    /// Waits until there is something to say.
    pub async fn news(&self) {
        loop {
            let mut news = std::pin::pin!(self.pubsub.far.news.notified());
            news.as_mut().enable();
            if self.pubsub.far.log.lock().end() > self.position {
                return;
            }
            news.await;
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let mut log = self.pubsub.far.log.lock();
        log.tellers.retain(|told| told.number != self.number);
        log.trim();
        drop(log);
        self.pubsub.far.told.notify_waiters();
    }
}

/// Listens to one connection of a peer.
pub struct Ear {
    pubsub: Arc<PubSub>,
    peer: NodeId,
    connection: u64,
    /// Written and read by the task of the connection.
    speaks: AtomicBool,
}

impl Ear {
    /// Takes in what the peer says: its messages go to our subscribers, what it wants is remembered.
    ///
    /// # Errors
    /// It is not what peers say; what stood before that counts.
    pub fn hear(&self, mut payload: &[u8]) -> Result<Heard, Malformed> {
        let mut heard = Heard::default();
        self.speaks.store(true, Ordering::Relaxed);
        let far = &self.pubsub.far;
        let (peer, connection) = (self.peer, self.connection);
        while let Some(record) = Record::read(&mut payload)? {
            match record {
                Record::Message {
                    topic,
                    channel,
                    payload,
                } => {
                    let payload = Payload::new(payload, None);
                    self.pubsub.publish_here(topic, channel, &payload);
                }
                Record::Reset => {
                    far.change_wanted(|wanted| {
                        if wanted.is_current(peer, connection) {
                            let (place, _) = wanted.peer(peer);
                            wanted.void(place);
                        }
                    });
                    // What it had to tell before this connection was there it did not.
                    heard.is_lost = true;
                }
                Record::Subscribers { what, name, count } => far.change_wanted(|wanted| {
                    if wanted.is_current(peer, connection) {
                        wanted.note(peer, what, name, count);
                    }
                }),
                Record::Change { writer, key } => heard.note(writer, key),
                Record::Lost => heard.is_lost = true,
            }
        }
        Ok(heard)
    }

    /// Whether it has heard anything: other connections of a peer carry other things.
    pub fn has_heard(&self) -> bool {
        self.speaks.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
