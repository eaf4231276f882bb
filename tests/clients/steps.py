"""What the programs of one framework each have in common: steps in order, a line for each, an end at the first that goes
wrong, and a limit on the whole."""

import faulthandler
import os
import sys
import time
import traceback

import redis

# Below the patience of tests/compat, so that it is this program that says where it hangs.
LIMIT_SECONDS = 45

HOST = "127.0.0.1"
PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 6379

_steps = []


def step(function):
    """Registers a function as the next step; its name is what is printed."""
    # A framework may import a program once more by its name, for the functions in it.
    if function.__module__ == "__main__":
        _steps.append(function)
    return function


def run():
    """Empties the server, runs the steps in order, and ends the process: with status 1 at the first that raises."""
    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    redis.Redis(host=HOST, port=PORT).flushall()
    for function in _steps:
        name = function.__name__.replace("_", " ")
        begun = time.monotonic()
        try:
            function()
        except BaseException:
            print(f"FAILED: {name}", flush=True)
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            # Threads of a framework may not want to end.
            os._exit(1)
        print(f"ok: {name}, {(time.monotonic() - begun) * 1000:.0f} ms", flush=True)
    os._exit(0)


def until(look):
    """Polls until `look` returns something true, for what nobody announces. The limit on the whole ends it."""
    while True:
        found = look()
        if found:
            return found
        time.sleep(0.005)


def raises(kind, function, *args, **kwargs):
    """The error of this kind that a call must raise."""
    try:
        returned = function(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"no {kind}, but {returned!r}")
