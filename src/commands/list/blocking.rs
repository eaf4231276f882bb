//! The commands that wait until there is an element.
//!
//! Each tries first. What it waits for afterwards is one of its keys at a time: the request that is run then names that key
//! alone, and never waits itself. What was done is propagated as the command that does not wait.

use super::write::{Pops, Route, pop_name, pop_one};
use crate::base::clock::Millis;
use crate::commands::timeout;
use crate::data::list::End;
use crate::data::value::Type;
use crate::keyspace::view::View;
use crate::keyspace::waiting::{Nothing, Outcome, Wait};
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::resp::reply::Reply;
use crate::table::{Args, CommandError};

type Tried = Result<Outcome, CommandError>;

pub(super) fn blpop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Tried {
    pop_first(args, view, reply, End::Head)
}

pub(super) fn brpop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Tried {
    pop_first(args, view, reply, End::Tail)
}

fn pop_first(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>, end: End) -> Tried {
    let request = args.all();
    let last = request.len() - 1;
    let until = timeout::until(&request[last], view.now())?;
    let keys = || (1..last).map(|position| &request[position]);
    for key in keys() {
        if view.list_for_write(key)?.is_some() {
            reply.array(2);
            reply.bulk(key);
            pop_one(view, reply, key, end)?;
            view.propagate(&[pop_name(end), key]);
            return Ok(Outcome::Served);
        }
    }
    let narrowed = |key: &[u8]| [&request[0], key, b"0"].into_iter().collect();
    let keys = keys().map(|key| (key.to_vec(), narrowed(key)));
    Ok(wait(keys, until, Nothing::NullArray))
}

pub(super) fn blmpop(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Tried {
    let request = args.all();
    // The timeout stands first and is looked at last.
    let timeout = args.bytes()?;
    let pops = Pops::parse(args)?;
    let until = timeout::until(timeout, view.now())?;
    if pops.run(view, reply)? {
        return Ok(Outcome::Served);
    }
    let mut count = itoa::Buffer::new();
    let count = count.format(pops.count).as_bytes();
    let end = end_name(pops.end);
    let narrowed = |key: &[u8]| {
        [&request[0], b"0", b"1", key, end, b"COUNT", count]
            .into_iter()
            .collect()
    };
    let keys = pops.keys.iter().map(|key| (key.to_vec(), narrowed(key)));
    Ok(wait(keys, until, Nothing::NullArray))
}

pub(super) fn blmove(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Tried {
    let route = Route::parse(args)?;
    let until = timeout::until(args.bytes()?, view.now())?;
    let request = args.all();
    if !route.run(view, reply)? {
        return Ok(wait_for_source(&route, &request, until));
    }
    let (from, to) = (end_name(route.from), end_name(route.to));
    view.propagate(&[b"LMOVE", route.source, route.destination, from, to]);
    Ok(Outcome::Served)
}

pub(super) fn brpoplpush(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Tried {
    let route = Route::parse_tail_to_head(args)?;
    let until = timeout::until(args.bytes()?, view.now())?;
    let request = args.all();
    if !route.run(view, reply)? {
        return Ok(wait_for_source(&route, &request, until));
    }
    view.propagate(&[b"RPOPLPUSH", route.source, route.destination]);
    Ok(Outcome::Served)
}

/// Waits for the source of a move: the request that serves it is the same without a timeout.
fn wait_for_source(route: &Route<'_>, request: &Arguments<'_>, until: Option<Millis>) -> Outcome {
    let last = request.len() - 1;
    let mut narrowed: OwnedArguments = request.iter().take(last).collect();
    narrowed.push(b"0");
    let keys = [(route.source.to_vec(), narrowed)];
    wait(keys, until, Nothing::Null)
}

fn wait(
    keys: impl IntoIterator<Item = (Vec<u8>, OwnedArguments)>,
    until: Option<Millis>,
    nothing: Nothing,
) -> Outcome {
    Outcome::Wait(Wait {
        keys: keys.into_iter().collect(),
        kind: Type::List,
        until,
        nothing,
        is_reader: false,
        minds_removal: false,
    })
}

fn end_name(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LEFT",
        End::Tail => b"RIGHT",
    }
}
