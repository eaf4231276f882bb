//! What may refuse a request before it runs: one small function per check, in Redis's order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::clock::Millis;
use crate::config::Access;
use crate::keyspace::effects::Effects;
use crate::keyspace::evict::{self, Outcome, Pressure, ROUNDS_PER_TURN, Rules};
use crate::resp::decode::Arguments;
use crate::resp::reply::Protocol;
use crate::state::Server;
use crate::state::latency::LatencyEvent;
use crate::state::pause::PauseMode;
use crate::state::session::Session;
use crate::table::error::shown;
use crate::table::{Command, CommandError, Flags};

/// What the checks say.
pub enum Verdict {
    /// Run it.
    Go,
    /// Not now (CLIENT PAUSE).
    Wait,
    /// After other clients have had a turn (more is to be evicted first).
    Later,
    /// Never.
    Refuse(CommandError),
}

/// What is checked.
#[derive(Clone, Copy)]
pub struct Checked<'c> {
    /// The row.
    pub command: &'c Command,
    /// Its name, with its container's.
    pub full_name: &'c str,
    /// Its flags; those of EXEC are those of its commands too.
    pub flags: Flags,
    /// Whether it is to be queued only: then a pause does not hold it back.
    pub is_queued: bool,
}

/// Runs all checks. Most requests pass each by one comparison.
#[inline]
pub fn run(
    server: &Arc<Server>,
    rules: &Rules,
    session: &Session,
    checked: Checked<'_>,
    now: Millis,
    effects: &mut Effects,
    round: u32,
) -> Verdict {
    let Checked {
        command,
        full_name,
        flags,
        is_queued,
    } = checked;
    if command.flags.contains(Flags::PROTECTED)
        && let Err(error) = protected(server, session, command)
    {
        return Verdict::Refuse(error);
    }
    // The password may have been taken away since the client came.
    if !session.authenticated && !command.flags.contains(Flags::NO_AUTH) && server.needs_password()
    {
        return Verdict::Refuse(CommandError::NoAuth);
    }
    if rules.maxmemory != 0 {
        match memory(server, rules, session, now, effects) {
            Outcome::Exhausted if flags.contains(Flags::DENYOOM) => {
                return Verdict::Refuse(CommandError::OutOfMemory);
            }
            // Else large values would be written faster than the small ones before them can go.
            Outcome::Unfinished
                if flags.contains(Flags::DENYOOM) && round < eviction_turns(server) =>
            {
                return Verdict::Later;
            }
            _ => {}
        }
    }
    if is_queued && command.flags.contains(Flags::NO_MULTI) {
        return Verdict::Refuse(CommandError::fixed(
            "ERR Command not allowed inside a transaction",
        ));
    }
    if session.is_subscribed()
        && session.protocol == Protocol::Resp2
        && !command.flags.contains(Flags::SUBSCRIBED)
    {
        return Verdict::Refuse(subscribed(full_name));
    }
    if server.pause.mode() != PauseMode::Off
        && !is_queued
        && !session.is_past_pause
        && is_paused(server, flags, now)
    {
        return Verdict::Wait;
    }
    Verdict::Go
}

/// RESP2 cannot tell messages from replies: who is subscribed may change that, and little else.
#[cold]
fn subscribed(full_name: &str) -> CommandError {
    CommandError::text_of(format!(
        "ERR Can't execute '{full_name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context"
    ))
}

/// Commands that can hurt the host or the data run only where a parameter allows it.
fn protected(server: &Server, session: &Session, command: &Command) -> Result<(), CommandError> {
    let allowed = match server.config.settings().enable_debug_command {
        Access::Yes => true,
        Access::No => false,
        // Of a peer's client that node has made sure.
        Access::Local => {
            let client = &session.client;
            client.is_unix || client.is_of_peer || is_loopback(&client.addr)
        }
    };
    if allowed {
        return Ok(());
    }
    Err(CommandError::text_of(format!(
        "ERR {} command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local \
         connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        command.name.to_ascii_uppercase()
    )))
}

/// Whether a peer's address, as `ip:port`, is this machine's loopback.
pub fn is_loopback(addr: &str) -> bool {
    addr.parse::<std::net::SocketAddr>()
        .is_ok_and(|addr| addr.ip().to_canonical().is_loopback())
}

/// Turns that a command which needs memory waits for eviction, each of [`ROUNDS_PER_TURN`] keys; then it runs, and the
/// background goes on. A limit that was lowered by gigabytes thus delays each write by a few milliseconds at most.
fn eviction_turns(server: &Server) -> u32 {
    match server.config.settings().maxmemory_eviction_tenacity {
        tenacity @ 0..=10 => tenacity * 6,
        100.. => u32::MAX,
        // Grows as the time that redis-server takes.
        tenacity => (60.0 * 1.15f64.powi(tenacity as i32 - 10)) as u32,
    }
}

/// Whether memory is over the limit, after what [`run`] has made room.
pub fn is_over_memory(server: &Server, rules: &Rules, session: &Session, now: Millis) -> bool {
    let pressure = Pressure {
        rules,
        base_bytes: server.base_bytes.load(Ordering::Relaxed),
        now,
        rng: &session.rng,
        watch: None,
    };
    pressure.is_over(&server.keyspace, 0)
}

/// Makes room when memory is over the limit, a turn's worth.
#[cold]
fn memory(
    server: &Server,
    rules: &Rules,
    session: &Session,
    now: Millis,
    effects: &mut Effects,
) -> Outcome {
    let base_bytes = server.base_bytes.load(Ordering::Relaxed);
    let mut pressure = Pressure {
        rules,
        base_bytes,
        now,
        rng: &session.rng,
        watch: None,
    };
    if !pressure.is_over(&server.keyspace, effects.bytes) {
        return Outcome::Within;
    }
    let watch = |took| server.note_latency(LatencyEvent::EvictionDel, took);
    let begun = server.watches_latency().then(Instant::now);
    pressure.watch = begun.map(|_| &watch as &dyn Fn(Duration));
    effects.begin(server.keyspace.listeners.interest());
    let (outcome, evicted) = evict::evict(&server.keyspace, &pressure, ROUNDS_PER_TURN, effects);
    server.stats.mine().evicted.add(evicted as u64);
    if let Some(begun) = begun {
        server.note_latency(LatencyEvent::EvictionCycle, begun.elapsed());
    }
    outcome
}

/// Whether CLIENT PAUSE holds this command back. CLIENT itself always passes, or nobody could end the pause.
#[cold]
fn is_paused(server: &Server, flags: Flags, now: Millis) -> bool {
    let held = match server.pause.mode() {
        PauseMode::Off => false,
        PauseMode::Write => flags.intersects(Flags::WRITE | Flags::MAY_REPLICATE),
        PauseMode::All => !flags.contains(Flags::ALLOW_BUSY) && !flags.contains(Flags::ADMIN),
    };
    held && server.pause.left_ms(now) > 0
}

/// How much of a name an error shows.
const SHOWN_BYTES: usize = 128;

/// The refusal of a name that is not in the table. Clients match its text.
#[cold]
pub fn unknown_command(arguments: Arguments<'_>) -> CommandError {
    let mut beginning = Vec::new();
    for argument in arguments.iter().skip(1) {
        if beginning.len() >= SHOWN_BYTES {
            break;
        }
        let rest = SHOWN_BYTES - beginning.len();
        beginning.extend_from_slice(&[b"'", cut(argument, rest), b"' "].concat());
    }
    let name = cut(arguments.get(0).unwrap_or_default(), SHOWN_BYTES);
    let parts: [&[u8]; 4] = [
        b"ERR unknown command '",
        name,
        b"', with args beginning with: ",
        &beginning,
    ];
    CommandError::Quoting(parts.concat())
}

/// The refusal of a subcommand that a container does not have.
#[cold]
pub fn unknown_subcommand(arguments: Arguments<'_>) -> CommandError {
    let part = |index| arguments.get(index).unwrap_or_default();
    // The container is named as the client called it: it may have been renamed.
    let container = shown(part(0)).to_ascii_uppercase();
    let parts: [&[u8]; 5] = [
        b"ERR unknown subcommand '",
        cut(part(1), SHOWN_BYTES),
        b"'. Try ",
        &container,
        b" HELP.",
    ];
    CommandError::Quoting(parts.concat())
}

fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    let bytes = shown(bytes);
    &bytes[..bytes.len().min(limit)]
}

/// Whether a name is the beginning of an HTTP request: a browser that was tricked into talking to us. Redis closes such a
/// connection without a word, so that what stands in the body is not run.
#[cold]
pub fn is_cross_protocol(name: &[u8]) -> bool {
    let name = shown(name);
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::OwnedArguments;

    fn refusal(of: fn(Arguments<'_>) -> CommandError, request: &[&[u8]]) -> Vec<u8> {
        let owned = OwnedArguments::from(request);
        of(owned.as_arguments()).wire().into_owned()
    }

    /// Found by the differential test: bytes that are not UTF-8 came back as replacement characters, and a NUL did not end
    /// the name as it does in Redis's C strings.
    #[test]
    fn refusals_quote_bytes_as_they_are() {
        assert_eq!(
            refusal(unknown_command, &[b"n\xffm", b"a\0b", b"\xe4"]),
            b"ERR unknown command 'n\xffm', with args beginning with: 'a' '\xe4' "
        );
        assert_eq!(
            refusal(unknown_subcommand, &[b"config", b"\xffx\0y"]),
            b"ERR unknown subcommand '\xffx'. Try CONFIG HELP."
        );
    }

    /// Redis shows 128 bytes of the name, and of all arguments together.
    #[test]
    fn refusals_are_cut() {
        let long = [b'x'; 200];
        let shown = "x".repeat(128);
        assert_eq!(
            refusal(unknown_command, &[&long, &long, b"more"]),
            format!("ERR unknown command '{shown}', with args beginning with: '{shown}' ")
                .into_bytes()
        );
    }

    /// Found by the differential test: requests of HTTP were answered, and what followed them was run.
    #[test]
    fn http_is_told_from_commands() {
        for name in [&b"POST"[..], b"post", b"Host:", b"HOST:", b"post\0x"] {
            assert!(is_cross_protocol(name), "{}", name.escape_ascii());
        }
        for name in [&b"GET"[..], b"Host", b"posts", b""] {
            assert!(!is_cross_protocol(name), "{}", name.escape_ascii());
        }
    }
}
