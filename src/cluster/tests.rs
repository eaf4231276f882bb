//! The view of the ring: routes, holds, the lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bus::{Bus, Identity, Links};
use super::map::Map;
use super::node::{Node, NodeId, NodeState};
use super::route::{Route, route};
use super::slots::{Pins, SLOTS};
use super::tunnel::Tunnels;
use super::{Cluster, Owner, SlotSet};

/// Node 1, which knows of no ring.
fn alone() -> Cluster {
    let identity = Identity {
        id: NodeId([1; 20]),
        ring: "test".to_owned(),
        secret: Vec::new(),
        version: 1,
    };
    let bus = Bus::new(identity, Duration::from_secs(5));
    let tunnels = Arc::<Tunnels>::default();
    let links = Links::new(bus, tunnels.clone());
    Cluster::new(NodeId([1; 20]), Pins::default(), links, tunnels, 1)
}

fn node(number: u8) -> Node {
    Node {
        id: NodeId([number; 20]),
        bus: format!("127.0.0.1:{number}"),
        host: "127.0.0.1".to_owned(),
        hostname: String::new(),
        port: u16::from(number),
        cluster_port: 0,
        weight: Node::DEFAULT_WEIGHT,
        state: NodeState::Up,
        incarnation: 1,
    }
}

/// Slots below 100 are node 1's, the others node 2's, but for the last, which is nobody's.
fn two(epoch: u64) -> Arc<Map> {
    let mut map = Map::new(Pins::default());
    map.epoch = epoch;
    map.nodes = vec![node(1), node(2)];
    for slot in 0..SLOTS - 1 {
        map.owners[slot] = u16::from(slot >= 100);
    }
    Arc::new(map)
}

#[tokio::test(start_paused = true)]
async fn a_view_says_where_keys_are() {
    let cluster = alone();
    assert_eq!(cluster.view().owner(5), Owner::Nobody);
    let before = cluster.version();
    cluster.install(two(3));
    assert!(cluster.version() > before);
    let view = cluster.view();
    assert_eq!(view.version, cluster.version());
    assert_eq!(view.owner(5), Owner::Here);
    assert_eq!(view.owner(100), Owner::Peer(1));
    assert_eq!(route(&view, [5, 6]), Route::Here);
    assert_eq!(route(&view, [5, 100]), Route::Several);
    assert_eq!(route(&view, [100, 200]), Route::Peer(1));
    assert_eq!(route(&view, [100, 16383]), Route::Nobody);
    assert_eq!(route(&view, []), Route::Here);
    // An older map changes nothing.
    let version = cluster.version();
    cluster.install(two(2));
    assert_eq!(cluster.version(), version);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_waits_until_it_is_released_or_gone() {
    let cluster = alone();
    cluster.install(two(3));
    let slots: SlotSet = [5, 7].into_iter().collect();
    cluster.hold(&slots);
    assert_eq!(route(&cluster.view(), [5, 6]), Route::Held);
    assert_eq!(route(&cluster.view(), [6]), Route::Here);
    cluster.release(&[5].into_iter().collect());
    assert_eq!(route(&cluster.view(), [5]), Route::Here);
    assert_eq!(route(&cluster.view(), [7]), Route::Held);
    let mut moved = Map::clone(&two(4));
    moved.owners[7] = 1;
    cluster.install(Arc::new(moved));
    assert_eq!(route(&cluster.view(), [7]), Route::Peer(1));
    assert!(cluster.view().held.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_by_itself() {
    let cluster = alone();
    assert!(!cluster.has_lease());
    cluster.set_lease(Instant::now() + Duration::from_millis(100));
    tokio::time::advance(Duration::from_millis(99)).await;
    assert!(cluster.has_lease());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!cluster.has_lease());
    cluster.set_lease(Instant::now() + Duration::from_millis(100));
    assert!(cluster.has_lease());
    cluster.set_lease(Instant::now());
    assert!(!cluster.has_lease());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_view_is_told_of_it() {
    let cluster = Arc::new(alone());
    let waiting = Arc::clone(&cluster);
    let limit = Duration::from_secs(1);
    let task =
        tokio::spawn(async move { waiting.wait_for(limit, |view| view.map.epoch >= 3).await });
    tokio::task::yield_now().await;
    cluster.install(two(3));
    assert!(task.await.expect("the task ends"));
    assert!(!cluster.wait_for(limit, |view| view.map.epoch >= 4).await);
}
