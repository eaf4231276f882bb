//! What COMMAND and its subcommands print, written from the rows: nothing here is kept apart from them.
//!
//! Shapes and orders of fields are those of redis-server 7.0.15, which a test compares byte by byte, in RESP2 and RESP3,
//! for all of its commands. The writers of sets and maps fall back to arrays in RESP2 by themselves. Commands come in the
//! order of the rows (Redis's order is that of its hash table).

use super::category::Category;
use super::error::CommandError;
use super::keys::{self, Begin, Find, KeyAccess, KeySpec};
use super::lookup::{Entry, Table};
use super::usage::Argument;
use super::{Command, Flags};
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;

/// COMMAND: an array with the information on each command.
pub fn command<H>(table: &Table<H>, reply: &mut Reply<'_>) {
    reply.array(table.commands().count());
    for entry in table.commands() {
        information(table, entry, reply);
    }
}

/// COMMAND COUNT: the number of commands without subcommands.
pub fn command_count<H>(table: &Table<H>, reply: &mut Reply<'_>) {
    reply.integer(table.commands().count() as i64);
}

/// COMMAND INFO: as COMMAND for these full names, null for unknown ones; all commands when there are no names.
pub fn command_info<H>(table: &Table<H>, names: &Arguments<'_>, reply: &mut Reply<'_>) {
    if names.is_empty() {
        return command(table, reply);
    }
    reply.array(names.len());
    for name in names.iter() {
        match table.find_full(name) {
            Some(entry) => information(table, entry, reply),
            None => reply.null(),
        }
    }
}

/// COMMAND DOCS: a map from full names to documentation, unknown ones left out; all commands when there are no names.
pub fn command_docs<H>(table: &Table<H>, names: &Arguments<'_>, reply: &mut Reply<'_>) {
    let entries: Vec<&Entry<H>> = match names.len() {
        0 => table.commands().collect(),
        _ => names
            .iter()
            .filter_map(|name| table.find_full(name))
            .collect(),
    };
    reply.map(entries.len());
    for entry in entries {
        documentation(table, entry, reply);
    }
}

/// What COMMAND LIST leaves out.
#[derive(Clone, Copy)]
pub enum ListFilter<'a> {
    /// Nothing.
    All,
    /// All but the commands of a module: there are none.
    Module,
    /// What is not in the category of this name.
    Category(&'a [u8]),
    /// Full names that do not match.
    Matching(&'a dyn Fn(&str) -> bool),
}

/// COMMAND LIST: the full names of commands and subcommands that pass the filter.
pub fn command_list<H>(table: &Table<H>, filter: ListFilter<'_>, reply: &mut Reply<'_>) {
    let passes = |entry: &&Entry<H>| match filter {
        ListFilter::All => true,
        ListFilter::Module => false,
        ListFilter::Category(name) => {
            Category::named(name).is_some_and(|wanted| entry.categories.contains(wanted))
        }
        ListFilter::Matching(matches) => matches(&entry.full_name),
    };
    let entries: Vec<&Entry<H>> = table.listed().filter(passes).collect();
    reply.array(entries.len());
    for entry in entries {
        reply.bulk(entry.full_name.as_bytes());
    }
}

/// COMMAND GETKEYS and GETKEYSANDFLAGS (`with_access`) of a request, which begins with its command's name. Nothing is
/// written on an error.
pub fn command_getkeys<H>(
    table: &Table<H>,
    request: &Arguments<'_>,
    with_access: bool,
    reply: &mut Reply<'_>,
) -> Result<(), CommandError> {
    let entry = table
        .find_request(request)
        .ok_or(CommandError::fixed("ERR Invalid command specified"))?;
    if !entry.command.has_keys() {
        return Err(CommandError::fixed("ERR The command has no key arguments"));
    }
    if !entry.accepts(request.len()) {
        return Err(CommandError::fixed(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let mut found = Vec::new();
    let _ = keys::locate(entry.command, request, &mut found);
    if found.is_empty() && !entry.command.flags.contains(Flags::NO_MANDATORY_KEYS) {
        return Err(CommandError::fixed(
            "ERR Invalid arguments specified for command",
        ));
    }
    reply.array(found.len());
    for (position, access) in found {
        if with_access {
            reply.array(2);
        }
        reply.bulk(request.get(position).unwrap_or_default());
        if with_access {
            key_access(access, reply);
        }
    }
    Ok(())
}

/// The ten fields of COMMAND INFO.
fn information<H>(table: &Table<H>, entry: &Entry<H>, reply: &mut Reply<'_>) {
    let command = entry.command;
    let old = OldKeys::of(command);
    reply.array(10);
    reply.bulk(entry.full_name.as_bytes());
    reply.integer(entry.arity.into());
    let movable = old.movable.then_some("movablekeys");
    words(
        FLAG_NAMES
            .iter()
            .filter(|(flag, _)| command.flags.contains(*flag))
            .map(|(_, name)| *name)
            .chain(movable),
        reply,
    );
    for number in [old.first, old.last, old.step] {
        reply.integer(number);
    }
    reply.set(entry.categories.iter().count());
    for name in entry.categories.names() {
        reply.simple(&format!("@{name}"));
    }
    reply.set(command.tips.len());
    for tip in command.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(command.keys.len());
    for spec in command.keys {
        key_spec(spec, reply);
    }
    // Redis writes an empty set, but a filled array.
    match entry.subcommands.len() {
        0 => reply.set(0),
        count => reply.array(count),
    }
    for subcommand in table.subcommands(entry) {
        information(table, subcommand, reply);
    }
}

/// Names of the flags that COMMAND INFO shows, in its order. Redis hides may_replicate, protected and
/// touches_arbitrary_keys, and computes movablekeys.
const FLAG_NAMES: [(Flags, &str); 18] = [
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::PUBSUB, "pubsub"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::BLOCKING, "blocking"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::SKIP_MONITOR, "skip_monitor"),
    (Flags::SKIP_SLOWLOG, "skip_slowlog"),
    (Flags::ASKING, "asking"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::NO_ASYNC_LOADING, "no_async_loading"),
    (Flags::NO_MULTI, "no_multi"),
    (Flags::NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (Flags::ALLOW_BUSY, "allow_busy"),
];

/// First key, last key and step: how COMMAND told keys before there were key specs, still read by old clients.
struct OldKeys {
    first: i64,
    last: i64,
    step: i64,
    /// The three do not tell all.
    movable: bool,
}

impl OldKeys {
    /// Redis's rules: a single range as it is; of several specs the plain ranges that follow each other.
    fn of(command: &Command) -> OldKeys {
        let mut old = OldKeys {
            first: 0,
            last: 0,
            step: 0,
            movable: false,
        };
        let alone = command.keys.len() == 1;
        for spec in command.keys {
            let (Begin::Index(index), Find::Range { last, step, .. }) = (spec.begin, spec.find)
            else {
                old.movable = true;
                continue;
            };
            let index = index as i64;
            let plain = step == 1 && (old.last == 0 || old.last == index - 1);
            if !alone && !plain {
                old.movable = true;
                continue;
            }
            old.movable |= spec.access.contains(KeyAccess::INCOMPLETE);
            old.first = if old.first == 0 { index } else { old.first };
            old.last = i64::from(last) + if last >= 0 { index } else { 0 };
            old.step = step.into();
        }
        old
    }
}

fn key_access(access: KeyAccess, reply: &mut Reply<'_>) {
    const NAMES: [(KeyAccess, &str); 11] = [
        (KeyAccess::RO, "RO"),
        (KeyAccess::RW, "RW"),
        (KeyAccess::OW, "OW"),
        (KeyAccess::RM, "RM"),
        (KeyAccess::ACCESS, "access"),
        (KeyAccess::UPDATE, "update"),
        (KeyAccess::INSERT, "insert"),
        (KeyAccess::DELETE, "delete"),
        (KeyAccess::NOT_KEY, "not_key"),
        (KeyAccess::INCOMPLETE, "incomplete"),
        (KeyAccess::VARIABLE_FLAGS, "variable_flags"),
    ];
    words(
        NAMES
            .iter()
            .filter(|(flag, _)| access.contains(*flag))
            .map(|(_, name)| *name),
        reply,
    );
}

fn key_spec(spec: &KeySpec, reply: &mut Reply<'_>) {
    reply.map(3 + usize::from(!spec.note.is_empty()));
    if !spec.note.is_empty() {
        text("notes", spec.note, reply);
    }
    reply.bulk(b"flags");
    key_access(spec.access, reply);
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(index) => {
            search("index", 1, reply);
            number("index", index as i64, reply);
        }
        Begin::Keyword(keyword, from) => {
            search("keyword", 2, reply);
            text("keyword", keyword, reply);
            number("startfrom", from.into(), reply);
        }
        Begin::Unknown => search("unknown", 0, reply),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            search("range", 3, reply);
            number("lastkey", last.into(), reply);
            number("keystep", step.into(), reply);
            number("limit", limit.into(), reply);
        }
        Find::Count {
            count_at,
            first,
            step,
        } => {
            search("keynum", 3, reply);
            number("keynumidx", count_at.into(), reply);
            number("firstkey", first.into(), reply);
            number("keystep", step.into(), reply);
        }
        Find::Unknown => search("unknown", 0, reply),
    }
}

/// The head of a search: its type, and a map of `count` fields to follow.
fn search(kind: &str, count: usize, reply: &mut Reply<'_>) {
    reply.map(2);
    text("type", kind, reply);
    reply.bulk(b"spec");
    reply.map(count);
}

/// A full name and its map of COMMAND DOCS. Fields without text are left out.
fn documentation<H>(table: &Table<H>, entry: &Entry<H>, reply: &mut Reply<'_>) {
    let command = entry.command;
    let (deprecated_since, replaced_by) = command.deprecated.unwrap_or_default();
    let texts = [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.family.name()),
        ("complexity", command.complexity),
    ];
    let deprecations = [
        ("deprecated_since", deprecated_since),
        ("replaced_by", replaced_by),
    ];
    let doc_flags = || {
        let deprecated = command.deprecated.map(|_| "deprecated");
        deprecated
            .into_iter()
            .chain(command.flags.contains(Flags::SYSTEM).then_some("syscmd"))
    };
    let lists = [
        doc_flags().next().is_some(),
        !command.history.is_empty(),
        !entry.arguments.is_empty(),
        entry.is_container(),
    ];
    let text_count = texts
        .iter()
        .chain(&deprecations)
        .filter(|(_, value)| !value.is_empty())
        .count();

    reply.bulk(entry.full_name.as_bytes());
    reply.map(text_count + lists.iter().filter(|present| **present).count());
    texts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .for_each(|(name, value)| text(name, value, reply));
    if doc_flags().next().is_some() {
        reply.bulk(b"doc_flags");
        words(doc_flags(), reply);
    }
    deprecations
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .for_each(|(name, value)| text(name, value, reply));
    if !command.history.is_empty() {
        history(command.history, reply);
    }
    if !entry.arguments.is_empty() {
        arguments(&entry.arguments, reply);
    }
    if entry.is_container() {
        reply.bulk(b"subcommands");
        reply.map(entry.subcommands.len());
        for subcommand in table.subcommands(entry) {
            documentation(table, subcommand, reply);
        }
    }
}

fn history(changes: &[(&str, &str)], reply: &mut Reply<'_>) {
    reply.bulk(b"history");
    reply.set(changes.len());
    for (version, change) in changes {
        reply.array(2);
        reply.bulk(version.as_bytes());
        reply.bulk(change.as_bytes());
    }
}

/// The field `arguments`; nesting is bounded by the parser of usage lines.
fn arguments(list: &[Argument], reply: &mut Reply<'_>) {
    reply.bulk(b"arguments");
    reply.array(list.len());
    for item in list {
        argument(item, reply);
    }
}

fn argument(argument: &Argument, reply: &mut Reply<'_>) {
    let flags = || {
        let all = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ];
        all.into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, name)| name)
    };
    let texts = [
        ("token", argument.token.as_deref()),
        ("since", argument.since.as_deref()),
        ("deprecated_since", argument.deprecated_since.as_deref()),
    ];
    let texts = || {
        texts
            .iter()
            .filter_map(|(name, value)| value.map(|value| (*name, value)))
    };
    let lists = [
        argument.key_spec.is_some(),
        flags().next().is_some(),
        !argument.members.is_empty(),
    ];

    reply.map(2 + texts().count() + lists.iter().filter(|present| **present).count());
    text("name", &argument.name, reply);
    text("type", argument.kind.name(), reply);
    if let Some(spec) = argument.key_spec {
        number("key_spec_index", spec as i64, reply);
    }
    texts().for_each(|(name, value)| text(name, value, reply));
    if flags().next().is_some() {
        reply.bulk(b"flags");
        words(flags(), reply);
    }
    if !argument.members.is_empty() {
        arguments(&argument.members, reply);
    }
}

fn text(name: &str, value: &str, reply: &mut Reply<'_>) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

fn number(name: &str, value: i64, reply: &mut Reply<'_>) {
    reply.bulk(name.as_bytes());
    reply.integer(value);
}

/// A set of simple strings.
fn words<'a>(list: impl Iterator<Item = &'a str> + Clone, reply: &mut Reply<'_>) {
    reply.set(list.clone().count());
    list.for_each(|word| reply.simple(word));
}

#[cfg(test)]
#[path = "docs_tests.rs"]
mod tests;
