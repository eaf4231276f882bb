//! The settings: one snapshot of every parameter, each in the type its users want.
//!
//! Nothing here parses a name or knows a default; `parameters.rs` holds one row per field and is the only writer. A snapshot never
//! changes: who reads two fields reads them from one snapshot, and sees them as one `CONFIG SET` left them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::cgroup::Machine;
use super::ring::{ClusterFace, EndpointType, Pin, Seed};
use super::units;

/// All parameters at one moment. Field by field documentation is in the rows of [`super::PARAMETERS`].
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "each field is the parameter of the same name, documented in its row"
)]
pub struct Settings {
    // network
    pub bind: Vec<BindAddress>,
    pub port: u16,
    pub unixsocket: Option<PathBuf>,
    /// Mode bits; 0 leaves them to the umask.
    pub unixsocketperm: u32,
    pub tcp_backlog: u32,
    /// Zero: none.
    pub tcp_keepalive: Duration,
    pub socket_mark_id: u32,
    /// Zero: idle clients stay.
    pub timeout: Duration,
    pub maxclients: u32,
    pub protected_mode: bool,
    /// `None`: no password.
    pub requirepass: Option<Secret>,
    pub proto_max_bulk_len: u64,
    pub client_query_buffer_limit: u64,
    pub client_output_buffer_limit: OutputLimits,
    /// Zero: no limit. See [`Settings::maxmemory_clients_bytes`].
    pub maxmemory_clients: Memory,

    // process
    /// 0: as many as the machine allows. See [`Settings::worker_threads`].
    pub threads: u32,
    pub databases: u32,
    pub hz: u32,
    pub dynamic_hz: bool,
    pub shutdown_timeout: Duration,
    pub dir: PathBuf,
    pub dbfilename: String,

    // memory
    /// As it was asked for. See [`Settings::maxmemory_bytes`].
    pub maxmemory: Memory,
    pub maxmemory_policy: MaxmemoryPolicy,
    pub maxmemory_samples: u32,
    pub maxmemory_eviction_tenacity: u32,
    pub lfu_log_factor: u32,
    pub lfu_decay_time: u32,
    pub active_expire_effort: u32,
    pub lazyfree_lazy_eviction: bool,
    pub lazyfree_lazy_expire: bool,
    pub lazyfree_lazy_server_del: bool,
    pub lazyfree_lazy_user_del: bool,
    pub lazyfree_lazy_user_flush: bool,

    // observation
    pub loglevel: LogLevel,
    /// Empty: standard output.
    pub logfile: String,
    /// Microseconds; negative: off.
    pub slowlog_log_slower_than_us: i64,
    pub slowlog_max_len: u64,
    /// Zero: off.
    pub latency_monitor_threshold: Duration,
    pub latency_tracking: bool,
    pub latency_tracking_info_percentiles: Vec<f64>,
    pub notify_keyspace_events: KeyEvents,
    pub tracking_table_max_keys: u64,
    pub acllog_max_len: u64,

    // commands
    pub enable_protected_configs: Access,
    pub enable_debug_command: Access,
    pub enable_module_command: Access,
    /// (command, new name); an empty new name removes the command.
    pub rename_command: Vec<(String, String)>,
    /// Zero: scripts run undisturbed.
    pub busy_reply_threshold: Duration,

    // the ring
    pub cluster_enabled: bool,
    pub cluster_seeds: Vec<Seed>,
    pub cluster_name: String,
    /// `None`: peers on this machine alone.
    pub cluster_secret: Option<Secret>,
    /// 0: see [`Settings::bus_port`].
    pub cluster_bus_port: u16,
    /// Of `port`.
    pub cluster_face: ClusterFace,
    /// 0: none.
    pub cluster_port: u16,
    /// Empty: the address it listens on.
    pub cluster_announce_ip: String,
    /// 0: see [`Settings::announced_port`].
    pub cluster_announce_port: u16,
    /// Empty: none.
    pub cluster_announce_hostname: String,
    /// Empty: `cluster_announce_ip`.
    pub cluster_announce_bus_ip: String,
    /// 0: the port of the bus.
    pub cluster_announce_bus_port: u16,
    pub cluster_preferred_endpoint_type: EndpointType,
    /// Within `dir`.
    pub cluster_config_file: String,
    pub cluster_node_timeout: Duration,
    pub cluster_weight: u32,
    pub cluster_pin: Vec<Pin>,
    pub cluster_require_full_coverage: bool,
    pub cluster_allow_reads_when_down: bool,

    // encodings
    pub hash_max_listpack_entries: u64,
    pub hash_max_listpack_value: u64,
    /// Positive: entries; -1 to -5: 4 to 64 kB.
    pub list_max_listpack_size: i32,
    pub list_compress_depth: u32,
    pub set_max_intset_entries: u64,
    pub set_max_listpack_entries: u64,
    pub set_max_listpack_value: u64,
    pub zset_max_listpack_entries: u64,
    pub zset_max_listpack_value: u64,
    pub hll_sparse_max_bytes: u64,
    pub stream_node_max_bytes: u64,
    pub stream_node_max_entries: u64,

    /// Values of parameters that are accepted without effect, where they differ from the default.
    pub ignored: BTreeMap<&'static str, String>,
    /// What percentages and automatic values are taken from.
    pub machine: Machine,
}

impl Settings {
    /// The memory limit in bytes; 0: none.
    pub fn maxmemory_bytes(&self) -> u64 {
        match self.maxmemory {
            Memory::Bytes(bytes) => bytes,
            Memory::Percent(percent) => part(self.machine.memory_bytes(), percent),
            // Room is left for buffers, stacks and fragmentation: the kernel kills at the limit, without asking.
            Memory::Auto => part(self.machine.memory_limit_bytes.unwrap_or(0), 75),
        }
    }

    /// The limit on the memory of all clients together, in bytes; 0: none. A percentage is one of maxmemory.
    pub fn maxmemory_clients_bytes(&self) -> u64 {
        match self.maxmemory_clients {
            Memory::Bytes(bytes) => bytes,
            Memory::Percent(percent) => part(self.maxmemory_bytes(), percent),
            Memory::Auto => 0,
        }
    }

    /// How many threads run commands; at least 1.
    pub fn worker_threads(&self) -> usize {
        if self.threads == 0 {
            self.machine.cpu_count as usize
        } else {
            self.threads as usize
        }
    }

    /// What no single row can check. `Err` holds the parameter to name and the reason.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.port == 0 && self.unixsocket.is_none() {
            return Err((
                "port",
                "there is nowhere to listen: port is 0 and unixsocket is not set".into(),
            ));
        }
        if self.bind.is_empty() && self.unixsocket.is_none() {
            return Err((
                "bind",
                "there is nowhere to listen: bind is empty and unixsocket is not set".into(),
            ));
        }
        self.check_ring()
    }
}

fn part(of: u64, percent: u32) -> u64 {
    (u128::from(of) * u128::from(percent) / 100) as u64
}

/// An amount of memory as an operator asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// So many bytes.
    Bytes(u64),
    /// A share, 0 to 100, of what the row says.
    Percent(u32),
    /// What the server thinks right.
    Auto,
}

impl Memory {
    /// As a configuration file writes it.
    pub(super) fn written(self) -> String {
        match self {
            Memory::Bytes(bytes) => units::memory_text(bytes),
            Memory::Percent(percent) => format!("{percent}%"),
            Memory::Auto => "auto".into(),
        }
    }
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// An address or host name; `*` is all of IPv4, `::*` all of IPv6.
    pub host: String,
    /// Written with a leading `-`: an address this machine does not have is skipped instead of ending the start.
    pub optional: bool,
}

/// A password: never printed by Debug, so it cannot slip into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Output buffer limits of the three classes of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimits {
    /// Clients that wait for replies.
    pub normal: OutputLimit,
    /// Replicas.
    pub replica: OutputLimit,
    /// Subscribers.
    pub pubsub: OutputLimit,
}

/// When a client's unread output closes its connection. Zero bytes: no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Closes at once.
    pub hard_bytes: u64,
    /// Closes when exceeded for `soft_duration` without a break.
    pub soft_bytes: u64,
    /// See `soft_bytes`.
    pub soft_duration: Duration,
}

/// A type whose values have fixed names in the configuration.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Values in the order errors list them.
    const VALUES: &'static [Self];
    /// Names in the same order.
    const NAMES: &'static [&'static str];

    fn name(self) -> String {
        let at = Self::VALUES
            .iter()
            .position(|value| *value == self)
            .expect("VALUES holds every value");
        Self::NAMES[at].into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        units::choice(text, Self::NAMES).map(|at| Self::VALUES[at])
    }
}

/// Whom maxmemory makes leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "which keys (volatile: those with an expiry), and in which order"
)]
pub enum MaxmemoryPolicy {
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    #[default]
    Noeviction,
}

impl Choice for MaxmemoryPolicy {
    const VALUES: &'static [Self] = &[
        Self::VolatileLru,
        Self::VolatileLfu,
        Self::VolatileRandom,
        Self::VolatileTtl,
        Self::AllkeysLru,
        Self::AllkeysLfu,
        Self::AllkeysRandom,
        Self::Noeviction,
    ];
    const NAMES: &'static [&'static str] = &[
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "noeviction",
    ];
}

impl MaxmemoryPolicy {
    /// The name clients know it by.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[Self::VALUES
            .iter()
            .position(|value| *value == self)
            .expect("VALUES holds every value")]
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "Redis's levels; verbose lies between debug and notice"
)]
pub enum LogLevel {
    Debug,
    Verbose,
    #[default]
    Notice,
    Warning,
}

impl Choice for LogLevel {
    const VALUES: &'static [Self] = &[Self::Debug, Self::Verbose, Self::Notice, Self::Warning];
    const NAMES: &'static [&'static str] = &["debug", "verbose", "notice", "warning"];
}

/// Who may use a dangerous command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    #[default]
    No,
    /// Every client its rules allow it.
    Yes,
    /// Clients of this machine.
    Local,
}

impl Choice for Access {
    const VALUES: &'static [Self] = &[Self::No, Self::Yes, Self::Local];
    const NAMES: &'static [&'static str] = &["no", "yes", "local"];
}

/// Which keyspace events are published: a set of the constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyEvents(u16);

#[expect(missing_docs, reason = "the letter of each class is in LETTERS")]
impl KeyEvents {
    pub const KEYSPACE: KeyEvents = KeyEvents(1);
    pub const KEYEVENT: KeyEvents = KeyEvents(1 << 1);
    pub const GENERIC: KeyEvents = KeyEvents(1 << 2);
    pub const STRING: KeyEvents = KeyEvents(1 << 3);
    pub const LIST: KeyEvents = KeyEvents(1 << 4);
    pub const SET: KeyEvents = KeyEvents(1 << 5);
    pub const HASH: KeyEvents = KeyEvents(1 << 6);
    pub const ZSET: KeyEvents = KeyEvents(1 << 7);
    pub const EXPIRED: KeyEvents = KeyEvents(1 << 8);
    pub const EVICTED: KeyEvents = KeyEvents(1 << 9);
    pub const STREAM: KeyEvents = KeyEvents(1 << 10);
    pub const KEY_MISS: KeyEvents = KeyEvents(1 << 11);
    pub const MODULE: KeyEvents = KeyEvents(1 << 13);
    pub const NEW: KeyEvents = KeyEvents(1 << 14);
    /// What the letter A stands for: all but misses and new keys.
    pub const ALL: KeyEvents = KeyEvents(0b10_0111_1111_1100);

    /// Classes that A covers, in the order they are printed.
    const CLASSES: [(char, KeyEvents); 10] = [
        ('g', Self::GENERIC),
        ('$', Self::STRING),
        ('l', Self::LIST),
        ('s', Self::SET),
        ('h', Self::HASH),
        ('z', Self::ZSET),
        ('x', Self::EXPIRED),
        ('e', Self::EVICTED),
        ('t', Self::STREAM),
        ('d', Self::MODULE),
    ];
    const OTHERS: [(char, KeyEvents); 4] = [
        ('n', Self::NEW),
        ('K', Self::KEYSPACE),
        ('E', Self::KEYEVENT),
        ('m', Self::KEY_MISS),
    ];

    /// Both sets together.
    pub const fn with(self, other: KeyEvents) -> KeyEvents {
        KeyEvents(self.0 | other.0)
    }

    /// Whether every event of `other` is in this set.
    pub const fn contains(self, other: KeyEvents) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is published: no events, or none of the two kinds of channel.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn parse(text: &str) -> Result<KeyEvents, String> {
        let mut bits = text.chars().map(|letter| {
            let known = [('A', Self::ALL)]
                .into_iter()
                .chain(Self::CLASSES)
                .chain(Self::OTHERS)
                .find(|(known, _)| *known == letter);
            known.map(|(_, events)| events.0)
        });
        let set = bits.try_fold(0, |set, bits| Some(set | bits?));
        set.map(KeyEvents)
            .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into())
    }

    pub(super) fn letters(self) -> String {
        let all = self.contains(Self::ALL);
        let classes = Self::CLASSES.into_iter().filter(|_| !all);
        // Redis forgets the n beside an A (7.0.15); a rewritten file would then lose it, so it is printed here.
        let chosen = classes
            .chain(Self::OTHERS)
            .filter(|(_, events)| self.contains(*events));
        all.then_some('A')
            .into_iter()
            .chain(chosen.map(|(letter, _)| letter))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_events() {
        // Aim: letters in, letters out in the order redis-server prints them.
        for (written, printed) in [
            ("", ""),
            ("KEA", "AKE"),
            ("KEAx", "AKE"),
            ("gK", "gK"),
            ("mnKEx", "xnKEm"),
            ("nKElm", "lnKEm"),
            ("Kg$lshzxetd", "AK"),
            ("Ex", "xE"),
        ] {
            assert_eq!(
                KeyEvents::parse(written).map(KeyEvents::letters),
                Ok(printed.into()),
                "{written}"
            );
        }
        assert_eq!(
            KeyEvents::parse("KEZ"),
            Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into())
        );
        assert!(KeyEvents::parse("AE").is_ok_and(
            |set| set.contains(KeyEvents::EXPIRED) && !set.contains(KeyEvents::KEYSPACE)
        ));
    }

    #[test]
    fn secrets_stay_out_of_debug() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "Secret(***)");
    }

    #[test]
    fn parts_do_not_overflow() {
        assert_eq!(part(u64::MAX, 100), u64::MAX);
        assert_eq!(part(1000, 75), 750);
    }
}
