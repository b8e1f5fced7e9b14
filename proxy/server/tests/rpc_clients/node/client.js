// connect-es for Node, the client of the real AppView, against a bsky.Service. Prints `ok NAME: figures` lines, then
// `done`. The same lines whatever stands between it and the service.
//
// node client.js PORT FLAVOUR agree            everything that a service does, directly or through weir
// node client.js PORT FLAVOUR refused BYTES    what a refusal looks like, and a message of more bytes than weir takes
//
// Flavours: grpc, grpcweb, connect and json (Connect's), each with -h2 or -h1.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const { createRequire } = require('node:module');
// The packages lie in an environment of the tests, not beside this file.
const load = createRequire(`${process.env.WEIR_TEST_RPC_NODE ?? process.cwd()}/package.json`);
const { Code, ConnectError, createPromiseClient, decodeBinaryHeader, encodeBinaryHeader } = load('@connectrpc/connect');
const transports = load('@connectrpc/connect-node');
const { Duration, MethodKind, proto3, ScalarType } = load('@bufbuild/protobuf');

const MANY = 20000, LARGE = 8 << 20, MOST = 64 << 20;
const [port, flavour, phase, bytes] = process.argv.slice(2);
const ok = (name, said) => console.log(`ok ${name}: ${said}`);
const digest = (message) => {
  const binary = message.toBinary();
  return `${binary.length} bytes ${crypto.createHash('sha256').update(binary).digest('hex').slice(0, 24)}`;
};

const scalar = (no, name, T, more = {}) => ({ no, name, kind: 'scalar', T, ...more });
const Request = proto3.makeMessageType('bsky.GetPostRecordsRequest', () => [
  scalar(1, 'uris', ScalarType.STRING, { repeated: true }),
]);
const Rec = proto3.makeMessageType('bsky.Record', () => [
  scalar(1, 'record', ScalarType.BYTES),
  scalar(2, 'cid', ScalarType.STRING),
]);
const Meta = proto3.makeMessageType('bsky.PostRecordMeta', () => [scalar(3, 'is_reply', ScalarType.BOOL)]);
const Reply = proto3.makeMessageType('bsky.GetPostRecordsResponse', () => [
  { no: 1, name: 'records', kind: 'message', T: Rec, repeated: true },
  { no: 2, name: 'meta', kind: 'message', T: Meta, repeated: true },
]);
const Number = proto3.makeMessageType('weir.test.Number', () => [scalar(1, 'number', ScalarType.STRING)]);
const RetryInfo = proto3.makeMessageType('google.rpc.RetryInfo', () => [
  { no: 1, name: 'retry_delay', kind: 'message', T: Duration },
]);
const posts = {
  typeName: 'bsky.Service',
  methods: { getPostRecords: { name: 'GetPostRecords', I: Request, O: Reply, kind: MethodKind.Unary } },
};
const streams = {
  typeName: 'weir.test.Service',
  methods: { stream: { name: 'Stream', I: Request, O: Number, kind: MethodKind.ServerStreaming } },
};

const [protocol, version] = flavour.split('-');
const make = {
  grpc: transports.createGrpcTransport,
  grpcweb: transports.createGrpcWebTransport,
  connect: transports.createConnectTransport,
  json: transports.createConnectTransport,
}[protocol];
const transport = make({
  baseUrl: `http://127.0.0.1:${port}`,
  httpVersion: version === 'h1' ? '1.1' : '2',
  useBinaryFormat: protocol !== 'json',
  readMaxBytes: MOST,
  writeMaxBytes: MOST,
});
const client = createPromiseClient(posts, transport);
const call = (uris, options) => client.getPostRecords({ uris }, options);

async function fails(code, promise) {
  try {
    await promise;
  } catch (error) {
    const told = ConnectError.from(error);
    assert.strictEqual(Code[told.code], code, told.message);
    return told;
  }
  throw new Error(`no ${code}`);
}

const details = (error) => {
  const told = error.details.map((one) => `${one.type} ${Buffer.from(one.value ?? []).toString('hex')}`);
  return `${error.rawMessage} ${told.join('; ')}`;
};

async function agree() {
  ok('unary', digest(await call(['at://a', 'at://bb', 'at://a'])));
  const echoed = [];
  const keep = (headers) => {
    for (const name of ['x-echo', 'x-end']) echoed.push(`${name}=${headers.get(name)}`);
    for (const name of ['x-echo-two-bin', 'x-end-two-bin']) {
      const value = headers.get(name);
      echoed.push(`${name}=${value && Buffer.from(decodeBinaryHeader(value)).toString('hex')}`);
    }
  };
  const headers = { 'x-echo': 'some text', 'x-echo-two-bin': encodeBinaryHeader(Uint8Array.of(0, 1, 254, 255)) };
  await call(['at://a'], { headers, onHeader: keep, onTrailer: keep });
  ok('metadata', echoed.join(' '));
  if (protocol !== 'json') { // the service's records are larger in JSON than they are
    ok('large reply', digest(await call([`do:size:${LARGE}`])));
  }
  ok('large request', digest(await call(['k'.repeat(LARGE)])));
  ok('error', details(await fails('NotFound', call(['do:error']))));
  ok('late error', details(await fails('DataLoss', call(['do:late']))));
  const keys = Array.from({ length: MANY }, (_, n) => `at://did:plc:abc/app.bsky.feed.post/${(n * 7919 % MANY) % 9973}`);
  ok('many keys', digest(await call(keys)));

  let begun = Date.now();
  await fails('DeadlineExceeded', call(['do:wait:20000'], { timeoutMs: 200 }));
  assert(Date.now() - begun >= 150 && Date.now() - begun < 5000, `${Date.now() - begun} ms`);
  ok('deadline', '');
  const leaving = new AbortController();
  setTimeout(() => leaving.abort(), 200);
  await fails('Canceled', call(['do:wait:20001'], { signal: leaving.signal }));
  ok('leave a call', '');
  if (protocol === 'grpc' || protocol === 'grpcweb') {
    let received = 0;
    for await (const message of createPromiseClient(streams, transport).stream({})) {
      assert.strictEqual(message.number.length, 20);
      received += 1;
      if (received === 3) break;
    }
    ok('leave', `${received}`);
  }
  ok('after', digest(await call(['at://z'])));
}

async function refused() {
  const begun = Date.now();
  const told = async (promise) => promise.then(() => 'ok', (error) => ConnectError.from(error));
  const refusal = await told(call(Array.from({ length: 11 }, (_, n) => `${n}`)));
  const retry = refusal.findDetails?.({ findMessage: (name) => (name === RetryInfo.typeName ? RetryInfo : undefined) });
  const seconds = retry?.[0]?.retryDelay?.seconds;
  console.log(`refused: ${Code[refusal.code]} after ${((Date.now() - begun) / 1000).toFixed(1)} s, ` +
    `retry in ${seconds} s: ${refusal.rawMessage}`);
  const large = await told(call(['k'.repeat(parseInt(bytes, 10))]));
  console.log(`too large: ${Code[large.code]}: ${large.rawMessage}`);
  const after = await told(call(['at://a']));
  console.log(`after: ${after === 'ok' ? after : after.message}`);
}

({ agree, refused })[phase]().then(() => {
  console.log('done');
  process.exit(0);
}, (error) => {
  console.error(error);
  process.exit(1);
});
