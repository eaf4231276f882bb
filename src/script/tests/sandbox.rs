//! What scripts must not be able to do: to live on when they are killed, to take memory without end, to change what others
//! see, to reach what is wrong in Lua 5.1.5.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::*;

const MIB: usize = 1024 * 1024;

thread_local! {
    static KILLED_BY_BREATH: RefCell<Option<Arc<Interrupt>>> = const { RefCell::new(None) };
}

/// Kills the script that breathes for the second time: it has run for two milliseconds.
fn breathe_and_kill() {
    breathe();
    if BREATHS.get().is_multiple_of(2) {
        KILLED_BY_BREATH.with_borrow(|interrupt| {
            if let Some(interrupt) = interrupt {
                interrupt.kill();
            }
        });
    }
}

fn deadly_engine() -> Engine {
    Engine::new(EngineOptions {
        memory_limit: 32 * MIB,
        breathe: breathe_and_kill,
        redis_version: "7.0.15",
    })
}

/// EVAL of a script that does not end by itself.
fn eval_and_kill(engine: &mut Engine, text: &str) -> String {
    let interrupt = Arc::new(Interrupt::default());
    KILLED_BY_BREATH.set(Some(Arc::clone(&interrupt)));
    let none = OwnedArguments::default();
    let reply = sent(Protocol::Resp2, |reply| {
        let script = Script::new(Bytes::copy_from_slice(text.as_bytes()))?;
        let run = ScriptRun {
            host: &mut FakeServer::default(),
            interrupt: &interrupt,
        };
        engine.eval(
            &script,
            none.as_arguments(),
            none.as_arguments(),
            run,
            reply,
        )
    });
    KILLED_BY_BREATH.set(None);
    String::from_utf8(reply).expect("text")
}

#[test]
fn a_killed_script_dies_whatever_it_does() {
    let mut engine = deadly_engine();
    for text in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local f f = function() pcall(f) return f() end f()",
        "while true do xpcall(function() while true do end end, function(e) while true do end end) end",
        "xpcall(function() while true do end end, function(e) while true do end end) while true do end",
        "while true do pcall(error) end",
        "local co = coroutine.wrap(function() while true do end end) co() while true do end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "local function nest(n) if n == 0 then while true do end end \
            while true do coroutine.resume(coroutine.create(function() nest(n - 1) end)) end end nest(20)",
        "local function nest(n) for i = 1, 100 do coroutine.wrap(function() if n > 0 then nest(n - 1) end end)() end \
            end nest(20)",
        "while true do redis.pcall('get', 'x') end",
        "while true do pcall(redis.call, 'nosuch') end",
        "local t = setmetatable({}, {__index = function() while true do end end}) while true do pcall(function() \
            return t.x end) end",
        "local t = {} for i = 1, 100 do t[i] = i end while true do pcall(table.sort, t, function() while true do end \
            end) end",
        "local t = {} for i = 1, 2000 do t[i] = i % 7 end while true do table.sort(t) end",
        "while true do load(function() while true do end end) end",
        "while true do loadstring('return 1')() end",
        "local f = loadstring('while true do end') while true do pcall(f) end",
        "while true do string.gsub('aaa', 'a', function() while true do end end) end",
        "while true do local ok, e = pcall(error, {err = 'x'}) end",
        "local s = string.rep('x', 1000000) while true do local t = s .. 'y' end",
        "while true do setmetatable({}, {}) next({}) rawget({}, 1) end",
        "for i = 1, 1e300 do end",
        "repeat local ok = xpcall(error, error) until false",
        "while true do tostring(setmetatable({}, {__tostring = function() while true do end end})) end",
    ] {
        let began = Instant::now();
        let reply = eval_and_kill(&mut engine, text);
        assert!(
            reply.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "),
            "{text}: {reply}"
        );
        // A debug build on a busy machine; it is milliseconds else.
        assert!(began.elapsed() < Duration::from_secs(5), "{text}");
        assert_eq!(eval(&mut engine, "return 1"), ":1\r\n", "{text}");
    }
    assert!(!engine.is_spoiled());
}

#[test]
fn a_function_is_killed_too() {
    let text = "redis.register_function('f', function()\nwhile true do end end)";
    let interrupt = Arc::new(Interrupt::default());
    KILLED_BY_BREATH.set(Some(Arc::clone(&interrupt)));
    let mut engine = deadly_engine();
    let library = LibraryText::parse(format!("#!lua name=lib\n{text}").into()).unwrap();
    let none = OwnedArguments::default();
    let reply = sent(Protocol::Resp2, |reply| {
        let run = ScriptRun {
            host: &mut FakeServer::default(),
            interrupt: &interrupt,
        };
        engine.call_function(
            &library,
            "f",
            none.as_arguments(),
            none.as_arguments(),
            run,
            reply,
        )
    });
    assert_eq!(
        reply.escape_ascii().to_string(),
        r"-ERR Script killed by user with SCRIPT KILL... script: f, on @user_function:3.\r\n"
    );
}

#[test]
fn a_script_breathes_every_millisecond() {
    let mut engine = engine();
    BREATHS.set(0);
    eval(&mut engine, "return 1");
    assert_eq!(BREATHS.get(), 0, "a short script does not");
    // How long a loop takes depends on who else computes: it is made longer until it has breathed thrice.
    let (mut rounds, mut elapsed) = (100_000_u64, Duration::ZERO);
    while BREATHS.get() < 3 && rounds < 1 << 40 {
        BREATHS.set(0);
        let began = Instant::now();
        eval(&mut engine, format!("for i = 1, {rounds} do end"));
        elapsed = began.elapsed();
        rounds *= 2;
    }
    let breaths = BREATHS.get() as u128;
    assert!(
        (3..=elapsed.as_millis()).contains(&breaths),
        "{breaths} breaths in {elapsed:?}"
    );
}

#[test]
fn loading_a_library_takes_half_a_second_at_most() {
    let mut engine = engine();
    let server = &mut FakeServer::default();
    let text = b"while true do end";
    let began = Instant::now();
    let reply = load_and_call(&mut engine, server, Protocol::Resp2, text, &[b"0"]);
    assert_eq!(
        reply.escape_ascii().to_string(),
        r"-ERR Error registering functions: ERR FUNCTION LOAD timeout\r\n"
    );
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert_eq!(eval(&mut engine, "return 1"), ":1\r\n");
}

#[test]
fn memory_is_bounded() {
    let limit = 8 * MIB;
    let mut engine = engine_with(limit);
    for text in [
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
        "return string.rep('x', 1e9)",
        "return ('x'):rep(1e6):rep(1e6)",
        "local t = {} for i = 1, 1000 do t[i] = string.rep('x', 100000) .. i end return table.concat(t)",
        "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(100000) end return table.concat(t)",
        "local function f(...) local x = f(1, ...) end f()",
        "return loadstring(string.rep('a=1 ', 1e7))",
        "return load(function() return 'a=1 ' end)",
        "local t = {} while true do t = {t} end",
        "local s = '' for i = 1, 1e6 do s = s .. i end",
        "local t = {} for i = 1, 100 do t[i] = redis.call('echo', string.rep('x', 1000000)) .. i end",
        "return {string.format('%s', string.rep('x', 1e8))}",
        "collectgarbage('stop') while true do local t = {} end",
        "collectgarbage('setpause', 1e9) while true do local t = {} end",
    ] {
        let reply = eval(&mut engine, text);
        assert!(
            reply.starts_with('-')
                && (reply.contains("not enough memory") || reply.contains("stack overflow")),
            "{text}: {:.200}",
            reply
        );
        assert_eq!(eval(&mut engine, "return 1"), ":1\r\n", "{text}");
        assert!(engine.used_memory() < limit / 2, "{text}");
        assert!(!engine.is_spoiled(), "{text}");
    }
    // Garbage counts, but not for long: far more than the limit passes through.
    for text in [
        "local kept = {} for i = 1, 30000 do kept[i] = {} end for i = 1, 300000 do local t = {} end return #kept",
        "local n = 0 for i = 1, 3000 do n = n + #(string.rep('x', 10000) .. i) end return n > 0 and 30000",
        "local s = '' for i = 1, 3000 do s = s .. 'xxxxxxxxxx' end return #s",
        "for i = 1, 300 do redis.call('echo', string.rep('x', 100000)) end return 30000",
    ] {
        assert_eq!(eval(&mut engine, text), ":30000\r\n", "{text}");
    }
    // Caught: the script goes on within the limit.
    let text = "local ok, e = pcall(function() local t = {} while true do t[#t + 1] = {} end end) return e";
    assert_eq!(eval(&mut engine, text), "$17\r\nnot enough memory\r\n");
}

#[test]
fn arguments_and_replies_are_bounded_too() {
    let mut engine = engine_with(4 * MIB);
    let server = &mut FakeServer::default();
    let large = vec![b'x'; 5 * MIB];
    let reply = eval_on(
        &mut engine,
        server,
        Protocol::Resp2,
        b"return #ARGV[1]",
        &[b"0", &large],
    );
    let reply = String::from_utf8(reply).unwrap();
    assert!(
        reply.starts_with("-ERR Error running script ")
            && reply.ends_with(", not enough memory\r\n"),
        "{reply}"
    );
    server.values.insert(b"large".to_vec(), vec![large]);
    let reply = eval_on(
        &mut engine,
        server,
        Protocol::Resp2,
        b"return #redis.call('get', 'large')",
        &[b"0"],
    );
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.contains("not enough memory"), "{reply}");
    let reply = eval_on(
        &mut engine,
        server,
        Protocol::Resp2,
        b"return {pcall(redis.call, 'get', 'large')}",
        &[b"0"],
    );
    assert_eq!(
        reply.escape_ascii().to_string(),
        r"*2\r\n$-1\r\n$17\r\nnot enough memory\r\n"
    );
    let many: Vec<Vec<u8>> = vec![b"element".to_vec(); 100_000];
    server.values.insert(b"many".to_vec(), many);
    let reply = eval_on(
        &mut engine,
        server,
        Protocol::Resp2,
        b"return #redis.call('lrange', 'many', 0, -1)",
        &[b"0"],
    );
    assert!(
        reply.starts_with(b"-ERR"),
        "an estimate is on the safe side"
    );
    assert_eq!(eval(&mut engine, "return 1"), ":1\r\n");
}

#[test]
fn what_names_one_thing_many_times_is_bounded() {
    let mut engine = engine_with(8 * MIB);
    for text in [
        "local s = string.rep('x', 1e6) local t = {} for i = 1, 5000 do t[i] = s end return t",
        "local t = {} for i = 1, 30 do t = {t, t} end return t",
        "local t = {} t[1], t[2] = t, t return t",
        "local t = {} t.map = {a = t, b = t} return t",
        "local t = {{}} for i = 1, 8 do local u = {} for j = 1, 100 do u[j] = t end t = u end return t",
        "local e = {err = string.rep('x', 1e6)} local t = {} for i = 1, 5000 do t[i] = e end return t",
        "local s = string.rep('x', 1e6) local t = {} for i = 1, 5000 do t[i] = s end return redis.call('del', unpack(t))",
        "local s = string.rep('x', 1e6) local t = {} for i = 1, 5000 do t[i] = s end return table.concat(t)",
    ] {
        let reply = eval(&mut engine, text);
        assert!(
            reply.starts_with("-ERR")
                && (reply.contains("not enough memory") || reply.contains("are too long")),
            "{text}: {reply:.200}"
        );
        assert_eq!(eval(&mut engine, "return 1"), ":1\r\n", "{text}");
    }
    let server = &mut FakeServer::default();
    let text = b"local s = string.rep('x', 1e6) local t = {} for i = 1, 5000 do t[i] = s end redis.log(3, unpack(t))";
    eval_on(&mut engine, server, Protocol::Resp2, text, &[b"0"]);
    assert!(server.logged[0].1.len() < 100_000);
}

#[test]
fn an_engine_that_is_full_of_what_libraries_keep_is_spoiled() {
    let mut engine = engine_with(8 * MIB);
    let server = &mut FakeServer::default();
    let text = b"local kept = {} redis.register_function('f', function() for i = 1, 20000 do kept[#kept + 1] = {} end end)";
    load_and_call(&mut engine, server, Protocol::Resp2, text, &[b"0"]);
    assert!(!engine.is_spoiled());
    let library = LibraryText::parse([b"#!lua name=lib\n", &text[..]].concat().into()).unwrap();
    let none = OwnedArguments::default();
    for _ in 0..4 {
        sent(Protocol::Resp2, |reply| {
            let run = ScriptRun {
                host: server,
                interrupt: &Arc::default(),
            };
            engine.call_function(
                &library,
                "f",
                none.as_arguments(),
                none.as_arguments(),
                run,
                reply,
            )
        });
    }
    assert!(engine.is_spoiled());
}

#[test]
fn results_nest_as_deep_as_memory_allows() {
    let mut engine = engine();
    for (inner, text) in [
        (
            "*1\r\n",
            "local t = {} for i = 1, 100000 do t = {t} end return t",
        ),
        (
            "*2\r\n$1\r\na\r\n",
            "local t = {} for i = 1, 100000 do t = {map = {a = t}} end return t",
        ),
    ] {
        let reply = eval(&mut engine, text);
        let count = reply.matches(inner).count();
        assert!((2_600..8_000).contains(&count), "{count}");
        let end = "-ERR reached lua stack limit\r\n";
        assert_eq!(reply, inner.repeat(count) + end);
    }
    assert_eq!(
        eval(&mut engine, "local t = {} t[1] = t return t").len(),
        7_900 * 4 + 30
    );
}

#[test]
fn sources_nest_as_deep_as_the_compiler_allows() {
    let mut engine = engine();
    for (before, after) in [
        ("(", ")"),
        ("{", "}"),
        ("function() return ", " end"),
        ("- ", ""),
        ("not ", ""),
    ] {
        let text = format!(
            "return {}1{}",
            before.repeat(100_000),
            after.repeat(100_000)
        );
        let reply = eval(&mut engine, &text);
        assert!(
            reply.starts_with("-ERR Error compiling script (new function): user_script:1: "),
            "{before}: {reply}"
        );
    }
    let text = format!("return {}1", "'a' .. ".repeat(10_000));
    assert!(eval(&mut engine, &text).starts_with("-ERR Error compiling"));
}

#[test]
fn texts_that_the_compiler_must_not_see() {
    let mut engine = engine();
    let level = "=".repeat(100_000);
    let text = format!("return [{level}[x]{level}]");
    let refusal = "user_script:1: lexical element too long\r\n";
    assert_eq!(
        eval(&mut engine, &text),
        format!("-ERR Error compiling script (new function): {refusal}")
    );
    let text = "local l = string.rep('=', 100000) return {loadstring('return [' .. l .. '[x]' .. l .. ']')}";
    assert_eq!(eval(&mut engine, text), "*0\r\n");
    let text = "local l = string.rep('=', 100000) return {pcall(loadstring, '--[' .. l)}";
    assert!(eval(&mut engine, text).contains(":1\r\n"));
    // Bytecode, made by the same compiler, with and without a shebang.
    let text = "return string.dump(function() return 7 end)";
    let server = &mut FakeServer::default();
    let reply = eval_on(
        &mut engine,
        server,
        Protocol::Resp2,
        text.as_bytes(),
        &[b"0"],
    );
    let start = reply.iter().position(|byte| *byte == 0x1b).unwrap();
    let bytecode = &reply[start..reply.len() - 2];
    let refusal = "user_script:1: unexpected symbol near 'char(27)'\r\n";
    assert_eq!(
        eval(&mut engine, bytecode),
        format!("-ERR Error compiling script (new function): {refusal}")
    );
    let refused = eval(&mut engine, [b"#!lua\n", bytecode].concat());
    assert!(
        refused.contains("unexpected symbol near 'char(27)'"),
        "{refused}"
    );
}

#[test]
fn the_collector_rests_while_a_chunk_is_compiled() {
    // CVE-2025-49844: the collector is made to run at every allocation while names and texts of chunks are garbage.
    let mut engine = engine_with(16 * MIB);
    let text = "collectgarbage('setpause', 1) collectgarbage('setstepmul', 10000) \
        for i = 1, 2000 do \
            local f, e = loadstring('local a' .. i .. ' = \"' .. ('x'):rep(i % 50 + 1) .. i .. '\" return ' .. i, 'n' .. i) \
            assert(f() == i) \
            assert(not loadstring('x x ' .. i, ('n'):rep(i))) \
        end return collectgarbage('count') < 4000";
    assert_eq!(eval(&mut engine, text), ":1\r\n");
}

#[test]
fn nothing_of_a_script_is_seen_by_the_next() {
    let mut engine = engine();
    for attempt in [
        "x = 1",
        "_G.x = 1",
        "rawset(_G, 'x', 1)",
        "table.insert(_G, 'x')",
        "setmetatable(_G, {__index = function() return 1 end})",
        "getmetatable(_G).__index = function() return 1 end",
        "getmetatable('').__index = {upper = 1}",
        "string.upper = nil",
        "redis.call = nil",
        "loadstring('x = 1')()",
        "coroutine.wrap(function() x = 1 end)()",
        "local f, s = pairs(_G) s.x = 1",
        "for k, v in pairs(getmetatable('')) do v.upper = nil end",
        "table.foreach(_G, function(k, v) if k == 'string' then v.upper = nil end end)",
        "KEYS.x = 1 ARGV.x = 1",
        "redis.setresp(3)",
        "collectgarbage('stop')",
    ] {
        eval(&mut engine, attempt);
        let look = "return {tostring(rawget(_G, 'x')), tostring(rawget(_G, 1)), ('a'):upper(), type(redis.call), \
            tostring(KEYS.x), tostring(ARGV.x), type(redis.call('get', 'no')), tostring(false)}";
        assert_eq!(
            eval(&mut engine, look),
            "*8\r\n$3\r\nnil\r\n$3\r\nnil\r\n$1\r\nA\r\n$8\r\nfunction\r\n$3\r\nnil\r\n$3\r\nnil\r\n$7\r\nboolean\r\n\
            $5\r\nfalse\r\n",
            "{attempt}"
        );
    }
    let before = engine.used_memory();
    eval(&mut engine, "for i = 1, 300000 do local t = {} end");
    assert!(
        engine.used_memory() < before + MIB,
        "the collector works again"
    );
}

#[test]
fn error_replies_cannot_forge_a_reply() {
    let mut engine = engine();
    for text in [
        r"return redis.error_reply('x\r\n$5\r\nhello')",
        r"return {err = 'x\r\n$5\r\nhello'}",
        r"error({err = 'x\r\n$5\r\nhello'})",
        r"error('x\r\n$5\r\nhello')",
        r"return {{err = 'x\r\n+OK\r\n'}}",
        r"return {ok = 'x\r\n+OK\r\n'}",
        r"return redis.status_reply('x\r\n+OK\r\n')",
        r"return redis.call('\r\n+OK\r\n')",
        r"return {err = 'x\0\r\n+OK\r\n'}",
        r"return {big_number = '1\r\n+OK\r\n'}",
        r"return loadstring('error(\'x\')', '@a\r\n+OK\r\n')()",
    ] {
        let reply = eval(&mut engine, text).into_bytes();
        let (start, lines) = match reply[0] {
            b'*' | b'$' => (reply.iter().position(|byte| *byte == b'\n').unwrap() + 1, 1),
            _ => (0, 1),
        };
        let breaks = reply[start..].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(breaks, lines, "{text}: {}", reply.escape_ascii());
    }
}
