//! Payloads of every encoding, those of Redis and our own, whole and damaged.
//!
//! `payloads.txt` holds a name, a payload and its content in each line. Redis 7.0.15 wrote most of them; those of older
//! encodings were put together by hand and restored by it; those of later ones follow its description.

use super::decode::value;
use super::*;
use crate::base::clock::Millis;
use crate::data::number;
use crate::data::stream::{self, Id, Pending, Stream};
use crate::data::testing;
use crate::data::value::ValueRef;

const PAYLOADS: &str = include_str!("payloads.txt");
const NOW: Millis = Millis(1_000);

struct Known {
    name: &'static str,
    payload: Vec<u8>,
    content: &'static str,
}

fn known() -> Vec<Known> {
    let digits = |hex: &str| u8::from_str_radix(hex, 16).expect("hexadecimal digits");
    let payload = |hex: &'static str| (0..hex.len() / 2).map(|at| digits(&hex[2 * at..][..2]));
    let line = |line: &'static str| {
        let parts: Vec<&str> = line.split(" | ").collect();
        Known {
            name: parts[0],
            payload: payload(parts[1]).collect(),
            content: parts[2],
        }
    };
    PAYLOADS.lines().map(line).collect()
}

fn hasher() -> KeyHasher {
    KeyHasher::with_key(1, 2)
}

fn rules(hasher: &KeyHasher) -> Rules<'_> {
    Rules {
        list: list::Limits::from_parameter(-2),
        set: SetLimits::default(),
        hash: HashLimits::default(),
        zset: zset::Limits {
            entries: 128,
            value: 64,
        },
        hasher,
    }
}

fn view(value: &Dumped) -> ValueRef<'_> {
    match value {
        Dumped::String(text) => ValueRef::String(text),
        Dumped::Collection(value) => value.view(),
    }
}

/// The content as one line; that of sets and hashes sorted.
fn shown(value: ValueRef<'_>, hasher: &KeyHasher) -> String {
    let text =
        |item: crate::data::packed::Item<'_>| String::from_utf8_lossy(&item.to_vec()).into_owned();
    let mut words: Vec<String> = match value {
        ValueRef::String(text) => {
            return format!("string {}", String::from_utf8_lossy(text));
        }
        ValueRef::List(list) => {
            let elements = list.range(0..usize::MAX).map(|element| element.to_vec());
            elements
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .collect()
        }
        ValueRef::Set(set) => set.iter().map(text).collect(),
        ValueRef::ZSet(zset) => {
            let score = |score| String::from_utf8_lossy(&number::format_f64(score)).into_owned();
            zset.range(0..usize::MAX)
                .map(|(member, number)| format!("{} {}", text(member), score(number)))
                .collect()
        }
        ValueRef::Stream(stream) => {
            let parts = testing::stream_parts(stream).into_iter();
            parts.map(|part| part.escape_ascii().to_string()).collect()
        }
        ValueRef::Hash(hash) => {
            let expiry = |at: Option<Millis>| at.map_or(String::new(), |at| format!(" {}", at.0));
            hash.entries(hasher)
                .map(|(field, value, at)| format!("{} {}{}", text(field), text(value), expiry(at)))
                .collect()
        }
    };
    let kind = match value {
        ValueRef::Stream(_) => "stream",
        ValueRef::List(_) => "list",
        ValueRef::ZSet(_) => "zset",
        ValueRef::Set(_) => "set",
        _ => "hash",
    };
    if matches!(value, ValueRef::Set(_) | ValueRef::Hash(_)) {
        words.sort();
    }
    format!("{kind} {}", words.join(" "))
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut payload = body.to_vec();
    seal(&mut payload, LAST_VERSION);
    payload
}

/// What was read is what Redis holds; what is written of it reads back; what Redis 7.0 can read has its version.
#[test]
fn known_payloads_read_and_read_back() {
    let hasher = hasher();
    let known = known();
    assert_eq!(known.len(), 32);
    for Known {
        name,
        payload,
        content,
    } in known
    {
        let value = read(&payload, &rules(&hasher)).unwrap_or_else(|refused| {
            panic!("{name}: {refused:?}");
        });
        assert_eq!(shown(view(&value), &hasher), content, "{name}");
        let written = write(view(&value), NOW, &hasher);
        let version = written[written.len() - FOOTER_BYTES];
        let later = name.ends_with("metadata") || name.ends_with("listpackex");
        assert_eq!(version, if later { 12 } else { 10 }, "{name}");
        let again = read(&written, &rules(&hasher)).expect(name);
        assert_eq!(shown(view(&again), &hasher), content, "{name}");
        assert_eq!(view(&again).encoding(), view(&value).encoding(), "{name}");
    }
}

/// Where nothing is compressed, and a table has one order, the payload is Redis's.
#[test]
fn some_payloads_are_those_of_redis_to_the_byte() {
    let hasher = hasher();
    let mut same = 0;
    for known in known() {
        let is_plain = match known.name.split_once(' ') {
            Some(("string", rest)) => rest != "lzf",
            Some(("set", rest)) => rest.starts_with("intset"),
            _ => false,
        };
        if is_plain {
            let value = read(&known.payload, &rules(&hasher)).expect("known");
            assert_eq!(
                write(view(&value), NOW, &hasher),
                known.payload,
                "{}",
                known.name
            );
            same += 1;
        }
    }
    assert_eq!(same, 9);
}

/// Lists across nodes, collections beyond their small forms, integers of every width, long strings.
#[test]
fn random_values_read_back() {
    let mut rng = testing::seeded();
    let hasher = hasher();
    let rules = rules(&hasher);
    for _ in 0..testing::rounds(60) {
        let count = [1, 5, 100, 200, 3000][rng.usize(..5)];
        let longest = [4, 60, 70, 9000][rng.usize(..4)].min(400_000 / count);
        let texts: Vec<Vec<u8>> = (0..count)
            .map(|_| testing::text(&mut rng, longest))
            .collect();
        for value in every_type(&texts, &mut rng, &rules) {
            let payload = write(value.view(), NOW, &hasher);
            let again = read(&payload, &rules).expect("our own payload");
            assert_eq!(shown(view(&again), &hasher), shown(value.view(), &hasher));
            assert_eq!(view(&again).encoding(), value.view().encoding());
        }
    }
}

fn every_type(texts: &[Vec<u8>], rng: &mut fastrand::Rng, rules: &Rules<'_>) -> Vec<Value> {
    use crate::data::hash::{Expiry, Hash};
    use crate::data::list::{End, List};
    use crate::data::packed::Item;
    use crate::data::set::Set;
    use crate::data::zset::{AddRules, ZSet};
    let (mut list, mut set, mut ints) = (List::new(), Set::new(), Set::new());
    let (mut zset, mut hash, mut expiring) = (ZSet::new(), Hash::new(), Hash::new());
    for text in texts {
        list.push(End::Tail, &text[..], rules.list);
        set.add(Item::Bytes(text), &rules.set, rules.hasher);
        let value = rng.i64(..) >> rng.u32(..64);
        ints.add(Item::Int(value), &rules.set, rules.hasher);
        let score = [value as f64, f64::INFINITY, rng.f64(), -0.0][rng.usize(..4)];
        zset.add(text, score, AddRules::default(), rules.zset);
        hash.set(text, text, Expiry::Clear, &rules.hash, rules.hasher);
        expiring.set(text, b"v", Expiry::Clear, &rules.hash, rules.hasher);
        if rng.bool() {
            let expiry = Some(Millis(rng.i64(2_000..4_000_000_000_000)));
            expiring.set_expiry(text, expiry, rules.hasher);
        }
    }
    // A hash that has had expiries and has none any more is a plain one when it is read back.
    expiring.set(b"last", b"v", Expiry::Clear, &rules.hash, rules.hasher);
    expiring.set_expiry(b"last", Some(Millis(5_000)), rules.hasher);
    vec![
        list.into(),
        set.into(),
        ints.into(),
        zset.into(),
        hash.into(),
        expiring.into(),
        stream_of(texts, rng).into(),
    ]
}

/// A stream with marked entries, groups and what they have pending.
fn stream_of(texts: &[Vec<u8>], rng: &mut fastrand::Rng) -> Stream {
    let mut stream = Stream::new();
    let limits = stream::Limits {
        max_bytes: 4096,
        max_entries: [1, 3, 100][rng.usize(..3)],
    };
    let mut ids = Vec::new();
    for pair in texts.chunks(2) {
        let last = stream.last_id();
        let id = Id::new(last.ms + rng.u64(..2), last.seq + 1);
        let names = [&b"name"[..], b"17", &pair[0]];
        let fields = [(names[rng.usize(..3)], &pair[0][..])];
        let text = stream::text_bytes(fields.into_iter()).expect("it is short");
        assert!(stream.append(id, fields.into_iter(), text, limits));
        ids.push(id);
    }
    let read = rng.bool().then(|| rng.u64(..100));
    assert!(stream.create_group(b"group", ids[rng.usize(..ids.len())], read));
    assert!(stream.create_group(b"17", Id::MAX, None));
    stream.edit_group(b"group", |group| {
        let consumers = [&b"a"[..], b"18", b"idle"].map(|name| group.add_consumer(name, 5));
        for &id in &ids {
            if rng.u8(..3) > 0 {
                group.assign(Pending {
                    id,
                    delivered_at: rng.i64(..1 << 40),
                    count: rng.u64(..3),
                    consumer: consumers[rng.usize(..2)],
                });
            }
        }
    });
    for id in ids {
        if rng.u8(..3) == 0 {
            assert!(stream.delete(id));
        }
    }
    stream
}

/// A payload with a wrong checksum or a later version, at every byte; and none at all.
#[test]
fn damaged_footers_are_refused() {
    let hasher = hasher();
    let rules = rules(&hasher);
    let good = write(ValueRef::String(b"value"), NOW, &hasher);
    assert!(read(&good, &rules).is_ok());
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 0x20;
        assert_eq!(read(&bad, &rules).err(), Some(Refused::Footer), "{place}");
        assert_eq!(read(&good[..place], &rules).err(), Some(Refused::Footer));
    }
    let mut later = good[..good.len() - FOOTER_BYTES].to_vec();
    seal(&mut later, LAST_VERSION + 1);
    assert_eq!(read(&later, &rules).err(), Some(Refused::Footer));
}

/// The payload is what redis-server 7.0.15 answers to FUNCTION DUMP with this one library.
#[test]
fn libraries_are_written_and_read_as_redis_does() {
    let text = b"#!lua name=a\nredis.register_function(\"f\", function(k,a) return 1 end)";
    let footer = [0x0a, 0x00, 0xe4, 0xb3, 0x5f, 0xc4, 0xde, 0x06, 0x01, 0x14];
    let payload = [&[0xf5, 0x40, 0x45][..], text, &footer].concat();
    assert_eq!(write_libraries([&text[..]].into_iter()), payload);
    assert_eq!(read_libraries(&payload), Ok(vec![text.to_vec()]));
    assert_eq!(write_libraries(std::iter::empty())[..2], [0x0a, 0x00]);
    assert_eq!(
        read_libraries(&write_libraries(std::iter::empty())),
        Ok(vec![])
    );
    assert_eq!(read_libraries(b"x"), Err(Refused::Footer));
    let value = write(ValueRef::String(b"value"), NOW, &hasher());
    assert_eq!(read_libraries(&value), Err(Refused::Format));
    let mut short = vec![0xf5, 0x40, 0xff, b'x'];
    seal(&mut short, VERSION);
    assert_eq!(read_libraries(&short), Err(Refused::Format));
}

/// What no Redis writes and some attackers do.
#[test]
fn hostile_values_are_refused() {
    let hasher = hasher();
    let rules = rules(&hasher);
    let huge = [0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let bodies: &[(&str, Vec<u8>)] = &[
        ("nothing", vec![]),
        ("a module", vec![7, 1, 2, 3]),
        ("an unknown type", vec![99, 0]),
        ("an opcode", vec![252, 0]),
        ("a length without an encoding", vec![0, 0x82, 0]),
        ("an unknown encoding", vec![0, 0xc4, 0]),
        ("a string that ends early", vec![0, 5, b'a']),
        ("a huge string", [&[0][..], &huge].concat()),
        ("a huge list", [&[1][..], &huge, &[1, b'a']].concat()),
        ("a huge set", [&[2][..], &huge, &[1, b'a']].concat()),
        (
            "a huge hash",
            [&[4][..], &huge, &[1, b'a', 1, b'b']].concat(),
        ),
        (
            "a huge zset",
            [&[5][..], &huge, &[1, b'a'], &[0; 8]].concat(),
        ),
        (
            "a huge quicklist",
            [&[18][..], &huge, &[1, 1, b'a']].concat(),
        ),
        ("an empty list", vec![1, 0]),
        ("a count that is none", vec![1, 0xc0, 1, 1, b'a']),
        (
            "a quicklist of nothing",
            vec![18, 1, 2, 7, 7, 0, 0, 0, 0, 0, 0xff],
        ),
        ("an empty plain node", vec![18, 1, 1, 0]),
        ("an unknown node", vec![18, 1, 3, 1, b'a']),
        ("a set with a member twice", vec![2, 2, 1, b'a', 1, b'a']),
        ("a set with an integer twice", vec![2, 2, 0xc0, 1, 1, b'1']),
        (
            "an empty set of integers",
            vec![11, 8, 2, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "integers of three bytes",
            vec![11, 11, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
        ),
        ("integers of no bytes", vec![11, 8, 0, 0, 0, 0, 9, 0, 0, 0]),
        (
            "integers in disorder",
            vec![11, 10, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0],
        ),
        (
            "an integer twice",
            vec![11, 10, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0],
        ),
        (
            "a score that is no number",
            [&[5, 1, 1, b'a'][..], &f64::NAN.to_le_bytes()].concat(),
        ),
        ("the text of one", vec![3, 1, 1, b'a', 253]),
        (
            "a text that is no score",
            vec![3, 1, 1, b'a', 2, b'1', b'x'],
        ),
        (
            "a member twice",
            [&[5, 2, 1, b'a'][..], &[0; 8], &[1, b'a'], &[0; 8]].concat(),
        ),
        (
            "a field twice",
            vec![4, 2, 1, b'a', 1, b'b', 1, b'a', 1, b'c'],
        ),
        (
            "a field without a value",
            vec![16, 9, 9, 0, 0, 0, 1, 0, 1, 1, 0xff],
        ),
        ("a hash in an integer", vec![16, 0xc0, 1]),
        (
            "a bomb",
            [&[0, 0xc3, 4][..], &huge, &[0, b'a', 0x20, 0]].concat(),
        ),
        ("a bomb of nothing", [&[0, 0xc3, 0][..], &huge].concat()),
        (
            "an expiry beyond time",
            [&[24][..], &[0xff; 8], &[1, 2, 1, b'f', 1, b'v']].concat(),
        ),
    ];
    for (name, body) in bodies {
        let refused = read(&sealed(body), &rules).err();
        assert_eq!(refused, Some(Refused::Format), "{name}");
    }
}

/// Bytes changed, cut out, doubled, put in: the value is refused or whole, and its own payload reads back.
#[test]
fn mutated_payloads_are_refused_or_whole() {
    let mut rng = testing::seeded();
    let hasher = hasher();
    let rules = rules(&hasher);
    let known = known();
    let mut accepted = 0;
    for _ in 0..testing::rounds(20_000) {
        let known = &known[rng.usize(..known.len())];
        let mut body = known.payload[..known.payload.len() - FOOTER_BYTES].to_vec();
        for _ in 0..rng.usize(1..4) {
            mutate(&mut body, &mut rng);
        }
        let Ok(value) = value(&body, &rules) else {
            continue;
        };
        accepted += 1;
        let written = write(view(&value), Millis(0), &hasher);
        let again = read(&written, &rules).unwrap_or_else(|refused| {
            panic!("{}: {refused:?} after {body:?}", known.name);
        });
        assert_eq!(shown(view(&again), &hasher), shown(view(&value), &hasher));
    }
    // Most changes hit texts or are refused; if none got through, the test would test nothing.
    assert!(accepted > 1_000, "{accepted}");
}

fn mutate(body: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    const EDGES: [u8; 10] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc3, 0xfe, 0xff];
    if body.is_empty() {
        return body.push(rng.u8(..));
    }
    let place = rng.usize(..body.len());
    match rng.u8(..8) {
        0 => body[place] = rng.u8(..),
        1 => body[place] = EDGES[rng.usize(..EDGES.len())],
        2 => body[place] = body[place].wrapping_add(1),
        3 => body[place] ^= 1 << rng.u8(..8),
        4 => body.truncate(place),
        5 => body.insert(place, rng.u8(..)),
        6 => _ = body.remove(place),
        _ => {
            let length = rng.usize(..=16.min(body.len() - place));
            let part = body[place..place + length].to_vec();
            let to = rng.usize(..=body.len());
            body.splice(to..to, part);
        }
    }
}
