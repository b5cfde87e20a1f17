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
  const version = (await (await fetch(`${filter.url}/_hedgerow/version`)).json()) as { version: string; ruleset: string; signatures: number; panic_unwind: boolean };
  const health = (await (await filter.health()).json()) as { ruleset: string; signatures: number };
  expect(version).toMatchObject({ version: expect.stringMatching(/^\d+\.\d+\.\d+/), ruleset: health.ruleset, signatures: health.signatures, panic_unwind: expect.any(Boolean) });
  expect(version.signatures).toBeGreaterThanOrEqual(48);
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

it('the rest of /_hedgerow/ is 404, and none of it reaches the origin', async () => {
  const before = origin.seen.length;
  for (const [method, path] of [['GET', '/_hedgerow/'], ['GET', '/_hedgerow/admin'], ['GET', '/_hedgerow/health/x'], ['POST', '/_hedgerow/chat/completions']] as const) {
    const { status, body } = await send(filter.url, { method, path });
    expect(status).toBe(404);
    expect(JSON.parse(body.toString())).toBeTypeOf('object');
  }
  await send(filter.url, { method: 'HEAD', path: '/_hedgerow/health' });
  expect(origin.seen.length).toBe(before);
  expect(filter.decisions().every(({ operation }) => operation)).toBe(true);
});
