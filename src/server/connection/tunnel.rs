//! Requests that leave something behind at the owner of their keys: a client that waits (BLPOP), watched keys (WATCH), and
//! the transaction behind these. They go through a [`Tunnel`], the client's own connection at that peer, one after the
//! other; the client's other requests wait for them, as they do when everything is here.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::forwarding::{write_unit, write_words};
use super::{Connection, Stream};
use crate::cluster::tunnel::Tunnel;
use crate::resp::reply::{Protocol, Reply};
use crate::state::session::After;

/// What a peer's connection says of a request whose keys are elsewhere.
pub(super) const NOT_HERE: &str = "NOTHERE";

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
        let found = self.tunnels.iter().position(|its| its.node == node.id);
        let mut tunnel = match found {
            Some(at) => self.tunnels.swap_remove(at),
            None => Tunnel::open(&cluster, node, self.client().id),
        };
        let mut requests = BytesMut::new();
        let mut count = self.prepare(&mut tunnel, &mut requests);
        let request = self.decoder.arguments(&self.input);
        let is_watch = self.runner.is_watch(request);
        let watched = match is_watch {
            true => self.runner.slots(&self.session, request),
            false => Vec::new(),
        };
        let transaction = self.session.take_transaction();
        let is_exec = transaction.is_some();
        count += write_unit(&self.runner, transaction.as_deref(), request, &mut requests);
        if let Some(transaction) = transaction {
            self.session.keep_spare(transaction);
        }
        let is_wanted = self.runner.takes_reply(&mut self.session);
        if is_exec {
            self.session.take_watches();
        }
        let mut reply = None;
        if tunnel.send(&requests).is_ok() {
            let mut is_elsewhere = false;
            for _ in 0..count {
                reply = match self.reply_of(&mut tunnel).await {
                    Ok(reply) => reply,
                    Err(Gone) => {
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
            if is_elsewhere && !is_exec {
                return false;
            }
            if is_elsewhere {
                // The watched keys were moved: nobody knows whether they were changed on the way.
                if is_wanted {
                    Reply::new(&mut self.output, self.session.protocol).null_array();
                }
                return true;
            }
        } else {
            // The link may come up in a moment.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let mut written = Reply::new(&mut self.output, self.session.protocol);
        match reply {
            Some(reply) => {
                if is_watch && reply.first() == Some(&b'+') {
                    self.session.watched_elsewhere.extend(watched);
                    tunnel.is_watching = true;
                }
                if is_exec {
                    tunnel.is_watching = false;
                }
                if is_wanted {
                    self.output.push_shared(reply);
                }
                self.tunnels.push(tunnel);
            }
            None if is_wanted => written.error(
                "CLUSTERDOWN the node that owns the keys was lost while the command waited there",
            ),
            None => {}
        }
        true
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
        poll_fn(|context| {
            self.client().register(context.waker());
            if let Some(mail) = self.session.client.take_mail() {
                self.output.append(mail);
            }
            while let Poll::Ready(reply) = tunnel.poll_reply(context) {
                match reply {
                    Some(push) if push.first() == Some(&b'>') => self.output.push_shared(push),
                    reply => return Poll::Ready(Ok(reply)),
                }
            }
            if self.client().killed().is_some()
                || self.server().shutdown.is_requested()
                || self.exchange(context).is_err()
            {
                return Poll::Ready(Err(Gone));
            }
            Poll::Pending
        })
        .await
    }
}

/// The client has left, or has to.
struct Gone;
