//! Fields that expire: the commands of Redis 7.4 and 8.0.
//!
//! An expiry that is not in the future removes the field at once. What is propagated is absolute and names only the fields
//! that changed: `HPEXPIREAT key milliseconds FIELDS n ..`, `HDEL key ..`, `HPERSIST key FIELDS n ..`, `HSETEX key PXAT ..`.

use std::collections::HashSet;

use super::pairs;
use crate::base::clock::Millis;
use crate::commands::Done;
use crate::data::hash::{Expiry, Hash, HashRef};
use crate::data::number;
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::hash::KeyHasher;
use crate::keyspace::view::View;
use crate::resp::reply::Reply;
use crate::table::{Args, CommandError};

/// The last instant at which a field may expire, in milliseconds (redis `HFE_MAX_ABS_TIME_MSEC`): the year 4199.
const LAST_MS: i64 = ((1 << 48) - 2) >> 2;

const NO_FIELDS: CommandError =
    CommandError::fixed("ERR Mandatory argument FIELDS is missing or not at the right position");
const WRONG_COUNT: CommandError =
    CommandError::fixed("ERR The `numfields` parameter must match the number of arguments");
const NOT_A_COUNT: CommandError =
    CommandError::fixed("ERR Number of fields must be a positive integer");
const NOT_A_COUNT_TO_EXPIRE: CommandError =
    CommandError::fixed("ERR Parameter `numFields` should be greater than 0");

// The replies for one field.
const NO_FIELD: i64 = -2;
const NO_EXPIRY: i64 = -1;
const REFUSED: i64 = 0;
const CHANGED: i64 = 1;
const REMOVED: i64 = 2;

/// How a time is stated.
#[derive(Clone, Copy)]
struct Timing {
    unit_ms: i64,
    /// From now, or since the epoch.
    relative: bool,
}

const SECONDS: Timing = Timing {
    unit_ms: 1000,
    relative: true,
};
const MILLISECONDS: Timing = Timing {
    unit_ms: 1,
    relative: true,
};
const UNIX_SECONDS: Timing = Timing {
    unit_ms: 1000,
    relative: false,
};
const UNIX_MILLISECONDS: Timing = Timing {
    unit_ms: 1,
    relative: false,
};

impl Timing {
    /// The instant that the next argument states. It may lie in the past.
    fn take(
        self,
        args: &mut Args<'_>,
        command: &'static str,
        now: Millis,
    ) -> Result<Millis, CommandError> {
        let number = args.integer()?;
        if number < 0 {
            return Err(CommandError::fixed("ERR invalid expire time, must be >= 0"));
        }
        let base = if self.relative { now.0 } else { 0 };
        number
            .checked_mul(self.unit_ms)
            .and_then(|ms| ms.checked_add(base))
            .filter(|at| *at <= LAST_MS)
            .map(Millis)
            .ok_or(CommandError::InvalidExpire(command))
    }

    /// How long until `at`, or when it is; seconds are rounded up.
    fn state(self, at: Millis, now: Millis) -> i64 {
        let base = if self.relative { now.0 } else { 0 };
        (at.0 - base + self.unit_ms - 1) / self.unit_ms
    }
}

/// EX, PX, EXAT or PXAT.
fn take_timing(args: &mut Args<'_>) -> Option<Timing> {
    let words = [
        ("EX", SECONDS),
        ("PX", MILLISECONDS),
        ("EXAT", UNIX_SECONDS),
        ("PXAT", UNIX_MILLISECONDS),
    ];
    words
        .into_iter()
        .find_map(|(word, timing)| args.keyword(word).then_some(timing))
}

/// Takes `FIELDS numfields`; as many fields are left.
fn take_count(args: &mut Args<'_>, not_a_count: CommandError) -> Result<(), CommandError> {
    if !args.keyword("FIELDS") {
        return Err(NO_FIELDS);
    }
    let count = args
        .peek()
        .and_then(number::parse_i64)
        .filter(|count| *count > 0);
    let count = count.ok_or(not_a_count)?;
    args.bytes()?;
    if usize::try_from(count) == Ok(args.remaining()) {
        Ok(())
    } else {
        Err(WRONG_COUNT)
    }
}

/// When an expiry may be set. A field without one counts as never expiring, but not for XX and GT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    /// NX: only if it has none.
    Without,
    /// XX: only if it has one.
    With,
    /// GT: only if the new one is later.
    Later,
    /// LT: only if the new one is earlier.
    Earlier,
}

impl Condition {
    fn take(args: &mut Args<'_>) -> Condition {
        let words = [
            ("NX", Condition::Without),
            ("XX", Condition::With),
            ("GT", Condition::Later),
            ("LT", Condition::Earlier),
        ];
        words
            .into_iter()
            .find_map(|(word, condition)| args.keyword(word).then_some(condition))
            .unwrap_or(Condition::Always)
    }

    fn allows(self, old: Option<Millis>, new: Millis) -> bool {
        match self {
            Condition::Always => true,
            Condition::Without => old.is_none(),
            Condition::With => old.is_some(),
            Condition::Later => old.is_some_and(|old| old < new),
            Condition::Earlier => old.is_none_or(|old| old > new),
        }
    }
}

pub(super) fn hexpire(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    expire(SECONDS, "hexpire", args, view, reply)
}

pub(super) fn hpexpire(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    expire(MILLISECONDS, "hpexpire", args, view, reply)
}

pub(super) fn hexpireat(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    expire(UNIX_SECONDS, "hexpireat", args, view, reply)
}

pub(super) fn hpexpireat(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    expire(UNIX_MILLISECONDS, "hpexpireat", args, view, reply)
}

fn expire(
    timing: Timing,
    command: &'static str,
    args: &mut Args<'_>,
    view: &mut View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let key = args.bytes()?;
    // As in Redis the type of the key comes before all that is wrong with the arguments.
    view.hash_for_write(key)?;
    let at = timing.take(args, command, view.now())?;
    let condition = Condition::take(args);
    take_count(args, NOT_A_COUNT_TO_EXPIRE)?;
    view.expire_fields(key, args.rest())?;
    let (fields, hasher, is_past) = (args.rest(), view.hasher(), at <= view.now());
    reply.array(args.remaining());
    let changed = view.heavy(args.remaining(), |view| {
        view.edit_hash(key, Missing::Skip, |hash| {
            let mut changed = Vec::new();
            for field in fields {
                let outcome = match hash.view().expiry(field, hasher) {
                    None => NO_FIELD,
                    Some(old) if !condition.allows(old, at) => REFUSED,
                    Some(_) => {
                        changed.push(field);
                        expire_field(hash, field, at, is_past, hasher)
                    }
                };
                reply.integer(outcome);
            }
            changed
        })
    })?;
    let Some(changed) = changed else {
        (0..args.remaining()).for_each(|_| reply.integer(NO_FIELD));
        return Ok(());
    };
    tell_expired(view, key, changed, at);
    Ok(())
}

/// Sets when a field that is there expires; removes it when that is not in the future.
fn expire_field(
    hash: &mut Hash,
    field: &[u8],
    at: Millis,
    is_past: bool,
    hasher: &KeyHasher,
) -> i64 {
    if is_past {
        hash.remove(field, hasher);
        REMOVED
    } else {
        hash.set_expiry(field, Some(at), hasher);
        CHANGED
    }
}

/// Counts, reports and propagates that fields expire at an instant, or were removed since it is not in the future.
fn tell_expired(view: &mut View<'_>, key: &[u8], fields: Vec<&[u8]>, at: Millis) {
    if fields.is_empty() {
        return;
    }
    view.effects.dirty += fields.len() as u64;
    if at <= view.now() {
        view.notify(EventClass::HASH, "hdel", key);
        propagate(view, &[b"HDEL", key], fields);
    } else {
        view.notify(EventClass::HASH, "hexpire", key);
        let (mut time, mut number) = (itoa::Buffer::new(), itoa::Buffer::new());
        let at = time.format(at.0).as_bytes();
        let fields = once_each(fields);
        let count = number.format(fields.len()).as_bytes();
        propagate(view, &[b"HPEXPIREAT", key, at, b"FIELDS", count], fields);
    }
}

fn propagate(view: &mut View<'_>, front: &[&[u8]], rest: Vec<&[u8]>) {
    view.propagate(&[front, &rest].concat());
}

/// A field that was given twice is told once.
fn once_each(fields: Vec<&[u8]>) -> Vec<&[u8]> {
    let mut seen = HashSet::with_capacity(fields.len());
    fields
        .into_iter()
        .filter(|field| seen.insert(*field))
        .collect()
}

pub(super) fn httl(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    state_expiries(SECONDS, args, view, reply)
}

pub(super) fn hpttl(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    state_expiries(MILLISECONDS, args, view, reply)
}

pub(super) fn hexpiretime(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    state_expiries(UNIX_SECONDS, args, view, reply)
}

pub(super) fn hpexpiretime(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    state_expiries(UNIX_MILLISECONDS, args, view, reply)
}

fn state_expiries(
    timing: Timing,
    args: &mut Args<'_>,
    view: &View<'_>,
    reply: &mut Reply<'_>,
) -> Done {
    let hash = view.hash(args.bytes()?)?;
    take_count(args, NOT_A_COUNT)?;
    let (now, hasher) = (view.now(), view.hasher());
    reply.array(args.remaining());
    for field in args.rest() {
        let expiry = hash.and_then(|hash| hash.expiry(field, hasher));
        reply.integer(match expiry {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(at)) if at < now => NO_FIELD,
            Some(Some(at)) => timing.state(at, now),
        });
    }
    Ok(())
}

pub(super) fn hpersist(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    view.hash_for_write(key)?;
    take_count(args, NOT_A_COUNT)?;
    view.expire_fields(key, args.rest())?;
    let (fields, hasher) = (args.rest(), view.hasher());
    reply.array(args.remaining());
    let changed = view.edit_hash(key, Missing::Skip, |hash| {
        let mut changed = false;
        for field in fields {
            let outcome = match hash.view().expiry(field, hasher) {
                None => NO_FIELD,
                Some(None) => NO_EXPIRY,
                Some(Some(_)) => {
                    changed = true;
                    hash.set_expiry(field, None, hasher);
                    CHANGED
                }
            };
            reply.integer(outcome);
        }
        changed
    })?;
    match changed {
        None => (0..args.remaining()).for_each(|_| reply.integer(NO_FIELD)),
        Some(false) => {}
        Some(true) => {
            view.effects.dirty += 1;
            view.notify(EventClass::HASH, "hpersist", key);
        }
    }
    Ok(())
}

pub(super) fn hgetdel(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    view.hash_for_write(key)?;
    take_count(args, NOT_A_COUNT)?;
    view.expire_fields(key, args.rest())?;
    let (fields, hasher, now) = (args.rest(), view.hasher(), view.now());
    reply.array(args.remaining());
    let removed = view.heavy(args.remaining(), |view| {
        view.edit_hash(key, Missing::Skip, |hash| {
            let mut removed = Vec::new();
            for field in fields {
                reply_or_null(hash.view(), field, now, hasher, reply);
                if hash.remove(field, hasher) {
                    removed.push(field);
                }
            }
            removed
        })
    })?;
    match removed {
        None => (0..args.remaining()).for_each(|_| reply.null()),
        Some(removed) if removed.is_empty() => {}
        Some(removed) => {
            view.effects.dirty += removed.len() as u64;
            view.notify(EventClass::HASH, "hdel", key);
            propagate(view, &[b"HDEL", key], removed);
        }
    }
    Ok(())
}

fn reply_or_null(
    hash: HashRef<'_>,
    field: &[u8],
    now: Millis,
    hasher: &KeyHasher,
    reply: &mut Reply<'_>,
) {
    match hash.get(field, now, hasher) {
        Some(value) => reply.item(value),
        None => reply.null(),
    }
}

/// What HGETEX does to the fields that it returns.
#[derive(Clone, Copy)]
enum Change {
    None,
    Persist,
    Expire(Millis),
}

pub(super) fn hgetex(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    view.hash_for_write(key)?;
    let change = match take_timing(args) {
        Some(timing) => Change::Expire(timing.take(args, "hgetex", view.now())?),
        None if args.keyword("PERSIST") => Change::Persist,
        None => Change::None,
    };
    take_count(args, NOT_A_COUNT)?;
    view.expire_fields(key, args.rest())?;
    let (fields, hasher, now) = (args.rest(), view.hasher(), view.now());
    reply.array(args.remaining());
    let changed = view.heavy(args.remaining(), |view| {
        view.edit_hash(key, Missing::Skip, |hash| {
            let mut changed = Vec::new();
            for field in fields {
                reply_or_null(hash.view(), field, now, hasher, reply);
                if change_field(hash, field, change, now, hasher) {
                    changed.push(field);
                }
            }
            changed
        })
    })?;
    let Some(changed) = changed else {
        (0..args.remaining()).for_each(|_| reply.null());
        return Ok(());
    };
    match change {
        Change::Expire(at) => tell_expired(view, key, changed, at),
        Change::Persist if !changed.is_empty() => {
            view.effects.dirty += changed.len() as u64;
            view.notify(EventClass::HASH, "hpersist", key);
            let mut number = itoa::Buffer::new();
            let count = number.format(changed.len()).as_bytes();
            propagate(view, &[b"HPERSIST", key, b"FIELDS", count], changed);
        }
        Change::Persist | Change::None => {}
    }
    Ok(())
}

/// Whether the field was changed.
fn change_field(
    hash: &mut Hash,
    field: &[u8],
    change: Change,
    now: Millis,
    hasher: &KeyHasher,
) -> bool {
    match (hash.view().expiry(field, hasher), change) {
        (None, _) | (_, Change::None) | (Some(None), Change::Persist) => false,
        (Some(Some(_)), Change::Persist) => hash.set_expiry(field, None, hasher),
        (Some(_), Change::Expire(at)) => {
            expire_field(hash, field, at, at <= now, hasher);
            true
        }
    }
}

/// What HSETEX asks for, without the fields.
struct SetOptions {
    condition: SetCondition,
    expiry: SetExpiry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetCondition {
    Always,
    /// FNX: only if none of the fields is there.
    AllNew,
    /// FXX: only if all of them are.
    AllKnown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetExpiry {
    Unsaid,
    Keep,
    At(Millis),
}

impl SetOptions {
    /// Takes the options, `FIELDS` and the count; the fields with their values are left.
    fn take(args: &mut Args<'_>, now: Millis) -> Result<SetOptions, CommandError> {
        let mut options = SetOptions {
            condition: SetCondition::Always,
            expiry: SetExpiry::Unsaid,
        };
        loop {
            if args.keyword("FIELDS") {
                options.take_count(args)?;
                return Ok(options);
            } else if args.keyword("FNX") {
                options.set_condition(SetCondition::AllNew)?;
            } else if args.keyword("FXX") {
                options.set_condition(SetCondition::AllKnown)?;
            } else if args.keyword("KEEPTTL") {
                options.check_expiry()?;
                options.expiry = SetExpiry::Keep;
            } else if let Some(timing) = take_timing(args) {
                options.check_expiry()?;
                if args.is_empty() {
                    return Err(CommandError::fixed("ERR missing expire time"));
                }
                options.expiry = SetExpiry::At(timing.take(args, "hsetex", now)?);
            } else if let Some(word) = args.peek() {
                return Err(CommandError::quoting("unknown argument: ", word, ""));
            } else {
                return Err(CommandError::Arity("hsetex".into()));
            }
        }
    }

    fn set_condition(&mut self, condition: SetCondition) -> Done {
        if self.condition != SetCondition::Always {
            return Err(CommandError::fixed(
                "ERR Only one of FXX or FNX arguments can be specified",
            ));
        }
        self.condition = condition;
        Ok(())
    }

    fn check_expiry(&self) -> Done {
        if self.expiry == SetExpiry::Unsaid {
            return Ok(());
        }
        Err(CommandError::fixed(
            "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
        ))
    }

    fn take_count(&self, args: &mut Args<'_>) -> Done {
        let arity = || CommandError::Arity("hsetex".into());
        if args.remaining() < 3 {
            return Err(arity());
        }
        let count = number::parse_i64(args.bytes()?)
            .filter(|count| (1..=i64::from(i32::MAX)).contains(count))
            .ok_or(CommandError::fixed("ERR invalid number of fields"))?;
        if usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(2))
            == Some(args.remaining())
        {
            Ok(())
        } else {
            Err(arity())
        }
    }

    fn allows(
        &self,
        hash: Option<HashRef<'_>>,
        mut fields: impl Iterator<Item = impl AsRef<[u8]>>,
        now: Millis,
        hasher: &KeyHasher,
    ) -> bool {
        let is_known = |field: &[u8]| hash.is_some_and(|hash| hash.contains(field, now, hasher));
        match self.condition {
            SetCondition::Always => true,
            SetCondition::AllNew => fields.all(|field| !is_known(field.as_ref())),
            SetCondition::AllKnown => fields.all(|field| is_known(field.as_ref())),
        }
    }
}

pub(super) fn hsetex(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let (hasher, now, limits) = (view.hasher(), view.now(), view.rules().hash);
    let options = SetOptions::take(args, now)?;
    let names = || args.rest().step_by(2);
    view.expire_fields(key, names())?;
    if !options.allows(view.hash_for_write(key)?, names(), now, hasher) {
        reply.integer(0);
        return Ok(());
    }
    let (pairs, count) = (pairs(args), args.remaining() / 2);
    let kept = match options.expiry {
        SetExpiry::Unsaid => Expiry::Clear,
        SetExpiry::Keep | SetExpiry::At(_) => Expiry::Keep,
    };
    view.heavy(count, |view| {
        view.edit_hash(key, Missing::Create, |hash| {
            hash.expect_more(count, &limits, hasher);
            for (field, value) in pairs {
                hash.set_content(field, value, kept, &limits, hasher);
                if let SetExpiry::At(at) = options.expiry {
                    expire_field(hash, field, at, at <= now, hasher);
                }
            }
        })
    })?;
    view.effects.dirty += count as u64;
    view.notify(EventClass::HASH, "hset", key);
    if let SetExpiry::At(at) = options.expiry {
        tell_set(view, key, at, args);
    }
    reply.integer(1);
    Ok(())
}

/// Reports and propagates that fields were set that expire at an instant.
fn tell_set(view: &mut View<'_>, key: &[u8], at: Millis, args: &Args<'_>) {
    if at <= view.now() {
        view.notify(EventClass::HASH, "hdel", key);
        let names = args.rest().step_by(2).collect();
        propagate(view, &[b"HDEL", key], names);
        return;
    }
    view.notify(EventClass::HASH, "hexpire", key);
    let (mut time, mut number) = (itoa::Buffer::new(), itoa::Buffer::new());
    let at = time.format(at.0).as_bytes();
    let count = number.format(args.remaining() / 2).as_bytes();
    let front: [&[u8]; 6] = [b"HSETEX", key, b"PXAT", at, b"FIELDS", count];
    propagate(view, &front, args.rest().collect());
}
