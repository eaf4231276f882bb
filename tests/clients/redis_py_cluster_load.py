"""Writes and reads by redis-py's RedisCluster until the input ends: redis_py_cluster_load.py PORT. Any error, and any key that
is not what was written last, ends it with status 1. `written` counts the rounds."""

import sys
import threading

from redis.cluster import ClusterNode, RedisCluster

cluster = RedisCluster(
    startup_nodes=[ClusterNode("127.0.0.1", int(sys.argv[1]))], decode_responses=True, socket_timeout=30
)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
last = {}
number = 0
while not ended.is_set():
    number += 1
    key = f"key:{number % 300}"
    found = cluster.get(key)
    assert found == last.get(key), (key, found, last.get(key))
    cluster.set(key, number)
    last[key] = str(number)
    cluster.incr("written")
assert int(cluster.get("written")) == number, number
