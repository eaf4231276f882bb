//! Hashes among many connections: no change is seen by halves, no increment is lost, and fields vanish when their time is
//! over while everybody is served.

use std::time::{Duration, Instant};

use crate::concurrency::{Reader, Writer, race, rounds};
use crate::support::client::encode;
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::{Client, Server, Value, eventually};

/// `HSET key field value ..`, all fields with one value.
fn with_fields(key: &str, count: usize, value: &str) -> Vec<String> {
    let pairs = (0..count).flat_map(|number| [format!("f{number}"), value.to_owned()]);
    ["HSET".to_owned(), key.to_owned()]
        .into_iter()
        .chain(pairs)
        .collect()
}

/// Aim: HSET is one change to whoever reads, whether the reply is written at once or from a snapshot after release.
#[test]
fn fields_that_are_set_together_are_read_together() {
    for fields in [40, 3_000] {
        let server = Server::start(&[]);
        server.client().run(&with_fields("h", fields, "0"));
        let writers = (0..2).map(|writer| {
            Box::new(move |mut client: Client| {
                for round in 0..rounds(100) {
                    let value = format!("{writer}:{round}");
                    let set = client.run(&with_fields("h", fields, &value));
                    assert_eq!(set, Value::Int(0));
                }
            }) as Writer
        });
        let count = fields.to_string();
        let commands = [
            vec!["HVALS".to_owned(), "h".to_owned()],
            vec![
                "HRANDFIELD".to_owned(),
                "h".to_owned(),
                count,
                "WITHVALUES".to_owned(),
            ],
        ];
        let readers = commands.map(|command| {
            Box::new(move |client: &mut Client| {
                let items = client.run(&command).items();
                let step = if command.len() > 2 { 2 } else { 1 };
                let mut values = items.iter().skip(step - 1).step_by(step);
                assert_eq!(values.len(), fields);
                let first = values.next().expect("there are some");
                assert!(values.all(|value| value == first), "torn");
            }) as Reader
        });
        assert!(race(&server, writers.collect(), readers.into()) > 0);
    }
}

/// Aim: increments of one field, in a small and in a large hash, all count.
#[test]
fn no_increment_is_lost() {
    let server = Server::start(&[]);
    server.client().run(&with_fields("large", 1_000, "x"));
    let times = rounds(500);
    let writers = (0..4).map(|_| {
        Box::new(move |mut client: Client| {
            for _ in 0..times {
                for key in ["small", "large"] {
                    client.run(&["HINCRBY", key, "n", "3"]);
                    client.run(&["HINCRBYFLOAT", key, "half", "0.5"]);
                }
            }
        }) as Writer
    });
    let reader: Reader = Box::new(|client| {
        client.run(&["HMGET", "small", "n", "half"]);
    });
    race(&server, writers.collect(), vec![reader]);
    let mut client = server.client();
    for key in ["small", "large"] {
        let sums = client.run(&["HMGET", key, "n", "half"]).items();
        assert_eq!(sums[0].text(), (4 * times * 3).to_string());
        assert_eq!(sums[1].text(), (4 * times / 2).to_string());
    }
}

/// Aim: a mass of fields that expire at one instant is removed in steps, without being met, and the keys go with their last
/// fields.
#[test]
fn expired_fields_are_removed_without_being_met() {
    if ring_differs(RingDiffers::Counts) {
        return;
    }
    let server = Server::start(&[]);
    let mut client = server.client();
    let (large, small) = (20_000, 2_000);
    let soon = "200";
    client.run(&with_fields("stays", 10, "v"));
    client.run(&["HPEXPIRE", "stays", soon, "FIELDS", "1", "f3"]);
    let used = |client: &mut Client| -> i64 {
        let used = client.info_field("memory", "used_memory_dataset");
        used.expect("it is shown").parse().expect("a number")
    };
    let before = used(&mut client);
    client.run(&with_fields("large", large, "a value of some length"));
    for from in (0..large).step_by(1_000) {
        let mut request: Vec<String> = ["HPEXPIRE", "large", soon, "FIELDS", "1000"]
            .map(str::to_owned)
            .into();
        request.extend((from..from + 1_000).map(|number| format!("f{number}")));
        assert_eq!(client.run(&request).items().len(), 1_000);
    }
    let requests = (0..small).flat_map(|number| {
        let key = format!("small:{number}");
        encode(&["HSETEX", &key, "PX", soon, "FIELDS", "1", "f", "v"])
    });
    client.send_raw(&requests.collect::<Vec<u8>>());
    (0..small).for_each(|_| assert_eq!(client.read().value, Value::Int(1)));
    let mut worst = Duration::ZERO;
    eventually("all to be gone", || {
        let begun = Instant::now();
        let size = client.line("DBSIZE");
        worst = worst.max(begun.elapsed());
        (size == Value::Int(1)).then_some(())
    });
    assert!(
        worst < Duration::from_secs(1),
        "a round trip took {worst:?}"
    );
    let expired = (large + small + 1).to_string();
    eventually("the last field to be gone", || {
        (client.info_field("stats", "expired_subkeys")? == expired).then_some(())
    });
    assert_eq!(client.line("HLEN stays"), Value::Int(9));
    assert_eq!(
        client.info_field("stats", "expired_keys"),
        Some("0".to_owned())
    );
    eventually("memory to come down", || {
        (used(&mut client) < before + 200_000).then_some(())
    });
}

/// Aim: the parameters work while the server runs, under both of their names.
#[test]
fn thresholds_are_parameters() {
    let server = Server::start(&["--hash-max-listpack-entries", "2"]);
    let mut client = server.client();
    let mut encoding = |lines: &[&str]| {
        for line in lines {
            let reply = client.line(line);
            assert!(!reply.is_error(), "{line}: {reply:?}");
        }
        client.line("OBJECT ENCODING h").text()
    };
    assert_eq!(encoding(&["HSET h a 1 b 2"]), "listpack");
    assert_eq!(encoding(&["HSET h c 3"]), "hashtable");
    assert_eq!(
        encoding(&["CONFIG SET hash-max-ziplist-entries 5", "HSET h d 4"]),
        "hashtable"
    );
    assert_eq!(
        encoding(&["DEL h", "HSET h a 1 b 2 c 3 d 4 e 5"]),
        "listpack"
    );
    assert_eq!(
        encoding(&["CONFIG SET hash-max-ziplist-value 3", "HSET h a 123"]),
        "listpack"
    );
    assert_eq!(encoding(&["HSET h a 1234"]), "hashtable");
}
