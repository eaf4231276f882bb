//! XINFO: what is known of streams, groups and consumers.

use super::entries::{write_entries, write_entry};
use super::parse;
use crate::commands::Done;
use crate::data::stream::{Consumer, Entry, Group, Id, Stream};
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::args::Taken;
use crate::table::{Args, CommandError};

/// Entries of FULL without COUNT.
const FULL_COUNT: usize = 10;

pub(super) fn xinfo_stream(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    // The key comes first: a missing one is told before bad options.
    let stream = view.stream(key)?.ok_or(CommandError::NoSuchKey)?;
    let count = full_count(args)?;
    let work = stream.block_count()
        + count.map_or(0, |count| {
            let pending = stream.groups().map(|(_, group)| group.pending().len());
            count.min(stream.len() as usize + pending.sum::<usize>())
        });
    view.heavy_read(work, || match count {
        None => write_stream(stream, reply),
        Some(count) => write_full(stream, count, reply),
    });
    Ok(())
}

/// `[FULL [COUNT n]]`: `None` without FULL.
fn full_count(args: &mut Args<'_>) -> Taken<Option<usize>> {
    let refusal = CommandError::subcommand_syntax("XINFO", args.all().get(1).unwrap_or_default());
    let words = args.remaining();
    if words == 0 {
        return Ok(None);
    }
    if !matches!(words, 1 | 3) || !args.keyword("full") {
        return Err(refusal);
    }
    if words == 1 {
        return Ok(Some(FULL_COUNT));
    }
    if !args.keyword("count") {
        return Err(refusal);
    }
    Ok(Some(match args.integer()? {
        ..0 => FULL_COUNT,
        0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    }))
}

fn write_head(stream: &Stream, reply: &mut Reply<'_>) {
    reply.bulk(b"length");
    reply.integer(stream.len() as i64);
    reply.bulk(b"radix-tree-keys");
    reply.integer(stream.block_count() as i64);
    reply.bulk(b"radix-tree-nodes");
    reply.integer(stream.radix_nodes() as i64);
    write_id("last-generated-id", stream.last_id(), reply);
    write_id("max-deleted-entry-id", stream.max_deleted_id(), reply);
    reply.bulk(b"entries-added");
    reply.integer(stream.entries_added() as i64);
    write_id("recorded-first-entry-id", stream.first_id(), reply);
}

fn write_id(name: &str, id: Id, reply: &mut Reply<'_>) {
    reply.bulk(name.as_bytes());
    reply.bulk(&id.text());
}

fn write_stream(stream: &Stream, reply: &mut Reply<'_>) {
    reply.map(10);
    write_head(stream, reply);
    reply.bulk(b"groups");
    reply.integer(stream.group_count() as i64);
    let mut write = |name: &str, entry: Option<Entry<'_>>| {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => write_entry(&entry, reply),
            None => reply.null(),
        }
    };
    write("first-entry", stream.range(Id::ZERO, Id::MAX).next());
    write("last-entry", stream.last());
}

fn write_full(stream: &Stream, count: usize, reply: &mut Reply<'_>) {
    reply.map(9);
    write_head(stream, reply);
    reply.bulk(b"entries");
    write_entries(stream.range(Id::ZERO, Id::MAX).take(count), reply);
    reply.bulk(b"groups");
    reply.array(stream.group_count());
    for (name, group) in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        write_progress(stream, group, reply);
        reply.bulk(b"pel-count");
        reply.integer(group.pending().len() as i64);
        reply.bulk(b"pending");
        reply.array(group.pending().len().min(count));
        for pending in group.pending().iter().take(count) {
            reply.array(4);
            reply.bulk(&pending.id.text());
            reply.bulk(group.consumer(pending.consumer).name());
            reply.integer(pending.delivered_at);
            reply.integer(pending.count as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumer_count());
        for consumer in group.consumers() {
            write_full_consumer(group, consumer, count, reply);
        }
    }
}

fn write_full_consumer(group: &Group, consumer: &Consumer, count: usize, reply: &mut Reply<'_>) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_at);
    reply.bulk(b"active-time");
    reply.integer(consumer.active_at.unwrap_or(-1));
    reply.bulk(b"pel-count");
    reply.integer(consumer.pending().len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending().len().min(count));
    for id in consumer.pending().iter().take(count) {
        let pending = group.pending().get(*id);
        reply.array(3);
        reply.bulk(&id.text());
        reply.integer(pending.map_or(0, |pending| pending.delivered_at));
        reply.integer(pending.map_or(0, |pending| pending.count as i64));
    }
}

/// How far a group has read.
fn write_progress(stream: &Stream, group: &Group, reply: &mut Reply<'_>) {
    write_id("last-delivered-id", group.last_id, reply);
    let mut write = |name: &str, number: Option<i64>| {
        reply.bulk(name.as_bytes());
        match number {
            Some(number) => reply.integer(number),
            None => reply.null(),
        }
    };
    write("entries-read", group.entries_read.map(|read| read as i64));
    write("lag", stream.lag(group));
}

pub(super) fn xinfo_groups(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let stream = view.stream(args.bytes()?)?.ok_or(CommandError::NoSuchKey)?;
    reply.array(stream.group_count());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.integer(group.consumer_count() as i64);
        reply.bulk(b"pending");
        reply.integer(group.pending().len() as i64);
        write_progress(stream, group, reply);
    }
    Ok(())
}

pub(super) fn xinfo_consumers(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, name) = (args.bytes()?, args.bytes()?);
    let stream = view.stream(key)?.ok_or(CommandError::NoSuchKey)?;
    let Some(group) = stream.group(name) else {
        return Err(parse::no_group_of_key(name, key));
    };
    let now = view.now().0;
    let since = |at: i64| now.saturating_sub(at).max(0);
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.integer(consumer.pending().len() as i64);
        reply.bulk(b"idle");
        reply.integer(since(consumer.seen_at));
        reply.bulk(b"inactive");
        reply.integer(consumer.active_at.map_or(-1, since));
    }
    Ok(())
}

pub(super) fn xinfo_help(_: &mut Args<'_>, _: &View<'_>, reply: &mut Reply<'_>) -> Done {
    reply.array(HELP.len());
    HELP.iter().for_each(|line| reply.simple(line));
    Ok(())
}

const HELP: &[&str] = &[
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <groupname>",
    "    List the consumers of a group.",
    "GROUPS <key>",
    "    List the groups of a stream.",
    "STREAM <key> [FULL [COUNT <count>]]",
    "    Describe a stream; with FULL also its groups, and of each list <count> elements.",
    "HELP",
    "    Print this help.",
];
