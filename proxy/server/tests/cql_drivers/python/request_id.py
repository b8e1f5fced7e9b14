"""Reads rows as a part of one request of a service, as docs/amplification.md shows it for Python and CQL.

request_id.py HOST PORT KEYSPACE VERSION TRACEID
"""

import sys

from cassandra.cluster import Cluster

host, port, keyspace, version, trace_id = sys.argv[1:6]
session = Cluster([host], port=int(port), protocol_version=int(version)).connect()
read = session.prepare(f"SELECT k FROM {keyspace}.t WHERE k IN ?")
payload = {"weir-request-id": bytes.fromhex(trace_id)}
rows = session.execute(read, [list(range(1000))], custom_payload=payload, timeout=60)
print(f"found {len(list(rows))}")
session.cluster.shutdown()
