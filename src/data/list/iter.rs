//! Going through a list.

use std::ops::Range;

use super::nodes::{Node, Nodes, Place};
use super::{Element, End, ListRef};
use crate::data::packed::{self, PackedRef};

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
    pub(super) fn new(list: ListRef<'a>, range: Range<usize>, end: End) -> Iter<'a> {
        let range = range.start..range.end.min(list.len());
        let mut iter = Iter {
            nodes: None,
            at: Place::default(),
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

    /// Run by run: for all that go through a range at once.
    fn fold<B, F: FnMut(B, Element<'a>) -> B>(mut self, init: B, mut step: F) -> B {
        let mut folded = init;
        loop {
            let run = self.items.len().min(self.left);
            self.left -= run;
            let each = |folded, item| step(folded, Element::Item(item));
            folded = match self.end {
                End::Head => self.items.by_ref().take(run).fold(folded, each),
                End::Tail => self.items.by_ref().rev().take(run).fold(folded, each),
            };
            // A large element, or the first of the next run.
            match self.next() {
                Some(element) => folded = step(folded, element),
                None => return folded,
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
