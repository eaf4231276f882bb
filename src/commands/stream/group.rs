//! XGROUP: groups and their consumers.

use super::entries::discard;
use super::parse;
use crate::commands::Done;
use crate::data::remains::Remains;
use crate::data::stream::{Id, Stream};
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// The words of XGROUP CREATE at most; beyond, options that are right one by one are refused together.
const CREATE_MOST: usize = 8;

/// The options of CREATE and SETID.
#[derive(Default)]
struct Options {
    make_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(args: &mut Args<'_>, is_create: bool) -> Taken<Options> {
        let mut options = Options::default();
        while !args.is_empty() {
            if is_create && args.keyword("mkstream") {
                options.make_stream = true;
            } else if args.remaining() > 1 && args.keyword("entriesread") {
                let read = args.integer()?;
                if read < -1 {
                    return Err(CommandError::fixed(
                        "ERR value for ENTRIESREAD must be positive or -1",
                    ));
                }
                options.entries_read = u64::try_from(read).ok();
            } else {
                return Err(refusal(args));
            }
        }
        Ok(options)
    }
}

/// What XGROUP says to arguments that do not fit the subcommand.
fn refusal(args: &Args<'_>) -> CommandError {
    CommandError::subcommand_syntax("XGROUP", args.all().get(1).unwrap_or_default())
}

fn must_exist(stream: Option<&Stream>) -> Taken<&Stream> {
    stream.ok_or(CommandError::fixed(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to \
         create an empty stream automatically.",
    ))
}

/// Checks that there is such a group.
fn check_group(view: &View<'_>, key: &[u8], group: &[u8]) -> Taken<()> {
    let stream = must_exist(view.stream_for_write(key)?)?;
    match stream.group(group) {
        Some(_) => Ok(()),
        None => Err(parse::no_group_of_key(group, key)),
    }
}

pub(super) fn xgroup_create(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let (key, group, id) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let options = Options::parse(args, true)?;
    let stream = view.stream_for_write(key)?;
    if !options.make_stream {
        must_exist(stream)?;
    }
    if args.all().len() > CREATE_MOST {
        return Err(refusal(args));
    }
    let last = match id {
        b"$" => stream.map_or(Id::ZERO, Stream::last_id),
        id => parse::id(id, 0)?,
    };
    let is_new = view.edit_stream(key, Missing::Create, |stream| {
        stream.create_group(group, last, options.entries_read)
    })?;
    if is_new == Some(false) {
        return Err(CommandError::fixed(
            "BUSYGROUP Consumer Group name already exists",
        ));
    }
    view.effects.dirty += 1;
    view.notify(EventClass::STREAM, "xgroup-create", key);
    reply.ok();
    Ok(())
}

pub(super) fn xgroup_setid(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let (key, group, id) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let words = args.remaining();
    let options = Options::parse(args, false)?;
    check_group(view, key, group)?;
    if words > 2 {
        return Err(refusal(args));
    }
    let last = match id {
        b"$" => view
            .stream_for_write(key)?
            .map_or(Id::ZERO, Stream::last_id),
        id => parse::id_or_end(id, 0)?,
    };
    view.edit_stream(key, Missing::Skip, |stream| {
        stream.edit_group(group, |group| {
            group.last_id = last;
            group.entries_read = options.entries_read;
        })
    })?;
    view.effects.dirty += 1;
    view.notify(EventClass::STREAM, "xgroup-setid", key);
    reply.ok();
    Ok(())
}

pub(super) fn xgroup_destroy(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let (key, group) = (args.bytes()?, args.bytes()?);
    must_exist(view.stream_for_write(key)?)?;
    let mut remains = Remains::default();
    let destroyed = view.edit_stream(key, Missing::Skip, |stream| {
        stream.destroy_group(group, &mut remains)
    })?;
    let destroyed = destroyed == Some(true);
    if destroyed {
        discard(view, remains);
        view.effects.dirty += 1;
        view.notify(EventClass::STREAM, "xgroup-destroy", key);
        // Those who wait for the group are refused.
        view.tell_readers(key);
    }
    reply.integer(destroyed.into());
    Ok(())
}

pub(super) fn xgroup_createconsumer(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let (key, group, consumer) = (args.bytes()?, args.bytes()?, args.bytes()?);
    check_group(view, key, group)?;
    let now = view.now().0;
    let created = view.edit_stream(key, Missing::Skip, |stream| {
        stream.edit_group(group, |group| {
            let is_new = group.find(consumer).is_none();
            if is_new {
                group.add_consumer(consumer, now);
            }
            is_new
        })
    })?;
    let created = created.flatten() == Some(true);
    if created {
        view.effects.dirty += 1;
        view.notify(EventClass::STREAM, "xgroup-createconsumer", key);
    }
    reply.integer(created.into());
    Ok(())
}

pub(super) fn xgroup_delconsumer(
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let (key, group, consumer) = (args.bytes()?, args.bytes()?, args.bytes()?);
    check_group(view, key, group)?;
    let removed = view.edit_stream(key, Missing::Skip, |stream| {
        stream.edit_group(group, |group| group.remove_consumer(consumer))
    })?;
    let removed = removed.flatten().flatten();
    if removed.is_some() {
        view.effects.dirty += 1;
        view.notify(EventClass::STREAM, "xgroup-delconsumer", key);
    }
    reply.integer(removed.unwrap_or(0) as i64);
    Ok(())
}

pub(super) fn xgroup_help(_: &mut Args<'_>, _: &View<'_>, reply: &mut Reply<'_>) -> Done {
    reply.array(HELP.len());
    HELP.iter().for_each(|line| reply.simple(line));
    Ok(())
}

const HELP: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [MKSTREAM] [ENTRIESREAD <count>]",
    "    Add a group that has read up to <id>. With MKSTREAM a missing stream is created",
    "    without entries; ENTRIESREAD says how many entries that are.",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Add a consumer to a group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove a consumer and what it has pending.",
    "DESTROY <key> <groupname>",
    "    Remove a group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD <count>]",
    "    Say up to where a group has read.",
    "HELP",
    "    Print this help.",
];
