//! Texts that Lua's compiler must not be given. Lua 5.1.5 has faults there, and work that grows with the square of the
//! text; neither shows in a script that somebody has written.

/// Equals signs in the bracket of a long string. Lua counts them in an int and looks behind the end of its buffer when
/// there are very many (CVE-2025-46819).
const MAX_BRACKET_LEVEL: usize = 10_000;

/// Words whose jumps the compiler keeps in lists that it walks for each new one.
const MAX_JUMPS: usize = 20_000;

/// Why a text is not compiled, as Lua would say it.
pub fn refusal(text: &[u8]) -> Option<&'static str> {
    if has_long_bracket(text) {
        return Some("lexical element too long");
    }
    if jumps(text) > MAX_JUMPS {
        return Some("control structure too long");
    }
    None
}

fn has_long_bracket(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'[', b']', rest) {
        rest = &rest[at + 1..];
        let level = rest.iter().take_while(|byte| **byte == b'=').count();
        if level > MAX_BRACKET_LEVEL {
            return true;
        }
        rest = &rest[level..];
    }
    false
}

/// At least as many as the compiler will find: those in strings and comments count too.
fn jumps(text: &[u8]) -> usize {
    if text.len() / "or ".len() <= MAX_JUMPS {
        return 0;
    }
    let words = text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    let is_jump = |word: &&[u8]| matches!(*word, b"and" | b"or" | b"break" | b"elseif");
    words.filter(is_jump).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_brackets_are_limited() {
        let text = |level: usize| format!("return [{0}[x]{0}]", "=".repeat(level)).into_bytes();
        assert_eq!(refusal(&text(MAX_BRACKET_LEVEL)), None);
        assert_eq!(
            refusal(&text(MAX_BRACKET_LEVEL + 1)),
            Some("lexical element too long")
        );
        let closing = [b"return ]".to_vec(), vec![b'='; MAX_BRACKET_LEVEL + 1]].concat();
        assert!(refusal(&closing).is_some());
        assert_eq!(refusal(&b"=".repeat(MAX_BRACKET_LEVEL * 2)), None);
    }

    #[test]
    fn chains_of_jumps_are_limited() {
        for word in ["and a ", "or a ", "elseif a then ", "if a then break end "] {
            let text = format!("return a {}", word.repeat(MAX_JUMPS + 1));
            assert_eq!(
                refusal(text.as_bytes()),
                Some("control structure too long"),
                "{word}"
            );
        }
        let strings = format!("return '{}'", "sand word broken ".repeat(MAX_JUMPS));
        assert_eq!(refusal(strings.as_bytes()), None);
    }
}
