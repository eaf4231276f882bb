//! The types into a payload.

use super::listpack::Writer;
use super::{LAST_VERSION, VERSION, seal, types};
use crate::base::hash::KeyHasher;
use crate::data::hash::Hash;
use crate::data::list::{Element, ListRef};
use crate::data::number;
use crate::data::packed::Item;
use crate::data::set::Set;
use crate::data::zset::ZSetRef;

/// How long a listpack may become: as Redis's nodes of lists, and small collections that stay small.
const NODE_BYTES: usize = 8 * 1024;
/// Redis refuses to make a listpack longer than this.
const LISTPACK_BYTES: usize = 1 << 30;

/// The payload of a string.
pub fn write_string(text: &[u8]) -> Vec<u8> {
    let mut payload = vec![types::STRING];
    write_text(&mut payload, Item::Bytes(text));
    seal(&mut payload, VERSION);
    payload
}

/// The payload of a list.
pub fn write_list(list: ListRef<'_>) -> Vec<u8> {
    let mut payload = vec![types::LIST_QUICKLIST_2];
    // Their number is known at the end.
    payload.resize(1 + MOST_LENGTH_BYTES, 0);
    let (mut node, mut nodes) = (Writer::new(), 0);
    for element in list.range(0..usize::MAX) {
        let item = match element {
            Element::Item(item) => item,
            Element::Large(text) => Item::Bytes(text),
        };
        if !node.is_empty() && node.length_with(item) > NODE_BYTES {
            write_node(&mut payload, &mut node);
            nodes += 1;
        }
        node.push(item);
    }
    write_node(&mut payload, &mut node);
    let mut count = Vec::new();
    write_length(&mut count, nodes + 1);
    payload.splice(1..1 + MOST_LENGTH_BYTES, count);
    seal(&mut payload, VERSION);
    payload
}

fn write_node(payload: &mut Vec<u8>, node: &mut Writer) {
    write_length(payload, types::PACKED_NODE);
    write_listpack(payload, node);
}

/// The payload of a set.
pub fn write_set(set: &Set) -> Vec<u8> {
    let mut payload = Vec::new();
    if set.encoding() == "intset" {
        payload.push(types::SET_INTSET);
        write_integers(&mut payload, set);
    } else {
        payload.push(types::SET);
        write_length(&mut payload, set.len() as u64);
        for member in set.iter() {
            write_text(&mut payload, member);
        }
    }
    seal(&mut payload, VERSION);
    payload
}

/// Bytes of each (4), how many (4), and they, ascending.
fn write_integers(payload: &mut Vec<u8>, set: &Set) {
    let integers = || set.iter().filter_map(Item::int);
    let fit = |bits: u32| integers().all(|value| value >> (bits - 1) == value >> 63);
    let width = match () {
        () if fit(16) => 2,
        () if fit(32) => 4,
        () => 8,
    };
    write_length(payload, (8 + width * set.len()) as u64);
    payload.extend_from_slice(&(width as u32).to_le_bytes());
    payload.extend_from_slice(&(set.len() as u32).to_le_bytes());
    for value in integers() {
        payload.extend_from_slice(&value.to_le_bytes()[..width]);
    }
}

/// The payload of a sorted set.
pub fn write_zset(zset: ZSetRef<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    if let ZSetRef::Packed(packed) = zset
        && listpack_fits(packed.iter())
    {
        payload.push(types::ZSET_LISTPACK);
        let mut listpack = Writer::new();
        for (member, score) in zset.range(0..usize::MAX) {
            listpack.push(member);
            listpack.push(Item::Bytes(&number::format_f64(score)));
        }
        write_listpack(&mut payload, &mut listpack);
    } else {
        payload.push(types::ZSET_2);
        write_length(&mut payload, zset.len() as u64);
        // The highest first: so Redis puts each one in front of all others.
        for (member, score) in zset.range_back(0..usize::MAX) {
            write_text(&mut payload, member);
            payload.extend_from_slice(&score.to_le_bytes());
        }
    }
    seal(&mut payload, VERSION);
    payload
}

/// The payload of a hash.
pub fn write_hash(hash: &Hash, hasher: &KeyHasher) -> Vec<u8> {
    if let Some(soonest) = hash.next_expiry() {
        return write_expiring_hash(hash, soonest.0, hasher);
    }
    let mut payload = Vec::new();
    let items = || hash.iter().flat_map(|(field, value)| [field, value]);
    if hash.encoding() != "hashtable" && listpack_fits(items()) {
        payload.push(types::HASH_LISTPACK);
        let mut listpack = Writer::new();
        items().for_each(|item| listpack.push(item));
        write_listpack(&mut payload, &mut listpack);
    } else {
        payload.push(types::HASH);
        write_length(&mut payload, hash.len() as u64);
        items().for_each(|item| write_text(&mut payload, item));
    }
    seal(&mut payload, VERSION);
    payload
}

fn write_expiring_hash(hash: &Hash, soonest: i64, hasher: &KeyHasher) -> Vec<u8> {
    let mut payload = vec![types::HASH_METADATA];
    payload.extend_from_slice(&soonest.to_le_bytes());
    write_length(&mut payload, hash.len() as u64);
    for (field, value, expiry) in hash.entries(hasher) {
        let later = expiry.map_or(0, |expiry| expiry.0.abs_diff(soonest) + 1);
        write_length(&mut payload, later);
        write_text(&mut payload, field);
        write_text(&mut payload, value);
    }
    seal(&mut payload, LAST_VERSION);
    payload
}

/// Whether the elements of a collection that is packed here may be packed there.
fn listpack_fits<'a>(items: impl Iterator<Item = Item<'a>>) -> bool {
    // Twelve bytes beyond the text at most.
    let bytes = items.fold(0, |sum, item| sum + item.text_len() + 12);
    bytes <= LISTPACK_BYTES
}

fn write_listpack(payload: &mut Vec<u8>, listpack: &mut Writer) {
    listpack.finish(|bytes| {
        write_length(payload, bytes.len() as u64);
        payload.extend_from_slice(bytes);
    });
}

const MOST_LENGTH_BYTES: usize = 9;

fn write_length(payload: &mut Vec<u8>, length: u64) {
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
fn write_text(payload: &mut Vec<u8>, item: Item<'_>) {
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
