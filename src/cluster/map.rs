//! Who owns which slot: the state that all nodes agree on.
//!
//! A [`Map`] is what the replicated log has led to; it changes by [`Change`]s alone, one after the other, and every node that
//! applies the same changes has the same map. Each change that does something makes a new epoch. Nothing here waits, reads a
//! clock or draws lots.
//!
//! The owner of a slot changes in two ways: the old owner says that it has handed it over ([`Change::Moved`]), or the old
//! owner is gone ([`Change::Failed`], [`Change::Forget`]). Where slots should be is [`Map::targets`], which the ring computes from
//! the nodes that are up; an owner that is not the target of one of its slots moves it there.

use serde::{Deserialize, Serialize};

use super::node::{Node, NodeId, NodeState};
use super::slots::{Pins, SLOTS};

/// No node.
pub const NOBODY: u16 = u16::MAX;

/// The most nodes of a ring.
pub const MAX_NODES: usize = 1024;

/// The state that all nodes agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Counts the changes.
    pub epoch: u64,
    /// The nodes, in the order of their names.
    pub nodes: Vec<Node>,
    /// For each slot the index of its owner in `nodes`, or [`NOBODY`].
    pub owners: Vec<u16>,
    /// For each slot where it should be, in the same way.
    pub targets: Vec<u16>,
    /// Which keys share a slot whatever their names are.
    pub pins: Pins,
}

/// An entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A node joins, comes back, or has other addresses. The first one gets all slots. One that comes back with a new
    /// incarnation while it owns slots keeps them: they are empty.
    Join(Node),
    /// A node wants to go.
    Leave(NodeId),
    /// The lease of a node with this incarnation is over.
    Failed(NodeId, u64),
    /// A node is not wanted any more; what it owns is lost if it was not moved before.
    Forget(NodeId),
    /// A node's share changes.
    Weight(NodeId, u32),
    /// Slots were handed over.
    Moved {
        /// The slots.
        slots: Vec<u16>,
        /// Who owned them until now.
        from: NodeId,
        /// Who has their keys.
        to: NodeId,
    },
}

impl Map {
    /// A ring without nodes.
    pub fn new(pins: Pins) -> Map {
        Map {
            epoch: 0,
            nodes: Vec::new(),
            owners: vec![NOBODY; SLOTS],
            targets: vec![NOBODY; SLOTS],
            pins,
        }
    }

    /// The node of this name.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.index(id).map(|index| &self.nodes[usize::from(index)])
    }

    /// Where it stands in `nodes`.
    pub fn index(&self, id: NodeId) -> Option<u16> {
        let found = self.nodes.binary_search_by_key(&id, |node| node.id);
        found.ok().map(|index| index as u16)
    }

    /// The owner of a slot.
    pub fn owner(&self, slot: u16) -> Option<&Node> {
        self.nodes.get(usize::from(self.owners[usize::from(slot)]))
    }

    /// Whether every slot has an owner that has not failed.
    pub fn is_covered(&self) -> bool {
        self.owners.iter().all(|owner| {
            let node = self.nodes.get(usize::from(*owner));
            node.is_some_and(|node| node.state != NodeState::Failed)
        })
    }
}
