//! Nodes that die, stand still, and start again.
//!
//! What a node had is gone with it, and only that; its keys can be written again within the node timeout and what an
//! election takes; nobody waits for longer; there are never two owners.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::forming::answers_everywhere;
use crate::history::Loss;
use crate::load::{Load, Plan, is_timeout};
use crate::ring::{Node, Options, Ring, SLOTS};
use crate::support::client::encode;
use crate::support::{Client, PATIENCE, Value, poll, seed, within};

/// What a busy machine adds to the node timeout: an election, what the log takes, and waiting for a core.
pub const SLACK: Duration = Duration::from_secs(6);

/// Whether it is what clients are told while nobody owns a key, or its owner died with their request.
pub fn says_why(text: &str) -> bool {
    text.contains("CLUSTERDOWN")
        || text.contains("ERR the node that owns the key was lost before it answered")
}

/// One key for each of so many slots that any node is sure to have some.
pub fn keys() -> Vec<String> {
    (0..256).map(|number| format!("spread:{number}")).collect()
}

/// Asks a node for every key at once; `None` when it closes the connection instead of giving replies that are worth nothing.
#[track_caller]
pub fn read_all(node: &Node, limit: Duration) -> Option<Vec<(String, Value)>> {
    let keys = keys();
    let requests: Vec<u8> = keys.iter().flat_map(|key| encode(&["GET", key])).collect();
    let mut client = node.client();
    client.set_patience(limit);
    client.send_raw(&requests);
    let read = |key: String| match client.try_read() {
        Ok(reply) => Some((key, reply.value)),
        Err(error) if is_timeout(&error) => panic!("no reply within {limit:?}"),
        Err(_) => None,
    };
    keys.into_iter().map(read).collect()
}

/// Writes every key through a node until it works: how long the last one took. What is refused is refused at once enough, and
/// with the words that clients know.
#[track_caller]
pub fn all_keys_writable(ring: &Ring, node: usize, limit: Duration) -> Duration {
    let begun = Instant::now();
    let mut left = keys();
    let mut client = ring.nodes[node].client();
    client.set_patience(limit);
    while !left.is_empty() {
        left.retain(|key| {
            let asked = Instant::now();
            let reply = client.run(&["SET", key, "again"]);
            let bound = ring.options.node_timeout + SLACK;
            assert!(asked.elapsed() < bound, "{key}: {:?}", asked.elapsed());
            if reply.is_error() {
                assert!(says_why(&reply.text()), "{key}: {reply:?}");
            }
            reply != Value::ok()
        });
        let took = begun.elapsed();
        assert!(took < limit, "{} keys of {}: {took:?}", left.len(), 256);
    }
    begun.elapsed()
}

/// Kills a node under load; the others own its slots soon, and nothing else is lost.
fn dies(mut ring: Ring, victim: usize) {
    let load = Load::start(&ring, Plan::texts(seed()));
    load.goes_on_for(1000);
    let slots = ring.slots_of(victim);
    load.close(victim);
    let begin = load.now();
    ring.nodes[victim].kill();
    let end = load.now();
    let survivor = ring.any().number;
    let bound = ring.options.node_timeout + SLACK;
    let took = all_keys_writable(&ring, survivor, bound);
    println!("all keys were writable again after {took:?}");
    ring.whole_within(bound);
    load.goes_on_for(500);
    let report = load.stop();
    report.assert_history(&[Loss { begin, end, slots }]);
    for trouble in report.errors() {
        let took = Duration::from_micros(trouble.end - trouble.begin);
        assert!(took < bound, "{took:?}: {trouble:?}");
        assert!(says_why(&trouble.what), "{trouble:?}");
    }
    answers_everywhere(&ring);
}

/// Aim: as the name says.
#[test]
fn a_node_that_does_not_lead_dies() {
    let ring = Ring::of(3, Options::hasty());
    let leader = ring.leader();
    dies(ring, (leader + 1) % 3);
}

/// Aim: as the name says: the others have to elect first.
#[test]
fn the_leader_dies() {
    let ring = Ring::of(3, Options::hasty());
    let leader = ring.leader();
    dies(ring, leader);
}

/// Aim: a node that stood still while others took over its slots does not answer for them when it wakes, not even what was
/// sent to it while it slept.
#[test]
fn a_node_stands_still_for_longer_than_its_lease() {
    let ring = Ring::of(3, Options::hasty());
    let leader = ring.leader();
    let victim = (leader + 1) % 3;
    let mut awake = ring.nodes[leader].client();
    for key in keys() {
        assert_eq!(awake.run(&["SET", &key, "old"]), Value::ok());
    }
    let mut clients: Vec<Client> = (0..8).map(|_| ring.nodes[victim].client()).collect();
    let load = Load::start(&ring, Plan::texts(seed()));
    load.goes_on_for(500);
    let slots = ring.slots_of(victim);
    load.close(victim);
    let begin = load.now();
    ring.nodes[victim].halt();
    let end = load.now();
    // They wait in its sockets.
    let keys = keys();
    for client in &mut clients {
        for key in &keys {
            client.send(&["GET", key]);
        }
    }
    let others: Vec<usize> = (0..3).filter(|number| *number != victim).collect();
    let bound = ring.options.node_timeout + SLACK;
    all_keys_writable(&ring, leader, bound);
    ring.whole_among(&others, bound);
    ring.nodes[victim].go_on();
    for client in &mut clients {
        for key in &keys {
            // The key was written again since, by way of the others.
            let reply = client.read().value;
            let is_refused = reply.is_error() && says_why(&reply.text());
            assert!(
                is_refused || reply == Value::bulk("again"),
                "{key}: {reply:?}"
            );
        }
    }
    // It comes back by itself, and takes its share again without a loss.
    load.open(&ring.nodes[victim]);
    ring.whole_within(PATIENCE);
    load.goes_on_for(500);
    load.stop().assert_history(&[Loss { begin, end, slots }]);
    for key in &keys {
        assert_eq!(awake.run(&["GET", key]), Value::bulk("again"));
    }
    answers_everywhere(&ring);
}

/// Aim: shorter than the lease: it goes on as if nothing had been.
#[test]
fn a_node_stands_still_for_a_moment() {
    let ring = Ring::of(3, Options::default());
    let mut client = ring.nodes[0].client();
    for key in keys() {
        assert_eq!(client.run(&["SET", &key, "kept"]), Value::ok());
    }
    let load = Load::start(&ring, Plan::all_forms(seed()));
    for number in 0..3 {
        load.goes_on_for(200);
        ring.nodes[number].halt();
        // Seen from a client: it does not answer.
        let mut probe = Client::try_connect_to(ring.nodes[number].address(), PATIENCE)
            .expect("the system accepts for it");
        probe.set_patience(Duration::from_millis(300));
        assert_eq!(probe.try_run(&["PING"]), None);
        ring.nodes[number].go_on();
    }
    load.goes_on_for(200);
    load.stop().assert_clean();
    for key in keys() {
        assert_eq!(client.run(&["GET", &key]), Value::bulk("kept"));
    }
}

/// Aim: a node that was killed comes back as itself, empty, with its share.
#[test]
fn one_starts_again() {
    let mut ring = Ring::of(3, Options::hasty());
    let id = |ring: &Ring, node: usize| ring.nodes[node].status().map(|status| status.id);
    for node in 0..3 {
        let before = id(&ring, node);
        let load = Load::start(&ring, Plan::texts(seed()));
        load.goes_on_for(200);
        let slots = ring.slots_of(node);
        load.close(node);
        let begin = load.now();
        ring.nodes[node].kill();
        let end = load.now();
        // At once, or when the others have given it up.
        if fastrand::bool() {
            let others: Vec<usize> = ring.running().map(|node| node.number).collect();
            ring.whole_among(&others, ring.options.node_timeout + SLACK);
        }
        ring.nodes[node].start();
        ring.whole_within(PATIENCE);
        assert_eq!(id(&ring, node), before, "it is who it was");
        load.open(&ring.nodes[node]);
        load.goes_on_for(200);
        load.stop().assert_history(&[Loss { begin, end, slots }]);
        answers_everywhere(&ring);
    }
}

/// Aim: all at once, by kill -9: they find each other again, each as who it was.
#[test]
fn all_start_again() {
    let mut ring = Ring::of(3, Options::hasty());
    let ids = |ring: &Ring| -> Vec<_> {
        ring.nodes
            .iter()
            .map(|node| node.status().map(|status| status.id))
            .collect()
    };
    let before = ids(&ring);
    for _ in 0..2 {
        ring.nodes.iter_mut().for_each(|node| node.kill());
        let mut order = [0, 1, 2];
        fastrand::shuffle(&mut order);
        for node in order {
            ring.nodes[node].start();
        }
        ring.whole_within(PATIENCE);
        assert_eq!(ids(&ring), before);
        answers_everywhere(&ring);
    }
}

/// Aim: all are asked to end, one after the other: the last has nobody to hand over to, and ends as well; the ring starts
/// again from what they kept.
#[test]
fn all_end_and_start_again() {
    let mut ring = Ring::of(3, Options::hasty());
    for node in 0..3 {
        ring.nodes[node].signal(Signal::TERM);
        let status = ring.nodes[node].exited(PATIENCE);
        assert!(status.success(), "node {node}: {status}");
    }
    for node in [2, 0, 1] {
        ring.nodes[node].start();
    }
    ring.whole_within(PATIENCE);
    answers_everywhere(&ring);
}

/// Aim: without a majority nobody serves: an error within a bound, no hang; with it again all is well.
#[test]
fn a_minority_says_so() {
    let mut ring = Ring::of(3, Options::hasty());
    let bound = ring.options.node_timeout + SLACK;
    for node in [0, 1] {
        ring.nodes[node].kill();
    }
    let mut client = ring.nodes[2].client();
    within(bound, "the last node to refuse all keys", || {
        let replies = read_all(&ring.nodes[2], bound)?;
        let mut replies = replies.iter().map(|(_, reply)| reply);
        let refused = replies.all(|reply| reply.is_error() && says_why(&reply.text()));
        refused.then_some(())
    });
    assert_eq!(client.run(&["PING"]), Value::simple("PONG"));
    // Nobody takes the slots of the dead over: a minority agrees on nothing.
    let seen = poll(ring.options.node_timeout * 2, || {
        let status = ring.nodes[2].status()?;
        let mine = status.nodes.iter().find(|node| node.id == status.id)?;
        (mine.slots == SLOTS).then_some(status)
    });
    assert_eq!(seen, None);
    ring.nodes[0].start();
    ring.nodes[1].start();
    ring.whole_within(PATIENCE);
    answers_everywhere(&ring);
}
