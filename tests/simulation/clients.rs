//! Clients on hosts of their own, which write and read at any node and note all they see.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use turmoil::net::TcpStream;

use crate::history::{Operation, What};
use crate::support::Value;
use crate::support::client::{decode, encode};
use crate::world::{PORT, Shared, T};

/// Keys of each writer.
const KEYS: usize = 12;
/// The longest a connection may take: longer than any delay, and a node that is dead does not answer at all.
const CONNECTING: Duration = Duration::from_millis(300);
/// The longest a reply of a node that lives may take: it says CLUSTERDOWN after the node timeout, and what the request waits
/// for before it is tried is bounded too.
pub const PATIENCE: Duration = T.saturating_mul(3);

/// Something else than what was asked for.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub at: Duration,
    pub node: usize,
    pub request: String,
    pub what: String,
    /// An error reply; else the connection ended, or no reply came in time.
    pub is_error: bool,
    /// No reply came in time, from a node that was there all the while.
    pub is_hang: bool,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, node, hangs) = (
            self.at,
            self.node,
            if self.is_hang { " (hangs)" } else { "" },
        );
        write!(
            f,
            "at {at:?}, node-{node}: {}: {}{hangs}",
            self.request, self.what
        )
    }
}

/// What all clients of a simulation share.
pub struct Load {
    shared: Rc<Shared>,
    stop: Cell<bool>,
    /// How often the name of a key was given up, because nobody knows what became of a write.
    generations: RefCell<Vec<u32>>,
    pub operations: RefCell<Vec<Operation>>,
    pub troubles: RefCell<Vec<Trouble>>,
}

impl Load {
    /// For so many writers.
    pub fn new(shared: Rc<Shared>, writers: usize) -> Rc<Load> {
        Rc::new(Load {
            shared,
            stop: Cell::new(false),
            generations: RefCell::new(vec![0; writers * KEYS]),
            operations: RefCell::default(),
            troubles: RefCell::default(),
        })
    }

    /// Lets all clients end.
    pub fn stop(&self) {
        self.stop.set(true);
    }

    fn name(&self, key: usize) -> String {
        format!("key:{key}:{}", self.generations.borrow()[key])
    }

    fn note(&self, key: String, what: What, begin: Duration, node: usize) {
        let end = now().as_micros() as u64;
        self.operations.borrow_mut().push(Operation {
            key,
            what,
            begin: begin.as_micros() as u64,
            end,
            node,
        });
    }
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// A client.
pub struct Worker {
    load: Rc<Load>,
    rng: fastrand::Rng,
    connected: Option<Connected>,
    /// Until it goes to another node.
    requests_left: usize,
}

struct Connected {
    node: usize,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Worker {
    pub fn new(load: &Rc<Load>, seed: u64) -> Worker {
        Worker {
            load: Rc::clone(load),
            rng: fastrand::Rng::with_seed(seed),
            connected: None,
            requests_left: 0,
        }
    }

    fn goes_on(&self) -> bool {
        !self.load.stop.get()
    }

    async fn rest(&mut self) {
        let long = Duration::from_micros(self.rng.u64(0..20_000));
        tokio::time::sleep(long).await;
    }

    /// Writes until it is to end: SET of half of the keys; the numbers of the others are pushed to lists, whose lengths tell
    /// whether each write was done once.
    pub async fn write_all(mut self, writer: usize) -> turmoil::Result {
        let mut numbers = [0; KEYS];
        let mut lengths = [0; KEYS];
        while self.goes_on() {
            self.rest().await;
            // Some at once, which may go to several nodes.
            let count = if self.rng.bool() {
                1
            } else {
                self.rng.usize(1..5)
            };
            let first = self.rng.usize(..KEYS);
            let indexes: Vec<usize> = (0..count).map(|at| (first + at) % KEYS).collect();
            let mut requests = Vec::new();
            for index in &indexes {
                let name = self.load.name(writer * KEYS + index);
                let number = (numbers[*index] + 1).to_string();
                let command = if is_list(*index) { "RPUSH" } else { "SET" };
                requests.push(vec![command.to_owned(), name, number]);
            }
            let Some((begin, mut replies, node)) = self.ask(&requests).await else {
                continue;
            };
            replies.resize(requests.len(), None);
            for ((index, request), reply) in indexes.into_iter().zip(&requests).zip(replies) {
                let number = numbers[index] + 1;
                let name = request[1].clone();
                let length = match &reply {
                    Some(Value::Int(length)) if is_list(index) => *length,
                    Some(reply) if *reply == Value::ok() && !is_list(index) => 1,
                    other => {
                        if let Some(other) = other {
                            self.trouble(node, request, format!("{other:?}"), begin);
                        }
                        self.load.note(name, What::Tried(number), begin, node);
                        numbers[index] = 0;
                        lengths[index] = 0;
                        self.load.generations.borrow_mut()[writer * KEYS + index] += 1;
                        continue;
                    }
                };
                if is_list(index) && length != lengths[index] + 1 {
                    // Either what was there is gone, or this was done twice.
                    if length != 1 {
                        let before = lengths[index];
                        let what = format!("a list of {before} has {length} after one was pushed");
                        self.trouble(node, request, what, begin);
                    }
                    self.load.note(name.clone(), What::Read(None), begin, node);
                }
                numbers[index] = number;
                lengths[index] = length;
                self.load.note(name, What::Wrote(number), begin, node);
            }
        }
        Ok(())
    }

    /// Reads what any of them writes until it is to end.
    pub async fn read_all(mut self) -> turmoil::Result {
        let keys = self.load.generations.borrow().len();
        while self.goes_on() {
            self.rest().await;
            let count = if self.rng.bool() { 1 } else { 6 };
            // MGET is only for texts.
            let step = if self.rng.bool() { 2 } else { 1 };
            let some = (0..count).map(|_| self.rng.usize(..keys) / step * step);
            let some: Vec<usize> = some.collect();
            self.read(some).await;
        }
        Ok(())
    }

    /// Reads every key at every node that is there.
    pub async fn read_each(mut self) -> turmoil::Result {
        let keys = self.load.generations.borrow().len();
        for (node, ip) in self.load.shared.open() {
            self.connected = None;
            self.connect_to(node, ip).await;
            self.requests_left = usize::MAX;
            for first in (0..keys).step_by(8) {
                self.read((first..keys.min(first + 8)).collect()).await;
            }
        }
        Ok(())
    }

    async fn read(&mut self, keys: Vec<usize>) {
        let name = |key: &usize| self.load.name(*key);
        let names: Vec<String> = keys.iter().map(name).collect();
        let are_texts = keys.iter().all(|key| !is_list(*key));
        let is_one = are_texts && keys.len() > 1 && self.rng.bool();
        let requests: Vec<Vec<String>> = if is_one {
            let words = std::iter::once("MGET").chain(names.iter().map(String::as_str));
            vec![words.map(str::to_owned).collect()]
        } else {
            let words = keys
                .iter()
                .zip(&names)
                .map(|(key, name)| match is_list(*key) {
                    true => vec!["LRANGE", name, "-1", "-1"],
                    false => vec!["GET", name],
                });
            words
                .map(|words| words.into_iter().map(str::to_owned).collect())
                .collect()
        };
        let Some((begin, mut replies, node)) = self.ask(&requests).await else {
            return;
        };
        if is_one && let [Some(Value::Array(items))] = &replies[..] {
            replies = items.iter().cloned().map(Some).collect();
        }
        for (at, (name, reply)) in names.into_iter().zip(replies).enumerate() {
            let Some(reply) = reply else {
                continue;
            };
            let value = match &reply {
                Value::Array(items) => items.first().cloned().unwrap_or(Value::NilBulk),
                other => other.clone(),
            };
            let value = match value {
                Value::NilBulk => None,
                Value::Bulk(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    Some(text.parse().unwrap_or(u64::MAX))
                }
                _ => {
                    let request = requests.get(at).unwrap_or(&requests[0]).clone();
                    self.trouble(node, &request, format!("{reply:?}"), begin);
                    continue;
                }
            };
            self.load.note(name, What::Read(value), begin, node);
        }
    }

    fn trouble(&self, node: usize, request: &[String], what: String, begin: Duration) {
        self.load.troubles.borrow_mut().push(Trouble {
            at: begin,
            node,
            request: request.join(" "),
            what,
            is_error: true,
            is_hang: false,
        });
    }

    /// Sends requests together: when that was, the replies as far as they came, and from whom. `None` when nothing was sent.
    async fn ask(
        &mut self,
        requests: &[Vec<String>],
    ) -> Option<(Duration, Vec<Option<Value>>, usize)> {
        self.connect().await?;
        let begin = now();
        let connected = self.connected.as_mut()?;
        let node = connected.node;
        let bytes: Vec<u8> = requests.iter().flat_map(|words| encode(words)).collect();
        let mut replies = Vec::new();
        let talk = async {
            connected.stream.write_all(&bytes).await?;
            while replies.len() < requests.len() {
                replies.push(Some(connected.reply().await?));
            }
            Ok::<(), io::Error>(())
        };
        let ended = match timeout(PATIENCE, talk).await {
            Ok(Ok(())) => return Some((begin, replies, node)),
            Ok(Err(error)) => (error.to_string(), false),
            Err(_) => ("no reply".to_owned(), self.load.shared.is_up(node)),
        };
        self.connected = None;
        let (what, is_hang) = ended;
        self.load.troubles.borrow_mut().push(Trouble {
            at: begin,
            node,
            request: requests[replies.len()].join(" "),
            what,
            is_error: false,
            is_hang,
        });
        Some((begin, replies, node))
    }

    /// Has a connection, now and then a new one.
    async fn connect(&mut self) -> Option<()> {
        self.requests_left = self.requests_left.saturating_sub(1);
        if self.requests_left > 0 && self.connected.is_some() {
            return Some(());
        }
        self.connected = None;
        let open = self.load.shared.open();
        let (node, ip) = *self.rng.choice(&open)?;
        self.connect_to(node, ip).await
    }

    async fn connect_to(&mut self, node: usize, ip: IpAddr) -> Option<()> {
        let connecting = TcpStream::connect((ip, PORT));
        let stream = timeout(CONNECTING, connecting).await.ok()?.ok()?;
        let buffer = Vec::new();
        self.connected = Some(Connected {
            node,
            stream,
            buffer,
        });
        self.requests_left = self.rng.usize(1..60);
        Some(())
    }
}

impl Connected {
    async fn reply(&mut self) -> io::Result<Value> {
        loop {
            if let Some((value, length)) = decode(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(value);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Whether a key is one of lists.
fn is_list(key: usize) -> bool {
    key % 2 == 1
}
