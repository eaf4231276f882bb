//! Two servers in one process: a map that tests change, and a wire in memory.

mod again;
mod leaving;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::receive::PATIENCE_FOR_MORE;
use super::*;
use crate::admin::testing::{Host, MACHINE};
use crate::base::clock::Millis;
use crate::base::worker::{Apart, Share};
use crate::cluster::bus::{Bus, Identity, Links};
use crate::cluster::map::Map;
use crate::cluster::node::NodeState;
use crate::cluster::slots::{Pins, SLOTS, slot_of};
use crate::cluster::transfer::{self, Answer, Verdict};
use crate::cluster::tunnel::Tunnels;
use crate::config::{Access, Settings};
use crate::data::testing::{seeded, value_parts};
use crate::dispatch::Face;
use crate::keyspace::PARTITIONS;
use crate::keyspace::effects::{Event, Interest, Listener, Record};
use crate::keyspace::lock::{Place, lock_in};
use crate::server::connection::serve;
use crate::state::clients::Client;

/// Far beyond what any step takes, so that a test that hangs ends.
const LONG: Duration = Duration::from_secs(60);

/// The keys of a node by database, with their values in parts and their expiry.
type Content = BTreeMap<(u32, Vec<u8>), (Vec<Vec<u8>>, Option<Millis>)>;

type Call = (NodeId, Bytes, oneshot::Sender<Bytes>);

/// One node of the ring.
struct Member {
    host: Host,
    cluster: Arc<Cluster>,
    importer: Arc<Importer>,
    calls: mpsc::UnboundedSender<Call>,
    /// Where it moves keys.
    apart: Apart,
    ends: Arc<Ends>,
}

/// The ring.
struct Net {
    members: Vec<Member>,
    map: Mutex<Map>,
    /// What becomes of the next proposals; when there is none, they are made.
    outcomes: Mutex<Vec<Outcome>>,
    proposals: AtomicUsize,
    /// Calls that are not answered from this one on; their connection breaks.
    is_broken: AtomicBool,
    /// The node that does not answer, and whose connections do not break; 0 is none.
    stalled: AtomicUsize,
    /// Calls that it does not answer.
    unanswered: Mutex<Vec<oneshot::Sender<Bytes>>>,
    /// Answers to one that holds slots come this much later, in milliseconds.
    late_ms: AtomicU64,
}

/// One member's way to the others.
struct Way {
    net: Arc<Net>,
    from: NodeId,
}

fn id(number: usize) -> NodeId {
    NodeId([number as u8 + 1; 20])
}

fn node(number: usize) -> Node {
    Node {
        id: id(number),
        bus: format!("127.0.0.1:{}", 20_000 + number),
        host: "127.0.0.1".to_owned(),
        hostname: String::new(),
        port: number as u16,
        cluster_port: number as u16,
        weight: Node::DEFAULT_WEIGHT,
        state: NodeState::Up,
        incarnation: 1,
    }
}

impl Net {
    /// A ring of so many nodes; the first owns everything and should.
    fn new(count: usize, pairs: &[(&str, &str)]) -> Arc<Net> {
        let mut map = Map::new(Pins::default());
        map.epoch = 1;
        map.nodes = (0..count).map(node).collect();
        map.owners = vec![0; SLOTS];
        map.targets = vec![0; SLOTS];
        let mut inboxes = Vec::new();
        let members = (0..count).map(|number| {
            let (calls, inbox) = mpsc::unbounded_channel();
            inboxes.push(inbox);
            Member::new(number, calls, pairs)
        });
        let net = Arc::new(Net {
            members: members.collect(),
            map: Mutex::new(map),
            outcomes: Mutex::default(),
            proposals: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
            stalled: AtomicUsize::new(0),
            unanswered: Mutex::default(),
            late_ms: AtomicU64::new(0),
        });
        for (member, inbox) in net.members.iter().zip(inboxes) {
            let importer = Arc::clone(&member.importer);
            member.apart.handle().spawn(receive(importer, inbox));
        }
        net.install();
        net
    }

    fn server(&self, number: usize) -> &Arc<Server> {
        &self.members[number].host.server
    }

    fn cluster(&self, number: usize) -> &Arc<Cluster> {
        &self.members[number].cluster
    }

    /// What the second node says to a request of this one.
    async fn ask(self: &Arc<Net>, from: usize, request: Bytes) -> Verdict {
        let way = Way {
            net: Arc::clone(self),
            from: id(from),
        };
        let answer = way.call(&node(1), request).await.expect("it is answered");
        Answer::read(answer).expect("an answer").verdict
    }

    /// Gives the map to all, the last first: who gives slots away learns of it last, or first.
    fn install(&self) {
        let map = Arc::new(self.map.lock().clone());
        let mut members: Vec<&Member> = self.members.iter().collect();
        if map.epoch.is_multiple_of(2) {
            members.reverse();
        }
        for member in members {
            member.cluster.install(Arc::clone(&map));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Map)) {
        {
            let mut map = self.map.lock();
            change(&mut map);
            map.epoch += 1;
        }
        self.install();
    }

    /// Begins to move keys at a node.
    fn start(self: &Arc<Self>, number: usize) -> JoinHandle<()> {
        let member = &self.members[number];
        let way = Arc::new(Way {
            net: Arc::clone(self),
            from: id(number),
        });
        member.apart.handle().spawn(run(
            Arc::clone(&member.host.server),
            Arc::clone(&member.cluster),
            way,
            Arc::clone(&member.importer),
            Arc::clone(&member.ends),
            member.hands(),
        ))
    }

    fn moving(self: &Arc<Self>, number: usize) -> Moving {
        let member = &self.members[number];
        Moving {
            hands: member.hands(),
            ends: Arc::clone(&member.ends),
            server: Arc::clone(&member.host.server),
            cluster: Arc::clone(&member.cluster),
            peers: Arc::new(Way {
                net: Arc::clone(self),
                from: id(number),
            }),
        }
    }

    /// Waits until a node owns all slots and nothing is left over anywhere.
    async fn settled(&self, owner: usize) {
        let owns_all = |view: &View| {
            let mut owners = view.map.owners.iter();
            owners.all(|index| usize::from(*index) == owner)
        };
        self.cleared(owns_all).await;
    }

    /// Waits until that is so at all nodes and nothing is left over anywhere.
    async fn cleared(&self, is_so: impl Fn(&View) -> bool) {
        for member in &self.members {
            let is_over = |view: &View| is_so(view) && view.hidden.is_none() && view.held.is_none();
            let ends = member.cluster.wait_for(LONG, is_over).await;
            assert!(ends, "it ends: {}", self.state());
        }
    }

    /// How far all is, for a test that hangs.
    fn state(&self) -> String {
        let states = self.members.iter().map(|member| {
            let view = member.cluster.view();
            let count = |slots: Option<&SlotSet>| slots.map_or(0, SlotSet::len);
            let moves = view.map.moves_from(member.cluster.me);
            let moves: Vec<usize> = moves.iter().map(|(_, slots)| slots.len()).collect();
            format!(
                "epoch {} moves {moves:?} held {} hidden {} dead {}",
                view.map.epoch,
                count(view.held.as_ref()),
                count(view.hidden.as_deref()),
                count(view.dead.as_deref())
            )
        });
        states.collect::<Vec<_>>().join("; ")
    }

    /// All keys of a node, hidden ones among them, with what they hold and when they expire.
    fn content(&self, number: usize) -> Content {
        let keyspace = &self.server(number).keyspace;
        let mut content = BTreeMap::new();
        for (at, database) in keyspace.built() {
            for partition in 0..PARTITIONS {
                let held = lock_in(keyspace, database, partition, u32::MAX).expect("it waits");
                for entry in held.iter() {
                    let parts = value_parts(entry.value(), keyspace.hasher());
                    let before =
                        content.insert((at, entry.key().to_vec()), (parts, entry.expiry()));
                    assert!(before.is_none(), "a key is there once");
                }
            }
        }
        content
    }

    /// The accounts of memory must be what the entries add up to.
    fn check_accounts(&self) {
        for member in &self.members {
            let keyspace = &member.host.server.keyspace;
            let mut total = 0;
            for (_, database) in keyspace.built() {
                let mut bytes = database.table_bytes();
                for partition in 0..PARTITIONS {
                    let held = lock_in(keyspace, database, partition, u32::MAX).expect("it waits");
                    bytes += held
                        .iter()
                        .map(|entry| entry.allocated_bytes() as i64)
                        .sum::<i64>();
                }
                assert_eq!(database.bytes(), bytes);
                total += bytes;
            }
            assert_eq!(keyspace.used_bytes(), total);
        }
    }

    fn connect(&self, number: usize) -> User {
        let streams = self.members.iter().map(|_| None).collect();
        let mut user = User {
            streams,
            at: number,
            database: 0,
        };
        user.open(self, number);
        user
    }
}

impl Member {
    /// One thread for both: a test does not ask how the cores are shared out.
    fn hands(&self) -> Hands {
        let hand = self.apart.handle();
        Hands {
            calm: hand.clone(),
            hasty: hand.clone(),
        }
    }

    fn new(number: usize, calls: mpsc::UnboundedSender<Call>, pairs: &[(&str, &str)]) -> Member {
        let settings = Settings {
            enable_debug_command: Access::Yes,
            ..Settings::new(MACHINE)
        };
        let host = Host::of(settings, pairs);
        let identity = Identity {
            id: id(number),
            ring: "test".to_owned(),
            secret: Vec::new(),
            version: 1,
        };
        let bus = Bus::new(identity, LONG);
        let tunnels = Arc::<Tunnels>::default();
        let links = Links::new(bus, tunnels.clone());
        let cluster = Arc::new(Cluster::new(id(number), Pins::default(), links, tunnels, 1));
        cluster.set_lease(Instant::now() + 100 * LONG);
        assert!(host.server.cluster.set(Arc::clone(&cluster)).is_ok());
        host.server.keyspace.hide(Arc::clone(&cluster) as _);
        let importer = Arc::new(Importer::new(
            Arc::clone(&host.server),
            Arc::clone(&cluster),
        ));
        Member {
            host,
            cluster,
            importer,
            calls,
            apart: Apart::start("moving", Share::Full).expect("a thread"),
            ends: Arc::default(),
        }
    }
}

/// Handles the calls to a node in the order in which they come.
async fn receive(importer: Arc<Importer>, mut inbox: mpsc::UnboundedReceiver<Call>) {
    while let Some((from, request, answer)) = inbox.recv().await {
        let mut payload = BytesMut::new();
        importer.handle(from, request, &mut payload).await;
        // Nobody may wait for it any more.
        let _ = answer.send(payload.freeze());
    }
}

impl Peers for Way {
    fn call(&self, to: &Node, request: Bytes) -> Later<Result<Bytes, CallError>> {
        let (answer, answered) = oneshot::channel();
        let member = self.net.members.iter().find(|one| one.cluster.me == to.id);
        let member = member.expect("tests call nodes that there are");
        let stalled = self.net.stalled.load(Ordering::SeqCst);
        if stalled > 0 && to.id == id(stalled) {
            self.net.unanswered.lock().push(answer);
        } else if !self.net.is_broken.load(Ordering::SeqCst) {
            member
                .calls
                .send((self.from, request, answer))
                .expect("it is received");
        }
        let (net, from) = (Arc::clone(&self.net), self.from);
        Box::pin(async move {
            let answer = answered.await.map_err(|_| CallError::Broken)?;
            let sender = net.members.iter().find(|one| one.cluster.me == from);
            if sender.is_some_and(|one| one.cluster.view().held.is_some()) {
                let late = net.late_ms.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(late)).await;
            }
            Ok(answer)
        })
    }

    fn propose(&self, change: Change) -> Later<Outcome> {
        let net = Arc::clone(&self.net);
        Box::pin(async move {
            net.proposals.fetch_add(1, Ordering::SeqCst);
            if let Some(outcome) = net.outcomes.lock().pop() {
                return outcome;
            }
            match net.map.lock().apply(&change) {
                true => {}
                false => return Outcome::NotMade,
            }
            net.install();
            Outcome::Made
        })
    }
}

/// A client of the ring, which follows redirections.
struct User {
    streams: Vec<Option<BufReader<DuplexStream>>>,
    /// Where the next request goes first.
    at: usize,
    database: u32,
}

impl User {
    fn open(&mut self, net: &Net, number: usize) {
        if self.streams[number].is_none() {
            let (stream, other) = tokio::io::duplex(1 << 20);
            let host = &net.members[number].host;
            let client: Arc<Client> = host.client().session.client;
            tokio::spawn(serve(
                Arc::clone(&host.server),
                other,
                client,
                Face::Cluster,
            ));
            self.streams[number] = Some(BufReader::new(stream));
        }
    }

    async fn send(&mut self, number: usize, words: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend_from_slice(word);
            bytes.extend(b"\r\n");
        }
        let stream = self.streams[number].as_mut().expect("it is open");
        stream.write_all(&bytes).await.expect("it is served");
    }

    /// The next reply, as it came.
    async fn reply(&mut self, number: usize) -> Vec<u8> {
        let stream = self.streams[number].as_mut().expect("it is open");
        let mut reply = Vec::new();
        let mut pending = 1;
        while pending > 0 {
            let from = reply.len();
            stream
                .read_until(b'\n', &mut reply)
                .await
                .expect("it is served");
            assert!(reply.ends_with(b"\r\n"), "the connection ended");
            pending -= 1;
            let line = std::str::from_utf8(&reply[from..]).expect("a line of the protocol");
            let number = || line[1..].trim_end().parse::<i64>().expect("a length");
            match line.as_bytes()[0] {
                b'$' if number() >= 0 => {
                    let mut bulk = vec![0; number() as usize + 2];
                    stream.read_exact(&mut bulk).await.expect("it is served");
                    reply.extend(bulk);
                }
                b'*' => pending += number().max(0),
                _ => {}
            }
        }
        reply
    }

    /// Runs a request wherever its keys are.
    async fn run(&mut self, net: &Net, words: &[&[u8]]) -> Vec<u8> {
        for _ in 0..10_000 {
            self.open(net, self.at);
            self.send(self.at, words).await;
            let reply = self.reply(self.at).await;
            let text = String::from_utf8_lossy(&reply);
            let Some(moved) = text.strip_prefix("-MOVED ") else {
                return reply;
            };
            let port = moved.trim_end().rsplit(':').next().expect("a port");
            self.at = port.parse().expect("a port");
            tokio::task::yield_now().await;
        }
        panic!("it is sent around for ever");
    }

    async fn select(&mut self, net: &Net, database: u32) {
        if self.database != database {
            self.database = database;
            for number in 0..net.members.len() {
                self.open(net, number);
                self.send(number, &[b"SELECT", database.to_string().as_bytes()])
                    .await;
                assert_eq!(self.reply(number).await, b"+OK\r\n");
            }
        }
    }
}

/// Fills a node with keys of all types.
async fn fill(net: &Net, user: &mut User, rng: &mut fastrand::Rng) {
    let text =
        |rng: &mut fastrand::Rng, most: usize| vec![rng.alphanumeric() as u8; rng.usize(..most)];
    for number in 0..600 {
        user.select(net, u32::from(number % 5 == 0)).await;
        let key = format!("key:{number}").into_bytes();
        let value = text(rng, 200);
        let words: Vec<Vec<u8>> = match number % 9 {
            0 => vec![b"SET".to_vec(), key.clone(), value],
            1 => vec![b"APPEND".to_vec(), key.clone(), b"12".to_vec()],
            2 => vec![b"RPUSH".to_vec(), key.clone(), value, b"7".to_vec()],
            3 => vec![b"SADD".to_vec(), key.clone(), b"1".to_vec(), b"2".to_vec()],
            4 => vec![b"SADD".to_vec(), key.clone(), value, b"x".to_vec()],
            5 => vec![
                b"HSET".to_vec(),
                key.clone(),
                b"f".to_vec(),
                value,
                b"g".to_vec(),
                b"1".to_vec(),
            ],
            6 => vec![
                b"ZADD".to_vec(),
                key.clone(),
                b"1.5".to_vec(),
                value,
                b"-inf".to_vec(),
                b"m".to_vec(),
            ],
            7 => vec![
                b"XADD".to_vec(),
                key.clone(),
                b"1-1".to_vec(),
                b"f".to_vec(),
                value,
            ],
            _ => vec![
                b"SETBIT".to_vec(),
                key.clone(),
                b"2000".to_vec(),
                b"1".to_vec(),
            ],
        };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let reply = user.run(net, &words).await;
        assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
        if number % 4 == 0 {
            let at = format!("{}", 1_700_000_100_000i64 + number);
            let reply = user.run(net, &[b"PEXPIREAT", &key, at.as_bytes()]).await;
            assert_eq!(reply, b":1\r\n");
        }
        if number % 18 == 5 {
            let at = b"1700000200000";
            let words: [&[u8]; 6] = [b"HPEXPIREAT", &key, at, b"FIELDS", b"1", b"f"];
            assert_eq!(user.run(net, &words).await, b"*1\r\n:1\r\n");
        }
        if number % 9 == 7 {
            let words: [&[u8]; 5] = [b"XGROUP", b"CREATE", &key, b"g", b"0"];
            assert_eq!(user.run(net, &words).await, b"+OK\r\n");
            let words: [&[u8]; 7] = [b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", &key, b">"];
            assert!(user.run(net, &words).await.starts_with(b"*1"));
        }
    }
    user.select(net, 0).await;
}

/// Adds collections that go in parts.
async fn fill_large(net: &Net, user: &mut User) {
    let member = |number: usize| format!("member:{number}:{}", "x".repeat(number % 50));
    for batch in 0..20 {
        let members: Vec<String> = (batch * 500..(batch + 1) * 500).map(member).collect();
        for (command, key) in [("RPUSH", "large:list"), ("SADD", "large:set")] {
            let mut words = vec![command.as_bytes(), key.as_bytes()];
            words.extend(members.iter().map(String::as_bytes));
            assert!(user.run(net, &words).await.starts_with(b":"));
        }
        let mut words: Vec<&[u8]> = vec![b"HSET", b"large:hash"];
        words.extend(members.iter().flat_map(|one| [one.as_bytes(), b"value"]));
        assert!(user.run(net, &words).await.starts_with(b":"));
        let mut words: Vec<&[u8]> = vec![b"ZADD", b"large:zset"];
        let scores: Vec<String> = (0..500).map(|score| format!("{score}.25")).collect();
        for (score, member) in scores.iter().zip(&members) {
            words.extend([score.as_bytes(), member.as_bytes()]);
        }
        assert!(user.run(net, &words).await.starts_with(b":"));
        for member in &members {
            let words: [&[u8]; 5] = [b"XADD", b"large:stream", b"*", b"f", member.as_bytes()];
            assert!(user.run(net, &words).await.starts_with(b"$"));
        }
    }
    let long = vec![b'l'; 3 << 20];
    let words: [&[u8]; 3] = [b"SET", b"large:string", &long];
    assert_eq!(user.run(net, &words).await, b"+OK\r\n");
    let words: [&[u8]; 3] = [b"RPUSH", b"large:element", &long];
    assert_eq!(user.run(net, &words).await, b":1\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_types_arrive_as_they_were() {
    let mut rng = seeded();
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    fill(&net, &mut user, &mut rng).await;
    fill_large(&net, &mut user).await;
    let before = net.content(0);
    assert!(before.len() > 600);
    net.change(|map| map.targets = vec![1; SLOTS]);
    let tasks = [net.start(0), net.start(1)];
    net.settled(1).await;
    assert_eq!(net.content(0), BTreeMap::new());
    let after = net.content(1);
    assert_eq!(after.len(), before.len());
    for (key, value) in &before {
        assert!(
            after.get(key) == Some(value),
            "{:?}",
            key.1.escape_ascii().to_string()
        );
    }
    net.check_accounts();
    // They come back, too: nothing of the first way is in the way of the second.
    net.change(|map| map.targets = vec![0; SLOTS]);
    net.settled(0).await;
    assert!(net.content(0) == before);
    net.check_accounts();
    tasks.iter().for_each(JoinHandle::abort);
}

/// What a writer knows of its keys.
#[derive(Default)]
struct Model {
    texts: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Lengths of lists, and sums in hashes.
    counts: BTreeMap<Vec<u8>, i64>,
    expiries: BTreeMap<Vec<u8>, i64>,
}

/// Writes at random until told to stop, and checks each reply against what was acknowledged before.
async fn write_on(net: Arc<Net>, stop: Arc<AtomicBool>, seed: u64, keys: usize) -> Model {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut user = net.connect(0);
    let mut model = Model::default();
    let bulk = |text: Option<&Vec<u8>>| match text {
        None => b"$-1\r\n".to_vec(),
        Some(text) => [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat(),
    };
    while !stop.load(Ordering::SeqCst) {
        let number = rng.usize(..keys);
        let key = format!("w:{seed}:{number}").into_bytes();
        let list = format!("list:{seed}:{number}").into_bytes();
        let hash = format!("hash:{seed}:{number}").into_bytes();
        let value: Vec<u8> = vec![rng.alphanumeric() as u8; rng.usize(1..100)];
        let before = model.texts.get(&key).cloned().flatten();
        let (words, expected): (Vec<&[u8]>, Vec<u8>) = match rng.u8(..8) {
            0 => {
                model.texts.insert(key.clone(), None);
                model.expiries.remove(&key);
                let expected = format!(":{}\r\n", u8::from(before.is_some()));
                (vec![b"DEL", &key], expected.into_bytes())
            }
            1 => {
                let after = [before.unwrap_or_default(), value.clone()].concat();
                let expected = format!(":{}\r\n", after.len());
                model.texts.insert(key.clone(), Some(after));
                (vec![b"APPEND", &key, &value], expected.into_bytes())
            }
            2 | 3 => (vec![b"GET", &key], bulk(before.as_ref())),
            4 => {
                let count = model.counts.entry(list.clone()).or_default();
                *count += 1;
                let expected = format!(":{count}\r\n");
                (vec![b"RPUSH", &list, &value], expected.into_bytes())
            }
            5 => {
                let sum = model.counts.entry(hash.clone()).or_default();
                *sum += 7;
                let expected = format!(":{sum}\r\n");
                (vec![b"HINCRBY", &hash, b"f", b"7"], expected.into_bytes())
            }
            6 if before.is_some() => {
                model.expiries.insert(key.clone(), 1_700_000_500_000);
                let words: Vec<&[u8]> = vec![b"PEXPIREAT", &key, b"1700000500000"];
                (words, b":1\r\n".to_vec())
            }
            _ => {
                model.texts.insert(key.clone(), Some(value.clone()));
                model.expiries.remove(&key);
                (vec![b"SET", &key, &value], b"+OK\r\n".to_vec())
            }
        };
        let reply = user.run(&net, &words).await;
        assert_eq!(
            reply.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{}",
            words.join(&b' ').escape_ascii()
        );
    }
    model
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_while_keys_move() {
    let mut rng = seeded();
    let net = Net::new(2, &[]);
    let tasks = [net.start(0), net.start(1)];
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let (net, stop) = (Arc::clone(&net), Arc::clone(&stop));
            tokio::spawn(write_on(net, stop, rng.u64(..1 << 40), 300))
        })
        .collect();
    for turn in 0..6u16 {
        let to = (turn + 1) % 2;
        // A part of the slots, another each time; the map changes its mind while they move.
        net.change(|map| {
            for slot in 0..SLOTS {
                if rng.u8(..4) != 0 {
                    map.targets[slot] = to;
                }
            }
        });
        let is_under_way = |view: &View| view.map.moves_from(id(0)).len() < 2;
        net.cluster(0).wait_for(LONG, is_under_way).await;
        if turn % 2 == 0 {
            for cluster in [net.cluster(0), net.cluster(1)] {
                let is_done = |view: &View| view.map.owners == view.map.targets;
                assert!(
                    cluster.wait_for(LONG, is_done).await,
                    "it ends: {}",
                    net.state()
                );
            }
        }
    }
    net.change(|map| map.targets = vec![1; SLOTS]);
    net.settled(1).await;
    stop.store(true, Ordering::SeqCst);
    let mut expected = Model::default();
    for writer in writers {
        let model = writer.await.expect("no write fails");
        expected.texts.extend(model.texts);
        expected.counts.extend(model.counts);
        expected.expiries.extend(model.expiries);
    }
    let content = net.content(1);
    for (key, value) in &expected.texts {
        let found = content.get(&(0, key.clone()));
        let expiry = expected.expiries.get(key).map(|at| Millis(*at));
        assert_eq!(found.and_then(|(_, expiry)| *expiry), expiry);
        assert_eq!(
            found.map(|(parts, _)| &parts[0]),
            value.as_ref(),
            "{}",
            key.escape_ascii()
        );
    }
    for key in expected.counts.keys() {
        assert!(content.contains_key(&(0, key.clone())));
    }
    let texts = expected.texts.values();
    let kept = texts.filter(|value| value.is_some()).count() + expected.counts.len();
    assert_eq!(content.len(), kept);
    assert_eq!(net.content(0), BTreeMap::new());
    net.check_accounts();
    assert!(expected.texts.len() > 100, "the writers have written");
    tasks.iter().for_each(JoinHandle::abort);
}

/// Aim: a receiver that is busy says a little late that it has all; that was taken for one that cannot be reached, and all was
/// sent once more.
#[tokio::test]
async fn a_receiver_that_answers_a_little_late_is_waited_for() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 10).await;
    net.late_ms.store(60, Ordering::SeqCst);
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    let moving = net.moving(0);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Ok(1));
    assert_eq!(net.proposals.load(Ordering::SeqCst), 1);
}

/// Aim: requests that take all turns of their runtime do not keep keys from moving.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_move_while_the_requests_take_all_turns() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "key:", 5_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicUsize::new(0));
    // A turn of all of them takes as long as a few hundred clients with pipelines do.
    let busy: Vec<_> = (0..BUSY)
        .map(|_| {
            let (stop, turns) = (Arc::clone(&stop), Arc::clone(&turns));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let begun = std::time::Instant::now();
                    while begun.elapsed() < Duration::from_millis(1) {
                        std::hint::spin_loop();
                    }
                    turns.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let tasks = [net.start(0), net.start(1)];
    net.change(|map| map.targets = vec![1; SLOTS]);
    let is_done = |view: &View| view.map.owners == view.map.targets;
    let done = net.cluster(0).wait_for(LONG, is_done).await;
    let turns = turns.load(Ordering::SeqCst) / BUSY;
    stop.store(true, Ordering::SeqCst);
    for task in busy {
        task.await.expect("it ends");
    }
    println!("moved within {turns} turns");
    assert!(done, "it ends: {}", net.state());
    assert_eq!(net.content(1).len(), 5_000);
    assert!(turns < TURNS_MAX, "{turns} turns of the requests");
    tasks.iter().for_each(JoinHandle::abort);
}

/// Tasks that are always ready.
const BUSY: usize = 64;
/// Turns of all of them while keys move: a few; a mover that has one turn when they have each had theirs needs more than a hundred.
const TURNS_MAX: usize = 50;

/// So many keys that begin so, each with the same value.
async fn set_some(net: &Net, user: &mut User, prefix: &str, count: usize) {
    for number in 0..count {
        let key = format!("{prefix}{number}");
        let reply = user.run(net, &[b"SET", key.as_bytes(), b"value"]).await;
        assert_eq!(reply, b"+OK\r\n");
    }
}

fn one_slot() -> SlotSet {
    [slot_of(b"tag")].into_iter().collect()
}

/// Moves that slot to the second node, once.
async fn move_tag(moving: &Moving) -> Result<send::Moved, Failure> {
    Transfer::new(moving, node(1), one_slot(), Pace::default())
        .run(false)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_is_seen_once() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 50).await;
    net.change(|map| map.targets = vec![1; SLOTS]);
    let way = Way {
        net: Arc::clone(&net),
        from: id(0),
    };
    let begin = transfer::write_begin(7, 1, one_slot().iter());
    let mut chunk = transfer::Chunk::new(7);
    let life = transfer::Life {
        expiry: None,
        usage: transfer::Usage::Idle(0),
    };
    for number in 0..50 {
        chunk.text(
            0,
            format!("{{tag}}{number}").as_bytes(),
            life,
            false,
            b"value",
        );
    }
    let ask = async |request: Bytes| {
        let answer = way.call(&node(1), request).await.expect("it is answered");
        Answer::read(answer).expect("an answer").verdict
    };
    assert_eq!(ask(begin).await, Verdict::Done);
    assert_eq!(ask(chunk.finish()).await, Verdict::Done);
    assert_eq!(net.content(1).len(), 50);
    // Asked by itself, as the ring asks all its nodes.
    let mut there = net.connect(1);
    let asked = async |user: &mut User, at: usize, words: &[&[u8]]| {
        user.send(at, words).await;
        String::from_utf8(user.reply(at).await).expect("text")
    };
    for (words, nothing) in [
        (&[&b"DBSIZE"[..]][..], ":0\r\n"),
        (&[b"KEYS", b"*"], "*0\r\n"),
        (
            &[b"SCAN", b"0", b"COUNT", b"1000"],
            "*2\r\n$1\r\n0\r\n*0\r\n",
        ),
        (&[b"RANDOMKEY"], "$-1\r\n"),
    ] {
        assert_eq!(asked(&mut there, 1, words).await, nothing, "{words:?}");
        assert_ne!(asked(&mut user, 0, words).await, nothing, "{words:?}");
    }
    assert_eq!(ask(transfer::write_complete(7)).await, Verdict::Done);
    net.change(|map| map.owners[usize::from(slot_of(b"tag"))] = 1);
    assert_eq!(asked(&mut there, 1, &[b"DBSIZE"]).await, ":50\r\n");
    assert_eq!(
        asked(&mut user, 0, &[b"DBSIZE"]).await,
        ":0\r\n",
        "though they are left over"
    );
    assert_eq!(asked(&mut user, 0, &[b"KEYS", b"*"]).await, "*0\r\n");
    assert_eq!(net.content(0).len(), 50);
    let dead = net.cluster(0).view().dead.clone().expect("left over");
    sweep::clean_once(net.server(0), net.cluster(0), &dead).await;
    assert_eq!(net.content(0).len(), 0);
    assert!(net.cluster(0).view().hidden.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_not_made_leaves_all_where_it_was() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 50).await;
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    net.outcomes.lock().push(Outcome::NotMade);
    let moving = net.moving(0);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Err(Failure::Refused));
    assert!(net.cluster(0).view().held.is_none());
    assert_eq!(net.content(0).len(), 50);
    assert!(
        !net.server(0)
            .keyspace
            .listeners
            .interest()
            .contains(Interest::MOVES)
    );
    // What has come there is worth nothing, even if the slot becomes its own now: it is held until it is empty.
    let is_dead = |view: &View| view.dead.is_some();
    assert!(net.cluster(1).wait_for(LONG, is_dead).await);
    net.change(|map| map.owners[usize::from(slot_of(b"tag"))] = 1);
    let view = net.cluster(1).view();
    assert_eq!(view.owner(slot_of(b"tag")), crate::cluster::Owner::Held);
    let cleaning = net.start(1);
    let reply = user.run(&net, &[b"GET", b"{tag}1"]).await;
    assert_eq!(reply, b"$-1\r\n");
    cleaning.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_stay_held_until_it_is_known_what_became_of_them() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 10).await;
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    net.outcomes.lock().extend([Outcome::Unknown; 2]);
    let moving = net.moving(0);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Ok(1));
    assert_eq!(net.proposals.load(Ordering::SeqCst), 3);
    assert_eq!(
        user.run(&net, &[b"GET", b"{tag}9"]).await,
        b"$5\r\nvalue\r\n"
    );
    assert_eq!(user.at, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_dies_leaves_nothing() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 50).await;
    let cleaning = net.start(1);
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    let way = Way {
        net: Arc::clone(&net),
        from: id(0),
    };
    let call = async |request| {
        let answer = way.call(&node(1), request).await.expect("it is answered");
        Answer::read(answer).expect("an answer").verdict
    };
    let chunk = || {
        let mut chunk = transfer::Chunk::new(7);
        let life = transfer::Life {
            expiry: None,
            usage: transfer::Usage::Idle(0),
        };
        chunk.text(0, b"{tag}1", life, false, b"value");
        chunk.finish()
    };
    assert_eq!(
        call(transfer::write_begin(7, 1, one_slot().iter())).await,
        Verdict::Done
    );
    assert_eq!(call(chunk()).await, Verdict::Done);
    assert_eq!(net.content(1).len(), 1);
    // It fails: all is the other's, which serves the slot when it is empty.
    net.change(|map| {
        map.nodes[0].state = NodeState::Failed;
        map.owners = vec![1; SLOTS];
    });
    let is_served = |view: &View| view.held.is_none() && view.hidden.is_none();
    assert!(net.cluster(1).wait_for(LONG, is_served).await);
    assert_eq!(net.content(1).len(), 0);
    assert_eq!(call(chunk()).await, Verdict::Unknown, "it comes too late");
    assert_eq!(net.content(1).len(), 0);
    cleaning.abort();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_go_on_is_forgotten() {
    let net = Net::new(2, &[]);
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    let begin = transfer::write_begin(7, 1, one_slot().iter());
    let importer = &net.members[1].importer;
    // Here, where the time is the test's.
    let mut answer = BytesMut::new();
    importer.handle(id(0), begin, &mut answer).await;
    let answer = Answer::read(answer.freeze()).expect("an answer");
    assert_eq!(answer.verdict, Verdict::Done);
    importer.forget_idle();
    assert!(net.cluster(1).view().arrives(slot_of(b"tag")));
    tokio::time::advance(PATIENCE_FOR_MORE).await;
    importer.forget_idle();
    assert!(!net.cluster(1).view().arrives(slot_of(b"tag")));
    assert!(net.cluster(1).view().dead.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_do_not_belong_are_refused() {
    let net = Net::new(3, &[]);
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    let begin = |number| transfer::write_begin(number, 1, one_slot().iter());
    let chunk = |number, key: &[u8], database| {
        let mut chunk = transfer::Chunk::new(number);
        chunk.gone(database, key);
        chunk.finish()
    };
    // Not the owner.
    assert_eq!(net.ask(2, begin(5)).await, Verdict::Unknown);
    assert_eq!(net.ask(0, chunk(7, b"{tag}", 0)).await, Verdict::Unknown);
    assert_eq!(net.ask(0, begin(7)).await, Verdict::Done);
    assert_eq!(net.ask(0, chunk(8, b"{tag}", 0)).await, Verdict::Unknown);
    assert_eq!(net.ask(2, chunk(7, b"{tag}", 0)).await, Verdict::Unknown);
    assert_eq!(net.ask(0, chunk(7, b"{tag}", 0)).await, Verdict::Done);
    // Not of the slots that move, not a database.
    assert_eq!(net.ask(0, chunk(7, b"other", 0)).await, Verdict::Malformed);
    assert_eq!(net.ask(0, chunk(7, b"{tag}", 16)).await, Verdict::Malformed);
    assert_eq!(
        net.ask(0, Bytes::from_static(b"nonsense")).await,
        Verdict::Malformed
    );
    // A part that has no beginning.
    let part = transfer::Part {
        key: transfer::Key {
            database: 0,
            name: Bytes::from_static(b"{tag}"),
        },
        life: transfer::Life {
            expiry: None,
            usage: transfer::Usage::Idle(0),
        },
        kind: crate::data::value::Type::List,
        raw: false,
        elements: u64::MAX,
        is_first: false,
        is_last: true,
        bytes: Bytes::from_static(b"\x01\0\0\0a"),
    };
    assert_eq!(
        net.ask(0, transfer::write_part(7, &part)).await,
        Verdict::Malformed
    );
    let begins = transfer::Part {
        is_first: true,
        is_last: false,
        ..part.clone()
    };
    assert_eq!(
        net.ask(0, transfer::write_part(7, &begins)).await,
        Verdict::Done
    );
    assert_eq!(
        net.ask(0, transfer::write_complete(7)).await,
        Verdict::Malformed,
        "it goes on"
    );
    assert_eq!(
        net.ask(0, transfer::write_part(7, &part)).await,
        Verdict::Done
    );
    assert_eq!(net.ask(0, transfer::write_complete(7)).await, Verdict::Done);
    assert_eq!(
        net.ask(0, chunk(7, b"{tag}", 0)).await,
        Verdict::Unknown,
        "it was complete"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_without_room_says_so() {
    let net = Net::new(2, &[("maxmemory", "1"), ("maxmemory-policy", "noeviction")]);
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    // Anything is more than one byte.
    let server = net.server(0);
    server.keyspace.database(0);
    server
        .config
        .set(&[(b"maxmemory", b"0")], |old, new| server.apply(old, new))
        .expect("a number");
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 3).await;
    net.server(1).base_bytes.store(2, Ordering::SeqCst);
    let moving = net.moving(0);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Err(Failure::NoRoom));
    assert_eq!(
        user.run(&net, &[b"GET", b"{tag}1"]).await,
        b"$5\r\nvalue\r\n"
    );
    assert_eq!(user.at, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_value_that_changes_all_the_time_moves_too() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 10).await;
    let long = vec![b'l'; 1000];
    for _ in 0..20 {
        let words: Vec<&[u8]> = [&b"RPUSH"[..], b"{hot}list"]
            .into_iter()
            .chain([&long[..]; 100])
            .collect();
        assert!(user.run(&net, &words).await.starts_with(b":"));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (net, stop) = (Arc::clone(&net), Arc::clone(&stop));
        async move {
            let mut user = net.connect(0);
            let mut count = 2000;
            while !stop.load(Ordering::SeqCst) {
                count += 1;
                let reply = user.run(&net, &[b"RPUSH", b"{hot}list", b"x"]).await;
                assert_eq!(reply, format!(":{count}\r\n").as_bytes(), "none is lost");
            }
            count
        }
    });
    let tasks = [net.start(0), net.start(1)];
    net.change(|map| map.targets = vec![1; SLOTS]);
    net.settled(1).await;
    stop.store(true, Ordering::SeqCst);
    let count = writer.await.expect("no write fails");
    let reply = user.run(&net, &[b"LLEN", b"{hot}list"]).await;
    assert_eq!(reply, format!(":{count}\r\n").as_bytes());
    assert_eq!(net.content(0), BTreeMap::new());
    net.check_accounts();
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_changes_nothing() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 10).await;
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    net.is_broken.store(true, Ordering::SeqCst);
    let moving = net.moving(0);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Err(Failure::Broken));
    net.is_broken.store(false, Ordering::SeqCst);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Ok(1));
    assert_eq!(
        user.run(&net, &[b"GET", b"{tag}1"]).await,
        b"$5\r\nvalue\r\n"
    );
    assert_eq!(user.at, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_key_waits_on_where_it_goes() {
    let net = Net::new(2, &[]);
    let mut waiting = net.connect(0);
    waiting.send(0, &[b"BLPOP", b"{tag}queue", b"0"]).await;
    while !net.server(0).keyspace.waiting.any() {
        tokio::task::yield_now().await;
    }
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    let moving = net.moving(0);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Ok(1));
    // A client of the cluster face is sent there; one of the single face would not notice.
    let moved = format!("-MOVED {} 127.0.0.1:1\r\n", slot_of(b"tag"));
    assert_eq!(waiting.reply(0).await, moved.as_bytes());
    assert!(!net.server(0).keyspace.waiting.any());
    waiting.open(&net, 1);
    waiting.send(1, &[b"BLPOP", b"{tag}queue", b"0"]).await;
    let mut user = net.connect(0);
    assert_eq!(
        user.run(&net, &[b"RPUSH", b"{tag}queue", b"x"]).await,
        b":1\r\n"
    );
    assert_eq!(
        waiting.reply(1).await,
        b"*2\r\n$10\r\n{tag}queue\r\n$1\r\nx\r\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_goes_on_waiting_when_nothing_moves() {
    let net = Net::new(2, &[]);
    let mut waiting = net.connect(0);
    waiting.send(0, &[b"BLPOP", b"{tag}queue", b"0"]).await;
    while !net.server(0).keyspace.waiting.any() {
        tokio::task::yield_now().await;
    }
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    net.outcomes.lock().push(Outcome::NotMade);
    let moving = net.moving(0);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Err(Failure::Refused));
    let mut user = net.connect(0);
    assert_eq!(
        user.run(&net, &[b"RPUSH", b"{tag}queue", b"x"]).await,
        b":1\r\n"
    );
    assert_eq!(
        waiting.reply(0).await,
        b"*2\r\n$10\r\n{tag}queue\r\n$1\r\nx\r\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_keys_leave_is_not_run() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 1).await;
    for words in [
        &[&b"WATCH"[..], b"{tag}0"][..],
        &[b"MULTI"],
        &[b"GET", b"{tag}0"],
    ] {
        user.send(0, words).await;
        assert!(user.reply(0).await.starts_with(b"+"));
    }
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    net.outcomes.lock().push(Outcome::NotMade);
    let moving = net.moving(0);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.slots), Err(Failure::Refused));
    user.send(0, &[b"EXEC"]).await;
    assert_eq!(user.reply(0).await, b"*-1\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_that_are_emptied_meanwhile_stay_empty() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 50).await;
    net.change(|map| map.targets[usize::from(slot_of(b"tag"))] = 1);
    let moving = net.moving(0);
    let listeners = &net.server(0).keyspace.listeners;
    listeners.begin_moving(7, Arc::new(|_, _| true), usize::MAX);
    user.send(0, &[b"FLUSHALL"]).await;
    assert_eq!(user.reply(0).await, b"+OK\r\n");
    assert!(
        listeners.departing.take(7, 1).is_err(),
        "all has to be sent anew"
    );
    listeners.end_moving(7);
    let moved = move_tag(&moving).await;
    assert_eq!(moved.map(|moved| moved.keys), Ok(0));
    assert_eq!(net.content(1), BTreeMap::new());
}

/// Counts what is told of keys.
#[derive(Default)]
struct Told(AtomicUsize);

impl Listener for Told {
    fn interest(&self) -> Interest {
        Interest::JOURNAL | Interest::EVENTS
    }

    fn append(&self, records: &[Record]) {
        self.0.fetch_add(records.len(), Ordering::SeqCst);
    }

    fn publish(&self, events: &[Event]) {
        self.0.fetch_add(events.len(), Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_a_move() {
    let net = Net::new(2, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 50).await;
    let told: Vec<Arc<Told>> = (0..2).map(|_| Arc::default()).collect();
    for (number, told) in told.iter().enumerate() {
        net.server(number)
            .keyspace
            .listeners
            .add(Arc::clone(told) as _);
    }
    let dirty = [0, 1].map(|number| net.server(number).keyspace.dirty());
    let tasks = [net.start(0), net.start(1)];
    net.change(|map| map.targets = vec![1; SLOTS]);
    net.settled(1).await;
    assert_eq!(net.content(1).len(), 50);
    for number in 0..2 {
        assert_eq!(told[number].0.load(Ordering::SeqCst), 0);
        assert_eq!(net.server(number).keyspace.dirty(), dirty[number]);
        let totals = net.server(number).stats.totals();
        let _ = totals;
    }
    tasks.iter().for_each(JoinHandle::abort);
}

#[test]
fn a_walk_meets_each_key_once_or_more() {
    use crate::keyspace::Keyspace;
    use crate::keyspace::entry::{Entry, NewValue};
    use crate::keyspace::hash::KeyHasher;
    use crate::keyspace::lock::lock_one;
    // Aim: small partitions and those that are gone through in steps, which grow meanwhile.
    let keyspace = Keyspace::new(3, KeyHasher::with_key(1, 2), Millis(0));
    let add = |database: u32, number: u32| {
        let key = number.to_le_bytes();
        let hash = keyspace.hasher().hash(&key);
        let place = Place {
            database,
            partition: keyspace.place(database, hash).partition,
        };
        let mut held = lock_one(&keyspace, place, 0).expect("nobody else is here");
        let entry = Entry::new(&key, NewValue::Copy(b""), None, false);
        held.partition.insert(hash, entry);
    };
    for number in 0..1000 {
        add(0, number);
    }
    // One partition of many keys.
    let crowded = (0..).filter(|number: &u32| {
        let hash = keyspace.hasher().hash(&number.to_le_bytes());
        keyspace.place(2, hash).partition == 5
    });
    let crowded: Vec<u32> = crowded.take(9000).collect();
    crowded[..6000].iter().for_each(|number| add(2, *number));
    let mut walk = sweep::Walk::default();
    let mut met: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    let (mut visits, mut more) = (0, crowded[6000..].iter());
    while let Some(place) = walk.place(&keyspace) {
        {
            let held = lock_one(&keyspace, place, 0).expect("nobody else is here");
            walk.visit(&held.partition, |entry| {
                let key: [u8; 4] = entry.key().try_into().expect("four bytes");
                *met.entry((place.database, u32::from_le_bytes(key)))
                    .or_default() += 1;
            });
        }
        visits += 1;
        if place.database == 2 {
            more.by_ref().take(500).for_each(|number| add(2, *number));
        }
    }
    assert!((0..1000).all(|number| met.get(&(0, number)) == Some(&1)));
    assert!(
        crowded[..6000]
            .iter()
            .all(|number| met.contains_key(&(2, *number)))
    );
    assert!(visits > 600 + 6, "the crowded one takes several");
}
