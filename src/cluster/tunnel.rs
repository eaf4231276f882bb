//! Tunnels: connections of clients that go on at a peer, over the links that are there.
//!
//! What a request leaves behind at the owner of its keys (a place in a queue of waiting clients, watched keys) belongs to
//! the client's connection, so the client gets one at the owner: its bytes travel in frames of
//! [`Kind::Tunnel`], and come back as pushes. It ends with either side, and with the link.
//!
//! ```text
//!     frame, push:  number u64 | what follows u8 | of it
//!
//!     both ways     Data        bytes of the stream, within the other side's credit (pipe.rs)
//!                   Credit      u32: so many bytes were taken
//!                   End
//!     to the owner  For         client u64 | how u8: whose requests follow, as in the head of a forwarded frame
//!                   Unblock     u8: end the client's wait (CLIENT UNBLOCK), 1: with an error
//!     back          Waits       the client waits for a key
//!                   Unblocked   u8: the answer to an Unblock, 1: its wait was ended by it
//! ```
//!
//! Whether a wait is ended by CLIENT UNBLOCK, by its time, or by an element that was taken for it is decided at the owner
//! alone, so that no element is taken for nobody.

pub mod pipe;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Cluster;
use super::bus::{CallError, Kind, Link, Notices};
use super::forward::{HowToRun, Malformed};
use super::node::{Node, NodeId};
use crate::resp::frame::Gate;
use pipe::{Came, Overrun, PIECE_BYTES, Pipe};

/// What a frame of a tunnel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the stream.
    Data(Bytes),
    /// The end of it.
    End,
    /// So many bytes were taken: as many more may be sent.
    Credit(u32),
    /// Whose requests follow.
    For {
        /// The client's id at its own node.
        client: u64,
        /// What of it counts here: whether its reads are remembered.
        how: HowToRun,
    },
    /// End the client's wait.
    Unblock {
        /// With an error, not as if its time were over.
        with_error: bool,
    },
    /// The client waits.
    Waits,
    /// Whether its wait was ended.
    Unblocked(bool),
}

impl Piece {
    /// Writes a frame's payload.
    pub fn write(&self, number: u64, payload: &mut BytesMut) {
        payload.put_u64(number);
        match self {
            Piece::Data(bytes) => {
                payload.put_u8(0);
                payload.put_slice(bytes);
            }
            Piece::End => payload.put_u8(1),
            Piece::Credit(bytes) => {
                payload.put_u8(2);
                payload.put_u32(*bytes);
            }
            Piece::For { client, how } => {
                payload.put_u8(3);
                payload.put_u64(*client);
                payload.put_u8(how.bits());
            }
            Piece::Unblock { with_error } => payload.put_slice(&[4, u8::from(*with_error)]),
            Piece::Waits => payload.put_u8(5),
            Piece::Unblocked(is_unblocked) => payload.put_slice(&[6, u8::from(*is_unblocked)]),
        }
    }

    /// Reads it. Data is a part of the payload: who keeps it copies it.
    pub fn read(payload: &mut Bytes) -> Result<(u64, Piece), Malformed> {
        let number = payload.try_get_u64().map_err(|_| Malformed)?;
        let kind = payload.try_get_u8().map_err(|_| Malformed)?;
        let mut yes_or_no = || match payload.try_get_u8() {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            _ => Err(Malformed),
        };
        let piece = match kind {
            0 => Piece::Data(std::mem::take(payload)),
            1 => Piece::End,
            2 => Piece::Credit(payload.try_get_u32().map_err(|_| Malformed)?),
            3 => {
                let client = payload.try_get_u64().map_err(|_| Malformed)?;
                let how = payload.try_get_u8().ok().and_then(HowToRun::from_bits);
                let how = how.ok_or(Malformed)?;
                Piece::For { client, how }
            }
            4 => Piece::Unblock {
                with_error: yes_or_no()?,
            },
            5 => Piece::Waits,
            6 => Piece::Unblocked(yes_or_no()?),
            _ => return Err(Malformed),
        };
        match payload.is_empty() {
            true => Ok((number, piece)),
            false => Err(Malformed),
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
    pipe: Arc<Pipe>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.pipe.end();
    }
}

impl Notices for Tunnels {
    fn pushed(&self, _peer: NodeId, _lane: usize, mut payload: Bytes) {
        let Ok((number, piece)) = Piece::read(&mut payload) else {
            return;
        };
        let mut open = self.open.lock();
        let Some(end) = open.get(&number) else {
            return;
        };
        let done = match piece {
            Piece::Data(bytes) => end.pipe.receive(&bytes),
            Piece::Credit(bytes) => end.pipe.receive_credit(bytes as usize),
            Piece::Waits => {
                end.pipe.receive_waits();
                Ok(())
            }
            Piece::Unblocked(is_unblocked) => {
                end.pipe.receive_unblocked(is_unblocked);
                Ok(())
            }
            Piece::End | Piece::For { .. } | Piece::Unblock { .. } => Err(Overrun),
        };
        if done.is_err() {
            open.remove(&number);
        }
    }

    fn broken(&self, node: NodeId, lane: usize) {
        self.open
            .lock()
            .retain(|_, end| end.node != node || end.lane != lane);
    }
}

/// What of a tunnel others than its client use: CLIENT UNBLOCK.
#[derive(Clone, Debug)]
pub struct Handle {
    number: u64,
    link: Arc<Link>,
    pipe: Arc<Pipe>,
}

impl Handle {
    /// Asks the owner to end the client's wait. What comes of it, unless the peer cannot be asked, or is lost before it has
    /// answered.
    pub fn unblock(&self, with_error: bool) -> Result<oneshot::Receiver<bool>, CallError> {
        self.pipe.ask(|| self.send(&Piece::Unblock { with_error }))
    }

    fn send(&self, piece: &Piece) -> Result<(), CallError> {
        self.link
            .send(Kind::Tunnel, |payload| piece.write(self.number, payload))
    }
}

/// What comes through a tunnel.
#[derive(Debug)]
pub enum Next {
    /// A reply or push, whole.
    Reply(Bytes),
    /// The client waits for a key.
    Waits,
    /// The tunnel is over.
    End,
}

/// A client's connection at a peer.
#[derive(Debug)]
pub struct Tunnel {
    cluster: Arc<Cluster>,
    handle: Handle,
    /// Requests that are still to be sent.
    unsent: BytesMut,
    input: BytesMut,
    /// Bytes of the input that no credit was given for yet.
    taken: usize,
    gate: Gate,
    /// Whose it is.
    pub node: NodeId,
    /// The database that is selected there.
    pub database: u32,
    /// Whether it speaks RESP3.
    pub is_resp3: bool,
    /// Whether keys are watched there.
    pub is_watching: bool,
    /// Whose requests the peer runs.
    stands_for: Option<(u64, HowToRun)>,
}

impl Tunnel {
    /// Opens one; the peer learns of it with the first request.
    pub fn open(cluster: &Arc<Cluster>, node: &Node, client: u64) -> Tunnel {
        let number = cluster.tunnels.next.fetch_add(1, Ordering::Relaxed);
        let pipe = Arc::<Pipe>::default();
        let end = End {
            node: node.id,
            lane: cluster.lane(client),
            pipe: Arc::clone(&pipe),
        };
        cluster.tunnels.open.lock().insert(number, end);
        let link = cluster.link(node, client);
        Tunnel {
            handle: Handle { number, link, pipe },
            cluster: Arc::clone(cluster),
            unsent: BytesMut::new(),
            input: BytesMut::new(),
            taken: 0,
            gate: Gate::new(),
            node: node.id,
            database: 0,
            is_resp3: false,
            is_watching: false,
            stands_for: None,
        }
    }

    /// For who ends a wait of its client.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Bytes of a reply that is not whole yet.
    pub fn held_bytes(&self) -> usize {
        self.input.len()
    }

    /// Begins to send requests of a client, by its id at this node. `Err`: nothing was sent, and the tunnel is over.
    pub fn send(
        &mut self,
        client: u64,
        how: HowToRun,
        requests: BytesMut,
    ) -> Result<(), CallError> {
        if self.stands_for != Some((client, how)) {
            self.handle.send(&Piece::For { client, how })?;
            self.stands_for = Some((client, how));
        }
        self.unsent = requests;
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.send_more(&mut context)
    }

    /// Sends what the peer has room for.
    fn send_more(&mut self, context: &mut Context<'_>) -> Result<(), CallError> {
        while !self.unsent.is_empty() {
            let most = PIECE_BYTES.min(self.unsent.len());
            match self.handle.pipe.poll_spend(context, most) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(CallError::Broken),
                Poll::Ready(Some(bytes)) => {
                    let piece = Piece::Data(self.unsent.split_to(bytes).freeze());
                    self.handle.send(&piece)?;
                }
            }
        }
        // The memory of a large request is not kept.
        self.unsent = BytesMut::new();
        Ok(())
    }

    /// What comes next. Meanwhile it goes on sending.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if self.send_more(context).is_err() {
            return Poll::Ready(Next::End);
        }
        loop {
            match self.gate.scan(&self.input) {
                Ok(Some(length)) => {
                    let reply = match length == self.input.len() {
                        true => std::mem::take(&mut self.input),
                        false => self.input.split_to(length),
                    };
                    return Poll::Ready(Next::Reply(reply.freeze()));
                }
                Ok(None) => {}
                Err(_) => return Poll::Ready(Next::End),
            }
            match std::task::ready!(self.handle.pipe.poll(context)) {
                Came::Bytes(bytes) => {
                    let credit = self.handle.pipe.took(bytes.len(), &mut self.taken);
                    match self.input.is_empty() {
                        true => self.input = bytes,
                        false => self.input.extend_from_slice(&bytes),
                    }
                    if let Some(credit) = credit
                        && self.handle.send(&Piece::Credit(credit as u32)).is_err()
                    {
                        return Poll::Ready(Next::End);
                    }
                }
                Came::Waits => return Poll::Ready(Next::Waits),
                Came::End => return Poll::Ready(Next::End),
            }
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.cluster.tunnels.open.lock().remove(&self.handle.number);
        // Without a link there is nobody to tell.
        let _ = self.handle.send(&Piece::End);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Aim: each piece is read as it was written, and nothing else is.
    #[test]
    fn pieces_are_read_as_they_were_written() {
        let how = HowToRun::REMEMBER;
        let pieces = [
            Piece::Data(Bytes::from_static(b"PING\r\n")),
            Piece::Data(Bytes::new()),
            Piece::End,
            Piece::Credit(70_000),
            Piece::For { client: 7, how },
            Piece::Unblock { with_error: true },
            Piece::Unblock { with_error: false },
            Piece::Waits,
            Piece::Unblocked(true),
            Piece::Unblocked(false),
        ];
        for piece in pieces {
            let mut payload = BytesMut::new();
            piece.write(9, &mut payload);
            let payload = payload.freeze();
            assert_eq!(Piece::read(&mut payload.clone()), Ok((9, piece.clone())));
            if matches!(piece, Piece::Data(_)) {
                continue;
            }
            for length in 0..payload.len() {
                let read = Piece::read(&mut payload.slice(..length));
                assert_eq!(read, Err(Malformed), "{piece:?} cut at {length}");
            }
            let longer = [&payload[..], &[0]].concat();
            let read = Piece::read(&mut Bytes::from(longer));
            assert_eq!(read, Err(Malformed), "{piece:?} and a byte");
        }
        let mut unknown = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 9, 7]);
        assert_eq!(Piece::read(&mut unknown), Err(Malformed));
    }
}
