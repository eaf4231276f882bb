//! The wire: RESP2 and RESP3, inline commands, any cut of the bytes, deep pipelines, large values, errors of framing.

use std::time::Duration;

use crate::support::client::encode;
use crate::support::{Client, Server, Value, scaled};

const MIB: usize = 1024 * 1024;

/// Sends bytes on a connection of their own, ends our side, and returns all that comes.
fn exchange(server: &Server, request: &[u8]) -> Vec<u8> {
    let mut client = server.client();
    // A server that closes early may refuse the rest.
    let _ = client.try_send_raw(request);
    let _ = client.try_shutdown_write();
    client.read_to_end()
}

#[track_caller]
fn assert_exchange(server: &Server, request: &[u8], reply: &[u8]) {
    let got = exchange(server, request);
    assert!(
        got == reply,
        "{}\n  expected {}\n  got      {}",
        short(request),
        short(reply),
        short(&got)
    );
}

fn short(bytes: &[u8]) -> String {
    if bytes.len() <= 400 {
        return bytes.escape_ascii().to_string();
    }
    let end = bytes.len() - 60;
    format!(
        "{}...{} bytes...{}",
        bytes[..200].escape_ascii(),
        bytes.len(),
        bytes[end..].escape_ascii()
    )
}

#[test]
fn inline_commands() {
    let server = Server::start(&[]);
    for (request, reply) in [
        (&b"PING\r\n"[..], &b"+PONG\r\n"[..]),
        (b"PING\n", b"+PONG\r\n"),
        (b"  ping\t \r\n", b"+PONG\r\n"),
        (b"PING \"hello world\"\r\n", b"$11\r\nhello world\r\n"),
        (b"PI\"NG\"\r\n", b"+PONG\r\n"),
        (b"PING 'it\\'s'\r\n", b"$4\r\nit's\r\n"),
        (
            b"PING \"\\x00\\xff\\n\\r\\t\\a\\b\\\\\\\"\\q\"\r\n",
            b"$10\r\n\x00\xff\n\r\t\x07\x08\\\"q\r\n",
        ),
        (b"PING \"\"\r\n", b"$0\r\n\r\n"),
        (
            b"SET inline 1\r\nINCR inline\r\nGET inline\r\n",
            b"+OK\r\n:2\r\n$1\r\n2\r\n",
        ),
        (
            b"GET inline\r\n*2\r\n$3\r\nGET\r\n$6\r\ninline\r\nGET inline\n",
            b"$1\r\n2\r\n$1\r\n2\r\n$1\r\n2\r\n",
        ),
        (b"QUIT\r\n", b"+OK\r\n"),
        (b"QUIT\r\nPING\r\n", b"+OK\r\n"),
        (
            b"NOSUCH 'a b'\r\n",
            b"-ERR unknown command 'NOSUCH', with args beginning with: 'a b' \r\n",
        ),
        (
            b"\"\"\r\n",
            b"-ERR unknown command '', with args beginning with: \r\n",
        ),
    ] {
        assert_exchange(&server, request, reply);
    }
}

#[test]
fn health_checks_of_load_balancers() {
    // Aim: what HAProxy's tcp-check sends and expects, on one connection.
    let server = Server::start(&[]);
    let text = exchange(&server, b"PING\r\ninfo replication\r\nQUIT\r\n");
    let text = String::from_utf8(text).expect("INFO is text");
    assert!(text.starts_with("+PONG\r\n$"), "{text}");
    assert!(
        text.contains("\r\n# Replication\r\nrole:master\r\n"),
        "{text}"
    );
    assert!(text.ends_with("\r\n+OK\r\n"), "{text}");
}

#[test]
fn empty_requests_leave_a_clean_parser() {
    // Aim: CVE-2026-27623: what follows an empty request in the same read is parsed from its start.
    let server = Server::start(&[]);
    for empty in [
        "\r\n",
        "\n",
        "*0\r\n",
        "*-1\r\n",
        "*-100\r\n",
        " \r\n",
        "\r\n\r\n*0\r\n*-1\r\n\n",
    ] {
        let request = format!("{empty}*1\r\n$4\r\nPING\r\n{empty}PING\r\n{empty}");
        assert_exchange(&server, request.as_bytes(), b"+PONG\r\n+PONG\r\n");
    }
}

#[test]
fn errors_of_framing_close_the_connection_after_the_replies() {
    let server = Server::start(&[]);
    let long = |begin: &str, byte: u8| [begin.as_bytes(), &vec![byte; 70_000]].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"*x\r\n".to_vec(), "invalid multibulk length"),
        (b"*\r\n".to_vec(), "invalid multibulk length"),
        (b"*1.5\r\n".to_vec(), "invalid multibulk length"),
        (b"* 1\r\n".to_vec(), "invalid multibulk length"),
        (b"*2147483648\r\n".to_vec(), "invalid multibulk length"),
        (
            b"*9223372036854775807\r\n".to_vec(),
            "invalid multibulk length",
        ),
        (
            b"*99999999999999999999999\r\n".to_vec(),
            "invalid multibulk length",
        ),
        (b"*1\r\nx\r\n".to_vec(), "expected '$', got 'x'"),
        (b"*1\r\n*1\r\n".to_vec(), "expected '$', got '*'"),
        (b"*1\r\n:1\r\n".to_vec(), "expected '$', got ':'"),
        (b"*1\r\n\r\n".to_vec(), "expected '$', got ' '"),
        (b"*1\r\n$x\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$536870913\r\n".to_vec(), "invalid bulk length"),
        (
            b"*1\r\n$9223372036854775807\r\n".to_vec(),
            "invalid bulk length",
        ),
        (
            b"*2\r\n$4\r\nPING\r\n$-5\r\n".to_vec(),
            "invalid bulk length",
        ),
        (b"GET \"a\r\n".to_vec(), "unbalanced quotes in request"),
        (b"GET 'a\r\n".to_vec(), "unbalanced quotes in request"),
        (b"GET \"a\"b\r\n".to_vec(), "unbalanced quotes in request"),
        (long("", b'a'), "too big inline request"),
        (long("*", b'1'), "too big mbulk count string"),
        (long("*1\r\n$", b'1'), "too big bulk count string"),
    ];
    for (bad, text) in cases {
        let reply = format!("-ERR Protocol error: {text}\r\n");
        assert_exchange(&server, &bad, reply.as_bytes());
        let mut request = [b"PING\r\n*2\r\n$4\r\nPING\r\n$1\r\nx\r\n".as_slice(), &bad].concat();
        if !text.starts_with("too big") {
            request.extend_from_slice(b"PING\r\n");
        }
        let reply = format!("+PONG\r\n$1\r\nx\r\n{reply}");
        assert_exchange(&server, &request, reply.as_bytes());
    }
}

#[test]
fn before_auth_requests_are_small() {
    // Aim: CVE-2021-32675 and CVE-2025-46686: ten arguments of 16 KiB are enough for AUTH and HELLO.
    let server = Server::start(&["--requirepass", "secret"]);
    let noauth = b"-NOAUTH Authentication required.\r\n".as_slice();
    let eleven = encode(&["MGET", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    let ten = encode(&["MGET", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let large = vec![b'x'; 16 * 1024 + 1];
    for (request, reply) in [
        (
            &b"*11\r\n"[..],
            &b"-ERR Protocol error: unauthenticated multibulk length\r\n"[..],
        ),
        (
            b"*1000000000\r\n",
            b"-ERR Protocol error: unauthenticated multibulk length\r\n",
        ),
        (
            b"*2147483648\r\n",
            b"-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            &eleven,
            b"-ERR Protocol error: unauthenticated multibulk length\r\n",
        ),
        (
            b"*1\r\n$16385\r\n",
            b"-ERR Protocol error: unauthenticated bulk length\r\n",
        ),
        (
            b"*1\r\n$536870913\r\n",
            b"-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            &encode(&[b"GET".as_slice(), &large]),
            b"-ERR Protocol error: unauthenticated bulk length\r\n",
        ),
        (&encode(&[b"GET".as_slice(), &large[1..]]), noauth),
        (&ten, noauth),
        (b"PING\r\n", noauth),
    ] {
        assert_exchange(&server, request, reply);
    }
    let mut client = server.client();
    assert_eq!(client.shown("AUTH secret"), "+OK");
    assert_eq!(client.run(&[b"SET".as_slice(), b"k", &large]), Value::ok());
    client.send_raw(&eleven);
    assert_eq!(client.read().value.items().len(), 10);
}

#[test]
fn any_cut_of_the_bytes() {
    let server = Server::start(&[]);
    let stream = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nh\r\nlo\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n\
        *1\r\n$4\r\nPING\r\nPING \"a b\"\r\n*2\r\n$4\r\nPING\r\n$0\r\n\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$0\r\n\r\nGET b\n";
    let expected =
        b"+OK\r\n$5\r\nh\r\nlo\r\n+PONG\r\n+PONG\r\n$3\r\na b\r\n$0\r\n\r\n+OK\r\n$0\r\n\r\n";
    let mut other = server.client();
    let mut client = server.client();
    for cut in 0..=stream.len() {
        client.send_raw(&stream[..cut]);
        // A round trip of another connection: the first part has most likely been read by then.
        other.line("PING");
        client.send_raw(&stream[cut..]);
        assert_replies(&mut client, expected, &format!("cut at {cut}"));
    }
    for byte in stream {
        client.send_raw(&[*byte]);
    }
    assert_replies(&mut client, expected, "byte by byte");
    for size in 2..20 {
        stream.chunks(size).for_each(|piece| client.send_raw(piece));
        assert_replies(&mut client, expected, &format!("pieces of {size}"));
    }
}

/// Reads as many bytes as are expected and compares.
#[track_caller]
fn assert_replies(client: &mut Client, expected: &[u8], what: &str) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.extend(client.read().raw);
    }
    assert_eq!(
        got.escape_ascii().to_string(),
        expected.escape_ascii().to_string(),
        "{what}"
    );
}

#[test]
fn any_cut_of_large_arguments() {
    // Aim: large payloads take another way through the server: each border of theirs is cut once.
    let server = Server::start(&[]);
    let a: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
    let b: Vec<u8> = (0..70_000u32).map(|i| (i % 241) as u8).collect();
    let mut stream = encode(&["SET", "small", "1"]);
    let first = stream.len();
    stream.extend(encode(&[
        b"MSET".as_slice(),
        b"a",
        &a,
        b"b",
        &b,
        b"c",
        b"tiny",
    ]));
    let second = stream.len();
    stream.extend(encode(&["MGET", "a", "b", "c"]));
    stream.extend_from_slice(b"PING\r\n");
    let borders = [0, 10, first, first + 4, second - 40, second - 20];
    let payload_a = first + 4 + 10 + 7 + 8;
    let payload_b = payload_a + a.len() + 2 + 7 + 8;
    let mut cuts: Vec<usize> = borders.to_vec();
    for begin in [payload_a, payload_b] {
        cuts.extend(begin - 6..begin + 6);
    }
    for end in [payload_a + a.len(), payload_b + b.len()] {
        cuts.extend(end - 4..end + 8);
    }
    let mut other = server.client();
    let mut client = server.client();
    for cut in cuts {
        client.send_raw(&stream[..cut]);
        other.line("PING");
        client.send_raw(&stream[cut..]);
        assert_eq!(client.read().value, Value::ok(), "cut at {cut}");
        assert_eq!(client.read().value, Value::ok(), "cut at {cut}");
        let values = client.read().value.items();
        assert!(
            values == [Value::bulk(&a), Value::bulk(&b), Value::bulk("tiny")],
            "cut at {cut}"
        );
        assert_eq!(client.read().value, Value::simple("PONG"), "cut at {cut}");
        other.line("DEL a b c");
    }
}

#[test]
fn pipelines_of_any_depth() {
    // Aim: 10,000 requests in one write, replies in their order, also when nothing is read before all is sent.
    let server = Server::start(&[]);
    let mut client = server.client();
    for depth in [1, 2, 16, 64, 1000, 10_000] {
        let mut stream = Vec::new();
        for index in 0..depth {
            stream.extend(encode(&[
                "SET",
                &format!("key:{index}"),
                &format!("value:{index}"),
            ]));
            stream.extend(encode(&["GET", &format!("key:{index}")]));
            stream.extend_from_slice(format!("PING {index}\r\n").as_bytes());
        }
        client.send_raw(&stream);
        for index in 0..depth {
            assert_eq!(client.read().value, Value::ok());
            assert_eq!(client.read().value, Value::bulk(format!("value:{index}")));
            assert_eq!(client.read().value, Value::bulk(index.to_string()));
        }
    }
    assert_eq!(client.line("DBSIZE"), Value::Int(10_000));
}

#[test]
fn large_values_in_and_out() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for length in [MIB, 64 * MIB] {
        round_trip(&mut client, length);
    }
    assert_eq!(client.line("DEL k"), Value::Int(1));
}

#[test]
fn values_of_half_a_gibibyte() {
    // Aim: the largest value there may be. Takes 2 GiB and some seconds: asked for by QUOIT_TEST_HUGE=1.
    if scaled("QUOIT_TEST_HUGE", 0) == 0 {
        return eprintln!("SKIPPED: values of 512 MiB (set QUOIT_TEST_HUGE=1)");
    }
    let server = Server::start(&[]);
    let mut client = server.client();
    client.set_patience(Duration::from_secs(300));
    round_trip(&mut client, 512 * MIB);
    assert_eq!(
        client.line("APPEND k x"),
        Value::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    );
}

fn round_trip(client: &mut Client, length: usize) {
    let value: Vec<u8> = (0..length / 8)
        .flat_map(|word| {
            (word as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
        })
        .collect();
    assert_eq!(client.run(&[b"SET".as_slice(), b"k", &value]), Value::ok());
    assert_eq!(client.line("STRLEN k"), Value::Int(length as i64));
    let Value::Bulk(got) = client.line("GET k") else {
        panic!("a bulk is expected")
    };
    assert!(
        got == value,
        "the value of {length} bytes came back changed"
    );
    let end = length - 100;
    assert_eq!(
        client.run(&["GETRANGE", "k", &end.to_string(), "-1"]),
        Value::bulk(&value[end..])
    );
}

#[test]
fn a_large_reply_does_not_hold_up_others() {
    let server = Server::start(&[]);
    let mut slow = server.client();
    let value = vec![b'v'; 8 * MIB];
    assert_eq!(slow.run(&[b"SET".as_slice(), b"k", &value]), Value::ok());
    for _ in 0..8 {
        slow.send(&["GET", "k"]);
    }
    let mut other = server.client();
    for _ in 0..100 {
        assert_eq!(other.line("STRLEN k"), Value::Int(8 * MIB as i64));
    }
    other.line("SET k changed");
    assert_eq!(other.line("GET k"), Value::bulk("changed"));
    // What was asked for before is answered from the value of that time, or from the new one: whole in any case.
    for _ in 0..8 {
        let Value::Bulk(got) = slow.read().value else {
            panic!("a bulk is expected")
        };
        assert!(got == value || got == b"changed", "a torn value");
    }
}

#[test]
fn hello_changes_the_protocol() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let fields = |reply: &Value| {
        assert_eq!(reply.field("server"), Some(Value::bulk("redis")));
        assert!(reply.field("version").is_some());
        assert!(reply.field("id").is_some_and(|id| id.int() > 0));
        assert_eq!(reply.field("mode"), Some(Value::bulk("standalone")));
        assert_eq!(reply.field("role"), Some(Value::bulk("master")));
        assert_eq!(reply.field("modules"), Some(Value::Array(Vec::new())));
        reply.field("proto").map(|proto| proto.int())
    };
    let hello = client.line("HELLO");
    assert!(matches!(hello, Value::Array(_)), "{hello:?}");
    assert_eq!(fields(&hello), Some(2));
    let hello = client.line("HELLO 3");
    assert!(matches!(hello, Value::Map(_)), "{hello:?}");
    assert_eq!(fields(&hello), Some(3));
    assert_eq!(client.line("GET missing"), Value::Null);
    assert_eq!(
        client.line("HELLO 4"),
        Value::error("NOPROTO unsupported protocol version")
    );
    assert_eq!(
        client.line("HELLO x"),
        Value::error("ERR Protocol version is not an integer or out of range")
    );
    assert_eq!(
        client.line("HELLO 3 NOPE"),
        Value::error("ERR Syntax error in HELLO option 'NOPE'")
    );
    assert_eq!(
        client.line("HELLO 2 SETNAME"),
        Value::error("ERR Syntax error in HELLO option 'SETNAME'")
    );
    assert_eq!(
        client.line("GET missing"),
        Value::Null,
        "a HELLO that failed changes nothing"
    );
    let hello = client.line("HELLO 2 SETNAME me");
    assert!(matches!(hello, Value::Array(_)), "{hello:?}");
    assert_eq!(client.line("GET missing"), Value::NilBulk);
    assert_eq!(client.line("CLIENT GETNAME"), Value::bulk("me"));
    client.line("HELLO 3");
    assert_eq!(client.line("RESET"), Value::simple("RESET"));
    assert_eq!(client.line("GET missing"), Value::NilBulk);
}

#[test]
fn requests_cut_off_by_the_end_of_the_stream_are_dropped() {
    let server = Server::start(&[]);
    for request in [
        "*2\r\n$3\r\nGET\r\n",
        "*1\r\n$4\r\nPI",
        "PING",
        "*1\r\n$4\r\nPING\r",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\nabc",
    ] {
        assert_exchange(&server, request.as_bytes(), b"");
        assert_exchange(
            &server,
            format!("PING\r\n{request}").as_bytes(),
            b"+PONG\r\n",
        );
    }
    assert_eq!(server.client().line("EXISTS k"), Value::Int(0));
}
