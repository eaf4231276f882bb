//! CLUSTER, READONLY, READWRITE and ASKING: the ring as a Redis Cluster shows itself, and what operators ask of it.
//!
//! A server without a ring answers all of it as redis-server without cluster support does. A node of a ring has two faces:
//!
//! - On the cluster face all of it answers.
//! - On the single face the ring looks like one server, so what makes a client believe that it speaks with a cluster is
//!   refused in the same words: CLUSTER SLOTS, SHARDS, NODES and INFO, READONLY, READWRITE and ASKING. StackExchange.Redis
//!   asks every server for CLUSTER NODES, RedisInsight for CLUSTER INFO, and both turn to the cluster protocol if they get
//!   an answer. What INFO cluster tells on this face is the same as CLUSTER INFO on the other. The rest, which only
//!   operators send, answers on both.
//!
//! Slots are placed by the ring, so the commands by which Redis's operators place them are refused with what to do instead.

mod sweeps;
#[cfg(test)]
mod tests;
pub mod view;

use std::sync::{Arc, Weak};

use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Caller, Done, Handler, help};
use crate::base::worker::give_worker_away;
use crate::cluster::Cluster;
use crate::cluster::map::Change;
use crate::cluster::node::{Node, NodeId, NodeState};
use crate::config::{Settings, host_port};
use crate::data::number;
use crate::resp::reply::Reply;
use crate::state::Server;
use crate::table::{Args, Category, Command, CommandError, Family, Flags, Row, Scope};
use sweeps::{countkeysinslot, getkeysinslot};
use view::Facts;

const PLAIN: Flags = Flags::STALE;
const ADMIN: Flags = PLAIN.union(Flags::ADMIN);
const CHANGES: Flags = ADMIN.union(Flags::NO_ASYNC_LOADING);
const CONNECTION: Flags = Flags::FAST;

/// What the subcommands start from.
const SUBCOMMAND: Command = Command {
    family: Family::Cluster,
    since: "3.0.0",
    flags: PLAIN,
    ..Command::NEW
};

/// What the subcommands start from whose replies no two nodes need to give alike.
const VIEW: Command = Command {
    tips: &["nondeterministic_output"],
    complexity: "O(N) in the number of nodes",
    ..SUBCOMMAND
};

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "asking",
            summary: "Announces that the next command follows a redirection by ASK.",
            flags: CONNECTION,
            categories: Category::CONNECTION,
            ..SUBCOMMAND
        },
        Handler::Admin(asking),
    ),
    Row {
        command: Command {
            name: "cluster",
            summary: "Holds the commands about the nodes of a cluster and their slots.",
            complexity: "Depends on the subcommand.",
            flags: Flags::empty(),
            ..SUBCOMMAND
        },
        handler: Handler::Container,
        subcommands: SUBCOMMANDS,
    },
    Row::new(
        Command {
            name: "readonly",
            summary: "Lets the connection read from replicas.",
            flags: CONNECTION.union(Flags::LOADING).union(Flags::STALE),
            categories: Category::CONNECTION,
            ..SUBCOMMAND
        },
        Handler::Admin(readonly),
    ),
    Row::new(
        Command {
            name: "readwrite",
            summary: "Ends READONLY.",
            flags: CONNECTION.union(Flags::LOADING).union(Flags::STALE),
            categories: Category::CONNECTION,
            ..SUBCOMMAND
        },
        Handler::Admin(readwrite),
    ),
];

const SUBCOMMANDS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "addslots",
            summary: "Gives slots to the node: refused, the ring places them.",
            complexity: "O(1)",
            usage: "slot:int [slot ...]",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(placed_by_the_ring),
    ),
    Row::new(
        Command {
            name: "addslotsrange",
            since: "7.0.0",
            summary: "Gives ranges of slots to the node: refused, the ring places them.",
            usage: "start-slot:int end-slot:int [start-slot end-slot ...]",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(placed_by_the_ring),
    ),
    Row::new(
        Command {
            name: "bumpepoch",
            summary: "Raises the epoch: refused, the ring counts it.",
            flags: CHANGES,
            tips: &["nondeterministic_output"],
            ..SUBCOMMAND
        },
        Handler::Admin(counted_by_the_ring),
    ),
    Row::new(
        Command {
            name: "count-failure-reports",
            summary: "Counts the nodes that report another as failed: none, the ring's leader alone judges.",
            usage: "node-id",
            flags: ADMIN,
            tips: &["nondeterministic_output"],
            ..SUBCOMMAND
        },
        Handler::Admin(count_failure_reports),
    ),
    Row::new(
        Command {
            name: "countkeysinslot",
            summary: "Counts the keys of a slot that are on this node.",
            complexity: "O(N) in the number of keys of the database, other clients being served meanwhile",
            usage: "slot:int",
            scope: Scope::Sweep,
            ..SUBCOMMAND
        },
        Handler::Sweep(countkeysinslot),
    ),
    Row::new(
        Command {
            name: "delslots",
            summary: "Takes slots from the node: refused, the ring places them.",
            usage: "slot:int [slot ...]",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(placed_by_the_ring),
    ),
    Row::new(
        Command {
            name: "delslotsrange",
            since: "7.0.0",
            summary: "Takes ranges of slots from the node: refused, the ring places them.",
            usage: "start-slot:int end-slot:int [start-slot end-slot ...]",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(placed_by_the_ring),
    ),
    Row::new(
        Command {
            name: "failover",
            summary: "Makes a replica the primary: refused, there are no replicas.",
            usage: "options:[FORCE|TAKEOVER]",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(failover),
    ),
    Row::new(
        Command {
            name: "flushslots",
            summary: "Takes all slots from the node: refused, the ring places them.",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(placed_by_the_ring),
    ),
    Row::new(
        Command {
            name: "forget",
            summary: "Makes a node leave: its slots move to the others first, if it lives.",
            usage: "node-id",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(forget),
    ),
    Row::new(
        Command {
            name: "getkeysinslot",
            summary: "Lists keys of a slot that are on this node.",
            complexity: "O(N) in the number of keys of the database, other clients being served meanwhile",
            usage: "slot:int count:int",
            scope: Scope::Sweep,
            tips: &["nondeterministic_output"],
            ..SUBCOMMAND
        },
        Handler::Sweep(getkeysinslot),
    ),
    Row::new(
        Command {
            name: "help",
            since: "5.0.0",
            summary: "Lists the subcommands of CLUSTER.",
            flags: Flags::LOADING.union(Flags::STALE),
            ..SUBCOMMAND
        },
        Handler::Admin(cluster_help),
    ),
    Row::new(
        Command {
            name: "info",
            summary: "Tells the state of the cluster as this node sees it.",
            ..VIEW
        },
        Handler::Admin(info),
    ),
    Row::new(
        Command {
            name: "keyslot",
            summary: "Returns the slot of a key.",
            complexity: "O(N) in the number of bytes of the key",
            usage: "key:string",
            ..SUBCOMMAND
        },
        Handler::Admin(keyslot),
    ),
    Row::new(
        Command {
            name: "links",
            since: "7.0.0",
            summary: "Lists the connections between this node and its peers.",
            ..VIEW
        },
        Handler::Admin(links),
    ),
    Row::new(
        Command {
            name: "meet",
            summary: "Makes the node join another: refused, nodes join by cluster-seeds.",
            usage: "ip port:int [cluster_bus_port:int@4.0.0]",
            flags: CHANGES,
            history: &[("4.0.0", "Takes the port of the bus.")],
            ..SUBCOMMAND
        },
        Handler::Admin(meet),
    ),
    Row::new(
        Command {
            name: "myid",
            summary: "Returns the name of the node.",
            ..SUBCOMMAND
        },
        Handler::Admin(myid),
    ),
    Row::new(
        Command {
            name: "myshardid",
            since: "7.2.0",
            summary: "Returns the name of the node's shard, which is the node's.",
            tips: &["nondeterministic_output"],
            ..SUBCOMMAND
        },
        Handler::Admin(myid),
    ),
    Row::new(
        Command {
            name: "nodes",
            summary: "Lists the nodes of the cluster, a line each.",
            ..VIEW
        },
        Handler::Admin(nodes),
    ),
    Row::new(
        Command {
            name: "replicas",
            since: "5.0.0",
            summary: "Lists the replicas of a node: none.",
            usage: "node-id",
            flags: ADMIN,
            tips: &["nondeterministic_output"],
            ..SUBCOMMAND
        },
        Handler::Admin(replicas),
    ),
    Row::new(
        Command {
            name: "replicate",
            summary: "Makes the node a replica: refused, there are no replicas.",
            usage: "node-id",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(replicate),
    ),
    Row::new(
        Command {
            name: "reset",
            summary: "Makes the node forget its cluster: refused, it leaves by CLUSTER FORGET.",
            usage: "hard_soft:[HARD|SOFT]",
            flags: ADMIN.union(Flags::NOSCRIPT),
            ..SUBCOMMAND
        },
        Handler::Admin(reset),
    ),
    Row::new(
        Command {
            name: "saveconfig",
            summary: "Saves the state of the cluster: refused, it is saved with each change.",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(saveconfig),
    ),
    Row::new(
        Command {
            name: "set-config-epoch",
            summary: "Sets the epoch: refused, the ring counts it.",
            usage: "config-epoch:int",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(counted_by_the_ring),
    ),
    Row::new(
        Command {
            name: "setslot",
            summary: "Moves a slot: refused, the ring places them.",
            usage: "slot:int subcommand:(IMPORTING node-id|MIGRATING node-id|NODE node-id|STABLE)",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(placed_by_the_ring),
    ),
    Row::new(
        Command {
            name: "shards",
            since: "7.0.0",
            summary: "Lists the shards of the cluster: their slots and nodes.",
            ..VIEW
        },
        Handler::Admin(shards),
    ),
    Row::new(
        Command {
            name: "slaves",
            summary: "Lists the replicas of a node: none.",
            usage: "node-id",
            flags: ADMIN,
            tips: &["nondeterministic_output"],
            deprecated: Some(("5.0.0", "`CLUSTER REPLICAS`")),
            ..SUBCOMMAND
        },
        Handler::Admin(replicas),
    ),
    Row::new(
        Command {
            name: "slots",
            summary: "Lists rows of slots with the nodes that have them.",
            deprecated: Some(("7.0.0", "`CLUSTER SHARDS`")),
            history: &[
                ("4.0.0", "Tells the names of nodes."),
                ("7.0.0", "Tells other addresses of nodes."),
            ],
            ..VIEW
        },
        Handler::Admin(slots),
    ),
    // Ours: CONFIG SET on the single face is for all nodes.
    Row::new(
        Command {
            name: "weight",
            since: "0.1.0",
            summary: "Changes a node's share of the slots, this one's if none is named.",
            usage: "weight:int [node-id]",
            flags: CHANGES,
            ..SUBCOMMAND
        },
        Handler::Admin(weight),
    ),
];

const DISABLED: CommandError =
    CommandError::fixed("ERR This instance has cluster support disabled");

/// The ring, if there is one.
fn ring(server: &Server) -> Result<&Arc<Cluster>, CommandError> {
    server.cluster.get().ok_or(DISABLED)
}

/// The ring, if there is one and the client may know it.
fn shown<'a>(caller: &Caller<'a>) -> Result<&'a Arc<Cluster>, CommandError> {
    let ring = ring(caller.server)?;
    if caller.sees_cluster {
        Ok(ring)
    } else {
        Err(DISABLED)
    }
}

/// What is known of the ring, for as long as `work` takes.
pub fn with_facts<T>(server: &Server, cluster: &Cluster, work: impl FnOnce(&Facts<'_>) -> T) -> T {
    let settings = server.config.settings();
    let view = cluster.view();
    let agreement = cluster.agreement.get().and_then(Weak::upgrade);
    let status = agreement.map(|agreement| agreement.status());
    let leader = status.map(|status| (status.leader, status.term));
    let this = described(&settings, cluster.me);
    work(&Facts {
        map: &view.map,
        this: view.map.node(cluster.me).unwrap_or(&this),
        endpoint: settings.cluster_preferred_endpoint_type,
        has_lease: cluster.has_lease(),
        requires_coverage: settings.cluster_require_full_coverage,
        links: &cluster.links.all(),
        forwards: &cluster.links.forwards(),
        leader: leader.and_then(|(leader, term)| Some((leader?, term))),
        counters: &[
            ("keys_sent", cluster.moved.sent.value()),
            ("keys_received", cluster.moved.received.value()),
        ],
    })
}

/// This node as its parameters describe it, before the ring knows it.
fn described(settings: &Settings, id: NodeId) -> Node {
    let host = settings.cluster_announce_ip.clone();
    Node {
        id,
        bus: host_port(&host, settings.announced_bus_port()),
        host,
        hostname: settings.cluster_announce_hostname.clone(),
        port: settings.port,
        cluster_port: settings.announced_port(),
        weight: settings.cluster_weight,
        state: NodeState::Up,
        incarnation: 0,
    }
}

fn asking(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    shown(caller)?;
    reply.ok();
    Ok(())
}

/// There are no replicas to read from: owners answer reads as they do anyway.
fn readonly(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    shown(caller)?;
    reply.ok();
    Ok(())
}

fn readwrite(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    shown(caller)?;
    reply.ok();
    Ok(())
}

fn slots(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = shown(caller)?;
    with_facts(caller.server, cluster, |facts| {
        view::write_slots(facts, reply)
    });
    Ok(())
}

fn shards(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = shown(caller)?;
    with_facts(caller.server, cluster, |facts| {
        view::write_shards(facts, reply)
    });
    Ok(())
}

fn nodes(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = shown(caller)?;
    let text = with_facts(caller.server, cluster, view::nodes);
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn info(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = shown(caller)?;
    let text = with_facts(caller.server, cluster, view::info);
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn links(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = ring(caller.server)?;
    with_facts(caller.server, cluster, |facts| {
        view::write_links(facts, reply)
    });
    Ok(())
}

fn myid(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = ring(caller.server)?;
    reply.bulk(cluster.me.to_string().as_bytes());
    Ok(())
}

/// Where the ring has the key, pins minded.
fn keyslot(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = ring(caller.server)?;
    let slot = cluster
        .view()
        .map
        .pins
        .slot(caller.session.database, args.bytes()?);
    reply.integer(slot.into());
    Ok(())
}

/// A node of the ring by its name, which Redis compares as bytes.
fn known(args: &mut Args<'_>, cluster: &Cluster) -> Result<Node, CommandError> {
    let name = args.bytes()?;
    let id = std::str::from_utf8(name).ok().and_then(|name| {
        name.parse::<NodeId>()
            .ok()
            .filter(|id| id.to_string() == name)
    });
    id.and_then(|id| cluster.view().map.node(id).cloned())
        .ok_or_else(|| CommandError::quoting("Unknown node ", name, ""))
}

fn replicas(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    known(args, ring(caller.server)?)?;
    reply.array(0);
    Ok(())
}

/// Nodes report nothing to each other: who has failed is for the leader to judge, and to have agreed on.
fn count_failure_reports(
    args: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    known(args, ring(caller.server)?)?;
    reply.integer(0);
    Ok(())
}

/// As redis-cli's del-node sends it, to every node that stays. A node that lives hands its slots over before it goes, so
/// the reply says that this was agreed on, not that it is over; one that is going already needs no second leave.
fn forget(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = ring(caller.server)?;
    let node = known(args, cluster)?;
    if node.id == cluster.me {
        return Err(CommandError::fixed(
            "ERR I tried hard but I can't forget myself...",
        ));
    }
    if node.state != NodeState::Leaving {
        let agreed = agree(caller, cluster, Change::Leave(node.id));
        let state = cluster.view().map.node(node.id).map(|node| node.state);
        // Somebody else may have been faster.
        if !matches!(state, None | Some(NodeState::Leaving)) {
            agreed?;
        }
    }
    tracing::info!(node = %node.id, "asked to leave the ring by CLUSTER FORGET");
    reply.ok();
    Ok(())
}

/// The share lasts until the node starts again: then cluster-weight says what it is.
fn weight(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let cluster = ring(caller.server)?;
    let weight = u32::try_from(number_of(args)?).ok();
    let weight = weight.filter(|weight| WEIGHTS.contains(weight));
    let weight = weight.ok_or(CommandError::fixed("ERR a weight is between 1 and 10000"))?;
    let id = match args.is_empty() {
        true => cluster.me,
        false => known(args, cluster)?.id,
    };
    weigh(caller, cluster, id, weight)?;
    reply.ok();
    Ok(())
}

/// Has the ring agree on a node's share.
pub fn weigh(caller: &Caller<'_>, cluster: &Cluster, id: NodeId, weight: u32) -> Done {
    let has_it = |node: &Node| node.weight == weight;
    if cluster.view().map.node(id).is_some_and(has_it) {
        return Ok(());
    }
    agree(caller, cluster, Change::Weight(id, weight))
}

/// What cluster-weight may be.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

/// Has a change made by the ring. The connection waits, at most for twice the node timeout; other connections of its
/// worker do not.
fn agree(caller: &Caller<'_>, cluster: &Cluster, change: Change) -> Done {
    // Partitions are locked there, by a run that the change may have to wait for.
    if caller.in_transaction {
        return Err(CommandError::fixed(
            "ERR the ring is not changed inside a transaction or a script",
        ));
    }
    let agreement = cluster.agreement.get().and_then(Weak::upgrade);
    let agreement = agreement.ok_or(NOT_MEMBER)?;
    let runtime = Handle::try_current().ok();
    let runtime = runtime.filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    let runtime = runtime.ok_or(NOT_MEMBER)?;
    match give_worker_away(|| runtime.block_on(agreement.propose(change))) {
        Ok(_) => Ok(()),
        Err(error) => Err(CommandError::text_of(format!("ERR {error}"))),
    }
}

const NOT_MEMBER: CommandError = CommandError::fixed("ERR this node is not in a ring");

fn refused(caller: &Caller<'_>, why: &'static str) -> Done {
    ring(caller.server)?;
    Err(CommandError::fixed(why))
}

fn placed_by_the_ring(_: &mut Args<'_>, caller: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    refused(
        caller,
        "ERR the ring places slots itself: cluster-weight and cluster-pin say how",
    )
}

fn counted_by_the_ring(_: &mut Args<'_>, caller: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    refused(
        caller,
        "ERR the nodes of the ring agree on its epoch: it cannot be set",
    )
}

fn meet(_: &mut Args<'_>, caller: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    refused(
        caller,
        "ERR nodes join by themselves: start one with cluster-seeds that name a node of the ring",
    )
}

fn failover(_: &mut Args<'_>, caller: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    refused(caller, "ERR You should send CLUSTER FAILOVER to a replica")
}

fn replicate(_: &mut Args<'_>, caller: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    refused(caller, "ERR the nodes of the ring have no replicas")
}

fn reset(_: &mut Args<'_>, caller: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    refused(
        caller,
        "ERR a node leaves the ring by SIGTERM, or by CLUSTER FORGET at another one",
    )
}

fn saveconfig(_: &mut Args<'_>, caller: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    refused(
        caller,
        "ERR the state of the ring is saved with each of its changes",
    )
}

/// A slot's number, in the range of 64 bits.
fn number_of(args: &mut Args<'_>) -> Result<i64, CommandError> {
    number::parse_i64(args.bytes()?).ok_or(CommandError::NotInteger)
}

fn cluster_help(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    ring(caller.server)?;
    help(reply, "CLUSTER", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "COUNTKEYSINSLOT <slot>",
    "    Count the keys of a slot on this node.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Count the reports that a node has failed: none, the leader judges.",
    "FORGET <node-id>",
    "    Make a node leave the ring: its slots move to the others first, if it lives.",
    "GETKEYSINSLOT <slot> <count>",
    "    Show some keys of a slot on this node.",
    "INFO",
    "    Show the state of the ring as this node sees it.",
    "KEYSLOT <key>",
    "    Show the slot of a key.",
    "LINKS",
    "    Show the connections between this node and its peers.",
    "MYID",
    "    Show the name of this node.",
    "MYSHARDID",
    "    Show the name of this node's shard.",
    "NODES",
    "    Show the nodes of the ring, a line each:",
    "    <id> <ip:port@bus-port[,hostname]> <flags> <primary> <ping> <pong> <epoch> <link> <slot> ...",
    "REPLICAS <node-id>",
    "    Show the replicas of a node: none.",
    "SHARDS",
    "    Show the shards: their slots and nodes.",
    "SLOTS",
    "    Show rows of slots with the nodes that have them.",
    "WEIGHT <weight> [<node-id>]",
    "    Change the share of a node, by default this one, until it starts again.",
];
