//! Strings as bitmaps: single bits, integers of any width, counting, searching and combining.
//!
//! All offsets are checked against proto-max-bulk-len before anything is computed with them, so no offset or length that a
//! client states overflows or sizes anything larger than a string may be.

use super::{Done, Handler};
use crate::base::worker::give_worker_away;
use crate::data::bitmap::{self, Combination, Field, Overflow};
use crate::data::number::parse_i64;
use crate::data::string;
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::{Entry, NewValue};
use crate::keyspace::view::{Ttl, View};
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::{Args, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "bitcount",
            family: Family::Bitmap,
            since: "2.6.0",
            summary: "Counts the bits that are set in a string or a part of it.",
            complexity: "O(N) in the bytes counted",
            usage: "key index:[start:int end:int index_unit:[BYTE|BIT]@7.0.0]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[("7.0.0", "`BYTE` and `BIT` came in.")],
            ..Command::NEW
        },
        Handler::Read(bitcount),
    ),
    Row::new(
        Command {
            name: "bitfield",
            family: Family::Bitmap,
            since: "3.2.0",
            summary: "Reads and changes integers of any width inside a string.",
            complexity: "O(1) for each operation",
            usage: "key operation:[GET (encoding offset:int)|write:([OVERFLOW (WRAP|SAT|FAIL)] write_operation:(SET (encoding offset:int value:int)|INCRBY (encoding offset:int increment:int))) ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(
                1,
                KeyAccess::RW_ACCESS_UPDATE.union(KeyAccess::VARIABLE_FLAGS),
            )
            .noted("RO when every operation is a GET")],
            key_function: Some(bitfield_keys),
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(bitfield),
    ),
    Row::new(
        Command {
            name: "bitfield_ro",
            family: Family::Bitmap,
            since: "6.0.0",
            summary: "Reads integers of any width inside a string.",
            complexity: "O(1) for each operation",
            usage: "key [GET (encoding offset:int) ...]",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(bitfield_ro),
    ),
    Row::new(
        Command {
            name: "bitop",
            family: Family::Bitmap,
            since: "2.6.0",
            summary: "Combines strings bit by bit and stores the result.",
            complexity: "O(N) in the length of all sources",
            usage: "operation:(AND|OR|XOR|NOT|DIFF@8.2.0|DIFF1@8.2.0|ANDOR@8.2.0|ONE@8.2.0) destkey:key key [key ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(2, KeyAccess::OW_UPDATE),
                KeySpec::range(3, -1, 1, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            history: &[("8.2.0", "`DIFF`, `DIFF1`, `ANDOR` and `ONE` came in.")],
            ..Command::NEW
        },
        Handler::Write(bitop),
    ),
    Row::new(
        Command {
            name: "bitpos",
            family: Family::Bitmap,
            since: "2.8.7",
            summary: "Finds the first bit that is set, or clear, in a string or a part of it.",
            complexity: "O(N) in the bytes searched",
            usage: "key bit:int index:[start:int end_index:[end:int index_unit:[BYTE|BIT]@7.0.0]]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[("7.0.0", "`BYTE` and `BIT` came in.")],
            ..Command::NEW
        },
        Handler::Read(bitpos),
    ),
    Row::new(
        Command {
            name: "getbit",
            family: Family::Bitmap,
            since: "2.2.0",
            summary: "Returns one bit of a string.",
            complexity: "O(1)",
            usage: "key offset:int",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(getbit),
    ),
    Row::new(
        Command {
            name: "setbit",
            family: Family::Bitmap,
            since: "2.2.0",
            summary: "Sets or clears one bit of a string and returns what it was.",
            complexity: "O(1), plus the zeros filled in",
            usage: "key offset:int value:int",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(setbit),
    ),
];

/// A request that does not read as GET and OVERFLOW alone counts as one that writes, wrong ones too.
fn bitfield_keys(request: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    let mut at = 2;
    let mut reads_only = true;
    while let Some(word) = request.get(at) {
        let step = match word {
            _ if word.eq_ignore_ascii_case(b"GET") => 3,
            _ if word.eq_ignore_ascii_case(b"OVERFLOW") => 2,
            _ => request.len(),
        };
        at += step;
        reads_only &= at <= request.len();
    }
    let access = match reads_only {
        true => KeyAccess::RO_ACCESS,
        false => KeyAccess::RW_ACCESS_UPDATE,
    };
    keys.push((1, access));
    true
}

const BIT_OFFSET: CommandError =
    CommandError::fixed("ERR bit offset is not an integer or out of range");

fn getbit(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let offset = bit_offset(args.bytes()?, None, view)?;
    let is_set = view
        .string(key)?
        .is_some_and(|entry| bitmap::bit(entry.bytes(), offset));
    reply.integer(i64::from(is_set));
    Ok(())
}

fn setbit(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let offset = bit_offset(args.bytes()?, None, view)?;
    let on = match args.bytes()? {
        b"0" => false,
        b"1" => true,
        _ => {
            return Err(CommandError::fixed(
                "ERR bit is not an integer or out of range",
            ));
        }
    };
    let (length, was_on, is_raw) = match view.string_for_write(key)? {
        Some(entry) => (
            entry.bytes().len(),
            bitmap::bit(entry.bytes(), offset),
            entry.is_raw(),
        ),
        None => (0, false, false),
    };
    let is_changed = offset / 8 >= length || on != was_on;
    // A bit that is so already changes nothing, but as in Redis the string becomes a raw one.
    if is_changed || !is_raw {
        view.check_length(offset / 8 + 1)?;
        view.edit(key, offset / 8 + 1, |bytes| {
            bitmap::set_bit(bytes, offset, on)
        });
    }
    if is_changed {
        view.notify(EventClass::STRING, "setbit", key);
    }
    reply.integer(i64::from(was_on));
    Ok(())
}

/// A bit offset: within the longest string, and with `#` before it a multiple of the width of a field.
fn bit_offset(text: &[u8], field: Option<Field>, view: &View<'_>) -> Result<usize, CommandError> {
    let (digits, unit) = match (text, field) {
        ([b'#', digits @ ..], Some(field)) => (digits, i64::from(field.width)),
        _ => (text, 1),
    };
    let offset =
        parse_i64(digits).and_then(|offset| usize::try_from(offset.checked_mul(unit)?).ok());
    offset
        .filter(|offset| offset / 8 < view.rules().max_string_bytes)
        .ok_or(BIT_OFFSET)
}

/// The part of a string that BITCOUNT and BITPOS look at, as given.
#[derive(Clone, Copy)]
struct Part {
    start: i64,
    /// None: to the end of the string.
    end: Option<i64>,
    in_bits: bool,
}

impl Part {
    const WHOLE: Part = Part {
        start: 0,
        end: None,
        in_bits: false,
    };

    /// The bits it means in a string of `length` bytes; `None` when there are none.
    fn bits(
        self,
        length: usize,
        find: fn(i64, i64, usize) -> Option<std::ops::Range<usize>>,
    ) -> Option<std::ops::Range<usize>> {
        let end = self.end.unwrap_or(-1);
        match self.in_bits {
            true => find(self.start, end, length * 8),
            false => find(self.start, end, length).map(|bytes| bytes.start * 8..bytes.end * 8),
        }
    }
}

/// BIT or BYTE.
fn is_bit_unit(word: &[u8]) -> Result<bool, CommandError> {
    match word {
        _ if word.eq_ignore_ascii_case(b"BIT") => Ok(true),
        _ if word.eq_ignore_ascii_case(b"BYTE") => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

fn bitcount(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let part = match args.remaining() {
        0 => Part::WHOLE,
        given @ 2..=3 => {
            let (start, end) = (args.integer()?, args.integer()?);
            Part {
                start,
                end: Some(end),
                in_bits: given == 3 && is_bit_unit(args.bytes()?)?,
            }
        }
        _ => return Err(CommandError::Syntax),
    };
    let Some(entry) = view.string(key)? else {
        reply.integer(0);
        return Ok(());
    };
    view.work(entry, reply, move |value, reply| {
        let bits = part.bits(value.len(), string::strict_range);
        reply.integer(bits.map_or(0, |bits| bitmap::count(value, bits)) as i64);
    });
    Ok(())
}

fn bitpos(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let wanted = match args.integer()? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let part = position_part(args)?;
    let Some(entry) = view.string(key)? else {
        // An endless row of zeros.
        reply.integer(if wanted { -1 } else { 0 });
        return Ok(());
    };
    view.work(entry, reply, move |value, reply| {
        reply.integer(position(value, wanted, part))
    });
    Ok(())
}

fn position_part(args: &mut Args<'_>) -> Result<Part, CommandError> {
    let given = args.remaining();
    if given == 0 {
        return Ok(Part::WHOLE);
    }
    if given > 3 {
        return Err(CommandError::Syntax);
    }
    let start = args.integer()?;
    // The unit is looked at before the end, as in Redis.
    let in_bits = args.peek_at(1).map_or(Ok(false), is_bit_unit)?;
    let end = if given > 1 {
        Some(args.integer()?)
    } else {
        None
    };
    Ok(Part {
        start,
        end,
        in_bits,
    })
}

fn position(value: &[u8], wanted: bool, part: Part) -> i64 {
    let Some(bits) = part.bits(value.len(), string::range) else {
        return -1;
    };
    match bitmap::position(value, wanted, bits) {
        Some(found) => found as i64,
        // Without an end zeros follow the string.
        None if !wanted && part.end.is_none() => value.len() as i64 * 8,
        None => -1,
    }
}

fn bitop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let combination = combination(args)?;
    let destination = args.bytes()?;
    let needs_two = matches!(
        combination,
        Combination::Diff | Combination::Diff1 | Combination::AndOr
    );
    if combination == Combination::Not && args.remaining() != 1 {
        return Err(CommandError::fixed(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    if needs_two && args.remaining() < 2 {
        let name =
            String::from_utf8_lossy(args.all().get(1).unwrap_or_default()).to_ascii_uppercase();
        return Err(CommandError::text_of(format!(
            "ERR BITOP {name} must be called with at least two source keys."
        )));
    }
    let result = {
        let bytes_of = |key| Ok(view.string(key)?.map_or(&[][..], Entry::bytes));
        let sources: Vec<&[u8]> = args
            .rest()
            .map(bytes_of)
            .collect::<Result<_, CommandError>>()?;
        let work = || bitmap::combine(combination, &sources);
        let bytes: usize = sources.iter().map(|source| source.len()).sum();
        if bytes >= HEAVY_BYTES {
            give_worker_away(work)
        } else {
            work()
        }
    };
    let length = result.len();
    if length > 0 {
        view.set_raw(destination, NewValue::Shared(result.into()), Ttl::Clear);
        view.notify(EventClass::STRING, "set", destination);
    } else if view.remove(destination) {
        view.notify(EventClass::GENERIC, "del", destination);
    }
    reply.integer(length as i64);
    Ok(())
}

/// Bytes whose combination takes about a millisecond.
const HEAVY_BYTES: usize = 4 * 1024 * 1024;

fn combination(args: &mut Args<'_>) -> Result<Combination, CommandError> {
    let names = [
        ("AND", Combination::And),
        ("OR", Combination::Or),
        ("XOR", Combination::Xor),
        ("NOT", Combination::Not),
        ("DIFF", Combination::Diff),
        ("DIFF1", Combination::Diff1),
        ("ANDOR", Combination::AndOr),
        ("ONE", Combination::One),
    ];
    let found = names.into_iter().find(|(name, _)| args.keyword(name));
    found
        .map(|(_, combination)| combination)
        .ok_or(CommandError::Syntax)
}

/// One operation of BITFIELD.
#[derive(Clone, Copy)]
struct Operation {
    field: Field,
    offset: usize,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Increment(i64, Overflow),
}

fn bitfield(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let operations = operations(args, view)?;
    let written = operations
        .iter()
        .filter(|operation| !matches!(operation.action, Action::Get));
    let Some(end) = written
        .map(|operation| operation.offset + operation.field.width as usize)
        .max()
    else {
        return read_fields(key, &operations, view, reply);
    };
    let length = view
        .string_for_write(key)?
        .map_or(0, |entry| entry.bytes().len());
    let needed = end.div_ceil(8);
    // The last field may stand over the end of the longest string, as in Redis.
    view.check_length(needed.min(view.rules().max_string_bytes))?;
    reply.array(operations.len());
    let mut is_changed = needed > length;
    view.edit(key, needed, |bytes| {
        for operation in &operations {
            is_changed |= operation.run(bytes, reply);
        }
    });
    if is_changed {
        view.notify(EventClass::STRING, "setbit", key);
    }
    Ok(())
}

fn bitfield_ro(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let operations = operations(args, view)?;
    if operations
        .iter()
        .any(|operation| !matches!(operation.action, Action::Get))
    {
        return Err(CommandError::fixed(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    read_fields(key, &operations, view, reply)
}

fn read_fields(
    key: &[u8],
    operations: &[Operation],
    view: &View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let bytes = view.string(key)?.map_or(&[][..], Entry::bytes);
    reply.array(operations.len());
    for operation in operations {
        reply.integer(operation.field.read(bytes, operation.offset));
    }
    Ok(())
}

/// All operations of a request; there are fewer than it has arguments.
fn operations(args: &mut Args<'_>, view: &View<'_>) -> Result<Vec<Operation>, CommandError> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    while !args.is_empty() {
        let left = args.remaining() - 1;
        if left >= 1 && args.keyword("OVERFLOW") {
            overflow = overflow_named(args.bytes()?)?;
        } else if left >= 2 && args.keyword("GET") {
            let (field, offset) = place(args, view)?;
            operations.push(Operation {
                field,
                offset,
                action: Action::Get,
            });
        } else if left >= 3 && args.keyword("SET") {
            let (field, offset) = place(args, view)?;
            operations.push(Operation {
                field,
                offset,
                action: Action::Set(args.integer()?, overflow),
            });
        } else if left >= 3 && args.keyword("INCRBY") {
            let (field, offset) = place(args, view)?;
            operations.push(Operation {
                field,
                offset,
                action: Action::Increment(args.integer()?, overflow),
            });
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(operations)
}

fn overflow_named(name: &[u8]) -> Result<Overflow, CommandError> {
    match name {
        _ if name.eq_ignore_ascii_case(b"WRAP") => Ok(Overflow::Wrap),
        _ if name.eq_ignore_ascii_case(b"SAT") => Ok(Overflow::Saturate),
        _ if name.eq_ignore_ascii_case(b"FAIL") => Ok(Overflow::Fail),
        _ => Err(CommandError::fixed("ERR Invalid OVERFLOW type specified")),
    }
}

fn place(args: &mut Args<'_>, view: &View<'_>) -> Result<(Field, usize), CommandError> {
    let text = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    let field = Field::parse(args.bytes()?).ok_or(CommandError::fixed(text))?;
    let offset = bit_offset(args.bytes()?, Some(field), view)?;
    Ok((field, offset))
}

impl Operation {
    /// Runs it on a string that is long enough, and replies. Returns whether the string changed.
    fn run(&self, bytes: &mut [u8], reply: &mut Reply<'_>) -> bool {
        let old = self.field.read(bytes, self.offset);
        let (new, replied) = match self.action {
            Action::Get => (Some(old), Some(old)),
            Action::Set(value, overflow) => {
                let new = self.field.fit(value, overflow);
                (new, new.map(|_| old))
            }
            Action::Increment(by, overflow) => {
                let new = self.field.add(old, by, overflow);
                (new, new)
            }
        };
        match replied {
            Some(value) => reply.integer(value),
            None => reply.null(),
        }
        let is_changed = new.is_some_and(|new| new != old);
        if let Some(new) = new.filter(|_| is_changed) {
            self.field.write(bytes, self.offset, new);
        }
        is_changed
    }
}

#[cfg(test)]
mod tests;
