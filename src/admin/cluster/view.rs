//! The ring as a Redis Cluster shows itself: CLUSTER SLOTS, SHARDS, NODES, INFO, LINKS. Pure functions of what is known.
//!
//! Every node of the ring is a primary without replicas, so a shard is a node and has its name. There is one epoch, that of
//! the map, and it stands wherever Redis has one of several. What the two have in common is written as redis-server 7.0.15
//! writes it; fields of ours begin with `ring_` and stand at the end.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::cluster::bus::{Forwards, LinkInfo};
use crate::cluster::map::{Map, NOBODY};
use crate::cluster::node::{Node, NodeId, NodeState};
use crate::cluster::slots::SLOTS;
use crate::config::{EndpointType, host_port};
use crate::resp::reply::Reply;

/// What is known of the ring at this moment.
pub struct Facts<'a> {
    /// What all agree on.
    pub map: &'a Map,
    /// This node, as its configuration describes it: shown while the map does not know it.
    pub this: &'a Node,
    /// Where clients are sent to.
    pub endpoint: EndpointType,
    /// Whether this node may answer for its slots.
    pub has_lease: bool,
    /// cluster-require-full-coverage.
    pub requires_coverage: bool,
    /// The connections to and from peers.
    pub links: &'a [LinkInfo],
    /// What came of the frames of forwarded requests that went to peers.
    pub forwards: &'a BTreeMap<NodeId, Forwards>,
    /// Who leads and since which election, when the log says so.
    pub leader: Option<(NodeId, u64)>,
    /// What is counted, by name.
    pub counters: &'a [(&'static str, u64)],
}

/// Slots in a row with one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: u16,
    /// The last of them.
    pub last: u16,
    /// Their owner's place in the map.
    pub owner: u16,
}

/// All slots that have an owner, in rows, ascending.
pub fn runs(map: &Map) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (slot, &owner) in (0..SLOTS as u16).zip(&map.owners) {
        match runs.last_mut() {
            Some(run) if run.owner == owner && run.last + 1 == slot => run.last = slot,
            _ if owner == NOBODY => {}
            _ => runs.push(Run {
                first: slot,
                last: slot,
                owner,
            }),
        }
    }
    runs.retain(|run| usize::from(run.owner) < map.nodes.len());
    runs
}

/// The rows of each node.
fn runs_by_node(map: &Map) -> Vec<Vec<Run>> {
    let mut all = vec![Vec::new(); map.nodes.len()];
    for run in runs(map) {
        all[usize::from(run.owner)].push(run);
    }
    all
}

fn slot_count(runs: &[Run]) -> usize {
    runs.iter()
        .map(|run| usize::from(run.last - run.first) + 1)
        .sum()
}

impl Facts<'_> {
    /// The nodes of the ring, or this one alone as long as it is in none.
    pub fn nodes(&self) -> &[Node] {
        if self.map.nodes.is_empty() {
            std::slice::from_ref(self.this)
        } else {
            &self.map.nodes
        }
    }

    /// Whether keys are served: what CLUSTERDOWN is the opposite of.
    pub fn is_ok(&self) -> bool {
        self.has_lease && (!self.requires_coverage || self.map.is_covered())
    }

    /// Whether a peer can be reached, and since when, in milliseconds since 1970 (0: not known). One that was never spoken
    /// with is there if the ring says that it is up: the ring's leader hears of it.
    fn contact(&self, node: &Node) -> (bool, u64) {
        let links = self.links.iter().filter(|link| link.peer == Some(node.id));
        let since: Vec<Option<u64>> = links.map(|link| link.since_ms).collect();
        let is_connected = if since.is_empty() {
            node.state != NodeState::Failed
        } else {
            since.iter().any(Option::is_some)
        };
        (is_connected, since.into_iter().flatten().max().unwrap_or(0))
    }
}

/// Where clients reach a node, in the form that is preferred; `None`: where they are already.
pub fn endpoint(node: &Node, kind: EndpointType) -> Option<&str> {
    match kind {
        EndpointType::Ip => Some(&node.host),
        EndpointType::Hostname if node.hostname.is_empty() => Some("?"),
        EndpointType::Hostname => Some(&node.hostname),
        EndpointType::UnknownEndpoint => None,
    }
}

/// CLUSTER SLOTS: rows of slots, each with who has them.
pub fn write_slots(facts: &Facts<'_>, reply: &mut Reply<'_>) {
    let runs = runs(facts.map);
    reply.array(runs.len());
    for run in runs {
        reply.array(3);
        reply.integer(run.first.into());
        reply.integer(run.last.into());
        write_endpoint(
            &facts.nodes()[usize::from(run.owner)],
            facts.endpoint,
            reply,
        );
    }
}

fn write_endpoint(node: &Node, kind: EndpointType, reply: &mut Reply<'_>) {
    reply.array(4);
    match endpoint(node, kind) {
        Some(endpoint) => reply.bulk(endpoint.as_bytes()),
        None => reply.null(),
    }
    reply.integer(node.cluster_port.into());
    reply.bulk(node.id.to_string().as_bytes());
    // What else is known of it beside the endpoint.
    let ip = (kind != EndpointType::Ip).then_some(("ip", &node.host));
    let hostname = (kind != EndpointType::Hostname && !node.hostname.is_empty())
        .then_some(("hostname", &node.hostname));
    let others: Vec<_> = ip.into_iter().chain(hostname).collect();
    reply.map(others.len());
    for (name, value) in others {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

/// CLUSTER SHARDS: nodes, each with its rows of slots.
pub fn write_shards(facts: &Facts<'_>, reply: &mut Reply<'_>) {
    let runs = runs_by_node(facts.map);
    let none = Vec::new();
    reply.array(facts.nodes().len());
    for (index, node) in facts.nodes().iter().enumerate() {
        let runs = runs.get(index).unwrap_or(&none);
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(2 * runs.len());
        for run in runs {
            reply.integer(run.first.into());
            reply.integer(run.last.into());
        }
        reply.bulk(b"nodes");
        reply.array(1);
        write_shard_node(node, facts.endpoint, reply);
    }
}

fn write_shard_node(node: &Node, kind: EndpointType, reply: &mut Reply<'_>) {
    let has_hostname = !node.hostname.is_empty();
    reply.map(7 + usize::from(has_hostname));
    write_field(reply, "id", &node.id.to_string());
    reply.bulk(b"port");
    reply.integer(node.cluster_port.into());
    write_field(reply, "ip", &node.host);
    write_field(reply, "endpoint", endpoint(node, kind).unwrap_or(""));
    if has_hostname {
        write_field(reply, "hostname", &node.hostname);
    }
    write_field(reply, "role", "master");
    reply.bulk(b"replication-offset");
    reply.integer(0);
    let is_failed = node.state == NodeState::Failed;
    write_field(reply, "health", if is_failed { "fail" } else { "online" });
}

fn write_field(reply: &mut Reply<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

/// CLUSTER NODES: a line for each node.
pub fn nodes(facts: &Facts<'_>) -> String {
    let runs = runs_by_node(facts.map);
    let mut text = String::new();
    for (index, node) in facts.nodes().iter().enumerate() {
        write_node(facts, node, &mut text);
        for run in runs.get(index).into_iter().flatten() {
            text.push(' ');
            write_run(*run, &mut text);
        }
        text.push('\n');
    }
    text
}

/// `<id> <ip:port@bus-port[,hostname]> <flags> <primary> <ping-sent> <pong-recv> <config-epoch> <link-state>`
fn write_node(facts: &Facts<'_>, node: &Node, text: &mut String) {
    let is_me = node.id == facts.this.id;
    let bus_port = node.bus.rsplit_once(':').map_or("0", |(_, port)| port);
    let hostname = if node.hostname.is_empty() { "" } else { "," };
    let me = if is_me { "myself," } else { "" };
    let failed = match node.state {
        NodeState::Failed => ",fail",
        NodeState::Up | NodeState::Leaving => "",
    };
    // A connection that says nothing for long is ended by the bus, so a pong came at least when this one was made.
    let (is_connected, heard) = facts.contact(node);
    let link = if is_me || is_connected {
        "connected"
    } else {
        "disconnected"
    };
    write!(
        text,
        "{} {}:{}@{bus_port}{hostname}{} {me}master{failed} - 0 {} {} {link}",
        node.id,
        node.host,
        node.cluster_port,
        node.hostname,
        if is_me { 0 } else { heard },
        facts.map.epoch,
    )
    .expect("writing to a String cannot fail");
}

fn write_run(run: Run, text: &mut String) {
    let written = if run.first == run.last {
        write!(text, "{}", run.first)
    } else {
        write!(text, "{}-{}", run.first, run.last)
    };
    written.expect("writing to a String cannot fail");
}

/// CLUSTER INFO: Redis's fields, then ours. No value has a colon: redis-py takes lines apart at every one.
pub fn info(facts: &Facts<'_>) -> String {
    let by_node = runs_by_node(facts.map);
    let assigned: usize = by_node.iter().map(|runs| slot_count(runs)).sum();
    let failed = by_node.iter().zip(&facts.map.nodes);
    let failed: usize = failed
        .filter(|(_, node)| node.state == NodeState::Failed)
        .map(|(runs, _)| slot_count(runs))
        .sum();
    let sum = |count: fn(&LinkInfo) -> u64| facts.links.iter().map(count).sum::<u64>();
    let fields = [
        ("slots_assigned", assigned as u64),
        ("slots_ok", (assigned - failed) as u64),
        ("slots_pfail", 0),
        ("slots_fail", failed as u64),
        ("known_nodes", facts.nodes().len() as u64),
        (
            "size",
            by_node.iter().filter(|runs| !runs.is_empty()).count() as u64,
        ),
        ("current_epoch", facts.map.epoch),
        ("my_epoch", facts.map.epoch),
        ("stats_messages_sent", sum(|link| link.frames_sent)),
        ("stats_messages_received", sum(|link| link.frames_received)),
    ];
    let mut text = String::new();
    let state = if facts.is_ok() { "ok" } else { "fail" };
    line(&mut text, "cluster_state", state);
    for (name, value) in fields {
        line(&mut text, &format!("cluster_{name}"), value);
    }
    line(&mut text, "total_cluster_links_buffer_limit_exceeded", 0);
    text + &ring_fields(facts)
}

/// What INFO says of the ring: `ring_` fields, a line for each node, and one for each that requests were forwarded to.
pub fn ring(facts: &Facts<'_>) -> String {
    let by_node = runs_by_node(facts.map);
    let mut text = ring_fields(facts);
    for (index, (node, runs)) in facts.map.nodes.iter().zip(&by_node).enumerate() {
        line(
            &mut text,
            &format!("ring_node{index}"),
            ring_node(node, slot_count(runs)),
        );
    }
    for (index, (node, forwards)) in facts.forwards.iter().enumerate() {
        line(
            &mut text,
            &format!("ring_forwards{index}"),
            ring_forwards(*node, forwards),
        );
    }
    text
}

/// What stands behind `ring_forwards0:`; times are in microseconds, as those of latencystats.
fn ring_forwards(node: NodeId, forwards: &Forwards) -> String {
    let percentile = |percent| forwards.took.percentile(percent) as f64 / 1000.0;
    format!(
        "node={node},answered={},errors={},p50={:.3},p99={:.3},p99.9={:.3}",
        forwards.took.count(),
        forwards.errors,
        percentile(50.0),
        percentile(99.0),
        percentile(99.9),
    )
}

fn ring_fields(facts: &Facts<'_>) -> String {
    let map = facts.map;
    let by_node = runs_by_node(map);
    let me = map.index(facts.this.id);
    let mine = me.map_or(0, |me| slot_count(&by_node[usize::from(me)]));
    let moves = map.owners.iter().zip(&map.targets);
    let moves: Vec<_> = moves
        .filter(|(owner, target)| owner != target && **target != NOBODY)
        .collect();
    let away = moves.iter().filter(|(owner, _)| Some(**owner) == me);
    let towards = moves.iter().filter(|(_, target)| Some(**target) == me);
    let mut text = String::new();
    let state = if facts.is_ok() { "ok" } else { "fail" };
    line(&mut text, "ring_state", state);
    line(&mut text, "ring_epoch", map.epoch);
    line(&mut text, "ring_node_id", facts.this.id);
    if let Some((leader, term)) = facts.leader {
        line(&mut text, "ring_leader", leader);
        line(&mut text, "ring_term", term);
    }
    let sum = |count: fn(&LinkInfo) -> u64| facts.links.iter().map(count).sum::<u64>();
    line(&mut text, "ring_lease", u8::from(facts.has_lease));
    line(&mut text, "ring_slots", mine);
    line(&mut text, "ring_slots_leaving", away.count());
    line(&mut text, "ring_slots_coming", towards.count());
    line(&mut text, "ring_slots_misplaced", moves.len());
    let connected = facts.links.iter().filter(|link| link.since_ms.is_some());
    line(&mut text, "ring_links", connected.count());
    line(&mut text, "ring_link_errors", sum(|link| link.errors));
    line(&mut text, "ring_bytes_sent", sum(|link| link.bytes_sent));
    line(
        &mut text,
        "ring_bytes_received",
        sum(|link| link.bytes_received),
    );
    line(
        &mut text,
        "ring_calls_waiting",
        sum(|link| link.waiting as u64),
    );
    let forwards = || facts.forwards.values();
    let answered: u64 = forwards().map(|to| to.took.count()).sum();
    let errors: u64 = forwards().map(|to| to.errors).sum();
    line(&mut text, "ring_forwards", answered);
    line(&mut text, "ring_forward_errors", errors);
    for (name, value) in facts.counters {
        line(&mut text, &format!("ring_{name}"), value);
    }
    line(&mut text, "ring_nodes", map.nodes.len());
    text
}

/// What stands behind `ring_node0:`.
fn ring_node(node: &Node, slots: usize) -> String {
    let state = match node.state {
        NodeState::Up => "up",
        NodeState::Leaving => "leaving",
        NodeState::Failed => "failed",
    };
    format!(
        "id={},address={},cluster_port={},bus={},state={state},weight={},slots={slots},incarnation={}",
        node.id,
        host_port(&node.host, node.port),
        node.cluster_port,
        node.bus,
        node.weight,
        node.incarnation,
    )
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    write!(text, "{name}:{value}\r\n").expect("writing to a String cannot fail");
}

/// CLUSTER LINKS: the connections that stand.
pub fn write_links(facts: &Facts<'_>, reply: &mut Reply<'_>) {
    let proven = |link: &LinkInfo| Some((link.peer?, link.since_ms?, link.clone()));
    let links: Vec<_> = facts.links.iter().filter_map(proven).collect();
    reply.array(links.len());
    for (peer, since_ms, link) in links {
        let has_more = link.queued_bytes > 0;
        reply.map(6);
        write_field(
            reply,
            "direction",
            if link.incoming { "from" } else { "to" },
        );
        write_field(reply, "node", &peer.to_string());
        reply.bulk(b"create-time");
        reply.integer(since_ms as i64);
        write_field(reply, "events", if has_more { "rw" } else { "r" });
        reply.bulk(b"send-buffer-allocated");
        reply.integer(link.queue_capacity_bytes as i64);
        reply.bulk(b"send-buffer-used");
        reply.integer(link.queued_bytes as i64);
    }
}

#[cfg(test)]
mod tests;
