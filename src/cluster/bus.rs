//! How nodes speak with each other: frames over TCP, each side proven to the other, many requests on one connection.
//!
//! ```text
//!     Links ── Link ──(one connection, made again when it breaks)── serve ── Service
//!      call ──> Forward id=7 payload ────────────────────────────────> frame(7)
//!      Ticket <── Answer id=7 payload <───────────────────────────── answers.answer(7)
//!      cancel ──> Cancel id=7 ───────────────────────────────────────> frame(7, Cancel)
//!      Notices::pushed <── Push <───────────────────────────────────── answers.push()
//! ```
//!
//! A connection is made by one side, its [`link::Link`], and accepted by the other ([`serve::serve`]). Requests go from the first
//! to the second only; two nodes that ask each other things have a connection in each direction. Answers come in any order.
//! What the payloads mean is not known here.
//!
//! **On the wire** ([`frame`]): `u32 length | u8 kind | u64 id | payload | 16 bytes MAC`, little endian, the length that of what
//! follows it. Frames that are ready together are written by one system call and read by one; payloads are cut from the buffer
//! they were read into, not copied.
//!
//! **Who may** ([`auth`]): both sides prove by HMAC-SHA256 that they know `cluster-secret`, over fresh nonces of both, and agree on
//! the ring's name and the version. The acceptor sends nothing at all before it has seen a proof. From the proof come two keys,
//! one for each direction; each frame carries SipHash-2-4-128 over its number and content, so that nobody between the two may
//! change, drop, repeat or add one. What is carried is not encrypted: a network whose other users must not *read* needs a
//! tunnel. Without a secret only loopback addresses are spoken with, in both directions.
//!
//! **What a stranger may cost**: at most [`STRANGERS_MAX`] connections that have not proven themselves, each for
//! [`HANDSHAKE_TIME`] and [`HANDSHAKE_MAX`] bytes; a further one ends the oldest. A length that is declared allocates nothing:
//! buffers grow with what arrives. Any violation ends the connection, is counted, and is logged (one line a second at most).
//!
//! **When nobody answers**: a connection over which nothing came for the time of silence, though it was asked for a sign of life
//! every quarter of that, is ended; its tickets fail with [`CallError::Broken`] and the link connects anew.

pub mod auth;
pub mod frame;
pub mod link;
mod long;
mod outbox;
pub mod serve;
mod tickets;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::node::NodeId;
use crate::base::stats::Counter;

pub use link::{Forwards, Link, Links, Notices, Ticket};
pub use serve::{Answers, Service, serve};

/// The network: the system's, or the simulated one of turmoil.
pub mod net {
    #[cfg(not(feature = "simulation"))]
    pub use tokio::net::{TcpListener, TcpStream};
    #[cfg(feature = "simulation")]
    pub use turmoil::net::{TcpListener, TcpStream};
}

/// The longest frame of a peer that has proven itself, without its length field. A longer one is refused by the sender
/// ([`CallError::TooLarge`]) and ends the connection if it is sent all the same.
pub const FRAME_MAX: usize = 64 << 20;

/// The longest call or answer that goes in several frames ([`Link::call_long`], [`Answers::answer_long`]): twice the longest
/// argument of a request.
pub const LONG_MAX: usize = (1 << 30) + FRAME_MAX;

/// The longest message of a handshake.
pub const HANDSHAKE_MAX: usize = 1 << 10;

/// How long both sides may take to prove themselves, from the moment they are connected; also how long connecting may take (less
/// where the time of silence is less).
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// How many connections may be in their handshake; one more ends the oldest of them, so that strangers who only hold
/// connections open do not keep peers out.
pub const STRANGERS_MAX: usize = 64;

/// How many connections of peers are served; further ones are closed after their proof. A ring of 1,024 nodes with four lanes
/// each.
pub const PEERS_MAX: usize = 4 * super::map::MAX_NODES;

/// How many bytes may wait to be written on one connection, before one frame more. On a link a full queue refuses calls with
/// [`CallError::Full`]; on the serving side the connection is ended, as its peer does not read what it asked for.
pub const QUEUE_MAX: usize = 64 << 20;

/// How many calls of one link may wait for their answers ([`CallError::Full`] beyond).
pub const TICKETS_MAX: usize = 1 << 20;

/// What a frame is. Those from 128 on are the bus's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Messages of the replicated log.
    Raft = 1,
    /// Forming, joining, leases, proposals.
    Member = 2,
    /// Requests of clients.
    Forward = 3,
    /// Keys that move.
    Transfer = 4,
    /// Messages of publish/subscribe.
    Publish = 5,
    /// Questions to every node: its keys, its counts.
    Ask = 6,
    /// What goes on for a client whose session is on another node.
    Tunnel = 7,
    /// What a client whose session is on another node keeps no copies of any more.
    Track = 8,
    /// To a call, with its id.
    Answer = 128,
    /// Nobody waits for the answer to the call of this id any more. It may be unknown, or answered already.
    Cancel = 129,
    /// From the serving side, unasked.
    Push = 130,
    /// Asks for a sign of life.
    Ping = 131,
    /// The sign of life.
    Pong = 132,
    /// The beginning of the call or answer of this id, or what follows it; the frame with its end comes last.
    Part = 133,
}

impl Kind {
    /// The kind of this number, if there is one.
    pub fn from_number(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::Raft,
            2 => Kind::Member,
            3 => Kind::Forward,
            4 => Kind::Transfer,
            5 => Kind::Publish,
            6 => Kind::Ask,
            7 => Kind::Tunnel,
            8 => Kind::Track,
            128 => Kind::Answer,
            129 => Kind::Cancel,
            130 => Kind::Push,
            131 => Kind::Ping,
            132 => Kind::Pong,
            133 => Kind::Part,
            _ => return None,
        })
    }
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// There is no connection; nothing was sent.
    NotConnected,
    /// The connection broke, or the link was closed: what was asked may or may not have been done.
    Broken,
    /// [`QUEUE_MAX`] or [`TICKETS_MAX`] is reached; nothing was sent.
    Full,
    /// Longer than [`FRAME_MAX`] or [`LONG_MAX`]; nothing was sent.
    TooLarge,
    /// No answer in the given time: what was asked may or may not have been done.
    TimedOut,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallError::NotConnected => "not connected",
            CallError::Broken => "the connection broke",
            CallError::Full => "too much is waiting to be sent",
            CallError::TooLarge => "the frame is too large",
            CallError::TimedOut => "no answer in time",
        })
    }
}

impl std::error::Error for CallError {}

/// Who a node is to its peers.
#[derive(Clone)]
pub struct Identity {
    /// Its name.
    pub id: NodeId,
    /// The ring it belongs to; peers of another ring are refused. At most 255 bytes.
    pub ring: String,
    /// What all nodes of the ring know and nobody else does. Empty: only loopback addresses are spoken with.
    pub secret: Vec<u8>,
    /// The version of what is carried. Peers of another version are refused.
    pub version: u32,
}

impl fmt::Debug for Identity {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("ring", &self.ring)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What both sides of a node's bus share: who it is, its times, what it counted.
#[derive(Debug)]
pub struct Bus {
    identity: Identity,
    /// In milliseconds. Written by [`Bus::set_silence`], read by each new connection; a value on its own, so relaxed.
    silence_ms: AtomicU64,
    /// What was refused or broken.
    pub counters: Counters,
    log: Mutex<LogBudget>,
    incoming: serve::Registry,
}

/// What went wrong on the bus since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections refused in their handshake: wrong secret, ring, version or node, malformed, too slow, one too many.
    pub refused: Counter,
    /// Connections of proven peers that were ended for a bad frame.
    pub violations: Counter,
    /// Connections that broke or fell silent.
    pub broken: Counter,
}

#[derive(Debug, Default)]
struct LogBudget {
    last: Option<Instant>,
    suppressed: u64,
}

impl Bus {
    /// `silence` is how long nothing may come over a connection before it is taken for broken, to a quarter of it, which may be
    /// less (at least 40 ms are used).
    pub fn new(identity: Identity, silence: Duration) -> Arc<Bus> {
        let bus = Bus {
            identity,
            silence_ms: AtomicU64::new(0),
            counters: Counters::default(),
            log: Mutex::default(),
            incoming: serve::Registry::default(),
        };
        bus.set_silence(silence);
        Arc::new(bus)
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For connections made from now on.
    pub fn set_silence(&self, silence: Duration) {
        let ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        self.silence_ms
            .store(ms.clamp(40, 86_400_000), Ordering::Relaxed);
    }

    /// Between two looks at whether something came; after four without anything the connection is silent.
    fn tick(&self) -> Duration {
        Duration::from_millis(self.silence_ms.load(Ordering::Relaxed) / 4)
    }

    /// How long a link tries to connect before it tries again: not much longer than what is taken for broken, so that a peer
    /// that can be reached again is soon found.
    fn connect_time(&self) -> Duration {
        (4 * self.tick()).clamp(Duration::from_millis(500), HANDSHAKE_TIME)
    }

    /// The connections that peers have made to this node.
    pub fn incoming(&self) -> Vec<LinkInfo> {
        self.incoming.list()
    }

    /// One line a second at most, whatever strangers do; the next one tells how many were left out.
    fn warn(&self, peer: &str, what: &dyn fmt::Display) {
        let mut log = self.log.lock();
        let now = Instant::now();
        if log
            .last
            .is_some_and(|last| now - last < Duration::from_secs(1))
        {
            log.suppressed += 1;
            return;
        }
        log.last = Some(now);
        let suppressed = std::mem::take(&mut log.suppressed);
        drop(log);
        tracing::warn!(peer, suppressed, "cluster bus: {what}");
    }
}

/// What CLUSTER LINKS and INFO tell of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Made by the peer.
    pub incoming: bool,
    /// The peer, once it has proven itself.
    pub peer: Option<NodeId>,
    /// Where it is: as it was given to [`Links::link`], or where it came from.
    pub address: String,
    /// Which of several connections to the same peer.
    pub lane: usize,
    /// When it was last connected, in milliseconds since 1970; `None`: it is not.
    pub since_ms: Option<u64>,
    /// Since the link was made.
    pub frames_sent: u64,
    /// Since the link was made.
    pub frames_received: u64,
    /// Since the link was made.
    pub bytes_sent: u64,
    /// Since the link was made.
    pub bytes_received: u64,
    /// Waiting to be written, in bytes.
    pub queued_bytes: usize,
    /// Memory held for what waits, in bytes.
    pub queue_capacity_bytes: usize,
    /// Calls that wait for their answers.
    pub waiting: usize,
    /// How often it broke or could not be made.
    pub errors: u64,
}

/// What one connection, or one link with all its connections, has carried.
#[derive(Debug, Default)]
struct Traffic {
    frames_sent: Counter,
    frames_received: Counter,
    bytes_sent: Counter,
    bytes_received: Counter,
    errors: Counter,
}

/// Milliseconds since 1970, for people to read.
fn unix_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
