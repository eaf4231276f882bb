//! CONFIG: the parameters, read and changed while the server runs. What a parameter is stands in `config`.

use super::{Caller, Done, Handler, cluster, help};
use crate::base::worker::give_worker_away;
use crate::config::{self, Settings};
use crate::data::glob::glob_match;
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::{Args, Command, CommandError, Family, Flags, Row};

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
    let caller = &*caller;
    caller
        .server
        .config
        .set(&pairs, |old, new| {
            // First, as it alone depends on others; what remains is refused by the system's limits at most.
            reweigh(caller, old, new)?;
            caller.server.apply(old, new)
        })
        .map_err(|error| CommandError::text_of(error.to_string()))?;
    let names = pairs
        .iter()
        .filter_map(|(name, _)| std::str::from_utf8(name).ok());
    for (row, name) in names.filter_map(config::Row::find) {
        if !row.has_effect() {
            tracing::info!(
                parameter = name,
                "CONFIG SET accepted without effect: this makes no sense here or is not built yet"
            );
        }
    }
    reply.ok();
    Ok(())
}

/// Has the ring agree on this node's new share.
fn reweigh(caller: &Caller<'_>, old: &Settings, new: &Settings) -> Result<(), (String, String)> {
    let Some(cluster) = caller.server.cluster.get() else {
        return Ok(());
    };
    if new.cluster_weight == old.cluster_weight {
        return Ok(());
    }
    cluster::weigh(caller, cluster, cluster.me, new.cluster_weight).map_err(|error| {
        let why = error.text();
        let why = why.strip_prefix("ERR ").unwrap_or(&why).to_owned();
        ("cluster-weight".to_owned(), why)
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Host;
    use crate::resp::decode::OwnedArguments;

    /// GET is a map in RESP3; SET changes all of its parameters or none.
    #[test]
    fn get_and_set() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(
            client.run("CONFIG SET timeout 7 MAXMEMORY-samples 9"),
            "+OK\r\n"
        );
        assert_eq!(
            client.run("CONFIG GET timeou*"),
            "*2\r\n$7\r\ntimeout\r\n$1\r\n7\r\n"
        );
        assert_eq!(
            client.run("CONFIG SET timeout 8 maxmemory-policy x"),
            "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-policy') - argument(s) must be one of the \
             following: volatile-lru, volatile-lfu, volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, \
             noeviction\r\n"
        );
        client.run("HELLO 3");
        assert_eq!(
            client.run("CONFIG GET timeout maxmemory-samples nosuch"),
            "%2\r\n$7\r\ntimeout\r\n$1\r\n7\r\n$17\r\nmaxmemory-samples\r\n$1\r\n9\r\n"
        );
        assert_eq!(client.run("CONFIG GET nosuch"), "%0\r\n");
        assert_eq!(
            client.run("CONFIG SET timeout 1 x"),
            "-ERR syntax error\r\n"
        );
        assert_eq!(
            client.run("CONFIG SET timeout"),
            "-ERR wrong number of arguments for 'config|set' command\r\n"
        );
        assert_eq!(
            client.run("CONFIG REWRITE"),
            "-ERR The server is running without a config file\r\n"
        );
    }

    /// What a new number alone does not do is done: rules, length of the slow log; what cannot be done refuses the change.
    #[test]
    fn set_takes_effect() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(
            client.run("CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lfu"),
            "+OK\r\n"
        );
        let rules = host.server.rules.load();
        assert_eq!(rules.maxmemory, 100 << 20);
        assert!(rules.policy.is_lfu());
        let refusal = client.run("CONFIG SET maxmemory 1 maxclients 4294967295");
        assert!(
            refusal.starts_with(
                "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to \
                 handle the specified number of clients, try with "
            ),
            "{refusal}"
        );
        assert_eq!(host.server.rules.load().maxmemory, 100 << 20);
        assert_eq!(
            client.run("CONFIG GET maxclients"),
            "*2\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n"
        );
    }

    /// A password that is set asks new connections for it, and none when it is taken away.
    #[test]
    fn requirepass() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(client.run("CONFIG SET requirepass pw"), "+OK\r\n");
        assert!(client.session.authenticated, "who is in stays in");
        assert!(!host.client().session.authenticated);
        assert_eq!(client.run("CONFIG SET requirepass \"\""), "+OK\r\n");
        assert!(host.client().session.authenticated);
    }

    /// RESETSTAT forgets counts and error counts.
    #[test]
    fn resetstat() {
        let host = Host::new();
        let mut client = host.client();
        client.run("AUTH other x");
        host.server.stats.count_error("ERR");
        host.server.stats.connections.add(3);
        host.server.stats.command(0).calls.add(5);
        assert_eq!(client.run("CONFIG RESETSTAT"), "+OK\r\n");
        let stats = &host.server.stats;
        assert_eq!(
            stats.auth_failures.value() + stats.connections.value() + stats.errors.value(),
            0
        );
        assert!(stats.error_counts().is_empty());
        assert_eq!(stats.command_sums(0).calls, 0);
    }

    /// The values of passwords are secret, other values are not.
    #[test]
    fn secrets() {
        let words = [
            "CONFIG",
            "SET",
            "timeout",
            "1",
            "RequirePass",
            "pw",
            "requirepass",
        ];
        let request = OwnedArguments::from(&words);
        let hidden: Vec<usize> = (0..words.len())
            .filter(|&position| config_set_secrets(&request.as_arguments(), position))
            .collect();
        assert_eq!(hidden, [5]);
    }

    /// HELP names every subcommand of the family, its own included.
    #[test]
    fn help_is_complete() {
        let host = Host::new();
        let mut client = host.client();
        let help = client.run("CONFIG HELP");
        assert!(help.starts_with(&format!(
            "*{}\r\n+CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n",
            HELP.len() + 3
        )));
        for row in SUBCOMMANDS {
            let line = format!("\r\n+{}", row.command.name.to_ascii_uppercase());
            assert!(help.contains(&line), "{}", row.command.name);
        }
    }
}
