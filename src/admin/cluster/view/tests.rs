//! The views of a small ring, byte for byte, in the forms of redis-server 7.0.15.

use super::*;
use crate::base::stats::{Distribution, Histogram};
use crate::cluster::map::Change;
use crate::cluster::slots::Pins;
use crate::resp::reply::{Output, Protocol};

fn node(number: u8) -> Node {
    Node {
        id: NodeId([number; 20]),
        bus: format!("10.0.0.{number}:1{number}000"),
        host: format!("10.0.0.{number}"),
        hostname: if number == 2 {
            "two".into()
        } else {
            String::new()
        },
        port: 7000,
        cluster_port: 7100 + u16::from(number),
        weight: 100,
        state: NodeState::Up,
        incarnation: 1,
    }
}

/// Three nodes; the first has 0-99 and 101, the second 100, the third the rest.
fn map() -> Map {
    let mut map = Map::new(Pins::default());
    for number in 1..=3 {
        assert!(map.apply(&Change::Join(node(number))));
    }
    map.owners = (0..SLOTS)
        .map(|slot| match slot {
            100 => 1,
            0..=101 => 0,
            _ => 2,
        })
        .collect();
    map.targets = map.owners.clone();
    map.epoch = 7;
    map
}

fn link(peer: u8, since_ms: Option<u64>) -> LinkInfo {
    LinkInfo {
        incoming: peer == 3,
        peer: Some(NodeId([peer; 20])),
        address: String::new(),
        lane: 0,
        since_ms,
        frames_sent: 5,
        frames_received: 4,
        bytes_sent: 50,
        bytes_received: 40,
        queued_bytes: if peer == 3 { 8 } else { 0 },
        queue_capacity_bytes: 16,
        waiting: 1,
        errors: 2,
    }
}

/// Two that took 1 and 100 microseconds, and three that were not answered.
fn forwards() -> Forwards {
    let histogram = Histogram::default();
    for nanos in [1_000, 100_000] {
        histogram.add(Histogram::bucket(nanos), 1);
    }
    let mut took = Distribution::default();
    histogram.collect(&mut took);
    Forwards { took, errors: 3 }
}

struct Ring {
    map: Map,
    this: Node,
    links: Vec<LinkInfo>,
    forwards: BTreeMap<NodeId, Forwards>,
    endpoint: EndpointType,
    has_lease: bool,
    requires_coverage: bool,
}

impl Ring {
    fn new() -> Ring {
        Ring {
            map: map(),
            this: node(1),
            links: vec![link(2, Some(900)), link(3, Some(901)), link(3, None)],
            forwards: BTreeMap::from([(NodeId([2; 20]), forwards())]),
            endpoint: EndpointType::Ip,
            has_lease: true,
            requires_coverage: true,
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            map: &self.map,
            this: &self.this,
            endpoint: self.endpoint,
            has_lease: self.has_lease,
            requires_coverage: self.requires_coverage,
            links: &self.links,
            forwards: &self.forwards,
            leader: Some((NodeId([3; 20]), 4)),
            counters: &[("keys_moved", 12)],
        }
    }

    fn written(&self, protocol: Protocol, write: fn(&Facts<'_>, &mut Reply<'_>)) -> String {
        let mut output = Output::new();
        write(&self.facts(), &mut Reply::new(&mut output, protocol));
        let mut slices = vec![std::io::IoSlice::new(&[]); 1024];
        let count = output.fill(&mut slices);
        let bytes: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        String::from_utf8(bytes)
            .expect("it is text")
            .replace("\r\n", " ")
    }
}

fn name(number: u8) -> String {
    format!("$40 {}", NodeId([number; 20]))
}

#[test]
fn rows_of_slots() {
    let run = |first, last, owner| Run { first, last, owner };
    let mut map = map();
    assert_eq!(
        runs(&map),
        [
            run(0, 99, 0),
            run(100, 100, 1),
            run(101, 101, 0),
            run(102, 16383, 2)
        ]
    );
    map.owners[0] = NOBODY;
    map.owners[50] = NOBODY;
    map.owners[16383] = 1;
    assert_eq!(
        runs(&map),
        [
            run(1, 49, 0),
            run(51, 99, 0),
            run(100, 100, 1),
            run(101, 101, 0),
            run(102, 16382, 2),
            run(16383, 16383, 1)
        ]
    );
    assert_eq!(runs(&Map::new(Pins::default())), []);
}

#[test]
fn slots() {
    // Aim: the endpoint in each form that is preferred, and beside it what else is known; null, not an empty text, where
    // clients are to stay with the host that they asked.
    let mut ring = Ring::new();
    let (one, two, three) = (name(1), name(2), name(3));
    assert_eq!(
        ring.written(Protocol::Resp2, write_slots),
        format!(
            "*4 *3 :0 :99 *4 $8 10.0.0.1 :7101 {one} *0 *3 :100 :100 *4 $8 10.0.0.2 :7102 {two} *2 $8 hostname $3 two \
             *3 :101 :101 *4 $8 10.0.0.1 :7101 {one} *0 *3 :102 :16383 *4 $8 10.0.0.3 :7103 {three} *0 "
        )
    );
    ring.endpoint = EndpointType::Hostname;
    assert_eq!(
        ring.written(Protocol::Resp3, write_slots),
        format!(
            "*4 *3 :0 :99 *4 $1 ? :7101 {one} %1 $2 ip $8 10.0.0.1 *3 :100 :100 *4 $3 two :7102 {two} %1 $2 ip $8 10.0.0.2 \
             *3 :101 :101 *4 $1 ? :7101 {one} %1 $2 ip $8 10.0.0.1 *3 :102 :16383 *4 $1 ? :7103 {three} %1 $2 ip $8 10.0.0.3 "
        )
    );
    ring.endpoint = EndpointType::UnknownEndpoint;
    let unknown = ring.written(Protocol::Resp3, write_slots);
    assert!(unknown.contains(&format!(
        "*3 :100 :100 *4 _ :7102 {two} %2 $2 ip $8 10.0.0.2 $8 hostname $3 two "
    )));
    let unknown = ring.written(Protocol::Resp2, write_slots);
    assert!(unknown.starts_with("*4 *3 :0 :99 *4 $-1 :7101 "));
    ring.map = Map::new(Pins::default());
    assert_eq!(ring.written(Protocol::Resp2, write_slots), "*0 ");
}

#[test]
fn shards() {
    let mut ring = Ring::new();
    ring.map.nodes[2].state = NodeState::Failed;
    let (one, two, three) = (name(1), name(2), name(3));
    let rest = "$4 role $6 master $18 replication-offset :0 $6 health";
    assert_eq!(
        ring.written(Protocol::Resp3, write_shards),
        format!(
            "*3 %2 $5 slots *4 :0 :99 :101 :101 $5 nodes *1 %7 $2 id {one} $4 port :7101 $2 ip $8 10.0.0.1 $8 endpoint \
             $8 10.0.0.1 {rest} $6 online \
             %2 $5 slots *2 :100 :100 $5 nodes *1 %8 $2 id {two} $4 port :7102 $2 ip $8 10.0.0.2 $8 endpoint $8 10.0.0.2 \
             $8 hostname $3 two {rest} $6 online \
             %2 $5 slots *2 :102 :16383 $5 nodes *1 %7 $2 id {three} $4 port :7103 $2 ip $8 10.0.0.3 $8 endpoint $8 10.0.0.3 \
             {rest} $4 fail "
        )
    );
    ring.endpoint = EndpointType::UnknownEndpoint;
    ring.map = Map::new(Pins::default());
    assert_eq!(
        ring.written(Protocol::Resp2, write_shards),
        format!(
            "*1 *4 $5 slots *0 $5 nodes *1 *14 $2 id {one} $4 port :7101 $2 ip $8 10.0.0.1 $8 endpoint $0  {rest} $6 online "
        )
    );
}

#[test]
fn nodes_line_by_line() {
    // Aim: a failed node has its flag and no link; one that was never spoken with counts as connected.
    let mut ring = Ring::new();
    ring.map.nodes[2].state = NodeState::Failed;
    ring.links = vec![link(2, Some(900))];
    let names = [1, 2, 3].map(|number| NodeId([number; 20]));
    let [one, two, three] = names;
    assert_eq!(
        nodes(&ring.facts()),
        format!(
            "{one} 10.0.0.1:7101@11000 myself,master - 0 0 7 connected 0-99 101\n\
             {two} 10.0.0.2:7102@12000,two master - 0 900 7 connected 100\n\
             {three} 10.0.0.3:7103@13000 master,fail - 0 0 7 disconnected 102-16383\n"
        )
    );
    ring.map.nodes[2].state = NodeState::Up;
    ring.links = vec![link(2, None)];
    let text = nodes(&ring.facts());
    let links: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(7))
        .collect();
    assert_eq!(links, ["connected", "disconnected", "connected"]);
    ring.map = Map::new(Pins::default());
    assert_eq!(
        nodes(&ring.facts()),
        format!("{one} 10.0.0.1:7101@11000 myself,master - 0 0 0 connected\n")
    );
}

#[test]
fn the_state_of_the_cluster() {
    let mut ring = Ring::new();
    ring.map.targets[0] = 2;
    ring.map.targets[102] = 0;
    ring.map.targets[103] = 0;
    ring.map.targets[104] = 1;
    let names = [1, 2, 3].map(|number| NodeId([number; 20]));
    let [one, two, three] = names;
    let redis = "cluster_state:ok\n\
         cluster_slots_assigned:16384\n\
         cluster_slots_ok:16384\n\
         cluster_slots_pfail:0\n\
         cluster_slots_fail:0\n\
         cluster_known_nodes:3\n\
         cluster_size:3\n\
         cluster_current_epoch:7\n\
         cluster_my_epoch:7\n\
         cluster_stats_messages_sent:15\n\
         cluster_stats_messages_received:12\n\
         total_cluster_links_buffer_limit_exceeded:0\n";
    let ours = format!(
        "ring_state:ok\n\
         ring_epoch:7\n\
         ring_node_id:{one}\n\
         ring_leader:{three}\n\
         ring_term:4\n\
         ring_lease:1\n\
         ring_slots:101\n\
         ring_slots_leaving:1\n\
         ring_slots_coming:2\n\
         ring_slots_misplaced:4\n\
         ring_links:2\n\
         ring_link_errors:6\n\
         ring_bytes_sent:150\n\
         ring_bytes_received:120\n\
         ring_calls_waiting:3\n\
         ring_forwards:2\n\
         ring_forward_errors:3\n\
         ring_keys_moved:12\n\
         ring_nodes:3\n"
    );
    let nodes = format!(
        "ring_node0:id={one},address=10.0.0.1:7000,cluster_port=7101,bus=10.0.0.1:11000,state=up,weight=100,slots=101,incarnation=1\n\
         ring_node1:id={two},address=10.0.0.2:7000,cluster_port=7102,bus=10.0.0.2:12000,state=up,weight=100,slots=1,incarnation=1\n\
         ring_node2:id={three},address=10.0.0.3:7000,cluster_port=7103,bus=10.0.0.3:13000,state=up,weight=100,slots=16282,incarnation=1\n\
         ring_forwards0:node={two},answered=2,errors=3,p50=1.023,p99=102.399,p99.9=102.399\n"
    );
    let plain = |text: String| text.replace("\r\n", "\n");
    assert_eq!(plain(info(&ring.facts())), format!("{redis}{ours}"));
    assert_eq!(plain(super::ring(&ring.facts())), ours + &nodes);
}

#[test]
fn when_keys_are_not_served() {
    // Aim: without a lease, or with a slot that nobody living owns, the state is fail; without full coverage the latter is not.
    let state = |ring: &Ring| {
        let text = info(&ring.facts());
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.expect("the field is there").to_owned()
        };
        [
            "cluster_state:",
            "cluster_slots_ok:",
            "cluster_slots_fail:",
            "cluster_slots_assigned:",
        ]
        .map(value)
    };
    let mut ring = Ring::new();
    ring.has_lease = false;
    assert_eq!(state(&ring), ["fail", "16384", "0", "16384"]);
    ring.has_lease = true;
    ring.map.nodes[1].state = NodeState::Failed;
    assert_eq!(state(&ring), ["fail", "16383", "1", "16384"]);
    ring.requires_coverage = false;
    assert_eq!(state(&ring), ["ok", "16383", "1", "16384"]);
    ring.map.owners[5] = NOBODY;
    assert_eq!(state(&ring), ["ok", "16382", "1", "16383"]);
    ring.map = Map::new(Pins::default());
    ring.requires_coverage = true;
    assert_eq!(state(&ring), ["fail", "0", "0", "0"]);
}

#[test]
fn links_that_stand() {
    let ring = Ring::new();
    let (two, three) = (name(2), name(3));
    assert_eq!(
        ring.written(Protocol::Resp3, write_links),
        format!(
            "*2 %6 $9 direction $2 to $4 node {two} $11 create-time :900 $6 events $1 r $21 send-buffer-allocated :16 \
             $16 send-buffer-used :0 \
             %6 $9 direction $4 from $4 node {three} $11 create-time :901 $6 events $2 rw $21 send-buffer-allocated :16 \
             $16 send-buffer-used :8 "
        )
    );
}
