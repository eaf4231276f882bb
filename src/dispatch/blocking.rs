//! Serving the clients that wait for keys: see `keyspace::waiting`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Handler, Runner, Step, Who};
use crate::base::rng::Rng;
use crate::commands;
use crate::keyspace::lock::Contended;
use crate::keyspace::waiting::{Cancel, Claim, Outcome, Waiter};
use crate::resp::reply::{Output, Reply};
use crate::state::session::{After, Session};
use crate::table::{Args, CommandError};

/// A blocked command: what its connection waits for.
pub struct Blocked {
    /// The waiter, in the queues of its keys.
    pub waiter: Arc<Waiter>,
}

impl Runner {
    /// Serves who waits for the keys that became ready. Each waiter served leaves its queue, so this comes to an end.
    #[inline]
    pub(super) fn serve_ready(&mut self) {
        if self.effects.has_ready() {
            self.serve_all_ready();
        }
    }

    #[inline(never)]
    fn serve_all_ready(&mut self) {
        let server = Arc::clone(&self.server);
        let rng = Rng::from_system();
        let mut ready = VecDeque::from(self.effects.take_ready());
        while let Some((database, key)) = ready.pop_front() {
            let mut from = 0;
            while let Some(waiter) = server.keyspace.waiting.next(database, &key, from) {
                from = waiter.ticket() + 1;
                let goes_on = match waiter.claim() {
                    Claim::Mine => self.serve(&waiter, &key, &rng),
                    Claim::Busy => waiter.wait.is_reader,
                    Claim::Over => true,
                };
                ready.extend(self.effects.take_ready());
                if !goes_on {
                    break;
                }
            }
        }
    }

    /// Runs a claimed waiter's command. Whether the next one in the queue may find something.
    fn serve(&mut self, waiter: &Waiter, key: &[u8], rng: &Rng) -> bool {
        loop {
            let mut output = Output::new();
            if self.try_for(waiter, key, rng, &mut output) {
                self.server.keyspace.waiting.remove(waiter);
                waiter.serve(output);
                return true;
            }
            if waiter.release() {
                return waiter.wait.is_reader;
            }
        }
    }

    /// Whether there was something: a reply, or a refusal.
    fn try_for(&mut self, waiter: &Waiter, key: &[u8], rng: &Rng, output: &mut Output) -> bool {
        let Some(request) = waiter.request_for(key) else {
            return false;
        };
        let arguments = request.as_arguments();
        let Ok(entry) = self.find(arguments) else {
            return false;
        };
        let Handler::Data(commands::Handler::Block(handler)) = entry.handler else {
            return false;
        };
        let who = Who {
            database: waiter.database,
            rng,
            touch: !waiter.no_touch,
            reader: waiter.reader,
        };
        let writer = std::mem::replace(&mut self.effects.writer, waiter.client);
        let mark = output.mark();
        let mut reply = Reply::new(output, waiter.protocol);
        let mut round = 0;
        let done = loop {
            let mut args = Args::new(arguments, 1);
            let tried = self.with_view(who, entry, arguments, None, round, |view| {
                let kind = view.peek(key).map(|entry| entry.kind());
                if kind != Some(waiter.wait.kind) && !waiter.wait.minds_removal {
                    return Ok(false);
                }
                view.wake();
                let outcome = handler(&mut args, view, &mut reply)?;
                Ok(matches!(outcome, Outcome::Served))
            });
            match tried {
                Ok(done) => break done,
                // It is sent away, or has been.
                Err(Contended) if !self.runs_here(who.database, entry, arguments) => {
                    break Ok(false);
                }
                Err(Contended) => {
                    round += 1;
                    std::thread::yield_now();
                }
            }
        };
        if let Some(later) = self.effects.take_later() {
            later(&mut reply);
        }
        self.after_release();
        self.effects.writer = writer;
        let failed = done.is_err();
        if let Err(error) = &done {
            reply.truncate(mark);
            self.refuse(Some(entry.command), error, &mut reply);
        }
        let served = done.unwrap_or(true);
        if served {
            self.tally.record(&self.server.stats, entry.id, failed, 0);
        }
        served
    }

    /// Ends a blocked command with what came of it.
    pub fn unblocked(
        &mut self,
        session: &mut Session,
        blocked: &Blocked,
        end: Result<Output, Cancel>,
        output: &mut Output,
    ) -> Step {
        // Messages may have been sent since it began to wait.
        let mark = output.mark();
        match end {
            Ok(reply) => output.append(reply),
            Err(cancel) => {
                let mut reply = Reply::new(output, session.protocol);
                match cancel {
                    Cancel::Timeout => {
                        blocked.waiter.wait.nothing.write(&mut reply);
                        self.count_unserved(&blocked.waiter, false);
                    }
                    Cancel::Unblocked => {
                        self.refuse(None, &UNBLOCKED, &mut reply);
                        self.count_unserved(&blocked.waiter, true);
                    }
                    Cancel::Gone => session.after = After::Drop,
                    // Its connection runs it again instead.
                    Cancel::Moved => return Step::Contended,
                }
            }
        }
        self.replied(session, mark, output)
    }

    /// Counts a command that waited in vain, without the time for which it waited.
    fn count_unserved(&mut self, waiter: &Waiter, failed: bool) {
        let request = waiter.wait.keys.first();
        let entry = request.and_then(|(_, request)| self.find(request.as_arguments()).ok());
        if let Some(id) = entry.map(|entry| entry.id) {
            self.tally.skip();
            self.tally.record(&self.server.stats, id, failed, 0);
        }
    }
}

const UNBLOCKED: CommandError =
    CommandError::fixed("UNBLOCKED client unblocked via CLIENT UNBLOCK");
