//! EXEC: what was queued since MULTI runs as one, on the union of the keys.

use super::{Handler, Runner, plan, record, settle, tracked};
use crate::base::rng::Rng;
use crate::base::worker::give_worker_away;
use crate::keyspace::effects::Effects;
use crate::keyspace::lock::{Contended, Locked, Places, Plan, lock_all, position};
use crate::keyspace::sweep::Scene;
use crate::keyspace::view::{Run, View};
use crate::keyspace::waiting::Outcome;
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::state::session::Session;
use crate::state::transaction::{Queued, Transaction, Watches};
use crate::table::lookup::Entry;
use crate::table::{Args, CommandError, Scope};
use crate::{admin, commands};

type Done = Result<(), CommandError>;

/// Commands from which a transaction may take more than a millisecond.
const HEAVY_COMMANDS: usize = 512;

impl Runner {
    /// Runs EXEC. What is contended stays queued.
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
        let (mut plan, is_whole) = self.union(session, transaction);
        // The partitions of a plan are built by this, which must not happen while the mapping is held.
        let mut locked = lock_all(keyspace, &mut plan, round)?;
        let mut _mapping = None;
        if is_whole {
            drop(locked);
            let everything = give_worker_away(|| keyspace.lock_everything());
            _mapping = Some(everything.0);
            locked = everything.1;
        }
        let watches = session.take_watches();
        let transaction = session.take_transaction().unwrap_or_default();
        if watches.is_some_and(|watches| self.is_changed(&watches, &locked)) {
            reply.null_array();
            return Ok(Ok(()));
        }
        let queued = transaction.queued();
        reply.array(queued.len());
        // The accounts are the transaction's until its end.
        let mut effects = std::mem::take(&mut self.effects);
        if queued.len() > HEAVY_COMMANDS {
            give_worker_away(|| self.run_all(session, queued, locked, &mut effects, reply));
        } else {
            self.run_all(session, queued, locked, &mut effects, reply);
        }
        self.effects = effects;
        Ok(Ok(()))
    }

    fn run_all(
        &mut self,
        session: &mut Session,
        queued: &[Queued],
        locked: Locked<'_>,
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
        for command in queued {
            self.run_queued(session, command, &mut view, reply);
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

    /// The partitions of all commands and of the watched keys, and whether a command goes through whole databases.
    fn union(&mut self, session: &Session, transaction: &Transaction) -> (Plan, bool) {
        let server = self.server.clone();
        let keyspace = &server.keyspace;
        let mut places = Plan::new();
        let mut is_whole = false;
        let mut database = session.database;
        for Queued { id, request } in transaction.queued() {
            let entry = self.table.entry(*id);
            let arguments = request.as_arguments();
            // What it reaches for depends on what those before it leave.
            if let Handler::Data(commands::Handler::Reach(..)) = entry.handler {
                places.extend(Places::all(database).iter());
            }
            match entry.command.scope {
                Scope::None => {}
                Scope::Sweep => is_whole = true,
                Scope::Selects(find) => {
                    let exists = |number: &u32| (*number as usize) < keyspace.database_count();
                    database = find(&arguments).filter(exists).unwrap_or(database);
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
        (places, is_whole)
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
        command: &Queued,
        view: &mut View<'_>,
        reply: &mut Reply<'_>,
    ) {
        let entry = self.table.entry(command.id);
        let arguments = command.request.as_arguments();
        let mark = reply.mark();
        let done = self.handle_queued(session, entry, arguments, view, reply);
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

    fn handle_queued(
        &mut self,
        session: &mut Session,
        entry: &'static Entry<Handler>,
        arguments: Arguments<'_>,
        view: &mut View<'_>,
        reply: &mut Reply<'_>,
    ) -> Done {
        let first = if entry.parent.is_some() { 2 } else { 1 };
        let mut args = Args::new(arguments, first);
        view.begin(session.database, !session.no_touch);
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
                "ERR keys cannot be sent to another server inside a transaction",
            )),
            Handler::Data(commands::Handler::Sweep(begin)) => {
                sweep_within(&self.scene(session), begin, &mut args, view, reply)
            }
            Handler::Admin(
                admin::Handler::Admin(handler)
                | admin::Handler::Immediate(handler)
                | admin::Handler::Ending(handler),
            ) => {
                // What happened to keys before a message was published is told before it.
                view.effects.publish(&self.server.keyspace.listeners);
                settle(&self.server, view.effects);
                self.settle_batch();
                let mut caller = admin::Caller {
                    server: &self.server,
                    session,
                    now: self.now,
                    in_transaction: true,
                };
                let done = handler(&mut args, &mut caller, reply);
                self.refresh();
                self.tally.follow(&self.settings);
                done
            }
            Handler::Admin(admin::Handler::Exec | admin::Handler::Container)
            | Handler::Data(commands::Handler::Container) => {
                Err(CommandError::Arity(entry.full_name.as_str().into()))
            }
        };
        view.end(arguments);
        let reader = session.reader();
        if reader != 0 {
            tracked::remember(reader, entry, arguments, None, view);
        }
        done
    }
}

/// Drives a sweep through partitions that are all locked.
fn sweep_within(
    scene: &Scene<'_>,
    begin: commands::BeginSweep,
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let mut sweep = begin(args, scene)?;
    let (locked, effects) = view.parts();
    while let Some(place) = sweep.next(scene) {
        let Some(index) = position(locked, place) else {
            continue;
        };
        let partition = &mut locked[index].partition;
        sweep.visit(place, partition, scene, effects, reply);
        effects.bytes += partition.take_bytes();
    }
    sweep.finish_within(scene, locked, effects, reply);
    Ok(())
}
