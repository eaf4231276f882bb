//! DEBUG: switches and looks inside, for tests. Runs only where `enable-debug-command` allows it.
//!
//! As in Redis its subcommands are not commands: COMMAND does not list them, and one error covers an unknown name and a
//! wrong number of arguments. Those that tune a mechanism this server does not have are accepted without effect, as their
//! configuration parameters are; those that need one (RELOAD, DIGEST) or end the process (PANIC, SEGFAULT) are unknown.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Caller, Done, Handler, help};
use crate::commands::generic::encoding_name;
use crate::data::glob::glob_match;
use crate::data::number;
use crate::keyspace::entry::Entry;
use crate::keyspace::lock::{PATIENCE, lock_one};
use crate::resp::decode::Arguments;
use crate::resp::reply::{Protocol, Reply};
use crate::state::random_hex;
use crate::state::session::After;
use crate::table::{Across, Args, Command, CommandError, Family, Flags, Row};

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row::new(
    Command {
        name: "debug",
        family: Family::Server,
        since: "1.0.0",
        summary: "Holds the commands that tests of the server use.",
        complexity: "Depends on the subcommand.",
        usage: "<-2>",
        flags: Flags::ADMIN
            .union(Flags::NOSCRIPT)
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::PROTECTED)
            .union(Flags::SYSTEM),
        across: Across::AtKey(key_of_object),
        ..Command::NEW
    },
    Handler::Admin(debug),
)];

/// The key of DEBUG OBJECT.
fn key_of_object(arguments: &Arguments<'_>) -> Option<usize> {
    let name = arguments.get(1)?;
    let is_object = arguments.len() > 2
        && SUBCOMMANDS
            .iter()
            .any(|known| known.looks_at_key && known.name.as_bytes().eq_ignore_ascii_case(name));
    is_object.then_some(2)
}

/// A subcommand: its name, how many arguments follow it, and what runs it.
struct Subcommand {
    name: &'static str,
    arguments: RangeInclusive<usize>,
    run: fn(&mut Args<'_>, &mut Caller<'_>, &mut Reply<'_>) -> Done,
    /// Whether its first argument is a key.
    looks_at_key: bool,
}

const fn subcommand(
    name: &'static str,
    arguments: RangeInclusive<usize>,
    run: fn(&mut Args<'_>, &mut Caller<'_>, &mut Reply<'_>) -> Done,
) -> Subcommand {
    Subcommand {
        name,
        arguments,
        run,
        looks_at_key: false,
    }
}

const SUBCOMMANDS: &[Subcommand] = &[
    subcommand("change-repl-id", 0..=0, debug_change_repl_id),
    subcommand("dict-resizing", 1..=1, without_effect),
    subcommand("error", 1..=1, debug_error),
    subcommand("help", 0..=0, debug_help),
    subcommand("log", 1..=1, debug_log),
    Subcommand {
        looks_at_key: true,
        ..subcommand("object", 1..=2, debug_object)
    },
    subcommand("pause-cron", 1..=1, without_effect),
    subcommand("protocol", 1..=1, debug_protocol),
    subcommand("quicklist-packed-threshold", 1..=1, without_effect),
    subcommand("replybuffer", 2..=2, without_effect),
    subcommand("set-active-expire", 1..=1, debug_set_active_expire),
    subcommand("set-disable-deny-scripts", 1..=1, without_effect),
    subcommand("sleep", 1..=1, debug_sleep),
    subcommand("stringmatch-len", 2..=2, debug_stringmatch_len),
];

fn debug(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let name = args.bytes()?;
    let called = |known: &&Subcommand| {
        known.name.as_bytes().eq_ignore_ascii_case(name)
            && known.arguments.contains(&args.remaining())
    };
    let Some(subcommand) = SUBCOMMANDS.iter().find(called) else {
        return Err(CommandError::subcommand_syntax("DEBUG", name));
    };
    (subcommand.run)(args, caller, reply)
}

fn without_effect(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    reply.ok();
    Ok(())
}

fn debug_change_repl_id(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    *caller.server.replication_id.lock() = random_hex(20);
    reply.ok();
    Ok(())
}

fn debug_error(args: &mut Args<'_>, _: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    let text = String::from_utf8_lossy(args.bytes()?);
    Err(CommandError::text_of(text))
}

fn debug_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(reply, "DEBUG", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "CHANGE-REPL-ID",
    "    Take a new replication id.",
    "DICT-RESIZING <0|1>",
    "    Accepted without effect.",
    "ERROR <text>",
    "    Answer with this error.",
    "LOG <message>",
    "    Write a line to the log.",
    "OBJECT <key>",
    "    Show how the value at <key> is kept.",
    "PAUSE-CRON <0|1>",
    "    Accepted without effect.",
    "PROTOCOL <type>",
    "    Answer with a value of this type: string, integer, double, bignum, null, array, set, map, attrib, push,",
    "    verbatim, true or false.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Accepted without effect.",
    "REPLYBUFFER (PEAK-RESET-TIME|RESIZING) <value>",
    "    Accepted without effect.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Let keys expire in the background (1), or only when they are asked for (0).",
    "SET-DISABLE-DENY-SCRIPTS <0|1>",
    "    Accepted without effect.",
    "SLEEP <seconds>",
    "    Let this connection sleep; others go on. Fractions are allowed.",
    "STRINGMATCH-LEN <pattern> <text>",
    "    Show whether the pattern matches the text: 1 or 0.",
];

fn debug_log(args: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let message = String::from_utf8_lossy(args.bytes()?);
    tracing::warn!("DEBUG LOG: {message}");
    reply.ok();
    Ok(())
}

fn debug_object(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    // The transaction may hold the very partition that would be waited for here.
    if caller.in_transaction {
        return Err(CommandError::fixed(
            "ERR DEBUG OBJECT looks at no key inside a transaction",
        ));
    }
    let key = args.bytes()?;
    let keyspace = &caller.server.keyspace;
    let hash = keyspace.hasher().hash(key);
    let place = keyspace.place(caller.session.database, hash);
    let Ok(held) = lock_one(keyspace, place, PATIENCE) else {
        return Err(CommandError::fixed("ERR the key is locked"));
    };
    let entry = held
        .partition
        .find(hash, key)
        .filter(|entry| !entry.is_expired(caller.now))
        .ok_or(CommandError::NoSuchKey)?;
    let idle_ms = caller
        .server
        .rules
        .load()
        .idle_ms(entry.access(), caller.now);
    reply.simple(&format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        entry.bytes().as_ptr(),
        encoding_name(entry),
        serialized_bytes(entry),
        entry.access(),
        idle_ms / 1000,
    ));
    Ok(())
}

/// The length of a string in Redis's snapshot format, before compression: integers of up to 32 bits take a byte and the
/// integer, others their length and their bytes.
fn serialized_bytes(entry: &Entry) -> usize {
    let bytes = entry.bytes();
    match number::parse_i64(bytes).filter(|_| bytes.len() <= 11) {
        Some(number) if i8::try_from(number).is_ok() => 2,
        Some(number) if i16::try_from(number).is_ok() => 3,
        Some(number) if i32::try_from(number).is_ok() => 5,
        _ => {
            let header = match bytes.len() {
                0..64 => 1,
                64..16384 => 2,
                _ => 5,
            };
            header + bytes.len()
        }
    }
}

#[expect(clippy::approx_constant, reason = "Redis's test value, to the digit")]
fn debug_protocol(args: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let is_resp3 = reply.protocol() == Protocol::Resp3;
    match args.bytes()?.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double(3.141),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if is_resp3 {
                reply.raw(b"|1\r\n");
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if !is_resp3 => {
            return Err(CommandError::fixed(
                "ERR RESP2 is not supported by this command",
            ));
        }
        b"push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        _ => {
            return Err(CommandError::fixed(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

fn debug_set_active_expire(
    args: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    // What is no number counts as 0, as in Redis.
    let on = number::parse_i64(args.bytes()?).unwrap_or(0) != 0;
    caller.server.active_expire.store(on, Ordering::Relaxed);
    reply.ok();
    Ok(())
}

fn debug_sleep(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    // What is no number counts as 0, as in Redis.
    let seconds = number::parse_f64(args.bytes()?).unwrap_or(0.0);
    caller.session.after = After::Sleep(Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_SLEEP)));
    reply.ok();
    Ok(())
}

/// In seconds; about a year, which no test waits for.
const LONGEST_SLEEP: f64 = 3e7;

fn debug_stringmatch_len(args: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let (pattern, text) = (args.bytes()?, args.bytes()?);
    reply.integer(glob_match(pattern, text, false).into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Host;

    /// An unknown name and a wrong number of arguments have one refusal, which shows a bounded part of the name.
    #[test]
    fn unknown_subcommands() {
        let host = Host::new();
        let mut client = host.client();
        for line in [
            "foo",
            "sleep",
            "sleep 1 2",
            "object",
            "help x",
            "panic",
            "reload",
            "segfault",
        ] {
            let name = line.split(' ').next().unwrap_or_default();
            assert_eq!(
                client.run(&format!("DEBUG {line}")),
                format!(
                    "-ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP.\r\n"
                )
            );
        }
        assert!(client.run(&format!("DEBUG {}", "x".repeat(100_000))).len() < 300);
        assert_eq!(client.session.after, After::Nothing);
    }

    /// SLEEP asks its own connection to sleep; numbers beyond all measure neither panic nor sleep for ever.
    #[test]
    fn sleep() {
        let host = Host::new();
        let mut client = host.client();
        for (seconds, expected) in [
            ("0.25", Duration::from_millis(250)),
            ("-1", Duration::ZERO),
            ("nan", Duration::ZERO),
            ("x", Duration::ZERO),
            ("1e300", Duration::from_secs(30_000_000)),
            ("inf", Duration::from_secs(30_000_000)),
        ] {
            assert_eq!(client.run(&format!("DEBUG SLEEP {seconds}")), "+OK\r\n");
            assert_eq!(client.session.after, After::Sleep(expected), "{seconds}");
        }
    }

    /// Switches and answers.
    #[test]
    fn others() {
        let host = Host::new();
        let mut client = host.client();
        let is_active = || host.server.active_expire.load(Ordering::Relaxed);
        assert!(is_active());
        assert_eq!(client.run("DEBUG SET-ACTIVE-EXPIRE 0"), "+OK\r\n");
        assert!(!is_active());
        assert_eq!(client.run("DEBUG set-active-expire 1"), "+OK\r\n");
        assert!(is_active());
        let id = host.server.replication_id.lock().clone();
        assert_eq!(client.run("DEBUG CHANGE-REPL-ID"), "+OK\r\n");
        let changed = host.server.replication_id.lock().clone();
        assert_ne!(changed, id);
        assert_eq!(changed.len(), 40);
        assert_eq!(client.run("DEBUG STRINGMATCH-LEN a*b aXb"), ":1\r\n");
        assert_eq!(client.run("DEBUG STRINGMATCH-LEN a*b aXc"), ":0\r\n");
        assert_eq!(client.run("DEBUG ERROR \"CODE a\\nb\""), "-CODE a b\r\n");
        assert_eq!(client.run("DEBUG OBJECT nosuch"), "-ERR no such key\r\n");
    }

    /// The types of PROTOCOL, in both protocols, as redis-server 7.0.15 writes them.
    #[test]
    fn protocol() {
        let host = Host::new();
        let mut client = host.client();
        let types = [
            ("string", "$11\r\nHello World\r\n", "$11\r\nHello World\r\n"),
            ("integer", ":12345\r\n", ":12345\r\n"),
            ("double", "$5\r\n3.141\r\n", ",3.141\r\n"),
            ("null", "$-1\r\n", "_\r\n"),
            (
                "array",
                "*3\r\n:0\r\n:1\r\n:2\r\n",
                "*3\r\n:0\r\n:1\r\n:2\r\n",
            ),
            (
                "set",
                "*3\r\n:0\r\n:1\r\n:2\r\n",
                "~3\r\n:0\r\n:1\r\n:2\r\n",
            ),
            (
                "map",
                "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n",
                "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n",
            ),
            ("true", ":1\r\n", "#t\r\n"),
            ("false", ":0\r\n", "#f\r\n"),
            (
                "verbatim",
                "$25\r\nThis is a verbatim\nstring\r\n",
                "=29\r\ntxt:This is a verbatim\nstring\r\n",
            ),
            (
                "bignum",
                "$37\r\n1234567999999999999999999999999999999\r\n",
                "(1234567999999999999999999999999999999\r\n",
            ),
            (
                "attrib",
                "$39\r\nSome real reply following the attribute\r\n",
                "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply following the attribute\r\n",
            ),
            (
                "push",
                "-ERR RESP2 is not supported by this command\r\n",
                ">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n$40\r\nSome real reply following the push reply\r\n",
            ),
        ];
        for (name, resp2, resp3) in types {
            client.run("HELLO 2");
            assert_eq!(client.run(&format!("DEBUG PROTOCOL {name}")), resp2);
            client.run("HELLO 3");
            assert_eq!(client.run(&format!("DEBUG PROTOCOL {name}")), resp3);
        }
    }
}
