//! The usage line of a row: its grammar, and what follows from it, the arity and the argument tree of COMMAND DOCS.
//!
//! The notation is that of Redis's manual, made exact so that the tree can be computed back from it:
//!
//! ```text
//! usage    = [ '<' arity '>' ] sequence             '<-2>' states an arity that the arguments do not give
//! sequence = { item }                               separated by single spaces
//! item     = argument | optional | again
//! argument = [ TOKEN ] value | [ TOKEN ] group | TOKEN | name=TOKEN | name='any text'
//! value    = name [ ':' type ]                      `key` alone is a key, any other name alone a string
//! type     = string | int | double | key | pattern | unix-time
//! group    = [ name ':' ] '(' choice ')'            one alternative: a block; several: oneof
//! optional = [ name ':' ] '[' choice [ ' ...' ] ']' one item: that item, optional; else an optional block or oneof
//! again    = '[' name { ' ' name } ' ...]'          repeats the items before it: `field value [field value ...]`
//! choice   = sequence { '|' sequence }
//! ```
//!
//! Marks stand directly after an argument, group or optional, in this order: `...` (may be repeated, without its token),
//! `#1` (index of its key spec), `@6.2.0` (since), `@-2.8.12` (deprecated since).
//!
//! - A TOKEN is upper case. With a value or a group after it, it is that argument's token; alone it is a pure token whose
//!   name is the token in lower case; `change=CH` names it otherwise.
//! - A name with odd characters is quoted: `'ip:port'`.
//! - A group without a name is named by its items, joined by `_`; so is an alternative of several items.
//! - `...` before a closing bracket repeats the whole bracket with its token (`[GET pattern:pattern ...]`), whereas
//!   `[WEIGHTS weight:int [weight ...]]` repeats the value alone.
//! - Keys refer to key specs in the order in which they stand, unless `#` says otherwise.
//!
//! Parsed once, when the table is built; nesting is bounded by [`DEPTH_LIMIT`].

use std::fmt;

/// Groups nested deeper than this are refused.
pub const DEPTH_LIMIT: usize = 8;

/// What a usage line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The argument tree.
    pub arguments: Vec<Argument>,
    /// The arity that the line states, where its arguments do not give it.
    pub stated_arity: Option<i32>,
}

impl Usage {
    /// Parses a usage line.
    pub fn parse(line: &str) -> Result<Usage, UsageError> {
        let mut parser = Parser {
            line: line.as_bytes(),
            at: 0,
            next_key_spec: 0,
        };
        let stated_arity = parser.stated_arity()?;
        let arguments = parser.sequence(0)?;
        if parser.at < line.len() {
            return Err(parser.error("unbalanced bracket or misplaced character"));
        }
        Ok(Usage {
            arguments,
            stated_arity,
        })
    }

    /// Redis's arity: the number of arguments with the `names` of the command (1, or 2 for a subcommand), negative when it
    /// is a minimum.
    pub fn arity(&self, names: usize) -> i32 {
        let (least, most) = length_of_all(&self.arguments);
        let minimum = i32::try_from(least + names).unwrap_or(i32::MAX);
        self.stated_arity.unwrap_or(if most == Some(least) {
            minimum
        } else {
            -minimum
        })
    }
}

/// One argument of COMMAND DOCS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: Box<str>,
    /// Its type.
    pub kind: Kind,
    /// Index of the key spec that finds it.
    pub key_spec: Option<usize>,
    /// The word before it, or all of it when it is a pure token.
    pub token: Option<Box<str>>,
    /// Version that introduced it, when later than the command.
    pub since: Option<Box<str>>,
    /// Version that deprecated it.
    pub deprecated_since: Option<Box<str>>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// Each repetition has the token.
    pub multiple_token: bool,
    /// The members of a block or oneof.
    pub members: Vec<Argument>,
}

impl Argument {
    fn new(name: impl Into<Box<str>>, kind: Kind) -> Argument {
        Argument {
            name: name.into(),
            kind,
            key_spec: None,
            token: None,
            since: None,
            deprecated_since: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            members: Vec::new(),
        }
    }

    /// A block or oneof; without a name it is called after its members.
    fn group(name: Option<Box<str>>, kind: Kind, members: Vec<Argument>) -> Argument {
        let name = name.unwrap_or_else(|| {
            members
                .iter()
                .map(|member| &*member.name)
                .collect::<Vec<_>>()
                .join("_")
                .into_boxed_str()
        });
        Argument {
            members,
            ..Argument::new(name, kind)
        }
    }

    /// Whether it is a required single value, which `[a b ...]` may repeat together with its neighbours.
    fn is_plain(&self) -> bool {
        self.kind.is_value() && self.token.is_none() && !self.optional && !self.multiple
    }

    /// The least and most words it takes; `None` is no limit.
    fn length(&self) -> (usize, Option<usize>) {
        let (least, most) = match self.kind {
            Kind::Block => length_of_all(&self.members),
            Kind::OneOf => length_of_any(&self.members),
            Kind::PureToken => (0, Some(0)),
            _ => (1, Some(1)),
        };
        let token = usize::from(self.token.is_some());
        let most = most.map(|most| most + token).filter(|_| !self.multiple);
        (if self.optional { 0 } else { least + token }, most)
    }
}

/// The type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the type's own name")]
pub enum Kind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl Kind {
    /// The word in COMMAND DOCS.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }

    /// Whether the client writes a value of its own there.
    fn is_value(self) -> bool {
        !matches!(self, Kind::PureToken | Kind::OneOf | Kind::Block)
    }

    fn of_value(word: &str) -> Option<Kind> {
        Some(match word {
            "string" => Kind::String,
            "int" => Kind::Integer,
            "double" => Kind::Double,
            "key" => Kind::Key,
            "pattern" => Kind::Pattern,
            "unix-time" => Kind::UnixTime,
            _ => return None,
        })
    }
}

fn length_of_all(arguments: &[Argument]) -> (usize, Option<usize>) {
    arguments.iter().map(Argument::length).fold(
        (0, Some(0)),
        |(least, most), (more_least, more_most)| {
            (
                least + more_least,
                most.zip(more_most).map(|(most, more)| most + more),
            )
        },
    )
}

fn length_of_any(arguments: &[Argument]) -> (usize, Option<usize>) {
    let lengths = || arguments.iter().map(Argument::length);
    let least = lengths().map(|(least, _)| least).min().unwrap_or(0);
    let most = lengths()
        .map(|(_, most)| most)
        .try_fold(0, |most, other| Some(most.max(other?)));
    (least, most)
}

/// Why a usage line does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// Where, in bytes.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "usage line, byte {}: {}", self.at, self.problem)
    }
}

impl std::error::Error for UsageError {}

type Parsed<T> = Result<T, UsageError>;

/// A recursive descent over one line.
struct Parser<'a> {
    line: &'a [u8],
    at: usize,
    /// What the next key without `#` refers to.
    next_key_spec: usize,
}

impl Parser<'_> {
    fn stated_arity(&mut self) -> Parsed<Option<i32>> {
        if !self.take("<") {
            return Ok(None);
        }
        let digits = self.take_while(|byte| byte == b'-' || byte.is_ascii_digit());
        let arity = digits
            .parse()
            .map_err(|_| self.error("an arity is a number"))?;
        self.expect(">")?;
        self.take(" ");
        Ok(Some(arity))
    }

    fn sequence(&mut self, depth: usize) -> Parsed<Vec<Argument>> {
        if depth > DEPTH_LIMIT {
            return Err(self.error("nested too deeply"));
        }
        let mut items: Vec<Argument> = Vec::new();
        while !matches!(self.peek(), None | Some(b')' | b']' | b'|')) && !self.looking_at(" ...]") {
            if !items.is_empty() {
                self.expect(" ")?;
            }
            if !self.again(&mut items) {
                items.push(self.item(depth)?);
            }
        }
        Ok(items)
    }

    /// Takes `[a b ...]` if it names the items just before it, and marks these as repeated.
    fn again(&mut self, items: &mut Vec<Argument>) -> bool {
        let rest = &self.line[self.at..];
        let Some(end) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let inner = rest
            .strip_prefix(b"[")
            .and_then(|_| rest[1..end].strip_suffix(b" ..."));
        let Some(inner) = inner else { return false };
        let names: Vec<&[u8]> = inner.split(|&byte| byte == b' ').map(unquoted).collect();
        let Some(first) = items.len().checked_sub(names.len()) else {
            return false;
        };
        if !items[first..]
            .iter()
            .zip(&names)
            .all(|(item, name)| item.name.as_bytes() == *name)
        {
            return false;
        }
        if let [single] = &mut items[first..] {
            if !single.kind.is_value() || single.optional {
                return false;
            }
            single.multiple = true;
        } else {
            if !items[first..].iter().all(Argument::is_plain) {
                return false;
            }
            let members = items.drain(first..).collect();
            items.push(Argument {
                multiple: true,
                ..Argument::group(None, Kind::Block, members)
            });
        }
        self.at += end + 1;
        true
    }

    fn item(&mut self, depth: usize) -> Parsed<Argument> {
        match self.peek() {
            Some(b'[') => self.optional(None, depth),
            Some(b'(') => self.group(None, depth),
            Some(byte) if byte.is_ascii_uppercase() => self.token(depth),
            _ => self.named(depth),
        }
    }

    fn token(&mut self, depth: usize) -> Parsed<Argument> {
        let token = self.take_while(is_token_byte);
        let binds = matches!(self.line.get(self.at + 1), Some(b'(' | b'\'' | b'a'..=b'z'));
        if !(self.peek() == Some(b' ') && binds) {
            let pure = Argument {
                token: Some((&*token).into()),
                ..Argument::new(token.to_lowercase(), Kind::PureToken)
            };
            return self.marks(pure);
        }
        self.expect(" ")?;
        let mut argument = self.item(depth)?;
        if argument.token.is_some() || argument.optional {
            return Err(self.error(
                "a token stands before something that has one already, or that is optional",
            ));
        }
        argument.token = Some(token.into());
        Ok(argument)
    }

    /// What begins with a name: a value, a named group, a named optional or a renamed token.
    fn named(&mut self, depth: usize) -> Parsed<Argument> {
        let name = self.name()?;
        if self.take("=") {
            let token = if self.peek() == Some(b'\'') {
                self.quoted()?
            } else {
                self.take_while(is_token_byte)
            };
            return self.marks(Argument {
                token: Some(token.into()),
                ..Argument::new(name, Kind::PureToken)
            });
        }
        if !self.take(":") {
            let kind = if name == "key" {
                Kind::Key
            } else {
                Kind::String
            };
            return self.marks(Argument::new(name, kind));
        }
        match self.peek() {
            Some(b'[') => self.optional(Some(name.into()), depth),
            Some(b'(') => self.group(Some(name.into()), depth),
            _ => {
                let word = self.take_while(is_name_byte);
                let kind = Kind::of_value(&word).ok_or_else(|| self.error("unknown type"))?;
                self.marks(Argument::new(name, kind))
            }
        }
    }

    fn group(&mut self, name: Option<Box<str>>, depth: usize) -> Parsed<Argument> {
        self.expect("(")?;
        let mut alternatives = self.choice(depth)?;
        self.expect(")")?;
        let argument = match alternatives.len() {
            1 => Argument::group(name, Kind::Block, alternatives.swap_remove(0)),
            _ => one_of(name, alternatives),
        };
        self.marks(argument)
    }

    fn optional(&mut self, name: Option<Box<str>>, depth: usize) -> Parsed<Argument> {
        self.expect("[")?;
        let mut alternatives = self.choice(depth)?;
        let again = self.take(" ...");
        self.expect("]")?;
        let mut argument = match &mut alternatives[..] {
            [items] if items.len() > 1 => Argument::group(name, Kind::Block, std::mem::take(items)),
            [items] => {
                let single = items
                    .pop()
                    .filter(|single| name.is_none() && !single.optional);
                single.ok_or_else(|| {
                    self.error("a single item that is optional already, or named apart")
                })?
            }
            _ => one_of(name, alternatives),
        };
        argument.optional = true;
        argument.multiple |= again;
        argument.multiple_token = again && argument.token.is_some();
        self.marks(argument)
    }

    fn choice(&mut self, depth: usize) -> Parsed<Vec<Vec<Argument>>> {
        let mut alternatives = Vec::new();
        loop {
            let items = self.sequence(depth + 1)?;
            if items.is_empty() {
                return Err(self.error("an empty alternative"));
            }
            alternatives.push(items);
            if !self.take("|") {
                return Ok(alternatives);
            }
        }
    }

    /// Takes the marks after an argument, and gives a key its spec.
    fn marks(&mut self, mut argument: Argument) -> Parsed<Argument> {
        argument.multiple |= self.take("...");
        if self.take("#") {
            let digits = self.take_while(|byte| byte.is_ascii_digit());
            argument.key_spec = Some(
                digits
                    .parse()
                    .map_err(|_| self.error("a key spec is a number"))?,
            );
        } else if argument.kind == Kind::Key && argument.key_spec.is_none() {
            argument.key_spec = Some(self.next_key_spec);
        }
        if argument.kind == Kind::Key {
            self.next_key_spec = argument.key_spec.map_or(0, |spec| spec + 1);
        }
        while self.take("@") {
            let deprecated = self.take("-");
            let version = self.take_while(|byte| byte == b'.' || byte.is_ascii_digit());
            if version.is_empty() {
                return Err(self.error("a version is digits and dots"));
            }
            *(if deprecated {
                &mut argument.deprecated_since
            } else {
                &mut argument.since
            }) = Some(version.into());
        }
        Ok(argument)
    }

    fn name(&mut self) -> Parsed<String> {
        let name = if self.peek() == Some(b'\'') {
            self.quoted()?
        } else {
            self.take_while(is_name_byte)
        };
        if name.is_empty() {
            Err(self.error("a name or token is missing"))
        } else {
            Ok(name)
        }
    }

    fn quoted(&mut self) -> Parsed<String> {
        self.expect("'")?;
        let text = self.take_while(|byte| byte != b'\'');
        self.expect("'")?;
        Ok(text)
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn looking_at(&self, text: &str) -> bool {
        self.line[self.at..].starts_with(text.as_bytes())
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.looking_at(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> String {
        let rest = &self.line[self.at..];
        let length = rest
            .iter()
            .position(|&byte| !wanted(byte))
            .unwrap_or(rest.len());
        self.at += length;
        String::from_utf8_lossy(&rest[..length]).into_owned()
    }

    fn expect(&mut self, text: &'static str) -> Parsed<()> {
        if self.take(text) {
            Ok(())
        } else {
            Err(self.error(expected(text)))
        }
    }

    fn error(&self, problem: &'static str) -> UsageError {
        UsageError {
            at: self.at,
            problem,
        }
    }
}

/// A oneof; an alternative of several items becomes a block.
fn one_of(name: Option<Box<str>>, alternatives: Vec<Vec<Argument>>) -> Argument {
    let member = |mut items: Vec<Argument>| match items.len() {
        1 => items.swap_remove(0),
        _ => Argument::group(None, Kind::Block, items),
    };
    Argument::group(
        name,
        Kind::OneOf,
        alternatives.into_iter().map(member).collect(),
    )
}

fn unquoted(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"'")
        .and_then(|name| name.strip_suffix(b"'"))
        .unwrap_or(name)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-/".contains(&byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
}

fn expected(text: &str) -> &'static str {
    match text {
        " " => "a space is missing between two items",
        ")" => "`)` is missing",
        "]" => "`]` is missing",
        ">" => "`>` is missing",
        "'" => "a quote is missing",
        _ => "an opening bracket is missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arity(line: &str) -> i32 {
        Usage::parse(line).unwrap().arity(1)
    }

    fn first(line: &str) -> Argument {
        Usage::parse(line).unwrap().arguments.swap_remove(0)
    }

    /// Arities of the shapes that commands have.
    #[test]
    fn arities() {
        assert_eq!(arity(""), 1);
        assert_eq!(arity("key value"), 3);
        assert_eq!(arity("key [NX|XX] [EX seconds:int|KEEPTTL]"), -2);
        assert_eq!(arity("key field value [field value ...]"), -4);
        assert_eq!(arity("key [count:int]"), -2);
        assert_eq!(arity("(host port:int|NO ONE)"), 3);
        assert_eq!(
            arity("[COUNT count:int] STREAMS streams:(key [key ...] id [id ...])"),
            -4
        );
        assert_eq!(arity("<-2> key member [member ...]"), -2);
        assert_eq!(Usage::parse("key").unwrap().arity(2), 3);
    }

    /// The three ways of repeating differ in which of them repeats the token.
    #[test]
    fn repetitions() {
        let weights = first("[WEIGHTS weight:int [weight ...]]");
        assert!(weights.optional && weights.multiple && !weights.multiple_token);
        let patterns = first("[GET pattern:pattern ...]");
        assert!(patterns.optional && patterns.multiple && patterns.multiple_token);
        let pairs = first("field value [field value ...]");
        assert_eq!(
            (
                &*pairs.name,
                pairs.kind,
                pairs.multiple,
                pairs.members.len()
            ),
            ("field_value", Kind::Block, true, 2)
        );
        let single = first("(parameter)...");
        assert_eq!(
            (&*single.name, single.kind, single.multiple),
            ("parameter", Kind::Block, true)
        );
    }

    /// Tokens bind to the value or group after them; names, versions and key specs are kept.
    #[test]
    fn tokens_and_marks() {
        let limit = first("[LIMIT (offset:int count:int)@6.2.0]");
        assert_eq!(
            (&*limit.name, limit.kind, limit.token.as_deref()),
            ("offset_count", Kind::Block, Some("LIMIT"))
        );
        assert_eq!(limit.since.as_deref(), Some("6.2.0"));
        let change = first("[change=CH@3.0.2]");
        assert_eq!(
            (&*change.name, change.token.as_deref()),
            ("change", Some("CH"))
        );
        let address = first("'ip:port'@-2.8.12");
        assert_eq!(
            (&*address.name, address.deprecated_since.as_deref()),
            ("ip:port", Some("2.8.12"))
        );
        let keys = Usage::parse("key1:key key2:key#0 key").unwrap().arguments;
        assert_eq!(
            keys.iter().map(|key| key.key_spec).collect::<Vec<_>>(),
            [Some(0), Some(0), Some(1)]
        );
    }

    /// What does not parse says where.
    #[test]
    fn errors() {
        for line in [
            "key value:itn",
            "[",
            "key]",
            "(a|)",
            "[[a]]",
            "EX a=A",
            "a  b",
            "'a",
            "<x>",
            "a@",
            "a#",
            "[]",
            "é",
        ] {
            assert!(Usage::parse(line).is_err(), "{line}");
        }
        let deep = "(".repeat(100_000);
        assert_eq!(
            Usage::parse(&deep).unwrap_err().problem,
            "nested too deeply"
        );
    }
}
