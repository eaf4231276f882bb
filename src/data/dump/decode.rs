//! The types out of a payload.

use std::borrow::Cow;

use super::listpack::Listpack;
use super::read::{Malformed, Reader, Taken};
use super::stream;
use super::text::Text;
use super::ziplist::{Ziplist, Zipmap};
use super::{Dumped, Rules, types};
use crate::base::clock::Millis;
use crate::data::hash::{Expiry, Hash};
use crate::data::list::{self, End, List};
use crate::data::number;
use crate::data::packed::Item;
use crate::data::set::Set;
use crate::data::value::Value;
use crate::data::zset::{AddRules, Added, Aggregate, Collect, ZSet};

/// The value that `bytes` hold. What stands behind it is not looked at, as in Redis.
pub(super) fn value(bytes: &[u8], rules: &Rules<'_>) -> Taken<Dumped> {
    let mut reader = Reader::new(bytes);
    let reader = &mut reader;
    let value: Value = match reader.byte()? {
        types::STRING => return Ok(Dumped::String(reader.string()?.into_vec())),
        types::LIST => list(reader, rules)?.into(),
        types::LIST_ZIPLIST => list_of_ziplists(reader, 1, rules)?.into(),
        types::LIST_QUICKLIST => {
            let nodes = reader.count()?;
            list_of_ziplists(reader, nodes, rules)?.into()
        }
        types::LIST_QUICKLIST_2 => list_of_nodes(reader, rules)?.into(),
        types::SET => set(reader, rules)?.into(),
        types::SET_INTSET => set_of_integers(reader, rules)?.into(),
        types::SET_LISTPACK => set_of_listpack(reader, rules)?.into(),
        types::ZSET => zset(reader, |reader| reader.text_double(), rules)?.into(),
        types::ZSET_2 => zset(reader, |reader| reader.double(), rules)?.into(),
        types::ZSET_ZIPLIST => zset_of_ziplist(reader, rules)?.into(),
        types::ZSET_LISTPACK => zset_of_listpack(reader, rules)?.into(),
        types::HASH => hash(reader, rules)?.into(),
        types::HASH_ZIPMAP => hash_of_zipmap(reader, rules)?.into(),
        types::HASH_ZIPLIST => hash_of_ziplist(reader, rules)?.into(),
        types::HASH_LISTPACK => hash_of_listpack(reader, rules)?.into(),
        kind @ (types::STREAM | types::STREAM_2 | types::STREAM_3) => {
            stream::read(reader, kind)?.into()
        }
        types::HASH_METADATA => expiring_hash(reader, rules)?.into(),
        types::HASH_LISTPACK_EX => expiring_hash_of_listpack(reader, rules)?.into(),
        _ => return Err(Malformed),
    };
    if value.is_empty() {
        return Err(Malformed);
    }
    Ok(Dumped::Collection(value))
}

fn list(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<List> {
    let mut list = List::new();
    for _ in 0..reader.count()? {
        push(&mut list, reader.string()?.item(), rules);
    }
    Ok(list)
}

fn list_of_ziplists(reader: &mut Reader<'_>, nodes: usize, rules: &Rules<'_>) -> Taken<List> {
    let mut list = List::new();
    for _ in 0..nodes {
        let bytes = blob(reader)?;
        let mut ziplist = Ziplist::new(&bytes)?;
        while let Some(item) = ziplist.next()? {
            push(&mut list, item, rules);
        }
    }
    Ok(list)
}

fn list_of_nodes(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<List> {
    let mut list = List::new();
    for _ in 0..reader.count()? {
        match reader.number()? {
            types::PLAIN_NODE => {
                let text = reader.string()?;
                if text.item().text_len() == 0 {
                    return Err(Malformed);
                }
                push(&mut list, text.item(), rules);
            }
            types::PACKED_NODE => {
                let bytes = blob(reader)?;
                let mut listpack = Listpack::new(&bytes)?;
                while let Some(item) = listpack.next()? {
                    push(&mut list, item, rules);
                }
            }
            _ => return Err(Malformed),
        }
    }
    Ok(list)
}

fn push(list: &mut List, item: Item<'_>, rules: &Rules<'_>) {
    let text = &mut itoa::Buffer::new();
    list.push(End::Tail, list::Text::Copy(item.text(text)), rules.list);
}

fn set(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Set> {
    let mut set = SetBuilder::new(reader.count()?, rules);
    for _ in 0..set.expected {
        set.add(reader.string()?.item())?;
    }
    Ok(set.finish())
}

fn set_of_listpack(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Set> {
    let bytes = blob(reader)?;
    let mut listpack = Listpack::new(&bytes)?;
    let mut set = SetBuilder::new(listpack.most(), rules);
    while let Some(member) = listpack.next()? {
        set.add(member)?;
    }
    Ok(set.finish())
}

/// Bytes of each (4), how many (4), and they, ascending.
fn set_of_integers(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Set> {
    let bytes = blob(reader)?;
    let mut reader = Reader::new(&bytes);
    let width = u32::from_le_bytes(reader.array()?);
    let count = u32::from_le_bytes(reader.array()?) as usize;
    if count.checked_mul(width as usize) != Some(reader.remaining()) {
        return Err(Malformed);
    }
    let mut set = SetBuilder::new(count, rules);
    let mut last = None;
    for _ in 0..count {
        let value = match width {
            2 => i16::from_le_bytes(reader.array()?).into(),
            4 => i32::from_le_bytes(reader.array()?).into(),
            8 => i64::from_le_bytes(reader.array()?),
            _ => return Err(Malformed),
        };
        if last >= Some(value) {
            return Err(Malformed);
        }
        last = Some(value);
        set.add(Item::Int(value))?;
    }
    Ok(set.finish())
}

struct SetBuilder<'a> {
    set: Option<Set>,
    expected: usize,
    rules: &'a Rules<'a>,
}

impl<'a> SetBuilder<'a> {
    fn new(expected: usize, rules: &'a Rules<'a>) -> SetBuilder<'a> {
        SetBuilder {
            set: None,
            expected,
            rules,
        }
    }

    /// Adds a member, which must be new.
    fn add(&mut self, member: Item<'_>) -> Taken<()> {
        let rules = self.rules;
        let set = self
            .set
            .get_or_insert_with(|| Set::expecting(member, self.expected, &rules.set));
        match set.add(member, &rules.set, rules.hasher) {
            true => Ok(()),
            false => Err(Malformed),
        }
    }

    fn finish(self) -> Set {
        self.set.unwrap_or_default()
    }
}

fn zset(
    reader: &mut Reader<'_>,
    score: impl Fn(&mut Reader<'_>) -> Taken<f64>,
    rules: &Rules<'_>,
) -> Taken<ZSet> {
    let count = reader.count()?;
    // Not added one by one, even if they are few: in a listpack -0 would become 0 before a long member came.
    let mut zset = ZSetBuilder::Large(Box::default(), rules);
    for _ in 0..count {
        let member = reader.string()?;
        zset.add(member.item(), score(reader)?)?;
    }
    Ok(zset.finish())
}

fn zset_of_ziplist(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<ZSet> {
    let bytes = blob(reader)?;
    let mut ziplist = Ziplist::new(&bytes)?;
    let mut zset = ZSetBuilder::new(ziplist.most() / 2, rules);
    while let Some(member) = ziplist.next()? {
        let score = ziplist.next()?.ok_or(Malformed)?;
        zset.add(member, score_of(score)?)?;
    }
    Ok(zset.finish())
}

fn zset_of_listpack(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<ZSet> {
    let bytes = blob(reader)?;
    let mut listpack = Listpack::new(&bytes)?;
    let mut zset = ZSetBuilder::new(listpack.most() / 2, rules);
    while let Some(member) = listpack.next()? {
        zset.add(member, score_of(listpack.item()?)?)?;
    }
    Ok(zset.finish())
}

fn score_of(item: Item<'_>) -> Taken<f64> {
    match item {
        Item::Int(score) => Ok(score as f64),
        Item::Bytes(text) => number::parse_f64(text).ok_or(Malformed),
    }
}

/// A sorted set that is small, or one whose members are collected and then put in order.
enum ZSetBuilder<'a> {
    Small(ZSet, &'a Rules<'a>),
    Large(Box<Collect>, &'a Rules<'a>),
}

impl<'a> ZSetBuilder<'a> {
    fn new(expected: usize, rules: &'a Rules<'a>) -> ZSetBuilder<'a> {
        if expected <= rules.zset.entries {
            ZSetBuilder::Small(ZSet::new(), rules)
        } else {
            ZSetBuilder::Large(Box::default(), rules)
        }
    }

    /// Adds a member, which must be new.
    fn add(&mut self, member: Item<'_>, score: f64) -> Taken<()> {
        const NEW: AddRules = AddRules {
            only_new: true,
            only_known: false,
            only_greater: false,
            only_less: false,
            increment: false,
        };
        let text = &mut itoa::Buffer::new();
        let member = member.text(text);
        let added = match self {
            ZSetBuilder::Small(zset, rules) => {
                matches!(zset.add(member, score, NEW, rules.zset), Added::Inserted(_))
            }
            ZSetBuilder::Large(collect, _) => {
                let before = collect.len();
                collect.combine(member, score, Aggregate::Max) && collect.len() > before
            }
        };
        if added { Ok(()) } else { Err(Malformed) }
    }

    fn finish(self) -> ZSet {
        match self {
            ZSetBuilder::Small(zset, _) => zset,
            ZSetBuilder::Large(collect, rules) => collect.finish(rules.zset),
        }
    }
}

fn hash(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Hash> {
    let count = reader.count()?;
    let mut hash = HashBuilder::new(count, rules);
    for _ in 0..count {
        let field = reader.string()?;
        hash.set(field.item(), reader.string()?.item(), None)?;
    }
    Ok(hash.hash)
}

fn hash_of_zipmap(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Hash> {
    let bytes = blob(reader)?;
    let mut zipmap = Zipmap::new(&bytes)?;
    let mut hash = HashBuilder::new(zipmap.most(), rules);
    while let Some((field, value)) = zipmap.next()? {
        hash.set(field, value, None)?;
    }
    Ok(hash.hash)
}

fn hash_of_ziplist(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Hash> {
    let bytes = blob(reader)?;
    let mut ziplist = Ziplist::new(&bytes)?;
    let mut hash = HashBuilder::new(ziplist.most() / 2, rules);
    while let Some(field) = ziplist.next()? {
        hash.set(field, ziplist.next()?.ok_or(Malformed)?, None)?;
    }
    Ok(hash.hash)
}

fn hash_of_listpack(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Hash> {
    let bytes = blob(reader)?;
    let mut listpack = Listpack::new(&bytes)?;
    let mut hash = HashBuilder::new(listpack.most() / 2, rules);
    while let Some(field) = listpack.next()? {
        hash.set(field, listpack.item()?, None)?;
    }
    Ok(hash.hash)
}

/// The soonest expiry (8 bytes), how many fields; for each its expiry, as what it is later than the soonest and one more
/// (0: none), the field, its value.
fn expiring_hash(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Hash> {
    let soonest = u64::from_le_bytes(reader.array()?);
    let count = reader.count()?;
    let mut hash = HashBuilder::new(count, rules);
    for _ in 0..count {
        let expiry = match reader.number()? {
            0 => None,
            later => Some(soonest.checked_add(later - 1).ok_or(Malformed)?),
        };
        let field = reader.string()?;
        hash.set(field.item(), reader.string()?.item(), expiry)?;
    }
    Ok(hash.hash)
}

/// The soonest expiry (8 bytes), and a listpack of fields, values and expiries (0: none).
fn expiring_hash_of_listpack(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Taken<Hash> {
    reader.bytes(8)?;
    let bytes = blob(reader)?;
    let mut listpack = Listpack::new(&bytes)?;
    let mut hash = HashBuilder::new(listpack.most() / 3, rules);
    while let Some(field) = listpack.next()? {
        let value = listpack.item()?;
        let expiry = match listpack.item()?.int() {
            Some(0) => None,
            Some(expiry) => Some(u64::try_from(expiry).map_err(|_| Malformed)?),
            None => return Err(Malformed),
        };
        hash.set(field, value, expiry)?;
    }
    Ok(hash.hash)
}

struct HashBuilder<'a> {
    hash: Hash,
    rules: &'a Rules<'a>,
}

impl<'a> HashBuilder<'a> {
    fn new(expected: usize, rules: &'a Rules<'a>) -> HashBuilder<'a> {
        let mut hash = Hash::new();
        hash.expect_more(expected, &rules.hash, rules.hasher);
        HashBuilder { hash, rules }
    }

    /// Adds a field, which must be new.
    fn set(&mut self, field: Item<'_>, value: Item<'_>, expiry: Option<u64>) -> Taken<()> {
        let (mut left, mut right) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (field, value) = (field.text(&mut left), value.text(&mut right));
        let Rules { hash, hasher, .. } = self.rules;
        if !self.hash.set(field, value, Expiry::Clear, hash, hasher) {
            return Err(Malformed);
        }
        if let Some(expiry) = expiry {
            if expiry > LATEST_EXPIRY {
                return Err(Malformed);
            }
            let expiry = Some(Millis(expiry as i64));
            self.hash.set_expiry(field, expiry, hasher);
        }
        Ok(())
    }
}

/// The latest expiry that Redis lets a field have.
const LATEST_EXPIRY: u64 = (1 << 46) - 1;

/// The bytes of a sequence.
fn blob<'a>(reader: &mut Reader<'a>) -> Taken<Cow<'a, [u8]>> {
    Text::into_bytes(reader.string()?)
}
