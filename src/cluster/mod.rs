//! The ring: which node owns which key, how nodes agree on that, and how they speak with each other.
//!
//! ```text
//!     key -> slot (slots.rs) -> owner (map.rs, agreed on in a replicated log) -> here, or a peer (bus.rs)
//! ```

pub mod agree;
pub mod bus;
pub mod map;
pub mod node;
pub mod ring;
pub mod slots;
