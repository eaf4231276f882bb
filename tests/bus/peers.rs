//! Nodes of the tests: a service whose frames the test receives, and answers.
#![cfg_attr(
    feature = "simulation",
    allow(dead_code, reason = "the tests over sockets use the rest")
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quoit::cluster::bus::net::{TcpListener, TcpStream};
use quoit::cluster::bus::{
    Answers, Bus, Identity, Kind, Link, Links, Notices, Service, auth, serve,
};
use quoit::cluster::node::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longer than any test.
pub const SILENCE: Duration = Duration::from_secs(600);

pub fn node_id(number: u8) -> NodeId {
    NodeId([number; 20])
}

pub fn identity(number: u8) -> Identity {
    Identity {
        id: node_id(number),
        ring: "ring".to_owned(),
        secret: b"secret".to_vec(),
        version: 1,
    }
}

/// A frame that reached the service.
#[derive(Debug)]
pub struct Got {
    pub from: NodeId,
    pub kind: Kind,
    pub id: u64,
    pub payload: Bytes,
    pub answers: Answers,
}

/// What the service was told.
#[derive(Debug)]
pub enum Event {
    Frame(Got),
    /// The connection of this peer ended.
    Left(NodeId),
}

/// Echoes what begins with `echo`; hands everything else to the test.
struct Recorder(mpsc::UnboundedSender<Event>);

pub struct Peer {
    id: NodeId,
    events: mpsc::UnboundedSender<Event>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Left(self.id));
    }
}

impl Service for Recorder {
    type Peer = Peer;

    fn accept(&self, from: NodeId, _answers: &Answers) -> Peer {
        Peer {
            id: from,
            events: self.0.clone(),
        }
    }

    async fn frame(&self, peer: &mut Peer, kind: Kind, id: u64, payload: Bytes, answers: &Answers) {
        if payload.starts_with(b"echo") {
            let echoed = answers.answer(id, |frame| frame.extend_from_slice(&payload));
            echoed.expect("it came in a frame, so it fits one");
            return;
        }
        let _ = self.0.send(Event::Frame(Got {
            from: peer.id,
            kind,
            id,
            payload,
            answers: answers.clone(),
        }));
    }
}

/// A node that serves.
pub struct Node {
    pub bus: Arc<Bus>,
    pub address: String,
    events: mpsc::UnboundedReceiver<Event>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Node {
    pub async fn start(identity: Identity) -> Node {
        Node::start_at(identity, "127.0.0.1:0").await
    }

    pub async fn start_at(identity: Identity, address: &str) -> Node {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let bus = Bus::new(identity, SILENCE);
        let (sender, events) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(
            listener,
            Arc::clone(&bus),
            Arc::new(Recorder(sender)),
            async {
                let _ = stopped.await;
            },
        ));
        Node {
            bus,
            address,
            events,
            stop: Some(stop),
            task,
        }
    }

    pub async fn event(&mut self) -> Event {
        self.events.recv().await.expect("the service is there")
    }

    /// The next event, if it is there already.
    pub fn event_now(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The next frame; events before it are not expected.
    pub async fn frame(&mut self) -> Got {
        match self.event().await {
            Event::Frame(got) => got,
            other => panic!("a frame was to come, not {other:?}"),
        }
    }

    /// Ends when the listener is closed and all connections are.
    pub async fn stop(mut self) -> String {
        drop(self.stop.take());
        self.task.await.expect("serving ends without a panic");
        self.address
    }
}

/// What a link told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Connected(NodeId, usize),
    Pushed(NodeId, usize, Vec<u8>),
    Broken(NodeId, usize),
}

pub struct Telling(pub mpsc::UnboundedSender<Told>);

impl Notices for Telling {
    fn connected(&self, peer: NodeId, lane: usize) {
        let _ = self.0.send(Told::Connected(peer, lane));
    }

    fn pushed(&self, peer: NodeId, lane: usize, payload: Bytes) {
        let _ = self.0.send(Told::Pushed(peer, lane, payload.to_vec()));
    }

    fn broken(&self, peer: NodeId, lane: usize) {
        let _ = self.0.send(Told::Broken(peer, lane));
    }
}

pub fn links(identity: Identity) -> Links {
    Links::new(Bus::new(identity, SILENCE), Arc::new(()))
}

/// A link of node 1 to `node`, connected.
pub async fn linked(node: &Node) -> (Links, Arc<Link>) {
    let links = links(identity(1));
    let link = links.link(node.bus.identity().id, &node.address, 0);
    assert_eq!(link.connected().await, Ok(node.bus.identity().id));
    (links, link)
}

/// Still serves others: whatever was done to it has harmed nothing.
pub async fn assert_unharmed(node: &Node) {
    let (_links, link) = linked(node).await;
    let echoed = link
        .call(Kind::Forward, |frame| frame.extend_from_slice(b"echo me"))
        .expect("the link is connected");
    assert_eq!(echoed.await.as_deref(), Ok(b"echo me".as_slice()));
}

/// A connection that has proven itself as node 9, for the test to misuse.
pub async fn proven(node: &Node) -> (TcpStream, auth::Session) {
    let mut stream = TcpStream::connect(&node.address).await.expect("it listens");
    let session = auth::connect(&mut stream, &identity(9))
        .await
        .expect("it knows the secret");
    (stream, session)
}
