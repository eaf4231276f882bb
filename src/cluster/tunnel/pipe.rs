//! What has come through a tunnel and was not taken yet, and how much may be sent: shared by the task that reads the link and
//! the one that uses the tunnel, at each of its ends.
//!
//! Each side may have [`WINDOW_BYTES`] on their way to the other, which gives credit for what it has taken. So neither fills
//! the other's memory, nor the link that they share with others; what a client does not read waits at the owner.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::base::wakers::remember;

/// Bytes of a tunnel on their way in each direction.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes in one frame: others' frames come between.
pub const PIECE_BYTES: usize = 64 * 1024;

/// One end of a tunnel.
#[derive(Debug, Default)]
pub struct Pipe {
    /// A leaf lock.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    incoming: BytesMut,
    /// Bytes that came and that no credit was given for yet; at most the window.
    owed: usize,
    /// Bytes that may be sent.
    credit: usize,
    is_over: bool,
    /// The other side has said that the client waits for a key.
    waits: bool,
    /// Who asked the other side to end that wait, in the order of the questions.
    asked: VecDeque<oneshot::Sender<bool>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Default for State {
    fn default() -> State {
        State {
            incoming: BytesMut::new(),
            owed: 0,
            credit: WINDOW_BYTES,
            is_over: false,
            waits: false,
            asked: VecDeque::new(),
            reader: None,
            writer: None,
        }
    }
}

impl State {
    fn poll_credit(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.credit > 0 {
            return Poll::Ready(Some(self.credit));
        }
        remember(&mut self.writer, context);
        Poll::Pending
    }
}

/// The other side sent more than it had credit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// What there is for who uses a tunnel.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    /// Bytes, in the order in which they were sent.
    Bytes(BytesMut),
    /// The client waits for a key from here on. Said once, and before the bytes that came behind it.
    Waits,
    /// Nothing more will come.
    End,
}

impl Pipe {
    /// Bytes have come.
    pub fn receive(&self, bytes: &[u8]) -> Result<(), Overrun> {
        self.change(|state| {
            if bytes.len() > WINDOW_BYTES - state.owed {
                return Err(Overrun);
            }
            state.owed += bytes.len();
            state.incoming.extend_from_slice(bytes);
            Ok(())
        })
    }

    /// So many more bytes may be sent.
    pub fn receive_credit(&self, bytes: usize) -> Result<(), Overrun> {
        let waker = {
            let mut state = self.state.lock();
            if bytes > WINDOW_BYTES - state.credit {
                return Err(Overrun);
            }
            state.credit += bytes;
            state.writer.take()
        };
        wake(waker);
        Ok(())
    }

    /// The client waits for a key.
    pub fn receive_waits(&self) {
        self.change(|state| state.waits = true);
    }

    /// The other side has answered the oldest question: whether it has ended the client's wait.
    pub fn receive_unblocked(&self, is_unblocked: bool) {
        let asked = self.state.lock().asked.pop_front();
        if let Some(asked) = asked {
            // Who asked may be gone.
            let _ = asked.send(is_unblocked);
        }
    }

    /// Somebody asks the other side to end the client's wait: sends the question by `send`, which must not fail once it has
    /// been sent. What comes of it.
    pub fn ask<E>(
        &self,
        send: impl FnOnce() -> Result<(), E>,
    ) -> Result<oneshot::Receiver<bool>, E> {
        // Sent under the lock: the answers come in the order of the questions.
        let mut state = self.state.lock();
        send()?;
        let (asked, answer) = oneshot::channel();
        if !state.is_over {
            state.asked.push_back(asked);
        }
        Ok(answer)
    }

    /// Nothing more comes, and nothing can be sent.
    pub fn end(&self) {
        let (writer, asked) = self.change(|state| {
            state.is_over = true;
            (state.writer.take(), std::mem::take(&mut state.asked))
        });
        wake(writer);
        drop(asked);
    }

    /// The next thing that came.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Came> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.waits) {
            return Poll::Ready(Came::Waits);
        }
        if !state.incoming.is_empty() {
            return Poll::Ready(Came::Bytes(state.incoming.split()));
        }
        if state.is_over {
            return Poll::Ready(Came::End);
        }
        remember(&mut state.reader, context);
        Poll::Pending
    }

    /// So many bytes were taken for good. The credit that the other side should be given now, if any: not for each few.
    pub fn took(&self, bytes: usize, taken: &mut usize) -> Option<usize> {
        *taken += bytes;
        if *taken < WINDOW_BYTES / 2 {
            return None;
        }
        let credit = std::mem::take(taken);
        self.state.lock().owed -= credit;
        Some(credit)
    }

    /// How many bytes may be sent, one at least; `None` at the end.
    pub fn poll_credit(&self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        self.state.lock().poll_credit(context)
    }

    /// Takes credit for bytes that are about to be sent, `most` of them at most; `None` at the end. It is taken before they are
    /// sent: the other side may give it back before whoever sends them runs on.
    pub fn poll_spend(&self, context: &mut Context<'_>, most: usize) -> Poll<Option<usize>> {
        let mut state = self.state.lock();
        let credit = ready!(state.poll_credit(context));
        Poll::Ready(credit.map(|credit| {
            let bytes = credit.min(most);
            state.credit -= bytes;
            bytes
        }))
    }

    /// As [`Pipe::poll_credit`].
    pub async fn credit(&self) -> Option<usize> {
        poll_fn(|context| self.poll_credit(context)).await
    }

    /// So many bytes, at most the credit, are about to be sent: see [`Pipe::poll_spend`].
    pub fn spend(&self, bytes: usize) {
        let mut state = self.state.lock();
        debug_assert!(bytes <= state.credit);
        state.credit = state.credit.saturating_sub(bytes);
    }

    /// Changes what the reader waits for, and wakes it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (done, waker) = {
            let mut state = self.state.lock();
            let done = change(&mut state);
            (done, state.reader.take())
        };
        wake(waker);
        done
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(pipe: &Pipe) -> Poll<Came> {
        pipe.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Aim: a sender without credit is caught, and credit comes back for what was taken, in large parts.
    #[test]
    fn a_window_is_kept() {
        let pipe = Pipe::default();
        let half = vec![7; WINDOW_BYTES / 2];
        assert_eq!(pipe.receive(&half), Ok(()));
        assert_eq!(pipe.receive(&half), Ok(()));
        assert_eq!(pipe.receive(b"x"), Err(Overrun));
        let Poll::Ready(Came::Bytes(bytes)) = poll(&pipe) else {
            panic!("bytes have come");
        };
        assert_eq!(bytes.len(), WINDOW_BYTES);
        assert_eq!(pipe.receive(b"x"), Err(Overrun));
        let mut taken = 0;
        assert_eq!(pipe.took(100, &mut taken), None);
        let most = WINDOW_BYTES - 100;
        assert_eq!(pipe.took(most, &mut taken), Some(WINDOW_BYTES));
        assert_eq!(pipe.receive(b"x"), Ok(()));
    }

    /// Aim: what was spent is the other side's to give back, and no more than that.
    #[test]
    fn credit_is_what_was_spent() {
        let pipe = Pipe::default();
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(
            pipe.poll_credit(&mut context),
            Poll::Ready(Some(WINDOW_BYTES))
        );
        assert_eq!(pipe.receive_credit(1), Err(Overrun));
        pipe.spend(WINDOW_BYTES);
        assert_eq!(pipe.poll_credit(&mut context), Poll::Pending);
        assert_eq!(pipe.receive_credit(10), Ok(()));
        assert_eq!(pipe.poll_credit(&mut context), Poll::Ready(Some(10)));
        pipe.end();
        assert_eq!(pipe.poll_credit(&mut context), Poll::Ready(None));
    }

    /// Aim: questions are answered in their order; at the end nobody waits for an answer.
    #[test]
    fn questions_have_answers() {
        let pipe = Pipe::default();
        let sent = || Ok::<_, ()>(());
        let mut one = pipe.ask(sent).expect("it was sent");
        let mut two = pipe.ask(sent).expect("it was sent");
        let mut three = pipe.ask(sent).expect("it was sent");
        assert!(pipe.ask(|| Err(())).is_err());
        pipe.receive_unblocked(true);
        pipe.receive_unblocked(false);
        assert_eq!((one.try_recv(), two.try_recv()), (Ok(true), Ok(false)));
        assert!(three.try_recv().is_err());
        pipe.receive_waits();
        pipe.receive(b"+OK\r\n").expect("there is room");
        pipe.end();
        assert_eq!(poll(&pipe), Poll::Ready(Came::Waits));
        assert_eq!(
            poll(&pipe),
            Poll::Ready(Came::Bytes(BytesMut::from("+OK\r\n")))
        );
        assert_eq!(poll(&pipe), Poll::Ready(Came::End));
        let closed = Err(oneshot::error::TryRecvError::Closed);
        assert_eq!(three.try_recv(), closed);
        let mut late = pipe.ask(sent).expect("it was sent");
        assert_eq!(late.try_recv(), closed);
    }

    #[test]
    fn credit_that_comes_back_at_once_is_no_overrun() {
        // Found by a test of long values: a busy client's thread took the credit after it had sent the bytes, and by then the
        // other side had given it back: the tunnel was closed, and its client told that the owner was lost.
        let pipe = Pipe::default();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let spent = pipe.poll_spend(&mut context, WINDOW_BYTES / 2);
            assert_eq!(spent, Poll::Ready(Some(WINDOW_BYTES / 2)));
            assert_eq!(pipe.receive_credit(WINDOW_BYTES / 2), Ok(()));
        }
        let all = pipe.poll_spend(&mut context, usize::MAX);
        assert_eq!(all, Poll::Ready(Some(WINDOW_BYTES)));
        assert_eq!(pipe.poll_spend(&mut context, 1), Poll::Pending);
        pipe.end();
        assert_eq!(pipe.poll_spend(&mut context, 1), Poll::Ready(None));
    }
}
