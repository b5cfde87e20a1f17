// Requests and responses are streamed, and an abort on one side aborts the other side.
import http from 'node:http';
import { beforeAll, expect, it } from 'vitest';
import { chat, connect, Origin, sha256, sleep, until, useFilter, useOrigin } from './support.ts';

const origin = useOrigin();
const filter = useFilter({ origin });
beforeAll(() => filter.ask());

const CHUNKS = 10;
const GAP_MS = 60;
const gaps = (times: number[]) => times.slice(1).map((time, i) => time - times[i]!);

it('server-sent events arrive one by one, with the delays of the origin', async () => {
  const sent: number[] = [];
  origin.handler = async (_, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let i = 0; i < CHUNKS; i++) {
      res.write(`data: ${i}\n\n`);
      sent.push(performance.now());
      await sleep(GAP_MS);
    }
    res.end();
  };
  const received: number[] = [];
  const response = await filter.post(
    '/v1/chat/completions',
    chat('Tell me slowly.', { stream: true }),
  );
  let text = '';
  for await (const chunk of response.body!) {
    received.push(performance.now());
    text += Buffer.from(chunk).toString();
  }
  expect(text).toBe(Array.from({ length: CHUNKS }, (_, i) => `data: ${i}\n\n`).join(''));
  expect(received.length).toBeGreaterThanOrEqual(CHUNKS - 1);
  const span = (times: number[]) => times.at(-1)! - times[0]!;
  // The first chunk arrives long before the end, and the response takes as long as at the origin.
  expect((received[0]! - sent[0]!) / span(sent)).toBeLessThan(0.3);
  expect(span(received) / span(sent)).toBeGreaterThan(0.7);
  expect(Math.max(...gaps(received)) / Math.max(...gaps(sent))).toBeLessThan(4);
  const meanGap = (times: number[]) => (span(times) / (times.length - 1)).toFixed(1);
  console.log(`gap between chunks: origin ${meanGap(sent)} ms, client ${meanGap(received)} ms`);
});

it('headers arrive before the first chunk', async () => {
  let release = () => {};
  origin.handler = (_, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.flushHeaders();
    release = () => res.end('data: late\n\n');
  };
  const response = await filter.post(
    '/v1/chat/completions',
    chat('Think first.', { stream: true }),
  );
  expect(response.status).toBe(200);
  release();
  expect(await response.text()).toBe('data: late\n\n');
});

it('a client that aborts ends the stream at the origin', async () => {
  let closed = 0;
  origin.handler = async (_, res) => {
    res.on('close', () => (closed = performance.now()));
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let i = 0; i < 2000 && !res.destroyed; i++) {
      res.write(`data: ${i}\n\n`);
      await sleep(10);
    }
  };
  const abort = new AbortController();
  const response = await fetch(`${filter.url}/v1/chat/completions`, {
    method: 'POST',
    signal: abort.signal,
    body: JSON.stringify(chat('Go on and on.', { stream: true })),
  });
  await response.body!.getReader().read();
  abort.abort();
  await until('the abort at the origin', () => closed, 8000);
});

it('a client that resets its connection aborts the request at the origin', async () => {
  for (const target of ['/v1/chat/completions', '/login']) {
    const pending: http.ServerResponse[] = [];
    let aborted = 0;
    origin.handler = (_, res) => {
      pending.push(res);
      res.on('close', () => void (aborted += Number(!res.writableEnded)));
    };
    const lines = filter.logs.length;
    const body = JSON.stringify(chat('Think for ever.'));
    const sockets = Array.from({ length: 10 }, () => connect(filter.port));
    for (const socket of sockets)
      socket.write(
        `POST ${target} HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    await until('all requests', () => pending.length === sockets.length);
    for (const socket of sockets) socket.resetAndDestroy();
    await until(`the abort of all requests to ${target}`, () => aborted === sockets.length, 4000);
    // Expects that no error is logged. Waits for the log line of a later request, because an error
    // would be logged before that line.
    origin.handler = Origin.ok;
    await filter.decision(await filter.ask());
    expect(
      filter.logs
        .slice(lines)
        .filter(({ message }) => !message.startsWith('{"log":"hedgerow.decision"')),
    ).toEqual([]);
  }
});

it('a response that breaks off at the origin breaks off at the client', async () => {
  origin.handler = async (_, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.write('data: 1\n\n');
    await sleep(50);
    res.destroy();
  };
  const response = await filter.post('/v1/chat/completions', chat('Break off.', { stream: true }));
  await expect(response.text()).rejects.toThrow();
  expect((await filter.health()).status).toBe(200);
});

/** `scan.max_body` of the default policy. */
const LIMIT = 5 << 20;

it('an upload beyond the limit is forwarded while it is still being sent', async () => {
  origin.handler = Origin.ok;
  const head = Buffer.from('{"model":"demo-large","messages":[{"role":"user","content":"');
  const block = Buffer.alloc(1 << 20, 'hedge row ');
  const tail = Buffer.from('"}]}');
  const body = Buffer.concat([head, ...Array(16).fill(block), tail]);
  const { port } = new URL(filter.url);
  const answered = new Promise<http.IncomingMessage>((done, fail) => {
    const req = http.request(
      {
        port,
        host: '127.0.0.1',
        method: 'POST',
        path: '/v1/chat/completions',
        headers: { 'content-type': 'application/json', 'content-length': body.length },
      },
      done,
    );
    req.on('error', fail);
    void (async () => {
      const half = head.length + 9 * block.length;
      req.write(body.subarray(0, half));
      // Sends the second half only after the origin has received more bytes than the limit.
      await until(
        'more bytes than the limit at the origin',
        () => (origin.requests[0]?.bytes ?? 0) > LIMIT,
      );
      expect(origin.requests[0]!.state).toBe('open');
      req.end(body.subarray(half));
    })().catch(fail);
  });
  const res = await answered;
  expect(res.statusCode).toBe(200);
  expect(origin.last).toMatchObject({
    bytes: body.length,
    sha256: sha256(body),
    state: 'complete',
  });
  const decision = await filter.decision({ headers: res.headers });
  expect(decision.body_bytes).toBe(body.length);
  // Scored are the beginning up to the limit, and a mebibyte at the end.
  expect((body.length - decision.unscanned_bytes) / (LIMIT + (1 << 20))).toBeCloseTo(1, 1);
  expect(decision.unscored).toEqual(['window']);
  res.resume();
});

it('a chunked upload without a length is forwarded in full', async () => {
  origin.handler = Origin.ok;
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
  const response = await fetch(`${filter.url}/v1/chat/completions`, {
    method: 'POST',
    body: stream,
    duplex: 'half',
    headers: { 'content-type': 'application/json' },
  } as RequestInit);
  expect(response.status).toBe(200);
  expect(origin.last).toMatchObject({ bytes: body.length, sha256: sha256(body) });
});
