"""Dramatiq against a server: dramatiq_actors.py PORT. One large script that is given a prefix and makes its keys of it, none of
them declared; actors, retries, delays, results, pipelines and limits."""

import logging
import time

import dramatiq
import redis
from dramatiq import Worker, group, pipeline
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import BucketRateLimiter, ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend as ResultsBackend

from steps import HOST, PORT, raises, run, step, until

r = redis.Redis(host=HOST, port=PORT)
broker = RedisBroker(host=HOST, port=PORT, heartbeat_timeout=100, maintenance_chance=0, dead_message_ttl=60_000)
broker.add_middleware(Results(backend=ResultsBackend(host=HOST, port=PORT)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def add(a, b):
    return a + b


@dramatiq.actor(store_results=True, max_retries=3, min_backoff=1, max_backoff=20)
def succeed_at(name, attempt):
    if r.incr(f"tries:{name}") < attempt:
        raise ValueError("not yet")
    return attempt


@dramatiq.actor(max_retries=0)
def fail():
    raise ValueError("no good")


@dramatiq.actor(store_results=True)
def sent_after(at):
    return time.time() - at


class working:
    """A worker in this process, for as long as a block runs."""

    def __enter__(self):
        self.worker = Worker(broker, worker_timeout=50, worker_threads=4)
        self.worker.start()
        return self.worker

    def __exit__(self, *_):
        self.worker.stop()


@step
def actors_and_results():
    with working() as worker:
        assert add.send(2, 3).get_result(block=True, timeout=20_000) == 5
        messages = [add.send(number, 1) for number in range(200)]
        assert [each.get_result(block=True, timeout=20_000) for each in messages] == list(range(1, 201))
        broker.join("default", timeout=20_000)
        worker.join()
        assert r.llen("dramatiq:default") == 0 and r.exists("dramatiq:default.msgs") == 0
        raises(ResultMissing, add.message(1, 1).get_result)


@step
def retries_delays_and_dead_letters():
    with working() as worker:
        assert succeed_at.send("one", 3).get_result(block=True, timeout=20_000) == 3
        begun = time.time()
        delayed = sent_after.send_with_options(args=(begun,), delay=300)
        assert delayed.get_result(block=True, timeout=20_000) >= 0.3
        fail.send()
        until(lambda: r.zcard("dramatiq:default.XQ") == 1)
        broker.join("default", timeout=20_000)
        worker.join()
        assert r.hlen("dramatiq:default.XQ.msgs") == 1


@step
def pipelines_and_groups():
    with working():
        piped = pipeline([add.message(1, 2), add.message(10), add.message(100)]).run()
        assert piped.get_result(block=True, timeout=20_000) == 113
        grouped = group([add.message(number, number) for number in range(10)]).run()
        assert list(grouped.get_results(block=True, timeout=20_000)) == [2 * number for number in range(10)]


@step
def messages_of_a_dead_worker_are_requeued():
    # Brokers of their own: workers that have stopped still take up queues that their broker is told of.
    dead = RedisBroker(host=HOST, port=PORT, heartbeat_timeout=100, maintenance_chance=0)
    dead.declare_queue("lost")
    for number in range(5):
        dead.enqueue(add.message(number, 0).copy(queue_name="lost"))
    taken = dead.do_fetch("lost", 3)
    assert len(taken) == 3 and r.llen("dramatiq:lost") == 2
    assert r.scard(f"dramatiq:__acks__.{dead.broker_id}.lost") == 3
    other = RedisBroker(host=HOST, port=PORT, heartbeat_timeout=100, maintenance_chance=1_000_000)
    # The other finds out when it has heard nothing of the dead one for long enough.
    acknowledgements = f"dramatiq:__acks__.{dead.broker_id}.lost"
    until(lambda: other.do_qsize("lost") and r.exists(acknowledgements) == 0)
    assert r.llen("dramatiq:lost") == 5
    fetched = other.do_fetch("lost", 10)
    assert len(fetched) == 5
    other.do_purge("lost")
    assert r.exists("dramatiq:lost", "dramatiq:lost.msgs") == 0


@step
def limits():
    backend = LimitsBackend(host=HOST, port=PORT)
    mutex = ConcurrentRateLimiter(backend, "mutex", limit=1)
    with mutex.acquire(raise_on_failure=False) as held:
        assert held is True
        with mutex.acquire(raise_on_failure=False) as again:
            assert again is False
    with mutex.acquire(raise_on_failure=False) as held:
        assert held is True
    for limiter in (BucketRateLimiter(backend, "bucket", limit=3, bucket=60_000), WindowRateLimiter(backend, "window", limit=3, window=60)):
        acquired = []
        for _ in range(5):
            with limiter.acquire(raise_on_failure=False) as one:
                acquired.append(one)
        assert acquired == [True, True, True, False, False], limiter


logging.disable(logging.CRITICAL)
run()
