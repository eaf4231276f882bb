//! Numbers as the protocol reads and prints them.
//!
//! Redis reads integers with its own `string2ll`, doubles with C's `strtod`, and the numbers of INCRBYFLOAT with `strtold`
//! into the x87's 80-bit long double; it prints doubles by `fpconv_dtoa` (since 7.2) and long doubles by `%.17Lf`.
//! Clients see all of these, so each is matched to the byte here, on any machine. The readers take the whole text or
//! nothing: no blanks around it, nothing after it.
//!
//! Cost (benches/data.rs): an integer is read in 1 to 11 ns by its length, a double in 5 to 20 ns; a double is printed in
//! 12 ns if it is an integer, else in 35 to 55. The long double is software: 470 ns for INCRBYFLOAT, from text to text.

use std::fmt;
use std::ops::Deref;

use rustc_apfloat::ieee::{Double, X87DoubleExtended};
use rustc_apfloat::{Float, Round, Status, StatusAnd};

/// A signed integer by the rules of `string2ll`: no `+`, no leading zeros, no `-0`, nothing out of range.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        // -0 is refused by Redis; all else that is negative has a magnitude like a positive number.
        [b'-', b'0', ..] => None,
        [b'-', digits @ ..] => 0i64.checked_sub_unsigned(parse_u64(digits)?),
        digits => i64::try_from(parse_u64(digits)?).ok(),
    }
}

/// An unsigned integer by the same rules.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [digit @ b'0'..=b'9'] => return Some(u64::from(digit - b'0')),
        [b'1'..=b'9', ..] if text.len() <= 20 => {}
        _ => return None,
    }
    // Nineteen digits always fit.
    let (head, last) = text.split_at(text.len().min(19));
    let mut value = 0u64;
    for byte in head {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    match last {
        [] => Some(value),
        [digit @ b'0'..=b'9'] => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    }
}

/// Appends `value` in decimal.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A double by the rules of Redis's `string2d`: what `strtod` takes as a whole, hexadecimal and infinities included, but
/// no NaN and nothing that overflows, or that underflows to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let (negative, magnitude) = split_sign(text);
    let value = match magnitude.first()? {
        b'0' if is_hex(magnitude) => from_apfloat(parse_apfloat::<Double>(magnitude)?),
        b'0'..=b'9' | b'.' => parse_decimal(magnitude)?,
        _ if is_infinity(magnitude) => f64::INFINITY,
        _ => return None,
    };
    Some(if negative { -value } else { value })
}

/// A double by the rules of C's `strtod` when it must take the whole text: as [`parse_f64`], but with blanks before it, and
/// what overflows is infinite, what underflows 0. None for NaN.
pub fn parse_strtod(text: &[u8]) -> Option<f64> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let blanks = text.iter().take_while(|byte| is_blank(byte)).count();
    let text = &text[blanks..];
    let (negative, magnitude) = split_sign(text);
    let value = match magnitude.first()? {
        b'0' if is_hex(magnitude) => from_apfloat(read_apfloat::<Double>(magnitude)?.value),
        b'0'..=b'9' | b'.' => fast_float2::parse(magnitude).ok()?,
        _ => return parse_f64(text),
    };
    Some(if negative { -value } else { value })
}

/// What C's `strtod` finds at the begin of a text, and how many bytes that takes: 0 if there is no number. Blanks before it
/// are not skipped. Infinities and NaN, also as `nan(...)`, and hexadecimal are numbers.
pub fn parse_strtod_prefix(text: &[u8]) -> (f64, usize) {
    let (negative, magnitude) = split_sign(text);
    let sign = text.len() - magnitude.len();
    let (value, len) = if is_hex(magnitude) {
        let len = number_len(&magnitude[2..], u8::is_ascii_hexdigit, b'p');
        match len {
            // Only the zero before the x.
            0 => (0.0, 1),
            // One that is too long to be read is none.
            len => parse_strtod(&magnitude[..len + 2]).map_or((0.0, 0), |value| (value, len + 2)),
        }
    } else {
        match number_len(magnitude, u8::is_ascii_digit, b'e') {
            0 => special_prefix(magnitude),
            len => parse_strtod(&magnitude[..len]).map_or((0.0, 0), |value| (value, len)),
        }
    };
    match len {
        0 => (0.0, 0),
        len => (if negative { -value } else { value }, sign + len),
    }
}

/// The length of digits with at most one point and at least one digit, and of an exponent if it has digits; 0 if there is
/// no digit.
fn number_len(text: &[u8], is_digit: fn(&u8) -> bool, mark: u8) -> usize {
    let count = |text: &[u8]| text.iter().take_while(|byte| is_digit(byte)).count();
    let whole = count(text);
    let mut len = whole;
    if text.get(whole) == Some(&b'.') {
        let fraction = count(&text[whole + 1..]);
        if whole + fraction > 0 {
            len += 1 + fraction;
        }
    }
    if len == 0 || text.get(len).is_none_or(|byte| byte | 0x20 != mark) {
        return len;
    }
    let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
    let exponent = text[len + 1 + sign..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    match exponent {
        0 => len,
        exponent => len + 1 + sign + exponent,
    }
}

fn special_prefix(text: &[u8]) -> (f64, usize) {
    let begins = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    if begins(b"infinity") {
        (f64::INFINITY, 8)
    } else if begins(b"inf") {
        (f64::INFINITY, 3)
    } else if begins(b"nan") {
        let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        let inner = text.get(4..).unwrap_or_default();
        let count = inner.iter().take_while(is_word).count();
        match (text.get(3), inner.get(count)) {
            (Some(b'('), Some(b')')) => (f64::NAN, 5 + count),
            _ => (f64::NAN, 3),
        }
    } else {
        (0.0, 0)
    }
}

fn parse_decimal(magnitude: &[u8]) -> Option<f64> {
    let value: f64 = fast_float2::parse(magnitude).ok()?;
    let underflow = value == 0.0 && has_significant_digit(magnitude);
    (value.is_finite() && !underflow).then_some(value)
}

fn from_apfloat(value: Double) -> f64 {
    f64::from_bits(value.to_bits() as u64)
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn is_infinity(magnitude: &[u8]) -> bool {
    magnitude.eq_ignore_ascii_case(b"inf") || magnitude.eq_ignore_ascii_case(b"infinity")
}

fn is_hex(magnitude: &[u8]) -> bool {
    matches!(magnitude, [b'0', b'x' | b'X', ..])
}

/// Whether a decimal number has a digit other than 0 before its exponent.
fn has_significant_digit(magnitude: &[u8]) -> bool {
    magnitude
        .iter()
        .take_while(|byte| !matches!(byte, b'e' | b'E'))
        .any(|byte| matches!(byte, b'1'..=b'9'))
}

/// A number without sign by the grammar of `strtod`, rounded to even; none on overflow and on underflow to zero.
fn parse_apfloat<F: Float>(magnitude: &[u8]) -> Option<F> {
    let parsed = read_apfloat::<F>(magnitude)?;
    let lost = parsed.value.is_zero() && parsed.status.contains(Status::INEXACT);
    (parsed.value.is_finite() && !lost).then_some(parsed.value)
}

/// The same with what overflows and underflows.
fn read_apfloat<F: Float>(magnitude: &[u8]) -> Option<StatusAnd<F>> {
    // strtod has no limit here; the longest number with a meaning has some 770 digits, or 11,500 for a long double.
    if magnitude.len() > LONGEST_TEXT {
        return None;
    }
    let mut text = checked_shape(magnitude)?.to_owned();
    // The library wants an exponent in hexadecimal, where strtod does not.
    if is_hex(magnitude) && !text.contains(['p', 'P']) {
        text.push_str("p0");
    }
    F::from_str_r(&text, Round::NearestTiesToEven).ok()
}

const LONGEST_TEXT: usize = 16 * 1024;

/// The text, if it is a number without sign: digits with at most one point and at least one digit, and an exponent, `e` in
/// decimal and `p` in hexadecimal, with at least one digit.
fn checked_shape(magnitude: &[u8]) -> Option<&str> {
    let (digits, hex) = match is_hex(magnitude) {
        true => (&magnitude[2..], true),
        false => (magnitude, false),
    };
    let mark = if hex { b'p' } else { b'e' };
    let split = digits.iter().position(|byte| byte | 0x20 == mark);
    let (digits, exponent) = digits.split_at(split.unwrap_or(digits.len()));
    let is_digit = |byte: &u8| match hex {
        true => byte.is_ascii_hexdigit(),
        false => byte.is_ascii_digit(),
    };
    let count = digits.iter().filter(|byte| is_digit(byte)).count();
    let points = digits.iter().filter(|byte| **byte == b'.').count();
    if count == 0 || points > 1 || count + points != digits.len() {
        return None;
    }
    if let [_, rest @ ..] = exponent {
        let (_, rest) = split_sign(rest);
        if rest.is_empty() || !rest.iter().all(u8::is_ascii_digit) {
            return None;
        }
    }
    str::from_utf8(magnitude).ok()
}

/// The text of a double, on the stack.
#[derive(Clone, Copy)]
pub struct FloatText {
    bytes: [u8; 32],
    len: u8,
}

impl FloatText {
    fn of(text: &[u8]) -> Self {
        let mut made = FloatText::empty();
        made.push(text);
        made
    }

    fn empty() -> Self {
        FloatText {
            bytes: [0; 32],
            len: 0,
        }
    }

    fn push(&mut self, text: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + text.len()].copy_from_slice(text);
        self.len += text.len() as u8;
    }
}

impl Deref for FloatText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for FloatText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.escape_ascii().to_string())
    }
}

/// A double as Redis 7.2 prints it (`d2string`): an integer in full up to 2^62, else the shortest digits that read back
/// to the same double, in the layout of `fpconv_dtoa`: `3`, `0.1`, `1e+20`, `1.5e-9`, `-0`, `inf`, `nan`.
pub fn format_f64(value: f64) -> FloatText {
    if !value.is_finite() {
        return FloatText::of(match value {
            _ if value.is_nan() => b"nan",
            _ if value < 0.0 => b"-inf",
            _ => b"inf",
        });
    }
    if value.abs() <= INTEGER_END && value.trunc() == value {
        return match value == 0.0 && value.is_sign_negative() {
            true => FloatText::of(b"-0"),
            false => FloatText::of(itoa::Buffer::new().format(value as i64).as_bytes()),
        };
    }
    let mut buffer = zmij::Buffer::new();
    let (negative, shortest) = split_sign(buffer.format_finite(value).as_bytes());
    let mut digits = [0; 32];
    let (count, exponent) = take_digits(shortest, &mut digits);
    let mut text = FloatText::of(if negative { b"-" } else { b"" });
    lay_out(&mut text, &digits[..count], exponent);
    text
}

/// A double as C's `%.17g` prints it: 17 digits, those that are zeros at the end left out. Redis shows the scores of large
/// sorted sets so in ZSCAN.
pub fn format_f64_17(value: f64) -> FloatText {
    format_f64_g(value, 17)
}

/// A double as C's `%.*g` prints it with this precision, 1 to 17 significant digits. Lua prints its numbers with 14.
pub fn format_f64_g(value: f64, precision: u8) -> FloatText {
    let precision = i32::from(precision.clamp(1, 17));
    if !value.is_finite() || value == 0.0 {
        return format_f64(value);
    }
    if value.abs() < LONGEST_INTEGER && value.trunc() == value {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(value as i64);
        if text.len() as i32 - i32::from(value < 0.0) <= precision {
            return FloatText::of(text.as_bytes());
        }
    }
    let written = format!("{value:.*e}", precision as usize - 1);
    let (negative, magnitude) = split_sign(written.as_bytes());
    let split = magnitude.iter().position(|byte| *byte == b'e');
    let scientific: i32 = split
        .and_then(|split| str::from_utf8(&magnitude[split + 1..]).ok()?.parse().ok())
        .unwrap_or(0);
    let mut digits = [0; 32];
    let (count, _) = take_digits(&magnitude[..split.unwrap_or(magnitude.len())], &mut digits);
    let mut text = FloatText::of(if negative { b"-" } else { b"" });
    if (-4..precision).contains(&scientific) {
        lay_out_fixed(&mut text, &digits[..count], scientific + 1);
    } else {
        lay_out_scientific(&mut text, &digits[..count], scientific, 2);
    }
    text
}

/// Below it every double that is an integer has at most 17 digits.
const LONGEST_INTEGER: f64 = 1e17;

/// Digits with the point behind the first `whole` of them.
fn lay_out_fixed(text: &mut FloatText, digits: &[u8], whole: i32) {
    let count = digits.len() as i32;
    if whole <= 0 {
        text.push(b"0.");
        (whole..0).for_each(|_| text.push(b"0"));
        text.push(digits);
    } else if whole >= count {
        text.push(digits);
        (count..whole).for_each(|_| text.push(b"0"));
    } else {
        text.push(&digits[..whole as usize]);
        text.push(b".");
        text.push(&digits[whole as usize..]);
    }
}

/// Digits with the point behind the first one, and the exponent in `width` digits at least.
fn lay_out_scientific(text: &mut FloatText, digits: &[u8], exponent: i32, width: usize) {
    text.push(&digits[..1]);
    if digits.len() > 1 {
        text.push(b".");
        text.push(&digits[1..]);
    }
    text.push(if exponent < 0 { b"e-" } else { b"e+" });
    let exponent = exponent.unsigned_abs();
    if exponent < 10 && width > 1 {
        text.push(b"0");
    }
    text.push(itoa::Buffer::new().format(exponent).as_bytes());
}

/// Redis tests against LLONG_MAX/2 as a double.
const INTEGER_END: f64 = (1u64 << 62) as f64;

/// Takes `12.5e3` apart: the digits 125, how many there are, and the power of ten they are multiplied by, 2.
fn take_digits(text: &[u8], digits: &mut [u8; 32]) -> (usize, i32) {
    let split = text.iter().position(|byte| *byte == b'e');
    let (mantissa, mark) = text.split_at(split.unwrap_or(text.len()));
    let mut exponent = match mark {
        [_, written @ ..] => {
            let (negative, magnitude) = split_sign(written);
            let magnitude = magnitude
                .iter()
                .fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
            if negative { -magnitude } else { magnitude }
        }
        [] => 0,
    };
    let mut count = 0;
    let mut after_point = false;
    for byte in mantissa {
        if *byte == b'.' {
            after_point = true;
            continue;
        }
        exponent -= i32::from(after_point);
        if count > 0 || *byte != b'0' {
            digits[count] = *byte;
            count += 1;
        }
    }
    while count > 1 && digits[count - 1] == b'0' {
        count -= 1;
        exponent += 1;
    }
    (count, exponent)
}

/// `fpconv_dtoa`'s layout of `digits` times ten to the `exponent`.
fn lay_out(text: &mut FloatText, digits: &[u8], exponent: i32) {
    let count = digits.len() as i32;
    // The exponent if there were one digit before the point.
    let scientific = exponent + count - 1;
    if (exponent >= 0 && scientific < count + 7)
        || (exponent < 0 && (exponent > -7 || scientific.abs() < 4))
    {
        lay_out_fixed(text, digits, scientific + 1);
    } else {
        lay_out_scientific(text, digits, scientific, 1);
    }
}

/// The number of INCRBYFLOAT and HINCRBYFLOAT: the 80-bit long double of the x87, as C programs on x86 have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// A number by the rules of Redis's `string2ld`: what `strtold` takes as a whole, hexadecimal and infinities
    /// included, but no NaN, nothing that overflows or underflows to zero, and nothing of 5,120 bytes or more.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= 5 * 1024 {
            return None;
        }
        let (negative, magnitude) = split_sign(text);
        let value = match is_infinity(magnitude) {
            true => X87DoubleExtended::INFINITY,
            false => parse_apfloat(magnitude)?,
        };
        Some(LongDouble(if negative { -value } else { value }))
    }

    /// The sum, rounded to even; it may be infinite, or not a number.
    #[expect(
        clippy::should_implement_trait,
        reason = "the result must be checked: an operator would hide that"
    )]
    pub fn add(self, other: LongDouble) -> LongDouble {
        LongDouble((self.0 + other.0).value)
    }

    /// A thousand times as much, rounded up to an integer, for what counts seconds in milliseconds; saturating.
    pub fn thousandfold_rounded_up(self) -> i128 {
        let product = (self.0 * X87DoubleExtended::from_u128(1000).value).value;
        product
            .to_i128_r(128, Round::TowardPositive, &mut false)
            .value
    }

    /// Whether it is not a number, as the sum of opposite infinities is.
    pub fn is_nan(self) -> bool {
        self.0.is_nan()
    }

    /// Whether it is infinite; INCRBYFLOAT refuses such a sum.
    pub fn is_infinite(self) -> bool {
        self.0.is_infinite()
    }

    /// The text of `%.17Lf` without trailing zeros, `0` instead of `-0`.
    pub fn format(self) -> Vec<u8> {
        let sign: &[u8] = if self.0.is_negative() { b"-" } else { b"" };
        if !self.0.is_finite() {
            let name: &[u8] = if self.is_nan() { b"nan" } else { b"inf" };
            return [sign, name].concat();
        }
        let bits = self.0.to_bits();
        let mantissa = bits as u64;
        // The value is mantissa * 2^exponent. A subnormal number has the exponent of the smallest normal one.
        let biased = (bits >> 64) as i32 & 0x7fff;
        let exponent = biased.max(1) - 16383 - 63;
        let magnitude = match exponent {
            0.. => whole_text(mantissa, exponent as u32),
            _ => fraction_text(mantissa, exponent.unsigned_abs()),
        };
        match magnitude.as_slice() {
            b"0" => magnitude,
            _ => [sign, &magnitude].concat(),
        }
    }
}

/// `mantissa / 2^shift` rounded to 17 places, half to even.
fn fraction_text(mantissa: u64, shift: u32) -> Vec<u8> {
    // Below 2^121, so that a shift of 122 or more leaves less than a half.
    let scaled = u128::from(mantissa) * TEN_17;
    let rounded = match shift {
        1..=121 => {
            let (quotient, rest) = (scaled >> shift, scaled & ((1 << shift) - 1));
            let half = 1 << (shift - 1);
            quotient + u128::from(rest > half || (rest == half && quotient & 1 == 1))
        }
        _ => 0,
    };
    let text = format!("{}.{:017}", rounded / TEN_17, rounded % TEN_17);
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    trimmed.as_bytes().to_vec()
}

const TEN_17: u128 = 10u128.pow(17);

/// `mantissa * 2^shift` in decimal, by schoolbook arithmetic in base 10^18: up to 4,933 digits.
fn whole_text(mantissa: u64, shift: u32) -> Vec<u8> {
    const BASE: u128 = 10u128.pow(18);
    // The lowest first.
    let mut places = vec![
        (u128::from(mantissa) % BASE) as u64,
        (u128::from(mantissa) / BASE) as u64,
    ];
    let mut left = shift;
    while left > 0 {
        let step = left.min(64);
        let mut carry = 0;
        for place in &mut places {
            let product = (u128::from(*place) << step) + carry;
            *place = (product % BASE) as u64;
            carry = product / BASE;
        }
        while carry > 0 {
            places.push((carry % BASE) as u64);
            carry /= BASE;
        }
        left -= step;
    }
    while places.len() > 1 && places.last() == Some(&0) {
        places.pop();
    }
    let mut text = places.pop().unwrap_or(0).to_string();
    for place in places.iter().rev() {
        text.push_str(&format!("{place:018}"));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What printf("%.17g") writes.
    #[test]
    fn a_prefix_is_read_as_strtod_does() {
        for (text, value, len) in [
            ("12x", 12.0, 2),
            ("-1.5e3]", -1500.0, 6),
            ("1e", 1.0, 1),
            ("1e+,", 1.0, 1),
            ("1.", 1.0, 2),
            (".5", 0.5, 2),
            (".", 0.0, 0),
            ("-", 0.0, 0),
            ("", 0.0, 0),
            ("x", 0.0, 0),
            ("0x1Fg", 31.0, 4),
            ("0x.8p1", 1.0, 6),
            ("0xg", 0.0, 1),
            ("0x1p", 1.0, 3),
            ("infinite", f64::INFINITY, 3),
            ("-InFinity", f64::NEG_INFINITY, 9),
            ("1e400", f64::INFINITY, 5),
        ] {
            assert_eq!(parse_strtod_prefix(text.as_bytes()), (value, len), "{text}");
        }
        for (text, len) in [("nan", 3), ("NaN(1_x)", 8), ("nan(", 3), ("nan(-)", 3)] {
            let (value, read) = parse_strtod_prefix(text.as_bytes());
            assert!(value.is_nan() && read == len, "{text}");
        }
    }

    #[test]
    fn a_precision_is_that_of_printf() {
        // Expected by printf of the C library.
        for (value, precision, text) in [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.0, 1, "1"),
            (12.0, 1, "1e+01"),
            (15.0, 1, "2e+01"),
            (25.0, 1, "2e+01"),
            (-123456.0, 3, "-1.23e+05"),
            (99999999999999.0, 14, "99999999999999"),
            (100000000000000.0, 14, "1e+14"),
            (123456789012345.0, 14, "1.2345678901234e+14"),
            (0.1, 14, "0.1"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (1e-5, 14, "1e-05"),
            (0.0001, 14, "0.0001"),
            (3.75, 2, "3.8"),
            (f64::INFINITY, 14, "inf"),
            (1e300, 14, "1e+300"),
        ] {
            assert_eq!(
                &*format_f64_g(value, precision),
                text.as_bytes(),
                "{value} {precision}"
            );
        }
    }

    #[test]
    fn seventeen_digits_are_those_of_printf() {
        for (value, text) in [
            (0.1, "0.10000000000000001"),
            (3.5, "3.5"),
            (-0.0, "-0"),
            (1e20, "1e+20"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (-1e-4, "-0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (2.9802322387695312e-8, "2.9802322387695312e-08"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (1234.5678, "1234.5678"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(&*format_f64_17(value), text.as_bytes(), "{value}");
        }
    }

    #[test]
    fn a_whole_text_is_read_as_strtod_does() {
        for (text, value) in [
            (" 5", Some(5.0)),
            ("\t-1.5", Some(-1.5)),
            ("1e400", Some(f64::INFINITY)),
            ("-1e400", Some(f64::NEG_INFINITY)),
            ("1e-400", Some(0.0)),
            ("0x10", Some(16.0)),
            ("0x1p9999", Some(f64::INFINITY)),
            ("0x1p-9999", Some(0.0)),
            ("+inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("nan", None),
            ("", None),
            (" ", None),
            ("5 ", None),
            ("1e", None),
            ("0x", None),
            ("--1", None),
            ("infinit", None),
        ] {
            assert_eq!(parse_strtod(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn integers_follow_string2ll() {
        for good in [0, 1, -1, 9, 10, i64::MAX, i64::MIN, i64::MAX - 7] {
            assert_eq!(parse_i64(good.to_string().as_bytes()), Some(good));
        }
        for bad in [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            " 1",
            "1 ",
            "1.0",
            "a",
            "--1",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "184467440737095516150",
        ] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    #[test]
    fn doubles_follow_strtod() {
        let good = [
            ("1.", 1.0),
            (".5", 0.5),
            ("+.5e+3", 500.0),
            ("-1e-3", -0.001),
            ("0x1p3", 8.0),
            ("-0X.8", -0.5),
            ("0x1.", 1.0),
            ("0x10", 16.0),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000081p0", 1.0000000000000002),
            ("INF", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e-310", 1e-310),
            ("0e999999999999", 0.0),
            ("0x0p99999999999", 0.0),
            ("1.7976931348623157e308", f64::MAX),
        ];
        for (text, value) in good {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        for bad in [
            "",
            "+",
            ".",
            "e5",
            "1e",
            "1e+",
            "0x",
            "0x.",
            "0x1p",
            "+-1",
            "infx",
            "nan",
            "-nan",
            "nan(1)",
            " 1",
            "1 ",
            "1_0",
            "1e400",
            "-1e400",
            "1e-400",
            "0x1p9999",
            "0x1p-9999",
            "1e999999999999999999999",
            "1e-99999999999999999999",
            "1\0",
            "0b1",
            "1f",
        ] {
            assert_eq!(parse_f64(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn doubles_are_laid_out_as_by_fpconv() {
        let cases = [
            (3.0, "3"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (1e18, "1000000000000000000"),
            (4611686018427387904.0, "4611686018427387904"),
            (-4611686018427387904.0, "-4611686018427387904"),
            (4611686018427388928.0, "4611686018427389000"),
            (9.2e18, "9.2e+18"),
            (1e19, "1e+19"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (1.234567e21, "1.234567e+21"),
            (1.2345678901234568e22, "12345678901234568000000"),
            (1.2345678901234566e25, "1.2345678901234566e+25"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-5, "0.000015"),
            (1.5e-6, "1.5e-6"),
            (0.00012345678901234567, "1.2345678901234567e-4"),
            (0.0012345678901234567, "0.0012345678901234567"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (-1.1e-100, "-1.1e-100"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ];
        for (value, text) in cases {
            assert_eq!(&*format_f64(value), text.as_bytes(), "{value:e}");
        }
    }

    #[test]
    fn long_doubles_follow_string2ld() {
        let text = |text: &str| LongDouble::parse(text.as_bytes()).map(|number| number.format());
        let cases = [
            ("3.0", "3"),
            ("-0", "0"),
            ("-0.0000000000000000001", "0"),
            ("1e-4940", "0"),
            ("10.5", "10.5"),
            ("5.0e3", "5000"),
            ("0x1.8p1", "3"),
            ("1e20", "100000000000000000000"),
            ("inf", "inf"),
            ("-Infinity", "-inf"),
            ("0.1", "0.1"),
        ];
        for (input, output) in cases {
            assert_eq!(text(input).as_deref(), Some(output.as_bytes()), "{input}");
        }
        for bad in ["nan", "1e5000", "1e-5000", "", " 1", "1 ", "0x", "1e"] {
            assert_eq!(text(bad), None, "{bad}");
        }
        let largest = text("1.18973149535723176502e+4932").expect("the largest long double");
        assert_eq!(largest.len(), 4933);
        assert!(largest.starts_with(b"118973149535723176502126385303097020516906332229"));
        let infinity = LongDouble::parse(b"inf").expect("infinity");
        let opposite = LongDouble::parse(b"-inf").expect("minus infinity");
        assert!(infinity.add(opposite).is_nan());
    }

    proptest! {
        #[test]
        fn integers_agree_with_the_standard_library(value: i64, text in "[-0-9]{0,21}") {
            prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
            let canonical = text.parse::<i64>().ok().filter(|parsed| parsed.to_string() == text);
            prop_assert_eq!(parse_i64(text.as_bytes()), canonical);
        }

        #[test]
        fn printed_doubles_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            if !value.is_nan() {
                let text = format_f64(value);
                prop_assert_eq!(parse_f64(&text), Some(value));
            }
        }

        #[test]
        fn readers_never_panic(text in "[-+]?(0x)?[0-9a-fA-F.]{0,30}([ep][-+]?[0-9]{0,12})?", any: Vec<u8>) {
            let _ = (parse_f64(&any), LongDouble::parse(&any));
            let long = LongDouble::parse(text.as_bytes());
            let double = parse_f64(text.as_bytes());
            if double.is_some() {
                prop_assert!(long.is_some());
            }
            if let Some(number) = long {
                number.format();
            }
        }
    }
}
