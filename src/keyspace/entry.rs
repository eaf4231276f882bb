//! One key and its value in one allocation, behind a thin pointer.
//!
//! ```text
//! 0        4        8            16           ..
//! | access | lengths| [expiry]   | [key len]  | key | value, or a pointer to it |
//!   clock:24 key:12   if EXPIRY    if WIDE
//!   flags:8  value:14
//!            shape:6
//! ```
//!
//! The exact expiry of a short string stands in bits of the lengths and of the pointer, unless it lies too far ahead
//! ([`mod@near`]); else a word is added.
//!
//! A small collection stands there in its compact form ([`Value::write_compact`]), like a string with another type in the
//! flags and the form's [`Shape`] beside its length; a larger one is a `Box<Value>`.
//!
//! Small values stand behind the key. A value is boxed when the allocator's size classes make two allocations smaller
//! than one (1,024 B behind a 16 B key would take a class of 1,280 B; apart they take 32 and 1,024). From [`SHARED_MIN`] on a
//! value is a reference-counted `Bytes`, so that a reply can hold it while the partition is unlocked again.
//!
//! The pointer's upper 16 bits, which user-space addresses leave zero, hold a coarse expiry ([`expiry_tag`]): active expiry
//! and the volatile policies find their candidates in the table itself, without touching entries and without an index. A
//! hash whose fields expire has there what comes first, its own expiry or that of a field.
//!
//! Every allocation is made with the size of its class ([`slot_size`]), so that a value may change its length within the
//! class in place, and the size given back is the size that was asked.
//!
//! `unsafe` stands here because the layout cannot be had otherwise: dashmap with two boxed slices costs 113 B beyond key and
//! value, this layout about 28 B (README, "Figures"). The tests run under Miri.

#![expect(unsafe_code, reason = "one allocation per key; see the file's head")]

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};

use self::near::Layout as Near;
pub use self::near::{count_from, expiry_tag};
use self::slab::{release, slot_size};
use super::hash::KeyHasher;
use super::partition::Detached;
use crate::base::allocator::good_size;
use crate::base::clock::Millis;
use crate::data::packed::Shape;
use crate::data::remains::Remains;
use crate::data::value::{Collection, Compact, Type, Value, ValueRef};

mod near;
mod slab;

/// From this length on a value is reference-counted. Below it copying costs less than the count.
pub const SHARED_MIN: usize = 16 * 1024;

/// Growth from which a fresh zeroed allocation is cheaper than clearing memory by hand.
const ZEROED_MIN: usize = 1024 * 1024;

const HEADER_BYTES: usize = 8;
const POINTER_BYTES: usize = 8;
const KEY_BITS: u32 = 12;
const KEY_MAX: usize = (1 << KEY_BITS) - 1;
const VALUE_BITS: u32 = 14;
const VALUE_MAX: usize = (1 << VALUE_BITS) - 1;
const SHAPE_SHIFT: u32 = KEY_BITS + VALUE_BITS;
const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: usize = (1 << ADDRESS_BITS) - 1;

/// Milliseconds per step of the coarse expiry.
pub const TAG_UNIT_MS: i64 = 128;
/// Steps after which the coarse expiry repeats (2.3 hours).
pub const TAG_PERIOD: i64 = 65_535;

const KIND_MASK: u32 = 0b11;
const EXPIRY: u32 = 1 << 2;
const WIDE: u32 = 1 << 3;
/// Of a string: changed in place. Of a compact set: integers.
const RAW: u32 = 1 << 4;
const TYPE_SHIFT: u32 = 5;
const TYPE_MASK: u32 = 0b111 << TYPE_SHIFT;
/// In the place of the type: a string with its expiry in free bits, see [`Near`].
const NEAR_SMALL: u32 = 6 << TYPE_SHIFT;
const NEAR_MEDIUM: u32 = 7 << TYPE_SHIFT;
/// Of these flags [`Marks`] are made.
const MARKS_MASK: u32 = RAW | TYPE_MASK;
const FLAGS_MASK: u32 = 0xff;

const _: () = assert!(SHARED_MIN == VALUE_MAX + 1 && SHAPE_SHIFT + Shape::BITS == u32::BITS);
const _: () = assert!(Type::ALL.len() as u32 <= NEAR_SMALL >> TYPE_SHIFT);
const ACCESS_SHIFT: u32 = 8;

/// The longest compact form. Beyond it the box costs less than a tenth, and the copies of each change would be felt.
const COMPACT_MAX: usize = 512;

/// How the value is held. Two bits of the flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
enum Kind {
    /// Behind the key.
    Inline = 0,
    /// In an allocation of its own class, its length in the header.
    Boxed = 1,
    /// A `Box<Bytes>`.
    Shared = 2,
    /// A `Box<Value>`.
    Collection = 3,
}

/// A value to be stored.
#[derive(Clone)]
pub enum NewValue<'a> {
    /// Copied.
    Copy(&'a [u8]),
    /// Kept as it is when it is at least [`SHARED_MIN`] long, else copied.
    Shared(Bytes),
}

impl NewValue<'_> {
    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            NewValue::Copy(bytes) => bytes,
            NewValue::Shared(bytes) => bytes,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            NewValue::Copy(bytes) => Bytes::copy_from_slice(bytes),
            NewValue::Shared(bytes) => bytes,
        }
    }
}

/// What the header says of the value itself, whatever the way it is held.
#[derive(Clone, Copy)]
struct Marks {
    /// Those of [`MARKS_MASK`].
    flags: u32,
    /// Of a compact form, else 0.
    shape: u8,
}

impl Marks {
    fn is_string(self) -> bool {
        self.flags & TYPE_MASK == 0
    }
}

/// What an entry is made of beside its key.
enum Payload<'a> {
    /// A string, or a compact form.
    Bytes(NewValue<'a>),
    /// A collection.
    Collection(Box<Value>),
}

/// A string, as an entry holds it.
#[derive(Clone, Copy, Debug)]
pub enum Text<'e> {
    /// To be copied.
    Plain(&'e [u8]),
    /// To be shared.
    Shared(&'e Bytes),
}

/// What is freed off the request's path. Dropping it frees it.
#[derive(Debug)]
pub enum Garbage {
    /// A large string.
    Value(Bytes),
    /// A large collection.
    Remains(Remains),
    /// The partitions that a FLUSHALL or FLUSHDB emptied.
    Tables(Vec<Detached>),
}

/// A key with its value: owns one allocation (and a second one for boxed and shared values).
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns its memory alone; what may change behind a shared reference is the access word, an atomic.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

impl Entry {
    /// A string with its access word 0. `raw` marks one whose encoding is reported as raw.
    pub fn new(key: &[u8], value: NewValue<'_>, expiry: Option<Millis>, raw: bool) -> Entry {
        Entry::build(key, Payload::Bytes(value), expiry, string_marks(raw))
    }

    /// A collection with its access word 0.
    pub fn collection(key: &[u8], value: Value, expiry: Option<Millis>) -> Entry {
        with_compact(value, |compact, marks| match compact {
            Ok(bytes) => Entry::build(key, Payload::Bytes(NewValue::Copy(bytes)), expiry, marks),
            Err(value) => Entry::build(key, Payload::Collection(Box::new(value)), expiry, marks),
        })
    }

    fn build(key: &[u8], payload: Payload<'_>, expiry: Option<Millis>, marks: Marks) -> Entry {
        let wide = key.len() > KEY_MAX;
        let near = expiry.and_then(|at| match &payload {
            Payload::Bytes(value) if marks.is_string() => {
                Near::pack(key.len(), value.as_slice().len(), at)
            }
            _ => None,
        });
        let mut flags = match near {
            Some(near) => near_type(near.layout),
            None if expiry.is_some() => EXPIRY,
            None => 0,
        };
        flags |= if wide { WIDE } else { 0 };
        let key_at = key_offset(flags);
        let (kind, length) = match &payload {
            Payload::Bytes(value) => {
                let length = value.as_slice().len();
                (choose_kind(key_at + key.len(), length), length)
            }
            Payload::Collection(_) => (Kind::Collection, 0),
        };
        flags |= kind as u32 | marks.flags;
        let base = allocate(slot_size(key_at + key.len() + payload_bytes(kind, length)));
        // SAFETY: the allocation holds the header, the optional words, the key and the payload, whose offsets and sizes
        // come from the same functions; it is fresh, so nothing overlaps it.
        unsafe {
            base.cast::<AtomicU32>().write(AtomicU32::new(flags));
            let key_len = if wide { 0 } else { key.len() };
            let value_len = if kind == Kind::Shared { 0 } else { length };
            let lengths = match near {
                Some(near) => near.lengths,
                None => plain_lengths(key_len, value_len, marks.shape),
            };
            base.add(4).cast::<u32>().write(lengths);
            if let Some(at) = expiry.filter(|_| near.is_none()) {
                base.add(HEADER_BYTES).cast::<i64>().write(at.0);
            }
            if wide {
                base.add(key_at - 8).cast::<u64>().write(key.len() as u64);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), base.add(key_at).as_ptr(), key.len());
            write_payload(base.add(key_at + key.len()), kind, payload);
        }
        let mut entry = Entry(base);
        if kind == Kind::Collection {
            entry.retag();
        } else if let Some(near) = near {
            entry.set_tag(near.tag);
        } else if let Some(at) = expiry {
            entry.set_tag(expiry_tag(at));
        }
        entry
    }

    /// The coarse expiry of what comes first, the key or a field of its hash; 0 when neither expires. Read from the pointer
    /// alone.
    #[inline]
    pub fn tag(&self) -> u16 {
        (self.0.as_ptr().addr() >> ADDRESS_BITS) as u16
    }

    /// Where it stands, for a prefetch.
    #[inline]
    pub(super) fn address(&self) -> usize {
        self.0.as_ptr().addr() & ADDRESS_MASK
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let flags = self.flags();
        // SAFETY: `new` wrote this many bytes of key at this offset, and they never change.
        unsafe {
            std::slice::from_raw_parts(
                self.base().add(key_offset(flags)).as_ptr(),
                self.key_len(flags),
            )
        }
    }

    /// When it expires.
    #[inline]
    pub fn expiry(&self) -> Option<Millis> {
        let flags = self.flags();
        if flags & EXPIRY == 0 {
            return near(flags).map(|near| near.expiry(self.lengths(), self.tag()));
        }
        // SAFETY: the flag says that the word behind the header is there and written.
        Some(Millis(unsafe {
            self.base().add(HEADER_BYTES).cast::<i64>().read()
        }))
    }

    /// Whether the key expires.
    #[inline]
    pub fn is_volatile(&self) -> bool {
        self.tag() != 0 && has_expiry(self.flags())
    }

    /// When the next field of a hash expires.
    #[inline]
    pub fn next_field_expiry(&self) -> Option<Millis> {
        let flags = self.flags();
        // A hash with such fields has no compact form.
        if kind(flags) != Kind::Collection || type_of(flags) != Type::Hash {
            return None;
        }
        match self.collection_ref(flags).view() {
            ValueRef::Hash(hash) => hash.next_expiry(),
            _ => None,
        }
    }

    /// When the key or a field of its hash expires, whatever comes first.
    #[inline]
    pub fn first_expiry(&self) -> Option<Millis> {
        let (own, field) = (self.expiry(), self.next_field_expiry());
        own.into_iter().chain(field).min()
    }

    /// Whether it is expired at `now`: in the millisecond after its expiry, as in Redis.
    #[inline]
    pub fn is_expired(&self, now: Millis) -> bool {
        self.tag() != 0 && self.expiry().is_some_and(|at| now > at)
    }

    /// The type of the value.
    #[inline]
    pub fn kind(&self) -> Type {
        type_of(self.flags())
    }

    /// The value, to be read.
    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        let flags = self.flags();
        match kind(flags) {
            Kind::Collection => self.collection_ref(flags).view(),
            _ => ValueRef::from_compact(type_of(flags), self.compact_of(flags), self.bytes()),
        }
    }

    /// A copy of a collection; of a large one it shares what neither changes. `None` for a string.
    pub fn snapshot(&self) -> Option<Value> {
        let flags = self.flags();
        match kind(flags) {
            Kind::Collection => Some(self.collection_ref(flags).clone()),
            _ if type_of(flags) == Type::String => None,
            _ => Some(Value::from_compact(
                type_of(flags),
                self.compact_of(flags),
                self.bytes(),
            )),
        }
    }

    /// A string's bytes, or a collection's compact form; empty for a collection without one.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let flags = self.flags();
        match kind(flags) {
            Kind::Collection => &[],
            // SAFETY: the header's length is the number of initialised bytes at the payload's place.
            Kind::Inline => unsafe {
                std::slice::from_raw_parts(self.payload(flags).as_ptr(), self.value_len(flags))
            },
            // SAFETY: the payload is the pointer to an allocation of that many initialised bytes.
            Kind::Boxed => unsafe {
                std::slice::from_raw_parts(self.boxed(flags).as_ptr(), self.value_len(flags))
            },
            Kind::Shared => self.shared_ref(flags),
        }
    }

    /// A string, as it is held.
    #[inline]
    pub fn text(&self) -> Text<'_> {
        let flags = self.flags();
        match kind(flags) {
            // SAFETY: as in `bytes`.
            Kind::Inline => Text::Plain(unsafe {
                std::slice::from_raw_parts(self.payload(flags).as_ptr(), self.value_len(flags))
            }),
            Kind::Shared => Text::Shared(self.shared_ref(flags)),
            _ => Text::Plain(self.bytes()),
        }
    }

    /// The value as a shared buffer, when it is held as one.
    #[inline]
    pub fn shared(&self) -> Option<&Bytes> {
        let flags = self.flags();
        (kind(flags) == Kind::Shared).then(|| self.shared_ref(flags))
    }

    /// Whether it is a string that was changed in place (its encoding is reported as raw).
    pub fn is_raw(&self) -> bool {
        let flags = self.flags();
        flags & RAW != 0 && type_of(flags) == Type::String
    }

    /// The 24 bits of the access clock.
    #[inline]
    pub fn access(&self) -> u32 {
        self.word().load(Ordering::Relaxed) >> ACCESS_SHIFT
    }

    /// Sets the access clock. Written under the partition's lock only, so a plain load and store lose nothing.
    #[inline]
    pub fn set_access(&self, clock: u32) {
        let word = self.word();
        let flags = word.load(Ordering::Relaxed) & FLAGS_MASK;
        word.store(flags | clock << ACCESS_SHIFT, Ordering::Relaxed);
    }

    /// What it takes from the allocator, in bytes.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        let flags = self.flags();
        let own = self.own_bytes(flags);
        match kind(flags) {
            Kind::Inline => own,
            Kind::Boxed => own + slot_size(self.value_len(flags)),
            Kind::Shared => {
                own + good_size(size_of::<Bytes>()) + good_size(self.shared_ref(flags).len())
            }
            Kind::Collection => {
                own + good_size(size_of::<Value>()) + self.collection_ref(flags).allocated_bytes()
            }
        }
    }

    /// Replaces the value by a string, in place when its class stays the same. Returns a large old value, to be freed
    /// elsewhere.
    pub fn set_value(&mut self, value: NewValue<'_>, raw: bool) -> Option<Garbage> {
        self.replace(Payload::Bytes(value), string_marks(raw))
    }

    /// Puts a string in the place of another one, with an expiry in the place of the one that it has. Only the most frequent
    /// case: the value stands behind its key, fits the same class, and what expires did so before. Else nothing is changed,
    /// and `false` says so. What the entry takes from the allocator stays as it is.
    #[inline]
    pub fn overwrite(&mut self, value: &[u8], raw: bool, expiry: Option<Millis>) -> bool {
        let flags = self.flags();
        // `Kind::Inline` is 0, and so is the type of a string without an expiry.
        if flags & (KIND_MASK | EXPIRY | WIDE) != 0 {
            return false;
        }
        let lengths = self.lengths();
        let (key, old, kind, lengths, tag) = match (near(flags), expiry) {
            (None, None) if flags & TYPE_MASK == 0 => {
                let (key, old) = (lengths as usize & KEY_MAX, lengths >> KEY_BITS);
                (key, old as usize, 0, plain_lengths(key, value.len(), 0), 0)
            }
            (Some(near), Some(at)) => {
                let key = lengths as usize & Near::KEY_MAX;
                let Some(new) = Near::pack(key, value.len(), at) else {
                    return false;
                };
                let old = near.value_len(lengths);
                (key, old, near_type(new.layout), new.lengths, new.tag)
            }
            _ => return false,
        };
        let front = HEADER_BYTES + key;
        if value.len() != old
            && (choose_kind(front, value.len()) != Kind::Inline
                || slot_size(front + value.len()) != slot_size(front + old))
        {
            return false;
        }
        // SAFETY: the allocation has the size of its class, which holds the new value too; `value` is borrowed from
        // elsewhere, since `self` is borrowed mutably.
        unsafe {
            let payload = self.base().add(front);
            ptr::copy_nonoverlapping(value.as_ptr(), payload.as_ptr(), value.len());
        }
        self.set_lengths(lengths);
        self.set_flags(flags & !MARKS_MASK | kind | string_marks(raw).flags);
        if tag != 0 {
            self.set_tag(tag);
        }
        true
    }

    /// Replaces the value by a collection. Returns a large old value, to be freed elsewhere.
    pub fn set_collection(&mut self, value: Value) -> Option<Garbage> {
        with_compact(value, |compact, marks| match compact {
            Ok(bytes) => self.replace(Payload::Bytes(NewValue::Copy(bytes)), marks),
            Err(value) => self.replace(Payload::Collection(Box::new(value)), marks),
        })
    }

    /// The collection of an entry that holds it in a box of its own. Who changed it calls [`Entry::settle_collection`] then,
    /// unless it is of a kind without expiries and has no compact form.
    #[inline]
    pub(super) fn boxed_collection<C: Collection>(&mut self) -> Option<&mut C> {
        let flags = self.flags();
        if kind(flags) != Kind::Collection {
            return None;
        }
        // SAFETY: the payload is a valid `Box<Value>`, and `&mut self` makes it ours alone.
        C::of(unsafe { self.boxed(flags).cast::<Value>().as_mut() })
    }

    /// Takes note of a changed collection in a box: of when its fields expire, and whether it has become small.
    pub(super) fn settle_collection(&mut self) {
        self.retag();
        let flags = self.flags();
        let is_small = |bytes| bytes <= COMPACT_MAX / 2;
        if kind(flags) == Kind::Collection
            && self
                .collection_ref(flags)
                .compact_len()
                .is_some_and(is_small)
            && let Some(value) = self.take_collection()
        {
            self.set_collection(*value);
        }
    }

    /// Lets `change` work on a collection, and keeps what it made of it. A string is left alone and gives `None`.
    pub fn edit_collection<T>(&mut self, change: impl FnOnce(&mut Value) -> T) -> Option<T> {
        let flags = self.flags();
        if kind(flags) == Kind::Collection {
            // SAFETY: the payload is a valid `Box<Value>`, and `&mut self` makes it ours alone.
            let value = unsafe { self.boxed(flags).cast::<Value>().as_mut() };
            let result = change(value);
            self.settle_collection();
            return Some(result);
        }
        if type_of(flags) == Type::String {
            return None;
        }
        let mut value = Value::from_compact(type_of(flags), self.compact_of(flags), self.bytes());
        let result = change(&mut value);
        self.set_collection(value);
        Some(result)
    }

    /// Takes up to `limit` fields out of a hash that have expired.
    pub fn take_expired_fields(
        &mut self,
        now: Millis,
        limit: usize,
        hasher: &KeyHasher,
    ) -> Vec<Vec<u8>> {
        let mut fields = Vec::new();
        self.edit_collection(|value| {
            if let Value::Hash(hash) = value {
                hash.take_expired(now, limit, hasher, |field| fields.push(field.to_vec()));
            }
        });
        fields
    }

    fn replace(&mut self, payload: Payload<'_>, marks: Marks) -> Option<Garbage> {
        let (flags, lengths) = (self.flags(), self.lengths());
        let front = key_offset(flags) + self.key_len(flags);
        if let Payload::Bytes(value) = &payload {
            let length = value.as_slice().len();
            let header = match near(flags) {
                None => {
                    let key = lengths as usize & KEY_MAX;
                    let lengths = plain_lengths(key, length, marks.shape);
                    Some((lengths, flags & !MARKS_MASK | marks.flags))
                }
                Some(near) if marks.is_string() && near.holds(length) => {
                    let lengths = near.with_value_len(lengths, length);
                    Some((lengths, flags & !RAW | marks.flags))
                }
                Some(_) => None,
            };
            if let Some((lengths, new_flags)) = header
                && kind(flags) == Kind::Inline
                && choose_kind(front, length) == Kind::Inline
                && slot_size(front + length) == self.own_bytes(flags)
            {
                // SAFETY: the allocation has the size of its class, which holds the new value; `value` is borrowed from
                // elsewhere, since `self` is borrowed mutably.
                unsafe {
                    ptr::copy_nonoverlapping(
                        value.as_slice().as_ptr(),
                        self.payload(flags).as_ptr(),
                        length,
                    )
                };
                self.set_lengths(lengths);
                self.set_flags(new_flags);
                return None;
            }
        }
        let fresh = Entry::build(self.key(), payload, self.expiry(), marks);
        fresh.set_access(self.access());
        let old = std::mem::replace(self, fresh);
        old.into_garbage()
    }

    /// Sets or clears the expiry, moving the entry when the word for it comes or goes.
    pub fn set_expiry(&mut self, expiry: Option<Millis>) {
        let flags = self.flags();
        match expiry {
            Some(at) if flags & EXPIRY != 0 => {
                // SAFETY: the flag says that the word is there.
                unsafe { self.base().add(HEADER_BYTES).cast::<i64>().write(at.0) };
                self.retag();
            }
            None if !has_expiry(flags) => {}
            _ if self.set_near_expiry(expiry) => {}
            _ => self.rebuild(expiry, None),
        }
    }

    /// Sets or clears the expiry of a string that has no word for it and needs none; whether that is so.
    fn set_near_expiry(&mut self, expiry: Option<Millis>) -> bool {
        let flags = self.flags();
        if flags & (EXPIRY | WIDE) != 0 || type_of(flags) != Type::String {
            return false;
        }
        let (key, value) = (self.key_len(flags), self.value_len(flags));
        let (kind, lengths, tag) = match expiry.map(|at| Near::pack(key, value, at)) {
            Some(Some(near)) => (near_type(near.layout), near.lengths, near.tag),
            Some(None) => return false,
            None => (0, plain_lengths(key, value, 0), 0),
        };
        self.set_lengths(lengths);
        self.set_flags(flags & !TYPE_MASK | kind);
        self.set_tag(tag);
        true
    }

    /// Gives the value to another key, with an expiry; the access clock stays.
    pub fn renamed(mut self, key: &[u8], expiry: Option<Millis>) -> Entry {
        self.rebuild(expiry, Some(key));
        self
    }

    /// Lets `change` write into the value, at least `length` bytes of it, zeros behind what was there; marks it raw.
    pub fn edit<T>(&mut self, length: usize, change: impl FnOnce(&mut [u8]) -> T) -> T {
        let old = self.bytes().len();
        if length > old {
            self.grow(length);
        }
        let flags = self.flags() | RAW;
        self.set_flags(flags);
        let start = match kind(flags) {
            Kind::Inline => self.payload(flags),
            Kind::Boxed => self.boxed(flags),
            Kind::Shared => return self.edit_shared(flags, change),
            Kind::Collection => return change(&mut []),
        };
        // SAFETY: as in `bytes`; the memory belongs to this entry alone, and `&mut self` makes it the only reference.
        change(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.value_len(flags)) })
    }

    /// Another key with the same value; of a large one they share what neither changes. Its access word is 0.
    pub fn copied(&self, key: &[u8], expiry: Option<Millis>) -> Entry {
        let marks = self.marks();
        match (self.shared(), kind(self.flags())) {
            (Some(shared), _) => {
                let value = NewValue::Shared(shared.clone());
                Entry::build(key, Payload::Bytes(value), expiry, marks)
            }
            (None, Kind::Collection) => {
                let value = Box::new(self.collection_ref(self.flags()).clone());
                Entry::build(key, Payload::Collection(value), expiry, marks)
            }
            (None, _) => {
                let value = NewValue::Copy(self.bytes());
                Entry::build(key, Payload::Bytes(value), expiry, marks)
            }
        }
    }

    /// Keeps a large value for a later drop; a small one is freed at once.
    pub fn into_garbage(mut self) -> Option<Garbage> {
        match self.take_collection() {
            Some(value) => value.into_remains().map(Garbage::Remains),
            None => self.shared().cloned().map(Garbage::Value),
        }
    }

    /// Takes a boxed collection out, and leaves a string of as many bytes as the pointer had.
    fn take_collection(&mut self) -> Option<Box<Value>> {
        let flags = self.flags();
        if kind(flags) != Kind::Collection {
            return None;
        }
        // SAFETY: the payload is a valid `Box<Value>`; from here on the flags say that there is none, so it is owned once.
        let value = unsafe { Box::from_raw(self.boxed(flags).cast::<Value>().as_ptr()) };
        self.set_flags(flags & !(KIND_MASK | MARKS_MASK) | Kind::Inline as u32);
        self.set_value_len(POINTER_BYTES, 0);
        Some(value)
    }

    fn grow(&mut self, length: usize) {
        let flags = self.flags();
        let front = key_offset(flags) + self.key_len(flags);
        let old = self.bytes().len();
        let same_class = match kind(flags) {
            Kind::Inline => {
                choose_kind(front, length) == Kind::Inline
                    && slot_size(front + length) == self.own_bytes(flags)
            }
            Kind::Boxed => length < SHARED_MIN && slot_size(length) == slot_size(old),
            Kind::Shared | Kind::Collection => false,
        };
        if same_class && near(flags).is_none_or(|near| near.holds(length)) {
            let start = if kind(flags) == Kind::Inline {
                self.payload(flags)
            } else {
                self.boxed(flags)
            };
            // SAFETY: the allocation has the size of its class, which also holds `length` bytes.
            unsafe { ptr::write_bytes(start.add(old).as_ptr(), 0, length - old) };
            self.set_value_len(length, 0);
            return;
        }
        if kind(flags) == Kind::Shared {
            // SAFETY: the payload of a shared entry is a valid `Box<Bytes>`, and `&mut self` makes it ours alone.
            let shared = unsafe { &mut *self.boxed(flags).cast::<Bytes>().as_ptr() };
            *shared = grown(std::mem::take(shared), length);
            return;
        }
        let mut fresh = grown(Bytes::copy_from_slice(self.bytes()), length);
        if length < SHARED_MIN {
            fresh = Bytes::copy_from_slice(&fresh);
        }
        self.set_value(NewValue::Shared(fresh), true);
    }

    /// Moves header, key and payload to a new allocation with another expiry or key. The payload is moved, not copied deep.
    fn rebuild(&mut self, expiry: Option<Millis>, key: Option<&[u8]>) {
        let marks = self.marks();
        let collection = self.take_collection();
        let flags = self.flags();
        let key = key.unwrap_or_else(|| self.key());
        let payload = match collection {
            Some(value) => Payload::Collection(value),
            None if kind(flags) == Kind::Shared => {
                Payload::Bytes(NewValue::Shared(self.shared_ref(flags).clone()))
            }
            None => Payload::Bytes(NewValue::Copy(self.bytes())),
        };
        let fresh = Entry::build(key, payload, expiry, marks);
        fresh.set_access(self.access());
        *self = fresh;
    }

    /// Changes a shared value: in place when no reply holds it, else a copy of it.
    fn edit_shared<T>(&mut self, flags: u32, change: impl FnOnce(&mut [u8]) -> T) -> T {
        // SAFETY: the payload of a shared entry is a valid `Box<Bytes>`, and `&mut self` makes it ours alone.
        let shared = unsafe { &mut *self.boxed(flags).cast::<Bytes>().as_ptr() };
        let mut unique = match std::mem::take(shared).try_into_mut() {
            Ok(unique) => unique,
            Err(held) => BytesMut::from(&held[..]),
        };
        let result = change(&mut unique);
        *shared = unique.freeze();
        result
    }

    #[inline]
    fn base(&self) -> NonNull<u8> {
        // SAFETY: the address bits of a live entry are those of its allocation, never zero.
        unsafe {
            NonNull::new_unchecked(self.0.as_ptr().map_addr(|address| address & ADDRESS_MASK))
        }
    }

    fn tagged(base: NonNull<u8>, tag: u16) -> NonNull<u8> {
        base.map_addr(|address| address | usize::from(tag) << ADDRESS_BITS)
    }

    fn retag(&mut self) {
        self.set_tag(self.first_expiry().map_or(0, expiry_tag));
    }

    fn set_tag(&mut self, tag: u16) {
        self.0 = Entry::tagged(self.base(), tag);
    }

    #[inline]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the first four bytes are an aligned, initialised AtomicU32 for as long as the entry lives.
        unsafe { self.base().cast::<AtomicU32>().as_ref() }
    }

    #[inline]
    fn flags(&self) -> u32 {
        self.word().load(Ordering::Relaxed) & FLAGS_MASK
    }

    fn set_flags(&mut self, flags: u32) {
        let word = self.word();
        let old = word.load(Ordering::Relaxed);
        word.store(old & !FLAGS_MASK | flags, Ordering::Relaxed);
    }

    #[inline]
    fn lengths(&self) -> u32 {
        // SAFETY: the second four bytes are an aligned, initialised u32.
        unsafe { self.base().add(4).cast::<u32>().read() }
    }

    fn set_lengths(&mut self, lengths: u32) {
        // SAFETY: as in `lengths`; `&mut self` makes it exclusive.
        unsafe { self.base().add(4).cast::<u32>().write(lengths) };
    }

    #[inline]
    fn value_len(&self, flags: u32) -> usize {
        match near(flags) {
            Some(near) => near.value_len(self.lengths()),
            None => (self.lengths() >> KEY_BITS) as usize & VALUE_MAX,
        }
    }

    #[inline]
    fn shape(&self) -> u8 {
        (self.lengths() >> SHAPE_SHIFT) as u8
    }

    fn marks(&self) -> Marks {
        let flags = self.flags();
        if near(flags).is_some() {
            return string_marks(flags & RAW != 0);
        }
        Marks {
            flags: flags & MARKS_MASK,
            shape: self.shape(),
        }
    }

    #[inline]
    fn compact_of(&self, flags: u32) -> Compact {
        if flags & RAW != 0 && type_of(flags) == Type::Set {
            Compact::Ints
        } else {
            Compact::Packed(Shape::from_bits(self.shape()))
        }
    }

    /// Sets the length of the value, which the layout of the lengths holds, and the shape if it has one.
    fn set_value_len(&mut self, length: usize, shape: u8) {
        debug_assert!(length < SHARED_MIN);
        let lengths = self.lengths();
        self.set_lengths(match near(self.flags()) {
            Some(near) => near.with_value_len(lengths, length),
            None => plain_lengths(lengths as usize & KEY_MAX, length, shape),
        });
    }

    #[inline]
    fn key_len(&self, flags: u32) -> usize {
        if flags & WIDE == 0 {
            let mask = if flags < NEAR_SMALL {
                KEY_MAX
            } else {
                Near::KEY_MAX
            };
            return self.lengths() as usize & mask;
        }
        // SAFETY: the flag says that the word in front of the key holds its length.
        unsafe { self.base().add(key_offset(flags) - 8).cast::<u64>().read() as usize }
    }

    #[inline]
    fn payload(&self, flags: u32) -> NonNull<u8> {
        // SAFETY: within the allocation: key and payload follow each other.
        unsafe { self.base().add(key_offset(flags) + self.key_len(flags)) }
    }

    /// The pointer held as payload. For boxed and shared entries only.
    #[inline]
    fn boxed(&self, flags: u32) -> NonNull<u8> {
        debug_assert_ne!(kind(flags), Kind::Inline);
        // SAFETY: `write_payload` wrote a non-null pointer there, unaligned.
        unsafe { self.payload(flags).cast::<NonNull<u8>>().read_unaligned() }
    }

    #[inline]
    fn shared_ref(&self, flags: u32) -> &Bytes {
        debug_assert_eq!(kind(flags), Kind::Shared);
        // SAFETY: the payload of a shared entry is a valid `Box<Bytes>`.
        unsafe { self.boxed(flags).cast::<Bytes>().as_ref() }
    }

    #[inline]
    fn collection_ref(&self, flags: u32) -> &Value {
        debug_assert_eq!(kind(flags), Kind::Collection);
        // SAFETY: the payload of a collection is a valid `Box<Value>`.
        unsafe { self.boxed(flags).cast::<Value>().as_ref() }
    }

    #[inline]
    fn own_bytes(&self, flags: u32) -> usize {
        slot_size(
            key_offset(flags)
                + self.key_len(flags)
                + payload_bytes(kind(flags), self.value_len(flags)),
        )
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let flags = self.flags();
        // SAFETY: the sizes are those of the allocations: every change of length either stays in its class or moves to
        // a new allocation; nothing refers to the entry any more.
        unsafe {
            match kind(flags) {
                Kind::Inline => {}
                Kind::Boxed => release(self.boxed(flags), slot_size(self.value_len(flags))),
                Kind::Shared => drop(Box::from_raw(self.boxed(flags).cast::<Bytes>().as_ptr())),
                Kind::Collection => drop(Box::from_raw(self.boxed(flags).cast::<Value>().as_ptr())),
            }
            release(self.base(), self.own_bytes(flags));
        }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key())
            .field("bytes", &self.bytes().len())
            .finish()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl std::hash::Hash for Entry {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.key());
    }
}

#[inline]
fn kind(flags: u32) -> Kind {
    match flags & KIND_MASK {
        0 => Kind::Inline,
        1 => Kind::Boxed,
        2 => Kind::Shared,
        _ => Kind::Collection,
    }
}

#[inline]
fn type_of(flags: u32) -> Type {
    let number = (flags & FLAGS_MASK) >> TYPE_SHIFT;
    // Written by this file alone, so always one of them, or a string whose expiry is near.
    *Type::ALL.get(number as usize).unwrap_or(&Type::String)
}

/// How the lengths are divided, when they have the expiry beside them.
#[inline]
fn near(flags: u32) -> Option<Near> {
    // The type stands in the highest bits.
    if flags < NEAR_SMALL {
        None
    } else if flags < NEAR_MEDIUM {
        Some(Near::Small)
    } else {
        Some(Near::Medium)
    }
}

fn near_type(near: Near) -> u32 {
    match near {
        Near::Small => NEAR_SMALL,
        Near::Medium => NEAR_MEDIUM,
    }
}

#[inline]
fn has_expiry(flags: u32) -> bool {
    flags & EXPIRY != 0 || near(flags).is_some()
}

/// The lengths as they stand without an expiry beside them; of a wide key 0.
#[inline]
fn plain_lengths(key: usize, value: usize, shape: u8) -> u32 {
    key as u32 | (value as u32) << KEY_BITS | u32::from(shape) << SHAPE_SHIFT
}

#[inline]
fn string_marks(raw: bool) -> Marks {
    Marks {
        flags: if raw { RAW } else { 0 },
        shape: 0,
    }
}

/// Calls `work` with a collection's compact form, or with itself when that is too long or there is none, and its marks.
fn with_compact<T>(value: Value, work: impl FnOnce(Result<&[u8], Value>, Marks) -> T) -> T {
    thread_local! {
        /// Holds the form while it is copied behind its key; [`COMPACT_MAX`] bytes at most.
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut marks = Marks {
        flags: u32::from(value.kind() as u8) << TYPE_SHIFT,
        shape: 0,
    };
    if value.compact_len().is_none_or(|bytes| bytes > COMPACT_MAX) {
        return work(Err(value), marks);
    }
    let mut bytes = SCRATCH.take();
    bytes.clear();
    match value.write_compact(&mut bytes) {
        Some(Compact::Packed(shape)) => marks.shape = shape.bits(),
        Some(Compact::Ints) => marks.flags |= RAW,
        None => {}
    }
    let result = work(Ok(&bytes), marks);
    SCRATCH.set(bytes);
    result
}

#[inline]
fn key_offset(flags: u32) -> usize {
    HEADER_BYTES + if flags & EXPIRY != 0 { 8 } else { 0 } + if flags & WIDE != 0 { 8 } else { 0 }
}

/// Where a value of `length` bytes goes behind `front` bytes of header and key: boxed when that saves a sixteenth.
#[inline]
fn choose_kind(front: usize, length: usize) -> Kind {
    if length >= SHARED_MIN {
        return Kind::Shared;
    }
    let inline = slot_size(front + length);
    if inline <= 256 {
        return Kind::Inline;
    }
    let boxed = slot_size(front + POINTER_BYTES) + slot_size(length);
    if boxed + inline / 16 <= inline {
        Kind::Boxed
    } else {
        Kind::Inline
    }
}

#[inline]
fn payload_bytes(kind: Kind, length: usize) -> usize {
    if kind == Kind::Inline {
        length
    } else {
        POINTER_BYTES
    }
}

/// Writes a value at its place.
///
/// # Safety
/// `at` must have room for `payload_bytes(kind, ..)` bytes.
unsafe fn write_payload(at: NonNull<u8>, kind: Kind, payload: Payload<'_>) {
    // SAFETY: the caller's duty; pointers are written unaligned, and the boxed copy has its own fresh allocation.
    unsafe {
        match payload {
            Payload::Collection(value) => at
                .cast::<*mut Value>()
                .write_unaligned(Box::into_raw(value)),
            Payload::Bytes(value) if kind == Kind::Shared => {
                let shared = Box::into_raw(Box::new(value.into_bytes()));
                at.cast::<*mut Bytes>().write_unaligned(shared);
            }
            Payload::Bytes(value) if kind == Kind::Boxed => {
                let bytes = value.as_slice();
                let apart = allocate(slot_size(bytes.len()));
                ptr::copy_nonoverlapping(bytes.as_ptr(), apart.as_ptr(), bytes.len());
                at.cast::<NonNull<u8>>().write_unaligned(apart);
            }
            Payload::Bytes(value) => {
                let bytes = value.as_slice();
                ptr::copy_nonoverlapping(bytes.as_ptr(), at.as_ptr(), bytes.len());
            }
        }
    }
}

/// The bytes with zeros up to `length`; without a copy when they are unshared and have room. The room is that of the size
/// class, no more: the account of memory knows the length alone, and to copy at each class is still to copy each byte of a
/// growing value some five times.
fn grown(bytes: Bytes, length: usize) -> Bytes {
    if length - bytes.len() >= ZEROED_MIN {
        let mut fresh = vec![0; length];
        fresh[..bytes.len()].copy_from_slice(&bytes);
        return Bytes::from(fresh);
    }
    let mut unique = match bytes.try_into_mut() {
        Ok(unique) if unique.capacity() >= length => unique,
        Ok(unique) => with_room(&unique, length),
        Err(held) => with_room(&held, length),
    };
    unique.resize(length, 0);
    unique.freeze()
}

fn with_room(bytes: &[u8], length: usize) -> BytesMut {
    let mut copy = BytesMut::with_capacity(good_size(length));
    copy.extend_from_slice(bytes);
    copy
}

/// Memory for an entry, of a size that [`slot_size`] gave.
fn allocate(size: usize) -> NonNull<u8> {
    let fresh = slab::allocate(size);
    assert_eq!(
        fresh.addr().get() & !ADDRESS_MASK,
        0,
        "the system hands out addresses beyond 48 bits"
    );
    fresh
}

#[cfg(test)]
mod tests;
