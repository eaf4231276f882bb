//! What must hold for every row: tests loop over the rows with [`check_row`].

use super::keys::{Begin, Find, KeyAccess, KeySpec};
use super::lookup::NAME_LIMIT;
use super::usage::{Argument, Usage};
use super::{Command, Flags, Scope};

/// Checks one row without its subcommands; the error names the first thing that does not hold.
///
/// - the name is short and lower case; family aside, summary, version and history have text
/// - the usage line parses, and refers to key specs that exist
/// - key specs fit into the least number of arguments (unless the keys are optional)
/// - the member that is fetched ahead is a member or a field, which every request has
/// - a row that only reads has no spec that writes, one with both flags is wrong
/// - keys are locked exactly when there are any
pub fn check_row(command: &Command) -> Result<(), String> {
    let checks = [
        check_name,
        check_texts,
        check_usage,
        check_flags,
        check_scope,
    ];
    checks
        .iter()
        .try_for_each(|check| check(command))
        .map_err(|problem| format!("{}: {problem}", command.name))
}

fn require(holds: bool, problem: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(problem.to_owned())
    }
}

fn check_name(command: &Command) -> Result<(), String> {
    let name = command.name.as_bytes();
    let allowed =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
    require(
        (1..=NAME_LIMIT).contains(&name.len()),
        "the name is empty or too long",
    )?;
    require(
        name.iter().all(allowed),
        "the name has characters other than lower-case letters, digits, - and _",
    )
}

fn check_texts(command: &Command) -> Result<(), String> {
    require(!command.summary.is_empty(), "no summary")?;
    require(is_version(command.since), "since is not a version")?;
    require(
        command
            .deprecated
            .is_none_or(|(version, instead)| is_version(version) && !instead.is_empty()),
        "deprecated",
    )?;
    let said = |&(version, change): &(&str, &str)| is_version(version) && !change.is_empty();
    require(
        command.history.iter().all(said),
        "a history entry without version or text",
    )
}

fn is_version(text: &str) -> bool {
    text.split('.').count() == 3 && text.split('.').all(|part| part.parse::<u8>().is_ok())
}

fn check_usage(command: &Command) -> Result<(), String> {
    let usage = Usage::parse(command.usage).map_err(|error| error.to_string())?;
    let refers = |spec: usize| spec < command.keys.len();
    require(
        all_arguments(&usage.arguments, &|argument| {
            argument.key_spec.is_none_or(refers)
        }),
        "no such key spec",
    )?;
    // The names of a subcommand count as one more argument, which only makes room.
    let least = usage.arity(1).unsigned_abs() as usize + 1;
    for spec in command
        .keys
        .iter()
        .filter(|_| !command.flags.contains(Flags::NO_MANDATORY_KEYS))
    {
        require(
            fits(spec, least),
            &format!("{spec:?} does not fit the arity"),
        )?;
    }
    let named = match command.member.checked_sub(1) {
        Some(at) => required(&usage.arguments).nth(at),
        None => return Ok(()),
    };
    let is_member = named.is_some_and(|argument| matches!(&*argument.name, "member" | "field"));
    require(is_member, "where its member stands is something else")
}

/// The arguments that the shortest request has.
fn required(arguments: &[Argument]) -> impl Iterator<Item = &Argument> {
    arguments
        .iter()
        .filter(|argument| !argument.optional)
        .flat_map(|argument| match argument.members.is_empty() {
            true => vec![argument],
            false => required(&argument.members).collect(),
        })
}

fn all_arguments(arguments: &[Argument], holds: &impl Fn(&Argument) -> bool) -> bool {
    arguments
        .iter()
        .all(|argument| holds(argument) && all_arguments(&argument.members, holds))
}

/// Whether a spec finds its keys in the shortest request of `least` arguments.
fn fits(spec: &KeySpec, least: usize) -> bool {
    let Begin::Index(index) = spec.begin else {
        return true;
    };
    let reach = match spec.find {
        Find::Range { last, step, .. } => (step > 0).then(|| last.max(0)),
        Find::Count {
            count_at,
            first,
            step,
        } => (step > 0).then(|| count_at.max(first)),
        Find::Unknown => Some(0),
    };
    index > 0
        && reach
            .and_then(|reach| index.checked_add(reach as usize))
            .is_some_and(|end| end < least)
}

fn check_flags(command: &Command) -> Result<(), String> {
    let (write, readonly) = (
        command.flags.contains(Flags::WRITE),
        command.flags.contains(Flags::READONLY),
    );
    require(!(write && readonly), "both write and readonly")?;
    require(
        write || !command.flags.contains(Flags::DENYOOM) || command.keys.is_empty(),
        "denyoom without write",
    )?;
    for spec in command.keys {
        let kinds = KeyAccess::RO | KeyAccess::RW | KeyAccess::OW | KeyAccess::RM;
        let kind_count = (spec.access & kinds).bits().count_ones();
        require(
            kind_count == u32::from(spec.is_key()),
            "a key spec wants one of RO, RW, OW, RM; a channel none",
        )?;
        // PFCOUNT may write its cache: such rows say MAY_REPLICATE.
        let may_write = write || command.flags.contains(Flags::MAY_REPLICATE);
        require(
            may_write || !spec.access.writes() || !readonly,
            "readonly, but a key spec writes",
        )?;
    }
    Ok(())
}

fn check_scope(command: &Command) -> Result<(), String> {
    let locks = matches!(command.scope, Scope::Keys | Scope::KeysAndDatabase(_));
    require(
        !locks || command.has_keys(),
        "locks keys but has no key specs",
    )?;
    require(
        !command.has_keys() || !matches!(command.scope, Scope::Sweep),
        "has keys but sweeps the keyspace",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Command = Command {
        name: "get",
        summary: "Returns the string at a key.",
        usage: "key",
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
        scope: Scope::Keys,
        ..Command::NEW
    };

    /// A good row passes, and each property fails by itself.
    #[test]
    fn each_property_is_checked() {
        assert_eq!(check_row(&GOOD), Ok(()));
        const BAD: [Command; 13] = [
            Command {
                name: "Get",
                ..GOOD
            },
            Command {
                summary: "",
                ..GOOD
            },
            Command {
                since: "1.0",
                ..GOOD
            },
            Command {
                history: &[("1.0.0", "")],
                ..GOOD
            },
            Command { member: 1, ..GOOD },
            Command {
                usage: "key [",
                ..GOOD
            },
            Command {
                usage: "key destination:key",
                ..GOOD
            },
            Command {
                keys: &[KeySpec::one(3, KeyAccess::RO)],
                ..GOOD
            },
            Command {
                keys: &[KeySpec::one(1, KeyAccess::RW)],
                ..GOOD
            },
            Command {
                keys: &[KeySpec::one(1, KeyAccess::ACCESS)],
                ..GOOD
            },
            Command {
                flags: Flags::READONLY.union(Flags::WRITE),
                ..GOOD
            },
            Command {
                usage: "",
                keys: &[],
                ..GOOD
            },
            Command {
                scope: Scope::Sweep,
                ..GOOD
            },
        ];
        for (index, row) in BAD.iter().enumerate() {
            assert!(check_row(row).is_err(), "case {index}");
        }
    }
}
