//! DUMP and RESTORE against what redis-server 7.0.15 replies. The payloads themselves are tested in `data::dump`.

use crate::commands::testing::{World, run, run_parts};
use crate::keyspace::evict::Policy;

/// The payload of a key.
fn dumped(world: &World, key: &str) -> Vec<u8> {
    let reply = run_parts(world, &["DUMP", key]);
    let start = reply
        .iter()
        .position(|&byte| byte == b'\n')
        .expect("a length")
        + 1;
    reply[start..reply.len() - 2].to_vec()
}

fn restored(world: &World, key: &str, ttl: &str, payload: &[u8], options: &str) -> String {
    let mut request: Vec<&[u8]> = vec![b"RESTORE", key.as_bytes(), ttl.as_bytes(), payload];
    request.extend(options.split_whitespace().map(str::as_bytes));
    String::from_utf8_lossy(&run_parts(world, &request)).into_owned()
}

/// A payload that Redis made, and what comes back.
#[test]
fn dump_is_the_payload_of_redis() {
    let world = World::new();
    run(&world, "SET k hello");
    let payload = b"\x00\x05hello\n\x00cr\xdfve4 \n";
    assert_eq!(dumped(&world, "k"), payload);
    assert_eq!(run(&world, "DUMP nokey"), "$-1\r\n");
    assert_eq!(world.hits.get(), (1, 1));
    assert_eq!(restored(&world, "n", "0", payload, ""), "+OK\r\n");
    assert_eq!(run(&world, "GET n"), "$5\r\nhello\r\n");
}

/// The first thing that is wrong is told, in this order: options, the key that is there, ttl, footer, value.
#[test]
fn restore_refuses_in_the_order_of_redis() {
    const BUSY: &str = "-BUSYKEY Target key name already exists.\r\n";
    const FOOTER: &str = "-ERR DUMP payload version or checksum are wrong\r\n";
    let world = World::new();
    run(&world, "SET k hello");
    let good = dumped(&world, "k");
    let mut damaged = good.clone();
    damaged[8] ^= 1;
    // A module's value, its checksum right.
    let no_value = b"\x07\x05\x0a\x00\x09\x68\x72\x12\xab\x73\x5f\x58";
    assert_eq!(
        restored(&world, "k", "x", &damaged, "FOO"),
        "-ERR syntax error\r\n"
    );
    assert_eq!(restored(&world, "k", "x", &damaged, ""), BUSY);
    let integer = "-ERR value is not an integer or out of range\r\n";
    assert_eq!(restored(&world, "n", "x", &damaged, ""), integer);
    let ttl = "-ERR Invalid TTL value, must be >= 0\r\n";
    assert_eq!(restored(&world, "n", "-1", &damaged, ""), ttl);
    assert_eq!(restored(&world, "n", "0", &damaged, ""), FOOTER);
    assert_eq!(restored(&world, "n", "0", b"", ""), FOOTER);
    assert_eq!(restored(&world, "k", "0", &damaged, "REPLACE"), FOOTER);
    assert_eq!(
        restored(&world, "n", "0", no_value, ""),
        "-ERR Bad data format\r\n"
    );
    assert_eq!(run(&world, "GET k"), "$5\r\nhello\r\n");
    assert_eq!(run(&world, "EXISTS n"), ":0\r\n");

    let idle = "-ERR Invalid IDLETIME value, must be >= 0\r\n";
    let frequency = "-ERR Invalid FREQ value, must be >= 0 and <= 255\r\n";
    for (options, refusal) in [
        ("IDLETIME", "-ERR syntax error\r\n"),
        ("FREQ", "-ERR syntax error\r\n"),
        ("IDLETIME x", integer),
        ("FREQ x", integer),
        ("IDLETIME -1", idle),
        ("FREQ -1", frequency),
        ("FREQ 256", frequency),
        ("FREQ 5 IDLETIME 3", "-ERR syntax error\r\n"),
        ("IDLETIME 3 FREQ 5", "-ERR syntax error\r\n"),
        ("REPLACE ABSTTL FREQ 5 FREQ 6", "+OK\r\n"),
    ] {
        assert_eq!(
            restored(&world, "n", "0", &good, options),
            refusal,
            "{options}"
        );
    }
}

/// Relative, absolute, none, in the past, and beyond the last instant.
#[test]
fn restore_sets_the_expiry_and_tells_it_as_a_time() {
    let world = World::new();
    run(&world, "SET k hello EX 100");
    let payload = dumped(&world, "k");
    let shown = payload.escape_ascii().to_string();
    world.records();
    world.events();
    let at = world.now().0 + 5_000;

    assert_eq!(restored(&world, "n", "5000", &payload, ""), "+OK\r\n");
    assert_eq!(run(&world, "PEXPIRETIME n"), format!(":{at}\r\n"));
    assert_eq!(world.records(), [format!("RESTORE n {at} {shown} ABSTTL")]);
    assert_eq!(world.events(), ["new n", "restore n"]);

    let absolute = (at + 1).to_string();
    assert_eq!(
        restored(&world, "n", &absolute, &payload, "absttl replace"),
        "+OK\r\n"
    );
    assert_eq!(run(&world, "PEXPIRETIME n"), format!(":{absolute}\r\n"));
    let record = format!("RESTORE n {absolute} {shown} absttl replace");
    assert_eq!(world.records(), [record]);
    assert_eq!(world.events(), ["new n", "restore n"]);

    assert_eq!(restored(&world, "n", "0", &payload, "REPLACE"), "+OK\r\n");
    assert_eq!(run(&world, "PTTL n"), ":-1\r\n");
    assert_eq!(world.records(), [format!("RESTORE n 0 {shown} REPLACE")]);
    world.events();

    // What expires at once replaces a key by nothing.
    let now = world.now().0.to_string();
    assert_eq!(
        restored(&world, "n", &now, &payload, "REPLACE ABSTTL"),
        "+OK\r\n"
    );
    assert_eq!(
        (world.records(), world.events()),
        (vec!["DEL n".into()], vec!["del n".into()])
    );
    let last = i64::MAX.to_string();
    for (ttl, options) in [("1", "ABSTTL"), (&last, ""), (&last, "REPLACE")] {
        assert_eq!(restored(&world, "n", ttl, &payload, options), "+OK\r\n");
        assert_eq!((world.records(), world.events()), (vec![], vec![]));
        assert_eq!(run(&world, "EXISTS n"), ":0\r\n");
        world.events();
    }
    assert_eq!(restored(&world, "n", &last, &payload, "ABSTTL"), "+OK\r\n");
    assert_eq!(run(&world, "PEXPIRETIME n"), format!(":{last}\r\n"));
}

/// The access clock: IDLETIME counts under LRU policies, FREQ under LFU policies.
#[test]
fn restore_sets_the_access_clock() {
    let mut world = World::new();
    run(&world, "SET k v");
    let payload = dumped(&world, "k");
    restored(&world, "idle", "0", &payload, "IDLETIME 1000");
    assert_eq!(run(&world, "OBJECT IDLETIME idle"), ":1000\r\n");
    restored(
        &world,
        "idle",
        "0",
        &payload,
        "IDLETIME 10 IDLETIME 20 REPLACE",
    );
    assert_eq!(run(&world, "OBJECT IDLETIME idle"), ":20\r\n");
    restored(&world, "idle", "0", &payload, "FREQ 7 REPLACE");
    assert_eq!(run(&world, "OBJECT IDLETIME idle"), ":0\r\n");
    world.rules.policy = Policy::AllKeysLfu;
    restored(&world, "freq", "0", &payload, "FREQ 77");
    assert_eq!(run(&world, "OBJECT FREQ freq"), ":77\r\n");
    restored(&world, "freq", "0", &payload, "IDLETIME 77 REPLACE");
    assert_eq!(run(&world, "OBJECT FREQ freq"), ":5\r\n");
}

/// One of each type replaces one of another; a large one is written after release.
#[test]
fn values_of_every_type_move() {
    let world = World::new();
    for (key, request) in [
        ("string", "SET string 12"),
        ("large", "SET large x"),
        ("bits", "SETBIT bits 800000 1"),
    ] {
        run(&world, request);
        let payload = dumped(&world, key);
        assert_eq!(
            restored(&world, "copy", "0", &payload, "REPLACE"),
            "+OK\r\n"
        );
        assert_eq!(
            run_parts(&world, &["GET", "copy"]),
            run_parts(&world, &["GET", key])
        );
    }
    assert_eq!(run(&world, "OBJECT ENCODING string"), "$3\r\nint\r\n");
}
