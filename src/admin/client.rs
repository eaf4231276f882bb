//! CLIENT: what connections are, what they call themselves, and how one acts on another.
//!
//! A line of CLIENT LIST has the fields of Redis 7.4 in its order. What has no counterpart here is 0: arguments are not kept
//! apart from the read buffer (`argv-mem`), replies have no buffer of fixed size (`rbs`, `rbp`) and no list (`oll`).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::connection::{DEFAULT_USER, client_name, label};
use super::{Caller, Done, Handler, help, timeout_ms, tracking};
use crate::base::clock::Millis;
use crate::base::worker::give_worker_away;
use crate::data::number;
use crate::resp::reply::{Mark, Reply};
use crate::state::Server;
use crate::state::clients::{Client, ClientKind, Unblock, client_flags};
use crate::state::pause::PauseMode;
use crate::state::session::{After, Asking, ReplyMode};
use crate::table::{Args, Command, CommandError, Family, Flags, Row};

/// Of all subcommands.
const PLAIN: Flags = Flags::LOADING
    .union(Flags::STALE)
    .union(Flags::KEEPS_CACHING);
/// Of those that scripts may not call.
const OWN: Flags = PLAIN.union(Flags::NOSCRIPT);
/// Of those that act on other clients.
const ADMIN: Flags = OWN.union(Flags::ADMIN);

/// A row of this family.
const fn row(
    command: Command,
    handler: fn(&mut Args<'_>, &mut Caller<'_>, &mut Reply<'_>) -> Done,
) -> Row<Handler> {
    Row::new(
        Command {
            family: Family::Connection,
            ..command
        },
        Handler::Admin(handler),
    )
}

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row {
    command: Command {
        name: "client",
        family: Family::Connection,
        since: "2.4.0",
        summary: "Holds the commands about connections.",
        complexity: "Depends on the subcommand.",
        // Newer clients ask at their start for subcommands that do not exist here.
        flags: Flags::HANDSHAKE,
        ..Command::NEW
    },
    handler: Handler::Container,
    subcommands: SUBCOMMANDS,
}];

const SUBCOMMANDS: &[Row<Handler>] = &[
    row(
        Command {
            name: "caching",
            since: "6.0.0",
            summary: "Says whether the keys of the next command are tracked.",
            usage: "mode:(YES|NO)",
            flags: OWN,
            ..Command::NEW
        },
        tracking::client_caching,
    ),
    row(
        Command {
            name: "capa",
            since: "8.0.0",
            summary: "Tells the server what the client can do; what is not known is passed over.",
            usage: "capability [capability ...]",
            flags: OWN.union(Flags::HANDSHAKE),
            ..Command::NEW
        },
        client_capa,
    ),
    row(
        Command {
            name: "getname",
            since: "2.6.9",
            summary: "Returns the connection's name.",
            flags: OWN,
            ..Command::NEW
        },
        client_getname,
    ),
    row(
        Command {
            name: "getredir",
            since: "6.0.0",
            summary: "Returns which client gets this connection's invalidation messages.",
            flags: OWN,
            ..Command::NEW
        },
        tracking::client_getredir,
    ),
    row(
        Command {
            name: "help",
            since: "5.0.0",
            summary: "Lists the subcommands of CLIENT.",
            flags: PLAIN,
            ..Command::NEW
        },
        client_help,
    ),
    row(
        Command {
            name: "id",
            since: "5.0.0",
            summary: "Returns the connection's number, which is never used twice.",
            flags: OWN,
            ..Command::NEW
        },
        client_id,
    ),
    row(
        Command {
            name: "info",
            since: "6.2.0",
            summary: "Describes this connection.",
            flags: OWN,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        client_info,
    ),
    row(
        Command {
            name: "kill",
            since: "2.4.0",
            summary: "Closes the connections that all of the filters fit.",
            complexity: "O(N) in the number of connections.",
            usage: "<-3> filter:('ip:port'@-2.8.12|new-format:([ID client-id:int@2.8.12]|[TYPE \
                    normal_master_slave_pubsub:(NORMAL|MASTER@3.2.0|SLAVE|REPLICA@5.0.0|PUBSUB)@2.8.12]|[USER username]|\
                    [ADDR 'ip:port']|[LADDR 'ip:port'@6.2.0]|[SKIPME yes/no]|[MAXAGE maxage:int@7.4.0])...)",
            flags: ADMIN,
            history: &[
                ("2.8.12", "Filters as pairs of a name and a value."),
                ("2.8.12", "The filter ID."),
                ("3.2.0", "The type master."),
                ("5.0.0", "The type replica, the later word for slave."),
                ("6.2.0", "The filter LADDR."),
                ("7.4.0", "The filter MAXAGE."),
                ("8.0.0", "ID takes several numbers."),
            ],
            ..Command::NEW
        },
        client_kill,
    ),
    row(
        Command {
            name: "list",
            since: "2.4.0",
            summary: "Describes all connections, one a line.",
            complexity: "O(N) in the number of connections.",
            usage: "[TYPE (NORMAL|MASTER|REPLICA|PUBSUB)@5.0.0] [ID id:(client-id:int [client-id ...])@6.2.0]",
            flags: ADMIN,
            tips: &["nondeterministic_output"],
            history: &[
                ("2.8.12", "The field id."),
                ("5.0.0", "The filter TYPE."),
                ("6.0.0", "The field user."),
                ("6.2.0", "The filter ID, and the field laddr."),
                ("7.0.0", "The fields resp, multi-mem, rbs and rbp."),
                ("7.0.3", "The field ssub."),
                ("7.2.0", "The fields lib-name and lib-ver."),
                ("7.4.0", "The field watch."),
            ],
            ..Command::NEW
        },
        client_list,
    ),
    row(
        Command {
            name: "no-evict",
            since: "7.0.0",
            summary: "Keeps the connection when clients are closed for the memory they use.",
            usage: "enabled:(ON|OFF)",
            flags: ADMIN,
            ..Command::NEW
        },
        client_no_evict,
    ),
    row(
        Command {
            name: "no-touch",
            since: "7.2.0",
            summary: "Lets this connection's commands leave no trace in the access times of keys.",
            usage: "enabled:(ON|OFF)",
            flags: OWN,
            ..Command::NEW
        },
        client_no_touch,
    ),
    row(
        Command {
            name: "pause",
            since: "2.9.50",
            summary: "Holds back the commands of all clients for a time.",
            usage: "timeout:int mode:[WRITE|ALL]@6.2.0",
            flags: ADMIN,
            history: &[(
                "6.2.0",
                "WRITE holds back only what may write; the time is then not shortened.",
            )],
            ..Command::NEW
        },
        client_pause,
    ),
    row(
        Command {
            name: "reply",
            since: "3.2.0",
            summary: "Says whether the server answers this connection.",
            usage: "(ON|OFF|SKIP)",
            flags: OWN,
            ..Command::NEW
        },
        client_reply,
    ),
    row(
        Command {
            name: "setinfo",
            since: "7.2.0",
            summary: "Tells which library the client is written with.",
            usage: "attr:(LIB-NAME libname|LIB-VER libver)",
            flags: OWN.union(Flags::HANDSHAKE),
            ..Command::NEW
        },
        client_setinfo,
    ),
    row(
        Command {
            name: "setname",
            since: "2.6.9",
            summary: "Gives the connection a name.",
            usage: "connection-name",
            flags: OWN.union(Flags::HANDSHAKE),
            ..Command::NEW
        },
        client_setname,
    ),
    row(
        Command {
            name: "tracking",
            since: "6.0.0",
            summary: "Tells the connection when keys change of which it may keep copies.",
            complexity: "O(1). With prefixes O(N) in their number, when it begins and when it ends.",
            usage: "status:(ON|OFF) [REDIRECT client-id:int] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
            flags: OWN,
            ..Command::NEW
        },
        tracking::client_tracking,
    ),
    row(
        Command {
            name: "trackinginfo",
            since: "6.2.0",
            summary: "Describes how the keys this connection reads are tracked.",
            flags: OWN,
            ..Command::NEW
        },
        tracking::client_trackinginfo,
    ),
    row(
        Command {
            name: "unblock",
            since: "5.0.0",
            summary: "Ends the wait of a client that is blocked by a command.",
            complexity: "O(log N) in the number of connections.",
            usage: "client-id:int [TIMEOUT|ERROR]",
            flags: ADMIN,
            ..Command::NEW
        },
        client_unblock,
    ),
    row(
        Command {
            name: "unpause",
            since: "6.2.0",
            summary: "Ends the pause that CLIENT PAUSE began.",
            complexity: "O(N) in the number of connections that wait.",
            flags: ADMIN,
            ..Command::NEW
        },
        client_unpause,
    ),
];

fn client_capa(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    reply.ok();
    Ok(())
}

fn client_getname(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let labels = caller.session.client.labels.lock();
    match labels.name.as_str() {
        "" => reply.null(),
        name => reply.bulk(name.as_bytes()),
    }
    Ok(())
}

fn client_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(reply, "CLIENT", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "CACHING (YES|NO)",
    "    Say whether the keys of the next command are tracked (OPTIN, OPTOUT).",
    "CAPA <capability> [<capability> ...]",
    "    Tell what the client is capable of.",
    "GETNAME",
    "    Show the name of this connection.",
    "GETREDIR",
    "    Show which client gets the invalidation messages of this connection.",
    "ID",
    "    Show the number of this connection.",
    "INFO",
    "    Describe this connection.",
    "KILL <ip:port>",
    "    Close the connection that comes from <ip:port>.",
    "KILL <filter> <value> [<filter> <value> [...]]",
    "    Close the connections that all filters fit. Filters are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Where the connection comes from.",
    "    * ID <id> [<id> ...]",
    "      Its number is one of these.",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Where it arrived.",
    "    * MAXAGE <seconds>",
    "      It is at least so old.",
    "    * SKIPME (YES|NO)",
    "      Whether this connection is spared (default: yes).",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      What it is used for.",
    "    * USER <username>",
    "      Who it belongs to.",
    "LIST [<filter> ...]",
    "    Describe all connections. Filters are:",
    "    * ID <id> [<id> ...]",
    "      Their numbers.",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      What they are used for.",
    "NO-EVICT (ON|OFF)",
    "    Keep this connection when clients use too much memory.",
    "NO-TOUCH (ON|OFF)",
    "    Leave the access times of keys alone.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Hold back commands, or only those that write, for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Say whether this connection gets replies.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Tell the name or the version of the client library.",
    "SETNAME <name>",
    "    Name this connection.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
    "         [OPTIN] [OPTOUT] [NOLOOP]",
    "    Be told when keys change of which this connection may keep copies.",
    "TRACKINGINFO",
    "    Describe how this connection's keys are tracked.",
    "UNBLOCK <id> [TIMEOUT|ERROR]",
    "    Wake a client that a command blocks.",
    "UNPAUSE",
    "    End a pause.",
];

fn client_id(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    reply.integer(caller.session.client.id as i64);
    Ok(())
}

fn client_info(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let mut text = String::new();
    describe(caller.server, &caller.session.client, caller.now, &mut text);
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// One line of CLIENT LIST.
fn describe(server: &Server, client: &Client, now: Millis, text: &mut String) {
    let load = |value: &std::sync::atomic::AtomicUsize| value.load(Ordering::Relaxed);
    let (query, free, output) = (
        load(&client.query_bytes),
        load(&client.query_free),
        load(&client.output_bytes),
    );
    let last = Millis(client.last_interaction.load(Ordering::Relaxed));
    let command = match client.last_command.load(Ordering::Relaxed) {
        u16::MAX => "NULL",
        id => &server.commands.entry(id).full_name,
    };
    let labels = client.labels.lock().clone();
    writeln!(
        text,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} watch={} \
         qbuf={query} qbuf-free={free} argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={output} oll=0 omem={output} tot-mem={} \
         events={} cmd={command} user=default redir={} resp={} lib-name={} lib-ver={}",
        client.id,
        client.addr,
        client.laddr,
        client.fd,
        labels.name,
        now.since(client.created).max(0) / 1000,
        now.since(last).max(0) / 1000,
        client.flag_letters(),
        client.database.load(Ordering::Relaxed),
        client.subscriptions[0].load(Ordering::Relaxed),
        client.subscriptions[1].load(Ordering::Relaxed),
        client.subscriptions[2].load(Ordering::Relaxed),
        client.queued.load(Ordering::Relaxed),
        client.watched.load(Ordering::Relaxed),
        client.memory_bytes(),
        if output > 0 { "rw" } else { "r" },
        client.redirection(),
        client.protocol.load(Ordering::Relaxed),
        labels.lib_name,
        labels.lib_ver,
    )
    .expect("writing to a String cannot fail");
}

/// The kind that TYPE names.
fn kind(name: &[u8]) -> Result<ClientKind, CommandError> {
    const NAMES: [(&str, ClientKind); 5] = [
        ("normal", ClientKind::Normal),
        ("slave", ClientKind::Replica),
        ("replica", ClientKind::Replica),
        ("pubsub", ClientKind::Pubsub),
        ("master", ClientKind::Master),
    ];
    let known = |(known, _): &&(&str, ClientKind)| name.eq_ignore_ascii_case(known.as_bytes());
    NAMES
        .iter()
        .find(known)
        .map(|(_, kind)| *kind)
        .ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            CommandError::text_of(format!("ERR Unknown client type '{name}'"))
        })
}

/// Which connections CLIENT KILL closes: those that all filters fit.
#[derive(Default)]
struct Filter<'a> {
    /// Empty: all. A set, since there may be a million.
    ids: BTreeSet<u64>,
    kind: Option<ClientKind>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    /// 0: of any age.
    min_age_seconds: i64,
    spares_caller: bool,
}

impl<'a> Filter<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Self, CommandError> {
        let mut filter = Filter {
            spares_caller: true,
            ..Filter::default()
        };
        while !args.is_empty() {
            // A name without a value is no filter.
            if args.remaining() < 2 {
                return Err(CommandError::Syntax);
            }
            filter.parse_one(args)?;
        }
        Ok(filter)
    }

    fn parse_one(&mut self, args: &mut Args<'a>) -> Done {
        if args.keyword("ID") {
            self.ids.insert(client_number(args.bytes()?)?);
            while let Some(next) = args.peek().filter(|next| number::parse_i64(next).is_some()) {
                args.bytes()?;
                self.ids.insert(client_number(next)?);
            }
        } else if args.keyword("TYPE") {
            self.kind = Some(kind(args.bytes()?)?);
        } else if args.keyword("ADDR") {
            self.addr = Some(args.bytes()?);
        } else if args.keyword("LADDR") {
            self.laddr = Some(args.bytes()?);
        } else if args.keyword("USER") {
            let user = args.bytes()?;
            if user != DEFAULT_USER {
                let user = String::from_utf8_lossy(user);
                return Err(CommandError::text_of(format!("ERR No such user '{user}'")));
            }
        } else if args.keyword("MAXAGE") {
            self.min_age_seconds = max_age(args.bytes()?)?;
        } else if args.keyword("SKIPME") {
            self.spares_caller = match args.bytes()? {
                yes if yes.eq_ignore_ascii_case(b"yes") => true,
                no if no.eq_ignore_ascii_case(b"no") => false,
                _ => return Err(CommandError::Syntax),
            };
        } else {
            return Err(CommandError::Syntax);
        }
        Ok(())
    }

    fn fits(&self, client: &Client, now: Millis) -> bool {
        self.addr.is_none_or(|addr| addr == client.addr.as_bytes())
            && self
                .laddr
                .is_none_or(|laddr| laddr == client.laddr.as_bytes())
            && self.kind.is_none_or(|kind| kind == client.kind())
            && (self.ids.is_empty() || self.ids.contains(&client.id))
            && (self.min_age_seconds == 0
                || now.since(client.created) / 1000 >= self.min_age_seconds)
    }
}

fn client_number(text: &[u8]) -> Result<u64, CommandError> {
    number::parse_i64(text)
        .filter(|id| *id > 0)
        .map(i64::unsigned_abs)
        .ok_or(CommandError::fixed(
            "ERR client-id should be greater than 0",
        ))
}

fn max_age(text: &[u8]) -> Result<i64, CommandError> {
    match number::parse_i64(text) {
        None => Err(CommandError::fixed(
            "ERR maxage is not an integer or out of range",
        )),
        Some(..=0) => Err(CommandError::fixed("ERR maxage should be greater than 0")),
        Some(seconds) => Ok(seconds),
    }
}

fn client_kill(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    // The old form names an address alone and may close the caller's own connection.
    if args.remaining() == 1 {
        let filter = Filter {
            addr: Some(args.bytes()?),
            ..Filter::default()
        };
        if kill(caller, &filter) == 0 {
            return Err(CommandError::fixed("ERR No such client"));
        }
        reply.ok();
        return Ok(());
    }
    let filter = Filter::parse(args)?;
    reply.integer(kill(caller, &filter));
    Ok(())
}

/// Closes what fits and says how many; the caller itself after its reply.
fn kill(caller: &mut Caller<'_>, filter: &Filter<'_>) -> i64 {
    let mut killed = 0;
    let mut waiting = Vec::new();
    for client in caller.server.clients.snapshot() {
        let own = client.id == caller.session.client.id;
        if !filter.fits(&client, caller.now) || own && filter.spares_caller {
            continue;
        }
        if own {
            client.set_flag(client_flags::CLOSE_AFTER_REPLY, true);
            caller.session.after = After::Close;
        } else {
            client.kill(false);
            if client.waits_at_peer() {
                waiting.push(client);
            }
        }
        killed += 1;
    }
    // What the caller sends next does not serve who is killed.
    if !waiting.is_empty() {
        ask_peers(caller, None, waiting, false);
    }
    killed
}

/// Has the peers asked at which clients wait, behind this command, or the transaction that it is in. `false`: the connection
/// does something else then.
fn ask_peers(
    caller: &mut Caller<'_>,
    mark: Option<Mark>,
    clients: Vec<Arc<Client>>,
    with_error: bool,
) -> bool {
    let session = &mut caller.session;
    let can_ask = matches!(session.after, After::Nothing | After::Unblock);
    if can_ask {
        session.asking.push(Asking {
            mark,
            clients,
            with_error,
        });
        session.after = After::Unblock;
    }
    can_ask
}

fn client_list(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let clients = listed(args, caller.server)?;
    let lines = || {
        let mut text = String::new();
        for client in &clients {
            describe(caller.server, client, caller.now, &mut text);
        }
        text
    };
    let text = if clients.len() > MANY_CLIENTS {
        give_worker_away(lines)
    } else {
        lines()
    };
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Lines whose writing takes about a millisecond.
const MANY_CLIENTS: usize = 512;

/// The connections that CLIENT LIST shows.
fn listed(args: &mut Args<'_>, server: &Server) -> Result<Vec<Arc<Client>>, CommandError> {
    if args.is_empty() {
        return Ok(server.clients.snapshot());
    }
    if args.remaining() == 2 && args.keyword("TYPE") {
        let kind = kind(args.bytes()?)?;
        let mut clients = server.clients.snapshot();
        clients.retain(|client| client.kind() == kind);
        return Ok(clients);
    }
    if args.remaining() > 1 && args.keyword("ID") {
        let ids: Option<Vec<i64>> = args.rest().map(number::parse_i64).collect();
        let ids = ids.ok_or(CommandError::fixed("ERR Invalid client ID"))?;
        let found = ids
            .into_iter()
            .filter_map(|id| server.clients.get(u64::try_from(id).ok()?));
        return Ok(found.collect());
    }
    Err(CommandError::Syntax)
}

/// Takes ON or OFF.
fn on_off(args: &mut Args<'_>) -> Result<bool, CommandError> {
    if args.keyword("ON") {
        Ok(true)
    } else if args.keyword("OFF") {
        Ok(false)
    } else {
        Err(CommandError::Syntax)
    }
}

fn client_no_evict(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let on = on_off(args)?;
    caller.session.no_evict = on;
    caller.session.client.set_flag(client_flags::NO_EVICT, on);
    reply.ok();
    Ok(())
}

fn client_no_touch(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let on = on_off(args)?;
    caller.session.no_touch = on;
    caller.session.client.set_flag(client_flags::NO_TOUCH, on);
    reply.ok();
    Ok(())
}

fn client_pause(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if args.remaining() > 2 {
        return Err(CommandError::subcommand_syntax(
            "CLIENT",
            args.all().get(1).unwrap_or_default(),
        ));
    }
    let timeout = args.bytes()?;
    let mode = if args.is_empty() || args.keyword("ALL") {
        PauseMode::All
    } else if args.keyword("WRITE") {
        PauseMode::Write
    } else {
        return Err(CommandError::fixed(
            "ERR CLIENT PAUSE mode must be WRITE or ALL",
        ));
    };
    let end = caller.now.plus(timeout_ms(timeout, caller.now)?);
    caller.server.pause.begin(mode, end, caller.now);
    reply.ok();
    Ok(())
}

fn client_reply(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let session = &mut *caller.session;
    if args.keyword("ON") {
        session.reply_mode = ReplyMode::On;
        reply.ok();
    } else if args.keyword("OFF") {
        session.reply_mode = ReplyMode::Off;
    } else if args.keyword("SKIP") {
        if session.reply_mode != ReplyMode::Off {
            session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(())
}

fn client_setinfo(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let attribute = args.bytes()?;
    let is_name = attribute.eq_ignore_ascii_case(b"LIB-NAME");
    if !is_name && !attribute.eq_ignore_ascii_case(b"LIB-VER") {
        let attribute = String::from_utf8_lossy(attribute);
        return Err(CommandError::text_of(format!(
            "ERR Unrecognized option '{attribute}'"
        )));
    }
    let value = label(args.bytes()?).ok_or_else(|| {
        let attribute = String::from_utf8_lossy(attribute);
        CommandError::text_of(format!(
            "ERR {attribute} cannot contain spaces, newlines or special characters."
        ))
    })?;
    let mut labels = caller.session.client.labels.lock();
    if is_name {
        labels.lib_name = value;
    } else {
        labels.lib_ver = value;
    }
    reply.ok();
    Ok(())
}

fn client_setname(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let name = client_name(args.bytes()?)?;
    caller.session.client.labels.lock().name = name;
    reply.ok();
    Ok(())
}

fn client_unblock(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let id = args.bytes()?;
    let with_error = if args.is_empty() || args.keyword("TIMEOUT") {
        false
    } else if args.keyword("ERROR") {
        true
    } else {
        return Err(CommandError::fixed(
            "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
        ));
    };
    let id = number::parse_i64(id).ok_or(CommandError::NotInteger)?;
    let clients = caller.server.clients.snapshot();
    let found = clients.iter().find(|client| client.id as i64 == id);
    // Who waits for the end of a pause cannot be woken, as in Redis.
    match found {
        // The peer at which it waits says what came of it.
        Some(client)
            if client.waits_at_peer()
                && ask_peers(
                    caller,
                    Some(reply.mark()),
                    vec![Arc::clone(client)],
                    with_error,
                ) =>
        {
            reply.integer(0);
        }
        Some(client) => match client.unblock(with_error) {
            Unblock::Done(is_unblocked) => reply.integer(i64::from(is_unblocked)),
            Unblock::Asked(_) => reply.integer(1),
        },
        None => reply.integer(0),
    }
    Ok(())
}

fn client_unpause(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    caller.server.pause.end();
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::testing::{Connection, Host};

    /// The line has the fields of Redis 7.4 in its order.
    #[test]
    fn fields_of_client_info() {
        let host = Host::new();
        let mut client = host.client();
        client.run("CLIENT SETNAME me");
        client.run("CLIENT SETINFO LIB-NAME lib");
        client.run("CLIENT SETINFO LIB-VER 1.2");
        client.run("SELECT 3");
        host.server.clock.advance(Duration::from_millis(2_500));
        let text = client.run("CLIENT INFO");
        let line = text.split("\r\n").nth(1).expect("a bulk string");
        let names: Vec<&str> = line
            .trim_end()
            .split(' ')
            .map(|field| field.split('=').next().unwrap_or_default())
            .collect();
        let expected = "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem rbs \
            rbp obl oll omem tot-mem events cmd user redir resp lib-name lib-ver";
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
        assert!(
            line.starts_with(
                "id=1 addr=127.0.0.1:1001 laddr=127.0.0.1:6379 fd=3 name=me age=2 idle=2 flags=N db=3 sub=0 "
            ),
            "{line}"
        );
        assert!(
            line.ends_with(
                " events=r cmd=NULL user=default redir=-1 resp=2 lib-name=lib lib-ver=1.2\n"
            ),
            "{line}"
        );
        client.run("HELLO 3");
        assert!(
            client.run("CLIENT INFO").starts_with('='),
            "a verbatim string in RESP3"
        );
    }

    /// Names and library names hold nothing that would break a line; an empty one takes the name away.
    #[test]
    fn names() {
        let host = Host::new();
        let mut client = host.client();
        for bad in ["a b", "a\\n", "\\x00", "\\x7f", "\\xff"] {
            assert_eq!(
                client.run(&format!("CLIENT SETNAME \"{bad}\"")),
                "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
            );
            assert_eq!(
                client.run(&format!("CLIENT SETINFO Lib-Ver \"{bad}\"")),
                "-ERR Lib-Ver cannot contain spaces, newlines or special characters.\r\n"
            );
        }
        assert_eq!(
            client.run("CLIENT SETINFO x y"),
            "-ERR Unrecognized option 'x'\r\n"
        );
        assert_eq!(client.run("CLIENT SETNAME !~"), "+OK\r\n");
        assert_eq!(client.run("CLIENT GETNAME"), "$2\r\n!~\r\n");
        assert_eq!(client.run("CLIENT SETNAME \"\""), "+OK\r\n");
        assert_eq!(client.run("CLIENT GETNAME"), "$-1\r\n");
    }

    fn is_killed(client: &Connection) -> bool {
        client.session.client.killed().is_some()
    }

    /// Every filter alone, filters together, and the old form, which may hit the caller.
    #[test]
    fn kill_filters() {
        let host = Host::new();
        // Runs a KILL on four fresh connections, the last being older; tells which of them it closed.
        let killed = |line: &str| {
            let mut others: Vec<Connection> = (0..4).map(|_| host.client()).collect();
            let first = others[0].session.client.id;
            host.server.clock.advance(Duration::from_secs(100));
            let mut caller = host.client();
            others[1].session.client.set_kind(ClientKind::Pubsub);
            others[2].session.client.set_kind(ClientKind::Replica);
            let line = line
                .replace("$0", &first.to_string())
                .replace("$3", &(first + 3).to_string())
                .replace("@0", &others[0].session.client.addr)
                .replace("@me", &caller.session.client.addr);
            let reply = caller.run(&line);
            let mut hit: String = (0..4)
                .filter(|&at| is_killed(&others[at]))
                .map(|at| at.to_string())
                .collect();
            if caller.session.after == After::Close {
                hit.push('c');
            }
            others.push(caller);
            for client in others {
                host.server.clients.remove(client.session.client.id);
            }
            format!("{} {hit}", reply.trim_end())
        };
        for (line, expected) in [
            ("CLIENT KILL @0", "+OK 0"),
            ("CLIENT KILL @me", "+OK c"),
            ("CLIENT KILL 1.1.1.1:1", "-ERR No such client "),
            ("CLIENT KILL ADDR @0", ":1 0"),
            ("CLIENT KILL ADDR @me", ":0 "),
            ("CLIENT KILL ADDR @me SKIPME no", ":1 c"),
            ("CLIENT KILL ID $0", ":1 0"),
            ("CLIENT KILL ID $0 $3", ":2 03"),
            ("CLIENT KILL ID $0 $3 TYPE pubsub", ":0 "),
            ("CLIENT KILL ID 99999", ":0 "),
            ("CLIENT KILL TYPE pubsub", ":1 1"),
            ("CLIENT KILL TYPE slave", ":1 2"),
            ("CLIENT KILL TYPE replica LADDR 127.0.0.1:6379", ":1 2"),
            ("CLIENT KILL TYPE master", ":0 "),
            ("CLIENT KILL TYPE normal SKIPME no", ":3 03c"),
            ("CLIENT KILL LADDR 127.0.0.1:1", ":0 "),
            ("CLIENT KILL USER default MAXAGE 100", ":4 0123"),
            ("CLIENT KILL MAXAGE 101", ":0 "),
            ("CLIENT KILL SKIPME yes", ":4 0123"),
            ("CLIENT KILL USER bob", "-ERR No such user 'bob' "),
        ] {
            assert_eq!(killed(line), expected, "{line}");
        }
    }

    /// A request may name very many numbers: each connection is looked up in them once.
    #[test]
    fn kill_by_many_ids() {
        let host = Host::new();
        let mut caller = host.client();
        let others: Vec<Connection> = (0..500).map(|_| host.client()).collect();
        let ids: Vec<String> = (400..100_400).rev().map(|id| id.to_string()).collect();
        // Numbers run from 1, the caller's own, to 501.
        assert_eq!(
            caller.run(&format!("CLIENT KILL ID {}", ids.join(" "))),
            ":102\r\n"
        );
        assert_eq!(
            others.iter().filter(|client| is_killed(client)).count(),
            102
        );
    }

    /// Refusals, as redis-server 7.0.15 words them.
    #[test]
    fn refusals() {
        let host = Host::new();
        let mut client = host.client();
        for (line, text) in [
            ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID x", "ERR client-id should be greater than 0"),
            (
                "CLIENT KILL ID 1 0",
                "ERR client-id should be greater than 0",
            ),
            ("CLIENT KILL ID 99 ID", "ERR syntax error"),
            ("CLIENT KILL TYPE x", "ERR Unknown client type 'x'"),
            (
                "CLIENT KILL MAXAGE x",
                "ERR maxage is not an integer or out of range",
            ),
            (
                "CLIENT KILL MAXAGE 0",
                "ERR maxage should be greater than 0",
            ),
            ("CLIENT KILL SKIPME x", "ERR syntax error"),
            ("CLIENT KILL x y", "ERR syntax error"),
            (
                "CLIENT KILL",
                "ERR wrong number of arguments for 'client|kill' command",
            ),
            ("CLIENT LIST TYPE x", "ERR Unknown client type 'x'"),
            ("CLIENT LIST TYPE", "ERR syntax error"),
            ("CLIENT LIST ID", "ERR syntax error"),
            ("CLIENT LIST ID 1 x", "ERR Invalid client ID"),
            ("CLIENT LIST x", "ERR syntax error"),
            ("CLIENT NO-EVICT x", "ERR syntax error"),
            ("CLIENT NO-TOUCH x", "ERR syntax error"),
            ("CLIENT REPLY x", "ERR syntax error"),
            (
                "CLIENT PAUSE x",
                "ERR timeout is not an integer or out of range",
            ),
            ("CLIENT PAUSE -1", "ERR timeout is negative"),
            (
                "CLIENT PAUSE 9223372036854775807",
                "ERR timeout is out of range",
            ),
            (
                "CLIENT PAUSE 1 x",
                "ERR CLIENT PAUSE mode must be WRITE or ALL",
            ),
            (
                "CLIENT UNBLOCK x",
                "ERR value is not an integer or out of range",
            ),
            (
                "CLIENT UNBLOCK 1 x",
                "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ),
        ] {
            assert_eq!(client.run(line), format!("-{text}\r\n"), "{line}");
        }
        assert_eq!(host.server.pause.mode(), PauseMode::Off);
    }

    /// LIST shows all, those of a type, or those of the numbers in the order given.
    #[test]
    fn list_filters() {
        let host = Host::new();
        let (mut first, second) = (host.client(), host.client());
        second.session.client.set_kind(ClientKind::Pubsub);
        let mut ids = |line: &str| {
            let text = first.run(line);
            let ids: Vec<String> = text
                .lines()
                .filter_map(|line| Some(line.strip_prefix("id=")?.split(' ').next()?.to_owned()))
                .collect();
            ids.join(" ")
        };
        assert_eq!(ids("CLIENT LIST"), "1 2");
        assert_eq!(ids("CLIENT LIST TYPE pubsub"), "2");
        assert_eq!(ids("CLIENT LIST TYPE normal"), "1");
        assert_eq!(ids("CLIENT LIST TYPE master"), "");
        assert_eq!(ids("CLIENT LIST ID 2 99 -1 1"), "2 1");
    }

    /// The order of REPLY's modes; suppression itself is dispatch's.
    #[test]
    fn reply_modes() {
        let host = Host::new();
        let mut client = host.client();
        for (line, reply, mode) in [
            ("CLIENT REPLY SKIP", "", ReplyMode::SkipNext),
            ("CLIENT REPLY ON", "+OK\r\n", ReplyMode::On),
            ("CLIENT REPLY OFF", "", ReplyMode::Off),
            // SKIP does not end OFF.
            ("CLIENT REPLY SKIP", "", ReplyMode::Off),
            ("CLIENT REPLY ON", "+OK\r\n", ReplyMode::On),
        ] {
            assert_eq!(client.run(line), reply);
            assert_eq!(client.session.reply_mode, mode);
        }
    }

    /// PAUSE lasts, is lengthened and strengthened by a second one, and ends by UNPAUSE or by itself.
    #[test]
    fn pause() {
        let host = Host::new();
        let mut client = host.client();
        let left = |host: &Host| host.server.pause.left_ms(host.server.clock.now());
        assert_eq!(client.run("CLIENT PAUSE 1000 WRITE"), "+OK\r\n");
        assert_eq!(
            (host.server.pause.mode(), left(&host)),
            (PauseMode::Write, 1000)
        );
        assert_eq!(client.run("CLIENT PAUSE 500"), "+OK\r\n");
        assert_eq!(
            (host.server.pause.mode(), left(&host)),
            (PauseMode::All, 1000)
        );
        assert_eq!(client.run("CLIENT UNPAUSE"), "+OK\r\n");
        assert_eq!((host.server.pause.mode(), left(&host)), (PauseMode::Off, 0));
        assert_eq!(client.run("CLIENT PAUSE 100 all"), "+OK\r\n");
        host.server.clock.advance(Duration::from_millis(100));
        assert_eq!((left(&host), host.server.pause.mode()), (0, PauseMode::Off));
    }

    /// Nobody is blocked, and what the client can do is passed over.
    #[test]
    fn unblock_and_capa() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(client.run("CLIENT UNBLOCK 1 ERROR"), ":0\r\n");
        assert_eq!(client.run("CLIENT CAPA redirect anything"), "+OK\r\n");
    }

    /// HELP names every subcommand of the family, its own included.
    #[test]
    fn help_is_complete() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(client.run("CLIENT ID"), ":1\r\n");
        assert_eq!(host.client().run("CLIENT ID"), ":2\r\n");
        let help = client.run("CLIENT HELP");
        assert!(help.starts_with(&format!(
            "*{}\r\n+CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n",
            HELP.len() + 3
        )));
        for row in SUBCOMMANDS {
            let line = format!("\r\n+{}", row.command.name.to_ascii_uppercase());
            assert!(help.contains(&line), "{}", row.command.name);
        }
    }
}
