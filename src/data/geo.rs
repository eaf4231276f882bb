//! Places on the earth as scores of sorted sets, and searches among them.
//!
//! A score is a cell: longitude and latitude are halved 26 times each, and the 52 bits that say which half interleave, the
//! longitude's first. Cells of fewer steps are prefixes, so the places of a cell of any size are a range of scores. Redis
//! halves ±180 by ±85.05112878 degrees (the square of web maps); the text form of GEOHASH halves ±180 by ±90.
//!
//! ```text
//!   | NW | N | NE |      A search takes the smallest cells of which a cell and its neighbours cover the shape, drops
//!   | W  | * | E  |      the neighbours that the shape does not reach, and tests every place of the ranges that are
//!   | SW | S | SE |      left, in the order * N S E W NE NW SE SW.
//! ```
//!
//! Clients see the order of ranges, the rounding of every distance and on which side of a border a place falls. So the
//! formulas are evaluated in Redis's order; what is saved is only what cannot change a result ([`Reach`]).

use std::ops::Range;

use smallvec::SmallVec;

/// Degrees of longitude on either side.
const LONGITUDE_MAX: f64 = 180.0;
/// Degrees of latitude on either side, where a web map is a square.
const LATITUDE_MAX: f64 = 85.051_128_78;
/// Degrees of latitude on either side in the text form.
const TEXT_LATITUDE_MAX: f64 = 90.0;
/// Metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the equator in metres as web maps have it.
const MERCATOR_MAX: f64 = 20_037_726.37;
const RADIANS: f64 = std::f64::consts::PI / 180.0;
/// Halvings of either coordinate in a score.
const STEPS: u32 = 26;
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// A place.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// Degrees east.
    pub longitude: f64,
    /// Degrees north.
    pub latitude: f64,
}

impl Position {
    /// Whether it can be a score: the poles are out of range.
    pub fn is_in_range(self) -> bool {
        self.longitude.abs() <= LONGITUDE_MAX && self.latitude.abs() <= LATITUDE_MAX
    }

    /// The score of its cell.
    pub fn score(self) -> u64 {
        Cell::of(self, STEPS, LATITUDE_MAX).bits
    }

    /// The middle of a score's cell. Any number is a score, as in Redis.
    #[inline]
    pub fn of_score(score: f64) -> Position {
        let cell = Cell {
            bits: bits_of_score(score),
            steps: STEPS,
        };
        let bounds = cell.bounds();
        let middle = |low: f64, high: f64, max: f64| ((low + high) / 2.0).clamp(-max, max);
        Position {
            longitude: middle(bounds.west, bounds.east, LONGITUDE_MAX),
            latitude: middle(bounds.south, bounds.north, LATITUDE_MAX),
        }
    }

    /// The text form. Its 11 letters stand for 55 bits, of which the last three are made up, as in Redis.
    pub fn geohash(self) -> [u8; 11] {
        let bits = Cell::of(self, STEPS, TEXT_LATITUDE_MAX).bits;
        let mut text = [ALPHABET[0]; 11];
        for (index, letter) in text[..10].iter_mut().enumerate() {
            *letter = ALPHABET[(bits >> (47 - 5 * index)) as usize & 31];
        }
        text
    }

    /// Metres to another place along a great circle.
    pub fn distance(self, other: Position) -> f64 {
        Pole::of(self).distance(Pole::of(other))
    }
}

/// The bits of a number that is read as a score: what C does on a 64-bit machine for every number.
fn bits_of_score(score: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    let truncated = |number: f64| match number {
        _ if (-HALF..HALF).contains(&number) => number as i64,
        _ => i64::MIN,
    };
    if score >= HALF {
        truncated(score - HALF) as u64 ^ 1 << 63
    } else {
        truncated(score) as u64
    }
}

/// A rectangle of degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bounds {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

/// One of the rectangles that are left when both coordinates are halved some times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    /// Halvings of either coordinate, 1 to 26.
    steps: u32,
}

/// Every other bit from the lowest: those of the latitude.
const LATITUDE_BITS: u64 = 0x5555_5555_5555_5555;
const LONGITUDE_BITS: u64 = !LATITUDE_BITS;

impl Cell {
    fn of(position: Position, steps: u32, latitude_max: f64) -> Cell {
        let part = |degrees: f64, max: f64| {
            let offset = (degrees - -max) / (max - -max);
            (offset * (1u64 << steps) as f64) as u32
        };
        let latitude = part(position.latitude, latitude_max);
        let longitude = part(position.longitude, LONGITUDE_MAX);
        Cell {
            bits: spread(latitude) | spread(longitude) << 1,
            steps,
        }
    }

    #[inline]
    fn bounds(self) -> Bounds {
        let (latitude, longitude) = (gather(self.bits), gather(self.bits >> 1));
        // A power of two: to multiply is as exact as to divide, and faster.
        let unit = 1.0 / (1u64 << self.steps) as f64;
        let edge = |part: u32, max: f64| -max + (f64::from(part) * unit) * (max - -max);
        Bounds {
            west: edge(longitude, LONGITUDE_MAX),
            south: edge(latitude, LATITUDE_MAX),
            east: edge(longitude.wrapping_add(1), LONGITUDE_MAX),
            north: edge(latitude.wrapping_add(1), LATITUDE_MAX),
        }
    }

    /// The cell so many to the east and to the north, around the earth in either direction.
    fn neighbour(self, east: i8, north: i8) -> Cell {
        let used = u64::MAX >> (64 - 2 * self.steps);
        let moved = |own: u64, other: u64, by: i8| {
            // With the other coordinate's bits set a carry runs through them, and a borrow when they are clear.
            let one = (other & used).wrapping_add(1);
            let bits = self.bits & own;
            match by {
                0 => bits,
                1 => bits.wrapping_add(one) & own & used,
                _ => (bits | other & used).wrapping_sub(one) & own & used,
            }
        };
        Cell {
            bits: moved(LONGITUDE_BITS, LATITUDE_BITS, east)
                | moved(LATITUDE_BITS, LONGITUDE_BITS, north),
            steps: self.steps,
        }
    }

    /// The scores of its places.
    fn scores(self) -> Range<f64> {
        let shift = 2 * (STEPS - self.steps);
        (self.bits << shift) as f64..((self.bits + 1) << shift) as f64
    }
}

/// The bits of a number, each with a free one above it.
#[inline]
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    bits = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
    bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits << 2) & 0x3333_3333_3333_3333;
    (bits | bits << 1) & LATITUDE_BITS
}

/// The inverse of [`spread`]; the bits between are left out.
#[inline]
fn gather(bits: u64) -> u32 {
    let mut bits = bits & LATITUDE_BITS;
    bits = (bits | bits >> 1) & 0x3333_3333_3333_3333;
    bits = (bits | bits >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
    (bits | bits >> 16) as u32
}

/// A place in radians, with the cosine that every distance from it needs.
#[derive(Clone, Copy, Debug)]
struct Pole {
    longitude: f64,
    latitude: f64,
    cos_latitude: f64,
}

impl Pole {
    fn of(position: Position) -> Pole {
        let latitude = position.latitude * RADIANS;
        Pole {
            longitude: position.longitude * RADIANS,
            latitude,
            cos_latitude: latitude.cos(),
        }
    }

    /// Metres along a great circle.
    fn distance(self, other: Pole) -> f64 {
        let half_longitude = ((other.longitude - self.longitude) / 2.0).sin();
        if half_longitude == 0.0 {
            return along_meridian(self.latitude, other.latitude);
        }
        let half_latitude = ((other.latitude - self.latitude) / 2.0).sin();
        arc(half_latitude * half_latitude
            + self.cos_latitude * other.cos_latitude * half_longitude * half_longitude)
    }
}

/// Metres between two latitudes.
#[inline]
fn along_meridian(latitude: f64, other: f64) -> f64 {
    EARTH_RADIUS * (other - latitude).abs()
}

/// Metres of the arc whose half has a sine of this square.
#[inline]
fn arc(haversine: f64) -> f64 {
    2.0 * EARTH_RADIUS * haversine.sqrt().asin()
}

/// What a search asks for, around a place. Lengths are in the unit that the client chose.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Within a distance.
    Circle {
        /// The distance.
        radius: f64,
    },
    /// Within a box: its height along the meridian, its width along the parallel of each place.
    Box {
        /// From west to east.
        width: f64,
        /// From south to north.
        height: f64,
    },
    /// Within a polygon on the map of degrees.
    Polygon {
        /// At least three corners, in order.
        corners: Vec<Position>,
    },
}

/// A search.
#[derive(Clone, Debug)]
pub struct Search {
    /// Where distances are counted from: of a polygon, what [`centre_of`] finds.
    pub centre: Position,
    /// What is asked for.
    pub shape: Shape,
    /// Metres of the unit.
    pub unit: f64,
}

/// The middle of corners on the sphere: where the sum of their directions points.
pub fn centre_of(corners: &[Position]) -> Position {
    let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
    for corner in corners {
        let (longitude, latitude) = (corner.longitude * RADIANS, corner.latitude * RADIANS);
        x += latitude.cos() * longitude.cos();
        y += latitude.cos() * longitude.sin();
        z += latitude.sin();
    }
    Position {
        longitude: f64::atan2(y, x) / RADIANS,
        latitude: f64::atan2(z, (x * x + y * y).sqrt()) / RADIANS,
    }
}

/// The scores to look through, at most nine ranges.
pub type Ranges = SmallVec<[Range<f64>; 9]>;

impl Search {
    /// The ranges of scores that cover the shape, in the order in which their places are found.
    pub fn ranges(&self) -> Ranges {
        let bounds = self.bounds();
        let mut steps = steps_for(self.extent(&bounds), self.centre.latitude);
        let mut cell = self.cell(steps);
        if steps > 1 && !reaches(cell, &bounds) {
            steps -= 1;
            cell = self.cell(steps);
        }
        // The middle of a polygon may lie far from that of its bounds; circles and boxes stay as Redis has them.
        while matches!(self.shape, Shape::Polygon { .. }) && steps > 1 && !covers(cell, &bounds) {
            steps -= 1;
            cell = self.cell(steps);
        }
        ranges_around(cell, &bounds)
    }

    /// The cell of the centre.
    fn cell(&self, steps: u32) -> Cell {
        let centre = match self.shape {
            // That of a polygon may be beyond the map, where there is no cell, or at its very edge, whose cell is beyond.
            Shape::Polygon { .. } => Position {
                longitude: self.centre.longitude.clamp(-179.999, 179.999),
                latitude: self.centre.latitude.clamp(-85.05, 85.05),
            },
            _ => self.centre,
        };
        Cell::of(centre, steps, LATITUDE_MAX)
    }

    /// Degrees around the shape. They may reach beyond the map.
    fn bounds(&self) -> Bounds {
        let (width, height) = match &self.shape {
            Shape::Circle { radius } => (self.unit * radius, self.unit * radius),
            Shape::Box { width, height } => (self.unit * (width / 2.0), self.unit * (height / 2.0)),
            Shape::Polygon { corners } => return bounds_of(corners),
        };
        let Position {
            longitude,
            latitude,
        } = self.centre;
        let north = height / EARTH_RADIUS / RADIANS;
        // A parallel is shortest on the side of the pole, where a length is most degrees.
        let widest = match latitude < 0.0 {
            true => latitude - north,
            false => latitude + north,
        };
        let east = width / EARTH_RADIUS / (widest * RADIANS).cos() / RADIANS;
        Bounds {
            west: longitude - east,
            south: latitude - north,
            east: longitude + east,
            north: latitude + north,
        }
    }

    /// Metres from the centre to the farthest point.
    fn extent(&self, bounds: &Bounds) -> f64 {
        match &self.shape {
            Shape::Circle { radius } => radius * self.unit,
            Shape::Box { width, height } => {
                let (half_width, half_height) = (width / 2.0, height / 2.0);
                (half_width * half_width + half_height * half_height).sqrt() * self.unit
            }
            Shape::Polygon { .. } => {
                let corners = [
                    (bounds.west, bounds.north),
                    (bounds.east, bounds.north),
                    (bounds.west, bounds.south),
                    (bounds.east, bounds.south),
                ];
                let to = |(longitude, latitude)| {
                    self.centre.distance(Position {
                        longitude,
                        latitude,
                    })
                };
                corners.into_iter().map(to).fold(0.0, f64::max)
            }
        }
    }

    /// What tells whether a place is within the shape.
    pub fn reach(&self) -> Reach<'_> {
        let centre = Pole::of(self.centre);
        let shape = match &self.shape {
            Shape::Circle { radius } => {
                let radius = radius * self.unit;
                let border = (radius < NEAR).then(|| Border::of_circle(centre, radius));
                Within::Circle { radius, border }
            }
            Shape::Box { width, height } => {
                let half_width = width * self.unit / 2.0;
                let half_height = height * self.unit / 2.0;
                let border = (half_width < NEAR && half_height < NEAR)
                    .then(|| Border::of_box(centre, half_width, half_height));
                Within::Box {
                    half_width,
                    half_height,
                    border,
                }
            }
            Shape::Polygon { corners } => Within::Polygon {
                corners,
                bounds: bounds_of(corners),
            },
        };
        Reach { centre, shape }
    }
}

fn bounds_of(corners: &[Position]) -> Bounds {
    let whole = Bounds {
        west: LONGITUDE_MAX,
        south: LATITUDE_MAX,
        east: -LONGITUDE_MAX,
        north: -LATITUDE_MAX,
    };
    corners.iter().fold(whole, |bounds, corner| Bounds {
        west: bounds.west.min(corner.longitude),
        south: bounds.south.min(corner.latitude),
        east: bounds.east.max(corner.longitude),
        north: bounds.north.max(corner.latitude),
    })
}

/// How often to halve for cells that are larger than so many metres. Towards the poles cells are narrow.
fn steps_for(metres: f64, latitude: f64) -> u32 {
    if metres == 0.0 {
        return STEPS;
    }
    let mut metres = metres;
    let mut steps = 1i32;
    while metres < MERCATOR_MAX {
        metres *= 2.0;
        steps += 1;
    }
    steps -= 2;
    steps -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    steps.clamp(1, STEPS as i32) as u32
}

/// Whether the four neighbours of a cell reach as far as the bounds.
fn reaches(cell: Cell, bounds: &Bounds) -> bool {
    // Bounds of endless shapes are no numbers, which nothing falls short of.
    let falls_short = cell.neighbour(0, 1).bounds().north < bounds.north
        || cell.neighbour(0, -1).bounds().south > bounds.south
        || cell.neighbour(1, 0).bounds().east < bounds.east
        || cell.neighbour(-1, 0).bounds().west > bounds.west;
    !falls_short
}

/// As [`reaches`], for bounds on the map: at its edge a cell needs no neighbour.
fn covers(cell: Cell, bounds: &Bounds) -> bool {
    let own = cell.bounds();
    (own.north >= bounds.north || cell.neighbour(0, 1).bounds().north >= bounds.north)
        && (own.south <= bounds.south || cell.neighbour(0, -1).bounds().south <= bounds.south)
        && (own.east >= bounds.east || cell.neighbour(1, 0).bounds().east >= bounds.east)
        && (own.west <= bounds.west || cell.neighbour(-1, 0).bounds().west <= bounds.west)
}

/// The ranges of a cell and of those neighbours that the bounds reach.
fn ranges_around(cell: Cell, bounds: &Bounds) -> Ranges {
    const DIRECTIONS: [(i8, i8); 9] = [
        (0, 0),
        (0, 1),
        (0, -1),
        (1, 0),
        (-1, 0),
        (1, 1),
        (-1, 1),
        (1, -1),
        (-1, -1),
    ];
    let own = cell.bounds();
    // Of four cells on the whole earth all are searched.
    let drops = cell.steps >= 2;
    let is_dropped = |(east, north): (i8, i8)| {
        drops
            && (north < 0 && own.south < bounds.south
                || north > 0 && own.north > bounds.north
                || east < 0 && own.west < bounds.west
                || east > 0 && own.east > bounds.east)
    };
    let mut ranges = Ranges::new();
    let mut last = None;
    for direction in DIRECTIONS {
        if is_dropped(direction) {
            continue;
        }
        let next = cell.neighbour(direction.0, direction.1);
        // Where there are two columns or rows, both neighbours are the same cell. The cell itself is no neighbour: as in
        // Redis it is not compared.
        if last != Some(next) {
            ranges.push(next.scores());
        }
        if direction != (0, 0) {
            last = Some(next);
        }
    }
    ranges
}

/// Metres below which shapes are small enough that places far off can be told by comparisons alone.
const NEAR: f64 = 500_000.0;
/// Metres by which a place must be beyond a border to be told so without the exact formula, whose rounding decides at the
/// border itself.
const CLEARLY: f64 = 1.0;

/// The haversine of an arc that is clearly longer than this.
fn haversine_beyond(metres: f64) -> f64 {
    let half = ((metres + CLEARLY) / EARTH_RADIUS / 2.0).sin();
    half * half
}

/// What lies clearly outside a small shape.
#[derive(Clone, Copy, Debug)]
struct Border {
    /// Radians of latitude from the centre.
    latitude: f64,
    /// Radians of longitude from the centre.
    longitude: f64,
    /// Of the distance from the centre, and for a box of its part along the parallel.
    haversine: f64,
}

impl Border {
    fn of_circle(centre: Pole, radius: f64) -> Border {
        let haversine = haversine_beyond(radius);
        let latitude = (radius + CLEARLY) / EARTH_RADIUS;
        let shortest = shortest_parallel(centre, latitude);
        Border {
            latitude,
            longitude: widest(haversine / (centre.cos_latitude * shortest), shortest),
            haversine,
        }
    }

    fn of_box(centre: Pole, half_width: f64, half_height: f64) -> Border {
        let haversine = haversine_beyond(half_width);
        let latitude = (half_height + CLEARLY) / EARTH_RADIUS;
        let shortest = shortest_parallel(centre, latitude);
        Border {
            latitude,
            longitude: widest(haversine / (shortest * shortest), shortest),
            haversine,
        }
    }

    /// Whether a place, so many radians to the east and to the north, is beyond.
    #[inline]
    fn is_passed(&self, east: f64, north: f64) -> bool {
        let around = std::f64::consts::TAU - east.abs();
        north.abs() > self.latitude || east.abs().min(around) > self.longitude
    }
}

/// The cosine of the latitude next to a pole that is so far from the centre's: of the parallels between, a metre is most
/// degrees on that one.
fn shortest_parallel(centre: Pole, latitude: f64) -> f64 {
    (centre.latitude.abs() + latitude).cos()
}

/// Radians of longitude whose half has at most a sine of this square; any when the parallel is beyond a pole.
fn widest(squared_sine: f64, parallel: f64) -> f64 {
    if parallel > 0.0 && squared_sine < 1.0 {
        2.0 * squared_sine.sqrt().asin() * 1.000_001
    } else {
        f64::INFINITY
    }
}

/// A shape, ready to test places.
///
/// Most places of the ranges lie outside. They are told so by comparisons, where those leave no doubt; the rest goes through
/// Redis's formula, step by step in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    centre: Pole,
    shape: Within<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Within<'a> {
    Circle {
        radius: f64,
        border: Option<Border>,
    },
    Box {
        half_width: f64,
        half_height: f64,
        border: Option<Border>,
    },
    Polygon {
        corners: &'a [Position],
        bounds: Bounds,
    },
}

impl Reach<'_> {
    /// Metres from the centre, if the place is within the shape.
    #[inline]
    pub fn distance(&self, place: Position) -> Option<f64> {
        match &self.shape {
            Within::Circle { radius, border } => self.in_circle(place, *radius, border.as_ref()),
            Within::Box {
                half_width,
                half_height,
                border,
            } => self.in_box(place, *half_width, *half_height, border.as_ref()),
            Within::Polygon { corners, bounds } => (bounds.contains(place)
                && is_in_polygon(corners, place))
            .then(|| self.centre.distance(Pole::of(place))),
        }
    }

    /// How much work a place is, against that of a circle.
    pub fn work(&self) -> usize {
        match self.shape {
            Within::Polygon { corners, .. } => 1 + corners.len() / 8,
            _ => 1,
        }
    }

    #[inline]
    fn in_circle(&self, place: Position, radius: f64, border: Option<&Border>) -> Option<f64> {
        let centre = self.centre;
        let latitude = place.latitude * RADIANS;
        let longitude = place.longitude * RADIANS;
        let north = latitude - centre.latitude;
        let east = longitude - centre.longitude;
        if border.is_some_and(|border| border.is_passed(east, north)) {
            return None;
        }
        let half_longitude = (east / 2.0).sin();
        let distance = if half_longitude == 0.0 {
            along_meridian(centre.latitude, latitude)
        } else {
            let half_latitude = (north / 2.0).sin();
            let haversine = half_latitude * half_latitude
                + centre.cos_latitude * latitude.cos() * half_longitude * half_longitude;
            if border.is_some_and(|border| haversine > border.haversine) {
                return None;
            }
            arc(haversine)
        };
        // Written so that what is no number is within, as in Redis.
        let is_outside = distance > radius;
        (!is_outside).then_some(distance)
    }

    #[inline]
    fn in_box(
        &self,
        place: Position,
        half_width: f64,
        half_height: f64,
        border: Option<&Border>,
    ) -> Option<f64> {
        let centre = self.centre;
        let latitude = place.latitude * RADIANS;
        let east = place.longitude * RADIANS - centre.longitude;
        let north = latitude - centre.latitude;
        if border.is_some_and(|border| border.is_passed(east, north)) {
            return None;
        }
        let along = along_meridian(centre.latitude, latitude);
        if along > half_height {
            return None;
        }
        let half_longitude = (east / 2.0).sin();
        if half_longitude == 0.0 {
            return Some(along);
        }
        let cos_latitude = latitude.cos();
        let parallel = cos_latitude * cos_latitude * half_longitude * half_longitude;
        if border.is_some_and(|border| parallel > border.haversine) || arc(parallel) > half_width {
            return None;
        }
        let half_latitude = (north / 2.0).sin();
        Some(arc(half_latitude * half_latitude
            + centre.cos_latitude
                * cos_latitude
                * half_longitude
                * half_longitude))
    }
}

impl Bounds {
    fn contains(&self, place: Position) -> bool {
        (self.west..=self.east).contains(&place.longitude)
            && (self.south..=self.north).contains(&place.latitude)
    }
}

/// Whether a line from the place to the west crosses the edges an odd number of times.
fn is_in_polygon(corners: &[Position], place: Position) -> bool {
    let Some(&last) = corners.last() else {
        return false;
    };
    let mut is_inside = false;
    let mut before = last;
    for &corner in corners {
        let (from, to) = (corner, before);
        if (from.latitude > place.latitude) != (to.latitude > place.latitude) {
            let crossing = (to.longitude - from.longitude) * (place.latitude - from.latitude)
                / (to.latitude - from.latitude)
                + from.longitude;
            is_inside ^= place.longitude < crossing;
        }
        before = corner;
    }
    is_inside
}

#[cfg(test)]
mod tests;
