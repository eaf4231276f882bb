//! CLIENT TRACKING: what clients that keep copies are told, message by message.
//!
//! Scripts of several connections: each step is sent by one of them as a pipeline, then every connection is asked PING, and all
//! that each got up to its answer is compared byte for byte.

use crate::generate::{Generator, Request};
use crate::pair::Pair;
use crate::random::requests_by_usage;
use crate::support::client::encode;
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::text::{show_request, words};
use crate::support::{Client, Server, Value, eventually, scaled, seed};

/// A connection: its name, its number at the server, and itself until it leaves.
type Role = (char, i64, Option<Client>);

/// Connections to one server.
struct Cast(Vec<Role>);

impl Cast {
    /// Those of the names `A2 B3`: A in RESP2, B in RESP3.
    fn new(server: &Server, names: &str) -> Cast {
        let connect = |name: &str| {
            let mut client = server.client_in(if name.ends_with('3') { 3 } else { 2 });
            let name = name.chars().next().expect("names are not empty");
            (name, client.line("CLIENT ID").int(), Some(client))
        };
        Cast(names.split(' ').map(connect).collect())
    }

    fn role(&mut self, name: char) -> &mut Role {
        let found = self.0.iter_mut().find(|(known, ..)| *known == name);
        found.expect("it is one of the cast")
    }

    /// Runs a step `A: SET a 1; SET b 1`, or `A: (leaves)`. What all got by it.
    fn step(&mut self, step: &str) -> Vec<(char, Vec<Vec<u8>>)> {
        let (name, line) = step.split_once(": ").expect("a name stands before a step");
        let name = name.chars().next().expect("it is not empty");
        if line == "(leaves)" {
            self.leave(name);
        } else {
            let pipeline: Vec<u8> = line
                .split("; ")
                .flat_map(|line| self.request(line))
                .collect();
            // The end of the pipeline is known by a request of its own: what comes behind all replies comes before the fence.
            let end = encode(&["PING", "end"]);
            let own = self.role(name).2.as_mut();
            own.expect("it has not left")
                .send_raw(&[pipeline, end].concat());
        }
        // Who acts comes first: the others ask when all is done.
        let others = self.0.iter().map(|(known, ..)| *known);
        let others = others.filter(|known| *known != name);
        let order: Vec<char> = [name].into_iter().chain(others).collect();
        let mut all = Vec::new();
        for name in order {
            if let Some(client) = &mut self.role(name).2 {
                let mut got = Vec::new();
                if all.is_empty() && line != "(leaves)" {
                    got.extend(read_up_to("end", client));
                }
                client.send(&["PING", "fence"]);
                got.extend(read_up_to("fence", client));
                all.push((name, got.into_iter().map(|raw| self.named(raw)).collect()));
            }
        }
        all
    }

    /// A line with `$B` as B's number.
    fn request(&self, line: &str) -> Vec<u8> {
        let mut line = line.to_owned();
        for (name, id, _) in &self.0 {
            line = line.replace(&format!("${name}"), &id.to_string());
        }
        encode(&words(&line).expect("quotes are balanced"))
    }

    /// The same the other way round, where numbers of connections are told.
    fn named(&self, raw: Vec<u8>) -> Vec<u8> {
        let mut text = String::from_utf8_lossy(&raw).into_owned();
        if text.contains("redir") {
            for (name, id, _) in &self.0 {
                text = text.replace(&format!(":{id}\r\n"), &format!(":${name}\r\n"));
            }
        }
        text.into_bytes()
    }

    /// Closes a connection, and waits until the server knows.
    fn leave(&mut self, name: char) {
        let (_, id, client) = self.role(name);
        let id = *id;
        *client = None;
        let mut others = self.0.iter_mut().filter_map(|(.., client)| client.as_mut());
        let other = others.next().expect("one stays");
        let list = format!("CLIENT LIST ID {id}");
        eventually("the server to know that a client has left", || {
            other.line(&list).bytes().is_empty().then_some(())
        });
    }
}

/// All replies and messages before the answer to a PING of our own.
fn read_up_to(word: &str, client: &mut Client) -> Vec<Vec<u8>> {
    let is_last = |value: &Value| match value {
        Value::Bulk(text) => text == word.as_bytes(),
        Value::Array(items) => items.last() == Some(&Value::bulk(word)),
        _ => false,
    };
    let replies = std::iter::from_fn(|| {
        let reply = client.read();
        (!is_last(&reply.value)).then_some(reply.raw)
    });
    replies.collect()
}

/// Plays a script on both.
fn play(test: &str, names: &str, script: &str) {
    let Some(pair) = Pair::start(test) else {
        return;
    };
    let mut casts = [&pair.redis, &pair.quoit].map(|server| Cast::new(server, names));
    let steps = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    for (number, step) in steps.enumerate() {
        let [redis, quoit] = casts.each_mut().map(|cast| shown(&cast.step(step)));
        assert_eq!(quoit, redis, "{test}: step {number}: {step}");
    }
}

fn shown(got: &[(char, Vec<Vec<u8>>)]) -> Vec<String> {
    let line = |(name, all): &(char, Vec<Vec<u8>>)| {
        let all: Vec<_> = all
            .iter()
            .map(|raw| raw.escape_ascii().to_string())
            .collect();
        format!("{name}: {}", all.join(" "))
    };
    got.iter().map(line).collect()
}

#[test]
fn own_and_foreign_changes() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let script = "
        A: CLIENT TRACKING on; CLIENT TRACKINGINFO; CLIENT GETREDIR
        A: GET a; SET a 1; GET a; SET a 2; GET a
        B: SET a 3
        B: SET a 4
        A: MULTI; GET a; SET a 1; GET a; EXEC; PING x
        B: SET a 5; SET a 6
        A: MULTI; GET a; FLUSHALL; GET b; EXEC
        B: SET b 1; SET a 1
        A: FLUSHDB
        A: GET a
        B: FLUSHDB
        B: SET a 1
        A: GET a; MGET a b c a
        B: MSET a 1 b 2 c 3
        A: MGET a b c
        B: RENAME a b
        A: MGET a b c
        B: RENAMENX b c; COPY b a; COPY b c REPLACE; DEL a b c none
        A: MGET a b c
        B: SELECT 1; SET a other; MOVE a 0; SELECT 0
        A: MGET a b c
        B: SWAPDB 0 1; SWAPDB 0 1
        B: SELECT 1; SET a x; MOVE a 0; SELECT 0
        A: CLIENT REPLY OFF; GET a; SET a 1; CLIENT REPLY ON
        A: GET a; CLIENT REPLY SKIP; SET a 2; GET a
        B: SET a 1
        A: CLIENT TRACKING off; GET a; CLIENT TRACKINGINFO
        B: SET a 2
        A: CLIENT TRACKING on; GET a; RESET
        B: SET a 3
        A: CLIENT TRACKINGINFO; CLIENT GETREDIR
    ";
    play("own_and_foreign_changes", "A3 B2", script);
}

/// Which commands have the keys that they name remembered: those that only read, refused or not.
#[test]
fn reads_that_are_remembered() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let script = "
        A: CLIENT TRACKING on
        B: LPUSH l 1; SET s x
        A: GET l; XREAD STREAMS x1 x2 0 0; PFCOUNT p1 p2; SORT_RO q; TOUCH t; GET
        B: LPUSH l 1; XADD x2 1-1 f v; XADD x1 1-1 f v; PFADD p1 a; PFADD p2 a; LPUSH q 1; SET t 1
        A: PFCOUNT p1; PFCOUNT p1; PFCOUNT p1 p2
        B: PFADD p1 b; PFADD p2 b
        A: PFCOUNT p1
        A: SCAN 0 COUNT 1000 MATCH none; KEYS none; WATCH w; SORT w2; GEORADIUS w3 0 0 1 m; BITFIELD w4 GET u8 0; UNWATCH
        A: BITFIELD_RO w5 GET u8 0; GEORADIUS_RO w6 0 0 1 m; GEOSEARCH w7 FROMMEMBER x BYRADIUS 1 m; MEMORY USAGE w8; DUMP w9
        B: MSET w 1 w4 1 w5 1 w8 1 w9 1; SADD w2 1; GEOADD w3 1 1 a; GEOADD w6 1 1 a; GEOADD w7 1 1 x
        A: ZUNION 2 z1 z2; ZINTERCARD 2 z3 z4; ZDIFF 0 z5; SINTER t1 t2; LCS l1 l2; EXISTS e1 e1 e2; TTL t3; TYPE t4; STRLEN t5
        B: ZADD z1 1 a; ZADD z2 1 a; ZADD z3 1 a; ZADD z4 1 a; ZADD z5 1 a; SADD t1 a; SADD t2 a
        B: MSET l1 1 l2 1 e1 1 e2 1 t3 1 t4 1 t5 1
        A: OBJECT ENCODING o1; XRANGE x3 - +; XINFO STREAM x4; XPENDING x5 g; HGET h f; HSCAN h1 0; LPOS l5 x; GETBIT g1 1
        B: MSET o1 1 g1 1; XADD x3 1-1 f v; XADD x4 1-1 f v; XADD x5 1-1 f v; HSET h f v; HSET h1 f v; RPUSH l5 1
        A: SUBSTR u1 0 0; GETRANGE u2 0 0; LINDEX u3 0; LLEN u4; SRANDMEMBER u5; SMISMEMBER u6 x; ZSCORE u7 x; DBSIZE
        B: MSET u1 1 u2 1; LPUSH u3 1; LPUSH u4 1; SADD u5 1; SADD u6 1; ZADD u7 1 x
        A: GETEX v1; GETDEL v2; GETSET v3 1; SET v4 1 GET; INCR v5; XREADGROUP GROUP g c STREAMS v6 >; SINTERSTORE v7 v8
        B: MSET v1 1 v2 1 v3 1 v4 1 v5 1 v8 1; XADD v6 1-1 f v
        A: XREAD BLOCK 1 STREAMS x9 $
        B: XADD x9 1-1 f v
    ";
    play("reads_that_are_remembered", "A3 B2", script);
}

#[test]
fn what_changes_nothing_is_not_told() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let script = "
        A: CLIENT TRACKING on
        B: SET s 1; LPUSH l 1; HSET h f 1; SADD t 1; ZADD z 1 a
        A: EXISTS s l h t z none
        B: DEL none; EXPIRE none 100; PERSIST s; SET s 2 NX; SETNX s 2; LREM l 0 x; HDEL h x; SREM t x; ZREM z x; SADD t 1; ZADD z 1 a
        B: HSETNX h f 2; APPEND s \"\"; SETRANGE s 0 \"\"; ZADD z XX 1 b; SMOVE t u x; SPOP none; LPOP none; RENAME none x
        B: INCR l; HINCRBY h f x; GETEX s; SORT l; BITFIELD s GET u8 0; PFADD s x; LINSERT l BEFORE x y; LSET none 0 x; TOUCH s; COPY none x
        B: EXPIRE s 100; EXPIRE s 100 XX; HSET h f 1; LTRIM l 5 6; SREM t 1; ZINCRBY z 1 a; PERSIST s
        A: EXISTS s l h t z none
        B: SETRANGE s 9 x; SETBIT s 1 1; GETEX s EX 100; GETEX s PERSIST; RPUSHX l x; SDIFFSTORE t none; ZREMRANGEBYRANK z 0 -1
        A: EXISTS s l h t z none
        B: SINTERSTORE t none; ZUNIONSTORE z 1 none; BITOP AND s none; SORT l STORE h; GETDEL s; LPUSHX none x; UNLINK none
    ";
    play("what_changes_nothing_is_not_told", "A3 B2", script);
}

#[test]
fn redirection_to_a_subscriber() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let script = "
        A: CLIENT TRACKING on REDIRECT $B; CLIENT TRACKINGINFO
        A: GET a
        C: SET a 1
        B: SUBSCRIBE other
        A: GET a
        C: SET a 2
        A: GET a; SET a 3
        C: FLUSHALL
        A: FLUSHALL; GET a
        B: UNSUBSCRIBE other
        C: SET a 1
        B: PSUBSCRIBE *
        A: GET a
        C: SET a 2; PUBLISH x y
        A: CLIENT TRACKING on REDIRECT $B BCAST
        A: CLIENT TRACKING off; CLIENT TRACKING on REDIRECT $B BCAST PREFIX k
        C: MSET k1 1 k2 2 other 3
        A: CLIENT TRACKING off; CLIENT TRACKING on REDIRECT $B; GET a
        B: (leaves)
        C: SET a 1
        A: CLIENT TRACKINGINFO; CLIENT TRACKING off
        A: CLIENT TRACKING on; GET a; CLIENT TRACKINGINFO
        C: SET a 1
    ";
    play("redirection_to_a_subscriber", "A2 B2 C2", script);
}

#[test]
fn redirection_between_connections_of_resp3() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let script = "
        A: CLIENT TRACKING on REDIRECT $B
        A: GET a
        C: SET a 1
        A: GET a; SET a 2
        C: FLUSHALL
        B: SUBSCRIBE x
        A: GET a
        C: SET a 1; PUBLISH x y
        A: CLIENT TRACKING on; GET a
        C: SET a 1
        A: CLIENT TRACKING on REDIRECT $B NOLOOP; GET a; GET b; SET a 1; CLIENT TRACKINGINFO
        C: SET b 1
        A: GET a; GET b
        B: (leaves)
        C: SET a 1
        A: CLIENT TRACKINGINFO
        C: SET b 1
        A: GET a; GET b
        A: SET b 1
        C: SET a 1
        A: FLUSHALL
        A: CLIENT TRACKING on; CLIENT TRACKINGINFO
    ";
    play(
        "redirection_between_connections_of_resp3",
        "A3 B3 C2",
        script,
    );
}

/// What is gathered in a batch is told once; a pipeline may be cut into several batches, a transaction not.
#[test]
fn prefixes() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let script = "
        A: CLIENT TRACKING on BCAST PREFIX k PREFIX j; CLIENT TRACKINGINFO
        B: CLIENT TRACKING on BCAST
        C: MULTI; SET kb 1; SET ja 1; SET ka 1; SET other 1; SET kb 2; GET ka; EXEC
        A: MULTI; SET k2 1; SET k1 1; EXEC
        A: MSET k2 1 j 2
        C: FLUSHALL
        A: FLUSHALL; SET k1 1
        C: MULTI; MSET k1 1 k2 2; DEL k1 k2 k3; DEL k9; EXPIRE k9 100; APPEND k9 a; APPEND k9 x; EXEC
        C: MSET k 1 j 1 \"\" 1 \"kk\\x00\\xff\" 1
        B: CLIENT TRACKING off; CLIENT TRACKING on BCAST NOLOOP; CLIENT TRACKINGINFO
        B: MSET k1 1 x 1
        C: MSET k1 1 x 1
        B: FLUSHALL
        A: CLIENT TRACKING on BCAST PREFIX m; CLIENT TRACKING on BCAST PREFIX l; CLIENT TRACKINGINFO
        C: MSET m 1 l 2 k 3 j 4 i 5
        C: SELECT 1; SET k 1; SELECT 0
        A: CLIENT TRACKING off; CLIENT TRACKINGINFO
        C: MSET m 1 l 2 k 3 j 4 i 5
        A: CLIENT TRACKING on BCAST PREFIX \"\"; CLIENT TRACKINGINFO
        B: RESET
        C: MSET m 1 l 2 k 3 j 4 i 5
    ";
    play("prefixes", "A3 B3 C2", script);
}

#[test]
fn refusals_and_what_they_leave() {
    let script = "
        A: CLIENT TRACKING; CLIENT TRACKING x; CLIENT TRACKING on x; CLIENT TRACKING x noloop; CLIENT TRACKING on REDIRECT
        A: CLIENT TRACKING on REDIRECT x; CLIENT TRACKING on REDIRECT 99999; CLIENT TRACKING on REDIRECT 0; CLIENT TRACKING on REDIRECT -1
        A: CLIENT TRACKING on REDIRECT $B REDIRECT $A; CLIENT TRACKING on PREFIX; CLIENT TRACKING on PREFIX a; CLIENT TRACKINGINFO
        A: CLIENT TRACKING on OPTIN OPTOUT; CLIENT TRACKING on BCAST OPTIN; CLIENT TRACKING on BCAST OPTOUT OPTIN; CLIENT GETREDIR
        A: CLIENT TRACKING on REDIRECT 99999999999999999999
        A: CLIENT TRACKING on OPTIN; CLIENT TRACKING on OPTOUT; CLIENT TRACKING on; CLIENT TRACKINGINFO; CLIENT TRACKING on OPTOUT
        A: CLIENT TRACKING on OPTIN; CLIENT CACHING yes; CLIENT CACHING no; CLIENT CACHING x; CLIENT CACHING; CLIENT TRACKING on BCAST
        A: CLIENT TRACKING off; CLIENT CACHING yes; CLIENT TRACKING off noloop; CLIENT TRACKING OFF PREFIX a; CLIENT TRACKING off REDIRECT 99999
        A: CLIENT TRACKING on BCAST PREFIX foo PREFIX bar PREFIX foobar; CLIENT TRACKINGINFO
        A: CLIENT TRACKING on BCAST PREFIX a PREFIX b PREFIX a; CLIENT TRACKINGINFO
        A: CLIENT TRACKING on BCAST PREFIX foo PREFIX bar NOLOOP
        A: CLIENT TRACKING on BCAST PREFIX q PREFIX fo; CLIENT TRACKING on BCAST PREFIX q PREFIX barx; CLIENT TRACKING on BCAST PREFIX zoo
        A: CLIENT TRACKING on BCAST PREFIX zoo; CLIENT TRACKINGINFO; CLIENT TRACKING on BCAST; CLIENT TRACKINGINFO; CLIENT TRACKING on BCAST
        A: CLIENT TRACKING on; CLIENT TRACKING on BCAST PREFIX \"\"; CLIENT TRACKING on BCAST PREFIX qq; CLIENT CACHING yes; CLIENT GETREDIR
        A: CLIENT TRACKING off; CLIENT TRACKING on BCAST PREFIX a PREFIX a; CLIENT TRACKINGINFO
        A: COMMAND INFO CLIENT|TRACKING; COMMAND INFO CLIENT|CACHING; COMMAND INFO CLIENT|GETREDIR; COMMAND INFO CLIENT|TRACKINGINFO
    ";
    play("refusals_and_what_they_leave", "A3 B3", script);
}

#[test]
fn reads_by_choice() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let script = "
        A: CLIENT TRACKING on OPTIN
        A: GET a; CLIENT CACHING YES; CLIENT TRACKINGINFO; GET b; GET c; CLIENT TRACKINGINFO
        B: MSET a 1 b 1 c 1
        A: CLIENT CACHING YES; MULTI; GET a; GET b; EXEC; GET c
        B: MSET a 1 b 1 c 1
        A: MULTI; GET a; CLIENT CACHING YES; GET b; GET c; EXEC; GET d
        B: MSET a 1 b 1 c 1 d 1
        A: CLIENT CACHING YES; MULTI; DISCARD; GET c
        A: CLIENT CACHING YES; PING; GET c
        A: CLIENT CACHING YES; NOTHING; GET a
        A: CLIENT CACHING YES; GET; GET b
        A: CLIENT CACHING YES; CLIENT; GET d
        B: MSET a 1 b 1 c 1 d 1
        A: CLIENT CACHING YES; CLIENT GETNAME; GET a; GET b
        A: CLIENT CACHING YES; SET c 1; GET d
        A: CLIENT CACHING YES; MULTI; CLIENT GETNAME; NOTHING; EXEC; GET a
        B: MSET a 1 b 1 c 1 d 1
        A: CLIENT CACHING YES; CLIENT TRACKING off; CLIENT TRACKING on OPTIN; CLIENT TRACKINGINFO; GET a
        B: MSET a 1 b 1 c 1 d 1
        A: CLIENT TRACKING off; CLIENT TRACKING on OPTOUT
        A: GET a; CLIENT CACHING NO; CLIENT TRACKINGINFO; GET b; GET c
        B: MSET a 1 b 1 c 1 d 1
        A: CLIENT CACHING NO; MULTI; GET a; GET b; EXEC; GET c
        B: MSET a 1 b 1 c 1 d 1
        A: CLIENT TRACKING on OPTOUT NOLOOP; GET a; GET b; SET a 1
        B: SET b 1; SET a 1
        A: GET a; SET a 1; FLUSHDB; CLIENT TRACKINGINFO
    ";
    play("reads_by_choice", "A3 B2", script);
}

/// All keys that the generators use, and more that a damaged request may name.
const KEYS: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"key:{1}",
    b"",
    b"\x00\xff\r\n",
    b"s1",
    b"s2",
    b"s3",
];

/// Redis tells of LTRIM whatever it does. A key that is set with an expiry in the past it tells of when it comes across it.
fn is_told_otherwise(request: &[Vec<u8>]) -> bool {
    let name = request[0].to_ascii_uppercase();
    let is_past =
        |word: &Vec<u8>| [&b"EXAT"[..], b"PXAT"].contains(&&word.to_ascii_uppercase()[..]);
    name == b"LTRIM" || name.starts_with(b"RESTORE") || request.iter().any(is_past)
}

/// What is told here, too: what concerns the groups of streams alone, and strings whose bytes stay but not their encoding, or
/// that grow before BITFIELD fails.
fn is_told_of(request: &[Vec<u8>]) -> bool {
    let name = request[0].to_ascii_uppercase();
    let names = [
        &b"XGROUP"[..],
        b"XREADGROUP",
        b"XSETID",
        b"XACK",
        b"XCLAIM",
        b"XAUTOCLAIM",
        b"SETBIT",
        b"BITFIELD",
        b"PFDEBUG",
    ];
    names.contains(&&name[..])
}

/// After each of very many random requests: the same keys are told to who has read them, in the same order, and to who follows
/// all.
#[test]
fn random_requests() {
    if ring_differs(RingDiffers::Messages) {
        return;
    }
    let Some(pair) = Pair::start("tracking") else {
        return;
    };
    let seed = seed();
    let mut generator = Generator {
        rng: fastrand::Rng::with_seed(seed),
    };
    let count = scaled("QUOIT_TEST_STEPS", 6_000) / 2;
    let mut requests = requests_by_usage(&pair, &mut generator, count);
    requests.extend((0..count).map(|_| generator.request()));
    generator.rng.shuffle(&mut requests);
    requests.retain(|request| !is_told_otherwise(request));
    let mut sides = [&pair.redis, &pair.quoit].map(|server| {
        // Whose time is over is then found by the next who asks, at both.
        server.client().line("DEBUG SET-ACTIVE-EXPIRE 0");
        let mut reader = server.client_in(3);
        reader.line("CLIENT TRACKING ON");
        let mut follower = server.client_in(3);
        follower.line("CLIENT TRACKING ON BCAST");
        (server.client(), reader, follower)
    });
    let read: Request = [
        &[b"EXISTS".to_vec()][..],
        &KEYS.iter().map(|key| key.to_vec()).collect::<Request>(),
    ]
    .concat();
    for (number, request) in requests.iter().enumerate() {
        let [redis, quoit] = sides.each_mut().map(|(writer, reader, follower)| {
            reader.run(&read);
            writer.send(request);
            writer.send(&["PING", "fence"]);
            read_up_to("fence", writer);
            [reader, follower].map(|client| {
                client.send(&["PING", "fence"]);
                let told = read_up_to("fence", client);
                let told = told.iter().map(|raw| raw.escape_ascii().to_string());
                told.collect::<Vec<_>>()
            })
        });
        let is_silent = redis.iter().all(Vec::is_empty);
        assert!(
            redis == quoit || is_silent && is_told_of(request),
            "seed {seed} request {number}: {}\n  redis {redis:?}\n  quoit {quoit:?}",
            show_request(request)
        );
    }
}
