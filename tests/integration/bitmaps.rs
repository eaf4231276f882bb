//! Bitmap commands over a socket.

use crate::script::in_both;

#[test]
fn single_bits() {
    in_both(
        r#"
        SETBIT b 7 1                => :0
        SETBIT b 7 1                => :1
        GETBIT b 7                  => :1
        GETBIT b 8                  => :0
        GETBIT missing 4294967295   => :0
        GET b                       => "\x01"
        SETBIT b 4294967296 1       => -ERR bit offset is not an integer or out of range
        SETBIT b -1 1               => -ERR bit offset is not an integer or out of range
        SETBIT b 1 2                => -ERR bit is not an integer or out of range
        GETBIT b 4294967296         => -ERR bit offset is not an integer or out of range
        BITCOUNT b                  => :1
        SET s foobar                => +OK
        BITCOUNT s                  => :26
        BITCOUNT s 0 0              => :4
        BITCOUNT s 1 1              => :6
        BITCOUNT s 5 30 BIT         => :17
        BITCOUNT s 0 0 BYTE         => :4
        BITCOUNT s 0                => -ERR syntax error
        BITCOUNT missing            => :0
        SET s "\xff\xf0\x00"        => +OK
        BITPOS s 0                  => :12
        BITPOS s 1 2                => :-1
        BITPOS s 0 0 0              => :-1
        BITPOS s 1 7 15 BIT         => :7
        BITPOS s 2                  => -ERR The bit argument must be 1 or 0.
        BITPOS missing 0            => :0
        BITPOS missing 1            => :-1
        "#,
    );
}

#[test]
fn operations() {
    in_both(
        r#"
        MSET a "\xf0" b "\xcc" c "\xaa\xff"  => +OK
        BITOP AND d a b             => :1
        GET d                       => "\xc0"
        BITOP OR d a c              => :2
        GET d                       => "\xfa\xff"
        BITOP XOR d a b             => :1
        GET d                       => "<"
        BITOP NOT d a               => :1
        GET d                       => "\x0f"
        BITOP NOT d a b             => -ERR BITOP NOT must be called with a single source key.
        BITOP AND d missing         => :0
        EXISTS d                    => :0
        BITOP NAND d a              => -ERR syntax error
        @quoit BITOP DIFF d a b     => :1
        @quoit GET d                => "0"
        @quoit BITOP DIFF1 d a b    => :1
        @quoit GET d                => "\x0c"
        @quoit BITOP ANDOR d a b    => :1
        @quoit GET d                => "\xc0"
        @quoit BITOP ONE d a b      => :1
        @quoit GET d                => "<"
        "#,
    );
}

#[test]
fn fields() {
    in_both(
        r#"
        BITFIELD f SET u8 0 255 GET u4 0        => [:0, :15]
        BITFIELD f INCRBY u8 0 1                => [:0]
        BITFIELD f OVERFLOW SAT INCRBY i8 0 127 INCRBY i8 0 10 => [:127, :127]
        BITFIELD f OVERFLOW FAIL INCRBY i8 0 10 => [nil] || [null]
        BITFIELD f SET i64 #1 -1 GET i64 #1     => [:0, :-1]
        BITFIELD f                              => []
        BITFIELD_RO f GET u8 0                  => [:127]
        BITFIELD_RO f SET u8 0 1                => -ERR BITFIELD_RO only supports the GET subcommand
        BITFIELD f GET u64 0                    => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
        BITFIELD f GET u8 -1                    => -ERR bit offset is not an integer or out of range
        BITFIELD f OVERFLOW x                   => -ERR Invalid OVERFLOW type specified
        BITFIELD missing GET u8 100000          => [:0]
        EXISTS missing                          => :0
        "#,
    );
}
