"""The Python driver against one CQL address: what a service does with it. Prints `ok NAME: figures` lines, then `done`.

driver.py HOST PORT KEYSPACE VERSION COMPRESSION(none|lz4) [tls=CA] [reconnect]

With `reconnect` it says `ready` once everything else is done, expects the server to go away and to come back, and says
how long no request succeeded. Lines with `rows=` are the same whatever stands between it and the cluster.
"""

import hashlib
import ssl
import sys
import time

from cassandra import InvalidRequest
from cassandra.cluster import Cluster, NoHostAvailable
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.protocol import SyntaxException
from cassandra.query import BatchStatement, BatchType, SimpleStatement

ROWS, KEYS, PAGE, BURST = 1000, 15_000, 100, 200
host, port, keyspace, version, compression = sys.argv[1:6]


def ok(name, said=""):
    print(f"ok {name}: {said}" if said else f"ok {name}", flush=True)


def encryption():
    """With `tls=CA`: a certificate of that CA, for the host that is dialled."""
    ca = next((given.removeprefix("tls=") for given in sys.argv if given.startswith("tls=")), None)
    context = ca and ssl.create_default_context(cafile=ca)
    return {"ssl_context": context, "ssl_options": {"server_hostname": host}} if ca else {}


def cluster():
    lz4 = "lz4" if compression == "lz4" else False
    more = encryption()
    return Cluster(
        [host], port=int(port), protocol_version=int(version), compression=lz4, idle_heartbeat_interval=5, **more
    )


def digest(rows):
    hashed = hashlib.sha256()
    count = 0
    for row in rows:
        hashed.update(f"{row[0]}={row[1]};".encode())
        count += 1
    return f"rows={count} digest={hashed.hexdigest()[:16]}"


def eventually(what, holds):
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < 40, f"not within 40 s: {what}"
        time.sleep(0.02)
    return f"{time.monotonic() - begun:.2f} s"


def refused(kind, session, text):
    try:
        session.execute(text)
    except kind as error:
        return str(error)
    raise AssertionError(f"{text} was not refused")


def reconnect(session, read):
    """How long no request succeeds while the server is away; each request asks for an answer within a second."""
    print("ready", flush=True)
    begun, lost = time.monotonic(), None
    while True:
        assert time.monotonic() - begun < 120, "never again"
        try:
            session.execute(read, ([1],), timeout=1)
            if lost is not None:
                return f"gap {time.monotonic() - lost:.2f} s"
        except (NoHostAvailable, Exception) as error:  # whatever it is: the next may succeed
            lost = lost or time.monotonic()
            print(f"# {type(error).__name__}", flush=True)
        time.sleep(0.02)


def main():
    first = cluster()
    session = first.connect()
    hosts = [str(known.endpoint) for known in first.metadata.all_hosts()]
    assert len(hosts) == 1, hosts
    ok("connect", f"version {first.protocol_version}, {hosts[0]}")

    session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {replication}", timeout=60)
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)", timeout=60)
    ok("ddl")

    insert = session.prepare(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")
    done = execute_concurrent_with_args(session, insert, [(k * 7, f"v{k}") for k in range(ROWS)], concurrency=32)
    assert all(result.success for result in done) and len(done) == ROWS
    ok("inserts", str(ROWS))

    read = session.prepare(f"SELECT k, v FROM {keyspace}.t WHERE k IN ?")
    begun = time.monotonic()
    rows = digest(session.execute(read, (list(range(KEYS)),), timeout=60))
    print(f"# IN of {KEYS} keys took {time.monotonic() - begun:.2f} s")
    ok("in", rows)

    # identical reads at once, each with the timestamp that the driver gives it
    assert session.use_client_timestamp
    same = session.prepare(f"SELECT k, v FROM {keyspace}.t WHERE k = ?")
    alone = digest(session.execute(same, (7,)))
    burst = [session.execute_async(same, (7,)) for _ in range(BURST)]
    found = {digest(one.result()) for one in burst}
    assert found == {alone}, found
    ok("burst", alone)

    result = session.execute(SimpleStatement(f"SELECT k, v FROM {keyspace}.t", fetch_size=PAGE))
    pages, rows = 1, list(result.current_rows)
    while result.has_more_pages:
        result.fetch_next_page()
        rows += result.current_rows
        pages += 1
    assert pages >= ROWS // PAGE, pages
    ok("paging", f"pages={pages} {digest(rows)}")

    batch = BatchStatement(batch_type=BatchType.UNLOGGED)
    for k in range(20):
        batch.add(insert, (100_000 + k, "batched"))
    session.execute(batch)
    ok("batch", digest(session.execute(read, ([100_000 + k for k in range(20)],))))

    session.execute(f"USE {keyspace}")
    one = session.execute("SELECT v FROM t WHERE k = 7").one()
    assert one.v == "v1", one
    own = first.connect(keyspace)
    own.execute(own.prepare("INSERT INTO t (k, v) VALUES (?, ?)"), (200_000, "own"))
    assert own.execute("SELECT v FROM t WHERE k = %s", (200_000,)).one().v == "own"
    ok("keyspaces")

    second = cluster()
    other = second.connect()
    other.execute(f"ALTER TABLE {keyspace}.t ADD extra int", timeout=60)
    tables = lambda: first.metadata.keyspaces[keyspace].tables
    seen = eventually("the new column is seen", lambda: "extra" in tables()["t"].columns)
    other.execute(f"CREATE TABLE {keyspace}.late (k int PRIMARY KEY)", timeout=60)
    eventually("the new table is seen", lambda: "late" in tables())
    second.shutdown()
    ok("schema change", seen)

    refused(SyntaxException, session, "SELEC nothing")
    assert "nowhere" in refused(InvalidRequest, session, f"SELECT * FROM {keyspace}.nowhere")
    refused(InvalidRequest, session, "SELECT nothing FROM t WHERE k = 1")
    assert session.execute(read, ([7],)).one().v == "v1"
    ok("errors")

    if "reconnect" in sys.argv:
        ok("reconnect", reconnect(session, read))
    session.execute(f"DROP KEYSPACE {keyspace}", timeout=60)
    first.shutdown()
    print("done", flush=True)


main()
