//! Runs administrative commands on a server without sockets: for the tests of handlers.
//!
//! The clock stands until a test moves it; commands on keys are known to the table but not run here.

use std::io::IoSlice;
use std::sync::Arc;

use super::{Caller, FAMILIES, Handler};
use crate::base::clock::{Clock, Millis};
use crate::base::split::split_args;
use crate::commands;
use crate::config::{Config, Machine, Settings};
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::{Output, Protocol, Reply};
use crate::state::Server;
use crate::state::clients::Client;
use crate::state::session::Session;
use crate::table::lookup::{Table, TableBuilder};
use crate::table::{Args, CommandError};

/// A server and one client of it.
pub struct World {
    /// The server.
    pub server: Arc<Server>,
    /// The client's side.
    pub session: Session,
    table: Table<Option<Handler>>,
}

/// When the clock stands.
pub const NOW: Millis = Millis(1_700_000_000_000);

impl World {
    /// A server as it starts, on a machine of 1 GiB and four processors.
    pub fn new() -> World {
        let machine = Machine {
            memory_limit_bytes: None,
            memory_total_bytes: 1 << 30,
            cpu_count: 4,
        };
        let config = Config::new(Settings::new(machine));
        let server = Server::new(config, Clock::manual(NOW), table(|_| ()), 1);
        let client = Client::new(1, "127.0.0.1:9".into(), "127.0.0.1:7".into(), 8, false, NOW);
        World {
            session: Session::new(Arc::new(client), true),
            table: table(|handler| handler),
            server,
        }
    }

    /// Sets parameters: name, value, name, value.
    pub fn set(&self, pairs: &[(&str, &str)]) {
        let pairs: Vec<(&[u8], &[u8])> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let applied = self.server.config.set(&pairs, |_, new| {
            self.server.apply(new);
            Ok(())
        });
        applied.expect("the values are good");
    }

    /// The number of a command in the table.
    pub fn id(&self, full_name: &str) -> u16 {
        let found = self.table.find_full(full_name.as_bytes());
        found.expect("the command is in the table").id
    }

    /// Runs a request in inline notation, and gives its reply.
    pub fn ask(&mut self, line: &str) -> String {
        let words = split_args(line.as_bytes()).expect("the quotes are balanced");
        let request = OwnedArguments::from(&words[..]);
        let request = request.as_arguments();
        let mut output = Output::new();
        let mut reply = Reply::new(&mut output, self.session.protocol);
        let entry = self.table.find_request(&request);
        let entry = entry.unwrap_or_else(|| panic!("no such command: {line}"));
        let handler = entry.handler.expect("an administrative command");
        let first = if entry.parent.is_some() { 2 } else { 1 };
        let mut caller = Caller {
            server: &self.server,
            session: &mut self.session,
            now: self.server.clock.now(),
        };
        let begun = reply.mark();
        let done = match handler {
            _ if !entry.accepts(request.len()) => {
                Err(CommandError::Arity(entry.full_name.clone().into()))
            }
            Handler::Admin(handler) => {
                handler(&mut Args::new(request, first), &mut caller, &mut reply)
            }
            Handler::Container => panic!("{line}: a container was called"),
        };
        if let Err(error) = done {
            reply.truncate(begun);
            reply.error(&error.text());
        }
        text(output)
    }

    /// As [`World::ask`], in RESP3.
    pub fn ask3(&mut self, line: &str) -> String {
        let own = std::mem::replace(&mut self.session.protocol, Protocol::Resp3);
        let reply = self.ask(line);
        self.session.protocol = own;
        reply
    }
}

/// The table of all layers in dispatch's order, so that numbers agree.
fn table<H>(convert: impl Fn(Option<Handler>) -> H) -> Table<H> {
    let mut builder = TableBuilder::new();
    for rows in commands::FAMILIES {
        builder.add(*rows, |_| convert(None));
    }
    for rows in FAMILIES {
        builder.add(*rows, |handler| convert(Some(*handler)));
    }
    builder.finish()
}

fn text(mut output: Output) -> String {
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.fill(&mut slices);
        let before = bytes.len();
        slices[..count]
            .iter()
            .for_each(|slice| bytes.extend_from_slice(slice));
        let taken = bytes.len() - before;
        output.advance(taken);
    }
    String::from_utf8(bytes).expect("the replies of these tests are text")
}
