//! Requests: arrays of bulk strings, and inline commands.
//!
//! The decoder works on the connection's own read buffer and copies nothing: an argument is a place in that buffer. All
//! offsets count from the start of the buffer, so a pipeline of requests is decoded, run, decoded, run, and the buffer is
//! moved once at the end. A batch goes like this:
//!
//! ```text
//!     read into input
//!     loop { match decoder.next(&input, &limits)? {
//!         Request          => run(decoder.arguments(&input)),
//!         Incomplete       => break,
//!         Large { bytes }  => { payload = decoder.begin_large(&mut input);    // what is there of it, cut off from input
//!                               read into payload until it has `bytes` bytes; // not one more: what follows is input's
//!                               decoder.supply(payload.freeze()) }            // its CRLF is then read into input
//!     } }
//!     decoder.release(&mut input)                                             // drops the requests that were run
//! ```
//!
//! After `next` has found a request, `look_ahead` may decode those behind it, so that their keys can be fetched into the
//! cache together before the first is run; `next` then hands them out one by one. Those not yet handed out at `release`
//! are decoded again later.
//!
//! Layout of the buffer while the third request is arriving:
//!
//! ```text
//!     *2 $3 GET $1 a  *2 $3 GET $1 b  *3 $3 SET $1 c $5 he
//!     |  run, to be released        |    |     |     |    `- end of input
//!                                     first    args  `- position: looked at next
//! ```
//!
//! It keeps its place between reads and never looks at a byte of a finished part again. Memory: one slot of 16 bytes per
//! argument that has arrived; a declared count or length allocates nothing. A bulk of at least `Limits::large_bytes` that
//! is not in the buffer yet is received apart, so that it can become a value without being copied.
//!
//! Nearly every request has at most nine arguments of at most 999 bytes; `short_request` reads this shape straight through,
//! and leaves anything else where it stands to the state machine in `resume`. Cost
//! (benches/resp.rs): 9 ns for a GET, 14 ns for a SET of 64 bytes, 4 ns per further argument.
//!
//! Texts of errors and what is tolerated (any byte after a `\r`, anything in place of the CRLF after a bulk) are those of
//! redis-server 7.0. One thing differs: a line is too long by its own length, not by how it was cut into reads.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Index, Range};

use bytes::{Buf, Bytes, BytesMut};

use crate::base::split::split_args;
use crate::data::number::parse_i64;

/// What a client may send; what it sends beyond is a `ProtocolError`, after which the connection is closed.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Whether what exceeds the next two limits is reported as a lack of authentication.
    pub authenticated: bool,
    /// Arguments of one request.
    pub max_arguments: usize,
    /// Payload of one bulk string.
    pub max_bulk_bytes: usize,
    /// An inline command, and the line with a count or length.
    pub max_inline_bytes: usize,
    /// A bulk of at least this many bytes that is not complete in the input is received apart.
    pub large_bytes: usize,
}

impl Limits {
    /// The limits of a client that may run commands. `max_bulk_bytes` is proto-max-bulk-len.
    pub const fn authenticated(max_bulk_bytes: usize) -> Self {
        Limits {
            authenticated: true,
            max_arguments: MAX_COUNT as usize,
            max_bulk_bytes,
            max_inline_bytes: 64 * 1024,
            large_bytes: 32 * 1024,
        }
    }

    /// The limits before AUTH: room for AUTH and HELLO.
    pub const fn unauthenticated() -> Self {
        Limits {
            authenticated: false,
            max_arguments: 10,
            max_bulk_bytes: 16 * 1024,
            ..Limits::authenticated(0)
        }
    }

    fn check_count(&self, count: i64) -> Result<usize, ProtocolError> {
        if count > MAX_COUNT {
            return Err(ProtocolError::InvalidCount);
        }
        let count = usize::try_from(count).unwrap_or(0);
        match count <= self.max_arguments {
            true => Ok(count),
            false if self.authenticated => Err(ProtocolError::InvalidCount),
            false => Err(ProtocolError::UnauthenticatedCount),
        }
    }

    fn check_bulk(&self, bytes: i64) -> Result<usize, ProtocolError> {
        let bytes = usize::try_from(bytes).map_err(|_| ProtocolError::InvalidBulk)?;
        match bytes <= self.max_bulk_bytes {
            true => Ok(bytes),
            false if self.authenticated || bytes > DEFAULT_MAX_BULK => {
                Err(ProtocolError::InvalidBulk)
            }
            false => Err(ProtocolError::UnauthenticatedBulk),
        }
    }
}

/// The count Redis refuses from everybody.
const MAX_COUNT: i64 = i32::MAX as i64;

/// Before AUTH a length is called invalid, not unauthenticated, above the default of proto-max-bulk-len.
const DEFAULT_MAX_BULK: usize = 512 * 1024 * 1024;

/// What `Decoder::next` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A request is complete; `Decoder::arguments` has it until the next call of `next` or `release`.
    Request,
    /// The input ends inside a request or between two; more must be read.
    Incomplete,
    /// The payload of the next argument has `bytes` bytes, begins at `Decoder::position`, and is to be received apart and
    /// given to `Decoder::supply`; until then `next` repeats this answer.
    Large {
        /// The whole payload, without its CRLF.
        bytes: usize,
    },
}

/// The incremental decoder of one connection. After an error it must not be used again.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Arguments that have arrived: of the requests of the window, and of the one behind them that is arriving.
    slots: Vec<Slot>,
    /// Where in `slots` the request begins that is arriving, and ends the one before it.
    arriving: usize,
    /// Where in `slots` the request is that `next` found.
    current: Range<usize>,
    /// The requests that `look_ahead` decoded, the one `next` had found first among them.
    window: Vec<Bounds>,
    /// Which of the window `next` handed out last.
    turn: usize,
    /// Those of them that were received apart.
    large: Vec<Bytes>,
    /// The bytes of `large`.
    large_bytes: usize,
    /// The unquoted words of an inline command; its slots are places in here.
    inline: Vec<u8>,
    is_inline: bool,
    /// First byte of input that is still needed, while a request is arriving.
    first: usize,
    /// The byte to be looked at next. Before it all is decoded.
    position: usize,
    /// There is no line end in `input[position..searched]`.
    searched: usize,
    /// Arguments of the current request still to come.
    missing: usize,
    state: State,
}

/// What stands at `position`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The start of a request.
    #[default]
    Between,
    /// The length line of an argument.
    Length,
    /// The payload of an argument and its CRLF.
    Payload { bytes: usize },
    /// The CRLF of an argument that was received apart.
    LineEnd,
}

impl Decoder {
    /// A decoder at the start of an empty input.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins anew at the start of another input; the storage serves again.
    pub fn restart(&mut self) {
        self.forget_arguments();
        self.window.clear();
        self.turn = 0;
        if self.slots.capacity() > KEPT_SLOTS {
            self.slots = Vec::new();
        }
        self.inline = Vec::new();
        (self.first, self.position, self.searched, self.missing) = (0, 0, 0, 0);
        self.state = State::Between;
    }

    /// Decodes up to the end of the next request. `input` must begin with the same bytes as at the call before, except
    /// that `release` and `begin_large` may have been called in between.
    #[inline]
    pub fn next(&mut self, input: &[u8], limits: &Limits) -> Result<Status, ProtocolError> {
        if self.has_pending() {
            self.current = self.window[self.turn].slots_end..self.window[self.turn + 1].slots_end;
            self.turn += 1;
            return Ok(Status::Request);
        }
        self.window.clear();
        self.turn = 0;
        if self.state == State::Between {
            self.forget_arguments();
            if self.short_request(input, limits) {
                self.current = 0..self.slots.len();
                return Ok(Status::Request);
            }
        } else {
            self.forget_window();
        }
        let status = self.resume(input, limits)?;
        self.current = 0..self.slots.len();
        Ok(status)
    }

    /// After `next` found a request: decodes those behind it that are complete and short, up to `max` in all, for `next` to
    /// hand out. `window` then has them all; without any it is empty.
    #[inline]
    pub fn look_ahead(&mut self, input: &[u8], limits: &Limits, max: usize) {
        if self.state != State::Between || self.is_inline || !self.large.is_empty() {
            return;
        }
        debug_assert!(self.window.is_empty());
        self.window.push(Bounds {
            first: self.first,
            slots_end: self.slots.len(),
        });
        while self.window.len() < max {
            let first = self.position;
            self.arriving = self.slots.len();
            if !self.short_request(input, limits) {
                break;
            }
            self.window.push(Bounds {
                first,
                slots_end: self.slots.len(),
            });
        }
        if self.window.len() == 1 {
            self.window.clear();
        }
    }

    /// The requests that `look_ahead` found, the one that `next` had found before it first.
    pub fn window<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = Arguments<'a>> {
        let mut start = 0;
        self.window.iter().map(move |bounds| {
            let slots = &self.slots[start..bounds.slots_end];
            start = bounds.slots_end;
            Arguments {
                base: input,
                slots,
                large: &[],
            }
        })
    }

    /// Which request of the window `next` found; 0 when it was not decoded ahead.
    #[inline]
    pub fn turn(&self) -> usize {
        self.turn
    }

    /// Whether `next` has yet to hand out requests of the window.
    #[inline]
    fn has_pending(&self) -> bool {
        self.turn + 1 < self.window.len()
    }

    /// The request that `next` has just found in `input`.
    #[inline]
    pub fn arguments<'a>(&'a self, input: &'a [u8]) -> Arguments<'a> {
        Arguments {
            base: if self.is_inline { &self.inline } else { input },
            slots: &self.slots[self.current.clone()],
            large: &self.large,
        }
    }

    /// The arguments of the request that `next` has just found as they stand in `input`, one bulk string behind the other.
    /// `None` where they do not: an inline command, an argument that was received apart, a first length with more digits than
    /// it needs.
    #[inline]
    pub fn received<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let slots = &self.slots[self.current.clone()];
        let (first, last) = (slots.first()?, slots.last()?);
        if self.is_inline || !self.large.is_empty() {
            return None;
        }
        let digits = first.len.checked_ilog10().unwrap_or(0) as usize + 1;
        let begin = first.start.checked_sub(digits + 3)?;
        let received = input.get(begin..last.start + last.len + 2)?;
        received.starts_with(b"$").then_some(received)
    }

    /// Where in the input decoding goes on; after `Status::Large`, where the payload begins.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes at the start of the input are no longer needed.
    pub fn consumed(&self) -> usize {
        match self.state {
            State::Between => self.position,
            _ => self.first,
        }
    }

    /// Whether the input so far ends inside a request (which began before the end of what `next` was shown).
    pub fn is_inside_request(&self) -> bool {
        self.state != State::Between
    }

    /// Bytes of the current request that were received apart: with the input's, all that it holds.
    pub fn large_bytes(&self) -> usize {
        self.large_bytes
    }

    /// Drops the consumed bytes from the start of `input`, and the last request. To be called once per batch: before the
    /// next read, when all complete requests have been run.
    pub fn release(&mut self, input: &mut BytesMut) {
        if self.has_pending() {
            self.position = self.window[self.turn + 1].first;
            self.searched = self.position;
            self.state = State::Between;
        }
        self.window.clear();
        self.turn = 0;
        let consumed = self.consumed();
        if self.state == State::Between {
            self.forget_arguments();
            if self.slots.capacity() > KEPT_SLOTS {
                self.slots = Vec::new();
            }
            self.inline = Vec::new();
        } else {
            self.forget_window();
        }
        // clear() starts again at the front of the allocation; advance() would leave a hole before the next request.
        if consumed == input.len() {
            input.clear();
        } else {
            input.advance(consumed);
        }
        // Once per request, not once per read: a request of a million arguments may arrive byte by byte.
        if consumed > 0 {
            for slot in &mut self.slots {
                slot.move_down(consumed);
            }
        }
        self.first = 0;
        self.position -= consumed;
        self.searched = self.searched.saturating_sub(consumed);
    }

    /// After `Status::Large`: moves what `input` has of the payload into a buffer of its own, to which the caller appends
    /// the rest from the socket. `input` then ends at `position`, and goes on with the CRLF of the argument.
    pub fn begin_large(&self, input: &mut BytesMut) -> BytesMut {
        // Copied, not split off: a split would take the input's free capacity away and share its allocation.
        let begun = BytesMut::from(&input[self.position..]);
        input.truncate(self.position);
        begun
    }

    /// The payload announced by `Status::Large`, all of it.
    pub fn supply(&mut self, payload: Bytes) {
        assert_eq!(
            self.state,
            State::Payload {
                bytes: payload.len()
            },
            "supply answers Status::Large with exactly its bytes"
        );
        self.slots.push(Slot {
            start: LARGE,
            len: self.large.len(),
        });
        self.large_bytes += payload.len();
        self.large.push(payload);
        self.state = State::LineEnd;
    }

    /// Drops the slots of the window; those of the request that is arriving stay.
    #[inline]
    fn forget_window(&mut self) {
        if self.arriving > 0 {
            self.slots.drain(..self.arriving);
            self.arriving = 0;
        }
        self.current = 0..0;
    }

    #[inline]
    fn forget_arguments(&mut self) {
        self.slots.clear();
        self.arriving = 0;
        self.current = 0..0;
        if !self.large.is_empty() {
            self.large.clear();
            self.large_bytes = 0;
        }
        self.is_inline = false;
    }

    /// Reads a request of the most common shape. If false, the state says how far it came and `resume` goes on there.
    #[inline]
    fn short_request(&mut self, input: &[u8], limits: &Limits) -> bool {
        let Some(&[b'*', digit @ b'1'..=b'9', b'\r', b'\n']) = input
            .get(self.position..)
            .and_then(|rest| rest.first_chunk())
        else {
            return false;
        };
        let count = usize::from(digit - b'0');
        if count > limits.max_arguments {
            return false;
        }
        self.position += 4;
        self.first = self.position;
        self.missing = count;
        self.state = State::Length;
        self.short_arguments(input, limits)
    }

    /// Reads arguments of the most common shape, up to the end of the request (then true) or the first of another shape.
    #[inline]
    fn short_arguments(&mut self, input: &[u8], limits: &Limits) -> bool {
        let mut at = self.position;
        let mut missing = self.missing;
        while missing > 0 {
            match short_bulk(input, at) {
                Some(slot) if slot.len <= limits.max_bulk_bytes => {
                    self.slots.push(slot);
                    at = slot.start + slot.len + 2;
                    missing -= 1;
                }
                _ => break,
            }
        }
        self.position = at;
        self.missing = missing;
        if missing == 0 {
            self.state = State::Between;
        }
        missing == 0
    }

    /// The state machine: any request, from any place.
    fn resume(&mut self, input: &[u8], limits: &Limits) -> Result<Status, ProtocolError> {
        loop {
            let progress = match self.state {
                State::Between => self.start(input, limits)?,
                State::Length => self.length(input, limits)?,
                State::Payload { bytes } => self.payload(input, limits, bytes),
                State::LineEnd if input.len() - self.position < 2 => Some(Status::Incomplete),
                State::LineEnd => self.end_argument(self.position + 2),
            };
            if let Some(status) = progress {
                return Ok(status);
            }
        }
    }

    /// The count of a request, or an inline command. Requests without arguments are passed over.
    fn start(&mut self, input: &[u8], limits: &Limits) -> Result<Option<Status>, ProtocolError> {
        match input.get(self.position) {
            None => return Ok(Some(Status::Incomplete)),
            Some(b'*') => {}
            Some(_) => return self.inline_command(input, limits),
        }
        let Some(line) = self.count_line(input, limits, ProtocolError::TooBigCount)? else {
            return Ok(Some(Status::Incomplete));
        };
        let count = parse_i64(&line[1..]).ok_or(ProtocolError::InvalidCount)?;
        let count = limits.check_count(count)?;
        self.position += line.len() + 2;
        if count > 0 {
            self.first = self.position;
            self.missing = count;
            self.state = State::Length;
        }
        Ok(None)
    }

    fn length(&mut self, input: &[u8], limits: &Limits) -> Result<Option<Status>, ProtocolError> {
        if self.short_arguments(input, limits) {
            return Ok(Some(Status::Request));
        }
        let Some(line) = self.count_line(input, limits, ProtocolError::TooBigBulkCount)? else {
            return Ok(Some(Status::Incomplete));
        };
        let first = input[self.position];
        if first != b'$' {
            return Err(ProtocolError::ExpectedDollar(first));
        }
        let bytes = parse_i64(&line[1..]).ok_or(ProtocolError::InvalidBulk)?;
        let bytes = limits.check_bulk(bytes)?;
        self.position += line.len() + 2;
        self.state = State::Payload { bytes };
        Ok(None)
    }

    fn payload(&mut self, input: &[u8], limits: &Limits, bytes: usize) -> Option<Status> {
        let available = input.len() - self.position;
        if available < bytes && bytes >= limits.large_bytes {
            return Some(Status::Large { bytes });
        }
        // Not bytes + 2: the sum could overflow.
        if available < bytes || available - bytes < 2 {
            return Some(Status::Incomplete);
        }
        self.slots.push(Slot {
            start: self.position,
            len: bytes,
        });
        self.end_argument(self.position + bytes + 2)
    }

    fn end_argument(&mut self, next: usize) -> Option<Status> {
        self.position = next;
        self.missing -= 1;
        self.state = match self.missing {
            0 => State::Between,
            _ => State::Length,
        };
        (self.missing == 0).then_some(Status::Request)
    }

    fn inline_command(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<Status>, ProtocolError> {
        let Some(line) = self.line(
            input,
            b'\n',
            limits.max_inline_bytes,
            ProtocolError::TooBigInline,
        )?
        else {
            return Ok(Some(Status::Incomplete));
        };
        self.position += line.len() + 1;
        let words = split_args(line.strip_suffix(b"\r").unwrap_or(line))
            .map_err(|_| ProtocolError::UnbalancedQuotes)?;
        if words.is_empty() {
            return Ok(None);
        }
        self.is_inline = true;
        self.inline.clear();
        for word in words {
            push_part(&mut self.inline, &mut self.slots, &word);
        }
        Ok(Some(Status::Request))
    }

    /// The line with a count or length, without its end, if that end and the byte after it have arrived.
    fn count_line<'a>(
        &mut self,
        input: &'a [u8],
        limits: &Limits,
        too_big: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let line = self.line(input, b'\r', limits.max_inline_bytes, too_big)?;
        Ok(line.filter(|line| self.position + line.len() + 1 < input.len()))
    }

    /// The bytes from `position` to the next `end`, if it has arrived. Every byte is searched once.
    fn line<'a>(
        &mut self,
        input: &'a [u8],
        end: u8,
        max_bytes: usize,
        too_big: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let from = self.searched.max(self.position);
        let found = memchr::memchr(end, &input[from..]).map(|at| from + at);
        self.searched = found.unwrap_or(input.len());
        if self.searched - self.position > max_bytes {
            return Err(too_big);
        }
        Ok(found.map(|at| &input[self.position..at]))
    }
}

/// Slots kept for the next request; more than this many are given back between two reads.
const KEPT_SLOTS: usize = 1024;

/// The complete bulk string of at most 999 bytes that begins at `at`, if one does.
#[inline]
fn short_bulk(input: &[u8], at: usize) -> Option<Slot> {
    // The shortest argument, `$0\r\n\r\n`, has six bytes too, so nothing complete is missed.
    let header: &[u8; 6] = input.get(at..)?.first_chunk()?;
    let (header_len, len) = match *header {
        [b'$', a @ b'0'..=b'9', b'\r', b'\n', ..] => (4, usize::from(a - b'0')),
        [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', _] => {
            (5, usize::from(a - b'0') * 10 + usize::from(b - b'0'))
        }
        [
            b'$',
            a @ b'1'..=b'9',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            b'\r',
            b'\n',
        ] => (
            6,
            usize::from(a - b'0') * 100 + usize::from(b - b'0') * 10 + usize::from(c - b'0'),
        ),
        _ => return None,
    };
    let start = at + header_len;
    (start + len + 2 <= input.len()).then_some(Slot { start, len })
}

/// A request of the window.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Its first byte in the input.
    first: usize,
    /// The end of its arguments in the slots; they begin at the end of those of the one before.
    slots_end: usize,
}

/// Where an argument is: a place in the base, or, if `start` is `LARGE`, the one of number `len` received apart.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: usize,
    len: usize,
}

const LARGE: usize = usize::MAX;

/// What stands between two arguments of a request as clients send it: a line end, `$`, a length below a million, a line end.
const HEADER_BYTES: usize = 11;

impl Slot {
    fn move_down(&mut self, bytes: usize) {
        if self.start != LARGE {
            self.start -= bytes;
        }
    }
}

fn push_part(base: &mut Vec<u8>, slots: &mut Vec<Slot>, part: &[u8]) {
    slots.push(Slot {
        start: base.len(),
        len: part.len(),
    });
    base.extend_from_slice(part);
}

/// The arguments of a request, the command's name first. Three slices, cheap to copy.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    base: &'a [u8],
    slots: &'a [Slot],
    large: &'a [Bytes],
}

impl<'a> Arguments<'a> {
    /// How many there are. A decoded request has at least one.
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The argument number `index`, if there are so many.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.slots.get(index).map(|slot| self.part(*slot))
    }

    /// The argument number `index` as shared bytes, if it was received apart: it can be kept without being copied.
    #[inline]
    pub fn large(&self, index: usize) -> Option<&'a Bytes> {
        let slot = self.slots.get(index)?;
        match slot.start {
            LARGE => self.large.get(slot.len),
            _ => None,
        }
    }

    /// All in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + use<'a> {
        let arguments = *self;
        self.slots.iter().map(move |slot| arguments.part(*slot))
    }

    /// Those from number `index` on; none if there are not so many.
    pub fn tail(&self, index: usize) -> Arguments<'a> {
        Arguments {
            slots: self.slots.get(index..).unwrap_or(&[]),
            ..*self
        }
    }

    /// Those from number `from` up to, and without, number `to`; as far as there are so many.
    pub fn range(&self, from: usize, to: usize) -> Arguments<'a> {
        let to = to.min(self.slots.len());
        Arguments {
            slots: self.slots.get(from..to).unwrap_or(&[]),
            ..*self
        }
    }

    /// A copy that outlives the input. What was received apart is shared, not copied.
    pub fn to_owned(&self) -> OwnedArguments {
        let mut owned = OwnedArguments::default();
        owned.append(*self);
        owned
    }

    /// Where they begin and end in the base, if little else stands there: then they are cheaper copied in one piece.
    fn bounds(&self) -> Option<(usize, usize)> {
        let (mut from, mut to, mut bytes) = (usize::MAX, 0, 0);
        for slot in self.slots {
            if slot.start == LARGE {
                return None;
            }
            from = from.min(slot.start);
            to = to.max(slot.start + slot.len);
            bytes += slot.len;
        }
        (from <= to && to - from <= bytes + HEADER_BYTES * self.slots.len()).then_some((from, to))
    }

    #[inline]
    fn part(&self, slot: Slot) -> &'a [u8] {
        match slot.start {
            LARGE => &self.large[slot.len],
            start => &self.base[start..start + slot.len],
        }
    }
}

impl Index<usize> for Arguments<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.part(self.slots[index])
    }
}

impl fmt::Debug for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|part| part.escape_ascii().to_string()))
            .finish()
    }
}

/// Arguments with their own storage: queued by MULTI, kept by a blocked client, or made by the server itself.
#[derive(Clone, Debug, Default)]
pub struct OwnedArguments {
    base: Vec<u8>,
    slots: Vec<Slot>,
    large: Vec<Bytes>,
}

impl OwnedArguments {
    /// The same arguments as the decoder would give them.
    pub fn as_arguments(&self) -> Arguments<'_> {
        Arguments {
            base: &self.base,
            slots: &self.slots,
            large: &self.large,
        }
    }

    /// Appends an argument.
    pub fn push(&mut self, part: &[u8]) {
        push_part(&mut self.base, &mut self.slots, part);
    }

    /// Appends all of these. What was received apart is shared, not copied.
    pub fn append(&mut self, arguments: Arguments<'_>) {
        if let Some((from, to)) = arguments.bounds() {
            let at = self.base.len();
            self.base.extend_from_slice(&arguments.base[from..to]);
            let moved = arguments.slots.iter().map(|slot| Slot {
                start: at + slot.start - from,
                len: slot.len,
            });
            return self.slots.extend(moved);
        }
        let is_small = |slot: &&Slot| slot.start != LARGE;
        let small = arguments.slots.iter().filter(is_small);
        self.base.reserve(small.map(|slot| slot.len).sum());
        self.slots.reserve(arguments.len());
        for (index, part) in arguments.iter().enumerate() {
            match arguments.large(index) {
                Some(bytes) => self.push_shared(bytes.clone()),
                None => self.push(part),
            }
        }
    }

    /// Appends an argument that can be kept without being copied.
    pub fn push_shared(&mut self, part: Bytes) {
        self.slots.push(Slot {
            start: LARGE,
            len: self.large.len(),
        });
        self.large.push(part);
    }

    /// Forgets the arguments and keeps the storage.
    pub fn clear(&mut self) {
        self.base.clear();
        self.slots.clear();
        self.large.clear();
    }

    /// The memory of the storage, without what is shared.
    pub fn memory_bytes(&self) -> usize {
        self.base.capacity()
            + self.slots.capacity() * size_of::<Slot>()
            + self.large.capacity() * size_of::<Bytes>()
    }
}

impl<P: AsRef<[u8]>> FromIterator<P> for OwnedArguments {
    fn from_iter<I: IntoIterator<Item = P>>(parts: I) -> Self {
        let mut owned = OwnedArguments::default();
        for part in parts {
            owned.push(part.as_ref());
        }
        owned
    }
}

impl<P: AsRef<[u8]>> From<&[P]> for OwnedArguments {
    fn from(parts: &[P]) -> Self {
        parts.iter().collect()
    }
}

impl<P: AsRef<[u8]>, const N: usize> From<&[P; N]> for OwnedArguments {
    fn from(parts: &[P; N]) -> Self {
        parts.iter().collect()
    }
}

/// Input that is not a request. The client is told and the connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// An inline command longer than `Limits::max_inline_bytes`.
    TooBigInline,
    /// An inline command that `split_args` refuses.
    UnbalancedQuotes,
    /// A line of a count longer than `Limits::max_inline_bytes`.
    TooBigCount,
    /// A count that is no number or too large.
    InvalidCount,
    /// A count too large before AUTH.
    UnauthenticatedCount,
    /// A line of a length longer than `Limits::max_inline_bytes`.
    TooBigBulkCount,
    /// Something else than a bulk string inside a request; its first byte.
    ExpectedDollar(u8),
    /// A length that is no number, negative or too large.
    InvalidBulk,
    /// A length too large before AUTH.
    UnauthenticatedBulk,
}

impl ProtocolError {
    /// What the client is told, for `Reply::error_bytes`: bytes, because one of the texts quotes the client.
    pub fn wire_text(&self) -> Cow<'static, [u8]> {
        Cow::Borrowed(match self {
            Self::TooBigInline => b"ERR Protocol error: too big inline request".as_slice(),
            Self::UnbalancedQuotes => b"ERR Protocol error: unbalanced quotes in request",
            Self::TooBigCount => b"ERR Protocol error: too big mbulk count string",
            Self::InvalidCount => b"ERR Protocol error: invalid multibulk length",
            Self::UnauthenticatedCount => b"ERR Protocol error: unauthenticated multibulk length",
            Self::TooBigBulkCount => b"ERR Protocol error: too big bulk count string",
            Self::InvalidBulk => b"ERR Protocol error: invalid bulk length",
            Self::UnauthenticatedBulk => b"ERR Protocol error: unauthenticated bulk length",
            Self::ExpectedDollar(byte) => {
                let mut text = b"ERR Protocol error: expected '$', got '".to_vec();
                text.extend([*byte, b'\'']);
                return Cow::Owned(text);
            }
        })
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.wire_text()[4..]))
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests;
