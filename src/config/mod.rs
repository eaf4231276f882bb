//! Configuration: what can be set, where it comes from, and how it changes while the server runs.
//!
//! ```text
//! defaults < file (includes, stdin) < environment < command line        CONFIG SET
//!        \___________ lines: name, words ___________/                      |
//!                             v                                            v
//!                 parameters.rs, ignored.rs: one row per parameter: check, set, show
//!                                            v
//!                      Settings: one immutable snapshot behind an ArcSwap
//! ```
//!
//! Readers take a snapshot once per batch of commands and never wait. A change clones the snapshot, sets every named parameter on the
//! clone, lets the rest of the server apply what needs more than a new number, and only then swaps: all or nothing, as clients of
//! `CONFIG SET` expect. Changes wait for each other on one mutex.
//!
//! What may change at run time is narrower than the protocol allows: no file path, whatever `enable-protected-configs` says.

mod arguments;
mod cgroup;
mod environment;
mod error;
mod file;
mod ignored;
mod load;
mod parameters;
mod ring;
mod settings;
#[cfg(test)]
mod testing;
mod units;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use cgroup::{Machine, cpu_quota, memory_limit};
pub use error::{ConfigError, Origin, RewriteError, SetError};
pub use ignored::{IGNORED, Ignored};
pub use parameters::{Change, Kind, PARAMETERS, Parameter, Row};
pub use ring::{BUS_PORT_OFFSET, ClusterFace, EndpointType, Pin, Seed, host_port};
pub use settings::{
    Access, BindAddress, KeyEvents, LogLevel, MaxmemoryPolicy, Memory, OutputLimit, OutputLimits,
    Secret, Settings,
};

/// The configuration of a running server.
pub struct Config {
    current: ArcSwap<Settings>,
    /// Counts the snapshots. Written after `current`, so that who sees a new count sees a new snapshot.
    version: AtomicU64,
    file: Option<PathBuf>,
    /// What the environment decides (row, value): `CONFIG REWRITE` leaves it there while it still holds, secrets above all.
    held: Vec<(&'static str, String)>,
    /// Held from the copy of a snapshot to its replacement, so that no change is lost, and while the file is rewritten.
    /// `apply` runs under it: it may take other locks, but must not come back here.
    changes: Mutex<()>,
}

/// What the command line asks for.
pub enum Loaded {
    /// Start a server.
    Run(Box<Config>),
    /// Print [`version_text`] and exit with success.
    Version,
    /// Print [`help_text`] and exit with success.
    Help,
}

impl Config {
    /// Reads the command line (without the program's name), the environment, and the files they name. Reads standard input when the
    /// command line says so, and the machine's limits.
    pub fn load(
        words: impl IntoIterator<Item = impl Into<OsString>>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigError> {
        let words = words.into_iter().map(Into::into);
        let variables = variables.into_iter();
        let outcome = load::load(words, variables, &mut io::stdin(), Machine::probe())?;
        Ok(match outcome {
            load::Outcome::Version => Loaded::Version,
            load::Outcome::Help => Loaded::Help,
            load::Outcome::Run(start) => {
                let load::Start {
                    settings,
                    file,
                    held,
                } = *start;
                Loaded::Run(Box::new(Config {
                    file,
                    held,
                    ..Config::new(settings)
                }))
            }
        })
    }

    /// The configuration of a server that is started by a program: no file, no environment.
    pub fn new(settings: Settings) -> Config {
        Config {
            current: ArcSwap::from_pointee(settings),
            version: AtomicU64::new(0),
            file: None,
            held: Vec::new(),
            changes: Mutex::new(()),
        }
    }

    /// How many snapshots there were before the present one: cheaper to ask than for the snapshot.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The snapshot of this moment.
    pub fn settings(&self) -> arc_swap::Guard<Arc<Settings>> {
        self.current.load()
    }

    /// The configuration file, as an absolute path.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Parameters without effect that have another value than their default: what the log names at start.
    pub fn ignored(&self) -> Vec<&'static str> {
        let settings = self.current.load();
        Row::all()
            .filter(|row| !row.has_effect() && row.is_set(&settings))
            .map(Row::name)
            // A node of a ring keeps there who it is.
            .filter(|name| !(settings.cluster_enabled && *name == "dir"))
            .collect()
    }

    /// `CONFIG GET`: names and values, each name once. A pattern without wildcards is a name and comes back as it was written.
    /// `glob(pattern, name)` matches; both are lower case.
    pub fn get(&self, patterns: &[&[u8]], glob: fn(&[u8], &[u8]) -> bool) -> Vec<(String, String)> {
        let settings = self.current.load();
        let mut found = Vec::new();
        let mut known = BTreeSet::new();
        for pattern in patterns {
            let wanted = pattern.to_ascii_lowercase();
            let exact = !wanted.iter().any(|byte| b"*?[".contains(byte));
            for row in Row::all().filter(|row| row.change() != Change::Directive) {
                let matching = row.names().filter(|name| {
                    if exact {
                        name.as_bytes() == wanted
                    } else {
                        glob(&wanted, name.as_bytes())
                    }
                });
                for name in matching.filter(|name| known.insert(*name)) {
                    let shown = if exact {
                        String::from_utf8_lossy(pattern).into_owned()
                    } else {
                        name.into()
                    };
                    found.push((shown, row.value(&settings)));
                }
            }
        }
        found
    }

    /// `CONFIG SET`: all of the pairs or none. `apply` gets the present and the next snapshot and does what a new number alone does
    /// not; its error names a parameter and says why, must leave things as they were, and ends the change.
    pub fn set(
        &self,
        pairs: &[(&[u8], &[u8])],
        apply: impl FnOnce(&Settings, &Settings) -> Result<(), (String, String)>,
    ) -> Result<(), SetError> {
        let rows = settable(pairs)?;
        let _changes = self.changes.lock();
        let old = self.current.load_full();
        let mut new = Settings::clone(&old);
        for ((row, name), (_, value)) in rows.iter().zip(pairs) {
            let text =
                std::str::from_utf8(value).map_err(|_| "argument must be UTF-8 text".to_string());
            text.and_then(|text| row.set_text(&mut new, text))
                .map_err(|why| refused(name, why))?;
        }
        new.check().map_err(|(name, why)| refused(name, why))?;
        apply(&old, &new).map_err(|(name, why)| refused(&name, why))?;
        self.current.store(Arc::new(new));
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// `CONFIG REWRITE`: makes the file say what the settings say. Reads and writes files: not for a thread that must not wait.
    pub fn rewrite(&self) -> Result<(), RewriteError> {
        let path = self.file.as_deref().ok_or(RewriteError::NoFile)?;
        let _changes = self.changes.lock();
        let settings = self.current.load();
        let original = match std::fs::read_to_string(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(RewriteError::Io)?,
        };
        // Includes that cannot be read now were readable at start: without them too much is written, which does no harm.
        let lines = file::read(path).unwrap_or_default();
        let baseline = load::from_lines(&lines, settings.machine);
        let text = file::rewrite(&original, &baseline, &settings, &self.held);
        file::replace(path, &text).map_err(RewriteError::Io)
    }
}

/// The rows of the pairs, each with the name it was found by, in the order of redis-server's checks: the first pair that is unknown,
/// fixed or repeated decides. An alias is not a repetition of its parameter.
fn settable(pairs: &[(&[u8], &[u8])]) -> Result<Vec<(Row, &'static str)>, SetError> {
    let mut rows: Vec<(Row, &'static str)> = Vec::new();
    for (sent, _) in pairs {
        let sent = String::from_utf8_lossy(sent);
        let found = Row::find(&sent).filter(|(row, _)| row.change() != Change::Directive);
        let Some((row, name)) = found else {
            return Err(SetError::Unknown(sent.into()));
        };
        match row.change() {
            Change::Immutable => return Err(refused(&sent, "can't set immutable config".into())),
            Change::Protected => return Err(refused(&sent, "can't set protected config".into())),
            Change::Mutable | Change::Directive => {}
        }
        if rows.iter().any(|(_, known)| *known == name) {
            return Err(refused(&sent, "duplicate parameter".into()));
        }
        rows.push((row, name));
    }
    Ok(rows)
}

fn refused(name: &str, why: String) -> SetError {
    SetError::Refused {
        name: name.into(),
        why,
    }
}

/// What `--version` prints.
pub fn version_text() -> String {
    format!(
        "Quoit server v={} bits={}\n",
        env!("CARGO_PKG_VERSION"),
        usize::BITS
    )
}

/// What `--help` prints: the grammar, and every parameter with effect.
pub fn help_text() -> String {
    let mut text = String::from(
        "Usage: quoit [/path/to/quoit.conf] [--parameter value ...] [-]\n\
         \x20      quoit -v | --version\n\
         \x20      quoit -h | --help\n\n\
         A lone - reads configuration lines from standard input. Files of redis-server are understood.\n\
         Each parameter can also be an environment variable: QUOIT_MAXMEMORY=60%, or QUOIT_REQUIREPASS_FILE=/path for its value in a file.\n\
         The command line wins over the environment, the environment over the file.\n\nParameters:\n",
    );
    for row in PARAMETERS {
        let default = if row.default.is_empty() {
            "\"\""
        } else {
            row.default
        };
        let note = if Row::Parameter(row).has_effect() {
            ""
        } else {
            " Accepted without effect."
        };
        write!(
            text,
            "  --{} {default}\n        {}{note}\n",
            row.name, row.doc
        )
        .expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::testing::{MACHINE, TempDir};
    use super::*;

    fn config() -> Config {
        Config::new(Settings::new(MACHINE))
    }

    /// Enough of a glob for these tests: one leading or trailing `*`.
    fn glob(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            b"*" => true,
            [b'*', end @ ..] => name.ends_with(end),
            [start @ .., b'*'] => name.starts_with(start),
            _ => false,
        }
    }

    fn get(config: &Config, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        config
            .get(&patterns, glob)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    fn set(config: &Config, pairs: &[(&str, &str)]) -> Result<(), String> {
        let pairs: Vec<(&[u8], &[u8])> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        config
            .set(&pairs, |_, _| Ok(()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn get_patterns() {
        // Aim: several patterns, no name twice, any case, aliases beside their parameter, directives hidden.
        let config = config();
        assert_eq!(
            get(&config, &["timeout", "HZ*", "TIMEOUT", "*out"])[..2],
            ["timeout=0", "hz=10"]
        );
        assert_eq!(
            get(&config, &["Slave-Read-Only", "replica-read-only"]),
            ["Slave-Read-Only=yes", "replica-read-only=yes"]
        );
        assert_eq!(
            get(&config, &["hash-max-ziplist-*"]),
            ["hash-max-ziplist-entries=512", "hash-max-ziplist-value=64"]
        );
        assert_eq!(
            get(
                &config,
                &["user", "rename-command", "include", "foo", "foo*"]
            ),
            [""; 0]
        );
        assert_eq!(
            get(&config, &["*"]).len(),
            Row::all()
                .filter(|row| row.change() != Change::Directive)
                .flat_map(Row::names)
                .count()
        );
        let asked = [
            "save",
            "appendonly",
            "maxmemory",
            "maxmemory-policy",
            "databases",
            "notify-keyspace-events",
            "requirepass",
        ];
        let answers = [
            "save=",
            "appendonly=no",
            "maxmemory=0",
            "maxmemory-policy=noeviction",
            "databases=16",
            "notify-keyspace-events=",
            "requirepass=",
        ];
        assert_eq!(get(&config, &asked), answers);
    }

    #[test]
    fn set_refusals() {
        // Aim: texts and precedence as redis-server 7.0.15 gives them.
        let config = config();
        for (pairs, expected) in [
            (
                &[("foo", "1"), ("databases", "2")][..],
                "ERR Unknown option or number of arguments for CONFIG SET - 'foo'",
            ),
            (
                &[("databases", "2"), ("foo", "1")],
                "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
            ),
            (
                &[("timeout", "x"), ("Databases", "2")],
                "ERR CONFIG SET failed (possibly related to argument 'Databases') - can't set immutable config",
            ),
            (
                &[("dir", "/")],
                "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
            ),
            (
                &[("dbfilename", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'dbfilename') - can't set protected config",
            ),
            (
                &[("logfile", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'logfile') - can't set immutable config",
            ),
            (
                &[("TIMEOUT", "5"), ("Timeout", "4")],
                "ERR CONFIG SET failed (possibly related to argument 'Timeout') - duplicate parameter",
            ),
            (
                &[("TIMEOUT", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer",
            ),
            (
                &[("SLAVE-read-only", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'slave-read-only') - argument must be 'yes' or 'no'",
            ),
            (
                &[("rename-command", "a b")],
                "ERR Unknown option or number of arguments for CONFIG SET - 'rename-command'",
            ),
            (
                &[("user", "x")],
                "ERR Unknown option or number of arguments for CONFIG SET - 'user'",
            ),
            (
                &[("include", "x")],
                "ERR Unknown option or number of arguments for CONFIG SET - 'include'",
            ),
        ] {
            assert_eq!(set(&config, pairs), Err(expected.into()));
        }
        let bytes = config
            .set(&[(b"requirepass", b"\xff")], |_, _| Ok(()))
            .expect_err("it is no text")
            .to_string();
        assert!(bytes.ends_with("argument must be UTF-8 text"));
    }

    #[test]
    fn no_path_changes_at_run_time() {
        // Aim: COMPAT D1. The first step of taking over a host is CONFIG SET dir.
        let config = config();
        for path in [
            "dir",
            "dbfilename",
            "logfile",
            "unixsocket",
            "pidfile",
            "aclfile",
            "appendfilename",
            "appenddirname",
            "cluster-config-file",
        ] {
            assert!(
                set(&config, &[(path, "x")]).is_err_and(|error| error.contains("can't set")),
                "{path}"
            );
        }
    }

    #[test]
    fn set_all_or_nothing() {
        // Aim: one bad value, or a refusal of the server, leaves everything; apply sees both snapshots before the swap.
        let config = config();
        assert!(set(&config, &[("timeout", "5"), ("hz", "x")]).is_err());
        assert_eq!(get(&config, &["timeout", "hz"]), ["timeout=0", "hz=10"]);
        let refusal = config.set(&[(b"maxclients", b"99999")], |old, new| {
            assert_eq!(
                (old.maxclients, new.maxclients, config.settings().maxclients),
                (10000, 99999, 10000)
            );
            Err(("maxclients".into(), "too many".into()))
        });
        let text = "ERR CONFIG SET failed (possibly related to argument 'maxclients') - too many";
        assert_eq!(refusal.map_err(|error| error.to_string()), Err(text.into()));
        assert_eq!(get(&config, &["maxclients"]), ["maxclients=10000"]);
        let pairs = [
            ("timeout", "5"),
            ("list-max-ziplist-size", "10"),
            ("list-max-listpack-size", "7"),
            ("list-compress-depth", "2"),
            ("appendonly", "yes"),
        ];
        assert_eq!(set(&config, &pairs), Ok(()));
        assert_eq!(
            get(&config, &["timeout", "list-max-*", "appendonly"]),
            [
                "timeout=5",
                "list-max-listpack-size=7",
                "list-max-ziplist-size=7",
                "appendonly=yes"
            ]
        );
        assert_eq!(config.ignored(), ["list-compress-depth", "appendonly"]);
    }

    #[test]
    fn rewrite_the_file() {
        // Aim: the whole way: start with a file that includes another, change, rewrite, start again.
        let dir = TempDir::new("rewrite");
        let other = dir.write("other.conf", "timeout 5\n");
        let path = dir.write(
            "q.conf",
            &format!("# hello\nhz 20\ninclude {}\n", other.display()),
        );
        let load = || match Config::load([&path], []) {
            Ok(Loaded::Run(config)) => config,
            _ => panic!("the file is good"),
        };
        let config = load();
        assert_eq!(
            set(
                &config,
                &[("timeout", "0"), ("hz", "10"), ("maxmemory", "2mb")]
            ),
            Ok(())
        );
        config.rewrite().expect("the directory can be written");
        let expected = format!(
            "# hello\ninclude {}\n\n# Added by CONFIG REWRITE\ntimeout 0\nhz 10\nmaxmemory 2mb\n",
            other.display()
        );
        assert_eq!(std::fs::read_to_string(&path).expect("it exists"), expected);
        assert_eq!(
            get(&load(), &["timeout", "hz", "maxmemory"]),
            ["timeout=0", "hz=10", "maxmemory=2097152"]
        );
        let without = super::Config::new(Settings::new(MACHINE))
            .rewrite()
            .expect_err("there is no file")
            .to_string();
        assert_eq!(without, "ERR The server is running without a config file");
    }

    #[test]
    fn help_names_every_parameter() {
        let text = help_text();
        assert!(
            PARAMETERS
                .iter()
                .all(|row| text.contains(&format!("  --{} ", row.name)))
        );
        assert!(version_text().starts_with("Quoit server v="));
    }
}
