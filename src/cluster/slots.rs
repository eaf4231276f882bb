//! From a key to its slot: CRC16 with hash tags, as Redis Cluster's, and pins.

use serde::{Deserialize, Serialize};

/// Slots of a ring.
pub const SLOTS: usize = 16384;

/// Which keys share a slot whatever their names are (cluster-pin).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// Databases all of whose keys share a slot, in ascending order.
    pub databases: Vec<u32>,
    /// Prefixes whose keys share a slot, the longest first.
    pub prefixes: Vec<Vec<u8>>,
}
