//! Runs one request against a keyspace, as dispatch does but without its checks: for the tests of handlers.
//!
//! A [`World`] is a keyspace with a hand-moved clock, and it listens to itself: what was propagated and which events were
//! reported can be asked for. Words of a request are separated and quoted as in an inline command.
//!
//! ```ignore
//! let world = World::new();
//! assert_eq!(run(&world, "SET k v EX 10"), "+OK\r\n");
//! assert_eq!(world.records(), [format!("SET k v PXAT {}", world.now().0 + 10_000)]);
//! world.advance_ms(10_001);
//! assert_eq!(run(&world, "GET k"), "$-1\r\n");
//! ```

use std::cell::Cell;
use std::sync::{Arc, Mutex, OnceLock};

use super::{FAMILIES, Handler};
use crate::base::clock::Millis;
use crate::base::rng::Rng;
use crate::base::split::split_args;
use crate::keyspace::Keyspace;
use crate::keyspace::effects::{Effects, Event, Interest, Listener, Record};
use crate::keyspace::evict::Rules;
use crate::keyspace::hash::KeyHasher;
use crate::keyspace::lock::{PATIENCE, Plan, lock_all};
use crate::keyspace::sweep::Scene;
use crate::keyspace::view::{Run, View};
use crate::keyspace::waiting::Outcome;
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::resp::reply::{Output, Protocol, Reply};
use crate::table::keys::locate;
use crate::table::lookup::{Entry, Table};
use crate::table::{Args, CommandError, Scope};

/// A keyspace of 16 databases at a time that only tests move.
pub struct World {
    /// The keyspace itself.
    pub keyspace: Keyspace,
    /// The parameters it runs under.
    pub rules: Rules,
    /// The database of the client.
    pub database: Cell<u32>,
    /// What the client speaks.
    pub protocol: Cell<Protocol>,
    /// Whether its commands move access clocks (CLIENT NO-TOUCH).
    pub touch: Cell<bool>,
    /// Reads that found their key, and that did not.
    pub hits: Cell<(u64, u64)>,
    /// Whether what commands on keys do is taken back at once.
    pub takes_back: Cell<bool>,
    now: Cell<Millis>,
    rng: Rng,
    heard: Arc<Heard>,
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// An empty one, at a fixed time and with a fixed seed.
    pub fn new() -> World {
        let now = Millis(1_700_000_000_000);
        let keyspace = Keyspace::new(16, KeyHasher::with_key(1, 2), now);
        let heard = Arc::new(Heard::default());
        keyspace.listeners.add(heard.clone());
        World {
            keyspace,
            rules: Rules::default(),
            database: Cell::new(0),
            protocol: Cell::new(Protocol::Resp2),
            touch: Cell::new(true),
            hits: Cell::new((0, 0)),
            takes_back: Cell::new(false),
            now: Cell::new(now),
            rng: Rng::seeded(7),
            heard,
        }
    }

    /// The time.
    pub fn now(&self) -> Millis {
        self.now.get()
    }

    /// Moves the time on.
    pub fn advance_ms(&self, milliseconds: i64) {
        self.now.set(self.now.get().plus(milliseconds));
    }

    /// What was propagated since the last call.
    pub fn take_records(&self) -> Vec<Record> {
        let mut records = self.heard.records.lock();
        std::mem::take(
            records
                .as_mut()
                .expect("tests do not panic while listening"),
        )
    }

    /// As [`World::take_records`], a command a line; bytes beyond ASCII escaped.
    pub fn records(&self) -> Vec<String> {
        let records = self.take_records();
        let text = |record: &Record| {
            record
                .command
                .iter()
                .map(|part| part.escape_ascii().to_string())
                .collect::<Vec<_>>()
        };
        records
            .iter()
            .map(|record| text(record).join(" "))
            .collect()
    }

    /// The events since the last call: `set k`.
    pub fn events(&self) -> Vec<String> {
        let events = std::mem::take(
            &mut *self
                .heard
                .events
                .lock()
                .expect("tests do not panic while listening"),
        );
        events
            .iter()
            .map(|event| format!("{} {}", event.name, event.key.escape_ascii()))
            .collect()
    }

    /// Runs a request and returns its reply.
    ///
    /// # Panics
    ///
    /// When the command is unknown, or a handler that refused has changed something.
    pub fn run(&self, request: &Arguments<'_>) -> Vec<u8> {
        let mut output = Output::new();
        let mut reply = Reply::new(&mut output, self.protocol.get());
        if let Err(error) = self.reply_to(request, &mut reply) {
            output = Output::new();
            Reply::new(&mut output, self.protocol.get()).error(&error.text());
        }
        let mut slices = vec![std::io::IoSlice::new(&[]); 1024];
        let count = output.fill(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    fn reply_to(&self, request: &Arguments<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
        let (entry, first) = find(request)?;
        let args = Args::new(*request, first);
        let run = Run {
            now: self.now(),
            rules: &self.rules,
            rng: &self.rng,
            touch: self.touch.get(),
        };
        match entry.handler {
            Handler::Read(_)
            | Handler::Write(_)
            | Handler::Block(_)
            | Handler::Reach(..)
            | Handler::Migrate(_) => self.run_on_keys(entry, args, run, reply),
            Handler::Sweep(begin) => self.run_sweep(begin, args, run, reply),
            Handler::Container => panic!("{}: a container was called", entry.full_name),
        }
    }

    fn run_on_keys(
        &self,
        entry: &Entry<Handler>,
        mut args: Args<'_>,
        run: Run<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let request = args.all();
        let mut plan = self.plan(entry, &request)?;
        let mut effects = Effects::default();
        effects.begin(self.keyspace.listeners.interest());
        if let Handler::Reach(reach, _) = entry.handler {
            self.reach(reach, &args, &mut plan, run);
        }
        let locked = lock_all(&self.keyspace, &mut plan, PATIENCE).expect("a patient taker waits");
        let mut view = View::new(
            &self.keyspace,
            self.database.get(),
            locked,
            run,
            None,
            &mut effects,
        );
        if self.takes_back.get() {
            view.keep_undo(Box::default());
        }
        let result = match entry.handler {
            Handler::Reach(_, handler) => handler(&mut args, &mut view, reply),
            // The other server takes everything.
            Handler::Migrate(begin) => begin(&mut args, &view, reply).and_then(|migration| {
                let Some(migration) = migration else {
                    return Ok(());
                };
                let keys = (0..migration.keys.len()).collect();
                let arrived = super::migrate::Arrived { keys, error: None };
                reply.ok();
                super::migrate::finish(&migration, &arrived, |_| false, &mut view)
            }),
            Handler::Read(handler) => handler(&mut args, &view, reply),
            Handler::Write(handler) => handler(&mut args, &mut view, reply),
            // Nobody waits here: as in a transaction.
            Handler::Block(handler) => handler(&mut args, &mut view, reply).map(|outcome| {
                if let Outcome::Wait(wait) = outcome {
                    wait.nothing.write_at_once(reply);
                }
            }),
            Handler::Sweep(_) | Handler::Container => unreachable!("has no keys"),
        };
        match result {
            Err(_) => assert_eq!(view.effects.dirty, 0, "refused, but something was changed"),
            Ok(()) if view.effects.dirty > 0 && view.effects.is_verbatim() => {
                let command: Vec<&[u8]> = request.iter().collect();
                view.effects.record(self.database.get(), &command);
            }
            Ok(()) => {}
        }
        view.finish();
        view.undo();
        view.append();
        drop(view);
        self.settle(&mut effects, reply);
        result
    }

    /// Adds what a command reaches for: all that there is, since nobody else changes anything.
    fn reach(&self, reach: super::Reach, args: &Args<'_>, plan: &mut Plan, run: Run<'_>) {
        let locked = lock_all(&self.keyspace, plan, PATIENCE).expect("a patient taker waits");
        let (database, effects) = (self.database.get(), &mut Effects::default());
        let view = View::new(&self.keyspace, database, locked, run, None, effects);
        reach(&mut args.clone(), &view, plan);
    }

    fn run_sweep(
        &self,
        begin: super::BeginSweep,
        mut args: Args<'_>,
        run: Run<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let scene = Scene {
            keyspace: &self.keyspace,
            database: self.database.get(),
            run,
        };
        let mut effects = Effects::default();
        effects.begin(self.keyspace.listeners.interest());
        let mut sweep = begin(&mut args, &scene)?;
        while let Some(place) = sweep.next(&scene) {
            let mut plan = Plan::from_elem(place, 1);
            let mut locked =
                lock_all(&self.keyspace, &mut plan, PATIENCE).expect("a patient taker waits");
            sweep.visit(place, &mut locked[0].partition, &scene, &mut effects, reply);
            effects.bytes += locked[0].partition.take_bytes();
            effects.append(&self.keyspace.listeners);
        }
        sweep.finish(&scene, &mut effects, reply);
        effects.append(&self.keyspace.listeners);
        self.settle(&mut effects, reply);
        Ok(())
    }

    /// What dispatch does after release.
    fn settle(&self, effects: &mut Effects, reply: &mut Reply<'_>) {
        if let Some(later) = effects.take_later() {
            later(reply);
        }
        drop(effects.take_garbage());
        effects.publish(&self.keyspace.listeners);
        self.keyspace.account(effects.bytes);
        self.keyspace.count_dirty(effects.dirty);
        let (hits, misses) = self.hits.get();
        self.hits
            .set((hits + effects.hits.get(), misses + effects.misses.get()));
    }

    /// The places of a request's keys.
    fn plan(&self, entry: &Entry<Handler>, request: &Arguments<'_>) -> Result<Plan, CommandError> {
        let positions: Vec<usize> = match entry.shape.positions(request.len()) {
            Some(positions) => positions.collect(),
            None => {
                let mut keys = Vec::new();
                // Without keys the handler runs on nothing, and says itself what is wrong.
                let _ = locate(entry.command, request, &mut keys);
                keys.into_iter().map(|(position, _)| position).collect()
            }
        };
        let mut databases = vec![self.database.get()];
        if let Scope::KeysAndDatabase(other) = entry.command.scope {
            let other = other(request)?.map(|number| number as u32);
            databases.extend(other.filter(|number| *number != self.database.get()));
        }
        let mut plan = Plan::new();
        for database in databases {
            for &position in &positions {
                plan.push(
                    self.keyspace
                        .place(database, self.keyspace.hasher().hash(&request[position])),
                );
            }
        }
        Ok(plan)
    }
}

/// Runs a request in inline notation and returns the reply, whose bytes beyond UTF-8 are replaced.
pub fn run(world: &World, line: &str) -> String {
    let words = split_args(line.as_bytes()).expect("the request's quotes are balanced");
    String::from_utf8_lossy(&run_parts(world, &words)).into_owned()
}

/// Runs a request given in parts and returns the reply.
pub fn run_parts<P: AsRef<[u8]>>(world: &World, parts: &[P]) -> Vec<u8> {
    world.run(&OwnedArguments::from(parts).as_arguments())
}

/// The row of a request, and where its arguments begin.
fn find(request: &Arguments<'_>) -> Result<(&'static Entry<Handler>, usize), CommandError> {
    static TABLE: OnceLock<Table<Handler>> = OnceLock::new();
    let table = TABLE.get_or_init(|| Table::build(FAMILIES.iter().copied().flatten()));
    let unknown = || panic!("no such command: {request:?}");
    let entry = table.find(&request[0]).unwrap_or_else(unknown);
    let subcommand = request.get(1).filter(|_| entry.is_container());
    let (entry, first) = match subcommand {
        Some(name) => (
            table.find_subcommand(entry, name).unwrap_or_else(unknown),
            2,
        ),
        None => (entry, 1),
    };
    if !entry.accepts(request.len()) {
        return Err(CommandError::Arity(entry.full_name.clone().into()));
    }
    Ok((entry, first))
}

#[derive(Default)]
struct Heard {
    records: Mutex<Vec<Record>>,
    events: Mutex<Vec<Event>>,
}

impl Listener for Heard {
    fn interest(&self) -> Interest {
        Interest::all()
    }

    fn append(&self, records: &[Record]) {
        self.records
            .lock()
            .expect("tests do not panic while listening")
            .extend_from_slice(records);
    }

    fn publish(&self, events: &[Event]) {
        self.events
            .lock()
            .expect("tests do not panic while listening")
            .extend_from_slice(events);
    }
}
