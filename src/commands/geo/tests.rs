//! Geo commands against what redis-server 7.0.15 replies, and Valkey 9 where polygons are concerned.

use crate::commands::testing::{World, run, run_parts};
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::Protocol;
use crate::table::KeyAccess;

/// Runs requests and compares their replies, written in one line: `*1 $1 a` is an array of one bulk string.
fn script(world: &World, steps: &[(&str, &str)]) {
    for (request, reply) in steps {
        let shown = run(world, request);
        assert_eq!(shown.trim_end().replace("\r\n", " "), *reply, "{request}");
    }
}

const SYNTAX: &str = "-ERR syntax error";
const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const SICILY: &str = "GEOADD Sicily 13.361389 38.115556 Palermo 15.087269 37.502669 Catania";

fn sicily() -> World {
    let world = World::new();
    assert_eq!(run(&world, SICILY), ":2\r\n");
    world
}

/// GEOADD adds and moves under its conditions; followers get a ZADD.
#[test]
fn geoadd() {
    let world = sicily();
    assert_eq!(
        world.records(),
        ["ZADD Sicily 3479099956230698 Palermo 3479447370796909 Catania"]
    );
    assert_eq!(world.events(), ["new Sicily", "zadd Sicily"]);
    script(
        &world,
        &[
            (SICILY, ":0"),
            ("GEOADD Sicily NX 0 0 Palermo", ":0"),
            ("GEOADD Sicily xx ch 1 1 Palermo 2 2 Agrigento", ":1"),
            ("GEOADD Sicily CH 1 1 Palermo 2 2 Agrigento", ":1"),
            ("GEOADD Sicily 3 3 Palermo", ":0"),
            ("GEOADD none XX 1 1 a", ":0"),
            ("EXISTS none", ":0"),
            ("TYPE Sicily", "+zset"),
            ("OBJECT ENCODING Sicily", "$8 listpack"),
            ("GEOADD k NX XX 1 1 a", SYNTAX),
            ("GEOADD k 1 1 a 1", SYNTAX),
            ("GEOADD k NX CH NX", SYNTAX),
            ("GEOADD k x 1 a", "-ERR value is not a valid float"),
            ("GEOADD k 1 nan a", "-ERR value is not a valid float"),
            (
                "GEOADD k 1 1 a 200 100 b",
                "-ERR invalid longitude,latitude pair 200.000000,100.000000",
            ),
            (
                "GEOADD k 0 -inf a",
                "-ERR invalid longitude,latitude pair 0.000000,-inf",
            ),
            ("EXISTS k", ":0"),
            ("SET s x", "+OK"),
            ("GEOADD s 1 1 a", WRONG_TYPE),
            (
                "GEOADD s 1 85.06 a",
                "-ERR invalid longitude,latitude pair 1.000000,85.060000",
            ),
        ],
    );
    assert_eq!(
        world.records(),
        [
            "ZADD Sicily XX 3377822707026402 Palermo 3378191666521995 Agrigento".to_owned(),
            "ZADD Sicily 3377822707026402 Palermo 3378191666521995 Agrigento".to_owned(),
            "ZADD Sicily 3379368329318596 Palermo".to_owned(),
            "SET s x".to_owned()
        ]
    );
}

/// GEOPOS, GEOHASH and GEODIST, of members that are there and others.
#[test]
fn positions() {
    let world = sicily();
    script(
        &world,
        &[
            (
                "GEOPOS Sicily Palermo none",
                "*2 *2 $20 13.36138933897018433 $20 38.11555639549629859 *-1",
            ),
            ("GEOPOS Sicily", "*0"),
            ("GEOPOS none a b", "*2 *-1 *-1"),
            (
                "GEOHASH Sicily Palermo none Catania",
                "*3 $11 sqc8b49rny0 $-1 $11 sqdtr74hyu0",
            ),
            ("GEOHASH none a", "*1 $-1"),
            ("GEODIST Sicily Palermo Catania", "$11 166274.1516"),
            ("GEODIST Sicily Palermo Catania KM", "$8 166.2742"),
            ("GEODIST Sicily Palermo Catania mi", "$8 103.3182"),
            ("GEODIST Sicily Palermo Catania ft", "$11 545518.8700"),
            ("GEODIST Sicily Palermo Palermo", "$6 0.0000"),
            ("GEODIST Sicily Palermo none", "$-1"),
            ("GEODIST none a b", "$-1"),
            (
                "GEODIST none a b x",
                "-ERR unsupported unit provided. please use M, KM, FT, MI",
            ),
            ("GEODIST none a b x y", SYNTAX),
            ("SET s x", "+OK"),
            ("GEOPOS s a", WRONG_TYPE),
            ("GEOHASH s a", WRONG_TYPE),
            ("GEODIST s a b", WRONG_TYPE),
        ],
    );
    world.protocol.set(Protocol::Resp3);
    script(
        &world,
        &[
            (
                "GEOPOS Sicily Palermo none",
                "*2 *2 ,13.36138933897018433 ,38.11555639549629859 _",
            ),
            ("GEODIST Sicily Palermo Catania", "$11 166274.1516"),
            ("GEODIST Sicily Palermo none", "_"),
        ],
    );
}

/// Circles and boxes around coordinates and members, with all that can be shown.
#[test]
fn searches() {
    let world = sicily();
    run(
        &world,
        "GEOADD Sicily 12.758489 38.788135 edge1 17.24151 38.788135 edge2",
    );
    script(
        &world,
        &[
            (
                "GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 200 km ASC",
                "*2 $7 Catania $7 Palermo",
            ),
            (
                "GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHCOORD WITHDIST",
                "*4 *3 $7 Catania $7 56.4413 *2 $20 15.08726745843887329 $20 37.50266842333162032 \
                 *3 $7 Palermo $8 190.4424 *2 $20 13.36138933897018433 $20 38.11555639549629859 \
                 *3 $5 edge2 $8 279.7403 *2 $20 17.24151045083999634 $20 38.78813451624225195 \
                 *3 $5 edge1 $8 279.7405 *2 $19 12.7584877610206604 $20 38.78813451624225195",
            ),
            (
                "GEOSEARCH Sicily FROMMEMBER Palermo BYRADIUS 200 km WITHHASH WITHDIST DESC COUNT 2",
                "*2 *3 $7 Catania $8 166.2742 :3479447370796909 *3 $5 edge1 $7 91.4007 :3479273021651468",
            ),
            (
                "GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 300 km COUNT 1",
                "*1 $7 Catania",
            ),
            ("GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 1 m", "*0"),
            ("GEOSEARCH none FROMMEMBER x BYRADIUS 1 m", "*0"),
            (
                "GEORADIUS Sicily 15 37 200 km WITHDIST ASC",
                "*2 *2 $7 Catania $7 56.4413 *2 $7 Palermo $8 190.4424",
            ),
            ("GEORADIUS_RO Sicily 15 37 100 km", "*1 $7 Catania"),
            (
                "GEORADIUSBYMEMBER Sicily Palermo 10 m WITHCOORD",
                "*1 *2 $7 Palermo *2 $20 13.36138933897018433 $20 38.11555639549629859",
            ),
            ("GEORADIUSBYMEMBER_RO Sicily Catania 10 MI", "*1 $7 Catania"),
            ("GEORADIUSBYMEMBER_RO none Catania x y", "*0"),
        ],
    );
    assert_eq!(world.hits.get(), (9, 2));
    let any = run(
        &world,
        "GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 300 km COUNT 2 ANY",
    );
    assert!(any.starts_with("*2\r\n"), "{any}");
}

/// Mistakes are told in the order in which Redis meets them.
#[test]
fn refusals() {
    let world = sicily();
    run(&world, "SET s x");
    let exactly = |which: &str, name: &str| {
        format!("-ERR exactly one of {which} can be specified for {name}")
    };
    let from = exactly("FROMMEMBER or FROMLONLAT", "GeoSearch");
    let by = exactly("BYRADIUS and BYBOX", "GEOSEARCHSTORE");
    let numeric = |what: &str| format!("-ERR need numeric {what}");
    let unknown = "-ERR could not decode requested zset member";
    let store = |name: &str| {
        format!("-ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
    };
    let any = "-ERR the ANY argument requires COUNT argument";
    script(
        &world,
        &[
            ("GEOSEARCH s FROMLONLAT x y BYRADIUS 1 m", WRONG_TYPE),
            ("GEORADIUS s x y 1 m", WRONG_TYPE),
            ("GeoSearch Sicily ASC BYRADIUS 1 m WITHDIST", &from),
            ("GEOSEARCHSTORE d Sicily FROMLONLAT 1 1 ASC COUNT 1", &by),
            ("GEOSEARCH Sicily FROMMEMBER none BYRADIUS 1 m", unknown),
            ("GEORADIUSBYMEMBER Sicily none x y", unknown),
            (
                "GEOSEARCH Sicily FROMLONLAT 1 1 BYRADIUS x m",
                &numeric("radius"),
            ),
            (
                "GEOSEARCH Sicily FROMLONLAT 1 1 BYBOX x 1 m",
                &numeric("width"),
            ),
            (
                "GEOSEARCH Sicily FROMLONLAT 1 1 BYBOX 1 x m",
                &numeric("height"),
            ),
            (
                "GEOSEARCH Sicily FROMLONLAT 1 1 BYRADIUS -1 x",
                "-ERR radius cannot be negative",
            ),
            (
                "GEOSEARCH Sicily FROMLONLAT 1 1 BYBOX 1 -1 x",
                "-ERR height or width cannot be negative",
            ),
            (
                "GEORADIUS Sicily 1 1 1 x",
                "-ERR unsupported unit provided. please use M, KM, FT, MI",
            ),
            (
                "GEOSEARCH Sicily FROMLONLAT 1 1 FROMMEMBER Palermo BYRADIUS 1 m",
                SYNTAX,
            ),
            (
                "GEOSEARCH Sicily FROMMEMBER Palermo BYRADIUS 1 m BYBOX 1 1 m",
                SYNTAX,
            ),
            (
                "GEOSEARCH Sicily FROMMEMBER Palermo BYBOX 1 1 m BYRADIUS 1 m",
                SYNTAX,
            ),
            (
                "GEOSEARCH Sicily FROMMEMBER Palermo BYRADIUS 1 m STORE d",
                SYNTAX,
            ),
            (
                "GEOSEARCH Sicily FROMMEMBER Palermo BYRADIUS 1 m STOREDIST",
                SYNTAX,
            ),
            (
                "GEOSEARCH Sicily FROMMEMBER Palermo BYRADIUS 1 m COUNT",
                SYNTAX,
            ),
            ("GEORADIUS Sicily 1 1 1 m STORE", SYNTAX),
            ("GEORADIUS_RO Sicily 1 1 1 m STORE d", SYNTAX),
            ("GEORADIUS Sicily 1 1 1 m BYRADIUS 1 m", SYNTAX),
            ("GEORADIUS Sicily 1 1 1 m COUNT 0", "-ERR COUNT must be > 0"),
            (
                "GEORADIUS Sicily 1 1 1 m COUNT -9223372036854775808",
                "-ERR COUNT must be > 0",
            ),
            (
                "GEORADIUS Sicily 1 1 1 m COUNT x",
                "-ERR value is not an integer or out of range",
            ),
            ("GEORADIUS Sicily 1 1 1 m ANY", any),
            ("GEORADIUS none 1 1 1 m ANY", any),
            (
                "GEOSEARCHSTORE d Sicily FROMLONLAT 1 1 BYRADIUS 1 m WITHDIST",
                &store("GEOSEARCHSTORE"),
            ),
            (
                "GEORADIUS none 1 1 1 m STORE d WITHHASH",
                &store("STORE option in GEORADIUS"),
            ),
            ("EXISTS d e", ":0"),
        ],
    );
}

/// What is stored, and what happens to the key that it is stored to.
#[test]
fn stores() {
    let world = sicily();
    world.records();
    world.events();
    script(
        &world,
        &[
            ("SET d x", "+OK"),
            ("EXPIRE d 100", ":1"),
            (
                "GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km",
                ":2",
            ),
            ("TTL d", ":-1"),
            ("OBJECT ENCODING d", "$8 listpack"),
            ("GEODIST d Palermo Catania", "$11 166274.1516"),
            (
                "GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 STOREDIST",
                ":1",
            ),
            (
                "GEOSEARCH d FROMLONLAT -180 -85 BYRADIUS 1 m WITHHASH",
                "*0",
            ),
            (
                "GEOSEARCH d FROMMEMBER Catania BYRADIUS 1 m WITHHASH",
                "*1 *2 $7 Catania :56",
            ),
            ("GEORADIUS Sicily 15 37 200 km STORE e STOREDIST d", ":2"),
            ("EXISTS e", ":0"),
            (
                "GEORADIUS Sicily 15 37 200 km STORE d STOREDIST e STORE f",
                ":2",
            ),
            ("GEODIST f Palermo Catania", "$11 166274.1516"),
            ("DEL f", ":1"),
            ("EXISTS e f", ":0"),
            ("GEORADIUSBYMEMBER Sicily Palermo 1 m STORE Sicily", ":1"),
            ("GEOPOS Sicily Catania", "*1 *-1"),
            ("GEORADIUSBYMEMBER none Palermo 1 m STORE d", ":0"),
            ("EXISTS d", ":0"),
            (
                "GEOSEARCHSTORE Sicily Sicily FROMLONLAT 0 0 BYRADIUS 1 m",
                ":0",
            ),
            ("EXISTS Sicily", ":0"),
            (
                "GEOSEARCHSTORE Sicily Sicily FROMLONLAT 0 0 BYRADIUS 1 m",
                ":0",
            ),
        ],
    );
    assert_eq!(
        world.records()[2..],
        [
            "GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km",
            "GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 STOREDIST",
            "GEORADIUS Sicily 15 37 200 km STORE e STOREDIST d",
            "GEORADIUS Sicily 15 37 200 km STORE d STOREDIST e STORE f",
            "DEL f",
            "GEORADIUSBYMEMBER Sicily Palermo 1 m STORE Sicily",
            "GEORADIUSBYMEMBER none Palermo 1 m STORE d",
            "GEOSEARCHSTORE Sicily Sicily FROMLONLAT 0 0 BYRADIUS 1 m",
        ]
    );
    let events = world.events();
    let about: Vec<&str> = events
        .iter()
        .map(String::as_str)
        .filter(|event| !event.starts_with("key"))
        .collect();
    assert_eq!(
        about,
        [
            "new d",
            "set d",
            "expire d",
            "geosearchstore d",
            "geosearchstore d",
            "georadiusstore d",
            "new f",
            "georadiusstore f",
            "del f",
            "georadiusstore Sicily",
            "del d",
            "del Sicily",
        ]
    );
}

/// Places that are equally far: with COUNT as Redis's sort leaves them, without in the order of scores.
#[test]
fn equal_distances() {
    let world = World::new();
    let mut request = vec!["GEOADD".to_owned(), "k".to_owned()];
    for number in 0..60 {
        let (x, y) = (number % 3 - 1, number % 2);
        request.extend([x.to_string(), y.to_string(), format!("m{number}")]);
    }
    run_parts(&world, &request);
    script(
        &world,
        &[
            (
                "GEOSEARCH k FROMLONLAT 0 0 BYRADIUS 200 km COUNT 5",
                EQUAL_FIVE,
            ),
            (
                "GEOSEARCH k FROMLONLAT 0 0 BYRADIUS 200 km COUNT 5 DESC",
                EQUAL_FIVE_BACK,
            ),
        ],
    );
}

const EQUAL_FIVE: &str = "*5 $3 m10 $3 m16 $3 m22 $3 m28 $3 m34";
const EQUAL_FIVE_BACK: &str = "*5 $2 m9 $3 m11 $3 m17 $3 m23 $3 m29";

/// Polygons: Valkey's examples.
#[test]
fn polygons() {
    let world = World::new();
    for place in [
        "151.20932132005692 -33.877723137822436 Elizabeth",
        "151.2119820713997 -33.87697539508043 Connaught",
        "151.2119820713997 -33.87156123068408 James",
        "151.2229523062706 -33.883973760201364 Oxford",
        "151.22852593660355 -33.88116782387797 Goodhope",
        "151.2224105000496 -33.87544442350019 Kings",
        "151.22953444719315 -33.874838625143106 Bartley",
    ] {
        run(&world, &format!("GEOADD points {place}"));
    }
    let eleven = "BYPOLYGON 11 151.21619137411474 -33.869643764947696 151.20408853981647 -33.87845382042545 \
                  151.2123775086366 -33.87864711938855 151.21046943124387 -33.87588862400425 \
                  151.21701035939626 -33.874286511854834 151.2239557405701 -33.8735722632175 \
                  151.22495056246407 -33.87893571656996 151.2274447496748 -33.882307713036354 \
                  151.23212935868654 -33.88136096120022 151.23097291274465 -33.87456240592362 \
                  151.22475424781445 -33.87099633192101";
    let star = "BYPOLYGON 5 151.2154285314146 -33.867438205607186 151.20024487595015 -33.88138572784347 \
                151.2374118848648 -33.87601765283626 151.19695829592922 -33.87272872054441 \
                151.2278336546125 -33.88345323146266";
    let three = "BYPOLYGON 3 151.2039 -33.8744 151.2132 -33.8829 151.2133 -33.8830";
    let few = "-ERR GEOSEARCH BYPOLYGON must have at least 3 vertices";
    let search = |rest: &str| format!("GEOSEARCH points {rest}");
    for (request, reply) in [
        (search(eleven), "*3 $8 Goodhope $7 Bartley $9 Elizabeth"),
        (
            search(&format!("{eleven} WITHDIST WITHCOORD DESC")),
            "*3 *3 $9 Elizabeth $9 1035.7735 *2 $21 151.20932132005691528 $21 -33.87772313782243572 \
             *3 $8 Goodhope $8 929.4979 *2 $21 151.22852593660354614 $21 -33.88116782387797343 \
             *3 $7 Bartley $8 858.3013 *2 $21 151.22953444719314575 $21 -33.87483862514310573",
        ),
        (search(star), "*3 $9 Elizabeth $5 James $5 Kings"),
        (search("BYPOLYGON 2 151.2 -33.8 151.2 -33.8"), few),
        (search("BYPOLYGON 3 151.2 -33.8 151.2 -33.8"), few),
        (
            search("BYPOLYGON -9223372036854775808 1 1 1 1"),
            "-ERR invalid number of vertices",
        ),
        (search("BYPOLYGON -3 1 1 1 1"), few),
        (search("BYPOLYGON 2147483647 1 1 1 1"), few),
        (
            search("BYPOLYGON 3 1 1 2 2 3 91"),
            "-ERR invalid longitude,latitude pair 3.000000,91.000000",
        ),
        (search(&format!("{three} BYBOX 400 400 km")), SYNTAX),
        (search(&format!("BYBOX 400 400 km {three}")), SYNTAX),
        (search(&format!("BYRADIUS 500 km {three}")), SYNTAX),
        (search(&format!("{three} FROMLONLAT 151.2 -33.8")), SYNTAX),
        (search(&format!("FROMLONLAT 151.2 -33.8 {three}")), SYNTAX),
        (search(&format!("{three} FROMMEMBER Oxford")), SYNTAX),
        (format!("GEOSEARCH none {three}"), "*0"),
        (
            format!("GEOSEARCHSTORE d points {eleven} ASC STOREDIST COUNT 2"),
            ":2",
        ),
        (
            "GEOSEARCH d FROMMEMBER Bartley BYRADIUS 1 m WITHHASH".to_owned(),
            "*1 *2 $7 Bartley :858",
        ),
        ("GEODIST d Bartley Elizabeth".to_owned(), "$-1"),
    ] {
        script(&world, &[(&request, reply)]);
    }
}

/// A search over many places is made from a snapshot after release, and finds what one over few does.
#[test]
fn a_search_over_many_places() {
    let world = World::new();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut expected = Vec::new();
    for part in 0..30 {
        let mut request = vec!["GEOADD".to_owned(), "k".to_owned()];
        for number in 0..1000 {
            let (x, y) = (rng.f64() * 10.0, rng.f64() * 10.0);
            let name = format!("m{}", part * 1000 + number);
            request.extend([x.to_string(), y.to_string(), name.clone()]);
            if x < 5.0 {
                expected.push(name);
            }
        }
        run_parts(&world, &request);
    }
    let reply = run(&world, "GEOSEARCH k BYPOLYGON 4 -1 -1 5 -1 5 11 -1 11");
    let mut found: Vec<&str> = reply.lines().filter(|line| line.starts_with('m')).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let everything = run(
        &world,
        "GEOSEARCHSTORE d k FROMLONLAT 5 5 BYBOX 9000 9000 km",
    );
    assert_eq!(everything, ":30000\r\n");
    assert_eq!(run(&world, "OBJECT ENCODING d"), "$8\r\nskiplist\r\n");
}

/// The keys that GEORADIUS says it works on.
#[test]
fn keys_of_georadius() {
    let keys = |line: &str| {
        let request: OwnedArguments = line.split(' ').collect();
        let mut keys = Vec::new();
        assert!(super::search::georadius_keys(
            &request.as_arguments(),
            &mut keys
        ));
        keys
    };
    let (read, write) = (KeyAccess::RO_ACCESS, KeyAccess::OW_UPDATE);
    assert_eq!(keys("GEORADIUS k 0 0 1 m"), [(1, read)]);
    assert_eq!(keys("GEORADIUS k 0 0 1 m STORE"), [(1, read)]);
    assert_eq!(keys("GEORADIUS k 0 0 1 m store d"), [(1, read), (7, write)]);
    assert_eq!(
        keys("GEORADIUS k 0 0 1 m STOREDIST d STORE e STORE f"),
        [(1, read), (9, write), (7, write), (11, write)]
    );
    assert_eq!(
        keys("GEORADIUS k 0 0 1 m STORE STORE"),
        [(1, read), (7, write)]
    );
}
