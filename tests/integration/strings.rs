//! String commands over a socket.

use crate::script::{in_both, in_both_with};
use crate::support::{Server, Value};

const WRONG_LENGTH: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

#[test]
fn set_and_get() {
    in_both(
        r#"
        GET k                       => nil || null
        SET k v                     => +OK
        GET k                       => "v"
        SET k "" NX                 => nil || null
        SET k2 "" NX                => +OK
        GET k2                      => ""
        SET k w XX                  => +OK
        SET missing v XX            => nil || null
        EXISTS missing              => :0
        SET k x GET                 => "w"
        SET new x GET               => nil || null
        GET new                     => "x"
        SET new y NX GET            => "x"
        GET new                     => "x"
        SET k v EX 100              => +OK
        TTL k                       => :100
        SET k v KEEPTTL             => +OK
        TTL k                       => :100
        SET k v                     => +OK
        TTL k                       => :-1
        SET k v PX 100000           => +OK
        TTL k                       => :100
        SET k v EXAT 4000000000     => +OK
        EXPIRETIME k                => :4000000000
        SET k v PXAT 4000000000123  => +OK
        PEXPIRETIME k               => :4000000000123
        SET k v PXAT 1              => +OK
        EXISTS k                    => :0
        SET k v NX XX               => -ERR syntax error
        SET k v EX                  => -ERR syntax error
        SET k v EX 1 PX 1           => -ERR syntax error
        SET k v EX 1 KEEPTTL        => -ERR syntax error
        SET k v EX 0                => -ERR invalid expire time in 'set' command
        SET k v EX -1               => -ERR invalid expire time in 'set' command
        SET k v EX x                => -ERR value is not an integer or out of range
        SET k v EX 9223372036854775807 => -ERR invalid expire time in 'set' command
        SET k                       => -ERR wrong number of arguments for 'set' command
        GET                         => -ERR wrong number of arguments for 'get' command
        SETNX n 1                   => :1
        SETNX n 2                   => :0
        SETEX e 10 v                => +OK
        TTL e                       => :10
        SETEX e 0 v                 => -ERR invalid expire time in 'setex' command
        PSETEX e 10000 v            => +OK
        TTL e                       => :10
        PSETEX e -1 v               => -ERR invalid expire time in 'psetex' command
        GETSET n 3                  => "1"
        GETSET missing 3            => nil || null
        GETDEL n                    => "3"
        GETDEL n                    => nil || null
        GETEX e PERSIST             => "v"
        TTL e                       => :-1
        GETEX e EX 20               => "v"
        TTL e                       => :20
        GETEX e                     => "v"
        TTL e                       => :20
        GETEX e EX 20 PERSIST       => -ERR syntax error
        GETEX nosuch EX 20          => nil || null
        "#,
    );
}

#[test]
fn conditions_of_redis_8_and_valkey() {
    in_both(
        r#"
        @quoit SET k v1                 => +OK
        @quoit SET k v2 IFEQ no         => nil || null
        @quoit SET k v2 IFEQ v1         => +OK
        @quoit SET k v3 IFNE v2         => nil || null
        @quoit SET k v3 IFNE x GET      => "v2"
        @quoit GET k                    => "v3"
        @quoit DELEX k IFEQ x           => :0
        @quoit DELEX k IFEQ v3          => :1
        @quoit DELEX k                  => :0
        @quoit SET k v                  => +OK
        @quoit DELIFEQ k x              => :0
        @quoit DELIFEQ k v              => :1
        @quoit DIGEST k                 => nil || null
        @quoit MSETEX 2 a 1 b 2 EX 100  => :1
        @quoit MGET a b                 => ["1", "2"]
        @quoit TTL b                    => :100
        @quoit MSETEX 2 a 3 c 3 NX      => :0
        @quoit EXISTS c                 => :0
        "#,
    );
}

#[test]
fn several_keys() {
    in_both(
        r#"
        MSET a 1 b 2 a 3            => +OK
        MGET a b missing a          => ["3", "2", nil, "3"] || ["3", "2", null, "3"]
        MSET a 1 b                  => -ERR wrong number of arguments for 'mset' command
        MSETNX c 1 a 9              => :0
        EXISTS c                    => :0
        MSETNX c 1 d 2              => :1
        MGET c d                    => ["1", "2"]
        MSETNX x 1 x 2              => :1
        GET x                       => "2"
        MGET                        => -ERR wrong number of arguments for 'mget' command
        "#,
    );
}

#[test]
fn numbers() {
    in_both(
        r#"
        INCR n                          => :1
        INCRBY n 41                     => :42
        DECR n                          => :41
        DECRBY n 50                     => :-9
        SET n 9223372036854775807       => +OK
        INCR n                          => -ERR increment or decrement would overflow
        GET n                           => "9223372036854775807"
        SET n -9223372036854775808      => +OK
        DECR n                          => -ERR increment or decrement would overflow
        DECRBY n -9223372036854775808   => -ERR decrement would overflow
        SET n " 1"                      => +OK
        INCR n                          => -ERR value is not an integer or out of range
        INCRBY n x                      => -ERR value is not an integer or out of range
        SET f 10.50                     => +OK
        INCRBYFLOAT f 0.1               => "10.6"
        INCRBYFLOAT f -5                => "5.6"
        SET f 5.0e3                     => +OK
        INCRBYFLOAT f 2.0e2             => "5200"
        INCRBYFLOAT f inf               => -ERR increment would produce NaN or Infinity
        INCRBYFLOAT f x                 => -ERR value is not a valid float
        SET f x                         => +OK
        INCRBYFLOAT f 1                 => -ERR value is not a valid float
        SET t 1 EX 100                  => +OK
        INCR t                          => :2
        TTL t                           => :100
        "#,
    );
}

#[test]
fn parts_of_strings() {
    in_both(
        r#"
        APPEND s Hello                  => :5
        APPEND s " World"               => :11
        STRLEN s                        => :11
        STRLEN missing                  => :0
        GETRANGE s 0 4                  => "Hello"
        GETRANGE s -5 -1                => "World"
        GETRANGE s 5 1                  => ""
        GETRANGE s 0 9223372036854775807 => "Hello World"
        GETRANGE missing 0 -1           => ""
        SUBSTR s 0 4                    => "Hello"
        SETRANGE s 6 Redis              => :11
        GET s                           => "Hello Redis"
        SETRANGE p 3 x                  => :4
        GET p                           => "\x00\x00\x00x"
        SETRANGE missing 5 ""           => :0
        EXISTS missing                  => :0
        SETRANGE s -1 x                 => -ERR offset is out of range
        SETRANGE s 536870911 xx         => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        STRLEN s                        => :11
        MSET a ohmytext b mynewtext     => +OK
        LCS a b                         => "mytext"
        LCS a b LEN                     => :6
        LCS a b IDX                     => ["matches", [[[:4, :7], [:5, :8]], [[:2, :3], [:0, :1]]], "len", :6] || {"matches": [[[:4, :7], [:5, :8]], [[:2, :3], [:0, :1]]], "len": :6}
        LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN => ["matches", [[[:4, :7], [:5, :8], :4]], "len", :6] || {"matches": [[[:4, :7], [:5, :8], :4]], "len": :6}
        LCS a b IDX LEN                 => -ERR If you want both the length and indexes, please just use IDX.
        "#,
    );
}

#[test]
fn limits_follow_proto_max_bulk_len() {
    let server = Server::start(&["--proto-max-bulk-len", "1048576"]);
    let mut client = server.client();
    let value = vec![b'x'; 1024 * 1024];
    assert_eq!(client.run(&[b"SET".as_slice(), b"k", &value]), Value::ok());
    assert_eq!(
        client.run(&["APPEND", "k", "y"]),
        Value::error(WRONG_LENGTH)
    );
    assert_eq!(
        client.run(&["SETRANGE", "k", "1048576", "y"]),
        Value::error(WRONG_LENGTH)
    );
    assert_eq!(
        client.run(&["SETBIT", "k", "8388608", "1"]).text(),
        "ERR bit offset is not an integer or out of range"
    );
    assert_eq!(client.run(&["STRLEN", "k"]), Value::Int(1024 * 1024));
}

#[test]
fn binary_values_survive() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let all: Vec<u8> = (0..=255).collect();
    for length in [
        0, 1, 2, 43, 44, 45, 63, 64, 65, 255, 256, 4095, 4096, 16_383, 16_384, 32_767, 32_768,
        32_769, 65_536, 1_000_003,
    ] {
        let value: Vec<u8> = all.iter().copied().cycle().take(length).collect();
        assert_eq!(client.run(&[b"SET".as_slice(), &all, &value]), Value::ok());
        assert_eq!(
            client.run(&[b"GET".as_slice(), &all]),
            Value::bulk(&value),
            "length {length}"
        );
        assert_eq!(
            client.run(&[b"STRLEN".as_slice(), &all]),
            Value::Int(length as i64)
        );
    }
}

#[test]
fn deprecated_substr_reads_as_getrange() {
    in_both_with(
        &["--databases", "1"],
        "SET k abc => +OK\nSUBSTR k 1 1 => \"b\"\nSELECT 1 => -ERR DB index is out of range",
    );
}
