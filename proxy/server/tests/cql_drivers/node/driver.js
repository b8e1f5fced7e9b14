// The Node driver against one CQL address: what a service does with it. Prints `ok NAME: figures` lines, then `done`.
//
// node driver.js HOST PORT KEYSPACE VERSION COMPRESSION(none) [tls=CA] [reconnect]
//
// With `reconnect` it says `ready` once everything else is done, expects the server to go away and to come back, and
// says how long no request succeeded. Lines with `rows=` are the same whatever stands between it and the cluster.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const { createRequire } = require('node:module');
// The driver lies in an environment of the tests, not beside this file.
const cassandra = createRequire(`${process.env.WEIR_TEST_NODE ?? process.cwd()}/package.json`)('cassandra-driver');

const ROWS = 1000, KEYS = 15000, PAGE = 100, BURST = 200;
const [host, port, keyspace, version] = process.argv.slice(2);
const prepare = true;
const ok = (name, said) => console.log(said ? `ok ${name}: ${said}` : `ok ${name}`);
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(2)} s`;

// With `tls=CA`: a certificate of that CA, for the host that is dialled.
const ca = process.argv.find((given) => given.startsWith('tls='))?.slice('tls='.length);
const sslOptions = ca ? { ca: [fs.readFileSync(ca)], rejectUnauthorized: true } : undefined;

function client(more = {}) {
  return new cassandra.Client({
    contactPoints: [`${host}:${port}`],
    localDataCenter: 'datacenter1',
    sslOptions,
    protocolOptions: { maxVersion: Number(version) },
    socketOptions: { readTimeout: 60000 },
    ...more,
  });
}

function digest(rows) {
  const hashed = crypto.createHash('sha256');
  for (const row of rows) hashed.update(`${row.k}=${row.v};`);
  return `rows=${rows.length} digest=${hashed.digest('hex').slice(0, 16)}`;
}

// The driver puts off what an event asks for by 1 s, and again with each further event, up to 10 s: other drivers' DDL.
async function eventually(what, holds) {
  const begun = Date.now();
  while (!(await holds())) {
    assert(Date.now() - begun < 40000, `not within 40 s: ${what}`);
    await sleep(20);
  }
  return seconds(begun);
}

// How long no request succeeds while the server is away; each asks for an answer within a second.
async function reconnect(session, read) {
  console.log('ready');
  const begun = Date.now();
  let lost;
  for (;;) {
    assert(Date.now() - begun < 120000, 'never again');
    try {
      await session.execute(read, [[1]], { prepare, readTimeout: 1000 });
      if (lost) return `gap ${seconds(lost)}`;
    } catch (error) {
      lost = lost ?? Date.now();
      console.log(`# ${error.name}`);
    }
    await sleep(20);
  }
}

async function main() {
  const session = client();
  await session.connect();
  const hosts = session.hosts.keys();
  assert.equal(hosts.length, 1, `${hosts}`);
  ok('connect', `version ${session.controlConnection.protocolVersion}, ${hosts[0]}`);

  await session.execute(`DROP KEYSPACE IF EXISTS ${keyspace}`);
  const replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
  await session.execute(`CREATE KEYSPACE ${keyspace} WITH replication = ${replication}`);
  await session.execute(`CREATE TABLE ${keyspace}.t (k int PRIMARY KEY, v text)`);
  ok('ddl');

  const insert = `INSERT INTO ${keyspace}.t (k, v) VALUES (?, ?)`;
  const values = [...Array(ROWS).keys()].map((k) => [k * 7, `v${k}`]);
  const done = await cassandra.concurrent.executeConcurrent(session, insert, values, { prepare });
  assert.equal(done.totalExecuted, ROWS);
  ok('inserts', `${ROWS}`);

  const read = `SELECT k, v FROM ${keyspace}.t WHERE k IN ?`;
  const begun = Date.now();
  const found = await session.execute(read, [[...Array(KEYS).keys()]], { prepare });
  console.log(`# IN of ${KEYS} keys took ${seconds(begun)}`);
  ok('in', digest(found.rows));

  // Identical reads at once, each with the timestamp that the driver gives it.
  assert(session.options.policies.timestampGeneration.next(session) != null);
  const same = async () => {
    const { rows } = await session.execute(`SELECT k, v FROM ${keyspace}.t WHERE k = ?`, [7], { prepare });
    return digest(rows);
  };
  const alone = await same();
  const burst = await Promise.all([...Array(BURST)].map(same));
  assert.deepEqual(new Set(burst), new Set([alone]));
  ok('burst', alone);

  const rows = [];
  let pages = 0, pageState;
  do {
    const page = await session.execute(`SELECT k, v FROM ${keyspace}.t`, [], { prepare, fetchSize: PAGE, pageState });
    rows.push(...page.rows);
    pages += 1;
    pageState = page.pageState;
  } while (pageState);
  assert(pages >= ROWS / PAGE, `${pages}`);
  ok('paging', `pages=${pages} ${digest(rows)}`);

  const batch = [...Array(20).keys()].map((k) => ({ query: insert, params: [100000 + k, 'batched'] }));
  await session.batch(batch, { prepare, logged: false });
  ok('batch', digest((await session.execute(read, [batch.map((one) => one.params[0])], { prepare })).rows));

  await session.execute(`USE ${keyspace}`);
  assert.equal((await session.execute('SELECT v FROM t WHERE k = 7')).first().v, 'v1');
  const own = client({ keyspace });
  await own.execute('INSERT INTO t (k, v) VALUES (?, ?)', [200000, 'own'], { prepare });
  assert.equal((await own.execute('SELECT v FROM t WHERE k = ?', [200000], { prepare })).first().v, 'own');
  ok('keyspaces');

  const column = async () => (await session.metadata.getTable(keyspace, 't')).columnsByName.extra;
  assert.equal(await column(), undefined); // it keeps what it was told until an event says otherwise
  await own.execute(`ALTER TABLE ${keyspace}.t ADD extra int`);
  const seen = await eventually('the new column is seen', column);
  await own.execute(`CREATE TABLE ${keyspace}.late (k int PRIMARY KEY)`);
  await eventually('the new table is seen', () => session.metadata.getTable(keyspace, 'late'));
  await own.shutdown();
  ok('schema change', seen);

  const { syntaxError, invalid } = cassandra.types.responseErrorCodes;
  await assert.rejects(session.execute('SELEC nothing'), { code: syntaxError });
  await assert.rejects(session.execute(`SELECT * FROM ${keyspace}.nowhere`), { code: invalid, message: /nowhere/ });
  await assert.rejects(session.execute('SELECT nothing FROM t WHERE k = 1'), { code: invalid });
  assert.equal((await session.execute(read, [[7]], { prepare })).first().v, 'v1');
  ok('errors');

  if (process.argv.includes('reconnect')) ok('reconnect', await reconnect(session, read));
  await session.execute(`DROP KEYSPACE ${keyspace}`);
  await session.shutdown();
  console.log('done');
  // The driver may still be opening a control connection (it does whenever every host was down, NODEJS-632): shutdown()
  // does not know of that one, which would keep this process for ever.
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
