// Reads rows as a part of one request of a service, as docs/amplification.md shows it for Node and CQL.
//
// node request_id.js HOST PORT KEYSPACE VERSION TRACEID
'use strict';
const { createRequire } = require('node:module');
const cassandra = createRequire(`${process.env.WEIR_TEST_NODE ?? process.cwd()}/package.json`)('cassandra-driver');

const [host, port, keyspace, version, traceId] = process.argv.slice(2);

// Options of an execute() that is a part of this request of the service.
const withId = (id, options) => ({ ...options, customPayload: { 'weir-request-id': Buffer.from(id, 'hex') } });

async function main() {
  const client = new cassandra.Client({
    contactPoints: [`${host}:${port}`],
    localDataCenter: 'datacenter1',
    protocolOptions: { maxVersion: Number(version) },
    socketOptions: { readTimeout: 60000 },
  });
  const keys = Array.from({ length: 1000 }, (_, k) => k);
  const options = withId(traceId, { prepare: true, fetchSize: 5000 });
  const found = await client.execute(`SELECT k FROM ${keyspace}.t WHERE k IN ?`, [keys], options);
  console.log(`found ${found.rows.length}`);
  await client.shutdown();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
