//! Positions and searches against redis-server 7.0.15, Valkey 9 where polygons are concerned, and a search of everything.

use super::*;

fn at(longitude: f64, latitude: f64) -> Position {
    Position {
        longitude,
        latitude,
    }
}

fn seed() -> u64 {
    let seed = std::env::var("QUOIT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("seed {seed}");
    seed
}

/// Scores, positions, texts and distances that redis-server shows, to the bit.
#[test]
fn positions_are_those_of_redis() {
    let palermo = at(13.361389, 38.115556);
    let catania = at(15.087269, 37.502669);
    assert_eq!(palermo.score(), 3_479_099_956_230_698);
    assert_eq!(catania.score(), 3_479_447_370_796_909);
    let [palermo, catania] =
        [palermo, catania].map(|place| Position::of_score(place.score() as f64));
    assert_eq!(palermo, at(13.361_389_338_970_184, 38.115_556_395_496_3));
    assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
    assert_eq!(&catania.geohash(), b"sqdtr74hyu0");
    assert_eq!(palermo.distance(catania), 166_274.151_569_600_33);
    assert_eq!(
        &Position::of_score(at(0.0, 0.0).score() as f64).geohash(),
        b"s0000000000"
    );
    // Along a meridian the formula is another.
    assert_eq!(
        at(5.0, 1.0).distance(at(5.0, -1.0)),
        EARTH_RADIUS * (2.0 * RADIANS)
    );
}

/// The edges of the map, where a bit more than 52 comes out, and numbers that no position gives.
#[test]
fn scores_beyond_the_map() {
    assert!(at(180.0, 85.051_128_78).is_in_range());
    assert!(!at(180.000_001, 0.0).is_in_range());
    assert!(!at(0.0, 85.051_129).is_in_range());
    assert_eq!(at(180.0, 85.051_128_78).score(), 3 << 52);
    assert_eq!(at(-180.0, -85.051_128_78).score(), 0);
    assert_eq!(
        Position::of_score((3u64 << 52) as f64),
        at(180.0, 85.051_128_78)
    );
    for (score, bits) in [
        (-1.0, u64::MAX),
        (-1.9, u64::MAX),
        (1e300, 0),
        (-1e300, 1 << 63),
        (f64::INFINITY, 0),
        (f64::NEG_INFINITY, 1 << 63),
        (9_223_372_036_854_775_808.0, 1 << 63),
        (1.844_674_407_370_955e19, 18_446_744_073_709_549_568),
    ] {
        assert_eq!(bits_of_score(score), bits, "{score}");
        assert!(Position::of_score(score).is_in_range());
    }
    let (west, south) = (-179.999_997_317_790_99, -85.051_127_512_639_43);
    assert_eq!(Position::of_score(1e300), at(west, south));
    assert_eq!(Position::of_score(-5.5), at(180.0, 85.051_128_78));
    assert_eq!(Position::of_score(f64::NEG_INFINITY), at(180.0, south));
    assert_eq!(
        Position::of_score(9_007_199_254_740_994.0),
        at(180.0, south)
    );
    assert_eq!(&Position::of_score(-1.0).geohash(), b"bp05b5048p0");
    assert_eq!(
        &Position::of_score(f64::NEG_INFINITY).geohash(),
        b"00bh0hbj200"
    );
}

/// Neighbours go around the earth in either direction, and the bits of the other coordinate stay.
#[test]
fn neighbours() {
    for steps in 1..=STEPS {
        let mut rng = fastrand::Rng::with_seed(u64::from(steps));
        let part = |rng: &mut fastrand::Rng| rng.u32(..) >> (32 - steps);
        for _ in 0..200 {
            let (x, y) = (part(&mut rng), part(&mut rng));
            let cell = |x: u32, y: u32| Cell {
                bits: spread(y) | spread(x) << 1,
                steps,
            };
            for (east, north) in [
                (1, 0),
                (-1, 0),
                (0, 1),
                (0, -1),
                (1, 1),
                (-1, 1),
                (1, -1),
                (-1, -1),
                (0, 0),
            ] {
                let around = |part: u32, by: i8| {
                    part.wrapping_add_signed(i32::from(by)) & (u32::MAX >> (32 - steps))
                };
                let expected = cell(around(x, east), around(y, north));
                assert_eq!(cell(x, y).neighbour(east, north), expected);
            }
            assert_eq!(
                (gather(cell(x, y).bits >> 1), gather(cell(x, y).bits)),
                (x, y)
            );
        }
    }
}

/// A place of a map that is searched.
fn random_place(rng: &mut fastrand::Rng, around: Position, spread: f64) -> Position {
    let place = at(
        (around.longitude + (rng.f64() - 0.5) * spread).clamp(-179.9, 179.9),
        (around.latitude + (rng.f64() - 0.5) * spread).clamp(-85.0, 85.0),
    );
    Position::of_score(place.score() as f64)
}

fn is_covered(ranges: &Ranges, place: Position) -> bool {
    let score = place.score() as f64;
    ranges.iter().any(|range| range.contains(&score))
}

/// What lies clearly outside is told so without the formula: the answers are those of the formula alone.
#[test]
fn comparisons_change_no_answer() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut within = 0;
    for _ in 0..3000 {
        let centre = at((rng.f64() - 0.5) * 360.0, (rng.f64() - 0.5) * 170.0);
        let metres = 10f64.powf(rng.f64() * 6.0);
        let degrees = metres / 111_000.0;
        let (width, height) = (metres * rng.f64() * 2.0, metres * rng.f64() * 2.0);
        let circle = Search {
            centre,
            shape: Shape::Circle { radius: metres },
            unit: 1.0,
        };
        let rectangle = Search {
            shape: Shape::Box { width, height },
            ..circle.clone()
        };
        for _ in 0..20 {
            let narrow = if rng.bool() {
                3.0 * degrees
            } else {
                3.0 * degrees / centre.latitude.to_radians().cos()
            };
            let place = random_place(&mut rng, centre, narrow);
            let distance = centre.distance(place);
            let expected = (distance <= metres).then_some(distance);
            assert_eq!(
                circle.reach().distance(place),
                expected,
                "{centre:?} {metres} {place:?}"
            );
            let parallel = place.distance(at(centre.longitude, place.latitude));
            let meridian = place.distance(at(place.longitude, centre.latitude));
            let expected =
                (parallel <= width / 2.0 && meridian <= height / 2.0).then_some(distance);
            assert_eq!(
                rectangle.reach().distance(place),
                expected,
                "{centre:?} {width} {height} {place:?}"
            );
            within += usize::from(expected.is_some());
        }
    }
    assert!(within > 1000, "{within}");
}

/// The ranges hold the places of a shape that does not reach over the edge of the map, and are few.
#[test]
fn ranges_cover_shapes() {
    let mut rng = fastrand::Rng::with_seed(seed());
    for _ in 0..2000 {
        let centre = at((rng.f64() - 0.5) * 300.0, (rng.f64() - 0.5) * 120.0);
        let metres = 10f64.powf(rng.f64() * 5.7);
        let shape = match rng.bool() {
            true => Shape::Circle { radius: metres },
            false => Shape::Box {
                width: metres,
                height: metres * rng.f64(),
            },
        };
        let search = Search {
            centre,
            shape,
            unit: 1.0,
        };
        let ranges = search.ranges();
        assert!((1..=9).contains(&ranges.len()));
        for _ in 0..20 {
            let place = random_place(&mut rng, centre, metres / 30_000.0);
            if search.reach().distance(place).is_some() {
                assert!(is_covered(&ranges, place), "{search:?} {place:?}");
            }
        }
    }
}

/// Polygons of any form, at the edges of the map and around it: what is inside is covered.
#[test]
fn ranges_cover_polygons() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut within = 0;
    for _ in 0..2000 {
        let around = at((rng.f64() - 0.5) * 360.0, (rng.f64() - 0.5) * 170.0);
        let spread = 10f64.powf(rng.f64() * 6.0 - 3.0);
        let corners: Vec<Position> = (0..rng.usize(3..9))
            .map(|_| random_place(&mut rng, around, spread))
            .collect();
        let search = Search {
            centre: centre_of(&corners),
            shape: Shape::Polygon { corners },
            unit: 1.0,
        };
        let (ranges, reach) = (search.ranges(), search.reach());
        for _ in 0..20 {
            let place = random_place(&mut rng, around, spread);
            if reach.distance(place).is_some() {
                within += 1;
                assert!(is_covered(&ranges, place), "{search:?} {place:?}");
            }
        }
    }
    assert!(within > 1000, "{within}");
}

/// Inside and outside, with a notch, and where edges cross: a place between an odd number of edges is inside.
#[test]
fn inside_polygons() {
    let inside = |corners: &[(f64, f64)], longitude: f64, latitude: f64| {
        let corners: Vec<Position> = corners.iter().map(|&(x, y)| at(x, y)).collect();
        is_in_polygon(&corners, at(longitude, latitude))
    };
    let notched = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (2.0, 1.0), (0.0, 4.0)];
    assert!(inside(&notched, 1.0, 1.0));
    assert!(inside(&notched, 3.5, 3.0));
    assert!(!inside(&notched, 2.0, 3.0));
    assert!(!inside(&notched, -1.0, 1.0));
    assert!(!inside(&notched, 5.0, 1.0));
    assert!(!inside(&notched, 1.0, -1.0));
    let crossed = [(0.0, 0.0), (2.0, 2.0), (2.0, 0.0), (0.0, 2.0)];
    assert!(inside(&crossed, 0.5, 1.0));
    assert!(inside(&crossed, 1.5, 1.0));
    assert!(!inside(&crossed, 1.0, 0.5));
    assert!(!inside(&[], 0.0, 0.0));
}

/// Shapes without end, without extent, and around the pole.
#[test]
fn odd_shapes() {
    let centre = at(10.0, 20.0);
    for (radius, ranges) in [(0.0, 1), (1e-300, 1), (1e9, 4), (f64::INFINITY, 4)] {
        let search = Search {
            centre,
            shape: Shape::Circle { radius },
            unit: 1000.0,
        };
        assert_eq!(search.ranges().len(), ranges, "{radius}");
        assert_eq!(search.reach().distance(centre), Some(0.0));
    }
    let endless = Search {
        centre,
        shape: Shape::Box {
            width: f64::INFINITY,
            height: f64::INFINITY,
        },
        unit: 1.0,
    };
    assert_eq!(endless.ranges().len(), 4);
    assert!(endless.reach().distance(at(-170.0, -20.0)).is_some());
    let corners: Vec<Position> = [0.0, 90.0, 180.0, -90.0]
        .map(|longitude| at(longitude, 85.0))
        .to_vec();
    let search = Search {
        centre: centre_of(&corners),
        shape: Shape::Polygon { corners },
        unit: 1.0,
    };
    assert!((1..=9).contains(&search.ranges().len()));
}
