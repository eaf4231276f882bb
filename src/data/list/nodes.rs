//! Lists beyond the limits: nodes in groups. See the head of `list.rs`.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{
    Element, End, LISTPACK_FRAME, LISTPACK_MOST, Limits, Text, Wanted, listpack_bytes,
    listpack_least,
};
use crate::base::allocator::good_size;
use crate::data::packed::{self, Packed};
use crate::data::remains::Remains;

/// Nodes in a group at most; a group in the middle that would have more is divided.
pub(super) const GROUP: usize = 64;
/// What a group takes without its nodes.
pub(super) const GROUP_BYTES: usize = good_size(2 * size_of::<usize>() + size_of::<Group>());

/// The representation of lists beyond the limits.
#[derive(Debug)]
pub struct Nodes {
    pub(super) groups: VecDeque<Arc<Group>>,
    len: usize,
    bytes: usize,
    /// Below so many used bytes of an only node it is worth asking what Redis's listpack would take: the answer takes as
    /// long as to look at every element. A guess: the encoding's name hangs on it, nothing else.
    look_below: usize,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) nodes: VecDeque<Node>,
    pub(super) len: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Packed(Packed),
    Large(Box<Bytes>),
}

impl Default for Nodes {
    fn default() -> Nodes {
        Nodes {
            groups: VecDeque::new(),
            len: 0,
            bytes: 0,
            look_below: usize::MAX,
        }
    }
}

impl Clone for Nodes {
    fn clone(&self) -> Nodes {
        Nodes {
            groups: clone_deque(&self.groups),
            ..*self
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
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) group: usize,
    pub(super) node: usize,
    pub(super) offset: usize,
}

impl Nodes {
    pub(super) fn from_packed(packed: Packed, limits: Limits) -> Nodes {
        let mut nodes = Nodes::default();
        if limits.allow_node(packed.used_bytes(), packed.len()) && !packed.is_empty() {
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

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What it takes from the allocator besides itself.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, index: usize) -> Option<Element<'_>> {
        let at = self.locate(index)?;
        self.groups[at.group].nodes[at.node].get(at.offset)
    }

    pub(super) fn peek(&self, end: End) -> Option<Element<'_>> {
        let (group, node) = self.end(end);
        let node = self.groups.get(group)?.nodes.get(node)?;
        node.get(match end {
            End::Head => 0,
            End::Tail => node.len() - 1,
        })
    }

    pub(super) fn into_remains(self) -> Remains {
        let mut remains = Remains::default();
        for group in self.groups {
            leave(group, &mut remains);
        }
        remains
    }

    /// Takes the only node out when it and its listpack are within `limits`, with the size of the latter.
    pub(super) fn take_small(&mut self, limits: Limits) -> Option<(Packed, u32)> {
        let (1, Some(group)) = (self.groups.len(), self.groups.front()) else {
            return None;
        };
        let (1, Some(Node::Packed(packed))) = (group.nodes.len(), group.nodes.front()) else {
            return None;
        };
        let used = packed.used_bytes();
        if used >= self.look_below
            || !limits.allow(listpack_least(used) + LISTPACK_FRAME, packed.len())
        {
            return None;
        }
        let listpack = listpack_bytes(packed.view());
        let excess = (listpack as usize + LISTPACK_FRAME).saturating_sub(limits.bytes);
        if excess > 0 {
            // What goes takes at most twice as much there.
            self.look_below = used.saturating_sub(excess / LISTPACK_MOST);
            return None;
        }
        match self.take_node(0, 0) {
            Node::Packed(packed) => Some((packed, listpack)),
            Node::Large(_) => None,
        }
    }

    pub(super) fn push(&mut self, end: End, text: Text<'_>, limits: Limits) {
        let element = packed::Element::from(text.as_slice());
        let group = match end {
            End::Head => self.groups.front_mut(),
            End::Tail => self.groups.back_mut(),
        };
        let has_room = |group: &&mut Arc<Group>| {
            let node = match end {
                End::Head => group.nodes.front(),
                End::Tail => group.nodes.back(),
            };
            node.is_some_and(|node| node.has_room(&element, limits))
        };
        if let Some(group) = group.filter(has_room) {
            let group = Arc::make_mut(group);
            let node = match end {
                End::Head => group.nodes.front_mut(),
                End::Tail => group.nodes.back_mut(),
            };
            if let Some(Node::Packed(packed)) = node {
                let bytes = packed.allocated_bytes();
                match end {
                    End::Head => packed.push_front(element),
                    End::Tail => packed.push_back(element),
                }
                self.bytes = self.bytes + packed.allocated_bytes() - bytes;
                group.len += 1;
                self.len += 1;
            }
            return;
        }
        let (group, node) = self.end(end);
        let fresh = Node::new(text, limits);
        match end {
            End::Tail if !self.groups.is_empty() => self.put_node(group, node + 1, fresh),
            _ => self.put_node(0, 0, fresh),
        }
    }

    /// Removes the element at an end, if there is one.
    pub(super) fn pop(&mut self, end: End, limits: Limits) {
        let (group, node) = self.end(end);
        let Some(held) = self.groups.get(group) else {
            return;
        };
        match held.nodes[node].len() {
            0 | 1 => {
                self.take_node(group, node);
            }
            len => {
                let index = if end == End::Head { 0 } else { len - 1 };
                self.edit(group, node, |packed| packed.remove(index..index + 1));
                self.merge(group, node, limits);
            }
        }
    }

    /// The group and the node at an end; of an empty list, where they would be.
    fn end(&self, end: End) -> (usize, usize) {
        match (end, self.groups.back()) {
            (End::Tail, Some(last)) => (self.groups.len() - 1, last.nodes.len() - 1),
            _ => (0, 0),
        }
    }

    pub(super) fn insert(&mut self, index: usize, text: Text<'_>, limits: Limits) {
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
        let element = packed::Element::from(text.as_slice());
        if self.has_room(group, node, &element, limits) {
            self.edit(group, node, |packed| packed.insert(offset, element));
        } else if offset > 0 {
            // One node becomes two; the element goes to the end of the first one if it has the room.
            let tail = self.edit(group, node, |packed| packed.split_off(offset));
            self.put_node(group, node + 1, Node::Packed(tail));
            self.insert(index, text, limits);
        } else if node > 0 && self.has_room(group, node - 1, &element, limits) {
            self.edit(group, node - 1, |packed| packed.push_back(element));
        } else {
            self.put_node(group, node, Node::new(text, limits));
        }
    }

    pub(super) fn set(&mut self, index: usize, text: Text<'_>, limits: Limits) {
        let Some(at) = self.locate(index) else { return };
        let element = packed::Element::from(text.as_slice());
        let fits = match &self.groups[at.group].nodes[at.node] {
            Node::Packed(packed) => {
                let old = packed.get(at.offset).map(packed::Element::from);
                let old = old.map_or(0, |old| old.size());
                limits.allow_bytes_of_node(packed.used_bytes() - old + element.size())
            }
            Node::Large(_) => false,
        };
        if fits {
            return self.edit(at.group, at.node, |packed| {
                packed.replace(at.offset, element);
            });
        }
        self.remove_range(index..index + 1, limits, &mut Remains::default());
        self.insert(index, text, limits);
    }

    /// Removes a range of elements, all of which must be there. Groups that go as a whole are left to be freed.
    pub(super) fn remove_range(
        &mut self,
        range: Range<usize>,
        limits: Limits,
        remains: &mut Remains,
    ) {
        let mut left = range.len();
        while left > 0 {
            let Some(at) = self.locate(range.start) else {
                return;
            };
            if at.node == 0 && at.offset == 0 {
                let gone = self.take_groups(at.group, left, remains);
                if gone > 0 {
                    left -= gone;
                    continue;
                }
            }
            let nodes = &self.groups[at.group].nodes;
            let held = nodes[at.node].len();
            let gone = left.min(held - at.offset);
            left -= gone;
            if gone == held {
                self.take_node(at.group, at.node);
                continue;
            }
            self.edit(at.group, at.node, |packed| {
                packed.remove(at.offset..at.offset + gone);
            });
            // Inside the range there is nothing to merge with.
            if left == 0 {
                self.merge(at.group, at.node, limits);
            }
        }
    }

    /// Takes out the groups from one on that hold no more than `limit` elements together; how many elements they held.
    fn take_groups(&mut self, first: usize, limit: usize, remains: &mut Remains) -> usize {
        let before = deque_bytes(&self.groups);
        let (mut end, mut gone) = (first, 0);
        while let Some(group) = self.groups.get(end)
            && gone + group.len <= limit
        {
            gone += group.len;
            end += 1;
        }
        for group in self.groups.drain(first..end) {
            let nodes: usize = group.nodes.iter().map(Node::bytes).sum();
            self.bytes -= GROUP_BYTES + deque_bytes(&group.nodes) + nodes;
            leave(group, remains);
        }
        self.len -= gone;
        shrink_deque(&mut self.groups);
        self.bytes = self.bytes + deque_bytes(&self.groups) - before;
        gone
    }

    pub(super) fn remove_equal(
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
        let used = left.used_bytes() + right.used_bytes();
        if !limits.half().allow_node(used, left.len() + right.len()) {
            return false;
        }
        if let Node::Packed(right) = self.take_node(group, node + 1) {
            self.edit(group, node, |left| left.append(right.view()));
        }
        true
    }

    /// The place of an index, from the nearer end.
    pub(super) fn locate(&self, index: usize) -> Option<Place> {
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

    fn has_room(
        &self,
        group: usize,
        node: usize,
        element: &packed::Element<'_>,
        limits: Limits,
    ) -> bool {
        let node = self
            .groups
            .get(group)
            .and_then(|group| group.nodes.get(node));
        node.is_some_and(|node| node.has_room(element, limits))
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
        self.look_below = usize::MAX;
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
        shrink_deque(&mut held.nodes);
        self.bytes = self.bytes + deque_bytes(&held.nodes) - before - gone.bytes();
        self.len -= gone.len();
        held.len -= gone.len();
        if held.nodes.is_empty() {
            self.take_groups(group, 0, &mut Remains::default());
        }
        gone
    }
}

impl Node {
    fn new(text: Text<'_>, limits: Limits) -> Node {
        let element = packed::Element::from(text.as_slice());
        if !limits.allow_bytes_of_node(element.size()) {
            return Node::Large(Box::new(text.into_bytes()));
        }
        let mut packed = Packed::new();
        packed.push_back(element);
        Node::Packed(packed)
    }

    #[inline]
    fn has_room(&self, element: &packed::Element<'_>, limits: Limits) -> bool {
        let Node::Packed(packed) = self else {
            return false;
        };
        limits.allow_node(packed.used_bytes() + element.size(), packed.len() + 1)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Packed(packed) => packed.len(),
            Node::Large(_) => 1,
        }
    }

    pub(super) fn bytes(&self) -> usize {
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
pub(super) fn remove_equal(
    packed: &mut Packed,
    wanted: Wanted<'_>,
    count: usize,
    end: End,
) -> usize {
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

/// Leaves a group to be freed.
fn leave(group: Arc<Group>, remains: &mut Remains) {
    let frees = group.nodes.len();
    remains.push(group, frees);
}

/// Gives memory back when a quarter is used.
fn shrink_deque<T>(items: &mut VecDeque<T>) {
    if items.len() * 4 < items.capacity() {
        items.shrink_to(items.len() * 2);
    }
}

/// A clone with the same capacity: it must take as many bytes as were counted.
fn clone_deque<T: Clone>(items: &VecDeque<T>) -> VecDeque<T> {
    let mut clone = VecDeque::with_capacity(items.capacity());
    clone.extend(items.iter().cloned());
    clone
}

pub(super) fn deque_bytes<T>(items: &VecDeque<T>) -> usize {
    match items.capacity() {
        0 => 0,
        capacity => good_size(capacity * size_of::<T>()),
    }
}
