//! The connection family: AUTH, ECHO, HELLO, PING, QUIT, RESET, SELECT.
//!
//! There is one user, `default`, whose password is `requirepass`. AUTH and HELLO compare it in constant time.

use std::sync::atomic::Ordering;

use subtle::ConstantTimeEq;

use super::info::mode;
use super::{Caller, Done, Handler};
use crate::base::version::REDIS_VERSION;
use crate::data::number;
use crate::resp::decode::Arguments;
use crate::resp::reply::{Protocol, Reply};
use crate::state::session::After;
use crate::table::{Args, Command, CommandError, Family, Flags, Row, Scope};

/// What greets, authenticates or leaves may be sent at any time.
const ALWAYS: Flags = Flags::NOSCRIPT
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST)
    .union(Flags::NO_AUTH)
    .union(Flags::ALLOW_BUSY);

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "auth",
            family: Family::Connection,
            since: "1.0.0",
            summary: "Proves with a password who the client is.",
            complexity: "O(N) in the length of the password.",
            usage: "[username@6.0.0] password",
            flags: ALWAYS.union(Flags::SENSITIVE),
            history: &[("6.0.0", "A user name may stand before the password.")],
            ..Command::NEW
        },
        Handler::Admin(auth),
    ),
    Row::new(
        Command {
            name: "echo",
            family: Family::Connection,
            since: "1.0.0",
            summary: "Answers with its argument.",
            usage: "message",
            flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
            ..Command::NEW
        },
        Handler::Admin(echo),
    ),
    Row::new(
        Command {
            name: "hello",
            family: Family::Connection,
            since: "6.0.0",
            summary: "Chooses the protocol, may authenticate and name the connection, and says who the server is.",
            usage: "arguments:[protover:int [AUTH (username password)] [SETNAME clientname]]",
            flags: ALWAYS.union(Flags::SENSITIVE).union(Flags::HANDSHAKE),
            secrets: Some(hello_secrets),
            history: &[("6.2.0", "Without a protocol it answers in the one in use.")],
            ..Command::NEW
        },
        Handler::Admin(hello),
    ),
    Row::new(
        Command {
            name: "ping",
            family: Family::Connection,
            since: "1.0.0",
            summary: "Answers PONG, or the message it was given.",
            usage: "[message]",
            flags: Flags::FAST.union(Flags::SUBSCRIBED),
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
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
            usage: "<-1>",
            flags: ALWAYS.union(Flags::SUBSCRIBED),
            ..Command::NEW
        },
        Handler::Ending(quit),
    ),
    Row::new(
        Command {
            name: "reset",
            family: Family::Connection,
            since: "6.2.0",
            summary: "Makes the connection as it was when it was new.",
            flags: ALWAYS.union(Flags::SUBSCRIBED),
            ..Command::NEW
        },
        Handler::Ending(reset),
    ),
    Row::new(
        Command {
            name: "select",
            family: Family::Connection,
            since: "1.0.0",
            summary: "Chooses the database that the connection's commands work on.",
            usage: "index:int",
            flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
            scope: Scope::Selects(selected),
            ..Command::NEW
        },
        Handler::Admin(select),
    ),
];

fn auth(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let first = args.bytes()?;
    let (user, password) = match args.peek() {
        Some(second) => (first, second),
        None if caller.server.needs_password() => (DEFAULT_USER, first),
        None => return Err(NO_PASSWORD_SET),
    };
    if args.remaining() > 1 {
        return Err(CommandError::Syntax);
    }
    authenticate(caller, user, password)?;
    reply.ok();
    Ok(())
}

/// The only user there is.
pub const DEFAULT_USER: &[u8] = b"default";

const NO_PASSWORD_SET: CommandError = CommandError::fixed(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is \
     correct?",
);

const WRONG_PASSWORD: CommandError =
    CommandError::fixed("WRONGPASS invalid username-password pair or user is disabled.");

/// Checks a password and lets the connection in. Without `requirepass` the default user takes any.
fn authenticate(caller: &mut Caller<'_>, user: &[u8], password: &[u8]) -> Done {
    let settings = caller.server.config.settings();
    let right = match &settings.requirepass {
        Some(secret) => bool::from(secret.0.as_bytes().ct_eq(password)),
        None => true,
    };
    if right && user == DEFAULT_USER {
        caller.session.authenticated = true;
        return Ok(());
    }
    caller.server.stats.auth_failures.add(1);
    Err(WRONG_PASSWORD)
}

fn echo(args: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let (message, large) = args.value()?;
    match large {
        Some(shared) => reply.bulk_shared(shared.clone()),
        None => reply.bulk(message),
    }
    Ok(())
}

/// What HELLO asks for.
#[derive(Default)]
struct Greeting<'a> {
    protocol: Option<Protocol>,
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<String>,
}

impl<'a> Greeting<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Self, CommandError> {
        let mut greeting = Greeting::default();
        if let Some(version) = args.peek() {
            args.bytes()?;
            greeting.protocol = Some(match number::parse_i64(version) {
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                Some(_) => return Err(NO_SUCH_PROTOCOL),
                None => return Err(NOT_A_PROTOCOL),
            });
        }
        while let Some(option) = args.peek() {
            if args.remaining() > 2 && args.keyword("AUTH") {
                greeting.credentials = Some((args.bytes()?, args.bytes()?));
            } else if args.remaining() > 1 && args.keyword("SETNAME") {
                greeting.name = Some(client_name(args.bytes()?)?);
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(CommandError::text_of(format!(
                    "ERR Syntax error in HELLO option '{option}'"
                )));
            }
        }
        Ok(greeting)
    }
}

const NO_SUCH_PROTOCOL: CommandError = CommandError::fixed("NOPROTO unsupported protocol version");
const NOT_A_PROTOCOL: CommandError =
    CommandError::fixed("ERR Protocol version is not an integer or out of range");
const HELLO_NEEDS_AUTH: CommandError = CommandError::fixed(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
     option can be used to authenticate the client and select the RESP protocol version at the same time",
);

fn hello(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let greeting = Greeting::parse(args)?;
    if let Some((user, password)) = greeting.credentials {
        authenticate(caller, user, password)?;
    }
    if !caller.session.authenticated {
        return Err(HELLO_NEEDS_AUTH);
    }
    let session = &mut *caller.session;
    if let Some(name) = greeting.name {
        session.client.labels.lock().name = name;
    }
    if let Some(protocol) = greeting.protocol {
        // Messages in the old protocol go before the answer in the new one.
        if let Some(mail) = session.set_protocol(protocol) {
            reply.output().append(mail);
        }
    }
    // The answer is the first in the new protocol.
    let mut reply = Reply::new(reply.output(), session.protocol);
    reply.map(7);
    let mut text = |name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text("server", "redis");
    text("version", REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(session.protocol_number().into());
    reply.bulk(b"id");
    reply.integer(session.client.id as i64);
    let mut text = |name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text("mode", mode(caller.sees_cluster));
    text("role", "master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

/// The two words after AUTH.
fn hello_secrets(request: &Arguments<'_>, position: usize) -> bool {
    let is_auth = |position: usize| {
        position > 1
            && request
                .get(position)
                .is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH"))
    };
    is_auth(position - 1) || is_auth(position.saturating_sub(2))
}

/// A name that a client gives itself, checked: what would break the lines of CLIENT LIST is refused.
pub fn client_name(name: &[u8]) -> Result<String, CommandError> {
    label(name).ok_or(CommandError::fixed(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

/// Text of printable ASCII without blanks.
pub fn label(text: &[u8]) -> Option<String> {
    text.iter()
        .all(u8::is_ascii_graphic)
        .then(|| String::from_utf8_lossy(text).into_owned())
}

fn ping(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if args.remaining() > 1 {
        return Err(CommandError::Arity("ping".into()));
    }
    if caller.session.is_subscribed() && caller.session.protocol == Protocol::Resp2 {
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(args.peek().unwrap_or_default());
        return Ok(());
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

fn reset(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    caller.server.monitors.remove(caller.session.client.id);
    caller.session.subscriptions = None;
    caller.session.tracker = None;
    if let Some(mail) = caller.session.client.take_mail() {
        reply.output().append(mail);
    }
    caller.session.reset(!caller.server.needs_password());
    reply.simple("RESET");
    Ok(())
}

/// The database that a request selects, if there is such a number at all.
fn selected(request: &Arguments<'_>) -> Option<u32> {
    let number = number::parse_i64(request.get(1)?)?;
    u32::try_from(number).ok()
}

fn select(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let number = args.integer()?;
    if i32::try_from(number).is_err() {
        return Err(CommandError::fixed(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    let database = u32::try_from(number)
        .ok()
        .filter(|number| (*number as usize) < caller.server.keyspace.database_count())
        .ok_or(CommandError::DatabaseOutOfRange)?;
    caller.session.database = database;
    caller
        .session
        .client
        .database
        .store(database, Ordering::Relaxed);
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Host;
    use crate::resp::decode::OwnedArguments;

    const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

    /// Without a password AUTH with one argument is an error, with two it takes any password of the default user.
    #[test]
    fn auth_without_password() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(
            client.run("AUTH x"),
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?\r\n"
        );
        assert_eq!(client.run("AUTH default x"), "+OK\r\n");
        assert_eq!(client.run("AUTH other x"), WRONG);
        assert_eq!(client.run("AUTH a b c"), "-ERR syntax error\r\n");
        assert_eq!(host.server.stats.auth_failures.value(), 1);
    }

    /// Only the whole password of the default user lets a connection in.
    #[test]
    fn auth_with_password() {
        let host = Host::with(&[("requirepass", "secret")]);
        let mut client = host.client();
        assert!(!client.session.authenticated);
        for wrong in ["", "secre", "secret1", "Secret"] {
            assert_eq!(client.run(&format!("AUTH \"{wrong}\"")), WRONG);
            assert_eq!(client.run(&format!("AUTH default \"{wrong}\"")), WRONG);
        }
        assert_eq!(client.run("AUTH other secret"), WRONG);
        assert!(!client.session.authenticated);
        assert_eq!(client.run("AUTH default secret"), "+OK\r\n");
        assert!(client.session.authenticated);
        // A later failure leaves the connection as it is, and RESET asks for the password again.
        assert_eq!(client.run("AUTH no"), WRONG);
        assert!(client.session.authenticated);
        assert_eq!(client.run("RESET"), "+RESET\r\n");
        assert!(!client.session.authenticated);
        assert_eq!(client.run("AUTH secret"), "+OK\r\n");
    }

    /// HELLO answers in the protocol that it chooses, and stays in it.
    #[test]
    fn hello_chooses_the_protocol() {
        let host = Host::new();
        let mut client = host.client();
        let fields = |proto: u8| {
            format!(
                "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n${}\r\n{REDIS_VERSION}\r\n$5\r\nproto\r\n:{proto}\r\n\
                 $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
                REDIS_VERSION.len()
            )
        };
        assert_eq!(client.run("HELLO"), format!("*14\r\n{}", fields(2)));
        assert_eq!(client.run("HELLO 3"), format!("%7\r\n{}", fields(3)));
        assert_eq!(client.run("HELLO"), format!("%7\r\n{}", fields(3)));
        assert_eq!(client.session.client.protocol.load(Ordering::Relaxed), 3);
        assert_eq!(client.run("HELLO 2"), format!("*14\r\n{}", fields(2)));
    }

    /// Refusals of HELLO, which change nothing: neither name nor protocol.
    #[test]
    fn hello_refusals() {
        let host = Host::with(&[("requirepass", "secret")]);
        let mut client = host.client();
        for (line, refusal) in [
            ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
            ("HELLO 1", "-NOPROTO unsupported protocol version\r\n"),
            (
                "HELLO x",
                "-ERR Protocol version is not an integer or out of range\r\n",
            ),
            ("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'\r\n"),
            (
                "HELLO 3 auth x",
                "-ERR Syntax error in HELLO option 'auth'\r\n",
            ),
            (
                "HELLO 3 SETNAME",
                "-ERR Syntax error in HELLO option 'SETNAME'\r\n",
            ),
            (
                "HELLO 3 SETNAME \"a b\" AUTH default secret",
                "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
            ),
            ("HELLO 3 SETNAME n AUTH default no", WRONG),
            (
                "HELLO 3 SETNAME n",
                "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time\r\n",
            ),
        ] {
            assert_eq!(client.run(line), refusal, "{line}");
            assert_eq!(client.session.protocol, Protocol::Resp2);
            assert_eq!(client.run("CLIENT GETNAME"), "$-1\r\n");
            assert!(!client.session.authenticated);
        }
        let greeting = client.run("HELLO 3 SETNAME n AUTH default secret");
        assert!(greeting.starts_with("%7\r\n"), "{greeting}");
        assert_eq!(client.run("CLIENT GETNAME"), "$1\r\nn\r\n");
        assert!(client.session.authenticated);
    }

    /// SELECT takes what there is, and RESET returns to 0 with all else that a connection may have set.
    #[test]
    fn select_and_reset() {
        let host = Host::with(&[]);
        let mut client = host.client();
        for (number, reply) in [
            ("15", "+OK\r\n"),
            ("16", "-ERR DB index is out of range\r\n"),
            ("-1", "-ERR DB index is out of range\r\n"),
            ("x", "-ERR value is not an integer or out of range\r\n"),
            (
                "2147483648",
                "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
            ),
        ] {
            assert_eq!(client.run(&format!("SELECT {number}")), reply);
        }
        assert_eq!(client.session.database, 15);
        for line in [
            "CLIENT NO-TOUCH ON",
            "CLIENT NO-EVICT ON",
            "CLIENT SETNAME n",
            "CLIENT SETINFO LIB-NAME lib",
            "MONITOR",
        ] {
            assert_eq!(client.run(line), "+OK\r\n");
        }
        assert_eq!(client.session.client.flag_letters(), "OeT");
        assert_eq!(client.run("HELLO 3").get(..4), Some("%7\r\n"));
        assert_eq!(client.run("RESET"), "+RESET\r\n");
        assert_eq!(client.session.client.flag_letters(), "N");
        assert!(!host.server.monitors.any());
        let session = &client.session;
        assert_eq!((session.database, session.protocol), (0, Protocol::Resp2));
        assert!(!session.no_touch && !session.no_evict && !session.monitor);
        assert_eq!(client.run("CLIENT GETNAME"), "$-1\r\n");
        assert_eq!(session_library(&client), "lib");
    }

    fn session_library(client: &crate::admin::testing::Connection) -> String {
        client.session.client.labels.lock().lib_name.clone()
    }

    /// QUIT is answered, whatever follows it, and ends the connection; ECHO and PING answer with what they were given.
    #[test]
    fn quit_echo_ping() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(client.run("ECHO \"\\x00\\r\\n\""), "$3\r\n\0\r\n\r\n");
        assert_eq!(client.run("PING"), "+PONG\r\n");
        assert_eq!(client.run("PING a"), "$1\r\na\r\n");
        assert_eq!(
            client.run("PING a b"),
            "-ERR wrong number of arguments for 'ping' command\r\n"
        );
        assert_eq!(client.session.after, After::Nothing);
        assert_eq!(client.run("QUIT now"), "+OK\r\n");
        assert_eq!(client.session.after, After::Close);
    }

    /// Of HELLO only the credentials are secret, of AUTH all.
    #[test]
    fn secrets() {
        let hidden = |line: &str| -> Vec<usize> {
            let words: Vec<&str> = line.split(' ').collect();
            let request = OwnedArguments::from(words.as_slice());
            let row = ROWS
                .iter()
                .find(|row| row.command.name.eq_ignore_ascii_case(words[0]))
                .expect("a row of this file");
            (0..words.len())
                .filter(|position| row.command.hides(&request.as_arguments(), *position))
                .collect()
        };
        assert_eq!(hidden("AUTH pw"), [1]);
        assert_eq!(hidden("AUTH user pw"), [1, 2]);
        assert_eq!(hidden("HELLO 3 auth user pw SETNAME x"), [3, 4]);
        assert_eq!(hidden("HELLO 3 SETNAME x AUTH user pw"), [5, 6]);
        assert_eq!(hidden("HELLO AUTH"), [0; 0]);
        assert_eq!(hidden("ECHO auth x"), [0; 0]);
    }
}
