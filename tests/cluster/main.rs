//! Rings of real processes, under load, while nodes come, go, die, stand still or lose sight of each other.
//!
//! - [`ring`]: the processes; [`load`]: clients that write and read meanwhile and note all they see; [`history`]: what may
//!   be seen of a key, checked afterwards; [`stock`]: keys of all types that nobody changes.
//! - [`forming`]: how nodes find each other. [`changes`]: nodes join and leave under load, without an error.
//!   [`failures`]: kill -9, SIGSTOP, restarts. [`cuts`]: nodes that lose sight of each other. [`hostile`]: strangers at the
//!   bus. [`schedule`]: all of it by chance.
//!
//! Times are those of a loaded machine: a bound is the one that is promised and what a slow machine adds. `QUOIT_TEST_SEED`
//! replays a schedule, `QUOIT_TEST_ROUNDS` makes it longer.

#[path = "../support/history.rs"]
mod history;
#[path = "../support/mod.rs"]
mod support;

mod changes;
mod cuts;
mod failures;
mod forming;
mod hostile;
mod load;
mod ring;
mod schedule;
mod stock;
