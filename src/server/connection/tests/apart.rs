//! Keys that move to different nodes while a request for all of them is under way to one.

use super::*;
use crate::cluster::slots::slot_of;
use crate::cluster::{Cluster, SlotSet};

/// Gives slots to nodes by their place in the map; the first is the one that is served here. Nobody listens where the others
/// are said to be.
fn give(cluster: &Cluster, owners: &[(&str, u16)]) {
    let mut map = (*cluster.view().map).clone();
    for (key, owner) in owners {
        let slot = usize::from(slot_of(key.as_bytes()));
        map.owners[slot] = *owner;
        map.targets[slot] = *owner;
    }
    for node in &mut map.nodes {
        node.bus = "127.0.0.1:1".to_owned();
    }
    map.epoch += 1;
    cluster.install(Arc::new(map));
    let slots: SlotSet = owners
        .iter()
        .map(|(key, _)| slot_of(key.as_bytes()))
        .collect();
    cluster.emptied(&slots);
}

/// Far longer than between two tries, and not so long that they end.
const TRIES: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_mget_for_one_node_whose_keys_were_moved_apart_is_cut_by_its_keys() {
    // Found by tests/simulation: it got an error, though each of its keys had an owner.
    let host = Host::in_ring(3, &[]);
    let cluster = Arc::clone(host.server.cluster.get().expect("it is in a ring"));
    give(&cluster, &[("x", 1), ("y", 1)]);
    let mut asks = Peer::connect(&host, 1 << 16);
    asks.send(b"MGET x y x\r\n").await;
    tokio::time::sleep(TRIES).await;

    give(&cluster, &[("x", 0), ("y", 2)]);
    let mut sets = Peer::connect(&host, 1 << 16);
    // No time passes before it is run, and some before the next try.
    sets.send(b"SET x 1\r\n").await;
    tokio::time::sleep(TRIES).await;
    sets.send(b"SET x 2\r\n").await;
    tokio::time::sleep(TRIES).await;

    give(&cluster, &[("y", 0)]);
    assert_eq!(
        sets.rest().await.escape_ascii().to_string(),
        r"+OK\r\n+OK\r\n"
    );
    let replies = asks.rest().await.escape_ascii().to_string();
    // The part that is here was run when its key came here, not when the other one did.
    assert_eq!(replies, r"*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n1\r\n");
}
