//! Clients of other nodes that read keys of this one and track them, and what this node's own clients are told by others.
//!
//! The requests of a peer's clients come by a few connections. Each of these has a number; a client of the peer is known to
//! the table of readers by that number and its id at the peer, and what it must forget is pushed by the same connection, so
//! that it comes behind the answers that were sent before. With the connection all of its clients are forgotten: the peer
//! sees that end, too, and lets them forget everything.
//!
//! Locks: that of a connection's clients before those of the table and of the interests, that of the connections with none.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Mutex, RwLock};

use super::{Forgotten, HEAVY, Tracking};
use crate::base::worker::give_worker_away;
use crate::cluster::bus::Answers;
use crate::cluster::copies::{Keepers, Note};
use crate::cluster::forward::CLIENTS;
use crate::cluster::node::NodeId;
use crate::keyspace::effects::Interest;
use crate::keyspace::tracking::Change;
use crate::state::Server;
use crate::state::clients::{Client, client_flags};
use crate::state::pubsub::far::prefixes::Heard;

/// Numbers of connections: what is left of a reader's id above that of the client.
const NUMBERS: u64 = u64::MAX / CLIENTS;

/// The connections of peers.
#[derive(Default)]
pub(super) struct Far {
    ways: RwLock<Ways>,
}

#[derive(Default)]
struct Ways {
    last: u64,
    all: BTreeMap<u64, Arc<Way>>,
}

/// One of them.
struct Way {
    number: u64,
    node: NodeId,
    answers: Answers,
    /// Its clients that have read something and still track.
    readers: Mutex<HashSet<u64>>,
}

/// The number of the connection in a reader's id; 0 is of our own clients.
pub(super) fn number_of(reader: u64) -> u64 {
    reader / CLIENTS
}

impl Far {
    fn add(&self, node: NodeId, answers: &Answers) -> Arc<Way> {
        let mut ways = self.ways.write();
        // They come round after years of connections that break each second; who is taken for another then forgets too much.
        let mut number = ways.last;
        loop {
            number = number % NUMBERS + 1;
            if !ways.all.contains_key(&number) {
                break;
            }
        }
        ways.last = number;
        let way = Arc::new(Way {
            number,
            node,
            answers: answers.clone(),
            readers: Mutex::default(),
        });
        ways.all.insert(number, Arc::clone(&way));
        way
    }

    fn way(&self, number: u64) -> Option<Arc<Way>> {
        self.ways.read().all.get(&number).cloned()
    }

    /// Whether nobody reads under this id any more.
    pub(super) fn is_gone(&self, reader: u64) -> bool {
        let way = self.way(number_of(reader));
        way.is_none_or(|way| !way.readers.lock().contains(&(reader % CLIENTS)))
    }

    /// Tells readers of one connection to forget a key.
    pub(super) fn tell(&self, key: &[u8], readers: &[u64], writer: u64) {
        let Some(way) = readers
            .first()
            .and_then(|reader| self.way(number_of(*reader)))
        else {
            return;
        };
        let writer = match number_of(writer) == way.number {
            true => writer % CLIENTS,
            false => 0,
        };
        let ids = readers.iter().map(|reader| reader % CLIENTS);
        let sent = way
            .answers
            .push(|payload| Note::write_key(key, ids, writer, payload));
        if sent.is_err() {
            way.tell_everything();
        }
    }

    /// Tells the readers of all connections to forget everything.
    pub(super) fn tell_everything(&self) {
        let all: Vec<Arc<Way>> = self.ways.read().all.values().cloned().collect();
        let have_readers = all.iter().filter(|way| !way.readers.lock().is_empty());
        have_readers.for_each(|way| way.tell_everything());
    }

    /// Which node a reader or writer is connected to, and its id there.
    pub(super) fn origin(&self, id: u64) -> Option<(NodeId, u64)> {
        let way = self.way(number_of(id))?;
        Some((way.node, id % CLIENTS))
    }
}

impl Way {
    fn tell_everything(&self) {
        // One byte is never too large.
        let _ = self.answers.push(Note::write_everything);
    }
}

/// The clients of a peer whose requests come by one of its connections.
pub struct FarClients {
    server: Arc<Server>,
    way: Arc<Way>,
}

impl FarClients {
    /// None yet. `answers` is the way back by the same connection.
    pub fn new(server: &Arc<Server>, peer: NodeId, answers: &Answers) -> FarClients {
        FarClients {
            server: Arc::clone(server),
            way: server.tracking.far.add(peer, answers),
        }
    }

    /// The id here of a client, by its id at the peer.
    pub fn writer(&self, client: u64) -> u64 {
        self.way.number * CLIENTS + client % CLIENTS
    }

    /// The same of one whose reads are to be remembered from now on.
    pub fn reader(&self, client: u64) -> u64 {
        let client = client % CLIENTS;
        let mut readers = self.way.readers.lock();
        let is_first = readers.is_empty();
        if readers.insert(client) && is_first {
            // Locked: who comes second must not read before changes are noted.
            self.server.keyspace.listeners.tracking.add_client();
            self.server.keyspace.listeners.renew();
        }
        self.writer(client)
    }

    /// The connection is gone by which the peer has told of changes.
    pub fn lose_changes(&self) {
        self.server.tracking.lose_changes();
    }

    /// A client tracks no more, or is gone.
    pub fn end(&self, client: u64) {
        let mut readers = self.way.readers.lock();
        if readers.remove(&client) && readers.is_empty() {
            self.server.keyspace.listeners.tracking.remove_client();
            drop(readers);
            self.server.keyspace.listeners.renew();
        }
    }
}

impl Drop for FarClients {
    fn drop(&mut self) {
        let tracking = &self.server.tracking;
        tracking.far.ways.write().all.remove(&self.way.number);
        if !self.way.readers.lock().is_empty() {
            self.server.keyspace.listeners.tracking.remove_client();
            self.server.keyspace.listeners.renew();
        }
    }
}

impl Tracking {
    /// Whether a reader in the table reads no more.
    pub(super) fn is_gone(&self, reader: u64) -> bool {
        match number_of(reader) {
            0 => self.clients.get(reader).is_none(),
            _ => self.far.is_gone(reader),
        }
    }

    /// Tells our own clients of which `is_meant` says so to forget everything, because of what happened elsewhere; not who
    /// has asked for nothing since it was told that.
    fn tell_everything_from_afar(&self, is_meant: impl Fn(&Client) -> bool) {
        let meant: Vec<Arc<Client>> = {
            let trackers = self.trackers.read();
            let meant = trackers.values().filter(|client| is_meant(client));
            meant.cloned().collect()
        };
        let tell = || {
            for client in meant.iter().filter(|client| client.forgets(true)) {
                self.send(client, Forgotten::Everything);
            }
        };
        if meant.len() > HEAVY {
            give_worker_away(tell);
        } else {
            tell();
        }
    }

    /// Takes in what a peer has told of changes of keys, after it has been told of prefixes.
    pub fn heard(&self, heard: &Heard) {
        if heard.is_lost {
            self.lose_changes();
        }
        if !heard.changes.is_empty() && self.prefix_count() > 0 {
            let mut keys: Vec<&Change> = heard.changes.iter().collect();
            keys.sort_by(|one, other| one.key.cmp(&other.key));
            self.broadcast_here(&keys);
        }
    }

    /// Changes may have been that we were not told of: who follows prefixes must forget everything.
    pub fn lose_changes(&self) {
        if self.prefix_count() > 0 {
            self.tell_everything_from_afar(|client| !tracks_reads(client));
        }
    }

    /// What changes of keys are noted for.
    pub fn wants_changes(&self) -> bool {
        self.interests().contains(Interest::BROADCAST)
    }

    /// Lets everybody forget the keys of which `is_gone` says that they are not here any more.
    pub fn forget_those(&self, is_gone: impl Fn(&[u8]) -> bool) {
        if !self.interests().contains(Interest::TRACKING) {
            return;
        }
        let mut taken = Vec::new();
        self.table
            .take_those(is_gone, |invalidation| taken.push(invalidation));
        self.tell(&taken);
    }
}

fn tracks_reads(client: &Client) -> bool {
    client.flags.load(Ordering::Relaxed) & client_flags::BROADCAST == 0
}

impl Keepers for Tracking {
    fn forget(&self, note: &Note) {
        match note {
            Note::Key {
                key,
                readers,
                writer,
            } if readers.len() > HEAVY => {
                give_worker_away(|| self.tell_here(key, readers, *writer));
            }
            Note::Key {
                key,
                readers,
                writer,
            } => self.tell_here(key, readers, *writer),
            Note::Everything => self.tell_everything_from_afar(tracks_reads),
        }
    }

    fn lose(&self, is_meant: &dyn Fn(u64) -> bool) {
        self.tell_everything_from_afar(|client| tracks_reads(client) && is_meant(client.id));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::admin::testing::Host;

    fn mail(host: &Host, id: u64) -> String {
        let client = host.server.clients.get(id).expect("it is connected");
        let mail = client.take_mail().map(|mail| mail.into_bytes());
        String::from_utf8_lossy(&mail.unwrap_or_default()).replace("\r\n", "|")
    }

    fn key(readers: &[u64], writer: u64) -> Note {
        Note::Key {
            key: Bytes::from_static(b"k"),
            readers: readers.to_vec(),
            writer,
        }
    }

    /// Aim: what a peer says reaches the readers that it names as if the key had been changed here.
    #[test]
    fn a_peer_tells_of_a_key() {
        let host = Host::new();
        let (mut one, mut two) = (host.client(), host.client());
        one.run("HELLO 3");
        two.run("HELLO 3");
        one.run("CLIENT TRACKING ON NOLOOP");
        two.run("CLIENT TRACKING ON");
        host.server.tracking.forget(&key(&[1, 2, 99], 1));
        assert_eq!(mail(&host, 1), "");
        assert_eq!(mail(&host, 2), ">2|$10|invalidate|*1|$1|k|");
        host.server.tracking.forget(&key(&[1], 0));
        assert_eq!(mail(&host, 1), ">2|$10|invalidate|*1|$1|k|");
        // Who names prefixes has not read it.
        one.run("CLIENT TRACKING OFF");
        one.run("CLIENT TRACKING ON BCAST");
        host.server.tracking.forget(&key(&[1], 0));
        host.server.tracking.forget(&Note::Everything);
        assert_eq!(mail(&host, 1), "");
        assert_eq!(mail(&host, 2), ">2|$10|invalidate|_|");
    }

    /// Aim: all nodes tell of one FLUSHALL, in any order, and the client hears of it once, unless it may have read in between.
    #[test]
    fn everything_is_to_be_forgotten_once() {
        let host = Host::new();
        let mut one = host.client();
        one.run("HELLO 3");
        one.run("CLIENT TRACKING ON");
        let all = ">2|$10|invalidate|_|";
        let client = host.server.clients.get(1).expect("it is connected");
        let tracking = &host.server.tracking;
        // Ours is the first, the second, the last; then without a peer.
        for (before, behind) in [(0, 2), (1, 1), (2, 0), (0, 0)] {
            client.keeps_copies();
            for _ in 0..before {
                tracking.forget(&Note::Everything);
            }
            tracking.tell_all();
            for _ in 0..behind {
                tracking.forget(&Note::Everything);
            }
            assert_eq!(mail(&host, 1), all, "{before} before, {behind} behind");
        }
        tracking.forget(&Note::Everything);
        assert_eq!(mail(&host, 1), "");
        tracking.tell_all();
        client.keeps_copies();
        tracking.forget(&Note::Everything);
        assert_eq!(mail(&host, 1), [all, all].concat());
        client.keeps_copies();
        tracking.lose(&|id| id != 1);
        assert_eq!(mail(&host, 1), "");
        tracking.lose(&|id| id == 1);
        assert_eq!(mail(&host, 1), all);
    }

    /// Aim: a change here is pushed to whom the connection belongs to that the reader came by, with its ids there; who
    /// stops tracking is gone from the table.
    #[test]
    fn clients_of_a_peer_read_here() {
        let host = Host::new();
        let answers = Answers::to_nobody();
        let clients = FarClients::new(&host.server, NodeId([2; 20]), &answers);
        let others = FarClients::new(&host.server, NodeId([3; 20]), &Answers::to_nobody());
        let interest = || host.server.keyspace.listeners.interest();
        assert_eq!(interest(), Interest::empty());
        let (five, six) = (clients.reader(5), clients.reader(6));
        assert_ne!(five, others.writer(5));
        assert_eq!(interest(), Interest::TRACKING);
        let tracking = &host.server.tracking;
        assert!(!tracking.is_gone(five) && tracking.is_gone(others.writer(5)));
        tracking.tell_readers(b"k", &[five, six], clients.writer(6));
        tracking.tell_readers(b"j", &[six], others.writer(6));
        tracking.tell_all();
        let note = |key: &'static str, readers: &[u64], writer| Note::Key {
            key: Bytes::from_static(key.as_bytes()),
            readers: readers.to_vec(),
            writer,
        };
        let told: Vec<Note> = answers
            .take_pushes()
            .into_iter()
            .map(|payload| Note::read(payload).expect("well-formed"))
            .collect();
        let expected = [note("k", &[5, 6], 6), note("j", &[6], 0), Note::Everything];
        assert_eq!(told, expected);
        clients.end(5);
        assert!(tracking.is_gone(five) && !tracking.is_gone(six));
        clients.end(6);
        assert_eq!(interest(), Interest::empty());
        clients.reader(7);
        drop(clients);
        assert!(tracking.is_gone(six));
        assert_eq!(interest(), Interest::empty());
    }
}
