//! Many tasks on several threads call, wait, give up and are answered from elsewhere, while the other side comes and goes: every
//! ticket gets its own answer, or learns that the link broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quoit::cluster::bus::{CallError, Kind, Link};
use tokio::task::JoinSet;

use super::peers::{Event, Got, Node, identity, linked};
use super::support::{scaled, seed};

const TASKS: u64 = 32;

/// Answers frames with their payload reversed, in a random order and from several tasks; every now and then the node ends and
/// another one takes its place.
async fn serve(mut node: Node, mut rng: fastrand::Rng, ends: usize) -> Node {
    for end in 0..=ends {
        let lives = if end == ends {
            usize::MAX
        } else {
            rng.usize(200..2000)
        };
        let mut held = Vec::new();
        for _ in 0..lives {
            // Holds frames back as long as others come.
            let event = match node.event_now() {
                Some(event) => event,
                None => {
                    held.drain(..).for_each(answer);
                    node.event().await
                }
            };
            let Event::Frame(got) = event else {
                continue;
            };
            if got.payload == b"end".as_slice() {
                return node;
            }
            if got.kind == Kind::Forward {
                held.push(got);
            }
            while !held.is_empty() && rng.bool() {
                answer(held.swap_remove(rng.usize(..held.len())));
            }
        }
        let address = node.stop().await;
        node = Node::start_at(identity(2), &address).await;
    }
    node
}

fn answer(got: Got) {
    tokio::spawn(async move {
        let answered = got.answers.answer(got.id, |frame| {
            frame.extend(got.payload.iter().rev().copied());
        });
        assert_eq!(answered, Ok(()));
    });
}

/// Counts the answers and the failures that one caller saw.
async fn call(
    link: Arc<Link>,
    caller: u64,
    calls: usize,
    mut rng: fastrand::Rng,
) -> (usize, usize) {
    let (mut answered, mut failed) = (0, 0);
    for number in 0..calls {
        let mut payload = format!("{caller}:{number}:").into_bytes();
        payload.resize(payload.len() + rng.usize(..300), b'x');
        let ticket = match link.call(Kind::Forward, |frame| frame.extend_from_slice(&payload)) {
            Ok(ticket) => ticket,
            Err(error) => {
                assert_eq!(error, CallError::NotConnected);
                while link.connected().await.is_err() {}
                continue;
            }
        };
        if rng.u8(..) < 32 {
            tokio::task::yield_now().await;
            drop(ticket);
            continue;
        }
        match ticket.await {
            Ok(answer) => {
                payload.reverse();
                assert_eq!(answer, payload);
                answered += 1;
            }
            Err(error) => {
                assert_eq!(error, CallError::Broken);
                failed += 1;
            }
        }
    }
    (answered, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_ticket_gets_its_own_answer_or_breaks() {
    let seed = seed();
    let calls = scaled("QUOIT_TEST_BUS_CALLS", 400);
    let node = Node::start(identity(2)).await;
    let (_links, link) = linked(&node).await;
    let server = tokio::spawn(serve(node, fastrand::Rng::with_seed(seed), 4));
    let failures = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..TASKS {
        let (link, failures) = (Arc::clone(&link), Arc::clone(&failures));
        callers.spawn(async move {
            let rng = fastrand::Rng::with_seed(seed ^ (caller + 1));
            let (answered, failed) = call(link, caller, calls, rng).await;
            failures.fetch_add(failed, Ordering::Relaxed);
            answered
        });
    }
    let answered: usize = callers.join_all().await.into_iter().sum();
    while link.connected().await.is_err() {}
    assert_eq!(link.info().waiting, 0);
    assert_eq!(
        link.send(Kind::Forward, |frame| frame.extend_from_slice(b"end")),
        Ok(())
    );
    server.await.expect("no panic");
    let failed = failures.load(Ordering::Relaxed);
    println!("{answered} answered, {failed} failed");
    assert!(
        answered > TASKS as usize * calls / 2,
        "{answered} answered, {failed} failed"
    );
}
