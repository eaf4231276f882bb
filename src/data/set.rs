//! A set of texts: sorted integers while all members are such, a compact sequence while it is small, then a table.
//!
//! ```text
//! intset --a text--> listpack --too many, or a long one--> hashtable
//!      \------------too many, or a long one------------------/
//! ```
//!
//! As in Redis 7.2 a set never goes back. Members are [`Item`]s: an integer needs no text until it is shown, or until the
//! set is a table. A table holds and gives texts, those of integers too; all that takes a member takes either. Members of
//! a sequence stand in the order in which they came.
//!
//! Cost: O(1) in a table; a search of at most `max_listpack_entries` heads in a sequence; a binary search in integers.
//! A clone of a table is a snapshot that shares its parts ([`Dense`]).

use super::dense::{Dense, Entries};
use super::intset::{IntSet, IntSetRef};
use super::packed::{self, Element, Item, Packed, PackedRef};
use super::remains::Remains;
use super::sample;
use super::value::Small;
use crate::base::allocator::good_size;
use crate::base::hash::KeyHasher;
use crate::base::rng::Rng;

/// Up to where a set stays small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLimits {
    /// `set-max-intset-entries`.
    pub max_intset_entries: usize,
    /// `set-max-listpack-entries`.
    pub max_listpack_entries: usize,
    /// `set-max-listpack-value`, in bytes.
    pub max_listpack_value: usize,
}

impl Default for SetLimits {
    /// Those of Redis 7.2.
    fn default() -> Self {
        SetLimits {
            max_intset_entries: 512,
            max_listpack_entries: 128,
            max_listpack_value: 64,
        }
    }
}

/// The set. All calls on one set take the same hasher.
#[derive(Clone)]
pub struct Set(Form);

#[derive(Clone)]
enum Form {
    Ints(IntSet),
    Packed(Packed),
    Table(Box<Dense<false>>),
}

/// A set to be read. What it gives lives as long as the set itself.
#[derive(Clone, Copy)]
pub enum SetRef<'a> {
    /// Sorted integers, or their compact form.
    Ints(IntSetRef<'a>),
    /// A sequence, or its compact form.
    Packed(PackedRef<'a>),
    /// A table.
    Table(&'a Dense<false>),
}

impl From<IntSet> for Set {
    fn from(ints: IntSet) -> Set {
        Set(Form::Ints(ints))
    }
}

impl From<Packed> for Set {
    fn from(packed: Packed) -> Set {
        Set(Form::Packed(packed))
    }
}

impl<'a> From<IntSetRef<'a>> for SetRef<'a> {
    fn from(ints: IntSetRef<'a>) -> SetRef<'a> {
        SetRef::Ints(ints)
    }
}

impl<'a> From<PackedRef<'a>> for SetRef<'a> {
    fn from(packed: PackedRef<'a>) -> SetRef<'a> {
        SetRef::Packed(packed)
    }
}

impl Default for Set {
    fn default() -> Self {
        Set::new()
    }
}

impl Set {
    /// An empty set that is about to get integers, or anything.
    pub fn new() -> Set {
        Set(Form::Ints(IntSet::new()))
    }

    /// An empty set that is about to get `expected` members, the first of which is `first`.
    pub fn expecting(first: Item<'_>, expected: usize, limits: &SetLimits) -> Set {
        Set(match first.canonical() {
            Item::Int(_) if expected <= limits.max_intset_entries => Form::Ints(IntSet::new()),
            _ if expected <= limits.max_listpack_entries => Form::Packed(Packed::new()),
            _ => Form::Table(Box::default()),
        })
    }

    /// Makes it a table before `expected` members are added, when so many would make it one anyway.
    pub fn expect_more(&mut self, expected: usize, limits: &SetLimits, hasher: &KeyHasher) {
        let most = match &self.0 {
            Form::Ints(_) => limits.max_intset_entries,
            Form::Packed(_) => limits.max_listpack_entries,
            Form::Table(_) => return,
        };
        if expected > most {
            self.become_table(hasher);
        }
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> SetRef<'_> {
        match &self.0 {
            Form::Ints(ints) => SetRef::Ints(ints.view()),
            Form::Packed(packed) => SetRef::Packed(packed.view()),
            Form::Table(table) => SetRef::Table(table),
        }
    }

    /// What it is while it is small; `None` for a table.
    #[inline]
    pub fn small(&self) -> Option<Small<'_>> {
        match &self.0 {
            Form::Ints(ints) => Some(Small::Ints(ints)),
            Form::Packed(packed) => Some(Small::Packed(packed)),
            Form::Table(_) => None,
        }
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes from the allocator beside itself.
    pub fn allocated_bytes(&self) -> usize {
        match &self.0 {
            Form::Ints(ints) => ints.allocated_bytes(),
            Form::Packed(packed) => packed.allocated_bytes(),
            Form::Table(table) => good_size(size_of::<Dense<false>>()) + table.allocated_bytes(),
        }
    }

    /// Adds a member. Whether it was not there.
    pub fn add(&mut self, member: Item<'_>, limits: &SetLimits, hasher: &KeyHasher) -> bool {
        match &mut self.0 {
            Form::Ints(ints) => {
                let Some(value) = member.int() else {
                    self.ints_to_texts(member, limits, hasher);
                    return self.add(member, limits, hasher);
                };
                let added = ints.insert(value);
                if added && ints.len() > limits.max_intset_entries.min(MOST_INTS) {
                    self.become_table(hasher);
                }
                added
            }
            Form::Packed(packed) => {
                let element = Element::from(member);
                if packed.view().find(element, 1).is_some() {
                    return false;
                }
                let fits = packed.len() < limits.max_listpack_entries
                    && member.text_len() <= limits.max_listpack_value
                    && packed.has_room(element.size());
                if fits {
                    packed.push_back(element);
                    return true;
                }
                self.become_table(hasher);
                self.add(member, limits, hasher)
            }
            Form::Table(table) => {
                let text = &mut itoa::Buffer::new();
                table.insert(hasher, member.text(text), &[])
            }
        }
    }

    fn add_all(&mut self, members: SetRef<'_>, limits: &SetLimits, hasher: &KeyHasher) {
        for member in members {
            self.add(member, limits, hasher);
        }
    }

    /// Removes a member. Whether it was there.
    pub fn remove(&mut self, member: Item<'_>, hasher: &KeyHasher) -> bool {
        match &mut self.0 {
            Form::Ints(ints) => member.int().is_some_and(|value| ints.remove(value)),
            Form::Packed(packed) => {
                let found = packed.view().find(member, 1);
                if let Some(index) = found {
                    packed.remove(index..index + 1);
                }
                found.is_some()
            }
            Form::Table(table) => table.remove(hasher, member.text(&mut itoa::Buffer::new())),
        }
    }

    /// Takes out any member, which is shown to `visit` before. Whether there was one.
    pub fn pop(&mut self, rng: &Rng, hasher: &KeyHasher, mut visit: impl FnMut(Item<'_>)) -> bool {
        if self.is_empty() {
            return false;
        }
        match &mut self.0 {
            Form::Ints(ints) => {
                let index = rng.below(ints.len() as u64) as usize;
                visit(Item::Int(ints.view().get(index).expect("below the length")));
                ints.remove_at(index);
            }
            Form::Packed(packed) => {
                let index = rng.below(packed.len() as u64) as usize;
                visit(packed.get(index).expect("below the length"));
                packed.remove(index..index + 1);
            }
            Form::Table(table) => {
                let spot = table.random(rng).expect("it is not empty");
                visit(Item::Bytes(table.key(spot)));
                table.remove_at(hasher, spot);
            }
        }
        true
    }

    /// Takes out up to `count` members, which are shown to `visit` before; those of small sets in their order.
    pub fn pop_many(
        &mut self,
        count: usize,
        rng: &Rng,
        hasher: &KeyHasher,
        mut visit: impl FnMut(Item<'_>),
    ) {
        if let Form::Table(_) = self.0 {
            for _ in 0..count.min(self.len()) {
                self.pop(rng, hasher, &mut visit);
            }
            return;
        }
        let mut chosen = Vec::new();
        sample::ascending(count, self.len(), rng, |index| chosen.push(index));
        let mut chosen = chosen.into_iter().peekable();
        let mut left = match &self.0 {
            Form::Ints(_) => Form::Ints(IntSet::new()),
            _ => Form::Packed(Packed::new()),
        };
        for (index, member) in self.view().iter().enumerate() {
            if chosen.next_if_eq(&index).is_some() {
                visit(member);
                continue;
            }
            match (&mut left, member) {
                (Form::Ints(ints), Item::Int(value)) => _ = ints.insert(value),
                (Form::Packed(packed), member) => packed.push_back(member),
                _ => unreachable!("a set of integers has no other members, and this is no table"),
            }
        }
        self.0 = left;
    }

    /// Its content, to be freed piece by piece; `None` when it is small.
    pub fn into_remains(self) -> Option<Remains> {
        match self.0 {
            Form::Table(table) => Some(table.into_remains()),
            _ => None,
        }
    }

    /// Integers become texts because `member` is none.
    fn ints_to_texts(&mut self, member: Item<'_>, limits: &SetLimits, hasher: &KeyHasher) {
        let Form::Ints(ints) = &self.0 else {
            return;
        };
        let ints = ints.view();
        let ends = [
            ints.get(0),
            ints.len().checked_sub(1).and_then(|last| ints.get(last)),
        ];
        let longest = ends
            .into_iter()
            .flatten()
            .map(|end| Item::Int(end).text_len());
        let longest = longest.chain([member.text_len()]).max().unwrap_or(0);
        let fits = ints.len() < limits.max_listpack_entries
            && longest <= limits.max_listpack_value
            && (ints.len() + 1).saturating_mul(longest) <= packed::MAX_BYTES;
        if !fits {
            return self.become_table(hasher);
        }
        let mut packed = Packed::new();
        ints.iter().for_each(|value| packed.push_back(value));
        self.0 = Form::Packed(packed);
    }

    fn become_table(&mut self, hasher: &KeyHasher) {
        let mut table = Box::<Dense<false>>::default();
        for member in self.view().iter() {
            table.insert_new(hasher, member.text(&mut itoa::Buffer::new()), &[]);
        }
        self.0 = Form::Table(table);
    }
}

impl<'a> SetRef<'a> {
    /// How many members.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            SetRef::Ints(ints) => ints.len(),
            SetRef::Packed(packed) => packed.len(),
            SetRef::Table(table) => table.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The name of its encoding, as OBJECT ENCODING shows it.
    pub fn encoding(self) -> &'static str {
        match self {
            SetRef::Ints(_) => "intset",
            SetRef::Packed(_) => "listpack",
            SetRef::Table(_) => "hashtable",
        }
    }

    /// Whether it would be a table whatever its members are.
    fn is_large(self, limits: &SetLimits) -> bool {
        matches!(self, SetRef::Table(_))
            && self.len() > limits.max_intset_entries.max(limits.max_listpack_entries)
    }

    /// A set of its own with the same members: a small one is copied, a table shares its parts.
    pub fn snapshot(self) -> Set {
        Set(match self {
            SetRef::Ints(ints) => Form::Ints(ints.into()),
            SetRef::Packed(packed) => Form::Packed(Packed::copy_of(packed)),
            SetRef::Table(table) => Form::Table(Box::new(table.clone())),
        })
    }

    /// Whether `member` is one.
    pub fn contains(self, member: Item<'_>, hasher: &KeyHasher) -> bool {
        match self {
            SetRef::Ints(ints) => member.int().is_some_and(|value| ints.contains(value)),
            SetRef::Packed(packed) => packed.find(member, 1).is_some(),
            SetRef::Table(table) => {
                let text = &mut itoa::Buffer::new();
                table.find(hasher, member.text(text)).is_some()
            }
        }
    }

    /// Any member, each with the same chance.
    pub fn random(self, rng: &Rng) -> Option<Item<'a>> {
        match self {
            SetRef::Ints(ints) => ints
                .get(rng.below(ints.len() as u64) as usize)
                .map(Item::Int),
            SetRef::Packed(packed) => packed.get(rng.below(packed.len() as u64) as usize),
            SetRef::Table(table) => table.random(rng).map(|spot| Item::Bytes(table.key(spot))),
        }
    }

    /// Visits `count` different members, or all when there are no more: in the order of [`SetRef::iter`], except that some
    /// of a table come in random order.
    pub fn sample(self, count: usize, rng: &Rng, mut visit: impl FnMut(Item<'a>)) {
        match self {
            SetRef::Ints(ints) => sample::ascending(count, ints.len(), rng, |index| {
                visit(Item::Int(ints.get(index).expect("below the length")));
            }),
            SetRef::Packed(packed) => {
                let (mut rest, mut passed) = (packed.iter(), 0);
                sample::ascending(count, packed.len(), rng, |index| {
                    visit(rest.nth(index - passed).expect("below the length"));
                    passed = index + 1;
                });
            }
            SetRef::Table(table) => {
                table.sample(count, rng, |spot| visit(Item::Bytes(table.key(spot))));
            }
        }
    }

    /// All members: integers ascending, those of a sequence as they came, those of a table in no order.
    pub fn iter(self) -> Members<'a> {
        Members(match self {
            SetRef::Ints(ints) => Source::Ints(ints, 0),
            SetRef::Packed(packed) => Source::Packed(packed.iter()),
            SetRef::Table(table) => Source::Table(table.iter()),
        })
    }

    /// Visits about `count` members from `cursor` on and returns the next cursor, 0 at the end; a small set is visited whole.
    /// What it promises is what [`Dense::scan`] does.
    pub fn scan(self, cursor: u64, count: usize, mut visit: impl FnMut(Item<'a>)) -> u64 {
        if let SetRef::Table(table) = self {
            return table.scan(cursor, count, |member, _| visit(Item::Bytes(member)));
        }
        self.iter().for_each(visit);
        0
    }
}

impl<'a> IntoIterator for SetRef<'a> {
    type Item = Item<'a>;
    type IntoIter = Members<'a>;

    fn into_iter(self) -> Members<'a> {
        self.iter()
    }
}

/// As in Redis, whatever `set-max-intset-entries` says.
const MOST_INTS: usize = 1 << 30;

/// The members of a set.
#[derive(Clone)]
pub struct Members<'a>(Source<'a>);

#[derive(Clone)]
enum Source<'a> {
    Ints(IntSetRef<'a>, usize),
    Packed(packed::Iter<'a>),
    Table(Entries<'a, false>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match &mut self.0 {
            Source::Ints(ints, next) => {
                let value = ints.get(*next)?;
                *next += 1;
                Some(Item::Int(value))
            }
            Source::Packed(items) => items.next(),
            Source::Table(entries) => entries.next().map(|(member, _)| Item::Bytes(member)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Source::Ints(ints, next) => ints.len() - next,
            Source::Packed(items) => items.len(),
            Source::Table(entries) => entries.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Members<'_> {}

/// What to make of several sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// What is in all of them, in the order of the smallest.
    Intersection,
    /// What is in one of them; what several have, where it comes first.
    Union,
    /// What is in the first and in no other.
    Difference,
}

impl Operation {
    /// About how many members are looked at or looked for.
    pub fn work(self, sets: &[SetRef<'_>]) -> usize {
        let lengths = sets.iter().map(|set| set.len());
        match self {
            Operation::Intersection => lengths.min().unwrap_or(0).saturating_mul(sets.len()),
            Operation::Union => lengths.sum(),
            Operation::Difference => lengths.take(1).sum::<usize>().saturating_mul(sets.len()),
        }
    }

    /// Shows the members of the result on sets, at least one, in the order of [`Algebra`] or any.
    pub fn visit(self, sets: &[SetRef<'_>], hasher: &KeyHasher, visit: impl FnMut(Item<'_>)) {
        if self == Operation::Union && sets.len() > MOST_LOOKED_THROUGH {
            let result = self.result(sets, &SetLimits::default(), hasher);
            return result.view().iter().for_each(visit);
        }
        match self.subtract(sets, hasher) {
            Some(rest) => rest.view().iter().for_each(visit),
            None => {
                let mut algebra = Algebra::new(self, sets.to_vec());
                algebra.step(usize::MAX, hasher, visit);
            }
        }
    }

    /// The result as a set of its own, at least one set given. Its encoding is that of a set to which the members of the
    /// result were added one by one.
    pub fn result(self, sets: &[SetRef<'_>], limits: &SetLimits, hasher: &KeyHasher) -> Set {
        if let Some(rest) = self.subtract(sets, hasher) {
            return if rest.view().is_large(limits) {
                rest
            } else {
                let mut result = Set::new();
                result.add_all(rest.view(), limits, hasher);
                result
            };
        }
        if self != Operation::Union {
            let mut result = Set::new();
            Algebra::new(self, sets.to_vec()).step(usize::MAX, hasher, |member| {
                result.add(member, limits, hasher);
            });
            return result;
        }
        // What is a table for its length alone stays one: it is not built again, but shared and added to.
        let largest = (0..sets.len()).max_by_key(|&index| sets[index].len());
        let base = largest.filter(|&index| sets[index].is_large(limits));
        let mut result = base.map_or_else(Set::new, |index| sets[index].snapshot());
        for (index, set) in sets.iter().enumerate() {
            if Some(index) != base {
                result.add_all(*set, limits, hasher);
            }
        }
        result
    }

    /// A difference by taking away from a copy of the first set, which for a table costs only what is taken: where this is
    /// less than to look for each of its members in all others.
    fn subtract(self, sets: &[SetRef<'_>], hasher: &KeyHasher) -> Option<Set> {
        let (first, others) = sets.split_first()?;
        let removals = Operation::Union.work(others);
        let lookups = first.len().saturating_mul(others.len());
        if self != Operation::Difference
            || !matches!(first, SetRef::Table(_))
            || removals.saturating_mul(REMOVAL_COST) >= lookups
        {
            return None;
        }
        let mut rest = first.snapshot();
        for member in others.iter().flat_map(|set| set.iter()) {
            rest.remove(member, hasher);
        }
        Some(rest)
    }
}

/// Sets of a union up to which each member is looked for in the sets before its own; with more the result is built.
const MOST_LOOKED_THROUGH: usize = 2;
/// What a removal costs, in lookups.
const REMOVAL_COST: usize = 4;

/// The result of an operation on sets, a bounded number of members at a time.
pub struct Algebra<'a> {
    operation: Operation,
    sets: Vec<SetRef<'a>>,
    /// The set that is gone through.
    current: usize,
    members: Members<'a>,
}

impl<'a> Algebra<'a> {
    /// The operation on `sets`, at least one. A key that is not there is an empty set.
    pub fn new(operation: Operation, mut sets: Vec<SetRef<'a>>) -> Algebra<'a> {
        if operation == Operation::Intersection {
            sets.sort_by_key(|set| set.len());
        }
        let members = sets[0].iter();
        Algebra {
            operation,
            sets,
            current: 0,
            members,
        }
    }

    /// Goes through at most `limit` members, in the result or not, and shows those that are to `visit`. Whether it is done.
    pub fn step(
        &mut self,
        limit: usize,
        hasher: &KeyHasher,
        mut visit: impl FnMut(Item<'a>),
    ) -> bool {
        for _ in 0..limit {
            let Some(member) = self.next_member() else {
                return true;
            };
            if self.is_in_result(member, hasher) {
                visit(member);
            }
        }
        false
    }

    fn next_member(&mut self) -> Option<Item<'a>> {
        loop {
            if let Some(member) = self.members.next() {
                return Some(member);
            }
            if self.operation != Operation::Union {
                return None;
            }
            self.current += 1;
            self.members = self.sets.get(self.current)?.iter();
        }
    }

    fn is_in_result(&self, member: Item<'_>, hasher: &KeyHasher) -> bool {
        let holds = |set: &SetRef<'_>| set.contains(member, hasher);
        match self.operation {
            Operation::Intersection => self.sets[1..].iter().all(holds),
            Operation::Union => !self.sets[..self.current].iter().any(holds),
            Operation::Difference => !self.sets[1..].iter().any(holds),
        }
    }
}

#[cfg(test)]
mod tests;
