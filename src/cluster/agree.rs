//! How the nodes of a ring agree: who is in it, and who owns which slot.
//!
//! One replicated log (openraft) holds every [`Change`] of the [`Map`]. A few nodes vote, all others learn. Beside the log
//! stand three things that it does not give: how a ring comes to be and how nodes join it, leases that let a node know for how
//! long it may serve its slots without asking, and the detection of nodes that are gone.
//!
//! ```text
//!     Agreement (this file)     what the rest of the server sees
//!        driver.rs              tasks: seek a ring, renew the lease, lead, gather changes; alone waits and sends
//!        member.rs              what they decide: pure, with time as an argument; the proof of "never two owners"
//!        message.rs             what nodes ask each other
//!        types.rs machine.rs    the log's entries and the state they lead to
//!        network.rs             openraft's messages over the Transport
//!        store.rs disk.rs       what a node keeps: its name, its votes, the log, the last snapshot
//! ```
//!
//! What is promised, and by which rules, is written in [`member`].

pub mod disk;
mod driver;
mod machine;
pub mod member;
mod message;
mod network;
mod store;
mod types;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::driver::Driver;
pub use self::member::Times;
pub use self::store::{Store, StoreError};
use super::bus::{CallError, Kind};
use super::map::{Change, Map};
use super::node::{Node, NodeId};
use super::slots::Pins;

/// An answer that comes later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// How this node reaches the others.
pub trait Transport: Send + Sync + 'static {
    /// Asks the node whose bus has this address; the answer is what its [`Agreement::handle`] gives. Nothing may be kept back
    /// longer than `timeout`.
    fn call(
        &self,
        address: &str,
        kind: Kind,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Later<Result<Bytes, CallError>>;

    /// All addresses of a seed, asked for anew at each try: a name may stand for many nodes.
    fn resolve(&self, seed: &str) -> Later<Vec<String>> {
        let seed = seed.to_owned();
        Box::pin(async move {
            match tokio::net::lookup_host(seed).await {
                Ok(found) => found.map(|address| address.to_string()).collect(),
                Err(_) => Vec::new(),
            }
        })
    }
}

/// Who is told what was agreed on. Neither may wait.
pub trait Sink: Send + Sync + 'static {
    /// There is a new map. Called for each one, in order, before [`Agreement::propose`] returns for it.
    fn install(&self, map: Arc<Map>);

    /// This node may serve its slots until then; sets the end, which may also come nearer (even be now).
    fn renew_lease(&self, until: Instant);
}

/// What a node needs to take part.
#[derive(Clone, Debug)]
pub struct Options {
    /// What this node says of itself: addresses, ports, weight. Its name and incarnation are the [`Store`]'s.
    pub node: Node,
    /// Where the buses of others may be: `host:port` (of the bus, not of clients). Its own address may be among them. Without
    /// any the node forms a ring alone.
    pub seeds: Vec<String>,
    /// cluster-node-timeout: how long a node may be silent before it has failed. All others are fractions of it.
    pub node_timeout: Duration,
    /// What is pinned, if this node forms the ring; it is the ring's from then on.
    pub pins: Pins,
    /// Chance comes from here.
    pub seed: u64,
}

/// Why a node cannot take part.
#[derive(Debug)]
pub enum StartError {
    /// What it keeps on disk cannot be used.
    Store(StoreError),
    /// The log cannot be run; the text says why.
    Log(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(error) => error.fmt(f),
            StartError::Log(error) => write!(f, "the log of the ring cannot be run: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// No leader answered in time. The change may still be made later; a later proposal of this node that succeeds makes that
    /// impossible. What was held for it has to stay held until then.
    Unavailable,
    /// It was not admitted; the text says why. It will not be made.
    Refused(String),
    /// It was agreed on and did nothing: the map is so already, or is such that the change does not fit.
    NoEffect,
    /// This node is not, or not any more, in a ring, or it stops.
    NotInRing,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProposeError::Unavailable => f.write_str("the leader of the ring cannot be reached"),
            ProposeError::Refused(why) => write!(f, "refused: {why}"),
            ProposeError::NoEffect => f.write_str("the change does not fit the present state"),
            ProposeError::NotInRing => f.write_str("this node is not in a ring"),
        }
    }
}

impl std::error::Error for ProposeError {}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It looks for a ring, or for others to form one with.
    Seeking,
    /// It is in a ring; its own map says how.
    Member,
    /// Others removed it. It serves nothing and does not come back before it is started with nothing on disk.
    Forgotten,
    /// It was removed by its own wish. It serves nothing; started again it joins as a new node.
    Left,
    /// Another process has its name and a later incarnation. It serves nothing.
    Superseded,
}

/// How a node left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The ring goes on without it.
    Removed,
    /// There is no other node that stays: it did not.
    Alone,
}

/// What CLUSTER INFO says of the agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where this node stands.
    pub standing: Standing,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The term of the log: counts elections.
    pub term: u64,
    /// Who votes, in order.
    pub voters: Vec<NodeId>,
    /// Who learns, in order.
    pub learners: Vec<NodeId>,
    /// The last entry of the log that this node has applied.
    pub applied: u64,
    /// This node's incarnation.
    pub incarnation: u64,
}

/// A node's part in the agreement. Tasks of it run until [`Agreement::shutdown`].
pub struct Agreement {
    driver: Arc<Driver>,
}

impl Agreement {
    /// Takes part with what `store` (see [`Store::open`]) knows: seeks or forms a ring if it knows none, comes back to its own
    /// otherwise. Returns at once: the ring is found meanwhile.
    pub async fn start(
        options: Options,
        store: Store,
        transport: Arc<dyn Transport>,
        sink: Arc<dyn Sink>,
    ) -> Result<Arc<Agreement>, StartError> {
        let driver = Driver::start(options, store, transport, sink).await?;
        Ok(Arc::new(Agreement { driver }))
    }

    /// This node's name.
    pub fn id(&self) -> NodeId {
        self.driver.id()
    }

    /// Answers a peer's message of [`Kind::Raft`] or [`Kind::Member`]. What cannot be read is answered with nothing.
    pub async fn handle(&self, kind: Kind, payload: Bytes) -> Bytes {
        self.driver.handle(kind, payload).await
    }

    /// Has a change made, by the leader, wherever it is. Returns the epoch that it led to when it is applied here. Tries again
    /// for twice the node timeout; however often it is sent, it is applied once.
    pub async fn propose(&self, change: Change) -> Result<u64, ProposeError> {
        self.driver.propose(change).await
    }

    /// Leaves the ring: its slots move to the others, then it is forgotten. Returns when it is; at once if there is nobody
    /// else. The caller bounds it.
    pub async fn leave(&self) -> Result<Left, ProposeError> {
        self.driver.leave().await
    }

    /// Returns when this node has no part in the ring any more, and will not have one before it is started again.
    pub async fn ended(&self) {
        self.driver.ended().await;
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.driver.leader()
    }

    /// The term of the log.
    pub fn term(&self) -> u64 {
        self.driver.status().term
    }

    /// The map that this node has applied last.
    pub fn map(&self) -> Arc<Map> {
        self.driver.map()
    }

    /// What CLUSTER INFO says.
    pub fn status(&self) -> Status {
        self.driver.status()
    }

    /// Ends all tasks and closes the store. The lease ends by itself.
    pub async fn shutdown(&self) {
        self.driver.shutdown().await;
    }
}

impl Drop for Agreement {
    fn drop(&mut self) {
        self.driver.stop();
    }
}
