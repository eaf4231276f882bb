//! Consistent hashing: where each slot should be, from nothing but the nodes.
//!
//! For every slot each node draws a lot, and the best lot has the slot. The lots come from a hash of node and slot, so all
//! nodes of a ring say the same. A newcomer takes those slots for which its lot is the best, all others stay where they
//! are; when a node goes, each of its slots goes to whoever was second there. This is rendezvous hashing; it is also a ring
//! in which every node has a token in the arc of every slot.
//!
//! The lots of one node are not independent of each other: over the slots they are a permutation of `0..SLOTS`, with a
//! fraction behind it for those that meet at the same number. So every node draws equally well, and how many slots it gets
//! depends only on whom it meets where: half the variance of independent lots, which is where a ring ends that has ever
//! more tokens.
//!
//! A lot `u` in `0..1` of a node with weight `w` counts as `-ln(u) / w`, and the least wins. The lots of different nodes
//! are independent and uniform, so the share of a node is in proportion to its weight, whatever the weights are.
//!
//! # What was measured
//!
//! How far the fullest node is above the mean, in per cent, on average over names and at worst (1,000 sets of names; of
//! hashring 500 and 200), and what a change costs when a node joins one of so many, in milliseconds:
//!
//! | nodes | 3 | 10 | 32 | at 32 | at 1,000 |
//! |---|---|---|---|---|---|
//! | hashring, 1,024 tokens each | 2.9 (12.4) | 6.0 (11.9) | 11.4 (17.8) | 3.5 | 102 |
//! | hashring, 4,096 tokens each | 1.7 (5.1) | 4.7 (8.6) | 9.7 (16.0) | 8.4 | 427 |
//! | independent lots | 1.2 (2.9) | 3.8 (8.3) | 9.0 (15.6) | | |
//! | lots that are a permutation | 0.7 (2.6) | 2.6 (7.7) | 6.5 (13.7) | 0.24 | 0.25 |
//!
//! A newcomer gets 1.00 of its share on average and 1.10 at worst, for 2 to 32 nodes. Asked for are 7 % on average, 15 % and
//! 1.15 at worst. Tokens that divide the circle evenly instead of by chance do as well as independent lots at 32 nodes, but
//! then a node of half the weight gets 0.85 of its share beside one of the whole.
//!
//! All of it is integers and the four operations of IEEE doubles: the same on every machine. Changing anything here moves
//! keys in every ring, and rings of two versions would not agree: `the_placement_is_fixed` tells.

use std::sync::LazyLock;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::map::NOBODY;
use super::node::{Node, NodeState};
use super::slots::SLOTS;

/// Where each slot should be: for each slot the index of a node that is up, or [`NOBODY`] if there is none at all.
///
/// A node of weight 0 gets slots only if all have weight 0; those that leave, only if nobody is up; those that have failed,
/// never.
pub fn place(nodes: &[Node]) -> Vec<u16> {
    Drawers::new(nodes).place()
}

/// What [`place`] says, in less time, from what it said before some of them were changed: `changed` joined or came back or have
/// another weight. No index is needed of those that have gone: their slots have the target [`NOBODY`], or a node that may not
/// have any.
pub fn place_again(nodes: &[Node], targets: &mut [u16], changed: &[usize]) {
    let drawers = Drawers::new(nodes);
    let mut is_changed = vec![false; nodes.len()];
    let changed = changed.iter().copied();
    let changed: Vec<usize> = changed.filter(|index| drawers.may_draw(*index)).collect();
    changed.iter().for_each(|index| is_changed[*index] = true);
    let stays =
        |holder: usize| !drawers.are_others && drawers.may_draw(holder) && !is_changed[holder];
    let free = targets
        .iter()
        .filter(|target| !stays(usize::from(**target)));
    let free = free.count();
    let draws = free * drawers.who.len() + (targets.len() - free) * changed.len();
    if draws > ALL_ANEW * SLOTS {
        targets.copy_from_slice(&drawers.place());
        return;
    }
    for (slot, target) in (0..).zip(targets) {
        let holder = usize::from(*target);
        *target = match stays(holder) {
            false => drawers.best(slot),
            true => {
                let better = |holder, other: &usize| drawers.better(slot, holder, *other);
                changed.iter().fold(holder, better) as u16
            }
        };
    }
}

/// With more lots than that for each slot it is faster to begin from nothing.
const ALL_ANEW: usize = 8;

/// So many lots are drawn for each slot, on average, before those that got none are looked at one by one.
const GOOD_LOTS: f64 = 10.0;

/// Those who draw lots.
struct Drawers {
    /// One for each node.
    all: Vec<Drawer>,
    /// Indexes of those that take part.
    who: Vec<u16>,
    /// Whether they are not simply those that are up, so that nothing can be said of who took part before.
    are_others: bool,
}

impl Drawers {
    fn new(nodes: &[Node]) -> Drawers {
        let up = |node: &Node| if node.is_up() { node.weight } else { 0 };
        let up_without_weight = |node: &Node| u32::from(node.is_up());
        let leaving = |node: &Node| u32::from(node.state == NodeState::Leaving);
        let of = |weight: &dyn Fn(&Node) -> u32, are_others| {
            let all: Vec<Drawer> = nodes
                .iter()
                .map(|node| Drawer::new(node, weight(node)))
                .collect();
            let who = (0..).zip(&all).filter(|(_, drawer)| drawer.takes_part());
            let who = who.map(|(index, _)| index).collect();
            Drawers {
                all,
                who,
                are_others,
            }
        };
        let mut drawers = of(&up, false);
        for fallback in [&up_without_weight as &dyn Fn(&Node) -> u32, &leaving] {
            if drawers.who.is_empty() {
                drawers = of(fallback, true);
            }
        }
        drawers
    }

    fn may_draw(&self, index: usize) -> bool {
        self.all.get(index).is_some_and(Drawer::takes_part)
    }

    /// Who has the best lot of each slot. Only the good lots of each node are gone through, which are the same in all whatever
    /// the number of nodes: whoever has the best of them has the best of all.
    fn place(&self) -> Vec<u16> {
        let weight: f64 = self.takers().map(|(_, drawer)| 1.0 / drawer.scale).sum();
        let bound = GOOD_LOTS / weight;
        let mut found = vec![(f64::INFINITY, NOBODY); SLOTS];
        for (index, drawer) in self.takers() {
            for number in (0..SLOTS).rev() {
                if LOTS[number + 1] * drawer.scale >= bound {
                    break;
                }
                let slot = drawer.slot(number);
                let lot = drawer.lot_of(number, slot);
                let best = &mut found[usize::from(slot)];
                if lot < best.0 {
                    *best = (lot, index);
                }
            }
        }
        let slots = (0..).zip(found);
        slots
            .map(|(slot, (lot, index))| match lot < bound {
                true => index,
                false => self.best(slot),
            })
            .collect()
    }

    /// Those that take part, in order.
    fn takers(&self) -> impl Iterator<Item = (u16, &Drawer)> {
        let who = self.who.iter();
        who.map(|index| (*index, &self.all[usize::from(*index)]))
    }

    /// Whose lot is the best: the first of those that are equal.
    fn best(&self, slot: u16) -> u16 {
        let mut best = NOBODY;
        let mut least = f64::INFINITY;
        for (index, drawer) in self.takers() {
            if let Some(lot) = drawer.lot_below(slot, least) {
                least = lot;
                best = index;
            }
        }
        best
    }

    /// The same of two.
    fn better(&self, slot: u16, a: usize, b: usize) -> usize {
        let (first, second) = (a.min(b), a.max(b));
        let least = self.all[first].lot(slot);
        match self.all[second].lot_below(slot, least) {
            Some(_) => second,
            None => first,
        }
    }
}

/// A node as one who draws.
struct Drawer {
    /// Which permutation is its own.
    rounds: [u32; ROUNDS],
    /// What undoes its multiplications.
    inverses: [u32; ROUNDS],
    /// Which fractions.
    fraction: u64,
    /// One over its weight; infinite if it takes no part.
    scale: f64,
}

/// With one the shares of two nodes may be 9 % off, with two or more they are as those of permutations drawn at random.
const ROUNDS: usize = 4;

/// Numbers below [`SLOTS`].
const MASK: u32 = SLOTS as u32 - 1;

impl Drawer {
    fn new(node: &Node, weight: u32) -> Drawer {
        let key = |seed| xxh3_64_with_seed(&node.id.0, seed);
        let rounds = std::array::from_fn(|round| key(1 + round as u64) as u32);
        Drawer {
            rounds,
            inverses: rounds.map(|round| inverse(round >> 14 | 1)),
            fraction: key(0),
            scale: 1.0 / f64::from(weight),
        }
    }

    fn takes_part(&self) -> bool {
        self.scale.is_finite()
    }

    /// The number that it draws for a slot: a permutation, since each step can be undone.
    fn number(&self, slot: u16) -> usize {
        let mut number = u32::from(slot);
        for round in self.rounds {
            number ^= round & MASK;
            number = number.wrapping_mul(round >> 14 | 1) & MASK;
            number ^= number >> 7;
        }
        number as usize
    }

    /// The slot for which it draws this number.
    fn slot(&self, number: usize) -> u16 {
        let mut slot = number as u32;
        for (round, inverse) in self.rounds.iter().zip(self.inverses).rev() {
            // Twice seven bits are all that there are: the step undoes itself.
            slot ^= slot >> 7;
            slot = slot.wrapping_mul(inverse) & MASK;
            slot ^= round & MASK;
        }
        slot as u16
    }

    /// What it draws behind the number: in `0..1`.
    fn fraction(&self, slot: u16) -> f64 {
        // The last steps of murmur3, as splitmix64 has them.
        let mut bits = self.fraction ^ (u64::from(slot) << 48 | u64::from(slot));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    fn lot(&self, slot: u16) -> f64 {
        self.lot_of(self.number(slot), slot)
    }

    /// `-ln((number + fraction) / SLOTS) / weight`, as straight lines between whole numbers.
    fn lot_of(&self, number: usize, slot: u16) -> f64 {
        let (worst, best) = (LOTS[number], LOTS[number + 1]);
        (worst - self.fraction(slot) * (worst - best)) * self.scale
    }

    /// Its lot, if that is less than what another has.
    fn lot_below(&self, slot: u16, least: f64) -> Option<f64> {
        let number = self.number(slot);
        // Nearly always enough, and the fraction is not needed.
        if LOTS[number + 1] * self.scale >= least {
            return None;
        }
        Some(self.lot_of(number, slot)).filter(|lot| *lot < least)
    }
}

/// What multiplied with an odd number is one, as far as the lower bits go.
fn inverse(odd: u32) -> u32 {
    // Three bits are right at first, and twice as many after each step.
    (0..4).fold(odd, |inverse, _| {
        inverse.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(inverse)))
    })
}

/// `-ln(number / SLOTS)`, summed up from the end: the logarithm of the system may differ from another's in its last bit.
static LOTS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let mut lots = vec![0.0; SLOTS + 1];
    for number in (1..SLOTS).rev() {
        lots[number] = lots[number + 1] + log_of_next(number);
    }
    // Infinite; what is beyond the first straight line must only lie far off.
    lots[0] = lots[1] + 2.0;
    lots
});

/// `ln((number + 1) / number)`: twice the area tangent of `z`, as a series.
fn log_of_next(number: usize) -> f64 {
    let z = 1.0 / (2 * number + 1) as f64;
    let (mut sum, mut power) = (0.0, z);
    for odd in (1..40).step_by(2) {
        sum += power / f64::from(odd);
        power *= z * z;
    }
    2.0 * sum
}

#[cfg(test)]
mod tests;
