"""Drives a memcached with pymemcache, a check per feature: `pymemcache_client.py HOST:PORT|/SOCKET KEYS`.

Prints `ok NAME` per check and `done` at the end; the first wrong answer ends it with a traceback.
"""

import sys
import time

from pymemcache import MemcacheClientError, MemcacheServerError
from pymemcache.client.base import Client, PooledClient


def connect(address, kind=Client, **options):
    if not address.startswith("/"):
        host, port = address.rsplit(":", 1)
        address = (host, int(port))
    return kind(address, connect_timeout=10, timeout=30, **options)


def ok(name, detail=""):
    print(f"ok {name}: {detail}" if detail else f"ok {name}", flush=True)


def main(address, count):
    client = connect(address, default_noreply=False)
    assert client.flush_all()

    assert client.set("name", b"value")
    assert client.get("name") == b"value"
    ok("set and get")

    assert client.get("nobody") is None
    assert client.get("nobody", b"default") == b"default"
    assert client.get_many(["nobody", "name", "no-one"]) == {"name": b"value"}
    ok("misses")

    value, token = client.gets("name")
    assert value == b"value"
    assert client.cas("name", b"won", token) is True
    assert client.cas("name", b"lost", token) is False
    assert client.cas("nobody", b"lost", token) is None
    assert client.get("name") == b"won"
    ok("cas")

    assert client.add("name", b"other") is False
    assert client.add("new", b"1") is True
    assert client.replace("nobody", b"1") is False
    assert client.replace("name", b"b") is True
    ok("add and replace")

    assert client.append("name", b"c") and client.prepend("name", b"a")
    assert client.get("name") == b"abc"
    assert client.append("nobody", b"c") is False
    ok("append and prepend")

    assert client.set("number", b"40")
    assert client.incr("number", 5) == 45
    assert client.decr("number", 3) == 42
    assert client.decr("number", 100) == 0
    assert client.incr("nobody", 1) is None
    try:
        client.incr("name", 1)
        raise AssertionError("a word was incremented")
    except MemcacheClientError:
        pass
    ok("incr and decr")

    assert client.touch("name", 100) is True
    assert client.touch("nobody", 100) is False
    assert client.set("soon", b"gone", expire=1)
    time.sleep(2.1)
    assert client.get("soon") is None
    ok("touch")

    assert client.delete("name") is True
    assert client.delete("name") is False
    assert client.get("name") is None
    ok("delete")

    # Nothing may be answered: a stray line would be taken for the answer to what follows.
    for number in range(500):
        client.set(f"silent:{number}", b"%d" % number, noreply=True)
        client.touch(f"silent:{number}", 100, noreply=True)
    client.delete("silent:7", noreply=True)
    client.incr("silent:8", 100, noreply=True)
    client.add("silent:9", b"no", noreply=True)
    assert client.get("silent:6") == b"6"
    assert client.get("silent:7") is None
    assert client.get("silent:8") == b"108"
    assert client.get("silent:9") == b"9"
    ok("noreply")

    binary = bytes(range(256)) + b"\r\nEND\r\nVALUE x 0 1\r\n"
    assert client.set("binary", binary)
    assert client.get("binary") == binary
    ok("binary value")

    large = bytes(n % 251 for n in range(900_000))
    assert client.set("large", large)
    assert client.get("large") == large
    assert client.get_many(["large", "binary"]) == {"large": large, "binary": binary}
    ok("large value")

    try:
        client.set("large", b"x" * (2 << 20))
        raise AssertionError("a value of 2 MiB was stored")
    except MemcacheServerError as error:
        assert b"too large" in bytes(str(error), "utf8"), error
    # memcached forgets the old value too: it would be stale.
    assert client.get("large") is None
    assert client.get("binary") == binary
    ok("too large value")

    many = {f"py:{number}": b"value %d" % number for number in range(count)}
    assert client.set_many(many) == []
    ok("set_many")

    begun = time.monotonic()
    found = client.get_many(list(many))
    took = time.monotonic() - begun
    assert found == many, f"{len(found)} of {count}"
    ok("get_many", f"{count} keys in {took * 1000:.0f} ms")

    some = list(many)[:500]
    tokens = client.gets_many(some)
    assert {key: value for key, (value, _) in tokens.items()} == {key: many[key] for key in some}
    assert client.cas(some[3], b"new", tokens[some[3]][1]) is True
    ok("gets_many")

    raw = connect(address, default_noreply=False, allow_unicode_keys=True)
    try:
        raw.get("k" * 251)
        raise AssertionError("a key of 251 bytes was asked for")
    except MemcacheClientError:
        pass
    assert raw.get("py:1") == b"value 1"
    ok("wrong key")

    stats = client.stats()
    assert stats[b"pid"] > 0 and b"curr_items" in stats
    ok("stats")

    assert client.version().startswith(b"1.")
    ok("version")

    pool = connect(address, PooledClient, max_pool_size=4)
    assert pool.get_many(some[:3]) == {key: many[key] for key in some[:3]}
    assert client.flush_all()
    assert client.get_many(some) == {} and pool.get("py:9999") is None
    ok("flush")

    for each in (client, raw, pool):
        each.close()
    print("done")


main(sys.argv[1], int(sys.argv[2]))
