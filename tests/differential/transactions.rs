//! Sequences of MULTI, EXEC, DISCARD and WATCH around commands whose replies have one order.

use crate::generate::{Generator, Request};
use crate::pair::{Pair, Step};

const REQUESTS: &[&str] = &[
    "SET a 1",
    "SET b text",
    "INCR a",
    "APPEND b x",
    "GET a",
    "MGET a b none",
    "DEL a b",
    "EXPIRE a 1000",
    "PERSIST a",
    "TYPE a",
    "RENAME a b",
    "COPY b a REPLACE",
    "MOVE a 1",
    "LPUSH l x y",
    "RPUSH l 1",
    "LRANGE l 0 -1",
    "LPOP l",
    "LPUSH b x",
    "RPOPLPUSH l m",
    "HSET h f 1 g 2",
    "HGET h f",
    "HINCRBY h g 5",
    "HDEL h f g",
    "ZADD z 1 a 2 b",
    "ZRANGE z 0 -1 WITHSCORES",
    "ZPOPMIN z",
    "SADD s 1",
    "SCARD s",
    "SREM s 1",
    "SORT l ALPHA",
    "EXISTS a b l h z s",
    "DBSIZE",
    "FLUSHDB",
    "SWAPDB 0 1",
    "SELECT 0",
    "SELECT 1",
    "SELECT 99",
    "PING",
    "ECHO x",
    "GET",
    "NOTHING",
    "SET a 1 NX XX",
    "WATCH a l h",
    "WATCH",
    "UNWATCH",
    "EXEC now",
];

/// What never waits inside a transaction, and may outside.
const BLOCKING: &[&str] = &["BLPOP l m 0", "BLMOVE l m LEFT RIGHT 0", "BZPOPMIN z 0"];

/// Numbers of databases; most servers come by few of them, and what is used for the first time is built first.
const DATABASES: u8 = 16;

/// Of databases with these numbers, `{}`.
const OF_DATABASES: &[&str] = &[
    "SWAPDB {} {}",
    "SELECT {}",
    "MOVE a {}",
    "COPY b a DB {} REPLACE",
];

/// Scripts that need more than they began with.
const SCRIPTS: &[&str] = &[
    "redis.call('SELECT', {}) redis.call('SET', 'a', 1) return redis.call('DBSIZE')",
    "redis.call('SWAPDB', {}, {}) return redis.call('INCR', 'a')",
    "redis.call('DBSIZE') redis.call('SELECT', {}) return redis.call('LPUSH', 'l', 'x')",
    "redis.call('FLUSHDB') redis.call('SWAPDB', {}, {}) return redis.call('COPY', 'b', 'a', 'DB', {})",
];

/// A sequence of this many requests.
pub fn sequence(_: &Pair, generator: &mut Generator) -> Vec<Step> {
    let mut is_inside = false;
    let mut steps = Vec::new();
    for _ in 0..250 {
        let chosen = generator.rng.u8(0..20);
        if chosen == 8 && generator.rng.u8(0..4) == 0 {
            steps.push(Step::Run(of_databases(generator)));
            continue;
        }
        let line = match chosen {
            0..3 if !is_inside => "MULTI",
            0..3 => "EXEC",
            3 if is_inside => "DISCARD",
            4 if generator.rng.u8(0..4) == 0 => "MULTI",
            5 if generator.rng.u8(0..4) == 0 => "EXEC",
            6 if generator.rng.u8(0..4) == 0 => "DISCARD",
            7 if is_inside => BLOCKING[generator.rng.usize(..BLOCKING.len())],
            _ => REQUESTS[generator.rng.usize(..REQUESTS.len())],
        };
        match line {
            "MULTI" => is_inside = true,
            "EXEC" | "EXEC now" | "DISCARD" => is_inside = false,
            _ => {}
        }
        steps.push(Step::Run(request(line)));
    }
    steps.push(Step::Compare);
    steps
}

fn of_databases(generator: &mut Generator) -> Request {
    let rng = &mut generator.rng;
    let of = |form: &str, rng: &mut fastrand::Rng| {
        let parts: Vec<&str> = form.split("{}").collect();
        let mut text = parts[0].to_owned();
        for part in &parts[1..] {
            text += &format!("{}{part}", rng.u8(..DATABASES));
        }
        text
    };
    if rng.bool() {
        let form = OF_DATABASES[rng.usize(..OF_DATABASES.len())];
        return request(&of(form, rng));
    }
    let script = of(SCRIPTS[rng.usize(..SCRIPTS.len())], rng);
    ["EVAL", &script, "0"].map(Vec::from).into()
}

fn request(line: &str) -> Request {
    line.split(' ').map(Vec::from).collect()
}
