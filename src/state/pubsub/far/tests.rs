//! Subscribers at other nodes: what peers are told, and what reaches them.

use super::*;
use crate::base::clock::Millis;
use crate::state::clients::Client;

/// A peer's ear at the end of a way that loses nothing.
struct Way(Ear);

impl Outlet for Way {
    fn send(&self, write: &mut dyn FnMut(&mut BytesMut)) -> Result<(), CallError> {
        let mut payload = BytesMut::new();
        write(&mut payload);
        self.0
            .hear(&payload)
            .expect("what nodes say is well-formed");
        Ok(())
    }
}

/// A way that is not there.
struct NoWay;

impl Outlet for NoWay {
    fn send(&self, _: &mut dyn FnMut(&mut BytesMut)) -> Result<(), CallError> {
        Err(CallError::NotConnected)
    }
}

fn node(number: u8) -> NodeId {
    NodeId([number; 20])
}

fn alone() -> Arc<PubSub> {
    let pubsub = Arc::new(PubSub::new(Arc::default()));
    pubsub.join_ring();
    pubsub
}

/// What `from`, who is node `number`, says to `to` by a connection of its own.
struct Line {
    teller: Teller,
    ear: Ear,
}

impl Line {
    fn new(from: &Arc<PubSub>, number: u8, to: &Arc<PubSub>) -> Line {
        let mut line = Line {
            teller: from.teller(),
            ear: to.ear(node(number)),
        };
        line.teller.begin();
        line.say();
        line
    }

    /// Everything that is to be said. How many payloads that were.
    fn say(&mut self) -> usize {
        let mut count = 0;
        while let Some(payload) = self.teller.say_next() {
            self.ear.hear(&payload).expect("well-formed");
            count += 1;
        }
        self.teller.heard();
        count
    }
}

fn subscriber(id: u64) -> Arc<Client> {
    let addr = format!("127.0.0.1:{id}");
    Arc::new(Client::new(id, addr, String::new(), 3, false, Millis(0)))
}

fn mail(client: &Client) -> String {
    let mail = client.take_mail().map(|mail| mail.into_bytes());
    String::from_utf8(mail.unwrap_or_default().to_vec()).expect("text")
}

fn small(text: &str) -> Payload<'_> {
    Payload::new(text.as_bytes(), None)
}

fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Aim: a peer gets what it wants, once, and nothing that it does not want; the count is that of its subscribers.
#[test]
fn messages_go_to_who_wants_them() {
    let (a, b) = (alone(), alone());
    let mut line = Line::new(&b, 2, &a);
    a.set_outlet(node(2), Arc::new(Way(b.ear(node(1)))));
    assert!(a.is_idle());
    let (one, two) = (subscriber(1), subscriber(2));
    b.subscribe(Topic::Channel, &name("news"), &one);
    b.subscribe(Topic::Channel, &name("news"), &two);
    b.subscribe(Topic::Pattern, &name("n*"), &two);
    b.subscribe(Topic::Shard, &name("news"), &one);
    assert_eq!(a.publish(b"news", &small("too early")), 0);
    assert_eq!(line.say(), 1);
    assert_eq!(a.publish(b"news", &small("x")), 3);
    assert_eq!(a.publish(b"other", &small("x")), 0);
    assert_eq!(a.publish(b"names", &small("y")), 1);
    assert_eq!(a.publish_shard(b"news", &small("s")), 1);
    assert_eq!(
        mail(&one),
        "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n\
         *3\r\n$8\r\nsmessage\r\n$4\r\nnews\r\n$1\r\ns\r\n"
    );
    assert_eq!(
        mail(&two),
        "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n\
         *4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$1\r\nx\r\n\
         *4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$5\r\nnames\r\n$1\r\ny\r\n"
    );
    b.unsubscribe(Topic::Channel, &name("news"), 1);
    b.unsubscribe(Topic::Pattern, &name("n*"), 2);
    line.say();
    assert_eq!(a.publish(b"news", &small("z")), 1);
    assert_eq!(mail(&one), "");
    b.unsubscribe(Topic::Channel, &name("news"), 2);
    b.unsubscribe(Topic::Shard, &name("news"), 1);
    line.say();
    assert!(a.is_idle() && a.far.is_idle_for_shards());
    assert_eq!(a.lost(), 0);
}

/// Aim: what comes from a peer goes to our own subscribers alone, however many want it elsewhere.
#[test]
fn messages_go_one_step() {
    let (a, b, c) = (alone(), alone(), alone());
    let client = subscriber(1);
    for pubsub in [&a, &b, &c] {
        pubsub.subscribe(Topic::Channel, &name("ch"), &client);
    }
    for (to, number, from) in [(&a, 2, &b), (&a, 3, &c), (&b, 1, &a), (&b, 3, &c)] {
        Line::new(from, number, to);
    }
    a.set_outlet(node(2), Arc::new(Way(b.ear(node(1)))));
    a.set_outlet(node(3), Arc::new(Way(c.ear(node(1)))));
    b.set_outlet(node(3), Arc::new(Way(c.ear(node(2)))));
    assert_eq!(a.publish(b"ch", &small("x")), 3);
    assert_eq!(mail(&client).matches("message").count(), 3);
}

/// Aim: a subscription counts as told when every connected peer has heard of it, and a peer that is gone holds nobody up.
#[test]
fn who_is_told_and_who_is_gone() {
    let (a, b, c) = (alone(), alone(), alone());
    let mut to_b = Line::new(&a, 1, &b);
    let mut to_c = Line::new(&a, 1, &c);
    let position = a.subscribe(Topic::Channel, &name("ch"), &subscriber(1));
    assert!(!a.far.is_told(position));
    to_b.say();
    assert!(!a.far.is_told(position));
    to_c.say();
    assert!(a.far.is_told(position));
    assert!(a.far.log.lock().changes.is_empty(), "all know");
    let position = a.subscribe(Topic::Channel, &name("ch2"), &subscriber(1));
    to_b.say();
    to_c.teller.end();
    assert!(a.far.is_told(position));
    drop(to_c);
    assert!(a.far.log.lock().changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken() {
    let (a, b) = (alone(), alone());
    let mut line = Line::new(&a, 1, &b);
    let position = a.subscribe(Topic::Channel, &name("ch"), &subscriber(1));
    let waiting = Arc::clone(&a);
    let began = tokio::time::Instant::now();
    let told = tokio::spawn(async move {
        waiting
            .wait_until_told(position, Duration::from_secs(3600))
            .await;
    });
    line.teller.news().await;
    line.say();
    told.await.expect("the task ends");
    assert_eq!(began.elapsed(), Duration::ZERO);
    // Nobody is told of this.
    let position = a.subscribe(Topic::Channel, &name("ch2"), &subscriber(1));
    a.wait_until_told(position, Duration::from_secs(1)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

/// Aim: what changed while nobody listened is made up for by the beginning of the next connection, and what still comes by
/// the old one does not count.
#[test]
fn a_new_connection_begins_anew() {
    let (a, b) = (alone(), alone());
    let client = subscriber(1);
    b.subscribe(Topic::Channel, &name("old"), &client);
    let mut line = Line::new(&b, 2, &a);
    a.set_outlet(node(2), Arc::new(Way(b.ear(node(1)))));
    assert_eq!(a.publish(b"old", &small("x")), 1);
    line.teller.end();
    b.unsubscribe(Topic::Channel, &name("old"), 1);
    b.subscribe(Topic::Channel, &name("new"), &client);
    let late = std::mem::replace(&mut line.ear, a.ear(node(2)));
    line.teller.begin();
    line.say();
    assert_eq!(a.publish(b"old", &small("x")), 0);
    assert_eq!(a.publish(b"new", &small("x")), 1);
    let mut payload = BytesMut::new();
    Record::Reset.write(&mut payload);
    Record::Subscribers {
        what: Topic::Channel.into(),
        name: b"old",
        count: 1,
    }
    .write(&mut payload);
    late.hear(&payload).expect("well-formed");
    assert_eq!(a.publish(b"old", &small("x")), 0);
    assert_eq!(a.publish(b"new", &small("x")), 1);
}

/// Aim: a teller that is slower than the log is long says everything anew, and what it says is the truth.
#[test]
fn who_falls_behind_says_everything() {
    let (a, b) = (alone(), alone());
    let mut line = Line::new(&b, 2, &a);
    a.set_outlet(node(2), Arc::new(Way(b.ear(node(1)))));
    let client = subscriber(1);
    b.subscribe(Topic::Channel, &name("first"), &client);
    let long = "n".repeat(1024);
    for number in 0..LOG_BYTES_MAX / 1024 + 1 {
        let other = name(&format!("{long}{number}"));
        b.subscribe(Topic::Channel, &other, &client);
        b.unsubscribe(Topic::Channel, &other, 1);
    }
    let log = b.far.log.lock();
    assert!(log.begin > 0 && log.bytes <= LOG_BYTES_MAX);
    drop(log);
    assert_eq!(line.say(), 1);
    assert_eq!(a.publish(b"first", &small("x")), 1);
    assert_eq!(a.far.counts[0].load(Ordering::Relaxed), 1);
}

/// Aim: many names are said in pieces, and a peer that wants more than are kept is sent everything.
#[test]
fn bounds_hold() {
    let (a, b) = (alone(), alone());
    let client = subscriber(1);
    let long = "n".repeat(64 * 1024);
    let count = NAME_BYTES_MAX / long.len();
    for number in 0..count {
        b.subscribe(Topic::Channel, &name(&format!("{long}{number}")), &client);
    }
    let ear = a.ear(node(2));
    let mut teller = b.teller();
    teller.begin();
    let mut pieces = 0;
    while let Some(payload) = teller.say_next() {
        assert!(payload.len() < CHUNK_BYTES + 2 * long.len());
        ear.hear(&payload).expect("well-formed");
        pieces += 1;
    }
    assert!(pieces >= count / 3, "{pieces}");
    a.set_outlet(node(2), Arc::new(Way(b.ear(node(1)))));
    assert!(a.far.wanted.read().names[0].is_empty());
    assert_eq!(a.far.counts[0].load(Ordering::Relaxed), 1);
    // For nobody knows how many.
    assert_eq!(a.publish(format!("{long}7").as_bytes(), &small("x")), 0);
    assert!(mail(&client).ends_with("$1\r\nx\r\n"));
    // Fewer now.
    for number in 1..count {
        b.unsubscribe(Topic::Channel, &name(&format!("{long}{number}")), 1);
    }
    let mut line = Line {
        teller,
        ear: a.ear(node(2)),
    };
    line.teller.begin();
    line.say();
    assert_eq!(a.publish(format!("{long}0").as_bytes(), &small("x")), 1);
    assert_eq!(a.far.counts[0].load(Ordering::Relaxed), 1);
}

#[test]
fn what_cannot_be_sent_is_lost_and_counted() {
    let (a, b) = (alone(), alone());
    b.subscribe(Topic::Channel, &name("ch"), &subscriber(1));
    Line::new(&b, 2, &a);
    assert_eq!(a.publish(b"ch", &small("x")), 0, "no way is known");
    a.set_outlet(node(2), Arc::new(NoWay));
    assert_eq!(a.publish(b"ch", &small("x")), 0);
    assert_eq!(a.lost(), 2);
    // Who is not in the ring any more wants nothing.
    a.retain_peers(&|id| id != node(2));
    assert!(a.is_idle());
    assert_eq!(a.publish(b"ch", &small("x")), 0);
    assert_eq!(a.lost(), 2);
}

/// Aim: without a ring nothing is logged.
#[test]
fn alone_nothing_is_noted() {
    let pubsub = Arc::new(PubSub::new(Arc::default()));
    let _teller = pubsub.teller();
    assert_eq!(
        pubsub.subscribe(Topic::Channel, &name("ch"), &subscriber(1)),
        0
    );
    assert!(pubsub.far.log.lock().changes.is_empty());
}

/// Aim: after any changes, said at any moment, the peer knows what is, no more and no less.
#[test]
fn whatever_happens_the_peer_knows_what_is() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (a, b) = (alone(), alone());
    let mut line = Line::new(&b, 2, &a);
    let clients: Vec<_> = (1..4).map(subscriber).collect();
    for _ in 0..2000 {
        let topic = Topic::ALL[random.usize(..3)];
        let name = name(&format!("n{}", random.u8(..6)));
        let client = &clients[random.usize(..3)];
        match random.u8(..8) {
            0 => {
                line.teller.end();
                line.ear = a.ear(node(2));
                line.teller.begin();
            }
            1 => {
                if let Some(payload) = line.teller.say_next() {
                    line.ear.hear(&payload).expect("well-formed");
                }
            }
            2 => {
                b.set_followers(&name, random.usize(..3));
            }
            3..5 => {
                b.subscribe(topic, &name, client);
            }
            _ => b.unsubscribe(topic, &name, client.id),
        }
    }
    line.say();
    let mut known: Vec<_> = {
        let wanted = a.far.wanted.read();
        let names = wanted.names.iter().zip(0..);
        names
            .flat_map(|(names, number): (_, usize)| {
                let names = names.iter();
                names.map(move |(name, who)| (number, name.clone(), who[0].1))
            })
            .collect()
    };
    known.sort();
    let mut real: Vec<_> = b
        .all_names()
        .into_iter()
        .map(|(what, name)| {
            let count = match what {
                Followed::Topic(topic) => b.subscriber_count(topic, &name),
                Followed::Prefix => b.far.followers(&name),
            };
            (what.number(), name, count as u32)
        })
        .collect();
    real.sort();
    assert_eq!(known, real);
    assert!(!known.is_empty());
    let peer = &a.far.wanted.read().peers[0];
    let peer = peer.as_ref().expect("it has spoken");
    assert_eq!(peer.names, known.len());
}
