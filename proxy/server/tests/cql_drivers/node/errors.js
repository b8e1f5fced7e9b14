// What the Node driver makes of errors: asks for keys 0..COUNT, odd ones with a statement called idempotent.
//
// node errors.js HOST PORT COUNT
'use strict';
const { createRequire } = require('node:module');
const cassandra = createRequire(`${process.env.WEIR_TEST_NODE}/package.json`)('cassandra-driver');

const [host, port, count] = process.argv.slice(2);

async function main() {
  const client = new cassandra.Client({
    contactPoints: [`${host}:${port}`],
    localDataCenter: 'datacenter1',
    protocolOptions: { maxVersion: 4, port: Number(port) }, // the port is also that of other hosts
  });
  await client.connect();
  if (client.hosts.length !== 2) throw new Error(`${client.hosts.keys()}`);
  const replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
  await client.execute(`CREATE KEYSPACE IF NOT EXISTS errors WITH replication = ${replication}`);
  await client.execute('CREATE TABLE IF NOT EXISTS errors.t (k int PRIMARY KEY, v int)');
  for (let key = 0; key < Number(count); key++) {
    const options = { prepare: true, isIdempotent: key % 2 === 1 };
    try {
      await client.execute('SELECT v FROM errors.t WHERE k = ?', [key], options);
      console.log(`key ${key} succeeds`);
    } catch (error) {
      const inner = Object.values(error.innerErrors ?? {}).map((one) => one.name);
      console.log(`key ${key} ${error.name}${inner.length ? ` of ${[...new Set(inner)].join(', ')}` : ''}`);
    }
    // a connection that is closed because of it is closed by then
    await new Promise((wake) => setTimeout(wake, 100));
  }
  // so that closing at the end is nobody's
  await client.execute('SELECT v FROM errors.t WHERE k = ?', [Number(count)], { prepare: true }).catch(console.log);
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
