//! Runs one kind of request through the engine, without sockets, so that its instructions can be counted:
//!
//! ```text
//! cargo build --release --example count
//! valgrind --tool=callgrind --toggle-collect='*measured*' target/release/examples/count get 2000
//! ```
//!
//! The arguments are a kind (see [`KINDS`]) and how many pipelines of it to count. Divided by the number of requests, which
//! is printed, the total is what one of them costs; the same number of pipelines gives the same total to a few instructions
//! in ten thousand, whatever else the machine does.

use std::sync::Arc;

use bytes::BytesMut;
use quoit::base::clock::Clock;
use quoit::config::{Config, Machine, Settings};
use quoit::dispatch::{Runner, Step, WINDOW, directory};
use quoit::resp::decode::{Decoder, Limits, Status};
use quoit::resp::reply::Output;
use quoit::state::Server;
use quoit::state::clients::Client;
use quoit::state::session::Session;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Requests of a pipeline.
const PIPELINE: usize = 16;

const KEYS: usize = 10_000;

/// What can be counted: its name, what a connection does first, and request number n.
type Kind = (
    &'static str,
    &'static [&'static [&'static str]],
    fn(usize) -> Vec<String>,
);

const KINDS: &[Kind] = &[
    ("ping", &[], |_| words("PING")),
    ("get", &[], |n| words(&format!("GET {}", key(n)))),
    ("set", &[], |n| words(&format!("SET {} {VALUE}", key(n)))),
    ("expiring", &[], |n| {
        words(&format!("SET {} {VALUE} EX 100", key(n)))
    }),
    ("incr", &[], |_| words("INCR counter")),
    ("lpush", &[], |_| words("LPUSH list xxx")),
    ("sadd", &[], |n| words(&format!("SADD set {}", key(n)))),
    ("hset", &[], |n| words(&format!("HSET hash {} xxx", key(n)))),
    ("zadd", &[], |n| {
        words(&format!("ZADD zset {} {}", n % KEYS, key(n)))
    }),
    ("evalsha", &[&["SCRIPT", "LOAD", SCRIPT]], |n| {
        words(&format!("EVALSHA {SHA1} 1 {} {VALUE}", key(n)))
    }),
    // The last of six requests is the only one that runs commands.
    ("multi", &[], |n| match n % 6 {
        0 => words("MULTI"),
        5 => words("EXEC"),
        _ => words(&format!("SET {} {VALUE}", key(n))),
    }),
    (
        "tracked",
        &[&["HELLO", "3"], &["CLIENT", "TRACKING", "ON"]],
        |n| words(&format!("GET {}", key(n))),
    ),
];

const VALUE: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

const SCRIPT: &str =
    "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], ARGV[1]) return v";
const SHA1: &str = "6859df25966c787c7bd4164f4cf940916589a96f";

/// The keys of neighbours lie in different partitions, and none is the last one's.
fn key(n: usize) -> String {
    format!("k{:05}", n * 7919 % KEYS)
}

fn words(request: &str) -> Vec<String> {
    request.split(' ').map(String::from).collect()
}

fn wire(words: &[impl AsRef<str>]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len());
    for word in words {
        let word = word.as_ref();
        wire += &format!("${}\r\n{word}\r\n", word.len());
    }
    wire.into_bytes()
}

/// One connection's state, without its socket.
struct Connection {
    runner: Runner,
    session: Session,
    decoder: Decoder,
    input: BytesMut,
    output: Output,
}

impl Connection {
    fn new(server: &Arc<Server>) -> Connection {
        let id = server.clients.next_id();
        let address = String::from("example:0");
        let now = server.clock.now();
        let client = Client::new(id, address.clone(), address, 0, false, now);
        Connection {
            runner: Runner::new(Arc::clone(server)),
            session: Session::new(Arc::new(client), true),
            decoder: Decoder::new(),
            input: BytesMut::new(),
            output: Output::new(),
        }
    }

    /// Runs a pipeline as a connection does. Nothing is contended here: nobody else is there.
    fn run(&mut self, pipeline: &[u8]) {
        self.input.extend_from_slice(pipeline);
        let limits = Limits::authenticated(512 * 1024 * 1024);
        self.runner.begin_batch();
        while let Ok(Status::Request) = self.decoder.next(&self.input, &limits) {
            if self.decoder.turn() == 0 {
                self.decoder.look_ahead(&self.input, &limits, WINDOW);
                self.runner
                    .foresee(&self.session, self.decoder.window(&self.input));
            }
            let turn = self.decoder.turn();
            let arguments = self.decoder.arguments(&self.input);
            let (session, output) = (&mut self.session, &mut self.output);
            let Step::Done = self.runner.run(session, arguments, output, turn, 0) else {
                panic!("no request here waits");
            };
        }
        self.runner.end_batch();
        self.decoder.release(&mut self.input);
        let sent = self.output.len_bytes();
        self.output.advance(sent);
    }
}

#[inline(never)]
fn measured(connection: &mut Connection, pipelines: &[Vec<u8>]) {
    pipelines
        .iter()
        .for_each(|pipeline| connection.run(pipeline));
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let count = arguments.next().and_then(|count| count.parse().ok());
    let known = KINDS.iter().find(|(known, ..)| *known == name);
    let (Some((_, first, request)), Some(count)) = (known, count) else {
        let names: Vec<_> = KINDS.iter().map(|(name, ..)| *name).collect();
        eprintln!("usage: count {} PIPELINES", names.join("|"));
        std::process::exit(1);
    };
    let config = Config::new(Settings::new(Machine::probe()));
    let server = Server::new(config, Clock::system(), directory(), 2);
    let mut connection = Connection::new(&server);
    for n in 0..KEYS {
        connection.run(&wire(&["SET", &key(n), VALUE]));
    }
    first.iter().for_each(|words| connection.run(&wire(words)));
    // Whole transactions of 6 make a whole number of pipelines.
    let pipelines: Vec<Vec<u8>> = (0..count)
        .map(|number| number * PIPELINE..(number + 1) * PIPELINE)
        .map(|numbers| numbers.flat_map(|n| wire(&request(n))).collect())
        .collect();
    // Once before it counts: everything has its size then.
    pipelines
        .iter()
        .for_each(|pipeline| connection.run(pipeline));
    measured(&mut connection, &pipelines);
    println!("{name}: {} requests", count * PIPELINE);
}
