//! CLIENT TRACKING: who tracks, in which way, and how clients are told what to forget.
//!
//! In the default mode the keys that a client reads are remembered (`keyspace::tracking`), and whoever changes one tells its
//! readers after release. With BCAST a client names prefixes instead: what a batch of requests changed is gathered, and told at
//! its end, one message for each prefix, its keys in order, each once, as redis-server does once per turn of its loop.
//!
//! A message goes to the client's outbox, or to that of the client it is redirected to: as a push of RESP3, or as a message of
//! the channel `__redis__:invalidate` to a subscriber that speaks RESP2. Who can get neither is told nothing, and who is
//! redirected to a client that is gone is told that, if it speaks RESP3. What the connection's own commands cause comes after
//! their replies: the outbox is emptied between commands, never within.
//!
//! All locks here are leaves: who is to be told is copied out of them first.
//!
//! In a ring clients of other nodes read keys here, and ours read theirs: see [`far`].
//!
//! # Bounds
//! Outboxes are bounded by client-output-buffer-limit of their class. That has no limit for ordinary clients unless it is
//! given one; then, from [`LOSS_BYTES`] of unread output on, a client is told nothing more, and to forget everything once it
//! has read.

pub mod far;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes};
use parking_lot::RwLock;
use smallvec::SmallVec;

use super::Server;
use super::clients::{Client, ClientKind, Clients, client_flags};
use super::pubsub::PubSub;
use crate::base::rng::Rng;
use crate::base::stats::Counter;
use crate::base::worker::give_worker_away;
use crate::cluster::bus::Kind;
use crate::cluster::node::{NodeId, NodeState};
use crate::config::Settings;
use crate::keyspace::effects::{Event, Interest, Listener, Record};
use crate::keyspace::tracking::{Change, Invalidation, TrackingTable};
use crate::resp::reply::Output;
use far::{Far, number_of};

/// Unread output from which a client without a limit is told nothing more.
pub const LOSS_BYTES: usize = 64 * 1024 * 1024;
/// What each key of `tracking-table-max-keys` may take: four times what it takes with a short name and one reader.
const BYTES_PER_KEY: usize = 384;
/// The share of `maxmemory` that the table may take, whatever the number of keys: an eighth.
const MEMORY_SHARE: u64 = 8;
/// Keys taken out of the table by one call of [`Tracking::tend`].
const EVICTED_AT_ONCE: usize = 1024;
/// Clients, prefixes or changes from which going through them may take more than a millisecond.
const HEAVY: usize = 4096;

/// All clients that track.
pub struct Tracking {
    table: Arc<TrackingTable>,
    clients: Arc<Clients>,
    /// Those that track, by their ids.
    trackers: RwLock<BTreeMap<u64, Arc<Client>>>,
    /// The prefixes of BCAST and who follows each, by their ids.
    prefixes: RwLock<BTreeMap<Bytes, Followers>>,
    /// How many prefixes there are. Written with their lock held; a writer that misses the first came before it.
    prefix_count: AtomicUsize,
    /// The hard limits of an outbox, by [`ClientKind`] normal and pubsub; 0 is none. Written by CONFIG SET.
    limits: [AtomicUsize; 2],
    /// Clients closed for their output.
    closed: Arc<Counter>,
    far: Far,
    /// The way to the peers' followers of prefixes.
    pubsub: Arc<PubSub>,
}

/// Copied out in one step, changed by copying when somebody holds a copy.
type Followers = Arc<BTreeMap<u64, Arc<Client>>>;

impl Tracking {
    /// Nobody tracks. `closed` counts those whose outbox was over the limit.
    pub fn new(
        table: Arc<TrackingTable>,
        clients: Arc<Clients>,
        closed: Arc<Counter>,
        pubsub: Arc<PubSub>,
    ) -> Tracking {
        Tracking {
            table,
            clients,
            trackers: RwLock::default(),
            prefixes: RwLock::default(),
            prefix_count: AtomicUsize::new(0),
            limits: Default::default(),
            closed,
            far: Far::default(),
            pubsub,
        }
    }

    /// Takes over the parameters.
    pub fn choose(&self, settings: &Settings) {
        let limits = &settings.client_output_buffer_limit;
        for (kept, limit) in self.limits.iter().zip([limits.normal, limits.pubsub]) {
            kept.store(limit.hard_bytes as usize, Ordering::Relaxed);
        }
        let max_keys = match settings.tracking_table_max_keys {
            0 => usize::MAX,
            keys => keys as usize,
        };
        let memory = match settings.maxmemory_bytes() {
            0 => usize::MAX,
            bytes => (bytes / MEMORY_SHARE) as usize,
        };
        self.table
            .set_limits(max_keys, memory.min(max_keys.saturating_mul(BYTES_PER_KEY)));
    }

    /// How many clients track.
    pub fn client_count(&self) -> usize {
        self.trackers.read().len()
    }

    /// How many keys are remembered.
    pub fn key_count(&self) -> usize {
        self.table.keys()
    }

    /// How many readers of keys are remembered.
    pub fn item_count(&self) -> usize {
        self.table.items()
    }

    /// How many different prefixes are followed.
    pub fn prefix_count(&self) -> usize {
        self.prefix_count.load(Ordering::Relaxed)
    }

    /// Background work: brings the table within a bound that was lowered, and tidies it. Whether there is more to do.
    pub fn tend(&self, rng: &Rng) -> bool {
        let evicted: Vec<Invalidation> = std::iter::from_fn(|| self.table.evict(rng))
            .take(EVICTED_AT_ONCE)
            .collect();
        self.tell(&evicted);
        self.pubsub.make_up_losses();
        if self.table.is_untidy() {
            give_worker_away(|| self.table.tidy(|reader| self.is_gone(reader)));
        }
        evicted.len() == EVICTED_AT_ONCE
    }

    /// Returns up to where other nodes have to be told.
    fn follow(&self, prefix: &Bytes, client: &Arc<Client>) -> u64 {
        let mut prefixes = self.prefixes.write();
        let followers = prefixes.entry(prefix.clone()).or_default();
        Arc::make_mut(followers).insert(client.id, Arc::clone(client));
        let untold = self.pubsub.set_followers(prefix, followers.len());
        self.prefix_count.store(prefixes.len(), Ordering::Relaxed);
        untold
    }

    fn unfollow(&self, prefix: &Bytes, id: u64) {
        let mut prefixes = self.prefixes.write();
        if let Some(followers) = prefixes.get_mut(prefix) {
            Arc::make_mut(followers).remove(&id);
            self.pubsub.set_followers(prefix, followers.len());
            if followers.is_empty() {
                prefixes.remove(prefix);
            }
        }
        self.prefix_count.store(prefixes.len(), Ordering::Relaxed);
    }

    /// Tells those in the default mode who have read a key, wherever they are.
    fn tell_readers(&self, key: &[u8], readers: &[u64], writer: u64) {
        for readers in readers.chunk_by(|one, other| number_of(*one) == number_of(*other)) {
            match number_of(readers[0]) {
                0 => self.tell_here(key, readers, writer),
                _ => self.far.tell(key, readers, writer),
            }
        }
    }

    /// The same of our own clients. Not who made the change and does not want to hear of it.
    fn tell_here(&self, key: &[u8], readers: &[u64], writer: u64) {
        for reader in readers {
            let Some(client) = self.trackers.read().get(reader).cloned() else {
                continue;
            };
            let flags = client.flags.load(Ordering::Relaxed);
            let is_own = client.id == writer && flags & client_flags::NOLOOP != 0;
            if !is_own && flags & client_flags::BROADCAST == 0 {
                self.send(&client, Forgotten::Key(key));
            }
        }
    }

    fn tell_all(&self) {
        self.far.tell_everything();
        self.pubsub.tell_all_changed();
        let all: Vec<Arc<Client>> = self.trackers.read().values().cloned().collect();
        let tell = || {
            for client in all.iter().filter(|client| client.forgets(false)) {
                self.send(client, Forgotten::Everything);
            }
        };
        if all.len() > HEAVY {
            give_worker_away(tell);
        } else {
            tell();
        }
    }

    /// The prefixes that these keys have, with their followers and the keys of each. The keys must be in order.
    fn matches<'c>(&self, keys: &[&'c Change]) -> BTreeMap<Bytes, (Followers, Vec<&'c Change>)> {
        let prefixes = self.prefixes.read();
        let mut found = BTreeMap::new();
        for &change in keys {
            let key = &change.key[..];
            // What is left of the key for a prefix to begin it with.
            let mut rest = Some(key.len());
            while let Some(len) = rest {
                let range = (Bound::Unbounded, Bound::Included(&key[..len]));
                let Some((prefix, followers)) = prefixes.range::<[u8], _>(range).next_back() else {
                    break;
                };
                // The last prefix that is not behind the key is one of the key's own, or shares with it all that a shorter one
                // of the key's own can have.
                let common = common_len(prefix, key);
                rest = common.checked_sub(1);
                if common == prefix.len() {
                    let (_, keys) = found
                        .entry(prefix.clone())
                        .or_insert_with(|| (Arc::clone(followers), Vec::new()));
                    keys.push(change);
                } else {
                    rest = Some(common);
                }
            }
        }
        found
    }

    fn send(&self, client: &Arc<Client>, forgotten: Forgotten<'_>) {
        let redirect = client.redirect.load(Ordering::Relaxed);
        if redirect == 0 {
            // What it cannot be told need not wake it. If it changes its protocol now, this came before.
            if client.protocol.load(Ordering::Relaxed) != 3 {
                return;
            }
            return self.post(client, |protocol, outbox| {
                if protocol == 3 {
                    outbox.push(b">2\r\n$10\r\ninvalidate\r\n");
                    forgotten.write(protocol, outbox);
                }
            });
        }
        let Some(target) = self.clients.get(redirect) else {
            client.set_flag(client_flags::BROKEN_REDIRECT, true);
            return self.post(client, |protocol, outbox| {
                if protocol == 3 {
                    let text = format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{redirect}\r\n");
                    outbox.push(text.as_bytes());
                }
            });
        };
        self.post(&target, |protocol, outbox| {
            if protocol == 3 {
                outbox.push(b">2\r\n$10\r\ninvalidate\r\n");
                forgotten.write(protocol, outbox);
            } else if target.kind() == ClientKind::Pubsub {
                outbox.push(b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n");
                forgotten.write(protocol, outbox);
            }
        });
    }

    /// Tells who has to forget what.
    fn tell(&self, invalidated: &[Invalidation]) {
        let tell = || {
            for invalidation in invalidated {
                match invalidation {
                    Invalidation::Key {
                        key,
                        readers,
                        writer,
                    } => self.tell_readers(key, readers, *writer),
                    Invalidation::Everything => self.tell_all(),
                }
            }
        };
        let is_heavy = |invalidation: &Invalidation| match invalidation {
            Invalidation::Key { readers, .. } => readers.len() > HEAVY,
            Invalidation::Everything => false,
        };
        if invalidated.len() > HEAVY || invalidated.iter().any(is_heavy) {
            give_worker_away(tell);
        } else {
            tell();
        }
    }

    fn interests(&self) -> Interest {
        let mut interest = Interest::empty();
        interest.set(Interest::TRACKING, self.table.clients() > 0);
        let has_followers = self.prefix_count() > 0 || self.pubsub.has_far_followers();
        interest.set(Interest::BROADCAST, has_followers);
        interest
    }

    fn post(&self, client: &Client, write: impl FnOnce(u8, &mut Output)) {
        let limit = &self.limits[usize::from(client.kind() == ClientKind::Pubsub)];
        let limit = limit.load(Ordering::Relaxed);
        let within = if limit == 0 {
            client.deliver_or_lose(LOSS_BYTES, write);
            true
        } else {
            client.deliver(limit, write)
        };
        if !within {
            self.closed.add(1);
            tracing::warn!(client = client.id, addr = %client.addr, "closed: a client that tracks does not read, over client-output-buffer-limit");
        }
    }
}

impl Listener for Tracking {
    fn interest(&self) -> Interest {
        self.interests()
    }

    fn append(&self, _: &[Record]) {}

    fn publish(&self, _: &[Event]) {}

    fn invalidate(&self, invalidated: &[Invalidation]) {
        self.tell(invalidated);
    }

    fn broadcast(&self, changes: &[Change]) {
        let mut keys: Vec<&Change> = changes.iter().collect();
        keys.sort_by(|one, other| one.key.cmp(&other.key));
        if self.prefix_count() > 0 {
            self.broadcast_here(&keys);
        }
        if self.pubsub.has_far_followers() {
            let origin = |writer| self.far.origin(writer);
            let tell = || self.pubsub.tell_changes(&keys, origin);
            if keys.len() > HEAVY {
                give_worker_away(tell);
            } else {
                tell();
            }
        }
    }
}

impl Tracking {
    /// Tells our own clients that follow prefixes of these keys, which are in order.
    fn broadcast_here(&self, keys: &[&Change]) {
        let tell = || {
            for (_, (followers, keys)) in self.matches(keys) {
                let mut all = None;
                for client in followers.values() {
                    let flags = client.flags.load(Ordering::Relaxed);
                    if flags & client_flags::NOLOOP == 0 {
                        let all = all.get_or_insert_with(|| list(keys.iter().copied()));
                        self.send(client, Forgotten::Keys(all));
                    } else if keys.iter().any(|change| change.writer != client.id) {
                        let others = keys.iter().filter(|change| change.writer != client.id);
                        self.send(client, Forgotten::Keys(&list(others.copied())));
                    }
                }
            }
        };
        let most = keys.len().max(self.prefix_count());
        if most.max(self.client_count()) > HEAVY {
            give_worker_away(tell);
        } else {
            tell();
        }
    }
}

/// What a message says is to be forgotten.
#[derive(Clone, Copy)]
enum Forgotten<'f> {
    Key(&'f [u8]),
    /// An array of keys, written.
    Keys(&'f Bytes),
    Everything,
}

impl Forgotten<'_> {
    fn write(self, protocol: u8, outbox: &mut Output) {
        match self {
            Forgotten::Key(key) => {
                outbox.push(b"*1\r\n$");
                outbox.push(itoa::Buffer::new().format(key.len()).as_bytes());
                outbox.push(b"\r\n");
                outbox.push(key);
                outbox.push(b"\r\n");
            }
            Forgotten::Keys(keys) => outbox.push_shared(keys.clone()),
            Forgotten::Everything if protocol == 3 => outbox.push(b"_\r\n"),
            Forgotten::Everything => outbox.push(b"$-1\r\n"),
        }
    }
}

/// The message to who has lost others: everything is to be forgotten.
pub fn write_loss(protocol: u8, output: &mut Output) {
    if protocol == 3 {
        output.push(b">2\r\n$10\r\ninvalidate\r\n");
    } else {
        output.push(b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n");
    }
    Forgotten::Everything.write(protocol, output);
}

/// Keys as an array, each once. They must be in order.
fn list<'c>(changes: impl Iterator<Item = &'c Change>) -> Bytes {
    let mut keys: Vec<&[u8]> = changes.map(|change| &change.key[..]).collect();
    keys.dedup();
    let mut text = format!("*{}\r\n", keys.len()).into_bytes();
    let mut digits = itoa::Buffer::new();
    for key in keys {
        text.push(b'$');
        text.extend_from_slice(digits.format(key.len()).as_bytes());
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(key);
        text.extend_from_slice(b"\r\n");
    }
    text.into()
}

fn common_len(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

/// Which of the keys that it reads a client wants to hear of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All of them.
    #[default]
    All,
    /// Those of a command after CLIENT CACHING YES.
    OptIn,
    /// All but those of a command after CLIENT CACHING NO.
    OptOut,
    /// None: it names prefixes.
    Broadcast,
}

/// How one connection tracks; it tracks no more when this is dropped.
pub struct Tracker {
    server: Arc<Server>,
    client: Arc<Client>,
    mode: Mode,
    /// Whether CLIENT CACHING was given for the next command, or for the transaction.
    pub is_caching: bool,
    prefixes: BTreeSet<Bytes>,
    /// The peers that remember keys for it.
    peers: SmallVec<[NodeId; 4]>,
    /// Up to where other nodes have to be told of its prefixes; 0: they know.
    untold: u64,
}

impl Tracker {
    /// Begins: with this mode, which can be changed later unless it is that of BCAST.
    pub fn new(server: Arc<Server>, client: Arc<Client>, mode: Mode) -> Tracker {
        let tracking = Arc::clone(&server.tracking);
        client.set_flag(client_flags::TRACKING, true);
        client.keeps_copies();
        client.set_flag(client_flags::BROADCAST, mode == Mode::Broadcast);
        tracking
            .trackers
            .write()
            .insert(client.id, Arc::clone(&client));
        if mode != Mode::Broadcast {
            tracking.table.add_client();
        }
        server.keyspace.listeners.renew();
        Tracker {
            server,
            client,
            mode,
            is_caching: false,
            prefixes: BTreeSet::new(),
            peers: SmallVec::new(),
            untold: 0,
        }
    }

    /// A peer remembers keys for it.
    pub fn reads_at(&mut self, peer: NodeId) {
        if !self.peers.contains(&peer) {
            self.peers.push(peer);
        }
    }

    /// Its mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes what a further CLIENT TRACKING ON says; that of BCAST neither begins nor ends here.
    pub fn set(&mut self, mode: Mode, noloop: bool, redirect: u64) {
        debug_assert_eq!(mode == Mode::Broadcast, self.mode == Mode::Broadcast);
        self.mode = mode;
        self.client.set_flag(client_flags::NOLOOP, noloop);
        self.client.set_flag(client_flags::BROKEN_REDIRECT, false);
        self.client.redirect.store(redirect, Ordering::Relaxed);
    }

    /// The prefixes of BCAST.
    pub fn prefixes(&self) -> &BTreeSet<Bytes> {
        &self.prefixes
    }

    /// Follows one more.
    pub fn follow(&mut self, prefix: &[u8]) {
        let prefix = Bytes::copy_from_slice(prefix);
        let tracking = &self.server.tracking;
        self.untold = tracking.follow(&prefix, &self.client);
        let bytes = prefix.len() + PREFIX_BYTES;
        if self.prefixes.insert(prefix) {
            self.client.prefix_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if self.prefixes.len() == 1 {
            self.server.keyspace.listeners.renew();
        }
    }

    /// Up to where other nodes have to be told of prefixes that it has followed since the last call, if they have to.
    pub fn take_untold(&mut self) -> Option<u64> {
        let untold = std::mem::take(&mut self.untold);
        (untold > 0).then_some(untold)
    }

    /// The client's id if the keys of its next read are to be remembered, else 0.
    #[inline]
    pub fn reader(&self) -> u64 {
        let remembers = match self.mode {
            Mode::All => true,
            Mode::OptIn => self.is_caching,
            Mode::OptOut => !self.is_caching,
            Mode::Broadcast => false,
        };
        if remembers { self.client.id } else { 0 }
    }
}

/// What a prefix takes beside its name, for the accounts of clients: places in two trees.
const PREFIX_BYTES: usize = 128;

impl Drop for Tracker {
    fn drop(&mut self) {
        let tracking = &self.server.tracking;
        let prefixes = std::mem::take(&mut self.prefixes);
        let end_all = || {
            for prefix in &prefixes {
                tracking.unfollow(prefix, self.client.id);
            }
        };
        if prefixes.len() > HEAVY {
            give_worker_away(end_all);
        } else {
            end_all();
        }
        self.client.prefix_bytes.store(0, Ordering::Relaxed);
        if let Some(cluster) = self.server.cluster.get() {
            let view = cluster.view();
            let peers = self.peers.iter().filter_map(|peer| view.map.node(*peer));
            for node in peers.filter(|node| node.state != NodeState::Failed) {
                // Who cannot be told knows of no reader any more, or will be told when it forgets the connection.
                let link = cluster.link(node, self.client.id);
                let _ = link.send(Kind::Track, |payload| payload.put_u64(self.client.id));
            }
        }
        tracking.trackers.write().remove(&self.client.id);
        if self.mode != Mode::Broadcast {
            tracking.table.remove_client();
        }
        self.server.keyspace.listeners.renew();
        for flag in [
            client_flags::TRACKING,
            client_flags::BROADCAST,
            client_flags::NOLOOP,
            client_flags::BROKEN_REDIRECT,
        ] {
            self.client.set_flag(flag, false);
        }
        self.client.redirect.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Millis;
    use crate::keyspace::hash::KeyHasher;

    fn tracking() -> Tracking {
        let table = TrackingTable::new(KeyHasher::with_key(1, 2));
        let pubsub = Arc::new(PubSub::new(Arc::default()));
        Tracking::new(Arc::new(table), Arc::default(), Arc::default(), pubsub)
    }

    fn client(id: u64) -> Arc<Client> {
        let client = Client::new(id, String::new(), String::new(), 0, false, Millis(0));
        client.protocol.store(3, Ordering::Relaxed);
        Arc::new(client)
    }

    fn change(key: &str, writer: u64) -> Change {
        Change {
            key: key.into(),
            writer,
        }
    }

    fn mail(client: &Client) -> String {
        let Some(mail) = client.take_mail() else {
            return String::new();
        };
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let count = mail.fill(&mut slices);
        let bytes: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|one| one.to_vec())
            .collect();
        String::from_utf8_lossy(&bytes).replace("\r\n", "|")
    }

    /// Against the obvious way: every prefix is compared with every key.
    #[test]
    fn prefixes_of_keys() {
        let mut rng = fastrand::Rng::with_seed(7);
        let word = |rng: &mut fastrand::Rng| -> Vec<u8> {
            let letters = [b'a', b'b', 0, 255];
            (0..rng.usize(0..7))
                .map(|_| letters[rng.usize(..4)])
                .collect()
        };
        for _ in 0..300 {
            let tracking = tracking();
            let one = client(1);
            let prefixes: BTreeSet<Vec<u8>> =
                (0..rng.usize(0..20)).map(|_| word(&mut rng)).collect();
            for prefix in &prefixes {
                tracking.follow(&Bytes::copy_from_slice(prefix), &one);
            }
            let keys: BTreeSet<Vec<u8>> = (0..20).map(|_| word(&mut rng)).collect();
            let changes: Vec<Change> = keys
                .into_iter()
                .map(|key| Change { key, writer: 0 })
                .collect();
            let found = tracking.matches(&changes.iter().collect::<Vec<_>>());
            let found: Vec<(Vec<u8>, Vec<&[u8]>)> = found
                .iter()
                .map(|(prefix, (_, keys))| {
                    (
                        prefix.to_vec(),
                        keys.iter().map(|change| &change.key[..]).collect(),
                    )
                })
                .collect();
            let expected: Vec<(Vec<u8>, Vec<&[u8]>)> = prefixes
                .iter()
                .map(|prefix| {
                    let keys = changes.iter().map(|change| &change.key[..]);
                    (
                        prefix.clone(),
                        keys.filter(|key| key.starts_with(prefix)).collect(),
                    )
                })
                .filter(|(_, keys): &(_, Vec<&[u8]>)| !keys.is_empty())
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn one_message_for_each_prefix_and_own_changes_left_out() {
        let tracking = tracking();
        let (one, two) = (client(1), client(2));
        two.set_flag(client_flags::NOLOOP, true);
        for prefix in ["k", "j"] {
            tracking.follow(&Bytes::from(prefix), &one);
        }
        tracking.follow(&Bytes::new(), &two);
        let changes = [
            change("kb", 2),
            change("j", 0),
            change("ka", 3),
            change("x", 2),
            change("kb", 3),
        ];
        tracking.broadcast(&changes);
        assert_eq!(
            mail(&one),
            ">2|$10|invalidate|*1|$1|j|>2|$10|invalidate|*2|$2|ka|$2|kb|"
        );
        assert_eq!(mail(&two), ">2|$10|invalidate|*3|$1|j|$2|ka|$2|kb|");
        tracking.broadcast(&[change("x", 2)]);
        assert_eq!((mail(&one), mail(&two)), (String::new(), String::new()));
        tracking.unfollow(&Bytes::from("k"), 1);
        tracking.broadcast(&[change("ka", 0), change("jj", 2)]);
        assert_eq!(mail(&one), ">2|$10|invalidate|*1|$2|jj|");
        assert_eq!(tracking.prefix_count(), 2);
    }

    /// What is not told is made up for by one message, and nothing is held meanwhile.
    #[test]
    fn a_client_that_does_not_read_loses_what_it_is_told() {
        let client = client(1);
        let write = |_: u8, outbox: &mut Output| outbox.push(&[b'x'; 100]);
        for _ in 0..20 {
            client.deliver_or_lose(1000, write);
        }
        assert!(client.has_loss());
        assert_eq!(mail(&client).len(), 1100);
        assert!(client.take_loss() && !client.take_loss());
        client.deliver_or_lose(1000, write);
        assert!(!client.has_loss());
        assert_eq!(mail(&client).len(), 100);
    }
}
