"""The Python driver and two weirs that name each other: asks idempotent statements without a pause while one after the
other is killed and started again.

second.py HOST PORT KEYSPACE

Says `ready HOST` when that one may go, and at last `N answers, N errors`.
"""

import sys
import time

from cassandra.cluster import Cluster

host, port, keyspace = sys.argv[1:4]
AWAY, BACK = 6, 40  # seconds it is asked while one is away; the longest wait until it is connected again

cluster = Cluster([host], port=int(port), protocol_version=5)
session = cluster.connect()
hosts = {known.address: known for known in cluster.metadata.all_hosts()}
assert sorted(hosts) == ["127.0.0.1", "127.0.0.2"], hosts
assert all(known.endpoint.port == int(port) for known in hosts.values()), hosts
replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {replication}", timeout=60)
session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)", timeout=60)
session.execute(f"INSERT INTO {keyspace}.t (k, v) VALUES (7, 70)")
read = session.prepare(f"SELECT v FROM {keyspace}.t WHERE k = ?")
read.is_idempotent = True
answers = errors = 0
answered_by = set()


def ask_until(end, enough=lambda: False):
    global answers, errors
    while time.monotonic() < end and not enough():
        try:
            # each weir is shown as the replica of half of the keys, and drivers ask replicas
            result = session.execute(read, ((answers + errors) % 100,), timeout=10)
            answered_by.add(result.response_future.coordinator_host.address)
            answers += 1
        except Exception as error:
            print(f"# {type(error).__name__}: {error}", flush=True)
            errors += 1
        time.sleep(0.001)


for gone in ["127.0.0.2", "127.0.0.1"]:
    answered_by.clear()
    ask_until(time.monotonic() + BACK, lambda: len(answered_by) == 2)
    assert len(answered_by) == 2, f"{answered_by} answered, {hosts}"
    print(f"ready {gone}", flush=True)
    before = answers
    ask_until(time.monotonic() + AWAY)
    assert answers > before + 100, f"{answers - before} answers while {gone} was away"
    known = {known.address: known.host_id for known in cluster.metadata.all_hosts()}
    assert known == {address: one.host_id for address, one in hosts.items()}, known
session.execute(f"DROP KEYSPACE {keyspace}", timeout=60)
print(f"{answers} answers, {errors} errors", flush=True)
cluster.shutdown()
