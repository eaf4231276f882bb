//! The sections of INFO, in Redis's order, each with its fields in Redis's order (7.0.15, and what 7.4 added).

use std::sync::atomic::Ordering;

use super::{Facts, Lines, Section};
use crate::admin::cluster::{view, with_facts};
use crate::base::allocator;
use crate::base::clock::Millis;
use crate::base::process::cpu_times;
use crate::base::rng::Rng;
use crate::base::version::{QUOIT_VERSION, REDIS_VERSION};
use crate::cluster::ask::DatabaseTotal;
use crate::config::Row;
use crate::keyspace::lock::lock_in;
use crate::keyspace::{Database, Keyspace, PARTITIONS};
use crate::state::clients::{ClientKind, client_flags};
use crate::state::memory::{Memory, human, ratio};
use crate::state::pubsub::Topic;
use crate::table::lookup::Entry;

pub(super) const SECTIONS: &[Section] = &[
    section("Server", true, server),
    section("Clients", true, clients),
    section("Memory", true, memory),
    section("Persistence", true, persistence),
    section("Stats", true, stats),
    section("Replication", true, replication),
    section("CPU", true, cpu),
    section("Modules", true, |_, _| {}),
    section("Commandstats", false, commandstats),
    section("Errorstats", true, errorstats),
    section("Latencystats", false, latencystats),
    section("Cluster", true, cluster),
    Section {
        tells_keys: true,
        ..section("Keyspace", true, keyspace)
    },
];

const fn section(
    title: &'static str,
    is_default: bool,
    write: fn(&Facts<'_>, &mut Lines),
) -> Section {
    Section {
        title,
        is_default,
        tells_keys: false,
        write,
    }
}

const MULTIPLEXING: &str = if cfg!(target_os = "linux") {
    "epoll"
} else {
    "kqueue"
};

fn server(facts: &Facts<'_>, lines: &mut Lines) {
    let (server, settings) = (facts.server, facts.settings);
    let uptime = facts.now.since(server.started).max(0) / 1000;
    let system = rustix::system::uname();
    let system = [system.sysname(), system.release(), system.machine()]
        .map(|part| part.to_string_lossy().into_owned())
        .join(" ");
    let path = |path: Option<&std::path::Path>| {
        path.map(|path| path.display().to_string())
            .unwrap_or_default()
    };
    let build = xxhash_rust::xxh3::xxh3_64(
        concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).as_bytes(),
    );
    lines.field("redis_version", REDIS_VERSION);
    // Redis says the same of itself when it is not built from a repository, and by another compiler than gcc.
    lines.field("redis_git_sha1", "00000000");
    lines.field("redis_git_dirty", 0);
    lines.field("redis_build_id", format_args!("{build:x}"));
    lines.field("redis_mode", mode(facts.sees_cluster));
    lines.field("os", system);
    lines.field("arch_bits", usize::BITS);
    lines.field("monotonic_clock", "POSIX clock_gettime");
    lines.field("multiplexing_api", MULTIPLEXING);
    lines.field("atomicvar_api", "rust-core");
    lines.field("gcc_version", "0.0.0");
    lines.field("process_id", std::process::id());
    lines.field("process_supervised", "no");
    lines.field("run_id", &server.run_id);
    lines.field("tcp_port", server.tcp_port.load(Ordering::Relaxed));
    lines.field("server_time_usec", facts.now.0.saturating_mul(1000));
    lines.field("uptime_in_seconds", uptime);
    lines.field("uptime_in_days", uptime / 86_400);
    lines.field("hz", settings.hz);
    lines.field("configured_hz", settings.hz);
    lines.field("lru_clock", facts.now.seconds() & 0xff_ffff);
    lines.field("executable", path(std::env::current_exe().ok().as_deref()));
    lines.field("config_file", path(server.config.file()));
    lines.field("io_threads_active", 0);
    listeners(facts, lines);
    lines.field("quoit_version", QUOIT_VERSION);
    lines.field("worker_threads", settings.worker_threads());
}

/// What a server calls itself, here and in HELLO. Only the cluster face is a cluster: libraries that read `cluster` here, or
/// `cluster_enabled:1`, ask for slots and expect MOVED, and a plain client of the single face needs neither.
pub fn mode(sees_cluster: bool) -> &'static str {
    if sees_cluster {
        "cluster"
    } else {
        "standalone"
    }
}

/// The ring has its fields on either face.
fn cluster(facts: &Facts<'_>, lines: &mut Lines) {
    lines.field("cluster_enabled", u8::from(facts.sees_cluster));
    if let Some(cluster) = facts.server.cluster.get() {
        let text = with_facts(facts.server, cluster, view::ring);
        lines.push(format_args!("{text}"));
    }
}

/// `listener0:name=tcp,bind=127.0.0.1,port=6379`: one line per kind of socket.
fn listeners(facts: &Facts<'_>, lines: &mut Lines) {
    let port = facts.server.tcp_port.load(Ordering::Relaxed);
    if port != 0 {
        let binds: String = facts
            .settings
            .bind
            .iter()
            .map(|address| {
                let optional = if address.optional { "-" } else { "" };
                format!(",bind={optional}{}", address.host)
            })
            .collect();
        lines.field("listener0", format_args!("name=tcp{binds},port={port}"));
    }
    if let Some(path) = &facts.settings.unixsocket {
        lines.field(
            "listener1",
            format_args!("name=unix,bind={}", path.display()),
        );
    }
}

fn clients(facts: &Facts<'_>, lines: &mut Lines) {
    let memory = Memory::measure(facts.server, facts.now);
    let clients = facts.server.clients.snapshot();
    let blocked = clients
        .iter()
        .filter(|client| client.flags.load(Ordering::Relaxed) & client_flags::BLOCKED != 0)
        .count();
    lines.field("connected_clients", clients.len());
    lines.field("cluster_connections", 0);
    lines.field("maxclients", facts.settings.maxclients);
    lines.field("client_recent_max_input_buffer", memory.max_input);
    lines.field("client_recent_max_output_buffer", memory.max_output);
    lines.field("blocked_clients", blocked);
    let subscribed = clients
        .iter()
        .filter(|client| client.kind() == ClientKind::Pubsub)
        .count();
    lines.field("tracking_clients", facts.server.tracking.client_count());
    lines.field("pubsub_clients", subscribed);
    lines.zeros(&[
        "watching_clients",
        "clients_in_timeout_table",
        "total_watched_keys",
        "total_blocking_keys",
        "total_blocking_keys_on_nokey",
    ]);
}

fn memory(facts: &Facts<'_>, lines: &mut Lines) {
    let memory = Memory::measure(facts.server, facts.now);
    let total = facts.settings.machine.memory_total_bytes;
    let limit = facts.settings.maxmemory_bytes();
    lines.field("used_memory", memory.used);
    lines.field("used_memory_human", human(memory.used));
    lines.field("used_memory_rss", memory.resident);
    lines.field("used_memory_rss_human", human(memory.resident));
    lines.field("used_memory_peak", memory.peak);
    lines.field("used_memory_peak_human", human(memory.peak));
    lines.field("used_memory_peak_time", memory.peak_at.seconds());
    let percent = |value: f64| format!("{value:.2}%");
    lines.field("used_memory_peak_perc", percent(memory.peak_percent()));
    lines.field("used_memory_overhead", memory.overhead());
    lines.field("used_memory_startup", memory.startup);
    lines.field("used_memory_dataset", memory.dataset());
    let dataset = percent(memory.dataset_percent());
    lines.field("used_memory_dataset_perc", dataset);
    lines.field("allocator_allocated", memory.allocator.allocated);
    lines.field("allocator_active", memory.allocator.active);
    lines.field("allocator_resident", memory.allocator.resident);
    lines.field("allocator_muzzy", memory.allocator.muzzy);
    lines.field("total_system_memory", total);
    lines.field("total_system_memory_human", human(total));
    scripts_memory(facts, lines);
    lines.field("maxmemory", limit);
    lines.field("maxmemory_human", human(limit));
    lines.field("maxmemory_policy", facts.settings.maxmemory_policy.as_str());
    fragmentation(&memory, lines);
    lines.zeros(&[
        "mem_not_counted_for_evict",
        "mem_replication_backlog",
        "mem_total_replication_buffers",
    ]);
    lines.field("mem_clients_slaves", memory.clients_replicas);
    lines.field("mem_clients_normal", memory.clients_normal);
    lines.zeros(&["mem_cluster_links", "mem_aof_buffer"]);
    lines.field("mem_allocator", allocator::name());
    // Tables are rebuilt in one go under their lock: at no time there are two.
    lines.field("mem_overhead_db_hashtable_rehashing", 0);
    lines.field("active_defrag_running", 0);
    let pending = facts.server.pending_frees();
    lines.field("lazyfree_pending_objects", pending);
    let freed = facts.server.stats.lazy_freed.value();
    lines.field("lazyfreed_objects", freed.saturating_sub(pending));
}

fn scripts_memory(facts: &Facts<'_>, lines: &mut Lines) {
    let scripts = &facts.server.scripts;
    let libraries = facts.server.functions.current();
    // The machines run both; what functions take of them is not told apart.
    let machines = scripts.machine_bytes() as u64;
    let texts = scripts.text_bytes() as u64;
    let functions = libraries.text_bytes() as u64;
    lines.field("used_memory_lua", machines);
    lines.field("used_memory_vm_eval", machines);
    lines.field("used_memory_lua_human", human(machines));
    lines.field("used_memory_scripts_eval", texts);
    lines.field("number_of_cached_scripts", scripts.len());
    lines.field("number_of_functions", libraries.function_count());
    lines.field("number_of_libraries", libraries.by_name.len());
    lines.field("used_memory_vm_functions", 0);
    lines.field("used_memory_vm_total", machines);
    lines.field("used_memory_vm_total_human", human(machines));
    lines.field("used_memory_functions", functions);
    lines.field("used_memory_scripts", texts + functions);
    lines.field("used_memory_scripts_human", human(texts + functions));
}

fn fragmentation(memory: &Memory, lines: &mut Lines) {
    let fragmentation = memory.fragmentation();
    for (name, excess) in [
        ("allocator_frag", fragmentation.allocator),
        ("allocator_rss", fragmentation.allocator_resident),
        ("rss_overhead", fragmentation.process),
        ("mem_fragmentation", fragmentation.total),
    ] {
        let times = excess.ratio;
        lines.field(&format!("{name}_ratio"), format_args!("{times:.2}"));
        lines.field(&format!("{name}_bytes"), excess.bytes);
    }
}

fn persistence(facts: &Facts<'_>, lines: &mut Lines) {
    lines.zeros(&[
        "loading",
        "async_loading",
        "current_cow_peak",
        "current_cow_size",
        "current_cow_size_age",
    ]);
    lines.field("current_fork_perc", "0.00");
    lines.zeros(&["current_save_keys_processed", "current_save_keys_total"]);
    lines.field("rdb_changes_since_last_save", facts.server.keyspace.dirty());
    lines.field("rdb_bgsave_in_progress", 0);
    // The data set was as on disk, empty, when the server started.
    lines.field("rdb_last_save_time", facts.server.started.seconds());
    lines.field("rdb_last_bgsave_status", "ok");
    lines.field("rdb_last_bgsave_time_sec", -1);
    lines.field("rdb_current_bgsave_time_sec", -1);
    lines.zeros(&[
        "rdb_saves",
        "rdb_last_cow_size",
        "rdb_last_load_keys_expired",
        "rdb_last_load_keys_loaded",
        "aof_enabled",
        "aof_rewrite_in_progress",
        "aof_rewrite_scheduled",
    ]);
    lines.field("aof_last_rewrite_time_sec", -1);
    lines.field("aof_current_rewrite_time_sec", -1);
    lines.field("aof_last_bgrewrite_status", "ok");
    lines.zeros(&["aof_rewrites", "aof_rewrites_consecutive_failures"]);
    lines.field("aof_last_write_status", "ok");
    lines.zeros(&[
        "aof_last_cow_size",
        "module_fork_in_progress",
        "module_fork_last_cow_size",
    ]);
}

fn stats(facts: &Facts<'_>, lines: &mut Lines) {
    let stats = &facts.server.stats;
    let (totals, rates) = (stats.totals(), stats.rates.per_second());
    let kbps = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    lines.field("total_connections_received", stats.connections.value());
    lines.field("total_commands_processed", totals.commands);
    lines.field("instantaneous_ops_per_sec", rates.commands);
    lines.field("total_net_input_bytes", totals.net_in);
    lines.field("total_net_output_bytes", totals.net_out);
    lines.zeros(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"]);
    lines.field("instantaneous_input_kbps", kbps(rates.net_in));
    lines.field("instantaneous_output_kbps", kbps(rates.net_out));
    lines.field("instantaneous_input_repl_kbps", kbps(0));
    lines.field("instantaneous_output_repl_kbps", kbps(0));
    lines.field("rejected_connections", stats.rejected_connections.value());
    lines.zeros(&["sync_full", "sync_partial_ok", "sync_partial_err"]);
    lines.field("expired_subkeys", stats.sum(|shard| &shard.expired_fields));
    lines.field("expired_keys", stats.sum(|shard| &shard.expired));
    let stale = stats.expiry.stale_share() * 100.0;
    lines.field("expired_stale_perc", format_args!("{stale:.2}"));
    lines.field(
        "expired_time_cap_reached_count",
        stats.expiry.cap_reached.value(),
    );
    lines.field(
        "expire_cycle_cpu_milliseconds",
        stats.expiry.micros.value() / 1000,
    );
    lines.field("evicted_keys", stats.sum(|shard| &shard.evicted));
    lines.field("evicted_clients", stats.evicted_clients.value());
    lines.field("evicted_scripts", facts.server.scripts.evicted());
    lines.field(
        "total_eviction_exceeded_time",
        stats.over_limit.total_ms(facts.now),
    );
    lines.field(
        "current_eviction_exceeded_time",
        stats.over_limit.current_ms(facts.now),
    );
    lines.field("keyspace_hits", stats.sum(|shard| &shard.hits));
    lines.field("keyspace_misses", stats.sum(|shard| &shard.misses));
    let pubsub = &facts.server.pubsub;
    lines.field("pubsub_channels", pubsub.channel_count(Topic::Channel));
    lines.field("pubsub_patterns", pubsub.pattern_count());
    lines.field("pubsubshard_channels", pubsub.channel_count(Topic::Shard));
    lines.zeros(&[
        "latest_fork_usec",
        "total_forks",
        "migrate_cached_sockets",
        "slave_expires_tracked_keys",
        "active_defrag_hits",
        "active_defrag_misses",
        "active_defrag_key_hits",
        "active_defrag_key_misses",
        "total_active_defrag_time",
        "current_active_defrag_time",
    ]);
    let tracking = &facts.server.tracking;
    lines.field("tracking_total_keys", tracking.key_count());
    lines.field("tracking_total_items", tracking.item_count());
    lines.field("tracking_total_prefixes", tracking.prefix_count());
    lines.field("unexpected_error_replies", 0);
    lines.field("total_error_replies", stats.errors.value());
    lines.field("dump_payload_sanitizations", 0);
    lines.field("total_reads_processed", stats.sum(|shard| &shard.reads));
    lines.field("total_writes_processed", stats.sum(|shard| &shard.writes));
    lines.zeros(&[
        "io_threaded_reads_processed",
        "io_threaded_writes_processed",
    ]);
    lines.field(
        "client_query_buffer_limit_disconnections",
        stats.query_limit_disconnections.value(),
    );
    lines.field(
        "client_output_buffer_limit_disconnections",
        stats.output_limit_disconnections.value(),
    );
    lines.zeros(&["reply_buffer_shrinks", "reply_buffer_expands"]);
    lines.field("acl_access_denied_auth", stats.auth_failures.value());
    lines.zeros(&[
        "acl_access_denied_cmd",
        "acl_access_denied_key",
        "acl_access_denied_channel",
    ]);
}

fn replication(facts: &Facts<'_>, lines: &mut Lines) {
    lines.field("role", "master");
    lines.field("connected_slaves", 0);
    lines.field("master_failover_state", "no-failover");
    lines.field("master_replid", facts.server.replication_id.lock());
    lines.field("master_replid2", "0".repeat(40));
    lines.field("master_repl_offset", 0);
    lines.field("second_repl_offset", -1);
    lines.field("repl_backlog_active", 0);
    let backlog = Row::find("repl-backlog-size").map(|(row, _)| row.value(facts.settings));
    lines.field("repl_backlog_size", backlog.unwrap_or_default());
    lines.zeros(&["repl_backlog_first_byte_offset", "repl_backlog_histlen"]);
}

fn cpu(_: &Facts<'_>, lines: &mut Lines) {
    let times = cpu_times();
    for (name, time) in [
        ("used_cpu_sys", times.system),
        ("used_cpu_user", times.user),
        ("used_cpu_sys_children", times.system_children),
        ("used_cpu_user_children", times.user_children),
        ("used_cpu_sys_main_thread", times.system_main),
        ("used_cpu_user_main_thread", times.user_main),
    ] {
        lines.field(name, format_args!("{:.6}", time.as_secs_f64()));
    }
}

/// Commands and subcommands; containers never run.
fn runnable<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a Entry<()>> {
    facts
        .server
        .commands
        .entries()
        .iter()
        .filter(|entry| !entry.is_container())
}

fn commandstats(facts: &Facts<'_>, lines: &mut Lines) {
    for entry in runnable(facts) {
        let sums = facts.server.stats.command_sums(entry.id);
        if sums.calls + sums.rejected + sums.failed == 0 {
            continue;
        }
        let micros = sums.nanos / 1000;
        let per_call = ratio(sums.nanos, sums.calls) / 1000.0;
        lines.field(
            &format!("cmdstat_{}", entry.full_name),
            format_args!(
                "calls={},usec={micros},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                sums.calls, sums.rejected, sums.failed
            ),
        );
    }
}

fn errorstats(facts: &Facts<'_>, lines: &mut Lines) {
    for (prefix, count) in facts.server.stats.error_counts() {
        let name = format!("errorstat_{}", safe(&prefix));
        lines.field(&name, format_args!("count={count}"));
    }
}

/// An error's first word may come from a client (a script's own error): what would break the lines becomes `_`.
fn safe(word: &str) -> String {
    word.replace(['#', ':', '\n', '\r'], "_")
}

fn latencystats(facts: &Facts<'_>, lines: &mut Lines) {
    if !facts.settings.latency_tracking {
        return;
    }
    for entry in runnable(facts) {
        let durations = facts.server.stats.command_sums(entry.id).durations;
        if durations.count() == 0 {
            continue;
        }
        let percentiles: Vec<String> = facts
            .settings
            .latency_tracking_info_percentiles
            .iter()
            .map(|percent| {
                let micros = durations.percentile(*percent) as f64 / 1000.0;
                format!("p{percent}={micros:.3}")
            })
            .collect();
        let name = format!("latency_percentiles_usec_{}", entry.full_name);
        lines.field(&name, percentiles.join(","));
    }
}

fn keyspace(facts: &Facts<'_>, lines: &mut Lines) {
    match facts.totals {
        None => databases(&totals(&facts.server.keyspace, facts.now), lines),
        Some(of_all) => {
            databases(&of_all.databases, lines);
            if of_all.missing > 0 {
                lines.field("keyspace_missing_nodes", of_all.missing);
            }
        }
    }
}

/// A line per database that holds keys.
pub(super) fn databases(totals: &[DatabaseTotal], lines: &mut Lines) {
    for total in totals {
        let (keys, expires, ttl) = (total.keys, total.expires, total.average_ttl_ms);
        lines.field(
            &format!("db{}", total.database),
            format_args!("keys={keys},expires={expires},avg_ttl={ttl},subexpiry=0"),
        );
    }
}

/// Of the databases that hold keys.
pub(super) fn totals(keyspace: &Keyspace, now: Millis) -> Vec<DatabaseTotal> {
    let built = keyspace.built();
    built
        .filter(|(_, database)| !database.is_empty())
        .map(|(number, database)| DatabaseTotal {
            database: number,
            keys: database.len() as u64,
            expires: database.expires() as u64,
            average_ttl_ms: average_ttl(keyspace, database, now),
        })
        .collect()
}

/// Partitions asked for the average of the times to live.
const TTL_PARTITIONS: usize = 16;
/// Keys looked at in each.
const TTL_KEYS: usize = 16;

/// Milliseconds that keys with an expiry have left on average, by a sample of at most 256 of them.
fn average_ttl(keyspace: &Keyspace, database: &Database, now: Millis) -> u64 {
    let rng = Rng::from_system();
    let start = rng.below(PARTITIONS as u64) as usize;
    let asked = (0..PARTITIONS)
        .map(|ahead| (start + ahead) % PARTITIONS)
        .filter(|number| database.counters(*number).expires() > 0)
        .take(TTL_PARTITIONS);
    let (mut sum, mut count) = (0i128, 0);
    for number in asked {
        // A partition that is busy is left out of the sample.
        let Ok(partition) = lock_in(keyspace, database, number, 0) else {
            continue;
        };
        let expiries = partition
            .from_random(rng.bits(), usize::MAX)
            .filter_map(|entry| entry.expiry())
            .take(TTL_KEYS);
        for expiry in expiries {
            sum += i128::from(expiry.since(now).max(0));
            count += 1;
        }
    }
    if count == 0 { 0 } else { (sum / count) as u64 }
}
