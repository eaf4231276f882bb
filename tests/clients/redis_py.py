"""redis-py against a server: redis_py.py PORT PROTOCOL [PASSWORD].

Each check is a function; all run, those that fail are printed, and the exit status says whether any did.
"""

import asyncio
import os
import sys
import threading
import time
import traceback

import redis
import redis.asyncio
from redis.cache import CacheConfig

PORT, PROTOCOL = int(sys.argv[1]), int(sys.argv[2])
PASSWORD = sys.argv[3] if len(sys.argv) > 3 else None
OPTIONS = {"port": PORT, "protocol": PROTOCOL, "password": PASSWORD, "socket_timeout": 60}
# The oracle is 7.0, which does not know CLIENT SETINFO yet.
IS_ORACLE = os.environ.get("QUOIT_TEST_SERVER") == "redis"

checks = []


def check(function):
    checks.append(function)
    return function


def client(**options):
    return redis.Redis(**{**OPTIONS, **options})


@check
def connects_and_answers():
    r = client()
    assert r.ping() is True
    assert r.echo(b"\x00\xff") == b"\x00\xff"
    assert r.execute_command("QUIT") in (b"OK", True)


@check
def strings():
    r = client()
    assert r.set("k", "v", ex=100) is True
    assert r.get("k") == b"v"
    assert 90 < r.ttl("k") <= 100
    assert r.set("k", "w", nx=True) is None
    assert r.set("k", "w", xx=True, get=True, keepttl=True) == b"v"
    assert r.getex("k", persist=True) == b"w"
    assert r.ttl("k") == -1
    assert r.mset({"a": 1, "b": 2}) is True
    assert r.mget("a", "none", "b") == [b"1", None, b"2"]
    assert r.incr("a", 41) == 42
    assert r.incrbyfloat("a", 0.5) == 42.5
    assert r.append("k", "xyz") == 4
    assert r.getrange("k", 0, 1) == b"wx"
    assert r.setrange("k", 1, "AB") == 4
    assert r.getdel("k") == b"wABz"
    assert r.get("k") is None
    r.mset({"one": "ohmytext", "two": "mynewtext"})
    assert r.lcs("one", "two") == b"mytext"
    assert r.lcs("one", "two", len=True) == 6


@check
def bitmaps():
    r = client()
    assert r.setbit("bits", 7, 1) == 0
    assert r.getbit("bits", 7) == 1
    assert r.bitcount("bits") == 1
    assert r.bitpos("bits", 1) == 7
    assert r.bitop("NOT", "flipped", "bits") == 1
    assert r.bitfield("field").set("u8", 0, 255).incrby("u8", 0, 10, overflow="SAT").execute() == [0, 255]


@check
def lists():
    r = client()
    r.delete("l", "m")
    assert r.rpush("l", "a", 1, b"\x00\xff") == 3
    assert r.lpush("l", "first") == 4
    assert r.lpushx("none", "x") == 0
    assert r.rpushx("l", "last") == 5
    assert r.lrange("l", 0, -1) == [b"first", b"a", b"1", b"\x00\xff", b"last"]
    assert r.llen("l") == 5
    assert r.lindex("l", -1) == b"last"
    assert r.lindex("l", 9) is None
    assert r.lset("l", 1, "b")
    assert r.linsert("l", "AFTER", "b", "c") == 6
    assert r.lpos("l", "c") == 2
    assert r.lpos("l", "none") is None
    assert r.lpos("l", "c", rank=-1, count=0, maxlen=10) == [2]
    assert r.lrem("l", 0, "c") == 1
    assert r.ltrim("l", 0, 3)
    assert r.lpop("l") == b"first"
    assert r.rpop("l", 2) == [b"\x00\xff", b"1"]
    assert r.lpop("none") is None and r.lpop("none", 2) is None
    assert r.lmove("l", "m", "LEFT", "RIGHT") == b"b"
    assert r.rpoplpush("m", "l") == b"b"
    assert r.lmpop(2, "m", "l", direction="LEFT", count=3) == [b"l", [b"b"]]
    assert r.lmpop(1, "l", direction="LEFT") is None
    assert r.blpop(["l", "m"], timeout=0.01) is None
    assert r.blmove("l", "m", 0.01) is None
    assert r.brpoplpush("l", "m", timeout=1) is None
    r.rpush("m", 1, 2, 3, 4)
    assert tuple(r.blpop(["l", "m"])) == (b"m", b"1")
    assert tuple(r.brpop("m", timeout=1)) == (b"m", b"4")
    assert r.blmove("m", "l", 1, "LEFT", "LEFT") == b"2"
    assert r.blmpop(1, 2, "none", "m", direction="RIGHT") == [b"m", [b"3"]]
    waiting = threading.Thread(target=lambda: answers.append(client().blpop("jobs", 10)))
    answers = []
    waiting.start()
    r.rpush("jobs", "one")
    waiting.join()
    assert [tuple(answer) for answer in answers] == [(b"jobs", b"one")]
    r.rpush("long", *range(5000))
    assert r.lrange("long", 0, -1) == [str(number).encode() for number in range(5000)]
    assert r.delete("l", "long") == 2


@check
def sets():
    r = client()
    r.delete("s", "t", "u")
    assert r.sadd("s", "a", 1, 2, 2) == 3
    assert r.scard("s") == 3
    assert r.smembers("s") == {b"a", b"1", b"2"}
    assert r.smembers("none") == set()
    assert r.sismember("s", "a") == 1
    assert r.smismember("s", ["a", "x", 1]) == [1, 0, 1]
    assert r.sadd("t", 1, 2, 3) == 3
    assert r.sinter("s", "t") == {b"1", b"2"}
    assert r.sunion("s", "t") == {b"a", b"1", b"2", b"3"}
    assert r.sdiff("s", "t") == {b"a"}
    assert r.sintercard(2, ["s", "t"]) == 2
    assert r.sintercard(2, ["s", "t"], limit=1) == 1
    assert r.sinterstore("u", "s", "t") == 2
    assert r.sunionstore("u", ["s", "t"]) == 4
    assert r.sdiffstore("u", "t", "s") == 1
    assert r.smove("t", "s", 3) == 1
    assert set(r.srandmember("s", 10)) == {b"a", b"1", b"2", b"3"}
    assert len(r.srandmember("s", -10)) == 10
    assert r.srandmember("s") in r.smembers("s")
    assert r.srem("s", "a", "x") == 1
    assert set(r.sscan_iter("s", match="[12]")) == {b"1", b"2"}
    assert r.spop("u") == b"3"
    assert r.spop("u") is None
    assert set(r.spop("s", 10)) == {b"1", b"2", b"3"}
    assert r.exists("s") == 0
    r.sadd("s", *range(5000))
    assert len(r.smembers("s")) == 5000
    assert len(set(r.sscan_iter("s", count=100))) == 5000
    assert r.delete("s", "t") == 2


@check
def keys():
    r = client()
    r.flushdb()
    r.mset({f"key:{number}": number for number in range(1000)})
    assert r.dbsize() == 1000
    assert len(set(r.scan_iter(match="key:*", count=50))) == 1000
    assert len(set(r.scan_iter(match="key:99*"))) == 11
    assert len(r.keys("key:1??")) == 100
    assert r.exists("key:1", "key:1", "none") == 2
    assert r.type("key:1") == b"string"
    assert r.rename("key:1", "renamed") is True
    assert r.copy("renamed", "copied") is True
    assert r.expire("renamed", 100, nx=True) is True
    assert r.pexpiretime("none") == -2
    assert r.object("encoding", "renamed") == b"int"
    assert r.randomkey() is not None
    assert r.unlink("renamed", "copied") == 2
    assert r.delete("none") == 0
    assert r.swapdb(0, 5) is True
    assert r.dbsize() == 0
    assert client(db=5).dbsize() == 999
    assert r.flushall() is True


@check
def errors():
    r = client()
    r.set("text", "x")
    for call, kind in [
        (lambda: r.incr("text"), redis.ResponseError),
        (lambda: r.execute_command("NOTHING"), redis.ResponseError),
        (lambda: r.execute_command("GET"), redis.ResponseError),
        (lambda: r.set("text", "x", ex=-1), redis.ResponseError),
    ]:
        try:
            call()
        except kind:
            continue
        raise AssertionError("no error")
    assert r.get("text") == b"x", "the connection is in step"


@check
def pipelines():
    r = client()
    with r.pipeline(transaction=False) as p:
        for number in range(10_000):
            p.set(f"p{number}", number)
        assert p.execute() == [True] * 10_000
        for number in range(10_000):
            p.get(f"p{number}")
        assert p.execute() == [str(number).encode() for number in range(10_000)]
        p.incr("p1").incr("text").get("p1")
        answers = p.execute(raise_on_error=False)
    assert answers[0] == 2 and isinstance(answers[1], redis.ResponseError) and answers[2] == b"2"


@check
def decoded_responses():
    r = client(decode_responses=True)
    r.set("umlaut", "\u00e4\u20ac")
    assert r.get("umlaut") == "\u00e4\u20ac"
    assert r.mget(["umlaut", "none"]) == ["\u00e4\u20ac", None]
    assert r.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@check
def large_values():
    r = client()
    value = bytes(range(256)) * 64 * 1024
    assert r.set("large", value) is True
    assert r.get("large") == value
    assert r.strlen("large") == len(value)
    assert r.getrange("large", 1_000_000, 1_000_255) == value[1_000_000:1_000_256]
    assert r.delete("large") == 1


@check
def pools_and_threads():
    pool = redis.ConnectionPool(**OPTIONS, max_connections=20)
    r = redis.Redis(connection_pool=pool)
    r.delete("count")
    failures = []

    def work():
        try:
            for _ in range(100):
                r.incr("count")
        except Exception as error:  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert r.get("count") == b"1600"
    pool.disconnect()


@check
def health_checks_and_names():
    r = client(health_check_interval=1e-6, client_name="worker", single_connection_client=True)
    for _ in range(5):
        assert r.ping() is True
    assert r.client_getname() in ("worker", b"worker")
    info = r.client_info()
    assert info["name"] == "worker" and info["resp"] == str(PROTOCOL)
    if not IS_ORACLE:
        assert info["lib-name"].startswith("redis-py") and info["lib-ver"] == redis.__version__
    assert r.client_id() == int(info["id"])
    assert any(each["name"] == "worker" for each in r.client_list())
    assert r.client_setname("other") is True
    r.close()


@check
def from_url_and_databases():
    secret = f":{PASSWORD}@" if PASSWORD else ""
    r = redis.Redis.from_url(f"redis://{secret}localhost:{PORT}/3?protocol={PROTOCOL}")
    r.set("here", 1)
    assert client().exists("here") == 0
    assert r.move("here", 4) is True
    assert client(db=4).get("here") == b"1"


@check
def server_commands():
    r = client()
    info = r.info()
    assert info["redis_version"].split(".")[0] == "7" and info["role"] == "master" and info["loading"] == 0
    assert info["db0"]["keys"] >= 0 if "db0" in info else True
    assert "used_memory" in r.info("memory")
    assert r.config_get("time*") == {"timeout": "0"} or b"timeout" in r.config_get("time*")
    assert r.config_set("maxmemory-samples", 6) is True
    assert r.config_set("maxmemory-samples", 5) is True
    assert r.config_resetstat() is True
    assert r.command_count() > 50
    assert r.command_getkeys("MSET", "a", 1, "b", 2) in ([b"a", b"b"], ["a", "b"])
    assert "get" in r.command()
    assert r.time()[0] > 1_600_000_000
    assert r.slowlog_reset() is True
    assert r.slowlog_len() == 0
    assert r.memory_usage("none") is None
    assert r.role()[0] in (b"master", "master")
    assert r.wait(0, 0) == 0
    assert isinstance(r.lolwut(), (bytes, str))


@check
def monitor():
    r = client()
    with client().monitor() as m:
        r.set("seen", "by monitor")
        for event in m.listen():
            if event["command"].startswith("SET seen"):
                break
        assert event["command"] == "SET seen by monitor" and event["db"] == 0


@check
def messages():
    for protocol in (2, 3):
        r = client(protocol=protocol)
        p = r.pubsub(ignore_subscribe_messages=True)
        p.subscribe("news")
        p.psubscribe("n*")
        assert p.get_message(timeout=5) is None and p.get_message(timeout=5) is None
        assert r.publish("news", b"\x00one") == 2
        got = [p.get_message(timeout=5) for _ in range(2)]
        assert [m["type"] for m in got] == ["message", "pmessage"], got
        assert all(m["channel"] == b"news" and m["data"] == b"\x00one" for m in got), got
        assert r.pubsub_numsub("news") == [(b"news", 1)] and r.pubsub_numpat() == 1
        assert p.ping() is not False
        assert p.get_message(timeout=5)["type"] == "pong"
        p.unsubscribe()
        p.punsubscribe()
        assert p.get_message(timeout=5) is None and p.get_message(timeout=5) is None
        p.close()


def eventually(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline


@check
def client_side_caching():
    # redis-py asks for RESP3 and for a server of 7.4, which the oracle is not.
    if PROTOCOL != 3 or IS_ORACLE:
        return
    r, other = client(cache_config=CacheConfig()), client()
    cache = r.get_cache()
    asked = lambda: other.info("commandstats")["cmdstat_get"]["calls"]
    other.set("cached", "first")
    assert r.get("cached") == b"first" and cache.size == 1
    before = asked()
    assert all(r.get("cached") == b"first" for _ in range(100))
    assert asked() == before
    for number in range(200):
        other.set("cached", number)
        eventually(lambda: r.get("cached") == str(number).encode())
    other.hset("cached:hash", "f", "1")
    assert r.hgetall("cached:hash") == {b"f": b"1"}
    other.hincrby("cached:hash", "f", 1)
    eventually(lambda: r.hgetall("cached:hash") == {b"f": b"2"})
    assert r.mget("cached", "cached:none") == [b"199", None]
    other.set("cached:none", "there")
    eventually(lambda: r.mget("cached", "cached:none") == [b"199", b"there"])
    other.pexpire("cached", 1)
    eventually(lambda: r.get("cached") is None)
    other.delete("cached:hash")
    eventually(lambda: r.hgetall("cached:hash") == {})
    assert r.get("cached:none") == b"there"
    other.flushdb()
    eventually(lambda: r.get("cached:none") is None)
    # Its own changes.
    assert r.set("cached", "own") is True
    assert r.get("cached") == b"own"
    assert r.delete("cached") == 1
    eventually(lambda: r.get("cached") is None)
    r.close()


@check
def keyspace_events():
    r = client()
    r.config_set("notify-keyspace-events", "KEA")
    p = r.pubsub(ignore_subscribe_messages=True)
    p.psubscribe("__keyevent@*__:expired")
    assert p.get_message(timeout=5) is None
    r.set("short", "1", px=1)
    assert p.get_message(timeout=5)["data"] == b"short"
    p.close()
    r.config_set("notify-keyspace-events", "")


@check
def passwords():
    if not PASSWORD:
        return
    for wrong in ("wrong", None):
        try:
            client(password=wrong).ping()
        except redis.AuthenticationError:
            continue
        raise AssertionError("no refusal")


@check
def locks_without_scripts():
    r = client()
    r.delete("lock")
    assert r.set("lock", "token", nx=True, px=10_000) is True
    assert r.set("lock", "other", nx=True, px=10_000) is None
    assert r.get("lock") == b"token"
    assert r.delete("lock") == 1


async def asyncio_checks():
    r = redis.asyncio.Redis(**OPTIONS, max_connections=50)
    assert await r.ping() is True
    assert await r.set("async", "v", px=100_000) is True
    assert await r.get("async") == b"v"
    await asyncio.gather(*(r.set(f"async:{number}", number) for number in range(40)))
    values = await asyncio.gather(*(r.get(f"async:{number}") for number in range(40)))
    assert values == [str(number).encode() for number in range(40)]
    async with r.pipeline(transaction=False) as p:
        for number in range(1000):
            p.incr("async:count")
        assert await p.execute() == list(range(1, 1001))
    found = {key async for key in r.scan_iter(match="async:*", count=7)}
    assert len(found) == 41
    try:
        await r.incr("async")
        raise AssertionError("no error")
    except redis.ResponseError:
        pass
    await r.aclose()


@check
def asynchronous():
    asyncio.run(asyncio_checks())


failed = 0
client().flushall()
for function in checks:
    try:
        function()
    except Exception:
        failed += 1
        print(f"FAILED {function.__name__}")
        traceback.print_exc(file=sys.stdout)
print(f"{len(checks) - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
