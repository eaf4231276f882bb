//! openraft's messages to other nodes, where those nodes are, and when they were last heard.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, InstallSnapshotError, RPCError, RaftError, ReplicationClosed, StreamingError,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, Snapshot};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Transport;
use super::member::Times;
use super::message::{RaftAnswer, RaftAsk, RaftCall, decode, encode};
use super::types::{Types, Vote};
use crate::cluster::bus::Kind;
use crate::cluster::node::NodeId;

/// Where the buses of nodes are, as last heard. The map says so too, but a ring whose nodes all came back with other
/// addresses can only agree on them when they have found each other.
#[derive(Debug, Default)]
pub struct Book(Mutex<BTreeMap<NodeId, (u64, String)>>);

impl Book {
    /// Notes the address that an incarnation of a node gave.
    pub fn learn(&self, id: NodeId, incarnation: u64, address: &str) {
        let mut book = self.0.lock();
        match book.get_mut(&id) {
            Some(known) if known.0 > incarnation => {}
            Some(known) if known.1 == address => known.0 = incarnation,
            _ => {
                book.insert(id, (incarnation, address.to_owned()));
            }
        }
    }

    /// Where a node is.
    pub fn address(&self, id: NodeId) -> Option<String> {
        self.0.lock().get(&id).map(|(_, address)| address.clone())
    }

    /// Some others than this one, one behind the other in the order of their names, and round; each `start` begins elsewhere.
    pub fn some(&self, me: NodeId, start: usize, most: usize) -> Vec<(NodeId, String)> {
        let book = self.0.lock();
        let first = start.checked_rem(book.len()).unwrap_or(0);
        let others = book.iter().cycle().skip(first).take(book.len());
        others
            .filter(|(id, _)| **id != me)
            .take(most)
            .map(|(id, (_, address))| (*id, address.clone()))
            .collect()
    }

    /// Keeps only those.
    pub fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.0.lock().retain(|id, _| keep(*id));
    }
}

/// When this node, as a leader, sent the last message that each other one has acknowledged.
#[derive(Debug, Default)]
pub struct Heard(Mutex<BTreeMap<NodeId, (Vote, Instant)>>);

impl Heard {
    fn note(&self, id: NodeId, vote: Vote, sent: Instant) {
        let mut heard = self.0.lock();
        let last = heard.entry(id).or_insert((vote, sent));
        if last.0 != vote || last.1 < sent {
            *last = (vote, sent);
        }
    }

    /// For the leader of this vote.
    pub fn since(&self, id: NodeId, vote: &Vote) -> Option<Instant> {
        let heard = self.0.lock();
        heard
            .get(&id)
            .filter(|(of, _)| of == vote)
            .map(|(_, sent)| *sent)
    }
}

/// What connections to all nodes share.
pub struct Network {
    /// Sends.
    pub transport: Arc<dyn Transport>,
    /// Knows where.
    pub book: Arc<Book>,
    /// Notes when.
    pub heard: Arc<Heard>,
    /// How long things take.
    pub times: Times,
}

/// The way to one node.
pub struct Peer {
    id: NodeId,
    /// Where it was when the log took it in.
    address: String,
    network: Arc<Network>,
}

impl RaftNetworkFactory<Types> for Arc<Network> {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Peer {
        Peer {
            id: target,
            address: node.addr.clone(),
            network: self.clone(),
        }
    }
}

/// No answer, or not the right one.
#[derive(Debug)]
struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

impl Peer {
    async fn call(&self, call: RaftCall, timeout: Duration) -> Result<RaftAnswer, Unreachable> {
        let known = self.network.book.address(self.id);
        let address = known.as_ref().unwrap_or(&self.address);
        let payload = encode(&RaftAsk { to: self.id, call });
        let sent = self
            .network
            .transport
            .call(address, Kind::Raft, payload, timeout);
        let failed =
            |why: &dyn fmt::Display| Unreachable::new(&NoAnswer(format!("{address}: {why}")));
        match tokio::time::timeout(timeout, sent).await {
            Err(error) => Err(failed(&error)),
            Ok(Err(error)) => Err(failed(&error)),
            Ok(Ok(bytes)) => decode(&bytes).ok_or_else(|| failed(&"an answer that cannot be read")),
        }
    }

    fn unexpected(&self, answer: &RaftAnswer) -> Unreachable {
        let why = match answer {
            RaftAnswer::NotMe => "another node has this address",
            RaftAnswer::Stopped => "its log does not run",
            _ => "an answer to something else",
        };
        Unreachable::new(&NoAnswer(format!("{}: {why}", self.id)))
    }
}

type CallError<E> = RPCError<NodeId, BasicNode, E>;

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError<RaftError<NodeId>>> {
        let (vote, sent) = (rpc.vote, Instant::now());
        match self.call(RaftCall::Append(rpc), option.hard_ttl()).await? {
            RaftAnswer::Append(answer) => {
                // Any answer but this one says that at that moment it knew of no later leader.
                if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                    self.network.heard.note(self.id, vote, sent);
                }
                Ok(answer)
            }
            other => Err(self.unexpected(&other).into()),
        }
    }

    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, CallError<RaftError<NodeId, InstallSnapshotError>>>
    {
        // Snapshots are small and go as a whole, see below: nothing calls this.
        Err(Unreachable::new(&NoAnswer("snapshots are not sent in pieces".to_owned())).into())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, CallError<RaftError<NodeId>>> {
        match self.call(RaftCall::Vote(rpc), option.hard_ttl()).await? {
            RaftAnswer::Vote(answer) => Ok(answer),
            other => Err(self.unexpected(&other).into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<Types, Fatal<NodeId>>> {
        let data = snapshot.snapshot.into_inner();
        let call = RaftCall::Snapshot(vote, snapshot.meta, data);
        let answer = tokio::select! {
            answer = self.call(call, self.network.times.snapshot()) => answer?,
            closed = cancel => return Err(closed.into()),
        };
        match answer {
            RaftAnswer::Snapshot(vote) => Ok(SnapshotResponse::new(vote)),
            other => Err(self.unexpected(&other).into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.network.times.renewal()))
    }
}
