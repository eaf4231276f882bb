//! A string of a payload, as it stands there.

use std::borrow::Cow;

use super::read::Malformed;
use crate::data::packed::Item;

/// The string.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    /// As it is, in the payload or decompressed.
    Bytes(Cow<'a, [u8]>),
    /// The decimal text of an integer.
    Int(i64),
}

impl<'a> Text<'a> {
    /// As the element of a collection. Not canonical.
    pub(super) fn item(&self) -> Item<'_> {
        match self {
            Text::Bytes(bytes) => Item::Bytes(bytes),
            Text::Int(value) => Item::Int(*value),
        }
    }

    /// The text in a buffer of its own.
    pub(super) fn into_vec(self) -> Vec<u8> {
        match self {
            Text::Bytes(bytes) => bytes.into_owned(),
            Text::Int(value) => Item::Int(value).to_vec(),
        }
    }

    /// The bytes of a sequence, which never look like a number.
    pub(super) fn into_bytes(self) -> Result<Cow<'a, [u8]>, Malformed> {
        match self {
            Text::Bytes(bytes) => Ok(bytes),
            Text::Int(_) => Err(Malformed),
        }
    }
}
