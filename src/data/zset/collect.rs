//! Members with scores that are collected from several sets: unions, intersections, differences.

use std::cmp::Ordering;

use super::{Full, Last, Limits, ZSet, ZSetRef};
use crate::data::members::Members;
use crate::data::ordered::Ordered;

/// How the scores of one member in several sets become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum.
    #[default]
    Sum,
    /// The lowest.
    Min,
    /// The highest.
    Max,
}

impl Aggregate {
    /// The score of both; infinities that cancel each other out give 0, as in Redis.
    pub fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Aggregate::Sum => number_or_zero(left + right),
            Aggregate::Min if right < left => right,
            Aggregate::Max if right > left => right,
            Aggregate::Min | Aggregate::Max => left,
        }
    }
}

/// A score with a weight; 0 times infinity is 0, as in Redis.
pub fn weighted(score: f64, weight: f64) -> f64 {
    number_or_zero(score * weight)
}

/// Members with scores that are being collected from several sets: no order is kept until the end.
///
/// Work in steps: [`Collect::union`] and [`Collect::combine`] take O(1) for each member.
#[derive(Debug, Default)]
pub struct Collect {
    members: Members,
}

impl Collect {
    /// Nothing collected.
    pub fn new() -> Collect {
        Collect::default()
    }

    /// Members so far.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What it takes from the allocator besides itself, in bytes.
    pub fn allocated_bytes(&self) -> usize {
        self.members.allocated_bytes()
    }

    /// Adds a member, or joins the score with the one it has; whether there was room.
    pub fn combine(&mut self, member: &[u8], score: f64, aggregate: Aggregate) -> bool {
        match self.members.find(member) {
            Some(handle) => {
                let joined = aggregate.apply(self.members.score(handle), score);
                self.members.set_score(handle, joined);
                true
            }
            None => self.members.insert(member, score).is_some(),
        }
    }

    /// Takes a member away; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let Some(handle) = self.members.find(member) else {
            return false;
        };
        self.members.remove(handle);
        self.members.compact(handle);
        self.members.compact(handle);
        true
    }

    /// Adds the members of a set from a rank on, `limit` at most, with a weight; the rank to go on with, the set's length at
    /// its end. `None` when there is no room.
    pub fn union(
        &mut self,
        set: ZSetRef<'_>,
        from: usize,
        limit: usize,
        weight: f64,
        aggregate: Aggregate,
    ) -> Option<usize> {
        let end = set.len().min(from.saturating_add(limit));
        let mut buffer = itoa::Buffer::new();
        for (member, score) in set.range(from..end) {
            let score = weighted(score, weight);
            if !self.combine(member.text(&mut buffer), score, aggregate) {
                return None;
            }
        }
        Some(end)
    }

    /// Adds a member that is not there; whether there was room.
    pub fn insert(&mut self, member: &[u8], score: f64) -> bool {
        self.members.insert(member, score).is_some()
    }

    /// The set of what was collected: O(n log n), in one step.
    pub fn finish(self, limits: Limits) -> ZSet {
        let sorted = self.sorted();
        let mut order = Ordered::new();
        for &handle in &sorted.handles {
            order.insert(handle, &Last, &sorted.members);
        }
        let members = sorted.members;
        let mut set = ZSet::Full(Box::new(Full { members, order }));
        set.settle(limits);
        set
    }

    /// What was collected, in the order of a set.
    pub fn sorted(self) -> Sorted {
        let members = self.members;
        let mut scored = Vec::with_capacity(members.len());
        members.scan(0, usize::MAX, |handle| {
            scored.push((members.score(handle), handle))
        });
        scored.sort_unstable_by(|left, right| {
            let by_score = left.0.partial_cmp(&right.0).unwrap_or(Ordering::Equal);
            by_score.then_with(|| members.member(left.1).cmp(members.member(right.1)))
        });
        let handles = scored.into_iter().map(|(_, handle)| handle).collect();
        Sorted { members, handles }
    }
}

/// Members with scores in order, to be read once.
#[derive(Debug)]
pub struct Sorted {
    members: Members,
    handles: Vec<u32>,
}

impl Sorted {
    /// All of them, upwards.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], f64)> {
        let members = &self.members;
        let pair = |&handle: &u32| (members.member(handle), members.score(handle));
        self.handles.iter().map(pair)
    }
}

fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}
