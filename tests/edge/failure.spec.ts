// Fail open: when the filter cannot do its work, the client still gets the origin's answer, and the operator is told.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { chat, enforce, Filter, fixture, Origin, ROOT, sendFixture, sha256, sleep, tagsOf } from './support.ts';

let origin: Origin;
beforeAll(async () => {
  origin = await Origin.start();
});
afterAll(() => origin?.close());
beforeEach(() => {
  origin.reset();
  origin.answer = Origin.ok;
});

async function using<T>(options: Parameters<typeof Filter.start>[0], body: (filter: Filter) => Promise<T>): Promise<T> {
  const filter = await Filter.start({ origin, ...options });
  try {
    return await body(filter);
  } finally {
    await filter.dispose();
  }
}

it('without ACCOUNT_SECRET requests are forwarded unscored, and health says so', () =>
  using({ vars: { ACCOUNT_SECRET: undefined } }, async (filter) => {
    const request = fixture('harvest-openai');
    const { status } = await sendFixture(filter, request, { 'x-hedgerow-mode': 'enforce' });
    expect(status).toBe(200);
    expect(origin.last.sha256).toBe(sha256(request.body));
    expect(tagsOf(origin.last)).toEqual({});
    const health = await filter.health();
    expect(health.status).toBe(503);
    expect(await health.json()).toMatchObject({ status: 'degraded', problems: [{ message: expect.stringContaining('ACCOUNT_SECRET'), remedy: expect.stringContaining('wrangler secret put ACCOUNT_SECRET') }] });
    await sleep(100);
    expect(filter.decisions()).toEqual([]);
  }));

it('without ORIGIN health is 503 and names the remedy; so does every answer', () =>
  using({ vars: { ORIGIN: undefined } }, async (filter) => {
    const health = await filter.health();
    expect(health.status).toBe(503);
    expect(JSON.stringify(((await health.json()) as { problems: unknown }).problems)).toContain('ORIGIN');
    const answer = await filter.post('/v1/chat/completions', chat('hello'));
    expect(answer.status).toBe(503);
    expect(answer.headers.get('x-hedgerow-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect(JSON.stringify(await answer.json())).toContain('ORIGIN');
  }));

it('an ORIGIN that is no URL is a problem, not a crash', () =>
  using({ vars: { ORIGIN: 'not a url' } }, async (filter) => {
    expect((await filter.health()).status).toBe(503);
    expect((await filter.post('/v1/chat/completions', chat('hello'))).status).toBe(503);
    expect((await filter.health()).status).toBe(503);
  }));

it('an origin that is down is told apart from a filter that is down', () =>
  using({ vars: { ORIGIN: 'http://127.0.0.1:9' } }, async (filter) => {
    const answer = await filter.post('/v1/chat/completions', chat('hello'));
    expect(answer.status).toBe(502);
    expect((await filter.decision(answer)).error).toBeNull();
    expect((await filter.health()).status).toBe(200);
  }));

const built = existsSync(path.join(ROOT, 'build-faults/index.js'));
if (!built) console.log('skipped: build-faults/ does not exist (`node scripts/build.mjs faults`)');

describe('a panic while scoring', () => {

  it.skipIf(!built)('costs neither the client its answer nor a neighbour anything', (context) =>
    using({ build: 'build-faults' }, async (filter) => {
      const version = (await (await fetch(`${filter.url}/_hedgerow/version`)).json()) as { panic_unwind: boolean };
      if (!version.panic_unwind) context.skip('no --panic-unwind build: needs nightly with rust-src');
      // Neighbours are in flight, waiting for the origin, while every fourth request panics.
      origin.answer = async (seen, res, req) => {
        await sleep(100);
        return Origin.ok(seen, res, req);
      };
      const panics = new Set([5, 15, 25, 35]);
      const answers = await Promise.all(Array.from({ length: 44 }, (_, i) => filter.post('/v1/chat/completions', chat(`Question ${i}.`), panics.has(i) ? { 'x-hedgerow-inject-panic': '1' } : {})));
      expect(answers.map(({ status }) => status)).toEqual(Array(44).fill(200));
      expect(await Promise.all(answers.map((answer) => answer.json()))).toEqual(Array(44).fill({ ok: true }));
      expect(origin.seen.map(({ body }) => JSON.parse(body.toString()).messages[0].content).sort()).toEqual(Array.from({ length: 44 }, (_, i) => `Question ${i}.`).sort());
      for (const [i, answer] of answers.entries()) {
        const { error } = await filter.decision(answer);
        if (panics.has(i)) expect(error).toEqual(expect.any(String));
        else expect(error).toBeNull();
      }
      const health = await filter.health();
      expect(health.status).toBe(200);
      expect((await filter.decision(await filter.post('/v1/chat/completions', chat('Afterwards.')))).error).toBeNull();
    }));

  it.skipIf(!built)('in routing is no way past the log', (context) =>
    using({ build: 'build-faults' }, async (filter) => {
      const { panic_unwind } = (await (await fetch(`${filter.url}/_hedgerow/version`)).json()) as { panic_unwind: boolean };
      if (!panic_unwind) context.skip('no --panic-unwind build: needs nightly with rust-src');
      const body = chat('Which way?');
      const answer = await filter.post('/v1/chat/completions', body, { 'x-hedgerow-inject-panic': 'route' });
      expect(answer.status).toBe(200);
      expect(origin.last.body.toString()).toBe(JSON.stringify(body));
      expect(await filter.decision(answer)).toMatchObject({ error: 'routing panicked', score: null, operation: 'chat', mode: 'shadow', account: expect.any(String) });
    }));

  it('cannot be planted from outside in the build that is deployed', () =>
    using({}, async (filter) => {
      const answer = await filter.post('/v1/chat/completions', chat('hello'), { 'x-hedgerow-inject-panic': '1' });
      expect((await filter.decision(answer)).error).toBeNull();
    }));
});

// The fault-injection build has a policy of its own (tests/fixtures/strict): `fail_closed`.
describe('fail_closed', () => {
  it.skipIf(!built)('refuses what could not be scored, in Enforce only', (context) =>
    using({ build: 'build-faults' }, async (filter) => {
      const { panic_unwind } = (await (await fetch(`${filter.url}/_hedgerow/version`)).json()) as { panic_unwind: boolean };
      if (!panic_unwind) context.skip('no --panic-unwind build: needs nightly with rust-src');
      for (const place of ['1', 'route']) {
        const refused = await filter.post('/v1/messages', chat('hello'), { 'x-hedgerow-inject-panic': place, ...enforce() });
        expect(refused.status).toBe(503);
        expect(await refused.json()).toMatchObject({ type: 'error', error: { type: expect.any(String), message: expect.any(String) } });
        expect(await filter.decision(refused)).toMatchObject({ score: null, action: 'block', mode: 'enforce', error: expect.stringContaining('panicked') });
      }
      expect(origin.seen).toEqual([]);
      expect((await filter.post('/v1/messages', chat('hello'), { 'x-hedgerow-inject-panic': '1' })).status).toBe(200);
    }));

  it.skipIf(!built)('refuses what should be degraded and cannot be', () =>
    using({ build: 'build-faults' }, async (filter) => {
      const padded = JSON.stringify(chat('hello', { logprobs: true })) + ' '.repeat(3 << 20);
      const broken = '{"messages":[{"role":"user","content":"hello"}],"logprobs":true';
      for (const body of [padded, broken]) {
        const refused = await filter.post('/v1/chat/completions', body, enforce('degrade'));
        expect(refused.status).toBe(403);
        expect(await filter.decision(refused)).toMatchObject({ action: 'block', degraded: 'not_editable', error: null });
      }
      expect(origin.seen).toEqual([]);
      expect((await filter.post('/v1/chat/completions', chat('hello', { logprobs: true }), enforce('degrade'))).status).toBe(200);
      expect(JSON.parse(origin.last.body.toString())).toEqual(chat('hello'));
    }));
});
