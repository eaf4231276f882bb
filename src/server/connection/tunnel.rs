//! Requests that leave something behind at the owner of their keys: a client that waits (BLPOP), watched keys (WATCH), and
//! the transaction behind these. They go through a [`Tunnel`], the client's own connection at that peer, one after the
//! other; the client's other requests wait for them, as they do when everything is here.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::forwarding::{Tries, how_to_run, write_unit, write_words};
use super::{Connection, Stream};
use crate::cluster::forward::HowToRun;
use crate::cluster::tunnel::{Next, Tunnel};
use crate::resp::reply::{Protocol, Reply};
use crate::state::clients::{Unblock, WaitsAt};
use crate::state::session::After;

/// What a peer's connection says of a request whose keys are elsewhere.
pub(super) const NOT_HERE: &str = "NOTHERE";

/// What a client is told whose request nobody knows the end of.
const LOST: &str =
    "CLUSTERDOWN the node that owns the keys was lost while the command waited there";

impl<S: Stream> Connection<S> {
    /// Runs the request that was just decoded, or the transaction that it ends, at the peer of this index, and writes the
    /// reply. `false`: the keys are elsewhere by now.
    pub(super) async fn tunnel(&mut self, index: u16) -> bool {
        self.runner.end_batch();
        // The replies to what ran before do not wait. An error shows again when the batch is written.
        let _ = self.try_write();
        self.publish();
        let is_done = self.through(index).await;
        self.runner.begin_batch();
        is_done
    }

    async fn through(&mut self, index: u16) -> bool {
        let (Some(view), Some(cluster)) = (self.runner.view(), self.runner.cluster().cloned())
        else {
            return true;
        };
        let node = &view.map.nodes[usize::from(index)];
        let is_watching = !self.session.watched_elsewhere.is_empty();
        // What was unwatched here is unwatched there by its end.
        self.tunnels
            .retain(|tunnel| tunnel.node != node.id || tunnel.is_watching <= is_watching);
        let request = self.decoder.arguments(&self.input);
        let is_watch = self.runner.is_watch(request);
        let watched = match is_watch {
            true => self.runner.slots(&self.session, request),
            false => Vec::new(),
        };
        let mut requests = BytesMut::new();
        let mut count = write_unit(
            &self.runner,
            self.session.transaction(),
            request,
            &mut requests,
        );
        let how = how_to_run(&self.session);
        if how.contains(HowToRun::REMEMBER) {
            self.session.reads_at(node.id);
        }
        let client = self.client().id;
        let node_timeout = self.runner.settings().cluster_node_timeout;
        let mut tries = Tries::until(Instant::now() + node_timeout);
        // One that was lost meanwhile, and kept nothing, or whose link is not up yet, begins anew.
        let mut tunnel = loop {
            let found = self.tunnels.iter().position(|its| its.node == node.id);
            let mut tunnel = match found {
                Some(at) => self.tunnels.swap_remove(at),
                None => Tunnel::open(&cluster, node, client),
            };
            let mut prepared = BytesMut::new();
            let replies = self.prepare(&mut tunnel, &mut prepared);
            prepared.extend_from_slice(&requests);
            if tunnel.send(client, how, prepared).is_ok() {
                count += replies;
                break tunnel;
            }
            if tunnel.is_watching || !tries.again(self.runner.is_cut_off()).await {
                if self.session.take_transaction().is_some() {
                    self.session.take_watches();
                }
                self.answer_lost();
                return true;
            }
            if self.client().killed().is_some() {
                self.session.after = After::Drop;
                return true;
            }
            if cluster.version() != view.version {
                return false;
            }
        };
        drop(requests);
        let request = self.decoder.arguments(&self.input);
        self.runner
            .show_sent(&self.session, self.session.transaction(), request);
        let mut reply = None;
        let mut is_elsewhere = false;
        for _ in 0..count {
            reply = match self.reply_of(&mut tunnel).await {
                Ok(reply) => reply,
                Err(Gone) => {
                    self.stop_waiting().await;
                    self.session.after = After::Drop;
                    return true;
                }
            };
            is_elsewhere |= reply
                .as_ref()
                .is_some_and(|reply| reply.starts_with(b"-NOTHERE"));
            if reply.is_none() {
                break;
            }
        }
        self.session.client.set_waits(None);
        let is_exec = self.session.transaction().is_some();
        if is_elsewhere && !is_exec {
            return false;
        }
        if let Some(transaction) = self.session.take_transaction() {
            // It has run, unless a watched key was changed.
            if reply.as_ref().is_some_and(|reply| has_run(reply)) {
                self.session.database = self.runner.database_after(&self.session, &transaction);
                tunnel.database = self.session.database;
            }
            self.session.keep_spare(transaction);
            self.session.take_watches();
        }
        let Some(reply) = reply else {
            self.answer_lost();
            return true;
        };
        let is_wanted = self.runner.takes_reply(&mut self.session);
        if is_elsewhere {
            // The watched keys were moved: nobody knows whether they were changed on the way.
            if is_wanted {
                Reply::new(&mut self.output, self.session.protocol).null_array();
            }
            return true;
        }
        if is_watch && reply.first() == Some(&b'+') {
            self.session.watches_elsewhere(watched);
            tunnel.is_watching = true;
        }
        if is_exec {
            tunnel.is_watching = false;
        }
        if is_wanted {
            self.output.push_shared(reply);
        }
        self.tunnels.push(tunnel);
        true
    }

    /// Answers a request whose owner was lost.
    fn answer_lost(&mut self) {
        if self.runner.takes_reply(&mut self.session) {
            Reply::new(&mut self.output, self.session.protocol).error(LOST);
        }
    }

    /// Ends other clients' waits at peers, and replaces the reply that stands for what comes of it. `false` when the client is
    /// gone.
    pub(super) async fn unblock_elsewhere(&mut self) -> bool {
        let Some(asking) = self.session.asking.take() else {
            return true;
        };
        // Nothing: CLIENT REPLY has taken it away.
        let mark = asking
            .mark
            .filter(|mark| self.output.bytes_since(*mark) > 0);
        if let Some(mark) = mark {
            self.output.truncate(mark);
        }
        self.runner.end_batch();
        // What the client sent before it may serve who waits.
        if !self.forwarding.is_empty() && !self.settle().await {
            return false;
        }
        let clients = asking.clients.iter();
        let asked: Vec<Unblock> = clients
            .map(|client| client.unblock(asking.with_error))
            .collect();
        let mut is_unblocked = false;
        for unblock in asked {
            is_unblocked |= match unblock {
                Unblock::Done(is_unblocked) => is_unblocked,
                Unblock::Asked(answer) => tokio::select! {
                    // Lost: the wait ends by that.
                    answer = answer => answer.unwrap_or(false),
                    _ = super::killed(&self.session.client) => return false,
                    _ = self.server().shutdown.requested() => return false,
                },
            };
        }
        self.runner.begin_batch();
        if mark.is_some() {
            let mut reply = Reply::new(&mut self.output, self.session.protocol);
            reply.integer(i64::from(is_unblocked));
        }
        true
    }

    /// The client leaves: it waits no more when this returns, as far as the peer can be reached, and takes no element with it.
    async fn stop_waiting(&mut self) {
        if let Unblock::Asked(answer) = self.client().unblock(false) {
            let patience = self.runner.settings().cluster_node_timeout;
            // Whatever came of it.
            let _ = tokio::time::timeout(patience, answer).await;
        }
        self.client().set_waits(None);
    }

    /// Brings a tunnel to the client's database and protocol. How many replies that will have.
    fn prepare(&self, tunnel: &mut Tunnel, requests: &mut BytesMut) -> usize {
        let mut count = 0;
        let is_resp3 = self.session.protocol == Protocol::Resp3;
        if tunnel.is_resp3 != is_resp3 {
            tunnel.is_resp3 = is_resp3;
            let version = if is_resp3 { "3" } else { "2" };
            write_words(&["HELLO", version], requests);
            count += 1;
        }
        if tunnel.database != self.session.database {
            tunnel.database = self.session.database;
            write_words(&["SELECT", &tunnel.database.to_string()], requests);
            count += 1;
        }
        count
    }

    /// The next reply. Meanwhile replies and mail are sent, and what the client sends is kept; that it has left is seen by
    /// the read. `None`: the peer is gone.
    async fn reply_of(&mut self, tunnel: &mut Tunnel) -> Result<Option<Bytes>, Gone> {
        let done = poll_fn(|context| {
            self.client().register(context.waker());
            // Who is killed is not told that its wait was ended for that.
            if self.client().killed().is_some() {
                return Poll::Ready(Err(Gone));
            }
            if let Some(mail) = self.session.client.take_mail() {
                self.output.append(mail);
            }
            while let Poll::Ready(next) = tunnel.poll_next(context) {
                match next {
                    Next::Reply(push) if push.first() == Some(&b'>') => {
                        self.output.push_shared(push);
                    }
                    Next::Reply(reply) => return Poll::Ready(Ok(Some(reply))),
                    Next::Waits => {
                        let place = WaitsAt::Peer(tunnel.handle());
                        self.session.client.set_waits(Some(place));
                        self.publish();
                    }
                    Next::End => return Poll::Ready(Ok(None)),
                }
            }
            self.held_elsewhere = tunnel.held_bytes();
            if self.server().shutdown.is_requested() || self.exchange(context).is_err() {
                return Poll::Ready(Err(Gone));
            }
            Poll::Pending
        })
        .await;
        self.held_elsewhere = 0;
        done
    }
}

/// Whether the reply to EXEC is that of a transaction that ran.
fn has_run(reply: &[u8]) -> bool {
    reply.first() == Some(&b'*') && !reply.starts_with(b"*-1")
}

/// The client has left, or has to.
struct Gone;
