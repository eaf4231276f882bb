//! Arguments that several commands of streams share: ids, intervals, trimming, refusals.

use crate::data::number;
use crate::data::stream::{Bound, Id, Limits, References, Trim};
use crate::table::args::Taken;
use crate::table::error::shown;
use crate::table::{Args, CommandError};

/// No id.
pub(super) const INVALID_ID: CommandError =
    CommandError::fixed("ERR Invalid stream ID specified as stream command argument");

/// Longer than any id, as Redis sees it.
const LONGEST_ID: usize = 127;
/// Blocks that trimming with `~` removes at once when no LIMIT is given.
const DEFAULT_BLOCKS: u64 = 100;

/// The id that XADD is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    Within(u64),
    /// `ms` or `ms-seq`
    Given(Id),
}

impl NewId {
    fn parse(text: &[u8]) -> Taken<NewId> {
        let text = shown(text);
        if let Some(ms) = text.strip_suffix(b"-*")
            && !ms.contains(&b'-')
            && text.len() <= LONGEST_ID
        {
            return parse_number(ms).map(NewId::Within).ok_or(INVALID_ID);
        }
        id(text, 0).map(NewId::Given)
    }
}

/// An id: `ms` or `ms-seq`, the second part being `missing` where it is not given.
pub(super) fn id(text: &[u8], missing: u64) -> Taken<Id> {
    let parse = || {
        if text.len() > LONGEST_ID {
            return None;
        }
        let text = shown(text);
        let Some(dash) = memchr::memchr(b'-', text) else {
            return Some(Id::new(parse_number(text)?, missing));
        };
        // The ends of an interval are not ids.
        if text == b"-" {
            return None;
        }
        let ms = parse_number(&text[..dash])?;
        Some(Id::new(ms, parse_number(&text[dash + 1..])?))
    };
    parse().ok_or(INVALID_ID)
}

/// An id, or `-` or `+`: the lowest and the highest.
pub(super) fn id_or_end(text: &[u8], missing: u64) -> Taken<Id> {
    match shown(text) {
        b"-" => Ok(Id::ZERO),
        b"+" => Ok(Id::MAX),
        _ => id(text, missing),
    }
}

/// A number of an id as Redis reads it: what C's `strtoull` takes to the end, spaces before it and a sign included. Only a
/// negative number that is well written is refused; others wrap around.
fn parse_number(text: &[u8]) -> Option<u64> {
    if let Some(value) = number::parse_i64(text) {
        return u64::try_from(value).ok();
    }
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let spaces = text.iter().take_while(|byte| is_space(byte)).count();
    let text = &text[spaces..];
    let (digits, is_negative) = match text.split_first()? {
        (b'+', digits) => (digits, false),
        (b'-', digits) => (digits, true),
        _ => (text, false),
    };
    let mut value = 0_u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    if digits.is_empty() {
        None
    } else if is_negative {
        Some(value.wrapping_neg())
    } else {
        Some(value)
    }
}

/// The lower end of an interval; `(` excludes it.
pub(super) fn start(text: &[u8]) -> Taken<Id> {
    match exclusive(text) {
        Some(text) => id(text, 0)?
            .next()
            .ok_or(CommandError::fixed("ERR invalid start ID for the interval")),
        None => id_or_end(text, 0),
    }
}

/// The upper end of an interval; `(` excludes it.
pub(super) fn end(text: &[u8]) -> Taken<Id> {
    match exclusive(text) {
        Some(text) => id(text, u64::MAX)?
            .previous()
            .ok_or(CommandError::fixed("ERR invalid end ID for the interval")),
        None => id_or_end(text, u64::MAX),
    }
}

fn exclusive(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"(").filter(|text| !text.is_empty())
}

/// All ids that are left, at least one.
pub(super) fn ids(args: &mut Args<'_>) -> Taken<Vec<Id>> {
    let mut ids = Vec::with_capacity(args.remaining());
    while !args.is_empty() {
        ids.push(id(args.bytes()?, 0)?);
    }
    Ok(ids)
}

/// `[COUNT n]`: `None` when it is not given. A negative one counts as 0.
pub(super) fn count(args: &mut Args<'_>) -> Taken<Option<u64>> {
    let mut count = None;
    while !args.is_empty() {
        if args.remaining() < 2 || !args.keyword("count") {
            return Err(CommandError::Syntax);
        }
        count = Some(args.integer()?.max(0) as u64);
    }
    Ok(count)
}

/// `KEEPREF`, `DELREF` or `ACKED`, if that is what comes.
pub(super) fn references(args: &mut Args<'_>) -> Option<References> {
    [
        ("keepref", References::Keep),
        ("delref", References::Delete),
        ("acked", References::Acked),
    ]
    .into_iter()
    .find_map(|(word, references)| args.keyword(word).then_some(references))
}

/// What stands before the id of XADD, and all that XTRIM has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    bound: Option<Bound>,
    approximate: bool,
    limit: Option<u64>,
    references: Option<References>,
    /// NOMKSTREAM.
    pub(super) only_existing: bool,
}

impl Options {
    /// Reads XADD's options and its id. No id is an arity error, which Redis finds later than bad options.
    pub(super) fn of_add(args: &mut Args<'_>) -> Taken<(Options, Option<NewId>)> {
        let mut options = Options::default();
        let mut id = None;
        while id.is_none()
            && let Some(next) = args.peek()
        {
            if next == b"*" {
                id = Some(NewId::Auto);
                args.bytes()?;
            } else if options.take(args)? {
            } else if args.keyword("nomkstream") {
                options.only_existing = true;
            } else {
                id = Some(NewId::parse(args.bytes()?)?);
            }
        }
        options.check()?;
        Ok((options, id))
    }

    /// Reads XTRIM's options.
    pub(super) fn of_trim(args: &mut Args<'_>) -> Taken<Options> {
        let mut options = Options::default();
        while !args.is_empty() {
            if !options.take(args)? {
                return Err(CommandError::Syntax);
            }
        }
        if options.bound.is_none() && options.limit.unwrap_or(0) == 0 {
            return Err(CommandError::fixed(
                "ERR syntax error, XTRIM must be called with a trimming strategy",
            ));
        }
        options.check()?;
        Ok(options)
    }

    /// Takes an option that both have. Whether it was one.
    fn take(&mut self, args: &mut Args<'_>) -> Taken<bool> {
        if let Some(references) = references(args) {
            if self.references.replace(references).is_some() {
                return Err(CommandError::Syntax);
            }
            return Ok(true);
        }
        if args.remaining() < 2 {
            return Ok(false);
        }
        if args.keyword("maxlen") {
            self.begin_bound(args)?;
            let most = args.integer()?;
            let most = u64::try_from(most)
                .map_err(|_| CommandError::fixed("ERR The MAXLEN argument must be >= 0."))?;
            self.bound = Some(Bound::MaxLen(most));
        } else if args.keyword("minid") {
            self.begin_bound(args)?;
            self.bound = Some(Bound::MinId(id(args.bytes()?, 0)?));
        } else if args.keyword("limit") {
            let limit = args.integer()?;
            let limit = u64::try_from(limit)
                .map_err(|_| CommandError::fixed("ERR The LIMIT argument must be >= 0."))?;
            self.limit = Some(limit);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Reads `~` or `=`, where a threshold follows.
    fn begin_bound(&mut self, args: &mut Args<'_>) -> Taken<()> {
        if self.bound.is_some() {
            return Err(CommandError::fixed(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        self.approximate = args.remaining() >= 2 && args.keyword("~");
        if !self.approximate && args.remaining() >= 2 {
            args.keyword("=");
        }
        Ok(())
    }

    fn check(&self) -> Taken<()> {
        if self.limit.is_some_and(|limit| limit > 0) && self.bound.is_none() {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if self.limit.is_some() && !self.approximate {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        Ok(())
    }

    /// How to trim, if at all.
    pub(super) fn trim(&self, limits: Limits) -> Option<Trim> {
        let limit = match (self.approximate, self.limit) {
            (false, _) => 0,
            (true, Some(limit)) => limit,
            // No more than this at once, so that nobody waits long.
            (true, None) => match DEFAULT_BLOCKS.saturating_mul(limits.max_entries as u64) {
                0 => 10_000,
                limit => limit.min(1_000_000),
            },
        };
        Some(Trim {
            bound: self.bound?,
            approximate: self.approximate,
            limit,
            references: self.references.unwrap_or_default(),
        })
    }
}

/// A refusal that names a group and a key, or a key and a group.
pub(super) fn no_group(
    before: &str,
    first: &[u8],
    between: &str,
    second: &[u8],
    after: &str,
) -> CommandError {
    CommandError::Quoting(
        [
            b"NOGROUP ",
            before.as_bytes(),
            shown(first),
            between.as_bytes(),
            shown(second),
            after.as_bytes(),
        ]
        .concat(),
    )
}

/// There is no such key, or it has no such group.
pub(super) fn no_key_or_group(key: &[u8], group: &[u8]) -> CommandError {
    no_group("No such key '", key, "' or consumer group '", group, "'")
}

/// The key has no such group.
pub(super) fn no_group_of_key(group: &[u8], key: &[u8]) -> CommandError {
    no_group(
        "No such consumer group '",
        group,
        "' for key name '",
        key,
        "'",
    )
}
