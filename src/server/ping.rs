//! `quoit ping`: a probe for containers that have neither redis-cli nor a shell.
//!
//! Takes the server's own arguments, file and environment, so that the same settings reach the same server, and exits 0
//! only when it answers PONG: a server that loads or refuses is not ready.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{Config, Loaded, Settings};
use crate::resp::decode::OwnedArguments;
use crate::resp::frame::{Frame, decode};
use crate::resp::reply::Protocol;

/// How long each step of the probe may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const ANSWER_BYTES: usize = 4096;

/// Probes the server that these arguments and variables would start.
pub fn run(
    words: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let answer = match Config::load(words, variables) {
        Ok(Loaded::Run(config)) => ask(&config.settings()),
        Ok(_) => Err("usage: quoit ping [the server's own arguments]".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(()) => {
            println!("PONG");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn ask(settings: &Settings) -> Result<(), String> {
    match &settings.unixsocket {
        Some(path) if settings.port == 0 => {
            let stream = UnixStream::connect(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let timeouts = stream
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
            timeouts.map_err(|error| error.to_string())?;
            converse(stream, settings)
        }
        _ => {
            let host = settings
                .bind
                .first()
                .map_or("127.0.0.1", |address| address.host.as_str());
            let host = if host == "*" || host == "0.0.0.0" {
                "127.0.0.1"
            } else {
                host
            };
            let host = if host == "::*" || host == "::" {
                "::1"
            } else {
                host
            };
            let stream = TcpStream::connect((host, settings.port))
                .map_err(|error| format!("{host}:{}: {error}", settings.port))?;
            let timeouts = stream
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
            timeouts.map_err(|error| error.to_string())?;
            converse(stream, settings)
        }
    }
}

fn converse(mut stream: impl Read + Write, settings: &Settings) -> Result<(), String> {
    if let Some(password) = &settings.requirepass {
        let request = OwnedArguments::from(&[b"AUTH".as_slice(), password.0.as_bytes()]);
        exchange(&mut stream, &request)?;
    }
    match exchange(&mut stream, &OwnedArguments::from(&[b"PING".as_slice()]))? {
        Frame::Simple(text) if text.as_slice() == b"PONG" => Ok(()),
        other => Err(format!("not ready: {other:?}")),
    }
}

fn exchange(stream: &mut (impl Read + Write), request: &OwnedArguments) -> Result<Frame, String> {
    let arguments = request.as_arguments();
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments.iter() {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    stream
        .write_all(&bytes)
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while answer.len() < ANSWER_BYTES {
        match stream.read(&mut piece) {
            Ok(0) => return Err("the server closed the connection".to_owned()),
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) => return Err(error.to_string()),
        }
        match decode(&answer, Protocol::Resp2) {
            Ok(Some((Frame::Error(text), _))) => {
                return Err(String::from_utf8_lossy(&text).into_owned());
            }
            Ok(Some((frame, _))) => return Ok(frame),
            Ok(None) => {}
            Err(error) => return Err(format!("not a Redis server: {error:?}")),
        }
    }
    Err("not a Redis server: the answer is too long".to_owned())
}
