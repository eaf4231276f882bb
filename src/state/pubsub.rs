//! Who is subscribed to what, and how messages reach their outboxes.
//!
//! A channel belongs to a shard by its hash. PUBLISH leaves its message in the outboxes of all subscribers while it holds
//! that shard's lock, so every subscriber sees the messages of a channel in one order, and who has unsubscribed gets none
//! any more. Patterns stand apart, behind a lock that publishers share. Locks are taken in this order: shard, patterns, the
//! burst of a name, a client's outbox, a burst's text. A message is written once for each protocol; from 16 KiB on the
//! outboxes share its payload, and those of many subscribers share smaller messages, too ([`outbox`](super::outbox)).
//!
//! In a ring subscribers at other nodes are sent what they want, too ([`far`]); what is counted here are this node's.
//!
//! An outbox is bounded by client-output-buffer-limit of the class pubsub: who is over the hard limit is closed, with a log
//! line and a counter, and gets nothing more. The soft limit is watched by the connection itself.

pub mod far;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::collections::hash_map::{Entry, HashMap, RandomState};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::Server;
use super::clients::{Client, ClientKind};
use super::outbox::{Burst, place};
use crate::base::stats::Counter;
use crate::base::worker::give_worker_away;
pub use crate::cluster::publish::Topic;
use crate::data::glob::glob_match;
use far::Far;

/// Locks over which the channels are spread.
const SHARDS: usize = 64;
/// Subscribers, names and patterns from which going through them may take more than a millisecond.
const HEAVY: usize = 4096;
/// Bytes from which an outbox shares a payload instead of holding a copy.
const SHARED_BYTES: usize = 16 * 1024;
/// Subscribers from which a message is written to a burst of all of them instead of into each outbox.
const SHARED_SUBSCRIBERS: usize = 8;
/// What a subscription takes beside its name, for the accounts of clients: places in two maps.
const SUBSCRIPTION_BYTES: usize = 128;

/// The subscribers of one name, in the order of their ids.
#[derive(Debug, Default)]
struct Subscribers {
    clients: Vec<Arc<Client>>,
    /// What all of them have a share in and have not sent yet. Held while a message is delivered, so that each of them gets
    /// the bursts in one order.
    burst: Mutex<Weak<Burst>>,
}

impl Subscribers {
    fn add(&mut self, client: &Arc<Client>) {
        if let Err(place) = self.place_of(client.id) {
            *self.burst.get_mut() = Weak::new();
            self.clients.insert(place, Arc::clone(client));
        }
    }

    fn remove(&mut self, id: u64) {
        if let Ok(place) = self.place_of(id) {
            *self.burst.get_mut() = Weak::new();
            self.clients.remove(place);
        }
    }

    fn len(&self) -> usize {
        self.clients.len()
    }

    fn place_of(&self, id: u64) -> Result<usize, usize> {
        self.clients.binary_search_by_key(&id, |known| known.id)
    }
}

type Names = HashMap<Bytes, Subscribers>;

fn remove_from(names: &mut Names, name: &Bytes, id: u64) {
    if let Entry::Occupied(mut found) = names.entry(name.clone()) {
        found.get_mut().remove(id);
        if found.get().clients.is_empty() {
            found.remove();
        }
    }
}

/// Channels of one kind.
#[derive(Debug)]
struct Channels {
    shards: Box<[Mutex<Names>]>,
    /// Channels with subscribers. Written with a shard locked; a publisher that misses a fresh one came before it.
    count: AtomicUsize,
    hasher: RandomState,
}

impl Channels {
    fn new() -> Channels {
        Channels {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, name: &[u8]) -> &Mutex<Names> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    /// Changes the subscribers of a shard and counts its channels.
    fn change<T>(&self, name: &[u8], change: impl FnOnce(&mut Names) -> T) -> T {
        let mut names = self.shard(name).lock();
        let before = names.len();
        let done = change(&mut names);
        let after = names.len();
        if after >= before {
            self.count.fetch_add(after - before, Ordering::Release);
        } else {
            self.count.fetch_sub(before - after, Ordering::Release);
        }
        done
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn names(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let matching = || {
            let mut found = Vec::new();
            for shard in &self.shards {
                let names = shard.lock();
                let names = names
                    .keys()
                    .filter(|name| pattern.is_none_or(|pattern| glob_match(pattern, name, false)));
                found.extend(names.cloned());
            }
            found
        };
        if self.count() > HEAVY {
            give_worker_away(matching)
        } else {
            matching()
        }
    }
}

/// A message as it goes to the subscribers of one name, written once for each protocol that somebody speaks.
struct Message<'m> {
    /// Its kind and, of a pattern, the pattern; the channel comes behind.
    head: &'m [&'m [u8]],
    channel: &'m [u8],
    payload: &'m Payload<'m>,
    /// For RESP2 and RESP3.
    written: [Option<SmallVec<[Bytes; 3]>>; 2],
}

/// What is published: shared bytes when it is so large that nobody copies it.
pub enum Payload<'p> {
    /// Copied into each outbox.
    Small(&'p [u8]),
    /// Shared by all outboxes.
    Large(Bytes),
}

impl<'p> Payload<'p> {
    /// A payload, and its shared buffer if it has one already.
    pub fn new(bytes: &'p [u8], shared: Option<&Bytes>) -> Payload<'p> {
        if bytes.len() < SHARED_BYTES {
            Payload::Small(bytes)
        } else {
            Payload::Large(
                shared
                    .cloned()
                    .unwrap_or_else(|| Bytes::copy_from_slice(bytes)),
            )
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Small(bytes) => bytes,
            Payload::Large(bytes) => bytes,
        }
    }
}

impl<'m> Message<'m> {
    fn new(head: &'m [&'m [u8]], channel: &'m [u8], payload: &'m Payload<'m>) -> Message<'m> {
        Message {
            head,
            channel,
            payload,
            written: [None, None],
        }
    }

    fn for_protocol(&mut self, protocol: u8) -> &[Bytes] {
        let place = place(protocol);
        if self.written[place].is_none() {
            let mut text = Vec::new();
            self.write(protocol, &mut text);
            let mut parts = SmallVec::from_iter([Bytes::from(text)]);
            if let Payload::Large(bytes) = self.payload {
                parts.extend([bytes.clone(), Bytes::from_static(b"\r\n")]);
            }
            self.written[place] = Some(parts);
        }
        self.written[place].as_deref().unwrap_or_default()
    }

    /// Writes it, up to the payload if that is large.
    fn write(&self, protocol: u8, text: &mut Vec<u8>) {
        let kind = if protocol == 3 { b'>' } else { b'*' };
        header(text, kind, self.head.len() + 2);
        for part in self.head.iter().chain([&self.channel]) {
            header(text, b'$', part.len());
            text.extend_from_slice(part);
            text.extend_from_slice(b"\r\n");
        }
        header(text, b'$', self.payload.bytes().len());
        if let Payload::Small(bytes) = self.payload {
            text.extend_from_slice(bytes);
            text.extend_from_slice(b"\r\n");
        }
    }
}

fn header(text: &mut Vec<u8>, kind: u8, count: usize) {
    text.push(kind);
    text.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    text.extend_from_slice(b"\r\n");
}

/// All subscriptions of a server.
#[derive(Debug)]
pub struct PubSub {
    channels: Channels,
    shard_channels: Channels,
    patterns: RwLock<Names>,
    /// How many patterns there are. Written with their lock held.
    pattern_count: AtomicUsize,
    /// The hard limit of an outbox; 0 for none. Written by CONFIG SET.
    limit_bytes: AtomicUsize,
    /// Clients closed for their output.
    closed: Arc<Counter>,
    far: Far,
}

impl PubSub {
    /// Nobody is subscribed. `closed` counts those whose outbox was over the limit.
    pub fn new(closed: Arc<Counter>) -> PubSub {
        PubSub {
            channels: Channels::new(),
            shard_channels: Channels::new(),
            patterns: RwLock::default(),
            pattern_count: AtomicUsize::new(0),
            limit_bytes: AtomicUsize::new(0),
            closed,
            far: Far::new(),
        }
    }

    /// Changes the hard limit of an outbox.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes
            .store(limit_bytes as usize, Ordering::Relaxed);
    }

    /// Returns up to where other nodes have to be told.
    fn subscribe(&self, topic: Topic, name: &Bytes, client: &Arc<Client>) -> u64 {
        let add = |names: &mut Names| {
            names.entry(name.clone()).or_default().add(client);
            self.far.note(topic.into(), name)
        };
        self.change(topic, name, add)
    }

    fn unsubscribe(&self, topic: Topic, name: &Bytes, id: u64) {
        self.change(topic, name, |names| {
            remove_from(names, name, id);
            self.far.note(topic.into(), name)
        });
    }

    fn change(&self, topic: Topic, name: &[u8], change: impl FnOnce(&mut Names) -> u64) -> u64 {
        match topic {
            Topic::Channel => self.channels.change(name, change),
            Topic::Shard => self.shard_channels.change(name, change),
            Topic::Pattern => {
                let mut patterns = self.patterns.write();
                let position = change(&mut patterns);
                self.pattern_count.store(patterns.len(), Ordering::Release);
                position
            }
        }
    }

    /// Whether nobody gets what is published to ordinary channels.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.is_idle_here() && self.far.is_idle()
    }

    #[inline]
    fn is_idle_here(&self) -> bool {
        self.channels.count() == 0 && self.pattern_count() == 0
    }

    /// PUBLISH. How many got it here, and how many it was sent to elsewhere, as far as their nodes have said.
    pub fn publish(&self, channel: &[u8], payload: &Payload<'_>) -> usize {
        if self.is_idle() {
            return 0;
        }
        self.publish_to(Topic::Channel, channel, payload, !self.far.is_idle())
    }

    /// SPUBLISH. As [`PubSub::publish`].
    pub fn publish_shard(&self, channel: &[u8], payload: &Payload<'_>) -> usize {
        let is_far = !self.far.is_idle_for_shards();
        self.publish_to(Topic::Shard, channel, payload, is_far)
    }

    /// A message that was published elsewhere: for our own subscribers alone.
    fn publish_here(&self, topic: Topic, channel: &[u8], payload: &Payload<'_>) {
        if topic == Topic::Shard || !self.is_idle_here() {
            self.publish_to(topic, channel, payload, false);
        }
    }

    fn publish_to(
        &self,
        topic: Topic,
        channel: &[u8],
        payload: &Payload<'_>,
        is_far: bool,
    ) -> usize {
        // Held to the end, patterns and peers included: one order for all who get messages of this channel.
        let names = self.of(topic).shard(channel).lock();
        let here = match topic {
            Topic::Shard => names.get(channel).map_or(0, |subscribers| {
                self.deliver(subscribers, Message::new(&[b"smessage"], channel, payload))
            }),
            Topic::Channel | Topic::Pattern => self.deliver_matching(&names, channel, payload),
        };
        if !is_far {
            return here;
        }
        here + self.far.publish(topic, channel, payload)
    }

    /// Delivers to the subscribers of an ordinary channel, and to those of patterns.
    fn deliver_matching(&self, names: &Names, channel: &[u8], payload: &Payload<'_>) -> usize {
        let mut sent = 0;
        if let Some(subscribers) = names.get(channel) {
            sent += self.deliver(subscribers, Message::new(&[b"message"], channel, payload));
        }
        if self.pattern_count() > 0 {
            let patterns = self.patterns.read();
            let mut match_all = || {
                for (pattern, subscribers) in &*patterns {
                    if glob_match(pattern, channel, false) {
                        let head: [&[u8]; 2] = [b"pmessage", pattern];
                        sent += self.deliver(subscribers, Message::new(&head, channel, payload));
                    }
                }
            };
            if patterns.len() > HEAVY {
                give_worker_away(match_all);
            } else {
                match_all();
            }
        }
        sent
    }

    fn deliver(&self, subscribers: &Subscribers, mut message: Message<'_>) -> usize {
        let count = subscribers.len();
        if count < SHARED_SUBSCRIBERS || matches!(message.payload, Payload::Large(_)) {
            self.post_all(subscribers, |client, limit| {
                client.deliver(limit, |protocol, outbox| {
                    for part in message.for_protocol(protocol) {
                        outbox.push_part(part);
                    }
                })
            });
            return count;
        }
        let mut last = subscribers.burst.lock();
        let is_told = last
            .upgrade()
            .is_some_and(|burst| burst.extend(|protocol, text| message.write(protocol, text)));
        if !is_told {
            let burst = Arc::default();
            *last = Arc::downgrade(&burst);
            self.post_all(subscribers, |client, limit| {
                client.share(limit, &burst, |protocol, text| {
                    message.write(protocol, text)
                })
            });
        }
        count
    }

    /// Leaves something in the outboxes of all, by a function of the client and the limit of its outbox that says whether
    /// the client is within it.
    fn post_all(&self, subscribers: &Subscribers, mut post: impl FnMut(&Client, usize) -> bool) {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        let mut post_all = || {
            for client in &subscribers.clients {
                if !post(client, limit) {
                    self.closed.add(1);
                    tracing::warn!(client = client.id, addr = %client.addr, "closed: a subscriber does not read, over client-output-buffer-limit");
                }
            }
        };
        if subscribers.len() > HEAVY {
            give_worker_away(post_all);
        } else {
            post_all();
        }
    }

    /// The channels with subscribers whose names match, in no order.
    pub fn channels(&self, topic: Topic, pattern: Option<&[u8]>) -> Vec<Bytes> {
        self.of(topic).names(pattern)
    }

    /// How many channels have subscribers.
    pub fn channel_count(&self, topic: Topic) -> usize {
        self.of(topic).count()
    }

    /// How many are subscribed to this name.
    pub fn subscriber_count(&self, topic: Topic, name: &[u8]) -> usize {
        let count = |names: &Names| names.get(name).map_or(0, Subscribers::len);
        match topic {
            Topic::Pattern => count(&self.patterns.read()),
            topic => count(&self.of(topic).shard(name).lock()),
        }
    }

    /// How many different patterns there are.
    pub fn pattern_count(&self) -> usize {
        self.pattern_count.load(Ordering::Acquire)
    }

    fn of(&self, topic: Topic) -> &Channels {
        match topic {
            Topic::Shard => &self.shard_channels,
            Topic::Channel | Topic::Pattern => &self.channels,
        }
    }
}

/// The subscriptions of one connection; they end when this is dropped.
pub struct Subscriptions {
    server: Arc<Server>,
    client: Arc<Client>,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    shards: BTreeSet<Bytes>,
    /// Up to where other nodes have to be told before its confirmations are sent; 0: they know.
    untold: u64,
}

impl Subscriptions {
    /// None yet.
    pub fn new(server: Arc<Server>, client: Arc<Client>) -> Subscriptions {
        Subscriptions {
            server,
            client,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            shards: BTreeSet::new(),
            untold: 0,
        }
    }

    /// Up to where other nodes have to be told ([`PubSub::wait_until_told`]) before the confirmations are sent of what has
    /// begun since the last call, if they have to.
    #[inline]
    pub fn take_untold(&mut self) -> Option<u64> {
        let untold = std::mem::take(&mut self.untold);
        (untold > 0).then_some(untold)
    }

    fn names(&self, topic: Topic) -> &BTreeSet<Bytes> {
        match topic {
            Topic::Channel => &self.channels,
            Topic::Pattern => &self.patterns,
            Topic::Shard => &self.shards,
        }
    }

    fn names_mut(&mut self, topic: Topic) -> &mut BTreeSet<Bytes> {
        match topic {
            Topic::Channel => &mut self.channels,
            Topic::Pattern => &mut self.patterns,
            Topic::Shard => &mut self.shards,
        }
    }

    /// Adds one.
    pub fn add(&mut self, topic: Topic, name: &[u8]) {
        if self.names(topic).contains(name) {
            return;
        }
        let name = Bytes::copy_from_slice(name);
        // Before the first message may come, its kind says which limit it is under.
        self.client.set_kind(ClientKind::Pubsub);
        self.untold = self.server.pubsub.subscribe(topic, &name, &self.client);
        let bytes = name.len() + SUBSCRIPTION_BYTES;
        self.client
            .subscription_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.names_mut(topic).insert(name);
        self.show();
    }

    /// Ends one.
    pub fn remove(&mut self, topic: Topic, name: &[u8]) {
        if let Some(name) = self.names_mut(topic).take(name) {
            self.server.pubsub.unsubscribe(topic, &name, self.client.id);
            let bytes = name.len() + SUBSCRIPTION_BYTES;
            self.client
                .subscription_bytes
                .fetch_sub(bytes, Ordering::Relaxed);
            self.show();
        }
    }

    /// Whether there is one to this name.
    pub fn has(&self, topic: Topic, name: &[u8]) -> bool {
        self.names(topic).contains(name)
    }

    /// The names, to end all of them.
    pub fn all(&self, topic: Topic) -> Vec<Bytes> {
        self.names(topic).iter().cloned().collect()
    }

    /// What the confirmation of a change says: channels and patterns together, shard channels apart.
    pub fn count(&self, topic: Topic) -> usize {
        match topic {
            Topic::Channel | Topic::Pattern => self.channels.len() + self.patterns.len(),
            Topic::Shard => self.shards.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty()
    }

    /// Shows the others how many there are.
    fn show(&self) {
        let counts = [&self.channels, &self.patterns, &self.shards].map(|names| names.len() as u32);
        for (shown, count) in self.client.subscriptions.iter().zip(counts) {
            shown.store(count, Ordering::Relaxed);
        }
        if self.is_empty() {
            self.client.set_kind(ClientKind::Normal);
        }
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        let topics = [Topic::Channel, Topic::Pattern, Topic::Shard];
        let total: usize = topics.map(|topic| self.names(topic).len()).iter().sum();
        let mut end_all = || {
            for topic in topics {
                for name in std::mem::take(self.names_mut(topic)) {
                    self.server.pubsub.unsubscribe(topic, &name, self.client.id);
                }
            }
        };
        if total > HEAVY {
            give_worker_away(end_all);
        } else {
            end_all();
        }
        self.client.subscription_bytes.store(0, Ordering::Relaxed);
        self.show();
    }
}
