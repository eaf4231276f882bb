//! What a connection gathers for EXEC: queued commands, and the keys it watches.

use std::sync::Arc;

use super::Server;
use crate::keyspace::watching::Watch;
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::table::Flags;

/// A command that waits for EXEC.
pub struct Queued {
    /// Its number in the table.
    pub id: u16,
    /// The request.
    pub request: OwnedArguments,
}

/// The commands between MULTI and EXEC.
pub struct Transaction {
    queued: Vec<Queued>,
    /// Whether a command was refused: EXEC runs none then.
    pub is_refused: bool,
    flags: Flags,
    bytes: usize,
}

impl Default for Transaction {
    fn default() -> Self {
        Transaction {
            queued: Vec::new(),
            is_refused: false,
            flags: Flags::empty(),
            bytes: 0,
        }
    }
}

impl Transaction {
    /// Adds a command.
    pub fn push(&mut self, id: u16, flags: Flags, arguments: Arguments<'_>) {
        let request = arguments.to_owned();
        self.flags |= flags;
        self.bytes += size_of::<Queued>() + arguments.iter().map(<[u8]>::len).sum::<usize>();
        self.queued.push(Queued { id, request });
    }

    /// The commands in their order.
    pub fn queued(&self) -> &[Queued] {
        &self.queued
    }

    /// What any of the commands is.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// What it holds: counts against client-query-buffer-limit.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The keys that a connection watches; it watches them no more when this is dropped.
pub struct Watches {
    server: Arc<Server>,
    watch: Arc<Watch>,
    keys: Vec<(u32, Vec<u8>, bool)>,
}

impl Watches {
    /// None yet.
    pub fn new(server: Arc<Server>) -> Watches {
        Watches {
            server,
            watch: Arc::default(),
            keys: Vec::new(),
        }
    }

    /// Adds a key, whose partition is locked. `is_expired`: it is there, but its time is over.
    pub fn add(&mut self, database: u32, key: &[u8], is_expired: bool) {
        let mut keys = self.keys.iter();
        if keys.any(|(its_database, its_key, _)| *its_database == database && its_key == key) {
            return;
        }
        let listeners = &self.server.keyspace.listeners;
        listeners.watch(database, key, &self.watch, is_expired);
        self.keys.push((database, key.to_vec(), is_expired));
    }

    /// The keys, with the database of each, and whether it had expired and was still there when it began.
    pub fn keys(&self) -> &[(u32, Vec<u8>, bool)] {
        &self.keys
    }

    /// Whether one of them was changed.
    pub fn is_touched(&self) -> bool {
        self.watch.is_touched()
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        let keys = self
            .keys
            .iter()
            .map(|(database, key, _)| (*database, &key[..]));
        self.server.keyspace.listeners.unwatch(keys, &self.watch);
    }
}
