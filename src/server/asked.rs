//! Answering what peers ask of all nodes.
//!
//! Requests of clients that go to every node (KEYS, FLUSHALL, SCAN) may take long: each runs in a task of its own with an
//! executor of its own, a bounded number at once, and what comes behind it on the link does not wait. Requests that wait for
//! no key (SCRIPT KILL) need no room, since they may be what the others wait for. The other questions are answered at once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::peer::Executor;
use crate::admin::info::database_totals;
use crate::cluster::ask::{Known, Question, to_answer};
use crate::cluster::bus::Answers;
use crate::cluster::node::NodeId;
use crate::state::Server;
use crate::state::tracking::far::FarClients;

/// Requests of all peers that run at once; the others wait for their turn.
const RUNS_MAX: usize = 16;
/// Requests of one link that run or wait; one more is not run, and its sender tries again.
const WAITING_MAX: usize = 1024;
/// Bytes of scripts in one answer, before one script more.
const SCRIPT_BYTES: usize = 1024 * 1024;

/// What the links of all peers share.
#[derive(Clone)]
pub struct Asks {
    server: Arc<Server>,
    permits: Arc<Semaphore>,
}

impl Asks {
    /// Nobody asks yet.
    pub fn new(server: &Arc<Server>) -> Asks {
        Asks {
            server: Arc::clone(server),
            permits: Arc::new(Semaphore::new(RUNS_MAX)),
        }
    }

    /// For a link of this peer, by which these clients of it come.
    pub fn of(&self, peer: NodeId, clients: &Arc<FarClients>) -> Asked {
        Asked {
            asks: self.clone(),
            peer,
            clients: Arc::clone(clients),
            runs: HashMap::new(),
        }
    }
}

/// What one link asks; what still runs ends with it.
pub struct Asked {
    asks: Asks,
    peer: NodeId,
    clients: Arc<FarClients>,
    runs: HashMap<u64, AbortHandle>,
}

impl Asked {
    /// Answers the question of this id, now or later.
    pub fn answer(&mut self, id: u64, payload: Bytes, answers: &Answers) {
        let server = &self.asks.server;
        let answer = match Question::read(payload) {
            Some(Question::Run(frame)) => {
                let permits = Arc::clone(&self.asks.permits);
                return self.run(id, frame, answers, Some(permits));
            }
            Some(Question::RunAtOnce(frame)) => return self.run(id, frame, answers, None),
            Some(Question::Totals) => to_answer(&database_totals(server)),
            Some(Question::Known) => to_answer(&known(server)),
            Some(Question::Map) => match server.cluster.get() {
                Some(cluster) => to_answer(&*cluster.view().map),
                None => Vec::new(),
            },
            Some(Question::Libraries) => to_answer(&server.functions.current().states()),
            Some(Question::Scripts(last)) => {
                to_answer(&server.scripts.loaded_after(&last, SCRIPT_BYTES))
            }
            None => {
                tracing::warn!(peer = %self.peer, "a peer asks what this node does not know of");
                Vec::new()
            }
        };
        send(answers, id, &answer);
    }

    fn run(&mut self, id: u64, frame: Bytes, answers: &Answers, permits: Option<Arc<Semaphore>>) {
        if self.runs.len() >= WAITING_MAX {
            self.runs.retain(|_, run| !run.is_finished());
        }
        if self.runs.len() >= WAITING_MAX {
            return send(answers, id, &[]);
        }
        // A piece of the buffer that the link reads into must not be held on to while it waits.
        let frame = Bytes::copy_from_slice(&frame);
        let (server, peer) = (Arc::clone(&self.asks.server), self.peer);
        let (clients, answers) = (Arc::clone(&self.clients), answers.clone());
        let run = tokio::spawn(async move {
            let _permit = match &permits {
                // An error would say that it was closed, which it never is.
                Some(permits) => permits.acquire().await.ok(),
                None => None,
            };
            let mut executor = Executor::new(&server, peer, &clients);
            match executor.run(frame).await {
                Ok(()) => executor.answer(id, &answers).await,
                Err(_) => {
                    tracing::warn!(%peer, "a request of a peer for all nodes could not be read");
                    send(&answers, id, &[]);
                }
            }
        });
        self.runs.insert(id, run.abort_handle());
    }

    /// Nobody waits for this answer any more.
    pub fn cancel(&mut self, id: u64) {
        if let Some(run) = self.runs.remove(&id) {
            run.abort();
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.runs.values().for_each(AbortHandle::abort);
    }
}

/// What this node knows of libraries and scripts.
pub fn known(server: &Server) -> Known {
    Known {
        libraries: server.functions.current().digest(),
        scripts: server.scripts.digest(),
        scripts_flushed_ms: server.scripts.flushed_ms(),
    }
}

/// An answer beyond what a frame may be is none, and who asked hears so by an empty one.
pub(super) fn send(answers: &Answers, id: u64, answer: &[u8]) {
    let sent = answers.answer(id, |buffer| buffer.extend_from_slice(answer));
    if sent.is_err() {
        let _ = answers.answer(id, |_| {});
    }
}
