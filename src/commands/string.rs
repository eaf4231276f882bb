//! string commands.
use super::Handler;
use crate::table::Row;
/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[];
