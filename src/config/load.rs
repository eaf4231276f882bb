//! Joins the sources of configuration into the settings a server starts with: defaults, then the file, then the environment, then the
//! command line. A later one wins, so an image brings a file, a deployment sets variables, and a person at a prompt has the last word.
//!
//! Within one source lines may add up (`save`, `rename-command`); a `save` of a later source starts anew.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;

use super::arguments::{self, Invocation, Sources};
use super::cgroup::Machine;
use super::environment;
use super::error::{ConfigError, Origin};
use super::file::{self, Line};
use super::parameters::{Kind, Row};
use super::settings::Settings;

/// What the sources say.
pub(super) enum Outcome {
    /// Start the server.
    Run(Box<Start>),
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

/// What a server starts with.
pub(super) struct Start {
    /// The settings.
    pub(super) settings: Settings,
    /// The configuration file, as an absolute path: the working directory may change.
    pub(super) file: Option<PathBuf>,
    /// Names and values that came from the environment.
    pub(super) held: Vec<(&'static str, String)>,
}

/// Reads every source. `words` are those after the program's name.
pub(super) fn load(
    words: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
    stdin: &mut dyn Read,
    machine: Machine,
) -> Result<Outcome, ConfigError> {
    match arguments::parse(words)? {
        Invocation::Version => Ok(Outcome::Version),
        Invocation::Help => Ok(Outcome::Help),
        Invocation::Run(sources) => start(sources, environment::lines(variables)?, stdin, machine)
            .map(|start| Outcome::Run(Box::new(start))),
    }
}

fn start(
    sources: Sources,
    variables: Vec<Line>,
    stdin: &mut dyn Read,
    machine: Machine,
) -> Result<Start, ConfigError> {
    let file = sources
        .file
        .map(|path| std::path::absolute(&path).unwrap_or(path));
    let mut lines = file.as_deref().map_or_else(|| Ok(Vec::new()), file::read)?;
    if sources.stdin {
        lines.extend(read_stdin(stdin)?);
    }
    let mut settings = Settings::new(machine);
    apply(&mut settings, &lines)?;
    apply(&mut settings, &variables)?;
    let rows = variables
        .iter()
        .filter_map(|line| Row::find(&line.words[0]));
    let held = rows
        .map(|(row, _)| (row.name(), row.value(&settings)))
        .collect();
    apply(&mut settings, &sources.lines)?;
    settings.check().map_err(|(name, why)| ConfigError {
        origin: Origin::Whole,
        text: name.into(),
        why,
    })?;
    Ok(Start {
        settings,
        file,
        held,
    })
}

/// What a file says by itself, read with its includes. Lines that are no good (any more) are passed over.
pub(super) fn from_lines(lines: &[Line], machine: Machine) -> Settings {
    let mut settings = Settings::new(machine);
    let mut points = Vec::new();
    for line in lines {
        // The caller rewrites such a file; the start of the server is where it was judged.
        let _ = apply_line(&mut settings, line, &mut points);
    }
    settings
}

/// The lines of one source.
fn apply(settings: &mut Settings, lines: &[Line]) -> Result<(), ConfigError> {
    let mut points = Vec::new();
    lines
        .iter()
        .try_for_each(|line| apply_line(settings, line, &mut points))
}

/// `points` are the save points of the source's lines so far.
fn apply_line<'a>(
    settings: &mut Settings,
    line: &'a Line,
    points: &mut Vec<&'a str>,
) -> Result<(), ConfigError> {
    let error = |why| ConfigError {
        origin: line.origin.clone(),
        text: file::shown(&line.text),
        why,
    };
    let (name, value) = line.words.split_first().expect("a line has a name");
    let Some((row, _)) = Row::find(name) else {
        return Err(error(unknown(name)));
    };
    let mut words: Vec<&str> = value.iter().map(String::as_str).collect();
    if row.kind().is_list() {
        words = match words[..] {
            [] => vec![""],
            // A list may be quoted as a whole: --save "900 1 300 10".
            [list] if !list.is_empty() => list.split(' ').collect(),
            _ => words,
        };
    }
    if row.kind() == Kind::SavePoints {
        if words == [""] {
            points.clear();
        } else {
            points.extend(words);
        }
        words = if points.is_empty() {
            vec![""]
        } else {
            points.clone()
        };
    }
    row.set(settings, &words)
        .map_err(|why| error(explain(row, &why)))
}

fn explain(row: Row, why: &str) -> String {
    let refused = matches!(row, Row::Ignored(row) if row.refused == Some(why));
    let expected = if refused {
        String::new()
    } else {
        format!("; expected {}", row.kind().expected())
    };
    format!("{}: {why}{expected}", row.name())
}

fn unknown(name: &str) -> String {
    let distance = |known: &&str| distance(&name.to_ascii_lowercase(), known);
    let close = Row::all()
        .flat_map(Row::names)
        .filter(|known| distance(known) <= 2)
        .min_by_key(distance);
    let hint = close.map_or_else(String::new, |close| format!("; did you mean {close}?"));
    format!("there is no parameter {name}{hint}")
}

/// Edits (insert, drop, replace a byte) between two names. Names are short: 64 bytes, beyond which nothing is close.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 || a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn read_stdin(stdin: &mut dyn Read) -> Result<Vec<Line>, ConfigError> {
    let mut text = Vec::new();
    let unreadable = |why: std::io::Error| ConfigError {
        origin: Origin::Stdin { line: 0 },
        text: String::new(),
        why: why.to_string(),
    };
    stdin.read_to_end(&mut text).map_err(unreadable)?;
    file::parse(&text, |line| Origin::Stdin { line })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MACHINE, TempDir};
    use super::*;

    fn run(words: &[&str], variables: &[(&str, &str)], stdin: &str) -> Result<Start, String> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        match load(
            words.iter().map(OsString::from),
            variables,
            &mut stdin.as_bytes(),
            MACHINE,
        ) {
            Ok(Outcome::Run(start)) => Ok(*start),
            Ok(_) => panic!("the server was to start"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn failure(words: &[&str], variables: &[(&str, &str)], stdin: &str) -> String {
        run(words, variables, stdin)
            .err()
            .expect("the start was to fail")
    }

    fn value(start: &Start, name: &str) -> String {
        Row::find(name)
            .expect("the parameter exists")
            .0
            .value(&start.settings)
    }

    #[test]
    fn later_sources_win() {
        // Aim: arguments over environment over standard input and file over defaults.
        let dir = TempDir::new("load");
        let path = dir.write("q.conf", "port 1\nhz 11\ntimeout 12\ntcp-backlog 13\n");
        let words = [
            path.to_str().expect("the path is ASCII"),
            "--port",
            "4",
            "-",
        ];
        let start = run(
            &words,
            &[("QUOIT_PORT", "3"), ("QUOIT_HZ", "31")],
            "port 2\nhz 21\ntimeout 22\n",
        )
        .expect("all is good");
        let values =
            ["port", "hz", "timeout", "tcp-backlog", "databases"].map(|name| value(&start, name));
        assert_eq!(values, ["4", "31", "22", "13", "16"]);
        assert_eq!(start.file, Some(path));
        assert_eq!(start.held, [("hz", "31".to_string()), ("port", "3".into())]);
    }

    #[test]
    fn lines_that_add_up() {
        // Aim: save points add up within a source and start anew in the next; renamed commands and buffer classes add up throughout.
        let stdin = "save 900 1\nsave 300 10\nrename-command FLUSHALL \"\"\nclient-output-buffer-limit normal 1kb 0 0\n";
        let start = run(&["-"], &[], stdin).expect("all is good");
        assert_eq!(value(&start, "save"), "900 1 300 10");
        let words = [
            "-",
            "--save",
            "60 1",
            "--rename-command",
            "DEBUG",
            "dbg",
            "--client-output-buffer-limit",
            "pubsub",
            "0",
            "0",
            "0",
        ];
        let start = run(&words, &[], stdin).expect("all is good");
        assert_eq!(value(&start, "save"), "60 1");
        assert_eq!(
            start.settings.rename_command,
            [
                ("flushall".to_string(), String::new()),
                ("debug".into(), "dbg".into())
            ]
        );
        assert_eq!(
            value(&start, "client-output-buffer-limit"),
            "normal 1024 0 0 slave 268435456 67108864 60 pubsub 0 0 0"
        );
        for words in [&["--save"][..], &["--save", ""]] {
            assert_eq!(
                value(&run(words, &[], "").expect("all is good"), "save"),
                ""
            );
        }
        assert_eq!(
            value(
                &run(&["-"], &[("QUOIT_SAVE", "")], stdin).expect("all is good"),
                "save"
            ),
            ""
        );
        assert_eq!(
            value(
                &run(&["-"], &[], "save 1 1\nsave \"\"\nsave 2 2\n").expect("all is good"),
                "save"
            ),
            "2 2"
        );
    }

    #[test]
    fn messages_for_operators() {
        // Aim: place, line, reason, expectation; a near miss is named; no password is repeated.
        let dir = TempDir::new("messages");
        let path = dir.write("q.conf", "port 1\nmaxmemory lots\n");
        let path = path.to_str().expect("the path is ASCII");
        let expected = format!(
            "bad configuration in {path}, line 2\n    maxmemory lots\n\
             maxmemory: argument must be a memory value; expected a size such as 100mb or 1gb, or a percentage such as 60%"
        );
        assert_eq!(failure(&[path], &[], ""), expected);
        assert_eq!(
            failure(&["--maxmemroy", "1"], &[], ""),
            "bad configuration on the command line\n    --maxmemroy 1\nthere is no parameter maxmemroy; did you mean maxmemory?"
        );
        assert_eq!(
            failure(&["--frobnicate"], &[], ""),
            "bad configuration on the command line\n    --frobnicate\nthere is no parameter frobnicate"
        );
        assert_eq!(
            failure(&["-"], &[], "requirepass hunter2 x\n"),
            "bad configuration on standard input, line 1\n    requirepass ***\n\
             requirepass: wrong number of arguments; expected one word, or text in quotes"
        );
        assert_eq!(
            failure(&[], &[("QUOIT_PORT", "70000")], ""),
            "bad configuration in the environment\n    QUOIT_PORT=70000\n\
             port: argument must be between 0 and 65535 inclusive; expected a whole number from 0 to 65535"
        );
        assert_eq!(
            failure(&["--tls-port", "6380"], &[], ""),
            "bad configuration on the command line\n    --tls-port 6380\ntls-port: TLS is not built yet: end it in front of this server"
        );
        assert_eq!(
            failure(&["--port", "0"], &[], ""),
            "bad configuration\n    port\nthere is nowhere to listen: port is 0 and unixsocket is not set"
        );
        assert!(run(&["--port", "0", "--unixsocket", "/tmp/x"], &[], "").is_ok());
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("port", "port", 0),
            ("prot", "port", 2),
            ("hx", "hz", 1),
            ("maxmemor", "maxmemory", 1),
            ("a", "abcd", usize::MAX),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
