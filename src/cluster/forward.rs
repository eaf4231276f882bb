//! What nodes say to each other to have requests run: the payloads of [`Kind::Forward`](super::bus::Kind::Forward).
//!
//! ```text
//!     request:  epoch u64 | client u64 | database u32 | flags u8 | requests as RESP arrays, one after the other
//!     answer:   epoch u64 | ran u32 | length of each reply u32 x ran | replies, one after the other
//! ```
//!
//! A frame holds what one client's batch has for one peer, in the client's order. The peer runs the requests in this order
//! until one's keys are not its own (or it cannot run it by a frame): neither that one nor any behind it is run, `ran` says
//! how many were. Numbers are big-endian. The bus bounds a frame and vouches for who sent it; still nothing here trusts a
//! length.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::resp::decode::Arguments;
use crate::resp::reply::Output;

bitflags::bitflags! {
    /// How the requests of a frame are run.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HowToRun: u8 {
        /// Replies in RESP3.
        const RESP3 = 1;
        /// CLIENT NO-TOUCH.
        const NO_TOUCH = 1 << 1;
        /// A script that is named by its SHA-1 and not known is not run, nor is what stands behind it: the sender may know the
        /// text, and sends that instead.
        const WANTS_TEXTS = 1 << 2;
        /// The client tracks the keys that it reads (CLIENT TRACKING): they are to be remembered for it.
        const REMEMBER = 1 << 3;
    }
}

/// What stands before the requests of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The sender's.
    pub epoch: u64,
    /// The client, by its id at the sender: below [`CLIENTS`].
    pub client: u64,
    /// The client's.
    pub database: u32,
    /// How to run them.
    pub how: HowToRun,
}

/// Ids of clients are below this, so that a peer can put the number of a connection above them.
pub const CLIENTS: u64 = 1 << 40;

/// Not what a peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Head {
    /// Bytes of a head.
    pub const BYTES: usize = 21;

    /// Writes it.
    pub fn write(&self, payload: &mut BytesMut) {
        payload.put_u64(self.epoch);
        payload.put_u64(self.client);
        payload.put_u32(self.database);
        payload.put_u8(self.how.bits());
    }

    /// Reads it and leaves the requests.
    pub fn read(payload: &mut Bytes) -> Result<Head, Malformed> {
        if payload.len() < Head::BYTES {
            return Err(Malformed);
        }
        let (epoch, client) = (payload.get_u64(), payload.get_u64());
        if client >= CLIENTS {
            return Err(Malformed);
        }
        Ok(Head {
            epoch,
            client,
            database: payload.get_u32(),
            how: HowToRun::from_bits(payload.get_u8()).ok_or(Malformed)?,
        })
    }
}

/// Appends a request as clients send it.
pub fn write_request(request: Arguments<'_>, payload: &mut BytesMut) {
    write_count(b'*', request.len(), payload);
    for part in request.iter() {
        write_count(b'$', part.len(), payload);
        payload.reserve(part.len() + 2);
        payload.put_slice(part);
        payload.put_slice(b"\r\n");
    }
}

/// The same, for arguments that stand one behind the other as they were received ([`Decoder::received`]).
///
/// [`Decoder::received`]: crate::resp::decode::Decoder::received
#[inline]
pub fn write_received(count: usize, arguments: &[u8], payload: &mut BytesMut) {
    write_count(b'*', count, payload);
    payload.extend_from_slice(arguments);
}

#[inline]
fn write_count(sign: u8, count: usize, payload: &mut BytesMut) {
    if count < 10 {
        return payload.extend_from_slice(&[sign, b'0' + count as u8, b'\r', b'\n']);
    }
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(count).as_bytes();
    payload.reserve(digits.len() + 3);
    payload.put_u8(sign);
    payload.put_slice(digits);
    payload.put_slice(b"\r\n");
}

/// Room that is made for replies at once: what is longer goes in parts.
const RESERVED_BYTES: usize = 1024 * 1024;

/// The answer to a frame.
#[derive(Debug)]
pub struct Answer {
    /// The peer's.
    pub epoch: u64,
    payload: Bytes,
    /// Where the lengths are whose replies were not taken yet.
    lengths: Range<usize>,
    /// Where the next reply begins.
    next: usize,
}

impl Answer {
    /// Bytes before the lengths.
    const HEAD: usize = 12;

    /// Writes what stands before the replies: where each ends.
    pub fn write_head(epoch: u64, ends: &[usize], payload: &mut BytesMut) {
        let replies = ends.last().copied().unwrap_or(0).min(RESERVED_BYTES);
        payload.reserve(Answer::HEAD + 4 * ends.len() + replies);
        payload.put_u64(epoch);
        payload.put_u32(ends.len() as u32);
        let mut begin = 0;
        for end in ends {
            payload.put_u32((end - begin) as u32);
            begin = *end;
        }
    }

    /// Reads an answer to a frame of `count` requests.
    pub fn read(payload: Bytes, count: usize) -> Result<Answer, Malformed> {
        let mut head = payload.get(..Answer::HEAD).ok_or(Malformed)?;
        let epoch = head.get_u64();
        let ran = head.get_u32() as usize;
        if ran > count || payload.len() < Answer::HEAD + 4 * ran {
            return Err(Malformed);
        }
        let lengths = Answer::HEAD..Answer::HEAD + 4 * ran;
        let next = lengths.end;
        let lengths_of = payload[lengths.clone()].chunks_exact(4);
        let total: usize = lengths_of.map(|mut length| length.get_u32() as usize).sum();
        if total != payload.len() - next {
            return Err(Malformed);
        }
        Ok(Answer {
            epoch,
            payload,
            lengths,
            next,
        })
    }

    /// How many requests were run whose replies were not taken yet.
    pub fn left(&self) -> usize {
        self.lengths.len() / 4
    }

    /// Where the next reply is.
    fn take(&mut self) -> Option<Range<usize>> {
        let mut length = self.payload.get(self.lengths.clone())?.get(..4)?;
        self.lengths.start += 4;
        let begin = self.next;
        self.next += length.get_u32() as usize;
        Some(begin..self.next)
    }

    /// The next reply.
    pub fn take_reply(&mut self) -> Option<Bytes> {
        let place = self.take()?;
        Some(self.payload.slice(place))
    }

    /// Appends the next reply, if there is one.
    #[inline]
    pub fn push_reply(&mut self, output: &mut Output) {
        if let Some(place) = self.take() {
            output.push_slice_of(&self.payload, place);
        }
    }

    /// Passes over so many replies.
    pub fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::{Decoder, Limits, OwnedArguments, Status};

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let request: OwnedArguments = ["SET", "k", ""].iter().collect();
        let mut payload = BytesMut::new();
        let head = Head {
            epoch: 7,
            client: 12,
            database: 3,
            how: HowToRun::RESP3,
        };
        head.write(&mut payload);
        write_request(request.as_arguments(), &mut payload);
        let mut payload = payload.freeze();
        assert_eq!(Head::read(&mut payload), Ok(head));
        assert_eq!(&payload[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
        let mut decoder = Decoder::new();
        let status = decoder.next(&payload, &Limits::authenticated(100));
        assert_eq!(status, Ok(Status::Request));
        let parts: Vec<&[u8]> = decoder.arguments(&payload).iter().collect();
        assert_eq!(parts, [&b"SET"[..], b"k", b""]);
    }

    #[test]
    fn an_answer_gives_one_reply_after_the_other() {
        let mut payload = BytesMut::new();
        Answer::write_head(9, &[5, 5, 8], &mut payload);
        payload.put_slice(b"+OK\r\n:1\r");
        let mut answer = Answer::read(payload.freeze(), 4).expect("well-formed");
        assert_eq!((answer.epoch, answer.left()), (9, 3));
        assert_eq!(answer.take_reply().as_deref(), Some(&b"+OK\r\n"[..]));
        assert_eq!(answer.take_reply().as_deref(), Some(&b""[..]));
        assert_eq!(answer.take_reply().as_deref(), Some(&b":1\r"[..]));
        assert_eq!(answer.take_reply(), None);
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut payload = BytesMut::new();
        Answer::write_head(9, &[5, 8], &mut payload);
        payload.put_slice(b"+OK\r\n:1\r");
        let payload = payload.freeze();
        assert!(Answer::read(payload.clone(), 1).is_err());
        for cut in 0..payload.len() {
            assert!(Answer::read(payload.slice(..cut), 2).is_err(), "{cut}");
        }
        assert!(Answer::read(payload, 2).is_ok());
        assert_eq!(
            Head::read(&mut Bytes::from_static(&[0; 20])),
            Err(Malformed)
        );
        assert_eq!(
            Head::read(&mut Bytes::from_static(&[255; 21])),
            Err(Malformed)
        );
    }
}
