//! Frames: `u32 length | u8 kind | u64 id | payload | 16 bytes MAC`, little endian.
//!
//! A frame is appended to a queue without its MAC ([`append`] leaves the place), by whoever has something to send; the one
//! writer of the connection puts the MACs in ([`Sealer::seal`]) just before it writes, in the order of the stream. The MAC is over
//! the number of the frame in its direction, then everything before the MAC.

use std::hash::Hasher;

use bytes::{Buf, Bytes, BytesMut};
use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;

use super::{FRAME_MAX, Kind};

const LENGTH: usize = 4;
const HEAD: usize = LENGTH + 1 + 8;
const MAC: usize = 16;

/// What a frame is longer than its payload.
pub const OVERHEAD: usize = HEAD + MAC;

/// The longest payload.
pub const PAYLOAD_MAX: usize = FRAME_MAX - (OVERHEAD - LENGTH);

/// The key of one direction of one connection.
pub type Key = [u8; 16];

/// The payload is longer than [`PAYLOAD_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Appends a frame whose MAC is still missing; `write` appends the payload and must leave alone what is before. Returns where
/// the frame begins. Too large: the buffer is as before.
pub fn append(
    buffer: &mut BytesMut,
    kind: Kind,
    id: u64,
    write: impl FnOnce(&mut BytesMut),
) -> Result<usize, TooLarge> {
    let start = buffer.len();
    let mut head = [0; HEAD];
    head[LENGTH] = kind as u8;
    head[LENGTH + 1..].copy_from_slice(&id.to_le_bytes());
    buffer.extend_from_slice(&head);
    write(buffer);
    let payload = buffer.len() - start - HEAD;
    if payload > PAYLOAD_MAX {
        buffer.truncate(start);
        return Err(TooLarge);
    }
    buffer.extend_from_slice(&[0; MAC]);
    let length = u32::try_from(payload + OVERHEAD - LENGTH).expect("FRAME_MAX fits 32 bits");
    buffer[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
    Ok(start)
}

/// Gives the frame at `start` its id.
pub fn set_id(buffer: &mut BytesMut, start: usize, id: u64) {
    buffer[start + LENGTH + 1..start + HEAD].copy_from_slice(&id.to_le_bytes());
}

fn length_at(bytes: &[u8]) -> Option<usize> {
    let field = bytes.first_chunk::<LENGTH>()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

fn mac(key: &Key, sequence: u64, covered: &[u8]) -> [u8; MAC] {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(&sequence.to_le_bytes());
    hasher.write(covered);
    hasher.finish128().as_bytes()
}

/// Puts MACs into the frames that one side sends.
#[derive(Debug)]
pub struct Sealer {
    key: Key,
    sequence: u64,
}

impl Sealer {
    /// For the first frame of a direction.
    pub fn new(key: Key) -> Sealer {
        Sealer { key, sequence: 0 }
    }

    /// Seals whole frames from the front, as [`append`] left them one behind the other, until at least `wanted` bytes are sealed
    /// or all are. Returns how many bytes and frames that were.
    pub fn seal(&mut self, frames: &mut [u8], wanted: usize) -> (usize, u64) {
        let first = self.sequence;
        let mut sealed = 0;
        while sealed < wanted
            && let Some(length) = length_at(&frames[sealed..])
        {
            let frame = &mut frames[sealed..sealed + LENGTH + length];
            let (covered, place) = frame.split_at_mut(LENGTH + length - MAC);
            place.copy_from_slice(&mac(&self.key, self.sequence, covered));
            self.sequence += 1;
            sealed += LENGTH + length;
        }
        (sealed, self.sequence - first)
    }
}

/// A frame that was received, and is what its sender sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Which call it belongs to.
    pub id: u64,
    /// A piece of the buffer that was read into: it holds on to the whole of that. Who keeps it copies it.
    pub payload: Bytes,
}

/// What a peer must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A length that no frame has.
    Length,
    /// The MAC does not fit: changed, repeated, left out, or by somebody else.
    Mac,
    /// A kind that is unknown, or not for this side.
    Kind,
}

/// Takes apart what the other side sends.
#[derive(Debug)]
pub struct Opener {
    key: Key,
    sequence: u64,
}

impl Opener {
    /// For the first frame of a direction.
    pub fn new(key: Key) -> Opener {
        Opener { key, sequence: 0 }
    }

    /// The next frame, cut from the front of the buffer; `None` while it is not there whole. A violation ends the stream: the
    /// buffer means nothing any more.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Violation> {
        let Some(length) = length_at(buffer) else {
            return Ok(None);
        };
        if !(OVERHEAD - LENGTH..=FRAME_MAX).contains(&length) {
            return Err(Violation::Length);
        }
        let Some(whole) = buffer.get(..LENGTH + length) else {
            return Ok(None);
        };
        let (covered, claimed) = whole.split_at(LENGTH + length - MAC);
        let expected = mac(&self.key, self.sequence, covered);
        if !bool::from(expected.as_slice().ct_eq(claimed)) {
            return Err(Violation::Mac);
        }
        self.sequence += 1;
        let kind = Kind::from_number(covered[LENGTH]).ok_or(Violation::Kind)?;
        buffer.advance(LENGTH + 1);
        let id = buffer.get_u64_le();
        let payload = buffer.split_to(length - (HEAD - LENGTH) - MAC).freeze();
        buffer.advance(MAC);
        Ok(Some(Frame { kind, id, payload }))
    }
}
