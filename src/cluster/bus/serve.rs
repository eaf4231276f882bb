//! The answering side: accepts peers, lets them prove themselves, runs what they ask for.
//!
//! One task per connection reads frames, runs them one after the other, and writes the answers to all that were read at once
//! together. While a frame waits for something, answers that are ready are written; no further frame of that connection is
//! begun. What takes long belongs into a task of its own, with a clone of [`Answers`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};

use super::auth::{self, Refused, Session};
use super::frame::{TooLarge, Violation};
use super::long::{Assembly, LONG_FROM, PART_BYTES};
use super::net::{TcpListener, TcpStream};
use super::outbox::Outbox;
use super::wire::{Side, Wire};
use super::{
    Bus, HANDSHAKE_TIME, Kind, LONG_MAX, LinkInfo, PEERS_MAX, STRANGERS_MAX, Traffic, unix_ms,
};
use crate::cluster::node::NodeId;

/// How long accepting rests after an error that would come again at once (no descriptors left).
const REST: Duration = Duration::from_millis(50);

/// What is done with the frames of peers.
pub trait Service: Send + Sync + 'static {
    /// State of one connection, dropped when that ends.
    type Peer: Send;

    /// A peer has connected and proven itself.
    fn accept(&self, from: NodeId, answers: &Answers) -> Self::Peer;

    /// Runs a frame: [`Kind::Raft`] to [`Kind::Track`], or [`Kind::Cancel`] of an id. Frames of one connection come one after the
    /// other, in the order in which they were sent; the next one when this has returned. Id 0 wants no answer. When the
    /// connection breaks, the future is dropped wherever it waits. It must not wait for longer than half the time of silence,
    /// as the connection is not read meanwhile. The payload holds on to a larger buffer: who keeps it copies it.
    fn frame(
        &self,
        peer: &mut Self::Peer,
        kind: Kind,
        id: u64,
        payload: Bytes,
        answers: &Answers,
    ) -> impl Future<Output = ()> + Send;
}

/// Where answers go: to the peer of one connection, from any task. Clones may outlive it; then what they are given is forgotten.
///
/// Queued up to [`super::QUEUE_MAX`] and one frame more; when that is reached the peer does not read what it asked for, and
/// the connection is ended. A connection with a megabyte to write is not read until that has gone.
#[derive(Clone, Debug)]
pub struct Answers(Arc<Outbox>);

impl Answers {
    /// Answers the call of this id; `write` appends the payload. It runs under the lock of the queue: short, and without
    /// answering anything itself. `Err`: longer than a frame may be; nothing is sent, and the caller answers something else.
    pub fn answer(&self, id: u64, write: impl FnOnce(&mut BytesMut)) -> Result<(), TooLarge> {
        self.0.push_answer(Kind::Answer, id, write)
    }

    /// As [`Answers::answer`] with what is left of `answer`, which may be as long as [`LONG_MAX`]: a long one goes in parts, when
    /// those before it have been sent. `Err`: nothing is sent, and the caller answers something else.
    pub async fn answer_long(
        &self,
        id: u64,
        answer: &mut (impl Buf + Send),
    ) -> Result<(), TooLarge> {
        if answer.remaining() <= LONG_FROM {
            return self.answer(id, |payload| payload.put(answer));
        }
        if answer.remaining() > LONG_MAX {
            return Err(TooLarge);
        }
        let _turn = self.0.turn.lock().await;
        while answer.remaining() > PART_BYTES {
            self.room().await;
            let part = answer.take(PART_BYTES);
            self.0
                .push_answer(Kind::Part, id, |payload| payload.put(part))?;
        }
        self.answer(id, |payload| payload.put(answer))
    }

    /// Waits until so little is to be written that more may be queued without fear for the connection ([`super::QUEUE_MAX`]).
    pub async fn room(&self) {
        std::future::poll_fn(|context| self.0.poll_room(context)).await;
    }

    /// Sends something unasked, behind the answers given before. As [`Answers::answer`] otherwise.
    pub fn push(&self, write: impl FnOnce(&mut BytesMut)) -> Result<(), TooLarge> {
        self.0.push_answer(Kind::Push, 0, write)
    }
}

#[cfg(test)]
impl Answers {
    /// To nobody: see [`Answers::take_pushes`].
    pub fn to_nobody() -> Answers {
        let outbox = Arc::<Outbox>::default();
        outbox.open();
        Answers(outbox)
    }

    /// The payloads that were pushed since the last call.
    pub fn take_pushes(&self) -> Vec<Bytes> {
        let mut queued = BytesMut::new();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = self.0.poll_take(&mut context, &mut queued);
        let mut queued = queued.freeze();
        let mut payloads = Vec::new();
        while let Some(payload) = super::frame::take_unsealed(&mut queued) {
            payloads.push(payload);
        }
        payloads
    }
}

/// Accepts peers until `shutdown` is ready, then ends all connections. When it returns, the listener is closed and
/// no frame runs any more.
pub async fn serve<S: Service>(
    listener: TcpListener,
    bus: Arc<Bus>,
    service: Arc<S>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut connections = JoinSet::new();
    let strangers = Arc::new(Strangers::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                if !auth::may_speak(&bus.identity, from.ip()) {
                    refuse(&bus, from, &Refused::NotLoopback);
                    continue;
                }
                let oldest = strangers.add(|number| {
                    connections.spawn(connection(
                        stream,
                        from,
                        Arc::clone(&bus),
                        Arc::clone(&service),
                        Arc::clone(&strangers),
                        number,
                    ))
                });
                if let Some(oldest) = oldest {
                    oldest.abort();
                    refuse(&bus, from, &Refused::TooMany);
                }
            }
            Err(error) => {
                bus.warn("", &format_args!("cannot accept: {error}"));
                tokio::time::sleep(REST).await;
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

fn refuse(bus: &Bus, from: SocketAddr, why: &Refused) {
    bus.counters.refused.add(1);
    bus.warn(&from.to_string(), &format_args!("refused: {why}"));
}

/// One connection, from its handshake to its end.
async fn connection<S: Service>(
    mut stream: TcpStream,
    from: SocketAddr,
    bus: Arc<Bus>,
    service: Arc<S>,
    strangers: Arc<Strangers>,
    number: u64,
) {
    let _ = stream.set_nodelay(true);
    let proven =
        tokio::time::timeout(HANDSHAKE_TIME, auth::accept(&mut stream, &bus.identity)).await;
    strangers.remove(number);
    let session = match proven {
        Ok(Ok(session)) => session,
        Ok(Err(why)) => return refuse(&bus, from, &why),
        Err(_) => return refuse(&bus, from, &Refused::TimedOut),
    };
    let Some(entry) = bus.incoming.add(session.peer, from) else {
        return refuse(&bus, from, &Refused::TooMany);
    };
    let _listed = Listed {
        bus: &bus,
        entry: &entry,
    };
    let why = match carry(stream, session, &bus, &entry, service.as_ref()).await {
        Err(why) => why,
        Ok(never) => match never {},
    };
    match why {
        Refused::Violation(_) => bus.counters.violations.add(1),
        // How a peer leaves that is closed, or closes its link.
        Refused::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return,
        _ => bus.counters.broken.add(1),
    }
    bus.warn(
        &from.to_string(),
        &format_args!("connection of a peer ended: {why}"),
    );
}

async fn carry<S: Service>(
    stream: TcpStream,
    session: Session,
    bus: &Bus,
    entry: &Entry,
    service: &S,
) -> Result<std::convert::Infallible, Refused> {
    let (outbox, traffic) = (entry.outbox.as_ref(), &entry.traffic);
    let answers = Answers(Arc::clone(&entry.outbox));
    let mut peer = service.accept(session.peer, &answers);
    let (reader, writer) = stream.into_split();
    let mut wire = Wire::new(reader, writer, session, Side::Acceptor, bus.tick());
    let mut assembly = Assembly::default();
    loop {
        wire.read(outbox, traffic, || false).await?;
        while let Some(frame) = wire.next(traffic)? {
            match frame.kind {
                Kind::Ping => outbox.push_note(Kind::Pong, frame.id),
                Kind::Answer | Kind::Push | Kind::Pong => return Err(Violation::Kind.into()),
                Kind::Part => assembly.part(frame.id, &frame.payload)?,
                kind => {
                    if kind == Kind::Cancel {
                        assembly.forget(frame.id);
                    }
                    let payload = assembly.whole(frame.id, frame.payload);
                    let work = service.frame(&mut peer, kind, frame.id, payload, &answers);
                    wire.run(outbox, traffic, work).await?;
                }
            }
        }
    }
}

/// The connections that are in their handshake, oldest first.
#[derive(Debug, Default)]
struct Strangers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    tasks: VecDeque<(u64, AbortHandle)>,
}

impl Strangers {
    /// Starts a connection, which cannot come to [`Strangers::remove`] before it is listed. Returns the oldest, if that is one too
    /// many.
    fn add(&self, start: impl FnOnce(u64) -> AbortHandle) -> Option<AbortHandle> {
        let mut waiting = self.0.lock();
        waiting.next += 1;
        let number = waiting.next;
        waiting.tasks.push_back((number, start(number)));
        if waiting.tasks.len() <= STRANGERS_MAX {
            return None;
        }
        waiting.tasks.pop_front().map(|(_, task)| task)
    }

    fn remove(&self, number: u64) {
        self.0.lock().tasks.retain(|(other, _)| *other != number);
    }
}

/// The connections of peers.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Vec<Arc<Entry>>>);

#[derive(Debug)]
struct Entry {
    peer: NodeId,
    from: SocketAddr,
    since_ms: u64,
    outbox: Arc<Outbox>,
    traffic: Traffic,
}

impl Registry {
    /// `None`: there are [`PEERS_MAX`].
    fn add(&self, peer: NodeId, from: SocketAddr) -> Option<Arc<Entry>> {
        let mut entries = self.0.lock();
        if entries.len() >= PEERS_MAX {
            return None;
        }
        let entry = Arc::new(Entry {
            peer,
            from,
            since_ms: unix_ms(),
            outbox: Arc::default(),
            traffic: Traffic::default(),
        });
        entry.outbox.open();
        entries.push(Arc::clone(&entry));
        Some(entry)
    }

    fn remove(&self, entry: &Arc<Entry>) {
        self.0.lock().retain(|other| !Arc::ptr_eq(other, entry));
    }

    pub(super) fn list(&self) -> Vec<LinkInfo> {
        let entries = self.0.lock().clone();
        entries.iter().map(|entry| entry.info()).collect()
    }
}

impl Entry {
    fn info(&self) -> LinkInfo {
        let (queued_bytes, queue_capacity_bytes) = self.outbox.queued();
        LinkInfo {
            incoming: true,
            peer: Some(self.peer),
            address: self.from.to_string(),
            lane: 0,
            since_ms: Some(self.since_ms),
            frames_sent: self.traffic.frames_sent.value(),
            frames_received: self.traffic.frames_received.value(),
            bytes_sent: self.traffic.bytes_sent.value(),
            bytes_received: self.traffic.bytes_received.value(),
            queued_bytes,
            queue_capacity_bytes,
            waiting: 0,
            errors: 0,
        }
    }
}

/// While a connection is in the list. Its end, also an aborted one, forgets what was still to be answered.
struct Listed<'a> {
    bus: &'a Bus,
    entry: &'a Arc<Entry>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.entry.outbox.close();
        self.bus.incoming.remove(self.entry);
    }
}
