//! Runs administrative requests against a server without sockets, as dispatch does but without its checks.
//!
//! ```ignore
//! let host = Host::new();
//! let mut client = host.client();
//! assert_eq!(client.run("CLIENT SETNAME x"), "+OK\r\n");
//! ```

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::{Caller, FAMILIES, Handler};
use crate::base::clock::{Clock, Millis};
use crate::base::split::split_args;
use crate::cluster::Cluster;
use crate::cluster::bus::{Bus, Identity, Links};
use crate::cluster::map::{Change, Map};
use crate::cluster::node::{Node, NodeId, NodeState};
use crate::cluster::slots::Pins;
use crate::cluster::tunnel::Tunnels;
use crate::commands;
use crate::config::{Config, Machine, Settings};
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::{Output, Reply};
use crate::state::Server;
use crate::state::clients::Client;
use crate::state::session::Session;
use crate::table::lookup::{Table, TableBuilder};
use crate::table::{Args, CommandError};

/// What the tests run on, as far as parameters derive from it.
pub const MACHINE: Machine = Machine {
    memory_limit_bytes: None,
    memory_total_bytes: 1 << 30,
    cpu_count: 4,
};

/// A server that serves nobody, at a time that only tests move.
pub struct Host {
    /// The server itself.
    pub server: Arc<Server>,
}

impl Host {
    /// One with all parameters at their defaults.
    #[expect(
        clippy::new_without_default,
        reason = "a test's server begins in one way"
    )]
    pub fn new() -> Host {
        Host::with(&[])
    }

    /// One with some parameters set.
    pub fn with(pairs: &[(&str, &str)]) -> Host {
        Host::of(Settings::new(MACHINE), pairs)
    }

    /// One with these parameters, and some of them set.
    pub fn of(settings: Settings, pairs: &[(&str, &str)]) -> Host {
        let config = Config::new(settings);
        let pairs: Vec<(&[u8], &[u8])> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        config
            .set(&pairs, |_, _| Ok(()))
            .expect("the test's parameters are good");
        let mut directory = TableBuilder::new();
        for rows in commands::FAMILIES {
            directory.add(*rows, |_| ());
        }
        for rows in FAMILIES {
            directory.add(*rows, |_| ());
        }
        let clock = Clock::manual(Millis(1_700_000_000_000));
        Host {
            server: Server::new(config, clock, directory.finish(), 1),
        }
    }

    /// One that is node 1 of a ring of so many nodes and owns all slots, and what is pinned; it has its lease for a minute.
    pub fn in_ring(nodes: u8, pins: &[&str]) -> Host {
        let host = Host::with(&[]);
        let me = NodeId([1; 20]);
        let identity = Identity {
            id: me,
            ring: "test".to_owned(),
            secret: Vec::new(),
            version: 1,
        };
        let tunnels = Arc::<Tunnels>::default();
        let bus = Bus::new(identity, Duration::from_secs(5));
        let links = Links::new(bus, tunnels.clone());
        let pins = Pins::parse(pins).expect("the test's pins are good");
        let cluster = Cluster::new(me, pins.clone(), links, tunnels, 1);
        let mut map = Map::new(pins);
        for number in 1..=nodes {
            assert!(map.apply(&Change::Join(Node {
                id: NodeId([number; 20]),
                bus: format!("127.0.0.1:1700{number}"),
                host: "127.0.0.1".to_owned(),
                hostname: String::new(),
                port: 7000 + u16::from(number),
                cluster_port: 7100 + u16::from(number),
                weight: Node::DEFAULT_WEIGHT,
                state: NodeState::Up,
                incarnation: 1,
            })));
        }
        cluster.install(Arc::new(map));
        cluster.set_lease(Instant::now() + Duration::from_secs(60));
        assert!(host.server.cluster.set(Arc::new(cluster)).is_ok());
        host
    }

    /// A new connection, from `127.0.0.1:` and 1000 plus its number.
    pub fn client(&self) -> Connection {
        let id = self.server.clients.next_id();
        let client = Arc::new(Client::new(
            id,
            format!("127.0.0.1:{}", 1000 + id),
            "127.0.0.1:6379".to_owned(),
            3,
            false,
            self.server.clock.now(),
        ));
        self.server.clients.add(Arc::clone(&client), usize::MAX);
        Connection {
            server: Arc::clone(&self.server),
            session: Session::new(client, !self.server.needs_password()),
            sees_cluster: false,
        }
    }
}

/// One connection's state.
pub struct Connection {
    server: Arc<Server>,
    /// The state itself.
    pub session: Session,
    /// Whether it came by the cluster face.
    pub sees_cluster: bool,
}

impl Connection {
    /// Runs a request in inline notation and returns the reply.
    ///
    /// # Panics
    ///
    /// When the command is unknown.
    pub fn run(&mut self, line: &str) -> String {
        let words = split_args(line.as_bytes()).expect("the request's quotes are balanced");
        let request = OwnedArguments::from(words.as_slice());
        let mut output = Output::new();
        if let Err(error) = self.reply_to(&request, &mut output) {
            output = Output::new();
            Reply::new(&mut output, self.session.protocol).error(&error.text());
        }
        let mut slices = vec![std::io::IoSlice::new(&[]); 1024];
        let count = output.fill(&mut slices);
        let bytes: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn reply_to(
        &mut self,
        request: &OwnedArguments,
        output: &mut Output,
    ) -> Result<(), CommandError> {
        static TABLE: OnceLock<Table<Handler>> = OnceLock::new();
        let table = TABLE.get_or_init(|| Table::build(FAMILIES.iter().copied().flatten()));
        let request = request.as_arguments();
        let entry = table
            .find_request(&request)
            .unwrap_or_else(|| panic!("no such command: {request:?}"));
        if !entry.accepts(request.len()) {
            return Err(CommandError::Arity(entry.full_name.clone().into()));
        }
        let (Handler::Admin(handler) | Handler::Immediate(handler) | Handler::Ending(handler)) =
            entry.handler
        else {
            panic!("{}: no handler of its own", entry.full_name);
        };
        let mut args = Args::new(request, 1 + usize::from(entry.parent.is_some()));
        let mut reply = Reply::new(output, self.session.protocol);
        let mut caller = Caller {
            now: self.server.clock.now(),
            server: &self.server,
            session: &mut self.session,
            in_transaction: false,
            sees_cluster: self.sees_cluster,
        };
        handler(&mut args, &mut caller, &mut reply)
    }
}
