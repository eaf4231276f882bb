//! COMMAND: the table of commands, shown to clients. What is printed of a row stands in `table::docs`.

use super::{Caller, Done, Handler, help};
use crate::data::glob::glob_match;
use crate::resp::reply::Reply;
use crate::table::docs::{self, ListFilter};
use crate::table::{Args, Category, Command, CommandError, Family, Flags, Row};

const PLAIN: Flags = Flags::LOADING.union(Flags::STALE);

/// What all rows of this file have.
const fn command_row(command: Command) -> Command {
    Command {
        family: Family::Server,
        categories: Category::CONNECTION,
        flags: PLAIN,
        ..command
    }
}

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row {
    command: command_row(Command {
        name: "command",
        since: "2.8.13",
        summary: "Describes all commands.",
        complexity: "O(N) in the number of commands.",
        usage: "<-1>",
        tips: &["nondeterministic_output_order"],
        ..Command::NEW
    }),
    handler: Handler::Admin(command),
    subcommands: SUBCOMMANDS,
}];

const SUBCOMMANDS: &[Row<Handler>] = &[
    Row::new(
        command_row(Command {
            name: "count",
            since: "2.8.13",
            summary: "Returns the number of commands.",
            ..Command::NEW
        }),
        Handler::Admin(command_count),
    ),
    Row::new(
        command_row(Command {
            name: "docs",
            since: "7.0.0",
            summary: "Documents some commands or all.",
            complexity: "O(N) in the number of commands shown.",
            usage: "[command-name ...]",
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        }),
        Handler::Admin(command_docs),
    ),
    Row::new(
        command_row(Command {
            name: "getkeys",
            since: "2.8.13",
            summary: "Returns the keys that a command would work on.",
            complexity: "O(N) in the number of its arguments.",
            usage: "<-4>",
            ..Command::NEW
        }),
        Handler::Admin(command_getkeys),
    ),
    Row::new(
        command_row(Command {
            name: "getkeysandflags",
            since: "7.0.0",
            summary: "Returns the keys that a command would work on, and how it would use them.",
            complexity: "O(N) in the number of its arguments.",
            usage: "<-4>",
            ..Command::NEW
        }),
        Handler::Admin(command_getkeysandflags),
    ),
    Row::new(
        command_row(Command {
            name: "help",
            since: "5.0.0",
            summary: "Lists the subcommands of COMMAND.",
            ..Command::NEW
        }),
        Handler::Admin(command_help),
    ),
    Row::new(
        command_row(Command {
            name: "info",
            since: "2.8.13",
            summary: "Describes some commands or all.",
            complexity: "O(N) in the number of commands shown.",
            usage: "[command-name ...]",
            tips: &["nondeterministic_output_order"],
            history: &[("7.0.0", "Without names it describes all commands.")],
            ..Command::NEW
        }),
        Handler::Admin(command_info),
    ),
    Row::new(
        command_row(Command {
            name: "list",
            since: "7.0.0",
            summary: "Returns the names of all commands, or of those that a filter lets through.",
            complexity: "O(N) in the number of commands.",
            usage: "[FILTERBY filterby:(MODULE module-name|ACLCAT category|PATTERN pattern:pattern)]",
            tips: &["nondeterministic_output_order"],
            ..Command::NEW
        }),
        Handler::Admin(command_list),
    ),
];

fn command(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    docs::command(&caller.server.commands, reply);
    Ok(())
}

fn command_count(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    docs::command_count(&caller.server.commands, reply);
    Ok(())
}

fn command_docs(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    docs::command_docs(&caller.server.commands, &args.all().tail(2), reply);
    Ok(())
}

fn command_getkeys(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    docs::command_getkeys(&caller.server.commands, &args.all().tail(2), false, reply)
}

fn command_getkeysandflags(
    args: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    docs::command_getkeys(&caller.server.commands, &args.all().tail(2), true, reply)
}

fn command_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(reply, "COMMAND", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Describe all commands.",
    "COUNT",
    "    Show how many commands there are.",
    "DOCS [<command-name> ...]",
    "    Document these commands, or all.",
    "GETKEYS <full-command>",
    "    Show the keys that a command would work on.",
    "GETKEYSANDFLAGS <full-command>",
    "    Show the keys that a command would work on, and how.",
    "INFO [<command-name> ...]",
    "    Describe these commands, or all.",
    "LIST [FILTERBY (MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    Show the names of all commands, or of those that fit.",
];

fn command_info(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    docs::command_info(&caller.server.commands, &args.all().tail(2), reply);
    Ok(())
}

fn command_list(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let pattern;
    let matches;
    let filter = if args.is_empty() {
        ListFilter::All
    } else if args.remaining() != 3 || !args.keyword("FILTERBY") {
        return Err(CommandError::Syntax);
    } else if args.keyword("MODULE") {
        ListFilter::Module
    } else if args.keyword("ACLCAT") {
        ListFilter::Category(args.bytes()?)
    } else if args.keyword("PATTERN") {
        pattern = args.bytes()?;
        matches = |name: &str| glob_match(pattern, name.as_bytes(), true);
        ListFilter::Matching(&matches)
    } else {
        return Err(CommandError::Syntax);
    };
    docs::command_list(&caller.server.commands, filter, reply);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Host;

    /// The shapes of the replies; what they hold is compared with redis-server in `table::docs`.
    #[test]
    fn shapes() {
        let host = Host::new();
        let mut client = host.client();
        let count = host.server.commands.commands().count();
        assert_eq!(client.run("COMMAND COUNT"), format!(":{count}\r\n"));
        assert!(client.run("COMMAND").starts_with(&format!("*{count}\r\n")));
        assert!(
            client
                .run("COMMAND INFO")
                .starts_with(&format!("*{count}\r\n"))
        );
        assert!(
            client
                .run("COMMAND INFO get nosuch")
                .starts_with("*2\r\n*10\r\n$3\r\nget\r\n:2\r\n")
        );
        assert_eq!(client.run("COMMAND INFO nosuch"), "*1\r\n$-1\r\n");
        assert!(
            client
                .run("COMMAND DOCS get")
                .starts_with("*2\r\n$3\r\nget\r\n*10\r\n$7\r\nsummary\r\n")
        );
        assert_eq!(client.run("COMMAND DOCS nosuch"), "*0\r\n");
        client.run("HELLO 3");
        assert!(
            client
                .run("COMMAND DOCS")
                .starts_with(&format!("%{count}\r\n"))
        );
        assert!(
            client
                .run("COMMAND INFO get")
                .starts_with("*1\r\n*10\r\n$3\r\nget\r\n:2\r\n~2\r\n")
        );
    }

    /// LIST with each filter, GETKEYS with each refusal.
    #[test]
    fn list_and_getkeys() {
        let host = Host::new();
        let mut client = host.client();
        for (line, reply) in [
            (
                "COMMAND LIST FILTERBY PATTERN GET*X",
                "*1\r\n$5\r\ngetex\r\n",
            ),
            (
                "COMMAND LIST FILTERBY PATTERN config|re*",
                "*2\r\n$16\r\nconfig|resetstat\r\n$14\r\nconfig|rewrite\r\n",
            ),
            ("COMMAND LIST FILTERBY MODULE x", "*0\r\n"),
            ("COMMAND LIST FILTERBY ACLCAT nosuch", "*0\r\n"),
            ("COMMAND LIST FILTERBY x y", "-ERR syntax error\r\n"),
            ("COMMAND LIST FILTERBY PATTERN", "-ERR syntax error\r\n"),
            ("COMMAND LIST x", "-ERR syntax error\r\n"),
            (
                "COMMAND GETKEYS mset a 1 b 2",
                "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
            ),
            (
                "COMMAND GETKEYSANDFLAGS set k v",
                "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+OW\r\n+update\r\n",
            ),
            (
                "COMMAND GETKEYS nosuch k",
                "-ERR Invalid command specified\r\n",
            ),
            (
                "COMMAND GETKEYS echo k",
                "-ERR The command has no key arguments\r\n",
            ),
            (
                "COMMAND GETKEYS get a b",
                "-ERR Invalid number of arguments specified for command\r\n",
            ),
            (
                "COMMAND GETKEYS get",
                "-ERR wrong number of arguments for 'command|getkeys' command\r\n",
            ),
        ] {
            assert_eq!(client.run(line), reply, "{line}");
        }
    }

    /// HELP names every subcommand of the family, its own included.
    #[test]
    fn help_is_complete() {
        let host = Host::new();
        let mut client = host.client();
        let help = client.run("COMMAND HELP");
        assert!(help.starts_with(&format!(
            "*{}\r\n+COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n",
            HELP.len() + 3
        )));
        for row in SUBCOMMANDS {
            let line = format!("\r\n+{}", row.command.name.to_ascii_uppercase());
            assert!(help.contains(&line), "{}", row.command.name);
        }
    }
}
