//! Streams: entries by id, and the groups that read them.
//!
//! ```text
//! blocks   group [ block block .. ] group [ .. ] .. block     the last one grows
//!            block: up to stream-node-max-entries entries and stream-node-max-bytes bytes; see block.rs
//! groups   by name: last id, consumers, pending entries; see group.rs
//! ```
//!
//! Blocks are divided where Redis divides the nodes of its radix tree, and entries are removed as there: marked, until the
//! whole block goes. How much `~` trims, and what XINFO counts, is therefore the same.
//!
//! An entry is found by two binary searches over first ids and a walk over the entries of one block.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::block::{Block, Head};
pub use self::block::{Entry, Fields};
use self::blocks::{Blocks, Place};
pub use self::build::{Builder, Counters};
pub use self::group::{Consumer, Group, Number, Pending};
pub use self::id::{Id, IdText};
pub use self::sorted::Sorted;
use super::remains::Remains;
use crate::base::allocator::good_size;

mod block;
mod blocks;
mod build;
mod group;
mod id;
mod sorted;

/// The most bytes of names and values in an entry, as in Redis (`STREAM_LISTPACK_MAX_SIZE`).
const ENTRY_MAX: usize = 1 << 30;
/// What a name or value takes besides its text, at most.
const HEAD_MAX: usize = 9;
/// Blocks, or pending entries, from which a stream is freed piece by piece.
const REMAINS_MIN: usize = 128;
/// What a group takes in the map of groups: its place in a node that is full by two thirds.
const GROUP_BYTES: usize = (size_of::<Box<[u8]>>() + size_of::<Group>()) * 3 / 2;

/// How large a block may be; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `stream-node-max-bytes`.
    pub max_bytes: usize,
    /// `stream-node-max-entries`.
    pub max_entries: usize,
}

/// Bytes of the names and values of an entry; `None` when they are too many.
pub fn text_bytes<'a>(fields: impl Fields<'a>) -> Option<usize> {
    let (mut text, mut heads) = (0, 0);
    for (name, value) in fields {
        text += name.len() + value.len();
        heads += 2 * HEAD_MAX;
    }
    // The second: places within a block are numbers of 32 bits.
    let fits = text <= ENTRY_MAX && 2 * ENTRY_MAX + text + heads <= u32::MAX as usize;
    fits.then_some(text)
}

/// What is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// As many of the first entries as are above this number.
    MaxLen(u64),
    /// The entries below this id.
    MinId(Id),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// What.
    pub bound: Bound,
    /// Whole blocks only.
    pub approximate: bool,
    /// Ends before a block with which more entries than this would have been removed; 0 is no limit.
    pub limit: u64,
    /// What becomes of references.
    pub references: References,
}

/// What becomes of groups' references to entries that are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// They stay: KEEPREF.
    #[default]
    Keep,
    /// They go too: DELREF.
    Delete,
    /// Only entries that every group has read and acknowledged are removed: ACKED.
    Acked,
}

/// A stream; see the head of the file.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    blocks: Blocks,
    len: u64,
    last_id: Id,
    /// 0-0 when there are no entries.
    first_id: Id,
    max_deleted_id: Id,
    entries_added: u64,
    groups: BTreeMap<Box<[u8]>, Group>,
    groups_bytes: usize,
}

impl Stream {
    /// An empty one.
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none; such a stream may be kept.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last id that was given.
    pub fn last_id(&self) -> Id {
        self.last_id
    }

    /// The id of the first entry; 0-0 when there is none.
    pub fn first_id(&self) -> Id {
        self.first_id
    }

    /// The highest id that was removed other than by trimming.
    pub fn max_deleted_id(&self) -> Id {
        self.max_deleted_id
    }

    /// Entries that were ever added.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// What it takes from the allocator besides itself, in bytes. What it shares with a clone counts for both.
    pub fn allocated_bytes(&self) -> usize {
        self.blocks.allocated_bytes() + self.groups_bytes
    }

    /// The id that `*` means at this time. After the last id of all it is 0-0, which cannot be added.
    pub fn next_id(&self, now_ms: u64) -> Id {
        if now_ms > self.last_id.ms {
            Id::new(now_ms, 0)
        } else {
            self.last_id.next().unwrap_or(Id::ZERO)
        }
    }

    /// Adds an entry behind the others. `text` is what [`text_bytes`] said of it. Whether its id is above the last one; if
    /// not, nothing is changed.
    pub fn append<'a>(
        &mut self,
        id: Id,
        fields: impl Fields<'a>,
        text: usize,
        limits: Limits,
    ) -> bool {
        if id <= self.last_id {
            return false;
        }
        self.drop_stale(id);
        let appended = self.blocks.grow(|tail| {
            let has_room = tail.has_room(text, limits);
            if has_room {
                tail.append(id, fields.clone());
            }
            has_room
        });
        if appended != Some(true) {
            let capacity = self.blocks.expected_bytes();
            self.blocks.push(Block::new(id, fields, capacity));
        }
        self.len += 1;
        self.entries_added += 1;
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
        true
    }

    /// Removes a last block that has only marked entries and begins beyond `id`, which is to be appended: XSETID went back.
    fn drop_stale(&mut self, id: Id) {
        if let Some(last) = self.blocks.last() {
            let block = self.blocks.get(last);
            if block.live() == 0 && block.first() >= id {
                self.blocks.remove(last);
            }
        }
    }

    /// The entry with this id.
    pub fn get(&self, id: Id) -> Option<Entry<'_>> {
        let block = self.blocks.get(self.blocks.seek(id)?);
        Some(block.entry(block.find(id)?))
    }

    /// Whether there is an entry with this id.
    pub fn contains(&self, id: Id) -> bool {
        self.get(id).is_some()
    }

    /// The last entry.
    pub fn last(&self) -> Option<Entry<'_>> {
        self.range_back(Id::ZERO, Id::MAX).next()
    }

    /// The entries from `start` to `end`, both included.
    pub fn range(&self, start: Id, end: Id) -> Range<'_> {
        let place = self.blocks.seek(start).or_else(|| self.blocks.first());
        Range {
            blocks: &self.blocks,
            heads: place.map(|place| self.blocks.get(place).heads()),
            place,
            start,
            end,
        }
    }

    /// The entries from `end` back to `start`, both included.
    pub fn range_back(&self, start: Id, end: Id) -> RangeBack<'_> {
        RangeBack {
            blocks: &self.blocks,
            heads: Vec::new(),
            block: None,
            next: self.blocks.seek(end),
            start,
            end,
        }
    }

    /// How many entries lie from `start` to `end`, about, and rather more than less: a measure of the work to read them.
    pub fn about_between(&self, start: Id, end: Id) -> usize {
        let (Some(first), Some(to)) = (self.blocks.first(), self.blocks.seek(end)) else {
            return 0;
        };
        let from = self.blocks.seek(start).unwrap_or(first);
        let each = self.len as usize / self.blocks.count() + 1;
        let blocks = self.blocks.distance(from, to) + 1;
        (blocks * each).min(self.len as usize)
    }

    /// Removes the entry with this id. Whether there was one.
    pub fn delete(&mut self, id: Id) -> bool {
        let Some(place) = self.blocks.seek(id) else {
            return false;
        };
        let Some(head) = self.blocks.get(place).find(id) else {
            return false;
        };
        if self.blocks.get(place).live() == 1 {
            self.blocks.remove(place);
        } else {
            self.blocks.change(place, |block| block.mark_deleted(head));
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.first_id {
            self.find_first();
        }
        true
    }

    /// Removes the entry with this id as `references` say. `None` when there is none, `false` when it must stay.
    pub fn delete_referenced(&mut self, id: Id, references: References) -> Option<bool> {
        if !self.contains(id) {
            return None;
        }
        if references == References::Acked && self.is_referenced(id) {
            return Some(false);
        }
        if references == References::Delete {
            self.forget(id);
        }
        Some(self.delete(id))
    }

    /// Removes entries from the front; how many. Blocks are left to `remains` where there are many.
    pub fn trim(&mut self, trim: Trim, remains: &mut Remains) -> u64 {
        let before = self.len;
        let mut removed = Vec::new();
        let mut next = self.blocks.first();
        while let Some(place) = next {
            let live = self.blocks.get(place).live() as u64;
            let done = before - self.len;
            if !self.exceeds(trim.bound) || (trim.limit > 0 && done + live > trim.limit) {
                break;
            }
            let whole = match trim.bound {
                Bound::MaxLen(most) => self.len - live >= most,
                Bound::MinId(least) => self.blocks.get(place).last() < least,
            };
            if trim.approximate && !whole {
                break;
            }
            let keeps = trim.references == References::Keep;
            if whole && keeps {
                self.len -= live;
            } else {
                self.trim_within(place, trim);
                // As in Redis, a block stays without a single entry when its last one was marked before and is not
                // below the bound.
                if keeps {
                    break;
                }
                if self.blocks.get(place).live() > 0 {
                    next = self.blocks.next(place);
                    continue;
                }
            }
            let (block, behind) = self.blocks.remove(place);
            next = behind;
            removed.push(block);
            if removed.len() == REMAINS_MIN {
                remains.push(Arc::new(std::mem::take(&mut removed)), REMAINS_MIN);
            }
        }
        let trimmed = before - self.len;
        if trimmed > 0 {
            self.find_first();
        }
        trimmed
    }

    /// Whether there may be something to trim.
    fn exceeds(&self, bound: Bound) -> bool {
        match bound {
            Bound::MaxLen(most) => self.len > most,
            Bound::MinId(_) => true,
        }
    }

    /// Marks entries of one block.
    fn trim_within(&mut self, place: Place, trim: Trim) {
        let mut left = self.len;
        let mut chosen: Vec<Head> = Vec::new();
        for head in self.blocks.get(place).heads() {
            let is_beyond = match trim.bound {
                Bound::MaxLen(most) => left <= most,
                Bound::MinId(least) => head.id >= least,
            };
            if is_beyond {
                break;
            }
            if head.deleted || (trim.references == References::Acked && self.is_referenced(head.id))
            {
                continue;
            }
            chosen.push(head);
            left -= 1;
        }
        if trim.references == References::Delete {
            for head in &chosen {
                self.forget(head.id);
            }
        }
        self.len = left;
        if !chosen.is_empty() {
            self.blocks.change(place, |block| {
                for head in chosen {
                    block.mark_deleted(head);
                }
            });
        }
    }

    fn find_first(&mut self) {
        let first = self.range(Id::ZERO, Id::MAX).next();
        self.first_id = first.map_or(Id::ZERO, |entry| entry.id);
    }

    /// Sets what XSETID sets.
    pub fn set_id(&mut self, last: Id, entries_added: Option<u64>, max_deleted: Option<Id>) {
        self.last_id = last;
        self.entries_added = entries_added.unwrap_or(self.entries_added);
        self.max_deleted_id = max_deleted.unwrap_or(self.max_deleted_id);
    }

    /// Whether entries from `start` on were removed other than by trimming, as far as is known.
    pub fn has_tombstones_from(&self, start: Id) -> bool {
        let is_whole = self.max_deleted_id == Id::ZERO || self.max_deleted_id < self.first_id;
        self.len > 0 && !is_whole && start <= self.max_deleted_id
    }

    /// How many entries were added up to this id, where that is known.
    pub fn entries_until(&self, id: Id) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id || id == self.last_id {
            return Some(self.entries_added);
        }
        let is_whole = self.max_deleted_id == Id::ZERO || self.max_deleted_id < self.first_id;
        if id > self.last_id || !is_whole || id > self.first_id {
            return None;
        }
        let before = self.entries_added.saturating_sub(self.len);
        Some(before + u64::from(id == self.first_id))
    }

    /// How many entries a group has not read, where that is known.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        let read = group
            .entries_read
            .filter(|_| !self.has_tombstones_from(group.last_id))
            .or_else(|| self.entries_until(group.last_id))?;
        Some(self.entries_added.wrapping_sub(read) as i64)
    }

    /// How many blocks: the keys of Redis's radix tree.
    pub fn block_count(&self) -> usize {
        self.blocks.count()
    }

    /// The blocks in order, to be written elsewhere.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    /// How many nodes Redis's radix tree over the first ids of the blocks has.
    pub fn radix_nodes(&self) -> usize {
        radix_nodes(self.blocks.iter().map(Block::first))
    }

    /// A group.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All groups in the order of their names, as Redis lists them.
    pub fn groups(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    /// How many groups.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Adds a group. Whether its name was new.
    pub fn create_group(&mut self, name: &[u8], last_id: Id, entries_read: Option<u64>) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        let group = Group::new(last_id, entries_read);
        self.groups_bytes += group_bytes(name, &group);
        self.groups.insert(name.into(), group);
        true
    }

    /// Removes a group; what was large is added to `remains`. Whether there was one.
    pub fn destroy_group(&mut self, name: &[u8], remains: &mut Remains) -> bool {
        let Some(group) = self.groups.remove(name) else {
            return false;
        };
        self.groups_bytes -= group_bytes(name, &group);
        if group.weight() >= REMAINS_MIN {
            group.move_to(remains);
        }
        true
    }

    /// Changes a group. `None` when there is none.
    pub fn edit_group<T>(&mut self, name: &[u8], edit: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let group = self.groups.get_mut(name)?;
        let before = group.allocated_bytes();
        let result = edit(group);
        self.groups_bytes = self.groups_bytes + group.allocated_bytes() - before;
        Some(result)
    }

    /// Whether a group has yet to read an entry, or to acknowledge it.
    pub fn is_referenced(&self, id: Id) -> bool {
        self.groups()
            .any(|(_, group)| group.last_id < id || group.pending().get(id).is_some())
    }

    /// No group holds the entry any longer.
    fn forget(&mut self, id: Id) {
        for group in self.groups.values_mut() {
            let before = group.allocated_bytes();
            group.acknowledge(id);
            self.groups_bytes = self.groups_bytes + group.allocated_bytes() - before;
        }
    }

    /// What is to be freed, piece by piece where it is large.
    pub fn into_remains(self) -> Option<Remains> {
        let groups: usize = self.groups().map(|(_, group)| group.weight()).sum();
        if self.blocks.count() + groups < REMAINS_MIN {
            return None;
        }
        let mut remains = Remains::default();
        self.blocks.move_to(&mut remains);
        for group in self.groups.into_values() {
            group.move_to(&mut remains);
        }
        Some(remains)
    }
}

/// Entries forwards.
#[derive(Clone, Debug)]
pub struct Range<'a> {
    blocks: &'a Blocks,
    heads: Option<block::Heads<'a>>,
    place: Option<Place>,
    start: Id,
    end: Id,
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let place = self.place?;
            let Some(head) = self.heads.as_mut().and_then(Iterator::next) else {
                self.place = self.blocks.next(place);
                self.heads = self.place.map(|place| self.blocks.get(place).heads());
                continue;
            };
            if head.deleted {
                continue;
            }
            if head.id > self.end {
                self.place = None;
                return None;
            }
            if head.id >= self.start {
                return Some(self.blocks.get(place).entry(head));
            }
        }
    }
}

/// Entries backwards: a block is walked forwards first, since entries do not know where the one before begins.
#[derive(Clone, Debug)]
pub struct RangeBack<'a> {
    blocks: &'a Blocks,
    /// Those of `block` that are still to come.
    heads: Vec<Head>,
    block: Option<&'a Block>,
    /// The block after that.
    next: Option<Place>,
    start: Id,
    end: Id,
}

impl<'a> Iterator for RangeBack<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let (Some(head), Some(block)) = (self.heads.pop(), self.block) {
                return Some(block.entry(head));
            }
            let place = self.next?;
            let block = self.blocks.get(place);
            self.next = self
                .blocks
                .previous(place)
                .filter(|_| block.first() > self.start);
            let heads = block.live_heads().take_while(|head| head.id <= self.end);
            self.heads
                .extend(heads.filter(|head| head.id >= self.start));
            self.block = Some(block);
        }
    }
}

/// Nodes of a radix tree of Redis over sorted keys of 16 bytes: a leaf for each key, a node for each place where keys part,
/// and one for each run of bytes between them. The empty tree has one.
fn radix_nodes(keys: impl Iterator<Item = Id>) -> usize {
    const KEY_BYTES: usize = 16;
    /// Whether bytes lie between a node at `depth` and what is above it.
    fn run(above: Option<usize>, depth: usize) -> usize {
        usize::from(depth > above.map_or(0, |above| above + 1))
    }
    // Depths at which keys part, on the way to the key at hand.
    let mut open: Vec<usize> = Vec::new();
    let (mut nodes, mut count) = (0, 0);
    let mut last: Option<u128> = None;
    for key in keys {
        let key = u128::from_be_bytes(key.to_bytes());
        count += 1;
        if let Some(last) = last {
            let depth = (last ^ key).leading_zeros() as usize / 8;
            // The last key's leaf hangs on the deeper of its two partings.
            nodes += run(open.last().copied().max(Some(depth)), KEY_BYTES);
            while let Some(deeper) = open.pop_if(|open| *open > depth) {
                nodes += 1 + run(open.last().copied().max(Some(depth)), deeper);
            }
            if open.last() != Some(&depth) {
                open.push(depth);
            }
        }
        last = Some(key);
    }
    if count == 0 {
        return 1;
    }
    nodes += run(open.last().copied(), KEY_BYTES);
    while let Some(deeper) = open.pop() {
        nodes += 1 + run(open.last().copied(), deeper);
    }
    nodes + count
}

fn group_bytes(name: &[u8], group: &Group) -> usize {
    good_size(name.len()) + GROUP_BYTES + group.allocated_bytes()
}

#[cfg(test)]
mod tests;
