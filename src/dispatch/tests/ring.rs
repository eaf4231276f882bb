//! Requests to a node of a ring that owns all slots.

use super::*;
use crate::cluster::map::{Change, Map};
use crate::cluster::node::NodeId;
use crate::cluster::slots::{Pins, slot_of};

impl World {
    fn line(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.run(&words)).into_owned()
    }
}

/// The lines of an array of bulk strings, without lengths, sorted.
fn elements(reply: &str) -> Vec<&str> {
    let lines = reply.split("\r\n").skip(1);
    let mut elements: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('$'))
        .collect();
    elements.sort_unstable();
    elements
}

#[test]
fn keys_of_a_slot() {
    // Aim: all keys of the slot and no others, in the client's database, living ones only, as many as asked for.
    let mut world = World::on(Host::in_ring(1, &[]));
    for number in 0..50 {
        world.line(&format!("SET a{{t}}{number} x"));
        world.line(&format!("SET b{number} x"));
    }
    world.line("SET gone{t} x PX 1");
    world.server.clock.advance(Duration::from_millis(5));
    let slot = slot_of(b"t");
    let others = (0..50).filter(|number| slot_of(format!("b{number}").as_bytes()) == slot);
    let all = 50 + others.count();
    let count = format!("CLUSTER COUNTKEYSINSLOT {slot}");
    assert_eq!(world.line(&count), format!(":{all}\r\n"));
    let get = world.line(&format!("CLUSTER GETKEYSINSLOT {slot} 1000"));
    let found = elements(&get);
    assert_eq!(found.len(), all);
    assert!(
        found.iter().all(|key| slot_of(key.as_bytes()) == slot),
        "{found:?}"
    );
    for limit in [0, 1, 7] {
        let some = world.line(&format!("CLUSTER GETKEYSINSLOT {slot} {limit}"));
        assert!(some.starts_with(&format!("*{limit}\r\n")));
        assert_eq!(elements(&some).len(), limit);
        assert!(elements(&some).iter().all(|key| found.contains(key)));
    }
    // Inside a transaction, where all is locked, and from a script.
    world.line("MULTI");
    world.line(&count);
    assert_eq!(world.line("EXEC"), format!("*1\r\n:{all}\r\n"));
    let script = format!("return redis.call('CLUSTER','COUNTKEYSINSLOT','{slot}')");
    let scripted = world.run(&[b"EVAL", script.as_bytes(), b"0"]);
    assert_eq!(scripted, format!(":{all}\r\n").as_bytes());
    world.line("SELECT 1");
    assert_eq!(world.line(&count), ":0\r\n");
    assert_eq!(
        world.line(&format!("CLUSTER GETKEYSINSLOT {slot} 5")),
        "*0\r\n"
    );
}

#[test]
fn keys_of_a_pinned_database_lie_in_one_slot() {
    let mut world = World::on(Host::in_ring(1, &["3", "queue:"]));
    world.line("SET queue:a x");
    world.line("SET queue:{b} x");
    let slot = slot_of(b"queue:");
    assert_eq!(
        world.line(&format!("CLUSTER COUNTKEYSINSLOT {slot}")),
        ":2\r\n"
    );
    world.line("SELECT 3");
    world.line("SET queue:a x");
    world.line("SET other x");
    let slot = Pins::database_slot(3);
    assert_eq!(
        world.line(&format!("CLUSTER COUNTKEYSINSLOT {slot}")),
        ":2\r\n"
    );
}

#[test]
fn slots_that_are_none() {
    // Aim: texts compared with redis-server 7.0.15.
    let mut world = World::on(Host::in_ring(1, &[]));
    for (line, refusal) in [
        ("CLUSTER COUNTKEYSINSLOT -1", "Invalid slot"),
        ("CLUSTER COUNTKEYSINSLOT 16384", "Invalid slot"),
        (
            "CLUSTER COUNTKEYSINSLOT 01",
            "value is not an integer or out of range",
        ),
        (
            "CLUSTER COUNTKEYSINSLOT 99999999999999999999",
            "value is not an integer or out of range",
        ),
        (
            "CLUSTER GETKEYSINSLOT 16384 1",
            "Invalid slot or number of keys",
        ),
        (
            "CLUSTER GETKEYSINSLOT 0 -1",
            "Invalid slot or number of keys",
        ),
        (
            "CLUSTER GETKEYSINSLOT 0 x",
            "value is not an integer or out of range",
        ),
    ] {
        assert_eq!(world.line(line), format!("-ERR {refusal}\r\n"), "{line}");
    }
    assert_eq!(
        world.line("CLUSTER GETKEYSINSLOT 0 99999999999999"),
        "*0\r\n"
    );
    assert_eq!(world.line("CLUSTER COUNTKEYSINSLOT 16383"), ":0\r\n");
}

/// Aim: all commands of one transaction are told by the same map where their keys are, though it changes meanwhile, or clients
/// do not follow; its EXEC, and the next transaction, go by the new one.
#[test]
fn one_map_answers_a_transaction() {
    let mut world = World::on(Host::in_ring(3, &[]));
    world.runner.set_face(Face::Cluster);
    let cluster = world.server.cluster.get().expect("in a ring").clone();
    let nodes = [1, 2, 3].map(|number| NodeId([number; 20]));
    let mut map = Map::clone(&cluster.view().map);
    let moves = map.moves_from(nodes[0]);
    let to_second = |(to, slots): (NodeId, Vec<u16>)| (to == nodes[1]).then_some(slots);
    let slots = moves.into_iter().find_map(to_second);
    let slots = slots.expect("the second one has a share");
    let tag = (0..).map(|number| format!("{number}"));
    let mut tag = tag.filter(|tag| slots.contains(&slot_of(tag.as_bytes())));
    let tag = tag.next().expect("some tag hashes there");
    let slot = slot_of(tag.as_bytes());
    let install = |map: &mut Map, from: NodeId, to: NodeId| {
        let slots = vec![slot];
        assert!(map.apply(&Change::Moved { slots, from, to }));
        cluster.install(Arc::new(map.clone()));
    };
    let incr = format!("INCR {{{tag}}}a");

    assert_eq!(world.line("MULTI"), "+OK\r\n");
    assert_eq!(world.line(&incr), "+QUEUED\r\n");
    install(&mut map, nodes[0], nodes[1]);
    assert_eq!(world.line(&incr), "+QUEUED\r\n");
    let second = format!("-MOVED {slot} 127.0.0.1:7102\r\n");
    assert_eq!(world.line("EXEC"), second);

    assert_eq!(world.line("MULTI"), "+OK\r\n");
    assert_eq!(world.line(&incr), second);
    assert!(map.apply(&Change::Leave(nodes[0])));
    assert!(map.apply(&Change::Leave(nodes[1])));
    install(&mut map, nodes[1], nodes[2]);
    assert_eq!(world.line(&incr), second);
    let abort = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    assert_eq!(world.line("EXEC"), abort);

    assert_eq!(world.line("MULTI"), "+OK\r\n");
    let third = format!("-MOVED {slot} 127.0.0.1:7103\r\n");
    assert_eq!(world.line(&incr), third);
    assert_eq!(world.line("DISCARD"), "+OK\r\n");
    assert_eq!(world.line(&incr), third);
}
