//! notify-keyspace-events: what happens to keys, as messages on `__keyspace@<db>__:<key>` and `__keyevent@<db>__:<event>`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::pubsub::{Payload, PubSub};
use crate::config::KeyEvents;
use crate::keyspace::effects::{Event, EventClass, Interest, Listener, Record};

/// Publishes the chosen classes of events.
#[derive(Debug)]
pub struct KeyEventPublisher {
    pubsub: Arc<PubSub>,
    /// The [`EventClass`]es that are published. Written by CONFIG SET; a command that runs meanwhile counts as before it.
    classes: AtomicU32,
    /// [`TO_KEYSPACE`] and [`TO_KEYEVENT`].
    channels: AtomicU32,
}

const TO_KEYSPACE: u32 = 1;
const TO_KEYEVENT: u32 = 1 << 1;

/// Each class of the parameter and the events it means. Those of modules (`d`) never happen here.
const CLASSES: [(KeyEvents, EventClass); 11] = [
    (KeyEvents::GENERIC, EventClass::GENERIC),
    (KeyEvents::STRING, EventClass::STRING),
    (KeyEvents::LIST, EventClass::LIST),
    (KeyEvents::SET, EventClass::SET),
    (KeyEvents::HASH, EventClass::HASH),
    (KeyEvents::ZSET, EventClass::ZSET),
    (KeyEvents::EXPIRED, EventClass::EXPIRED),
    (KeyEvents::EVICTED, EventClass::EVICTED),
    (KeyEvents::STREAM, EventClass::STREAM),
    (KeyEvents::KEY_MISS, EventClass::KEY_MISS),
    (KeyEvents::NEW, EventClass::NEW),
];

impl KeyEventPublisher {
    /// Publishes nothing yet.
    pub fn new(pubsub: Arc<PubSub>) -> KeyEventPublisher {
        KeyEventPublisher {
            pubsub,
            classes: AtomicU32::new(0),
            channels: AtomicU32::new(0),
        }
    }

    /// Takes over the parameter. The listeners of the keyspace have to be told afterwards.
    pub fn choose(&self, chosen: KeyEvents) {
        let mut channels = 0;
        if chosen.contains(KeyEvents::KEYSPACE) {
            channels |= TO_KEYSPACE;
        }
        if chosen.contains(KeyEvents::KEYEVENT) {
            channels |= TO_KEYEVENT;
        }
        let classes = CLASSES
            .iter()
            .filter(|(class, _)| channels != 0 && chosen.contains(*class))
            .fold(EventClass::empty(), |all, (_, class)| all | *class);
        self.channels.store(channels, Ordering::Relaxed);
        self.classes.store(classes.bits(), Ordering::Relaxed);
    }
}

impl Listener for KeyEventPublisher {
    fn interest(&self) -> Interest {
        let classes = EventClass::from_bits_retain(self.classes.load(Ordering::Relaxed));
        Interest::of_events(classes)
    }

    fn append(&self, _: &[Record]) {}

    fn publish(&self, events: &[Event]) {
        if self.pubsub.is_idle() {
            return;
        }
        let channels = self.channels.load(Ordering::Relaxed);
        let classes = EventClass::from_bits_retain(self.classes.load(Ordering::Relaxed));
        for event in events.iter().filter(|event| classes.contains(event.class)) {
            let Event {
                name,
                database,
                key,
                ..
            } = event;
            let mut channel = Vec::with_capacity(key.len().max(name.len()) + 32);
            if channels & TO_KEYSPACE != 0 {
                channel.extend_from_slice(format!("__keyspace@{database}__:").as_bytes());
                channel.extend_from_slice(key);
                self.pubsub
                    .publish(&channel, &Payload::new(name.as_bytes(), None));
            }
            if channels & TO_KEYEVENT != 0 {
                channel.clear();
                channel.extend_from_slice(format!("__keyevent@{database}__:{name}").as_bytes());
                self.pubsub.publish(&channel, &Payload::new(key, None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(letters: KeyEvents) -> Interest {
        let publisher = KeyEventPublisher::new(Arc::new(PubSub::new(Arc::default())));
        publisher.choose(letters);
        publisher.interest()
    }

    #[test]
    fn nothing_is_collected_without_a_class_and_a_channel() {
        assert_eq!(interest(KeyEvents::default()), Interest::empty());
        assert_eq!(interest(KeyEvents::ALL), Interest::empty());
        assert_eq!(interest(KeyEvents::KEYSPACE), Interest::empty());
        let expired = KeyEvents::KEYEVENT.with(KeyEvents::EXPIRED);
        assert_eq!(interest(expired), Interest::of_events(EventClass::EXPIRED));
        assert!(Interest::EVENTS.contains(interest(expired)));
    }
}
