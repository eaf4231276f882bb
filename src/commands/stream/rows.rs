//! The rows of the commands of streams.

use super::{entries, group, info, pending, read};
use crate::commands::Handler;
use crate::table::{Command, Family, Flags, KeyAccess, KeySpec, Row, Scope};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "xack",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Takes entries off the pending ones of a group.",
            complexity: "O(1) for each id",
            usage: "key group id [id ...]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pending::xack),
    ),
    Row::new(
        Command {
            name: "xackdel",
            family: Family::Stream,
            since: "8.2.0",
            summary: "Takes entries off the pending ones of a group and removes them from the stream.",
            complexity: "O(1) for each id",
            usage: "key group condition:[KEEPREF|DELREF|ACKED] IDS ids:(numids:int id [id ...])",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(pending::xackdel),
    ),
    Row::new(
        Command {
            name: "xadd",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Adds an entry to a stream, which is created if it is missing.",
            complexity: "O(1), and O(N) in the entries that are trimmed",
            usage: "key [NOMKSTREAM@6.2.0] condition:[KEEPREF|DELREF|ACKED]@8.2.0 trim:[strategy:(MAXLEN|MINID@6.2.0) operator:[equal='='|approximately='~'] threshold [LIMIT count:int@6.2.0]] id_or_auto:(auto_id='*'|id) field value [field value ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[
                ("6.2.0", "`NOMKSTREAM`, `MINID` and `LIMIT` came in."),
                (
                    "7.0.0",
                    "The number of an id may be left to the server: `ms-*`.",
                ),
                ("8.2.0", "`KEEPREF`, `DELREF` and `ACKED` came in."),
            ],
            ..Command::NEW
        },
        Handler::Write(entries::xadd),
    ),
    Row::new(
        Command {
            name: "xautoclaim",
            family: Family::Stream,
            since: "6.2.0",
            summary: "Gives a consumer what has been pending for long, whoever held it.",
            complexity: "O(1) for a fixed COUNT",
            usage: "key group consumer min-idle-time start [COUNT count:int] [JUSTID]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[(
                "7.0.0",
                "Drops what the stream no longer has, and tells these ids.",
            )],
            ..Command::NEW
        },
        Handler::Write(pending::xautoclaim),
    ),
    Row::new(
        Command {
            name: "xclaim",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Gives a consumer pending entries, whoever held them.",
            complexity: "O(log N) in the number of pending entries, for each id",
            usage: "key group consumer min-idle-time id [id ...] [IDLE ms:int] [TIME unix-time-milliseconds:unix-time] [RETRYCOUNT count:int] [FORCE] [JUSTID] [LASTID id]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Write(pending::xclaim),
    ),
    Row::new(
        Command {
            name: "xdel",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Removes entries from a stream.",
            complexity: "O(1) for each id",
            usage: "key id [id ...]",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(entries::xdel),
    ),
    Row::new(
        Command {
            name: "xdelex",
            family: Family::Stream,
            since: "8.2.0",
            summary: "Removes entries from a stream, and says what becomes of groups' references to them.",
            complexity: "O(1) for each id",
            usage: "key condition:[KEEPREF|DELREF|ACKED] IDS ids:(numids:int id [id ...])",
            flags: Flags::WRITE.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(entries::xdelex),
    ),
    Row {
        command: Command {
            name: "xgroup",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Manages the groups of a stream.",
            complexity: "",
            ..Command::NEW
        },
        handler: Handler::Container,
        subcommands: XGROUP,
    },
    Row {
        command: Command {
            name: "xinfo",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Describes streams, groups and consumers.",
            complexity: "",
            ..Command::NEW
        },
        handler: Handler::Container,
        subcommands: XINFO,
    },
    Row::new(
        Command {
            name: "xlen",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Counts the entries of a stream.",
            complexity: "O(1)",
            usage: "key",
            flags: Flags::READONLY.union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RO)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(entries::xlen),
    ),
    Row::new(
        Command {
            name: "xpending",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Counts or lists the pending entries of a group.",
            complexity: "O(N) in the number of entries looked at",
            usage: "key group filters:[[IDLE min-idle-time:int@6.2.0] start end count:int [consumer]]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[("6.2.0", "`IDLE` came in, and ids may be excluded.")],
            ..Command::NEW
        },
        Handler::Read(pending::xpending),
    ),
    Row::new(
        Command {
            name: "xrange",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Returns the entries between two ids.",
            complexity: "O(N) in the number of entries returned",
            usage: "key start end [COUNT count:int]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[("6.2.0", "Ids may be excluded.")],
            ..Command::NEW
        },
        Handler::Read(entries::xrange),
    ),
    Row::new(
        Command {
            name: "xread",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Returns the entries beyond an id of one or more streams, and may wait for them.",
            complexity: "O(N) in the number of entries returned",
            usage: "[COUNT count:int] [BLOCK milliseconds:int] STREAMS streams:(key [key ...] id [id ...])",
            flags: Flags::READONLY.union(Flags::BLOCKING),
            keys: &[KeySpec::after("STREAMS", 1, -1, 1, 2, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[("7.4.0", "`+` stands for the last entry.")],
            ..Command::NEW
        },
        Handler::Block(read::xread),
    ),
    Row::new(
        Command {
            name: "xreadgroup",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Returns entries that a group has yet to deliver, or what a consumer has pending; may wait for them.",
            complexity: "O(N) in the number of entries returned",
            usage: "GROUP (group consumer) [COUNT count:int] [BLOCK milliseconds:int] [NOACK] STREAMS streams:(key [key ...] id [id ...])",
            flags: Flags::WRITE.union(Flags::BLOCKING),
            keys: &[KeySpec::after("STREAMS", 4, -1, 1, 2, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Block(read::xreadgroup),
    ),
    Row::new(
        Command {
            name: "xrevrange",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Returns the entries between two ids, the last first.",
            complexity: "O(N) in the number of entries returned",
            usage: "key end start [COUNT count:int]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[("6.2.0", "Ids may be excluded.")],
            ..Command::NEW
        },
        Handler::Read(entries::xrevrange),
    ),
    Row::new(
        Command {
            name: "xsetid",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Sets the last id of a stream.",
            complexity: "O(1)",
            usage: "key last-id [ENTRIESADDED entries_added:int@7.0.0] [MAXDELETEDID max_deleted_entry_id@7.0.0]",
            flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            history: &[("7.0.0", "`ENTRIESADDED` and `MAXDELETEDID` came in.")],
            ..Command::NEW
        },
        Handler::Write(entries::xsetid),
    ),
    Row::new(
        Command {
            name: "xtrim",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Removes entries from the front of a stream.",
            complexity: "O(N) in the number of entries removed",
            usage: "key trim:(strategy:(MAXLEN|MINID@6.2.0) operator:[equal='='|approximately='~'] threshold [LIMIT count:int@6.2.0]) condition:[KEEPREF|DELREF|ACKED]@8.2.0",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(1, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[
                ("6.2.0", "`MINID` and `LIMIT` came in."),
                ("8.2.0", "`KEEPREF`, `DELREF` and `ACKED` came in."),
            ],
            ..Command::NEW
        },
        Handler::Write(entries::xtrim),
    ),
];

const XGROUP: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "create",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Adds a group to a stream.",
            complexity: "O(1)",
            usage: "key groupname id:(id|new_id='$') [MKSTREAM] [ENTRIESREAD entries_read:int]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(2, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            history: &[("7.0.0", "`ENTRIESREAD` came in.")],
            ..Command::NEW
        },
        Handler::Write(group::xgroup_create),
    ),
    Row::new(
        Command {
            name: "createconsumer",
            family: Family::Stream,
            since: "6.2.0",
            summary: "Adds a consumer to a group.",
            complexity: "O(1)",
            usage: "key groupname consumername",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(2, KeyAccess::RW_INSERT)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(group::xgroup_createconsumer),
    ),
    Row::new(
        Command {
            name: "delconsumer",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Removes a consumer, and what it has pending.",
            complexity: "O(N) in the number of its pending entries",
            usage: "key groupname consumername",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(2, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(group::xgroup_delconsumer),
    ),
    Row::new(
        Command {
            name: "destroy",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Removes a group.",
            complexity: "O(N) in the number of its pending entries",
            usage: "key groupname",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(2, KeyAccess::RW_DELETE)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Write(group::xgroup_destroy),
    ),
    Row::new(
        Command {
            name: "help",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Lists the subcommands of XGROUP.",
            complexity: "O(1)",
            flags: Flags::LOADING.union(Flags::STALE),
            ..Command::NEW
        },
        Handler::Read(group::xgroup_help),
    ),
    Row::new(
        Command {
            name: "setid",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Says up to where a group has read.",
            complexity: "O(1)",
            usage: "key groupname id:(id|new_id='$') [ENTRIESREAD entries_read:int]",
            flags: Flags::WRITE,
            keys: &[KeySpec::one(2, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            history: &[("7.0.0", "`ENTRIESREAD` came in.")],
            ..Command::NEW
        },
        Handler::Write(group::xgroup_setid),
    ),
];

const XINFO: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "consumers",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Lists the consumers of a group.",
            complexity: "O(N) in their number",
            usage: "key groupname",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            tips: &["nondeterministic_output"],
            history: &[(
                "7.2.0",
                "Tells for how long a consumer was given nothing: `inactive`.",
            )],
            ..Command::NEW
        },
        Handler::Read(info::xinfo_consumers),
    ),
    Row::new(
        Command {
            name: "groups",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Lists the groups of a stream.",
            complexity: "O(N) in their number",
            usage: "key",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[(
                "7.0.0",
                "Tells how far a group has read, and how far it is behind.",
            )],
            ..Command::NEW
        },
        Handler::Read(info::xinfo_groups),
    ),
    Row::new(
        Command {
            name: "help",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Lists the subcommands of XINFO.",
            complexity: "O(1)",
            flags: Flags::LOADING.union(Flags::STALE),
            ..Command::NEW
        },
        Handler::Read(info::xinfo_help),
    ),
    Row::new(
        Command {
            name: "stream",
            family: Family::Stream,
            since: "5.0.0",
            summary: "Describes a stream.",
            complexity: "O(N) in the number of its blocks, a hundredth of that of its entries",
            usage: "key [FULL full:([COUNT count:int])]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[
                ("6.0.0", "`FULL` came in."),
                (
                    "7.0.0",
                    "Tells how many entries were added, and which ids were first and last to go.",
                ),
                (
                    "7.2.0",
                    "`FULL` tells when a consumer was given something last.",
                ),
            ],
            ..Command::NEW
        },
        Handler::Read(info::xinfo_stream),
    ),
];
