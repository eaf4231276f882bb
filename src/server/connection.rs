//! One connection: read, run, write.
//!
//! A task per connection. It reads what is there, runs every complete request of the buffer, and writes all replies at
//! once. While replies wait for a slow reader it goes on reading, as Redis does, since a client may send everything before
//! it reads anything; from [`OUTPUT_PAUSE`] on it reads no more until the client has read.
//!
//! A batch ends early when it has run for [`SLICE`] or holds [`BATCH_OUTPUT`] of replies: the task then lets the
//! worker's other connections have their turn. A connection that waits for its peer holds no buffers: it leaves them to
//! its worker's next connection ([`Spare`]).

mod across;
mod forwarding;
mod totals;
mod tunnel;

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::migrate;
use crate::base::clock::Millis;
use crate::cluster::tunnel::Tunnel;
use crate::config::{OutputLimit, Settings};
use crate::dispatch::{Blocked, Face, Migrating, Runner, Step, Sweeping, WINDOW};
use crate::keyspace::waiting::{Cancel, Waiter};
use crate::resp::decode::{Arguments, Decoder, Limits, ProtocolError, Status};
use crate::resp::reply::{Output, Protocol, Reply};
use crate::resp::spare::{INPUTS, Spare};
use crate::state::Server;
use crate::state::clients::{Client, ClientKind, WaitsAt, client_flags};
use crate::state::outbox::BURST_BYTES;
use crate::state::session::{After, ReplyMode, Session};
use crate::state::tracking::{LOSS_BYTES, write_loss};
use crate::state::transaction::Transaction;
use forwarding::Forwarding;

/// What a connection runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Bytes asked of the socket at once; a large pipeline that fills it asks for more.
const READ_BYTES: usize = 16 * 1024;
/// With less room than this a buffer is given more before the read.
const READ_BYTES_MIN: usize = 4 * 1024;
/// The most that is asked at once.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Growth of the buffer of one large argument: what has arrived is never less than half of what is allocated.
const LARGE_STEP: usize = 64 * 1024;
/// Unsent replies from which a connection stops reading until its peer has read.
const OUTPUT_PAUSE: usize = 64 * 1024 * 1024;
/// The same before AUTH, where there is nothing to be read but refusals: strangers must not fill the memory with them
/// (CVE-2025-21605).
const OUTPUT_PAUSE_UNAUTHENTICATED: usize = 1024 * 1024;
/// Unsent replies that end a batch, so that they are sent before more are made.
const BATCH_OUTPUT: usize = 1024 * 1024;
/// Replies of up to this much wait for those of others. To send more costs more than to wake who reads it, and all who wait
/// keep theirs in memory.
const HELD_BYTES: usize = 16 * 1024;
/// Time after which a batch lets other connections have their turn.
const SLICE: Duration = Duration::from_micros(500);
/// How often a subscriber lets all others have their turn before it sends what they have published, how long at most, and the
/// bytes from which on it does not.
const PUBLISHERS_TURNS: usize = 8;
const PUBLISHERS_TIME: Duration = Duration::from_millis(2);
const MAIL_ENOUGH: usize = BURST_BYTES;
/// Time between two looks at a client that is over its soft output limit.
const SOFT_LIMIT_LOOK: Duration = Duration::from_millis(100);
/// How long the confirmation of a subscription waits for the other nodes of a ring to know of it: one that answers at all
/// takes a millisecond.
const TOLD_PATIENCE: Duration = Duration::from_millis(500);
/// Slices of a write.
const IO_SLICES: usize = 64;
/// How long a wait without a limit sleeps before it looks around: a year.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Rounds of a contended request that only yield; then it sleeps in between.
const YIELD_ROUNDS: u32 = 16;
/// How long who waits for a partition rests while scripts run for long, unless one of them ends.
const LONG_RUN_PATIENCE: Duration = Duration::from_millis(5);

/// Serves a client's connection to its end.
pub async fn serve<S: Stream>(server: Arc<Server>, stream: S, client: Arc<Client>, face: Face) {
    // Who comes by a peer has proven there who it is.
    let authenticated = face == Face::Peer || !server.needs_password();
    let session = Session::new(Arc::clone(&client), authenticated);
    let mut connection = Connection {
        stream,
        session,
        decoder: Decoder::new(),
        input: BytesMut::new(),
        output: Output::new(),
        runner: Runner::new(Arc::clone(&server))
            .of_client(client.id)
            .of_face(face),
        read_bytes: READ_BYTES,
        over_soft_since: None,
        registered: None,
        forwarding: Forwarding::default(),
        tunnels: Vec::new(),
        held_elsewhere: 0,
    };
    let registered = Registered {
        server: &server,
        id: client.id,
    };
    let end = connection.live().await;
    drop(registered);
    connection.session.subscriptions = None;
    connection.session.tracker = None;
    match end {
        Err(error) => {
            tracing::debug!(client = client.id, addr = %client.addr, %error, "connection lost")
        }
        Ok(()) => {
            // Nobody is left to tell when the peer is gone already.
            let _ = connection.stream.shutdown().await;
        }
    }
}

/// A connection that others see; they see it no more however its task ends.
struct Registered<'s> {
    server: &'s Server,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.server.monitors.remove(self.id);
        self.server.clients.remove(self.id);
    }
}

/// A client that waits for keys; it waits no more however its task ends.
struct Waits<'s> {
    server: &'s Server,
    client: Arc<Client>,
    waiter: &'s Waiter,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.waiter.cancel(Cancel::Gone);
        self.server.keyspace.waiting.remove(self.waiter);
        self.client.set_waits(None);
    }
}

struct Connection<S> {
    stream: S,
    session: Session,
    decoder: Decoder,
    input: BytesMut,
    output: Output,
    runner: Runner,
    read_bytes: usize,
    /// Since when the output is over the soft limit of its class.
    over_soft_since: Option<Instant>,
    /// The waker that the registry of clients knows.
    registered: Option<Waker>,
    forwarding: Forwarding,
    /// Its connections at peers.
    tunnels: Vec<Tunnel>,
    /// Bytes of a reply that comes through one of them, and is not whole yet.
    held_elsewhere: usize,
}

/// Why a batch ended.
enum BatchEnd {
    /// All complete requests are run.
    Idle,
    /// There is more to run, after the others had their turn.
    More,
    /// The payload of a large argument is to be received apart.
    Large(usize),
    /// The connection is to be closed after its replies.
    Close,
}

/// What woke a connection.
enum Woken {
    /// Bytes were read; 0 is the end.
    Read(usize),
    /// Replies were sent.
    Wrote,
    /// Somebody left mail or a kill.
    Signal,
}

impl<S: Stream> Connection<S> {
    async fn live(&mut self) -> io::Result<()> {
        loop {
            match self.batch().await? {
                BatchEnd::Close => return self.close().await,
                BatchEnd::Large(bytes) => {
                    if !self.receive_large(bytes).await? {
                        return Ok(());
                    }
                    continue;
                }
                BatchEnd::More => {
                    if let Some(mail) = self.session.client.take_mail() {
                        self.output.append(mail);
                    }
                    self.try_write()?;
                    if !self.check_output_limit() {
                        return Ok(());
                    }
                    tokio::task::yield_now().await;
                    if self.output.len_bytes() < output_pause(&self.session)
                        && self.client().killed().is_none()
                    {
                        continue;
                    }
                }
                BatchEnd::Idle => self.try_write()?,
            }
            if !self.wait().await? {
                return Ok(());
            }
        }
    }

    /// Waits for bytes, mail or the end, writing what is left meanwhile. `false` at the end.
    async fn wait(&mut self) -> io::Result<bool> {
        loop {
            if let Some(after_reply) = self.client().killed() {
                if after_reply {
                    self.close().await?;
                }
                return Ok(false);
            }
            if let Some(mail) = self.session.client.take_mail() {
                self.output.append(mail);
                self.try_write()?;
            }
            self.make_up_loss()?;
            if !self.check_output_limit() {
                return Ok(false);
            }
            if self.server().shutdown.is_requested() && !self.decoder.is_inside_request() {
                self.close().await?;
                return Ok(false);
            }
            self.publish();
            let woken = match self.over_soft_since {
                None => self.woken().await?,
                Some(_) => match tokio::time::timeout(SOFT_LIMIT_LOOK, self.woken()).await {
                    Ok(woken) => woken?,
                    Err(_) => continue,
                },
            };
            match woken {
                Woken::Read(0) => {
                    // A peer that has said all may still be reading.
                    self.close().await?;
                    return Ok(false);
                }
                Woken::Read(bytes) => {
                    self.count_read(bytes);
                    self.runner.refresh();
                    if !self.check_query_limit(0) {
                        return Ok(false);
                    }
                    return Ok(true);
                }
                // Paused by its own output: there may be requests left in the input.
                Woken::Wrote
                    if self.output.len_bytes() < output_pause(&self.session)
                        && self.has_unrun() =>
                {
                    return Ok(true);
                }
                Woken::Signal if self.session.is_subscribed() => {
                    let_others_publish(self.client()).await
                }
                Woken::Wrote | Woken::Signal => {}
            }
        }
    }

    /// The next of: mail or kill, bytes sent, bytes read.
    async fn woken(&mut self) -> io::Result<Woken> {
        let Connection {
            stream,
            session,
            decoder,
            input,
            output,
            read_bytes,
            runner,
            registered,
            ..
        } = self;
        let client = &session.client;
        let pause = output_pause(session);
        let shutdown = &runner.server().shutdown;
        // Inside a request it stays until the rest has come, or the grace is over.
        let may_end = !decoder.is_inside_request();
        let stats = &runner.server().stats;
        poll_fn(|context| {
            if !registered
                .as_ref()
                .is_some_and(|known| known.will_wake(context.waker()))
            {
                client.register(context.waker());
                *registered = Some(context.waker().clone());
            }
            if client.has_signal()
                || can_make_up_loss(client, output)
                || may_end && shutdown.is_requested()
            {
                return Poll::Ready(Ok(Woken::Signal));
            }
            let before = output.len_bytes();
            if before > 0 {
                while !output.is_empty() && poll_write(stream, output, context)?.is_ready() {}
                let sent = before - output.len_bytes();
                if sent > 0 {
                    client.net_out.fetch_add(sent as u64, Ordering::Relaxed);
                    let shard = stats.mine();
                    shard.net_out.add(sent as u64);
                    shard.writes.add(1);
                    return Poll::Ready(Ok(Woken::Wrote));
                }
            }
            if output.len_bytes() >= pause {
                return Poll::Pending;
            }
            if input.capacity() == 0 {
                *input = INPUTS.with(Spare::take).unwrap_or_default();
            }
            match poll_read(stream, input, *read_bytes, context) {
                Poll::Ready(bytes) => Poll::Ready(bytes.map(Woken::Read)),
                Poll::Pending => {
                    if input.is_empty() {
                        INPUTS.with(|spare| spare.leave(std::mem::take(input)));
                    }
                    output.leave_buffer();
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Runs the complete requests of the input.
    async fn batch(&mut self) -> io::Result<BatchEnd> {
        if self.input.is_empty() {
            return Ok(BatchEnd::Idle);
        }
        self.runner.begin_batch();
        self.output.take_buffer();
        // What was there before the requests came does not come behind their replies.
        self.take_mail();
        self.keeps_copies();
        self.stand_for();
        let now = self.runner.now();
        self.client()
            .last_interaction
            .store(now.0, Ordering::Relaxed);
        let mut limits = self.limits();
        let mut requests = 0;
        let end = loop {
            match self.decoder.next(&self.input, &limits) {
                Ok(Status::Request) => {}
                Ok(Status::Incomplete) => break BatchEnd::Idle,
                Ok(Status::Large { bytes }) => break BatchEnd::Large(bytes),
                Err(error) => {
                    self.refuse(&error);
                    break BatchEnd::Close;
                }
            }
            self.look_ahead(&limits);
            let was_authenticated = self.session.authenticated;
            self.request().await;
            requests += 1;
            match std::mem::replace(&mut self.session.after, After::Nothing) {
                After::Nothing => {}
                After::Close => break BatchEnd::Close,
                After::Drop => {
                    self.output = Output::new();
                    break BatchEnd::Close;
                }
                After::Sleep(duration) => {
                    self.sleep(duration).await;
                    // Who was killed meanwhile runs no more of its requests.
                    if self.client().killed().is_some() {
                        break BatchEnd::Idle;
                    }
                    self.runner.begin_batch();
                }
                After::Unblock => {
                    if !self.unblock_elsewhere().await {
                        self.session.after = After::Drop;
                        break BatchEnd::Idle;
                    }
                }
            }
            if self.session.authenticated != was_authenticated {
                limits = self.limits();
            }
            if self.output.len_bytes() >= BATCH_OUTPUT {
                break BatchEnd::More;
            }
            if self.runner.elapsed() >= SLICE || self.forwarding.is_full() {
                break BatchEnd::More;
            }
        };
        self.session
            .client
            .commands
            .fetch_add(requests as u64, Ordering::Relaxed);
        self.runner.end_batch();
        self.decoder.release(&mut self.input);
        if !self.forwarding.is_empty() {
            self.leave_input();
            if !self.settle().await {
                self.session.after = After::Drop;
            }
        }
        self.keeps_copies();
        let Session {
            subscriptions,
            tracker,
            ..
        } = &mut self.session;
        let untold = [
            subscriptions.as_mut().and_then(|its| its.take_untold()),
            tracker.as_mut().and_then(|its| its.take_untold()),
        ];
        for untold in untold.into_iter().flatten() {
            let server = Arc::clone(self.server());
            server.pubsub.wait_until_told(untold, TOLD_PATIENCE).await;
        }
        let has_published = std::mem::take(&mut self.session.has_published);
        if matches!(end, BatchEnd::Idle)
            && (1..=HELD_BYTES).contains(&self.output.len_bytes())
            && !has_published
        {
            self.let_others_run().await;
        }
        if self.runner.has_lost_lease() {
            self.refuse_unsure();
        }
        self.take_mail();
        if std::mem::replace(&mut self.session.after, After::Nothing) == After::Drop {
            self.output = Output::new();
            return Ok(BatchEnd::Close);
        }
        Ok(end)
    }

    /// Gives those that are ready a turn before the replies are sent, if that is of use. See [`Crowd`].
    ///
    /// [`Crowd`]: crate::state::crowd::Crowd
    #[inline]
    async fn let_others_run(&mut self) {
        let Some(turns) = self.server().crowd.has_run() else {
            return;
        };
        self.leave_input();
        // Not tokio's yield_now: that has the worker look for new bytes first, on all sockets.
        let mut had_turn = false;
        poll_fn(|context| {
            if std::mem::replace(&mut had_turn, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.server().crowd.has_waited(turns);
    }

    /// Leaves the buffer of what was read to the worker's next connection, while this one waits.
    fn leave_input(&mut self) {
        if self.input.is_empty() {
            INPUTS.with(|spare| spare.leave(std::mem::take(&mut self.input)));
        }
    }

    /// The requests of a peer's client are that client's.
    #[inline]
    fn stand_for(&mut self) {
        if let Some(stands_for) = &self.session.client.stands_for {
            self.runner
                .set_client(stands_for.writer.load(Ordering::Relaxed));
            self.session.reads_for = stands_for.reader.load(Ordering::Relaxed);
            self.session.no_touch = stands_for.no_touch.load(Ordering::Relaxed);
        }
    }

    /// What it reads now it may keep.
    #[inline]
    fn keeps_copies(&self) {
        if self.session.tracker.is_some() {
            self.client().keeps_copies();
        }
    }

    /// Sends what others left.
    #[inline]
    fn take_mail(&mut self) {
        if let Some(mail) = self.session.client.take_mail() {
            self.output.append(mail);
        }
    }

    /// Tells a client that was not told something to forget everything, once it has read enough.
    fn make_up_loss(&mut self) -> io::Result<()> {
        if can_make_up_loss(&self.session.client, &self.output) && self.client().take_loss() {
            let protocol = self.session.protocol_number();
            if protocol == 3 || self.session.is_subscribed() {
                write_loss(protocol, &mut self.output);
                self.try_write()?;
            }
        }
        Ok(())
    }

    /// Decodes the requests behind the one that was just decoded, and has their keys fetched into the cache.
    #[inline]
    fn look_ahead(&mut self, limits: &Limits) {
        if self.decoder.turn() == 0 {
            // A client's limits change when it authenticates: what follows is not decoded before.
            if self.session.authenticated {
                self.decoder.look_ahead(&self.input, limits, WINDOW);
            }
            self.runner
                .foresee(&self.session, self.decoder.window(&self.input));
        }
    }

    /// Runs the request that was just decoded, waiting where it has to.
    #[inline]
    async fn request(&mut self) {
        let mut round = 0;
        let mut until = None;
        loop {
            let turn = self.decoder.turn();
            let request = self.decoder.arguments(&self.input);
            let step = self
                .runner
                .run(&mut self.session, request, &mut self.output, turn, round);
            // What takes its time, or asks others, comes behind the replies that are still under way.
            if !matches!(step, Step::Done | Step::Contended | Step::Forward(_))
                && !self.forwarding.is_empty()
                && !self.settle_first().await
            {
                return;
            }
            match step {
                Step::Done => return,
                Step::Contended => {
                    if self.server().scripts.has_long_runs() && self.forwarding.is_empty() {
                        // The replies to what ran before do not wait. An error shows again when the batch is written.
                        let _ = self.try_write();
                    }
                    rest(self.server(), round).await;
                    round = self.runner.next_round(round);
                    if round > YIELD_ROUNDS && self.client().killed().is_some() {
                        self.session.after = After::Drop;
                        return;
                    }
                }
                Step::Paused => {
                    self.paused().await;
                    if self.session.after == After::Drop {
                        return;
                    }
                }
                Step::Sweep(sweeping) => {
                    let (runner, session) = (&mut self.runner, &mut self.session);
                    let request = self.decoder.arguments(&self.input);
                    return sweep_to_end(runner, session, sweeping, request, &mut self.output)
                        .await;
                }
                Step::Blocked(blocked) => {
                    // Who was sent away by the keys' move does not wait longer than was asked.
                    let until = *until.get_or_insert(blocked.waiter.wait.until);
                    if self.blocked(blocked, until).await {
                        return;
                    }
                    round = self.runner.next_round(round);
                }
                Step::Migrate(migrating) => return self.migrate(*migrating).await,
                Step::Forward(index) => {
                    if !self.forward(index) && self.settle_first().await {
                        self.forward(index);
                    }
                    return;
                }
                Step::Tunnel(index) => {
                    if self.tunnel(index).await {
                        return;
                    }
                    rest(self.server(), round).await;
                    round = self.runner.next_round(round);
                    if self.client().killed().is_some() {
                        self.session.after = After::Drop;
                        return;
                    }
                }
                Step::Across => return self.across().await,
                Step::Totals => self.ask_totals().await,
                // Nobody waits for what one connection runs.
                Step::Apart => self.runner.set_among_others(false),
                Step::NotHere => {
                    let mut reply = Reply::new(&mut self.output, self.session.protocol);
                    return reply.error(tunnel::NOT_HERE);
                }
            }
        }
    }

    /// Sends keys to another server, then removes them here and writes the reply. Who is killed meanwhile removes nothing.
    async fn migrate(&mut self, migrating: Migrating) {
        self.runner.end_batch();
        // The replies to what ran before do not wait. An error shows again when the batch is written.
        let _ = self.try_write();
        let server = Arc::clone(self.server());
        let sent = tokio::select! {
            sent = migrate::send(&migrating.migration, &server.clock, server.keyspace.hasher()) => Some(sent),
            _ = killed(self.client()) => None,
            _ = server.shutdown.requested() => None,
        };
        self.runner.begin_batch();
        let Some(arrived) = sent else {
            self.session.after = After::Drop;
            return;
        };
        let mut round = 0;
        loop {
            let (session, output) = (&mut self.session, &mut self.output);
            let request = self.decoder.arguments(&self.input);
            let step = self
                .runner
                .migrated(session, &migrating, &arrived, request, output, round);
            match step {
                Step::Contended => rest(self.server(), round).await,
                _ => return,
            }
            round = self.runner.next_round(round);
        }
    }

    /// Waits until a blocked command is served, gives up at `until`, or its client is gone; then writes its reply. `false`: its
    /// keys go elsewhere, and it is to be run again.
    async fn blocked(&mut self, blocked: Blocked, until: Option<Millis>) -> bool {
        self.runner.end_batch();
        let server = Arc::clone(self.server());
        let waiter = Arc::clone(&blocked.waiter);
        let waits = Waits {
            server: &server,
            client: Arc::clone(&self.session.client),
            waiter: &waiter,
        };
        waits
            .client
            .set_waits(Some(WaitsAt::Here(Arc::clone(&waiter))));
        self.publish();
        let (end, mail) = self.served(&waiter, until).await;
        drop(waits);
        self.runner.begin_batch();
        let (session, output) = (&mut self.session, &mut self.output);
        let step = self.runner.unblocked(session, &blocked, end, output);
        if let Some(mail) = mail {
            output.append(mail);
        }
        !matches!(step, Step::Contended)
    }

    /// The end of a wait, and the mail that may have to come behind its reply. Meanwhile replies and mail are sent, and what the
    /// client sends is kept; that it has left is seen by the read.
    async fn served(
        &mut self,
        waiter: &Waiter,
        until: Option<Millis>,
    ) -> (Result<Output, Cancel>, Option<Output>) {
        let now = self.server().clock.now();
        let left = until.map(|until| until.since(now).max(0) as u64);
        // Without a limit it sleeps for as long as the timer allows.
        let left = left.map_or(FOREVER, |left| Duration::from_millis(left).min(FOREVER));
        let mut timeout = pin!(tokio::time::sleep(left));
        let is_limited = until.is_some();
        poll_fn(|context| {
            self.client().register(context.waker());
            loop {
                // Taken before the look at the waiter: that a key was changed after it was read for the reply is told behind
                // the reply.
                let mail = self.session.client.take_mail();
                if let Some(end) = waiter.poll(context.waker()) {
                    return Poll::Ready((end, mail));
                }
                if let Some(mail) = mail {
                    self.output.append(mail);
                }
                // From here on the waiter tells when it ends; what cannot be cancelled is being served.
                if self.client().killed().is_some()
                    || self.server().shutdown.is_requested()
                    || self.exchange(context).is_err()
                {
                    if waiter.cancel(Cancel::Gone) {
                        continue;
                    }
                    return Poll::Pending;
                }
                if is_limited
                    && timeout.as_mut().poll(context).is_ready()
                    && waiter.cancel(Cancel::Timeout)
                {
                    continue;
                }
                return Poll::Pending;
            }
        })
        .await
    }

    /// Sends and receives what can be without waiting. An error when the peer is gone, or over one of its limits.
    fn exchange(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.send(context)?;
        self.make_up_loss()?;
        if !self.check_output_limit() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        while let Poll::Ready(read) =
            poll_read(&mut self.stream, &mut self.input, self.read_bytes, context)
        {
            let read = read?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.count_read(read);
            if !self.check_query_limit(0) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
        Ok(())
    }

    /// Waits for the end of CLIENT PAUSE. A client that is killed meanwhile does not run its request any more.
    async fn paused(&mut self) {
        let server = Arc::clone(self.server());
        self.runner.end_batch();
        // The replies to what ran before do not wait for the end. An error shows again when the batch is written.
        let _ = self.try_write();
        let left = server.pause.left_ms(server.clock.now());
        self.client().set_flag(client_flags::BLOCKED, true);
        tokio::select! {
            _ = tokio::time::sleep(Duration::from_millis(left)) => {}
            _ = server.pause.ended() => {}
            _ = server.shutdown.requested() => server.pause.end(),
            _ = killed(self.client()) => self.session.after = After::Drop,
        }
        self.client().set_flag(client_flags::BLOCKED, false);
        self.runner.begin_batch();
    }

    /// Sleeps, unless the client is killed or the server ends.
    async fn sleep(&mut self, duration: Duration) {
        self.runner.end_batch();
        tokio::select! {
            _ = tokio::time::sleep(duration) => {}
            _ = self.server().shutdown.requested() => {}
            _ = killed(self.client()) => {}
        }
    }

    /// Receives the payload of a large argument into a buffer of its own, which becomes the value: it is copied nowhere
    /// else. The buffer grows with what arrives. `false` when the connection ended.
    async fn receive_large(&mut self, bytes: usize) -> io::Result<bool> {
        let mut payload = Vec::from(self.decoder.begin_large(&mut self.input));
        while payload.len() < bytes {
            self.try_write()?;
            if payload.capacity() == payload.len() {
                let missing = bytes - payload.len();
                payload.reserve_exact(missing.min(payload.len().max(LARGE_STEP)));
            }
            self.client()
                .query_bytes
                .store(payload.len(), Ordering::Relaxed);
            let Connection {
                stream,
                session,
                output,
                ..
            } = self;
            let client = &session.client;
            let read = poll_fn(|context| {
                client.register(context.waker());
                if client.killed().is_some() {
                    return Poll::Ready(Ok(0));
                }
                if !output.is_empty() {
                    // Sends what it can; the read decides.
                    while !output.is_empty() && poll_write(stream, output, context)?.is_ready() {}
                }
                // Never beyond the room there is: to fill up a nearly full buffer is no reason to make it as large as the
                // client says it will be.
                let room = payload.capacity().min(bytes) - payload.len();
                let mut free = (&mut payload).limit(room);
                pin!(stream.read_buf(&mut free)).poll(context)
            })
            .await?;
            if read == 0 {
                return Ok(false);
            }
            self.count_read(read);
            let now = self.server().clock.now();
            self.client()
                .last_interaction
                .store(now.0, Ordering::Relaxed);
            if !self.check_query_limit(payload.len()) {
                return Ok(false);
            }
        }
        self.decoder.supply(payload.into());
        if self.input.len() > self.decoder.position() {
            return Ok(true);
        }
        // The line end of the argument is still to come.
        self.wait().await
    }

    fn refuse(&mut self, error: &ProtocolError) {
        // A client that wants no replies gets none to this either.
        if self.session.reply_mode == ReplyMode::On {
            let mut reply = Reply::new(&mut self.output, self.session.protocol);
            reply.error_bytes(&error.wire_text());
        }
        self.server().stats.count_error("ERR");
        tracing::debug!(addr = %self.client().addr, %error, "protocol error");
    }

    /// Writes what the socket takes without waiting.
    fn try_write(&mut self) -> io::Result<()> {
        self.send(&mut Context::from_waker(Waker::noop()))
    }

    /// The same; the task is woken when the socket takes more.
    fn send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let before = self.output.len_bytes();
        while !self.output.is_empty()
            && poll_write(&mut self.stream, &mut self.output, context)?.is_ready()
        {}
        let sent = (before - self.output.len_bytes()) as u64;
        let shard = self.runner.server().stats.mine();
        shard.net_out.add(sent);
        shard.writes.add(1);
        self.client().net_out.fetch_add(sent, Ordering::Relaxed);
        self.output.shrink();
        Ok(())
    }

    /// Sends what is left, bounded in time, before the connection ends.
    async fn close(&mut self) -> io::Result<()> {
        if let Some(mail) = self.session.client.take_mail() {
            self.output.append(mail);
        }
        let Connection { stream, output, .. } = self;
        let before = output.len_bytes();
        let sent = poll_fn(|context| {
            while !output.is_empty() {
                std::task::ready!(poll_write(stream, output, context))?;
            }
            Poll::Ready(Ok(()))
        });
        let done = tokio::time::timeout(LINGER, sent).await.unwrap_or(Ok(()));
        let sent = before - self.output.len_bytes();
        self.server().stats.mine().net_out.add(sent as u64);
        done
    }

    fn limits(&self) -> Limits {
        if self.session.authenticated {
            Limits::authenticated(self.runner.settings().proto_max_bulk_len as usize)
        } else {
            Limits::unauthenticated()
        }
    }

    fn server(&self) -> &Arc<Server> {
        self.runner.server()
    }

    fn client(&self) -> &Client {
        &self.session.client
    }

    fn has_unrun(&self) -> bool {
        self.input.len() > self.decoder.position()
    }

    fn count_read(&mut self, bytes: usize) {
        let shard = self.runner.server().stats.mine();
        shard.net_in.add(bytes as u64);
        shard.reads.add(1);
        let client = &self.session.client;
        client.net_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.read_bytes = if bytes >= self.read_bytes {
            (self.read_bytes * 2).min(READ_BYTES_MAX)
        } else if bytes < self.read_bytes / 4 {
            (self.read_bytes / 2).max(READ_BYTES)
        } else {
            self.read_bytes
        };
    }

    /// Shows the others how this connection stands.
    fn publish(&self) {
        let client = self.client();
        client
            .query_bytes
            .store(self.input.len(), Ordering::Relaxed);
        client
            .query_free
            .store(self.input.capacity() - self.input.len(), Ordering::Relaxed);
        client
            .output_bytes
            .store(self.output.len_bytes(), Ordering::Relaxed);
        client
            .database
            .store(self.session.database, Ordering::Relaxed);
        let protocol = if self.session.protocol == Protocol::Resp3 {
            3
        } else {
            2
        };
        client.protocol.store(protocol, Ordering::Relaxed);
    }

    /// Closes a client whose unsent replies are over the limit of its class. `false` says so.
    fn check_output_limit(&mut self) -> bool {
        let pending = (self.output.len_bytes() + self.held_elsewhere) as u64;
        if pending == 0 {
            self.over_soft_since = None;
            return true;
        }
        let limit = *output_limit(self.runner.settings(), self.client().kind());
        let over_soft = limit.soft_bytes != 0 && pending > limit.soft_bytes;
        let since = over_soft.then(|| self.over_soft_since.unwrap_or_else(Instant::now));
        let too_long = since.is_some_and(|since| since.elapsed() > limit.soft_duration);
        let over = limit.hard_bytes != 0 && pending > limit.hard_bytes || too_long;
        self.over_soft_since = since;
        if over {
            let server = self.server();
            server.stats.output_limit_disconnections.add(1);
            tracing::warn!(client = self.client().id, addr = %self.client().addr, pending, "closed: over client-output-buffer-limit");
        }
        !over
    }

    /// Closes a client whose requests take more than they may before they run. Unlike Redis's, the limit holds for the whole
    /// of a request, or a client could fill the memory with the arguments of one. `arriving` is of the argument that is being
    /// received apart. `false` says that it is closed.
    fn check_query_limit(&mut self, arriving: usize) -> bool {
        let limit = self.runner.settings().client_query_buffer_limit;
        let queued = self.session.transaction().map_or(0, Transaction::bytes);
        let held = self.input.len() + self.decoder.large_bytes() + queued + arriving;
        let over = held as u64 > limit;
        if over {
            self.server().stats.query_limit_disconnections.add(1);
            tracing::warn!(client = self.client().id, addr = %self.client().addr, "closed: over client-query-buffer-limit");
        }
        !over
    }
}

/// Whoever left mail may have company that is about to run: a subscriber sends what all of them leave at once. It waits for
/// no time to pass, only for those whose turn it is, and for more of them as long as they leave more.
async fn let_others_publish(client: &Client) {
    let begun = Instant::now();
    let mut mail = client.mail_bytes();
    for _ in 0..PUBLISHERS_TURNS {
        tokio::task::yield_now().await;
        let before = std::mem::replace(&mut mail, client.mail_bytes());
        if mail == before || mail >= MAIL_ENOUGH || begun.elapsed() >= PUBLISHERS_TIME {
            return;
        }
    }
}

/// How long a closing connection waits for its peer to take the last replies.
const LINGER: Duration = Duration::from_secs(2);

/// Whether a client is to be told that something was lost, and has read what kept it from being told that.
#[inline]
fn can_make_up_loss(client: &Client, output: &Output) -> bool {
    client.has_loss() && output.len_bytes() < LOSS_BYTES
}

/// Unsent replies from which a connection reads no more.
fn output_pause(session: &Session) -> usize {
    if session.authenticated {
        OUTPUT_PAUSE
    } else {
        OUTPUT_PAUSE_UNAUTHENTICATED
    }
}

/// The output limit of a class of clients.
pub fn output_limit(settings: &Settings, kind: ClientKind) -> &OutputLimit {
    let limits = &settings.client_output_buffer_limit;
    match kind {
        ClientKind::Normal => &limits.normal,
        ClientKind::Pubsub => &limits.pubsub,
        ClientKind::Replica | ClientKind::Master => &limits.replica,
    }
}

/// Waits until somebody asks the client to close.
async fn killed(client: &Client) {
    poll_fn(|context| {
        client.register(context.waker());
        match client.killed() {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    })
    .await;
}

/// Runs a sweep to its end, with a turn for the others after each slice of time.
pub(super) async fn sweep_to_end(
    runner: &mut Runner,
    session: &mut Session,
    sweeping: Sweeping,
    request: Arguments<'_>,
    output: &mut Output,
) {
    let mut next = Some(sweeping);
    let mut begun = Instant::now();
    while let Some(sweeping) = next {
        next = runner.sweep_step(session, sweeping, request, output);
        if next.as_ref().is_some_and(Sweeping::is_held_up)
            && runner.server().scripts.has_long_runs()
        {
            let server = Arc::clone(runner.server());
            rest(&server, 0).await;
        }
        if begun.elapsed() >= SLICE {
            tokio::task::yield_now().await;
            begun = Instant::now();
        }
    }
}

/// Lets others go on while a partition is locked: yields at first, then sleeps.
pub(super) async fn rest(server: &Server, round: u32) {
    if server.scripts.has_long_runs() {
        server.scripts.a_long_run_ends(LONG_RUN_PATIENCE).await;
    } else if round < YIELD_ROUNDS {
        std::thread::yield_now();
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Reads at most `limit` bytes into the free end of `buffer`.
fn poll_read<S: Stream>(
    stream: &mut S,
    buffer: &mut BytesMut,
    limit: usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if buffer.capacity() - buffer.len() < limit.min(READ_BYTES_MIN) {
        buffer.reserve(limit);
    }
    let mut free = buffer.limit(limit);
    pin!(stream.read_buf(&mut free)).poll(context)
}

/// Writes some of the output.
fn poll_write<S: Stream>(
    stream: &mut S,
    output: &mut Output,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let stream = Pin::new(stream);
    // One piece is what nearly every batch has, and the kernel takes it for less than a list of one.
    let written = match output.only_chunk() {
        Some(chunk) => stream.poll_write(context, chunk),
        None => {
            let mut slices = [IoSlice::new(&[]); IO_SLICES];
            let count = output.fill(&mut slices);
            stream.poll_write_vectored(context, &slices[..count])
        }
    };
    let written = std::task::ready!(written)?;
    if written == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    output.advance(written);
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests;
