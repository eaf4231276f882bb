//! What is kept comes back, and what is damaged does not.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, LogId as Id, RaftLogReader};

use super::super::disk::Memory;
use super::super::machine::Machine;
use super::super::network::Book;
use super::super::types::{Command, LeaderId};
use super::super::{Change, Map, Sink};
use super::*;

impl From<u64> for NodeId {
    fn from(number: u64) -> NodeId {
        let mut id = [0; 20];
        id[12..].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }
}

struct Deaf;

impl Sink for Deaf {
    fn install(&self, _map: Arc<Map>) {}
    fn renew_lease(&self, _until: tokio::time::Instant) {}
}

struct InMemory;

impl StoreBuilder<Types, Store, Machine> for InMemory {
    async fn build(&self) -> Result<((), Store, Machine), StorageError> {
        let store = Store::open(Place::Memory(Memory::default()), "test", 1).await;
        let store = store.expect("memory can be opened");
        let machine = Machine::open(store.clone(), Arc::new(Deaf), Arc::new(Book::default()));
        Ok(((), store, machine.expect("it is empty").0))
    }
}

/// A file that is gone when the test is.
struct TempFile(PathBuf);

impl TempFile {
    fn new() -> TempFile {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quoit-ring-{}-{number}.conf", std::process::id());
        TempFile(std::env::temp_dir().join(name))
    }

    fn place(&self) -> Place {
        Place::File(self.0.clone())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

struct InFiles;

impl StoreBuilder<Types, Store, Machine, TempFile> for InFiles {
    async fn build(&self) -> Result<(TempFile, Store, Machine), StorageError> {
        let file = TempFile::new();
        let store = Store::open(file.place(), "test", 1).await;
        let store = store.expect("the file can be opened");
        let machine = Machine::open(store.clone(), Arc::new(Deaf), Arc::new(Book::default()));
        Ok((file, store, machine.expect("it is empty").0))
    }
}

#[test]
fn openraft_finds_no_fault_with_it() {
    Suite::test_all(InMemory).expect("in memory");
    Suite::test_all(InFiles).expect("in files");
}

fn id(index: u64) -> LogId {
    Id {
        leader_id: LeaderId::new(1, 7.into()),
        index,
    }
}

fn entry(index: u64) -> Entry<Types> {
    Entry {
        log_id: id(index),
        payload: EntryPayload::Normal(Command::Barrier),
    }
}

/// What openraft does: entries are on disk when this returns.
async fn append(store: &Store, indexes: std::ops::Range<u64>) {
    let entries = indexes.map(entry).collect();
    store
        .write(Record::Entries(entries))
        .await
        .expect("it is written");
}

async fn indexes(store: &mut Store) -> Vec<u64> {
    let entries = store.try_get_log_entries(..).await.expect("they are read");
    entries.iter().map(|entry| entry.log_id.index).collect()
}

async fn reopen(memory: &Memory) -> Result<Store, StoreError> {
    Store::open(Place::Memory(memory.clone()), "test", 99).await
}

#[tokio::test]
async fn all_of_it_comes_back_from_a_file() {
    let file = TempFile::new();
    let mut store = Store::open(file.place(), "test", 5)
        .await
        .expect("it opens");
    let name = store.id();
    assert_eq!(store.identity().incarnation, 1);
    let ballot = Ballot {
        voted: Some((9.into(), 3)),
        round: 4,
    };
    store.set_ballot(ballot).await.expect("it is written");
    store
        .save_vote(&Vote::new(3, 7.into()))
        .await
        .expect("it is written");
    append(&store, 0..10).await;
    store.truncate(id(8)).await.expect("it is cut");
    store.purge(id(2)).await.expect("it is purged");
    append(&store, 8..9).await;
    let meta = SnapshotMeta {
        last_log_id: Some(id(2)),
        snapshot_id: "1-2".to_owned(),
        ..SnapshotMeta::default()
    };
    store
        .set_snapshot(meta.clone(), vec![1, 2, 3])
        .await
        .expect("it is kept");
    append(&store, 9..11).await;
    store
        .save_committed(Some(id(4)))
        .await
        .expect("it is noted");
    let again = Store::open(file.place(), "test", 5).await;
    assert!(matches!(again, Err(StoreError::Locked)), "one at a time");
    store.close().await;
    assert!(store.set_ballot(ballot).await.is_err(), "it is closed");
    let mut store = Store::open(file.place(), "test", 6)
        .await
        .expect("it opens");
    assert_eq!(store.id(), name);
    assert_eq!(store.identity().incarnation, 2);
    assert_eq!(store.ballot(), ballot);
    assert_eq!(
        store.read_vote().await.expect("it is read"),
        Some(Vote::new(3, 7.into()))
    );
    assert_eq!(indexes(&mut store).await, [3, 4, 5, 6, 7, 8, 9, 10]);
    let state = store.get_log_state().await.expect("it is read");
    assert_eq!(state.last_purged_log_id, Some(id(2)));
    assert_eq!(state.last_log_id, Some(id(10)));
    assert_eq!(
        store.read_committed().await.expect("it is read"),
        Some(id(4))
    );
    assert_eq!(store.snapshot(), Some((meta, Arc::new(vec![1, 2, 3]))));
    store.close().await;
}

#[tokio::test]
async fn a_name_is_drawn_from_the_seed() {
    let open = |seed| Store::open(Place::Memory(Memory::default()), "test", seed);
    let first = open(1).await.expect("it opens").id();
    assert_eq!(open(1).await.expect("it opens").id(), first);
    assert_ne!(open(2).await.expect("it opens").id(), first);
}

#[tokio::test]
async fn what_a_crash_cut_is_gone_and_all_before_it_is_there() {
    let memory = Memory::default();
    let store = reopen(&memory).await.expect("it opens");
    append(&store, 0..3).await;
    let before = memory.bytes();
    append(&store, 3..6).await;
    let whole = memory.bytes();
    for length in before.len()..whole.len() {
        memory.set(whole[..length].to_vec());
        let mut store = reopen(&memory).await.expect("it opens");
        assert_eq!(indexes(&mut store).await, [0, 1, 2], "{length}");
        // And it goes on from there.
        append(&store, 3..4).await;
        let mut store = reopen(&memory).await.expect("it opens");
        assert_eq!(indexes(&mut store).await, [0, 1, 2, 3]);
    }
    // A disk may also have kept the length, not the bytes.
    let mut zeros = whole.clone();
    zeros[before.len()..].fill(0);
    memory.set(zeros);
    let mut store = reopen(&memory).await.expect("it opens");
    assert_eq!(indexes(&mut store).await, [0, 1, 2]);
}

#[tokio::test]
async fn damage_before_the_end_is_refused() {
    let memory = Memory::default();
    let store = reopen(&memory).await.expect("it opens");
    append(&store, 0..3).await;
    append(&store, 3..6).await;
    let whole = memory.bytes();
    let last = whole.len() - (FRAME_HEAD + 1);
    let mut refused = 0;
    for at in 0..last {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        memory.set(bytes.clone());
        match reopen(&memory).await {
            Err(StoreError::Foreign) => assert!(at < HEAD.len()),
            Err(StoreError::Damaged(_)) => refused += 1,
            Err(error) => panic!("{at}: {error}"),
            // Only what is in the last frame may be taken for a write that was cut.
            Ok(mut store) => assert_eq!(indexes(&mut store).await, [0, 1, 2], "{at}"),
        }
        let is_kept = memory.bytes() == bytes;
        assert!(
            is_kept || at > whole.len() / 2,
            "a refused file is left as it was: {at}"
        );
    }
    assert!(refused > last / 2, "{refused} of {last}");
}

#[tokio::test]
async fn files_of_others_are_refused() {
    let memory = Memory::default();
    for foreign in [
        &b"vars currentEpoch 0 lastVoteEpoch 0\n"[..],
        b"QUOIT",
        b"\0",
    ] {
        memory.set(foreign.to_vec());
        assert!(matches!(reopen(&memory).await, Err(StoreError::Foreign)));
        assert_eq!(memory.bytes(), foreign);
    }
    memory.set(HEAD.to_vec());
    assert!(matches!(reopen(&memory).await, Err(StoreError::Damaged(_))));
    memory.set(Vec::new());
    reopen(&memory).await.expect("it opens");
    let other = Store::open(Place::Memory(memory), "other", 1).await;
    match other {
        Err(StoreError::OtherRing(name)) => assert_eq!(name, "test"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_file_is_bounded_without_snapshots() {
    // Aim: a node that votes again and again for years.
    let memory = Memory::default();
    let mut store = reopen(&memory).await.expect("it opens");
    let change = Change::Moved {
        slots: (0..16384).collect(),
        from: 1.into(),
        to: 2.into(),
    };
    let origin = super::super::types::Origin {
        node: 1.into(),
        incarnation: 1,
        number: 1,
        floor: 1,
    };
    let asked = super::super::types::Asked {
        origin,
        change,
        finder: None,
    };
    for round in 0..500 {
        let entry = Entry {
            log_id: id(0),
            payload: EntryPayload::Normal(Command::Changes(vec![asked.clone()])),
        };
        store
            .write(Record::Entries(vec![entry]))
            .await
            .expect("it is written");
        store
            .save_vote(&Vote::new(round, 7.into()))
            .await
            .expect("it is written");
        assert!(
            memory.bytes().len() <= STALE_BYTES + (1 << 17),
            "{}",
            memory.bytes().len()
        );
    }
    assert_eq!(indexes(&mut store).await, [0]);
}
