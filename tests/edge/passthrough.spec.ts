// The origin receives requests unchanged: method, path, query, headers and bytes.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import {
  chat,
  decisionTags,
  fixtures,
  Origin,
  ROOT,
  send,
  sendFixture,
  sha256,
  tagHeaders,
  until,
  useFilter,
  useOrigin,
  withFilter,
} from './support.ts';

const origin = useOrigin(Origin.ok);
const filter = useFilter({ origin });

/**
 * Headers that may differ between client and origin: hop-by-hop headers, headers of the platform
 * (`cf-*`), and the only header that the filter adds in mode shadow.
 */
const HOP_BY_HOP = /^(host|connection|keep-alive|transfer-encoding|cf-.*|x-hedgerow-request-id)$/;
const endToEnd = (headers: Record<string, unknown>) =>
  Object.fromEntries(
    Object.entries(headers)
      .map(([name, value]) => [name.toLowerCase(), String(value)] as const)
      .filter(([name]) => !HOP_BY_HOP.test(name))
      .sort(),
  );

describe('requests', () => {
  for (const request of fixtures()) {
    it(request.name, async () => {
      const { status } = await sendFixture(filter, request);
      expect(status).toBe(200);
      expect(origin.last).toMatchObject({
        method: request.method,
        path: request.path,
        sha256: sha256(request.body),
      });
      expect(endToEnd(origin.last.headers)).toEqual(
        endToEnd({ ...request.headers, 'content-length': request.body.length }),
      );
    });
  }

  it('keep path and query unchanged', async () => {
    const paths = [
      '/v1/chat/completions?api-version=2026-01-01&x=%20%2F+&empty=&flag',
      '/openai/deployments/my%20model/chat/completions?api-version=1',
      '/v1//chat/completions',
      '/v1/chat/completions/',
      '/v1/files/a%2Fb/content?b=%zz&a=1&a=2',
      "/a;v=1/(b)/~c/@d/$e/!f/'g'/*h",
    ];
    for (const target of paths) {
      await send(filter.url, {
        path: target,
        headers: { 'content-type': 'application/json' },
        body: '{}',
      });
      expect(origin.last.path).toBe(target);
    }
  });

  it('have the path of ORIGIN before their own', () =>
    withFilter({ origin: `${origin.url}/tenant/a/` }, async (filter) => {
      await filter.post('/v1/chat/completions?x=1', chat('hello'));
      expect(origin.last.path).toBe('/tenant/a/v1/chat/completions?x=1');
    }));

  it('lose every x-hedgerow header that the client forged', async () => {
    const forged = {
      'x-hedgerow-score': '0',
      'X-Hedgerow-Mac': 'f'.repeat(64),
      'x-hedgerow-band': 'clear',
      'x-hedgerow-unheard-of': '1',
    };
    await filter.post('/v1/chat/completions', chat('hello'), forged);
    await send(filter.url, { method: 'GET', path: '/v1/models', headers: forged });
    const [call, other] = origin.requests;
    expect([decisionTags(call!), tagHeaders(other!)]).toEqual([{}, {}]);
  });

  it('and responses lose forged headers in every spelling that a gateway may accept', async () => {
    const forged = [
      'X_Hedgerow_Score',
      'x_hedgerow-mac',
      'X-HEDGEROW',
      'x-hedgerow_band',
      'x.hedgerow.score',
    ];
    origin.handler = (_, res) =>
      res.writeHead(200, Object.fromEntries(forged.map((name) => [name, '0']))).end('{}');
    for (const target of ['/v1/chat/completions', '/login']) {
      const { headers } = await send(filter.url, {
        path: target,
        headers: {
          'x-hedgerows': 'value',
          ...Object.fromEntries(forged.map((name) => [name, '0'])),
        },
        body: '{}',
      });
      const reserved = Object.keys(origin.last.headers).filter((name) => /^x.hedgerow/i.test(name));
      const own = target === '/login' ? [] : ['x-hedgerow-request-id'];
      expect(reserved.sort()).toEqual([...own, 'x-hedgerows']);
      if (target !== '/login')
        expect(
          Object.keys(headers).filter(
            (name) =>
              /^x.hedgerow/i.test(name) &&
              !/^x-hedgerow-(request-id|score|band|action|hits|ruleset)$/.test(name),
          ),
        ).toEqual([]);
    }
  });

  it('with an upgrade header are upgraded only if they are GET', async () => {
    for (const target of ['/v1/chat/completions', '/login']) {
      const { status } = await send(filter.url, {
        path: target,
        headers: {
          upgrade: 'websocket',
          connection: 'upgrade',
          'sec-websocket-key': 'x'.repeat(22) + '==',
          'sec-websocket-version': '13',
          'content-length': '2',
        },
        body: '{}',
      });
      expect([status, origin.last.method, origin.last.body.toString()]).toEqual([
        200,
        'POST',
        '{}',
      ]);
      expect(origin.last.headers).not.toHaveProperty('upgrade');
    }
  });

  it('are routed by the normalised path that the origin gets', async () => {
    for (const target of [
      '/v1/chat/x/../completions',
      '/v1/./chat/completions',
      '/v1\\chat\\completions',
    ]) {
      const res = await send(filter.url, { path: target, body: '{"messages":[]}' });
      expect(await filter.decision(res)).toMatchObject({ operation: 'chat' });
      expect(origin.last.path).toBe('/v1/chat/completions');
    }
  });

  it('with a compressed body are scored and forwarded compressed', async () => {
    const body = gzipSync(JSON.stringify(chat('A compressed question about hawthorn.')));
    const res = await send(filter.url, {
      path: '/v1/chat/completions',
      headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
      body,
    });
    expect(origin.last).toMatchObject({ sha256: sha256(body) });
    expect(origin.last.headers['content-encoding']).toBe('gzip');
    expect((await filter.decision(res)).unreadable).toEqual([]);
  });

  it('of other methods are forwarded', async () => {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'DELETE', 'PUT', 'PATCH', 'PROPFIND']) {
      const { status, body } = await send(filter.url, {
        method,
        path: '/v1/files/file-1',
        headers: method === 'PUT' ? { 'content-length': '3' } : {},
        body: method === 'PUT' ? 'abc' : undefined,
      });
      expect([method, status, origin.last.method]).toEqual([method, 200, method]);
      expect(body.length).toBe(method === 'HEAD' ? 0 : '{"ok":true}'.length);
    }
  });

  it('that are not LLM calls are forwarded unchanged and not logged', async () => {
    const before = filter.decisions().length;
    for (const [method, target] of [
      ['GET', '/'],
      ['GET', '/v1/models'],
      ['POST', '/login'],
      ['GET', '/v1/chat/completions'],
      ['POST', '/v1/organization/invites'],
      ['DELETE', '/v1/files/file-1'],
    ] as const) {
      const body = method === 'POST' ? 'user=a&password=b' : undefined;
      const { status, headers } = await send(filter.url, {
        method,
        path: target,
        headers: body
          ? {
              'content-type': 'application/x-www-form-urlencoded',
              'content-length': String(body.length),
            }
          : {},
        body,
      });
      expect(status).toBe(200);
      expect(
        Object.keys(headers).filter(
          (name) => name.startsWith('x-hedgerow-') && name !== 'x-hedgerow-request-id',
        ),
      ).toEqual([]);
      expect(tagHeaders(origin.last)).toEqual({});
      if (body) expect(origin.last.body.toString()).toBe(body);
    }
    // Waits for the log line of a later request. There must be no other line.
    await filter.decision(await filter.ask());
    expect(filter.decisions().length).toBe(before + 1);
  });
});

describe('responses', () => {
  it('keep status, headers, cookies and bytes, and redirects are not followed', async () => {
    for (const status of [200, 201, 204, 302, 400, 404, 418, 429, 500, 503]) {
      origin.handler = (_, res) =>
        res
          .writeHead(status, {
            location: 'https://elsewhere.invalid/',
            'set-cookie': ['a=1', 'b=2'],
            'x-custom': 'value',
            'retry-after': '7',
          })
          .end(status === 204 ? undefined : 'as is');
      const response = await send(filter.url, {
        path: '/v1/chat/completions',
        body: JSON.stringify(chat('hello')),
      });
      expect(response.status).toBe(status);
      expect(response.headers).toMatchObject({
        location: 'https://elsewhere.invalid/',
        'set-cookie': ['a=1', 'b=2'],
        'x-custom': 'value',
        'retry-after': '7',
      });
      expect(response.body.toString()).toBe(status === 204 ? '' : 'as is');
    }
  });

  // The platform copies only responses with a status from 200 to 599. Such a response was returned
  // with its reserved headers and without a log line.
  it('that cannot be copied are returned unchanged, and logged', async () => {
    origin.handler = (_, res) => res.writeHead(600, { 'x-custom': 'value' }).end('as is');
    const response = await send(filter.url, {
      path: '/v1/chat/completions',
      body: JSON.stringify(chat('hello')),
    });
    expect([response.status, response.headers['x-custom'], response.body.toString()]).toEqual([
      600,
      'value',
      'as is',
    ]);
    await until('the log line', () =>
      filter.logs.some(({ message }) => message.includes('hedgerow.origin')),
    );
  });

  it('that are compressed stay compressed', async () => {
    origin.handler = (_, res) =>
      res
        .writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'application/json' })
        .end(gzipSync('{"packed":true}'));
    const { headers, body } = await send(filter.url, {
      path: '/v1/chat/completions',
      headers: { 'accept-encoding': 'gzip' },
      body: JSON.stringify(chat('hello')),
    });
    expect(headers['content-encoding']).toBe('gzip');
    expect(gunzipSync(body).toString()).toBe('{"packed":true}');
  });

  it('cannot forge the headers of the filter', async () => {
    origin.handler = (_, res) =>
      res.writeHead(200, { 'x-hedgerow-request-id': 'forged' }).end('{}');
    const res = await filter.post('/v1/chat/completions', chat('hello'));
    expect(res.headers.get('x-hedgerow-request-id')).not.toContain('forged');
  });
});

for (const originKind of ['service', 'zone'] as const) {
  it(`ORIGIN can be a ${originKind === 'zone' ? 'zone' : 'service binding'}`, () =>
    withFilter({ origin, originKind }, async (filter) => {
      const body = JSON.stringify(chat('Which way did it come?'));
      const response = await send(filter.url, {
        path: '/v1/chat/completions?a=1',
        headers: { 'content-type': 'application/json', authorization: 'Bearer sk-test' },
        body,
      });
      expect(response.status).toBe(200);
      expect(origin.last).toMatchObject({
        method: 'POST',
        path: '/v1/chat/completions?a=1',
        sha256: sha256(body),
      });
      expect(origin.last.headers.authorization).toBe('Bearer sk-test');
      expect((await filter.decision(response)).error).toBeNull();
      expect((await filter.health()).status).toBe(200);
      expect((await send(filter.url, { method: 'GET', path: '/plain' })).status).toBe(200);
    }));
}

/**
 * Source of a Worker that sends bodies longer than their content-length, which service bindings
 * allow.
 */
const WRONG_LENGTH = `export default {
  fetch(request, { FILTER }) {
    const content = 'sow '.repeat(Number(new URL(request.url).searchParams.get('words')));
    const json = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content }] });
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(json));
        controller.close();
      },
    });
    const headers = { 'content-type': 'application/json', 'content-length': '20' };
    return FILTER.fetch('http://filter/v1/chat/completions', { method: 'POST', headers, body });
  },
};`;

it('a body longer than its content-length is scored and forwarded in full', () =>
  withFilter({ origin, caller: WRONG_LENGTH }, async (filter) => {
    for (const words of [10, 40_000, 700_000]) {
      const response = await fetch(`${filter.url}/?words=${words}`);
      const length = 58 + 4 * words;
      expect([response.status, origin.last.bytes]).toEqual([200, length]);
      const decision = await filter.decision(response);
      expect([decision.error, decision.body_bytes, decision.unscanned_bytes]).toEqual([
        null,
        length,
        0,
      ]);
    }
  }));

it('WebSocket upgrades are forwarded', async () => {
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
const corpus = existsSync(CORPUS)
  ? readdirSync(CORPUS, { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.jsonl'),
    )
  : [];
if (!corpus.length) console.log(`skipped: no recorded traffic at ${CORPUS}`);

it.skipIf(!corpus.length)(
  'every recorded request arrives unchanged',
  async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
    const sent = new Map<string, string>();
    const queue = corpus.flatMap((file) =>
      readFileSync(path.join(CORPUS, file), 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line, i) => [`${file}:${i + 1}`, line] as const),
    );
    const failures: string[] = [];
    origin.handler = (request, res) => {
      const line = request.headers['x-line']!;
      if (sent.get(line) !== `${request.method} ${request.path} ${request.sha256}`)
        failures.push(line);
      sent.delete(line);
      request.body = Buffer.alloc(0);
      res.end('{}');
    };
    const total = queue.length;
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        for (let next = queue.pop(); next; next = queue.pop()) {
          const [line, json] = next;
          const { method, path: target, headers, body: text, body_b64 } = JSON.parse(json);
          const body = Buffer.from(text, body_b64 ? 'base64' : 'utf8');
          const recorded = Object.fromEntries(
            (headers as [string, string][]).filter(
              ([name]) => !/^(host|connection|content-length|transfer-encoding)$/i.test(name),
            ),
          );
          sent.set(line, `${method} ${target} ${sha256(body)}`);
          const { status } = await send(filter.url, {
            method,
            path: target,
            headers: { ...recorded, 'x-line': line, 'content-length': String(body.length) },
            body,
            agent,
          });
          if (status !== 200) failures.push(`${line}: ${status}`);
        }
      }),
    );
    agent.destroy();
    expect(failures).toEqual([]);
    expect(sent.size).toBe(0);
    console.log(`${total} recorded requests arrived unchanged`);
  },
);
