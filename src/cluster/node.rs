//! Who is in the ring: the names of nodes, and what each says of itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a node for its whole life: 20 random bytes, 40 hex digits to clients, as in Redis Cluster. It survives
/// restarts and changes of address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 20]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 40 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANodeId;

impl FromStr for NodeId {
    type Err = NotANodeId;

    fn from_str(text: &str) -> Result<NodeId, NotANodeId> {
        if text.len() != 40 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotANodeId);
        }
        let mut id = [0; 20];
        for (index, byte) in id.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| NotANodeId)?;
        }
        Ok(NodeId(id))
    }
}

/// How a node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It serves, and the ring gives it slots.
    Up,
    /// It goes: its slots move to the others; it is forgotten when it has none left.
    Leaving,
    /// Its lease is over: its slots are the others'. It comes back with [`NodeState::Up`], and empty.
    Failed,
}

/// What the ring knows of a node. Addresses are what the node announces, which need not be what it is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Where peers reach its bus: `host:port`.
    pub bus: String,
    /// Where clients reach it: an address or a name, without the port.
    pub host: String,
    /// The name that it announces beside the address (cluster-announce-hostname); empty: none.
    pub hostname: String,
    /// The port of the single face.
    pub port: u16,
    /// The port of the cluster face: that of `port` where both are one.
    pub cluster_port: u16,
    /// Share of the ring, in units of [`Node::DEFAULT_WEIGHT`].
    pub weight: u32,
    /// How it takes part.
    pub state: NodeState,
    /// Counts its starts: a later one is another process, and knows nothing of what the one before held.
    pub incarnation: u64,
}

impl Node {
    /// The weight of a node that says nothing else (cluster-weight).
    pub const DEFAULT_WEIGHT: u32 = 100;

    /// Whether it serves and stays.
    pub fn is_up(&self) -> bool {
        self.state == NodeState::Up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_printed() {
        let id = NodeId(std::array::from_fn(|index| index as u8 * 13));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("00".parse::<NodeId>(), Err(NotANodeId));
        assert_eq!("+".repeat(40).parse::<NodeId>(), Err(NotANodeId));
    }
}
