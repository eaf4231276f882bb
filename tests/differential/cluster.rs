//! CLUSTER and its kin: without a ring against redis-server without cluster support; slots of keys against a redis-server
//! with it.

use crate::admin::compare;
use crate::support::elsewhere::{RingDiffers, ring_differs};
use crate::support::{Value, free_port, oracle_with, seed};
use quoit::cluster::slots::slot_of;

#[test]
fn without_a_ring() {
    if ring_differs(RingDiffers::IsOne) {
        return;
    }
    compare(
        "cluster_without_a_ring",
        r#"
        CLUSTER
        CLUSTER HELP
        CLUSTER INFO
        CLUSTER INFO x
        CLUSTER NODES
        CLUSTER SLOTS
        CLUSTER SHARDS
        CLUSTER LINKS
        CLUSTER MYID
        CLUSTER KEYSLOT
        CLUSTER KEYSLOT a
        CLUSTER COUNTKEYSINSLOT
        CLUSTER COUNTKEYSINSLOT 1
        CLUSTER COUNTKEYSINSLOT x
        CLUSTER GETKEYSINSLOT 1
        CLUSTER GETKEYSINSLOT 1 1
        CLUSTER GETKEYSINSLOT x x
        CLUSTER REPLICAS
        CLUSTER REPLICAS x
        CLUSTER SLAVES x
        CLUSTER COUNT-FAILURE-REPORTS x
        CLUSTER ADDSLOTS
        CLUSTER ADDSLOTS 1
        CLUSTER ADDSLOTSRANGE 1 2
        CLUSTER DELSLOTS 1
        CLUSTER DELSLOTSRANGE 1 2
        CLUSTER FLUSHSLOTS
        CLUSTER SETSLOT 1 STABLE
        CLUSTER MEET 127.0.0.1 7000
        CLUSTER MEET 127.0.0.1 7000 17000
        CLUSTER FORGET
        CLUSTER FORGET x
        CLUSTER REPLICATE x
        CLUSTER FAILOVER
        CLUSTER FAILOVER x
        CLUSTER RESET
        CLUSTER RESET HARD
        CLUSTER BUMPEPOCH
        CLUSTER SET-CONFIG-EPOCH 1
        CLUSTER SAVECONFIG
        CLUSTER NOSUCH
        CLUSTER NOSUCH x
        READONLY
        READONLY x
        READWRITE
        ASKING
        ASKING x

        MULTI
        CLUSTER INFO
        CLUSTER COUNTKEYSINSLOT 1
        READONLY
        READWRITE
        ASKING
        EXEC

        EVAL "return redis.call('cluster','info')" 0
        EVAL "return redis.pcall('cluster','countkeysinslot','1')" 0
        EVAL "return redis.pcall('cluster','reset')" 0
        EVAL "return redis.pcall('readonly')" 0
        EVAL "return redis.pcall('asking')" 0
        "#,
    );
}

#[test]
fn slots_of_keys() {
    // Aim: hash tags in all forms; then keys by chance, half of whose bytes are braces.
    let bus_port = free_port().to_string();
    let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus_port];
    let Some(redis) = oracle_with("slots_of_keys", &arguments) else {
        return;
    };
    let mut client = redis.client();
    let mut keys: Vec<Vec<u8>> = [
        "",
        "a",
        "foo",
        "{",
        "}",
        "{}",
        "}{",
        "{}a",
        "{a}",
        "{{a}",
        "{{a}}",
        "{a}{b}",
        "a{b",
        "a}b{c}d",
        "a{}{b}c",
        "{a",
        "a{b}c",
        "user:{42}:x",
        "{\0}",
        "123456789",
        "0123456789abcdef",
        "0123456789abcdef0",
    ]
    .iter()
    .map(|key| key.as_bytes().to_vec())
    .collect();
    let mut rng = fastrand::Rng::with_seed(seed());
    for _ in 0..2000 {
        let length = rng.usize(..70);
        let key = std::iter::repeat_with(|| match rng.u8(..4) {
            0 => b'{',
            1 => b'}',
            _ => rng.u8(..),
        });
        keys.push(key.take(length).collect());
    }
    for key in keys {
        let told = client.run(&[&b"CLUSTER"[..], b"KEYSLOT", &key]);
        assert_eq!(
            told,
            Value::Int(slot_of(&key).into()),
            "{}",
            key.escape_ascii()
        );
    }
}
