//! The command line, in redis-server's grammar, so that existing container commands and unit files need one changed word:
//!
//! ```text
//! quoit [/path/to/quoit.conf] [--parameter value ...]... [-]
//! ```
//!
//! A parameter takes every word up to the next one that starts with `--`; `-` as the first or last word reads configuration lines
//! from standard input. What is read in which order is not decided here (see `mod.rs`).

use std::ffi::OsString;
use std::path::PathBuf;

use super::error::{ConfigError, Origin};
use super::file::Line;

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Invocation {
    /// Start the server.
    Run(Sources),
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

/// Where configuration comes from, as far as the command line says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sources {
    /// The configuration file.
    pub(super) file: Option<PathBuf>,
    /// Whether standard input holds lines.
    pub(super) stdin: bool,
    /// One per `--parameter`.
    pub(super) lines: Vec<Line>,
}

/// Takes the words after the program's name apart.
pub(super) fn parse(words: impl Iterator<Item = OsString>) -> Result<Invocation, ConfigError> {
    let mut words: Vec<OsString> = words.collect();
    match words.first().and_then(|word| word.to_str()) {
        Some("-v" | "--version") => return Ok(Invocation::Version),
        Some("-h" | "--help") => return Ok(Invocation::Help),
        _ => {}
    }
    let mut sources = Sources::default();
    // The path alone may be something else than UTF-8.
    if words
        .first()
        .is_some_and(|word| !word.as_encoded_bytes().starts_with(b"-"))
    {
        sources.file = Some(words.remove(0).into());
    }
    if words.first().is_some_and(|word| word == "-") {
        sources.stdin = true;
        words.remove(0);
    }
    if words.last().is_some_and(|word| word == "-") {
        sources.stdin = true;
        words.pop();
    }
    sources.lines = options(words)?;
    Ok(Invocation::Run(sources))
}

fn options(words: Vec<OsString>) -> Result<Vec<Line>, ConfigError> {
    let mut lines: Vec<Line> = Vec::new();
    for word in words {
        let word = word.into_string().map_err(|_| {
            error(
                lines.last().map_or("", |line| &line.words[0]),
                "the text is not UTF-8",
            )
        })?;
        if let Some(name) = word.strip_prefix("--") {
            if let Some((name, value)) = name.split_once('=') {
                return Err(error(
                    &format!("--{name}=..."),
                    &format!("a value is a word of its own: --{name} {}", hint(value)),
                ));
            }
            lines.push(Line {
                origin: Origin::Argument,
                text: word.clone(),
                words: vec![name.into()],
            });
        } else {
            let line = lines.last_mut().ok_or_else(|| {
                error(
                    &word,
                    "a value without a parameter; parameters start with --",
                )
            })?;
            line.text = format!("{} {word}", line.text);
            line.words.push(word);
        }
    }
    Ok(lines)
}

/// Passwords must not be repeated, so no value is.
fn hint(value: &str) -> &'static str {
    if value.is_empty() { "\"\"" } else { "value" }
}

fn error(text: &str, why: &str) -> ConfigError {
    ConfigError {
        origin: Origin::Argument,
        text: text.into(),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Result<Invocation, ConfigError> {
        parse(words.iter().map(OsString::from))
    }

    fn words(sources: &Sources) -> Vec<Vec<&str>> {
        sources
            .lines
            .iter()
            .map(|line| line.words.iter().map(String::as_str).collect())
            .collect()
    }

    #[test]
    fn file_parameters_and_stdin() {
        // Aim: every part of the grammar at once; `-::1` is a value, not an option.
        let line = [
            "/etc/q.conf",
            "--port",
            "7000",
            "--save",
            "",
            "--bind",
            "127.0.0.1",
            "-::1",
            "--appendonly",
            "-",
        ];
        let Ok(Invocation::Run(sources)) = run(&line) else {
            panic!("the line is good")
        };
        assert_eq!(sources.file, Some(PathBuf::from("/etc/q.conf")));
        assert!(sources.stdin);
        assert_eq!(
            words(&sources),
            [
                vec!["port", "7000"],
                vec!["save", ""],
                vec!["bind", "127.0.0.1", "-::1"],
                vec!["appendonly"]
            ]
        );
        assert_eq!(run(&[]), Ok(Invocation::Run(Sources::default())));
        assert_eq!(
            run(&["-"]),
            Ok(Invocation::Run(Sources {
                stdin: true,
                ..Sources::default()
            }))
        );
    }

    #[test]
    fn help_and_version() {
        for (word, expected) in [
            ("-v", Invocation::Version),
            ("--version", Invocation::Version),
            ("-h", Invocation::Help),
            ("--help", Invocation::Help),
        ] {
            assert_eq!(run(&[word]), Ok(expected));
        }
    }

    #[test]
    fn mistakes() {
        // Aim: the message says what to write instead, and repeats no value that may be a password.
        let why = |words: &[&str]| {
            run(words)
                .map_err(|error| (error.text, error.why))
                .expect_err("the line is bad")
        };
        let expected = (
            "--requirepass=...",
            "a value is a word of its own: --requirepass value",
        );
        assert_eq!(
            why(&["--requirepass=hunter2"]),
            (expected.0.into(), expected.1.into())
        );
        assert_eq!(
            why(&["q.conf", "7000"]).1,
            "a value without a parameter; parameters start with --"
        );
        assert_eq!(why(&["-x"]).0, "-x");
    }
}
