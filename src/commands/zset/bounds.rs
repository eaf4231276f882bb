//! The ends of ranges as clients write them.

use std::ops::Range;

use crate::data::number;
use crate::data::zset::{LexBound, ScoreBound};
use crate::table::CommandError;
use crate::table::args::Taken;
use crate::table::error::shown;

/// Both ends of a range of scores: a number, or `(` and a number that is itself outside.
pub(super) fn scores(min: &[u8], max: &[u8]) -> Taken<(ScoreBound, ScoreBound)> {
    const REFUSED: CommandError = CommandError::fixed("ERR min or max is not a float");
    score(min).zip(score(max)).ok_or(REFUSED)
}

/// Both ends of a range of bytes: `-`, `+`, `[member`, or `(member` which is itself outside.
pub(super) fn texts<'a>(min: &'a [u8], max: &'a [u8]) -> Taken<(LexBound<'a>, LexBound<'a>)> {
    const REFUSED: CommandError = CommandError::fixed("ERR min or max not valid string range item");
    text(min).zip(text(max)).ok_or(REFUSED)
}

/// Redis reads these with `strtod`, as C strings: they end at a NUL, and an empty one is 0.
fn score(text: &[u8]) -> Option<ScoreBound> {
    let (exclusive, number) = match shown(text) {
        [b'(', number @ ..] => (true, number),
        number => (false, number),
    };
    let score = match number {
        [] => 0.0,
        number => number::parse_strtod(number)?,
    };
    Some(ScoreBound { score, exclusive })
}

fn text(text: &[u8]) -> Option<LexBound<'_>> {
    match text {
        [b'-'] | [b'-', 0, ..] => Some(LexBound::First),
        [b'+'] | [b'+', 0, ..] => Some(LexBound::Last),
        [b'[', member @ ..] => Some(LexBound::Inclusive(member)),
        [b'(', member @ ..] => Some(LexBound::Exclusive(member)),
        _ => None,
    }
}

/// The ranks from `start` to `stop`, negative ones counted from the end, of a set of `len`.
pub(super) fn ranks(start: i64, stop: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let from_end = |rank: i64| {
        if rank < 0 {
            len.saturating_add(rank)
        } else {
            rank
        }
    };
    let start = from_end(start).max(0);
    let stop = from_end(stop).min(len - 1);
    if start > stop {
        return 0..0;
    }
    start as usize..stop as usize + 1
}

/// The same ranks counted from the other end.
pub(super) fn mirrored(ranks: Range<usize>, len: usize) -> Range<usize> {
    len - ranks.end..len - ranks.start
}

/// LIMIT: leaves `offset` ranks out, then lets `count` through, all of them when it is negative. `reverse` counts from the
/// end. A negative offset leaves everything out.
pub(super) fn limited(ranks: Range<usize>, offset: i64, count: i64, reverse: bool) -> Range<usize> {
    let len = ranks.len();
    let skipped = usize::try_from(offset).map_or(len, |offset| offset.min(len));
    let taken = usize::try_from(count).map_or(len - skipped, |count| count.min(len - skipped));
    if reverse {
        let end = ranks.end - skipped;
        end - taken..end
    } else {
        let start = ranks.start + skipped;
        start..start + taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_counted_from_either_end() {
        let cases = [
            (0, -1, 0..5),
            (-3, -2, 2..4),
            (-100, 1, 0..2),
            (3, 100, 3..5),
            (4, 3, 0..0),
            (5, 9, 0..0),
            (i64::MIN, i64::MAX, 0..5),
            (i64::MAX, i64::MIN, 0..0),
        ];
        for (start, stop, expected) in cases {
            assert_eq!(ranks(start, stop, 5), expected, "{start} {stop}");
            assert!(ranks(start, stop, 0).is_empty());
        }
        assert_eq!(mirrored(1..3, 5), 2..4);
    }

    #[test]
    fn limits_cut_off_what_is_met_first() {
        assert_eq!(limited(2..8, 0, -1, false), 2..8);
        assert_eq!(limited(2..8, 1, 2, false), 3..5);
        assert_eq!(limited(2..8, 1, 2, true), 5..7);
        assert_eq!(limited(2..8, 9, 2, true), 2..2);
        assert!(limited(2..8, -1, 5, false).is_empty());
        assert!(limited(2..8, i64::MAX, i64::MAX, false).is_empty());
        assert_eq!(limited(2..8, 5, i64::MAX, false), 7..8);
    }

    #[test]
    fn bounds_are_read_as_c_reads_them() {
        let score = |text: &str| score(text.as_bytes()).map(|bound| (bound.score, bound.exclusive));
        assert_eq!(score("(1.5"), Some((1.5, true)));
        assert_eq!(score(""), Some((0.0, false)));
        assert_eq!(score("("), Some((0.0, true)));
        assert_eq!(score("1e999"), Some((f64::INFINITY, false)));
        assert_eq!(score(" 1\0x"), Some((1.0, false)));
        assert_eq!(score("(-inf"), Some((f64::NEG_INFINITY, true)));
        for refused in ["nan", "1 ", "((1", "[1", "x", " "] {
            assert_eq!(score(refused), None, "{refused:?}");
        }
        assert_eq!(text(b"[a"), Some(LexBound::Inclusive(b"a")));
        assert_eq!(text(b"("), Some(LexBound::Exclusive(b"")));
        for refused in [&b""[..], b"a", b"+a", b"-inf", b"++"] {
            assert_eq!(text(refused), None);
        }
    }
}
