//! Splits a line into words the way the protocol's hand-written lines are read: inline requests and lines of the configuration file.
//!
//! Words are separated by blanks. A word may turn into a quoted one at any point, and ends where its quote ends; the closing
//! quote must be followed by a blank or the end. So `a"b c"` is the word `ab c`, and `"a"b` is an error. Within `"..."` the
//! escapes `\n \r \t \b \a`, `\xHH` and `\c` (any other c stands for itself) are known; within `'...'` only `\'`. A NUL ends the
//! line: the rule comes from a server whose strings end there, and what it does not see must not be seen here either.
//!
//! Cost: one pass, one allocation per word.

/// The words of `line`; `None` when a quote is left open or its end is followed by something else than a blank.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
    let mut words = Vec::new();
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let (word, after) = next_word(rest)?;
        words.push(word);
        rest = skip_blanks(after);
    }
    Some(words)
}

fn next_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        rest = match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some((word, rest)),
            [b'"', quoted @ ..] => {
                let after = double_quoted(quoted, &mut word)?;
                return blank_or_end(after).then_some((word, after));
            }
            [b'\'', quoted @ ..] => {
                let after = single_quoted(quoted, &mut word)?;
                return blank_or_end(after).then_some((word, after));
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

/// Adds the text up to the closing `"` to `word`; returns what follows the quote.
fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(unescape(*escaped));
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

/// Adds the text up to the closing `'` to `word`; returns what follows the quote.
fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let start = line
        .iter()
        .position(|&byte| !is_blank(byte))
        .unwrap_or(line.len());
    &line[start..]
}

fn blank_or_end(rest: &[u8]) -> bool {
    rest.first().is_none_or(|&byte| is_blank(byte))
}

/// C's isspace in the C locale; includes vertical tab and form feed, which separate words but do not end a bare one.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let text = |word: Vec<u8>| String::from_utf8(word).expect("the cases below are ASCII");
        split_args(line.as_bytes()).map(|words| words.into_iter().map(text).collect())
    }

    #[test]
    fn plain_and_quoted_words() {
        // Aim: every form of word, side by side.
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  \t\r\n", &[]),
            ("set a  b\r\n", &["set", "a", "b"]),
            (r#"set "a b" 'c d'"#, &["set", "a b", "c d"]),
            (r#"save """#, &["save", ""]),
            ("save ''", &["save", ""]),
            (r#"a"b c" d"#, &["ab c", "d"]),
            (r#""\n\r\t\b\a\q\"\\""#, &["\n\r\t\u{8}\u{7}q\"\\"]),
            (r#""\x41\x7a\xZZ""#, &["AzxZZ"]),
            (r"'it\'s \n'", &[r"it's \n"]),
            ("a\u{b}b \u{c}c", &["a\u{b}b", "c"]),
            ("seen\0unseen", &["seen"]),
        ];
        for (line, expected) in cases {
            assert_eq!(
                words(line).as_deref(),
                Some(&expected.iter().map(|w| w.to_string()).collect::<Vec<_>>()[..]),
                "{line:?}"
            );
        }
    }

    #[test]
    fn unbalanced_quotes() {
        // Aim: an open quote, one glued to more text, and one cut off by a NUL or a backslash.
        for line in [
            r#""a"#,
            "'a",
            r#""a"b"#,
            "'a'b",
            r#""a""b""#,
            r#"x ""#,
            "\"a\0\"",
            "\"a\\",
            "'a\\'",
        ] {
            assert_eq!(words(line), None, "{line:?}");
        }
    }

    #[test]
    fn bytes_survive() {
        // Aim: words are bytes, not text.
        assert_eq!(
            split_args(b"\"\\xff\\x00\" \xfe"),
            Some(vec![vec![0xff, 0x00], vec![0xfe]])
        );
    }
}
