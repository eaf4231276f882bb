//! The data families: rows first, handlers below, one file each.
//!
//! A handler is a plain function of its arguments, the locked view and the reply. It parses all options into a value, then
//! reads and changes the view, then writes the reply. It never locks, awaits or sees a socket.

pub mod bitmap;
pub mod database;
pub mod dump;
pub mod generic;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod list;
pub mod migrate;
#[cfg(test)]
mod replay;
pub mod scan;
pub mod set;
pub mod sort;
pub mod stream;
pub mod string;
#[cfg(test)]
pub mod testing;
pub mod timeout;
pub mod zset;

use std::sync::Arc;

use migrate::Migration;

use crate::keyspace::lock::Plan;
use crate::keyspace::sweep::{Scene, Sweep};
use crate::keyspace::view::View;
use crate::keyspace::waiting::Outcome;
use crate::resp::reply::Reply;
use crate::table::{Args, CommandError, Row};

/// How a handler ends: `Ok` with its reply written, or a refusal (what it wrote is cut off).
pub type Done = Result<(), CommandError>;

/// Reads the arguments of a command that goes through partitions.
pub type BeginSweep = fn(&mut Args<'_>, &Scene<'_>) -> Result<Box<dyn Sweep>, CommandError>;

/// Adds to the plan where the keys lie that a command turns out to need, as far as the locked ones tell. Refuses nothing:
/// that is the handler's part.
pub type Reach = fn(&mut Args<'_>, &View<'_>, &mut Plan);

/// Reads what is to be sent to another server; `None` when there is nothing, and the reply is written.
pub type BeginMigration =
    fn(&mut Args<'_>, &View<'_>, &mut Reply<'_>) -> Result<Option<Arc<Migration>>, CommandError>;

/// What runs a data command. The type keeps a read from writing.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Reads keys.
    Read(fn(&mut Args<'_>, &View<'_>, &mut Reply<'_>) -> Done),
    /// Reads and changes keys.
    Write(fn(&mut Args<'_>, &mut View<'_>, &mut Reply<'_>) -> Done),
    /// As [`Handler::Write`], and waits when there is nothing yet. It is run again, on one of its keys, when that may have
    /// changed.
    Block(fn(&mut Args<'_>, &mut View<'_>, &mut Reply<'_>) -> Result<Outcome, CommandError>),
    /// As [`Handler::Write`], on more keys than the request names: it runs once all that it reaches for is locked.
    Reach(
        Reach,
        fn(&mut Args<'_>, &mut View<'_>, &mut Reply<'_>) -> Done,
    ),
    /// Reads keys that the connection then sends to another server; dispatch ends it by [`migrate::finish`].
    Migrate(BeginMigration),
    /// Goes through partitions one by one.
    Sweep(BeginSweep),
    /// Has subcommands only.
    Container,
}

/// Elements from which a set, hash or sorted set is read after release, from a snapshot: 50 to 100 us of work.
const LATER_ELEMENTS: usize = 2_000;

/// What a bulk string takes on the wire beside its text, at least: `$1`, two line ends.
const BULK_BYTES: usize = 6;

/// The refusal of the one count that has no opposite.
const LOWEST_COUNT: CommandError = CommandError::fixed(
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
);

/// The refusal of a count whose reply would be too long.
const COUNT_OUT_OF_RANGE: CommandError = CommandError::fixed("ERR value is out of range");

/// All rows of the data families.
pub const FAMILIES: &[&[Row<Handler>]] = &[
    string::ROWS,
    stream::ROWS,
    bitmap::ROWS,
    list::ROWS,
    set::ROWS,
    hash::ROWS,
    zset::ROWS,
    hyperloglog::ROWS,
    geo::ROWS,
    generic::ROWS,
    database::ROWS,
    dump::ROWS,
    sort::ROWS,
    migrate::ROWS,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Flags;
    use crate::table::check::check_row;

    /// Every row of every family holds what rows must hold, and its handler may do what its flags say.
    #[test]
    fn rows_hold() {
        for row in FAMILIES
            .iter()
            .copied()
            .flatten()
            .flat_map(|row| std::iter::once(row).chain(row.subcommands))
        {
            assert_eq!(check_row(&row.command), Ok(()));
            let flags = row.command.flags;
            let writes = flags.contains(Flags::WRITE);
            // PFCOUNT keeps its result in the value.
            let may_write = flags.intersects(Flags::WRITE | Flags::MAY_REPLICATE);
            match row.handler {
                Handler::Read(_) => assert!(!writes, "{}", row.command.name),
                Handler::Write(_) => assert!(may_write, "{}", row.command.name),
                Handler::Block(_) => assert!(
                    row.command.flags.contains(Flags::BLOCKING),
                    "{}",
                    row.command.name
                ),
                Handler::Migrate(_)
                | Handler::Reach(..)
                | Handler::Sweep(_)
                | Handler::Container => {}
            }
        }
    }
}
