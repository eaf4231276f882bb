//! The command line: reads the configuration, builds the server, runs it, and says by the exit code how it ended.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use quoit::config::{Config, Loaded};
use quoit::server::{log, ping};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "ping") {
        return ping::run(words.skip(1), std::env::vars_os());
    }
    match Config::load(words, std::env::vars_os()) {
        Ok(Loaded::Run(config)) => run(*config),
        Ok(Loaded::Version) => say(&quoit::config::version_text()),
        Ok(Loaded::Help) => say(&quoit::config::help_text()),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> ExitCode {
    // Whoever reads it may stop early, as head does.
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn run(config: Config) -> ExitCode {
    log::start(&config.settings());
    match quoit::server::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the server cannot run");
            ExitCode::FAILURE
        }
    }
}
