//! EVAL, EVALSHA, FCALL and their kin: a script on the partitions of its keys.
//!
//! A script locks the keys that it declares. What else it reaches for, it may lock while it runs if it has the leave to wait
//! with locks in its hands ([`Leave`]), of which there is one:
//!
//! ```text
//!     locks its keys ----> runs ----> a command needs more --> takes the leave, if it is free, and locks more; goes on
//!          ^                                    |
//!          |                                    +-- somebody has it: all is taken back (View::undo)
//!          +---- with the leave <---------------+
//! ```
//!
//! So scripts that keep to their keys run side by side, and others run with the same promises, one at a time. A script that
//! has reached for more once takes the leave from the start. What cannot be taken back (a message that was published) or is
//! dear to keep a copy of (a large value) needs the leave too.
//!
//! A run is ended by its interrupt, whether somebody asked for it (SCRIPT KILL) or it has to begin again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Handler, Runner, Step, checks, is_exec, keys_of, plan, record};
use crate::admin;
use crate::admin::scripts::{NO_SCRIPT, busy};
use crate::admin::{Named, ScriptCall};
use crate::base::rng::Rng;
use crate::commands;
use crate::data::number;
use crate::keyspace::Keyspace;
use crate::keyspace::effects::Effects;
use crate::keyspace::evict::Rules;
use crate::keyspace::lock::{Contended, Leave, Locked, Place, Places, Plan, lock_all, lock_one};
use crate::keyspace::view::{Run, View};
use crate::keyspace::whole::Mapping;
use crate::resp::decode::Arguments;
use crate::resp::reply::{Mark, Output, Protocol, Reply};
use crate::script::engine::ScriptRun;
use crate::script::{Host, ScriptFlags};
use crate::state::Server;
use crate::state::scripts::{Seat, Subject};
use crate::state::session::Session;
use crate::table::keys::Shape;
use crate::table::lookup::Entry;
use crate::table::{Command, CommandError, Flags, Scope};

type Done = Result<(), CommandError>;

/// What a run has beside partitions: the leave to lock more, the mapping of databases.
pub(super) struct Grip<'k> {
    keyspace: &'k Keyspace,
    leave: Option<Leave<'k>>,
    mapping: Option<Mapping<'k>>,
}

impl<'k> Grip<'k> {
    /// Neither.
    pub(super) fn none(keyspace: &'k Keyspace) -> Grip<'k> {
        Grip {
            keyspace,
            leave: None,
            mapping: None,
        }
    }

    /// Takes the leave unless somebody else has it. Whether it has it now.
    pub(super) fn try_leave(&mut self) -> bool {
        if self.leave.is_none() {
            self.leave = self.keyspace.try_leave();
        }
        self.leave.is_some()
    }

    /// Waits for the leave, and locks everything.
    pub(super) fn lock_everything(&mut self) -> Locked<'k> {
        let keyspace = self.keyspace;
        let leave = self.leave.get_or_insert_with(|| keyspace.wait_for_leave());
        let mapping = self
            .mapping
            .get_or_insert_with(|| keyspace.hold_mapping(leave));
        let mut locked = Locked::new();
        keyspace.lock_rest(&mut locked, leave, mapping);
        locked
    }

    /// Locks what a command needs. The leave is there.
    fn lock_more(&mut self, view: &mut View<'_>, needs: &Needs, seat: &Seat) {
        let Some(leave) = &self.leave else {
            return;
        };
        match needs {
            Needs::Places(places) => {
                view.lock_more(places, leave, self.mapping.as_ref());
                seat.add_places(places);
            }
            Needs::Everything => {
                let mapping = self
                    .mapping
                    .get_or_insert_with(|| self.keyspace.hold_mapping(leave));
                view.lock_rest(leave, mapping);
                seat.add_places(&view.held_places());
            }
        }
    }
}

/// What a command of a script needs to be locked.
enum Needs {
    Places(Plan),
    Everything,
}

/// How a run ended.
enum Ran {
    /// It is over.
    Done(Done),
    /// Everything was taken back: it has to begin again with the leave.
    Again,
}

impl Runner {
    /// Runs a script on the partitions of its keys. What is contended stays undone.
    // Not a part of the path of ordinary commands, whose stack frame would be as large as this one's.
    #[inline(never)]
    pub(super) fn script(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        call: ScriptCall,
        (arguments, hash): (Arguments<'_>, Option<u64>),
        reply: &mut Reply<'_>,
        round: u32,
    ) -> Result<Done, Contended> {
        if round == 0 {
            self.wants_leave = false;
        }
        let held = match self.held.take() {
            Some(held) if Arc::ptr_eq(&held.1, &self.rules) => held,
            _ => (Arc::clone(&self.server), Arc::clone(&self.rules)),
        };
        let (server, rules) = (&held.0, &*held.1);
        let around = (server, rules, round);
        let ran = self.script_around(around, session, entry, call, (arguments, hash), reply);
        self.held = Some(held);
        ran
    }

    fn script_around(
        &mut self,
        (server, rules, round): (&Arc<Server>, &Rules, u32),
        session: &mut Session,
        entry: &'static Entry<Handler>,
        call: ScriptCall,
        (arguments, hash): (Arguments<'_>, Option<u64>),
        reply: &mut Reply<'_>,
    ) -> Result<Done, Contended> {
        let keyspace = &server.keyspace;
        let prepared = self.prepare(session, call, arguments);
        let (subject, keys) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        let database = session.database;
        let first = hash.filter(|_| keys > 0).zip(arguments.get(3));
        let mut grip = Grip::none(keyspace);
        self.wants_leave |= subject.strays();
        if self.wants_leave && !grip.try_leave() {
            return Err(Contended);
        }
        let locked = match first {
            Some((hash, _)) if keys == 1 => {
                let held = lock_one(keyspace, keyspace.place(database, hash), round)?;
                Locked::from_iter([held])
            }
            _ => match plan(keyspace, database, entry, arguments, &mut self.keys) {
                Ok(mut places) => lock_all(keyspace, &mut places, round)?,
                Err(error) => return Ok(Err(error)),
            },
        };
        if self.has_moved() {
            return Err(Contended);
        }
        let mut effects = self.lend_effects();
        let rng = Rng::seeded(session.rng.bits());
        let run = Run {
            now: self.now,
            rules,
            rng: &rng,
            touch: !session.no_touch,
        };
        let ran = {
            // Moved one by one, since the vector as a whole is not for a shorter time than it was made for.
            let mut here = Locked::with_capacity(locked.len());
            for held in locked {
                here.push(held);
            }
            let mut view = View::new(keyspace, database, here, run, None, &mut effects);
            if grip.leave.is_none() {
                view.keep_undo(self.spare_undo.take().unwrap_or_default());
            }
            let script = Prepared {
                subject: &subject,
                keys,
                first,
                is_read_only: call.is_read_only,
                command: entry.command,
                request: arguments,
            };
            let ran = self.run_script(server, session, &script, &mut view, &mut grip, reply);
            match ran {
                Ran::Again => view.undo(),
                Ran::Done(_) => {
                    view.effects.wrap_records(database);
                    self.spare_undo = view.forget_undo();
                }
            }
            // With the view the locks go: only now others may see it.
            view.append();
            ran
        };
        self.take_effects_back(effects);
        self.wants_leave = matches!(ran, Ran::Again);
        match ran {
            Ran::Done(done) => Ok(done),
            Ran::Again => Err(Contended),
        }
    }

    /// Runs a script inside a transaction, which has the leave.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a transaction hands to each of its commands, and what this one is"
    )]
    pub(super) fn script_within(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        call: ScriptCall,
        arguments: Arguments<'_>,
        view: &mut View<'_>,
        grip: &mut Grip<'_>,
        reply: &mut Reply<'_>,
    ) -> Done {
        debug_assert!(grip.leave.is_some());
        let (subject, keys) = self.prepare(session, call, arguments)?;
        let script = Prepared {
            subject: &subject,
            keys,
            first: None,
            is_read_only: call.is_read_only,
            command: entry.command,
            request: arguments,
        };
        view.begin(session.database, !session.no_touch, None);
        let server = Arc::clone(&self.server);
        let ran = self.run_script(&server, session, &script, view, grip, reply);
        match ran {
            Ran::Done(done) => done,
            Ran::Again => Err(CommandError::fixed(
                "ERR the script could not lock what it needs",
            )),
        }
    }

    /// What is to be run, and how many of the arguments are keys.
    fn prepare(
        &mut self,
        session: &Session,
        call: ScriptCall,
        arguments: Arguments<'_>,
    ) -> Result<(Subject, usize), CommandError> {
        let name = arguments.get(1).unwrap_or_default();
        let scripts = &self.server.scripts;
        let count = || key_count(arguments, call.named);
        let (subject, keys) = match call.named {
            Named::Text => {
                let keys = count()?;
                (Subject::Script(scripts.of_text(name)?), keys)
            }
            Named::Sha1 => {
                if name.len() != 40 {
                    return Err(NO_SCRIPT);
                }
                let keys = count()?;
                let last = self.last_script.upgrade();
                let known = match last.filter(|last| last.is(name)) {
                    Some(known) => known,
                    None => {
                        let known = scripts.find(name).ok_or(NO_SCRIPT)?;
                        self.last_script = Arc::downgrade(&known);
                        known
                    }
                };
                (Subject::Script(known), keys)
            }
            Named::Function => {
                let libraries = self.server.functions.current();
                let name = std::str::from_utf8(name).unwrap_or_default();
                let (library, _) = libraries
                    .find(name)
                    .ok_or(CommandError::fixed("ERR Function not found"))?;
                let subject = Subject::Function(Arc::clone(library), name.to_owned());
                (subject, count()?)
            }
        };
        self.may_begin(session, subject.flags(), call.is_read_only)?;
        Ok((subject, keys))
    }

    /// Whether a script of these flags may run now.
    fn may_begin(
        &self,
        session: &Session,
        flags: ScriptFlags,
        is_read_only: bool,
    ) -> Result<(), CommandError> {
        if flags.contains(ScriptFlags::COMPATIBILITY) {
            return Ok(());
        }
        if is_read_only && !flags.contains(ScriptFlags::NO_WRITES) {
            return Err(CommandError::fixed(
                "ERR Can not execute a script with write flag using *_ro command.",
            ));
        }
        let may_grow = flags.intersects(ScriptFlags::ALLOW_OOM | ScriptFlags::NO_WRITES);
        if !may_grow && checks::is_over_memory(&self.server, &self.rules, session, self.now) {
            return Err(CommandError::fixed(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            ));
        }
        Ok(())
    }

    /// What becomes of a request that was contended while scripts run for long: it waits, unless it waits for one that has
    /// run for longer than busy-reply-threshold.
    #[cold]
    pub(super) fn held_up(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        arguments: Arguments<'_>,
        output: &mut Output,
        mark: Mark,
    ) -> Step {
        let keyspace = &self.server.keyspace;
        let places = match session.transaction() {
            Some(transaction) if is_exec(entry) => self.union_places(session, transaction),
            _ => plan(keyspace, session.database, entry, arguments, &mut self.keys)
                .unwrap_or_default(),
        };
        let Some(error) = self.is_busy(&places) else {
            return Step::Contended;
        };
        let mut reply = Reply::new(output, session.protocol);
        reply.truncate(mark);
        self.reject_within(
            session,
            is_exec(entry),
            Some(entry.command),
            error,
            &mut reply,
        );
        self.replied(session, mark, output)
    }

    /// The refusal of who waits for one of these partitions, or for the leave, when a script has held it for too long.
    pub(super) fn is_busy(&self, places: &[Place]) -> Option<CommandError> {
        let limit = self.settings.busy_reply_threshold;
        if limit.is_zero() {
            return None;
        }
        let wants_leave = self.wants_leave;
        let is_wanted =
            |held: &[Place]| wants_leave || places.iter().any(|place| held.contains(place));
        self.server.scripts.overdue(limit, is_wanted).map(busy)
    }

    /// The effects of the batch, for commands that run within one; [`Runner::take_effects_back`] ends that.
    pub(super) fn lend_effects(&mut self) -> Box<Effects> {
        let spare = self.spare_effects.take().unwrap_or_default();
        std::mem::replace(&mut self.effects, spare)
    }

    pub(super) fn take_effects_back(&mut self, effects: Box<Effects>) {
        self.spare_effects = Some(std::mem::replace(&mut self.effects, effects));
    }

    fn run_script(
        &mut self,
        server: &Arc<Server>,
        session: &mut Session,
        script: &Prepared<'_>,
        view: &mut View<'_>,
        grip: &mut Grip<'_>,
        reply: &mut Reply<'_>,
    ) -> Ran {
        let flags = script.subject.flags();
        let is_compatible = flags.contains(ScriptFlags::COMPATIBILITY);
        let limits = Limits {
            is_read_only: script.is_read_only || flags.contains(ScriptFlags::NO_WRITES),
            refuses_growth: !flags.contains(ScriptFlags::ALLOW_OOM)
                && is_compatible
                && checks::is_over_memory(server, &self.rules, session, self.now),
        };
        if server.monitors.any() {
            record::monitor_always(server, session, script.command, script.request);
        }
        let database = session.database;
        let was_in_script = std::mem::replace(&mut session.in_script, true);
        let begun = self.tally.begin_nested();
        let keys = script.request.range(3, 3 + script.keys);
        let values = script.request.tail(3 + script.keys);
        let (ran, is_error_counted) = server.scripts.with_engine(|engine, seat| {
            let places = view.held_places();
            let _sitting = seat.sit(script.subject, script.request, places.into_iter());
            let mut host = Calls {
                runner: self,
                session,
                view,
                grip,
                limits,
                seat,
                first: script.first,
                is_again: false,
                strays: false,
                targets: ALL_TARGETS,
            };
            let run = ScriptRun {
                host: &mut host,
                interrupt: &seat.interrupt,
            };
            let done = match script.subject {
                Subject::Script(known) => engine.eval(&known.script, keys, values, run, reply),
                Subject::Function(library, name) => {
                    engine.call_function(&library.text, name, keys, values, run, reply)
                }
            };
            let (is_again, strays) = (host.is_again, host.strays);
            seat.note_memory(engine.used_memory());
            if strays {
                script.subject.note_straying();
            }
            let ran = if is_again {
                Ran::Again
            } else {
                Ran::Done(done)
            };
            (ran, engine.is_error_counted())
        });
        self.is_error_counted = is_error_counted && matches!(ran, Ran::Done(Err(_)));
        self.tally.end_nested(begun);
        session.in_script = was_in_script;
        session.database = database;
        ran
    }
}

/// A script with the request that asks for it.
struct Prepared<'a> {
    subject: &'a Subject,
    /// How many arguments are keys.
    keys: usize,
    /// The hash and the name of the first of them, if the hash is at hand.
    first: Option<(u64, &'a [u8])>,
    /// Whether it was asked for by a command that only reads.
    is_read_only: bool,
    command: &'a Command,
    request: Arguments<'a>,
}

/// What the commands of a script may not do.
#[derive(Clone, Copy)]
struct Limits {
    is_read_only: bool,
    /// Whether commands that need memory are refused.
    refuses_growth: bool,
}

/// Where the writes of a script are told: the append-only file and the replicas.
const ALL_TARGETS: u8 = 3;

/// What the server is to a script.
struct Calls<'a, 'v, 'g> {
    runner: &'a mut Runner,
    session: &'a mut Session,
    view: &'a mut View<'v>,
    grip: &'a mut Grip<'g>,
    limits: Limits,
    seat: &'a Seat,
    /// The first of its keys, which many of its commands have, with the hash.
    first: Option<(u64, &'a [u8])>,
    /// Whether it has to begin again with the leave.
    is_again: bool,
    /// Whether it has reached for more than its keys.
    strays: bool,
    targets: u8,
}

impl Host for Calls<'_, '_, '_> {
    fn call(&mut self, request: Arguments<'_>, protocol: Protocol, output: &mut Output) {
        let mut reply = Reply::new(output, protocol);
        let (entry, hash) = match self.check(request) {
            Ok(found) => found,
            Err(error) => return reply.error_bytes(&error.wire()),
        };
        self.runner.tally.skip();
        let untold = (self.targets == 0).then(|| self.view.effects.mark());
        let request = (request, hash);
        self.runner
            .run_within(self.session, entry, request, self.view, &mut reply);
        if let Some(mark) = untold {
            self.view.effects.forget_records(&mark);
        }
    }

    fn set_replication(&mut self, targets: u8) {
        self.targets = targets & ALL_TARGETS;
    }

    fn log(&mut self, level: u8, message: &[u8]) {
        let message = message.escape_ascii();
        match level {
            0 => tracing::debug!("script: {message}"),
            1 => tracing::info!("script: {message}"),
            2 => tracing::info!("script: {message}"),
            _ => tracing::warn!("script: {message}"),
        }
    }

    fn may_run(&mut self, request: Arguments<'_>) -> Option<bool> {
        // There is one user, who may run everything.
        self.runner.table.find_request(&request).map(|_| true)
    }
}

impl Calls<'_, '_, '_> {
    /// The row of a command that may run now, with all locked that it needs, and the hash of its only key.
    fn check(
        &mut self,
        request: Arguments<'_>,
    ) -> Result<(&'static Entry<Handler>, Option<u64>), CommandError> {
        if self.is_again {
            return Err(begins_again());
        }
        let entry = self
            .runner
            .find(request)
            .map_err(|(_, error)| match error {
                CommandError::Arity(_) => CommandError::fixed(
                    "ERR Wrong number of args calling Redis command from script",
                ),
                _ => CommandError::fixed("ERR Unknown Redis command called from script"),
            })?;
        let flags = entry.command.flags;
        if flags.contains(Flags::NOSCRIPT) {
            return Err(CommandError::fixed(
                "ERR This Redis command is not allowed from script",
            ));
        }
        if flags.contains(Flags::WRITE) && self.limits.is_read_only {
            return Err(CommandError::fixed(
                "ERR Write commands are not allowed from read-only scripts.",
            ));
        }
        if flags.contains(Flags::DENYOOM) && self.limits.refuses_growth {
            return Err(CommandError::OutOfMemory);
        }
        let hash = match self.single(entry, request) {
            Some((hash, true)) => Some(hash),
            other => {
                self.lock(entry, request)?;
                other.map(|(hash, _)| hash)
            }
        };
        let database = self.session.database;
        self.runner
            .check_local(database, entry, request, self.strays)?;
        if flags.contains(Flags::WRITE) {
            self.seat.has_written.store(true, Ordering::Relaxed);
        }
        Ok((entry, hash))
    }

    /// The hash of the only key of a command, if it is one of those that have one, and whether it may run with what is
    /// locked.
    fn single(&self, entry: &Entry<Handler>, request: Arguments<'_>) -> Option<(u64, bool)> {
        let (Shape::Single(index), Scope::Keys) = (entry.shape, entry.command.scope) else {
            return None;
        };
        let is_simple = matches!(
            entry.handler,
            Handler::Data(commands::Handler::Read(_) | commands::Handler::Write(_))
        );
        let key = request.get(index).filter(|_| is_simple)?;
        let hash = match self.first {
            Some((hash, first)) if first == key => hash,
            _ => self.grip.keyspace.hasher().hash(key),
        };
        let place = self.grip.keyspace.place(self.session.database, hash);
        let may_run = self.view.holds_place(place)
            && (self.grip.leave.is_some()
                || !entry.command.flags.contains(Flags::WRITE)
                || !self.view.is_dear_to_undo(hash, key));
        Some((hash, may_run))
    }

    /// Locks what a command needs beside what is locked.
    fn lock(&mut self, entry: &Entry<Handler>, request: Arguments<'_>) -> Done {
        let needs = self.needs(entry, request);
        let holds = match &needs {
            Needs::Places(places) => self.view.holds(places),
            Needs::Everything => self.grip.mapping.is_some(),
        };
        if holds && (self.grip.leave.is_some() || !self.needs_leave(entry, request)) {
            return Ok(());
        }
        self.strays |= !holds;
        if !self.grip.try_leave() {
            self.is_again = true;
            self.seat.interrupt.kill();
            return Err(begins_again());
        }
        self.view.forget_undo();
        if !holds {
            self.grip.lock_more(self.view, &needs, self.seat);
        }
        Ok(())
    }

    fn needs(&mut self, entry: &Entry<Handler>, request: Arguments<'_>) -> Needs {
        let database = self.session.database;
        let keyspace = self.grip.keyspace;
        match (entry.handler, entry.command.scope) {
            (_, Scope::Sweep) => Needs::Everything,
            (_, Scope::None | Scope::Selects(_)) => Needs::Places(Plan::new()),
            (Handler::Data(commands::Handler::Reach(..)), _) => {
                Needs::Places(Places::all(database).iter().collect())
            }
            // What finds no keys refuses the request itself.
            (_, Scope::Keys | Scope::KeysAndDatabase(_)) => {
                let keys = &mut self.runner.keys;
                let mut places = plan(keyspace, database, entry, request, keys).unwrap_or_default();
                places.retain(|place| (place.database as usize) < keyspace.database_count());
                Needs::Places(places)
            }
        }
    }

    /// Whether a command does what cannot be taken back, or what it would be dear to take back.
    fn needs_leave(&mut self, entry: &Entry<Handler>, request: Arguments<'_>) -> bool {
        let flags = entry.command.flags;
        if let Handler::Admin(_) = entry.handler {
            return flags.intersects(Flags::WRITE | Flags::MAY_REPLICATE);
        }
        flags.contains(Flags::WRITE)
            && keys_of(entry, request, &mut self.runner.keys)
                .iter()
                .any(|key| self.view.is_dear_to_undo(self.view.hasher().hash(key), key))
    }
}

/// The first key of a script.
pub(super) fn first_key<'a>(entry: &Entry<Handler>, request: Arguments<'a>) -> Option<&'a [u8]> {
    match entry.handler {
        Handler::Admin(admin::Handler::Script(_)) if request.get(2) != Some(b"0") => request.get(3),
        _ => None,
    }
}

/// What the script sees of its end when it has to begin again; nobody else does.
fn begins_again() -> CommandError {
    CommandError::fixed("ERR the script begins again")
}

/// How many of the arguments are keys.
fn key_count(arguments: Arguments<'_>, named: Named) -> Result<usize, CommandError> {
    let text = arguments.get(2).unwrap_or_default();
    let count = number::parse_i64(text).ok_or(match named {
        Named::Function => CommandError::fixed("ERR Bad number of keys provided"),
        _ => CommandError::NotInteger,
    })?;
    if count > arguments.len() as i64 - 3 {
        return Err(CommandError::fixed(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    usize::try_from(count).map_err(|_| CommandError::fixed("ERR Number of keys can't be negative"))
}
