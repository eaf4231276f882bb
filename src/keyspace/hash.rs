//! From a key to its hash and its partition.

pub use crate::base::hash::{KeyHasher, partition_of};
