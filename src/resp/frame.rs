//! Replies of other servers: RESP2 and RESP3 values into a tree.
//!
//! `redis-protocol` reads them, and this is the only file that names it. Its decoder recurses on the sender's nesting (32
//! kB of `*1` overflow the stack) and starts again at the first byte with every read, so nothing reaches it that `Gate` has
//! not let through: a gate walks the bytes once, iteratively, keeps its place, limits depth and length, and knows when
//! the value is complete. Forwarding needs only the gate.
//!
//! What the decoder does not keep: attributes, and the second of two equal map keys or set members. Verbatim formats
//! other than `txt` and `mkd`, and the streamed types that no server sends, are refused.

use std::fmt;

use redis_protocol::resp2;
use redis_protocol::resp3;
use redis_protocol::resp3::types::DecodedFrame;
use smallvec::SmallVec;

use crate::data::number::parse_i64;
use crate::resp::reply::Protocol;

/// Aggregates within aggregates; deeper is an error.
pub const MAX_DEPTH: usize = 128;

/// The length of one value with all it contains; longer is an error.
pub const MAX_BYTES: usize = 1024 * 1024 * 1024;

/// The length of a line; longer is an error.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Bytes that are not a reply, or are beyond a limit. The link they came from is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// An unknown type, or a length that is no number.
    Malformed,
    /// Beyond `MAX_DEPTH`.
    TooDeep,
    /// Beyond `MAX_BYTES`, or a line without an end.
    TooLong,
    /// Well-formed, but refused by the decoder.
    Refused(String),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed reply"),
            Self::TooDeep => write!(f, "reply nested deeper than {MAX_DEPTH}"),
            Self::TooLong => write!(f, "reply longer than {MAX_BYTES} bytes"),
            Self::Refused(reason) => write!(f, "reply not understood: {reason}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Finds the end of one value, which may arrive in parts.
#[derive(Debug, Default)]
pub struct Gate {
    /// The next element begins here; all before it is checked.
    position: usize,
    /// How many elements are still to come, of each aggregate that is open.
    open: SmallVec<[u64; 8]>,
}

impl Gate {
    /// A gate before the first byte of a value.
    pub fn new() -> Self {
        Self::default()
    }

    /// The length of the value at the start of `input`, if it is complete; the gate is then ready for the next one. Else
    /// the next call must have the same bytes and more.
    pub fn scan(&mut self, input: &[u8]) -> Result<Option<usize>, FrameError> {
        while let Some((len, children)) = element(&input[self.position..])? {
            self.position += len;
            if self.position > MAX_BYTES {
                return Err(FrameError::TooLong);
            }
            self.descend(children)?;
            if self.open.is_empty() {
                return Ok(Some(std::mem::take(&mut self.position)));
            }
        }
        Ok(None)
    }

    /// Opens an aggregate, or counts off an element and what it completes.
    fn descend(&mut self, children: u64) -> Result<(), FrameError> {
        if children > 0 {
            if self.open.len() == MAX_DEPTH {
                return Err(FrameError::TooDeep);
            }
            self.open.push(children);
            return Ok(());
        }
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            self.open.pop();
        }
        Ok(())
    }
}

/// The length of the value at the start of `input`, with all it contains, if it is complete.
pub fn frame_len(input: &[u8]) -> Result<Option<usize>, FrameError> {
    Gate::new().scan(input)
}

/// The first element of `input` without its children: its length, and how many children follow; none if incomplete.
fn element(input: &[u8]) -> Result<Option<(usize, u64)>, FrameError> {
    let searched = &input[..input.len().min(MAX_LINE_BYTES)];
    let Some(end) = memchr::memchr(b'\n', searched) else {
        return match input.len() > MAX_LINE_BYTES {
            true => Err(FrameError::TooLong),
            false => Ok(None),
        };
    };
    let Some((kind, text)) = input[..end].strip_suffix(b"\r").and_then(<[u8]>::split_first) else {
        return Err(FrameError::Malformed);
    };
    let line = end + 1;
    let count = || match parse_i64(text).ok_or(FrameError::Malformed)? {
        -1 if matches!(kind, b'$' | b'*') => Ok(None),
        count => u64::try_from(count).map(Some).map_err(|_| FrameError::Malformed),
    };
    let found = match kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => Some((line, 0)),
        b'$' | b'!' | b'=' => match count()? {
            None => Some((line, 0)),
            Some(bytes) if bytes > MAX_BYTES as u64 => return Err(FrameError::TooLong),
            Some(bytes) => {
                let len = line + bytes as usize + 2;
                (len <= input.len()).then_some((len, 0))
            }
        },
        b'*' | b'~' | b'>' => Some((line, count()?.unwrap_or(0))),
        b'%' => Some((line, checked_pairs(count()?)?)),
        // An attribute is not the value: that comes after its pairs.
        b'|' => Some((line, checked_pairs(count()?)? + 1)),
        _ => return Err(FrameError::Malformed),
    };
    Ok(found)
}

fn checked_pairs(count: Option<u64>) -> Result<u64, FrameError> {
    match count {
        Some(count) if count <= MAX_BYTES as u64 => Ok(count * 2),
        _ => Err(FrameError::Malformed),
    }
}

/// A value that another server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// `+`
    Simple(Vec<u8>),
    /// `-` and `!`, with the code it begins with
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1`, `*-1`, `_`
    Null,
    /// `*`
    Array(Vec<Frame>),
    /// `%`, in the order it was sent
    Map(Vec<(Frame, Frame)>),
    /// `~`, in the order it was sent
    Set(Vec<Frame>),
    /// `>`
    Push(Vec<Frame>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `(`
    BigNumber(Vec<u8>),
    /// `=`: the format, and the text
    Verbatim(&'static str, Vec<u8>),
}

/// The value at the start of `input`, in the protocol the link speaks, and its length; none if it is incomplete.
pub fn decode(input: &[u8], protocol: Protocol) -> Result<Option<(Frame, usize)>, FrameError> {
    match frame_len(input)? {
        Some(len) => Ok(Some((decode_checked(&input[..len], protocol)?, len))),
        None => Ok(None),
    }
}

/// The value that is all of `input`, as a gate has found it.
pub fn decode_checked(input: &[u8], protocol: Protocol) -> Result<Frame, FrameError> {
    let refused = |error: &dyn fmt::Display| FrameError::Refused(error.to_string());
    let frame = match protocol {
        Protocol::Resp2 => resp2::decode::decode(input)
            .map_err(|error| refused(&error))?
            .map(|(frame, _)| from_resp2(frame)),
        Protocol::Resp3 => match resp3::decode::complete::decode(input).map_err(|error| refused(&error))? {
            Some((frame, _)) => Some(from_resp3(frame)?),
            None => None,
        },
    };
    frame.ok_or(FrameError::Malformed)
}
