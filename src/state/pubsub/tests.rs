//! Messages against a model in which each subscriber has an outbox of its own, and bursts under many threads.

use std::collections::BTreeMap;

use super::*;
use crate::base::clock::Millis;
use crate::data::testing::seeded;
use crate::resp::reply::Output;
use crate::state::outbox::BURST_BYTES;

fn subscriber(id: u64, protocol: u8) -> Arc<Client> {
    let addr = format!("127.0.0.1:{id}");
    let client = Client::new(id, addr, String::new(), 3, false, Millis(0));
    client.protocol.store(protocol, Ordering::Relaxed);
    Arc::new(client)
}

fn mail(client: &Client) -> Vec<u8> {
    let mail = client.take_mail().map(|mail| mail.into_bytes());
    mail.unwrap_or_default().to_vec()
}

fn subscribed(count: u64) -> (PubSub, Vec<Arc<Client>>) {
    let pubsub = PubSub::new(Arc::default());
    let clients: Vec<_> = (0..count).map(|id| subscriber(id, 2)).collect();
    for client in &clients {
        pubsub.subscribe(Topic::Channel, &Bytes::from_static(b"a"), client);
    }
    (pubsub, clients)
}

fn write(protocol: u8, parts: &[&str]) -> Vec<u8> {
    let kind = if protocol == 3 { '>' } else { '*' };
    let mut text = format!("{kind}{}\r\n", parts.len());
    for part in parts {
        text += &format!("${}\r\n{part}\r\n", part.len());
    }
    text.into_bytes()
}

const CHANNELS: [&str; 3] = ["a", "a2", "b1"];
const PATTERNS: [&str; 2] = ["b*", "?1"];
const CLIENTS: usize = 24;

/// What one subscriber is subscribed to and should have got since it was asked last.
#[derive(Default)]
struct Model {
    protocol: u8,
    channels: [bool; 3],
    patterns: [bool; 2],
    mail: Vec<u8>,
}

impl Model {
    fn publish(&mut self, channel: usize, payload: &str, patterns: &[usize]) {
        let name = CHANNELS[channel];
        if self.channels[channel] {
            let text = write(self.protocol, &["message", name, payload]);
            self.mail.extend(text);
        }
        for &pattern in patterns {
            if self.patterns[pattern] {
                let parts = ["pmessage", PATTERNS[pattern], name, payload];
                self.mail.extend(write(self.protocol, &parts));
            }
        }
    }
}

/// Aim: whatever comes between messages (who subscribes, leaves, reads, changes its protocol, gets something else), everybody
/// gets what was published while it was subscribed, in that order and in its protocol.
#[test]
fn bursts_are_as_outboxes_of_ones_own() {
    let mut rng = seeded();
    let pubsub = PubSub::new(Arc::default());
    let clients: Vec<_> = (0..CLIENTS as u64).map(|id| subscriber(id, 2)).collect();
    let mut models: Vec<Model> = Vec::new();
    models.resize_with(CLIENTS, || Model {
        protocol: 2,
        ..Model::default()
    });
    for step in 0..40_000 {
        let (channel, pattern, who) = (rng.usize(..3), rng.usize(..2), rng.usize(..CLIENTS));
        let (client, model) = (&clients[who], &mut models[who]);
        match rng.u32(..100) {
            kind @ 0..14 => {
                let (topic, name, is_subscribed) = match kind {
                    0..8 => (
                        Topic::Channel,
                        CHANNELS[channel],
                        &mut model.channels[channel],
                    ),
                    _ => (
                        Topic::Pattern,
                        PATTERNS[pattern],
                        &mut model.patterns[pattern],
                    ),
                };
                let name = Bytes::from_static(name.as_bytes());
                *is_subscribed = rng.u32(..4) > 0;
                match *is_subscribed {
                    true => _ = pubsub.subscribe(topic, &name, client),
                    false => pubsub.unsubscribe(topic, &name, client.id),
                }
            }
            14..18 => assert_eq!(
                String::from_utf8(mail(client)),
                String::from_utf8(std::mem::take(&mut model.mail)),
                "step {step}"
            ),
            18 => {
                let protocol = rng.u8(2..4);
                let before = client.switch_protocol(protocol);
                let before = before.map_or(Bytes::new(), Output::into_bytes);
                assert_eq!(before, std::mem::take(&mut model.mail), "step {step}");
                model.protocol = protocol;
            }
            19 => {
                let line = format!("+{step}\r\n");
                assert!(client.post(&Bytes::from(line.clone()), 0));
                model.mail.extend(line.as_bytes());
            }
            _ => {
                let payload = match rng.u32(..50) {
                    0 => step.to_string().repeat(4_000),
                    _ => step.to_string(),
                };
                // In which of the patterns' order is the map's own.
                let order: Vec<usize> = {
                    let patterns = pubsub.patterns.read();
                    let place =
                        |name: &Bytes| PATTERNS.iter().position(|known| known.as_bytes() == name);
                    let matching = patterns.keys().filter_map(place);
                    let matching = matching.filter(|&at| {
                        glob_match(PATTERNS[at].as_bytes(), CHANNELS[channel].as_bytes(), false)
                    });
                    matching.collect()
                };
                let sent = pubsub.publish(
                    CHANNELS[channel].as_bytes(),
                    &Payload::new(payload.as_bytes(), None),
                );
                let wanted = models.iter().map(|model| {
                    usize::from(model.channels[channel])
                        + order.iter().filter(|&&at| model.patterns[at]).count()
                });
                assert_eq!(sent, wanted.sum::<usize>(), "step {step}");
                for model in &mut models {
                    model.publish(channel, &payload, &order);
                }
            }
        }
    }
}

/// Aim: no message of a burst is lost, doubled or out of order while some publish and others send, each subscriber sees the
/// same order of a channel, and patterns that several channels match keep the order of each.
#[test]
fn bursts_of_many_threads_are_whole() {
    const PUBLISHERS: usize = 3;
    const MESSAGES: usize = 5_000;
    const READERS: u64 = 12;
    let pubsub = PubSub::new(Arc::default());
    let clients: Vec<_> = (0..READERS)
        .map(|id| subscriber(id, 2 + (id % 2) as u8))
        .collect();
    for client in &clients {
        pubsub.subscribe(Topic::Channel, &Bytes::from_static(b"all"), client);
        pubsub.subscribe(Topic::Pattern, &Bytes::from_static(b"own*"), client);
    }
    let mut got: Vec<Vec<u8>> = vec![Vec::new(); clients.len()];
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|own| {
                let pubsub = &pubsub;
                scope.spawn(move || {
                    for number in 0..MESSAGES {
                        let text = format!("{own}:{number}");
                        let payload = Payload::new(text.as_bytes(), None);
                        assert_eq!(pubsub.publish(b"all", &payload), READERS as usize);
                        let channel = format!("own{own}");
                        assert_eq!(
                            pubsub.publish(channel.as_bytes(), &payload),
                            READERS as usize
                        );
                    }
                })
            })
            .collect();
        while publishers.iter().any(|publisher| !publisher.is_finished()) {
            for (client, got) in clients.iter().zip(&mut got) {
                got.extend(mail(client));
            }
        }
    });
    let mut first_order = None;
    for (client, mut got) in clients.iter().zip(got) {
        got.extend(mail(client));
        let text = String::from_utf8(got).expect("text");
        let words: Vec<&str> = text.split("\r\n").collect();
        let mut common = Vec::new();
        let mut own: BTreeMap<&str, usize> = BTreeMap::new();
        let mut at = 0;
        while words[at].len() > 1 {
            let parts: usize = words[at][1..].parse().expect("a header");
            let payload = words[at + 2 * parts];
            match parts {
                3 => common.push(payload),
                _ => {
                    let next = own.entry(words[at + 6]).or_default();
                    let (_, number) = payload.split_once(':').expect("a number");
                    assert_eq!(number.parse(), Ok(*next));
                    *next += 1;
                }
            }
            at += 1 + 2 * parts;
        }
        assert_eq!(
            own.values().copied().collect::<Vec<_>>(),
            [MESSAGES; PUBLISHERS]
        );
        assert_eq!(common.len(), PUBLISHERS * MESSAGES);
        let first = first_order
            .get_or_insert_with(|| common.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(*first, common);
    }
}

/// Aim: the bytes of a burst stand once in memory, however many have not read them.
#[test]
fn a_burst_is_shared() {
    let (pubsub, clients) = subscribed(10);
    for _ in 0..100 {
        assert_eq!(pubsub.publish(b"a", &Payload::new(b"0123456789", None)), 10);
    }
    let taken: Vec<_> = clients
        .iter()
        .map(|client| client.take_mail().expect("a burst"))
        .collect();
    let places = taken.iter().map(|mail| {
        let text = mail.only_chunk().expect("one piece");
        assert_eq!(text.len(), 100 * 41);
        text.as_ptr()
    });
    let places: BTreeSet<_> = places.collect();
    assert_eq!(places.len(), 1);
}

/// Aim: who does not read is closed when the burst it has is over its limit, not later than a burst after; its fellows are not.
#[test]
fn a_burst_is_bounded_by_the_limit() {
    let (pubsub, clients) = subscribed(10);
    pubsub.set_limit(100_000);
    let payload = "x".repeat(1_000);
    let mut published = 0;
    while clients[0].killed().is_none() {
        published += 1;
        assert!(published < 1_000, "it is never closed");
        pubsub.publish(b"a", &Payload::new(payload.as_bytes(), None));
        for client in &clients[1..] {
            mail(client);
        }
    }
    assert_eq!(pubsub.closed.value(), 1);
    assert!(published * 1_000 < 100_000 + 2 * BURST_BYTES);
    assert_eq!(clients[0].mail_bytes(), 0);
    assert!(clients[1..].iter().all(|client| client.killed().is_none()));
    let mut unread = 0;
    while clients[1].killed().is_none() {
        unread += 1;
        assert!(unread < 1_000, "it is never closed");
        pubsub.publish(b"a", &Payload::new(payload.as_bytes(), None));
    }
    assert!(unread * 1_000 < 100_000 + 2 * BURST_BYTES);
    assert_eq!(pubsub.closed.value(), 10);
}
