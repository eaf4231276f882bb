//! Copies that clients keep (CLIENT TRACKING) of keys at other nodes: what the owner of the keys tells the node that they are
//! connected to, and the pushes of the bus, of which these are one kind.
//!
//! ```text
//!     push:     0 u8 | a piece of a tunnel (tunnel.rs)
//!               1 u8 | writer u64 | count u32 | reader u64 x count | key       these clients must forget a key
//!               2 u8                                                           all who read keys there must forget everything
//!     Track:    client u64, one after the other                                these read no more keys that they keep
//! ```
//!
//! The owner remembers who reads a key by a frame that says so ([`HowToRun::REMEMBER`](super::forward::HowToRun)), and tells
//! it by the connection that the frame came by. What it remembers ends with that connection: then all who may have read by
//! it must forget everything. Clients are named by their ids at the node that they are connected to.

use std::sync::{Arc, OnceLock};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::bus::Notices;
use super::forward::Malformed;
use super::node::NodeId;
use super::tunnel::Tunnels;

/// The first byte of a push: a piece of a tunnel.
pub const TUNNEL: u8 = 0;
const KEY: u8 = 1;
const EVERYTHING: u8 = 2;

/// What clients must forget.
#[derive(Debug, PartialEq, Eq)]
pub enum Note {
    /// These clients: a key.
    Key {
        /// Its name.
        key: Bytes,
        /// Who has read it.
        readers: Vec<u64>,
        /// Who changed it, if it is a client of the node that is told; else 0.
        writer: u64,
    },
    /// All who keep copies of keys of the sender: everything.
    Everything,
}

impl Note {
    /// Appends [`Note::Key`] to a push.
    pub fn write_key(
        key: &[u8],
        readers: impl ExactSizeIterator<Item = u64>,
        writer: u64,
        payload: &mut BytesMut,
    ) {
        payload.reserve(13 + 8 * readers.len() + key.len());
        payload.put_u8(KEY);
        payload.put_u64(writer);
        payload.put_u32(readers.len() as u32);
        readers.for_each(|reader| payload.put_u64(reader));
        payload.put_slice(key);
    }

    /// Appends [`Note::Everything`] to a push.
    pub fn write_everything(payload: &mut BytesMut) {
        payload.put_u8(EVERYTHING);
    }

    /// Reads a push that is no piece of a tunnel.
    pub fn read(mut payload: Bytes) -> Result<Note, Malformed> {
        match payload.try_get_u8() {
            Ok(EVERYTHING) if payload.is_empty() => Ok(Note::Everything),
            Ok(KEY) if payload.len() >= 12 => {
                let writer = payload.get_u64();
                let count = payload.get_u32() as usize;
                if payload.len() / 8 < count {
                    return Err(Malformed);
                }
                let readers = (0..count).map(|_| payload.get_u64()).collect();
                Ok(Note::Key {
                    key: payload,
                    readers,
                    writer,
                })
            }
            _ => Err(Malformed),
        }
    }
}

/// The clients that a frame of [`Kind::Track`](super::bus::Kind::Track) names.
pub fn ended(payload: &[u8]) -> impl Iterator<Item = u64> {
    let whole = payload.chunks_exact(8);
    whole.map(|mut client| client.get_u64())
}

/// Whose clients keep copies.
pub trait Keepers: Send + Sync + 'static {
    /// A peer says what is to be forgotten.
    fn forget(&self, note: &Note);
    /// The connection is gone by which the requests of those clients went that `is_meant` says: what they have read by it
    /// nobody remembers any more.
    fn lose(&self, is_meant: &dyn Fn(u64) -> bool);
}

/// What comes back by the links of a node.
pub struct Pushes {
    tunnels: Arc<Tunnels>,
    /// As many as [`super::Cluster::lane`] spreads clients over.
    lanes: usize,
    keepers: OnceLock<Arc<dyn Keepers>>,
}

impl Pushes {
    /// For links of so many lanes to each peer.
    pub fn new(tunnels: Arc<Tunnels>, lanes: usize) -> Arc<Pushes> {
        Arc::new(Pushes {
            tunnels,
            lanes: lanes.max(1),
            keepers: OnceLock::new(),
        })
    }

    /// Says who is told what to forget. Once.
    pub fn set_keepers(&self, keepers: Arc<dyn Keepers>) {
        // A second time there is none to be told instead.
        let _ = self.keepers.set(keepers);
    }
}

/// Which of so many connections to a peer a client uses.
pub fn lane_of(client: u64, lanes: usize) -> usize {
    (client % lanes as u64) as usize
}

impl Notices for Pushes {
    fn pushed(&self, peer: NodeId, lane: usize, mut payload: Bytes) {
        if payload.first() == Some(&TUNNEL) {
            payload.advance(1);
            return self.tunnels.pushed(peer, lane, payload);
        }
        let Some(keepers) = self.keepers.get() else {
            return;
        };
        match Note::read(payload) {
            Ok(note) => keepers.forget(&note),
            Err(Malformed) => {
                tracing::warn!(%peer, "what a peer says of copies could not be read");
                // Whatever it was, nobody keeps what it meant.
                keepers.lose(&|client| lane_of(client, self.lanes) == lane);
            }
        }
    }

    fn broken(&self, node: NodeId, lane: usize) {
        self.tunnels.broken(node, lane);
        if let Some(keepers) = self.keepers.get()
            && lane < self.lanes
        {
            keepers.lose(&|client| lane_of(client, self.lanes) == lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_arrives_as_it_was_sent() {
        let mut payload = BytesMut::new();
        Note::write_key(b"k\0", [7, 9].into_iter(), 9, &mut payload);
        let payload = payload.freeze();
        let note = Note::Key {
            key: Bytes::from_static(b"k\0"),
            readers: vec![7, 9],
            writer: 9,
        };
        assert_eq!(Note::read(payload.clone()), Ok(note));
        // The key may have any length, the readers may not.
        for cut in 0..payload.len() - 2 {
            assert_eq!(Note::read(payload.slice(..cut)), Err(Malformed), "{cut}");
        }
        let mut payload = BytesMut::new();
        Note::write_everything(&mut payload);
        assert_eq!(Note::read(payload.freeze()), Ok(Note::Everything));
        assert_eq!(Note::read(Bytes::from_static(&[2, 0])), Err(Malformed));
        assert_eq!(Note::read(Bytes::from_static(&[9])), Err(Malformed));
    }
}
