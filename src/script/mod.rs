//! Lua: the machine that runs scripts and functions, and what they find in it.
//!
//! An `engine::Engine` is one Lua 5.1 machine with the scripts compiled in it; each thread that runs scripts has its own.
//! It knows no keyspace: what a script asks of the server goes through a [`Host`], which dispatch implements, and comes
//! back as the bytes of a reply.

pub mod engine;
pub mod header;
pub mod lib;

mod api;
mod arguments;
mod fence;
mod globals;
mod plain;
mod raise;
mod random;
mod to_lua;
mod to_reply;

pub use self::header::sha1_hex;

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;

use crate::resp::decode::Arguments;
use crate::resp::reply::{Output, Protocol};

/// What a script may ask of the server it runs in.
pub trait Host {
    /// Runs a command, the reply of which, in this protocol, is appended to the output: an error too.
    fn call(&mut self, request: Arguments<'_>, protocol: Protocol, reply: &mut Output);

    /// Chooses where what the script writes from now on is told (redis.set_repl): the sum of 1 for the append-only file
    /// and 2 for replicas.
    fn set_replication(&mut self, targets: u8);

    /// Writes to the server's log. Levels are those of redis.LOG_DEBUG (0) to redis.LOG_WARNING (3).
    fn log(&mut self, level: u8, message: &[u8]);

    /// Whether the user may run this request (redis.acl_check_cmd); `None` when there is no such command.
    fn may_run(&mut self, request: Arguments<'_>) -> Option<bool>;
}

bitflags::bitflags! {
    /// What the `#!lua` line of a script, or the registration of a function, says of it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct ScriptFlags: u8 {
        /// Writes nothing; commands that write are refused.
        const NO_WRITES = 1;
        /// May run when memory is over the limit.
        const ALLOW_OOM = 1 << 1;
        /// May run on a replica with stale data.
        const ALLOW_STALE = 1 << 2;
        /// Refuses to run in a cluster.
        const NO_CLUSTER = 1 << 3;
        /// May reach for keys of several slots.
        const ALLOW_CROSS_SLOT_KEYS = 1 << 4;
        /// Has no `#!` line: what it may do is found out command by command, as before Redis 7.
        const COMPATIBILITY = 1 << 5;
    }
}

/// The SHA-1 of a script as a key of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptName(pub [u8; 40]);

impl Hash for ScriptName {
    /// 64 of its bits tell scripts apart as well as all of them, and cost less.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..16]);
    }
}

/// A script as EVAL and SCRIPT LOAD give it.
#[derive(Clone, Debug)]
pub struct Script {
    /// The SHA-1 of its text, in lower-case hexadecimal digits.
    pub sha1: [u8; 40],
    /// Its text, the `#!` line included.
    pub text: Bytes,
    /// What its `#!` line says.
    pub flags: ScriptFlags,
    /// Whether it does nothing with KEYS and ARGV but read elements of them.
    pub is_plain: bool,
}

/// The state of a running script that others may look at and change: how SCRIPT KILL reaches it.
#[derive(Debug, Default)]
pub struct Interrupt(AtomicU8);

impl Interrupt {
    /// Asks the script to end. It ends at its next line, call or step of a pattern.
    pub fn kill(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// Begins a run.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether it was asked to end.
    #[inline]
    pub fn is_killed(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod interrupt_tests {
    use super::*;

    #[test]
    fn a_killed_script_stays_killed() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.is_killed());
        interrupt.kill();
        assert!(interrupt.is_killed());
    }
}
