//! Stands in for the bus until its branch is merged.

use std::fmt;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The replicated log.
    Raft = 1,
    /// Forming, joining, leases, proposals.
    Member = 2,
}

/// Why a call had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// There is no connection.
    NotConnected,
    /// The connection broke: the request may have been done.
    Broken,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for CallError {}
