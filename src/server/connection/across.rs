//! Requests that several nodes have a part in: MGET and its kin, cut by their keys; DBSIZE and its kin, asked of all nodes;
//! SCAN, which goes from node to node.
//!
//! Each node's part is atomic there, the whole is not. How the parts become one reply says the row's tip
//! `response_policy`; without one, arrays are joined: in the order of the keys where there are keys, else one behind the
//! other. The first error is the reply, whatever else was done. A part whose node does not own its keys any more is routed
//! anew, alone.
//!
//! Parts by keys are sent as a client's other requests are. What all nodes are asked goes by a link apart as
//! [`Question::Run`], and a node runs it beside what else it is asked for (server/asked.rs).

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use super::forwarding::{Answered, HowSent, Tries, how_to_run};
use super::{Connection, Stream, rest, sweep_to_end};
#[cfg(doc)]
use crate::cluster::ask::Question;
use crate::cluster::ask::{RUN, RUN_AT_ONCE};
use crate::cluster::bus::Kind;
use crate::cluster::forward::{Head, write_request};
use crate::cluster::node::{Node, NodeState};
use crate::cluster::{NOT_SERVED, View};
use crate::commands::scan;
use crate::data::number::parse_i64;
use crate::dispatch::{Face, Merge, Spread, Step};
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::resp::frame::frame_len;
use crate::resp::reply::{Output, Reply};
use crate::state::session::After;
use crate::table::Args;

/// One node's part of a request.
struct Part {
    /// None: this one.
    node: Option<Node>,
    request: OwnedArguments,
    /// Which of the request's keys it has, by their order.
    keys: Vec<usize>,
}

impl<S: Stream> Connection<S> {
    /// Runs the request that was just decoded on all nodes that have a part in it, and writes the reply.
    pub(super) async fn across(&mut self) {
        self.runner.end_batch();
        let request = self.decoder.arguments(&self.input).to_owned();
        let request = request.as_arguments();
        let reader = self.session.reader();
        self.runner.show_sent(&self.session, None, request);
        let is_wanted = self.runner.takes_reply(&mut self.session);
        let mut output = Output::new();
        // Its part here must not take its mail, which comes behind the whole reply.
        let tracker = self.session.tracker.take();
        self.session.reads_for = reader;
        let done = match self.runner.spread(request) {
            Spread::Keys { merge } => self.by_keys(request, merge, &mut output).await,
            Spread::Nodes { merge } => self.by_nodes(request, merge, &mut output).await,
            Spread::Cursor => self.by_cursor(request, &mut output).await,
        };
        self.runner.begin_batch();
        self.session.tracker = tracker;
        self.session.reads_for = 0;
        if reader != 0
            && let Some(view) = self.runner.view()
        {
            // Any of them may have had a part.
            let peers = view.map.nodes.iter();
            peers.for_each(|peer| self.session.reads_at(peer.id));
        }
        match done {
            Some(()) if is_wanted => self.output.append(output),
            Some(()) => {}
            None => self.session.after = After::Drop,
        }
    }

    /// Cuts a request by its keys.
    pub(super) async fn by_keys(
        &mut self,
        request: Arguments<'_>,
        merge: Merge,
        output: &mut Output,
    ) -> Option<()> {
        let (positions, step) = self.runner.split_positions(request);
        let deadline = Instant::now() + self.runner.settings().cluster_node_timeout;
        let mut replies: Vec<Option<Bytes>> = vec![None; positions.len()];
        let mut parts = Vec::new();
        let mut open: Vec<usize> = (0..positions.len()).collect();
        let mut tries = Tries::until(deadline);
        while !open.is_empty() {
            let mut turn: Vec<Part> = Vec::new();
            for key in open.drain(..) {
                let position = positions[key];
                let node = self
                    .runner
                    .owner_of(self.session.database, &request[position]);
                let node = match node {
                    Ok(node) => node,
                    Err(error) => {
                        let mut reply = Reply::new(output, self.session.protocol);
                        reply.error_bytes(&error.wire());
                        return Some(());
                    }
                };
                // The view may be another than that of the key before.
                let view = self.runner.view()?;
                let node = node.map(|index| &view.map.nodes[usize::from(index)]);
                let id = |node: &Node| node.id;
                let at = turn
                    .iter()
                    .position(|part| part.node.as_ref().map(id) == node.map(id));
                let at = at.unwrap_or_else(|| {
                    let mut request_of_part = OwnedArguments::default();
                    request_of_part.push(&request[0]);
                    turn.push(Part {
                        node: node.cloned(),
                        request: request_of_part,
                        keys: Vec::new(),
                    });
                    turn.len() - 1
                });
                turn[at]
                    .request
                    .append(request.range(position, position + step));
                turn[at].keys.push(key);
            }
            for (part, reply) in self.run_parts(turn, Way::Client).await? {
                match reply {
                    PartReply::Bytes(reply) => parts.push((part.keys, reply)),
                    PartReply::NotThere => open.extend(part.keys),
                }
            }
            if !open.is_empty() && !tries.again(self.runner.is_cut_off()).await {
                Reply::new(output, self.session.protocol).error(NOT_SERVED);
                return Some(());
            }
        }
        if merge != Merge::Join {
            let all = parts.into_iter().map(|(_, reply)| reply).collect();
            merged(merge, all, self.random(), output);
            return Some(());
        }
        for (keys, reply) in parts {
            let Some(elements) = elements(&reply) else {
                output.push_shared(reply);
                return Some(());
            };
            for (key, element) in keys.into_iter().zip(elements) {
                replies[key] = Some(element);
            }
        }
        let mut reply = Reply::new(output, self.session.protocol);
        reply.array(replies.len());
        for element in replies {
            match element {
                Some(element) => output.push_shared(element),
                None => Reply::new(output, self.session.protocol).null(),
            }
        }
        Some(())
    }

    /// Asks all nodes.
    async fn by_nodes(
        &mut self,
        request: Arguments<'_>,
        merge: Merge,
        output: &mut Output,
    ) -> Option<()> {
        let deadline = Instant::now() + self.runner.settings().cluster_node_timeout;
        let mut replies = Vec::new();
        let mut asked = Vec::new();
        let mut tries = Tries::until(deadline);
        while let Some(view) = self.runner.fresh_view() {
            let mut turn = Vec::new();
            for (index, node) in view.map.nodes.iter().enumerate() {
                if node.state == NodeState::Failed || asked.contains(&node.id) {
                    continue;
                }
                turn.push(Part {
                    node: (index as u16 != view.mine).then(|| node.clone()),
                    request: request.to_owned(),
                    keys: Vec::new(),
                });
            }
            // Before there is a ring, this node is all there is.
            if view.map.nodes.is_empty() && asked.is_empty() && replies.is_empty() {
                turn.push(Part {
                    node: None,
                    request: request.to_owned(),
                    keys: Vec::new(),
                });
            }
            if turn.is_empty() {
                break;
            }
            let mut is_late = false;
            for (part, reply) in self.run_parts(turn, Way::All).await? {
                match reply {
                    PartReply::Bytes(reply) => {
                        replies.push(reply);
                        let me = view.map.nodes.get(usize::from(view.mine));
                        asked.extend(part.node.as_ref().or(me).map(|node| node.id));
                    }
                    PartReply::NotThere => is_late = true,
                }
            }
            if !is_late {
                break;
            }
            if !tries.again(self.runner.is_cut_off()).await {
                replies.push(Bytes::from_static(UNREACHABLE));
                break;
            }
        }
        merged(merge, replies, self.random(), output);
        Some(())
    }

    /// One call of SCAN: the node is in the cursor, above what each node makes of it. When a node is done before there are as
    /// many keys as asked for, the next one is asked, so that a small data set needs as few calls as on one server.
    async fn by_cursor(&mut self, request: Arguments<'_>, output: &mut Output) -> Option<()> {
        let Some(view) = self.runner.fresh_view() else {
            return Some(());
        };
        let cursor = scan::parse_cursor(request.get(1).unwrap_or_default());
        let tags = view.map.scan_tags();
        let asked = cursor.map_or(0, |cursor| cursor >> SCAN_BITS);
        let found = tags.iter().position(|(tag, _)| *tag >= asked);
        let (Some(mut at), Some(cursor)) = (found, cursor) else {
            // Not a number, or beyond the last node: any node knows the reply to that.
            let reply = self.scan_of(&view, None, request, cursor.map(|_| SCAN_END));
            output.push_shared(reply.await?);
            return Some(());
        };
        // If the node that it was for is gone, on with the next.
        let mut local = match tags[at].0 == asked {
            true => cursor & ((1 << SCAN_BITS) - 1),
            false => 0,
        };
        let count = scan_count(request);
        let mut keys: Vec<Bytes> = Vec::new();
        let next = loop {
            let (tag, index) = tags[at];
            let reply = self.scan_of(&view, Some(index), request, Some(local));
            let reply = reply.await?;
            let parsed = elements(&reply).filter(|parts| parts.len() == 2);
            let parsed =
                parsed.and_then(|parts| Some((bulk_number(&parts[0])?, elements(&parts[1])?)));
            let Some((next, found)) = parsed else {
                output.push_shared(reply);
                return Some(());
            };
            keys.extend(found);
            if next != 0 {
                break tag << SCAN_BITS | next as u64;
            }
            at += 1;
            local = 0;
            match tags.get(at) {
                None => break 0,
                Some((tag, _)) if keys.len() as u64 >= count => break tag << SCAN_BITS,
                Some(_) => {}
            }
        };
        let mut reply = Reply::new(output, self.session.protocol);
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        push_array(&keys, output);
        Some(())
    }

    /// What one node, or any, replies to SCAN with this cursor of its own.
    async fn scan_of(
        &mut self,
        view: &View,
        index: Option<u16>,
        request: Arguments<'_>,
        cursor: Option<u64>,
    ) -> Option<Bytes> {
        let mut part = OwnedArguments::default();
        for (position, argument) in request.iter().enumerate() {
            match cursor {
                Some(cursor) if position == 1 => {
                    part.push(itoa::Buffer::new().format(cursor).as_bytes());
                }
                _ => part.push(argument),
            }
        }
        let node = index.filter(|index| *index != view.mine);
        let node = node.map(|index| view.map.nodes[usize::from(index)].clone());
        let deadline = Instant::now() + self.runner.settings().cluster_node_timeout;
        let mut tries = Tries::until(deadline);
        loop {
            let turn = vec![Part {
                node: node.clone(),
                request: part.clone(),
                keys: Vec::new(),
            }];
            let replies = self.run_parts(turn, Way::All).await?;
            match replies.into_iter().next() {
                Some((_, PartReply::Bytes(reply))) => return Some(reply),
                _ if tries.again(self.runner.is_cut_off()).await => {}
                _ => return Some(Bytes::from_static(UNREACHABLE)),
            }
        }
    }

    /// Runs all parts at once. `None` when the client is gone.
    async fn run_parts(&mut self, parts: Vec<Part>, way: Way) -> Option<Vec<(Part, PartReply)>> {
        let client = self.client().id;
        let (view, cluster) = (self.runner.view()?, self.runner.cluster()?.clone());
        let mut under_way = Vec::with_capacity(parts.len());
        let mut local = None;
        for part in parts {
            let Some(node) = &part.node else {
                local = Some(part);
                continue;
            };
            let mut payload = BytesMut::new();
            if way == Way::All {
                let waits = self.runner.is_sweep(part.request.as_arguments());
                payload.put_u8(if waits { RUN } else { RUN_AT_ONCE });
            }
            Head {
                epoch: view.map.epoch,
                client,
                database: self.session.database,
                how: how_to_run(&self.session),
            }
            .write(&mut payload);
            write_request(part.request.as_arguments(), &mut payload);
            let (link, kind) = match way {
                Way::Client => (cluster.link(node, client), Kind::Forward),
                Way::All => (cluster.link_for_all(node), Kind::Ask),
            };
            let ticket = self.call_long(&link, kind, &payload).await?;
            under_way.push((part, ticket));
        }
        let mut replies = Vec::with_capacity(under_way.len() + 1);
        if let Some(part) = local {
            let reply = self.run_here(part.request.as_arguments()).await?;
            replies.push((part, reply));
        }
        for (part, ticket) in under_way {
            let how = HowSent::of(self.runner.flags(part.request.as_arguments()));
            let reply = match self.answered(ticket, 1).await? {
                Answered::By(mut answer) => match answer.take_reply() {
                    Some(reply) => PartReply::Bytes(reply),
                    None => PartReply::NotThere,
                },
                Answered::NotAtAll => PartReply::NotThere,
                Answered::Unknown if how == HowSent::MayBeRepeated => PartReply::NotThere,
                Answered::Unknown | Answered::TooLarge => {
                    PartReply::Bytes(Bytes::from_static(UNREACHABLE))
                }
            };
            replies.push((part, reply));
        }
        Some(replies)
    }

    /// Runs this node's part.
    async fn run_here(&mut self, request: Arguments<'_>) -> Option<PartReply> {
        let mut output = Output::new();
        let mut round = 0;
        let face = self.runner.set_face(Face::Peer);
        self.runner.begin_batch();
        let reply = loop {
            let step = self
                .runner
                .run(&mut self.session, request, &mut output, usize::MAX, round);
            match step {
                Step::Done => break Some(true),
                Step::Contended => {
                    rest(self.server(), round).await;
                    round = self.runner.next_round(round);
                    if self.client().killed().is_some() {
                        break None;
                    }
                }
                Step::Sweep(sweeping) => {
                    let (runner, session) = (&mut self.runner, &mut self.session);
                    sweep_to_end(runner, session, sweeping, request, &mut output).await;
                    break Some(true);
                }
                Step::Paused => self.paused().await,
                _ => break Some(false),
            }
            if self.session.after == After::Drop {
                break None;
            }
        };
        self.runner.end_batch();
        self.runner.set_face(face);
        let reply = reply?;
        Some(match reply {
            true => PartReply::Bytes(output.into_bytes()),
            false => PartReply::NotThere,
        })
    }

    fn random(&self) -> u64 {
        self.session.rng.bits()
    }
}

/// How a part goes to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Among the client's other requests.
    Client,
    /// Beside everything else.
    All,
}

/// What came of a part.
enum PartReply {
    Bytes(Bytes),
    /// The keys are elsewhere by now, or the node could not be asked.
    NotThere,
}

/// The COUNT of a SCAN; what is wrong with the request its node will say.
fn scan_count(request: Arguments<'_>) -> u64 {
    let mut options = scan::Options::default();
    let mut args = Args::new(request, 2);
    while !args.is_empty() {
        match options.take(&mut args) {
            Ok(true) => {}
            Ok(false) if args.bytes().is_ok() => {}
            _ => break,
        }
    }
    options.count
}

/// Bits of a cursor that are a node's own (commands/database.rs).
const SCAN_BITS: u32 = 42;

/// A cursor of no node: the end.
const SCAN_END: u64 = u64::MAX;

const UNREACHABLE: &[u8] =
    b"-CLUSTERDOWN a node could not be asked; what the others did is done\r\n";

/// Makes one reply of all.
fn merged(merge: Merge, replies: Vec<Bytes>, random: u64, output: &mut Output) {
    let is_error = |reply: &&Bytes| reply.first() == Some(&b'-');
    if merge != Merge::AnySuccess
        && let Some(error) = replies.iter().find(is_error)
    {
        return output.push_shared(error.clone());
    }
    let first = replies.first().cloned().unwrap_or_default();
    let integers = || replies.iter().filter_map(integer);
    match merge {
        Merge::First => output.push_shared(first),
        Merge::AnySuccess => {
            let good = replies.iter().find(|reply| !is_error(reply));
            // Where there was nothing to do says nothing of where there was.
            let mut told = replies
                .iter()
                .filter(|reply| !reply.starts_with(b"-NOTBUSY"));
            output.push_shared(good.or(told.next()).unwrap_or(&first).clone());
        }
        Merge::Sum => push_integer(integers().fold(0, i64::saturating_add), output),
        Merge::AnyOf => {
            let mut there = replies.clone();
            there.retain(|reply| !is_null(reply));
            match there.len() {
                0 => output.push_shared(first),
                count => output.push_shared(there[(random % count as u64) as usize].clone()),
            }
        }
        Merge::FirstWith(place) => {
            let has = |reply: &&Bytes| {
                let elements = elements(reply).unwrap_or_default();
                elements.get(place).is_some_and(|element| !is_null(element))
            };
            output.push_shared(replies.iter().find(has).unwrap_or(&first).clone());
        }
        Merge::Join | Merge::Union => {
            let mut all: Vec<Bytes> = Vec::new();
            for reply in &replies {
                match elements(reply) {
                    Some(elements) => all.extend(elements),
                    None => return output.push_shared(reply.clone()),
                }
            }
            if merge == Merge::Union {
                all.sort();
                all.dedup();
            }
            push_array(&all, output);
        }
        Merge::And => {
            let columns: Vec<_> = replies.iter().filter_map(elements).collect();
            let count = columns.first().map_or(0, Vec::len);
            let all = |at: usize| {
                let ones = columns.iter().filter_map(|column| integer(column.get(at)?));
                ones.min().unwrap_or(0)
            };
            output.push(format!("*{count}\r\n").as_bytes());
            (0..count).for_each(|at| push_integer(all(at), output));
        }
        Merge::SumPairs => {
            let columns: Vec<_> = replies.iter().filter_map(elements).collect();
            let names = columns.first().cloned().unwrap_or_default();
            output.push(
                &first[..first
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1)],
            );
            for (at, name) in names.iter().enumerate() {
                if at % 2 == 0 {
                    output.push_shared(name.clone());
                    continue;
                }
                let counts = columns.iter().filter_map(|column| integer(column.get(at)?));
                push_integer(counts.fold(0, i64::saturating_add), output);
            }
        }
    }
}

fn push_array(elements: &[Bytes], output: &mut Output) {
    output.push(format!("*{}\r\n", elements.len()).as_bytes());
    for element in elements {
        output.push_shared(element.clone());
    }
}

fn push_integer(value: i64, output: &mut Output) {
    output.push(format!(":{value}\r\n").as_bytes());
}

fn is_null(reply: &Bytes) -> bool {
    matches!(&reply[..], b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

fn integer(reply: &Bytes) -> Option<i64> {
    parse_i64(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

fn bulk_number(reply: &Bytes) -> Option<i64> {
    let at = reply.iter().position(|byte| *byte == b'\n')?;
    parse_i64(reply[at + 1..].strip_suffix(b"\r\n")?)
}

/// The elements of an array, a set or a map, as they were sent; `None` for anything else.
pub(super) fn elements(reply: &Bytes) -> Option<Vec<Bytes>> {
    let sign = *reply.first()?;
    let end = reply.iter().position(|byte| *byte == b'\n')?;
    let count = parse_i64(reply.get(1..end)?.strip_suffix(b"\r")?)?;
    let count = match sign {
        b'*' | b'~' => usize::try_from(count).ok()?,
        b'%' => usize::try_from(count).ok()?.checked_mul(2)?,
        _ => return None,
    };
    let mut rest = reply.slice(end + 1..);
    let mut elements = Vec::new();
    for _ in 0..count {
        let length = frame_len(&rest).ok()??;
        elements.push(rest.split_to(length));
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(policy: Merge, replies: &[&'static str]) -> String {
        let mut output = Output::new();
        let replies = replies
            .iter()
            .map(|reply| Bytes::from_static(reply.as_bytes()));
        merged(policy, replies.collect(), 1, &mut output);
        String::from_utf8(output.into_bytes().to_vec()).expect("text")
    }

    #[test]
    fn replies_of_all_nodes_become_one() {
        assert_eq!(merge(Merge::Sum, &[":1\r\n", ":41\r\n"]), ":42\r\n");
        assert_eq!(merge(Merge::First, &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
        let failed = ["+OK\r\n", "-ERR no\r\n"];
        assert_eq!(merge(Merge::First, &failed), "-ERR no\r\n");
        assert_eq!(merge(Merge::Sum, &failed), "-ERR no\r\n");
        assert_eq!(
            merge(Merge::AnySuccess, &["-NOTBUSY x\r\n", "+OK\r\n"]),
            "+OK\r\n"
        );
        let kept = ["-NOTBUSY x\r\n", "-UNKILLABLE y\r\n", "-NOTBUSY x\r\n"];
        assert_eq!(merge(Merge::AnySuccess, &kept), "-UNKILLABLE y\r\n");
        assert_eq!(merge(Merge::AnySuccess, &kept[..1]), "-NOTBUSY x\r\n");
        let arrays = [
            "*1\r\n$1\r\na\r\n",
            "*0\r\n",
            "*2\r\n$1\r\nb\r\n$1\r\na\r\n",
        ];
        assert_eq!(
            merge(Merge::Join, &arrays),
            "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\na\r\n"
        );
        assert_eq!(merge(Merge::Union, &arrays), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        let flags = ["*2\r\n:1\r\n:0\r\n", "*2\r\n:1\r\n:1\r\n"];
        assert_eq!(merge(Merge::And, &flags), "*2\r\n:1\r\n:0\r\n");
        let pairs = ["*2\r\n$1\r\nc\r\n:2\r\n", "*2\r\n$1\r\nc\r\n:3\r\n"];
        assert_eq!(merge(Merge::SumPairs, &pairs), "*2\r\n$1\r\nc\r\n:5\r\n");
        let keys = ["$-1\r\n", "$1\r\nk\r\n", "_\r\n"];
        assert_eq!(merge(Merge::AnyOf, &keys), "$1\r\nk\r\n");
        assert_eq!(merge(Merge::AnyOf, &["$-1\r\n", "$-1\r\n"]), "$-1\r\n");
        let runs = ["%2\r\n+a\r\n_\r\n+b\r\n:1\r\n", "*2\r\n+a\r\n:7\r\n"];
        assert_eq!(merge(Merge::FirstWith(1), &runs), runs[1]);
        assert_eq!(merge(Merge::FirstWith(1), &runs[..1]), runs[0]);
    }
}
