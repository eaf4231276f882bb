//! MONITOR: every command of the others, one line each, to the clients that asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::clients::Client;

/// The clients that watch.
#[derive(Debug, Default)]
pub struct Monitors {
    /// How many there are. Written with the lock held, read before every command without it: a command that misses a
    /// fresh monitor counts as having come before it.
    count: AtomicUsize,
    /// A leaf lock; posting to a client takes that client's own leaf after this one was given back.
    watching: Mutex<Vec<Arc<Client>>>,
}

impl Monitors {
    /// Whether anybody watches.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Adds a client.
    pub fn add(&self, client: Arc<Client>) {
        let mut watching = self.watching.lock();
        if !watching.iter().any(|known| known.id == client.id) {
            watching.push(client);
        }
        self.count.store(watching.len(), Ordering::Relaxed);
    }

    /// Forgets a client.
    pub fn remove(&self, id: u64) {
        let mut watching = self.watching.lock();
        watching.retain(|known| known.id != id);
        self.count.store(watching.len(), Ordering::Relaxed);
    }

    /// Shows a line to all but the client `except`, each bounded by the output limit `limit_bytes`.
    pub fn show(&self, line: &Bytes, except: Option<u64>, limit_bytes: usize) {
        let mut watching = self.watching.lock().clone();
        watching.retain(|client| Some(client.id) != except);
        for client in watching {
            if !client.post(line, limit_bytes) {
                tracing::warn!(client = client.id, addr = %client.addr, "closed: MONITOR does not read, over client-output-buffer-limit");
            }
        }
    }
}
