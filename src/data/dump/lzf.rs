//! Decompression of LZF, in which Redis holds long strings of a payload.
//!
//! ```text
//! 000lllll                        l + 1 bytes follow as they are
//! lllooooo oooooooo               l + 2 bytes from o + 1 bytes back; l is 1 to 6
//! 111ooooo llllllll oooooooo      l + 9 bytes from o + 1 bytes back
//! ```

use super::read::Malformed;

/// The longest string by default (`proto-max-bulk-len`): a payload that the limit let through may stand for 88 times its
/// length.
const LONGEST: usize = 512 << 20;

/// An instruction.
enum Step<'a> {
    Literal(&'a [u8]),
    Copy { back: usize, length: usize },
}

/// What `compressed` stands for, if that is `length` bytes. Looks through all of it before it allocates them: a string
/// that only claims to be long costs nothing.
pub(super) fn decompress(compressed: &[u8], length: usize) -> Result<Vec<u8>, Malformed> {
    let mut found = 0usize;
    let mut rest = compressed;
    while let Some(step) = next(&mut rest)? {
        found += match step {
            Step::Literal(bytes) => bytes.len(),
            Step::Copy { back, length } if back <= found => length,
            Step::Copy { .. } => return Err(Malformed),
        };
    }
    if found != length || length > LONGEST {
        return Err(Malformed);
    }
    let mut text = Vec::with_capacity(length);
    rest = compressed;
    while let Some(step) = next(&mut rest)? {
        match step {
            Step::Literal(bytes) => text.extend_from_slice(bytes),
            Step::Copy { back, length } => repeat(&mut text, back, length),
        }
    }
    Ok(text)
}

/// Appends `length` bytes from `back` bytes before the end, which may reach into what is being appended.
fn repeat(text: &mut Vec<u8>, back: usize, length: usize) {
    let start = text.len() - back;
    if back >= length {
        text.extend_from_within(start..start + length);
    } else {
        for index in start..start + length {
            text.push(text[index]);
        }
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<Step<'a>>, Malformed> {
    let mut byte = || {
        let (&first, behind) = rest.split_first()?;
        *rest = behind;
        Some(usize::from(first))
    };
    let Some(control) = byte() else {
        return Ok(None);
    };
    if control < 32 {
        let (bytes, behind) = rest.split_at_checked(control + 1).ok_or(Malformed)?;
        *rest = behind;
        return Ok(Some(Step::Literal(bytes)));
    }
    let length = match control >> 5 {
        7 => 9 + byte().ok_or(Malformed)?,
        short => short + 2,
    };
    let back = ((control & 31) << 8) + byte().ok_or(Malformed)? + 1;
    Ok(Some(Step::Copy { back, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_repetitions() {
        assert_eq!(decompress(b"\x02abc", 3), Ok(b"abc".to_vec()));
        assert_eq!(decompress(b"\x02abc\x20\x02", 6), Ok(b"abcabc".to_vec()));
        assert_eq!(decompress(b"\x00a\x20\x00", 4), Ok(b"aaaa".to_vec()));
        assert_eq!(decompress(b"\x00a\xe0\xff\x00", 265), Ok(vec![b'a'; 265]));
        assert_eq!(decompress(b"", 0), Ok(Vec::new()));
    }

    /// Lengths that do not hold, truncation at every byte, places before the start.
    #[test]
    fn what_does_not_hold_is_refused() {
        for (bytes, length) in [
            (&b"\x02abc"[..], 4),
            (b"\x02abc", usize::MAX),
            (b"\x02ab", 3),
            (b"\x00a\x20", 4),
            (b"\x00a\xe0\xff", 265),
            (b"\x00a\xe0", 265),
            (b"\x20\x00", 3),
            (b"\x00a\x20\x01", 4),
        ] {
            assert_eq!(decompress(bytes, length), Err(Malformed), "{bytes:?}");
        }
    }
}
