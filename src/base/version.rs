//! What the server calls itself: each version stands here once.

/// The version of Redis whose behaviour clients may expect (INFO, HELLO, LOLWUT): frameworks gate features on it.
pub const REDIS_VERSION: &str = "7.4.0";
/// Our own version.
pub const QUOIT_VERSION: &str = env!("CARGO_PKG_VERSION");
