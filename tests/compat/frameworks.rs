//! Frameworks as they come from their registries, unchanged: what they keep in a server, by scripts, transactions, streams,
//! blocking pops and messages. Each program of `tests/clients` drives one (or two that are alike), prints a line for each
//! step, and ends with status 1 at the first wrong result.

use std::process::Command;

use crate::cli::{found, is_installed};
use crate::libraries::{path, python, run};

/// Runs a program of a package for Node.js, if that is there.
fn node(package: &str, program: &str) {
    let installed = path("target/clients/node_modules")
        .join(package)
        .join("package.json");
    if found(installed.exists(), package, program) {
        run(
            "node",
            &format!("tests/clients/{program}"),
            program,
            &[],
            &[],
        );
    }
}

/// Runs a program of a Python module, if that is there.
fn python_with(module: &str, program: &str) {
    let python = python();
    if !is_installed(&python, program) {
        return;
    }
    let look = format!("import importlib.util; assert importlib.util.find_spec('{module}')");
    let output = Command::new(&python).args(["-c", &look]).output();
    let installed = output.expect("it is installed").status.success();
    if found(installed, module, program) {
        run(
            &python,
            &format!("tests/clients/{program}"),
            program,
            &[],
            &[],
        );
    }
}

#[test]
fn bullmq() {
    node("bullmq", "bullmq.js");
}

#[test]
fn bull() {
    node("bull", "bull.js");
}

#[test]
fn ioredis_scripts() {
    node("ioredis", "ioredis_scripts.js");
}

#[test]
fn redlock_and_rate_limiter_flexible() {
    node("redlock", "locks.js");
}

#[test]
fn socket_io() {
    node("socket.io", "socketio.js");
}

#[test]
fn celery() {
    python_with("celery", "celery_tasks.py");
}

#[test]
fn kombu() {
    python_with("kombu", "kombu_messages.py");
}

#[test]
fn rq() {
    python_with("rq", "rq_jobs.py");
}

#[test]
fn dramatiq() {
    python_with("dramatiq", "dramatiq_actors.py");
}

#[test]
fn django() {
    python_with("django_redis", "django_cache.py");
}

#[test]
fn django_channels() {
    python_with("channels_redis", "channels_layer.py");
}

#[test]
fn redis_py_scripts() {
    python_with("redis", "redis_py_scripts.py");
}
