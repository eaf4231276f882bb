//! The state that the log leads to: the map, and what is needed to make each change once.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, Entry, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError,
    StoredMembership,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Sink;
use super::network::Book;
use super::store::{Store, as_snapshot};
use super::types::{
    Asked, Command, LeaderId, LogId, Membership, Origin, Outcome, SnapshotMeta, StorageError, Types,
};
use crate::cluster::map::{Change, Map, Staged};
use crate::cluster::node::{NodeId, NodeState};
use crate::cluster::slots::Pins;

/// Proposals of one node whose outcome is kept so that they can be asked for again.
const MAX_KEPT: usize = 1024;

/// What others may look at.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The index of the last entry.
    pub index: u64,
    /// The map after it.
    pub map: Arc<Map>,
}

/// What one node asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Session {
    incarnation: u64,
    /// What is below is void.
    floor: u64,
    /// What was made, by its number.
    made: BTreeMap<u64, Outcome>,
    /// The last of its [`Change::Moved`] that was looked at, whether it had an effect or not: an earlier one is void.
    moved: u64,
}

/// All that a snapshot holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    map: Map,
    sessions: BTreeMap<NodeId, Session>,
}

impl State {
    fn new() -> State {
        State {
            map: Map::new(Pins::default()),
            sessions: BTreeMap::new(),
        }
    }

    /// `leader`: who put it in the log. `tell` is called with each new map. Gives the outcome of each change.
    fn apply(
        &mut self,
        command: &Command,
        leader: &LeaderId,
        tell: &mut dyn FnMut(&Map),
    ) -> Vec<Outcome> {
        let changes = match command {
            Command::Barrier => return Vec::new(),
            Command::Found(pins) => {
                if self.map.epoch == 0 {
                    self.map.pins = pins.clone();
                }
                return Vec::new();
            }
            Command::Changes(changes) => changes,
        };
        let mut outcomes = Vec::with_capacity(changes.len());
        // What is of one kind makes one map. Whoever follows the maps can tell from each why its slots came or went.
        for together in changes.chunk_by(|a, b| Cause::of(&a.change) == Cause::of(&b.change)) {
            let before = self.map.epoch;
            outcomes.extend(self.make(together, leader));
            if self.map.epoch != before {
                tell(&self.map);
            }
        }
        outcomes
    }

    /// Makes changes together.
    fn make(&mut self, changes: &[Asked], leader: &LeaderId) -> Vec<Outcome> {
        let mut staged = Staged::default();
        let mut has_changed = false;
        let mut outcomes = Vec::with_capacity(changes.len());
        for asked in changes {
            let next = self.map.epoch.saturating_add(1);
            let outcome = |has_changed: bool, changed: bool| Outcome {
                epoch: next - u64::from(!has_changed),
                changed,
            };
            // Rule 4: what a leader found holds only for what it may itself have granted since.
            if asked.finder.is_some_and(|finder| finder != *leader) {
                outcomes.push(outcome(has_changed, false));
                continue;
            }
            outcomes.push(match self.judge(&asked.origin, &asked.change) {
                Judgement::Void => outcome(has_changed, false),
                Judgement::Made(made) => made,
                Judgement::Due => {
                    let changed = self.change(asked, &mut staged);
                    has_changed |= changed;
                    let made = outcome(has_changed, changed);
                    self.note(&asked.origin, made);
                    made
                }
            });
        }
        self.map.settle(staged);
        let asks = |id: &NodeId| changes.iter().any(|asked| asked.origin.node == *id);
        let map = &self.map;
        self.sessions
            .retain(|id, _| map.node(*id).is_some() || asks(id));
        outcomes
    }

    /// Whether a change is to be made now.
    fn judge(&mut self, origin: &Origin, change: &Change) -> Judgement {
        let session = self.sessions.entry(origin.node).or_default();
        if origin.incarnation < session.incarnation {
            return Judgement::Void;
        }
        if origin.incarnation > session.incarnation {
            *session = Session {
                incarnation: origin.incarnation,
                ..Session::default()
            };
        }
        if let Some(made) = session.made.get(&origin.number) {
            return Judgement::Made(*made);
        }
        if origin.number < session.floor {
            return Judgement::Void;
        }
        if matches!(change, Change::Moved { .. }) {
            // A node hands the same slots over one portion after the other, and has given up those before this one. The floor need
            // not say so: something else that it asked for earlier may still be open. What it gave up it may have served since. A
            // portion that one that leaves sent beside this one, and that comes out of order, is void too: it is sent again.
            if origin.number < session.moved {
                return Judgement::Void;
            }
            session.moved = origin.number;
        }
        Judgement::Due
    }

    /// Whether it did anything.
    fn change(&mut self, asked: &Asked, staged: &mut Staged) -> bool {
        let change = &asked.change;
        let before = self.map.node(subject(change)).map(|node| node.state);
        let changed = is_due(&self.map, &asked.origin, change) && self.map.stage(change, staged);
        if changed {
            tell(change, before);
        }
        changed
    }

    /// Keeps what was made for whoever asks again.
    fn note(&mut self, origin: &Origin, outcome: Outcome) {
        let session = self.sessions.entry(origin.node).or_default();
        session.made.insert(origin.number, outcome);
        session.floor = session.floor.max(origin.floor);
        while session.made.len() > MAX_KEPT {
            if let Some((number, _)) = session.made.pop_first() {
                session.floor = session.floor.max(number + 1);
            }
        }
        session.made = session.made.split_off(&session.floor);
    }
}

/// What is to be done with a change.
enum Judgement {
    /// Nothing, ever.
    Void,
    /// It was made before.
    Made(Outcome),
    /// It is to be made.
    Due,
}

/// Why slots get other owners, if they do. Changes of different kinds never make one map together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A node is gone, and what it had is lost.
    Loss,
    /// They were handed over.
    HandOver,
    /// Nodes or their shares are others.
    Nodes,
}

impl Cause {
    /// Of this change.
    pub fn of(change: &Change) -> Cause {
        match change {
            Change::Failed(..) | Change::Forget(_) => Cause::Loss,
            Change::Join(_) | Change::Leave(_) | Change::Weight(..) => Cause::Nodes,
            Change::Moved { .. } => Cause::HandOver,
        }
    }
}

/// Whether who asked is who may: see rule 5 in [`super::member`].
fn is_due(map: &Map, origin: &Origin, change: &Change) -> bool {
    let Change::Moved { from, .. } = change else {
        return true;
    };
    let owner = map.node(*from);
    *from == origin.node
        && owner.is_some_and(|owner| {
            owner.incarnation == origin.incarnation && owner.state != NodeState::Failed
        })
}

/// The state machine that openraft drives.
pub struct Machine {
    state: State,
    applied: Option<LogId>,
    membership: Membership,
    store: Store,
    outlets: Outlets,
}

/// Who is told of a new map.
struct Outlets {
    sink: Arc<dyn Sink>,
    book: Arc<Book>,
    watch: watch::Sender<Applied>,
}

impl Outlets {
    fn install(&self, map: &Map) {
        let map = Arc::new(map.clone());
        for node in &map.nodes {
            self.book.learn(node.id, node.incarnation, &node.bus);
        }
        self.watch.send_modify(|seen| seen.map = map.clone());
        self.sink.install(map);
    }
}

impl Machine {
    /// From the last snapshot of the store.
    pub fn open(
        store: Store,
        sink: Arc<dyn Sink>,
        book: Arc<Book>,
    ) -> Result<(Machine, watch::Receiver<Applied>), String> {
        let (watch, seen) = watch::channel(Applied {
            index: 0,
            map: Arc::new(Map::new(Pins::default())),
        });
        let mut machine = Machine {
            state: State::new(),
            applied: None,
            membership: StoredMembership::default(),
            store,
            outlets: Outlets { sink, book, watch },
        };
        if let Some((meta, data)) = machine.store.snapshot() {
            machine
                .restore(&meta, &data)
                .map_err(|error| error.to_string())?;
        }
        Ok((machine, seen))
    }

    fn restore(&mut self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), postcard::Error> {
        self.state = read(data)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        if self.state.map.epoch > 0 {
            self.outlets.install(&self.state.map);
        }
        self.show();
        Ok(())
    }

    fn show(&self) {
        let index = self.applied.map_or(0, |id| id.index);
        self.outlets.watch.send_modify(|seen| seen.index = index);
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Outcome>>, StorageError>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            outcomes.push(match &entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(command) => {
                    let leader = &entry.log_id.leader_id;
                    let mut tell = |map: &Map| self.outlets.install(map);
                    self.state.apply(command, leader, &mut tell)
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                    Vec::new()
                }
            });
        }
        self.show();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.state.clone(),
            applied: self.applied,
            membership: self.membership.clone(),
            store: self.store.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let data = snapshot.into_inner();
        // What cannot be read must not be kept in place of what can.
        read(&data).map_err(|error| unreadable(meta, &error))?;
        self.store.set_snapshot(meta.clone(), data.clone()).await?;
        self.restore(meta, &data)
            .map_err(|error| unreadable(meta, &error))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let snapshot = self.store.snapshot();
        Ok(snapshot.map(|(meta, data)| as_snapshot(meta, data.to_vec())))
    }
}

/// The state of these bytes, if others can rely on it.
fn read(data: &[u8]) -> Result<State, postcard::Error> {
    let state: State = postcard::from_bytes(data)?;
    match state.map.is_sound() {
        true => Ok(state),
        false => Err(postcard::Error::SerdeDeCustom),
    }
}

/// What an operator wants to know of a change.
fn tell(change: &Change, before: Option<NodeState>) {
    match (change, before) {
        (Change::Join(node), None) => {
            tracing::info!(node = %node.id, bus = node.bus, "cluster: a node has joined");
        }
        (Change::Join(node), Some(NodeState::Failed)) => {
            tracing::info!(node = %node.id, bus = node.bus, "cluster: a node that had failed is back, empty");
        }
        (Change::Join(node), Some(_)) => {
            tracing::info!(node = %node.id, bus = node.bus, incarnation = node.incarnation, "cluster: a node has started again");
        }
        (Change::Leave(id), _) => tracing::info!(node = %id, "cluster: a node leaves"),
        (Change::Failed(id, _), _) => {
            tracing::warn!(node = %id, "cluster: a node has failed: its slots are the others', empty");
        }
        (Change::Forget(id), _) => tracing::info!(node = %id, "cluster: a node is forgotten"),
        (Change::Weight(id, weight), _) => {
            tracing::info!(node = %id, weight, "cluster: a node's share changes");
        }
        (Change::Moved { slots, from, to }, _) => {
            tracing::info!(slots = slots.len(), %from, %to, "cluster: slots have moved");
        }
    }
}

/// Whom a change is about.
fn subject(change: &Change) -> NodeId {
    match change {
        Change::Join(node) => node.id,
        Change::Leave(id)
        | Change::Failed(id, _)
        | Change::Forget(id)
        | Change::Weight(id, _)
        | Change::Moved { from: id, .. } => *id,
    }
}

fn unreadable(meta: &SnapshotMeta, error: &postcard::Error) -> StorageError {
    StorageIOError::read_snapshot(Some(meta.signature()), AnyError::new(error)).into()
}

/// Makes a snapshot of the state at one moment.
pub struct Builder {
    state: State,
    applied: Option<LogId>,
    membership: Membership,
    store: Store,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let index = self.applied.map_or(0, |id| id.index);
        let term = self.applied.map_or(0, |id| id.leader_id.term);
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{term}-{index}"),
        };
        let data = postcard::to_stdvec(&self.state)
            .map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)))?;
        self.store.set_snapshot(meta.clone(), data.clone()).await?;
        Ok(as_snapshot(meta, data))
    }
}

#[cfg(test)]
mod tests;
