//! Sockets: who listens, how a connection lives, what runs in the background, how it all ends.
//!
//! [`start`] binds everything before it returns, so that an address in use ends the start and not the service. Each
//! connection is one task; a request runs to its end in the task that read it.

mod asked;
mod background;
pub mod connection;
mod learn;
pub mod listener;
pub mod log;
mod migrate;
pub mod moving;
pub mod peer;
pub mod ping;
mod ring;
#[cfg(feature = "simulation")]
pub mod simulated;
mod wide;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::allocator;
use crate::base::clock::Clock;
use crate::cluster::agree::disk::Place;
use crate::config::Config;
use crate::dispatch;
use crate::state::{Server, memory, open_files};
use crate::table::RenameError;
use listener::{Bound, ListenError};
use ring::{Ring, RingError};

/// Runs a server to its end: builds the runtime, listens, and stops on SHUTDOWN, SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let threads = config.settings().worker_threads();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("quoit-worker")
        .enable_all()
        // Signals and accepts are rare beside requests: look at the queue of all workers less often than by default.
        .global_queue_interval(61)
        .build()?;
    let ended = runtime.block_on(async {
        allocator::start_background();
        let ignored = config.ignored();
        if !ignored.is_empty() {
            tracing::info!(
                parameters = ignored.join(" "),
                "accepted without effect: these make no sense here or are not built yet"
            );
        }
        let running = start(config, Clock::system(), threads).await?;
        let settings = running.server.config.settings();
        tracing::info!(
            port = running.port(),
            threads,
            maxmemory = settings.maxmemory_bytes(),
            pid = std::process::id(),
            "ready to accept connections"
        );
        let grace = settings.shutdown_timeout.min(GRACE_MAX);
        drop(settings);
        tokio::spawn(stop_on_signal(Arc::clone(&running.server)));
        running.finished(grace).await;
        tracing::info!("stopped");
        Ok(())
    });
    // Whatever still runs has had its time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

/// The longest a stop may take, whatever shutdown-timeout says: orchestrators kill after 30 s.
const GRACE_MAX: Duration = Duration::from_secs(25);

async fn stop_on_signal(server: Arc<Server>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::warn!("cannot listen for signals: the server stops by SHUTDOWN only");
        return;
    };
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping");
    server.shutdown.ask();
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    // Asked twice: without handing over.
    server.shutdown.request();
}

/// A server that listens.
pub struct Running {
    server: Arc<Server>,
    bound: Vec<Bound>,
    ring: Option<Ring>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    background: tokio::task::JoinHandle<()>,
}

/// Why a server could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address or socket could not be listened on.
    Listen(ListenError),
    /// A `rename-command` cannot be done.
    Rename(RenameError),
    /// It cannot take part in a ring.
    Ring(RingError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(error) => error.fmt(f),
            StartError::Rename(error) => error.fmt(f),
            StartError::Ring(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Builds a server, binds its sockets and serves in tasks of the current runtime. `threads` is how many workers it has.
pub async fn start(config: Config, clock: Clock, threads: usize) -> Result<Running, StartError> {
    let commands = dispatch::renamed_directory(&config.settings().rename_command)
        .map_err(StartError::Rename)?;
    provide_files(&config);
    let server = Server::new(config, clock, commands, threads);
    let bound = listener::bind(&server).map_err(StartError::Listen)?;
    server
        .base_bytes
        .store(allocator::stats().allocated as i64, Ordering::Relaxed);
    server
        .peak
        .observe(memory::used_bytes(&server), server.clock.now());
    let port = bound.iter().find_map(Bound::port).unwrap_or(0);
    server.tcp_port.store(port, Ordering::Relaxed);
    let ring = match server.config.settings().cluster_enabled {
        true => {
            let settings = server.config.settings();
            let place = Place::File(settings.dir.join(&settings.cluster_config_file));
            let ring = Ring::start(&server, port, threads, place).await;
            server.shutdown.hands_over.store(true, Ordering::Release);
            Some(ring.map_err(StartError::Ring)?)
        }
        false => None,
    };
    let accepting = bound
        .iter()
        .map(|bound| tokio::spawn(listener::accept(Arc::clone(&server), bound.socket())))
        .collect();
    let background = tokio::spawn(background::run(Arc::clone(&server)));
    Ok(Running {
        server,
        bound,
        ring,
        accepting,
        background,
    })
}

/// Raises the limit of open files for maxclients; where that cannot be, lowers maxclients, as Redis does.
fn provide_files(config: &Config) {
    let maxclients = config.settings().maxclients;
    let Err(possible) = open_files::provide(maxclients) else {
        return;
    };
    let possible = possible.max(1);
    // As many as may be, where not as many as wanted.
    let _ = open_files::provide(u32::try_from(possible).unwrap_or(maxclients));
    let possible = possible.to_string();
    tracing::warn!(
        maxclients,
        possible,
        "the limit of open files cannot be raised: maxclients is lowered to what is possible"
    );
    let lowered = config.set(&[(b"maxclients", possible.as_bytes())], |_, _| Ok(()));
    if let Err(error) = lowered {
        tracing::error!(%error, "maxclients could not be lowered");
    }
}

impl Running {
    /// The shared parts.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The first TCP port it listens on; 0 when there is none.
    pub fn port(&self) -> u16 {
        self.bound.iter().find_map(Bound::port).unwrap_or(0)
    }

    /// Where its bus listens; 0 when it belongs to no ring.
    pub fn bus_port(&self) -> u16 {
        self.ring.as_ref().map_or(0, Ring::bus_port)
    }

    /// Waits until SHUTDOWN or [`Shutdown::request`](crate::state::Shutdown::request), then until a node of a ring has handed
    /// its slots over, then until all connections have finished what is in flight; at most `grace` for both.
    pub async fn finished(mut self, grace: Duration) {
        self.server.shutdown.asked().await;
        let until = Instant::now() + grace;
        if let Some(ring) = &mut self.ring {
            tokio::select! {
                () = ring.leave(until - for_connections(grace)) => {}
                () = self.server.shutdown.requested() => {}
            }
            self.server.shutdown.request();
        }
        self.server.shutdown.requested().await;
        for accepting in &self.accepting {
            accepting.abort();
        }
        drop(self.bound);
        for client in self.server.clients.snapshot() {
            client.wake();
        }
        let all_gone = async {
            while !self.server.clients.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        };
        // Who was told to end at once, after a wait, still lets them end in their time.
        let until = until.max(Instant::now() + for_connections(grace));
        if tokio::time::timeout_at(until, all_gone).await.is_err() {
            tracing::warn!(
                clients = self.server.clients.len(),
                "stopped with connections open: they did not finish in time"
            );
        }
        if let Some(ring) = self.ring {
            ring.stop().await;
        }
        self.background.abort();
    }
}

/// What a node that leaves keeps for its connections of the time it has: they are served to the end, and have only their last
/// requests to finish. What it has not handed over by then is lost, and that is worth more than replies that take longer.
fn for_connections(grace: Duration) -> Duration {
    (grace / 8).min(FOR_CONNECTIONS_MAX)
}

const FOR_CONNECTIONS_MAX: Duration = Duration::from_secs(1);

/// How often a server that ends looks whether its connections are gone.
const POLL: Duration = Duration::from_millis(5);
