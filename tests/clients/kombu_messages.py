"""kombu against a server: kombu_messages.py PORT. Queues with acknowledgement, visibility, priorities; exchanges of each kind."""

import socket

import redis
from kombu import Connection, Consumer, Exchange, Queue

from steps import HOST, PORT, raises, run, step, until

r = redis.Redis(host=HOST, port=PORT)


def connect(**options):
    return Connection(f"redis://{HOST}:{PORT}/0", transport_options={"polling_interval": 0.1, **options})


@step
def a_simple_queue_puts_gets_and_acknowledges():
    with connect() as connection:
        queue = connection.SimpleQueue("simple")
        queue.put({"hello": "world"}, headers={"h": 1})
        queue.put("second", compression="zlib")
        assert len(queue) == 2
        message = queue.get(timeout=10)
        assert message.payload == {"hello": "world"} and message.headers["h"] == 1
        assert r.hlen("unacked") == 1 and r.zcard("unacked_index") == 1
        message.ack()
        assert r.exists("unacked", "unacked_index") == 0
        second = queue.get(timeout=10)
        assert second.payload == "second"
        second.ack()
        raises(queue.Empty, queue.get, block=False)
        raises(queue.Empty, queue.get, timeout=0.2)
        queue.close()


@step
def requeued_rejected_and_not_acknowledged():
    with connect() as connection:
        queue = connection.SimpleQueue("again")
        queue.put(1)
        message = queue.get(timeout=10)
        message.requeue()
        assert r.hlen("unacked") == 0 and r.llen("again") == 1
        message = queue.get(timeout=10)
        assert message.payload == 1 and message.delivery_info["redelivered"] is True
        message.reject()
        assert r.exists("again", "unacked", "unacked_index") == 0
        queue.put(2)
        queue.get(timeout=10)
        assert r.hlen("unacked") == 1
        queue.close()
    # The connection is closed with a message in hand: it is there again.
    assert r.hlen("unacked") == 0 and r.llen("again") == 1
    with connect() as connection:
        queue = connection.SimpleQueue("again", no_ack=True)
        assert queue.get(timeout=10).payload == 2
        assert r.hlen("unacked") == 0
        assert queue.clear() == 0
        queue.close()


@step
def messages_of_a_lost_consumer_become_visible_again():
    lost = connect()
    queue = lost.SimpleQueue("visible")
    queue.put("x")
    queue.get(timeout=10)
    assert r.hlen("unacked") == 1
    # Nobody has given it back; the next that looks finds it older than it may be.
    with connect(visibility_timeout=0) as connection:
        channel = connection.default_channel
        channel.qos.restore_visible(interval=1)
        assert r.hlen("unacked") == 0 and r.zcard("unacked_index") == 0 and r.llen("visible") == 1
        again = connection.SimpleQueue("visible")
        message = again.get(timeout=10)
        assert message.payload == "x" and message.delivery_info["redelivered"] is True
        message.ack()
        again.close()
    lost.collect()


@step
def priorities():
    with connect(priority_steps=[0, 3, 6, 9], queue_order_strategy="priority") as connection:
        queue = connection.SimpleQueue("prioritized")
        for priority in (9, 0, 6, 3):
            queue.put(priority, priority=priority)
        assert len(queue) == 4
        got = []
        for _ in range(4):
            message = queue.get(timeout=10)
            got.append(message.payload)
            message.ack()
        assert got == [0, 3, 6, 9], got
        queue.close()


@step
def direct_topic_and_fanout():
    with connect() as connection:
        got = []
        topic = Exchange("topics", "topic")
        fanout = Exchange("all", "fanout")
        direct = Exchange("direct", "direct")
        queues = [
            Queue("stock", topic, routing_key="stock.#"),
            Queue("us", topic, routing_key="*.us"),
            Queue("one", fanout),
            Queue("only", direct, routing_key="only"),
        ]

        def heard(body, message):
            got.append((message.delivery_info["exchange"], body))
            message.ack()

        def settle():
            """Takes what comes until nothing does."""
            try:
                while True:
                    connection.drain_events(timeout=0.2)
            except socket.timeout:
                pass

        def drain(count):
            while len(got) < count:
                connection.drain_events(timeout=10)
            settle()
            found = sorted(got)
            got.clear()
            return found

        # The second listener has a channel of its own: one hears an exchange once.
        second = Consumer(connection.channel(), [Queue("two", fanout)], callbacks=[heard])
        with Consumer(connection, queues, callbacks=[heard]), second, connection.Producer() as producer:
            # Channels are subscribed to when the first event is waited for.
            settle()
            until(lambda: sum(int(each["psub"]) for each in r.client_list()) == 2)
            producer.publish("a", exchange=topic, routing_key="stock.us")
            assert drain(2) == [("topics", "a"), ("topics", "a")]
            producer.publish("b", exchange=topic, routing_key="bond.us")
            assert drain(1) == [("topics", "b")]
            producer.publish("c", exchange=fanout)
            assert drain(2) == [("all", "c"), ("all", "c")]
            producer.publish("d", exchange=direct, routing_key="only")
            producer.publish("nobody", exchange=direct, routing_key="other")
            assert drain(1) == [("direct", "d")]
        assert r.smembers("_kombu.binding.direct") == {b"only\x06\x16\x06\x16only"}


@step
def bindings_of_queues_that_expire():
    with connect() as connection:
        channel = connection.channel()
        exchange = Exchange("passing", "direct", channel=channel)
        queue = Queue("short", exchange, routing_key="short", expires=60, channel=channel)
        queue.declare()
        deadlines = channel.keyprefix_binding_deadlines
        assert r.zrange(deadlines, 0, -1) == [b"passing"]
        assert r.smembers("_kombu.binding.passing") == {b"short\x06\x16\x06\x16short"}
        connection.Producer(channel).publish("x", exchange=exchange, routing_key="short")
        assert 50_000 < r.pttl("short") <= 60_000
        assert channel.sweep_bindings() == 0
        assert r.zadd(deadlines, {"passing": 1}) == 0
        assert channel.sweep_bindings() == 1
        assert r.exists("_kombu.binding.passing", deadlines) == 0


@step
def many_messages_through_pools():
    with connect() as connection:
        with connection.channel() as channel, connection.Producer() as producer:
            queue = Queue("many", Exchange("many", "direct"), routing_key="many", channel=channel)
            queue.declare()
            for number in range(500):
                producer.publish(number, exchange="many", routing_key="many")
        got = []

        def heard(body, message):
            got.append(body)
            message.ack()

        with connection.Consumer([Queue("many")], callbacks=[heard], prefetch_count=10):
            while len(got) < 500:
                connection.drain_events(timeout=10)
        assert got == list(range(500))
        assert r.exists("unacked", "unacked_index", "many") == 0


run()
