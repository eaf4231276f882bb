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
    let Some((kind, text)) = input[..end]
        .strip_suffix(b"\r")
        .and_then(<[u8]>::split_first)
    else {
        return Err(FrameError::Malformed);
    };
    let line = end + 1;
    let count = || match parse_i64(text).ok_or(FrameError::Malformed)? {
        -1 if matches!(kind, b'$' | b'*') => Ok(None),
        count => u64::try_from(count)
            .map(Some)
            .map_err(|_| FrameError::Malformed),
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
        Protocol::Resp3 => {
            match resp3::decode::complete::decode(input).map_err(|error| refused(&error))? {
                Some((frame, _)) => Some(from_resp3(frame)?),
                None => None,
            }
        }
    };
    frame.ok_or(FrameError::Malformed)
}

fn from_resp2(frame: resp2::types::OwnedFrame) -> Frame {
    use resp2::types::OwnedFrame as Theirs;
    match frame {
        Theirs::SimpleString(text) => Frame::Simple(text),
        Theirs::Error(text) => Frame::Error(text.into_bytes()),
        Theirs::Integer(value) => Frame::Integer(value),
        Theirs::BulkString(bytes) => Frame::Bulk(bytes),
        Theirs::Array(elements) => Frame::Array(elements.into_iter().map(from_resp2).collect()),
        Theirs::Null => Frame::Null,
    }
}

fn from_resp3(frame: resp3::types::OwnedFrame) -> Result<Frame, FrameError> {
    use resp3::types::OwnedFrame as Theirs;
    Ok(match frame {
        Theirs::BlobString { data, .. } => Frame::Bulk(data),
        Theirs::BlobError { data, .. } => Frame::Error(data),
        Theirs::SimpleString { data, .. } => Frame::Simple(data),
        Theirs::SimpleError { data, .. } => Frame::Error(data.into_bytes()),
        Theirs::Boolean { data, .. } => Frame::Boolean(data),
        Theirs::Null => Frame::Null,
        Theirs::Number { data, .. } => Frame::Integer(data),
        Theirs::Double { data, .. } => Frame::Double(data),
        Theirs::BigNumber { data, .. } => Frame::BigNumber(data),
        Theirs::VerbatimString { data, format, .. } => Frame::Verbatim(format_name(format), data),
        Theirs::Array { data, .. } => Frame::Array(all_from_resp3(data)?),
        Theirs::Set { data, .. } => Frame::Set(all_from_resp3(data)?),
        Theirs::Push { data, .. } => Frame::Push(all_from_resp3(data)?),
        Theirs::Map { data, .. } => {
            // The library (6.0.0) fills its ordered map from the end.
            let pairs = data.into_iter().rev();
            let pairs = pairs.map(|(key, value)| Ok((from_resp3(key)?, from_resp3(value)?)));
            Frame::Map(pairs.collect::<Result<_, _>>()?)
        }
        Theirs::Hello { .. } | Theirs::ChunkedString(_) => return Err(FrameError::Malformed),
    })
}

fn all_from_resp3(
    frames: impl IntoIterator<Item = resp3::types::OwnedFrame>,
) -> Result<Vec<Frame>, FrameError> {
    frames.into_iter().map(from_resp3).collect()
}

fn format_name(format: resp3::types::VerbatimStringFormat) -> &'static str {
    match format {
        resp3::types::VerbatimStringFormat::Text => "txt",
        resp3::types::VerbatimStringFormat::Markdown => "mkd",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resp::decode::{Decoder, Limits, Status};
    use crate::resp::reply::{Output, Reply};

    #[test]
    fn each_type_of_resp3() {
        let input = b">7\r\n+a\r\n-ERR b\r\n:-7\r\n$2\r\nhi\r\n_\r\n,1.5\r\n\
            %2\r\n+k\r\n*2\r\n#t\r\n#f\r\n(99\r\n~1\r\n=5\r\ntxt:v\r\n";
        let (frame, len) = decode(input, Protocol::Resp3).unwrap().unwrap();
        assert_eq!(len, input.len());
        let expected = Frame::Push(vec![
            Frame::Simple(b"a".to_vec()),
            Frame::Error(b"ERR b".to_vec()),
            Frame::Integer(-7),
            Frame::Bulk(b"hi".to_vec()),
            Frame::Null,
            Frame::Double(1.5),
            Frame::Map(vec![
                (
                    Frame::Simple(b"k".to_vec()),
                    Frame::Array(vec![Frame::Boolean(true), Frame::Boolean(false)]),
                ),
                (
                    Frame::BigNumber(b"99".to_vec()),
                    Frame::Set(vec![Frame::Verbatim("txt", b"v".to_vec())]),
                ),
            ]),
        ]);
        assert_eq!(frame, expected);
    }

    #[test]
    fn attributes_belong_to_the_value_behind_them() {
        let input = b"|1\r\n+ttl\r\n:1\r\n$1\r\nv\r\n+next\r\n";
        assert_eq!(frame_len(input), Ok(Some(input.len() - 7)));
        let (frame, _) = decode(input, Protocol::Resp3).unwrap().unwrap();
        assert_eq!(frame, Frame::Bulk(b"v".to_vec()));
    }

    #[test]
    fn hostile_replies_are_refused() {
        assert_eq!(
            frame_len(&b"*1\r\n".repeat(10_000)),
            Err(FrameError::TooDeep)
        );
        assert_eq!(frame_len(b"*1000000000000\r\n"), Ok(None));
        assert_eq!(frame_len(b"$1000000000000\r\n"), Err(FrameError::TooLong));
        assert_eq!(
            frame_len(&[b'+'; MAX_LINE_BYTES + 1]),
            Err(FrameError::TooLong)
        );
        for bad in [
            "?\r\n", "\r\n", "\n", "$x\r\n", "$-2\r\n", "*?\r\n", "%-1\r\n", "+a\n",
        ] {
            assert_eq!(
                frame_len(bad.as_bytes()),
                Err(FrameError::Malformed),
                "{bad:?}"
            );
        }
        let deepest = [b"*1\r\n".repeat(MAX_DEPTH), b":1\r\n".to_vec()].concat();
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            assert!(decode(&deepest, protocol).unwrap().is_some());
        }
    }

    #[test]
    fn an_aggregate_as_a_key_does_not_panic() {
        for input in [
            "~1\r\n*0\r\n",
            "%1\r\n*0\r\n:1\r\n",
            "|1\r\n*0\r\n:1\r\n:1\r\n",
            "~1\r\n|1\r\n+a\r\n:1\r\n~0\r\n",
        ] {
            let refused = decode(input.as_bytes(), Protocol::Resp3);
            assert!(
                matches!(refused, Err(FrameError::Refused(_))),
                "{input:?} {refused:?}"
            );
        }
    }

    fn leaf() -> impl Strategy<Value = Frame> {
        prop_oneof![
            "[a-z ]{0,9}".prop_map(|text| Frame::Simple(text.into())),
            "ERR [a-z ]{0,9}".prop_map(|text| Frame::Error(text.into())),
            any::<i64>().prop_map(Frame::Integer),
            any::<Vec<u8>>().prop_map(Frame::Bulk),
            Just(Frame::Null),
            (-1e9..1e9f64).prop_map(Frame::Double),
            any::<bool>().prop_map(Frame::Boolean),
            "[1-9][0-9]{20,30}".prop_map(|digits| Frame::BigNumber(digits.into())),
            any::<Vec<u8>>().prop_map(|text| Frame::Verbatim("txt", text)),
        ]
    }

    fn frame() -> impl Strategy<Value = Frame> {
        leaf().prop_recursive(5, 60, 6, |inner| {
            let elements = prop::collection::vec(inner.clone(), 0..6);
            prop_oneof![
                elements.clone().prop_map(Frame::Array),
                elements.prop_map(Frame::Push),
                // Distinct keys, for the decoder keeps only one of two equal ones.
                prop::collection::btree_set(any::<i64>(), 0..6)
                    .prop_map(|set| Frame::Set(set.into_iter().map(Frame::Integer).collect())),
                prop::collection::btree_map(any::<i64>(), inner, 0..5).prop_map(|map| {
                    Frame::Map(
                        map.into_iter()
                            .map(|(key, value)| (Frame::Integer(key), value))
                            .collect(),
                    )
                }),
            ]
        })
    }

    fn write(frame: &Frame, reply: &mut Reply<'_>) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("generated as text");
        match frame {
            Frame::Simple(bytes) => reply.simple(&text(bytes)),
            Frame::Error(bytes) => reply.error(&text(bytes)),
            Frame::Integer(value) => reply.integer(*value),
            Frame::Bulk(bytes) => reply.bulk(bytes),
            Frame::Null => reply.null(),
            Frame::Double(value) => reply.double(*value),
            Frame::Boolean(value) => reply.boolean(*value),
            Frame::BigNumber(digits) => reply.big_number(&text(digits)),
            Frame::Verbatim(format, bytes) => reply.verbatim(format, bytes),
            Frame::Array(elements) | Frame::Set(elements) | Frame::Push(elements) => {
                match frame {
                    Frame::Array(_) => reply.array(elements.len()),
                    Frame::Set(_) => reply.set(elements.len()),
                    _ => reply.push(elements.len()),
                }
                elements.iter().for_each(|element| write(element, reply));
            }
            Frame::Map(pairs) => {
                let begun = reply.deferred();
                for (key, value) in pairs {
                    write(key, reply);
                    write(value, reply);
                }
                reply.set_map(begun, pairs.len());
            }
        }
    }

    /// What a RESP2 client sees of a value.
    fn in_resp2(frame: Frame) -> Frame {
        let all = |elements: Vec<Frame>| Frame::Array(elements.into_iter().map(in_resp2).collect());
        match frame {
            Frame::Double(value) => Frame::Bulk(crate::data::number::format_f64(value).to_vec()),
            Frame::Boolean(value) => Frame::Integer(i64::from(value)),
            Frame::BigNumber(text) | Frame::Verbatim(_, text) => Frame::Bulk(text),
            Frame::Array(elements) | Frame::Set(elements) | Frame::Push(elements) => all(elements),
            Frame::Map(pairs) => all(pairs
                .into_iter()
                .flat_map(|(key, value)| [key, value])
                .collect()),
            other => other,
        }
    }

    fn written(frame: &Frame, protocol: Protocol) -> Vec<u8> {
        let mut output = Output::new();
        write(frame, &mut Reply::new(&mut output, protocol));
        let mut slices = [std::io::IoSlice::new(&[]); 64];
        let count = output.fill(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn what_reply_writes_is_read_back(frame in frame()) {
            let bytes = written(&frame, Protocol::Resp3);
            prop_assert_eq!(decode(&bytes, Protocol::Resp3), Ok(Some((frame.clone(), bytes.len()))));
            let bytes = written(&frame, Protocol::Resp2);
            prop_assert_eq!(decode(&bytes, Protocol::Resp2), Ok(Some((in_resp2(frame), bytes.len()))));
        }

        #[test]
        fn our_decoder_reads_what_the_library_encodes(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 1..14),
        ) {
            use resp2::types::OwnedFrame as Theirs;
            let frame = Theirs::Array(parts.iter().cloned().map(Theirs::BulkString).collect());
            let mut encoded = bytes::BytesMut::new();
            let len = resp2::encode::extend_encode(&mut encoded, &frame.into_bytes_frame(), false)?;
            encoded.truncate(len);
            let mut decoder = Decoder::new();
            let status = decoder.next(&encoded, &Limits::authenticated(1 << 20));
            prop_assert_eq!(status, Ok(Status::Request));
            prop_assert_eq!(decoder.consumed(), encoded.len());
            prop_assert!(decoder.arguments(&encoded).iter().eq(&parts));
        }

        #[test]
        fn the_library_reads_what_our_decoder_reads(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 1..14),
        ) {
            let mut stream = format!("*{}\r\n", parts.len()).into_bytes();
            for part in &parts {
                stream.extend(format!("${}\r\n", part.len()).into_bytes());
                stream.extend_from_slice(part);
                stream.extend(b"\r\n");
            }
            let mut decoder = Decoder::new();
            let status = decoder.next(&stream, &Limits::authenticated(1 << 20));
            prop_assert_eq!(status, Ok(Status::Request));
            let ours = decoder.arguments(&stream).iter().map(|part| Frame::Bulk(part.to_vec())).collect();
            prop_assert_eq!(decode(&stream, Protocol::Resp2), Ok(Some((Frame::Array(ours), stream.len()))));
        }

        #[test]
        fn a_gate_keeps_its_place(frame in frame(), step in 1..40usize) {
            let bytes = written(&frame, Protocol::Resp3);
            let mut gate = Gate::new();
            let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
            for end in ends {
                let found = gate.scan(&bytes[..end]).unwrap();
                prop_assert_eq!(found, (end == bytes.len()).then_some(end));
            }
        }

        #[test]
        fn random_bytes_do_not_panic(bytes in "[*$%~|+:,_#=0-9ab\r\n-]{0,60}", any: Vec<u8>) {
            let bytes = bytes.replace('a', "\r\n");
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let _ = decode(bytes.as_bytes(), protocol);
                let _ = decode(&any, protocol);
            }
        }
    }
}
