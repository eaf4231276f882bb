"""channels_redis, the channel layers of Django Channels, against a server: channels_layer.py PORT. Messages through sorted sets
that are waited for, groups by scripts, a script that calls KEYS with none declared; and the layer by publish and subscribe."""

import asyncio

import redis
from channels.exceptions import ChannelFull
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from steps import HOST, PORT, run, step, until

r = redis.Redis(host=HOST, port=PORT)
ADDRESS = f"redis://{HOST}:{PORT}"


def in_loop(function):
    """A step that is a coroutine."""

    def whole():
        asyncio.run(asyncio.wait_for(function(), 30))

    whole.__name__, whole.__module__ = function.__name__, function.__module__
    return step(whole)


@in_loop
async def messages_are_waited_for():
    layer = RedisChannelLayer(hosts=[ADDRESS], capacity=3)
    waiting = asyncio.create_task(layer.receive("chat"))
    await layer.send("chat", {"type": "greeting", "text": "\u00e4", "bytes": b"\x00\xff"})
    assert await waiting == {"type": "greeting", "text": "\u00e4", "bytes": b"\x00\xff"}
    for number in range(3):
        await layer.send("chat", {"type": "n", "n": number})
    try:
        await layer.send("chat", {"type": "n", "n": 3})
        raise AssertionError("not full")
    except ChannelFull:
        pass
    assert [(await layer.receive("chat"))["n"] for _ in range(3)] == [0, 1, 2]
    await layer.close_pools()


@in_loop
async def channels_of_one_process_and_groups():
    layer = RedisChannelLayer(hosts=[ADDRESS], capacity=10)
    other = RedisChannelLayer(hosts=[ADDRESS], capacity=10)
    names = [await layer.new_channel(), await layer.new_channel(), await other.new_channel()]
    for name in names:
        await layer.group_add("room", name)
    await layer.group_send("room", {"type": "all", "n": 1})
    for name, of in zip(names, [layer, layer, other]):
        assert (await of.receive(name))["n"] == 1
    await layer.group_discard("room", names[0])
    await other.group_send("room", {"type": "all", "n": 2})
    assert (await layer.receive(names[1]))["n"] == 2 and (await other.receive(names[2]))["n"] == 2
    await layer.flush()
    assert r.keys("asgi*") == []
    for each in (layer, other):
        await each.close_pools()


@in_loop
async def by_publish_and_subscribe():
    one, two = RedisPubSubChannelLayer(hosts=[ADDRESS]), RedisPubSubChannelLayer(hosts=[ADDRESS])
    first, second = await one.new_channel(), await two.new_channel()
    await one.group_add("room", first)
    await two.group_add("room", second)
    until(lambda: len(r.pubsub_channels("*room*")) == 1 and r.pubsub_numsub(*r.pubsub_channels("*room*"))[0][1] == 2)
    for number in range(100):
        await one.group_send("room", {"type": "all", "n": number})
    assert [(await two.receive(second))["n"] for _ in range(100)] == list(range(100))
    assert [(await one.receive(first))["n"] for _ in range(100)] == list(range(100))
    await two.send(first, {"type": "direct"})
    assert (await one.receive(first))["type"] == "direct"
    await one.group_discard("room", first)
    await two.group_discard("room", second)
    until(lambda: r.pubsub_channels("*room*") == [])
    await one.flush()
    await two.flush()


run()
