//! The engine with a server of a few commands.
//!
//! `corpus.txt` holds what redis-server 7.0.15 answers to the same scripts. It was written by a program that sent each to
//! such a server by EVAL (the functions by FUNCTION LOAD and FCALL), the database empty, and noted the bytes it got.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::engine::{Engine, EngineOptions, LibraryText, ScriptRun};
use super::{Host, Interrupt, Script};
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::resp::reply::{Output, Protocol, Reply};

mod corpus;
mod fuzz;
mod runs;
mod sandbox;

/// A server of a few commands.
#[derive(Default)]
struct FakeServer {
    values: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    /// Levels and messages.
    logged: Vec<(u8, Vec<u8>)>,
    replication: Option<u8>,
    calls: usize,
}

impl Host for FakeServer {
    fn call(&mut self, request: Arguments<'_>, protocol: Protocol, reply: &mut Output) {
        self.calls += 1;
        let request: Vec<&[u8]> = request.iter().collect();
        let mut reply = Reply::new(reply, protocol);
        if let Err(error) = self.run(&request, &mut reply) {
            reply.error(error);
        }
    }

    fn set_replication(&mut self, targets: u8) {
        self.replication = Some(targets);
    }

    fn log(&mut self, level: u8, message: &[u8]) {
        self.logged.push((level, message.to_vec()));
    }

    fn may_run(&mut self, request: Arguments<'_>) -> Option<bool> {
        match request[0].to_ascii_lowercase().as_slice() {
            b"get" => Some(true),
            b"flushall" => Some(false),
            _ => None,
        }
    }
}

impl FakeServer {
    fn run(&mut self, request: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), &'static str> {
        const ARITY: &str = "ERR Wrong number of args calling Redis command from script";
        let name = request[0].to_ascii_lowercase();
        let first = |values: &BTreeMap<Vec<u8>, Vec<Vec<u8>>>, key: &[u8]| {
            values.get(key).and_then(|value| value.first().cloned())
        };
        match (name.as_slice(), &request[1..]) {
            (b"ping", []) => reply.simple("PONG"),
            (b"ping", _) => return Err("ERR wrong number of arguments for 'ping' command"),
            (b"echo", [text]) => reply.bulk(text),
            // A reply as it is given.
            (b"raw", [bytes]) => reply.raw(bytes),
            (b"set", [_, _, b"XX", b"NX"]) => return Err("ERR syntax error"),
            (b"set", [key, value]) => {
                self.values.insert(key.to_vec(), vec![value.to_vec()]);
                reply.ok();
            }
            (b"get", [key]) => match first(&self.values, key) {
                Some(value) => reply.bulk(&value),
                None => reply.null(),
            },
            (b"mget", keys) => {
                reply.array(keys.len());
                for key in keys {
                    match first(&self.values, key) {
                        Some(value) => reply.bulk(&value),
                        None => reply.null(),
                    }
                }
            }
            (b"incr", [key]) => {
                let value = first(&self.values, key).unwrap_or(b"0".to_vec());
                let value = crate::data::number::parse_i64(&value)
                    .ok_or("ERR value is not an integer or out of range")?;
                let value = value + 1;
                let text = value.to_string().into_bytes();
                self.values.insert(key.to_vec(), vec![text]);
                reply.integer(value);
            }
            (b"del", keys @ [_, ..]) => {
                let removed = keys
                    .iter()
                    .filter(|key| self.values.remove(**key).is_some());
                reply.integer(removed.count() as i64);
            }
            (b"rpush" | b"sadd" | b"hset" | b"zadd", [key, elements @ ..]) => {
                let value = self.values.entry(key.to_vec()).or_default();
                value.extend(elements.iter().map(|element| element.to_vec()));
                reply.integer(value.len() as i64);
            }
            (b"lrange", [key, _, _]) => {
                let value = self.values.get(*key).cloned().unwrap_or_default();
                reply.array(value.len());
                value.iter().for_each(|element| reply.bulk(element));
            }
            (b"smembers", [key]) => {
                let value = self.values.get(*key).cloned().unwrap_or_default();
                reply.set(value.len());
                value.iter().for_each(|element| reply.bulk(element));
            }
            (b"hgetall", [key]) => {
                let value = self.values.get(*key).cloned().unwrap_or_default();
                reply.map(value.len() / 2);
                value.iter().for_each(|element| reply.bulk(element));
            }
            (b"zscore", [key, _]) => match first(&self.values, key) {
                Some(score) => reply.double(crate::data::number::parse_f64(&score).unwrap_or(0.0)),
                None => reply.null(),
            },
            (
                b"get" | b"set" | b"echo" | b"incr" | b"del" | b"lrange" | b"smembers" | b"hgetall"
                | b"zscore",
                _,
            ) => return Err(ARITY),
            _ => return Err("ERR Unknown Redis command called from script"),
        }
        Ok(())
    }
}

thread_local! {
    static BREATHS: Cell<usize> = const { Cell::new(0) };
}

fn breathe() {
    BREATHS.set(BREATHS.get() + 1);
}

const MEMORY: usize = 64 * 1024 * 1024;

fn engine_with(memory_limit: usize) -> Engine {
    Engine::new(EngineOptions {
        memory_limit,
        breathe,
        redis_version: "7.0.15",
    })
}

fn engine() -> Engine {
    engine_with(MEMORY)
}

/// Keys and arguments as EVAL has them: the number of keys first.
fn split_keys(arguments: &[&[u8]]) -> (OwnedArguments, OwnedArguments) {
    let count = str::from_utf8(arguments[0])
        .ok()
        .and_then(|count| count.parse().ok());
    let (keys, values) = arguments[1..].split_at(count.unwrap_or(0));
    (OwnedArguments::from(keys), OwnedArguments::from(values))
}

/// What is sent to the client: the reply, or the error.
fn sent(
    protocol: Protocol,
    run: impl FnOnce(&mut Reply<'_>) -> Result<(), crate::table::error::CommandError>,
) -> Vec<u8> {
    let mut output = Output::new();
    let mut reply = Reply::new(&mut output, protocol);
    if let Err(error) = run(&mut reply) {
        reply.error_bytes(&error.wire());
    }
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let count = output.fill(&mut slices);
        let chunk: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        let len = chunk.len();
        bytes.extend(chunk);
        output.advance(len);
    }
    bytes
}

/// EVAL.
fn eval_on(
    engine: &mut Engine,
    server: &mut FakeServer,
    protocol: Protocol,
    text: &[u8],
    arguments: &[&[u8]],
) -> Vec<u8> {
    let (keys, values) = split_keys(arguments);
    sent(protocol, |reply| {
        let script = Script::new(Bytes::copy_from_slice(text))?;
        let run = ScriptRun {
            host: server,
            interrupt: &Arc::default(),
        };
        engine.eval(
            &script,
            keys.as_arguments(),
            values.as_arguments(),
            run,
            reply,
        )
    })
}

/// EVAL without keys on a new server, RESP2.
fn eval(engine: &mut Engine, text: impl AsRef<[u8]>) -> String {
    let server = &mut FakeServer::default();
    let reply = eval_on(engine, server, Protocol::Resp2, text.as_ref(), &[b"0"]);
    String::from_utf8_lossy(&reply).into_owned()
}

/// FUNCTION LOAD, and FCALL of `f` if that succeeds.
fn load_and_call(
    engine: &mut Engine,
    server: &mut FakeServer,
    protocol: Protocol,
    text: &[u8],
    arguments: &[&[u8]],
) -> Vec<u8> {
    let (keys, values) = split_keys(arguments);
    sent(protocol, |reply| {
        let library = LibraryText::parse([b"#!lua name=lib\n", text].concat().into())?;
        let interrupt = &Arc::default();
        let host = &mut *server;
        let specs = engine.load_library(&library, ScriptRun { host, interrupt })?;
        if !specs.iter().any(|spec| spec.name == "f") {
            let text = "ERR Function not found";
            return Err(crate::table::error::CommandError::fixed(text));
        }
        let run = ScriptRun {
            host: server,
            interrupt,
        };
        let (keys, values) = (keys.as_arguments(), values.as_arguments());
        engine.call_function(&library, "f", keys, values, run, reply)
    })
}
