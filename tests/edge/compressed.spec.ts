// Compressed requests: zstd requests as a coding agent sends them, malformed requests, and requests
// that exceed the limit after decompression.
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import {
  type DecisionLine,
  fixture,
  Origin,
  type RawResponse,
  send,
  sha256,
  useFilter,
  useOrigin,
} from './support.ts';

/** A prompt that the shipped rules find hostile. */
const HARVEST: string = JSON.parse(fixture('harvest-openai').body.toString()).messages[0].content;
const BENIGN_PROMPT = 'Rename the function `sow` to `plant`, and run the tests.';

const origin = useOrigin(Origin.ok);
const filter = useFilter({ origin });

/** A request in the shape that the Codex command line sends. */
const codex = (prompt: string) =>
  Buffer.from(
    JSON.stringify({
      model: 'demo-codex',
      instructions: 'You are a coding agent in a terminal. Work in the current directory.',
      input: [
        message('user', '<environment_context><cwd>/home/ada/hedge</cwd></environment_context>'),
        message('user', prompt),
      ],
      tools: [
        {
          type: 'function',
          name: 'shell',
          description: 'Runs a command.',
          strict: false,
          parameters: {
            type: 'object',
            properties: { command: { type: 'array', items: { type: 'string' } } },
            required: ['command'],
          },
        },
      ],
      tool_choice: 'auto',
      parallel_tool_calls: false,
      reasoning: { effort: 'medium', summary: 'auto' },
      store: false,
      stream: true,
      include: ['reasoning.encrypted_content'],
      prompt_cache_key: '0f8fad5b-d9cb-469f-a165-70867728950e',
    }),
  );
const message = (role: string, text: string) => ({
  type: 'message',
  role,
  content: [{ type: 'input_text', text }],
});

const post = (body: Uint8Array, encoding: string, mode: string): Promise<RawResponse> =>
  send(filter.url, {
    path: '/v1/responses',
    headers: {
      'content-type': 'application/json',
      'content-encoding': encoding,
      'content-length': String(body.length),
      accept: 'text/event-stream',
      // Each body has its own account, because evidence from earlier requests of an account raises
      // later scores.
      authorization: `Bearer sk-test-${sha256(body).slice(0, 8)}`,
      originator: 'codex_cli_rs',
      'openai-beta': 'responses=experimental',
      session_id: '0f8fad5b-d9cb-469f-a165-70867728950e',
      'user-agent': 'codex_cli_rs/0.60.1 (Ubuntu 24.4.0; x86_64) xterm-256color',
      'x-hedgerow-mode': mode,
    },
    body,
  });

const zstd = (bytes: Uint8Array) => zstdCompressSync(bytes);

describe('a request in zstd', () => {
  it('is scored, and the origin gets its bytes', async () => {
    for (const [prompt, band] of [
      [BENIGN_PROMPT, 'clear'],
      [HARVEST, 'hostile'],
    ] as const) {
      const body = zstd(codex(prompt));
      const response = await post(body, 'zstd', 'shadow');
      expect([prompt, response.status]).toEqual([prompt, 200]);
      expect(origin.last).toMatchObject({ bytes: body.length, sha256: sha256(body) });
      expect(origin.last.headers['content-encoding']).toBe('zstd');
      const decision: DecisionLine = await filter.decision(response);
      expect(decision).toMatchObject({ dialect: 'openai', band, unscored: [], unreadable: [] });
    }
  });

  it('is refused in Enforce if it harvests', async () => {
    const [honest, hostile] = [zstd(codex(BENIGN_PROMPT)), zstd(codex(HARVEST))];
    expect((await post(honest, 'zstd', 'enforce')).status).toBe(200);
    expect(origin.last.sha256).toBe(sha256(honest));
    expect(origin.last.headers).not.toHaveProperty('x-hedgerow-band');
    expect((await post(hostile, 'zstd', 'enforce')).status).toBe(403);
    expect(origin.requests).toHaveLength(1);
  });

  it('is scored in two frames, with a skippable frame between them', async () => {
    const json = codex(HARVEST);
    const skippable = Buffer.from([0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    const body = Buffer.concat([zstd(json.subarray(0, 300)), skippable, zstd(json.subarray(300))]);
    const response = await post(body, 'zstd', 'shadow');
    expect(await filter.decision(response)).toMatchObject({ band: 'hostile', unscored: [] });
    expect(origin.last.sha256).toBe(sha256(body));
  });

  it('is refused in Enforce if it is malformed, and passes unchanged in Shadow', async () => {
    const whole = zstd(codex(HARVEST));
    const damaged = Buffer.from(whole);
    damaged.fill(0xff, whole.length / 2, whole.length / 2 + 40);
    const broken: [string, Buffer][] = [
      ['cut', whole.subarray(0, whole.length - 30)],
      ['damaged', damaged],
      ['garbage after the frame', Buffer.concat([whole, Buffer.from('garbage')])],
    ];
    for (const [name, body] of broken) {
      // 403 if the readable part was already hostile, 415 if the body could not be decoded to its
      // end.
      expect([403, 415], name).toContain((await post(body, 'zstd', 'enforce')).status);
      expect(origin.requests, name).toEqual([]);
      const response = await post(body, 'zstd', 'shadow');
      expect([name, response.status, origin.last.sha256]).toEqual([name, 200, sha256(body)]);
      expect((await filter.decision(response)).unscored, name).toContain('encoding');
      origin.requests.length = 0;
    }
  });

  it('is scored under a wrong label, and refused in Enforce', async () => {
    const body = zstd(codex(HARVEST));
    for (const label of ['gzip', 'br', 'deflate', 'identity', 'x-unknown']) {
      const response = await post(body, label, 'shadow');
      const decision = await filter.decision(response);
      expect([label, decision.band, decision.unscored]).toEqual([label, 'hostile', ['encoding']]);
      expect(origin.last.sha256, label).toBe(sha256(body));
      expect([403, 415], label).toContain((await post(body, label, 'enforce')).status);
    }
  });
});

describe('of a request that is longer than its limit when decompressed', () => {
  const words = Array.from({ length: 900_000 }, (_, at) => (at % 997).toString(36)).join(' ');
  const long = (first: string, last: string) => {
    const messages = [message('user', first), message('assistant', words), message('user', last)];
    return Buffer.from(JSON.stringify({ model: 'demo-codex', input: messages, stream: true }));
  };
  const FAST = { [constants.BROTLI_PARAM_QUALITY]: 4 };
  const CODINGS: [string, (bytes: Uint8Array) => Buffer][] = [
    ['gzip', (bytes) => gzipSync(bytes)],
    ['zstd', zstd],
    ['br', (bytes) => brotliCompressSync(bytes, { params: FAST })],
  ];
  for (const [coding, compress] of CODINGS) {
    it(`the beginning and the end are scored: ${coding}`, async () => {
      const rows: [string, Buffer, number, string][] = [
        ['neither is hostile', long(BENIGN_PROMPT, BENIGN_PROMPT), 200, 'clear'],
        ['the beginning is', long(HARVEST, BENIGN_PROMPT), 403, 'hostile'],
        ['the end is', long(BENIGN_PROMPT, HARVEST), 403, 'hostile'],
      ];
      for (const [name, json, status, band] of rows) {
        const body = compress(json);
        const response = await post(body, coding, 'enforce');
        const decision = await filter.decision(response);
        expect([name, response.status, decision.band, decision.unscored]).toEqual([
          name,
          status,
          band,
          ['window'],
        ]);
      }
      expect(origin.requests.map(({ sha256 }) => sha256)).toEqual([
        sha256(compress(long(BENIGN_PROMPT, BENIGN_PROMPT))),
      ]);
    });
  }

  it('a bomb is still refused', async () => {
    const bomb = gzipSync(`{"input":"${' '.repeat(64 << 20)}"}`);
    const response = await post(bomb, 'gzip', 'enforce');
    expect(response.status).toBe(415);
    expect((await filter.decision(response)).unscored).toContain('encoding');
    expect(origin.requests).toEqual([]);
  });
});
