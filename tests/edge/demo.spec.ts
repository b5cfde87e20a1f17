// The guide that `npm start` prints: its requests have the outcomes that the guide describes.
import { expect, it } from 'vitest';
import { curl, ENFORCED, guide, ORDINARY, SHADOWED } from '../../scripts/lib/demo.mjs';
import { send, useFilter, useOrigin } from './support.ts';

const origin = useOrigin();
const filter = useFilter({ origin });

const REQUESTS = [ORDINARY, SHADOWED, ENFORCED];

/**
 * Headers that curl adds to each request. The tests send them because signatures can match them.
 */
const CURL = {
  'user-agent': 'curl/8.5.0',
  accept: '*/*',
  'content-type': 'application/x-www-form-urlencoded',
};
const ask = async ({ path, headers, body }: typeof ORDINARY) => {
  const res = await send(filter.url, {
    path,
    headers: { ...CURL, ...headers, 'content-length': String(Buffer.byteLength(body)) },
    body,
  });
  return {
    status: res.status,
    headers: res.headers,
    json: JSON.parse(res.body.toString()),
    decision: await filter.decision(res),
  };
};

it('the guide prints the requests of these tests, quoted for a shell', () => {
  const lines = guide('http://demo.invalid')
    .split('\n')
    .filter((line) => line.startsWith('curl '));
  expect(lines).toEqual(REQUESTS.map((request) => curl('http://demo.invalid', request)));
  for (const [i, { path, headers, body }] of REQUESTS.entries()) {
    // The pattern finds the quoted words. None may contain a single quote, which would end the word
    // in a shell.
    const words = [...lines[i]!.matchAll(/-[Hd] '([^']*)'(?= |$)/g)].map(([, word]) => word);
    expect(words).toEqual([
      ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
      body,
    ]);
    expect(lines[i]!.replace(/ -[Hd] '[^']*'/g, '')).toBe(`curl -i http://demo.invalid${path}`);
  }
});

it('1: an ordinary request is clear, and answered', async () => {
  const { status, headers, json, decision } = await ask(ORDINARY);
  expect([status, headers['x-demo-origin'], json.object]).toEqual([200, '1', 'chat.completion']);
  expect(headers).toMatchObject({ 'x-hedgerow-band': 'clear', 'x-hedgerow-action': 'allow' });
  expect(decision).toMatchObject({ band: 'clear', action: 'allow' });
  expect(origin.last.body.toString()).toBe(ORDINARY.body);
});

it('2: a hostile request is logged in mode shadow, and forwarded unchanged', async () => {
  const { status, headers, json, decision } = await ask(SHADOWED);
  expect([status, headers['x-demo-origin'], json.choices.length]).toEqual([200, '1', 2]);
  expect(decision).toMatchObject({
    band: 'hostile',
    action: 'block',
    mode: 'shadow',
    enforced: false,
  });
  expect(origin.last.body.toString()).toBe(SHADOWED.body);
});

it('3: in mode enforce the request is blocked with an error in OpenAI’s format', async () => {
  const { status, json, decision } = await ask(ENFORCED);
  expect(status).toBe(403);
  expect(json).toEqual({
    error: {
      message: expect.any(String),
      type: expect.any(String),
      param: null,
      code: expect.any(String),
      request_id: expect.any(String),
    },
  });
  expect(decision).toMatchObject({
    band: 'hostile',
    action: 'block',
    mode: 'enforce',
    enforced: true,
  });
  expect(origin.requests).toEqual([]);
});
