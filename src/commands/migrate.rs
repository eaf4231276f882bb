//! MIGRATE: keys go to another server.
//!
//! Nothing is locked while that server is waited for, so it takes three steps:
//!
//! 1. here, locked: the request is read, and of each key that is there a snapshot is taken ([`Migration`]);
//! 2. in the connection: each goes out as a RESTORE, and the replies are read;
//! 3. here, locked again ([`finish`]): the keys that arrived are removed, except those that changed since the first step.
//!    These stay, and the reply says so: removing them would lose the change. (Redis stops everybody for as long.)

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Handler;
use crate::base::clock::Millis;
use crate::base::hash::KeyHasher;
use crate::data::dump;
use crate::data::number;
use crate::data::value::{Value, ValueRef};
use crate::keyspace::effects::EventClass;
use crate::keyspace::entry::Entry;
use crate::keyspace::view::View;
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{
    Args, Category, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope,
};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[Row::new(
    Command {
        name: "migrate",
        family: Family::Generic,
        since: "2.6.0",
        summary: "Moves keys to another server, or copies them there.",
        complexity: "O(N) in the size of the values, here and there",
        usage: "host port:int key_or_empty_string:(key|empty_string='') destination-db:int timeout:int [COPY@3.0.0] [REPLACE@3.0.0] authentication:[[AUTH password@4.0.7]|[AUTH2 (username password)@6.0.0]] [KEYS key@3.0.6 [key ...]]",
        flags: Flags::WRITE.union(Flags::SENSITIVE),
        categories: Category::DANGEROUS,
        keys: &[
            KeySpec::one(3, KeyAccess::RW_ACCESS_DELETE),
            KeySpec::after(
                "KEYS",
                -2,
                -1,
                1,
                0,
                KeyAccess::RW_ACCESS_DELETE.union(KeyAccess::INCOMPLETE),
            ),
        ],
        key_function: Some(migrate_keys),
        secrets: Some(migrate_secrets),
        scope: Scope::Keys,
        tips: &["nondeterministic_output"],
        history: &[
            ("3.0.0", "Takes COPY and REPLACE."),
            ("3.0.6", "Takes KEYS."),
            ("4.0.7", "Takes AUTH."),
            ("6.0.0", "Takes AUTH2."),
        ],
        ..Command::NEW
    },
    Handler::Migrate(migrate),
)];

/// Argument of the one key, and of the first option.
const KEY: usize = 3;
const OPTIONS: usize = 6;

/// The key, or those behind KEYS when it is empty.
fn migrate_keys(arguments: &Arguments<'_>, keys: &mut Vec<(usize, KeyAccess)>) -> bool {
    let is = |position: usize, name: &str| {
        let word = arguments.get(position).unwrap_or_default();
        word.eq_ignore_ascii_case(name.as_bytes())
    };
    let several = || {
        let mut position = OPTIONS;
        while position < arguments.len() {
            position += match () {
                () if is(position, "AUTH") => 2,
                () if is(position, "AUTH2") => 3,
                () if is(position, "KEYS") => return Some(position + 1),
                () => 1,
            };
        }
        None
    };
    let is_one = arguments.get(KEY).is_some_and(|key| !key.is_empty());
    let positions = match several() {
        Some(_) if is_one => return false,
        Some(first) if first < arguments.len() => first..arguments.len(),
        _ => KEY..KEY + 1,
    };
    keys.extend(positions.map(|position| (position, KeyAccess::RW_ACCESS_DELETE)));
    true
}

/// What follows AUTH and AUTH2.
fn migrate_secrets(request: &Arguments<'_>, position: usize) -> bool {
    let is = |back: usize, name: &str| {
        position
            .checked_sub(back)
            .filter(|at| *at >= OPTIONS)
            .and_then(|at| request.get(at))
            .is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    is(1, "AUTH") || is(1, "AUTH2") || is(2, "AUTH2")
}

/// Keys on their way to another server.
pub struct Migration {
    /// The server's name or address.
    pub host: Vec<u8>,
    /// Its port, as it was given.
    pub port: Vec<u8>,
    /// How long connecting, writing and each reply may take.
    pub timeout: Duration,
    /// The requests that come first: AUTH, SELECT.
    pub greeting: Vec<Vec<u8>>,
    /// What is moved.
    pub keys: Vec<Moving>,
    /// COPY: the keys stay here.
    pub copy: bool,
    replace: bool,
}

/// A key on its way.
pub struct Moving {
    /// Its name.
    pub key: Vec<u8>,
    value: Held,
    expiry: Option<Millis>,
}

/// What a key held.
enum Held {
    String(Bytes),
    Collection(Value),
}

impl Moving {
    fn new(entry: &Entry) -> Moving {
        let value = match (entry.snapshot(), entry.shared()) {
            (Some(collection), _) => Held::Collection(collection),
            (None, Some(text)) => Held::String(text.clone()),
            (None, None) => Held::String(Bytes::copy_from_slice(entry.bytes())),
        };
        Moving {
            key: entry.key().to_vec(),
            value,
            expiry: entry.expiry(),
        }
    }

    fn value(&self) -> ValueRef<'_> {
        match &self.value {
            Held::String(text) => ValueRef::String(text),
            Held::Collection(value) => value.view(),
        }
    }
}

impl Migration {
    fn parse(args: &mut Args<'_>, keys: &mut Vec<Vec<u8>>) -> Taken<Migration> {
        let (host, port, key) = (args.bytes()?, args.bytes()?, args.bytes()?);
        let (database, timeout) = (args.bytes()?, args.bytes()?);
        let mut migration = Migration {
            host: host.to_vec(),
            port: port.to_vec(),
            timeout: Duration::ZERO,
            greeting: Vec::new(),
            keys: Vec::new(),
            copy: false,
            replace: false,
        };
        *keys = vec![key.to_vec()];
        let mut auth = None;
        while !args.is_empty() {
            let left = args.remaining();
            if args.keyword("COPY") {
                migration.copy = true;
            } else if args.keyword("REPLACE") {
                migration.replace = true;
            } else if left > 1 && args.keyword("AUTH") {
                auth = Some(request(&[b"AUTH", args.bytes()?]));
            } else if left > 2 && args.keyword("AUTH2") {
                auth = Some(request(&[b"AUTH", args.bytes()?, args.bytes()?]));
            } else if args.keyword("KEYS") {
                if !key.is_empty() {
                    return Err(KEY_AND_KEYS);
                }
                // Without any it is the empty key.
                if !args.is_empty() {
                    *keys = args.rest().map(<[u8]>::to_vec).collect();
                }
                break;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let integer = |text| number::parse_i64(text).ok_or(CommandError::NotInteger);
        migration.timeout = match integer(timeout)? {
            ..=0 => DEFAULT_TIMEOUT,
            milliseconds => Duration::from_millis(milliseconds.unsigned_abs()).min(MOST_TIMEOUT),
        };
        let database = integer(database)?;
        migration.greeting.extend(auth);
        let text = database.to_string();
        let select = request(&[b"SELECT", text.as_bytes()]);
        migration.greeting.push(select);
        Ok(migration)
    }

    /// The request that creates a key there; `None` when its time is over meanwhile.
    pub fn restore(&self, moving: &Moving, now: Millis, hasher: &KeyHasher) -> Option<Vec<u8>> {
        let ttl = match moving.expiry {
            None => 0,
            Some(expiry) if expiry < now => return None,
            Some(expiry) => expiry.since(now).max(1),
        };
        let payload = dump::write(moving.value(), now, hasher);
        let ttl = ttl.to_string();
        let parts: [&[u8]; 5] = [
            b"RESTORE",
            &moving.key,
            ttl.as_bytes(),
            &payload,
            b"REPLACE",
        ];
        Some(request(&parts[..4 + usize::from(self.replace)]))
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// A timeout beyond this is none: a day.
const MOST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const KEY_AND_KEYS: CommandError = CommandError::fixed(
    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
);

/// A request in the protocol.
fn request(parts: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        request.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        request.extend_from_slice(part);
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// How it went there.
#[derive(Debug, Default)]
pub struct Arrived {
    /// The numbers of the keys that the other server has now, of [`Migration::keys`].
    pub keys: Vec<usize>,
    /// What went wrong first.
    pub error: Option<CommandError>,
}

fn migrate(
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
) -> Taken<Option<Arc<Migration>>> {
    let mut keys = Vec::new();
    let mut migration = Migration::parse(args, &mut keys)?;
    let found = keys.iter().filter_map(|key| view.lookup(key));
    migration.keys = found.map(Moving::new).collect();
    if migration.keys.is_empty() {
        reply.simple("NOKEY");
        return Ok(None);
    }
    Ok(Some(Arc::new(migration)))
}

/// Removes the keys that arrived, which are locked; `is_changed` tells of those that did meanwhile.
pub fn finish(
    migration: &Migration,
    arrived: &Arrived,
    is_changed: impl Fn(usize) -> bool,
    view: &mut View<'_>,
) -> Taken<()> {
    let mut kept = false;
    let mut removed: Vec<&[u8]> = vec![b"DEL"];
    for &number in arrived.keys.iter().filter(|_| !migration.copy) {
        let key = &migration.keys[number].key[..];
        if is_changed(number) {
            kept |= view.peek(key).is_some();
        } else if view.remove(key) {
            view.notify(EventClass::GENERIC, "del", key);
            removed.push(key);
        }
    }
    if removed.len() > 1 {
        view.propagate(&removed);
    }
    match &arrived.error {
        Some(error) => Err(error.clone()),
        None if kept => Err(CommandError::fixed(
            "IOERR a key was changed while it was sent to the target instance, and was kept",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
