//! Wakers of tasks that wait.

use std::task::{Context, Waker};

/// Remembers who is to be woken: the task that polled last.
pub fn remember(known: &mut Option<Waker>, cx: &Context<'_>) {
    match known {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}
