//! SLOWLOG: the commands that took longest, newest first.

use super::{Caller, Done, Handler, help};
use crate::data::number;
use crate::resp::reply::Reply;
use crate::state::slowlog::SlowEntry;
use crate::table::{Args, Command, CommandError, Family, Flags, Row};

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row {
    command: Command {
        name: "slowlog",
        family: Family::Server,
        since: "2.2.12",
        summary: "Shows and empties the log of slow commands.",
        complexity: "",
        ..Command::NEW
    },
    handler: Handler::Container,
    subcommands: &[
        Row::new(
            Command {
                name: "get",
                summary: "Lists the newest entries of the slow log.",
                complexity: "O(N) in the number of entries",
                usage: "[count:int]",
                tips: &["request_policy:all_nodes", "nondeterministic_output"],
                history: &[("4.0.0", "Entries hold the client's address and name.")],
                ..SUBCOMMAND
            },
            Handler::Admin(slowlog_get),
        ),
        Row::new(
            Command {
                name: "help",
                since: "6.2.0",
                summary: "Lists the subcommands of SLOWLOG.",
                flags: Flags::LOADING.union(Flags::STALE),
                ..SUBCOMMAND
            },
            Handler::Admin(slowlog_help),
        ),
        Row::new(
            Command {
                name: "len",
                summary: "Counts the entries of the slow log.",
                tips: &[
                    "request_policy:all_nodes",
                    "response_policy:agg_sum",
                    "nondeterministic_output",
                ],
                ..SUBCOMMAND
            },
            Handler::Admin(slowlog_len),
        ),
        Row::new(
            Command {
                name: "reset",
                summary: "Empties the slow log.",
                complexity: "O(N) in the number of entries",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SUBCOMMAND
            },
            Handler::Admin(slowlog_reset),
        ),
    ],
}];

const SUBCOMMAND: Command = Command {
    family: Family::Server,
    since: "2.2.12",
    flags: Flags::ADMIN.union(Flags::LOADING).union(Flags::STALE),
    ..Command::NEW
};

/// Entries shown when no number is given.
const DEFAULT_COUNT: usize = 10;

fn slowlog_get(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if args.remaining() > 1 {
        return Err(unknown_shape(args));
    }
    let count = match args.peek() {
        None => DEFAULT_COUNT,
        Some(count) => match number::parse_i64(count) {
            Some(-1) => usize::MAX,
            Some(count) if count >= 0 => count as usize,
            _ => {
                return Err(CommandError::fixed(
                    "ERR count should be greater than or equal to -1",
                ));
            }
        },
    };
    let entries = caller.server.slowlog.newest(count);
    reply.array(entries.len());
    entries.iter().for_each(|entry| write_entry(entry, reply));
    Ok(())
}

/// Redis's refusal of arguments that no form of a subcommand has.
fn unknown_shape(args: &Args<'_>) -> CommandError {
    let name = String::from_utf8_lossy(args.all().get(1).unwrap_or_default()).into_owned();
    CommandError::text_of(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try SLOWLOG HELP."
    ))
}

fn write_entry(entry: &SlowEntry, reply: &mut Reply<'_>) {
    reply.array(6);
    reply.integer(entry.id as i64);
    reply.integer(entry.at.seconds());
    reply.integer(entry.micros as i64);
    reply.array(entry.arguments.len());
    entry
        .arguments
        .iter()
        .for_each(|argument| reply.bulk(argument));
    reply.bulk(entry.addr.as_bytes());
    reply.bulk(entry.name.as_bytes());
}

fn slowlog_len(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    reply.integer(caller.server.slowlog.len() as i64);
    Ok(())
}

fn slowlog_reset(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    caller.server.slowlog.reset();
    reply.ok();
    Ok(())
}

fn slowlog_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(
        reply,
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    List the newest <count> entries (10 unless given, -1 for all). An entry is an",
            "    id, a Unix time, microseconds, the arguments, the client's address and its name.",
            "LEN",
            "    Count the entries.",
            "RESET",
            "    Forget all entries.",
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::admin::testing::Host;
    use crate::resp::decode::OwnedArguments;
    use crate::resp::reply::Protocol;

    fn add(host: &Host, words: &[&str], micros: u64) {
        let request = OwnedArguments::from(words);
        let now = host.server.clock.now();
        host.server
            .slowlog
            .add(now, micros, request.as_arguments(), "127.0.0.1:5", "me");
    }

    #[test]
    fn entries_newest_first() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(client.run("SLOWLOG GET"), "*0\r\n");
        add(&host, &["get", "k"], 12_000);
        add(&host, &["keys", "*"], 20_000);
        let keys = "*6\r\n:1\r\n:1700000000\r\n:20000\r\n*2\r\n$4\r\nkeys\r\n$1\r\n*\r\n$11\r\n127.0.0.1:5\r\n$2\r\nme\r\n";
        let get = "*6\r\n:0\r\n:1700000000\r\n:12000\r\n*2\r\n$3\r\nget\r\n$1\r\nk\r\n$11\r\n127.0.0.1:5\r\n$2\r\nme\r\n";
        for line in ["SLOWLOG GET", "SLOWLOG GET 5", "SLOWLOG GET -1"] {
            assert_eq!(client.run(line), format!("*2\r\n{keys}{get}"), "{line}");
        }
        client.session.protocol = Protocol::Resp3;
        assert_eq!(client.run("SLOWLOG GET 1"), format!("*1\r\n{keys}"));
        assert_eq!(client.run("SLOWLOG GET 0"), "*0\r\n");
        assert_eq!(client.run("SLOWLOG LEN"), ":2\r\n");
        assert_eq!(client.run("SLOWLOG RESET"), "+OK\r\n");
        assert_eq!(client.run("SLOWLOG LEN"), ":0\r\n");
        add(&host, &["get"], 1);
        assert!(
            client.run("SLOWLOG GET").starts_with("*1\r\n*6\r\n:2\r\n"),
            "numbers go on"
        );
    }

    #[test]
    fn ten_entries_unless_asked_and_no_more_than_kept() {
        let host = Host::new();
        let mut client = host.client();
        (0..200).for_each(|_| add(&host, &["get"], 1));
        assert!(client.run("SLOWLOG GET").starts_with("*10\r\n"));
        assert!(client.run("SLOWLOG GET -1").starts_with("*128\r\n"));
        host.server.slowlog.set_limit(3);
        assert_eq!(client.run("SLOWLOG LEN"), ":3\r\n");
    }

    #[test]
    fn refusals_in_the_words_of_redis() {
        let host = Host::new();
        let mut client = host.client();
        let range = "-ERR count should be greater than or equal to -1\r\n";
        for line in [
            "SLOWLOG GET -2",
            "SLOWLOG GET x",
            "SLOWLOG GET 9223372036854775808",
        ] {
            assert_eq!(client.run(line), range, "{line}");
        }
        assert_eq!(
            client.run("SLOWLOG Get -1 x"),
            "-ERR unknown subcommand or wrong number of arguments for 'Get'. Try SLOWLOG HELP.\r\n"
        );
        assert_eq!(
            client.run("SLOWLOG LEN x"),
            "-ERR wrong number of arguments for 'slowlog|len' command\r\n"
        );
    }
}
