//! The wire: requests in, replies out, and the replies of other servers.
//!
//! `decode` reads requests, `reply` writes replies, `frame` reads what another server answered; `spare` has buffers for both
//! ways. Nothing here knows a command or a socket: bytes go in and come out of buffers that the connection owns.

pub mod decode;
pub mod frame;
pub mod reply;
pub mod spare;
