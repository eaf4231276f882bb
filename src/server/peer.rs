//! Running what peers forward: the other end of `connection/forwarding.rs`.
//!
//! Each link of a peer has one [`Executor`]. The frames of a link are run one after the other in the order in which they
//! came, on the task that reads the link, so a client's requests to this node keep their order. An executor is nobody in
//! particular: each frame says for whom and in which database and protocol its requests run.
//!
//! What runs a script may run for ever. It waits until its frame has a task of its own ([`Gate`]): the frames behind it, and the
//! peer's question whether this node lives, must not wait for it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::connection::{rest, sweep_to_end};
use crate::cluster::DOWN;
use crate::cluster::bus::Answers;
use crate::cluster::forward::{Answer, Head, HowToRun};
use crate::cluster::node::NodeId;
use crate::dispatch::{Face, Runner, Step, WINDOW};
use crate::keyspace::waiting::Cancel;
use crate::resp::decode::{Decoder, Limits, Status};
use crate::resp::reply::{Output, Protocol, Reply};
use crate::state::Server;
use crate::state::clients::Client;
use crate::state::session::Session;
use crate::state::tracking::far::FarClients;

/// Bytes of replies from which an answer may have to go in parts.
const LONG_BYTES: usize = 1024 * 1024;
/// Bytes of replies that end a frame: its sender asks for the rest when its client has read.
const ENOUGH_BYTES: usize = 16 * 1024 * 1024;
/// How long a frame of a later epoch waits for this node to catch up.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Runs the requests of one link.
pub struct Executor {
    runner: Runner,
    session: Session,
    decoder: Decoder,
    output: Output,
    /// Where each reply ends.
    ends: Vec<usize>,
    /// Of the map, when the last frame was run.
    epoch: u64,
    /// Whose requests they are.
    clients: Arc<FarClients>,
    gate: Arc<Gate>,
}

/// Between the task of a link and the frame that it runs. Both flags are the frame's alone: it clears them when it begins.
#[derive(Debug, Default)]
pub struct Gate {
    /// Whether the frame does not go on before it has a task of its own. Written by the frame, read by the link's task between
    /// two polls of it: relaxed, nothing else comes with it.
    is_wanted: AtomicBool,
    /// Whether it has one. Written by that task before it polls the frame for the first time: relaxed, the same task reads it.
    is_open: AtomicBool,
}

impl Gate {
    /// Whether the frame waits for it.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// The frame has a task of its own, which is about to poll it.
    pub fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    fn close(&self) {
        self.is_wanted.store(false, Ordering::Relaxed);
        self.is_open.store(false, Ordering::Relaxed);
    }

    /// Waits for the first poll by that task: there is nothing else to wake it.
    async fn pass(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
        poll_fn(|_| match self.is_open.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

impl Executor {
    /// For the requests of these clients of a peer.
    pub fn new(server: &Arc<Server>, peer: NodeId, clients: &Arc<FarClients>) -> Executor {
        let client = Client::of_peer(server.clients.next_id(), peer, server.clock.now());
        Executor {
            runner: Runner::new(Arc::clone(server))
                .of_client(client.id)
                .of_face(Face::Peer),
            session: Session::new(Arc::new(client), true),
            decoder: Decoder::new(),
            output: Output::new(),
            ends: Vec::new(),
            epoch: 0,
            clients: Arc::clone(clients),
            gate: Arc::default(),
        }
    }

    /// What its next frame may have to pass.
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Runs a frame; [`Executor::write`] has the answer then.
    pub async fn run(&mut self, mut payload: Bytes) -> Result<(), NotAFrame> {
        self.gate.close();
        let head = Head::read(&mut payload).map_err(|_| NotAFrame)?;
        let Some(cluster) = self.runner.cluster().cloned() else {
            return Err(NotAFrame);
        };
        if cluster.view().map.epoch < head.epoch {
            cluster
                .wait_for(CATCH_UP, |view| view.map.epoch >= head.epoch)
                .await;
        }
        self.runner.set_client(self.clients.writer(head.client));
        self.session.reads_for = match head.how.contains(HowToRun::REMEMBER) {
            true => self.clients.reader(head.client),
            false => 0,
        };
        self.session.database = head.database;
        self.session.no_touch = head.how.contains(HowToRun::NO_TOUCH);
        let wants_texts = head.how.contains(HowToRun::WANTS_TEXTS);
        self.runner.set_wants_texts(wants_texts);
        self.runner.set_among_others(true);
        self.session.protocol = match head.how.contains(HowToRun::RESP3) {
            true => Protocol::Resp3,
            false => Protocol::Resp2,
        };
        self.forget();
        let done = self.run_requests(&payload).await;
        self.runner.end_batch();
        self.decoder.restart();
        // What is left of a transaction that was not run.
        self.session.take_transaction();
        self.session.take_watches();
        done?;
        if self.runner.has_lost_lease() {
            self.refuse_all(DOWN);
        }
        self.epoch = cluster.view().map.epoch;
        Ok(())
    }

    /// Answers the frame that was run.
    pub async fn answer(&mut self, id: u64, answers: &Answers) {
        if self.output.len_bytes() < LONG_BYTES {
            self.write(id, answers);
            return;
        }
        let mut head = BytesMut::new();
        Answer::write_head(self.epoch, &self.ends, &mut head);
        let mut answer = head.chain(std::mem::take(&mut self.output));
        if answers.answer_long(id, &mut answer).await.is_err() {
            drop(answer);
            self.refuse_all("ERR the reply is too large to be forwarded");
            self.write(id, answers);
        }
    }

    fn write(&mut self, id: u64, answers: &Answers) {
        let sent = answers.answer(id, |payload| {
            Answer::write_head(self.epoch, &self.ends, payload);
            payload.put(&mut self.output);
        });
        debug_assert!(sent.is_ok(), "many small replies in place of a large one");
        self.output.shrink();
    }

    fn forget(&mut self) {
        self.ends.clear();
        if !self.output.is_empty() {
            self.output = Output::new();
        }
    }

    async fn run_requests(&mut self, payload: &Bytes) -> Result<(), NotAFrame> {
        let limits = Limits {
            large_bytes: usize::MAX,
            ..Limits::authenticated(self.runner.settings().proto_max_bulk_len as usize)
        };
        self.runner.begin_batch();
        let begin = self.output.mark();
        loop {
            match self.decoder.next(payload, &limits) {
                Ok(Status::Request) => {}
                Ok(Status::Incomplete) if self.decoder.position() == payload.len() => return Ok(()),
                _ => return Err(NotAFrame),
            }
            if self.decoder.turn() == 0 {
                self.decoder.look_ahead(payload, &limits, WINDOW);
                self.runner
                    .foresee(&self.session, self.decoder.window(payload));
            }
            if !self.request(payload).await {
                return Ok(());
            }
            let bytes = self.output.bytes_since(begin);
            self.ends.push(bytes);
            if bytes >= ENOUGH_BYTES && self.session.transaction().is_none() {
                return Ok(());
            }
        }
    }

    /// Runs the request that was just decoded. `false` when it cannot be run here.
    async fn request(&mut self, payload: &Bytes) -> bool {
        let turn = self.decoder.turn();
        let mut round = 0;
        loop {
            let request = self.decoder.arguments(payload);
            let step = self
                .runner
                .run(&mut self.session, request, &mut self.output, turn, round);
            match step {
                Step::Done => return true,
                Step::Contended => {
                    rest(self.runner.server(), round).await;
                    round = self.runner.next_round(round);
                }
                Step::Apart => {
                    self.runner.end_batch();
                    self.gate.pass().await;
                    self.runner.set_among_others(false);
                    self.runner.begin_batch();
                }
                Step::Paused => {
                    self.runner.end_batch();
                    let server = Arc::clone(self.runner.server());
                    let left = server.pause.left_ms(server.clock.now());
                    tokio::select! {
                        _ = tokio::time::sleep(Duration::from_millis(left)) => {}
                        _ = server.pause.ended() => {}
                        _ = server.shutdown.requested() => server.pause.end(),
                    }
                    self.runner.begin_batch();
                }
                Step::Sweep(sweeping) => {
                    let (runner, session) = (&mut self.runner, &mut self.session);
                    sweep_to_end(runner, session, sweeping, request, &mut self.output).await;
                    return true;
                }
                Step::Blocked(blocked) => {
                    // Those that wait come by a connection of their own.
                    blocked.waiter.cancel(Cancel::Gone);
                    self.runner
                        .server()
                        .keyspace
                        .waiting
                        .remove(&blocked.waiter);
                    return false;
                }
                Step::Migrate(_)
                | Step::Forward(_)
                | Step::Tunnel(_)
                | Step::Across
                | Step::Totals
                | Step::NotHere => return false,
            }
        }
    }

    /// Takes back all replies, and says why.
    fn refuse_all(&mut self, why: &str) {
        let count = self.ends.len();
        self.ends.clear();
        self.output = Output::new();
        let begin = self.output.mark();
        for _ in 0..count {
            let mut reply = Reply::new(&mut self.output, self.session.protocol);
            reply.error(why);
            self.ends.push(self.output.bytes_since(begin));
        }
    }
}

/// The payload is not what a peer sends.
#[derive(Clone, Copy, Debug)]
pub struct NotAFrame;
