//! Results and errors of redis-server, and bytes that were not made for it.

use proptest::prelude::*;

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
    super::Global::of(&lua).expect("it is open").reset();
    assert_eq!(testing::run(&lua, third), "\"0.33333333333333\"");
}

#[test]
fn a_small_table_that_writes_much_is_ended() {
    // Aim: sixty tables that each stand twice in the next are 2^60 arrays in JSON.
    let script = "local t = {} for i = 1, 60 do t = {t, t} end return {pcall(cjson.encode, t)}";
    let lua = testing::bounded(20, usize::MAX);
    assert!(testing::run(&lua, script).contains("Script killed"));
    let lua = testing::bounded(usize::MAX, 100_000);
    assert_eq!(
        testing::run(&lua, script),
        "{[1]=false,[2]=\"not enough memory\"}"
    );
}

#[test]
fn any_depth_is_refused_in_time() {
    // Aim: the settings allow it, the references of mlua do not.
    let lua = testing::machine();
    let depths = "cjson.encode_max_depth(2^31 - 1) cjson.decode_max_depth(2^31 - 1)";
    testing::run(&lua, depths);
    for script in [
        "local t = {} for i = 1, 100000 do t = {t} end return {pcall(cjson.encode, t)}",
        "local t = {} for i = 1, 100000 do t = {a = t} end return {pcall(cjson.encode, t)}",
    ] {
        let shown = testing::run(&lua, script);
        assert!(shown.contains("excessive nesting"), "{shown}");
    }
    for text in ["('['):rep(100000)", "('{\"a\":'):rep(100000)"] {
        let shown = testing::run(&lua, &format!("return {{pcall(cjson.decode, {text})}}"));
        assert!(shown.contains("too many nested data structures"), "{shown}");
    }
    let script = "return #cjson.encode(cjson.decode(('['):rep(2000) .. (']'):rep(2000)))";
    assert_eq!(testing::run(&lua, script), "4000");
}

proptest! {
    #[test]
    fn any_text_is_decoded_or_refused(text in prop::collection::vec(any::<u8>(), 0..60)) {
        check(&text)?;
    }

    #[test]
    fn any_text_of_json_letters_is_decoded_or_refused(text in "[\\[\\]{}\",:0-9eE.+\\\\u tfn-]{0,60}") {
        check(text.as_bytes())?;
    }
}

fn check(text: &[u8]) -> Result<(), TestCaseError> {
    let lua = testing::bounded(50, 1_000_000);
    lua.globals()
        .set("text", lua.create_string(text).unwrap())
        .unwrap();
    let shown = testing::run(
        &lua,
        "local ok, value = pcall(cjson.decode, text) if ok then assert(pcall(cjson.encode, value) or true) end return ok",
    );
    prop_assert!(shown == "true" || shown == "false", "{}", shown);
    Ok(())
}
