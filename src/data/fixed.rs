//! Doubles with a fixed number of places behind the point, as C's `%.4f` and `%.17Lf` print them: the exact value, rounded
//! half to even.
//!
//! Distances and degrees are printed by the thousand, so this is done in integers: a double is its 53 bits over a power of
//! two, and its fraction times 10^17 fits 128 bits.

/// Most places that can be asked for.
const PLACES_MAX: u32 = 17;
const MANTISSA_BITS: u32 = 52;
/// Exponent, as it is held, from which a number has no fraction.
const WHOLE_FROM: u32 = 1075;

/// Appends a number with so many places, 1 to 17.
pub fn write_fixed(out: &mut Vec<u8>, value: f64, places: u32) {
    debug_assert!((1..=PLACES_MAX).contains(&places));
    let sign: &[u8] = if value.is_sign_negative() { b"-" } else { b"" };
    out.extend_from_slice(sign);
    if !value.is_finite() {
        out.extend_from_slice(if value.is_nan() { b"nan" } else { b"inf" });
        return;
    }
    let bits = value.to_bits();
    let biased = (bits >> MANTISSA_BITS) as u32 & 0x7ff;
    if biased >= WHOLE_FROM {
        out.extend_from_slice(format!("{:.*}", places as usize, value.abs()).as_bytes());
        return;
    }
    // The magnitude is the mantissa over 2^shift.
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1) | u64::from(biased > 0) << MANTISSA_BITS;
    let shift = WHOLE_FROM - biased.max(1);
    let (whole, fraction) = match shift {
        0..64 => (mantissa >> shift, mantissa & ((1 << shift) - 1)),
        _ => (0, mantissa),
    };
    let unit = 10u64.pow(places);
    let rounded = divide(u128::from(fraction) * u128::from(unit), shift);
    let (whole, fraction) = if rounded == unit {
        (whole + 1, 0)
    } else {
        (whole, rounded)
    };
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    write_places(out, fraction, places);
}

/// As [`write_fixed`] with 17 places, without zeros at the end, and `0` for `-0`: Redis's text of a double for people.
pub fn write_human(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    write_fixed(out, value, PLACES_MAX);
    if out[start..].contains(&b'.') {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
    if &out[start..] == b"-0" {
        out.remove(start);
    }
}

/// `number / 2^shift`, half to even; at most 10^17.
fn divide(number: u128, shift: u32) -> u64 {
    // The number is below 2^110.
    if shift > 111 {
        return 0;
    }
    let half = (1u128 << shift) >> 1;
    let quotient = (number >> shift) as u64;
    let rest = number & ((1u128 << shift) - 1);
    let rounds_up = rest > half || rest == half && half > 0 && quotient & 1 == 1;
    quotient + u64::from(rounds_up)
}

fn write_places(out: &mut Vec<u8>, mut fraction: u64, places: u32) {
    let point = out.len();
    out.resize(point + 1 + places as usize, b'0');
    out[point] = b'.';
    for digit in out[point + 1..].iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(value: f64, places: u32) -> String {
        let mut out = Vec::new();
        write_fixed(&mut out, value, places);
        String::from_utf8(out).expect("digits")
    }

    fn human(value: f64) -> String {
        let mut out = Vec::new();
        write_human(&mut out, value);
        String::from_utf8(out).expect("digits")
    }

    /// Ties, carries, borders of the representation.
    #[test]
    fn chosen_numbers() {
        assert_eq!(fixed(0.0, 4), "0.0000");
        assert_eq!(fixed(166_274.151_56, 4), "166274.1516");
        assert_eq!(fixed(0.000_05, 4), "0.0001");
        assert_eq!(fixed(0.25, 1), "0.2");
        assert_eq!(fixed(0.75, 1), "0.8");
        assert_eq!(fixed(0.031_25, 4), "0.0312");
        assert_eq!(fixed(0.093_75, 4), "0.0938");
        assert_eq!(fixed(0.999_99, 4), "1.0000");
        assert_eq!(fixed(-1.25, 1), "-1.2");
        assert_eq!(fixed(1e300, 1), format!("{:.1}", 1e300));
        assert_eq!(fixed(f64::INFINITY, 4), "inf");
        assert_eq!(fixed(-f64::INFINITY, 4), "-inf");
        assert_eq!(fixed(f64::NAN.copysign(-1.0), 4), "-nan");
        assert_eq!(human(13.361_389_338_970_184), "13.36138933897018433");
        assert_eq!(human(-2.682_209_014_892_578e-6), "-0.00000268220901489");
        assert_eq!(human(-0.0), "0");
        assert_eq!(human(-1e-30), "0");
        assert_eq!(human(180.0), "180");
        assert_eq!(human(100.5), "100.5");
        assert_eq!(human(1e22), "10000000000000000000000");
    }

    /// The library prints the same, slower.
    #[test]
    fn against_the_library() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..200_000 {
            let value = match round % 4 {
                0 => f64::from_bits(rng.u64(..)),
                1 => (rng.f64() - 0.5) * 360.0,
                2 => rng.f64() * 2e7,
                _ => rng.i32(..) as f64 / f64::from(1u32 << rng.u32(0..31)),
            };
            if value.is_nan() {
                continue;
            }
            for places in [1, 4, 6, 17] {
                let expected = format!("{value:.*}", places as usize);
                assert_eq!(fixed(value, places), expected, "{value:e} to {places}");
            }
        }
    }
}
