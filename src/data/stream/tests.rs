//! Streams against a naive model, and what Redis does with the same requests.

use super::*;
use crate::data::testing;

const LIMITS: Limits = Limits {
    max_bytes: 4096,
    max_entries: 100,
};

type Content = Vec<(Id, Vec<(Vec<u8>, Vec<u8>)>)>;

fn add(stream: &mut Stream, id: Id, fields: &[(Vec<u8>, Vec<u8>)], limits: Limits) -> bool {
    let fields = fields.iter().map(|(name, value)| (&name[..], &value[..]));
    let text = text_bytes(fields.clone()).expect("it is small");
    stream.append(id, fields, text, limits)
}

fn content<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Content {
    let fields = |entry: &Entry<'_>| {
        let fields = entry.fields();
        fields
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect::<Vec<_>>()
    };
    entries
        .inspect(|entry| assert_eq!(entry.fields().count(), entry.len()))
        .map(|entry| (entry.id, fields(&entry)))
        .collect()
}

/// A stream of ids 1-0, 2-0 and so on.
fn numbered(count: u64, limits: Limits) -> Stream {
    let mut stream = Stream::new();
    for ms in 1..=count {
        let field = (b"f".to_vec(), ms.to_string().into_bytes());
        assert!(add(&mut stream, Id::new(ms, 0), &[field], limits));
    }
    stream
}

fn trim(stream: &mut Stream, bound: Bound, approximate: bool, limit: u64) -> u64 {
    let trim = Trim {
        bound,
        approximate,
        limit,
        references: References::Keep,
    };
    stream.trim(trim, &mut Remains::default())
}

#[test]
fn it_is_a_sequence_of_entries() {
    let mut rng = testing::seeded();
    for _ in 0..testing::rounds(40) {
        let limits = Limits {
            max_bytes: [0, 100, 1_000, 4_096][rng.usize(..4)],
            max_entries: [0, 1, 5, 100][rng.usize(..4)],
        };
        let (mut stream, mut model) = (Stream::new(), Content::new());
        let mut deleted = Id::ZERO;
        let mut added = 0;
        let mut snapshot: Option<(Stream, Content)> = None;
        for step in 0..1_500 {
            let span = model
                .first()
                .map_or(1, |first| stream.last_id().ms - first.0.ms + 2);
            let base = model.first().map_or(0, |first| first.0.ms);
            let any = Id::new(base + rng.u64(..span), rng.u64(..3));
            match rng.u8(..12) {
                0..=6 => {
                    let ms = stream.last_id().ms + [0, 0, 1, 300][rng.usize(..4)];
                    let id = Id::new(ms, rng.u64(..4) * rng.u64(..200));
                    let names = [&["a"][..], &["a", "7"], &["b", "a"], &["a", "7", "c"]];
                    let fields: Vec<_> = names[rng.usize(..4)]
                        .iter()
                        .map(|name| (name.as_bytes().to_vec(), testing::text(&mut rng, 300)))
                        .collect();
                    let is_above = id > stream.last_id();
                    assert_eq!(add(&mut stream, id, &fields, limits), is_above);
                    if is_above {
                        added += 1;
                        model.push((id, fields));
                    }
                }
                7 | 8 => {
                    let at = rng.usize(..model.len().max(1));
                    let id = model
                        .get(at)
                        .filter(|_| rng.bool())
                        .map_or(any, |entry| entry.0);
                    let at = model.iter().position(|entry| entry.0 == id);
                    assert_eq!(stream.delete(id), at.is_some());
                    if let Some(at) = at {
                        model.remove(at);
                        deleted = deleted.max(id);
                    }
                }
                9 if rng.u8(..4) == 0 => {
                    let most = rng.usize(..model.len().max(1));
                    let gone = model.len().saturating_sub(most);
                    let trimmed = trim(&mut stream, Bound::MaxLen(most as u64), false, 0);
                    assert_eq!(trimmed, gone as u64);
                    model.drain(..gone);
                }
                9 if rng.u8(..8) == 0 => {
                    let gone = model.partition_point(|entry| entry.0 < any);
                    assert_eq!(trim(&mut stream, Bound::MinId(any), false, 0), gone as u64);
                    model.drain(..gone);
                }
                10 => {
                    let most = rng.u64(..40);
                    let limit = rng.u64(..30);
                    let bound = [Bound::MaxLen(most), Bound::MinId(any)][rng.usize(..2)];
                    let gone = trim(&mut stream, bound, true, limit) as usize;
                    assert!(limit == 0 || gone as u64 <= limit);
                    match bound {
                        Bound::MaxLen(most) => {
                            assert!(gone == 0 || model.len() - gone >= most as usize)
                        }
                        Bound::MinId(least) => {
                            assert!(model[..gone].iter().all(|entry| entry.0 < least));
                        }
                    }
                    model.drain(..gone);
                }
                _ => {
                    let (start, end) = (any, Id::new(any.ms + rng.u64(..50), rng.u64(..3)));
                    let mut wanted = model.clone();
                    wanted.retain(|entry| (start..=end).contains(&entry.0));
                    assert_eq!(content(stream.range(start, end)), wanted);
                    wanted.reverse();
                    assert_eq!(content(stream.range_back(start, end)), wanted);
                }
            }
            assert_eq!(stream.len(), model.len() as u64);
            let first = model.first().map_or(Id::ZERO, |entry| entry.0);
            assert_eq!(stream.first_id(), first);
            assert_eq!(
                (stream.max_deleted_id(), stream.entries_added()),
                (deleted, added)
            );
            assert_eq!(
                stream.contains(any),
                model.iter().any(|entry| entry.0 == any)
            );
            if step % 50 == 0 {
                assert_eq!(content(stream.range(Id::ZERO, Id::MAX)), model);
                assert_eq!(
                    stream.blocks.allocated_bytes(),
                    stream.blocks.counted_bytes()
                );
                if let Some((kept, content_then)) = snapshot.take() {
                    assert_eq!(content(kept.range(Id::ZERO, Id::MAX)), content_then);
                }
                let clone = stream.clone();
                assert_eq!(clone.blocks.allocated_bytes(), clone.blocks.counted_bytes());
                snapshot = Some((clone, model.clone()));
            }
        }
    }
}

#[test]
fn approximate_trimming_removes_whole_blocks() {
    let mut stream = numbered(250, LIMITS);
    assert_eq!(stream.block_count(), 3);
    assert_eq!(trim(&mut stream, Bound::MaxLen(151), true, 0), 0);
    assert_eq!(trim(&mut stream, Bound::MaxLen(150), true, 0), 100);
    assert_eq!(trim(&mut stream, Bound::MinId(Id::new(200, 0)), true, 0), 0);
    assert_eq!(
        trim(&mut stream, Bound::MinId(Id::new(201, 0)), true, 99),
        0
    );
    assert_eq!(
        trim(&mut stream, Bound::MinId(Id::new(201, 0)), true, 100),
        100
    );
    assert_eq!((stream.block_count(), stream.len()), (1, 50));
    assert_eq!(stream.first_id(), Id::new(201, 0));
}

#[test]
fn the_work_of_a_range_is_estimated() {
    let stream = numbered(100_000, LIMITS);
    let about = |start, end| stream.about_between(Id::new(start, 0), Id::new(end, 0));
    assert_eq!(about(0, 200_000), 100_000);
    assert!((1..=101).contains(&about(99_950, 200_000)));
    assert!((1..=202).contains(&about(50_010, 50_020)));
    assert!((20_000..=26_700).contains(&about(50_000, 70_000)));
    assert_eq!(Stream::new().about_between(Id::ZERO, Id::MAX), 0);
}

#[test]
fn many_blocks_that_were_trimmed_are_left_to_remains() {
    let mut stream = numbered(20_000, LIMITS);
    let mut remains = Remains::default();
    let all = Trim {
        bound: Bound::MaxLen(0),
        approximate: false,
        limit: 0,
        references: References::Keep,
    };
    assert_eq!(stream.trim(all, &mut remains), 20_000);
    assert_eq!(remains.len(), 128);
    assert_eq!((stream.block_count(), stream.first_id()), (0, Id::ZERO));
    assert_eq!(stream.last_id(), Id::new(20_000, 0));
    assert!(
        stream.allocated_bytes() < 300,
        "{}",
        stream.allocated_bytes()
    );
}

#[test]
fn a_block_can_be_left_without_entries_as_in_redis() {
    let mut stream = numbered(3, LIMITS);
    assert!(stream.delete(Id::new(3, 0)));
    assert_eq!(trim(&mut stream, Bound::MinId(Id::new(3, 0)), false, 0), 2);
    assert_eq!((stream.len(), stream.block_count()), (0, 1));
    assert!(stream.range_back(Id::ZERO, Id::MAX).next().is_none());
    let field = (b"f".to_vec(), b"v".to_vec());
    assert!(add(&mut stream, Id::new(4, 0), &[field], LIMITS));
    assert_eq!((stream.len(), stream.block_count()), (1, 1));
}

#[test]
fn acknowledged_entries_alone_are_trimmed() {
    let trim = |stream: &mut Stream, bound, approximate, references| {
        let trim = Trim {
            bound,
            approximate,
            limit: 0,
            references,
        };
        stream.trim(trim, &mut Remains::default())
    };
    let limits = Limits {
        max_entries: 4,
        ..LIMITS
    };
    let mut stream = numbered(20, limits);
    assert!(stream.create_group(b"g", Id::new(10, 0), None));
    stream.edit_group(b"g", |group| {
        let consumer = group.add_consumer(b"c", 1);
        for ms in [2, 3, 7] {
            group.assign(Pending {
                id: Id::new(ms, 0),
                delivered_at: 1,
                count: 1,
                consumer,
            });
        }
    });
    let bytes = stream.allocated_bytes();
    assert_eq!(
        trim(&mut stream, Bound::MaxLen(5), true, References::Acked),
        7
    );
    assert_eq!(
        trim(&mut stream, Bound::MaxLen(5), false, References::Acked),
        0
    );
    let left: Vec<u64> = stream
        .range(Id::ZERO, Id::MAX)
        .map(|entry| entry.id.ms)
        .collect();
    assert_eq!(left, [2, 3, 7, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    assert_eq!(
        trim(
            &mut stream,
            Bound::MinId(Id::new(7, 0)),
            false,
            References::Delete
        ),
        2
    );
    assert_eq!(stream.group(b"g").expect("it is there").pending().len(), 1);
    assert_eq!(
        stream.delete_referenced(Id::new(7, 0), References::Acked),
        Some(false)
    );
    assert_eq!(
        stream.delete_referenced(Id::new(7, 0), References::Delete),
        Some(true)
    );
    assert_eq!(
        stream.delete_referenced(Id::new(7, 0), References::Delete),
        None
    );
    assert_eq!(
        stream.delete_referenced(Id::new(11, 0), References::Acked),
        Some(false)
    );
    assert!(
        stream
            .group(b"g")
            .expect("it is there")
            .pending()
            .is_empty()
    );
    assert!(stream.allocated_bytes() < bytes);
}

/// The figures are those of redis-server 7.0.15 for `XADD k <id> f v` with one entry a node.
#[test]
fn nodes_of_the_radix_tree_are_counted() {
    let count = |ids: &[(u64, u64)]| radix_nodes(ids.iter().map(|&(ms, seq)| Id::new(ms, seq)));
    assert_eq!(count(&[]), 1);
    assert_eq!(count(&[(1, 0)]), 2);
    assert_eq!(count(&[(1, 0), (1, 1)]), 4);
    assert_eq!(count(&[(1, 0), (2, 0)]), 6);
    assert_eq!(count(&[(1, 0), (1, 1), (2, 0)]), 8);
    assert_eq!(count(&[(1, 0), (256, 0)]), 6);
    assert_eq!(count(&[(1, 0), (1, 1), (1, 256), (1 << 60, 0)]), 10);
}

#[test]
fn groups_hold_what_is_pending() {
    let mut rng = testing::seeded();
    let mut stream = Stream::new();
    assert!(stream.create_group(b"g", Id::ZERO, Some(0)));
    assert!(!stream.create_group(b"g", Id::MAX, None));
    let mut model: BTreeMap<Id, (Vec<u8>, u64)> = BTreeMap::new();
    let mut names: Vec<Vec<u8>> = Vec::new();
    for step in 0..testing::rounds(4_000) {
        let id = Id::new(rng.u64(..200), 0);
        let name = format!("consumer {}", rng.u8(..8)).into_bytes();
        let known = names.contains(&name);
        let kind = rng.u8(..20);
        stream.edit_group(b"g", |group| match kind {
            0 => {
                let held = model.values().filter(|held| held.0 == name).count();
                assert_eq!(group.remove_consumer(&name), known.then_some(held));
                model.retain(|_, held| held.0 != name);
                names.retain(|other| *other != name);
            }
            1..8 => {
                assert_eq!(group.acknowledge(id), model.remove(&id).is_some());
            }
            _ => {
                let consumer = group.find(&name);
                assert_eq!(consumer.is_some(), known);
                let consumer = consumer.unwrap_or_else(|| group.add_consumer(&name, 1));
                if !known {
                    names.push(name.clone());
                }
                group.assign(Pending {
                    id,
                    delivered_at: 5,
                    count: step as u64,
                    consumer,
                });
                model.insert(id, (name, step as u64));
            }
        });
        let group = stream.group(b"g").expect("it is there");
        assert_eq!(
            (group.pending().len(), group.consumer_count()),
            (model.len(), names.len())
        );
        if step % 50 == 0 {
            let pending = group.pending().iter();
            let pending = pending.map(|pending| {
                let name = group.consumer(pending.consumer).name().to_vec();
                (pending.id, (name, pending.count))
            });
            assert_eq!(pending.collect::<BTreeMap<_, _>>(), model);
            names.sort();
            assert!(group.consumers().map(Consumer::name).eq(names.iter()));
            for consumer in group.consumers() {
                let wanted = model.iter().filter(|(_, held)| held.0 == consumer.name());
                assert!(consumer.pending().iter().eq(wanted.map(|(id, _)| id)));
            }
        }
    }
    let mut remains = Remains::default();
    assert!(stream.destroy_group(b"g", &mut remains));
    assert_eq!(stream.groups_bytes, 0);
    assert_eq!(stream.group_count(), 0);
}

#[test]
fn entries_take_few_bytes() {
    let mut stream = Stream::new();
    for ms in 0..100_000_u64 {
        let id = Id::new(1_700_000_000_000 + ms / 3, ms % 3);
        let field = (b"field".to_vec(), vec![b'x'; 20]);
        assert!(add(&mut stream, id, &[field], LIMITS));
    }
    let each = stream.allocated_bytes() as f64 / 1e5;
    assert!(each < 28.0, "{each}");
    let entries = stream.allocated_bytes();
    stream.create_group(b"g", Id::ZERO, None);
    stream.edit_group(b"g", |group| {
        let consumer = group.add_consumer(b"c", 0);
        for ms in 0..100_000 {
            group.assign(Pending {
                id: Id::new(ms, 0),
                delivered_at: 0,
                count: 1,
                consumer,
            });
        }
    });
    let each = (stream.allocated_bytes() - entries) as f64 / 1e5;
    assert!(each < 60.0, "{each}");
}

#[test]
fn a_large_stream_is_freed_in_pieces() {
    assert!(numbered(1_000, LIMITS).into_remains().is_none());
    let large = numbered(100_000, LIMITS);
    let clone = large.clone();
    let mut remains = large.into_remains().expect("it is large");
    // The block that grows goes at once.
    assert_eq!(remains.len(), 999);
    assert!(!remains.free(32));
    while !remains.free(32) {}
    assert_eq!(clone.range(Id::ZERO, Id::MAX).count(), 100_000);
}
