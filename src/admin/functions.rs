//! FUNCTION: the libraries of functions.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::scripts::{flush_mode, kill_runs};
use super::{Caller, Done, Handler, help};
use crate::cluster::ask::LibraryState;
use crate::data::dump;
use crate::data::glob::glob_match;
use crate::keyspace::effects::Effects;
use crate::resp::decode::Arguments;
use crate::resp::reply::{Output, Protocol, Reply};
use crate::script::engine::ScriptRun;
use crate::script::header::{FunctionSpec, LibraryText};
use crate::script::{Host, Interrupt, ScriptFlags};
use crate::state::Server;
use crate::state::functions::{Libraries, Library, Taken};
use crate::table::{Across, Args, Command, CommandError, Family, Flags, Merge, Row};

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row {
    command: Command {
        name: "function",
        family: Family::Scripting,
        since: "7.0.0",
        summary: "Manages libraries of functions.",
        complexity: "",
        ..Command::NEW
    },
    handler: Handler::Container,
    subcommands: &[
        Row::new(
            Command {
                name: "delete",
                summary: "Removes a library.",
                usage: "library-name",
                ..CHANGES
            },
            Handler::Admin(delete),
        ),
        Row::new(
            Command {
                name: "dump",
                summary: "Returns all libraries in the form that FUNCTION RESTORE takes.",
                complexity: "O(N) in the number of libraries",
                across: Across::Refuse,
                ..SUBCOMMAND
            },
            Handler::Admin(dump_all),
        ),
        Row::new(
            Command {
                name: "flush",
                summary: "Removes all libraries.",
                complexity: "O(N) in the number of functions",
                usage: "async:[ASYNC|SYNC]",
                ..CHANGES
            },
            Handler::Admin(flush),
        ),
        Row::new(
            Command {
                name: "help",
                summary: "Lists the subcommands of FUNCTION.",
                flags: Flags::LOADING.union(Flags::STALE),
                across: Across::Refuse,
                ..SUBCOMMAND
            },
            Handler::Admin(function_help),
        ),
        Row::new(
            Command {
                name: "kill",
                summary: "Ends the functions that run for too long and have not written.",
                flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
                tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
                ..SUBCOMMAND
            },
            Handler::Immediate(kill),
        ),
        Row::new(
            Command {
                name: "list",
                summary: "Lists the libraries and their functions.",
                complexity: "O(N) in the number of functions",
                usage: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
                across: Across::Refuse,
                tips: &["nondeterministic_output_order"],
                ..SUBCOMMAND
            },
            Handler::Admin(list),
        ),
        Row::new(
            Command {
                name: "load",
                summary: "Adds a library.",
                complexity: "that of loading the code",
                usage: "[REPLACE] function-code",
                flags: CHANGES.flags.union(Flags::DENYOOM),
                ..CHANGES
            },
            Handler::Admin(load),
        ),
        Row::new(
            Command {
                name: "restore",
                summary: "Adds the libraries of a payload of FUNCTION DUMP.",
                complexity: "O(N) in the number of functions",
                usage: "serialized-value policy:[FLUSH|APPEND|REPLACE]",
                flags: CHANGES.flags.union(Flags::DENYOOM),
                ..CHANGES
            },
            Handler::Admin(restore),
        ),
        Row::new(
            Command {
                name: "stats",
                summary: "Tells which function runs, and how many there are.",
                across: Across::BroadcastUnlessQueued,
                // What runs anywhere.
                merge: Some(Merge::FirstWith(1)),
                flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
                tips: &[
                    "nondeterministic_output",
                    "request_policy:all_shards",
                    "response_policy:special",
                ],
                ..SUBCOMMAND
            },
            Handler::Admin(stats),
        ),
    ],
}];

const SUBCOMMAND: Command = Command {
    family: Family::Scripting,
    since: "7.0.0",
    complexity: "O(1)",
    flags: Flags::NOSCRIPT,
    across: Across::Broadcast,
    ..Command::NEW
};

const CHANGES: Command = Command {
    flags: Flags::WRITE.union(Flags::NOSCRIPT),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..SUBCOMMAND
};

/// What a library finds while it is loaded: no commands can be called then.
struct Nobody;

impl Host for Nobody {
    fn call(&mut self, _: Arguments<'_>, protocol: Protocol, reply: &mut Output) {
        Reply::new(reply, protocol)
            .error("ERR redis.call can only be called inside a script invocation");
    }

    fn set_replication(&mut self, _: u8) {}

    fn log(&mut self, _: u8, message: &[u8]) {
        tracing::info!("library: {}", message.escape_ascii());
    }

    fn may_run(&mut self, _: Arguments<'_>) -> Option<bool> {
        None
    }
}

/// Runs a library's code, which tells its functions.
fn load_library(server: &Server, text: &[u8]) -> Result<Arc<Library>, CommandError> {
    let text = LibraryText::parse(Bytes::copy_from_slice(text))?;
    let functions = server.scripts.with_engine(|engine, _| {
        let run = ScriptRun {
            host: &mut Nobody,
            interrupt: &Arc::new(Interrupt::default()),
        };
        engine.load_library(&text, run)
    })?;
    Ok(Arc::new(Library {
        text,
        functions,
        strays: AtomicBool::new(false),
    }))
}

/// Takes over what became of libraries at another node.
///
/// # Errors
/// The names of those that cannot be loaded, or that have a function whose name is taken.
pub fn adopt(server: &Server, news: Vec<LibraryState>) -> Result<(), Vec<String>> {
    let load = |text: &[u8]| load_library(server, text).ok();
    server.functions.change().merge(news, load)
}

/// Adds a library to what will be there; in place of the one of its name if it may be.
fn add(next: &mut Libraries, library: Arc<Library>, replace: bool) -> Done {
    if replace {
        next.remove(&library.text.name);
    }
    next.add(library).map_err(|taken| {
        CommandError::text_of(match taken {
            Taken::Library(name) => format!("ERR Library '{name}' already exists"),
            Taken::Function(name) => format!("ERR Function {name} already exists"),
        })
    })
}

fn load(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let mut replace = false;
    while args.remaining() > 1 {
        if args.keyword("REPLACE") {
            replace = true;
        } else {
            let option = args.bytes()?;
            return Err(CommandError::quoting("Unknown option given: ", option, ""));
        }
    }
    let library = load_library(caller.server, args.bytes()?)?;
    let mut change = caller.server.functions.change();
    add(&mut change.next, Arc::clone(&library), replace)?;
    change.commit(caller.now);
    tell(caller, args.all());
    reply.bulk(library.text.name.as_bytes());
    Ok(())
}

fn delete(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let name = std::str::from_utf8(args.bytes()?).unwrap_or_default();
    let mut change = caller.server.functions.change();
    if !change.next.remove(name) {
        return Err(CommandError::fixed("ERR Library not found"));
    }
    change.commit(caller.now);
    tell(caller, args.all());
    reply.ok();
    Ok(())
}

fn flush(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    at_most(args, 1)?;
    flush_mode(args, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option")?;
    let mut change = caller.server.functions.change();
    change.next = Libraries::default();
    change.commit(caller.now);
    tell(caller, args.all());
    reply.ok();
    Ok(())
}

fn dump_all(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let libraries = caller.server.functions.current();
    let texts = libraries.by_name.values();
    reply.bulk(&dump::write_libraries(
        texts.map(|library| &library.text.text[..]),
    ));
    Ok(())
}

/// Redis's refusal of more arguments than a subcommand takes, where its row does not bound them.
fn at_most(args: &Args<'_>, count: usize) -> Done {
    if args.remaining() <= count {
        return Ok(());
    }
    let name = args.all().get(1).unwrap_or_default();
    Err(CommandError::subcommand_syntax("FUNCTION", name))
}

/// What becomes of the libraries that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Flush,
    Append,
    Replace,
}

fn restore(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    at_most(args, 2)?;
    let payload = args.bytes()?;
    let policy = if args.is_empty() || args.keyword("APPEND") {
        Policy::Append
    } else if args.keyword("REPLACE") {
        Policy::Replace
    } else if args.keyword("FLUSH") {
        Policy::Flush
    } else {
        return Err(CommandError::fixed(
            "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
        ));
    };
    let texts = dump::read_libraries(payload).map_err(|refused| {
        CommandError::fixed(match refused {
            dump::Refused::Footer => "ERR DUMP payload version or checksum are wrong",
            dump::Refused::Format => "ERR given type is not a function",
        })
    })?;
    let libraries: Result<Vec<_>, _> = texts
        .iter()
        .map(|text| load_library(caller.server, text))
        .collect();
    let libraries = libraries?;
    let mut change = caller.server.functions.change();
    if policy == Policy::Flush {
        change.next = Libraries::default();
    }
    for library in libraries {
        add(&mut change.next, library, policy == Policy::Replace)?;
    }
    change.commit(caller.now);
    tell(caller, args.all());
    reply.ok();
    Ok(())
}

/// Tells followers what was done.
fn tell(caller: &Caller<'_>, request: Arguments<'_>) {
    let listeners = &caller.server.keyspace.listeners;
    let mut effects = Effects::default();
    effects.begin(listeners.interest());
    let command: Vec<&[u8]> = request.iter().collect();
    effects.record(caller.session.database, &command);
    effects.append(listeners);
}

fn list(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let (mut pattern, mut with_code) = (None, false);
    while !args.is_empty() {
        if !with_code && args.keyword("WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && args.keyword("LIBRARYNAME") {
            if args.is_empty() {
                return Err(CommandError::fixed(
                    "ERR library name argument was not given",
                ));
            }
            pattern = Some(args.bytes()?);
        } else {
            let unknown = args.bytes()?;
            return Err(CommandError::quoting("Unknown argument ", unknown, ""));
        }
    }
    let libraries = caller.server.functions.current();
    let is_listed =
        |name: &str| pattern.is_none_or(|pattern| glob_match(pattern, name.as_bytes(), true));
    let listed: Vec<_> = libraries
        .by_name
        .values()
        .filter(|library| is_listed(&library.text.name))
        .collect();
    reply.array(listed.len());
    for library in listed {
        reply.map(if with_code { 4 } else { 3 });
        reply.bulk(b"library_name");
        reply.bulk(library.text.name.as_bytes());
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        library
            .functions
            .iter()
            .for_each(|function| write_function(function, reply));
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.text.text);
        }
    }
    Ok(())
}

fn write_function(function: &FunctionSpec, reply: &mut Reply<'_>) {
    reply.map(3);
    reply.bulk(b"name");
    reply.bulk(function.name.as_bytes());
    reply.bulk(b"description");
    match &function.description {
        Some(description) => reply.bulk(description),
        None => reply.null(),
    }
    reply.bulk(b"flags");
    let flags = [
        (ScriptFlags::NO_WRITES, "no-writes"),
        (ScriptFlags::ALLOW_OOM, "allow-oom"),
        (ScriptFlags::ALLOW_STALE, "allow-stale"),
        (ScriptFlags::NO_CLUSTER, "no-cluster"),
        (ScriptFlags::ALLOW_CROSS_SLOT_KEYS, "allow-cross-slot-keys"),
    ];
    let set: Vec<_> = flags
        .iter()
        .filter(|(flag, _)| function.flags.contains(*flag))
        .collect();
    reply.set(set.len());
    set.iter().for_each(|(_, name)| reply.simple(name));
}

fn stats(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let server = caller.server;
    reply.map(2);
    reply.bulk(b"running_script");
    let running = server.scripts.shown();
    match running.iter().max_by_key(|run| run.took) {
        None => reply.null(),
        Some(run) => {
            let request = run.request.as_arguments();
            reply.map(3);
            reply.bulk(b"name");
            match &run.function {
                Some(name) => reply.bulk(name.as_bytes()),
                None => reply.bulk(request.get(1).unwrap_or_default()),
            }
            reply.bulk(b"command");
            reply.array(request.len());
            request.iter().for_each(|part| reply.bulk(part));
            reply.bulk(b"duration_ms");
            reply.integer(run.took.as_millis() as i64);
        }
    }
    let libraries = server.functions.current();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.integer(libraries.by_name.len() as i64);
    reply.bulk(b"functions_count");
    reply.integer(libraries.function_count() as i64);
    Ok(())
}

fn kill(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    kill_runs(caller, true)?;
    reply.ok();
    Ok(())
}

fn function_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(
        reply,
        "FUNCTION",
        &[
            "DELETE <library name>",
            "    Remove a library and its functions.",
            "DUMP",
            "    All libraries in one payload, for FUNCTION RESTORE.",
            "FLUSH [ASYNC|SYNC]",
            "    Remove all libraries. Both ways are the same.",
            "KILL",
            "    End the functions that have run for a while and have not written.",
            "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
            "    The libraries with their functions, and their code if it is asked for.",
            "LOAD [REPLACE] <function code>",
            "    Add a library, in place of the one of the same name if that is allowed.",
            "RESTORE <payload> [FLUSH|APPEND|REPLACE]",
            "    Add the libraries of a payload: after removing all, when no name is taken (the default), or in place of",
            "    those of the same names.",
            "STATS",
            "    What runs for how long, and how many libraries and functions there are.",
        ],
    );
    Ok(())
}
