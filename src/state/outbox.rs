//! What others leave for a connection to send: its outbox, and bursts, which many outboxes share.
//!
//! A message to a hundred subscribers is not copied into a hundred outboxes. The first one of a burst gives each outbox a
//! share in the burst, and those that follow are appended to its text alone, until somebody sends it: then it is closed, and
//! the next message begins another. Each outbox keeps its order, since whoever leaves something else in it closes the burst
//! that stands at its end. So a burst costs its text once, and the sockets are filled from memory that all of them read.
//!
//! Locks are taken in this order: the burst of a name, an outbox, a burst's text.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::resp::reply::Output;

/// Bytes from which a burst takes no more: what one subscriber may have unread before its limit is looked at again.
pub const BURST_BYTES: usize = 64 * 1024;

/// Consecutive messages for the same clients, written once for each protocol that one of them speaks.
#[derive(Debug)]
pub struct Burst(Mutex<Text>);

#[derive(Debug)]
enum Text {
    /// For RESP2 and RESP3.
    Open([Option<Vec<u8>>; 2]),
    Closed([Option<Bytes>; 2]),
}

impl Default for Burst {
    fn default() -> Burst {
        Burst(Mutex::new(Text::Open([None, None])))
    }
}

impl Burst {
    /// Appends a message, which `write` writes for the protocol it is given (2 or 3). `false`: it is closed or full, and
    /// nothing was done.
    pub fn extend(&self, mut write: impl FnMut(u8, &mut Vec<u8>)) -> bool {
        let Text::Open(texts) = &mut *self.0.lock() else {
            return false;
        };
        if texts.iter().flatten().any(|text| text.len() >= BURST_BYTES) {
            return false;
        }
        for (protocol, text) in (2..).zip(texts) {
            if let Some(text) = text {
                write(protocol, text);
            }
        }
        true
    }

    /// Writes the first message for one more protocol, unless somebody who speaks it has a share already. Only while there is
    /// no second one.
    fn begin(&self, protocol: u8, write: impl FnOnce(u8, &mut Vec<u8>)) {
        let mut first = Vec::new();
        match &mut *self.0.lock() {
            Text::Open(texts) => {
                let text = &mut texts[place(protocol)];
                if text.is_none() {
                    write(protocol, text.insert(first));
                }
            }
            Text::Closed(texts) => {
                let text = &mut texts[place(protocol)];
                if text.is_none() {
                    write(protocol, &mut first);
                    *text = Some(first.into());
                }
            }
        }
    }

    /// All messages for a protocol that somebody with a share speaks. There will be no more.
    fn close(&self, protocol: u8) -> Bytes {
        let mut text = self.0.lock();
        if let Text::Open(texts) = &mut *text {
            let closed = mem::take(texts).map(|text| text.map(Bytes::from));
            *text = Text::Closed(closed);
        }
        match &*text {
            Text::Closed(texts) => texts[place(protocol)].clone().unwrap_or_default(),
            Text::Open(_) => Bytes::new(),
        }
    }

    fn len_bytes(&self, protocol: u8) -> usize {
        match &*self.0.lock() {
            Text::Open(texts) => texts[place(protocol)].as_ref().map_or(0, Vec::len),
            Text::Closed(texts) => texts[place(protocol)].as_ref().map_or(0, Bytes::len),
        }
    }
}

/// Where what is written for a protocol (2 or 3) stands among the two.
pub fn place(protocol: u8) -> usize {
    usize::from(protocol == 3)
}

/// What one connection has to send for others.
#[derive(Debug, Default)]
pub struct Outbox {
    output: Output,
    /// What comes behind it, in a protocol.
    burst: Option<(Arc<Burst>, u8)>,
}

impl Outbox {
    /// How much there is.
    pub fn len_bytes(&self) -> usize {
        let burst = self.burst.as_ref();
        let burst = burst.map_or(0, |(burst, protocol)| burst.len_bytes(*protocol));
        self.output.len_bytes() + burst
    }

    /// Where more is to be written.
    pub fn output(&mut self) -> &mut Output {
        if let Some((burst, protocol)) = self.burst.take() {
            self.output.push_chunk(burst.close(protocol));
        }
        &mut self.output
    }

    /// Has `write` write something, in the protocol that it is given.
    pub fn write(&mut self, protocol: u8, write: impl FnOnce(u8, &mut Output)) {
        let output = self.output();
        output.take_buffer();
        write(protocol, output);
    }

    /// Gives it a share in a burst, whose first message `write` writes.
    pub fn share(
        &mut self,
        burst: &Arc<Burst>,
        protocol: u8,
        write: impl FnOnce(u8, &mut Vec<u8>),
    ) {
        self.output();
        burst.begin(protocol, write);
        self.burst = Some((Arc::clone(burst), protocol));
    }

    /// All that there is.
    pub fn take(&mut self) -> Output {
        mem::take(self.output())
    }
}
