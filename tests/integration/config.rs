//! Configuration: where it comes from, in which order, and what happens when it is wrong.

use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::server::{Kind, run_quoit};
use crate::support::{Client, Server, TempDir, Value, eventually, free_port};

/// The value of a parameter.
fn get(client: &mut Client, name: &str) -> String {
    let reply = client.run(&["CONFIG", "GET", name]);
    reply
        .field(name)
        .unwrap_or_else(|| panic!("{name}: {reply:?}"))
        .text()
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

#[test]
fn later_sources_win() {
    // Aim: arguments over environment over file over default; an include counts where it stands.
    let dir = TempDir::new("config");
    let included = dir.write("included.conf", "timeout 2\nhz 21\ntcp-backlog 22\n");
    let secret = dir.write("secret", "from a file\n");
    let text = format!(
        "# a comment\nport 1\ntimeout 1\nhz 11\n\ninclude {}\ntcp-backlog 33\nmaxmemory-policy \"allkeys-lru\"\n\
         save 900 1\nsave 300 10\nclient-output-buffer-limit normal 1mb 0 0\nbind 127.0.0.1 -::1\n",
        path(&included)
    );
    let file = dir.write("q.conf", &text);
    let variables = [
        ("QUOIT_HZ", "31"),
        ("QUOIT_MAXMEMORY_SAMPLES", "7"),
        ("QUOIT_REQUIREPASS_FILE", path(&secret)),
        ("QUOIT_MAXMEMORY", "100mb"),
    ];
    let arguments = [
        path(&file),
        "--maxmemory-samples",
        "8",
        "--maxmemory",
        "50%",
    ];
    let port = free_port().to_string();
    let server = Server::quoit_with(&[&arguments[..], &["--port", &port]].concat(), &variables);
    let mut client = server.client();
    assert_eq!(client.line("AUTH \"from a file\""), Value::ok());
    for (name, value) in [
        ("timeout", "2"),
        ("tcp-backlog", "33"),
        ("hz", "31"),
        ("maxmemory-samples", "8"),
        ("maxmemory-policy", "allkeys-lru"),
        ("databases", "16"),
        ("port", port.as_str()),
        ("bind", "127.0.0.1 -::1"),
        ("save", "900 1 300 10"),
    ] {
        assert_eq!(get(&mut client, name), value, "{name}");
    }
    assert!(get(&mut client, "client-output-buffer-limit").starts_with("normal 1048576 0 0 "));
    assert_ne!(
        get(&mut client, "maxmemory"),
        "104857600",
        "arguments win over the environment"
    );
}

#[test]
fn mistakes_end_the_start() {
    // Aim: exit code 1, the place, what stands there, what was expected; no password is repeated.
    let dir = TempDir::new("mistakes");
    let bad = dir.write("bad.conf", "port 0\n# comment\nmaxmemory lots\n");
    let outer = dir.write("outer.conf", &format!("hz 10\ninclude {}\n", path(&bad)));
    type Case<'a> = (Vec<&'a str>, Vec<(&'a str, &'a str)>, Vec<String>);
    let cases: Vec<Case<'_>> = vec![
        (
            vec!["--maxmemroy", "1"],
            vec![],
            vec![
                "command line".into(),
                "maxmemroy".into(),
                "did you mean maxmemory?".into(),
            ],
        ),
        (
            vec!["--port", "70000"],
            vec![],
            vec!["--port 70000".into(), "from 0 to 65535".into()],
        ),
        (
            vec!["--port"],
            vec![],
            vec!["--port".into(), "wrong number of arguments".into()],
        ),
        (
            vec!["--maxmemory-policy", "nope"],
            vec![],
            vec!["maxmemory-policy".into(), "allkeys-lru".into()],
        ),
        (
            vec!["--appendonly", "maybe"],
            vec![],
            vec!["appendonly".into(), "yes".into()],
        ),
        (
            vec![path(&bad)],
            vec![],
            vec![
                format!("{}, line 3", path(&bad)),
                "maxmemory lots".into(),
                "100mb".into(),
            ],
        ),
        (
            vec![path(&outer)],
            vec![],
            vec![format!("{}, line 3", path(&bad))],
        ),
        (
            vec!["/nosuch/quoit.conf"],
            vec![],
            vec!["/nosuch/quoit.conf".into()],
        ),
        (
            vec![],
            vec![("QUOIT_PORT", "x")],
            vec!["environment".into(), "QUOIT_PORT=x".into()],
        ),
        (
            vec![],
            vec![("QUOIT_NOSUCH", "x")],
            vec!["QUOIT_NOSUCH".into()],
        ),
        (
            vec![],
            vec![("QUOIT_REQUIREPASS_FILE", "/nosuch")],
            vec!["/nosuch".into()],
        ),
        (
            vec!["--port", "0"],
            vec![],
            vec!["nowhere to listen".into()],
        ),
        (vec!["--tls-port", "6380"], vec![], vec!["tls-port".into()]),
    ];
    for (arguments, variables, expected) in cases {
        let (status, log) = run_quoit(&arguments, &variables);
        assert_eq!(
            status.code(),
            Some(1),
            "{arguments:?} {variables:?}:\n{log}"
        );
        for text in expected {
            assert!(
                log.contains(&text),
                "{arguments:?} {variables:?}: no {text} in\n{log}"
            );
        }
        assert!(!log.contains("panicked"), "{log}");
    }
    let (status, log) = run_quoit(&["--requirepass", "hunter2", "hunter3"], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(!log.contains("hunter"), "a password in the log: {log}");
}

#[test]
fn help_and_version_succeed() {
    for word in ["--help", "-h", "--version", "-v"] {
        let (status, log) = run_quoit(&[word], &[]);
        assert_eq!(status.code(), Some(0), "{word}: {log}");
    }
}

#[test]
fn parameters_without_effect_are_named_once() {
    let server = Server::quoit(&[
        "--appendfsync",
        "always",
        "--activedefrag",
        "no",
        "--rdbcompression",
        "no",
    ]);
    let log = server.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("without effect"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("appendfsync") && lines[0].contains("rdbcompression"),
        "{log}"
    );
}

#[test]
fn config_get_takes_several_patterns() {
    let server = Server::start(&["--timeout", "5", "--maxmemory-samples", "3"]);
    for protocol in [2, 3] {
        let mut client = server.client_in(protocol);
        let reply = client.line("CONFIG GET timeout maxmemory-s* timeout nosuch");
        match (&reply, protocol) {
            (Value::Array(_), 2) | (Value::Map(_), 3) => {}
            _ => panic!("in RESP{protocol}: {reply:?}"),
        }
        assert_eq!(reply.items().len(), 4, "{reply:?}");
        assert_eq!(reply.field("timeout"), Some(Value::bulk("5")));
        assert_eq!(reply.field("maxmemory-samples"), Some(Value::bulk("3")));
        assert!(client.line("CONFIG GET *").items().len() > 100);
        assert_eq!(client.line("CONFIG GET nosuch").items(), []);
        assert_eq!(
            client.line("CONFIG GET"),
            Value::error("ERR wrong number of arguments for 'config|get' command")
        );
    }
}

#[test]
fn config_set_is_all_or_nothing() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(
        client.line("CONFIG SET timeout 7 maxmemory-samples 9"),
        Value::ok()
    );
    assert_eq!(
        (
            get(&mut client, "timeout"),
            get(&mut client, "maxmemory-samples")
        ),
        ("7".into(), "9".into())
    );
    for line in [
        "CONFIG SET timeout 8 maxmemory-samples x",
        "CONFIG SET timeout 8 nosuch 1",
        "CONFIG SET timeout 8 databases 3",
        "CONFIG SET timeout 8 timeout 9",
        "CONFIG SET timeout 8 maxmemory-policy nope",
        "CONFIG SET timeout -1",
        "CONFIG SET timeout 8 hz",
    ] {
        let reply = client.line(line);
        assert!(reply.is_error(), "{line}: {reply:?}");
        assert_eq!(get(&mut client, "timeout"), "7", "{line}");
    }
    assert_eq!(
        client.line("CONFIG SET nosuch 1"),
        Value::error("ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'")
    );
    assert_eq!(
        client.line("CONFIG SET databases 3"),
        Value::error(
            "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config"
        )
    );
    assert_eq!(
        client.line("CONFIG SET maxmemory lots"),
        Value::error(
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value"
        )
    );
}

#[test]
fn no_file_path_changes_at_run_time() {
    // Aim: the chain of D1: dir and dbfilename, then SAVE, turned open servers into hosts of others.
    let server = Server::quoit(&[]);
    let mut client = server.client();
    for line in [
        "CONFIG SET dir /tmp",
        "CONFIG SET dbfilename root",
        "CONFIG SET logfile /tmp/x",
        "CONFIG SET unixsocket /tmp/x",
    ] {
        let reply = client.line(line);
        assert!(reply.is_error(), "{line}: {reply:?}");
    }
}

#[test]
fn changes_take_effect_at_once() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut other = server.client();
    // Connected is not yet accepted: a connection that is accepted after the change has to say the password.
    assert_eq!(other.line("PING"), Value::simple("PONG"));
    assert_eq!(client.line("CONFIG SET requirepass new"), Value::ok());
    assert_eq!(
        server.client().line("PING"),
        Value::error("NOAUTH Authentication required.")
    );
    // Who is in, stays in.
    assert_eq!(other.line("PING"), Value::simple("PONG"));
    assert_eq!(client.line("CONFIG SET requirepass \"\""), Value::ok());
    assert_eq!(server.client().line("PING"), Value::simple("PONG"));
    assert_eq!(
        client.line("CONFIG SET maxmemory 1 maxmemory-policy noeviction"),
        Value::ok()
    );
    assert_eq!(
        other.line("SET k v"),
        Value::error("OOM command not allowed when used memory > 'maxmemory'.")
    );
    assert_eq!(client.line("CONFIG SET maxmemory 0"), Value::ok());
    assert_eq!(other.line("SET k v"), Value::ok());
    assert_eq!(
        client.line("CONFIG SET proto-max-bulk-len 2mb"),
        Value::ok()
    );
    other.send_raw(b"*2\r\n$3\r\nGET\r\n$2097153\r\n");
    assert_eq!(
        other.read().value,
        Value::error("ERR Protocol error: invalid bulk length")
    );
    assert_eq!(client.line("CONFIG SET maxclients 1"), Value::ok());
    eventually("only one client to be left", || {
        (server.client().try_read().ok()?.value
            == Value::error("ERR max number of clients reached"))
        .then_some(())
    });
    assert_eq!(client.line("CONFIG SET timeout 1"), Value::ok());
    assert!(client.is_closed());
}

#[test]
fn rewrite_keeps_comments_and_is_read_back() {
    let dir = TempDir::new("rewrite");
    let text = "# what we know about the machine\nbind 127.0.0.1\ntimeout 3\n\n# the limit\nmaxmemory 100mb\nhz 15\n";
    let file = dir.write("q.conf", text);
    let port = free_port().to_string();
    let server = Server::quoit_with(&[path(&file), "--port", &port], &[]);
    let mut client = server.client();
    assert_eq!(
        client.line("CONFIG SET maxmemory 200mb maxmemory-policy allkeys-lfu timeout 0"),
        Value::ok()
    );
    assert_eq!(client.line("CONFIG REWRITE"), Value::ok());
    let rewritten = std::fs::read_to_string(&file).expect("it is there");
    for kept in [
        "# what we know about the machine",
        "# the limit",
        "hz 15",
        "bind 127.0.0.1",
    ] {
        assert!(rewritten.contains(kept), "no {kept} in\n{rewritten}");
    }
    drop(server);
    let server = Server::quoit_with(&[path(&file), "--port", &port], &[]);
    let mut client = server.client();
    for (name, value) in [
        ("maxmemory", "209715200"),
        ("maxmemory-policy", "allkeys-lfu"),
        ("timeout", "0"),
        ("hz", "15"),
    ] {
        assert_eq!(get(&mut client, name), value, "{name}");
    }
    let server = Server::start(&[]);
    assert_eq!(
        server.client().line("CONFIG REWRITE"),
        Value::error("ERR The server is running without a config file")
    );
}

#[test]
fn resetstat_forgets() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let server = Server::start(&[]);
    let mut client = server.client();
    client.line("GET missing");
    client.line("NOSUCH");
    assert_ne!(
        client.info_field("stats", "keyspace_misses"),
        Some("0".into())
    );
    assert_eq!(client.line("CONFIG RESETSTAT"), Value::ok());
    assert_eq!(
        client.info_field("stats", "keyspace_misses"),
        Some("0".into())
    );
    assert!(!client.info("errorstats").contains("errorstat_ERR"));
    assert!(!client.info("commandstats").contains("cmdstat_get:"));
}

#[test]
fn names_of_the_file_of_redis_are_understood() {
    // Aim: a redis.conf with quotes, units, upper case and renamed commands.
    let dir = TempDir::new("redis-conf");
    let file = dir.write(
        "redis.conf",
        "BIND 127.0.0.1\nMaxMemory 1GB\nrequirepass \"a \\x62 c\"\nsave \"\"\nrename-command FLUSHALL \"\"\nrename-command DBSIZE howmany\n\
         slave-read-only yes\nlogfile \"\"\n",
    );
    let port = free_port().to_string();
    let server = Server::quoit_with(&[path(&file), "--port", &port], &[]);
    assert_eq!(server.kind, Kind::Quoit);
    let mut client = server.client();
    assert_eq!(client.line("AUTH \"a b c\""), Value::ok());
    assert_eq!(get(&mut client, "maxmemory"), "1073741824");
    assert_eq!(get(&mut client, "save"), "");
    assert_eq!(get(&mut client, "slave-read-only"), "yes");
    assert_eq!(client.line("HOWMANY"), Value::Int(0));
    for gone in ["FLUSHALL", "DBSIZE"] {
        assert!(
            client.line(gone).text().starts_with("ERR unknown command"),
            "{gone}"
        );
    }
}
