//! Places: sorted sets whose scores are cells of the earth.
//!
//! A search reads a few ranges of scores and tests each of their places (`data/geo.rs`). All seven search commands are one:
//! they differ in how they name the centre and in whether they may store what they find.

mod search;

use super::{Done, Handler};
use crate::data::fixed::{write_fixed, write_human};
use crate::data::geo::Position;
use crate::data::number;
use crate::data::zset::{AddRules, Added};
use crate::keyspace::collections::Missing;
use crate::keyspace::effects::EventClass;
use crate::keyspace::view::View;
use crate::resp::reply::{Protocol, Reply};
use crate::table::args::Taken;
use crate::table::{Args, Command, CommandError, Family, Flags, KeyAccess, KeySpec, Row, Scope};

/// The rows of this family.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "geoadd",
            family: Family::Geo,
            since: "3.2.0",
            summary: "Adds places to a sorted set, or moves them.",
            complexity: "O(log(N)) for each place",
            usage: "key condition:[NX|XX]@6.2.0 [change=CH@6.2.0] longitude:double latitude:double member [longitude latitude member ...]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(1, KeyAccess::RW_UPDATE)],
            scope: Scope::Keys,
            history: &[("6.2.0", "`NX`, `XX` and `CH` came in.")],
            ..Command::NEW
        },
        Handler::Write(geoadd),
    ),
    Row::new(
        Command {
            name: "geodist",
            family: Family::Geo,
            since: "3.2.0",
            summary: "Returns the distance between two places of a sorted set.",
            complexity: "O(1)",
            usage: "key member1 member2 unit:[M|KM|FT|MI]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(geodist),
    ),
    Row::new(
        Command {
            name: "geohash",
            family: Family::Geo,
            since: "3.2.0",
            summary: "Returns places as geohash texts, which maps and other programs read.",
            complexity: "O(1) for each member",
            usage: "<-2> key member [member ...]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(geohash),
    ),
    Row::new(
        Command {
            name: "geopos",
            family: Family::Geo,
            since: "3.2.0",
            summary: "Returns the longitude and latitude of places of a sorted set.",
            complexity: "O(1) for each member",
            usage: "<-2> key member [member ...]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            ..Command::NEW
        },
        Handler::Read(geopos),
    ),
    Row::new(
        Command {
            name: "georadius",
            family: Family::Geo,
            since: "3.2.0",
            summary: "Finds the places within a distance of coordinates, and may store them.",
            complexity: SEARCH_COMPLEXITY,
            usage: "key longitude:double latitude:double radius:double unit:(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] count:[COUNT count:int [ANY@6.2.0]] order:[ASC|DESC] [STORE key] [STOREDIST key]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::RO_ACCESS),
                KeySpec::after("STORE", 6, 0, 1, 0, KeyAccess::OW_UPDATE),
                KeySpec::after("STOREDIST", 6, 0, 1, 0, KeyAccess::OW_UPDATE),
            ],
            key_function: Some(search::georadius_keys),
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with `BYRADIUS`")),
            history: &[
                ("6.2.0", "`ANY` came in."),
                ("7.0.0", "Units may be in capitals."),
            ],
            ..Command::NEW
        },
        Handler::Write(search::georadius),
    ),
    Row::new(
        Command {
            name: "georadius_ro",
            family: Family::Geo,
            since: "3.2.10",
            summary: "Finds the places within a distance of coordinates.",
            complexity: SEARCH_COMPLEXITY,
            usage: "key longitude:double latitude:double radius:double unit:(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] count:[COUNT count:int [ANY@6.2.0]] order:[ASC|DESC]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`GEOSEARCH` with `BYRADIUS`")),
            history: &[("6.2.0", "`ANY` came in.")],
            ..Command::NEW
        },
        Handler::Read(search::georadius_ro),
    ),
    Row::new(
        Command {
            name: "georadiusbymember",
            family: Family::Geo,
            since: "3.2.0",
            summary: "Finds the places within a distance of one of them, and may store them.",
            complexity: SEARCH_COMPLEXITY,
            usage: "key member radius:double unit:(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] count:[COUNT count:int [ANY]] order:[ASC|DESC] [STORE key] [STOREDIST key]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::RO_ACCESS),
                KeySpec::after("STORE", 5, 0, 1, 0, KeyAccess::OW_UPDATE),
                KeySpec::after("STOREDIST", 5, 0, 1, 0, KeyAccess::OW_UPDATE),
            ],
            key_function: Some(search::georadiusbymember_keys),
            scope: Scope::Keys,
            deprecated: Some((
                "6.2.0",
                "`GEOSEARCH` and `GEOSEARCHSTORE` with `BYRADIUS` and `FROMMEMBER`",
            )),
            history: &[("7.0.0", "Units may be in capitals.")],
            ..Command::NEW
        },
        Handler::Write(search::georadiusbymember),
    ),
    Row::new(
        Command {
            name: "georadiusbymember_ro",
            family: Family::Geo,
            since: "3.2.10",
            summary: "Finds the places within a distance of one of them.",
            complexity: SEARCH_COMPLEXITY,
            usage: "key member radius:double unit:(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] count:[COUNT count:int [ANY]] order:[ASC|DESC]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            deprecated: Some(("6.2.0", "`GEOSEARCH` with `BYRADIUS` and `FROMMEMBER`")),
            ..Command::NEW
        },
        Handler::Read(search::georadiusbymember_ro),
    ),
    Row::new(
        Command {
            name: "geosearch",
            family: Family::Geo,
            since: "6.2.0",
            summary: "Finds the places within a circle, a box or a polygon.",
            complexity: SEARCH_COMPLEXITY,
            usage: "<-7> key from:(FROMMEMBER member|FROMLONLAT (longitude:double latitude:double)) by:(circle:(BYRADIUS radius:double unit:(M|KM|FT|MI))|box:(BYBOX width:double height:double unit:(M|KM|FT|MI))|polygon:(BYPOLYGON num-vertices:int vertices:(longitude:double latitude:double)...)@9.0.0) order:[ASC|DESC] count:[COUNT count:int [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyAccess::RO_ACCESS)],
            scope: Scope::Keys,
            history: &[
                ("7.0.0", "Units may be in capitals."),
                ("9.0.0", POLYGON_HISTORY),
            ],
            ..Command::NEW
        },
        Handler::Read(search::geosearch),
    ),
    Row::new(
        Command {
            name: "geosearchstore",
            family: Family::Geo,
            since: "6.2.0",
            summary: "Stores the places within a circle, a box or a polygon in a sorted set.",
            complexity: SEARCH_COMPLEXITY,
            usage: "<-8> destination:key source:key from:(FROMMEMBER member|FROMLONLAT (longitude:double latitude:double)) by:(circle:(BYRADIUS radius:double unit:(M|KM|FT|MI))|box:(BYBOX width:double height:double unit:(M|KM|FT|MI))|polygon:(BYPOLYGON num-vertices:int vertices:(longitude:double latitude:double)...)@9.0.0) order:[ASC|DESC] count:[COUNT count:int [ANY]] [STOREDIST]",
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[
                KeySpec::one(1, KeyAccess::OW_UPDATE),
                KeySpec::one(2, KeyAccess::RO_ACCESS),
            ],
            scope: Scope::Keys,
            history: &[
                ("7.0.0", "Units may be in capitals."),
                ("9.0.0", POLYGON_HISTORY),
            ],
            ..Command::NEW
        },
        Handler::Write(search::geosearchstore),
    ),
];

const SEARCH_COMPLEXITY: &str =
    "O(N+log(M)) with N places in the cells around the shape and M members in all";
const POLYGON_HISTORY: &str =
    "`BYPOLYGON` came in (Valkey); it stands for both the centre and the shape.";
const NO_ROOM: CommandError =
    CommandError::fixed("ERR the sorted set has no room for more members");

fn geoadd(args: &mut Args<'_>, view: &mut View<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.bytes()?;
    let mut rules = AddRules::default();
    let mut counts_changes = false;
    loop {
        match () {
            () if args.keyword("NX") => rules.only_new = true,
            () if args.keyword("XX") => rules.only_known = true,
            () if args.keyword("CH") => counts_changes = true,
            () => break,
        }
    }
    let is_contradiction = rules.only_new && rules.only_known;
    if is_contradiction || args.is_empty() || !args.remaining().is_multiple_of(3) {
        return Err(CommandError::Syntax);
    }
    let mut places = Vec::with_capacity(args.remaining() / 3);
    while !args.is_empty() {
        let score = position(args)?.score();
        places.push((score, args.bytes()?));
    }
    let limits = view.rules().zset;
    let missing = if rules.only_known {
        Missing::Skip
    } else {
        Missing::Create
    };
    let tally = view.heavy(places.len(), |view| {
        view.edit_zset(key, missing, |set| {
            let mut tally = Tally::default();
            for &(score, member) in &places {
                tally.count(set.add(member, score as f64, rules, limits));
            }
            tally
        })
    })?;
    let tally = tally.unwrap_or_default();
    let changes = tally.added + tally.moved;
    if tally.is_full && changes == 0 {
        return Err(NO_ROOM);
    }
    if changes > 0 {
        view.effects.dirty += changes;
        view.notify(EventClass::ZSET, "zadd", key);
        propagate(view, key, rules, &places);
    }
    reply.integer(if counts_changes { changes } else { tally.added } as i64);
    Ok(())
}

/// What a GEOADD did.
#[derive(Default)]
struct Tally {
    added: u64,
    moved: u64,
    is_full: bool,
}

impl Tally {
    fn count(&mut self, added: Added) {
        match added {
            Added::Inserted(_) => self.added += 1,
            Added::Updated(_) => self.moved += 1,
            Added::NoRoom => self.is_full = true,
            Added::Refused | Added::NotANumber | Added::Unchanged(_) => {}
        }
    }
}

/// Followers get a ZADD, as Redis's do.
fn propagate(view: &mut View<'_>, key: &[u8], rules: AddRules, places: &[(u64, &[u8])]) {
    let scores: Vec<String> = places.iter().map(|(score, _)| score.to_string()).collect();
    let mut command: Vec<&[u8]> = vec![b"ZADD", key];
    if rules.only_new {
        command.push(b"NX");
    }
    if rules.only_known {
        command.push(b"XX");
    }
    for ((_, member), score) in places.iter().zip(&scores) {
        command.extend([score.as_bytes(), member]);
    }
    view.propagate(&command);
}

fn geodist(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, from, to) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let unit = match args.is_empty() {
        true => 1.0,
        false => {
            // Redis counts its arguments before it reads the unit.
            let unit = args.bytes()?;
            args.end()?;
            unit_named(unit)?
        }
    };
    let places = view
        .zset(key)?
        .and_then(|set| Some((set.score(from)?, set.score(to)?)));
    match places {
        Some((from, to)) => {
            let distance = Position::of_score(from).distance(Position::of_score(to));
            write_distance(distance / unit, reply);
        }
        None => reply.null(),
    }
    Ok(())
}

fn geohash(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let set = view.zset(args.bytes()?)?;
    reply.array(args.remaining());
    while let Ok(member) = args.bytes() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => reply.bulk(&Position::of_score(score).geohash()),
            None => reply.null(),
        }
    }
    Ok(())
}

fn geopos(args: &mut Args<'_>, view: &View<'_>, reply: &mut Reply<'_>) -> Done {
    let set = view.zset(args.bytes()?)?;
    reply.array(args.remaining());
    while let Ok(member) = args.bytes() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => write_position(Position::of_score(score), reply),
            None => reply.null_array(),
        }
    }
    Ok(())
}

/// Takes a longitude and a latitude that a place can have.
fn position(args: &mut Args<'_>) -> Taken<Position> {
    let position = Position {
        longitude: args.double()?,
        latitude: args.double()?,
    };
    if position.is_in_range() {
        return Ok(position);
    }
    Err(CommandError::text_of(format!(
        "ERR invalid longitude,latitude pair {:.6},{:.6}",
        position.longitude, position.latitude
    )))
}

/// The metres of a unit.
fn unit_named(name: &[u8]) -> Taken<f64> {
    match name {
        _ if name.eq_ignore_ascii_case(b"m") => Ok(1.0),
        _ if name.eq_ignore_ascii_case(b"km") => Ok(1000.0),
        _ if name.eq_ignore_ascii_case(b"ft") => Ok(0.3048),
        _ if name.eq_ignore_ascii_case(b"mi") => Ok(1609.34),
        _ => Err(CommandError::fixed(
            "ERR unsupported unit provided. please use M, KM, FT, MI",
        )),
    }
}

/// Takes a number, or refuses with a text of its own.
fn number_or(args: &mut Args<'_>, refusal: &'static str) -> Taken<f64> {
    number::parse_f64(args.bytes()?).ok_or(CommandError::fixed(refusal))
}

fn write_distance(distance: f64, reply: &mut Reply<'_>) {
    let mut text = Vec::with_capacity(24);
    write_fixed(&mut text, distance, 4);
    reply.bulk(&text);
}

fn write_position(position: Position, reply: &mut Reply<'_>) {
    reply.array(2);
    write_degrees(position.longitude, reply);
    write_degrees(position.latitude, reply);
}

/// A bulk string, or in RESP3 a double with more places than other doubles have.
fn write_degrees(degrees: f64, reply: &mut Reply<'_>) {
    let mut text = Vec::with_capacity(32);
    match reply.protocol() {
        Protocol::Resp2 => {
            write_human(&mut text, degrees);
            reply.bulk(&text);
        }
        Protocol::Resp3 => {
            text.push(b',');
            write_human(&mut text, degrees);
            text.extend_from_slice(b"\r\n");
            reply.raw(&text);
        }
    }
}

#[cfg(test)]
mod tests;
