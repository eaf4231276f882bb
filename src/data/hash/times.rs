//! When the fields of a table expire: by field, and the next first.
//!
//! The queue is a heap of (expiry, hash of the field), or 256 of them, as the table is divided, so that no step is longer
//! than a part. A change of expiry leaves the old entry behind; an entry counts only while the field has that expiry. The
//! first entry of every heap always counts, so the next expiry is known; a heap is made anew when more than half is left
//! behind.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::is_live;
use crate::base::allocator::good_size;
use crate::base::clock::Millis;
use crate::base::hash::{KeyHasher, partition_of};
use crate::data::dense::{DIVIDE_LEN, Dense, vec_bytes};
use crate::data::remains::Remains;

/// When the fields of a table expire.
#[derive(Clone, Default)]
pub(super) struct Times {
    /// Milliseconds in 8 bytes, by field.
    pub(super) expiries: Dense<true>,
    pub(super) heaps: Vec<Arc<Heap>>,
    /// Of the heaps.
    heap_bytes: usize,
    /// The first of all.
    pub(super) next: Option<Millis>,
}

/// Expiries with the hashes of their fields, the first first.
#[derive(Clone, Default)]
pub(super) struct Heap {
    queue: BinaryHeap<Reverse<Due>>,
    /// Entries that do not count any more.
    stale: usize,
}

type Due = (Millis, u64);

const HEAPS: usize = 256;
/// Entries left behind that are not worth making a heap anew.
const STALE_MIN: usize = 16;
const ARC_BYTES: usize = 16;

impl Times {
    pub(super) fn is_empty(&self) -> bool {
        self.expiries.is_empty()
    }

    pub(super) fn move_to(self, remains: &mut Remains) {
        self.expiries.into_remains().move_to(remains);
        for heap in self.heaps {
            let elements = heap.queue.len();
            remains.push(heap, elements);
        }
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.expiries.allocated_bytes() + vec_bytes(&self.heaps) + self.heap_bytes
    }

    pub(super) fn expiry(&self, field: &[u8], hasher: &KeyHasher) -> Option<Millis> {
        let spot = self.expiries.find(hasher, field)?;
        Some(read_time(self.expiries.value(spot)))
    }

    pub(super) fn set(&mut self, field: &[u8], at: Millis, hasher: &KeyHasher) {
        let hash = hasher.hash(field);
        match self.expiries.find(hasher, field) {
            Some(spot) if read_time(self.expiries.value(spot)) == at => return,
            Some(spot) => {
                self.expiries.set_value(spot, &at.0.to_le_bytes());
                self.left_behind(hash);
            }
            None => self.expiries.insert_new(hasher, field, &at.0.to_le_bytes()),
        }
        self.divide();
        let heap = self.heap_of(hash);
        self.change(heap, |heap, _| {
            reserve_heap(&mut heap.queue);
            heap.queue.push(Reverse((at, hash)));
        });
        self.settle(heap, hasher);
    }

    pub(super) fn clear(&mut self, field: &[u8], hasher: &KeyHasher) {
        if self.expiries.remove(hasher, field) {
            let hash = hasher.hash(field);
            self.left_behind(hash);
            self.settle(self.heap_of(hash), hasher);
        }
    }

    /// Takes out one field that has expired.
    pub(super) fn take_expired(&mut self, now: Millis, hasher: &KeyHasher) -> Option<Vec<u8>> {
        let next = self.next.filter(|&next| !is_live(Some(next), now))?;
        let heap = self
            .heaps
            .iter()
            .position(|heap| heap.first() == Some(next));
        let heap = heap.expect("the first of all is the first of a heap");
        let (at, hash) = self.heaps[heap].queue.peek().expect("it has a first").0;
        let spot = self
            .expiries
            .find_hash(hasher, hash, |_, time| read_time(time) == at);
        let spot = spot.expect("the first entry of a heap counts");
        let field = self.expiries.key(spot).to_vec();
        self.expiries.remove_at(hasher, spot);
        self.left_behind(hash);
        self.settle(heap, hasher);
        Some(field)
    }

    fn left_behind(&mut self, hash: u64) {
        let heap = self.heap_of(hash);
        self.change(heap, |heap, _| heap.stale += 1);
    }

    /// Makes the first entry of a heap one that counts, and finds the first of all anew.
    fn settle(&mut self, number: usize, hasher: &KeyHasher) {
        self.change(number, |heap, expiries| {
            while let Some(&Reverse(due)) = heap.queue.peek()
                && !counts(due, expiries, hasher)
            {
                heap.queue.pop();
                heap.stale = heap.stale.saturating_sub(1);
            }
            if heap.stale > STALE_MIN + heap.queue.len() / 2 {
                heap.renew(expiries, hasher);
            }
        });
        self.next = self.heaps.iter().filter_map(|heap| heap.first()).min();
    }

    fn heap_of(&self, hash: u64) -> usize {
        if self.heaps.len() <= 1 {
            0
        } else {
            partition_of(hash, HEAPS)
        }
    }

    /// The first heap, or 256 when there are many fields.
    fn divide(&mut self) {
        if self.heaps.is_empty() {
            self.heaps.push(Arc::default());
            self.heap_bytes = self.heaps[0].allocated_bytes();
        }
        if self.heaps.len() == 1 && self.expiries.len() > DIVIDE_LEN {
            let whole = std::mem::take(&mut self.heaps);
            self.heaps = (0..HEAPS).map(|_| Arc::default()).collect();
            self.heap_bytes = self.heaps.iter().map(|heap| heap.allocated_bytes()).sum();
            for &Reverse(due) in &whole[0].queue {
                let heap = self.heap_of(due.1);
                self.change(heap, |heap, _| {
                    reserve_heap(&mut heap.queue);
                    heap.queue.push(Reverse(due));
                });
            }
            // Which of them count is found out when they come first.
        }
    }

    fn change(&mut self, number: usize, change: impl FnOnce(&mut Heap, &Dense<true>)) {
        let heap = &mut self.heaps[number];
        let before = heap.allocated_bytes();
        change(Arc::make_mut(heap), &self.expiries);
        self.heap_bytes = self.heap_bytes - before + heap.allocated_bytes();
    }
}

impl Heap {
    fn first(&self) -> Option<Millis> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let queue = match self.queue.capacity() {
            0 => 0,
            capacity => good_size(capacity * size_of::<Reverse<Due>>()),
        };
        good_size(ARC_BYTES + size_of::<Heap>()) + queue
    }

    fn renew(&mut self, expiries: &Dense<true>, hasher: &KeyHasher) {
        let mut dues: Vec<_> = std::mem::take(&mut self.queue).into_vec();
        dues.retain(|&Reverse(due)| counts(due, expiries, hasher));
        // One field can have had the same expiry twice.
        dues.sort_unstable();
        dues.dedup();
        dues.shrink_to_fit();
        self.queue = BinaryHeap::from(dues);
        self.stale = 0;
    }
}

fn counts((at, hash): Due, expiries: &Dense<true>, hasher: &KeyHasher) -> bool {
    let same = |_: &[u8], time: &[u8]| read_time(time) == at;
    expiries.find_hash(hasher, hash, same).is_some()
}

fn read_time(bytes: &[u8]) -> Millis {
    Millis(i64::from_le_bytes(
        bytes.try_into().expect("a time has eight bytes"),
    ))
}

fn reserve_heap(queue: &mut BinaryHeap<Reverse<Due>>) {
    let each = size_of::<Reverse<Due>>();
    let needed = queue.len() + 1;
    if needed > queue.capacity() {
        queue.reserve_exact(good_size(needed * each) / each - queue.len());
    }
}
