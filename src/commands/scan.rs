//! What SCAN and its kin for collections share: cursors, patterns, options.

use crate::data::glob::glob_match;
use crate::data::number;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// Takes a cursor: any number of 64 bits, read as C's `strtoul` reads it.
pub fn cursor(args: &mut Args<'_>) -> Taken<u64> {
    parse_cursor(args.bytes()?).ok_or(CommandError::fixed("ERR invalid cursor"))
}

/// Signs are allowed, a minus wraps around, nothing is 0; blanks are not.
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [] => (false, &b"0"[..]),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let significant = digits
        .iter()
        .position(|digit| *digit != b'0')
        .unwrap_or(digits.len().saturating_sub(1));
    let number = number::parse_u64(&digits[significant..])?;
    Some(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

/// A pattern that knows when it matches everything.
pub struct Pattern(Option<Vec<u8>>);

impl Pattern {
    /// Matches everything.
    pub const ANY: Pattern = Pattern(None);

    /// A pattern in the notation of KEYS.
    pub fn new(pattern: &[u8]) -> Pattern {
        Pattern((pattern != b"*").then(|| pattern.to_vec()))
    }

    /// Whether it matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0
            .as_ref()
            .is_none_or(|pattern| glob_match(pattern, text, false))
    }
}

/// MATCH and COUNT.
pub struct Options {
    /// What is shown.
    pub pattern: Pattern,
    /// About how many elements are looked at.
    pub count: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            pattern: Pattern::ANY,
            count: 10,
        }
    }
}

impl Options {
    /// Takes all that is left: these options, each as often as a client likes, the last one counts.
    pub fn parse(args: &mut Args<'_>) -> Taken<Options> {
        let mut options = Options::default();
        while !args.is_empty() {
            if !options.take(args)? {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// Takes the next argument if it is one of these options; whether it is.
    pub fn take(&mut self, args: &mut Args<'_>) -> Taken<bool> {
        if args.keyword("MATCH") {
            self.pattern = Pattern::new(args.bytes()?);
        } else if args.keyword("COUNT") {
            self.count = u64::try_from(args.integer()?)
                .ok()
                .filter(|count| *count > 0)
                .ok_or(CommandError::Syntax)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The count for an operation in memory.
    pub fn limit(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_what_strtoul_reads() {
        let cases: [(&[u8], Option<u64>); 12] = [
            (b"", Some(0)),
            (b"0", Some(0)),
            (b"-1", Some(u64::MAX)),
            (b"+5", Some(5)),
            (b"007", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b" 1", None),
            (b"1 ", None),
            (b"0x", None),
            (b"-", None),
            (b"1\0", None),
        ];
        for (text, number) in cases {
            assert_eq!(parse_cursor(text), number, "{}", text.escape_ascii());
        }
    }
}
