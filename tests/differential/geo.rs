//! Places: on keys of their own, some far apart and some on a grid where many are equally far; shapes from nothing to the
//! whole earth, at the edges of the map too.

use crate::generate::{Generator, Request};

const KEYS: &[&str] = &["g1", "g2", "g3"];
const UNITS: &[&str] = &["m", "km", "ft", "mi", "KM", "x"];

/// A command on places.
pub fn request(g: &mut Generator) -> Request {
    match g.rng.u8(0..24) {
        0..7 => add(g),
        7 | 8 => members(g, &["GEOPOS", "GEOHASH"]),
        9 | 10 => distance(g),
        11..16 => search(g, false),
        16..18 => search(g, true),
        18..22 => radius(g),
        22 => vec![b"COPY".to_vec(), key(g), key(g), b"REPLACE".to_vec()],
        _ => vec![b"DEL".to_vec(), key(g)],
    }
}

fn key(g: &mut Generator) -> Vec<u8> {
    if g.once_in(40) {
        return g.key();
    }
    KEYS[g.rng.usize(0..KEYS.len())].into()
}

fn member(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..20) {
        0 => g.value(),
        1..4 => g.rng.u8(0..60).to_string().into_bytes(),
        _ => format!("m{}", g.rng.u8(0..150)).into_bytes(),
    }
}

/// A longitude and a latitude.
fn place(g: &mut Generator) -> [Vec<u8>; 2] {
    let text = |x: f64, y: f64| [x, y].map(|number| number.to_string().into_bytes());
    match g.rng.u8(0..20) {
        0 => [g.float(), g.float()],
        1 => [
            g.pick(&["180", "-180", "179.9999", "-179.9999", "0", "180.1", "inf"]),
            g.pick(&[
                "85.05112878",
                "-85.05112878",
                "85.06",
                "66",
                "-66.1",
                "80.1",
                "0",
            ]),
        ],
        2..5 => text((g.rng.f64() - 0.5) * 360.0, (g.rng.f64() - 0.5) * 170.0),
        5..13 => text(
            f64::from(g.rng.i8(-3..4)) / 10.0,
            f64::from(g.rng.i8(-3..4)) / 10.0,
        ),
        _ => text(13.0 + g.rng.f64(), 38.0 + g.rng.f64()),
    }
}

fn add(g: &mut Generator) -> Request {
    let mut request = vec![g.pick(&["GEOADD"]), key(g)];
    for option in ["NX", "XX", "CH"] {
        if g.once_in(8) {
            request.push(g.pick(&[option]));
        }
    }
    let places = if g.once_in(6) {
        g.rng.usize(0..160)
    } else {
        g.rng.usize(1..5)
    };
    for _ in 0..places {
        let member = member(g);
        request.extend(place(g));
        request.push(member);
    }
    request
}

fn members(g: &mut Generator, names: &[&str]) -> Request {
    let mut request = vec![g.pick(names), key(g)];
    for _ in 0..g.rng.usize(0..4) {
        request.push(member(g));
    }
    request
}

fn distance(g: &mut Generator) -> Request {
    let mut request = vec![g.pick(&["GEODIST"]), key(g), member(g), member(g)];
    if g.rng.bool() {
        request.push(g.pick(UNITS));
    }
    request
}

/// Lengths of all sizes, and what is none.
fn length(g: &mut Generator) -> Vec<u8> {
    match g.rng.u8(0..16) {
        0 => g.float(),
        1 => g.pick(&["0", "-1", "1e-9", "inf", "1e300", "nan", "x"]),
        _ => format!("{:.3}", 10f64.powf(g.rng.f64() * 7.0 - 1.0)).into_bytes(),
    }
}

fn options(g: &mut Generator, request: &mut Request) {
    for _ in 0..g.rng.usize(0..5) {
        match g.rng.u8(0..9) {
            0 => request.push(g.pick(&["WITHCOORD"])),
            1 => request.push(g.pick(&["WITHDIST"])),
            2 => request.push(g.pick(&["WITHHASH"])),
            3 | 4 => request.push(g.pick(&["ASC", "DESC"])),
            5 | 6 => {
                request.push(g.pick(&["COUNT"]));
                request.push(match g.rng.u8(0..8) {
                    0 => g.integer(),
                    _ => g.rng.u8(1..40).to_string().into_bytes(),
                });
            }
            7 => request.push(g.pick(&["ANY"])),
            _ if g.once_in(6) => request.push(g.garbage()),
            _ => {}
        }
    }
}

fn search(g: &mut Generator, stores: bool) -> Request {
    let mut request = if stores {
        vec![g.pick(&["GEOSEARCHSTORE"]), key(g), key(g)]
    } else {
        vec![g.pick(&["GEOSEARCH"]), key(g)]
    };
    if g.rng.u8(0..3) == 0 {
        request.extend([g.pick(&["FROMMEMBER"]), member(g)]);
    } else {
        request.push(g.pick(&["FROMLONLAT"]));
        request.extend(place(g));
    }
    if g.rng.bool() {
        request.extend([g.pick(&["BYRADIUS"]), length(g)]);
    } else {
        request.extend([g.pick(&["BYBOX"]), length(g), length(g)]);
    }
    request.push(g.pick(UNITS));
    let fixed = request.len();
    options(g, &mut request);
    if stores {
        let with = |word: &Vec<u8>| word.to_ascii_uppercase().starts_with(b"WITH");
        if !g.once_in(8) {
            request.retain(|word| !with(word));
        }
        if g.rng.bool() {
            request.push(g.pick(&["STOREDIST"]));
        }
    }
    if g.once_in(10) {
        // What comes first is then an option.
        request[if stores { 3 } else { 2 }..].rotate_left(fixed.min(3));
    }
    request
}

fn radius(g: &mut Generator) -> Request {
    let around_member = g.rng.bool();
    let name = match (around_member, g.rng.bool()) {
        (true, true) => "GEORADIUSBYMEMBER",
        (true, false) => "GEORADIUSBYMEMBER_RO",
        (false, true) => "GEORADIUS",
        (false, false) => "GEORADIUS_RO",
    };
    let mut request = vec![g.pick(&[name]), key(g)];
    if around_member {
        request.push(member(g));
    } else {
        request.extend(place(g));
    }
    request.extend([length(g), g.pick(UNITS)]);
    if g.once_in(4) {
        request.extend([g.pick(&["STORE", "STOREDIST"]), key(g)]);
        if g.once_in(4) {
            options(g, &mut request);
        }
    } else {
        options(g, &mut request);
    }
    request
}
