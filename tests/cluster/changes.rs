//! Nodes join and leave under load: no error, nothing lost, nothing stale.

use std::time::Duration;

use rustix::process::Signal;

use crate::forming::answers_everywhere;
use crate::load::{Load, Plan};
use crate::ring::{Options, Ring};
use crate::stock::Stock;
use crate::support::{PATIENCE, Value, scaled, seed, within};

/// How long a node may take to hand over what it has.
const LEAVE: Duration = Duration::from_secs(40);

/// Aim: a fourth node takes its share, and nobody notices.
#[test]
fn a_node_joins_under_load() {
    let mut ring = Ring::of(3, Options::default());
    let stock = Stock::put(&ring);
    let load = Load::start(&ring, Plan::all_forms(seed()));
    load.goes_on_for(1000);
    let fourth = ring.add();
    let took = ring.whole_within(PATIENCE);
    println!("joined within {took:?}");
    load.open(&ring.nodes[fourth]);
    load.goes_on_for(1000);
    let report = load.stop();
    report.assert_clean();
    stock.assert_complete(&ring);
    let slots = ring.slots_of(fourth);
    let count = slots.iter().filter(|mine| **mine).count();
    assert!((3000..5500).contains(&count), "a quarter: {count} slots");
    let share = ring.nodes[fourth].cluster_client().line("DBSIZE").int();
    assert!(share > stock.keys() / 8, "{share} keys");
    nothing_is_left_over(&ring);
}

/// Aim: a node that is asked to end hands over all it has first.
#[test]
fn a_node_leaves_under_load() {
    let mut ring = Ring::of(4, Options::default());
    let stock = Stock::put(&ring);
    let load = Load::start(&ring, Plan::all_forms(seed()));
    load.goes_on_for(1000);
    load.close(1);
    ring.nodes[1].signal(Signal::TERM);
    let status = ring.nodes[1].exited(LEAVE);
    assert!(status.success(), "{status}");
    ring.whole();
    load.goes_on_for(1000);
    load.stop().assert_clean();
    stock.assert_complete(&ring);
    nothing_is_left_over(&ring);
}

/// Aim: the same for the node that leads, and for one that comes back with what it kept: without its old keys.
#[test]
fn the_leader_leaves_and_comes_back() {
    let mut ring = Ring::of(3, Options::default());
    let stock = Stock::put(&ring);
    let load = Load::start(&ring, Plan::all_forms(seed()));
    load.goes_on_for(500);
    let leader = ring.leader();
    load.close(leader);
    ring.nodes[leader].signal(Signal::TERM);
    let status = ring.nodes[leader].exited(LEAVE);
    assert!(status.success(), "{status}");
    ring.whole();
    stock.assert_complete(&ring);
    load.goes_on_for(500);
    ring.nodes[leader].start();
    ring.whole();
    load.open(&ring.nodes[leader]);
    load.goes_on_for(500);
    load.stop().assert_clean();
    stock.assert_complete(&ring);
    nothing_is_left_over(&ring);
}

/// Aim: a node grows and shrinks by its weight, under load.
#[test]
fn a_weight_changes_under_load() {
    let ring = Ring::of(3, Options::default());
    let stock = Stock::put(&ring);
    let load = Load::start(&ring, Plan::all_forms(seed()));
    load.goes_on_for(500);
    let share = || ring.slots_of(1).iter().filter(|mine| **mine).count();
    for (weight, range) in [
        ("300", 8500..11_500),
        ("10", 300..1500),
        ("100", 4500..6500),
    ] {
        let mut client = ring.nodes[1].client();
        let set = client.run(&["CONFIG", "SET", "cluster-weight", weight]);
        assert_eq!(set, Value::ok());
        within(PATIENCE, "the share to follow the weight", || {
            range.contains(&share()).then_some(())
        });
        ring.whole();
        load.goes_on_for(300);
    }
    load.stop().assert_clean();
    stock.assert_complete(&ring);
    nothing_is_left_over(&ring);
}

/// Aim: several nodes come at once, and go at once; `QUOIT_TEST_ROUNDS` times.
#[test]
fn many_come_and_go_under_load() {
    let mut ring = Ring::of(3, Options::default());
    let stock = Stock::put(&ring);
    let load = Load::start(&ring, Plan::all_forms(seed()));
    for _ in 0..scaled("QUOIT_TEST_ROUNDS", 1) {
        let added: Vec<usize> = (0..3).map(|_| ring.add()).collect();
        ring.whole();
        added.iter().for_each(|node| load.open(&ring.nodes[*node]));
        load.goes_on_for(500);
        for node in &added {
            load.close(*node);
            ring.nodes[*node].signal(Signal::TERM);
        }
        for node in added {
            let status = ring.nodes[node].exited(LEAVE);
            assert!(status.success(), "{status}");
        }
        ring.whole();
        stock.assert_complete(&ring);
        load.goes_on_for(500);
    }
    load.stop().assert_clean();
    stock.assert_complete(&ring);
    nothing_is_left_over(&ring);
}

/// Aim: a node that has no time at all says how much it takes with it, and needs no empty state to come back: not before the
/// others have noticed that it is gone, and not after. One that has left says no such thing either.
#[test]
fn a_node_without_time_to_hand_over_says_so_and_comes_back() {
    let options = Options::hasty();
    let mut ring = Ring::of(3, options);
    let hasty = ring.add_with(&["--shutdown-timeout", "0"]);
    ring.whole();
    let says = |ring: &Ring, words: &str| ring.nodes[hasty].log().matches(words).count();
    for round in 1..=2 {
        let slots = ring.slots_of(hasty).iter().filter(|mine| **mine).count();
        assert!(slots > 0);
        ring.nodes[hasty].signal(Signal::TERM);
        let status = ring.nodes[hasty].exited(LEAVE);
        assert!(status.success(), "{status}");
        assert_eq!(
            says(&ring, "ends with slots that were not handed over"),
            round
        );
        if round == 2 {
            ring.whole();
        }
        ring.nodes[hasty].start();
        ring.whole();
        answers_everywhere(&ring);
    }
    ring.nodes[1].signal(Signal::TERM);
    assert!(ring.nodes[1].exited(LEAVE).success());
    ring.nodes[1].start();
    ring.whole();
    for node in [hasty, 1] {
        let log = ring.nodes[node].log();
        assert!(!log.contains("with an empty state"), "{log}");
    }
    assert_eq!(ring.nodes[1].log().matches("has left the ring").count(), 1);
}

/// Every key is at one node only, soon after it has moved.
#[track_caller]
fn nothing_is_left_over(ring: &Ring) {
    let mut client = ring.any().client();
    within(PATIENCE, "keys to be at one node only", || {
        let here = ring.running().map(|node| {
            let mut client = node.cluster_client();
            client.line("DBSIZE").int()
        });
        let sum: i64 = here.sum();
        let found = client.line("KEYS *").items();
        let mut keys: Vec<&[u8]> = found.iter().map(Value::bytes).collect();
        keys.sort();
        keys.dedup();
        (keys.len() == found.len() && sum == keys.len() as i64).then_some(())
    });
}
