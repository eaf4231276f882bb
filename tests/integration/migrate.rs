//! MIGRATE to real servers, and to peers that refuse, hang, talk nonsense or go away.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{Client, PATIENCE, Server, Value, oracle, show};

const READING: &str = "IOERR error or timeout reading to target instance";
const WRITING: &str = "IOERR error or timeout writing to target instance";

/// A peer that does this with its connections, one after the other; its port.
fn peer(mut serve: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&mut serve));
    port
}

/// A request is complete for these tests when it has come in one piece.
fn request(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 64 * 1024];
    let length = stream.read(&mut bytes).unwrap_or(0);
    bytes.truncate(length);
    bytes
}

fn migrate(client: &mut Client, port: u16, key: &str, options: &[&str]) -> Value {
    let port = port.to_string();
    let mut words = vec!["MIGRATE", "127.0.0.1", &port, key, "0", "10000"];
    words.extend(options);
    client.run(&words)
}

/// Values of several types and an expiry, to redis-server and to Quoit.
#[test]
fn keys_move_to_another_server() {
    let targets = oracle("keys_move_to_another_server").into_iter();
    for target in targets.chain([Server::quoit(&[])]) {
        let source = Server::quoit(&[]);
        let (mut here, mut there) = (source.client(), target.client());
        let port = target.port;
        for line in [
            "SET string value",
            "SET brief value PX 500000",
            "RPUSH list a 1 b",
            "SADD set 1 2 x",
            "ZADD zset 1 a 2.5 b",
            "HSET hash f v",
            "SET kept value",
        ] {
            assert!(!here.line(line).is_error(), "{line}");
        }
        assert_eq!(migrate(&mut here, port, "string", &[]), Value::ok());
        assert_eq!(there.line("GET string"), Value::bulk("value"));
        assert_eq!(
            migrate(&mut here, port, "string", &[]),
            Value::simple("NOKEY")
        );
        assert_eq!(migrate(&mut here, port, "kept", &["COPY"]), Value::ok());
        let several = ["KEYS", "brief", "list", "set", "nokey", "zset", "hash"];
        assert_eq!(migrate(&mut here, port, "", &several), Value::ok());
        assert_eq!(here.line("DBSIZE"), Value::Int(1));
        assert_eq!(there.line("DBSIZE"), Value::Int(7));
        assert!((400_000..=500_000).contains(&there.line("PTTL brief").int()));
        assert_eq!(there.shown("LRANGE list 0 -1"), r#"["a", "1", "b"]"#);
        assert_eq!(there.line("ZSCORE zset b").text(), "2.5");
        assert_eq!(there.line("HGET hash f"), Value::bulk("v"));
        assert_eq!(there.line("SCARD set"), Value::Int(3));

        let busy =
            "ERR Target instance replied with error: BUSYKEY Target key name already exists.";
        assert_eq!(migrate(&mut here, port, "kept", &[]), Value::error(busy));
        here.line("SET other 1");
        // One that is there already keeps the others from nothing.
        let both = migrate(&mut here, port, "", &["KEYS", "kept", "other"]);
        assert_eq!(both, Value::error(busy));
        assert_eq!(here.line("EXISTS kept other"), Value::Int(1));
        assert_eq!(migrate(&mut here, port, "kept", &["REPLACE"]), Value::ok());
        assert_eq!(here.line("DBSIZE"), Value::Int(0));

        here.line("SET k v");
        let port = port.to_string();
        let far = here.run(&["MIGRATE", "127.0.0.1", &port, "k", "99", "1000"]);
        let range = "ERR Target instance replied with error: ERR DB index is out of range";
        assert_eq!(far, Value::error(range));
        let fifth = here.run(&["MIGRATE", "127.0.0.1", &port, "k", "5", "1000"]);
        assert_eq!(fifth, Value::ok());
        there.line("SELECT 5");
        assert_eq!(there.line("GET k"), Value::bulk("v"));
    }
}

/// With a password, right and wrong.
#[test]
fn it_authenticates() {
    let target = Server::quoit(&["--requirepass", "secret"]);
    let source = Server::quoit(&[]);
    let (mut here, port) = (source.client(), target.port);
    here.line("SET k v");
    let refused = migrate(&mut here, port, "k", &[]);
    assert!(
        refused.text().contains("replied with error: NOAUTH"),
        "{}",
        show(&refused)
    );
    let refused = migrate(&mut here, port, "k", &["AUTH", "wrong"]);
    assert!(
        refused.text().contains("replied with error: WRONGPASS"),
        "{}",
        show(&refused)
    );
    assert_eq!(here.line("EXISTS k"), Value::Int(1));
    let auth = ["AUTH2", "default", "secret"];
    assert_eq!(migrate(&mut here, port, "k", &auth), Value::ok());
    assert_eq!(here.line("EXISTS k"), Value::Int(0));
}

/// Whatever the peer does instead of saying that it has the key: the key stays.
#[test]
fn a_key_that_did_not_arrive_stays() {
    let source = Server::quoit(&[]);
    let mut here = source.client();
    here.line("SET k v");
    let closes = peer(drop);
    let greets = peer(|mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"+OK\r\n");
    });
    let talks = peer(|mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"hello\r\nworld\r\n");
        request(&mut stream);
    });
    for port in [closes, greets, talks] {
        assert_eq!(migrate(&mut here, port, "k", &[]), Value::error(READING));
        assert_eq!(here.line("GET k"), Value::bulk("v"));
    }
    for port in ["x", "0", "99999"] {
        let refused = here.run(&["MIGRATE", "127.0.0.1", port, "k", "0", "1000"]);
        assert_eq!(refused, Value::error(WRITING), "{port}");
    }
    let (held, _keep) = mpsc::channel();
    let hangs = peer(move |stream| held.send(stream).expect("the test is there"));
    let hangs = hangs.to_string();
    let refused = here.run(&["MIGRATE", "127.0.0.1", &hangs, "k", "0", "30"]);
    assert_eq!(refused, Value::error(READING));
    assert_eq!(here.line("GET k"), Value::bulk("v"));
}

/// While a key is on its way nobody waits for it, not even who changes it; and what was changed is not lost.
#[test]
fn a_key_that_changes_on_its_way_is_kept() {
    let source = Server::quoit(&["--threads", "1"]);
    let (mut here, mut other) = (source.client(), source.client());
    here.line("SET k v");
    here.line("SET l v");
    let (arrived, on_its_way) = mpsc::channel();
    let (answer, wait) = mpsc::channel::<()>();
    let port = peer(move |mut stream| {
        // SELECT, then both keys.
        request(&mut stream);
        let _ = stream.write_all(b"+OK\r\n");
        request(&mut stream);
        arrived.send(()).expect("the test is there");
        let _ = wait.recv_timeout(PATIENCE);
        let _ = stream.write_all(b"+OK\r\n+OK\r\n");
        request(&mut stream);
    });
    let port = port.to_string();
    here.send(&[
        "MIGRATE",
        "127.0.0.1",
        &port,
        "",
        "0",
        "60000",
        "KEYS",
        "k",
        "l",
    ]);
    here.send(&["EXISTS", "k", "l"]);
    on_its_way
        .recv_timeout(PATIENCE)
        .expect("the keys were sent");
    assert_eq!(other.line("APPEND k +"), Value::Int(2));
    assert_eq!(other.line("GET l"), Value::bulk("v"));
    answer.send(()).expect("the peer is there");
    let kept = "IOERR a key was changed while it was sent to the target instance, and was kept";
    assert_eq!(here.read().value, Value::error(kept));
    assert_eq!(here.read().value, Value::Int(1));
    assert_eq!(other.line("GET k"), Value::bulk("v+"));
}

/// A client that is killed while it waits removes nothing, and is gone at once.
#[test]
fn a_client_that_is_killed_removes_nothing() {
    let source = Server::quoit(&[]);
    let (mut here, mut other) = (source.client(), source.client());
    here.line("SET k v");
    let id = here.line("CLIENT ID").int().to_string();
    let (arrived, on_its_way) = mpsc::channel();
    let port = peer(move |stream| arrived.send(stream).expect("the test is there"));
    let port = port.to_string();
    here.send(&["MIGRATE", "127.0.0.1", &port, "k", "0", "600000"]);
    let _stream = on_its_way.recv_timeout(PATIENCE).expect("it connects");
    assert_eq!(other.run(&["CLIENT", "KILL", "ID", &id]), Value::Int(1));
    here.set_patience(Duration::from_secs(30));
    assert!(here.is_closed());
    assert_eq!(other.line("GET k"), Value::bulk("v"));
}

/// Inside a transaction everything is locked, so nothing may wait.
#[test]
fn not_inside_a_transaction() {
    let source = Server::quoit(&[]);
    let mut here = source.client();
    for line in ["SET k v", "MULTI", "MIGRATE 127.0.0.1 1 k 0 1000"] {
        assert!(!here.line(line).is_error(), "{line}");
    }
    let refused = "ERR keys cannot be sent to another server inside a transaction or a script";
    assert_eq!(here.line("EXEC").items(), [Value::error(refused)]);
    assert_eq!(here.line("EXISTS k"), Value::Int(1));
}
