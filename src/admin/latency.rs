//! The latency commands.
use super::Handler;
use crate::table::Row;
/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[];
