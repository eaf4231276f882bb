//! The timeouts of blocking commands.

use crate::base::clock::Millis;
use crate::data::number::{LongDouble, parse_strtod};
use crate::table::CommandError;
use crate::table::args::Taken;

/// When a command that waits for so many seconds gives up: fractions are rounded up to milliseconds, 0 is never.
pub fn until(seconds: &[u8], now: Millis) -> Taken<Option<Millis>> {
    const NOT_A_FLOAT: CommandError =
        CommandError::fixed("ERR timeout is not a float or out of range");
    const NEGATIVE: CommandError = CommandError::fixed("ERR timeout is negative");
    const OUT_OF_RANGE: CommandError = CommandError::fixed("ERR timeout is out of range");
    // Redis reads it into a long double, which takes exponents that a double does not; those are out of range below.
    let seconds = LongDouble::parse(seconds)
        .and_then(|_| parse_strtod(seconds))
        .ok_or(NOT_A_FLOAT)?;
    let milliseconds = (seconds * 1000.0).ceil();
    if milliseconds < 0.0 {
        return Err(NEGATIVE);
    }
    let end = i64::MAX.saturating_sub(now.0);
    if milliseconds >= end as f64 {
        return Err(OUT_OF_RANGE);
    }
    let milliseconds = milliseconds as i64;
    Ok((milliseconds > 0).then(|| now.plus(milliseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_with_a_fraction() {
        let now = Millis(1_700_000_000_000);
        let read =
            |text: &str| until(text.as_bytes(), now).map(|until| until.map(|at| at.0 - now.0));
        let text = |text: &str| read(text).map_err(|error| error.text().into_owned());
        assert_eq!(text("0"), Ok(None));
        assert_eq!(text("-0.0001"), Ok(None));
        assert_eq!(text("1.5"), Ok(Some(1500)));
        assert_eq!(text("0.0001"), Ok(Some(1)));
        assert_eq!(text("1e3"), Ok(Some(1_000_000)));
        for (refused, why) in [
            ("", "ERR timeout is not a float or out of range"),
            ("x", "ERR timeout is not a float or out of range"),
            (" 1", "ERR timeout is not a float or out of range"),
            ("nan", "ERR timeout is not a float or out of range"),
            ("-1", "ERR timeout is negative"),
            ("-inf", "ERR timeout is negative"),
            ("inf", "ERR timeout is out of range"),
            ("1e400", "ERR timeout is out of range"),
            ("9223372036854775807", "ERR timeout is out of range"),
            ("9223372036854775", "ERR timeout is out of range"),
        ] {
            assert_eq!(text(refused), Err(why.to_owned()), "{refused:?}");
        }
    }
}
