//! How a ring comes to be: one of the seeds gets the votes of a majority of them and begins the log; all others join it.
//!
//! A seed gives its vote to one candidate only, on disk. The candidate is the one with the lowest name among the seeds that
//! answer, if they are a majority. Votes that were given before a lower one was seen could be split for ever, so they can be given
//! back: the candidate that has a vote, if it does not form a ring and sees that it is not the lowest, begins a new round (on
//! disk) before it says so, and counts only votes of its present round. So no vote counts for two candidates, and two
//! majorities of the same seeds share one.
//!
//! A candidate that has votes and is gone keeps them: it may have formed the ring. Others wait for it then.

use std::collections::BTreeSet;

use super::super::message::Hello;
use super::super::store::Ballot;
use crate::cluster::node::NodeId;

/// What is known of one seed: what it resolves to, and who answers there.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// Nodes that it stands for at least. A name that has one address of each family stands for one.
    pub expected: usize,
    /// Who answered.
    pub answers: Vec<Hello>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask again later.
    Wait,
    /// There is a ring.
    Join,
    /// Vote for oneself in this round and ask these for their votes; with so many in all, form the ring.
    Stand {
        /// The ballot to keep before anybody is asked.
        ballot: Ballot,
        /// Whom to ask.
        others: Vec<NodeId>,
        /// Votes needed, one's own among them.
        needed: usize,
    },
    /// Another candidate is better: keep this ballot, which takes back one's own candidature.
    Withdraw(Ballot),
    /// Ask the candidate for the vote that it has.
    AskBack {
        /// Who has it.
        candidate: NodeId,
        /// Since which round.
        round: u64,
    },
}

/// What a node that is in no ring does, given what its seeds answer. `answers` may hold this node itself.
pub fn step(me: NodeId, ballot: Ballot, seeds: &[Seed]) -> Step {
    let others = || seeds.iter().flat_map(|seed| &seed.answers);
    if others().any(|hello| hello.formed && hello.id != me) {
        return Step::Join;
    }
    if seeds.is_empty() {
        return stand(me, ballot, Vec::new(), 1);
    }
    let known: BTreeSet<NodeId> = others().map(|hello| hello.id).collect();
    if !known.contains(&me) {
        return Step::Wait;
    }
    let silent: usize = seeds.iter().map(silent).sum();
    let needed = (known.len() + silent) / 2 + 1;
    if known.len() < needed {
        return Step::Wait;
    }
    let lowest = *known.iter().next().unwrap_or(&me);
    match ballot.voted {
        Some((candidate, round)) if candidate != me && candidate != lowest => {
            Step::AskBack { candidate, round }
        }
        Some((candidate, _)) if candidate == me && lowest != me => {
            Step::Withdraw(withdrawn(ballot))
        }
        Some((candidate, _)) if candidate != me => Step::Wait,
        _ if lowest != me => Step::Wait,
        _ => {
            let others = known.into_iter().filter(|id| *id != me).collect();
            stand(me, ballot, others, needed)
        }
    }
}

/// Nodes behind a seed that did not answer.
fn silent(seed: &Seed) -> usize {
    let known: BTreeSet<NodeId> = seed.answers.iter().map(|hello| hello.id).collect();
    seed.expected.saturating_sub(known.len())
}

fn stand(me: NodeId, ballot: Ballot, others: Vec<NodeId>, needed: usize) -> Step {
    Step::Stand {
        ballot: Ballot {
            voted: Some((me, ballot.round)),
            ..ballot
        },
        others,
        needed,
    }
}

fn withdrawn(ballot: Ballot) -> Ballot {
    Ballot {
        voted: None,
        round: ballot.round + 1,
    }
}

/// Whether this node, in no ring, votes for the candidate. If so, the ballot is to be kept before the answer goes out.
///
/// `better`: the lowest name among the seeds that answered this node last.
pub fn vote(
    ballot: Ballot,
    candidate: NodeId,
    round: u64,
    better: Option<NodeId>,
) -> Option<Ballot> {
    match ballot.voted {
        Some((has, since)) => (has == candidate && since <= round).then_some(Ballot {
            voted: Some((candidate, round)),
            ..ballot
        }),
        None if better.is_some_and(|better| better < candidate) => None,
        None => Some(Ballot {
            voted: Some((candidate, round)),
            ..ballot
        }),
    }
}

/// Whether this node, in no ring, gives back a vote of that round. If so, the ballot is to be kept before the answer goes out.
pub fn release(me: NodeId, ballot: Ballot, round: u64, better: Option<NodeId>) -> Option<Ballot> {
    if round < ballot.round {
        return Some(ballot);
    }
    better.is_some_and(|better| better < me).then(|| Ballot {
        voted: ballot.voted.filter(|(has, _)| *has != me),
        round: round + 1,
    })
}
