//! The entries of the log, and what openraft has to know of them.

use std::io::Cursor;

use openraft::{BasicNode, Entry, TokioRuntime};
use serde::{Deserialize, Serialize};

use crate::cluster::map::Change;
use crate::cluster::node::NodeId;
use crate::cluster::slots::Pins;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first one of a ring: what holds for it from then on.
    Found(Pins),
    /// Changes nothing. When it is applied, so is all that came before it.
    Barrier,
    /// Changes that were asked for within a short time, one after the other.
    Changes(Vec<Asked>),
}

/// A change, and who asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asked.
    pub origin: Origin,
    /// For what.
    pub change: Change,
    /// Of one that takes slots from a node that does not give them: the leader that found that it may be made. It is made only
    /// under that leader.
    pub finder: Option<LeaderId>,
}

/// Who asked for a change: lets it be sent again without being made twice, and voids what came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Its incarnation when it asked: what an earlier one asked for is void.
    pub incarnation: u64,
    /// Counts its proposals.
    pub number: u64,
    /// The smallest number that it still waits for: what is below is void.
    pub floor: u64,
}

/// What a change did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The epoch after it.
    pub epoch: u64,
    /// Whether it changed the map.
    pub changed: bool,
}

/// openraft's parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl openraft::RaftTypeConfig for Types {
    type D = Command;
    type R = Vec<Outcome>;
    type NodeId = NodeId;
    type Node = BasicNode;
    type Entry = Entry<Types>;
    type SnapshotData = Cursor<Vec<u8>>;
    type AsyncRuntime = TokioRuntime;
    type Responder = openraft::impls::OneshotResponder<Types>;
}

/// The log of this ring.
pub type Raft = openraft::Raft<Types>;
/// Names a leadership.
pub type LeaderId = openraft::LeaderId<NodeId>;
/// Names an entry.
pub type LogId = openraft::LogId<NodeId>;
/// A vote of the log, which has nothing to do with those by which a ring forms.
pub type Vote = openraft::Vote<NodeId>;
/// Who votes and who learns, and since which entry.
pub type Membership = openraft::StoredMembership<NodeId, BasicNode>;
/// What a snapshot stands for.
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, BasicNode>;
/// Why the store failed.
pub type StorageError = openraft::StorageError<NodeId>;
