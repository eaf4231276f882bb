//! EXEC: what was queued since MULTI runs as one, on the union of the keys.

use super::script::Grip;
use super::{Handler, Runner, plan, record, settle, tracked};
use crate::base::rng::Rng;
use crate::base::worker::give_worker_away;
use crate::keyspace::effects::Effects;
use crate::keyspace::lock::{Contended, Locked, Places, Plan, lock_all, position};
use crate::keyspace::sweep::Sweep;
use crate::keyspace::view::{Run, View};
use crate::keyspace::waiting::Outcome;
use crate::resp::decode::Arguments;
use crate::resp::reply::{Mark, Output, Reply};
use crate::state::session::Session;
use crate::state::transaction::{Transaction, Watches};
use crate::table::keys::Shape;
use crate::table::lookup::Entry;
use crate::table::{Args, CommandError, Scope};
use crate::{admin, commands};

type Done = Result<(), CommandError>;

/// What the commands of a transaction need.
struct Union {
    places: Plan,
    /// Whether a command goes through whole databases.
    is_whole: bool,
    /// Whether a command finds out while it runs what it needs.
    has_scripts: bool,
}

/// Commands from which a transaction may take more than a millisecond.
const HEAVY_COMMANDS: usize = 512;

impl Runner {
    /// Runs EXEC. What is contended stays queued.
    // As `Runner::script`.
    #[inline(never)]
    pub(super) fn exec(
        &mut self,
        session: &mut Session,
        reply: &mut Reply<'_>,
        round: u32,
    ) -> Result<Done, Contended> {
        let Some(transaction) = session.transaction() else {
            return Ok(Err(CommandError::fixed("ERR EXEC without MULTI")));
        };
        if transaction.is_refused {
            self.end_transaction(session);
            return Ok(Err(CommandError::fixed(
                "EXECABORT Transaction discarded because of previous errors.",
            )));
        }
        let server = self.server.clone();
        let keyspace = &server.keyspace;
        let mut union = self.union(session, transaction);
        // A script may find out that it needs more.
        let mut grip = Grip::none(keyspace);
        let locked = if union.is_whole {
            // Built before, so that they are locked with all others in one way through.
            for place in &union.places {
                keyspace.database(place.database);
            }
            grip.lock_everything()
        } else {
            if union.has_scripts && !grip.try_leave() {
                return Err(Contended);
            }
            lock_all(keyspace, &mut union.places, round)?
        };
        if self.has_moved() {
            return Err(Contended);
        }
        let watches = session.take_watches();
        let transaction = session.take_transaction().unwrap_or_default();
        if watches.is_some_and(|watches| self.is_changed(&watches, &locked)) {
            reply.null_array();
            return Ok(Ok(()));
        }
        reply.array(transaction.len());
        // The accounts are the transaction's until its end.
        let mut effects = self.lend_effects();
        let run = || {
            self.run_all(
                session,
                &transaction,
                locked,
                &mut grip,
                &mut effects,
                reply,
            )
        };
        if transaction.len() > HEAVY_COMMANDS {
            give_worker_away(run);
        } else {
            run();
        }
        session.keep_spare(transaction);
        self.take_effects_back(effects);
        Ok(Ok(()))
    }

    fn run_all(
        &mut self,
        session: &mut Session,
        transaction: &Transaction,
        locked: Locked<'_>,
        grip: &mut Grip<'_>,
        effects: &mut Effects,
        reply: &mut Reply<'_>,
    ) {
        let server = self.server.clone();
        let rules = self.rules.clone();
        let rng = Rng::seeded(session.rng.bits());
        let run = Run {
            now: self.now,
            rules: &rules,
            rng: &rng,
            touch: !session.no_touch,
        };
        let asked_in = session.database;
        // Moved one by one, since the vector as a whole is not for a shorter time than it was made for.
        let mut here = Locked::with_capacity(locked.len());
        for held in locked {
            here.push(held);
        }
        let mut view = View::new(&server.keyspace, asked_in, here, run, None, effects);
        for (id, request, hash) in transaction.queued() {
            let entry = self.table.entry(id);
            self.run_queued(session, entry, (request, hash), &mut view, grip, reply);
        }
        view.effects.wrap_records(asked_in);
        // With the view the locks go: only now others may see it.
        view.append();
    }

    /// Forgets what was queued and the watched keys.
    pub(super) fn end_transaction(&self, session: &mut Session) {
        session.take_transaction();
        session.take_watches();
    }

    /// The partitions that all commands and the watched keys need.
    pub(super) fn union_places(&mut self, session: &Session, transaction: &Transaction) -> Plan {
        self.union(session, transaction).places
    }

    /// What all commands and the watched keys need.
    fn union(&mut self, session: &Session, transaction: &Transaction) -> Union {
        let server = self.server.clone();
        let keyspace = &server.keyspace;
        let mut places = Plan::new();
        let (mut is_whole, mut has_scripts) = (false, false);
        let mut database = session.database;
        for (id, arguments, hash) in transaction.queued() {
            let entry = self.table.entry(id);
            // What it reaches for depends on what those before it leave.
            if let Handler::Data(commands::Handler::Reach(..)) = entry.handler {
                places.extend(Places::all(database).iter());
            }
            has_scripts |= matches!(entry.handler, Handler::Admin(admin::Handler::Script(_)));
            match entry.command.scope {
                Scope::None => {}
                Scope::Sweep => is_whole = true,
                Scope::Selects(find) => {
                    let exists = |number: &u32| (*number as usize) < keyspace.database_count();
                    database = find(&arguments).filter(exists).unwrap_or(database);
                }
                Scope::Keys
                    if let Some(hash) = hash
                        && let Shape::Single(_) = entry.shape =>
                {
                    places.push(keyspace.place(database, hash));
                }
                // What finds no keys refuses the request itself.
                Scope::Keys | Scope::KeysAndDatabase(_) => places.extend(
                    plan(keyspace, database, entry, arguments, &mut self.keys).unwrap_or_default(),
                ),
            }
        }
        let watched = session.watches.iter().flat_map(Watches::keys);
        places.extend(
            watched
                .map(|(database, key, _)| keyspace.place(*database, keyspace.hasher().hash(key))),
        );
        Union {
            places,
            is_whole,
            has_scripts,
        }
    }

    /// Whether a watched key was changed, or is there and its time is over.
    fn is_changed(&self, watches: &Watches, locked: &Locked<'_>) -> bool {
        let keyspace = &self.server.keyspace;
        watches.is_touched()
            || watches.keys().iter().any(|(database, key, was_expired)| {
                let hash = keyspace.hasher().hash(key);
                let place = keyspace.place(*database, hash);
                let found = position(locked, place)
                    .and_then(|index| locked[index].partition.find(hash, key));
                !was_expired && found.is_some_and(|entry| entry.is_expired(self.now))
            })
    }

    /// Runs one command on what is locked, and writes its reply, which may be a refusal.
    fn run_queued(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        (arguments, hash): (Arguments<'_>, Option<u64>),
        view: &mut View<'_>,
        grip: &mut Grip<'_>,
        reply: &mut Reply<'_>,
    ) {
        if let Handler::Admin(admin::Handler::Script(call)) = entry.handler {
            let mark = reply.mark();
            let done = self.script_within(session, entry, call, arguments, view, grip, reply);
            self.finish_within(session, entry, arguments, view, reply, (mark, done));
        } else {
            self.run_within(session, entry, (arguments, hash), view, reply);
        }
    }

    /// Runs one command on what a transaction or a script has locked, and writes its reply, which may be a refusal. `hash`:
    /// that of its only key, if it is at hand.
    pub(super) fn run_within(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        (arguments, hash): (Arguments<'_>, Option<u64>),
        view: &mut View<'_>,
        reply: &mut Reply<'_>,
    ) {
        let mark = reply.mark();
        let done = self.handle_within(session, entry, (arguments, hash), view, reply);
        self.finish_within(session, entry, arguments, view, reply, (mark, done));
    }

    /// Runs a command of a transaction that has run at a peer, and is [`Runner::is_of_entry`]; writes its reply, which may be a
    /// refusal.
    pub fn run_of_entry(
        &mut self,
        session: &mut Session,
        id: u16,
        request: Arguments<'_>,
        output: &mut Output,
    ) {
        let entry = self.table.entry(id);
        let Handler::Admin(
            admin::Handler::Admin(handler)
            | admin::Handler::Immediate(handler)
            | admin::Handler::Ending(handler),
        ) = entry.handler
        else {
            return;
        };
        let mut reply = Reply::new(output, session.protocol);
        let mark = reply.mark();
        let first = if entry.parent.is_some() { 2 } else { 1 };
        let done = self.call_admin(
            handler,
            session,
            &mut Args::new(request, first),
            &mut reply,
            true,
        );
        let failed = done.is_err();
        if let Err(error) = done {
            reply.truncate(mark);
            self.refuse(Some(entry.command), &error, &mut reply);
        }
        self.tally.record(&self.server.stats, entry.id, failed, 0);
    }

    /// Calls what is about the server or its clients.
    pub(super) fn call_admin(
        &mut self,
        handler: admin::AdminHandler,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        in_transaction: bool,
    ) -> Done {
        // It looks at the accounts: settle what the batch has changed so far.
        self.settle_batch();
        let sees_cluster = self.sees_cluster();
        let mut caller = admin::Caller {
            sees_cluster,
            server: &self.server,
            session,
            now: self.now,
            in_transaction,
        };
        let done = handler(args, &mut caller, reply);
        self.refresh();
        self.tally.follow(&self.settings);
        done
    }

    fn finish_within(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        arguments: Arguments<'_>,
        view: &mut View<'_>,
        reply: &mut Reply<'_>,
        (mark, done): (Mark, Done),
    ) {
        if let Some(later) = view.effects.take_later() {
            give_worker_away(|| later(reply));
        }
        let failed = done.is_err();
        if let Err(error) = done {
            reply.truncate(mark);
            self.refuse(Some(entry.command), &error, reply);
        }
        let slow = self.tally.record(&self.server.stats, entry.id, failed, 0);
        if let Some(took) = slow {
            let now = self.now;
            record::slow(&self.server, session, entry.command, arguments, now, took);
        }
        self.show(session, entry.command, arguments);
    }

    fn handle_within(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        (arguments, hash): (Arguments<'_>, Option<u64>),
        view: &mut View<'_>,
        reply: &mut Reply<'_>,
    ) -> Done {
        let first = if entry.parent.is_some() { 2 } else { 1 };
        let mut args = Args::new(arguments, first);
        let known = match (entry.shape, hash) {
            (Shape::Single(index), Some(hash)) => arguments.get(index).map(|key| (key, hash)),
            _ => None,
        };
        view.begin(session.database, !session.no_touch, known);
        let done = match entry.handler {
            Handler::Data(commands::Handler::Read(handler)) => handler(&mut args, view, reply),
            Handler::Data(commands::Handler::Write(handler)) => handler(&mut args, view, reply),
            Handler::Data(commands::Handler::Reach(_, handler)) => handler(&mut args, view, reply),
            // Inside a transaction nobody waits.
            Handler::Data(commands::Handler::Block(handler)) => handler(&mut args, view, reply)
                .map(|outcome| {
                    if let Outcome::Wait(wait) = outcome {
                        wait.nothing.write_at_once(reply);
                    }
                }),
            // What is locked here must not wait for another server.
            Handler::Data(commands::Handler::Migrate(_)) => Err(CommandError::fixed(
                "ERR keys cannot be sent to another server inside a transaction or a script",
            )),
            Handler::Data(commands::Handler::Sweep(_))
            | Handler::Admin(admin::Handler::Sweep(_)) => self
                .begin_sweep(session, entry, &mut args)
                .map(|sweep| sweep_within(sweep, view, reply)),
            Handler::Admin(
                admin::Handler::Admin(handler)
                | admin::Handler::Immediate(handler)
                | admin::Handler::Ending(handler),
            ) => {
                // What happened to keys before a message was published is told before it.
                if !view.keeps_undo() {
                    view.effects.publish(&self.server.keyspace.listeners);
                    settle(&self.server, view.effects);
                }
                self.call_admin(handler, session, &mut args, reply, true)
            }
            Handler::Admin(
                admin::Handler::Exec | admin::Handler::Script(_) | admin::Handler::Container,
            )
            | Handler::Data(commands::Handler::Container) => {
                Err(CommandError::Arity(entry.full_name.as_str().into()))
            }
        };
        view.end(arguments);
        let reader = session.reader();
        if reader != 0 {
            tracked::remember(reader, entry, arguments, known, view);
        }
        done
    }
}

/// Drives a sweep through partitions that are all locked.
fn sweep_within(mut sweep: Box<dyn Sweep>, view: &mut View<'_>, reply: &mut Reply<'_>) {
    let (scene, locked, effects) = view.parts();
    while let Some(place) = sweep.next(&scene) {
        let Some(index) = position(locked, place) else {
            continue;
        };
        let partition = &mut locked[index].partition;
        sweep.visit(place, partition, &scene, effects, reply);
        effects.bytes += partition.take_bytes();
    }
    sweep.finish_within(&scene, locked, effects, reply);
}
