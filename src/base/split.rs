//! A line of text into words, with quotes: inline commands and the lines of a configuration file.
//!
//! The rules are those of Redis's `sdssplitargs`, to the byte. Words are separated by blanks. In double quotes `\xHH`,
//! `\n`, `\r`, `\t`, `\b`, `\a` stand for a byte and a backslash before anything else for that byte; in single quotes only
//! `\'` is special. A closing quote must be followed by a blank or the end. A quote may open inside a word (`a"b"` is
//! `ab`). A NUL ends the line, for Redis reads it as a C string.

/// A quote that is not closed, or is closed in the middle of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbalanced;

/// The words of `line`, unquoted. A blank line has none.
pub fn split_args(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let end = memchr::memchr(0, line).unwrap_or(line.len());
    let mut rest = &line[..end];
    let mut words = Vec::new();
    loop {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// Appends the first word of `rest` to `word` and returns what follows it.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    while let [first, tail @ ..] = rest {
        match first {
            b'"' => return take_double_quoted(tail, word),
            b'\'' => return take_single_quoted(tail, word),
            // Not is_blank: Redis starts a word after a vertical tab or form feed but does not end one there.
            b' ' | b'\n' | b'\r' | b'\t' => return Ok(tail),
            byte => word.push(*byte),
        }
        rest = tail;
    }
    Ok(rest)
}

fn take_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [b'"', tail @ ..] => return after_quote(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex_value(*high) << 4 | hex_value(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(unescape(*escaped));
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
            [] => return Err(Unbalanced),
        }
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [b'\'', tail @ ..] => return after_quote(tail),
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
            [] => return Err(Unbalanced),
        }
    }
}

fn after_quote(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest.first() {
        Some(byte) if !is_blank(*byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, Unbalanced> {
        let words = split_args(line.as_bytes())?;
        Ok(words
            .into_iter()
            .map(|word| String::from_utf8(word).expect("the test lines are text"))
            .collect())
    }

    #[test]
    fn words_are_separated_by_blanks() {
        assert_eq!(words("").unwrap(), Vec::<String>::new());
        assert_eq!(words(" \t\r\n").unwrap(), Vec::<String>::new());
        assert_eq!(words("  set  a b ").unwrap(), ["set", "a", "b"]);
        assert_eq!(words("a\x0bb \x0bc").unwrap(), ["a\x0bb", "c"]);
        assert_eq!(words("a\0b").unwrap(), ["a"]);
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(words(r#""a b" '' """#).unwrap(), ["a b", "", ""]);
        assert_eq!(words(r#""\x41\n\q\xZ1""#).unwrap(), ["A\nqxZ1"]);
        assert_eq!(words(r"'a\'b\n'").unwrap(), [r"a'b\n"]);
        assert_eq!(words("PI\"NG\"").unwrap(), ["PING"]);
        for bad in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\", "\"a\0\""] {
            assert_eq!(words(bad), Err(Unbalanced), "{bad:?}");
        }
    }
}
