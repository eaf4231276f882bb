//! A consumer group: how far it has read, who reads for it, and which entries are pending.
//!
//! Pending entries stand once for the group, with what is known of them, and once for the consumer that holds them, as ids
//! alone. Consumers have small numbers, so that a pending entry need not point at one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::id::Id;
use super::sorted::{Keyed, Sorted};
use crate::base::allocator::good_size;
use crate::data::dense::vec_bytes;
use crate::data::remains::Remains;

/// What a name takes in the map of names: its place in a node that is full by two thirds.
const NAME_BYTES: usize = (size_of::<Arc<[u8]>>() + size_of::<Number>()) * 3 / 2;

/// The number of a consumer in its group; given to another when it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(u32);

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The entry, which may have been removed since.
    pub id: Id,
    /// When it was delivered last, in Unix milliseconds.
    pub delivered_at: i64,
    /// How often it was delivered.
    pub count: u64,
    /// Who holds it.
    pub consumer: Number,
}

impl Keyed for Pending {
    fn id(&self) -> Id {
        self.id
    }
}

/// Somebody who reads for a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Arc<[u8]>,
    /// When it was heard of last, in Unix milliseconds.
    pub seen_at: i64,
    /// When it was given something last; `None` when it never was.
    pub active_at: Option<i64>,
    pending: Sorted<Id>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The entries that it holds.
    pub fn pending(&self) -> &Sorted<Id> {
        &self.pending
    }
}

/// A group; see the head of the file.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The last id that was delivered.
    pub last_id: Id,
    /// How many entries of the stream were read, where that is known.
    pub entries_read: Option<u64>,
    pending: Sorted<Pending>,
    names: BTreeMap<Arc<[u8]>, Number>,
    /// By number.
    consumers: Vec<Option<Consumer>>,
    /// Numbers that are free.
    free: Vec<Number>,
    /// What the names and the pending entries of the consumers take.
    consumers_bytes: usize,
}

impl Group {
    /// A group that has read up to `last_id`.
    pub fn new(last_id: Id, entries_read: Option<u64>) -> Group {
        Group {
            last_id,
            entries_read,
            ..Group::default()
        }
    }

    /// What it takes from the allocator; the map of names is estimated.
    pub fn allocated_bytes(&self) -> usize {
        let lists = vec_bytes(&self.consumers) + vec_bytes(&self.free);
        self.pending.allocated_bytes() + self.consumers_bytes + lists
    }

    /// The pending entries of all consumers.
    pub fn pending(&self) -> &Sorted<Pending> {
        &self.pending
    }

    /// The consumer of this name.
    pub fn find(&self, name: &[u8]) -> Option<Number> {
        self.names.get(name).copied()
    }

    /// A consumer.
    pub fn consumer(&self, number: Number) -> &Consumer {
        let consumer = self.consumers[number.0 as usize].as_ref();
        consumer.expect("a number is of a consumer")
    }

    /// All consumers in the order of their names, as Redis lists them.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.names.values().map(|&number| self.consumer(number))
    }

    /// How many consumers.
    pub fn consumer_count(&self) -> usize {
        self.names.len()
    }

    /// Adds a consumer, whose name must be new.
    pub fn add_consumer(&mut self, name: &[u8], now: i64) -> Number {
        debug_assert!(self.find(name).is_none());
        let name: Arc<[u8]> = name.into();
        self.consumers_bytes += name_bytes(&name);
        let consumer = Consumer {
            name: name.clone(),
            seen_at: now,
            active_at: None,
            pending: Sorted::default(),
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.consumers[number.0 as usize] = Some(consumer);
                number
            }
            None => {
                self.consumers.push(Some(consumer));
                Number((self.consumers.len() - 1) as u32)
            }
        };
        self.names.insert(name, number);
        number
    }

    /// Removes a consumer with what it holds. How many entries these were.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let number = self.names.remove(name)?;
        let consumer = self.consumers[number.0 as usize].take();
        let consumer = consumer.expect("a number is of a consumer");
        self.free.push(number);
        self.consumers_bytes -= name_bytes(name) + consumer.pending.allocated_bytes();
        for &id in consumer.pending.iter() {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// Notes that a consumer was heard of.
    pub fn saw(&mut self, number: Number, now: i64) {
        self.edit(number, |consumer| consumer.seen_at = now);
    }

    /// Notes that a consumer was given something.
    pub fn is_active(&mut self, number: Number, now: i64) {
        self.edit(number, |consumer| consumer.active_at = Some(now));
    }

    /// Lets a consumer hold an entry, whoever held it.
    pub fn assign(&mut self, pending: Pending) {
        let id = pending.id;
        let before = self.pending.get(id).map(|before| before.consumer);
        self.pending.insert(pending);
        if before == Some(pending.consumer) {
            return;
        }
        if let Some(before) = before {
            self.edit(before, |consumer| consumer.pending.remove(id));
        }
        self.edit(pending.consumer, |consumer| consumer.pending.insert(id));
    }

    /// An entry is no longer pending. Whether it was.
    pub fn acknowledge(&mut self, id: Id) -> bool {
        let Some(pending) = self.pending.remove(id) else {
            return false;
        };
        self.edit(pending.consumer, |consumer| consumer.pending.remove(id));
        true
    }

    fn edit<T>(&mut self, number: Number, edit: impl FnOnce(&mut Consumer) -> T) -> T {
        let consumer = self.consumers[number.0 as usize].as_mut();
        let consumer = consumer.expect("a number is of a consumer");
        let before = consumer.pending.allocated_bytes();
        let result = edit(consumer);
        self.consumers_bytes = self.consumers_bytes + consumer.pending.allocated_bytes() - before;
        result
    }

    /// How much work it is to free it.
    pub fn weight(&self) -> usize {
        self.pending.len() + self.consumers.len()
    }

    /// Adds what is to be freed.
    pub fn move_to(self, remains: &mut Remains) {
        self.pending.move_to(remains);
        for consumer in self.consumers.into_iter().flatten() {
            consumer.pending.move_to(remains);
        }
    }
}

fn name_bytes(name: &[u8]) -> usize {
    good_size(2 * size_of::<usize>() + name.len()) + NAME_BYTES
}
