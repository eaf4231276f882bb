//! The timeouts of blocking commands.

use crate::base::clock::Millis;
use crate::data::number::LongDouble;
use crate::table::CommandError;
use crate::table::args::Taken;

/// When a command that waits for so many seconds gives up: fractions are rounded up to milliseconds; 0 is never.
pub fn until(seconds: &[u8], now: Millis) -> Taken<Option<Millis>> {
    let seconds = LongDouble::parse(seconds).ok_or(NOT_A_FLOAT)?;
    let milliseconds = seconds.thousandfold_rounded_up();
    match i64::try_from(milliseconds) {
        Ok(0) => Ok(None),
        Ok(wait @ 1..) => match now.0.checked_add(wait) {
            Some(end) => Ok(Some(Millis(end))),
            None => Err(OUT_OF_RANGE),
        },
        _ if milliseconds < 0 => Err(NEGATIVE),
        _ => Err(OUT_OF_RANGE),
    }
}

const NOT_A_FLOAT: CommandError = CommandError::fixed("ERR timeout is not a float or out of range");
const NEGATIVE: CommandError = CommandError::fixed("ERR timeout is negative");
const OUT_OF_RANGE: CommandError = CommandError::fixed("ERR timeout is out of range");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_with_a_fraction() {
        let now = Millis(1_700_000_000_000);
        let text = |text: &str| match until(text.as_bytes(), now) {
            Ok(until) => Ok(until.map(|at| at.since(now))),
            Err(error) => Err(error.text().into_owned()),
        };
        for (seconds, milliseconds) in [
            ("0", None),
            ("-0.0", None),
            ("-0.0001", None),
            // The long double next to it is above it, and so is a thousand times that.
            ("-0.001", None),
            ("0.001", Some(1)),
            ("0.0001", Some(1)),
            ("1e-17", Some(1)),
            ("1.5", Some(1500)),
            ("0x10", Some(16_000)),
            ("1e3", Some(1_000_000)),
            ("9223370336854775.807", Some(i64::MAX - now.0)),
        ] {
            assert_eq!(text(seconds), Ok(milliseconds), "{seconds}");
        }
        for (seconds, error) in [
            ("", NOT_A_FLOAT),
            ("x", NOT_A_FLOAT),
            (" 1", NOT_A_FLOAT),
            ("nan", NOT_A_FLOAT),
            ("1e5000", NOT_A_FLOAT),
            ("-1", NEGATIVE),
            ("-0.0011", NEGATIVE),
            ("-inf", NEGATIVE),
            ("-1e400", NEGATIVE),
            ("inf", OUT_OF_RANGE),
            ("1e400", OUT_OF_RANGE),
            ("9223370336854776", OUT_OF_RANGE),
            ("9223372036854775807", OUT_OF_RANGE),
        ] {
            assert_eq!(text(seconds), Err(error.text().into_owned()), "{seconds}");
        }
    }
}
