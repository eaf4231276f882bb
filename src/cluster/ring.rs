//! Consistent hashing: where each slot should be.
//!
//! The circle is that of the 16,384 hash slots, on which CRC16 puts each key. A node has arcs of it. Who joins cuts its arcs out of
//! those of the others, from each what that has more than its share now; when a node goes its arcs fall to those that have less
//! than theirs. All else stays where it is.
//!
//! In the ring of Karger et al. (1997) chance says where the arcs begin: hashes of a node's name. So shares differ, the less the
//! more arcs there are, and with many arcs those who ask for all of them (CLUSTER SLOTS) get a long answer. Here a node's arcs
//! are chosen when it comes, as Cassandra does since 3.0 with its tokens. The price is that what [`place_again`] says depends
//! on what it said before, so that belongs to what is agreed on ([`Map::targets`](super::map::Map)). It is integers alone: the
//! same on every machine.
//!
//! # What was measured
//!
//! How far the fullest node is above the mean, in per cent, on average over names and at worst, and how many rows CLUSTER SLOTS
//! has if the nodes have come one after the other (if they come at once each has one):
//!
//! | nodes | 3 | 10 | 32 | rows at 3 | at 10 | at 32 |
//! |---|---|---|---|---|---|---|
//! | hashring, 1,024 tokens each | 2.9 (12.4) | 6.0 (11.9) | 11.4 (17.8) | 10,900 | 14,700 | 15,900 |
//! | rendezvous hashing of each slot | 1.2 (2.9) | 3.8 (8.3) | 9.0 (15.6) | 10,900 | 14,700 | 15,900 |
//! | arcs that are chosen | 0.0 | 0.0 | 0.2 | 3 | 29 | 322 |
//!
//! Nobody was two slots away from its share in any sequence of joins, ends and weights, and a newcomer got its share to within
//! one slot. To make a client's table of 10,800 rows took redis-py 220 ms and ioredis 75, each time that slots had moved.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::map::NOBODY;
use super::node::{Node, NodeState};
use super::slots::SLOTS;

/// Where each slot should be if nothing is known of before: for each slot the index of a node that is up, or [`NOBODY`] if there
/// is none at all.
///
/// A node of weight 0 gets slots only if all have weight 0; those that leave, only if nobody is up; those that have failed,
/// never.
pub fn place(nodes: &[Node]) -> Vec<u16> {
    let mut targets = vec![NOBODY; SLOTS];
    place_again(nodes, &mut targets, &[]);
    targets
}

/// Where each slot should be after some nodes were changed: `targets` says where before. `changed` are those that have another
/// weight or are new; no index is needed of those that have gone: their slots have the target [`NOBODY`], or a node that
/// may not have any.
pub fn place_again(nodes: &[Node], targets: &mut [u16], changed: &[usize]) {
    let Some(mut shares) = Shares::new(nodes, targets) else {
        return targets.fill(NOBODY);
    };
    shares.balance(changed);
    Circle::new(shares, targets).cut();
}

/// How many slots each node has, and how many it is to have.
struct Shares {
    /// Of those that may have slots; of others 0.
    weights: Vec<u32>,
    /// All of them together.
    total: i64,
    has: Vec<usize>,
    wanted: Vec<usize>,
    /// Those that may have slots by how many more they are to have than their share, the most first. What was said of a node
    /// before is still there.
    fullest: BinaryHeap<(i64, Reverse<usize>)>,
    /// The least first.
    emptiest: BinaryHeap<(Reverse<i64>, Reverse<usize>)>,
}

impl Shares {
    /// `None`: nobody may have any.
    fn new(nodes: &[Node], targets: &[u16]) -> Option<Shares> {
        let weights = weights(nodes)?;
        let mut has = vec![0; nodes.len()];
        for target in targets {
            if let Some(index) = holder(&weights, *target) {
                has[index] += 1;
            }
        }
        let mut shares = Shares {
            total: weights.iter().map(|weight| i64::from(*weight)).sum(),
            wanted: has.clone(),
            weights,
            has,
            fullest: BinaryHeap::new(),
            emptiest: BinaryHeap::new(),
        };
        (0..nodes.len()).for_each(|index| shares.note(index));
        Some(shares)
    }

    /// Gives away what nobody has, and has those that were changed take and give what makes up their shares, but for a part of
    /// a slot.
    fn balance(&mut self, changed: &[usize]) {
        for _ in self.has.iter().sum()..SLOTS {
            let to = self.emptiest();
            self.change(to, 1);
        }
        let may_have = |index: &&usize| self.weights.get(**index).is_some_and(|weight| *weight > 0);
        let changed: Vec<usize> = changed.iter().filter(may_have).copied().collect();
        for to in changed.iter().copied() {
            while self.excess(to) <= -self.total {
                let from = self.fullest();
                self.give(from, to);
            }
        }
        for from in changed.iter().copied() {
            while self.excess(from) >= self.total {
                let to = self.emptiest();
                self.give(from, to);
            }
        }
        // Parts of slots of many nodes are slots.
        while let Some(to) = changed.iter().copied().min_by_key(|to| self.excess(*to)) {
            let from = self.fullest();
            if self.excess(to) >= 0 || self.excess(from) < self.total {
                break;
            }
            self.give(from, to);
        }
        while let Some(from) = changed
            .iter()
            .copied()
            .max_by_key(|from| self.excess(*from))
        {
            let to = self.emptiest();
            if self.excess(from) <= 0 || self.excess(to) > -self.total {
                break;
            }
            self.give(from, to);
        }
    }

    fn give(&mut self, from: usize, to: usize) {
        self.change(from, -1);
        self.change(to, 1);
    }

    /// How many slots a node is to have beyond its share, times `total`: below 2^57.
    fn excess(&self, index: usize) -> i64 {
        let share = i64::from(self.weights[index]) * SLOTS as i64;
        self.wanted[index] as i64 * self.total - share
    }

    fn change(&mut self, index: usize, by: isize) {
        self.wanted[index] = self.wanted[index].saturating_add_signed(by);
        self.note(index);
    }

    fn note(&mut self, index: usize) {
        if self.weights[index] > 0 {
            let excess = self.excess(index);
            self.fullest.push((excess, Reverse(index)));
            self.emptiest.push((Reverse(excess), Reverse(index)));
        }
    }

    /// The first of those that are the furthest above their share.
    fn fullest(&mut self) -> usize {
        while let Some((excess, Reverse(index))) = self.fullest.peek().copied() {
            if excess == self.excess(index) {
                return index;
            }
            self.fullest.pop();
        }
        unreachable!("somebody may have slots, and what it has is noted")
    }

    /// The same of those below.
    fn emptiest(&mut self) -> usize {
        while let Some((Reverse(excess), Reverse(index))) = self.emptiest.peek().copied() {
            if excess == self.excess(index) {
                return index;
            }
            self.emptiest.pop();
        }
        unreachable!("somebody may have slots, and what it has is noted")
    }
}

/// What counts for the share of each node; 0 of those that may not have slots. `None`: nobody may.
fn weights(nodes: &[Node]) -> Option<Vec<u32>> {
    let up = |node: &Node| if node.is_up() { node.weight } else { 0 };
    let up_without_weight = |node: &Node| u32::from(node.is_up());
    let leaving = |node: &Node| u32::from(node.state == NodeState::Leaving);
    let ways: [&dyn Fn(&Node) -> u32; 3] = [&up, &up_without_weight, &leaving];
    ways.iter()
        .map(|weight| nodes.iter().map(weight).collect())
        .find(|weights: &Vec<u32>| weights.iter().any(|weight| *weight > 0))
}

/// Who has a slot, if it may.
fn holder(weights: &[u32], target: u16) -> Option<usize> {
    let index = usize::from(target);
    weights.get(index).filter(|weight| **weight > 0)?;
    Some(index)
}

/// The circle while arcs are cut: open between its last slot and the first, since rows of slots are.
struct Circle<'a> {
    targets: &'a mut [u16],
    /// How many slots each node is to give.
    gives: Vec<usize>,
    /// How many it is to get.
    needs: Vec<usize>,
}

/// Slots in a row that have one holder, which gives some.
struct Run {
    from: u16,
    begin: usize,
    end: usize,
}

impl<'a> Circle<'a> {
    fn new(shares: Shares, targets: &'a mut [u16]) -> Circle<'a> {
        for target in &mut *targets {
            if holder(&shares.weights, *target).is_none() {
                *target = NOBODY;
            }
        }
        let less = |(a, b): (&usize, &usize)| a.saturating_sub(*b);
        let (has, wanted) = (&shares.has, &shares.wanted);
        Circle {
            targets,
            gives: has.iter().zip(wanted).map(less).collect(),
            needs: wanted.iter().zip(has).map(less).collect(),
        }
    }

    /// Has those that need slots take them: beside what they have, then arcs that somebody gives as a whole, then parts of
    /// arcs.
    fn cut(mut self) {
        for slot in 1..SLOTS {
            self.take(slot, self.targets[slot - 1]);
        }
        for slot in (1..SLOTS).rev() {
            self.take(slot - 1, self.targets[slot]);
        }
        let mut runs = self.runs();
        for to in 0..self.needs.len() {
            while self.needs[to] > 0 {
                runs.retain_mut(|run| self.is_given(run));
                let best = |run: &&Run| {
                    let amount = self.amount(run, to);
                    (amount == run.end - run.begin, amount, Reverse(run.begin))
                };
                let Some(run) = runs.iter().max_by_key(best) else {
                    break;
                };
                let amount = self.amount(run, to);
                let is_open = |slot: usize| {
                    self.targets
                        .get(slot)
                        .is_some_and(|from| self.may_give(*from))
                };
                // Where it can grow on.
                let begin = match !is_open(run.end) && run.begin.checked_sub(1).is_some_and(is_open)
                {
                    true => run.begin,
                    false => run.end - amount,
                };
                let to = to as u16;
                (begin..begin + amount).for_each(|slot| _ = self.take(slot, to));
                let mut right = begin + amount..SLOTS;
                while right.next().is_some_and(|slot| self.take(slot, to)) {}
                let mut left = (0..begin).rev();
                while left.next().is_some_and(|slot| self.take(slot, to)) {}
            }
        }
    }

    /// How much of a run a node can take at once.
    fn amount(&self, run: &Run, to: usize) -> usize {
        let gives = self
            .gives
            .get(usize::from(run.from))
            .copied()
            .unwrap_or(SLOTS);
        gives.min(self.needs[to]).min(run.end - run.begin)
    }

    /// What nobody has is there for all.
    fn may_give(&self, from: u16) -> bool {
        self.gives
            .get(usize::from(from))
            .is_none_or(|gives| *gives > 0)
    }

    /// Gives a slot to a node that needs one, if whoever has it gives one.
    fn take(&mut self, slot: usize, to: u16) -> bool {
        let from = self.targets[slot];
        let needs = self
            .needs
            .get_mut(usize::from(to))
            .filter(|needs| **needs > 0);
        let Some(needs) = needs else { return false };
        match self.gives.get_mut(usize::from(from)) {
            Some(0) => return false,
            Some(gives) => *gives -= 1,
            None => {}
        }
        *needs -= 1;
        self.targets[slot] = to;
        true
    }

    /// What is given, as runs.
    fn runs(&self) -> Vec<Run> {
        let mut begin = 0;
        let rows = self.targets.chunk_by(|a, b| a == b).map(|row| {
            let run = Run {
                from: row[0],
                begin,
                end: begin + row.len(),
            };
            begin = run.end;
            run
        });
        rows.filter(|run| self.may_give(run.from)).collect()
    }

    /// Whether there is still something of a run that is given: others have taken from its ends.
    fn is_given(&self, run: &mut Run) -> bool {
        while run.begin < run.end && self.targets[run.begin] != run.from {
            run.begin += 1;
        }
        while run.begin < run.end && self.targets[run.end - 1] != run.from {
            run.end -= 1;
        }
        run.begin < run.end && self.may_give(run.from)
    }
}

#[cfg(test)]
pub(super) mod tests;
