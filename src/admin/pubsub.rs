//! SUBSCRIBE, PUBLISH and their kin.
//!
//! Confirmations are messages too: CLIENT REPLY does not hold them back. They stand between the replies of the connection,
//! while messages come to its outbox; whoever ends a subscription sends what is in the outbox first, so that nothing of
//! a channel comes after the confirmation that it was left.

use super::{Caller, Done, Handler, help};
use crate::resp::reply::Reply;
use crate::state::pubsub::{Payload, Subscriptions, Topic};
use crate::state::session::ReplyMode;
use crate::table::keys::{KeyAccess, KeySpec};
use crate::table::{Across, Args, Command, CommandError, Family, Flags, Merge, Row};

const ASKS: Flags = Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE);
const SUBSCRIBES: Flags = ASKS.union(Flags::NOSCRIPT).union(Flags::SUBSCRIBED);
const PUBLISHES: Flags = ASKS.union(Flags::FAST).union(Flags::MAY_REPLICATE);

/// The rows of the family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "psubscribe",
            family: Family::PubSub,
            since: "2.0.0",
            summary: "Subscribes to all channels whose names match.",
            complexity: "O(N) in the number of patterns",
            usage: "(pattern:pattern)...",
            flags: SUBSCRIBES,
            ..Command::NEW
        },
        Handler::Admin(psubscribe),
    ),
    Row::new(
        Command {
            name: "publish",
            family: Family::PubSub,
            since: "2.0.0",
            summary: "Sends a message to a channel's subscribers.",
            complexity: "O(N+M) in the number of the channel's subscribers and of all patterns",
            usage: "channel message",
            flags: PUBLISHES,
            ..Command::NEW
        },
        Handler::Admin(publish),
    ),
    Row {
        command: Command {
            name: "pubsub",
            family: Family::PubSub,
            since: "2.8.0",
            summary: "Holds the commands that look at subscriptions.",
            complexity: "Depends on the subcommand.",
            ..Command::NEW
        },
        handler: Handler::Container,
        subcommands: &[
            Row::new(
                Command {
                    name: "channels",
                    family: Family::PubSub,
                    since: "2.8.0",
                    summary: "Lists the channels that have subscribers.",
                    complexity: "O(N) in the number of channels",
                    usage: "[pattern:pattern]",
                    flags: ASKS,
                    across: Across::Broadcast,
                    merge: Some(Merge::Union),
                    ..Command::NEW
                },
                Handler::Admin(channels),
            ),
            Row::new(
                Command {
                    name: "help",
                    family: Family::PubSub,
                    since: "6.2.0",
                    summary: "Lists the subcommands.",
                    flags: Flags::LOADING.union(Flags::STALE),
                    ..Command::NEW
                },
                Handler::Admin(pubsub_help),
            ),
            Row::new(
                Command {
                    name: "numpat",
                    family: Family::PubSub,
                    since: "2.8.0",
                    summary: "Counts the patterns that have subscribers.",
                    flags: ASKS,
                    across: Across::Broadcast,
                    merge: Some(Merge::Sum),
                    ..Command::NEW
                },
                Handler::Admin(numpat),
            ),
            Row::new(
                Command {
                    name: "numsub",
                    family: Family::PubSub,
                    since: "2.8.0",
                    summary: "Counts the subscribers of channels.",
                    complexity: "O(N) in the number of channels asked for",
                    usage: "[channel ...]",
                    flags: ASKS,
                    across: Across::Broadcast,
                    merge: Some(Merge::SumPairs),
                    ..Command::NEW
                },
                Handler::Admin(numsub),
            ),
            Row::new(
                Command {
                    name: "shardchannels",
                    family: Family::PubSub,
                    since: "7.0.0",
                    summary: "Lists the shard channels that have subscribers.",
                    complexity: "O(N) in the number of shard channels",
                    usage: "[pattern:pattern]",
                    flags: ASKS,
                    across: Across::Broadcast,
                    merge: Some(Merge::Union),
                    ..Command::NEW
                },
                Handler::Admin(shardchannels),
            ),
            Row::new(
                Command {
                    name: "shardnumsub",
                    family: Family::PubSub,
                    since: "7.0.0",
                    summary: "Counts the subscribers of shard channels.",
                    complexity: "O(N) in the number of shard channels asked for",
                    usage: "[shardchannel ...]",
                    flags: ASKS,
                    across: Across::Broadcast,
                    merge: Some(Merge::SumPairs),
                    ..Command::NEW
                },
                Handler::Admin(shardnumsub),
            ),
        ],
    },
    Row::new(
        Command {
            name: "punsubscribe",
            family: Family::PubSub,
            since: "2.0.0",
            summary: "Ends subscriptions to patterns, without arguments all of them.",
            complexity: "O(N) in the number of patterns",
            usage: "[pattern:pattern ...]",
            flags: SUBSCRIBES,
            ..Command::NEW
        },
        Handler::Admin(punsubscribe),
    ),
    Row::new(
        Command {
            name: "spublish",
            family: Family::PubSub,
            since: "7.0.0",
            summary: "Sends a message to a shard channel's subscribers.",
            complexity: "O(N) in the number of the channel's subscribers",
            usage: "shardchannel message",
            flags: PUBLISHES,
            keys: &[KeySpec::one(1, KeyAccess::NOT_KEY)],
            ..Command::NEW
        },
        Handler::Admin(spublish),
    ),
    Row::new(
        Command {
            name: "ssubscribe",
            family: Family::PubSub,
            since: "7.0.0",
            summary: "Subscribes to shard channels.",
            complexity: "O(N) in the number of shard channels",
            usage: "shardchannel [shardchannel ...]",
            flags: SUBSCRIBES,
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::NOT_KEY)],
            ..Command::NEW
        },
        Handler::Admin(ssubscribe),
    ),
    Row::new(
        Command {
            name: "subscribe",
            family: Family::PubSub,
            since: "2.0.0",
            summary: "Subscribes to channels.",
            complexity: "O(N) in the number of channels",
            usage: "channel [channel ...]",
            flags: SUBSCRIBES,
            ..Command::NEW
        },
        Handler::Admin(subscribe),
    ),
    Row::new(
        Command {
            name: "sunsubscribe",
            family: Family::PubSub,
            since: "7.0.0",
            summary: "Ends subscriptions to shard channels, without arguments all of them.",
            complexity: "O(N) in the number of shard channels",
            usage: "[shardchannel ...]",
            flags: SUBSCRIBES,
            keys: &[KeySpec::range(1, -1, 1, KeyAccess::NOT_KEY)],
            ..Command::NEW
        },
        Handler::Admin(sunsubscribe),
    ),
    Row::new(
        Command {
            name: "unsubscribe",
            family: Family::PubSub,
            since: "2.0.0",
            summary: "Ends subscriptions to channels, without arguments all of them.",
            complexity: "O(N) in the number of channels",
            usage: "[channel ...]",
            flags: SUBSCRIBES,
            ..Command::NEW
        },
        Handler::Admin(unsubscribe),
    ),
];

/// Writes the confirmation that a subscription began or ended, which is sent even when replies are off.
fn confirm(
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
    kind: &str,
    name: Option<&[u8]>,
    count: usize,
) {
    let write = |reply: &mut Reply<'_>| {
        reply.push(3);
        reply.bulk(kind.as_bytes());
        match name {
            Some(name) => reply.bulk(name),
            None => reply.null(),
        }
        reply.integer(count as i64);
    };
    let session = &mut *caller.session;
    if session.reply_mode == ReplyMode::On {
        write(reply);
    } else {
        write(&mut Reply::new(&mut session.messages, session.protocol));
    }
}

fn begin(
    args: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
    (topic, kind): (Topic, &str),
) -> Done {
    for name in args.rest() {
        let session = &mut *caller.session;
        let subscriptions = session.subscriptions.get_or_insert_with(|| {
            Box::new(Subscriptions::new(
                caller.server.clone(),
                session.client.clone(),
            ))
        });
        subscriptions.add(topic, name);
        let count = subscriptions.count(topic);
        confirm(caller, reply, kind, Some(name), count);
    }
    Ok(())
}

fn end(
    args: &mut Args<'_>,
    caller: &mut Caller<'_>,
    reply: &mut Reply<'_>,
    (topic, kind): (Topic, &str),
) -> Done {
    let mut ended = Vec::new();
    if let Some(subscriptions) = &mut caller.session.subscriptions {
        let all = subscriptions.all(topic);
        let names: Vec<&[u8]> = if args.is_empty() {
            all.iter().map(|name| &name[..]).collect()
        } else {
            args.rest().collect()
        };
        for name in names {
            subscriptions.remove(topic, name);
            ended.push((name.to_vec(), subscriptions.count(topic)));
        }
        if subscriptions.is_empty() {
            caller.session.subscriptions = None;
        }
    } else {
        ended.extend(args.rest().map(|name| (name.to_vec(), 0)));
    }
    send_mail(caller, reply);
    for (name, count) in &ended {
        confirm(caller, reply, kind, Some(name), *count);
    }
    if ended.is_empty() {
        let count = caller.session.subscriptions.as_ref();
        let count = count.map_or(0, |subscriptions| subscriptions.count(topic));
        confirm(caller, reply, kind, None, count);
    }
    Ok(())
}

/// Sends what was delivered so far before what comes next. Not inside the array of EXEC, where clients do not look for
/// messages.
fn send_mail(caller: &mut Caller<'_>, reply: &mut Reply<'_>) {
    let session = &mut *caller.session;
    if caller.in_transaction {
        return;
    }
    if let Some(mail) = session.client.take_mail() {
        if session.reply_mode == ReplyMode::On {
            reply.output().append(mail);
        } else {
            session.messages.append(mail);
        }
    }
}

fn subscribe(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    begin(args, caller, reply, (Topic::Channel, "subscribe"))
}

fn psubscribe(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    begin(args, caller, reply, (Topic::Pattern, "psubscribe"))
}

fn ssubscribe(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    if caller.in_transaction {
        return Err(CommandError::fixed(
            "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client",
        ));
    }
    begin(args, caller, reply, (Topic::Shard, "ssubscribe"))
}

fn unsubscribe(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    end(args, caller, reply, (Topic::Channel, "unsubscribe"))
}

fn punsubscribe(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    end(args, caller, reply, (Topic::Pattern, "punsubscribe"))
}

fn sunsubscribe(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    end(args, caller, reply, (Topic::Shard, "sunsubscribe"))
}

fn publish(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let channel = args.bytes()?;
    let (payload, shared) = args.value()?;
    let payload = Payload::new(payload, shared);
    let count = caller.server.pubsub.publish(channel, &payload);
    answer(caller, reply, count);
    Ok(())
}

fn spublish(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let channel = args.bytes()?;
    let (payload, shared) = args.value()?;
    let payload = Payload::new(payload, shared);
    let count = caller.server.pubsub.publish_shard(channel, &payload);
    answer(caller, reply, count);
    Ok(())
}

/// Who publishes to itself sees the message before the answer.
fn answer(caller: &mut Caller<'_>, reply: &mut Reply<'_>, count: usize) {
    caller.session.has_published |= count > 0;
    if caller.session.is_subscribed() {
        send_mail(caller, reply);
    }
    reply.integer(count as i64);
}

fn list(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>, topic: Topic) -> Done {
    if args.remaining() > 1 {
        let name = args.all().get(1).unwrap_or_default();
        return Err(CommandError::subcommand_syntax("PUBSUB", name));
    }
    let names = caller.server.pubsub.channels(topic, args.peek());
    reply.array(names.len());
    names.into_iter().for_each(|name| reply.bulk_shared(name));
    Ok(())
}

fn channels(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    list(args, caller, reply, Topic::Channel)
}

fn shardchannels(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    list(args, caller, reply, Topic::Shard)
}

fn count(args: &Args<'_>, caller: &Caller<'_>, reply: &mut Reply<'_>, topic: Topic) {
    reply.array(args.remaining() * 2);
    for name in args.rest() {
        reply.bulk(name);
        let count = caller.server.pubsub.subscriber_count(topic, name);
        reply.integer(count as i64);
    }
}

fn numsub(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    count(args, caller, reply, Topic::Channel);
    Ok(())
}

fn shardnumsub(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    count(args, caller, reply, Topic::Shard);
    Ok(())
}

fn numpat(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    reply.integer(caller.server.pubsub.pattern_count() as i64);
    Ok(())
}

fn pubsub_help(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    help(reply, "PUBSUB", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "CHANNELS [<pattern>]",
    "    List the channels that have subscribers and match the pattern (default: all).",
    "NUMPAT",
    "    Count the patterns that have subscribers.",
    "NUMSUB [<channel> ...]",
    "    Count the subscribers of each channel, without those of patterns.",
    "SHARDCHANNELS [<pattern>]",
    "    List the shard channels that have subscribers and match the pattern (default: all).",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Count the subscribers of each shard channel.",
];

#[cfg(test)]
mod tests {
    use crate::admin::testing::Host;
    use crate::resp::reply::Output;
    use crate::state::clients::ClientKind;

    fn text(output: &Output) -> String {
        String::from_utf8_lossy(output.only_chunk().expect("a short output")).into_owned()
    }

    #[test]
    fn subscriptions_are_counted_and_end() {
        let host = Host::new();
        let (mut one, mut other) = (host.client(), host.client());
        assert_eq!(
            one.run("SUBSCRIBE a b a"),
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n\
             *3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n"
        );
        one.run("PSUBSCRIBE a*");
        one.run("SSUBSCRIBE s");
        assert_eq!(one.session.client.kind(), ClientKind::Pubsub);
        assert_eq!(
            other.run("PUBSUB NUMSUB a none"),
            "*4\r\n$1\r\na\r\n:1\r\n$4\r\nnone\r\n:0\r\n"
        );
        assert_eq!(other.run("PUBSUB NUMPAT"), ":1\r\n");
        assert_eq!(other.run("PUBSUB CHANNELS a*"), "*1\r\n$1\r\na\r\n");
        assert_eq!(other.run("PUBSUB SHARDCHANNELS"), "*1\r\n$1\r\ns\r\n");
        assert_eq!(other.run("PUBSUB SHARDNUMSUB s"), "*2\r\n$1\r\ns\r\n:1\r\n");
        assert_eq!(
            other.run("PUBSUB channels a b"),
            "-ERR unknown subcommand or wrong number of arguments for 'channels'. Try PUBSUB HELP.\r\n"
        );
        assert!(
            other
                .run("PUBSUB HELP")
                .contains("+SHARDNUMSUB [<shardchannel> ...]\r\n")
        );
        assert_eq!(one.run("PING x"), "*2\r\n$4\r\npong\r\n$1\r\nx\r\n");
        assert!(one.run("UNSUBSCRIBE").ends_with("$1\r\nb\r\n:1\r\n"));
        assert!(
            one.run("PUNSUBSCRIBE a* a*")
                .ends_with("$2\r\na*\r\n:0\r\n")
        );
        assert_eq!(one.session.client.kind(), ClientKind::Pubsub);
        assert_eq!(
            one.run("SUNSUBSCRIBE"),
            "*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n"
        );
        assert_eq!(
            one.run("UNSUBSCRIBE"),
            "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
        );
        assert_eq!(one.session.client.kind(), ClientKind::Normal);
        assert_eq!(one.run("PING"), "+PONG\r\n");
        assert!(host.server.pubsub.is_idle());
    }

    #[test]
    fn a_connection_that_ends_is_subscribed_to_nothing() {
        let host = Host::new();
        let mut one = host.client();
        one.run("SUBSCRIBE a");
        one.run("PSUBSCRIBE *");
        one.run("SSUBSCRIBE a");
        drop(one);
        let mut other = host.client();
        assert_eq!(other.run("PUBLISH a x"), ":0\r\n");
        assert_eq!(other.run("SPUBLISH a x"), ":0\r\n");
        assert_eq!(other.run("PUBSUB CHANNELS"), "*0\r\n");
        assert_eq!(other.run("PUBSUB NUMPAT"), ":0\r\n");
    }

    #[test]
    fn who_publishes_to_itself_sees_the_message_first() {
        let host = Host::new();
        let mut one = host.client();
        one.run("HELLO 3");
        one.run("SUBSCRIBE a");
        assert_eq!(
            one.run("PUBLISH a x"),
            ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n:1\r\n"
        );
    }

    /// Aim: what a subscriber over its limit has not read is freed, and it gets nothing more.
    #[test]
    fn an_outbox_is_bounded() {
        let host = Host::with(&[("client-output-buffer-limit", "pubsub 100 0 0")]);
        let (mut slow, mut other) = (host.client(), host.client());
        slow.run("SUBSCRIBE a");
        let client = slow.session.client.clone();
        assert_eq!(other.run("PUBLISH a 0123456789"), ":1\r\n");
        assert_eq!(client.killed(), None);
        assert_eq!(
            other.run("PUBLISH a 0123456789012345678901234567890123456789"),
            ":1\r\n"
        );
        assert_eq!(client.killed(), Some(false));
        assert_eq!(host.server.stats.output_limit_disconnections.value(), 1);
        other.run("PUBLISH a 0123456789");
        assert!(client.take_mail().is_none_or(|mail| mail.is_empty()));
        assert_eq!(host.server.stats.output_limit_disconnections.value(), 1);
    }

    /// Aim: a large payload stands once in memory, however many have not read it yet.
    #[test]
    fn large_payloads_are_shared() {
        let host = Host::new();
        let mut subscribers = [host.client(), host.client()];
        for subscriber in &mut subscribers {
            subscriber.run("SUBSCRIBE a");
        }
        let payload = "x".repeat(20_000);
        host.client().run(&format!("PUBLISH a {payload}"));
        let places = subscribers.map(|subscriber| {
            let mail = subscriber.session.client.take_mail().expect("a message");
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let count = mail.fill(&mut slices);
            let found = slices[..count].iter().find(|slice| slice.len() == 20_000);
            found.expect("the payload alone").as_ptr()
        });
        assert_eq!(places[0], places[1]);
    }

    #[test]
    fn memory_of_names_counts() {
        let host = Host::new();
        let mut one = host.client();
        let before = one.session.client.memory_bytes();
        one.run(&format!("SUBSCRIBE {}", "n".repeat(1000)));
        assert!(one.session.client.memory_bytes() >= before + 1000);
        one.run("UNSUBSCRIBE");
        assert_eq!(one.session.client.memory_bytes(), before);
    }

    #[test]
    fn reset_ends_all_and_sends_what_came() {
        let host = Host::new();
        let mut one = host.client();
        one.run("SUBSCRIBE a");
        host.client().run("PUBLISH a x");
        assert_eq!(
            one.run("RESET"),
            "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n+RESET\r\n"
        );
        assert_eq!(host.client().run("PUBLISH a x"), ":0\r\n");
    }

    #[test]
    fn events_are_messages() {
        use crate::keyspace::effects::{Event, EventClass, Listener};
        let host = Host::with(&[("notify-keyspace-events", "KEx")]);
        let mut one = host.client();
        one.run("SUBSCRIBE __keyspace@3__:k __keyevent@3__:expired __keyevent@3__:del");
        let event = |class, name| Event {
            class,
            name,
            database: 3,
            key: b"k".to_vec(),
        };
        host.server.key_events.publish(&[
            event(EventClass::GENERIC, "del"),
            event(EventClass::EXPIRED, "expired"),
        ]);
        let mail = one.session.client.take_mail().expect("two messages");
        assert_eq!(
            text(&mail),
            "*3\r\n$7\r\nmessage\r\n$16\r\n__keyspace@3__:k\r\n$7\r\nexpired\r\n\
             *3\r\n$7\r\nmessage\r\n$22\r\n__keyevent@3__:expired\r\n$1\r\nk\r\n"
        );
    }
}
