// The filter's own endpoints: they never reach the origin, and they say what to do.
import { afterAll, beforeAll, expect, it } from 'vitest';
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

it('health is 200 when nothing is missing', async () => {
  const response = await filter.health();
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toMatch(/^application\/json/);
  expect(await response.json()).toMatchObject({ status: 'ok', problems: [], warnings: [], ruleset: expect.stringMatching(/^[0-9a-f]{12,64}$/), signatures: expect.any(Number), mode: 'shadow' });
});

it('version names the ruleset that health and decisions name', async () => {
  const version = (await (await fetch(`${filter.url}/_hedgerow/version`)).json()) as { version: string; ruleset: string; panic_unwind: boolean };
  const health = (await (await filter.health()).json()) as { ruleset: string; signatures: number };
  expect(version).toEqual({ version: expect.stringMatching(/^\d+\.\d+\.\d+/), ruleset: health.ruleset, release: null, panic_unwind: expect.any(Boolean) });
  expect(health.signatures).toBeGreaterThanOrEqual(48);
  const decision = await filter.decision(await filter.post('/v1/chat/completions', { model: 'm', messages: [] }));
  expect(decision.ruleset).toBe(health.ruleset);
});

it('a missing TAG_SECRET is a warning', async () => {
  const plain = await Filter.start({ origin, vars: { TAG_SECRET: undefined } });
  try {
    const response = await plain.health();
    const { status, warnings } = (await response.json()) as { status: string; warnings: unknown[] };
    expect([response.status, status]).toEqual([200, 'ok']);
    expect(JSON.stringify(warnings)).toContain('TAG_SECRET');
  } finally {
    await plain.dispose();
  }
});

it('in production health says what to do, and nothing about the rules', async () => {
  const production = await Filter.start({ origin, vars: { ENVIRONMENT: undefined, TAG_SECRET: undefined } });
  try {
    const health = (await (await production.health({ 'cf-connecting-ip': '203.0.113.77' })).json()) as { warnings: unknown[] };
    expect(health).toEqual({ status: 'ok', problems: [], warnings: [expect.objectContaining({ message: expect.stringContaining('TAG_SECRET') })] });
  } finally {
    await production.dispose();
  }
});

it('a deployment in development mode is a warning; wrangler dev is none', async () => {
  for (const [address, count] of [['203.0.113.77', 1], ['2001:db8::1', 1], ['127.0.0.1', 0], ['::1', 0]] as const) {
    const response = await filter.health({ 'cf-connecting-ip': address });
    const { warnings } = (await response.json()) as { warnings: { message: string; remedy: string }[] };
    expect(response.status).toBe(200);
    expect(warnings.filter(({ message, remedy }) => message.includes('ENVIRONMENT') && remedy.includes('ENVIRONMENT'))).toHaveLength(count);
    expect(JSON.stringify(warnings)).not.toContain(address);
  }
});

it('the rest of /_hedgerow/ is 404, and none of it reaches the origin', async () => {
  const before = origin.seen.length;
  for (const [method, path] of [['POST', '/_hedgerow/'], ['GET', '/_hedgerow/admin'], ['GET', '/_hedgerow/health/x'], ['POST', '/_hedgerow/chat/completions']] as const) {
    const { status, body } = await send(filter.url, { method, path });
    expect(status).toBe(404);
    expect(JSON.parse(body.toString())).toBeTypeOf('object');
  }
  await send(filter.url, { method: 'HEAD', path: '/_hedgerow/health' });
  expect(origin.seen.length).toBe(before);
  expect(filter.decisions().every(({ operation }) => operation)).toBe(true);
});
