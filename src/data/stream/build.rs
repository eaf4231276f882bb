//! A stream that is put together from what stands elsewhere: a payload of RESTORE.

use super::block::{Block, Fields};
use super::id::Id;
use super::{Stream, text_bytes};

/// What a stream knows besides its entries and groups.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// The last id that was given.
    pub last_id: Id,
    /// The highest id that was removed other than by trimming.
    pub max_deleted_id: Id,
    /// Entries that were ever added; `None` is as many as there are.
    pub entries_added: Option<u64>,
}

/// A stream without groups that is put together block by block.
#[derive(Debug, Default)]
pub struct Builder {
    stream: Stream,
    /// The last entry that is not marked.
    last: Id,
    in_block: bool,
}

impl Builder {
    /// The next entry begins a block.
    pub fn begin_block(&mut self) {
        self.in_block = false;
    }

    /// Adds an entry, as one that was removed where `deleted` says so. `None` where it cannot stand there.
    pub fn push<'a>(&mut self, id: Id, fields: impl Fields<'a>, deleted: bool) -> Option<()> {
        text_bytes(fields.clone())?;
        let blocks = &mut self.stream.blocks;
        let first = blocks.last().map(|last| blocks.get(last).first());
        let is_above = if self.in_block {
            first.is_some_and(|first| id > first) && (deleted || id > self.last)
        } else {
            id > self.last && first.is_none_or(|first| id > first)
        };
        if !is_above {
            return None;
        }
        if self.in_block {
            // Offsets are numbers of 32 bits, and a listpack is shorter than that.
            blocks.grow(|block| block.append(id, fields));
        } else {
            blocks.push(Block::new(id, fields, 0));
            self.in_block = true;
        }
        let place = blocks.last()?;
        if deleted {
            blocks.change(place, |block| block.mark_deleted(block.last_head()));
        } else {
            self.last = id;
            self.stream.len += 1;
        }
        Some(())
    }

    /// The stream. `None` when what it is said to know contradicts its entries.
    pub fn finish(mut self, counters: Counters) -> Option<Stream> {
        if counters.last_id < self.last {
            return None;
        }
        self.stream.last_id = counters.last_id;
        self.stream.max_deleted_id = counters.max_deleted_id;
        self.stream.entries_added = counters.entries_added.unwrap_or(self.stream.len);
        self.stream.find_first();
        Some(self.stream)
    }
}
