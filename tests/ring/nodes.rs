//! A few nodes that have become one ring.

use crate::support::elsewhere::PATIENT_NODE;
use crate::support::{Client, Server, Value, eventually, free_port};

/// The nodes, in the order of their start.
pub struct Ring {
    pub nodes: Vec<Server>,
    /// Where the bus of the first one is.
    seed: Option<String>,
    /// Where each is seen as a node.
    cluster_ports: Vec<u16>,
}

impl Ring {
    /// So many nodes that know each other.
    pub fn of(count: usize) -> Ring {
        Ring::with(count, &[])
    }

    /// The same, with more arguments for each.
    pub fn with(count: usize, arguments: &[&str]) -> Ring {
        let mut ring = Ring {
            nodes: Vec::new(),
            seed: None,
            cluster_ports: Vec::new(),
        };
        for _ in 0..count {
            ring.add(arguments);
        }
        ring
    }

    /// One node more, which the others know when this returns.
    pub fn add(&mut self, arguments: &[&str]) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.add_to(&all, arguments);
    }

    /// The same when only these, by their numbers from 0, are in the ring.
    pub fn add_to(&mut self, members: &[usize], arguments: &[&str]) {
        let (bus_port, cluster_port) = (free_port().to_string(), free_port());
        let cluster = cluster_port.to_string();
        let mut all = vec!["--bind", "127.0.0.1", "--enable-debug-command", "yes"];
        all.extend(["--cluster-enabled", "yes", "--cluster-bus-port", &bus_port]);
        all.extend(["--cluster-port", &cluster]);
        all.extend(PATIENT_NODE);
        if let Some(seed) = &self.seed {
            all.extend(["--cluster-seeds", seed]);
        }
        all.extend(arguments);
        let node = Server::quoit_on_a_free_port(&all, &[]);
        let seed = format!("127.0.0.1:{}@{bus_port}", node.port);
        self.seed.get_or_insert(seed);
        self.nodes.push(node);
        self.cluster_ports.push(cluster_port);
        let known = (members.len() + 1).to_string();
        let newcomer = self.nodes.len() - 1;
        for node in members.iter().copied().chain([newcomer]) {
            let mut client = self.aware(node);
            eventually("a node to know the ring", || {
                let is_whole = field(&mut client, "cluster_state") == "ok"
                    && field(&mut client, "cluster_known_nodes") == known;
                is_whole.then_some(())
            });
        }
    }

    /// Has the first node remove another from the ring; it has gone when this returns.
    pub fn forget(&self, node: usize) {
        let leaving = self.aware(node).line("CLUSTER MYID").text();
        let mut first = self.aware(0);
        let known = |first: &mut Client| -> usize {
            let known = field(first, "cluster_known_nodes");
            known.parse().expect("it is a number")
        };
        let before = known(&mut first);
        let forget = format!("CLUSTER FORGET {leaving}");
        assert_eq!(first.line(&forget), Value::ok());
        eventually("a node to be removed", || {
            (known(&mut first) == before - 1).then_some(())
        });
    }

    /// Waits until each node owns slots, and every node knows all of them to be where they should be.
    pub fn is_balanced(&self) {
        for port in &self.cluster_ports {
            let mut client = Client::connect(*port);
            eventually("a node to own slots", || {
                let nodes = client.line("CLUSTER NODES").text();
                let mine = nodes.lines().find(|line| line.contains("myself"))?;
                (mine.split(' ').count() > 8).then_some(())
            });
        }
        self.settle();
    }

    /// Whether a node owns a slot.
    pub fn owns(&self, node: usize, slot: i64) -> bool {
        let mut client = Client::connect(self.cluster_ports[node]);
        let nodes = client.line("CLUSTER NODES").text();
        let mine = nodes.lines().find(|line| line.contains("myself"));
        let mut ranges = mine.expect("it knows itself").split(' ').skip(8);
        ranges.any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let slot_of = |text: &str| text.parse::<i64>().expect("a slot");
            (slot_of(first)..=slot_of(last)).contains(&slot)
        })
    }

    /// A connection to a node, by its number from 0.
    pub fn client(&self, node: usize) -> Client {
        self.nodes[node].client()
    }

    /// Where a node is seen as a node of a Redis Cluster.
    pub fn cluster_port(&self, node: usize) -> u16 {
        self.cluster_ports[node]
    }

    /// A connection to this face of a node.
    pub fn aware(&self, node: usize) -> Client {
        Client::connect(self.cluster_ports[node])
    }

    /// Waits until every slot is where it should be, as all nodes see it.
    pub fn settle(&self) {
        for port in &self.cluster_ports {
            let mut client = Client::connect(*port);
            eventually("the slots to be where they should be", || {
                (field(&mut client, "ring_slots_misplaced") == "0").then_some(())
            });
        }
    }

    /// Which node owns a slot, by its number from 0.
    pub fn owners(&self) -> impl Fn(u16) -> usize + use<> {
        let mut client = Client::connect(self.cluster_ports[0]);
        let mut owners = vec![usize::MAX; 16384];
        for range in client.line("CLUSTER SLOTS").items() {
            let range = range.items();
            let port = range[2].items()[1].int();
            let node = self
                .cluster_ports
                .iter()
                .position(|its| i64::from(*its) == port);
            let slots = range[0].int() as usize..=range[1].int() as usize;
            owners[slots].fill(node.expect("a slot belongs to a node"));
        }
        move |slot| owners[usize::from(slot)]
    }

    /// The same, in RESP3.
    pub fn client_in_3(&self, node: usize) -> Client {
        self.nodes[node].client_in(3)
    }
}

/// A field of CLUSTER INFO.
pub fn field(client: &mut Client, name: &str) -> String {
    let info = client.line("CLUSTER INFO").text();
    let mut lines = info.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}
