//! Each change is made once, by who may.

use super::*;
use crate::cluster::node::Node;

fn node(number: u8, incarnation: u64) -> Node {
    Node {
        id: NodeId([number; 20]),
        bus: format!("10.0.0.{number}:17000"),
        host: "host".to_owned(),
        hostname: String::new(),
        port: 7000,
        cluster_port: 7000,
        weight: Node::DEFAULT_WEIGHT,
        state: NodeState::Up,
        incarnation,
    }
}

fn origin(node: u8, incarnation: u64, number: u64, floor: u64) -> Origin {
    Origin {
        node: NodeId([node; 20]),
        incarnation,
        number,
        floor,
    }
}

fn leader(term: u64) -> LeaderId {
    LeaderId::new(term, NodeId([9; 20]))
}

fn asked(origin: Origin, change: Change) -> Asked {
    Asked {
        origin,
        change,
        finder: None,
    }
}

impl State {
    /// An entry with a single change.
    fn apply_one(&mut self, asked: &Asked, leader: &LeaderId) -> Outcome {
        let command = Command::Changes(vec![asked.clone()]);
        let outcomes = self.apply(&command, leader, &mut |_| ());
        assert_eq!(outcomes.len(), 1);
        outcomes[0]
    }
}

/// A ring of the nodes 1 and 2 whose slots are where they should be, but for those that 1 has to give to 2.
fn state() -> State {
    let mut state = State::new();
    for number in [1, 2] {
        let command = asked(origin(number, 1, 0, 0), Change::Join(node(number, 1)));
        assert!(state.apply_one(&command, &leader(1)).changed);
    }
    state
}

/// The slots that 1 owns and 2 should have.
fn due(state: &State) -> Vec<u16> {
    let slots = 0..state.map.owners.len() as u16;
    slots
        .filter(|slot| {
            let slot = usize::from(*slot);
            (state.map.owners[slot], state.map.targets[slot]) == (0, 1)
        })
        .collect()
}

fn moved(slots: &[u16]) -> Change {
    Change::Moved {
        slots: slots.to_vec(),
        from: NodeId([1; 20]),
        to: NodeId([2; 20]),
    }
}

#[test]
fn a_change_sent_twice_is_made_once_and_answered_alike() {
    let mut state = state();
    let weight = |number, weight| {
        let change = Change::Weight(NodeId([1; 20]), weight);
        asked(origin(1, 1, number, 1), change)
    };
    let first = state.apply_one(&weight(1, 7), &leader(1));
    assert!(first.changed);
    assert!(state.apply_one(&weight(2, 8), &leader(1)).changed);
    // The first one again, late: it would undo the second.
    assert_eq!(state.apply_one(&weight(1, 7), &leader(2)), first);
    assert_eq!(state.map.nodes[0].weight, 8);
}

#[test]
fn what_its_proposer_gave_up_is_void_once_a_later_one_is_made() {
    let mut state = state();
    let slots = due(&state);
    let late = asked(origin(1, 1, 1, 1), moved(&slots[..9]));
    let later = asked(origin(1, 1, 2, 2), moved(&slots[9..20]));
    assert!(state.apply_one(&later, &leader(1)).changed);
    assert!(!state.apply_one(&late, &leader(1)).changed);
    assert_eq!(due(&state).len(), slots.len() - 11);
}

#[test]
fn a_move_that_was_given_up_is_void_though_something_else_is_still_open() {
    let mut state = state();
    let slots = due(&state);
    let weight = |weight| Change::Weight(NodeId([1; 20]), weight);
    // Number 1, a change of a weight, is open all the time: the floor stays at it.
    let late = asked(origin(1, 1, 2, 1), moved(&slots[..9]));
    // The map changes its mind before the move arrives: asked again, it has no effect, and its owner serves on.
    let heavy = asked(origin(2, 1, 1, 1), weight(10_000));
    assert!(state.apply_one(&heavy, &leader(1)).changed);
    let again = asked(origin(1, 1, 3, 1), moved(&slots[..9]));
    assert!(!state.apply_one(&again, &leader(1)).changed);
    let light = asked(origin(2, 1, 2, 2), weight(100));
    assert!(state.apply_one(&light, &leader(1)).changed);
    assert_eq!(due(&state), slots, "they should move after all");
    assert!(
        !state.apply_one(&late, &leader(1)).changed,
        "it is too late"
    );
    assert_eq!(due(&state), slots);
    let next = asked(origin(1, 1, 4, 1), moved(&slots[..9]));
    assert!(state.apply_one(&next, &leader(1)).changed);
    assert_eq!(due(&state), slots[9..]);
}

#[test]
fn slots_are_given_by_the_present_incarnation_of_their_owner_alone() {
    let mut state = state();
    let slots = due(&state);
    let by = |node, incarnation| asked(origin(node, incarnation, 5, 5), moved(&slots));
    assert!(
        !state.apply_one(&by(2, 1), &leader(1)).changed,
        "not the owner"
    );
    let back = asked(origin(1, 2, 0, 0), Change::Join(node(1, 2)));
    assert!(state.apply_one(&back, &leader(1)).changed);
    assert!(
        !state.apply_one(&by(1, 1), &leader(1)).changed,
        "an earlier one"
    );
    assert!(state.apply_one(&by(1, 2), &leader(1)).changed);
}

#[test]
fn what_a_leader_found_is_void_under_another() {
    let mut state = state();
    let take = |number| {
        let change = Change::Failed(NodeId([2; 20]), 1);
        Asked {
            finder: Some(leader(3)),
            ..asked(origin(1, 1, number, number), change)
        }
    };
    assert!(!state.apply_one(&take(1), &leader(4)).changed);
    assert!(
        state.apply_one(&take(1), &leader(3)).changed,
        "and may be asked for again"
    );
}

#[test]
fn what_is_kept_of_proposals_is_bounded() {
    let mut state = state();
    for number in 1..3000 {
        // A proposer that never says that it is done.
        let change = Change::Weight(NodeId([3; 20]), 1);
        let command = asked(origin(1, 1, number, 1), change);
        assert!(!state.apply_one(&command, &leader(1)).changed, "nobody");
    }
    let session = &state.sessions[&NodeId([1; 20])];
    assert_eq!(session.made.len(), MAX_KEPT);
    let gone = asked(origin(2, 1, 1, 1), Change::Forget(NodeId([1; 20])));
    assert!(state.apply_one(&gone, &leader(1)).changed);
    assert!(!state.sessions.contains_key(&NodeId([1; 20])));
}

#[test]
fn changes_of_one_entry_make_one_map_for_each_cause() {
    let mut state = state();
    let join = |number| asked(origin(number, 1, 0, 0), Change::Join(node(number, 1)));
    assert!(state.apply_one(&join(3), &leader(1)).changed);
    let slots = due(&state);
    let failed = Asked {
        finder: Some(leader(1)),
        ..asked(origin(2, 1, 7, 7), Change::Failed(NodeId([3; 20]), 1))
    };
    let nothing = asked(origin(2, 1, 8, 8), Change::Weight(NodeId([9; 20]), 1));
    let changes = vec![
        failed,
        asked(origin(1, 1, 1, 1), moved(&slots)),
        join(4),
        nothing,
        join(5),
    ];
    let before = state.map.epoch;
    let mut told = Vec::new();
    let entry = Command::Changes(changes);
    let outcomes = state.apply(&entry, &leader(1), &mut |map| told.push(map.epoch));
    assert_eq!(told, [before + 1, before + 2, before + 3]);
    let seen: Vec<(u64, bool)> = outcomes
        .iter()
        .map(|outcome| (outcome.epoch - before, outcome.changed))
        .collect();
    assert_eq!(
        seen,
        [(1, true), (2, true), (3, true), (3, false), (3, true)]
    );
    let has_moved = |slot: &u16| state.map.owners[usize::from(*slot)] == 1;
    assert!(slots.iter().all(has_moved));
    // Sent again under another leader, nothing happens.
    let again = state.apply(&entry, &leader(2), &mut |_| panic!("no new map"));
    assert_eq!(again[1..], outcomes[1..]);
    assert!(!again[0].changed);
}

#[test]
fn a_change_that_is_twice_in_an_entry_is_made_once() {
    let mut state = state();
    let before = state.map.epoch;
    let weight = |number, weight| {
        let change = Change::Weight(NodeId([1; 20]), weight);
        asked(origin(1, 1, number, 1), change)
    };
    let changes = vec![weight(1, 7), weight(2, 8), weight(1, 7)];
    let outcomes = state.apply(&Command::Changes(changes), &leader(1), &mut |_| ());
    assert_eq!(outcomes[2], outcomes[0]);
    assert_eq!(state.map.nodes[0].weight, 8);
    assert_eq!(state.map.epoch, before + 1);
}
