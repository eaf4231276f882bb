//! Key specs: where the keys of a command stand among its arguments, and how each is used.
//!
//! The model is Redis 7's: a spec finds where keys begin (an index, or the argument after a keyword) and how many there
//! are (a range with a step, or a count given in an argument). See the documentation of COMMAND at redis.io, "key specs".
//!
//! [`extract`] applies the specs to a request; [`locate`] also asks the row's key function where specs do not suffice.
//! Requests are hostile (CVE-2023-36824): every position is computed with checks and stays below the argument count, and
//! a count that an argument states never sizes anything. The hot path does not come here: a [`Shape`], computed once per
//! row, tells the positions of nearly all commands.

use super::Command;
use crate::data::number;
use crate::resp::decode::Arguments;

bitflags::bitflags! {
    /// How a command uses the keys of one spec (flags of a key spec in COMMAND INFO).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct KeyAccess: u16 {
        /// Reads and changes the value.
        const RW = 1;
        /// Reads only.
        const RO = 1 << 1;
        /// Overwrites whatever is there.
        const OW = 1 << 2;
        /// Removes the key.
        const RM = 1 << 3;
        /// Returns or copies user data of the value.
        const ACCESS = 1 << 4;
        /// Changes the value depending on what was there.
        const UPDATE = 1 << 5;
        /// Adds data without depending on what was there.
        const INSERT = 1 << 6;
        /// Deletes content explicitly.
        const DELETE = 1 << 7;
        /// Not really a key (a channel).
        const NOT_KEY = 1 << 8;
        /// The spec may miss some keys.
        const INCOMPLETE = 1 << 9;
        /// Access depends on other arguments.
        const VARIABLE_FLAGS = 1 << 10;
    }
}

/// The combinations that rows use.
#[expect(missing_docs, reason = "each is named by its parts")]
impl KeyAccess {
    pub const RO_ACCESS: KeyAccess = KeyAccess::RO.union(KeyAccess::ACCESS);
    pub const RW_ACCESS: KeyAccess = KeyAccess::RW.union(KeyAccess::ACCESS);
    pub const RW_UPDATE: KeyAccess = KeyAccess::RW.union(KeyAccess::UPDATE);
    pub const RW_INSERT: KeyAccess = KeyAccess::RW.union(KeyAccess::INSERT);
    pub const RW_DELETE: KeyAccess = KeyAccess::RW.union(KeyAccess::DELETE);
    pub const RW_ACCESS_UPDATE: KeyAccess = KeyAccess::RW_ACCESS.union(KeyAccess::UPDATE);
    pub const RW_ACCESS_INSERT: KeyAccess = KeyAccess::RW_ACCESS.union(KeyAccess::INSERT);
    pub const RW_ACCESS_DELETE: KeyAccess = KeyAccess::RW_ACCESS.union(KeyAccess::DELETE);
    pub const OW_UPDATE: KeyAccess = KeyAccess::OW.union(KeyAccess::UPDATE);
    pub const OW_INSERT: KeyAccess = KeyAccess::OW.union(KeyAccess::INSERT);
    pub const RM_DELETE: KeyAccess = KeyAccess::RM.union(KeyAccess::DELETE);

    /// Whether the key may be changed or removed.
    pub const fn writes(self) -> bool {
        self.intersects(KeyAccess::RW.union(KeyAccess::OW).union(KeyAccess::RM))
    }
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument (the command's name is argument 0).
    Index(usize),
    /// At the argument after this keyword (any case), searched from an argument (negative: from the end, backwards).
    Keyword(&'static str, i32),
    /// Not expressible.
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (relative to the begin; negative: from the last argument), every `step`-th, and with `limit` > 1 only
    /// the first 1/limit of what remains.
    Range {
        /// Last key, relative to the first; -1 is the last argument.
        last: i32,
        /// Distance of keys.
        step: i32,
        /// Fraction of the remaining arguments; 0 or 1 is all.
        limit: i32,
    },
    /// The argument `count_at` (relative to the begin) holds how many keys follow from `first` on.
    Count {
        /// Where the count stands, relative to the begin.
        count_at: i32,
        /// Where the first key stands, relative to the begin.
        first: i32,
        /// Distance of keys.
        step: i32,
    },
    /// Not expressible.
    Unknown,
}

/// One set of keys of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Where the search begins.
    pub begin: Begin,
    /// Which arguments are keys.
    pub find: Find,
    /// How they are used.
    pub access: KeyAccess,
    /// Redis's note on the spec, empty for most.
    pub note: &'static str,
}

impl KeySpec {
    /// One key at argument `index`.
    pub const fn one(index: usize, access: KeyAccess) -> KeySpec {
        KeySpec::range(index, 0, 1, access)
    }

    /// Keys from argument `index` to `last` (negative: from the last argument), every `step`-th.
    pub const fn range(index: usize, last: i32, step: i32, access: KeyAccess) -> KeySpec {
        KeySpec {
            begin: Begin::Index(index),
            find: Find::Range {
                last,
                step,
                limit: 0,
            },
            access,
            note: "",
        }
    }

    /// As many keys as argument `index` says, from the next one on.
    pub const fn counted(index: usize, access: KeyAccess) -> KeySpec {
        KeySpec {
            begin: Begin::Index(index),
            find: Find::Count {
                count_at: 0,
                first: 1,
                step: 1,
            },
            access,
            note: "",
        }
    }

    /// Keys from the argument after `keyword` (searched from argument `from`, see [`Begin::Keyword`]) to `last`.
    pub const fn after(
        keyword: &'static str,
        from: i32,
        last: i32,
        step: i32,
        limit: i32,
        access: KeyAccess,
    ) -> KeySpec {
        KeySpec {
            begin: Begin::Keyword(keyword, from),
            find: Find::Range { last, step, limit },
            access,
            note: "",
        }
    }

    /// Keys that no spec can find.
    pub const fn unknown(access: KeyAccess) -> KeySpec {
        KeySpec {
            begin: Begin::Unknown,
            find: Find::Unknown,
            access,
            note: "",
        }
    }

    /// The same with a note for COMMAND INFO.
    pub const fn noted(self, note: &'static str) -> KeySpec {
        KeySpec { note, ..self }
    }

    /// Whether it finds keys at all, and not channels.
    pub const fn is_key(&self) -> bool {
        !self.access.contains(KeyAccess::NOT_KEY)
    }

    /// The keys in a request of `arguments`: first, last (inclusive, below the argument count) and step.
    fn find_in(&self, arguments: &Arguments<'_>) -> Option<(usize, usize, usize)> {
        let count = arguments.len();
        let begin = match self.begin {
            Begin::Index(index) => index,
            Begin::Keyword(keyword, from) => after_keyword(arguments, keyword, from)?,
            Begin::Unknown => return None,
        };
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                (begin, range_end(begin, last, limit, count)?, step)
            }
            Find::Count {
                count_at,
                first,
                step,
            } => {
                let stated = number::parse_i64(arguments.get(offset(begin, count_at)?)?)?;
                let first = offset(begin, first)?;
                (
                    first,
                    first.checked_add(usize::try_from(stated.checked_sub(1)?).ok()?)?,
                    step,
                )
            }
            Find::Unknown => return None,
        };
        let step = usize::try_from(step).ok().filter(|&step| step > 0)?;
        (first <= last && last < count).then_some((first, last, step))
    }
}

/// The argument after `keyword`. Searched forwards from `from`, or backwards when it counts from the end; neither the
/// command's name nor the last argument can be the keyword.
fn after_keyword(arguments: &Arguments<'_>, keyword: &str, from: i32) -> Option<usize> {
    let last = arguments.len().checked_sub(1)?;
    let is_keyword = |&index: &usize| {
        arguments
            .get(index)
            .is_some_and(|word| word.eq_ignore_ascii_case(keyword.as_bytes()))
    };
    let found = if from > 0 {
        (offset(0, from)?..last).find(is_keyword)
    } else {
        (1..=offset(arguments.len(), from)?.min(last))
            .rev()
            .find(is_keyword)
    };
    found.map(|index| index + 1).filter(|&index| index <= last)
}

/// The last argument of a range that begins at `begin`, of `count` arguments.
fn range_end(begin: usize, last: i32, limit: i32, count: usize) -> Option<usize> {
    if last >= 0 {
        offset(begin, last)
    } else if limit <= 1 {
        offset(count, last)
    } else {
        let part = count.checked_sub(begin)? / usize::try_from(limit).ok()?;
        offset(begin.checked_add(part)?, last)
    }
}

fn offset(base: usize, by: i32) -> Option<usize> {
    base.checked_add_signed(isize::try_from(by).ok()?)
}

/// A request does not have the shape that the key specs of its command demand, or these cannot find all its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKeys;

/// Reports the position and access of each key, spec after spec. On an error some keys may have been reported already.
/// Positions are below the argument count. Fails, as in Redis, when a keyword is missing, a count is not positive or
/// beyond the arguments, a range is empty, or a spec is unknown or marked incomplete.
pub fn extract(
    specs: &[KeySpec],
    arguments: &Arguments<'_>,
    found: &mut impl FnMut(usize, KeyAccess),
) -> Result<(), InvalidKeys> {
    for spec in specs.iter().filter(|spec| spec.is_key()) {
        let (first, last, step) = spec.find_in(arguments).ok_or(InvalidKeys)?;
        for position in (first..=last).step_by(step) {
            found(position, spec.access);
        }
        if spec.access.contains(KeyAccess::INCOMPLETE) {
            return Err(InvalidKeys);
        }
    }
    Ok(())
}

/// The names in a request that are no keys and that Redis Cluster looks for where a key of that name would be: channels of
/// shards.
pub fn channels<'a>(specs: &[KeySpec], arguments: Arguments<'a>) -> impl Iterator<Item = &'a [u8]> {
    let specs = specs.iter().filter(|spec| !spec.is_key());
    let found = specs.filter_map(move |spec| spec.find_in(&arguments));
    let positions = found.flat_map(|(first, last, step)| (first..=last).step_by(step));
    positions.filter_map(move |position| arguments.get(position))
}

/// Finds the keys that specs cannot: appends (position, access) pairs, each position below the argument count, and says
/// whether the request has the right shape. May find no keys (EVAL with a count of 0).
pub type KeyFunction = fn(&Arguments<'_>, &mut Vec<(usize, KeyAccess)>) -> bool;

/// All keys of a request: from the specs when they suffice, else from the row's key function. Keywords are what a function
/// knows better: whether they are optional, and which counts when there are several. `keys` is cleared first, and empty on
/// an error.
pub fn locate(
    command: &Command,
    arguments: &Arguments<'_>,
    keys: &mut Vec<(usize, KeyAccess)>,
) -> Result<(), InvalidKeys> {
    keys.clear();
    let varies = command.keys.iter().any(|spec| {
        spec.access.contains(KeyAccess::VARIABLE_FLAGS) || matches!(spec.begin, Begin::Keyword(..))
    });
    if !(varies && command.key_function.is_some())
        && extract(command.keys, arguments, &mut |position, access| {
            keys.push((position, access))
        })
        .is_ok()
    {
        return Ok(());
    }
    keys.clear();
    let valid = command
        .key_function
        .is_some_and(|function| function(arguments, keys))
        && keys.iter().all(|&(position, _)| position < arguments.len());
    if valid {
        return Ok(());
    }
    keys.clear();
    Err(InvalidKeys)
}

/// Where the keys of a command stand, as far as it does not depend on the request: the form that dispatch uses. It tells
/// positions only; how a key is used, the specs or the key function tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No keys.
    None,
    /// The one key is this argument.
    Single(usize),
    /// Several in a row.
    Range {
        /// First key.
        first: usize,
        /// Last key; negative counts from the end, -1 is the last argument.
        last: i32,
        /// Distance of keys.
        step: usize,
    },
    /// It takes [`locate`].
    Specs,
}

impl Shape {
    /// The shape of a row.
    pub fn of(command: &Command) -> Shape {
        let mut shape = Shape::None;
        for spec in command.keys.iter().filter(|spec| spec.is_key()) {
            shape = match (shape, Shape::of_spec(spec)) {
                (Shape::None, next) => next,
                (one, next) => one.joined(next),
            };
        }
        if shape == Shape::None && command.key_function.is_some() {
            Shape::Specs
        } else {
            shape
        }
    }

    /// The positions in a request of `count` arguments, or `None` for [`Shape::Specs`]; all are below `count`.
    pub fn positions(self, count: usize) -> Option<std::iter::StepBy<std::ops::Range<usize>>> {
        let (first, end, step) = match self {
            Shape::None => (0, 0, 1),
            Shape::Single(index) => (index, index + 1, 1),
            Shape::Range { first, last, step } if last >= 0 => (first, last as usize + 1, step),
            Shape::Range { first, last, step } => {
                (first, offset(count + 1, last).unwrap_or(0), step)
            }
            Shape::Specs => return None,
        };
        Some((first..end.min(count)).step_by(step))
    }

    fn of_spec(spec: &KeySpec) -> Shape {
        let (
            Begin::Index(first),
            Find::Range {
                last,
                step,
                limit: 0 | 1,
            },
        ) = (spec.begin, spec.find)
        else {
            return Shape::Specs;
        };
        if spec.access.contains(KeyAccess::INCOMPLETE) || step <= 0 {
            return Shape::Specs;
        }
        let step = step.unsigned_abs() as usize;
        match i32::try_from(first) {
            Ok(index) if last == 0 && index > 0 => Shape::Single(first),
            Ok(index) if last >= 0 => Shape::Range {
                first,
                last: index.saturating_add(last),
                step,
            },
            _ => Shape::Range { first, last, step },
        }
    }

    /// Both in one, if the second begins right after the first.
    fn joined(self, next: Shape) -> Shape {
        match (self.as_range(), next.as_range()) {
            (Some((first, end, 1)), Some((begin, last, 1)))
                if end >= 0 && begin == end as usize + 1 =>
            {
                Shape::Range {
                    first,
                    last,
                    step: 1,
                }
            }
            _ => Shape::Specs,
        }
    }

    fn as_range(self) -> Option<(usize, i32, usize)> {
        match self {
            Shape::Single(index) => Some((index, i32::try_from(index).ok()?, 1)),
            Shape::Range { first, last, step } => Some((first, last, step)),
            Shape::None | Shape::Specs => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::OwnedArguments;

    fn positions(specs: &[KeySpec], request: &str) -> Option<Vec<usize>> {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let owned = OwnedArguments::from(&words[..]);
        let mut found = Vec::new();
        extract(specs, &owned.as_arguments(), &mut |position, _| {
            found.push(position)
        })
        .ok()
        .map(|()| found)
    }

    /// Ranges by index: to the end, to before the end, with a step, and out of bounds.
    #[test]
    fn index_and_range() {
        let one = [KeySpec::one(1, KeyAccess::RO)];
        assert_eq!(positions(&one, "get k"), Some(vec![1]));
        assert_eq!(positions(&one, "get"), None);
        let pairs = [KeySpec::range(1, -1, 2, KeyAccess::OW)];
        assert_eq!(positions(&pairs, "mset a 1 b 2"), Some(vec![1, 3]));
        assert_eq!(positions(&pairs, "mset a 1 b"), Some(vec![1, 3]));
        let but_last = [KeySpec::range(1, -2, 1, KeyAccess::RW)];
        assert_eq!(positions(&but_last, "blpop a b 0"), Some(vec![1, 2]));
        assert_eq!(positions(&but_last, "blpop 0"), None);
    }

    /// Keywords: forwards, backwards, missing, last, and with a limit.
    #[test]
    fn keywords() {
        let streams = [KeySpec::after("STREAMS", 1, -1, 1, 2, KeyAccess::RO)];
        assert_eq!(
            positions(&streams, "xread count 1 streams a b 0 0"),
            Some(vec![4, 5])
        );
        assert_eq!(positions(&streams, "xread streams a b 0"), Some(vec![2]));
        assert_eq!(positions(&streams, "xread streams a"), None);
        assert_eq!(positions(&streams, "xread streams"), None);
        let keys = [KeySpec::after("KEYS", -2, -1, 1, 0, KeyAccess::RW)];
        assert_eq!(
            positions(&keys, "migrate h 1 k 0 9 keys a b"),
            Some(vec![7, 8])
        );
        assert_eq!(positions(&keys, "migrate h 1 k 0 9 a b"), None);
        assert_eq!(positions(&keys, "keys keys"), None);
    }

    /// Counts: zero, negative, huge and odd ones are refused without a panic (CVE-2023-36824).
    #[test]
    fn hostile_counts() {
        let counted = [KeySpec::counted(2, KeyAccess::RO)];
        assert_eq!(positions(&counted, "eval s 2 a b c"), Some(vec![3, 4]));
        for count in [
            "0",
            "-1",
            "4",
            "1073741823",
            "2147483647",
            "4294967297",
            "9223372036854775807",
            "-9223372036854775808",
            "x",
            "",
        ] {
            assert_eq!(
                positions(&counted, &format!("eval s {count} a b c")),
                None,
                "{count}"
            );
        }
        let odd = KeySpec {
            begin: Begin::Index(1),
            find: Find::Count {
                count_at: -3,
                first: i32::MAX,
                step: 0,
            },
            ..KeySpec::unknown(KeyAccess::RO)
        };
        assert_eq!(positions(&[odd], "eval s 1 a"), None);
    }

    /// Incomplete and unknown specs are errors, channels are skipped, and the function is asked then.
    #[test]
    fn functions_complete_the_specs() {
        fn second(_: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
            keys.push((2, KeyAccess::RO));
            true
        }
        const SPECS: &[KeySpec] = &[KeySpec::one(1, KeyAccess::RW.union(KeyAccess::INCOMPLETE))];
        let owned = OwnedArguments::from(&[&b"x"[..], b"a", b"b"][..]);
        let mut keys = vec![(7, KeyAccess::RW)];
        let without = Command {
            keys: SPECS,
            ..Command::NEW
        };
        assert_eq!(
            locate(&without, &owned.as_arguments(), &mut keys),
            Err(InvalidKeys)
        );
        assert!(keys.is_empty());
        let with = Command {
            key_function: Some(second),
            ..without
        };
        assert_eq!(locate(&with, &owned.as_arguments(), &mut keys), Ok(()));
        assert_eq!(keys, [(2, KeyAccess::RO)]);
        let short = OwnedArguments::from(&[&b"x"[..], b"a"][..]);
        assert_eq!(
            locate(&with, &short.as_arguments(), &mut keys),
            Err(InvalidKeys)
        );
        assert_eq!(
            positions(&[KeySpec::one(1, KeyAccess::NOT_KEY)], "spublish c m"),
            Some(vec![])
        );
    }

    /// Shapes give the positions that extraction gives.
    #[test]
    fn shapes_agree_with_specs() {
        const RO: KeyAccess = KeyAccess::RO;
        let cases: [(&'static [KeySpec], Shape); 7] = [
            (&[], Shape::None),
            (&const { [KeySpec::one(2, RO)] }, Shape::Single(2)),
            (
                &const { [KeySpec::range(1, -1, 2, RO)] },
                Shape::Range {
                    first: 1,
                    last: -1,
                    step: 2,
                },
            ),
            (
                &const { [KeySpec::one(1, RO), KeySpec::one(2, RO)] },
                Shape::Range {
                    first: 1,
                    last: 2,
                    step: 1,
                },
            ),
            (
                &const { [KeySpec::one(2, RO), KeySpec::range(3, -1, 1, RO)] },
                Shape::Range {
                    first: 2,
                    last: -1,
                    step: 1,
                },
            ),
            (
                &const { [KeySpec::range(1, 1, 1, RO)] },
                Shape::Range {
                    first: 1,
                    last: 2,
                    step: 1,
                },
            ),
            (
                &const { [KeySpec::one(1, RO), KeySpec::counted(2, RO)] },
                Shape::Specs,
            ),
        ];
        for (keys, shape) in cases {
            assert_eq!(
                Shape::of(&Command {
                    keys,
                    ..Command::NEW
                }),
                shape
            );
            for request in ["x a b c d e f", "x a b c", "x a b"] {
                let Some(found) = shape.positions(request.split(' ').count()) else {
                    continue;
                };
                if let Some(expected) = positions(keys, request) {
                    assert_eq!(found.collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
