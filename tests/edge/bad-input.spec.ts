// Nothing a client sends makes the filter answer 5xx, hang, or alter bytes. Answers of workerd's own HTTP parser (400,
// 431, 501 for a made-up method) never reach the filter and are the platform's.
import { createHash } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { deflateSync, gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { chat, enforce, Filter, Origin, raw, send, sha256, sleep, until } from './support.ts';

let origin: Origin;
let filter: Filter;
beforeAll(async () => {
  origin = await Origin.start();
  filter = await Filter.start({ origin });
  await filter.post('/v1/chat/completions', chat('warm up'));
});
afterAll(async () => {
  await filter?.dispose();
  await origin?.close();
});
beforeEach(() => {
  origin.reset();
  origin.answer = Origin.ok;
});
// Whatever a test did, the neighbours are well.
afterEach(async () => {
  const { status, headers } = await filter.post('/v1/chat/completions', chat('Are you still there?'));
  expect(status).toBe(200);
  expect((await filter.decision({ headers })).error).toBeNull();
  expect((await filter.health()).status).toBe(200);
});

const JSON_TYPE = { 'content-type': 'application/json' };
const CHAT = '/v1/chat/completions';
const POST = `POST ${CHAT} HTTP/1.1\r\nHost: h\r\n`;

describe('bodies that are no chat', () => {
  const nested = (open: string, close: string, depth: number) => open.repeat(depth) + close.repeat(depth);
  const BODIES: Record<string, Uint8Array | string> = {
    empty: '',
    'white space': ' \r\n\t ',
    'cut in a string': '{"model":"m","messages":[{"role":"user","content":"and then',
    'cut in an escape': '{"messages":[{"role":"user","content":"\\ud83',
    'cut in a number': '{"temperature":-',
    'trailing rubbish': '{"messages":[]}}}]]',
    'two documents': '{"messages":[]}\n{"messages":[]}',
    'single quotes': "{'messages': []}",
    'NaN and friends': '{"temperature":NaN,"top_p":Infinity}',
    null: 'null',
    'a bare string': '"messages"',
    'absurd types': '{"model":[],"messages":{"role":1},"n":"many","stream":"yes","tools":7,"stop":{},"logit_bias":[1]}',
    'absurd numbers': '{"n":1e999,"max_tokens":-1e309,"seed":123456789012345678901234567890,"top_logprobs":0.5}',
    'keys twice': '{"messages":[],"messages":[{"role":"user","content":"a"}],"messages":null,"n":1,"n":2}',
    'lone surrogates': '{"messages":[{"role":"user","content":"\\ud800\\udfff\\udc00"}]}',
    'control characters': '{"messages":[{"role":"user","content":"\u0000\u0001\u001f"}]}',
    'deep arrays': nested('[', ']', 100_000),
    'deep objects': `${'{"messages":'.repeat(50_000)}1${'}'.repeat(50_000)}`,
    'deep and open': '{"messages":[{"content":'.repeat(40_000),
    'many messages': JSON.stringify({ messages: Array(20_000).fill({ role: 'user', content: 'x' }) }),
    'one long word': JSON.stringify(chat('a'.repeat(1_900_000))),
    'many near misses': JSON.stringify(chat('write out the hidden writ '.repeat(70_000))),
    'invisible characters': JSON.stringify(chat('\u200b\u2060\ufeff\u00ad'.repeat(100_000))),
    'combining marks': JSON.stringify(chat(`a${'\u0301'.repeat(200_000)}`)),
    'invalid UTF-8': Buffer.concat([Buffer.from('{"messages":[{"role":"user","content":"'), Buffer.from([0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x80, 0xf5]), Buffer.from('"}]}')]),
    'UTF-16': Buffer.from(`\ufeff${JSON.stringify(chat('hello'))}`, 'utf16le'),
    'a byte order mark': `\ufeff${JSON.stringify(chat('hello'))}`,
    binary: Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * 7919) & 0xff)),
  };
  for (const [name, body] of Object.entries(BODIES)) {
    it(name, async () => {
      for (const path of [CHAT, '/v1/messages', '/v1beta/models/m:generateContent']) {
        const res = await send(filter.url, { path, headers: { ...JSON_TYPE, 'content-length': String(Buffer.byteLength(body)) }, body });
        expect(res.status).toBe(200);
        expect(origin.last).toMatchObject({ path, sha256: sha256(body) });
        expect((await filter.decision(res)).error).toBeNull();
      }
    });
  }

  it('also when enforced', async () => {
    for (const [name, body] of Object.entries(BODIES)) {
      const { status } = await send(filter.url, { path: CHAT, headers: { ...JSON_TYPE, ...enforce('degrade') }, body });
      expect([name, status]).toEqual([name, 200]);
    }
  });

  it('multipart that is none', async () => {
    const parts = ['', '--x', '--x\r\n', '--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n{"custom_id"', '--y\r\n\r\n--y--', '--x--\r\n'.repeat(10_000)];
    for (const type of ['multipart/form-data; boundary=x', 'multipart/form-data', 'multipart/form-data; boundary=""', `multipart/form-data; boundary=${'b'.repeat(5000)}`]) {
      for (const body of parts) {
        const { status } = await send(filter.url, { path: '/v1/files', headers: { 'content-type': type, 'content-length': String(body.length) }, body });
        expect(status).toBe(200);
        expect(origin.last.sha256).toBe(sha256(body));
      }
    }
  });
});

describe('compressed bodies', () => {
  const bomb = gzipSync(Buffer.alloc(256 << 20), { level: 9 });
  const text = JSON.stringify(chat('hello'));
  const BODIES: [string, string, Uint8Array][] = [
    ['a bomb', 'gzip', bomb],
    ['a bomb in a bomb', 'gzip, gzip', gzipSync(bomb)],
    ['a deflate bomb', 'deflate', deflateSync(Buffer.alloc(64 << 20))],
    ['gzip that is none', 'gzip', Buffer.from(text)],
    ['cut gzip', 'gzip', gzipSync(text).subarray(0, 20)],
    ['two members', 'gzip', Buffer.concat([gzipSync(text), gzipSync(text)])],
    ['an unknown coding', 'zstd', Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
    ['brotli', 'br', Buffer.from([0x0b, 0x02, 0x80])],
    ['a made-up coding', 'x-hedge', Buffer.from(text)],
    ['many codings', Array(50).fill('gzip').join(', '), Buffer.from(text)],
  ];
  for (const [name, encoding, body] of BODIES) {
    it(name, async () => {
      const began = performance.now();
      const res = await send(filter.url, { path: CHAT, headers: { ...JSON_TYPE, 'content-encoding': encoding, 'content-length': String(body.length) }, body });
      expect(res.status).toBe(200);
      expect(origin.last.sha256).toBe(sha256(body));
      expect(origin.last.headers['content-encoding']).toBe(encoding);
      expect(performance.now() - began).toBeLessThan(5000);
    });
  }
});

describe('headers', () => {
  it('junk within the limits of the platform', async () => {
    const junk = Object.fromEntries(Array.from({ length: 1500 }, (_, i) => [`x-junk-${i}`, 'v'.repeat(40)]));
    const { status } = await send(filter.url, { path: CHAT, headers: { ...JSON_TYPE, ...junk, 'x-latin': '\xff\xe9', 'x-long': 'y'.repeat(16_000), 'user-agent': '', accept: ',,,;q=', cookie: ';=;' }, body: '{}' });
    expect(status).toBe(200);
    expect(origin.last.headers['x-junk-1499']).toBe('v'.repeat(40));
    expect(origin.last.headers['x-long']).toBe('y'.repeat(16_000));
  });

  it('ten thousand of them', async () => {
    const junk = Array.from({ length: 10_000 }, (_, i) => `x-${i}: ${i}\r\n`).join('');
    const { status, timedOut } = await raw(filter.port, [`${POST}${junk}Content-Length: 2\r\n\r\n{}`]);
    expect(timedOut).toBe(false);
    expect([200, 400, 431]).toContain(status);
  });

  it('credentials twice, empty, or absurd', async () => {
    const CASES: [string, string][][] = [
      [['Authorization', 'Bearer a'], ['Authorization', 'Bearer b']],
      [['Authorization', 'Bearer a'], ['x-api-key', 'b'], ['api-key', 'c'], ['x-goog-api-key', 'd']],
      [['Authorization', '']],
      [['Authorization', 'Bearer ']],
      [['Authorization', 'Basic dXNlcjpwYXNz']],
      [['Authorization', `Bearer ${'k'.repeat(60_000)}`]],
      [['x-api-key', '\xff\xfe']],
    ];
    for (const headers of CASES) {
      const { status } = await send(filter.url, { path: `${CHAT}?key=e&key=f`, headers: [['host', 'h'], ...headers, ['content-type', 'application/json'], ['content-length', '2']].flat(), body: '{}' });
      expect(status).toBe(200);
      // Bytes beyond ASCII in header values are re-encoded by the platform.
      for (const [name, value] of headers) if (/^[ -~]*$/.test(value)) expect(origin.last.headers[name.toLowerCase()] ?? '').toContain(value.trim());
    }
  });

  it('content types that do not fit', async () => {
    for (const type of ['text/plain', 'application/json; charset=utf-7', 'a/b/c', '', 'multipart/form-data', 'application/x-www-form-urlencoded']) {
      const body = JSON.stringify(chat('hello'));
      const { status } = await send(filter.url, { path: CHAT, headers: { 'content-type': type, 'content-length': String(body.length) }, body });
      expect([type, status, origin.last.sha256]).toEqual([type, 200, sha256(body)]);
    }
  });
});

describe('on the wire', () => {
  const SOCKETS: [string, string][] = [
    ['a length that is no number', `${POST}Content-Length: zz\r\n\r\nabc`],
    ['a negative length', `${POST}Content-Length: -1\r\n\r\nabc`],
    ['two lengths', `${POST}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd`],
    ['a length and chunks', `${POST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`],
    ['broken chunks', `${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n`],
    ['a header that is none', `${POST}\x00bad: x\r\n\r\n`],
    ['a made-up method', `BREW ${CHAT} HTTP/1.1\r\nHost: h\r\n\r\n`],
    ['no method', '\r\n\r\n\r\n'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ];
  for (const [name, text] of SOCKETS) {
    it(name, async () => {
      const { status } = await raw(filter.port, [Buffer.from(text, 'latin1')], { end: true, ms: 3000 });
      if (status !== null && status !== 501) expect(status).toBeLessThan(500);
    });
  }

  it('a length that is too long: the client leaves, nobody waits', async () => {
    const { status } = await raw(filter.port, [`${POST}Content-Length: 5000\r\n\r\n{"messages":[]}`], { end: true, ms: 3000 });
    if (status !== null) expect(status).toBeLessThan(500);
  });

  it('a length that is too short: the rest is not part of the body', async () => {
    await raw(filter.port, [`${POST}Content-Length: 2\r\n\r\n{}{"more":1}`], { ms: 3000 });
    expect(origin.seen[0]).toMatchObject({ body: Buffer.from('{}') });
  });

  it('odd paths', async () => {
    const PATHS = ['/v1/chat/completions/../completions', '/%2e%2e/%2e%2e/etc/passwd', '/v1/chat%2Fcompletions', '/v1/chat/completions%00', `/${'a/'.repeat(4000)}`, '/v1/chat/completions?%', '/v1/chat/completions?key=%ff%fe&key', '//', '/\\..\\', '/v1/models/:generateContent', '/_hedgerow', '/_HEDGEROW/health', '/%5fhedgerow/health', '/v1/chat/completions#frag'];
    for (const path of PATHS) {
      const { status, timedOut } = await raw(filter.port, [`POST ${path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}`]);
      expect([path, timedOut]).toEqual([path, false]);
      expect(status, path).toBeLessThan(500);
    }
  });

  it('methods with and without bodies', async () => {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'DELETE', 'PUT', 'PATCH', 'PROPFIND', 'TRACE', 'PURGE']) {
      for (const body of ['', 'Content-Length: 2\r\n\r\n{}', 'Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n']) {
        const { status, timedOut } = await raw(filter.port, [`${method} ${CHAT} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n${body || '\r\n'}`]);
        expect([method, timedOut]).toEqual([method, false]);
        expect(status, method).toBeLessThan(500);
      }
    }
  });
});

describe('sizes and patience', () => {
  it('a hundred megabytes pass', { timeout: 90_000 }, async () => {
    const head = Buffer.from('{"messages":[{"role":"user","content":"');
    const block = Buffer.alloc(1 << 20, 'sow and reap ');
    const tail = Buffer.from('"}]}');
    const hash = createHash('sha256').update(head);
    for (let i = 0; i < 100; i++) hash.update(block);
    const digest = hash.update(tail).digest('hex');
    const res = await new Promise<http.IncomingMessage>((done, fail) => {
      const req = http.request({ port: filter.port, host: '127.0.0.1', method: 'POST', path: CHAT, headers: { ...JSON_TYPE, 'content-length': head.length + tail.length + 100 * block.length } }, done);
      req.on('error', fail);
      void (async () => {
        req.write(head);
        for (let i = 0; i < 100; i++) if (!req.write(block)) await new Promise((drained) => req.once('drain', drained));
        req.end(tail);
      })();
    });
    res.resume();
    expect(res.statusCode).toBe(200);
    expect(origin.last.sha256).toBe(digest);
    expect((await filter.decision({ headers: res.headers })).unscanned_bytes).toBeGreaterThan(97 << 20);
  });

  it('a body that never ends keeps nobody waiting', async () => {
    const sockets = await Promise.all(Array.from({ length: 8 }, () => new Promise<net.Socket>((done) => {
      const socket = net.connect(filter.port, '127.0.0.1', () => done(socket));
      socket.on('error', () => {});
    })));
    for (const socket of sockets) socket.write(`${POST}Transfer-Encoding: chunked\r\n\r\n10\r\n{"messages":[{"r\r\n`);
    const drip = setInterval(() => sockets.forEach((socket) => socket.write('1\r\nx\r\n')), 50);
    try {
      const began = performance.now();
      const neighbours = await Promise.all(Array.from({ length: 40 }, () => filter.post(CHAT, chat('A neighbour asks.'))));
      expect(neighbours.every(({ status }) => status === 200)).toBe(true);
      expect(performance.now() - began).toBeLessThan(3000);
      await sleep(1000);
      expect((await filter.post(CHAT, chat('Another one.'))).status).toBe(200);
    } finally {
      clearInterval(drip);
      for (const socket of sockets) socket.destroy();
    }
  });

  it('slow uploads that would fill the memory are scored by what came, and the log says so', { timeout: 40_000 }, async () => {
    const [count, declared] = [13, 3 << 20];
    const sockets = Array.from({ length: count }, () => net.connect(filter.port, '127.0.0.1').on('error', () => {}));
    try {
      for (const socket of sockets) socket.write(Buffer.concat([Buffer.from(`${POST}Content-Length: ${declared}\r\n\r\n{"messages":[{"role":"user","content":"`), Buffer.alloc((2 << 20) - 1000, 'sow ')]));
      const cuts = () => filter.decisions().filter(({ read_stop, body_bytes }) => read_stop && body_bytes === declared);
      await until('a body that was cut for want of memory', () => cuts().some(({ read_stop }) => read_stop === 'memory_pressure'));
      const neighbour = await filter.decision(await filter.post(CHAT, chat('A small one.')));
      expect([neighbour.read_stop, neighbour.unscanned_bytes]).toEqual([undefined, 0]);
      await until('all to be scored by what came', () => cuts().length === count, 20_000);
      expect(new Set(cuts().map(({ read_stop }) => read_stop))).toEqual(new Set(['memory_pressure', 'timeout']));
      for (const { unscanned_bytes } of cuts()) expect(unscanned_bytes).toBeGreaterThan(declared - (2 << 20));
    } finally {
      for (const socket of sockets) socket.destroy();
    }
    const large = await filter.decision(await filter.post(CHAT, chat('sow '.repeat(300_000))));
    expect([large.read_stop, large.unscanned_bytes]).toEqual([undefined, 0]);
  });

  it('a small body that comes slowly is scored whole', { timeout: 40_000 }, async () => {
    const body = Buffer.from(JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'A gate in the hedge stays open.' }] }));
    const socket = net.connect(filter.port, '127.0.0.1').on('error', () => {});
    try {
      socket.write(`${POST}Content-Length: ${body.length}\r\n\r\n`);
      for (let sent = 0; sent < body.length; sent += 8) {
        socket.write(body.subarray(sent, sent + 8));
        await sleep(1000);
      }
      const decisions = () => filter.decisions().filter(({ body_bytes }) => body_bytes === body.length);
      await until('its decision', () => decisions().length > 0);
      expect(decisions().map(({ read_stop, unscanned_bytes, unreadable }) => [read_stop, unscanned_bytes, unreadable])).toEqual([[undefined, 0, []]]);
      await until('all of it at the origin', () => origin.last.bytes === body.length);
    } finally {
      socket.destroy();
    }
  });

  it('an endless flood is forwarded, not kept', async () => {
    const socket = net.connect(filter.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(`${POST}Transfer-Encoding: chunked\r\n\r\n`);
    const block = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(1 << 20, 'x'), Buffer.from('\r\n')]);
    const pump = setInterval(() => socket.writableLength < 4 << 20 && socket.write(block), 5);
    try {
      await until('sixteen megabytes at the origin', () => (origin.seen[0]?.bytes ?? 0) > 16 << 20, 15_000);
    } finally {
      clearInterval(pump);
      socket.destroy();
    }
    // workerd ends a chunked upload whose source failed as if it were complete, unless the fetch itself is aborted.
    await until('the origin to see a broken upload, not a complete one', () => origin.seen[0]!.state === 'aborted', 8000);
  });

  it('uploads that are aborted', async () => {
    for (const bytes of [0, 100, 3 << 20]) {
      await Promise.all(Array.from({ length: 5 }, async () => {
        const socket = net.connect(filter.port, '127.0.0.1');
        socket.on('error', () => {});
        socket.write(`${POST}Content-Length: ${50 << 20}\r\n\r\n`);
        if (bytes) socket.write(Buffer.alloc(bytes, 'x'));
        await sleep(150);
        socket.destroy();
      }));
    }
    await until('every upload to be over at the origin', () => origin.seen.every(({ state }) => state !== 'open'), 8000);
  });

  it('clients that leave before the answer', async () => {
    let release = () => {};
    const held = new Promise<void>((done) => (release = done));
    origin.answer = async (seen, res, req) => {
      if (/leave/.test(seen.body.toString())) await held;
      return Origin.ok(seen, res, req);
    };
    const body = JSON.stringify(chat('I leave early.'));
    const sockets = Array.from({ length: 10 }, () => net.connect(filter.port, '127.0.0.1').on('error', () => {}));
    for (const socket of sockets) socket.write(`${POST}Content-Length: ${body.length}\r\n\r\n${body}`);
    await until('ten requests at the origin', () => origin.seen.length >= 10);
    for (const socket of sockets) socket.destroy();
    release();
  });
});
