//! Nodes join and leave under load: no error, nothing lost, nothing stale.

use std::time::Duration;

use rustix::process::Signal;

use crate::load::{Load, Plan};
use crate::ring::{Options, Ring};
use crate::support::seed;

/// How long a node may take to hand over what it has. It has half of shutdown-timeout for that.
const LEAVE: Duration = Duration::from_secs(40);

/// Aim: a fourth node takes its share, and nobody notices.
#[test]
fn a_node_joins_under_load() {
    let mut ring = Ring::of(3, Options::default());
    let load = Load::start(&ring, Plan::all_forms(seed()));
    load.goes_on_for(1000);
    let fourth = ring.add();
    let took = ring.whole_within(crate::support::PATIENCE);
    println!("joined within {took:?}");
    load.open(&ring.nodes[fourth]);
    load.goes_on_for(1000);
    let report = load.stop();
    report.assert_clean();
    let slots = ring.slots_of(fourth);
    let count = slots.iter().filter(|mine| **mine).count();
    assert!((3000..5500).contains(&count), "a quarter: {count} slots");
}

/// Aim: a node that is asked to end hands over all it has first.
#[test]
fn a_node_leaves_under_load() {
    let mut ring = Ring::of(4, Options::default());
    let load = Load::start(&ring, Plan::all_forms(seed()));
    load.goes_on_for(1000);
    load.close(1);
    ring.nodes[1].signal(Signal::TERM);
    let status = ring.nodes[1].exited(LEAVE);
    assert!(status.success(), "{status}");
    ring.whole();
    load.goes_on_for(1000);
    load.stop().assert_clean();
}
