//! A node learns libraries of functions and loaded scripts from its peers.
//!
//! All nodes are asked when a client changes them, so they are the same everywhere as long as all nodes are there. A node
//! that joins, or comes back, makes up for what it has missed: it compares with its peers at once, then with one of them
//! every [`LOOK`].
//!
//! - Libraries: of each name the later change wins, a deletion too, by the clocks of the nodes that were asked. A difference
//!   counts when it is still there at the next look, since a change may be under way; one that knows none yet waits for
//!   nothing.
//! - Scripts: what one has loaded all have, but for what was loaded before any of them forgot all (SCRIPT FLUSH). What was
//!   run by EVAL and not loaded is nobody else's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::asked::known;
use crate::admin::functions::adopt;
use crate::base::clock::Millis;
use crate::cluster::ask::{Known, LibraryState, LoadedScript, Question, read_answer};
use crate::cluster::bus::Kind;
use crate::cluster::node::{Node, NodeState};
use crate::cluster::{Cluster, View};
use crate::state::Server;

/// Between two looks at one of the peers.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks as long as no peer has answered.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// How many peers are asked at the first look: each may lack what another has.
const FIRST_PEERS: usize = 8;
/// How long a peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Loaded scripts that are taken over from one peer, at most.
const SCRIPTS_MAX: usize = 100_000;

/// Learns until it is aborted.
pub async fn run(server: Arc<Server>, cluster: Arc<Cluster>) {
    let mut learner = Learner {
        server,
        cluster,
        suspected: None,
    };
    while learner.look(FIRST_PEERS).await == 0 {
        let cluster = Arc::clone(&learner.cluster);
        let has_peers = |view: &View| view.map.nodes.iter().any(|node| node.id != cluster.me);
        cluster.wait_for(LOOK, has_peers).await;
        tokio::time::sleep(FIRST_LOOK).await;
    }
    loop {
        tokio::time::sleep(LOOK).await;
        learner.look(1).await;
    }
}

struct Learner {
    server: Arc<Server>,
    cluster: Arc<Cluster>,
    /// Hashes of our libraries and a peer's, which differed at the last look.
    suspected: Option<(u128, u128)>,
}

impl Learner {
    /// Compares with some peers, chosen by chance. How many have answered.
    async fn look(&mut self, count: usize) -> usize {
        let view = self.cluster.view();
        let mut peers: Vec<&Node> = view
            .map
            .nodes
            .iter()
            .filter(|node| node.id != self.cluster.me && node.state != NodeState::Failed)
            .collect();
        fastrand::shuffle(&mut peers);
        let mut answered = 0;
        for peer in peers.into_iter().take(count) {
            if let Some(theirs) = self.ask(peer, &Question::Known).await {
                answered += 1;
                self.compare(peer, theirs).await;
            }
        }
        answered
    }

    async fn ask<T: DeserializeOwned>(&self, peer: &Node, question: &Question) -> Option<T> {
        let link = self.cluster.link_for_all(peer);
        let payload = question.to_payload();
        let asking = async {
            link.connected().await.ok()?;
            let ticket = link.call(Kind::Ask, |frame| frame.extend_from_slice(&payload));
            read_answer(&ticket.ok()?.await.ok()?)
        };
        tokio::time::timeout(PATIENCE, asking).await.ok()?
    }

    async fn compare(&mut self, peer: &Node, theirs: Known) {
        let mine = known(&self.server);
        if mine.libraries != theirs.libraries {
            self.libraries(peer, mine, theirs).await;
        }
        if mine.scripts_flushed_ms < theirs.scripts_flushed_ms {
            let flushed_ms = theirs.scripts_flushed_ms;
            self.server.scripts.forget_loaded_before(flushed_ms);
        }
        if known(&self.server).scripts != theirs.scripts {
            self.scripts(peer).await;
        }
    }

    async fn libraries(&mut self, peer: &Node, mine: Known, theirs: Known) {
        let pair = (mine.libraries, theirs.libraries);
        let is_new = self.server.functions.current().is_untouched();
        if !is_new && self.suspected != Some(pair) {
            self.suspected = Some(pair);
            return;
        }
        let Some(states) = self
            .ask::<Vec<LibraryState>>(peer, &Question::Libraries)
            .await
        else {
            return;
        };
        let news = self.server.functions.current().news(states);
        if news.is_empty() {
            return;
        }
        let names: Vec<&str> = news.iter().map(|state| &state.name[..]).collect();
        tracing::info!(peer = %peer.id, libraries = names.join(" "), "libraries taken over from a peer");
        if let Err(left_out) = adopt(&self.server, news) {
            let libraries = left_out.join(" ");
            tracing::warn!(peer = %peer.id, libraries, "libraries of a peer cannot be taken over: they do not load, or have functions of names that are taken");
        }
    }

    async fn scripts(&self, peer: &Node) {
        let flushed = Millis(self.server.scripts.flushed_ms());
        let (mut last, mut taken) = (Bytes::new(), 0);
        while let Some(scripts) = self
            .ask::<Vec<LoadedScript>>(peer, &Question::Scripts(last.clone()))
            .await
            && !scripts.is_empty()
            && taken < SCRIPTS_MAX
        {
            for script in scripts {
                taken += 1;
                last = Bytes::copy_from_slice(&crate::script::sha1_hex(&script.text));
                let loaded = Millis(script.since_ms);
                if loaded > flushed
                    && let Err(error) = self.server.scripts.load(&script.text, loaded)
                {
                    tracing::warn!(peer = %peer.id, error = error.text().as_ref(), "a script of a peer cannot be taken over");
                }
                tokio::task::yield_now().await;
            }
        }
    }
}
