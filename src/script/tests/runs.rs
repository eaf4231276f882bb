//! Runs beside their results: what is kept between them, what the server is told, libraries.

use super::*;
use crate::script::ScriptFlags;

/// FCALL without keys.
fn call(engine: &mut Engine, server: &mut FakeServer, library: &LibraryText, name: &str) -> String {
    let none = OwnedArguments::default();
    let reply = sent(Protocol::Resp2, |reply| {
        let run = ScriptRun {
            host: server,
            interrupt: &Arc::default(),
        };
        let (keys, values) = (none.as_arguments(), none.as_arguments());
        engine.call_function(library, name, keys, values, run, reply)
    });
    String::from_utf8(reply).expect("text")
}

fn library(text: &str) -> LibraryText {
    LibraryText::parse(format!("#!lua name=lib\n{text}").into()).expect("a header")
}

#[test]
fn a_script_has_its_sha1_and_flags() {
    let script = |text: &'static str| Script::new(text.into()).expect("no header, or a right one");
    assert_eq!(
        &script("return 1").sha1,
        b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    );
    assert_eq!(script("return 1").flags, ScriptFlags::COMPATIBILITY);
    assert_eq!(script("#!lua\nreturn 1").flags, ScriptFlags::empty());
    let all = "#!lua flags=no-writes,allow-oom,allow-stale,no-cluster,allow-cross-slot-keys\n";
    assert_eq!(
        script(all).flags,
        ScriptFlags::all() - ScriptFlags::COMPATIBILITY
    );
}

#[test]
fn new_texts_push_old_ones_out() {
    let mut engine = engine();
    let mut most = 0;
    for number in 0..3_000 {
        let text = format!("local text = '{}' return {number}", "x".repeat(1_000));
        assert_eq!(eval(&mut engine, &text), format!(":{number}\r\n"));
        most = most.max(engine.used_memory());
    }
    assert!(most < 8 * 1024 * 1024, "{most}");
    let shown = format!("{engine:?}");
    assert!(shown.contains("scripts: 512"), "{shown}");
    // Texts count by their length, too.
    for number in 0..40 {
        let text = format!("local text = '{}' return {number}", "x".repeat(1_000_000));
        assert_eq!(eval(&mut engine, &text), format!(":{number}\r\n"));
    }
    let shown = format!("{engine:?}");
    assert!(shown.contains("scripts: 8"), "{shown}");
    engine.flush();
    let shown = format!("{engine:?}");
    assert!(shown.contains("scripts: 0"), "{shown}");
    assert!(engine.used_memory() < 1024 * 1024);
    assert_eq!(eval(&mut engine, "return 1"), ":1\r\n");
}

#[test]
fn the_server_is_told() {
    let mut engine = engine();
    let server = &mut FakeServer::default();
    let text = b"redis.log(redis.LOG_NOTICE, 'a', 1, {}, 'b') redis.set_repl(redis.REPL_AOF) \
        return {redis.acl_check_cmd('get', 'x'), redis.acl_check_cmd('flushall')}";
    let reply = eval_on(&mut engine, server, Protocol::Resp2, text, &[b"0"]);
    assert_eq!(reply, b"*2\r\n:1\r\n$-1\r\n");
    assert_eq!(server.logged, [(2, b"a 1 b".to_vec())]);
    assert_eq!(server.replication, Some(1));
}

#[test]
fn errors_of_commands_are_counted_once() {
    let mut engine = engine();
    for (text, is_counted) in [
        ("return redis.call('nosuch')", true),
        ("return redis.pcall('nosuch')", true),
        ("error(redis.pcall('nosuch'))", true),
        ("return redis.error_reply('x')", false),
        ("error('x')", false),
        ("return redis.call()", false),
        ("x x", false),
    ] {
        let reply = eval(&mut engine, text);
        assert!(reply.starts_with('-'), "{text}: {reply}");
        assert_eq!(engine.is_error_counted(), is_counted, "{text}");
    }
    eval(&mut engine, "return redis.pcall('nosuch')");
    eval(&mut engine, "return 1");
    assert!(!engine.is_error_counted());
}

#[test]
fn a_library_says_what_it_has() {
    let mut engine = engine();
    let library = library(
        "redis.register_function('first', function() return 1 end)
        redis.register_function{function_name = 'second', callback = function() return 2 end, description = 'two',
            flags = {'no-writes', 'ALLOW-OOM'}}",
    );
    assert_eq!(library.name, "lib");
    let run = ScriptRun {
        host: &mut FakeServer::default(),
        interrupt: &Arc::default(),
    };
    let specs = engine.load_library(&library, run).expect("it loads");
    let (first, second) = (&specs[0], &specs[1]);
    assert_eq!((first.name.as_str(), &first.description), ("first", &None));
    assert_eq!(first.flags, ScriptFlags::empty());
    assert_eq!(second.name, "second");
    assert_eq!(second.description.as_deref(), Some(&b"two"[..]));
    assert_eq!(
        second.flags,
        ScriptFlags::NO_WRITES | ScriptFlags::ALLOW_OOM
    );
}

#[test]
fn an_engine_loads_the_library_that_it_lacks() {
    let server = &mut FakeServer::default();
    let counter = "local n = 0 redis.register_function('f', function() n = n + 1 return n end)";
    let first = library(counter);
    let second = library(counter);
    assert_ne!(first.version(), second.version());
    let mut engine = engine();
    assert_eq!(call(&mut engine, server, &first, "f"), ":1\r\n");
    assert_eq!(call(&mut engine, server, &first, "f"), ":2\r\n");
    assert_eq!(call(&mut engine, server, &second, "f"), ":1\r\n");
    assert_eq!(call(&mut engine, server, &first, "f"), ":3\r\n");
    assert_eq!(
        call(&mut engine, server, &first, "g"),
        "-ERR Function not found\r\n"
    );
    engine.flush();
    assert_eq!(call(&mut engine, server, &first, "f"), ":1\r\n");
    let broken = library("x x");
    assert_eq!(
        call(&mut engine, server, &broken, "f"),
        "-ERR Error compiling function: user_function:2: '=' expected near 'x'\r\n"
    );
    // Loading it again begins anew.
    let run = ScriptRun {
        host: server,
        interrupt: &Arc::default(),
    };
    engine.load_library(&first, run).expect("it loads");
    assert_eq!(call(&mut engine, server, &first, "f"), ":1\r\n");
}

#[test]
fn libraries_are_bounded() {
    let server = &mut FakeServer::default();
    let mut engine = engine();
    for number in 0..1_000 {
        let library = library(&format!(
            "redis.register_function('f', function() return {number} end)"
        ));
        assert_eq!(
            call(&mut engine, server, &library, "f"),
            format!(":{number}\r\n")
        );
    }
    let shown = format!("{engine:?}");
    assert!(shown.contains("libraries: 256"), "{shown}");
}

#[test]
fn functions_see_no_keys_of_scripts() {
    let server = &mut FakeServer::default();
    let mut engine = engine();
    let text = b"return {KEYS[1], ARGV[1]}";
    eval_on(
        &mut engine,
        server,
        Protocol::Resp2,
        text,
        &[b"1", b"key", b"value"],
    );
    let library = library(
        "redis.register_function('f', function(keys) return {type(rawget(_G, 'KEYS')), #keys} end)",
    );
    assert_eq!(
        call(&mut engine, server, &library, "f"),
        "*2\r\n$3\r\nnil\r\n:0\r\n"
    );
    assert_eq!(eval(&mut engine, "return #KEYS"), ":0\r\n");
}

#[test]
fn replies_that_are_none_end_the_script_only() {
    let mut engine = engine();
    for bytes in [
        "",
        "?\\r\\n",
        "$5\\r\\nab\\r\\n",
        "*3\\r\\n:1\\r\\n",
        "*9999999999\\r\\n",
        "$-7\\r\\n",
        ":x\\r\\n",
        ",x\\r\\n",
        "%1\\r\\n:1\\r\\n",
        "=3\\r\\nabc\\r\\n",
        "*1",
        ":1",
    ] {
        let reply = eval(&mut engine, format!("return redis.call('raw', '{bytes}')"));
        assert!(
            reply.starts_with("-ERR the reply of a command could not be read script: "),
            "{bytes}: {reply}"
        );
    }
    let deep = "*1\\r\\n".repeat(10_000);
    let reply = eval(
        &mut engine,
        format!("return redis.call('raw', '{deep}:1\\r\\n')"),
    );
    assert!(reply.starts_with("-ERR the reply"), "{reply:.200}");
    assert_eq!(eval(&mut engine, "return 1"), ":1\r\n");
}

#[test]
fn the_types_of_resp3_reach_scripts_and_come_back() {
    let mut engine = engine();
    let bytes = "*10\\r\\n+OK\\r\\n:7\\r\\n,1.5\\r\\n#t\\r\\n#f\\r\\n(123\\r\\n=7\\r\\ntxt:abc\\r\\n\
        %1\\r\\n$1\\r\\nk\\r\\n:1\\r\\n~1\\r\\n$1\\r\\nm\\r\\n|1\\r\\n+ttl\\r\\n:1\\r\\n$1\\r\\nv\\r\\n";
    let text = format!("redis.setresp(3) return redis.call('raw', '{bytes}')");
    let server = &mut FakeServer::default();
    let reply = eval_on(
        &mut engine,
        server,
        Protocol::Resp3,
        text.as_bytes(),
        &[b"0"],
    );
    assert_eq!(
        reply.escape_ascii().to_string(),
        r"*10\r\n+OK\r\n:7\r\n,1.5\r\n#t\r\n#f\r\n(123\r\n=7\r\ntxt:abc\r\n%1\r\n$1\r\nk\r\n:1\r\n~1\r\n$1\r\nm\r\n$1\r\nv\r\n"
    );
}

#[test]
fn long_replies_come_in_pieces() {
    // Shared values are not in the output's last piece.
    let mut engine = engine();
    let server = &mut FakeServer::default();
    let large = vec![b'x'; 200_000];
    server.values.insert(b"l".to_vec(), vec![large; 100]);
    let text = b"local l = redis.call('lrange', 'l', 0, -1) local n = 0 for i = 1, #l do n = n + #l[i] end return n";
    let reply = eval_on(&mut engine, server, Protocol::Resp2, text, &[b"0"]);
    assert_eq!(reply, b":20000000\r\n");
}

/// EVAL with one key.
fn eval_one(engine: &mut Engine, text: &str, arguments: &[&str]) -> String {
    let arguments = [&["1"], arguments].concat();
    let arguments: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
    let server = &mut FakeServer::default();
    let reply = eval_on(engine, server, Protocol::Resp2, text.as_bytes(), &arguments);
    String::from_utf8(reply).expect("text")
}

#[test]
fn each_run_finds_its_own_keys_and_arguments() {
    let mut engine = engine();
    let plain = "return {KEYS[1], ARGV[1] or 'none', ARGV[2] or 'none', KEYS[2] or 'none'}";
    let counting = "local n = #KEYS + 10 * #ARGV for i = 1, 5 do KEYS[i + 1], ARGV[i] = 'x', 'y' end \
                    setmetatable(KEYS, {__index = function() return 'z' end}) return n";
    assert!(Script::new(plain.into()).expect("no header").is_plain);
    assert!(!Script::new(counting.into()).expect("no header").is_plain);
    for values in [&["a", "b"][..], &[], &["c"], &["d", "e", "f"], &[], &["g"]] {
        let arguments = [&["key"], values].concat();
        let value = |at: usize| *values.get(at).unwrap_or(&"none");
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let expected = ["key", value(0), value(1), "none"].map(bulk).concat();
        assert_eq!(
            eval_one(&mut engine, plain, &arguments),
            format!("*4\r\n{expected}")
        );
        let count = format!(":{}\r\n", 1 + 10 * values.len());
        assert_eq!(eval_one(&mut engine, counting, &arguments), count);
    }
    // And when all that the last run has left was dropped.
    engine.flush();
    assert_eq!(eval_one(&mut engine, "return ARGV[1]", &["key"]), "$-1\r\n");
    let reply = eval_one(&mut engine, "return KEYS[1] .. ARGV[1]", &["key", "v"]);
    assert_eq!(reply, "$4\r\nkeyv\r\n");
}

#[test]
fn what_a_function_or_a_script_has_stirred_is_settled() {
    let mut engine = engine();
    let find = "return loadstring('return type(KEYS)')() .. collectgarbage('setpause', 150)";
    let library = library(
        "redis.register_function('f', function() return loadstring('return type(KEYS)')() end)",
    );
    for _ in 0..2 {
        let reply = eval_one(&mut engine, find, &["key"]);
        assert_eq!(reply, "$8\r\ntable200\r\n");
        let server = &mut FakeServer::default();
        let reply = call(&mut engine, server, &library, "f");
        assert!(
            reply.contains("nonexistent global variable 'KEYS'"),
            "{reply}"
        );
    }
}

#[test]
fn names_of_commands_are_told_apart_whatever_machine_has_them() {
    let script = |number: usize| {
        format!("redis.call('set', KEYS[1], {number}) return redis.call('get', KEYS[1])")
    };
    for round in 0..20 {
        let mut first = engine();
        let mut second = engine();
        for number in 0..20 {
            for engine in [&mut first, &mut second] {
                let reply = eval_one(engine, &script(number), &["key"]);
                assert_eq!(
                    reply,
                    format!("${}\r\n{number}\r\n", number.to_string().len())
                );
                let name = format!("unknown{}", round * 20 + number);
                let text =
                    format!("return redis.pcall('{name}').err .. redis.call('echo', '{name}')");
                let reply = eval_one(engine, &text, &["key"]);
                assert!(
                    reply.contains("Unknown") && reply.contains(&name),
                    "{reply}"
                );
            }
        }
    }
}
