//! Lists: the rows. The handlers stand in `list/`: those that read, those that change, those that wait.

use super::Handler;
use crate::data::list::End;
use crate::table::args::Taken;
use crate::table::{Args, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope};

mod blocking;
mod read;
mod write;

#[cfg(test)]
mod tests;

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "blmove",
            family: Family::List,
            since: "6.2.0",
            summary: "Moves an element from an end of a list to an end of another, waiting until there is one.",
            complexity: "O(1)",
            usage: "source:key destination:key wherefrom:(LEFT|RIGHT) whereto:(LEFT|RIGHT) timeout:double",
            flags: Flags::WRITE
                .union(Flags::DENYOOM)
                .union(Flags::NOSCRIPT)
                .union(Flags::BLOCKING),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE),
                KeySpec::one(2, KeyAccess::RW_INSERT),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Block(blocking::blmove),
    ),
    Row::new(
        Command {
            name: "blmpop",
            family: Family::List,
            since: "7.0.0",
            summary: "Removes elements from an end of the first list that has any, waiting until one has.",
            complexity: "O(N + M) in the number of keys and of elements removed",
            usage: "timeout:double numkeys:int key [key ...] where:(LEFT|RIGHT) [COUNT count:int]",
            flags: Flags::WRITE.union(Flags::BLOCKING),
            keys: &[KeySpec::counted(2, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Block(blocking::blmpop),
    ),
    Row::new(
        Command {
            name: "blpop",
            family: Family::List,
            since: "2.0.0",
            summary: "Removes the first element of the first list that has any, waiting until one has.",
            complexity: "O(N) in the number of keys",
            usage: "key [key ...] timeout:double",
            flags: Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::BLOCKING),
            keys: &[KeySpec::range(1, -2, 1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            history: &[("6.0.0", "The timeout may have a fraction.")],
            ..Command::NEW
        },
        Handler::Block(blocking::blpop),
    ),
    Row::new(
        Command {
            name: "brpop",
            family: Family::List,
            since: "2.0.0",
            summary: "Removes the last element of the first list that has any, waiting until one has.",
            complexity: "O(N) in the number of keys",
            usage: "key [key ...] timeout:double",
            flags: Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::BLOCKING),
            keys: &[KeySpec::range(1, -2, 1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            history: &[("6.0.0", "The timeout may have a fraction.")],
            ..Command::NEW
        },
        Handler::Block(blocking::brpop),
    ),
    Row::new(
        Command {
            name: "brpoplpush",
            family: Family::List,
            since: "2.2.0",
            summary: "Moves the last element of a list to the head of another, waiting until there is one.",
            complexity: "O(1)",
            usage: "source:key destination:key timeout:double",
            flags: Flags::WRITE
                .union(Flags::DENYOOM)
                .union(Flags::NOSCRIPT)
                .union(Flags::BLOCKING),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE),
                KeySpec::one(2, KeyAccess::RW_INSERT),
            ],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`BLMOVE`, `RIGHT`, `LEFT`")),
            history: &[("6.0.0", "The timeout may have a fraction.")],
            ..Command::NEW
        },
        Handler::Block(blocking::brpoplpush),
    ),
    Row::new(
        Command {
            name: "lindex",
            family: Family::List,
            since: "1.0.0",
            summary: "Returns the element at an index.",
            complexity: "O(N) in the pieces of the list up to it from the nearer end; O(1) at the ends",
            usage: "key index:int",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::lindex),
    ),
    Row::new(
        Command {
            name: "linsert",
            family: Family::List,
            since: "2.2.0",
            summary: "Inserts an element before or after the first that equals another.",
            complexity: "O(N) in the elements up to that one",
            usage: "key where:(BEFORE|AFTER) pivot element",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(write::linsert),
    ),
    Row::new(
        Command {
            name: "llen",
            family: Family::List,
            since: "1.0.0",
            summary: "Returns the length of a list.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::llen),
    ),
    Row::new(
        Command {
            name: "lmove",
            family: Family::List,
            since: "6.2.0",
            summary: "Moves an element from an end of a list to an end of another.",
            complexity: "O(1)",
            usage: "source:key destination:key wherefrom:(LEFT|RIGHT) whereto:(LEFT|RIGHT)",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE),
                KeySpec::one(2, KeyAccess::RW_INSERT),
            ],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(write::lmove),
    ),
    Row::new(
        Command {
            name: "lmpop",
            family: Family::List,
            since: "7.0.0",
            summary: "Removes elements from an end of the first list that has any.",
            complexity: "O(N + M) in the number of keys and of elements removed",
            usage: "numkeys:int key [key ...] where:(LEFT|RIGHT) [COUNT count:int]",
            flags: Flags::WRITE,
            keys: &[KeySpec::counted(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(write::lmpop),
    ),
    Row::new(
        Command {
            name: "lpop",
            family: Family::List,
            since: "1.0.0",
            summary: "Removes the first elements of a list and returns them.",
            complexity: "O(N) in the number of elements removed",
            usage: "key [count:int@6.2.0]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            history: &[("6.2.0", "Takes a count.")],
            ..Command::NEW
        },
        Handler::Write(write::lpop),
    ),
    Row::new(
        Command {
            name: "lpos",
            family: Family::List,
            since: "6.0.6",
            summary: "Finds the indexes of elements that equal a given one.",
            complexity: "O(N) in the number of elements looked at",
            usage: "key element [RANK rank:int] [COUNT num-matches:int] [MAXLEN len:int]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::lpos),
    ),
    Row::new(
        Command {
            name: "lpush",
            family: Family::List,
            since: "1.0.0",
            summary: "Puts elements before the first of a list, which is created when it is missing.",
            complexity: "O(N) in the number of elements given",
            usage: "key element [element ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            history: &[("2.4.0", "Takes more than one element.")],
            ..Command::NEW
        },
        Handler::Write(write::lpush),
    ),
    Row::new(
        Command {
            name: "lpushx",
            family: Family::List,
            since: "2.2.0",
            summary: "Puts elements before the first of a list that exists.",
            complexity: "O(N) in the number of elements given",
            usage: "key element [element ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            history: &[("4.0.0", "Takes more than one element.")],
            ..Command::NEW
        },
        Handler::Write(write::lpushx),
    ),
    Row::new(
        Command {
            name: "lrange",
            family: Family::List,
            since: "1.0.0",
            summary: "Returns the elements of a range of indexes.",
            complexity: "O(S + N), S the pieces of the list up to the range from the nearer end, N the elements of the range",
            usage: "key start:int stop:int",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(read::lrange),
    ),
    Row::new(
        Command {
            name: "lrem",
            family: Family::List,
            since: "1.0.0",
            summary: "Removes elements that equal a given one.",
            complexity: "O(N) in the length of the list",
            usage: "key count:int element",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(write::lrem),
    ),
    Row::new(
        Command {
            name: "lset",
            family: Family::List,
            since: "1.0.0",
            summary: "Replaces the element at an index.",
            complexity: "O(N) in the pieces of the list up to it from the nearer end; O(1) at the ends",
            usage: "key index:int element",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(write::lset),
    ),
    Row::new(
        Command {
            name: "ltrim",
            family: Family::List,
            since: "1.0.0",
            summary: "Removes the elements outside a range of indexes.",
            complexity: "O(N) in the number of elements removed",
            usage: "key start:int stop:int",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(write::ltrim),
    ),
    Row::new(
        Command {
            name: "rpop",
            family: Family::List,
            since: "1.0.0",
            summary: "Removes the last elements of a list and returns them.",
            complexity: "O(N) in the number of elements removed",
            usage: "key [count:int@6.2.0]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE)],
            scope: Scope::Keys,
            history: &[("6.2.0", "Takes a count.")],
            ..Command::NEW
        },
        Handler::Write(write::rpop),
    ),
    Row::new(
        Command {
            name: "rpoplpush",
            family: Family::List,
            since: "1.2.0",
            summary: "Moves the last element of a list to the head of another.",
            complexity: "O(1)",
            usage: "source:key destination:key",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::RW_ACCESS_DELETE),
                KeySpec::one(2, KeyAccess::RW_INSERT),
            ],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`LMOVE`, `RIGHT`, `LEFT`")),
            ..Command::NEW
        },
        Handler::Write(write::rpoplpush),
    ),
    Row::new(
        Command {
            name: "rpush",
            family: Family::List,
            since: "1.0.0",
            summary: "Puts elements behind the last of a list, which is created when it is missing.",
            complexity: "O(N) in the number of elements given",
            usage: "key element [element ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            history: &[("2.4.0", "Takes more than one element.")],
            ..Command::NEW
        },
        Handler::Write(write::rpush),
    ),
    Row::new(
        Command {
            name: "rpushx",
            family: Family::List,
            since: "2.2.0",
            summary: "Puts elements behind the last of a list that exists.",
            complexity: "O(N) in the number of elements given",
            usage: "key element [element ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            history: &[("4.0.0", "Takes more than one element.")],
            ..Command::NEW
        },
        Handler::Write(write::rpushx),
    ),
];

/// Takes LEFT or RIGHT.
fn end(args: &mut Args<'_>) -> Taken<End> {
    if args.keyword("LEFT") {
        Ok(End::Head)
    } else if args.keyword("RIGHT") {
        Ok(End::Tail)
    } else {
        Err(CommandError::Syntax)
    }
}
