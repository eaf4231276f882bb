//! Joins, leaves, deaths and pauses in an order that a seed decides, under load.

use std::time::Duration;

use rustix::process::Signal;

use crate::failures::{SLACK, says_why};
use crate::forming::answers_everywhere;
use crate::history::Loss;
use crate::load::{Load, Plan};
use crate::ring::{Options, Ring};
use crate::support::{PATIENCE, scaled, seed};

/// When errors may be: in microseconds since the beginning.
struct Window {
    begin: u64,
    end: u64,
}

/// Aim: whatever happens, every read is right, and errors are only where a node has died.
#[test]
fn by_chance() {
    let seed = seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut ring = Ring::of(3, Options::hasty());
    let load = Load::start(&ring, Plan::texts(seed));
    let (mut losses, mut windows) = (Vec::new(), Vec::new());
    for round in 0..4 * scaled("QUOIT_TEST_ROUNDS", 1) {
        load.goes_on_for(300);
        let running: Vec<usize> = ring.running().map(|node| node.number).collect();
        let victim = running[rng.usize(..running.len())];
        let dead: Vec<usize> = (0..ring.nodes.len())
            .filter(|node| !running.contains(node))
            .collect();
        match rng.u8(..6) {
            0 | 1 if running.len() < 6 => {
                println!("round {round}: one joins {running:?}");
                let number = ring.add();
                ring.whole();
                load.open(&ring.nodes[number]);
            }
            2 if running.len() > 3 => {
                println!("round {round}: {victim} of {running:?} leaves");
                load.close(victim);
                ring.nodes[victim].signal(Signal::TERM);
                let status = ring.nodes[victim].exited(PATIENCE);
                assert!(status.success(), "{status}");
                ring.whole();
            }
            3 if !dead.is_empty() => {
                let number = dead[rng.usize(..dead.len())];
                println!("round {round}: {number} comes back to {running:?}");
                ring.nodes[number].start();
                ring.whole();
                load.open(&ring.nodes[number]);
            }
            4 => {
                println!("round {round}: {victim} of {running:?} stands still");
                let slots = ring.slots_of(victim);
                let begin = load.now();
                load.close(victim);
                ring.nodes[victim].halt();
                let end = load.now();
                let others: Vec<usize> = running
                    .iter()
                    .copied()
                    .filter(|node| *node != victim)
                    .collect();
                ring.whole_among(&others, ring.options.node_timeout + SLACK);
                ring.nodes[victim].go_on();
                ring.whole_within(PATIENCE);
                load.open(&ring.nodes[victim]);
                windows.push(Window {
                    begin,
                    end: load.now(),
                });
                losses.push(Loss { begin, end, slots });
            }
            _ => {
                println!("round {round}: {victim} of {running:?} dies");
                let slots = ring.slots_of(victim);
                let begin = load.now();
                load.close(victim);
                ring.nodes[victim].kill();
                let end = load.now();
                losses.push(Loss { begin, end, slots });
                if running.len() == 3 || rng.bool() {
                    // At once: before or after the others have given it up.
                    ring.nodes[victim].start();
                    ring.whole_within(PATIENCE);
                    load.open(&ring.nodes[victim]);
                } else {
                    ring.whole_within(ring.options.node_timeout + SLACK);
                }
                windows.push(Window {
                    begin,
                    end: load.now(),
                });
            }
        }
    }
    load.goes_on_for(300);
    let report = load.stop();
    report.assert_history(&losses);
    for trouble in report.errors() {
        let mut among = windows.iter();
        assert!(
            among.any(|window| window.begin <= trouble.end && trouble.begin <= window.end),
            "{trouble:?}"
        );
        assert!(says_why(&trouble.what), "{trouble:?}");
        let took = Duration::from_micros(trouble.end - trouble.begin);
        assert!(
            took < ring.options.node_timeout + SLACK,
            "{took:?}: {trouble:?}"
        );
    }
    answers_everywhere(&ring);
}
