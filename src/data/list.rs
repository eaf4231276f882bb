//! Lists: sequences with two cheap ends.
//!
//! ```text
//!   packed   one Packed                          OBJECT ENCODING: listpack
//!     | beyond list-max-listpack-size      ^ one node is left, of half that size
//!     v                                    |
//!   nodes    group [ node node .. ] group [ .. ] ..                   quicklist
//!            node: a Packed up to the limit, or one element above it
//! ```
//!
//! The limit is compared with what Redis's listpack would take, so the encoding changes where Redis 7.2 changes it. (7.0
//! knows no packed lists and calls all of them quicklist.)
//!
//! Nodes stand in groups of up to 64, and groups know how many elements they hold: the way to an index goes over groups
//! from the nearer end, over nodes from the nearer end of the group, and over the heads of one node. In a list of a million
//! elements of 8 bytes these are 9, 32 and 400 steps at most. A change touches one node, or splits one.
//!
//! An element above the limit is a node of its own, held in the buffer that it came in.
//!
//! Groups are reference-counted: a clone is a snapshot, and who changes a group that a clone holds copies it.

use std::ops::Range;

use bytes::Bytes;

pub use self::iter::Iter;
pub use self::nodes::Nodes;
use super::packed::{COUNT_BYTES, Item, Packed, PackedRef};
use super::remains::Remains;
use super::value::Small;
use crate::base::allocator::good_size;

mod iter;
mod nodes;

/// Bytes that a node may take where only its elements are limited.
const SAFE_BYTES: usize = 8 * 1024;
/// What a listpack takes without elements.
pub(super) const LISTPACK_FRAME: usize = 7;

/// How large a packed list, or a node of a list, may be: `list-max-listpack-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    bytes: usize,
    entries: usize,
}

impl Limits {
    /// The limits that the parameter means: -1 to -5 are 4 to 64 KiB, others a number of elements.
    pub fn from_parameter(size: i64) -> Limits {
        match size {
            0.. => Limits {
                bytes: SAFE_BYTES,
                entries: usize::try_from(size).unwrap_or(usize::MAX).max(1),
            },
            _ => Limits {
                bytes: 4096 << (size.max(-5) + 1).unsigned_abs(),
                entries: usize::MAX,
            },
        }
    }

    /// Where a list that lost elements goes back to one sequence: half of what is limited.
    fn half(self) -> Limits {
        match self.entries {
            usize::MAX => Limits {
                bytes: self.bytes / 2,
                ..self
            },
            entries => Limits {
                entries: entries / 2,
                ..self
            },
        }
    }

    fn allow(self, bytes: usize, entries: usize) -> bool {
        bytes <= self.bytes && entries <= self.entries
    }

    /// Whether a node whose elements take `used` bytes is short enough: with its count it then fills a size class.
    fn allow_bytes_of_node(self, used: usize) -> bool {
        used + COUNT_BYTES <= self.bytes
    }

    /// The same, and whether it has few enough elements.
    fn allow_node(self, used: usize, entries: usize) -> bool {
        self.allow_bytes_of_node(used) && entries <= self.entries
    }
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// LEFT, where index 0 is.
    Head,
    /// RIGHT.
    Tail,
}

/// A text that becomes an element.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Copied.
    Copy(&'a [u8]),
    /// Kept when it is above the limit, else copied.
    Shared(Bytes),
}

impl Text<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Text::Copy(text) => text,
            Text::Shared(text) => text,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Text::Copy(text) => Bytes::copy_from_slice(text),
            Text::Shared(text) => text,
        }
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(text: &'a [u8]) -> Text<'a> {
        Text::Copy(text)
    }
}

/// An element as it is held.
#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    /// In a node with others.
    Item(Item<'a>),
    /// In a node of its own.
    Large(&'a Bytes),
}

impl<'a> Element<'a> {
    /// The text; an integer is written into `buffer`.
    #[inline]
    pub fn text<'b>(self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Element::Item(item) => item.text(buffer),
            Element::Large(text) => text,
        }
    }

    /// The text in a buffer of its own.
    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }

    /// To put it elsewhere; a large one is not copied.
    pub fn to_text<'b>(self, buffer: &'b mut itoa::Buffer) -> Text<'b>
    where
        'a: 'b,
    {
        match self {
            Element::Item(item) => Text::Copy(item.text(buffer)),
            Element::Large(text) => Text::Shared(text.clone()),
        }
    }
}

/// A text that elements are compared with: read as a number once.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    text: &'a [u8],
    item: Item<'a>,
}

impl<'a> Wanted<'a> {
    fn new(text: &'a [u8]) -> Wanted<'a> {
        let item = Item::new(text);
        Wanted { text, item }
    }

    #[inline]
    fn is(self, element: Element<'_>) -> bool {
        match element {
            Element::Item(item) => item == self.item,
            Element::Large(text) => text == self.text,
        }
    }
}

/// A list. See the file's head.
#[derive(Clone, Debug)]
pub enum List {
    /// One sequence, and what Redis's listpack would take for its elements, once that was asked for.
    Packed(Packed, Option<u32>),
    /// Several, or large elements.
    Nodes(Box<Nodes>),
}

/// A list to be read.
#[derive(Clone, Copy, Debug)]
pub enum ListRef<'a> {
    /// As in [`List::Packed`], or its compact form.
    Packed(PackedRef<'a>),
    /// As in [`List::Nodes`].
    Nodes(&'a Nodes),
}

impl Default for List {
    fn default() -> List {
        List::new()
    }
}

impl From<Packed> for List {
    fn from(packed: Packed) -> List {
        List::Packed(packed, None)
    }
}

impl List {
    /// An empty list.
    pub fn new() -> List {
        List::Packed(Packed::new(), Some(0))
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> ListRef<'_> {
        match self {
            List::Packed(packed, _) => ListRef::Packed(packed.view()),
            List::Nodes(nodes) => ListRef::Nodes(nodes),
        }
    }

    /// The sequence of a small list.
    #[inline]
    pub fn small(&self) -> Option<Small<'_>> {
        match self {
            List::Packed(packed, _) => Some(Small::Packed(packed)),
            List::Nodes(_) => None,
        }
    }

    /// Elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes from the allocator besides itself, in bytes. What it shares with a clone counts for both.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        match self {
            List::Packed(packed, _) => packed.allocated_bytes(),
            List::Nodes(nodes) => good_size(size_of::<Nodes>()) + nodes.allocated_bytes(),
        }
    }

    /// Prepares for `count` elements with texts of `bytes` in all: Redis looks at all arguments of a push before the first
    /// one is pushed, and converts the list when they do not fit together.
    pub fn prepare(&mut self, bytes: usize, count: usize, limits: Limits) {
        let List::Packed(packed, listpack) = self else {
            return;
        };
        let entries = packed.len().saturating_add(count);
        let bytes = bytes.saturating_add(LISTPACK_FRAME);
        let fits = |listpack: usize| limits.allow(bytes.saturating_add(listpack), entries);
        if fits(LISTPACK_MOST * packed.used_bytes()) || fits(known(listpack, packed)) {
            return;
        }
        let packed = std::mem::take(packed);
        *self = List::Nodes(Box::new(Nodes::from_packed(packed, limits)));
    }

    /// Adds an element at an end.
    pub fn push<'a>(&mut self, end: End, text: impl Into<Text<'a>>, limits: Limits) {
        let text = text.into();
        self.prepare(text.as_slice().len(), 1, limits);
        match self {
            List::Packed(packed, listpack) => {
                let item = Item::new(text.as_slice());
                *listpack = listpack.map(|bytes| bytes + listpack_size(item));
                match end {
                    End::Head => packed.push_front(item),
                    End::Tail => packed.push_back(item),
                }
            }
            List::Nodes(nodes) => nodes.push(end, text, limits),
        }
    }

    /// Removes the element at an end.
    pub fn pop(&mut self, end: End, limits: Limits) {
        match self {
            List::Packed(packed, listpack) => {
                let Some(last) = packed.len().checked_sub(1) else {
                    return;
                };
                let index = if end == End::Head { 0 } else { last };
                let gone = || packed.get(index).map_or(0, listpack_size);
                *listpack = listpack.map(|bytes| bytes - gone());
                packed.remove(index..index + 1);
            }
            List::Nodes(nodes) => {
                nodes.pop(end, limits);
                self.shrink(limits);
            }
        }
    }

    /// Puts an element before the one at `index`, or behind all when `index` is the length.
    pub fn insert<'a>(&mut self, index: usize, text: impl Into<Text<'a>>, limits: Limits) {
        let text = text.into();
        self.prepare(text.as_slice().len(), 1, limits);
        match self {
            List::Packed(packed, listpack) => {
                let item = Item::new(text.as_slice());
                *listpack = listpack.map(|bytes| bytes + listpack_size(item));
                packed.insert(index, item);
            }
            List::Nodes(nodes) => nodes.insert(index, text, limits),
        }
    }

    /// Puts another element in the place of the one at `index`; whether there is one.
    pub fn set<'a>(&mut self, index: usize, text: impl Into<Text<'a>>, limits: Limits) -> bool {
        if index >= self.len() {
            return false;
        }
        let text = text.into();
        self.prepare(text.as_slice().len(), 1, limits);
        match self {
            List::Packed(packed, listpack) => {
                let item = Item::new(text.as_slice());
                let old = packed.get(index).map_or(0, listpack_size);
                *listpack = listpack.map(|bytes| bytes + listpack_size(item) - old);
                packed.replace(index, item);
            }
            List::Nodes(nodes) => nodes.set(index, text, limits),
        }
        self.shrink(limits);
        true
    }

    /// Removes the elements of a range of indexes, which may reach beyond the end. Returns what is left to be freed.
    pub fn remove_range(&mut self, range: Range<usize>, limits: Limits) -> Remains {
        let mut remains = Remains::default();
        let range = range.start..range.end.min(self.len());
        if range.is_empty() {
            return remains;
        }
        match self {
            List::Packed(packed, listpack) => {
                let gone = || listpack_bytes(packed.view().range(range.clone()));
                *listpack = listpack.map(|bytes| bytes - gone());
                packed.remove(range);
            }
            List::Nodes(nodes) => nodes.remove_range(range, limits, &mut remains),
        }
        self.shrink(limits);
        remains
    }

    /// Keeps the elements of a range of indexes alone. Returns what is left to be freed.
    pub fn trim(&mut self, range: Range<usize>, limits: Limits) -> Remains {
        let mut remains = self.remove_range(range.end..usize::MAX, limits);
        let front = self.remove_range(0..range.start.min(range.end), limits);
        front.move_to(&mut remains);
        remains
    }

    /// Removes up to `count` elements equal to `text`, those nearest to an end; returns how many.
    pub fn remove_equal(&mut self, text: &[u8], count: usize, end: End, limits: Limits) -> usize {
        let wanted = Wanted::new(text);
        let removed = match self {
            List::Packed(packed, listpack) => {
                let removed = nodes::remove_equal(packed, wanted, count, end);
                let gone = removed as u32 * listpack_size(wanted.item);
                *listpack = listpack.map(|bytes| bytes - gone);
                removed
            }
            List::Nodes(nodes) => nodes.remove_equal(wanted, count, end, limits),
        };
        if removed > 0 {
            self.shrink(limits);
        }
        removed
    }

    /// What is to be freed, piece by piece where it is large.
    pub fn into_remains(self) -> Option<Remains> {
        match self {
            List::Packed(..) => None,
            List::Nodes(nodes) => Some(nodes.into_remains()),
        }
    }

    /// Back to one sequence, when one node of half the limit is left.
    fn shrink(&mut self, limits: Limits) {
        let List::Nodes(nodes) = self else { return };
        if nodes.len() == 0 {
            *self = List::new();
        } else if let Some((packed, listpack)) = nodes.take_small(limits.half()) {
            *self = List::Packed(packed, Some(listpack));
        }
    }
}

impl<'a> ListRef<'a> {
    /// Elements.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            ListRef::Packed(packed) => packed.len(),
            ListRef::Nodes(nodes) => nodes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The encoding as OBJECT ENCODING names it.
    pub fn encoding(self) -> &'static str {
        match self {
            ListRef::Packed(_) => "listpack",
            ListRef::Nodes(_) => "quicklist",
        }
    }

    /// The element at an index.
    pub fn get(self, index: usize) -> Option<Element<'a>> {
        match self {
            ListRef::Packed(packed) => packed.get(index).map(Element::Item),
            ListRef::Nodes(nodes) => nodes.get(index),
        }
    }

    /// The same list, to be read after it was changed or removed. Of a large one it shares what is not changed.
    pub fn snapshot(self) -> List {
        match self {
            ListRef::Packed(packed) => Packed::copy_of(packed).into(),
            ListRef::Nodes(nodes) => List::Nodes(Box::new(nodes.clone())),
        }
    }

    /// What it costs to write so many of its elements, in bytes copied: each takes some time besides its length.
    pub fn writing_cost(self, count: usize) -> usize {
        let length = match self {
            ListRef::Packed(_) => 0,
            ListRef::Nodes(nodes) => nodes.allocated_bytes() / nodes.len().max(1),
        };
        count.saturating_mul(length + 64)
    }

    /// The element at an end.
    pub fn peek(self, end: End) -> Option<Element<'a>> {
        match (self, end) {
            (ListRef::Packed(packed), End::Head) => packed.iter().next().map(Element::Item),
            (ListRef::Packed(packed), End::Tail) => packed.iter().next_back().map(Element::Item),
            (ListRef::Nodes(nodes), end) => nodes.peek(end),
        }
    }

    /// The elements of a range of indexes, from the lowest on. The range may reach beyond the end.
    pub fn range(self, range: Range<usize>) -> Iter<'a> {
        Iter::new(self, range, End::Head)
    }

    /// The elements of a range of indexes, from the highest on.
    pub fn range_back(self, range: Range<usize>) -> Iter<'a> {
        Iter::new(self, range, End::Tail)
    }

    /// Tells `found` the index of every element equal to `text`, from an end on, among the first `limit` there, until it
    /// says false.
    pub fn positions(
        self,
        text: &[u8],
        end: End,
        limit: usize,
        mut found: impl FnMut(usize) -> bool,
    ) {
        let wanted = Wanted::new(text);
        let last = self.len().saturating_sub(1);
        let elements = match end {
            End::Head => self.range(0..usize::MAX),
            End::Tail => self.range_back(0..usize::MAX),
        };
        for (passed, element) in elements.take(limit).enumerate() {
            let index = match end {
                End::Head => passed,
                End::Tail => last - passed,
            };
            if wanted.is(element) && !found(index) {
                return;
            }
        }
    }
}

/// Redis's listpack takes at most so many times as much as a sequence here: 2 bytes for 1.
const LISTPACK_MOST: usize = 2;

/// What Redis's listpack takes at least for what takes `bytes` here: 204 for 209.
fn listpack_least(bytes: usize) -> usize {
    bytes - bytes / 32
}

/// What Redis's listpack takes, counted when it is asked for first.
fn known(listpack: &mut Option<u32>, packed: &Packed) -> usize {
    *listpack.get_or_insert_with(|| listpack_bytes(packed.view())) as usize
}

/// What Redis's listpack takes for the items.
fn listpack_bytes(packed: PackedRef<'_>) -> u32 {
    packed.iter().map(listpack_size).sum()
}

/// What Redis's listpack takes for an item: its header, its bytes, and the length of both again for the way back.
pub(super) fn listpack_size(item: Item<'_>) -> u32 {
    let entry = match item {
        Item::Int(value) => match value {
            0..=127 => 1,
            -4096..=4095 => 2,
            -32_768..=32_767 => 3,
            -8_388_608..=8_388_607 => 4,
            -2_147_483_648..=2_147_483_647 => 5,
            _ => 9,
        },
        Item::Bytes(bytes) => match bytes.len() as u32 {
            length @ 0..=63 => 1 + length,
            length @ 64..=4095 => 2 + length,
            length => 5 + length,
        },
    };
    // Items of a list are 64 KiB long at most.
    entry
        + match entry {
            0..=127 => 1,
            128..=16_382 => 2,
            _ => 3,
        }
}

#[cfg(test)]
mod tests;
