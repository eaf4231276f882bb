//! Requests that leave something behind at the owner of their keys: a client that waits (BLPOP), watched keys (WATCH), and
//! the transaction behind these. They go through a [`Tunnel`], the client's own connection at that peer, one after the
//! other; the client's other requests wait for them, as they do when everything is here.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::across::elements;
use super::forwarding::{Tries, how_to_run, write_unit, write_words};
use super::{Connection, Stream};
use crate::cluster::forward::HowToRun;
use crate::cluster::tunnel::{Next, Tunnel};
use crate::resp::reply::{Mark, Protocol, Reply};
use crate::state::clients::{Unblock, WaitsAt};
use crate::state::session::After;
use crate::state::transaction::Transaction;

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
        let transaction = self.session.take_transaction();
        // It has run, unless a watched key was changed.
        let ran = transaction
            .as_ref()
            .filter(|_| reply.as_ref().is_some_and(|reply| has_run(reply)));
        if let Some(transaction) = ran {
            self.session.database = self.runner.database_after(&self.session, transaction);
            tunnel.database = self.session.database;
        }
        if is_exec {
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
        self.tunnels.push(tunnel);
        let begun = self.output.mark();
        match transaction {
            Some(transaction) => {
                self.with_those_of_entry(&transaction, reply);
                self.session.keep_spare(transaction);
            }
            None => self.output.push_shared(reply),
        }
        if !is_wanted {
            self.output.truncate(begun);
        }
        true
    }

    /// Writes the reply to a transaction that ran at a peer, and runs those of its commands that are about this connection or
    /// server ([`Runner::is_of_entry`]): the peer was not sent them, and their replies stand in their places.
    ///
    /// [`Runner::is_of_entry`]: crate::dispatch::Runner::is_of_entry
    fn with_those_of_entry(&mut self, transaction: &Transaction, reply: Bytes) {
        let is_of_entry =
            |connection: &Self, id, request| connection.runner.is_of_entry(id, request);
        let mut queued = transaction.queued();
        let replies = match queued.any(|(id, request, _)| is_of_entry(self, id, request)) {
            true if has_run(&reply) => elements(&reply),
            _ => None,
        };
        let Some(replies) = replies else {
            return self.output.push_shared(reply);
        };
        let mut replies = replies.into_iter();
        self.runner.begin_batch();
        Reply::new(&mut self.output, self.session.protocol).array(transaction.len());
        for (id, request, _) in transaction.queued() {
            if is_of_entry(self, id, request) {
                self.runner
                    .run_of_entry(&mut self.session, id, request, &mut self.output);
            } else if let Some(reply) = replies.next() {
                self.output.push_shared(reply);
            }
        }
        self.runner.end_batch();
    }

    /// Answers a request whose owner was lost.
    fn answer_lost(&mut self) {
        if self.runner.takes_reply(&mut self.session) {
            Reply::new(&mut self.output, self.session.protocol).error(LOST);
        }
    }

    /// Ends other clients' waits at peers, and replaces the replies that stand for what comes of it. `false` when the client is
    /// gone.
    pub(super) async fn unblock_elsewhere(&mut self) -> bool {
        let asking = std::mem::take(&mut self.session.asking);
        self.runner.end_batch();
        // Not there: CLIENT REPLY has taken it away.
        let marks = asking.iter().map(|one| one.mark);
        let marks: Vec<Option<Mark>> = marks
            .map(|mark| mark.filter(|mark| self.output.holds(*mark)))
            .collect();
        let first = marks.iter().flatten().next().copied();
        let places: Vec<Option<usize>> = marks
            .iter()
            .map(|mark| {
                let since = |mark| self.output.bytes_since(mark);
                Some(since(first?) - since((*mark)?))
            })
            .collect();
        let replies = first.map(|mark| self.output.take_since(mark).into_bytes());
        // What the client sent before it may serve who waits.
        if !self.forwarding.is_empty() && !self.settle().await {
            return false;
        }
        let asked: Vec<Vec<Unblock>> = asking
            .iter()
            .map(|one| {
                let clients = one.clients.iter();
                clients
                    .map(|client| client.unblock(one.with_error))
                    .collect()
            })
            .collect();
        let mut written = 0;
        for (unblocks, place) in asked.into_iter().zip(places) {
            let mut is_unblocked = false;
            for unblock in unblocks {
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
            if let (Some(place), Some(replies)) = (place, &replies)
                && replies[place..].starts_with(NOT_UNBLOCKED)
            {
                self.output.push_shared(replies.slice(written..place));
                Reply::new(&mut self.output, self.session.protocol)
                    .integer(i64::from(is_unblocked));
                written = place + NOT_UNBLOCKED.len();
            }
        }
        if let Some(replies) = replies {
            self.output.push_shared(replies.slice(written..));
        }
        self.runner.begin_batch();
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

/// The reply that stands for what comes of CLIENT UNBLOCK.
const NOT_UNBLOCKED: &[u8] = b":0\r\n";

/// Whether the reply to EXEC is that of a transaction that ran.
fn has_run(reply: &[u8]) -> bool {
    reply.first() == Some(&b'*') && !reply.starts_with(b"*-1")
}

/// The client has left, or has to.
struct Gone;
