// Fail open: if the filter fails, the client still gets the origin's response, and the operator
// gets a message with a remedy.
import { describe, expect, it, type TestContext } from 'vitest';
import {
  chat,
  enforce,
  type Filter,
  fixture,
  isBuilt,
  Origin,
  sendFixture,
  sha256,
  sleep,
  tagHeaders,
  until,
  useOrigin,
  withFilter,
} from './support.ts';

const origin = useOrigin(Origin.ok);

it('without ACCOUNT_SECRET requests are forwarded unscored, and health names the problem', () =>
  withFilter({ origin, vars: { ACCOUNT_SECRET: undefined } }, async (filter) => {
    const request = fixture('harvest-openai');
    const { status } = await sendFixture(filter, request, { 'x-hedgerow-mode': 'enforce' });
    expect(status).toBe(200);
    expect(origin.last.sha256).toBe(sha256(request.body));
    expect(tagHeaders(origin.last)).toEqual({});
    const health = await filter.health();
    expect(health.status).toBe(503);
    expect(await health.json()).toMatchObject({
      status: 'degraded',
      problems: [
        {
          message: expect.stringContaining('ACCOUNT_SECRET'),
          remedy: expect.stringContaining('wrangler secret put ACCOUNT_SECRET'),
        },
      ],
    });
    await until('the log line of the request', () =>
      filter.logs.some(({ message }) => message.includes('ACCOUNT_SECRET')),
    );
    expect(filter.decisions()).toEqual([]);
  }));

it('without ORIGIN health and all responses are 503 and name the problem', () =>
  withFilter({ vars: { ORIGIN: undefined } }, async (filter) => {
    const health = await filter.health();
    expect(health.status).toBe(503);
    expect(JSON.stringify(((await health.json()) as { problems: unknown }).problems)).toContain(
      'ORIGIN',
    );
    const response = await filter.post('/v1/chat/completions', chat('hello'));
    expect(response.status).toBe(503);
    expect(response.headers.get('x-hedgerow-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect(JSON.stringify(await response.json())).toContain('ORIGIN');
  }));

it('an invalid ORIGIN is reported as 503, not as a crash', () =>
  withFilter({ vars: { ORIGIN: 'not a url' } }, async (filter) => {
    expect((await filter.health()).status).toBe(503);
    expect((await filter.post('/v1/chat/completions', chat('hello'))).status).toBe(503);
    expect((await filter.health()).status).toBe(503);
  }));

it('if the origin is down, requests are 502 and health is 200', () =>
  withFilter({ vars: { ORIGIN: 'http://127.0.0.1:9' } }, async (filter) => {
    const response = await filter.post('/v1/chat/completions', chat('hello'));
    expect(response.status).toBe(502);
    expect((await filter.decision(response)).error).toBeNull();
    expect((await filter.health()).status).toBe(200);
  }));

const hasFaults = isBuilt('build-faults/index.js', 'node scripts/build.mjs faults');
/**
 * Runs a test body with the fault-injection build. Skips the test if panics do not unwind in that
 * build.
 */
const withPanics = (context: TestContext, body: (filter: Filter) => Promise<void>) =>
  withFilter({ origin, build: 'build-faults' }, async (filter) => {
    const { panic_unwind } = await filter.version();
    if (!panic_unwind) context.skip('no --panic-unwind build: needs nightly with rust-src');
    await body(filter);
  });

describe('a panic', () => {
  it.skipIf(!hasFaults)('while scoring affects neither its request nor others', (context) =>
    withPanics(context, async (filter) => {
      // Delays the origin, so that the other requests are still open when some requests panic.
      origin.handler = async (request, res, req) => {
        await sleep(100);
        return Origin.ok(request, res, req);
      };
      const panics = new Set([5, 15, 25, 35]);
      const responses = await Promise.all(
        Array.from({ length: 44 }, (_, i) =>
          filter.post(
            '/v1/chat/completions',
            chat(`Question ${i}.`),
            panics.has(i) ? { 'x-hedgerow-inject-panic': '1' } : {},
          ),
        ),
      );
      expect(responses.map(({ status }) => status)).toEqual(Array(44).fill(200));
      expect(await Promise.all(responses.map((response) => response.json()))).toEqual(
        Array(44).fill({ ok: true }),
      );
      expect(
        origin.requests.map(({ body }) => JSON.parse(body.toString()).messages[0].content).sort(),
      ).toEqual(Array.from({ length: 44 }, (_, i) => `Question ${i}.`).sort());
      for (const [i, response] of responses.entries()) {
        const { error } = await filter.decision(response);
        if (panics.has(i)) expect(error).toEqual(expect.any(String));
        else expect(error).toBeNull();
      }
      expect((await filter.health()).status).toBe(200);
      expect(
        (await filter.decision(await filter.post('/v1/chat/completions', chat('Afterwards.'))))
          .error,
      ).toBeNull();
    }),
  );

  it.skipIf(!hasFaults)('while routing is logged, and the request is forwarded', (context) =>
    withPanics(context, async (filter) => {
      const body = chat('Which way?');
      const response = await filter.post('/v1/chat/completions', body, {
        'x-hedgerow-inject-panic': 'route',
      });
      expect(response.status).toBe(200);
      expect(origin.last.body.toString()).toBe(JSON.stringify(body));
      expect(await filter.decision(response)).toMatchObject({
        error: 'routing panicked',
        score: null,
        operation: 'chat',
        mode: 'shadow',
        account: expect.any(String),
      });
    }),
  );

  it('cannot be injected in the deployed build', () =>
    withFilter({ origin }, async (filter) => {
      const response = await filter.post('/v1/chat/completions', chat('hello'), {
        'x-hedgerow-inject-panic': '1',
      });
      expect((await filter.decision(response)).error).toBeNull();
    }));
});

// The policy of the fault-injection build (tests/fixtures/strict) has `fail_closed`.
describe('fail_closed', () => {
  it.skipIf(!hasFaults)(
    'blocks requests that could not be scored, only in mode enforce',
    (context) =>
      withPanics(context, async (filter) => {
        for (const stage of ['1', 'route']) {
          const blocked = await filter.post('/v1/messages', chat('hello'), {
            'x-hedgerow-inject-panic': stage,
            ...enforce(),
          });
          expect(blocked.status).toBe(503);
          expect(await blocked.json()).toMatchObject({
            type: 'error',
            error: { type: expect.any(String), message: expect.any(String) },
          });
          expect(await filter.decision(blocked)).toMatchObject({
            score: null,
            action: 'block',
            mode: 'enforce',
            error: expect.stringContaining('panicked'),
          });
        }
        expect(origin.requests).toEqual([]);
        expect(
          (await filter.post('/v1/messages', chat('hello'), { 'x-hedgerow-inject-panic': '1' }))
            .status,
        ).toBe(200);
      }),
  );

  it.skipIf(!hasFaults)('blocks requests that should be degraded and cannot be', () =>
    withFilter({ origin, build: 'build-faults' }, async (filter) => {
      const padded = JSON.stringify(chat('hello', { logprobs: true })) + ' '.repeat(8 << 20);
      const broken = '{"messages":[{"role":"user","content":"hello"}],"logprobs":true';
      for (const body of [padded, broken]) {
        const blocked = await filter.post('/v1/chat/completions', body, enforce('degrade'));
        expect(blocked.status).toBe(403);
        expect(await filter.decision(blocked)).toMatchObject({
          action: 'block',
          degraded: 'not_editable',
          error: null,
        });
      }
      expect(origin.requests).toEqual([]);
      expect(
        (
          await filter.post(
            '/v1/chat/completions',
            chat('hello', { logprobs: true }),
            enforce('degrade'),
          )
        ).status,
      ).toBe(200);
      expect(JSON.parse(origin.last.body.toString())).toEqual(chat('hello'));
    }),
  );
});
