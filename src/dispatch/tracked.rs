//! The reads of clients that track (CLIENT TRACKING): what is remembered of them, and what comes after each command.

use std::sync::atomic::Ordering;

use super::{Handler, Runner};
use crate::keyspace::view::View;
use crate::resp::decode::Arguments;
use crate::resp::reply::Output;
use crate::state::session::Session;
use crate::table::Flags;
use crate::table::keys::locate;
use crate::table::lookup::Entry;

/// Remembers the keys of a read that has just run, refused or not, while they are locked. `known` is a key of the request
/// with its hash.
#[cold]
pub(super) fn remember(
    reader: u64,
    entry: &Entry<Handler>,
    request: Arguments<'_>,
    known: Option<(&[u8], u64)>,
    view: &mut View<'_>,
) {
    if !entry.command.flags.contains(Flags::READONLY) {
        return;
    }
    if let Some((key, hash)) = known {
        return view.remember_reader(hash, key, reader);
    }
    let mut remember = |position: usize| {
        let key = request.get(position).unwrap_or_default();
        view.remember_reader(view.hasher().hash(key), key, reader);
    };
    match entry.shape.positions(request.len()) {
        Some(positions) => positions.for_each(&mut remember),
        None => {
            let mut keys = Vec::new();
            let _ = locate(entry.command, &request, &mut keys);
            keys.iter().for_each(|(position, _)| remember(*position));
        }
    }
}

impl Runner {
    /// Ends a command of a client that tracks: CLIENT CACHING was for this one, and what it is to forget comes after the reply.
    #[cold]
    pub(super) fn end_tracked(&self, session: &mut Session, output: &mut Output) {
        let last = session.client.last_command.load(Ordering::Relaxed);
        let last = self.table.entry(last).command;
        if !last.flags.contains(Flags::KEEPS_CACHING) {
            session.end_caching();
        }
        if let Some(mail) = session.client.take_mail() {
            output.append(mail);
        }
    }
}
