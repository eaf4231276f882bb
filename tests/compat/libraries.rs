//! redis-py, ioredis and node-redis: each program of `tests/clients` is run against a server and says what went wrong.

use std::path::PathBuf;
use std::process::Command;

use crate::cli::{Running, found, is_installed};
use crate::support::Server;

/// Below the crate.
pub fn path(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// Runs a program with the port and more arguments; its output is shown when it fails.
pub fn run(
    interpreter: &str,
    program: &str,
    test: &str,
    server_arguments: &[&str],
    arguments: &[&str],
) {
    if !is_installed(interpreter, test) {
        return;
    }
    let mut server = Server::start(server_arguments);
    let mut command = Command::new(interpreter);
    command
        .arg(path(program))
        .arg(server.port.to_string())
        .args(arguments);
    command
        .env("NODE_PATH", path("target/clients/node_modules"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = Running::start(&mut command).finish(b"");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&said)
    );
    assert!(server.is_alive(), "the server ended:\n{}", server.log());
}

/// The interpreter that the packages of `requirements.txt` are installed for.
pub fn python() -> String {
    path("target/clients/venv/bin/python")
        .to_string_lossy()
        .into_owned()
}

#[test]
fn redis_py_resp2() {
    run(
        &python(),
        "tests/clients/redis_py.py",
        "redis_py_resp2",
        &[],
        &["2"],
    );
}

#[test]
fn redis_py_resp3() {
    run(
        &python(),
        "tests/clients/redis_py.py",
        "redis_py_resp3",
        &[],
        &["3"],
    );
}

#[test]
fn redis_py_with_password() {
    let arguments = &["--requirepass", "secret"];
    run(
        &python(),
        "tests/clients/redis_py.py",
        "redis_py_with_password",
        arguments,
        &["3", "secret"],
    );
}

#[test]
fn ioredis() {
    let package = path("target/clients/node_modules/ioredis/package.json");
    if found(package.exists(), "ioredis", "ioredis") {
        run("node", "tests/clients/ioredis.js", "ioredis", &[], &[]);
    }
}

#[test]
fn node_redis() {
    let package = path("target/clients/node_modules/@redis/client/package.json");
    if found(package.exists(), "node-redis", "node_redis") {
        run(
            "node",
            "tests/clients/node_redis.js",
            "node_redis",
            &[],
            &[],
        );
    }
}
