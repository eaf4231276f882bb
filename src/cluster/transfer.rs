//! What a node says to the one that its keys move to: the payloads of [`Kind::Transfer`](super::bus::Kind::Transfer).
//!
//! ```text
//!     request:  what u8 | number of the transfer u64 | ...
//!       Begin       epoch u64 | slots u16 x n
//!       Keys        items:  0 | key                                   the key is gone
//!                           1 | key | life | raw u8  | length u32, text
//!                           2 | key | life | length u32, DUMP payload
//!       Part        key | life | type u8 | raw u8 | elements u64 | is first, is last u8 | bytes
//!       Complete    nothing
//!       Abandon     epoch u64: what the sender knows; the receiver waits until it knows as much
//!       key:    database u32 | length u32, name
//!       life:   expiry i64, the smallest number for none | use u8, u64
//!     answer:   epoch u64 | verdict u8
//! ```
//!
//! A transfer is a set of slots that move together. It begins with Begin, by which the receiver forgets what it has of them;
//! any number of Keys and Parts follow, each key as often as it changed; Complete says that nothing is missing and nothing will
//! change any more. The parts of one value follow each other (see [`crate::data::parts`]). Numbers are big-endian. The bus vouches
//! for who sent it; still nothing here trusts a length.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::slots::SLOTS;
use crate::base::clock::Millis;
use crate::base::stats::Counter;
use crate::data::value::Type;
use crate::keyspace::evict::Rules;

/// How long a request should be: one that is much longer holds a single value, of less than [`LARGE`] bytes. It is what the
/// receiver has to do at once: a hundred keys, not a thousand.
pub const CHUNK: usize = 16 * 1024;
/// From so many bytes on a value goes in parts.
pub const LARGE: usize = 64 * 1024;

const NO_EXPIRY: i64 = i64::MIN;

/// Not what a peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Of the transfer: the sender gives each another one.
    pub number: u64,
    /// What is asked.
    pub what: What,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// Begin anew with these slots.
    Begin {
        /// The sender's.
        epoch: u64,
        /// Each below [`SLOTS`].
        slots: Vec<u16>,
    },
    /// Take these keys.
    Keys(Items),
    /// Take a part of a large value.
    Part(Part),
    /// Nothing is missing.
    Complete,
    /// Nothing will come of it.
    #[expect(missing_docs, reason = "the doc of the variant says it")]
    Abandon { epoch: u64 },
}

/// A key's name and database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// As clients number it.
    pub database: u32,
    /// The name.
    pub name: Bytes,
}

/// What a key has beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it expires.
    pub expiry: Option<Millis>,
    /// How it was used.
    pub usage: Usage,
}

/// How a key was used, in a form that does not depend on the sender's maxmemory-policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Not for so many seconds.
    Idle(u64),
    /// The LFU counter.
    Frequency(u8),
}

impl Usage {
    /// What an access clock says.
    pub fn of(access: u32, rules: &Rules, now: Millis) -> Usage {
        match rules.policy.is_lfu() {
            true => Usage::Frequency(rules.frequency(access, now) as u8),
            false => Usage::Idle(rules.idle_ms(access, now) / 1000),
        }
    }

    /// The access clock that says so here; that of a new key where the policies count differently.
    pub fn access(self, rules: &Rules, now: Millis) -> u32 {
        match (self, rules.policy.is_lfu()) {
            (Usage::Idle(seconds), false) => rules.access_idle_for(seconds, now),
            (Usage::Frequency(counter), true) => rules.access_with_frequency(counter, now),
            _ => rules.first_access(now),
        }
    }
}

/// A key as it is now.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// It is not there.
    Gone(Key),
    /// A string.
    Text {
        /// Its key.
        key: Key,
        /// Expiry and use.
        life: Life,
        /// Whether it was changed in place.
        raw: bool,
        /// The string.
        text: Bytes,
    },
    /// A value of any type.
    Value {
        /// Its key.
        key: Key,
        /// Expiry and use.
        life: Life,
        /// As DUMP writes it.
        payload: Bytes,
    },
}

impl Item {
    /// Its key.
    pub fn key(&self) -> &Key {
        match self {
            Item::Gone(key) | Item::Text { key, .. } | Item::Value { key, .. } => key,
        }
    }
}

/// Items one after the other, read as they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items(Bytes);

impl Iterator for Items {
    type Item = Result<Item, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let item = read_item(&mut self.0);
        if item.is_err() {
            self.0.clear();
        }
        Some(item)
    }
}

/// A part of a large value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its key.
    pub key: Key,
    /// Expiry and use.
    pub life: Life,
    /// The value's type.
    pub kind: Type,
    /// Of a string: whether it was changed in place.
    pub raw: bool,
    /// Of the whole value; a hint.
    pub elements: u64,
    /// Whether the value begins with it.
    pub is_first: bool,
    /// Whether the value ends with it.
    pub is_last: bool,
    /// As they were cut.
    pub bytes: Bytes,
}

const BEGIN: u8 = 1;
const KEYS: u8 = 2;
const PART: u8 = 3;
const COMPLETE: u8 = 4;
const ABANDON: u8 = 5;

const GONE: u8 = 0;
const TEXT: u8 = 1;
const VALUE: u8 = 2;

const IDLE: u8 = 0;
const FREQUENCY: u8 = 1;

impl Request {
    /// Reads it. The items of Keys are checked as they are taken.
    pub fn read(mut payload: Bytes) -> Result<Request, Malformed> {
        let what = u8_of(&mut payload)?;
        let number = u64_of(&mut payload)?;
        let what = match what {
            BEGIN => read_begin(&mut payload)?,
            KEYS => {
                return Ok(Request {
                    number,
                    what: What::Keys(Items(payload)),
                });
            }
            PART => What::Part(read_part(&mut payload)?),
            COMPLETE => What::Complete,
            ABANDON => What::Abandon {
                epoch: u64_of(&mut payload)?,
            },
            _ => return Err(Malformed),
        };
        match payload.is_empty() {
            true => Ok(Request { number, what }),
            false => Err(Malformed),
        }
    }
}

/// Writes Begin.
pub fn write_begin(number: u64, epoch: u64, slots: impl Iterator<Item = u16>) -> Bytes {
    let mut payload = head(BEGIN, number);
    payload.put_u64(epoch);
    slots.for_each(|slot| payload.put_u16(slot));
    payload.freeze()
}

/// Writes Complete.
pub fn write_complete(number: u64) -> Bytes {
    head(COMPLETE, number).freeze()
}

/// Writes Abandon.
pub fn write_abandon(number: u64, epoch: u64) -> Bytes {
    let mut payload = head(ABANDON, number);
    payload.put_u64(epoch);
    payload.freeze()
}

/// Writes a part.
pub fn write_part(number: u64, part: &Part) -> Bytes {
    let mut payload = head(PART, number);
    payload.reserve(64 + part.key.name.len() + part.bytes.len());
    put_key(part.key.database, &part.key.name, &mut payload);
    put_life(part.life, &mut payload);
    payload.put_u8(part.kind as u8);
    payload.put_u8(u8::from(part.raw));
    payload.put_u64(part.elements);
    payload.put_u8(u8::from(part.is_first));
    payload.put_u8(u8::from(part.is_last));
    put_bytes(&part.bytes, &mut payload);
    payload.freeze()
}

fn head(what: u8, number: u64) -> BytesMut {
    let mut payload = BytesMut::with_capacity(64);
    payload.put_u8(what);
    payload.put_u64(number);
    payload
}

/// Keys on their way, put together.
#[derive(Debug)]
pub struct Chunk {
    payload: BytesMut,
    count: usize,
}

impl Chunk {
    /// Without any.
    pub fn new(number: u64) -> Chunk {
        Chunk {
            payload: head(KEYS, number),
            count: 0,
        }
    }

    /// Adds a key that is not there.
    pub fn gone(&mut self, database: u32, key: &[u8]) {
        self.payload.put_u8(GONE);
        put_key(database, key, &mut self.payload);
        self.count += 1;
    }

    /// Adds a string.
    pub fn text(&mut self, database: u32, key: &[u8], life: Life, raw: bool, text: &[u8]) {
        self.payload.put_u8(TEXT);
        put_key(database, key, &mut self.payload);
        put_life(life, &mut self.payload);
        self.payload.put_u8(u8::from(raw));
        put_bytes(text, &mut self.payload);
        self.count += 1;
    }

    /// Adds any value, as DUMP writes it.
    pub fn value(&mut self, database: u32, key: &[u8], life: Life, dumped: &[u8]) {
        self.payload.put_u8(VALUE);
        put_key(database, key, &mut self.payload);
        put_life(life, &mut self.payload);
        put_bytes(dumped, &mut self.payload);
        self.count += 1;
    }

    /// Whether it is as long as it should be.
    pub fn is_full(&self) -> bool {
        self.payload.len() >= CHUNK
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its keys.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The request.
    pub fn finish(self) -> Bytes {
        self.payload.freeze()
    }
}

fn put_key(database: u32, key: &[u8], payload: &mut BytesMut) {
    payload.put_u32(database);
    put_bytes(key, payload);
}

fn put_life(life: Life, payload: &mut BytesMut) {
    payload.put_i64(life.expiry.map_or(NO_EXPIRY, |at| at.0));
    let (what, value) = match life.usage {
        Usage::Idle(seconds) => (IDLE, seconds),
        Usage::Frequency(counter) => (FREQUENCY, u64::from(counter)),
    };
    payload.put_u8(what);
    payload.put_u64(value);
}

fn put_bytes(bytes: &[u8], payload: &mut BytesMut) {
    // A frame is far below 4 GiB.
    payload.put_u32(bytes.len() as u32);
    payload.put_slice(bytes);
}

fn read_begin(payload: &mut Bytes) -> Result<What, Malformed> {
    let epoch = u64_of(payload)?;
    if !payload.len().is_multiple_of(2) || payload.len() / 2 > SLOTS {
        return Err(Malformed);
    }
    let mut slots = Vec::with_capacity(payload.len() / 2);
    while payload.has_remaining() {
        slots.push(payload.get_u16());
    }
    match slots.iter().all(|slot| usize::from(*slot) < SLOTS) {
        true => Ok(What::Begin { epoch, slots }),
        false => Err(Malformed),
    }
}

fn read_part(payload: &mut Bytes) -> Result<Part, Malformed> {
    Ok(Part {
        key: key_of(payload)?,
        life: life_of(payload)?,
        kind: {
            let kind = u8_of(payload)?;
            *Type::ALL.get(usize::from(kind)).ok_or(Malformed)?
        },
        raw: bool_of(payload)?,
        elements: u64_of(payload)?,
        is_first: bool_of(payload)?,
        is_last: bool_of(payload)?,
        bytes: bytes_of(payload)?,
    })
}

fn read_item(payload: &mut Bytes) -> Result<Item, Malformed> {
    let what = u8_of(payload)?;
    let key = key_of(payload)?;
    Ok(match what {
        GONE => Item::Gone(key),
        TEXT => Item::Text {
            key,
            life: life_of(payload)?,
            raw: bool_of(payload)?,
            text: bytes_of(payload)?,
        },
        VALUE => Item::Value {
            key,
            life: life_of(payload)?,
            payload: bytes_of(payload)?,
        },
        _ => return Err(Malformed),
    })
}

fn key_of(payload: &mut Bytes) -> Result<Key, Malformed> {
    if payload.len() < 4 {
        return Err(Malformed);
    }
    Ok(Key {
        database: payload.get_u32(),
        name: bytes_of(payload)?,
    })
}

fn life_of(payload: &mut Bytes) -> Result<Life, Malformed> {
    let expiry = u64_of(payload)?.cast_signed();
    let what = u8_of(payload)?;
    let value = u64_of(payload)?;
    Ok(Life {
        expiry: (expiry != NO_EXPIRY).then_some(Millis(expiry)),
        usage: match what {
            IDLE => Usage::Idle(value),
            FREQUENCY => Usage::Frequency(u8::try_from(value).map_err(|_| Malformed)?),
            _ => return Err(Malformed),
        },
    })
}

fn bytes_of(payload: &mut Bytes) -> Result<Bytes, Malformed> {
    if payload.len() < 4 {
        return Err(Malformed);
    }
    let length = payload.get_u32() as usize;
    if payload.len() < length {
        return Err(Malformed);
    }
    Ok(payload.split_to(length))
}

fn u8_of(payload: &mut Bytes) -> Result<u8, Malformed> {
    match payload.is_empty() {
        true => Err(Malformed),
        false => Ok(payload.get_u8()),
    }
}

fn bool_of(payload: &mut Bytes) -> Result<bool, Malformed> {
    match u8_of(payload)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn u64_of(payload: &mut Bytes) -> Result<u64, Malformed> {
    match payload.len() {
        ..8 => Err(Malformed),
        _ => Ok(payload.get_u64()),
    }
}

/// What has moved since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Keys that were sent to other nodes, those that changed meanwhile each time.
    pub sent: Counter,
    /// Keys that were taken from other nodes, in the same way.
    pub received: Counter,
}

/// What the receiver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Done.
    Done = 0,
    /// It knows no such transfer (any more), or does not get these slots: begin again, by a newer map.
    Unknown = 1,
    /// It has no room for more keys.
    NoRoom = 2,
    /// It could not read it.
    Malformed = 3,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The receiver's.
    pub epoch: u64,
    /// What it says.
    pub verdict: Verdict,
}

impl Answer {
    /// Writes it.
    pub fn write(&self, payload: &mut BytesMut) {
        payload.put_u64(self.epoch);
        payload.put_u8(self.verdict as u8);
    }

    /// Reads it.
    pub fn read(mut payload: Bytes) -> Result<Answer, Malformed> {
        if payload.len() != 9 {
            return Err(Malformed);
        }
        Ok(Answer {
            epoch: payload.get_u64(),
            verdict: match payload.get_u8() {
                0 => Verdict::Done,
                1 => Verdict::Unknown,
                2 => Verdict::NoRoom,
                3 => Verdict::Malformed,
                _ => return Err(Malformed),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Key {
        Key {
            database: 3,
            name: Bytes::from_static(name.as_bytes()),
        }
    }

    const LIFE: Life = Life {
        expiry: Some(Millis(77)),
        usage: Usage::Idle(5),
    };

    fn samples() -> Vec<Bytes> {
        let mut chunk = Chunk::new(9);
        assert!(chunk.is_empty());
        chunk.gone(3, b"a");
        chunk.text(3, b"", LIFE, true, b"text");
        let frequent = Life {
            expiry: None,
            usage: Usage::Frequency(200),
        };
        chunk.value(3, b"c", frequent, b"payload");
        assert_eq!((chunk.len(), chunk.is_full()), (3, false));
        let part = Part {
            key: key("d"),
            life: LIFE,
            kind: Type::ZSet,
            raw: false,
            elements: 1 << 40,
            is_first: true,
            is_last: false,
            bytes: Bytes::from_static(b"bytes"),
        };
        vec![
            write_begin(9, 4, [0, 5, SLOTS as u16 - 1].into_iter()),
            chunk.finish(),
            write_part(9, &part),
            write_complete(9),
            write_abandon(9, 5),
        ]
    }

    #[test]
    fn requests_are_read_as_they_were_written() {
        let read: Vec<What> = samples()
            .into_iter()
            .map(|payload| {
                let request = Request::read(payload).expect("well-formed");
                assert_eq!(request.number, 9);
                request.what
            })
            .collect();
        let [
            What::Begin { epoch: 4, slots },
            What::Keys(items),
            What::Part(part),
            What::Complete,
            What::Abandon { epoch: 5 },
        ] = &read[..]
        else {
            panic!("{read:?}")
        };
        assert_eq!(slots, &[0, 5, SLOTS as u16 - 1]);
        let items: Result<Vec<Item>, Malformed> = items.clone().collect();
        let expected = vec![
            Item::Gone(key("a")),
            Item::Text {
                key: key(""),
                life: LIFE,
                raw: true,
                text: Bytes::from_static(b"text"),
            },
            Item::Value {
                key: key("c"),
                life: Life {
                    expiry: None,
                    usage: Usage::Frequency(200),
                },
                payload: Bytes::from_static(b"payload"),
            },
        ];
        assert_eq!(items, Ok(expected));
        assert_eq!(
            (part.kind, part.elements, part.is_first),
            (Type::ZSet, 1 << 40, true)
        );
        assert_eq!(
            (&part.bytes[..], part.is_last, part.life),
            (&b"bytes"[..], false, LIFE)
        );
    }

    #[test]
    fn what_is_cut_or_goes_on_is_refused() {
        for sample in samples() {
            for cut in 0..sample.len() {
                let Ok(request) = Request::read(sample.slice(..cut)) else {
                    continue;
                };
                match request.what {
                    // Fewer slots, fewer items are a request, too.
                    What::Begin { slots, .. } => assert!(slots.len() < 3),
                    What::Keys(mut items) => {
                        let count = items.clone().count();
                        assert!(count < 3 || items.any(|item| item.is_err()), "{cut}");
                    }
                    other => panic!("{other:?} of {cut} bytes"),
                }
            }
            let longer = [&sample[..], &[0]].concat();
            let read = Request::read(longer.into());
            let is_refused = match read {
                Err(Malformed) => true,
                Ok(Request {
                    what: What::Keys(mut items),
                    ..
                }) => items.any(|item| item.is_err()),
                Ok(_) => false,
            };
            assert!(is_refused);
        }
        let beyond = write_begin(9, 4, [SLOTS as u16].into_iter());
        assert_eq!(Request::read(beyond), Err(Malformed));
    }

    #[test]
    fn random_bytes_are_no_trouble() {
        let mut rng = crate::data::testing::seeded();
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..rng.usize(..80)).map(|_| rng.u8(..)).collect();
            if let Some(first) = bytes.first_mut() {
                *first %= 7;
            }
            if let Ok(Request {
                what: What::Keys(items),
                ..
            }) = Request::read(bytes.into())
            {
                assert!(items.count() <= 80);
            }
        }
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        for verdict in [
            Verdict::Done,
            Verdict::Unknown,
            Verdict::NoRoom,
            Verdict::Malformed,
        ] {
            let answer = Answer { epoch: 8, verdict };
            let mut payload = BytesMut::new();
            answer.write(&mut payload);
            assert_eq!(Answer::read(payload.freeze()), Ok(answer));
        }
        assert_eq!(Answer::read(Bytes::from_static(&[0; 8])), Err(Malformed));
        assert_eq!(Answer::read(Bytes::from_static(&[9; 9])), Err(Malformed));
    }

    #[test]
    fn the_use_of_a_key_survives_where_policies_agree() {
        use crate::keyspace::evict::Policy;
        let now = Millis(1_700_000_000_000);
        let of = |policy| Rules {
            policy,
            ..Rules::default()
        };
        let (lru, lfu) = (of(Policy::AllKeysLru), of(Policy::AllKeysLfu));
        let access = lru.access_idle_for(100, now);
        let usage = Usage::of(access, &lru, now);
        assert_eq!((usage, usage.access(&lru, now)), (Usage::Idle(100), access));
        assert_eq!(usage.access(&lfu, now), lfu.first_access(now));
        let access = lfu.access_with_frequency(42, now);
        let usage = Usage::of(access, &lfu, now);
        assert_eq!(
            (usage, usage.access(&lfu, now)),
            (Usage::Frequency(42), access)
        );
        assert_eq!(usage.access(&lru, now), lru.first_access(now));
    }
}
