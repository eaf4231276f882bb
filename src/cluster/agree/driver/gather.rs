//! Puts changes that are asked for within a short time into one entry of the log.
//!
//! Each entry goes to every node, and each new map is looked at by every node: changes that come one by one when many nodes
//! start at once would cost a message for each pair of them. So the leader has at most one entry of changes under way, and the next
//! one waits until that is done and [`Times::pace`] is over: a change that comes alone goes at once, and of many that come one
//! after the other some go together. Nodes that join are besides kept waiting for a short time, since others start when they do;
//! for whatever else is asked for somebody may hold slots, or wait for those of a dead node.
//!
//! What is in one entry is made in the order of [`Cause`]. That is one of the orders in which they could have been asked for: none
//! of them waited for another.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::machine::Cause;
#[cfg(doc)]
use super::super::member::Times;
use super::super::types::{Asked, Command, Outcome};
use super::Driver;
use crate::cluster::map::Change;

/// Changes in one entry. More wait for the next one.
const MOST_TOGETHER: usize = 1024;
/// Slots that are handed over in one entry: many entries go in one message, whose length is bounded.
const MOST_SLOTS: usize = 1 << 16;
/// Changes that wait. More are not taken: who asks for them asks again.
const MOST_WAITING: usize = 8192;

/// What became of a change: the index of its entry, and what it did. An error when nobody can tell.
pub type Written = oneshot::Receiver<(u64, Outcome)>;

/// Changes that wait for the next entry.
#[derive(Debug, Default)]
pub struct Gathering {
    waiting: Mutex<Queue>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    urgent: Vec<Waiting>,
    patient: Vec<Waiting>,
    /// Until when all of `patient` can wait.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    asked: Asked,
    done: oneshot::Sender<(u64, Outcome)>,
}

impl Gathering {
    /// Has a change made, which can wait for so long.
    pub fn add(&self, asked: Asked, patience: Duration) -> Written {
        let (done, written) = oneshot::channel();
        let waiting = Waiting { asked, done };
        let mut queue = self.waiting.lock();
        if queue.urgent.len() + queue.patient.len() >= MOST_WAITING {
            return written;
        }
        if patience.is_zero() {
            queue.urgent.push(waiting);
        } else {
            let due = Instant::now() + patience;
            queue.due = Some(queue.due.map_or(due, |other| other.min(due)));
            queue.patient.push(waiting);
        }
        drop(queue);
        self.news.notify_one();
        written
    }

    /// What goes into the next entry: waits until there is something.
    async fn next(&self) -> Vec<Waiting> {
        loop {
            let due = {
                let mut queue = self.waiting.lock();
                let together = queue.take(Instant::now());
                if !together.is_empty() {
                    return together;
                }
                queue.due
            };
            match due {
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.news.notified() => {}
                },
                None => self.news.notified().await,
            }
        }
    }
}

impl Queue {
    fn take(&mut self, now: Instant) -> Vec<Waiting> {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.urgent.append(&mut self.patient);
        }
        let mut slots = 0;
        let fits = |waiting: &&Waiting| {
            if let Change::Moved { slots: given, .. } = &waiting.asked.change {
                slots += given.len();
            }
            slots <= MOST_SLOTS
        };
        let first = self.urgent.iter().take(MOST_TOGETHER).take_while(fits);
        // One fits in any case, or it would wait for ever.
        let count = first.count().max(1).min(self.urgent.len());
        let mut together: Vec<Waiting> = self.urgent.drain(..count).collect();
        // Stable: what one node asked for stays in its order.
        together.sort_by_key(|waiting| Cause::of(&waiting.asked.change));
        together
    }
}

impl Driver {
    /// A task: writes the entries, one after the other. See the file.
    pub(super) async fn write(self: Arc<Self>) {
        let mut paced = Instant::now();
        loop {
            sleep_until(paced).await;
            let together = self.gathering.next().await;
            paced = Instant::now() + self.times.pace();
            // Nobody waits for longer than that.
            let _ = timeout(self.times.proposal(), self.write_once(together)).await;
        }
    }

    /// Whoever waits hears of it when it was made; else only that nobody can tell.
    async fn write_once(&self, together: Vec<Waiting>) {
        if self.map().epoch == 0 {
            let pins = self.options.pins.clone();
            if self.raft.client_write(Command::Found(pins)).await.is_err() {
                return;
            }
        }
        let (changes, done): (Vec<Asked>, Vec<_>) = together
            .into_iter()
            .map(|waiting| (waiting.asked, waiting.done))
            .unzip();
        match self.raft.client_write(Command::Changes(changes)).await {
            Ok(written) => {
                for (done, outcome) in done.into_iter().zip(written.data) {
                    // Who asked may be gone.
                    let _ = done.send((written.log_id.index, outcome));
                }
            }
            Err(error) => tracing::debug!(%error, "cluster: changes were not written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::types::Origin;
    use super::*;
    use crate::cluster::node::NodeId;

    fn asked(number: u64, change: Change) -> Asked {
        Asked {
            origin: Origin {
                node: NodeId([1; 20]),
                incarnation: 1,
                number,
                floor: 1,
            },
            change,
            finder: None,
        }
    }

    fn weight(number: u64) -> Asked {
        asked(number, Change::Weight(NodeId([2; 20]), 1))
    }

    fn numbers(together: &[Waiting]) -> Vec<u64> {
        let of = |waiting: &Waiting| waiting.asked.origin.number;
        together.iter().map(of).collect()
    }

    #[test]
    fn who_can_wait_waits_and_the_others_do_not() {
        let gathering = Gathering::default();
        let now = Instant::now();
        let patience = Duration::from_secs(100);
        let _waiting = [
            gathering.add(weight(1), patience),
            gathering.add(weight(2), Duration::ZERO),
            gathering.add(weight(3), patience * 2),
        ];
        let mut queue = gathering.waiting.lock();
        assert_eq!(numbers(&queue.take(now)), [2]);
        assert_eq!(numbers(&queue.take(now)), [0; 0]);
        // All go with the first whose time is over.
        assert_eq!(numbers(&queue.take(now + patience * 3 / 2)), [1, 3]);
        assert_eq!(queue.due, None);
    }

    #[test]
    fn what_was_lost_or_handed_over_comes_before_what_moves_slots_elsewhere() {
        let gathering = Gathering::default();
        let moved = |slots| Change::Moved {
            slots,
            from: NodeId([1; 20]),
            to: NodeId([2; 20]),
        };
        let _waiting = [
            gathering.add(weight(1), Duration::ZERO),
            gathering.add(asked(2, moved(vec![1])), Duration::ZERO),
            gathering.add(asked(3, Change::Failed(NodeId([3; 20]), 1)), Duration::ZERO),
            gathering.add(weight(4), Duration::ZERO),
            gathering.add(asked(5, moved(vec![2])), Duration::ZERO),
        ];
        let together = gathering.waiting.lock().take(Instant::now());
        assert_eq!(numbers(&together), [3, 2, 5, 1, 4]);
    }

    #[test]
    fn an_entry_is_bounded_and_so_is_what_waits() {
        let gathering = Gathering::default();
        let all: Vec<u16> = (0..16384).collect();
        let big = |number| {
            let change = Change::Moved {
                slots: all.clone(),
                from: NodeId([1; 20]),
                to: NodeId([2; 20]),
            };
            asked(number, change)
        };
        let mut waiting: Vec<Written> = (0..6)
            .map(|number| gathering.add(big(number), Duration::ZERO))
            .collect();
        let take = || numbers(&gathering.waiting.lock().take(Instant::now()));
        assert_eq!(take(), [0, 1, 2, 3]);
        assert_eq!(take(), [4, 5]);
        waiting.extend(
            (0..MOST_WAITING as u64 + 1)
                .map(|number| gathering.add(weight(number), Duration::ZERO)),
        );
        let refused = waiting.last_mut().expect("there are some");
        assert!(refused.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(take().len(), MOST_TOGETHER);
    }
}
