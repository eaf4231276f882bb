//! Logs: one line per event, with its fields, to stderr or a file, at a level that CONFIG SET can change.

use std::fs::OpenOptions;
use std::io;
use std::sync::Mutex;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Settings;
use crate::state::log_level;

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
    .with_max_level_hint(LevelFilter::DEBUG);
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
