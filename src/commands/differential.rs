use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use super::testing::{World, run_parts};
use crate::keyspace::effects::Effects;
use crate::keyspace::lock::{Plan, lock_all, PATIENCE};
use crate::resp::reply::Protocol;

struct Oracle { r: BufReader<UnixStream> }
impl Oracle {
    fn new() -> Oracle { Oracle { r: BufReader::new(UnixStream::connect("/tmp/strings-oracle.sock").unwrap()) } }
    fn run(&mut self, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", parts.len()).into_bytes();
        for p in parts { out.extend(format!("${}\r\n", p.len()).bytes()); out.extend(p); out.extend(b"\r\n"); }
        self.r.get_mut().write_all(&out).unwrap();
        let mut got = Vec::new();
        self.read(&mut got);
        got
    }
    fn read(&mut self, got: &mut Vec<u8>) {
        let mut line = Vec::new();
        self.r.read_until(b'\n', &mut line).unwrap();
        got.extend(&line);
        let n: i64 = std::str::from_utf8(&line[1..line.len()-2]).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
        match line[0] {
            b'$' if n >= 0 => { let mut b = vec![0; n as usize + 2]; self.r.read_exact(&mut b).unwrap(); got.extend(b); }
            b'*' if n > 0 => for _ in 0..n { self.read(got) },
            b'%' => for _ in 0..2*n { self.read(got) },
            _ => {}
        }
    }
}

fn w(s: &str) -> Vec<u8> { s.as_bytes().to_vec() }

struct Gen { rng: fastrand::Rng }
impl Gen {
    fn pick(&mut self, from: &[&str]) -> Vec<u8> { w(from[self.rng.usize(0..from.len())]) }
    fn key(&mut self) -> Vec<u8> { self.pick(&["a", "b", "c", "d", "e"]) }
    fn value(&mut self) -> Vec<u8> {
        match self.rng.u8(0..12) {
            0 => vec![], 1 => w("12"), 2 => w("-7"), 3 => w("9223372036854775807"), 4 => w("3.5"), 5 => w(" 1"),
            6 => (0..self.rng.usize(0..40)).map(|_| self.rng.u8(..)).collect(),
            7 => vec![0xff; self.rng.usize(0..20)], 8 => vec![0; self.rng.usize(0..20)],
            9 => (0..self.rng.usize(0..60)).map(|_| self.rng.u8(b'a'..b'd')).collect(),
            10 => (0..self.rng.usize(20_000..40_000)).map(|_| self.rng.u8(b'a'..b'd')).collect(),
            _ => w("hello world, this is a longer string than forty-four bytes") ,
        }
    }
    fn num(&mut self) -> Vec<u8> {
        match self.rng.u8(0..10) {
            0..=4 => w(&self.rng.i64(-20..60).to_string()),
            5 => w(&self.rng.i64(-500..500).to_string()),
            6 => w(&self.rng.i64(..).to_string()),
            7 => self.pick(&["0", "1", "-1"]),
            8 => self.pick(&["9223372036854775807", "-9223372036854775808", "9223372036854775808", "4294967295", "4294967296", "8388607", "8388608", "1048576", "1048575", "1048577"]),
            _ => self.pick(&["x", "", "+1", "01", "1.0", "-0", " 1"]),
        }
    }
    fn small(&mut self) -> Vec<u8> { if self.rng.u8(0..10) == 0 { self.num() } else { w(&self.rng.i64(0..200).to_string()) } }
    fn float(&mut self) -> Vec<u8> { match self.rng.u8(0..3) { 0 => self.num(), 1 => self.pick(&["1.5", "-0.1", "1e5", "1e400", "inf", "-inf", "nan", "3.0", "1e-17", "0.1", "5.0e3", "1e4000", "0x10", "99999999999999999999.5"]), _ => w(&format!("{}", self.rng.f64() * 100.0)) } }
    fn field(&mut self) -> Vec<u8> { if self.rng.u8(0..15) == 0 { self.pick(&["u64", "i65", "u0", "i", "x8", ""]) } else { w(&format!("{}{}", if self.rng.bool() {"i"} else {"u"}, self.rng.u8(1..64))) } }
    fn bitoff(&mut self) -> Vec<u8> { match self.rng.u8(0..4) { 0 => { let mut v = w("#"); v.extend(self.small()); v }, _ => self.small() } }
    fn case(&mut self, s: Vec<u8>) -> Vec<u8> { if self.rng.bool() { s.to_ascii_lowercase() } else { s } }
    fn exp(&mut self, v: &mut Vec<Vec<u8>>) {
        let k = self.pick(&["EX", "PX", "EXAT", "PXAT"]);
        let abs = k.len() == 4;
        v.push(self.case(k));
        if self.rng.u8(0..20) == 0 { return }
        v.push(match self.rng.u8(0..6) { 0 => self.num_exp(), _ if abs => self.pick(&["1", "99999999999", "9999999999999"]), _ => w("100000") });
    }
    fn num_exp(&mut self) -> Vec<u8> { self.pick(&["0", "-1", "x", "9223372036854775807", "9223372036854775", "9223372036854776", "-9223372036854775808", "9223372036854775808", ""]) }
    fn command(&mut self) -> Vec<Vec<u8>> {
        let name = ["SET","SET","SET","GET","GETEX","GETDEL","GETSET","SETNX","SETEX","PSETEX","MSET","MSETNX","MGET","APPEND","STRLEN","GETRANGE","SUBSTR","SETRANGE","INCR","DECR","INCRBY","DECRBY","INCRBYFLOAT","LCS","LCS","SETBIT","GETBIT","BITCOUNT","BITPOS","BITPOS","BITOP","BITOP","BITFIELD","BITFIELD","BITFIELD_RO"];
        let name = name[self.rng.usize(0..name.len())];
        let mut v = vec![w(name)];
        match name {
            "SET" => { v.push(self.key()); v.push(self.value()); for _ in 0..self.rng.usize(0..4) { match self.rng.u8(0..7) { 0 => { let o = self.pick(&["NX"]); v.push(o) } 1 => v.push(w("XX")), 2 => v.push(w("get")), 3 => v.push(w("KEEPTTL")), 4 | 5 => self.exp(&mut v), _ => if self.rng.u8(0..5) == 0 { v.push(self.pick(&["PERSIST", "foo", "", "NX", "ex"])) } } } }
            "GETEX" => { v.push(self.key()); for _ in 0..self.rng.usize(0..3) { match self.rng.u8(0..6) { 0 | 1 => v.push(w("persist")), 2..=4 => self.exp(&mut v), _ => v.push(self.pick(&["KEEPTTL", "foo", "NX"])) } } }
            "GET"|"GETDEL"|"STRLEN"|"INCR"|"DECR" => v.push(self.key()),
            "GETSET"|"SETNX"|"APPEND" => { v.push(self.key()); v.push(self.value()) }
            "SETEX"|"PSETEX" => { v.push(self.key()); let n = if self.rng.bool() { w("100000") } else { self.num_exp() }; v.push(n); v.push(self.value()) }
            "MSET"|"MSETNX" => { for _ in 0..self.rng.usize(1..4) { v.push(self.key()); v.push(self.value()) } if self.rng.u8(0..8) == 0 { v.push(self.key()) } }
            "MGET" => for _ in 0..self.rng.usize(1..5) { v.push(self.key()) },
            "GETRANGE"|"SUBSTR" => { v.push(self.key()); v.push(self.num()); v.push(self.num()) }
            "SETRANGE" => { v.push(self.key()); v.push(self.num()); v.push(self.value()) }
            "INCRBY"|"DECRBY" => { v.push(self.key()); v.push(self.num()) }
            "INCRBYFLOAT" => { v.push(self.key()); v.push(self.float()) }
            "LCS" => { v.push(self.key()); v.push(self.key()); for _ in 0..self.rng.usize(0..4) { match self.rng.u8(0..6) { 0 => v.push(w("LEN")), 1 | 2 => v.push(w("idx")), 3 => v.push(w("WITHMATCHLEN")), 4 => { v.push(w("MINMATCHLEN")); v.push(self.num()) }, _ => if self.rng.u8(0..4) == 0 { v.push(self.pick(&["foo", "MINMATCHLEN"])) } } } }
            "SETBIT" => { v.push(self.key()); v.push(self.bitoff()); let n = if self.rng.u8(0..8) == 0 { self.num() } else { self.pick(&["0", "1"]) }; v.push(n) }
            "GETBIT" => { v.push(self.key()); v.push(self.bitoff()) }
            "BITCOUNT" => { v.push(self.key()); if self.rng.u8(0..4) > 0 { v.push(self.num()); if self.rng.u8(0..12) > 0 { v.push(self.num()); match self.rng.u8(0..4) { 0 => v.push(w("BYTE")), 1 | 2 => v.push(w("bit")), _ => {} } if self.rng.u8(0..15) == 0 { v.push(self.pick(&["x", "bit"])) } } } }
            "BITPOS" => { v.push(self.key()); let b = if self.rng.u8(0..10) == 0 { self.num() } else { self.pick(&["0", "1"]) }; v.push(b); if self.rng.u8(0..4) > 0 { v.push(self.num()); if self.rng.u8(0..3) > 0 { v.push(self.num()); match self.rng.u8(0..4) { 0 => v.push(w("BYTE")), 1 | 2 => v.push(w("bit")), _ => {} } if self.rng.u8(0..15) == 0 { v.push(self.pick(&["x", "bit"])) } } } }
            "BITOP" => { let o = self.pick(&["AND", "OR", "XOR", "NOT", "and", "foo", "Or"]); v.push(o); v.push(self.key()); for _ in 0..self.rng.usize(1..4) { v.push(self.key()) } }
            _ => { v.push(self.key()); for _ in 0..self.rng.usize(0..5) { match self.rng.u8(0..10) {
                0..=2 => { v.push(w("GET")); v.push(self.field()); v.push(self.bitoff()) }
                3..=5 if name == "BITFIELD" || self.rng.u8(0..6) == 0 => { v.push(w("set")); v.push(self.field()); v.push(self.bitoff()); v.push(self.num()) }
                6 | 7 if name == "BITFIELD" || self.rng.u8(0..6) == 0 => { v.push(w("INCRBY")); v.push(self.field()); v.push(self.bitoff()); v.push(self.num()) }
                8 => { v.push(w("OVERFLOW")); v.push(self.pick(&["WRAP", "SAT", "FAIL", "fail", "sat"])) }
                _ => if self.rng.u8(0..8) == 0 { v.push(self.pick(&["foo", "GET", "SET", "OVERFLOW"])) } } } }
        }
        if self.rng.u8(0..100) == 0 { v.truncate(self.rng.usize(1..=v.len())); }
        v
    }
}

fn state(world: &World, key: &[u8]) -> (Option<Vec<u8>>, bool, &'static str) {
    let rng = crate::base::rng::Rng::seeded(1);
    let run = crate::keyspace::view::Run { now: world.now(), rules: &world.rules, rng: &rng, touch: false };
    let mut plan = Plan::new();
    plan.push(world.keyspace.place(0, world.keyspace.hasher().hash(key)));
    let mut effects = Effects::default();
    let locked = lock_all(&world.keyspace, &mut plan, PATIENCE).unwrap();
    let view = crate::keyspace::view::View::new(&world.keyspace, 0, locked, run, None, &mut effects);
    match view.peek(key) {
        None => (None, false, ""),
        Some(e) => (Some(e.bytes().to_vec()), e.expiry().is_some(), if e.is_raw() { "raw" } else if e.bytes().len() <= 20 && crate::data::number::parse_i64(e.bytes()).is_some() { "int" } else if e.bytes().len() <= 44 { "embstr" } else { "raw" }),
    }
}

#[test]
#[ignore]
fn differential() {
    let seed: u64 = std::env::var("QUOIT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let count: usize = std::env::var("COUNT").ok().and_then(|s| s.parse().ok()).unwrap_or(20000);
    println!("seed {seed}");
    let mut oracle = Oracle::new();
    oracle.run(&[w("CONFIG"), w("SET"), w("proto-max-bulk-len"), w("1mb")]);
    oracle.run(&[w("FLUSHALL")]);
    let mut world = World::new();
    world.rules.max_string_bytes = 1 << 20;
    let mut real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    real -= world.now().0; world.advance_ms(real);
    if std::env::var("RESP3").is_ok() { oracle.run(&[w("HELLO"), w("3")]); world.protocol.set(Protocol::Resp3); }
    let mut g = Gen { rng: fastrand::Rng::with_seed(seed) };
    let mut bad = 0;
    let (mut errors, mut nonzero) = (std::collections::BTreeMap::<String, usize>::new(), 0);
    for n in 0..count {
        let cmd = g.command();
        let show = cmd.iter().map(|p| p[..p.len().min(60)].escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
        let before: Vec<_> = ["a","b","c","d","e"].iter().map(|k| state(&world, k.as_bytes())).collect();
        let theirs = oracle.run(&cmd);
        let ours = run_parts(&world, &cmd);
        if theirs.starts_with(b"-") { *errors.entry(String::from_utf8_lossy(&theirs).into_owned()).or_default() += 1 } else { nonzero += 1 }
        let name = String::from_utf8_lossy(&cmd[0]).into_owned();
        let missing = cmd.len() > 1 && (state(&world, &cmd[1]).0.is_none() || cmd.len() >= 5);
        let known = (name == "BITCOUNT" || name == "BITPOS") && missing && ours.starts_with(b"-");
        if ours != theirs && !known && !show.contains("#-9223372036854775808") {
            println!("#{n} {show}\n  oracle {}\n  ours   {}\n  before {:?}", theirs[..theirs.len().min(300)].escape_ascii(), ours[..ours.len().min(300)].escape_ascii(), cmd.get(1).map(|k| ["a","b","c","d","e"].iter().position(|x| x.as_bytes()==k).map(|i| before[i].0.as_ref().map(|v| v[..v.len().min(100)].escape_ascii().to_string()))));
            bad += 1;
        }
        for key in &cmd[1..] {
            if key.len() != 1 { continue }
            let mine = state(&world, key);
            let value = oracle.run(&[w("GET"), key.clone()]);
            let expected = match &mine.0 { None => if world.protocol.get() == Protocol::Resp3 { w("_\r\n") } else { w("$-1\r\n") }, Some(b) => { let mut o = format!("${}\r\n", b.len()).into_bytes(); o.extend(b); o.extend(b"\r\n"); o } };
            let ttl = oracle.run(&[w("PTTL"), key.clone()]);
            let expires = !ttl.starts_with(b":-");
            let mut enc = oracle.run(&[w("OBJECT"), w("ENCODING"), key.clone()]);
            if enc.starts_with(b"$") && enc.len() > 6 { enc = enc[4..enc.len()-2].to_vec() } else { enc = vec![] }
            if (value != expected && !show.contains("#-9223372036854775808")) || expires != mine.1 { println!("#{n} {show}\n  STATE of {} differs: oracle {} {} ours {} {}", key.escape_ascii(), value[..value.len().min(200)].escape_ascii(), expires, expected[..expected.len().min(200)].escape_ascii(), mine.1); bad += 1; }
            if enc != mine.2.as_bytes() && name != "INCRBYFLOAT" {
                println!("#{n} {show}\n  ENCODING of {}: oracle {} ours {} value {:?}", key.escape_ascii(), enc.escape_ascii(), mine.2, mine.0.as_ref().map(|v| v[..v.len().min(50)].escape_ascii().to_string()));
                bad += 1;
            }
            if enc != mine.2.as_bytes() || value != expected { oracle.run(&[w("DEL"), key.clone()]); run_parts(&world, &[w("GETDEL"), key.clone()]); }
        }
        if bad > 15 { break }
    }
    println!("{nonzero} replies, errors: {errors:#?}");
    assert_eq!(bad, 0);
}
