//! Strangers at the port of the bus: they get nothing, and harm nobody.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::forming::answers_everywhere;
use crate::load::{Load, Plan};
use crate::ring::{Options, Ring};
use crate::support::{PATIENCE, scaled, seed, within};

/// What a node may grow by, whatever strangers send: less than a single frame of those who may.
const GROWTH: usize = 48 << 20;

fn connect(ring: &Ring, node: usize) -> TcpStream {
    let address = SocketAddr::new(ring.nodes[node].place.ip, ring.nodes[node].ports.bus);
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the bus listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    stream
}

/// Whether the node ends the connection, and what it says before that.
fn ends(stream: &mut TcpStream) -> Option<usize> {
    let mut bytes = [0; 4096];
    let mut all = 0;
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Some(all),
            Ok(count) => all += count,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Some(all),
            Err(_) => return None,
        }
    }
}

/// Aim: random bytes, giant lengths, frames cut off, and connections that say nothing: each is closed, with a few words at
/// most; the ring works all the while, and does not grow.
#[test]
fn noise() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let ring = Ring::of(2, Options::hasty().and(&["--cluster-secret", "between-us"]));
    let load = Load::start(&ring, Plan::all_forms(seed()));
    let before: Vec<usize> = ring.nodes.iter().map(|node| node.rss_bytes()).collect();
    let mut silent = Vec::new();
    for round in 0..40 * scaled("QUOIT_TEST_ROUNDS", 1) {
        let node = round % 2;
        let mut stream = connect(&ring, node);
        let bytes: Vec<u8> = match round % 5 {
            0 => (0..rng.usize(1..5000)).map(|_| rng.u8(..)).collect(),
            1 => [&u32::MAX.to_be_bytes()[..], &[1; 100]].concat(),
            2 => [&(64_u32 << 20).to_be_bytes()[..], &[0; 100]].concat(),
            3 => [&600_u32.to_be_bytes()[..], &[3; 300]].concat(),
            _ => b"GET / HTTP/1.1\r\nHost: ring\r\n\r\n".to_vec(),
        };
        // It may end the connection while we send.
        let _ = stream.write_all(&bytes);
        if round % 5 == 3 && rng.bool() {
            silent.push(stream);
            continue;
        }
        let _ = stream.shutdown(Shutdown::Write);
        let said = ends(&mut stream).expect("the node ends the connection");
        assert!(said < 1024, "{said} bytes for a stranger");
    }
    silent.extend((0..100).map(|number| connect(&ring, number % 2)));
    // Nobody waits for ever for those who say nothing.
    for mut stream in silent {
        assert!(
            ends(&mut stream).is_some(),
            "a silent connection stays open"
        );
    }
    load.goes_on_for(500);
    load.stop().assert_clean();
    for (node, before) in ring.nodes.iter().zip(before) {
        let after = node.rss_bytes();
        assert!(after < before + GROWTH, "from {before} to {after} bytes");
    }
    ring.whole();
    answers_everywhere(&ring);
}

/// Aim: what a real node said to another one, said again by somebody who listened, is refused.
#[test]
fn replay() {
    let secret = ["--cluster-secret", "between-us"];
    let mut ring = Ring::of(1, Options::hasty().and(&secret));
    let bus = ring.nodes[0].ports.bus;
    // A listener between the second node and the first.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let all = Arc::clone(&heard);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            all.lock().expect("nobody panics with it").push(Vec::new());
            let Ok(onward) = TcpStream::connect((Ipv4Addr::LOCALHOST, bus)) else {
                continue;
            };
            let pairs = [
                (
                    stream.try_clone(),
                    onward.try_clone(),
                    Some(Arc::clone(&all)),
                ),
                (onward.try_clone(), stream.try_clone(), None),
            ];
            for (from, to, heard) in pairs {
                let (Ok(from), Ok(to)) = (from, to) else {
                    continue;
                };
                std::thread::spawn(move || carry(from, to, heard, number));
            }
        }
    });
    let seed = format!("127.0.0.1:{}@{port}", ring.nodes[0].ports.client);
    let joined = ring.add_with(&["--cluster-seeds", &seed]);
    ring.whole();
    answers_everywhere(&ring);
    let recorded = heard.lock().expect("nobody panics with it").clone();
    let longest = recorded.iter().map(Vec::len).max();
    assert!(
        longest.is_some_and(|bytes| bytes > 200),
        "{longest:?} bytes were heard"
    );
    let errors_before = ring.whole_within(PATIENCE);
    println!(
        "whole after {errors_before:?}; {} connections heard",
        recorded.len()
    );
    for bytes in recorded {
        let mut stream = connect(&ring, 0);
        let _ = stream.write_all(&bytes);
        assert!(
            ends(&mut stream).is_some(),
            "a replayed connection stays open"
        );
    }
    assert!(ring.nodes[joined].is_running());
    ring.whole();
    answers_everywhere(&ring);
}

/// Carries bytes, and keeps a copy.
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    heard: Option<Arc<Mutex<Vec<Vec<u8>>>>>,
    number: usize,
) {
    let mut bytes = [0; 4096];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
        if let Some(heard) = &heard {
            let mut heard = heard.lock().expect("nobody panics with it");
            heard[number].extend(&bytes[..count]);
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Aim: peers of another version, ring or secret knock for as long as they live; the ring's log does not fill up with it.
#[test]
fn wrong_secrets_are_not_heard() {
    let mut ring = Ring::of(2, Options::hasty().and(&["--cluster-secret", "one"]));
    let strangers: Vec<usize> = (0..3)
        .map(|number| ring.add_with(&["--cluster-secret", &format!("other-{number}")]))
        .collect();
    for stranger in &strangers {
        within(PATIENCE, "a stranger to be refused", || {
            let log = ring.nodes[*stranger].log();
            log.contains("cluster bus").then_some(())
        });
    }
    let load = Load::start(&ring, Plan::all_forms(seed()));
    strangers.iter().for_each(|stranger| load.close(*stranger));
    load.goes_on_for(2000);
    let report = load.stop();
    let among: Vec<_> = report
        .errors()
        .into_iter()
        .filter(|trouble| trouble.node < 2)
        .collect();
    assert!(among.is_empty(), "{among:#?}");
    ring.whole_among(&[0, 1], Duration::from_secs(5));
    let lines = ring.nodes[0].log().lines().count();
    assert!(lines < 200, "{lines} lines");
}
