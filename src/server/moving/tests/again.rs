//! Slots that come back, from others than before.

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
