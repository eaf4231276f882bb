"""Celery against a server: celery_tasks.py PORT. A worker in this process, with the server as its broker and for its results:
tasks, retries, canvas, late acknowledgement, remote control."""

import logging
import threading
import time

import redis
from celery import Celery, chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Reject, TaskRevokedError, TimeoutError

from steps import HOST, PORT, raises, run, step, until

r = redis.Redis(host=HOST, port=PORT)
app = Celery("tasks", broker=f"redis://{HOST}:{PORT}/0", backend=f"redis://{HOST}:{PORT}/1")
app.conf.update(
    broker_connection_retry_on_startup=False,
    result_expires=600,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)
gate = threading.Event()


@app.task
def add(a, b):
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def fail(text):
    raise ValueError(text)


@app.task(bind=True, max_retries=3)
def succeed_at(self, attempt, countdown):
    if self.request.retries < attempt:
        raise self.retry(countdown=countdown)
    return self.request.retries


@app.task(bind=True, max_retries=1, default_retry_delay=0)
def never(self):
    raise self.retry(exc=ValueError("never"))


@app.task(bind=True, acks_late=True)
def take_twice(self):
    if not self.request.delivery_info["redelivered"]:
        raise Reject("once more", requeue=True)
    return "taken twice"


@app.task(bind=True)
def report(self):
    self.update_state(state="PROGRESS", meta={"done": 50})
    gate.wait(30)
    return 100


@app.task(ignore_result=True)
def note(name):
    r.rpush("notes", name)


def worker(pool, concurrency):
    return start_worker(app, pool=pool, concurrency=concurrency, perform_ping_check=False, hostname=f"w@{pool}")


def canvas():
    chained = chain(add.s(2, 2), add.s(4), add.s(8))()
    assert chained.get(timeout=20) == 16
    grouped = group(add.s(number, number) for number in range(10))()
    assert grouped.get(timeout=20) == [2 * number for number in range(10)]
    summed = chord((add.s(number, 1) for number in range(20)), total.s())()
    assert summed.get(timeout=20) == sum(range(1, 21))
    both = chain(group(add.s(1, 1), add.s(2, 2)), total.s(), add.s(10))()
    assert both.get(timeout=20) == 16
    broken = chord([add.s(1, 1), fail.s("in a chord")], total.s())()
    assert "in a chord" in str(raises(Exception, broken.get, timeout=20))


@step
def tasks_and_results_in_one_thread():
    with worker("solo", 1):
        result = add.delay(2, 3)
        assert result.get(timeout=20) == 5 and result.successful()
        key = f"celery-task-meta-{result.id}"
        results = redis.Redis(host=HOST, port=PORT, db=1)
        assert 590 < results.ttl(key) <= 600
        result.forget()
        assert results.exists(key) == 0
        assert str(raises(ValueError, fail.delay("no good").get, timeout=20)) == "no good"
        canvas()
    assert r.exists("unacked", "unacked_index", "celery") == 0


@step
def tasks_and_canvas_in_threads():
    with worker("threads", 4):
        results = [add.delay(number, 1) for number in range(200)]
        assert [result.get(timeout=20) for result in results] == [number + 1 for number in range(200)]
        canvas()


@step
def retries_delays_and_priorities():
    with worker("threads", 2):
        assert succeed_at.delay(2, 0).get(timeout=20) == 2
        begun = time.time()
        assert add.apply_async((1, 1), countdown=0.5).get(timeout=20) == 2
        assert time.time() - begun >= 0.5
        assert str(raises(ValueError, never.delay().get, timeout=20)) == "never"
        late = add.apply_async((1, 1), countdown=3600)
        raises(TimeoutError, late.get, timeout=0.2)
        assert r.hlen("unacked") == 1, "it waits in the worker, and is not acknowledged"
    # The worker has ended, and what waited in it is there for the next.
    assert r.exists("unacked") == 0 and r.llen("celery") == 1
    assert app.control.purge() == 1


@step
def late_acknowledgement_and_state():
    with worker("threads", 2):
        assert take_twice.delay().get(timeout=20) == "taken twice"
        gate.clear()
        result = report.delay()
        until(lambda: result.state == "PROGRESS")
        assert result.info == {"done": 50}
        gate.set()
        assert result.get(timeout=20) == 100
        note.delay("ignored").get(timeout=20)
        until(lambda: r.lrange("notes", 0, -1) == [b"ignored"])


@step
def remote_control():
    with worker("threads", 2):
        # It subscribes to what it is told a little after it has begun to take tasks.
        until(lambda: app.control.ping(timeout=1, limit=1) == [{"w@threads": {"ok": "pong"}}])
        inspect = app.control.inspect(timeout=10, limit=1)
        assert "tasks.add" in inspect.registered()["w@threads"]
        assert inspect.stats()["w@threads"]["broker"]["transport"] == "redis"
        late = add.apply_async((1, 1), countdown=3600)
        until(lambda: inspect.scheduled()["w@threads"])
        gate.clear()
        running = report.delay()
        until(lambda: inspect.active()["w@threads"])
        assert inspect.active()["w@threads"][0]["id"] == running.id
        gate.set()
        running.get(timeout=20)
        assert app.control.revoke(late.id, reply=True, timeout=10, limit=1)[0]["w@threads"]["ok"]
        assert late.id in inspect.revoked()["w@threads"]
        soon = add.apply_async((1, 1), countdown=0.5)
        app.control.revoke(soon.id)
        raises(TaskRevokedError, soon.get, timeout=20)


# Of tasks that fail, which some do here on purpose.
logging.disable(logging.CRITICAL)
run()
