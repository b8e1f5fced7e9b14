"""What the Python driver makes of errors: asks for keys 0..COUNT, odd ones with a statement called idempotent.

errors.py HOST PORT COUNT
"""

import sys
import time

from cassandra.cluster import Cluster, NoHostAvailable

host, port, count = sys.argv[1:4]
cluster = Cluster([host], port=int(port), protocol_version=4, compression=False)
session = cluster.connect()
assert len(cluster.metadata.all_hosts()) == 2, cluster.metadata.all_hosts()
session.execute("CREATE KEYSPACE IF NOT EXISTS errors WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
session.execute("CREATE TABLE IF NOT EXISTS errors.t (k int PRIMARY KEY, v int)")
for key in range(int(count)):
    statement = session.prepare("SELECT v FROM errors.t WHERE k = ?")
    statement.is_idempotent = key % 2 == 1
    try:
        session.execute(statement, [key])
        print(f"key {key} succeeds", flush=True)
    except Exception as error:
        names = {type(error).__name__}
        names.update(type(inner).__name__ for inner in getattr(error, "errors", {}).values() if inner is not error)
        inner = sorted(names - {type(error).__name__})
        print(f"key {key} {type(error).__name__}" + (f" of {', '.join(inner)}" if inner else ""), flush=True)
    time.sleep(0.1)  # a connection that is closed because of it is closed by now
try:
    session.execute(statement, [int(count)])  # so that closing at the end is nobody's
except NoHostAvailable as error:
    print(f"afterwards: {error}", flush=True)
cluster.shutdown()
