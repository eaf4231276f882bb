//! What a node keeps over its restarts: its name, its votes, the log and the last snapshot, in one file.
//!
//! ```text
//!     QUOIT RING 2\n
//!     frame: mark u32 | length u32 | CRC-64 of what follows u64 | records (postcard)
//!     frame ...
//! ```
//!
//! A frame is what one write appended. Before a vote or an entry is acknowledged its frame is on disk, so only the last frame
//! can be incomplete after a crash, and nobody was told of what is in it: it is cut off. A bad frame with a good one behind it is
//! damage, and the file is refused: going on without what it held might elect two leaders.
//!
//! A snapshot, or too much of what is out of date, replaces the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Debug;
use std::io::{self, Cursor};
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{Entry, ErrorSubject, ErrorVerb, OptionalSend, RaftLogId, RaftLogReader, Snapshot};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::disk::{Disk, Place};
use super::types::{LogId, SnapshotMeta, StorageError, Types, Vote};
use crate::cluster::node::NodeId;

/// What the file begins with.
const HEAD: &[u8] = b"QUOIT RING 2\n";
/// What a frame begins with.
const MARK: [u8; 4] = [0xf1, 0x4a, 0x93, 0x0d];
/// Bytes of a frame before its records.
const FRAME_HEAD: usize = 16;
/// So many bytes beyond those of the last replacement, and the file is replaced by what is still of use.
const STALE_BYTES: usize = 8 << 20;

const CRC: crc::Crc<u64> = crc::Crc::<u64>::new(&crc::CRC_64_XZ);

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name of the ring that it belongs to.
    pub ring: String,
    /// Its own name.
    pub id: NodeId,
    /// Counts its starts, and its returns after it had failed.
    pub incarnation: u64,
    /// Whether the ring has once known it.
    pub joined: bool,
    /// Whether it has left the ring: when it starts again it is a new node.
    pub left: bool,
    /// Whether it has begun to leave, and may have been removed since.
    pub leaves: bool,
}

/// What it promised while the ring forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The candidate that has this node's vote, and that candidate's round.
    pub voted: Option<(NodeId, u64)>,
    /// The round of its own candidature: votes of earlier ones do not count.
    pub round: u64,
}

/// One thing that a write changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Record {
    Identity(Identity),
    Ballot(Ballot),
    Vote(Vote),
    Entries(Vec<Entry<Types>>),
    /// All from this index are gone.
    Truncate(u64),
    /// All up to this one are gone.
    Purge(LogId),
    Committed(LogId),
    Snapshot(SnapshotMeta, Vec<u8>),
    /// Where the buses of the others were when it left the ring.
    Former(Vec<String>),
}

/// What the file says.
#[derive(Debug, Default)]
struct Kept {
    identity: Option<Identity>,
    ballot: Ballot,
    former: Vec<String>,
    vote: Option<Vote>,
    log: BTreeMap<u64, Entry<Types>>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    snapshot: Option<(SnapshotMeta, Arc<Vec<u8>>)>,
}

impl Kept {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Identity(identity) => self.identity = Some(identity),
            Record::Ballot(ballot) => self.ballot = ballot,
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Entries(entries) => {
                let entries = entries
                    .into_iter()
                    .map(|entry| (entry.get_log_id().index, entry));
                self.log.extend(entries);
            }
            Record::Truncate(from) => drop(self.log.split_off(&from)),
            Record::Purge(upto) => {
                self.log = self.log.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(upto));
            }
            Record::Committed(id) => self.committed = Some(id),
            Record::Snapshot(meta, data) => self.snapshot = Some((meta, Arc::new(data))),
            Record::Former(addresses) => self.former = addresses,
        }
    }

    /// The records that lead to this state.
    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        records.extend(self.identity.clone().map(Record::Identity));
        records.push(Record::Ballot(self.ballot));
        if !self.former.is_empty() {
            records.push(Record::Former(self.former.clone()));
        }
        records.extend(self.vote.map(Record::Vote));
        let snapshot = self.snapshot.clone();
        records.extend(snapshot.map(|(meta, data)| Record::Snapshot(meta, data.to_vec())));
        records.extend(self.purged.map(Record::Purge));
        records.push(Record::Entries(self.log.values().cloned().collect()));
        records.extend(self.committed.map(Record::Committed));
        records
    }
}

/// Why what is kept cannot be used.
#[derive(Debug)]
pub enum StoreError {
    /// It cannot be read or written.
    Io(io::Error),
    /// Another process has it open.
    Locked,
    /// It is no file of ours.
    Foreign,
    /// A part of it is not what was written; the offset of that part.
    Damaged(usize),
    /// It belongs to the ring of this name.
    OtherRing(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Io(error) => write!(f, "{error}"),
            StoreError::Locked => f.write_str("another process has it open"),
            StoreError::Foreign => f.write_str("it was not written by this server"),
            StoreError::Damaged(at) => write!(
                f,
                "it is damaged at byte {at}; put a good copy in its place, or remove it: the node then joins as a new one"
            ),
            StoreError::OtherRing(name) => write!(
                f,
                "it belongs to the ring \"{name}\"; name that ring, or remove the file: the node then joins as a new one"
            ),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked,
            _ => StoreError::Io(error),
        }
    }
}

/// The open file and what it says. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    writer: Arc<tokio::sync::Mutex<Writer>>,
}

#[derive(Debug)]
struct Writer {
    disk: Disk,
    /// Bytes appended since the file was replaced.
    appended: usize,
    /// What may be lost in a crash: goes with the next frame, so that every frame is one that somebody waited for.
    waiting: Vec<Record>,
}

impl Store {
    /// Opens what a node of the ring of this name keeps there. If there is nothing, the node is new and gets a name by chance
    /// from `seed`; else this is a new incarnation of it.
    pub async fn open(place: Place, ring: &str, seed: u64) -> Result<Store, StoreError> {
        let ring = ring.to_owned();
        if matches!(place, Place::Memory(_)) {
            return Store::open_now(place, ring, seed);
        }
        let opened = tokio::task::spawn_blocking(move || Store::open_now(place, ring, seed));
        opened
            .await
            .unwrap_or_else(|error| Err(StoreError::Io(io::Error::other(error))))
    }

    fn open_now(place: Place, ring: String, seed: u64) -> Result<Store, StoreError> {
        let (disk, bytes) = Disk::open(place)?;
        let mut kept = load(&bytes)?;
        if kept
            .identity
            .as_ref()
            .is_some_and(|known| known.left && known.ring == ring)
        {
            // What it promised while that ring formed still holds: the ring may go on without it, and where it was the node may
            // find it again.
            kept = Kept {
                ballot: kept.ballot,
                former: kept.former,
                ..Kept::default()
            };
        }
        let identity = match kept.identity.take() {
            Some(identity) if identity.ring != ring => {
                return Err(StoreError::OtherRing(identity.ring));
            }
            Some(identity) => Identity {
                incarnation: identity.incarnation + 1,
                ..identity
            },
            None => {
                let mut chance = fastrand::Rng::with_seed(seed);
                Identity {
                    ring,
                    id: NodeId(std::array::from_fn(|_| chance.u8(..))),
                    incarnation: 1,
                    joined: false,
                    left: false,
                    leaves: false,
                }
            }
        };
        kept.identity = Some(identity);
        let mut writer = Writer {
            disk,
            appended: 0,
            waiting: Vec::new(),
        };
        writer.replace(&kept)?;
        Ok(Store {
            shared: Arc::new(Shared {
                kept: Mutex::new(kept),
                writer: Arc::new(tokio::sync::Mutex::new(writer)),
            }),
        })
    }

    /// This node's name.
    pub fn id(&self) -> NodeId {
        self.identity().id
    }

    /// Who this node is.
    pub fn identity(&self) -> Identity {
        let kept = self.shared.kept.lock();
        kept.identity.clone().expect("set when it was opened")
    }

    /// Keeps a change of who this node is. Changes are made one after the other: none undoes another.
    pub async fn change_identity(
        &self,
        change: impl FnOnce(&mut Identity) + Send + 'static,
    ) -> io::Result<()> {
        self.work(move |writer, kept| {
            let before = kept.lock().identity.clone();
            let mut identity = before.clone().expect("set when it was opened");
            change(&mut identity);
            if Some(&identity) == before.as_ref() {
                return Ok(());
            }
            let record = Record::Identity(identity);
            writer.append(Some(record.clone()))?;
            let mut kept = kept.lock();
            kept.apply(record);
            writer.shrink(&kept)
        })
        .await
    }

    /// What it promised while the ring forms.
    pub fn ballot(&self) -> Ballot {
        self.shared.kept.lock().ballot
    }

    /// Where the buses of the others were when this node left the ring; nothing if it never did.
    pub fn former(&self) -> Vec<String> {
        self.shared.kept.lock().former.clone()
    }

    /// Keeps where they are, before it is kept that this node has left.
    pub async fn set_former(&self, addresses: Vec<String>) -> io::Result<()> {
        self.write(Record::Former(addresses)).await
    }

    /// Keeps what it promises.
    pub async fn set_ballot(&self, ballot: Ballot) -> io::Result<()> {
        self.write(Record::Ballot(ballot)).await
    }

    /// The last snapshot.
    pub fn snapshot(&self) -> Option<(SnapshotMeta, Arc<Vec<u8>>)> {
        self.shared.kept.lock().snapshot.clone()
    }

    /// Keeps a snapshot in place of the one before, unless it is older.
    pub async fn set_snapshot(
        &self,
        meta: SnapshotMeta,
        data: Vec<u8>,
    ) -> Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        self.work(move |writer, kept| {
            let mut kept = kept.lock();
            let newest = kept.snapshot.as_ref().map(|(meta, _)| meta.last_log_id);
            if newest.is_some_and(|newest| newest > meta.last_log_id) {
                return Ok(());
            }
            kept.apply(Record::Snapshot(meta, data));
            writer.replace(&kept)
        })
        .await
        .map_err(|error| StorageError::from_io_error(subject, ErrorVerb::Write, error))
    }

    /// Ends writing and lets others open the file.
    pub async fn close(&self) {
        let closed = self.work(|writer, _| {
            let written = match writer.waiting.is_empty() {
                true => Ok(()),
                false => writer.append(None),
            };
            writer.disk.close();
            written
        });
        if let Err(error) = closed.await {
            tracing::debug!(%error, "cluster: the state file was closed without its last part");
        }
    }

    /// Writes one record. It is on disk when this returns, and not seen here before.
    async fn write(&self, record: Record) -> io::Result<()> {
        self.work(move |writer, kept| {
            writer.append(Some(record.clone()))?;
            let mut kept = kept.lock();
            kept.apply(record);
            writer.shrink(&kept)
        })
        .await
    }

    /// Has one record written together with the next one.
    async fn write_later(&self, record: Record) -> io::Result<()> {
        let mut writer = self.shared.writer.clone().lock_owned().await;
        self.shared.kept.lock().apply(record.clone());
        // Only the last of its kind says something.
        writer
            .waiting
            .retain(|other| std::mem::discriminant(other) != std::mem::discriminant(&record));
        writer.waiting.push(record);
        Ok(())
    }

    /// Runs one write at a time, all of it even if nobody waits for it any more.
    async fn work(
        &self,
        work: impl FnOnce(&mut Writer, &Mutex<Kept>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let mut writer = self.shared.writer.clone().lock_owned().await;
        if !writer.disk.is_slow() {
            return work(&mut writer, &self.shared.kept);
        }
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut writer, &shared.kept));
        done.await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl Writer {
    fn append(&mut self, record: Option<Record>) -> io::Result<()> {
        let records: Vec<Record> = self.waiting.drain(..).chain(record).collect();
        let frame = frame(&records)?;
        self.appended += frame.len();
        self.disk.append(&frame)
    }

    fn replace(&mut self, kept: &Kept) -> io::Result<()> {
        let mut bytes = HEAD.to_vec();
        bytes.extend(frame(&kept.records())?);
        self.appended = 0;
        self.waiting.clear();
        self.disk.replace(&bytes)
    }

    fn shrink(&mut self, kept: &Kept) -> io::Result<()> {
        if self.appended > STALE_BYTES {
            self.replace(kept)
        } else {
            Ok(())
        }
    }
}

fn frame(records: &[Record]) -> io::Result<Vec<u8>> {
    let payload = postcard::to_stdvec(records).map_err(io::Error::other)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(FRAME_HEAD + payload.len());
    frame.extend_from_slice(&MARK);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&CRC.checksum(&payload).to_le_bytes());
    frame.extend_from_slice(&payload);
    Ok(frame)
}

/// The records of the frame that begins here, and what is behind it. None if there is no good one.
fn read_frame(bytes: &[u8]) -> Option<(Vec<Record>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(FRAME_HEAD)?;
    if head[..4] != MARK {
        return None;
    }
    let length = u32::from_le_bytes(head[4..8].try_into().ok()?);
    let checksum = u64::from_le_bytes(head[8..].try_into().ok()?);
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    if CRC.checksum(payload) != checksum {
        return None;
    }
    Some((postcard::from_bytes(payload).ok()?, rest))
}

fn load(bytes: &[u8]) -> Result<Kept, StoreError> {
    let mut kept = Kept::default();
    if bytes.is_empty() {
        return Ok(kept);
    }
    let mut rest = bytes.strip_prefix(HEAD).ok_or(StoreError::Foreign)?;
    while !rest.is_empty() {
        match read_frame(rest) {
            Some((records, behind)) => {
                records.into_iter().for_each(|record| kept.apply(record));
                rest = behind;
            }
            None => {
                // The first frame was written as a whole with the file; any other may be the last, cut short by a crash.
                let is_first = kept.identity.is_none();
                if is_first || (1..rest.len()).any(|at| read_frame(&rest[at..]).is_some()) {
                    return Err(StoreError::Damaged(bytes.len() - rest.len()));
                }
                let bytes = rest.len();
                tracing::warn!(
                    bytes,
                    "cluster: the end of the state file was not written completely: cut off"
                );
                break;
            }
        }
    }
    if kept.identity.is_none() {
        return Err(StoreError::Damaged(HEAD.len()));
    }
    Ok(kept)
}

fn logs_error(verb: ErrorVerb) -> impl Fn(io::Error) -> StorageError {
    move |error| StorageError::from_io_error(ErrorSubject::Logs, verb, error)
}

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError> {
        let kept = self.shared.kept.lock();
        Ok(kept
            .log
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect())
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Store;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let kept = self.shared.kept.lock();
        let last = kept
            .log
            .values()
            .next_back()
            .map(|entry| *entry.get_log_id());
        Ok(LogState {
            last_purged_log_id: kept.purged,
            last_log_id: last.or(kept.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Store {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let written = self.write(Record::Vote(*vote)).await;
        written.map_err(|error| {
            StorageError::from_io_error(ErrorSubject::Vote, ErrorVerb::Write, error)
        })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.shared.kept.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        // Lost in a crash, it is learnt again from the leader: not worth waiting for the disk.
        match committed {
            Some(id) => self
                .write_later(Record::Committed(id))
                .await
                .map_err(logs_error(ErrorVerb::Write)),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.shared.kept.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry<Types>> = entries.into_iter().collect();
        match self.write(Record::Entries(entries)).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let text = error.to_string();
                callback.log_io_completed(Err(error));
                Err(logs_error(ErrorVerb::Write)(io::Error::other(text)))
            }
        }
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), StorageError> {
        let written = self.write(Record::Truncate(id.index)).await;
        written.map_err(logs_error(ErrorVerb::Delete))
    }

    async fn purge(&mut self, id: LogId) -> Result<(), StorageError> {
        // Entries that a crash brings back are in the snapshot too.
        let written = self.write_later(Record::Purge(id)).await;
        written.map_err(logs_error(ErrorVerb::Delete))
    }
}

/// A snapshot as openraft wants it.
pub fn as_snapshot(meta: SnapshotMeta, data: Vec<u8>) -> Snapshot<Types> {
    Snapshot {
        meta,
        snapshot: Box::new(Cursor::new(data)),
    }
}

#[cfg(test)]
mod tests;
