//! Commands made from the usage lines of the table: right ones, and right ones with something wrong in them.

use std::collections::BTreeSet;

use quoit::table::lookup::{Entry, Table};
use quoit::table::usage::{Argument, Kind};

use crate::generate::{Generator, Request, put_off_expiry};
use crate::pair::Pair;
use crate::streams;

/// The oracle's version: arguments that came later are not made.
const ORACLE_VERSION: [u32; 3] = [7, 0, 15];

/// Commands that are not made at random, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("shutdown", "ends the server"),
    ("quit", "ends the connection"),
    ("reset", "changes the protocol"),
    ("hello", "changes the protocol"),
    ("auth", "may end what the connection may do"),
    ("monitor", "its connection gets what others send"),
    ("debug", "may stop the server on purpose"),
    (
        "client",
        "its replies describe the connection, or silence it",
    ),
    (
        "config",
        "parameters differ, and change what later steps do",
    ),
    ("command", "compared by the rows test"),
    ("info", "describes the process"),
    ("memory", "sizes are the allocator's"),
    ("latency", "durations"),
    ("slowlog", "durations"),
    ("lolwut", "art"),
    ("lastsave", "an instant"),
    ("role", "an offset of replication"),
    ("time", "the time"),
    ("wait", "blocks"),
    ("waitaof", "blocks"),
    (
        "lcs",
        "the product of two long strings; made by hand with short ones",
    ),
    (
        "dbsize",
        "Redis counts keys whose time is over; a step of its own",
    ),
    (
        "spop",
        "which members go is a matter of chance; a step of its own",
    ),
    ("scan", "cursors are not comparable; made by hand"),
    ("migrate", "sends to any address; tests of its own"),
    ("bzpopmin", "blocks"),
    ("bzpopmax", "blocks"),
    ("bzmpop", "blocks"),
    ("script|help", "our own words"),
    ("function|help", "our own words"),
    ("script|debug", "refused here"),
    ("object|help", "our own words"),
    ("pubsub|help", "our own words"),
    (
        "subscribe",
        "a reply for each channel; scripts of their own",
    ),
    ("psubscribe", "as subscribe"),
    ("ssubscribe", "as subscribe"),
    ("unsubscribe", "as subscribe"),
    ("punsubscribe", "as subscribe"),
    ("sunsubscribe", "as subscribe"),
    ("xgroup|help", "our own words"),
    ("xinfo|help", "our own words"),
    (
        "multi",
        "what is queued has replies in no order; sequences of their own",
    ),
    (
        "pfselftest",
        "half a second of work, and many in a debug build",
    ),
];

/// The table of the server under test, with no command renamed.
pub fn table() -> Table<()> {
    quoit::dispatch::directory()
}

/// A command to be made: its name as words, and its arguments.
pub struct Form {
    /// `get`, or `object|encoding`.
    pub name: String,
    arguments: Vec<Argument>,
}

/// What both servers know, but for what is left out.
pub fn forms(table: &Table<()>, knows: impl Fn(&Entry<()>) -> bool) -> Vec<Form> {
    let is_left_out = |name: &str| {
        LEFT_OUT
            .iter()
            .any(|(left_out, _)| name == *left_out || name.split('|').next() == Some(left_out))
    };
    let entries = table
        .entries()
        .iter()
        .filter(|entry| !entry.is_container() && !is_left_out(&entry.full_name) && knows(entry));
    entries
        .map(|entry| Form {
            name: entry.full_name.clone(),
            arguments: entry.arguments.clone(),
        })
        .collect()
}

/// The full names of all commands and subcommands of redis-server.
pub fn known_to_redis(pair: &Pair) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for command in pair.redis.client().run(&["COMMAND"]).items() {
        let fields = command.items();
        names.insert(fields[0].text());
        names.extend(
            fields[9]
                .items()
                .iter()
                .map(|subcommand| subcommand.items()[0].text()),
        );
    }
    names
}

impl Form {
    /// A request of this form; usually right.
    pub fn make(&self, g: &mut Generator) -> Request {
        let mut request: Request = self
            .name
            .split('|')
            .map(|word| g.pick(&[&word.to_ascii_uppercase()]))
            .collect();
        let names = request.len();
        sequence(&self.arguments, g, &mut request);
        spoil(g, &mut request, names);
        put_off_expiry(&mut request);
        request
    }
}

/// The arguments in order; the options after them in any order, some of them twice.
fn sequence(arguments: &[Argument], g: &mut Generator, request: &mut Request) {
    let first_option = arguments
        .iter()
        .rposition(|argument| !argument.optional)
        .map_or(0, |last| last + 1);
    let (fixed, options) = arguments.split_at(first_option);
    fixed.iter().for_each(|argument| one(argument, g, request));
    let mut options: Vec<&Argument> = options
        .iter()
        .filter(|option| g.rng.bool() || option.multiple)
        .collect();
    if g.once_in(3) {
        g.rng.shuffle(&mut options);
    }
    if g.once_in(12) && !options.is_empty() {
        options.push(options[g.rng.usize(0..options.len())]);
    }
    options
        .into_iter()
        .for_each(|option| present(option, g, request));
}

fn one(argument: &Argument, g: &mut Generator, request: &mut Request) {
    if !argument.optional || g.rng.bool() {
        present(argument, g, request);
    }
}

fn present(argument: &Argument, g: &mut Generator, request: &mut Request) {
    if !is_known_to_oracle(argument) {
        return;
    }
    let times = if argument.multiple {
        g.rng.usize(1..4)
    } else {
        1
    };
    for time in 0..times {
        if let Some(token) = argument
            .token
            .as_deref()
            .filter(|_| time == 0 || argument.multiple_token)
        {
            request.push(g.pick(&[token]));
        }
        content(argument, g, request);
    }
}

fn content(argument: &Argument, g: &mut Generator, request: &mut Request) {
    match argument.kind {
        Kind::Key => request.push(g.key()),
        Kind::Pattern => request.push(g.pick(&["*", "a*", "?", "[a-c]", "", "[", "\\"])),
        Kind::Integer => request.push(integer(argument, g)),
        Kind::Double => request.push(g.float()),
        Kind::UnixTime => request.push(g.pick(&[
            "1",
            "99999999999",
            "99999999999999",
            "0",
            "-1",
            "9223372036854775807",
            "x",
        ])),
        Kind::String => request.push(string(argument, g)),
        Kind::PureToken => {}
        Kind::Block => sequence(&argument.members, g, request),
        Kind::OneOf => {
            let known: Vec<&Argument> = argument
                .members
                .iter()
                .filter(|member| is_known_to_oracle(member))
                .collect();
            if !known.is_empty() {
                present(known[g.rng.usize(0..known.len())], g, request);
            }
        }
    }
}

/// Relative expiries are far, and never the same twice; other numbers are any.
fn integer(argument: &Argument, g: &mut Generator) -> Vec<u8> {
    match &*argument.name {
        "seconds" | "milliseconds" if g.once_in(6) => g.pick(&[
            "0",
            "-1",
            "9223372036854775807",
            "9223372036854775",
            "x",
            "",
        ]),
        "seconds" => g.rng.u32(1_000..100_000).to_string().into_bytes(),
        "milliseconds" => g.rng.u32(1_000_000..100_000_000).to_string().into_bytes(),
        "db" | "index" | "index1" | "index2" | "destination-db" => {
            g.pick(&["0", "1", "2", "3", "3", "16", "-1", "x"])
        }
        name => streams::argument(name, g).unwrap_or_else(|| g.integer()),
    }
}

fn string(argument: &Argument, g: &mut Generator) -> Vec<u8> {
    match &*argument.name {
        "encoding" => g.pick(&["u8", "i16", "u63", "i64", "u64", "u0", "i5"]),
        "offset" => g.pick(&["0", "#1", "7", "100", "-1", "#", "8388608"]),
        "operation" => g.pick(&["AND", "OR", "XOR", "NOT", "foo"]),
        "type" => g.pick(&["string", "list", "foo"]),
        name => streams::argument(name, g).unwrap_or_else(|| g.value()),
    }
}

fn is_known_to_oracle(argument: &Argument) -> bool {
    argument.since.as_deref().is_none_or(is_known_in)
}

/// Whether the oracle is at least this version.
pub fn is_known_in(since: &str) -> bool {
    version(since) <= ORACLE_VERSION
}

fn version(text: &str) -> [u32; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// Now and then something is wrong: an argument missing, doubled, foreign or in the wrong place.
fn spoil(g: &mut Generator, request: &mut Request, names: usize) {
    if request.len() == names || !g.once_in(5) {
        return;
    }
    let at = g.rng.usize(names..request.len());
    match g.rng.u8(0..5) {
        0 => drop(request.remove(at)),
        1 => request.insert(at, request[at].clone()),
        2 => request[at] = g.garbage(),
        3 => request.push(g.garbage()),
        _ => {
            let other = g.rng.usize(names..request.len());
            request.swap(at, other);
        }
    }
}
