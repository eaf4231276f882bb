//! Requests about connections and the server: what they refuse and what they answer, where that does not depend on the
//! process. Each block runs on a connection of its own, in RESP2 and in RESP3.

use crate::pair::{Pair, Sides};
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::words;

/// Runs blocks of lines; all differences at once.
pub fn compare(test: &str, blocks: &str) {
    let Some(pair) = Pair::start(test) else {
        return;
    };
    let mut found = Vec::new();
    for protocol in [2, 3] {
        for block in blocks.split("\n\n") {
            let mut sides = Sides::connect(&pair, protocol);
            for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let request = words(line).expect("quotes are balanced");
                if let Some(mismatch) = sides.run(&request) {
                    found.push(format!(
                        "RESP{protocol} {line}\n  redis: {}\n  quoit: {}",
                        mismatch.redis, mismatch.quoit
                    ));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn hello_and_auth() {
    compare(
        "hello_and_auth",
        r#"
        HELLO 1
        HELLO 4
        HELLO -1
        HELLO x
        HELLO ""
        HELLO 99999999999999999999
        HELLO 2 AUTH
        HELLO 2 AUTH default
        HELLO 2 AUTH nobody x
        HELLO 2 SETNAME
        HELLO 2 SETNAME "a b"
        HELLO 2 SETNAME "a\nb"
        HELLO 2 SETNAME "\x00"
        HELLO 2 NOTHING
        HELLO 2 NOTHING x y
        HELLO 9 NOTHING
        HELLO x AUTH default x
        PING

        AUTH
        AUTH x
        AUTH default x
        AUTH default ""
        AUTH nobody x
        AUTH "" ""
        AUTH a b c
        AUTH a b c d
        auth nobody nobody

        CONFIG SET requirepass secret
        AUTH wrong
        AUTH nobody secret
        AUTH secret
        AUTH default secret
        HELLO 2 AUTH default wrong
        HELLO 2 AUTH default secret SETNAME worker
        CLIENT GETNAME
        CONFIG GET requirepass
        CONFIG SET requirepass ""
        AUTH secret
        AUTH default anything
        RESET
        CLIENT GETNAME"#,
    );
}

/// What a connection may do before it has said its password.
#[test]
fn before_authentication() {
    let Some(pair) = Pair::start("before_authentication") else {
        return;
    };
    let mut found = Vec::new();
    for protocol in [2, 3] {
        let mut admin = Sides::connect(&pair, protocol);
        let run =
            |sides: &mut Sides, line: &str| sides.run(&words(line).expect("quotes are balanced"));
        assert!(run(&mut admin, "CONFIG SET requirepass secret").is_none());
        let mut sides = Sides::connect(&pair, 2);
        let lines = [
            "PING",
            "GET k",
            "SET k",
            "NOTHING",
            "NOTHING a",
            "CLIENT NOTHING",
            "CLIENT ID",
            "CONFIG GET x",
            "HELLO 3",
            "HELLO 2",
            "HELLO",
            "RESET",
            "ECHO x",
            "COMMAND",
            "COMMAND COUNT",
            "SELECT 1",
            "AUTH wrong",
            "AUTH",
            "HELLO 3 AUTH default wrong",
            "HELLO x AUTH default secret",
            "MONITOR",
            "INFO",
            "FLUSHALL",
            "KEYS *",
            "SCAN 0",
            "AUTH secret",
            "PING",
            "RESET",
            "PING",
            "QUIT",
        ];
        found.extend(lines.iter().filter_map(|line| {
            run(&mut sides, line).map(|mismatch| {
                format!(
                    "{line}\n  redis: {}\n  quoit: {}",
                    mismatch.redis, mismatch.quoit
                )
            })
        }));
        assert!(run(&mut admin, "CONFIG SET requirepass ''").is_none());
    }
    assert!(
        found.is_empty(),
        "{} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn client() {
    compare(
        "client",
        r#"
        CLIENT
        CLIENT NOTHING
        CLIENT SETNAME worker
        CLIENT GETNAME
        CLIENT SETNAME "a b"
        CLIENT SETNAME "a\tb"
        CLIENT SETNAME "\xc3\xa4"
        CLIENT SETNAME ""
        CLIENT GETNAME
        CLIENT SETNAME
        CLIENT SETNAME a b
        CLIENT GETNAME x
        CLIENT ID x
        CLIENT INFO x
        CLIENT GETREDIR
        CLIENT TRACKINGINFO
        CLIENT NO-EVICT
        CLIENT NO-EVICT on
        CLIENT NO-EVICT OFF
        CLIENT NO-EVICT x
        CLIENT REPLY
        CLIENT REPLY x
        CLIENT REPLY ON
        CLIENT REPLY ON x
        CLIENT CACHING yes
        CLIENT CACHING no
        CLIENT CACHING x
        CLIENT UNBLOCK
        CLIENT UNBLOCK x
        CLIENT UNBLOCK 99999999
        CLIENT UNBLOCK 99999999 TIMEOUT
        CLIENT UNBLOCK 99999999 ERROR
        CLIENT UNBLOCK 99999999 x
        CLIENT UNBLOCK -1
        CLIENT PAUSE
        CLIENT PAUSE x
        CLIENT PAUSE -1
        CLIENT PAUSE 9223372036854775807
        CLIENT PAUSE 0 x
        CLIENT PAUSE 0
        CLIENT PAUSE 0 WRITE
        CLIENT PAUSE 0 ALL
        CLIENT PAUSE 0 ALL x
        CLIENT UNPAUSE
        CLIENT UNPAUSE x

        CLIENT KILL
        CLIENT KILL x
        CLIENT KILL 127.0.0.1:1
        CLIENT KILL ID
        CLIENT KILL ID x
        CLIENT KILL ID 0
        CLIENT KILL ID -1
        CLIENT KILL ID 99999999
        CLIENT KILL ID 99999999 ID 99999998
        CLIENT KILL ADDR 1.2.3.4:5
        CLIENT KILL LADDR 1.2.3.4:5
        CLIENT KILL TYPE
        CLIENT KILL TYPE x
        CLIENT KILL TYPE pubsub
        CLIENT KILL TYPE master
        CLIENT KILL TYPE replica
        CLIENT KILL TYPE slave
        CLIENT KILL USER nobody
        CLIENT KILL USER default SKIPME x
        CLIENT KILL SKIPME
        CLIENT KILL SKIPME x
        CLIENT KILL NOTHING x
        CLIENT KILL ID 99999999 NOTHING x
        CLIENT KILL ID 99999999 TYPE
        CLIENT KILL a b c

        CLIENT LIST TYPE
        CLIENT LIST TYPE x
        CLIENT LIST TYPE pubsub
        CLIENT LIST TYPE replica
        CLIENT LIST ID
        CLIENT LIST ID x
        CLIENT LIST ID 99999999
        CLIENT LIST ID 99999999 99999998
        CLIENT LIST NOTHING
        CLIENT LIST NOTHING x
        CLIENT LIST TYPE normal x

        SELECT
        SELECT x
        SELECT -1
        SELECT 16
        SELECT 15
        SELECT 1 2
        SELECT 99999999999
        SELECT 9223372036854775808
        SELECT ""
        RESET
        RESET x
        PING
        PING a
        PING a b
        ECHO
        ECHO a b
        QUIT"#,
    );
}

#[test]
fn config() {
    compare(
        "config",
        r#"
        CONFIG
        CONFIG NOTHING
        CONFIG GET
        CONFIG GET nothing
        CONFIG GET maxmemory
        CONFIG GET MAXMEMORY
        CONFIG GET maxmemory maxmemory
        CONFIG GET maxmemory-polic[xyz] maxmemory-policy
        CONFIG GET "\x00"
        CONFIG SET
        CONFIG SET maxmemory
        CONFIG SET maxmemory 1 timeout
        CONFIG SET nothing 1
        CONFIG SET nothing 1 timeout 0
        CONFIG SET timeout 0 nothing 1
        CONFIG SET timeout 5 timeout 6
        CONFIG SET timeout x
        CONFIG SET timeout -1
        CONFIG SET timeout 99999999999
        CONFIG SET timeout ""
        CONFIG SET timeout 5
        CONFIG GET timeout
        CONFIG SET timeout 7 maxmemory-policy nothing
        CONFIG GET timeout
        CONFIG SET timeout 0
        CONFIG SET maxmemory x
        CONFIG SET maxmemory -1
        CONFIG SET maxmemory 1gb
        CONFIG GET maxmemory
        CONFIG SET maxmemory 1gB
        CONFIG SET maxmemory 1k
        CONFIG GET maxmemory
        CONFIG SET maxmemory 0
        CONFIG SET maxmemory 1xb
        CONFIG SET maxmemory 99999999999999999999
        CONFIG SET maxmemory 0
        CONFIG SET maxmemory-policy nothing
        CONFIG SET maxmemory-policy ALLKEYS-LRU
        CONFIG GET maxmemory-policy
        CONFIG SET maxmemory-policy noeviction
        CONFIG SET maxmemory-samples 0
        CONFIG SET maxmemory-samples 5
        CONFIG SET databases 4
        CONFIG SET lfu-log-factor 10
        CONFIG SET slowlog-log-slower-than -1
        CONFIG GET slowlog-log-slower-than
        CONFIG SET slowlog-log-slower-than 10000
        CONFIG SET slowlog-max-len -1
        CONFIG SET latency-monitor-threshold x
        CONFIG SET lazyfree-lazy-user-del maybe
        CONFIG SET lazyfree-lazy-user-del yes
        CONFIG GET lazyfree-lazy-user-del
        CONFIG SET lazyfree-lazy-user-del no
        CONFIG SET tcp-keepalive 300
        CONFIG SET client-output-buffer-limit "normal 0 0"
        CONFIG SET client-output-buffer-limit "nothing 0 0 0"
        CONFIG SET client-output-buffer-limit "normal 0 0 0"
        CONFIG SET client-output-buffer-limit "normal 1mb 64kb 60"
        CONFIG GET client-output-buffer-limit
        CONFIG SET client-output-buffer-limit "normal 0 0 0 replica 268435456 67108864 60 pubsub 33554432 8388608 60"
        CONFIG SET save ""
        CONFIG GET save
        CONFIG SET maxclients 0
        CONFIG SET hz 50
        CONFIG GET hz
        CONFIG SET hz 10
        CONFIG SET loglevel nothing
        CONFIG SET loglevel NOTICE
        CONFIG GET loglevel
        CONFIG SET proto-max-bulk-len 1
        CONFIG SET notify-keyspace-events KEA
        CONFIG GET notify-keyspace-events
        CONFIG SET notify-keyspace-events q
        CONFIG SET notify-keyspace-events ""
        CONFIG RESETSTAT
        CONFIG RESETSTAT x
        CONFIG REWRITE
        CONFIG REWRITE x"#,
    );
}

#[test]
fn command() {
    compare(
        "command",
        r#"
        COMMAND NOTHING
        COMMAND COUNT x
        COMMAND INFO nothing
        COMMAND INFO get nothing
        COMMAND INFO GET
        COMMAND INFO config|get
        COMMAND INFO CONFIG|GET
        COMMAND INFO config|nothing
        COMMAND INFO get|x
        COMMAND INFO ""
        COMMAND DOCS nothing
        COMMAND DOCS config|nothing
        COMMAND LIST x
        COMMAND LIST FILTERBY
        COMMAND LIST FILTERBY NOTHING x
        COMMAND LIST FILTERBY PATTERN
        COMMAND LIST FILTERBY PATTERN ge?
        COMMAND LIST FILTERBY PATTERN GE?
        COMMAND LIST FILTERBY PATTERN config|ge?
        COMMAND LIST FILTERBY ACLCAT nothing
        COMMAND LIST FILTERBY MODULE nothing
        COMMAND LIST FILTERBY MODULE nothing x
        COMMAND GETKEYS
        COMMAND GETKEYS GET
        COMMAND GETKEYS GET k
        COMMAND GETKEYS get k
        COMMAND GETKEYS GET k k
        COMMAND GETKEYS NOTHING k
        COMMAND GETKEYS PING
        COMMAND GETKEYS PING x
        COMMAND GETKEYS CONFIG GET x
        COMMAND GETKEYS CONFIG NOTHING x
        COMMAND GETKEYS OBJECT ENCODING k
        COMMAND GETKEYS OBJECT NOTHING k
        COMMAND GETKEYS MSET a 1 b 2
        COMMAND GETKEYS MSET a 1 b
        COMMAND GETKEYS MSET a
        COMMAND GETKEYS MGET a b c
        COMMAND GETKEYS SET k v
        COMMAND GETKEYS SET k
        COMMAND GETKEYS BITOP AND d a b
        COMMAND GETKEYS COPY a b DB 1
        COMMAND GETKEYS RENAME a b
        COMMAND GETKEYS LCS a b
        COMMAND GETKEYS SCAN 0
        COMMAND GETKEYSANDFLAGS
        COMMAND GETKEYSANDFLAGS PING x
        COMMAND GETKEYSANDFLAGS SET k v
        COMMAND GETKEYSANDFLAGS SET k v GET
        COMMAND GETKEYSANDFLAGS SET k v EX 1 get
        COMMAND GETKEYSANDFLAGS GET k
        COMMAND GETKEYSANDFLAGS BITFIELD k GET u8 0
        COMMAND GETKEYSANDFLAGS BITFIELD k SET u8 0 1
        COMMAND GETKEYSANDFLAGS BITFIELD k INCRBY u8 0 1
        COMMAND GETKEYSANDFLAGS COPY a b
        COMMAND GETKEYSANDFLAGS MOVE a 1
        COMMAND GETKEYSANDFLAGS DEL a b
        COMMAND GETKEYSANDFLAGS BITOP AND d a b
        COMMAND GETKEYSANDFLAGS OBJECT ENCODING k"#,
    );
}

#[test]
fn server() {
    if ring_differs(RingDiffers::Swaps) {
        return;
    }
    compare(
        "server",
        r#"
        WAIT 0 0
        WAIT 0
        WAIT x 0
        WAIT 0 x
        WAIT 0 -1
        WAIT -1 0
        WAIT 0 9223372036854775807
        ROLE
        ROLE x
        TIME x
        DBSIZE x
        FLUSHALL x
        FLUSHDB SYNC x
        SWAPDB 0
        SWAPDB 0 x
        SWAPDB x 0
        SWAPDB 0 16
        SWAPDB 0 0
        SWAPDB -1 0
        LOLWUT VERSION x
        SHUTDOWN NOTHING
        SHUTDOWN SAVE NOSAVE
        SHUTDOWN ABORT
        SHUTDOWN ABORT NOW
        MONITOR x
        SLOWLOG
        SLOWLOG NOTHING
        SLOWLOG RESET
        SLOWLOG RESET x
        SLOWLOG LEN x
        SLOWLOG GET x
        SLOWLOG GET -2
        SLOWLOG GET 1 2
        LATENCY
        LATENCY NOTHING
        LATENCY LATEST
        LATENCY LATEST x
        LATENCY HISTORY
        LATENCY HISTORY nothing
        LATENCY GRAPH nothing
        LATENCY RESET
        LATENCY RESET nothing
        LATENCY HISTOGRAM nothing
        LATENCY DOCTOR x
        MEMORY
        MEMORY NOTHING
        MEMORY USAGE
        MEMORY USAGE missing
        MEMORY USAGE missing SAMPLES
        MEMORY USAGE missing SAMPLES x
        MEMORY USAGE missing SAMPLES -1
        MEMORY USAGE missing SAMPLES 5
        MEMORY USAGE missing NOTHING 5
        MEMORY PURGE
        MEMORY PURGE x
        MEMORY STATS x
        OBJECT
        OBJECT FREQ
        OBJECT ENCODING k x
        INFO nothing
        DEBUG
        DEBUG SLEEP 0
        DEBUG SLEEP
        DEBUG OBJECT missing
        DEBUG OBJECT
        DEBUG SET-ACTIVE-EXPIRE 1
        DEBUG SET-ACTIVE-EXPIRE
        DEBUG NOTHING
        DEBUG STRINGMATCH-LEN
        DEBUG CHANGE-REPL-ID
        DEBUG JMAP"#,
    );
}

/// Every field of INFO that redis-server has is there, in the same section.
#[test]
fn info_fields() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let Some(pair) = Pair::start("info_fields") else {
        return;
    };
    let fields = |server: &crate::support::Server| -> Vec<String> {
        let mut client = server.client();
        client.run(&["SET", "k", "v"]);
        client.run(&["GET", "k"]);
        client.run(&["NOTHING"]);
        let text = client.info("everything");
        let mut section = String::new();
        let mut fields = Vec::new();
        for line in text.split("\r\n") {
            if let Some(name) = line.strip_prefix("# ") {
                section = name.to_owned();
            } else if let Some((name, _)) = line.split_once(':') {
                fields.push(format!("{section} {name}"));
            }
        }
        fields
    };
    let (redis, quoit) = (fields(&pair.redis), fields(&pair.quoit));
    let missing: Vec<&String> = redis
        .iter()
        .filter(|field| !quoit.contains(field))
        .collect();
    assert!(
        missing.is_empty(),
        "INFO lacks {} fields: {missing:#?}",
        missing.len()
    );
}
