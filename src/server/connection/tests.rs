//! Connections over a pipe in memory: what the order and the pieces of the bytes must not change, and how they end.

mod apart;
mod crowd;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::serve;
use crate::admin::testing::{Host, MACHINE};
use crate::config::{Access, Settings};
use crate::dispatch::Face;
use crate::state::clients::Client;
use crate::state::pause::PauseMode;

/// A client's end of a connection that is served.
struct Peer {
    stream: DuplexStream,
    client: Arc<Client>,
    served: JoinHandle<()>,
}

/// Turns of the scheduler in which a connection that can go on has gone on.
const TURNS: usize = 100;

impl Peer {
    /// Connects with `room` bytes in the pipe each way.
    fn connect(host: &Host, room: usize) -> Peer {
        let (stream, other) = tokio::io::duplex(room);
        let client = host.client().session.client;
        let served = tokio::spawn(serve(
            Arc::clone(&host.server),
            other,
            Arc::clone(&client),
            Face::Single,
        ));
        Peer {
            stream,
            client,
            served,
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .await
            .expect("the connection is served");
    }

    /// All that is replied until the connection ends, once nothing more is sent.
    async fn rest(mut self) -> Vec<u8> {
        self.stream
            .shutdown()
            .await
            .expect("a pipe can be shut down");
        let mut all = Vec::new();
        self.stream
            .read_to_end(&mut all)
            .await
            .expect("a pipe can be read");
        self.served.await.expect("the connection does not panic");
        all
    }
}

async fn pause() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// One that lets its clients run DEBUG.
fn host(pairs: &[(&str, &str)]) -> Host {
    let settings = Settings {
        enable_debug_command: Access::Yes,
        ..Settings::new(MACHINE)
    };
    Host::of(settings, pairs)
}

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Requests of every kind that changes how those behind it are taken.
fn random_request(rng: &mut fastrand::Rng, wrong_per_thousand: u32) -> Vec<u8> {
    let long = vec![b'v'; rng.usize(0..70_000)];
    let key = [b"a", b"b", b"c"][rng.usize(0..3)];
    if rng.u32(0..1000) < wrong_per_thousand {
        let wrong = ["*1\r\nPING\r\n", "*x\r\n", "*1\r\n$-5\r\n", "ECHO \"x\r\n"];
        return wrong[rng.usize(0..wrong.len())].into();
    }
    match rng.u8(0..30) {
        0..6 => request(&[b"SET", key, b"value"]),
        6..10 => request(&[b"GET", key]),
        10 => request(&[b"SET", key, &long]),
        11 => request(&[b"ECHO", &long]),
        12 => request(&[b"MGET", b"a", b"b", b"c"]),
        13 => request(&[b"SELECT", [b"0", b"1"][rng.usize(0..2)]]),
        14 => request(&[b"AUTH", [&b"right"[..], b"wrong"][rng.usize(0..2)]]),
        15 => request(&[b"RESET"]),
        16 => request(&[b"HELLO", [b"2", b"3"][rng.usize(0..2)]]),
        17 => request(&[b"HELLO", b"3", b"AUTH", b"default", b"right"]),
        18 => request(&[b"CLIENT", b"REPLY", b"OFF"]),
        19 => request(&[b"CLIENT", b"REPLY", b"ON"]),
        20 => request(&[b"CLIENT", b"REPLY", b"SKIP"]),
        21 => b"PING inline\r\n".into(),
        22 => b"\r\n*0\r\n*-1\r\n".into(),
        23 => request(&[b"NOSUCH", key, b"x"]),
        24 => request(&[b"GET"]),
        25 => request(&[b"DEBUG", b"SLEEP", b"0"]),
        26 => request(&[b"DBSIZE"]),
        27 => request(&[b"INCR", key]),
        28 => request(&[
            b"CONFIG",
            b"SET",
            b"requirepass",
            [&b""[..], b"right"][rng.usize(0..2)],
        ]),
        _ => request(&[b"FLUSHALL"]),
    }
}

/// Sends `bytes` in pieces that end at `cuts`, with time to run each.
async fn replies(pairs: &[(&str, &str)], bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let host = host(pairs);
    let mut peer = Peer::connect(&host, 64 << 20);
    let mut sent = 0;
    for &cut in cuts {
        // A connection that ended by itself takes no more.
        if peer.stream.write_all(&bytes[sent..cut]).await.is_err() {
            break;
        }
        sent = cut;
        pause().await;
    }
    let _ = peer.stream.write_all(&bytes[sent..]).await;
    peer.rest().await
}

/// The same requests get the same replies one by one, all at once, and cut anywhere: what was decoded ahead, or begun, is
/// not taken otherwise than it is when its turn comes.
#[tokio::test]
async fn replies_do_not_depend_on_how_requests_arrive() {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..60 {
        println!("seed {seed}, round {round}");
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..rng.usize(1..120) {
            bytes.extend(random_request(&mut rng, 4));
            ends.push(bytes.len());
        }
        let pairs: &[(&str, &str)] = match rng.bool() {
            true => &[("requirepass", "right")],
            false => &[],
        };
        let one_by_one = replies(pairs, &bytes, &ends).await;
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let at_once = replies(pairs, &bytes, &[]).await;
        assert!(
            at_once == one_by_one,
            "at once\n{}\none by one\n{}\nrequests\n{}",
            show(&at_once),
            show(&one_by_one),
            show(&bytes)
        );
        let mut cuts: Vec<usize> = (0..rng.usize(1..20))
            .map(|_| rng.usize(0..=bytes.len()))
            .collect();
        cuts.sort_unstable();
        let in_pieces = replies(pairs, &bytes, &cuts).await;
        assert!(
            in_pieces == one_by_one,
            "cut at {cuts:?}\n{}\none by one\n{}\nrequests\n{}",
            show(&in_pieces),
            show(&one_by_one),
            show(&bytes)
        );
    }
}

/// Found by review: a buffer that was nearly full was made as large as the client said its argument would be; beyond the
/// memory there is, that ended the process.
#[tokio::test]
async fn a_declared_length_is_not_allocated() {
    let host = host(&[("proto-max-bulk-len", "1125899906842624")]);
    let mut peer = Peer::connect(&host, 1 << 20);
    peer.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1125899906842624\r\n")
        .await;
    let mut sent = 0;
    for piece in [10, 65_000, 500, 70_000, 1, 200_000] {
        peer.send(&vec![b'v'; piece]).await;
        pause().await;
        sent += piece;
        assert_eq!(peer.client.query_bytes.load(Ordering::Relaxed), sent);
    }
    assert_eq!(peer.rest().await, b"");
}

/// Found by review: CLIENT KILL ended a DEBUG SLEEP, and the killed client's next requests ran.
#[tokio::test]
async fn who_is_killed_in_its_sleep_runs_no_more() {
    let host = host(&[]);
    let mut peer = Peer::connect(&host, 1 << 16);
    let pipeline = [
        request(&[b"DEBUG", b"SLEEP", b"1000"]),
        request(&[b"SET", b"k", b"v"]),
    ];
    peer.send(&pipeline.concat()).await;
    pause().await;
    peer.client.kill(false);
    assert_eq!(peer.rest().await, b"+OK\r\n");
    assert_eq!(host.server.keyspace.database(0).len(), 0);
    assert!(host.server.clients.is_empty());
}

/// Found by review: replies to what a pipeline had asked before CLIENT PAUSE held it back came only when the pause ended.
#[tokio::test]
async fn a_pause_does_not_hold_back_earlier_replies() {
    let host = host(&[]);
    let now = host.server.clock.now();
    host.server
        .pause
        .begin(PauseMode::Write, now.plus(1_000_000), now);
    let mut peer = Peer::connect(&host, 1 << 16);
    let pipeline = [request(&[b"GET", b"k"]), request(&[b"SET", b"k", b"v"])];
    peer.send(&pipeline.concat()).await;
    let mut reply = [0; 5];
    let read = tokio::time::timeout(PATIENCE, peer.stream.read_exact(&mut reply));
    read.await
        .expect("the first reply does not wait")
        .expect("a pipe can be read");
    assert_eq!(&reply, b"$-1\r\n");
    assert_eq!(host.server.keyspace.database(0).len(), 0);
    host.server.pause.end();
    assert_eq!(peer.rest().await, b"+OK\r\n");
}

/// What never comes is waited for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Found by review: a peer that closed its sending half (`printf .. | nc`) lost what the socket had not taken yet.
#[tokio::test]
async fn who_only_reads_any_more_gets_its_replies() {
    let host = host(&[]);
    let peer = Peer::connect(&host, 4096);
    let value = vec![b'v'; 100_000];
    let (mut reader, mut writer) = tokio::io::split(peer.stream);
    let requests = [request(&[b"SET", b"k", &value]), request(&[b"GET", b"k"])];
    writer
        .write_all(&requests.concat())
        .await
        .expect("the connection is served");
    writer.shutdown().await.expect("a pipe can be shut down");
    pause().await;
    let mut all = Vec::new();
    reader
        .read_to_end(&mut all)
        .await
        .expect("a pipe can be read");
    assert_eq!(all.len(), b"+OK\r\n$100000\r\n\r\n".len() + value.len());
}

/// Found by review: a pipeline went on to 64 MiB of replies before its client's limit was looked at.
#[tokio::test]
async fn the_output_limit_holds_within_a_pipeline() {
    let host = host(&[("client-output-buffer-limit", "normal 1mb 0 0")]);
    let mut peer = Peer::connect(&host, 1 << 16);
    peer.send(&request(&[b"SET", b"k", &vec![b'v'; 60_000]]))
        .await;
    pause().await;
    let pipeline = request(&[b"GET", b"k"]).repeat(1000);
    let (ended, _) = tokio::join!(&mut peer.served, peer.stream.write_all(&pipeline));
    ended.expect("the connection does not panic");
    let stats = &host.server.stats;
    assert_eq!(stats.output_limit_disconnections.value(), 1);
    let runs = stats.totals().commands;
    assert!((18..60).contains(&runs), "{runs}");
}
