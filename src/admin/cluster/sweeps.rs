//! CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT. Keys are not filed by slot here (a hash tag must not put a million keys behind
//! one lock), so both go through the whole database, partition by partition.

use std::sync::Arc;

use super::{number_of, ring};
use crate::cluster::Cluster;
use crate::cluster::map::Map;
use crate::cluster::slots::SLOTS;
use crate::keyspace::PARTITIONS;
use crate::keyspace::effects::Effects;
use crate::keyspace::lock::Place;
use crate::keyspace::partition::Partition;
use crate::keyspace::sweep::{Scene, Sweep};
use crate::resp::reply::{Output, Reply};
use crate::state::Server;
use crate::table::{Args, CommandError};

type Begun = Result<Box<dyn Sweep>, CommandError>;

fn slot(number: i64) -> Option<u16> {
    let slot = u16::try_from(number).ok();
    slot.filter(|slot| usize::from(*slot) < SLOTS)
}

pub(super) fn countkeysinslot(args: &mut Args<'_>, server: &Server, _: &Scene<'_>) -> Begun {
    let cluster = ring(server)?;
    let slot = slot(number_of(args)?).ok_or(CommandError::fixed("ERR Invalid slot"))?;
    Ok(Box::new(Count {
        walk: Walk::new(cluster, slot),
        found: 0,
    }))
}

pub(super) fn getkeysinslot(args: &mut Args<'_>, server: &Server, _: &Scene<'_>) -> Begun {
    const INVALID: CommandError = CommandError::fixed("ERR Invalid slot or number of keys");
    let cluster = ring(server)?;
    let (number, limit) = (number_of(args)?, number_of(args)?);
    let slot = slot(number).ok_or(INVALID)?;
    let limit = u64::try_from(limit).map_err(|_| INVALID)?;
    Ok(Box::new(Get {
        walk: Walk::new(cluster, slot),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        found: 0,
        keys: Output::new(),
    }))
}

/// The way through the partitions of the client's database that have keys.
struct Walk {
    map: Arc<Map>,
    slot: u16,
    /// Visited next.
    partition: usize,
}

impl Walk {
    fn new(cluster: &Cluster, slot: u16) -> Walk {
        Walk {
            map: Arc::clone(&cluster.view().map),
            slot,
            partition: 0,
        }
    }

    fn next(&mut self, scene: &Scene<'_>) -> Option<Place> {
        let database = scene.own()?;
        let at =
            (self.partition..PARTITIONS).find(|number| database.counters(*number).len() > 0)?;
        self.partition = at + 1;
        Some(Place {
            database: scene.database,
            partition: at as u32,
        })
    }

    /// The keys of the slot that are in a partition.
    fn keys<'p>(
        &'p self,
        partition: &'p Partition<'_>,
        scene: &'p Scene<'_>,
    ) -> impl Iterator<Item = &'p [u8]> {
        let living = partition
            .iter()
            .filter(|entry| !entry.is_expired(scene.run.now));
        // Those on their way here are not here yet.
        let foreign = scene.keyspace.foreign();
        living
            .map(|entry| entry.key())
            .filter(|key| self.map.pins.slot(scene.database, key) == self.slot)
            .filter(move |key| {
                foreign.is_none_or(|foreign| !foreign.is_foreign(scene.database, key))
            })
    }
}

struct Count {
    walk: Walk,
    found: usize,
}

impl Sweep for Count {
    fn next(&mut self, scene: &Scene<'_>) -> Option<Place> {
        self.walk.next(scene)
    }

    fn visit(
        &mut self,
        _place: Place,
        partition: &mut Partition<'_>,
        scene: &Scene<'_>,
        _effects: &mut Effects,
        _reply: &mut Reply<'_>,
    ) {
        self.found += self.walk.keys(partition, scene).count();
    }

    fn finish(self: Box<Self>, _scene: &Scene<'_>, _effects: &mut Effects, reply: &mut Reply<'_>) {
        reply.integer(self.found as i64);
    }
}

struct Get {
    walk: Walk,
    limit: usize,
    found: usize,
    keys: Output,
}

impl Sweep for Get {
    fn next(&mut self, scene: &Scene<'_>) -> Option<Place> {
        if self.found == self.limit {
            return None;
        }
        self.walk.next(scene)
    }

    fn visit(
        &mut self,
        _place: Place,
        partition: &mut Partition<'_>,
        scene: &Scene<'_>,
        _effects: &mut Effects,
        reply: &mut Reply<'_>,
    ) {
        let mut keys = Reply::new(&mut self.keys, reply.protocol());
        let wanted = self.limit - self.found;
        for key in self.walk.keys(partition, scene).take(wanted) {
            keys.bulk(key);
            self.found += 1;
        }
    }

    fn finish(self: Box<Self>, _scene: &Scene<'_>, _effects: &mut Effects, reply: &mut Reply<'_>) {
        reply.array(self.found);
        reply.output().append(self.keys);
    }
}
