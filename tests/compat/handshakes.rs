//! What clients and load balancers send unasked: every request gets its reply, refused or not, the connection stays in step,
//! and what is optional stays out of the error counters.

use crate::support::{Server, Value, words};

/// A client's opening, and which of its lines may be refused.
struct Handshake {
    client: &'static str,
    lines: &'static [&'static str],
    may_be_refused: &'static [&'static str],
}

const HANDSHAKES: &[Handshake] = &[
    Handshake {
        client: "redis-py 8",
        lines: &[
            "HELLO 3 AUTH default secret",
            "CLIENT SETINFO LIB-NAME redis-py",
            "CLIENT SETINFO LIB-VER 8.1.0",
            "CLIENT MAINT_NOTIFICATIONS ON",
            "SELECT 3",
        ],
        may_be_refused: &["CLIENT MAINT_NOTIFICATIONS ON"],
    },
    Handshake {
        client: "go-redis 9",
        lines: &[
            "HELLO 3 AUTH default secret SETNAME app",
            "SELECT 1",
            "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type none",
            "CLIENT SETINFO LIB-NAME go-redis(,go1.24)",
            "CLIENT SETINFO LIB-VER 9.16.0",
        ],
        may_be_refused: &["CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type none"],
    },
    Handshake {
        client: "node-redis 5",
        lines: &[
            "AUTH secret",
            "SELECT 2",
            "CLIENT SETINFO LIB-NAME node-redis",
            "CLIENT SETINFO LIB-VER 5.9.0",
        ],
        may_be_refused: &[],
    },
    Handshake {
        client: "ioredis 5",
        lines: &[
            "AUTH default secret",
            "SELECT 4",
            "CLIENT SETNAME app",
            "CLIENT SETINFO LIB-NAME ioredis",
            "CLIENT SETINFO LIB-VER 5.8.2",
            "INFO",
        ],
        may_be_refused: &[],
    },
    Handshake {
        client: "Lettuce 6",
        lines: &[
            "HELLO 3 AUTH default secret",
            "CLIENT SETNAME app",
            "CLIENT SETINFO lib-name Lettuce",
            "CLIENT SETINFO lib-ver 6.8.0.RELEASE",
            "INFO",
        ],
        may_be_refused: &[],
    },
    Handshake {
        client: "Jedis 6",
        lines: &[
            "HELLO 3 AUTH default secret",
            "CLIENT SETNAME app",
            "CLIENT SETINFO LIB-NAME jedis(jedis-6;v1)",
            "CLIENT SETINFO LIB-VER 6.2.0",
            "SELECT 0",
            "PING",
        ],
        may_be_refused: &[],
    },
    Handshake {
        client: "Redisson",
        lines: &[
            "AUTH secret",
            "SELECT 0",
            "CLIENT SETNAME app",
            "CLIENT CAPA redirect",
            "PING",
            "INFO all",
            "WAIT 0 0",
            "WAITAOF 0 0 0",
        ],
        may_be_refused: &[],
    },
    Handshake {
        client: "StackExchange.Redis",
        lines: &[
            "AUTH secret",
            "CLIENT SETNAME app",
            "CLIENT SETINFO lib-name SE.Redis",
            "CLIENT SETINFO lib-ver 2.9.0",
            "CLIENT ID",
            "CONFIG GET timeout",
            "CONFIG GET replica-read-only",
            "CONFIG GET databases",
            "SENTINEL MASTERS",
            "INFO replication",
            "INFO server",
            "CLUSTER NODES",
            "GET __Booksleeve_TieBreak",
        ],
        may_be_refused: &["SENTINEL MASTERS", "CLUSTER NODES"],
    },
    Handshake {
        client: "redis-client (Sidekiq)",
        lines: &[
            "HELLO 3 AUTH secret2 x",
            "HELLO 3 AUTH default secret",
            "SELECT 0",
            "CLIENT SETINFO LIB-NAME redis-client",
            "INFO",
        ],
        may_be_refused: &["HELLO 3 AUTH secret2 x"],
    },
    Handshake {
        client: "phpredis",
        lines: &["AUTH secret", "ECHO phpredis_8f2c", "SELECT 0"],
        may_be_refused: &[],
    },
    Handshake {
        client: "redis_exporter",
        lines: &[
            "AUTH secret",
            "CLIENT SETNAME redis_exporter",
            "CONFIG GET *",
            "INFO ALL",
            "LATENCY LATEST",
            "LATENCY HISTOGRAM",
            "SLOWLOG GET 1",
            "SLOWLOG LEN",
            "CLIENT LIST",
            "COMMAND INFO get",
        ],
        may_be_refused: &[],
    },
    Handshake {
        client: "redis-cli -3",
        lines: &[
            "AUTH default secret",
            "HELLO 3",
            "COMMAND DOCS",
            "COMMAND",
            "INFO SERVER",
        ],
        may_be_refused: &[],
    },
];

/// Each opening in one write, with a marker behind it that must come back last.
#[test]
fn openings_of_clients() {
    let server = Server::quoit(&["--requirepass", "secret"]);
    for handshake in HANDSHAKES {
        let mut client = server.client();
        let lines = handshake.lines.iter().chain(&["ECHO in-step"]);
        let requests = lines
            .map(|line| crate::support::client::encode(&words(line).expect("balanced quotes")));
        client.send_raw(&requests.collect::<Vec<_>>().concat());
        for line in handshake.lines {
            let reply = client.read().value;
            let may_be_refused = handshake.may_be_refused.contains(line);
            assert_eq!(
                reply.is_error(),
                may_be_refused,
                "{}: {line}: {reply:?}",
                handshake.client
            );
        }
        assert_eq!(
            client.read().value,
            Value::bulk("in-step"),
            "{}",
            handshake.client
        );
    }
}

/// An optional request that is refused is no error of the server's.
#[test]
fn refused_options_are_not_counted() {
    let server = Server::quoit(&[]);
    let mut client = server.client();
    client.line("CONFIG RESETSTAT");
    assert!(client.line("CLIENT MAINT_NOTIFICATIONS ON").is_error());
    assert_eq!(
        client.info_field("stats", "total_error_replies").as_deref(),
        Some("0")
    );
    assert!(client.line("NOTHING").is_error());
    assert_eq!(
        client.info_field("stats", "total_error_replies").as_deref(),
        Some("1")
    );
}

/// HAProxy and Kubernetes ask by inline commands and look for words in the answer.
#[test]
fn inline_probes() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = server.client();
    client.send_raw(b"PING\r\n");
    assert_eq!(
        client.read().value,
        Value::error("NOAUTH Authentication required.")
    );
    client.send_raw(b"AUTH secret\r\nPING\r\ninfo replication\r\nQUIT\r\n");
    assert_eq!(client.read().raw, b"+OK\r\n");
    assert_eq!(client.read().raw, b"+PONG\r\n");
    let info = client.read().value.text();
    assert!(
        info.starts_with("# Replication\r\nrole:master\r\n"),
        "{info}"
    );
    assert_eq!(client.read().raw, b"+OK\r\n");
    assert!(client.is_closed());
}
