//! What happens to a ring, by chance.

use std::rc::Rc;
use std::time::Duration;

use quoit::cluster::slots::slot_of;

use crate::clients::{Load, PATIENCE, Worker};
use crate::history::{Operation, violations};
use crate::world::{Phase, SEEDS, T, World, Wrong};

/// Nodes that there are at most.
const NODES: usize = 7;
const WRITERS: usize = 2;
const READERS: usize = 2;
/// How soon a ring is whole that nothing happens to any more: failures are found, elections held, those who return have
/// joined, and all slots have moved to where they belong.
const WHOLE: Duration = T.saturating_mul(12);

/// Errors that a client has to expect when nodes die and the network fails.
const ALLOWED: &[&str] = &[
    "-CLUSTERDOWN ",
    "-ERR the node that owns the key was lost before it answered: the command may have been executed",
    // Of MGET, whose keys are asked for at several nodes.
    "-TRYAGAIN ",
];

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nodes come and leave: no client sees an error, nothing is lost.
    Calm,
    /// They die and come back, too, and the network fails in all ways.
    Storm,
    /// Some are cut off for so long that they are taken for dead, and come back: each time their slots go and return.
    Cuts,
}

/// A run that went well.
pub struct Report {
    pub operations: usize,
    pub errors: usize,
    pub epochs: usize,
    pub losses: usize,
    /// Of everything that clients saw and when the maps changed.
    pub trace: u64,
    /// How long it took until the ring was whole in the end.
    pub healed: Duration,
}

/// What went wrong, and all that happened before.
pub struct Failure {
    pub wrong: Wrong,
    pub story: String,
}

/// Runs the schedule of a seed.
pub fn run(kind: Kind, seed: u64) -> Result<Report, Failure> {
    let mut run = Run {
        kind,
        rng: fastrand::Rng::with_seed(seed),
        world: World::new(seed, NODES),
        is_cut: false,
    };
    let done = run.all();
    let story = run.world.story();
    done.map_err(|wrong| Failure { wrong, story })
}

struct Run {
    kind: Kind,
    rng: fastrand::Rng,
    world: World,
    /// Whether the network is not as it should be.
    is_cut: bool,
}

impl Run {
    fn all(&mut self) -> Result<Report, Wrong> {
        self.form()?;
        let load = Load::new(Rc::clone(&self.world.shared), WRITERS);
        for writer in 0..WRITERS {
            let worker = Worker::new(&load, self.rng.u64(..));
            let client = worker.write_all(writer);
            self.world.sim.client(format!("writer-{writer}"), client);
        }
        for reader in 0..READERS {
            let worker = Worker::new(&load, self.rng.u64(..));
            let client = worker.read_all();
            self.world.sim.client(format!("reader-{reader}"), client);
        }
        let rest = self.rng.u64(10..500);
        self.world.run(Duration::from_millis(rest))?;
        for _ in 0..self.rng.usize(3..9) {
            if self.kind == Kind::Cuts {
                self.cut_and_heal()?;
                continue;
            }
            self.event();
            let rest = match self.rng.u32(0..3) {
                0 => self.rng.u64(1..50),
                1 => self.rng.u64(50..500),
                _ => self.rng.u64(500..3000),
            };
            self.world.run(Duration::from_millis(rest))?;
            if self.kind == Kind::Calm && self.rng.bool() {
                self.whole()?;
            }
        }
        self.heal();
        let mut down = self.world.in_phase(Phase::Dead);
        // Those who could not leave, since they were alone: the ring ended with them, and goes on with them.
        let gone = self.world.in_phase(Phase::Gone).into_iter();
        down.extend(gone.filter(|node| self.world.is_member(*node)));
        for node in down {
            self.world.start(node);
        }
        self.world.note("the end begins");
        let healed = self.whole()?;
        let rest = self.rng.u64(10..300);
        self.world.run(Duration::from_millis(rest))?;
        load.stop();
        self.clients_end()?;
        let worker = Worker::new(&load, self.rng.u64(..));
        self.world.sim.client("last", worker.read_each());
        self.clients_end()?;
        self.judge(&load)?;
        let operations = load.operations.borrow();
        Ok(Report {
            operations: operations.len(),
            errors: load.troubles.borrow().len(),
            epochs: self.world.epochs(),
            losses: self.world.losses().len(),
            trace: self.trace(&operations),
            healed,
        })
    }

    /// Waits until all clients have ended: none waits for a reply for longer than its patience.
    fn clients_end(&mut self) -> Result<(), Wrong> {
        self.world.step()?;
        let ended = |world: &World| world.clients_ended;
        self.world.until("all clients end", 2 * PATIENCE, ended)?;
        Ok(())
    }

    /// The first nodes start within a moment, in any order.
    fn form(&mut self) -> Result<(), Wrong> {
        let mut nodes: Vec<usize> = (0..self.rng.usize(SEEDS..=5)).collect();
        self.rng.shuffle(&mut nodes);
        for node in nodes {
            self.world.start(node);
            let rest = self.rng.u64(0..300);
            self.world.run(Duration::from_millis(rest))?;
        }
        self.whole().map(|_| ())
    }

    fn whole(&mut self) -> Result<Duration, Wrong> {
        let have_ended = |world: &World| world.in_phase(Phase::Leaving).is_empty();
        let ending = self.world.until("who leaves ends", WHOLE, have_ended)?;
        // Nobody is told of the ring but by seeds. Where none is in it they come back: whoever left last remembers who was in it,
        // and is, while those that an earlier one remembers may have left, too.
        let is_in = |seed| self.world.phase(seed) == Phase::Up && self.world.is_member(seed);
        if !self.world.is_whole() && !(0..SEEDS).any(is_in) {
            let mut down = self.world.in_phase(Phase::Gone);
            down.extend(self.world.in_phase(Phase::Dead));
            for seed in down.into_iter().filter(|node| *node < SEEDS) {
                self.world.start(seed);
            }
        }
        let took = self.world.until("the ring is whole", WHOLE, |world| {
            have_ended(world) && world.is_whole()
        })?;
        let took = ending + took;
        self.world
            .note(&format!("whole after {} ms", took.as_millis()));
        Ok(took)
    }

    /// A few are cut off until the others have their slots, then not any more, until they have them again.
    fn cut_and_heal(&mut self) -> Result<(), Wrong> {
        let up = self.world.in_phase(Phase::Up);
        self.cut(&up);
        let rest = T + Duration::from_millis(self.rng.u64(0..1000));
        self.world.run(rest)?;
        self.heal();
        if self.rng.bool() {
            self.whole()?;
        }
        let rest = self.rng.u64(0..700);
        self.world.run(Duration::from_millis(rest))
    }

    /// Something happens, if it can.
    fn event(&mut self) {
        let kinds = match self.kind {
            Kind::Calm => 2,
            Kind::Storm | Kind::Cuts => 9,
        };
        let up = self.world.in_phase(Phase::Up);
        // More than half of the members are always there: otherwise nothing can be agreed on.
        let may_lose_one = 2 * (up.len() - 1) > self.world.members().max(up.len());
        match self.rng.u32(0..kinds) {
            0 => self.come(),
            1 if up.len() > 2 && self.world.in_phase(Phase::Leaving).is_empty() => {
                let node = self.any(&up);
                self.world.ask_to_leave(node);
            }
            2 | 3 if may_lose_one => {
                let node = self.any(&up);
                self.world.kill(node);
            }
            4 => self.cut(&up),
            5 => self.slow(&up),
            6 => self.lossy(&up),
            7 => self.one_way(&up),
            8 if self.is_cut => self.heal(),
            _ => self.come(),
        }
    }

    fn any(&mut self, nodes: &[usize]) -> usize {
        nodes[self.rng.usize(..nodes.len())]
    }

    /// Somebody joins, or comes back.
    fn come(&mut self) {
        let mut down = self.world.in_phase(Phase::Absent);
        down.truncate(1);
        down.extend(self.world.in_phase(Phase::Gone));
        down.extend(self.world.in_phase(Phase::Dead));
        if !down.is_empty() {
            let node = self.any(&down);
            self.world.start(node);
        }
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let there = |node: &usize| self.world.phase(*node) != Phase::Absent;
        let nodes: Vec<usize> = (0..NODES).filter(there).collect();
        let mut pairs = Vec::new();
        for (at, one) in nodes.iter().enumerate() {
            for other in &nodes[at + 1..] {
                pairs.push((self.world.name(*one), self.world.name(*other)));
            }
        }
        pairs
    }

    /// A few are cut off from the others.
    fn cut(&mut self, up: &[usize]) {
        // Less than half, or the others cannot go on either.
        let most = match self.kind {
            Kind::Cuts => (up.len() - 1) / 2,
            Kind::Calm | Kind::Storm => up.len().div_ceil(2),
        };
        let count = self.rng.usize(1..=most);
        let mut side = up.to_vec();
        self.rng.shuffle(&mut side);
        side.truncate(count);
        let names: Vec<String> = side.iter().map(|node| self.world.name(*node)).collect();
        self.world.note(&format!("cut off: {}", names.join(" ")));
        for (one, other) in self.pairs() {
            if names.contains(&one) != names.contains(&other) {
                self.world.sim.partition(one, other);
            }
        }
        self.is_cut = true;
    }

    /// What one sends does not reach another, the other way is open.
    fn one_way(&mut self, up: &[usize]) {
        let (from, to) = (self.any(up), self.any(up));
        if from != to {
            let (from, to) = (self.world.name(from), self.world.name(to));
            self.world.note(&format!("{from} does not reach {to}"));
            self.world.sim.partition_oneway(from, to);
            self.is_cut = true;
        }
    }

    /// The ways of one are slow.
    fn slow(&mut self, up: &[usize]) {
        let node = self.any(up);
        let name = self.world.name(node);
        let latency = Duration::from_millis(self.rng.u64(5..150));
        self.world.note(&format!("{name} is {latency:?} away"));
        for (one, other) in self.pairs() {
            if one == name || other == name {
                self.world
                    .sim
                    .set_link_max_message_latency(one, other, latency);
            }
        }
        self.is_cut = true;
    }

    /// The ways of one lose messages.
    fn lossy(&mut self, up: &[usize]) {
        let node = self.any(up);
        let name = self.world.name(node);
        let rate = self.rng.f64() * 0.02;
        self.world.note(&format!("{name} loses {rate:.4}"));
        for (one, other) in self.pairs() {
            if one == name || other == name {
                self.world.sim.set_link_fail_rate(one, other, rate);
            }
        }
        self.is_cut = true;
    }

    fn heal(&mut self) {
        self.world.note("the network is well");
        let latency = Duration::from_millis(4);
        for (one, other) in self.pairs() {
            let sim = &mut self.world.sim;
            sim.set_link_fail_rate(one.as_str(), other.as_str(), 0.0);
            sim.set_link_max_message_latency(one.as_str(), other.as_str(), latency);
            sim.repair(one, other);
        }
        self.is_cut = false;
    }

    fn judge(&mut self, load: &Load) -> Result<(), Wrong> {
        let losses = self.world.losses();
        let troubles = load.troubles.borrow();
        let refused = |what: &str| ALLOWED.iter().any(|allowed| what.starts_with(allowed));
        let bad: Vec<_> = troubles
            .iter()
            .filter(|trouble| match self.kind {
                // A node that has left closes its connections.
                Kind::Calm => trouble.is_error || trouble.is_hang,
                Kind::Storm | Kind::Cuts => {
                    trouble.is_hang || trouble.is_error && !refused(&trouble.what)
                }
            })
            .collect();
        let mut wrong = Vec::new();
        for trouble in bad.iter().take(10) {
            wrong.push(trouble.to_string());
        }
        if self.kind == Kind::Calm && !losses.is_empty() {
            wrong.push(format!("{} owners were taken for dead", losses.len()));
        }
        let operations = load.operations.borrow();
        let found = violations(&operations, &losses);
        wrong.extend(found.iter().take(10).cloned());
        if let Some((key, _)) = found.first().and_then(|what| what.split_once(": ")) {
            wrong.push(format!("all of {key}, slot {}:", slot_of(key.as_bytes())));
            for one in operations.iter().filter(|one| one.key == key) {
                wrong.push(format!("  {one:?}"));
            }
            wrong.push(self.world.story_of(slot_of(key.as_bytes())));
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("\n")),
        }
    }

    fn trace(&self, operations: &[Operation]) -> u64 {
        let mut text = String::new();
        for one in operations {
            text += &format!("{one:?}\n");
        }
        for epoch in self.world.times_of_epochs() {
            text += &format!("{epoch:?}\n");
        }
        // FNV-1a: the same in each process.
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
