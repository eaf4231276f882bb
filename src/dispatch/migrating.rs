//! Keys that go to another server: see `commands::migrate`.

use std::sync::Arc;

use super::{Handler, Runner, Step, Who};
use crate::commands::BeginMigration;
use crate::commands::migrate::{self, Arrived, Migration};
use crate::keyspace::lock::{Contended, Plan, lock_all};
use crate::resp::decode::Arguments;
use crate::resp::reply::{Mark, Output, Reply};
use crate::state::session::Session;
use crate::state::transaction::Watches;
use crate::table::lookup::Entry;
use crate::table::{Args, CommandError};

/// A migration under way, and what its end needs.
pub struct Migrating {
    /// What is sent.
    pub migration: Arc<Migration>,
    /// Whether a key changed meanwhile, for each.
    watches: Vec<Watches>,
    database: u32,
    id: u16,
    mark: Mark,
}

impl Runner {
    /// The first step of a migration.
    // As `Runner::script`.
    #[inline(never)]
    pub(super) fn begin_migrating(
        &mut self,
        session: &Session,
        entry: &Entry<Handler>,
        begin: BeginMigration,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        round: u32,
    ) -> Result<Result<Option<Migrating>, CommandError>, Contended> {
        let server = Arc::clone(&self.server);
        let who = Who::of(session);
        let (database, mark) = (who.database, reply.mark());
        self.with_view(who, entry, args.all(), None, round, |view| {
            let Some(migration) = begin(args, view, reply)? else {
                return Ok(None);
            };
            let watched = migration.keys.iter().map(|moving| {
                let mut watches = Watches::new(Arc::clone(&server));
                watches.add(database, &moving.key, false);
                watches
            });
            let watches = watched.collect();
            Ok(Some(Migrating {
                migration,
                watches,
                database,
                id: entry.id,
                mark,
            }))
        })
    }

    /// Ends a migration with what came of it.
    pub fn migrated(
        &mut self,
        session: &mut Session,
        migrating: &Migrating,
        arrived: &Arrived,
        arguments: Arguments<'_>,
        output: &mut Output,
        round: u32,
    ) -> Step {
        let server = Arc::clone(&self.server);
        let keyspace = &server.keyspace;
        let keys = arrived.keys.iter();
        let mut plan: Plan = keys
            .map(|&number| {
                let key = &migrating.migration.keys[number].key;
                keyspace.place(migrating.database, keyspace.hasher().hash(key))
            })
            .collect();
        let Ok(locked) = lock_all(keyspace, &mut plan, round) else {
            return Step::Contended;
        };
        let who = Who {
            database: migrating.database,
            ..Who::of(session)
        };
        let entry = self.table.entry(migrating.id);
        let done = super::on_locked(
            keyspace,
            who,
            (self.now, &self.rules),
            (entry, arguments),
            (locked, None),
            &mut self.effects,
            |view| {
                let is_changed = |number: usize| migrating.watches[number].is_touched();
                migrate::finish(&migrating.migration, arrived, is_changed, view)
            },
        );
        self.after_release();
        self.serve_ready();
        let mut reply = Reply::new(output, session.protocol);
        let failed = done.is_err();
        match done {
            Ok(()) => reply.ok(),
            Err(error) => self.refuse(Some(entry.command), &error, &mut reply),
        }
        let slow = self.tally.record(&server.stats, entry.id, failed, 0);
        if let Some(took) = slow {
            super::record::slow(&server, session, entry.command, arguments, self.now, took);
        }
        self.replied(session, migrating.mark, output)
    }
}
