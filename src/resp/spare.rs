//! Buffers between two uses. A connection that has nothing to run and nothing to send holds none; what it had serves the
//! next one of its thread.
//!
//! Of outputs a thread keeps several: the messages of a channel fill the outboxes of all its subscribers before the first of
//! them is sent, and a buffer that had to grow anew for each such round would cost more than what is written into it.

use std::cell::RefCell;

use bytes::BytesMut;

/// Empty buffers.
pub struct Spare {
    buffers: RefCell<Buffers>,
    /// What they may take together. What is left beyond that is freed.
    max_bytes: usize,
}

struct Buffers {
    all: Vec<BytesMut>,
    bytes: usize,
}

/// The largest buffer that is kept.
const SPARE_MAX: usize = 64 * 1024;
/// What a thread keeps of outputs: as much as a few hundred subscribers need.
const OUTPUTS_MAX: usize = 2 * 1024 * 1024;

thread_local! {
    /// For what clients send.
    pub static INPUTS: Spare = const { Spare::of(SPARE_MAX) };
    /// For what is sent to them.
    pub static OUTPUTS: Spare = const { Spare::of(OUTPUTS_MAX) };
}

impl Spare {
    const fn of(max_bytes: usize) -> Spare {
        Spare {
            buffers: RefCell::new(Buffers {
                all: Vec::new(),
                bytes: 0,
            }),
            max_bytes,
        }
    }

    /// The one that was left last.
    #[inline]
    pub fn take(&self) -> Option<BytesMut> {
        let mut buffers = self.buffers.borrow_mut();
        let buffer = buffers.all.pop()?;
        buffers.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Keeps an empty buffer for the next, or frees it.
    #[inline]
    pub fn leave(&self, buffer: BytesMut) {
        debug_assert!(buffer.is_empty());
        let bytes = buffer.capacity();
        let mut buffers = self.buffers.borrow_mut();
        if bytes > 0 && bytes <= SPARE_MAX && buffers.bytes + bytes <= self.max_bytes {
            buffers.bytes += bytes;
            buffers.all.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last one left is the next one taken; what is too large, or too much, is not kept.
    #[test]
    fn buffers_are_kept_within_bounds() {
        let spare = Spare::of(2 * SPARE_MAX);
        assert!(spare.take().is_none());
        spare.leave(BytesMut::new());
        assert!(spare.take().is_none());
        spare.leave(BytesMut::with_capacity(SPARE_MAX + 1));
        assert!(spare.take().is_none());
        for kilobytes in [1, 64, 63, 1, 2] {
            spare.leave(BytesMut::with_capacity(kilobytes * 1024));
        }
        let taken: Vec<usize> = std::iter::from_fn(|| spare.take())
            .map(|buffer| buffer.capacity() / 1024)
            .collect();
        assert_eq!(taken, [63, 64, 1]);
        spare.leave(BytesMut::with_capacity(SPARE_MAX));
        assert_eq!(
            spare.take().map(|buffer| buffer.capacity()),
            Some(SPARE_MAX)
        );
    }
}
