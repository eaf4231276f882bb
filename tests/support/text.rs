//! Requests and replies as text that people read: in scripts, and where a test fails.

use super::client::Value;

/// A line of words as redis-cli takes them: blanks separate, double quotes know `\n \r \t \a \b \\ \" \xHH`, single quotes
/// only `\'`. `None` when a quote does not close.
pub fn words(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut chars = line.bytes().peekable();
    loop {
        while chars.next_if(|byte| byte.is_ascii_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(words);
        }
        let mut word = Vec::new();
        let mut quote = None;
        loop {
            match (quote, chars.next()) {
                (None, None) => break,
                (Some(_), None) => return None,
                (None, Some(byte)) if byte.is_ascii_whitespace() => break,
                (None, Some(byte @ (b'"' | b'\''))) => quote = Some(byte),
                (Some(open), Some(byte)) if open == byte => quote = None,
                (Some(b'"'), Some(b'\\')) => word.push(match chars.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [chars.next()?, chars.next()?];
                        u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                    }
                    byte => byte,
                }),
                (_, Some(byte)) => word.push(byte),
            }
        }
        words.push(word);
    }
}

/// A reply in one line: `+OK`, `-ERR text`, `:1`, `"bulk"`, `nil`, `nil-array`, `null`, `[a, b]`, `{key: value}`, `~[set]`,
/// `>[push]`, `,1.5`, `#t`, `(123`, `=txt:"verbatim"`.
pub fn show(value: &Value) -> String {
    match value {
        Value::Simple(bytes) => format!("+{}", plain(bytes)),
        Value::Error(bytes) => format!("-{}", plain(bytes)),
        Value::Int(int) => format!(":{int}"),
        Value::Bulk(bytes) => quoted(bytes),
        Value::NilBulk => "nil".to_owned(),
        Value::NilArray => "nil-array".to_owned(),
        Value::Null => "null".to_owned(),
        Value::Array(items) => format!("[{}]", list(items)),
        Value::Set(items) => format!("~[{}]", list(items)),
        Value::Push(items) => format!(">[{}]", list(items)),
        Value::Map(pairs) => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{}: {}", show(key), show(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Double(bytes) => format!(",{}", plain(bytes)),
        Value::Bool(true) => "#t".to_owned(),
        Value::Bool(false) => "#f".to_owned(),
        Value::BigNumber(bytes) => format!("({}", plain(bytes)),
        Value::Verbatim(bytes) => format!("={}:{}", plain(&bytes[..3]), quoted(&bytes[4..])),
    }
}

/// A request in one line.
pub fn show_request<A: AsRef<[u8]>>(arguments: &[A]) -> String {
    let words: Vec<String> = arguments.iter().map(|word| short(word.as_ref())).collect();
    words.join(" ")
}

fn short(word: &[u8]) -> String {
    let is_plain = !word.is_empty()
        && word
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !b"\"'\\".contains(byte));
    if is_plain {
        String::from_utf8_lossy(word).into_owned()
    } else {
        quoted(word)
    }
}

fn list(items: &[Value]) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes in double quotes; a long text is cut in the middle, with its length.
fn quoted(bytes: &[u8]) -> String {
    if bytes.len() > 4096 {
        return format!(
            "{}...{} bytes...{}",
            quoted(&bytes[..64]),
            bytes.len(),
            quoted(&bytes[bytes.len() - 64..])
        );
    }
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}
