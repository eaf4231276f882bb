//! The elements of a compact sequence: what they are, and how they are written as head and body.

use crate::data::number;

const LONGEST_SHORT: usize = 199;
const SMALL_INT: u8 = 200;
const LARGEST_SMALL_INT: i64 = 46;
/// The head of an integer of one byte, less one.
const WIDE_INT: u8 = 246;
pub(super) const LONG: u8 = 255;
/// Length in front of and behind a long body.
const LENGTH_BYTES: usize = 4;
/// One element as it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Anything that is not a canonical decimal `i64`.
    Bytes(&'a [u8]),
    /// A canonical decimal `i64`.
    Int(i64),
}

impl<'a> Item<'a> {
    /// The item that `text` is held as.
    pub fn new(text: &'a [u8]) -> Item<'a> {
        number::parse_i64(text).map_or(Item::Bytes(text), Item::Int)
    }

    /// The item that it would be held as: what comes from elsewhere may be the text of an integer.
    #[inline]
    pub fn canonical(self) -> Item<'a> {
        match self {
            Item::Bytes(text) => Item::new(text),
            int => int,
        }
    }

    /// The text; an integer is written into `buffer`.
    #[inline]
    pub fn text<'b>(self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Item::Bytes(bytes) => bytes,
            Item::Int(value) => buffer.format(value).as_bytes(),
        }
    }

    /// Appends the text.
    pub fn write_to(self, out: &mut Vec<u8>) {
        match self {
            Item::Bytes(bytes) => out.extend_from_slice(bytes),
            Item::Int(value) => number::write_i64(out, value),
        }
    }

    /// The text in a buffer of its own.
    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }

    /// The length of the text.
    pub fn text_len(self) -> usize {
        match self {
            Item::Bytes(bytes) => bytes.len(),
            Item::Int(value) => {
                let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                digits + usize::from(value < 0)
            }
        }
    }

    /// The integer that the text is.
    #[inline]
    pub fn int(self) -> Option<i64> {
        match self.canonical() {
            Item::Bytes(_) => None,
            Item::Int(value) => Some(value),
        }
    }
}

impl PartialEq<[u8]> for Item<'_> {
    fn eq(&self, text: &[u8]) -> bool {
        match *self {
            Item::Bytes(bytes) => bytes == text,
            Item::Int(value) => number::parse_i64(text) == Some(value),
        }
    }
}

/// An element to be put in or looked for: encoded once, compared and copied often.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub(in crate::data) head: u8,
    body: Body<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Body<'a> {
    Bytes(&'a [u8]),
    /// The first bytes of these, as many as the head says.
    Int([u8; 8]),
}

impl<'a> Element<'a> {
    fn bytes(bytes: &'a [u8]) -> Element<'a> {
        let head = if bytes.len() <= LONGEST_SHORT {
            bytes.len() as u8
        } else {
            LONG
        };
        let body = Body::Bytes(bytes);
        Element { head, body }
    }

    /// Bytes that are no text: held as they are, even when they would read as an integer.
    pub(in crate::data) fn opaque(bytes: &'a [u8]) -> Element<'a> {
        Element::bytes(bytes)
    }

    fn int(value: i64) -> Element<'a> {
        let body = Body::Int(value.to_le_bytes());
        if (0..=LARGEST_SMALL_INT).contains(&value) {
            let head = SMALL_INT + value as u8;
            return Element { head, body };
        }
        // One bit more than the magnitude of what the sign leaves.
        let bits = u64::BITS - (value ^ (value >> 63)).leading_zeros() + 1;
        let head = WIDE_INT + bits.div_ceil(8) as u8;
        Element { head, body }
    }

    /// What it adds to [`Packed::used_bytes`](super::Packed::used_bytes).
    #[inline]
    pub fn size(&self) -> usize {
        self.body_size() + 1
    }

    #[inline]
    pub(in crate::data) fn body_size(&self) -> usize {
        match self.body {
            Body::Bytes(bytes) if self.head == LONG => bytes.len() + 2 * LENGTH_BYTES,
            Body::Bytes(bytes) => bytes.len(),
            Body::Int(_) => int_width(self.head),
        }
    }

    pub(in crate::data) fn write_body(&self, place: &mut [u8]) {
        match &self.body {
            Body::Bytes(bytes) if self.head == LONG => {
                let length = length_bytes(bytes.len());
                place[..LENGTH_BYTES].copy_from_slice(&length);
                place[LENGTH_BYTES..][..bytes.len()].copy_from_slice(bytes);
                place[LENGTH_BYTES + bytes.len()..].copy_from_slice(&length);
            }
            Body::Bytes(bytes) => place.copy_from_slice(bytes),
            Body::Int(bytes) => place.copy_from_slice(&bytes[..place.len()]),
        }
    }

    /// Whether this is the element that is held as a body under the same head.
    #[inline]
    pub(super) fn has_body(&self, held: &[u8]) -> bool {
        match &self.body {
            Body::Bytes(bytes) => {
                let held = bytes_of(self.head, held);
                // Names that are alike mostly differ in the last byte, which is cheaper than a call.
                held.last() == bytes.last() && held == *bytes
            }
            Body::Int(bytes) => held == &bytes[..int_width(self.head)],
        }
    }
}

impl<'a> From<&'a [u8]> for Element<'a> {
    #[inline]
    fn from(text: &'a [u8]) -> Self {
        Item::new(text).into()
    }
}

impl From<i64> for Element<'_> {
    fn from(value: i64) -> Self {
        Element::int(value)
    }
}

impl<'a> From<Item<'a>> for Element<'a> {
    #[inline]
    fn from(item: Item<'a>) -> Self {
        match item.canonical() {
            Item::Bytes(bytes) => Element::bytes(bytes),
            Item::Int(value) => Element::int(value),
        }
    }
}

#[inline]
pub(in crate::data) fn decode(head: u8, body: &[u8]) -> Item<'_> {
    match head {
        0..SMALL_INT | LONG => Item::Bytes(bytes_of(head, body)),
        SMALL_INT..=WIDE_INT => Item::Int(i64::from(head - SMALL_INT)),
        _ => {
            let mut value = [0; 8];
            value[..body.len()].copy_from_slice(body);
            let unused = 64 - 8 * body.len() as u32;
            Item::Int(i64::from_le_bytes(value) << unused >> unused)
        }
    }
}

/// The text of a body that is no integer.
#[inline]
fn bytes_of(head: u8, body: &[u8]) -> &[u8] {
    if head == LONG {
        &body[LENGTH_BYTES..body.len() - LENGTH_BYTES]
    } else {
        body
    }
}

/// The size of the first of `bodies`.
#[inline]
pub(in crate::data) fn size_at_front(head: u8, bodies: &[u8]) -> usize {
    if head == LONG {
        return long_size(bodies.first_chunk());
    }
    short_size(head)
}

/// The size of the last of `bodies`.
#[inline]
pub(super) fn size_at_back(head: u8, bodies: &[u8]) -> usize {
    if head == LONG {
        return long_size(bodies.last_chunk());
    }
    short_size(head)
}

#[cold]
fn long_size(length: Option<&[u8; LENGTH_BYTES]>) -> usize {
    let length = length.expect("a long body has a length");
    u32::from_le_bytes(*length) as usize + 2 * LENGTH_BYTES
}

/// The size of a body with this head, which is not [`LONG`].
#[inline]
pub(super) fn short_size(head: u8) -> usize {
    if head < SMALL_INT {
        usize::from(head)
    } else {
        int_width(head)
    }
}

/// Bytes of the integer with this head.
#[inline]
pub(in crate::data) fn int_width(head: u8) -> usize {
    usize::from(head.saturating_sub(WIDE_INT))
}

/// A length or count in four bytes. The owners keep [`MAX_BYTES`](super::MAX_BYTES), so it fits.
#[inline]
pub(super) fn length_bytes(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("the owner keeps MAX_BYTES")
        .to_le_bytes()
}
