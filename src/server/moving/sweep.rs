//! Going through all keys, and the removal of those that this node does not own.

use std::sync::Arc;
use std::time::Duration;

use super::{EASY, Pace};
use crate::base::worker::Work;
use crate::cluster::{Cluster, SlotSet, View};
use crate::keyspace::entry::{Entry, Garbage};
use crate::keyspace::lock::{Contended, PATIENCE, Place, lock_one};
use crate::keyspace::partition::Partition;
use crate::keyspace::{Keyspace, PARTITIONS};
use crate::server::connection::rest;
use crate::state::Server;

/// Keys of a partition up to which all are looked at under one lock: about 50 us.
const WHOLE_MAX: usize = 2048;
/// Blocks of a larger one that are: some hundred keys.
const BLOCKS: usize = 32;
/// Keys removed under one lock.
const REMOVED_MAX: usize = 256;

/// A way through all keys. A key that is there all the while is met at least once, whatever happens to its partition
/// meanwhile; not so if databases are exchanged ([`Keyspace::exchanges`]).
#[derive(Clone, Debug, Default)]
pub struct Walk {
    database: u32,
    partition: usize,
    /// Within a partition that is gone through in several steps.
    cursor: u64,
}

impl Walk {
    /// The partition that is next; `None` at the end.
    pub fn place(&mut self, keyspace: &Keyspace) -> Option<Place> {
        while (self.database as usize) < keyspace.database_count() {
            let database = keyspace.database_if_built(self.database);
            let is_wanted = |number: &usize| {
                database.is_some_and(|database| database.counters(*number).len() > 0)
            };
            if let Some(number) = (self.partition..PARTITIONS).find(is_wanted) {
                if number != self.partition {
                    self.cursor = 0;
                }
                self.partition = number;
                return Some(Place {
                    database: self.database,
                    partition: number as u32,
                });
            }
            self.database += 1;
            self.partition = 0;
            self.cursor = 0;
        }
        None
    }

    /// Shows the next keys of that partition, which is locked, and goes on behind them.
    pub fn visit(&mut self, partition: &Partition<'_>, mut found: impl FnMut(&Entry)) {
        if self.cursor == 0 && partition.len() <= WHOLE_MAX {
            partition.iter().for_each(found);
            self.partition += 1;
            return;
        }
        for _ in 0..BLOCKS {
            self.cursor = partition.scan(self.cursor, &mut found);
            if self.cursor == 0 {
                self.partition += 1;
                return;
            }
        }
    }
}

/// Removes the keys of slots that are dead, whenever there are any.
pub async fn clean(server: &Arc<Server>, cluster: &Arc<Cluster>) {
    loop {
        let is_there = |view: &View| view.dead.is_some();
        cluster.wait_for(Duration::from_secs(3600), is_there).await;
        if let Some(dead) = cluster.view().dead.clone() {
            clean_once(server, cluster, &dead).await;
        }
    }
}

/// Removes all keys of these slots, without a word to anybody, and says so. They stay dead meanwhile, so that no key is
/// added.
pub async fn clean_once(server: &Arc<Server>, cluster: &Cluster, dead: &SlotSet) {
    let keyspace = &server.keyspace;
    let pins = &cluster.view().map.pins.clone();
    // Who has copies of them (CLIENT TRACKING) is told by nobody else: the new owner does not know of them. The readers of a
    // key are remembered whatever its database.
    let pinned = pins.databases.iter().copied();
    let databases: Vec<u32> = pinned.chain([u32::MAX]).collect();
    server.tracking.forget_those(|key| {
        let mut databases = databases.iter();
        databases.any(|database| dead.contains(pins.slot(*database, key)))
    });
    let mut pace = Pace::through(keyspace, EASY / 2);
    loop {
        let exchanges = keyspace.exchanges();
        let mut walk = Walk::default();
        let mut round = 0;
        while let Some(place) = walk.place(keyspace) {
            let begun = Work::begin();
            let is_dead = |entry: &Entry| {
                pace.looked_at(1);
                dead.contains(pins.slot(place.database, entry.key()))
            };
            let Ok(garbage) = clean_some(keyspace, place, &mut walk, round, is_dead) else {
                rest(server, round).await;
                round = (round + 1).min(PATIENCE - 1);
                continue;
            };
            round = 0;
            if !garbage.is_empty() {
                server.discard(garbage);
            }
            // Requests wait for a slot that is held.
            if is_held(&cluster.view(), dead) {
                tokio::task::yield_now().await;
            } else {
                pace.worked(begun.took()).await;
            }
        }
        if keyspace.exchanges() == exchanges {
            return cluster.emptied(dead);
        }
    }
}

fn is_held(view: &View, slots: &SlotSet) -> bool {
    let held = view.held.as_ref();
    held.is_some_and(|held| held.meets(slots))
}

fn clean_some(
    keyspace: &Keyspace,
    place: Place,
    walk: &mut Walk,
    round: u32,
    mut is_dead: impl FnMut(&Entry) -> bool,
) -> Result<Vec<Garbage>, Contended> {
    let mut held = lock_one(keyspace, place, round)?;
    let partition = &mut held.partition;
    let before = walk.clone();
    let mut found: Vec<Box<[u8]>> = Vec::new();
    let mut is_more = false;
    walk.visit(partition, |entry| {
        if is_dead(entry) {
            match found.len() < REMOVED_MAX {
                true => found.push(entry.key().into()),
                false => is_more = true,
            }
        }
    });
    if is_more {
        *walk = before;
    }
    let removed = found
        .iter()
        .filter_map(|key| partition.remove(keyspace.hasher().hash(key), key));
    let garbage = removed.filter_map(Entry::into_garbage).collect();
    keyspace.account(partition.take_bytes());
    Ok(garbage)
}
