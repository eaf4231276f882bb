//! Streams in payloads.
//!
//! ```text
//! nodes, and of each: its first id (16 bytes, big-endian), a listpack
//! entries, last id; from 7.0 on first id, highest id deleted, entries added
//! groups, and of each: name, last id; from 7.0 on entries read
//!     pending entries, and of each: id, time (8 bytes), deliveries
//!     consumers, and of each: name, time seen; from 7.2 on time active; ids of its pending entries
//!
//! listpack   live, marked, names, name .., 0, entry ..
//! entry      flags, milliseconds and number less those of the first id, [names], [name], value .., elements so far
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::encode::{write_length, write_listpack, write_text};
use super::listpack::{Listpack, Writer};
use super::read::{Malformed, Reader, Taken};
use super::types;
use crate::data::packed::Item;
use crate::data::stream::{Block, Builder, Consumer, Counters, Group, Id, Pending, Stream};

/// The entry was removed.
const DELETED: i64 = 1;
/// It has the names of the node.
const SAME_NAMES: i64 = 2;

/// Appends a stream.
pub(super) fn write(payload: &mut Vec<u8>, stream: &Stream) {
    payload.push(types::STREAM_2);
    write_length(payload, stream.block_count() as u64);
    for block in stream.blocks() {
        write_length(payload, 16);
        payload.extend_from_slice(&block.first().to_bytes());
        write_listpack(payload, &mut listpack_of(block));
    }
    write_length(payload, stream.len());
    write_id(payload, stream.last_id());
    write_id(payload, stream.first_id());
    write_id(payload, stream.max_deleted_id());
    write_length(payload, stream.entries_added());
    write_length(payload, stream.group_count() as u64);
    for (name, group) in stream.groups() {
        write_text(payload, Item::Bytes(name));
        write_group(payload, group);
    }
}

fn listpack_of(block: &Block) -> Writer {
    let mut listpack = Writer::new();
    let int = |listpack: &mut Writer, value: i64| listpack.push(Item::Int(value));
    int(&mut listpack, block.live() as i64);
    int(&mut listpack, block.dead() as i64);
    int(&mut listpack, block.shared_names().count() as i64);
    block.shared_names().for_each(|name| listpack.push(name));
    int(&mut listpack, 0);
    for head in block.heads() {
        let entry = block.entry(head);
        let mut flags = if head.deleted { DELETED } else { 0 };
        if !head.own_names {
            flags |= SAME_NAMES;
        }
        int(&mut listpack, flags);
        let first = block.first();
        int(&mut listpack, head.id.ms.wrapping_sub(first.ms) as i64);
        int(&mut listpack, head.id.seq.wrapping_sub(first.seq) as i64);
        let mut elements = 3 + entry.len() as i64;
        if head.own_names {
            int(&mut listpack, entry.len() as i64);
            elements += 1 + entry.len() as i64;
        }
        for (name, value) in entry.fields() {
            if head.own_names {
                listpack.push(name);
            }
            listpack.push(value);
        }
        int(&mut listpack, elements);
    }
    listpack
}

fn write_id(payload: &mut Vec<u8>, id: Id) {
    write_length(payload, id.ms);
    write_length(payload, id.seq);
}

fn write_group(payload: &mut Vec<u8>, group: &Group) {
    write_id(payload, group.last_id);
    // What is not known is -1.
    write_length(payload, group.entries_read.unwrap_or(u64::MAX));
    write_length(payload, group.pending().len() as u64);
    for pending in group.pending().iter() {
        payload.extend_from_slice(&pending.id.to_bytes());
        payload.extend_from_slice(&pending.delivered_at.to_le_bytes());
        write_length(payload, pending.count);
    }
    write_length(payload, group.consumer_count() as u64);
    for consumer in group.consumers() {
        write_consumer(payload, consumer);
    }
}

fn write_consumer(payload: &mut Vec<u8>, consumer: &Consumer) {
    write_text(payload, Item::Bytes(consumer.name()));
    payload.extend_from_slice(&consumer.seen_at.to_le_bytes());
    write_length(payload, consumer.pending().len() as u64);
    for id in consumer.pending().iter() {
        payload.extend_from_slice(&id.to_bytes());
    }
}

/// Reads a stream of one of the three types.
pub(super) fn read(reader: &mut Reader<'_>, kind: u8) -> Taken<Stream> {
    let mut builder = Builder::default();
    for _ in 0..reader.number()? {
        let first = reader.string()?.into_bytes()?;
        let first = id_of(first.as_ref().try_into().map_err(|_| Malformed)?);
        let bytes = reader.string()?.into_bytes()?;
        builder.begin_block();
        read_block(&mut builder, first, &mut Listpack::new(&bytes)?)?;
    }
    let len = reader.number()?;
    let mut counters = Counters {
        last_id: read_id(reader)?,
        max_deleted_id: Id::ZERO,
        entries_added: None,
    };
    if kind != types::STREAM {
        // The first id is known from the entries.
        read_id(reader)?;
        counters.max_deleted_id = read_id(reader)?;
        counters.entries_added = Some(reader.number()?);
    }
    let mut stream = builder.finish(counters).ok_or(Malformed)?;
    if stream.len() != len {
        return Err(Malformed);
    }
    for _ in 0..reader.number()? {
        read_group(reader, kind, &mut stream)?;
    }
    Ok(stream)
}

/// The entries of a node.
fn read_block(builder: &mut Builder, first: Id, listpack: &mut Listpack<'_>) -> Taken<()> {
    let (live, dead) = (int(listpack)?, int(listpack)?);
    let names = int(listpack)?;
    let shared = texts(listpack, names)?;
    if int(listpack)? != 0 {
        return Err(Malformed);
    }
    let mut counted = [0; 2];
    while let Some(flags) = listpack.next()? {
        let flags = flags.int().ok_or(Malformed)?;
        let (ms, seq) = (int(listpack)?, int(listpack)?);
        let id = Id::new(
            first.ms.wrapping_add(ms as u64),
            first.seq.wrapping_add(seq as u64),
        );
        // The node is found by its first entry.
        if counted == [0; 2] && id != first {
            return Err(Malformed);
        }
        let own;
        let (names, values) = if flags & SAME_NAMES != 0 {
            own = texts(listpack, shared.len() as i64)?;
            (&shared[..], own.iter().step_by(1))
        } else {
            let count = int(listpack)?;
            own = texts(listpack, count.checked_mul(2).ok_or(Malformed)?)?;
            (&own[..], own[1.min(own.len())..].iter().step_by(2))
        };
        let names = names
            .iter()
            .step_by(if flags & SAME_NAMES != 0 { 1 } else { 2 });
        let fields = names.zip(values).map(|(name, value)| (&**name, &**value));
        let count = fields.clone().count() as i64;
        let elements = if flags & SAME_NAMES != 0 {
            3 + count
        } else {
            4 + 2 * count
        };
        if count == 0 || int(listpack)? != elements {
            return Err(Malformed);
        }
        let deleted = flags & DELETED != 0;
        builder.push(id, fields, deleted).ok_or(Malformed)?;
        counted[usize::from(deleted)] += 1;
    }
    // A node without entries is none.
    if counted == [0; 2] || counted != [live, dead] {
        return Err(Malformed);
    }
    Ok(())
}

fn int(listpack: &mut Listpack<'_>) -> Taken<i64> {
    listpack.item()?.int().ok_or(Malformed)
}

/// So many names or values.
fn texts<'a>(listpack: &mut Listpack<'a>, count: i64) -> Taken<Vec<Cow<'a, [u8]>>> {
    let count = usize::try_from(count).map_err(|_| Malformed)?;
    if count > listpack.most() {
        return Err(Malformed);
    }
    let text = |item| match item {
        Item::Bytes(text) => Cow::Borrowed(text),
        int => Cow::Owned(int.to_vec()),
    };
    (0..count).map(|_| listpack.item().map(text)).collect()
}

fn id_of(bytes: [u8; 16]) -> Id {
    let number = u128::from_be_bytes(bytes);
    Id::new((number >> 64) as u64, number as u64)
}

fn read_id(reader: &mut Reader<'_>) -> Taken<Id> {
    Ok(Id::new(reader.number()?, reader.number()?))
}

fn read_group(reader: &mut Reader<'_>, kind: u8, stream: &mut Stream) -> Taken<()> {
    let name = reader.string()?.into_vec();
    let last = read_id(reader)?;
    let read = match kind {
        types::STREAM => stream.entries_until(last),
        _ => Some(reader.number()?).filter(|read| i64::try_from(*read).is_ok()),
    };
    let mut pending = BTreeMap::new();
    for _ in 0..reader.number()? {
        let id = id_of(reader.array()?);
        let delivered_at = i64::from_le_bytes(reader.array()?);
        if pending
            .insert(id, (delivered_at, reader.number()?))
            .is_some()
        {
            return Err(Malformed);
        }
    }
    if !stream.create_group(&name, last, read) {
        return Err(Malformed);
    }
    let consumers = reader.number()?;
    let done = stream.edit_group(&name, |group| {
        for _ in 0..consumers {
            read_consumer(reader, kind, group, &mut pending)?;
        }
        Ok(())
    });
    done.ok_or(Malformed)??;
    // Each is somebody's.
    if pending.is_empty() {
        Ok(())
    } else {
        Err(Malformed)
    }
}

fn read_consumer(
    reader: &mut Reader<'_>,
    kind: u8,
    group: &mut Group,
    pending: &mut BTreeMap<Id, (i64, u64)>,
) -> Taken<()> {
    let name = reader.string()?.into_vec();
    if group.find(&name).is_some() {
        return Err(Malformed);
    }
    let seen_at = i64::from_le_bytes(reader.array()?);
    let consumer = group.add_consumer(&name, seen_at);
    let active_at = match kind {
        types::STREAM_3 => i64::from_le_bytes(reader.array()?),
        _ => seen_at,
    };
    if active_at != -1 {
        group.is_active(consumer, active_at);
    }
    for _ in 0..reader.number()? {
        let id = id_of(reader.array()?);
        let (delivered_at, count) = pending.remove(&id).ok_or(Malformed)?;
        group.assign(Pending {
            id,
            delivered_at,
            count,
            consumer,
        });
    }
    Ok(())
}
