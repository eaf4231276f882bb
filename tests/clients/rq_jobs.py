"""RQ against a server: rq_jobs.py PORT. Jobs, failures, retries, schedules, dependencies, limits and a worker that waits."""

import logging
import threading
from datetime import datetime, timedelta, timezone

import redis
from rq import Queue, RateLimit, Retry, SimpleWorker, Worker
from rq.command import send_shutdown_command
from rq.job import Job, JobStatus
from rq.rate_limit import RateLimitRegistry
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry, StartedJobRegistry
from rq.scheduler import RQScheduler

from steps import HOST, PORT, run, step, until

connection = redis.Redis(host=HOST, port=PORT)


def double(number):
    return 2 * number


def fail(text):
    raise ValueError(text)


def fail_twice(name):
    """Succeeds when it is run for the third time."""
    if connection.incr(f"tries:{name}") < 3:
        raise ValueError("not yet")
    return "at last"


def note(name):
    connection.rpush("order", name)


def burst(*queues, kind=SimpleWorker, **options):
    kind(queues, connection=connection).work(burst=True, logging_level="CRITICAL", **options)


@step
def enqueues_works_and_keeps_the_result():
    queue = Queue("plain", connection=connection)
    job = queue.enqueue("rq_jobs.double", 21, job_id="own-id", description="doubles", meta={"by": "us"})
    assert job.get_status() == JobStatus.QUEUED and queue.count == 1 and queue.job_ids == ["own-id"]
    assert job.get_position() == 0
    burst(queue)
    job = Job.fetch("own-id", connection=connection)
    assert job.get_status() == JobStatus.FINISHED and job.return_value() == 42 and job.meta == {"by": "us"}
    assert "own-id" in FinishedJobRegistry(queue=queue) and len(StartedJobRegistry(queue=queue)) == 0
    assert 0 < connection.ttl(job.key) <= 500
    many = queue.enqueue_many([Queue.prepare_data("rq_jobs.double", (number,)) for number in range(20)])
    burst(queue, kind=Worker)
    assert [each.return_value() for each in many] == [2 * number for number in range(20)], "a process for each job"


@step
def failures_are_kept_and_requeued():
    queue = Queue("failing", connection=connection)
    job = queue.enqueue("rq_jobs.fail", "no good")
    burst(queue)
    registry = FailedJobRegistry(queue=queue)
    assert job.get_status() == JobStatus.FAILED and registry.get_job_ids() == [job.id]
    assert "ValueError: no good" in job.latest_result().exc_string
    registry.requeue(job)
    assert len(registry) == 0 and queue.job_ids == [job.id]
    burst(queue)
    assert registry.get_job_ids() == [job.id] and len(job.results()) == 2


@step
def retries():
    queue = Queue("retrying", connection=connection)
    job = queue.enqueue("rq_jobs.fail_twice", "now", retry=Retry(max=3))
    burst(queue)
    assert job.get_status() == JobStatus.FINISHED and job.return_value() == "at last"
    later = queue.enqueue("rq_jobs.fail_twice", "later", retry=Retry(max=3, interval=3600))
    burst(queue)
    assert later.get_status() == JobStatus.SCHEDULED
    assert later.id in ScheduledJobRegistry(queue=queue)


@step
def schedules():
    queue = Queue("timed", connection=connection)
    due = queue.enqueue_at(datetime.now(timezone.utc) - timedelta(seconds=1), "rq_jobs.double", 4)
    later = queue.enqueue_in(timedelta(hours=1), "rq_jobs.double", 5)
    registry = ScheduledJobRegistry(queue=queue)
    assert set(registry.get_job_ids()) == {due.id, later.id} and queue.count == 0
    scheduler = RQScheduler([queue], connection=connection)
    assert scheduler.acquire_locks() == {"timed"}
    assert RQScheduler([queue], connection=connection).acquire_locks() == set(), "one scheduler for a queue"
    scheduler.enqueue_scheduled_jobs()
    assert queue.job_ids == [due.id] and registry.get_job_ids() == [later.id]
    scheduler.release_locks()
    burst(queue)
    assert due.return_value() == 8


@step
def dependencies():
    queue = Queue("chained", connection=connection)
    first = queue.enqueue("rq_jobs.note", "first")
    second = queue.enqueue("rq_jobs.note", "second", depends_on=first)
    third = queue.enqueue("rq_jobs.note", "third", depends_on=[first, second])
    assert second.get_status() == JobStatus.DEFERRED and queue.job_ids == [first.id]
    burst(queue)
    assert connection.lrange("order", 0, -1) == [b"first", b"second", b"third"]
    assert third.get_status() == JobStatus.FINISHED
    waiting = queue.enqueue("rq_jobs.note", "never", depends_on=queue.enqueue("rq_jobs.fail", "x"))
    burst(queue)
    assert waiting.get_status() == JobStatus.DEFERRED
    waiting.cancel()
    assert waiting.get_status() == JobStatus.CANCELED


@step
def queues_in_order_cancelled_removed_and_emptied():
    high, low = Queue("high", connection=connection), Queue("low", connection=connection)
    connection.delete("order")
    low.enqueue("rq_jobs.note", "low")
    high.enqueue("rq_jobs.note", "high")
    high.enqueue("rq_jobs.note", "front", at_front=True)
    high.enqueue("rq_jobs.note", "cancelled").cancel()
    burst(high, low)
    assert connection.lrange("order", 0, -1) == [b"front", b"high", b"low"]
    jobs = [high.enqueue("rq_jobs.note", "x") for _ in range(5)]
    jobs[0].delete()
    assert connection.exists(jobs[0].key) == 0 and high.count == 4
    high.remove(jobs[1])
    assert high.empty() == 3 and high.count == 0
    assert connection.exists(jobs[2].key) == 0
    high.delete()
    assert "high" not in {queue.name for queue in Queue.all(connection=connection)}


@step
def limits_how_many_run_at_a_time():
    queue = Queue("limited", connection=connection)
    jobs = [queue.enqueue("rq_jobs.double", number, rate_limit=RateLimit("api", 2)) for number in range(5)]
    registry = RateLimitRegistry("api", connection)
    assert registry.get_allowed_job_count() == 2 and registry.get_rate_limited_job_count() == 3
    assert queue.job_ids == [job.id for job in jobs[:2]]
    burst(queue)
    assert [job.return_value() for job in jobs] == [0, 2, 4, 6, 8]
    assert registry.get_allowed_job_count() == 0 and registry.get_rate_limited_job_count() == 0


@step
def a_worker_waits_and_is_told_to_stop():
    queue = Queue("waiting", connection=connection)
    worker = SimpleWorker([queue], connection=connection, name="waits")
    results = []

    def others():
        until(lambda: any(each["cmd"] in ("blmove", "blpop") for each in connection.client_list()))
        job = queue.enqueue("rq_jobs.double", 8)
        results.append(job.latest_result(timeout=10).return_value)
        assert [each.name for each in Worker.all(queue=queue)] == ["waits"]
        send_shutdown_command(connection, "waits")

    thread = threading.Thread(target=others)
    thread.start()
    worker.work(logging_level="CRITICAL")
    thread.join()
    assert results == [16]
    assert Worker.count(connection=connection) == 0


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    run()
