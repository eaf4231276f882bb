//! MULTI and its kin. EXEC is the dispatcher's: it runs the commands that were queued.

use std::sync::atomic::Ordering;

use super::{Caller, Done, Handler};
use crate::keyspace::lock::{PATIENCE, lock_one};
use crate::resp::reply::Reply;
use crate::state::transaction::Watches;
use crate::table::keys::{KeyAccess, KeySpec};
use crate::table::{Args, Command, CommandError, Family, Flags, Row};

const ALWAYS: Flags = Flags::NOSCRIPT
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST)
    .union(Flags::ALLOW_BUSY);

/// The rows of the family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "discard",
            family: Family::Transactions,
            since: "2.0.0",
            summary: "Drops the queued commands and ends the transaction.",
            complexity: "O(N) in the number of queued commands",
            flags: ALWAYS,
            ..Command::NEW
        },
        Handler::Ending(discard),
    ),
    Row::new(
        Command {
            name: "exec",
            family: Family::Transactions,
            since: "1.2.0",
            summary: "Runs the queued commands as one.",
            complexity: "that of the queued commands",
            flags: Flags::NOSCRIPT
                .union(Flags::LOADING)
                .union(Flags::STALE)
                .union(Flags::SKIP_SLOWLOG),
            ..Command::NEW
        },
        Handler::Exec,
    ),
    Row::new(
        Command {
            name: "multi",
            family: Family::Transactions,
            since: "1.2.0",
            summary: "Begins a transaction: commands are queued from here on.",
            complexity: "O(1)",
            flags: ALWAYS,
            ..Command::NEW
        },
        Handler::Immediate(multi),
    ),
    Row::new(
        Command {
            name: "unwatch",
            family: Family::Transactions,
            since: "2.2.0",
            summary: "Forgets the watched keys.",
            complexity: "O(1)",
            flags: ALWAYS,
            ..Command::NEW
        },
        Handler::Admin(unwatch),
    ),
    Row::new(
        Command {
            name: "watch",
            family: Family::Transactions,
            since: "2.2.0",
            summary: "Lets the next EXEC fail when one of the keys is changed before it.",
            complexity: "O(1) for each key",
            usage: "key [key ...]",
            flags: ALWAYS,
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO)],
            ..Command::NEW
        },
        Handler::Immediate(watch),
    ),
];

fn multi(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if caller.session.transaction().is_some() {
        return Err(CommandError::fixed("ERR MULTI calls can not be nested"));
    }
    caller.session.begin_transaction();
    reply.ok();
    Ok(())
}

fn discard(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if caller.session.take_transaction().is_none() {
        return Err(CommandError::fixed("ERR DISCARD without MULTI"));
    }
    caller.session.take_watches();
    reply.ok();
    Ok(())
}

fn unwatch(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    caller.session.take_watches();
    reply.ok();
    Ok(())
}

fn watch(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if caller.session.transaction().is_some() {
        return Err(CommandError::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    let keyspace = &caller.server.keyspace;
    let database = caller.session.database;
    let server = caller.server;
    let watches = caller
        .session
        .watches
        .get_or_insert_with(|| Watches::new(server.clone()));
    for key in args.rest() {
        let hash = keyspace.hasher().hash(key);
        let held = lock_one(keyspace, keyspace.place(database, hash), PATIENCE);
        let Ok(held) = held else {
            return Err(CommandError::fixed("ERR the key is locked"));
        };
        let entry = held.partition.find(hash, key);
        let is_expired = entry.is_some_and(|entry| entry.is_expired(caller.now));
        watches.add(database, key, is_expired);
    }
    let count = watches.keys().len() as u32;
    caller
        .session
        .client
        .watched
        .store(count, Ordering::Relaxed);
    reply.ok();
    Ok(())
}
