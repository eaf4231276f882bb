//! Calls and their answers; links that break and come back.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use quoit::cluster::bus::frame::PAYLOAD_MAX;
use quoit::cluster::bus::net::TcpListener;
use quoit::cluster::bus::{Bus, CallError, Kind, Links, QUEUE_MAX, Ticket, auth};
use tokio::sync::mpsc;

use super::peers::{Event, Node, SILENCE, Telling, Told, identity, linked, links, node_id};

fn call(link: &Arc<quoit::cluster::bus::Link>, payload: &[u8]) -> Ticket {
    link.call(Kind::Forward, |frame| frame.extend_from_slice(payload))
        .expect("the link is connected")
}

/// Whether the answer is there already.
async fn is_waiting(ticket: &mut Ticket) -> bool {
    let mut ticket = std::pin::Pin::new(ticket);
    std::future::poll_fn(|cx| Poll::Ready(ticket.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn answers_come_in_any_order() {
    let mut node = Node::start(identity(2)).await;
    let (_links, link) = linked(&node).await;
    let tickets: Vec<Ticket> = (0..100u8).map(|index| call(&link, &[index])).collect();
    let mut frames = Vec::new();
    for index in 0..100u8 {
        let got = node.frame().await;
        // In the order in which they were sent.
        assert_eq!((got.from, got.kind), (node_id(1), Kind::Forward));
        assert_eq!(got.payload, [index].as_slice());
        frames.push(got);
    }
    // Odd ones first, the last first; from here, not from within the service.
    frames.sort_by_key(|got| (got.payload[0] % 2 == 0, u8::MAX - got.payload[0]));
    for got in frames {
        let answer = [got.payload[0], b'!'];
        let answered = got
            .answers
            .answer(got.id, |frame| frame.extend_from_slice(&answer));
        assert_eq!(answered, Ok(()));
    }
    for (index, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(ticket.await.as_deref(), Ok([index as u8, b'!'].as_slice()));
    }
}

#[tokio::test]
async fn payloads_of_all_lengths_arrive_unchanged() {
    let node = Node::start(identity(2)).await;
    let (_links, link) = linked(&node).await;
    let lengths = [4, 5, 100, 4_096, 16_383, 16_384, 16_385, 300_000, 5_000_000];
    let payload = |length: usize| {
        let mut payload = b"echo".to_vec();
        payload.extend((4..length).map(|index| (index * 31 + length) as u8));
        payload
    };
    let tickets: Vec<Ticket> = lengths
        .iter()
        .map(|length| call(&link, &payload(*length)))
        .collect();
    for (length, ticket) in lengths.iter().zip(tickets) {
        assert!(
            ticket.await == Ok(payload(*length).into()),
            "{length} bytes"
        );
    }
}

#[tokio::test]
async fn a_dropped_ticket_cancels_its_call() {
    let mut node = Node::start(identity(2)).await;
    let (_links, link) = linked(&node).await;
    let kept = call(&link, b"kept");
    let dropped = call(&link, b"dropped");
    let (first, second) = (node.frame().await, node.frame().await);
    assert_eq!(dropped.id(), second.id);
    drop(dropped);
    let cancel = node.frame().await;
    assert_eq!((cancel.kind, cancel.id), (Kind::Cancel, second.id));
    // Its place is given away, and an answer that comes all the same is nobody's.
    let next = call(&link, b"next");
    let third = node.frame().await;
    assert_ne!(third.id, second.id);
    for got in [&second, &third, &first] {
        let answered = got
            .answers
            .answer(got.id, |frame| frame.extend_from_slice(&got.payload));
        assert_eq!(answered, Ok(()));
    }
    assert_eq!(next.await.as_deref(), Ok(b"next".as_slice()));
    assert_eq!(kept.await.as_deref(), Ok(b"kept".as_slice()));
    assert_eq!(link.info().waiting, 0);
}

#[tokio::test]
async fn a_cancelled_call_may_still_be_answered() {
    let mut node = Node::start(identity(2)).await;
    let (_links, link) = linked(&node).await;
    let ticket = call(&link, b"BLPOP");
    let got = node.frame().await;
    link.cancel(ticket.id());
    let cancel = node.frame().await;
    assert_eq!((cancel.kind, cancel.id), (Kind::Cancel, got.id));
    assert_eq!(
        got.answers
            .answer(got.id, |frame| frame.extend_from_slice(b"nil")),
        Ok(())
    );
    assert_eq!(ticket.await.as_deref(), Ok(b"nil".as_slice()));
}

#[tokio::test]
async fn a_frame_may_want_no_answer() {
    let mut node = Node::start(identity(2)).await;
    let (_links, link) = linked(&node).await;
    let before = call(&link, b"before");
    assert_eq!(
        link.send(Kind::Publish, |frame| frame.extend_from_slice(b"news")),
        Ok(())
    );
    let after = call(&link, b"after");
    let order = [node.frame().await, node.frame().await, node.frame().await];
    assert_eq!(
        order.each_ref().map(|got| got.kind),
        [Kind::Forward, Kind::Publish, Kind::Forward]
    );
    assert_eq!(
        (order[1].id, order[1].payload.as_ref()),
        (0, b"news".as_slice())
    );
    drop((before, after));
}

#[tokio::test]
async fn a_broken_link_fails_its_tickets_and_connects_again() {
    let mut node = Node::start(identity(2)).await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let links = Links::new(Bus::new(identity(1), SILENCE), Arc::new(Telling(sender)));
    let link = links.link(node_id(2), &node.address, 3);
    assert_eq!(link.connected().await, Ok(node_id(2)));
    assert_eq!(told.recv().await, Some(Told::Connected(node_id(2), 3)));
    let mut ticket = call(&link, b"lost");
    node.frame().await;
    assert!(is_waiting(&mut ticket).await);
    let address = node.stop().await;
    assert_eq!(ticket.await, Err(CallError::Broken));
    assert_eq!(told.recv().await, Some(Told::Broken(node_id(2), 3)));
    let refused = link.call(Kind::Forward, |_| {}).map(|ticket| ticket.id());
    assert_eq!(refused, Err(CallError::NotConnected));
    assert_eq!(link.info().since_ms, None);

    let _node = Node::start_at(identity(2), &address).await;
    // One attempt may have been under way before it listened.
    while link.connected().await.is_err() {}
    assert_eq!(told.recv().await, Some(Told::Connected(node_id(2), 3)));
    assert_eq!(
        call(&link, b"echo").await.as_deref(),
        Ok(b"echo".as_slice())
    );
    assert!(link.info().errors >= 1);
}

/// Aim: who has the time waits through attempts that fail, as of a node that is not up yet; who has not is told in time.
#[tokio::test]
async fn a_connection_is_waited_for_through_attempts_that_fail() {
    let node = Node::start(identity(2)).await;
    let address = node.stop().await;
    let links = Links::new(Bus::new(identity(1), SILENCE), Arc::new(()));
    let link = links.link(node_id(2), &address, 0);
    assert_eq!(link.connected().await, Err(CallError::NotConnected));
    let short = Duration::from_millis(20);
    assert_eq!(link.connected_within(short).await, Err(CallError::TimedOut));
    let waiting = {
        let link = Arc::clone(&link);
        tokio::spawn(async move { link.connected_within(SILENCE).await })
    };
    let breaks = link.breaks();
    while link.breaks() == breaks {
        // One more attempt that fails.
        let _ = link.connected().await;
    }
    assert!(!waiting.is_finished());
    let _node = Node::start_at(identity(2), &address).await;
    assert_eq!(waiting.await.expect("it ends"), Ok(node_id(2)));

    let other = links.link(node_id(3), &address, 0);
    let waiting = tokio::spawn(async move { other.connected_within(SILENCE).await });
    drop(links);
    assert_eq!(
        waiting.await.expect("it ends"),
        Err(CallError::NotConnected)
    );
}

#[tokio::test]
async fn pushes_come_behind_the_answers_before_them() {
    let mut node = Node::start(identity(2)).await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let links = Links::new(Bus::new(identity(1), SILENCE), Arc::new(Telling(sender)));
    let link = links.link(node_id(2), &node.address, 0);
    assert_eq!(link.connected().await, Ok(node_id(2)));
    assert_eq!(told.recv().await, Some(Told::Connected(node_id(2), 0)));
    let mut ticket = call(&link, b"GET");
    let got = node.frame().await;
    assert_eq!(
        got.answers
            .answer(got.id, |frame| frame.extend_from_slice(b"old")),
        Ok(())
    );
    assert_eq!(
        got.answers
            .push(|frame| frame.extend_from_slice(b"invalid")),
        Ok(())
    );
    assert_eq!(
        told.recv().await,
        Some(Told::Pushed(node_id(2), 0, b"invalid".to_vec()))
    );
    assert!(!is_waiting(&mut ticket).await);

    // The service learns that the peer has gone.
    links.retain(&|id| id != node_id(2));
    assert_eq!(told.recv().await, Some(Told::Broken(node_id(2), 0)));
    assert!(matches!(node.event().await, Event::Left(id) if id == node_id(1)));
}

#[tokio::test]
async fn a_closed_link_takes_no_calls() {
    let mut node = Node::start(identity(2)).await;
    let (links, link) = linked(&node).await;
    let ticket = call(&link, b"lost");
    node.frame().await;
    drop(links);
    assert_eq!(ticket.await, Err(CallError::Broken));
    assert_eq!(
        link.send(Kind::Forward, |_| {}),
        Err(CallError::NotConnected)
    );
    assert_eq!(link.connected().await, Err(CallError::NotConnected));
}

#[tokio::test]
async fn a_node_that_moves_gets_a_new_link() {
    let first = Node::start(identity(2)).await;
    let (links, link) = linked(&first).await;
    assert!(Arc::ptr_eq(
        &link,
        &links.link(node_id(2), &first.address, 0)
    ));
    assert!(!Arc::ptr_eq(
        &link,
        &links.link(node_id(2), &first.address, 1)
    ));
    let second = Node::start(identity(2)).await;
    let moved = links.link(node_id(2), &second.address, 0);
    assert_eq!(moved.connected().await, Ok(node_id(2)));
    assert_eq!(
        link.send(Kind::Forward, |_| {}),
        Err(CallError::NotConnected)
    );
    assert_eq!(links.list().len(), 2);
}

#[tokio::test]
async fn an_address_tells_who_is_there() {
    let node = Node::start(identity(2)).await;
    let links = links(identity(2));
    let limit = Duration::from_secs(60);
    // Itself: a node finds itself among the seeds.
    assert_eq!(links.identify(&node.address, limit).await, Ok(node_id(2)));
    let answer = links
        .call(&node.address, Kind::Member, b"echo?", limit)
        .await;
    assert_eq!(answer.as_deref(), Ok(b"echo?".as_slice()));

    let address = node.stop().await;
    let links = super::peers::links(identity(2));
    assert_eq!(
        links.identify(&address, limit).await,
        Err(CallError::NotConnected)
    );
    let answer = links.call(&address, Kind::Member, b"echo?", limit).await;
    assert_eq!(answer, Err(CallError::NotConnected));
}

#[tokio::test]
async fn a_full_queue_refuses_calls() {
    // A peer that proves itself, and reads nothing after that.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let links = links(identity(1));
    let link = links.link(node_id(2), &address, 0);
    let (mut stream, _) = listener.accept().await.expect("the link connects");
    let session = auth::accept(&mut stream, &identity(2))
        .await
        .expect("it knows the secret");
    assert_eq!(session.peer, node_id(1));
    assert_eq!(link.connected().await, Ok(node_id(2)));

    let piece = vec![0; 4 << 20];
    let mut tickets = Vec::new();
    let refused = loop {
        match link.call(Kind::Transfer, |frame| frame.extend_from_slice(&piece)) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
        assert!(
            tickets.len() * piece.len() < 2 * QUEUE_MAX,
            "it takes more and more"
        );
        tokio::task::yield_now().await;
    };
    assert_eq!(refused, CallError::Full);
    let info = link.info();
    assert!(info.queued_bytes > QUEUE_MAX - piece.len(), "{info:?}");
    assert!(
        info.queued_bytes <= QUEUE_MAX + piece.len() + 64,
        "{info:?}"
    );
    // Cancelling needs no room.
    let count = tickets.len();
    assert_eq!(info.waiting, count);
    drop(tickets);
    assert_eq!(link.info().waiting, 0);
    drop(stream);
    while link.peer().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(link.info().queued_bytes, 0);
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_not_sent() {
    let mut node = Node::start(identity(2)).await;
    let (_links, link) = linked(&node).await;
    let refused = link.call(Kind::Forward, |frame| {
        frame.resize(frame.len() + PAYLOAD_MAX + 1, 0)
    });
    assert_eq!(refused.map(|ticket| ticket.id()), Err(CallError::TooLarge));
    let ticket = call(&link, b"ask for much");
    let got = node.frame().await;
    let refused = got.answers.answer(got.id, |frame| {
        frame.resize(frame.len() + PAYLOAD_MAX + 1, 0)
    });
    assert!(refused.is_err());
    assert_eq!(
        got.answers
            .answer(got.id, |frame| frame.extend_from_slice(b"no")),
        Ok(())
    );
    assert_eq!(ticket.await.as_deref(), Ok(b"no".as_slice()));
}

#[tokio::test]
async fn links_are_listed_on_both_sides() {
    let node = Node::start(identity(2)).await;
    let (links, link) = linked(&node).await;
    for _ in 0..3 {
        assert_eq!(
            call(&link, b"echo").await.as_deref(),
            Ok(b"echo".as_slice())
        );
    }
    let (outgoing, incoming) = (links.list(), node.bus.incoming());
    let [out] = outgoing.as_slice() else {
        panic!("{outgoing:?}")
    };
    let [back] = incoming.as_slice() else {
        panic!("{incoming:?}")
    };
    assert_eq!((out.incoming, back.incoming), (false, true));
    assert_eq!((out.peer, back.peer), (Some(node_id(2)), Some(node_id(1))));
    assert_eq!((&out.address, out.lane), (&node.address, 0));
    assert!(out.since_ms.is_some() && back.since_ms.is_some());
    assert_eq!((out.frames_sent, out.frames_received), (3, 3));
    assert_eq!((back.frames_received, back.frames_sent), (3, 3));
    assert_eq!((out.bytes_sent, out.bytes_received), (3 * 33, 3 * 33));
    assert_eq!((out.queued_bytes, out.waiting, out.errors), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_link_to_an_address_goes_when_nobody_uses_it() {
    let mut node = Node::start(identity(2)).await;
    let links = links(identity(1));
    let limit = Duration::from_secs(60);
    assert_eq!(links.identify(&node.address, limit).await, Ok(node_id(2)));
    let link = links.address(&node.address).expect("there is room");
    assert_eq!(link.peer(), Some(node_id(2)));
    // A minute later, without a call; a call that waits keeps it.
    let mut ticket = call(&link, b"slow");
    let got = node.frame().await;
    assert!(tokio::time::timeout(2 * limit, &mut ticket).await.is_err());
    assert_eq!(got.answers.answer(got.id, |_| {}), Ok(()));
    assert_eq!(ticket.await.as_deref(), Ok([].as_slice()));
    assert!(matches!(node.event().await, Event::Left(id) if id == node_id(1)));
    assert_eq!(link.connected().await, Err(CallError::NotConnected));
    assert!(links.list().is_empty());
    // Whoever asks again gets another one.
    assert_eq!(links.identify(&node.address, limit).await, Ok(node_id(2)));
    assert_eq!(links.list().len(), 1);
}
