//! Prefixes of keys that clients follow (CLIENT TRACKING BCAST): the peers say which, and are sent the changes of such keys.
//!
//! Changes go the way that messages go, and may be lost as they may: with a connection, or because a peer does not read. Who
//! is not sent one is told so as soon as it can be, and lets its clients forget everything; so it does by itself whenever a
//! connection to or from a peer has ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{CHUNK_BYTES, Far, Peer, PubSub, Wanted};
use crate::cluster::node::NodeId;
use crate::cluster::publish::{Followed, Record};
use crate::keyspace::tracking::Change;

/// How many of the names have each length.
#[derive(Default)]
pub(super) struct Lengths(BTreeMap<usize, usize>);

impl Lengths {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a Bytes>) -> Lengths {
        let mut lengths = Lengths::default();
        names.for_each(|name| lengths.add(name.len()));
        lengths
    }

    pub(super) fn add(&mut self, length: usize) {
        *self.0.entry(length).or_default() += 1;
    }

    pub(super) fn remove(&mut self, length: usize) {
        if let Some(count) = self.0.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&length);
            }
        }
    }
}

/// What a peer has told of changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Keys that were changed, and by whom of our own clients.
    pub changes: Vec<Change>,
    /// Whether any others may have been.
    pub is_lost: bool,
}

impl Heard {
    pub(super) fn note(&mut self, writer: u64, key: &[u8]) {
        let key = key.to_vec();
        self.changes.push(Change { key, writer });
    }
}

impl Far {
    /// How many of our own clients follow a prefix.
    pub(super) fn followers(&self, prefix: &[u8]) -> usize {
        self.prefixes.read().get(prefix).copied().unwrap_or(0)
    }
}

impl Wanted {
    /// The peers that follow a prefix of this key, by their places.
    fn followers_of(&self, key: &[u8], found: &mut SmallVec<[u16; 8]>) {
        found.clear();
        let names = &self.names[Followed::Prefix.number()];
        for (length, _) in self.lengths.0.range(..=key.len()) {
            for (place, _) in names.get(&key[..*length]).into_iter().flatten() {
                if !found.contains(place) {
                    found.push(*place);
                }
            }
        }
        if self.wants_all > 0 {
            let all = self.peers.iter().zip(0..);
            let all = all.filter(|(peer, _)| peer.as_ref().is_some_and(|peer| peer.wants_all));
            found.extend(all.map(|(_, place)| place));
        }
    }

    fn at(&self, place: u16) -> Option<&Peer> {
        self.peers.get(usize::from(place))?.as_ref()
    }
}

impl Peer {
    /// Sends what `write` appends, behind what was lost before, if it was. Whether it is on its way.
    fn tell(&self, write: &mut dyn FnMut(&mut BytesMut)) -> bool {
        let had_lost = self.has_lost.swap(false, Ordering::AcqRel);
        let sent = self.outlet.as_ref().map(|outlet| {
            outlet.send(&mut |buffer| {
                if had_lost {
                    Record::Lost.write(buffer);
                }
                write(buffer);
            })
        });
        let is_sent = matches!(sent, Some(Ok(())));
        if !is_sent {
            self.has_lost.store(true, Ordering::Release);
        }
        is_sent
    }
}

impl PubSub {
    /// Notes how many clients follow a prefix; to be called with the lock held that they changed under. Returns up to where
    /// the peers have to be told.
    pub fn set_followers(&self, prefix: &Bytes, count: usize) -> u64 {
        if !self.far.is_on.load(Ordering::Acquire) {
            return 0;
        }
        let mut prefixes = self.far.prefixes.write();
        match count {
            0 => prefixes.remove(prefix),
            count => prefixes.insert(prefix.clone(), count),
        };
        self.far.note(Followed::Prefix, prefix)
    }

    /// Whether a peer has clients that follow prefixes.
    #[inline]
    pub fn has_far_followers(&self) -> bool {
        self.far.counts[2].load(Ordering::Acquire) > 0
    }

    /// Sends changes, their keys in order, to the peers that follow their prefixes. `origin` tells which node's client a writer
    /// is, and its id there.
    pub fn tell_changes(&self, changes: &[&Change], origin: impl Fn(u64) -> Option<(NodeId, u64)>) {
        let wanted = self.far.wanted.read();
        let mut theirs: HashMap<u16, Vec<&Change>> = HashMap::new();
        let mut found = SmallVec::new();
        for change in changes {
            wanted.followers_of(&change.key, &mut found);
            for place in &found {
                theirs.entry(*place).or_default().push(change);
            }
        }
        for (place, changes) in theirs {
            let Some(peer) = wanted.at(place) else {
                continue;
            };
            let id = wanted.places.iter().find(|(_, its)| **its == place);
            let mut last_writer = (0, 0);
            let mut writer = |writer: u64| {
                if last_writer.0 != writer {
                    let at = origin(writer).filter(|(node, _)| Some(node) == id.map(|(id, _)| id));
                    last_writer = (writer, at.map_or(0, |(_, client)| client));
                }
                last_writer.1
            };
            let mut changes = changes.into_iter().peekable();
            while changes.peek().is_some() {
                let mut chunk = BytesMut::new();
                while chunk.len() < CHUNK_BYTES
                    && let Some(change) = changes.next()
                {
                    Record::Change {
                        writer: writer(change.writer),
                        key: &change.key,
                    }
                    .write(&mut chunk);
                }
                if !peer.tell(&mut |buffer| buffer.extend_from_slice(&chunk)) {
                    self.far.lost.add(1);
                }
            }
        }
    }

    /// Tells the peers whose clients follow prefixes that all keys are gone.
    pub fn tell_all_changed(&self) {
        if !self.has_far_followers() {
            return;
        }
        let wanted = self.far.wanted.read();
        let prefixes = wanted.names[Followed::Prefix.number()].values();
        let mut places: Vec<u16> = prefixes.flatten().map(|(place, _)| *place).collect();
        places.sort_unstable();
        places.dedup();
        let all = wanted.peers.iter().zip(0..);
        let all = all.filter(|(peer, _)| peer.as_ref().is_some_and(|peer| peer.wants_all));
        places.extend(all.map(|(_, place)| place));
        for peer in places.into_iter().filter_map(|place| wanted.at(place)) {
            peer.tell(&mut |buffer| Record::Lost.write(buffer));
        }
    }

    /// Background work: tells the peers that were not told of a change that they were not, if they can be by now.
    pub fn make_up_losses(&self) {
        let wanted = self.far.wanted.read();
        let losers = wanted.peers.iter().flatten();
        for peer in losers.filter(|peer| peer.has_lost.load(Ordering::Acquire)) {
            peer.tell(&mut |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::cluster::bus::CallError;
    use crate::state::pubsub::far::{Ear, Outlet};

    /// A way to a peer that may be shut; what has gone it is kept.
    #[derive(Default)]
    struct Way {
        is_shut: Mutex<bool>,
        payloads: Mutex<Vec<BytesMut>>,
    }

    impl Outlet for Way {
        fn send(&self, write: &mut dyn FnMut(&mut BytesMut)) -> Result<(), CallError> {
            if *self.is_shut.lock() {
                return Err(CallError::Full);
            }
            let mut payload = BytesMut::new();
            write(&mut payload);
            self.payloads.lock().push(payload);
            Ok(())
        }
    }

    fn node(number: u8) -> NodeId {
        NodeId([number; 20])
    }

    fn in_ring() -> Arc<PubSub> {
        let pubsub = Arc::new(PubSub::new(Arc::default()));
        pubsub.join_ring();
        pubsub
    }

    fn change(key: &str, writer: u64) -> Change {
        let key = key.as_bytes().to_vec();
        Change { key, writer }
    }

    /// Node 1, whose peer 2 has a way, and what that hears.
    struct Pair {
        pubsub: Arc<PubSub>,
        way: Arc<Way>,
        ear: Ear,
    }

    impl Pair {
        fn new() -> Pair {
            let (pubsub, way) = (in_ring(), Arc::<Way>::default());
            pubsub.set_outlet(node(2), way.clone());
            let ear = in_ring().ear(node(1));
            Pair { pubsub, way, ear }
        }

        fn follow(&self, prefix: &str, count: u32) {
            let mut payload = BytesMut::new();
            Record::Subscribers {
                what: Followed::Prefix,
                name: prefix.as_bytes(),
                count,
            }
            .write(&mut payload);
            let ear = self.pubsub.ear(node(2));
            ear.hear(&payload).expect("well-formed");
        }

        /// What the peer hears of these changes, in order; writer 12 is its client 7.
        fn heard(&self, changes: &[Change]) -> Heard {
            let changes: Vec<&Change> = changes.iter().collect();
            let origin = |writer| (writer == 12).then_some((node(2), 7));
            self.pubsub.tell_changes(&changes, origin);
            self.received()
        }

        fn received(&self) -> Heard {
            let mut all = Heard::default();
            for payload in std::mem::take(&mut *self.way.payloads.lock()) {
                let heard = self.ear.hear(&payload).expect("well-formed");
                all.changes.extend(heard.changes);
                all.is_lost |= heard.is_lost;
            }
            all
        }
    }

    fn only(changes: &[Change]) -> Heard {
        Heard {
            changes: changes.to_vec(),
            is_lost: false,
        }
    }

    /// Aim: a peer is told of the keys whose prefixes it follows, each once, and of who wrote if that is its own.
    #[test]
    fn changes_go_to_who_follows_their_prefixes() {
        let pair = Pair::new();
        assert!(!pair.pubsub.has_far_followers());
        assert_eq!(pair.heard(&[change("a", 1)]), Heard::default());
        pair.follow("user:", 1);
        pair.follow("user:1", 2);
        pair.follow("x", 1);
        assert!(pair.pubsub.has_far_followers());
        let changes = ["use", "user:", "user:17", "x", "y"].map(|key| change(key, 12));
        let expected = ["user:", "user:17", "x"].map(|key| change(key, 7));
        assert_eq!(pair.heard(&changes), only(&expected));
        pair.follow("user:", 0);
        let expected = ["user:17", "x"].map(|key| change(key, 0));
        let changes = changes.map(|change| Change {
            writer: 9,
            ..change
        });
        assert_eq!(pair.heard(&changes), only(&expected));
        pair.follow("", 1);
        assert_eq!(pair.heard(&[change("", 0)]), only(&[change("", 0)]));
        for prefix in ["", "x", "user:1"] {
            pair.follow(prefix, 0);
        }
        assert!(!pair.pubsub.has_far_followers());
    }

    /// Aim: what was not sent is made up for by one word, with the next change or without one.
    #[test]
    fn what_is_lost_is_told() {
        let pair = Pair::new();
        pair.follow("k", 1);
        *pair.way.is_shut.lock() = true;
        assert_eq!(pair.heard(&[change("k1", 0)]), Heard::default());
        pair.pubsub.make_up_losses();
        *pair.way.is_shut.lock() = false;
        let expected = Heard {
            changes: vec![change("k2", 0)],
            is_lost: true,
        };
        assert_eq!(pair.heard(&[change("k2", 0)]), expected);
        assert_eq!(pair.heard(&[change("k3", 0)]), only(&[change("k3", 0)]));
        *pair.way.is_shut.lock() = true;
        pair.heard(&[change("k1", 0)]);
        *pair.way.is_shut.lock() = false;
        pair.pubsub.make_up_losses();
        assert!(pair.received().is_lost);
        pair.pubsub.make_up_losses();
        assert!(pair.way.payloads.lock().is_empty());
        pair.pubsub.tell_all_changed();
        assert!(pair.received().is_lost);
    }

    /// Aim: more changes than fit into one payload arrive in several, in order.
    #[test]
    fn many_changes() {
        let pair = Pair::new();
        pair.follow("k", 1);
        let changes: Vec<Change> = (0..CHUNK_BYTES / 20)
            .map(|number| change(&format!("k{number:010}"), 0))
            .collect();
        let all: Vec<&Change> = changes.iter().collect();
        pair.pubsub.tell_changes(&all, |_| None);
        assert!(pair.way.payloads.lock().len() > 1);
        assert_eq!(pair.received().changes, changes);
    }

    /// Aim: what our clients follow is told to a peer, and no more once nobody does.
    #[test]
    fn a_peer_is_told_of_prefixes() {
        let (one, two) = (in_ring(), in_ring());
        let mut teller = one.teller();
        let ear = two.ear(node(1));
        let prefix = Bytes::from_static(b"p");
        one.set_followers(&prefix, 2);
        teller.begin();
        let mut say = |is_anew: bool| {
            while let Some(payload) = teller.say_next() {
                ear.hear(&payload).expect("well-formed");
            }
            assert_eq!(teller.heard(), is_anew);
            two.has_far_followers()
        };
        assert!(say(true));
        assert!(one.set_followers(&prefix, 1) > 0);
        assert!(say(false));
        one.set_followers(&prefix, 0);
        assert!(!say(false));
    }
}
