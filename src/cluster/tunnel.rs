//! Tunnels: connections of clients that go on at a peer, over the links that are there.
//!
//! What a request leaves behind at the owner of its keys (a place in a queue of waiting clients, watched keys) belongs to
//! the client's connection, so the client gets one at the owner: its bytes travel in frames of
//! [`Kind::Tunnel`](super::bus::Kind::Tunnel), and come back as pushes. It ends with either side, and with the link.
//!
//! ```text
//!     frame, push:  number u64 | what follows u8 | bytes
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Cluster;
use super::bus::{CallError, Kind, Link, Notices};
use super::forward::Malformed;
use super::node::{Node, NodeId};
use crate::resp::frame::Gate;

/// Pieces that wait for a client's connection to take them; one more ends the tunnel.
const PIECES: usize = 1024;

/// What a frame of a tunnel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the stream.
    Data,
    /// The end of it.
    End,
}

impl Piece {
    /// Writes a frame's payload.
    pub fn write(self, number: u64, bytes: &[u8], payload: &mut BytesMut) {
        payload.reserve(9 + bytes.len());
        payload.put_u64(number);
        payload.put_u8(u8::from(self == Piece::End));
        payload.put_slice(bytes);
    }

    /// Reads it: number, what it is, and leaves the bytes.
    pub fn read(payload: &mut Bytes) -> Result<(u64, Piece), Malformed> {
        if payload.len() < 9 {
            return Err(Malformed);
        }
        let number = payload.get_u64();
        match payload.get_u8() {
            0 => Ok((number, Piece::Data)),
            1 => Ok((number, Piece::End)),
            _ => Err(Malformed),
        }
    }
}

/// This node's ends of the tunnels that its clients have.
#[derive(Debug, Default)]
pub struct Tunnels {
    next: AtomicU64,
    /// A leaf lock.
    open: Mutex<HashMap<u64, End>>,
}

#[derive(Debug)]
struct End {
    node: NodeId,
    lane: usize,
    pieces: mpsc::Sender<Bytes>,
}

impl Notices for Tunnels {
    fn pushed(&self, _peer: NodeId, _lane: usize, mut payload: Bytes) {
        let Ok((number, piece)) = Piece::read(&mut payload) else {
            return;
        };
        let mut open = self.open.lock();
        let is_over = match open.get(&number) {
            Some(end) if piece == Piece::Data => end
                .pieces
                .try_send(Bytes::copy_from_slice(&payload))
                .is_err(),
            _ => true,
        };
        if is_over {
            open.remove(&number);
        }
    }

    fn broken(&self, node: NodeId, lane: usize) {
        self.open
            .lock()
            .retain(|_, end| end.node != node || end.lane != lane);
    }
}

/// A client's connection at a peer.
#[derive(Debug)]
pub struct Tunnel {
    cluster: Arc<Cluster>,
    number: u64,
    link: Arc<Link>,
    pieces: mpsc::Receiver<Bytes>,
    input: BytesMut,
    gate: Gate,
    /// Whose it is.
    pub node: NodeId,
    /// The database that is selected there.
    pub database: u32,
    /// Whether it speaks RESP3.
    pub is_resp3: bool,
    /// Whether keys are watched there.
    pub is_watching: bool,
}

impl Tunnel {
    /// Opens one; the peer learns of it with the first bytes.
    pub fn open(cluster: &Arc<Cluster>, node: &Node, client: u64) -> Tunnel {
        let number = cluster.tunnels.next.fetch_add(1, Ordering::Relaxed);
        let (sender, pieces) = mpsc::channel(PIECES);
        let end = End {
            node: node.id,
            lane: cluster.lane(client),
            pieces: sender,
        };
        cluster.tunnels.open.lock().insert(number, end);
        Tunnel {
            link: cluster.link(node, client),
            cluster: Arc::clone(cluster),
            number,
            pieces,
            input: BytesMut::new(),
            gate: Gate::new(),
            node: node.id,
            database: 0,
            is_resp3: false,
            is_watching: false,
        }
    }

    /// Sends requests.
    pub fn send(&self, requests: &[u8]) -> Result<(), CallError> {
        self.link.send(Kind::Tunnel, |payload| {
            Piece::Data.write(self.number, requests, payload);
        })
    }

    /// The next reply or push, whole. `None`: the tunnel is over.
    pub fn poll_reply(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match self.gate.scan(&self.input) {
                Ok(Some(length)) => return Poll::Ready(Some(self.input.split_to(length).freeze())),
                Ok(None) => {}
                Err(_) => return Poll::Ready(None),
            }
            match std::task::ready!(self.pieces.poll_recv(context)) {
                Some(piece) => self.input.extend_from_slice(&piece),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.cluster.tunnels.open.lock().remove(&self.number);
        // Without a link there is nobody to tell.
        let _ = self.link.send(Kind::Tunnel, |payload| {
            Piece::End.write(self.number, &[], payload);
        });
    }
}
