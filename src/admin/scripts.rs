//! EVAL and its kin, which dispatch runs, and SCRIPT.

use std::time::Duration;

use super::{Caller, Done, Handler, Named, ScriptCall, help};
use crate::data::number;
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::state::scripts::Kill;
use crate::table::keys::{KeyAccess, KeySpec};
use crate::table::{Across, Args, Command, CommandError, Family, Flags, Row, Scope};

const RUNS: Flags = Flags::NOSCRIPT
    .union(Flags::STALE)
    .union(Flags::SKIP_MONITOR)
    .union(Flags::NO_MANDATORY_KEYS);
const WRITES: Flags = RUNS.union(Flags::MAY_REPLICATE);
const READS: Flags = RUNS.union(Flags::READONLY);

/// What runs a script on the keys that it declares.
const EVAL: Command = Command {
    family: Family::Scripting,
    since: "2.6.0",
    complexity: "that of the script",
    flags: WRITES,
    keys: &[KeySpec::counted(2, KeyAccess::RW_ACCESS_UPDATE)],
    key_function: Some(declared_keys),
    scope: Scope::Keys,
    ..Command::NEW
};

/// The keys of what may write.
const NOTED: &[KeySpec] = &[KeySpec::counted(2, KeyAccess::RW_ACCESS_UPDATE)
    .noted("What a script does with its keys is not known: the most is assumed.")];
/// The keys of what only reads.
const NOTED_RO: &[KeySpec] = &[KeySpec::counted(2, KeyAccess::RO_ACCESS)
    .noted("What a script does with its keys is not known: that it reads them is assumed.")];

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "eval",
            summary: "Runs a Lua script.",
            usage: "script numkeys:int [key ...] [arg ...]",
            keys: NOTED,
            ..EVAL
        },
        script(Named::Text, false),
    ),
    Row::new(
        Command {
            name: "eval_ro",
            since: "7.0.0",
            summary: "Runs a Lua script that only reads.",
            usage: "script numkeys:int [key ...] [arg ...]",
            flags: READS,
            keys: NOTED_RO,
            ..EVAL
        },
        script(Named::Text, true),
    ),
    Row::new(
        Command {
            name: "evalsha",
            summary: "Runs a Lua script by the SHA-1 of its text.",
            usage: "sha1 numkeys:int [key ...] [arg ...]",
            ..EVAL
        },
        script(Named::Sha1, false),
    ),
    Row::new(
        Command {
            name: "evalsha_ro",
            since: "7.0.0",
            summary: "Runs a Lua script that only reads by the SHA-1 of its text.",
            usage: "sha1 numkeys:int [key ...] [arg ...]",
            flags: READS,
            keys: &[KeySpec::counted(2, KeyAccess::RO_ACCESS)],
            ..EVAL
        },
        script(Named::Sha1, true),
    ),
    Row::new(
        Command {
            name: "fcall",
            since: "7.0.0",
            summary: "Runs a function.",
            complexity: "that of the function",
            usage: "function numkeys:int [key ...] [arg ...]",
            keys: NOTED,
            ..EVAL
        },
        script(Named::Function, false),
    ),
    Row::new(
        Command {
            name: "fcall_ro",
            since: "7.0.0",
            summary: "Runs a function that only reads.",
            complexity: "that of the function",
            usage: "function numkeys:int [key ...] [arg ...]",
            flags: READS,
            keys: NOTED_RO,
            ..EVAL
        },
        script(Named::Function, true),
    ),
    Row {
        command: Command {
            name: "script",
            family: Family::Scripting,
            since: "2.6.0",
            summary: "Manages the scripts that are known.",
            complexity: "",
            ..Command::NEW
        },
        handler: Handler::Container,
        subcommands: &[
            Row::new(
                Command {
                    name: "debug",
                    since: "3.2.0",
                    summary: "Chooses how scripts are debugged: they are not.",
                    usage: "mode:(YES|SYNC|NO)",
                    across: Across::Refuse,
                    ..SUBCOMMAND
                },
                Handler::Admin(debug),
            ),
            Row::new(
                Command {
                    name: "exists",
                    summary: "Tells which scripts are known.",
                    complexity: "O(N) in the number of scripts asked for",
                    usage: "sha1 [sha1 ...]",
                    tips: &[
                        "request_policy:all_shards",
                        "response_policy:agg_logical_and",
                    ],
                    ..SUBCOMMAND
                },
                Handler::Admin(exists),
            ),
            Row::new(
                Command {
                    name: "flush",
                    summary: "Forgets all scripts.",
                    complexity: "O(N) in the number of scripts",
                    usage: "async:[ASYNC|SYNC]@6.2.0",
                    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                    history: &[("6.2.0", "Takes ASYNC and SYNC.")],
                    ..SUBCOMMAND
                },
                Handler::Admin(flush),
            ),
            Row::new(
                Command {
                    name: "help",
                    since: "5.0.0",
                    summary: "Lists the subcommands of SCRIPT.",
                    flags: Flags::LOADING.union(Flags::STALE),
                    across: Across::Refuse,
                    ..SUBCOMMAND
                },
                Handler::Admin(script_help),
            ),
            Row::new(
                Command {
                    name: "kill",
                    summary: "Ends the scripts that run for too long and have not written.",
                    flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
                    tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
                    ..SUBCOMMAND
                },
                Handler::Immediate(kill),
            ),
            Row::new(
                Command {
                    name: "load",
                    summary: "Makes a script known without running it.",
                    complexity: "O(N) in the length of the script",
                    usage: "script",
                    flags: Flags::NOSCRIPT.union(Flags::STALE),
                    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                    ..SUBCOMMAND
                },
                Handler::Admin(load),
            ),
            Row::new(
                Command {
                    name: "show",
                    since: "8.0.0",
                    summary: "Returns the text of a script.",
                    usage: "sha1",
                    across: Across::Refuse,
                    ..SUBCOMMAND
                },
                Handler::Admin(show),
            ),
        ],
    },
];

const SUBCOMMAND: Command = Command {
    family: Family::Scripting,
    since: "2.6.0",
    complexity: "O(1)",
    flags: Flags::NOSCRIPT,
    across: Across::Broadcast,
    ..Command::NEW
};

/// The refusal of a SHA-1 that is not known.
pub const NO_SCRIPT: CommandError =
    CommandError::fixed("NOSCRIPT No matching script. Please use EVAL.");

const fn script(named: Named, is_read_only: bool) -> Handler {
    Handler::Script(ScriptCall {
        named,
        is_read_only,
    })
}

/// The keys behind their number, of which there may be none.
fn declared_keys(request: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    let count = request.get(2).and_then(number::parse_i64);
    let count = count.and_then(|count| usize::try_from(count).ok());
    let Some(end) = count.and_then(|count| count.checked_add(3)) else {
        return false;
    };
    if end > request.len() {
        return false;
    }
    keys.extend((3..end).map(|position| (position, KeyAccess::RW_ACCESS_UPDATE)));
    true
}

fn debug(args: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let mode = args.bytes()?;
    if mode.eq_ignore_ascii_case(b"no") {
        reply.ok();
        return Ok(());
    }
    if mode.eq_ignore_ascii_case(b"yes") || mode.eq_ignore_ascii_case(b"sync") {
        return Err(CommandError::fixed(
            "ERR The Lua debugger is not available: scripts run beside each other here",
        ));
    }
    Err(CommandError::fixed("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
}

fn exists(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    reply.array(args.remaining());
    for sha1 in args.rest() {
        reply.integer(caller.server.scripts.find(sha1).is_some().into());
    }
    Ok(())
}

fn flush(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    flush_mode(args, "ERR SCRIPT FLUSH only support SYNC|ASYNC option")?;
    caller.server.scripts.flush(caller.now);
    reply.ok();
    Ok(())
}

/// Nothing, or one of the two words, which are the same here.
pub(super) fn flush_mode(args: &mut Args<'_>, refusal: &'static str) -> Done {
    let is_known = args.is_empty() || args.keyword("SYNC") || args.keyword("ASYNC");
    if is_known && args.is_empty() {
        return Ok(());
    }
    Err(CommandError::fixed(refusal))
}

fn load(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let known = caller.server.scripts.load(args.bytes()?, caller.now)?;
    reply.bulk(&known.script.sha1);
    Ok(())
}

fn show(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let known = caller.server.scripts.find(args.bytes()?).ok_or(NO_SCRIPT)?;
    reply.bulk_shared(known.script.text.clone());
    Ok(())
}

fn kill(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    kill_runs(caller, false)?;
    reply.ok();
    Ok(())
}

/// Runs that are younger are not what somebody means who wants to end one: he has seen it.
const KILLED_FROM: Duration = Duration::from_millis(50);

/// Ends the runs of scripts, or of functions, that have taken long.
pub(super) fn kill_runs(caller: &Caller<'_>, functions: bool) -> Done {
    let limit = match caller.server.config.settings().busy_reply_threshold {
        Duration::ZERO => KILLED_FROM,
        threshold => threshold.min(KILLED_FROM),
    };
    let outcome = caller.server.scripts.kill(functions, limit);
    match outcome {
        Kill::Done => Ok(()),
        Kill::NotBusy => Err(CommandError::fixed(
            "NOTBUSY No scripts in execution right now.",
        )),
        Kill::Unkillable => Err(CommandError::fixed(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
             script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        )),
        Kill::OtherKind => Err(busy(!functions)),
    }
}

/// What a client gets whose keys a run has held for too long: of a function, or of a script.
pub fn busy(is_function: bool) -> CommandError {
    CommandError::fixed(if is_function {
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    } else {
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    })
}

fn script_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(
        reply,
        "SCRIPT",
        &[
            "DEBUG (YES|SYNC|NO)",
            "    NO is what is; the others are refused: there is no debugger.",
            "EXISTS <sha1> [<sha1> ...]",
            "    For each script 1 if it is known, else 0.",
            "FLUSH [ASYNC|SYNC]",
            "    Forget all scripts. Both ways are the same.",
            "KILL",
            "    End the scripts that have run for a while and have not written.",
            "LOAD <script>",
            "    Keep a script until SCRIPT FLUSH; its SHA-1 is returned.",
            "SHOW <sha1>",
            "    The text of a script.",
        ],
    );
    Ok(())
}
