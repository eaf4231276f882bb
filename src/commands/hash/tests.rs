//! Replies
