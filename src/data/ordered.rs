//! The order of a sorted set: handles sorted by score, then member, with ranks.
//!
//! A B+ tree that counts. Its elements are handles (`u32`) of records that stand elsewhere ([`super::members`]): a member's
//! bytes and its score stand once. Leaves hold handles alone; inner nodes hold for each child its first element (handle and
//! a copy of the score) and the number of elements below it:
//!
//! ```text
//!             inner   scores  [ 1.0 | 7.5 | 9.0 ]     first element of each child
//!                     firsts  [  h4 |  h9 |  h2 ]
//!                     counts  [  21 |  30 |  17 ]     elements below each child
//!                    /           |           \
//!        leaf [h4 h7 ..]   leaf [h9 ..]   leaf [h2 ..]
//! ```
//!
//! A descent compares scores that stand side by side in the inner nodes and asks the records only for equal scores and in
//! the leaf. At a million elements it meets four inner nodes, three of them in the cache, and five records.
//!
//! # Invariants
//! All leaves have the same depth. No node is empty, but for the root of an empty order. `scores[i]`, `firsts[i]` and
//! `counts[i]` are exact at all times. A node and its neighbour that would fill three quarters of one node together are
//! merged when an element is removed from one of them.
//!
//! # Snapshots
//! Nodes are reference-counted: a clone costs one count, and who changes a node that a clone holds copies it and the inner
//! nodes above it.
//!
//! # Why not a crate
//! The order-statistic trees on crates.io (indexset, wabi_tree and others) compare keys by `Ord`: their elements would have
//! to hold score and member, a second time. None takes a comparison with a context.
//!
//! # Cost
//! 7.5 bytes an element when inserted in random order, 5 in ascending order. O(log n) for all but iteration; no step moves
//! more than two nodes per level.

use std::sync::Arc;

use smallvec::SmallVec;

use super::remains::Remains;
use crate::base::allocator::good_size;

/// Elements in a leaf: 256 bytes with the counts.
const LEAF: usize = 59;
/// Children of an inner node: 1 KiB with the counts.
const FAN: usize = 31;
/// Depth beyond which the path of an iteration leaves the stack.
const PATH: usize = 6;

/// What an `Arc` counts with.
const COUNTS: usize = 2 * size_of::<usize>();
const LEAF_BYTES: usize = good_size(COUNTS + size_of::<Leaf>());
const INNER_BYTES: usize = good_size(COUNTS + size_of::<Inner>());
/// Elements of a piece of what remains, about.
const PIECE: usize = 16 * 1024;

/// Where the scores of handles are found.
pub trait Scores {
    /// The score of a handle that is in the order.
    fn score(&self, handle: u32) -> f64;
}

/// A place in the order: every element stands either before it or not, and those before it come first.
pub trait Bound {
    /// Whether the elements with this score stand before the place; `None` when their members decide.
    fn follows_score(&self, score: f64) -> Option<bool>;
    /// Whether this element stands before the place.
    fn follows(&self, handle: u32) -> bool;
}

/// Handles in the order of their records. See the file's head.
#[derive(Clone, Debug, Default)]
pub struct Ordered {
    root: Option<Node>,
    len: usize,
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
}

#[derive(Clone, Debug)]
struct Leaf {
    len: u32,
    items: [u32; LEAF],
}

#[derive(Clone, Debug)]
struct Inner {
    len: u32,
    firsts: [u32; FAN],
    counts: [u32; FAN],
    scores: [f64; FAN],
    children: [Option<Node>; FAN],
}

/// A node that came to stand right of another, with what its parent keeps of it.
struct Child {
    first: u32,
    score: f64,
    count: u32,
    node: Node,
}

impl Ordered {
    /// An empty order.
    pub fn new() -> Ordered {
        Ordered::default()
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it takes from the allocator besides itself, in bytes. What it shares with a clone counts for both.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes
    }

    /// The number of elements before a bound: also the rank of the first one that is not.
    pub fn rank(&self, bound: &impl Bound) -> usize {
        let mut rank = 0;
        let mut node = self.root.as_ref();
        while let Some(Node::Inner(inner)) = node {
            let place = inner.child_before(bound);
            rank += sum(&inner.counts[..place]);
            node = inner.children[place].as_ref();
        }
        match node {
            Some(Node::Leaf(leaf)) => rank + leaf.before(bound),
            _ => rank,
        }
    }

    /// The element with a rank.
    pub fn at(&self, rank: usize) -> Option<u32> {
        self.iter_from(rank).next()
    }

    /// The first element.
    pub fn first(&self) -> Option<u32> {
        self.root.as_ref().and_then(Node::first)
    }

    /// Adds an element at `bound`, the place of its score and member, which no other element has.
    pub fn insert(&mut self, handle: u32, bound: &impl Bound, scores: &impl Scores) {
        if self.root.is_none() {
            self.bytes += LEAF_BYTES;
            self.root = Some(Node::Leaf(Leaf::new(&[])));
        }
        let root = self.root.as_mut().expect("set above");
        let mut insert = Insert {
            handle,
            bound,
            scores,
            bytes: &mut self.bytes,
        };
        if let Some(right) = insert.at_node(root) {
            let left = self.root.take().expect("set above");
            let count = self.len as u32 + 1 - right.count;
            let left = Child::of(left, count, scores);
            self.bytes += INNER_BYTES;
            self.root = Some(Node::Inner(Arc::new(Inner::new([left, right]))));
        }
        self.len += 1;
    }

    /// Removes the element with a rank.
    pub fn remove_at(&mut self, rank: usize, scores: &impl Scores) -> Option<u32> {
        if rank >= self.len {
            return None;
        }
        let root = self.root.as_mut()?;
        let handle = root.remove(&mut AtRank(rank), scores, &mut self.bytes);
        self.len -= 1;
        self.lower_root();
        Some(handle)
    }

    /// Removes the last element that stands before a bound, in one descent; `None` when none does.
    pub fn remove_before(&mut self, bound: &impl Bound, scores: &impl Scores) -> Option<u32> {
        let root = self.root.as_mut()?;
        if !root.first().is_some_and(|first| bound.follows(first)) {
            return None;
        }
        let handle = root.remove(&mut Before(bound), scores, &mut self.bytes);
        self.len -= 1;
        self.lower_root();
        Some(handle)
    }

    /// Whether the last element before a bound could stand at another place without any element having to move. `false` also
    /// where it is the first or the last of its leaf, since its neighbours are far away then.
    pub fn stays_before(&self, bound: &impl Bound, other: &impl Bound) -> bool {
        let mut node = self.root.as_ref();
        while let Some(Node::Inner(inner)) = node {
            node = inner.children[inner.child_before(bound)].as_ref();
        }
        let Some(Node::Leaf(leaf)) = node else {
            return false;
        };
        let items = leaf.items();
        match leaf.before(bound) {
            place @ 2.. if place < items.len() => {
                other.follows(items[place - 2]) && !other.follows(items[place])
            }
            _ => false,
        }
    }

    /// Gives another handle to the first element that is not before a bound: its record has moved.
    pub fn replace(&mut self, bound: &impl Bound, handle: u32) {
        let mut rank = self.rank(bound);
        debug_assert!(rank < self.len);
        let mut node = self.root.as_mut();
        while let Some(Node::Inner(inner)) = node {
            let inner = Arc::make_mut(inner);
            let place = inner.child_of_rank(&mut rank);
            if rank == 0 {
                inner.firsts[place] = handle;
            }
            node = inner.children[place].as_mut();
        }
        if let Some(Node::Leaf(leaf)) = node {
            Arc::make_mut(leaf).items[rank] = handle;
        }
    }

    /// The elements from a rank on, upwards.
    pub fn iter_from(&self, rank: usize) -> Iter<'_> {
        Iter::new(self, rank, false)
    }

    /// The elements from a rank on, downwards; from the last one when there are not so many.
    pub fn iter_back_from(&self, rank: usize) -> Iter<'_> {
        match self.len.checked_sub(1) {
            Some(last) => Iter::new(self, rank.min(last), true),
            None => Iter::default(),
        }
    }

    /// The nodes, to be freed piece by piece.
    pub fn move_to(self, remains: &mut Remains) {
        if let Some(root) = self.root {
            root.move_to(self.len, remains);
        }
    }

    fn lower_root(&mut self) {
        if self.len == 0 {
            self.root = None;
            self.bytes = 0;
        }
        while let Some(Node::Inner(inner)) = self.root.as_mut()
            && inner.len == 1
        {
            self.root = Arc::make_mut(inner).children[0].take();
            self.bytes -= INNER_BYTES;
        }
    }
}

/// Which element is removed: asked on the way down.
trait Which {
    /// The child that has it.
    fn child(&mut self, inner: &Inner) -> usize;
    /// Its place in its leaf.
    fn item(&mut self, leaf: &Leaf) -> usize;
}

/// The one with a rank, which becomes the rank in the child.
struct AtRank(usize);

impl Which for AtRank {
    fn child(&mut self, inner: &Inner) -> usize {
        inner.child_of_rank(&mut self.0)
    }

    fn item(&mut self, _: &Leaf) -> usize {
        self.0
    }
}

/// The last one before a bound.
struct Before<'a, B>(&'a B);

impl<B: Bound> Which for Before<'_, B> {
    fn child(&mut self, inner: &Inner) -> usize {
        inner.child_before(self.0)
    }

    fn item(&mut self, leaf: &Leaf) -> usize {
        leaf.before(self.0).saturating_sub(1)
    }
}

/// One insertion on its way down.
struct Insert<'a, B, S> {
    handle: u32,
    bound: &'a B,
    scores: &'a S,
    bytes: &'a mut usize,
}

impl<B: Bound, S: Scores> Insert<'_, B, S> {
    /// Inserts below a node; returns what came to stand right of it when it had to be split.
    fn at_node(&mut self, node: &mut Node) -> Option<Child> {
        match node {
            Node::Leaf(leaf) => self.at_leaf(Arc::make_mut(leaf)),
            Node::Inner(inner) => self.at_inner(Arc::make_mut(inner)),
        }
    }

    fn at_inner(&mut self, inner: &mut Inner) -> Option<Child> {
        let place = inner.child_before(self.bound);
        let child = inner.children[place].as_mut().expect("below len");
        let right = self.at_node(child);
        if place == 0 && child.first() == Some(self.handle) {
            inner.firsts[0] = self.handle;
            inner.scores[0] = self.scores.score(self.handle);
        }
        inner.counts[place] += 1;
        let right = right?;
        inner.counts[place] -= right.count;
        if (inner.len as usize) < FAN {
            inner.put(place + 1, right);
            return None;
        }
        *self.bytes += INNER_BYTES;
        Some(inner.split(place + 1, right))
    }

    fn at_leaf(&mut self, leaf: &mut Leaf) -> Option<Child> {
        let place = leaf.before(self.bound);
        if (leaf.len as usize) < LEAF {
            leaf.put(place, self.handle);
            return None;
        }
        *self.bytes += LEAF_BYTES;
        // Ascending and descending insertions leave full leaves behind them instead of half-full ones.
        let keep = match place {
            0 => 0,
            LEAF => LEAF,
            _ => LEAF / 2,
        };
        let mut fresh = Leaf::new(&leaf.items[keep..]);
        let right = Arc::make_mut(&mut fresh);
        leaf.len = keep as u32;
        if place < LEAF && place <= keep {
            leaf.put(place, self.handle);
        } else {
            right.put(place - keep, self.handle);
        }
        let count = right.len;
        Some(Child::of(Node::Leaf(fresh), count, self.scores))
    }
}

impl Node {
    fn first(&self) -> Option<u32> {
        match self {
            Node::Leaf(leaf) => leaf.items().first().copied(),
            Node::Inner(inner) => Some(inner.firsts[0]),
        }
    }

    /// Elements of a leaf, children of an inner node.
    fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len as usize,
            Node::Inner(inner) => inner.len as usize,
        }
    }

    fn remove(&mut self, which: &mut impl Which, scores: &impl Scores, bytes: &mut usize) -> u32 {
        match self {
            Node::Leaf(leaf) => {
                let leaf = Arc::make_mut(leaf);
                leaf.take(which.item(leaf))
            }
            Node::Inner(inner) => Arc::make_mut(inner).remove(which, scores, bytes),
        }
    }

    /// Moves what the right neighbour holds into this node.
    fn append(&mut self, right: Node) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => Arc::make_mut(left).append(&right),
            (Node::Inner(left), Node::Inner(mut right)) => {
                Arc::make_mut(left).append_from(Arc::make_mut(&mut right), 0);
            }
            _ => unreachable!("neighbours have the same height"),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_BYTES,
            Node::Inner(_) => INNER_BYTES,
        }
    }

    /// Hands the subtree on in pieces of about `PIECE` elements.
    fn move_to(self, count: usize, remains: &mut Remains) {
        match self {
            Node::Leaf(leaf) => remains.push(leaf, count),
            Node::Inner(inner) if count <= PIECE => remains.push(inner, count),
            Node::Inner(inner) => match Arc::try_unwrap(inner) {
                Ok(inner) => {
                    let children = inner.children.into_iter().flatten();
                    for (child, count) in children.zip(inner.counts) {
                        child.move_to(count as usize, remains);
                    }
                }
                // A clone has it still: only a count is left to be freed.
                Err(shared) => remains.push(shared, 1),
            },
        }
    }
}

impl Child {
    fn of(node: Node, count: u32, scores: &impl Scores) -> Child {
        let (first, score) = match &node {
            Node::Leaf(leaf) => (leaf.items[0], scores.score(leaf.items[0])),
            Node::Inner(inner) => (inner.firsts[0], inner.scores[0]),
        };
        Child {
            first,
            score,
            count,
            node,
        }
    }
}

impl Leaf {
    fn new(from: &[u32]) -> Arc<Leaf> {
        let mut items = [0; LEAF];
        items[..from.len()].copy_from_slice(from);
        Arc::new(Leaf {
            len: from.len() as u32,
            items,
        })
    }

    fn items(&self) -> &[u32] {
        &self.items[..self.len as usize]
    }

    /// How many stand before a bound.
    fn before(&self, bound: &impl Bound) -> usize {
        self.items()
            .partition_point(|&handle| bound.follows(handle))
    }

    fn put(&mut self, place: usize, handle: u32) {
        let len = self.len as usize;
        self.items.copy_within(place..len, place + 1);
        self.items[place] = handle;
        self.len += 1;
    }

    fn take(&mut self, place: usize) -> u32 {
        let handle = self.items[place];
        self.items.copy_within(place + 1..self.len as usize, place);
        self.len -= 1;
        handle
    }

    fn append(&mut self, right: &Leaf) {
        let len = self.len as usize;
        self.items[len..len + right.len as usize].copy_from_slice(right.items());
        self.len += right.len;
    }
}

impl Inner {
    fn new<const N: usize>(children: [Child; N]) -> Inner {
        let mut inner = Inner {
            len: 0,
            firsts: [0; FAN],
            counts: [0; FAN],
            scores: [0.0; FAN],
            children: [const { None }; FAN],
        };
        for (place, child) in children.into_iter().enumerate() {
            inner.put(place, child);
        }
        inner
    }

    /// The last child whose first element stands before a bound; the first one when there is none.
    fn child_before(&self, bound: &impl Bound) -> usize {
        let (mut low, mut high) = (0, self.len as usize);
        while low < high {
            let middle = (low + high) / 2;
            let before = bound
                .follows_score(self.scores[middle])
                .unwrap_or_else(|| bound.follows(self.firsts[middle]));
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }

    /// The child with a rank, which becomes the rank within it.
    fn child_of_rank(&self, rank: &mut usize) -> usize {
        let last = self.len as usize - 1;
        for (place, &count) in self.counts[..last].iter().enumerate() {
            if *rank < count as usize {
                return place;
            }
            *rank -= count as usize;
        }
        last
    }

    fn remove(&mut self, which: &mut impl Which, scores: &impl Scores, bytes: &mut usize) -> u32 {
        let place = which.child(self);
        let child = self.children[place].as_mut().expect("below len");
        let handle = child.remove(which, scores, bytes);
        self.counts[place] -= 1;
        if self.counts[place] == 0 {
            *bytes -= self.take(place).node.bytes();
            return handle;
        }
        if self.firsts[place] == handle {
            match child {
                Node::Leaf(leaf) => {
                    self.firsts[place] = leaf.items[0];
                    self.scores[place] = scores.score(leaf.items[0]);
                }
                Node::Inner(inner) => {
                    self.firsts[place] = inner.firsts[0];
                    self.scores[place] = inner.scores[0];
                }
            }
        }
        self.merge_around(place, bytes);
        handle
    }

    /// Merges a child that lost something with a neighbour when both fill little.
    fn merge_around(&mut self, place: usize, bytes: &mut usize) {
        let child = self.children[place].as_ref().expect("below len");
        let leaves = matches!(child, Node::Leaf(_));
        let full = if leaves { LEAF } else { FAN };
        let own = child.len();
        if own > full / 2 {
            return;
        }
        let fits = |other: usize| {
            // The counts tell the length of a leaf without going there.
            let len = match leaves {
                true => self.counts[other] as usize,
                false => self.children[other].as_ref().map_or(full, Node::len),
            };
            own + len <= full * 3 / 4
        };
        let left = match place {
            _ if place > 0 && fits(place - 1) => place - 1,
            _ if place + 1 < self.len as usize && fits(place + 1) => place,
            _ => return,
        };
        let right = self.take(left + 1);
        *bytes -= right.node.bytes();
        self.counts[left] += right.count;
        let child = self.children[left].as_mut().expect("below len");
        child.append(right.node);
    }

    fn put(&mut self, place: usize, child: Child) {
        let len = self.len as usize;
        self.firsts.copy_within(place..len, place + 1);
        self.counts.copy_within(place..len, place + 1);
        self.scores.copy_within(place..len, place + 1);
        self.children[place..=len].rotate_right(1);
        self.firsts[place] = child.first;
        self.counts[place] = child.count;
        self.scores[place] = child.score;
        self.children[place] = Some(child.node);
        self.len += 1;
    }

    fn take(&mut self, place: usize) -> Child {
        let len = self.len as usize;
        let child = Child {
            first: self.firsts[place],
            score: self.scores[place],
            count: self.counts[place],
            node: self.children[place].take().expect("below len"),
        };
        self.firsts.copy_within(place + 1..len, place);
        self.counts.copy_within(place + 1..len, place);
        self.scores.copy_within(place + 1..len, place);
        self.children[place..len].rotate_left(1);
        self.len -= 1;
        child
    }

    /// Puts a child into a full node, which gives its right part away.
    fn split(&mut self, place: usize, child: Child) -> Child {
        // As for leaves: a child that descends is split off to the right of the first one.
        let keep = match place {
            1 => 1,
            FAN => FAN,
            _ => FAN / 2,
        };
        let mut right = Inner::new([]);
        right.append_from(self, keep);
        if place < FAN && place <= keep {
            self.put(place, child);
        } else {
            right.put(place - keep, child);
        }
        let count = sum(&right.counts[..right.len as usize]) as u32;
        Child {
            first: right.firsts[0],
            score: right.scores[0],
            count,
            node: Node::Inner(Arc::new(right)),
        }
    }

    /// Moves the children of `from` behind `start` to the end of this node.
    fn append_from(&mut self, from: &mut Inner, start: usize) {
        let (at, end) = (self.len as usize, from.len as usize);
        let moved = end - start;
        self.firsts[at..at + moved].copy_from_slice(&from.firsts[start..end]);
        self.counts[at..at + moved].copy_from_slice(&from.counts[start..end]);
        self.scores[at..at + moved].copy_from_slice(&from.scores[start..end]);
        for (to, child) in self.children[at..]
            .iter_mut()
            .zip(&mut from.children[start..end])
        {
            *to = child.take();
        }
        self.len += moved as u32;
        from.len = start as u32;
    }
}

/// The elements from one on, in one direction.
#[derive(Debug, Default)]
pub struct Iter<'a> {
    path: SmallVec<[(&'a Inner, usize); PATH]>,
    items: &'a [u32],
    left: usize,
    back: bool,
}

impl<'a> Iter<'a> {
    fn new(order: &'a Ordered, mut rank: usize, back: bool) -> Iter<'a> {
        if rank >= order.len {
            return Iter::default();
        }
        let mut iter = Iter {
            left: if back { rank + 1 } else { order.len - rank },
            back,
            ..Iter::default()
        };
        let mut node = order.root.as_ref();
        while let Some(Node::Inner(inner)) = node {
            let place = inner.child_of_rank(&mut rank);
            iter.path.push((inner, place));
            node = inner.children[place].as_ref();
        }
        if let Some(Node::Leaf(leaf)) = node {
            let items = leaf.items();
            iter.items = if back {
                &items[..=rank]
            } else {
                &items[rank..]
            };
        }
        iter
    }

    /// Goes to the next leaf.
    fn advance(&mut self) -> Option<()> {
        let mut node = loop {
            let (inner, place) = self.path.last_mut()?;
            let next = match self.back {
                true => place.checked_sub(1),
                false => Some(*place + 1).filter(|&next| next < inner.len as usize),
            };
            if let Some(next) = next {
                *place = next;
                break inner.children[next].as_ref()?;
            }
            self.path.pop();
        };
        loop {
            match node {
                Node::Leaf(leaf) => {
                    self.items = leaf.items();
                    return Some(());
                }
                Node::Inner(inner) => {
                    let place = if self.back { inner.len as usize - 1 } else { 0 };
                    self.path.push((inner, place));
                    node = inner.children[place].as_ref()?;
                }
            }
        }
    }
}

impl Iterator for Iter<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.items.is_empty() {
            self.advance()?;
        }
        self.left -= 1;
        let (handle, rest) = match self.back {
            true => self.items.split_last()?,
            false => self.items.split_first()?,
        };
        self.items = rest;
        Some(*handle)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

fn sum(counts: &[u32]) -> usize {
    counts.iter().map(|&count| count as usize).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::testing::seeded;
    use super::*;

    /// The score of a handle is a coarse function of it, so that many are equal; the handle decides then.
    struct Model;

    impl Scores for Model {
        fn score(&self, handle: u32) -> f64 {
            f64::from(handle / 7)
        }
    }

    struct At(u32);

    /// Just behind an element.
    struct Behind(u32);

    impl Bound for Behind {
        fn follows_score(&self, score: f64) -> Option<bool> {
            At(self.0).follows_score(score)
        }

        fn follows(&self, handle: u32) -> bool {
            handle <= self.0
        }
    }

    impl Bound for At {
        fn follows_score(&self, score: f64) -> Option<bool> {
            let own = Model.score(self.0);
            (score != own).then_some(score < own)
        }

        fn follows(&self, handle: u32) -> bool {
            handle < self.0
        }
    }

    fn check(order: &Ordered) {
        let mut bytes = 0;
        let mut last = None;
        let count = order
            .root
            .as_ref()
            .map_or(0, |root| check_node(root, &mut bytes, &mut last));
        assert_eq!(count, order.len());
        assert_eq!(bytes, order.allocated_bytes());
    }

    fn check_node(node: &Node, bytes: &mut usize, last: &mut Option<u32>) -> usize {
        *bytes += node.bytes();
        match node {
            Node::Leaf(leaf) => {
                assert!(leaf.len > 0);
                for &item in leaf.items() {
                    assert!(last.is_none_or(|last| last < item));
                    *last = Some(item);
                }
                leaf.len as usize
            }
            Node::Inner(inner) => {
                assert!(inner.len > 0);
                assert!(
                    inner.children[inner.len as usize..]
                        .iter()
                        .all(Option::is_none)
                );
                let mut all = 0;
                for place in 0..inner.len as usize {
                    let child = inner.children[place].as_ref().unwrap();
                    assert_eq!(child.first(), Some(inner.firsts[place]));
                    assert_eq!(Model.score(inner.firsts[place]), inner.scores[place]);
                    let count = check_node(child, bytes, last);
                    assert_eq!(count, inner.counts[place] as usize);
                    all += count;
                }
                all
            }
        }
    }

    #[test]
    fn nodes_fill_size_classes() {
        assert_eq!(size_of::<Leaf>() + COUNTS, LEAF_BYTES);
        assert_eq!(INNER_BYTES, 1024);
    }

    #[test]
    fn random_changes_agree_with_a_sorted_set_of_the_library() {
        let mut rng = seeded();
        for range in [20, 500, 40_000] {
            let mut order = Ordered::new();
            let mut model = BTreeSet::new();
            for step in 0..60_000 {
                // Phases of growth and of shrinking.
                let grow = (step / 20_000) % 2 == 0;
                let handle = rng.u32(0..range);
                if model.contains(&handle) {
                    if !grow || rng.u8(..) < 90 {
                        assert_eq!(order.remove_before(&Behind(handle), &Model), Some(handle));
                        model.remove(&handle);
                        let before = model.range(..handle).next_back().copied();
                        assert_eq!(order.rank(&At(handle)), order.rank(&Behind(handle)));
                        if step % 50 == 0 {
                            assert_eq!(order.remove_before(&At(handle), &Model), before);
                            before.map(|before| model.remove(&before));
                        }
                    }
                } else if grow || rng.u8(..) < 90 {
                    order.insert(handle, &At(handle), &Model);
                    model.insert(handle);
                }
                assert_eq!(order.len(), model.len());
                assert_eq!(order.first(), model.first().copied());
                if step % 1000 == 0 {
                    check(&order);
                    let sorted: Vec<u32> = model.iter().copied().collect();
                    assert!(order.iter_from(0).eq(sorted.iter().copied()));
                    let rank = rng.usize(0..=sorted.len());
                    assert!(order.iter_from(rank).eq(sorted[rank..].iter().copied()));
                    let end = (rank + 1).min(sorted.len());
                    let back = order.iter_back_from(rank);
                    assert_eq!(back.len(), end);
                    assert!(back.eq(sorted[..end].iter().rev().copied()));
                    assert_eq!(order.at(rank), sorted.get(rank).copied());
                    let bound = rng.u32(0..range);
                    let before = sorted.partition_point(|&item| item < bound);
                    assert_eq!(order.rank(&At(bound)), before);
                }
            }
            while let Some(handle) = order.remove_at(rng.usize(0..=order.len()) / 2, &Model) {
                assert!(model.remove(&handle));
            }
            assert!(model.is_empty());
            check(&order);
        }
    }

    #[test]
    fn ascending_and_descending_insertions_fill_their_leaves() {
        for descending in [false, true] {
            let mut order = Ordered::new();
            for step in 0..10_000 {
                let handle = if descending { 9_999 - step } else { step };
                order.insert(handle, &At(handle), &Model);
            }
            check(&order);
            assert!(
                order.allocated_bytes() < 10_000 * 11 / 2,
                "{}",
                order.allocated_bytes()
            );
        }
    }

    #[test]
    fn a_queue_keeps_to_the_memory_of_what_it_holds() {
        let mut order = Ordered::new();
        for handle in 0..100_000 {
            order.insert(handle, &At(handle), &Model);
            if handle >= 100 {
                assert_eq!(order.remove_at(0, &Model), Some(handle - 100));
            }
        }
        check(&order);
        assert!(
            order.allocated_bytes() < 4096,
            "{}",
            order.allocated_bytes()
        );
    }

    #[test]
    fn a_moved_record_keeps_its_place() {
        // Handles divisible by 7 move to a neighbour with the same score, which is free.
        let mut order = Ordered::new();
        for handle in (0..7_000).filter(|handle| handle % 7 != 1) {
            order.insert(handle, &At(handle), &Model);
        }
        for handle in (0..7_000).step_by(7) {
            order.replace(&At(handle), handle + 1);
        }
        check(&order);
        assert!(
            order
                .iter_from(0)
                .eq((0..7_000).filter(|handle| handle % 7 != 0))
        );
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut rng = seeded();
        let mut order = Ordered::new();
        for handle in 0..5_000 {
            order.insert(handle * 2, &At(handle * 2), &Model);
        }
        let clone = order.clone();
        for _ in 0..2_000 {
            let handle = rng.u32(0..5_000) * 2 + 1;
            if order.iter_from(order.rank(&At(handle))).next() != Some(handle) {
                order.insert(handle, &At(handle), &Model);
            }
            order.remove_at(rng.usize(0..order.len()), &Model);
        }
        check(&order);
        check(&clone);
        assert!(clone.iter_from(0).eq((0..5_000).map(|handle| handle * 2)));
    }

    #[test]
    fn it_is_freed_in_pieces() {
        let mut order = Ordered::new();
        for handle in 0..200_000 {
            order.insert(handle, &At(handle), &Model);
        }
        let shared = order.clone();
        let mut remains = Remains::default();
        order.move_to(&mut remains);
        assert!(remains.free(1), "the clone keeps everything");
        shared.move_to(&mut remains);
        assert_eq!(remains.len(), 200_000);
        let mut pieces = 1;
        while !remains.free(1) {
            pieces += 1;
        }
        assert!(pieces > 10, "{pieces}");
    }
}
