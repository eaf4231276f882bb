//! cjson.decode.
//!
//! A list of open arrays and objects instead of recursion. The original reads its text as a C string: what stands behind a
//! NUL is not read, and a NUL at the end is always there to be found.

use mlua::{Error, Result, Table, Value};

use super::super::bounds::Steps;
use super::super::call::Call;
use super::{DEEPEST, STACK_SLOTS, Settings, check_single, too_deep};
use crate::data::number;

/// The function `decode`.
pub(super) fn decode(call: &Call<'_>, settings: Settings) -> Result<Value> {
    check_single(call)?;
    let text = call.string(1)?;
    let text = text.as_bytes();
    if matches!(&*text, [0, _, ..] | [_, 0, ..]) {
        return Err(call.error("JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut decoder = Decoder {
        call,
        settings,
        steps: Steps::new(call.lua),
        text: &text,
        at: 0,
        string: Vec::new(),
        levels: Vec::new(),
        keys: Vec::new(),
        slots: 1,
    };
    decoder.run()
}

struct Decoder<'a> {
    call: &'a Call<'a>,
    settings: Settings,
    steps: Steps<'a>,
    text: &'a [u8],
    at: usize,
    /// The last string token, its escapes undone.
    string: Vec<u8>,
    /// The arrays and objects that are not closed, outermost first.
    levels: Vec<Level>,
    /// The keys of the objects among them that wait for their values, one after the other.
    keys: Vec<u8>,
    /// The slots of its stack that the original would have in use.
    slots: usize,
}

struct Level {
    table: Table,
    kind: Kind,
}

enum Kind {
    /// The index of the item that is being read.
    Array(usize),
    /// Where the key of the pair that is being read begins in the list of keys.
    Object(usize),
}

/// What the text is made of.
#[derive(Clone, Copy, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its text is in [`Decoder::string`].
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    /// No token, and why.
    Bad(&'static str),
}

impl Token {
    /// How an error names it.
    fn name(self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Bad(reason) => reason,
        }
    }
}

/// A token and its place, from 0.
type Placed = (Token, usize);

impl Decoder<'_> {
    fn run(&mut self) -> Result<Value> {
        let mut token = self.next_token()?;
        loop {
            // A value begins here.
            let mut value = match self.begin_value(token)? {
                Begun::Value(value) => value,
                Begun::Items(first) => {
                    token = first;
                    continue;
                }
            };
            // It, and all that end with it, go where they belong.
            loop {
                let Some(level) = self.levels.last() else {
                    let token = self.next_token()?;
                    return match token.0 {
                        Token::End => Ok(value),
                        _ => Err(self.unexpected("the end", token)),
                    };
                };
                match level.kind {
                    Kind::Array(index) => level.table.raw_set(index, value)?,
                    Kind::Object(start) => {
                        let key = self.call.lua.create_string(&self.keys[start..])?;
                        level.table.raw_set(key, value)?;
                        self.keys.truncate(start);
                    }
                }
                match self.next_item()? {
                    Some(next) => {
                        token = next;
                        break;
                    }
                    None => value = self.close(),
                }
            }
        }
    }

    /// A value, or the first token of the first value in an array or an object.
    fn begin_value(&mut self, token: Placed) -> Result<Begun> {
        Ok(Begun::Value(match token.0 {
            Token::String => Value::String(self.call.lua.create_string(&self.string)?),
            Token::Number(value) => Value::Number(value),
            Token::Boolean(value) => Value::Boolean(value),
            Token::Null => Value::NULL,
            Token::ArrayBegin => {
                self.open(2, Kind::Array(1))?;
                let first = self.next_token()?;
                if first.0 != Token::ArrayEnd {
                    return Ok(Begun::Items(first));
                }
                self.close()
            }
            Token::ObjectBegin => {
                self.open(3, Kind::Object(self.keys.len()))?;
                let first = self.next_token()?;
                if first.0 != Token::ObjectEnd {
                    return self.key(first).map(Begun::Items);
                }
                self.close()
            }
            _ => return Err(self.unexpected("value", token)),
        }))
    }

    /// Opens an array or an object, for which the original wants so many slots.
    fn open(&mut self, slots: usize, kind: Kind) -> Result<()> {
        let depth = self.levels.len() + 1;
        let too_many = depth as i64 > i64::from(self.settings.decode_max_depth)
            || depth > DEEPEST
            || self.slots + slots > STACK_SLOTS;
        if too_many {
            return Err(self.too_nested(depth));
        }
        let table = self.call.lua.create_table();
        let table = table.map_err(|error| too_deep(error, || self.too_nested(depth)))?;
        self.slots += slots - 1;
        self.levels.push(Level { table, kind });
        Ok(())
    }

    /// The innermost table, complete.
    fn close(&mut self) -> Value {
        match self.levels.pop() {
            Some(level) => {
                self.slots -= match level.kind {
                    Kind::Array(_) => 1,
                    Kind::Object(_) => 2,
                };
                Value::Table(level.table)
            }
            None => Value::Nil,
        }
    }

    /// The token after a key and its colon. The key is kept.
    fn key(&mut self, token: Placed) -> Result<Placed> {
        if token.0 != Token::String {
            return Err(self.unexpected("object key string", token));
        }
        self.keys.extend_from_slice(&self.string);
        let colon = self.next_token()?;
        if colon.0 != Token::Colon {
            return Err(self.unexpected("colon", colon));
        }
        self.next_token()
    }

    /// What begins the next value of the innermost array or object; none if that ends.
    fn next_item(&mut self) -> Result<Option<Placed>> {
        let token = self.next_token()?;
        let Some(level) = self.levels.last_mut() else {
            return Ok(None);
        };
        match (&mut level.kind, token.0) {
            (Kind::Array(_), Token::ArrayEnd) | (Kind::Object(_), Token::ObjectEnd) => Ok(None),
            (Kind::Array(index), Token::Comma) => {
                *index += 1;
                self.next_token().map(Some)
            }
            (Kind::Object(_), Token::Comma) => {
                let token = self.next_token()?;
                self.key(token).map(Some)
            }
            (Kind::Array(_), _) => Err(self.unexpected("comma or array end", token)),
            (Kind::Object(_), _) => Err(self.unexpected("comma or object end", token)),
        }
    }

    fn next_token(&mut self) -> Result<Placed> {
        let start = self.at;
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let place = self.at;
        let single = match self.byte(0) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            0 => Token::End,
            other => {
                let token = self.long_token(other);
                self.steps.count(1 + (self.at - start) / 16)?;
                // What is wrong within a string is told with its own place.
                return Ok(match token {
                    Ok(token) => (token, place),
                    Err(reason) => (Token::Bad(reason), self.at),
                });
            }
        };
        if single != Token::End {
            self.at += 1;
        }
        self.steps.count(1 + (self.at - start) / 16)?;
        Ok((single, place))
    }

    fn long_token(&mut self, first: u8) -> std::result::Result<Token, &'static str> {
        let words: [(&[u8], Token); 3] = [
            (b"true", Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ];
        let allows_invalid = self.settings.decode_invalid_numbers;
        match first {
            b'"' => self.string_token(),
            b'-' | b'0'..=b'9' if allows_invalid || !self.is_invalid_number() => {
                self.number_token()
            }
            b'-' | b'0'..=b'9' => Err("invalid number"),
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+' => {
                let rest = &self.text[self.at..];
                if let Some((word, token)) = words.iter().find(|(word, _)| rest.starts_with(word)) {
                    self.at += word.len();
                    return Ok(*token);
                }
                match allows_invalid && self.is_invalid_number() {
                    true => self.number_token(),
                    false => Err("invalid token"),
                }
            }
            _ => Err("invalid token"),
        }
    }

    /// Whether a number begins here that strtod may take, but that is not JSON's.
    fn is_invalid_number(&self) -> bool {
        let sign = usize::from(self.byte(0) == b'-');
        match (self.byte(sign), self.byte(sign + 1)) {
            (b'+', _) if sign == 0 => true,
            (b'0', next) => next | 0x20 == b'x' || next.is_ascii_digit(),
            (digit, _) if digit <= b'9' => false,
            _ => {
                let rest = self.text.get(self.at + sign..self.at + sign + 3);
                rest.is_some_and(|rest| {
                    rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"nan")
                })
            }
        }
    }

    fn number_token(&mut self) -> std::result::Result<Token, &'static str> {
        let (value, len) = number::parse_strtod_prefix(&self.text[self.at..]);
        if len == 0 {
            return Err("invalid number");
        }
        self.at += len;
        Ok(Token::Number(value))
    }

    fn string_token(&mut self) -> std::result::Result<Token, &'static str> {
        self.string.clear();
        self.at += 1;
        loop {
            let rest = &self.text[self.at.min(self.text.len())..];
            let plain = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0));
            let plain = plain.unwrap_or(rest.len());
            self.string.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.byte(0) {
                b'"' => {
                    self.at += 1;
                    return Ok(Token::String);
                }
                b'\\' => self.escape()?,
                _ => return Err("unexpected end of string"),
            }
        }
    }

    fn escape(&mut self) -> std::result::Result<(), &'static str> {
        let byte = match self.byte(1) {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            b'u' => return self.unicode_escape().ok_or("invalid unicode escape code"),
            _ => return Err("invalid escape code"),
        };
        self.string.push(byte);
        self.at += 2;
        Ok(())
    }

    /// `\u00e9`, or two of them that make a pair.
    fn unicode_escape(&mut self) -> Option<()> {
        let unit = self.hex4(2)?;
        let (code, len) = match unit {
            0xdc00..=0xdfff => return None,
            0xd800..=0xdbff => {
                if (self.byte(6), self.byte(7)) != (b'\\', b'u') {
                    return None;
                }
                let low = self.hex4(8)?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return None;
                }
                (0x10000 + ((unit & 0x3ff) << 10 | low & 0x3ff), 12)
            }
            unit => (unit, 6),
        };
        let character = char::from_u32(code)?;
        let mut utf8 = [0; 4];
        self.string
            .extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
        self.at += len;
        Some(())
    }

    /// Four hexadecimal digits.
    fn hex4(&self, offset: usize) -> Option<u32> {
        (offset..offset + 4).try_fold(0, |value, offset| {
            let digit = char::from(self.byte(offset)).to_digit(16)?;
            Some(value << 4 | digit)
        })
    }

    /// A byte of the text; NUL after its end.
    fn byte(&self, offset: usize) -> u8 {
        self.text.get(self.at + offset).copied().unwrap_or(0)
    }

    fn unexpected(&self, expected: &str, (token, place): Placed) -> Error {
        self.call.error(format!(
            "Expected {expected} but found {} at character {}",
            token.name(),
            place + 1
        ))
    }

    fn too_nested(&self, depth: usize) -> Error {
        self.call.error(format!(
            "Found too many nested data structures ({depth}) at character {}",
            self.at
        ))
    }
}

/// What a token begins.
enum Begun {
    Value(Value),
    Items(Placed),
}
