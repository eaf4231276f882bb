//! CONFIG: the parameters, read and changed while the server runs. What a parameter is stands in `config`.

use super::{Caller, Done, Handler, help};
use crate::base::worker::give_worker_away;
use crate::config;
use crate::data::glob::glob_match;
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::{Across, Args, Command, CommandError, Family, Flags, Row};

const PLAIN: Flags = Flags::LOADING.union(Flags::STALE);
const ADMIN: Flags = PLAIN.union(Flags::NOSCRIPT).union(Flags::ADMIN);

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row {
    command: Command {
        name: "config",
        family: Family::Server,
        since: "2.0.0",
        summary: "Holds the commands about the server's parameters.",
        complexity: "Depends on the subcommand.",
        ..Command::NEW
    },
    handler: Handler::Container,
    subcommands: SUBCOMMANDS,
}];

const SUBCOMMANDS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "get",
            family: Family::Server,
            since: "2.0.0",
            summary: "Returns the parameters whose names match, with their values.",
            complexity: "O(N) in the number of parameters, for each pattern.",
            usage: "(parameter)...",
            flags: ADMIN,
            history: &[("7.0.0", "Several patterns in one call.")],
            ..Command::NEW
        },
        Handler::Admin(config_get),
    ),
    Row::new(
        Command {
            name: "help",
            family: Family::Server,
            since: "5.0.0",
            summary: "Lists the subcommands of CONFIG.",
            flags: PLAIN,
            ..Command::NEW
        },
        Handler::Admin(config_help),
    ),
    Row::new(
        Command {
            name: "resetstat",
            family: Family::Server,
            since: "2.0.0",
            summary: "Sets the counters that INFO shows back to zero.",
            flags: ADMIN,
            ..Command::NEW
        },
        Handler::Admin(config_resetstat),
    ),
    Row::new(
        Command {
            name: "rewrite",
            family: Family::Server,
            since: "2.8.0",
            summary: "Writes the parameters in force into the configuration file.",
            flags: ADMIN,
            ..Command::NEW
        },
        Handler::Admin(config_rewrite),
    ),
    Row::new(
        Command {
            name: "set",
            family: Family::Server,
            since: "2.0.0",
            summary: "Changes parameters, all of them or none.",
            complexity: "O(N) in the number of parameters given.",
            usage: "parameter value [parameter value ...]",
            flags: ADMIN.union(Flags::SENSITIVE),
            secrets: Some(config_set_secrets),
            across: Across::Broadcast,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            history: &[("7.0.0", "Several parameters in one call.")],
            ..Command::NEW
        },
        Handler::Admin(config_set),
    ),
];

fn config_get(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let patterns: Vec<&[u8]> = args.rest().collect();
    let found = caller
        .server
        .config
        .get(&patterns, |pattern, name| glob_match(pattern, name, false));
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

fn config_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(reply, "CONFIG", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "GET <pattern> [<pattern> ...]",
    "    Show the parameters whose names match, and their values.",
    "RESETSTAT",
    "    Set the counters of INFO back to zero.",
    "REWRITE",
    "    Write the parameters in force into the configuration file.",
    "SET <parameter> <value> [<parameter> <value> ...]",
    "    Change parameters: all of them or none.",
];

fn config_resetstat(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    caller.server.stats.reset();
    reply.ok();
    Ok(())
}

fn config_rewrite(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    // Reads and writes a file, and syncs it.
    match give_worker_away(|| caller.server.config.rewrite()) {
        Ok(()) => {
            tracing::info!(file = ?caller.server.config.file(), "configuration file rewritten");
            reply.ok();
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%error, "CONFIG REWRITE failed");
            Err(CommandError::text_of(error.to_string()))
        }
    }
}

fn config_set(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let words: Vec<&[u8]> = args.rest().collect();
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
    caller
        .server
        .config
        .set(&pairs, |old, new| caller.server.apply(old, new))
        .map_err(|error| CommandError::text_of(error.to_string()))?;
    reply.ok();
    Ok(())
}

/// The values of parameters that hold secrets.
fn config_set_secrets(request: &Arguments<'_>, position: usize) -> bool {
    // CONFIG SET name value name value
    position >= 3
        && position % 2 == 1
        && request
            .get(position - 1)
            .and_then(|name| std::str::from_utf8(name).ok())
            .and_then(config::Row::find)
            .is_some_and(|(row, _)| row.sensitive())
}
