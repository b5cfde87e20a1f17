// `npm start -- --origin URL`: every problem of the URL is named at once, each with a remedy.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import http from 'node:http';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { check, explain, ownGuide, readOrigin } from '../../scripts/lib/own-origin.mjs';
import { fromRoot } from '../../scripts/lib/proc.mjs';

const FILTER = 'http://127.0.0.1:8787';
const messages = (text) => check(text, FILTER).problems.map(({ message }) => message);

test('a URL is checked without connecting', () => {
  const rows = [
    ['https://api.example.com', []],
    ['http://127.0.0.1:9000/base/', []],
    ['http://localhost:9000', []],
    ['http://[::1]:9000', []],
    ['https://api.example.com:8787', []],
    ['', ['the URL has no scheme']],
    ['api.example.com', ['the URL has no scheme']],
    ['localhost:9000', ['the URL has no scheme']],
    ['127.0.0.1:9000', ['the URL has no scheme']],
    ['ftp://api.example.com', ['the scheme is ftp']],
    ['https://', ['this is not a URL']],
    ['https://api.example.com:99999', ['the port is 99999']],
    ['http://127.0.0.1:0', ['the port is 0']],
    ['http://127.0.0.1:8787', ['this is the address of the filter itself']],
    ['http://localhost:8787/v1', ['this is the address of the filter itself']],
    ['http://[::1]:8787', ['this is the address of the filter itself']],
    ['http://h/?x=1', ['the URL has a query or a fragment']],
    ['http://h/?', ['the URL has a query or a fragment']],
    [
      'ftp://ana:secret@h/#x',
      [
        'the scheme is ftp',
        'the URL has a user name or password',
        'the URL has a query or a fragment',
      ],
    ],
  ];
  for (const [text, expected] of rows) assert.deepEqual(messages(text), expected, text);
  for (const [text] of rows)
    for (const { remedy } of check(text, FILTER).problems) assert.ok(remedy, text);
});

test('`npm run demo` sends nothing but a GET request to one’s own API', async () => {
  const methods = [];
  const api = await listen(
    http.createServer((request, response) => {
      methods.push(`${request.method} ${request.url}`);
      response.end('{}');
    }),
  );
  try {
    const url = `http://127.0.0.1:${portOf(api)}`;
    const args = [fromRoot('scripts/demo-traffic.mjs'), '--url', url, '--seconds', '1'];
    const { code, stderr } = await run(process.execPath, args);
    assert.equal(code, 1);
    assert.match(stderr, /is not in front of the demo origin/);
    assert.deepEqual(methods, ['GET /_hedgerow/health', 'GET /v1/models']);
  } finally {
    api.closeAllConnections();
    api.close();
  }
});

/** Runs a command, and returns its exit code and standard error. */
function run(command, args) {
  return new Promise((done) => {
    execFile(command, args, (error, _, stderr) => done({ code: error?.code ?? 0, stderr }));
  });
}

let server, mute, closedPort;
const portOf = (listening) => listening.address().port;
const listen = (listening) =>
  new Promise((done) => listening.listen(0, '127.0.0.1', () => done(listening)));

before(async () => {
  server = await listen(http.createServer((_, response) => response.writeHead(404).end()));
  mute = await listen(net.createServer((socket) => socket.end('not HTTP\r\n\r\n')));
  const closed = await listen(net.createServer());
  closedPort = portOf(closed);
  await new Promise((done) => closed.close(done));
});

after(() => {
  server.close();
  mute.close();
});

const read = (...args) => readOrigin(args, FILTER);

test('an API that answers with any status can be used', async () => {
  const url = `http://127.0.0.1:${portOf(server)}`;
  assert.equal(await read('--origin', url), url);
  assert.equal(await read(`--origin=${url}/base//`), `${url}/base`);
  assert.equal(await read(), null);
});

test('all problems are named at once, and a password is not printed', async () => {
  const url = `http://ana:secret@127.0.0.1:${closedPort}/?x=1`;
  await assert.rejects(read('--origin', url), ({ message }) => {
    for (const part of ['user name or password', 'query or a fragment', 'nothing listens at'])
      assert.ok(message.includes(part), message);
    assert.ok(message.includes('start your API first') && !message.includes('secret'), message);
    return true;
  });
});

test('a server that does not speak HTTP or TLS is not used', async () => {
  await assert.rejects(read('--origin', `http://127.0.0.1:${portOf(mute)}`), {
    message: /does not answer HTTP requests/,
  });
  await assert.rejects(read('--origin', `https://127.0.0.1:${portOf(server)}`), {
    message: /does not speak TLS/,
  });
});

test('errors of connections have a remedy', () => {
  const url = new URL('https://api.example.com/v1');
  const rows = [
    ['ENOTFOUND', /has no address/],
    ['ETIMEDOUT', /did not answer within 10 s/],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', /certificate of api.example.com:443 is not trusted/],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', /is not trusted/],
    ['CERT_HAS_EXPIRED', /is not trusted/],
    ['ERR_TLS_CERT_ALTNAME_INVALID', /is for another host/],
    ['ECONNRESET', /does not answer HTTP requests \(ECONNRESET\)/],
  ];
  for (const [code, expected] of rows) {
    const { message, remedy } = explain({ code }, url);
    assert.match(message, expected);
    assert.ok(remedy);
  }
  const refused = explain({ errors: [{ code: 'ECONNREFUSED' }] }, url);
  assert.match(refused.message, /nothing listens at api.example.com:443/);
});

test('unknown options are rejected with the usage', async () => {
  await assert.rejects(read('--orign', 'https://x'), { message: /npm start -- --origin URL/ });
  await assert.rejects(read('https://x'), { message: /npm start -- --origin URL/ });
});

test('the guide shows what to try, and warns of paths and of requests without TLS', () => {
  const plain = ownGuide(FILTER, 'https://api.example.com');
  assert.ok(plain.includes(`OPENAI_BASE_URL=${FILTER}/v1`) && !plain.includes('Note.'), plain);
  const local = ownGuide(FILTER, 'http://127.0.0.1:9000/base');
  assert.ok(!local.includes('Note.'), local);
  const noted = ownGuide(FILTER, 'http://api.example.com/v1');
  assert.match(noted, /arrives at http:\/\/api.example.com\/v1\/v1\/messages/);
  assert.match(noted, /not encrypted/);
});
