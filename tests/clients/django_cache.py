"""Django's own cache backend and django-redis against a server: django_cache.py PORT. Values, expiry, counters, patterns,
locks and sessions."""

import threading

import django
from django.conf import settings

from steps import HOST, PORT, raises, run, step, until

LOCATION = f"redis://{HOST}:{PORT}"

settings.configure(
    SECRET_KEY="for a test",
    USE_TZ=True,
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"{LOCATION}/1"},
        "other": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"{LOCATION}/2",
            "KEY_PREFIX": "app",
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
        },
        "zipped": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"{LOCATION}/3",
            "OPTIONS": {"COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"},
        },
    },
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import caches  # noqa: E402
from django_redis import get_redis_connection  # noqa: E402


def common(cache):
    """What every cache backend of Django promises."""
    cache.clear()
    value = {"text": "\u00e4\u20ac", "bytes": b"\x00\xff", "list": [1, 2.5, None, True]}
    cache.set("k", value, timeout=300)
    assert cache.get("k") == value and cache.get("none", "default") == "default"
    assert cache.add("k", 1) is False and cache.add("new", 1, timeout=300) is True
    assert cache.has_key("k") and "none" not in cache
    cache.set_many({"a": 1, "b": "two"}, timeout=300)
    assert cache.get_many(["a", "b", "none"]) == {"a": 1, "b": "two"}
    assert cache.incr("a") == 2 and cache.incr("a", 10) == 12 and cache.decr("a", 2) == 10
    raises(ValueError, cache.incr, "none")
    assert cache.get_or_set("lazy", lambda: 7, 300) == 7 and cache.get("lazy") == 7
    assert cache.touch("k", 1000) is True and cache.touch("none") is False
    cache.set("gone", 1, timeout=0)
    assert cache.get("gone") is None
    cache.set("forever", 1, timeout=None)
    cache.set("v", 1, version=2)
    assert cache.get("v") is None and cache.get("v", version=2) == 1
    assert cache.incr_version("v", version=2) == 3 and cache.get("v", version=3) == 1
    assert cache.delete("k") in (True, 1) and not cache.delete("k")
    cache.delete_many(["a", "b"])
    assert cache.get_many(["a", "b"]) == {}


@step
def the_cache_of_django():
    cache = caches["default"]
    common(cache)
    client = cache._cache.get_client()
    assert client.ttl(cache.make_key("forever")) == -1
    cache.set("short", 1, timeout=1)
    until(lambda: cache.get("short") is None)
    cache.clear()
    assert client.dbsize() == 0


@step
def the_cache_of_django_redis():
    cache = caches["other"]
    common(cache)
    connection = get_redis_connection("other")
    assert connection.exists("app:1:forever") == 1
    assert cache.ttl("forever") is None and cache.ttl("none") == 0
    cache.set("k", 1, timeout=100)
    assert 90 < cache.ttl("k") <= 100 and 90_000 < cache.pttl("k") <= 100_000
    assert cache.persist("k") is True and cache.ttl("k") is None
    assert cache.expire("k", timeout=50) is True and cache.pexpire("k", timeout=60_000) is True
    assert cache.set("k", 2, nx=True) is False and cache.get("k") == 1
    # Counters: by Lua, so that one that is not there is not made.
    cache.set("count", 2**50)
    assert cache.incr("count") == 2**50 + 1
    for number in range(300):
        cache.set(f"many:{number}", number)
    assert len(list(cache.iter_keys("many:*"))) == 300
    assert len(cache.keys("many:1??")) == 100
    assert cache.delete_pattern("many:2*") == 111
    assert len(cache.keys("many:*")) == 189
    zipped = caches["zipped"]
    zipped.set("text", "long " * 1000)
    assert zipped.get("text") == "long " * 1000
    assert get_redis_connection("zipped").strlen(":1:text") < 1000


@step
def locks_of_django_redis():
    cache = caches["other"]
    connection = get_redis_connection("other")
    with cache.lock("job", timeout=30):
        assert 20 < connection.ttl("app:1:job") <= 30
        assert cache.lock("job", timeout=30, blocking_timeout=0).acquire() is False
    assert connection.exists("app:1:job") == 0
    order = []

    def work(name):
        with cache.lock("turn", timeout=30, sleep=0.001):
            order.append((name, "in"))
            connection.incr("turns")
            order.append((name, "out"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert connection.get("turns") == b"8"
    assert all(order[at][0] == order[at + 1][0] for at in range(0, 16, 2)), order


@step
def sessions():
    session = SessionStore()
    session["user"] = {"id": 7}
    session.set_expiry(600)
    session.save()
    again = SessionStore(session_key=session.session_key)
    assert again["user"] == {"id": 7} and again.exists(session.session_key)
    key = session.session_key
    again.cycle_key()
    assert SessionStore(session_key=key).get("user") is None
    assert SessionStore(session_key=again.session_key)["user"] == {"id": 7}
    again.flush()
    assert again.session_key is None


run()
