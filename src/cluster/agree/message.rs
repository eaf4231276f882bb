//! What nodes ask each other beside openraft's messages, and the form of all of them.
//!
//! Each message names the node it is meant for where that matters: an address may belong to another process by now.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};

use super::types::{Origin, SnapshotMeta, Types, Vote};
use crate::cluster::map::Change;
use crate::cluster::node::{Node, NodeId};
use crate::cluster::slots::Pins;

/// A message of openraft to one node.
#[derive(Debug, Serialize, Deserialize)]
pub struct RaftAsk {
    /// Whom it is meant for: nobody else may answer it.
    pub to: NodeId,
    /// What it says.
    pub call: RaftCall,
}

/// What openraft asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftCall {
    /// Entries, or a heartbeat.
    Append(AppendEntriesRequest<Types>),
    /// A vote.
    Vote(VoteRequest<NodeId>),
    /// The whole state, in place of entries that are gone.
    Snapshot(Vote, SnapshotMeta, Vec<u8>),
}

/// What is answered to it.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftAnswer {
    /// To entries.
    Append(AppendEntriesResponse<NodeId>),
    /// To a request for a vote.
    Vote(VoteResponse<NodeId>),
    /// To a snapshot.
    Snapshot(Vote),
    /// Another node has this address.
    NotMe,
    /// The log of that node does not run.
    Stopped,
}

/// What a node asks another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Who are you, and are you in a ring?
    Hello(Hello),
    /// May this candidate form the ring?
    Vote {
        /// The ring's name.
        ring: String,
        /// Who would form it.
        candidate: NodeId,
        /// Which of its attempts this is.
        round: u64,
    },
    /// Give me back the vote that I gave you in this round.
    Release {
        /// Whose vote.
        voter: NodeId,
        /// The round.
        round: u64,
    },
    /// Let this node in, or back in.
    Join {
        /// What it says of itself.
        node: Node,
        /// The ring's name.
        ring: String,
        /// What it would pin: the same as all others.
        pins: Pins,
        /// Whether it has been in the ring before: then it may have been removed meanwhile.
        returns: bool,
    },
    /// Renew my lease.
    Lease {
        /// Who asks.
        node: NodeId,
        /// Its incarnation.
        incarnation: u64,
    },
    /// Have this change made.
    Propose(Origin, Change),
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The ring's name.
    pub ring: String,
    /// The node's name.
    pub id: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Where its bus is reached.
    pub bus: String,
    /// Whether it is in a ring.
    pub formed: bool,
    /// Who leads that ring, and where its bus is.
    pub leader: Option<(NodeId, String)>,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To a greeting.
    Hello(Hello),
    /// The candidate has the vote.
    Voted,
    /// Somebody else has it, or had better have it.
    NotVoted,
    /// The vote is free again.
    Released,
    /// It is not.
    Kept,
    /// The lease is renewed, or the node is in.
    Granted,
    /// Not now.
    NotNow,
    /// The ring does not know that incarnation, or took it for failed: it has to join.
    Rejoin,
    /// The ring removed this node.
    Forgotten,
    /// The change was agreed on in the entry of this index.
    Done {
        /// The entry.
        index: u64,
        /// The epoch after it.
        epoch: u64,
        /// Whether it changed anything.
        changed: bool,
    },
    /// It was not admitted.
    Refused(String),
    /// Ask the leader; who that is, if known.
    NotLeader(Option<(NodeId, String)>),
}

/// The bytes of a message. What cannot be encoded becomes nothing, which nobody can read.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).unwrap_or_default()
}

/// The message of these bytes.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}
