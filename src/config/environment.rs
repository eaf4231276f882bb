//! Parameters from environment variables: `QUOIT_MAXMEMORY=60%` is the line `maxmemory 60%`, and `QUOIT_REQUIREPASS_FILE=/run/secrets/x`
//! takes the value from a file, as orchestrators hand out secrets.
//!
//! A name nobody knows ends the start: a limit that was misspelt is a limit that does not hold. But Kubernetes invents variables
//! for every service of a namespace, and for a service called `quoit` they start with `QUOIT_`, one of them being
//! `QUOIT_PORT=tcp://10.0.0.7:6379`. Those are known by their shapes and passed over.

use std::ffi::OsString;
use std::fs;

use super::error::{ConfigError, Origin};
use super::file::Line;
use super::parameters::Row;

const PREFIX: &str = "QUOIT_";
const FILE_SUFFIX: &str = "_FILE";

/// The lines that the variables stand for, in the order of their names.
pub(super) fn lines(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<Line>, ConfigError> {
    let ours = variables.filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    let mut ours: Vec<_> = ours
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .collect();
    ours.sort();
    let lines: Vec<Line> = ours
        .into_iter()
        .filter(|(name, value)| !is_service_link(name, value))
        .map(line)
        .collect::<Result<_, _>>()?;
    let twice = lines
        .windows(2)
        .find(|pair| pair[0].words[0] == pair[1].words[0]);
    match twice {
        Some(pair) => Err(error(
            &pair[1].text,
            "the parameter has a variable and a file; set one of them",
        )),
        None => Ok(lines),
    }
}

fn line((variable, value): (String, OsString)) -> Result<Line, ConfigError> {
    let name = &variable[PREFIX.len()..];
    if let Some((row, known)) = find(name) {
        let value = value
            .into_string()
            .map_err(|_| error(&variable, "the value is not UTF-8"))?;
        let shown = if row.sensitive() { "***" } else { &value };
        let text = format!("{variable}={shown}");
        return Ok(Line {
            origin: Origin::Environment,
            text,
            words: words(row, known, value),
        });
    }
    let Some((row, known)) = name.strip_suffix(FILE_SUFFIX).and_then(find) else {
        return Err(error(&variable, "no parameter has this name"));
    };
    let path = value.to_string_lossy().into_owned();
    let text = format!("{variable}={path}");
    let value = fs::read_to_string(&value)
        .map_err(|why| error(&text, &format!("the file cannot be read: {why}")))?;
    Ok(Line {
        origin: Origin::Environment,
        text,
        words: words(row, known, value.trim_end_matches(['\r', '\n']).into()),
    })
}

fn words(row: Row, name: &str, value: String) -> Vec<String> {
    // `- QUOIT_SAVE=""` in a compose file hands over the quotes. In a password they may be meant.
    let value = if row.kind().is_list() && value == "\"\"" {
        String::new()
    } else {
        value
    };
    vec![name.into(), value]
}

fn find(variable: &str) -> Option<(Row, &'static str)> {
    let same = |name: &&str| {
        name.len() == variable.len()
            && name
                .bytes()
                .zip(variable.bytes())
                .all(|(a, b)| shout(a) == b)
    };
    Row::all().find_map(|row| row.names().find(same).map(|name| (row, name)))
}

fn shout(byte: u8) -> u8 {
    if byte == b'-' {
        b'_'
    } else {
        byte.to_ascii_uppercase()
    }
}

/// Whether Kubernetes made the variable: `<SERVICE>_SERVICE_HOST`, `_SERVICE_PORT[_NAME]`, `_PORT=tcp://...`, `_PORT_6379_TCP[_...]`.
fn is_service_link(name: &str, value: &OsString) -> bool {
    let url = value.to_str().is_some_and(|value| {
        ["tcp://", "udp://", "sctp://"]
            .iter()
            .any(|scheme| value.starts_with(scheme))
    });
    let port_of = |rest: &str| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0
            && ["_TCP", "_UDP", "_SCTP"]
                .iter()
                .any(|protocol| rest[digits..].starts_with(protocol))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && url
        || name
            .split_once("_PORT_")
            .is_some_and(|(_, rest)| port_of(rest))
}

fn error(text: &str, why: &str) -> ConfigError {
    ConfigError {
        origin: Origin::Environment,
        text: text.into(),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TempDir;
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Vec<Vec<String>>, ConfigError> {
        let lines = lines(
            variables
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        )?;
        Ok(lines.into_iter().map(|line| line.words).collect())
    }

    #[test]
    fn names_become_parameters() {
        // Aim: dashes, aliases, a name that has an underscore of its own; other variables are not ours.
        let variables = [
            ("PATH", "/bin"),
            ("QUOIT", "x"),
            ("QUOIT_MAXMEMORY_POLICY", "allkeys-lru"),
            ("QUOIT_LUA_TIME_LIMIT", "7"),
            ("QUOIT_SERVER_CPULIST", "0-1"),
            ("QUOIT_TLS_CERT_FILE", "/a"),
            ("QUOIT_SAVE", "\"\""),
        ];
        let expected = [
            ["lua-time-limit", "7"],
            ["maxmemory-policy", "allkeys-lru"],
            ["save", ""],
            ["server_cpulist", "0-1"],
            ["tls-cert-file", "/a"],
        ];
        assert_eq!(
            read(&variables),
            Ok(expected
                .map(|line| line.map(String::from).to_vec())
                .to_vec())
        );
    }

    #[test]
    fn values_from_files() {
        // Aim: the line end an editor adds is not part of the password; the password is in no message.
        let dir = TempDir::new("env");
        let path = dir.write("secret", "hunter2 \r\n");
        let path = path.to_str().expect("the path is ASCII");
        assert_eq!(
            read(&[("QUOIT_REQUIREPASS_FILE", path)]),
            Ok(vec![vec!["requirepass".into(), "hunter2 ".into()]])
        );
        let both = read(&[("QUOIT_REQUIREPASS", "x"), ("QUOIT_REQUIREPASS_FILE", path)])
            .expect_err("one too many");
        assert_eq!(
            both.why,
            "the parameter has a variable and a file; set one of them"
        );
        let missing =
            read(&[("QUOIT_REQUIREPASS_FILE", "/nowhere/x")]).expect_err("there is no such file");
        assert_eq!(missing.text, "QUOIT_REQUIREPASS_FILE=/nowhere/x");
        assert!(
            missing
                .why
                .starts_with("the file cannot be read: No such file"),
            "{}",
            missing.why
        );
    }

    #[test]
    fn unknown_names_end_the_start() {
        for name in [
            "QUOIT_MAXMEMROY",
            "QUOIT_",
            "QUOIT_maxmemory",
            "QUOIT_INCLUDE",
            "QUOIT__FILE",
        ] {
            assert_eq!(
                read(&[(name, "1")]).expect_err(name).why,
                "no parameter has this name"
            );
        }
    }

    #[test]
    fn kubernetes_service_links_are_passed_over() {
        let links = [
            ("QUOIT_SERVICE_HOST", "10.0.0.7"),
            ("QUOIT_SERVICE_PORT", "6379"),
            ("QUOIT_SERVICE_PORT_REDIS", "6379"),
            ("QUOIT_PORT", "tcp://10.0.0.7:6379"),
            ("QUOIT_PORT_6379_TCP", "tcp://10.0.0.7:6379"),
            ("QUOIT_PORT_6379_TCP_PROTO", "tcp"),
            ("QUOIT_METRICS_PORT_9121_TCP_ADDR", "10.0.0.8"),
            ("QUOIT_METRICS_PORT", "tcp://10.0.0.8:9121"),
        ];
        assert_eq!(read(&links), Ok(vec![]));
        assert_eq!(
            read(&[("QUOIT_PORT", "7000")]),
            Ok(vec![vec!["port".into(), "7000".into()]])
        );
    }
}
