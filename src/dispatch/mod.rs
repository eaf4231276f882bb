//! Runs one request: finds the row, checks, locks, calls the handler, unlocks, and causes the effects.
//!
//! The table joins the rows of all layers. [`Runner::run`] is the pipeline; it never waits: what has to wait it tells its
//! connection by a [`Step`], which comes back with the same request. The order within a run:
//!
//! 1. checks ([`checks`]): each may refuse, the first that does ends the run;
//! 2. plan and lock: the keys that the row's specs find, their partitions sorted;
//! 3. the handler, on a view of what was locked; if it fails, what it wrote of its reply is cut off;
//! 4. while locked: expired keys are removed, the journal gets the records;
//! 5. after release: events, garbage, the rest of a long read, statistics.

mod blocking;
mod checks;
mod migrating;
mod record;
mod routing;
mod script;
mod tracked;
mod transaction;

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::admin;
use crate::base::clock::Millis;
use crate::base::rng::Rng;
use crate::base::worker::give_worker_away;
use crate::commands;
use crate::config::Settings;
use crate::keyspace::Keyspace;
use crate::keyspace::effects::Effects;
use crate::keyspace::evict::Rules;
use crate::keyspace::lock::{Contended, Locked, PATIENCE, Place, Places, Plan, lock_all, lock_one};
use crate::keyspace::sweep::{Scene, Sweep};
use crate::keyspace::undo::Undo;
use crate::keyspace::view::{Run, View};
use crate::keyspace::waiting::{Outcome, Waiter};
use crate::resp::decode::Arguments;
use crate::resp::reply::{Mark, Output, Protocol, Reply};
use crate::state::Server;
use crate::state::scripts::Known;
use crate::state::session::{After, ReplyMode, Session};
pub use crate::table::Merge;
use crate::table::keys::{KeyAccess, Shape, locate};
use crate::table::lookup::{Entry, TableBuilder};
use crate::table::{Args, Command, CommandError, Flags, RenameError, Scope, Table};
pub use blocking::Blocked;
pub use migrating::Migrating;
use record::Tally;
pub use routing::{Face, Spread};
use routing::{Routed, Routing};

/// What runs a command, of whichever layer.
#[derive(Clone, Copy)]
pub enum Handler {
    /// A command on keys.
    Data(commands::Handler),
    /// A command on the server and its clients.
    Admin(admin::Handler),
}

/// New names of commands, as `rename-command` gives them; an empty one removes the command.
type Renames = [(String, String)];

/// The one table of commands with these names, built when first used, from the rows of all layers. Tables live for ever:
/// there are as many as the servers of this process have different `rename-command` lines, one in all but tests.
///
/// # Panics
///
/// When the names are refused: [`renamed_directory`] has refused them before.
pub fn table(renames: &Renames) -> &'static Table<Handler> {
    type Tables = Vec<(Vec<(String, String)>, &'static Table<Handler>)>;
    static PLAIN: LazyLock<Table<Handler>> = LazyLock::new(|| build(&[]));
    /// A leaf lock, taken by each new connection of a server with renamed commands.
    static RENAMED: Mutex<Tables> = Mutex::new(Vec::new());
    if renames.is_empty() {
        return &PLAIN;
    }
    let mut tables = RENAMED.lock();
    if let Some((_, table)) = tables.iter().find(|(known, _)| known == renames) {
        return table;
    }
    let table: &'static Table<Handler> = Box::leak(Box::new(build(renames)));
    tables.push((renames.to_vec(), table));
    table
}

fn build(renames: &Renames) -> Table<Handler> {
    let mut builder = TableBuilder::new();
    commands::FAMILIES
        .iter()
        .for_each(|rows| builder.add(*rows, |handler| Handler::Data(*handler)));
    admin::FAMILIES
        .iter()
        .for_each(|rows| builder.add(*rows, |handler| Handler::Admin(*handler)));
    for (from, to) in renames {
        builder
            .rename(from, to)
            .expect("the start of the server refuses such names");
    }
    builder.finish()
}

/// The same rows without handlers and with the same numbers, for what only asks about commands.
pub fn directory() -> Table<()> {
    directory_builder().finish()
}

/// As [`directory`], with renamed commands.
pub fn renamed_directory(renames: &Renames) -> Result<Table<()>, RenameError> {
    let mut builder = directory_builder();
    for (from, to) in renames {
        builder.rename(from, to)?;
    }
    Ok(builder.finish())
}

fn directory_builder() -> TableBuilder<()> {
    let mut builder = TableBuilder::new();
    commands::FAMILIES
        .iter()
        .for_each(|rows| builder.add(*rows, |_| ()));
    admin::FAMILIES
        .iter()
        .for_each(|rows| builder.add(*rows, |_| ()));
    builder
}

/// What a connection does next with its request.
pub enum Step {
    /// It is done: the reply is in the output.
    Done,
    /// A partition was locked for longer than a short spin, or room has to be made first: yield and run it again.
    Contended,
    /// Commands of its kind are paused (CLIENT PAUSE): wait and run it again.
    Paused,
    /// Go through partitions: see [`Runner::sweep_step`].
    Sweep(Sweeping),
    /// Wait until it is served, then end it by [`Runner::unblocked`].
    Blocked(Blocked),
    /// Send keys to another server, then end it by [`Runner::migrated`].
    Migrate(Box<Migrating>),
    /// Its keys are at the peer of this index in the map of [`Runner::view`].
    Forward(u16),
    /// As `Forward`, for what lives longer than a request there: the peer runs it for a connection of this client's own.
    Tunnel(u16),
    /// Its keys lie on several nodes, or it is for all of them.
    Across,
    /// It wants to know how many keys all nodes have: leave that with the session, and run it again.
    Totals,
    /// A peer asked for it, but its keys are not here.
    NotHere,
    /// It runs for as long as its script does: others' requests must not wait for it ([`Runner::set_among_others`]). Run it again
    /// where they do not.
    Apart,
}

/// For whom a command runs.
#[derive(Clone, Copy)]
struct Who<'s> {
    database: u32,
    rng: &'s Rng,
    touch: bool,
    /// The client if the keys that it reads are to be remembered for it, by its id, else 0.
    reader: u64,
}

impl<'s> Who<'s> {
    #[inline]
    fn of(session: &'s Session) -> Who<'s> {
        Who {
            database: session.database,
            rng: &session.rng,
            touch: !session.no_touch,
            reader: session.reader(),
        }
    }
}

/// A sweep under way and what its end needs.
pub struct Sweeping {
    sweep: Box<dyn Sweep>,
    id: u16,
    mark: Mark,
    place: Option<Place>,
    round: u32,
}

impl Sweeping {
    /// Whether its next partition is locked by somebody else.
    pub fn is_held_up(&self) -> bool {
        self.round > 0
    }
}

/// What was found out about a request before its turn.
#[derive(Clone, Copy, Default)]
struct Foreseen {
    entry: Option<&'static Entry<Handler>>,
    /// The hash of its only key, or of a script's first.
    hash: Option<u64>,
    /// The slot of its only key, in a ring.
    slot: Option<u16>,
}

/// Requests whose keys are fetched into the cache together. Their lines, about six each, fit the first cache.
pub const WINDOW: usize = 32;
/// Keys of one request that are fetched together: as many as the second cache holds without strain.
const PREFETCHED_KEYS: usize = 256;
/// Arguments from which a request may take more than a millisecond: the worker's other connections are given away first.
const HEAVY_ARGUMENTS: usize = 2048;
/// How often a command may find that it needs more locks before it gets all.
const REACHES: u32 = 4;
/// Bytes of change after which a batch settles its account early.
const SETTLE_BYTES: i64 = 64 * 1024;

/// Runs the requests of one connection. Holds what is reused from request to request.
pub struct Runner {
    server: Arc<Server>,
    table: &'static Table<Handler>,
    effects: Box<Effects>,
    /// For the commands within a script or a transaction to leave theirs alone.
    spare_effects: Option<Box<Effects>>,
    tally: Tally,
    settings: Arc<Settings>,
    rules: Arc<Rules>,
    /// Version of both.
    version: u64,
    now: Millis,
    keys: Vec<(usize, KeyAccess)>,
    /// The requests of the decoder's window.
    foreseen: Vec<Foreseen>,
    /// Whether the script that was contended has to have the leave when it begins again.
    wants_leave: bool,
    /// The script that was last run by its SHA-1.
    last_script: Weak<Known>,
    /// What scripts hold on to while they run, for the next one: to count it up and down again costs more than to keep it.
    held: Option<(Arc<Server>, Arc<Rules>)>,
    /// For what the next script may have to take back.
    spare_undo: Option<Box<Undo>>,
    /// Whether the script that has just failed failed with an error of a command, which was counted then.
    is_error_counted: bool,
    /// None when the server belongs to no ring.
    routing: Option<Box<Routing>>,
}

impl Runner {
    /// A runner for one connection.
    pub fn new(server: Arc<Server>) -> Runner {
        let version = server.config.version();
        Runner {
            table: table(&server.config.settings().rename_command),
            effects: Box::default(),
            spare_effects: None,
            tally: Tally::new(),
            settings: Arc::clone(&server.config.settings()),
            rules: server.rules.load_full(),
            version,
            now: server.clock.now(),
            keys: Vec::new(),
            foreseen: Vec::new(),
            wants_leave: false,
            last_script: Weak::new(),
            held: None,
            spare_undo: None,
            is_error_counted: false,
            routing: server.cluster.get().map(Routing::new),
            server,
        }
    }

    /// The same for the requests of this client, by its id.
    pub fn of_client(mut self, id: u64) -> Runner {
        self.effects.writer = id;
        self
    }

    /// From here on its requests are those of this client.
    pub fn set_client(&mut self, id: u64) {
        self.effects.writer = id;
    }

    /// The round after one that was contended. While a script runs for long, nobody's patience ends: he would wait in the
    /// lock's queue, and a thread with him.
    #[inline]
    pub fn next_round(&self, round: u32) -> u32 {
        if self.server.scripts.has_long_runs() {
            return (round + 1).min(PATIENCE - 1);
        }
        round.saturating_add(1)
    }

    /// The server it runs requests of.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Begins a batch: the time and the parameters stay the same until the next one.
    pub fn begin_batch(&mut self) {
        self.now = self.server.clock.now();
        self.refresh();
        if let Some(routing) = &mut self.routing {
            routing.begin();
        }
        self.tally.begin(&self.settings);
    }

    /// The time of the batch.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// How long the batch has run, as of the end of its last command.
    #[inline]
    pub fn elapsed(&self) -> Duration {
        self.tally.elapsed()
    }

    /// The parameters as of the last [`Runner::refresh`].
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes over parameters that were changed meanwhile.
    #[inline]
    pub fn refresh(&mut self) {
        let version = self.server.config.version();
        if version != self.version {
            self.version = version;
            self.settings = Arc::clone(&self.server.config.settings());
            self.rules = self.server.rules.load_full();
        }
    }

    /// Ends a batch: settles the accounts, and tells others what was left for its end. Comes before any of its replies is
    /// sent, and before a wait.
    pub fn end_batch(&mut self) {
        self.settle_batch();
        self.effects.publish(&self.server.keyspace.listeners);
        self.effects.broadcast(&self.server.keyspace.listeners);
    }

    /// Settles the accounts of what the batch has done so far.
    fn settle_batch(&mut self) {
        self.settle();
        self.tally.flush(&self.server.stats);
    }

    /// Looks at the requests that will be run next, and has what they will read fetched into the cache.
    pub fn foresee<'a>(
        &mut self,
        session: &Session,
        requests: impl Iterator<Item = Arguments<'a>>,
    ) {
        self.foreseen.clear();
        if let Some(ring) = &mut self.routing {
            ring.refresh_between(session);
        }
        let ring = self.routing.as_deref();
        let mut hashes = SmallVec::<[u64; WINDOW]>::new();
        // A pipeline often says the same again: the same command, the same key.
        let mut last_name: (&[u8], Option<&'static Entry<Handler>>) = (b"", None);
        let mut last_key: (&[u8], Option<u64>) = (b"", None);
        let mut members = SmallVec::<[(u64, &[u8], &[u8]); WINDOW]>::new();
        for request in requests {
            let name = request.get(0).unwrap_or_default();
            let entry = match last_name {
                (last, Some(entry)) if last == name && entry.accepts(request.len()) => Some(entry),
                _ => self.find(request).ok(),
            };
            last_name = (
                name,
                entry.filter(|entry| entry.parent.is_none() && !entry.is_container()),
            );
            let key = entry.and_then(|entry| match (entry.shape, entry.command.scope) {
                (Shape::Single(index), Scope::Keys) => request.get(index),
                (Shape::Specs, _) => script::first_key(entry, request),
                _ => None,
            });
            let slot = match (ring, key) {
                (Some(ring), Some(key)) => Some(ring.slot(session.database, key)),
                _ => None,
            };
            let is_single = entry.is_some_and(|entry| matches!(entry.shape, Shape::Single(_)));
            // What is elsewhere is nothing to this node's cache.
            let is_here = match (ring, slot) {
                (Some(ring), Some(slot)) => ring.is_here(slot),
                _ => true,
            };
            let hash = key.filter(|_| is_here).map(|key| match last_key {
                // Most differ at their end.
                (last, Some(hash)) if last.last() == key.last() && last == key => hash,
                _ => {
                    let hash = self.server.keyspace.hasher().hash(key);
                    last_key = (key, Some(hash));
                    hashes.push(hash);
                    hash
                }
            });
            if let (Some(entry), Some(key), Some(hash)) = (entry, key, hash)
                && entry.command.member > 0
                && let Some(member) = request.get(entry.command.member)
            {
                members.push((hash, key, member));
            }
            let slot = slot.filter(|_| is_single);
            self.foreseen.push(Foreseen { entry, hash, slot });
        }
        let keyspace = &self.server.keyspace;
        keyspace.prefetch(session.database, &hashes);
        for of_key in members.chunk_by(|one, next| one.0 == next.0 && one.1 == next.1) {
            // One alone finds itself.
            if let [(hash, key, _), _, ..] = of_key {
                let members: SmallVec<[&[u8]; WINDOW]> = of_key.iter().map(|one| one.2).collect();
                keyspace.prefetch_members(session.database, *hash, key, &members);
            }
        }
        if session.reader() != 0 {
            keyspace.listeners.tracking.prefetch(&hashes);
        }
    }

    /// Runs a request, the one of number `turn` in the decoder's window. `round` counts the times it was contended.
    #[inline]
    pub fn run(
        &mut self,
        session: &mut Session,
        arguments: Arguments<'_>,
        output: &mut Output,
        turn: usize,
        round: u32,
    ) -> Step {
        let mark = output.mark();
        let mut reply = Reply::new(output, session.protocol);
        let foreseen = self.foreseen.get(turn).copied().unwrap_or_default();
        let found = match foreseen.entry {
            Some(entry) => Ok(entry),
            None => self.find(arguments),
        };
        let entry = match found {
            Ok(entry) => entry,
            Err((None, _)) if checks::is_cross_protocol(arguments.get(0).unwrap_or_default()) => {
                tracing::debug!(addr = %session.client.addr, "an HTTP request: connection closed");
                session.after = After::Drop;
                self.tally.skip();
                return Step::Done;
            }
            Err((command, error)) => {
                // A wrong number of arguments counts as a refusal of that command.
                if let Some(entry) = self.table.find_request(&arguments) {
                    self.tally.rejected(&self.server.stats, entry.id);
                }
                session.end_caching();
                let is_exec = self.table.find_request(&arguments).is_some_and(is_exec);
                self.reject_within(session, is_exec, command, error, &mut reply);
                return self.replied(session, mark, output);
            }
        };
        session
            .client
            .last_command
            .store(entry.id, Ordering::Relaxed);
        let is_queued = session.transaction().is_some() && !is_immediate(entry);
        match checks::run(
            &self.server,
            &self.rules,
            session,
            checks::Checked {
                command: entry.command,
                full_name: &entry.full_name,
                flags: match session.transaction() {
                    Some(transaction) if is_exec(entry) => {
                        entry.command.flags | transaction.flags()
                    }
                    // To queue commands takes memory too.
                    Some(_) if !is_ending(entry) => entry.command.flags | Flags::DENYOOM,
                    _ => entry.command.flags,
                },
                is_queued,
            },
            self.now,
            &mut self.effects,
            round,
        ) {
            checks::Verdict::Go => {}
            // What was evicted on the way is not kept until the next run.
            checks::Verdict::Wait => {
                self.after_release();
                return Step::Paused;
            }
            checks::Verdict::Later => {
                self.after_release();
                return Step::Contended;
            }
            checks::Verdict::Refuse(error) => {
                self.after_release();
                self.reject_within(
                    session,
                    is_exec(entry),
                    Some(entry.command),
                    error,
                    &mut reply,
                );
                self.tally.rejected(&self.server.stats, entry.id);
                return self.replied(session, mark, output);
            }
        }
        if self.routing.is_some() {
            match self.route(session, entry, arguments, foreseen.slot, is_queued, round) {
                Routed::Here if !is_queued && self.should_be_apart(session, entry) => {
                    self.after_release();
                    return Step::Apart;
                }
                Routed::Here => {}
                Routed::Elsewhere(step) => {
                    self.after_release();
                    return step;
                }
                Routed::Refuse(error) => {
                    self.after_release();
                    // As Redis Cluster, which puts no EXECABORT before it: clients follow a MOVED that EXEC says.
                    if is_exec(entry) {
                        self.end_transaction(session);
                    }
                    self.reject_within(session, false, Some(entry.command), error, &mut reply);
                    self.tally.rejected(&self.server.stats, entry.id);
                    return self.replied(session, mark, output);
                }
            }
        }
        if is_queued {
            if let Some(transaction) = session.transaction_mut() {
                transaction.push(entry.id, entry.command.flags, arguments, foreseen.hash);
            }
            session.show_queued();
            reply.simple("QUEUED");
            self.tally.skip();
            return self.replied(session, mark, output);
        }
        let hash = foreseen.hash;
        let step = if arguments.len() > HEAVY_ARGUMENTS {
            give_worker_away(|| self.execute(session, entry, arguments, output, mark, hash, round))
        } else {
            self.execute(session, entry, arguments, output, mark, hash, round)
        };
        match step {
            Step::Contended if self.server.scripts.has_long_runs() => {
                self.held_up(session, entry, arguments, output, mark)
            }
            step => step,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the second half of `run`, apart so that a heavy request can give its worker away first"
    )]
    #[inline]
    fn execute(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        arguments: Arguments<'_>,
        output: &mut Output,
        mark: Mark,
        hash: Option<u64>,
        round: u32,
    ) -> Step {
        let first = if entry.parent.is_some() { 2 } else { 1 };
        let mut args = Args::new(arguments, first);
        let mut reply = Reply::new(output, session.protocol);
        let mut sleep_nanos = 0;
        let done = match entry.handler {
            Handler::Data(commands::Handler::Read(handler)) => {
                match self.with_view(Who::of(session), entry, arguments, hash, round, |view| {
                    handler(&mut args, view, &mut reply)
                }) {
                    Ok(done) => done,
                    Err(Contended) => return Step::Contended,
                }
            }
            Handler::Data(commands::Handler::Write(handler)) => {
                match self.with_view(Who::of(session), entry, arguments, hash, round, |view| {
                    handler(&mut args, view, &mut reply)
                }) {
                    Ok(done) => done,
                    Err(Contended) => return Step::Contended,
                }
            }
            Handler::Data(commands::Handler::Reach(reach, handler)) => {
                let reach = |view: &View<'_>, more: &mut Plan| reach(&mut args.clone(), view, more);
                match self.with_reach(Who::of(session), entry, arguments, round, reach, |view| {
                    handler(&mut args.clone(), view, &mut reply)
                }) {
                    Ok(done) => done,
                    Err(Contended) => {
                        // What a first look found expired.
                        self.after_release();
                        return Step::Contended;
                    }
                }
            }
            Handler::Data(commands::Handler::Block(handler)) => {
                let who = Who::of(session);
                let (protocol, client) = (session.protocol, self.effects.writer);
                let tried =
                    self.with_view(who, entry, arguments, hash, round, |view| {
                        match handler(&mut args, view, &mut reply)? {
                            Outcome::Served => Ok(None),
                            Outcome::Wait(wait) => {
                                let waiter = Waiter::new(who.database, protocol, !who.touch, wait)
                                    .of_client(client, who.reader);
                                Ok(Some(view.wait_for(waiter)))
                            }
                        }
                    });
                match tried {
                    Ok(Ok(None)) => Ok(()),
                    Ok(Err(error)) => Err(error),
                    Ok(Ok(Some(waiter))) => {
                        reply.truncate(mark);
                        self.after_release();
                        self.serve_ready();
                        self.tally.skip();
                        self.show(session, entry.command, arguments);
                        return Step::Blocked(Blocked { waiter });
                    }
                    Err(Contended) => return Step::Contended,
                }
            }
            Handler::Data(commands::Handler::Migrate(begin)) => {
                match self.begin_migrating(session, entry, begin, &mut args, &mut reply, round) {
                    Ok(Ok(None)) => Ok(()),
                    Ok(Ok(Some(migrating))) => {
                        self.after_release();
                        self.tally.skip();
                        self.show(session, entry.command, arguments);
                        return Step::Migrate(Box::new(migrating));
                    }
                    Ok(Err(error)) => Err(error),
                    Err(Contended) => return Step::Contended,
                }
            }
            Handler::Data(commands::Handler::Sweep(_))
            | Handler::Admin(admin::Handler::Sweep(_)) => {
                self.effects
                    .begin(self.server.keyspace.listeners.interest());
                match self.begin_sweep(session, entry, &mut args) {
                    Ok(sweep) => {
                        self.show(session, entry.command, arguments);
                        return Step::Sweep(Sweeping {
                            sweep,
                            id: entry.id,
                            mark,
                            place: None,
                            round: 0,
                        });
                    }
                    Err(error) => Err(error),
                }
            }
            Handler::Admin(admin::Handler::Exec) => match self.exec(session, &mut reply, round) {
                Ok(done) => done,
                Err(Contended) => return Step::Contended,
            },
            Handler::Admin(admin::Handler::Script(call)) => {
                match self.script(session, entry, call, (arguments, hash), &mut reply, round) {
                    Ok(done) => done,
                    Err(Contended) => {
                        // What it found expired before it was taken back.
                        self.after_release();
                        return Step::Contended;
                    }
                }
            }
            Handler::Admin(admin::Handler::Immediate(handler)) => {
                let sees_cluster = self.sees_cluster();
                let mut caller = admin::Caller {
                    sees_cluster,
                    server: &self.server,
                    session,
                    now: self.now,
                    in_transaction: false,
                };
                handler(&mut args, &mut caller, &mut reply)
            }
            Handler::Admin(admin::Handler::Admin(handler) | admin::Handler::Ending(handler)) => {
                let done = self.call_admin(handler, session, &mut args, &mut reply, false);
                if let After::Sleep(duration) = session.after {
                    sleep_nanos = duration.as_nanos() as u64;
                }
                done
            }
            Handler::Data(commands::Handler::Container)
            | Handler::Admin(admin::Handler::Container) => {
                Err(CommandError::Arity(entry.full_name.as_str().into()))
            }
        };
        if let Some(later) = self.effects.take_later() {
            give_worker_away(|| later(&mut reply));
        }
        self.after_release();
        self.serve_ready();
        let failed = done.is_err();
        if let Err(error) = done {
            reply.truncate(mark);
            self.refuse(Some(entry.command), &error, &mut reply);
        }
        let slow = self
            .tally
            .record(&self.server.stats, entry.id, failed, sleep_nanos);
        if let Some(took) = slow {
            record::slow(
                &self.server,
                session,
                entry.command,
                arguments,
                self.now,
                took,
            );
        }
        self.show(session, entry.command, arguments);
        self.replied(session, mark, output)
    }

    /// Shows a request that ran to those who watch: after it, as in Redis, so in the database that SELECT chose.
    #[inline]
    fn show(&self, session: &Session, command: &Command, arguments: Arguments<'_>) {
        // What a peer has run here its own node shows, whole.
        if self.server.monitors.any() && !self.is_for_peer() {
            record::monitor(&self.server, session, command, arguments);
        }
    }

    /// Locks what the row asks for, runs `work` on it, and does what has to be done while it is locked.
    #[inline]
    fn with_view<T>(
        &mut self,
        who: Who<'_>,
        entry: &Entry<Handler>,
        arguments: Arguments<'_>,
        hash: Option<u64>,
        round: u32,
        work: impl FnOnce(&mut View<'_>) -> Result<T, CommandError>,
    ) -> Result<Result<T, CommandError>, Contended> {
        let server = &*self.server;
        let keyspace = &server.keyspace;
        let mut known = None;
        let locked = match (entry.shape, entry.command.scope) {
            (Shape::Single(index), Scope::Keys) => {
                let key = arguments.get(index).unwrap_or_default();
                let hash = hash.unwrap_or_else(|| {
                    let hash = keyspace.hasher().hash(key);
                    keyspace.prefetch_home(who.database, hash);
                    hash
                });
                known = Some((key, hash));
                let mut locked = Locked::new();
                locked.push(lock_one(
                    keyspace,
                    keyspace.place(who.database, hash),
                    round,
                )?);
                locked
            }
            _ => match plan(keyspace, who.database, entry, arguments, &mut self.keys) {
                Ok(mut plan) => lock_all(keyspace, &mut plan, round)?,
                Err(error) => return Ok(Err(error)),
            },
        };
        if self.has_moved() {
            return Err(Contended);
        }
        Ok(on_locked(
            keyspace,
            who,
            (self.now, &self.rules),
            (entry, arguments),
            (locked, known),
            &mut self.effects,
            work,
        ))
    }

    /// As [`Runner::with_view`], for a command that finds in the values of its keys what else it has to lock. Between two
    /// rounds nothing is locked, so the values may change and reach further; when they do so again and again, everything
    /// is locked.
    fn with_reach<T>(
        &mut self,
        who: Who<'_>,
        entry: &Entry<Handler>,
        arguments: Arguments<'_>,
        round: u32,
        reach: impl Fn(&View<'_>, &mut Plan),
        work: impl FnOnce(&mut View<'_>) -> Result<T, CommandError>,
    ) -> Result<Result<T, CommandError>, Contended> {
        let keyspace = &self.server.keyspace;
        let mut plan = match plan(keyspace, who.database, entry, arguments, &mut self.keys) {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(error)),
        };
        let mut work = Some(work);
        for turn in 0.. {
            if turn == REACHES {
                plan.extend(Places::all(who.database).iter());
            }
            let locked = lock_all(keyspace, &mut plan, round)?;
            if self.has_moved() {
                return Err(Contended);
            }
            let run = |view: &mut View<'_>| {
                let mut more = Plan::new();
                reach(view, &mut more);
                if !view.holds(&more) {
                    plan.extend(more);
                    return None;
                }
                work.take().map(|work| work(view))
            };
            let done = on_locked(
                keyspace,
                who,
                (self.now, &self.rules),
                (entry, arguments),
                (locked, None),
                &mut self.effects,
                run,
            );
            if let Some(done) = done {
                return Ok(done);
            }
        }
        unreachable!("with all partitions locked nothing is out of reach")
    }

    /// Takes a sweep one step further: visits its next partition, or finishes. `Some` while there is more to do.
    pub fn sweep_step(
        &mut self,
        session: &mut Session,
        mut sweeping: Sweeping,
        arguments: Arguments<'_>,
        output: &mut Output,
    ) -> Option<Sweeping> {
        let server = Arc::clone(&self.server);
        let scene = Scene {
            keyspace: &server.keyspace,
            database: session.database,
            run: Run {
                now: self.now,
                rules: &self.rules,
                rng: &session.rng,
                touch: !session.no_touch,
            },
        };
        let mut reply = Reply::new(output, session.protocol);
        let place = sweeping
            .place
            .take()
            .or_else(|| sweeping.sweep.next(&scene));
        if let Some(place) = place {
            match lock_one(&server.keyspace, place, sweeping.round) {
                Ok(mut held) => {
                    sweeping.round = 0;
                    self.effects.begin(server.keyspace.listeners.interest());
                    sweeping.sweep.visit(
                        place,
                        &mut held.partition,
                        &scene,
                        &mut self.effects,
                        &mut reply,
                    );
                    self.effects.bytes += held.partition.take_bytes();
                    self.effects.append(&server.keyspace.listeners);
                }
                Err(Contended) => {
                    if let Some(error) = self.is_busy(&[place]) {
                        reply.truncate(sweeping.mark);
                        self.reject(None, &error, &mut reply);
                        self.replied(session, sweeping.mark, output);
                        return None;
                    }
                    sweeping.round = self.next_round(sweeping.round);
                    sweeping.place = Some(place);
                }
            }
            self.after_release();
            return Some(sweeping);
        }
        sweeping.sweep.finish(&scene, &mut self.effects, &mut reply);
        self.effects.append(&server.keyspace.listeners);
        self.after_release();
        self.serve_ready();
        let id = sweeping.id;
        let slow = self.tally.record(&server.stats, id, false, 0);
        if let Some(took) = slow {
            let command = self.table.entry(id).command;
            record::slow(&server, session, command, arguments, self.now, took);
        }
        self.replied(session, sweeping.mark, output);
        None
    }

    /// Begins a command that goes through partitions.
    fn begin_sweep(
        &self,
        session: &Session,
        entry: &Entry<Handler>,
        args: &mut Args<'_>,
    ) -> Result<Box<dyn Sweep>, CommandError> {
        let scene = self.scene(session);
        match entry.handler {
            Handler::Data(commands::Handler::Sweep(begin)) => begin(args, &scene),
            Handler::Admin(admin::Handler::Sweep(begin)) => begin(args, &self.server, &scene),
            _ => unreachable!("no other handler goes through partitions"),
        }
    }

    fn scene<'r>(&'r self, session: &'r Session) -> Scene<'r> {
        Scene {
            keyspace: &self.server.keyspace,
            database: session.database,
            run: Run {
                now: self.now,
                rules: &self.rules,
                rng: &session.rng,
                touch: !session.no_touch,
            },
        }
    }

    /// The row of a request, its shape checked.
    #[inline]
    fn find(
        &self,
        arguments: Arguments<'_>,
    ) -> Result<&'static Entry<Handler>, (Option<&'static Command>, CommandError)> {
        let name = arguments.get(0).unwrap_or_default();
        let Some(mut entry) = self.table.find(name) else {
            return Err((None, checks::unknown_command(arguments)));
        };
        if entry.is_container() && arguments.len() > 1 {
            let subcommand = arguments.get(1).unwrap_or_default();
            let Some(found) = self.table.find_subcommand(entry, subcommand) else {
                return Err((Some(entry.command), checks::unknown_subcommand(arguments)));
            };
            entry = found;
        }
        if !entry.accepts(arguments.len()) {
            return Err((
                Some(entry.command),
                CommandError::Arity(entry.full_name.as_str().into()),
            ));
        }
        Ok(entry)
    }

    #[inline]
    fn after_release(&mut self) {
        self.effects.publish(&self.server.keyspace.listeners);
        if let Some(garbage) = self.effects.take_garbage() {
            self.server.discard(garbage);
        }
        if self.effects.bytes.abs() > SETTLE_BYTES {
            self.settle();
        }
    }

    fn settle(&mut self) {
        settle(&self.server, &mut self.effects);
    }

    /// Refuses a request that did not run: EXEC will not run then, and an EXEC that is refused is the end of its transaction.
    #[cold]
    fn reject_within(
        &mut self,
        session: &mut Session,
        is_exec: bool,
        command: Option<&Command>,
        mut error: CommandError,
        reply: &mut Reply<'_>,
    ) {
        if is_exec {
            self.end_transaction(session);
            let why = error.text();
            let why = why.strip_prefix("ERR ").unwrap_or(&why);
            error =
                CommandError::text_of(format!("EXECABORT Transaction discarded because of: {why}"));
        } else if let Some(transaction) = session.transaction_mut() {
            transaction.is_refused = true;
        }
        self.reject(command, &error, reply);
    }

    /// Refuses a request that did not run.
    #[cold]
    fn reject(&mut self, command: Option<&Command>, error: &CommandError, reply: &mut Reply<'_>) {
        self.refuse(command, error, reply);
        self.tally.skip();
    }

    #[cold]
    fn refuse(&mut self, command: Option<&Command>, error: &CommandError, reply: &mut Reply<'_>) {
        reply.error_bytes(&error.wire());
        // What clients send unasked at their start must not look like trouble.
        let is_handshake = command.is_some_and(|command| command.flags.contains(Flags::HANDSHAKE));
        if !std::mem::take(&mut self.is_error_counted) && !is_handshake {
            self.server.stats.count_error(&error.prefix());
        }
    }

    /// Applies CLIENT REPLY to the reply that was just written.
    #[inline]
    fn replied(&self, session: &mut Session, mark: Mark, output: &mut Output) -> Step {
        if session.reply_mode != ReplyMode::On {
            match session.reply_mode {
                ReplyMode::SkipNext => session.reply_mode = ReplyMode::Skip,
                ReplyMode::Skip => {
                    output.truncate(mark);
                    session.reply_mode = ReplyMode::On;
                }
                _ => output.truncate(mark),
            }
            output.append(std::mem::take(&mut session.messages));
        }
        if session.tracker.is_some() {
            self.end_tracked(session, output);
        }
        Step::Done
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.end_batch();
    }
}

/// Runs `work` on what was locked, and does what has to be done while it is.
#[inline]
fn on_locked<'k, T>(
    keyspace: &'k Keyspace,
    who: Who<'k>,
    (now, rules): (Millis, &'k Rules),
    (entry, arguments): (&Entry<Handler>, Arguments<'_>),
    (locked, known): (Locked<'k>, Option<(&[u8], u64)>),
    effects: &'k mut Effects,
    work: impl FnOnce(&mut View<'_>) -> T,
) -> T {
    let interest = keyspace.listeners.interest();
    effects.begin(interest);
    let run = Run {
        now,
        rules,
        rng: who.rng,
        touch: who.touch,
    };
    let mut view = View::new(keyspace, who.database, locked, run, known, effects);
    let done = work(&mut view);
    view.end(arguments);
    if who.reader != 0 {
        tracked::remember(who.reader, entry, arguments, known, &mut view);
    }
    if !interest.is_empty() {
        view.append();
    }
    done
}

/// Adds to the accounts of all what a run, or a batch of them, changed.
fn settle(server: &Server, effects: &mut Effects) {
    let keyspace = &server.keyspace;
    keyspace.account(std::mem::take(&mut effects.bytes));
    keyspace.count_dirty(std::mem::take(&mut effects.dirty));
    let (hits, misses) = (effects.hits.take(), effects.misses.take());
    let expired = std::mem::take(&mut effects.expired);
    let expired_fields = std::mem::take(&mut effects.expired_fields);
    if hits | misses | expired | expired_fields != 0 {
        let mine = server.stats.mine();
        mine.hits.add(hits);
        mine.misses.add(misses);
        mine.expired.add(expired);
        mine.expired_fields.add(expired_fields);
    }
}

/// Whether a command runs inside a transaction instead of being queued.
fn is_immediate(entry: &Entry<Handler>) -> bool {
    matches!(
        entry.handler,
        Handler::Admin(
            admin::Handler::Immediate(_) | admin::Handler::Ending(_) | admin::Handler::Exec
        )
    )
}

fn is_ending(entry: &Entry<Handler>) -> bool {
    matches!(entry.handler, Handler::Admin(admin::Handler::Ending(_)))
}

fn is_exec(entry: &Entry<Handler>) -> bool {
    matches!(entry.handler, Handler::Admin(admin::Handler::Exec))
}

/// The keys that the row finds in a request.
fn keys_of<'a>(
    entry: &Entry<Handler>,
    arguments: Arguments<'a>,
    keys: &mut Vec<(usize, KeyAccess)>,
) -> SmallVec<[&'a [u8]; 4]> {
    let key = |position: usize| arguments.get(position).unwrap_or_default();
    match entry.shape.positions(arguments.len()) {
        Some(positions) => positions.map(key).collect(),
        None => {
            let _ = locate(entry.command, &arguments, keys);
            keys.iter().map(|(position, _)| key(*position)).collect()
        }
    }
}

/// The partitions of the keys that the row finds in a request.
fn plan(
    keyspace: &Keyspace,
    database: u32,
    entry: &Entry<Handler>,
    arguments: Arguments<'_>,
    keys: &mut Vec<(usize, KeyAccess)>,
) -> Result<Plan, CommandError> {
    let other = match entry.command.scope {
        Scope::KeysAndDatabase(find) => {
            find(&arguments)?.filter(|database| *database < keyspace.database_count())
        }
        _ => None,
    };
    let mut plan = Plan::new();
    let mut ahead = SmallVec::<[u64; WINDOW]>::new();
    let mut add = |position: usize| {
        let hash = keyspace
            .hasher()
            .hash(arguments.get(position).unwrap_or_default());
        if ahead.len() < PREFETCHED_KEYS {
            ahead.push(hash);
        }
        plan.push(keyspace.place(database, hash));
        if let Some(other) = other {
            plan.push(keyspace.place(other as u32, hash));
        }
    };
    match entry.shape.positions(arguments.len()) {
        Some(positions) => positions.for_each(&mut add),
        None => {
            // A request whose keys cannot be found locks nothing: its handler refuses it by its own syntax check.
            let _ = locate(entry.command, &arguments, keys);
            keys.iter().for_each(|(position, _)| add(*position));
        }
    }
    if ahead.len() > 1 {
        keyspace.prefetch(database, &ahead);
    }
    Ok(plan)
}

/// The protocol errors and refusals that happen before there is a session.
pub fn error_bytes(text: &str) -> bytes::Bytes {
    let mut output = Output::new();
    Reply::new(&mut output, Protocol::Resp2).error(text);
    let mut slices = [std::io::IoSlice::new(&[])];
    let count = output.fill(&mut slices);
    debug_assert_eq!(count, 1);
    bytes::Bytes::copy_from_slice(&slices[0])
}

#[cfg(test)]
mod tests;
