//! A node's part in a ring: starts its bus and the agreement, answers its peers, leaves when the server ends.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::asked::{Asked, Asks, send};
use super::connection;
use super::moving::receive::Importer;
use super::moving::{self, Hands, Outcome};
use super::peer::Executor;
use super::wide;
use crate::base::worker::{Apart, Share};
use crate::cluster::Cluster;
use crate::cluster::agree::disk::Place;
use crate::cluster::agree::{self, Agreement, Later, Left, ProposeError, Store, Transport};
use crate::cluster::ask::{Question, read_answer};
use crate::cluster::bus::net::TcpListener;
use crate::cluster::bus::{self, Answers, Bus, CallError, Identity, Kind, Links, Service};
use crate::cluster::copies::{self, Pushes};
use crate::cluster::forward::HowToRun;
use crate::cluster::map::{Change, Map, NOBODY};
use crate::cluster::node::{Node, NodeId, NodeState};
use crate::cluster::slots::Pins;
use crate::cluster::tunnel::pipe::{Came, PIECE_BYTES, Pipe};
use crate::cluster::tunnel::{Piece, Tunnels};
use crate::config::{ClusterFace, Pin, Seed, Settings, host_port};
use crate::dispatch::Face;
use crate::keyspace::effects::Interest;
use crate::state::Server;
use crate::state::clients::{Client, StandsFor, Unblock};
use crate::state::pubsub::far::Ear;
use crate::state::pubsub::far::prefixes::Heard;
use crate::state::tracking::far::FarClients;

/// The version of what nodes say to each other.
const VERSION: u32 = 1;
/// Connections to each peer, at most: as many as workers, since each is read by one task.
const LANES_MAX: usize = 4;
/// Tunnels of one link.
const TUNNELS_MAX: usize = 10_000;
/// How long a node that has left goes on answering, and twice as long others keep their links to it.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How often one that has left asks where the keys are, how many it asks at most, and how long each may take.
const ASKS_AGAIN: Duration = Duration::from_millis(50);
const MOST_ASKED: usize = 3;
const ANSWERS_WITHIN: Duration = Duration::from_millis(200);

/// A node that takes part.
pub struct Ring {
    cluster: Arc<Cluster>,
    agreement: Arc<Agreement>,
    serving: tokio::task::JoinHandle<()>,
    /// Where keys move.
    threads: [Apart; 2],
    /// When it is to end, once it leaves.
    ends: Arc<moving::Ends>,
    wide: tokio::task::JoinHandle<()>,
    /// Once it leaves.
    following: Option<tokio::task::JoinHandle<()>>,
    /// Follows the ring once it was removed from it.
    outliving: tokio::task::JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
    bus_port: u16,
}

/// Why a node cannot take part; the text says what to do.
#[derive(Debug)]
pub struct RingError(String);

impl std::fmt::Display for RingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cluster: {}", self.0)
    }
}

impl std::error::Error for RingError {}

impl Ring {
    /// Binds the bus, reads what the node kept, and begins to look for its ring. `port` is where clients reach it.
    pub async fn start(
        server: &Arc<Server>,
        port: u16,
        threads: usize,
        place: Place,
    ) -> Result<Ring, RingError> {
        let settings = server.config.settings();
        let kept_at = match &place {
            Place::File(file) => file.display().to_string(),
            Place::Memory(_) => String::new(),
        };
        let store = Store::open(place, &settings.cluster_name, fastrand::u64(..))
            .await
            .map_err(|error| RingError(format!("{kept_at}: {error}")))?;
        let wanted = match settings.cluster_bus_port {
            // Any free port begets another.
            0 if settings.port == 0 => 0,
            _ => settings.bus_port(),
        };
        let listener = listen(&settings, wanted).await?;
        let bus_port = listener.local_addr().map_or(wanted, |addr| addr.port());
        let identity = Identity {
            id: store.id(),
            ring: settings.cluster_name.clone(),
            secret: secret(&settings),
            version: VERSION,
        };
        let node_timeout = settings.cluster_node_timeout;
        let bus = Bus::new(identity, node_timeout);
        let tunnels = Arc::<Tunnels>::default();
        let lanes = threads.clamp(1, LANES_MAX);
        let pushes = Pushes::new(Arc::clone(&tunnels), lanes);
        pushes.set_keepers(server.tracking.clone());
        let links = Links::new(Arc::clone(&bus), pushes);
        let pins = pins(&settings)?;
        let cluster = Cluster::new(store.id(), pins.clone(), links, tunnels, lanes);
        let cluster = Arc::new(cluster);
        if server.cluster.set(Arc::clone(&cluster)).is_err() {
            return Err(RingError("this server is in a ring already".to_owned()));
        }
        server.keyspace.become_partial();
        let seeds: Vec<String> = settings.cluster_seeds.iter().map(Seed::bus).collect();
        let host = own_host(&settings, &seeds).await;
        let options = agree::Options {
            node: node(&settings, store.id(), host, port, bus_port),
            seeds,
            node_timeout,
            pins,
            seed: fastrand::u64(..),
        };
        let transport = Arc::new(OverLinks(Arc::clone(&cluster)));
        let sink = Arc::new(Sink {
            cluster: Arc::clone(&cluster),
            departed: Arc::default(),
        });
        let agreement = Agreement::start(options, store, transport, sink)
            .await
            .map_err(|error| RingError(error.to_string()))?;
        let _ = cluster.agreement.set(Arc::downgrade(&agreement));
        tracing::info!(node = %cluster.me, ring = settings.cluster_name, bus_port, "takes part in a ring");
        server.keyspace.hide(Arc::clone(&cluster) as _);
        let importer = Importer::new(Arc::clone(server), Arc::clone(&cluster));
        let importer = Arc::new(importer);
        let movers = Arc::new(Movers {
            cluster: Arc::clone(&cluster),
            agreement: Arc::clone(&agreement),
            patience: node_timeout,
            main: Handle::current(),
        });
        let start = |name, share| {
            Apart::start(name, share)
                .map_err(|error| RingError(format!("no thread to move keys: {error}")))
        };
        let threads = [
            start("moving", Share::Small)?,
            start("leaving", Share::Full)?,
        ];
        let [calm, hasty] = threads.each_ref().map(|thread| thread.handle().clone());
        let hands = Hands { calm, hasty };
        let ends = Arc::<moving::Ends>::default();
        hands.calm.spawn(moving::run(
            Arc::clone(server),
            Arc::clone(&cluster),
            movers,
            Arc::clone(&importer),
            Arc::clone(&ends),
            hands.clone(),
        ));
        let service = Arc::new(Peers {
            server: Arc::clone(server),
            agreement: Arc::clone(&agreement),
            importer,
            cluster: Arc::clone(&cluster),
            hands,
            asks: Asks::new(server),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async {
            // Dropped is stopped, too.
            let _ = stopped.await;
        };
        let serving = tokio::spawn(bus::serve(listener, bus, service, stopped));
        let wide = tokio::spawn(wide::run(Arc::clone(server), Arc::clone(&cluster)));
        let outliving = tokio::spawn(outlive(Arc::clone(&cluster), Arc::clone(&agreement)));
        Ok(Ring {
            cluster: Arc::clone(&cluster),
            agreement,
            serving,
            threads,
            ends,
            wide,
            following: None,
            outliving,
            stop,
            bus_port,
        })
    }

    /// Where its bus listens.
    pub fn bus_port(&self) -> u16 {
        self.bus_port
    }

    /// Hands all slots over and leaves, until then at the latest. Its own clients are served on until [`Ring::stop`].
    pub async fn leave(&mut self, until: Instant) {
        let follow = follow(Arc::clone(&self.cluster), ASKS_AGAIN);
        self.following.get_or_insert_with(|| tokio::spawn(follow));
        // Only a first wish to leave counts.
        let _ = self.ends.set(until);
        let within_ms = until.saturating_duration_since(Instant::now()).as_millis() as u64;
        tracing::info!(
            slots = self.owned(),
            within_ms,
            "leaves the ring: its slots go to the others"
        );
        match tokio::time::timeout_at(until, self.agreement.leave()).await {
            Ok(Ok(Left::Removed)) => {
                tracing::info!("has left the ring");
                // Whoever has not heard of it yet is told that the keys are elsewhere.
                let told = Instant::now() + LAST_ANSWERS / 2;
                tokio::time::sleep_until(told.min(until)).await;
            }
            Ok(Ok(Left::Alone)) => {
                tracing::info!("there is no other node that stays: the slots go to nobody");
            }
            Ok(Err(error)) => tracing::warn!(%error, "could not leave the ring"),
            Err(_) => tracing::warn!(
                slots = self.owned(),
                "there is no more time to hand slots over: what is under way may still arrive"
            ),
        }
    }

    /// How many slots are this node's.
    fn owned(&self) -> usize {
        let view = self.cluster.view();
        view.map.owned(view.mine)
    }

    /// How many slots end with this node although there are others that stay.
    fn lost(&self) -> usize {
        let view = self.cluster.view();
        let mut nodes = view.map.nodes.iter();
        match nodes.any(|node| node.is_up() && node.id != self.cluster.me) {
            true => self.owned(),
            false => 0,
        }
    }

    /// Ends its part.
    pub async fn stop(self) {
        let slots = self.lost();
        if slots > 0 {
            tracing::warn!(
                slots,
                "ends with slots that were not handed over: the others take them, empty"
            );
        }
        self.wide.abort();
        self.outliving.abort();
        if let Some(following) = self.following {
            following.abort();
        }
        self.agreement.shutdown().await;
        drop(self.threads);
        drop(self.stop);
        let _ = self.serving.await;
    }
}

/// Asks the others where the keys are, again and again, while the log does not say so to a node that leaves: it ends for it
/// with its removal, and keys may go on moving, as when several leave at once. Less often while there is nothing new.
async fn follow(cluster: Arc<Cluster>, longest_pause: Duration) {
    let mut pause = ASKS_AGAIN;
    loop {
        let epoch = cluster.view().map.epoch;
        if !cluster.has_lease() || cluster.view().mine == NOBODY {
            ask_for_map(&cluster).await;
        }
        pause = match cluster.view().map.epoch > epoch {
            true => ASKS_AGAIN,
            false => longest_pause.min(pause * 2),
        };
        tokio::time::sleep(pause).await;
    }
}

/// The same for a node that others removed, by CLUSTER FORGET, and that runs on: the last change it has heard of may not be the
/// one by which its last slots went. Its clients are to be told where those are, not that nobody has them.
async fn outlive(cluster: Arc<Cluster>, agreement: Arc<Agreement>) {
    agreement.ended().await;
    follow(cluster, LAST_ANSWERS).await;
}

/// Takes over a later map of some that are still in the ring. They are chosen by chance: another that leaves may know no more
/// than this one.
async fn ask_for_map(cluster: &Cluster) {
    let view = cluster.view();
    let others = view.map.nodes.iter();
    let mut others: Vec<&Node> = others
        .filter(|node| node.is_up() && node.id != cluster.me)
        .collect();
    fastrand::shuffle(&mut others);
    let question = Question::Map.to_payload();
    for node in others.into_iter().take(MOST_ASKED) {
        let link = cluster.link_for_all(node);
        let Ok(ticket) = link.call(Kind::Ask, |payload| payload.extend_from_slice(&question))
        else {
            continue;
        };
        let answer = tokio::time::timeout(ANSWERS_WITHIN, ticket).await;
        if let Ok(Ok(answer)) = answer
            && let Some(map) = read_answer::<Map>(&answer)
            && map.is_sound()
            && map.epoch > view.map.epoch
        {
            return cluster.install(Arc::new(map));
        }
    }
}

/// What this node says of itself.
fn node(settings: &Settings, id: NodeId, host: String, port: u16, bus_port: u16) -> Node {
    let bus_host = match settings.cluster_announce_bus_ip.as_str() {
        "" => &host,
        announced => announced,
    };
    let given = |given: u16, otherwise: u16| if given == 0 { otherwise } else { given };
    let bus_port = given(settings.cluster_announce_bus_port, bus_port);
    Node {
        id,
        bus: host_port(bus_host, bus_port),
        host,
        hostname: settings.cluster_announce_hostname.clone(),
        port,
        // Without a face of its own it is the single one that clients of others' cluster faces are sent to: it forwards.
        cluster_port: match settings.cluster_face {
            ClusterFace::Single if settings.cluster_port != 0 => {
                given(settings.cluster_announce_port, settings.cluster_port)
            }
            ClusterFace::Cluster | ClusterFace::Single => {
                given(settings.cluster_announce_port, port)
            }
        },
        weight: settings.cluster_weight,
        state: NodeState::Up,
        incarnation: 0,
    }
}

fn secret(settings: &Settings) -> Vec<u8> {
    let secret = settings.cluster_secret.as_ref();
    secret.map_or_else(Vec::new, |secret| secret.0.clone().into_bytes())
}

fn pins(settings: &Settings) -> Result<Pins, RingError> {
    let word = |pin: &Pin| match pin {
        Pin::Database(number) => number.to_string(),
        Pin::Prefix(prefix) => prefix.clone(),
    };
    let words: Vec<String> = settings.cluster_pin.iter().map(word).collect();
    Pins::parse(&words).map_err(|error| RingError(format!("cluster-pin: {error}")))
}

/// The address that others can reach this node at: the one it is to announce, the one it is bound to, or the one that its way to
/// the seeds begins with.
async fn own_host(settings: &Settings, seeds: &[String]) -> String {
    if !settings.cluster_announce_ip.is_empty() {
        return settings.cluster_announce_ip.clone();
    }
    if let Some(ip) = bound_ip(settings).filter(|ip| !ip.is_unspecified()) {
        return ip.to_string();
    }
    for seed in seeds {
        let Ok(socket) = tokio::net::UdpSocket::bind("0.0.0.0:0").await else {
            break;
        };
        // Nothing is sent: connecting a datagram socket only chooses the way.
        if socket.connect(seed.as_str()).await.is_ok()
            && let Ok(addr) = socket.local_addr()
        {
            return addr.ip().to_string();
        }
    }
    IpAddr::from([127, 0, 0, 1]).to_string()
}

/// The first address that clients are listened for at.
fn bound_ip(settings: &Settings) -> Option<IpAddr> {
    settings
        .bind
        .iter()
        .find_map(|bind| match bind.host.as_str() {
            "*" => Some(IpAddr::from([0, 0, 0, 0])),
            "::*" => Some(IpAddr::from([0; 16])),
            host => host.parse().ok(),
        })
}

/// Listens where clients are listened for.
async fn listen(settings: &Settings, port: u16) -> Result<TcpListener, RingError> {
    let ip = bound_ip(settings).unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let address = SocketAddr::new(ip, port);
    TcpListener::bind(address)
        .await
        .map_err(|error| RingError(format!("cannot listen on {address} for the bus: {error}")))
}

/// The agreement's way to other nodes.
struct OverLinks(Arc<Cluster>);

impl Transport for OverLinks {
    fn call(
        &self,
        address: &str,
        kind: Kind,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Later<Result<Bytes, CallError>> {
        let (cluster, address) = (Arc::clone(&self.0), address.to_owned());
        Box::pin(async move { cluster.links.call(&address, kind, &payload, timeout).await })
    }
}

/// Where the agreement tells what it came to.
struct Sink {
    cluster: Arc<Cluster>,
    /// Who is not in the ring any more, and since when. A leaf lock.
    departed: Arc<Mutex<Departed>>,
}

/// Nodes that are gone. Those of the last [`LAST_ANSWERS`].
#[derive(Debug, Default)]
struct Departed(HashMap<NodeId, Instant>);

impl Departed {
    /// Notes who was in a map and is in the next no more.
    fn note(&mut self, before: &Map, after: &Map, now: Instant) {
        self.0.retain(|_, since| now < *since + LAST_ANSWERS);
        let was = before.nodes.iter().filter(|node| is_alive(node));
        let gone = was.filter(|node| !after.node(node.id).is_some_and(is_alive));
        self.0.extend(gone.map(|node| (node.id, now)));
    }

    /// Whether links to a node are of use.
    fn may_answer(&self, id: NodeId, map: &Map, now: Instant) -> bool {
        let lately = |since: &Instant| now < *since + LAST_ANSWERS;
        map.node(id).is_some_and(is_alive) || self.0.get(&id).is_some_and(lately)
    }
}

fn is_alive(node: &Node) -> bool {
    node.state != NodeState::Failed
}

impl agree::Sink for Sink {
    fn install(&self, map: Arc<Map>) {
        let before = self.cluster.view();
        self.departed.lock().note(&before.map, &map, Instant::now());
        self.cluster.install(map);
        let (cluster, departed) = (Arc::clone(&self.cluster), Arc::clone(&self.departed));
        tokio::spawn(async move {
            // What is under way to a node that has left is still answered, however often the map changes meanwhile.
            tokio::time::sleep(LAST_ANSWERS).await;
            let now = Instant::now();
            cluster.links.retain(&|id| {
                // The present view each time: a link may have been made for a node that came just now.
                let view = cluster.view();
                departed.lock().may_answer(id, &view.map, now)
            });
        });
    }

    fn renew_lease(&self, until: Instant) {
        self.cluster.set_lease(until);
    }
}

/// The connection by which keys move, beside those of the clients' requests.
const LANE_OF_KEYS: usize = LANES_MAX;

/// The way of keys to other nodes.
struct Movers {
    cluster: Arc<Cluster>,
    agreement: Arc<Agreement>,
    /// How long a node is waited for that has no connection yet.
    patience: Duration,
    /// Where the agreement runs.
    main: Handle,
}

impl moving::Peers for Movers {
    fn call(&self, to: &Node, request: Bytes) -> Later<Result<Bytes, CallError>> {
        let link = self.cluster.links.link(to.id, &to.bus, LANE_OF_KEYS);
        let queued = link.call(Kind::Transfer, |payload| {
            payload.extend_from_slice(&request)
        });
        let patience = self.patience;
        Box::pin(async move {
            match queued {
                Ok(ticket) => ticket.await,
                // The first request of all: the connection is made for it. A first attempt that fails says little of a node that
                // has just joined and has all others to greet.
                Err(CallError::NotConnected) => {
                    link.connected_within(patience).await?;
                    link.call(Kind::Transfer, |payload| {
                        payload.extend_from_slice(&request)
                    })?
                    .await
                }
                Err(error) => Err(error),
            }
        })
    }

    fn propose(&self, change: Change) -> Later<Outcome> {
        let agreement = Arc::clone(&self.agreement);
        let proposing = self
            .main
            .spawn(async move { agreement.propose(change).await });
        Box::pin(async move {
            match proposing.await {
                Ok(Ok(_)) => Outcome::Made,
                Ok(Err(ProposeError::NoEffect | ProposeError::Refused(_))) => Outcome::NotMade,
                Ok(Err(ProposeError::Unavailable | ProposeError::NotInRing)) | Err(_) => {
                    Outcome::Unknown
                }
            }
        })
    }
}

/// What this node does for its peers.
struct Peers {
    server: Arc<Server>,
    agreement: Arc<Agreement>,
    importer: Arc<Importer>,
    cluster: Arc<Cluster>,
    /// Where keys are taken in.
    hands: Hands,
    asks: Asks,
}

/// One link of a peer.
struct Peer {
    id: NodeId,
    /// Those that run no frame.
    executors: Arc<Mutex<Executors>>,
    /// Hears what it has subscribers for, and what is published there.
    ear: Ear,
    /// What it asks of all nodes.
    asked: Asked,
    /// Its clients whose requests come by it.
    clients: Arc<FarClients>,
    /// Ends of the tunnels of its clients.
    tunnels: HashMap<u64, FarEnd>,
    /// Its keys on their way to where they are taken in; none before the first.
    transfers: Option<mpsc::Sender<(u64, Bytes)>>,
}

/// Our end of a tunnel of a peer's client.
struct FarEnd {
    pipe: Arc<Pipe>,
    client: Arc<Client>,
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.pipe.end();
        // Also while it waits for another server (MIGRATE).
        self.client.kill(false);
    }
}

impl Service for Peers {
    type Peer = Peer;

    fn accept(&self, from: NodeId, answers: &Answers) -> Peer {
        let clients = Arc::new(FarClients::new(&self.server, from, answers));
        Peer {
            id: from,
            executors: Arc::default(),
            ear: self.server.pubsub.ear(from),
            asked: self.asks.of(from, &clients),
            clients,
            tunnels: HashMap::new(),
            transfers: None,
        }
    }

    async fn frame(&self, peer: &mut Peer, kind: Kind, id: u64, payload: Bytes, answers: &Answers) {
        match kind {
            Kind::Forward => {
                let executor = peer.executors.lock().pop();
                let executor = executor.unwrap_or_else(|| self.executor(peer));
                let gate = executor.gate();
                let mut run = Box::pin(answer(executor, id, payload, answers.clone()));
                if let Poll::Ready(executor) = at_once(run.as_mut()).await {
                    give_back(&peer.executors, executor);
                    return;
                }
                // Whoever waits for a key that is locked for long, or runs a script, must not hold up others. The client
                // whose requests these are sends no more before it has their replies.
                if !gate.is_wanted()
                    && let Ok(executor) = tokio::time::timeout(PATIENCE, run.as_mut()).await
                {
                    return give_back(&peer.executors, executor);
                }
                let executors = Arc::clone(&peer.executors);
                tokio::spawn(async move {
                    gate.open();
                    give_back(&executors, run.await);
                });
            }
            Kind::Ask => peer.asked.answer(id, payload, answers),
            Kind::Cancel => peer.asked.cancel(id),
            Kind::Raft | Kind::Member => {
                let (agreement, answers) = (Arc::clone(&self.agreement), answers.clone());
                tokio::spawn(async move {
                    let answer = agreement.handle(kind, payload).await;
                    send(&answers, id, &answer);
                });
            }
            Kind::Transfer => {
                let transfers = peer.transfers.get_or_insert_with(|| {
                    let (transfers, incoming) = mpsc::channel(TRANSFERS);
                    let taker = Taker {
                        importer: Arc::clone(&self.importer),
                        cluster: Arc::clone(&self.cluster),
                        hasty: self.hands.hasty.clone(),
                        from: peer.id,
                    };
                    let taking = taker.take_in(incoming, answers.clone());
                    self.hands.calm.spawn(taking);
                    transfers
                });
                // It ends with this node.
                let _ = transfers.send((id, payload)).await;
            }
            Kind::Publish => {
                match peer.ear.hear(&payload) {
                    Ok(heard) => self.heard(&heard),
                    Err(_) => {
                        tracing::warn!(peer = %peer.id, "what a peer publishes could not be read");
                        self.server.tracking.lose_changes();
                    }
                }
                if id != 0 {
                    send(answers, id, &[]);
                }
            }
            Kind::Tunnel => self.piece(peer, payload, answers),
            Kind::Track => copies::ended(&payload).for_each(|client| peer.clients.end(client)),
            _ => {}
        }
    }
}

/// Requests of transfers of one peer that wait to be handled: a sender has no more on their way. Beyond it the connection is not
/// read, and a link that is silent for long is given up.
const TRANSFERS: usize = moving::send::WINDOW;

/// Handles what one link of a peer sends of its keys.
struct Taker {
    importer: Arc<Importer>,
    cluster: Arc<Cluster>,
    hasty: Handle,
    from: NodeId,
}

impl Taker {
    /// One after the other. The link is read meanwhile, so that a request that waits for long (for left-overs to be removed) is
    /// not taken for a node that is gone.
    async fn take_in(self, mut incoming: mpsc::Receiver<(u64, Bytes)>, answers: Answers) {
        while let Some((id, request)) = incoming.recv().await {
            let (importer, from) = (Arc::clone(&self.importer), self.from);
            let handled = async move {
                let mut answer = BytesMut::new();
                importer.handle(from, request, &mut answer).await;
                answer
            };
            let view = self.cluster.view();
            let sender = view.map.node(from);
            let answer = match sender.is_some_and(|node| node.state == NodeState::Leaving) {
                true => self.hasty.spawn(handled).await,
                false => Ok(handled.await),
            };
            match answer {
                Ok(answer) => send(&answers, id, &answer),
                // This node ends.
                Err(_) => return,
            }
        }
    }
}

/// Executors of a link that are kept for its next frames.
const EXECUTORS: usize = 8;

// Boxes: they go in and out, and are large.
type Executors = Vec<Box<Executor>>;

fn give_back(executors: &Mutex<Executors>, executor: Box<Executor>) {
    let mut executors = executors.lock();
    if executors.len() < EXECUTORS {
        executors.push(executor);
    }
}

/// How long the frames behind one wait for it.
const PATIENCE: Duration = Duration::from_millis(1);

/// Runs a frame of requests and answers it; gives the executor back.
async fn answer(
    mut executor: Box<Executor>,
    id: u64,
    payload: Bytes,
    answers: Answers,
) -> Box<Executor> {
    match executor.run(payload).await {
        Ok(()) => executor.answer(id, &answers).await,
        Err(_) => {
            tracing::warn!("a frame of requests of a peer could not be read");
            send(&answers, id, &[]);
        }
    }
    executor
}

/// What a future has already, without waiting.
async fn at_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.ear.has_heard() {
            self.clients.lose_changes();
        }
    }
}

impl Peers {
    /// Tells our clients of changes elsewhere, and notes those here if somebody has begun to follow them.
    fn heard(&self, heard: &Heard) {
        let (tracking, listeners) = (&self.server.tracking, &self.server.keyspace.listeners);
        if listeners.interest().contains(Interest::BROADCAST) != tracking.wants_changes() {
            listeners.renew();
        }
        tracking.heard(heard);
    }

    fn executor(&self, peer: &Peer) -> Box<Executor> {
        Box::new(Executor::new(&self.server, peer.id, &peer.clients))
    }

    /// Hands a piece to its tunnel, which begins with the word for whom it is.
    fn piece(&self, peer: &mut Peer, mut payload: Bytes, answers: &Answers) {
        let Ok((number, piece)) = Piece::read(&mut payload) else {
            return;
        };
        if let Piece::For { .. } = piece
            && !peer.tunnels.contains_key(&number)
        {
            peer.tunnels
                .retain(|_, end| Arc::strong_count(&end.pipe) > 1);
            if peer.tunnels.len() >= TUNNELS_MAX {
                push(answers, number, &Piece::End);
                return;
            }
            let end = self.open(number, peer.id, answers);
            peer.tunnels.insert(number, end);
        }
        let Some(end) = peer.tunnels.get(&number) else {
            // It has ended here, and the peer hears of that.
            return;
        };
        let is_kept = match piece {
            Piece::Data(bytes) => end.pipe.receive(&bytes).is_ok(),
            Piece::Credit(bytes) => end.pipe.receive_credit(bytes as usize).is_ok(),
            Piece::For { client, how } => {
                end.stand_for(client, how, &peer.clients);
                true
            }
            Piece::Unblock { with_error } => {
                let unblock = end.client.unblock(with_error);
                let is_unblocked = matches!(unblock, Unblock::Done(true));
                push(answers, number, &Piece::Unblocked(is_unblocked));
                true
            }
            Piece::End | Piece::Waits | Piece::Unblocked(_) => false,
        };
        if !is_kept {
            peer.tunnels.remove(&number);
        }
    }

    /// Serves a client of a peer.
    fn open(&self, number: u64, peer: NodeId, answers: &Answers) -> FarEnd {
        let pipe = Arc::<Pipe>::default();
        let (here, there) = tokio::io::duplex(PIECE_BYTES);
        let server = &self.server;
        let mut client = Client::of_peer(server.clients.next_id(), peer, server.clock.now());
        let to_peer = answers.clone();
        client.stands_for = Some(Box::new(StandsFor {
            writer: AtomicU64::new(client.id),
            reader: AtomicU64::new(0),
            no_touch: AtomicBool::new(false),
            tell: Box::new(move || push(&to_peer, number, &Piece::Waits)),
        }));
        // Not among our own clients: its node lists and counts it, and closes it for what it does.
        let client = Arc::new(client);
        let serving = connection::serve(Arc::clone(server), there, Arc::clone(&client), Face::Peer);
        tokio::spawn(serving);
        tokio::spawn(carry(number, here, Arc::clone(&pipe), answers.clone()));
        FarEnd { pipe, client }
    }
}

impl FarEnd {
    /// What follows are requests of this client of the peer.
    fn stand_for(&self, client: u64, how: HowToRun, clients: &FarClients) {
        let Some(stands_for) = &self.client.stands_for else {
            return;
        };
        let reader = match how.contains(HowToRun::REMEMBER) {
            true => clients.reader(client),
            false => 0,
        };
        stands_for
            .writer
            .store(clients.writer(client), Ordering::Relaxed);
        stands_for.reader.store(reader, Ordering::Relaxed);
        let no_touch = how.contains(HowToRun::NO_TOUCH);
        stands_for.no_touch.store(no_touch, Ordering::Relaxed);
    }
}

/// Sends a piece of a tunnel back: far less than a frame may be.
fn push(answers: &Answers, number: u64, piece: &Piece) {
    let sent = answers.push(|payload| {
        payload.put_u8(copies::TUNNEL);
        piece.write(number, payload);
    });
    debug_assert!(sent.is_ok());
}

/// Carries the bytes of a tunnel between the bus and the connection, until either ends.
async fn carry(number: u64, stream: DuplexStream, pipe: Arc<Pipe>, answers: Answers) {
    let (mut read, mut write) = tokio::io::split(stream);
    let write_all = async {
        let mut taken = 0;
        while let Came::Bytes(bytes) = poll_fn(|context| pipe.poll(context)).await {
            if write.write_all(&bytes).await.is_err() {
                break;
            }
            if let Some(credit) = pipe.took(bytes.len(), &mut taken) {
                push(&answers, number, &Piece::Credit(credit as u32));
            }
        }
    };
    let read_all = async {
        let mut buffer = BytesMut::new();
        while let Some(credit) = pipe.credit().await {
            // What many tunnels have to say must not fill the link's queue.
            answers.room().await;
            buffer.reserve(PIECE_BYTES);
            let mut free = (&mut buffer).limit(credit.min(PIECE_BYTES));
            if !read.read_buf(&mut free).await.is_ok_and(|bytes| bytes > 0) {
                break;
            }
            let bytes = buffer.split().freeze();
            pipe.spend(bytes.len());
            push(&answers, number, &Piece::Data(bytes));
        }
        push(&answers, number, &Piece::End);
    };
    tokio::select! {
        () = write_all => {}
        () = read_all => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(numbers: &[u8]) -> Map {
        let mut map = Map::new(Pins::default());
        map.nodes = numbers
            .iter()
            .map(|number| Node {
                id: NodeId([*number; 20]),
                bus: String::new(),
                host: String::new(),
                hostname: String::new(),
                port: 0,
                cluster_port: 0,
                weight: Node::DEFAULT_WEIGHT,
                state: NodeState::Up,
                incarnation: 1,
            })
            .collect();
        map
    }

    /// Aim: who has left answers what is under way for a second from then on; changes of the map just before it left do not
    /// cut that short.
    #[tokio::test(start_paused = true)]
    async fn one_that_has_left_is_heard_for_a_while() {
        let begun = Instant::now();
        let (both, one) = (map(&[1, 2]), map(&[1]));
        let [first, second, third] = [1, 2, 3].map(|number| NodeId([number; 20]));
        let mut departed = Departed::default();
        departed.note(&both, &both, begun);
        departed.note(&both, &one, begun + LAST_ANSWERS / 2);
        let at = |time| begun + time;
        assert!(departed.may_answer(second, &one, at(LAST_ANSWERS)));
        assert!(!departed.may_answer(second, &one, at(LAST_ANSWERS * 3 / 2)));
        assert!(departed.may_answer(second, &both, at(LAST_ANSWERS * 9)));
        assert!(departed.may_answer(first, &one, at(LAST_ANSWERS * 9)));
        assert!(!departed.may_answer(third, &both, begun));
        departed.note(&one, &one, at(LAST_ANSWERS * 2));
        assert!(departed.0.is_empty());
    }
}
