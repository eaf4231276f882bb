//! redis-cli and redis-benchmark in the ways people use them.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{Server, Value, eventually};

/// Whether a program can be run; says so loudly when it cannot.
pub fn is_installed(program: &str, test: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    found(command.status().is_ok(), program, test)
}

/// Passes on whether a client was found: where it was not, this is told loudly, or fails if clients are required.
pub fn found(found: bool, client: &str, test: &str) -> bool {
    if !found {
        let required = std::env::var("QUOIT_REQUIRE_CLIENTS").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "{client} is not installed, and QUOIT_REQUIRE_CLIENTS=1 requires it"
        );
        // Not println!: the test harness hides that of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: {client} is not installed"
        );
    }
    found
}

/// A program that is killed when it is dropped or hangs.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it is installed"),
        )
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let status = self.0.try_wait().expect("a child can be waited for");
        status.is_some()
    }

    /// Gives it its input and waits for its end: status and output.
    #[track_caller]
    pub fn finish(mut self, input: &[u8]) -> Output {
        let mut stdin = self.0.stdin.take().expect("it is piped");
        let input = input.to_vec();
        // Its output may fill a pipe while we write: both at once.
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let [stdout, stderr] = [
            read_all(Box::new(self.0.stdout.take().expect("it is piped"))),
            read_all(Box::new(self.0.stderr.take().expect("it is piped"))),
        ];
        let status = eventually("the end of a client", || {
            self.0.try_wait().expect("a child can be waited for")
        });
        writer.join().expect("the writer does not panic");
        Output {
            status,
            stdout: stdout.join().expect("the reader does not panic"),
            stderr: stderr.join().expect("the reader does not panic"),
        }
    }

    /// Its lines, as they come.
    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        let stdout = self.0.stdout.take().expect("it is piped");
        BufReader::new(stdout).lines().map_while(Result::ok)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_all(mut source: Box<dyn Read + Send>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = source.read_to_end(&mut bytes);
        bytes
    })
}

fn cli_command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new("redis-cli");
    command
        .args(["-p", &server.port.to_string()])
        .args(arguments)
        .env_remove("REDISCLI_AUTH");
    command
}

/// What redis-cli prints to its standard output; it must end well and complain of nothing.
#[track_caller]
fn cli_with(server: &Server, arguments: &[&str], input: &[u8]) -> String {
    let output = Running::start(&mut cli_command(server, arguments)).finish(input);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "redis-cli {arguments:?}: {}\n{stdout}{stderr}",
        output.status
    );
    assert_eq!(stderr, "", "redis-cli {arguments:?}\n{stdout}");
    stdout.into_owned()
}

#[track_caller]
fn cli(server: &Server, arguments: &[&str]) -> String {
    cli_with(server, arguments, b"")
}

/// A server with some keys: twelve small, one large.
fn filled(arguments: &[&str]) -> Server {
    let server = Server::start(arguments);
    let mut client = server.client();
    for number in 0..12 {
        client.run(&["SET", &format!("key:{number}"), "value"]);
    }
    client.run(&["SET", "large", &"x".repeat(10_000)]);
    server
}

#[test]
fn commands_and_formats() {
    if !is_installed("redis-cli", "commands_and_formats") {
        return;
    }
    let server = Server::start(&[]);
    assert_eq!(cli(&server, &["PING"]), "PONG\n");
    assert_eq!(cli(&server, &["SET", "k", "v"]), "OK\n");
    assert_eq!(cli(&server, &["--no-raw", "GET", "k"]), "\"v\"\n");
    assert_eq!(cli(&server, &["--no-raw", "GET", "missing"]), "(nil)\n");
    assert_eq!(cli(&server, &["--no-raw", "INCR", "n"]), "(integer) 1\n");
    assert_eq!(
        cli(&server, &["--csv", "MGET", "k", "missing", "n"]),
        "\"v\",NULL,\"1\"\n"
    );
    assert_eq!(
        cli(&server, &["--json", "-3", "MGET", "k", "missing"]),
        "[\"v\",null]\n"
    );
    assert_eq!(
        cli(
            &server,
            &["-3", "--no-raw", "CONFIG", "GET", "maxmemory-policy"]
        ),
        "1# \"maxmemory-policy\" => \"noeviction\"\n"
    );
    assert_eq!(cli(&server, &["-n", "3", "DBSIZE"]), "0\n");
    assert_eq!(cli(&server, &["-r", "3", "INCR", "n"]), "2\n3\n4\n");
    assert_eq!(
        cli_with(&server, &["-x", "SET", "stdin"], b"from\nstdin"),
        "OK\n"
    );
    assert_eq!(cli(&server, &["GET", "stdin"]), "from\nstdin\n");
    assert_eq!(
        cli_with(
            &server,
            &["-X", "tag", "SET", "tagged", "tag", "EX", "100"],
            b"last"
        ),
        "OK\n"
    );
    assert_eq!(
        cli_with(&server, &[], b"SELECT 1\nSET \"a b\" 1\nKEYS *\nNOTHING\n"),
        "OK\nOK\na b\nERR unknown command 'NOTHING', with args beginning with: \n\n"
    );
}

/// A wrong command is said, and with -e it is the exit status.
#[test]
fn errors_and_exit_status() {
    if !is_installed("redis-cli", "errors_and_exit_status") {
        return;
    }
    let server = Server::start(&[]);
    let output = Running::start(&mut cli_command(&server, &["-e", "NOTHING"])).finish(b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("ERR unknown command 'NOTHING'"),
        "{output:?}"
    );
}

#[test]
fn passwords() {
    if !is_installed("redis-cli", "passwords") {
        return;
    }
    let server = Server::start(&["--requirepass", "secret"]);
    let said = Running::start(&mut cli_command(&server, &["PING"])).finish(b"");
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        "NOAUTH Authentication required.\n\n"
    );
    assert_eq!(
        cli(&server, &["--no-auth-warning", "-a", "secret", "PING"]),
        "PONG\n"
    );
    assert_eq!(
        cli(
            &server,
            &[
                "--no-auth-warning",
                "--user",
                "default",
                "--pass",
                "secret",
                "PING"
            ]
        ),
        "PONG\n"
    );
    assert_eq!(
        cli(
            &server,
            &["--no-auth-warning", "-3", "-a", "secret", "PING"]
        ),
        "PONG\n"
    );
    let wrong = Running::start(&mut cli_command(
        &server,
        &["--no-auth-warning", "-a", "wrong", "PING"],
    ))
    .finish(b"");
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("AUTH failed: WRONGPASS"),
        "{wrong:?}"
    );
}

#[test]
fn scan_and_key_statistics() {
    if !is_installed("redis-cli", "scan_and_key_statistics") {
        return;
    }
    let server = filled(&["--maxmemory-policy", "allkeys-lfu"]);
    let mut keys: Vec<String> = cli(&server, &["--scan"])
        .lines()
        .map(str::to_owned)
        .collect();
    keys.sort();
    assert_eq!(keys.len(), 13);
    assert_eq!(keys[12], "large");
    assert_eq!(cli(&server, &["--scan", "--pattern", "lar*"]), "large\n");
    let big = cli(&server, &["--bigkeys"]);
    assert!(
        big.contains("Biggest string found '\"large\"' has 10000 bytes"),
        "{big}"
    );
    assert!(big.contains("13 strings with 10060 bytes"), "{big}");
    let memory = cli(&server, &["--memkeys"]);
    assert!(
        memory.contains("Biggest string found '\"large\"' has "),
        "{memory}"
    );
    let hot = cli(&server, &["--hotkeys"]);
    assert!(hot.contains("Sampled 13 keys in the keyspace!"), "{hot}");
}

#[test]
fn mass_insertion() {
    if !is_installed("redis-cli", "mass_insertion") {
        return;
    }
    let server = Server::start(&[]);
    let mut input = Vec::new();
    for number in 0..10_000 {
        input.extend(crate::support::client::encode(&[
            "SET",
            &format!("k{number}"),
            "v",
        ]));
    }
    let said = cli_with(&server, &["--pipe"], &input);
    assert!(said.contains("errors: 0, replies: 10000"), "{said}");
    assert_eq!(server.client().run(&["DBSIZE"]), Value::Int(10_000));
}

#[test]
fn latency_and_stat() {
    if !is_installed("redis-cli", "latency_and_stat") {
        return;
    }
    let server = filled(&[]);
    let said = cli(&server, &["--latency", "-i", "1", "--raw"]);
    let numbers: Vec<f64> = said
        .split_whitespace()
        .map(|word| word.parse().expect("numbers alone"))
        .collect();
    assert_eq!(numbers.len(), 4, "min max avg samples: {said}");
    let mut stat = Running::start(&mut cli_command(&server, &["--stat", "-i", "0.01"]));
    let lines: Vec<String> = stat.lines().take(5).collect();
    assert!(lines[1].starts_with("keys       mem"), "{lines:?}");
    for line in &lines[2..] {
        assert!(line.starts_with("13 "), "keys, memory, clients: {line}");
    }
}

/// MONITOR shows requests of others with time, database and address.
#[test]
fn monitor() {
    if !is_installed("redis-cli", "monitor") {
        return;
    }
    let server = Server::start(&[]);
    let mut monitor = Running::start(&mut cli_command(&server, &["MONITOR"]));
    let mut lines = monitor.lines();
    assert_eq!(lines.next().as_deref(), Some("OK"));
    let mut client = server.client();
    client.run(&["SELECT", "2"]);
    client.run(&[&b"SET"[..], b"k", b"a\x00\"\r\n\xff"]);
    let port = client.local_port();
    let select = lines.next().expect("SELECT is shown");
    // It is shown after it has run, in the database that it has selected.
    assert!(
        select.ends_with(&format!(" [2 127.0.0.1:{port}] \"SELECT\" \"2\"")),
        "{select}"
    );
    let set = lines.next().expect("SET is shown");
    let (time, rest) = set.split_once(' ').expect("a time comes first");
    assert!(
        time.split_once('.')
            .is_some_and(|(s, us)| s.len() == 10 && us.len() == 6),
        "{set}"
    );
    assert_eq!(
        rest,
        format!("[2 127.0.0.1:{port}] \"SET\" \"k\" \"a\\x00\\\"\\r\\n\\xff\"")
    );
}

#[test]
fn unix_socket() {
    if !is_installed("redis-cli", "unix_socket") {
        return;
    }
    let directory = crate::support::TempDir::new("cli");
    let path = directory.path().join("s");
    let path = path.to_str().expect("a path of plain letters");
    let _server = Server::start(&["--unixsocket", path]);
    let output = Running::start(Command::new("redis-cli").args(["-s", path, "PING"])).finish(b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "PONG\n");
}

/// redis-benchmark runs its tests through, with and without pipelining and with many connections.
#[test]
fn benchmark() {
    if !is_installed("redis-benchmark", "benchmark") {
        return;
    }
    let mut server = Server::start(&[]);
    for extra in [
        &[][..],
        &["-P", "16"],
        &["-c", "200"],
        &["-3", "-r", "1000", "-d", "100"],
        &["--threads", "2"],
    ] {
        let mut command = Command::new("redis-benchmark");
        command
            .args([
                "-p",
                &server.port.to_string(),
                "-t",
                "ping,set,get,incr,mset",
                "-n",
                "2000",
                "--csv",
            ])
            .args(extra);
        let output = Running::start(&mut command).finish(b"");
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "redis-benchmark {extra:?}: {}\n{stdout}{stderr}",
            output.status
        );
        assert_eq!(stderr, "", "redis-benchmark {extra:?}");
        let tests: Vec<&str> = stdout
            .lines()
            .skip(1)
            .filter_map(|line| line.split('"').nth(1))
            .collect();
        assert_eq!(
            tests,
            [
                "PING_INLINE",
                "PING_MBULK",
                "SET",
                "GET",
                "INCR",
                "MSET (10 keys)"
            ],
            "{stdout}"
        );
    }
    server.assert_well();
}
