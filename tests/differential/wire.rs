//! The same bytes to both, right or not: replies, and where the connection ends, are compared byte for byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::differences::known_on_wire;
use crate::pair::Pair;
use crate::support::{PATIENCE, scaled, seed};

/// What a server says to these bytes and to the end of the stream, given in pieces.
fn answer(port: u16, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.set_nodelay(true).expect("an open socket takes it");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("an open socket takes it");
    for piece in pieces {
        // It may have closed already, with what it said still to be read.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            said.extend_from_slice(b"(does not end)")
        }
        // A reset after what it said is an end, too.
        _ => {}
    }
    said
}

fn compare(pair: &Pair, input: &[u8]) -> Option<String> {
    compare_pieces(pair, &[input])
}

fn compare_pieces(pair: &Pair, pieces: &[&[u8]]) -> Option<String> {
    let redis = answer(pair.redis.port, pieces);
    let quoit = answer(pair.quoit.port, pieces);
    let show = |bytes: &[u8]| bytes[..bytes.len().min(600)].escape_ascii().to_string();
    let is_fine = redis == quoit || known_on_wire(&pieces.concat(), &redis, &quoit).is_some();
    (!is_fine).then(|| {
        format!(
            "{}\n  redis: {}\n  quoit: {}",
            show(&pieces.concat()),
            show(&redis),
            show(&quoit)
        )
    })
}

fn compare_all(test: &str, inputs: &[&[u8]]) {
    let Some(pair) = Pair::start(test) else {
        return;
    };
    let differences: Vec<String> = inputs
        .iter()
        .filter_map(|input| compare(&pair, input))
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        inputs.len(),
        differences.join("\n")
    );
}

/// Malformed requests of every kind: the text, and that the connection ends.
#[test]
fn malformed_requests() {
    compare_all(
        "malformed_requests",
        &[
            b"*1\r\n$4\r\nPING\r\n",
            b"*0\r\n*1\r\n$4\r\nPING\r\n",
            b"*-1\r\n*1\r\n$4\r\nPING\r\n",
            b"*-10\r\n*1\r\n$4\r\nPING\r\n",
            b"\r\n\r\n*1\r\n$4\r\nPING\r\n",
            b"\n\n*1\r\n$4\r\nPING\r\n",
            b"*x\r\n",
            b"*\r\n",
            b"*1x\r\n",
            b"* 1\r\n",
            b"*+1\r\n$4\r\nPING\r\n",
            b"*01\r\n$4\r\nPING\r\n",
            b"*1.0\r\n",
            b"*2147483647\r\n",
            b"*2147483648\r\n",
            b"*1048576\r\n",
            b"*1048577\r\n",
            b"*1000000000\r\n",
            b"*99999999999999999999\r\n",
            b"*-9223372036854775808\r\n*1\r\n$4\r\nPING\r\n",
            b"*-9223372036854775809\r\n",
            b"*1\r\nPING\r\n",
            b"*1\r\n+PING\r\n",
            b"*1\r\n:4\r\n",
            b"*1\r\n\r\n",
            b"*1\r\n\n",
            b"*1\r\n$\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$-2\r\n",
            b"*1\r\n$x\r\n",
            b"*1\r\n$4x\r\nPING\r\n",
            b"*1\r\n$ 4\r\nPING\r\n",
            b"*1\r\n$+4\r\nPING\r\n",
            b"*1\r\n$04\r\nPING\r\n",
            b"*1\r\n$4 \r\nPING\r\n",
            b"*1\r\n$0\r\n\r\n",
            b"*1\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n",
            b"*1\r\n$1048577\r\n",
            b"*1\r\n$536870912\r\n",
            b"*1\r\n$536870913\r\n",
            b"*1\r\n$9223372036854775807\r\n",
            b"*1\r\n$9223372036854775808\r\n",
            b"*1\r\n$99999999999999999999\r\n",
            b"*1\r\n$-9223372036854775808\r\n",
            b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
            b"*1\r\n$4\r\nPING\n\n*1\r\n$4\r\nPING\r\n",
            b"*1\r\n$4\nPING\r\n",
            b"*1\n$4\r\nPING\r\n",
            b"*1\r$4\r\nPING\r\n",
            b"*1\rx$4\r\nPING\r\n",
            b"*1\r\n$4\rxPING\r\n",
            b"*2\r\n$4\r\nPING\r\n",
            b"*2\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
            b"*1\r\n$4\r\nPING\r\n*x\r\n*1\r\n$4\r\nPING\r\n",
            b"*1\r\n$4\r\nPING\r\n*1\r\n$x\r\nPING\r\n",
            b"*1\r\n*1\r\n$4\r\nPING\r\n",
            b"$4\r\nPING\r\n",
            b"+PING\r\n",
            b":1\r\n",
            b"-ERR\r\n",
            b"_\r\n",
            b"%1\r\n$4\r\nPING\r\n",
            b"\0\r\n",
            b"\0",
            b"*1\r\n\0\r\n",
            b"*\0\r\n",
            b"*1\0\r\n$4\r\nPING\r\n",
            b"*1\r\n$4\0\r\nPING\r\n",
            b"*1\r\n\xff4\r\nPING\r\n",
            b"*1\r\n\r4\r\nPING\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\n\r\n",
            b"*1\r\n$5\r\nPOST \r\n*2\r\n$5\r\nhost:\r\n$1\r\nx\r\n*1\r\n$4\r\nPING\r\n",
            b"*2\r\n$4\r\npost\r\n$1\r\n/\r\n*1\r\n$4\r\nPING\r\n",
            b"Host: localhost\r\nPING\r\n",
            b"PING\r\nHOST: localhost\r\nPING\r\n",
        ],
    );
}

/// Lines and lengths longer than a line may be. Just beyond 64 KiB the answer of redis-server depends on how the bytes arrive.
#[test]
fn lines_too_long() {
    let Some(pair) = Pair::start("lines_too_long") else {
        return;
    };
    let mut differences = Vec::new();
    for length in [100, 16_383, 65_000, 200_000] {
        for head in [&b""[..], b"*", b"*1\r\n$", b"PING "] {
            for tail in [&b""[..], b"\r\n", b"\n"] {
                let mut input = head.to_vec();
                input.resize(length, b'1');
                input.extend_from_slice(tail);
                differences.extend(compare(&pair, &input).map(|found| {
                    format!(
                        "length {length} head {:?} tail {:?}: {}",
                        head.escape_ascii().to_string(),
                        tail.escape_ascii().to_string(),
                        &found[found.find('\n').unwrap_or(0)..]
                    )
                }));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Inline commands: blanks, quotes, escapes, line ends.
#[test]
fn inline_commands() {
    compare_all(
        "inline_commands",
        &[
            b"PING\r\n",
            b"PING\n",
            b"ping\r\n",
            b"  PING  \r\n",
            b"\tPING\t\r\n",
            b" \r\nPING\r\n",
            b"   \nPING\r\n",
            b"PING hello\r\n",
            b"PING \"hello world\"\r\n",
            b"PING 'hello world'\r\n",
            b"PING \"a\\x41\\n\\r\\t\\b\\a\\\"\\\\\\q\"\r\n",
            b"PING 'a\\'b\\n\\x41'\r\n",
            b"PING \"\"\r\n",
            b"PING ''\r\n",
            b"PING \"\\xzz\"\r\n",
            b"PING \"\\x4\"\r\n",
            b"PING \"\\x\"\r\n",
            b"PING \"\\xAf\"\r\n",
            b"PING \"unbalanced\r\n",
            b"PING 'unbalanced\r\n",
            b"PING \"a\"b\r\n",
            b"PING 'a'b\r\n",
            b"PING a\"b\"\r\n",
            b"PING a'b'\r\n",
            b"PING a\"b c\"d\r\n",
            b"PING \"a\" \"b\"\r\n",
            b"\"PING\"\r\n",
            b"'PING' 'x'\r\n",
            b"PING \\\r\n",
            b"PING a\\ b\r\n",
            b"PING \x0b\x0cx\r\n",
            b"PING a\0b\r\n",
            b"PING\0\r\n",
            b"PING\r",
            b"PING\r\r\n",
            b"PING \r x\r\n",
            b"SET k v\r\nGET k\r\n",
            b"SET k \"a\\r\\nb\"\r\nGET k\r\nSTRLEN k\r\n",
            b"GET\r\n",
            b"foo bar baz\r\n",
            b"PING\r\n*1\r\n$4\r\nPING\r\nPING\n*1\r\n$4\r\nPING\r\n",
            b"QUIT\r\nPING\r\n",
            b"quit\r\n",
            b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
            b"EXISTS a b c\r\n\r\n\r\nDBSIZE\r\n",
            b"PING \xc3\xa4\r\n",
            b"\xff\xfe\r\n",
            b"PING 1 2 3\r\n",
        ],
    );
}

/// Connections that change how they are talked to, in the middle of a pipeline.
#[test]
fn sessions_in_a_pipeline() {
    compare_all(
        "sessions_in_a_pipeline",
        &[
            b"CLIENT REPLY OFF\r\nPING\r\nSET k v\r\nNOTHING\r\nCLIENT REPLY ON\r\nGET k\r\n",
            b"CLIENT REPLY SKIP\r\nPING 1\r\nPING 2\r\nPING 3\r\n",
            b"CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nPING 1\r\nPING 2\r\n",
            b"CLIENT REPLY SKIP\r\nNOTHING\r\nPING 2\r\n",
            b"CLIENT REPLY SKIP\r\nGET\r\nPING 2\r\n",
            b"CLIENT REPLY SKIP\r\nCLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nPING\r\n",
            b"CLIENT REPLY OFF\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\nCLIENT REPLY ON\r\n",
            b"CLIENT REPLY OFF\r\nRESET\r\nPING\r\n",
            b"CLIENT REPLY SKIP\r\nRESET\r\nPING\r\n",
            b"CLIENT REPLY OFF\r\nQUIT\r\nPING\r\n",
            b"CLIENT REPLY OFF\r\n*x\r\n",
            b"CLIENT REPLY SKIP\r\nKEYS *\r\nPING\r\n",
            b"CLIENT REPLY OFF\r\nSCAN 0\r\nFLUSHALL\r\nCLIENT REPLY ON\r\n",
            b"SELECT 3\r\nSET here 1\r\nSELECT 4\r\nGET here\r\nRESET\r\nGET here\r\nSELECT 3\r\nGET here\r\nFLUSHALL\r\n",
            b"CLIENT SETNAME a\r\nRESET\r\nCLIENT GETNAME\r\n",
            b"GET missing\r\nMGET missing\r\nQUIT\r\nGET k\r\n",
            b"FLUSHALL\r\nSET k v\r\nKEYS *\r\nDBSIZE\r\nFLUSHALL ASYNC\r\nDBSIZE\r\nKEYS *\r\n",
            b"MONITOR\r\nQUIT\r\n",
            b"MONITOR\r\nRESET\r\nPING\r\n",
            b"CLIENT KILL TYPE normal SKIPME yes\r\nPING\r\n",
            b"CLIENT KILL TYPE normal SKIPME no\r\nPING\r\n",
            b"CLIENT KILL USER default SKIPME no\r\nPING\r\n",
            b"CLIENT NO-EVICT ON\r\nCLIENT TRACKINGINFO\r\nCLIENT GETREDIR\r\n",
            b"DEBUG SLEEP 0.01\r\nPING\r\n",
            b"PING\r\nDEBUG SLEEP 0.01\r\nSET k v\r\nGET k\r\n",
        ],
    );
}

/// A pipeline cut anywhere gives the same replies as the whole.
#[test]
fn requests_in_pieces() {
    let Some(pair) = Pair::start("requests_in_pieces") else {
        return;
    };
    let input: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nbc\r\n\r\nGET k\r\n*0\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING \"x y\"\n*1\r\n$4\r\nPING\r\n*x\r\nPING\r\n";
    let found: Vec<String> = (1..input.len())
        .filter_map(|at| compare_pieces(&pair, &[&input[..at], &input[at..]]))
        .collect();
    assert!(
        found.is_empty(),
        "{} cuts differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Right requests with random bytes changed, dropped, doubled or put in.
#[test]
fn mutated_requests() {
    let Some(pair) = Pair::start("mutated_requests") else {
        return;
    };
    let seed = seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let base: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nab\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\nPING \"x\\n\"\r\n*2\r\n$6\r\nEXISTS\r\n$1\r\nk\r\n";
    for round in 0..scaled("QUOIT_TEST_STEPS", 12_000) / 10 {
        let mut input = base.to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(0..input.len().max(1));
            match rng.u8(0..5) {
                _ if input.is_empty() => input.push(rng.u8(..)),
                0 => input[at] = rng.u8(..),
                1 => input[at] = b"*$\r\n0123456789- \"'+x\0"[rng.usize(0..21)],
                2 => drop(input.remove(at)),
                3 => input.insert(at, b"*$\r\n0123456789- \"'+x\0"[rng.usize(0..21)]),
                _ => input.truncate(at.max(1)),
            }
        }
        let found = compare(&pair, &input);
        assert!(
            found.is_none(),
            "seed {seed} round {round}: {}",
            found.unwrap_or_default()
        );
    }
}
