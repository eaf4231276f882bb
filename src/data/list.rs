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

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::packed::{self, Item, Packed, PackedRef};
use super::remains::Remains;
use crate::base::allocator::good_size;

/// Nodes in a group at most; a group in the middle that would have more is divided.
const GROUP: usize = 64;
/// Bytes that a node may take where only its elements are limited.
const SAFE_BYTES: usize = 8 * 1024;
/// What a group takes without its nodes.
const GROUP_BYTES: usize = good_size(2 * size_of::<usize>() + size_of::<Group>());
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

    fn half(self) -> Limits {
        Limits {
            bytes: self.bytes / 2,
            entries: self.entries / 2,
        }
    }

    fn allow(self, bytes: usize, entries: usize) -> bool {
        bytes <= self.bytes && entries <= self.entries
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
    /// One sequence, and what Redis's listpack would take for its elements.
    Packed(Packed, usize),
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
        let listpack = listpack_bytes(packed.view());
        List::Packed(packed, listpack)
    }
}

impl List {
    /// An empty list.
    pub fn new() -> List {
        List::Packed(Packed::new(), 0)
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> ListRef<'_> {
        match self {
            List::Packed(packed, _) => ListRef::Packed(packed.view()),
            List::Nodes(nodes) => ListRef::Nodes(nodes),
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes from the allocator besides itself, in bytes. What it shares with a clone counts for both.
    pub fn allocated_bytes(&self) -> usize {
        match self {
            List::Packed(packed, _) => packed.allocated_bytes(),
            List::Nodes(nodes) => good_size(size_of::<Nodes>()) + nodes.bytes,
        }
    }

    /// Prepares for `count` elements with texts of `bytes` in all: Redis looks at all arguments of a push before the first
    /// one is pushed, and converts the list when they do not fit together.
    pub fn prepare(&mut self, bytes: usize, count: usize, limits: Limits) {
        let List::Packed(packed, listpack) = self else {
            return;
        };
        let bytes = bytes.saturating_add(*listpack + LISTPACK_FRAME);
        if limits.allow(bytes, packed.len().saturating_add(count)) {
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
                *listpack += listpack_size(item);
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
        match (self.len().checked_sub(1), end) {
            (None, _) => {}
            (Some(_), End::Head) => self.remove_range(0..1, limits),
            (Some(last), End::Tail) => self.remove_range(last..last + 1, limits),
        }
    }

    /// Puts an element before the one at `index`, or behind all when `index` is the length.
    pub fn insert<'a>(&mut self, index: usize, text: impl Into<Text<'a>>, limits: Limits) {
        let text = text.into();
        self.prepare(text.as_slice().len(), 1, limits);
        match self {
            List::Packed(packed, listpack) => {
                let item = Item::new(text.as_slice());
                *listpack += listpack_size(item);
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
                *listpack = *listpack + listpack_size(item) - old;
                packed.replace(index, item);
            }
            List::Nodes(nodes) => nodes.set(index, text, limits),
        }
        self.shrink(limits);
        true
    }

    /// Removes the elements of a range of indexes, which may reach beyond the end.
    pub fn remove_range(&mut self, range: Range<usize>, limits: Limits) {
        let range = range.start..range.end.min(self.len());
        if range.is_empty() {
            return;
        }
        match self {
            List::Packed(packed, listpack) => {
                let gone = packed.view().range(range.clone());
                *listpack -= listpack_bytes(gone);
                packed.remove(range);
            }
            List::Nodes(nodes) => nodes.remove_range(range, limits),
        }
        self.shrink(limits);
    }

    /// Keeps the elements of a range of indexes alone.
    pub fn trim(&mut self, range: Range<usize>, limits: Limits) {
        self.remove_range(range.end..usize::MAX, limits);
        self.remove_range(0..range.start.min(range.end), limits);
    }

    /// Removes up to `count` elements equal to `text`, those nearest to an end; returns how many.
    pub fn remove_equal(&mut self, text: &[u8], count: usize, end: End, limits: Limits) -> usize {
        let wanted = Wanted::new(text);
        let removed = match self {
            List::Packed(packed, listpack) => {
                let removed = remove_equal(packed, wanted, count, end);
                *listpack -= removed * listpack_size(wanted.item);
                removed
            }
            List::Nodes(nodes) => nodes.remove_equal(wanted, count, end, limits),
        };
        self.shrink(limits);
        removed
    }

    /// What is to be freed, piece by piece where it is large.
    pub fn into_remains(self) -> Option<Remains> {
        match self {
            List::Packed(..) => None,
            List::Nodes(nodes) => {
                let mut remains = Remains::default();
                for group in nodes.groups {
                    let calls = group.nodes.len();
                    remains.push(group, calls);
                }
                Some(remains)
            }
        }
    }

    /// Back to one sequence, when one node of half the limit is left.
    fn shrink(&mut self, limits: Limits) {
        let List::Nodes(nodes) = self else { return };
        let half = limits.half();
        if nodes.len == 0 {
            *self = List::new();
        } else if let Some(packed) = nodes.only_node()
            && half.allow(packed.used_bytes() + LISTPACK_FRAME, packed.len())
        {
            let listpack = listpack_bytes(packed.view());
            if half.allow(listpack + LISTPACK_FRAME, packed.len()) {
                *self = List::Packed(std::mem::take(packed), listpack);
            }
        }
    }
}

impl<'a> ListRef<'a> {
    /// Elements.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            ListRef::Packed(packed) => packed.len(),
            ListRef::Nodes(nodes) => nodes.len,
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
            ListRef::Nodes(nodes) => {
                let at = nodes.locate(index)?;
                nodes.groups[at.group].nodes[at.node].get(at.offset)
            }
        }
    }

    /// The element at an end.
    pub fn peek(self, end: End) -> Option<Element<'a>> {
        match end {
            End::Head => self.get(0),
            End::Tail => self.get(self.len().checked_sub(1)?),
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

/// The representation of lists beyond the limits.
#[derive(Debug, Default)]
pub struct Nodes {
    groups: VecDeque<Arc<Group>>,
    len: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Group {
    nodes: VecDeque<Node>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Packed(Packed),
    Large(Box<Bytes>),
}

impl Clone for Nodes {
    fn clone(&self) -> Nodes {
        Nodes {
            groups: clone_deque(&self.groups),
            len: self.len,
            bytes: self.bytes,
        }
    }
}

impl Clone for Group {
    fn clone(&self) -> Group {
        Group {
            nodes: clone_deque(&self.nodes),
            len: self.len,
        }
    }
}

/// Where an element stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: usize,
    node: usize,
    offset: usize,
}

impl Nodes {
    fn from_packed(packed: Packed, limits: Limits) -> Nodes {
        let mut nodes = Nodes::default();
        if limits.allow(packed.used_bytes() + 4, packed.len()) && !packed.is_empty() {
            nodes.put_node(0, 0, Node::Packed(packed));
            return nodes;
        }
        // The limit was lowered since the list was packed.
        let mut buffer = itoa::Buffer::new();
        for item in &packed {
            nodes.push(End::Tail, Text::Copy(item.text(&mut buffer)), limits);
        }
        nodes
    }

    fn push(&mut self, end: End, text: Text<'_>, limits: Limits) {
        let (group, node) = match end {
            End::Head => (0, 0),
            End::Tail => {
                let group = self.groups.len().saturating_sub(1);
                let nodes = self.groups.get(group).map_or(0, |group| group.nodes.len());
                (group, nodes.saturating_sub(1))
            }
        };
        let item = Item::new(text.as_slice());
        if self.has_room(group, node, item, limits) {
            self.edit(group, node, |packed| match end {
                End::Head => packed.push_front(item),
                End::Tail => packed.push_back(item),
            });
            return;
        }
        let fresh = Node::new(text, limits);
        match end {
            End::Head => self.put_node(0, 0, fresh),
            End::Tail if self.groups.is_empty() => self.put_node(0, 0, fresh),
            End::Tail => self.put_node(group, node + 1, fresh),
        }
    }

    fn insert(&mut self, index: usize, text: Text<'_>, limits: Limits) {
        if index == 0 {
            return self.push(End::Head, text, limits);
        }
        let Some(at) = self.locate(index) else {
            return self.push(End::Tail, text, limits);
        };
        let Place {
            group,
            node,
            offset,
        } = at;
        let item = Item::new(text.as_slice());
        if self.has_room(group, node, item, limits) {
            self.edit(group, node, |packed| packed.insert(offset, item));
        } else if offset > 0 {
            // One node becomes two; the element goes to the end of the first one if it has the room.
            let tail = self.edit(group, node, |packed| packed.split_off(offset));
            self.put_node(group, node + 1, Node::Packed(tail));
            self.insert(index, text, limits);
        } else if node > 0 && self.has_room(group, node - 1, item, limits) {
            self.edit(group, node - 1, |packed| packed.push_back(item));
        } else {
            self.put_node(group, node, Node::new(text, limits));
        }
    }

    fn set(&mut self, index: usize, text: Text<'_>, limits: Limits) {
        let Some(at) = self.locate(index) else { return };
        let item = Item::new(text.as_slice());
        let fits = match &self.groups[at.group].nodes[at.node] {
            Node::Packed(packed) => {
                let old = packed.get(at.offset).map_or(0, size);
                packed.used_bytes() - old + size(item) + 4 <= limits.bytes
            }
            Node::Large(_) => false,
        };
        if fits {
            return self.edit(at.group, at.node, |packed| packed.replace(at.offset, item));
        }
        self.remove_range(index..index + 1, limits);
        self.insert(index, text, limits);
    }

    fn remove_range(&mut self, range: Range<usize>, limits: Limits) {
        let mut left = range.len();
        while left > 0 {
            let Some(at) = self.locate(range.start) else {
                return;
            };
            let group = &self.groups[at.group];
            if at.node == 0 && at.offset == 0 && group.len <= left {
                left -= group.len;
                self.take_group(at.group);
                continue;
            }
            let held = group.nodes[at.node].len();
            let gone = left.min(held - at.offset);
            left -= gone;
            if gone == held {
                self.take_node(at.group, at.node);
                continue;
            }
            self.edit(at.group, at.node, |packed| {
                packed.remove(at.offset..at.offset + gone);
            });
            self.merge(at.group, at.node, limits);
        }
    }

    fn remove_equal(
        &mut self,
        wanted: Wanted<'_>,
        count: usize,
        end: End,
        limits: Limits,
    ) -> usize {
        let mut removed = 0;
        let (mut passed, groups) = (0, self.groups.len());
        // From the end on, so that what is taken away does not move what is still to come.
        while passed < groups && removed < count {
            let group = match end {
                End::Head => passed - (groups - self.groups.len()),
                End::Tail => self.groups.len() - 1 - (passed - (groups - self.groups.len())),
            };
            passed += 1;
            removed += self.remove_equal_in(group, wanted, count - removed, end, limits);
        }
        removed
    }

    fn remove_equal_in(
        &mut self,
        group: usize,
        wanted: Wanted<'_>,
        count: usize,
        end: End,
        limits: Limits,
    ) -> usize {
        let groups = self.groups.len();
        let mut removed = 0;
        let mut kept = 0;
        while removed < count && self.groups.len() == groups {
            let nodes = self.groups[group].nodes.len();
            if kept == nodes {
                break;
            }
            let node = match end {
                End::Head => kept,
                End::Tail => nodes - 1 - kept,
            };
            let left = count - removed;
            let gone = match &self.groups[group].nodes[node] {
                Node::Large(text) => usize::from(*text.as_ref() == wanted.text),
                Node::Packed(packed) if !packed.iter().any(|item| item == wanted.item) => 0,
                Node::Packed(_) => self.edit(group, node, |packed| {
                    remove_equal(packed, wanted, left, end)
                }),
            };
            removed += gone;
            let large = matches!(self.groups[group].nodes[node], Node::Large(_));
            if gone > 0 && (large || self.groups[group].nodes[node].len() == 0) {
                self.take_node(group, node);
            } else if gone == 0 || !self.merge_back(group, node, end, limits) {
                kept += 1;
            }
        }
        removed
    }

    /// Merges a node with the one before it on the way from an end, which was looked at already.
    fn merge_back(&mut self, group: usize, node: usize, end: End, limits: Limits) -> bool {
        let nodes = self.groups[group].nodes.len();
        match end {
            End::Head if node > 0 => self.merge_right(group, node - 1, limits),
            End::Tail if node + 1 < nodes => self.merge_right(group, node, limits),
            _ => false,
        }
    }

    /// Merges a node that lost elements with a neighbour, when both fill half a node together.
    fn merge(&mut self, group: usize, node: usize, limits: Limits) {
        let nodes = self.groups[group].nodes.len();
        if node + 1 < nodes && self.merge_right(group, node, limits) {
            return;
        }
        if node > 0 {
            self.merge_right(group, node - 1, limits);
        }
    }

    fn merge_right(&mut self, group: usize, node: usize, limits: Limits) -> bool {
        let nodes = &self.groups[group].nodes;
        let (Some(Node::Packed(left)), Some(Node::Packed(right))) =
            (nodes.get(node), nodes.get(node + 1))
        else {
            return false;
        };
        let bytes = left.used_bytes() + right.used_bytes();
        if !limits.half().allow(bytes, left.len() + right.len()) {
            return false;
        }
        if let Node::Packed(right) = self.take_node(group, node + 1) {
            self.edit(group, node, |left| left.append(right.view()));
        }
        true
    }

    /// The place of an index, from the nearer end.
    fn locate(&self, index: usize) -> Option<Place> {
        if index >= self.len {
            return None;
        }
        let lens = |group: &Arc<Group>| group.len;
        let (group, index) = find(self.groups.iter(), lens, self.groups.len(), index, self.len);
        let nodes = &self.groups[group].nodes;
        let len = self.groups[group].len;
        let (node, offset) = find(nodes.iter(), Node::len, nodes.len(), index, len);
        Some(Place {
            group,
            node,
            offset,
        })
    }

    fn has_room(&self, group: usize, node: usize, item: Item<'_>, limits: Limits) -> bool {
        let node = self
            .groups
            .get(group)
            .and_then(|group| group.nodes.get(node));
        let Some(Node::Packed(packed)) = node else {
            return false;
        };
        // With its count it then fills a size class.
        limits.allow(packed.used_bytes() + size(item) + 4, packed.len() + 1)
    }

    /// Changes a packed node and keeps the counts.
    fn edit<T>(&mut self, group: usize, node: usize, change: impl FnOnce(&mut Packed) -> T) -> T {
        let group = Arc::make_mut(&mut self.groups[group]);
        let Node::Packed(packed) = &mut group.nodes[node] else {
            unreachable!("large elements are not edited")
        };
        let (bytes, len) = (packed.allocated_bytes(), packed.len());
        let result = change(packed);
        self.bytes = self.bytes + packed.allocated_bytes() - bytes;
        group.len = group.len + packed.len() - len;
        self.len = self.len + packed.len() - len;
        result
    }

    /// Puts a node before the one at a place, or behind the last one of the group.
    fn put_node(&mut self, group: usize, node: usize, fresh: Node) {
        let before = deque_bytes(&self.groups);
        let (group, node) = self.open_place(group, node);
        let held = Arc::make_mut(&mut self.groups[group]);
        let nodes = deque_bytes(&held.nodes);
        let len = fresh.len();
        self.bytes += fresh.bytes();
        self.len += len;
        held.len += len;
        held.nodes.insert(node, fresh);
        self.bytes = self.bytes + deque_bytes(&held.nodes) - nodes;
        self.bytes = self.bytes + deque_bytes(&self.groups) - before;
    }

    /// Where a node can be put: in a group with room, which may be new.
    fn open_place(&mut self, group: usize, node: usize) -> (usize, usize) {
        let nodes = self
            .groups
            .get(group)
            .map_or(GROUP, |group| group.nodes.len());
        if nodes < GROUP {
            return (group, node);
        }
        if group == 0 && node == 0 {
            self.groups.push_front(Arc::default());
            self.bytes += GROUP_BYTES;
            return (0, 0);
        }
        if group + 1 == self.groups.len() && node == nodes {
            self.groups.push_back(Arc::default());
            self.bytes += GROUP_BYTES;
            return (group + 1, 0);
        }
        let old = Arc::make_mut(&mut self.groups[group]);
        let before = deque_bytes(&old.nodes);
        let half = old.nodes.split_off(nodes / 2);
        let half = Group {
            len: half.iter().map(Node::len).sum(),
            nodes: half,
        };
        old.len -= half.len;
        self.bytes = self.bytes + deque_bytes(&old.nodes) + deque_bytes(&half.nodes) - before;
        self.bytes += GROUP_BYTES;
        self.groups.insert(group + 1, Arc::new(half));
        match node.checked_sub(nodes / 2) {
            Some(node) if node > 0 => (group + 1, node),
            _ => (group, node),
        }
    }

    fn take_node(&mut self, group: usize, node: usize) -> Node {
        let held = Arc::make_mut(&mut self.groups[group]);
        let before = deque_bytes(&held.nodes);
        let gone = held.nodes.remove(node).expect("a node that was found");
        if held.nodes.len() * 4 < held.nodes.capacity() {
            held.nodes.shrink_to(held.nodes.len() * 2);
        }
        self.bytes = self.bytes + deque_bytes(&held.nodes) - before - gone.bytes();
        self.len -= gone.len();
        held.len -= gone.len();
        if held.nodes.is_empty() {
            self.take_group(group);
        }
        gone
    }

    fn take_group(&mut self, group: usize) {
        let before = deque_bytes(&self.groups);
        if let Some(gone) = self.groups.remove(group) {
            let nodes: usize = gone.nodes.iter().map(Node::bytes).sum();
            self.bytes -= GROUP_BYTES + deque_bytes(&gone.nodes) + nodes;
            self.len -= gone.len;
        }
        if self.groups.len() * 4 < self.groups.capacity() {
            self.groups.shrink_to(self.groups.len() * 2);
        }
        self.bytes = self.bytes + deque_bytes(&self.groups) - before;
    }

    fn only_node(&mut self) -> Option<&mut Packed> {
        if self.groups.len() > 1 {
            return None;
        }
        let nodes = &mut Arc::make_mut(self.groups.front_mut()?).nodes;
        match nodes.front_mut()? {
            Node::Packed(packed) if packed.len() == self.len => Some(packed),
            _ => None,
        }
    }
}

impl Node {
    fn new(text: Text<'_>, limits: Limits) -> Node {
        let item = Item::new(text.as_slice());
        if size(item) + 4 > limits.bytes {
            return Node::Large(Box::new(text.into_bytes()));
        }
        let mut packed = Packed::new();
        packed.push_back(item);
        Node::Packed(packed)
    }

    #[inline]
    fn len(&self) -> usize {
        match self {
            Node::Packed(packed) => packed.len(),
            Node::Large(_) => 1,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Node::Packed(packed) => packed.allocated_bytes(),
            Node::Large(text) => good_size(size_of::<Bytes>()) + good_size(text.len()),
        }
    }

    fn get(&self, offset: usize) -> Option<Element<'_>> {
        match self {
            Node::Packed(packed) => packed.get(offset).map(Element::Item),
            Node::Large(text) => (offset == 0).then_some(Element::Large(text)),
        }
    }
}

/// The elements of a range, from one of its ends on.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    nodes: Option<&'a Nodes>,
    at: Place,
    items: packed::Iter<'a>,
    left: usize,
    end: End,
}

impl<'a> Iter<'a> {
    fn new(list: ListRef<'a>, range: Range<usize>, end: End) -> Iter<'a> {
        let range = range.start..range.end.min(list.len());
        let mut iter = Iter {
            nodes: None,
            at: Place {
                group: 0,
                node: 0,
                offset: 0,
            },
            items: PackedRef::default().iter(),
            left: range.len(),
            end,
        };
        if range.is_empty() {
            return iter;
        }
        match list {
            ListRef::Packed(packed) => iter.items = packed.range(range).iter(),
            ListRef::Nodes(nodes) => {
                let first = match end {
                    End::Head => range.start,
                    End::Tail => range.end - 1,
                };
                if let Some(at) = nodes.locate(first) {
                    iter.nodes = Some(nodes);
                    iter.at = at;
                    iter.enter(nodes, at.offset);
                }
            }
        }
        iter
    }

    /// Turns to the items of the current node, from an offset on.
    fn enter(&mut self, nodes: &'a Nodes, offset: usize) {
        if let Node::Packed(packed) = &nodes.groups[self.at.group].nodes[self.at.node] {
            self.items = packed.iter();
            match self.end {
                End::Head => self.items.skip_front(offset),
                End::Tail => self.items.skip_back(packed.len() - 1 - offset),
            }
        }
    }

    /// Goes to the next node.
    fn advance(&mut self, nodes: &'a Nodes) -> Option<()> {
        match self.end {
            End::Head => {
                self.at.node += 1;
                if self.at.node == nodes.groups[self.at.group].nodes.len() {
                    self.at.group += 1;
                    self.at.node = 0;
                }
            }
            End::Tail => match self.at.node.checked_sub(1) {
                Some(node) => self.at.node = node,
                None => {
                    self.at.group = self.at.group.checked_sub(1)?;
                    self.at.node = nodes.groups[self.at.group].nodes.len() - 1;
                }
            },
        }
        let node = nodes.groups.get(self.at.group)?.nodes.get(self.at.node)?;
        let offset = match self.end {
            End::Head => 0,
            End::Tail => node.len() - 1,
        };
        self.enter(nodes, offset);
        Some(())
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        self.left = self.left.checked_sub(1)?;
        let item = match self.end {
            End::Head => self.items.next(),
            End::Tail => self.items.next_back(),
        };
        if let Some(item) = item {
            return Some(Element::Item(item));
        }
        let nodes = self.nodes?;
        // The last item of a node is behind us, or the node is a large element: told when it is left for the next.
        loop {
            let node = &nodes.groups.get(self.at.group)?.nodes[self.at.node];
            if let (Node::Large(text), 0) = (node, self.at.offset) {
                self.at.offset = 1;
                return Some(Element::Large(text));
            }
            self.advance(nodes)?;
            self.at.offset = 0;
            let item = match self.end {
                End::Head => self.items.next(),
                End::Tail => self.items.next_back(),
            };
            if let Some(item) = item {
                return Some(Element::Item(item));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// The part that holds `index`, and the index within it, counted from the nearer end.
fn find<'a, T: 'a>(
    mut parts: impl DoubleEndedIterator<Item = &'a T>,
    len: impl Fn(&T) -> usize,
    count: usize,
    index: usize,
    total: usize,
) -> (usize, usize) {
    if index < total / 2 {
        let mut rest = index;
        let place = parts.position(|part| match rest.checked_sub(len(part)) {
            Some(less) => {
                rest = less;
                false
            }
            None => true,
        });
        return (place.unwrap_or(0), rest);
    }
    let (mut start, mut place) = (total, count);
    while start > index {
        let Some(part) = parts.next_back() else { break };
        start -= len(part);
        place -= 1;
    }
    (place, index - start)
}

/// Removes up to `count` items equal to one, those nearest to an end.
fn remove_equal(packed: &mut Packed, wanted: Wanted<'_>, count: usize, end: End) -> usize {
    let equal = packed.iter().filter(|&item| item == wanted.item).count();
    let gone = equal.min(count);
    if gone == 0 {
        return 0;
    }
    // Of the equal ones in order, those from `first` to `last` go.
    let (first, last) = match end {
        End::Head => (0, gone),
        End::Tail => (equal - gone, equal),
    };
    let mut seen = 0;
    let mut kept = Packed::new();
    if gone == 1 {
        let is_it = |item| {
            seen += usize::from(item == wanted.item);
            seen == last
        };
        if let Some(index) = packed.iter().position(is_it) {
            packed.remove(index..index + 1);
        }
        return 1;
    }
    for item in packed.iter() {
        let matches = item == wanted.item;
        if !matches || !(first..last).contains(&seen) {
            kept.push_back(item);
        }
        seen += usize::from(matches);
    }
    *packed = kept;
    gone
}

/// What an item adds to [`Packed::used_bytes`].
fn size(item: Item<'_>) -> usize {
    packed::Element::from(item).size()
}

/// What Redis's listpack takes for the items.
fn listpack_bytes(packed: PackedRef<'_>) -> usize {
    packed.iter().map(listpack_size).sum()
}

/// What Redis's listpack takes for an item: its header, its bytes, and the length of both again for the way back.
pub(super) fn listpack_size(item: Item<'_>) -> usize {
    let entry = match item {
        Item::Int(value) => match value {
            0..=127 => 1,
            -4096..=4095 => 2,
            -32_768..=32_767 => 3,
            -8_388_608..=8_388_607 => 4,
            -2_147_483_648..=2_147_483_647 => 5,
            _ => 9,
        },
        Item::Bytes(bytes) => match bytes.len() {
            length @ 0..=63 => 1 + length,
            length @ 64..=4095 => 2 + length,
            length => 5 + length,
        },
    };
    let back = match entry {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    };
    entry + back
}

/// A clone with the same capacity: it must take as many bytes as were counted.
fn clone_deque<T: Clone>(items: &VecDeque<T>) -> VecDeque<T> {
    let mut clone = VecDeque::with_capacity(items.capacity());
    clone.extend(items.iter().cloned());
    clone
}

fn deque_bytes<T>(items: &VecDeque<T>) -> usize {
    match items.capacity() {
        0 => 0,
        capacity => good_size(capacity * size_of::<T>()),
    }
}

#[cfg(test)]
mod tests;
