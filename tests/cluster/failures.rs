//! Nodes that die, stand still, and start again.
