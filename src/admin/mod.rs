//! The families that are about the server and its clients rather than keys: connection, server.

pub mod client;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod debug;
pub mod functions;
pub mod info;
pub mod latency;
pub mod memory;
pub mod pubsub;
pub mod scripts;
pub mod server;
pub mod slowlog;
#[cfg(test)]
pub mod testing;
pub mod tracking;
pub mod transactions;

use std::sync::Arc;

use crate::base::clock::Millis;
use crate::data::number;
use crate::keyspace::sweep::{Scene, Sweep};
use crate::resp::reply::Reply;
use crate::state::Server;
use crate::state::session::Session;
use crate::table::{Args, CommandError, Row};

/// How a handler ends: `Ok` with its reply written, or a refusal (what it wrote is cut off).
pub type Done = Result<(), CommandError>;

/// Who asks, and whom.
pub struct Caller<'a> {
    /// The server.
    pub server: &'a Arc<Server>,
    /// The connection that sent the command.
    pub session: &'a mut Session,
    /// The time.
    pub now: Millis,
    /// Whether EXEC runs it.
    pub in_transaction: bool,
    /// Whether the client came by the cluster face: it is shown a Redis Cluster.
    pub sees_cluster: bool,
}

/// How a command names the script that it runs, and what it lets it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptCall {
    /// How argument 1 names it.
    pub named: Named,
    /// Whether it may only read.
    pub is_read_only: bool,
}

/// How a script is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its text.
    Text,
    /// By the SHA-1 of its text.
    Sha1,
    /// A function, by its name.
    Function,
}

/// Reads the arguments of a command that goes through partitions.
pub type BeginSweep =
    fn(&mut Args<'_>, &Server, &Scene<'_>) -> Result<Box<dyn Sweep>, CommandError>;

/// Works on the session and the server.
pub type AdminHandler = fn(&mut Args<'_>, &mut Caller<'_>, &mut Reply<'_>) -> Done;

/// What runs an administrative command.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Works on the session and the server. It may lock leaves and partitions one at a time, never awaits, and leaves to
    /// its connection what has to wait (`Session::after`).
    Admin(AdminHandler),
    /// As [`Handler::Admin`], but it looks at no account, and inside a transaction it is not queued.
    Immediate(AdminHandler),
    /// The same, and it ends a transaction.
    Ending(AdminHandler),
    /// EXEC: runs what was queued.
    Exec,
    /// Runs a script or a function.
    Script(ScriptCall),
    /// Goes through partitions one by one, as the data families' do.
    Sweep(BeginSweep),
    /// Has subcommands only.
    Container,
}

/// Writes the reply of a container's HELP: what it is, its lines, and HELP itself.
pub fn help(reply: &mut Reply<'_>, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
}

/// A timeout in milliseconds that leaves room for the present time.
pub fn timeout_ms(text: &[u8], now: Millis) -> Result<i64, CommandError> {
    match number::parse_i64(text) {
        None => Err(CommandError::fixed(
            "ERR timeout is not an integer or out of range",
        )),
        Some(..=-1) => Err(CommandError::fixed("ERR timeout is negative")),
        Some(timeout) if timeout > i64::MAX - now.0 => {
            Err(CommandError::fixed("ERR timeout is out of range"))
        }
        Some(timeout) => Ok(timeout),
    }
}

/// All rows of the administrative families.
pub const FAMILIES: &[&[Row<Handler>]] = &[
    connection::ROWS,
    client::ROWS,
    cluster::ROWS,
    command::ROWS,
    config::ROWS,
    debug::ROWS,
    functions::ROWS,
    info::ROWS,
    latency::ROWS,
    memory::ROWS,
    pubsub::ROWS,
    scripts::ROWS,
    server::ROWS,
    slowlog::ROWS,
    transactions::ROWS,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::check::check_row;

    /// Every row of every family holds what rows must hold.
    #[test]
    fn rows_hold() {
        for row in FAMILIES
            .iter()
            .copied()
            .flatten()
            .flat_map(|row| std::iter::once(row).chain(row.subcommands))
        {
            assert_eq!(check_row(&row.command), Ok(()));
        }
    }
}
