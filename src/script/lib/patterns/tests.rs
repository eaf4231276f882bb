//! Results and errors of redis-server, and what Lua's own matcher would not survive.

use proptest::prelude::*;

use super::super::testing;

#[test]
fn as_redis_does() {
    testing::compare(include_str!("cases.txt"));
}

#[test]
fn patterns_with_exponentially_many_ways_are_ended() {
    for script in [
        "return string.find(('a'):rep(40), ('a?'):rep(40) .. 'b')",
        "return string.match(('a'):rep(5000), ('.-'):rep(9) .. 'b')",
        "return string.gsub(('a'):rep(5000), ('.*'):rep(9) .. 'b', '')",
        "for w in string.gmatch(('a'):rep(5000), ('a*'):rep(9) .. 'b') do end",
        "return string.find(('('):rep(100000), ('%b()'):rep(2))",
    ] {
        let lua = testing::bounded(20, usize::MAX);
        assert!(
            testing::run(&lua, script).contains("Script killed"),
            "{script}"
        );
    }
}

#[test]
fn deep_patterns_need_no_stack() {
    // Aim: Lua's matcher calls itself once for each of these items.
    let lua = testing::machine();
    let script = "return {pcall(string.find, ('a'):rep(99999), ('a?'):rep(99999))}";
    assert_eq!(testing::run(&lua, script), "{[1]=true,[2]=1,[3]=99999}");
    let script = "return {pcall(string.find, ('a'):rep(200000), ('a?'):rep(200000))}";
    assert_eq!(
        testing::run(&lua, script),
        "{[1]=false,[2]=\"pattern too complex\"}"
    );
}

#[test]
fn results_are_bounded() {
    let lua = testing::bounded(usize::MAX, 1_000_000);
    for script in [
        "return {pcall(string.rep, 'x', 1000001)}",
        "return {pcall(string.rep, ('x'):rep(1000), 2147483647)}",
        "return {pcall(string.gsub, ('x'):rep(1000), 'x', ('y'):rep(2000))}",
        "return {pcall(string.gsub, ('x'):rep(10000), '.+', ('%0'):rep(200))}",
    ] {
        assert_eq!(
            testing::run(&lua, script),
            "{[1]=false,[2]=\"not enough memory\"}",
            "{script}"
        );
    }
    assert_eq!(
        testing::run(&lua, "return #string.rep('x', 1000000)"),
        "1000000"
    );
}

proptest! {
    #[test]
    fn any_pattern_ends_in_a_result_or_an_error(
        source in "[ab(.)\\]x%1]{0,12}",
        pattern in "[ab%.()\\[\\]^$*+?1fbx-]{0,10}",
        replacement in "[a%01]{0,4}",
    ) {
        let lua = testing::bounded(50, 1_000_000);
        lua.globals().set("s", source).unwrap();
        lua.globals().set("p", pattern).unwrap();
        lua.globals().set("r", replacement).unwrap();
        let shown = testing::run(
            &lua,
            "return {pcall(string.find, s, p), pcall(string.gsub, s, p, r), pcall(string.gsub, s, p, function() end)}",
        );
        prop_assert!(shown.starts_with("{[1]="), "{}", shown);
    }
}
