//! Fields with values: a compact sequence while it is small, then a table; fields may expire.
//!
//! ```text
//! listpack      field value field value ..                in the order in which the fields came
//! listpackex    field value expiry field value expiry ..  by expiry, the soonest first; those without (0) at the end
//! hashtable     a table of pairs; beside it, only if fields expire, the expiries by field and a queue by time
//! ```
//!
//! The forms, their order and their limits are those of Redis 7.4, and as there a hash never goes back. What expires and
//! is not yet removed is invisible to all that takes `now`; [`Hash::take_expired`] removes it.

use self::times::Times;
use super::dense::{Content, Dense, Entries};
use super::packed::{self, Element, Item, Packed, PackedRef};
use super::remains::Remains;
use super::sample;
use super::value::Small;
use crate::base::allocator::good_size;
use crate::base::clock::Millis;
use crate::base::hash::KeyHasher;
use crate::base::rng::Rng;

/// Up to where a hash stays small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashLimits {
    /// `hash-max-listpack-entries`, in fields.
    pub max_listpack_entries: usize,
    /// `hash-max-listpack-value`, in bytes of a field or value.
    pub max_listpack_value: usize,
}

impl Default for HashLimits {
    /// Those of Redis.
    fn default() -> Self {
        HashLimits {
            max_listpack_entries: 512,
            max_listpack_value: 64,
        }
    }
}

/// What becomes of a field's expiry when it gets another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It goes: HSET.
    Clear,
    /// It stays: HINCRBY.
    Keep,
}

/// A field, its value, and when it expires.
pub type Entry<'a> = (Item<'a>, Item<'a>, Option<Millis>);

/// The hash. All calls on one hash take the same hasher.
#[derive(Clone)]
pub struct Hash(Form);

#[derive(Clone)]
enum Form {
    /// Pairs.
    Packed(Packed),
    /// Triples.
    Expiring(Packed),
    Table(Box<Table>),
}

/// The representation of large hashes.
#[derive(Clone, Default)]
pub struct Table {
    fields: Dense<true>,
    times: Option<Box<Times>>,
}

/// A hash to be read.
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    /// Pairs: those of a [`struct@Hash`], or its compact form.
    Packed(PackedRef<'a>),
    /// Triples: field, value, expiry.
    Expiring(PackedRef<'a>),
    /// As in large hashes.
    Table(&'a Table),
}

/// Pairs.
impl<'a> From<PackedRef<'a>> for HashRef<'a> {
    fn from(pairs: PackedRef<'a>) -> HashRef<'a> {
        HashRef::Packed(pairs)
    }
}

/// A hash of pairs.
impl From<Packed> for Hash {
    fn from(pairs: Packed) -> Hash {
        Hash(Form::Packed(pairs))
    }
}

impl Default for Hash {
    fn default() -> Self {
        Hash::new()
    }
}

impl Hash {
    /// An empty hash.
    pub fn new() -> Hash {
        Hash(Form::Packed(Packed::new()))
    }

    /// Makes it a table before `more` fields are added, when so many would make it one anyway.
    pub fn expect_more(&mut self, more: usize, limits: &HashLimits, hasher: &KeyHasher) {
        if more > limits.max_listpack_entries {
            self.become_table(hasher);
        }
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> HashRef<'_> {
        match &self.0 {
            Form::Packed(pairs) => HashRef::Packed(pairs.view()),
            Form::Expiring(triples) => HashRef::Expiring(triples.view()),
            Form::Table(table) => HashRef::Table(table),
        }
    }

    /// The pairs of a small hash in which no field expires.
    #[inline]
    pub fn small(&self) -> Option<Small<'_>> {
        match &self.0 {
            Form::Packed(pairs) => Some(Small::Packed(pairs)),
            Form::Expiring(_) | Form::Table(_) => None,
        }
    }

    /// How many fields, expired ones that were not removed yet included.
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
            Form::Packed(packed) | Form::Expiring(packed) => packed.allocated_bytes(),
            Form::Table(table) => {
                let times = table.times.as_ref().map_or(0, |times| {
                    good_size(size_of::<Times>()) + times.allocated_bytes()
                });
                good_size(size_of::<Table>()) + table.fields.allocated_bytes() + times
            }
        }
    }

    /// Gives a field a value. Whether the field is new. One that has expired counts as there: remove it before.
    pub fn set(
        &mut self,
        field: &[u8],
        value: &[u8],
        expiry: Expiry,
        limits: &HashLimits,
        hasher: &KeyHasher,
    ) -> bool {
        self.set_content(field, value.into(), expiry, limits, hasher)
    }

    /// As [`Hash::set`], for a value whose buffer may be kept.
    pub fn set_content(
        &mut self,
        field: &[u8],
        value: Content<'_>,
        expiry: Expiry,
        limits: &HashLimits,
        hasher: &KeyHasher,
    ) -> bool {
        let bytes = value.as_slice();
        let (name, content) = (Element::from(field), Element::from(bytes));
        if let Form::Packed(packed) | Form::Expiring(packed) = &self.0 {
            let longest = field.len().max(bytes.len());
            if longest > limits.max_listpack_value || !packed.has_room(name.size() + content.size())
            {
                self.become_table(hasher);
            }
        }
        let added = match &mut self.0 {
            Form::Packed(pairs) => set_pair(pairs, name, content),
            Form::Expiring(triples) => set_triple(triples, name, content, expiry),
            Form::Table(table) => return table.set(field, value, expiry, hasher),
        };
        if self.len() > limits.max_listpack_entries {
            self.become_table(hasher);
        }
        added
    }

    /// Removes a field, expired or not. Whether it was there.
    pub fn remove(&mut self, field: &[u8], hasher: &KeyHasher) -> bool {
        let (packed, step) = match &mut self.0 {
            Form::Packed(pairs) => (pairs, 2),
            Form::Expiring(triples) => (triples, 3),
            Form::Table(table) => return table.remove(field, hasher),
        };
        let found = packed.view().find(field, step);
        if let Some(index) = found {
            packed.remove(index..index + step);
        }
        found.is_some()
    }

    /// Sets or clears the expiry of a field. Whether the field is there.
    pub fn set_expiry(&mut self, field: &[u8], expiry: Option<Millis>, hasher: &KeyHasher) -> bool {
        if let Form::Packed(pairs) = &self.0 {
            if expiry.is_none() || pairs.view().find(field, 2).is_none() {
                return pairs.view().find(field, 2).is_some();
            }
            self.0 = Form::Expiring(with_expiries(pairs));
        }
        match &mut self.0 {
            Form::Packed(_) => unreachable!("it has become a sequence of triples"),
            Form::Expiring(triples) => {
                let mut rest = triples.iter();
                let Some(index) = rest.seek(&field.into(), 3) else {
                    return false;
                };
                let value = rest.next().expect("a field has a value").to_vec();
                triples.remove(index..index + 3);
                insert_triple(triples, field.into(), value[..].into(), expiry);
                true
            }
            Form::Table(table) => table.set_expiry(field, expiry, hasher),
        }
    }

    /// Removes up to `limit` fields that have expired, and shows them to `visit`, the soonest first in small hashes.
    /// Returns how many.
    pub fn take_expired(
        &mut self,
        now: Millis,
        limit: usize,
        hasher: &KeyHasher,
        mut visit: impl FnMut(Item<'_>),
    ) -> usize {
        match &mut self.0 {
            Form::Packed(_) => 0,
            Form::Expiring(triples) => {
                let mut expired = 0;
                let mut rest = triples.iter();
                while expired < limit
                    && let Some(field) = rest.next()
                    && !is_live(expiry_of(rest.nth(1)), now)
                {
                    visit(field);
                    expired += 1;
                }
                triples.remove(0..3 * expired);
                expired
            }
            Form::Table(table) => table.take_expired(now, limit, hasher, visit),
        }
    }

    /// Its content, to be freed piece by piece; `None` when it is small.
    pub fn into_remains(self) -> Option<Remains> {
        let Form::Table(table) = self.0 else {
            return None;
        };
        let mut remains = table.fields.into_remains();
        if let Some(times) = table.times {
            times.move_to(&mut remains);
        }
        Some(remains)
    }

    fn become_table(&mut self, hasher: &KeyHasher) {
        if let Form::Table(_) = self.0 {
            return;
        }
        let mut table = Box::<Table>::default();
        for (field, value, expiry) in self.view().entries(hasher) {
            let (mut left, mut right) = (itoa::Buffer::new(), itoa::Buffer::new());
            let field = field.text(&mut left);
            table
                .fields
                .insert_new(hasher, field, value.text(&mut right));
            if expiry.is_some() {
                table.set_expiry(field, expiry, hasher);
            }
        }
        self.0 = Form::Table(table);
    }
}

impl<'a> HashRef<'a> {
    /// A copy, to be read while others change the original; of a large hash it shares what they do not change.
    pub fn snapshot(self) -> Hash {
        Hash(match self {
            HashRef::Packed(pairs) => Form::Packed(Packed::copy_of(pairs)),
            HashRef::Expiring(triples) => Form::Expiring(Packed::copy_of(triples)),
            HashRef::Table(table) => Form::Table(Box::new(table.clone())),
        })
    }

    /// Whether no field has expired, so that all that is there counts.
    pub fn is_all_live(self, now: Millis) -> bool {
        is_live(self.next_expiry(), now)
    }

    /// About how long a field and its value are together.
    pub fn average_bytes(self) -> usize {
        let bytes = match self {
            HashRef::Packed(pairs) | HashRef::Expiring(pairs) => {
                pairs.iter().map(Item::text_len).sum()
            }
            HashRef::Table(table) => table.fields.allocated_bytes(),
        };
        bytes / self.len().max(1)
    }

    /// How many fields, expired ones that were not removed yet included.
    pub fn len(self) -> usize {
        match self {
            HashRef::Packed(pairs) => pairs.len() / 2,
            HashRef::Expiring(triples) => triples.len() / 3,
            HashRef::Table(table) => table.fields.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The name of its encoding, as OBJECT ENCODING shows it.
    pub fn encoding(self) -> &'static str {
        match self {
            HashRef::Packed(_) => "listpack",
            HashRef::Expiring(_) => "listpackex",
            HashRef::Table(_) => "hashtable",
        }
    }

    /// The value of a field that has not expired.
    pub fn get(self, field: &[u8], now: Millis, hasher: &KeyHasher) -> Option<Item<'a>> {
        match self {
            HashRef::Packed(pairs) => {
                let mut rest = pairs.iter();
                rest.seek(&field.into(), 2)?;
                rest.next()
            }
            HashRef::Expiring(triples) => {
                let mut rest = triples.iter();
                rest.seek(&field.into(), 3)?;
                let value = rest.next();
                let live = is_live(expiry_of(rest.next()), now);
                value.filter(|_| live)
            }
            HashRef::Table(table) => {
                let spot = table.fields.find(hasher, field)?;
                let live = is_live(table.expiry(field, hasher), now);
                live.then(|| Item::Bytes(table.fields.value(spot)))
            }
        }
    }

    /// The value of a field, if it is held in a buffer that a reply can share: a long one in a table.
    pub fn shared_value(
        self,
        field: &[u8],
        now: Millis,
        hasher: &KeyHasher,
    ) -> Option<bytes::Bytes> {
        let HashRef::Table(table) = self else {
            return None;
        };
        let spot = table.fields.find(hasher, field)?;
        let live = is_live(table.expiry(field, hasher), now);
        table.fields.shared_value(spot).filter(|_| live).cloned()
    }

    /// Whether there is a field that has not expired.
    pub fn contains(self, field: &[u8], now: Millis, hasher: &KeyHasher) -> bool {
        self.get(field, now, hasher).is_some()
    }

    /// When a field expires; `None` without the field. It may lie in the past.
    pub fn expiry(self, field: &[u8], hasher: &KeyHasher) -> Option<Option<Millis>> {
        match self {
            HashRef::Packed(pairs) => pairs.find(field, 2).map(|_| None),
            HashRef::Expiring(triples) => {
                let mut rest = triples.iter();
                rest.seek(&field.into(), 3)?;
                Some(expiry_of(rest.nth(1)))
            }
            HashRef::Table(table) => {
                table.fields.find(hasher, field)?;
                Some(table.expiry(field, hasher))
            }
        }
    }

    /// When the next field expires; `None` when no field does.
    pub fn next_expiry(self) -> Option<Millis> {
        match self {
            HashRef::Packed(_) => None,
            HashRef::Expiring(triples) => expiry_of(triples.get(2)),
            HashRef::Table(table) => table.times.as_ref()?.next,
        }
    }

    /// All fields with their values, expired ones included.
    pub fn iter(self) -> Fields<'a> {
        Fields(match self {
            HashRef::Packed(pairs) => Source::Packed(pairs.iter(), 2),
            HashRef::Expiring(triples) => Source::Packed(triples.iter(), 3),
            HashRef::Table(table) => Source::Table(table.fields.iter()),
        })
    }

    /// All fields with their values and expiries, expired ones included. In a table it looks every field up once more.
    pub fn entries(self, hasher: &KeyHasher) -> impl Iterator<Item = Entry<'a>> {
        let mut fields = self.iter();
        std::iter::from_fn(move || fields.next_entry(self, hasher))
    }

    /// The fields that have not expired, with their values.
    pub fn live(
        self,
        now: Millis,
        hasher: &KeyHasher,
    ) -> impl Iterator<Item = (Item<'a>, Item<'a>)> {
        // Only where something has expired is there anything to look up.
        let all = self.is_all_live(now);
        let mut fields = self.iter();
        std::iter::from_fn(move || {
            loop {
                if all {
                    return fields.next();
                }
                let (field, value, expiry) = fields.next_entry(self, hasher)?;
                if is_live(expiry, now) {
                    return Some((field, value));
                }
            }
        })
    }

    /// Any field with its value, each with the same chance, expired ones included.
    pub fn random(self, rng: &Rng) -> Option<(Item<'a>, Item<'a>)> {
        let number =
            |step, packed: PackedRef<'_>| step * rng.below((packed.len() / step) as u64) as usize;
        match self {
            HashRef::Packed(pairs) => pair_at(pairs, number(2, pairs)),
            HashRef::Expiring(triples) => pair_at(triples, number(3, triples)),
            HashRef::Table(table) => table.fields.random(rng).map(|spot| {
                let (field, value) = table.fields.pair(spot);
                (Item::Bytes(field), Item::Bytes(value))
            }),
        }
    }

    /// Visits `count` different fields with their values, or all when there are no more: in the order of [`HashRef::iter`],
    /// except that some of a table come in random order. Expired ones included.
    pub fn sample(self, count: usize, rng: &Rng, mut visit: impl FnMut(Item<'a>, Item<'a>)) {
        if let HashRef::Table(table) = self {
            return table.fields.sample(count, rng, |spot| {
                let (field, value) = table.fields.pair(spot);
                visit(Item::Bytes(field), Item::Bytes(value));
            });
        }
        let (mut rest, mut passed) = (self.iter(), 0);
        sample::ascending(count, self.len(), rng, |number| {
            let (field, value) = rest.nth(number - passed).expect("below the length");
            visit(field, value);
            passed = number + 1;
        });
    }

    /// Visits about `count` fields that have not expired from `cursor` on and returns the next cursor, 0 at the end; a
    /// small hash is visited whole. What it promises is what [`Dense::scan`] does.
    pub fn scan(
        self,
        cursor: u64,
        count: usize,
        now: Millis,
        hasher: &KeyHasher,
        mut visit: impl FnMut(Item<'a>, Item<'a>),
    ) -> u64 {
        let HashRef::Table(table) = self else {
            for (field, value) in self.live(now, hasher) {
                visit(field, value);
            }
            return 0;
        };
        let all = self.is_all_live(now);
        table.fields.scan(cursor, count, |field, value| {
            if all || is_live(table.expiry(field, hasher), now) {
                visit(Item::Bytes(field), Item::Bytes(value));
            }
        })
    }
}

impl std::fmt::Debug for HashRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view().fmt(f)
    }
}

/// Fields with values.
#[derive(Clone)]
pub struct Fields<'a>(Source<'a>);

#[derive(Clone)]
enum Source<'a> {
    /// With the number of elements for each field.
    Packed(packed::Iter<'a>, usize),
    Table(Entries<'a, true>),
}

impl<'a> Fields<'a> {
    fn next_entry(&mut self, hash: HashRef<'a>, hasher: &KeyHasher) -> Option<Entry<'a>> {
        match (&mut self.0, hash) {
            (Source::Table(entries), HashRef::Table(table)) => {
                let (field, value) = entries.next()?;
                let expiry = table.expiry(field, hasher);
                Some((Item::Bytes(field), Item::Bytes(value), expiry))
            }
            (Source::Packed(items, 3), _) => {
                Some((items.next()?, items.next()?, expiry_of(items.next())))
            }
            _ => self.next().map(|(field, value)| (field, value, None)),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Packed(items, step) => {
                let pair = (items.next()?, items.next()?);
                if *step > 2 {
                    items.skip_front(*step - 2);
                }
                Some(pair)
            }
            Source::Table(entries) => entries
                .next()
                .map(|(field, value)| (Item::Bytes(field), Item::Bytes(value))),
        }
    }

    fn nth(&mut self, count: usize) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Packed(items, step) => items.skip_front(count.saturating_mul(*step)),
            Source::Table(entries) => _ = count.checked_sub(1).and_then(|last| entries.nth(last)),
        }
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Source::Packed(items, step) => items.len() / step,
            Source::Table(entries) => entries.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

fn is_live(expiry: Option<Millis>, now: Millis) -> bool {
    // In the millisecond after its expiry it is gone, as in Redis.
    expiry.is_none_or(|at| at >= now)
}

fn pair_at(packed: PackedRef<'_>, index: usize) -> Option<(Item<'_>, Item<'_>)> {
    let mut rest = packed.iter();
    Some((rest.nth(index)?, rest.next()?))
}

fn set_pair(pairs: &mut Packed, field: Element<'_>, value: Element<'_>) -> bool {
    let found = pairs.view().find(field, 2);
    match found {
        Some(index) => pairs.replace(index + 1, value),
        None => {
            pairs.push_back(field);
            pairs.push_back(value);
        }
    }
    found.is_none()
}

// The triples of a small hash with expiries.

/// The third element of a field that does not expire.
const NEVER: i64 = 0;

fn expiry_of(third: Option<Item<'_>>) -> Option<Millis> {
    let at = third?.int().expect("the third element is a time");
    (at != NEVER).then_some(Millis(at))
}

fn with_expiries(pairs: &Packed) -> Packed {
    let mut triples = Packed::new();
    for (field, value) in pairs.view().pairs() {
        triples.push_back(field);
        triples.push_back(value);
        triples.push_back(NEVER);
    }
    triples
}

fn set_triple(triples: &mut Packed, field: Element<'_>, value: Element<'_>, keep: Expiry) -> bool {
    let mut rest = triples.iter();
    let Some(index) = rest.seek(&field, 3) else {
        insert_triple(triples, field, value, None);
        return true;
    };
    let expires = expiry_of(rest.nth(1)).is_some();
    if expires && keep == Expiry::Clear {
        triples.remove(index..index + 3);
        insert_triple(triples, field, value, None);
    } else {
        triples.replace(index + 1, value);
    }
    false
}

/// Puts a field behind those that expire before it.
fn insert_triple(
    triples: &mut Packed,
    field: Element<'_>,
    value: Element<'_>,
    expiry: Option<Millis>,
) {
    let index = match expiry {
        None => triples.len(),
        Some(at) => {
            let mut rest = triples.iter();
            let mut index = 0;
            while let Some(third) = rest.nth(2)
                && expiry_of(Some(third)).is_some_and(|other| other < at)
            {
                index += 3;
            }
            index
        }
    };
    triples.insert(index, field);
    triples.insert(index + 1, value);
    triples.insert(index + 2, expiry.map_or(NEVER, |at| at.0));
}

impl Table {
    /// As [`Dense::warm`].
    pub fn warm(&self, hasher: &KeyHasher, fields: &[&[u8]]) {
        self.fields.warm(hasher, fields);
    }

    fn expiry(&self, field: &[u8], hasher: &KeyHasher) -> Option<Millis> {
        self.times.as_ref()?.expiry(field, hasher)
    }

    fn set(
        &mut self,
        field: &[u8],
        value: Content<'_>,
        expiry: Expiry,
        hasher: &KeyHasher,
    ) -> bool {
        let found = self.fields.find(hasher, field);
        match found {
            Some(spot) => self.fields.set_content(spot, value),
            None => self.fields.insert_content(hasher, field, value),
        }
        if found.is_some() && expiry == Expiry::Clear {
            self.clear_expiry(field, hasher);
        }
        found.is_none()
    }

    fn remove(&mut self, field: &[u8], hasher: &KeyHasher) -> bool {
        let removed = self.fields.remove(hasher, field);
        if removed {
            self.clear_expiry(field, hasher);
        }
        removed
    }

    fn set_expiry(&mut self, field: &[u8], expiry: Option<Millis>, hasher: &KeyHasher) -> bool {
        if self.fields.find(hasher, field).is_none() {
            return false;
        }
        match expiry {
            Some(at) => self.times.get_or_insert_default().set(field, at, hasher),
            None => self.clear_expiry(field, hasher),
        }
        true
    }

    fn clear_expiry(&mut self, field: &[u8], hasher: &KeyHasher) {
        if let Some(times) = &mut self.times {
            times.clear(field, hasher);
            if times.is_empty() {
                self.times = None;
            }
        }
    }

    fn take_expired(
        &mut self,
        now: Millis,
        limit: usize,
        hasher: &KeyHasher,
        mut visit: impl FnMut(Item<'_>),
    ) -> usize {
        let mut taken = 0;
        while taken < limit
            && let Some(times) = &mut self.times
            && let Some(field) = times.take_expired(now, hasher)
        {
            if times.is_empty() {
                self.times = None;
            }
            self.fields.remove(hasher, &field);
            visit(Item::Bytes(&field));
            taken += 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests;
mod times;
