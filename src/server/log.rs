//! Logs: one line per event, with its fields, to stderr or a file, at a level that CONFIG SET can change.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Settings;
use crate::state::log_level;

/// Between two errors that openraft tells from one place.
const SELDOM: Duration = Duration::from_secs(60);

/// Lets pass what openraft calls an error once a minute from each of its places: a node that is cut off would tell of each
/// vote that it cannot ask for, several times a second, for as long as it is.
#[derive(Default)]
struct Seldom {
    /// When each place had its say last. As many as openraft has.
    told: Mutex<HashMap<Identifier, Instant>>,
}

impl Seldom {
    /// Whether what comes from this place now is told.
    fn tells(&self, place: Identifier, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told
            .get(&place)
            .is_none_or(|last| now.saturating_duration_since(*last) >= SELDOM);
        if is_due {
            told.insert(place, now);
        }
        is_due
    }
}

impl<S> Filter<S> for Seldom {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        !metadata.target().starts_with("openraft")
            || self.tells(metadata.callsite(), Instant::now())
    }
}

/// Begins logging as the parameters say. To be called once, by the program, not by the library.
pub fn start(settings: &Settings) {
    log_level::set(settings.loglevel);
    // What openraft calls a warning is its daily work, and so is a node that does not answer, which the agreement tells once.
    let is_ours = |target: &str, level: Level| {
        !target.starts_with("openraft")
            || level == Level::ERROR && !target.starts_with("openraft::replication")
    };
    let filter = filter_fn(move |metadata| {
        let level = *metadata.level();
        log_level::allows(level) && is_ours(metadata.target(), level)
    })
    .with_max_level_hint(LevelFilter::DEBUG)
    .and(Seldom::default());
    let file = (!settings.logfile.is_empty())
        .then(|| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&settings.logfile)
        })
        .transpose();
    match file {
        Ok(Some(file)) => {
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(Mutex::new(file));
            let _ = tracing_subscriber::registry()
                .with(layer.with_filter(filter))
                .try_init();
        }
        other => {
            let ansi = io::IsTerminal::is_terminal(&io::stderr());
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(ansi)
                .with_writer(io::stderr);
            let _ = tracing_subscriber::registry()
                .with(layer.with_filter(filter))
                .try_init();
            if let Err(error) = other {
                tracing::error!(file = %settings.logfile, %error, "cannot write the log file; logging to stderr");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::subscriber::with_default;

    use super::*;

    /// Aim: what is told again and again is told once a minute, each thing for itself; what is ours, always.
    #[test]
    fn what_openraft_repeats_is_told_once_a_minute() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .without_time()
            .with_writer(move || Lines(Arc::clone(&writer)));
        let filter = filter_fn(|_| true).and(Seldom::default());
        with_default(
            tracing_subscriber::registry().with(layer.with_filter(filter)),
            || {
                for _ in 0..3 {
                    tracing::error!(target: "openraft::core", "no vote");
                    tracing::error!(target: "openraft::core", "no log");
                    tracing::error!("ours");
                }
            },
        );
        let lines = lines.lock().expect("whole").clone();
        let text = String::from_utf8(lines).expect("text");
        assert_eq!(text.matches("no vote").count(), 1, "{text}");
        assert_eq!(text.matches("no log").count(), 1, "{text}");
        assert_eq!(text.matches("ours").count(), 3, "{text}");
    }

    #[test]
    fn after_a_minute_it_is_told_again() {
        let seldom = Seldom::default();
        let place =
            tracing::callsite!(name: "here", kind: tracing::metadata::Kind::EVENT, fields: message);
        let place = tracing::callsite::Callsite::metadata(place).callsite();
        let begun = Instant::now();
        assert!(seldom.tells(place.clone(), begun));
        let just_before = begun + SELDOM - Duration::from_millis(1);
        assert!(!seldom.tells(place.clone(), just_before));
        assert!(seldom.tells(place, begun + SELDOM));
    }

    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut lines = self.0.lock().expect("whole");
            lines.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
