//! Connections: where the server listens, whom it lets in, whom it closes, and how it ends.

use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::encode;
use crate::support::server::{Kind, run_quoit};
use crate::support::{Client, PATIENCE, Server, TempDir, Value, eventually};

const MIB: usize = 1024 * 1024;

#[test]
fn several_addresses() {
    let server = Server::start(&["--bind", "127.0.0.1", "127.0.0.2", "-::1", "-192.0.2.77"]);
    for host in ["127.0.0.1", "127.0.0.2"] {
        let mut client = Client::connect_to((host, server.port));
        assert_eq!(client.line("PING"), Value::simple("PONG"));
    }
    if TcpStream::connect(("::1", server.port)).is_err() {
        eprintln!("SKIPPED: ::1 is not available on this machine");
        return;
    }
    let mut client = Client::connect_to(("::1", server.port));
    assert_eq!(client.line("PING"), Value::simple("PONG"));
}

#[test]
fn an_address_that_is_missing_and_not_optional_ends_the_start() {
    let (status, log) = run_quoit(&["--port", "1", "--bind", "192.0.2.77"], &[]);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("192.0.2.77:1"), "{log}");
}

#[test]
fn a_port_in_use_ends_the_start() {
    let server = Server::quoit(&[]);
    let port = server.port.to_string();
    let (status, log) = run_quoit(&["--port", &port, "--bind", "127.0.0.1"], &[]);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("127.0.0.1:{port}")), "{log}");
}

#[test]
fn unix_socket_with_its_mode() {
    // Aim: CVE-2023-45145: the file has its mode from the first moment, and goes with the server.
    for (mode, bits) in [("700", 0o700), ("770", 0o770), ("600", 0o600)] {
        let dir = TempDir::new("socket");
        let path = dir.path().join("q.sock");
        let name = path.to_str().expect("the path is UTF-8");
        let mut server = Server::start(&["--unixsocket", name, "--unixsocketperm", mode]);
        let meta = std::fs::metadata(&path).expect("the socket is there");
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, bits);
        let mut client = Client::connect_unix(&path);
        assert_eq!(client.line("SET k v"), Value::ok());
        assert_eq!(server.client().line("GET k"), Value::bulk("v"));
        let large = vec![b'x'; 3 * MIB];
        assert_eq!(client.run(&[b"SET".as_slice(), b"k", &large]), Value::ok());
        assert!(client.line("GET k") == Value::bulk(&large));
        server.signal(Signal::TERM);
        assert_eq!(server.exited(PATIENCE).code(), Some(0));
        assert!(!path.exists(), "the socket's file is removed");
    }
}

#[test]
fn unix_socket_only() {
    let dir = TempDir::new("socket-only");
    let path = dir.path().join("q.sock");
    let name = path.to_str().expect("the path is UTF-8");
    let server = Server::quoit_with(&["--port", "0", "--unixsocket", name], &[]);
    assert_eq!(server.port, 0);
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.line("PING"), Value::simple("PONG"));
    let (status, log) = run_quoit(&["ping", "--port", "0", "--unixsocket", name], &[]);
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_file_in_place_of_the_socket_is_not_removed() {
    let dir = TempDir::new("precious");
    let path = dir.write("precious", "data");
    let name = path.to_str().expect("the path is UTF-8");
    let (status, log) = run_quoit(&["--port", "0", "--unixsocket", name], &[]);
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "data");
}

#[test]
fn idle_connections_time_out() {
    let server = Server::start(&["--timeout", "1"]);
    let mut idle = server.client();
    let begun = Instant::now();
    assert_eq!(idle.line("PING"), Value::simple("PONG"));
    assert!(idle.is_closed());
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "closed after {:?}",
        begun.elapsed()
    );
    // One that goes on asking stays.
    let mut busy = server.client();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(busy.line("PING"), Value::simple("PONG"));
    }
}

#[test]
fn maxclients() {
    let server = Server::start(&["--maxclients", "3"]);
    let mut clients: Vec<Client> = Vec::new();
    while clients.len() < 3 {
        // The connection that asked whether the server is up may still be counted.
        let mut client = server.client();
        if client.try_line("PING") == Some(Value::simple("PONG")) {
            clients.push(client);
        }
    }
    for _ in 0..3 {
        let mut refused = server.client();
        assert_eq!(
            refused.read().value,
            Value::error("ERR max number of clients reached")
        );
        assert!(refused.is_closed());
    }
    clients.pop();
    eventually("a place to be free", || {
        (server.client().try_line("PING")? == Value::simple("PONG")).then_some(())
    });
    for client in &mut clients {
        assert_eq!(client.line("PING"), Value::simple("PONG"));
    }
}

/// An address of this machine that is not its loopback.
fn outer_address() -> Option<std::net::IpAddr> {
    // No packet is sent: the kernel only chooses a route.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[test]
fn protected_mode() {
    let Some(ip) = outer_address() else {
        return eprintln!(
            "SKIPPED: protected mode (this machine has no address besides its loopback)"
        );
    };
    let server = Server::start(&["--bind", "0.0.0.0"]);
    let mut outer = Client::connect_to((ip, server.port));
    let denied = outer.read().value.text();
    assert!(denied.starts_with("DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user."), "{denied}");
    assert!(denied.ends_with("NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside."), "{denied}");
    assert!(outer.is_closed());
    assert_eq!(server.client().line("PING"), Value::simple("PONG"));
    for arguments in [
        &["--bind", "0.0.0.0", "--protected-mode", "no"][..],
        &["--bind", "0.0.0.0", "--requirepass", "x"],
    ] {
        let server = Server::start(arguments);
        let mut outer = Client::connect_to((ip, server.port));
        assert_ne!(outer.line("PING").text().split(' ').next(), Some("DENIED"));
    }
}

#[test]
fn passwords() {
    let server = Server::start(&["--requirepass", "secret word"]);
    let mut client = server.client();
    let noauth = Value::error("NOAUTH Authentication required.");
    let wrong = Value::error("WRONGPASS invalid username-password pair or user is disabled.");
    for refused in [
        "PING",
        "GET k",
        "SET k v",
        "CONFIG GET *",
        "COMMAND",
        "SHUTDOWN",
        "FLUSHALL",
    ] {
        assert_eq!(client.line(refused), noauth, "{refused}");
    }
    let hello = client.line("HELLO 3").text();
    assert!(
        hello.starts_with("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "),
        "{hello}"
    );
    for bad in [
        "AUTH wrong",
        "AUTH default wrong",
        "AUTH nobody \"secret word\"",
        "AUTH \"\"",
        "HELLO 3 AUTH default wrong",
    ] {
        assert_eq!(client.line(bad), wrong, "{bad}");
    }
    assert_eq!(client.line("PING"), noauth);
    assert_eq!(client.line("AUTH a b c"), Value::error("ERR syntax error"));
    // The second reply of a batch in which AUTH fails must not be lost.
    client.send_raw(b"PING\r\nAUTH wrong\r\nAUTH \"secret word\"\r\nPING\r\n");
    let replies: Vec<Value> = (0..4).map(|_| client.read().value).collect();
    assert_eq!(
        replies,
        [noauth.clone(), wrong, Value::ok(), Value::simple("PONG")]
    );
    assert_eq!(client.line("SET k v"), Value::ok());
    assert_eq!(client.line("RESET"), Value::simple("RESET"));
    assert_eq!(client.line("GET k"), noauth);
    let mut client = server.client();
    assert!(matches!(
        client.line("HELLO 3 AUTH default \"secret word\" SETNAME me"),
        Value::Map(_)
    ));
    assert_eq!(client.line("GET k"), Value::bulk("v"));
    assert_eq!(server.client().line("QUIT"), Value::ok());
    let open = Server::start(&[]);
    assert_eq!(
        open.client().line("AUTH x"),
        Value::error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
        )
    );
    assert_eq!(open.client().line("AUTH default x"), Value::ok());
}

/// Asks for a large value again and again without reading, until the server closes the connection.
fn flood(server: &Server, request: &[u8]) -> Duration {
    let mut client = server.client();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if client.try_send_raw(request).is_err() {
            return begun.elapsed();
        }
    }
    panic!("still open after {PATIENCE:?}");
}

#[test]
fn client_output_buffer_limit() {
    let server = Server::start(&["--client-output-buffer-limit", "normal", "8mb", "0", "0"]);
    let value = vec![b'v'; MIB];
    server.client().run(&[b"SET".as_slice(), b"k", &value]);
    flood(&server, &encode(&["GET", "k"]).repeat(20));
    // Within the limit nobody is closed, however late he reads.
    let mut late = server.client();
    late.send_raw(&encode(&["GET", "k"]).repeat(4));
    server.client().line("PING");
    for _ in 0..4 {
        assert!(late.read().value == Value::bulk(&value));
    }
    assert!(
        server.rss_bytes() < 200 * MIB,
        "{} bytes",
        server.rss_bytes()
    );
}

#[test]
fn soft_limit_of_output_buffers() {
    let server = Server::start(&["--client-output-buffer-limit", "normal", "0", "1mb", "1"]);
    let value = vec![b'v'; MIB];
    server.client().run(&[b"SET".as_slice(), b"k", &value]);
    let mut client = server.client();
    let begun = Instant::now();
    client.send_raw(&encode(&["GET", "k"]).repeat(20));
    // It does not read, so the buffer stays over the soft limit; the kernel's buffers take less than 20 MiB.
    eventually("the connection to be closed", || {
        client.try_send_raw(b"PING\r\n").is_err().then_some(())
    });
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "closed after {:?}",
        begun.elapsed()
    );
}

#[test]
fn client_query_buffer_limit() {
    let server = Server::start(&["--client-query-buffer-limit", "1mb"]);
    let one = b"*2\r\n$3\r\nGET\r\n$100000000\r\n".to_vec();
    let long: Vec<u8> = [b"$100000\r\n".as_slice(), &[b'x'; 100_000], b"\r\n"].concat();
    let short = b"$2\r\nab\r\n".repeat(10_000);
    let many = b"*100000000\r\n".to_vec();
    let mut cases = vec![(&one, vec![b'x'; 100_000])];
    if server.kind == Kind::Quoit {
        // Redis does not count the arguments that it has taken out of its buffer.
        cases.extend([(&many, long), (&many, short)]);
    }
    for (head, part) in &cases {
        let mut client = server.client();
        client.send_raw(head);
        let sent = (0..1000)
            .take_while(|_| client.try_send_raw(part).is_ok())
            .count();
        assert!(sent < 900, "{} bytes were taken", sent * part.len());
        // It is closed without a word.
        assert_eq!(client.read_to_end(), b"");
    }
    assert!(
        server.rss_bytes() < 100 * MIB,
        "{} bytes",
        server.rss_bytes()
    );
    let mut client = server.client();
    let fits = vec![b'x'; 900_000];
    assert_eq!(client.run(&[b"SET".as_slice(), b"k", &fits]), Value::ok());
    assert!(client.line("GET k") == Value::bulk(&fits));
}

#[test]
fn client_kill() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    let mut victim = server.client();
    let id = victim.line("CLIENT ID").int();
    assert_eq!(admin.line(&format!("CLIENT KILL ID {id}")), Value::Int(1));
    assert!(victim.is_closed());
    assert_eq!(admin.line(&format!("CLIENT KILL ID {id}")), Value::Int(0));
    let mut victim = server.client();
    victim.line("PING");
    assert_eq!(
        admin.line(&format!("CLIENT KILL 127.0.0.1:{}", victim.local_port())),
        Value::ok()
    );
    assert!(victim.is_closed());
    assert_eq!(
        admin.line("CLIENT KILL 127.0.0.1:1"),
        Value::error("ERR No such client")
    );
    // Oneself last: the reply comes first.
    let id = admin.line("CLIENT ID").int();
    assert_eq!(
        admin.line(&format!("CLIENT KILL ID {id} SKIPME no")),
        Value::Int(1)
    );
    assert!(admin.is_closed());
}

#[test]
fn a_killed_client_that_does_not_read_goes_too() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    admin.run(&[b"SET".as_slice(), b"k", &vec![b'v'; 16 * MIB]]);
    let mut stuck = server.client();
    let id = stuck.line("CLIENT ID").int();
    stuck.send_raw(&encode(&["GET", "k"]).repeat(4));
    eventually("the replies to pile up", || {
        let list = admin.line("CLIENT LIST").text();
        list.lines()
            .find(|line| line.starts_with(&format!("id={id} ")) && !line.contains(" omem=0 "))
            .map(drop)
    });
    assert_eq!(admin.line(&format!("CLIENT KILL ID {id}")), Value::Int(1));
    eventually("the client to be gone", || {
        let list = admin.line("CLIENT LIST").text();
        (!list
            .lines()
            .any(|line| line.starts_with(&format!("id={id} "))))
        .then_some(())
    });
}

#[test]
fn signals_end_the_server() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&[]);
        let port = server.port;
        let mut idle = server.client();
        assert_eq!(idle.line("PING"), Value::simple("PONG"));
        let mut half = server.client();
        half.send_raw(b"PING\r\n*1\r\n$4\r\nPI");
        assert_eq!(half.read().value, Value::simple("PONG"));
        server.signal(signal);
        if server.kind == Kind::Quoit {
            eventually("new connections to be refused", || {
                Client::try_connect(port).is_none().then_some(())
            });
            // What was begun is finished.
            half.send_raw(b"NG\r\n");
            assert_eq!(half.read().value, Value::simple("PONG"));
        }
        assert!(idle.is_closed());
        assert!(half.is_closed());
        assert_eq!(server.exited(Duration::from_secs(20)).code(), Some(0));
    }
}

#[test]
fn a_request_in_flight_is_answered_before_the_end() {
    let mut server = Server::quoit(&[]);
    let mut client = server.client();
    let large = vec![b'x'; 4 * MIB];
    client.run(&[b"SET".as_slice(), b"k", &large]);
    client.send_raw(b"PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nl\r\n$100000\r\n");
    assert_eq!(client.read().value, Value::simple("PONG"));
    let mut sleeper = server.client();
    sleeper.send_raw(b"PING\r\nDEBUG SLEEP 0.3\r\n");
    assert_eq!(sleeper.read().value, Value::simple("PONG"));
    let mut reader = server.client();
    reader.send_raw(&encode(&["GET", "k"]).repeat(3));
    assert!(reader.read().value == Value::bulk(&large));
    server.signal(Signal::TERM);
    eventually("new connections to be refused", || {
        Client::try_connect(server.port).is_none().then_some(())
    });
    client.send_raw(&[b"y".repeat(100_000), b"\r\n".to_vec()].concat());
    assert_eq!(client.read().value, Value::ok());
    assert!(client.is_closed());
    for _ in 0..2 {
        assert!(reader.read().value == Value::bulk(&large));
    }
    assert!(reader.is_closed());
    assert_eq!(sleeper.read().value, Value::ok());
    assert!(sleeper.is_closed());
    assert_eq!(server.exited(Duration::from_secs(20)).code(), Some(0));
}

#[test]
fn clients_that_do_not_finish_do_not_hold_up_the_end() {
    // Aim: half a request, and replies that nobody reads: the end comes in shutdown-timeout all the same.
    let mut server = Server::quoit(&["--shutdown-timeout", "1"]);
    let mut half = server.client();
    half.send_raw(b"*2\r\n$4\r\nPING\r\n");
    let mut large = server.client();
    large.send_raw(b"*2\r\n$4\r\nPING\r\n$1000000\r\nxxx");
    let mut stuck = server.client();
    stuck.run(&[b"SET".as_slice(), b"k", &vec![b'v'; 16 * MIB]]);
    stuck.send_raw(&encode(&["GET", "k"]).repeat(4));
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.exited(Duration::from_secs(10)).code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn shutdown_command() {
    for line in ["SHUTDOWN", "SHUTDOWN NOSAVE", "SHUTDOWN NOW FORCE"] {
        let mut server = Server::start(&[]);
        let mut client = server.client();
        client.send(&crate::support::words(line).expect("no quotes"));
        assert!(client.is_closed());
        assert_eq!(
            server.exited(Duration::from_secs(20)).code(),
            Some(0),
            "{line}"
        );
    }
}

#[test]
fn ping_probes_readiness() {
    // Aim: the exit code says whether the server answers, with the server's own arguments, file and environment.
    let server = Server::quoit(&["--requirepass", "secret"]);
    let port = server.port.to_string();
    let probe = |arguments: &[&str], variables: &[(&str, &str)]| {
        let all: Vec<&str> = ["ping"].iter().chain(arguments).copied().collect();
        run_quoit(&all, variables)
    };
    let (status, log) = probe(&["--port", &port, "--requirepass", "secret"], &[]);
    assert_eq!(status.code(), Some(0), "{log}");
    let (status, log) = probe(
        &[],
        &[("QUOIT_PORT", &port), ("QUOIT_REQUIREPASS", "secret")],
    );
    assert_eq!(status.code(), Some(0), "{log}");
    let file = server.dir.write(
        "q.conf",
        &format!("port {port}\nrequirepass secret\nbind 127.0.0.1 -::1\n"),
    );
    let (status, log) = probe(&[file.to_str().expect("UTF-8")], &[]);
    assert_eq!(status.code(), Some(0), "{log}");
    let (status, log) = probe(&["--port", &port], &[]);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("NOAUTH"), "{log}");
    let (status, log) = probe(&["--port", &port, "--requirepass", "wrong"], &[]);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("WRONGPASS"), "{log}");
    drop(server);
    let (status, log) = probe(&["--port", &port, "--requirepass", "secret"], &[]);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("127.0.0.1:{port}")), "{log}");
}

#[test]
fn quit_and_reset() {
    let server = Server::start(&[]);
    for protocol in [2, 3] {
        let mut client = server.client_in(protocol);
        assert_eq!(client.line("SELECT 3"), Value::ok());
        assert_eq!(client.line("SET k v"), Value::ok());
        assert_eq!(client.line("CLIENT SETNAME me"), Value::ok());
        assert_eq!(client.line("RESET"), Value::simple("RESET"));
        assert_eq!(client.line("GET k"), Value::NilBulk);
        assert!(client.line("CLIENT GETNAME").is_nil());
        assert_eq!(client.line("QUIT"), Value::ok());
        assert!(client.is_closed());
    }
    assert_eq!(
        server.client().line("ECHO \"\\x00\\xff\\r\\n\""),
        Value::bulk(b"\x00\xff\r\n")
    );
}
