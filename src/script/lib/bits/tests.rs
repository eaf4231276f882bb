//! Results and errors of redis-server.

use super::super::testing;

#[test]
fn as_redis_does() {
    testing::compare(include_str!("cases.txt"));
}

#[test]
fn cve_2024_31449() {
    // Aim: the magnitude of the smallest integer does not fit its type; before the fix the digits went beyond the buffer.
    let lua = testing::machine();
    assert_eq!(
        testing::run(&lua, "return bit.tohex(65535, -2147483648)"),
        "\"0000FFFF\""
    );
}
