//! A small blocking client that hides nothing: replies come as bytes and as values.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::PATIENCE;
use super::text::{show, words};

/// A reply as a tree. Which null it was is kept: RESP2 has two.
#[derive(Clone, PartialEq)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`
    NilBulk,
    /// `*-1`
    NilArray,
    /// `_` of RESP3
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(Vec<u8>),
    Bool(bool),
    BigNumber(Vec<u8>),
    /// `txt:` and the like stand in front.
    Verbatim(Vec<u8>),
}

/// A reply: its bytes, and what they mean.
#[derive(Clone, PartialEq)]
pub struct Reply {
    pub raw: Vec<u8>,
    pub value: Value,
}

impl Value {
    pub fn simple(text: &str) -> Value {
        Value::Simple(text.into())
    }

    pub fn ok() -> Value {
        Value::simple("OK")
    }

    pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bulk(bytes.as_ref().to_vec())
    }

    pub fn error(text: &str) -> Value {
        Value::Error(text.into())
    }

    /// Any of the nulls.
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::NilBulk | Value::NilArray | Value::Null)
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// An integer.
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(int) => *int,
            other => panic!("not an integer: {other:?}"),
        }
    }

    /// The bytes of anything that is text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Simple(bytes)
            | Value::Error(bytes)
            | Value::Bulk(bytes)
            | Value::Double(bytes)
            | Value::BigNumber(bytes) => bytes,
            Value::Verbatim(bytes) => &bytes[4..],
            other => panic!("not text: {other:?}"),
        }
    }

    /// Text of anything that is text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The items of an array, set or push; the keys and values of a map, one after the other.
    pub fn items(&self) -> Vec<Value> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items.clone(),
            Value::Map(pairs) => pairs
                .iter()
                .flat_map(|(key, value)| [key.clone(), value.clone()])
                .collect(),
            other => panic!("not an aggregate: {other:?}"),
        }
    }

    /// The value of a field, in a map or an array of pairs.
    pub fn field(&self, name: &str) -> Option<Value> {
        let items = self.items();
        items
            .chunks_exact(2)
            .find(|pair| pair[0].bytes() == name.as_bytes())
            .map(|pair| pair[1].clone())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection.
pub struct Client {
    stream: BufReader<Stream>,
    /// Where the other nodes of the server's ring are: what is of a node is told to all of them.
    companions: Vec<u16>,
}

impl Client {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> Client {
        Client::try_connect(port).unwrap_or_else(|| panic!("nobody listens on port {port}"))
    }

    /// Connects to any address.
    #[track_caller]
    pub fn connect_to(address: impl ToSocketAddrs + fmt::Debug) -> Client {
        let stream = TcpStream::connect(&address);
        let stream = stream.unwrap_or_else(|error| panic!("{address:?}: {error}"));
        Client::over(stream).expect("options can be set")
    }

    /// As [`connect`](Client::connect), if somebody listens.
    pub fn try_connect(port: u16) -> Option<Client> {
        Client::over(TcpStream::connect(("127.0.0.1", port)).ok()?).ok()
    }

    /// Connects to an address within `limit`, which is also that of reads.
    pub fn try_connect_to(address: SocketAddr, limit: Duration) -> Option<Client> {
        let stream = TcpStream::connect_timeout(&address, limit).ok()?;
        let mut client = Client::over(stream).ok()?;
        client.set_patience(limit);
        Some(client)
    }

    fn over(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream: BufReader::new(Stream::Tcp(stream)),
            companions: Vec::new(),
        })
    }

    /// Connects to a unix socket.
    pub fn connect_unix(path: &Path) -> Client {
        let stream =
            UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        Client {
            stream: BufReader::new(Stream::Unix(stream)),
            companions: Vec::new(),
        }
    }

    /// Another limit for reads than [`PATIENCE`].
    pub fn set_patience(&mut self, limit: Duration) {
        match self.stream.get_ref() {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
        .expect("a timeout can be set");
    }

    /// Our own port, as the server sees it.
    pub fn local_port(&self) -> u16 {
        match self.stream.get_ref() {
            Stream::Tcp(stream) => stream.local_addr().expect("it is connected").port(),
            Stream::Unix(_) => 0,
        }
    }

    /// Changes the protocol.
    pub fn hello(&mut self, protocol: u8) -> Value {
        let reply = self.run(&["HELLO", &protocol.to_string()]);
        assert!(!reply.is_error(), "HELLO {protocol}: {reply:?}");
        reply
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).expect("the server takes bytes");
    }

    /// Sends bytes as they are, if the peer still takes them.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request.
    pub fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        if !self.companions.is_empty() {
            self.tell_companions(arguments);
        }
        self.send_raw(&encode(arguments));
    }

    /// Ends our sending side.
    pub fn shutdown_write(&mut self) {
        self.try_shutdown_write().expect("it is connected");
    }

    /// Ends our sending side, if the peer has not ended the connection.
    pub fn try_shutdown_write(&mut self) -> io::Result<()> {
        match self.stream.get_ref() {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Reads a reply.
    pub fn read(&mut self) -> Reply {
        self.try_read().expect("a reply comes")
    }

    /// Reads a reply, or says why there is none.
    pub fn try_read(&mut self) -> io::Result<Reply> {
        let mut raw = Vec::new();
        let value = read_value(&mut self.stream, &mut raw)?;
        Ok(Reply { raw, value })
    }

    /// Reads to the end of the stream.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset after the last reply is an end, too.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Whether the server has closed the connection; waits for that.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        }
    }

    /// The same, of a node with these companions.
    pub fn with_companions(mut self, companions: impl Iterator<Item = u16>) -> Client {
        self.companions = companions.collect();
        self
    }

    /// Has the other nodes do what concerns the node that a test means as a whole: its parameters, its counters.
    fn tell_companions<A: AsRef<[u8]>>(&self, arguments: &[A]) {
        let mut words = arguments.iter().map(AsRef::as_ref);
        let command = [words.next(), words.next()];
        let is_of_node = OF_A_NODE.iter().any(|of_node| {
            let given = command.iter().flatten();
            of_node.len() == given.clone().count()
                && of_node
                    .iter()
                    .zip(given)
                    .all(|(word, given)| given.eq_ignore_ascii_case(word.as_bytes()))
        });
        for port in self.companions.iter().filter(|_| is_of_node) {
            // One that wants a password keeps its parameters.
            let told = Client::try_connect(*port).map(|mut client| client.try_run(arguments));
            drop(told);
        }
    }

    /// A request and its reply.
    #[track_caller]
    pub fn run<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Value {
        self.send(arguments);
        self.read().value
    }

    /// A request and its reply, if the connection lives.
    pub fn try_run<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Option<Value> {
        self.try_send_raw(&encode(arguments)).ok()?;
        self.try_read().ok().map(|reply| reply.value)
    }

    /// A request as a line of words, quoted where needed: `SET "a b" \x00`.
    #[track_caller]
    pub fn line(&mut self, line: &str) -> Value {
        self.run(&words(line).unwrap_or_else(|| panic!("unbalanced quotes: {line}")))
    }

    /// As [`line`](Client::line), if the connection lives.
    pub fn try_line(&mut self, line: &str) -> Option<Value> {
        self.try_run(&words(line).unwrap_or_else(|| panic!("unbalanced quotes: {line}")))
    }

    /// The reply to a line in readable notation.
    #[track_caller]
    pub fn shown(&mut self, line: &str) -> String {
        show(&self.line(line))
    }

    /// The text of INFO.
    pub fn info(&mut self, section: &str) -> String {
        self.run(&["INFO", section]).text()
    }

    /// A field of INFO.
    pub fn info_field(&mut self, section: &str, field: &str) -> Option<String> {
        let text = self.info(section);
        text.lines().find_map(|line| {
            line.strip_prefix(field)?
                .strip_prefix(':')
                .map(str::to_owned)
        })
    }
}

/// What is of a node, not of its keys.
const OF_A_NODE: [[&str; 2]; 3] = [
    ["CONFIG", "SET"],
    ["CONFIG", "RESETSTAT"],
    ["DEBUG", "SET-ACTIVE-EXPIRE"],
];

/// A request on the wire.
pub fn encode<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The reply that these bytes begin with, and its length; `None` while it is not complete.
pub fn decode(bytes: &[u8]) -> io::Result<Option<(Value, usize)>> {
    let (mut rest, mut raw) = (bytes, Vec::new());
    match read_value(&mut rest, &mut raw) {
        Ok(value) => Ok(Some((value, raw.len()))),
        // What a line without an end is, is seen when its end is there.
        Err(_) if rest.is_empty() => Ok(None),
        Err(error) => Err(error),
    }
}

fn bad(what: &str, raw: &[u8]) -> io::Error {
    let end = raw.len().min(200);
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} in reply {:?}", String::from_utf8_lossy(&raw[..end])),
    )
}

fn read_line(stream: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let begin = raw.len();
    if stream.read_until(b'\n', raw)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match raw[begin..].strip_suffix(b"\r\n") {
        Some(line) => Ok(line.to_vec()),
        None => Err(bad("a line without CRLF", raw)),
    }
}

fn read_value(stream: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<Value> {
    let line = read_line(stream, raw)?;
    let Some((&kind, rest)) = line.split_first() else {
        return Err(bad("an empty line", raw));
    };
    let number = |raw: &[u8]| -> io::Result<i64> {
        std::str::from_utf8(rest)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| bad("not a number", raw))
    };
    let mut items = |count: i64, raw: &mut Vec<u8>| -> io::Result<Vec<Value>> {
        (0..count).map(|_| read_value(stream, raw)).collect()
    };
    Ok(match kind {
        b'+' => Value::Simple(rest.to_vec()),
        b'-' => Value::Error(rest.to_vec()),
        b':' => Value::Int(number(raw)?),
        b'_' => Value::Null,
        b',' => Value::Double(rest.to_vec()),
        b'(' => Value::BigNumber(rest.to_vec()),
        b'#' => Value::Bool(rest == b"t"),
        b'*' if rest == b"-1" => Value::NilArray,
        b'*' => Value::Array(items(number(raw)?, raw)?),
        b'~' => Value::Set(items(number(raw)?, raw)?),
        b'>' => Value::Push(items(number(raw)?, raw)?),
        b'%' => {
            let flat = items(number(raw)? * 2, raw)?;
            let mut flat = flat.into_iter();
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (flat.next(), flat.next()) {
                pairs.push((key, value));
            }
            Value::Map(pairs)
        }
        b'$' if rest == b"-1" => Value::NilBulk,
        b'$' | b'=' => {
            let len = usize::try_from(number(raw)?).map_err(|_| bad("a negative length", raw))?;
            let begin = raw.len();
            raw.resize(begin + len + 2, 0);
            stream.read_exact(&mut raw[begin..])?;
            if !raw.ends_with(b"\r\n") {
                return Err(bad("a bulk without CRLF", raw));
            }
            let bytes = raw[begin..begin + len].to_vec();
            if kind == b'$' {
                Value::Bulk(bytes)
            } else {
                Value::Verbatim(bytes)
            }
        }
        _ => return Err(bad("an unknown type", raw)),
    })
}
