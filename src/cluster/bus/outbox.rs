//! What waits to be written on one connection: many append, one task takes.
//!
//! Whoever sends appends a whole frame under the lock; the task of the connection swaps the buffer for an empty one and writes
//! it whole. It is woken once, by the first who appends while it sleeps: its waker is here only while it does.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use parking_lot::Mutex;

use super::auth::Refused;
use super::{CallError, Kind, QUEUE_MAX, frame};
use crate::base::wakers::remember;

/// A buffer that grew beyond this is not used again, so that one burst is not paid for ever after.
const SPARE_MAX: usize = 1 << 20;

/// Bytes from which those who can wait do not queue more.
const ROOM: usize = 1 << 20;

/// Bytes from which a frame is not shared any more: what is in it is not looked at before it is there whole.
const SHARED_FRAME_MAX: usize = 32 << 10;

/// The queue of one connection, or of one link's connections one after the other.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Protects the queue. Innermost but for the tickets of a link; held while a payload is written into the buffer, never
    /// while anybody is woken or a socket is written.
    queue: Mutex<Queue>,
    /// Held by who sends something in parts, one at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Queue {
    state: State,
    /// Counts the connections: what was begun on one does not go on with the next.
    connection: u64,
    /// Whole frames without MACs.
    frames: BytesMut,
    /// Where the last frame begins, and its kind, if more may be added to it.
    open: Option<(usize, Kind)>,
    /// Bytes that the connection's task took and has not written yet.
    taken: usize,
    /// The connection's task, while it waits for frames.
    sleeper: Option<Waker>,
    /// Those who wait until there is room.
    waiting_for_room: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No connection.
    #[default]
    Shut,
    /// Somebody writes what is queued.
    Open,
    /// More was queued than may be: the connection ends.
    Overflown,
    /// For good.
    Closed,
}

impl Outbox {
    /// A connection is there. `false`: the outbox was closed meanwhile, and stays so.
    pub(super) fn open(&self) -> bool {
        let mut queue = self.queue.lock();
        if queue.state == State::Closed {
            return false;
        }
        queue.state = State::Open;
        queue.connection += 1;
        true
    }

    /// The connection is gone, with what was queued.
    pub(super) fn shut(&self) {
        let mut queue = self.queue.lock();
        if queue.state != State::Closed {
            queue.state = State::Shut;
        }
        let woken = queue.empty();
        drop(queue);
        woken.into_iter().for_each(Waker::wake);
    }

    /// No connection will be there again.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.state = State::Closed;
        let woken = queue.empty();
        let sleeper = queue.sleeper.take();
        drop(queue);
        wake(sleeper);
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().state == State::Closed
    }

    /// Bytes that wait, and the memory held for them.
    pub(super) fn queued(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.waiting(), queue.frames.capacity() + queue.taken)
    }

    /// Queues a frame. Its id is asked for under the lock, when everything else has gone well, and may still refuse it.
    pub(super) fn push(
        &self,
        kind: Kind,
        write: impl FnOnce(&mut BytesMut),
        id: impl FnOnce() -> Result<u64, CallError>,
    ) -> Result<u64, CallError> {
        let mut queue = self.queue.lock();
        if queue.state != State::Open {
            return Err(CallError::NotConnected);
        }
        if queue.waiting() > QUEUE_MAX {
            return Err(CallError::Full);
        }
        let id = queue.append(kind, write, id)?;
        let sleeper = queue.sleeper.take();
        drop(queue);
        wake(sleeper);
        Ok(id)
    }

    /// Begins what goes in parts: its id, which is asked for under the lock, and the connection it goes by.
    pub(super) fn begin(
        &self,
        id: impl FnOnce() -> Result<u64, CallError>,
    ) -> Result<(u64, u64), CallError> {
        let queue = self.queue.lock();
        match queue.state {
            State::Open => Ok((id()?, queue.connection)),
            _ => Err(CallError::NotConnected),
        }
    }

    /// Queues a part of it, or its end, when there is room; [`PART_BYTES`](super::long::PART_BYTES) at most.
    pub(super) async fn push_part(
        &self,
        (id, connection): (u64, u64),
        kind: Kind,
        part: &[u8],
    ) -> Result<(), CallError> {
        poll_fn(|cx| self.poll_room(cx)).await;
        let sleeper = {
            let mut queue = self.queue.lock();
            if queue.state != State::Open || queue.connection != connection {
                return Err(CallError::NotConnected);
            }
            queue.append(kind, |payload| payload.extend_from_slice(part), || Ok(id))?;
            queue.sleeper.take()
        };
        wake(sleeper);
        Ok(())
    }

    /// Queues a piece of payload that may share a frame with others of its kind, to which no answer is wanted: pieces that are
    /// queued while the connection's task is busy go in one frame.
    pub(super) fn push_piece(
        &self,
        kind: Kind,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), CallError> {
        let mut queue = self.queue.lock();
        if queue.state != State::Open {
            return Err(CallError::NotConnected);
        }
        if queue.waiting() > QUEUE_MAX {
            return Err(CallError::Full);
        }
        queue.append_piece(kind, write)?;
        let sleeper = queue.sleeper.take();
        drop(queue);
        wake(sleeper);
        Ok(())
    }

    /// Queues a small frame whatever the bound says; there are never more of them than tickets. Ignored without a connection.
    pub(super) fn push_note(&self, kind: Kind, id: u64) {
        let mut queue = self.queue.lock();
        if queue.state != State::Open {
            return;
        }
        queue
            .append(kind, |_| {}, || Ok(id))
            .expect("an empty frame is not too large");
        let sleeper = queue.sleeper.take();
        drop(queue);
        wake(sleeper);
    }

    /// Queues an answer. Without a connection it is forgotten; beyond the bound the connection ends.
    pub(super) fn push_answer(
        &self,
        kind: Kind,
        id: u64,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), frame::TooLarge> {
        let mut queue = self.queue.lock();
        if queue.state != State::Open {
            return Ok(());
        }
        if queue.waiting() > QUEUE_MAX {
            queue.state = State::Overflown;
        } else if queue.append(kind, write, || Ok(id)).is_err() {
            return Err(frame::TooLarge);
        }
        let sleeper = queue.sleeper.take();
        drop(queue);
        wake(sleeper);
        Ok(())
    }

    /// For the connection's task: exchanges what is queued for the empty `batch`, or remembers whom to wake.
    pub(super) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        batch: &mut BytesMut,
    ) -> Poll<Result<(), Refused>> {
        let mut queue = self.queue.lock();
        match queue.state {
            State::Open => {}
            State::Overflown => return Poll::Ready(Err(Refused::Slow)),
            State::Shut | State::Closed => return Poll::Ready(Err(Refused::Closed)),
        }
        if queue.frames.is_empty() {
            remember(&mut queue.sleeper, cx);
            return Poll::Pending;
        }
        std::mem::swap(&mut queue.frames, batch);
        queue.open = None;
        queue.taken = batch.len();
        queue.sleeper = None;
        Poll::Ready(Ok(()))
    }

    /// For the connection's task: what it took is written.
    pub(super) fn written(&self, batch: &mut BytesMut) {
        if batch.capacity() > SPARE_MAX {
            *batch = BytesMut::new();
        }
        batch.clear();
        let woken = {
            let mut queue = self.queue.lock();
            queue.taken = 0;
            std::mem::take(&mut queue.waiting_for_room)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// Ready when less than [`ROOM`] is queued, or nothing will be sent any more: pushing says so then.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.queue.lock();
        if queue.state != State::Open || queue.waiting() < ROOM {
            return Poll::Ready(());
        }
        if !queue
            .waiting_for_room
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            queue.waiting_for_room.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// For the connection's task, which is about to append frames itself and to look here after that: nobody needs to wake it.
    pub(super) fn stay_awake(&self) {
        self.queue.lock().sleeper = None;
    }
}

impl Queue {
    fn waiting(&self) -> usize {
        self.frames.len() + self.taken
    }

    /// Forgets all. Returns whom to wake, after the lock is released.
    fn empty(&mut self) -> Vec<Waker> {
        self.frames = BytesMut::new();
        self.open = None;
        self.taken = 0;
        std::mem::take(&mut self.waiting_for_room)
    }

    fn append_piece(
        &mut self,
        kind: Kind,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), CallError> {
        if let Some((start, _)) = self
            .open
            .filter(|(start, its)| *its == kind && self.frames.len() - start < SHARED_FRAME_MAX)
        {
            return frame::extend(&mut self.frames, start, write).map_err(|_| CallError::TooLarge);
        }
        let start = self.frames.len();
        self.append(kind, write, || Ok(0))?;
        self.open = Some((start, kind));
        Ok(())
    }

    fn append(
        &mut self,
        kind: Kind,
        write: impl FnOnce(&mut BytesMut),
        id: impl FnOnce() -> Result<u64, CallError>,
    ) -> Result<u64, CallError> {
        self.open = None;
        let start =
            frame::append(&mut self.frames, kind, 0, write).map_err(|_| CallError::TooLarge)?;
        match id() {
            Ok(id) => {
                frame::set_id(&mut self.frames, start, id);
                Ok(id)
            }
            Err(error) => {
                self.frames.truncate(start);
                Err(error)
            }
        }
    }
}

fn wake(sleeper: Option<Waker>) {
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the payloads of all frames that are queued.
    fn taken(outbox: &Outbox) -> Vec<usize> {
        let mut batch = BytesMut::new();
        let mut context = Context::from_waker(Waker::noop());
        let _ = outbox.poll_take(&mut context, &mut batch);
        let mut lengths = Vec::new();
        let mut rest = &batch[..];
        while let Some(field) = rest.first_chunk::<4>() {
            let length = u32::from_le_bytes(*field) as usize + 4;
            lengths.push(length - frame::OVERHEAD);
            rest = &rest[length..];
        }
        lengths
    }

    /// Aim: pieces share a frame up to its bound, as long as nothing else comes between and nobody has taken it.
    #[test]
    fn pieces_share_a_frame() {
        let outbox = Outbox::default();
        let put = |bytes: usize| move |frame: &mut BytesMut| frame.resize(frame.len() + bytes, 0);
        let push = |bytes| outbox.push_piece(Kind::Publish, put(bytes));
        assert_eq!(push(1), Err(CallError::NotConnected));
        outbox.open();
        for bytes in 1..=3 {
            assert_eq!(push(bytes), Ok(()));
        }
        let whole = outbox.push(Kind::Ask, put(10), || Ok(7));
        assert_eq!(whole, Ok(7));
        assert_eq!(push(4), Ok(()));
        assert_eq!(outbox.push_piece(Kind::Ask, put(5)), Ok(()));
        assert_eq!(taken(&outbox), [6, 10, 4, 5]);
        assert_eq!(push(5), Ok(()));
        assert_eq!(push(SHARED_FRAME_MAX), Ok(()));
        assert_eq!(push(6), Ok(()));
        assert_eq!(taken(&outbox), [5 + SHARED_FRAME_MAX, 6]);
        assert_eq!(push(7), Ok(()));
        outbox.shut();
        outbox.open();
        assert_eq!(push(8), Ok(()));
        assert_eq!(taken(&outbox), [8]);
    }
}
