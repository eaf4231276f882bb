//! resp
pub mod decode;
pub mod reply;
