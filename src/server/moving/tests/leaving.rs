//! A node that leaves, and has until then.

use super::*;
use crate::cluster::Owner;
use crate::cluster::map::NOBODY;

/// Half of all slots should be the second node's, half the third's; the first leaves.
fn leave(net: &Net) {
    net.change(|map| {
        map.nodes[0].state = NodeState::Leaving;
        for (slot, target) in map.targets.iter_mut().enumerate() {
            *target = 1 + (slot % 2) as u16;
        }
    });
}

/// Waits until a node of the map has so many slots.
async fn owns(net: &Net, number: usize, count: usize) {
    let id = id(number);
    let has = |view: &View| {
        let index = view.map.index(id).unwrap_or(NOBODY);
        view.map.owned(index) == count
    };
    let has = net.cluster(number).wait_for(LONG / 4, has).await;
    assert!(has, "{number}: {}", net.state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_does_not_wait_for_one_receiver_to_send_to_another() {
    // Aim: what has not moved when its time is over is lost; a receiver that hangs must not cost what the others could take.
    let net = Net::new(3, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "key:", 2000).await;
    net.stalled.store(1, Ordering::SeqCst);
    let ends = Instant::now() + LONG;
    net.members[0].ends.set(ends).expect("it is told once");
    leave(&net);
    let sending = net.start(0);
    owns(&net, 2, SLOTS / 2).await;
    let is_there = |number: &usize| {
        let key = format!("key:{number}");
        slot_of(key.as_bytes()) % 2 == 1
    };
    assert_eq!(net.content(2).len(), (0..2000).filter(is_there).count());
    assert_eq!(net.cluster(1).view().owner(0), Owner::Peer(0));
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_while_a_node_hands_over_to_several_at_once() {
    let net = Net::new(3, &[]);
    let mut user = net.connect(0);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (net, stop) = (Arc::clone(&net), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut user = net.connect(0);
                let mut counts = vec![0; 50];
                let mut turns = 0;
                while !stop.load(Ordering::SeqCst) || turns < 200 {
                    let number = turns % counts.len();
                    counts[number] += 1;
                    turns += 1;
                    let key = format!("count:{writer}:{number}");
                    let reply = user.run(&net, &[b"INCR", key.as_bytes()]).await;
                    let expected = format!(":{}\r\n", counts[number]);
                    assert_eq!(String::from_utf8_lossy(&reply), expected, "{key}");
                }
                counts
            })
        })
        .collect();
    let mut rng = seeded();
    fill(&net, &mut user, &mut rng).await;
    let keys = net.content(0).len();
    assert!(keys > 600);
    net.members[0]
        .ends
        .set(Instant::now() + LONG)
        .expect("it is told once");
    let tasks = [0, 1, 2].map(|number| net.start(number));
    leave(&net);
    for number in [1, 2] {
        owns(&net, number, SLOTS / 2).await;
    }
    stop.store(true, Ordering::SeqCst);
    for (writer, task) in writers.into_iter().enumerate() {
        for (number, count) in task.await.expect("no write fails").into_iter().enumerate() {
            let key = format!("count:{writer}:{number}");
            let reply = user.run(&net, &[b"GET", key.as_bytes()]).await;
            let count = count.to_string();
            let expected = format!("${}\r\n{count}\r\n", count.len());
            assert_eq!(String::from_utf8_lossy(&reply), expected, "{key}");
        }
    }
    // The accounts are right between two removals, not in the middle of one.
    net.cleared(|_| true).await;
    let mut there = net.content(1);
    there.append(&mut net.content(2));
    assert!(there.len() >= keys, "{} of {keys}", there.len());
    net.check_accounts();
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_that_leave_together_hand_all_over() {
    // Aim: each has begun to send to the other, which is to go as well.
    let net = Net::new(3, &[]);
    let mut user = net.connect(0);
    set_some(&net, &mut user, "key:", 2000).await;
    let tasks = [0, 1, 2].map(|number| net.start(number));
    net.change(|map| {
        for (slot, target) in map.targets.iter_mut().enumerate() {
            *target = (slot % 2) as u16;
        }
    });
    owns(&net, 1, SLOTS / 2).await;
    let ends = Instant::now() + LONG;
    for number in [0, 1] {
        net.members[number].ends.set(ends).expect("it is told once");
    }
    net.change(|map| {
        map.nodes[0].state = NodeState::Leaving;
        map.targets
            .iter_mut()
            .for_each(|target| *target = 1 + *target % 2);
    });
    net.change(|map| {
        map.nodes[1].state = NodeState::Leaving;
        map.targets.fill(2);
    });
    let all = |view: &View| {
        let index = view.map.index(id(2)).unwrap_or(u16::MAX);
        view.map.owners.iter().all(|owner| *owner == index)
    };
    assert!(net.cluster(2).wait_for(LONG, all).await, "{}", net.state());
    assert_eq!(net.content(2).len(), 2000);
    tasks.iter().for_each(JoinHandle::abort);
}

/// How long a pace rests in a second of work.
async fn rests(mut pace: Pace) -> Duration {
    let begun = Instant::now();
    for _ in 0..1000 {
        pace.worked(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn who_has_to_end_soon_does_not_rest() {
    let net = Net::new(1, &[]);
    let keyspace = &net.server(0).keyspace;
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 1000).await;
    let second = Duration::from_secs(1);
    // A thousand keys, looked at eight times.
    let work = LOOK * 1000 * 4;
    assert_eq!(rests(Pace::before(keyspace, 8, work)).await, Duration::ZERO);
    // With twice the time it works half of it.
    let half = rests(Pace::before(keyspace, 8, 2 * work)).await;
    assert!(half > second * 3 / 4 && half < second * 5 / 4, "{half:?}");
    assert!(rests(Pace::default()).await > 3 * second);
    // With all the time there is it is as gentle as any.
    assert!(rests(Pace::before(keyspace, 8, LONG)).await > 3 * second);
    let mut hastened = Pace::default();
    hastened.hasten();
    assert_eq!(rests(hastened).await, Duration::ZERO);
}

/// Aim: a way through all keys takes its time whatever a key costs; not more than a sixth of the time is work, though.
#[tokio::test(start_paused = true)]
async fn a_way_takes_its_time_whatever_a_key_costs() {
    const KEYS: u32 = 400_000;
    let time = Duration::from_secs(7);
    for cost in [100, 500, 1000, 2500, 10_000].map(Duration::from_nanos) {
        let mut pace = Pace::over(KEYS as usize, time);
        let begun = Instant::now();
        for _ in 0..KEYS / 100 {
            pace.looked_at(100);
            pace.worked(cost * 100).await;
        }
        // The clock stands still during the work.
        let took = begun.elapsed() + cost * KEYS;
        let least = time.max(cost * KEYS * 6);
        // The longest rest after the shortest work does not fill the time of the fastest.
        let least = least.min(cost * KEYS * 61);
        let part = took.div_duration_f32(least);
        assert!(
            (0.8..1.2).contains(&part),
            "{cost:?}: {took:?}, not {least:?}"
        );
    }
}

/// Aim: rests are in proportion to the work, whether a timer is fine enough for those of the shortest work or not.
#[tokio::test(start_paused = true)]
async fn rests_are_in_proportion_to_the_work() {
    for share in [0.2_f32, 1.0, 5.0, 20.0, 50.0] {
        let mut pace = Pace::resting(share);
        let begun = Instant::now();
        for _ in 0..10_000 {
            pace.worked(Duration::from_micros(100)).await;
        }
        // A second of work.
        let rested = begun.elapsed().as_secs_f32();
        assert!(
            rested > share * 0.8 && rested < share * 1.4,
            "{share}: {rested}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_portion_at_the_end_is_what_can_be_done() {
    let net = Net::new(2, &[]);
    let moving = net.moving(0);
    let view = moving.cluster.view();
    let mut plan = Plan::new(Instant::now());
    plan.rate = Some(100.0);
    assert_eq!(moving.can_be_done(&view, &plan), SLOTS, "there is no end");
    let ends = Instant::now() + Duration::from_secs(8);
    moving.ends.set(ends).expect("it is told once");
    assert_eq!(moving.can_be_done(&view, &plan), 400);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(moving.can_be_done(&view, &plan), 100);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(moving.can_be_done(&view, &plan), 0, "one is tried still");
    plan.rate = None;
    assert_eq!(moving.can_be_done(&view, &plan), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_on_its_way_to_one_node_at_a_time() {
    // Found by tests/simulation (Storm, seed 29): a node joined while another left, and got slots that were on their way to
    // others; when those transfers ended, so did the hold of the slots, though the map was about to give them to the one that had
    // joined: two owners.
    let net = Net::new(3, &[]);
    let tag = slot_of(b"tag");
    let mut user = net.connect(0);
    set_some(&net, &mut user, "{tag}", 10).await;
    net.stalled.store(1, Ordering::SeqCst);
    let ends = Instant::now() + LONG;
    net.members[0].ends.set(ends).expect("it is told once");
    net.change(|map| {
        map.nodes[0].state = NodeState::Leaving;
        map.targets = vec![1; SLOTS];
    });
    let sending = net.start(0);
    while net.unanswered.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    net.change(|map| map.targets[usize::from(tag)] = 2);
    let arrives = |view: &View| view.arrives(tag);
    let early = Duration::from_millis(100);
    assert!(!net.cluster(2).wait_for(early, arrives).await);
    // It goes there when the other transfer is over.
    net.stalled.store(0, Ordering::SeqCst);
    net.unanswered.lock().clear();
    owns(&net, 2, 1).await;
    owns(&net, 1, SLOTS - 1).await;
    assert_eq!(net.content(2).len(), 10);
    sending.abort();
}
