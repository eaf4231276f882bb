//! Server and connection commands over a socket: what operators, exporters and frameworks ask.

use std::time::{Duration, Instant};

use crate::script::{in_both_with, run};
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::server::Kind;
use crate::support::{Client, Server, Value, eventually};

#[test]
fn time_and_role() {
    let server = Server::start(&[]);
    for protocol in [2, 3] {
        let mut client = server.client_in(protocol);
        let time = client.line("TIME").items();
        let seconds: u64 = time[0].text().parse().expect("seconds");
        let micros: u64 = time[1].text().parse().expect("microseconds");
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        assert!(now.abs_diff(seconds) <= 2 && micros < 1_000_000, "{time:?}");
        assert_eq!(client.shown("ROLE"), "[\"master\", :0, []]");
    }
}

#[test]
fn texts_of_the_server_commands() {
    // On a machine that is busy any command may take longer than the 10 ms of the default.
    in_both_with(
        &["--slowlog-log-slower-than", "60000000"],
        r#"
        ECHO "a b"                  => "a b"
        ECHO                        => -ERR wrong number of arguments for 'echo' command
        PING                        => +PONG
        PING x                      => "x"
        PING x y                    => -ERR wrong number of arguments for 'ping' command
        CONFIG NOPE                 => -ERR unknown subcommand 'NOPE'. Try CONFIG HELP.
        CLIENT NOPE                 => -ERR unknown subcommand 'NOPE'. Try CLIENT HELP.
        CLIENT MAINT_NOTIFICATIONS ON => -ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.
        CLIENT                      => -ERR wrong number of arguments for 'client' command
        CLIENT SETNAME "a b"        => -ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT SETNAME me           => +OK
        CLIENT GETNAME              => "me"
        CLIENT GETREDIR             => :-1
        CLIENT NO-EVICT ON          => +OK
        CLIENT NO-EVICT maybe       => -ERR syntax error
        CLIENT UNPAUSE              => +OK
        CLIENT UNBLOCK 1000000      => :0
        CLIENT PAUSE x              => -ERR timeout is not an integer or out of range
        CLIENT PAUSE -1             => -ERR timeout is negative
        CLIENT REPLY x              => -ERR syntax error
        @quoit CLIENT SETINFO LIB-NAME lib    => +OK
        @quoit CLIENT SETINFO LIB-VER 1.0     => +OK
        @quoit CLIENT NO-TOUCH ON             => +OK
        @quoit CLIENT NO-TOUCH OFF            => +OK
        SLOWLOG LEN                 => :0
        SLOWLOG GET                 => []
        SLOWLOG RESET               => +OK
        LATENCY LATEST              => []
        LATENCY HISTORY command     => []
        LATENCY RESET               => :0
        MEMORY PURGE                => +OK
        MEMORY USAGE missing        => nil || null
        @quoit DEBUG STRINGMATCH-LEN a* ab => :1
        COMMAND COUNT x             => -ERR wrong number of arguments for 'command|count' command
        COMMAND GETKEYS SET k v     => ["k"]
        COMMAND GETKEYSANDFLAGS SET k v => [["k", [+OW, +update]]] || [["k", ~[+OW, +update]]]
        @alone SWAPDB 0 0           => +OK
        "#,
    );
}

#[test]
fn debug_is_allowed_where_a_parameter_says_so() {
    for (mode, is_allowed) in [("no", false), ("local", true), ("yes", true)] {
        let server = Server::start(&["--enable-debug-command", mode]);
        let reply = server.client().line("DEBUG SLEEP 0");
        assert_eq!(reply == Value::ok(), is_allowed, "{mode}: {reply:?}");
        assert!(
            is_allowed || reply.text().starts_with("ERR DEBUG command not allowed."),
            "{reply:?}"
        );
    }
}

#[test]
fn debug_sleep_holds_up_its_own_connection() {
    let server = Server::quoit(&[]);
    let mut sleeper = server.client();
    let mut other = server.client();
    let begun = Instant::now();
    sleeper.send_raw(b"DEBUG SLEEP 0.5\r\nPING\r\n");
    for _ in 0..10 {
        assert_eq!(other.line("PING"), Value::simple("PONG"));
    }
    assert_eq!(sleeper.read().value, Value::ok());
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(sleeper.read().value, Value::simple("PONG"));
}

#[test]
fn slow_runs_are_logged() {
    let server = Server::start(&[
        "--slowlog-log-slower-than",
        "100000",
        "--slowlog-max-len",
        "2",
    ]);
    let mut client = server.client();
    client.line("CLIENT SETNAME slow");
    for _ in 0..3 {
        assert_eq!(client.line("DEBUG SLEEP 0.15"), Value::ok());
    }
    client.line("SET k v");
    assert_eq!(client.line("SLOWLOG LEN"), Value::Int(2));
    let entries = client.line("SLOWLOG GET 10").items();
    assert_eq!(entries.len(), 2);
    let newest = entries[0].items();
    assert_eq!(newest.len(), 6);
    assert!(
        newest[0].int() > entries[1].items()[0].int(),
        "newest first"
    );
    assert!(newest[2].int() >= 150_000, "{newest:?}");
    assert_eq!(
        newest[3],
        Value::Array(vec![
            Value::bulk("DEBUG"),
            Value::bulk("SLEEP"),
            Value::bulk("0.15")
        ])
    );
    assert_eq!(
        newest[4].text(),
        format!("127.0.0.1:{}", client.local_port())
    );
    assert_eq!(newest[5], Value::bulk("slow"));
    assert_eq!(client.line("SLOWLOG GET 0").items().len(), 0);
    assert_eq!(client.line("SLOWLOG GET -1").items().len(), 2);
    assert_eq!(
        client.line("SLOWLOG GET -2"),
        Value::error("ERR count should be greater than or equal to -1")
    );
    assert_eq!(client.line("SLOWLOG RESET"), Value::ok());
    assert_eq!(client.line("SLOWLOG LEN"), Value::Int(0));
}

#[test]
fn latency_events_are_kept() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let server = Server::start(&["--latency-monitor-threshold", "100"]);
    let mut client = server.client();
    client.line("DEBUG SLEEP 0.15");
    let latest = client.line("LATENCY LATEST").items();
    assert_eq!(latest.len(), 1, "{latest:?}");
    assert_eq!(latest[0].items()[0], Value::bulk("command"));
    assert!(latest[0].items()[2].int() >= 150, "{latest:?}");
    let history = client.line("LATENCY HISTORY command").items();
    assert_eq!(history.len(), 1, "{history:?}");
    assert!(
        client
            .line("LATENCY GRAPH command")
            .text()
            .contains("command - high")
    );
    assert_eq!(
        client.line("LATENCY GRAPH nosuch"),
        Value::error("ERR No samples available for event 'nosuch'")
    );
    assert!(!client.line("LATENCY DOCTOR").text().is_empty());
    assert_eq!(client.line("LATENCY RESET"), Value::Int(1));
    assert_eq!(client.line("LATENCY LATEST").items().len(), 0);
    client.line("SET k v");
    let histogram = client.line("LATENCY HISTOGRAM set");
    assert_eq!(histogram.items()[0], Value::bulk("set"));
    assert_eq!(histogram.items()[1].field("calls"), Some(Value::Int(1)));
}

#[test]
fn monitor_sees_what_others_run() {
    let server = Server::start(&[]);
    for protocol in [2, 3] {
        let mut monitor = server.client_in(protocol);
        assert_eq!(monitor.line("MONITOR"), Value::ok());
        let mut client = server.client();
        client.line("SELECT 3");
        client.line("SET \"a\\\"\\x01\\n\" \"\\xff\"");
        client.line("AUTH default secret");
        client.line("CONFIG GET port");
        client.line("GET k");
        let mut line = || monitor.read().value.text();
        let begin = |database: u8| format!("[{database} 127.0.0.1:{}] ", client.local_port());
        let first = line();
        let (time, rest) = first.split_once(' ').expect("a time stands first");
        let (seconds, micros) = time.split_once('.').expect("seconds and microseconds");
        assert!(
            seconds.parse::<u64>().is_ok() && micros.len() == 6,
            "{first}"
        );
        assert!(rest.ends_with("\"SELECT\" \"3\""), "{first}");
        assert!(line().ends_with(&(begin(3) + r#""SET" "a\"\x01\n" "\xff""#)));
        let next = line();
        assert!(!next.contains("secret"), "{next}");
        // AUTH and CONFIG are not shown, or with their arguments hidden.
        let last = if next.contains("\"GET\"") {
            next
        } else {
            line()
        };
        let last = if last.contains("\"GET\" \"k\"") {
            last
        } else {
            line()
        };
        assert!(last.ends_with(&(begin(3) + "\"GET\" \"k\"")), "{last}");
    }
}

/// The fields of a client in CLIENT LIST.
fn fields(line: &str) -> std::collections::BTreeMap<String, String> {
    line.split(' ')
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn clients_are_listed() {
    let server = Server::start(&[]);
    let mut client = server.client_in(3);
    client.line("CLIENT SETNAME lister");
    client.line("SELECT 5");
    let id = client.line("CLIENT ID").int();
    let info = client.line("CLIENT INFO").text();
    let own = fields(info.trim_end());
    assert_eq!(own["id"], id.to_string());
    assert_eq!(own["name"], "lister");
    assert_eq!(own["db"], "5");
    assert_eq!(own["resp"], "3");
    assert_eq!(own["cmd"], "client|info");
    assert_eq!(own["addr"], format!("127.0.0.1:{}", client.local_port()));
    assert_eq!(own["laddr"], format!("127.0.0.1:{}", server.port));
    for name in [
        "fd",
        "age",
        "idle",
        "flags",
        "sub",
        "psub",
        "multi",
        "qbuf",
        "qbuf-free",
        "argv-mem",
        "multi-mem",
        "obl",
        "oll",
        "omem",
        "tot-mem",
        "events",
        "user",
        "redir",
    ] {
        assert!(own.contains_key(name), "no {name} in {info}");
    }
    let others: Vec<Client> = (0..5).map(|_| server.client()).collect();
    eventually("all clients to be listed", || {
        (client.line("CLIENT LIST").text().lines().count() >= 6).then_some(())
    });
    assert_eq!(
        client
            .run(&["CLIENT", "LIST", "ID", &id.to_string(), "1000000"])
            .text()
            .lines()
            .count(),
        1
    );
    assert!(
        client
            .line("CLIENT LIST TYPE normal")
            .text()
            .lines()
            .count()
            >= 6
    );
    assert_eq!(
        client.line("CLIENT LIST TYPE nope"),
        Value::error("ERR Unknown client type 'nope'")
    );
    drop(others);
    eventually("only one client to be listed", || {
        (client.line("CLIENT LIST").text().lines().count() == 1).then_some(())
    });
}

#[test]
fn client_kill_filters() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    let mut victims: Vec<Client> = (0..3).map(|_| server.client()).collect();
    victims
        .iter_mut()
        .for_each(|victim| drop(victim.line("PING")));
    let laddr = format!("127.0.0.1:{}", server.port);
    // The connection that asked whether the server is up may still be there.
    eventually("four clients to be left", || {
        (admin.line("CLIENT LIST").text().lines().count() == 4).then_some(())
    });
    assert_eq!(
        admin.run(&[
            "CLIENT",
            "KILL",
            "ADDR",
            &format!("127.0.0.1:{}", victims[0].local_port())
        ]),
        Value::Int(1)
    );
    assert!(victims[0].is_closed());
    assert_eq!(
        admin.run(&[
            "CLIENT", "KILL", "LADDR", &laddr, "TYPE", "normal", "SKIPME", "yes"
        ]),
        Value::Int(2)
    );
    assert!(victims[1].is_closed() && victims[2].is_closed());
    assert_eq!(admin.line("CLIENT KILL TYPE pubsub"), Value::Int(0));
    for (line, error) in [
        ("CLIENT KILL ID x", "ERR client-id should be greater than 0"),
        ("CLIENT KILL TYPE nope", "ERR Unknown client type 'nope'"),
        ("CLIENT KILL USER nobody", "ERR No such user 'nobody'"),
        ("CLIENT KILL SKIPME maybe", "ERR syntax error"),
        ("CLIENT KILL NOPE x", "ERR syntax error"),
        ("CLIENT KILL ID", "ERR No such client"),
    ] {
        assert_eq!(admin.line(line), Value::error(error), "{line}");
    }
}

#[test]
fn client_reply_and_pause() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.send_raw(b"CLIENT REPLY OFF\r\nPING\r\nSET k v\r\nCLIENT REPLY ON\r\nGET k\r\n");
    assert_eq!(client.read().value, Value::ok());
    assert_eq!(client.read().value, Value::bulk("v"));
    client.send_raw(b"CLIENT REPLY SKIP\r\nGET k\r\nPING\r\n");
    assert_eq!(client.read().value, Value::simple("PONG"));
    let mut admin = server.client();
    let begun = Instant::now();
    assert_eq!(admin.line("CLIENT PAUSE 400 WRITE"), Value::ok());
    assert_eq!(client.line("GET k"), Value::bulk("v"));
    client.send(&["SET", "k", "w"]);
    assert_eq!(admin.line("GET k"), Value::bulk("v"));
    assert_eq!(client.read().value, Value::ok());
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
    // Redis holds UNPAUSE itself back until the time is over.
    let millis = if server.kind == Kind::Quoit {
        "60000"
    } else {
        "100"
    };
    assert_eq!(admin.run(&["CLIENT", "PAUSE", millis, "ALL"]), Value::ok());
    client.send(&["GET", "k"]);
    assert_eq!(admin.line("CLIENT UNPAUSE"), Value::ok());
    assert_eq!(client.read().value, Value::bulk("w"));
}

#[test]
fn info_has_what_clients_look_for() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    // Aim: the gates of COMPAT.md A4, in the form that their readers parse.
    let server = Server::start(&[]);
    let mut client = server.client();
    client.line("SET k v EX 1000");
    client.line("GET k");
    client.line("GET missing");
    client.line("NOSUCH");
    let text = client.line("INFO").text();
    assert!(
        text.ends_with("\r\n")
            && text
                .lines()
                .filter(|line| !line.is_empty())
                .all(|line| line.starts_with("# ") || line.contains(':')),
        "{text}"
    );
    for section in [
        "Server",
        "Clients",
        "Memory",
        "Persistence",
        "Stats",
        "Replication",
        "CPU",
        "Errorstats",
        "Cluster",
        "Keyspace",
    ] {
        assert!(text.contains(&format!("# {section}\r\n")), "no {section}");
    }
    for line in [
        "redis_mode:standalone",
        "loading:0",
        "role:master",
        "connected_slaves:0",
        "aof_enabled:0",
        "maxmemory_policy:noeviction",
        "cluster_enabled:0",
        "keyspace_hits:1",
        "keyspace_misses:1",
    ] {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "no {line}");
    }
    assert!(text.contains("db0:keys=1,expires=1,avg_ttl="), "{text}");
    assert!(text.contains("errorstat_ERR:count=1"), "{text}");
    let version = client
        .info_field("server", "redis_version")
        .expect("it is there");
    let parts: Vec<u32> = version
        .split('.')
        .map(|part| part.parse().expect("numbers"))
        .collect();
    assert!(parts.len() == 3 && parts[0] >= 7, "{version}");
    if server.kind == Kind::Quoit {
        assert!(!text.contains("valkey_version:") && !text.contains("dragonfly_version:"));
    }
    assert!(client.info("commandstats").contains("cmdstat_get:calls=2,"));
    assert!(
        client
            .info("latencystats")
            .contains("latency_percentiles_usec_get:")
    );
    assert!(client.info("everything").contains("# Commandstats"));
    let two = client.run(&["INFO", "server", "clients"]).text();
    assert!(
        two.contains("# Server") && two.contains("# Clients") && !two.contains("# Memory"),
        "{two}"
    );
    assert_eq!(client.info("nosuch"), "");
    let mut third = server.client_in(3);
    assert!(matches!(third.line("INFO"), Value::Verbatim(_)));
}

#[test]
fn refusals_count_and_handshakes_do_not() {
    let server = Server::quoit(&[]);
    let mut client = server.client();
    assert!(client.line("CLIENT MAINT_NOTIFICATIONS ON").is_error());
    assert!(
        !client.info("errorstats").contains("errorstat_"),
        "{}",
        client.info("errorstats")
    );
    client.line("SET k");
    assert!(
        client.info("errorstats").contains("errorstat_ERR:count=1"),
        "{}",
        client.info("errorstats")
    );
}

#[test]
fn commands_are_described() {
    let server = Server::start(&[]);
    for protocol in [2, 3] {
        let mut client = server.client_in(protocol);
        let count = client.line("COMMAND COUNT").int();
        assert!(count > 70, "{count}");
        assert_eq!(client.line("COMMAND").items().len() as i64, count);
        let info = client.line("COMMAND INFO get nosuch").items();
        assert_eq!(info[0].items()[0], Value::bulk("get"));
        assert_eq!(info[0].items()[1], Value::Int(2));
        assert!(info[1].is_nil());
        let docs = client.line("COMMAND DOCS get");
        assert_eq!(docs.items()[0], Value::bulk("get"));
        assert!(docs.items()[1].field("summary").is_some());
        let listed = client.line("COMMAND LIST FILTERBY PATTERN *bit*").items();
        assert!(listed.contains(&Value::bulk("setbit")) && !listed.contains(&Value::bulk("get")));
    }
}

#[test]
fn memory_is_told() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let server = Server::start(&[]);
    let mut client = server.client();
    client.run(&["SET", "k", &"v".repeat(100_000)]);
    let usage = client.line("MEMORY USAGE k").int();
    assert!((100_000..140_000).contains(&usage), "{usage}");
    let stats = client.line("MEMORY STATS");
    assert_eq!(stats.field("keys.count"), Some(Value::Int(1)));
    assert!(!client.line("MEMORY DOCTOR").text().is_empty());
    assert!(!client.line("MEMORY MALLOC-STATS").text().is_empty());
}

#[test]
fn help_of_containers() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for line in [
        "CLIENT HELP",
        "COMMAND HELP",
        "CONFIG HELP",
        "DEBUG HELP",
        "LATENCY HELP",
        "MEMORY HELP",
        "OBJECT HELP",
        "SLOWLOG HELP",
    ] {
        let lines = client.line(line).items();
        let container = line.strip_suffix(" HELP").expect("each ends so");
        assert_eq!(
            lines[0].text(),
            format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
        );
        assert!(lines.len() > 3, "{lines:?}");
        // They are commands as any other: they know their arity.
        let reply = client.run(&[container, "HELP", "x"]);
        assert!(reply.is_error() || container == "DEBUG", "{reply:?}");
    }
}

#[test]
fn lolwut_names_a_version() {
    let server = Server::start(&[]);
    for protocol in [2, 3] {
        let text = server.client_in(protocol).line("LOLWUT").text();
        assert!(text.contains("ver. "), "{text}");
    }
}

#[test]
fn what_is_not_built_says_so() {
    // Aim: an honest refusal, never a fake OK.
    let server = Server::quoit(&[]);
    for protocol in [2, 3] {
        let mut client = server.client_in(protocol);
        for line in ["REPLICAOF NO ONE", "BGSAVE"] {
            let text = client.line(line).text();
            assert!(text.starts_with("ERR unknown "), "{line}: {text}");
        }
    }
}

#[test]
fn object_access_follows_no_touch() {
    let server = Server::quoit(&["--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0"]);
    let mut client = server.client();
    run(
        &server,
        &mut client,
        2,
        "SET k v => +OK\nOBJECT FREQ k => :5\nGET k => \"v\"\nOBJECT FREQ k => :6\nCLIENT NO-TOUCH ON => +OK\nGET k => \"v\"\nOBJECT FREQ k => :6\nTOUCH k => :1\nCLIENT NO-TOUCH OFF => +OK\nGET k => \"v\"",
    );
    in_both_with(&[], "DBSIZE => :0");
}
