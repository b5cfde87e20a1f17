// What `npm start` suggests to try: the guide must not promise what the filter does not do.
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { curl, ENFORCED, guide, ORDINARY, SHADOWED } from '../../scripts/lib/demo.mjs';
import { Filter, Origin, send } from './support.ts';

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
beforeEach(() => origin.reset());

const REQUESTS = [ORDINARY, SHADOWED, ENFORCED];

/** What curl adds by itself belongs to the request: signatures look at it, too. */
const CURL = { 'user-agent': 'curl/8.5.0', accept: '*/*', 'content-type': 'application/x-www-form-urlencoded' };
const ask = async ({ path, headers, body }: typeof ORDINARY) => {
  const res = await send(filter.url, { path, headers: { ...CURL, ...headers, 'content-length': String(Buffer.byteLength(body)) }, body });
  return { status: res.status, headers: res.headers, json: JSON.parse(res.body.toString()), decision: await filter.decision(res) };
};

it('the guide shows what is sent, as a shell takes it', () => {
  const lines = guide('http://demo.invalid').split('\n').filter((line) => line.startsWith('curl '));
  expect(lines).toEqual(REQUESTS.map((request) => curl('http://demo.invalid', request)));
  for (const [i, { path, headers, body }] of REQUESTS.entries()) {
    // A quote within a quoted word would end it.
    const words = [...lines[i]!.matchAll(/-[Hd] '([^']*)'(?= |$)/g)].map(([, word]) => word);
    expect(words).toEqual([...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), body]);
    expect(lines[i]!.replace(/ -[Hd] '[^']*'/g, '')).toBe(`curl -i http://demo.invalid${path}`);
  }
});

it('1: an ordinary question is clear, and answered', async () => {
  const { status, headers, json, decision } = await ask(ORDINARY);
  expect([status, headers['x-demo-origin'], json.object]).toEqual([200, '1', 'chat.completion']);
  expect(headers).toMatchObject({ 'x-hedgerow-band': 'clear', 'x-hedgerow-action': 'allow' });
  expect(decision).toMatchObject({ band: 'clear', action: 'allow' });
  expect(origin.last.body.toString()).toBe(ORDINARY.body);
});

it('2: a hostile one is recorded in Shadow, and forwarded byte by byte', async () => {
  const { status, headers, json, decision } = await ask(SHADOWED);
  expect([status, headers['x-demo-origin'], json.choices.length]).toEqual([200, '1', 2]);
  expect(decision).toMatchObject({ band: 'hostile', action: 'block', mode: 'shadow', enforced: false });
  expect(origin.last.body.toString()).toBe(SHADOWED.body);
});

it('3: in Enforce it is refused as OpenAI refuses, and never reaches the origin', async () => {
  const { status, json, decision } = await ask(ENFORCED);
  expect(status).toBe(403);
  expect(json).toEqual({ error: { message: expect.any(String), type: expect.any(String), param: null, code: expect.any(String) } });
  expect(decision).toMatchObject({ band: 'hostile', action: 'block', mode: 'enforce', enforced: true });
  expect(origin.seen).toEqual([]);
});
