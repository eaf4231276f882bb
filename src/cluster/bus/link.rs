//! The asking side: links to peers, calls, their answers.
//!
//! A [`Link`] keeps one connection to one address: a task of its own connects, proves itself, writes and reads, and begins anew when
//! that breaks, first after 10 ms, then after twice as long each time up to a second. A call is refused at once while there is no
//! connection; nothing is queued for later, as whoever calls may have somebody else to ask.
//!
//! A link to a *node* ([`Links::link`]) speaks with that node only: another process that has taken over the address is refused in
//! the handshake. A link to an *address* ([`Links::address`]) takes whoever is there, says who that is, and goes when nobody has
//! used it for a minute.
//!
//! The order in which one task's calls are sent is the order in which it made them. Answers and pushes are handed on in the order
//! in which they came.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::auth::{self, Refused, Session};
use super::frame::Violation;
use super::long::{Assembly, LONG_FROM, PART_BYTES};
use super::net::TcpStream;
use super::outbox::Outbox;
use super::tickets::Tickets;
use super::wire::{Side, Wire};
use super::{Bus, CallError, Kind, LONG_MAX, LinkInfo, Traffic, unix_ms};
use crate::base::stats::{Counter, Distribution, Histogram};
use crate::cluster::node::NodeId;

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long a link to an address is kept without being used.
const ADDRESS_IDLE: Duration = Duration::from_secs(60);

/// How many links to addresses there may be; one more is refused.
const ADDRESSES_MAX: usize = 4096;

/// The lane that [`Notices`] name for links to addresses.
pub const ADDRESS_LANE: usize = usize::MAX;

/// What a node is told of its links, link by link in the order in which it happened. Called by the task of the link: nothing here
/// may wait.
pub trait Notices: Send + Sync + 'static {
    /// The connection is there; calls are taken.
    fn connected(&self, _peer: NodeId, _lane: usize) {}

    /// The peer sent this unasked. It holds on to a larger buffer: who keeps it copies it. Answers that were sent before it
    /// are with their tickets.
    fn pushed(&self, _peer: NodeId, _lane: usize, _payload: Bytes) {}

    /// A connection that was there is gone; its tickets have failed. Comes once after each `connected`, also when the link is
    /// closed.
    fn broken(&self, _peer: NodeId, _lane: usize) {}
}

/// Nobody wants to know.
impl Notices for () {}

/// All links of a node. They close when it is dropped.
pub struct Links {
    bus: Arc<Bus>,
    notices: Arc<dyn Notices>,
    /// Protects which links there are; never held together with a lock of a link.
    nodes: Mutex<HashMap<(NodeId, usize), Arc<Link>>>,
    /// As `nodes`.
    addresses: Mutex<HashMap<String, Arc<Link>>>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

impl Links {
    /// None yet.
    pub fn new(bus: Arc<Bus>, notices: Arc<dyn Notices>) -> Links {
        Links {
            bus,
            notices,
            nodes: Mutex::default(),
            addresses: Mutex::default(),
        }
    }

    /// The link to a node; `lane` tells several to the same node apart. Made, and connecting, if it was not there or the node's
    /// address (`host:port`) is another than before. Takes a lock and hashes: keep what it returns, and ask again when the map
    /// changes. Inside a tokio runtime only.
    pub fn link(&self, id: NodeId, address: &str, lane: usize) -> Arc<Link> {
        let mut nodes = self.nodes.lock();
        if let Some(link) = nodes.get(&(id, lane))
            && link.address == address
        {
            return Arc::clone(link);
        }
        let link = Link::start(&self.bus, Some(id), address, lane, &self.notices);
        let old = nodes.insert((id, lane), Arc::clone(&link));
        drop(nodes);
        if let Some(old) = old {
            old.close();
        }
        link
    }

    /// The link to whoever is at this address (`host:port`). `None`: there are too many of them. Inside a tokio runtime only.
    pub fn address(&self, address: &str) -> Option<Arc<Link>> {
        let mut addresses = self.addresses.lock();
        if let Some(link) = addresses.get(address)
            && !link.outbox.is_closed()
        {
            link.touch();
            return Some(Arc::clone(link));
        }
        addresses.retain(|_, link| !link.outbox.is_closed());
        if addresses.len() >= ADDRESSES_MAX {
            return None;
        }
        let link = Link::start(&self.bus, None, address, ADDRESS_LANE, &self.notices);
        addresses.insert(address.to_owned(), Arc::clone(&link));
        Some(link)
    }

    /// Who is at this address. `Err`: nobody whom this node would speak with, or not in time.
    pub async fn identify(&self, address: &str, timeout: Duration) -> Result<NodeId, CallError> {
        let link = self.address(address).ok_or(CallError::Full)?;
        in_time(timeout, link.connected()).await
    }

    /// Asks whoever is at this address, and waits for the connection and for the answer.
    pub async fn call(
        &self,
        address: &str,
        kind: Kind,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let link = self.address(address).ok_or(CallError::Full)?;
        in_time(timeout, async {
            link.connected().await?;
            link.call(kind, |frame| frame.extend_from_slice(payload))?
                .await
        })
        .await
    }

    /// Closes the links to nodes of which `alive` says that they are not.
    pub fn retain(&self, alive: &dyn Fn(NodeId) -> bool) {
        let mut gone = Vec::new();
        self.nodes.lock().retain(|(id, _), link| {
            let stays = alive(*id);
            if !stays {
                gone.push(Arc::clone(link));
            }
            stays
        });
        gone.iter().for_each(|link| link.close());
    }

    /// What peers have connected to this node, and what this node has to them: what CLUSTER LINKS tells.
    pub fn all(&self) -> Vec<LinkInfo> {
        let mut all = self.list();
        all.extend(self.bus.incoming());
        all
    }

    /// What came of the frames of forwarded requests, by node.
    pub fn forwards(&self) -> BTreeMap<NodeId, Forwards> {
        let mut all: BTreeMap<NodeId, Forwards> = BTreeMap::new();
        for ((node, _), link) in self.nodes.lock().iter() {
            let forwards = all.entry(*node).or_default();
            link.forwarded.took.collect(&mut forwards.took);
            forwards.errors += link.forwarded.errors.value();
        }
        all
    }

    /// All links, those to addresses included.
    pub fn list(&self) -> Vec<LinkInfo> {
        let mut links: Vec<Arc<Link>> = self.nodes.lock().values().cloned().collect();
        links.extend(self.addresses.lock().values().cloned());
        links
            .iter()
            .filter(|link| !link.outbox.is_closed())
            .map(|link| link.info())
            .collect()
    }

    /// Closes all links. What is called after that is refused.
    pub fn close(&self) {
        let nodes = std::mem::take(&mut *self.nodes.lock());
        let addresses = std::mem::take(&mut *self.addresses.lock());
        nodes
            .values()
            .chain(addresses.values())
            .for_each(|link| link.close());
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.close();
    }
}

async fn in_time<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::time::timeout(timeout, work)
        .await
        .unwrap_or(Err(CallError::TimedOut))
}

/// One connection to one address, made again when it breaks.
pub struct Link {
    bus: Arc<Bus>,
    expected: Option<NodeId>,
    address: String,
    lane: usize,
    outbox: Outbox,
    /// Protects the calls that wait. Taken alone, or under the lock of the outbox.
    tickets: Mutex<Tickets>,
    status: watch::Sender<Status>,
    traffic: Traffic,
    forwarded: Forwarded,
    born: Instant,
    /// When a link to an address was asked for last, in milliseconds since `born`. Written by whoever asks, read by the link's
    /// task, which only gets the time wrong if it reads an old one: relaxed.
    touched_ms: AtomicU64,
    task: Mutex<Option<AbortHandle>>,
}

/// What came of the frames of forwarded requests that a link was given.
#[derive(Debug, Default)]
struct Forwarded {
    took: Histogram,
    errors: Counter,
}

impl Forwarded {
    fn count(&self, took: Duration, is_answered: bool) {
        if is_answered {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.took.add(Histogram::bucket(nanos), 1);
        } else {
            self.errors.add(1);
        }
    }
}

/// What INFO tells of the frames of forwarded requests that went to one node.
#[derive(Debug, Default)]
pub struct Forwards {
    /// How long those took that were answered, from the call until who made it took the answer.
    pub took: Distribution,
    /// Those that were not answered: the link broke, or its queue was full.
    pub errors: u64,
}

/// What those who wait for a connection watch.
#[derive(Clone, Copy, Debug, Default)]
struct Status {
    connected: Option<(NodeId, u64)>,
    /// Counts the times that a connection could not be made or broke.
    failures: u64,
    closed: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.address)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

impl Link {
    fn start(
        bus: &Arc<Bus>,
        expected: Option<NodeId>,
        address: &str,
        lane: usize,
        notices: &Arc<dyn Notices>,
    ) -> Arc<Link> {
        let link = Arc::new(Link {
            bus: Arc::clone(bus),
            expected,
            address: address.to_owned(),
            lane,
            outbox: Outbox::default(),
            tickets: Mutex::default(),
            status: watch::Sender::default(),
            traffic: Traffic::default(),
            forwarded: Forwarded::default(),
            born: Instant::now(),
            touched_ms: AtomicU64::new(0),
            task: Mutex::new(None),
        });
        let task = tokio::spawn(Arc::clone(&link).run(Arc::clone(notices)));
        *link.task.lock() = Some(task.abort_handle());
        link
    }

    /// Queues a frame, whose payload `write` appends to the buffer, and gives the ticket for its answer. `write` runs under the
    /// lock of the queue: it must be short, use no link, and leave alone what is in the buffer before.
    pub fn call(
        self: &Arc<Self>,
        kind: Kind,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<Ticket, CallError> {
        let id = self
            .outbox
            .push(kind, write, || self.tickets.lock().insert())
            .inspect_err(|_| self.forwarded.errors.add(u64::from(kind == Kind::Forward)))?;
        Ok(Ticket {
            link: Arc::clone(self),
            id,
            begun: (kind == Kind::Forward).then(Instant::now),
            is_done: false,
        })
    }

    /// As [`Link::call`] with this payload, which may be as long as [`LONG_MAX`]: a long one goes in parts, when those before it
    /// have been sent. Dropped before it is done, it was never called. [`CallError::NotConnected`] also when the connection
    /// breaks meanwhile: the peer has nothing to answer.
    pub async fn call_long(
        self: &Arc<Self>,
        kind: Kind,
        payload: &[u8],
    ) -> Result<Ticket, CallError> {
        if payload.len() <= LONG_FROM {
            return self.call(kind, |buffer| buffer.extend_from_slice(payload));
        }
        if payload.len() > LONG_MAX {
            return Err(CallError::TooLarge);
        }
        let _turn = self.outbox.turn.lock().await;
        let begun = self.outbox.begin(|| self.tickets.lock().insert())?;
        let ticket = Ticket {
            link: Arc::clone(self),
            id: begun.0,
            begun: (kind == Kind::Forward).then(Instant::now),
            is_done: false,
        };
        let mut parts = payload.chunks(PART_BYTES).peekable();
        while let Some(part) = parts.next() {
            let kind = match parts.peek() {
                Some(_) => Kind::Part,
                None => kind,
            };
            self.outbox.push_part(begun, kind, part).await?;
        }
        Ok(ticket)
    }

    /// Queues a frame to which no answer is wanted (its id is 0). As [`Link::call`] otherwise; whether it arrives nobody learns.
    pub fn send(&self, kind: Kind, write: impl FnOnce(&mut BytesMut)) -> Result<(), CallError> {
        self.outbox.push(kind, write, || Ok(0)).map(|_| ())
    }

    /// Queues a piece of payload that may share a frame with pieces of its kind before it: a payload is then several of them,
    /// one behind the other. As [`Link::send`] otherwise.
    pub fn send_piece(
        &self,
        kind: Kind,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), CallError> {
        self.outbox.push_piece(kind, write)
    }

    /// Tells the other side that nobody waits for this answer any more, while its ticket goes on waiting: the other side may
    /// answer what it has done so far.
    pub fn cancel(&self, id: u64) {
        self.outbox.push_note(Kind::Cancel, id);
    }

    /// Waits until the connection is there, and says with whom. `Err`: an attempt to connect failed meanwhile (the next one is
    /// made all the same), or the link was closed. It may take [`super::HANDSHAKE_TIME`].
    pub async fn connected(&self) -> Result<NodeId, CallError> {
        let mut status = self.status.subscribe();
        let failures = status.borrow().failures;
        let decided = status
            .wait_for(|status| {
                status.connected.is_some() || status.closed || status.failures != failures
            })
            .await
            .map_err(|_| CallError::NotConnected)?;
        decided
            .connected
            .map(|(peer, _)| peer)
            .ok_or(CallError::NotConnected)
    }

    /// Waits until the connection is there, however many attempts that takes, and says with whom. `Err`: not within `limit`, or
    /// the link was closed.
    pub async fn connected_within(&self, limit: Duration) -> Result<NodeId, CallError> {
        let mut status = self.status.subscribe();
        let decided = status.wait_for(|status| status.connected.is_some() || status.closed);
        in_time(limit, async {
            let decided = decided.await.map_err(|_| CallError::NotConnected)?;
            decided
                .connected
                .map(|(peer, _)| peer)
                .ok_or(CallError::NotConnected)
        })
        .await
    }

    /// How often it broke or could not be made: tells one connection from the next, for [`Link::broken`].
    pub fn breaks(&self) -> u64 {
        self.status.borrow().failures
    }

    /// Waits until the connection is gone that was there when it had broken `breaks` times; at once, if there is none.
    pub async fn broken(&self, breaks: u64) {
        let mut status = self.status.subscribe();
        // An error says that the link is gone, too.
        let _ = status
            .wait_for(|status| {
                status.connected.is_none() || status.closed || status.failures != breaks
            })
            .await;
    }

    /// Who is at the other end, while it is connected.
    pub fn peer(&self) -> Option<NodeId> {
        self.status.borrow().connected.map(|(peer, _)| peer)
    }

    /// Where it connects to.
    pub fn to(&self) -> &str {
        &self.address
    }

    /// What CLUSTER LINKS tells.
    pub fn info(&self) -> LinkInfo {
        let status = *self.status.borrow();
        let (queued_bytes, queue_capacity_bytes) = self.outbox.queued();
        LinkInfo {
            incoming: false,
            peer: status.connected.map(|(peer, _)| peer).or(self.expected),
            address: self.address.clone(),
            lane: self.lane,
            since_ms: status.connected.map(|(_, since_ms)| since_ms),
            frames_sent: self.traffic.frames_sent.value(),
            frames_received: self.traffic.frames_received.value(),
            bytes_sent: self.traffic.bytes_sent.value(),
            bytes_received: self.traffic.bytes_received.value(),
            queued_bytes,
            queue_capacity_bytes,
            waiting: self.tickets.lock().len(),
            errors: self.traffic.errors.value(),
        }
    }

    /// For good: calls are refused, and those that wait fail.
    fn close(&self) {
        self.status.send_modify(|status| {
            status.connected = None;
            status.closed = true;
        });
        self.outbox.close();
        self.fail_tickets();
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    fn touch(&self) {
        let ms = self.born.elapsed().as_millis();
        self.touched_ms
            .store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn fail_tickets(&self) {
        let woken = self.tickets.lock().fail_all();
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    /// Connects again and again until the link is closed.
    async fn run(self: Arc<Self>, notices: Arc<dyn Notices>) {
        let mut backoff = BACKOFF_MIN;
        let mut is_known = false;
        while !self.outbox.is_closed() {
            let began = Instant::now();
            let (was_connected, why) = match self.expected {
                Some(_) => self.connection(notices.as_ref()).await,
                None => tokio::select! {
                    biased;
                    ended = self.connection(notices.as_ref()) => ended,
                    () = self.unused() => return self.close(),
                },
            };
            self.note_failure(was_connected, is_known, &why);
            is_known = !was_connected;
            if was_connected && began.elapsed() >= BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn note_failure(&self, was_connected: bool, is_known: bool, why: &Refused) {
        if matches!(why, Refused::Closed) {
            return;
        }
        self.traffic.errors.add(1);
        let counters = &self.bus.counters;
        match why {
            Refused::Violation(_) => counters.violations.add(1),
            _ if was_connected => counters.broken.add(1),
            Refused::Io(_) | Refused::TimedOut => {}
            _ => counters.refused.add(1),
        }
        // A node that is down is asked again for as long as it is in the map: the first time is news.
        if is_known {
            tracing::debug!(peer = self.address, "cluster bus: cannot connect: {why}");
        } else if was_connected {
            self.bus
                .warn(&self.address, &format_args!("connection lost: {why}"));
        } else {
            self.bus
                .warn(&self.address, &format_args!("cannot connect: {why}"));
        }
    }

    /// Returns when nobody has asked for this link for [`ADDRESS_IDLE`].
    async fn unused(&self) {
        loop {
            let touched =
                self.born + Duration::from_millis(self.touched_ms.load(Ordering::Relaxed));
            if touched.elapsed() >= ADDRESS_IDLE && self.tickets.lock().len() == 0 {
                return;
            }
            let next = (touched + ADDRESS_IDLE).max(Instant::now() + Duration::from_secs(1));
            tokio::time::sleep_until(next).await;
        }
    }

    /// One connection from its beginning to its end. Says whether the other side had proven itself, and why it ended.
    async fn connection(&self, notices: &dyn Notices) -> (bool, Refused) {
        let opened = tokio::time::timeout(self.bus.connect_time(), self.open()).await;
        let (stream, session) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(why)) => {
                self.status.send_modify(|status| status.failures += 1);
                return (false, why);
            }
            Err(_) => {
                self.status.send_modify(|status| status.failures += 1);
                return (false, Refused::TimedOut);
            }
        };
        let peer = session.peer;
        if !self.outbox.open() {
            return (true, Refused::Closed);
        }
        let _ends = Connected {
            link: self,
            peer,
            notices,
        };
        notices.connected(peer, self.lane);
        self.status
            .send_modify(|status| status.connected = Some((peer, unix_ms())));
        let (reader, writer) = stream.into_split();
        let wire = Wire::new(reader, writer, session, Side::Connector, self.bus.tick());
        let Err(why) = self.carry(wire, peer, notices).await;
        (true, why)
    }

    async fn open(&self) -> Result<(TcpStream, Session), Refused> {
        let mut stream = TcpStream::connect(self.address.as_str()).await?;
        if !auth::may_speak(&self.bus.identity, stream.peer_addr()?.ip()) {
            return Err(Refused::NotLoopback);
        }
        stream.set_nodelay(true)?;
        let session = auth::connect(&mut stream, &self.bus.identity).await?;
        match self.expected {
            Some(expected) if expected != session.peer => Err(Refused::Node(session.peer)),
            _ => Ok((stream, session)),
        }
    }

    async fn carry<R, W>(
        &self,
        mut wire: Wire<R, W>,
        peer: NodeId,
        notices: &dyn Notices,
    ) -> Result<std::convert::Infallible, Refused>
    where
        R: tokio::io::AsyncRead + Unpin,
        W: tokio::io::AsyncWrite + Unpin,
    {
        let mut answers = Vec::new();
        let mut assembly = Assembly::default();
        loop {
            // One who waits alone is not kept; many who wait for answers, or just got theirs, soon ask again.
            let lingers = || self.tickets.lock().len() > 1;
            wire.read(&self.outbox, &self.traffic, lingers).await?;
            let bad = loop {
                match wire.next(&self.traffic) {
                    Ok(None) => break None,
                    Ok(Some(frame)) => match frame.kind {
                        Kind::Answer => {
                            let payload = assembly.whole(frame.id, frame.payload);
                            answers.push((frame.id, payload));
                        }
                        Kind::Part if self.tickets.lock().is_waited_for(frame.id) => {
                            if let Err(why) = assembly.part(frame.id, &frame.payload) {
                                break Some(why.into());
                            }
                        }
                        Kind::Part => assembly.forget(frame.id),
                        Kind::Push => {
                            // What was answered before it was sent is known before it.
                            self.answer(&mut answers);
                            notices.pushed(peer, self.lane, frame.payload);
                        }
                        Kind::Pong => {}
                        _ => break Some(Violation::Kind.into()),
                    },
                    Err(why) => break Some(why),
                }
            };
            self.answer(&mut answers);
            if let Some(why) = bad {
                return Err(why);
            }
        }
    }

    /// Hands answers to those who wait for them.
    fn answer(&self, answers: &mut Vec<(u64, Bytes)>) {
        if answers.is_empty() {
            return;
        }
        let woken: smallvec::SmallVec<[_; 64]> = {
            let mut tickets = self.tickets.lock();
            answers
                .drain(..)
                .filter_map(|(id, payload)| tickets.answer(id, payload))
                .collect()
        };
        woken.into_iter().for_each(std::task::Waker::wake);
    }
}

/// While a connection is there. Its end fails whoever waits, also when the task is aborted.
struct Connected<'a> {
    link: &'a Link,
    peer: NodeId,
    notices: &'a dyn Notices,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        // In this order: who asks whether it is connected is never told so after a call was refused, and no call that was
        // queued is overlooked.
        self.link.status.send_modify(|status| {
            status.connected = None;
            status.failures += 1;
        });
        self.link.outbox.shut();
        self.link.fail_tickets();
        self.notices.broken(self.peer, self.link.lane);
    }
}

/// The answer to a call, once it comes. Dropped before that, it tells the other side that nobody waits any more.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct Ticket {
    link: Arc<Link>,
    id: u64,
    /// When it was called, if that is measured.
    begun: Option<Instant>,
    is_done: bool,
}

impl Ticket {
    /// The id of the call, for [`Link::cancel`].
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Future for Ticket {
    /// The payload of the answer: a piece of a larger buffer, which it holds on to; who keeps it copies it.
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.link.tickets.lock().poll(self.id, cx);
        if let Poll::Ready(answer) = &answer {
            self.is_done = true;
            if let Some(begun) = self.begun.take() {
                self.link.forwarded.count(begun.elapsed(), answer.is_ok());
            }
        }
        answer
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_done && self.link.tickets.lock().abandon(self.id) {
            self.link.outbox.push_note(Kind::Cancel, self.id);
        }
    }
}
