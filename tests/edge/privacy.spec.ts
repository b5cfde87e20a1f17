// Canaries are planted in everything a client can send. None of them may sing: not in the log, the tags, or the answer's headers.
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { enforce, Filter, fixture, Origin, SECRETS, send, sleep, tagsOf } from './support.ts';

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

let planted = 0;
const canaries: string[] = [];
const canary = (where: string) => {
  const bird = `canary${where}${String(++planted).padStart(3, '0')}`;
  canaries.push(bird);
  return bird;
};

const HARVEST = JSON.parse(fixture('harvest-openai').body.toString()).messages[0].content as string;

/** A body of each dialect with canaries in every string; what surrounds them is harvest-like, so that signatures hit. */
function bodies(): [string, object | string][] {
  const text = () => `${canary('prompt')} ${HARVEST} ${canary('prompt')}`;
  const tool = () => ({ type: 'function', function: { name: canary('tool'), description: canary('description'), parameters: { type: 'object', properties: { [canary('property')]: { type: 'string', description: canary('description') } } } } });
  return [
    ['/v1/chat/completions', { model: canary('model'), user: canary('user'), metadata: { [canary('key')]: canary('value') }, messages: [{ role: 'system', content: canary('system') }, { role: 'user', name: canary('name'), content: text() }, { role: 'tool', content: canary('result') }, { role: canary('role'), content: [{ type: 'text', text: text() }] }], tools: [tool()], stop: [canary('stop')], response_format: { type: 'json_schema', json_schema: { name: canary('schema'), schema: { properties: { [canary('property')]: { description: canary('description') } } } } } }],
    ['/v1/messages', { model: canary('model'), system: canary('system'), metadata: { user_id: canary('user') }, messages: [{ role: 'user', content: text() }, { role: 'assistant', content: [{ type: 'thinking', thinking: canary('thought'), signature: canary('signature') }] }] }],
    [`/v1beta/models/${canary('model')}:generateContent?key=${canary('credential')}`, { contents: [{ role: 'user', parts: [{ text: text() }] }] }],
    ['/v1/responses', { model: canary('model'), instructions: canary('system'), input: [{ role: 'user', content: text() }, { type: 'reasoning', encrypted_content: canary('token') }] }],
    ['/v1/completions', { prompt: [text(), canary('prompt')] }],
    ['/v1/embeddings', { input: [canary('prompt')] }],
    ['/v1/chat/completions', `{"messages":[{"role":"user","content":"${canary('broken')}`],
    ['/v1/chat/completions', `${canary('noise')} is no JSON`],
    [`/v1/${canary('path')}/chat/completions?${canary('query')}=${canary('query')}`, { messages: [{ role: 'user', content: text() }] }],
    [`/${canary('path')}`, { note: canary('note') }],
  ];
}

it('no canary sings', async () => {
  const answers: string[] = [];
  for (const extra of [{}, enforce(), enforce('tag'), enforce('degrade'), enforce('throttle'), enforce('block')] as Record<string, string>[]) {
    for (const [path, value] of bodies()) {
      const body = typeof value === 'string' ? value : JSON.stringify(value);
      const { headers, status, body: answer } = await send(filter.url, {
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
      answers.push(Object.entries(headers).filter(([name]) => name.startsWith('x-hedgerow-')).flat().join('\n'));
      if (status === 403 || status === 429) answers.push(answer.toString());
    }
  }
  await sleep(500);
  expect(filter.decisions().length).toBeGreaterThan(40);
  expect(filter.decisions().some(({ hits }) => hits.length)).toBe(true);
  const tags = origin.seen.flatMap((seen) => Object.entries(tagsOf(seen)).flat());
  expect(tags).toContain('x-hedgerow-hits');
  const heard = { log: filter.logs.map(({ message }) => message).join('\n'), tags: tags.join('\n'), answers: answers.join('\n') };
  for (const [where, text] of Object.entries(heard)) {
    const sung = canaries.filter((bird) => text.includes(bird));
    expect(sung, where).toEqual([]);
    for (const secret of ['203.0.113.77', ...Object.values(SECRETS), HARVEST.slice(0, 40)]) expect(text, where).not.toContain(secret);
  }
});

it('an account is a keyed hash: stable, and useless without the secret', async () => {
  const key = 'sk-test-account-of-one';
  const account = async (from: Filter, credential: string) => (await from.decision(await from.post('/v1/chat/completions', { messages: [] }, { authorization: `Bearer ${credential}` }))).account;
  const [first, again, other] = [await account(filter, key), await account(filter, key), await account(filter, `${key}-2`)];
  expect(again).toBe(first);
  expect(other).not.toBe(first);
  for (const algorithm of ['md5', 'sha1', 'sha256', 'sha512']) {
    for (const text of [key, `Bearer ${key}`]) expect(createHash(algorithm).update(text).digest('hex')).not.toContain(first.replace(/^\w+_/, ''));
  }
  const elsewhere = await Filter.start({ origin, vars: { ACCOUNT_SECRET: 'another deployment' } });
  try {
    expect(await account(elsewhere, key)).not.toBe(first);
  } finally {
    await elsewhere.dispose();
  }
});

it('an account is not changed by junk in headers that the origin does not heed', async () => {
  const key = 'sk-test-account-of-one';
  const CASES: [path: string, own: Record<string, string>, junk: string[]][] = [
    ['/v1/messages', { 'x-api-key': key }, ['authorization', 'api-key', 'x-goog-api-key']],
    ['/v1/messages', { authorization: `Bearer ${key}` }, ['api-key', 'x-goog-api-key']],
    ['/v1beta/models/m:generateContent', { 'x-goog-api-key': key }, ['authorization', 'x-api-key', 'api-key']],
    [`/v1beta/models/m:generateContent?key=${key}`, {}, ['authorization', 'x-api-key', 'api-key']],
    ['/v1/chat/completions', { authorization: `Bearer ${key}` }, ['x-api-key', 'api-key', 'x-goog-api-key']],
    ['/v1/chat/completions?key=junk', { 'api-key': key }, ['x-api-key', 'x-goog-api-key']],
  ];
  const accounts = new Set<string>();
  for (const [path, own, junk] of CASES) {
    for (const extra of [{}, ...junk.map((name) => ({ [name]: `junk-${name}` }))]) {
      accounts.add((await filter.decision(await send(filter.url, { path, body: '{}', headers: { ...own, ...extra } }))).account);
    }
  }
  expect([...accounts]).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/)]);
});
