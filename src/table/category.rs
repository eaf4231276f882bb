//! ACL categories: sets of commands that rules grant or take together (`+@read`, `-@dangerous`).
//!
//! Most follow from a row's family and flags; a row names only what they do not tell. Bits stand in the order in which
//! Redis lists them (ACL CAT, COMMAND INFO).

use super::{Command, Family, Flags};

bitflags::bitflags! {
    /// ACL categories; [`Category::names`] gives the words of the wire.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Category: u32 {
        /// `@keyspace`
        const KEYSPACE = 1;
        /// `@read`
        const READ = 1 << 1;
        /// `@write`
        const WRITE = 1 << 2;
        /// `@set`
        const SET = 1 << 3;
        /// `@sortedset`
        const SORTEDSET = 1 << 4;
        /// `@list`
        const LIST = 1 << 5;
        /// `@hash`
        const HASH = 1 << 6;
        /// `@string`
        const STRING = 1 << 7;
        /// `@bitmap`
        const BITMAP = 1 << 8;
        /// `@hyperloglog`
        const HYPERLOGLOG = 1 << 9;
        /// `@geo`
        const GEO = 1 << 10;
        /// `@stream`
        const STREAM = 1 << 11;
        /// `@pubsub`
        const PUBSUB = 1 << 12;
        /// `@admin`
        const ADMIN = 1 << 13;
        /// `@fast`
        const FAST = 1 << 14;
        /// `@slow`
        const SLOW = 1 << 15;
        /// `@blocking`
        const BLOCKING = 1 << 16;
        /// `@dangerous`
        const DANGEROUS = 1 << 17;
        /// `@connection`
        const CONNECTION = 1 << 18;
        /// `@transaction`
        const TRANSACTION = 1 << 19;
        /// `@scripting`
        const SCRIPTING = 1 << 20;
    }
}

impl Category {
    /// The categories that a family stands for: a row that names one of them itself does not take its family's.
    pub const OF_FAMILIES: Category = Category::KEYSPACE
        .union(Category::SET)
        .union(Category::SORTEDSET)
        .union(Category::LIST)
        .union(Category::HASH)
        .union(Category::STRING)
        .union(Category::BITMAP)
        .union(Category::HYPERLOGLOG)
        .union(Category::GEO)
        .union(Category::STREAM)
        .union(Category::CONNECTION)
        .union(Category::TRANSACTION)
        .union(Category::SCRIPTING);

    /// The lower-case names without `@`, in Redis's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(bit, _)| self.bits() & 1 << bit != 0)
            .map(|(_, name)| *name)
    }

    /// The category of this name in any case, without `@`; `None` for an unknown one (`all` is not a category).
    pub fn named(name: &[u8]) -> Option<Category> {
        let bit = NAMES
            .iter()
            .position(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
        Some(Category::from_bits_truncate(1 << bit))
    }
}

/// Names by bit.
const NAMES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// All categories of a row: its own, its family's and those its flags imply. A container of subcommands has no family
/// category, as in Redis.
pub fn categories(command: &Command, container: bool) -> Category {
    let mut found = command.categories;
    if !container && !found.intersects(Category::OF_FAMILIES) {
        found |= of_family(command.family);
    }
    if command.flags.contains(Flags::WRITE) {
        found |= Category::WRITE;
    }
    // Scripts that only read (EVAL_RO) are not @read: what they call is checked by itself.
    if command.flags.contains(Flags::READONLY) && !found.contains(Category::SCRIPTING) {
        found |= Category::READ;
    }
    if command.flags.contains(Flags::ADMIN) {
        found |= Category::ADMIN | Category::DANGEROUS;
    }
    if command.flags.contains(Flags::PUBSUB) {
        found |= Category::PUBSUB;
    }
    if command.flags.contains(Flags::BLOCKING) {
        found |= Category::BLOCKING;
    }
    found
        | if command.flags.contains(Flags::FAST) {
            Category::FAST
        } else {
            Category::SLOW
        }
}

/// The category that belonging to a family implies.
fn of_family(family: Family) -> Category {
    match family {
        Family::String => Category::STRING,
        Family::Bitmap => Category::BITMAP,
        Family::Generic => Category::KEYSPACE,
        Family::Connection => Category::CONNECTION,
        Family::List => Category::LIST,
        Family::Set => Category::SET,
        Family::Hash => Category::HASH,
        Family::SortedSet => Category::SORTEDSET,
        Family::Stream => Category::STREAM,
        Family::HyperLogLog => Category::HYPERLOGLOG,
        Family::Geo => Category::GEO,
        Family::Scripting => Category::SCRIPTING,
        Family::Transactions => Category::TRANSACTION,
        Family::Server | Family::PubSub | Family::Cluster => Category::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bit has its name, and names are found in any case.
    #[test]
    fn names_and_bits_agree() {
        assert_eq!(Category::all().names().count(), NAMES.len());
        for (category, bit_name) in Category::all().iter().zip(Category::all().iter_names()) {
            assert_eq!(
                category.names().next().map(str::to_uppercase).as_deref(),
                Some(bit_name.0)
            );
            assert_eq!(Category::named(bit_name.0.as_bytes()), Some(category));
        }
        assert_eq!(Category::named(b"all"), None);
    }

    /// A row's own family category replaces that of its family (SORT, WAIT).
    #[test]
    fn own_family_category_replaces() {
        let row = Command {
            family: Family::Generic,
            categories: Category::CONNECTION,
            ..Command::NEW
        };
        assert_eq!(
            categories(&row, false),
            Category::CONNECTION | Category::SLOW
        );
        let row = Command {
            categories: Category::DANGEROUS,
            ..Command::NEW
        };
        assert_eq!(
            categories(&row, false),
            Category::DANGEROUS | Category::KEYSPACE | Category::SLOW
        );
    }
}
