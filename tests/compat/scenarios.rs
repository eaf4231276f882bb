//! Scenarios: several clients, some of which wait. Each runs on Quoit and, where it is installed, on redis-server.
//!
//! ```text
//! == what it is about; begins from an empty server, with new clients
//! a: BLPOP k 0             => ...                 no reply comes: a waits
//! a: PING                  => ...                 nor does one to what it sends meanwhile
//! b: RPUSH k x             => :1
//! a                        => ["k", "x"]          the reply that a waits for
//! a                        => +PONG
//! a: BLPOP k 0.01          => nil-array || null   what RESP2 says, and what RESP3 says where that differs
//! b: CLIENT UNBLOCK $a     => :0                  the number of a client
//! a                        => gone                closed by the server
//! a leaves                                        closes its connection
//! == @alone what a ring does otherwise, and why
//! ```
//!
//! Notation as in `support::text`. A step begins when the one before it is over: a client waits when INFO counts it among
//! those that are blocked, and has left when it does not any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{Client, Server, eventually, oracle, show, words};

struct Scene<'s> {
    server: &'s Server,
    protocol: u8,
    control: Client,
    clients: BTreeMap<String, (Client, String)>,
    waiting: BTreeSet<String>,
}

impl<'s> Scene<'s> {
    fn new(server: &'s Server, protocol: u8) -> Scene<'s> {
        let mut control = server.client();
        assert_eq!(control.shown("FLUSHALL"), "+OK");
        let scene = Scene {
            server,
            protocol,
            control,
            clients: BTreeMap::new(),
            waiting: BTreeSet::new(),
        };
        scene.settled()
    }

    /// Waits until the server knows who waits.
    fn settle(&mut self) {
        let expected = self.waiting.len().to_string();
        eventually("the number of blocked clients", || {
            let blocked = self.control.info_field("clients", "blocked_clients");
            (blocked.as_ref() == Some(&expected)).then_some(())
        });
    }

    fn settled(mut self) -> Scene<'s> {
        self.settle();
        self
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let (server, protocol) = (self.server, self.protocol);
        let connect = || {
            let mut client = server.client_in(protocol);
            let id = client.run(&["CLIENT", "ID"]).int().to_string();
            (client, id)
        };
        &mut self
            .clients
            .entry(name.to_owned())
            .or_insert_with(connect)
            .0
    }

    /// Runs a line; what came instead when that is not what it says.
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(name) = line.strip_suffix(" leaves") {
            self.clients.remove(name);
            self.waiting.remove(name);
            self.settle();
            return Ok(());
        }
        let (left, expected) = line.split_once("=>").ok_or("no => in it")?;
        let expected = match expected.split_once("||") {
            Some((_, third)) if self.protocol == 3 => third.trim(),
            Some((second, _)) => second.trim(),
            None => expected.trim(),
        };
        let name = match left.split_once(':') {
            Some((name, request)) => {
                let mut request = words(request).ok_or("unbalanced quotes")?;
                for word in &mut request {
                    let named = word.strip_prefix(b"$").map(String::from_utf8_lossy);
                    if let Some(named) = named.map(|name| name.into_owned()) {
                        self.client(&named);
                        *word = self.clients[&named].1.clone().into_bytes();
                    }
                }
                self.client(name).send(&request);
                name
            }
            None => left,
        };
        let name = name.trim();
        if expected == "..." {
            self.waiting.insert(name.to_owned());
            self.settle();
            return Ok(());
        }
        self.waiting.remove(name);
        let shown = match expected {
            "gone" if self.client(name).is_closed() => "gone".to_owned(),
            _ => show(&self.client(name).read().value),
        };
        match shown == expected {
            true => Ok(()),
            false => Err(shown),
        }
    }
}

fn run(server: &Server, script: &str) {
    for protocol in [2, 3] {
        let mut scene = None;
        let mut title = "";
        let mut is_left_out = false;
        for line in script.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("==") {
                title = name.trim();
                is_left_out = title.starts_with("@alone ") && !server.companions.is_empty();
                println!("{:?}, RESP{protocol}: {title}", server.kind);
                drop(scene.take());
                scene = Some(Scene::new(server, protocol));
            } else if !line.is_empty() && !line.starts_with('#') && !is_left_out {
                let scene = scene.as_mut().expect("a line after a title");
                if let Err(shown) = scene.line(line) {
                    let kind = server.kind;
                    panic!("{kind:?}, RESP{protocol}: {title}:\n    {line}\n    got {shown}");
                }
            }
        }
    }
}

fn run_all(server: &Server) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/scenarios");
    let files = std::fs::read_dir(&folder).expect("the folder is there");
    let mut paths: Vec<_> = files
        .map(|file| file.expect("a folder that can be listed").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scenarios");
    for path in paths {
        run(
            server,
            &std::fs::read_to_string(&path).expect("a text file"),
        );
    }
}

#[test]
fn clients_that_wait() {
    run_all(&Server::start(&[]));
}

#[test]
fn clients_that_wait_for_redis() {
    if let Some(redis) = oracle("clients_that_wait_for_redis") {
        run_all(&redis);
    }
}
