//! Whole servers side by side: ours, redis-server when it is installed, and any RESP server that is named. Prints the table
//! of the README.
//!
//! ```text
//! cargo bench --bench server                                        # ours beside redis-server
//! cargo bench --bench server -- NAME='/path/to/server --port {port}' # one more
//! cargo bench --bench server -- --quick                             # a tenth of the work
//! ```
//!
//! Every server is started fresh on a free port of the loopback interface and pinned to core 0, the client to core 1 (on one
//! core they share it). After a fill, each workload runs in rounds A B C, A B C, so that the drift of a shared machine falls
//! on all alike; what is printed is the median of the rounds. CPU per request is user and system time of all threads of the
//! server, from /proc/PID/task/*/schedstat. Latency is the client's, of a whole pipeline. Bytes per key are resident memory
//! after a million keys of 16 bytes, less before, less key and value.
//!
//! What it does not show: several cores (`dispatch` has the engine's scaling), a network, values beyond 512 bytes.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quoit::base::stats::{Distribution, Histogram};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLIENTS: usize = 50;
const VALUE_BYTES: usize = 64;
const PIPELINES: [usize; 3] = [1, 16, 64];
const ROUNDS: usize = 3;
/// Keys of one pipeline while filling.
const FILL_BATCH: u64 = 500;
/// Time for a server to give back what it took only while it was filled.
const SETTLE: Duration = Duration::from_secs(3);

/// How much is done.
struct Scale {
    keys: u64,
    requests: u64,
    memory_keys: u64,
}

/// A server to be measured.
struct Contender {
    name: String,
    /// With `{port}` where the port goes, and `''` for an empty word.
    command: Vec<String>,
}

struct Running {
    child: Child,
    port: u16,
}

/// What one round of a workload showed.
#[derive(Clone, Copy)]
struct Sample {
    per_second: f64,
    cpu_micros: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let scale = if quick {
        Scale {
            keys: 100_000,
            requests: 50_000,
            memory_keys: 100_000,
        }
    } else {
        Scale {
            keys: 100_000,
            requests: 500_000,
            memory_keys: 1_000_000,
        }
    };
    let contenders = contenders(&arguments);
    println!("{}\n", machine());
    speed(&contenders, &scale);
    memory(&contenders, &scale);
}

/// redis-server first, when it is there: it is what the ratios are to. Ours, and who is named, follow.
fn contenders(arguments: &[String]) -> Vec<Contender> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let redis = Contender {
        name: "redis-server".into(),
        command: words("redis-server --port {port} --save '' --appendonly no"),
    };
    let quoit = Contender {
        name: "quoit".into(),
        command: words(&format!("{} --port {{port}}", env!("CARGO_BIN_EXE_quoit"))),
    };
    let has_redis = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !has_redis {
        eprintln!("redis-server is not on PATH: no ratios to it");
    }
    let named = arguments.iter().filter_map(|argument| {
        let (name, command) = argument.split_once('=')?;
        Some(Contender {
            name: name.to_owned(),
            command: words(command),
        })
    });
    has_redis
        .then_some(redis)
        .into_iter()
        .chain([quoit])
        .chain(named)
        .collect()
}

fn speed(contenders: &[Contender], scale: &Scale) {
    let servers: Vec<Running> = contenders.iter().map(Running::start).collect();
    for server in &servers {
        client(fill(server.port, scale.keys, VALUE_BYTES));
    }
    println!("| workload | server | requests/s | CPU us/request | p50 ms | p99 ms | CPU ratio |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    for pipeline in PIPELINES {
        for command in ["SET", "GET"] {
            let mut samples = vec![Vec::new(); servers.len()];
            for _ in 0..ROUNDS {
                for (server, samples) in servers.iter().zip(&mut samples) {
                    samples.push(round(server, command, pipeline, scale));
                }
            }
            let medians: Vec<Sample> = samples.iter().map(|samples| median(samples)).collect();
            for (contender, sample) in contenders.iter().zip(&medians) {
                println!(
                    "| {command}, pipeline {pipeline} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
                    contender.name,
                    sample.per_second,
                    sample.cpu_micros,
                    sample.p50_ms,
                    sample.p99_ms,
                    sample.cpu_micros / medians[0].cpu_micros
                );
            }
        }
    }
    println!();
}

fn memory(contenders: &[Contender], scale: &Scale) {
    println!("| bytes per key beyond key and value | 8 B | 64 B | 512 B |");
    println!("|---|---:|---:|---:|");
    for contender in contenders {
        let overheads = [8, 64, 512].map(|size| {
            let server = Running::start(contender);
            std::thread::sleep(SETTLE);
            let before = server.resident_bytes();
            client(fill(server.port, scale.memory_keys, size));
            std::thread::sleep(SETTLE);
            let taken = server.resident_bytes() as f64 - before as f64;
            taken / scale.memory_keys as f64 - (size + key(0).len()) as f64
        });
        let [small, middle, large] = overheads;
        println!(
            "| {} | {small:.0} | {middle:.0} | {large:.0} |",
            contender.name
        );
    }
}

/// Runs one round: every connection sends its share of pipelines, each when the one before is answered.
fn round(server: &Running, command: &'static str, pipeline: usize, scale: &Scale) -> Sample {
    let rounds = (scale.requests as usize / pipeline / CLIENTS).max(1);
    let requests = (rounds * pipeline * CLIENTS) as f64;
    let cpu = server.cpu_seconds();
    let begun = Instant::now();
    let keys = scale.keys;
    let port = server.port;
    let times = Arc::new(Histogram::default());
    let counted = Arc::clone(&times);
    client(async move {
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let workload = Workload {
                    command,
                    pipeline,
                    rounds,
                    keys,
                    rng: fastrand::Rng::with_seed(number as u64),
                };
                tokio::spawn(connection(port, workload, Arc::clone(&counted)))
            })
            .collect();
        for task in tasks {
            task.await.expect("a connection does not panic");
        }
    });
    let elapsed = begun.elapsed().as_secs_f64();
    let mut latencies = Distribution::default();
    times.collect(&mut latencies);
    Sample {
        per_second: requests / elapsed,
        cpu_micros: (server.cpu_seconds() - cpu) * 1e6 / requests,
        p50_ms: latencies.percentile(50.0) as f64 / 1e6,
        p99_ms: latencies.percentile(99.0) as f64 / 1e6,
    }
}

/// What one connection sends.
struct Workload {
    command: &'static str,
    pipeline: usize,
    rounds: usize,
    keys: u64,
    rng: fastrand::Rng,
}

async fn connection(port: u16, workload: Workload, times: Arc<Histogram>) {
    let Workload {
        command,
        pipeline,
        rounds,
        keys,
        mut rng,
    } = workload;
    let mut stream = connect(port).await;
    let (mut request, mut reply) = (Vec::new(), vec![0; 64 * 1024]);
    for _ in 0..rounds {
        request.clear();
        for _ in 0..pipeline {
            let number = rng.u64(0..keys);
            match command {
                "SET" => push_set(&mut request, number, VALUE_BYTES),
                _ => push(&mut request, &[b"GET", key(number).as_bytes()]),
            }
        }
        let begun = Instant::now();
        stream.write_all(&request).await.expect("the server reads");
        let mut lines_left = if command == "SET" {
            pipeline
        } else {
            2 * pipeline
        };
        while lines_left > 0 {
            let count = stream.read(&mut reply).await.expect("the server answers");
            assert!(count > 0, "the server closed the connection");
            lines_left -= reply[..count].iter().filter(|byte| **byte == b'\n').count();
        }
        times.add(Histogram::bucket(begun.elapsed().as_nanos() as u64), 1);
    }
}

async fn fill(port: u16, keys: u64, size: usize) {
    let mut stream = connect(port).await;
    let (mut request, mut reply) = (Vec::new(), vec![0; 64 * 1024]);
    for first in (0..keys).step_by(FILL_BATCH as usize) {
        request.clear();
        let last = (first + FILL_BATCH).min(keys);
        (first..last).for_each(|number| push_set(&mut request, number, size));
        stream.write_all(&request).await.expect("the server reads");
        let mut left = (last - first) as usize * b"+OK\r\n".len();
        while left > 0 {
            let count = stream.read(&mut reply).await.expect("the server answers");
            assert!(count > 0 && reply[0] != b'-', "the server refuses SET");
            left -= count;
        }
    }
}

async fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the server listens");
    stream.set_nodelay(true).expect("a socket has this option");
    stream
}

/// Runs the client's work on core 1.
fn client<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        pin(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built");
        runtime.block_on(work)
    });
    thread.join().expect("the client does not panic")
}

/// Pins the calling thread to a core, if it may run there.
fn pin(core: usize) {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    if allowed.is_set(core) {
        let mut only = CpuSet::new();
        only.set(core);
        // Unpinned figures are worse figures, not wrong ones.
        let _ = sched_setaffinity(None, &only);
    }
}

impl Running {
    /// Starts a server pinned to core 0, and waits until it answers.
    fn start(contender: &Contender) -> Running {
        let port = free_port();
        let words = contender.command.iter();
        let words: Vec<String> = words
            .map(|word| word.replace("{port}", &port.to_string()).replace("''", ""))
            .collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A child runs where the thread that started it may run.
        let starter = std::thread::spawn(move || {
            pin(0);
            command.spawn()
        });
        let started = starter.join().expect("starting does not panic");
        let child = started.unwrap_or_else(|error| panic!("{}: {error}", contender.name));
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{} does not listen",
                contender.name
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Running { child, port }
    }

    fn cpu_seconds(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("Linux");
        let nanos = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        nanos.sum::<f64>() / 1e9
    }

    fn resident_bytes(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("Linux");
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        pages.unwrap_or(0) * rustix::param::page_size() as u64
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Pid::from_raw(self.child.id() as i32)
            .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}

fn push_set(to: &mut Vec<u8>, number: u64, size: usize) {
    let value = format!("{number:x}");
    let mut value = value.into_bytes();
    value.resize(size, b'x');
    push(to, &[b"SET", key(number).as_bytes(), &value]);
}

fn push(to: &mut Vec<u8>, words: &[&[u8]]) {
    to.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        to.extend(format!("${}\r\n", word.len()).bytes());
        to.extend(*word);
        to.extend(b"\r\n");
    }
}

fn median(samples: &[Sample]) -> Sample {
    let middle = |value: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Sample {
        per_second: middle(|sample| sample.per_second),
        cpu_micros: middle(|sample| sample.cpu_micros),
        p50_ms: middle(|sample| sample.p50_ms),
        p99_ms: middle(|sample| sample.p99_ms),
    }
}

/// The processor and the date, to stand with the figures.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{model}, {cores} cores; {CLIENTS} connections, values of {VALUE_BYTES} bytes, medians of {ROUNDS} rounds"
    )
}
