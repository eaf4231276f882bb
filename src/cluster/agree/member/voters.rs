//! Who votes: the largest odd number of nodes that are up, at most seven. All others learn.
//!
//! An even number would need as many for a majority as the odd one above it, and endure no more losses. With two nodes there
//! is one voter: if the other one is lost, it goes on.

use std::collections::BTreeSet;

use openraft::BasicNode;

use super::super::types::Membership;
use crate::cluster::map::Map;
use crate::cluster::node::{NodeId, NodeState};

/// The most voters: more would make each change slower and endure no likelier losses.
pub const MOST: usize = 7;

/// A step towards it. One at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Let this node learn.
    Add(NodeId, BasicNode),
    /// Let these vote.
    Vote(BTreeSet<NodeId>),
    /// Forget this node.
    Remove(NodeId),
}

/// What the leader does next, if anything. `heard`: whether a node has acknowledged something lately.
pub fn plan(
    map: &Map,
    membership: &Membership,
    me: NodeId,
    heard: &dyn Fn(NodeId) -> bool,
) -> Option<Plan> {
    // A ring that has no node yet is about to get its first.
    if map.nodes.is_empty() {
        return None;
    }
    let members: BTreeSet<NodeId> = membership.nodes().map(|(id, _)| *id).collect();
    if let Some(node) = map.nodes.iter().find(|node| !members.contains(&node.id)) {
        let address = BasicNode::new(&node.bus);
        return Some(Plan::Add(node.id, address));
    }
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    let wanted = wanted(map, &voters, me, heard);
    let joint = membership.membership().get_joint_config().len() > 1;
    if wanted.is_empty() {
        return None;
    }
    if joint || wanted != voters {
        return Some(Plan::Vote(wanted));
    }
    let gone = members
        .iter()
        .find(|id| map.node(**id).is_none() && !voters.contains(id));
    gone.map(|id| Plan::Remove(*id))
}

/// Who should vote. Empty if that cannot be had now.
fn wanted(
    map: &Map,
    voters: &BTreeSet<NodeId>,
    me: NodeId,
    heard: &dyn Fn(NodeId) -> bool,
) -> BTreeSet<NodeId> {
    let is_up = |id: NodeId| map.node(id).is_some_and(|node| node.state == NodeState::Up);
    let is_here = |id: NodeId| id == me || heard(id);
    let up = map.nodes.iter().map(|node| node.id).filter(|id| is_up(*id));
    // Those who vote already stay, so that nothing changes without need; a new one has to be there.
    let (old, new): (Vec<NodeId>, Vec<NodeId>) = up.partition(|id| voters.contains(id));
    let leader = Some(me).filter(|me| is_up(*me));
    let old = old.into_iter().filter(|id| *id != me);
    let (old_here, old_silent): (Vec<NodeId>, Vec<NodeId>) = old.partition(|id| is_here(*id));
    let new = new.into_iter().filter(|id| *id != me && is_here(*id));
    let all: Vec<NodeId> = leader
        .into_iter()
        .chain(old_here)
        .chain(old_silent)
        .chain(new)
        .collect();
    let number = match all.len().min(MOST) {
        0 => 0,
        number => number - (number + 1) % 2,
    };
    let wanted: BTreeSet<NodeId> = all.into_iter().take(number).collect();
    // Whoever votes from then on has to be enough to decide.
    let here = wanted.iter().filter(|id| is_here(**id)).count();
    if here * 2 > wanted.len() {
        wanted
    } else {
        BTreeSet::new()
    }
}
