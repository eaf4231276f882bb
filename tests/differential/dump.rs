//! DUMP and RESTORE: a value of either server is restored by the other and reads back equal.
//!
//! Redis makes the values, of every type and encoding; each goes to Quoit as a payload and comes back as one. Redis then
//! compares the two by its own digest, which covers elements, their order, scores and times.

use crate::pair::Pair;
use crate::support::{Client, Value, scaled, seed, show};

/// Values of one run; the full one is `QUOIT_TEST_STEPS=10000`.
const VALUES: usize = 1_500;

#[test]
fn values_of_either_are_restored_by_the_other() {
    let Some(pair) = Pair::start("values_of_either_are_restored_by_the_other") else {
        return;
    };
    let seed = seed();
    let mut values = Values {
        rng: fastrand::Rng::with_seed(seed),
        redis: pair.redis.client(),
        quoit: pair.quoit.client(),
    };
    let (mut redis, mut quoit) = (pair.redis.client(), pair.quoit.client());
    let mut encodings = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..scaled("QUOIT_TEST_STEPS", VALUES) {
        let what = values.make();
        let case = format!("seed {seed}, value {number}: {what}");
        let payload = redis.run(&["DUMP", "v"]);
        let request = [b"RESTORE", &b"v"[..], b"0", payload.bytes(), b"REPLACE"];
        for side in [&mut redis, &mut quoit] {
            assert_eq!(
                side.run(&request),
                Value::ok(),
                "{case}: {}",
                show(&payload)
            );
        }
        for question in [&["TYPE", "v"][..], &["OBJECT", "ENCODING", "v"]] {
            let answers = (redis.run(question), quoit.run(question));
            let encoding = answers.0.text();
            // Redis 7.2 has listpacks where 7.0 has these.
            let is_newer = ["quicklist", "hashtable"].contains(&encoding.as_str())
                && answers.1 == Value::bulk("listpack");
            assert!(answers.0 == answers.1 || is_newer, "{case}: {answers:?}");
            *encodings.entry(encoding).or_default() += 1;
        }
        let back = quoit.run(&["DUMP", "v"]);
        let restored = redis.run(&[b"RESTORE", &b"w"[..], b"0", back.bytes(), b"REPLACE"]);
        assert_eq!(restored, Value::ok(), "{case}: {}", show(&back));
        let digests = redis.run(&["DEBUG", "DIGEST-VALUE", "v", "w"]).items();
        assert_eq!(digests[0], digests[1], "{case}");
        let own = quoit.run(&[b"RESTORE", &b"w"[..], b"0", back.bytes(), b"REPLACE"]);
        assert_eq!(own, Value::ok(), "{case}");
        assert_eq!(
            quoit.run(&["DUMP", "w"]).bytes().len(),
            back.bytes().len(),
            "{case}"
        );
    }
    println!("{encodings:?}");
    for encoding in [
        "int",
        "embstr",
        "raw",
        "quicklist",
        "intset",
        "hashtable",
        "listpack",
        "skiplist",
    ] {
        assert!(encodings.contains_key(encoding), "no {encoding} was met");
    }
}

/// Redis's small forms, at their limits.
const LIMITS: &[(&str, &[&str])] = &[
    ("list-max-listpack-size", &["-2", "-1", "3", "100"]),
    ("hash-max-listpack-entries", &["128", "4"]),
    ("zset-max-listpack-entries", &["128", "4"]),
    ("set-max-intset-entries", &["512", "4"]),
    ("rdbcompression", &["yes", "no"]),
];

struct Values {
    rng: fastrand::Rng,
    redis: Client,
    quoit: Client,
}

impl Values {
    /// Gives Redis's key `v` another value; what it is, for people.
    fn make(&mut self) -> String {
        for (name, values) in LIMITS {
            let value = values[self.rng.usize(..values.len())];
            for side in [&mut self.redis, &mut self.quoit] {
                assert_eq!(side.run(&["CONFIG", "SET", name, value]), Value::ok());
            }
        }
        let count = [1, 3, 20, 127, 128, 129, 600][self.rng.usize(..7)];
        let longest = [3, 30, 64, 65, 300, 9_000][self.rng.usize(..6)].min(200_000 / count);
        let command = ["SET", "RPUSH", "SADD", "ZADD", "HSET", "integers"][self.rng.usize(..6)];
        let mut request = vec![command.as_bytes().to_vec(), b"v".to_vec()];
        for _ in 0..count {
            match command {
                "ZADD" => {
                    request.push(self.score().into_bytes());
                    request.push(self.text(longest));
                }
                "HSET" => request.extend([self.text(longest), self.text(longest)]),
                "integers" => request.push(self.integer().into_bytes()),
                "SET" if request.len() > 2 => {}
                _ => request.push(self.text(longest)),
            }
        }
        if command == "integers" {
            request[0] = b"SADD".to_vec();
        }
        self.redis.run(&["DEL", "v"]);
        let made = self.redis.run(&request);
        assert!(!made.is_error(), "{}", show(&made));
        // What grew and shrank again keeps the large form.
        if command == "ZADD" && self.rng.u8(..4) == 0 {
            self.redis.run(&["ZREMRANGEBYRANK", "v", "1", "-2"]);
        }
        format!("{command} of {count} up to {longest} bytes")
    }

    fn integer(&mut self) -> String {
        let shift = [0, 8, 33, 49, 57, 62][self.rng.usize(..6)];
        (self.rng.i64(..) >> shift).to_string()
    }

    fn score(&mut self) -> String {
        match self.rng.u8(..8) {
            0 => "inf".to_owned(),
            1 => "-inf".to_owned(),
            2 => "-0".to_owned(),
            3 => self.rng.f64().to_string(),
            4 => f64::from_bits(self.rng.u64(..) & !(1 << 62)).to_string(),
            _ => self.integer(),
        }
    }

    fn text(&mut self, longest: usize) -> Vec<u8> {
        let length = self.rng.usize(..=longest);
        match self.rng.u8(..6) {
            0 => self.integer().into_bytes(),
            1 => vec![self.rng.u8(..); length],
            2 => b"abcdefg".iter().copied().cycle().take(length).collect(),
            3 => (0..length).map(|_| self.rng.u8(..)).collect(),
            _ => (0..length).map(|_| self.rng.u8(b'a'..=b'd')).collect(),
        }
    }
}

/// What Redis answers to payloads that are damaged, cut, or of a later version.
#[test]
fn damaged_payloads() {
    let Some(pair) = Pair::start("damaged_payloads") else {
        return;
    };
    let seed = seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut redis, mut quoit) = (pair.redis.client(), pair.quoit.client());
    redis.run(&["RPUSH", "v", "a", "1", "bcdefghijklmnop", "70000"]);
    let good = redis.run(&["DUMP", "v"]).bytes().to_vec();
    for _ in 0..300 {
        let mut payload = good.clone();
        let place = rng.usize(..payload.len());
        match rng.u8(..3) {
            0 => payload[place] ^= 1 << rng.u8(..8),
            1 => payload.truncate(place),
            _ => payload.insert(place, rng.u8(..)),
        }
        let request = [b"RESTORE", &b"w"[..], b"0", &payload, b"REPLACE"];
        assert_eq!(
            redis.run(&request),
            quoit.run(&request),
            "seed {seed}: {payload:?}"
        );
    }
}
