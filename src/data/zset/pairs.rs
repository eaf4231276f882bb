//! A small sorted set: members with scores in one packed sequence, in the order of the set.
//!
//! ```text
//! member score member score ..
//!
//! compact form:  [ compact form of the sequence | base, as its body and then its head ]
//! ```
//!
//! A score that is an integer stands as its distance from the base, which is the score that came first: those of one set
//! are mostly near each other (times, counters, ranks), so a distance takes no byte or one where the score takes three to
//! six. Any other score stands as its eight bytes. The base stays for as long as there are members; an integer less than
//! 2^53 away from zero is the same after the way there and back, and -0 becomes 0, as in Redis's listpack.
//!
//! All operations walk.

use std::cmp::Ordering;
use std::ops::Range;

use super::{LexBound, compare};
use crate::data::packed::{Element, Item, Packed, PackedRef, Pairs, Shape, decode, int_width};

/// The sequence. See the file's head.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    pairs: Packed,
    base: i64,
}

/// The sequence to be read: of a [`Scored`], of its compact form, or a part of either.
#[derive(Clone, Copy, Debug)]
pub struct ScoredRef<'a> {
    pairs: PackedRef<'a>,
    base: i64,
}

impl Scored {
    /// A copy of the members of `view`.
    pub fn copy_of(view: ScoredRef<'_>) -> Scored {
        Scored {
            pairs: Packed::copy_of(view.pairs),
            base: view.base,
        }
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> ScoredRef<'_> {
        ScoredRef {
            pairs: self.pairs.view(),
            base: self.base,
        }
    }

    /// What it takes from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        self.pairs.allocated_bytes()
    }

    /// Whether there is room for a member of so many bytes with its score.
    pub fn has_room(&self, member: usize) -> bool {
        // A score takes nine bytes at most, and the member's head up to nine.
        self.pairs.has_room(member + 32)
    }

    /// Adds a member that is not there, at its place.
    pub fn insert(&mut self, member: &[u8], score: f64) {
        let rank = self.view().rank_for(member, score);
        self.insert_at(rank, member, score);
    }

    /// Adds a member that stands behind all others.
    pub fn push(&mut self, member: &[u8], score: f64) {
        self.insert_at(self.view().len(), member, score);
    }

    /// Removes the members of a range of ranks, all of which must be there.
    pub fn remove(&mut self, ranks: Range<usize>) {
        self.pairs.remove(ranks.start * 2..ranks.end * 2);
    }

    fn insert_at(&mut self, rank: usize, member: &[u8], score: f64) {
        if self.pairs.is_empty() {
            self.base = integer(score).unwrap_or(0);
        }
        self.pairs.insert(rank * 2, member);
        let bytes = score.to_le_bytes();
        let score = match integer(score) {
            Some(score) => (score - self.base).into(),
            None => Element::opaque(&bytes),
        };
        self.pairs.insert(rank * 2 + 1, score);
    }
}

impl<'a> ScoredRef<'a> {
    /// Reads what [`ScoredRef::write_compact`] wrote.
    pub fn from_compact(bytes: &'a [u8], shape: Shape) -> ScoredRef<'a> {
        let (&head, rest) = bytes.split_last().expect("a compact form has a base");
        let (rest, body) = rest.split_at(rest.len() - int_width(head));
        let base = match decode(head, body) {
            Item::Int(base) => base,
            Item::Bytes(_) => 0,
        };
        ScoredRef {
            pairs: PackedRef::from_compact(rest, shape),
            base,
        }
    }

    /// Appends the compact form, and gives its shape.
    pub fn write_compact(self, out: &mut Vec<u8>) -> Shape {
        let shape = self.pairs.write_compact(out);
        let base = Element::from(self.base);
        let body_at = out.len();
        out.resize(body_at + base.body_size(), 0);
        base.write_body(&mut out[body_at..]);
        out.push(base.head);
        shape
    }

    /// The length of the compact form.
    pub fn compact_len(self) -> usize {
        self.pairs.compact_len() + Element::from(self.base).size()
    }

    /// Members.
    #[inline]
    pub fn len(self) -> usize {
        self.pairs.len() / 2
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.pairs.is_empty()
    }

    /// Members with scores, from either end.
    #[inline]
    pub fn iter(self) -> Scores<'a> {
        Scores {
            pairs: self.pairs.pairs(),
            base: self.base,
        }
    }

    /// The members of a range of ranks, all of which must be there.
    pub fn range(self, ranks: Range<usize>) -> ScoredRef<'a> {
        ScoredRef {
            pairs: self.pairs.range(ranks.start * 2..ranks.end * 2),
            base: self.base,
        }
    }

    /// The rank and the score of a member.
    pub fn find(self, member: &[u8]) -> Option<(usize, f64)> {
        let mut rest = self.pairs.iter();
        let passed = rest.seek(&member.into(), 2)?;
        Some((passed / 2, score_of(rest.next()?, self.base)))
    }

    /// How many members have a score below this one, or up to it when `through`.
    pub fn before_score(self, score: f64, through: bool) -> usize {
        let is_before = |&(_, held): &(_, f64)| held < score || through && held == score;
        self.iter().take_while(is_before).count()
    }

    /// As [`ZSetRef::lex_range`](super::ZSetRef::lex_range), of a set that is not empty.
    pub fn lex_range(self, min: LexBound<'_>, max: LexBound<'_>, back: bool) -> Range<usize> {
        let mut members = self.pairs.pairs().map(|(member, _)| member);
        if back {
            let mut members = members.rev();
            let above = members
                .clone()
                .take_while(|&member| !max.admits_below(member));
            let above = above.count();
            if above > 0 {
                members.nth(above - 1);
            }
            let end = self.len() - above;
            let inside = members.take_while(|&member| min.admits_above(member));
            end - inside.count()..end
        } else {
            let below = members
                .clone()
                .take_while(|&member| !min.admits_above(member));
            let start = below.count();
            if start > 0 {
                members.nth(start - 1);
            }
            let inside = members.take_while(|&member| max.admits_below(member));
            start..start + inside.count()
        }
    }

    /// The rank that a member which is not there would have.
    fn rank_for(self, member: &[u8], score: f64) -> usize {
        let stands_before = |&(held, other): &(Item<'_>, f64)| {
            other < score || other == score && compare(held, member) == Ordering::Less
        };
        // Most often the new one is the last.
        match self.iter().next_back() {
            Some(last) if !stands_before(&last) => self.iter().take_while(stands_before).count(),
            _ => self.len(),
        }
    }
}

/// Members with scores.
#[derive(Clone, Debug)]
pub struct Scores<'a> {
    pairs: Pairs<'a>,
    base: i64,
}

impl<'a> Iterator for Scores<'a> {
    type Item = (Item<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (member, score) = self.pairs.next()?;
        Some((member, score_of(score, self.base)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.pairs.size_hint()
    }

    fn nth(&mut self, count: usize) -> Option<Self::Item> {
        let (member, score) = self.pairs.nth(count)?;
        Some((member, score_of(score, self.base)))
    }
}

impl DoubleEndedIterator for Scores<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let (member, score) = self.pairs.next_back()?;
        Some((member, score_of(score, self.base)))
    }
}

impl ExactSizeIterator for Scores<'_> {}

/// The score as an integer, if it is one that a double holds exactly with all its neighbours.
fn integer(score: f64) -> Option<i64> {
    const EXACT: f64 = (1u64 << 53) as f64;
    (score.abs() < EXACT && score.trunc() == score).then_some(score as i64)
}

#[inline]
fn score_of(item: Item<'_>, base: i64) -> f64 {
    match item {
        Item::Int(distance) => (base + distance) as f64,
        Item::Bytes(bytes) => f64::from_le_bytes(bytes.try_into().unwrap_or_default()),
    }
}
