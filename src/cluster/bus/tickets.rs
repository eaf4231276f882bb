//! The calls of a link that wait for their answers: places in a vector, found by their number.
//!
//! An id is the place (low half) and how often it was taken (high half, from 1): an answer that comes after its call was given
//! up finds a place of another turn, and is dropped. No id is 0.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{CallError, TICKETS_MAX};
use crate::base::wakers::remember;

/// All calls of one link.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    places: Vec<Place>,
    /// The first free place.
    free: Option<u32>,
    /// Places that are not free.
    taken: usize,
}

#[derive(Debug)]
struct Place {
    turn: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// With the next free place.
    Free(Option<u32>),
    /// With the task to be woken.
    Waiting(Option<Waker>),
    Answered(Bytes),
    Broken,
}

impl Tickets {
    /// A new call's id.
    pub(super) fn insert(&mut self) -> Result<u64, CallError> {
        let index = match self.free {
            Some(index) => index,
            None if self.places.len() >= TICKETS_MAX => return Err(CallError::Full),
            None => {
                self.places.push(Place {
                    turn: 0,
                    state: State::Free(None),
                });
                (self.places.len() - 1) as u32
            }
        };
        let place = &mut self.places[index as usize];
        let State::Free(next) = place.state else {
            unreachable!("the free list holds free places only");
        };
        self.free = next;
        self.taken += 1;
        place.turn = place.turn.wrapping_add(1).max(1);
        place.state = State::Waiting(None);
        Ok(u64::from(place.turn) << 32 | u64::from(index))
    }

    fn place(&mut self, id: u64) -> Option<(u32, &mut Place)> {
        let index = id as u32;
        let place = self.places.get_mut(index as usize)?;
        let is_it = place.turn == (id >> 32) as u32 && !matches!(place.state, State::Free(_));
        is_it.then_some((index, place))
    }

    /// Whether somebody waits for this answer.
    pub(super) fn is_waited_for(&mut self, id: u64) -> bool {
        let place = self.place(id);
        place.is_some_and(|(_, place)| matches!(place.state, State::Waiting(_)))
    }

    /// The answer came. Returns whom to wake, after the lock is released.
    pub(super) fn answer(&mut self, id: u64, payload: Bytes) -> Option<Waker> {
        let (_, place) = self.place(id)?;
        let State::Waiting(waker) = &mut place.state else {
            return None;
        };
        let waker = waker.take();
        place.state = State::Answered(payload);
        waker
    }

    /// No answer will come to any of them. Returns whom to wake, after the lock is released.
    pub(super) fn fail_all(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        for place in &mut self.places {
            if let State::Waiting(waker) = &mut place.state {
                woken.extend(waker.take());
                place.state = State::Broken;
            }
        }
        woken
    }

    /// Whether the answer is there; if so, the id means nothing from now on.
    pub(super) fn poll(&mut self, id: u64, cx: &mut Context<'_>) -> Poll<Result<Bytes, CallError>> {
        let Some((index, place)) = self.place(id) else {
            return Poll::Ready(Err(CallError::Broken));
        };
        if let State::Waiting(waker) = &mut place.state {
            remember(waker, cx);
            return Poll::Pending;
        }
        Poll::Ready(match self.release(index) {
            State::Answered(payload) => Ok(payload),
            _ => Err(CallError::Broken),
        })
    }

    /// Nobody waits any more. Says whether the other side may still be at it.
    pub(super) fn abandon(&mut self, id: u64) -> bool {
        let Some((index, _)) = self.place(id) else {
            return false;
        };
        matches!(self.release(index), State::Waiting(_))
    }

    fn release(&mut self, index: u32) -> State {
        let place = &mut self.places[index as usize];
        let state = std::mem::replace(&mut place.state, State::Free(self.free));
        self.free = Some(index);
        self.taken -= 1;
        state
    }

    /// How many there are, answered ones that nobody has taken included.
    pub(super) fn len(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(tickets: &mut Tickets, id: u64, woken: &Arc<Woken>) -> Poll<Result<Bytes, CallError>> {
        let waker = Waker::from(Arc::clone(woken));
        tickets.poll(id, &mut Context::from_waker(&waker))
    }

    #[test]
    fn an_answer_wakes_who_waits_and_frees_the_place() {
        let (mut tickets, woken) = (Tickets::default(), Arc::new(Woken::default()));
        let id = tickets.insert().expect("there is room");
        assert_ne!(id, 0);
        assert_eq!(poll(&mut tickets, id, &woken), Poll::Pending);
        tickets
            .answer(id, Bytes::from("yes"))
            .expect("it waits")
            .wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        // Twice is once.
        assert!(tickets.answer(id, Bytes::from("no")).is_none());
        assert_eq!(
            poll(&mut tickets, id, &woken),
            Poll::Ready(Ok(Bytes::from("yes")))
        );
        assert_eq!(tickets.len(), 0);
        assert_eq!(
            poll(&mut tickets, id, &woken),
            Poll::Ready(Err(CallError::Broken))
        );
    }

    #[test]
    fn a_place_that_is_used_again_has_another_id() {
        let mut tickets = Tickets::default();
        let first = tickets.insert().expect("there is room");
        assert!(tickets.abandon(first));
        let second = tickets.insert().expect("there is room");
        assert_eq!(first as u32, second as u32);
        assert_ne!(first, second);
        assert!(tickets.answer(first, Bytes::new()).is_none());
        assert!(!tickets.abandon(first));
        assert_eq!(tickets.len(), 1);
        // The turn wraps around, and skips 0, so that no id is ever 0.
        tickets.places[0].turn = u32::MAX;
        assert!(tickets.abandon(u64::from(u32::MAX) << 32));
        assert_eq!(tickets.insert(), Ok(1 << 32));
    }

    #[test]
    fn who_is_abandoned_or_unknown_is_not_answered() {
        let mut tickets = Tickets::default();
        for id in [0, 1, u64::MAX, 1 << 32] {
            assert!(tickets.answer(id, Bytes::new()).is_none());
            assert!(!tickets.abandon(id));
        }
    }

    #[test]
    fn breaking_fails_those_who_wait_and_no_other() {
        let (mut tickets, woken) = (Tickets::default(), Arc::new(Woken::default()));
        let [answered, waiting, unpolled] =
            [(); 3].map(|()| tickets.insert().expect("there is room"));
        tickets.answer(answered, Bytes::from("yes"));
        assert_eq!(poll(&mut tickets, waiting, &woken), Poll::Pending);
        assert_eq!(tickets.fail_all().len(), 1);
        assert_eq!(
            poll(&mut tickets, answered, &woken),
            Poll::Ready(Ok(Bytes::from("yes")))
        );
        for id in [waiting, unpolled] {
            assert_eq!(
                poll(&mut tickets, id, &woken),
                Poll::Ready(Err(CallError::Broken))
            );
        }
        assert_eq!(tickets.len(), 0);
    }

    #[test]
    fn there_is_a_bound() {
        let mut tickets = Tickets::default();
        let ids: Vec<u64> = (0..TICKETS_MAX)
            .map(|_| tickets.insert().expect("there is room"))
            .collect();
        assert_eq!(tickets.insert(), Err(CallError::Full));
        assert!(tickets.abandon(ids[77]));
        assert_eq!(tickets.insert().map(|id| id as u32), Ok(77));
    }
}
