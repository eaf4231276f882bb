//! Changes, wherever they are proposed; snapshots.

use super::*;

/// The first three of some nodes join one after the other: the first of all leads.
async fn three_in_turn(nodes: usize, seed: u64) -> Ring {
    let mut ring = Ring::of(nodes, 1, seed);
    for index in 0..3 {
        ring.start(index).await;
        ring.whole().await;
    }
    ring
}

#[tokio::test(start_paused = true)]
async fn a_change_may_be_proposed_anywhere_and_is_applied_there_when_it_returns() {
    let mut ring = three_in_turn(3, 500).await;
    for (index, weight) in [(0, 50), (1, 60), (2, 70)] {
        let agreement = ring.peers[index].agreement.clone().expect("it runs");
        let epoch = agreement
            .propose(Change::Weight(agreement.id(), weight))
            .await;
        let map = ring.peers[index].map().expect("it has one");
        assert_eq!(epoch, Ok(map.epoch));
        assert_eq!(
            map.node(agreement.id()).map(|node| node.weight),
            Some(weight)
        );
        let again = agreement
            .propose(Change::Weight(agreement.id(), weight))
            .await;
        assert_eq!(again, Err(ProposeError::NoEffect));
    }
    ring.whole().await;
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_only_a_leader_or_an_owner_may_propose_is_refused() {
    let mut ring = three_in_turn(3, 510).await;
    let ids: Vec<NodeId> = ring.peers.iter().map(Peer::id).collect();
    let epoch = ring.peers[0].map().expect("it has one").epoch;
    let agreement = ring.peers[1].agreement.clone().expect("it runs");
    let moved = Change::Moved {
        slots: vec![1],
        from: ids[0],
        to: ids[2],
    };
    for change in [Change::Failed(ids[0], 1), moved] {
        let refused = agreement.propose(change).await;
        assert!(
            matches!(refused, Err(ProposeError::Refused(_))),
            "{refused:?}"
        );
    }
    ring.run(T).await;
    assert_eq!(ring.peers[0].map().expect("it has one").epoch, epoch);
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_a_proposal_gives_up() {
    let mut ring = three_in_turn(3, 520).await;
    ring.kill(1).await;
    ring.kill(2).await;
    let agreement = ring.peers[0].agreement.clone().expect("it runs");
    let begin = Instant::now();
    let result = agreement.propose(Change::Weight(agreement.id(), 1)).await;
    assert_eq!(result, Err(ProposeError::Unavailable));
    assert!(begin.elapsed() <= T * 2 + STEP, "{:?}", begin.elapsed());
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_sent_often_over_a_bad_network_is_made_once() {
    let mut ring = three_in_turn(3, 530).await;
    ring.net.0.lock().loss = 300;
    let before = ring.peers[0].map().expect("it has one").epoch;
    let mut made = 0;
    for weight in 200..220 {
        let agreement = ring.peers[2].agreement.clone().expect("it runs");
        if agreement
            .propose(Change::Weight(agreement.id(), weight))
            .await
            .is_ok()
        {
            made += 1;
        }
    }
    ring.net.0.lock().loss = 0;
    assert!(made > 0);
    ring.moving = false;
    ring.run(T).await;
    let after = ring.peers[2].map().expect("it has one");
    let weights = after.epoch - before;
    assert!(weights >= made && weights <= 60, "{weights} of {made}");
    ring.moving = true;
    ring.whole().await;
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_changes_become_a_snapshot_which_a_late_node_gets() {
    let mut ring = three_in_turn(4, 540).await;
    let agreement = ring.peers[0].agreement.clone().expect("it runs");
    for weight in 0..30 {
        let change = Change::Weight(agreement.id(), 100 + weight % 2);
        agreement.propose(change).await.ok();
    }
    for _ in 0..1200 {
        // An entry all the same.
        let change = Change::Weight(NodeId([0; 20]), 1);
        let nothing = agreement.propose(change).await;
        assert_eq!(nothing, Err(ProposeError::NoEffect));
    }
    ring.whole().await;
    for peer in &ring.peers[..3] {
        let bytes = peer.disk.bytes().len();
        assert!(bytes < 1 << 20, "it is bounded: {bytes}");
    }
    ring.start(3).await;
    ring.whole().await;
    assert_eq!(ring.peers[3].map(), ring.peers[0].map());
    assert!(
        ring.peers[3].ear.0.lock().maps.len() < 30,
        "it did not get every change"
    );
    assert_eq!(ring.peers[3].map().expect("it has one").pins.databases, [1]);
    // And from that, all of them come back.
    for index in 0..4 {
        ring.kill(index).await;
    }
    ring.start_all(0..4).await;
    ring.shutdown().await;
}
