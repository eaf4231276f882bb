//! What a connection gathers for EXEC: queued commands, and the keys it watches.

use std::sync::Arc;

use super::Server;
use crate::keyspace::watching::Watch;
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::table::Flags;

/// What a connection keeps for its next transaction.
const KEPT_BYTES: usize = 4096;
const KEPT_COMMANDS: usize = 64;

/// A command that waits for EXEC.
struct Queued {
    /// Its number in the table.
    id: u16,
    /// The hash of its only key, if it has one and that is known.
    hash: Option<u64>,
    /// Where its arguments end among those of all.
    end: usize,
}

/// The commands between MULTI and EXEC.
pub struct Transaction {
    queued: Vec<Queued>,
    /// Of all commands, one after the other.
    arguments: OwnedArguments,
    /// Whether a command was refused: EXEC runs none then.
    pub is_refused: bool,
    flags: Flags,
    bytes: usize,
}

impl Default for Transaction {
    fn default() -> Self {
        Transaction {
            queued: Vec::new(),
            arguments: OwnedArguments::default(),
            is_refused: false,
            flags: Flags::empty(),
            bytes: 0,
        }
    }
}

impl Transaction {
    /// Adds a command. `hash`: that of its only key, if it is at hand.
    pub fn push(&mut self, id: u16, flags: Flags, arguments: Arguments<'_>, hash: Option<u64>) {
        self.flags |= flags;
        self.bytes += size_of::<Queued>() + arguments.iter().map(<[u8]>::len).sum::<usize>();
        self.arguments.append(arguments);
        self.queued.push(Queued {
            id,
            hash,
            end: self.arguments.as_arguments().len(),
        });
    }

    /// The commands in their order: the numbers in the table, the requests, and the hashes that are known.
    pub fn queued(&self) -> impl Iterator<Item = (u16, Arguments<'_>, Option<u64>)> {
        let all = self.arguments.as_arguments();
        let mut begin = 0;
        self.queued.iter().map(move |queued| {
            let request = all.range(begin, queued.end);
            begin = queued.end;
            (queued.id, request, queued.hash)
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Whether a command was queued, or refused.
    pub fn has_begun(&self) -> bool {
        self.is_refused || !self.is_empty()
    }

    /// Forgets all, for the next MULTI. What has grown large is given back.
    pub fn clear(&mut self) {
        if self.arguments.memory_bytes() > KEPT_BYTES || self.queued.capacity() > KEPT_COMMANDS {
            *self = Transaction::default();
            return;
        }
        self.queued.clear();
        self.arguments.clear();
        self.is_refused = false;
        self.flags = Flags::empty();
        self.bytes = 0;
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
