//! Values as they are written in configuration: numbers, sizes, percentages, yes and no, and back.
//!
//! The error of each reader is the text a client of redis-server gets for the same mistake (checked against 7.0.15), since
//! `CONFIG SET` prints it. Readers are strict where that server is (`+5`, `05` and ` 5` are no numbers) and stricter in one
//! place: a size beyond 64 bits and an empty size are refused, where the original wraps around or takes 0. A size that silently
//! became "no limit" would be the worst of all readings.
//!
//! Sizes: `b`, `k` `m` `g` = powers of 1000, `kb` `mb` `gb` = powers of 1024, in any case.

use std::fmt::Write;

/// A whole number between `min` and `max`, written the one canonical way.
pub fn integer(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let value = canonical_integer(text).ok_or("argument couldn't be parsed into an integer")?;
    in_range(value, min, max)
}

/// A number in base 8, as file modes are written.
pub fn octal(text: &str, max: u32) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let value = digits.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    let value = value.ok_or("argument couldn't be parsed as an octal number")?;
    if value > max {
        return Err(format!("argument must be between 0 and {max:o} inclusive"));
    }
    Ok(value)
}

/// A size in bytes between `min` and `max`.
pub fn memory(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let value = bytes(text).ok_or("argument must be a memory value")?;
    in_range(value, min, max)
}

/// `yes` or `no` in any case.
pub fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("argument must be 'yes' or 'no'".into()),
    }
}

/// The position of `text` in `names`, in any case.
pub fn choice(text: &str, names: &[&str]) -> Result<usize, String> {
    let found = names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        format!(
            "argument(s) must be one of the following: {}",
            names.join(", ")
        )
    })
}

/// The number before a `%` sign; `None` when `text` is no percentage at all.
pub fn percent(text: &str) -> Option<Result<u32, String>> {
    let value = canonical_integer(text.strip_suffix('%')?)?;
    let value = u32::try_from(value).ok()?;
    Some(if value > 100 {
        Err("percentage argument must be less or equal to 100".into())
    } else {
        Ok(value)
    })
}

/// `yes` or `no`.
pub fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

/// A size for a file that people read: the largest unit that divides it.
pub fn memory_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    let unit = UNITS
        .iter()
        .find(|(size, _)| bytes != 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(
        || bytes.to_string(),
        |(size, name)| format!("{}{name}", bytes / size),
    )
}

/// `text` in double quotes, such that a configuration line holding it reads back as `text`.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                write!(out, "\\x{:02x}", c as u32).expect("writing to a String cannot fail")
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `text` as one word of a configuration line: quoted only where it must be. A client's value cannot become a second line.
pub fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.into()
    } else {
        quoted(text)
    }
}

fn in_range<N: PartialOrd + std::fmt::Display>(value: N, min: N, max: N) -> Result<N, String> {
    if value < min || value > max {
        return Err(format!(
            "argument must be between {min} and {max} inclusive"
        ));
    }
    Ok(value)
}

fn canonical_integer(text: &str) -> Option<i64> {
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        // Aim: all units in any case; nothing else passes, nothing wraps.
        let good = [
            ("0", 0),
            ("1b", 1),
            ("1k", 1_000),
            ("1Kb", 1_024),
            ("2m", 2_000_000),
            ("100MB", 104_857_600),
            ("3g", 3_000_000_000),
            ("1gB", 1_073_741_824),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, expected) in good {
            assert_eq!(memory(text, 0, u64::MAX), Ok(expected), "{text}");
        }
        for text in [
            "",
            "mb",
            "-1",
            "+1",
            "1.5gb",
            "1t",
            " 1",
            "1 ",
            "abc",
            "18446744073709551616",
            "18446744073709551615gb",
        ] {
            assert_eq!(
                memory(text, 0, u64::MAX),
                Err("argument must be a memory value".into()),
                "{text}"
            );
        }
        assert_eq!(
            memory("1k", 1024, 2048),
            Err("argument must be between 1024 and 2048 inclusive".into())
        );
    }

    #[test]
    fn integers() {
        // Aim: only the canonical spelling is a number; the range is named.
        assert_eq!(integer("-2", -2, 5), Ok(-2));
        for text in [
            "",
            "abc",
            "+5",
            "05",
            " 5",
            "5 ",
            "1k",
            "-0",
            "9223372036854775808",
        ] {
            assert_eq!(
                integer(text, 0, 9),
                Err("argument couldn't be parsed into an integer".into()),
                "{text}"
            );
        }
        assert_eq!(
            integer("70000", 0, 65535),
            Err("argument must be between 0 and 65535 inclusive".into())
        );
        assert_eq!(octal("700", 0o777), Ok(0o700));
        assert_eq!(
            octal("888", 0o777),
            Err("argument couldn't be parsed as an octal number".into())
        );
        assert_eq!(
            octal("7777", 0o777),
            Err("argument must be between 0 and 777 inclusive".into())
        );
    }

    #[test]
    fn words() {
        // Aim: flags, choices and percentages.
        assert_eq!(flag("YES"), Ok(true));
        assert_eq!(flag("1"), Err("argument must be 'yes' or 'no'".into()));
        assert_eq!(choice("Two", &["one", "two"]), Ok(1));
        assert_eq!(
            choice("x", &["one", "two"]),
            Err("argument(s) must be one of the following: one, two".into())
        );
        assert_eq!(percent("60%"), Some(Ok(60)));
        assert_eq!(
            percent("101%"),
            Some(Err(
                "percentage argument must be less or equal to 100".into()
            ))
        );
        for text in ["60", "%", "-1%", "5.5%", "5%%"] {
            assert_eq!(percent(text), None, "{text}");
        }
    }

    #[test]
    fn written_back() {
        // Aim: what is written reads back the same.
        for (bytes, text) in [
            (0, "0"),
            (1000, "1000"),
            (1024, "1kb"),
            (209_715_200, "200mb"),
            (3 << 30, "3gb"),
            (1_048_577, "1048577"),
        ] {
            assert_eq!(memory_text(bytes), text);
            assert_eq!(memory(text, 0, u64::MAX), Ok(bytes));
        }
        assert_eq!(
            [word("-::1"), word(""), word("a b"), word("x\ny")],
            ["-::1", "\"\"", "\"a b\"", "\"x\\ny\""]
        );
        let text = "a \"b\" \\ \n\r\t\u{7}é";
        assert_eq!(quoted(text), "\"a \\\"b\\\" \\\\ \\n\\r\\t\\x07é\"");
        assert_eq!(
            crate::base::split::split_args(quoted(text).as_bytes()),
            Ok(vec![text.as_bytes().to_vec()])
        );
    }
}
