"""redis-py against a server: redis_py_scripts.py PORT. Locks, registered scripts, functions, transactions under WATCH and
messages in threads, in both protocols."""

import asyncio
import threading

import redis
import redis.asyncio
from redis.exceptions import LockError, LockNotOwnedError, NoScriptError, ResponseError, WatchError

from steps import HOST, PORT, raises, run, step, until


def client(protocol=3, **options):
    return redis.Redis(host=HOST, port=PORT, protocol=protocol, socket_timeout=30, **options)


def in_both(function):
    """A step that runs once in each protocol, on an empty server."""

    def both():
        for protocol in (2, 3):
            r = client(protocol)
            r.flushall()
            function(r)
            r.close()

    both.__name__, both.__module__ = function.__name__, function.__module__
    return step(both)


@in_both
def locks_are_taken_extended_and_released(r):
    lock = r.lock("door", timeout=30)
    assert lock.acquire() is True
    assert r.get("door") == lock.local.token
    assert lock.locked() and lock.owned()
    other = r.lock("door", timeout=30, blocking=False)
    assert other.acquire() is False
    assert lock.extend(30) is True
    assert 50_000 < r.pttl("door") <= 60_000
    assert lock.extend(100, replace_ttl=True) is True
    assert 90_000 < r.pttl("door") <= 100_000
    assert lock.reacquire() is True
    assert 20_000 < r.pttl("door") <= 30_000
    lock.release()
    assert r.exists("door") == 0
    raises(LockError, lock.release)
    with r.lock("door", timeout=30):
        assert r.lock("door", blocking=False).acquire() is False
    assert r.lock("door", timeout=30, blocking=False).acquire() is True


@in_both
def locks_lost_to_another_are_not_touched(r):
    lock = r.lock("door", timeout=30)
    lock.acquire()
    r.set("door", "of another")
    raises(LockNotOwnedError, lock.extend, 30)
    raises(LockNotOwnedError, lock.reacquire)
    raises(LockNotOwnedError, lock.release)
    assert r.get("door") == b"of another"


@in_both
def one_thread_at_a_time_holds_a_lock(r):
    inside, wrong = [], []

    def work():
        own = client()
        for _ in range(10):
            with own.lock("turn", timeout=30, sleep=0.001):
                inside.append(1)
                if len(inside) != 1:
                    wrong.append(len(inside))
                own.incr("turns")
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert r.get("turns") == b"50"


@in_both
def registered_scripts(r):
    multiply = r.register_script("local v = redis.call('GET', KEYS[1]) return v * ARGV[1]")
    r.set("n", 6)
    assert multiply(keys=["n"], args=[7]) == 42
    assert r.script_flush() is True
    assert multiply(keys=["n"], args=[7]) == 42, "it is loaded again"
    with r.pipeline() as pipe:
        pipe.set("n", 2)
        multiply(keys=["n"], args=[5], client=pipe)
        pipe.get("n")
        assert pipe.execute() == [True, 10, b"2"]
    with r.pipeline(transaction=False) as pipe:
        multiply(keys=["n"], args=[3], client=pipe)
        assert pipe.execute() == [6]
    assert r.script_exists(multiply.sha, "0" * 40) == [True, False]
    raises(NoScriptError, r.evalsha, "0" * 40, 0)
    assert r.script_load("return 1") == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    assert r.eval("return {KEYS[1], ARGV[1], 3.9, false, true}", 1, "k", b"\x00\xff") == [b"k", b"\x00\xff", 3, None, 1]
    assert r.eval_ro("return redis.call('GET', KEYS[1])", 1, "n") == b"2"
    error = raises(ResponseError, r.eval_ro, "return redis.call('SET', KEYS[1], 1)", 1, "n")
    assert "Write commands are not allowed from read-only scripts" in str(error), error


@in_both
def functions(r):
    code = """#!lua name=counters
        redis.register_function('add', function(keys, args)
            return redis.call('INCRBY', keys[1], args[1])
        end)
        redis.register_function{function_name = 'peek', flags = {'no-writes'}, callback = function(keys)
            return redis.call('GET', keys[1])
        end}"""
    assert r.function_load(code) in (b"counters", "counters")
    assert r.fcall("add", 1, "n", 5) == 5
    assert r.fcall_ro("peek", 1, "n") == b"5"
    raises(ResponseError, r.fcall_ro, "add", 1, "n", 5)
    raises(ResponseError, r.function_load, code)
    dumped = r.function_dump()
    assert r.function_delete("counters") in (True, b"OK")
    raises(ResponseError, r.fcall, "add", 1, "n", 5)
    assert r.function_restore(dumped) in (True, b"OK")
    assert r.fcall("add", 1, "n", 5) == 10
    assert r.function_flush() in (True, b"OK")
    assert r.function_list() == []


@in_both
def transactions_under_watch(r):
    r.set("n", 1)
    with r.pipeline() as pipe:
        pipe.watch("n")
        assert pipe.get("n") == b"1"
        client().set("n", 5)
        pipe.multi()
        pipe.set("n", 2)
        raises(WatchError, pipe.execute)
    assert r.get("n") == b"5"

    def add(pipe):
        value = int(pipe.get("sum") or 0)
        pipe.multi()
        pipe.set("sum", value + 1)

    threads = [threading.Thread(target=lambda: client().transaction(add, "sum")) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert r.get("sum") == b"10"
    with r.pipeline() as pipe:
        pipe.set("a", 1).lpush("a", 2).incr("a")
        answers = pipe.execute(raise_on_error=False)
    assert answers[0] is True and isinstance(answers[1], ResponseError) and answers[2] == 2


@in_both
def messages_in_a_thread(r):
    heard = []
    p = r.pubsub(ignore_subscribe_messages=True)
    p.subscribe(**{"news": lambda message: heard.append(("news", message["data"]))})
    p.psubscribe(**{"n*": lambda message: heard.append(("n*", message["data"]))})
    thread = p.run_in_thread(sleep_time=0.1, daemon=True)
    until(lambda: r.pubsub_numsub("news") == [(b"news", 1)] and r.pubsub_numpat() == 1)
    sent = [str(number).encode() for number in range(200)]
    with r.pipeline(transaction=False) as pipe:
        for each in sent:
            pipe.publish("news", each)
        assert pipe.execute() == [2] * 200
    until(lambda: len(heard) == 400)
    assert [data for name, data in heard if name == "news"] == sent
    assert [data for name, data in heard if name == "n*"] == sent
    thread.stop()
    thread.join()
    # Shard channels are apart from the others.
    shard = r.pubsub(ignore_subscribe_messages=True)
    shard.ssubscribe("news")
    until(lambda: r.pubsub_shardnumsub("news") == [(b"news", 1)])
    assert r.publish("news", "x") == 0
    assert r.spublish("news", "y") == 1
    message = until(lambda: shard.get_message(timeout=1))
    assert (message["type"], message["data"]) == ("smessage", b"y")
    shard.close()


async def concurrently():
    r = redis.asyncio.Redis(host=HOST, port=PORT)
    inside, most = 0, 0

    async def work():
        nonlocal inside, most
        async with r.lock("async", timeout=30, sleep=0.001):
            inside += 1
            most = max(most, inside)
            await r.incr("async turns")
            inside -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 1
    assert await r.get("async turns") == b"20"
    script = r.register_script("return redis.call('INCR', KEYS[1])")
    assert sorted(await asyncio.gather(*(script(keys=["async n"]) for _ in range(50)))) == list(range(1, 51))
    async with r.pubsub() as p:
        await p.subscribe("async news")
        assert (await p.get_message(timeout=10))["type"] == "subscribe"
        await r.publish("async news", "one")
        assert (await p.get_message(timeout=10))["data"] == b"one"
    await r.aclose()


@step
def locks_scripts_and_messages_in_asyncio():
    asyncio.run(concurrently())


run()
