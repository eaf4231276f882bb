//! Bounds of balance, movement, weights and rows; hashring beside them.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use hashring::HashRing;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::*;
use crate::base::rng::Rng;
use crate::cluster::node::NodeId;

/// Sets of names that are looked at.
const SETS: u64 = 12;

fn node(rng: &Rng, weight: u32) -> Node {
    Node {
        id: NodeId(std::array::from_fn(|_| rng.bits() as u8)),
        bus: String::new(),
        host: String::new(),
        hostname: String::new(),
        port: 0,
        cluster_port: 0,
        weight,
        state: NodeState::Up,
        incarnation: 0,
    }
}

fn nodes(rng: &Rng, weights: &[u32]) -> Vec<Node> {
    weights.iter().map(|weight| node(rng, *weight)).collect()
}

fn shares(targets: &[u16], count: usize) -> Vec<f64> {
    let mut shares = vec![0.0; count];
    for target in targets {
        shares[usize::from(*target)] += 1.0 / SLOTS as f64;
    }
    shares
}

/// How far the fullest node is above the mean: 0.07 are 7 %.
fn excess(targets: &[u16], count: usize) -> f64 {
    let fullest = shares(targets, count).into_iter().fold(0.0, f64::max);
    fullest * count as f64 - 1.0
}

/// By how many slots the node furthest from its share is away from it.
pub fn furthest(nodes: &[Node], targets: &[u16]) -> f64 {
    let weights = weights(nodes).expect("somebody may have slots");
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let shares = shares(targets, nodes.len()).into_iter().zip(weights);
    shares
        .map(|(share, weight)| (share - f64::from(weight) / total).abs() * SLOTS as f64)
        .fold(0.0, f64::max)
}

/// Rows of CLUSTER SLOTS.
fn rows(targets: &[u16]) -> usize {
    targets.chunk_by(|a, b| a == b).count()
}

#[test]
fn the_placement_is_fixed() {
    // Aim: all nodes of a ring say the same, be they of this version or the next.
    let fixed = |number: u8| Node {
        id: NodeId([number; 20]),
        ..node(&Rng::seeded(0), 50 + 25 * u32::from(number))
    };
    let mut nodes = [1, 2, 3, 4, 5].map(fixed);
    let mut targets = place(&nodes);
    let rows: Vec<(u16, usize)> = targets
        .chunk_by(|a, b| a == b)
        .map(|row| (row[0], row.len()))
        .collect();
    assert_eq!(
        rows,
        [(4, 4588), (3, 3932), (2, 3277), (1, 2621), (0, 1966)]
    );
    nodes[1].state = NodeState::Failed;
    place_again(&nodes, &mut targets, &[]);
    nodes[3].weight = 300;
    place_again(&nodes, &mut targets, &[3]);
    nodes[1].state = NodeState::Up;
    place_again(&nodes, &mut targets, &[1]);
    let bytes: Vec<u8> = targets.iter().flat_map(|to| to.to_le_bytes()).collect();
    assert_eq!(xxhash_rust::xxh3::xxh3_64(&bytes), 0x293a_d66c_e230_5e3e);
}

#[test]
fn the_fullest_node_is_near_the_mean_and_a_join_moves_little() {
    // Aim: nobody is two slots away from its share (7 % and 15 % are asked for); a join moves no more than the newcomer's
    // share (1.15 are), and only to it; rows are few.
    const MOST: usize = 32;
    let rng = Rng::seeded(1);
    let mut nodes = Vec::new();
    let mut targets = place(&nodes);
    for count in 1..=MOST {
        nodes.push(node(&rng, Node::DEFAULT_WEIGHT));
        let before = targets.clone();
        place_again(&nodes, &mut targets, &[count - 1]);
        let moves = before.iter().zip(&targets).filter(|(old, new)| old != new);
        let moved = moves
            .inspect(|(_, new)| assert_eq!(usize::from(**new), count - 1))
            .count();
        assert!((0..2).contains(&(moved - SLOTS / count)), "{moved}");
        println!(
            "{count} nodes: the fullest is {:.2} % above the mean, {} rows",
            excess(&targets, count) * 100.0,
            rows(&targets)
        );
        assert!(furthest(&nodes, &targets) < 2.0, "{count}");
        assert!(rows(&targets) <= (count * count / 2).max(count), "{count}");
    }
    assert_eq!(rows(&place(&nodes)), MOST, "at once each has one");
}

#[test]
fn shares_are_in_proportion_to_weights() {
    for weights in [
        &[50, 100][..],
        &[25, 100, 100, 100],
        &[100, 100, 150, 1000],
        &[1, 1, 2],
        &[1, u32::MAX],
        &[1_000_000_000, 2_000_000_000, 4_000_000_000],
    ] {
        let nodes = nodes(&Rng::seeded(7), weights);
        let mut targets = place(&nodes);
        assert!(furthest(&nodes, &targets) < 1.0, "{weights:?}");
        // And if they come one after the other.
        targets.fill(NOBODY);
        for count in 1..=nodes.len() {
            place_again(&nodes[..count], &mut targets, &[count - 1]);
        }
        assert!(furthest(&nodes, &targets) < 2.0, "{weights:?}");
    }
}

#[test]
fn weights_change_only_what_they_must() {
    let rng = Rng::seeded(3);
    let mut nodes = nodes(&rng, &[100, 100, 100, 100]);
    let mut targets = place(&nodes);
    for weight in [150, 90, 0, 1, u32::MAX, 100] {
        let before = targets.clone();
        let grows = weight > nodes[2].weight;
        nodes[2].weight = weight;
        place_again(&nodes, &mut targets, &[2]);
        assert!(furthest(&nodes, &targets) < 2.0, "{weight}");
        for (old, new) in before.iter().zip(&targets) {
            let concerned = if grows { new } else { old };
            assert!(old == new || *concerned == 2, "{weight}: {old} to {new}");
        }
    }
}

#[test]
fn who_takes_part() {
    let rng = Rng::seeded(4);
    let mut nodes = nodes(&rng, &[100, 100, 100]);
    let owners = |nodes: &[Node]| {
        let mut targets = place(nodes);
        targets.sort_unstable();
        targets.dedup();
        targets
    };
    assert_eq!(owners(&[]), [NOBODY]);
    assert_eq!(owners(&nodes), [0, 1, 2]);
    nodes[1].weight = 0;
    assert_eq!(owners(&nodes), [0, 2]);
    nodes[0].state = NodeState::Failed;
    assert_eq!(owners(&nodes), [2]);
    nodes[2].state = NodeState::Leaving;
    assert_eq!(owners(&nodes), [1], "nobody else is up");
    nodes[1].state = NodeState::Failed;
    assert_eq!(owners(&nodes), [2], "nobody is up");
    nodes[2].state = NodeState::Failed;
    assert_eq!(owners(&nodes), [NOBODY]);
}

#[test]
fn a_thousand_nodes() {
    // Aim: shares are right among as many as there may be, 16 slots each.
    let rng = Rng::seeded(5);
    let mut nodes = nodes(&rng, &[100; 1000]);
    let mut targets = place(&nodes);
    assert_eq!(rows(&targets), 1000);
    nodes.push(node(&rng, 300));
    place_again(&nodes, &mut targets, &[1000]);
    assert!(furthest(&nodes, &targets) < 2.0);
    let gone = targets[0];
    nodes[usize::from(gone)].state = NodeState::Failed;
    place_again(&nodes, &mut targets, &[]);
    assert!(furthest(&nodes, &targets) < 2.0);
    assert!(!targets.contains(&gone));
}

#[test]
fn a_node_that_goes_leaves_its_arc_to_those_beside_it() {
    let mut nodes = nodes(&Rng::seeded(6), &[100; 3]);
    let mut targets = place(&nodes[..2]);
    place_again(&nodes, &mut targets, &[2]);
    let before = targets.clone();
    assert_eq!(rows(&targets), 3, "the third stands between the first two");
    nodes[2].state = NodeState::Failed;
    place_again(&nodes, &mut targets, &[]);
    assert_eq!(targets, place(&nodes[..2]));
    nodes[2].state = NodeState::Up;
    place_again(&nodes, &mut targets, &[2]);
    assert_eq!(targets, before);
}

#[test]
fn many_that_change_together() {
    // Aim: shares are right, and nobody gives or takes who has not changed, but for what those had that are gone.
    for (before, joins, goes) in [
        (10, 3, 2),
        (3, 40, 1),
        (40, 2, 39),
        (300, 5, 20),
        (5, 300, 0),
    ] {
        let rng = Rng::seeded(11);
        let mut nodes = nodes(&rng, &vec![100; before]);
        let mut targets = place(&nodes);
        let old = targets.clone();
        for gone in &mut nodes[..goes] {
            gone.state = NodeState::Failed;
        }
        nodes.extend((0..joins).map(|number| node(&rng, 50 + number)));
        let last = nodes.len() - joins as usize - 1;
        nodes[last].weight = 60;
        let changed: Vec<usize> = (last..nodes.len()).collect();
        place_again(&nodes, &mut targets, &changed);
        assert!(furthest(&nodes, &targets) < 2.0, "{before} {joins} {goes}");
        for (old, new) in old.iter().zip(&targets) {
            let [old, new] = [old, new].map(|index| usize::from(*index));
            assert!(old == new || old < goes || old.max(new) >= last);
        }
    }
}

#[test]
fn whatever_comes_and_goes_shares_are_right_and_rows_are_few() {
    for seed in 12..16 {
        println!("seed {seed}");
        let rng = Rng::seeded(seed);
        let mut nodes = nodes(&rng, &[100; 24]);
        let mut targets = place(&nodes);
        let mut most = 0;
        for step in 0..500 {
            let index = rng.below(24) as usize;
            let node = &mut nodes[index];
            match node.state {
                NodeState::Up if rng.below(3) == 0 => {
                    node.weight = [50, 100, 100, 200, 1000][rng.below(5) as usize];
                }
                NodeState::Up => node.state = NodeState::Failed,
                _ => node.state = NodeState::Up,
            }
            if nodes.iter().any(Node::is_up) {
                place_again(&nodes, &mut targets, &[index]);
                let away = furthest(&nodes, &targets);
                assert!(away < 2.0, "step {step}: {away} slots from its share");
                most = most.max(rows(&targets));
            }
        }
        println!("at most {most} rows");
        assert!(most < 24 * 24);
    }
}

/// A place on hashring's circle, with its node.
struct Token(u64, u16);

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Tokens are hashed already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("tokens are numbers");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

fn place_by_tokens(nodes: &[Node], tokens: u64) -> Vec<u16> {
    let mut ring = HashRing::with_hasher(BuildHasherDefault::<Same>::default());
    let of_node = |(index, node): (u16, &Node)| {
        let id = node.id.0;
        (0..tokens).map(move |token| Token(xxh3_64_with_seed(&id, token), index))
    };
    ring.batch_add((0..).zip(nodes).flat_map(of_node).collect());
    let slots = 0..SLOTS as u64;
    slots
        .map(|slot| {
            let at = Token(xxh3_64_with_seed(&slot.to_le_bytes(), 0), 0);
            ring.get(&at).expect("there are tokens").1
        })
        .collect()
}

#[test]
fn a_ring_of_tokens_does_not_reach_it() {
    // Aim: the reason why slots are not placed with hashring stays true, or is noticed.
    for tokens in [1024, 4096] {
        let mut theirs = 0.0;
        for seed in 0..SETS {
            let nodes = nodes(&Rng::seeded(seed), &[100; 32]);
            theirs += excess(&place_by_tokens(&nodes, tokens), 32) / SETS as f64;
        }
        let nodes = nodes(&Rng::seeded(0), &[100; 32]);
        let ours = excess(&place(&nodes), 32);
        println!(
            "32 nodes with {tokens} tokens: the fullest is {:.2} % above the mean, {} rows; here {:.2} %",
            theirs * 100.0,
            rows(&place_by_tokens(&nodes, tokens)),
            ours * 100.0
        );
        assert!(theirs > 0.08 && ours < 0.01);
    }
}
