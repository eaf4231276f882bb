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

/// How many reads are handled before others have their turn on this core, if there is always more to read.
const READS_IN_TURN: u32 = 8;

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
    /// Since the task last slept.
    reads: u32,
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
            reads: 0,
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
            let is_early =
                std::mem::take(&mut self.has_slept) && outbox.queued().0 > 0 && lingers();
            if is_early || self.reads >= READS_IN_TURN {
                self.reads = 0;
                if !is_early {
                    self.flush(cx, outbox, traffic)?;
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read = self.poll_read(cx, outbox, traffic);
            self.has_slept = read.is_pending();
            self.reads = if self.has_slept { 0 } else { self.reads + 1 };
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
    use tokio::time::timeout;

    use super::*;
    use crate::cluster::bus::frame::{self, Key};
    use crate::cluster::bus::{FRAME_MAX, QUEUE_MAX};
    use crate::cluster::node::NodeId;

    const OUT: Key = [1; 16];
    const IN: Key = [2; 16];
    const TICK: Duration = Duration::from_secs(1);

    struct End {
        wire: Wire<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>,
        outbox: Outbox,
        traffic: Traffic,
    }

    /// One end of a connection whose pipe holds this many bytes.
    fn end(side: Side, room: usize) -> (End, DuplexStream) {
        let (near, far) = duplex(room);
        let (reader, writer) = split(near);
        let session = Session {
            peer: NodeId::default(),
            sealer: Sealer::new(OUT),
            opener: Opener::new(IN),
        };
        let outbox = Outbox::default();
        assert!(outbox.open());
        let wire = Wire::new(reader, writer, session, side, TICK);
        let traffic = Traffic::default();
        (
            End {
                wire,
                outbox,
                traffic,
            },
            far,
        )
    }

    impl End {
        async fn read(&mut self) -> Result<(), Refused> {
            self.wire.read(&self.outbox, &self.traffic, || false).await
        }

        fn next(&mut self) -> Result<Option<Frame>, Refused> {
            self.wire.next(&self.traffic)
        }

        /// Answers each frame with as many bytes.
        async fn answer(&mut self, length: usize) -> Result<Infallible, Refused> {
            loop {
                self.read().await?;
                while let Some(frame) = self.next()? {
                    self.outbox
                        .push_answer(Kind::Answer, frame.id, |payload| {
                            payload.resize(payload.len() + length, 0);
                        })
                        .expect("it is small");
                }
            }
        }
    }

    fn asked(sealer: &mut Sealer, length: usize) -> BytesMut {
        let mut frames = BytesMut::new();
        frame::append(&mut frames, Kind::Ask, 1, |payload| {
            payload.resize(payload.len() + length, 0);
        })
        .expect("it is small");
        sealer.seal(&mut frames, usize::MAX);
        frames
    }

    #[tokio::test]
    async fn memory_grows_with_what_came_not_with_what_was_declared() {
        let (mut end, mut far) = end(Side::Acceptor, 1 << 20);
        far.write_all(&(FRAME_MAX as u32).to_le_bytes())
            .await
            .expect("there is room");
        end.read().await.expect("it is there");
        assert!(matches!(end.next(), Ok(None)));
        assert!(end.wire.received.capacity() <= READ_CHUNK);
        far.write_all(&[0; 100_000]).await.expect("there is room");
        while end.wire.received.len() < 100_004 {
            end.read().await.expect("it is there");
            assert!(matches!(end.next(), Ok(None)));
            let bound = 2 * (end.wire.received.len() + READ_CHUNK);
            assert!(end.wire.received.capacity() <= bound);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_silent_ends_after_four_ticks() {
        let (mut end, mut far) = end(Side::Connector, 1 << 20);
        let began = Instant::now();
        assert!(matches!(end.read().await, Err(Refused::Silent)));
        assert_eq!(began.elapsed(), 4 * TICK);
        // It was asked for a sign of life before.
        let mut received = BytesMut::new();
        drop(end);
        while far.read_buf(&mut received).await.expect("a pipe") > 0 {}
        let mut opener = Opener::new(OUT);
        for _ in 0..3 {
            let frame = opener.next(&mut received).expect("it is right");
            assert!(matches!(frame, Some(frame) if frame.kind == Kind::Ping));
        }
        assert!(received.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_keeps_a_connection() {
        let (mut end, mut far) = end(Side::Acceptor, 1 << 20);
        let mut sealer = Sealer::new(IN);
        for _ in 0..10 {
            assert!(timeout(2 * TICK + TICK / 2, end.read()).await.is_err());
            far.write_all(&asked(&mut sealer, 0))
                .await
                .expect("there is room");
            end.read().await.expect("it is there");
            assert!(matches!(end.next(), Ok(Some(_))));
        }
        assert!(matches!(end.read().await, Err(Refused::Silent)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_its_answers_is_not_read() {
        let (mut end, mut far) = end(Side::Acceptor, 4096);
        let mut sealer = Sealer::new(IN);
        let ask = async {
            let mut asked_for = 0;
            while timeout(TICK, far.write_all(&asked(&mut sealer, 1000)))
                .await
                .is_ok()
            {
                asked_for += 1;
            }
            asked_for
        };
        let asked_for = tokio::select! {
            asked_for = ask => asked_for,
            ended = end.answer(100_000) => panic!("{ended:?}"),
        };
        let (queued, _) = end.outbox.queued();
        // Those of one read more than the mark.
        let bound = HIGH_WATER + READ_CHUNK / 1000 * 100_100;
        assert!(
            queued > HIGH_WATER && queued <= bound,
            "{queued} bytes after {asked_for} frames"
        );
        // As it takes nothing at all, it is given up.
        assert!(matches!(end.answer(0).await, Err(Refused::Silent)));
    }

    #[tokio::test]
    async fn answers_that_nobody_takes_are_bounded() {
        let (mut end, _far) = end(Side::Acceptor, 4096);
        let mut count = 0;
        while end.outbox.queued().0 <= QUEUE_MAX {
            let push = end.outbox.push_answer(Kind::Push, 0, |payload| {
                payload.resize(payload.len() + (4 << 20), 0);
            });
            assert_eq!(push, Ok(()));
            count += 1;
        }
        assert_eq!(count, 16);
        assert_eq!(
            end.outbox
                .push_answer(Kind::Push, 0, |_| panic!("there is no room")),
            Ok(())
        );
        assert!(matches!(end.read().await, Err(Refused::Slow)));
    }

    #[tokio::test]
    async fn what_is_queued_while_a_frame_waits_is_written() {
        let (mut end, mut far) = end(Side::Acceptor, 4096);
        let (outbox, traffic) = (&end.outbox, &end.traffic);
        let mut received = BytesMut::new();
        let work = async {
            outbox
                .push_answer(Kind::Answer, 5, |_| {})
                .expect("it is empty");
            // Goes on when the answer has arrived.
            far.read_buf(&mut received).await.expect("a pipe");
        };
        end.wire
            .run(outbox, traffic, work)
            .await
            .expect("it is open");
        let frame = Opener::new(OUT).next(&mut received).expect("it is right");
        assert!(matches!(frame, Some(frame) if frame.id == 5));
    }

    #[tokio::test]
    async fn one_burst_is_not_paid_for_ever_after() {
        let (mut end, mut far) = end(Side::Connector, 8 << 20);
        let big = |payload: &mut BytesMut| payload.resize(payload.len() + 4 * SEAL_CHUNK + 5, 9);
        end.outbox
            .push(Kind::Ask, big, || Ok(1))
            .expect("there is room");
        far.write_all(&asked(&mut Sealer::new(IN), 0))
            .await
            .expect("there is room");
        end.read().await.expect("it is there");
        assert_eq!(end.outbox.queued(), (0, 0));
        assert_eq!(end.wire.batch.capacity(), 0);
        drop(end);
        let mut received = BytesMut::new();
        while far.read_buf(&mut received).await.expect("a pipe") > 0 {}
        let frame = Opener::new(OUT)
            .next(&mut received)
            .expect("it is right")
            .expect("it is whole");
        assert_eq!(frame.payload, vec![9; 4 * SEAL_CHUNK + 5]);
    }
}
