//! A server whose keys are at another node: what a client sees there must be what it sees of one server.
//!
//! With `QUOIT_TEST_RING=1` each Quoit that a test starts is a node of a ring of three. Its databases are pinned, each to a
//! slot, and all these slots are at the second node, which has ten thousand times the weight of the others. So every request
//! for keys is forwarded, and those for all nodes are merged from three.

use super::client::{Client, Value};
use super::server::{Server, free_port};
use super::{eventually, words};
use quoit::cluster::slots::slot_of;

/// Arguments of nodes none of which is to be taken for dead: a machine that stands still for seconds must not look like that.
pub const PATIENT_NODE: [&str; 2] = ["--cluster-node-timeout", "20000"];

/// Whether the suites run against a node of a ring.
pub fn tests_ring() -> bool {
    std::env::var("QUOIT_TEST_RING").is_ok_and(|value| value == "1")
}

/// What a node of a ring does otherwise than one server, and has to. README says so, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingDiffers {
    /// SWAPDB is refused while a database is pinned to a slot, as these are: two slots may be at two nodes.
    Swaps,
    /// Commands for all nodes (FLUSHALL, DBSIZE) are refused in a transaction: it runs at one.
    AllNodes,
    /// INFO, LATENCY and MEMORY STATS count what one node has done, and the keys are at another.
    Counts,
    /// The table of who has read what is the owner's, with its bound and its counters.
    Readers,
    /// What nodes tell of keys comes in a message of each, when it comes: not at a place between two replies.
    Messages,
    /// It is one: CLUSTER answers, and some parameters say so.
    IsOne,
}

/// Whether a test is to be left out for this reason.
pub fn ring_differs(reason: RingDiffers) -> bool {
    if tests_ring() {
        println!("left out, as a ring differs: {reason:?}");
    }
    tests_ring()
}

/// Whether a server with these arguments can be a node like that.
pub fn can_be_a_node(arguments: &[&str]) -> bool {
    let alone = [
        "--databases",
        "--port",
        "--rename-command",
        "--cluster-enabled",
        "--bind",
        "--maxclients",
    ];
    !arguments.iter().any(|argument| alone.contains(argument))
}

/// Starts the ring and returns the node that has no keys.
pub fn start(arguments: &[&str]) -> Server {
    for _ in 0..10 {
        let (owner, seed) = node(arguments, &["--cluster-weight", "10000"]);
        let cluster_port = free_port();
        let joins = ["--cluster-weight", "1", "--cluster-seeds", &seed];
        let shows = ["--cluster-port", &cluster_port.to_string()];
        let (mut entry, _) = node(arguments, &[&joins[..], &shows].concat());
        let (third, _) = node(arguments, &joins);
        let password = arguments.windows(2).find_map(|pair| match pair {
            ["--requirepass", password] => Some(*password),
            _ => None,
        });
        for node in [&owner, &entry, &third] {
            eventually("a ring", || is_whole(node, password).then_some(()));
        }
        let owner_id = ask(owner.port, password, "CLUSTER MYID").expect("it listens");
        let slots = ask(cluster_port, password, "CLUSTER SLOTS").expect("it listens");
        let has_all = (0..16).all(|database| {
            let slot = i64::from(slot_of(format!("db{database}").as_bytes()));
            let mut ranges = slots.items().into_iter().map(|range| range.items());
            ranges.any(|range| {
                range[0].int() <= slot && slot <= range[1].int() && range[2].items()[2] == owner_id
            })
        });
        if has_all {
            entry.companions = vec![owner, third];
            return entry;
        }
        // The few slots of the others are those of a database: other names of nodes, another chance.
    }
    panic!("the keys are always here");
}

fn node(arguments: &[&str], more: &[&str]) -> (Server, String) {
    let bus_port = free_port().to_string();
    let databases: Vec<String> = (0..16).map(|database| database.to_string()).collect();
    let pins = databases.join(" ");
    let mut all = vec!["--cluster-enabled", "yes", "--cluster-bus-port", &bus_port];
    all.extend(["--cluster-pin", &pins]);
    all.extend(PATIENT_NODE);
    all.extend(more);
    all.extend(arguments);
    let server = Server::quoit_on_a_free_port(&all, &[]);
    let seed = format!("127.0.0.1:{}@{bus_port}", server.port);
    (server, seed)
}

fn ask(port: u16, password: Option<&str>, line: &str) -> Option<Value> {
    let mut client = Client::try_connect(port)?;
    if let Some(password) = password {
        client.try_run(&["AUTH", password])?;
    }
    client.try_run(&words(line)?)
}

fn is_whole(server: &Server, password: Option<&str>) -> bool {
    let Some(Value::Bulk(info)) = ask(server.port, password, "INFO cluster") else {
        return false;
    };
    let info = String::from_utf8_lossy(&info).into_owned();
    let has = |line: &str| info.lines().any(|other| other == line);
    has("ring_state:ok")
        && has("ring_slots_misplaced:0")
        && has("ring_nodes:3")
        && info.matches("state=up").count() == 3
}
