//! HyperLogLogs: on keys of their own, which grow beyond what stays sparse, and made-up values on another.
//!
//! No element is added to a made-up value, nor is one set that ends within a run: there the two differ on purpose
//! (`support/differences.rs` compares replies, and those would leave different values behind).

use crate::generate::{Generator, Request};

const KEYS: &[&str] = &["h1", "h2", "h3"];
const MADE_UP: &str = "h4";
const HEADER: &[u8] = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80";

/// A command on HyperLogLogs.
pub fn request(g: &mut Generator) -> Request {
    match g.rng.u8(0..20) {
        0..6 => add(g),
        6..9 => keys(g, "PFCOUNT", 1..4),
        9..12 => keys(g, "PFMERGE", 1..4),
        12 => vec![
            g.pick(&["PFDEBUG"]),
            g.pick(&["ENCODING", "DECODE", "TODENSE", "GETREG", "foo"]),
            g.pick(KEYS),
        ],
        13 => keys(g, "DEL", 1..2),
        14 => keys(g, "COPY", 2..3),
        15 => vec![b"OBJECT".to_vec(), b"ENCODING".to_vec(), g.pick(KEYS)],
        16 | 17 => vec![b"SET".to_vec(), MADE_UP.into(), made_up(g)],
        18 => vec![b"PFCOUNT".to_vec(), MADE_UP.into(), g.pick(KEYS)],
        _ => vec![g.pick(&["PFCOUNT", "PFADD"]), MADE_UP.into()],
    }
}

fn keys(g: &mut Generator, name: &str, count: std::ops::Range<usize>) -> Request {
    let keys = g.rng.usize(count);
    let mut request = vec![g.pick(&[name])];
    request.extend((0..keys).map(|_| lower(g)));
    request
}

fn lower(g: &mut Generator) -> Vec<u8> {
    KEYS[g.rng.usize(0..KEYS.len())].into()
}

/// A few elements that come again and again, or many at once.
fn add(g: &mut Generator) -> Request {
    let mut request = vec![g.pick(&["PFADD"]), lower(g)];
    let (count, kinds) = match g.rng.u8(0..4) {
        0 => (g.rng.usize(0..400), 100_000),
        1 => (g.rng.usize(0..4), 100_000),
        _ => (g.rng.usize(0..6), 20),
    };
    for _ in 0..count {
        request.push(match g.rng.u8(0..20) {
            0 => g.value(),
            _ => g.rng.u32(0..kinds).to_string().into_bytes(),
        });
    }
    request
}

/// Runs of all kinds, most often as many registers as there are; longer than what is held as embstr, since a refusal makes
/// Redis report it as raw.
fn made_up(g: &mut Generator) -> Vec<u8> {
    let mut value = HEADER.to_vec();
    if g.once_in(4) {
        value[4..16].fill_with(|| g.rng.u8(..));
        value[4] = g.rng.u8(0..3);
    }
    let mut left: usize = if g.once_in(4) {
        g.rng.usize(15_000..18_000)
    } else {
        16_384
    };
    while left > 0 {
        let rest = value.len() > 200;
        let length = match g.rng.u8(0..4) {
            _ if rest => left,
            0 => g.rng.usize(1..=64),
            1 => g.rng.usize(1..=1000),
            _ => g.rng.usize(1..=4),
        };
        let length = length.min(left).min(16_384);
        match length {
            1..=4 if g.rng.bool() => value.push(0x80 | g.rng.u8(0..32) << 2 | (length - 1) as u8),
            1..=64 if g.rng.bool() => value.push((length - 1) as u8),
            _ => value.extend([0x40 | ((length - 1) >> 8) as u8, (length - 1) as u8]),
        }
        left -= length;
    }
    value
}
