//! What clients may see of keys each of which has one writer, who writes increasing numbers.
//!
//! Every operation has a begin and an end; what it did, it did at one moment between the two. So a read must return the
//! last write that had ended when the read began, or a later one that had begun when it ended. Once somebody has seen a
//! number, nobody who begins later sees a smaller one.
//!
//! A node that dies takes its keys with it: then a read may find nothing where something was written before that. What is
//! gone stays gone, and what was written since is not gone.
//!
//! A write without a reply may have been done, or be done yet: its key is written no more, under this name.

use std::collections::BTreeMap;

use quoit::cluster::slots::slot_of;

/// Something a client did, with times in microseconds since the beginning.
#[derive(Clone, Debug)]
pub struct Operation {
    /// On which key.
    pub key: String,
    /// What.
    pub what: What,
    /// When it was sent.
    pub begin: u64,
    /// When the reply was there, or hope was given up.
    pub end: u64,
    /// At which node.
    pub node: usize,
}

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Written, and acknowledged.
    Wrote(u64),
    /// Written, without an acknowledgement.
    Tried(u64),
    /// Read.
    Read(Option<u64>),
}

/// The end of a node, and with it of its keys.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Not before.
    pub begin: u64,
    /// What was written later is not concerned.
    pub end: u64,
    /// Which slots it owned.
    pub slots: Vec<bool>,
}

impl Loss {
    /// Whether it may be why a read finds nothing of a write.
    fn explains(&self, slot: u16, write: &Write, read: &Read) -> bool {
        self.slots[usize::from(slot)] && write.begin <= self.end && self.begin <= read.end
    }
}

struct Write {
    value: u64,
    begin: u64,
    /// None: nobody knows.
    end: Option<u64>,
}

struct Read {
    value: Option<u64>,
    begin: u64,
    end: u64,
    node: usize,
}

/// All that must not be, in words.
pub fn violations(operations: &[Operation], losses: &[Loss]) -> Vec<String> {
    let mut keys: BTreeMap<&str, (Vec<Write>, Vec<Read>)> = BTreeMap::new();
    for operation in operations {
        let (writes, reads) = keys.entry(&operation.key).or_default();
        let (begin, end) = (operation.begin, operation.end);
        match operation.what {
            What::Wrote(value) => writes.push(Write {
                value,
                begin,
                end: Some(end),
            }),
            What::Tried(value) => writes.push(Write {
                value,
                begin,
                end: None,
            }),
            What::Read(value) => reads.push(Read {
                value,
                begin,
                end,
                node: operation.node,
            }),
        }
    }
    let found = keys.into_iter().flat_map(|(key, (writes, reads))| {
        let found = of_key(slot_of(key.as_bytes()), writes, reads, losses);
        found.into_iter().map(move |what| format!("{key}: {what}"))
    });
    found.collect()
}

fn of_key(slot: u16, mut writes: Vec<Write>, mut reads: Vec<Read>, losses: &[Loss]) -> Vec<String> {
    writes.sort_by_key(|write| write.value);
    let in_order = |pair: &[Write]| {
        pair[0].value < pair[1].value && pair[0].end.is_some_and(|end| end <= pair[1].begin)
    };
    assert!(
        writes.windows(2).all(in_order),
        "one writer, one after the other"
    );
    reads.sort_by_key(|read| read.begin);
    let mut by_end: Vec<usize> = (0..reads.len()).collect();
    by_end.sort_by_key(|index| reads[*index].end);
    let mut by_end = by_end.into_iter().peekable();
    // Of the reads that had ended: the largest number, and the latest begin of one that found nothing.
    let (mut seen, mut nothing) = (0, None);
    let mut found = Vec::new();
    for read in &reads {
        while let Some(index) = by_end.next_if(|index| reads[*index].end < read.begin) {
            match reads[index].value {
                Some(value) => seen = seen.max(value),
                None => nothing = nothing.max(Some(reads[index].begin)),
            }
        }
        let wrong = judge(slot, &writes, read, seen, nothing, losses);
        found.extend(wrong.map(|what| {
            format!(
                "{what}: read {:?} at node {} from {} to {} us",
                read.value, read.node, read.begin, read.end
            )
        }));
    }
    found
}

/// What is wrong with a read, if anything is.
fn judge(
    slot: u16,
    writes: &[Write],
    read: &Read,
    seen: u64,
    nothing: Option<u64>,
    losses: &[Loss],
) -> Option<String> {
    let write_of = |value: u64| {
        let found = writes.binary_search_by_key(&value, |write| write.value);
        found.ok().map(|index| &writes[index])
    };
    if let Some(value) = read.value {
        let Some(write) = write_of(value).filter(|write| write.begin <= read.end) else {
            return Some("nobody has written this".to_owned());
        };
        let was_over = write.end.zip(nothing);
        if let Some((end, nothing)) = was_over.filter(|(end, nothing)| end < nothing) {
            return Some(format!(
                "came back: written until {end} us, not there any more at {nothing} us"
            ));
        }
    }
    let over = writes.partition_point(|write| write.end.is_some_and(|end| end < read.begin));
    let acknowledged = over.checked_sub(1).map(|index| &writes[index]);
    let value = read.value.unwrap_or(0);
    let newer = [acknowledged, write_of(seen)].into_iter().flatten();
    for newer in newer.filter(|newer| newer.value > value) {
        let is_lost = losses.iter().any(|loss| loss.explains(slot, newer, read));
        if read.value.is_some() || !is_lost {
            return Some(format!(
                "{}: {} was written from {} to {:?} us{}",
                if read.value.is_some() {
                    "stale"
                } else {
                    "lost"
                },
                newer.value,
                newer.begin,
                newer.end,
                if newer.value == seen {
                    ", and had been read"
                } else {
                    ""
                },
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(value: u64, begin: u64, end: u64) -> Operation {
        operation(What::Wrote(value), begin, end)
    }

    fn read(value: u64, begin: u64, end: u64) -> Operation {
        operation(What::Read((value > 0).then_some(value)), begin, end)
    }

    fn operation(what: What, begin: u64, end: u64) -> Operation {
        Operation {
            key: "k".to_owned(),
            what,
            begin,
            end,
            node: 0,
        }
    }

    /// The first word of what is found.
    fn found(operations: &[Operation], losses: &[Loss]) -> Vec<String> {
        let found = violations(operations, losses).into_iter();
        found
            .map(|what| {
                what["k: ".len()..]
                    .split([' ', ':'])
                    .next()
                    .unwrap_or("")
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn what_may_be_read() {
        let tried = operation(What::Tried(2), 20, 25);
        for (operations, expected) in [
            (
                vec![read(0, 0, 1), wrote(1, 10, 20), read(1, 21, 22)],
                vec![],
            ),
            // While it is under way: either.
            (
                vec![wrote(1, 10, 20), read(0, 12, 13), read(1, 14, 15)],
                vec![],
            ),
            (
                vec![wrote(1, 10, 20), read(1, 12, 13), read(0, 14, 15)],
                vec!["lost"],
            ),
            (vec![wrote(1, 10, 20), read(0, 21, 22)], vec!["lost"]),
            (vec![wrote(1, 10, 20), read(0, 20, 22)], vec![]),
            (
                vec![wrote(1, 1, 2), wrote(2, 3, 4), read(1, 5, 6), read(2, 7, 8)],
                vec!["stale"],
            ),
            (vec![wrote(1, 10, 20), read(1, 5, 9)], vec!["nobody"]),
            (vec![wrote(1, 10, 20), read(7, 21, 22)], vec!["nobody"]),
            // Nobody knows whether it was done, until it is seen.
            (
                vec![
                    wrote(1, 1, 2),
                    tried.clone(),
                    read(1, 30, 31),
                    read(2, 40, 41),
                ],
                vec![],
            ),
            (
                vec![wrote(1, 1, 2), tried, read(2, 30, 31), read(1, 40, 41)],
                vec!["stale"],
            ),
        ] {
            assert_eq!(found(&operations, &[]), expected, "{operations:?}");
        }
    }

    #[test]
    fn what_may_be_lost() {
        let loss = |slot: u16| {
            let mut slots = vec![false; 16384];
            slots[usize::from(slot)] = true;
            [Loss {
                begin: 100,
                end: 200,
                slots,
            }]
        };
        let (here, elsewhere) = (loss(slot_of(b"k")), loss(slot_of(b"other")));
        for (operations, losses, expected) in [
            (vec![wrote(1, 1, 2), read(0, 110, 111)], &here, vec![]),
            (
                vec![wrote(1, 1, 2), read(0, 110, 111)],
                &elsewhere,
                vec!["lost"],
            ),
            (vec![wrote(1, 1, 2), read(0, 90, 91)], &here, vec!["lost"]),
            (
                vec![wrote(1, 201, 202), read(0, 210, 211)],
                &here,
                vec!["lost"],
            ),
            (
                vec![wrote(1, 1, 2), wrote(2, 3, 4), read(1, 110, 111)],
                &here,
                vec!["stale"],
            ),
            (
                vec![wrote(1, 1, 2), read(0, 110, 111), read(1, 120, 121)],
                &here,
                vec!["came"],
            ),
            (
                vec![
                    wrote(1, 1, 2),
                    read(0, 110, 111),
                    wrote(2, 112, 113),
                    read(2, 120, 121),
                ],
                &here,
                vec![],
            ),
        ] {
            assert_eq!(found(&operations, losses), expected, "{operations:?}");
        }
    }
}
