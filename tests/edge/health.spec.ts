// The endpoints `health` and `version`: their requests never reach the origin, and each reported
// problem has a remedy.
import { expect, it } from 'vitest';
import { send, useFilter, useOrigin, withFilter } from './support.ts';

const origin = useOrigin();
const filter = useFilter({ origin });

it('health is 200 if the configuration is complete', async () => {
  const response = await filter.health();
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toMatch(/^application\/json/);
  expect(await response.json()).toMatchObject({
    status: 'ok',
    problems: [],
    warnings: [],
    ruleset: expect.stringMatching(/^[0-9a-f]{12,64}$/),
    signatures: expect.any(Number),
    mode: 'shadow',
  });
});

it('version, health and decisions name the same ruleset', async () => {
  const version = await filter.version();
  const health = (await (await filter.health()).json()) as { ruleset: string; signatures: number };
  expect(version).toEqual({
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    ruleset: health.ruleset,
    release: null,
    panic_unwind: expect.any(Boolean),
    console_host: 'local',
  });
  expect(health.signatures).toBeGreaterThanOrEqual(48);
  const decision = await filter.decision(
    await filter.post('/v1/chat/completions', { model: 'm', messages: [] }),
  );
  expect(decision.ruleset).toBe(health.ruleset);
});

it('a missing TAG_SECRET is a warning', () =>
  withFilter({ origin, vars: { TAG_SECRET: undefined } }, async (filter) => {
    const response = await filter.health();
    const { status, warnings } = (await response.json()) as { status: string; warnings: unknown[] };
    expect([response.status, status]).toEqual([200, 'ok']);
    expect(JSON.stringify(warnings)).toContain('TAG_SECRET');
  }));

it('secrets of less than 32 characters count as not set, and health says so', async () => {
  const vars = { ACCOUNT_SECRET: 'a'.repeat(31), TAG_SECRET: 't'.repeat(31) };
  await withFilter({ origin, vars }, async (filter) => {
    const response = await filter.health();
    expect(response.status).toBe(503);
    const { problems, warnings } = await response.json();
    for (const [list, name] of [
      [problems, 'ACCOUNT_SECRET'],
      [warnings, 'TAG_SECRET'],
    ] as const) {
      expect(list).toEqual([
        {
          message: expect.stringContaining(`${name} is too short: expected at least 32 characters`),
          remedy: expect.stringContaining(`wrangler secret put ${name}`),
        },
      ]);
    }
    expect((await filter.ask()).status).toBe(200);
    expect(filter.decisions()).toEqual([]);
  });
  const enough = { ACCOUNT_SECRET: 'a'.repeat(32), TAG_SECRET: 't'.repeat(32) };
  await withFilter({ origin, vars: enough }, async (filter) =>
    expect((await filter.health()).status).toBe(200),
  );
});

it('a setting that is not a valid number is a warning, and its default is used', () =>
  withFilter({ origin, vars: { MIN_SERIAL: 'ten', LEDGER_SHARDS: '99' } }, async (filter) => {
    const response = await filter.health();
    const { warnings } = (await response.json()) as { warnings: unknown[] };
    expect(response.status).toBe(200);
    expect(warnings).toEqual(
      ['LEDGER_SHARDS', 'MIN_SERIAL'].map((name) => ({
        message: expect.stringContaining(`${name} is invalid: expected a whole number`),
        remedy: expect.stringContaining(name),
      })),
    );
    expect(JSON.stringify(warnings)).not.toMatch(/ten|99/);
  }));

it('in production health has problems and warnings, and nothing about the rules', () =>
  withFilter(
    { origin, vars: { ENVIRONMENT: undefined, TAG_SECRET: undefined } },
    async (filter) => {
      const health = await (await filter.health({ 'cf-connecting-ip': '203.0.113.77' })).json();
      expect(health).toEqual({
        status: 'ok',
        problems: [],
        warnings: [expect.objectContaining({ message: expect.stringContaining('TAG_SECRET') })],
        memory_bytes: expect.any(Number),
      });
    },
  ));

it('development mode in a deployment is a warning, but not in wrangler dev', async () => {
  for (const [address, count] of [
    ['203.0.113.77', 1],
    ['2001:db8::1', 1],
    ['127.0.0.1', 0],
    ['::1', 0],
  ] as const) {
    const response = await filter.health({ 'cf-connecting-ip': address });
    const { warnings } = (await response.json()) as {
      warnings: { message: string; remedy: string }[];
    };
    expect(response.status).toBe(200);
    expect(
      warnings.filter(
        ({ message, remedy }) => message.includes('ENVIRONMENT') && remedy.includes('ENVIRONMENT'),
      ),
    ).toHaveLength(count);
    expect(JSON.stringify(warnings)).not.toContain(address);
  }
});

it('other paths below /_hedgerow/ are 404, and do not reach the origin', async () => {
  for (const [method, path] of [
    ['POST', '/_hedgerow/'],
    ['GET', '/_hedgerow/admin'],
    ['GET', '/_hedgerow/health/x'],
    ['POST', '/_hedgerow/chat/completions'],
  ] as const) {
    const { status, body } = await send(filter.url, { method, path });
    expect(status).toBe(404);
    expect(JSON.parse(body.toString())).toBeTypeOf('object');
  }
  await send(filter.url, { method: 'HEAD', path: '/_hedgerow/health' });
  expect(origin.requests).toEqual([]);
  expect(filter.decisions().every(({ operation }) => operation)).toBe(true);
});
