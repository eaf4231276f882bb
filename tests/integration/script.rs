//! Scripts: requests and their expected replies, a pair per line.
//!
//! ```text
//! # a comment
//! SET k "a b"              => +OK
//! GET missing              => nil || null          what RESP2 says, and what RESP3 says where that differs
//! @quoit SET k v IFEQ x    => nil || null          left out when redis-server is the one that is asked
//! @alone SWAPDB 0 1        => +OK                  left out when it is a node of a ring that is asked
//! ```
//!
//! Notation as in `support::text`.

use crate::support::server::Kind;
use crate::support::{Client, Server};

/// Runs a script twice, in RESP2 and in RESP3, each time from an empty server.
#[track_caller]
pub fn in_both(script: &str) {
    in_both_with(&[], script);
}

/// As [`in_both`], with arguments for the server.
#[track_caller]
pub fn in_both_with(arguments: &[&str], script: &str) {
    let server = Server::start(arguments);
    for protocol in [2, 3] {
        let mut client = server.client_in(protocol);
        run(&server, &mut client, protocol, script);
        assert_eq!(client.shown("FLUSHALL"), "+OK");
    }
}

/// Runs a script on a connection. All lines that fail are told at once.
#[track_caller]
pub fn run(server: &Server, client: &mut Client, protocol: u8, script: &str) {
    let mut wrong = Vec::new();
    for line in script.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = match line.strip_prefix("@quoit ") {
            Some(_) if server.kind == Kind::Redis => continue,
            Some(line) => line.trim(),
            None => line,
        };
        let line = match line.strip_prefix("@alone ") {
            Some(_) if !server.companions.is_empty() => continue,
            Some(line) => line.trim(),
            None => line,
        };
        let (request, expected) = line
            .split_once("=>")
            .unwrap_or_else(|| panic!("no => in {line}"));
        let expected = match expected.split_once("||") {
            Some((_, third)) if protocol == 3 => third,
            Some((second, _)) => second,
            None => expected,
        };
        let shown = client.shown(request.trim());
        if shown.trim_end() != expected.trim() {
            wrong.push(format!(
                "{}\n    expected {}\n    got      {shown}",
                request.trim(),
                expected.trim()
            ));
        }
    }
    assert!(wrong.is_empty(), "in RESP{protocol}:\n{}", wrong.join("\n"));
}
