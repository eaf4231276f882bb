//! data
pub mod number;
