//! Results and errors of redis-server, and what Lua's own matcher would not survive.

use super::super::testing;

#[test]
fn as_redis_does() {
    testing::compare(include_str!("cases.txt"));
}
