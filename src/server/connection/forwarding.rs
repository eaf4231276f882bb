//! Requests whose keys are at peers: gathered while a batch runs, sent at its end to all peers at once, their replies put
//! in the places that they left.
//!
//! ```text
//!     GET a (here)   GET b (peer 1)   GET c (peer 2)   GET d (here)   GET e (peer 1)
//!     output:  [reply a] [reply d]        places:  b behind a,  c at once behind b,  e behind d
//!     frames:  peer 1: GET b, GET e       peer 2: GET c
//! ```
//!
//! What runs here does not wait for what runs elsewhere: other keys, on another node. What one client sends to one peer
//! goes through one link, in its order. A peer that does not own a key any more runs neither that request nor those behind
//! it in the frame; they are routed anew, one after the other ([`Connection::settle`]), within cluster-node-timeout. So it
//! is with a script that the peer does not know by its SHA-1: when this node knows the text, that goes with the request.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Connection, OUTPUT_PAUSE, Stream, rest};
use crate::cluster::NOT_SERVED;
use crate::cluster::bus::{CallError, Kind, Link, Ticket};
use crate::cluster::forward::{Answer, Head, HowToRun, write_received, write_request};
use crate::cluster::node::NodeId;
use crate::dispatch::{Runner, Spread, Step};
use crate::resp::decode::{Arguments, Decoder, Limits, OwnedArguments, Status};
use crate::resp::reply::{Mark, Output, Protocol, Reply};
use crate::state::session::{After, Session};
use crate::state::transaction::Transaction;
use crate::table::Flags;

/// What a batch has for its peers.
#[derive(Default)]
pub(super) struct Forwarding {
    frames: Vec<Frame>,
    places: Vec<Place>,
    /// Where the first and the last place are in the output.
    marks: Option<(Mark, Mark)>,
    bytes: usize,
    /// Payloads of frames that were sent.
    spare: Vec<BytesMut>,
}

/// Memory of a frame that is kept for the next batch, and for how many frames.
const KEPT_BYTES: usize = 16 * 1024;
const KEPT_FRAMES: usize = 8;

/// What goes to one peer.
struct Frame {
    node: NodeId,
    /// Where its bus is.
    address: String,
    database: u32,
    how: HowToRun,
    payload: BytesMut,
    count: usize,
}

/// Where replies of a frame belong.
struct Place {
    /// Bytes of local replies between the place before it and this one.
    local: usize,
    frame: usize,
    /// Requests of the frame; the reply of the last one counts.
    requests: usize,
    /// Whether the client wants the reply.
    is_wanted: bool,
    how: HowSent,
}

/// Bytes of requests from which a batch ends: they are sent before more are gathered.
const FULL_BYTES: usize = 1024 * 1024;
/// Requests from which it ends: their replies may be much longer.
const FULL_COUNT: usize = 1024;

impl Forwarding {
    /// Whether nothing is to be sent.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Forgets all; the memory serves the next batch, unless it has grown large.
    fn clear(&mut self) {
        self.places.clear();
        self.marks = None;
        self.bytes = 0;
        for frame in self.frames.drain(..) {
            let mut payload = frame.payload;
            if payload.capacity() <= KEPT_BYTES && self.spare.len() < KEPT_FRAMES {
                payload.clear();
                self.spare.push(payload);
            }
        }
    }

    /// Whether it should be sent before more is gathered.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES || self.places.len() >= FULL_COUNT
    }
}

impl<S: Stream> Connection<S> {
    /// Gathers a request for the peer of this index: the one that was just decoded, or the transaction that it ends. `false`:
    /// what is gathered for this peer, to be run in another database or protocol, has to go first.
    pub(super) fn forward(&mut self, index: u16) -> bool {
        let Some(view) = self.runner.view() else {
            return true;
        };
        let node = &view.map.nodes[usize::from(index)];
        let how = how_to_run(&self.session) | HowToRun::WANTS_TEXTS;
        let database = self.session.database;
        let Forwarding { frames, spare, .. } = &mut self.forwarding;
        let found = frames.iter().position(|frame| frame.node == node.id);
        if found.is_some_and(|at| frames[at].database != database || frames[at].how != how) {
            return false;
        }
        let at = found.unwrap_or_else(|| {
            let payload = spare.pop();
            let mut payload = payload.unwrap_or_else(|| BytesMut::with_capacity(FRAME_BYTES));
            Head {
                epoch: view.map.epoch,
                client: self.session.client.id,
                database,
                how,
            }
            .write(&mut payload);
            if how.contains(HowToRun::REMEMBER) {
                self.session.reads_at(node.id);
            }
            frames.push(Frame {
                node: node.id,
                address: node.bus.clone(),
                database,
                how,
                payload,
                count: 0,
            });
            frames.len() - 1
        });
        let frame = &mut frames[at];
        let before = frame.payload.len();
        let request = self.decoder.arguments(&self.input);
        let transaction = self.session.take_transaction();
        let received = self.decoder.received(&self.input);
        let requests = match (&transaction, received) {
            // Nearly all of them: nothing is written anew.
            (None, Some(arguments)) => {
                write_received(request.len(), arguments, &mut frame.payload);
                1
            }
            (unit, _) => write_unit(&self.runner, unit.as_deref(), request, &mut frame.payload),
        };
        self.runner
            .show_sent(&self.session, transaction.as_deref(), request);
        let flags = match transaction {
            Some(transaction) => {
                let flags = transaction.flags();
                // It runs, having watched nothing; what follows it in the pipeline is for the database that it selects.
                self.session.database = self.runner.database_after(&self.session, &transaction);
                self.session.keep_spare(transaction);
                flags
            }
            None => self.runner.routed_flags(),
        };
        frame.count += requests;
        self.forwarding.bytes += frame.payload.len() - before;
        let is_wanted = self.runner.takes_reply(&mut self.session);
        let here = self.output.mark();
        let (first, local) = match self.forwarding.marks {
            Some((first, last)) => (first, self.output.bytes_since(last)),
            None => (here, 0),
        };
        self.forwarding.marks = Some((first, here));
        self.forwarding.places.push(Place {
            local,
            frame: at,
            requests,
            is_wanted,
            how: HowSent::of(flags),
        });
        true
    }

    /// Sends what was gathered, waits for the answers and puts them in their places. `false` when the client is gone. What
    /// the client is sent is complete up to the last request then.
    pub(super) async fn settle(&mut self) -> bool {
        let mut forwarding = std::mem::take(&mut self.forwarding);
        let is_done = self.settle_all(&mut forwarding).await;
        forwarding.clear();
        self.forwarding = forwarding;
        is_done
    }

    /// Settles in the middle of a batch. `false` when the client is gone.
    pub(super) async fn settle_first(&mut self) -> bool {
        self.runner.end_batch();
        if !self.settle().await {
            self.session.after = After::Drop;
            return false;
        }
        self.runner.begin_batch();
        true
    }

    async fn settle_all(&mut self, forwarding: &mut Forwarding) -> bool {
        let Forwarding {
            frames,
            places,
            marks,
            ..
        } = forwarding;
        let Some(cluster) = self.runner.cluster().cloned() else {
            return true;
        };
        let client = self.client().id;
        let link = |frame: &Frame| cluster.link_to(frame.node, &frame.address, client);
        let mut tickets: SmallVec<[Option<Result<Ticket, CallError>>; 4]> = frames
            .iter()
            .map(|frame| {
                let is_short = frame.payload.len() <= FULL_BYTES;
                is_short.then(|| {
                    link(frame).call(Kind::Forward, |buffer| {
                        buffer.extend_from_slice(&frame.payload)
                    })
                })
            })
            .collect();
        for (ticket, frame) in tickets.iter_mut().zip(frames.iter()) {
            if ticket.is_none() {
                let Some(called) = self
                    .call_long(&link(frame), Kind::Forward, &frame.payload)
                    .await
                else {
                    return false;
                };
                *ticket = Some(called);
            }
        }
        // All of the batch share it: a node that is gone is waited for once.
        let node_timeout = self.runner.settings().cluster_node_timeout;
        let mut deadline = Instant::now() + node_timeout;
        let mut local = match marks {
            Some((first, _)) => self.output.take_since(*first),
            None => Output::new(),
        };
        let mut answers = SmallVec::<[(Answered, Requests<'_>); 4]>::new();
        for (ticket, frame) in tickets.into_iter().flatten().zip(frames.iter()) {
            let Some(answered) = self.answered(ticket, frame.count).await else {
                return false;
            };
            answers.push((answered, Requests::new(frame)));
        }
        for place in places.iter() {
            if place.local > 0 {
                self.output.push_shared(local.copy_to_bytes(place.local));
            }
            let (answered, requests) = &mut answers[place.frame];
            if let Answered::By(answer) = answered
                && answer.left() >= place.requests
            {
                answer.skip(place.requests - 1);
                match place.is_wanted {
                    true => answer.push_reply(&mut self.output),
                    false => answer.skip(1),
                }
                requests.skip(place.requests);
                continue;
            }
            let error = match answered {
                Answered::Unknown if place.how == HowSent::Once => LOST,
                Answered::TooLarge => TOO_LARGE,
                _ => {
                    // What the peer did run of a transaction it has forgotten; none of it is run twice.
                    if let Answered::By(answer) = answered {
                        answer.skip(answer.left());
                    }
                    if self.output.len_bytes() >= OUTPUT_PAUSE {
                        if !self.is_read().await {
                            return false;
                        }
                        deadline = Instant::now() + node_timeout;
                    }
                    let Some(output) = self.again(requests, place.requests, deadline).await else {
                        return false;
                    };
                    if place.is_wanted {
                        self.output.append(output);
                    }
                    continue;
                }
            };
            requests.skip(place.requests);
            if place.is_wanted {
                Reply::new(&mut self.output, self.session.protocol).error(error);
            }
        }
        self.output.append(local);
        true
    }

    /// Waits until the client has read so much that more may be asked for. `false` when it is gone.
    async fn is_read(&mut self) -> bool {
        poll_fn(|context| {
            self.client().register(context.waker());
            if self.client().killed().is_some()
                || self.server().shutdown.is_requested()
                || self.exchange(context).is_err()
            {
                return Poll::Ready(false);
            }
            match self.output.len_bytes() < OUTPUT_PAUSE {
                true => Poll::Ready(true),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Runs requests of a frame wherever their keys are now, and returns the reply of the last. `None` when the client is
    /// gone.
    async fn again(
        &mut self,
        requests: &mut Requests<'_>,
        count: usize,
        deadline: Instant,
    ) -> Option<Output> {
        let mut session = Session::new(Arc::clone(&self.session.client), true);
        session.database = requests.frame.database;
        // A pause that begins while it is under way comes behind it.
        session.is_past_pause = true;
        session.no_touch = requests.frame.how.contains(HowToRun::NO_TOUCH);
        if requests.frame.how.contains(HowToRun::RESP3) {
            session.protocol = Protocol::Resp3;
        }
        if requests.frame.how.contains(HowToRun::REMEMBER) {
            session.reads_for = session.client.id;
        }
        let mut output = Output::new();
        for _ in 0..count {
            output = Output::new();
            let request = requests.next()?;
            self.run_anywhere(&mut session, request.as_arguments(), &mut output, deadline)
                .await?;
        }
        Some(output)
    }

    /// Runs one request to its end, here or where its keys are, trying until `deadline`. `None` when the
    /// client is gone.
    async fn run_anywhere(
        &mut self,
        session: &mut Session,
        request: Arguments<'_>,
        output: &mut Output,
        deadline: Instant,
    ) -> Option<()> {
        let mut round = 0;
        let mut tries = Tries::until(deadline);
        self.runner.begin_batch();
        loop {
            let step = self.runner.run(session, request, output, usize::MAX, round);
            let index = match step {
                Step::Contended => {
                    rest(self.server(), round).await;
                    round = self.runner.next_round(round);
                    if self.client().killed().is_some() {
                        return None;
                    }
                    continue;
                }
                Step::Forward(index) => index,
                Step::Done => {
                    self.runner.end_batch();
                    return Some(());
                }
                Step::Across if let Spread::Keys { merge } = self.runner.spread(request) => {
                    self.runner.end_batch();
                    std::mem::swap(&mut self.session, session);
                    let done = self.by_keys(request, merge, output).await;
                    std::mem::swap(&mut self.session, session);
                    return done;
                }
                _ => {
                    self.runner.end_batch();
                    Reply::new(output, session.protocol).error(
                        "TRYAGAIN the keys of the request were moved apart while it was under way",
                    );
                    return Some(());
                }
            };
            self.runner.end_batch();
            let done = self.ask(session, index, request, output).await;
            match done {
                Asked::Done => return Some(()),
                Asked::Gone => return None,
                // The view may be older than the peer's; or the peer's older than ours.
                Asked::Elsewhere if tries.again(self.runner.is_cut_off()).await => {}
                Asked::Elsewhere => {
                    Reply::new(output, session.protocol).error(NOT_SERVED);
                    return Some(());
                }
            }
            self.runner.begin_batch();
        }
    }

    /// Asks one peer for one request, or for the transaction that it ends.
    async fn ask(
        &mut self,
        session: &mut Session,
        index: u16,
        request: Arguments<'_>,
        output: &mut Output,
    ) -> Asked {
        let (Some(view), Some(cluster)) = (self.runner.view(), self.runner.cluster().cloned())
        else {
            return Asked::Elsewhere;
        };
        let node = &view.map.nodes[usize::from(index)];
        let mut payload = BytesMut::new();
        let head = Head {
            epoch: view.map.epoch,
            client: self.client().id,
            database: session.database,
            how: how_to_run(session),
        };
        head.write(&mut payload);
        if head.how.contains(HowToRun::REMEMBER) {
            self.session.reads_at(node.id);
        }
        let flags = match session.transaction() {
            Some(transaction) => transaction.flags(),
            None => self.runner.flags(request),
        };
        // The peer did not know the script, or nobody asked it yet.
        let spelled = self.runner.spelled_out(request);
        let spelled = spelled.as_ref().map(OwnedArguments::as_arguments);
        let count = write_unit(
            &self.runner,
            session.transaction(),
            spelled.unwrap_or(request),
            &mut payload,
        );
        let link = cluster.link(node, head.client);
        let Some(ticket) = self.call_long(&link, Kind::Forward, &payload).await else {
            return Asked::Gone;
        };
        let Some(answered) = self.answered(ticket, count).await else {
            return Asked::Gone;
        };
        match answered {
            Answered::By(mut answer) if answer.left() == count => {
                let mut last = Bytes::new();
                while let Some(reply) = answer.take_reply() {
                    last = reply;
                }
                output.push_shared(last);
            }
            Answered::By(_) | Answered::NotAtAll => return Asked::Elsewhere,
            Answered::TooLarge => Reply::new(output, session.protocol).error(TOO_LARGE),
            Answered::Unknown if HowSent::of(flags) == HowSent::MayBeRepeated => {
                return Asked::Elsewhere;
            }
            Answered::Unknown => Reply::new(output, session.protocol).error(LOST),
        }
        session.take_transaction();
        Asked::Done
    }

    /// Sends a frame of any length. `None` when the client is gone.
    pub(super) async fn call_long(
        &mut self,
        link: &Arc<Link>,
        kind: Kind,
        payload: &[u8],
    ) -> Option<Result<Ticket, CallError>> {
        tokio::select! {
            biased;
            ticket = link.call_long(kind, payload) => Some(ticket),
            _ = super::killed(&self.session.client) => None,
        }
    }

    /// What came of a frame of so many requests. `None` when the client is gone.
    pub(super) async fn answered(
        &mut self,
        ticket: Result<Ticket, CallError>,
        count: usize,
    ) -> Option<Answered> {
        let answer = match ticket {
            Ok(ticket) => tokio::select! {
                biased;
                answer = ticket => answer,
                _ = super::killed(&self.session.client) => return None,
            },
            Err(error) => Err(error),
        };
        Some(match answer {
            Ok(payload) => match Answer::read(payload, count) {
                Ok(answer) => Answered::By(answer),
                Err(_) => Answered::Unknown,
            },
            Err(CallError::NotConnected | CallError::Full) => Answered::NotAtAll,
            Err(CallError::TooLarge) => Answered::TooLarge,
            Err(CallError::Broken | CallError::TimedOut) => Answered::Unknown,
        })
    }

    /// Closes a connection whose replies were made by a lease that is over.
    pub(super) fn refuse_unsure(&mut self) {
        tracing::warn!(
            client = self.client().id,
            "closed: this node lost its lease while the requests ran"
        );
        self.session.after = After::Drop;
    }
}

/// Whether a request may be run again when it is unknown whether it was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HowSent {
    MayBeRepeated,
    Once,
}

impl HowSent {
    pub(super) fn of(flags: Flags) -> HowSent {
        match flags.intersects(Flags::WRITE | Flags::MAY_REPLICATE) {
            true => HowSent::Once,
            false => HowSent::MayBeRepeated,
        }
    }
}

/// What a peer said of one request.
enum Asked {
    /// The reply is in the output.
    Done,
    /// It was not run.
    Elsewhere,
    /// The client is gone.
    Gone,
}

/// What came of a frame.
pub(super) enum Answered {
    By(Answer),
    /// It was never sent: it may be tried again, whatever it is.
    NotAtAll,
    /// It was sent, and the link broke before the answer came.
    Unknown,
    TooLarge,
}

/// Tries of what could not be had, with longer and longer rests in between.
pub(super) struct Tries {
    deadline: Instant,
    rest: Duration,
}

impl Tries {
    pub(super) fn until(deadline: Instant) -> Tries {
        Tries {
            deadline,
            rest: Duration::from_millis(1),
        }
    }

    /// Rests before the next try; `false`, at once, when there is to be none: the time is over, or this node is alone.
    pub(super) async fn again(&mut self, is_cut_off: bool) -> bool {
        if is_cut_off || Instant::now() >= self.deadline {
            return false;
        }
        tokio::time::sleep(self.rest).await;
        self.rest = (self.rest * 2).min(REST_MAX);
        true
    }
}

/// Room for the first requests of a frame.
const FRAME_BYTES: usize = 512;

/// The longest rest between two tries.
const REST_MAX: Duration = Duration::from_millis(100);

const TOO_LARGE: &str = "ERR the request is too large to be forwarded";
/// What became of the request nobody knows.
const LOST: &str = "ERR the node that owns the key was lost before it answered: the command may have been executed";

/// The requests of a frame, to be run again.
struct Requests<'f> {
    frame: &'f Frame,
    /// How many need not be run any more.
    skipped: usize,
    decoder: Option<Decoder>,
}

impl<'f> Requests<'f> {
    fn new(frame: &'f Frame) -> Requests<'f> {
        Requests {
            frame,
            skipped: 0,
            decoder: None,
        }
    }

    /// The next request.
    fn next(&mut self) -> Option<OwnedArguments> {
        let limits = Limits::authenticated(usize::MAX);
        let payload = &self.frame.payload[Head::BYTES..];
        let decoder = self.decoder.get_or_insert_default();
        for _ in 0..std::mem::take(&mut self.skipped) {
            let _ = decoder.next(payload, &limits);
        }
        match decoder.next(payload, &limits) {
            Ok(Status::Request) => Some(decoder.arguments(payload).to_owned()),
            _ => None,
        }
    }

    fn skip(&mut self, count: usize) {
        self.skipped += count;
    }
}

pub(super) fn how_to_run(session: &Session) -> HowToRun {
    let mut how = HowToRun::empty();
    how.set(HowToRun::RESP3, session.protocol == Protocol::Resp3);
    how.set(HowToRun::NO_TOUCH, session.no_touch);
    how.set(HowToRun::REMEMBER, session.reader() != 0);
    how
}

/// Writes a request, or the transaction that it ends; how many requests that is. Scripts of a transaction are written with
/// their texts, and what is about the connection that asks is left out.
pub(super) fn write_unit(
    runner: &Runner,
    transaction: Option<&Transaction>,
    request: Arguments<'_>,
    payload: &mut BytesMut,
) -> usize {
    let mut count = 1;
    if let Some(transaction) = transaction {
        write_words(&["MULTI"], payload);
        for (id, queued, _) in transaction.queued() {
            if runner.is_of_entry(id, queued) {
                continue;
            }
            let spelled = runner.spelled_out_queued(id, queued);
            let spelled = spelled.as_ref().map(OwnedArguments::as_arguments);
            write_request(spelled.unwrap_or(queued), payload);
            count += 1;
        }
        count += 1;
    }
    write_request(request, payload);
    count
}

/// Writes a request of our own.
pub(super) fn write_words(words: &[&str], payload: &mut BytesMut) {
    let request: OwnedArguments = words.iter().collect();
    write_request(request.as_arguments(), payload);
}
