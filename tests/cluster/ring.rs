//! Nodes as processes: each has its directory and ports of its own, which it keeps when it starts again.

use std::collections::HashSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::server::quoit_command;
use crate::support::{Client, PATIENCE, TempDir, Value, eventually, poll};

/// How a ring is set up.
#[derive(Clone)]
pub struct Options {
    /// cluster-node-timeout. Short where failures are waited for; long where a slow machine must not look like one.
    pub node_timeout: Duration,
    /// What else each node is told.
    pub arguments: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            node_timeout: Duration::from_secs(20),
            arguments: Vec::new(),
        }
    }
}

impl Options {
    /// With a node timeout as short as a busy machine allows.
    pub fn hasty() -> Options {
        Options {
            node_timeout: Duration::from_millis(1500),
            ..Options::default()
        }
    }

    /// With these arguments.
    pub fn and(mut self, arguments: &[&str]) -> Options {
        self.arguments
            .extend(arguments.iter().map(|text| (*text).to_owned()));
        self
    }
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of clients.
    pub client: u16,
    /// Of the cluster face.
    pub cluster: u16,
    /// Of peers.
    pub bus: u16,
}

/// In which network a node runs.
#[derive(Clone)]
pub struct Place {
    /// Where clients reach it.
    pub ip: IpAddr,
    /// Where peers reach it.
    pub bus_ip: IpAddr,
    /// What stands before its command line.
    pub within: Vec<String>,
    /// What it is told of that.
    pub arguments: Vec<String>,
}

impl Place {
    /// This machine.
    fn here() -> Place {
        Place {
            ip: Ipv4Addr::LOCALHOST.into(),
            bus_ip: Ipv4Addr::LOCALHOST.into(),
            within: Vec::new(),
            arguments: vec!["--bind".to_owned(), "127.0.0.1".to_owned()],
        }
    }
}

/// A node, which may be running or not.
pub struct Node {
    /// Its number, from 0 in the order of their making.
    pub number: usize,
    /// Where it runs.
    pub place: Place,
    /// Where it listens.
    pub ports: Ports,
    /// Its directory.
    pub dir: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Node {
    fn new(number: usize, place: Place, ports: Ports, arguments: Vec<String>) -> Node {
        Node {
            number,
            place,
            ports,
            dir: TempDir::new("node"),
            arguments,
            child: None,
        }
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.place.ip, self.ports.client)
    }

    /// Where clients of a Redis Cluster reach it.
    pub fn cluster_address(&self) -> SocketAddr {
        SocketAddr::new(self.place.ip, self.ports.cluster)
    }

    fn command(&self) -> Command {
        let port = self.ports.client.to_string();
        let (cluster, bus) = (self.ports.cluster.to_string(), self.ports.bus.to_string());
        let mut all = vec!["--port", &port, "--cluster-enabled", "yes"];
        all.extend(["--cluster-port", &cluster, "--cluster-bus-port", &bus]);
        all.extend(self.arguments.iter().map(String::as_str));
        all.extend(self.place.arguments.iter().map(String::as_str));
        let plain = quoit_command(&all, &[]);
        let Some((program, words)) = self.place.within.split_first() else {
            return plain;
        };
        let mut command = Command::new(program);
        command
            .args(words)
            .arg(plain.get_program())
            .args(plain.get_args());
        // As plain: without the parameters of this process.
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts it, or starts it again where it was. Returns as soon as it lives.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "node {} runs", self.number);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path());
        let mut command = self.command();
        command
            .current_dir(self.dir.path())
            .stderr(log.expect("the directory of a node can be written"));
        self.child = Some(command.spawn().expect("quoit was built"));
    }

    /// Waits until it listens; what it says when it ends instead.
    fn listens(&mut self) -> Result<(), String> {
        let address = self.address();
        let limit = Duration::from_secs(1);
        eventually("a node to listen, or to end", || {
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait().expect("it is our child").is_some() {
                return Some(Err(self.log()));
            }
            Client::try_connect_to(address, limit).map(|_| Ok(()))
        })
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// What it has logged, in all its lives.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map_or_else(
            |_| String::new(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Whether it was started and has not been waited for.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a process id is not 0");
        kill_process(pid, signal).expect("it is our child");
    }

    /// SIGSTOP; returns when all its threads stand still.
    pub fn halt(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid());
        eventually("all threads to stand still", || {
            let mut tasks = std::fs::read_dir(&tasks).expect("Linux, and it lives");
            let stands = tasks.all(|task| {
                let path = task.expect("a folder that can be listed").path();
                let state = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
                // Behind the name, which is in parentheses and may have any.
                state
                    .rsplit_once(") ")
                    .is_none_or(|(_, rest)| rest.starts_with('T'))
            });
            stands.then_some(())
        });
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// kill -9; returns when it is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }

    /// Waits for its end by itself.
    pub fn exited(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = poll(limit, || child.try_wait().expect("it is our child"));
        let status = status.unwrap_or_else(|| panic!("node {} did not end", self.number));
        self.child = None;
        status
    }

    /// A connection to its single face.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.client_of(self.address())
    }

    /// A connection to its cluster face.
    #[track_caller]
    pub fn cluster_client(&self) -> Client {
        self.client_of(self.cluster_address())
    }

    #[track_caller]
    fn client_of(&self, address: SocketAddr) -> Client {
        let client = Client::try_connect_to(address, PATIENCE);
        client.unwrap_or_else(|| panic!("node {} does not listen on {address}", self.number))
    }

    /// What it says of the ring; `None` when it does not answer at once.
    pub fn status(&self) -> Option<Status> {
        let limit = Duration::from_secs(2);
        let mut client = Client::try_connect_to(self.cluster_address(), limit)?;
        Some(Status::read(&client.try_run(&["INFO", "cluster"])?.text()))
    }

    /// Resident bytes.
    pub fn rss_bytes(&self) -> usize {
        let path = format!("/proc/{}/statm", self.pid());
        let text = std::fs::read_to_string(path).expect("Linux, and it lives");
        let pages = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        pages.map_or(0, |pages: usize| pages * rustix::param::page_size())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = self.log();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(80);
            eprintln!(
                "--- node {} ({:?}), the last of {} lines:\n{}",
                self.number,
                self.ports,
                lines.len(),
                lines[from..].join("\n")
            );
        } else {
            assert!(!log.contains("panicked at"), "a node panicked:\n{log}");
        }
    }
}

/// What a node says of the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it serves keys.
    pub is_ok: bool,
    /// Of its map.
    pub epoch: u64,
    /// Its name.
    pub id: String,
    /// The leader that it knows.
    pub leader: Option<String>,
    /// Slots that are not where they should be.
    pub misplaced: usize,
    /// The nodes of its map.
    pub nodes: Vec<Seen>,
}

/// A node as another one sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub id: String,
    /// `up`, `leaving` or `failed`.
    pub state: String,
    /// Slots that it owns.
    pub slots: usize,
}

impl Status {
    fn read(info: &str) -> Status {
        let mut status = Status::default();
        for line in info.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            match name {
                "ring_state" => status.is_ok = value == "ok",
                "ring_epoch" => status.epoch = value.parse().expect("a number"),
                "ring_node_id" => status.id = value.to_owned(),
                "ring_leader" => status.leader = Some(value.to_owned()),
                "ring_slots_misplaced" => status.misplaced = value.parse().expect("a number"),
                _ if value.starts_with("id=") => status.nodes.push(Seen::read(value)),
                _ => {}
            }
        }
        status
    }

    /// Nodes that are up.
    pub fn up(&self) -> impl Iterator<Item = &Seen> {
        self.nodes.iter().filter(|node| node.state == "up")
    }

    /// Whether so many nodes are up, none is about to leave, and all slots are served where they should be.
    fn is_whole(&self, count: usize) -> bool {
        let slots: usize = self.up().map(|node| node.slots).sum();
        self.is_ok
            && self.misplaced == 0
            && self.up().count() == count
            && slots == SLOTS
            && self.nodes.iter().all(|node| node.state != "leaving")
    }
}

impl Seen {
    fn read(text: &str) -> Seen {
        let field = |name: &str| {
            let mut fields = text.split(',');
            let found = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        Seen {
            id: field("id"),
            state: field("state"),
            slots: field("slots").parse().unwrap_or(0),
        }
    }
}

/// Slots of a ring.
pub const SLOTS: usize = 16384;

/// Nodes that know each other.
pub struct Ring {
    /// All that were ever started, by their numbers.
    pub nodes: Vec<Node>,
    /// How they are set up.
    pub options: Options,
    seeds: String,
}

impl Ring {
    /// So many nodes, which have become one ring.
    #[track_caller]
    pub fn of(count: usize, options: Options) -> Ring {
        let mut ring = Ring::prepared(count, options);
        for node in 0..count {
            ring.nodes[node].start();
        }
        ring.whole();
        ring
    }

    /// So many nodes, none of which runs yet, and all of which are seeds.
    pub fn prepared(count: usize, options: Options) -> Ring {
        Ring::prepared_at(&vec![Place::here(); count], options)
    }

    /// A node at each of these places, none of which runs yet, and all of which are seeds.
    pub fn prepared_at(places: &[Place], options: Options) -> Ring {
        let places: Vec<(&Place, Ports)> = places.iter().map(|place| (place, reserve())).collect();
        let seeds = places.iter().map(|(place, ports)| seed(place, *ports));
        let mut ring = Ring {
            nodes: Vec::new(),
            options,
            seeds: seeds.collect::<Vec<_>>().join(" "),
        };
        for (place, ports) in places {
            ring.prepare(place.clone(), ports, &[]);
        }
        ring
    }

    fn prepare(&mut self, place: Place, ports: Ports, more: &[&str]) -> usize {
        let number = self.nodes.len();
        let timeout = self.options.node_timeout.as_millis().to_string();
        let mut arguments: Vec<String> = [
            "--cluster-node-timeout",
            &timeout,
            "--cluster-seeds",
            &self.seeds,
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(self.options.arguments.iter().cloned());
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        self.nodes.push(Node::new(number, place, ports, arguments));
        number
    }

    /// Starts one node more and returns its number. It listens, but need not have joined yet.
    #[track_caller]
    pub fn add(&mut self) -> usize {
        self.add_with(&[])
    }

    /// The same, with arguments of its own.
    #[track_caller]
    pub fn add_with(&mut self, arguments: &[&str]) -> usize {
        // Another process may take a port between our look and the node's: then with others.
        for _ in 0..10 {
            let number = self.prepare(Place::here(), reserve(), arguments);
            self.nodes[number].start();
            match self.nodes[number].listens() {
                Ok(()) => return number,
                Err(log) if log.contains("in use") => drop(self.nodes.pop()),
                Err(log) => panic!("a node ended:\n{log}"),
            }
        }
        panic!("no free ports for a node");
    }

    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// A running node by chance.
    pub fn any(&self) -> &Node {
        let running: Vec<&Node> = self.running().collect();
        running[fastrand::usize(..running.len())]
    }

    /// Waits until all that run are one ring that serves every slot where it should be.
    #[track_caller]
    pub fn whole(&self) {
        self.whole_within(PATIENCE);
    }

    /// The same, with a bound that is the claim.
    #[track_caller]
    pub fn whole_within(&self, limit: Duration) -> Duration {
        let among: Vec<usize> = self.running().map(|node| node.number).collect();
        self.whole_among(&among, limit)
    }

    /// The same of a part of the nodes, which are all that is left. Returns how long it took.
    #[track_caller]
    pub fn whole_among(&self, among: &[usize], limit: Duration) -> Duration {
        let begun = Instant::now();
        let mut seen = Vec::new();
        let whole = poll(limit, || {
            seen = among
                .iter()
                .map(|number| (*number, self.nodes[*number].status()))
                .collect();
            let all: Option<Vec<&Status>> = seen.iter().map(|(_, seen)| seen.as_ref()).collect();
            let all = all?;
            let epochs: HashSet<u64> = all.iter().map(|status| status.epoch).collect();
            let is_whole = all.iter().all(|status| status.is_whole(among.len()));
            (is_whole && epochs.len() == 1).then_some(())
        });
        assert!(
            whole.is_some(),
            "not one ring of {among:?} within {limit:?}:\n{seen:#?}"
        );
        begun.elapsed()
    }

    /// The running node that leads, as all see it.
    #[track_caller]
    pub fn leader(&self) -> usize {
        eventually("a leader that all know", || {
            let statuses: Option<Vec<_>> = self
                .running()
                .map(|node| Some((node.number, node.status()?)))
                .collect();
            let statuses = statuses?;
            let leader = statuses.first()?.1.leader.clone()?;
            let known = |status: &Status| status.leader.as_ref() == Some(&leader);
            if !statuses.iter().all(|(_, status)| known(status)) {
                return None;
            }
            let found = statuses.iter().find(|(_, status)| status.id == leader);
            found.map(|(number, _)| *number)
        })
    }

    /// Which slots a node owns, as any other running one sees it.
    #[track_caller]
    pub fn slots_of(&self, number: usize) -> Vec<bool> {
        let node = &self.nodes[number];
        let there = [
            Value::bulk(node.place.ip.to_string()),
            Value::Int(i64::from(node.ports.cluster)),
        ];
        let mut mine = vec![false; SLOTS];
        for node in self.running().filter(|node| node.number != number) {
            let mut client = node.cluster_client();
            client.set_patience(Duration::from_secs(2));
            let Some(reply) = client.try_run(&["CLUSTER", "SLOTS"]) else {
                continue;
            };
            for range in reply.items() {
                let range = range.items();
                if range[2].items()[..2] == there {
                    let (from, to) = (range[0].int() as usize, range[1].int() as usize);
                    mine[from..=to].fill(true);
                }
            }
            return mine;
        }
        panic!("nobody is left to ask");
    }
}

fn seed(place: &Place, ports: Ports) -> String {
    format!("{}:{}@{}", place.bus_ip, ports.client, ports.bus)
}

/// Ports that nobody uses, below those that the system gives to connections: so a node that starts again finds them free.
/// No two calls of this process return the same.
pub fn reserve() -> Ports {
    static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().expect("nobody panics with it");
    let mut one = || {
        loop {
            let port = fastrand::u16(15_000..32_000);
            if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                taken.push(port);
                return port;
            }
        }
    };
    Ports {
        client: one(),
        cluster: one(),
        bus: one(),
    }
}
