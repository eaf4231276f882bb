//! Parameters that are accepted without effect: those of redis-server and its kin that make no sense here, and those of parts that
//! are not built yet. Existing configuration files and the tools that ask `CONFIG GET save` go on working; the log names once, at
//! start, each one that was set.
//!
//! A value is checked like any other and kept as text. Three things are refused instead of ignored, with the reason, because a
//! server that started anyway would be less safe, or another server, than the one its operator described: access rules (`user`,
//! `aclfile`), encryption (`tls-port`), and a role among servers (`replicaof`). Such a row still answers
//! `CONFIG GET` with its default, and accepts it.
//!
//! Defaults are those of redis-server 7.0.15, but `save` is empty: nothing is saved. A part that gets built moves its rows to
//! `parameters.rs`.

use super::parameters::{Change, Kind};
use super::settings::Settings;

/// The row of a parameter without effect.
pub struct Ignored {
    /// The name it is known by.
    pub name: &'static str,
    /// Names it was known by.
    pub aliases: &'static [&'static str],
    /// What `CONFIG GET` answers when it was not set.
    pub default: &'static str,
    /// What its values look like.
    pub kind: Kind,
    /// When it may change.
    pub change: Change,
    /// Whether the value must stay out of logs and messages.
    pub sensitive: bool,
    /// Why any value but the default is refused; `None`: it is kept.
    pub refused: Option<&'static str>,
}

impl Ignored {
    /// Keeps a value. On error the settings are as before.
    pub(super) fn set(&self, settings: &mut Settings, words: &[&str]) -> Result<(), String> {
        let value = self.kind.canonical(words)?;
        if value == self.default && self.change != Change::Directive {
            settings.ignored.remove(self.name);
        } else if let Some(why) = self.refused {
            return Err(why.into());
        } else {
            settings.ignored.insert(self.name, value);
        }
        Ok(())
    }
}

const INT_MAX: i64 = i32::MAX as i64;
const TEXT: Kind = Kind::Text;
const FLAG: Kind = Kind::Flag;
const LIST: Kind = Kind::List;
const COUNT: Kind = Kind::Integer {
    min: 0,
    max: INT_MAX,
    unit: "",
};
const LONG: Kind = Kind::Integer {
    min: 0,
    max: i64::MAX,
    unit: "",
};
const PORT: Kind = Kind::Integer {
    min: 0,
    max: 65535,
    unit: "",
};
const SIZE: Kind = Kind::Memory {
    min: 0,
    max: i64::MAX as u64,
};
const SIGNAL: Kind = Kind::List;

const fn between(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max, unit: "" }
}

const NO_ACL_FILE: &str =
    "access rules in files are not built yet: protect the server with requirepass";
const NO_TLS: &str = "TLS is not built yet: end it in front of this server";
const NO_REPLICATION: &str = "replication is not built yet";
const NO_MODULES: &str = "there are no modules";

const fn row(name: &'static str, default: &'static str, kind: Kind) -> Ignored {
    Ignored {
        name,
        aliases: &[],
        default,
        kind,
        change: Change::Mutable,
        sensitive: false,
        refused: None,
    }
}

const fn alias(aliases: &'static [&'static str], row: Ignored) -> Ignored {
    Ignored { aliases, ..row }
}

const fn fixed(name: &'static str, default: &'static str, kind: Kind) -> Ignored {
    Ignored {
        change: Change::Immutable,
        ..row(name, default, kind)
    }
}

const fn secret(name: &'static str) -> Ignored {
    Ignored {
        sensitive: true,
        ..row(name, "", TEXT)
    }
}

const fn refused(why: &'static str, row: Ignored) -> Ignored {
    Ignored {
        refused: Some(why),
        ..row
    }
}

const fn directive(name: &'static str, why: &'static str) -> Ignored {
    Ignored {
        change: Change::Directive,
        refused: Some(why),
        ..row(name, "", LIST)
    }
}

/// Every parameter without effect.
#[rustfmt::skip] // a row is a line
pub static IGNORED: &[Ignored] = &[
    // snapshots and the append-only file: not built yet
    row("save", "", Kind::SavePoints),
    row("appendonly", "no", FLAG),
    row("appendfsync", "everysec", Kind::Choice(&["everysec", "always", "no"])),
    fixed("appendfilename", "appendonly.aof", TEXT),
    fixed("appenddirname", "appendonlydir", TEXT),
    row("no-appendfsync-on-rewrite", "no", FLAG),
    row("auto-aof-rewrite-percentage", "100", COUNT),
    row("auto-aof-rewrite-min-size", "67108864", SIZE),
    row("aof-load-truncated", "yes", FLAG),
    row("aof-use-rdb-preamble", "yes", FLAG),
    row("aof-timestamp-enabled", "no", FLAG),
    row("aof-rewrite-incremental-fsync", "yes", FLAG),
    row("aof-disable-auto-gc", "no", FLAG),
    row("rdbcompression", "yes", FLAG),
    fixed("rdbchecksum", "yes", FLAG),
    row("rdb-del-sync-files", "no", FLAG),
    row("rdb-save-incremental-fsync", "yes", FLAG),
    row("rdb-key-save-delay", "0", between(i32::MIN as i64, INT_MAX)),
    row("key-load-delay", "0", between(i32::MIN as i64, INT_MAX)),
    row("loading-process-events-interval-bytes", "2097152", SIZE),
    row("sanitize-dump-payload", "no", Kind::Choice(&["no", "yes", "clients"])),
    row("stop-writes-on-bgsave-error", "yes", FLAG),
    row("shutdown-on-sigint", "default", SIGNAL),
    row("shutdown-on-sigterm", "default", SIGNAL),

    // replication: not built yet
    refused(NO_REPLICATION, alias(&["slaveof"], fixed("replicaof", "", LIST))),
    alias(&["primaryauth"], secret("masterauth")),
    alias(&["primaryuser"], row("masteruser", "", TEXT)),
    alias(&["slave-read-only"], row("replica-read-only", "yes", FLAG)),
    alias(&["slave-serve-stale-data"], row("replica-serve-stale-data", "yes", FLAG)),
    alias(&["slave-lazy-flush"], row("replica-lazy-flush", "no", FLAG)),
    alias(&["slave-priority"], row("replica-priority", "100", COUNT)),
    alias(&["slave-ignore-maxmemory"], row("replica-ignore-maxmemory", "yes", FLAG)),
    alias(&["slave-announce-ip"], row("replica-announce-ip", "", TEXT)),
    alias(&["slave-announce-port"], row("replica-announce-port", "0", PORT)),
    row("replica-announced", "yes", FLAG),
    row("replica-ignore-disk-write-errors", "no", FLAG),
    row("replica-full-sync-buffer-limit", "0", SIZE),
    alias(&["min-slaves-to-write"], row("min-replicas-to-write", "0", COUNT)),
    alias(&["min-slaves-max-lag"], row("min-replicas-max-lag", "10", COUNT)),
    alias(&["repl-ping-slave-period"], row("repl-ping-replica-period", "10", between(1, INT_MAX))),
    row("repl-timeout", "60", between(1, INT_MAX)),
    row("repl-backlog-size", "1048576", Kind::Memory { min: 1, max: i64::MAX as u64 }),
    row("repl-backlog-ttl", "3600", LONG),
    row("repl-disable-tcp-nodelay", "no", FLAG),
    row("repl-diskless-sync", "yes", FLAG),
    row("repl-diskless-sync-delay", "5", COUNT),
    row("repl-diskless-sync-max-replicas", "0", COUNT),
    row("repl-diskless-load", "disabled", Kind::Choice(&["disabled", "on-empty-db", "swapdb"])),
    row("dual-channel-replication-enabled", "no", FLAG),
    row("propagation-error-behavior", "ignore", Kind::Choice(&["ignore", "panic", "panic-on-replicas"])),

    // cluster: gossip's, replicas' and TLS's
    row("cluster-announce-human-nodename", "", TEXT),
    row("cluster-announce-tls-port", "0", PORT),
    row("cluster-allow-pubsubshard-when-down", "yes", FLAG),
    row("cluster-allow-replica-migration", "yes", FLAG),
    row("cluster-migration-barrier", "1", COUNT),
    row("cluster-link-sendbuf-limit", "0", SIZE),
    row("cluster-slot-stats-enabled", "no", FLAG),
    alias(&["cluster-slave-no-failover"], row("cluster-replica-no-failover", "no", FLAG)),
    alias(&["cluster-slave-validity-factor"], row("cluster-replica-validity-factor", "10", COUNT)),

    // access rules and modules
    refused(NO_ACL_FILE, fixed("aclfile", "", TEXT)),
    directive("user", NO_ACL_FILE),
    row("acl-pubsub-default", "resetchannels", Kind::Choice(&["allchannels", "resetchannels"])),
    directive("loadmodule", NO_MODULES),

    // TLS: not built yet
    refused(NO_TLS, row("tls-port", "0", PORT)),
    refused(NO_TLS, row("tls-cluster", "no", FLAG)),
    refused(NO_TLS, row("tls-replication", "no", FLAG)),
    row("tls-cert-file", "", TEXT),
    row("tls-key-file", "", TEXT),
    secret("tls-key-file-pass"),
    row("tls-client-cert-file", "", TEXT),
    row("tls-client-key-file", "", TEXT),
    secret("tls-client-key-file-pass"),
    row("tls-ca-cert-file", "", TEXT),
    row("tls-ca-cert-dir", "", TEXT),
    row("tls-dh-params-file", "", TEXT),
    row("tls-auth-clients", "yes", Kind::Choice(&["no", "yes", "optional"])),
    row("tls-protocols", "", TEXT),
    row("tls-ciphers", "", TEXT),
    row("tls-ciphersuites", "", TEXT),
    row("tls-prefer-server-ciphers", "no", FLAG),
    row("tls-session-caching", "yes", FLAG),
    row("tls-session-cache-size", "20480", COUNT),
    row("tls-session-cache-timeout", "300", COUNT),

    // how another server works inside
    fixed("io-threads", "1", between(1, 128)),
    fixed("io-threads-do-reads", "no", FLAG),
    row("activerehashing", "yes", FLAG),
    row("activedefrag", "no", FLAG),
    row("active-defrag-cycle-min", "1", between(1, 99)),
    row("active-defrag-cycle-max", "25", between(1, 99)),
    row("active-defrag-threshold-lower", "10", between(0, 1000)),
    row("active-defrag-threshold-upper", "100", between(0, 1000)),
    row("active-defrag-ignore-bytes", "104857600", Kind::Memory { min: 1, max: i64::MAX as u64 }),
    row("active-defrag-max-scan-fields", "1000", between(1, i64::MAX)),
    row("jemalloc-bg-thread", "yes", FLAG),
    fixed("disable-thp", "yes", FLAG),
    row("max-new-connections-per-cycle", "10", between(1, 1000)),
    row("max-new-tls-connections-per-cycle", "1", between(1, 1000)),
    row("hide-user-data-from-log", "no", FLAG),
    row("prefetch-batch-max-size", "16", between(0, 128)),
    fixed("events-per-io-thread", "2", COUNT),
    row("enable-debug-assert", "no", FLAG),
    row("use-exit-on-panic", "no", FLAG),
    row("watchdog-period", "0", COUNT),
    row("extended-redis-compatibility", "no", FLAG),
    row("availability-zone", "", TEXT),
    row("lua-enable-deprecated-api", "no", FLAG),
    row("lua-enable-insecure-api", "no", FLAG),
    row("log-format", "legacy", Kind::Choice(&["legacy", "logfmt"])),
    row("log-timestamp-format", "legacy", Kind::Choice(&["legacy", "iso8601", "milliseconds"])),
    row("locale-collate", "", TEXT),

    // what the service manager or the container does today
    fixed("daemonize", "no", FLAG),
    fixed("supervised", "no", Kind::Choice(&["upstart", "systemd", "auto", "no"])),
    fixed("pidfile", "", TEXT),
    fixed("syslog-enabled", "no", FLAG),
    fixed("syslog-ident", "redis", TEXT),
    fixed("syslog-facility", "local0", Kind::Choice(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"])),
    fixed("always-show-logo", "no", FLAG),
    fixed("set-proc-title", "yes", FLAG),
    row("proc-title-template", "{title} {listen-addr} {server-mode}", TEXT),
    row("oom-score-adj", "no", Kind::Choice(&["no", "yes", "relative", "absolute"])),
    row("oom-score-adj-values", "0 200 800", LIST),
    fixed("server_cpulist", "", TEXT),
    fixed("bio_cpulist", "", TEXT),
    fixed("aof_rewrite_cpulist", "", TEXT),
    fixed("bgsave_cpulist", "", TEXT),
    row("crash-log-enabled", "yes", FLAG),
    row("crash-memcheck-enabled", "yes", FLAG),
    row("ignore-warnings", "", LIST),
    row("bind-source-addr", "", TEXT),
];
