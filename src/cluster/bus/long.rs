//! Calls and answers that are longer than one frame should be: they go in parts, so that others' frames come between, and no
//! queue has to hold them.
//!
//! ```text
//!     Part id=7 | Part id=7 | (frames of others) | Part id=7 | Forward id=7 (the rest)
//! ```
//!
//! Each side sends one of them at a time over a connection, and the other side collects one: what is collected ends with a
//! part of another, whose sender has begun anew. Nothing is done before the last part is there.

use bytes::{Bytes, BytesMut};

use super::frame::Violation;
use super::{FRAME_MAX, LONG_MAX};

/// Payloads from which calls and answers go in parts.
pub(super) const LONG_FROM: usize = 4 << 20;

/// Bytes of one part.
pub(super) const PART_BYTES: usize = 256 << 10;

const _: () = assert!(LONG_FROM < FRAME_MAX / 2 && PART_BYTES < LONG_FROM);

/// What has come of a long call or answer.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    id: u64,
    bytes: BytesMut,
}

impl Assembly {
    /// A part has come. The memory grows with what comes, to [`LONG_MAX`].
    pub(super) fn part(&mut self, id: u64, payload: &[u8]) -> Result<(), Violation> {
        if self.id != id {
            self.id = id;
            self.bytes = BytesMut::new();
        }
        if self.bytes.len() + payload.len() > LONG_MAX {
            return Err(Violation::Length);
        }
        self.bytes.extend_from_slice(payload);
        Ok(())
    }

    /// The frame itself has come: the whole payload.
    pub(super) fn whole(&mut self, id: u64, payload: Bytes) -> Bytes {
        if self.id != id || self.bytes.is_empty() {
            return payload;
        }
        let mut whole = std::mem::take(self).bytes;
        whole.extend_from_slice(&payload);
        whole.freeze()
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&mut self, id: u64) {
        if self.id == id {
            *self = Assembly::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Aim: a message is what its parts are, whatever came between; one that was begun anew has nothing of the one before.
    #[test]
    fn parts_become_one() {
        let mut assembly = Assembly::default();
        let frame = Bytes::from_static(b"frame");
        assert_eq!(assembly.whole(7, frame.clone()), frame);
        assembly.part(7, b"one ").expect("it is short");
        assert_eq!(assembly.whole(8, frame.clone()), frame);
        assert_eq!(assembly.whole(0, frame.clone()), frame);
        assembly.part(7, b"two ").expect("it is short");
        assert_eq!(assembly.whole(7, frame.clone()), &b"one two frame"[..]);
        assert_eq!(assembly.whole(7, frame.clone()), frame);
        assembly.part(9, b"given up ").expect("it is short");
        assembly.part(10, b"x ").expect("it is short");
        assert_eq!(assembly.whole(9, frame.clone()), frame);
        assert_eq!(assembly.whole(10, frame.clone()), &b"x frame"[..]);
        assembly.part(11, b"x ").expect("it is short");
        assembly.forget(10);
        assembly.forget(11);
        assert_eq!(assembly.whole(11, frame.clone()), frame);
    }

    /// Aim: what one peer may have collected is bounded.
    #[test]
    fn a_message_has_a_greatest_length() {
        let mut assembly = Assembly::default();
        let part = vec![0; LONG_MAX / 16];
        for _ in 0..16 {
            assembly.part(7, &part).expect("within the bound");
        }
        assert_eq!(assembly.part(7, &part), Err(Violation::Length));
    }
}
