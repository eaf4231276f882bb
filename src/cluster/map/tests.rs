//! Each change by itself, and random ones against the rules.

use super::*;
use crate::base::rng::Rng;

fn id(number: u8) -> NodeId {
    NodeId([number; 20])
}

fn node(number: u8) -> Node {
    Node {
        id: id(number),
        bus: format!("10.0.0.{number}:17000"),
        host: format!("10.0.0.{number}"),
        hostname: String::new(),
        port: 7000,
        cluster_port: 7000,
        weight: Node::DEFAULT_WEIGHT,
        state: NodeState::Up,
        incarnation: 1,
    }
}

/// A map of these nodes, all slots moved to where they should be.
fn settled(numbers: &[u8]) -> Map {
    let mut map = Map::new(Pins::default());
    for number in numbers {
        assert!(map.apply(&Change::Join(node(*number))));
    }
    settle(&mut map);
    map
}

/// Moves all that is to be moved.
fn settle(map: &mut Map) {
    for from in map.nodes.clone() {
        for (to, slots) in map.moves_from(from.id) {
            let from = from.id;
            assert!(map.apply(&Change::Moved { slots, from, to }));
        }
    }
}

/// All is where it should be, and each has its share.
fn assert_settled(map: &Map) {
    assert_eq!(map.owners, map.targets);
    assert!(ring::tests::furthest(&map.nodes, &map.owners) < 2.0);
}

fn owned(map: &Map, number: u8) -> usize {
    map.index(id(number))
        .map_or(0, |index| slots_of(&map.owners, index).count())
}

#[test]
fn the_first_node_gets_all_slots() {
    let mut map = Map::new(Pins::default());
    assert!(!map.is_covered());
    assert!(map.apply(&Change::Join(node(1))));
    assert_eq!(map.epoch, 1);
    assert!(map.is_covered());
    assert_eq!(map.ranges(id(1)), [(0, 16383)]);
    assert_eq!(map.moves_from(id(1)), []);
    // The same once more is nothing.
    assert!(!map.apply(&Change::Join(node(1))));
    assert_eq!(map.epoch, 1);
}

#[test]
fn a_newcomer_gets_its_share_by_moves() {
    let mut map = settled(&[1, 3]);
    let before = map.clone();
    assert!(map.apply(&Change::Join(node(2))));
    assert_eq!(map.nodes[1].id, id(2));
    // Owners are the same nodes as before, at other indexes.
    for slot in 0..SLOTS as u16 {
        assert_eq!(
            map.owner(slot).map(|node| node.id),
            before.owner(slot).map(|node| node.id)
        );
    }
    let [(to, slots)] = &map.moves_from(id(1))[..] else {
        panic!("it moves to the newcomer only");
    };
    assert_eq!(*to, id(2));
    assert!(slots.is_sorted());
    // Handed over in two parts; the others of the list are ignored.
    let (part, rest) = slots.split_at(100);
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let moved = |slots: &[u16], from, to| Change::Moved {
        slots: slots.to_vec(),
        from,
        to,
    };
    assert!(map.apply(&moved(part, id(1), id(2))));
    assert_eq!(owned(&map, 2), 100);
    assert!(!map.apply(&moved(part, id(1), id(2))));
    assert!(!map.apply(&moved(&all, id(1), id(3))));
    assert!(!map.apply(&moved(&all, id(2), id(1))));
    assert!(!map.apply(&moved(&all, id(1), id(1))));
    assert!(!map.apply(&moved(&all, id(1), id(9))));
    assert!(map.apply(&moved(&all, id(1), id(2))));
    assert_eq!(owned(&map, 2), 100 + rest.len());
    settle(&mut map);
    assert_eq!(map.owners, map.targets);
    let shares: usize = [1, 2, 3].map(|number| owned(&map, number)).iter().sum();
    assert_eq!(shares, SLOTS);
}

#[test]
fn a_node_that_leaves_goes_when_it_has_nothing() {
    let mut map = settled(&[1, 2, 3]);
    assert!(map.apply(&Change::Leave(id(2))));
    assert!(!map.apply(&Change::Leave(id(2))));
    assert!(!map.targets.contains(&1));
    let moves = map.moves_from(id(2));
    assert_eq!(
        moves.iter().map(|(to, _)| *to).collect::<Vec<_>>(),
        [id(1), id(3)]
    );
    for (index, (to, slots)) in moves.into_iter().enumerate() {
        assert_eq!(map.nodes.len(), 3);
        let from = id(2);
        assert!(map.apply(&Change::Moved { slots, from, to }));
        assert_eq!(map.node(id(2)).is_some(), index == 0);
    }
    assert_settled(&map);
}

#[test]
fn the_last_one_stays() {
    let mut map = settled(&[1, 2]);
    assert!(map.apply(&Change::Leave(id(1))));
    assert!(!map.apply(&Change::Leave(id(2))));
    // One that leaves keeps the ring alive if nobody else is there.
    assert!(map.apply(&Change::Failed(id(2), 1)));
    assert_eq!(owned(&map, 1), SLOTS);
    assert_eq!(map.moves_from(id(1)), []);
    // And goes on leaving as soon as somebody is.
    assert!(map.apply(&Change::Join(node(3))));
    let [(to, slots)] = &map.moves_from(id(1))[..] else {
        panic!("it moves to the newcomer only");
    };
    assert_eq!((*to, slots.len()), (id(3), SLOTS));
    settle(&mut map);
    assert_eq!(map.node(id(1)), None);
}

#[test]
fn of_two_who_leave_one_may_be_left_without_anything() {
    let mut map = settled(&[1, 2, 3]);
    assert!(map.apply(&Change::Weight(id(3), 0)));
    settle(&mut map);
    assert_eq!(owned(&map, 3), 0);
    assert!(map.apply(&Change::Leave(id(1))));
    // It owns nothing, so it goes at once.
    assert!(map.apply(&Change::Leave(id(3))));
    assert_eq!(map.node(id(3)), None);
    assert_eq!(map.nodes.len(), 2);
}

#[test]
fn a_node_that_failed_loses_its_slots_and_comes_back_without_them() {
    let mut map = settled(&[1, 2, 3]);
    assert!(!map.apply(&Change::Failed(id(2), 7)));
    assert!(!map.apply(&Change::Failed(id(9), 1)));
    assert!(map.apply(&Change::Failed(id(2), 1)));
    assert!(!map.apply(&Change::Failed(id(2), 1)));
    assert!(map.is_covered());
    assert_eq!(owned(&map, 2), 0);
    assert_eq!(
        map.node(id(2)).map(|node| node.state),
        Some(NodeState::Failed)
    );
    // Back, as the same process: the lease that was over is another's.
    assert!(map.apply(&Change::Join(node(2))));
    let back = map.node(id(2)).expect("it is back").clone();
    assert_eq!((back.state, back.incarnation), (NodeState::Up, 2));
    assert_eq!(owned(&map, 2), 0);
    assert!(!map.apply(&Change::Failed(id(2), 1)));
    settle(&mut map);
    assert_settled(&map);
    assert!(map.apply(&Change::Failed(id(2), 2)));
}

#[test]
fn a_node_that_restarts_keeps_its_slots() {
    let mut map = settled(&[1, 2]);
    let before = map.clone();
    let restarted = Node {
        incarnation: 2,
        port: 7009,
        ..node(2)
    };
    assert!(map.apply(&Change::Join(restarted.clone())));
    assert_eq!(map.node(id(2)), Some(&restarted));
    assert_eq!(map.owners, before.owners);
    // What the process before said comes too late.
    assert!(!map.apply(&Change::Join(node(2))));
    assert!(!map.apply(&Change::Failed(id(2), 1)));
    // A new process stays even if the one before was leaving; the same one goes on leaving.
    assert!(map.apply(&Change::Leave(id(2))));
    let moved = Node {
        port: 7010,
        ..restarted.clone()
    };
    assert!(map.apply(&Change::Join(moved)));
    assert_eq!(
        map.node(id(2)).map(|node| (node.state, node.port)),
        Some((NodeState::Leaving, 7010))
    );
    assert!(map.apply(&Change::Join(Node {
        incarnation: 3,
        ..restarted
    })));
    assert_eq!(map.node(id(2)).map(Node::is_up), Some(true));
    assert_eq!(map.targets, before.targets);
}

#[test]
fn when_all_have_failed_the_next_gets_everything() {
    let mut map = settled(&[1, 2]);
    assert!(map.apply(&Change::Failed(id(1), 1)));
    assert_eq!(owned(&map, 2), SLOTS);
    assert!(map.apply(&Change::Failed(id(2), 1)));
    assert!(map.owners.iter().all(|owner| *owner == NOBODY));
    assert!(map.targets.iter().all(|target| *target == NOBODY));
    assert!(!map.is_covered());
    assert!(map.apply(&Change::Join(node(1))));
    assert_eq!(map.ranges(id(1)), [(0, 16383)]);
}

#[test]
fn who_is_forgotten_is_not_there() {
    let mut map = settled(&[1, 2, 3]);
    assert!(!map.apply(&Change::Forget(id(9))));
    assert!(map.apply(&Change::Forget(id(1))));
    assert_settled(&map);
    assert!(map.apply(&Change::Failed(id(2), 1)));
    assert!(map.apply(&Change::Leave(id(2))));
    assert!(map.apply(&Change::Forget(id(3))));
    assert!(map.nodes.is_empty());
    assert!(map.owners.iter().all(|owner| *owner == NOBODY));
    assert!(map.apply(&Change::Join(node(3))));
    assert_eq!(owned(&map, 3), SLOTS);
}

#[test]
fn a_newcomer_takes_the_place_of_one_that_failed_where_it_is() {
    let mut map = settled(&[1, 2]);
    assert!(map.apply(&Change::Failed(id(1), 1)));
    let again = Node {
        bus: node(1).bus,
        ..node(3)
    };
    assert!(map.apply(&Change::Join(again)));
    let ids: Vec<NodeId> = map.nodes.iter().map(|node| node.id).collect();
    assert_eq!(ids, [id(2), id(3)]);
    // One that is up is not displaced by whoever says that it is at its address.
    let another = Node {
        bus: node(2).bus,
        ..node(4)
    };
    assert!(map.apply(&Change::Join(another)));
    assert_eq!(map.nodes.len(), 3);
}

#[test]
fn there_are_not_too_many() {
    let numbered = |number: usize| {
        let mut node = node(0);
        node.id.0[..8].copy_from_slice(&number.to_be_bytes());
        node.bus = format!("host{number}:17000");
        // So that nothing is placed, and the test takes no time.
        node.weight = u32::from(number == 0);
        node
    };
    let mut map = Map::new(Pins::default());
    for number in 0..MAX_NODES {
        assert!(map.apply(&Change::Join(numbered(number))));
    }
    assert!(!map.apply(&Change::Join(numbered(MAX_NODES))));
    assert_eq!(map.epoch, MAX_NODES as u64);
    assert!(map.apply(&Change::Failed(numbered(5).id, 1)));
    assert!(map.apply(&Change::Join(numbered(MAX_NODES))));
    assert_eq!(map.nodes.len(), MAX_NODES);
    assert_eq!(map.node(numbered(5).id), None);
}

#[test]
fn a_map_that_no_changes_lead_to_is_told() {
    let map = settled(&[1, 2]);
    assert!(map.is_sound());
    let spoilt = |spoil: &dyn Fn(&mut Map)| {
        let mut map = map.clone();
        spoil(&mut map);
        !map.is_sound()
    };
    assert!(spoilt(&|map| map.owners[7] = 2));
    assert!(spoilt(&|map| map.targets[7] = 2));
    assert!(spoilt(&|map| map.owners.truncate(7)));
    assert!(spoilt(&|map| map.targets.push(0)));
    assert!(spoilt(&|map| map.nodes.swap(0, 1)));
    assert!(spoilt(&|map| map.nodes[1] = map.nodes[0].clone()));
    assert!(spoilt(&|map| map.pins.prefixes.push(Vec::new())));
    assert!(spoilt(&|map| map.pins.databases = vec![2, 1]));
    assert!(spoilt(&|map| map.nodes = vec![node(1); MAX_NODES + 1]));
}

/// A change that may or may not make sense.
fn any_change(map: &Map, rng: &Rng) -> Change {
    let any_id = || id(rng.below(9) as u8);
    match rng.below(10) {
        0..3 => {
            let mut node = node(rng.below(9) as u8);
            node.incarnation = rng.below(5);
            node.weight = [0, 1, 50, 100, 100, 100, 1000, u32::MAX][rng.below(8) as usize];
            Change::Join(node)
        }
        3 => Change::Leave(any_id()),
        4 => {
            let id = any_id();
            let current = map.node(id).map_or(0, |node| node.incarnation);
            Change::Failed(id, current.saturating_sub(rng.below(2)))
        }
        5 if rng.below(3) == 0 => Change::Forget(any_id()),
        6 => Change::Weight(any_id(), rng.below(4) as u32 * 60),
        _ => {
            let from = any_id();
            let moves = map.moves_from(from);
            let any = moves.get(rng.below(moves.len() as u64) as usize);
            let (to, mut slots) = any.cloned().unwrap_or((any_id(), vec![1, 2, u16::MAX]));
            if rng.below(2) == 0 {
                slots.truncate(rng.below(SLOTS as u64) as usize);
            }
            Change::Moved { slots, from, to }
        }
    }
}

/// What always holds: see the file's head.
fn assert_standing_rules(map: &Map) {
    assert!(map.is_sound());
    if map.targets.contains(&NOBODY) {
        assert!(map.nodes.iter().all(|node| node.state == NodeState::Failed));
    } else {
        let away = ring::tests::furthest(&map.nodes, &map.targets);
        assert!(away < 2.0, "{away} slots from its share");
    }
    let state = |index: &u16| map.nodes.get(usize::from(*index)).map(|node| node.state);
    let is_anybody_up = map.nodes.iter().any(Node::is_up);
    for (owner, target) in map.owners.iter().zip(&map.targets) {
        if is_anybody_up {
            assert_eq!(state(target), Some(NodeState::Up));
            assert_ne!(state(owner), None);
        }
        assert_ne!(state(owner), Some(NodeState::Failed));
    }
    for (index, node) in (0..).zip(&map.nodes) {
        if node.state == NodeState::Leaving {
            assert!(map.owners.contains(&index));
        }
    }
}

fn assert_rules(map: &Map, before: &Map, change: &Change) {
    assert_standing_rules(map);
    // Nothing but what is said in the file's head takes a slot from one who is there.
    let id_of = |map: &Map, index: u16| map.nodes.get(usize::from(index)).map(|node| node.id);
    for slot in 0..SLOTS {
        let (old, new) = (
            id_of(before, before.owners[slot]),
            id_of(map, map.owners[slot]),
        );
        if old != new
            && let Some(old) = old
        {
            match change {
                Change::Moved { from, to, .. } => assert_eq!((old, new), (*from, Some(*to))),
                Change::Failed(gone, _) | Change::Forget(gone) => assert_eq!(old, *gone),
                _ => panic!("{old} lost slot {slot} by {change:?}"),
            }
        }
        let (old, new) = (
            id_of(before, before.targets[slot]),
            id_of(map, map.targets[slot]),
        );
        let first = |node: &Node| before.node(node.id).is_none();
        if let Change::Join(node) = change
            && old != new
            && first(node)
            && before
                .nodes
                .iter()
                .any(|node| node.is_up() && node.weight > 0)
        {
            assert_eq!(new, Some(node.id), "towards the newcomer only");
        }
    }
}

#[test]
fn whatever_changes_come_the_rules_hold() {
    // Aim: the head of the file, and that replicas are equal, for changes in any order, sensible or not.
    let steps = if cfg!(debug_assertions) { 60 } else { 2000 };
    for seed in 0..6 {
        println!("seed {seed}");
        let rng = Rng::seeded(seed);
        let mut map = Map::new(Pins::parse(&["queue:", "3"]).unwrap());
        let mut replica = map.clone();
        for step in 0..steps {
            let before = map.clone();
            let change = any_change(&map, &rng);
            let changes = map.apply(&change);
            assert_eq!(changes, map.epoch > before.epoch, "step {step}: {change:?}");
            assert_eq!(changes, map != before, "step {step}: {change:?}");
            assert_rules(&map, &before, &change);
            // The other gets it as bytes, from the log.
            let bytes = postcard::to_allocvec(&change).expect("it can be written");
            let change: Change = postcard::from_bytes(&bytes).expect("it can be read");
            assert_eq!(replica.apply(&change), changes);
            assert_eq!(replica, map, "step {step}: {change:?}");
            if step % 10 == 0 {
                // And now and then the whole map.
                let bytes = postcard::to_allocvec(&map).expect("it can be written");
                replica = postcard::from_bytes(&bytes).expect("it can be read");
                assert_eq!(replica, map);
            }
        }
    }
}

#[test]
fn changes_that_are_made_together_keep_the_rules_and_make_one_epoch() {
    let steps = if cfg!(debug_assertions) { 40 } else { 1000 };
    for seed in 20..26 {
        println!("seed {seed}");
        let rng = Rng::seeded(seed);
        let mut map = Map::new(Pins::default());
        for step in 0..steps {
            let before = map.clone();
            let mut staged = Staged::default();
            let mut changes = Vec::new();
            for _ in 0..1 + rng.below(6) {
                let change = any_change(&before, &rng);
                if map.stage(&change, &mut staged) {
                    changes.push(change);
                }
            }
            assert_eq!(map.settle(staged), !changes.is_empty());
            let epochs = map.epoch - before.epoch;
            assert_eq!(epochs, u64::from(!changes.is_empty()), "step {step}");
            assert_standing_rules(&map);
            let is_lost = |id: NodeId| {
                let loses = |change: &Change| match change {
                    Change::Failed(gone, _) | Change::Forget(gone) => *gone == id,
                    Change::Moved { from, .. } => *from == id,
                    _ => false,
                };
                changes.iter().any(loses)
            };
            for slot in 0..SLOTS as u16 {
                let (old, new) = (before.owner(slot), map.owner(slot));
                let (old, new) = (old.map(|node| node.id), new.map(|node| node.id));
                if old != new
                    && let Some(old) = old
                {
                    assert!(is_lost(old), "{old} lost slot {slot} by {changes:?}");
                }
            }
        }
    }
}

#[test]
fn nodes_that_found_a_ring_together_have_their_slots_at_once() {
    let mut together = Map::new(Pins::default());
    let mut staged = Staged::default();
    for number in 1..=5 {
        assert!(together.stage(&Change::Join(node(number)), &mut staged));
    }
    assert!(together.settle(staged));
    assert_eq!(together.epoch, 1);
    assert_settled(&together);
    let mut one_by_one = Map::new(Pins::default());
    for number in 1..=5 {
        assert!(one_by_one.apply(&Change::Join(node(number))));
    }
    assert!(ring::tests::furthest(&one_by_one.nodes, &one_by_one.targets) < 2.0);
    assert!(
        one_by_one.owners.iter().all(|owner| *owner == 0),
        "they have to move"
    );
}
