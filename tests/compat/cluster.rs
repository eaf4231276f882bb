//! Clients that know Redis Cluster, on the cluster face of a ring of three: redis-py, Valkey GLIDE, ioredis, node-redis, Predis,
//! redis-cli; redis-rs has a file of its own, [`super::redis_rs_cluster`].

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::{Running, found, is_installed};
use crate::libraries::{path, python};
use crate::nodes::Ring;
use crate::support::{Value, eventually};

/// Runs a program with arguments to its end, which must be a good one: what it printed.
#[track_caller]
fn said(mut command: Command) -> String {
    let output = Running::start(&mut command).finish(b"");
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}",
        output.status
    );
    text
}

/// Three nodes that have shared out the slots.
pub fn ring() -> Ring {
    let ring = Ring::of(3);
    ring.settle();
    ring
}

/// A program of tests/clients, told where a ring is.
fn talk(ring: &Ring, interpreter: &str, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(interpreter);
    command
        .arg(path(program))
        .arg(ring.cluster_port(0).to_string())
        .args(arguments)
        .env("NODE_PATH", path("target/clients/node_modules"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a program of tests/clients on a ring.
fn run(interpreter: &str, program: &str, test: &str, arguments: &[&str]) {
    if !is_installed(interpreter, test) {
        return;
    }
    let mut ring = ring();
    said(talk(&ring, interpreter, program, arguments));
    for node in &mut ring.nodes {
        assert!(node.is_alive(), "a node ended:\n{}", node.log());
    }
}

#[test]
fn redis_py_cluster_resp2() {
    run(
        &python(),
        "tests/clients/redis_py_cluster.py",
        "redis_py_cluster_resp2",
        &["2"],
    );
}

#[test]
fn redis_py_cluster_resp3() {
    run(
        &python(),
        "tests/clients/redis_py_cluster.py",
        "redis_py_cluster_resp3",
        &["3"],
    );
}

#[test]
fn ioredis_and_node_redis() {
    run(
        "node",
        "tests/clients/cluster.js",
        "ioredis_and_node_redis",
        &[],
    );
}

/// A node joins a ring and another leaves it, while a load counts its rounds in `written`. Goes on without the load once it has
/// ended: whoever began it says why.
pub fn come_and_go(ring: &mut Ring, mut has_ended: impl FnMut() -> bool) {
    let mut goes_on = |ring: &Ring| {
        let mut client = ring.client(0);
        let mut written = || match client.line("GET written") {
            Value::Bulk(text) => String::from_utf8_lossy(&text)
                .parse::<u64>()
                .expect("it is counted"),
            _ => 0,
        };
        let before = written();
        eventually("the load to go on", || {
            (has_ended() || written() > before + 100).then_some(())
        });
    };
    goes_on(ring);
    ring.add(&[]);
    ring.settle();
    goes_on(ring);
    ring.forget(1);
    goes_on(ring);
}

/// While a node joins and another leaves, clients that know the cluster see no error, and read what they wrote last.
fn meanwhile(interpreter: &str, program: &str, arguments: &[&str], test: &str) {
    if !is_installed(interpreter, test) {
        return;
    }
    let mut ring = ring();
    let mut command = talk(&ring, interpreter, program, arguments);
    let mut load = Running::start(&mut command);
    come_and_go(&mut ring, || load.has_ended());
    // The end of its input is its end.
    let output = load.finish(b"");
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&all);
    assert!(output.status.success(), "{}\n{text}", output.status);
}

#[test]
fn redis_py_while_nodes_come_and_go() {
    meanwhile(
        &python(),
        "tests/clients/cluster_load.py",
        &["redis-py"],
        "redis_py_while_nodes_come_and_go",
    );
}

#[test]
fn redis_py_asyncio_while_nodes_come_and_go() {
    meanwhile(
        &python(),
        "tests/clients/cluster_load.py",
        &["redis-py-asyncio"],
        "redis_py_asyncio_while_nodes_come_and_go",
    );
}

#[test]
fn glide_while_nodes_come_and_go() {
    meanwhile(
        &python(),
        "tests/clients/cluster_load.py",
        &["glide"],
        "glide_while_nodes_come_and_go",
    );
}

#[test]
fn ioredis_while_nodes_come_and_go() {
    meanwhile(
        "node",
        "tests/clients/cluster_load.js",
        &["ioredis"],
        "ioredis_while_nodes_come_and_go",
    );
}

#[test]
fn node_redis_while_nodes_come_and_go() {
    meanwhile(
        "node",
        "tests/clients/cluster_load.js",
        &["node-redis"],
        "node_redis_while_nodes_come_and_go",
    );
}

#[test]
fn predis_while_nodes_come_and_go() {
    let package = path("/usr/share/php/Predis/autoload.php");
    if !found(package.exists(), "Predis", "predis_while_nodes_come_and_go") {
        return;
    }
    meanwhile(
        "php",
        "tests/clients/cluster_load.php",
        &[],
        "predis_while_nodes_come_and_go",
    );
}

/// redis-cli follows redirections while nodes come and go: some requests by each of many, one after the other.
#[test]
fn redis_cli_while_nodes_come_and_go() {
    if !is_installed("redis-cli", "redis_cli_while_nodes_come_and_go") {
        return;
    }
    let mut ring = ring();
    let port = ring.cluster_port(0).to_string();
    let stop = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&stop);
    let load = std::thread::spawn(move || {
        for round in 1.. {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            let (mut requests, mut replies) = (String::new(), String::new());
            for number in 0..30 {
                let before = round - 1;
                requests += &format!("APPEND key:{number} x\nSTRLEN key:{number}\nINCR written\n");
                replies += &format!("{round}\n{round}\n{}\n", before * 30 + number + 1);
            }
            let mut command = Command::new("redis-cli");
            command.args(["-c", "-p", &port]);
            let output = Running::start(&mut command).finish(requests.as_bytes());
            let said = String::from_utf8_lossy(&output.stdout);
            let said = said
                .lines()
                .filter(|line| !line.starts_with("-> Redirected to slot "));
            assert_eq!(
                said.collect::<Vec<_>>(),
                replies.lines().collect::<Vec<_>>()
            );
        }
    });
    come_and_go(&mut ring, || load.is_finished());
    stop.store(true, Ordering::Relaxed);
    load.join().expect("no request fails");
}

/// redis-cli follows redirections, and its cluster manager finds nothing to complain of.
#[test]
fn redis_cli() {
    if !is_installed("redis-cli", "redis_cli") {
        return;
    }
    let ring = ring();
    let cli = |node: usize, arguments: &[&str]| {
        let port = ring.cluster_port(node).to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port]).args(arguments);
        said(command)
    };
    let manage = |what: &[&str]| {
        let address = format!("127.0.0.1:{}", ring.cluster_port(1));
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", what[0], &address]);
        command.args(&what[1..]);
        said(command)
    };
    for number in 0..30 {
        let key = format!("key:{number}");
        assert_eq!(cli(number % 3, &["-c", "SET", &key, "x"]), "OK\n");
        assert_eq!(cli((number + 1) % 3, &["-c", "GET", &key]), "x\n");
    }
    let check = manage(&["check"]);
    assert!(
        check.contains("[OK] All nodes agree about slots configuration."),
        "{check}"
    );
    assert!(check.contains("[OK] All 16384 slots covered."), "{check}");
    assert!(check.contains("[OK] 30 keys in 3 masters."), "{check}");
    assert!(
        !check.contains("[WARNING]") && !check.contains("[ERR]"),
        "{check}"
    );
    let info = manage(&["info"]);
    assert!(info.contains("[OK] 30 keys in 3 masters."), "{info}");
    let called = manage(&["call", "CLUSTER", "MYID"]);
    for node in 0..3 {
        let name = ring.aware(node).line("CLUSTER MYID").text();
        assert!(called.contains(&name), "{called}");
    }
}
