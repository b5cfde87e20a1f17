// Streams stay streams: in both directions, and when somebody hangs up.
import http from 'node:http';
import net from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { chat, Filter, Origin, sha256, sleep, until } from './support.ts';

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
beforeEach(() => origin.reset());

const CHUNKS = 10;
const GAP = 60;
const gaps = (times: number[]) => times.slice(1).map((time, i) => time - times[i]!);

it('SSE arrives chunk by chunk, in the rhythm of the origin', async () => {
  const sent: number[] = [];
  origin.answer = async (_, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let i = 0; i < CHUNKS; i++) {
      res.write(`data: ${i}\n\n`);
      sent.push(performance.now());
      await sleep(GAP);
    }
    res.end();
  };
  const received: number[] = [];
  const response = await filter.post('/v1/chat/completions', chat('Tell me slowly.', { stream: true }));
  let text = '';
  for await (const chunk of response.body!) {
    received.push(performance.now());
    text += Buffer.from(chunk).toString();
  }
  expect(text).toBe(Array.from({ length: CHUNKS }, (_, i) => `data: ${i}\n\n`).join(''));
  expect(received.length).toBeGreaterThanOrEqual(CHUNKS - 1);
  const span = (times: number[]) => times.at(-1)! - times[0]!;
  // The first chunk came while the origin was still at the beginning, and the whole took as long as it took there.
  expect((received[0]! - sent[0]!) / span(sent)).toBeLessThan(0.3);
  expect(span(received) / span(sent)).toBeGreaterThan(0.7);
  expect(Math.max(...gaps(received)) / Math.max(...gaps(sent))).toBeLessThan(4);
  console.log(`gap between chunks: origin ${(span(sent) / (CHUNKS - 1)).toFixed(1)} ms, client ${(span(received) / (received.length - 1)).toFixed(1)} ms`);
});

it('headers arrive before the first chunk does', async () => {
  let release = () => {};
  origin.answer = (_, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.flushHeaders();
    release = () => res.end('data: late\n\n');
  };
  const response = await filter.post('/v1/chat/completions', chat('Think first.', { stream: true }));
  expect(response.status).toBe(200);
  release();
  expect(await response.text()).toBe('data: late\n\n');
});

it('a client that hangs up ends the stream at the origin', async () => {
  let closed = 0;
  origin.answer = async (_, res) => {
    res.on('close', () => (closed = performance.now()));
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let i = 0; i < 2000 && !res.destroyed; i++) {
      res.write(`data: ${i}\n\n`);
      await sleep(10);
    }
  };
  const abort = new AbortController();
  const response = await fetch(`${filter.url}/v1/chat/completions`, { method: 'POST', signal: abort.signal, body: JSON.stringify(chat('Go on and on.', { stream: true })) });
  await response.body!.getReader().read();
  abort.abort();
  await until('the origin to see the hang-up', () => closed, 8000);
});

it('a client that resets its connection before the answer aborts the request at the origin', async () => {
  for (const target of ['/v1/chat/completions', '/login']) {
    const held: http.ServerResponse[] = [];
    let aborted = 0;
    origin.answer = (_, res) => {
      held.push(res);
      res.on('close', () => void (aborted += Number(!res.writableEnded)));
    };
    const lines = filter.logs.length;
    const body = JSON.stringify(chat('Think for ever.'));
    const sockets = Array.from({ length: 10 }, () => net.connect(filter.port, '127.0.0.1').on('error', () => {}));
    for (const socket of sockets) socket.write(`POST ${target} HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    await until('all requests to arrive', () => held.length === sockets.length);
    for (const socket of sockets) socket.resetAndDestroy();
    await until(`all of ${target} to be aborted`, () => aborted === sockets.length, 4000);
    // Nobody's fault but the client's.
    await sleep(50);
    expect(filter.logs.slice(lines).filter(({ message }) => !message.startsWith('{"log":"hedgerow.decision"'))).toEqual([]);
  }
});

it('an answer that breaks off breaks off at the client, too', async () => {
  origin.answer = async (_, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.write('data: 1\n\n');
    await sleep(50);
    res.destroy();
  };
  const response = await filter.post('/v1/chat/completions', chat('Break off.', { stream: true }));
  await expect(response.text()).rejects.toThrow();
  expect((await filter.health()).status).toBe(200);
});

it('an upload beyond the scan window streams on while it is still being sent', async () => {
  origin.answer = Origin.ok;
  const head = Buffer.from('{"model":"demo-large","messages":[{"role":"user","content":"');
  const block = Buffer.alloc(1 << 20, 'hedge row ');
  const tail = Buffer.from('"}]}');
  const body = Buffer.concat([head, ...Array(8).fill(block), tail]);
  const { port } = new URL(filter.url);
  const answered = new Promise<http.IncomingMessage>((done, fail) => {
    const req = http.request({ port, host: '127.0.0.1', method: 'POST', path: '/v1/chat/completions', headers: { 'content-type': 'application/json', 'content-length': body.length } }, done);
    req.on('error', fail);
    void (async () => {
      const half = head.length + 4 * block.length;
      req.write(body.subarray(0, half));
      // Half of it is held back until the origin has more than the window.
      await until('the origin to have more than the window', () => (origin.seen[0]?.bytes ?? 0) > 2 << 20);
      expect(origin.seen[0]!.state).toBe('open');
      req.end(body.subarray(half));
    })().catch(fail);
  });
  const res = await answered;
  expect(res.statusCode).toBe(200);
  expect(origin.last).toMatchObject({ bytes: body.length, sha256: sha256(body), state: 'complete' });
  const decision = await filter.decision({ headers: res.headers });
  expect(decision.body_bytes).toBe(body.length);
  expect((body.length - decision.unscanned_bytes) / (2 << 20)).toBeCloseTo(1, 1);
  res.resume();
});

it('a chunked upload without a length passes whole', async () => {
  origin.answer = Origin.ok;
  const body = Buffer.from(JSON.stringify(chat('x'.repeat(3 << 20))));
  const stream = new ReadableStream({
    async start(controller) {
      for (let at = 0; at < body.length; at += 200_000) {
        controller.enqueue(body.subarray(at, at + 200_000));
        await sleep(2);
      }
      controller.close();
    },
  });
  const response = await fetch(`${filter.url}/v1/chat/completions`, { method: 'POST', body: stream, duplex: 'half', headers: { 'content-type': 'application/json' } } as RequestInit);
  expect(response.status).toBe(200);
  expect(origin.last).toMatchObject({ bytes: body.length, sha256: sha256(body) });
});
