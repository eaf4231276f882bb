//! One connection after its handshake, driven by one task: it writes what is queued whenever it can, and reads.
//!
//! Reading and writing are polled one after the other in the same turn of the task: the answers to the frames of one read are
//! queued while these run, and written before the task sleeps, without waking anybody.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::auth::{Refused, Session};
use super::frame::{Frame, Opener, Sealer};
use super::outbox::Outbox;
use super::{Kind, Traffic};

/// How much is read at once, unless a frame that began is longer: the buffer doubles with what has arrived of it.
const READ_CHUNK: usize = 16 << 10;

/// How much is sealed before it is written: MACs of a long queue do not keep others from the core.
const SEAL_CHUNK: usize = 256 << 10;

/// A serving connection that has more than this to write, and cannot, does not read: who asks for much has to take it.
const HIGH_WATER: usize = 1 << 20;

/// Ticks without anything, after which a connection is silent.
const SILENT_TICKS: u32 = 4;

pub(super) struct Wire<R, W> {
    reader: R,
    writer: W,
    opener: Opener,
    sealer: Sealer,
    /// What was read, from the first byte of a frame on.
    received: BytesMut,
    /// What was taken from the outbox; `written` <= `sealed` <= its length.
    batch: BytesMut,
    sealed: usize,
    written: usize,
    tick: Interval,
    ticks_in_silence: u32,
    side: Side,
    /// The task has slept since it last wrote.
    has_slept: bool,
}

/// Which end this is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Asks for signs of life, and always reads.
    Connector,
    /// Gives signs of life, and reads when it can write.
    Acceptor,
}

impl<R, W> Wire<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    pub(super) fn new(reader: R, writer: W, session: Session, side: Side, tick: Duration) -> Self {
        let mut tick = tokio::time::interval_at(Instant::now() + tick, tick);
        // A process that was stopped counts one tick for that time, not all of them: it may find what came meanwhile.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Wire {
            reader,
            writer,
            opener: session.opener,
            sealer: session.sealer,
            received: BytesMut::new(),
            batch: BytesMut::new(),
            sealed: 0,
            written: 0,
            tick,
            ticks_in_silence: 0,
            side,
            has_slept: false,
        }
    }

    /// Writes what is queued, and waits until something was read.
    ///
    /// `lingers` says whether others are likely to queue frames at once. If so, the task lets those run first that are ready
    /// to: tokio runs a task that was just woken before them, and so each frame would be written alone.
    pub(super) async fn read(
        &mut self,
        outbox: &Outbox,
        traffic: &Traffic,
        lingers: impl Fn() -> bool,
    ) -> Result<(), Refused> {
        poll_fn(|cx| {
            if std::mem::take(&mut self.has_slept) && lingers() && outbox.queued().0 > 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read = self.poll_read(cx, outbox, traffic);
            self.has_slept = read.is_pending();
            read
        })
        .await
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        traffic: &Traffic,
    ) -> Poll<Result<(), Refused>> {
        let written = self.written;
        let is_blocked = self.flush(cx, outbox, traffic)?;
        let may_read =
            self.side == Side::Connector || !is_blocked || outbox.queued().0 <= HIGH_WATER;
        if !may_read && self.written != written {
            // The other side takes its answers, if slowly.
            self.ticks_in_silence = 0;
        }
        if may_read {
            if self.received.capacity() - self.received.len() < READ_CHUNK / 4 {
                self.received.reserve(READ_CHUNK);
            }
            // A new future each time: it keeps nothing while it waits.
            let read = pin!(self.reader.read_buf(&mut self.received)).poll(cx)?;
            if let Poll::Ready(count) = read {
                if count == 0 {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
                }
                self.ticks_in_silence = 0;
                traffic.bytes_received.add(count as u64);
                outbox.stay_awake();
                return Poll::Ready(Ok(()));
            }
        }
        while self.tick.poll_tick(cx).is_ready() {
            self.ticks_in_silence += 1;
            if self.ticks_in_silence >= SILENT_TICKS {
                return Poll::Ready(Err(Refused::Silent));
            }
            if self.side == Side::Connector {
                outbox.push_note(Kind::Ping, 0);
            }
        }
        Poll::Pending
    }

    /// The next frame of what was read.
    pub(super) fn next(&mut self, traffic: &Traffic) -> Result<Option<Frame>, Refused> {
        let frame = self.opener.next(&mut self.received)?;
        traffic.frames_received.add(u64::from(frame.is_some()));
        Ok(frame)
    }

    /// Runs what a frame asks for; while that waits for something, what is queued is written.
    pub(super) async fn run(
        &mut self,
        outbox: &Outbox,
        traffic: &Traffic,
        work: impl Future<Output = ()>,
    ) -> Result<(), Refused> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if work.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            self.flush(cx, outbox, traffic)?;
            Poll::Pending
        })
        .await
    }

    /// Writes until nothing is queued (`false`: the task is woken when something is) or the socket is full (`true`).
    fn flush(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        traffic: &Traffic,
    ) -> Result<bool, Refused> {
        loop {
            while self.written < self.batch.len() {
                if self.written == self.sealed {
                    let (bytes, frames) =
                        self.sealer.seal(&mut self.batch[self.sealed..], SEAL_CHUNK);
                    self.sealed += bytes;
                    traffic.bytes_sent.add(bytes as u64);
                    traffic.frames_sent.add(frames);
                }
                let ready = &self.batch[self.written..self.sealed];
                match Pin::new(&mut self.writer).poll_write(cx, ready)? {
                    Poll::Ready(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    Poll::Ready(count) => self.written += count,
                    Poll::Pending => return Ok(true),
                }
            }
            if self.written > 0 {
                outbox.written(&mut self.batch);
                (self.written, self.sealed) = (0, 0);
            }
            match outbox.poll_take(cx, &mut self.batch) {
                Poll::Ready(taken) => taken?,
                Poll::Pending => return Ok(false),
            }
        }
    }
}
