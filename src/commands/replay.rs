//! A follower that runs what was propagated has the same keys, values and expiries.
//!
//! Random writes of every kind, active expiry and eviction happen in one world whose clock moves; the records are then run
//! in another whose clock stands still, long before. So a record may depend on nothing but the ones before it: no relative
//! expiry, and a key that had expired by the time of a command is told to be gone before the command is.

use std::collections::{BTreeMap, BTreeSet};

use super::FAMILIES;
use super::testing::{World, run_parts};
use crate::base::clock::Millis;
use crate::base::hash::KeyHasher;
use crate::base::rng::Rng;
use crate::data::dump;
use crate::data::list::{End, List};
use crate::data::testing;
use crate::data::value::{Type, ValueRef};
use crate::keyspace::PARTITIONS;
use crate::keyspace::effects::{Effects, Record};
use crate::keyspace::entry::Entry;
use crate::keyspace::evict::{Policy, Pressure, Rules, evict};
use crate::keyspace::expire::Sweeper;
use crate::keyspace::lock::{PATIENCE, lock_in};
use crate::table::Flags;

/// Requests: in brackets one of the alternatives or none, in parentheses one of them. K is a key; J one of a hash, L one of a
/// list, X one of a stream, Z one of a sorted set as a rule; I an id; V a value, P a payload, N a number, F a fraction, G degrees, H a digest, O an offset, B a bit, C a
/// count, M a member, E an end of a range of members, D a database, S seconds, T milliseconds, Q and A instants in these units.
const REQUESTS: &[&str] = &[
    "APPEND K V",
    "DECR K",
    "DECRBY K N",
    "DELEX K [IFEQ V|IFNE V|IFDEQ H|IFDNE H]",
    "DELIFEQ K V",
    "GETDEL K",
    "GETEX K [EX S|PX T|EXAT Q|PXAT A|PERSIST]",
    "GETSET K V",
    "INCR K",
    "INCRBY K N",
    "INCRBYFLOAT K F",
    "MSET K V [K V] [K V]",
    "MSETEX 2 K V K V [EX S|PX T|EXAT Q|PXAT A|KEEPTTL] [NX|XX]",
    "MSETNX K V [K V] [K V]",
    "PSETEX K T V",
    "SET K V [EX S|PX T|EXAT Q|PXAT A|KEEPTTL] [NX|XX|IFEQ V|IFNE V|IFDEQ H|IFDNE H] [GET]",
    "SET K V (EX S|PX T|EXAT Q|PXAT A)",
    "SETEX K S V",
    "SETNX K V",
    "SETRANGE K O V",
    "BITFIELD K [SET u8 O N|INCRBY i5 O N|GET u4 O] [OVERFLOW (SAT|FAIL) INCRBY u3 O N]",
    "BITOP (AND|OR|XOR|DIFF|DIFF1|ANDOR|ONE) K K K",
    "BITOP NOT K K",
    "SETBIT K O B",
    "PFADD K V V V",
    "PFCOUNT K",
    "PFDEBUG (TODENSE|GETREG|DECODE) K",
    "PFMERGE K K K",
    "SADD K M [M] [M]",
    "SADD K M M M M M",
    "SREM K M [M] [M]",
    "SMOVE K K M",
    "SPOP K",
    "SPOP K C",
    "SDIFFSTORE K K [K]",
    "SINTERSTORE K K [K]",
    "SUNIONSTORE K K [K] [K]",
    "ZADD Z [NX|XX|GT|LT] [CH] F M [F M] [F M]",
    "ZADD Z F M F M F M F M F M F M",
    "ZADD Z [NX|XX|GT|LT] INCR F M",
    "ZINCRBY Z F M",
    "ZREM Z M [M] [M]",
    "ZREMRANGEBYRANK Z N N",
    "ZREMRANGEBYRANK Z 0 C",
    "ZREMRANGEBYSCORE Z F F",
    "ZREMRANGEBYLEX Z E E",
    "ZPOPMIN Z [C]",
    "ZPOPMAX Z [C]",
    "ZMPOP 2 Z Z (MIN|MAX) [COUNT C]",
    "BZPOPMIN Z Z 0",
    "BZPOPMAX Z Z 0",
    "BZMPOP 0 2 Z Z (MIN|MAX) [COUNT C]",
    "ZRANGESTORE Z Z (0 C|-inf +inf BYSCORE LIMIT C C|- + BYLEX) [REV]",
    "ZUNIONSTORE Z 2 Z Z [WEIGHTS F F] [AGGREGATE (SUM|MIN|MAX)]",
    "ZINTERSTORE Z 2 Z Z [WEIGHTS F F] [AGGREGATE (SUM|MIN|MAX)]",
    "ZDIFFSTORE Z 2 Z Z",
    "EXPIRE Z S",
    "COPY Z Z [DB D] [REPLACE]",
    "RENAME Z Z",
    "HSET J M V [M V] [M V]",
    "HSET J M V M V M V M V M V",
    "HMSET J M V [M V]",
    "HSETNX J M V",
    "HDEL J M [M] [M]",
    "HINCRBY J M N",
    "HINCRBYFLOAT J M F",
    "HEXPIRE J S [NX|XX|GT|LT] FIELDS (1 M|2 M M|3 M M M)",
    "HPEXPIRE J T [NX|XX|GT|LT] FIELDS (1 M|2 M M|3 M M M)",
    "HEXPIREAT J Q [NX|XX|GT|LT] FIELDS (1 M|2 M M|3 M M M)",
    "HPEXPIREAT J A [NX|XX|GT|LT] FIELDS (1 M|2 M M|3 M M M)",
    "HPERSIST J FIELDS (1 M|2 M M|3 M M M)",
    "HGETDEL J FIELDS (1 M|2 M M|3 M M M)",
    "HGETEX J [EX S|PX T|EXAT Q|PXAT A|PERSIST] FIELDS (1 M|2 M M|3 M M M)",
    "HSETEX J [FNX|FXX] [EX S|PX T|EXAT Q|PXAT A|KEEPTTL] FIELDS (1 M V|2 M V M V|3 M V M V M V)",
    "PEXPIRE J T",
    "RENAME J J",
    "COPY J J REPLACE",
    "LPUSH L V [V] [V V V V]",
    "RPUSH L V [V] [V V V V]",
    "RPUSH L 1 1 2 1 2 1 1 2",
    "LPUSHX L V [V]",
    "RPUSHX L V [V]",
    "LPOP L [C]",
    "RPOP L [C]",
    "LSET L N V",
    "LSET L (0|1|-1) V",
    "LINSERT L (BEFORE|AFTER) (1|2) V",
    "LREM L (-2|-1|0|1|2) (1|2)",
    "LTRIM L (0|1|-8) (-1|-2|9)",
    "LMOVE L L (LEFT|RIGHT) (LEFT|RIGHT)",
    "RPOPLPUSH L L",
    "LMPOP 2 L L (LEFT|RIGHT) [COUNT 3]",
    "BLPOP L L 0",
    "BRPOP L L 0",
    "BLMOVE L L (LEFT|RIGHT) (LEFT|RIGHT) 0",
    "BRPOPLPUSH L L 0",
    "BLMPOP 0 2 L L (LEFT|RIGHT) [COUNT 3]",
    "EXPIRE L S",
    "RENAME L L",
    "COPY L L [REPLACE]",
    "GEOADD K [NX|XX] [CH] G G M [G G M]",
    "GEORADIUS K G G 900 km [STORE K] [STOREDIST K]",
    "GEORADIUSBYMEMBER K M 900 km [STORE K|STOREDIST K]",
    "GEOSEARCHSTORE K K FROMLONLAT G G BYBOX 900 900 km [COUNT 2] [STOREDIST]",
    "XADD X [NOMKSTREAM] [MAXLEN = C|MAXLEN ~ C|MINID ~ I|MINID I] [DELREF|ACKED|KEEPREF] (*|I|I-*) M V [M V]",
    "XADD X * M V",
    "XADD X * M V M V",
    "XTRIM X (MAXLEN C|MAXLEN ~ C|MAXLEN ~ C LIMIT C|MINID ~ I|MINID I) [DELREF|ACKED|KEEPREF]",
    "XDEL X I [I]",
    "XDELEX X [KEEPREF|DELREF|ACKED] IDS (1 I|2 I I)",
    "XACKDEL X (g|h) [KEEPREF|DELREF|ACKED] IDS (1 I|2 I I)",
    "XSETID X I [ENTRIESADDED C] [MAXDELETEDID I]",
    "XGROUP CREATE X (g|h) ($|0|I) [MKSTREAM] [ENTRIESREAD C]",
    "XGROUP SETID X (g|h) ($|0|I) [ENTRIESREAD C]",
    "XGROUP DESTROY X h",
    "XGROUP CREATECONSUMER X (g|h) (a|b|c)",
    "XGROUP DELCONSUMER X (g|h) (a|b|c)",
    "XREADGROUP GROUP (g|h) (a|b|c) [COUNT C] [NOACK] STREAMS X >",
    "XREADGROUP GROUP (g|h) (a|b|c) [COUNT C] STREAMS X (0|I)",
    "XREADGROUP GROUP g (a|b|c) STREAMS X X > >",
    "XACK X (g|h) I [I]",
    "XCLAIM X (g|h) (a|b|c) (0|500) I [I] [IDLE T|TIME A] [RETRYCOUNT C] [FORCE] [JUSTID] [LASTID I]",
    "XAUTOCLAIM X (g|h) (a|b|c) (0|500) (0|I) [COUNT 3] [JUSTID]",
    "RENAME X X",
    "COPY X X REPLACE",
    "COPY K K [DB D] [REPLACE]",
    "DEL K [K]",
    "UNLINK K [K]",
    "EXPIRE K S [NX|XX|GT|LT]",
    "EXPIREAT K Q [NX|XX|GT|LT]",
    "MOVE K D",
    "PERSIST K",
    "PEXPIRE K T [NX|XX|GT|LT]",
    "PEXPIREAT K A [NX|XX|GT|LT]",
    "RENAME K K",
    "RENAMENX K K",
    "MIGRATE host 1 K 0 0 [COPY]",
    "RESTORE K T P [REPLACE] [IDLETIME S]",
    "RESTORE K A P ABSTTL [REPLACE]",
    "SORT K ALPHA [BY nosort|BY k*|BY k*->M] [LIMIT B C] [DESC] [GET # GET k*] STORE K",
    "FLUSHDB [ASYNC|SYNC]",
    "FLUSHALL [ASYNC|SYNC]",
    "SWAPDB D D",
    // Reads: these find keys expired.
    "GET K",
    "MGET K K K",
    "TTL K",
    "SCAN 0 COUNT 1000",
    "RANDOMKEY",
];

struct Requests {
    rng: fastrand::Rng,
}

impl Requests {
    fn next(&mut self, world: &World) -> Vec<Vec<u8>> {
        let template = REQUESTS[self.rng.usize(0..REQUESTS.len())];
        if template.starts_with("FLUSH") && self.rng.u8(0..4) > 0 {
            return self.next(world);
        }
        let mut words = Vec::new();
        self.expand(template, world, &mut words);
        words
    }

    fn expand(&mut self, template: &str, world: &World, words: &mut Vec<Vec<u8>>) {
        let mut rest = template;
        while let Some(first) = rest.chars().next() {
            if first == '[' || first == '(' {
                let end = closing(rest);
                let alternatives: Vec<&str> = split_alternatives(&rest[1..end]);
                let none = usize::from(first == '[');
                let chosen = self.rng.usize(0..alternatives.len() + none);
                if let Some(alternative) = alternatives.get(chosen) {
                    self.expand(alternative, world, words);
                }
                rest = rest[end + 1..].trim_start();
            } else {
                let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
                words.push(self.word(word, world));
                rest = tail.trim_start();
            }
        }
    }

    fn word(&mut self, word: &str, world: &World) -> Vec<u8> {
        let rng = &mut self.rng;
        let now = world.now().0;
        match word {
            "J" if rng.u8(0..10) > 0 => format!("h{}", rng.u8(0..3)),
            "L" if rng.u8(0..8) > 0 => format!("l{}", rng.u8(0..3)),
            "Z" if rng.u8(0..12) > 0 => format!("z{}", rng.u8(0..4)),
            "X" if rng.u8(0..30) > 0 => format!("x{}", rng.u8(0..2)),
            "K" | "J" | "L" | "X" | "Z" => format!("k{}", rng.u8(0..6)),
            "I" => format!("{}-{}", rng.u8(0..40), rng.u8(0..3)),
            "I-*" => format!("{}-*", rng.u8(0..40)),
            "V" => return self.value(),
            "P" => return self.payload(now),
            "N" => rng.i64(-300..300).to_string(),
            "F" => format!("{}", rng.i64(-300..300) as f64 / 8.0),
            "H" => format!("{:016x}", rng.u64(..)),
            "O" => rng.u16(0..300).to_string(),
            "B" => rng.u8(0..2).to_string(),
            "E" => format!("[m{}", rng.u8(0..9)),
            "C" => rng.u8(0..4).to_string(),
            "M" if rng.bool() => rng.u8(0..9).to_string(),
            "M" => format!("m{}", rng.u8(0..9)),
            "G" => format!("{}", f64::from(rng.i8(-50..50)) / 8.0),
            "D" => rng.u8(0..3).to_string(),
            "S" => rng.i64(-1..4).to_string(),
            "T" => rng.i64(-5..3000).to_string(),
            "Q" => (now / 1000 + rng.i64(-1..4)).to_string(),
            "A" => (now + rng.i64(-500..3000)).to_string(),
            word => word.to_owned(),
        }
        .into_bytes()
    }

    /// What DUMP returns of some value.
    fn payload(&mut self, now: i64) -> Vec<u8> {
        let hasher = KeyHasher::with_key(1, 2);
        let text = self.value();
        let mut list = List::new();
        for text in [&text[..], b"b", b"17"] {
            list.push(End::Tail, text, Rules::default().list);
        }
        let value = match self.rng.u8(0..2) {
            0 => ValueRef::String(&text),
            _ => ValueRef::List(list.view()),
        };
        dump::write(value, Millis(now), &hasher)
    }

    fn value(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        match rng.u8(0..12) {
            0..5 => rng.i64(-50..50).to_string().into_bytes(),
            5..8 => vec![rng.u8(..); rng.usize(0..40)],
            8 => format!("{}", f64::from(rng.i32(-9..9)) / 4.0).into_bytes(),
            9 => vec![rng.u8(..); rng.usize(200..700)],
            10 => vec![rng.u8(..); rng.usize(15_000..20_000)],
            _ => Vec::new(),
        }
    }
}

/// Where the group that a text begins with ends.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    let end = text.find(|letter| {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.expect("it is closed")
}

/// The alternatives of a group, whose own groups stay whole.
fn split_alternatives(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '|' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&group[start..]);
    found
}

/// Value, expiry and rawness of each key, also of those that expired and were not met since.
type Content = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<i64>, bool)>;

fn content(world: &World) -> Content {
    let mut content = Content::new();
    let mut bytes = 0;
    for (number, database) in world.keyspace.built() {
        bytes += database.bytes();
        for partition in 0..PARTITIONS {
            let held = lock_in(&world.keyspace, database, partition, PATIENCE)
                .expect("a patient taker waits");
            for entry in held.iter() {
                let expiry = entry.expiry().map(|at| at.0);
                let kept = (
                    value_of(entry, world.keyspace.hasher()),
                    expiry,
                    entry.is_raw(),
                );
                content.insert((number, entry.key().to_vec()), kept);
            }
        }
    }
    assert_eq!(world.keyspace.used_bytes(), bytes, "the account of memory");
    content
}

/// What a value holds: a string's bytes; a collection's type and elements, in order where they have one.
fn value_of(entry: &Entry, hasher: &KeyHasher) -> Vec<u8> {
    let mut buffer = itoa::Buffer::new();
    let mut elements: Vec<Vec<u8>> = match entry.value() {
        ValueRef::String(bytes) => return bytes.to_vec(),
        ValueRef::List(list) => list
            .range(0..list.len())
            .map(|element| element.to_vec())
            .collect(),
        ValueRef::Set(set) => set.iter().map(|member| member.to_vec()).collect(),
        ValueRef::ZSet(zset) => zset
            .range(0..zset.len())
            .map(|(member, score)| {
                [&score.to_bits().to_be_bytes()[..], member.text(&mut buffer)].concat()
            })
            .collect(),
        ValueRef::Stream(stream) => testing::stream_parts(stream),
        ValueRef::Hash(hash) => hash
            .entries(hasher)
            .map(|(field, value, expiry)| {
                let expiry = format!("{expiry:?}").into_bytes();
                [field.to_vec(), value.to_vec(), expiry].join(&b'=')
            })
            .collect(),
    };
    if matches!(entry.kind(), Type::Set | Type::Hash) {
        elements.sort_unstable();
    }
    elements.insert(0, entry.kind().name().into());
    elements.join(&b' ')
}

/// What the background does: keys expire and are evicted without a command.
fn background(world: &World, rng: &mut fastrand::Rng) {
    let mut effects = Effects::default();
    effects.begin(world.keyspace.listeners.interest());
    if rng.bool() {
        let mut sweeper = Sweeper::default();
        while !sweeper
            .step(&world.keyspace, world.now(), &mut effects)
            .cycle_done
        {}
    } else {
        let rules = Rules {
            maxmemory: 1,
            policy: Policy::AllKeysRandom,
            ..Rules::default()
        };
        let pressure = Pressure {
            rules: &rules,
            base_bytes: 0,
            now: world.now(),
            rng: &Rng::seeded(rng.u64(..)),
            watch: None,
        };
        evict(&world.keyspace, &pressure, 1, &mut effects);
    }
    world.keyspace.account(effects.bytes);
}

fn shown(words: &[Vec<u8>]) -> String {
    let words = words
        .iter()
        .map(|word| word[..word.len().min(30)].escape_ascii().to_string());
    words.collect::<Vec<_>>().join(" ")
}

/// Runs records as a follower does.
fn follow(world: &World, records: &[Record]) {
    for record in records {
        world.database.set(record.database);
        let reply = run_parts(world, &record.command);
        assert!(
            !reply.starts_with(b"-"),
            "{}: {}",
            shown(&record.command),
            reply.escape_ascii()
        );
    }
}

#[test]
fn a_follower_has_what_was_propagated() {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    for round in 0..20 {
        println!("seed {seed}, round {round}");
        let mut requests = Requests {
            rng: fastrand::Rng::with_seed(seed + round),
        };
        let (leader, follower) = (World::new(), World::new());
        follower.advance_ms(-leader.now().0);
        for _ in 0..60 {
            let mut told = Vec::new();
            for _ in 0..8 {
                match requests.rng.u8(0..10) {
                    0 => leader.advance_ms(requests.rng.i64(0..700)),
                    1 => leader.database.set(requests.rng.u32(0..3)),
                    2 => background(&leader, &mut requests.rng),
                    _ => {}
                }
                let request = requests.next(&leader);
                run_parts(&leader, &request);
                let records = leader.take_records();
                follow(&follower, &records);
                let records = records.iter().map(|record| shown(&record.command));
                told.push((shown(&request), records.collect::<Vec<_>>()));
            }
            let (ours, theirs) = (content(&leader), content(&follower));
            let differs = |key: &&(u32, Vec<u8>)| ours.get(*key) != theirs.get(*key);
            let different: Vec<_> = ours.keys().chain(theirs.keys()).filter(differs).collect();
            assert!(different.is_empty(), "{different:?} after {told:#?}");
        }
    }
}

/// A script that has to begin again has done nothing: not to the keys, and not for those who listen.
#[test]
fn what_is_taken_back_was_never_there() {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    for round in 0..10 {
        println!("seed {seed}, round {round}");
        let mut requests = Requests {
            rng: fastrand::Rng::with_seed(seed + round),
        };
        let world = World::new();
        for _ in 0..300 {
            world.database.set(requests.rng.u32(0..2));
            let request = requests.next(&world);
            // What goes through whole databases is not taken back: a script that does it has the leave.
            let name = request[0].to_ascii_uppercase();
            let is_whole = [
                &b"FLUSHDB"[..],
                b"FLUSHALL",
                b"SWAPDB",
                b"SCAN",
                b"RANDOMKEY",
            ];
            if !is_whole.contains(&&name[..]) {
                let before = content(&world);
                let hits = world.hits.get();
                world.take_records();
                world.events();
                world.takes_back.set(true);
                run_parts(&world, &request);
                world.takes_back.set(false);
                let request = shown(&request);
                assert!(before == content(&world), "{request}");
                assert_eq!(world.hits.get(), hits, "{request}");
                assert_eq!(world.take_records(), [], "{request}");
                assert_eq!(world.events(), Vec::<String>::new(), "{request}");
            }
            run_parts(&world, &request);
        }
    }
}

/// No command that writes is left out above.
#[test]
fn the_requests_are_of_all_commands_that_write() {
    let tried: BTreeSet<String> = REQUESTS
        .iter()
        .map(|request| request.split_once(' ').map_or(*request, |(name, _)| name))
        .map(str::to_lowercase)
        .collect();
    for row in FAMILIES.iter().copied().flatten() {
        let writes = row.command.flags.contains(Flags::WRITE);
        assert!(
            !writes || tried.contains(row.command.name),
            "{}",
            row.command.name
        );
    }
}
