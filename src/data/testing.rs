//! What the model tests of this folder share: seeds that are printed, and texts that meet every encoding.

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
