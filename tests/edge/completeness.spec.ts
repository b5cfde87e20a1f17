// Requests that cannot be scored completely, because of pauses, padding, large bodies, or unknown
// encodings and paths. In Enforce mode, no such request reaches the origin with a prompt that was
// not scored.
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { Admin, ADMIN_TOKEN } from './release-fixtures.ts';
import {
  chat,
  connect,
  type DecisionLine,
  eventually,
  fixture,
  Origin,
  sendRaw,
  sha256,
  sleep,
  useFilter,
  useFleet,
  useOrigin,
} from './support.ts';

const CHAT = '/v1/chat/completions';
const ENFORCE = { 'x-hedgerow-mode': 'enforce' };
/** A prompt that the shipped rules find hostile. */
const HARVEST: string = JSON.parse(fixture('harvest-openai').body.toString()).messages[0].content;
const BENIGN_PROMPT = 'When do blackbirds leave the nest?';

const origin = useOrigin(Origin.ok);
const filter = useFilter({ origin });

const messages = (...contents: unknown[]) =>
  JSON.stringify({
    model: 'demo-large',
    messages: contents.map((content) => ({ role: 'user', content })),
  });
const picture = (bytes: number) => ({
  type: 'image_url',
  image_url: {
    url: `data:image/png;base64,${Buffer.alloc((bytes / 4) * 3, 7).toString('base64')}`,
  },
});

const post = (body: string | Uint8Array, headers: Record<string, string> = {}) =>
  fetch(`${filter.url}${CHAT}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer a', ...headers },
    body: body as BodyInit,
  });

/**
 * Sends a chunked body piece by piece, and returns the status. A number in `pieces` is a pause in
 * ms.
 */
async function upload(pieces: (string | Buffer | number)[], ends = true): Promise<number> {
  const socket = connect(filter.port);
  let answer = '';
  socket.on('data', (data) => (answer += data.toString('latin1')));
  const closed = once(socket, 'close');
  socket.write(
    [
      `POST ${CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json`,
      'X-Hedgerow-Mode: enforce\r\nAuthorization: Bearer a',
      'Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n',
    ].join('\r\n'),
  );
  for (const piece of pieces) {
    if (typeof piece === 'number') await sleep(piece);
    else {
      const bytes = Buffer.from(piece);
      socket.write(`${bytes.length.toString(16)}\r\n`);
      socket.write(bytes);
      socket.write('\r\n');
    }
  }
  if (ends) socket.write('0\r\n\r\n');
  await closed;
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);
}

const complete = () => origin.requests.filter(({ state }) => state === 'complete');

describe('in Enforce', () => {
  it('padding hides nothing', async () => {
    const rows: [string, string][] = [
      ['2 MiB of blanks', `{"model":"m",${' '.repeat(2 << 20)}"messages":${messagesOf(HARVEST)}}`],
      ['blanks in the text', messages(' '.repeat(2 << 20) + HARVEST)],
      ['a picture of 2.2 MB', messages([picture(2_200_000), { type: 'text', text: HARVEST }])],
      [
        'an unknown member',
        `{"padding":"${'x'.repeat(5 << 20)}","messages":${messagesOf(HARVEST)}}`,
      ],
    ];
    for (const [name, body] of rows) {
      const response = await post(body, ENFORCE);
      expect(response.status, name).toBe(403);
      expect((await filter.decision(response)).band, name).toBe('hostile');
    }
    expect(complete()).toEqual([]);
  });

  it('the end of a body of any size is scored before the origin has it', async () => {
    const padding = `"padding":"${'x'.repeat(20 << 20)}"`;
    const hostile = `{"model":"m",${padding},"messages":${messagesOf(HARVEST)}}`;
    const response = await post(hostile, ENFORCE);
    expect(response.status).toBe(403);
    const decision = await filter.decision(response);
    expect(decision).toMatchObject({ band: 'hostile', unscored: ['window'] });
    expect(decision.body_bytes).toBe(hostile.length);
    const [hit] = decision.hits;
    expect(hostile.slice(hit!.start, hit!.end).length).toBeGreaterThan(0);
    expect(hit!.start).toBeGreaterThan(20 << 20);
    expect(complete()).toEqual([]);

    const honest = `{"model":"m",${padding},"messages":${messagesOf(BENIGN_PROMPT)}}`;
    expect((await post(honest, ENFORCE)).status).toBe(200);
    expect(complete().map(({ sha256 }) => sha256)).toEqual([sha256(honest)]);
  });

  it('the origin gets a large body unchanged, in Shadow, too', async () => {
    const body = messages([picture(16 << 20), { type: 'text', text: HARVEST }]);
    const response = await post(body);
    expect(response.status).toBe(200);
    expect(origin.last).toMatchObject({ bytes: body.length, sha256: sha256(body) });
    expect(await filter.decision(response)).toMatchObject({ band: 'hostile', enforced: false });
  });

  it('waiting hides nothing', async () => {
    const hostile = messages(BENIGN_PROMPT, HARVEST);
    const honest = Buffer.from(messages('What grows in this hedge? '.repeat(40_000)));
    const cut = hostile.indexOf('},{');
    const beginning = `{"padding":"${'x'.repeat(64 << 10)}",` + hostile.slice(1, cut);
    // A slow but honest client, such as a phone: a megabyte at 64 kB/s.
    const slow = Array.from({ length: 16 }, (_, at) => [
      honest.subarray(at << 16, (at + 1) << 16),
      1000,
    ]);
    const [paused, stalled, dripped, phone] = await Promise.all([
      upload([beginning, 11_000, hostile.slice(cut)]),
      upload([beginning, 40_000], false),
      upload([
        beginning,
        ...Array.from({ length: 30 }, () => [' ', 1000]).flat(),
        hostile.slice(cut),
      ]),
      upload(slow.flat()),
    ]);
    expect([paused, stalled, dripped, phone]).toEqual([403, 408, 403, 200]);
    expect(complete().map(({ sha256 }) => sha256)).toEqual([sha256(honest)]);
  });

  it('an encoding that is not decoded is refused, and passes in Shadow', async () => {
    const body = Buffer.from(messages(HARVEST)).map((byte) => byte ^ 0x80);
    const headers = { 'content-encoding': 'x-unknown' };
    const refused = await post(body, { ...headers, ...ENFORCE });
    expect(refused.status).toBe(415);
    expect(await filter.decision(refused)).toMatchObject({
      action: 'block',
      incomplete: 'encoding',
      scored_share: 0,
    });
    expect(origin.requests).toEqual([]);
    const passed = await post(body, headers);
    expect(passed.status).toBe(200);
    expect(origin.last.sha256).toBe(sha256(body));
  });

  it('a request to an unknown path is tagged at most', async () => {
    const response = await fetch(`${filter.url}/v9/brand/new`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', ...ENFORCE },
      body: JSON.stringify(chat(HARVEST)),
    });
    expect(response.status).toBe(200);
    const decision: DecisionLine = await filter.decision(response);
    expect(decision).toMatchObject({ band: 'hostile', action: 'tag', unscored: ['unknown_path'] });
    expect(origin.last.headers['x-hedgerow-band']).toBe('hostile');
  });
});

describe('in the ledger', () => {
  const keys = keyPair();
  const vars = { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN, REPORT_SECONDS: '1' };
  const fleet = useFleet({ origin, workers: 1, vars });
  const admin = new Admin(fleet.edge, ADMIN_TOKEN);

  it('requests that were forwarded unread are counted by path, and memory is known', async () => {
    const send = (method: string, path: string, type: string) =>
      fetch(`${fleet.edge.url}${path}`, { method, headers: { 'content-type': type }, body: 'x' });
    for (const id of ['0f8fad5b', '1f8fad5b'])
      await send('POST', `/v9/agents/${id}/pictures`, 'image/png');
    await send('PUT', '/users/ada/photos', 'application/octet-stream');
    await send('POST', '/v9/forms', 'application/json');
    const { status } = await sendRaw(
      Number(new URL(fleet.edge.url).port),
      [
        'GET /v9/live HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n',
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aGVkZ2Vyb3doZWRnZXJvdw==\r\n\r\n',
      ],
      { ms: 1000 },
    );
    expect(status).toBe(101);
    await eventually('the report', async () => {
      await fleet.edge.ask(BENIGN_PROMPT);
      const { traffic } = await admin.getOk('/status?minutes=60');
      expect(traffic.forwarded_unread).toEqual([
        { method: 'POST', path: '/v9/agents/*/pictures', count: 2 },
        { method: 'PUT', path: '/users/*/photos', count: 1 },
        { method: 'WEBSOCKET', path: '/v9/live', count: 1 },
      ]);
      expect(Object.keys(traffic.memory_mib).length).toBeGreaterThan(0);
    });
    const health = (await (await fleet.edge.health()).json()) as { memory_bytes: number };
    expect(health.memory_bytes).toBeGreaterThan(1 << 20);
    expect(health.memory_bytes).toBeLessThan(100 << 20);
  });
});

function messagesOf(...contents: string[]): string {
  return JSON.stringify(contents.map((content) => ({ role: 'user', content })));
}
