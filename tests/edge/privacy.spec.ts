// Puts unique strings (canaries) into everything that a client can send. No canary may occur in the
// log, the tags, or the headers and errors of responses.
import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import {
  enforce,
  expectNoLeak,
  type Filter,
  fixture,
  SECRETS,
  send,
  tagHeaders,
  until,
  useFilter,
  useOrigin,
  withFilter,
} from './support.ts';

const origin = useOrigin();
const filter = useFilter({ origin });

const canaries: string[] = [];
/** Returns a new unique string for a kind of content. */
const canary = (kind: string) => {
  const text = `canary${kind}${String(canaries.length + 1).padStart(3, '0')}`;
  canaries.push(text);
  return text;
};

const HARVEST = JSON.parse(fixture('harvest-openai').body.toString()).messages[0].content as string;

/**
 * Returns paths and bodies of all dialects. Every string has canaries, which surround text that
 * signatures match.
 */
function bodies(): [string, object | string][] {
  const text = () => `${canary('prompt')} ${HARVEST} ${canary('prompt')}`;
  const tool = () => ({
    type: 'function',
    function: {
      name: canary('tool'),
      description: canary('description'),
      parameters: {
        type: 'object',
        properties: {
          [canary('property')]: { type: 'string', description: canary('description') },
        },
      },
    },
  });
  return [
    [
      '/v1/chat/completions',
      {
        model: canary('model'),
        user: canary('user'),
        metadata: { [canary('key')]: canary('value') },
        messages: [
          { role: 'system', content: canary('system') },
          { role: 'user', name: canary('name'), content: text() },
          { role: 'tool', content: canary('result') },
          { role: canary('role'), content: [{ type: 'text', text: text() }] },
        ],
        tools: [tool()],
        stop: [canary('stop')],
        response_format: {
          type: 'json_schema',
          json_schema: {
            name: canary('schema'),
            schema: {
              properties: { [canary('property')]: { description: canary('description') } },
            },
          },
        },
      },
    ],
    [
      '/v1/messages',
      {
        model: canary('model'),
        system: canary('system'),
        metadata: { user_id: canary('user') },
        messages: [
          { role: 'user', content: text() },
          {
            role: 'assistant',
            content: [
              { type: 'thinking', thinking: canary('thought'), signature: canary('signature') },
            ],
          },
        ],
      },
    ],
    [
      `/v1beta/models/${canary('model')}:generateContent?key=${canary('credential')}`,
      { contents: [{ role: 'user', parts: [{ text: text() }] }] },
    ],
    [
      '/v1/responses',
      {
        model: canary('model'),
        instructions: canary('system'),
        input: [
          { role: 'user', content: text() },
          { type: 'reasoning', encrypted_content: canary('token') },
        ],
      },
    ],
    ['/v1/completions', { prompt: [text(), canary('prompt')] }],
    ['/v1/embeddings', { input: [canary('prompt')] }],
    ['/v1/chat/completions', `{"messages":[{"role":"user","content":"${canary('broken')}`],
    ['/v1/chat/completions', `${canary('noise')} is not JSON`],
    [
      `/v1/${canary('path')}/chat/completions?${canary('query')}=${canary('query')}`,
      { messages: [{ role: 'user', content: text() }] },
    ],
    [`/${canary('path')}`, { note: canary('note') }],
  ];
}

it('no canary leaks', async () => {
  const responses: string[] = [];
  for (const extra of [
    {},
    enforce(),
    enforce('tag'),
    enforce('degrade'),
    enforce('throttle'),
    enforce('block'),
  ] as Record<string, string>[]) {
    for (const [path, value] of bodies()) {
      const body = typeof value === 'string' ? value : JSON.stringify(value);
      const response = await send(filter.url, {
        path,
        body,
        headers: {
          'content-type': 'application/json',
          'content-length': String(Buffer.byteLength(body)),
          authorization: `Bearer ${canary('credential')}`,
          'x-api-key': canary('credential'),
          'user-agent': canary('agent'),
          'x-forwarded-for': '203.0.113.77',
          'cf-connecting-ip': '203.0.113.77',
          cookie: `session=${canary('cookie')}`,
          [canary('header')]: canary('header'),
          'x-stainless-lang': canary('sdk'),
          ...extra,
        },
      });
      responses.push(
        Object.entries(response.headers)
          .filter(([name]) => name.startsWith('x-hedgerow-'))
          .flat()
          .join('\n'),
      );
      if (response.status === 403 || response.status === 429)
        responses.push(response.body.toString());
    }
  }
  // Waits for the log line of a later request. All other lines are logged before it.
  await filter.decision(await filter.ask());
  await until('the decisions', () => filter.decisions().length > 40);
  expect(filter.decisions().some(({ hits }) => hits.length)).toBe(true);
  const tags = origin.requests.flatMap((request) => Object.entries(tagHeaders(request)).flat());
  expect(tags).toContain('x-hedgerow-hits');
  const texts = {
    log: filter.logs.map(({ message }) => message).join('\n'),
    tags: tags.join('\n'),
    responses: responses.join('\n'),
  };
  expectNoLeak(texts, [
    ...canaries,
    '203.0.113.77',
    ...Object.values(SECRETS),
    HARVEST.slice(0, 40),
  ]);
});

it('an account is a keyed hash of the credential', async () => {
  const key = 'sk-test-account-of-one';
  const account = async (filter: Filter, credential: string) =>
    (
      await filter.decision(
        await filter.post(
          '/v1/chat/completions',
          { messages: [] },
          { authorization: `Bearer ${credential}` },
        ),
      )
    ).account;
  const [first, again, other] = [
    await account(filter, key),
    await account(filter, key),
    await account(filter, `${key}-2`),
  ];
  expect(again).toBe(first);
  expect(other).not.toBe(first);
  for (const algorithm of ['md5', 'sha1', 'sha256', 'sha512']) {
    for (const text of [key, `Bearer ${key}`])
      expect(createHash(algorithm).update(text).digest('hex')).not.toContain(
        first.replace(/^\w+_/, ''),
      );
  }
  const vars = { ACCOUNT_SECRET: 'account-secret-of-another-deployment' };
  await withFilter({ origin, vars }, async (other) =>
    expect(await account(other, key)).not.toBe(first),
  );
});

it('a credential with control bytes does not count, and is logged as malformed', async () => {
  const path = '/v1beta/models/m:generateContent';
  const body = { contents: [{ parts: [{ text: 'When do blackbirds nest?' }] }] };
  for (const [query, headers] of [
    ['?key=key%00indicators.v1', {}],
    ['?key=sk-1%0a', { 'api-key': 'sk-another' }],
    ['', { 'x-goog-api-key': 'sk\t1' }],
  ] as [string, Record<string, string>][]) {
    const response = await fetch(`${filter.url}${path}${query}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
    expect(response.status).toBe(200);
    expect(await filter.decision(response)).toMatchObject({
      account: null,
      credential: 'malformed',
      error: null,
    });
  }
});

it('an account does not depend on headers that the origin ignores', async () => {
  const key = 'sk-test-account-of-one';
  const CASES: [path: string, credential: Record<string, string>, ignored: string[]][] = [
    ['/v1/messages', { 'x-api-key': key }, ['authorization', 'api-key', 'x-goog-api-key']],
    ['/v1/messages', { authorization: `Bearer ${key}` }, ['api-key', 'x-goog-api-key']],
    [
      '/v1beta/models/m:generateContent',
      { 'x-goog-api-key': key },
      ['authorization', 'x-api-key', 'api-key'],
    ],
    [`/v1beta/models/m:generateContent?key=${key}`, {}, ['authorization', 'x-api-key', 'api-key']],
    [
      '/v1/chat/completions',
      { authorization: `Bearer ${key}` },
      ['x-api-key', 'api-key', 'x-goog-api-key'],
    ],
    ['/v1/chat/completions?key=junk', { 'api-key': key }, ['x-api-key', 'x-goog-api-key']],
  ];
  const accounts = new Set<string>();
  for (const [path, credential, ignored] of CASES) {
    for (const extra of [{}, ...ignored.map((name) => ({ [name]: `junk-${name}` }))]) {
      accounts.add(
        (
          await filter.decision(
            await send(filter.url, { path, body: '{}', headers: { ...credential, ...extra } }),
          )
        ).account,
      );
    }
  }
  expect([...accounts]).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/)]);
});
