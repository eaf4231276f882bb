//! Results and errors of redis-server, and bytes that were not made for it.

use super::super::testing;

#[test]
fn as_redis_does() {
    testing::compare(include_str!("cases.txt"));
}

#[test]
fn settings_of_the_global_table_stay_until_they_are_reset() {
    let lua = testing::machine();
    testing::run(&lua, "cjson.encode_number_precision(5)");
    let third = "return cjson.encode(1/3)";
    assert_eq!(testing::run(&lua, third), "\"0.33333\"");
    super::reset(&lua);
    assert_eq!(testing::run(&lua, third), "\"0.33333333333333\"");
}
