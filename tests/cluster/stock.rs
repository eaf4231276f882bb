//! Keys of all types and sizes that nobody changes while the ring does: all of them must be there afterwards, the same in
//! every respect that a client can see, at whatever node it asks.

use crate::ring::Ring;
use crate::support::client::encode;
use crate::support::{Client, Value, show};

/// Small keys beside the large ones.
const SMALL: usize = 5000;
/// Elements of the large ones: enough that they travel in pieces.
const MANY: usize = 20_000;

/// What was there.
pub struct Stock {
    /// Questions, and the answers as they were.
    known: Vec<(Vec<String>, String)>,
    keys: i64,
}

impl Stock {
    /// Fills the ring, which must be empty.
    pub fn put(ring: &Ring) -> Stock {
        let mut client = ring.any().client();
        let before = client.line("DBSIZE").int();
        assert_eq!(before, 0, "the ring is empty");
        let mut requests: Vec<Vec<String>> = Vec::new();
        let mut add = |line: String| {
            requests.push(line.split(' ').map(str::to_owned).collect());
        };
        for number in 0..SMALL {
            let expiry = match number % 3 {
                0 => format!(" PX {}", 1_000_000_000 + number),
                _ => String::new(),
            };
            add(format!(
                "SET stock:{number} {}:{number}{expiry}",
                "x".repeat(100)
            ));
        }
        for number in 0..40 {
            add(format!("RPUSH stock:list:{number} a {number} b"));
            add(format!("SADD stock:intset:{number} 1 {number}"));
            add(format!("SADD stock:set:{number} a {number} b"));
            add(format!("ZADD stock:zset:{number} 1.5 a {number} b inf c"));
            add(format!("HSET stock:hash:{number} a 1 b {number}"));
            add(format!("XADD stock:stream:{number} 1-{number} a b"));
            add(format!("XGROUP CREATE stock:stream:{number} group 0"));
            add(format!(
                "XREADGROUP GROUP group worker STREAMS stock:stream:{number} >"
            ));
            add(format!("PFADD stock:pf:{number} a b {number}"));
            add(format!("SETBIT stock:bits:{number} {} 1", number * 1000));
            add(format!("GEOADD stock:geo:{number} 13.4 52.5 berlin"));
            add(format!(
                "PEXPIREAT stock:list:{number} {}",
                4_000_000_000_000_u64 + number
            ));
        }
        for begin in (0..MANY).step_by(500) {
            let numbers: Vec<usize> = (begin..begin + 500).collect();
            let join = |each: &dyn Fn(&usize) -> String| {
                numbers.iter().map(each).collect::<Vec<_>>().join(" ")
            };
            add(format!(
                "RPUSH stock:big:list {}",
                join(&|n| format!("element:{n}"))
            ));
            add(format!(
                "SADD stock:big:set {}",
                join(&|n| format!("member:{n}"))
            ));
            add(format!(
                "ZADD stock:big:zset {}",
                join(&|n| format!("{n} member:{n}"))
            ));
            add(format!(
                "HSET stock:big:hash {}",
                join(&|n| format!("field:{n} {n}"))
            ));
        }
        for number in 0..MANY / 10 {
            add(format!("XADD stock:big:stream {}-1 a {number}", number + 1));
        }
        add(format!("SET stock:big:text {}", "y".repeat(3 << 20)));
        for chunk in requests.chunks(200) {
            for reply in pipeline(&mut client, chunk) {
                assert!(!reply.is_error(), "{reply:?}");
            }
        }
        let keys = client.line("DBSIZE").int();
        let questions = questions();
        let answers = answers(&mut client, &questions);
        Stock {
            known: questions.into_iter().zip(answers).collect(),
            keys,
        }
    }

    /// How many keys it has.
    pub fn keys(&self) -> i64 {
        self.keys
    }

    /// Asserts that all of it is there, as every node sees it.
    #[track_caller]
    pub fn assert_complete(&self, ring: &Ring) {
        let questions: Vec<Vec<String>> = self.known.iter().map(|(q, _)| q.clone()).collect();
        for node in ring.running() {
            let answers = answers(&mut node.client(), &questions);
            let known = self.known.iter().zip(&answers);
            let wrong: Vec<String> = known
                .filter(|((_, was), is)| was != *is)
                .map(|((question, was), is)| {
                    let short = |text: &str| text.chars().take(200).collect::<String>();
                    format!(
                        "{}: {} is now {}",
                        question.join(" "),
                        short(was),
                        short(is)
                    )
                })
                .collect();
            assert!(
                wrong.is_empty(),
                "{} of {} differ at node {}:\n{}",
                wrong.len(),
                questions.len(),
                node.number,
                wrong[..wrong.len().min(20)].join("\n")
            );
        }
    }
}

fn questions() -> Vec<Vec<String>> {
    let mut questions = Vec::new();
    let mut ask = |line: String| {
        questions.push(line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    };
    for number in 0..SMALL {
        ask(format!("GET stock:{number}"));
        ask(format!("PEXPIRETIME stock:{number}"));
    }
    for number in 0..40 {
        ask(format!("LRANGE stock:list:{number} 0 -1"));
        ask(format!("PEXPIRETIME stock:list:{number}"));
        ask(format!("SMEMBERS stock:intset:{number}"));
        ask(format!("SMEMBERS stock:set:{number}"));
        ask(format!("ZRANGE stock:zset:{number} 0 -1 WITHSCORES"));
        ask(format!("HGETALL stock:hash:{number}"));
        ask(format!("XRANGE stock:stream:{number} - +"));
        ask(format!("XINFO GROUPS stock:stream:{number}"));
        ask(format!("XPENDING stock:stream:{number} group"));
        ask(format!("PFCOUNT stock:pf:{number}"));
        ask(format!("GET stock:bits:{number}"));
        ask(format!("GEOPOS stock:geo:{number} berlin"));
        for kind in [
            "list", "intset", "set", "zset", "hash", "stream", "pf", "bits", "geo",
        ] {
            ask(format!("OBJECT ENCODING stock:{kind}:{number}"));
        }
    }
    for question in [
        "LRANGE stock:big:list 0 -1",
        "SMEMBERS stock:big:set",
        "ZRANGE stock:big:zset 0 -1 WITHSCORES",
        "HGETALL stock:big:hash",
        "XRANGE stock:big:stream - +",
        "XLEN stock:big:stream",
        "GET stock:big:text",
    ] {
        ask(question.to_owned());
    }
    questions
}

fn answers(client: &mut Client, questions: &[Vec<String>]) -> Vec<String> {
    let replies = questions.chunks(200).flat_map(|chunk| {
        let replies = pipeline(client, chunk);
        chunk.iter().zip(replies).map(answer).collect::<Vec<_>>()
    });
    replies.collect()
}

/// The answer in a text that is the same when it says the same.
fn answer((question, reply): (&Vec<String>, Value)) -> String {
    match question[0].as_str() {
        "SMEMBERS" => {
            let mut members: Vec<String> = reply.items().iter().map(show).collect();
            members.sort();
            members.join(" ")
        }
        "HGETALL" => {
            let items = reply.items();
            let pairs = items.chunks(2);
            let mut pairs: Vec<String> = pairs.map(|pair| format!("{pair:?}")).collect();
            pairs.sort();
            pairs.join(" ")
        }
        _ => show(&reply),
    }
}

fn pipeline(client: &mut Client, requests: &[Vec<String>]) -> Vec<Value> {
    let bytes: Vec<u8> = requests.iter().flat_map(|words| encode(words)).collect();
    client.send_raw(&bytes);
    requests.iter().map(|_| client.read().value).collect()
}
