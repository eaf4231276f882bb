//! What the model tests of this folder share: seeds that are printed, and texts that meet every encoding.

use super::stream::{Id, Stream};
use super::value::ValueRef;
use crate::base::hash::KeyHasher;

/// A generator from `QUOIT_TEST_SEED` or a fresh seed, which is printed.
pub fn seeded() -> fastrand::Rng {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("QUOIT_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// How often a test repeats itself: `usual`, or that many times `QUOIT_TEST_EFFORT`.
pub fn rounds(usual: usize) -> usize {
    let effort = std::env::var("QUOIT_TEST_EFFORT").ok();
    usual * effort.and_then(|effort| effort.parse().ok()).unwrap_or(1)
}

/// A text of at most `longest` bytes: an integer of any width as often as not.
pub fn text(rng: &mut fastrand::Rng, longest: usize) -> Vec<u8> {
    match rng.u8(..4) {
        0 => rng.i64(-3..60).to_string().into_bytes(),
        1 => (rng.i64(..) >> rng.u32(..64)).to_string().into_bytes(),
        _ => {
            let length = rng.usize(..=longest);
            std::iter::repeat_with(|| rng.alphanumeric() as u8)
                .take(length)
                .collect()
        }
    }
}

/// What a stream holds, all but the times at which consumers were heard of.
pub fn stream_parts(stream: &Stream) -> Vec<Vec<u8>> {
    let (last, first) = (stream.last_id(), stream.first_id());
    let ids = [last, first, stream.max_deleted_id()];
    let mut parts: Vec<Vec<u8>> = ids.iter().map(|id| id.text().to_vec()).collect();
    parts.push(stream.entries_added().to_string().into_bytes());
    for entry in stream.range(Id::ZERO, Id::MAX) {
        parts.push(entry.id.text().to_vec());
        for (name, value) in entry.fields() {
            parts.extend([name.to_vec(), value.to_vec()]);
        }
    }
    for (name, group) in stream.groups() {
        parts.extend([
            b"group".to_vec(),
            name.to_vec(),
            group.last_id.text().to_vec(),
        ]);
        let read = group.entries_read.map_or(-1, |read| read as i64);
        parts.push(read.to_string().into_bytes());
        for consumer in group.consumers() {
            parts.extend([b"consumer".to_vec(), consumer.name().to_vec()]);
            for id in consumer.pending().iter() {
                let pending = group.pending().get(*id).expect("the group holds it too");
                let (at, count) = (pending.delivered_at, pending.count);
                parts.push(id.text().to_vec());
                parts.push(format!("{at} {count}").into_bytes());
            }
        }
    }
    parts
}

/// What a value holds, in an order of its own where it has none.
pub fn value_parts(value: ValueRef<'_>, hasher: &KeyHasher) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    match value {
        ValueRef::String(text) => parts.push(text.to_vec()),
        ValueRef::List(list) => parts.extend(list.range(0..usize::MAX).map(|one| one.to_vec())),
        ValueRef::Set(set) => {
            let members = set.iter();
            parts.extend(members.map(|one| one.text(&mut itoa::Buffer::new()).to_vec()));
            parts.sort_unstable();
        }
        ValueRef::ZSet(zset) => {
            for (member, score) in zset.range(0..usize::MAX) {
                let mut part = score.to_bits().to_be_bytes().to_vec();
                member.write_to(&mut part);
                parts.push(part);
            }
        }
        ValueRef::Hash(hash) => {
            for (field, value, expiry) in hash.entries(hasher) {
                let mut part = format!("{expiry:?} ").into_bytes();
                field.write_to(&mut part);
                part.push(b'=');
                value.write_to(&mut part);
                parts.push(part);
            }
            parts.sort_unstable();
        }
        ValueRef::Stream(stream) => parts = stream_parts(stream),
    }
    parts
}
