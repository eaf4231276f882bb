"""redis-py's RedisCluster on the cluster face of a ring: redis_py_cluster.py PORT PROTOCOL.

Each check is a function; all run in order, and the exit status says whether one failed.
"""

import sys
import traceback

import redis.exceptions
from redis.cluster import ClusterNode, RedisCluster

PORT, PROTOCOL = int(sys.argv[1]), int(sys.argv[2])
checks = []


def check(function):
    checks.append(function)
    return function


def client():
    return RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", PORT)],
        protocol=PROTOCOL,
        decode_responses=True,
        socket_timeout=30,
    )


@check
def finds_all_nodes():
    r = client()
    assert len(r.get_primaries()) == 3, r.get_primaries()
    assert r.get_replicas() == []
    assert r.ping(target_nodes=RedisCluster.ALL_NODES)


@check
def keys_of_all_slots():
    r = client()
    for number in range(500):
        assert r.set(f"key:{number}", number) is True
    assert [r.get(f"key:{number}") for number in range(500)] == [str(n) for n in range(500)]
    with r.pipeline() as pipeline:
        for number in range(500):
            pipeline.get(f"key:{number}")
        assert pipeline.execute() == [str(n) for n in range(500)]
    assert r.mset_nonatomic({"a": "1", "b": "2", "c": "3"})
    assert r.mget_nonatomic("a", "b", "c") == ["1", "2", "3"]
    assert r.dbsize(target_nodes=RedisCluster.ALL_NODES) == 503
    assert len(set(r.scan_iter("key:*", count=100))) == 500
    assert r.delete(*(f"key:{number}" for number in range(500))) == 500


@check
def tags_keep_keys_together():
    r = client()
    r.mset({"{t}a": "1", "{t}b": "2"})
    assert r.mget("{t}a", "{t}b") == ["1", "2"]
    assert r.keyslot("{t}a") == r.cluster_keyslot("{t}b")
    node = r.get_node_from_key("{t}a")
    assert int(node.port) in [int(known.port) for known in r.get_primaries()]
    slot = r.keyslot("{t}a")
    assert r.cluster_countkeysinslot(slot) == 2
    assert sorted(r.cluster_get_keys_in_slot(slot, 10)) == ["{t}a", "{t}b"]
    assert r.eval("return redis.call('GET', KEYS[1])", 1, "{t}b") == "2"
    with r.lock("lock", timeout=5):
        assert r.exists("lock") == 1
    assert r.exists("lock") == 0


@check
def views():
    r = client()
    node = r.get_primaries()[0]
    info = r.cluster_info(target_nodes=node)
    assert info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3", info
    nodes = r.cluster_nodes()
    assert len(nodes) == 3, nodes
    assert all(known["connected"] for known in nodes.values()), nodes
    assert len(r.cluster_shards(target_nodes=node)) == 3
    assert len(r.cluster_links(node)) >= 2
    assert len(r.cluster_myid(node)) == 40
    slots = sum(last - first + 1 for first, last in r.cluster_slots(target_nodes=node))
    assert slots == 16384, slots
    assert r.info("cluster", target_nodes=node)["cluster_enabled"] == 1
    assert r.info("server", target_nodes=node)["redis_mode"] == "cluster"


@check
def messages():
    r = client()
    pubsub = r.pubsub()
    pubsub.subscribe("channel")
    assert pubsub.get_message(timeout=30)["type"] == "subscribe"
    for node in r.get_primaries():
        r.publish("channel", node.name, target_nodes=node)
    heard = {pubsub.get_message(timeout=30)["data"] for _ in range(3)}
    assert heard == {node.name for node in r.get_primaries()}


@check
def messages_of_shards():
    r = client()
    pubsub = r.pubsub()
    for number in range(20):
        channel = f"shard:{number}"
        pubsub.ssubscribe(channel)
        node = r.get_node_from_key(channel)
        assert pubsub.get_sharded_message(timeout=30, target_node=node)["type"] == "ssubscribe"
        assert r.spublish(channel, number) == 1
        message = pubsub.get_sharded_message(timeout=30, target_node=node)
        assert (message["channel"], message["data"]) == (channel, str(number)), message


@check
def transactions():
    r = client()
    with r.pipeline(transaction=True) as pipeline:
        pipeline.watch("{t}a")
        pipeline.multi()
        pipeline.incr("{t}a").incr("{t}b", 2)
        assert pipeline.execute() == [1, 2]
    with r.pipeline(transaction=True) as pipeline:
        pipeline.watch("{t}a")
        r.set("{t}a", "other")
        pipeline.multi()
        pipeline.set("{t}a", "mine")
        try:
            pipeline.execute()
        except redis.exceptions.WatchError:
            pass
        else:
            raise AssertionError("a watched key was changed")
    assert r.get("{t}a") == "other"


@check
def keys_of_several_slots_are_refused():
    r = client()
    node = r.get_primaries()[0]
    try:
        node.redis_connection.execute_command("MGET", "a", "b", "c")
    except redis.exceptions.ClusterCrossSlotError:
        pass
    else:
        raise AssertionError("keys of several slots were answered")


failed = False
for function in checks:
    client().flushall(target_nodes=RedisCluster.ALL_NODES)
    try:
        function()
    except BaseException:
        failed = True
        print(f"FAILED: {function.__name__}")
        traceback.print_exc(file=sys.stdout)
sys.exit(failed)
