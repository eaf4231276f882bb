//! Matching a pattern: Lua 5.1's rules, without recursion.
//!
//! Lua's own matcher calls itself for every item that may match in several ways. Here those ways stand on a list of
//! [`Choice`]s: when the pattern fails, the last choice is made otherwise. It never is longer than the pattern, and has its
//! own bound; every step is counted, so that a pattern with exponentially many ways can be ended.
//!
//! A pattern ends at its first NUL, as in Lua 5.1.

use mlua::Result;

use super::super::bounds::Steps;

/// A matcher with the captures of its last match.
pub(super) struct Matcher<'a> {
    source: &'a [u8],
    pattern: &'a [u8],
    captures: [Capture; CAPTURES],
    /// How many captures are open or closed.
    level: usize,
    choices: Vec<Choice>,
    steps: Steps<'a>,
}

/// The most captures that a pattern may have.
const CAPTURES: usize = 32;

/// The most choices at a time. Lua has no bound here but its stack, which a hundred thousand levels overflow.
const CHOICES: usize = 100_000;

#[derive(Clone, Copy)]
struct Capture {
    start: usize,
    len: Length,
}

#[derive(Clone, Copy, PartialEq)]
enum Length {
    /// No `)` yet.
    Open,
    /// `()`: the place itself.
    Position,
    Closed(usize),
}

/// What a capture holds.
pub(super) enum Captured<'a> {
    Text(&'a [u8]),
    /// A place in the source, from 1.
    Position(usize),
}

/// A place in the pattern to come back to.
enum Choice {
    /// Go on without the optional item.
    Without { source: usize, rest: usize },
    /// One repetition less; there are `more` of them after `source`.
    Fewer {
        source: usize,
        more: usize,
        rest: usize,
    },
    /// One repetition more of the item at `item`.
    More {
        source: usize,
        item: usize,
        rest: usize,
    },
    /// The last capture was not opened.
    Unopen,
    /// This capture was not closed.
    Unclose { capture: usize },
}

/// Why a match is not to be had.
pub(super) enum Fault {
    /// The pattern is wrong: the text of the error.
    Pattern(&'static str),
    /// The script is to end.
    Over(mlua::Error),
}

impl From<mlua::Error> for Fault {
    fn from(error: mlua::Error) -> Fault {
        Fault::Over(error)
    }
}

type Found<T> = std::result::Result<T, Fault>;

const ESCAPE: u8 = b'%';

impl<'a> Matcher<'a> {
    /// `pattern` is without its anchor.
    pub(super) fn new(source: &'a [u8], pattern: &'a [u8], steps: Steps<'a>) -> Matcher<'a> {
        let end = memchr::memchr(0, pattern).unwrap_or(pattern.len());
        Matcher {
            source,
            pattern: &pattern[..end],
            captures: [Capture {
                start: 0,
                len: Length::Open,
            }; CAPTURES],
            level: 0,
            choices: Vec::new(),
            steps,
        }
    }

    /// The first match that begins at `start` or, unless it is `anchored` there, later: its begin and end.
    pub(super) fn search(&mut self, start: usize, anchored: bool) -> Found<Option<(usize, usize)>> {
        for begin in start..=self.source.len() {
            if let Some(end) = self.match_at(begin)? {
                return Ok(Some((begin, end)));
            }
            if anchored {
                break;
            }
        }
        Ok(None)
    }

    /// Where the match that begins here ends.
    fn match_at(&mut self, begin: usize) -> Found<Option<usize>> {
        self.level = 0;
        self.choices.clear();
        let mut place = Some((begin, 0));
        loop {
            place = match place {
                Some((source, item)) if item >= self.pattern.len() => return Ok(Some(source)),
                Some((source, item)) => self.step(source, item)?,
                None => match self.choices.pop() {
                    Some(choice) => self.choose_otherwise(choice)?,
                    None => return Ok(None),
                },
            };
        }
    }

    /// Matches one item of the pattern: where to go on in both, unless it fails.
    fn step(&mut self, source: usize, item: usize) -> Found<Option<(usize, usize)>> {
        self.steps.count(1)?;
        match (self.pattern[item], self.pattern_byte(item + 1)) {
            (b'(', b')') => self.open_capture(source, Length::Position, item + 2),
            (b'(', _) => self.open_capture(source, Length::Open, item + 1),
            (b')', _) => self.close_capture(source, item + 1),
            (ESCAPE, b'b') => self.match_balance(source, item + 2),
            (ESCAPE, b'f') => self.match_frontier(source, item + 2),
            (ESCAPE, digit @ b'0'..=b'9') => self.match_capture(source, digit, item + 2),
            (b'$', _) if item + 1 == self.pattern.len() => {
                Ok((source == self.source.len()).then_some((source, item + 1)))
            }
            _ => self.match_single(source, item),
        }
    }

    fn choose_otherwise(&mut self, choice: Choice) -> Found<Option<(usize, usize)>> {
        self.steps.count(1)?;
        match choice {
            Choice::Without { source, rest } => Ok(Some((source, rest))),
            Choice::Fewer { source, more, rest } => {
                let more = more - 1;
                if more > 0 {
                    self.choices.push(Choice::Fewer { source, more, rest });
                }
                Ok(Some((source + more, rest)))
            }
            Choice::More { source, item, rest } => {
                // The item ends before its `-`.
                if !self.is_single(source, item, rest - 1)? {
                    return Ok(None);
                }
                let source = source + 1;
                self.choices.push(Choice::More { source, item, rest });
                Ok(Some((source, rest)))
            }
            Choice::Unopen => {
                self.level -= 1;
                Ok(None)
            }
            Choice::Unclose { capture } => {
                self.captures[capture].len = Length::Open;
                Ok(None)
            }
        }
    }

    fn push(&mut self, choice: Choice) -> Found<()> {
        if self.choices.len() >= CHOICES {
            return Err(Fault::Pattern("pattern too complex"));
        }
        self.choices.push(choice);
        Ok(())
    }

    /// A class, a set or a byte, and how often it may come.
    fn match_single(&mut self, source: usize, item: usize) -> Found<Option<(usize, usize)>> {
        let end = self.class_end(item)?;
        let rest = end + 1;
        match self.pattern_byte(end) {
            b'?' => {
                if !self.is_single(source, item, end)? {
                    return Ok(Some((source, rest)));
                }
                self.push(Choice::Without { source, rest })?;
                Ok(Some((source + 1, rest)))
            }
            b'*' => self.match_most(source, item, end),
            b'+' => match self.is_single(source, item, end)? {
                true => self.match_most(source + 1, item, end),
                false => Ok(None),
            },
            b'-' => {
                self.push(Choice::More { source, item, rest })?;
                Ok(Some((source, rest)))
            }
            _ => Ok(self
                .is_single(source, item, end)?
                .then_some((source + 1, end))),
        }
    }

    fn match_most(
        &mut self,
        source: usize,
        item: usize,
        end: usize,
    ) -> Found<Option<(usize, usize)>> {
        let mut more = 0;
        while self.is_single(source + more, item, end)? {
            more += 1;
        }
        let rest = end + 1;
        if more > 0 {
            self.push(Choice::Fewer { source, more, rest })?;
        }
        Ok(Some((source + more, rest)))
    }

    /// Whether the byte of the source here is one of those that the item from `item` to `end` stands for.
    fn is_single(&mut self, source: usize, item: usize, end: usize) -> Found<bool> {
        // A set is read through for every byte.
        self.steps.count(end - item)?;
        let Some(byte) = self.source.get(source) else {
            return Ok(false);
        };
        Ok(match self.pattern[item] {
            b'.' => true,
            ESCAPE => is_in_class(*byte, self.pattern[item + 1]),
            b'[' => is_in_set(*byte, &self.pattern[item..end]),
            literal => literal == *byte,
        })
    }

    /// Where the item that begins here ends.
    fn class_end(&self, item: usize) -> Found<usize> {
        match self.pattern[item] {
            ESCAPE if item + 1 == self.pattern.len() => {
                Err(Fault::Pattern("malformed pattern (ends with '%')"))
            }
            ESCAPE => Ok(item + 2),
            b'[' => self.set_end(item),
            _ => Ok(item + 1),
        }
    }

    /// Where the set that begins here ends: a `]` right after its begin is one of its bytes.
    fn set_end(&self, item: usize) -> Found<usize> {
        let mut at = item + 1;
        if self.pattern_byte(at) == b'^' {
            at += 1;
        }
        loop {
            let Some(byte) = self.pattern.get(at) else {
                return Err(Fault::Pattern("malformed pattern (missing ']')"));
            };
            at += 1;
            if *byte == ESCAPE && at < self.pattern.len() {
                at += 1;
            }
            if self.pattern_byte(at) == b']' {
                return Ok(at + 1);
            }
        }
    }

    fn open_capture(
        &mut self,
        source: usize,
        len: Length,
        rest: usize,
    ) -> Found<Option<(usize, usize)>> {
        let Some(capture) = self.captures.get_mut(self.level) else {
            return Err(Fault::Pattern("too many captures"));
        };
        *capture = Capture { start: source, len };
        self.level += 1;
        self.push(Choice::Unopen)?;
        Ok(Some((source, rest)))
    }

    fn close_capture(&mut self, source: usize, rest: usize) -> Found<Option<(usize, usize)>> {
        let open = self.captures[..self.level]
            .iter()
            .rposition(|capture| capture.len == Length::Open);
        let Some(capture) = open else {
            return Err(Fault::Pattern("invalid pattern capture"));
        };
        let start = self.captures[capture].start;
        self.captures[capture].len = Length::Closed(source - start);
        self.push(Choice::Unclose { capture })?;
        Ok(Some((source, rest)))
    }

    /// `%1`: what a capture has matched, once more.
    fn match_capture(
        &mut self,
        source: usize,
        digit: u8,
        rest: usize,
    ) -> Found<Option<(usize, usize)>> {
        let number = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let capture = self.captures[..self.level].get(number);
        let len = match capture {
            None
            | Some(Capture {
                len: Length::Open, ..
            }) => return Err(Fault::Pattern("invalid capture index")),
            // Its length is taken for an enormous one.
            Some(Capture {
                len: Length::Position,
                ..
            }) => return Ok(None),
            Some(Capture {
                len: Length::Closed(len),
                ..
            }) => *len,
        };
        self.steps.count(len / 16)?;
        let start = self.captures[number].start;
        let is_same = self.source[source..].starts_with(&self.source[start..start + len]);
        Ok(is_same.then_some((source + len, rest)))
    }

    /// `%bxy`: from an x to the y that balances it.
    fn match_balance(&mut self, source: usize, item: usize) -> Found<Option<(usize, usize)>> {
        let (Some(begin), Some(end)) = (self.pattern.get(item), self.pattern.get(item + 1)) else {
            return Err(Fault::Pattern("unbalanced pattern"));
        };
        if self.source.get(source) != Some(begin) {
            return Ok(None);
        }
        let mut depth = 1;
        for (index, byte) in self.source[source + 1..].iter().enumerate() {
            self.steps.count(1)?;
            if byte == end {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some((source + index + 2, item + 2)));
                }
            } else if byte == begin {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: between a byte that is not of the set and one that is. Both ends of the source count as NUL.
    fn match_frontier(&mut self, source: usize, item: usize) -> Found<Option<(usize, usize)>> {
        if self.pattern_byte(item) != b'[' {
            return Err(Fault::Pattern("missing '[' after '%f' in pattern"));
        }
        let end = self.set_end(item)?;
        self.steps.count(end - item)?;
        let set = &self.pattern[item..end];
        let before = match source {
            0 => 0,
            _ => self.source[source - 1],
        };
        let after = self.source.get(source).copied().unwrap_or(0);
        let is_frontier = !is_in_set(before, set) && is_in_set(after, set);
        Ok(is_frontier.then_some((source, end)))
    }

    fn pattern_byte(&self, at: usize) -> u8 {
        self.pattern.get(at).copied().unwrap_or(0)
    }

    /// How many captures the last match has.
    pub(super) fn capture_count(&self) -> usize {
        self.level
    }

    /// A capture of the last match, from 0. Where there is none at all, the first is the whole match.
    ///
    /// # Errors
    /// There is none with this number, or its `)` is missing.
    pub(super) fn capture(&self, number: usize, whole: (usize, usize)) -> Found<Captured<'a>> {
        if number >= self.level {
            return match number {
                0 => Ok(self.whole(whole)),
                _ => Err(Fault::Pattern("invalid capture index")),
            };
        }
        let Capture { start, len } = self.captures[number];
        match len {
            Length::Open => Err(Fault::Pattern("unfinished capture")),
            Length::Position => Ok(Captured::Position(start + 1)),
            Length::Closed(len) => Ok(Captured::Text(&self.source[start..start + len])),
        }
    }

    /// The whole match.
    pub(super) fn whole(&self, whole: (usize, usize)) -> Captured<'a> {
        Captured::Text(&self.source[whole.0..whole.1])
    }

    /// Makes sure that a buffer may have so many bytes.
    pub(super) fn check_size(&mut self, bytes: usize) -> Result<()> {
        self.steps.check_size(bytes)
    }
}

/// A letter after `%`: a class of bytes, all others if it is a capital; what is no such letter stands for itself.
fn is_in_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | b'\t'..=b'\r'),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return byte == class,
    };
    is_in != class.is_ascii_uppercase()
}

/// Whether a byte is of a set, which stands there with its brackets.
fn is_in_set(byte: u8, set: &[u8]) -> bool {
    let inner = &set[1..set.len() - 1];
    let (inner, is_negated) = match inner {
        [b'^', inner @ ..] => (inner, true),
        inner => (inner, false),
    };
    let mut rest = inner;
    loop {
        let (is_in, after) = match rest {
            [] => return is_negated,
            [ESCAPE, class, after @ ..] => (is_in_class(byte, *class), after),
            [low, b'-', high, after @ ..] => ((*low..=*high).contains(&byte), after),
            [literal, after @ ..] => (*literal == byte, after),
        };
        if is_in {
            return !is_negated;
        }
        rest = after;
    }
}
