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
    let ids = [stream.last_id(), stream.first_id(), stream.max_deleted_id()];
    let mut parts = vec![format!("{ids:?} {}", stream.entries_added()).into_bytes()];
    for entry in stream.range(Id::ZERO, Id::MAX) {
        parts.push(entry.id.text().to_vec());
        for (name, value) in entry.fields() {
            parts.extend([name.to_vec(), value.to_vec()]);
        }
    }
    for (name, group) in stream.groups() {
        parts.push(name.to_vec());
        parts.push(format!("{:?} {:?}", group.last_id, group.entries_read).into_bytes());
        parts.extend(group.consumers().map(|consumer| consumer.name().to_vec()));
        for pending in group.pending().iter() {
            let consumer = group.consumer(pending.consumer);
            let (id, at, count) = (pending.id, pending.delivered_at, pending.count);
            let held = format!("{id:?} {at} {count} {:?}", consumer.name().escape_ascii());
            parts.push(held.into_bytes());
        }
    }
    parts
}
