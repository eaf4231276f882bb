//! The Lua engine with a server that answers at once.
//!
//! Nanoseconds per script: an empty one, GET and SET of one key as frameworks write them, larger replies, a loop without
//! commands, compiling. What it does not show are the commands themselves, their locks, and the network.

use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quoit::resp::decode::{Arguments, OwnedArguments};
use quoit::resp::reply::{Output, Protocol, Reply};
use quoit::script::engine::{Engine, EngineOptions, ScriptRun};
use quoit::script::{Host, Interrupt, Script};

/// Answers GET with 64 bytes, LRANGE with 100 elements, all else with OK.
struct Echo;

impl Host for Echo {
    fn call(&mut self, request: Arguments<'_>, protocol: Protocol, reply: &mut Output) {
        let mut reply = Reply::new(reply, protocol);
        match &request[0] {
            b"GET" => reply.bulk(&[b'v'; 64]),
            b"LRANGE" => {
                reply.array(100);
                (0..100).for_each(|_| reply.bulk(b"an element of a list"));
            }
            b"INCR" => reply.integer(12_345),
            _ => reply.ok(),
        }
    }

    fn set_replication(&mut self, _: u8) {}

    fn log(&mut self, _: u8, _: &[u8]) {}

    fn may_run(&mut self, _: Arguments<'_>) -> Option<bool> {
        None
    }
}

fn engine() -> Engine {
    Engine::new(EngineOptions {
        memory_limit: 256 * 1024 * 1024,
        breathe: || {},
        redis_version: "7.4.0",
    })
}

fn run(
    engine: &mut Engine,
    script: &Script,
    keys: &OwnedArguments,
    values: &OwnedArguments,
    output: &mut Output,
) {
    let interrupt = Arc::new(Interrupt::default());
    let run = ScriptRun {
        host: &mut Echo,
        interrupt: &interrupt,
    };
    let mut reply = Reply::new(output, Protocol::Resp2);
    let (keys, values) = (keys.as_arguments(), values.as_arguments());
    let result = engine.eval(script, keys, values, run, &mut reply);
    assert!(result.is_ok(), "{result:?}");
    output.advance(output.len_bytes());
}

fn scripts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("script");
    group.throughput(Throughput::Elements(1));
    let value = "v".repeat(64);
    for (name, text) in [
        ("nothing", "return 1"),
        ("get", "return redis.call('GET', KEYS[1])"),
        (
            "get-set",
            "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], ARGV[1]) return v",
        ),
        (
            "lock-release",
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end",
        ),
        (
            "incr-100",
            "local n for i = 1, 100 do n = redis.call('INCR', KEYS[1]) end return n",
        ),
        ("lrange-100", "return #redis.call('LRANGE', KEYS[1], 0, -1)"),
        ("return-100", "return redis.call('LRANGE', KEYS[1], 0, -1)"),
        (
            "loop-10000",
            "local s = 0 for i = 1, 10000 do s = s + i end return s",
        ),
        (
            "pcall",
            "local ok, v = pcall(redis.call, 'GET', KEYS[1]) return v",
        ),
    ] {
        let mut engine = engine();
        let script = Script::new(Bytes::from_static(text.as_bytes())).expect("no header");
        let keys = OwnedArguments::from(&["key:000012"]);
        let values = OwnedArguments::from(&[value.as_str()]);
        let mut output = Output::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| run(&mut engine, &script, &keys, &values, &mut output));
        });
    }
    group.finish();
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    let line = "local v = redis.call('GET', KEYS[1]) if v == ARGV[1] then redis.call('DEL', KEYS[1]) end\n";
    for lines in [1, 10, 100] {
        let mut engine = engine();
        let mut number = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("new-text/{lines}"), |bencher| {
            bencher.iter_batched(
                || {
                    number += 1;
                    let text = format!(
                        "do {} end return {number}",
                        line.replace('\n', " end do ").repeat(lines)
                    );
                    Script::new(text.into()).expect("no header")
                },
                |script| assert!(engine.compile(&script).is_ok()),
                BatchSize::SmallInput,
            );
        });
    }
    group.bench_function("new-engine", |bencher| bencher.iter(engine));
    group.finish();
}

criterion_group!(benches, scripts, compiling);
criterion_main!(benches);
