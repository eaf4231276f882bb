//! What nodes say to each other about publish/subscribe, and about keys whose prefixes clients follow (CLIENT TRACKING BCAST): the payloads of [`Kind::Publish`](super::bus::Kind::Publish).
//!
//! ```text
//!     records, one after the other:
//!     1                                                        begin anew: what this node has said of its subscribers is void
//!     2 | topic u8 | subscribers u32 | length u32 | name       so many are subscribed here to this name; 0: nobody any more
//!     3 | topic u8 | length u32 | channel | length u32 | payload    a message that was published here
//!     4 | writer u64 | length u32 | key                        a key was changed here that has a prefix of the receiver's
//!     5                                                        all keys were removed here, or changes were not told
//! ```
//!
//! Numbers are big-endian. A record replaces what an earlier one said of the same name, so saying it twice does no harm.

use bytes::{Buf, BufMut, BytesMut};

/// What is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE.
    Pattern,
    /// SSUBSCRIBE.
    Shard,
}

impl Topic {
    /// All of them.
    pub const ALL: [Topic; 3] = [Topic::Channel, Topic::Pattern, Topic::Shard];

    fn from_number(number: u8) -> Option<Topic> {
        Topic::ALL.get(usize::from(number)).copied()
    }
}

/// What clients of a node follow, so that others send it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Followed {
    /// Messages.
    Topic(Topic),
    /// Changes of keys that begin so (CLIENT TRACKING BCAST PREFIX).
    Prefix,
}

impl Followed {
    /// How many there are.
    pub const COUNT: usize = Topic::ALL.len() + 1;

    /// Its number, below [`Followed::COUNT`].
    pub fn number(self) -> usize {
        match self {
            Followed::Topic(topic) => topic as usize,
            Followed::Prefix => Topic::ALL.len(),
        }
    }

    fn from_number(number: u8) -> Option<Followed> {
        match Topic::from_number(number) {
            Some(topic) => Some(Followed::Topic(topic)),
            None => (usize::from(number) == Topic::ALL.len()).then_some(Followed::Prefix),
        }
    }
}

impl From<Topic> for Followed {
    fn from(topic: Topic) -> Followed {
        Followed::Topic(topic)
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// What the sender has said of its subscribers is void.
    Reset,
    /// How many are subscribed at the sender.
    Subscribers {
        /// To what.
        what: Followed,
        /// Its name.
        name: &'a [u8],
        /// How many; 0 for nobody any more.
        count: u32,
    },
    /// A message.
    Message {
        /// A channel or a shard channel.
        topic: Topic,
        /// Its name.
        channel: &'a [u8],
        /// What was published.
        payload: &'a [u8],
    },
    /// A change of a key.
    Change {
        /// Who made it, if it is a client of the receiver, by its id there; else 0.
        writer: u64,
        /// The key.
        key: &'a [u8],
    },
    /// Any key may have changed.
    Lost,
}

/// Not what a peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

const RESET: u8 = 1;
const SUBSCRIBERS: u8 = 2;
const MESSAGE: u8 = 3;
const CHANGE: u8 = 4;
const LOST: u8 = 5;

impl<'a> Record<'a> {
    /// Appends it to a payload.
    pub fn write(&self, buffer: &mut BytesMut) {
        match self {
            Record::Reset => buffer.put_u8(RESET),
            Record::Subscribers { what, name, count } => {
                buffer.reserve(10 + name.len());
                buffer.put_u8(SUBSCRIBERS);
                buffer.put_u8(what.number() as u8);
                buffer.put_u32(*count);
                put(name, buffer);
            }
            Record::Message {
                topic,
                channel,
                payload,
            } => {
                buffer.reserve(10 + channel.len() + payload.len());
                buffer.put_u8(MESSAGE);
                buffer.put_u8(*topic as u8);
                put(channel, buffer);
                put(payload, buffer);
            }
            Record::Change { writer, key } => {
                buffer.reserve(13 + key.len());
                buffer.put_u8(CHANGE);
                buffer.put_u64(*writer);
                put(key, buffer);
            }
            Record::Lost => buffer.put_u8(LOST),
        }
    }

    /// Takes the next one from the front of a payload; `None` at its end.
    pub fn read(payload: &mut &'a [u8]) -> Result<Option<Record<'a>>, Malformed> {
        let Some((&kind, rest)) = payload.split_first() else {
            return Ok(None);
        };
        *payload = rest;
        Ok(Some(match kind {
            RESET => Record::Reset,
            SUBSCRIBERS => {
                let number = payload.try_get_u8().map_err(|_| Malformed)?;
                let what = Followed::from_number(number).ok_or(Malformed)?;
                let count = payload.try_get_u32().map_err(|_| Malformed)?;
                let name = take(payload)?;
                Record::Subscribers { what, name, count }
            }
            MESSAGE => {
                let topic = topic(payload).and_then(|topic| match topic {
                    Topic::Pattern => Err(Malformed),
                    channel => Ok(channel),
                })?;
                let (channel, payload) = (take(payload)?, take(payload)?);
                Record::Message {
                    topic,
                    channel,
                    payload,
                }
            }
            CHANGE => {
                let writer = payload.try_get_u64().map_err(|_| Malformed)?;
                let key = take(payload)?;
                Record::Change { writer, key }
            }
            LOST => Record::Lost,
            _ => return Err(Malformed),
        }))
    }
}

/// Names and payloads are bounded far below this by the frame that they have to fit in.
fn put(bytes: &[u8], buffer: &mut BytesMut) {
    buffer.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    buffer.put_slice(bytes);
}

fn topic(payload: &mut &[u8]) -> Result<Topic, Malformed> {
    let number = payload.try_get_u8().map_err(|_| Malformed)?;
    Topic::from_number(number).ok_or(Malformed)
}

fn take<'a>(payload: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = payload.try_get_u32().map_err(|_| Malformed)?;
    let (taken, rest) = payload.split_at_checked(length as usize).ok_or(Malformed)?;
    *payload = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: [Record<'static>; 7] = [
        Record::Reset,
        Record::Lost,
        Record::Subscribers {
            what: Followed::Prefix,
            name: b"",
            count: 1,
        },
        Record::Subscribers {
            what: Followed::Topic(Topic::Pattern),
            name: b"news.*",
            count: 7,
        },
        Record::Message {
            topic: Topic::Channel,
            channel: b"news.1",
            payload: b"",
        },
        Record::Message {
            topic: Topic::Shard,
            channel: b"",
            payload: b"\0\r\n",
        },
        Record::Change {
            writer: 7,
            key: b"k",
        },
    ];

    #[test]
    fn records_arrive_as_they_were_written() {
        let mut payload = BytesMut::new();
        RECORDS.iter().for_each(|record| record.write(&mut payload));
        let mut rest = &payload[..];
        for record in RECORDS {
            assert_eq!(Record::read(&mut rest), Ok(Some(record)));
        }
        assert_eq!(Record::read(&mut rest), Ok(None));
    }

    #[test]
    fn what_is_cut_or_unknown_is_refused() {
        for record in &RECORDS[2..] {
            let mut payload = BytesMut::new();
            record.write(&mut payload);
            for cut in 1..payload.len() {
                assert_eq!(Record::read(&mut &payload[..cut]), Err(Malformed), "{cut}");
            }
        }
        assert_eq!(Record::read(&mut &b"\x09"[..]), Err(Malformed));
        assert_eq!(
            Record::read(&mut &b"\x03\x01\0\0\0\0\0\0\0\0"[..]),
            Err(Malformed)
        );
        assert_eq!(
            Record::read(&mut &b"\x02\x04\0\0\0\0\0\0\0\0"[..]),
            Err(Malformed)
        );
    }
}
