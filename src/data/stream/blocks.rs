//! The blocks of a stream in order.
//!
//! The last one, which grows, stands apart; those before it are closed and stand in groups of up to 32. Groups are
//! reference-counted: a clone is a snapshot, and who changes a group that a clone holds copies it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::block::Block;
use super::id::Id;
use crate::base::allocator::good_size;
use crate::data::dense::{reserve, vec_bytes};
use crate::data::remains::Remains;

/// Blocks in a group at most.
const GROUP: usize = 32;
/// What is reserved for a new block at most.
const RESERVE_MAX: usize = 64 * 1024;
/// What a group takes without its blocks.
const GROUP_BYTES: usize = good_size(2 * size_of::<usize>() + size_of::<Group>());

/// The sequence; see the head of the file.
#[derive(Debug, Default)]
pub struct Blocks {
    groups: VecDeque<Arc<Group>>,
    tail: Option<Block>,
    count: usize,
    /// What everything takes from the allocator.
    bytes: usize,
}

/// Never empty.
#[derive(Debug)]
struct Group {
    blocks: Vec<Block>,
}

impl Clone for Group {
    /// With the same capacity: it must take as many bytes as were counted.
    fn clone(&self) -> Group {
        let mut blocks = Vec::with_capacity(self.blocks.capacity());
        blocks.extend_from_slice(&self.blocks);
        Group { blocks }
    }
}

impl Clone for Blocks {
    fn clone(&self) -> Blocks {
        let mut groups = VecDeque::with_capacity(self.groups.capacity());
        groups.extend(self.groups.iter().cloned());
        Blocks {
            groups,
            tail: self.tail.clone(),
            ..*self
        }
    }
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of groups: the last block.
    group: usize,
    block: usize,
}

impl Blocks {
    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What they take from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes
    }

    /// The first block.
    pub fn first(&self) -> Option<Place> {
        self.tail.is_some().then_some(Place { group: 0, block: 0 })
    }

    /// The last block.
    pub fn last(&self) -> Option<Place> {
        let group = self.groups.len();
        self.tail.is_some().then_some(Place { group, block: 0 })
    }

    /// The block at a place.
    #[inline]
    pub fn get(&self, place: Place) -> &Block {
        match self.groups.get(place.group) {
            Some(group) => &group.blocks[place.block],
            None => self.tail.as_ref().expect("a place is of a block"),
        }
    }

    /// The place behind another.
    pub fn next(&self, place: Place) -> Option<Place> {
        let group = self.groups.get(place.group)?;
        Some(if place.block + 1 < group.blocks.len() {
            Place {
                block: place.block + 1,
                ..place
            }
        } else {
            Place {
                group: place.group + 1,
                block: 0,
            }
        })
    }

    /// The place before another.
    pub fn previous(&self, place: Place) -> Option<Place> {
        if let Some(block) = place.block.checked_sub(1) {
            return Some(Place { block, ..place });
        }
        let group = place.group.checked_sub(1)?;
        let block = self.groups[group].blocks.len() - 1;
        Some(Place { group, block })
    }

    /// The last block that begins at `id` or before.
    pub fn seek(&self, id: Id) -> Option<Place> {
        if self.tail.as_ref()?.first() <= id {
            return self.last();
        }
        let group = self
            .groups
            .partition_point(|group| group.blocks[0].first() <= id)
            .checked_sub(1)?;
        let blocks = &self.groups[group].blocks;
        let block = blocks.partition_point(|block| block.first() <= id) - 1;
        Some(Place { group, block })
    }

    /// How many blocks lie from one to another, about: groups are taken to be full.
    pub fn distance(&self, from: Place, to: Place) -> usize {
        let groups = to.group.saturating_sub(from.group) * GROUP;
        (groups + to.block)
            .saturating_sub(from.block)
            .min(self.count)
    }

    /// The last block, to be appended to; what it takes is counted.
    #[inline]
    pub fn grow<T>(&mut self, change: impl FnOnce(&mut Block) -> T) -> Option<T> {
        let tail = self.tail.as_mut()?;
        let before = tail.allocated_bytes();
        let result = change(tail);
        self.bytes = self.bytes + tail.allocated_bytes() - before;
        Some(result)
    }

    /// Changes marks in the block at a place.
    pub fn change<T>(&mut self, place: Place, change: impl FnOnce(&mut Block) -> T) -> T {
        change(match self.groups.get_mut(place.group) {
            Some(group) => &mut Arc::make_mut(group).blocks[place.block],
            None => self.tail.as_mut().expect("a place is of a block"),
        })
    }

    /// What a new block should reserve: as much as the last one took.
    pub fn expected_bytes(&self) -> usize {
        let tail = self.tail.as_ref();
        tail.map_or(0, |tail| good_size(tail.used_bytes()).min(RESERVE_MAX))
    }

    /// Puts a block behind the others and closes the one before it.
    pub fn push(&mut self, block: Block) {
        self.count += 1;
        self.bytes += block.allocated_bytes();
        let Some(mut closed) = self.tail.replace(block) else {
            return;
        };
        let before = closed.allocated_bytes();
        closed.close();
        self.bytes = self.bytes + closed.allocated_bytes() - before;
        match self.groups.back_mut() {
            Some(group) if group.blocks.len() < GROUP => {
                let blocks = &mut Arc::make_mut(group).blocks;
                let before = vec_bytes(blocks);
                // Ahead of the end of the class: 32 blocks are 2 KiB.
                if blocks.len() == blocks.capacity() {
                    reserve(blocks, blocks.len());
                }
                blocks.push(closed);
                self.bytes = self.bytes + vec_bytes(blocks) - before;
            }
            _ => {
                let mut blocks = Vec::new();
                reserve(&mut blocks, 1);
                blocks.push(closed);
                self.bytes += vec_bytes(&blocks) + GROUP_BYTES;
                let before = deque_bytes(&self.groups);
                self.groups.push_back(Arc::new(Group { blocks }));
                self.bytes = self.bytes + deque_bytes(&self.groups) - before;
            }
        }
    }

    /// Removes a block; with it the place of the one behind. When it was the last, the one before it is the last now, and
    /// may grow.
    pub fn remove(&mut self, place: Place) -> (Block, Option<Place>) {
        let is_last = place.group == self.groups.len();
        let removed = if is_last {
            let before = self
                .previous(place)
                .map(|before| self.remove_closed(before));
            std::mem::replace(&mut self.tail, before).expect("a place is of a block")
        } else {
            self.remove_closed(place)
        };
        self.count -= 1;
        self.bytes -= removed.allocated_bytes();
        let next = match self.groups.get(place.group) {
            _ if is_last => None,
            Some(group) if place.block == group.blocks.len() => Some(Place {
                group: place.group + 1,
                block: 0,
            }),
            _ => Some(place),
        };
        (removed, next)
    }

    /// Takes a block out of its group. Its own bytes stay counted.
    fn remove_closed(&mut self, place: Place) -> Block {
        let blocks = &mut Arc::make_mut(&mut self.groups[place.group]).blocks;
        let before = vec_bytes(blocks);
        let removed = blocks.remove(place.block);
        let is_empty = blocks.is_empty();
        if is_empty {
            self.bytes -= before + GROUP_BYTES;
            let before = deque_bytes(&self.groups);
            self.groups.remove(place.group);
            if self.groups.len() * 4 < self.groups.capacity() {
                self.groups.shrink_to(self.groups.len() * 2);
            }
            self.bytes = self.bytes + deque_bytes(&self.groups) - before;
        }
        removed
    }

    /// All in order.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        let closed = self.groups.iter().flat_map(|group| &group.blocks);
        closed.chain(&self.tail)
    }

    /// Adds what is to be freed.
    pub fn move_to(self, remains: &mut Remains) {
        for group in self.groups {
            let work = group.blocks.len();
            remains.push(group, work);
        }
    }
}

fn deque_bytes<T>(items: &VecDeque<T>) -> usize {
    match items.capacity() {
        0 => 0,
        capacity => good_size(capacity * size_of::<T>()),
    }
}

#[cfg(test)]
impl Blocks {
    /// What is counted, counted anew.
    pub fn counted_bytes(&self) -> usize {
        let blocks: usize = self.iter().map(Block::allocated_bytes).sum();
        let vectors = self
            .groups
            .iter()
            .map(|group| vec_bytes(&group.blocks) + GROUP_BYTES);
        blocks + vectors.sum::<usize>() + deque_bytes(&self.groups)
    }
}
