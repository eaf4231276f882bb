//! What the model tests of this folder share: seeds that are printed, and texts that meet every encoding.

use super::stream::{Id, Stream};

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
