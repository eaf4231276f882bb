//! Slots that come back, from others than before; slots that come to a node that does not know it yet, or has no lease.

use super::*;
use crate::cluster::Owner;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_begins_anew_gives_up_nothing_that_another_brings() {
    // Found by tests/simulation (Cuts, seeds 5 and 12): who once brought a slot that was lost since and came from another node
    // began anew, and what had come from the other was worth nothing: acknowledged writes were lost.
    let net = Net::new(3, &[]);
    let cleaning = net.start(1);
    let tag = usize::from(slot_of(b"tag"));
    let begin = |number, slots: &SlotSet| transfer::write_begin(number, 1, slots.iter());
    assert_eq!(net.ask(0, begin(7, &one_slot())).await, Verdict::Done);
    assert_eq!(net.ask(0, transfer::write_complete(7)).await, Verdict::Done);
    net.change(|map| map.owners[tag] = 1);
    net.change(|map| {
        map.owners[tag] = 2;
        map.targets[tag] = 2;
    });
    let is_swept = |view: &View| view.hidden.is_none();
    assert!(net.cluster(1).wait_for(LONG, is_swept).await);

    assert_eq!(net.ask(2, begin(8, &one_slot())).await, Verdict::Done);
    let mut chunk = transfer::Chunk::new(8);
    let life = transfer::Life {
        expiry: None,
        usage: transfer::Usage::Idle(0),
    };
    chunk.text(0, b"{tag}1", life, false, b"value");
    assert_eq!(net.ask(2, chunk.finish()).await, Verdict::Done);
    assert_eq!(net.ask(2, transfer::write_complete(8)).await, Verdict::Done);
    let other: SlotSet = [slot_of(b"other")].into_iter().collect();
    assert_eq!(net.ask(0, begin(9, &other)).await, Verdict::Done);
    net.change(|map| {
        map.owners[tag] = 1;
        map.targets[tag] = 1;
    });
    let view = net.cluster(1).view();
    assert_eq!(view.owner(slot_of(b"tag")), Owner::Here, "it is not held");
    assert_eq!(net.content(1).len(), 1);
    cleaning.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_lease_is_given_no_slots() {
    // Found by redis-rs: a node that had just been let in owned slots half a second before it could serve them.
    let net = Net::new(2, &[]);
    net.cluster(1).set_lease(Instant::now());
    let begin = |number| transfer::write_begin(number, 1, one_slot().iter());
    assert_eq!(net.ask(0, begin(1)).await, Verdict::Unknown);
    let asked = tokio::spawn({
        let (net, begin) = (Arc::clone(&net), begin(2));
        async move { net.ask(0, begin).await }
    });
    net.cluster(1).set_lease(Instant::now() + LONG);
    assert_eq!(asked.await.expect("it is answered"), Verdict::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_all_keys_of_a_slot_sends_nobody_back() {
    // Found by ioredis: whoever had given a slot away sent clients to the next owner, which had not heard of it yet and sent
    // them back, until they gave up.
    let net = Net::new(2, &[]);
    let mut user = net.connect(1);
    let get: &[&[u8]] = &[b"GET", b"{tag}1"];
    let moved = format!("-MOVED {} 127.0.0.1:0\r\n", slot_of(b"tag"));
    let begin = transfer::write_begin(7, 1, one_slot().iter());
    assert_eq!(net.ask(0, begin).await, Verdict::Done);
    user.send(1, get).await;
    assert_eq!(user.reply(1).await, moved.as_bytes());
    assert_eq!(net.ask(0, transfer::write_complete(7)).await, Verdict::Done);
    user.send(1, get).await;
    let early = tokio::time::timeout(Duration::from_millis(20), user.reply(1)).await;
    assert!(early.is_err(), "{early:?}");
    net.change(|map| map.owners[usize::from(slot_of(b"tag"))] = 1);
    assert_eq!(user.reply(1).await, b"$-1\r\n");

    // It does not wait for long for what does not come.
    let other = slot_of(b"other");
    assert_ne!(other, slot_of(b"tag"));
    let begin = transfer::write_begin(8, 1, [other].into_iter());
    assert_eq!(net.ask(0, begin).await, Verdict::Done);
    assert_eq!(net.ask(0, transfer::write_complete(8)).await, Verdict::Done);
    user.send(1, &[b"GET", b"other"]).await;
    let moved = format!("-MOVED {other} 127.0.0.1:0\r\n");
    assert_eq!(user.reply(1).await, moved.as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_has_just_ended_is_waited_for() {
    // Found by tests/simulation (Calm, seed 31): the leader left, and the leases that it had renewed ended a moment before there
    // was another one.
    let net = Net::new(1, &[]);
    let mut user = net.connect(0);
    let get: &[&[u8]] = &[b"GET", b"{tag}1"];
    net.cluster(0).set_lease(Instant::now());
    user.send(0, get).await;
    let early = tokio::time::timeout(Duration::from_millis(20), user.reply(0)).await;
    assert!(early.is_err(), "{early:?}");
    net.cluster(0).set_lease(Instant::now() + LONG);
    assert_eq!(user.reply(0).await, b"$-1\r\n");
    // One that was over long ago is not.
    net.cluster(0).set_lease(Instant::now() - LONG);
    user.send(0, get).await;
    assert_eq!(user.reply(0).await, b"-CLUSTERDOWN The cluster is down\r\n");
}
