//! base
pub mod split;
