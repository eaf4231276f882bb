//! The two servers side by side, and the running of a sequence against both.

use std::time::Instant;

use crate::client::encode;
use crate::compare::{difference, sorted};
use crate::support::text::show_request;
use crate::support::{Client, PATIENCE, Reply, Server, Value, oracle, show};

/// Parameters of both servers. Strings end at 1 MiB, so that the largest offsets can be tried; a container's limit of memory
/// does not matter.
/// No sorted set becomes a skiplist where it is not meant: of members with different scores redis-server's skiplists, whose
/// levels are drawn, give ranges of bytes by chance.
/// redis-server looks at the timeouts of clients that wait as often as `hz` says.
const PARAMETERS: &[(&str, &str)] = &[
    ("hz", "500"),
    ("proto-max-bulk-len", "1mb"),
    ("maxmemory", "0"),
    ("zset-max-listpack-entries", "100000"),
    ("zset-max-listpack-value", "1000000"),
];
/// What makes Quoit choose encodings as 7.0 does, which keeps no set in a listpack.
const OLD_WAYS: &[(&str, &str)] = &[("set-max-listpack-entries", "0")];
/// The databases that sequences use and that are compared.
pub const DATABASES: usize = 4;

/// One thing done to both servers.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A request; the replies are compared.
    Run(Vec<Vec<u8>>),
    /// Requests sent before any reply is read, in writes of so many bytes.
    Pipeline(Vec<Vec<Vec<u8>>>, usize),
    /// A key expires: it is given a millisecond, and both servers are asked until it is gone.
    Expire(Vec<u8>),
    /// A whole iteration by SCAN with these options; what was found is compared as a set.
    Scan(Vec<Vec<u8>>),
    /// A whole iteration by SSCAN and the like, given with its key, with these options.
    ScanOf(Vec<Vec<u8>>, Vec<Vec<u8>>),
    /// SPOP of a key, with a count or not; what was taken is put back.
    Pop(Vec<u8>, Option<Vec<u8>>),
    /// The number of keys, after those whose time is over are gone: Redis counts them until it comes across them.
    Size,
    /// The whole keyspace is compared.
    Compare,
}

impl Step {
    /// The step in one line.
    pub fn show(&self) -> String {
        match self {
            Step::Run(request) => show_request(request),
            Step::Pipeline(requests, piece) => {
                let lines: Vec<String> = requests
                    .iter()
                    .map(|request| show_request(request))
                    .collect();
                format!(
                    "(pipeline in writes of {piece})\n    {}",
                    lines.join("\n    ")
                )
            }
            Step::Expire(key) => format!("(expire {})", show_request(&[key])),
            Step::Scan(options) => format!("(scan all {})", show_request(options)),
            Step::ScanOf(command, options) => {
                format!(
                    "(scan all {} {})",
                    show_request(command),
                    show_request(options)
                )
            }
            Step::Pop(key, count) => {
                format!("(SPOP {})", show_request(&pop(key, count.as_ref())[1..]))
            }
            Step::Size => "(size)".to_owned(),
            Step::Compare => "(compare all keys)".to_owned(),
        }
    }
}

/// Where two servers differ.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The number of the step.
    pub step: usize,
    /// What was asked.
    pub request: String,
    /// What redis-server said.
    pub redis: String,
    /// What Quoit said.
    pub quoit: String,
    /// What is wrong with that.
    pub problem: String,
}

/// Both servers.
pub struct Pair {
    pub redis: Server,
    pub quoit: Server,
}

impl Pair {
    /// Starts both; `None`, after a note, when redis-server is not installed.
    pub fn start(test: &str) -> Option<Pair> {
        let redis = oracle(test)?;
        let quoit = Server::quoit(&[]);
        for server in [&redis, &quoit] {
            for (name, value) in PARAMETERS {
                let set = server.client().run(&["CONFIG", "SET", name, value]);
                assert_eq!(set, Value::ok());
            }
        }
        for (name, value) in OLD_WAYS {
            let set = quoit.client().run(&["CONFIG", "SET", name, value]);
            assert_eq!(set, Value::ok());
        }
        // Parameters are those of a node: what a value becomes is said where it is.
        for node in &quoit.companions {
            for (name, value) in PARAMETERS.iter().chain(OLD_WAYS) {
                let set = node.client().run(&["CONFIG", "SET", name, value]);
                assert_eq!(set, Value::ok());
            }
        }
        Some(Pair { redis, quoit })
    }

    /// Runs a sequence on empty databases and new connections: the first difference, if there is one.
    pub fn replay(&self, protocol: u8, steps: &[Step]) -> Option<Mismatch> {
        let mut sides = Sides::connect(self, protocol);
        sides.clear();
        steps.iter().enumerate().find_map(|(number, step)| {
            sides.step(step).map(|mismatch| Mismatch {
                step: number,
                ..mismatch
            })
        })
    }
}

/// A connection to each.
pub struct Sides {
    redis: Client,
    quoit: Client,
}

impl Sides {
    /// Connects to both.
    pub fn connect(pair: &Pair, protocol: u8) -> Sides {
        Sides {
            redis: pair.redis.client_in(protocol),
            quoit: pair.quoit.client_in(protocol),
        }
    }

    fn clear(&mut self) {
        for side in [&mut self.redis, &mut self.quoit] {
            assert_eq!(side.run(&["FLUSHALL"]), Value::ok());
        }
    }

    fn step(&mut self, step: &Step) -> Option<Mismatch> {
        match step {
            Step::Run(request) => self.run(request),
            Step::Pipeline(requests, piece) => self.pipeline(requests, *piece),
            Step::Expire(key) => self.expire(key),
            Step::Scan(options) => self.scan(&[b"SCAN".to_vec()], options),
            Step::ScanOf(command, options) => self.scan(command, options),
            Step::Pop(key, count) => self.pop(key, count.as_ref()),
            Step::Size => self.size(),
            Step::Compare => self.compare_all(),
        }
    }

    /// Sends a request to both and compares.
    pub fn run(&mut self, request: &[Vec<u8>]) -> Option<Mismatch> {
        match self.ask(request) {
            Ok((redis, quoit)) => compared(request, &redis, &quoit),
            Err(mismatch) => Some(mismatch),
        }
    }

    fn pipeline(&mut self, requests: &[Vec<Vec<u8>>], piece: usize) -> Option<Mismatch> {
        let bytes: Vec<u8> = requests
            .iter()
            .flat_map(|request| encode(request))
            .collect();
        for side in [&mut self.redis, &mut self.quoit] {
            // A connection that is lost shows at the first reply.
            let _ = bytes
                .chunks(piece)
                .try_for_each(|piece| side.try_send_raw(piece));
        }
        requests
            .iter()
            .find_map(|request| match self.replies(request) {
                Ok((redis, quoit)) => compared(request, &redis, &quoit),
                Err(mismatch) => Some(mismatch),
            })
    }

    /// Both replies to a request.
    fn ask(&mut self, request: &[Vec<u8>]) -> Result<(Reply, Reply), Mismatch> {
        let bytes = encode(request);
        for side in [&mut self.redis, &mut self.quoit] {
            // A connection that is lost shows at the reply.
            let _ = side.try_send_raw(&bytes);
        }
        self.replies(request)
    }

    /// The next reply of each, which is that to `request`.
    fn replies(&mut self, request: &[Vec<u8>]) -> Result<(Reply, Reply), Mismatch> {
        let [redis, quoit] = [&mut self.redis, &mut self.quoit].map(Client::try_read);
        match (redis, quoit) {
            (Ok(redis), Ok(quoit)) => Ok((redis, quoit)),
            (redis, quoit) => {
                let say = |reply: std::io::Result<Reply>| {
                    reply.map_or_else(|error| format!("({error})"), |reply| show(&reply.value))
                };
                Err(mismatch(
                    show_request(request),
                    say(redis),
                    say(quoit),
                    "no reply",
                ))
            }
        }
    }

    fn expire(&mut self, key: &[u8]) -> Option<Mismatch> {
        let request = [b"PEXPIRE".to_vec(), key.to_vec(), b"1".to_vec()];
        if let Some(mismatch) = self.run(&request) {
            return Some(mismatch);
        }
        let begun = Instant::now();
        let probe = [b"EXISTS".to_vec(), key.to_vec()];
        loop {
            match self.ask(&probe) {
                Ok((redis, quoit))
                    if redis.value == Value::Int(0) && quoit.value == Value::Int(0) =>
                {
                    return None;
                }
                Ok((redis, quoit)) if begun.elapsed() > PATIENCE => {
                    return Some(mismatch(
                        show_request(&probe),
                        show(&redis.value),
                        show(&quoit.value),
                        "a key does not expire",
                    ));
                }
                Ok(_) => std::thread::yield_now(),
                Err(mismatch) => return Some(mismatch),
            }
        }
    }

    fn scan(&mut self, command: &[Vec<u8>], options: &[Vec<u8>]) -> Option<Mismatch> {
        let [redis, quoit] =
            [&mut self.redis, &mut self.quoit].map(|side| scan_all(side, command, options));
        (redis != quoit).then(|| {
            mismatch(
                Step::ScanOf(command.to_vec(), options.to_vec()).show(),
                redis,
                quoit,
                "what was found differs",
            )
        })
    }

    /// The same number of members goes, and all of them come back.
    fn pop(&mut self, key: &[u8], count: Option<&Vec<u8>>) -> Option<Mismatch> {
        let request = pop(key, count);
        let (redis, quoit) = match self.ask(&request) {
            Ok((redis, quoit)) => (redis.value, quoit.value),
            Err(mismatch) => return Some(mismatch),
        };
        let problem = |problem| {
            let (redis, quoit) = (show(&redis), show(&quoit));
            Some(mismatch(show_request(&request), redis, quoit, problem))
        };
        let (taken, taken_too) = match (&redis, &quoit) {
            (Value::Bulk(one), Value::Bulk(other)) => (vec![one.clone()], vec![other.clone()]),
            (Value::Array(_), Value::Array(_)) | (Value::Set(_), Value::Set(_)) => {
                (sorted(&redis.items()), sorted(&quoit.items()))
            }
            _ if redis == quoit => return None,
            _ => return problem("the replies differ"),
        };
        if taken.len() != taken_too.len() {
            return problem("different numbers");
        }
        if taken.is_empty() {
            return None;
        }
        for (side, taken) in [(&mut self.redis, taken), (&mut self.quoit, taken_too)] {
            let mut back = vec![b"SADD".to_vec(), key.to_vec()];
            let count = taken.len() as i64;
            back.extend(taken);
            if side.run(&back) != Value::Int(count) {
                return problem("what was taken is still there");
            }
        }
        self.run(&[b"SMEMBERS".to_vec(), key.to_vec()])
    }

    /// An iteration makes redis-server find the keys whose time is over.
    fn size(&mut self) -> Option<Mismatch> {
        self.scan(&[b"SCAN".to_vec()], &[b"COUNT".to_vec(), b"1000".to_vec()])
            .or_else(|| self.run(&[b"DBSIZE".to_vec()]))
    }

    /// Compares the keys of all databases: names, values, expiries, encodings.
    fn compare_all(&mut self) -> Option<Mismatch> {
        // What looks at the keys must not be queued.
        if let Some(mismatch) = self.run(&[b"DISCARD".to_vec()]) {
            return Some(mismatch);
        }
        let here = self.database();
        let found = (0..DATABASES).find_map(|database| self.compare_database(database));
        self.select(here);
        found
    }

    /// Where the connection is: the two must agree, and a reply to SELECT has told.
    fn database(&mut self) -> usize {
        let info = self.redis.run(&["CLIENT", "INFO"]).text();
        let field = info.split(' ').find_map(|field| field.strip_prefix("db="));
        field
            .and_then(|number| number.parse().ok())
            .expect("redis-server says its database")
    }

    fn select(&mut self, database: usize) {
        for side in [&mut self.redis, &mut self.quoit] {
            assert_eq!(side.run(&["SELECT", &database.to_string()]), Value::ok());
        }
    }

    fn compare_database(&mut self, database: usize) -> Option<Mismatch> {
        self.select(database);
        let all = [b"KEYS".to_vec(), b"*".to_vec()];
        let keys = match self.ask(&all) {
            Ok((redis, quoit)) => {
                let (redis, quoit) = (sorted(&redis.value.items()), sorted(&quoit.value.items()));
                if redis != quoit {
                    let what = format!("keys of database {database}");
                    return Some(mismatch(
                        what,
                        show_request(&redis),
                        show_request(&quoit),
                        "the keys differ",
                    ));
                }
                redis
            }
            Err(mismatch) => return Some(mismatch),
        };
        self.size().or_else(|| {
            keys.iter().find_map(|key| {
                [
                    &["GET"][..],
                    &["PTTL"],
                    &["OBJECT", "ENCODING"],
                    &["STRLEN"],
                    &["SMEMBERS"],
                    &["HGETALL"],
                    &["XINFO", "STREAM", "", "FULL", "COUNT", "0"],
                    &["ZRANGE", "", "0", "-1", "WITHSCORES"],
                ]
                .into_iter()
                .find_map(|words| {
                    let mut request: Vec<Vec<u8>> =
                        words.iter().map(|word| word.as_bytes().to_vec()).collect();
                    match request.iter_mut().find(|word| word.is_empty()) {
                        Some(place) => *place = key.clone(),
                        None => request.push(key.clone()),
                    }
                    self.run(&request)
                })
                .or_else(|| {
                    let (start, stop) = (b"0".to_vec(), b"-1".to_vec());
                    self.run(&[b"LRANGE".to_vec(), key.clone(), start, stop])
                })
            })
        })
    }
}

/// All that an iteration finds, in order and each once, or how it ended.
fn scan_all(side: &mut Client, command: &[Vec<u8>], options: &[Vec<u8>]) -> String {
    let mut cursor = b"0".to_vec();
    let mut found = std::collections::BTreeSet::new();
    for _ in 0..100_000 {
        let mut request = command.to_vec();
        request.push(cursor);
        request.extend_from_slice(options);
        let reply = side.run(&request);
        let Value::Array(items) = &reply else {
            return show(&reply);
        };
        let [next, keys] = items.as_slice() else {
            return show(&reply);
        };
        found.extend(keys.items().iter().map(|key| key.bytes().to_vec()));
        if next.bytes() == b"0" {
            return show_request(&found.into_iter().collect::<Vec<_>>());
        }
        cursor = next.bytes().to_vec();
    }
    "an iteration without end".to_owned()
}

fn pop(key: &[u8], count: Option<&Vec<u8>>) -> Vec<Vec<u8>> {
    let mut request = vec![b"SPOP".to_vec(), key.to_vec()];
    request.extend(count.cloned());
    request
}

fn compared(request: &[Vec<u8>], redis: &Reply, quoit: &Reply) -> Option<Mismatch> {
    let problem = difference(request, redis, quoit)?;
    Some(mismatch(
        show_request(request),
        show(&redis.value),
        show(&quoit.value),
        problem,
    ))
}

fn mismatch(request: String, redis: String, quoit: String, problem: &str) -> Mismatch {
    Mismatch {
        step: 0,
        request,
        redis,
        quoit,
        problem: problem.to_owned(),
    }
}
