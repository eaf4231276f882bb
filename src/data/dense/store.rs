//! The records of one part: keys and values one behind another, the long ones beside them.

use bytes::Bytes;

use super::{Content, reserve, vec_bytes};
use crate::base::allocator::good_size;

/// The longest key or value that stands in its record.
const LONGEST_SHORT: usize = 254;
/// The length of a key or value that stands elsewhere; its number is in the record.
const LARGE: u8 = 255;
const NUMBER_BYTES: usize = 4;

/// A key or value to be stored.
pub(super) enum Cell<'a> {
    Short(&'a [u8]),
    Large(Bytes),
    Owned(Vec<u8>),
}

impl<'a> From<&'a [u8]> for Cell<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        if bytes.len() <= LONGEST_SHORT {
            Cell::Short(bytes)
        } else {
            Cell::Large(Bytes::copy_from_slice(bytes))
        }
    }
}

impl<'a> From<Content<'a>> for Cell<'a> {
    fn from(content: Content<'a>) -> Self {
        match content {
            Content::Shared(bytes) if bytes.len() > LONGEST_SHORT => Cell::Large(bytes.clone()),
            Content::Shared(bytes) => Cell::Short(bytes),
            Content::Copy(bytes) => bytes.into(),
        }
    }
}

impl Cell<'_> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Cell::Short(bytes) => bytes,
            Cell::Large(bytes) => bytes,
            Cell::Owned(bytes) => bytes,
        }
    }

    pub(super) fn into_owned(self) -> Cell<'static> {
        match self {
            Cell::Short(bytes) => Cell::Owned(bytes.to_vec()),
            Cell::Large(bytes) => Cell::Large(bytes),
            Cell::Owned(bytes) => Cell::Owned(bytes),
        }
    }

    fn head(&self) -> u8 {
        match self {
            Cell::Large(_) => LARGE,
            short => short.as_slice().len() as u8,
        }
    }

    fn body_len(&self) -> usize {
        body_len(self.head())
    }
}

#[inline]
pub(super) fn body_len(head: u8) -> usize {
    if head == LARGE {
        NUMBER_BYTES
    } else {
        usize::from(head)
    }
}

/// The records of a part.
#[derive(Clone, Default)]
pub(super) struct Store<const VALUES: bool> {
    pub(super) records: Vec<u8>,
    /// Bytes of records that no place refers to any more.
    pub(super) holes: usize,
    pub(super) large: Option<Box<Large>>,
}

/// Keys and values that stand on their own, by number.
#[derive(Clone, Default)]
pub(super) struct Large {
    pub(super) slots: Vec<Bytes>,
    pub(super) free: Vec<u32>,
    /// What the buffers take from the allocator.
    pub(super) bytes: usize,
}

impl<const VALUES: bool> Store<VALUES> {
    const HEADS: usize = if VALUES { 2 } else { 1 };

    /// The first byte of a record.
    pub(super) fn head(&self, offset: u32) -> u8 {
        self.records[offset as usize]
    }

    pub(super) fn key(&self, offset: u32) -> &[u8] {
        self.cell(self.head(offset), offset as usize + Self::HEADS)
    }

    pub(super) fn value(&self, offset: u32) -> &[u8] {
        if !VALUES {
            return &[];
        }
        let (head, body) = self.value_place(offset);
        self.cell(head, body)
    }

    fn cell(&self, head: u8, body: usize) -> &[u8] {
        let held = &self.records[body..body + body_len(head)];
        if head == LARGE {
            self.large_at(held)
        } else {
            held
        }
    }

    pub(super) fn shared_value(&self, offset: u32) -> Option<&Bytes> {
        if !VALUES {
            return None;
        }
        let (head, body) = self.value_place(offset);
        (head == LARGE).then(|| self.large_at(&self.records[body..]))
    }

    /// Head and body of the value.
    fn value_place(&self, offset: u32) -> (u8, usize) {
        let offset = offset as usize;
        let key = body_len(self.records[offset]);
        (self.records[offset + 1], offset + Self::HEADS + key)
    }

    fn large_at(&self, body: &[u8]) -> &Bytes {
        let large = self.large.as_ref().expect("a large cell has its store");
        &large.slots[read_number(body) as usize]
    }

    /// Key and value, to be stored elsewhere.
    pub(super) fn cells(&self, offset: u32) -> (Cell<'_>, Cell<'_>) {
        let start = offset as usize;
        let key = self.to_cell(self.records[start], start + Self::HEADS);
        if !VALUES {
            return (key, Cell::Short(&[]));
        }
        let (head, body) = self.value_place(offset);
        (key, self.to_cell(head, body))
    }

    fn to_cell(&self, head: u8, body: usize) -> Cell<'_> {
        let held = &self.records[body..body + body_len(head)];
        if head == LARGE {
            Cell::Large(self.large_at(held).clone())
        } else {
            Cell::Short(held)
        }
    }

    pub(super) fn record_len(key: &Cell<'_>, value: &Cell<'_>) -> usize {
        let value = if VALUES { value.body_len() } else { 0 };
        Self::HEADS + key.body_len() + value
    }

    pub(super) fn record_size(&self, offset: u32) -> usize {
        let start = offset as usize;
        let heads = &self.records[start..start + Self::HEADS];
        Self::HEADS + heads.iter().map(|&head| body_len(head)).sum::<usize>()
    }

    /// Writes a record behind all others; there is room.
    pub(super) fn append(&mut self, key: Cell<'_>, value: Cell<'_>) -> u32 {
        let offset = u32::try_from(self.records.len()).expect("records of a part within 4 GiB");
        self.records.push(key.head());
        if VALUES {
            self.records.push(value.head());
        }
        self.append_body(key);
        if VALUES {
            self.append_body(value);
        }
        offset
    }

    fn append_body(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Large(bytes) => {
                let number = self.large.get_or_insert_default().add(bytes);
                self.records.extend_from_slice(&number.to_le_bytes());
            }
            short => self.records.extend_from_slice(short.as_slice()),
        }
    }

    /// Writes a value over the old one if it is not longer; else gives it back.
    pub(super) fn replace_value<'a>(&mut self, offset: u32, value: Cell<'a>) -> Option<Cell<'a>> {
        let (head, body) = self.value_place(offset);
        let (old, new) = (body_len(head), value.body_len());
        if new > old {
            return Some(value);
        }
        if head == LARGE {
            self.release_large(body);
        }
        self.records[offset as usize + 1] = value.head();
        let number;
        let bytes = match value {
            Cell::Large(bytes) => {
                number = self.large.get_or_insert_default().add(bytes).to_le_bytes();
                &number[..]
            }
            Cell::Short(bytes) => bytes,
            Cell::Owned(ref bytes) => bytes,
        };
        self.records[body..body + new].copy_from_slice(bytes);
        self.holes += old - new;
        None
    }

    /// Makes a record a hole.
    pub(super) fn release(&mut self, offset: u32) {
        let start = offset as usize;
        self.holes += self.record_size(offset);
        let mut body = start + Self::HEADS;
        for place in start..start + Self::HEADS {
            let head = self.records[place];
            if head == LARGE {
                self.release_large(body);
            }
            body += body_len(head);
        }
    }

    fn release_large(&mut self, body: usize) {
        let number = read_number(&self.records[body..]);
        let large = self.large.as_mut().expect("a large cell has its store");
        large.remove(number);
        if large.slots.len() == large.free.len() {
            self.large = None;
        }
    }

    pub(super) fn large_is_sparse(&self) -> bool {
        let large = self.large.as_ref();
        large.is_some_and(|large| large.free.len() > 8 && large.free.len() > large.slots.len() / 2)
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |large| {
            let slots = vec_bytes(&large.slots) + vec_bytes(&large.free);
            good_size(size_of::<Large>()) + slots + large.bytes
        });
        vec_bytes(&self.records) + large
    }
}

impl Large {
    fn add(&mut self, bytes: Bytes) -> u32 {
        self.bytes += bytes_of(&bytes);
        if let Some(number) = self.free.pop() {
            self.slots[number as usize] = bytes;
            return number;
        }
        let number = u32::try_from(self.slots.len()).expect("a part has fewer than 2^32 cells");
        reserve(&mut self.slots, 1);
        self.slots.push(bytes);
        number
    }

    fn remove(&mut self, number: u32) {
        let old = std::mem::take(&mut self.slots[number as usize]);
        self.bytes -= bytes_of(&old);
        reserve(&mut self.free, 1);
        self.free.push(number);
    }
}

fn read_number(body: &[u8]) -> u32 {
    let number = body.first_chunk().expect("a large cell holds a number");
    u32::from_le_bytes(*number)
}

pub(super) fn bytes_of(bytes: &Bytes) -> usize {
    if bytes.is_empty() {
        0
    } else {
        good_size(bytes.len())
    }
}
