//! What a command is: the row from which everything else about it is derived.
//!
//! A row ([`Command`]) holds a name, family, flags, key specs, a usage line and its documentation. Arity, ACL
//! categories, the argument tree of COMMAND DOCS and the keys to lock are computed from it. Rows are pairs with a handler
//! ([`Row`]); what a handler is, each layer that owns some decides (`commands`, `admin`), and `dispatch` joins them into
//! one [`Table`]. This folder knows no command.

pub mod args;
pub mod category;
pub mod check;
pub mod docs;
pub mod error;
pub mod keys;
pub mod lookup;
pub mod usage;

pub use args::Args;
pub use category::Category;
pub use error::CommandError;
pub use keys::{Begin, Find, KeyAccess, KeyFunction, KeySpec, Shape};
pub use lookup::{Entry, RenameError, Table, TableBuilder};
pub use usage::Usage;

use crate::resp::decode::Arguments;

bitflags::bitflags! {
    /// What a command does to the server, in Redis's terms (the flags of COMMAND INFO).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// May change the keyspace.
        const WRITE = 1;
        /// Only reads keys.
        const READONLY = 1 << 1;
        /// Refused when memory is over the limit.
        const DENYOOM = 1 << 2;
        /// For administrators (category `@admin`).
        const ADMIN = 1 << 3;
        /// Belongs to publish/subscribe.
        const PUBSUB = 1 << 4;
        /// Not callable from scripts.
        const NOSCRIPT = 1 << 5;
        /// May block the client.
        const BLOCKING = 1 << 6;
        /// Allowed while a data set is loaded.
        const LOADING = 1 << 7;
        /// Allowed on a replica with stale data.
        const STALE = 1 << 8;
        /// Not shown to MONITOR.
        const SKIP_MONITOR = 1 << 9;
        /// Not recorded in the slow log.
        const SKIP_SLOWLOG = 1 << 10;
        /// Accepted for an importing slot after ASKING.
        const ASKING = 1 << 11;
        /// Constant or logarithmic time, never delayed.
        const FAST = 1 << 12;
        /// Allowed before authentication.
        const NO_AUTH = 1 << 13;
        /// May replicate although it is not a write.
        const MAY_REPLICATE = 1 << 14;
        /// Not allowed inside MULTI.
        const NO_MULTI = 1 << 15;
        /// Allowed while a script is over its time.
        const ALLOW_BUSY = 1 << 16;
        /// Not allowed while loading asynchronously.
        const NO_ASYNC_LOADING = 1 << 17;
        /// Its keys are optional.
        const NO_MANDATORY_KEYS = 1 << 18;
        /// Needs an enable-* parameter.
        const PROTECTED = 1 << 19;
        /// Works on keys that its arguments do not name.
        const TOUCHES_ARBITRARY_KEYS = 1 << 20;
        /// What a client sends unasked at its start: when refused, it stays out of the error counters.
        const HANDSHAKE = 1 << 21;
        /// Carries secrets: MONITOR and the slow log hide those that `Command::secrets` names, or all arguments.
        const SENSITIVE = 1 << 22;
        /// Spoken between servers, not meant for users (doc flag `syscmd`).
        const SYSTEM = 1 << 23;
        /// Allowed to a subscribed client of RESP2.
        const SUBSCRIBED = 1 << 24;
        /// May stand between CLIENT CACHING and the command that it is meant for.
        const KEEPS_CACHING = 1 << 25;
    }
}

/// The group of COMMAND DOCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the group's own name")]
pub enum Family {
    String,
    Bitmap,
    Generic,
    Connection,
    Server,
    List,
    Set,
    Hash,
    SortedSet,
    Stream,
    HyperLogLog,
    Geo,
    PubSub,
    Scripting,
    Transactions,
    Cluster,
}

impl Family {
    /// The group's name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Family::String => "string",
            Family::Bitmap => "bitmap",
            Family::Generic => "generic",
            Family::Connection => "connection",
            Family::Server => "server",
            Family::List => "list",
            Family::Set => "set",
            Family::Hash => "hash",
            Family::SortedSet => "sorted-set",
            Family::Stream => "stream",
            Family::HyperLogLog => "hyperloglog",
            Family::Geo => "geo",
            Family::PubSub => "pubsub",
            Family::Scripting => "scripting",
            Family::Transactions => "transactions",
            Family::Cluster => "cluster",
        }
    }
}

/// Which part of the keyspace a command works on: what dispatch locks before the handler runs.
#[derive(Clone, Copy)]
pub enum Scope {
    /// No key: nothing is locked.
    None,
    /// The keys its key specs name, in the client's database.
    Keys,
    /// The keys its key specs name, in the client's database and in the one that the function finds in the arguments
    /// (MOVE, COPY). `Err` is the refusal of the argument; `Ok(None)` means the client's own database alone.
    KeysAndDatabase(fn(&Arguments<'_>) -> Result<Option<usize>, CommandError>),
    /// Partition after partition, each locked alone (KEYS, SCAN, FLUSHALL).
    Sweep,
    /// No key: the commands behind it work on the database that the function finds in the arguments (SELECT).
    Selects(fn(&Arguments<'_>) -> Option<u32>),
}

/// What a node does with a command whose keys lie on several nodes.
#[derive(Clone, Copy, Debug)]
pub enum Across {
    /// Refused with CROSSSLOT.
    Refuse,
    /// Cut by key, the parts merged as the tip `response_policy` says.
    Split,
    /// Sent to every node, the replies merged as the tip `response_policy` says.
    Broadcast,
    /// As [`Across::Broadcast`], for what exchanges databases: where a database is pinned to a slot, its keys would come to
    /// stand on the wrong nodes, and the command is refused.
    BroadcastUnlessPinned,
    /// As [`Across::Broadcast`], and as [`Across::Refuse`] within a transaction: it only asks.
    BroadcastUnlessQueued,
    /// Runs where the client is, with the numbers of keys of all nodes at hand, for the requests of which the function says
    /// that they tell them.
    WithTotals(fn(&Arguments<'_>) -> bool),
    /// As [`Across::Refuse`], and it looks at a key that its specs do not name, as they do not in Redis: at the argument of
    /// which the function says so.
    AtKey(fn(&Arguments<'_>) -> Option<usize>),
}

/// How the replies of several nodes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// All succeed with the same reply: the first.
    First,
    /// The first that is no error; else the first that is not NOTBUSY.
    AnySuccess,
    /// The sum of integers.
    Sum,
    /// One that is not null, by chance.
    AnyOf,
    /// Arrays or maps: the first whose element at this place is not null; if there is none, the first.
    FirstWith(usize),
    /// Arrays joined.
    Join,
    /// Arrays joined, each element once.
    Union,
    /// Arrays of integers, the smallest at each place.
    And,
    /// Arrays of names and integers, the integers added up.
    SumPairs,
}

/// Whether the argument at a position of a request, the command's name being at 0, is a secret.
pub type SecretFunction = fn(&Arguments<'_>, usize) -> bool;

/// One command or subcommand: the row without its handler. Written as `Command { name: .., ..Command::NEW }`.
#[derive(Clone, Copy)]
pub struct Command {
    /// Lower case. A subcommand's own name (`get` of `config|get`).
    pub name: &'static str,
    /// Group of COMMAND DOCS.
    pub family: Family,
    /// The Redis version that introduced it (or Valkey's).
    pub since: &'static str,
    /// One sentence in our own words, for COMMAND DOCS.
    pub summary: &'static str,
    /// Cost, for COMMAND DOCS.
    pub complexity: &'static str,
    /// Its arguments in Redis's notation, for example `key [NX|XX] [EX seconds:int]`; the grammar stands in [`usage`].
    pub usage: &'static str,
    /// Flags of COMMAND INFO.
    pub flags: Flags,
    /// Categories beyond those that family and flags imply.
    pub categories: Category,
    /// Where its keys stand.
    pub keys: &'static [KeySpec],
    /// Which argument names what is looked up in the value of its key, a member or a field; 0: none. A hint: what a pipeline
    /// of such requests will look at is fetched ahead.
    pub member: usize,
    /// Finds the keys where `keys` cannot tell all (SORT, MIGRATE) or not how they are used (SET, BITFIELD).
    pub key_function: Option<KeyFunction>,
    /// Where the secrets of a `SENSITIVE` command stand; without it all its arguments are secret.
    pub secrets: Option<SecretFunction>,
    /// What is locked for it.
    pub scope: Scope,
    /// What happens when its keys lie on several nodes.
    pub across: Across,
    /// How the replies of all nodes become one, where the tips cannot say it.
    pub merge: Option<Merge>,
    /// Tips of COMMAND INFO (`nondeterministic_output`, `request_policy:all_shards`, ...).
    pub tips: &'static [&'static str],
    /// Version since which it is deprecated and what replaces it.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// (version, change) pairs for COMMAND DOCS, in our own words.
    pub history: &'static [(&'static str, &'static str)],
}

impl Command {
    /// The row that rows start from: no flags, no keys, nothing locked.
    pub const NEW: Command = Command {
        name: "",
        family: Family::Generic,
        since: "1.0.0",
        summary: "",
        complexity: "O(1)",
        usage: "",
        flags: Flags::empty(),
        categories: Category::empty(),
        keys: &[],
        member: 0,
        key_function: None,
        secrets: None,
        scope: Scope::None,
        across: Across::Refuse,
        merge: None,
        tips: &[],
        deprecated: None,
        history: &[],
    };

    /// Whether the argument at this position of a request must not be shown.
    pub fn hides(&self, request: &Arguments<'_>, position: usize) -> bool {
        self.flags.contains(Flags::SENSITIVE)
            && position > 0
            && self
                .secrets
                .is_none_or(|is_secret| is_secret(request, position))
    }

    /// Whether a request can name keys.
    pub fn has_keys(&self) -> bool {
        self.key_function.is_some() || self.keys.iter().any(KeySpec::is_key)
    }
}

/// A command with what runs it, and its subcommands. `H` is the handler type of the layer that owns the row.
pub struct Row<H: 'static> {
    /// What the command is.
    pub command: Command,
    /// What runs it. A container of subcommands has a handler that is never called.
    pub handler: H,
    /// CONFIG GET and the like; empty for most.
    pub subcommands: &'static [Row<H>],
}

impl<H> Row<H> {
    /// A command without subcommands.
    pub const fn new(command: Command, handler: H) -> Self {
        Row {
            command,
            handler,
            subcommands: &[],
        }
    }
}
