//! What a node asks all others: the payloads of [`Kind::Ask`](super::bus::Kind::Ask).
//!
//! ```text
//!     1 | frame of requests (forward.rs)     run these, as soon as there is room; answered as a frame of requests is
//!     6 | frame of requests                  run these at once: they wait for no key
//!     2                                      how many keys there are: Vec<DatabaseTotal>
//!     3                                      which libraries and scripts are known: Known
//!     7                                      the map that is installed: Map
//!     4                                      what became of all libraries: Vec<LibraryState>
//!     5 | last SHA-1 seen, or nothing        loaded scripts behind it, by their SHA-1: Vec<LoadedScript>, empty at the end
//! ```
//!
//! Answers but the first are in postcard. An empty answer says that the node cannot answer.

use bytes::{Buf, Bytes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Run a frame of requests, as soon as there is room.
    Run(Bytes),
    /// Run a frame of requests that wait for no key. Some end what others wait for (SCRIPT KILL).
    RunAtOnce(Bytes),
    /// How many keys are there?
    Totals,
    /// Which libraries and scripts are known?
    Known,
    /// What are the libraries?
    Libraries,
    /// Who owns what? (Asked by who has left, and hears of no map any more.)
    Map,
    /// What are the loaded scripts behind this one?
    Scripts(Bytes),
}

/// Before the frame of [`Question::Run`].
pub const RUN: u8 = 1;
/// Before the frame of [`Question::RunAtOnce`].
pub const RUN_AT_ONCE: u8 = 6;

impl Question {
    /// Its payload.
    pub fn to_payload(&self) -> Vec<u8> {
        let (number, rest): (u8, &[u8]) = match self {
            Question::Run(frame) => (RUN, frame),
            Question::RunAtOnce(frame) => (RUN_AT_ONCE, frame),
            Question::Totals => (2, &[]),
            Question::Known => (3, &[]),
            Question::Libraries => (4, &[]),
            Question::Map => (7, &[]),
            Question::Scripts(last) => (5, last),
        };
        [&[number], rest].concat()
    }

    /// `None`: it is not what peers ask.
    pub fn read(mut payload: Bytes) -> Option<Question> {
        let number = payload.try_get_u8().ok()?;
        match number {
            RUN => Some(Question::Run(payload)),
            RUN_AT_ONCE => Some(Question::RunAtOnce(payload)),
            5 => Some(Question::Scripts(payload)),
            _ if !payload.is_empty() => None,
            2 => Some(Question::Totals),
            3 => Some(Question::Known),
            4 => Some(Question::Libraries),
            7 => Some(Question::Map),
            _ => None,
        }
    }
}

/// What a node has in one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseTotal {
    /// Its number.
    pub database: u32,
    /// Keys.
    pub keys: u64,
    /// Keys with an expiry.
    pub expires: u64,
    /// What these have left on average, in milliseconds.
    pub average_ttl_ms: u64,
}

/// Which libraries and scripts a node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// A hash of all libraries.
    pub libraries: u128,
    /// A hash of all loaded scripts.
    pub scripts: u128,
    /// When it forgot all scripts, in milliseconds since 1970; 0 for never.
    pub scripts_flushed_ms: i64,
}

/// What became of a library at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryState {
    /// Its name.
    pub name: String,
    /// When it was loaded or deleted, in milliseconds since 1970.
    pub since_ms: i64,
    /// Its text; `None`: it was deleted.
    pub text: Option<Vec<u8>>,
}

/// A loaded script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedScript {
    /// When it was loaded, in milliseconds since 1970.
    pub since_ms: i64,
    /// Its text.
    pub text: Vec<u8>,
}

/// An answer's payload.
pub fn to_answer<T: Serialize>(answer: &T) -> Vec<u8> {
    // Only a writer that fails makes this fail, and a vector does not.
    postcard::to_stdvec(answer).unwrap_or_default()
}

/// An answer from its payload; `None`: it is not one, or the node could not answer.
pub fn read_answer<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    postcard::from_bytes(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_arrive_as_they_were_asked() {
        let questions = [
            Question::Run(Bytes::from_static(b"frame")),
            Question::RunAtOnce(Bytes::from_static(b"frame")),
            Question::Totals,
            Question::Known,
            Question::Libraries,
            Question::Map,
            Question::Scripts(Bytes::new()),
            Question::Scripts(Bytes::from_static(b"sha")),
        ];
        for question in questions {
            let payload = Bytes::from(question.to_payload());
            assert_eq!(Question::read(payload), Some(question));
        }
        for wrong in [&b""[..], b"\0", b"\x08", b"\x02x"] {
            assert_eq!(Question::read(Bytes::from_static(wrong)), None);
        }
    }

    #[test]
    fn answers_arrive_as_they_were_given() {
        let totals = vec![DatabaseTotal {
            database: 3,
            keys: 70_000,
            expires: 1,
            average_ttl_ms: u64::MAX,
        }];
        assert_eq!(read_answer(&to_answer(&totals)), Some(totals));
        assert_eq!(read_answer::<Known>(&[]), None);
        // A count that lies allocates nothing of its size.
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(read_answer::<Vec<DatabaseTotal>>(&lie), None);
    }
}
