//! Which scripts leave KEYS and ARGV as they find them, so that the next run may find the same tables with other texts.
//!
//! A table of its own costs a run two allocations, which the collector has to find and free again. Most scripts only read
//! `KEYS[1]` and the like. What is not certainly of that kind is not plain, and gets new tables: scripts that name a table as
//! a whole, count upwards in it, or may find it by other names. Tables of an earlier run cannot be seen by a later one in
//! any other way, since no script can leave something behind.

/// Names by which globals are found without being named in the text.
const WAYS_TO_GLOBALS: [&[u8]; 3] = [b"_G", b"load", b"loadstring"];

/// Whether a script reads elements of KEYS and ARGV, by numbers, and does nothing else with them.
pub fn is_plain(text: &[u8]) -> bool {
    let mut scan = Scan {
        rest: text,
        depth: 0,
        has_functions: false,
    };
    scan.is_plain().is_some()
}

struct Scan<'a> {
    rest: &'a [u8],
    /// Parentheses and braces that are open.
    depth: usize,
    /// Whether a function was defined: within it, assignments may stand in parentheses.
    has_functions: bool,
}

impl Scan<'_> {
    /// `None`: it is not.
    fn is_plain(&mut self) -> Option<()> {
        while let Some(byte) = self.rest.first().copied() {
            match byte {
                b'"' | b'\'' => self.string(byte)?,
                b'-' if self.rest.get(1) == Some(&b'-') => self.comment()?,
                // Long strings.
                b'[' if matches!(self.rest.get(1), Some(b'[' | b'=')) => return None,
                b'(' | b'{' => self.depth += 1,
                b')' | b'}' => self.depth = self.depth.checked_sub(1)?,
                byte if is_word(byte) => {
                    self.word()?;
                    continue;
                }
                _ => {}
            }
            self.skip(1);
        }
        Some(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Up to the quote at its end.
    fn string(&mut self, quote: u8) -> Option<()> {
        self.skip(1);
        let is_special = |byte: &u8| matches!(*byte, b'\\' | b'\n' | b'\r') || *byte == quote;
        let end = self.rest.iter().position(is_special)?;
        self.skip(end);
        (self.rest[0] == quote).then_some(())
    }

    /// Up to the last byte of its line.
    fn comment(&mut self) -> Option<()> {
        let is_end = |byte: &u8| matches!(*byte, b'\n' | b'\r');
        let end = self.rest.iter().position(is_end);
        let end = end.unwrap_or(self.rest.len());
        if self.rest.get(2) == Some(&b'[') {
            return None;
        }
        self.skip(end - 1);
        Some(())
    }

    fn word(&mut self) -> Option<()> {
        let end = self.rest.iter().position(|byte| !is_word(*byte));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match word {
            b"KEYS" | b"ARGV" => self.element(),
            b"function" => {
                self.has_functions = true;
                Some(())
            }
            word => (!WAYS_TO_GLOBALS.contains(&word)).then_some(()),
        }
    }

    /// `[1]` behind the name of a table, and what cannot be the end of something that is assigned to.
    fn element(&mut self) -> Option<()> {
        let inside = self.rest.strip_prefix(b"[")?;
        let digits = inside.iter().take_while(|byte| byte.is_ascii_digit());
        let digits = digits.count();
        self.rest = inside[digits..].strip_prefix(b"]")?;
        let is_blank = |byte: &&u8| byte.is_ascii_whitespace() || **byte == 0x0b;
        let blanks = self.rest.iter().take_while(is_blank).count();
        let is_read = match self.rest[blanks..] {
            [b'=', b'=', ..] => true,
            // `KEYS[1], x = ...` has its comma outside of parentheses.
            [b',', ..] => self.depth > 0 && !self.has_functions,
            // A comment might hide one of these.
            [b'-', b'-', ..] | [b'=', ..] => false,
            _ => true,
        };
        (digits > 0 && is_read).then_some(())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_read_elements_are_plain() {
        for text in [
            "return 1",
            "return KEYS[1]",
            "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], ARGV[1]) return v",
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end",
            "-- KEYS and ARGV, as a whole\nreturn { KEYS[1], tonumber(ARGV[2]) }",
            "if KEYS[1] == '=' then return \"KEYS\" .. ARGV[1] end",
            "local a = KEYS[1]\nlocal b = ARGV[1]:len() + #KEYS[1]",
        ] {
            assert!(is_plain(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn scripts_that_may_change_or_keep_a_table_are_not() {
        for text in [
            "KEYS[1] = 2",
            "KEYS[7]='x' return 1",
            "KEYS[1]\n=\n2",
            "KEYS[1]\x0b= 2",
            "KEYS[1] --\n = 2",
            "KEYS[3], x = 1, 2",
            "local x x, KEYS[3] = 1, 2",
            "local x x, KEYS[3], y = 1, 2",
            "f(function() KEYS[3], x = 1, 2 end)",
            "KEYS.x = 1",
            "KEYS['x'] = 1",
            "KEYS[#KEYS + 1] = 1",
            "KEYS[]",
            "KEYS [1] = 2",
            "for i, key in ipairs(KEYS) do end",
            "local k = KEYS",
            "setmetatable(ARGV, {})",
            "table.insert(ARGV, 'x')",
            "return #KEYS",
            "_G['KE' .. 'YS'].x = 1",
            "loadstring('KE' .. 'YS.x = 1')()",
            "load(f)()",
            "local s = '\\'KEYS[1], x = 1, 2'",
            "local s = [[(]] KEYS[3], x = 1, 2",
            "local s = '(' KEYS[3], x = 1, 2",
            "--[[ ( ]] KEYS[3], x = 1, 2",
            "local s = ')' x = (KEYS[1]) KEYS[3], x = 1, 2",
            "local s = 'unfinished",
            ")",
        ] {
            assert!(!is_plain(text.as_bytes()), "{text}");
        }
    }
}
