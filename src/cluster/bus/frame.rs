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
    close(buffer, start);
    Ok(start)
}

/// Appends to the payload of the last frame, which begins at `start`. Too large: it is as before.
pub fn extend(
    buffer: &mut BytesMut,
    start: usize,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), TooLarge> {
    let end = buffer.len() - MAC;
    buffer.truncate(end);
    write(buffer);
    let payload = buffer.len() - start - HEAD;
    if payload > PAYLOAD_MAX {
        buffer.truncate(end);
        buffer.extend_from_slice(&[0; MAC]);
        return Err(TooLarge);
    }
    close(buffer, start);
    Ok(())
}

/// Leaves the place of the MAC, and says how long the frame is.
fn close(buffer: &mut BytesMut, start: usize) {
    buffer.extend_from_slice(&[0; MAC]);
    let length = u32::try_from(buffer.len() - start - LENGTH).expect("FRAME_MAX fits 32 bits");
    buffer[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
}

/// The payload of the first of some frames whose MACs are missing.
#[cfg(test)]
pub fn take_unsealed(frames: &mut Bytes) -> Option<Bytes> {
    let length = frames.first_chunk::<LENGTH>()?;
    let frame = frames.split_to(LENGTH + u32::from_le_bytes(*length) as usize);
    Some(frame.slice(HEAD..frame.len() - MAC))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = [7; 16];

    fn sealed(payloads: &[&[u8]]) -> BytesMut {
        let mut frames = BytesMut::new();
        for (index, payload) in payloads.iter().enumerate() {
            append(&mut frames, Kind::Forward, index as u64, |frame| {
                frame.extend_from_slice(payload);
            })
            .expect("it is small");
        }
        let whole = (frames.len(), payloads.len() as u64);
        assert_eq!(Sealer::new(KEY).seal(&mut frames, usize::MAX), whole);
        frames
    }

    #[test]
    fn a_frame_is_laid_out_as_described() {
        let frames = sealed(&[b"abc"]);
        assert_eq!(frames.len(), 3 + OVERHEAD);
        assert_eq!(frames[..4], 28u32.to_le_bytes());
        assert_eq!(frames[4], Kind::Forward as u8);
        assert_eq!(frames[5..13], 0u64.to_le_bytes());
        assert_eq!(&frames[13..16], b"abc");
        // The number, then all before the MAC, by a second implementation of the call.
        let covered = [0u64.to_le_bytes().as_slice(), &frames[..16]].concat();
        let expected = SipHasher24::new_with_key(&KEY).hash(&covered).as_bytes();
        assert_eq!(frames[16..], expected);
    }

    #[test]
    fn sealing_stops_when_enough_is_sealed() {
        let mut frames = BytesMut::new();
        for _ in 0..3 {
            append(&mut frames, Kind::Ask, 1, |frame| {
                frame.extend_from_slice(b"x")
            })
            .expect("small");
        }
        let length = 1 + OVERHEAD;
        let mut sealer = Sealer::new(KEY);
        assert_eq!(sealer.seal(&mut frames, length + 1), (2 * length, 2));
        assert_eq!(sealer.seal(&mut frames[2 * length..], 1), (length, 1));
        assert_eq!(sealer.seal(&mut [], 1), (0, 0));
        let mut opener = Opener::new(KEY);
        for _ in 0..3 {
            assert!(matches!(opener.next(&mut frames), Ok(Some(frame)) if frame.payload == "x"));
        }
    }

    #[test]
    fn a_frame_that_is_extended_is_as_if_written_at_once() {
        let mut frames = BytesMut::new();
        let put = |text: &'static [u8]| move |frame: &mut BytesMut| frame.extend_from_slice(text);
        append(&mut frames, Kind::Ask, 1, put(b"first")).expect("small");
        let start = append(&mut frames, Kind::Publish, 0, put(b"ab")).expect("small");
        assert_eq!(extend(&mut frames, start, put(b"cde")), Ok(()));
        let before = frames.clone();
        let much = |frame: &mut BytesMut| frame.resize(frame.len() + PAYLOAD_MAX, 0);
        assert_eq!(extend(&mut frames, start, much), Err(TooLarge));
        assert_eq!(frames, before);
        let mut at_once = BytesMut::new();
        append(&mut at_once, Kind::Ask, 1, put(b"first")).expect("small");
        append(&mut at_once, Kind::Publish, 0, put(b"abcde")).expect("small");
        assert_eq!(frames, at_once);
    }

    #[test]
    fn a_payload_that_is_too_large_leaves_the_buffer() {
        let mut frames = BytesMut::from("before");
        let much = |frame: &mut BytesMut| frame.resize(frame.len() + PAYLOAD_MAX + 1, 0);
        assert_eq!(append(&mut frames, Kind::Ask, 1, much), Err(TooLarge));
        assert_eq!(frames, "before");
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        let mut bytes = BytesMut::with_capacity(16);
        bytes.extend_from_slice(&(FRAME_MAX as u32).to_le_bytes());
        bytes.extend_from_slice(&[3; 9]);
        assert_eq!(Opener::new(KEY).next(&mut bytes), Ok(None));
        assert_eq!((bytes.len(), bytes.capacity()), (13, 16));
    }

    #[test]
    fn lengths_beyond_the_bounds_are_refused_at_once() {
        for length in [0, 24, FRAME_MAX as u32 + 1, u32::MAX] {
            let mut bytes = BytesMut::from(length.to_le_bytes().as_slice());
            let refused = Opener::new(KEY).next(&mut bytes);
            assert_eq!(refused, Err(Violation::Length), "{length}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let frames = sealed(&[b"one"]);
        for bit in 0..frames.len() * 8 {
            let mut flipped = frames.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A length that grew waits for more, which the writer of these bytes cannot make right either.
            let opened = Opener::new(KEY).next(&mut flipped);
            assert!(!matches!(opened, Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn frames_of_another_direction_or_place_are_refused() {
        let mut opener = Opener::new([8; 16]);
        assert_eq!(opener.next(&mut sealed(&[b"one"])), Err(Violation::Mac));
        let mut opener = Opener::new(KEY);
        assert!(matches!(opener.next(&mut sealed(&[b"one"])), Ok(Some(_))));
        assert_eq!(opener.next(&mut sealed(&[b"one"])), Err(Violation::Mac));
    }

    proptest! {
        #[test]
        fn frames_arrive_whole_however_they_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            cuts in prop::collection::vec(1usize..300, 1..50),
        ) {
            let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            let mut stream = sealed(&payloads).freeze();
            let (mut opener, mut buffer, mut opened) = (Opener::new(KEY), BytesMut::new(), Vec::new());
            for cut in cuts.iter().cycle() {
                if stream.is_empty() {
                    break;
                }
                buffer.extend_from_slice(&stream.split_to((*cut).min(stream.len())));
                while let Some(frame) = opener.next(&mut buffer).expect("it is as it was sent") {
                    prop_assert_eq!((frame.kind, frame.id), (Kind::Forward, opened.len() as u64));
                    opened.push(frame.payload);
                }
            }
            prop_assert_eq!(opened, payloads);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn noise_is_never_a_frame(noise in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut buffer = BytesMut::from(noise.as_slice());
            prop_assert!(!matches!(Opener::new(KEY).next(&mut buffer), Ok(Some(_))));
        }
    }
}
