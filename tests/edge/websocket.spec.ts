// WebSockets on LLM paths: messages pass unchanged in both directions, and prompts of the client
// are scored. If a message is refused, the connection is closed before the message reaches the
// origin.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import OpenAI from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { keyPair } from './minisign.ts';
import { Admin, ADMIN_TOKEN, makeBundle, makeManifest, putRelease } from './release-fixtures.ts';
import {
  enforce,
  eventually,
  fixture,
  isBuilt,
  sleep,
  until,
  useFilter,
  useFleet,
} from './support.ts';

const MIB = 1 << 20;
const HARVEST: string = JSON.parse(fixture('harvest-openai').body.toString()).messages[0].content;

type Message = { data: Buffer; isBinary: boolean };

/** One end of a WebSocket connection, with the messages that it has received. */
class Peer {
  readonly messages: Message[] = [];
  closed?: { code: number; reason: string };

  constructor(readonly socket: WebSocket) {
    socket.on('message', (data: Buffer, isBinary: boolean) =>
      this.messages.push({ data, isBinary }),
    );
    socket.on('close', (code: number, reason: Buffer) => {
      this.closed = { code, reason: reason.toString() };
    });
    socket.on('error', () => {});
  }

  texts = () => this.messages.map(({ data }) => data.toString());
  events = () => this.texts().map((text) => JSON.parse(text));
  send = (event: unknown) =>
    this.socket.send(typeof event === 'string' ? event : JSON.stringify(event));
  untilMessages = (count: number) =>
    until(`${count} messages`, () => this.messages.length >= count && this.messages);
  untilClosed = (ms?: number) => until('a close', () => this.closed, ms);
}

/** An origin that accepts WebSockets, and sends only messages that the test sends. */
class SocketOrigin {
  readonly peers: Peer[] = [];
  readonly handshakes: http.IncomingMessage[] = [];
  /** Called for each connection. */
  onPeer: (peer: Peer) => void = () => {};
  /** Status with which the origin refuses handshakes, if set. */
  refusal?: number;
  #server = http.createServer((_, res) =>
    res.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}'),
  );
  #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: 64 * MIB,
    handleProtocols: (protocols: Set<string>) => [...protocols][0] ?? false,
  });

  constructor() {
    // The origin names the account in each answer. Clients must not see the name.
    this.#sockets.on('headers', (headers: string[]) =>
      headers.push('x-origin: 1', 'x-hedgerow-account: acme'),
    );
    this.#server.on('upgrade', (req, socket, head) => {
      this.handshakes.push(req);
      if (this.refusal) {
        const body = '{"error":{"message":"no such model"}}';
        socket.end(
          `HTTP/1.1 ${this.refusal} Refused\r\ncontent-type: application/json\r\n` +
            `x-origin: 1\r\nx-hedgerow-account: acme\r\ncontent-length: ${body.length}\r\n` +
            `connection: close\r\n\r\n${body}`,
        );
        return;
      }
      this.#sockets.handleUpgrade(req, socket, head, (accepted) => {
        const peer = new Peer(accepted);
        this.peers.push(peer);
        this.onPeer(peer);
      });
    });
  }

  start = () => new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));

  get url() {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  reset() {
    for (const { socket } of this.peers) socket.terminate();
    this.peers.length = 0;
    this.handshakes.length = 0;
    this.refusal = undefined;
    this.onPeer = () => {};
  }

  close() {
    this.reset();
    this.#server.close();
  }
}

const origin = new SocketOrigin();
beforeAll(() => origin.start());
afterAll(() => origin.close());
beforeEach(() => origin.reset());

const filter = useFilter({
  get origin() {
    return origin.url;
  },
});

const REALTIME = '/v1/realtime?model=demo-realtime';
const LIVE = '/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k';
let clientCount = 0;

/** Opens a WebSocket with a new account, and returns both ends. */
async function connect(
  target = REALTIME,
  headers: Record<string, string> = {},
  { base = filter.url, protocols = [] as string[] } = {},
) {
  const index = origin.peers.length;
  const socket = new WebSocket(base.replace('http', 'ws') + target, protocols, {
    headers: { authorization: `Bearer sk-socket-${clientCount++}`, ...headers },
    maxPayload: 64 * MIB,
  });
  const client = new Peer(socket);
  await once(socket, 'open');
  const server = await until('the origin accepts', () => origin.peers[index]);
  return { client, server };
}

/** Opens a WebSocket that must be refused, and returns the response. */
function refused(target: string, headers: Record<string, string> = {}, base = filter.url) {
  return new Promise<{ status: number; headers: http.IncomingHttpHeaders; body: string }>(
    (done, fail) => {
      const socket = new WebSocket(base.replace('http', 'ws') + target, [], {
        headers: { authorization: 'Bearer sk-refused', ...headers },
      });
      socket.on('open', () => fail(new Error('the WebSocket is open')));
      socket.on('error', () => {});
      socket.on('unexpected-response', async (_: unknown, res: http.IncomingMessage) => {
        let body = '';
        for await (const chunk of res) body += chunk;
        done({ status: res.statusCode!, headers: res.headers, body });
      });
    },
  );
}

const item = (text: string) => ({
  type: 'conversation.item.create',
  item: { type: 'message', role: 'user', content: [{ type: 'input_text', text }] },
});
const decisionCount = () => filter.decisions().length;
const newDecisions = (before: number, count = 1) =>
  until(`${count} decisions`, () => {
    const lines = filter.decisions().slice(before);
    return lines.length >= count && lines;
  });

describe('messages', () => {
  it('pass both ways unchanged and in order, as text and as binary', async () => {
    const { client, server } = await connect();
    const sent: (string | Buffer)[] = [
      '{"type":"session.update","session":{"instructions":"Be kind. \\u00e9 \u{1f333}"}}',
      '{"type":"input_audio_buffer.append","audio":"UklGRg=="}',
      'not JSON, and not a prompt',
      '',
      randomBytes(1000),
      Buffer.alloc(0),
      '{ "type" : "response.create" }\n',
      JSON.stringify({ type: 'input_audio_buffer.append', audio: 'x'.repeat(300_000) }),
      Buffer.from(JSON.stringify(item('in a binary message'))),
    ];
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      for (const message of sent) from.socket.send(message);
      const received = await to.untilMessages(sent.length);
      expect(received.map(({ isBinary }) => isBinary)).toEqual(
        sent.map((message) => typeof message !== 'string'),
      );
      expect(received.every(({ data }, i) => data.equals(Buffer.from(sent[i]!)))).toBe(true);
    }
  });

  it('with prompts are scored and logged, and other messages are not', async () => {
    const before = decisionCount();
    const { client, server } = await connect();
    for (const event of [
      { type: 'input_audio_buffer.append', audio: 'UklGRg==' },
      { type: 'input_audio_buffer.commit' },
      item('When do blackbirds nest?'),
      { type: 'response.create' },
      item(HARVEST),
    ])
      client.send(event);
    await server.untilMessages(5);
    const [ordinary, harvest, ...more] = await newDecisions(before, 2);
    expect(more).toEqual([]);
    expect(ordinary).toMatchObject({
      dialect: 'openai',
      operation: 'chat',
      transport: 'websocket',
      band: 'clear',
      mode: 'shadow',
      error: null,
    });
    expect(['suspect', 'hostile']).toContain(harvest!.band);
    expect(harvest!.account).toBe(ordinary!.account);
    expect(harvest!.request_id).not.toBe(ordinary!.request_id);
  });

  it('in fragments are scored whole', async () => {
    const before = decisionCount();
    const { client, server } = await connect();
    const text = JSON.stringify(item(HARVEST));
    for (let at = 0; at < text.length; at += 100)
      client.socket.send(text.slice(at, at + 100), { fin: at + 100 >= text.length });
    await server.untilMessages(1);
    expect(server.texts()).toEqual([text]);
    const [decision] = await newDecisions(before);
    expect(['suspect', 'hostile']).toContain(decision!.band);
  });

  it('of 20 MB pass, scored up to the limit of the policy', async () => {
    const before = decisionCount();
    const { client, server } = await connect();
    const text = JSON.stringify(item(`${HARVEST} ${'\u00e9'.repeat(10_000_000)}`));
    client.send(text);
    await until('the message', () => server.messages.length > 0, 40_000);
    expect(server.texts()[0] === text).toBe(true);
    const [decision] = await newDecisions(before);
    expect(['suspect', 'hostile']).toContain(decision!.band);
    expect(decision!.unscanned_bytes).toBeGreaterThan(5_000_000);
  });

  it('of 100 MB close the connection with 1009', async () => {
    const { client, server } = await connect();
    client.socket.send('x'.repeat(100 * MIB));
    expect((await client.untilClosed(100_000)).code).toBe(1009);
    expect((await server.untilClosed()).code).not.toBe(1000);
    expect(server.messages).toEqual([]);
  });

  it('that never end hold nothing up', async () => {
    const stuck = await connect();
    const beginning = '{"type":"session.update","session":{"instructions":"';
    stuck.client.socket.send(beginning, { fin: false });
    const { client, server } = await connect();
    client.send(item('A message of another connection.'));
    await server.untilMessages(1);
    stuck.server.send('{"type":"session.created"}');
    await stuck.client.untilMessages(1);
    expect(stuck.server.messages).toEqual([]);
    stuck.client.socket.terminate();
    await stuck.server.untilClosed();
  });
});

/** Returns the words of the harvest prompt in `count` parts, each too short to be suspect. */
const partsOf = (text: string, count: number) => {
  const words = text.split(/(?<= )/);
  const length = Math.ceil(words.length / count);
  const part = (_: unknown, i: number) => words.slice(i * length, (i + 1) * length).join('');
  return Array.from({ length: count }, part);
};
const create = { type: 'response.create' };

describe('a prompt that is split over messages', () => {
  const WORDS = HARVEST.split(' ').length;

  it('is scored when the model is asked to generate, once', async () => {
    const before = decisionCount();
    const { client, server } = await connect();
    const parts = partsOf(HARVEST, WORDS);
    for (const event of [...parts.map(item), create, create, item('And then?'), create])
      client.send(event);
    await server.untilMessages(parts.length + 4);
    const decisions = await newDecisions(before, parts.length + 2);
    const joint = decisions[parts.length]!;
    expect(decisions.map(({ band }) => band)).toEqual([
      ...parts.map(() => 'clear'),
      joint.band,
      'clear',
    ]);
    expect(['suspect', 'hostile']).toContain(joint.band);
    expect(joint.earlier_messages).toBe(parts.length);
    await sleep(200);
    expect(decisionCount()).toBe(before + parts.length + 2);
  });

  it('of ordinary text has no other decisions than its messages', async () => {
    const before = decisionCount();
    const { client, server } = await connect();
    const questions = [
      'Which hedge stays green through a long and cold winter in the north of Scotland?',
      'And how often do I have to cut it if I want blackbirds to nest there every spring?',
    ];
    for (const text of questions) for (const event of [item(text), create]) client.send(event);
    await server.untilMessages(4);
    await newDecisions(before, 2);
    await sleep(200);
    expect(filter.decisions().slice(before)).toHaveLength(2);
  });

  it('never reaches the origin in Enforce', async () => {
    const { client, server } = await connect(REALTIME, {
      'x-hedgerow-mode': 'enforce',
    });
    const parts = partsOf(HARVEST, WORDS);
    for (const event of [...parts.map(item), create]) client.send(event);
    const before = decisionCount();
    await until('a decision about all', () =>
      filter
        .decisions()
        .slice(before - parts.length)
        .some((line) => line.earlier_messages),
    );
    const joint = filter.decisions().findLast((line) => line.earlier_messages)!;
    if (['throttle', 'block'].includes(joint.action)) {
      expect((await client.untilClosed()).code).toBe(1008);
      expect(server.events().map(({ type }) => type)).not.toContain('response.create');
    } else {
      await server.untilMessages(parts.length + 1);
    }
  });

  it.each([
    [
      'continued responses',
      '/v1/responses',
      (text: string, i: number) => ({
        type: 'response.create',
        model: 'm',
        input: text,
        ...(i > 0 && { previous_response_id: `resp_${i}` }),
      }),
    ],
    [
      'turns of Gemini Live',
      LIVE,
      (text: string, i: number, count: number) => ({
        clientContent: {
          turns: [{ role: 'user', parts: [{ text }] }],
          turnComplete: i === count - 1,
        },
      }),
    ],
    ['texts of Gemini Live', LIVE, (text: string) => ({ realtimeInput: { text } })],
  ])('is found in %s', async (_, target, event) => {
    const before = decisionCount();
    const { client, server } = await connect(target);
    const parts = partsOf(HARVEST, WORDS);
    parts.forEach((part, i) => client.send(event(part, i, parts.length)));
    await server.untilMessages(parts.length);
    const decisions = await newDecisions(before, parts.length);
    expect(decisions).toHaveLength(parts.length);
    const found = decisions.filter(({ band }) => band !== 'clear');
    expect(found[0]!.earlier_messages).toBeGreaterThan(0);
  });

  it('is not made of independent responses', async () => {
    const before = decisionCount();
    const { client, server } = await connect('/v1/responses');
    const parts = partsOf(HARVEST, WORDS);
    for (const input of parts) client.send({ type: 'response.create', model: 'm', input });
    await server.untilMessages(parts.length);
    const decisions = await newDecisions(before, parts.length);
    expect(new Set(decisions.map(({ band }) => band))).toEqual(new Set(['clear']));
  });
});

describe('a peer that does not read', () => {
  const MESSAGE = JSON.stringify({ type: 'x', audio: 'A'.repeat(MIB) });

  /**
   * Sends up to 200 MiB to a peer that does not read. Returns the number of bytes that were sent
   * until the connection was closed.
   */
  async function flood(from: Peer, to: Peer) {
    (to.socket as unknown as { _socket: net.Socket })._socket.pause();
    let sent = 0;
    while (sent < 200 * MIB && !from.closed && from.socket.readyState === WebSocket.OPEN) {
      await new Promise((done) => from.socket.send(MESSAGE, {}, () => done(null)));
      sent += MESSAGE.length;
    }
    return sent;
  }

  it('as a client closes the connection', async () => {
    const { client, server } = await connect();
    // More bytes than the filter's limit were sent, because the buffers of this process and of the
    // operating system also hold data.
    expect(await flood(server, client)).toBeLessThan(200 * MIB);
    expect((await server.untilClosed()).code).toBe(1001);
    client.socket.terminate();
  });

  it('as an origin closes the connection with 1013', async () => {
    const { client, server } = await connect();
    expect(await flood(client, server)).toBeLessThan(200 * MIB);
    expect((await client.untilClosed()).code).toBe(1013);
    server.socket.terminate();
  });
});

const hasFaults = isBuilt('build-faults/index.js', 'node scripts/build.mjs faults');
// The policy of the fault-injection build (tests/fixtures/strict) has `fail_closed`.
describe.skipIf(!hasFaults)('a panic', () => {
  const faulty = useFilter({
    get origin() {
      return origin.url;
    },
    build: 'build-faults',
  });

  beforeEach(async (context) => {
    const { panic_unwind } = await faulty.version();
    if (!panic_unwind) context.skip('no --panic-unwind build: needs nightly with rust-src');
  });

  it.each([
    ['1', 'scoring panicked'],
    ['message', 'reading a message of a WebSocket panicked'],
  ])('at stage %s fails no connection in Shadow', async (stage, error) => {
    const before = faulty.decisions().length;
    const options = { base: faulty.url };
    const bystander = await connect(REALTIME, {}, options);
    const headers = { 'x-hedgerow-inject-panic': stage };
    const { client, server } = await connect(REALTIME, headers, options);
    for (let i = 0; i < 5; i++) {
      client.send(item(`Question ${i}.`));
      bystander.client.send(item(`Question ${i}.`));
    }
    await server.untilMessages(5);
    await bystander.server.untilMessages(5);
    const lines = await until('10 decisions', () => {
      const lines = faulty.decisions().slice(before);
      return lines.length >= 10 && lines;
    });
    expect(lines.filter((line) => line.error === error && line.score === null)).toHaveLength(5);
    expect(lines.filter((line) => line.error === null)).toHaveLength(5);
    client.socket.close(1000);
    expect((await server.untilClosed()).code).toBe(1000);
  });

  it.each(['1', 'message'])('at stage %s closes with 1013 in Enforce', async (stage) => {
    const { client, server } = await connect(
      REALTIME,
      { 'x-hedgerow-inject-panic': stage, 'x-hedgerow-mode': 'enforce' },
      { base: faulty.url },
    );
    client.send(item('When do blackbirds nest?'));
    expect((await client.untilClosed()).code).toBe(1013);
    await server.untilClosed();
    expect(server.messages).toEqual([]);
  });
});

describe('in Enforce', () => {
  it.each([
    ['block', 403, 'permission_denied'],
    ['throttle', 429, 'rate_limit_exceeded'],
  ] as const)('%s: an error event, then 1008', async (action, status, code) => {
    const before = decisionCount();
    const { client, server } = await connect(REALTIME, enforce(action));
    client.send({ type: 'input_audio_buffer.append', audio: 'UklGRg==' });
    client.send(item(HARVEST));
    client.send({ type: 'input_audio_buffer.append', audio: 'after the refusal' });
    const { code: closeCode, reason } = await client.untilClosed();
    const [decision] = await newDecisions(before);
    expect(decision).toMatchObject({ action, enforced: true, transport: 'websocket' });
    expect([closeCode, reason.endsWith(decision!.request_id)]).toEqual([1008, true]);
    expect(client.events()).toEqual([
      {
        type: 'error',
        event_id: `event_${decision!.request_id}`,
        status,
        error: {
          message: reason,
          type: code,
          code,
          param: null,
          request_id: decision!.request_id,
        },
      },
    ]);
    await server.untilClosed();
    expect(server.texts()).toEqual(['{"type":"input_audio_buffer.append","audio":"UklGRg=="}']);
  });

  it('degrade edits an event, and tag forwards it unchanged', async () => {
    const event = { type: 'response.create', model: 'm', input: 'x', top_logprobs: 5 };
    for (const [action, expected] of [
      ['degrade', { type: 'response.create', model: 'm', input: 'x' }],
      ['tag', event],
    ] as const) {
      const { client, server } = await connect('/v1/responses', enforce(action));
      client.send(event);
      await server.untilMessages(1);
      expect(server.events()).toEqual([expected]);
    }
  });

  it('Gemini Live reports a refusal by the close frame alone', async () => {
    const before = decisionCount();
    const { client, server } = await connect(LIVE, enforce('block'));
    client.send({ realtimeInput: { audio: { data: 'UklGRg==', mimeType: 'audio/pcm' } } });
    client.send({ clientContent: { turns: [{ role: 'user', parts: [{ text: HARVEST }] }] } });
    const { code, reason } = await client.untilClosed();
    expect([code, client.messages]).toEqual([1008, []]);
    const [decision] = await newDecisions(before);
    expect(decision).toMatchObject({ dialect: 'gemini', operation: 'generate_content' });
    expect(reason).toContain(decision!.request_id);
    await server.untilClosed();
    expect(server.messages).toHaveLength(1);
  });

  it('a prompt that another parser would see is not hidden by a second type', async () => {
    const { client, server } = await connect(REALTIME, enforce('block'));
    client.send(
      `{"type":"response.cancel","item":${JSON.stringify(item(HARVEST).item)},` +
        '"type":"conversation.item.create"}',
    );
    expect((await client.untilClosed()).code).toBe(1008);
    expect(server.messages).toEqual([]);
  });

  it('a prompt in UTF-16 in a binary message is refused', async () => {
    const { client, server } = await connect(REALTIME, enforce('block'));
    client.socket.send(Buffer.from(`\ufeff${JSON.stringify(item(HARVEST))}`, 'utf16le'));
    expect((await client.untilClosed()).code).toBe(1008);
    expect(server.messages).toEqual([]);
  });
});

describe('closing', () => {
  it('codes and reasons pass both ways', async () => {
    for (const [code, reason] of [
      [1000, 'done'],
      [1001, ''],
      [3000, 'unauthorised'],
      [4999, 'caf\u00e9'],
    ] as const) {
      const first = await connect();
      first.client.socket.close(code, reason);
      expect(await first.server.untilClosed()).toEqual({ code, reason });
      expect((await first.client.untilClosed()).code).toBe(code);
      const second = await connect();
      second.server.socket.close(code, reason);
      expect(await second.client.untilClosed()).toEqual({ code, reason });
      expect((await second.server.untilClosed()).code).toBe(code);
    }
    const { client, server } = await connect();
    client.socket.close();
    expect((await server.untilClosed()).code).toBe(1005);
  });

  it('the loss of one end closes the other', async () => {
    const first = await connect();
    first.client.socket.terminate();
    expect((await first.server.untilClosed()).code).not.toBe(1000);
    const second = await connect();
    second.server.socket.terminate();
    expect((await second.client.untilClosed()).code).not.toBe(1000);
  });

  it('messages before a close arrive first', async () => {
    const { client, server } = await connect();
    for (let i = 0; i < 20; i++) client.send(item(`message ${i}`));
    client.socket.close(1000, 'end');
    await server.untilClosed();
    expect(server.messages).toHaveLength(20);
  });
});

describe('the handshake', () => {
  it('has the headers, the protocol and the query of the client', async () => {
    const { client } = await connect(
      REALTIME,
      { 'openai-beta': 'realtime=v1', 'x-hedgerow-score': '1' },
      { protocols: ['realtime', 'openai-beta.realtime-v1'] },
    );
    expect(client.socket.protocol).toBe('realtime');
    const { url, headers } = origin.handshakes[0]!;
    expect(url).toBe(REALTIME);
    expect(headers['openai-beta']).toBe('realtime=v1');
    expect(headers['sec-websocket-protocol']?.replaceAll(' ', '')).toBe(
      'realtime,openai-beta.realtime-v1',
    );
    expect(headers['x-hedgerow-score']).toBeUndefined();
    // The filter negotiates no compression, so that a small message cannot expand to a large one.
    expect(headers['sec-websocket-extensions']).toBeUndefined();
  });

  it("a browser's key among the protocols is the account of the key in a header", async () => {
    const before = decisionCount();
    const key = 'sk-of-a-browser';
    const browser = new WebSocket(
      filter.url.replace('http', 'ws') + REALTIME,
      ['realtime', `openai-insecure-api-key.${key}`],
      {},
    );
    await once(browser, 'open');
    browser.send(JSON.stringify(item('Hello from a browser')));
    const [fromBrowser] = await newDecisions(before);
    const { client } = await connect(REALTIME, { authorization: `Bearer ${key}` });
    client.send(item('Hello from a server'));
    const [, fromServer] = await newDecisions(before, 2);
    expect(fromBrowser!.account).toMatch(/^[0-9a-f]{32}$/);
    expect(fromServer!.account).toBe(fromBrowser!.account);
    browser.terminate();
  });

  it('a refusal of the origin reaches the client', async () => {
    origin.refusal = 404;
    const { status, headers, body } = await refused(REALTIME);
    expect([status, headers['x-origin'], JSON.parse(body).error.message]).toEqual([
      404,
      '1',
      'no such model',
    ]);
    expect(headers).not.toHaveProperty('x-hedgerow-account');
    expect(headers['x-hedgerow-request-id']).toMatch(/\w/);
  });

  it.each([
    ['scored', REALTIME],
    ['unread', '/chat/socket'],
  ])("the origin's name of the account does not reach the client: %s", async (_, target) => {
    const client = new WebSocket(filter.url.replace('http', 'ws') + target);
    const [[response]] = await Promise.all([once(client, 'upgrade'), once(client, 'open')]);
    expect(response.headers).toMatchObject({ 'x-origin': '1' });
    expect(response.headers).not.toHaveProperty('x-hedgerow-account');
    const [server] = origin.peers;
    client.send('to the origin');
    await server!.untilMessages(1);
    server!.socket.send('to the client');
    expect((await once(client, 'message'))[0].toString()).toBe('to the client');
    client.terminate();
  });

  it('on other paths messages pass unread', async () => {
    const before = decisionCount();
    const { client, server } = await connect('/chat/socket', enforce('block'));
    client.send(item(HARVEST));
    await server.untilMessages(1);
    await sleep(200);
    expect(decisionCount()).toBe(before);
  });
});

it('50 connections at once, each with 20 messages in order', async () => {
  origin.onPeer = (peer) =>
    peer.socket.on('message', (data: Buffer, binary: boolean) =>
      peer.socket.send(data, { binary }),
    );
  const before = decisionCount();
  const sockets = await Promise.all(
    Array.from({ length: 50 }, async (_, number) => {
      const socket = new WebSocket(filter.url.replace('http', 'ws') + REALTIME, [], {
        headers: { authorization: `Bearer sk-many-${number}` },
      });
      await once(socket, 'open');
      return new Peer(socket);
    }),
  );
  const texts = (number: number) =>
    Array.from({ length: 20 }, (_, i) => JSON.stringify(item(`${number}: message ${i}`)));
  sockets.forEach((peer, number) => texts(number).forEach((text) => peer.send(text)));
  await Promise.all(sockets.map((peer) => peer.untilMessages(20)));
  sockets.forEach((peer, number) => expect(peer.texts()).toEqual(texts(number)));
  await newDecisions(before, 1000);
  for (const { socket } of sockets) socket.close(1000);
  await Promise.all(sockets.map((peer) => peer.untilClosed()));
});

describe('the real SDK', () => {
  /**
   * Returns an SDK client with a new account, because evidence of an account raises scores in later
   * tests.
   */
  const sdk = () => {
    const apiKey = `sk-real-sdk-${clientCount++}`;
    return new OpenAI({ apiKey, baseURL: `${filter.url}/v1`, maxRetries: 0 });
  };
  /** The SDK accepts only wss. This socket connects without TLS, and changes nothing else. */
  const plaintext = (headers: Record<string, string> = {}) => ({
    headers,
    createConnection: () => net.connect(filter.port, '127.0.0.1'),
  });
  const reply = (peer: Peer) =>
    peer.socket.on('message', (data: Buffer) => {
      if (JSON.parse(data.toString()).type !== 'response.create') return;
      for (const event of [
        { type: 'response.output_text.delta', delta: 'A yew.' },
        { type: 'response.done', response: { status: 'completed' } },
      ])
        peer.send(event);
    });

  it('a session of Realtime', async () => {
    const before = decisionCount();
    origin.onPeer = reply;
    const realtime = new OpenAIRealtimeWS(
      { model: 'demo-realtime', options: plaintext() as object },
      sdk(),
    );
    await once(realtime.socket as never, 'open');
    let text = '';
    realtime.on('response.output_text.delta', ({ delta }) => (text += delta));
    const done = new Promise((resolve) => realtime.on('response.done', resolve));
    realtime.send({
      type: 'session.update',
      session: { type: 'realtime', instructions: 'Be brief.' },
    });
    realtime.send(item('Which hedge is green?') as never);
    realtime.send({ type: 'response.create' });
    await done;
    expect(text).toBe('A yew.');
    expect(await newDecisions(before, 2)).toHaveLength(2);
    realtime.close();
    expect((await origin.peers[0]!.untilClosed()).code).toBe(1000);
  });

  it('a prompt that a session splits over items is found', async () => {
    const before = decisionCount();
    origin.onPeer = reply;
    const realtime = new OpenAIRealtimeWS(
      { model: 'demo-realtime', options: plaintext() as object },
      sdk(),
    );
    await once(realtime.socket as never, 'open');
    const done = new Promise((resolve) => realtime.on('response.done', resolve));
    const parts = partsOf(HARVEST, HARVEST.split(' ').length);
    for (const part of parts) realtime.send(item(part) as never);
    realtime.send({ type: 'response.create' });
    await done;
    const decisions = await newDecisions(before, parts.length + 1);
    expect(['suspect', 'hostile']).toContain(decisions.at(-1)!.band);
    realtime.close();
  });

  it('raises a refusal as the error of the session', async () => {
    const realtime = new OpenAIRealtimeWS(
      { model: 'demo-realtime', options: plaintext(enforce('block')) as object },
      sdk(),
    );
    const error = new Promise<any>((resolve) => realtime.on('error', resolve));
    const closed = once(realtime.socket as never, 'close');
    await once(realtime.socket as never, 'open');
    realtime.send(item(HARVEST) as never);
    expect((await error).error).toMatchObject({ code: 'permission_denied' });
    expect((await closed)[0]).toBe(1008);
    expect(origin.peers[0]!.messages).toEqual([]);
  });

  it('Responses over a WebSocket', async () => {
    const before = decisionCount();
    origin.onPeer = reply;
    const responses = new ResponsesWS(sdk());
    const text = new Promise((resolve) =>
      responses.on('response.output_text.delta', ({ delta }) => resolve(delta)),
    );
    responses.on('error', () => {});
    responses.send({ type: 'response.create', model: 'demo', input: 'Which hedge is green?' });
    expect(await text).toBe('A yew.');
    // Searches all new decisions, because a decision of an earlier connection may still arrive.
    await until('a clear decision', () => {
      const decisions = filter.decisions().slice(before);
      return decisions.some(({ dialect, band }) => dialect === 'openai' && band === 'clear');
    });
    responses.close();
  });
});

describe('the policy', () => {
  const keys = keyPair();
  const fleet = useFleet({
    get origin() {
      return origin.url;
    },
    vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN, REPORT_SECONDS: '1' },
  });
  let serial = 0;

  async function release(policy: object) {
    const bundle = makeBundle({ lantern_red: 22 }, { policy });
    await putRelease(await fleet.kv(), keys, makeManifest(++serial, bundle), bundle);
    await fleet.untilRelease(serial);
  }

  it('the model of the handshake, or of the session, is that of messages', async () => {
    const admin = new Admin(fleet.edge, ADMIN_TOKEN);
    const options = { base: fleet.edge.url };
    for (const [target, model, messages] of [
      ['/v1/realtime?model=of-the-handshake', 'of-the-handshake', [item('A hedge.')]],
      ['/openai/realtime?deployment=of-azure', 'of-azure', [item('A hedge.')]],
      [
        '/v1/responses?model=of-the-handshake',
        'of-the-message',
        [{ type: 'response.create', model: 'of-the-message', input: 'A hedge.' }],
      ],
      [
        LIVE,
        'models/of-the-session',
        [{ setup: { model: 'models/of-the-session' } }, { realtimeInput: { text: 'A hedge.' } }],
      ],
    ] as const) {
      const before = fleet.logLines('hedgerow.decision').length;
      const { client, server } = await connect(target, {}, options);
      for (const message of messages) client.send(message);
      await server.untilMessages(messages.length);
      const line = await until(
        'the decision',
        () => fleet.logLines('hedgerow.decision').slice(before)[messages.length - 1],
      );
      await eventually('the decision in the ledger', async () => {
        // Each request makes the isolate send a report, if a report is due.
        await fleet.edge.ask();
        const { decisions } = await admin.getOk(`/decisions?id=${line.request_id}`);
        expect(decisions.map((decision: { model: string }) => decision.model)).toEqual([model]);
      });
      client.socket.terminate();
    }
  });

  it('refuse: 426 in Enforce, on which clients use HTTP', async () => {
    await release({ websocket: 'refuse', mode: 'enforce' });
    for (const target of [REALTIME, '/v1/responses', LIVE]) {
      const { status, body } = await refused(target, {}, fleet.edge.url);
      expect(status).toBe(426);
      expect(JSON.parse(body).error.message).toContain('use HTTP');
    }
    expect(origin.handshakes).toEqual([]);
  });

  it('refuse in Shadow scores, and pass forwards unread', async () => {
    for (const [websocket, decisions] of [
      ['refuse', 1],
      ['pass', 0],
    ] as const) {
      await release({ websocket });
      const before = fleet.logLines('hedgerow.decision').length;
      const { client, server } = await connect(REALTIME, {}, { base: fleet.edge.url });
      client.send(item('lantern red below the quiet hedgerow'));
      await server.untilMessages(1);
      await sleep(300);
      const sockets = fleet
        .logLines('hedgerow.decision')
        .slice(before)
        .filter(({ transport }) => transport === 'websocket');
      expect(sockets).toHaveLength(decisions);
      client.socket.terminate();
    }
  });
});
