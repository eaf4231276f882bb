//! The exact expiry of a small string in bits of its header that are free otherwise.
//!
//! The tag in an entry's pointer says an expiry modulo [`TAG_PERIOD`] steps of [`TAG_UNIT_MS`]: 2.3 hours. What is missing,
//! the millisecond within the step and the number of the period, takes the place of the bits that the lengths of short keys
//! and values do not need. The periods are counted from the one in which the process began to count
//! ([`count_from`]): an expiry that lies before it or too far behind it has a word of its own instead, which costs eight
//! bytes and often a size class of sixteen more.
//!
//! ```text
//! lengths    key:12  value:14  shape:6
//! Small      key:6   value:7   millisecond:7  period:12    397 days from the epoch
//! Medium     key:6   value:10  millisecond:7  period:9      49 days
//! ```

use std::sync::atomic::{AtomicI64, Ordering};

use super::{TAG_PERIOD, TAG_UNIT_MS};
use crate::base::clock::Millis;

/// Bits of a key's length.
const KEY_BITS: u32 = 6;
const UNIT_BITS: u32 = TAG_UNIT_MS.ilog2();

/// The period from which the others are counted. Written once, before the first entry that needs it is made, and read by
/// all who read an expiry; an entry reaches another thread by way of a lock, so relaxed.
static EPOCH: AtomicI64 = AtomicI64::new(NOT_COUNTED);
const NOT_COUNTED: i64 = i64::MIN;

/// Lets the periods be counted from `now` on. The first call of the process counts, whatever the others say: expiries are
/// exact with any epoch, they only may need more memory.
pub fn count_from(now: Millis) {
    let (period, _, _) = parts(now);
    _ = EPOCH.compare_exchange(NOT_COUNTED, period, Ordering::Relaxed, Ordering::Relaxed);
}

/// The instant from which the periods are counted.
#[cfg(test)]
pub(super) fn epoch() -> Millis {
    Millis(EPOCH.load(Ordering::Relaxed) * TAG_PERIOD * TAG_UNIT_MS)
}

/// What an expiry beside the lengths makes of an entry's words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    pub(super) layout: Layout,
    /// The word of the lengths.
    pub(super) lengths: u32,
    /// The tag in the pointer.
    pub(super) tag: u16,
}

/// How the word of the lengths is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Values below 128 bytes.
    Small,
    /// Values below 1 KiB.
    Medium,
}

impl Layout {
    /// The longest key; its length stands in these bits of the lengths.
    pub(super) const KEY_MAX: usize = (1 << KEY_BITS) - 1;

    /// What a key and a value of these lengths and an expiry make; `None` when they do not fit.
    #[inline]
    pub(super) fn pack(key: usize, value: usize, at: Millis) -> Option<Packed> {
        let (period, step, millisecond) = parts(at);
        let period = period.checked_sub(EPOCH.load(Ordering::Relaxed))?;
        let layout = [Layout::Small, Layout::Medium]
            .into_iter()
            .find(|layout| layout.holds(value))?;
        if key > Layout::KEY_MAX || !(0..1 << layout.period_bits()).contains(&period) {
            return None;
        }
        let expiry = millisecond as u32 | (period as u32) << UNIT_BITS;
        let lengths = key as u32 | (value as u32) << KEY_BITS;
        Some(Packed {
            layout,
            lengths: lengths | expiry << layout.expiry_shift(),
            tag: tag_of(step),
        })
    }

    /// Whether a value may have this length.
    #[inline]
    pub(super) fn holds(self, value: usize) -> bool {
        value >> self.value_bits() == 0
    }

    /// The length of the value.
    #[inline]
    pub(super) fn value_len(self, lengths: u32) -> usize {
        (lengths >> KEY_BITS) as usize & ((1 << self.value_bits()) - 1)
    }

    /// The same with another length of the value, which it holds.
    pub(super) fn with_value_len(self, lengths: u32, value: usize) -> u32 {
        debug_assert!(self.holds(value));
        let mask = ((1 << self.value_bits()) - 1) << KEY_BITS;
        lengths & !mask | (value as u32) << KEY_BITS
    }

    /// The expiry that was packed and has this tag.
    pub(super) fn expiry(self, lengths: u32, tag: u16) -> Millis {
        let expiry = i64::from(lengths >> self.expiry_shift());
        let (period, millisecond) = (expiry >> UNIT_BITS, expiry & (TAG_UNIT_MS - 1));
        let period = EPOCH.load(Ordering::Relaxed) + period;
        let step = period * TAG_PERIOD + i64::from(tag) - 1;
        Millis(step * TAG_UNIT_MS + millisecond)
    }

    const fn value_bits(self) -> u32 {
        match self {
            Layout::Small => 7,
            Layout::Medium => 10,
        }
    }

    const fn expiry_shift(self) -> u32 {
        KEY_BITS + self.value_bits()
    }

    const fn period_bits(self) -> u32 {
        u32::BITS - self.expiry_shift() - UNIT_BITS
    }
}

/// The coarse expiry of an instant: never 0, repeating every [`TAG_PERIOD`] steps of [`TAG_UNIT_MS`].
#[inline]
pub fn expiry_tag(at: Millis) -> u16 {
    let (_, step, _) = parts(at);
    tag_of(step)
}

#[inline]
fn tag_of(step: i64) -> u16 {
    (step + 1) as u16
}

/// Period, step within it, and millisecond within that.
#[inline]
fn parts(at: Millis) -> (i64, i64, i64) {
    let (step, millisecond) = (at.0.div_euclid(TAG_UNIT_MS), at.0.rem_euclid(TAG_UNIT_MS));
    let (period, step) = (step.div_euclid(TAG_PERIOD), step.rem_euclid(TAG_PERIOD));
    (period, step, millisecond)
}

#[cfg(test)]
mod tests {
    use super::super::tests::epoch;
    use super::*;

    /// Whatever fits comes back, and what fits is what the head of the file says.
    #[test]
    fn what_fits_comes_back() {
        let epoch = epoch().0;
        let day = 86_400_000;
        let cases = [
            (0, 0, 0, Some(Layout::Small)),
            (16, 8, 100_000_123, Some(Layout::Small)),
            (63, 127, 396 * day + 1, Some(Layout::Small)),
            (16, 8, 398 * day, None),
            (64, 8, 1000, None),
            (16, 128, 1000, Some(Layout::Medium)),
            (63, 1023, 49 * day + 127, Some(Layout::Medium)),
            (16, 1024, 1000, None),
            (16, 512, 50 * day, None),
            (16, 8, -1, None),
            (16, 8, i64::MIN / 2, None),
        ];
        for (key, value, offset, expected) in cases {
            let at = Millis(epoch + offset);
            let packed = Layout::pack(key, value, at);
            assert_eq!(packed.map(|packed| packed.layout), expected, "{offset}");
            let Some(Packed {
                layout,
                lengths,
                tag,
            }) = packed
            else {
                continue;
            };
            assert_eq!(tag, expiry_tag(at));
            assert_eq!(lengths as usize & Layout::KEY_MAX, key);
            assert_eq!(layout.value_len(lengths), value);
            assert_eq!(layout.expiry(lengths, tag), at);
            let shorter = layout.with_value_len(lengths, value / 2);
            assert_eq!(layout.value_len(shorter), value / 2);
            assert_eq!(shorter as usize & Layout::KEY_MAX, key);
            assert_eq!(layout.expiry(shorter, tag), at);
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(Layout::pack(1, 1, Millis(extreme)).is_none());
        }
    }
}
