//! What goes wrong with configuration: at start, told to an operator; at run time, told to a client in redis-server's words.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line, counted from 1, of a file.
    #[expect(missing_docs, reason = "the variant's doc says it")]
    File { path: PathBuf, line: usize },
    /// A line, counted from 1, of standard input.
    #[expect(missing_docs, reason = "the variant's doc says it")]
    Stdin { line: usize },
    /// The command line.
    Argument,
    /// An environment variable.
    Environment,
    /// All of them together.
    Whole,
}

/// Why the server does not start: the place, what stands there, what is wrong and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it stands.
    pub origin: Origin,
    /// What stands there, without secrets.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { path, line: 0 } => {
                write!(f, "cannot read configuration file {}", path.display())?
            }
            Origin::File { path, line } => {
                write!(f, "bad configuration in {}, line {line}", path.display())?
            }
            Origin::Stdin { line: 0 } => {
                f.write_str("cannot read configuration from standard input")?
            }
            Origin::Stdin { line } => {
                write!(f, "bad configuration on standard input, line {line}")?
            }
            Origin::Argument => f.write_str("bad configuration on the command line")?,
            Origin::Environment => f.write_str("bad configuration in the environment")?,
            Origin::Whole => f.write_str("bad configuration")?,
        }
        if !self.text.is_empty() {
            write!(f, "\n    {}", self.text)?;
        }
        write!(f, "\n{}", self.why)
    }
}

impl std::error::Error for ConfigError {}

/// Why `CONFIG SET` changed nothing. Display is the error reply, without its leading `-` and its line end; it repeats names as the
/// client sent them, which may hold line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No such parameter.
    Unknown(String),
    /// A value or a parameter was refused.
    #[expect(missing_docs, reason = "the variant's doc says it")]
    Refused { name: String, why: String },
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Unknown(name) => write!(
                f,
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            ),
            SetError::Refused { name, why } => write!(
                f,
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
            ),
        }
    }
}

impl std::error::Error for SetError {}

/// Why `CONFIG REWRITE` left the file as it was. Display is the error reply, as for [`SetError`].
#[derive(Debug)]
pub enum RewriteError {
    /// The server was started without a file.
    NoFile,
    /// The file could not be read or replaced.
    Io(io::Error),
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RewriteError::NoFile => f.write_str("ERR The server is running without a config file"),
            RewriteError::Io(why) => write!(f, "ERR Rewriting config file: {why}"),
        }
    }
}

impl std::error::Error for RewriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RewriteError::NoFile => None,
            RewriteError::Io(why) => Some(why),
        }
    }
}
