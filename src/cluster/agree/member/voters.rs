//! Who votes: the largest odd number of nodes that are up, at most seven. All others learn.
//!
//! An even number would need as many for a majority as the odd one above it, and endure no more losses. With two nodes there
//! is one voter: if the other one is lost, it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use openraft::BasicNode;

use super::super::types::Membership;
use crate::cluster::map::Map;
use crate::cluster::node::{NodeId, NodeState};

/// The most voters: more would make each change slower and endure no likelier losses.
pub const MOST: usize = 7;

/// A step towards it. One at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Let these nodes learn.
    Add(BTreeMap<NodeId, BasicNode>),
    /// Let these vote.
    Vote(BTreeSet<NodeId>),
    /// Forget these nodes.
    Remove(BTreeSet<NodeId>),
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn some<'a>(
            f: &mut fmt::Formatter<'_>,
            what: &str,
            ids: impl ExactSizeIterator<Item = &'a NodeId>,
        ) -> fmt::Result {
            let more = ids.len().saturating_sub(MOST);
            f.write_str(what)?;
            ids.take(MOST).try_for_each(|id| write!(f, " {id}"))?;
            match more {
                0 => Ok(()),
                _ => write!(f, " and {more} more"),
            }
        }
        match self {
            Plan::Add(nodes) => some(f, "learn:", nodes.keys()),
            Plan::Vote(ids) => some(f, "vote:", ids.iter()),
            Plan::Remove(ids) => some(f, "forgotten:", ids.iter()),
        }
    }
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
    // One that has removed itself leads for a moment more: openraft does not expect it to change the members then.
    if !members.contains(&me) {
        return None;
    }
    let is_new = |id: &NodeId| !members.contains(id);
    let new = map.nodes.iter().filter(|node| is_new(&node.id));
    let new: BTreeMap<NodeId, BasicNode> = new
        .map(|node| (node.id, BasicNode::new(&node.bus)))
        .collect();
    if !new.is_empty() {
        return Some(Plan::Add(new));
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
    let is_gone = |id: &NodeId| map.node(*id).is_none() && !voters.contains(id);
    let gone: BTreeSet<NodeId> = members.into_iter().filter(is_gone).collect();
    (!gone.is_empty()).then_some(Plan::Remove(gone))
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
