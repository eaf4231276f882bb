//! Rings of real processes: what concerns all nodes at once.

#[path = "../support/mod.rs"]
mod support;

mod face;
mod far;
mod nodes;
mod publish;
mod scripts;
mod tracking;
mod whole;
