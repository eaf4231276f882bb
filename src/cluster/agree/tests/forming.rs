//! Rings come to be.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_node_forms_a_ring_alone() {
    // Aim: without seeds, and with itself as the only one; its lease is for ever.
    for seeds in [0, 1] {
        let mut ring = Ring::of(1, seeds, 1);
        ring.start(0).await;
        let took = ring.whole().await;
        assert!(took < T, "{took:?}");
        assert_eq!(ring.peers[0].owned(), SLOTS);
        let map = ring.peers[0].map().expect("there is one");
        assert_eq!(map.pins.databases, [1], "what the founder pins holds");
        ring.until("it is known to be alone", T, |ring| {
            ring.peers[0]
                .lease()
                .is_some_and(|until| until > Instant::now() + T * 1000)
        })
        .await;
        ring.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_for_a_majority_of_its_seeds() {
    let mut ring = Ring::of(3, 3, 2);
    ring.start(1).await;
    ring.run(T * 10).await;
    assert_eq!(ring.peers[1].status().standing, Standing::Seeking);
    assert!(ring.peers[1].map().is_none());
    ring.start(2).await;
    ring.until("two of three form the ring", T, |ring| {
        ring.running()
            .all(|peer| peer.status().standing == Standing::Member)
    })
    .await;
    ring.start(0).await;
    ring.whole().await;
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn three_nodes_form_one_ring_in_any_order() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (number, order) in orders.into_iter().enumerate() {
        for gap in [Duration::ZERO, Duration::from_millis(130), T * 2] {
            let mut ring = Ring::of(3, 3, 10 + number as u64);
            for index in order {
                ring.start(index).await;
                ring.run(gap).await;
            }
            ring.whole().await;
            let status = ring.peers[0].status();
            assert_eq!(status.voters.len(), 3);
            ring.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_seeds_that_start_at_once_form_one_ring() {
    // Aim: votes that are split at first are given back.
    for seed in 100..115 {
        let mut ring = Ring::of(5, 5, seed);
        ring.net.0.lock().loss = 200;
        for index in 0..5 {
            ring.start(index).await;
            let pause = ring.net.0.lock().chance.u64(0..400);
            ring.run(Duration::from_millis(pause)).await;
        }
        ring.run(T).await;
        ring.net.0.lock().loss = 0;
        ring.whole().await;
        ring.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ring_grows_and_its_voters_with_it() {
    let mut ring = Ring::of(9, 1, 3);
    for (index, voters) in [1, 1, 3, 3, 5, 5, 7, 7, 7].into_iter().enumerate() {
        ring.start(index).await;
        ring.whole().await;
        assert_eq!(ring.peers[0].status().voters.len(), voters);
    }
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_stands_for_many_seeds() {
    // Aim: a headless service: every node has the same one name as its seed, and each of them is behind it.
    let mut ring = Ring::of(3, 0, 4);
    ring.seeds = vec!["ring.local:17000".to_owned()];
    let all: Vec<String> = (0..3).map(address).collect();
    ring.net.0.lock().names.insert(ring.seeds[0].clone(), all);
    ring.start_all(0..3).await;
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_of_both_families_is_one_node() {
    let mut ring = Ring::of(1, 0, 5);
    ring.seeds = vec!["localhost:17000".to_owned()];
    let both = vec!["[::1]:17000".to_owned(), address(0)];
    ring.net.0.lock().names.insert(ring.seeds[0].clone(), both);
    ring.start(0).await;
    ring.whole().await;
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_pins_otherwise_is_not_let_in() {
    let mut ring = Ring::of(2, 1, 6);
    ring.start(0).await;
    ring.whole().await;
    ring.pins.databases = vec![2];
    ring.start(1).await;
    ring.run(T * 3).await;
    assert_eq!(ring.peers[1].status().standing, Standing::Seeking);
    assert_eq!(ring.peers[0].owned(), SLOTS);
    ring.kill(1).await;
    ring.pins.databases = vec![1];
    ring.start(1).await;
    ring.whole().await;
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_forms_the_ring_is_in_its_first_map() {
    for seed in 20..24 {
        let ring = of_three(seed).await;
        let leader = ring.peers[ring.leader()].id();
        let firsts: Vec<Arc<Map>> = ring
            .peers
            .iter()
            .filter_map(|peer| peer.ear.0.lock().maps.first().cloned())
            .filter(|map| map.epoch == 1)
            .collect();
        assert!(!firsts.is_empty());
        assert!(firsts.iter().all(|map| map.node(leader).is_some()));
        ring.shutdown().await;
    }
}

fn epoch(ring: &Ring) -> u64 {
    let maps = ring.running().filter_map(Peer::map);
    maps.map(|map| map.epoch).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn nodes_that_start_at_once_have_their_slots_at_once() {
    // Aim: one change lets all in, and no slot has to move: what forming costs does not grow with the square of the nodes.
    for seed in 30..33 {
        let mut ring = Ring::of(24, 3, seed);
        ring.moving = false;
        let took = ring.start_all(0..24).await;
        assert_eq!(epoch(&ring), 1, "one map");
        assert!(took < T, "{took:?}");
        // Growing together: learners at once, voters at once, each by joint consensus.
        let entries = ring.peers[0].status().applied;
        assert!(entries <= 12, "{entries}");
        ring.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_join_at_once_are_let_in_by_few_changes() {
    let mut ring = Ring::of(23, 3, 34);
    ring.start_all(0..3).await;
    let before = epoch(&ring);
    ring.moving = false;
    for index in 3..23 {
        ring.start(index).await;
    }
    ring.until("all are in", T, |ring| {
        let map = ring.peers[0].map();
        map.is_some_and(|map| map.nodes.len() == 23)
    })
    .await;
    let joins = epoch(&ring) - before;
    assert!(joins <= 3, "{joins} changes for 20 nodes");
    ring.moving = true;
    ring.whole().await;
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_ring_that_starts_again_comes_back_by_few_changes() {
    let mut ring = Ring::started(12, 3, 35).await;
    for index in 0..12 {
        ring.kill(index).await;
    }
    let before = ring.maps.keys().copied().max().unwrap_or(0);
    ring.start_all(0..12).await;
    let changes = epoch(&ring) - before;
    assert!(changes <= 6, "{changes} changes for 12 nodes");
    ring.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_die_at_once_are_found_failed_by_few_changes() {
    let mut ring = Ring::started(16, 3, 36).await;
    let before = epoch(&ring);
    let leader = ring.leader();
    let votes = ring.peers[leader].status().voters;
    let learners: Vec<usize> = (0..16)
        .filter(|index| !votes.contains(&ring.peers[*index].id()))
        .collect();
    assert_eq!(learners.len(), 9);
    for index in learners {
        ring.kill(index).await;
    }
    ring.whole().await;
    // They asked for their leases at different times within a tenth of the node timeout, and are looked at every 25th.
    let changes = epoch(&ring) - before;
    assert!(changes <= 4, "{changes} changes for 9 nodes");
    ring.shutdown().await;
}
