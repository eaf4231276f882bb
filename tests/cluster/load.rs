//! Clients that write and read at nodes by chance while the ring changes, and note all they see.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::history::{Loss, Operation, What, violations};
use crate::ring::{Node, Ring};
use quoit::cluster::slots::slot_of;

use crate::support::client::encode;
use crate::support::{Client, Value, eventually};

/// Each key has one of these forms, all of which count up from 1. But for a text, a reply tells whether each write was done
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The number is its value.
    Text,
    /// INCR.
    Counter,
    /// HINCRBY of a field.
    Field,
    /// RPUSH: its length.
    List,
    /// ZINCRBY of a member.
    Score,
    /// XADD: its last id.
    Stream,
    /// INCR of two keys in MULTI.
    Transaction,
    /// INCR by a script.
    Script,
}

/// All of them.
pub const ALL_FORMS: &[Form] = &[
    Form::Text,
    Form::Counter,
    Form::Field,
    Form::List,
    Form::Score,
    Form::Stream,
    Form::Transaction,
    Form::Script,
];

impl Form {
    /// The requests that make a key this number.
    fn write(self, key: &str, number: u64) -> Vec<Vec<String>> {
        let id = format!("{number}-1");
        let text = number.to_string();
        let one = |words: &[&str]| vec![words.iter().map(|word| (*word).to_owned()).collect()];
        match self {
            Form::Text => one(&["SET", key, &text]),
            Form::Counter => one(&["INCR", key]),
            Form::Field => one(&["HINCRBY", key, "field", "1"]),
            Form::List => one(&["RPUSH", key, &text]),
            Form::Score => one(&["ZINCRBY", key, "1", "member"]),
            Form::Stream => one(&["XADD", key, &id, "number", &text]),
            Form::Transaction => ["MULTI", "INCR", "INCR", "EXEC"]
                .into_iter()
                .enumerate()
                .map(|(index, word)| match index {
                    1 => vec![word.to_owned(), key.to_owned()],
                    2 => vec![word.to_owned(), format!("{{{key}}}:beside")],
                    _ => vec![word.to_owned()],
                })
                .collect(),
            Form::Script => one(&["EVAL", "return redis.call('INCR', KEYS[1])", "1", key]),
        }
    }

    /// What must be the last reply to that.
    fn written(self, number: u64) -> Value {
        let int = Value::Int(number as i64);
        match self {
            Form::Text => Value::ok(),
            Form::Counter | Form::Field | Form::List | Form::Script => int,
            Form::Score => Value::bulk(number.to_string()),
            Form::Stream => Value::bulk(format!("{number}-1")),
            Form::Transaction => Value::Array(vec![int.clone(), int]),
        }
    }

    fn read(self, key: &str) -> Vec<&str> {
        match self {
            Form::Text | Form::Counter | Form::Transaction | Form::Script => vec!["GET", key],
            Form::Field => vec!["HGET", key, "field"],
            Form::List => vec!["LLEN", key],
            Form::Score => vec!["ZSCORE", key, "member"],
            Form::Stream => vec!["XREVRANGE", key, "+", "-", "COUNT", "1"],
        }
    }

    /// What a reply to that says; an error if it is none.
    fn number(reply: &Value) -> Result<Option<u64>, String> {
        let wrong = || format!("{reply:?}");
        match reply {
            Value::NilBulk | Value::Int(0) => Ok(None),
            Value::Int(number) => Ok(Some(*number as u64)),
            Value::Array(items) if items.is_empty() => Ok(None),
            Value::Array(items) => {
                let id = items[0].items()[0].text();
                let number = id.split('-').next().and_then(|text| text.parse().ok());
                number.map(Some).ok_or_else(wrong)
            }
            Value::Bulk(_) => reply.text().parse().map(Some).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

/// Who does what.
#[derive(Clone)]
pub struct Plan {
    /// Clients that write.
    pub writers: usize,
    /// Clients that read what any of them writes.
    pub readers: usize,
    /// Keys of each writer.
    pub keys: usize,
    /// Their forms, in turn.
    pub forms: &'static [Form],
    /// Of the clients' choices.
    pub seed: u64,
    /// The longest that a reply may take. A longer wait is a hang.
    pub patience: Duration,
}

impl Plan {
    /// Keys of all forms: for changes in which nothing may be lost.
    pub fn all_forms(seed: u64) -> Plan {
        Plan {
            writers: 3,
            readers: 3,
            keys: 64,
            forms: ALL_FORMS,
            seed,
            patience: Duration::from_secs(20),
        }
    }

    /// Texts alone: a count that is lost would begin anew.
    pub fn texts(seed: u64) -> Plan {
        Plan {
            forms: &[Form::Text],
            ..Plan::all_forms(seed)
        }
    }
}

/// A node as clients know it.
struct Target {
    number: usize,
    address: SocketAddr,
    /// Whether new connections go there.
    is_open: bool,
}

/// Something that went wrong for a client.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "what it was is read where a test fails")]
pub struct Trouble {
    /// At which node.
    pub node: usize,
    /// What it did.
    pub request: String,
    /// What came.
    pub what: String,
    /// In microseconds since the beginning.
    pub begin: u64,
    /// When it was known.
    pub end: u64,
    /// Whether the connection was closed.
    pub is_closed: bool,
    /// Whether that was the connection of a node that was about to go, which is no error.
    pub is_farewell: bool,
}

struct Shared {
    origin: Instant,
    /// Which load of this process it is: each has its keys.
    number: usize,
    plan: Plan,
    stop: AtomicBool,
    targets: Mutex<Vec<Target>>,
    /// How often each key was given up for another of the same writer.
    generations: Vec<AtomicU32>,
    done: AtomicU64,
}

impl Shared {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    fn form(&self, key: usize) -> Form {
        self.plan.forms[key % self.plan.forms.len()]
    }

    fn name(&self, key: usize) -> String {
        let generation = self.generations[key].load(Ordering::Relaxed);
        format!("load{}:{key}:{generation}", self.number)
    }

    fn is_open(&self, number: usize) -> bool {
        let targets = self.targets.lock().expect("nobody panics with it");
        targets
            .iter()
            .any(|target| target.number == number && target.is_open)
    }
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Seen>>,
}

/// What a client saw.
#[derive(Default)]
struct Seen {
    operations: Vec<Operation>,
    troubles: Vec<Trouble>,
}

impl Load {
    /// Begins, at all nodes that run.
    pub fn start(ring: &Ring, plan: Plan) -> Load {
        println!(
            "load: {} writers, {} readers, seed {}",
            plan.writers, plan.readers, plan.seed
        );
        static LOADS: AtomicUsize = AtomicUsize::new(0);
        let keys = plan.writers * plan.keys;
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            number: LOADS.fetch_add(1, Ordering::Relaxed),
            stop: AtomicBool::new(false),
            targets: Mutex::new(Vec::new()),
            generations: (0..keys).map(|_| AtomicU32::new(0)).collect(),
            done: AtomicU64::new(0),
            plan,
        });
        let load = Load {
            workers: Vec::new(),
            shared,
        };
        ring.running().for_each(|node| load.open(node));
        load.with_workers()
    }

    fn with_workers(mut self) -> Load {
        let plan = &self.shared.plan;
        let all = plan.writers + plan.readers;
        for number in 0..all {
            let mut worker = Worker {
                shared: Arc::clone(&self.shared),
                rng: fastrand::Rng::with_seed(plan.seed.wrapping_add(number as u64)),
                client: None,
                requests_left: 0,
                seen: Seen::default(),
            };
            let writes = number < plan.writers;
            self.workers.push(std::thread::spawn(move || {
                match writes {
                    true => worker.write_all(number),
                    false => worker.read_all(),
                }
                worker.seen
            }));
        }
        self
    }

    /// Clients use this node from now on.
    pub fn open(&self, node: &Node) {
        let mut targets = self.shared.targets.lock().expect("nobody panics with it");
        targets.retain(|target| target.number != node.number);
        targets.push(Target {
            number: node.number,
            address: node.address(),
            is_open: true,
        });
    }

    /// Clients make no new connections to this node, and forgive it when it closes those that are there.
    pub fn close(&self, number: usize) {
        let mut targets = self.shared.targets.lock().expect("nobody panics with it");
        for target in targets.iter_mut().filter(|target| target.number == number) {
            target.is_open = false;
        }
    }

    /// Now, in microseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// Waits until so many operations more were done.
    #[track_caller]
    pub fn goes_on_for(&self, operations: u64) {
        let until = self.shared.done.load(Ordering::Relaxed) + operations;
        eventually("clients to go on", || {
            (self.shared.done.load(Ordering::Relaxed) >= until).then_some(())
        });
    }

    /// Ends it.
    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for worker in self.workers.drain(..) {
            let seen = worker.join().expect("a client does not panic");
            report.operations.extend(seen.operations);
            report.troubles.extend(seen.troubles);
        }
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// What all clients saw.
#[derive(Default)]
pub struct Report {
    /// What was done.
    pub operations: Vec<Operation>,
    /// What was not.
    pub troubles: Vec<Trouble>,
}

impl Report {
    /// What went wrong, but for connections that had to be closed.
    pub fn errors(&self) -> Vec<&Trouble> {
        let troubles = self.troubles.iter();
        troubles.filter(|trouble| !trouble.is_farewell).collect()
    }

    /// Asserts that nobody saw what must not be seen.
    #[track_caller]
    pub fn assert_history(&self, losses: &[Loss]) {
        let slowest = self.operations.iter().max_by_key(|one| one.end - one.begin);
        println!(
            "{} operations, {} errors, the longest took {} ms",
            self.operations.len(),
            self.errors().len(),
            slowest.map_or(0, |one| (one.end - one.begin) / 1000)
        );
        let wrong = violations(&self.operations, losses);
        if let Some((key, _)) = wrong.first().and_then(|what| what.split_once(": ")) {
            let mut of_key: Vec<_> = self.operations.iter().collect();
            of_key.retain(|one| one.key == key);
            of_key.sort_by_key(|one| one.begin);
            println!("all of {key} (slot {}):", slot_of(key.as_bytes()));
            for one in of_key {
                let (begin, end) = (one.begin, one.end);
                println!("  {begin} to {end} at node {}: {:?}", one.node, one.what);
            }
            for loss in losses {
                println!("loss from {} to {} us", loss.begin, loss.end);
            }
        }
        assert!(
            wrong.is_empty(),
            "{} violations:\n{}\n{} errors: {:#?}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n"),
            self.errors().len(),
            self.errors().iter().take(5).collect::<Vec<_>>(),
        );
    }

    /// The same, and that nothing went wrong.
    #[track_caller]
    pub fn assert_clean(&self) {
        let errors = self.errors();
        let shown: Vec<_> = errors.iter().take(10).collect();
        assert!(errors.is_empty(), "{} errors: {shown:#?}", errors.len());
        self.assert_history(&[]);
    }
}

struct Connected {
    number: usize,
    client: Client,
}

struct Worker {
    shared: Arc<Shared>,
    rng: fastrand::Rng,
    client: Option<Connected>,
    /// Until it goes to another node.
    requests_left: usize,
    seen: Seen,
}

impl Worker {
    fn goes_on(&self) -> bool {
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        !self.shared.stop.load(Ordering::Relaxed)
    }

    fn write_all(&mut self, writer: usize) {
        let keys = self.shared.plan.keys;
        let mut numbers = vec![0; keys];
        while self.goes_on() {
            let index = self.rng.usize(..keys);
            let key = writer * keys + index;
            let (form, name) = (self.shared.form(key), self.shared.name(key));
            numbers[index] += 1;
            let number = numbers[index];
            let requests = form.write(&name, number);
            let Some((begin, replies, node)) = self.ask(&requests, &name) else {
                continue;
            };
            let end = self.shared.now();
            let what = match replies {
                Ok(replies) if replies.last() == Some(&form.written(number)) => What::Wrote(number),
                Ok(replies) => {
                    self.trouble(node, &requests, format!("{replies:?}"), begin, false);
                    What::Tried(number)
                }
                Err(_) => What::Tried(number),
            };
            if what == What::Tried(number) {
                self.shared.generations[key].fetch_add(1, Ordering::Relaxed);
                numbers[index] = 0;
            }
            self.note(name, what, begin, end, node);
        }
    }

    fn read_all(&mut self) {
        let keys = self.shared.generations.len();
        while self.goes_on() {
            // One at a time, or many at once.
            let count = if self.rng.bool() { 1 } else { 8 };
            let keys: Vec<usize> = (0..count).map(|_| self.rng.usize(..keys)).collect();
            let names: Vec<String> = keys.iter().map(|key| self.shared.name(*key)).collect();
            let all_texts = keys.iter().all(|key| self.shared.form(*key) == Form::Text);
            let requests: Vec<Vec<String>> = if all_texts && count > 1 && self.rng.bool() {
                let words = std::iter::once("MGET").chain(names.iter().map(String::as_str));
                vec![words.map(str::to_owned).collect()]
            } else {
                let reads = keys.iter().zip(&names);
                let words = reads.map(|(key, name)| self.shared.form(*key).read(name));
                words
                    .map(|words| words.into_iter().map(str::to_owned).collect())
                    .collect()
            };
            let Some((begin, replies, node)) = self.ask(&requests, &names[0]) else {
                continue;
            };
            let end = self.shared.now();
            let Ok(mut replies) = replies else {
                continue;
            };
            if let [Value::Array(items)] = &replies[..]
                && requests[0][0] == "MGET"
            {
                replies = items.clone();
            }
            if replies.len() != names.len() {
                self.trouble(node, &requests, format!("{replies:?}"), begin, false);
                continue;
            }
            for (name, reply) in names.into_iter().zip(&replies) {
                match Form::number(reply) {
                    Ok(value) => self.note(name, What::Read(value), begin, end, node),
                    Err(what) => self.trouble(node, &requests, what, begin, false),
                }
            }
        }
    }

    fn note(&mut self, key: String, what: What, begin: u64, end: u64, node: usize) {
        self.seen.operations.push(Operation {
            key,
            what,
            begin,
            end,
            node,
        });
    }

    fn trouble(
        &mut self,
        node: usize,
        requests: &[Vec<String>],
        what: String,
        begin: u64,
        is_closed: bool,
    ) {
        let words: Vec<String> = requests.iter().map(|words| words.join(" ")).collect();
        self.seen.troubles.push(Trouble {
            node,
            request: words.join("; "),
            what,
            begin,
            end: self.shared.now(),
            is_closed,
            is_farewell: is_closed && !self.shared.is_open(node),
        });
    }

    /// Sends requests together: when that was, the replies, and who gave them. `None` when nothing was sent.
    fn ask(
        &mut self,
        requests: &[Vec<String>],
        what_for: &str,
    ) -> Option<(u64, io::Result<Vec<Value>>, usize)> {
        self.connect(what_for)?;
        let begin = self.shared.now();
        let connected = self.client.as_mut()?;
        let node = connected.number;
        let bytes: Vec<u8> = requests.iter().flat_map(|words| encode(words)).collect();
        let sent = connected.client.try_send_raw(&bytes);
        let replies = sent.and_then(|()| {
            let replies = requests.iter().map(|_| connected.client.try_read());
            replies
                .map(|reply| reply.map(|reply| reply.value))
                .collect()
        });
        if let Err(error) = &replies {
            self.client = None;
            // A node that is about to go closes its connections; it does not leave anybody waiting.
            self.trouble(node, requests, error.to_string(), begin, !is_timeout(error));
        }
        Some((begin, replies, node))
    }

    /// Has a connection, now and then a new one.
    fn connect(&mut self, what_for: &str) -> Option<()> {
        self.requests_left = self.requests_left.saturating_sub(1);
        let stays = |connected: &Connected| self.shared.is_open(connected.number);
        if self.requests_left > 0 && self.client.is_some() {
            return Some(());
        }
        // What is there is used on when its node is about to go: so it is seen how that treats it.
        if self
            .client
            .as_ref()
            .is_some_and(|connected| !stays(connected))
        {
            return Some(());
        }
        let (number, address) = {
            let targets = self.shared.targets.lock().expect("nobody panics with it");
            let open = targets.iter().filter(|target| target.is_open);
            let open: Vec<_> = open.map(|target| (target.number, target.address)).collect();
            *self.rng.choice(&open)?
        };
        let begin = self.shared.now();
        match Client::try_connect_to(address, self.shared.plan.patience) {
            Some(client) => {
                self.client = Some(Connected { number, client });
                self.requests_left = self.rng.usize(1..100);
                Some(())
            }
            None => {
                let request = vec![vec!["(connect)".to_owned(), what_for.to_owned()]];
                self.trouble(number, &request, "no connection".to_owned(), begin, true);
                None
            }
        }
    }
}

/// Whether a read took too long.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
