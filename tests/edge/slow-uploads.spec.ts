// Slow uploads occupy the memory of an isolate. Independently of their number and size, the filter
// reads fast uploads completely. In Enforce mode, no slow upload reaches the origin unscored.
import { once } from 'node:events';
import http from 'node:http';
import type { Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  chat,
  connect,
  Filter,
  fixture,
  Origin,
  send,
  sha256,
  sleep,
  until,
  useFilter,
  useOrigin,
} from './support.ts';

const CHAT = '/v1/chat/completions';
const MEBIBYTE = 1 << 20;
/** A prompt that the shipped rules find hostile. */
const HARVEST: string = JSON.parse(fixture('harvest-openai').body.toString()).messages[0].content;
const BENIGN_PROMPT = 'When do blackbirds leave the nest?';

const origin = useOrigin(Origin.ok);
const filter = useFilter({ origin });

const body = (bytes: number, last: string) =>
  JSON.stringify({
    model: 'demo-large',
    messages: [
      { role: 'user', content: 'What grows in this hedge? '.repeat(Math.ceil(bytes / 26)) },
      { role: 'user', content: last },
    ],
  });

/** A chunked upload at a pace that the test controls. */
class Upload {
  readonly socket: Socket = connect(filter.port);
  readonly bytes: Buffer;
  #answer = '';
  #sent = 0;
  readonly #closed = new Promise((done) => this.socket.once('close', done));

  constructor(text: string, mode = 'enforce') {
    this.bytes = Buffer.from(text);
    this.socket.on('data', (data) => (this.#answer += data.toString('latin1')));
    // Ignores errors, because the filter can refuse the upload and close the connection during a
    // write.
    this.socket.on('error', () => {});
    this.socket.write(
      [
        `POST ${CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json`,
        `X-Hedgerow-Mode: ${mode}\r\nAuthorization: Bearer slow`,
        'Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n',
      ].join('\r\n'),
    );
  }

  /** Sends the next `count` bytes, unless the filter has already responded. */
  send(count: number) {
    const piece = this.bytes.subarray(this.#sent, this.#sent + count);
    if (!piece.length || this.#answer || this.socket.destroyed) return;
    this.socket.write(Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece]));
    this.socket.write('\r\n');
    this.#sent += piece.length;
  }

  /** Sends the rest, and returns the status. */
  async finish(): Promise<number> {
    this.send(this.bytes.length);
    if (!this.#answer && !this.socket.destroyed) this.socket.write('0\r\n\r\n');
    await this.#closed;
    return this.status;
  }

  get status() {
    return Number(/^HTTP\/1\.1 (\d{3})/.exec(this.#answer)?.[1]);
  }
}

const uploads: Upload[] = [];
afterEach(() => uploads.splice(0).forEach(({ socket }) => socket.destroy()));

/** Begins uploads: sends `sent` bytes of each at once, and then `pace` bytes every 100 ms. */
function begin(texts: string[], sent: number, pace: number) {
  const begun = texts.map((text) => new Upload(text));
  uploads.push(...begun);
  begun.forEach((upload) => upload.send(sent));
  const timer = setInterval(() => begun.forEach((upload) => upload.send(pace)), 100);
  return { begun, stop: () => clearInterval(timer) };
}

/**
 * Sends a benign request of about `bytes` bytes in one piece. Returns its status, its decision and
 * its duration in milliseconds.
 */
async function sendBenign(bytes: number) {
  const began = performance.now();
  const response = await filter.post(CHAT, body(bytes, BENIGN_PROMPT), {
    'x-hedgerow-mode': 'enforce',
  });
  const ms = performance.now() - began;
  return { status: response.status, decision: await filter.decision(response), ms };
}

const arrived = (text: string) => {
  const hash = sha256(text);
  return origin.requests.some(({ state, sha256 }) => state === 'complete' && sha256 === hash);
};
const memory = async () =>
  ((await (await filter.health()).json()) as { memory_bytes: number }).memory_bytes;

// Bytes per 100 ms of a photo from a phone: 5 MB at 64 kB/s, which takes 80 seconds. The photo is
// sent through a separate filter while the other tests run.
const PACE = 6_400;
const photo = JSON.stringify({
  model: 'demo-large',
  messages: [
    {
      role: 'user',
      content: [
        { type: 'text', text: 'Which bird is this?' },
        {
          type: 'image_url',
          image_url: {
            url: `data:image/jpeg;base64,${Buffer.alloc(3_750_000, 7).toString('base64')}`,
          },
        },
      ],
    },
  ],
});
let answer: Promise<{ status: number; decision: unknown; ms: number; arrived: boolean }>;
let dispose: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  const phoneOrigin = await Origin.start();
  phoneOrigin.handler = Origin.ok;
  const phoneFilter = await Filter.start({ origin: phoneOrigin });
  dispose = [() => phoneFilter.dispose(), () => phoneOrigin.close()];
  answer = (async () => {
    const began = performance.now();
    const bytes = Buffer.from(photo);
    let at = 0;
    const stream = new ReadableStream({
      async pull(controller) {
        controller.enqueue(bytes.subarray(at, at + PACE));
        at += PACE;
        if (at >= bytes.length) controller.close();
        await sleep(Math.max(0, began + (at / PACE) * 100 - performance.now()));
      },
    });
    const response = await fetch(`${phoneFilter.url}${CHAT}`, {
      method: 'POST',
      body: stream,
      duplex: 'half',
      headers: { 'content-type': 'application/json', 'x-hedgerow-mode': 'enforce' },
    } as RequestInit);
    const ms = performance.now() - began;
    const decision = await phoneFilter.decision(response);
    const isSame = phoneOrigin.last.sha256 === sha256(photo);
    return { status: response.status, decision, ms, arrived: isSame };
  })();
  answer.catch(() => {});
});
afterAll(() => Promise.all(dispose.map((end) => end())));

describe('in Enforce, a request of 2 MB is scored whole', () => {
  it('while ten large uploads are slow, and none of these ends unscored', async () => {
    // The pace is slightly above the minimum pace, below which the filter does not wait for an
    // upload.
    const texts = Array.from({ length: 10 }, (_, at) =>
      body(4 * MEBIBYTE + MEBIBYTE / 2, at % 2 ? HARVEST : `${BENIGN_PROMPT} ${at}`),
    );
    const { begun, stop } = begin(texts, 4 * MEBIBYTE, 100);
    await sleep(2_000);
    for (let at = 0; at < 5; at++) {
      const { status, decision, ms } = await sendBenign(2_000_000);
      expect([status, decision.unscored, decision.scored_share]).toEqual([200, [], 1]);
      expect(ms).toBeLessThan(10_000);
    }
    stop();
    const statuses = await Promise.all(begun.map((upload) => upload.finish()));
    expect(statuses).toEqual(texts.map((_, at) => (at % 2 ? 403 : 200)));
    expect(texts.map(arrived)).toEqual(texts.map((_, at) => at % 2 === 0));
    expect(await memory()).toBeLessThan(100 * MEBIBYTE);
  });

  it('while a hundred medium uploads are slow', async () => {
    const texts = Array.from({ length: 100 }, () => body(300_000, HARVEST));
    const { begun, stop } = begin(texts, 250_000, 60);
    await sleep(1_500);
    for (const bytes of [2_000_000, 100_000, 20_000, 1_000_000]) {
      const { status, decision } = await sendBenign(bytes);
      expect([bytes, status, decision.unscored]).toEqual([bytes, 200, []]);
    }
    stop();
    // 403 for uploads that were scored, and 503 for uploads for which the filter had no memory.
    const statuses = await Promise.all(begun.map((upload) => upload.finish()));
    expect(statuses.filter((status) => ![403, 503].includes(status))).toEqual([]);
    expect(statuses).toContain(403);
    expect(texts.some(arrived)).toBe(false);
    expect(await memory()).toBeLessThan(100 * MEBIBYTE);
  });

  it('while uploads beyond the limit are slow and send single bytes', async () => {
    const texts = Array.from({ length: 30 }, () => body(6 * MEBIBYTE, HARVEST));
    const { begun, stop } = begin(texts, 5 * MEBIBYTE + 1000, 1);
    await until('all uploads at the origin', () => origin.requests.length >= 20);
    const { status, decision } = await sendBenign(2_000_000);
    expect([status, decision.unscored]).toEqual([200, []]);
    stop();
    const statuses = await Promise.all(begun.map((upload) => upload.finish()));
    expect(statuses.filter((status) => ![403, 503].includes(status))).toEqual([]);
    expect(texts.some(arrived)).toBe(false);
    expect(await memory()).toBeLessThan(100 * MEBIBYTE);
  });
});

describe('one client', () => {
  it('that sends a byte a second is refused', async () => {
    const upload = new Upload(body(200_000, HARVEST));
    uploads.push(upload);
    upload.send(70_000);
    const timer = setInterval(() => upload.send(1), 1000);
    await until('the refusal', () => upload.status, 60_000);
    clearInterval(timer);
    expect(upload.status).toBe(408);
    expect(origin.requests.filter(({ state }) => state === 'complete')).toEqual([]);
  });

  it('that pauses at each percent is scored whole', async () => {
    const texts = [body(200_000, BENIGN_PROMPT), body(200_000, HARVEST)];
    const begun = texts.map((text) => new Upload(text));
    uploads.push(...begun);
    // Computes the progress from the clock, because pauses are longer than requested on a busy
    // machine.
    const start = performance.now();
    for (let sent = 0; sent < 100; await sleep(150)) {
      const percent = Math.min(100, Math.ceil((performance.now() - start) / 150));
      for (const upload of begun)
        upload.send(Math.ceil((upload.bytes.length * (percent - sent)) / 100));
      sent = percent;
    }
    expect(await Promise.all(begun.map((upload) => upload.finish()))).toEqual([200, 403]);
    expect(
      filter
        .decisions()
        .slice(-2)
        .map(({ unscored }) => unscored),
    ).toEqual([[], []]);
    expect(texts.map(arrived)).toEqual([true, false]);
  });

  it('that sends 200 MB is scored at both ends', async () => {
    for (const [last, status] of [
      [BENIGN_PROMPT, 200],
      [HARVEST, 403],
    ] as const) {
      const block = Buffer.alloc(MEBIBYTE, 'hedge row ');
      const req = http.request(`${filter.url}${CHAT}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-hedgerow-mode': 'enforce' },
      });
      const answered = once(req, 'response');
      answered.catch(() => {});
      req.on('error', () => {});
      req.write('{"model":"m","messages":[{"role":"user","content":"');
      for (let at = 0; at < 200; at++)
        if (!req.write(block)) await new Promise((done) => req.once('drain', done));
      req.end(`"},{"role":"user","content":${JSON.stringify(last)}}]}`);
      const [response] = (await answered) as [http.IncomingMessage];
      response.resume();
      expect([last, response.statusCode]).toEqual([last, status]);
      expect((await filter.decision({ headers: response.headers })).unscored).toEqual(['window']);
    }
    await until('the abort at the origin', () => origin.requests[1]?.state === 'aborted');
    expect(origin.requests[0]!.state).toBe('complete');
    expect(origin.requests[0]!.bytes).toBeGreaterThan(200 * MEBIBYTE);
    expect(await memory()).toBeLessThan(100 * MEBIBYTE);
  });

  it('that sends 600 slow small bodies delays nobody', async () => {
    const sockets = Array.from({ length: 600 }, () => connect(filter.port));
    for (const socket of sockets)
      socket.write(`POST ${CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n{"messages"`);
    try {
      await sleep(1_000);
      const { status, decision } = await sendBenign(2_000_000);
      expect([status, decision.unscored]).toEqual([200, []]);
      const small = await send(filter.url, {
        path: CHAT,
        body: JSON.stringify(chat(BENIGN_PROMPT)),
      });
      expect(small.status).toBe(200);
    } finally {
      for (const socket of sockets) socket.destroy();
    }
  });
});

it('in Shadow, the origin gets slow uploads unchanged', async () => {
  const texts = Array.from({ length: 8 }, (_, at) => body(4 * MEBIBYTE + 1000 * at, HARVEST));
  const begun = texts.map((text) => new Upload(text, 'shadow'));
  uploads.push(...begun);
  begun.forEach((upload) => upload.send(4 * MEBIBYTE - 1000));
  await sleep(3_000);
  expect(await Promise.all(begun.map((upload) => upload.finish()))).toEqual(Array(8).fill(200));
  expect(texts.every(arrived)).toBe(true);
  const lines = filter.decisions().filter(({ mode }) => mode === 'shadow');
  const large = lines.filter(({ body_bytes }) => body_bytes > 4_000_000);
  expect(large.map(({ band }) => band)).toEqual(Array(8).fill('hostile'));
});

it('an upload that stops after its beginning was sent ends', async () => {
  const text = body(7 * MEBIBYTE, HARVEST);
  const [refused, passed] = [new Upload(text), new Upload(`${text} `, 'shadow')];
  uploads.push(refused, passed);
  for (const upload of [refused, passed]) upload.send(6 * MEBIBYTE);
  await until('the refusal', () => refused.status === 408, 60_000);
  await until('a decision in Shadow', () =>
    filter.decisions().some(({ unscored, enforced }) => unscored.includes('late') && !enforced),
  );
  expect(await passed.finish()).toBe(200);
  expect([arrived(text), arrived(`${text} `)]).toEqual([false, true]);
});

it('a phone succeeds with 5 MB at 64 kB/s, and is scored whole', async () => {
  const { status, decision, ms, arrived } = await answer;
  expect({ status, arrived }).toEqual({ status: 200, arrived: true });
  expect(decision).toMatchObject({ unscored: ['attachment'], scored_share: 1, action: 'allow' });
  console.log(`${photo.length} bytes in ${(ms / 1000).toFixed(1)} s`);
});
