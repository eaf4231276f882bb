//! A block of entries in one buffer: what a node of Redis's radix tree is, in fewer bytes.
//!
//! ```text
//! names    count, name ..                    those of the first entry, shared by all that have the same
//! entry    flags, length, id, fields         length: of all that follows it
//! id       milliseconds since the block's first id, and the number; only the difference of the number within one ms
//! fields   value ..                          with the block's names
//!          count, name, value, name, value ..    with its own (OWN_NAMES)
//! ```
//!
//! Counts, lengths and numbers take seven bits to a byte; names and values are held as in `packed`: a head, then the body,
//! integers in as many bytes as they need. An entry costs four bytes beyond its values as a rule, Redis's about eleven.
//!
//! An entry that is removed is only marked, as in Redis, and the block goes with its last one. That, and the count of the
//! bytes that Redis's listpack would take, is observable: trimming with `~` removes whole blocks, XINFO counts them.

use std::iter::FusedIterator;

use super::Limits;
use super::id::Id;
use crate::base::allocator::good_size;
use crate::data::list::{LISTPACK_FRAME, listpack_size};
use crate::data::packed::{Element, Item, decode, size_at_front};

/// The entry was removed.
const DELETED: u8 = 1;
/// It has other names than the block.
const OWN_NAMES: u8 = 2;
/// It has the milliseconds of the block's first id.
const SAME_MS: u8 = 4;
/// What an entry takes besides its names and values, at most.
const ENTRY_FRAME: usize = 32;
/// The most that Redis's listpack may take.
const LISTPACK_MAX: usize = 1 << 30;

/// Names and values, in order. Read several times.
pub trait Fields<'a>: Iterator<Item = (&'a [u8], &'a [u8])> + Clone {}

impl<'a, T: Iterator<Item = (&'a [u8], &'a [u8])> + Clone> Fields<'a> for T {}

/// A block; see the head of the file. It is never without entries, though all of them may be marked.
#[derive(Debug)]
pub struct Block {
    first: Id,
    bytes: Vec<u8>,
    live: u32,
    dead: u32,
    /// Where the entries begin.
    entries: u32,
    /// Where the last one begins.
    last: u32,
    /// What Redis's listpack would take, without the two counts that change.
    listpack: usize,
}

impl Clone for Block {
    /// With the same capacity: it must take as many bytes as were counted.
    fn clone(&self) -> Block {
        let mut bytes = Vec::with_capacity(self.bytes.capacity());
        bytes.extend_from_slice(&self.bytes);
        Block { bytes, ..*self }
    }
}

/// What stands before the fields of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Its id.
    pub id: Id,
    /// Whether it is marked as removed.
    pub deleted: bool,
    /// Where it begins.
    pub at: usize,
    /// Whether it has other names than the block.
    pub own_names: bool,
    fields: usize,
    /// Where the next one begins.
    end: usize,
}

impl Block {
    /// A block with its first entry. `capacity` bytes are reserved: what the entries are expected to take.
    pub fn new<'a>(id: Id, fields: impl Fields<'a>, capacity: usize) -> Block {
        let count = fields.clone().count();
        let text: usize = fields.clone().map(|(name, _)| name.len()).sum();
        let mut bytes = Vec::with_capacity(capacity.max(good_size(text + count + 8)));
        push_varint(&mut bytes, count as u64);
        let mut listpack = LISTPACK_FRAME + int_size(count as i64) + int_size(0);
        for (name, _) in fields.clone() {
            listpack += push_item(&mut bytes, name);
        }
        let entries = bytes.len() as u32;
        let mut block = Block {
            first: id,
            bytes,
            live: 0,
            dead: 0,
            entries,
            last: entries,
            listpack,
        };
        block.push(id, fields, true);
        block
    }

    /// The id that the block is found by.
    #[inline]
    pub fn first(&self) -> Id {
        self.first
    }

    /// The last id, even when that entry is marked.
    pub fn last(&self) -> Id {
        self.last_head().id
    }

    /// Entries that are not marked.
    #[inline]
    pub fn live(&self) -> usize {
        self.live as usize
    }

    /// What it takes from the allocator.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        good_size(self.bytes.capacity())
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether Redis would put an entry with `text` bytes of names and values here too.
    pub fn has_room(&self, text: usize, limits: Limits) -> bool {
        let count = self.live as usize + self.dead as usize;
        let counts = int_size(i64::from(self.live)) + int_size(i64::from(self.dead));
        let bytes = match limits.max_bytes {
            0 => LISTPACK_MAX,
            bytes => bytes.min(LISTPACK_MAX),
        };
        self.listpack + counts + text < bytes
            && (limits.max_entries == 0 || count < limits.max_entries)
    }

    /// Puts an entry behind the others; its id is above theirs.
    pub fn append<'a>(&mut self, id: Id, fields: impl Fields<'a>) {
        let same = self.has_names(fields.clone());
        self.push(id, fields, same);
    }

    fn push<'a>(&mut self, id: Id, fields: impl Fields<'a>, same_names: bool) {
        let at = self.bytes.len();
        self.reserve(fields.clone(), same_names);
        let same_ms = id.ms == self.first.ms;
        let mut flags = if same_ms { SAME_MS } else { 0 };
        if !same_names {
            flags |= OWN_NAMES;
        }
        self.bytes.extend_from_slice(&[flags, 0]);
        let begin = self.bytes.len();
        if same_ms {
            push_varint(&mut self.bytes, id.seq - self.first.seq);
        } else {
            push_varint(&mut self.bytes, id.ms - self.first.ms);
            push_varint(&mut self.bytes, id.seq);
        }
        let (mut count, mut listpack) = (0, 0);
        if same_names {
            for (_, value) in fields {
                listpack += push_item(&mut self.bytes, value);
                count += 1;
            }
        } else {
            push_varint(&mut self.bytes, fields.clone().count() as u64);
            for (name, value) in fields {
                listpack += push_item(&mut self.bytes, name);
                listpack += push_item(&mut self.bytes, value);
                count += 1;
            }
            listpack += int_size(count) + int_size(2 * count + 4);
        }
        if same_names {
            listpack += int_size(count + 3);
        }
        listpack += int_size(0);
        listpack += int_size(id.ms.wrapping_sub(self.first.ms) as i64);
        listpack += int_size(id.seq.wrapping_sub(self.first.seq) as i64);
        self.write_length(begin);
        self.listpack += listpack;
        self.last = at as u32;
        self.live += 1;
    }

    /// Writes the length of what follows `begin` into the byte before; more bytes are made room for.
    fn write_length(&mut self, begin: usize) {
        let length = (self.bytes.len() - begin) as u64;
        if length < 0x80 {
            self.bytes[begin - 1] = length as u8;
            return;
        }
        let mut varint = Vec::with_capacity(10);
        push_varint(&mut varint, length);
        let more = varint.len() - 1;
        let end = self.bytes.len();
        self.bytes.resize(end + more, 0);
        self.bytes.copy_within(begin..end, begin + more);
        self.bytes[begin - 1..begin + more].copy_from_slice(&varint);
    }

    fn reserve<'a>(&mut self, fields: impl Fields<'a>, same_names: bool) {
        let mut more = ENTRY_FRAME;
        for (name, value) in fields {
            more += value.len() + 9;
            if !same_names {
                more += name.len() + 9;
            }
        }
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let capacity = good_size(needed + needed / 4);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }

    /// No more entries will come: gives back what is not used.
    pub fn close(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Whether these are the block's names.
    fn has_names<'a>(&self, fields: impl Fields<'a>) -> bool {
        let (count, mut names) = self.names();
        let mut seen = 0;
        for (name, _) in fields {
            if seen == count || take_item(&mut names) != *name {
                return false;
            }
            seen += 1;
        }
        seen == count
    }

    /// How many names, and where they stand.
    fn names(&self) -> (usize, &[u8]) {
        let mut at = 0;
        let count = read_varint(&self.bytes, &mut at) as usize;
        (count, &self.bytes[at..self.entries as usize])
    }

    /// All entries in order, also those that are marked.
    pub fn heads(&self) -> Heads<'_> {
        Heads {
            block: self,
            at: self.entries as usize,
        }
    }

    /// All entries in order that are not marked. Marked ones may be out of order: XSETID can go back behind them.
    pub fn live_heads(&self) -> impl Iterator<Item = Head> + '_ {
        self.heads().filter(|head| !head.deleted)
    }

    /// The names that entries share.
    pub fn shared_names(&self) -> impl Iterator<Item = Item<'_>> {
        let (count, mut names) = self.names();
        (0..count).map(move |_| take_item(&mut names))
    }

    /// Entries that are marked.
    pub fn dead(&self) -> usize {
        self.dead as usize
    }

    /// The last entry that was appended.
    pub fn last_head(&self) -> Head {
        self.head(self.last as usize)
    }

    /// The entry with this id, unless it is marked.
    pub fn find(&self, id: Id) -> Option<Head> {
        let found = self.live_heads().find(|head| head.id >= id)?;
        (found.id == id).then_some(found)
    }

    /// The names and values of an entry.
    pub fn entry(&self, head: Head) -> Entry<'_> {
        let mut values = head.fields;
        let (count, names) = if head.own_names {
            (read_varint(&self.bytes, &mut values) as usize, None)
        } else {
            let (count, names) = self.names();
            (count, Some(names))
        };
        Entry {
            id: head.id,
            count,
            names,
            values: &self.bytes[values..head.end],
        }
    }

    /// Marks an entry that is not marked.
    pub fn mark_deleted(&mut self, head: Head) {
        self.bytes[head.at] |= DELETED;
        self.live -= 1;
        self.dead += 1;
    }

    #[inline]
    fn head(&self, at: usize) -> Head {
        let flags = self.bytes[at];
        let mut next = at + 1;
        let length = read_varint(&self.bytes, &mut next) as usize;
        let end = next + length;
        let id = if flags & SAME_MS != 0 {
            let seq = read_varint(&self.bytes, &mut next);
            Id::new(self.first.ms, self.first.seq + seq)
        } else {
            let ms = read_varint(&self.bytes, &mut next);
            let seq = read_varint(&self.bytes, &mut next);
            Id::new(self.first.ms + ms, seq)
        };
        Head {
            id,
            deleted: flags & DELETED != 0,
            at,
            own_names: flags & OWN_NAMES != 0,
            fields: next,
            end,
        }
    }
}

/// The entries of a block.
#[derive(Clone, Debug)]
pub struct Heads<'a> {
    block: &'a Block,
    at: usize,
}

impl Iterator for Heads<'_> {
    type Item = Head;

    #[inline]
    fn next(&mut self) -> Option<Head> {
        if self.at == self.block.bytes.len() {
            return None;
        }
        let head = self.block.head(self.at);
        self.at = head.end;
        Some(head)
    }
}

impl FusedIterator for Heads<'_> {}

/// An entry to be read.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub id: Id,
    count: usize,
    names: Option<&'a [u8]>,
    values: &'a [u8],
}

impl<'a> Entry<'a> {
    /// How many fields.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names and values in order.
    pub fn fields(&self) -> impl Iterator<Item = (Item<'a>, Item<'a>)> + use<'a> {
        let (mut names, mut values) = (self.names, self.values);
        (0..self.count).map(move |_| {
            let name = take_item(names.as_mut().unwrap_or(&mut values));
            (name, take_item(&mut values))
        })
    }
}

/// Appends a name or value. What Redis's listpack takes for it.
#[inline]
fn push_item(bytes: &mut Vec<u8>, text: &[u8]) -> usize {
    let item = Item::new(text);
    let element = Element::from(item);
    bytes.push(element.head);
    match item {
        Item::Bytes(text) if text.len() == element.body_size() => bytes.extend_from_slice(text),
        _ => {
            let at = bytes.len();
            bytes.resize(at + element.body_size(), 0);
            element.write_body(&mut bytes[at..]);
        }
    }
    listpack_size(item) as usize
}

#[inline]
fn take_item<'a>(bytes: &mut &'a [u8]) -> Item<'a> {
    let (&head, rest) = bytes.split_first().expect("a count says that it is there");
    let (body, rest) = rest.split_at(size_at_front(head, rest));
    *bytes = rest;
    decode(head, body)
}

/// What Redis's listpack takes for an integer.
fn int_size(value: i64) -> usize {
    listpack_size(Item::Int(value)) as usize
}

#[inline]
fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[inline]
fn read_varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}
