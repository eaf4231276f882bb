//! The cluster bus over loopback: round trips of small frames with 1, 16 and 64 tasks that each wait for one answer, and of
//! large ones, both ends in this process on one runtime of two threads.
//!
//! Beside the time of each it prints the CPU time of the process per frame and its answer (both ends, the kernel's part
//! included), and the same for a bare echo of as many bytes over a socket: what no bus could save. It does not show what a second
//! machine would cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use quoit::cluster::bus::{Answers, Bus, Identity, Kind, Link, Links, Service, serve};
use quoit::cluster::node::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

/// Answers with what it was sent.
struct Echo;

impl Service for Echo {
    type Peer = ();

    fn accept(&self, _: NodeId, _: &Answers) {}

    async fn frame(&self, (): &mut (), _: Kind, id: u64, payload: Bytes, answers: &Answers) {
        answers
            .answer(id, |frame| frame.extend_from_slice(&payload))
            .expect("it came in a frame");
    }
}

fn bus(number: u8) -> Arc<Bus> {
    let identity = Identity {
        id: NodeId([number; 20]),
        ring: "bench".to_owned(),
        secret: b"secret".to_vec(),
        version: 1,
    };
    Bus::new(identity, Duration::from_secs(600))
}

/// CPU time of all threads of this process so far.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanos = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// `rounds` round trips in all, by `tasks` tasks.
async fn calls(link: &Arc<Link>, tasks: u64, rounds: u64, payload: &Bytes) {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (link, payload) = (Arc::clone(link), payload.clone());
        running.spawn(async move {
            for _ in 0..rounds.div_ceil(tasks) {
                let ticket = link
                    .call(Kind::Forward, |frame| frame.extend_from_slice(&payload))
                    .expect("it is connected");
                assert_eq!(ticket.await.expect("it stays").len(), payload.len());
            }
        });
    }
    running.join_all().await;
}

/// As many round trips of as many bytes, over a bare socket; in a task, as those of the bus.
async fn bare(stream: &Arc<Mutex<TcpStream>>, rounds: u64, length: usize) {
    let stream = Arc::clone(stream);
    let running = tokio::spawn(async move {
        let mut stream = stream.lock().await;
        let mut bytes = vec![0; length];
        for _ in 0..rounds {
            stream.write_all(&bytes).await.expect("it is open");
            stream.read_exact(&mut bytes).await.expect("it is open");
        }
    });
    running.await.expect("no panic");
}

async fn echo(mut stream: TcpStream) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

fn report(name: &str, rounds: u64, began: Duration) {
    let spent = cpu().saturating_sub(began);
    println!(
        "{name}: {:.2} us of CPU per round trip",
        spent.as_secs_f64() * 1e6 / rounds as f64
    );
}

fn benches(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("two threads");
    let links = Links::new(bus(1), Arc::new(()));
    let link = runtime.block_on(connect(&links));
    let stream = Arc::new(Mutex::new(runtime.block_on(connect_bare())));

    let mut group = c.benchmark_group("bus");
    for (tasks, length) in [(1, 40), (16, 40), (64, 40), (1, 16 << 10), (1, 1 << 20)] {
        let payload = Bytes::from(vec![7; length]);
        let name = format!("call/{tasks}x{length}");
        measure(&mut group, &runtime, &name, async |rounds| {
            calls(&link, tasks, rounds, &payload).await
        });
    }
    for length in [69, 16 << 10] {
        let name = format!("bare/1x{length}");
        measure(&mut group, &runtime, &name, async |rounds| {
            bare(&stream, rounds, length).await;
        });
    }
    group.finish();
}

fn measure(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    runtime: &Runtime,
    name: &str,
    work: impl AsyncFn(u64),
) {
    let mut total = 0;
    let began = cpu();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let start = Instant::now();
            runtime.block_on(work(rounds));
            total += rounds;
            start.elapsed()
        });
    });
    if total > 0 {
        report(name, total, began);
    }
}

async fn connect(links: &Links) -> Arc<Link> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(serve(
        listener,
        bus(2),
        Arc::new(Echo),
        std::future::pending(),
    ));
    let link = links.link(NodeId([2; 20]), &address, 0);
    link.connected().await.expect("the secret is right");
    link
}

async fn connect_bare() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("it is connected to");
        stream.set_nodelay(true).expect("a socket");
        echo(stream).await;
    });
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

criterion_group! {
    name = bus_group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = benches
}
criterion_main!(bus_group);
