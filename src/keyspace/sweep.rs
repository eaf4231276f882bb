//! Commands over a whole database, or all of them: KEYS, SCAN, FLUSHALL and their like.
//!
//! A sweep visits one locked partition after another and decides itself which is next. Its driver (dispatch) locks, calls
//! [`Sweep::visit`], unlocks, and yields to other clients between visits, so that no sweep stops anybody for longer than
//! one visit takes.

use super::effects::Effects;
use super::lock::{Locked, Place};
use super::partition::Partition;
use super::view::Run;
use super::{Database, Keyspace};
use crate::resp::reply::Reply;

/// What a sweep starts from and ends with: the keyspace without locks.
#[derive(Clone, Copy)]
pub struct Scene<'k> {
    /// All databases. A sweep may count, flush and swap; keys are reached through visits only.
    pub keyspace: &'k Keyspace,
    /// The client's database.
    pub database: u32,
    /// Time, limits and chance.
    pub run: Run<'k>,
}

impl<'k> Scene<'k> {
    /// The client's database, when it was ever used.
    pub fn own(&self) -> Option<&'k Database> {
        self.keyspace.database_if_built(self.database)
    }
}

/// A command that goes through partitions one by one.
pub trait Sweep: Send {
    /// The partition to visit next, or `None` at the end. Called without locks. What visits nothing leaves this out.
    fn next(&mut self, _scene: &Scene<'_>) -> Option<Place> {
        None
    }

    /// Works on the partition, which is locked. Should take well below a millisecond.
    fn visit(
        &mut self,
        _place: Place,
        _partition: &mut Partition<'_>,
        _scene: &Scene<'_>,
        _effects: &mut Effects,
        _reply: &mut Reply<'_>,
    ) {
    }

    /// Completes the reply. Called without locks.
    fn finish(self: Box<Self>, scene: &Scene<'_>, effects: &mut Effects, reply: &mut Reply<'_>);

    /// As [`Sweep::finish`], inside a transaction, where everything is locked. What takes locks itself has its own.
    fn finish_within<'k>(
        self: Box<Self>,
        scene: &Scene<'k>,
        _everything: &mut Locked<'k>,
        effects: &mut Effects,
        reply: &mut Reply<'_>,
    ) {
        self.finish(scene, effects, reply);
    }
}
