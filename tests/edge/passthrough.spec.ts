// What reaches the origin is what the client sent: method, path, query, headers and bytes.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { chat, Filter, fixtures, Origin, ROOT, send, sendFixture, sha256, sleep, tagsOf } from './support.ts';

let origin: Origin;
let filter: Filter;
beforeAll(async () => {
  origin = await Origin.start();
  filter = await Filter.start({ origin });
});
afterAll(async () => {
  await filter?.dispose();
  await origin?.close();
});
beforeEach(() => {
  origin.reset();
  origin.answer = Origin.ok;
});

/** Framing and addressing belong to each hop; `cf-*` is added by the platform. In Shadow nothing is ours. */
const HOP = /^(host|connection|keep-alive|transfer-encoding|cf-.*)$/;
const endToEnd = (headers: Record<string, unknown>) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)] as const).filter(([name]) => !HOP.test(name)).sort());

describe('requests', () => {
  for (const request of fixtures()) {
    it(request.name, async () => {
      const { status } = await sendFixture(filter, request);
      expect(status).toBe(200);
      expect(origin.last).toMatchObject({ method: request.method, path: request.path, sha256: sha256(request.body) });
      expect(endToEnd(origin.last.headers)).toEqual(endToEnd({ ...request.headers, 'content-length': request.body.length }));
    });
  }

  it('keep path and query as they are', async () => {
    const paths = [
      '/v1/chat/completions?api-version=2026-01-01&x=%20%2F+&empty=&flag',
      '/openai/deployments/my%20model/chat/completions?api-version=1',
      '/v1//chat/completions',
      '/v1/chat/completions/',
      '/v1/files/a%2Fb/content?b=%zz&a=1&a=2',
      "/a;v=1/(b)/~c/@d/$e/!f/'g'/*h",
    ];
    for (const target of paths) {
      await send(filter.url, { path: target, headers: { 'content-type': 'application/json' }, body: '{}' });
      expect(origin.last.path).toBe(target);
    }
  });

  it('append their path to the path of ORIGIN', async () => {
    const nested = await Filter.start({ origin: `${origin.url}/tenant/a/` });
    try {
      await nested.post('/v1/chat/completions?x=1', chat('hello'));
      expect(origin.last.path).toBe('/tenant/a/v1/chat/completions?x=1');
    } finally {
      await nested.dispose();
    }
  });

  it('lose every x-hedgerow header that the client made up', async () => {
    const forged = { 'x-hedgerow-score': '0', 'X-Hedgerow-Mac': 'f'.repeat(64), 'x-hedgerow-band': 'clear', 'x-hedgerow-unheard-of': '1' };
    await filter.post('/v1/chat/completions', chat('hello'), forged);
    await send(filter.url, { method: 'GET', path: '/v1/models', headers: forged });
    expect(origin.seen.map(tagsOf)).toEqual([{}, {}]);
  });

  it('lose it in every spelling that a gateway may read alike; so do responses', async () => {
    const forged = ['X_Hedgerow_Score', 'x_hedgerow-mac', 'X-HEDGEROW', 'x-hedgerow_band', 'x.hedgerow.score'];
    origin.answer = (_, res) => res.writeHead(200, Object.fromEntries(forged.map((name) => [name, '0']))).end('{}');
    for (const target of ['/v1/chat/completions', '/login']) {
      const { headers } = await send(filter.url, { path: target, headers: { 'x-hedgerows': 'kept', ...Object.fromEntries(forged.map((name) => [name, '0'])) }, body: '{}' });
      expect(Object.keys(origin.last.headers).filter((name) => /^x.hedgerow/i.test(name))).toEqual(['x-hedgerows']);
      if (target !== '/login') expect(Object.keys(headers).filter((name) => /^x.hedgerow/i.test(name) && !/^x-hedgerow-(request-id|score|band|action|hits|ruleset)$/.test(name))).toEqual([]);
    }
  });

  it('that ask for an upgrade stay what they are unless they are GET', async () => {
    for (const target of ['/v1/chat/completions', '/login']) {
      const { status } = await send(filter.url, { path: target, headers: { upgrade: 'websocket', connection: 'upgrade', 'sec-websocket-key': 'x'.repeat(22) + '==', 'sec-websocket-version': '13', 'content-length': '2' }, body: '{}' });
      expect([status, origin.last.method, origin.last.body.toString()]).toEqual([200, 'POST', '{}']);
      expect(origin.last.headers).not.toHaveProperty('upgrade');
    }
  });

  it('are routed by the path that the origin will see', async () => {
    for (const target of ['/v1/chat/x/../completions', '/v1/./chat/completions', '/v1\\chat\\completions']) {
      const res = await send(filter.url, { path: target, body: '{"messages":[]}' });
      expect(await filter.decision(res)).toMatchObject({ operation: 'chat' });
      expect(origin.last.path).toBe('/v1/chat/completions');
    }
  });

  it('with a compressed body are forwarded as they came', async () => {
    const body = gzipSync(JSON.stringify(chat('A compressed question about hawthorn.')));
    const res = await send(filter.url, { path: '/v1/chat/completions', headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' }, body });
    expect(origin.last).toMatchObject({ sha256: sha256(body) });
    expect(origin.last.headers['content-encoding']).toBe('gzip');
    expect((await filter.decision(res)).unreadable).toEqual([]);
  });

  it('of other methods pass', async () => {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'DELETE', 'PUT', 'PATCH', 'PROPFIND']) {
      const { status, body } = await send(filter.url, { method, path: '/v1/files/file-1', headers: method === 'PUT' ? { 'content-length': '3' } : {}, body: method === 'PUT' ? 'abc' : undefined });
      expect([method, status, origin.last.method]).toEqual([method, 200, method]);
      expect(body.length).toBe(method === 'HEAD' ? 0 : '{"ok":true}'.length);
    }
  });

  it('that are no LLM call are untouched and uncounted', async () => {
    const before = filter.decisions().length;
    for (const [method, target] of [['GET', '/'], ['GET', '/v1/models'], ['POST', '/login'], ['GET', '/v1/chat/completions'], ['POST', '/v1/audio/transcriptions'], ['DELETE', '/v1/files/file-1']] as const) {
      const body = method === 'POST' ? 'user=a&password=b' : undefined;
      const { status, headers } = await send(filter.url, { method, path: target, headers: body ? { 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(body.length) } : {}, body });
      expect(status).toBe(200);
      expect(Object.keys(headers).filter((name) => name.startsWith('x-hedgerow-') && name !== 'x-hedgerow-request-id')).toEqual([]);
      expect(tagsOf(origin.last)).toEqual({});
      if (body) expect(origin.last.body.toString()).toBe(body);
    }
    await sleep(200);
    expect(filter.decisions().length).toBe(before);
  });
});

describe('responses', () => {
  it('keep status, headers, cookies and bytes, and are not followed', async () => {
    for (const status of [200, 201, 204, 302, 400, 404, 418, 429, 500, 503]) {
      origin.answer = (_, res) => res.writeHead(status, { location: 'https://elsewhere.invalid/', 'set-cookie': ['a=1', 'b=2'], 'x-own': 'kept', 'retry-after': '7' }).end(status === 204 ? undefined : 'as is');
      const answer = await send(filter.url, { path: '/v1/chat/completions', body: JSON.stringify(chat('hello')) });
      expect(answer.status).toBe(status);
      expect(answer.headers).toMatchObject({ location: 'https://elsewhere.invalid/', 'set-cookie': ['a=1', 'b=2'], 'x-own': 'kept', 'retry-after': '7' });
      expect(answer.body.toString()).toBe(status === 204 ? '' : 'as is');
    }
  });

  it('that are compressed arrive compressed', async () => {
    origin.answer = (_, res) => res.writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'application/json' }).end(gzipSync('{"packed":true}'));
    const { headers, body } = await send(filter.url, { path: '/v1/chat/completions', headers: { 'accept-encoding': 'gzip' }, body: JSON.stringify(chat('hello')) });
    expect(headers['content-encoding']).toBe('gzip');
    expect(gunzipSync(body).toString()).toBe('{"packed":true}');
  });

  it('cannot forge what the filter says about itself', async () => {
    origin.answer = (_, res) => res.writeHead(200, { 'x-hedgerow-request-id': 'forged' }).end('{}');
    const res = await filter.post('/v1/chat/completions', chat('hello'));
    expect(res.headers.get('x-hedgerow-request-id')).not.toContain('forged');
  });
});

for (const reach of ['service', 'zone'] as const) {
  it(`ORIGIN may be a ${reach === 'zone' ? 'zone' : 'service binding'}`, async () => {
    const other = await Filter.start({ origin, reach });
    try {
      const body = JSON.stringify(chat('Which way did it come?'));
      const response = await send(other.url, { path: '/v1/chat/completions?a=1', headers: { 'content-type': 'application/json', authorization: 'Bearer sk-test' }, body });
      expect(response.status).toBe(200);
      expect(origin.last).toMatchObject({ method: 'POST', path: '/v1/chat/completions?a=1', sha256: sha256(body) });
      expect(origin.last.headers.authorization).toBe('Bearer sk-test');
      expect((await other.decision(response)).error).toBeNull();
      expect((await other.health()).status).toBe(200);
      expect((await send(other.url, { method: 'GET', path: '/plain' })).status).toBe(200);
    } finally {
      await other.dispose();
    }
  });
}

/** Sends bodies that are longer than they say: a service binding, unlike the network, holds nobody to a length. */
const UNTRUE = `export default {
  fetch(request, { FILTER }) {
    const bytes = new TextEncoder().encode(JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'sow '.repeat(Number(new URL(request.url).searchParams.get('words'))) }] }));
    const body = new ReadableStream({ start(controller) { controller.enqueue(bytes); controller.close(); } });
    return FILTER.fetch('http://filter/v1/chat/completions', { method: 'POST', headers: { 'content-type': 'application/json', 'content-length': '20' }, body });
  },
};`;

it('a body of another Worker that is longer than it says is neither cut nor unscored', async () => {
  const called = await Filter.start({ origin, caller: UNTRUE });
  try {
    for (const words of [10, 40_000, 700_000]) {
      const response = await fetch(`${called.url}/?words=${words}`);
      const length = 58 + 4 * words;
      expect([response.status, origin.last.bytes]).toEqual([200, length]);
      const decision = await called.decision(response);
      expect([decision.error, decision.body_bytes, decision.unscanned_bytes]).toEqual([null, length, Math.max(0, length - (2 << 20))]);
    }
  } finally {
    await called.dispose();
  }
});

it('WebSocket upgrades pass', async () => {
  const socket = new WebSocket(`${filter.url.replace('http', 'ws')}/v1/realtime?model=demo`);
  const echoed = await new Promise((done, fail) => {
    socket.onopen = () => socket.send('through the hedge');
    socket.onmessage = ({ data }) => done(data);
    socket.onerror = () => fail(new Error('the socket failed'));
  });
  socket.close();
  expect(echoed).toBe('through the hedge');
  expect(origin.last).toMatchObject({ method: 'GET', path: '/v1/realtime?model=demo' });
});

const CORPUS = path.resolve(ROOT, '../shared/corpus/dev');
const corpus = existsSync(CORPUS) ? readdirSync(CORPUS, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.jsonl')) : [];
if (!corpus.length) console.log(`skipped: no recorded traffic at ${CORPUS}`);

it.skipIf(!corpus.length)('every recorded request arrives byte by byte', { timeout: 300_000 }, async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  const sent = new Map<string, string>();
  const queue = corpus.flatMap((file) => readFileSync(path.join(CORPUS, file), 'utf8').split('\n').filter(Boolean).map((line, i) => [`${file}:${i + 1}`, line] as const));
  const failures: string[] = [];
  origin.answer = (seen, res) => {
    const where = seen.headers['x-line']!;
    if (sent.get(where) !== `${seen.method} ${seen.path} ${seen.sha256}`) failures.push(where);
    sent.delete(where);
    seen.body = Buffer.alloc(0);
    res.end('{}');
  };
  const total = queue.length;
  await Promise.all(Array.from({ length: 16 }, async () => {
    for (let next = queue.pop(); next; next = queue.pop()) {
      const [where, line] = next;
      const { method, path: target, headers, body: text, body_b64 } = JSON.parse(line);
      const body = Buffer.from(text, body_b64 ? 'base64' : 'utf8');
      const own = Object.fromEntries((headers as [string, string][]).filter(([name]) => !/^(host|connection|content-length|transfer-encoding)$/i.test(name)));
      sent.set(where, `${method} ${target} ${sha256(body)}`);
      const { status } = await send(filter.url, { method, path: target, headers: { ...own, 'x-line': where, 'content-length': String(body.length) }, body, agent });
      if (status !== 200) failures.push(`${where}: ${status}`);
    }
  }));
  agent.destroy();
  expect(failures).toEqual([]);
  expect(sent.size).toBe(0);
  console.log(`${total} recorded requests arrived byte by byte`);
});
