//! CLUSTER and its kin, with and without a ring, on both faces.

use super::*;
use crate::admin::testing::{Connection, Host};

const DISABLED: &str = "-ERR This instance has cluster support disabled\r\n";

/// A host that is node 1 of a ring of two; nothing was moved yet.
fn host_in_ring() -> Host {
    Host::in_ring(2, &["queue:"])
}

fn on_cluster_face(host: &Host) -> Connection {
    let mut client = host.client();
    client.sees_cluster = true;
    client
}

/// Every command of the family, with arguments that it takes.
const ALL: &[&str] = &[
    "ASKING",
    "CLUSTER ADDSLOTS 1",
    "CLUSTER ADDSLOTSRANGE 1 2",
    "CLUSTER BUMPEPOCH",
    "CLUSTER COUNT-FAILURE-REPORTS x",
    "CLUSTER DELSLOTS 1",
    "CLUSTER DELSLOTSRANGE 1 2",
    "CLUSTER FAILOVER",
    "CLUSTER FLUSHSLOTS",
    "CLUSTER FORGET x",
    "CLUSTER HELP",
    "CLUSTER INFO",
    "CLUSTER KEYSLOT a",
    "CLUSTER LINKS",
    "CLUSTER MEET 127.0.0.1 7000",
    "CLUSTER MYID",
    "CLUSTER MYSHARDID",
    "CLUSTER NODES",
    "CLUSTER REPLICAS x",
    "CLUSTER REPLICATE x",
    "CLUSTER RESET",
    "CLUSTER SAVECONFIG",
    "CLUSTER SET-CONFIG-EPOCH 1",
    "CLUSTER SETSLOT 1 STABLE",
    "CLUSTER SHARDS",
    "CLUSTER SLAVES x",
    "CLUSTER SLOTS",
    "CLUSTER WEIGHT 5",
    "READONLY",
    "READWRITE",
];

#[test]
fn without_a_ring() {
    // Aim: one refusal, that of redis-server, for all of the family.
    let host = Host::new();
    for mut client in [host.client(), on_cluster_face(&host)] {
        for line in ALL {
            assert_eq!(client.run(line), DISABLED, "{line}");
        }
    }
}

#[test]
fn the_single_face_looks_like_one_server() {
    // Aim: what libraries ask in order to find out whether they speak with a cluster is refused as by one server; what
    // operators ask is not.
    let host = host_in_ring();
    let mut client = host.client();
    let refused: Vec<&str> = ALL
        .iter()
        .filter(|line| client.run(line) == DISABLED)
        .copied()
        .collect();
    assert_eq!(
        refused,
        [
            "ASKING",
            "CLUSTER INFO",
            "CLUSTER NODES",
            "CLUSTER SHARDS",
            "CLUSTER SLOTS",
            "READONLY",
            "READWRITE"
        ]
    );
    let mut aware = on_cluster_face(&host);
    assert!(ALL.iter().all(|line| aware.run(line) != DISABLED));
}

#[test]
fn what_both_are_told() {
    let host = host_in_ring();
    let mut client = on_cluster_face(&host);
    let (one, two) = (NodeId([1; 20]), NodeId([2; 20]));
    for (line, reply) in [
        ("ASKING", "+OK\r\n".to_owned()),
        ("READONLY", "+OK\r\n".to_owned()),
        ("READWRITE", "+OK\r\n".to_owned()),
        ("CLUSTER MYID", format!("$40\r\n{one}\r\n")),
        ("CLUSTER MYSHARDID", format!("$40\r\n{one}\r\n")),
        ("CLUSTER KEYSLOT foo", ":12182\r\n".to_owned()),
        ("CLUSTER KEYSLOT a{foo}b", ":12182\r\n".to_owned()),
        // What is pinned lies together, whatever the key says.
        (
            "CLUSTER KEYSLOT queue:a",
            client.run("CLUSTER KEYSLOT queue:"),
        ),
        (
            "CLUSTER KEYSLOT queue:{b}",
            client.run("CLUSTER KEYSLOT queue:"),
        ),
        ("CLUSTER LINKS", "*0\r\n".to_owned()),
        (&format!("CLUSTER REPLICAS {two}"), "*0\r\n".to_owned()),
        (&format!("CLUSTER SLAVES {one}"), "*0\r\n".to_owned()),
        (
            &format!("CLUSTER COUNT-FAILURE-REPORTS {two}"),
            ":0\r\n".to_owned(),
        ),
        ("CLUSTER REPLICAS 03", "-ERR Unknown node 03\r\n".to_owned()),
        (
            "CLUSTER FAILOVER",
            "-ERR You should send CLUSTER FAILOVER to a replica\r\n".to_owned(),
        ),
    ] {
        assert_eq!(client.run(line), reply, "{line}");
    }
    // A name is compared as bytes.
    let shouted = "0A".repeat(20);
    assert_eq!(
        client.run(&format!("CLUSTER REPLICAS {shouted}")),
        format!("-ERR Unknown node {shouted}\r\n")
    );
}

#[test]
fn what_the_ring_does_itself_is_refused_with_the_reason() {
    let host = host_in_ring();
    for mut client in [host.client(), on_cluster_face(&host)] {
        for (line, reason) in [
            ("CLUSTER ADDSLOTS 1", "places slots itself"),
            ("CLUSTER ADDSLOTSRANGE 1 2", "places slots itself"),
            ("CLUSTER DELSLOTS 1", "places slots itself"),
            ("CLUSTER DELSLOTSRANGE 1 2", "places slots itself"),
            ("CLUSTER FLUSHSLOTS", "places slots itself"),
            ("CLUSTER SETSLOT 1 STABLE", "places slots itself"),
            ("CLUSTER BUMPEPOCH", "agree on its epoch"),
            ("CLUSTER SET-CONFIG-EPOCH 1", "agree on its epoch"),
            ("CLUSTER MEET 127.0.0.1 7000", "cluster-seeds"),
            ("CLUSTER REPLICATE x", "no replicas"),
            ("CLUSTER RESET HARD", "SIGTERM"),
            ("CLUSTER SAVECONFIG", "saved with each"),
        ] {
            let reply = client.run(line);
            assert!(
                reply.starts_with("-ERR ") && reply.contains(reason),
                "{line}: {reply}"
            );
        }
    }
}

#[test]
fn views_of_the_map() {
    let host = host_in_ring();
    let mut client = on_cluster_face(&host);
    let (one, two) = (NodeId([1; 20]), NodeId([2; 20]));
    // Nothing was moved yet: the first node has all slots, and the second is to have half of them.
    assert_eq!(
        client.run("CLUSTER SLOTS"),
        format!(
            "*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$9\r\n127.0.0.1\r\n:7101\r\n$40\r\n{one}\r\n*0\r\n"
        )
    );
    let nodes = format!(
        "{one} 127.0.0.1:7101@17001 myself,master - 0 0 2 connected 0-16383\n\
         {two} 127.0.0.1:7102@17002 master - 0 0 2 connected\n"
    );
    assert_eq!(
        client.run("CLUSTER NODES"),
        format!("${}\r\n{nodes}\r\n", nodes.len())
    );
    assert!(client.run("CLUSTER SHARDS").starts_with("*2\r\n*4\r\n"));
    let info = client.run("CLUSTER INFO");
    assert!(info.contains("\r\ncluster_state:ok\r\ncluster_slots_assigned:16384\r\n"));
    client.run("HELLO 3");
    assert_eq!(
        client.run("CLUSTER NODES"),
        format!("={}\r\ntxt:{nodes}\r\n", nodes.len() + 4)
    );
    assert!(client.run("CLUSTER INFO").starts_with('='));
    assert!(client.run("CLUSTER SHARDS").starts_with("*2\r\n%2\r\n"));
}

#[test]
fn info_and_hello_by_face() {
    // Aim: a plain client is told of one server, with the ring's fields beside it; one of the cluster face of a cluster.
    let host = host_in_ring();
    for (mut client, enabled, mode) in [
        (host.client(), 0, "standalone"),
        (on_cluster_face(&host), 1, "cluster"),
    ] {
        let info = client.run("INFO cluster");
        let lines: Vec<&str> = info.split("\r\n").skip(1).take(4).collect();
        let enabled = format!("cluster_enabled:{enabled}");
        assert_eq!(
            lines,
            ["# Cluster", &enabled, "ring_state:ok", "ring_epoch:2"]
        );
        assert!(info.contains("\r\nring_node1:id=0202"));
        let server = client.run("INFO server");
        assert!(server.contains(&format!("\r\nredis_mode:{mode}\r\n")));
        let hello = client.run("HELLO");
        assert!(hello.contains(&format!("$4\r\nmode\r\n${}\r\n{mode}\r\n", mode.len())));
    }
}

#[test]
fn help_is_complete() {
    // Aim: HELP names what works, and nothing that is refused.
    let host = host_in_ring();
    let help = host.client().run("CLUSTER HELP");
    for row in SUBCOMMANDS {
        let name = row.command.name.to_ascii_uppercase();
        let is_refused = row.command.summary.contains("refused");
        let is_old = row.command.name == "slaves";
        let line = format!("\r\n+{name}");
        let is_named = [format!("{line} "), format!("{line}\r")]
            .iter()
            .any(|line| help.contains(line));
        assert_eq!(is_named, !is_refused && !is_old, "{name}");
    }
}

#[test]
fn changes_of_the_ring() {
    // Aim: what is wrong is refused before anybody is asked; what would have to be asked says that nobody is there.
    let host = host_in_ring();
    let mut client = on_cluster_face(&host);
    let (one, two) = (NodeId([1; 20]), NodeId([2; 20]));
    let alone = "-ERR this node is not in a ring\r\n";
    for (line, reply) in [
        (
            format!("CLUSTER FORGET {one}"),
            "-ERR I tried hard but I can't forget myself...\r\n",
        ),
        ("CLUSTER FORGET x".into(), "-ERR Unknown node x\r\n"),
        (format!("CLUSTER FORGET {two}"), alone),
        (
            "CLUSTER WEIGHT x".into(),
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "CLUSTER WEIGHT 0".into(),
            "-ERR a weight is between 1 and 10000\r\n",
        ),
        (
            "CLUSTER WEIGHT 10001".into(),
            "-ERR a weight is between 1 and 10000\r\n",
        ),
        ("CLUSTER WEIGHT 5 x".into(), "-ERR Unknown node x\r\n"),
        (format!("CLUSTER WEIGHT 5 {two}"), alone),
        ("CLUSTER WEIGHT 5".into(), alone),
        // It has it.
        ("CLUSTER WEIGHT 100".into(), "+OK\r\n"),
    ] {
        assert_eq!(client.run(&line), reply, "{line}");
    }
}

#[test]
fn a_weight_that_the_ring_does_not_take_is_not_set() {
    let host = host_in_ring();
    let mut client = host.client();
    assert_eq!(
        client.run("CONFIG SET cluster-weight 5"),
        "-ERR CONFIG SET failed (possibly related to argument 'cluster-weight') - this node is not in a ring\r\n"
    );
    assert_eq!(
        client.run("CONFIG GET cluster-weight"),
        "*2\r\n$14\r\ncluster-weight\r\n$3\r\n100\r\n"
    );
    // Without a ring it is a number that the next start takes.
    let mut client = Host::new().client();
    assert_eq!(client.run("CONFIG SET cluster-weight 5"), "+OK\r\n");
}
