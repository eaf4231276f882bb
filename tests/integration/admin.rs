//! Administrative commands over sockets: MONITOR, CLIENT PAUSE and REPLY, renamed commands, DEBUG, passwords that change.

use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Server, TempDir, Value, eventually};

/// The lines that a monitor gets until `PING end`, without their times and addresses.
fn watched(monitor: &mut Client, last: &mut Client) -> Vec<String> {
    assert_eq!(last.line("PING end"), Value::bulk("end"));
    let mut lines = Vec::new();
    loop {
        let Value::Simple(line) = monitor.read().value else {
            panic!("a line of MONITOR is a simple string")
        };
        let line = String::from_utf8(line.to_vec()).expect("escaped text");
        let (time, rest) = line.split_once(' ').expect("a time");
        let (seconds, micros) = time.split_once('.').expect("seconds and microseconds");
        assert!(
            seconds
                .parse::<u64>()
                .is_ok_and(|seconds| seconds > 1_500_000_000),
            "{line}"
        );
        assert!(micros.len() == 6 && micros.parse::<u32>().is_ok(), "{line}");
        if rest.ends_with("\"PING\" \"end\"") {
            return lines;
        }
        lines.push(rest.to_owned());
    }
}

#[test]
fn monitor_lines() {
    // Aim: the exact form; secrets and administrative commands are not shown, nor what was refused before it ran.
    let dir = TempDir::new("monitor");
    let path = dir.path().join("m.sock");
    let name = path.to_str().expect("the path is UTF-8");
    let server = Server::start(&["--unixsocket", name]);
    let mut monitor = server.client();
    assert_eq!(monitor.line("MONITOR"), Value::ok());
    let mut tcp = server.client();
    let addr = format!("127.0.0.1:{}", tcp.local_port());
    let mut unix = Client::connect_unix(&path);
    for line in [
        "SET \"a\\\"\\n\\x01\\xff\" \"\"",
        "SELECT 4",
        "GET k",
        "nosuch",
        "GET",
        "CONFIG GET x",
        "INCRBY k x",
    ] {
        tcp.line(line);
    }
    for line in [
        "AUTH default pw",
        "HELLO 3 AUTH default pw SETNAME me",
        "ECHO x",
    ] {
        unix.line(line);
    }
    let unix_addr = format!("unix:{name}");
    let expected = [
        format!("[0 {addr}] \"SET\" \"a\\\"\\n\\x01\\xff\" \"\""),
        format!("[4 {addr}] \"SELECT\" \"4\""),
        format!("[4 {addr}] \"GET\" \"k\""),
        format!("[4 {addr}] \"INCRBY\" \"k\" \"x\""),
        format!("[0 {unix_addr}] \"AUTH\" \"(redacted)\" \"(redacted)\""),
        format!(
            "[0 {unix_addr}] \"HELLO\" \"3\" \"AUTH\" \"(redacted)\" \"(redacted)\" \"SETNAME\" \"me\""
        ),
        format!("[0 {unix_addr}] \"ECHO\" \"x\""),
    ];
    assert_eq!(watched(&mut monitor, &mut tcp), expected);
    // RESET ends it: the next reply is PING's own.
    assert_eq!(monitor.line("RESET"), Value::simple("RESET"));
    tcp.line("GET k");
    assert_eq!(monitor.line("PING"), Value::simple("PONG"));
}

#[test]
fn reply_modes() {
    // Aim: exactly the replies that redis-server sends, over one pipeline.
    let server = Server::start(&[]);
    let mut client = server.client();
    let lines = [
        ("CLIENT REPLY SKIP", None),
        ("PING 1", None),
        ("PING 2", Some("2")),
        ("CLIENT REPLY SKIP", None),
        ("CLIENT REPLY SKIP", None),
        ("PING 3", None),
        ("PING 4", Some("4")),
        ("CLIENT REPLY OFF", None),
        ("PING 5", None),
        ("nosuch", None),
        ("CLIENT REPLY SKIP", None),
        ("PING 6", None),
        ("CLIENT REPLY ON", Some("OK")),
        ("CLIENT REPLY SKIP", None),
        ("nosuch", None),
        ("PING 7", Some("7")),
        ("CLIENT REPLY SKIP", None),
        ("RESET", None),
        ("PING 8", Some("8")),
    ];
    for (line, _) in lines {
        client.send_raw(format!("{line}\r\n").as_bytes());
    }
    for expected in lines.iter().filter_map(|(_, reply)| *reply) {
        assert_eq!(client.read().value.text(), expected);
    }
}

#[test]
fn pause_ends_by_unpause() {
    // Aim: WRITE holds back writes alone, ALL everything of others; UNPAUSE lets go at once.
    let server = Server::quoit(&[]);
    let mut admin = server.client();
    let mut client = server.client();
    assert_eq!(admin.line("CLIENT PAUSE 600000 WRITE"), Value::ok());
    assert!(client.line("GET k").is_nil());
    client.send(&["SET", "k", "v"]);
    client.send(&["GET", "k"]);
    let id = waiting(&mut admin);
    assert_eq!(admin.line("GET k"), Value::NilBulk);
    assert_eq!(admin.line("CLIENT UNPAUSE"), Value::ok());
    assert_eq!(client.read().value, Value::ok());
    assert_eq!(client.read().value, Value::bulk("v"));
    assert_eq!(admin.line("CLIENT PAUSE 600000"), Value::ok());
    client.send(&["GET", "k"]);
    assert_eq!(waiting(&mut admin), id);
    // Who waits can be closed, and its request is not run any more.
    client.send(&["SET", "k", "later"]);
    assert_eq!(admin.line(&format!("CLIENT KILL ID {id}")), Value::Int(1));
    assert!(client.is_closed());
    assert_eq!(admin.line("CLIENT UNPAUSE"), Value::ok());
    assert_eq!(admin.line("GET k"), Value::bulk("v"));
}

/// The number of the client that waits, once there is one.
fn waiting(admin: &mut Client) -> u64 {
    eventually("a client to wait", || {
        let list = admin.line("CLIENT LIST").text();
        let line = list
            .lines()
            .find(|line| line.contains(" flags=b "))?
            .to_owned();
        line.strip_prefix("id=")?.split(' ').next()?.parse().ok()
    })
}

#[test]
fn pause_ends_by_itself() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let begun = Instant::now();
    assert_eq!(client.line("CLIENT PAUSE 300 WRITE"), Value::ok());
    assert_eq!(client.line("SET k v"), Value::ok());
    assert!(
        begun.elapsed() >= Duration::from_millis(299),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn renamed_commands() {
    // Aim: redis.conf's own example, a name longer than the table's words; what is removed is unknown.
    let long = "b840fc02d524045429941cc15f59e41cb7be6c52";
    let mut arguments = vec!["--rename-command", "CONFIG", long];
    arguments.extend([
        "--rename-command",
        "KEYS",
        "",
        "--rename-command",
        "GET",
        "fetch",
    ]);
    let server = Server::start(&arguments);
    let mut client = server.client();
    for (line, reply) in [
        (
            "GET k",
            "-ERR unknown command 'GET', with args beginning with: 'k' ",
        ),
        (
            "KEYS *",
            "-ERR unknown command 'KEYS', with args beginning with: '*' ",
        ),
        ("FETCH k", "nil"),
        ("fetch", "-ERR wrong number of arguments for 'get' command"),
        ("COMMAND INFO get", "[nil]"),
        ("COMMAND GETKEYS fetch k", "[\"k\"]"),
        ("COMMAND GETKEYS get k", "-ERR Invalid command specified"),
        ("COMMAND LIST FILTERBY PATTERN keys", "[]"),
        ("COMMAND LIST FILTERBY PATTERN get", "[\"get\"]"),
    ] {
        assert_eq!(client.shown(line), reply, "{line}");
    }
    assert_eq!(
        client.shown(&format!("{long} GET timeout")),
        "[\"timeout\", \"0\"]"
    );
    assert_eq!(
        client.shown(&format!("{long} x")),
        format!(
            "-ERR unknown subcommand 'x'. Try {} HELP.",
            long.to_uppercase()
        )
    );
}

#[test]
fn a_rename_that_cannot_be_done_ends_the_start() {
    for (from, to, why) in [
        ("nosuch", "x", "no such command: nosuch"),
        ("get", "set", "there is a command of that name already: set"),
    ] {
        let arguments = ["--port", "1", "--rename-command", from, to];
        let (status, log) = crate::support::server::run_quoit(&arguments, &[]);
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(why), "{log}");
    }
}

#[test]
fn debug_needs_its_parameter() {
    let refusal = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from \
        a local connection, otherwise you need to set this option in the configuration file, and then restart the server.";
    for (access, answer) in [
        ("no", Value::error(refusal)),
        ("local", Value::ok()),
        ("yes", Value::ok()),
    ] {
        let arguments = ["--bind", "127.0.0.1", "--enable-debug-command", access];
        let server = Server::quoit_on_a_free_port(&arguments, &[]);
        assert_eq!(server.client().line("DEBUG SLEEP 0"), answer, "{access}");
    }
}

#[test]
fn debug_sleep_holds_up_nobody_else() {
    // Aim: others are served meanwhile; a kill ends the sleep, which would else outlast the test.
    let server = Server::quoit(&[]);
    let mut sleepers: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for sleeper in &mut sleepers {
        sleeper.send(&["DEBUG", "SLEEP", "1000000"]);
    }
    let mut client = server.client();
    for _ in 0..100 {
        assert_eq!(client.line("SET k v"), Value::ok());
    }
    assert_eq!(client.line("CLIENT KILL SKIPME yes"), Value::Int(4));
    eventually("the sleepers to be gone", || {
        (client.line("CLIENT LIST").text().lines().count() == 1).then_some(())
    });
}

#[test]
fn a_password_that_comes_and_goes() {
    // Aim: who is in stays in; who was kept out is let in when no password is asked for any more.
    let server = Server::start(&[]);
    let mut admin = server.client();
    assert_eq!(admin.line("CONFIG SET requirepass pw"), Value::ok());
    let mut outside = server.client();
    assert_eq!(
        outside.line("PING"),
        Value::error("NOAUTH Authentication required.")
    );
    assert_eq!(admin.line("PING"), Value::simple("PONG"));
    assert_eq!(admin.line("CONFIG SET requirepass \"\""), Value::ok());
    assert_eq!(outside.line("PING"), Value::simple("PONG"));
}

#[test]
fn parameters_hold_from_the_next_command_of_a_pipeline() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.send_raw(b"CONFIG SET maxmemory 1 maxmemory-policy noeviction\r\nSET k v\r\nCONFIG SET maxmemory 0\r\nSET k v\r\n");
    assert_eq!(client.read().value, Value::ok());
    assert_eq!(
        client.read().value,
        Value::error("OOM command not allowed when used memory > 'maxmemory'.")
    );
    assert_eq!(client.read().value, Value::ok());
    assert_eq!(client.read().value, Value::ok());
}

#[test]
fn config_rewrite_keeps_the_file_and_adds_the_change() {
    let dir = TempDir::new("rewrite");
    let path = dir.path().join("q.sock");
    let text = format!("# mine\nport 0\nunixsocket {}\ntimeout 5\n", path.display());
    let file = dir.write("q.conf", &text);
    let name = file.to_str().expect("the path is UTF-8");
    let _server = Server::quoit_with(&[name], &[]);
    let mut client = Client::connect_unix(&path);
    assert_eq!(
        client.line("CONFIG SET timeout 77 maxmemory-samples 9"),
        Value::ok()
    );
    assert_eq!(client.line("CONFIG REWRITE"), Value::ok());
    let rewritten = std::fs::read_to_string(&file).expect("the file is there");
    assert!(
        rewritten.starts_with(&text.replace("timeout 5", "timeout 77")),
        "{rewritten}"
    );
    assert!(rewritten.contains("\nmaxmemory-samples 9\n"), "{rewritten}");
}

#[test]
fn monitors_do_not_time_out() {
    // Aim: `timeout` closes silent clients, not those that watch.
    let server = Server::start(&["--timeout", "1"]);
    let mut monitor = server.client();
    assert_eq!(monitor.line("MONITOR"), Value::ok());
    let mut silent = server.client();
    silent.set_patience(PATIENCE);
    assert!(silent.is_closed());
    let mut last = server.client();
    let addr = last.local_port();
    assert_eq!(last.line("ECHO x"), Value::bulk("x"));
    let lines = watched(&mut monitor, &mut last);
    assert_eq!(
        lines.last(),
        Some(&format!("[0 127.0.0.1:{addr}] \"ECHO\" \"x\""))
    );
}
