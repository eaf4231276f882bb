//! Nodes that lose sight of each other while their clients still reach them.
//!
//! Each node runs in a network namespace of its own, with two interfaces: one to the clients, one to a bridge that only the
//! nodes use. A cut takes the latter down: what was sent is lost, and nobody is told. That takes root and `ip` of iproute2;
//! where they are not to be had the tests are skipped, loudly.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use crate::failures::{SLACK, all_keys_writable, read_all, says_why};
use crate::forming::answers_everywhere;
use crate::history::Loss;
use crate::load::{Load, Plan};
use crate::ring::{Options, Place, Ring};
use crate::support::{PATIENCE, Value, seed, within};

/// Namespaces, which are gone with the value.
struct Net {
    name: String,
    /// Of the addresses of this net, below 198.18.0.0/15, which is for tests.
    subnet: u8,
    count: usize,
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {words}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

impl Net {
    /// So many namespaces; `None`, after a note, where that cannot be.
    fn of(count: usize, test: &str) -> Option<Net> {
        let net = Net {
            name: format!("q{:05x}", fastrand::u32(..0x10_0000)),
            subnet: fastrand::u8(..),
            count,
        };
        let made = net.make();
        if let Err(reason) = made {
            // Not println!: the test harness hides that of a test that passes.
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: {test}: no network namespaces: {reason}"
            );
            return None;
        }
        Some(net)
    }

    fn make(&self) -> Result<(), String> {
        let (name, subnet) = (&self.name, self.subnet);
        ip(&format!("link add {name} type bridge"))?;
        ip(&format!("link set {name} up"))?;
        for node in 0..self.count {
            let space = format!("{name}n{node}");
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {space} link set lo up"))?;
            // To the clients, four addresses for each.
            let (here, there) = (4 * node + 1, 4 * node + 2);
            ip(&format!(
                "link add {name}c{node} type veth peer name clients netns {space}"
            ))?;
            ip(&format!(
                "addr add 198.18.{subnet}.{here}/30 dev {name}c{node}"
            ))?;
            ip(&format!("link set {name}c{node} up"))?;
            ip(&format!(
                "-n {space} addr add 198.18.{subnet}.{there}/30 dev clients"
            ))?;
            ip(&format!("-n {space} link set clients up"))?;
            // To the other nodes.
            ip(&format!(
                "link add {name}b{node} type veth peer name peers netns {space}"
            ))?;
            ip(&format!("link set {name}b{node} master {name} up"))?;
            ip(&format!(
                "-n {space} addr add 198.19.{subnet}.{}/24 dev peers",
                node + 1
            ))?;
            ip(&format!("-n {space} link set peers up"))?;
        }
        Ok(())
    }

    fn place(&self, node: usize) -> Place {
        let address = |second, last: usize| Ipv4Addr::new(198, second, self.subnet, last as u8);
        let (clients, peers) = (address(18, 4 * node + 2), address(19, node + 1));
        let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        Place {
            ip: clients.into(),
            bus_ip: peers.into(),
            within: words(format!("ip netns exec {}n{node}", self.name)),
            arguments: words(format!(
                "--bind 0.0.0.0 --protected-mode no --cluster-secret between-us \
                 --cluster-announce-ip {clients} --cluster-announce-bus-ip {peers}"
            )),
        }
    }

    fn ring(&self, options: Options) -> Ring {
        let places: Vec<Place> = (0..self.count).map(|node| self.place(node)).collect();
        let mut ring = Ring::prepared_at(&places, options);
        ring.nodes.iter_mut().for_each(|node| node.start());
        ring.whole();
        ring
    }

    /// Nobody hears a node any more, nor does it hear anybody.
    fn cut(&self, node: usize) {
        ip(&format!("link set {}b{node} down", self.name)).expect("we have made it");
    }

    fn heal(&self, node: usize) {
        ip(&format!("link set {}b{node} up", self.name)).expect("we have made it");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // The interfaces go with their namespaces; what was not made cannot be removed, and need not be.
        for node in 0..self.count {
            let _ = ip(&format!("netns del {}n{node}", self.name));
        }
        let _ = ip(&format!("link del {}", self.name));
    }
}

/// A node is cut off under load, with clients on both sides, until the others have taken its slots over; then it is seen
/// again.
fn is_cut_off(net: &Net, ring: Ring, victim: usize) {
    let load = Load::start(&ring, Plan::texts(seed()));
    load.goes_on_for(1000);
    let slots = ring.slots_of(victim);
    let bound = ring.options.node_timeout + SLACK;
    let begin = load.now();
    net.cut(victim);
    let others: Vec<usize> = (0..ring.nodes.len())
        .filter(|node| *node != victim)
        .collect();
    // Its own clients hear soon that it is alone.
    let refuses = |(_, reply): &(String, Value)| reply.is_error() && says_why(&reply.text());
    within(bound, "the one that is alone to refuse all keys", || {
        let answers = read_all(&ring.nodes[victim], bound)?;
        answers.iter().all(refuses).then_some(())
    });
    all_keys_writable(&ring, others[0], bound);
    ring.whole_among(&others, bound);
    let end = load.now();
    load.goes_on_for(500);
    // It has known for long that it is alone, and says so to everybody.
    let answers = read_all(&ring.nodes[victim], bound).expect("nothing is at stake any more");
    for answer in answers {
        assert!(refuses(&answer), "{answer:?}");
    }
    net.heal(victim);
    ring.whole_within(PATIENCE);
    load.goes_on_for(500);
    let report = load.stop();
    report.assert_history(&[Loss { begin, end, slots }]);
    for trouble in report.errors() {
        let took = Duration::from_micros(trouble.end - trouble.begin);
        assert!(took < bound, "{took:?}: {trouble:?}");
        // What it had done for them when its lease ended, it does not tell: it closes their connections.
        let is_untold = trouble.is_closed && trouble.node == victim;
        assert!(is_untold || says_why(&trouble.what), "{trouble:?}");
    }
    answers_everywhere(&ring);
}

/// Aim: as the name says.
#[test]
fn a_node_is_cut_off() {
    let Some(net) = Net::of(3, "a_node_is_cut_off") else {
        return;
    };
    let ring = net.ring(Options::hasty());
    let victim = (ring.leader() + 1) % 3;
    is_cut_off(&net, ring, victim);
}

/// Aim: the leader grants itself no lease that nobody else knows of.
#[test]
fn the_leader_is_cut_off() {
    let Some(net) = Net::of(3, "the_leader_is_cut_off") else {
        return;
    };
    let ring = net.ring(Options::hasty());
    let victim = ring.leader();
    is_cut_off(&net, ring, victim);
}

/// Aim: two of five, each alone: the three others go on.
#[test]
fn a_minority_is_cut_off() {
    let Some(net) = Net::of(5, "a_minority_is_cut_off") else {
        return;
    };
    let ring = net.ring(Options::hasty());
    let first = ring.leader();
    let second = (first + 1) % 5;
    let load = Load::start(&ring, Plan::texts(seed()));
    load.goes_on_for(500);
    let mut slots = ring.slots_of(first);
    let more = ring.slots_of(second);
    slots
        .iter_mut()
        .zip(more)
        .for_each(|(mine, other)| *mine |= other);
    let begin = load.now();
    net.cut(first);
    net.cut(second);
    let others: Vec<usize> = (0..5)
        .filter(|node| ![first, second].contains(node))
        .collect();
    let bound = ring.options.node_timeout + SLACK;
    all_keys_writable(&ring, others[0], bound);
    ring.whole_among(&others, bound);
    let end = load.now();
    net.heal(first);
    net.heal(second);
    ring.whole_within(PATIENCE);
    load.goes_on_for(500);
    load.stop().assert_history(&[Loss { begin, end, slots }]);
    answers_everywhere(&ring);
}

/// Aim: a cut that is shorter than a lease costs time and nothing else.
#[test]
fn a_short_cut() {
    let Some(net) = Net::of(3, "a_short_cut") else {
        return;
    };
    let ring = net.ring(Options::default());
    let load = Load::start(&ring, Plan::texts(seed()));
    for node in 0..3 {
        load.goes_on_for(200);
        net.cut(node);
        // What is sent meanwhile is lost and sent again by the system.
        let begun = load.now();
        within(PATIENCE, "a moment", || {
            (load.now() - begun > 300_000).then_some(())
        });
        net.heal(node);
    }
    load.goes_on_for(500);
    load.stop().assert_clean();
    answers_everywhere(&ring);
}
