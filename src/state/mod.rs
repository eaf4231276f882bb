//! The shared parts of a running server, built once and passed explicitly.

pub mod clients;
pub mod crowd;
pub mod functions;
pub mod key_events;
pub mod latency;
pub mod log_level;
pub mod memory;
pub mod monitor;
pub mod open_files;
pub mod outbox;
pub mod pause;
pub mod pubsub;
pub mod rates;
pub mod scripts;
pub mod session;
pub mod slowlog;
pub mod stats;
pub mod tracking;
pub mod transaction;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::clock::{Clock, Millis};
use crate::cluster::Cluster;
use crate::config::{Config, MaxmemoryPolicy, Settings};
use crate::data::hash::HashLimits;
use crate::data::set::SetLimits;
use crate::data::{list, stream, zset};
use crate::keyspace::Keyspace;
use crate::keyspace::entry::Garbage;
use crate::keyspace::evict::{Policy, Rules};
use crate::keyspace::hash::KeyHasher;
use crate::table::Table;
use clients::Clients;
use crowd::Crowd;
use functions::Functions;
use key_events::KeyEventPublisher;
use latency::{LatencyEvent, LatencyMonitor};
use memory::Peak;
use monitor::Monitors;
use pause::Pause;
use pubsub::PubSub;
use scripts::Scripts;
use slowlog::Slowlog;
use stats::Stats;
use tracking::Tracking;

/// One server.
pub struct Server {
    /// The parameters.
    pub config: Config,
    /// What the keyspace works by: derived from the parameters, replaced when they change.
    pub rules: ArcSwap<Rules>,
    /// Keys and values.
    pub keyspace: Keyspace,
    /// Where the time comes from.
    pub clock: Clock,
    /// When the server started.
    pub started: Millis,
    /// 40 hex digits, new at every start.
    pub run_id: String,
    /// What replicas would know the data set by: 40 hex digits, new at every start. A leaf lock.
    pub replication_id: Mutex<String>,
    /// The first TCP port it listens on, 0 when there is none. Written once by the start, read by INFO.
    pub tcp_port: AtomicU16,
    /// All rows without their handlers: what COMMAND, INFO and ACL categories ask.
    pub commands: Table<()>,
    /// Connections.
    pub clients: Arc<Clients>,
    /// Counters.
    pub stats: Stats,
    /// SLOWLOG.
    pub slowlog: Slowlog,
    /// LATENCY.
    pub latency: LatencyMonitor,
    /// MONITOR.
    pub monitors: Monitors,
    /// SUBSCRIBE and PUBLISH.
    pub pubsub: Arc<PubSub>,
    /// EVAL, and what runs.
    pub scripts: Arc<Scripts>,
    /// Libraries of functions.
    pub functions: Functions,
    /// CLIENT TRACKING.
    pub tracking: Arc<Tracking>,
    /// notify-keyspace-events.
    pub key_events: Arc<KeyEventPublisher>,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Which replies wait for others.
    pub crowd: Crowd,
    /// The ring; empty when cluster-enabled is off. Set once by the start, before anybody is served.
    pub cluster: OnceLock<Arc<Cluster>>,
    /// Shutting down.
    pub shutdown: Shutdown,
    /// Bytes that count against maxmemory beside the keys: what the allocator had given out when the server was ready to
    /// serve. Written once by the start, read by the memory check.
    pub base_bytes: AtomicI64,
    /// The most memory that was used.
    pub peak: Peak,
    /// Large values that wait for the thread that frees them. Written by who leaves them and by that thread, read by INFO.
    pending_frees: Arc<AtomicU64>,
    /// DEBUG SET-ACTIVE-EXPIRE. Written by that command, read by the expiry task.
    pub active_expire: AtomicBool,
    garbage: std::sync::mpsc::SyncSender<Vec<Garbage>>,
}

/// How a server ends. Requested once; everybody who serves waits for it. A node of a ring is asked first, and hands over what
/// it owns while it still serves.
#[derive(Debug, Default)]
pub struct Shutdown {
    /// Whether somebody hands over first. Set once by the start.
    pub hands_over: AtomicBool,
    asked: AtomicBool,
    requested: AtomicBool,
    notify: Notify,
}

impl Shutdown {
    /// Asks the server to end: at once, or when it has handed over what it owns; asked again, at once.
    pub fn ask(&self) {
        let is_second = self.asked.swap(true, Ordering::AcqRel);
        if is_second || !self.hands_over.load(Ordering::Acquire) {
            return self.request();
        }
        self.notify.notify_waiters();
    }

    /// Waits until it is asked, or requested.
    pub async fn asked(&self) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if !self.asked.load(Ordering::Acquire) && !self.is_requested() {
            notified.await;
        }
    }

    /// Asks everybody to finish.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Waits until it is asked for.
    pub async fn requested(&self) {
        while !self.is_requested() {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if !self.is_requested() {
                notified.await;
            }
        }
    }
}

/// Batches of garbage that wait for the background; at the bound the run that made it frees it itself.
const GARBAGE_QUEUE: usize = 1024;

impl Server {
    /// A server that serves nobody yet. `threads` is how many workers will count.
    pub fn new(config: Config, clock: Clock, commands: Table<()>, threads: usize) -> Arc<Server> {
        let now = clock.now();
        let settings = Settings::clone(&config.settings());
        let (garbage, collected) = std::sync::mpsc::sync_channel::<Vec<Garbage>>(GARBAGE_QUEUE);
        // A thread of its own frees large values: it may take long and must not hold a worker. It ends with the server.
        let pending_frees = Arc::new(AtomicU64::new(0));
        let pending = Arc::clone(&pending_frees);
        let spawned = std::thread::Builder::new()
            .name("quoit-free".to_owned())
            .spawn(move || {
                for garbage in collected {
                    let count = garbage.len() as u64;
                    drop(garbage);
                    pending.fetch_sub(count, Ordering::Relaxed);
                }
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to free large values in the background; requests free them themselves");
        }
        let rules = rules_of(&settings);
        let slowlog = Slowlog::default();
        slowlog.set_limit(settings.slowlog_max_len as usize);
        let stats = Stats::new(commands.entries().len(), threads);
        let pubsub = Arc::new(PubSub::new(Arc::clone(&stats.output_limit_disconnections)));
        let key_events = Arc::new(KeyEventPublisher::new(Arc::clone(&pubsub)));
        let keyspace = Keyspace::new(settings.databases as usize, KeyHasher::random(), now);
        keyspace.listeners.add(key_events.clone());
        let clients = Arc::<Clients>::default();
        let tracking = Arc::new(Tracking::new(
            Arc::clone(&keyspace.listeners.tracking),
            Arc::clone(&clients),
            Arc::clone(&stats.output_limit_disconnections),
            Arc::clone(&pubsub),
        ));
        keyspace.listeners.add(tracking.clone());
        let server = Server {
            rules: ArcSwap::from_pointee(rules),
            keyspace,
            started: now,
            run_id: random_hex(20),
            replication_id: Mutex::new(random_hex(20)),
            tcp_port: AtomicU16::new(0),
            peak: Peak::default(),
            pending_frees,
            clients,
            stats,
            commands,
            slowlog,
            latency: LatencyMonitor::default(),
            monitors: Monitors::default(),
            pubsub,
            scripts: Scripts::new(settings.machine.memory_limit_bytes),
            functions: Functions::default(),
            tracking,
            key_events,
            pause: Pause::default(),
            crowd: Crowd::new(threads),
            cluster: OnceLock::new(),
            shutdown: Shutdown::default(),
            base_bytes: AtomicI64::new(0),
            active_expire: AtomicBool::new(true),
            garbage,
            clock,
            config,
        };
        server.choose_messages(&settings);
        Arc::new(server)
    }

    /// Takes over what the parameters say of messages: the limit of a subscriber, the bounds of tracking, and the events of
    /// keys that are published.
    fn choose_messages(&self, settings: &Settings) {
        let limit = settings.client_output_buffer_limit.pubsub.hard_bytes;
        self.pubsub.set_limit(limit);
        self.tracking.choose(settings);
        self.key_events.choose(settings.notify_keyspace_events);
        self.keyspace.listeners.renew();
    }

    /// Takes over changed parameters: called by CONFIG SET before they become visible, under the mutex of changes. `Err`
    /// names the parameter and says why; then nothing is taken over.
    pub fn apply(&self, old: &Settings, new: &Settings) -> Result<(), (String, String)> {
        if new.maxclients != old.maxclients {
            open_files::provide(new.maxclients).map_err(|possible| {
                let why = format!(
                    "The operating system is not able to handle the specified number of clients, try with {possible}"
                );
                ("maxclients".to_owned(), why)
            })?;
        }
        if new.loglevel != old.loglevel {
            log_level::set(new.loglevel);
        }
        self.choose_messages(new);
        self.rules.store(Arc::new(rules_of(new)));
        self.slowlog.set_limit(new.slowlog_max_len as usize);
        Ok(())
    }

    /// Frees large values on the background thread, or here when it has too much to do.
    pub fn discard(&self, garbage: Vec<Garbage>) {
        let count = garbage.len() as u64;
        self.pending_frees.fetch_add(count, Ordering::Relaxed);
        match self.garbage.try_send(garbage) {
            Ok(()) => self.stats.lazy_freed.add(count),
            // A full queue gives the garbage back in the error, which drops it.
            Err(_) => {
                self.pending_frees.fetch_sub(count, Ordering::Relaxed);
            }
        }
    }

    /// Large values that wait to be freed.
    pub fn pending_frees(&self) -> u64 {
        self.pending_frees.load(Ordering::Relaxed)
    }

    /// Whether the latency monitor is on.
    pub fn watches_latency(&self) -> bool {
        !self.config.settings().latency_monitor_threshold.is_zero()
    }

    /// Tells the latency monitor how long something took, when it is on and that was long.
    pub fn note_latency(&self, event: LatencyEvent, took: Duration) {
        let threshold = self.config.settings().latency_monitor_threshold;
        self.latency.note(event, took, threshold, self.clock.now());
    }

    /// Whether a password is asked of clients.
    pub fn needs_password(&self) -> bool {
        self.config.settings().requirepass.is_some()
    }
}

fn rules_of(settings: &Settings) -> Rules {
    Rules {
        maxmemory: settings.maxmemory_bytes(),
        policy: policy_of(settings.maxmemory_policy),
        samples: settings.maxmemory_samples as usize,
        lfu_log_factor: settings.lfu_log_factor,
        lfu_decay_minutes: settings.lfu_decay_time,
        max_string_bytes: settings.proto_max_bulk_len as usize,
        hll_sparse_max_bytes: settings.hll_sparse_max_bytes as usize,
        hash: HashLimits {
            max_listpack_entries: settings.hash_max_listpack_entries as usize,
            max_listpack_value: settings.hash_max_listpack_value as usize,
        },
        set: SetLimits {
            max_intset_entries: settings.set_max_intset_entries as usize,
            max_listpack_entries: settings.set_max_listpack_entries as usize,
            max_listpack_value: settings.set_max_listpack_value as usize,
        },
        zset: zset::Limits {
            entries: settings.zset_max_listpack_entries as usize,
            value: settings.zset_max_listpack_value as usize,
        },
        list: list::Limits::from_parameter(settings.list_max_listpack_size.into()),
        stream: stream::Limits {
            max_bytes: settings.stream_node_max_bytes as usize,
            max_entries: settings.stream_node_max_entries as usize,
        },
    }
}

fn policy_of(policy: MaxmemoryPolicy) -> Policy {
    match policy {
        MaxmemoryPolicy::Noeviction => Policy::NoEviction,
        MaxmemoryPolicy::AllkeysLru => Policy::AllKeysLru,
        MaxmemoryPolicy::AllkeysLfu => Policy::AllKeysLfu,
        MaxmemoryPolicy::AllkeysRandom => Policy::AllKeysRandom,
        MaxmemoryPolicy::VolatileLru => Policy::VolatileLru,
        MaxmemoryPolicy::VolatileLfu => Policy::VolatileLfu,
        MaxmemoryPolicy::VolatileRandom => Policy::VolatileRandom,
        MaxmemoryPolicy::VolatileTtl => Policy::VolatileTtl,
    }
}

/// `bytes` random bytes in hex, for names that need not be secret.
pub fn random_hex(bytes: usize) -> String {
    let mut rng = fastrand::Rng::new();
    (0..bytes).map(|_| format!("{:02x}", rng.u8(..))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Machine;
    use crate::resp::decode::OwnedArguments;

    #[test]
    fn slowlog_max_len_of_the_start_holds() {
        // Aim: the limit counted only once CONFIG SET had changed it.
        let settings = Settings {
            slowlog_max_len: 2,
            ..Settings::new(Machine::probe())
        };
        let commands = Table::build::<()>(std::iter::empty());
        let server = Server::new(Config::new(settings), Clock::system(), commands, 1);
        let request: OwnedArguments = ["PING"].iter().collect();
        for _ in 0..5 {
            let now = server.clock.now();
            server.slowlog.add(now, 1, request.as_arguments(), "", "");
        }
        assert_eq!(server.slowlog.len(), 2);
    }
}
