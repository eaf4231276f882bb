//! The one table of commands: rows of all layers with what is computed from them, found by name.
//!
//! Each command and subcommand is an [`Entry`] with a dense number, which also indexes per-command statistics. A name is
//! folded to lower case into three words of eight bytes, hashed by a multiplication, and looked up by linear probing among
//! two-byte slots, of which fewer than a quarter are taken; the words at the entry are then compared. A subcommand is found
//! the same way, its parent's number being part of the hash. Nothing is allocated; a hit reads two cache lines.
//!
//! Longer names than [`NAME_LIMIT`] bytes are unknown. Names come from clients and the hash is not keyed: that is harmless,
//! since the table never grows and the longest chain is known when it is built.

use std::collections::BTreeMap;
use std::fmt;

use super::category::{self, Category};
use super::keys::Shape;
use super::usage::{Argument, Usage};
use super::{Command, Row};
use crate::resp::decode::Arguments;

/// The longest name of a command or subcommand.
pub const NAME_LIMIT: usize = 24;

/// A command or subcommand with its handler and all that is computed from its row.
pub struct Entry<H> {
    /// Its row.
    pub command: &'static Command,
    /// What runs it.
    pub handler: H,
    /// `get`, or `config|get` for a subcommand.
    pub full_name: String,
    /// Redis's arity: the argument count with the name, negative for a minimum.
    pub arity: i32,
    /// The argument tree of COMMAND DOCS.
    pub arguments: Vec<Argument>,
    /// Where its keys stand.
    pub shape: Shape,
    /// All its categories.
    pub categories: Category,
    /// Its number: dense over commands and subcommands.
    pub id: u16,
    /// The container it belongs to.
    pub parent: Option<u16>,
    /// Its subcommands, in the order of the rows.
    pub subcommands: Vec<u16>,
    /// Taken out of the table by its configuration: found by no name, listed nowhere.
    pub removed: bool,
}

impl<H> Entry<H> {
    /// Whether a request of `count` arguments, names included, satisfies the arity.
    pub fn accepts(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        count == least || self.arity < 0 && count > least
    }

    /// Whether it has subcommands.
    pub fn is_container(&self) -> bool {
        !self.subcommands.is_empty()
    }
}

/// All commands by name and by number. Built once, then shared and never changed.
pub struct Table<H> {
    entries: Vec<Entry<H>>,
    /// Folded names, by number.
    names: Vec<Name>,
    /// Numbers by hash; [`FREE`] where there is none. The length is a power of two.
    slots: Vec<u16>,
    /// Commands that were given names longer than [`NAME_LIMIT`]; hardly ever any.
    long_names: Vec<(String, u16)>,
}

/// Why a command could not be renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenameError {
    /// There is no command of this name.
    Unknown(String),
    /// Another command has the new name.
    Taken(String),
}

impl fmt::Display for RenameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenameError::Unknown(name) => write!(f, "rename-command: no such command: {name}"),
            RenameError::Taken(name) => {
                write!(
                    f,
                    "rename-command: there is a command of that name already: {name}"
                )
            }
        }
    }
}

impl std::error::Error for RenameError {}

impl<H> Table<H> {
    /// The table of these rows; their handlers become the table's.
    ///
    /// # Panics
    ///
    /// On a mistake in the rows: see [`TableBuilder::add`].
    pub fn build<R: Clone + Into<H> + 'static>(
        rows: impl IntoIterator<Item = &'static Row<R>>,
    ) -> Table<H> {
        let mut builder = TableBuilder::new();
        builder.add(rows, |handler| handler.clone().into());
        builder.finish()
    }

    /// The command of this name in any case, without looking at subcommands.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&Entry<H>> {
        match Name::new(name, None) {
            Some(name) => self.probe(name),
            None => self.find_long(name),
        }
    }

    #[cold]
    fn find_long(&self, name: &[u8]) -> Option<&Entry<H>> {
        let same = |(known, _): &&(String, u16)| known.as_bytes().eq_ignore_ascii_case(name);
        let (_, id) = self.long_names.iter().find(same)?;
        Some(self.entry(*id))
    }

    /// The subcommand of this name in any case.
    #[inline]
    pub fn find_subcommand(&self, parent: &Entry<H>, name: &[u8]) -> Option<&Entry<H>> {
        self.probe(Name::new(name, Some(parent.id))?)
    }

    /// The command of a full name, `get` or `config|get`, in any case.
    pub fn find_full(&self, name: &[u8]) -> Option<&Entry<H>> {
        let mut parts = name.splitn(2, |&byte| byte == b'|');
        let parent = self.find(parts.next()?)?;
        match parts.next() {
            Some(name) => self.find_subcommand(parent, name),
            None => Some(parent),
        }
    }

    /// The command or subcommand that a request runs. A container that is given no subcommand is found itself; `None` when
    /// the command or the subcommand is unknown.
    #[inline]
    pub fn find_request(&self, request: &Arguments<'_>) -> Option<&Entry<H>> {
        let entry = self.find(request.get(0)?)?;
        match request.get(1) {
            Some(name) if entry.is_container() => self.find_subcommand(entry, name),
            _ => Some(entry),
        }
    }

    /// The entry of this number.
    ///
    /// # Panics
    ///
    /// When there is none: numbers come from the table itself.
    pub fn entry(&self, id: u16) -> &Entry<H> {
        &self.entries[usize::from(id)]
    }

    /// All entries by number; a container stands before its subcommands.
    pub fn entries(&self) -> &[Entry<H>] {
        &self.entries
    }

    /// All entries that were not removed, a container before its subcommands.
    pub fn listed(&self) -> impl Iterator<Item = &Entry<H>> {
        self.entries.iter().filter(|entry| !entry.removed)
    }

    /// The commands that are not subcommands.
    pub fn commands(&self) -> impl Iterator<Item = &Entry<H>> {
        self.listed().filter(|entry| entry.parent.is_none())
    }

    /// The subcommands of a container.
    pub fn subcommands(&self, parent: &Entry<H>) -> impl Iterator<Item = &Entry<H>> {
        parent.subcommands.iter().map(|&id| self.entry(id))
    }

    #[inline]
    fn probe(&self, name: Name) -> Option<&Entry<H>> {
        let mask = self.slots.len() - 1;
        let mut at = name.hash() & mask;
        // Ends: more than three quarters of the slots are free.
        loop {
            let id = self.slots[at];
            if id == FREE {
                return None;
            }
            if self.names[usize::from(id)].is(&name) {
                return Some(&self.entries[usize::from(id)]);
            }
            at = (at + 1) & mask;
        }
    }
}

/// Collects rows for a [`Table`].
pub struct TableBuilder<H> {
    entries: Vec<Entry<H>>,
    names: Vec<Name>,
    /// The new names of renamed commands, empty for removed ones.
    renamed: BTreeMap<u16, String>,
}

impl<H> TableBuilder<H> {
    /// No rows yet.
    #[expect(clippy::new_without_default, reason = "a builder begins in one way")]
    pub fn new() -> Self {
        TableBuilder {
            entries: Vec::new(),
            names: Vec::new(),
            renamed: BTreeMap::new(),
        }
    }

    /// Lets the command `from` be called by the name `to` only, or by none when that is empty. As in Redis what is shown
    /// of it, errors included, keeps the old name. To be called when all rows are added.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), RenameError> {
        let id = self
            .called(from)
            .ok_or_else(|| RenameError::Unknown(from.to_owned()))?;
        if self.called(to).is_some_and(|other| other != id) {
            return Err(RenameError::Taken(to.to_owned()));
        }
        self.renamed.insert(id, to.to_owned());
        Ok(())
    }

    /// The command that has this name at present.
    fn called(&self, name: &str) -> Option<u16> {
        let entry = self.entries.iter().find(|entry| {
            let own = self
                .renamed
                .get(&entry.id)
                .map_or(entry.command.name, String::as_str);
            entry.parent.is_none() && !own.is_empty() && own.eq_ignore_ascii_case(name)
        });
        entry.map(|entry| entry.id)
    }

    /// Adds the rows of one layer, whose handlers `convert` turns into the table's. A container whose subcommands belong to
    /// several layers (MEMORY USAGE looks at a key, MEMORY STATS at the server) has a row in each; the first is the one
    /// that is shown, and the subcommands of all come under it.
    ///
    /// # Panics
    ///
    /// On a mistake in the rows: a usage line that does not parse, a name too long or used twice.
    pub fn add<R: 'static>(
        &mut self,
        rows: impl IntoIterator<Item = &'static Row<R>>,
        convert: impl Fn(&'static R) -> H,
    ) {
        for row in rows {
            let parent = self
                .container(row)
                .unwrap_or_else(|| self.add_row(row, None, convert(&row.handler)));
            for subcommand in row.subcommands {
                let id = self.add_row(subcommand, Some(parent), convert(&subcommand.handler));
                self.entries[usize::from(parent)].subcommands.push(id);
            }
        }
    }

    /// The container of this name that another layer added, when the row is one itself.
    fn container<R>(&self, row: &Row<R>) -> Option<u16> {
        let name = Name::new(row.command.name.as_bytes(), None)?;
        let at = self.names.iter().position(|known| *known == name)?;
        let both = !row.subcommands.is_empty() && self.entries[at].is_container();
        both.then_some(at as u16)
    }

    /// The table of all rows added.
    pub fn finish(mut self) -> Table<H> {
        let mut long_names = Vec::new();
        let mut slots = vec![FREE; (self.entries.len() * 4 + 1).next_power_of_two()];
        let mask = slots.len() - 1;
        for (&id, name) in &self.renamed {
            match Name::new(name.as_bytes(), None) {
                Some(short) => self.names[usize::from(id)] = short,
                None if name.is_empty() => remove(&mut self.entries, id),
                None => long_names.push((name.clone(), id)),
            }
        }
        let has_long_name = |id: u16| long_names.iter().any(|(_, known)| *known == id);
        for (id, name) in self.names.iter().enumerate() {
            if self.entries[id].removed || has_long_name(id as u16) {
                continue;
            }
            let free = (0..slots.len())
                .map(|step| (name.hash() + step) & mask)
                .find(|&at| slots[at] == FREE);
            slots[free.expect("three quarters of the slots are free")] = id as u16;
        }
        Table {
            entries: self.entries,
            names: self.names,
            slots,
            long_names,
        }
    }

    fn add_row<R: 'static>(
        &mut self,
        row: &'static Row<R>,
        parent: Option<u16>,
        handler: H,
    ) -> u16 {
        let command = &row.command;
        let full_name = match parent {
            Some(parent) => format!(
                "{}|{}",
                self.entries[usize::from(parent)].full_name,
                command.name
            ),
            None => command.name.to_owned(),
        };
        let usage =
            Usage::parse(command.usage).unwrap_or_else(|error| panic!("{full_name}: {error}"));
        let name = Name::new(command.name.as_bytes(), parent)
            .unwrap_or_else(|| panic!("{full_name}: too long"));
        assert!(
            !self.names.contains(&name),
            "{full_name}: a second row of this name"
        );
        let container = !row.subcommands.is_empty();
        let id = u16::try_from(self.entries.len())
            .ok()
            .filter(|&id| id != FREE)
            .expect("fewer than 65535 commands");
        self.names.push(name);
        self.entries.push(Entry {
            command,
            handler,
            full_name,
            // A container wants the name of a subcommand.
            arity: if container && usage.stated_arity.is_none() {
                -2
            } else {
                usage.arity(1 + usize::from(parent.is_some()))
            },
            arguments: usage.arguments,
            shape: Shape::of(command),
            categories: category::categories(command, container),
            id,
            parent,
            subcommands: Vec::new(),
            removed: false,
        });
        id
    }
}

/// Takes a command and its subcommands out of every list.
fn remove<H>(entries: &mut [Entry<H>], id: u16) {
    for entry in entries {
        entry.removed |= entry.id == id || entry.parent == Some(id);
    }
}

/// No number: an empty slot.
const FREE: u16 = u16::MAX;

/// A name in lower case, padded with zeros, and the number of its container plus one (0: none).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    words: [u64; 3],
    parent: u32,
    length: u32,
}

impl Name {
    /// `None` when it is empty or too long. The length tells a name from the same with zero bytes behind it.
    #[inline]
    fn new(name: &[u8], parent: Option<u16>) -> Option<Name> {
        let words = match name.len() {
            1..=8 => [partial_word(name), 0, 0],
            9..=16 => [full_word(name, 0), partial_word(&name[8..]), 0],
            17..=NAME_LIMIT => [
                full_word(name, 0),
                full_word(name, 8),
                partial_word(&name[16..]),
            ],
            _ => return None,
        };
        let parent = parent.map_or(0, |id| u32::from(id) + 1);
        // One by one: `map` of an array is a loop, and calls, where it is not inlined.
        let [first, second, third] = words;
        Some(Name {
            words: [lower_case(first), lower_case(second), lower_case(third)],
            parent,
            length: name.len() as u32,
        })
    }

    /// Equality without a call of `bcmp`, which the derived one becomes.
    #[inline]
    fn is(&self, other: &Name) -> bool {
        let ([a, b, c], [d, e, f]) = (self.words, other.words);
        let words = (a ^ d) | (b ^ e) | (c ^ f);
        words | u64::from((self.parent ^ other.parent) | (self.length ^ other.length)) == 0
    }

    #[inline]
    fn hash(&self) -> usize {
        let [first, second, third] = self.words;
        let mixed =
            first ^ second.rotate_left(23) ^ third.rotate_left(41) ^ u64::from(self.parent) << 17;
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
    }
}

/// Eight bytes from `at` on.
#[inline]
fn full_word(name: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(name[at..at + 8].try_into().expect("eight bytes"))
}

/// One to eight bytes, the rest zero: read as two halves that overlap.
#[inline]
fn partial_word(name: &[u8]) -> u64 {
    let length = name.len();
    if length >= 8 {
        full_word(name, 0)
    } else if length >= 4 {
        let half = |at: usize| {
            u64::from(u32::from_le_bytes(
                name[at..at + 4].try_into().expect("four bytes"),
            ))
        };
        half(0) | half(length - 4) << ((length - 4) * 8)
    } else {
        let byte = |at: usize| u64::from(name[at]) << (at * 8);
        byte(0) | byte(length / 2) | byte(length - 1)
    }
}

/// Sets bit 0x20 of each byte in `A..=Z`, all eight at once. Bytes past 0x7f stay as they are.
#[inline]
fn lower_case(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * EACH);
    let from_a = low + (0x80 - b'A' as u64) * EACH;
    let past_z = low + (0x7f - b'Z' as u64) * EACH;
    let upper = from_a & !past_z & !word & (0x80 * EACH);
    word | upper >> 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Flags;

    const fn row(name: &'static str) -> Row<u8> {
        Row::new(
            Command {
                name,
                usage: "key",
                ..Command::NEW
            },
            1,
        )
    }

    static ROWS: [Row<u8>; 5] = [
        row("get"),
        row("set"),
        row("georadiusbymember_ro"),
        row("zremrangebyscore"),
        Row {
            command: Command {
                name: "config",
                flags: Flags::ADMIN,
                ..Command::NEW
            },
            handler: 0,
            subcommands: &[row("get"), row("set")],
        },
    ];

    /// Names are found in any case; prefixes, extensions, zero bytes and near misses are not.
    #[test]
    fn finds_exactly_the_names() {
        let table: Table<u32> = Table::build(&ROWS);
        for row in &ROWS {
            assert_eq!(
                table
                    .find(row.command.name.as_bytes())
                    .unwrap()
                    .command
                    .name,
                row.command.name
            );
            assert_eq!(
                table
                    .find(row.command.name.to_uppercase().as_bytes())
                    .unwrap()
                    .command
                    .name,
                row.command.name
            );
        }
        let misses: [&[u8]; 9] = [
            b"",
            b"ge",
            b"gets",
            b"get\0",
            b"\x07et",
            b"GEORADIUSBYMEMBER\x7fRO",
            b"\xe7et",
            b"config|get",
            &[b'a'; 25],
        ];
        for miss in misses {
            assert!(table.find(miss).is_none(), "{miss:?}");
        }
        assert_eq!(table.find(b"CONFIG").unwrap().arity, -2);
        let config_get = table
            .find_subcommand(table.find(b"config").unwrap(), b"GeT")
            .unwrap();
        assert_eq!(
            (&*config_get.full_name, config_get.arity, config_get.parent),
            ("config|get", 3, Some(4))
        );
        assert!(std::ptr::eq(
            table.find_full(b"Config|Get").unwrap(),
            config_get
        ));
        assert!(table.find_full(b"config|get|x").is_none());
        assert!(
            table
                .find_subcommand(table.find(b"get").unwrap(), b"get")
                .is_none()
        );
        assert!(config_get.accepts(3) && !config_get.accepts(2) && !config_get.accepts(4));
    }

    /// Folding agrees with the naive one for every byte in every place.
    #[test]
    fn folding_agrees_with_the_naive_one() {
        for length in 1..=NAME_LIMIT {
            for byte in 0..=u8::MAX {
                let name: Vec<u8> = (0..length)
                    .map(|at| byte.wrapping_add((at * 37) as u8))
                    .collect();
                let folded: Vec<u8> = Name::new(&name, None)
                    .unwrap()
                    .words
                    .iter()
                    .flat_map(|word| word.to_le_bytes())
                    .collect();
                assert_eq!(folded[..length], name.to_ascii_lowercase());
                assert!(folded[length..].iter().all(|&byte| byte == 0));
            }
        }
    }

    /// A renamed command answers to its new name alone, of any length; a removed one, with its subcommands, to none.
    #[test]
    fn renaming() {
        let long = "b840fc02d524045429941cc15f59e41cb7be6c52";
        let mut builder: TableBuilder<u8> = TableBuilder::new();
        builder.add(&ROWS, |handler| *handler);
        for (from, to) in [("GET", "fetch"), ("config", long), ("set", "")] {
            assert_eq!(builder.rename(from, to), Ok(()));
        }
        assert_eq!(
            builder.rename("get", "x"),
            Err(RenameError::Unknown("get".into()))
        );
        assert_eq!(
            builder.rename("fetch", "zremrangebyscore"),
            Err(RenameError::Taken("zremrangebyscore".into()))
        );
        assert_eq!(builder.rename("fetch", "get"), Ok(()));
        assert_eq!(builder.rename("get", "Fetch"), Ok(()));
        let table = builder.finish();
        for gone in ["get", "config", "config|get", "set", ""] {
            assert!(table.find_full(gone.as_bytes()).is_none(), "{gone}");
        }
        assert_eq!(table.find(b"FETCH").unwrap().full_name, "get");
        let config = table.find(long.to_uppercase().as_bytes()).unwrap();
        assert_eq!(config.full_name, "config");
        assert!(table.find_subcommand(config, b"get").is_some());
        assert_eq!(table.commands().count(), ROWS.len() - 1);

        let mut builder: TableBuilder<u8> = TableBuilder::new();
        builder.add(&ROWS, |handler| *handler);
        assert_eq!(builder.rename("config", ""), Ok(()));
        let table = builder.finish();
        assert_eq!(table.listed().count(), ROWS.len() - 1);
        assert_eq!(table.entries().len(), ROWS.len() + 2);
    }

    /// Two rows of one name are a mistake of ours.
    #[test]
    #[should_panic(expected = "get: a second row of this name")]
    fn duplicate_names_are_refused() {
        static TWICE: [Row<u8>; 2] = [row("get"), row("get")];
        let _: Table<u8> = Table::build(&TWICE);
    }
}
