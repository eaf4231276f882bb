use super::*;
use crate::cluster::node::NodeId;

fn node(name: u64) -> Node {
    let mut id = NodeId::default();
    id.0[..8].copy_from_slice(&name.to_be_bytes());
    Node {
        id,
        bus: String::new(),
        host: String::new(),
        hostname: String::new(),
        port: 0,
        cluster_port: 0,
        weight: Node::DEFAULT_WEIGHT,
        state: NodeState::Up,
        incarnation: 0,
    }
}

#[test]
fn the_numbers_of_a_node_are_a_permutation() {
    for name in 0..20 {
        let drawer = Drawer::new(&node(name), 1);
        let mut seen = vec![false; SLOTS];
        for slot in 0..SLOTS as u16 {
            assert!(!std::mem::replace(&mut seen[drawer.number(slot)], true));
        }
    }
}
