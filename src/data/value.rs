//! A value of any type but string, and the compact form that a small one has behind its key.
//!
//! The keyspace keeps a small collection as bytes ([`Value::write_compact`]) in the allocation of its key, and a larger one
//! as a [`Value`] of its own. Either is read through a [`ValueRef`]; to change a compact one is to make a [`Value`] of it,
//! change that and write it back.

use super::hash::{Hash, HashRef};
use super::intset::{IntSet, IntSetRef};
use super::list::{List, ListRef};
use super::packed::{Packed, PackedRef, Shape};
use super::remains::Remains;
use super::set::{Set, SetRef};
use super::stream::Stream;
use super::zset::{Scored, ScoredRef, ZSet, ZSetRef};
use crate::base::allocator::good_size;
use crate::base::hash::KeyHasher;

/// The type of a value. The numbers stand in the headers of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Type {
    /// Bytes.
    String = 0,
    /// A sequence.
    List = 1,
    /// Members.
    Set = 2,
    /// Members with scores.
    ZSet = 3,
    /// Fields with values.
    Hash = 4,
    /// Entries by id.
    Stream = 5,
}

impl Type {
    /// All of them, each at the index of its number.
    pub const ALL: [Type; 6] = [
        Type::String,
        Type::List,
        Type::Set,
        Type::ZSet,
        Type::Hash,
        Type::Stream,
    ];

    /// Its name, as TYPE and SCAN's TYPE know it.
    pub fn name(self) -> &'static str {
        match self {
            Type::String => "string",
            Type::List => "list",
            Type::Set => "set",
            Type::ZSet => "zset",
            Type::Hash => "hash",
            Type::Stream => "stream",
        }
    }

    /// Whether commands block until there is a key of this type.
    #[inline]
    pub fn can_be_waited_for(self) -> bool {
        matches!(self, Type::List | Type::ZSet | Type::Stream)
    }
}

/// What a small collection is.
#[derive(Clone, Copy, Debug)]
pub enum Small<'a> {
    /// Sorted integers.
    Ints(&'a IntSet),
    /// A sequence.
    Packed(&'a Packed),
    /// Members with scores.
    Scored(&'a Scored),
}

/// What one must know of a compact form to read it, besides the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compact {
    /// A [`Packed`], or for a sorted set a [`Scored`].
    Packed(Shape),
    /// An [`IntSet`].
    Ints,
}

/// A collection.
#[derive(Clone)]
pub enum Value {
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A sorted set.
    ZSet(ZSet),
    /// A hash.
    Hash(Hash),
    /// A stream: it has no compact form, and is larger than the others.
    Stream(Box<Stream>),
}

/// A value to be read.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    /// A string.
    String(&'a [u8]),
    /// A list.
    List(ListRef<'a>),
    /// A set.
    Set(SetRef<'a>),
    /// A sorted set.
    ZSet(ZSetRef<'a>),
    /// A hash.
    Hash(HashRef<'a>),
    /// A stream.
    Stream(&'a Stream),
}

/// A type of collection: what [`Value`] has a variant for.
pub trait Collection: Default {
    /// Which.
    const TYPE: Type;
    /// A value of it.
    fn into_value(self) -> Value;
    /// The collection that a value of this type is.
    fn of(value: &mut Value) -> Option<&mut Self>;
    /// The same, to be read.
    fn of_ref(value: ValueRef<'_>) -> Option<Self::Ref<'_>>;
    /// What it is read through.
    type Ref<'a>;
    /// Whether it has no elements.
    fn has_none(&self) -> bool;
    /// As [`Value::allocated_bytes`].
    fn allocated_bytes(&self) -> usize;
    /// Whether it has a compact form.
    fn has_compact(&self) -> bool;
}

macro_rules! collections {
    ($($name:ident: $reference:ident,)*) => {$(
        impl Collection for $name {
            const TYPE: Type = Type::$name;
            type Ref<'a> = $reference<'a>;

            fn into_value(self) -> Value {
                Value::$name(self)
            }

            #[inline]
            fn has_none(&self) -> bool {
                self.is_empty()
            }

            #[inline]
            fn allocated_bytes(&self) -> usize {
                self.allocated_bytes()
            }

            #[inline]
            fn has_compact(&self) -> bool {
                self.small().is_some()
            }

            #[inline]
            fn of(value: &mut Value) -> Option<&mut Self> {
                if let Value::$name(own) = value { Some(own) } else { None }
            }

            #[inline]
            fn of_ref(value: ValueRef<'_>) -> Option<$reference<'_>> {
                if let ValueRef::$name(own) = value { Some(own) } else { None }
            }
        }

        impl From<$name> for Value {
            fn from(value: $name) -> Value {
                Value::$name(value)
            }
        }
    )*};
}

collections! { List: ListRef, Set: SetRef, ZSet: ZSetRef, Hash: HashRef, }

impl Collection for Stream {
    const TYPE: Type = Type::Stream;
    type Ref<'a> = &'a Stream;

    fn into_value(self) -> Value {
        Value::Stream(Box::new(self))
    }

    /// Never: a stream lives without entries.
    #[inline]
    fn has_none(&self) -> bool {
        false
    }

    #[inline]
    fn allocated_bytes(&self) -> usize {
        good_size(size_of::<Stream>()) + self.allocated_bytes()
    }

    #[inline]
    fn has_compact(&self) -> bool {
        false
    }

    fn of(value: &mut Value) -> Option<&mut Self> {
        if let Value::Stream(own) = value {
            Some(own)
        } else {
            None
        }
    }

    fn of_ref(value: ValueRef<'_>) -> Option<&Stream> {
        if let ValueRef::Stream(own) = value {
            Some(own)
        } else {
            None
        }
    }
}

impl From<Stream> for Value {
    fn from(value: Stream) -> Value {
        value.into_value()
    }
}

impl Value {
    /// Its type.
    pub fn kind(&self) -> Type {
        match self {
            Value::List(_) => Type::List,
            Value::Set(_) => Type::Set,
            Value::ZSet(_) => Type::ZSet,
            Value::Hash(_) => Type::Hash,
            Value::Stream(_) => Type::Stream,
        }
    }

    /// To read it.
    #[inline]
    pub fn view(&self) -> ValueRef<'_> {
        match self {
            Value::List(list) => ValueRef::List(list.view()),
            Value::Set(set) => ValueRef::Set(set.view()),
            Value::ZSet(zset) => ValueRef::ZSet(zset.view()),
            Value::Hash(hash) => ValueRef::Hash(hash.view()),
            Value::Stream(stream) => ValueRef::Stream(stream),
        }
    }

    /// Elements, members, fields or entries.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether its key should go: whether there are none, except in a stream, which lives without entries.
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// What it takes from the allocator besides itself, in bytes.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        match self {
            Value::List(list) => list.allocated_bytes(),
            Value::Set(set) => set.allocated_bytes(),
            Value::ZSet(zset) => zset.allocated_bytes(),
            Value::Hash(hash) => hash.allocated_bytes(),
            Value::Stream(stream) => good_size(size_of::<Stream>()) + stream.allocated_bytes(),
        }
    }

    /// What is to be freed piece by piece; `None` when it is small.
    pub fn into_remains(self) -> Option<Remains> {
        match self {
            Value::List(list) => list.into_remains(),
            Value::Set(set) => set.into_remains(),
            Value::ZSet(zset) => zset.into_remains(),
            Value::Hash(hash) => hash.into_remains(),
            Value::Stream(stream) => stream.into_remains(),
        }
    }

    /// How long its compact form would be; `None` when it has none.
    #[inline]
    pub fn compact_len(&self) -> Option<usize> {
        match self.small()? {
            Small::Packed(packed) => Some(packed.view().compact_len()),
            Small::Scored(scored) => Some(scored.view().compact_len()),
            Small::Ints(ints) => Some(ints.compact_len()),
        }
    }

    /// Appends its compact form, and tells how it is to be read.
    pub fn write_compact(&self, out: &mut Vec<u8>) -> Option<Compact> {
        match self.small()? {
            Small::Packed(packed) => Some(Compact::Packed(packed.view().write_compact(out))),
            Small::Scored(scored) => Some(Compact::Packed(scored.view().write_compact(out))),
            Small::Ints(ints) => {
                ints.write_compact(out);
                Some(Compact::Ints)
            }
        }
    }

    /// The collection that a compact form is of.
    pub fn from_compact(kind: Type, compact: Compact, bytes: &[u8]) -> Value {
        let shape = match compact {
            Compact::Packed(shape) => shape,
            Compact::Ints => {
                return Value::Set(IntSet::from(IntSetRef::from_compact(bytes)).into());
            }
        };
        let packed = || Packed::copy_of(PackedRef::from_compact(bytes, shape));
        match kind {
            Type::Set => Value::Set(packed().into()),
            Type::ZSet => {
                Value::ZSet(Scored::copy_of(ScoredRef::from_compact(bytes, shape)).into())
            }
            Type::Hash => Value::Hash(packed().into()),
            Type::List | Type::String | Type::Stream => Value::List(packed().into()),
        }
    }

    #[inline]
    fn small(&self) -> Option<Small<'_>> {
        match self {
            Value::List(list) => list.small(),
            Value::Set(set) => set.small(),
            Value::ZSet(zset) => zset.small(),
            Value::Hash(hash) => hash.small(),
            Value::Stream(_) => None,
        }
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.kind().name(), self.len())
    }
}

impl<'a> ValueRef<'a> {
    /// Reads where these members or fields stand, side by side, so that requests that look for one after the other do not
    /// wait for the memory each time. Changes nothing.
    pub fn warm(&self, hasher: &KeyHasher, members: &[&[u8]]) {
        match self {
            ValueRef::Set(SetRef::Table(table)) => table.warm(hasher, members),
            ValueRef::Hash(HashRef::Table(table)) => table.warm(hasher, members),
            ValueRef::ZSet(ZSetRef::Full(full)) => full.warm(members),
            _ => {}
        }
    }

    /// Reads a string, or a compact form.
    #[inline]
    pub fn from_compact(kind: Type, compact: Compact, bytes: &'a [u8]) -> ValueRef<'a> {
        let shape = match compact {
            Compact::Packed(shape) => shape,
            Compact::Ints => return ValueRef::Set(SetRef::Ints(IntSetRef::from_compact(bytes))),
        };
        let packed = || PackedRef::from_compact(bytes, shape);
        match kind {
            Type::String => ValueRef::String(bytes),
            // Streams have no compact form.
            Type::List | Type::Stream => ValueRef::List(ListRef::Packed(packed())),
            Type::Set => ValueRef::Set(SetRef::Packed(packed())),
            Type::ZSet => ValueRef::ZSet(ZSetRef::Packed(ScoredRef::from_compact(bytes, shape))),
            Type::Hash => ValueRef::Hash(HashRef::Packed(packed())),
        }
    }

    /// Elements, members, fields or entries; bytes of a string.
    pub fn len(self) -> usize {
        match self {
            ValueRef::String(bytes) => bytes.len(),
            ValueRef::List(list) => list.len(),
            ValueRef::Set(set) => set.len(),
            ValueRef::ZSet(zset) => zset.len(),
            ValueRef::Hash(hash) => hash.len(),
            ValueRef::Stream(stream) => stream.len() as usize,
        }
    }

    /// As [`Value::is_empty`].
    pub fn is_empty(self) -> bool {
        self.len() == 0 && !matches!(self, ValueRef::Stream(_))
    }

    /// The name of a collection's encoding, as OBJECT ENCODING shows it; that of a string depends on its history too.
    pub fn encoding(self) -> Option<&'static str> {
        match self {
            ValueRef::String(_) => None,
            ValueRef::List(list) => Some(list.encoding()),
            ValueRef::Set(set) => Some(set.encoding()),
            ValueRef::ZSet(zset) => Some(zset.encoding()),
            ValueRef::Hash(hash) => Some(hash.encoding()),
            ValueRef::Stream(_) => Some("stream"),
        }
    }
}
