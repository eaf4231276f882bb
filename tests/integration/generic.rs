//! Generic commands over a socket.

use crate::script::in_both;
use crate::support::{Server, Value};

#[test]
fn keys_come_and_go() {
    in_both(
        r#"
        MSET a 1 b 2 c 3            => +OK
        EXISTS a b a missing        => :3
        TOUCH a b missing           => :2
        DEL a missing               => :1
        UNLINK b c c                => :2
        DBSIZE                      => :0
        TYPE a                      => +none
        SET a 1                     => +OK
        TYPE a                      => +string
        RENAME a b                  => +OK
        RENAME a b                  => -ERR no such key
        RENAME b b                  => +OK
        SET a 2 EX 100              => +OK
        RENAMENX a b                => :0
        RENAMENX a c                => :1
        TTL c                       => :100
        RENAME c b                  => +OK
        TTL b                       => :100
        RANDOMKEY                   => "b"
        KEYS *                      => ["b"]
        KEYS [^b]                   => []
        COPY b d                    => :1
        COPY b d                    => :0
        COPY b d REPLACE            => :1
        TTL d                       => :100
        COPY b b                    => -ERR source and destination objects are the same
        COPY b d DB 99              => -ERR DB index is out of range
        COPY b d DB x               => -ERR value is not an integer or out of range
        COPY b d NOPE               => -ERR syntax error
        COPY missing d              => :0
        FLUSHDB                     => +OK
        RANDOMKEY                   => nil || null
        DBSIZE                      => :0
        WAIT 0 0                    => :0
        WAIT -1 0                   => :0
        WAIT 1 -1                   => -ERR timeout is negative
        @quoit WAITAOF 0 0 0        => [:0, :0]
        "#,
    );
}

#[test]
fn expiry() {
    in_both(
        r#"
        SET k v                     => +OK
        TTL k                       => :-1
        PTTL missing                => :-2
        EXPIRETIME k                => :-1
        PEXPIRETIME missing         => :-2
        EXPIRE k 100                => :1
        EXPIRE k 100 NX             => :0
        EXPIRE k 200 XX             => :1
        EXPIRE k 100 GT             => :0
        EXPIRE k 100 LT             => :1
        TTL k                       => :100
        PEXPIRE k 200000 GT         => :1
        TTL k                       => :200
        PERSIST k                   => :1
        PERSIST k                   => :0
        EXPIRE k 100 GT             => :0
        EXPIRE k 100 LT             => :1
        EXPIRE k 100 NX XX          => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 100 GT LT          => -ERR GT and LT options at the same time are not compatible
        EXPIRE k 100 NOPE           => -ERR Unsupported option NOPE
        EXPIRE k x                  => -ERR value is not an integer or out of range
        EXPIRE k 9223372036854775807 => -ERR invalid expire time in 'expire' command
        PEXPIRE k 9223372036854775807 => -ERR invalid expire time in 'pexpire' command
        EXPIREAT k 4000000000       => :1
        EXPIRETIME k                => :4000000000
        PEXPIREAT k 4000000000123   => :1
        PEXPIRETIME k               => :4000000000123
        EXPIRE missing 1            => :0
        EXPIRE k -1                 => :1
        EXISTS k                    => :0
        SET k v                     => +OK
        EXPIREAT k 1                => :1
        EXISTS k                    => :0
        SET k v                     => +OK
        PEXPIREAT k 0               => :1
        DBSIZE                      => :0
        "#,
    );
}

#[test]
fn objects() {
    in_both(
        r#"
        SET n 12                    => +OK
        OBJECT ENCODING n           => "int"
        SET e short                 => +OK
        OBJECT ENCODING e           => "embstr"
        SET r aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeee => +OK
        OBJECT ENCODING r           => "raw"
        APPEND n 3                  => :3
        OBJECT ENCODING n           => "raw"
        OBJECT ENCODING missing     => nil || null
        OBJECT REFCOUNT e           => :1
        OBJECT IDLETIME e           => :0
        OBJECT FREQ e               => -ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.
        OBJECT NOPE e               => -ERR unknown subcommand 'NOPE'. Try OBJECT HELP.
        OBJECT                      => -ERR wrong number of arguments for 'object' command
        OBJECT ENCODING             => -ERR wrong number of arguments for 'object|encoding' command
        "#,
    );
}

#[test]
fn help_of_object() {
    // Aim: the first line is Redis's; the rest are our words.
    let server = Server::start(&[]);
    let lines = server.client().run(&["OBJECT", "HELP"]).items();
    assert_eq!(
        lines[0].text(),
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    );
    assert!(lines.iter().any(|line| line.text().starts_with("ENCODING")));
}

#[test]
fn lfu_shows_frequency_and_hides_idle_time() {
    crate::script::in_both_with(
        &["--maxmemory-policy", "allkeys-lfu"],
        r#"
        SET k v                     => +OK
        OBJECT FREQ k               => :5
        OBJECT IDLETIME k           => -ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.
        "#,
    );
}

#[test]
fn scan_options() {
    in_both(
        r#"
        MSET a1 1 a2 2 b1 3         => +OK
        SCAN 0 MATCH b* COUNT 1000  => ["0", ["b1"]]
        SCAN 0 TYPE string MATCH b1 COUNT 1000 => ["0", ["b1"]]
        SCAN 0 TYPE list COUNT 1000 => ["0", []]
        SCAN 0 COUNT 0              => -ERR syntax error
        SCAN 0 COUNT x              => -ERR value is not an integer or out of range
        SCAN 0 NOPE                 => -ERR syntax error
        SCAN x                      => -ERR invalid cursor
        SCAN                        => -ERR wrong number of arguments for 'scan' command
        "#,
    );
}

#[test]
fn unknown_commands() {
    // Aim: clients match these texts, the blank at their end included.
    let server = Server::start(&[]);
    let mut client = server.client();
    for (request, reply) in [
        (
            "NOSUCH",
            "ERR unknown command 'NOSUCH', with args beginning with: ",
        ),
        (
            "NOSUCH a \"b c\"",
            "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b c' ",
        ),
        (
            "\"\" x",
            "ERR unknown command '', with args beginning with: 'x' ",
        ),
        (
            "\"a\\r\\nb\" \"c\\nd\"",
            "ERR unknown command 'a  b', with args beginning with: 'c d' ",
        ),
    ] {
        assert_eq!(client.line(request), Value::error(reply));
    }
    let long = "x".repeat(200);
    let shown = "x".repeat(128);
    assert_eq!(
        client.run(&[&long, &long, "y"]),
        Value::error(&format!(
            "ERR unknown command '{shown}', with args beginning with: '{shown}' "
        ))
    );
}
