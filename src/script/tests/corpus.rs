//! The corpus: each script against what redis-server answered.

use super::*;

/// Undoes what the corpus writes as `\n`, `\r`, `\t`, `\\` and `\xHH`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let (unescaped, taken) = match rest {
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', b'\\', ..] => (b'\\', 2),
            [b'\\', b'x', high, low, ..] => {
                let digit = |byte: u8| (byte as char).to_digit(16).expect("a digit") as u8;
                (digit(*high) << 4 | digit(*low), 4)
            }
            _ => (*byte, 1),
        };
        bytes.push(unescaped);
        rest = &tail[taken - 1..];
    }
    bytes
}

#[test]
fn scripts_answer_as_in_redis() {
    let mut engine = engine();
    let mut protocol = Protocol::Resp2;
    let mut are_functions = false;
    let mut failures = Vec::new();
    let mut count = 0;
    let mut lines = include_str!("corpus.txt").lines();
    while let Some(line) = lines.next() {
        match line {
            "" => continue,
            "# RESP2" => protocol = Protocol::Resp2,
            "# RESP3" => protocol = Protocol::Resp3,
            _ => {}
        }
        if line.starts_with("# ") {
            are_functions |= line.starts_with("# Functions");
            continue;
        }
        let (text, arguments) = line.split_once(" @@ ").unwrap_or((line, "0"));
        let arguments: Vec<&[u8]> = arguments.split(' ').map(str::as_bytes).collect();
        let expected = lines.next().expect("a reply follows each script");
        let expected = expected.strip_prefix("    ").expect("four blanks");
        let run = if are_functions {
            load_and_call
        } else {
            eval_on
        };
        let server = &mut FakeServer::default();
        let reply = run(&mut engine, server, protocol, &unescape(text), &arguments);
        if reply != unescape(expected) {
            let reply = reply.escape_ascii();
            failures.push(format!("{line}\n  ours  {reply}\n  redis {expected}"));
        }
        count += 1;
    }
    assert!(
        failures.is_empty(),
        "{} of {count} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
