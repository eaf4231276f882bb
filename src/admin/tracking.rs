//! CLIENT TRACKING and its kin: what a client says of the copies of values that it keeps. What becomes of it stands in
//! `state::tracking`.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Caller, Done};
use crate::resp::reply::Reply;
use crate::state::clients::client_flags;
use crate::state::tracking::{Mode, Tracker};
use crate::table::{Args, CommandError};

/// What CLIENT TRACKING asks for.
#[derive(Default)]
struct Request<'a> {
    /// 0: to none.
    redirect: u64,
    is_broadcast: bool,
    is_opt_in: bool,
    is_opt_out: bool,
    is_noloop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Request<'a> {
    fn parse(args: &mut Args<'a>, caller: &Caller<'_>) -> Result<Self, CommandError> {
        let mut request = Request::default();
        while !args.is_empty() {
            if args.remaining() > 1 && args.keyword("REDIRECT") {
                if request.redirect != 0 {
                    return Err(SECOND_REDIRECT);
                }
                let id = u64::try_from(args.integer()?).ok();
                let target = id.and_then(|id| caller.server.clients.get(id));
                request.redirect = target.ok_or(NO_TARGET)?.id;
            } else if args.keyword("BCAST") {
                request.is_broadcast = true;
            } else if args.keyword("OPTIN") {
                request.is_opt_in = true;
            } else if args.keyword("OPTOUT") {
                request.is_opt_out = true;
            } else if args.keyword("NOLOOP") {
                request.is_noloop = true;
            } else if args.remaining() > 1 && args.keyword("PREFIX") {
                request.prefixes.push(args.bytes()?);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(request)
    }

    /// The mode that is asked for, checked against the one there is.
    fn mode(&self, tracker: Option<&Tracker>) -> Result<Mode, CommandError> {
        if !self.is_broadcast && !self.prefixes.is_empty() {
            return Err(PREFIX_ALONE);
        }
        let before = tracker.map(Tracker::mode);
        if before.is_some_and(|mode| (mode == Mode::Broadcast) != self.is_broadcast) {
            return Err(OTHER_BROADCAST);
        }
        let mode = match (self.is_broadcast, self.is_opt_in, self.is_opt_out) {
            (true, false, false) => Mode::Broadcast,
            (true, ..) => return Err(OPTION_WITH_BROADCAST),
            (_, true, true) => return Err(BOTH_OPTIONS),
            (_, true, false) => Mode::OptIn,
            (_, false, true) => Mode::OptOut,
            (_, false, false) => Mode::All,
        };
        match (before, mode) {
            (Some(Mode::OptIn), Mode::OptOut) | (Some(Mode::OptOut), Mode::OptIn) => {
                Err(OTHER_OPTION)
            }
            _ => Ok(mode),
        }
    }
}

const SECOND_REDIRECT: CommandError =
    CommandError::fixed("ERR A client can only redirect to a single other client");
const NO_TARGET: CommandError =
    CommandError::fixed("ERR The client ID you want redirect to does not exist");
const PREFIX_ALONE: CommandError =
    CommandError::fixed("ERR PREFIX option requires BCAST mode to be enabled");
const OTHER_BROADCAST: CommandError = CommandError::fixed(
    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
     different mode.",
);
const OPTION_WITH_BROADCAST: CommandError =
    CommandError::fixed("ERR OPTIN and OPTOUT are not compatible with BCAST");
const BOTH_OPTIONS: CommandError =
    CommandError::fixed("ERR You can't specify both OPTIN mode and OPTOUT mode");
const OTHER_OPTION: CommandError = CommandError::fixed(
    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
     different mode.",
);

pub(super) fn client_tracking(
    args: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let status = args.bytes()?;
    let request = Request::parse(args, caller)?;
    if status.eq_ignore_ascii_case(b"off") {
        caller.session.tracker = None;
        reply.ok();
        return Ok(());
    }
    if !status.eq_ignore_ascii_case(b"on") {
        return Err(CommandError::Syntax);
    }
    let session = &mut *caller.session;
    let mode = request.mode(session.tracker.as_deref())?;
    let none = BTreeSet::new();
    let followed = session.tracker.as_ref();
    check_prefixes(
        &request.prefixes,
        followed.map_or(&none, |tracker| tracker.prefixes()),
    )?;
    let tracker = session.tracker.get_or_insert_with(|| {
        let tracker = Tracker::new(caller.server.clone(), session.client.clone(), mode);
        Box::new(tracker)
    });
    tracker.set(mode, request.is_noloop, request.redirect);
    match (mode, &request.prefixes[..]) {
        (Mode::Broadcast, []) => tracker.follow(b""),
        (_, prefixes) => prefixes.iter().for_each(|prefix| tracker.follow(prefix)),
    }
    reply.ok();
    Ok(())
}

/// Refuses prefixes of which one begins with another, or with one of those `followed`: a key would be told of twice.
fn check_prefixes(prefixes: &[&[u8]], followed: &BTreeSet<Bytes>) -> Done {
    let first_within = first_overlap(prefixes);
    for (at, prefix) in prefixes.iter().enumerate() {
        if let Some(known) = overlapping(followed, prefix) {
            return Err(overlap(prefix, "an existing", known));
        }
        if first_within == Some(at) {
            let later = &prefixes[at + 1..];
            let other = later.iter().find(|other| is_overlap(prefix, other));
            return Err(overlap(prefix, "another provided", other.unwrap_or(prefix)));
        }
    }
    Ok(())
}

/// The first of these prefixes, by place, that overlaps with a later one. Sorted, those that begin with a prefix stand
/// directly behind it; a client may name a million of them.
fn first_overlap(prefixes: &[&[u8]]) -> Option<usize> {
    let mut sorted: Vec<(&[u8], usize)> = prefixes.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    // The shortest of those that begin alike, and the first place of any of them.
    let mut shortest: Option<(&[u8], usize)> = None;
    let mut first: Option<usize> = None;
    for (prefix, at) in sorted {
        match &mut shortest {
            Some((short, earliest)) if prefix.starts_with(short) => {
                *earliest = at.min(*earliest);
                first = Some(first.map_or(*earliest, |known| known.min(*earliest)));
            }
            _ => shortest = Some((prefix, at)),
        }
    }
    first
}

/// The first in order of those followed that overlaps with a prefix.
fn overlapping<'f>(followed: &'f BTreeSet<Bytes>, prefix: &[u8]) -> Option<&'f Bytes> {
    // The empty prefix is followed beside others by who named none, see `client_tracking`.
    let empty = followed.first().filter(|first| first.is_empty());
    let (below, from) = (Bound::Excluded(prefix), Bound::Included(prefix));
    let mut before = followed.range::<[u8], _>((Bound::Unbounded, below));
    let mut behind = followed.range::<[u8], _>((from, Bound::Unbounded));
    let (before, behind) = (before.next_back(), behind.next());
    [empty, before, behind]
        .into_iter()
        .flatten()
        .find(|known| is_overlap(prefix, known))
}

fn is_overlap(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn overlap(prefix: &[u8], which: &str, other: &[u8]) -> CommandError {
    let (prefix, other) = (
        String::from_utf8_lossy(prefix),
        String::from_utf8_lossy(other),
    );
    CommandError::text_of(format!(
        "ERR Prefix '{prefix}' overlaps with {which} prefix '{other}'. Prefixes for a single client must not overlap."
    ))
}

pub(super) fn client_caching(
    args: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let Some(tracker) = &mut caller.session.tracker else {
        return Err(CommandError::fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    let (mode, refusal) = if args.keyword("YES") {
        let refusal =
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
        (Mode::OptIn, refusal)
    } else if args.keyword("NO") {
        let refusal =
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";
        (Mode::OptOut, refusal)
    } else {
        return Err(CommandError::Syntax);
    };
    if tracker.mode() != mode {
        return Err(CommandError::fixed(refusal));
    }
    tracker.is_caching = true;
    reply.ok();
    Ok(())
}

pub(super) fn client_getredir(
    _: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    reply.integer(caller.session.client.redirection());
    Ok(())
}

pub(super) fn client_trackinginfo(
    _: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let session = &*caller.session;
    let flags = session.client.flags.load(Ordering::Relaxed);
    let mut words = Vec::new();
    let mut prefixes = None;
    match &session.tracker {
        None => words.push("off"),
        Some(tracker) => {
            words.push("on");
            words.extend(match (tracker.mode(), tracker.is_caching) {
                (Mode::All, _) => &[][..],
                (Mode::Broadcast, _) => &["bcast"],
                (Mode::OptIn, false) => &["optin"],
                (Mode::OptIn, true) => &["optin", "caching-yes"],
                (Mode::OptOut, false) => &["optout"],
                (Mode::OptOut, true) => &["optout", "caching-no"],
            });
            prefixes = Some(tracker.prefixes());
        }
    }
    if flags & client_flags::NOLOOP != 0 {
        words.push("noloop");
    }
    if flags & client_flags::BROKEN_REDIRECT != 0 {
        words.push("broken_redirect");
    }
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(words.len());
    words.iter().for_each(|word| reply.bulk(word.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(session.client.redirection());
    reply.bulk(b"prefixes");
    reply.array(prefixes.map_or(0, BTreeSet::len));
    for prefix in prefixes.into_iter().flatten() {
        reply.bulk(prefix);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Host;

    /// Against the obvious way: all pairs are compared.
    #[test]
    fn the_first_overlap() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..2000 {
            let words: Vec<String> = (0..rng.usize(0..8))
                .map(|_| {
                    (0..rng.usize(0..5))
                        .map(|_| if rng.bool() { 'a' } else { 'b' })
                        .collect()
                })
                .collect();
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            let overlaps = |at: &usize| {
                let later = &words[at + 1..];
                later.iter().any(|other| is_overlap(words[*at], other))
            };
            assert_eq!(
                first_overlap(&words),
                (0..words.len()).find(overlaps),
                "{words:?}"
            );
        }
    }

    #[test]
    fn prefixes_must_not_overlap() {
        let host = Host::new();
        let mut client = host.client();
        let refused = |prefix: &str, which: &str, other: &str| {
            format!(
                "-ERR Prefix '{prefix}' overlaps with {which} prefix '{other}'. Prefixes for a single client must not overlap.\r\n"
            )
        };
        // Redis enables tracking here, and answers twice.
        assert_eq!(
            client.run("CLIENT TRACKING on BCAST PREFIX bar PREFIX foo PREFIX foobar"),
            refused("foo", "another provided", "foobar")
        );
        assert_eq!(client.run("CLIENT GETREDIR"), ":-1\r\n");
        assert_eq!(
            client.run("CLIENT TRACKING on BCAST PREFIX foo PREFIX bar"),
            "+OK\r\n"
        );
        assert_eq!(
            client.run("CLIENT TRACKING on BCAST PREFIX q PREFIX barx"),
            refused("barx", "an existing", "bar")
        );
        assert_eq!(host.server.tracking.prefix_count(), 2);
        // Whose memory it is.
        let bytes = host
            .server
            .clients
            .get(1)
            .expect("it is connected")
            .memory_bytes();
        assert_eq!(client.run("CLIENT TRACKING off"), "+OK\r\n");
        let less = host
            .server
            .clients
            .get(1)
            .expect("it is connected")
            .memory_bytes();
        assert!(less < bytes);
        assert_eq!(host.server.tracking.prefix_count(), 0);
    }

    /// A million of them in one request must not hold up the worker.
    #[test]
    fn very_many_prefixes() {
        let host = Host::new();
        let mut client = host.client();
        let prefixes: Vec<String> = (100_000..200_000)
            .map(|number| format!("PREFIX {number}"))
            .collect();
        let all = prefixes.join(" ");
        assert_eq!(
            client.run(&format!("CLIENT TRACKING on BCAST {all}")),
            "+OK\r\n"
        );
        let refusal = client.run(&format!("CLIENT TRACKING on BCAST {all}"));
        assert!(refusal.starts_with("-ERR Prefix '100000' overlaps with an existing"));
        assert_eq!(client.run("CLIENT TRACKING off"), "+OK\r\n");
    }

    #[test]
    fn what_interests_the_keyspace() {
        use crate::keyspace::effects::Interest;
        let host = Host::new();
        let interest = || host.server.keyspace.listeners.interest();
        let (mut one, mut two) = (host.client(), host.client());
        assert_eq!(interest(), Interest::empty());
        one.run("CLIENT TRACKING on");
        assert_eq!(interest(), Interest::TRACKING);
        two.run("CLIENT TRACKING on BCAST");
        assert_eq!(interest(), Interest::TRACKING | Interest::BROADCAST);
        one.run("CLIENT TRACKING on OPTIN");
        one.run("RESET");
        assert_eq!(interest(), Interest::BROADCAST);
        drop(two);
        assert_eq!(interest(), Interest::empty());
        assert_eq!(host.server.tracking.client_count(), 0);
    }
}
