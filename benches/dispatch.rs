//! The engine without the network: decode, dispatch, lock, run, reply.
//!
//! `dispatch/*` is one thread, nanoseconds per request in pipelines of 64. `threads/*` runs the same work on one and on two
//! threads over one keyspace, each with its own connection state, and shows how far the engine scales; what it does not show
//! is the kernel's share, which is most of a request without a pipeline.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quoit::base::clock::Clock;
use quoit::config::{Config, Machine, Settings};
use quoit::dispatch::{Runner, Step, WINDOW, directory};
use quoit::resp::decode::{Decoder, Limits, Status};
use quoit::resp::reply::Output;
use quoit::state::Server;
use quoit::state::clients::Client;
use quoit::state::session::Session;

const KEYS: u64 = 100_000;
const PIPELINE: usize = 64;

fn server() -> Arc<Server> {
    Server::new(
        Config::new(Settings::new(Machine::probe())),
        Clock::system(),
        directory(),
        2,
    )
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
        let client = Client::new(
            server.clients.next_id(),
            "bench:0".into(),
            "bench:0".into(),
            0,
            false,
            server.clock.now(),
        );
        Connection {
            runner: Runner::new(Arc::clone(server)),
            session: Session::new(Arc::new(client), true),
            decoder: Decoder::new(),
            input: BytesMut::new(),
            output: Output::new(),
        }
    }

    /// Runs a pipeline as a connection does.
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
            let mut round = 0;
            while !matches!(
                self.runner.run(
                    &mut self.session,
                    self.decoder.arguments(&self.input),
                    &mut self.output,
                    turn,
                    round
                ),
                Step::Done
            ) {
                round += 1;
            }
        }
        self.runner.end_batch();
        self.decoder.release(&mut self.input);
        let sent = self.output.len_bytes();
        self.output.advance(sent);
    }
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}

fn set(number: u64) -> Vec<u8> {
    format!(
        "*3\r\n$3\r\nSET\r\n$16\r\n{}\r\n$64\r\n{:064}\r\n",
        key(number),
        number
    )
    .into_bytes()
}

fn get(number: u64) -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n$16\r\n{}\r\n", key(number)).into_bytes()
}

/// What consumers of an empty queue ask for.
fn zpopmin(_: u64) -> Vec<u8> {
    b"*2\r\n$7\r\nZPOPMIN\r\n$6\r\nmyzset\r\n".to_vec()
}

/// Pipelines over random keys; enough of them that the keys do not stay in the first cache.
fn pipelines(seed: u64, request: fn(u64) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..512)
        .map(|_| {
            (0..PIPELINE)
                .flat_map(|_| request(rng.u64(0..KEYS)))
                .collect()
        })
        .collect()
}

fn filled() -> Arc<Server> {
    let server = server();
    let mut connection = Connection::new(&server);
    (0..KEYS).for_each(|number| connection.run(&set(number)));
    server
}

fn one_thread(criterion: &mut Criterion) {
    let server = filled();
    let mut group = criterion.benchmark_group("dispatch");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    for (name, request) in [
        ("get/64", get as fn(u64) -> Vec<u8>),
        ("set/64", set),
        ("zpopmin of nothing/64", zpopmin),
    ] {
        let pipelines = pipelines(1, request);
        let mut connection = Connection::new(&server);
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                connection.run(&pipelines[next % pipelines.len()]);
                next += 1;
            });
        });
    }
    group.finish();
}

fn threads(criterion: &mut Criterion) {
    let server = filled();
    let mut group = criterion.benchmark_group("threads");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(4));
    for (name, request) in [("get", get as fn(u64) -> Vec<u8>), ("set", set)] {
        for count in [1, 2] {
            group.throughput(Throughput::Elements((PIPELINE * count) as u64));
            group.bench_with_input(BenchmarkId::new(name, count), &count, |bencher, &count| {
                bencher.iter_custom(|rounds| together(&server, count, rounds, request));
            });
        }
    }
    group.finish();
}

/// The time until `count` threads have each run `rounds` pipelines.
fn together(
    server: &Arc<Server>,
    count: usize,
    rounds: u64,
    request: fn(u64) -> Vec<u8>,
) -> Duration {
    let barrier = Barrier::new(count);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..count)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let pipelines = pipelines(thread as u64, request);
                    let mut connection = Connection::new(server);
                    barrier.wait();
                    let begun = Instant::now();
                    (0..rounds as usize)
                        .for_each(|round| connection.run(&pipelines[round % pipelines.len()]));
                    begun.elapsed()
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("a bench thread does not panic"))
            .max()
            .unwrap_or_default()
    })
}

criterion_group!(benches, one_thread, threads);
criterion_main!(benches);
