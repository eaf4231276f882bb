//! The types into a payload.

use super::listpack::Writer;
use super::{LAST_VERSION, VERSION, seal, stream, types};
use crate::base::clock::Millis;
use crate::base::hash::KeyHasher;
use crate::data::hash::HashRef;
use crate::data::intset::IntSetRef;
use crate::data::list::{Element, ListRef};
use crate::data::number;
use crate::data::packed::Item;
use crate::data::set::SetRef;
use crate::data::value::ValueRef;
use crate::data::zset::ZSetRef;

/// How long a listpack may become: as Redis's nodes of lists, and small collections that stay small.
const NODE_BYTES: usize = 8 * 1024;
/// Redis refuses to make a listpack longer than this.
const LISTPACK_BYTES: usize = 1 << 30;

/// The payload of a value, without the fields of a hash that have expired.
pub fn write(value: ValueRef<'_>, now: Millis, hasher: &KeyHasher) -> Vec<u8> {
    let payload = &mut Vec::new();
    let mut version = VERSION;
    match value {
        ValueRef::String(text) => {
            payload.push(types::STRING);
            write_text(payload, Item::Bytes(text));
        }
        ValueRef::List(list) => write_list(payload, list),
        ValueRef::Set(SetRef::Ints(ints)) => write_integers(payload, ints),
        ValueRef::Set(set) => {
            payload.push(types::SET);
            write_length(payload, set.len() as u64);
            set.iter().for_each(|member| write_text(payload, member));
        }
        ValueRef::ZSet(zset) => write_zset(payload, zset),
        ValueRef::Stream(stream) => stream::write(payload, stream),
        ValueRef::Hash(hash) => match hash.next_expiry() {
            None => write_hash(payload, hash),
            Some(_) => {
                write_expiring_hash(payload, hash, now, hasher);
                version = LAST_VERSION;
            }
        },
    }
    seal(payload, version);
    std::mem::take(payload)
}

fn write_list(payload: &mut Vec<u8>, list: ListRef<'_>) {
    payload.push(types::LIST_QUICKLIST_2);
    // How many nodes there are is known at the end.
    payload.resize(1 + MOST_LENGTH_BYTES, 0);
    let (mut node, mut nodes) = (Writer::new(), 1);
    for element in list.range(0..usize::MAX) {
        let item = match element {
            Element::Item(item) => item,
            Element::Large(text) => Item::Bytes(text),
        };
        if !node.is_empty() && node.length_with(item) > NODE_BYTES {
            write_node(payload, &mut node);
            nodes += 1;
        }
        node.push(item);
    }
    write_node(payload, &mut node);
    let mut count = Vec::new();
    write_length(&mut count, nodes);
    payload.splice(1..1 + MOST_LENGTH_BYTES, count);
}

fn write_node(payload: &mut Vec<u8>, node: &mut Writer) {
    write_length(payload, types::PACKED_NODE);
    write_listpack(payload, node);
}

/// Bytes of each (4), how many (4), and they, ascending.
fn write_integers(payload: &mut Vec<u8>, ints: IntSetRef<'_>) {
    payload.push(types::SET_INTSET);
    let ends = [ints.get(0), ints.get(ints.len().saturating_sub(1))];
    let fit = |bits: u32| {
        let mut ends = ends.into_iter().flatten();
        ends.all(|end| end >> (bits - 1) == end >> 63)
    };
    let width = match () {
        () if fit(16) => 2,
        () if fit(32) => 4,
        () => 8,
    };
    write_length(payload, (8 + width * ints.len()) as u64);
    payload.extend_from_slice(&(width as u32).to_le_bytes());
    payload.extend_from_slice(&(ints.len() as u32).to_le_bytes());
    for value in (0..ints.len()).filter_map(|index| ints.get(index)) {
        payload.extend_from_slice(&value.to_le_bytes()[..width]);
    }
}

fn write_zset(payload: &mut Vec<u8>, zset: ZSetRef<'_>) {
    if let ZSetRef::Packed(_) = zset
        && listpack_fits(zset)
    {
        payload.push(types::ZSET_LISTPACK);
        let mut listpack = Writer::new();
        for (member, score) in zset.range(0..usize::MAX) {
            listpack.push(member);
            listpack.push(Item::Bytes(&number::format_f64(score)));
        }
        return write_listpack(payload, &mut listpack);
    }
    payload.push(types::ZSET_2);
    write_length(payload, zset.len() as u64);
    // The highest first: so Redis puts each one in front of all others.
    for (member, score) in zset.range_back(0..usize::MAX) {
        write_text(payload, member);
        payload.extend_from_slice(&score.to_le_bytes());
    }
}

fn write_hash(payload: &mut Vec<u8>, hash: HashRef<'_>) {
    let items = || hash.iter().flat_map(|(field, value)| [field, value]);
    if let HashRef::Table(_) = hash {
        payload.push(types::HASH);
        write_length(payload, hash.len() as u64);
        return items().for_each(|item| write_text(payload, item));
    }
    payload.push(types::HASH_LISTPACK);
    let mut listpack = Writer::new();
    items().for_each(|item| listpack.push(item));
    write_listpack(payload, &mut listpack);
}

fn write_expiring_hash(payload: &mut Vec<u8>, hash: HashRef<'_>, now: Millis, hasher: &KeyHasher) {
    let live = || {
        let is_live = |expiry: Option<Millis>| expiry.is_none_or(|expiry| expiry >= now);
        hash.entries(hasher).filter(move |entry| is_live(entry.2))
    };
    let soonest = live().filter_map(|entry| entry.2).min().unwrap_or_default();
    payload.push(types::HASH_METADATA);
    payload.extend_from_slice(&soonest.0.to_le_bytes());
    write_length(payload, live().count() as u64);
    for (field, value, expiry) in live() {
        let later = expiry.map_or(0, |expiry| expiry.0.abs_diff(soonest.0) + 1);
        write_length(payload, later);
        write_text(payload, field);
        write_text(payload, value);
    }
}

/// Whether the elements of a collection that is packed here may be packed there.
fn listpack_fits(zset: ZSetRef<'_>) -> bool {
    // Twelve bytes beyond the text at most, of a score 36 in all.
    let bytes = zset
        .range(0..usize::MAX)
        .fold(0, |sum, (member, _)| sum + member.text_len() + 12 + 36);
    bytes <= LISTPACK_BYTES
}

pub(super) fn write_listpack(payload: &mut Vec<u8>, listpack: &mut Writer) {
    listpack.finish(|bytes| {
        write_length(payload, bytes.len() as u64);
        payload.extend_from_slice(bytes);
    });
}

const MOST_LENGTH_BYTES: usize = 9;

pub(super) fn write_length(payload: &mut Vec<u8>, length: u64) {
    if length < 1 << 6 {
        payload.push(length as u8);
    } else if length < 1 << 14 {
        payload.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes());
    } else if let Ok(length) = u32::try_from(length) {
        payload.push(0x80);
        payload.extend_from_slice(&length.to_be_bytes());
    } else {
        payload.push(0x81);
        payload.extend_from_slice(&length.to_be_bytes());
    }
}

/// A string; the decimal text of an integer of 32 bits as that integer.
pub(super) fn write_text(payload: &mut Vec<u8>, item: Item<'_>) {
    if let Some(value) = item.int() {
        if let Ok(value) = i8::try_from(value) {
            payload.push(0xc0);
            return payload.extend_from_slice(&value.to_le_bytes());
        }
        if let Ok(value) = i16::try_from(value) {
            payload.push(0xc1);
            return payload.extend_from_slice(&value.to_le_bytes());
        }
        if let Ok(value) = i32::try_from(value) {
            payload.push(0xc2);
            return payload.extend_from_slice(&value.to_le_bytes());
        }
    }
    let text = &mut itoa::Buffer::new();
    let text = item.text(text);
    write_length(payload, text.len() as u64);
    payload.extend_from_slice(text);
}
