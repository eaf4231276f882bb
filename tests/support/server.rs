//! Child processes: Quoit, and redis-server as the oracle.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client::{Client, Value};
use super::{PATIENCE, elsewhere, eventually, poll};

/// A directory of its own, removed with the value.
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new empty directory whose name contains `what`.
    pub fn new(what: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!(
            "quoit-{what}-{}-{:x}",
            std::process::id(),
            fastrand::u64(..)
        ));
        std::fs::create_dir_all(&path).expect("the temporary directory can be written");
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the temporary directory can be written");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // It may be gone; nobody needs it any more.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Quoit,
    /// The oracle.
    Redis,
}

/// A running server.
pub struct Server {
    /// Which program.
    pub kind: Kind,
    /// Its TCP port; 0 when it has none.
    pub port: u16,
    /// Its working directory.
    pub dir: TempDir,
    child: Child,
    log: Log,
    /// Whether a panic in its log is this test's own doing.
    pub may_panic: bool,
    /// The other nodes of its ring.
    pub companions: Vec<Server>,
}

/// What it has written to its log so far.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// All lines so far.
    pub fn text(&self) -> String {
        self.0.lock().expect("the reader does not panic").join("\n")
    }

    fn find<T>(&self, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.0
            .lock()
            .expect("the reader does not panic")
            .iter()
            .find_map(|line| look(line))
    }
}

impl Server {
    /// The server under test: Quoit, or redis-server with `QUOIT_TEST_SERVER=redis`. Arguments go to its command line.
    pub fn start(arguments: &[&str]) -> Server {
        match tests_redis() {
            true => Server::redis(arguments).expect("QUOIT_TEST_SERVER=redis wants redis-server"),
            false => Server::quoit(arguments),
        }
    }

    /// Quoit on a free port.
    pub fn quoit(arguments: &[&str]) -> Server {
        let mut all = vec!["--bind", "127.0.0.1", "--enable-debug-command", "yes"];
        if elsewhere::tests_ring() && elsewhere::can_be_a_node(arguments) {
            all.extend(arguments);
            return elsewhere::start(&all);
        }
        all.extend(arguments);
        Server::quoit_on_a_free_port(&all, &[])
    }

    /// Quoit with these arguments and variables, and `--port` with a free one.
    pub fn quoit_on_a_free_port(arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        // Another process may take the port between our look and its bind: try again with another.
        for _ in 0..10 {
            let port = free_port().to_string();
            let mut all = vec!["--port", &port];
            all.extend(arguments);
            match Server::try_quoit(&all, variables) {
                Ok(server) => return server,
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("quoit {all:?} ended:\n{log}"),
            }
        }
        panic!("no free port for quoit");
    }

    /// Quoit with exactly these arguments and variables.
    pub fn quoit_with(arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        Server::try_quoit(arguments, variables)
            .unwrap_or_else(|log| panic!("quoit {arguments:?} ended:\n{log}"))
    }

    /// As [`quoit_with`](Server::quoit_with); what it logged, when it ends instead of listening.
    pub fn try_quoit(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Server, String> {
        let dir = TempDir::new("server");
        let mut command = quoit_command(arguments, variables);
        command.current_dir(dir.path());
        let (child, log) = spawn(command, Stream::Stderr);
        let mut server = Server {
            kind: Kind::Quoit,
            port: 0,
            dir,
            child,
            log,
            may_panic: false,
            companions: Vec::new(),
        };
        let port = eventually("quoit to say that it is ready, or to end", || {
            if server
                .child
                .try_wait()
                .expect("a child can be waited for")
                .is_some()
            {
                return Some(Err(settled(&server.log)));
            }
            let port = server.log.find(|line| {
                let (_, rest) = line.split_once("ready to accept connections port=")?;
                rest.split(|c: char| !c.is_ascii_digit())
                    .next()?
                    .parse()
                    .ok()
            });
            port.map(Ok)
        });
        server.port = port?;
        if server.port != 0 {
            server.answer_ping();
        }
        Ok(server)
    }

    /// redis-server on a free port; `None` when it is not installed.
    pub fn redis(arguments: &[&str]) -> Option<Server> {
        // Another process may take the port between our look and its bind: try again with another.
        for _ in 0..10 {
            let port = free_port();
            let dir = TempDir::new("redis");
            let mut command = Command::new("redis-server");
            command.args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]);
            command
                .args(["--enable-debug-command", "yes"])
                .args(arguments)
                .current_dir(dir.path());
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let Ok(child) = command.spawn() else {
                return None;
            };
            let (child, log) = collect(child, Stream::Stdout);
            let mut server = Server {
                kind: Kind::Redis,
                port,
                dir,
                child,
                log,
                may_panic: true,
                companions: Vec::new(),
            };
            let came_up = eventually("redis-server to be ready or to end", || {
                if server
                    .child
                    .try_wait()
                    .expect("a child can be waited for")
                    .is_some()
                {
                    return Some(false);
                }
                server
                    .log
                    .find(|line| line.contains("Ready to accept connections").then_some(true))
            });
            if came_up {
                server.answer_ping();
                return Some(server);
            }
            assert!(
                server.log.text().contains("in use"),
                "redis-server {arguments:?}:\n{}",
                server.log.text()
            );
        }
        panic!("no free port for redis-server");
    }

    fn answer_ping(&self) {
        // A password or a full house is an answer too.
        eventually("an answer to PING", || {
            Client::try_connect(self.port)?.try_run(&["PING"])
        });
    }

    /// A new connection in RESP2.
    pub fn client(&self) -> Client {
        let companions = self.companions.iter().map(|node| node.port);
        Client::connect(self.port).with_companions(companions)
    }

    /// A new connection that speaks this protocol.
    pub fn client_in(&self, protocol: u8) -> Client {
        let mut client = self.client();
        if protocol == 3 {
            client.hello(3);
        }
        client
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident bytes.
    pub fn rss_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("Linux, and the process lives");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("the process lives");
        line.trim()
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<usize>().ok())
            .expect("a number of KiB")
            * 1024
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).expect("a process id is not 0");
        rustix::process::kill_process(pid, signal).expect("it is our child");
    }

    /// Waits for its end.
    pub fn exited(&mut self, limit: Duration) -> ExitStatus {
        super::within(limit, "the server to exit", || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
    }

    /// Asserts that it lives, answers, and has not panicked.
    pub fn assert_well(&mut self) {
        assert!(self.is_alive(), "the server ended:\n{}", self.log.text());
        let mut client = Client::connect(self.port);
        assert_eq!(client.run(&["PING"]), Value::simple("PONG"));
        self.assert_no_panic();
    }

    fn assert_no_panic(&self) {
        let found = self
            .log
            .find(|line| line.contains("panicked at").then(|| line.to_owned()));
        assert!(
            self.may_panic || found.is_none(),
            "the server panicked:\n{}",
            self.log.text()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- {:?} on port {} logged:\n{}\n---",
                self.kind,
                self.port,
                self.log.text()
            );
        } else {
            self.assert_no_panic();
        }
    }
}

/// Whether the suites run against redis-server.
pub fn tests_redis() -> bool {
    std::env::var("QUOIT_TEST_SERVER").is_ok_and(|name| name == "redis")
}

/// redis-server, or `None` after a loud note that `test` was skipped. With `QUOIT_REQUIRE_ORACLE=1` its lack is a failure.
pub fn oracle(test: &str) -> Option<Server> {
    oracle_with(test, &[])
}

/// As [`oracle`], with these arguments.
pub fn oracle_with(test: &str, arguments: &[&str]) -> Option<Server> {
    let found = Server::redis(arguments);
    if found.is_none() {
        let required = std::env::var("QUOIT_REQUIRE_ORACLE").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "redis-server is not on PATH, and QUOIT_REQUIRE_ORACLE=1 requires it"
        );
        // Not println!: the test harness hides that of a test that passes.
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: redis-server is not on PATH"
        );
    }
    found
}

/// `quoit` to be started: no terminal, no parameters from our own environment.
pub fn quoit_command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quoit"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUOIT_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .env("RUST_BACKTRACE", "1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Runs `quoit` to its end: exit status and stderr. It is killed when it does not end.
pub fn run_quoit(arguments: &[&str], variables: &[(&str, &str)]) -> (ExitStatus, String) {
    let (mut child, log) = spawn(quoit_command(arguments, variables), Stream::Stderr);
    let status = poll(PATIENCE, || {
        child.try_wait().expect("a child can be waited for")
    });
    match status {
        // The reader may still have the last lines before it.
        Some(status) => (status, settled(&log)),
        None => {
            let _ = child.kill();
            panic!("quoit {arguments:?} did not end:\n{}", log.text());
        }
    }
}

fn settled(log: &Log) -> String {
    // The reader drops its handle at the end of the stream.
    eventually("the end of stderr", || {
        (Arc::strong_count(&log.0) == 1).then_some(())
    });
    log.text()
}

enum Stream {
    Stdout,
    Stderr,
}

fn spawn(mut command: Command, stream: Stream) -> (Child, Log) {
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    collect(child, stream)
}

fn collect(mut child: Child, stream: Stream) -> (Child, Log) {
    let log = Log::default();
    let lines = log.clone();
    let source: Box<dyn std::io::Read + Send> = match stream {
        Stream::Stdout => Box::new(child.stdout.take().expect("it is piped")),
        Stream::Stderr => Box::new(child.stderr.take().expect("it is piped")),
    };
    std::thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            lines.0.lock().expect("no reader of it panics").push(line);
        }
    });
    (child, log)
}

/// A port that nobody listened on a moment ago, and that was not given to anybody else in this process: a node of a ring has
/// several, before it listens on any of them. It is below those that the system gives to connections on their way out, which take
/// a port at any time, and so is the one 10,000 above it.
pub fn free_port() -> u16 {
    /// All are free again when so many were given: those are long gone.
    const MOST: usize = 6_000;
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("nobody panics with it");
    if given.len() >= MOST {
        given.clear();
    }
    loop {
        let port = fastrand::u16(10_000..22_000);
        if given.contains(&port) {
            continue;
        }
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
}
