"""Writes and reads by a client of Redis Cluster until the input ends: cluster_load.py PORT CLIENT, which is redis-py, redis-py-asyncio
or glide. Any error, and any key that is not what was written last, or was written twice, ends it with status 1. `written` counts
the rounds."""

import asyncio
import os
import sys
import threading

PORT, CLIENT = int(sys.argv[1]), sys.argv[2]
KEYS = 60
WORKERS = 3
SCRIPT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()


class RedisPy:
    def __init__(self):
        from redis.cluster import ClusterNode, RedisCluster

        self.cluster = RedisCluster(
            startup_nodes=[ClusterNode("127.0.0.1", PORT)], decode_responses=True, socket_timeout=30
        )
        self.get = self.cluster.get
        self.set = self.cluster.set
        self.incr = self.cluster.incr
        self.push = self.cluster.rpush

    def evaluate(self, key):
        return self.cluster.eval(SCRIPT, 1, key, 1)

    def pipeline(self, keys, value):
        """Two of them: within one, redis-py may send a GET to another node than the SET before it, and at the same time, when
        another thread is told meanwhile where the key's slot has gone."""
        with self.cluster.pipeline() as pipeline:
            for key in keys:
                pipeline.set(key, value)
            assert pipeline.execute() == [True] * len(keys)
        with self.cluster.pipeline() as pipeline:
            for key in keys:
                pipeline.get(key)
            return pipeline.execute()

    def transaction(self, one, other):
        with self.cluster.pipeline(transaction=True) as pipeline:
            return pipeline.incr(one).incr(other).execute()


class Glide:
    def __init__(self):
        from glide_sync import ClusterBatch, GlideClusterClient, GlideClusterClientConfiguration, NodeAddress, Script

        settings = GlideClusterClientConfiguration([NodeAddress("127.0.0.1", PORT)], request_timeout=30_000)
        self.cluster = GlideClusterClient.create(settings)
        self.batch = ClusterBatch
        self.script = Script(SCRIPT)
        self.incr = self.cluster.incr

    def get(self, key):
        value = self.cluster.get(key)
        return None if value is None else value.decode()

    def set(self, key, value):
        return self.cluster.set(key, str(value)) == "OK"

    def push(self, key, value):
        return self.cluster.rpush(key, [str(value)])

    def evaluate(self, key):
        return self.cluster.invoke_script(self.script, keys=[key], args=["1"])

    def pipeline(self, keys, value):
        batch = self.batch(is_atomic=False)
        for key in keys:
            batch.set(key, str(value))
        for key in keys:
            batch.get(key)
        return [reply.decode() for reply in self.cluster.exec(batch, raise_on_error=True)[len(keys) :]]

    def transaction(self, one, other):
        return self.cluster.exec(self.batch(is_atomic=True).incr(one).incr(other), raise_on_error=True)


def is_next(client, key, count, form):
    """Makes a key this number, in its way, and sees that it was the one before."""
    if form == 0:
        found = client.get(key)
        assert found == (None if count == 1 else str(count - 1)), (key, found, count)
        assert client.set(key, count)
    elif form == 1:
        assert client.incr(key) == count, key
    elif form == 2:
        assert client.push(key, count) == count, key
    elif form == 3:
        assert client.evaluate(key) == count, key
    elif form == 4:
        # Keys of several nodes.
        found = client.pipeline([f"{key}:{number}" for number in range(8)], count)
        assert found == [str(count)] * 8, (key, found)
    else:
        found = client.transaction(key, f"{{{key}}}:beside")
        assert found == [count, count], (key, found)


def keys_of(worker):
    """Keys, the numbers that they are to become, and their forms, for as long as it goes on."""
    rounds = 0
    while not ended.is_set():
        index = rounds % KEYS
        yield f"load:{worker}:{index}", rounds // KEYS + 1, index % 6
        rounds += 1


def work(client, worker, done):
    try:
        for key, count, form in keys_of(worker):
            is_next(client, key, count, form)
            client.incr("written")
            done[worker] += 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def in_threads(client):
    done = [0] * WORKERS
    threads = [threading.Thread(target=work, args=(client, worker, done)) for worker in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = int(client.get("written"))
    assert written == sum(done), (written, done)


async def in_one_task():
    """One request at a time: redis-py closes all connections of its asyncio cluster now and then when it is sent elsewhere, under
    requests of other tasks, and sends those again. Its transactions run in threads with loops of their own, and may fail there."""
    from redis.asyncio.cluster import ClusterNode, RedisCluster

    cluster = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", PORT)], decode_responses=True, socket_timeout=30)
    rounds = 0
    for key, count, form in keys_of(0):
        if form == 0:
            found = await cluster.get(key)
            assert found == (None if count == 1 else str(count - 1)), (key, found, count)
            assert await cluster.set(key, count)
        elif form == 1:
            assert await cluster.incr(key) == count, key
        elif form == 2:
            assert await cluster.rpush(key, count) == count, key
        elif form == 3:
            assert await cluster.eval(SCRIPT, 1, key, 1) == count, key
        else:
            pipeline = cluster.pipeline()
            names = [f"{key}:{number}" for number in range(8)]
            for name in names:
                pipeline.set(name, count)
            for name in names:
                pipeline.get(name)
            found = (await pipeline.execute())[8:]
            assert found == [str(count)] * 8, (key, found)
        await cluster.incr("written")
        rounds += 1
    written = int(await cluster.get("written"))
    assert written == rounds, (written, rounds)
    await cluster.aclose()


if CLIENT == "redis-py":
    in_threads(RedisPy())
elif CLIENT == "glide":
    in_threads(Glide())
else:
    asyncio.run(in_one_task())
