//! Replies: `Output` is what a connection has still to send, `Reply` writes RESP2 or RESP3 at its end.
//!
//! ```text
//!     Output:  written |  queue: shared chunks, in order    |  tail: small things are appended here
//!              already |  [ *2 $16384 ] [ value ] [ $..  ]  |  CR LF $5 CR LF hello CR LF
//!              sent    |                  ^ never copied
//! ```
//!
//! Small replies are copied into the tail, one reservation each. A value of 16 KiB or more is queued as a reference to its
//! bytes: the tail is cut off before it and goes on after it, and the socket gets all of it by one vectored write. A tail of
//! 64 KiB is cut off too, so that a long reply is not moved when it grows.
//!
//! Positions are counted from the first byte the connection ever sent, so marks stay right while the output is being
//! sent. A half-written reply is cut off at its mark. An aggregate whose length is known only afterwards is begun with
//! `deferred`: its header is put in later, by moving a short body up (at most 4 KiB) or by cutting the output open there.
//!
//! The output has no limit of its own: the connection compares `len_bytes` with client-output-buffer-limit. A bulk of 64
//! bytes costs 7 to 10 ns (benches/resp.rs), `+OK` 2 ns.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::spare::{OUTPUTS, Spare};
use crate::data::number::format_f64;
use crate::data::packed::Item;

/// What is still to be sent to a client.
#[derive(Debug, Default)]
pub struct Output {
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    tail: BytesMut,
    /// Bytes sent before those that are here.
    sent_bytes: u64,
}

impl Output {
    /// An empty output, without memory of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much is still to be sent, shared values included.
    #[inline]
    pub fn len_bytes(&self) -> usize {
        self.queued_bytes + self.tail.len()
    }

    /// Whether all is sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.queue.is_empty()
    }

    /// Fills `slices` with the first chunks, for a vectored write, and returns how many it has set.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.queue.iter().map(|chunk| &chunk[..]).chain(tail);
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    /// All of it, when it stands in one piece.
    #[inline]
    pub fn only_chunk(&self) -> Option<&[u8]> {
        match (self.queue.len(), self.tail.is_empty()) {
            (0, _) => Some(&self.tail),
            (1, true) => self.queue.front().map(|chunk| &chunk[..]),
            _ => None,
        }
    }

    /// Drops the first `count` bytes: they are sent. There must be so many.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len_bytes(), "more sent than there was");
        self.sent_bytes += count as u64;
        let mut left = count;
        while let Some(chunk) = self.queue.front_mut() {
            if left < chunk.len() {
                chunk.advance(left);
                self.queued_bytes -= left;
                return;
            }
            left -= chunk.len();
            self.queued_bytes -= chunk.len();
            self.queue.pop_front();
        }
        // clear() keeps the front of the allocation in use; advance() would lose it.
        if left == self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(left);
        }
    }

    /// Takes a buffer of this thread to write replies in, unless it has one.
    #[inline]
    pub fn take_buffer(&mut self) {
        if self.tail.capacity() == 0
            && let Some(buffer) = OUTPUTS.with(Spare::take)
        {
            self.tail = buffer;
        }
    }

    /// Leaves the buffer to others, when there is nothing left to send.
    #[inline]
    pub fn leave_buffer(&mut self) {
        if self.is_empty() && self.tail.capacity() > 0 {
            OUTPUTS.with(|spare| spare.leave(std::mem::take(&mut self.tail)));
        }
    }

    /// Gives memory back if the output is empty and has grown beyond 64 KiB.
    pub fn shrink(&mut self) {
        if !self.is_empty() {
            return;
        }
        if self.tail.capacity() > KEPT_BYTES {
            self.tail = BytesMut::new();
        }
        if self.queue.capacity() > KEPT_CHUNKS {
            self.queue = VecDeque::new();
        }
    }

    /// Appends bytes that are already a reply.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        self.tail.extend_from_slice(bytes);
    }

    /// As [`Output::push_shared`], for bytes that the caller keeps.
    #[inline]
    pub fn push_part(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES {
            self.push(bytes);
        } else {
            self.push_shared(bytes.clone());
        }
    }

    /// As [`Output::push_shared`], for a range of bytes that the caller keeps.
    #[inline]
    pub fn push_slice_of(&mut self, bytes: &Bytes, range: Range<usize>) {
        if range.len() < SHARED_BYTES {
            self.push(&bytes[range]);
        } else {
            self.push_shared(bytes.slice(range));
        }
    }

    /// Appends shared bytes that are already a reply; 16 KiB or more are not copied.
    pub fn push_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES {
            return self.push(&bytes);
        }
        self.seal();
        self.queued_bytes += bytes.len();
        self.queue.push_back(bytes);
    }

    /// As [`Output::push_shared`], for bytes that many outputs share: copied only if they are few, since they are read where
    /// the others have just read them.
    pub fn push_chunk(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BY_MANY_BYTES {
            return self.push(&bytes);
        }
        self.seal();
        self.enqueue(bytes);
    }

    /// Appends all that `other` has still to send.
    pub fn append(&mut self, mut other: Output) {
        if self.is_empty() && self.tail.capacity() < other.tail.capacity() {
            self.leave_buffer();
            let sent_bytes = self.sent_bytes;
            *self = other;
            self.sent_bytes = sent_bytes;
            return;
        }
        for chunk in other.queue {
            self.push_chunk(chunk);
        }
        if other.tail.len() < SHARED_BYTES {
            self.push(&other.tail);
            other.tail.clear();
            OUTPUTS.with(|spare| spare.leave(other.tail));
        } else {
            self.push_shared(other.tail.freeze());
        }
    }

    /// All that is still to be sent, in one piece.
    pub fn into_bytes(mut self) -> Bytes {
        let length = self.len_bytes();
        self.copy_to_bytes(length)
    }

    /// The end of what has been written so far.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark(self.sent_bytes + self.len_bytes() as u64)
    }

    /// Whether what was written at `mark` is still here, and not cut off or sent.
    pub fn holds(&self, mark: Mark) -> bool {
        (self.sent_bytes..self.sent_bytes + self.len_bytes() as u64).contains(&mark.0)
    }

    /// How much was written since `mark`.
    pub fn bytes_since(&self, mark: Mark) -> usize {
        self.len_bytes() - self.offset(mark)
    }

    /// Cuts off all that was written since `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        let keep = self.offset(mark);
        if keep >= self.queued_bytes {
            return self.tail.truncate(keep - self.queued_bytes);
        }
        self.tail.clear();
        while let Some(mut chunk) = self.queue.pop_back() {
            self.queued_bytes -= chunk.len();
            if self.queued_bytes < keep {
                chunk.truncate(keep - self.queued_bytes);
                self.queued_bytes = keep;
                self.queue.push_back(chunk);
                return;
            }
        }
    }

    /// Cuts off all that was written since `mark` and returns it as an output of its own.
    pub fn take_since(&mut self, mark: Mark) -> Output {
        let mut taken = Output::new();
        let mut skip = self.offset(mark);
        for chunk in &self.queue {
            if skip < chunk.len() {
                taken.push_shared(chunk.slice(skip..));
            }
            skip = skip.saturating_sub(chunk.len());
        }
        taken.push(&self.tail[skip..]);
        self.truncate(mark);
        taken
    }

    /// Where `mark` is in what is still here. What was sent cannot be changed any more: asking for it is our mistake.
    fn offset(&self, mark: Mark) -> usize {
        let offset = mark.0.checked_sub(self.sent_bytes);
        let offset =
            offset.expect("the output behind a mark is not sent while the reply is written");
        assert!(
            offset <= self.len_bytes() as u64,
            "a mark behind a truncation"
        );
        offset as usize
    }

    /// Puts `header` in at `mark`. Marks before it stay right, those behind it do not.
    fn insert(&mut self, mark: Mark, header: &[u8]) {
        let offset = self.offset(mark);
        match offset.checked_sub(self.queued_bytes) {
            Some(at) => self.insert_in_tail(at, header),
            None => self.insert_in_queue(offset, header),
        }
    }

    fn insert_in_tail(&mut self, at: usize, header: &[u8]) {
        let end = self.tail.len();
        if end - at > MOVED_BYTES {
            let before = self.tail.split_to(at).freeze();
            self.enqueue(before);
            self.enqueue(Bytes::copy_from_slice(header));
            return;
        }
        self.tail.extend_from_slice(header);
        self.tail.copy_within(at..end, at + header.len());
        self.tail[at..at + header.len()].copy_from_slice(header);
    }

    fn insert_in_queue(&mut self, offset: usize, header: &[u8]) {
        // From the end: a header belongs to the reply being written, and that is at the end.
        let mut start = self.queued_bytes;
        let mut index = self.queue.len();
        while start > offset {
            index -= 1;
            start -= self.queue[index].len();
        }
        let before = self.queue[index].split_to(offset - start);
        self.queue.insert(index, Bytes::copy_from_slice(header));
        if !before.is_empty() {
            self.queue.insert(index, before);
        }
        self.queued_bytes += header.len();
    }

    fn enqueue(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.queued_bytes += chunk.len();
            self.queue.push_back(chunk);
        }
    }

    /// Cuts the tail off into the queue.
    fn seal(&mut self) {
        let chunk = self.tail.split().freeze();
        self.enqueue(chunk);
    }

    #[inline]
    fn room(&mut self, bytes: usize) {
        if self.tail.capacity() - self.tail.len() < bytes {
            self.grow(bytes);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        if self.tail.len() >= KEPT_BYTES {
            self.seal();
        }
        self.tail.reserve(bytes.max(FIRST_BYTES));
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len_bytes()
    }

    fn chunk(&self) -> &[u8] {
        self.queue.front().map_or(&self.tail, |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.fill(slices)
    }

    fn advance(&mut self, count: usize) {
        Output::advance(self, count);
    }
}

/// From here a value is cheaper shared than copied: the copy costs more than cutting the tail twice.
const SHARED_BYTES: usize = 16 * 1024;

/// The same for bytes that many outputs share.
const SHARED_BY_MANY_BYTES: usize = 1024;

/// A body up to this long is moved up for its header. It bounds the work per deferred header.
const MOVED_BYTES: usize = 4 * 1024;

/// An empty output keeps this much; a tail as long as this is cut off rather than moved to a larger allocation.
const KEPT_BYTES: usize = 64 * 1024;
const KEPT_CHUNKS: usize = 64;

/// The least the tail grows by.
const FIRST_BYTES: usize = 512;

/// A place in an output. Truncating to an earlier mark makes it void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// An aggregate whose header is still missing. It must be given one, or be cut off.
#[derive(Debug)]
#[must_use]
pub struct Deferred(Mark);

/// The protocol a client speaks, as chosen with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Of all clients at first.
    #[default]
    Resp2,
    /// With maps, sets, doubles, pushes and one null.
    Resp3,
}

/// Writes one client's replies in its protocol. What RESP2 has no type for is written as Redis does there.
#[derive(Debug)]
pub struct Reply<'a> {
    output: &'a mut Output,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `output`.
    #[inline]
    pub fn new(output: &'a mut Output, protocol: Protocol) -> Self {
        Reply { output, protocol }
    }

    /// The protocol it writes.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The output it writes to.
    pub fn output(&mut self) -> &mut Output {
        self.output
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.output.push(b"+OK\r\n");
    }

    /// A simple string. CR and LF become blanks.
    pub fn simple(&mut self, text: &str) {
        self.simple_bytes(text.as_bytes());
    }

    /// A simple string that need not be UTF-8, as scripts may return.
    pub fn simple_bytes(&mut self, text: &[u8]) {
        self.line(b'+', text);
    }

    /// An error; `text` begins with its code, such as `ERR`. CR and LF become blanks, those at the ends are dropped.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// An error that need not be UTF-8, because it quotes a client.
    pub fn error_bytes(&mut self, text: &[u8]) {
        let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let start = text.iter().take_while(|byte| is_break(byte)).count();
        let text = &text[start..];
        let end = text.iter().rev().take_while(|byte| is_break(byte)).count();
        self.line(b'-', &text[..text.len() - end]);
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.output.room(text.len() + 3);
        let tail = &mut self.output.tail;
        tail.extend_from_slice(&[kind]);
        let start = tail.len();
        tail.extend_from_slice(text);
        for byte in &mut tail[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        tail.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) if value < 100 => self.header(b':', value as usize),
            _ => self.number_line(b':', value),
        }
    }

    fn number_line(&mut self, kind: u8, value: i64) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(value);
        self.output.room(digits.len() + 3);
        let tail = &mut self.output.tail;
        tail.extend_from_slice(&[kind]);
        tail.extend_from_slice(digits.as_bytes());
        tail.extend_from_slice(b"\r\n");
    }

    /// `kind`, a count and CRLF: the header of a bulk or an aggregate.
    #[inline]
    fn header(&mut self, kind: u8, count: usize) {
        if count < 10 {
            self.output.push(&[kind, b'0' + count as u8, b'\r', b'\n']);
        } else if count < 100 {
            let (tens, ones) = (b'0' + (count / 10) as u8, b'0' + (count % 10) as u8);
            self.output.push(&[kind, tens, ones, b'\r', b'\n']);
        } else {
            self.number_line(kind, count as i64);
        }
    }

    /// A bulk string; copied.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        self.output.room(value.len() + BULK_FRAME);
        self.header(b'$', value.len());
        self.output.tail.extend_from_slice(value);
        self.output.tail.extend_from_slice(b"\r\n");
    }

    /// A bulk string; of 16 KiB or more it is shared, not copied.
    pub fn bulk_shared(&mut self, value: Bytes) {
        if value.len() < SHARED_BYTES {
            return self.bulk(&value);
        }
        self.header(b'$', value.len());
        self.output.push_shared(value);
        self.output.push(b"\r\n");
    }

    /// A bulk string of an integer's digits.
    pub fn integer_bulk(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A bulk string of an element: its text, or its integer's digits.
    #[inline]
    pub fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Bytes(text) => self.bulk(text),
            Item::Int(value) => self.integer_bulk(value),
        }
    }

    /// A text with its format, three letters such as `txt`; a plain bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(
            format.len(),
            3,
            "a verbatim string's format has three letters"
        );
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() + 4);
                self.output.push(format.as_bytes());
                self.output.push(b":");
                self.output.push(text);
                self.output.push(b"\r\n");
            }
        }
    }

    /// No value, where a bulk string would have stood.
    #[inline]
    pub fn null(&mut self) {
        self.output.push(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n".as_slice(),
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No value, where an array would have stood.
    pub fn null_array(&mut self) {
        self.output.push(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n".as_slice(),
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The header of an array; `count` elements follow.
    #[inline]
    pub fn array(&mut self, count: usize) {
        self.header(b'*', count);
    }

    /// The header of a map; `count` keys, each with its value, follow. In RESP2 an array of both.
    pub fn map(&mut self, count: usize) {
        let (kind, count) = self.map_header(count);
        self.header(kind, count);
    }

    /// The header of a set; an array in RESP2.
    pub fn set(&mut self, count: usize) {
        self.header(self.kind(b'~'), count);
    }

    /// The header of a push message; an array in RESP2.
    pub fn push(&mut self, count: usize) {
        self.header(self.kind(b'>'), count);
    }

    fn map_header(&self, count: usize) -> (u8, usize) {
        match self.protocol {
            Protocol::Resp2 => (b'*', count * 2),
            Protocol::Resp3 => (b'%', count),
        }
    }

    fn kind(&self, resp3: u8) -> u8 {
        match self.protocol {
            Protocol::Resp2 => b'*',
            Protocol::Resp3 => resp3,
        }
    }

    /// A double; its text as a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        let text = format_f64(value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(&text),
            Protocol::Resp3 => self.line(b',', &text),
        }
    }

    /// An integer of any size, given as its digits; a bulk string in RESP2.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// True or false; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        self.output.push(match (self.protocol, value) {
            (Protocol::Resp2, true) => b":1\r\n".as_slice(),
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// Bytes that are already a reply in the client's protocol.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.output.push(bytes);
    }

    /// Begins an aggregate whose length is not known yet. Its elements follow; then one of `set_array`, `set_map`, `set_set`
    /// or `set_push` puts the header before them. Aggregates may nest, the inner ones being finished first.
    pub fn deferred(&mut self) -> Deferred {
        Deferred(self.mark())
    }

    /// What was begun is an array of `count` elements.
    pub fn set_array(&mut self, begun: Deferred, count: usize) {
        self.put_header(begun, b'*', count);
    }

    /// What was begun is a map of `count` keys with their values.
    pub fn set_map(&mut self, begun: Deferred, count: usize) {
        let (kind, count) = self.map_header(count);
        self.put_header(begun, kind, count);
    }

    /// What was begun is a set of `count` elements.
    pub fn set_set(&mut self, begun: Deferred, count: usize) {
        self.put_header(begun, self.kind(b'~'), count);
    }

    /// What was begun is a push message of `count` elements.
    pub fn set_push(&mut self, begun: Deferred, count: usize) {
        self.put_header(begun, self.kind(b'>'), count);
    }

    fn put_header(&mut self, begun: Deferred, kind: u8, count: usize) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(count).as_bytes();
        let mut header = [0; BULK_FRAME];
        header[0] = kind;
        header[1..=digits.len()].copy_from_slice(digits);
        header[digits.len() + 1..][..2].copy_from_slice(b"\r\n");
        self.output.insert(begun.0, &header[..digits.len() + 3]);
    }

    /// The end of what has been written so far.
    #[inline]
    pub fn mark(&self) -> Mark {
        self.output.mark()
    }

    /// Cuts off all that was written since `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        self.output.truncate(mark);
    }

    /// How much was written since `mark`.
    pub fn bytes_since(&self, mark: Mark) -> usize {
        self.output.bytes_since(mark)
    }
}

/// The most a bulk string has beside its payload: `$`, twenty digits, two CRLF.
const BULK_FRAME: usize = 25;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Reply<'_>)) -> String {
        let mut output = Output::new();
        write(&mut Reply::new(&mut output, protocol));
        String::from_utf8(all(&output)).expect("the replies of these tests are text")
    }

    fn all(output: &Output) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); output.queue.len() + 1];
        let count = output.fill(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn each_type_in_both_protocols() {
        type Case = (fn(&mut Reply<'_>), &'static str, &'static str);
        let cases: [Case; 22] = [
            (|reply| reply.ok(), "+OK\r\n", "+OK\r\n"),
            (|reply| reply.simple("a\r\nb"), "+a  b\r\n", "+a  b\r\n"),
            (
                |reply| reply.error("\nERR a\nb\r\n"),
                "-ERR a b\r\n",
                "-ERR a b\r\n",
            ),
            (|reply| reply.integer(7), ":7\r\n", ":7\r\n"),
            (|reply| reply.integer(42), ":42\r\n", ":42\r\n"),
            (|reply| reply.integer(-1), ":-1\r\n", ":-1\r\n"),
            (|reply| reply.integer(100), ":100\r\n", ":100\r\n"),
            (
                |reply| reply.integer(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (|reply| reply.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (
                |reply| reply.bulk(b"hello world"),
                "$11\r\nhello world\r\n",
                "$11\r\nhello world\r\n",
            ),
            (
                |reply| reply.integer_bulk(-12),
                "$3\r\n-12\r\n",
                "$3\r\n-12\r\n",
            ),
            (
                |reply| reply.verbatim("txt", b"a"),
                "$1\r\na\r\n",
                "=5\r\ntxt:a\r\n",
            ),
            (|reply| reply.null(), "$-1\r\n", "_\r\n"),
            (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
            (|reply| reply.array(123), "*123\r\n", "*123\r\n"),
            (|reply| reply.map(5), "*10\r\n", "%5\r\n"),
            (|reply| reply.set(2), "*2\r\n", "~2\r\n"),
            (|reply| reply.push(3), "*3\r\n", ">3\r\n"),
            (|reply| reply.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (
                |reply| reply.double(f64::INFINITY),
                "$3\r\ninf\r\n",
                ",inf\r\n",
            ),
            (|reply| reply.big_number("99"), "$2\r\n99\r\n", "(99\r\n"),
            (|reply| reply.boolean(true), ":1\r\n", "#t\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Protocol::Resp2, write), resp2);
            assert_eq!(written(Protocol::Resp3, write), resp3);
        }
    }

    #[test]
    fn large_values_are_shared() {
        let value = Bytes::from(vec![b'v'; SHARED_BYTES]);
        let mut output = Output::new();
        let mut reply = Reply::new(&mut output, Protocol::Resp2);
        reply.array(2);
        reply.bulk_shared(value.clone());
        reply.bulk_shared(Bytes::from_static(b"small"));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(output.fill(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), value.as_ptr());
        assert_eq!(output.len_bytes(), all(&output).len());
        assert_eq!(output.fill(&mut slices[..1]), 1);
    }

    #[test]
    fn deferred_headers_nest() {
        let text = written(Protocol::Resp3, |reply| {
            let outer = reply.deferred();
            for count in 0..2 {
                let inner = reply.deferred();
                for _ in 0..count {
                    reply.integer(1);
                }
                reply.set_set(inner, count);
            }
            reply.set_array(outer, 2);
        });
        assert_eq!(text, "*2\r\n~0\r\n~1\r\n:1\r\n");
    }

    #[test]
    fn an_empty_output_gives_memory_back() {
        let mut output = Output::new();
        Reply::new(&mut output, Protocol::Resp2).bulk(&vec![0; KEPT_BYTES * 2]);
        output.shrink();
        let bytes = output.len_bytes();
        output.advance(bytes);
        assert!(output.is_empty());
        output.shrink();
        assert_eq!(output.tail.capacity(), 0);
    }

    /// One step of a random life of an output.
    #[derive(Clone, Debug)]
    enum Step {
        Bulk(usize),
        Shared(usize),
        Array(Vec<Step>),
        Undone(Vec<Step>),
        Taken(Vec<Step>),
        Sent(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let leaf = prop_oneof![
            prop_oneof![0..200usize, 0..6000usize].prop_map(Step::Bulk),
            (SHARED_BYTES - 2..SHARED_BYTES + 10).prop_map(Step::Shared),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let steps = prop::collection::vec(inner, 0..6);
            prop_oneof![
                3 => steps.clone().prop_map(Step::Array),
                1 => steps.clone().prop_map(Step::Undone),
                1 => steps.prop_map(Step::Taken),
            ]
        })
    }

    fn top_step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => step(), 1 => (0..40_000usize).prop_map(Step::Sent)]
    }

    /// Does the step to an output and to the plain bytes it should hold.
    fn run(step: &Step, output: &mut Output, model: &mut Vec<u8>) {
        match step {
            Step::Bulk(len) => {
                Reply::new(output, Protocol::Resp2).bulk(&vec![b'b'; *len]);
                model.extend(format!("${len}\r\n{}\r\n", "b".repeat(*len)).into_bytes());
            }
            Step::Shared(len) => {
                Reply::new(output, Protocol::Resp2).bulk_shared(vec![b's'; *len].into());
                model.extend(format!("${len}\r\n{}\r\n", "s".repeat(*len)).into_bytes());
            }
            Step::Array(steps) => {
                let begun = Reply::new(output, Protocol::Resp2).deferred();
                let mut body = Vec::new();
                steps.iter().for_each(|step| run(step, output, &mut body));
                Reply::new(output, Protocol::Resp2).set_array(begun, steps.len());
                model.extend(format!("*{}\r\n", steps.len()).into_bytes());
                model.extend(body);
            }
            Step::Undone(steps) => {
                let mark = output.mark();
                let mut body = Vec::new();
                steps.iter().for_each(|step| run(step, output, &mut body));
                assert_eq!(output.bytes_since(mark), body.len());
                output.truncate(mark);
            }
            Step::Taken(steps) => {
                let mark = output.mark();
                let mut body = Vec::new();
                steps.iter().for_each(|step| run(step, output, &mut body));
                let taken = output.take_since(mark);
                assert_eq!(all(&taken), body);
                output.append(taken);
                model.extend(body);
            }
            Step::Sent(bytes) => {
                let bytes = (*bytes).min(model.len());
                output.advance(bytes);
                output.shrink();
                model.drain(..bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn an_output_holds_what_was_written(steps in prop::collection::vec(top_step(), 0..20)) {
            let (mut output, mut model) = (Output::new(), Vec::new());
            for step in &steps {
                run(step, &mut output, &mut model);
                prop_assert_eq!(output.len_bytes(), model.len());
                prop_assert_eq!(output.is_empty(), model.is_empty());
                prop_assert!(all(&output) == model);
            }
        }
    }
}
