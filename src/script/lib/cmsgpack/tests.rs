//! Results and errors of redis-server, and bytes that were not made for it.

use super::super::testing;

#[test]
fn as_redis_does() {
    testing::compare(include_str!("cases.txt"));
}
