//! The registry of connections, and what others may see and ask of one.
//!
//! A connection's task publishes its facts after each batch; CLIENT LIST and INFO read them. Whoever wants something of a
//! connection (CLIENT KILL, a line for MONITOR) leaves a signal or bytes in the outbox and wakes the task. The outbox is
//! bounded by the client's output limit; a client over it is closed, with a log line and a counter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::outbox::{Burst, Outbox};
use crate::base::clock::Millis;
use crate::cluster::node::NodeId;
use crate::cluster::tunnel::Handle;
use crate::keyspace::waiting::{Cancel, Waiter};
use crate::resp::reply::Output;

/// Names that a client gives itself.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
}

/// Which output limit applies to a client (TYPE of CLIENT KILL and CLIENT LIST).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientKind {
    /// Ordinary.
    Normal = 0,
    /// Subscribed to channels.
    Pubsub = 1,
    /// Follows a primary, or a MONITOR.
    Replica = 2,
    /// The primary that this node follows.
    Master = 3,
}

/// What others see of a connection. All atomics are written by the connection's own task, unless they say otherwise, and
/// read by CLIENT LIST and INFO, which need no common instant: relaxed.
#[derive(Debug)]
pub struct Client {
    /// Never used twice in a process.
    pub id: u64,
    /// The peer: `ip:port`, or the path of the socket and `:0`.
    pub addr: String,
    /// Our end.
    pub laddr: String,
    /// File descriptor, for CLIENT LIST.
    pub fd: i32,
    /// Whether it came by the unix socket.
    pub is_unix: bool,
    /// Whether it has the requests of a peer's clients run.
    pub is_of_peer: bool,
    /// When it connected.
    pub created: Millis,
    /// Names it gave itself. A leaf lock.
    pub labels: Mutex<Labels>,
    /// Selected database.
    pub database: AtomicU32,
    /// Number in the table of the last command; `u16::MAX` before the first.
    pub last_command: AtomicU16,
    /// When it last sent something.
    pub last_interaction: AtomicI64,
    /// 2 or 3.
    pub protocol: AtomicU8,
    /// Letters of `flags` beyond `N`: see [`Client::flag_letters`].
    pub flags: AtomicU32,
    /// [`ClientKind`] as a number.
    kind: AtomicU8,
    /// Commands queued since MULTI; -1 outside.
    pub queued: AtomicI64,
    /// Keys of WATCH.
    pub watched: AtomicU32,
    /// Channels, patterns and shard channels that it is subscribed to.
    pub subscriptions: [AtomicU32; 3],
    /// What these take.
    pub subscription_bytes: AtomicUsize,
    /// Whom the messages of CLIENT TRACKING go to, by its id; 0: to itself.
    pub redirect: AtomicU64,
    /// What the prefixes of BCAST take.
    pub prefix_bytes: AtomicUsize,
    /// Bytes read and not yet run.
    pub query_bytes: AtomicUsize,
    /// Free bytes in the read buffer.
    pub query_free: AtomicUsize,
    /// Bytes not yet sent.
    pub output_bytes: AtomicUsize,
    /// Bytes received over its life.
    pub net_in: AtomicU64,
    /// Bytes sent over its life.
    pub net_out: AtomicU64,
    /// Commands run over its life.
    pub commands: AtomicU64,
    /// Set by CLIENT KILL and by limits, from any thread; the task sees it when it is woken.
    killed: AtomicBool,
    /// Set with `killed` when what is in the output should be sent first.
    kill_after_reply: AtomicBool,
    /// Whether it was not told something that it should forget. Set by any thread, cleared by the task.
    has_loss: AtomicBool,
    /// What is known of its copies (CLIENT TRACKING): see [`Client::forgets`]. Written by its task and by who tells it, each
    /// of whom only needs to see what came before on his own way to the outbox.
    copies: AtomicU8,
    /// Whether the outbox holds something. Set after the bytes are there (release), read by the task (acquire).
    has_mail: AtomicBool,
    outbox: Mutex<Outbox>,
    waker: Mutex<Option<Waker>>,
    /// What it waits for (BLPOP). A leaf lock; written by its own task, read by CLIENT UNBLOCK.
    waits: Mutex<Option<WaitsAt>>,
    /// Of a connection that a client of a peer has here.
    pub stands_for: Option<Box<StandsFor>>,
}

/// Where a client waits for a key.
#[derive(Clone, Debug)]
pub enum WaitsAt {
    /// In the queues of this node.
    Here(Arc<Waiter>),
    /// At the peer that owns the key.
    Peer(Handle),
}

/// What came of CLIENT UNBLOCK.
#[derive(Debug)]
pub enum Unblock {
    /// Whether it waited, and waits no more.
    Done(bool),
    /// A peer says so.
    Asked(oneshot::Receiver<bool>),
}

/// The client of a peer whose connection this is. Written by the task of the peer's link before it hands on the requests, read
/// by the connection's task when it begins to run them: relaxed, as the requests come by a lock.
pub struct StandsFor {
    /// Who its changes are by ([`FarClients`](super::tracking::far::FarClients)).
    pub writer: AtomicU64,
    /// The same if what it reads is to be remembered, else 0.
    pub reader: AtomicU64,
    /// CLIENT NO-TOUCH.
    pub no_touch: AtomicBool,
    /// Tells the peer that it waits for a key.
    pub tell: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for StandsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandsFor")
            .field("writer", &self.writer)
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

/// It may keep copies.
const KEEPS: u8 = 1;
/// It was told by a peer to forget them.
const TOLD_BY_PEER: u8 = 1 << 1;

/// Flags of a client beyond its kind.
pub mod client_flags {
    /// MONITOR (`O`).
    pub const MONITOR: u32 = 1;
    /// To be closed after its reply (`c`).
    pub const CLOSE_AFTER_REPLY: u32 = 1 << 1;
    /// NO-EVICT (`e`).
    pub const NO_EVICT: u32 = 1 << 2;
    /// NO-TOUCH (`T`).
    pub const NO_TOUCH: u32 = 1 << 3;
    /// Waits for something (`b`).
    pub const BLOCKED: u32 = 1 << 4;
    /// Since MULTI (`x`).
    pub const MULTI: u32 = 1 << 5;
    /// CLIENT TRACKING (`t`).
    pub const TRACKING: u32 = 1 << 6;
    /// With BCAST (`B`).
    pub const BROADCAST: u32 = 1 << 7;
    /// With NOLOOP.
    pub const NOLOOP: u32 = 1 << 8;
    /// The client that it redirects to is gone (`R`). Set by whoever has a message for it.
    pub const BROKEN_REDIRECT: u32 = 1 << 9;
}

impl Client {
    /// Shows the others what it waits for, or that it waits no more.
    pub fn set_waits(&self, waits: Option<WaitsAt>) {
        let is_new = waits.is_some();
        self.set_flag(client_flags::BLOCKED, is_new);
        *self.waits.lock() = waits;
        if let Some(stands_for) = &self.stands_for
            && is_new
        {
            (stands_for.tell)();
        }
    }

    /// Whether it waits for a key of a peer.
    pub fn waits_at_peer(&self) -> bool {
        matches!(*self.waits.lock(), Some(WaitsAt::Peer(_)))
    }

    /// Ends its wait for a key (CLIENT UNBLOCK), with an error or as if its time were over.
    pub fn unblock(&self, with_error: bool) -> Unblock {
        let waits = self.waits.lock().clone();
        match waits {
            None => Unblock::Done(false),
            Some(WaitsAt::Here(waiter)) => Unblock::Done(waiter.cancel(match with_error {
                true => Cancel::Unblocked,
                false => Cancel::Timeout,
            })),
            Some(WaitsAt::Peer(handle)) => match handle.unblock(with_error) {
                Ok(answer) => Unblock::Asked(answer),
                // Its wait ends by the loss of the peer.
                Err(_) => Unblock::Done(false),
            },
        }
    }

    /// Whoever at a peer has requests run here.
    pub fn of_peer(id: u64, peer: NodeId, now: Millis) -> Client {
        let addr = format!("peer:{peer}");
        Client {
            is_of_peer: true,
            ..Client::new(id, addr, String::new(), -1, false, now)
        }
    }

    /// A client at its start.
    pub fn new(
        id: u64,
        addr: String,
        laddr: String,
        fd: i32,
        is_unix: bool,
        now: Millis,
    ) -> Client {
        Client {
            id,
            addr,
            laddr,
            fd,
            is_unix,
            is_of_peer: false,
            created: now,
            labels: Mutex::default(),
            database: AtomicU32::new(0),
            last_command: AtomicU16::new(u16::MAX),
            last_interaction: AtomicI64::new(now.0),
            protocol: AtomicU8::new(2),
            flags: AtomicU32::new(0),
            kind: AtomicU8::new(ClientKind::Normal as u8),
            queued: AtomicI64::new(-1),
            watched: AtomicU32::new(0),
            subscriptions: Default::default(),
            subscription_bytes: AtomicUsize::new(0),
            redirect: AtomicU64::new(0),
            prefix_bytes: AtomicUsize::new(0),
            query_bytes: AtomicUsize::new(0),
            query_free: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            net_in: AtomicU64::new(0),
            net_out: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            kill_after_reply: AtomicBool::new(false),
            has_loss: AtomicBool::new(false),
            copies: AtomicU8::new(KEEPS),
            has_mail: AtomicBool::new(false),
            outbox: Mutex::default(),
            waker: Mutex::new(None),
            waits: Mutex::new(None),
            stands_for: None,
        }
    }

    /// The class of output limits it is in.
    pub fn kind(&self) -> ClientKind {
        match self.kind.load(Ordering::Relaxed) {
            0 => ClientKind::Normal,
            1 => ClientKind::Pubsub,
            2 => ClientKind::Replica,
            _ => ClientKind::Master,
        }
    }

    /// Changes the class.
    pub fn set_kind(&self, kind: ClientKind) {
        self.kind.store(kind as u8, Ordering::Relaxed);
    }

    /// Sets or clears a flag of [`client_flags`].
    pub fn set_flag(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// What it takes: its buffers, its subscriptions and this record.
    pub fn memory_bytes(&self) -> usize {
        let buffers = [
            &self.query_bytes,
            &self.query_free,
            &self.output_bytes,
            &self.subscription_bytes,
            &self.prefix_bytes,
        ];
        let buffers = buffers.iter().map(|bytes| bytes.load(Ordering::Relaxed));
        buffers.sum::<usize>() + size_of::<Client>()
    }

    /// Whether maxmemory-clients may close it.
    fn is_evictable(&self) -> bool {
        matches!(self.kind(), ClientKind::Normal | ClientKind::Pubsub)
            && self.flags.load(Ordering::Relaxed) & client_flags::NO_EVICT == 0
    }

    /// Whether `timeout` applies to it, and it has sent nothing since then.
    pub fn is_idle_since(&self, then: Millis) -> bool {
        let exempt = client_flags::MONITOR | client_flags::BLOCKED;
        self.kind() == ClientKind::Normal
            && self.flags.load(Ordering::Relaxed) & exempt == 0
            && self.last_interaction.load(Ordering::Relaxed) <= then.0
    }

    /// Asks the connection to close: at once, or after what it has to send.
    pub fn kill(&self, after_reply: bool) {
        self.kill_after_reply.store(after_reply, Ordering::Relaxed);
        self.killed.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it was asked to close, and whether after its reply.
    #[inline]
    pub fn killed(&self) -> Option<bool> {
        self.killed
            .load(Ordering::Acquire)
            .then(|| self.kill_after_reply.load(Ordering::Relaxed))
    }

    /// Leaves bytes for the connection to send between two replies. Over `limit_bytes` of unread mail (0: none) it is
    /// closed instead; `false` says so.
    pub fn post(&self, bytes: &Bytes, limit_bytes: usize) -> bool {
        let pending = {
            let mut outbox = self.outbox.lock();
            outbox.output().push_shared(bytes.clone());
            outbox.len_bytes()
        } + self.output_bytes.load(Ordering::Relaxed);
        self.has_mail.store(true, Ordering::Release);
        let within = limit_bytes == 0 || pending <= limit_bytes;
        if within {
            self.wake();
        } else {
            self.kill(false);
        }
        within
    }

    /// As [`Client::post`], for what depends on the client's protocol: `write` is given it (2 or 3) and the outbox. A client
    /// over its limit gets nothing more, and what it has not read is freed.
    pub fn deliver(&self, limit_bytes: usize, write: impl FnOnce(u8, &mut Output)) -> bool {
        self.leave(limit_bytes, |protocol, outbox| {
            outbox.write(protocol, write);
        })
    }

    /// As [`Client::deliver`], for a share in a burst, whose first message `write` writes if nobody has written it for this
    /// client's protocol.
    pub fn share(
        &self,
        limit_bytes: usize,
        burst: &Arc<Burst>,
        write: impl FnOnce(u8, &mut Vec<u8>),
    ) -> bool {
        self.leave(limit_bytes, |protocol, outbox| {
            outbox.share(burst, protocol, write);
        })
    }

    fn leave(&self, limit_bytes: usize, leave: impl FnOnce(u8, &mut Outbox)) -> bool {
        {
            let mut outbox = self.outbox.lock();
            if self.killed().is_some() {
                return true;
            }
            leave(self.protocol.load(Ordering::Relaxed), &mut outbox);
            let pending = outbox.len_bytes() + self.output_bytes.load(Ordering::Relaxed);
            if limit_bytes != 0 && pending > limit_bytes {
                *outbox = Outbox::default();
                drop(outbox);
                self.kill(false);
                return false;
            }
        }
        self.tell_of_mail();
        true
    }

    /// As [`Client::deliver`], for what the client must forget: with more than `loss_bytes` of unread output it is told
    /// nothing, and that it lost something once it has read.
    pub fn deliver_or_lose(&self, loss_bytes: usize, write: impl FnOnce(u8, &mut Output)) {
        {
            let mut outbox = self.outbox.lock();
            let pending = outbox.len_bytes() + self.output_bytes.load(Ordering::Relaxed);
            if pending > loss_bytes {
                drop(outbox);
                if !self.has_loss.swap(true, Ordering::AcqRel) {
                    self.wake();
                }
                return;
            }
            outbox.write(self.protocol.load(Ordering::Relaxed), write);
        }
        self.tell_of_mail();
    }

    /// Whoever says so first wakes the task, and it takes all that is there.
    fn tell_of_mail(&self) {
        if !self.has_mail.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Whether something was lost that [`Client::deliver_or_lose`] had.
    #[inline]
    pub fn has_loss(&self) -> bool {
        self.has_loss.load(Ordering::Acquire)
    }

    /// The same, once: it is told now.
    pub fn take_loss(&self) -> bool {
        self.has_loss() && self.has_loss.swap(false, Ordering::AcqRel)
    }

    /// From here on it may keep copies that it has not been told to forget.
    #[inline]
    pub fn keeps_copies(&self) {
        self.copies.fetch_or(KEEPS, Ordering::AcqRel);
    }

    /// Whether it has to be told to forget everything; from here on it has been told. In a ring one FLUSHALL makes all nodes
    /// tell it so: what a peer says is left out if it has asked for nothing since it was told last, and what this node says
    /// is left out, once, if a peer was faster.
    pub fn forgets(&self, by_peer: bool) -> bool {
        let told = |before: u8| match (by_peer, before & KEEPS) {
            (true, 0) => None,
            (true, _) => Some(TOLD_BY_PEER),
            (false, _) => Some(0),
        };
        match self
            .copies
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, told)
        {
            Ok(before) => by_peer || before != TOLD_BY_PEER,
            Err(_) => false,
        }
    }

    /// Where its messages of CLIENT TRACKING go: 0 is to itself, -1 that it does not track.
    pub fn redirection(&self) -> i64 {
        match self.flags.load(Ordering::Relaxed) & client_flags::TRACKING {
            0 => -1,
            _ => self.redirect.load(Ordering::Relaxed) as i64,
        }
    }

    /// Changes the protocol of what is delivered from here on, and takes what was delivered in the one before.
    pub fn switch_protocol(&self, protocol: u8) -> Option<Output> {
        let mut outbox = self.outbox.lock();
        self.protocol.store(protocol, Ordering::Relaxed);
        let mail = outbox.take();
        (!mail.is_empty()).then_some(mail)
    }

    /// How much others have left.
    pub fn mail_bytes(&self) -> usize {
        self.outbox.lock().len_bytes()
    }

    /// Takes what others left.
    #[inline]
    pub fn take_mail(&self) -> Option<Output> {
        if !self.has_mail.load(Ordering::Acquire) {
            return None;
        }
        self.has_mail.store(false, Ordering::Relaxed);
        Some(self.outbox.lock().take())
    }

    /// Whether the task has to look up from its socket.
    #[inline]
    pub fn has_signal(&self) -> bool {
        self.has_mail.load(Ordering::Acquire) || self.killed.load(Ordering::Acquire)
    }

    /// Says whom to wake. Must come before the task looks for signals and sleeps.
    pub fn register(&self, waker: &Waker) {
        let mut held = self.waker.lock();
        if !held.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *held = Some(waker.clone());
        }
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The letters of CLIENT LIST's `flags`, in Redis's order.
    pub fn flag_letters(&self) -> String {
        let flags = self.flags.load(Ordering::Relaxed);
        let is = |flag: u32| flags & flag != 0;
        let kind = self.kind();
        let letters = [
            (is(client_flags::MONITOR), 'O'),
            (kind == ClientKind::Master, 'M'),
            (kind == ClientKind::Pubsub, 'P'),
            (is(client_flags::MULTI), 'x'),
            (is(client_flags::BLOCKED), 'b'),
            (is(client_flags::TRACKING), 't'),
            (is(client_flags::BROKEN_REDIRECT), 'R'),
            (is(client_flags::BROADCAST), 'B'),
            (is(client_flags::CLOSE_AFTER_REPLY), 'c'),
            (self.is_unix, 'U'),
            (is(client_flags::NO_EVICT), 'e'),
            (is(client_flags::NO_TOUCH), 'T'),
        ];
        let set = letters.iter().filter(|(set, _)| *set);
        let text: String = set.map(|(_, letter)| *letter).collect();
        if text.is_empty() {
            "N".to_owned()
        } else {
            text
        }
    }
}

/// All connections, by id.
#[derive(Debug, Default)]
pub struct Clients {
    /// A leaf lock: taken when a connection comes or goes and by CLIENT LIST and KILL.
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Next id. `fetch_add` only.
    next_id: AtomicU64,
}

impl Clients {
    /// A fresh id, from 1 on.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a connection unless there are `max` already.
    pub fn add(&self, client: Arc<Client>, max: usize) -> bool {
        let mut all = self.all.lock();
        if all.len() >= max {
            return false;
        }
        all.insert(client.id, client);
        true
    }

    /// Forgets a connection.
    pub fn remove(&self, id: u64) {
        self.all.lock().remove(&id);
    }

    /// A connection by its id.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.all.lock().get(&id).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that have to go so that all together take at most `limit_bytes`: the largest first, none that asked to stay
    /// (CLIENT NO-EVICT).
    pub fn over_limit(&self, limit_bytes: u64) -> Vec<Arc<Client>> {
        let mut sizes: Vec<(u64, Arc<Client>)> = self
            .snapshot()
            .into_iter()
            .filter(|client| client.is_evictable() && client.killed().is_none())
            .map(|client| (client.memory_bytes() as u64, client))
            .collect();
        let mut total: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
        sizes.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        sizes
            .into_iter()
            .take_while(|(bytes, _)| {
                let is_over = total > limit_bytes;
                total -= bytes;
                is_over
            })
            .map(|(_, client)| client)
            .collect()
    }

    /// All of them, in order of their ids.
    pub fn snapshot(&self) -> Vec<Arc<Client>> {
        self.all.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64, bytes: usize) -> Arc<Client> {
        let client = Client::new(id, String::new(), String::new(), 0, false, Millis(0));
        client.output_bytes.store(bytes, Ordering::Relaxed);
        Arc::new(client)
    }

    #[test]
    fn the_largest_clients_are_over_the_limit() {
        let clients = Clients::default();
        for (id, bytes) in [(1, 10_000), (2, 50_000), (3, 90_000), (4, 30_000)] {
            clients.add(client(id, bytes), usize::MAX);
        }
        clients
            .get(3)
            .expect("it was added")
            .set_flag(client_flags::NO_EVICT, true);
        let ids = |limit| -> Vec<u64> {
            let over = clients.over_limit(limit);
            over.iter().map(|client| client.id).collect()
        };
        assert_eq!(ids(100_000), [0_u64; 0]);
        assert_eq!(ids(80_000), [2]);
        assert_eq!(ids(20_000), [2, 4]);
        assert_eq!(ids(1), [2, 4, 1]);
    }
}
