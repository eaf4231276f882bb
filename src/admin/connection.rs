//! The connection family: AUTH, ECHO, HELLO, PING, QUIT, RESET, SELECT.

use super::{Caller, Done, Handler};
use crate::resp::reply::Reply;
use crate::state::session::After;
use crate::table::{Args, Command, CommandError, Family, Flags, Row};

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "ping",
            family: Family::Connection,
            since: "1.0.0",
            summary: "Answers PONG, or the message it was given.",
            usage: "[message]",
            flags: Flags::FAST,
            ..Command::NEW
        },
        Handler::Admin(ping),
    ),
    Row::new(
        Command {
            name: "quit",
            family: Family::Connection,
            since: "1.0.0",
            summary: "Closes the connection after its replies are sent.",
            flags: Flags::LOADING
                .union(Flags::STALE)
                .union(Flags::FAST)
                .union(Flags::NOSCRIPT)
                .union(Flags::NO_AUTH)
                .union(Flags::ALLOW_BUSY),
            ..Command::NEW
        },
        Handler::Admin(quit),
    ),
];

fn ping(args: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if args.remaining() > 1 {
        return Err(CommandError::Arity("ping".into()));
    }
    match args.peek() {
        Some(message) => reply.bulk(message),
        None => reply.simple("PONG"),
    }
    Ok(())
}

fn quit(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    caller.session.after = After::Close;
    reply.ok();
    Ok(())
}
