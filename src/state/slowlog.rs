//! SLOWLOG: the commands that took long, newest first, bounded in number and in what is kept of each.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::base::clock::Millis;
use crate::resp::decode::Arguments;

/// Arguments kept of one command; the last tells how many more there were (redis `SLOWLOG_ENTRY_MAX_ARGC`).
const MAX_ARGUMENTS: usize = 32;
/// Bytes kept of one argument (redis `SLOWLOG_ENTRY_MAX_STRING`).
const MAX_ARGUMENT_BYTES: usize = 128;

/// One slow command.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Never used twice.
    pub id: u64,
    /// When it ran.
    pub at: Millis,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// The command, cut to bounds.
    pub arguments: Vec<Vec<u8>>,
    /// Who sent it.
    pub addr: String,
    /// What the client calls itself.
    pub name: String,
}

/// The log.
#[derive(Debug)]
pub struct Slowlog {
    /// Newest first. A leaf lock.
    log: Mutex<(VecDeque<SlowEntry>, u64)>,
    /// Entries kept. Written by CONFIG SET, read with the lock held: relaxed.
    limit: AtomicUsize,
}

impl Default for Slowlog {
    fn default() -> Self {
        Slowlog {
            log: Mutex::default(),
            limit: AtomicUsize::new(128),
        }
    }
}

impl Slowlog {
    /// Changes how many entries are kept.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.log.lock().0.truncate(limit);
    }

    /// Adds a command; the oldest beyond the limit goes.
    pub fn add(&self, at: Millis, micros: u64, arguments: Arguments<'_>, addr: &str, name: &str) {
        let mut log = self.log.lock();
        let id = log.1;
        log.1 += 1;
        let arguments = kept(arguments);
        log.0.push_front(SlowEntry {
            id,
            at,
            micros,
            arguments,
            addr: addr.to_owned(),
            name: name.to_owned(),
        });
        log.0.truncate(self.limit.load(Ordering::Relaxed));
    }

    /// The newest `count` entries.
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.log.lock().0.iter().take(count).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.log.lock().0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries.
    pub fn reset(&self) {
        self.log.lock().0.clear();
    }
}

fn kept(arguments: Arguments<'_>) -> Vec<Vec<u8>> {
    let count = arguments.len();
    let shown = if count > MAX_ARGUMENTS {
        MAX_ARGUMENTS - 1
    } else {
        count
    };
    let mut kept: Vec<Vec<u8>> = arguments.iter().take(shown).map(cut).collect();
    if shown < count {
        kept.push(format!("... ({} more arguments)", count - shown).into_bytes());
    }
    kept
}

fn cut(argument: &[u8]) -> Vec<u8> {
    if argument.len() <= MAX_ARGUMENT_BYTES {
        return argument.to_vec();
    }
    let mut shown = argument[..MAX_ARGUMENT_BYTES].to_vec();
    shown.extend_from_slice(
        format!("... ({} more bytes)", argument.len() - MAX_ARGUMENT_BYTES).as_bytes(),
    );
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::OwnedArguments;

    fn kept_of(words: &[String]) -> Vec<String> {
        let request = OwnedArguments::from(words);
        kept(request.as_arguments())
            .into_iter()
            .map(|word| String::from_utf8(word).expect("these arguments are text"))
            .collect()
    }

    #[test]
    fn the_last_of_32_arguments_counts_the_rest() {
        let words: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        assert_eq!(kept_of(&words[..32]), words[..32]);
        for (count, rest) in [(33, 2), (40, 9)] {
            let kept = kept_of(&words[..count]);
            assert_eq!((kept.len(), &kept[..31]), (32, &words[..31]));
            assert_eq!(kept[31], format!("... ({rest} more arguments)"));
        }
    }

    #[test]
    fn arguments_are_cut_at_128_bytes() {
        let long = |length: usize| "x".repeat(length);
        let kept = kept_of(&[long(128), long(129), long(1000)]);
        assert_eq!(kept[0], long(128));
        assert_eq!(kept[1], format!("{}... (1 more bytes)", long(128)));
        assert_eq!(kept[2], format!("{}... (872 more bytes)", long(128)));
    }
}
