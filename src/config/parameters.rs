//! One row per parameter: its names, default, range, whether it may change while the server runs, and how it gets into and out of
//! [`Settings`]. The configuration file, the command line, the environment, `CONFIG GET`, `SET` and `REWRITE` all go through these
//! rows; nothing else compares a parameter's name. A new parameter is a field in `settings.rs` and a row here.
//!
//! Names, ranges and texts of refusals are those of redis-server 7.0.15. Defaults are, too, but for five, marked `// ours`: bind
//! (loopback), maxmemory (from the container), set-max-listpack-* (Redis 7.2), cluster-node-timeout (5 s). Our own parameters are
//! `threads` and those of the ring that redis-server has no use for; its cluster-port is the port of the bus, ours that of the
//! cluster face, as clients call it.
//!
//! Rows without effect are in `ignored.rs`; [`Row`] makes the two lists look alike.

use std::path::PathBuf;
use std::time::Duration;

use super::cgroup::Machine;
use super::ignored::{IGNORED, Ignored};
use super::ring::{self, ClusterFace, EndpointType};
use super::settings::{
    Access, BindAddress, Choice, KeyEvents, LogLevel, MaxmemoryPolicy, Memory, OutputLimit,
    OutputLimits, Secret, Settings,
};
use super::units;

/// When a parameter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Any time, with `CONFIG SET`.
    Mutable,
    /// Only at start.
    Immutable,
    /// Only at start, whatever `enable-protected-configs` says: file paths. An attacker who reaches `CONFIG SET dir` owns the host.
    Protected,
    /// Only at start, and `CONFIG` does not know it.
    Directive,
}

/// What a parameter's values look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `yes` or `no`.
    Flag,
    /// A whole number; the unit is for people: "seconds", "ms", "us", or empty.
    #[expect(missing_docs, reason = "the doc of the variant says it")]
    Integer {
        min: i64,
        max: i64,
        unit: &'static str,
    },
    /// A size in bytes, with unit.
    #[expect(missing_docs, reason = "the doc of the variant says it")]
    Memory { min: u64, max: u64 },
    /// A size in bytes, or a percentage; `auto` too where the parameter has a judgement of its own.
    Share,
    /// A file mode in base 8, up to 777.
    Mode,
    /// One of the names.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Several words.
    List,
    /// Pairs of seconds and changes; lines of a file add up.
    SavePoints,
}

impl Kind {
    /// Whether a value may have several words.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::List | Kind::SavePoints)
    }

    /// What a good value would have been, for the operator whose server did not start.
    pub fn expected(self) -> String {
        match self {
            Kind::Flag => "yes or no".into(),
            Kind::Integer { min, max, unit } => {
                let unit = if unit.is_empty() {
                    String::new()
                } else {
                    format!(" of {unit}")
                };
                format!("a whole number{unit} from {min} to {max}")
            }
            Kind::Memory { min, max } => {
                format!("a size such as 512kb, 100mb or 1gb, from {min} to {max} bytes")
            }
            Kind::Share => "a size such as 100mb or 1gb, or a percentage such as 60%".into(),
            Kind::Mode => "a file mode such as 700".into(),
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
            Kind::Text => "one word, or text in quotes".into(),
            Kind::List => "words separated by blanks".into(),
            Kind::SavePoints => "pairs of seconds and changes, or \"\"".into(),
        }
    }

    /// The value as `CONFIG GET` shows it, or why it is none.
    pub(super) fn canonical(self, words: &[&str]) -> Result<String, String> {
        if self.is_list() {
            return if self == Kind::SavePoints {
                save_points(words)
            } else {
                Ok(words.join(" "))
            };
        }
        let text = one(words)?;
        Ok(match self {
            Kind::Flag => units::yes_no(units::flag(text)?),
            Kind::Integer { min, max, .. } => units::integer(text, min, max)?.to_string(),
            Kind::Memory { min, max } => units::memory(text, min, max)?.to_string(),
            Kind::Share => share_text(share(text)?),
            Kind::Mode => format!("{:o}", units::octal(text, MODE_MAX)?),
            Kind::Choice(names) => names[units::choice(text, names)?].into(),
            Kind::Text | Kind::List | Kind::SavePoints => text.into(),
        })
    }
}

/// The row of a parameter that has an effect.
pub struct Parameter {
    /// The name it is known by.
    pub name: &'static str,
    /// Names it was known by; `CONFIG GET` lists them beside it.
    pub aliases: &'static [&'static str],
    /// Its default, as it would be written.
    pub default: &'static str,
    /// What its values look like.
    pub kind: Kind,
    /// When it may change.
    pub change: Change,
    /// Whether the value must stay out of logs and messages.
    pub sensitive: bool,
    /// What it does.
    pub doc: &'static str,
    /// The value as `CONFIG GET` shows it.
    pub get: fn(&Settings) -> String,
    /// Takes a value apart into words. On error the settings are as before.
    pub set: fn(&mut Settings, &[&str]) -> Result<(), String>,
    /// The lines a configuration file needs, without the name; `None`: one line, which `get` and `kind` give.
    pub lines: Option<fn(&Settings) -> Vec<String>>,
}

/// Rows that are read, checked and kept, and change nothing: their parts are not built yet, or what they choose has one
/// answer here (values are always freed off the request; eviction has its own bound). The log names one that was set.
const WITHOUT_EFFECT: &[&str] = &[
    "dynamic-hz",
    "dir",
    "dbfilename",
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-user-flush",
    "acllog-max-len",
    "enable-protected-configs",
    "enable-module-command",
    "list-compress-depth",
];

/// A row of either list.
#[derive(Clone, Copy)]
pub enum Row {
    /// It has an effect.
    Parameter(&'static Parameter),
    /// It is accepted and kept.
    Ignored(&'static Ignored),
}

impl Row {
    /// The row known by `name`, in any case, and the name as the row writes it (an alias stays one).
    pub fn find(name: &str) -> Option<(Row, &'static str)> {
        Row::all().find_map(|row| {
            row.names()
                .find(|known| known.eq_ignore_ascii_case(name))
                .map(|known| (row, known))
        })
    }

    /// Every row: those with effect first.
    pub fn all() -> impl Iterator<Item = Row> {
        PARAMETERS
            .iter()
            .map(Row::Parameter)
            .chain(IGNORED.iter().map(Row::Ignored))
    }

    /// Its name, then its aliases.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let aliases = match self {
            Row::Parameter(row) => row.aliases,
            Row::Ignored(row) => row.aliases,
        };
        std::iter::once(self.name()).chain(aliases.iter().copied())
    }

    /// The name it is known by.
    pub fn name(self) -> &'static str {
        match self {
            Row::Parameter(row) => row.name,
            Row::Ignored(row) => row.name,
        }
    }

    /// Whether setting it changes anything.
    pub fn has_effect(self) -> bool {
        match self {
            Row::Parameter(row) => !WITHOUT_EFFECT.contains(&row.name),
            Row::Ignored(_) => false,
        }
    }

    /// Whether its value is not the default.
    pub(super) fn is_set(self, settings: &Settings) -> bool {
        match self {
            Row::Parameter(row) => {
                let mut other = settings.clone();
                let default = Row::Parameter(row).set_text(&mut other, row.default);
                default.is_ok() && (row.get)(&other) != (row.get)(settings)
            }
            Row::Ignored(row) => settings.ignored.contains_key(row.name),
        }
    }

    /// What its values look like.
    pub fn kind(self) -> Kind {
        match self {
            Row::Parameter(row) => row.kind,
            Row::Ignored(row) => row.kind,
        }
    }

    /// When it may change.
    pub fn change(self) -> Change {
        match self {
            Row::Parameter(row) => row.change,
            Row::Ignored(row) => row.change,
        }
    }

    /// Whether the value must stay out of logs and messages.
    pub fn sensitive(self) -> bool {
        match self {
            Row::Parameter(row) => row.sensitive,
            Row::Ignored(row) => row.sensitive,
        }
    }

    /// The value as `CONFIG GET` shows it.
    pub fn value(self, settings: &Settings) -> String {
        match self {
            Row::Parameter(row) => (row.get)(settings),
            Row::Ignored(row) => settings
                .ignored
                .get(row.name)
                .cloned()
                .unwrap_or_else(|| row.default.into()),
        }
    }

    /// Sets a value of several words. On error the settings are as before.
    pub fn set(self, settings: &mut Settings, words: &[&str]) -> Result<(), String> {
        match self {
            Row::Parameter(row) => (row.set)(settings, words),
            Row::Ignored(row) => row.set(settings, words),
        }
    }

    /// Sets a value that came as one text: `CONFIG SET` and the environment write lists so.
    pub fn set_text(self, settings: &mut Settings, text: &str) -> Result<(), String> {
        if self.kind().is_list() && !text.is_empty() {
            self.set(settings, &text.split(' ').collect::<Vec<_>>())
        } else {
            self.set(settings, &[text])
        }
    }

    /// The lines, without the name, that make a configuration file say what `settings` say.
    pub(super) fn lines(self, settings: &Settings) -> Vec<String> {
        if let Row::Parameter(Parameter {
            lines: Some(lines), ..
        }) = self
        {
            return lines(settings);
        }
        let value = self.value(settings);
        vec![match self.kind() {
            Kind::Text => units::quoted(&value),
            Kind::Memory { .. } => value.parse().map_or(value, units::memory_text),
            _ => value
                .split(' ')
                .map(units::word)
                .collect::<Vec<_>>()
                .join(" "),
        }]
    }
}

impl Settings {
    /// Every parameter at its default on such a machine.
    pub fn new(machine: Machine) -> Settings {
        let mut settings = blank(machine);
        for row in PARAMETERS {
            Row::Parameter(row)
                .set_text(&mut settings, row.default)
                .expect("a default is a good value");
        }
        settings
    }
}

/// The mistake of the wrong number of words.
pub(super) const WRONG_NUMBER: &str = "wrong number of arguments";

const MODE_MAX: u32 = 0o777;
const INT_MAX: i64 = i32::MAX as i64;
/// Sizes stay below 2^63 where other code adds to them.
const SIZE_MAX: u64 = i64::MAX as u64;

/// A row whose value is one word: how the field is printed (`$get`) and read (`$set`).
macro_rules! row {
    ($name:literal $aliases:expr, $default:literal, $kind:expr, $change:ident, $doc:literal, $get:expr, $set:expr) => {
        Parameter {
            name: $name,
            aliases: &$aliases,
            default: $default,
            kind: $kind,
            change: Change::$change,
            sensitive: false,
            doc: $doc,
            get: $get,
            set: $set,
            lines: None,
        }
    };
}

macro_rules! flag {
    ($field:ident, $name:literal $aliases:expr, $default:literal, $change:ident, $doc:literal) => {
        row!($name $aliases, $default, Kind::Flag, $change, $doc, |s| units::yes_no(s.$field), |s, words| {
            s.$field = units::flag(one(words)?)?;
            Ok(())
        })
    };
}

macro_rules! integer {
    ($field:ident, $name:literal $aliases:expr, $default:literal, $min:expr, $max:expr, $change:ident, $doc:literal) => {
        row!($name $aliases, $default, Kind::Integer { min: $min, max: $max, unit: "" }, $change, $doc, |s| s.$field.to_string(), |s, words| {
            s.$field = units::integer(one(words)?, $min, $max)?.try_into().expect("the range fits the field");
            Ok(())
        })
    };
}

macro_rules! seconds {
    ($field:ident, $name:literal $aliases:expr, $default:literal, $change:ident, $doc:literal) => {
        row!($name $aliases, $default, Kind::Integer { min: 0, max: INT_MAX, unit: "seconds" }, $change, $doc, |s| s.$field.as_secs().to_string(), |s, words| {
            s.$field = Duration::from_secs(units::integer(one(words)?, 0, INT_MAX)?.unsigned_abs());
            Ok(())
        })
    };
}

macro_rules! millis {
    ($field:ident, $name:literal $aliases:expr, $default:literal, $change:ident, $doc:literal) => {
        row!($name $aliases, $default, Kind::Integer { min: 0, max: i64::MAX, unit: "ms" }, $change, $doc, |s| s.$field.as_millis().to_string(), |s, words| {
            s.$field = Duration::from_millis(units::integer(one(words)?, 0, i64::MAX)?.unsigned_abs());
            Ok(())
        })
    };
}

macro_rules! memory {
    ($field:ident, $name:literal $aliases:expr, $default:literal, $min:expr, $change:ident, $doc:literal) => {
        row!($name $aliases, $default, Kind::Memory { min: $min, max: SIZE_MAX }, $change, $doc, |s| s.$field.to_string(), |s, words| {
            s.$field = units::memory(one(words)?, $min, SIZE_MAX)?;
            Ok(())
        })
    };
}

macro_rules! choice {
    ($field:ident: $type:ty, $name:literal $aliases:expr, $default:literal, $change:ident, $doc:literal) => {
        row!($name $aliases, $default, Kind::Choice(<$type>::NAMES), $change, $doc, |s| s.$field.name(), |s, words| {
            s.$field = <$type>::parse(one(words)?)?;
            Ok(())
        })
    };
}

/// Every parameter that has an effect.
#[rustfmt::skip] // a row is a line
pub static PARAMETERS: &[Parameter] = &[
    // network
    row!("bind" [], "127.0.0.1 -::1", Kind::List, Immutable, // ours
        "Addresses to listen on; * is every IPv4 address, ::* every IPv6 address; a leading - lets an address be absent.", bind, set_bind),
    integer!(port, "port" [], "6379", 0, 65535, Immutable, "TCP port; 0 listens on no TCP port."),
    row!("unixsocket" [], "", Kind::Text, Immutable, "Path of a Unix socket to listen on as well; empty for none.", unixsocket, set_unixsocket),
    row!("unixsocketperm" [], "0", Kind::Mode, Immutable, "Mode of the Unix socket, set before anyone can connect; 0 leaves it to the umask.",
        |s| format!("{:o}", s.unixsocketperm), |s, words| { s.unixsocketperm = units::octal(one(words)?, MODE_MAX)?; Ok(()) }),
    integer!(tcp_backlog, "tcp-backlog" [], "511", 0, INT_MAX, Immutable, "Connections the kernel holds until they are accepted."),
    seconds!(tcp_keepalive, "tcp-keepalive" [], "300", Mutable, "Silence after which the kernel asks whether a client still lives; 0 never asks."),
    integer!(socket_mark_id, "socket-mark-id" [], "0", 0, u32::MAX as i64, Immutable, "Mark of listening sockets, for routing and packet filters; 0 for none."),
    seconds!(timeout, "timeout" [], "0", Mutable, "Closes clients that were silent for so long; 0 lets them stay."),
    integer!(maxclients, "maxclients" [], "10000", 1, u32::MAX as i64, Mutable, "Connections served at a time; more are refused."),
    flag!(protected_mode, "protected-mode" [], "yes", Mutable, "Serves only this machine while no password is set."),
    Parameter { sensitive: true, ..row!("requirepass" [], "", Kind::Text, Mutable, "Password of the default user; empty for none.",
        |s| s.requirepass.as_ref().map_or_else(String::new, |secret| secret.0.clone()), set_requirepass) },
    memory!(proto_max_bulk_len, "proto-max-bulk-len" [], "512mb", 1 << 20, Mutable, "Largest single argument, and largest string a command may build."),
    memory!(client_query_buffer_limit, "client-query-buffer-limit" [], "1gb", 1 << 20, Mutable, "Closes a client whose unfinished request grows beyond this."),
    Parameter { lines: Some(output_limit_lines), ..row!("client-output-buffer-limit" [], "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60", Kind::List, Mutable,
        "Per class: hard limit, soft limit and its seconds; closes a client that reads its replies too slowly.", output_limits, set_output_limits) },
    Parameter { lines: Some(|s| vec![s.maxmemory_clients.written()]), ..row!("maxmemory-clients" [], "0", Kind::Share, Mutable,
        "Memory of all clients together, in bytes or percent of maxmemory, beyond which the largest are closed; 0 for no limit.",
        |s| share_text(s.maxmemory_clients), |s, words| { s.maxmemory_clients = share(one(words)?)?; Ok(()) }) },

    // process
    integer!(threads, "threads" [], "0", 0, 1024, Immutable, "Threads that run commands; 0 takes the container's processor quota, rounded up, else every core."),
    integer!(databases, "databases" [], "16", 1, 65536, Immutable, "Number of databases SELECT reaches."),
    row!("hz" [], "10", Kind::Integer { min: 0, max: INT_MAX, unit: "" }, Mutable, "Rounds of background work per second, 1 to 500.",
        |s| s.hz.to_string(), |s, words| { s.hz = units::integer(one(words)?, 0, INT_MAX)?.clamp(1, 500) as u32; Ok(()) }),
    flag!(dynamic_hz, "dynamic-hz" [], "yes", Mutable, "Lets background work run more often with many clients."),
    seconds!(shutdown_timeout, "shutdown-timeout" [], "10", Mutable, "How long a stop may take to hand slots over to the ring and to let clients finish."),
    row!("dir" [], ".", Kind::Text, Protected, "Directory of the files this server writes.",
        dir, |s, words| { s.dir = PathBuf::from(one(words)?); Ok(()) }),
    row!("dbfilename" [], "dump.rdb", Kind::Text, Protected, "Name of the snapshot within dir.", |s| s.dbfilename.clone(), set_dbfilename),

    // memory
    Parameter { lines: Some(|s| vec![s.maxmemory.written()]), ..row!("maxmemory" [], "auto", Kind::Share, Mutable, // ours
        "Memory for data: bytes, or percent of the container's or machine's memory; 0 for no limit; auto is 75 % of a container's limit, none outside one.",
        |s| s.maxmemory_bytes().to_string(), set_maxmemory) },
    choice!(maxmemory_policy: MaxmemoryPolicy, "maxmemory-policy" [], "noeviction", Mutable, "Which keys leave when maxmemory is reached."),
    integer!(maxmemory_samples, "maxmemory-samples" [], "5", 1, INT_MAX, Mutable, "Keys compared for each eviction: more is closer to the policy and slower."),
    integer!(maxmemory_eviction_tenacity, "maxmemory-eviction-tenacity" [], "10", 0, 100, Mutable, "How long one request may be held up by eviction; 100 is without end."),
    integer!(lfu_log_factor, "lfu-log-factor" [], "10", 0, INT_MAX, Mutable, "How much harder each further step of the LFU counter gets."),
    integer!(lfu_decay_time, "lfu-decay-time" [], "1", 0, INT_MAX, Mutable, "Minutes until an unused key's LFU counter drops by one; 0 drops it at every look."),
    integer!(active_expire_effort, "active-expire-effort" [], "1", 1, 10, Mutable, "How much time goes into finding expired keys nobody asks for."),
    flag!(lazyfree_lazy_eviction, "lazyfree-lazy-eviction" [], "no", Mutable, "Frees evicted values in the background."),
    flag!(lazyfree_lazy_expire, "lazyfree-lazy-expire" [], "no", Mutable, "Frees expired values in the background."),
    flag!(lazyfree_lazy_server_del, "lazyfree-lazy-server-del" [], "no", Mutable, "Frees overwritten values in the background."),
    flag!(lazyfree_lazy_user_del, "lazyfree-lazy-user-del" [], "no", Mutable, "Makes DEL do what UNLINK does."),
    flag!(lazyfree_lazy_user_flush, "lazyfree-lazy-user-flush" [], "no", Mutable, "Makes FLUSHALL, FLUSHDB, SCRIPT FLUSH and FUNCTION FLUSH asynchronous unless told otherwise."),

    // observation
    choice!(loglevel: LogLevel, "loglevel" [], "notice", Mutable, "How much is logged."),
    row!("logfile" [], "", Kind::Text, Immutable, "File the log goes to; empty for standard output.", |s| s.logfile.clone(), |s, words| { s.logfile = one(words)?.into(); Ok(()) }),
    row!("slowlog-log-slower-than" [], "10000", Kind::Integer { min: -1, max: i64::MAX, unit: "us" }, Mutable, "Duration from which a command enters the slow log; 0 takes all, -1 none.",
        |s| s.slowlog_log_slower_than_us.to_string(), |s, words| { s.slowlog_log_slower_than_us = units::integer(one(words)?, -1, i64::MAX)?; Ok(()) }),
    integer!(slowlog_max_len, "slowlog-max-len" [], "128", 0, i64::MAX, Mutable, "Entries the slow log keeps."),
    millis!(latency_monitor_threshold, "latency-monitor-threshold" [], "0", Mutable, "Duration from which an event enters the latency monitor; 0 turns it off."),
    flag!(latency_tracking, "latency-tracking" [], "yes", Mutable, "Keeps a histogram of durations per command."),
    row!("latency-tracking-info-percentiles" [], "50 99 99.9", Kind::List, Mutable, "Percentiles INFO latencystats shows.", percentiles, set_percentiles),
    row!("notify-keyspace-events" [], "", Kind::Text, Mutable, "Classes of key events that are published, by letter; empty for none.",
        |s| s.notify_keyspace_events.letters(), |s, words| { s.notify_keyspace_events = KeyEvents::parse(one(words)?)?; Ok(()) }),
    integer!(tracking_table_max_keys, "tracking-table-max-keys" [], "1000000", 0, i64::MAX, Mutable, "Keys remembered for client-side caching; more cost early invalidations. 0 for no limit."),
    integer!(acllog_max_len, "acllog-max-len" [], "128", 0, i64::MAX, Mutable, "Entries the log of refused commands keeps."),

    // commands
    choice!(enable_protected_configs: Access, "enable-protected-configs" [], "no", Immutable, "Known for Redis's sake: paths do not change at run time, whatever it says."),
    choice!(enable_debug_command: Access, "enable-debug-command" [], "no", Immutable, "Who may use DEBUG."),
    choice!(enable_module_command: Access, "enable-module-command" [], "no", Immutable, "Who may use MODULE."),
    Parameter { lines: Some(|s| s.rename_command.iter().map(|(from, to)| format!("{} {}", units::word(from), units::word(to))).collect()), ..row!("rename-command" [], "", Kind::List, Directive,
        "Renames a command, or removes it with an empty new name; may be repeated.", |s| s.rename_command.iter().map(|(from, to)| format!("{from} {to}")).collect::<Vec<_>>().join(" "), set_rename_command) },
    millis!(busy_reply_threshold, "busy-reply-threshold" ["lua-time-limit"], "5000", Mutable, "How long a script runs before other clients are told that the server is busy; 0 never tells."),

    // the ring
    flag!(cluster_enabled, "cluster-enabled" [], "no", Immutable, "Makes this server a node of a ring."),
    row!("cluster-seeds" [], "", Kind::List, Immutable, "Where to look for the ring: host:port or host:port@bus-port, several times; a name may stand for many addresses.", ring::seeds, ring::set_seeds),
    row!("cluster-name" [], "quoit", Kind::Text, Immutable, "Name of the ring; nodes of another one are refused.",
        |s| s.cluster_name.clone(), |s, words| { s.cluster_name = ring::name(one(words)?)?; Ok(()) }),
    Parameter { sensitive: true, lines: Some(|s| vec![units::quoted(s.cluster_secret.as_ref().map_or("", |secret| &secret.0))]),
        ..row!("cluster-secret" [], "", Kind::Text, Immutable, "What nodes prove to each other to know; without one only peers on this machine are accepted. CONFIG GET shows ***.",
        |s| if s.cluster_secret.is_some() { "***" } else { "" }.into(), |s, words| { let word = one(words)?; s.cluster_secret = (!word.is_empty()).then(|| Secret(word.into())); Ok(()) }) },
    integer!(cluster_bus_port, "cluster-bus-port" [], "0", 0, 65535, Immutable, "Port on which peers reach this node; 0 is port + 10000."), // ours
    choice!(cluster_face: ClusterFace, "cluster-face" [], "single", Immutable, "What clients see on port: one server (single) or a Redis Cluster (cluster)."), // ours
    integer!(cluster_port, "cluster-port" [], "0", 0, 65535, Immutable, "Port that shows a Redis Cluster beside port, which shows one server; 0 for none."), // ours
    row!("cluster-announce-ip" [], "", Kind::Text, Immutable, "Address or name at which clients reach this node, if not the one it listens on.",
        |s| s.cluster_announce_ip.clone(), |s, words| { s.cluster_announce_ip = ring::announced(one(words)?)?; Ok(()) }),
    integer!(cluster_announce_port, "cluster-announce-port" [], "0", 0, 65535, Immutable, "Port that clients of the cluster face are told; 0 is cluster-port, or port if that shows a Redis Cluster."),
    row!("cluster-announce-hostname" [], "", Kind::Text, Immutable, "Name that is told to clients beside the address.",
        |s| s.cluster_announce_hostname.clone(), |s, words| { s.cluster_announce_hostname = ring::hostname(one(words)?)?; Ok(()) }),
    row!("cluster-announce-bus-ip" [], "", Kind::Text, Immutable, "Address or name at which peers reach this node; empty is that for clients.", // ours
        |s| s.cluster_announce_bus_ip.clone(), |s, words| { s.cluster_announce_bus_ip = ring::announced(one(words)?)?; Ok(()) }),
    integer!(cluster_announce_bus_port, "cluster-announce-bus-port" [], "0", 0, 65535, Immutable, "Port at which peers reach this node; 0 is that of the bus."),
    choice!(cluster_preferred_endpoint_type: EndpointType, "cluster-preferred-endpoint-type" [], "ip", Mutable, "Where clients are sent: to the address, the name, or the host that they asked (unknown-endpoint)."),
    row!("cluster-config-file" [], "nodes.conf", Kind::Text, Protected, "Name, within dir, of the file in which a node keeps who it is and what the ring agreed on.",
        |s| s.cluster_config_file.clone(), |s, words| { s.cluster_config_file = ring::file_name(one(words)?)?; Ok(()) }),
    row!("cluster-node-timeout" [], "5000", Kind::Integer { min: 100, max: INT_MAX, unit: "ms" }, Immutable, "Silence after which a node has failed and others own its slots; the same on all nodes.", // ours
        |s| s.cluster_node_timeout.as_millis().to_string(), |s, words| { s.cluster_node_timeout = Duration::from_millis(units::integer(one(words)?, 100, INT_MAX)?.unsigned_abs()); Ok(()) }),
    integer!(cluster_weight, "cluster-weight" [], "100", 1, 10000, Mutable, "Share of the ring that this node takes, in proportion to the weights of others."),
    row!("cluster-pin" [], "", Kind::List, Immutable, "Databases and prefixes of keys, each of which keeps all its keys on one node; the same on all nodes.", ring::pins, ring::set_pins),
    flag!(cluster_require_full_coverage, "cluster-require-full-coverage" [], "yes", Mutable, "Refuses all keys while a slot has no owner."),
    flag!(cluster_allow_reads_when_down, "cluster-allow-reads-when-down" [], "no", Mutable, "Lets a node answer reads of its own keys while the ring is down."),

    // encodings
    integer!(hash_max_listpack_entries, "hash-max-listpack-entries" ["hash-max-ziplist-entries"], "512", 0, i64::MAX, Mutable, "Most fields of a packed hash."),
    memory!(hash_max_listpack_value, "hash-max-listpack-value" ["hash-max-ziplist-value"], "64", 0, Mutable, "Longest field or value of a packed hash."),
    integer!(list_max_listpack_size, "list-max-listpack-size" ["list-max-ziplist-size"], "-2", i32::MIN as i64, INT_MAX, Mutable, "Size of a list's packed pieces: entries, or -1 to -5 for 4 to 64 kB."),
    integer!(list_compress_depth, "list-compress-depth" [], "0", 0, INT_MAX, Mutable, "Pieces at each end of a list that stay uncompressed; 0 compresses none."),
    integer!(set_max_intset_entries, "set-max-intset-entries" [], "512", 0, i64::MAX, Mutable, "Most members of a set kept as sorted integers."),
    integer!(set_max_listpack_entries, "set-max-listpack-entries" [], "128", 0, i64::MAX, Mutable, "Most members of a packed set."), // ours
    memory!(set_max_listpack_value, "set-max-listpack-value" [], "64", 0, Mutable, "Longest member of a packed set."), // ours
    integer!(zset_max_listpack_entries, "zset-max-listpack-entries" ["zset-max-ziplist-entries"], "128", 0, i64::MAX, Mutable, "Most members of a packed sorted set."),
    memory!(zset_max_listpack_value, "zset-max-listpack-value" ["zset-max-ziplist-value"], "64", 0, Mutable, "Longest member of a packed sorted set."),
    memory!(hll_sparse_max_bytes, "hll-sparse-max-bytes" [], "3000", 0, Mutable, "Size beyond which a HyperLogLog is dense."),
    memory!(stream_node_max_bytes, "stream-node-max-bytes" [], "4096", 0, Mutable, "Size of a stream's packed pieces; 0 for no limit."),
    integer!(stream_node_max_entries, "stream-node-max-entries" [], "100", 0, i64::MAX, Mutable, "Entries of a stream's packed pieces; 0 for no limit."),
];

/// The only word of a value.
pub(super) fn one<'a>(words: &[&'a str]) -> Result<&'a str, String> {
    let [word] = words else {
        return Err(WRONG_NUMBER.into());
    };
    Ok(word)
}

fn bind(settings: &Settings) -> String {
    let text = |address: &BindAddress| {
        format!(
            "{}{}",
            if address.optional { "-" } else { "" },
            address.host
        )
    };
    settings.bind.iter().map(text).collect::<Vec<_>>().join(" ")
}

fn set_bind(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    // The limit is Redis's; each address is a socket.
    if words.len() > 16 {
        return Err("Too many bind addresses specified.".into());
    }
    let words = if words == [""] { &[] } else { words };
    let address = |word: &&str| {
        let (host, optional) = word
            .strip_prefix('-')
            .map_or((*word, false), |host| (host, true));
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        (!host.is_empty()).then(|| BindAddress {
            host: host.into(),
            optional,
        })
    };
    settings.bind = words
        .iter()
        .map(address)
        .collect::<Option<_>>()
        .ok_or("an address is empty")?;
    Ok(())
}

fn unixsocket(settings: &Settings) -> String {
    settings
        .unixsocket
        .as_ref()
        .map_or_else(String::new, |path| path.to_string_lossy().into_owned())
}

fn set_unixsocket(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    let path = one(words)?;
    settings.unixsocket = (!path.is_empty()).then(|| path.into());
    Ok(())
}

fn set_requirepass(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    let password = one(words)?;
    settings.requirepass = (!password.is_empty()).then(|| Secret(password.into()));
    Ok(())
}

/// Tools that look for the files need the whole path.
fn dir(settings: &Settings) -> String {
    std::path::absolute(&settings.dir)
        .unwrap_or_else(|_| settings.dir.clone())
        .to_string_lossy()
        .into_owned()
}

fn set_dbfilename(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    let name = one(words)?;
    if name.contains('/') {
        return Err("dbfilename can't be a path, just a filename".into());
    }
    settings.dbfilename = name.into();
    Ok(())
}

fn set_maxmemory(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    let text = one(words)?;
    let wanted = if text.eq_ignore_ascii_case("auto") {
        Memory::Auto
    } else {
        share(text).map_err(plain_memory)?
    };
    if matches!(wanted, Memory::Percent(_)) && settings.machine.memory_bytes() == 0 {
        return Err("the machine's memory is unknown, so a percentage of it is, too".into());
    }
    settings.maxmemory = wanted;
    Ok(())
}

/// Clients know this parameter's error in the words of a server that has no percentages here.
fn plain_memory(error: String) -> String {
    if error == NOT_A_SHARE {
        "argument must be a memory value".into()
    } else {
        error
    }
}

const NOT_A_SHARE: &str = "argument must be a memory or percent value";

fn share(text: &str) -> Result<Memory, String> {
    match units::percent(text) {
        Some(percent) => percent.map(Memory::Percent),
        None => units::memory(text, 0, u64::MAX)
            .map(Memory::Bytes)
            .map_err(|_| NOT_A_SHARE.into()),
    }
}

fn share_text(share: Memory) -> String {
    if let Memory::Bytes(bytes) = share {
        bytes.to_string()
    } else {
        share.written()
    }
}

fn output_limits(settings: &Settings) -> String {
    let OutputLimits {
        normal,
        replica,
        pubsub,
    } = settings.client_output_buffer_limit;
    // The middle class keeps its old name here, and its new one in files, as in Redis.
    let classes = [("normal", normal), ("slave", replica), ("pubsub", pubsub)];
    let text = |(class, limit): (&str, OutputLimit)| {
        format!(
            "{class} {} {} {}",
            limit.hard_bytes,
            limit.soft_bytes,
            limit.soft_duration.as_secs()
        )
    };
    classes.map(text).join(" ")
}

fn output_limit_lines(settings: &Settings) -> Vec<String> {
    let OutputLimits {
        normal,
        replica,
        pubsub,
    } = settings.client_output_buffer_limit;
    let classes = [("normal", normal), ("replica", replica), ("pubsub", pubsub)];
    let text = |(class, limit): (&str, OutputLimit)| {
        let (hard, soft) = (
            units::memory_text(limit.hard_bytes),
            units::memory_text(limit.soft_bytes),
        );
        format!("{class} {hard} {soft} {}", limit.soft_duration.as_secs())
    };
    classes.map(text).into()
}

/// Sets the classes that are named; others keep their limits.
fn set_output_limits(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    let words = if words == [""] { &[] } else { words };
    let (limits, rest) = words.as_chunks::<4>();
    if !rest.is_empty() {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut all = settings.client_output_buffer_limit;
    for [class, hard, soft, seconds] in limits {
        let target = match class.to_ascii_lowercase().as_str() {
            "normal" => &mut all.normal,
            "replica" | "slave" => &mut all.replica,
            "pubsub" => &mut all.pubsub,
            _ => {
                return Err("Invalid client class specified in buffer limit configuration.".into());
            }
        };
        *target = output_limit(hard, soft, seconds).map_err(
            |_| "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        )?;
    }
    settings.client_output_buffer_limit = all;
    Ok(())
}

fn output_limit(hard: &str, soft: &str, seconds: &str) -> Result<OutputLimit, String> {
    Ok(OutputLimit {
        hard_bytes: units::memory(hard, 0, SIZE_MAX)?,
        soft_bytes: units::memory(soft, 0, SIZE_MAX)?,
        soft_duration: Duration::from_secs(units::integer(seconds, 0, i64::MAX)?.unsigned_abs()),
    })
}

fn percentiles(settings: &Settings) -> String {
    settings
        .latency_tracking_info_percentiles
        .iter()
        .map(f64::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn set_percentiles(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    let words = if words == [""] { &[] } else { words };
    let number = |word: &&str| {
        word.parse()
            .map_err(|_| "Invalid latency-tracking-info-percentiles parameters".to_string())
    };
    let numbers: Vec<f64> = words.iter().map(number).collect::<Result<_, _>>()?;
    if !numbers.iter().all(|number| (0.0..=100.0).contains(number)) {
        return Err(
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into(),
        );
    }
    settings.latency_tracking_info_percentiles = numbers;
    Ok(())
}

/// Adds to those already renamed; the row's default starts the list anew.
fn set_rename_command(settings: &mut Settings, words: &[&str]) -> Result<(), String> {
    match words {
        [""] => settings.rename_command.clear(),
        [from, to] if !from.is_empty() => settings
            .rename_command
            .push((from.to_ascii_lowercase(), to.to_ascii_lowercase())),
        _ => return Err(WRONG_NUMBER.into()),
    }
    Ok(())
}

fn save_points(words: &[&str]) -> Result<String, String> {
    let words = if words == [""] { &[] } else { words };
    let (pairs, rest) = words.as_chunks::<2>();
    let good = |[seconds, changes]: &[&str; 2]| {
        units::integer(seconds, 1, i64::MAX).is_ok() && units::integer(changes, 0, INT_MAX).is_ok()
    };
    if !rest.is_empty() || !pairs.iter().all(good) {
        return Err("Invalid save parameters".into());
    }
    Ok(words.join(" "))
}

/// Every field at a value that its row overwrites.
fn blank(machine: Machine) -> Settings {
    let none = Duration::ZERO;
    Settings {
        bind: Vec::new(),
        port: 0,
        unixsocket: None,
        unixsocketperm: 0,
        tcp_backlog: 0,
        tcp_keepalive: none,
        socket_mark_id: 0,
        timeout: none,
        maxclients: 0,
        protected_mode: true,
        requirepass: None,
        proto_max_bulk_len: 0,
        client_query_buffer_limit: 0,
        client_output_buffer_limit: OutputLimits::default(),
        maxmemory_clients: Memory::Auto,
        threads: 0,
        databases: 0,
        hz: 0,
        dynamic_hz: false,
        shutdown_timeout: none,
        dir: PathBuf::new(),
        dbfilename: String::new(),
        maxmemory: Memory::Auto,
        maxmemory_policy: MaxmemoryPolicy::default(),
        maxmemory_samples: 0,
        maxmemory_eviction_tenacity: 0,
        lfu_log_factor: 0,
        lfu_decay_time: 0,
        active_expire_effort: 0,
        lazyfree_lazy_eviction: false,
        lazyfree_lazy_expire: false,
        lazyfree_lazy_server_del: false,
        lazyfree_lazy_user_del: false,
        lazyfree_lazy_user_flush: false,
        loglevel: LogLevel::default(),
        logfile: String::new(),
        slowlog_log_slower_than_us: 0,
        slowlog_max_len: 0,
        latency_monitor_threshold: none,
        latency_tracking: false,
        latency_tracking_info_percentiles: Vec::new(),
        notify_keyspace_events: KeyEvents::default(),
        tracking_table_max_keys: 0,
        acllog_max_len: 0,
        enable_protected_configs: Access::default(),
        enable_debug_command: Access::default(),
        enable_module_command: Access::default(),
        rename_command: Vec::new(),
        busy_reply_threshold: none,
        cluster_enabled: false,
        cluster_seeds: Vec::new(),
        cluster_name: String::new(),
        cluster_secret: None,
        cluster_bus_port: 0,
        cluster_face: ClusterFace::default(),
        cluster_port: 0,
        cluster_announce_ip: String::new(),
        cluster_announce_port: 0,
        cluster_announce_hostname: String::new(),
        cluster_announce_bus_ip: String::new(),
        cluster_announce_bus_port: 0,
        cluster_preferred_endpoint_type: EndpointType::default(),
        cluster_config_file: String::new(),
        cluster_node_timeout: none,
        cluster_weight: 0,
        cluster_pin: Vec::new(),
        cluster_require_full_coverage: false,
        cluster_allow_reads_when_down: false,
        hash_max_listpack_entries: 0,
        hash_max_listpack_value: 0,
        list_max_listpack_size: 0,
        list_compress_depth: 0,
        set_max_intset_entries: 0,
        set_max_listpack_entries: 0,
        set_max_listpack_value: 0,
        zset_max_listpack_entries: 0,
        zset_max_listpack_value: 0,
        hll_sparse_max_bytes: 0,
        stream_node_max_bytes: 0,
        stream_node_max_entries: 0,
        ignored: Default::default(),
        machine,
    }
}

#[cfg(test)]
mod tests;
