//! Who waits for which key (BLPOP and its kin).
//!
//! A blocking command tries; when it finds nothing, a [`Waiter`] joins the queues of its keys while their partitions are
//! still locked, so that no addition falls between. Whoever makes a key ready notes it (`Effects::ready`), and after it has
//! released its locks runs the waiters' own handlers for them, in the order in which they came, until one finds nothing.
//!
//! A waiter is claimed before its command is run for it: by one server at a time, and never after its client has left, has
//! timed out or was unblocked. Who finds a waiter claimed asks the claimer to look once more, so that no addition is missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::base::clock::Millis;
use crate::data::value::Type;
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::{Output, Protocol, Reply};

/// How the handler of a blocking command ends.
#[derive(Debug)]
pub enum Outcome {
    /// With a reply.
    Served,
    /// There is nothing yet.
    Wait(Wait),
}

/// What a blocked command waits for.
#[derive(Debug)]
pub struct Wait {
    /// The keys in the order of the arguments, and the request that is run when that key becomes ready: the client's own,
    /// narrowed to that key.
    pub keys: Vec<(Vec<u8>, OwnedArguments)>,
    /// The type that serves it; a key of another type does not make it ready.
    pub kind: Type,
    /// When it gives up; `None` is never.
    pub until: Option<Millis>,
    /// The reply when it gives up.
    pub nothing: Nothing,
    /// Whether others may still be served when it is not: readers of a stream wait for different entries, while what one
    /// consumer of a list does not find no other finds either.
    pub is_reader: bool,
    /// Whether a removal of the key is an answer too (XREADGROUP).
    pub minds_removal: bool,
}

/// The reply of a command that waited in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// `$-1`.
    Null,
    /// `*-1`.
    NullArray,
}

impl Nothing {
    /// Writes it where the command may not wait, as in a transaction.
    pub fn write_at_once(self, reply: &mut Reply<'_>) {
        match self {
            Nothing::Null => reply.null(),
            Nothing::NullArray => reply.null_array(),
        }
    }

    /// Writes it when the wait was in vain: Redis answers each of them with a null array then.
    pub fn write(self, reply: &mut Reply<'_>) {
        reply.null_array();
    }
}

/// How a wait ended without being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Its time was over, or CLIENT UNBLOCK said so.
    Timeout,
    /// CLIENT UNBLOCK .. ERROR.
    Unblocked,
    /// Its client is gone.
    Gone,
    /// A key that it waits for goes to another node: the command is to be run again, wherever that is.
    Moved,
}

/// A client that waits.
#[derive(Debug)]
pub struct Waiter {
    /// The database of the client, by its number.
    pub database: u32,
    /// What it speaks.
    pub protocol: Protocol,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// The client's id: the changes that it makes when it is served are its own.
    pub client: u64,
    /// The same if it tracks what it reads, else 0.
    pub reader: u64,
    /// What it waits for.
    pub wait: Wait,
    /// Place in all its queues. Written once by [`Waiting::add`].
    ticket: AtomicUsize,
    /// A leaf lock.
    state: Mutex<(State, Option<Waker>)>,
}

#[derive(Debug)]
enum State {
    Waiting,
    /// Somebody runs its command. `again`: a key became ready meanwhile.
    Claimed {
        again: bool,
        /// Its wait is over if it is not served now.
        moved: bool,
    },
    Served(Output),
    Cancelled(Cancel),
    /// The end was taken by the client.
    Over,
}

/// What became of an attempt to serve a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the caller's to serve.
    Mine,
    /// Somebody else is serving it, and will look again.
    Busy,
    /// It does not wait any more.
    Over,
}

impl Waiter {
    /// A waiter that is in no queue yet.
    pub fn new(database: u32, protocol: Protocol, no_touch: bool, wait: Wait) -> Waiter {
        Waiter {
            database,
            protocol,
            no_touch,
            client: 0,
            reader: 0,
            wait,
            ticket: AtomicUsize::new(0),
            state: Mutex::new((State::Waiting, None)),
        }
    }

    /// For whom it is, by its id, and the same if it tracks what it reads.
    pub fn of_client(self, client: u64, reader: u64) -> Waiter {
        Waiter {
            client,
            reader,
            ..self
        }
    }

    /// The request that serves it from a key.
    pub fn request_for(&self, key: &[u8]) -> Option<&OwnedArguments> {
        let mut keys = self.wait.keys.iter();
        keys.find(|(its_key, _)| its_key == key)
            .map(|(_, request)| request)
    }

    /// Where it stands in its queues.
    pub fn ticket(&self) -> usize {
        self.ticket.load(Ordering::Relaxed)
    }

    /// Claims it, to run its command.
    pub fn claim(&self) -> Claim {
        let (state, _) = &mut *self.state.lock();
        match state {
            State::Waiting => {
                *state = State::Claimed {
                    again: false,
                    moved: false,
                };
                Claim::Mine
            }
            State::Claimed { again, .. } => {
                *again = true;
                Claim::Busy
            }
            State::Served(_) | State::Cancelled(_) | State::Over => Claim::Over,
        }
    }

    /// Lets it wait on. `false` when a key became ready since the claim: the caller still has it, and tries again.
    pub fn release(&self) -> bool {
        let waker = {
            let (state, waker) = &mut *self.state.lock();
            *state = match state {
                State::Claimed { moved: true, .. } => State::Cancelled(Cancel::Moved),
                State::Claimed { again: true, .. } => {
                    *state = State::Claimed {
                        again: false,
                        moved: false,
                    };
                    return false;
                }
                _ => State::Waiting,
            };
            waker.take()
        };
        // Its time may have been over meanwhile.
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Leaves it its reply.
    pub fn serve(&self, reply: Output) {
        self.end(State::Served(reply), |state| {
            matches!(state, State::Claimed { .. })
        });
    }

    /// Ends the wait, unless it is being served. Whether it ended by this.
    pub fn cancel(&self, why: Cancel) -> bool {
        self.end(State::Cancelled(why), |state| {
            matches!(state, State::Waiting)
        })
    }

    /// Ends the wait since a key of it goes elsewhere: at once, or when who serves it finds nothing.
    pub fn send_away(&self) {
        if let (State::Claimed { moved, .. }, _) = &mut *self.state.lock() {
            *moved = true;
            return;
        }
        self.cancel(Cancel::Moved);
    }

    /// The end of the wait, once; until then `waker` is told when it comes.
    pub fn poll(&self, waker: &Waker) -> Option<Result<Output, Cancel>> {
        let (state, known) = &mut *self.state.lock();
        match std::mem::replace(state, State::Over) {
            State::Served(output) => Some(Ok(output)),
            State::Cancelled(why) => Some(Err(why)),
            before => {
                *state = before;
                if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    *known = Some(waker.clone());
                }
                None
            }
        }
    }

    fn end(&self, end: State, may_end: impl FnOnce(&State) -> bool) -> bool {
        let waker = {
            let (state, waker) = &mut *self.state.lock();
            if !may_end(state) {
                return false;
            }
            *state = end;
            waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

type Queue = BTreeMap<usize, Arc<Waiter>>;

/// The queues of a keyspace.
#[derive(Debug, Default)]
pub struct Waiting {
    /// How many waiters there are. Written with the partitions of their keys locked, and read so: relaxed.
    count: AtomicUsize,
    tickets: AtomicUsize,
    /// A leaf lock.
    queues: Mutex<HashMap<(u32, Vec<u8>), Queue>>,
}

impl Waiting {
    /// Whether anybody waits.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Puts a waiter at the end of the queues of its keys. Called with their partitions locked.
    pub fn add(&self, waiter: &Arc<Waiter>) {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        waiter.ticket.store(ticket, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut queues = self.queues.lock();
        for (key, _) in &waiter.wait.keys {
            queues
                .entry((waiter.database, key.clone()))
                .or_default()
                .insert(ticket, Arc::clone(waiter));
        }
    }

    /// Takes a waiter out of its queues.
    pub fn remove(&self, waiter: &Waiter) {
        let mut was_there = false;
        let mut queues = self.queues.lock();
        for (key, _) in &waiter.wait.keys {
            let place = (waiter.database, key.clone());
            if let Some(queue) = queues.get_mut(&place) {
                was_there |= queue.remove(&waiter.ticket()).is_some();
                if queue.is_empty() {
                    queues.remove(&place);
                }
            }
        }
        if was_there {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The first who waits for a key with a ticket of at least `from`.
    pub fn next(&self, database: u32, key: &[u8], from: usize) -> Option<Arc<Waiter>> {
        let queues = self.queues.lock();
        let queue = queues.get(&(database, key.to_vec()))?;
        queue
            .range(from..)
            .next()
            .map(|(_, waiter)| Arc::clone(waiter))
    }

    /// Sends away who waits for one of the keys that `leaves` says. Nobody begins to wait for one of them any more.
    pub fn send_away(&self, leaves: impl Fn(u32, &[u8]) -> bool) {
        let mut leaving = Vec::new();
        for ((database, key), queue) in &*self.queues.lock() {
            if leaves(*database, key) {
                leaving.extend(queue.values().cloned());
            }
        }
        leaving.iter().for_each(|waiter| waiter.send_away());
    }

    /// The keys of a database that somebody waits for.
    pub fn keys_of(&self, database: u32) -> Vec<Vec<u8>> {
        let queues = self.queues.lock();
        let mut keys: Vec<_> = queues
            .iter()
            .filter(|((its_database, _), _)| *its_database == database)
            .filter_map(|((_, key), queue)| Some((queue.keys().next()?, key)))
            .collect();
        // Who came first is served first.
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(keys: &[&str]) -> Arc<Waiter> {
        let request = OwnedArguments::from(&["BLPOP"][..]);
        let wait = Wait {
            keys: keys
                .iter()
                .map(|key| (key.as_bytes().to_vec(), request.clone()))
                .collect(),
            kind: Type::List,
            until: None,
            nothing: Nothing::NullArray,
            is_reader: false,
            minds_removal: false,
        };
        Arc::new(Waiter::new(0, Protocol::Resp2, false, wait))
    }

    #[test]
    fn queues_are_in_the_order_of_coming() {
        let waiting = Waiting::default();
        let (first, second, third) = (waiter(&["a", "b"]), waiter(&["b"]), waiter(&["b", "b"]));
        assert!(!waiting.any());
        for waiter in [&first, &second, &third] {
            waiting.add(waiter);
        }
        let queue = |key: &str| {
            let mut tickets = Vec::new();
            while let Some(next) =
                waiting.next(0, key.as_bytes(), tickets.last().map_or(0, |last| last + 1))
            {
                tickets.push(next.ticket());
            }
            tickets
        };
        assert_eq!((queue("a"), queue("b")), (vec![0], vec![0, 1, 2]));
        assert!(waiting.next(1, b"b", 0).is_none());
        assert_eq!(waiting.keys_of(0), [b"a", b"b"]);
        waiting.remove(&first);
        waiting.remove(&third);
        waiting.remove(&third);
        assert_eq!((queue("a"), queue("b")), (vec![], vec![1]));
        assert_eq!(
            (waiting.any(), waiting.keys_of(0)),
            (true, vec![b"b".to_vec()])
        );
        waiting.remove(&second);
        assert!(!waiting.any() && waiting.queues.lock().is_empty());
    }

    #[test]
    fn a_waiter_ends_once() {
        let one = waiter(&["a"]);
        assert!(one.poll(Waker::noop()).is_none());
        assert_eq!(one.claim(), Claim::Mine);
        assert!(!one.cancel(Cancel::Timeout), "it is being served");
        assert!(one.release());
        assert!(one.cancel(Cancel::Timeout));
        assert!(!one.cancel(Cancel::Unblocked));
        assert_eq!(one.claim(), Claim::Over);
        assert_eq!(
            one.poll(Waker::noop()).map(Result::err),
            Some(Some(Cancel::Timeout))
        );
        assert!(one.poll(Waker::noop()).is_none(), "its end was taken");
        let served = waiter(&["a"]);
        assert_eq!(served.claim(), Claim::Mine);
        served.serve(Output::new());
        assert_eq!(
            (served.claim(), served.cancel(Cancel::Gone)),
            (Claim::Over, false)
        );
        assert!(served.poll(Waker::noop()).is_some_and(|end| end.is_ok()));
    }

    /// Who waits for a key that goes elsewhere is told so once, and not before who serves it has looked.
    #[test]
    fn who_waits_for_a_key_that_leaves_is_sent_away() {
        let waiting = Waiting::default();
        let (leaving, staying, claimed) = (waiter(&["a", "b"]), waiter(&["c"]), waiter(&["b"]));
        for waiter in [&leaving, &staying, &claimed] {
            waiting.add(waiter);
        }
        assert_eq!(claimed.claim(), Claim::Mine);
        waiting.send_away(|database, key| database == 0 && key == b"b");
        let end = |waiter: &Waiter| waiter.poll(Waker::noop()).and_then(Result::err);
        assert_eq!((end(&leaving), end(&staying)), (Some(Cancel::Moved), None));
        assert_eq!(end(&claimed), None, "it may be served yet");
        assert_eq!(claimed.claim(), Claim::Busy);
        assert!(claimed.release(), "whoever has it does not look again");
        assert_eq!(end(&claimed), Some(Cancel::Moved));
        let served = waiter(&["b"]);
        waiting.add(&served);
        assert_eq!(served.claim(), Claim::Mine);
        waiting.send_away(|_, key| key == b"b");
        served.serve(Output::new());
        assert!(served.poll(Waker::noop()).is_some_and(|end| end.is_ok()));
    }

    /// A key that becomes ready while somebody looks for a waiter is looked at again by the same.
    #[test]
    fn a_claim_is_not_missed() {
        let one = waiter(&["a"]);
        assert_eq!(one.claim(), Claim::Mine);
        assert_eq!(one.claim(), Claim::Busy);
        assert!(!one.release(), "once more");
        assert!(one.release());
        assert_eq!(one.claim(), Claim::Mine);
    }
}
