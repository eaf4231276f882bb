//! redis-rs's cluster clients, `cluster-async` and the blocking one, on the cluster face of a ring of three.
//!
//! What they do by themselves: `MGET`, `MSET`, `DEL` and their kin over keys of several nodes are cut up and joined, `DBSIZE`,
//! `KEYS`, `FLUSHALL` and what else concerns all nodes goes to all. The asynchronous client refuses a pipeline of several
//! slots before it sends any of it; the blocking one has a pipeline that may go to several nodes.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::cluster::{ClusterClient, ClusterClientBuilder, cluster_pipe};
use redis::cluster_async::ClusterConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{
    AsyncCommands, Commands, ProtocolVersion, PushInfo, PushKind, RedisResult, Script,
    ServerErrorKind, Value, cmd, pipe,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::cluster::{come_and_go, ring};
use crate::nodes::Ring;
use crate::support::PATIENCE;

const PROTOCOLS: [ProtocolVersion; 2] = [ProtocolVersion::RESP2, ProtocolVersion::RESP3];

fn builder(ring: &Ring, protocol: ProtocolVersion) -> ClusterClientBuilder {
    let url = format!("redis://127.0.0.1:{}", ring.cluster_port(0));
    ClusterClientBuilder::new([url])
        .use_protocol(protocol)
        .response_timeout(PATIENCE)
        .overall_response_timeout(Some(PATIENCE))
}

fn client(ring: &Ring, protocol: ProtocolVersion) -> ClusterClient {
    let built = builder(ring, protocol).build();
    built.expect("an address it understands")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Runs a test with a connection in each protocol.
fn with_connections<T: Future<Output = RedisResult<()>>>(test: impl Fn(ClusterConnection) -> T) {
    let ring = ring();
    for protocol in PROTOCOLS {
        let done = runtime().block_on(async {
            let mut connection = client(&ring, protocol).get_async_connection().await?;
            let () = cmd("FLUSHALL").query_async(&mut connection).await?;
            test(connection).await
        });
        done.unwrap_or_else(|error| panic!("{protocol:?}: {error:?}"));
    }
}

fn keys(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}:{number}"))
        .collect()
}

/// What the client cuts up, or sends to all nodes.
#[test]
fn keys_of_all_nodes() {
    with_connections(async |mut c: ClusterConnection| {
        let keys = keys("key", 300);
        let pairs: Vec<(&String, usize)> = keys.iter().zip(0..).collect();
        let () = c.mset(&pairs).await?;
        let values: Vec<Option<usize>> = c.mget(&keys).await?;
        assert_eq!(values, (0..300).map(Some).collect::<Vec<_>>());
        let size: usize = cmd("DBSIZE").query_async(&mut c).await?;
        assert_eq!(size, 300);
        let mut found: Vec<String> = c.keys("key:1?").await?;
        found.sort();
        assert_eq!(found, keys[10..20]);
        let random: String = cmd("RANDOMKEY").query_async(&mut c).await?;
        assert!(keys.contains(&random), "{random}");
        assert_eq!(c.exists::<_, usize>(&keys).await?, 300);
        assert_eq!(
            cmd("TOUCH").arg(&keys).query_async::<usize>(&mut c).await?,
            300
        );
        assert_eq!(c.del::<_, usize>(&keys[..200]).await?, 200);
        assert_eq!(c.unlink::<_, usize>(&keys[150..]).await?, 100);
        let size: usize = cmd("DBSIZE").query_async(&mut c).await?;
        assert_eq!(size, 0);
        let infos: HashMap<String, Value> = cmd("INFO").arg("cluster").query_async(&mut c).await?;
        assert_eq!(infos.len(), 3, "{infos:?}");
        let name = "maxmemory-samples";
        let () = cmd("CONFIG")
            .arg("SET")
            .arg(name)
            .arg(7)
            .query_async(&mut c)
            .await?;
        let value: (String, String) = cmd("CONFIG")
            .arg("GET")
            .arg(name)
            .query_async(&mut c)
            .await?;
        assert_eq!(value.1, "7");
        assert_eq!(cmd("PING").query_async::<String>(&mut c).await?, "PONG");
        Ok(())
    });
}

/// A few commands of each family, each with keys of many slots.
#[test]
fn families() {
    with_connections(async |mut c: ClusterConnection| {
        for number in 0..20_i64 {
            let key = |name: &str| format!("{name}:{number}");
            let () = c.set_ex(key("string"), "text", 100).await?;
            assert_eq!(c.append::<_, _, usize>(key("string"), "!").await?, 5);
            assert_eq!(c.ttl::<_, i64>(key("string")).await?, 100);
            assert_eq!(c.get::<_, String>(key("string")).await?, "text!");
            assert_eq!(c.incr::<_, _, i64>(key("count"), number).await?, number);
            assert_eq!(
                c.object_encoding::<_, String>(key("count")).await?,
                "int",
                "{number}"
            );
            assert!(
                c.hset::<_, _, _, bool>(key("hash"), "field", number)
                    .await?
            );
            let hash: HashMap<String, i64> = c.hgetall(key("hash")).await?;
            assert_eq!(hash, HashMap::from([("field".to_owned(), number)]));
            assert_eq!(c.rpush::<_, _, usize>(key("list"), &[1, 2, 3]).await?, 3);
            assert_eq!(
                c.lrange::<_, Vec<i64>>(key("list"), 0, -1).await?,
                [1, 2, 3]
            );
            assert_eq!(
                c.blpop::<_, (String, i64)>(key("list"), 1.0).await?,
                (key("list"), 1)
            );
            assert_eq!(c.sadd::<_, _, usize>(key("set"), &["a", "b"]).await?, 2);
            assert_eq!(
                c.smembers::<_, BTreeSet<String>>(key("set")).await?,
                BTreeSet::from(["a".to_owned(), "b".to_owned()])
            );
            assert!(c.zadd::<_, _, _, bool>(key("zset"), "m", number).await?);
            assert_eq!(
                c.zrange_withscores::<_, Vec<(String, f64)>>(key("zset"), 0, -1)
                    .await?,
                [("m".to_owned(), number as f64)]
            );
            assert!(c.pfadd::<_, _, bool>(key("hll"), number).await?);
            assert_eq!(c.pfcount::<_, usize>(key("hll")).await?, 1);
            assert!(!c.setbit::<_, bool>(key("bits"), 7, true).await?);
            assert_eq!(c.get::<_, Vec<u8>>(key("bits")).await?, [1]);
            let kind: String = cmd("TYPE").arg(key("zset")).query_async(&mut c).await?;
            assert_eq!(kind, "zset");
            let error = c.incr::<_, _, i64>(key("string"), 1).await;
            let error = error.expect_err("a text cannot be counted");
            assert_eq!(error.code(), Some("ERR"));
            let id: String = c.xadd(key("stream"), "7-1", &[("f", number)]).await?;
            assert_eq!(id, "7-1");
            let () = c.xgroup_create(key("stream"), "group", "0").await?;
            let options = StreamReadOptions::default().group("group", "me").count(1);
            let read: StreamReadReply = c.xread_options(&[key("stream")], &[">"], &options).await?;
            assert_eq!(read.keys[0].key, key("stream"));
            assert_eq!(read.keys[0].ids[0].get::<i64>("f"), Some(number));
            assert_eq!(
                c.xack::<_, _, _, usize>(key("stream"), "group", &["7-1"])
                    .await?,
                1
            );
        }
        Ok(())
    });
}

/// Texts of scripts are sent again by the client where they are not known; libraries it loads at each node.
#[test]
fn scripts() {
    with_connections(async |mut c: ClusterConnection| {
        let script = Script::new("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}");
        for key in keys("script", 20) {
            let ran: (String, i64) = script.key(&key).arg(5).invoke_async(&mut c).await?;
            assert_eq!(ran, (key, 5));
        }
        let known: Vec<bool> = cmd("SCRIPT")
            .arg("EXISTS")
            .arg(script.get_hash())
            .query_async(&mut c)
            .await?;
        assert_eq!(known, [true], "at all nodes");
        let library = "#!lua name=lib\n\
            redis.register_function('more', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)";
        let name: String = cmd("FUNCTION")
            .arg("LOAD")
            .arg("REPLACE")
            .arg(library)
            .query_async(&mut c)
            .await?;
        assert_eq!(name, "lib");
        for key in keys("script", 20) {
            let count: i64 = cmd("FCALL")
                .arg("more")
                .arg(1)
                .arg(&key)
                .arg(2)
                .query_async(&mut c)
                .await?;
            assert_eq!(count, 7);
        }
        let () = cmd("FUNCTION").arg("FLUSH").query_async(&mut c).await?;
        let () = cmd("FUNCTION")
            .arg("LOAD")
            .arg(library)
            .query_async(&mut c)
            .await?;
        let () = cmd("FUNCTION")
            .arg("DELETE")
            .arg("lib")
            .query_async(&mut c)
            .await?;
        let () = cmd("SCRIPT").arg("FLUSH").query_async(&mut c).await?;
        Ok(())
    });
}

/// Of one slot the asynchronous client sends all together, of several it refuses.
#[test]
fn pipelines() {
    with_connections(async |mut c: ClusterConnection| {
        for number in 0..20 {
            let key = format!("{{{number}}}");
            let replies: (bool, usize, i64, Option<String>) = pipe()
                .hset(format!("{key}:hash"), "f", 1)
                .rpush(format!("{key}:list"), "x")
                .incr(format!("{key}:count"), 41)
                .get(format!("{key}:none"))
                .query_async(&mut c)
                .await?;
            assert_eq!(replies, (true, 1, 41, None));
            // An error in the middle is that request's alone.
            let refused = pipe()
                .incr(format!("{key}:count"), 1)
                .incr(format!("{key}:list"), 1)
                .incr(format!("{key}:count"), 1)
                .query_async::<Value>(&mut c)
                .await
                .expect_err("a list cannot be counted");
            let text = refused.to_string();
            assert!(text.contains("(Index 1, error: \"WRONGTYPE\""), "{text}");
            assert_eq!(c.get::<_, i64>(format!("{key}:count")).await?, 43);
        }
        let across = pipe().get("a").get("b").query_async::<Value>(&mut c).await;
        let across = across.expect_err("the client does not cut it up");
        assert_eq!(across.kind(), ServerErrorKind::CrossSlot.into());
        Ok(())
    });
}

/// The blocking client's pipeline goes to all nodes that have its keys, and its replies come in order.
#[test]
fn pipelines_of_all_nodes() -> RedisResult<()> {
    let ring = ring();
    for protocol in PROTOCOLS {
        let mut connection = client(&ring, protocol).get_connection()?;
        let keys = keys("key", 300);
        let mut writes = cluster_pipe();
        keys.iter().enumerate().for_each(|(number, key)| {
            writes.set(key, number).ignore();
        });
        writes.exec(&mut connection)?;
        let mut reads = cluster_pipe();
        keys.iter().for_each(|key| {
            reads.get(key).del(key);
        });
        let replies: Vec<i64> = reads.query(&mut connection)?;
        let expected: Vec<i64> = (0..300).flat_map(|number| [number, 1]).collect();
        assert_eq!(replies, expected);
        let left: Vec<Option<i64>> = connection.mget(&keys)?;
        assert_eq!(left, vec![None; 300]);
    }
    Ok(())
}

/// Tags keep the keys of a transaction together.
#[test]
fn transactions_with_tags() {
    with_connections(async |mut c: ClusterConnection| {
        for number in 0..20 {
            let key = |name: &str| format!("{{{number}}}:{name}");
            let replies: (i64, i64, Vec<i64>) = pipe()
                .atomic()
                .incr(key("a"), 1)
                .incr(key("b"), 2)
                .mget(&[key("a"), key("b")])
                .query_async(&mut c)
                .await?;
            assert_eq!(replies, (1, 2, vec![1, 2]));
            // One that fails does not undo the others.
            let failed = pipe()
                .atomic()
                .incr(key("a"), 1)
                .lpush(key("a"), 1)
                .incr(key("b"), 1)
                .query_async::<Value>(&mut c)
                .await
                .expect_err("a count is no list");
            let text = failed.to_string();
            assert!(text.contains("(Index 1, error: \"WRONGTYPE\""), "{text}");
            let values: Vec<i64> = c.mget(&[key("a"), key("b")]).await?;
            assert_eq!(values, [2, 3]);
        }
        Ok(())
    });
}

/// The next message, past what tells of connections and subscriptions.
async fn heard(pushes: &mut UnboundedReceiver<PushInfo>) -> (PushKind, Vec<String>) {
    loop {
        let next = tokio::time::timeout(PATIENCE, pushes.recv()).await;
        let PushInfo { kind, data } = next
            .expect("a message comes")
            .expect("the client is not gone");
        if matches!(
            kind,
            PushKind::Message | PushKind::PMessage | PushKind::SMessage
        ) {
            let texts = data.into_iter().map(redis::from_redis_value);
            let texts: Result<_, _> = texts.collect();
            return (kind, texts.expect("all of a message is text"));
        }
    }
}

/// Messages of channels, patterns and shards reach a client of the cluster, whoever sends them; while it listens it uses keys.
#[test]
fn messages() -> RedisResult<()> {
    let ring = ring();
    runtime().block_on(async {
        let (sender, mut pushes) = unbounded_channel();
        let listener = builder(&ring, ProtocolVersion::RESP3).push_sender(sender);
        let mut listener = listener.build()?.get_async_connection().await?;
        let publisher = client(&ring, ProtocolVersion::RESP2);
        let mut publisher = publisher.get_async_connection().await?;
        for number in 0..10 {
            let channel = format!("channel:{number}");
            listener.subscribe(&channel).await?;
            let receivers: usize = publisher.publish(&channel, number).await?;
            assert_eq!(receivers, 1);
            let message = vec![channel, number.to_string()];
            assert_eq!(heard(&mut pushes).await, (PushKind::Message, message));
            let shard = format!("shard:{number}");
            listener.ssubscribe(&shard).await?;
            let receivers: usize = publisher.spublish(&shard, number).await?;
            assert_eq!(receivers, 1);
            let message = vec![shard, number.to_string()];
            assert_eq!(heard(&mut pushes).await, (PushKind::SMessage, message));
            let () = listener.set(format!("key:{number}"), number).await?;
        }
        listener.psubscribe("pattern:*").await?;
        let receivers: usize = publisher.publish("pattern:x", "y").await?;
        assert_eq!(receivers, 1);
        let message = ["pattern:*", "pattern:x", "y"].map(str::to_owned).to_vec();
        assert_eq!(heard(&mut pushes).await, (PushKind::PMessage, message));
        listener.sunsubscribe("shard:3").await?;
        let receivers: usize = publisher.spublish("shard:3", "x").await?;
        assert_eq!(receivers, 0);
        listener.unsubscribe("channel:3").await?;
        let receivers: usize = publisher.publish("channel:3", "x").await?;
        assert_eq!(receivers, 0);
        Ok(())
    })
}

/// Kinds of keys that a [`Worker`] has.
const FORMS: usize = 9;
/// How many of each.
const KEYS_OF_FORM: usize = 12;

/// Counts up its own keys, each in its own way; the reply to each write tells whether all before it were done, and once.
struct Worker {
    connection: ClusterConnection,
    number: usize,
    counts: Vec<u64>,
    script: Arc<Script>,
}

impl Worker {
    async fn work(mut self, stop: Arc<AtomicBool>) -> RedisResult<u64> {
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            let index = rounds as usize % self.counts.len();
            self.counts[index] += 1;
            self.write(index).await?;
            let () = self.connection.incr("written", 1).await?;
            rounds += 1;
            if index == 0 {
                self.read_texts().await?;
            }
        }
        self.read_texts().await?;
        Ok(rounds)
    }

    fn key(&self, index: usize) -> String {
        format!("load:{}:{index}", self.number)
    }

    async fn write(&mut self, index: usize) -> RedisResult<()> {
        let (key, count) = (self.key(index), self.counts[index]);
        let c = &mut self.connection;
        match index % FORMS {
            0 => {
                let before: Option<u64> = c.get(&key).await?;
                assert_eq!(before.unwrap_or(0), count - 1, "{key}");
                let () = c.set(&key, count).await?;
            }
            1 => assert_eq!(c.incr::<_, _, u64>(&key, 1).await?, count, "{key}"),
            2 => assert_eq!(c.hincr::<_, _, _, u64>(&key, "f", 1).await?, count, "{key}"),
            3 => assert_eq!(c.rpush::<_, _, u64>(&key, count).await?, count, "{key}"),
            4 => assert_eq!(c.zincr::<_, _, _, u64>(&key, "m", 1).await?, count, "{key}"),
            5 => {
                let id = format!("{count}-1");
                let added: String = c.xadd(&key, &id, &[("n", count)]).await?;
                assert_eq!(added, id, "{key}");
                assert_eq!(c.xlen::<_, u64>(&key).await?, count, "{key}");
            }
            6 => {
                let mut invocation = self.script.prepare_invoke();
                let invocation = invocation.key(&key).arg(1);
                let now: u64 = invocation.invoke_async(c).await?;
                assert_eq!(now, count, "{key}");
            }
            7 => {
                let beside = format!("{{{key}}}:beside");
                let mut pipe = pipe();
                let pipe = pipe.set(&key, count).ignore();
                let pipe = pipe.get(&key).set(&beside, count).ignore().get(&beside);
                let read: (u64, u64) = pipe.query_async(c).await?;
                assert_eq!(read, (count, count), "{key}");
            }
            _ => self.transact(&key, count).await?,
        }
        Ok(())
    }

    /// Where its slot has moved, a transaction is refused with EXECABORT, as by Redis, and was not done at all. redis-rs neither
    /// sends it again nor asks where its keys are now: the next request does.
    async fn transact(&mut self, key: &str, count: u64) -> RedisResult<()> {
        let beside = format!("{{{key}}}:beside");
        loop {
            let mut pipe = pipe();
            let pipe = pipe.atomic().incr(key, 1).incr(&beside, 1);
            match pipe.query_async::<(u64, u64)>(&mut self.connection).await {
                Ok(read) => {
                    assert_eq!(read, (count, count), "{key}");
                    return Ok(());
                }
                Err(error) if error.kind() == ServerErrorKind::ExecAbort.into() => {
                    let text = error.to_string();
                    assert!(text.contains("(Index 0, error: Moved: "), "{key}: {text}");
                    let before: Option<u64> = self.connection.get(key).await?;
                    assert_eq!(before.unwrap_or(0), count - 1, "{key}");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// All texts of this worker in one request, which goes to all nodes.
    async fn read_texts(&mut self) -> RedisResult<()> {
        let texts = || (0..self.counts.len()).filter(|index| index % FORMS == 0);
        let keys: Vec<String> = texts().map(|index| self.key(index)).collect();
        let expected: Vec<u64> = texts().map(|index| self.counts[index]).collect();
        let read: Vec<Option<u64>> = self.connection.mget(&keys).await?;
        let read: Vec<u64> = read.into_iter().map(Option::unwrap_or_default).collect();
        assert_eq!(read, expected, "{keys:?}");
        Ok(())
    }
}

fn while_nodes_come_and_go(protocol: ProtocolVersion) -> RedisResult<()> {
    let mut ring = ring();
    let runtime = runtime();
    let connection = runtime.block_on(client(&ring, protocol).get_async_connection())?;
    let stop = Arc::new(AtomicBool::new(false));
    let script = Arc::new(Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])"));
    let workers: Vec<_> = (0..6)
        .map(|number| {
            let worker = Worker {
                connection: connection.clone(),
                number,
                counts: vec![0; FORMS * KEYS_OF_FORM],
                script: Arc::clone(&script),
            };
            runtime.spawn(worker.work(Arc::clone(&stop)))
        })
        .collect();
    come_and_go(&mut ring, || {
        workers.iter().any(tokio::task::JoinHandle::is_finished)
    });
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        let mut rounds = 0;
        for worker in workers {
            rounds += worker.await.expect("a worker does not panic")?;
        }
        let written: u64 = connection.clone().get("written").await?;
        assert_eq!(written, rounds);
        println!("{rounds} rounds");
        Ok(())
    })
}

#[test]
fn redis_rs_while_nodes_come_and_go_resp2() -> RedisResult<()> {
    while_nodes_come_and_go(ProtocolVersion::RESP2)
}

#[test]
fn redis_rs_while_nodes_come_and_go_resp3() -> RedisResult<()> {
    while_nodes_come_and_go(ProtocolVersion::RESP3)
}
