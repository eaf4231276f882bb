//! Sorted sets: members with scores, in the order of score and then member.
//!
//! ```text
//!            more than zset-max-listpack-entries, or a member longer than zset-max-listpack-value
//!   packed ------------------------------------------------------------------------------------> full
//!          <------------------------------------------------------------------------------------
//!                           ZSet::settle, at the end of a command that stores a result
//! ```
//!
//! - **packed** (`listpack`): [`Scored`] holds member, score, member, score in the order of the set, in one sequence. All
//!   operations walk.
//! - **full** (`skiplist`): [`Members`] hold member and score once and find a member by its hash; [`Ordered`] keeps their
//!   handles in order. Everything that names a member, a rank, a score or a place in byte order takes O(log n).
//!
//! All ranges are ranges of ranks: a range by score or by bytes is first turned into one, which counts it as well.
//!
//! A clone of a full set is a snapshot that shares its nodes and pages: a command that works for long lets the lock go and
//! reads a clone; who changes the set meanwhile copies the few nodes that the change touches.
//!
//! # Memory
//! A million members of 16 bytes with random scores take 46 bytes each (Redis 7.0: 118), see `benches/data.rs`.

use std::cmp::Ordering;
use std::ops::Range;

pub use self::collect::{Aggregate, Collect, Sorted, weighted};
pub use self::pairs::{Scored, ScoredRef, Scores};
use super::members::Members;
use super::ordered::{self, Bound, Ordered};
use super::packed::Item;
use super::remains::Remains;
use super::value::Small;
use crate::base::allocator::good_size;

mod collect;
mod pairs;

/// Up to which size a set is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members: `zset-max-listpack-entries`.
    pub entries: usize,
    /// Bytes of a member: `zset-max-listpack-value`.
    pub value: usize,
}

/// What ZADD's options allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddRules {
    /// NX: only members that are not there.
    pub only_new: bool,
    /// XX: only members that are there.
    pub only_known: bool,
    /// GT: only to a higher score; does not keep new members out.
    pub only_greater: bool,
    /// LT: only to a lower score; does not keep new members out.
    pub only_less: bool,
    /// INCR: the score is added to the one that is there.
    pub increment: bool,
}

/// What [`ZSet::add`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Added {
    /// Nothing: the rules did not allow it.
    Refused,
    /// Nothing: the score, or the sum with the score that is there, is not a number.
    NotANumber,
    /// Nothing: no room is left (268 million members of one kind of length).
    NoRoom,
    /// Nothing: the member had this score.
    Unchanged(f64),
    /// The member has this score now.
    Updated(f64),
    /// The member is new and has this score.
    Inserted(f64),
}

/// One end of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The lowest score.
    Min,
    /// The highest score.
    Max,
}

/// An end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    /// The score; may be infinite, must be a number.
    pub score: f64,
    /// Whether the score itself is outside.
    pub exclusive: bool,
}

/// An end of a range in the order of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// `-`: before all members.
    First,
    /// `+`: behind all members.
    Last,
    /// `[member`: at this member, which is inside.
    Inclusive(&'a [u8]),
    /// `(member`: at this member, which is outside.
    Exclusive(&'a [u8]),
}

impl LexBound<'_> {
    /// Whether no member can stand between two bounds.
    fn exclude_all(min: LexBound<'_>, max: LexBound<'_>) -> bool {
        use LexBound::{Exclusive, First, Inclusive, Last};
        match (min, max) {
            (Last, _) | (_, First) => true,
            (First, _) | (_, Last) => false,
            (Inclusive(min), Inclusive(max)) => min > max,
            (Inclusive(min) | Exclusive(min), Inclusive(max) | Exclusive(max)) => min >= max,
        }
    }

    /// Whether a member is inside, this being the lower end.
    fn admits_above(self, member: Item<'_>) -> bool {
        match self {
            LexBound::First => true,
            LexBound::Last => false,
            LexBound::Inclusive(end) => compare(member, end) != Ordering::Less,
            LexBound::Exclusive(end) => compare(member, end) == Ordering::Greater,
        }
    }

    /// Whether a member is inside, this being the upper end.
    fn admits_below(self, member: Item<'_>) -> bool {
        match self {
            LexBound::First => false,
            LexBound::Last => true,
            LexBound::Inclusive(end) => compare(member, end) != Ordering::Greater,
            LexBound::Exclusive(end) => compare(member, end) == Ordering::Less,
        }
    }
}

/// A sorted set. See the file's head.
#[derive(Clone, Debug)]
pub enum ZSet {
    /// Member, score, member, score.
    Packed(Scored),
    /// With an index and an order.
    Full(Box<Full>),
}

/// The representation of sets beyond the limits.
#[derive(Clone, Debug, Default)]
pub struct Full {
    members: Members,
    order: Ordered,
}

/// A sorted set to be read.
#[derive(Clone, Copy, Debug)]
pub enum ZSetRef<'a> {
    /// As in [`ZSet::Packed`], or its compact form.
    Packed(ScoredRef<'a>),
    /// As in [`ZSet::Full`].
    Full(&'a Full),
}

impl Default for ZSet {
    fn default() -> ZSet {
        ZSet::new()
    }
}

impl From<Scored> for ZSet {
    fn from(packed: Scored) -> ZSet {
        ZSet::Packed(packed)
    }
}

impl ZSet {
    /// An empty set.
    pub fn new() -> ZSet {
        ZSet::Packed(Scored::default())
    }

    /// An empty set that is about to get so many members: never packed when these are too many.
    pub fn expecting(members: usize, limits: Limits) -> ZSet {
        match members > limits.entries {
            true => ZSet::Full(Box::default()),
            false => ZSet::new(),
        }
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> ZSetRef<'_> {
        match self {
            ZSet::Packed(packed) => ZSetRef::Packed(packed.view()),
            ZSet::Full(full) => ZSetRef::Full(full),
        }
    }

    /// The sequence of a small set.
    #[inline]
    pub fn small(&self) -> Option<Small<'_>> {
        match self {
            ZSet::Packed(packed) => Some(Small::Scored(packed)),
            ZSet::Full(_) => None,
        }
    }

    /// Members.
    #[inline]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes from the allocator besides itself, in bytes.
    pub fn allocated_bytes(&self) -> usize {
        match self {
            ZSet::Packed(packed) => packed.allocated_bytes(),
            ZSet::Full(full) => full.allocated_bytes(),
        }
    }

    /// Gives a member a score as ZADD with these rules does.
    pub fn add(&mut self, member: &[u8], score: f64, rules: AddRules, limits: Limits) -> Added {
        let known = match self {
            ZSet::Packed(packed) => {
                let found = packed.view().find(member);
                found.map(|(rank, score)| (Place::Rank(rank), score))
            }
            ZSet::Full(full) => {
                let handle = full.members.find(member);
                handle.map(|handle| (Place::Handle(handle), full.members.score(handle)))
            }
        };
        let Some((place, old)) = known else {
            return self.insert(member, score, rules, limits);
        };
        match rules.apply(old, score) {
            Added::Updated(new) => {
                self.update(place, member, old, new);
                Added::Updated(new)
            }
            other => other,
        }
    }

    /// Removes a member; its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self {
            ZSet::Packed(packed) => {
                let (rank, score) = packed.view().find(member)?;
                packed.remove(rank..rank + 1);
                Some(score)
            }
            ZSet::Full(full) => {
                let handle = full.members.find(member)?;
                let score = full.members.score(handle);
                let behind = At::new(&full.members, score, member, handle).behind();
                full.order.remove_before(&behind, &full.members);
                full.forget(handle);
                Some(score)
            }
        }
    }

    /// Takes out up to `count` members at one end, which are shown to `visit` before. What is left over is to be freed later.
    pub fn pop(
        &mut self,
        end: Extreme,
        count: usize,
        mut visit: impl FnMut(Item<'_>, f64),
    ) -> Option<Remains> {
        if count == 1 {
            self.pop_one(end, visit);
            return None;
        }
        let (view, len) = (self.view(), self.len());
        let count = count.min(len);
        let ranks = match end {
            Extreme::Min => 0..count,
            Extreme::Max => len - count..len,
        };
        let members = match end {
            Extreme::Min => view.range(ranks.clone()),
            Extreme::Max => view.range_back(ranks.clone()),
        };
        members.for_each(|(member, score)| visit(member, score));
        self.remove_range(ranks)
    }

    /// Takes out the member at one end; whether there was one.
    fn pop_one(&mut self, end: Extreme, visit: impl FnOnce(Item<'_>, f64)) -> bool {
        match self {
            ZSet::Packed(packed) => {
                let mut pairs = packed.view().iter();
                let found = match end {
                    Extreme::Min => pairs.next(),
                    Extreme::Max => pairs.next_back(),
                };
                let Some((member, score)) = found else {
                    return false;
                };
                visit(member, score);
                let rank = match end {
                    Extreme::Min => 0,
                    Extreme::Max => pairs.len(),
                };
                packed.remove(rank..rank + 1);
            }
            ZSet::Full(full) => {
                let rank = match end {
                    Extreme::Min => 0,
                    Extreme::Max => full.order.len().saturating_sub(1),
                };
                let Some(handle) = full.order.remove_at(rank, &full.members) else {
                    return false;
                };
                let (member, score) = full.pair(handle);
                visit(member, score);
                full.forget(handle);
            }
        }
        true
    }

    /// Removes the members of a range of ranks, which may reach beyond the end. Takes O(log n) for each of them or O(log n)
    /// for each of the others, whichever is less; what is left over then is to be freed later.
    pub fn remove_range(&mut self, ranks: Range<usize>) -> Option<Remains> {
        let len = self.len();
        let end = ranks.end.min(len);
        let start = ranks.start.min(end);
        match self {
            ZSet::Packed(packed) => packed.remove(start..end),
            // A removal also fills the hole that it leaves: it costs some insertions.
            ZSet::Full(full)
                if end - start >= REBUILD_MIN && (end - start) * 2 > len - end + start =>
            {
                let kept = full.without(start..end);
                let old = std::mem::replace(self, ZSet::Full(Box::new(kept)));
                return old.into_remains();
            }
            ZSet::Full(full) => {
                for _ in start..end {
                    full.remove_at(start);
                }
            }
        }
        None
    }

    /// Packs a set that is within the limits, as Redis does with a result that is stored.
    pub fn settle(&mut self, limits: Limits) {
        let ZSet::Full(full) = self else { return };
        if full.members.len() > limits.entries {
            return;
        }
        let view = ZSetRef::Full(full);
        let fits = |(member, _): (Item<'_>, f64)| member.text_len() <= limits.value;
        if !view.range(0..full.members.len()).all(fits) {
            return;
        }
        let mut packed = Scored::default();
        for (member, score) in view.range(0..full.members.len()) {
            packed.push(member.text(&mut itoa::Buffer::new()), score);
        }
        *self = ZSet::Packed(packed);
    }

    /// What is to be freed, piece by piece where it is large.
    pub fn into_remains(self) -> Option<Remains> {
        match self {
            ZSet::Packed(_) => None,
            ZSet::Full(full) => {
                let mut remains = Remains::default();
                full.order.move_to(&mut remains);
                full.members.move_to(&mut remains);
                Some(remains)
            }
        }
    }

    fn insert(&mut self, member: &[u8], score: f64, rules: AddRules, limits: Limits) -> Added {
        if rules.only_known {
            return Added::Refused;
        }
        if score.is_nan() {
            return Added::NotANumber;
        }
        if let ZSet::Packed(packed) = self {
            let fits = packed.view().len() < limits.entries
                && member.len() <= limits.value
                && packed.has_room(member.len());
            if fits {
                packed.insert(member, score);
                return Added::Inserted(score);
            }
            *self = ZSet::Full(Box::new(Full::from_packed(packed.view())));
        }
        let ZSet::Full(full) = self else {
            unreachable!("converted above")
        };
        match full.insert(member, score) {
            true => Added::Inserted(score),
            false => Added::NoRoom,
        }
    }

    fn update(&mut self, place: Place, member: &[u8], old: f64, new: f64) {
        match (self, place) {
            (ZSet::Packed(packed), Place::Rank(rank)) => {
                packed.remove(rank..rank + 1);
                packed.insert(member, new);
            }
            (ZSet::Full(full), Place::Handle(handle)) => full.update(handle, member, old, new),
            _ => unreachable!("the place is of this representation"),
        }
    }
}

/// Members from which the rest of a set is cheaper made anew.
const REBUILD_MIN: usize = 1024;

/// Where a member was found.
enum Place {
    Rank(usize),
    Handle(u32),
}

impl AddRules {
    /// What becomes of a member that has the score `old`.
    fn apply(self, old: f64, score: f64) -> Added {
        if self.only_new {
            return Added::Refused;
        }
        if score.is_nan() {
            return Added::NotANumber;
        }
        let new = if self.increment { old + score } else { score };
        if new.is_nan() {
            Added::NotANumber
        } else if self.only_greater && new <= old || self.only_less && new >= old {
            Added::Refused
        } else if new == old {
            Added::Unchanged(old)
        } else {
            Added::Updated(new)
        }
    }
}

impl Full {
    /// As [`Members::warm`].
    pub fn warm(&self, members: &[&[u8]]) {
        self.members.warm(members);
    }

    fn from_packed(packed: ScoredRef<'_>) -> Full {
        let mut full = Full::default();
        let mut buffer = itoa::Buffer::new();
        for (member, score) in packed.iter() {
            full.insert(member.text(&mut buffer), score);
        }
        full
    }

    fn allocated_bytes(&self) -> usize {
        good_size(size_of::<Full>()) + self.members.allocated_bytes() + self.order.allocated_bytes()
    }

    /// Adds a member that is not there; whether there was room.
    fn insert(&mut self, member: &[u8], score: f64) -> bool {
        let Some(handle) = self.members.insert(member, score) else {
            return false;
        };
        let at = At::new(&self.members, score, member, handle);
        self.order.insert(handle, &at, &self.members);
        true
    }

    fn update(&mut self, handle: u32, member: &[u8], old: f64, new: f64) {
        let from = At::new(&self.members, old, member, handle).behind();
        let to = At::new(&self.members, new, member, handle);
        // A counter that counts up seldom overtakes its neighbour.
        if self.order.stays_before(&from, &to) {
            return self.members.set_score(handle, new);
        }
        self.order.remove_before(&from, &self.members);
        self.members.set_score(handle, new);
        let to = At::new(&self.members, new, member, handle);
        self.order.insert(handle, &to, &self.members);
    }

    /// A set of all members but those of a range of ranks.
    fn without(&self, ranks: Range<usize>) -> Full {
        let mut kept = Full::default();
        let before = self.order.iter_from(0).take(ranks.start);
        for handle in before.chain(self.order.iter_from(ranks.end)) {
            let member = self.members.member(handle);
            // There is room for them: all were there before.
            if let Some(handle) = kept.members.insert(member, self.members.score(handle)) {
                kept.order.insert(handle, &Last, &kept.members);
            }
        }
        kept
    }

    fn remove_at(&mut self, rank: usize) {
        if let Some(handle) = self.order.remove_at(rank, &self.members) {
            self.forget(handle);
        }
    }

    /// Removes the record of a member that has left the order, and lets the order know what moves into the hole.
    fn forget(&mut self, handle: u32) {
        self.members.remove(handle);
        for _ in 0..2 {
            if let Some(moved) = self.members.compact(handle) {
                let member = self.members.member(moved.to);
                let score = self.members.score(moved.to);
                let at = At::new(&self.members, score, member, moved.from);
                self.order.replace(&at, moved.to);
            }
        }
    }

    fn pair(&self, handle: u32) -> (Item<'_>, f64) {
        let member = self.members.member(handle);
        (Item::Bytes(member), self.members.score(handle))
    }
}

impl<'a> ZSetRef<'a> {
    /// Members.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            ZSetRef::Packed(packed) => packed.len(),
            ZSetRef::Full(full) => full.order.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A set of its own with the same members: a packed one is copied, a full one shares its nodes and pages.
    pub fn snapshot(self) -> ZSet {
        match self {
            ZSetRef::Packed(packed) => ZSet::Packed(Scored::copy_of(packed)),
            ZSetRef::Full(full) => ZSet::Full(Box::new(full.clone())),
        }
    }

    /// The encoding as OBJECT ENCODING names it.
    pub fn encoding(self) -> &'static str {
        match self {
            ZSetRef::Packed(_) => "listpack",
            ZSetRef::Full(_) => "skiplist",
        }
    }

    /// The score of a member.
    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            ZSetRef::Packed(packed) => packed.find(member).map(|(_, score)| score),
            ZSetRef::Full(full) => {
                let handle = full.members.find(member)?;
                Some(full.members.score(handle))
            }
        }
    }

    /// The rank of a member, from the lowest score, with its score.
    pub fn rank(self, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            ZSetRef::Packed(packed) => packed.find(member),
            ZSetRef::Full(full) => {
                let handle = full.members.find(member)?;
                let score = full.members.score(handle);
                let at = At::new(&full.members, score, member, handle);
                Some((full.order.rank(&at), score))
            }
        }
    }

    /// The member with a rank.
    pub fn at(self, rank: usize) -> Option<(Item<'a>, f64)> {
        match self {
            ZSetRef::Packed(packed) => packed.iter().nth(rank),
            ZSetRef::Full(full) => full.order.at(rank).map(|handle| full.pair(handle)),
        }
    }

    /// The members of a range of ranks, upwards. The range may reach beyond the end.
    pub fn range(self, ranks: Range<usize>) -> Iter<'a> {
        let end = ranks.end.min(self.len());
        let start = ranks.start.min(end);
        match self {
            ZSetRef::Packed(packed) => Iter::Up(packed.range(start..end).iter()),
            ZSetRef::Full(full) => Iter::Full {
                members: &full.members,
                handles: full.order.iter_from(start),
                left: end - start,
            },
        }
    }

    /// The members of a range of ranks, downwards: the one of the highest rank first.
    pub fn range_back(self, ranks: Range<usize>) -> Iter<'a> {
        let end = ranks.end.min(self.len());
        let start = ranks.start.min(end);
        match self {
            ZSetRef::Packed(packed) => Iter::Down(packed.range(start..end).iter()),
            ZSetRef::Full(full) => Iter::Full {
                members: &full.members,
                handles: full.order.iter_back_from(end.saturating_sub(1)),
                left: end - start,
            },
        }
    }

    /// The ranks of the members with scores between two bounds; empty when there are none.
    pub fn score_range(self, min: ScoreBound, max: ScoreBound) -> Range<usize> {
        let start = self.before_score(min.score, min.exclusive);
        let end = self.before_score(max.score, !max.exclusive);
        start..end.max(start)
    }

    /// The ranks of the members between two bounds in the order of bytes, as met upwards or (`back`) downwards; empty when
    /// there are none. It means something only when all scores are equal; of other packed sets the two directions give what
    /// they give in Redis.
    pub fn lex_range(self, min: LexBound<'_>, max: LexBound<'_>, back: bool) -> Range<usize> {
        let (Some((first, _)), Some((last, _))) = (self.at(0), self.at(self.len().wrapping_sub(1)))
        else {
            return 0..0;
        };
        if LexBound::exclude_all(min, max) || !min.admits_above(last) || !max.admits_below(first) {
            return 0..0;
        }
        match self {
            ZSetRef::Packed(packed) => packed.lex_range(min, max, back),
            ZSetRef::Full(_) => {
                let start = match min {
                    LexBound::First => 0,
                    LexBound::Last => self.len(),
                    LexBound::Inclusive(member) => self.before_member(member, false),
                    LexBound::Exclusive(member) => self.before_member(member, true),
                };
                let end = match max {
                    LexBound::First => 0,
                    LexBound::Last => self.len(),
                    LexBound::Inclusive(member) => self.before_member(member, true),
                    LexBound::Exclusive(member) => self.before_member(member, false),
                };
                start..end.max(start)
            }
        }
    }

    /// Shows members from a cursor on, about `count`, in no order; returns the cursor to go on with, 0 at the end. A packed
    /// set is shown whole.
    pub fn scan(self, cursor: u64, count: usize, mut show: impl FnMut(Item<'a>, f64)) -> u64 {
        match self {
            ZSetRef::Packed(packed) => {
                packed
                    .iter()
                    .for_each(|(member, score)| show(member, score));
                0
            }
            ZSetRef::Full(full) => full.members.scan(cursor, count, |handle| {
                let (member, score) = full.pair(handle);
                show(member, score);
            }),
        }
    }

    /// How many members have a score below this one, or up to it when `through`.
    fn before_score(self, score: f64, through: bool) -> usize {
        match self {
            ZSetRef::Packed(packed) => packed.before_score(score, through),
            ZSetRef::Full(full) => full.order.rank(&AtScore {
                members: &full.members,
                score,
                through,
            }),
        }
    }

    /// How many members of a full set stand before this one in the order of bytes, itself counted when `through`.
    fn before_member(self, member: &[u8], through: bool) -> usize {
        match self {
            ZSetRef::Packed(_) => 0,
            ZSetRef::Full(full) => full.order.rank(&AtMember {
                members: &full.members,
                member,
                through,
            }),
        }
    }
}

/// Members with scores, in one direction.
#[derive(Debug)]
pub enum Iter<'a> {
    /// Upwards through pairs.
    Up(Scores<'a>),
    /// Downwards through pairs.
    Down(Scores<'a>),
    /// Through the order.
    Full {
        /// The records.
        members: &'a Members,
        /// Handles still to come.
        handles: ordered::Iter<'a>,
        /// How many of them count.
        left: usize,
    },
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Item<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Up(pairs) => pairs.next(),
            Iter::Down(pairs) => pairs.next_back(),
            Iter::Full {
                members,
                handles,
                left,
            } => {
                *left = left.checked_sub(1)?;
                let handle = handles.next()?;
                Some((Item::Bytes(members.member(handle)), members.score(handle)))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Iter::Up(pairs) | Iter::Down(pairs) => pairs.size_hint(),
            Iter::Full { left, .. } => (*left, Some(*left)),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// The place of a member with a score. The handle is the one the order knows it by, whose record may have moved.
struct At<'a> {
    members: &'a Members,
    score: f64,
    member: &'a [u8],
    handle: u32,
    /// Whether the member itself stands before the place.
    through: bool,
}

impl<'a> At<'a> {
    fn new(members: &'a Members, score: f64, member: &'a [u8], handle: u32) -> At<'a> {
        At {
            members,
            score,
            member,
            handle,
            through: false,
        }
    }

    fn behind(self) -> At<'a> {
        At {
            through: true,
            ..self
        }
    }
}

impl Bound for At<'_> {
    #[inline]
    fn follows_score(&self, score: f64) -> Option<bool> {
        (score != self.score).then_some(score < self.score)
    }

    #[inline]
    fn follows(&self, handle: u32) -> bool {
        if handle == self.handle {
            return self.through;
        }
        let score = self.members.score(handle);
        score < self.score || score == self.score && self.members.member(handle) < self.member
    }
}

/// Before or behind all members with a score.
struct AtScore<'a> {
    members: &'a Members,
    score: f64,
    through: bool,
}

impl Bound for AtScore<'_> {
    #[inline]
    fn follows_score(&self, score: f64) -> Option<bool> {
        Some(score < self.score || self.through && score == self.score)
    }

    fn follows(&self, handle: u32) -> bool {
        let score = self.members.score(handle);
        score < self.score || self.through && score == self.score
    }
}

/// Before or behind a member in the order of bytes.
struct AtMember<'a> {
    members: &'a Members,
    member: &'a [u8],
    through: bool,
}

impl Bound for AtMember<'_> {
    fn follows_score(&self, _: f64) -> Option<bool> {
        None
    }

    fn follows(&self, handle: u32) -> bool {
        is_before(self.members.member(handle).cmp(self.member), self.through)
    }
}

/// Behind everything.
struct Last;

impl Bound for Last {
    fn follows_score(&self, _: f64) -> Option<bool> {
        Some(true)
    }

    fn follows(&self, _: u32) -> bool {
        true
    }
}

fn is_before(order: Ordering, through: bool) -> bool {
    order == Ordering::Less || through && order == Ordering::Equal
}

/// The order of a packed member and a text.
fn compare(held: Item<'_>, member: &[u8]) -> Ordering {
    held.text(&mut itoa::Buffer::new()).cmp(member)
}

#[cfg(test)]
mod tests;
