//! A fourth node joins a ring of three that is full and under load, and leaves again: how long it takes, and what clients see
//! of it.
//!
//! ```text
//! cargo bench --bench join                                   # 1,000,000 keys of 100 bytes, 2,000 requests a second
//! cargo bench --bench join -- --keys 100000 --rate 500
//! cargo bench --bench join -- --rate 0                       # as fast as the clients can
//! cargo bench --bench join -- --server target/release/quoit  # another server than the one that was built with it
//! cargo bench --bench join -- --leave 2                      # one more leaves with it; 0: none
//! ```
//!
//! Real processes on free ports of the loopback interface, with the state of the ring in a directory that is removed. Each key
//! has one client that writes it, counting up, and reads it, through any of the three nodes: a reply that is not what this
//! client wrote last is a lost write or a stale read, and at the end all keys are read once more. Latency is that of single
//! requests, as clients see it, before, while and after keys move. How long slots were held is what the nodes log.
//!
//! Memory is the resident memory of the processes, looked at all the time: of the three, the most while keys move beside what
//! it was before; of the fourth, the most beside what it is at the end. The process ends with 1 if an error or a wrong value was
//! seen.
//!
//! What it does not show: a network, and more cores than this machine has: clients and nodes share them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const CLIENTS: usize = 8;
/// Keys of one pipeline while filling and at the end.
const BATCH: usize = 500;
/// Between two looks at the memory and the ring.
const LOOK: Duration = Duration::from_millis(20);
/// Load before keys move, and after.
const ASIDE: Duration = Duration::from_secs(5);
/// How long the ring may take to form, and the fourth node to join.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of a page of memory.
const PAGE: u64 = 4096;
/// Between a node's port and its bus.
const BUS_OFFSET: u16 = 10_000;

/// What is asked for.
struct Options {
    keys: usize,
    value_bytes: usize,
    /// Requests a second of all clients together; 0: as many as they can.
    rate: u64,
    server: PathBuf,
    /// Nodes that leave together at the end, the last that joined first.
    leave: usize,
}

/// What the clients are in the middle of.
const BEFORE: usize = 0;
const DURING: usize = 1;
const AFTER: usize = 2;
const LEAVING: usize = 3;
const PHASES: [&str; 4] = ["before", "while keys move", "after", "while nodes leave"];

fn main() {
    let options = options();
    let dir = std::env::temp_dir().join(format!("quoit-join-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("the directory can be made");
    let is_clean = run(&options, &dir);
    let _ = fs::remove_dir_all(&dir);
    if !is_clean {
        std::process::exit(1);
    }
}

fn options() -> Options {
    let mut options = Options {
        keys: 1_000_000,
        value_bytes: 100,
        rate: 2_000,
        server: PathBuf::from(env!("CARGO_BIN_EXE_quoit")),
        leave: 1,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        // What cargo says to every bench.
        if argument == "--bench" {
            continue;
        }
        let value = arguments.next().unwrap_or_default();
        let number = || -> usize {
            let number = value.parse();
            number.unwrap_or_else(|_| panic!("{argument} wants a number"))
        };
        match argument.as_str() {
            "--keys" => options.keys = number(),
            "--value-bytes" => options.value_bytes = number(),
            "--rate" => options.rate = number() as u64,
            "--server" => options.server = PathBuf::from(value),
            "--leave" => options.leave = number().min(2),
            other => panic!("what is {other}? --keys, --value-bytes, --rate, --server, --leave"),
        }
    }
    options
}

/// Whether nothing was lost, stale or refused.
fn run(options: &Options, dir: &Path) -> bool {
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let seeds: Vec<String> = ports[..3]
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let seeds = seeds.join(" ");
    let mut nodes: Vec<Node> = (0..3)
        .map(|number| Node::start(&options.server, number, ports[number], &seeds, dir))
        .collect();
    wait_until_whole(&nodes, 3);
    let shares = Shares::new(options);
    let begun = Instant::now();
    shares.fill(&ports[..3]);
    println!(
        "{} keys of {} bytes in {:.1} s; {} requests a second ({} clients)",
        options.keys,
        options.value_bytes,
        begun.elapsed().as_secs_f64(),
        match options.rate {
            0 => "as many as possible".to_owned(),
            rate => rate.to_string(),
        },
        CLIENTS
    );
    // Those that leave end their clients' connections.
    let stays = 4 - options.leave.max(1);
    let load = Load::start(shares, options.rate, &ports[..stays]);
    std::thread::sleep(ASIDE);
    let before: Vec<u64> = nodes.iter().map(Node::resident).collect();
    let begun = Instant::now();
    load.phase.store(DURING, Ordering::SeqCst);
    nodes.push(Node::start(&options.server, 3, ports[3], &seeds, dir));
    let mut most = [0; 4];
    let mut joined = None;
    let took = loop {
        for (most, node) in most.iter_mut().zip(&nodes) {
            *most = node.resident().max(*most);
        }
        let status = nodes[3].status();
        if status.nodes == 4 && joined.is_none() {
            joined = Some(begun.elapsed());
        }
        if status.is_whole(4) && nodes[..3].iter().all(|node| node.status().is_whole(4)) {
            break begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "the node does not join");
        std::thread::sleep(LOOK);
    };
    load.phase.store(AFTER, Ordering::SeqCst);
    std::thread::sleep(ASIDE);
    let end: Vec<u64> = nodes.iter().map(Node::resident).collect();
    load.phase.store(LEAVING, Ordering::SeqCst);
    let left = leave(&mut nodes[4 - options.leave..]);
    let (shares, seen) = load.stop();
    let joined = joined.unwrap_or(took);
    println!(
        "all slots where they should be after {:.2} s: {:.2} s until it was in the ring, {:.2} s of moving",
        took.as_secs_f64(),
        joined.as_secs_f64(),
        (took - joined).as_secs_f64()
    );
    for number in 0..3 {
        report_moves(&nodes[number], number);
        report_memory(number, "before", before[number], most[number], end[number]);
    }
    report_memory(3, "end", end[3], most[3], end[3]);
    for (number, (took, lost)) in (4 - options.leave..).zip(&left) {
        let took = took.as_secs_f64();
        println!("node {number}: left in {took:.2} s; {lost} slots were not handed over");
        report_moves(&nodes[number], number);
    }
    seen.report();
    let wrong = shares.read_all(&ports[0]);
    println!(
        "errors {}, wrong values {} under load, {wrong} of all keys at the end",
        seen.errors, seen.wrong
    );
    for text in &seen.examples {
        println!("  {text}");
    }
    seen.errors == 0 && seen.wrong == 0 && wrong == 0
}

/// Has these nodes end together. How long each took, and how many slots it says that it could not hand over.
fn leave(nodes: &mut [Node]) -> Vec<(Duration, u64)> {
    let begun = Instant::now();
    for node in nodes.iter() {
        let pid = Pid::from_child(&node.child);
        kill_process(pid, Signal::TERM).expect("it is our child");
    }
    let left = nodes.iter_mut().map(|node| {
        node.child.wait().expect("it is our child");
        let log = fs::read_to_string(&node.log).unwrap_or_default();
        let lost = log.lines().find(|line| line.contains("ends with slots"));
        (begun.elapsed(), lost.map_or(0, |line| field(line, "slots")))
    });
    left.collect()
}

/// A number in a line of a log.
fn field(line: &str, name: &str) -> u64 {
    let mut words = line.split(' ');
    let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A port of the loopback interface that nobody has, whose bus's is free as well.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let Some(bus) = port.checked_add(BUS_OFFSET) else {
            continue;
        };
        if TcpListener::bind(("127.0.0.1", bus)).is_ok() {
            return port;
        }
    }
}

/// A process, killed when dropped.
struct Node {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Node {
    fn start(server: &Path, number: usize, port: u16, seeds: &str, dir: &Path) -> Node {
        let dir = dir.join(number.to_string());
        fs::create_dir_all(&dir).expect("the directory can be made");
        let log = dir.join("log");
        let child = Command::new(server)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--cluster-enabled", "yes", "--cluster-seeds", seeds])
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("the log can be written"))
            .spawn()
            .expect("the server starts");
        Node { child, port, log }
    }

    /// Bytes of memory that it has.
    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        let pages = text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * PAGE
    }

    /// What it says of the ring; nothing, while it does not answer.
    fn status(&self) -> Status {
        let Some(mut client) = Client::connect(self.port) else {
            return Status::default();
        };
        let info = client.ask(&[b"INFO", b"cluster"]).unwrap_or_default();
        let info = String::from_utf8_lossy(&info).into_owned();
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')
                    .map(str::to_owned)
            })
        };
        Status {
            is_ok: field("ring_state").as_deref() == Some("ok"),
            misplaced: field("ring_slots_misplaced").and_then(|text| text.parse().ok()),
            nodes: info.lines().filter(|line| line.contains(":id=")).count(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Status {
    is_ok: bool,
    misplaced: Option<usize>,
    nodes: usize,
}

impl Status {
    fn is_whole(&self, nodes: usize) -> bool {
        self.is_ok && self.misplaced == Some(0) && self.nodes == nodes
    }
}

fn wait_until_whole(nodes: &[Node], count: usize) {
    let begun = Instant::now();
    while !nodes.iter().all(|node| node.status().is_whole(count)) {
        assert!(begun.elapsed() < PATIENCE, "the ring does not form");
        std::thread::sleep(LOOK);
    }
}

/// A connection.
struct Client {
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> Option<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Client {
            stream: BufReader::new(stream),
            out: Vec::new(),
        })
    }

    fn queue(&mut self, words: &[&[u8]]) {
        self.out.extend(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.out.extend(format!("${}\r\n", word.len()).as_bytes());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn send(&mut self) -> Result<(), String> {
        let sent = self.stream.get_mut().write_all(&self.out);
        self.out.clear();
        sent.map_err(|error| error.to_string())
    }

    /// A status, or a string; none is nothing.
    fn reply(&mut self) -> Result<Vec<u8>, String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        read.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        match line.first() {
            Some(b'+') => Ok(line[1..line.len() - 2].to_vec()),
            Some(b'$') if text == "$-1" => Ok(Vec::new()),
            Some(b'$') => {
                let length: usize = text[1..].parse().map_err(|_| text.clone())?;
                let mut bytes = vec![0; length + 2];
                let read = self.stream.read_exact(&mut bytes);
                read.map_err(|error| error.to_string())?;
                bytes.truncate(length);
                Ok(bytes)
            }
            _ => Err(text),
        }
    }

    fn ask(&mut self, words: &[&[u8]]) -> Result<Vec<u8>, String> {
        self.queue(words);
        self.send()?;
        self.reply()
    }
}

/// The keys of one client, and how often each was written.
struct Share {
    number: usize,
    value_bytes: usize,
    versions: Vec<u32>,
}

impl Share {
    fn key(&self, index: usize) -> Vec<u8> {
        format!("key:{}:{index:08}", self.number).into_bytes()
    }

    fn value(&self, index: usize, version: u32) -> Vec<u8> {
        let mut value = format!("{version}:{index}:").into_bytes();
        value.resize(value.len().max(self.value_bytes), b'x');
        value
    }

    fn expected(&self, index: usize) -> Vec<u8> {
        self.value(index, self.versions[index])
    }

    fn fill(&self, port: u16) {
        let mut client = Client::connect(port).expect("it listens");
        for begin in (0..self.versions.len()).step_by(BATCH) {
            let end = (begin + BATCH).min(self.versions.len());
            for index in begin..end {
                client.queue(&[b"SET", &self.key(index), &self.expected(index)]);
            }
            client.send().expect("it takes them");
            for _ in begin..end {
                assert_eq!(client.reply().as_deref(), Ok(&b"OK"[..]));
            }
        }
    }

    /// How many keys do not have the value that was written last.
    fn read_all(&self, port: u16) -> usize {
        let mut client = Client::connect(port).expect("it listens");
        let mut wrong = 0;
        for begin in (0..self.versions.len()).step_by(BATCH) {
            let end = (begin + BATCH).min(self.versions.len());
            for index in begin..end {
                client.queue(&[b"GET", &self.key(index)]);
            }
            client.send().expect("it takes them");
            for index in begin..end {
                wrong += usize::from(client.reply() != Ok(self.expected(index)));
            }
        }
        wrong
    }
}

/// All keys.
struct Shares(Vec<Share>);

impl Shares {
    fn new(options: &Options) -> Shares {
        let share = |number| Share {
            number,
            value_bytes: options.value_bytes,
            versions: vec![0; options.keys.div_ceil(CLIENTS)],
        };
        Shares((0..CLIENTS).map(share).collect())
    }

    fn fill(&self, ports: &[u16]) {
        std::thread::scope(|scope| {
            for (share, port) in self.0.iter().zip(ports.iter().cycle()) {
                scope.spawn(|| share.fill(*port));
            }
        });
    }

    fn read_all(&self, port: &u16) -> usize {
        std::thread::scope(|scope| {
            let readers: Vec<_> = self
                .0
                .iter()
                .map(|share| scope.spawn(|| share.read_all(*port)))
                .collect();
            readers
                .into_iter()
                .map(|reader| reader.join().expect("it reads"))
                .sum()
        })
    }
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    /// Microseconds of each request, by phase.
    took_us: [Vec<u32>; 4],
    errors: usize,
    wrong: usize,
    /// Some of these, in words.
    examples: Vec<String>,
}

impl Seen {
    fn note(&mut self, text: String) {
        if self.examples.len() < 5 {
            self.examples.push(text);
        }
    }

    fn add(&mut self, other: Seen) {
        for (mine, theirs) in self.took_us.iter_mut().zip(other.took_us) {
            mine.extend(theirs);
        }
        self.errors += other.errors;
        self.wrong += other.wrong;
        other.examples.into_iter().for_each(|text| self.note(text));
    }

    fn report(&self) {
        let mut before = None;
        for (name, took) in PHASES.iter().zip(&self.took_us) {
            let mut took = took.clone();
            took.sort_unstable();
            let Some(last) = took.last() else {
                continue;
            };
            let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
            let p99 = at(0.99);
            let beside = f64::from(p99) / f64::from((*before.get_or_insert(p99)).max(1));
            println!(
                "{name}: {} requests, p50 {} us, p99 {p99} us ({beside:.2} of before), p99.9 {} us, longest {:.1} ms",
                took.len(),
                at(0.5),
                at(0.999),
                f64::from(*last) / 1000.0
            );
        }
    }
}

/// Clients at work.
struct Load {
    phase: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// What is not given back yet.
    running: Vec<JoinHandle<(Share, Seen)>>,
}

impl Load {
    fn start(shares: Shares, rate: u64, ports: &[u16]) -> Load {
        let phase = Arc::new(AtomicUsize::new(BEFORE));
        let stop = Arc::new(AtomicBool::new(false));
        let pace = Arc::new(Pace {
            begun: Instant::now(),
            rate,
            given: AtomicU64::new(0),
        });
        let shares = shares.0.into_iter();
        let running = shares.map(|share| {
            let (phase, stop, pace) = (Arc::clone(&phase), Arc::clone(&stop), Arc::clone(&pace));
            let ports = ports.to_vec();
            std::thread::spawn(move || work(share, &ports, &phase, &stop, &pace))
        });
        Load {
            running: running.collect(),
            phase,
            stop,
        }
    }

    fn stop(self) -> (Shares, Seen) {
        self.stop.store(true, Ordering::SeqCst);
        let (mut shares, mut all) = (Vec::new(), Seen::default());
        for client in self.running {
            let (share, seen) = client.join().expect("a client ends");
            shares.push(share);
            all.add(seen);
        }
        (Shares(shares), all)
    }
}

/// Gives the clients their moments.
struct Pace {
    begun: Instant,
    rate: u64,
    given: AtomicU64,
}

impl Pace {
    /// Waits for the next moment. One that was missed is not made up for by a burst: it is late, and counts as such.
    fn next(&self) {
        if self.rate == 0 {
            return;
        }
        let number = self.given.fetch_add(1, Ordering::SeqCst);
        let at = self.begun + Duration::from_nanos(number * 1_000_000_000 / self.rate);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
    }
}

fn work(
    mut share: Share,
    ports: &[u16],
    phase: &AtomicUsize,
    stop: &AtomicBool,
    pace: &Pace,
) -> (Share, Seen) {
    let mut seen = Seen::default();
    let mut rng = fastrand::Rng::with_seed(share.number as u64);
    let connect = || -> Vec<Client> {
        let clients = ports.iter().map(|port| Client::connect(*port));
        clients.collect::<Option<_>>().expect("all listen")
    };
    let mut clients = connect();
    while !stop.load(Ordering::SeqCst) {
        pace.next();
        let index = rng.usize(..share.versions.len());
        let client = &mut clients[rng.usize(..ports.len())];
        let is_write = rng.bool();
        let key = share.key(index);
        let now = phase.load(Ordering::SeqCst);
        let begun = Instant::now();
        let reply = match is_write {
            true => {
                let next = share.value(index, share.versions[index] + 1);
                client.ask(&[b"SET", &key, &next])
            }
            false => client.ask(&[b"GET", &key]),
        };
        let took = begun.elapsed().as_micros();
        seen.took_us[now].push(u32::try_from(took).unwrap_or(u32::MAX));
        match reply {
            Ok(reply) if is_write && reply == b"OK" => share.versions[index] += 1,
            Ok(reply) if !is_write && reply == share.expected(index) => {}
            Ok(reply) => {
                seen.wrong += 1;
                let (key, reply) = (key.escape_ascii(), reply.escape_ascii());
                seen.note(format!("{key}: {reply}, not {}", share.versions[index]));
            }
            Err(error) => {
                seen.errors += 1;
                seen.note(format!("{}: {error}", key.escape_ascii()));
                // What a connection that broke was asked for may have been done: what the key is now, counts.
                clients = connect();
                let value = clients[0].ask(&[b"GET", &key]).unwrap_or_default();
                let mut words = value.split(|byte| *byte == b':');
                let version = words.next().and_then(|word| std::str::from_utf8(word).ok());
                if let Some(version) = version.and_then(|word| word.parse().ok()) {
                    share.versions[index] = version;
                }
            }
        }
    }
    (share, seen)
}

/// What a node logged of the slots that it gave away.
fn report_moves(node: &Node, number: usize) {
    let log = fs::read_to_string(&node.log).unwrap_or_default();
    let moves: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("slots were moved") && !line.contains(" keys=0 "))
        .collect();
    let each = |name: &str| -> Vec<u64> { moves.iter().map(|line| field(line, name)).collect() };
    println!(
        "node {number}: {} keys, {} MB in {} portions; held ms {:?}, of that agreed {:?}, took ms {:?}",
        each("keys").iter().sum::<u64>(),
        each("bytes").iter().sum::<u64>() >> 20,
        moves.len(),
        each("held_ms"),
        each("agreed_ms"),
        each("took_ms")
    );
    let failed = log.lines().filter(|line| {
        line.contains("slots could not be moved") || line.contains("too much is written")
    });
    failed.for_each(|line| println!("  {line}"));
}

fn report_memory(number: usize, name: &str, base: u64, most: u64, end: u64) {
    let mega = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "node {number}: at most {:.1} MB ({:+.1} % beside {name}'s {:.1}), at the end {:.1}",
        mega(most),
        (most as f64 / base.max(1) as f64 - 1.0) * 100.0,
        mega(base),
        mega(end)
    );
}
